//! Models as their makers publish them: a folder with `config.json`, `tokenizer.json`, and weights in safetensors, in
//! one file or several with an index.
//!
//! What the rest of this room reads is GGUF's words ([`Checkpoint`]), so this file says in them what lies here: names
//! of tensors and keys by the tables of [`names`] and [`config`], which follow llama.cpp's
//! converter. Weights stay where they are and as they are, in bf16, f16 or f32: rows of experts lie in tensors of
//! their own and are handed out one by one. Only small vectors that the converter would change are made anew. A folder
//! is untrusted: the container's header is checked by the safetensors crate, every place against the file.

mod config;
mod names;

use std::collections::BTreeSet;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use memmap2::Mmap;
use rustc_hash::FxHashMap;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use super::checkpoint::Checkpoint;
use super::kernels::packed::Stored;
use crate::error::{Error, Result};
use crate::gguf::{GgmlType, Metadata};
use crate::tokenizer::Tokenizer;
use config::Config;
use names::Target;

/// Largest JSON file that is read beside the weights.
const MOST_JSON_BYTES: u64 = 64 << 20;

/// An open folder.
#[derive(Debug)]
pub struct Safetensors {
    folder: PathBuf,
    shards: Vec<Shard>,
    metadata: Metadata,
    tensors: FxHashMap<String, Tensor>,
    /// Names in order.
    order: Vec<String>,
    /// The rotary pairs of queries and keys lie half a head apart, where GGUF's files of the family have them side by side.
    has_halves: bool,
}

/// One file of weights.
#[derive(Debug)]
struct Shard {
    path: PathBuf,
    file: File,
    map: Mmap,
}

/// A tensor as GGUF has it.
#[derive(Debug)]
enum Tensor {
    /// As it lies in a file.
    Stored(Piece),
    /// One expert after the other, each in a tensor of its own.
    Experts(Vec<Piece>),
    /// Made here, in f32.
    Made { bytes: Vec<u8>, shape: Vec<usize> },
}

/// Some whole rows of a tensor of a file.
#[derive(Clone, Debug)]
struct Piece {
    shard: usize,
    range: Range<usize>,
    kind: GgmlType,
    shape: Vec<usize>,
}

/// Whether a path is that of such a model: its folder, or a file of weights in it.
pub(super) fn is_one(path: &Path) -> bool {
    path.is_dir() || path.extension().is_some_and(|extension| extension == "safetensors")
}

impl Safetensors {
    /// Opens the folder, or the folder of a file of weights; no weights are touched.
    ///
    /// # Errors
    /// When a file is missing or damaged, weights are of a type that is not read, or the configuration asks for what
    /// is not computed; always naming the file and the key or tensor.
    pub fn open(path: &Path) -> Result<Self> {
        let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
        let place = folder.join("config.json");
        let config = json(&place)?.ok_or_else(|| missing(&place))?;
        let config = Config::read(&place, &config)?;
        let shards = files(folder)?.iter().map(|file| Shard::open(file)).collect::<Result<Vec<_>>>()?;
        let mut whole = Self {
            folder: folder.to_owned(),
            shards,
            metadata: Metadata::new(place),
            tensors: FxHashMap::default(),
            order: Vec::new(),
            has_halves: config.has_halves(),
        };
        whole.place(&config)?;
        Ok(whole)
    }

    /// Gives every tensor its name, and writes the metadata.
    fn place(&mut self, config: &Config) -> Result<()> {
        let mut activations: FxHashMap<&'static str, Vec<(usize, f32)>> = FxHashMap::default();
        let mut experts: FxHashMap<String, Vec<(usize, Piece)>> = FxHashMap::default();
        for shard in 0..self.shards.len() {
            for (name, piece) in self.shards[shard].tensors(shard)? {
                match names::target(&name, config) {
                    Target::Nothing => {}
                    Target::Tensor(target) => {
                        let piece = self.readable(&name, piece)?;
                        let tensor = if config.adds_one(&target) {
                            let values = self.floats(&name, &piece)?;
                            made(values.into_iter().map(|value| value + 1.0), piece.shape.clone())
                        } else {
                            Tensor::Stored(piece)
                        };
                        self.insert(target, tensor)?;
                    }
                    Target::Halves(targets) => {
                        let piece = self.readable(&name, piece)?;
                        for (half, target) in targets.into_iter().enumerate() {
                            let half = piece.half(half).ok_or_else(|| self.odd(&name))?;
                            self.insert(target, Tensor::Stored(half))?;
                        }
                    }
                    Target::Expert(target, index) => {
                        let piece = self.readable(&name, piece)?;
                        experts.entry(target).or_default().push((index, piece));
                    }
                    Target::Activation(key, layer) => {
                        let value = self.floats(&name, &piece)?.first().copied();
                        activations.entry(key).or_default().push((layer, value.ok_or_else(|| self.odd(&name))?));
                    }
                }
            }
        }
        for (target, mut pieces) in experts {
            pieces.sort_by_key(|(index, _)| *index);
            let is_whole = pieces.iter().enumerate().all(|(at, (index, _))| at == *index);
            let alike =
                |piece: &Piece| (piece.shape.clone(), piece.kind) == (pieces[0].1.shape.clone(), pieces[0].1.kind);
            if !is_whole || !pieces.iter().all(|(_, piece)| alike(piece)) {
                return Err(self.fault(format!("experts of `{target}` are missing or unlike each other")));
            }
            self.insert(target, Tensor::Experts(pieces.into_iter().map(|(_, piece)| piece).collect()))?;
        }
        for (name, factors) in config.factors()? {
            let shape = vec![factors.len()];
            self.insert(name.to_owned(), made(factors.into_iter(), shape))?;
        }
        for (key, mut values) in activations {
            values.sort_by_key(|(layer, _)| *layer);
            config.list(&mut self.metadata, key, values.into_iter().map(|(_, value)| value).collect());
        }
        config.write(&mut self.metadata)?;
        self.order.sort();
        Ok(())
    }

