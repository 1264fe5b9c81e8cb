//! Drawing tokens from logits: what a model is asked for, and how the processor does it where the model has no way of
//! its own.
//!
//! [`sampler`] turns one row of logits and a mask into a token; [`random`] gives each draw its own place in a
//! counter-based stream. Whoever draws draws the same: a token is a function of its row and of what [`ToDraw`] says.

pub mod random;
pub mod sampler;

use std::sync::Mutex;

use rayon::prelude::*;

pub use random::StreamKey;
pub use sampler::{Context, Draw, Repetition, Sampler, Sampling, landing_tokens};

use super::Logits;
use crate::error::Result;

/// One token to be drawn.
#[derive(Clone, Copy, Debug)]
pub struct ToDraw<'a> {
    /// The row of logits that it is drawn from.
    pub row: usize,
    /// What the text so far says of it.
    pub context: Context<'a>,
    /// How it is drawn.
    pub sampling: &'a Sampling,
    /// The stream that the draw comes from.
    pub key: StreamKey,
    /// Which draw of the stream it is.
    pub index: u32,
}

/// Samplers on the processor, one for each thread that draws.
#[derive(Debug)]
pub struct Samplers(Vec<Mutex<Sampler>>);

impl Default for Samplers {
    /// As many as rayon has threads, and one for whoever calls it from outside of them.
    fn default() -> Self {
        Self((0..=rayon::current_num_threads()).map(|_| Mutex::default()).collect())
    }
}

impl Samplers {
    /// Draws each of `wanted` from its row of `logits`; `None` where the mask lets nothing through.
    ///
    /// # Errors
    /// When the logits lie on a device that fails.
    pub fn draw(&self, logits: &Logits, wanted: &[ToDraw]) -> Result<Vec<Option<Draw>>> {
        let (values, width) = (logits.values()?, logits.width());
        let draw = |wanted: &ToDraw| {
            let thread = rayon::current_thread_index().map_or(0, |thread| thread + 1);
            let mut sampler = self.0[thread].lock().expect("a sampler's thread locks it alone");
            let row = &values[wanted.row * width..(wanted.row + 1) * width];
            sampler.draw(row, wanted.context, wanted.sampling, wanted.key, wanted.index)
        };
        // One row is not worth waking other threads.
        Ok(if wanted.len() == 1 { wanted.iter().map(draw).collect() } else { wanted.par_iter().map(draw).collect() })
    }
}
