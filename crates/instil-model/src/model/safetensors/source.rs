//! Where a tensor's rows lie in the files, and what is done to them on the way: another order of rows or columns, and
//! floats of 8 and 4 bits whose scales lie in a tensor of their own.
//!
//! Nothing made here is kept: whoever asks for rows has them alone.

use std::borrow::Cow;
use std::ops::Range;

use half::{bf16, f16};
use safetensors::Dtype;

use crate::gguf::GgmlType;

/// Columns that share a scale in 4-bit floats, and the bytes that hold them.
const FOURS: (usize, usize) = (32, 16);

/// Some bytes of a file, as a tensor.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub shard: usize,
    pub range: Range<usize>,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
}

/// A tensor made of a piece.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub piece: Piece,
    pub change: Change,
    /// What its elements become.
    pub kind: GgmlType,
    /// What it looks like then.
    pub shape: Vec<usize>,
}

/// What a piece goes through.
#[derive(Clone, Debug)]
pub(super) enum Change {
    AsItIs,
    /// Row `r` is row `order[r]` of the piece.
    Rows(Vec<usize>),
    /// Column `c` is column `order[c]` of the piece.
    Columns(Vec<usize>),
    /// `(…, inputs, outputs)` in the piece, of whose outputs every `step`-th is taken from `first` on.
    Turned {
        first: usize,
        step: usize,
    },
    /// 8-bit floats of 4 bits of exponent, and a scale for each block of so many rows and columns.
    Eights {
        scales: Vec<f32>,
        block: [usize; 2],
    },
    /// 4-bit floats two in a byte, `(…, outputs, blocks, 16)`, and a power of two for each 32; every `step`-th row is
    /// taken from `first` on.
    Fours {
        scales: Piece,
        first: usize,
        step: usize,
    },
}

impl Piece {
    /// GGUF's type of the same elements.
    pub(super) fn kind(&self) -> Option<GgmlType> {
        match self.dtype {
            Dtype::F32 => Some(GgmlType::F32),
            Dtype::F16 => Some(GgmlType::F16),
            Dtype::BF16 => Some(GgmlType::BF16),
            _ => None,
        }
    }

    /// The first or the second half of its rows.
    pub(super) fn half(&self, half: usize) -> Option<Self> {
        let (bytes, rows) = (self.range.len() / 2, *self.shape.first()?);
        if !rows.is_multiple_of(2) || self.shape.len() < 2 {
            return None;
        }
        let start = self.range.start + half * bytes;
        let shape = [&[rows / 2], &self.shape[1..]].concat();
        Some(Self { range: start..start + bytes, shape, ..self.clone() })
    }
}

impl Source {
    /// A piece as it lies; `None` for elements that GGUF has no type for.
    pub(super) fn plain(piece: Piece) -> Option<Self> {
        let (kind, shape) = (piece.kind()?, piece.shape.clone());
        Some(Self { piece, change: Change::AsItIs, kind, shape })
    }

    /// Rows and columns, where matrices stand one below the other.
    pub(super) fn extents(&self) -> (usize, usize) {
        let (inputs, outer) = self.shape.split_last().expect("a tensor with an extent");
        (outer.iter().product(), *inputs)
    }

    /// Some rows, from the bytes of the piece and those of its scales.
    pub(super) fn rows<'a>(&self, bytes: &'a [u8], scales: &[u8], rows: Range<usize>) -> Cow<'a, [u8]> {
        let (all, inputs) = self.extents();
        let width = bytes.len() / all.max(1);
        let each = width / inputs.max(1);
        match &self.change {
            Change::AsItIs => Cow::Borrowed(&bytes[rows.start * width..rows.end * width]),
            Change::Rows(order) => Cow::Owned(
                order[rows].iter().flat_map(|&row| &bytes[row * width..(row + 1) * width]).copied().collect(),
            ),
            Change::Columns(order) => {
                let row = |row: usize| {
                    let bytes = &bytes[row * width..(row + 1) * width];
                    order.iter().flat_map(move |&column| &bytes[column * each..(column + 1) * each])
                };
                Cow::Owned(rows.flat_map(row).copied().collect())
            }
            &Change::Turned { first, step } => {
                let outputs = self.shape[self.shape.len() - 2];
                let size = bytes.len() / (all * step * inputs).max(1);
                let row = |row: usize| {
                    let (matrix, output) = (row / outputs, first + row % outputs * step);
                    let place = move |input: usize| ((matrix * inputs + input) * outputs * step + output) * size;
                    (0..inputs).flat_map(move |input| &bytes[place(input)..place(input) + size])
                };
                Cow::Owned(rows.flat_map(row).copied().collect())
            }
            Change::Eights { scales, block } => {
                let outputs = self.shape[self.shape.len() - 2];
                let [high, wide] = [outputs.div_ceil(block[0]), inputs.div_ceil(block[1])];
                let row = |row: usize| {
                    let scales = &scales[(row / outputs * high + row % outputs / block[0]) * wide..][..wide];
                    let values = bytes[row * inputs..(row + 1) * inputs].iter().enumerate();
                    values.flat_map(move |(at, &value)| (eight(value) * scales[at / block[1]]).to_le_bytes())
                };
                Cow::Owned(rows.flat_map(row).collect())
            }
            Change::Fours { first, step, .. } => {
                let blocks = inputs / FOURS.0;
                let block = |at: usize| {
                    let packed = &bytes[at * FOURS.1..(at + 1) * FOURS.1];
                    // Neighbours share a byte there; in GGUF the two halves of a block do.
                    let four = move |at: usize| packed[at / 2] >> (at % 2 * 4) & 15;
                    std::iter::once(scales[at]).chain((0..FOURS.1).map(move |at| four(at) | four(at + FOURS.1) << 4))
                };
                let row = |row: usize| (0..blocks).map(move |at| (first + row * step) * blocks + at);
                Cow::Owned(rows.flat_map(row).flat_map(block).collect())
            }
        }
    }
}

/// The values of a small piece; `None` for elements that are no floats.
pub(super) fn floats(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    Some(match dtype {
        Dtype::F32 => bytes.as_chunks::<4>().0.iter().map(|&value| f32::from_le_bytes(value)).collect(),
        Dtype::F16 => bytes.as_chunks::<2>().0.iter().map(|&value| f16::from_le_bytes(value).to_f32()).collect(),
        Dtype::BF16 => bytes.as_chunks::<2>().0.iter().map(|&value| bf16::from_le_bytes(value).to_f32()).collect(),
        _ => return None,
    })
}

/// An 8-bit float of 4 bits of exponent and 3 of mantissa, without infinities (Micikevicius et al., "FP8 formats for
/// deep learning", 2022).
fn eight(bits: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(bits >> 3 & 15), f32::from(bits & 7));
    let size = match (exponent, bits & 7) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa / 512.0,
        _ => (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 7),
    };
    if bits & 128 == 0 { size } else { -size }
}
