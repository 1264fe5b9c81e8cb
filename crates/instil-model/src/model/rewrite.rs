//! A model as one GGUF file, its matrices of floats in another type: what `instil models quantize` writes.
//!
//! Tensor after tensor, some rows at a time, so that no more than a matrix is in memory. Names, orders of rows and the
//! types of what is no matrix are those that llama.cpp reads, whatever the file was.

use std::io::Write;
use std::ops::Range;
use std::path::Path;

use super::architecture::Architecture;
use super::checkpoint::Checkpoint;
use super::layout::Order;
use super::quantise::{Quantisation, Quantised};
use crate::error::{Error, Result};
use crate::gguf::{self, Entry, Value};

/// Rows that are made at once, where their order is the file's.
const CHUNK: usize = 1 << 12;

/// What is written.
pub struct Plan<'a> {
    weights: Quantised<'a>,
    head: Vec<u8>,
    tensors: Vec<Planned>,
    /// Matrices whose type changes.
    pub changed: usize,
    /// Whether the old file is of another form than GGUF.
    pub converts: bool,
    /// Bytes of the whole file.
    pub size_bytes: u64,
}

/// One tensor of the new file: of each of its matrices some rows of those of a tensor of the old one.
struct Planned {
    entry: Entry,
    from: String,
    /// Matrices that stand one below the other.
    matrices: usize,
    /// Rows of a matrix of the old tensor.
    height: usize,
    rows: Range<usize>,
    order: Order,
}

impl<'a> Plan<'a> {
    /// Reads what the file says of itself, and lays the new one out.
    ///
    /// # Errors
    /// When the model is none that is computed here, or its tokenizer has no place in GGUF.
    pub fn new(name: &str, file: &'a dyn Checkpoint, to: Quantisation) -> Result<Self> {
        let architecture = Architecture::read(name, file)?;
        let weights = Quantised::of_file(file, to)?;
        let tokenizer = file.tokenizer_entries()?;
        let is_folder = tokenizer.is_some();
        let mut tensors = Vec::new();
        for from in file.tensors() {
            let shape = file.shape(from).unwrap_or_default();
            let height = shape.len().checked_sub(2).map_or(1, |at| shape[at]);
            let matrices = shape.iter().rev().skip(2).product();
            let of = |rows: Range<usize>, name: &str| -> Result<Planned> {
                let mut shape = shape.clone();
                if let Some(at) = shape.len().checked_sub(2) {
                    shape[at] = rows.len();
                }
                let entry = Entry { name: name.to_owned(), shape, kind: weights.kind(from)? };
                let order = order(&architecture, file, from);
                Ok(Planned { entry, from: from.to_owned(), matrices, height, rows, order })
            };
            let joined = from.strip_suffix("ffn_gate_up_exps.weight").filter(|_| is_folder && height.is_multiple_of(2));
            match joined {
                Some(layer) => {
                    tensors.push(of(0..height / 2, &format!("{layer}ffn_gate_exps.weight"))?);
                    tensors.push(of(height / 2..height, &format!("{layer}ffn_up_exps.weight"))?);
                }
                None => tensors.push(of(0..height, from)?),
            }
        }
        let metadata = metadata(name, file, tokenizer, to);
        let entries: Vec<Entry> = tensors.iter().map(|tensor| tensor.entry.clone()).collect();
        let head = gguf::head(&metadata, &entries);
        let padded = |entry: &Entry| entry.size_bytes().next_multiple_of(gguf::ALIGNMENT) as u64;
        let size_bytes = head.len() as u64 + entries.iter().map(padded).sum::<u64>();
        Ok(Self { changed: weights.changed(), converts: is_folder, weights, head, tensors, size_bytes })
    }

