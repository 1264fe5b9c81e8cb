//! The GGUF container: metadata, the tensor directory, and where each tensor's bytes lie.
//!
//! Reads versions 2 and 3, and writes 3, little-endian (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>).
//! A file is untrusted: every count and offset is checked against the bytes that are there before
//! anything is allocated, so a damaged file ends in one clear error. What the values mean, and how
//! tensors are computed with, is for other rooms.

mod metadata;
mod read;
mod split;
mod types;
mod write;

use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use rustc_hash::FxHashMap;

use crate::error::{Error, Result};
pub use metadata::{Array, Metadata, Value};
pub use split::parts_of;
pub use types::GgmlType;
pub(crate) use types::type_name;
pub use write::{ALIGNMENT, Entry, head};

/// An open GGUF file, or the files of a model that lies in several.
#[derive(Debug)]
pub struct Gguf {
    /// One of each part.
    data: Vec<Data>,
    version: u32,
    alignment: u64,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
    by_name: FxHashMap<String, usize>,
}

/// One entry of the tensor directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// The name, as in `blk.0.attn_q.weight`.
    pub name: String,
    /// Extents as stored: the fastest-varying first, so a matrix reads `[columns, rows]`.
    pub dims: Vec<u64>,
    /// The type's number in the file; [`TensorInfo::ggml_type`] makes sense of it.
    pub type_id: u32,
    /// First byte in the file.
    pub offset: u64,
    /// Bytes taken; `None` when the type is not one that this reader knows.
    pub size_bytes: Option<u64>,
    /// The file that holds it, among the parts of a model.
    part: usize,
    path: PathBuf,
}

#[derive(Debug)]
enum Data {
    Mapped(Mmap, File),
    Owned(Vec<u8>),
}

