//! States of recurrent layers: memory of one size for each sequence, however long it is.
//!
//! A state is what all recurrent layers of a model hold after some tokens: floats, as many as the model says, whatever
//! they mean to it. Forks share a state until one of them goes on; a state whose last holder went is used again. What
//! keys and values can do and a state cannot is to be cut back.

use std::sync::Arc;

/// A sequence's state; `None` where it has read nothing, or the model has no recurrent layers.
pub(super) type State = Option<Arc<Box<[f32]>>>;

/// States of one size.
pub(super) struct States {
    /// Floats of a state; 0 where a model has no recurrent layers.
    elements: usize,
    /// States that no sequence holds any more.
    free: Vec<Box<[f32]>>,
    /// States made so far: each is free, or held by a sequence or several.
    made: usize,
}

impl States {
    /// States of so many floats.
    pub(super) fn new(elements: usize) -> Self {
        Self { elements, free: Vec::new(), made: 0 }
    }

    /// Memory of a state.
    pub(super) fn state_bytes(&self) -> usize {
        self.elements * size_of::<f32>()
    }

    /// Memory of all states that sequences hold, each counted once.
    pub(super) fn size_bytes(&self) -> usize {
        (self.made - self.free.len()) * self.state_bytes()
    }

    /// Makes a state one holder's own, zeros if it is new, and returns where it lies; null where the model has none. The
    /// pointer holds until the state is released.
    pub(super) fn own(&mut self, state: &mut State) -> *mut f32 {
        if self.elements == 0 {
            return std::ptr::null_mut();
        }
        let own = match state.take().map(Arc::try_unwrap) {
            Some(Ok(own)) => own,
            Some(Err(shared)) => {
                let mut own = self.take();
                own.copy_from_slice(&shared);
                own
            }
            None => {
                let mut own = self.take();
                own.fill(0.0);
                own
            }
        };
        state.insert(Arc::new(own)).as_ptr().cast_mut()
    }

    /// Keeps the memory of a state whose last holder goes for others.
    pub(super) fn release(&mut self, state: State) {
        self.free.extend(state.and_then(Arc::into_inner));
    }

    fn take(&mut self) -> Box<[f32]> {
        self.free.pop().unwrap_or_else(|| {
            self.made += 1;
            vec![0.0; self.elements].into_boxed_slice()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_shared_until_they_change_and_counted_once() {
        let mut states = States::new(2);
        let held = |states: &States| states.size_bytes() / states.state_bytes();
        let mut first = None;
        // SAFETY (here and below): a state of two floats, its holder's own.
        unsafe { *states.own(&mut first) = 3.0 };
        let mut second = first.clone();
        assert_eq!(held(&states), 1, "a copy shares");
        unsafe { *states.own(&mut second) += 1.0 };
        assert_eq!(held(&states), 2);
        assert_eq!((first.as_ref().map(|x| x[0]), second.as_ref().map(|x| x[0])), (Some(3.0), Some(4.0)));
        states.release(first);
        states.release(second);
        assert_eq!(held(&states), 0);
        let mut third = None;
        unsafe { assert_eq!(*states.own(&mut third), 0.0, "a new state is zeros, whoever held its memory before") };
        assert_eq!((held(&states), states.made), (1, 2));
    }
}
