//! Models as their makers publish them: a folder with `config.json`, `tokenizer.json`, and weights in safetensors, in
//! one file or several with an index.
//!
//! What the rest of this room reads is GGUF's words ([`Checkpoint`]), so this file says in them what lies here: names
//! of tensors and keys by the tables of [`names`] and [`config`], which follow llama.cpp's
//! converter. Weights stay where they are: rows of experts lie in tensors of their own and are handed out one by one,
//! and what the converter would put in another order, or what lies in 8-bit floats with scales beside them, is made
//! when it is asked for, and not kept. Only small vectors are made anew. A folder is untrusted: the container's header
//! is checked by the safetensors crate, every place against the file.

mod config;
mod names;
mod source;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use rustc_hash::FxHashMap;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use super::checkpoint::Checkpoint;
use super::kernels::packed::Stored;
use crate::error::{Error, Result};
use crate::gguf::{GgmlType, Metadata, Value as Entered};
use crate::tokenizer::{self, Tokenizer};
use config::Config;
use names::Target;
use source::{Change, Piece, Source};

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
    /// In one piece.
    Whole(Source),
    /// One expert after the other, each in a tensor of its own.
    Experts(Vec<Source>),
    /// Made here, in f32.
    Made { bytes: Vec<u8>, shape: Vec<usize> },
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
        let mut experts: FxHashMap<String, Vec<(usize, Source)>> = FxHashMap::default();
        let mut pieces = BTreeMap::new();
        for shard in 0..self.shards.len() {
            for (name, piece) in self.shards[shard].tensors(shard)? {
                if pieces.insert(name.clone(), piece).is_some() {
                    return Err(self.fault(format!("tensor `{name}` is there twice")));
                }
            }
        }
        for (name, piece) in &pieces {
            if scaled(name).is_some_and(|scaled| pieces.contains_key(&scaled)) {
                continue;
            }
            match names::target(name, config) {
                Target::Nothing => {}
                Target::Tensor(target) => {
                    let source = self.source(name, piece.clone(), &pieces, config)?;
                    let tensor = self.changed(name, &target, source, config)?;
                    self.insert(target, tensor)?;
                }
                Target::Halves(targets) => {
                    for (half, target) in targets.into_iter().enumerate() {
                        let half = piece.half(half).ok_or_else(|| self.odd(name))?;
                        let source = Source::plain(half).ok_or_else(|| self.unread(name, piece))?;
                        self.insert(target, Tensor::Whole(source))?;
                    }
                }
                Target::InTurn(targets) => {
                    let step = targets.len();
                    for (first, target) in targets.into_iter().enumerate() {
                        let tensor = self.in_turn(name, piece, &pieces, first, step)?;
                        self.insert(target, tensor)?;
                    }
                }
                Target::Expert(target, index) => {
                    let source = self.source(name, piece.clone(), &pieces, config)?;
                    experts.entry(target).or_default().push((index, source));
                }
                Target::Activation(key, layer) => {
                    let value = self.floats(name, piece)?.first().copied();
                    activations.entry(key).or_default().push((layer, value.ok_or_else(|| self.odd(name))?));
                }
            }
        }
        for (target, mut sources) in experts {
            sources.sort_by_key(|(index, _)| *index);
            let is_whole = sources.iter().enumerate().all(|(at, (index, _))| at == *index);
            let alike = |one: &Source| (&one.shape, one.kind) == (&sources[0].1.shape, sources[0].1.kind);
            if !is_whole || !sources.iter().all(|(_, one)| alike(one)) {
                return Err(self.fault(format!("experts of `{target}` are missing or unlike each other")));
            }
            self.insert(target, Tensor::Experts(sources.into_iter().map(|(_, one)| one).collect()))?;
        }
        for (name, values) in config.made()? {
            let shape = vec![values.len()];
            self.insert(name, made(values.into_iter(), shape))?;
        }
        for (key, mut values) in activations {
            values.sort_by_key(|(layer, _)| *layer);
            config.list(&mut self.metadata, key, values.into_iter().map(|(_, value)| value).collect());
        }
        config.write(&mut self.metadata)?;
        self.order.sort();
        Ok(())
    }

    /// A piece whose scales, if it has some, are found.
    fn source(&self, name: &str, piece: Piece, pieces: &BTreeMap<String, Piece>, config: &Config) -> Result<Source> {
        if piece.shape.is_empty() {
            // A single number has no rows.
            return Err(self.odd(name));
        }
        if piece.dtype != Dtype::F8_E4M3 {
            let unread = self.unread(name, &piece);
            return Source::plain(piece).ok_or(unread);
        }
        let scales = ["_scale_inv", "_scale"].iter().find_map(|ending| pieces.get(&format!("{name}{ending}")));
        let scales = scales.ok_or_else(|| self.fault(format!("tensor `{name}` has no scales beside it")))?;
        let [outer @ .., outputs, inputs] = piece.shape.as_slice() else { return Err(self.odd(name)) };
        let matrices = outer.iter().product::<usize>();
        let values = self.floats(name, scales)?;
        // In blocks, else one for each row, or one for all.
        let block = config.scale_block().unwrap_or([if values.len() > matrices { 1 } else { *outputs }, *inputs]);
        if block.contains(&0) || values.len() != matrices * outputs.div_ceil(block[0]) * inputs.div_ceil(block[1]) {
            return Err(self.fault(format!("tensor `{name}` has another number of scales than its size asks for")));
        }
        let shape = piece.shape.clone();
        Ok(Source { piece, change: Change::Eights { scales: values, block }, kind: GgmlType::F32, shape })
    }

    /// What the converter makes of a tensor before it names it.
    fn changed(&self, name: &str, target: &str, mut source: Source, config: &Config) -> Result<Tensor> {
        if let Some(shape) = config.reshaped(target, &source.shape) {
            (source.piece.shape, source.shape) = (shape.clone(), shape);
        }
        let (rows, inputs) = source.extents();
        let is_vector = source.shape.len() == 1;
        let order = config.order(target, if is_vector { inputs } else { rows });
        if let Some(function) = config.function(target) {
            let values = self.floats(name, &source.piece)?;
            let at = |at: usize| order.as_ref().map_or(at, |order| order[at]);
            return Ok(made((0..values.len()).map(|index| function(values[at(index)])), source.shape));
        }
        let change = match (order, config.columns(target, inputs)) {
            (Some(_), _) if is_vector => {
                let values = self.floats(name, &source.piece)?;
                let order = config.order(target, inputs).unwrap_or_default();
                return Ok(made(order.into_iter().map(|at| values[at]), source.shape));
            }
            (Some(order), _) => Change::Rows(order),
            (None, Some(order)) => Change::Columns(order),
            (None, None) => return Ok(Tensor::Whole(source)),
        };
        let (Change::AsItIs, Some(_)) = (&source.change, source.piece.kind()) else {
            return Err(self.fault(format!("tensor `{name}` has scales, and its rows would have to change places")));
        };
        Ok(Tensor::Whole(Source { change, ..source }))
    }

    /// The outputs from `first` on, every `step`-th, of what experts have in one tensor: 4-bit floats, floats with
    /// rows and columns exchanged, or biases.
    fn in_turn(
        &self,
        name: &str,
        piece: &Piece,
        pieces: &BTreeMap<String, Piece>,
        first: usize,
        step: usize,
    ) -> Result<Tensor> {
        let is_dealt = |outputs: usize| outputs.is_multiple_of(step);
        match (name.strip_suffix("_blocks"), piece.shape.as_slice()) {
            (Some(stem), &[experts, outputs, blocks, 16]) if piece.dtype == Dtype::U8 && is_dealt(outputs) => {
                let scales = pieces.get(&format!("{stem}_scales")).ok_or_else(|| self.odd(name))?;
                if scales.dtype != Dtype::U8 || scales.shape != [experts, outputs, blocks] {
                    return Err(self.odd(&format!("{stem}_scales")));
                }
                let change = Change::Fours { scales: scales.clone(), first, step };
                let shape = vec![experts, outputs / step, blocks * 32];
                Ok(Tensor::Whole(Source { piece: piece.clone(), change, kind: GgmlType::MXFP4, shape }))
            }
            (None, &[experts, outputs]) if is_dealt(outputs) => {
                let values = self.floats(name, piece)?;
                Ok(made(values.into_iter().skip(first).step_by(step), vec![experts, outputs / step]))
            }
            (None, &[experts, inputs, outputs]) if is_dealt(outputs) => {
                let kind = piece.kind().ok_or_else(|| self.unread(name, piece))?;
                let change = Change::Turned { first, step };
                let shape = vec![experts, outputs / step, inputs];
                Ok(Tensor::Whole(Source { piece: piece.clone(), change, kind, shape }))
            }
            _ => Err(self.odd(name)),
        }
    }

    fn insert(&mut self, name: String, tensor: Tensor) -> Result<()> {
        if self.tensors.insert(name.clone(), tensor).is_some() {
            return Err(self.fault(format!("tensor `{name}` is there twice")));
        }
        self.order.push(name);
        Ok(())
    }

    /// The values of a small tensor.
    fn floats(&self, name: &str, piece: &Piece) -> Result<Vec<f32>> {
        source::floats(piece.dtype, self.bytes(piece)?).ok_or_else(|| self.unread(name, piece))
    }

    /// Some rows of a source.
    fn rows_of(&self, source: &Source, rows: Range<usize>) -> Result<Stored<'_>> {
        let scales = if let Change::Fours { scales, .. } = &source.change { self.bytes(scales)? } else { &[] };
        let (outputs, inputs) = (rows.len(), source.extents().1);
        let bytes = source.rows(self.bytes(&source.piece)?, scales, rows);
        Ok(Stored { kind: source.kind, bytes, outputs, inputs })
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

    fn tokenizer_file(&self) -> Result<PathBuf> {
        let path = self.folder.join("tokenizer.json");
        if path.is_file() { Ok(path) } else { Err(missing(&path)) }
    }

    fn fault(&self, what: String) -> Error {
        Error::input(&self.folder, what, "get the files of the model again")
    }

    fn unread(&self, name: &str, piece: &Piece) -> Error {
        let what = format!("tensor `{name}` is in {:?}, and F32, F16, BF16 and F8_E4M3 are read", piece.dtype);
        let path = &self.shards[piece.shard].path;
        Error::input(path, what, "use the model as it was before, or a GGUF file of it")
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
            Tensor::Whole(source) => source.shape.clone(),
            Tensor::Experts(sources) => [&[sources.len()], sources[0].shape.as_slice()].concat(),
            Tensor::Made { shape, .. } => shape.clone(),
        })
    }

    fn kind(&self, tensor: &str) -> Result<GgmlType> {
        match self.tensors.get(tensor) {
            Some(Tensor::Whole(source)) => Ok(source.kind),
            Some(Tensor::Experts(sources)) => Ok(sources[0].kind),
            Some(Tensor::Made { .. }) => Ok(GgmlType::F32),
            None => Err(self.fault(format!("tensor `{tensor}` is missing"))),
        }
    }

    fn stored(&self, tensor: &str) -> Result<Stored<'_>> {
        match self.tensors.get(tensor) {
            Some(Tensor::Whole(source)) => self.rows_of(source, 0..source.extents().0),
            Some(Tensor::Made { bytes, shape }) => {
                let (inputs, outer) = shape.split_last().expect("a tensor with an extent");
                let bytes = Cow::Borrowed(bytes.as_slice());
                Ok(Stored { kind: GgmlType::F32, bytes, outputs: outer.iter().product(), inputs: *inputs })
            }
            Some(Tensor::Experts(_)) => Err(self.fault(format!("tensor `{tensor}` does not lie in one piece"))),
            None => Err(self.fault(format!("tensor `{tensor}` is missing"))),
        }
    }

    fn rows(&self, tensor: &str, rows: Range<usize>) -> Result<Stored<'_>> {
        match self.tensors.get(tensor) {
            Some(Tensor::Whole(source)) => self.rows_of(source, rows),
            Some(Tensor::Experts(sources)) => {
                let each = sources[0].extents().0.max(1);
                let (expert, first) = (rows.start / each, rows.start % each);
                if first + rows.len() > each || expert >= sources.len() {
                    return Err(self.fault(format!("tensor `{tensor}` does not lie in one piece")));
                }
                self.rows_of(&sources[expert], first..first + rows.len())
            }
            _ => Ok(self.stored(tensor)?.rows(rows)),
        }
    }

    fn is_widened(&self) -> bool {
        let is_one = |source: &Source| matches!(source.change, Change::Eights { .. });
        self.tensors.values().any(|tensor| match tensor {
            Tensor::Whole(source) => is_one(source),
            Tensor::Experts(sources) => sources.iter().any(is_one),
            Tensor::Made { .. } => false,
        })
    }

    fn interleaves_pairs(&self, by_family: bool) -> bool {
        by_family && !self.has_halves
    }

    fn tokenizer(&self, _model: &str) -> Result<Tokenizer> {
        Tokenizer::from_file(&self.tokenizer_file()?)
    }

    fn tokenizer_entries(&self) -> Result<Option<Vec<(String, Entered)>>> {
        let rows = self.shape("token_embd.weight").and_then(|shape| shape.first().copied()).unwrap_or(0);
        let kind = if self.metadata.str("general.architecture")? == "gemma4" { "gemma4" } else { "llama" };
        tokenizer::gguf_entries(&self.tokenizer_file()?, rows, kind).map(Some)
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
            let (first, end) = info.data_offsets;
            let range = start + first..start + end;
            if range.end > self.map.len() {
                return Err(damaged(&self.path, &format!("tensor `{name}` lies behind the end of the file")));
            }
            found.push((name.clone(), Piece { shard: number, range, dtype: info.dtype, shape: info.shape.clone() }));
        }
        Ok(found)
    }
}

