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
    /// Starts a sequence that holds the first `length` tokens of `parent`.
    ///
    /// # Errors
    /// When the device has no memory for it.
    fn fork(&mut self, parent: SequenceId, length: usize) -> Result<SequenceId>;
    /// Drops all but the first `length` tokens.
    fn truncate(&mut self, sequence: SequenceId, length: usize);
    /// Says that a sequence will be cut back to `length` tokens: what that needs is kept from there on, or from when the
    /// sequence comes by. Without it a cut is as right, but may take longer.
    fn keep(&mut self, _sequence: SequenceId, _length: usize) {}
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
