//! What is packed with gzip or zstd, unpacked while it is read; how much may come out is bounded.

use std::io::{Chain, Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Error;

/// Bytes that may come out of any packed file, and how many times its own size beyond them.
const ALWAYS: u64 = 1 << 30;
const TIMES: u64 = 200;

/// How a file is packed, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

/// What stands in a file of `size` bytes, without what it is packed with.
pub(super) fn unpacked(mut file: impl Read + 'static, size: u64) -> std::io::Result<(Packing, Box<dyn Read>)> {
    let mut head = Vec::new();
    file.by_ref().take(4).read_to_end(&mut head)?;
    let packing = match head.as_slice() {
        [0x1f, 0x8b, ..] => Packing::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd] => Packing::Zstd,
        _ => Packing::None,
    };
    let whole = Cursor::new(head).chain(file);
    let left = ALWAYS.max(size.saturating_mul(TIMES));
    let reader: Box<dyn Read> = match packing {
        Packing::None => Box::new(whole),
        Packing::Gzip => Box::new(Bounded { inner: flate2::read::MultiGzDecoder::new(whole), left }),
        Packing::Zstd => Box::new(Bounded { inner: zstd::stream::read::Decoder::new(whole)?, left }),
    };
    Ok((packing, reader))
}

/// The error for what could not be read: a disk's word, or that of an unpacker.
pub(super) fn told(path: &Path, cause: std::io::Error) -> Error {
    use std::io::ErrorKind;
    let is_content = matches!(
        cause.kind(),
        ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof | ErrorKind::Other
    );
    // What the system says has a number; what an unpacker says has none.
    if is_content && cause.raw_os_error().is_none() {
        let what = format!("cannot be unpacked: {cause}").replace(['\n', '\r'], " ");
        return Error::input(path, what, "check that the file is whole, and pack it again");
    }
    Error::io("read", path, cause)
}

/// Ends with an error where more comes out than is plausible.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            std::io::Error::other(format!("more than {} GiB and {TIMES} times its size come out of it", ALWAYS >> 30))
        })?;
        Ok(read)
    }
}

/// A reader that says how much was read.
pub(super) struct Counted {
    inner: Chain<Cursor<Vec<u8>>, Box<dyn Read>>,
    read: Arc<AtomicU64>,
}

impl Counted {
    pub(super) fn new(inner: Chain<Cursor<Vec<u8>>, Box<dyn Read>>) -> Self {
        Self { inner, read: Arc::default() }
    }

    /// What has been read, while somebody else reads.
    pub(super) fn count(&self) -> Arc<AtomicU64> {
        self.read.clone()
    }
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
