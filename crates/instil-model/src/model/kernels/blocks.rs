//! GGUF's quantised blocks, read 32 weights at a time into one common form.
//!
//! The layouts are those of ggml (`ggml-common.h`, `dequantize_row_*`).

use half::f16;

use super::lanes::BLOCK;
use crate::gguf::GgmlType;

/// How the weights of a matrix are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// 4 bits: `scale · (q − 8)` (Q4_0).
    Nibbles,
    /// 4 bits: `scale · q + minimum` (Q4_1, Q4_K).
    NibblesWithMinimum,
    /// 8 bits: `scale · q` (Q8_0, Q5_0).
    Bytes,
    /// 8 bits: `scale · q + minimum` (Q5_1, Q5_K).
    BytesWithMinimum,
    /// 8 bits with a scale for each half of a block (Q6_K).
    BytesByHalves,
    /// IEEE halves.
    F16,
    /// Brain floats.
    BF16,
    /// Floats.
    F32,
}

impl Form {
    /// The form that keeps every weight of a stored type, or `None` when there is none for it.
    ///
    /// Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and floats are kept exactly. K-quants keep their integers; their
    /// scales and minima, products in the file, are rounded to f16 (a relative 2⁻¹¹).
    pub fn of(kind: GgmlType) -> Option<Self> {
        Some(match kind {
            GgmlType::Q4_0 => Self::Nibbles,
            GgmlType::Q4_1 | GgmlType::Q4_K => Self::NibblesWithMinimum,
            GgmlType::Q5_0 | GgmlType::Q8_0 => Self::Bytes,
            GgmlType::Q5_1 | GgmlType::Q5_K => Self::BytesWithMinimum,
            GgmlType::Q6_K => Self::BytesByHalves,
            GgmlType::F16 => Self::F16,
            GgmlType::BF16 => Self::BF16,
            GgmlType::F32 => Self::F32,
            _ => return None,
        })
    }

    /// Whether products take activations quantised to 8 bits rather than floats.
    pub(crate) fn is_quantised(self) -> bool {
        !matches!(self, Self::F16 | Self::BF16 | Self::F32)
    }
}

/// 32 weights: `scales[k / 16] · value + minimum`, where the value is `q − 8` for [`Form::Nibbles`],
/// `q` for [`Form::NibblesWithMinimum`] and `q − 128` for the forms of bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    /// `q`, unsigned.
    pub quants: [u8; BLOCK],
    /// One for each half; equal but for [`Form::BytesByHalves`].
    pub scales: [f32; 2],
    /// 0 where the form has none.
    pub minimum: f32,
}

fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// Low nibbles first, then high ones.
fn nibbles(bytes: &[u8]) -> [u8; BLOCK] {
    std::array::from_fn(|k| if k < 16 { bytes[k] & 15 } else { bytes[k - 16] >> 4 })
}

/// The fifth bits of Q5_0 and Q5_1.
fn fifth_bit(bytes: &[u8], k: usize) -> u8 {
    (bytes[k / 8] >> (k % 8) & 1) << 4
}

/// The 6-bit scale and minimum of sub-block `index` of Q4_K and Q5_K.
fn scale_and_minimum(scales: &[u8], index: usize) -> (f32, f32) {
    let (scale, minimum) = if index < 4 {
        (scales[index] & 63, scales[index + 4] & 63)
    } else {
        ((scales[index + 4] & 15) | (scales[index - 4] >> 6 << 4), (scales[index + 4] >> 4) | (scales[index] >> 6 << 4))
    };
    (f32::from(scale), f32::from(minimum))
}

/// Reads block `index` of a row of quantised weights in their stored type.
pub fn read(kind: GgmlType, row: &[u8], index: usize) -> Block {
    let size = kind.block_bytes() as usize;
    let per_block = kind.block_elements() as usize / BLOCK;
    let (at, part) = (index / per_block, index % per_block);
    let bytes = &row[at * size..(at + 1) * size];
    let plain = |quants, scale, minimum| Block { quants, scales: [scale; 2], minimum };
    match kind {
        GgmlType::Q4_0 => plain(nibbles(&bytes[2..]), half_at(bytes, 0), 0.0),
        GgmlType::Q4_1 => plain(nibbles(&bytes[4..]), half_at(bytes, 0), half_at(bytes, 2)),
        GgmlType::Q5_0 => {
            let low = nibbles(&bytes[6..]);
            let quants = std::array::from_fn(|k| (low[k] | fifth_bit(&bytes[2..], k)) + 128 - 16);
            plain(quants, half_at(bytes, 0), 0.0)
        }
        GgmlType::Q5_1 => {
            let low = nibbles(&bytes[8..]);
            let quants = std::array::from_fn(|k| (low[k] | fifth_bit(&bytes[4..], k)) + 128);
            plain(quants, half_at(bytes, 0), half_at(bytes, 2))
        }
        GgmlType::Q8_0 => plain(std::array::from_fn(|k| bytes[2 + k] ^ 128), half_at(bytes, 0), 0.0),
        GgmlType::Q4_K => {
            let (scale, minimum) = scale_and_minimum(&bytes[4..16], part);
            let packed = &bytes[16 + part / 2 * 32..];
            let quants = std::array::from_fn(|k| packed[k] >> (part % 2 * 4) & 15);
            plain(quants, half_at(bytes, 0) * scale, -half_at(bytes, 2) * minimum)
        }
        GgmlType::Q5_K => {
            let (scale, minimum) = scale_and_minimum(&bytes[4..16], part);
            let (fifth, packed) = (&bytes[16..48], &bytes[48 + part / 2 * 32..]);
            let quants =
                std::array::from_fn(|k| (packed[k] >> (part % 2 * 4) & 15 | (fifth[k] >> part & 1) << 4) + 128);
            plain(quants, half_at(bytes, 0) * scale, -half_at(bytes, 2) * minimum)
        }
        GgmlType::Q6_K => {
            let (half, quarter) = (part / 4, part % 4);
            let low = &bytes[half * 64 + quarter % 2 * 32..];
            let high = &bytes[128 + half * 32..];
            let quants = std::array::from_fn(|k| {
                let q = low[k] >> (quarter / 2 * 4) & 15 | (high[k] >> (quarter * 2) & 3) << 4;
                q + 128 - 32
            });
            let scale = |at: usize| half_at(bytes, 208) * f32::from(bytes[192 + half * 8 + quarter * 2 + at] as i8);
            Block { quants, scales: [scale(0), scale(1)], minimum: 0.0 }
        }
        _ => unreachable!("only the types of a quantised `Form` are read in blocks"),
    }
}
