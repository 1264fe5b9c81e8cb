//! What a processor can do at most: how fast it reads memory, and how fast it multiplies small integers.
//!
//! Benches set the decoder's figures beside these. Both are measured with the instructions that the kernels
//! use, on all threads of a team, with nothing in the way: the products from the nearest cache, without
//! scales or stores of results; the reads in order, without products.

use std::hint::black_box;
use std::time::Instant;

use super::lanes::{BLOCK, LANES, Lanes};
use super::team::Team;
use super::{Isa, on_isa};

/// Blocks of weights that one tile of rows meets; 4 KB of 4-bit weights.
const BLOCKS: usize = 16;
/// Rows of the largest tile.
const MOST_ROWS: usize = 8;
/// How often a piece goes over its blocks.
const ROUNDS: usize = 500;

/// Multiply-adds a second of 4-bit weights and 8-bit activations, over all threads of `team`.
pub fn multiply_adds_per_second(isa: Isa, team: &mut Team) -> f64 {
    let weights = vec![0x5Au8; BLOCKS * BLOCK * LANES / 2];
    let rows = vec![3i8; MOST_ROWS * BLOCKS * BLOCK];
    let pieces = 64 * team.size();
    let start = Instant::now();
    team.run(&|member| {
        member.share(0, pieces, |_| {
            // SAFETY: the instruction set is the processor's; weights and rows have `BLOCKS` blocks each.
            let sums = unsafe { on_isa!(isa, multiply(weights: &[u8] = &weights, rows: &[i8] = &rows) -> f32) };
            black_box(sums);
        });
    });
    let seconds = start.elapsed().as_secs_f64();
    let rows = on_rows(isa);
    (pieces * ROUNDS * BLOCKS * BLOCK * LANES * rows) as f64 / seconds
}

/// Rows that `isa` keeps in registers at once.
fn on_rows(isa: Isa) -> usize {
    #[inline(always)]
    unsafe fn rows<L: Lanes>() -> usize {
        L::ROWS
    }
    // SAFETY: nothing of the instruction set is used.
    unsafe { on_isa!(isa, rows() -> usize) }
}

#[inline(always)]
unsafe fn multiply<L: Lanes>(weights: &[u8], rows: &[i8]) -> f32 {
    unsafe {
        match L::ROWS {
            8 => tile::<L, 8>(weights, rows),
            _ => tile::<L, 4>(weights, rows),
        }
    }
}

#[inline(always)]
unsafe fn tile<L: Lanes, const R: usize>(weights: &[u8], rows: &[i8]) -> f32 {
    unsafe {
        let mut sums = [L::splat(0.0); R];
        let offsets = [0; R];
        for _ in 0..ROUNDS {
            // The compiler must not see that every round is the same.
            let (weights, rows) = (black_box(weights.as_ptr()), black_box(rows.as_ptr()));
            for block in 0..BLOCKS {
                let at: [*const i8; R] = std::array::from_fn(|r| rows.add((r * BLOCKS + block) * BLOCK));
                let dots = L::dot_nibbles::<R, false>(weights.add(block * BLOCK * LANES / 2), &at, &offsets);
                for r in 0..R {
                    sums[r] = L::add(sums[r], L::to_f32(dots[r]));
                }
            }
        }
        sums.into_iter().map(|sum| L::sum(sum)).sum()
    }
}

/// Bytes a second read from memory, in order, by all threads of `team`.
pub fn bytes_read_per_second(isa: Isa, team: &mut Team) -> f64 {
    /// Far more than any cache holds.
    const SIZE: usize = 512 << 20;
    const PIECE: usize = 1 << 20;
    let memory: Vec<f32> = vec![1.0; SIZE / 4];
    let start = Instant::now();
    team.run(&|member| {
        member.share(0, SIZE / PIECE, |piece| {
            let part = &memory[piece * PIECE / 4..(piece + 1) * PIECE / 4];
            // SAFETY: the instruction set is the processor's; the part is a multiple of four vectors long.
            black_box(unsafe { on_isa!(isa, read(part: &[f32] = part) -> f32) });
        });
    });
    SIZE as f64 / start.elapsed().as_secs_f64()
}

#[inline(always)]
unsafe fn read<L: Lanes>(part: &[f32]) -> f32 {
    unsafe {
        let mut sums = [L::splat(0.0); 4];
        for four in part.chunks_exact(4 * LANES) {
            for (index, sum) in sums.iter_mut().enumerate() {
                *sum = L::add(*sum, L::load(four.as_ptr().add(index * LANES)));
            }
        }
        L::sum(L::add(L::add(sums[0], sums[1]), L::add(sums[2], sums[3])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_is_measured() {
        let mut team = Team::new(2);
        for isa in Isa::available() {
            // A portable product of this kind is far from either bound in both directions.
            let rate = multiply_adds_per_second(isa, &mut team);
            assert!(rate > 1e8 && rate < 1e14, "{isa:?}: {rate}");
        }
        let read = bytes_read_per_second(Isa::detect(), &mut team);
        assert!(read > 1e8 && read < 1e13, "{read}");
    }
}
