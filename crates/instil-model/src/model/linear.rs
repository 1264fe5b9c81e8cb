//! Linear maps of the CPU decoder: packed matrices with biases, shared out by groups of outputs.

use half::f16;

use super::kernels::Isa;
use super::kernels::activations::Rows;
use super::kernels::lanes::LANES;
use super::kernels::packed::{Packed, Stored};
use super::kernels::product::{Sink, product};
use super::weights::Weights;
use crate::error::{Error, Result};
use crate::gguf::GgmlType;

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

/// A matrix to be read, or some rows of one.
pub(super) struct Source<'a> {
    /// Its name without `.weight`.
    pub name: String,
    /// Rows that are taken.
    pub outputs: usize,
    /// The first of them, and all rows of the matrix.
    pub within: (usize, usize),
    /// Output `i` is row `order(i)` of those taken.
    pub order: &'a (dyn Fn(usize) -> usize + Sync),
}

impl Linear {
    /// Reads matrices of `inputs` columns; neighbours of one type become one matrix.
    pub fn load(weights: &Weights, inputs: usize, sources: &[Source]) -> Result<Self> {
        let mut linear = Self { parts: Vec::new(), outputs: 0 };
        let mut at = 0;
        while at < sources.len() {
            let first = stored(weights, &sources[at], inputs)?;
            let kind = first.kind;
            let mut run = vec![first];
            while let Some(next) = sources.get(at + run.len()) {
                let next = stored(weights, next, inputs)?;
                if next.kind != kind {
                    break;
                }
                run.push(next);
            }
            let taken = &sources[at..at + run.len()];
            linear.push(weights, inputs, taken, &run)?;
            at += taken.len();
        }
        Ok(linear)
    }

    fn push(&mut self, weights: &Weights, inputs: usize, sources: &[Source], run: &[Stored]) -> Result<()> {
        let order = |output: usize| {
            let mut start = 0;
            for source in sources {
                if output < start + source.outputs {
                    return start + (source.order)(output - start);
                }
                start += source.outputs;
            }
            output
        };
        let memory = |source| Error::Device { what: "reserving memory for weights", source: Box::new(source) };
        let matrix = match Packed::pack(run, order).map_err(memory)? {
            Some(matrix) => matrix,
            // No form for the type: its values as halves, which err less than the type itself does.
            None => {
                let mut halves = Vec::new();
                for source in sources {
                    let (first, all) = source.within;
                    let name = format!("{}.weight", source.name);
                    let tensor = weights.tensor(&name, &[all, inputs])?.ok_or_else(|| weights.missing(&name))?;
                    let taken = tensor.narrow(0, first, source.outputs).and_then(|t| t.flatten_all());
                    let values = taken.and_then(|t| t.to_vec1::<f32>());
                    for value in values.map_err(super::weights::device_error)? {
                        halves.extend(f16::from_f32(value).to_le_bytes());
                    }
                }
                let outputs = sources.iter().map(|source| source.outputs).sum();
                let all = Stored { kind: GgmlType::F16, bytes: &halves, outputs, inputs };
                Packed::pack(&[all], order).map_err(memory)?.expect("halves have a form")
            }
        };
        let mut bias = vec![0.0; matrix.outputs()];
        let (mut start, mut has_bias) = (0, false);
        for source in sources {
            let (first, all) = source.within;
            if let Some(values) = weights.optional_vector(&format!("{}.bias", source.name), all)? {
                has_bias = true;
                for (index, to) in bias[start..start + source.outputs].iter_mut().enumerate() {
                    *to = values[first + (source.order)(index)];
                }
            }
            start += source.outputs;
        }
        let outputs = matrix.outputs();
        self.parts.push(Part { matrix, first: self.outputs, bias: has_bias.then_some(bias) });
        self.outputs += outputs;
        Ok(())
    }

    /// Outputs of all parts.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Memory of the matrices.
    pub fn size_bytes(&self) -> usize {
        self.parts.iter().map(|part| part.matrix.size_bytes()).sum()
    }

    /// Whether rows are taken in 8 bits, and whether as floats; parts may differ.
    pub fn takes(&self) -> (bool, bool) {
        let quantised = |part: &Part| part.matrix.form().is_quantised();
        (self.parts.iter().any(quantised), self.parts.iter().any(|part| !quantised(part)))
    }

    /// Pieces of work of one product.
    pub fn pieces(&self) -> usize {
        self.parts.iter().map(|part| part.matrix.outputs().div_ceil(PIECE)).sum()
    }

    /// Computes one piece for the first `count` rows; `out` is `(count, stride)` and gets output `o`
    /// in column `o − first`.
    ///
    /// # Safety
    /// As for [`product`].
    pub unsafe fn piece(&self, isa: Isa, rows: &Rows, count: usize, piece: usize, to: To) {
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
    pub fn row(&self, output: usize, into: &mut [f32]) {
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

fn stored<'a>(weights: &Weights<'a>, source: &Source, inputs: usize) -> Result<Stored<'a>> {
    let name = format!("{}.weight", source.name);
    let (first, all) = source.within;
    let whole = weights.stored(&name, all, inputs)?.ok_or_else(|| weights.missing(&name))?;
    let row_bytes = whole.bytes.len() / all.max(1);
    let bytes = &whole.bytes[first * row_bytes..(first + source.outputs) * row_bytes];
    Ok(Stored { bytes, outputs: source.outputs, ..whole })
}
