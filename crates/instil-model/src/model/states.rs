//! Memory of recurrent layers: what a sequence's layers of fixed size hold, beside its keys and values.
//!
//! A state is what all recurrent layers of a model hold after some tokens: floats, as many as the model says, whatever
//! they mean to it. It cannot be cut back, as keys and values can; so a sequence remembers its tokens, and what a cut
//! takes away is read again from the last state that lies before it. Forks share a state until one of them goes on, and
//! one more state can be kept where a caller says that a sequence will be cut back to.

use std::sync::Arc;

/// States of one size, and the memory of those that nobody holds any more.
pub(super) struct States {
    /// Floats of a state; 0 where a model has no recurrent layers, and nothing is remembered.
    elements: usize,
    free: Vec<Box<[f32]>>,
    /// States made so far: each is free, or held by a sequence or several.
    made: usize,
}

/// What a sequence holds for its recurrent layers.
#[derive(Default)]
pub(super) struct Past {
    tokens: Vec<u32>,
    now: State,
    kept: Option<State>,
    /// Where a state is to be kept once the sequence comes by.
    wanted: Option<usize>,
}

/// A state after so many tokens; `None` for zeros, from which a sequence starts.
#[derive(Clone, Default)]
struct State {
    at: usize,
    values: Option<Arc<Box<[f32]>>>,
}

/// A state that a pass takes on, in place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// Position of the first row that the state has not seen.
    pub first: usize,
    /// The state; null where there are no recurrent layers.
    pub state: *mut f32,
    /// Where the state after so many tokens goes besides.
    pub keep: Option<(usize, *mut f32)>,
}

// SAFETY: the phases of a pass share the floats out as they do rows.
unsafe impl Send for Run {}
// SAFETY: as above.
unsafe impl Sync for Run {}

impl Past {
    /// The tokens that the state has not seen: they are to be read again.
    pub(super) fn missing(&self) -> &[u32] {
        &self.tokens[self.now.at.min(self.tokens.len())..]
    }
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

    /// What a sequence holds that begins like `past`, with its first `length` tokens.
    pub(super) fn fork(&self, past: &Past, length: usize) -> Past {
        if self.elements == 0 {
            return Past::default();
        }
        let states = [Some(&past.now), past.kept.as_ref()].into_iter().flatten();
        let nearest = states.filter(|state| state.at <= length).max_by_key(|state| state.at);
        let now = nearest.cloned().unwrap_or_default();
        let wanted = (now.at < length).then_some(length);
        Past { tokens: past.tokens[..length].to_vec(), now, kept: None, wanted }
    }

    /// Drops what comes after the first `length` tokens.
    pub(super) fn truncate(&mut self, past: &mut Past, length: usize) {
        past.tokens.truncate(length);
        if past.kept.as_ref().is_some_and(|kept| kept.at > length) {
            let kept = past.kept.take();
            self.release_states(kept);
        }
        if past.now.at > length {
            let nearest = past.kept.clone().unwrap_or_default();
            let cut = std::mem::replace(&mut past.now, nearest);
            self.release_states([cut]);
            if past.kept.is_none() && length > 0 {
                // What was cut back once may be cut back again.
                past.wanted = Some(length);
            }
        }
    }

    /// Keeps the state after `length` tokens, or will when the sequence comes by.
    pub(super) fn keep(&mut self, past: &mut Past, length: usize) {
        if self.elements == 0 || length < past.now.at {
            return;
        }
        if length == past.now.at {
            let kept = past.kept.replace(past.now.clone());
            self.release_states(kept);
        } else {
            past.wanted = Some(length);
        }
    }

