//! Whether a file is what its manifest asks for: size and SHA-256, remembered until it changes.
//!
//! Reading a file whole at each start would cost a second a few gigabytes; a small record of
//! (path, size, times of modification and change, sum) beside the cache spares it. The record is a convenience:
//! without it, or when it does not match, the file is summed again.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use sha2::{Digest as _, Sha256};

use super::Places;
use crate::catalog::manifest::Check;
use crate::{Error, Result};

/// SHA-256 of a whole file, as 64 lower-case hex digits, taken from the record when the file has
/// not changed since it was summed.
///
/// # Errors
///
/// [`Error::Io`] when the file cannot be read.
pub fn sha256_of_file(path: &Path, places: &Places) -> Result<String> {
    let record = Record::of(path, places)?;
    if let Some(known) = record.read() {
        return Ok(known);
    }
    let sum = sum_file(path)?;
    record.write(&sum);
    Ok(sum)
}

/// SHA-256 of some bytes, as 64 lower-case hex digits.
pub fn sha256_of(bytes: &[u8]) -> String {
    let mut sum = Sum::default();
    sum.update(bytes);
    sum.finish()
}

/// What a check found.
pub(super) enum Verdict {
    Good { size_bytes: u64 },
    Bad { what: String },
}

/// Holds `path` to `check`; a file that nothing is known of is good.
pub(super) fn check_remembered(path: &Path, check: Option<&Check>, places: &Places) -> Result<Verdict> {
    let size_bytes = std::fs::metadata(path).map_err(|source| Error::io("read", path, source))?.len();
    let Some(check) = check else { return Ok(Verdict::Good { size_bytes }) };
    if size_bytes != check.size_bytes {
        return Ok(Verdict::Bad { what: wrong_size(size_bytes, check) });
    }
    let sum = sha256_of_file(path, places)?;
    Ok(if sum == check.sha256 { Verdict::Good { size_bytes } } else { Verdict::Bad { what: wrong_sum(&sum, check) } })
}

/// Remembers that a file just written has this sum.
pub(super) fn remember(path: &Path, sum: &str, places: &Places) {
    if let Ok(record) = Record::of(path, places) {
        record.write(sum);
    }
}

/// How a file of the wrong size is described.
pub(super) fn wrong_size(size_bytes: u64, check: &Check) -> String {
    format!("is {size_bytes} bytes, where the manifest asks for {}", check.size_bytes)
}

/// How a file of the wrong sum is described.
pub(super) fn wrong_sum(sum: &str, check: &Check) -> String {
    format!("has sha256 {sum}, where the manifest asks for {}", check.sha256)
}

/// A SHA-256 in the making.
#[derive(Clone, Default)]
pub(super) struct Sum(Sha256);

impl Sum {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Reads `from` to its end.
    pub(super) fn update_from(&mut self, from: &mut impl Read) -> std::io::Result<()> {
        let mut buffer = vec![0; 1 << 18];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => self.update(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}

fn sum_file(path: &Path) -> Result<String> {
    let mut sum = Sum::default();
    std::fs::File::open(path)
        .and_then(|mut file| sum.update_from(&mut file))
        .map_err(|source| Error::io("read", path, source))?;
    Ok(sum.finish())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Which file it is, and when anything about it last changed: unlike the time of modification, this cannot be set back.
#[cfg(unix)]
fn changed(metadata: &std::fs::Metadata) -> String {
    use std::os::unix::fs::MetadataExt as _;
    format!("{} {}.{}", metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
}

/// When it was made: a file put in place of another has its own time.
#[cfg(not(unix))]
fn changed(metadata: &std::fs::Metadata) -> String {
    let created = metadata.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    created.unwrap_or_default().as_nanos().to_string()
}

/// The record of one file: named by its path, it holds what the file was when it was summed.
struct Record {
    path: PathBuf,
    state: String,
}

impl Record {
    fn of(path: &Path, places: &Places) -> Result<Self> {
        let fault = |source| Error::io("read", path, source);
        let real = std::fs::canonicalize(path).map_err(fault)?;
        let metadata = std::fs::metadata(&real).map_err(fault)?;
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let (modified, changed) = (modified.unwrap_or_default().as_nanos(), changed(&metadata));
        let state = format!("{} {modified} {changed} {}", metadata.len(), real.display());
        let mut name = Sum::default();
        name.update(real.as_os_str().as_encoded_bytes());
        Ok(Self { path: places.cache.join("verified").join(&name.finish()[..32]), state })
    }

    fn read(&self) -> Option<String> {
        let text = std::fs::read_to_string(&self.path).ok()?;
        let (sum, state) = text.strip_suffix('\n')?.split_once(' ')?;
        (state == self.state && sum.len() == 64).then(|| sum.to_owned())
    }

    /// Writes what it can: a cache that cannot be written only costs the next start its time.
    fn write(&self, sum: &str) {
        let Some(directory) = self.path.parent() else { return };
        let written = std::fs::create_dir_all(directory).and_then(|()| {
            let mut file = tempfile::NamedTempFile::new_in(directory)?;
            writeln!(file, "{sum} {}", self.state)?;
            file.persist(&self.path).map_err(|error| error.error)?;
            Ok(())
        });
        if let Err(error) = written {
            tracing::debug!("cannot remember the sum of a file in {}: {error}", directory.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_sum_is_remembered_until_the_file_changes() {
        let directory = tempfile::tempdir().unwrap();
        let places = Places::under(directory.path());
        let path = directory.path().join("f");
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(sha256_of_file(&path, &places).unwrap(), ABC);
        let record = Record::of(&path, &places).unwrap();
        assert_eq!(record.read().as_deref(), Some(ABC));
        // A planted record is believed, which shows that the file is not read again…
        record.write(&"0".repeat(64));
        assert_eq!(sha256_of_file(&path, &places).unwrap(), "0".repeat(64));
        // …until the file is written, even with the same content and size.
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(5)).unwrap();
        assert_eq!(sha256_of_file(&path, &places).unwrap(), ABC);
    }

    #[cfg(unix)]
    #[test]
    fn a_time_that_is_set_back_hides_no_change() {
        let directory = tempfile::tempdir().unwrap();
        let places = Places::under(directory.path());
        let path = directory.path().join("f");
        std::fs::write(&path, "abd").unwrap();
        let before = std::fs::metadata(&path).unwrap().modified().unwrap();
        assert_ne!(sha256_of_file(&path, &places).unwrap(), ABC);
        std::fs::write(&path, "abc").unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(before).unwrap();
        assert_eq!(sha256_of_file(&path, &places).unwrap(), ABC);
    }

    #[test]
    fn a_cache_that_cannot_be_written_does_no_harm() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        std::fs::write(&path, "abc").unwrap();
        let places = Places { cache: path.clone(), ..Places::under(directory.path()) };
        assert_eq!(sha256_of_file(&path, &places).unwrap(), ABC);
    }
}
