//! Where the time of forward passes goes.

use std::time::{Duration, Instant};

/// A part of a forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Rows, blocks and angles are made ready.
    Prepare,
    /// Token embeddings.
    Embed,
    /// Norms, and rounding of what they give to 8 bits.
    Norm,
    /// Query, key and value projections.
    QueryKeyValue,
    /// Rotary embedding; keys and values are stored.
    Rotate,
    /// Attention.
    Attend,
    /// Output projection of attention.
    AttentionOutput,
    /// Experts are chosen, and rows sorted by them.
    Route,
    /// Gate and up projections with SiLU.
    GateUp,
    /// Down projection.
    Down,
    /// Logits.
    Head,
}

/// Every part, in the order of a pass.
pub const PARTS: [Part; 11] = [
    Part::Prepare,
    Part::Embed,
    Part::Norm,
    Part::QueryKeyValue,
    Part::Rotate,
    Part::Attend,
    Part::AttentionOutput,
    Part::Route,
    Part::GateUp,
    Part::Down,
    Part::Head,
];

/// Time spent in each part, since the start or the last [`Profile::reset`].
#[derive(Debug)]
pub struct Profile {
    spent: [Duration; PARTS.len()],
    last: Instant,
}

impl Default for Profile {
    fn default() -> Self {
        Self { spent: Default::default(), last: Instant::now() }
    }
}

impl Profile {
    /// A pass begins: what was before it is nobody's.
    pub(super) fn begin(&mut self) {
        self.last = Instant::now();
    }

    /// What has passed since the last call was spent on `part`.
    pub(super) fn lap(&mut self, part: Part) {
        let now = Instant::now();
        self.spent[part as usize] += now - self.last;
        self.last = now;
    }

    /// Forgets what was measured.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Time spent on a part.
    pub fn spent(&self, part: Part) -> Duration {
        self.spent[part as usize]
    }
}
