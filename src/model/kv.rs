//! Memory of keys and values: sequences made of blocks of 32 positions, shared where they are equal.
//!
//! A block holds all layers of its positions. A fork takes references, so a common prompt lies in
//! memory once; whoever writes into a block that others hold gets a copy first. Truncating and
//! freeing let references go, and a block goes with its last one.

use std::sync::Arc;

use super::SequenceId;
use super::kernels::attention::POSITIONS;

type Block = Box<[u16]>;

/// Sequences and their blocks.
pub(super) struct Memory {
    block_elements: usize,
    sequences: Vec<Option<Sequence>>,
}

#[derive(Default)]
struct Sequence {
    blocks: Vec<Arc<Block>>,
    length: usize,
}

const IN_USE: &str = "a sequence is used between create and free";

impl Memory {
    /// Blocks of so many halves.
    pub fn new(block_elements: usize) -> Self {
        Self { block_elements, sequences: Vec::new() }
    }

    fn get(&self, sequence: SequenceId) -> &Sequence {
        self.sequences[sequence.0].as_ref().expect(IN_USE)
    }

    fn get_mut(&mut self, sequence: SequenceId) -> &mut Sequence {
        self.sequences[sequence.0].as_mut().expect(IN_USE)
    }

    fn insert(&mut self, sequence: Sequence) -> SequenceId {
        let index = self.sequences.iter().position(Option::is_none).unwrap_or_else(|| {
            self.sequences.push(None);
            self.sequences.len() - 1
        });
        self.sequences[index] = Some(sequence);
        SequenceId(index)
    }

    pub fn create(&mut self) -> SequenceId {
        self.insert(Sequence::default())
    }

    pub fn fork(&mut self, parent: SequenceId, length: usize) -> SequenceId {
        let blocks = self.get(parent).blocks[..length.div_ceil(POSITIONS)].to_vec();
        self.insert(Sequence { blocks, length })
    }

    pub fn truncate(&mut self, sequence: SequenceId, length: usize) {
        let sequence = self.get_mut(sequence);
        sequence.length = sequence.length.min(length);
        sequence.blocks.truncate(sequence.length.div_ceil(POSITIONS));
    }

    pub fn length(&self, sequence: SequenceId) -> usize {
        self.get(sequence).length
    }

    pub fn free(&mut self, sequence: SequenceId) {
        self.sequences[sequence.0] = None;
    }

    /// Grows a sequence by `count` positions, whose blocks are its own from now on, and returns
    /// where all of its blocks lie. The pointers hold until the sequence changes again.
    pub fn grow(&mut self, sequence: SequenceId, count: usize) -> Vec<*mut u16> {
        let elements = self.block_elements;
        let sequence = self.get_mut(sequence);
        let first_written = sequence.length / POSITIONS;
        sequence.length += count;
        // New blocks are zero: positions that are not written yet weigh nothing, and must be finite.
        sequence
            .blocks
            .resize_with(sequence.length.div_ceil(POSITIONS), || Arc::new(vec![0; elements].into_boxed_slice()));
        let mut pointers = Vec::with_capacity(sequence.blocks.len());
        for (index, block) in sequence.blocks.iter_mut().enumerate() {
            // Blocks before the first one written are only read.
            pointers.push(if index < first_written {
                block.as_ptr().cast_mut()
            } else {
                Arc::make_mut(block).as_mut_ptr()
            });
        }
        pointers
    }

    /// Memory of all blocks, each counted once.
    pub fn size_bytes(&self) -> usize {
        let mut blocks: Vec<*const u16> =
            self.sequences.iter().flatten().flat_map(|sequence| &sequence.blocks).map(|block| block.as_ptr()).collect();
        blocks.sort_unstable();
        blocks.dedup();
        blocks.len() * self.block_bytes()
    }

    /// Memory of a block.
    pub fn block_bytes(&self) -> usize {
        self.block_elements * 2
    }
}