impl Gguf {
    /// Maps a file into memory and reads its directory; tensor bytes are not touched. Of a model in several files any
    /// may be given: the others are found beside it, see [`parts_of`].
    ///
    /// # Errors
    /// When the file cannot be read, is not GGUF of version 2 or 3 in little-endian order, is
    /// truncated, or contradicts itself, or a part of the model is missing or of another one.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        split::join(Self::open_one(path)?, path)
    }

    fn open_one(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|source| Error::io("open", path, source))?;
        let about = file.metadata().map_err(|source| Error::io("read", path, source))?;
        if about.is_dir() {
            return Err(Error::input(path, "is a directory, not a GGUF file", "give the path of the file inside"));
        }
        if about.len() == 0 {
            return Err(read::truncated(path, "the header needs 24 bytes, file has 0"));
        }
        // SAFETY: the map is private to this process and read-only. Its contract is that nobody
        // shortens or rewrites the file while it is open; model files are written once, and a
        // file replaced by rename (as this program and download tools do) keeps the old bytes.
        let map = unsafe { Mmap::map(&file) }.map_err(|source| Error::io("map", path, source))?;
        Self::from_data(Data::Mapped(map, file), path)
    }

    /// Reads a container from bytes in memory, which are copied; `name` stands for the path in errors.
    ///
    /// # Errors
    /// As [`Gguf::open`].
    pub fn parse(bytes: &[u8], name: impl AsRef<Path>) -> Result<Self> {
        Self::from_data(Data::Owned(bytes.to_vec()), name.as_ref())
    }

    /// Reads what stands before the weights of a model: of each of its files, in order, the first bytes and the length of
    /// the whole. Everything but [`Gguf::bytes`] works as with the files themselves.
    ///
    /// # Errors
    /// As [`Gguf::open`]; as for a truncated file when the bytes end before the directory of tensors does.
    pub fn from_heads(heads: &[(&[u8], u64)], name: impl AsRef<Path>) -> Result<Self> {
        let name = name.as_ref();
        let mut whole: Option<Self> = None;
        for &(bytes, length) in heads {
            let next = Self::from_directory(Data::Owned(bytes.to_vec()), length, name)?;
            match &mut whole {
                None => whole = Some(next),
                Some(whole) => whole.append(next, name)?,
            }
        }
        whole.ok_or_else(|| read::truncated(name, "there is no file"))
    }

    /// Version of the container: 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Bytes to which tensors are aligned (`general.alignment`, 32 unless given).
    pub fn alignment(&self) -> u64 {
        self.alignment
    }

    /// The key-value part.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The file this was read from.
    pub fn path(&self) -> &Path {
        self.metadata.path()
    }

    /// Every tensor, in file order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor of that name.
    ///
    /// # Errors
    /// When there is none.
    pub fn tensor(&self, name: &str) -> Result<&TensorInfo> {
        self.by_name.get(name).map(|&index| &self.tensors[index]).ok_or_else(|| {
            Error::input(
                self.path(),
                format!("tensor `{name}` is missing"),
                "the file is incomplete or of another architecture; get it again",
            )
        })
    }

    /// The bytes of a tensor of this file, in its stored type.
    ///
    /// # Errors
    /// When the type is unknown, the entry does not belong to this file, or the file was cut short since it was opened.
    pub fn bytes(&self, tensor: &TensorInfo) -> Result<&[u8]> {
        tensor.ggml_type()?;
        let size = tensor.size_bytes.unwrap_or_default();
        if let Some(Data::Mapped(_, file)) = self.data.get(tensor.part) {
            // To touch what is mapped behind the end of a file ends the program.
            let now = file.metadata().map_err(|source| Error::io("read", &tensor.path, source))?.len();
            if tensor.offset.saturating_add(size) > now {
                let what =
                    format!("was cut short while it was read: tensor {} lies behind its {now} bytes", tensor.name);
                return Err(Error::input(&tensor.path, what, "let nothing write to it meanwhile, or get it again"));
            }
        }
        let range = usize::try_from(tensor.offset).ok().zip(usize::try_from(size).ok());
        range
            .and_then(|(start, size)| self.data.get(tensor.part)?.get().get(start..start.checked_add(size)?))
            .ok_or_else(|| Error::input(self.path(), format!("tensor `{}` lies outside the file", tensor.name), ""))
    }

    fn from_data(data: Data, path: &Path) -> Result<Self> {
        let length = data.get().len() as u64;
        Self::from_directory(data, length, path)
    }

    fn from_directory(data: Data, length: u64, path: &Path) -> Result<Self> {
        let read::Directory { version, alignment, metadata, tensors } = read::directory(data.get(), length, path)?;
        let mut by_name = FxHashMap::default();
        for (index, tensor) in tensors.iter().enumerate() {
            if by_name.insert(tensor.name.clone(), index).is_some() {
                return Err(read::damaged(path, format!("tensor `{}` is listed twice", tensor.name)));
            }
        }
        Ok(Self { data: vec![data], version, alignment, metadata, tensors, by_name })
    }
}

impl Data {
    fn get(&self) -> &[u8] {
        match self {
            Self::Mapped(map, _) => map,
            Self::Owned(bytes) => bytes,
        }
    }
}

impl TensorInfo {
    /// The element type.
    ///
    /// # Errors
    /// When this program has no reader for the type; the error names it.
    pub fn ggml_type(&self) -> Result<GgmlType> {
        GgmlType::from_id(self.type_id).ok_or_else(|| {
            Error::input(
                &self.path,
                format!("tensor `{}` has the type {}, which is not supported", self.name, type_name(self.type_id)),
                "use a file quantised as Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K to Q6_K, IQ4_NL, IQ4_XS, MXFP4, TQ1_0, TQ2_0, BF16, F16 \
                 or F32",
            )
        })
    }

    /// Number of elements.
    pub fn elements(&self) -> u64 {
        // Checked against overflow when the directory was read.
        self.dims.iter().product()
    }

    /// Extents with the slowest-varying first, as matrices are usually written: `(rows, columns)`.
    pub fn shape(&self) -> Vec<u64> {
        self.dims.iter().rev().copied().collect()
    }
}
