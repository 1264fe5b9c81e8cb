//! Memory of keys and values: sequences made of blocks of 32 positions, shared where they are equal.
//!
//! A block holds all layers of its positions. A fork takes references, so a common prompt lies in
//! memory once; whoever writes into a block that others hold gets a copy first. Truncating and
//! freeing let references go; a block whose last one went is used again. The states of recurrent layers are held
//! beside the blocks.

use std::sync::Arc;

use super::kernels::attention::POSITIONS;
use super::sequences::{SequenceId, Sequences, Slots, WHOLE};
use super::states::{State, States};
use crate::error::Result;

type Candle<T> = std::result::Result<T, candle_core::Error>;

/// Where blocks lie: in the processor's memory, or on a device.
pub(super) trait Store {
    /// Memory of one block.
    type Block;
    /// A block of so many halves, all zero.
    fn zeroed(&self, elements: usize) -> Candle<Self::Block>;
    /// Writes what `from` holds into `to`.
    fn copy(&self, from: &Self::Block, to: &mut Self::Block) -> Candle<()>;
    /// Where a block lies. It is written only by the pass for which [`Memory::grow`] made it a sequence's own.
    fn address(block: &Self::Block) -> *mut u16;
}

/// Blocks in the processor's memory.
pub(super) struct Host;

impl Store for Host {
    type Block = Box<[u16]>;

    fn zeroed(&self, elements: usize) -> Candle<Self::Block> {
        Ok(vec![0; elements].into_boxed_slice())
    }

    fn copy(&self, from: &Self::Block, to: &mut Self::Block) -> Candle<()> {
        to.copy_from_slice(from);
        Ok(())
    }

    fn address(block: &Self::Block) -> *mut u16 {
        block.as_ptr().cast_mut()
    }
}

/// Sequences and their blocks.
pub(super) struct Memory<S: Store = Host> {
    store: S,
    block_elements: usize,
    sequences: Slots<Sequence<S>>,
    /// Blocks that no sequence holds any more. What is in them is finite, which is all that a new block needs.
    free: Vec<S::Block>,
    /// Blocks made so far: each is free, or held by a sequence or several.
    made: usize,
    states: States,
}

struct Sequence<S: Store> {
    blocks: Vec<Arc<S::Block>>,
    length: usize,
    state: State,
}

impl<S: Store> Memory<S> {
    /// Blocks of so many halves in `store`, and states of so many floats.
    pub(super) fn new(store: S, block_elements: usize, state_elements: usize) -> Self {
        let states = States::new(state_elements);
        Self { store, block_elements, sequences: Slots::new(), free: Vec::new(), made: 0, states }
    }

    /// Where the state of a sequence lies, which is its own from now on, for a pass to take on; null where there are no
    /// recurrent layers. The pointer holds until the sequence changes.
    pub(super) fn state(&mut self, sequence: SequenceId) -> *mut f32 {
        self.states.own(&mut self.sequences[sequence].state)
    }

    /// Memory of a sequence's state.
    pub(super) fn state_bytes(&self) -> usize {
        self.states.state_bytes()
    }

    /// Keeps the blocks whose last reference goes for sequences to come.
    fn release(&mut self, blocks: Vec<Arc<S::Block>>) {
        self.free.extend(blocks.into_iter().filter_map(Arc::into_inner));
    }

    fn new_block(&mut self) -> Candle<S::Block> {
        if let Some(block) = self.free.pop() {
            return Ok(block);
        }
        let block = self.store.zeroed(self.block_elements)?;
        self.made += 1;
        Ok(block)
    }

