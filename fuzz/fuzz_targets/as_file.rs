//! Bytes as a file, for parsers that read one.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// The file; the next one takes its place.
pub struct Held(PathBuf);

impl Held {
    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// A file of the name `name` that holds `bytes`, in a folder of this process.
pub fn holding(bytes: &[u8], name: &str) -> Held {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
        let folder = std::env::temp_dir().join(format!("instil-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a writable temporary directory");
        folder
    });
    let path = FOLDER.join(name);
    std::fs::write(&path, bytes).expect("a writable temporary directory");
    Held(path)
}
