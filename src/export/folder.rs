//! The directory of a data set: what stands there already, who wrote it, and what loaders go by.
//!
//! The card ends with a comment that names the files of the export and has a hash of the card. A card that still has
//! its hash says which files may be replaced: those of an earlier export. All else there is somebody's.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::form::Form;
use super::table::Columns;
use super::write::Container;
use crate::error::{Error, Remedy, Result, setting};
use crate::filter::text::hash;

/// The card.
pub(crate) const CARD: &str = "README.md";
/// Where LLaMA-Factory looks for what a directory holds.
pub(crate) const FACTORY: &str = "dataset_info.json";

/// A directory that is to get a data set.
pub(crate) struct Folder {
    path: PathBuf,
    /// Files of an earlier export, the card among them.
    ours: BTreeSet<String>,
}

impl Folder {
    /// Looks at the directory, which need not be there.
    pub(crate) fn open(path: &Path) -> Self {
        let ours = std::fs::read(path.join(CARD)).ok().and_then(|card| files_of(&card)).unwrap_or_default();
        Self { path: path.to_owned(), ours }
    }

    /// Refuses files that would replace what no export wrote, or the rows that are being read.
    ///
    /// # Errors
    /// The first such file; who insists is asked with the setting `force`.
    pub(crate) fn check(&self, files: &[String], input: &Path) -> Result<()> {
        let remedy = |what: &str| Remedy::from(what).name(setting::FORCE).and(" to replace it");
        if self.path.exists() && !self.path.is_dir() {
            return Err(Error::io("create", &self.path, std::io::Error::from(std::io::ErrorKind::NotADirectory)));
        }
        let input = input.canonicalize().ok();
        if input.is_some() && input == self.path.canonicalize().ok() {
            let what = "the rows that are exported lie in this directory, too";
            return Err(Error::input(
                &self.path,
                what,
                Remedy::from("choose another directory, or add ").name(setting::FORCE),
            ));
        }
        for file in files {
            let path = self.path.join(file);
            if std::fs::symlink_metadata(&path).is_err() {
                continue;
            }
            if input.is_some() && input == path.canonicalize().ok() {
                return Err(Error::input(&path, "is the input", remedy("choose another directory, or add ")));
            }
            if !self.ours.contains(file) {
                let what = if file == CARD && self.ours.is_empty() {
                    "was not written by an export, or was edited since"
                } else {
                    "was not written by an earlier export"
                };
                return Err(Error::input(&path, what, remedy("choose another directory, or add ")));
            }
        }
        Ok(())
    }

    /// Removes files of the earlier export that the new one does not have, and names them.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub(crate) fn remove_stale(&self, files: &[String]) -> Result<Vec<String>> {
        let stale = self.ours.iter().filter(|file| !files.contains(file) && self.path.join(file).is_file());
        stale
            .map(|file| {
                let path = self.path.join(file);
                std::fs::remove_file(&path).map_err(|cause| Error::io("remove", &path, cause))?;
                Ok(file.clone())
            })
            .collect()
    }
}

/// The card with the comment that says which files the export wrote.
pub(crate) fn signed(card: &str, files: &[String]) -> String {
    format!("{card}\n<!-- instil export: {}; {:016x} -->\n", files.join(" "), hash(card.as_bytes()))
}

/// The files that an intact card names.
fn files_of(card: &[u8]) -> Option<BTreeSet<String>> {
    let card = std::str::from_utf8(card).ok()?;
    let (body, comment) = card.trim_end().rsplit_once("\n<!-- instil export: ")?;
    let (files, sum) = comment.strip_suffix(" -->")?.rsplit_once("; ")?;
    let is_name = |file: &str| Path::new(file).file_name().is_some_and(|name| name == file);
    let is_whole = u64::from_str_radix(sum, 16).ok()? == hash(body.as_bytes()) && files.split(' ').all(is_name);
    is_whole.then(|| files.split(' ').map(str::to_owned).collect())
}

/// What LLaMA-Factory is told of the files (`dataset_info.json`, its data/README.md); nothing for a form or a container
/// that it does not read.
pub(crate) fn factory(
    name: &str,
    form: Form,
    container: Container,
    columns: &Columns,
    files: &[String],
) -> Option<Value> {
    let has_lists = matches!(form, Form::Sharegpt | Form::Messages);
    if has_lists && container == Container::Csv {
        return None;
    }
    let mut entry = match form {
        Form::Alpaca => json!({"columns": {"prompt": "instruction", "query": "input", "response": "output"}}),
        Form::PromptCompletion => json!({"columns": {"prompt": "prompt", "response": "completion"}}),
        Form::Preference => {
            json!({"ranking": true, "columns": {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}})
        }
        Form::Sharegpt => json!({"formatting": "sharegpt", "columns": {"messages": "conversations"}}),
        Form::Messages => json!({
            "formatting": "openai",
            "columns": {"messages": "messages"},
            "tags": {
                "role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
                "observation_tag": "tool", "function_tag": "function_call", "system_tag": "system",
            },
        }),
        Form::PreferenceMessages | Form::Plain => return None,
    };
    for column in
        ["system", "history", "tools"].into_iter().filter(|column| columns.names().any(|name| name == *column))
    {
        entry["columns"][column] = column.into();
    }
    let letters: String = name.chars().map(|c| if c.is_alphanumeric() || "._".contains(c) { c } else { '-' }).collect();
    let mut entries = json!({});
    for file in files {
        let side = file.split('.').next().unwrap_or_default();
        let name = if side == "train" { letters.clone() } else { format!("{letters}-{side}") };
        entry["file_name"] = file.as_str().into();
        entries[name] = entry.clone();
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_says_which_files_an_export_wrote_until_it_is_edited() {
        let files = ["train.jsonl".to_owned(), "README.md".to_owned()];
        let card = signed("# Rows\n", &files);
        assert_eq!(files_of(card.as_bytes()), Some(files.iter().cloned().collect()));
        assert_eq!(files_of(card.replace("Rows", "My rows").as_bytes()), None);
        assert_eq!(files_of(card.replace("train.jsonl", "../train.jsonl").as_bytes()), None);
        assert_eq!(files_of(b"# Rows"), None);
    }
}