    /// Grows a sequence by `count` positions, whose blocks are its own from now on, and returns
    /// where all of its blocks lie. The pointers hold until the sequence changes again.
    ///
    /// # Errors
    /// When there is no memory for a block; the sequence is then as it was.
    pub(super) fn grow(&mut self, sequence: SequenceId, count: usize) -> Candle<Vec<*mut u16>> {
        let (length, held) = (self.sequences[sequence].length, self.sequences[sequence].blocks.len());
        let mut fresh = Vec::new();
        // The block that is written first may be another sequence's too.
        let shared = length / POSITIONS;
        let is_shared = self.sequences[sequence].blocks.get(shared).is_some_and(|block| Arc::strong_count(block) > 1);
        if count > 0 && is_shared {
            let mut own = self.new_block()?;
            if let Err(cause) = self.store.copy(&self.sequences[sequence].blocks[shared], &mut own) {
                self.free.push(own);
                return Err(cause);
            }
            self.sequences[sequence].blocks[shared] = Arc::new(own);
        }
        for _ in held..(length + count).div_ceil(POSITIONS) {
            match self.new_block() {
                Ok(block) => fresh.push(Arc::new(block)),
                Err(cause) => {
                    self.release(fresh);
                    return Err(cause);
                }
            }
        }
        let sequence = &mut self.sequences[sequence];
        sequence.length += count;
        sequence.blocks.extend(fresh);
        Ok(sequence.blocks.iter().map(|block| S::address(block)).collect())
    }

    /// Memory of all blocks and states that sequences hold, each counted once.
    pub(super) fn size_bytes(&self) -> usize {
        (self.made - self.free.len()) * self.block_bytes() + self.states.size_bytes()
    }

    /// Memory of a block.
    pub(super) fn block_bytes(&self) -> usize {
        self.block_elements * 2
    }
}

impl<S: Store> Sequences for Memory<S> {
    fn create(&mut self) -> SequenceId {
        self.sequences.insert(Sequence { blocks: Vec::new(), length: 0, state: None })
    }

    fn fork(&mut self, parent: SequenceId, length: usize) -> Result<SequenceId> {
        assert!(self.can_cut(parent, length), "{WHOLE}");
        let parent = &self.sequences[parent];
        let blocks = parent.blocks[..length.div_ceil(POSITIONS)].to_vec();
        let state = parent.state.clone().filter(|_| length > 0);
        Ok(self.sequences.insert(Sequence { blocks, length, state }))
    }

    fn truncate(&mut self, sequence: SequenceId, length: usize) {
        assert!(self.can_cut(sequence, length), "{WHOLE}");
        let sequence = &mut self.sequences[sequence];
        sequence.length = sequence.length.min(length);
        if sequence.length == 0 {
            self.states.release(sequence.state.take());
        }
        let rest = sequence.blocks.split_off(sequence.length.div_ceil(POSITIONS));
        self.release(rest);
    }

    fn cuts_anywhere(&self) -> bool {
        self.states.state_bytes() == 0
    }

    fn length(&self, sequence: SequenceId) -> usize {
        self.sequences[sequence].length
    }

    fn free(&mut self, sequence: SequenceId) {
        if let Some(sequence) = self.sequences.remove(sequence) {
            self.release(sequence.blocks);
            self.states.release(sequence.state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_counted_once_and_used_again() {
        let mut memory = Memory::new(Host, 4, 0);
        let held = |memory: &Memory| memory.size_bytes() / memory.block_bytes();
        let first = memory.create();
        memory.grow(first, 2 * POSITIONS + 1).expect("memory");
        assert_eq!(held(&memory), 3);
        let second = memory.fork(first, POSITIONS + 1).expect("a fork");
        assert_eq!(held(&memory), 3, "a fork shares");
        memory.grow(second, 1).expect("memory");
        assert_eq!(held(&memory), 4, "a shared block is copied before it is written");
        memory.truncate(first, POSITIONS);
        assert_eq!(held(&memory), 2, "the first sequence's other two blocks are free");
        memory.free(first);
        assert_eq!(held(&memory), 2);
        memory.free(second);
        assert_eq!((held(&memory), memory.made), (0, 4));
        let third = memory.create();
        memory.grow(third, 3 * POSITIONS).expect("memory");
        assert_eq!((held(&memory), memory.made), (3, 4), "free blocks are used again");
    }
}
