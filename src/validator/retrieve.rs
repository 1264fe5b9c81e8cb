//! What a schema refers to outside of itself, taken from a folder by its address: nothing is fetched.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use instil_grammar::grammar::{Draft, remote_references};
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};

/// Documents taken in at most, and their bytes together.
const MOST_DOCUMENTS: usize = 1_000;
const MOST_BYTES: u64 = 64 << 20;
/// Folders below the one that is named, and files in all of them, that are looked through.
const MOST_DEPTH: usize = 8;
const MOST_FILES: usize = 10_000;

/// `schema` with every document in it that its references lead to, directly or through others, and that the folder has:
/// a file whose path below the folder ends the address (`schemas/user.json` for `https://example.org/schemas/user.json`),
/// or one whose `$id` is the address. What is not there stays a reference, which the engine refuses with its pointer.
///
/// # Errors
/// When the folder or one of those files cannot be read, or is not JSON; when there are too many.
pub(crate) fn with_documents(mut schema: Value, folder: &Path) -> Result<Value> {
    if !folder.is_dir() {
        return Err(Error::input(folder, "is no folder of schemas", "give the folder that holds them"));
    }
    let (mut store, mut looked_for) = (Store::new(folder), BTreeSet::new());
    let draft = Draft::of(&schema);
    loop {
        let wanted = remote_references(&schema);
        let Some(address) = wanted.into_iter().find(|address| looked_for.insert(address.clone())) else {
            return Ok(schema);
        };
        let (Some(document), Value::Object(root)) = (store.take(&address)?, &mut schema) else { continue };
        let (id, place) = match draft {
            Draft::Draft4 => ("id", "definitions"),
            Draft::Draft6 | Draft::Draft7 => ("$id", "definitions"),
            Draft::Draft2019 | Draft::Draft2020 => ("$id", "$defs"),
        };
        let mut document = match document {
            Value::Object(members) => members,
            other => Map::from_iter([("allOf".to_owned(), json!([other]))]),
        };
        document.insert(id.to_owned(), json!(address));
        let others = root.entry(place).or_insert_with(|| json!({}));
        if let Some(others) = others.as_object_mut() {
            others.insert(address, Value::Object(document));
        }
    }
}

/// The files of a folder.
struct Store<'a> {
    folder: &'a Path,
    /// By the address that they give themselves; read when a path is not enough.
    named: Option<BTreeMap<String, PathBuf>>,
    taken: usize,
    bytes: u64,
}

impl<'a> Store<'a> {
    fn new(folder: &'a Path) -> Self {
        Self { folder, named: None, taken: 0, bytes: 0 }
    }

    /// The document of an address.
    fn take(&mut self, address: &str) -> Result<Option<Value>> {
        let path = match self.by_path(address) {
            Some(path) => path,
            None => match self.named()?.get(address) {
                Some(path) => path.clone(),
                None => return Ok(None),
            },
        };
        self.taken += 1;
        if self.taken > MOST_DOCUMENTS {
            let what = format!("the schema refers to more than {MOST_DOCUMENTS} documents here");
            return Err(Error::input(self.folder, what, "give a folder of fewer"));
        }
        self.read(&path).map(Some)
    }

    /// The file whose path below the folder is the longest end of the address.
    fn by_path(&self, address: &str) -> Option<PathBuf> {
        let path = address.split_once("://").map_or(address, |(_, rest)| rest);
        let path = path.split('?').next().unwrap_or(path);
        let steps: Vec<&str> = path.split('/').filter(|step| !step.is_empty()).collect();
        if steps.iter().any(|step| matches!(*step, "." | "..") || step.contains(['\\', '\0'])) {
            return None;
        }
        (0..steps.len()).find_map(|from| {
            let end = self.folder.join(steps[from..].join("/"));
            let with_ending = end.with_file_name(format!("{}.json", steps[steps.len() - 1]));
            [end, with_ending].into_iter().find(|path| path.is_file())
        })
    }

