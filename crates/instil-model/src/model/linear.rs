//! Linear maps of the CPU decoder: packed matrices with biases, shared out by groups of outputs.

use super::kernels::Isa;
use super::kernels::activations::Rows;
use super::kernels::lanes::LANES;
use super::kernels::packed::{Packed, Stored};
use super::kernels::product::{Sink, product};
use super::layout::Map;
use super::weights::{Weights, unread};
use crate::error::{Error, Result};

/// Groups of sixteen outputs in one piece of work: 32 outputs are one block of the next activations.
pub(super) const PIECE_GROUPS: usize = 2;
/// Outputs of a piece.
pub(super) const PIECE: usize = PIECE_GROUPS * LANES;

/// One or more maps of the same inputs, whose outputs follow each other.
pub(super) struct Linear {
    parts: Vec<Part>,
    outputs: usize,
}

struct Part {
    matrix: Packed,
    first: usize,
    bias: Option<Vec<f32>>,
}

impl Linear {
    /// Reads maps of the same inputs, one below the other; neighbours of one type become one matrix.
    pub(super) fn load(weights: &Weights, maps: &[Map]) -> Result<Self> {
        let stored = maps.iter().map(|map| weights.stored(&map.weight)).collect::<Result<Vec<_>>>()?;
        let mut linear = Self { parts: Vec::new(), outputs: 0 };
        let mut at = 0;
        for run in stored.chunk_by(|a, b| a.kind == b.kind) {
            linear.push(weights, &maps[at..at + run.len()], run)?;
            at += run.len();
        }
        Ok(linear)
    }

    fn push(&mut self, weights: &Weights, maps: &[Map], run: &[Stored]) -> Result<()> {
        let order = |output: usize| {
            let mut start = 0;
            for map in maps {
                let count = map.weight.rows.len();
                if output < start + count {
                    return start + map.weight.order.row(output - start);
                }
                start += count;
            }
            output
        };
        let memory = |source| Error::Device { what: "reserving memory for weights", source: Box::new(source) };
        let matrix =
            Packed::pack(run, order).map_err(memory)?.ok_or_else(|| unread(weights, &maps[0].weight, run[0].kind))?;
        let mut bias = Vec::with_capacity(matrix.outputs());
        for map in maps {
            match &map.bias {
                Some(values) => bias.extend(weights.vector(values)?),
                None => bias.resize(bias.len() + map.weight.rows.len(), 0.0),
            }
        }
        let has_bias = maps.iter().any(|map| map.bias.is_some());
        let outputs = matrix.outputs();
        self.parts.push(Part { matrix, first: self.outputs, bias: has_bias.then_some(bias) });
        self.outputs += outputs;
        Ok(())
    }

    /// Outputs of all parts.
    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Memory of the matrices and biases.
    pub(super) fn size_bytes(&self) -> usize {
        let bias = |part: &Part| part.bias.as_deref().map_or(0, size_of_val);
        self.parts.iter().map(|part| part.matrix.size_bytes() + bias(part)).sum()
    }

    /// Whether rows are taken in 8 bits, and whether as floats; parts may differ.
    pub(super) fn takes(&self) -> (bool, bool) {
        let quantised = |part: &Part| part.matrix.form().is_quantised();
        (self.parts.iter().any(quantised), self.parts.iter().any(|part| !quantised(part)))
    }

    /// Pieces of work of one product.
    pub(super) fn pieces(&self) -> usize {
        self.parts.iter().map(|part| part.matrix.outputs().div_ceil(PIECE)).sum()
    }

    /// Computes one piece for the first `count` rows; `out` is `(count, stride)` and gets output `o`
    /// in column `o − first`.
    ///
    /// # Safety
    /// As for [`product`].
    pub(super) unsafe fn piece(&self, isa: Isa, rows: &Rows, count: usize, piece: usize, to: To) {
        let mut piece = piece;
        for part in &self.parts {
            let pieces = part.matrix.outputs().div_ceil(PIECE);
            if piece < pieces {
                let groups = part.matrix.outputs().div_ceil(LANES);
                let range = piece * PIECE_GROUPS..((piece + 1) * PIECE_GROUPS).min(groups);
                let sink = Sink {
                    out: to.out,
                    stride: to.stride,
                    // Columns count over all parts, the product's outputs within one.
                    shift: part.first as isize - to.first as isize,
                    bias: part.bias.as_ref().map_or(std::ptr::null(), Vec::as_ptr),
                    scale: to.scale,
                    accumulate: to.accumulate,
                };
                // SAFETY: as the caller promises.
                unsafe { product(isa, &part.matrix, rows, count, range, sink) };
                return;
            }
            piece -= pieces;
        }
    }

    /// The weights of one output, `(inputs)`.
    pub(super) fn row(&self, output: usize, into: &mut [f32]) {
        for part in &self.parts {
            if output < part.first + part.matrix.outputs() {
                part.matrix.row(output - part.first, into);
                return;
            }
        }
    }
}

/// Where a product's results go.
#[derive(Clone, Copy)]
pub(super) struct To {
    pub out: *mut f32,
    /// Floats from row to row.
    pub stride: usize,
    /// The output in column 0.
    pub first: usize,
    /// Factor of the results.
    pub scale: f32,
    /// Whether results are added to what is there.
    pub accumulate: bool,
}

// SAFETY: a place in memory of which each thread writes its own outputs.
unsafe impl Send for To {}
// SAFETY: as above.
unsafe impl Sync for To {}