    /// Takes the state on to `end` tokens, of which `tokens` are new: it is the sequence's own from now on.
    pub(super) fn advance(&mut self, past: &mut Past, tokens: &[u32], end: usize) -> Run {
        let first = past.now.at;
        if self.elements == 0 {
            return Run { first, state: std::ptr::null_mut(), keep: None };
        }
        past.tokens.extend_from_slice(tokens);
        let mut values = match past.now.values.take().map(Arc::try_unwrap) {
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
        let state = values.as_mut_ptr();
        past.now = State { at: end, values: Some(Arc::new(values)) };
        let keep = past.wanted.take_if(|wanted| first < *wanted && *wanted <= end).map(|at| {
            let mut values = self.take();
            let to = values.as_mut_ptr();
            let kept = past.kept.replace(State { at, values: Some(Arc::new(values)) });
            self.release_states(kept);
            (at, to)
        });
        Run { first, state, keep }
    }

    /// Forgets the states of a sequence, not its tokens: a pass that failed has left them half done.
    pub(super) fn forget(&mut self, past: &mut Past, length: usize) {
        past.tokens.truncate(length);
        let now = std::mem::take(&mut past.now);
        let kept = past.kept.take();
        self.release_states([now].into_iter().chain(kept));
    }

    /// Keeps the memory of a sequence's states for others.
    pub(super) fn release(&mut self, past: Past) {
        self.release_states([past.now].into_iter().chain(past.kept));
    }

    fn release_states(&mut self, states: impl IntoIterator<Item = State>) {
        self.free.extend(states.into_iter().filter_map(|state| state.values.and_then(Arc::into_inner)));
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

    /// A state of one float, which is the sum of the tokens that it has seen.
    fn read(states: &mut States, past: &mut Past, tokens: &[u32]) -> f32 {
        let again = past.missing().to_vec();
        let end = past.tokens.len() + tokens.len();
        let run = states.advance(past, tokens, end);
        // SAFETY: the state is one float, this sequence's own.
        unsafe {
            for (position, token) in (run.first..).zip(again.iter().chain(tokens)) {
                *run.state += *token as f32;
                if let Some((at, to)) = run.keep
                    && at == position + 1
                {
                    *to = *run.state;
                }
            }
            *run.state
        }
    }

    #[test]
    fn forks_and_cuts_go_on_from_the_nearest_state() {
        let mut states = States::new(1);
        let mut parent = Past::default();
        assert_eq!(read(&mut states, &mut parent, &[1, 2, 3, 4]), 10.0);
        let mut same = states.fork(&parent, 4);
        assert_eq!((same.missing().len(), states.size_bytes()), (0, 4), "a fork shares");
        assert_eq!(read(&mut states, &mut same, &[5]), 15.0);
        assert_eq!((states.size_bytes(), read(&mut states, &mut parent, &[1])), (8, 11.0), "each has its own");
        let mut shorter = states.fork(&parent, 2);
        assert_eq!(shorter.missing(), [1, 2]);
        assert_eq!(read(&mut states, &mut shorter, &[9]), 12.0);
        let again = states.fork(&shorter, 2);
        assert!(again.missing().is_empty(), "the state where it began was kept");
        states.truncate(&mut shorter, 2);
        assert_eq!((shorter.missing().len(), read(&mut states, &mut shorter, &[7])), (0, 10.0));
        states.truncate(&mut shorter, 1);
        assert_eq!((shorter.missing().len(), read(&mut states, &mut shorter, &[])), (1, 1.0));
        [parent, same, shorter, again].into_iter().for_each(|past| states.release(past));
        assert_eq!(states.size_bytes(), 0, "every state comes back");
    }

    #[test]
    fn a_state_is_kept_where_it_will_be_cut_back_to() {
        let mut states = States::new(1);
        let mut past = Past::default();
        states.keep(&mut past, 3);
        read(&mut states, &mut past, &[1, 2, 3, 4, 5]);
        for _ in 0..2 {
            states.truncate(&mut past, 3);
            assert_eq!((past.missing().len(), read(&mut states, &mut past, &[8])), (0, 14.0));
        }
        states.truncate(&mut past, 2);
        assert_eq!(past.missing(), [1, 2]);
    }
}