    fn named(&mut self) -> Result<&BTreeMap<String, PathBuf>> {
        if self.named.is_none() {
            let mut files = Vec::new();
            list(self.folder, MOST_DEPTH, &mut files)?;
            let mut named = BTreeMap::new();
            for path in files {
                // A file of another kind is none of ours to judge.
                let Ok(document) = self.read(&path) else { continue };
                let id = ["$id", "id"].iter().find_map(|key| document.get(*key)?.as_str());
                if let Some(id) = id {
                    named.entry(id.trim_end_matches('#').to_owned()).or_insert(path);
                }
            }
            self.named = Some(named);
        }
        Ok(self.named.get_or_insert_default())
    }

    fn read(&mut self, path: &Path) -> Result<Value> {
        let size = std::fs::metadata(path).map_err(|cause| Error::io("read", path, cause))?.len();
        self.bytes += size;
        if self.bytes > MOST_BYTES {
            let what = format!("the schemas are more than {} MB together", MOST_BYTES >> 20);
            return Err(Error::input(self.folder, what, "give a folder of fewer"));
        }
        let text = std::fs::read_to_string(path).map_err(|cause| Error::io("read", path, cause))?;
        serde_json::from_str(&text)
            .map_err(|cause| Error::input(path, format!("not JSON: {cause}"), "a schema is a JSON object"))
    }
}

/// The JSON files of a folder, in the order of their names.
fn list(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(folder).map_err(|cause| Error::io("read", folder, cause))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() && depth > 0 && !path.is_symlink() {
            list(&path, depth - 1, files)?;
        } else if path.is_file() && path.extension().is_some_and(|ending| ending == "json") {
            files.push(path);
        }
        if files.len() > MOST_FILES {
            let what = format!("holds more than {MOST_FILES} files");
            return Err(Error::input(folder, what, "give the folder of the schemas alone"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use instil_grammar::grammar::{GrammarSource, Options, Program};

    use super::*;
    use crate::validator::Validator;

    #[test]
    fn documents_are_taken_by_path_and_by_name_with_what_they_refer_to() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let write = |name: &str, schema: Value| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("created");
            std::fs::write(path, schema.to_string()).expect("written");
        };
        write(
            "schemas/user.json",
            json!({"type": "object", "properties": {"name": {"$ref": "name.json"}, "age": {"$ref": "#/$defs/age"}},
            "required": ["name"], "$defs": {"age": {"type": "integer"}}}),
        );
        write("schemas/name.json", json!({"type": "string", "minLength": 2}));
        write("elsewhere.json", json!({"$id": "urn:example:colour", "enum": ["red"]}));
        write("notes.json", json!("no schema"));
        let schema = json!({"properties": {"user": {"$ref": "https://example.org/schemas/user.json"}, "colour": {"$ref": "urn:example:colour"}}});
        let whole = with_documents(schema.clone(), folder.path()).expect("all is there");
        assert_eq!(remote_references(&whole), Vec::<String>::new());
        let validator = Validator::new(&whole).expect("a schema");
        for (value, valid) in [
            (json!({"user": {"name": "Ann", "age": 3}, "colour": "red"}), true),
            (json!({"user": {"name": "A"}}), false),
            (json!({"user": {"name": "Ann", "age": "3"}}), false),
            (json!({"colour": "blue"}), false),
        ] {
            assert_eq!(validator.is_valid(&value), valid, "{value}");
        }
        let source = GrammarSource::JsonSchema(whole);
        assert!(Program::compile(&source, &Options::default()).is_ok());
        // What is not there stays what it was.
        let missing = json!({"$ref": "https://example.org/schemas/none.json"});
        assert_eq!(with_documents(missing.clone(), folder.path()).expect("read"), missing);
        let up = json!({"$ref": "https://example.org/../../etc/passwd"});
        assert_eq!(with_documents(up.clone(), &folder.path().join("schemas")).expect("read"), up);
        assert!(with_documents(schema, &folder.path().join("none")).is_err());
    }
}
