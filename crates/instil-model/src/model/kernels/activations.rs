//! Rows on their way into a product: floats, or 8 bits a block of 32 with a scale.

use super::lanes::{BLOCK, LANES, Lanes};
use super::{Isa, on_isa};

/// Memory for rows of one width.
#[derive(Debug, Default)]
pub(crate) struct Activations {
    inputs: usize,
    quantised: bool,
    plain: bool,
    floats: Vec<f32>,
    values: Vec<i8>,
    scales: Vec<f32>,
    sums: Vec<f32>,
    offsets: Vec<i32>,
    half_offsets: Vec<i32>,
}

/// Where the rows lie; several threads write different rows, or different blocks of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    /// Values a row.
    pub inputs: usize,
    /// Whether the 8-bit form is kept.
    pub quantised: bool,
    /// Whether floats are kept.
    pub plain: bool,
    pub(super) floats: *mut f32,
    pub(super) values: *mut i8,
    pub(super) scales: *mut f32,
    /// Scale times the sum of a block's values.
    pub(super) sums: *mut f32,
    /// −128 times the sum of a block's values.
    pub(super) offsets: *mut i32,
    /// The same for halves of blocks.
    pub(super) half_offsets: *mut i32,
}

// SAFETY: the pointers lead to memory of an `Activations` that outlives the pass; whoever writes
// through them keeps to rows or blocks of its own.
unsafe impl Send for Rows {}
// SAFETY: as above.
unsafe impl Sync for Rows {}

impl Activations {
    /// Room for rows of `inputs` values, kept in 8 bits, as floats, or both. The 8-bit form needs a
    /// width of whole blocks.
    pub(crate) fn new(inputs: usize, quantised: bool, plain: bool) -> Self {
        Self { inputs, quantised, plain, ..Self::default() }
    }

    /// Makes room for `count` rows of another width.
    pub(crate) fn rows_of(&mut self, inputs: usize, count: usize) -> Rows {
        self.inputs = inputs;
        self.rows(count)
    }

    /// Makes room for `count` rows.
    pub(crate) fn rows(&mut self, count: usize) -> Rows {
        if self.plain {
            self.floats.resize(self.floats.len().max(count * self.inputs), 0.0);
        }
        if self.quantised {
            assert!(self.inputs.is_multiple_of(BLOCK), "quantised rows are whole blocks");
            let blocks = (count * self.inputs / BLOCK).max(self.scales.len());
            self.values.resize(blocks * BLOCK, 0);
            self.scales.resize(blocks, 0.0);
            self.sums.resize(blocks, 0.0);
            self.offsets.resize(blocks, 0);
            self.half_offsets.resize(blocks * 2, 0);
        }
        Rows {
            inputs: self.inputs,
            quantised: self.quantised,
            plain: self.plain,
            floats: self.floats.as_mut_ptr(),
            values: self.values.as_mut_ptr(),
            scales: self.scales.as_mut_ptr(),
            sums: self.sums.as_mut_ptr(),
            offsets: self.offsets.as_mut_ptr(),
            half_offsets: self.half_offsets.as_mut_ptr(),
        }
    }
}

impl Rows {
    /// The rows from `first` on.
    pub(crate) fn skip(&self, first: usize) -> Self {
        let (values, blocks) = (first * self.inputs, first * self.inputs / BLOCK);
        Self {
            floats: self.floats.wrapping_add(values),
            values: self.values.wrapping_add(values),
            scales: self.scales.wrapping_add(blocks),
            sums: self.sums.wrapping_add(blocks),
            offsets: self.offsets.wrapping_add(blocks),
            half_offsets: self.half_offsets.wrapping_add(blocks * 2),
            ..*self
        }
    }

    /// Copies row `from` of `other`, which is as wide and keeps at least the same forms, into a row.
    ///
    /// # Safety
    /// Both have the rows, no other thread touches this one, and none writes the other.
    pub(crate) unsafe fn copy(&self, row: usize, other: &Self, from: usize) {
        debug_assert_eq!(self.inputs, other.inputs);
        debug_assert!(other.plain >= self.plain && other.quantised >= self.quantised);
        let (to, from, blocks) = (self.skip(row), other.skip(from), self.inputs / BLOCK);
        // SAFETY: as the caller promises.
        unsafe {
            if self.plain {
                to.floats.copy_from_nonoverlapping(from.floats, self.inputs);
            }
            if self.quantised {
                to.values.copy_from_nonoverlapping(from.values, self.inputs);
                to.scales.copy_from_nonoverlapping(from.scales, blocks);
                to.sums.copy_from_nonoverlapping(from.sums, blocks);
                to.offsets.copy_from_nonoverlapping(from.offsets, blocks);
                to.half_offsets.copy_from_nonoverlapping(from.half_offsets, blocks * 2);
            }
        }
    }

    /// Writes `values`, from column `from` on, into a row; both are whole blocks where the 8-bit
    /// form is kept. A block is rounded to `scale · q` with `scale` = greatest magnitude ÷ 127.
    ///
    /// # Safety
    /// The rows were made for more than `row` rows, `from + values.len()` is within a row, and no
    /// other thread touches this part of it.
    pub(crate) unsafe fn write(&self, isa: Isa, row: usize, from: usize, values: &[f32]) {
        debug_assert!(from + values.len() <= self.inputs);
        // SAFETY: as the caller promises.
        unsafe {
            if self.plain {
                let to = self.floats.add(row * self.inputs + from);
                to.copy_from_nonoverlapping(values.as_ptr(), values.len());
            }
            if self.quantised {
                let first = (row * self.inputs + from) / BLOCK;
                on_isa!(isa, quantise(rows: &Rows = self, first: usize = first, values: &[f32] = values));
            }
        }
    }
}

#[inline(always)]
unsafe fn quantise<L: Lanes>(rows: &Rows, first: usize, values: &[f32]) {
    unsafe {
        for (index, block) in values.chunks_exact(BLOCK).enumerate() {
            let (low, high) = (L::load(block.as_ptr()), L::load(block.as_ptr().add(LANES)));
            let greatest = L::greatest(L::max(L::abs(low), L::abs(high)));
            let scale = greatest / 127.0;
            // A block of zeros, or of values so small that the inverse overflows, counts as zero.
            let inverse = if scale > 1e-36 { 1.0 / scale } else { 0.0 };
            let low = L::to_i32(L::mul(low, L::splat(inverse)));
            let high = L::to_i32(L::mul(high, L::splat(inverse)));
            let at = first + index;
            L::store_i8(rows.values.add(at * BLOCK), low);
            L::store_i8(rows.values.add(at * BLOCK + LANES), high);
            let (low, high) = (L::sum_i32(low), L::sum_i32(high));
            // Values that are no numbers count as whatever the processor makes of them; their scale says the rest.
            let both = low.wrapping_add(high);
            *rows.scales.add(at) = scale;
            *rows.sums.add(at) = scale * both as f32;
            *rows.offsets.add(at) = both.wrapping_mul(-128);
            *rows.half_offsets.add(at * 2) = low.wrapping_mul(-128);
            *rows.half_offsets.add(at * 2 + 1) = high.wrapping_mul(-128);
        }
    }
}
