//! A whole text file of a user.

use std::path::Path;

use crate::error::{Error, Result};

/// Reads a file as text.
///
/// # Errors
/// When it cannot be read, or is not UTF-8.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|cause| match cause.kind() {
        std::io::ErrorKind::InvalidData => Error::input(path, "not UTF-8 text", "save it as UTF-8"),
        _ => Error::io("read", path, cause),
    })
}
