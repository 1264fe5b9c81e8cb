//! Weight matrices re-ordered once, at load, into the order in which the product reads them.
//!
//! Outputs stand in groups of 16, a lane each; a group is one run of bytes, block after block of 32
//! inputs: quads of four inputs by lane, then sixteen f16 scales for each part of the block, then as many f16 minima
//! where the form has them. Float forms hold one input of sixteen lanes after the other. The size is that of
//! the file but for outputs that fill up the last group; 2 and 3 bits with scales of their own for halves of blocks
//! take 4 in all.

use std::borrow::Cow;

use half::{bf16, f16};
use memmap2::MmapMut;
use rayon::prelude::*;

use super::blocks::{Form, read};
use super::lanes::{BLOCK, LANES};
use crate::gguf::GgmlType;

/// A matrix `(outputs, inputs)`.
pub(crate) struct Packed {
    form: Form,
    outputs: usize,
    inputs: usize,
    data: MmapMut,
}

/// The bytes of a matrix: the file's, or made of them.
#[derive(Clone, Debug)]
pub struct Stored<'a> {
    /// Type of the elements.
    pub kind: GgmlType,
    /// Row after row.
    pub bytes: Cow<'a, [u8]>,
    /// Rows.
    pub outputs: usize,
    /// Columns.
    pub inputs: usize,
}

impl Stored<'_> {
    /// Some of its rows.
    pub(crate) fn rows(self, rows: std::ops::Range<usize>) -> Self {
        let row_bytes = self.bytes.len() / self.outputs.max(1);
        let (range, outputs) = (rows.start * row_bytes..rows.end * row_bytes, rows.len());
        let bytes = match self.bytes {
            Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[range]),
            Cow::Owned(bytes) => Cow::Owned(bytes[range].to_vec()),
        };
        Self { bytes, outputs, ..self }
    }
}

impl Packed {
    /// Re-orders matrices of one type and width, one below the other; output `i` of the result is
    /// row `order(i)` of them taken together. `None` when there is no form for the type, or the
    /// width is no whole number of blocks.
    ///
    /// # Errors
    /// When the memory cannot be had.
    pub(crate) fn pack(parts: &[Stored], order: impl Fn(usize) -> usize + Sync) -> std::io::Result<Option<Self>> {
        let Some(&Stored { kind, inputs, .. }) = parts.first() else { return Ok(None) };
        let Some(form) = Form::of(kind) else { return Ok(None) };
        let alike = parts.iter().all(|part| part.kind == kind && part.inputs == inputs);
        if !alike || inputs % kind.block_elements() as usize != 0 {
            return Ok(None);
        }
        let row_bytes = inputs / kind.block_elements() as usize * kind.block_bytes() as usize;
        let outputs: usize = parts.iter().map(|part| part.outputs).sum();
        let row = |output: usize| -> &[u8] {
            let mut at = order(output);
            for part in parts {
                if at < part.outputs {
                    return &part.bytes[at * row_bytes..(at + 1) * row_bytes];
                }
                at -= part.outputs;
            }
            unreachable!("the order stays within the parts")
        };
        let group_bytes = group_bytes(form, inputs);
        let mut data = MmapMut::map_anon(outputs.div_ceil(LANES) * group_bytes)?;
        // Fewer misses of the address cache while a pass streams the weights; only a hint.
        #[cfg(target_os = "linux")]
        let _ = data.advise(memmap2::Advice::HugePage);
        data.par_chunks_mut(group_bytes).enumerate().for_each(|(group, into)| {
            for lane in 0..LANES.min(outputs - group * LANES) {
                fill_lane(form, kind, row(group * LANES + lane), inputs, lane, into);
            }
        });
        Ok(Some(Self { form, outputs, inputs, data }))
    }

    /// Memory that a matrix of a type will take; `None` as for [`Packed::pack`].
    pub(crate) fn bytes_of(kind: GgmlType, outputs: usize, inputs: usize) -> Option<usize> {
        let form = Form::of(kind).filter(|_| inputs.is_multiple_of(kind.block_elements() as usize))?;
        outputs.div_ceil(LANES).checked_mul(group_bytes(form, inputs))
    }

    /// How weights are kept.
    pub(crate) fn form(&self) -> Form {
        self.form
    }

    /// Rows of the matrix.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Columns of the matrix.
    pub(crate) fn inputs(&self) -> usize {
        self.inputs
    }

    /// Memory taken.
    pub(crate) fn size_bytes(&self) -> usize {
        self.data.len()
    }

    /// Bytes of a group of sixteen outputs.
    pub(super) fn group_bytes(&self) -> usize {
        group_bytes(self.form, self.inputs)
    }

    /// First byte of a group.
    pub(super) fn group(&self, group: usize) -> *const u8 {
        self.data[group * self.group_bytes()..].as_ptr()
    }

