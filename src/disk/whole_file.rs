//! Whole files or nothing: what is written appears under its name only when it is complete.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{Error, Remedy, Result, setting};

/// Refuses a path at which something stands already; who insists is asked with the setting `force`.
///
/// # Errors
/// When something stands there.
pub(crate) fn check_free(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Err(Error::io("write", path, std::io::Error::from(std::io::ErrorKind::IsADirectory)));
    }
    if std::fs::symlink_metadata(path).is_ok() {
        let remedy = Remedy::from("choose another name, or add ").name(setting::FORCE).and(" to replace it");
        return Err(Error::input(path, "there is a file of this name already", remedy));
    }
    Ok(())
}

/// A file under way. Dropped before [`WholeFile::finish`], it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct WholeFile {
    path: PathBuf,
    /// It may replace what stands at its path.
    replaces: bool,
    writer: BufWriter<NamedTempFile>,
}

impl WholeFile {
    /// Begins a file that will replace what stands at `path`. It lies beside it until it is whole.
    ///
    /// # Errors
    /// When `path` is a directory, a link or a pipe, or its folder cannot be written.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        if path.is_dir() {
            let cause = std::io::Error::from(std::io::ErrorKind::IsADirectory);
            return Err(Error::io("write", path, cause));
        }
        super::check_plain(path)?;
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut builder = tempfile::Builder::new();
        // As any other new file, within the user's mask; the default is for secrets.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(folder).map_err(|cause| Error::io("write", path, cause))?;
        Ok(Self { path: path.to_owned(), replaces: true, writer: BufWriter::with_capacity(1 << 18, file) })
    }

    /// Begins a file where none stands, unless `force` says that it may be replaced.
    ///
    /// # Errors
    /// As [`WholeFile::create`] and [`check_free`].
    pub(crate) fn create_new(path: &Path, force: bool) -> Result<Self> {
        if !force {
            check_free(path)?;
        }
        Ok(Self { replaces: force, ..Self::create(path)? })
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.writer.write_all(bytes).map_err(|cause| Error::io("write", &self.path, cause))
    }

    /// Waits until the file is on the disk, and puts it in its place.
    ///
    /// # Errors
    /// When the disk refuses; what stood at the path is then still there.
    pub(crate) fn finish(self) -> Result<()> {
        let fail = |cause| Error::io("write", &self.path, cause);
        let file = self.writer.into_inner().map_err(|cause| fail(cause.into_error()))?;
        file.as_file().sync_all().map_err(fail)?;
        let put = if self.replaces { file.persist(&self.path) } else { file.persist_noclobber(&self.path) };
        put.map(|_| ()).map_err(|cause| fail(cause.error))
    }
}

/// For encoders that want a writer.
impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.writer.flush()
    }
}

/// Writes a whole file.
///
/// # Errors
/// When the disk refuses; what stood at the path is then still there.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = WholeFile::create(path)?;
    file.append(bytes)?;
    file.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_when_it_is_whole_and_not_before() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("a.jsonl");
        write_whole(&path, b"one").expect("written");
        let mut file = WholeFile::create(&path).expect("created");
        file.append(b"two").expect("written");
        assert_eq!(std::fs::read(&path).expect("read"), b"one");
        drop(file);
        assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 1);
        write_whole(&path, b"three").expect("written");
        assert_eq!(std::fs::read(&path).expect("read"), b"three");
        assert!(WholeFile::create_new(&path, false).is_err());
        let other = folder.path().join("b.jsonl");
        let late = WholeFile::create_new(&other, false).expect("created");
        std::fs::write(&other, "somebody else's").expect("written");
        assert!(late.finish().is_err());
        assert_eq!(std::fs::read(&other).expect("read"), b"somebody else's");
        WholeFile::create_new(&other, true).expect("created").finish().expect("replaced");
        assert!(WholeFile::create(folder.path()).is_err());
        assert!(WholeFile::create(&folder.path().join("none/a")).is_err());
    }
}
