//! The byte reader of the container: bounds first, then values.
//!
//! Nothing here allocates more than a small multiple of the bytes that are present, nests deeper
//! than [`MAX_DEPTH`], or takes a number from the file without checking it.

use std::path::Path;

use super::TensorInfo;
use super::metadata::{Array, Metadata, Value};
use super::types::GgmlType;
use crate::error::{Error, Result};

/// Lists of lists deeper than this are refused; real files have none.
const MAX_DEPTH: u32 = 4;
/// Tensors have at most this many dimensions (`GGML_MAX_DIMS`).
const MAX_DIMS: u32 = 4;
/// Longest key or tensor name.
const MAX_NAME_BYTES: u64 = 65_535;
/// What a tensor costs in the directory at least: name length, dimension count, type, offset.
const MIN_TENSOR_BYTES: u64 = 8 + 4 + 4 + 8;
/// What a key-value pair costs at least: key length, type, one byte.
const MIN_PAIR_BYTES: u64 = 8 + 4 + 1;

/// What a file says before its tensor data.
pub(super) struct Directory {
    pub version: u32,
    pub alignment: u64,
    pub metadata: Metadata,
    pub tensors: Vec<TensorInfo>,
}

/// Reads everything before the tensor data and checks that the data is there, in a file of `length` bytes that begins
/// with these.
pub(super) fn directory(bytes: &[u8], length: u64, path: &Path) -> Result<Directory> {
    let mut reader = Reader { bytes, at: 0, path };
    let version = header(&mut reader)?;
    let tensor_count = reader.u64("the tensor count")?;
    let pair_count = reader.u64("the metadata count")?;
    reader.fits(pair_count, MIN_PAIR_BYTES, "metadata entries")?;
    let mut metadata = Metadata::new(path);
    for _ in 0..pair_count {
        let key = reader.name("a metadata key")?;
        let kind = reader.u32(&key)?;
        let value = reader.value(kind, &key, 0)?;
        if !metadata.insert(key.as_str(), value) {
            return Err(damaged(path, format!("metadata key `{key}` is listed twice")));
        }
    }
    let alignment = metadata.opt_u32("general.alignment")?.map_or(32, u64::from);
    if !alignment.is_power_of_two() {
        return Err(damaged(path, format!("metadata key `general.alignment` is {alignment}, not a power of two")));
    }
    reader.fits(tensor_count, MIN_TENSOR_BYTES, "tensors")?;
    let mut tensors = Vec::new();
    for _ in 0..tensor_count {
        tensors.push(reader.tensor(alignment)?);
    }
    let data_start = reader.at.next_multiple_of(alignment);
    for tensor in &mut tensors {
        let end = tensor.offset.checked_add(data_start).and_then(|offset| {
            tensor.offset = offset;
            offset.checked_add(tensor.size_bytes.unwrap_or_default())
        });
        match end {
            Some(end) if end <= length => {}
            _ => {
                let needs = end.map_or_else(|| "more than 2^64".into(), |end| end.to_string());
                let name = &tensor.name;
                let what = format!("tensor {name} needs {needs} bytes, file has {length}");
                return Err(truncated(path, &what));
            }
        }
    }
    Ok(Directory { version, alignment, metadata, tensors })
}

/// A file that ends too early.
pub(super) fn truncated(path: &Path, what: &str) -> Error {
    Error::input(path, format!("truncated: {what}"), "the download is incomplete; get the file again")
}

/// A file that contradicts itself.
pub(super) fn damaged(path: &Path, what: String) -> Error {
    Error::input(path, what, "the file is damaged; get it again")
}

/// Checks the magic and gives the version.
fn header(reader: &mut Reader<'_>) -> Result<u32> {
    let path = reader.path;
    let magic = reader.bytes.get(..4).unwrap_or(reader.bytes);
    if magic != &b"GGUF"[..magic.len()] {
        let (what, remedy) = other_file(reader.bytes);
        return Err(Error::input(path, what, remedy));
    }
    reader.take(4, "the header")?;
    let version = reader.u32("the version")?;
    match version {
        2 | 3 => Ok(version),
        1 => Err(Error::input(path, "is GGUF version 1", "convert the model again; versions 2 and 3 are read")),
        _ if (1..=3).contains(&version.swap_bytes()) => {
            Err(Error::input(path, "is a big-endian GGUF file", "use the little-endian file of the same model"))
        }
        _ => Err(Error::input(path, format!("is GGUF version {version}"), "versions 2 and 3 are read")),
    }
}