    /// The weights of one output, `(inputs)`.
    pub(crate) fn row(&self, output: usize, into: &mut [f32]) {
        let bytes = &self.data[output / LANES * self.group_bytes()..][..self.group_bytes()];
        let lane = output % LANES;
        let half = |at: usize| f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32();
        let brain = |at: usize| bf16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32();
        if !self.form.is_quantised() {
            for (k, value) in into.iter_mut().enumerate() {
                let at = k * LANES + lane;
                *value = match self.form {
                    Form::F16 => half(at * 2),
                    Form::BF16 => brain(at * 2),
                    _ => f32::from_le_bytes(bytes[at * 4..at * 4 + 4].try_into().expect("four bytes")),
                };
            }
            return;
        }
        let size = block_bytes(self.form);
        for (index, values) in into.chunks_exact_mut(BLOCK).enumerate() {
            let at = index * size;
            let scales = at + quant_bytes(self.form);
            for (k, value) in values.iter_mut().enumerate() {
                let raw = quant(self.form, &bytes[at..scales], lane, k);
                let part = if self.form.parts() == 2 { k / LANES } else { 0 };
                let scale = scales + part * LANES * 2 + lane * 2;
                let scale = if self.form == Form::Minifloats { brain(scale) } else { half(scale) };
                let minima = scales + self.form.parts() * LANES * 2;
                let minimum = if self.form.has_minimum() { half(minima + part * LANES * 2 + lane * 2) } else { 0.0 };
                let whole = match self.form.table() {
                    Some(table) => f32::from(table[usize::from(raw)]),
                    None => f32::from(raw) - self.form.zero(),
                };
                *value = whole.mul_add(scale, minimum);
            }
        }
    }
}

/// Number `k` of a block in a lane.
fn quant(form: Form, block: &[u8], lane: usize, k: usize) -> u8 {
    match form {
        Form::Nibbles | Form::NibblesWithMinimum | Form::NibblesOnCurve | Form::Minifloats => {
            let pair = block[k % 16 / 4 * 64 + lane * 4 + k % 4];
            if k < 16 { pair & 15 } else { pair >> 4 }
        }
        Form::CrumbsWithMinima | Form::Thirds => {
            let (half, quad, place) = (k / 16, k % 16 / 4, lane * 4 + k % 4);
            let part = &block[half * quant_bytes(form) / 2..];
            let low = part[place] >> (quad * 2) & 3;
            if form == Form::Thirds { low | (part[64 + place % 32] >> (place / 32 * 4 + quad) & 1) << 2 } else { low }
        }
        _ => block[k / 4 * 64 + lane * 4 + k % 4],
    }
}

/// Puts number `k` of a block into a lane, where zeros were.
fn put_quant(form: Form, block: &mut [u8], lane: usize, k: usize, q: u8) {
    match form {
        Form::Nibbles | Form::NibblesWithMinimum | Form::NibblesOnCurve | Form::Minifloats => {
            block[k % 16 / 4 * 64 + lane * 4 + k % 4] |= q << (k / 16 * 4);
        }
        Form::CrumbsWithMinima | Form::Thirds => {
            let (half, quad, place) = (k / 16, k % 16 / 4, lane * 4 + k % 4);
            let part = &mut block[half * quant_bytes(form) / 2..];
            part[place] |= (q & 3) << (quad * 2);
            if form == Form::Thirds {
                part[64 + place % 32] |= (q >> 2) << (place / 32 * 4 + quad);
            }
        }
        _ => block[k / 4 * 64 + lane * 4 + k % 4] = q,
    }
}

fn quant_bytes(form: Form) -> usize {
    match form {
        Form::Nibbles | Form::NibblesWithMinimum | Form::NibblesOnCurve | Form::Minifloats => BLOCK * LANES / 2,
        Form::CrumbsWithMinima => BLOCK * LANES / 4,
        Form::Thirds => BLOCK * LANES / 8 * 3,
        _ => BLOCK * LANES,
    }
}

/// Bytes of 32 inputs of sixteen outputs.
pub(super) fn block_bytes(form: Form) -> usize {
    let scales = form.parts() * if form.has_minimum() { 2 } else { 1 };
    quant_bytes(form) + scales * LANES * 2
}

fn group_bytes(form: Form, inputs: usize) -> usize {
    match form {
        Form::F16 | Form::BF16 => inputs * LANES * 2,
        Form::F32 => inputs * LANES * 4,
        _ => inputs / BLOCK * block_bytes(form),
    }
}

/// Writes the weights of one output into its lane of a group.
fn fill_lane(form: Form, kind: GgmlType, row: &[u8], inputs: usize, lane: usize, into: &mut [u8]) {
    if !form.is_quantised() {
        let width = kind.block_bytes() as usize;
        for (k, value) in row.chunks_exact(width).enumerate() {
            into[(k * LANES + lane) * width..][..width].copy_from_slice(value);
        }
        return;
    }
    let size = block_bytes(form);
    for index in 0..inputs / BLOCK {
        let block = read(kind, row, index);
        let into = &mut into[index * size..(index + 1) * size];
        for (k, &q) in block.quants.iter().enumerate() {
            put_quant(form, into, lane, k, q);
        }
        let mut put = |slot: usize, value: f32| {
            let bits =
                if form == Form::Minifloats { bf16::from_f32(value).to_bits() } else { f16::from_f32(value).to_bits() };
            into[quant_bytes(form) + slot * LANES * 2 + lane * 2..][..2].copy_from_slice(&bits.to_le_bytes());
        };
        for part in 0..form.parts() {
            put(part, block.scales[part]);
            if form.has_minimum() {
                put(form.parts() + part, block.minima[part]);
            }
        }
    }
}
