//! One download of a file at a time, across processes: an advisory lock on a file.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use super::{FetchEvent, FetchOptions};
use crate::{Error, Result};

/// Held until dropped.
pub(super) struct Lock {
    _file: File,
}

/// Takes the lock at `path`, waiting for another process that holds it.
///
/// The lock file stays: removing it would let two processes lock two files of one name.
pub(super) fn take(path: &Path, options: &FetchOptions, on_event: &mut dyn FnMut(FetchEvent<'_>)) -> Result<Lock> {
    let directory = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory).map_err(|source| Error::io("create", directory, source))?;
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(|source| Error::io("create", path, source))?;
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) => {
                if !std::mem::replace(&mut told, true) {
                    on_event(FetchEvent::Note { text: "another process is fetching this model; waiting for it" });
                }
                options.check_stop()?;
                std::thread::sleep(Duration::from_millis(200));
            }
            // A file system without locks: go on, since every step below is atomic by itself.
            Err(TryLockError::Error(error)) => {
                tracing::debug!("no lock at {}: {error}", path.display());
                return Ok(Lock { _file: file });
            }
        }
    }
}