/// What a file that is no model is instead, and how to get the model.
fn other_file(bytes: &[u8]) -> (&'static str, &'static str) {
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(256)]).trim_start().to_ascii_lowercase();
    if start.starts_with("version https://git-lfs") {
        (
            "is a git LFS pointer, not the file that it stands for",
            "run `git lfs pull` in its repository, or download the file",
        )
    } else if start.starts_with("<!doctype html") || start.starts_with("<html") {
        (
            "is an HTML page, not a GGUF file",
            "the address was of a page about the file, or asked for a login; download the file itself",
        )
    } else {
        ("is not a GGUF file", "give a .gguf model file, or convert the model to GGUF")
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: u64,
    path: &'a Path,
}

impl<'a> Reader<'a> {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn left(&self) -> u64 {
        self.len() - self.at
    }

    /// Fails unless `count` things of at least `each` bytes can still follow.
    fn fits(&self, count: u64, each: u64, what: &str) -> Result<()> {
        match count.checked_mul(each) {
            Some(needed) if needed <= self.left() => Ok(()),
            _ => Err(truncated(self.path, &format!("{count} {what} cannot fit in the {} bytes left", self.left()))),
        }
    }

    fn take(&mut self, count: u64, what: &str) -> Result<&'a [u8]> {
        if count > self.left() {
            let needed = self.at.saturating_add(count);
            return Err(truncated(self.path, &format!("{what} needs {needed} bytes, file has {}", self.len())));
        }
        let start = usize::try_from(self.at).expect("the position is inside a slice");
        let count = usize::try_from(count).expect("the count is at most the length of a slice");
        self.at += count as u64;
        Ok(&self.bytes[start..start + count])
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let bytes = self.take(N as u64, what)?;
        Ok(bytes.try_into().expect("`take` gives the length asked for"))
    }

    fn u32(&mut self, what: &str) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &str) -> Result<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    fn name(&mut self, what: &str) -> Result<String> {
        let length = self.u64(what)?;
        if length > MAX_NAME_BYTES {
            return Err(damaged(self.path, format!("{what} is {length} bytes long")));
        }
        let name = self.text_of(length, what)?;
        if name.chars().any(char::is_control) {
            return Err(damaged(self.path, format!("{what} holds control characters: {name:?}")));
        }
        Ok(name)
    }

    fn text(&mut self, what: &str) -> Result<String> {
        let length = self.u64(what)?;
        self.text_of(length, what)
    }

    fn text_of(&mut self, length: u64, what: &str) -> Result<String> {
        let bytes = self.take(length, what)?;
        let text = std::str::from_utf8(bytes).map_err(|_| damaged(self.path, format!("{what} is not UTF-8")))?;
        Ok(text.to_owned())
    }

    fn bool(&mut self, what: &str) -> Result<bool> {
        match self.array::<1>(what)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(damaged(self.path, format!("{what} is {other}, not a truth value"))),
        }
    }

    fn value(&mut self, kind: u32, key: &str, depth: u32) -> Result<Value> {
        Ok(match kind {
            0 => Value::Unsigned(u8::from_le_bytes(self.array(key)?).into()),
            1 => Value::Signed(i8::from_le_bytes(self.array(key)?).into()),
            2 => Value::Unsigned(u16::from_le_bytes(self.array(key)?).into()),
            3 => Value::Signed(i16::from_le_bytes(self.array(key)?).into()),
            4 => Value::Unsigned(self.u32(key)?.into()),
            5 => Value::Signed(i32::from_le_bytes(self.array(key)?).into()),
            6 => Value::Float(f32::from_le_bytes(self.array(key)?).into()),
            7 => Value::Bool(self.bool(key)?),
            8 => Value::String(self.text(key)?),
            9 => Value::Array(self.list(key, depth)?),
            10 => Value::Unsigned(self.u64(key)?),
            11 => Value::Signed(i64::from_le_bytes(self.array(key)?)),
            12 => Value::Float(f64::from_le_bytes(self.array(key)?)),
            _ => return Err(damaged(self.path, format!("metadata key `{key}` has the unknown type {kind}"))),
        })
    }

    fn list(&mut self, key: &str, depth: u32) -> Result<Array> {
        if depth >= MAX_DEPTH {
            return Err(damaged(self.path, format!("metadata key `{key}` nests lists deeper than {MAX_DEPTH}")));
        }
        let kind = self.u32(key)?;
        let count = self.u64(key)?;
        let each = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            9 => 12,
            _ => return Err(damaged(self.path, format!("metadata key `{key}` lists the unknown type {kind}"))),
        };
        self.fits(count, each, &format!("elements of `{key}`"))?;
        Ok(match kind {
            0 => Array::Bytes(self.take(count, key)?.to_vec()),
            1 => Array::Signed(self.each(count, key, |bytes| i8::from_le_bytes(bytes).into())?),
            2 => Array::Unsigned(self.each(count, key, |bytes| u16::from_le_bytes(bytes).into())?),
            3 => Array::Signed(self.each(count, key, |bytes| i16::from_le_bytes(bytes).into())?),
            4 => Array::Unsigned(self.each(count, key, |bytes| u32::from_le_bytes(bytes).into())?),
            5 => Array::Signed(self.each(count, key, |bytes| i32::from_le_bytes(bytes).into())?),
            6 => Array::Float(self.each(count, key, f32::from_le_bytes)?),
            7 => Array::Bool((0..count).map(|_| self.bool(key)).collect::<Result<_>>()?),
            8 => Array::String((0..count).map(|_| self.text(key)).collect::<Result<_>>()?),
            9 => Array::Nested((0..count).map(|_| self.list(key, depth + 1)).collect::<Result<_>>()?),
            10 => Array::Unsigned(self.each(count, key, u64::from_le_bytes)?),
            11 => Array::Signed(self.each(count, key, i64::from_le_bytes)?),
            _ => Array::Double(self.each(count, key, f64::from_le_bytes)?),
        })
    }

    /// `count` numbers of `N` bytes; the caller has checked that they fit.
    fn each<const N: usize, T>(&mut self, count: u64, key: &str, read: fn([u8; N]) -> T) -> Result<Vec<T>> {
        let bytes = self.take(count * N as u64, key)?;
        let (chunks, _) = bytes.as_chunks::<N>();
        Ok(chunks.iter().map(|&chunk| read(chunk)).collect())
    }

    /// One entry of the directory; its offset is still relative to the start of the data.
    fn tensor(&mut self, alignment: u64) -> Result<TensorInfo> {
        let name = self.name("a tensor name")?;
        let what = format!("the entry of tensor {name}");
        let dim_count = self.u32(&what)?;
        if dim_count > MAX_DIMS {
            let what = format!("tensor `{name}` has {dim_count} dimensions; at most {MAX_DIMS} are possible");
            return Err(damaged(self.path, what));
        }
        let dims = (0..dim_count).map(|_| self.u64(&what)).collect::<Result<Vec<_>>>()?;
        let type_id = self.u32(&what)?;
        let offset = self.u64(&what)?;
        if offset % alignment != 0 {
            let what = format!("tensor `{name}` starts at {offset}, which is not a multiple of {alignment}");
            return Err(damaged(self.path, what));
        }
        let elements = dims.iter().try_fold(1u64, |product, &dim| product.checked_mul(dim));
        let Some(elements) = elements else {
            return Err(damaged(self.path, format!("tensor `{name}` has the impossible shape {dims:?}")));
        };
        let mut size_bytes = None;
        if let Some(kind) = GgmlType::from_id(type_id) {
            let columns = dims.first().copied().unwrap_or(1);
            if columns % kind.block_elements() != 0 {
                let what = format!("tensor `{name}` has {columns} columns, which {kind:?} cannot divide into blocks");
                return Err(damaged(self.path, what));
            }
            size_bytes = (elements / kind.block_elements()).checked_mul(kind.block_bytes());
            if size_bytes.is_none() {
                return Err(damaged(self.path, format!("tensor `{name}` has the impossible shape {dims:?}")));
            }
        }
        Ok(TensorInfo { name, dims, type_id, offset, size_bytes, part: 0, path: self.path.to_owned() })
    }
}