    fn insert(&mut self, name: String, tensor: Tensor) -> Result<()> {
        if self.tensors.insert(name.clone(), tensor).is_some() {
            return Err(self.fault(format!("tensor `{name}` is there twice")));
        }
        self.order.push(name);
        Ok(())
    }

    /// A piece that is a vector at least: a single number has no rows.
    fn readable(&self, name: &str, piece: Piece) -> Result<Piece> {
        if piece.shape.is_empty() {
            return Err(self.odd(name));
        }
        Ok(piece)
    }

    /// The values of a small tensor.
    fn floats(&self, name: &str, piece: &Piece) -> Result<Vec<f32>> {
        let bytes = self.bytes(piece)?;
        Ok(match piece.kind {
            GgmlType::F32 => bytes.as_chunks::<4>().0.iter().map(|&value| f32::from_le_bytes(value)).collect(),
            GgmlType::F16 => bytes.as_chunks::<2>().0.iter().map(|&value| f16::from_le_bytes(value).to_f32()).collect(),
            GgmlType::BF16 => {
                bytes.as_chunks::<2>().0.iter().map(|&value| bf16::from_le_bytes(value).to_f32()).collect()
            }
            _ => return Err(self.odd(name)),
        })
    }

    fn bytes(&self, piece: &Piece) -> Result<&[u8]> {
        let shard = &self.shards[piece.shard];
        // To touch what is mapped behind the end of a file ends the program.
        let now = shard.file.metadata().map_err(|source| Error::io("read", &shard.path, source))?.len();
        if piece.range.end as u64 > now {
            let what = format!("was cut short while it was read, to {now} bytes");
            return Err(Error::input(&shard.path, what, "let nothing write to it meanwhile, or get it again"));
        }
        Ok(&shard.map[piece.range.clone()])
    }

    fn fault(&self, what: String) -> Error {
        Error::input(&self.folder, what, "get the files of the model again")
    }

    fn odd(&self, name: &str) -> Error {
        self.fault(format!("tensor `{name}` has a shape or type that its model has no use for"))
    }
}

impl Checkpoint for Safetensors {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn tensors(&self) -> Vec<&str> {
        self.order.iter().map(String::as_str).collect()
    }

    fn shape(&self, tensor: &str) -> Option<Vec<usize>> {
        Some(match self.tensors.get(tensor)? {
            Tensor::Stored(piece) => piece.shape.clone(),
            Tensor::Experts(pieces) => [&[pieces.len()], pieces[0].shape.as_slice()].concat(),
            Tensor::Made { shape, .. } => shape.clone(),
        })
    }

    fn kind(&self, tensor: &str) -> Result<GgmlType> {
        match self.tensors.get(tensor) {
            Some(Tensor::Stored(piece)) => Ok(piece.kind),
            Some(Tensor::Experts(pieces)) => Ok(pieces[0].kind),
            Some(Tensor::Made { .. }) => Ok(GgmlType::F32),
            None => Err(self.fault(format!("tensor `{tensor}` is missing"))),
        }
    }

    fn stored(&self, tensor: &str) -> Result<Stored<'_>> {
        let (bytes, kind, shape) = match self.tensors.get(tensor) {
            Some(Tensor::Stored(piece)) => (self.bytes(piece)?, piece.kind, &piece.shape),
            Some(Tensor::Made { bytes, shape }) => (bytes.as_slice(), GgmlType::F32, shape),
            Some(Tensor::Experts(_)) => return Err(self.fault(format!("tensor `{tensor}` does not lie in one piece"))),
            None => return Err(self.fault(format!("tensor `{tensor}` is missing"))),
        };
        let (inputs, outer) = shape.split_last().expect("a tensor with an extent");
        Ok(Stored { kind, bytes, outputs: outer.iter().product(), inputs: *inputs })
    }

    fn rows(&self, tensor: &str, rows: Range<usize>) -> Result<Stored<'_>> {
        let Some(Tensor::Experts(pieces)) = self.tensors.get(tensor) else {
            return Ok(self.stored(tensor)?.rows(rows));
        };
        let (inputs, outer) = pieces[0].shape.split_last().expect("a tensor with an extent");
        let each = outer.iter().product::<usize>().max(1);
        let (expert, first) = (rows.start / each, rows.start % each);
        if first + rows.len() > each || expert >= pieces.len() {
            return Err(self.fault(format!("tensor `{tensor}` does not lie in one piece")));
        }
        let whole =
            Stored { kind: pieces[0].kind, bytes: self.bytes(&pieces[expert])?, outputs: each, inputs: *inputs };
        Ok(whole.rows(first..first + rows.len()))
    }

    fn interleaves_pairs(&self, by_family: bool) -> bool {
        by_family && !self.has_halves
    }

    fn tokenizer(&self, _model: &str) -> Result<Tokenizer> {
        let path = self.folder.join("tokenizer.json");
        if !path.is_file() {
            return Err(missing(&path));
        }
        Tokenizer::from_file(&path)
    }
}