    /// Writes the file, which errors name by `path`. `goes_on` hears how many of its bytes are written; where it says no,
    /// the rest is not, and false comes back.
    ///
    /// # Errors
    /// When the old file cannot be read or the new one cannot be written.
    pub fn write(&self, path: &Path, out: &mut dyn Write, goes_on: &mut dyn FnMut(u64) -> bool) -> Result<bool> {
        let mut written = 0;
        let mut put = |bytes: &[u8]| -> Result<bool> {
            written += bytes.len() as u64;
            out.write_all(bytes).map_err(|source| Error::io("write", path, source))?;
            Ok(goes_on(written))
        };
        put(&self.head)?;
        for tensor in &self.tensors {
            let chunk = if tensor.order == Order::Plain { CHUNK } else { usize::MAX };
            for matrix in 0..tensor.matrices {
                let mut at = tensor.rows.start;
                while at < tensor.rows.end {
                    let rows = at..tensor.rows.end.min(at.saturating_add(chunk));
                    at = rows.end;
                    let first = matrix * tensor.height;
                    let stored = self.weights.rows(&tensor.from, first + rows.start..first + rows.end)?;
                    if tensor.order == Order::Plain {
                        put(&stored.bytes)?;
                        continue;
                    }
                    // A vector's values are its rows.
                    let count = if tensor.entry.shape.len() == 1 { stored.inputs } else { rows.len() };
                    let width = stored.bytes.len() / count.max(1);
                    let row = |row: usize| &stored.bytes[row * width..(row + 1) * width];
                    let ordered: Vec<u8> =
                        (0..count).flat_map(|at| row(side_by_side(tensor.order, at))).copied().collect();
                    put(&ordered)?;
                }
            }
            let size = tensor.entry.size_bytes();
            if !put(&vec![0; size.next_multiple_of(gguf::ALIGNMENT) - size])? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The order of a tensor's rows in files of GGUF, where the old file has rotary pairs apart that stand side by side there.
fn order(architecture: &Architecture, file: &dyn Checkpoint, tensor: &str) -> Order {
    let parts: Vec<&str> = tensor.split('.').collect();
    let ["blk", layer, "attn_q" | "attn_k", "weight" | "bias"] = parts.as_slice() else { return Order::Plain };
    let Ok(layer) = layer.parse() else { return Order::Plain };
    // Whoever asks for what GGUF has side by side is told that it lies apart here.
    if file.interleaves_pairs(true) || !Architecture::has_pairs_side_by_side(&architecture.family) {
        return Order::Plain;
    }
    let sizes = architecture.head_sizes(layer);
    Order::Interleaved { head_dim: sizes.head_dim, turned: sizes.rotary_dims }
}

/// Which row, with pairs apart, becomes row `at` of those with pairs side by side.
fn side_by_side(order: Order, at: usize) -> usize {
    let Order::Interleaved { head_dim, turned } = order else { return at };
    let (head, within) = (at / head_dim, at % head_dim);
    if within < turned { head * head_dim + within % 2 * (turned / 2) + within / 2 } else { at }
}

/// The metadata of the new file.
fn metadata(
    name: &str,
    file: &dyn Checkpoint,
    tokenizer: Option<Vec<(String, Value)>>,
    to: Quantisation,
) -> Vec<(String, Value)> {
    let known = |key: &str| file.metadata().iter().any(|(other, _)| other == key);
    // It is one file, of this writer's alignment.
    let stays = |key: &str| {
        !key.starts_with("split.")
            && !["general.file_type", "general.alignment", "general.quantization_version"].contains(&key)
    };
    let entries = file.metadata().iter().filter(|(key, _)| stays(key));
    let mut all: Vec<(String, Value)> = entries.map(|(key, value)| (key.to_owned(), value.clone())).collect();
    if !known("general.name") {
        all.push(("general.name".into(), Value::String(name.into())));
    }
    if !known("general.type") {
        all.push(("general.type".into(), Value::String("model".into())));
    }
    all.push(("general.file_type".into(), Value::Unsigned(to.file_type())));
    all.push(("general.quantization_version".into(), Value::Unsigned(2)));
    all.extend(tokenizer.into_iter().flatten());
    all
}
