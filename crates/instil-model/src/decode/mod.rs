//! Decoding: [`Request`]s go in, [`Completion`]s come out, batched over one model.
//!
//! [`scheduler`] keeps a batch full and mixes prompts with rows; `drawing` is one text on its way, `thought` what a model
//! thinks before it, and [`measure`] one measurement. How a token is drawn from logits and a mask is in [`crate::model::draw`].

mod drawing;
pub(crate) mod measure;
pub(crate) mod scheduler;
mod thought;

use std::sync::Arc;

pub use measure::Measure;
pub use scheduler::{Capacity, Scheduler, Statistics};
pub use thought::{Thought, Thoughts};

pub use crate::model::draw::{Context, Repetition, Sampler, Sampling, StreamKey};
use instil_grammar::constraint::Constraint;
use instil_grammar::vocab::TokenId;

/// One text to be decoded, or one measurement to be made.
#[derive(Clone)]
pub struct Request {
    /// The stream its draws come from; also its name.
    pub key: StreamKey,
    /// Tokens that several requests may share (few-shot examples, a system prompt): prefilled once.
    pub prefix: Arc<[TokenId]>,
    /// Tokens of this request alone, after the prefix. Not empty when the prefix is.
    pub prompt: Vec<TokenId>,
    /// What the text has to look like; `None` decodes free, until an end-of-sequence token.
    pub constraint: Option<Arc<dyn Constraint>>,
    /// Most tokens of the completion, the end-of-sequence token included.
    pub max_tokens: usize,
    /// What the model may think before the text, where the prompt ends inside a thought. Its tokens are none of
    /// `max_tokens`.
    pub thought: Option<Arc<Thought>>,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Measures something after the prompt instead of drawing a text: `constraint`, `max_tokens` and
    /// `sampling` are not looked at then.
    pub measure: Option<Measure>,
}

impl Request {
    /// Tokens that stand before the text, or before what is measured.
    pub(crate) fn prompt_length(&self) -> usize {
        self.prefix.len() + self.prompt.len()
    }

    /// Most tokens that may come to stand behind the prompt.
    pub fn room(&self) -> usize {
        match &self.measure {
            Some(measure) => measure.most_tokens(),
            None => self.max_tokens + self.thought.as_ref().map_or(0, |thought| thought.room()),
        }
    }
}

/// Why a completion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The grammar was complete, or the model ended the text.
    Complete,
    /// `max_tokens` was reached; `accepting` tells whether the text is complete all the same.
    Limit {
        /// The text satisfies its grammar as it stands.
        accepting: bool,
    },
    /// The grammar allowed no token: a dead end.
    DeadEnd,
}

/// A decoded text, or a measurement.
#[derive(Clone, Debug)]
pub struct Completion {
    /// The request's key.
    pub key: StreamKey,
    /// Tokens of the text, without the end-of-sequence token.
    pub tokens: Vec<TokenId>,
    /// Bytes of `tokens`.
    pub text: Vec<u8>,
    /// What the model thought before the text, where it was asked to.
    pub thoughts: Option<Thoughts>,
    /// Why it ended.
    pub finish: Finish,
    /// The token limit made the text close before the model would have.
    pub closed_by_budget: bool,
    /// The grammar holds only under an assumption: see [`instil_grammar::constraint::Engine::assumed`].
    pub assumed: bool,
    /// How many of `tokens` the grammar alone determined.
    pub forced: usize,
    /// How many draws leant towards the end because the limit was near ([`Sampling::landing`]).
    pub leant: usize,
    /// Probability mass that the mask removed, over the drawn tokens.
    pub tension: Tension,
    /// What [`Measure`] asked for; empty when a text was drawn.
    pub measured: Vec<f64>,
}

/// Grammar tension of a text: the mass that masks removed at the drawn tokens, in `0..=1`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tension {
    /// Mean over the drawn tokens; 0 when none was drawn.
    pub mean: f32,
    /// Greatest.
    pub max: f32,
}
