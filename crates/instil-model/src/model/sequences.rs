//! Sequences of a model and the handles by which callers know them.

use std::ops::{Index, IndexMut};

use crate::error::Result;

/// Handle of a sequence inside a model. Handles are reused after [`Sequences::free`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(pub usize);

/// The sequences that a model holds; a forward pass makes them longer.
pub trait Sequences {
    /// Starts an empty sequence.
    fn create(&mut self) -> SequenceId;
    /// Starts a sequence that holds the first `length` tokens of `parent`, which can be cut there.
    ///
    /// # Errors
    /// When the device has no memory for it.
    fn fork(&mut self, parent: SequenceId, length: usize) -> Result<SequenceId>;
    /// Drops all but the first `length` tokens of a sequence, which can be cut there.
    fn truncate(&mut self, sequence: SequenceId, length: usize);
    /// Whether sequences can be cut anywhere. Where layers keep a state they cannot: whoever will want a sequence as it
    /// is forks it before it goes on.
    fn cuts_anywhere(&self) -> bool {
        true
    }
    /// Whether a sequence can be forked, or truncated, to its first `length` tokens.
    fn can_cut(&self, sequence: SequenceId, length: usize) -> bool {
        length == 0 || length >= self.length(sequence) || self.cuts_anywhere()
    }
    /// Number of tokens in a sequence.
    fn length(&self, sequence: SequenceId) -> usize;
    /// Forgets a sequence.
    fn free(&mut self, sequence: SequenceId);
}

/// What a model keeps of each sequence, by its handle.
pub(super) struct Slots<T> {
    places: Vec<Option<T>>,
}

impl<T> Slots<T> {
    pub(super) fn new() -> Self {
        Self { places: Vec::new() }
    }

    /// Keeps `kept` in the first free place.
    pub(super) fn insert(&mut self, kept: T) -> SequenceId {
        let free = self.places.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        self.places[index] = Some(kept);
        SequenceId(index)
    }

    /// Frees a place and gives what was kept there.
    pub(super) fn remove(&mut self, sequence: SequenceId) -> Option<T> {
        self.places[sequence.0].take()
    }
}

/// What [`Sequences::can_cut`] asks of callers.
pub(super) const WHOLE: &str = "a sequence whose layers keep a state is cut to all or nothing";

const IN_USE: &str = "a sequence is used between create and free";

impl<T> Index<SequenceId> for Slots<T> {
    type Output = T;

    fn index(&self, sequence: SequenceId) -> &T {
        self.places[sequence.0].as_ref().expect(IN_USE)
    }
}

impl<T> IndexMut<SequenceId> for Slots<T> {
    fn index_mut(&mut self, sequence: SequenceId) -> &mut T {
        self.places[sequence.0].as_mut().expect(IN_USE)
    }
}
