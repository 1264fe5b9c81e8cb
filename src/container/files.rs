//! Which files of rows a path stands for: itself, a run's records, what `datasets` saved, or all of a directory.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::disk::read_text;
use crate::error::{Error, Result};
use crate::row::RunFiles;

/// Names that end like this hold rows.
const EXTENSIONS: [&str; 8] = ["jsonl", "ndjson", "json", "csv", "tsv", "tab", "parquet", "arrow"];
/// What `datasets` and trainers keep beside the rows.
const BESIDE: [&str; 5] =
    ["state.json", "dataset_info.json", "dataset_dict.json", "dataset_infos.json", "package.json"];
/// Files of a directory that are read, and how deep they may lie.
const MOST_FILES: usize = 10_000;
const MOST_DEPTH: usize = 3;
/// Most bytes of the lists that `datasets` keeps.
const MOST_STATE_BYTES: u64 = 16 << 20;

/// What the name of a file says of its content, without what it is packed with.
pub(super) fn extension(path: &Path) -> Option<String> {
    let ending = |path: &Path| Some(path.extension()?.to_str()?.to_ascii_lowercase());
    let last = ending(path)?;
    let is_packed = ["gz", "gzip", "zst", "zstd"].contains(&last.as_str());
    if is_packed { ending(Path::new(path.file_stem()?)) } else { Some(last) }
}

/// The files that `path` stands for, in the order in which they are read.
///
/// # Errors
/// When there is none, or a directory cannot be read.
pub(super) fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let records = RunFiles::of(path).records;
    if records.exists() {
        return Ok(vec![records]);
    }
    let mut found = Vec::new();
    gather(path, 0, &mut found)?;
    if found.is_empty() {
        let what = "there is no records.jsonl in this directory, and no other file of rows";
        return Err(Error::input(path, what, "give a run directory, a file of rows, or a directory of such files"));
    }
    Ok(found)
}

fn gather(directory: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    if let Some(splits) = listed(&directory.join("dataset_dict.json"), |all| all["splits"].as_array().cloned())? {
        for split in splits.iter().filter_map(Value::as_str) {
            gather(&inside(directory, split)?, depth + 1, found)?;
        }
        return Ok(());
    }
    if let Some(files) = listed(&directory.join("state.json"), |all| all["_data_files"].as_array().cloned())? {
        for name in files.iter().filter_map(|file| file["filename"].as_str()) {
            found.push(inside(directory, name)?);
        }
        return Ok(());
    }
    let fail = |cause| Error::io("read", directory, cause);
    let mut entries: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(fail)? {
        entries.push(entry.map_err(fail)?.path());
    }
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with(['.', '_']) || BESIDE.contains(&name.as_str()) {
            continue;
        }
        // Links may lead round in circles; those to files are what caches are made of.
        if path.is_dir() {
            if depth < MOST_DEPTH && !path.is_symlink() {
                gather(&path, depth + 1, found)?;
            }
        } else if path.is_file() && extension(&path).is_some_and(|ending| EXTENSIONS.contains(&ending.as_str())) {
            found.push(path);
        }
        if found.len() > MOST_FILES {
            return Err(Error::input(directory, format!("there are over {MOST_FILES} files"), "give a part of them"));
        }
    }
    Ok(())
}

/// A list out of a file of JSON, if the file is there and has it.
fn listed(path: &Path, list: impl Fn(&Value) -> Option<Vec<Value>>) -> Result<Option<Vec<Value>>> {
    if !path.is_file() || std::fs::metadata(path).is_ok_and(|data| data.len() > MOST_STATE_BYTES) {
        return Ok(None);
    }
    Ok(serde_json::from_str(&read_text(path)?).ok().as_ref().and_then(list))
}

/// A file or folder in a directory, by a name that another file gives it.
fn inside(directory: &Path, name: &str) -> Result<PathBuf> {
    let path = directory.join(name);
    let is_name = Path::new(name).components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if !is_name || !path.exists() {
        let what = format!("its lists name {name:?}, which is not there");
        return Err(Error::input(directory, what, "restore the directory as it was saved"));
    }
    Ok(path)
}
