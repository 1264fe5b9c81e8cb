//! GGUF's quantised blocks, read 32 weights at a time into one common form.
//!
//! The layouts are those of ggml (`ggml-common.h`, `dequantize_row_*`).

use half::f16;

use super::lanes::BLOCK;
use crate::gguf::GgmlType;

/// How the weights of a matrix are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Form {
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
    /// 4 bits that choose from [`CURVE`]: `scale · value` (IQ4_NL, IQ4_XS).
    NibblesOnCurve,
    /// 4 bits that choose from [`MINIFLOATS`]: `scale · value`, the scale a power of two (MXFP4).
    Minifloats,
    /// 2 bits, for each half of a block `scale · q + minimum` (Q2_K, TQ1_0, TQ2_0).
    CrumbsWithMinima,
    /// 3 bits with a scale for each half of a block: `scale · (q − 4)` (Q3_K).
    Thirds,
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
    /// Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL, MXFP4, TQ1_0, TQ2_0 and floats are kept exactly. K-quants and IQ4_XS keep their integers; their
    /// scales and minima, products in the file, are rounded to f16 (a relative 2⁻¹¹).
    pub(crate) fn of(kind: GgmlType) -> Option<Self> {
        Some(match kind {
            GgmlType::Q4_0 => Self::Nibbles,
            GgmlType::Q4_1 | GgmlType::Q4_K => Self::NibblesWithMinimum,
            GgmlType::Q5_0 | GgmlType::Q8_0 => Self::Bytes,
            GgmlType::Q5_1 | GgmlType::Q5_K => Self::BytesWithMinimum,
            GgmlType::Q6_K => Self::BytesByHalves,
            GgmlType::IQ4_NL | GgmlType::IQ4_XS => Self::NibblesOnCurve,
            GgmlType::MXFP4 => Self::Minifloats,
            GgmlType::Q2_K | GgmlType::TQ1_0 | GgmlType::TQ2_0 => Self::CrumbsWithMinima,
            GgmlType::Q3_K => Self::Thirds,
            GgmlType::F16 => Self::F16,
            GgmlType::BF16 => Self::BF16,
            GgmlType::F32 => Self::F32,
            GgmlType::Q8_1 | GgmlType::Q8_K => return None,
        })
    }

    /// The number that stands for zero, where numbers do not choose from a table.
    pub(crate) fn zero(self) -> f32 {
        match self {
            Self::Nibbles => 8.0,
            Self::Thirds => 4.0,
            Self::Bytes | Self::BytesWithMinimum | Self::BytesByHalves => 128.0,
            _ => 0.0,
        }
    }

    /// Whether something is added to the scaled numbers.
    pub(crate) fn has_minimum(self) -> bool {
        matches!(self, Self::NibblesWithMinimum | Self::BytesWithMinimum | Self::CrumbsWithMinima)
    }

    /// Parts of a block with a scale, and a minimum, of their own.
    pub(crate) fn parts(self) -> usize {
        if matches!(self, Self::BytesByHalves | Self::CrumbsWithMinima | Self::Thirds) { 2 } else { 1 }
    }

    /// The value of each number, where numbers choose from a table.
    pub(crate) fn table(self) -> Option<&'static [i8; 16]> {
        match self {
            Self::NibblesOnCurve => Some(&CURVE),
            Self::Minifloats => Some(&MINIFLOATS),
            _ => None,
        }
    }

    /// Whether products take activations quantised to 8 bits rather than floats.
    pub(crate) fn is_quantised(self) -> bool {
        !matches!(self, Self::F16 | Self::BF16 | Self::F32)
    }
}

/// Values that the 4 bits of IQ4_NL and IQ4_XS choose from (`kvalues_iq4nl`).
pub(crate) const CURVE: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
/// Twice the values of 4-bit floats of two exponent bits and one of mantissa (`kvalues_mxfp4`).
pub(crate) const MINIFLOATS: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// 32 weights: `scales[k / 16] · value + minima[k / 16]`, where the value is `q − 8` for [`Form::Nibbles`],
/// `q` for [`Form::NibblesWithMinimum`] and [`Form::CrumbsWithMinima`], `q − 4` for [`Form::Thirds`], one of a table
/// where the form has one, and `q − 128` for the forms of bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    /// `q`, unsigned.
    pub quants: [u8; BLOCK],
    /// One for each half; equal but for the forms that say otherwise.
    pub scales: [f32; 2],
    /// One for each half, 0 where the form has none.
    pub minima: [f32; 2],
}

fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// 2^(exponent − 128): half of the power of two that a scale of MXFP4 stands for.
fn half_of_power(exponent: u8) -> f32 {
    f32::from_bits(if exponent < 2 { 0x0020_0000 << exponent } else { (u32::from(exponent) - 1) << 23 })
}