impl Shard {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|source| Error::io("open", path, source))?;
        let length = file.metadata().map_err(|source| Error::io("read", path, source))?.len();
        if length < 8 {
            return Err(damaged(path, "is too short for weights"));
        }
        // SAFETY: the map is private to this process and read-only; nobody is to shorten the file while it is open, and
        // `Safetensors::bytes` looks again before it touches what is behind a cut.
        let map = unsafe { Mmap::map(&file) }.map_err(|source| Error::io("map", path, source))?;
        Ok(Self { path: path.to_owned(), file, map })
    }

    /// Every tensor of the file, `number` among the files.
    fn tensors(&self, number: usize) -> Result<Vec<(String, Piece)>> {
        let (header, metadata) = SafeTensors::read_metadata(&self.map)
            .map_err(|cause| damaged(&self.path, &one_line(&cause.to_string())))?;
        let start = header + 8;
        let mut found = Vec::new();
        for (name, info) in metadata.tensors() {
            let kind = match info.dtype {
                Dtype::F32 => GgmlType::F32,
                Dtype::F16 => GgmlType::F16,
                Dtype::BF16 => GgmlType::BF16,
                other => {
                    let what = format!("tensor `{name}` is in {other:?}, and F32, F16 and BF16 are read");
                    return Err(Error::input(&self.path, what, "use the model as it was before, or a GGUF file of it"));
                }
            };
            let (first, end) = info.data_offsets;
            let range = start + first..start + end;
            if range.end > self.map.len() {
                return Err(damaged(&self.path, &format!("tensor `{name}` lies behind the end of the file")));
            }
            found.push((name.clone(), Piece { shard: number, range, kind, shape: info.shape.clone() }));
        }
        Ok(found)
    }
}

impl Piece {
    /// The first or the second half of its rows.
    fn half(&self, half: usize) -> Option<Self> {
        let (bytes, rows) = (self.range.len() / 2, *self.shape.first()?);
        if !rows.is_multiple_of(2) || self.shape.len() < 2 {
            return None;
        }
        let start = self.range.start + half * bytes;
        let shape = [&[rows / 2], &self.shape[1..]].concat();
        Some(Self { range: start..start + bytes, shape, ..self.clone() })
    }
}

fn made(values: impl Iterator<Item = f32>, shape: Vec<usize>) -> Tensor {
    Tensor::Made { bytes: values.flat_map(f32::to_le_bytes).collect(), shape }
}

/// The files of weights in a folder: those that the index names, else the one that there is.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let index = folder.join("model.safetensors.index.json");
    let Some(listed) = json(&index)? else {
        let usual = folder.join("model.safetensors");
        return if usual.is_file() { Ok(vec![usual]) } else { Err(missing(&usual)) };
    };
    let names: BTreeSet<&str> =
        listed["weight_map"].as_object().into_iter().flatten().filter_map(|(_, file)| file.as_str()).collect();
    if names.is_empty() {
        return Err(Error::input(&index, "names no file of weights", "get the files of the model again"));
    }
    let place = |name: &str| {
        if name.contains(['/', '\\']) || name.starts_with('.') {
            return Err(Error::input(&index, format!("names {name:?}, which leaves its folder"), "get it again"));
        }
        let path = folder.join(name);
        if path.is_file() { Ok(path) } else { Err(missing(&path)) }
    };
    names.into_iter().map(place).collect()
}

/// A JSON file; `None` when there is none.
fn json(path: &Path) -> Result<Option<Value>> {
    let size = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::io("read", path, source)),
    };
    if size > MOST_JSON_BYTES {
        return Err(Error::input(path, "is larger than 64 MiB", "get the files of the model again"));
    }
    let bytes = std::fs::read(path).map_err(|source| Error::io("read", path, source))?;
    let value = serde_json::from_slice(&bytes).map_err(|error| {
        Error::input(path, format!("line {}: is not JSON: {error}", error.line()), "get the file again")
    })?;
    Ok(Some(value))
}

fn missing(path: &Path) -> Error {
    let folder = path.parent().unwrap_or(Path::new("")).display();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let what = format!("is missing beside the other files of the model in {folder}");
    Error::input(name.as_ref(), what, "get all files of its repository")
}

fn damaged(path: &Path, what: &str) -> Error {
    Error::input(path, what, "the download is incomplete or damaged; get the file again")
}

fn one_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