/// The tensor whose scales go by that name.
fn scaled(name: &str) -> Option<String> {
    let (stem, is_packed) = ["_scale_inv", "_scale"]
        .iter()
        .find_map(|ending| Some((name.strip_suffix(ending)?, false)))
        .or_else(|| Some((name.strip_suffix("_scales")?, true)))?;
    Some(if is_packed { format!("{stem}_blocks") } else { stem.to_owned() })
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
    let parsed = serde_json::from_slice(&bytes).or_else(|error| {
        // Python writes infinities and what is no number as words, in files of Granite 4 and Nemotron too.
        serde_json::from_slice(&without_words_for_numbers(&bytes)).map_err(|_| error)
    });
    let value = parsed.map_err(|error| {
        Error::input(path, format!("line {}: is not JSON: {error}", error.line()), "get the file again")
    })?;
    Ok(Some(value))
}

/// `text` with null for `Infinity`, `-Infinity` and `NaN` outside of strings.
fn without_words_for_numbers(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let (mut at, mut in_string) = (0, false);
    while let Some(&byte) = text.get(at) {
        let word = [&b"-Infinity"[..], b"Infinity", b"NaN"].into_iter().find(|word| text[at..].starts_with(word));
        match (byte, word) {
            (b'\\', _) if in_string => {
                out.extend(&text[at..(at + 2).min(text.len())]);
                at += 2;
            }
            (_, Some(word)) if !in_string => {
                out.extend(b"null");
                at += word.len();
            }
            _ => {
                in_string ^= byte == b'"';
                out.push(byte);
                at += 1;
            }
        }
    }
    out
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

#[cfg(test)]
mod tests {
    use super::without_words_for_numbers;

    #[test]
    fn numbers_that_python_writes_as_words_are_null() {
        let text = br#"{"a": [0.0, Infinity, -Infinity, NaN], "NaN \" Infinity": "-Infinity\\", "b": 1}"#;
        let read = br#"{"a": [0.0, null, null, null], "NaN \" Infinity": "-Infinity\\", "b": 1}"#;
        assert_eq!(without_words_for_numbers(text), read);
        assert_eq!(without_words_for_numbers(b"\"\\"), b"\"\\");
    }
}