/// Number `at` of the 256 of TQ1_0, 0 to 2: five to a byte as digits of base 3, the first the most significant of a
/// fraction of 256.
fn ternary(bytes: &[u8], at: usize) -> u8 {
    let (byte, digit) = match at {
        0..160 => (bytes[at % 32], at / 32),
        160..240 => (bytes[32 + at % 16], (at - 160) / 16),
        _ => (bytes[48 + at % 4], (at - 240) / 4),
    };
    let rest = u16::from(byte.wrapping_mul([1, 3, 9, 27, 81][digit]));
    ((rest * 3) >> 8) as u8
}

impl Block {
    /// With a minimum that makes `q` mean `q − 1`.
    fn centred(self) -> Self {
        Self { minima: self.scales.map(|scale| -scale), ..self }
    }
}

/// The weights of a row of quantised blocks, rounded as ggml's `dequantize_row_*` do.
pub(crate) fn dequantise(kind: GgmlType, row: &[u8], into: &mut [f32]) {
    let form = Form::of(kind).expect("a type that is read in blocks");
    let is_ternary = matches!(kind, GgmlType::TQ1_0 | GgmlType::TQ2_0);
    for (index, values) in into.chunks_exact_mut(BLOCK).enumerate() {
        let block = read(kind, row, index);
        for (k, value) in values.iter_mut().enumerate() {
            let q = block.quants[k];
            let whole = match form.table() {
                Some(table) => f32::from(table[usize::from(q)]),
                None => f32::from(q) - if is_ternary { 1.0 } else { form.zero() },
            };
            let scaled = block.scales[k / 16] * whole;
            *value = if form.has_minimum() && !is_ternary { scaled + block.minima[k / 16] } else { scaled };
        }
    }
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
pub(crate) fn read(kind: GgmlType, row: &[u8], index: usize) -> Block {
    let size = kind.block_bytes() as usize;
    let per_block = kind.block_elements() as usize / BLOCK;
    let (at, part) = (index / per_block, index % per_block);
    let bytes = &row[at * size..(at + 1) * size];
    let plain = |quants, scale, minimum| Block { quants, scales: [scale; 2], minima: [minimum; 2] };
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
            Block { quants, scales: [scale(0), scale(1)], minima: [0.0; 2] }
        }
        GgmlType::IQ4_NL => plain(nibbles(&bytes[2..]), half_at(bytes, 0), 0.0),
        GgmlType::IQ4_XS => {
            let high = u16::from_le_bytes([bytes[2], bytes[3]]) >> (2 * part) & 3;
            let low = bytes[4 + part / 2] >> (part % 2 * 4) & 15;
            let scale = f32::from(i16::from(low) + 16 * high as i16 - 32);
            plain(nibbles(&bytes[8 + part * 16..]), half_at(bytes, 0) * scale, 0.0)
        }
        GgmlType::MXFP4 => plain(nibbles(&bytes[1..]), half_of_power(bytes[0]), 0.0),
        GgmlType::Q2_K => {
            let packed = &bytes[16 + part / 4 * 32..];
            let quants = std::array::from_fn(|k| packed[k] >> (part % 4 * 2) & 3);
            let (scale, minimum) = (half_at(bytes, 80), half_at(bytes, 82));
            let of = |at: usize| bytes[part * 2 + at];
            Block {
                quants,
                scales: [0, 1].map(|at| scale * f32::from(of(at) & 15)),
                minima: [0, 1].map(|at| -(minimum * f32::from(of(at) >> 4))),
            }
        }
        GgmlType::Q3_K => {
            let (high, packed) = (&bytes[..32], &bytes[32 + part / 4 * 32..]);
            let quants = std::array::from_fn(|k| packed[k] >> (part % 4 * 2) & 3 | (high[k] >> part & 1) << 2);
            let scale = |at: usize| {
                let index = part * 2 + at;
                let low = bytes[96 + index % 8] >> (index / 8 * 4) & 15;
                let high = bytes[104 + index % 4] >> (index / 4 * 2) & 3;
                half_at(bytes, 108) * (f32::from(low | high << 4) - 32.0)
            };
            Block { quants, scales: [scale(0), scale(1)], minima: [0.0; 2] }
        }
        GgmlType::TQ1_0 => {
            plain(std::array::from_fn(|k| ternary(bytes, part * BLOCK + k)), half_at(bytes, 52), 0.0).centred()
        }
        GgmlType::TQ2_0 => {
            let packed = &bytes[part / 4 * 32..];
            plain(std::array::from_fn(|k| packed[k] >> (part % 4 * 2) & 3), half_at(bytes, 64), 0.0).centred()
        }
        GgmlType::F32 | GgmlType::F16 | GgmlType::BF16 | GgmlType::Q8_1 | GgmlType::Q8_K => {
            unreachable!("only the types of a quantised `Form` are read in blocks")
        }
    }
}
