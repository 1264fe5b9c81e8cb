//! A file imports only from rooms that stand above its own in the map of its crate's `lib.rs`; between crates,
//! Cargo sees to the order. And no message of a library names a flag: it does not know what its settings are called.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The crates of the workspace, as folders from its root.
const CRATES: [&str; 3] = ["crates/instil-grammar", "crates/instil-model", "."];

/// Rooms in reading order, read from the map itself.
fn rooms(of: &Path) -> Vec<String> {
    let map = std::fs::read_to_string(of.join("src/lib.rs")).expect("src/lib.rs");
    let rows = map.lines().filter_map(|line| line.strip_prefix("//! | [`")?.split('`').next().map(str::to_owned));
    rows.collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Names that follow `crate::`, also inside `use crate::{a, b::c}`; comments do not count.
fn imported(source: &str) -> BTreeSet<String> {
    let code: String =
        source.lines().map(|line| line.split("//").next().unwrap_or_default().to_owned() + "\n").collect();
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        match rest.strip_prefix('{') {
            None => {
                names.insert(name(rest));
            }
            Some(list) => {
                let mut depth = 0;
                let mut start = true;
                for (at, c) in list.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        c if start && !c.is_whitespace() => {
                            names.insert(name(&list[at..]));
                            start = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    names
}

/// Every `file: room` that breaks the rule.
fn violations(rooms: &[String], files: &[(String, String)]) -> Vec<String> {
    let place = |room: &str| rooms.iter().position(|name| name == room);
    let mut found = Vec::new();
    for (file, source) in files {
        let room = file.split(['/', '.']).next().unwrap_or_default();
        let Some(own) = place(room) else { continue };
        for name in imported(source) {
            if place(&name).is_some_and(|other| other > own) {
                found.push(format!("{file} imports `{name}`, which stands below `{room}`"));
            }
        }
    }
    found
}

#[test]
fn files_import_only_from_rooms_above_their_own() {
    for part in CRATES {
        let part = root().join(part);
        let rooms = rooms(&part);
        assert!(rooms.len() > 3, "the map of {}'s lib.rs was not found: {rooms:?}", part.display());
        let source = part.join("src");
        let mut paths = Vec::new();
        rust_files(&source, &mut paths);
        let files: Vec<(String, String)> = paths
            .iter()
            .map(|path| {
                let name = path.strip_prefix(&source).expect("below src").to_string_lossy().replace('\\', "/");
                (name, std::fs::read_to_string(path).expect("a source file"))
            })
            .collect();
        // Every folder or file of src is a room, or the edge of the program.
        for (file, _) in &files {
            let room = file.split(['/', '.']).next().unwrap_or_default();
            let edge = ["lib", "main", "cli"].contains(&room);
            assert!(edge || rooms.iter().any(|name| name == room), "{file} is in no room of the map");
        }
        let found = violations(&rooms, &files);
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}

#[test]
fn a_wrong_import_is_found() {
    let rooms: Vec<String> = ["error", "vocab", "model"].map(str::to_owned).to_vec();
    let file = |name: &str, source: &str| (name.to_owned(), source.to_owned());
    let wrong = [
        file("vocab.rs", "use crate::model::Model;"),
        file("vocab/a.rs", "use crate::{error::Error, model::{Model, x}};"),
        file("vocab.rs", "fn f() { crate::model::f() }"),
    ];
    for file in wrong {
        assert_eq!(violations(&rooms, &[file]).len(), 1);
    }
    let right = [
        file("model/a.rs", "use crate::{error::{self, Error}, vocab::Vocab};"),
        file("vocab.rs", "// crate::model is below\nuse crate::error::Error;"),
        file("model.rs", "use crate::model::x;"),
    ];
    assert!(violations(&rooms, &right).is_empty());
}

/// The text between the quotes of each string in a source, without what stands in comments and in unit tests.
fn strings(source: &str) -> Vec<String> {
    let source = source.split("#[cfg(test)]").next().unwrap_or_default();
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(at) = rest.find(['"', '/', '\'']) {
        let (before, from) = rest.split_at(at);
        rest = if from.starts_with("//") {
            from.split_once('\n').map_or("", |(_, rest)| rest)
        } else if let Some(from) = from.strip_prefix('"') {
            let hashes = before.len() - before.trim_end_matches('#').len();
            let is_raw = before.trim_end_matches('#').ends_with('r') && (hashes > 0 || !before.ends_with("\\r"));
            let (text, rest) = if is_raw { raw(from, hashes) } else { escaped(from) };
            found.push(text.to_owned());
            rest
        } else if let Some(quote) = from.strip_prefix('\'') {
            // A character, or the name of a lifetime.
            let character = quote.strip_prefix('\\').map_or(quote, |rest| &rest[1..]);
            let end = character.char_indices().nth(usize::from(!quote.starts_with('\\'))).map_or(0, |(at, _)| at);
            character[end..].strip_prefix('\'').unwrap_or(quote)
        } else {
            &from[1..]
        };
    }
    found
}

fn raw(text: &str, hashes: usize) -> (&str, &str) {
    text.split_once(&format!("\"{}", "#".repeat(hashes))).unwrap_or((text, ""))
}

fn escaped(text: &str) -> (&str, &str) {
    let mut is_escaped = false;
    let end = text.find(|c| {
        let ends = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        ends
    });
    end.map_or((text, ""), |end| (&text[..end], &text[end + 1..]))
}

/// Whether a text for people names a flag; command lines in backticks may, where `lines` says so.
fn names_a_flag(text: &str, lines: bool) -> bool {
    let parts = text.split('`').step_by(if lines { 2 } else { 1 });
    text.contains(' ')
        && parts.flat_map(|part| part.split([' ', '(', '`'])).any(|word| {
            let flag = word.strip_prefix("--").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
            flag || ["-n", "-o", "-c"].contains(&word.trim_end_matches([',', ')', ';']))
        })
}

#[test]
fn no_message_of_a_library_names_a_flag() {
    for part in CRATES {
        let mut paths = Vec::new();
        rust_files(&root().join(part).join("src"), &mut paths);
        let is_program = |path: &PathBuf| path.starts_with(root().join("src/cli"));
        let mut seen = 0;
        for path in paths.iter().filter(|path| !is_program(path)) {
            for text in strings(&std::fs::read_to_string(path).expect("a source file")) {
                seen += 1;
                assert!(!names_a_flag(&text, part == "."), "{}: {text:?}", path.display());
            }
        }
        assert!(seen > 100, "{seen} strings in {part}");
    }
}

#[test]
fn a_flag_in_a_message_is_found() {
    let source = "let a = 'x'; let b = '\"'; let c = '\\''; // \"use --no\"\nfn f<'a>() { g(\"raise --max-tokens\", r#\"a \"--b\" c\"#, \"\\\"\") }";
    assert_eq!(strings(source), ["raise --max-tokens", "a \"--b\" c", "\\\""]);
    assert!(names_a_flag("raise the limit (--max-tokens) to 4", false) && names_a_flag("choose another -o", true));
    assert!(names_a_flag("see `instil filter --help`", false) && !names_a_flag("see `instil filter --help`", true));
    assert!(!names_a_flag("--no-deps", false) && !names_a_flag("a -- b", false));
}
