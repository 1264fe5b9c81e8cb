//! Rows that a command takes: a file, a directory, or what comes on stdin.

use std::fs::File;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::{Error, Result};

/// Where rows are read from. Commands go through rows more than once, so what comes on stdin is kept in a file for
/// as long as this is.
pub(super) struct Input {
    path: PathBuf,
    _kept: Option<TempDir>,
}

impl Input {
    /// The rows at a path; `-` is stdin.
    ///
    /// # Errors
    /// When stdin cannot be kept.
    pub(super) fn of(path: &Path) -> Result<Self> {
        if path != Path::new("-") {
            return Ok(Self { path: path.to_owned(), _kept: None });
        }
        let folder = tempfile::tempdir().map_err(|cause| Error::io("create", std::env::temp_dir(), cause))?;
        let path = folder.path().join("stdin");
        let mut file = File::create(&path).map_err(|cause| Error::io("create", &path, cause))?;
        std::io::copy(&mut std::io::stdin().lock(), &mut file).map_err(|cause| Error::io("keep", "stdin", cause))?;
        Ok(Self { path, _kept: Some(folder) })
    }

    /// Where they are.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}
