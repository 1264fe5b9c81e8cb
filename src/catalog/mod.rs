//! Which models there are: the bundled manifests and the user's own, found by name or by path.
//!
//! Reads manifests only ([`manifest`]); whether the files of a model are present, where they come from, and what a
//! repository on the hub holds ([`hub_name`]), is [`source`]'s to say; which of its files are meant, `variant`'s.

pub mod embedder;
pub mod hub_name;
pub mod manifest;
pub mod source;
pub(crate) mod variant;

use std::path::Path;

use self::hub_name::HubName;
use self::manifest::{Manifest, Origin};
use self::source::{FetchOptions, Freshness, Places};
use crate::error::nearest;
use crate::{Error, Result};
use instil_model::gguf::parts_of;

/// Name of the model that is used when none is named.
pub const DEFAULT_MODEL: &str = "smollm2-135m-instruct";
/// Name of the sentence embedder that is used when none is named.
pub const DEFAULT_EMBEDDER: &str = "all-minilm-l6-v2";

/// Every manifest at hand, the bundled ones first, a user's manifest in place of a bundled one of
/// the same name.
#[derive(Debug, Clone)]
pub struct Catalog {
    manifests: Vec<Manifest>,
}

impl Catalog {
    /// Reads the bundled manifests and those in `places.user_manifests`.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] or [`Error::Io`] for the first user manifest that cannot be used.
    pub fn load(places: &Places) -> Result<Self> {
        let mut manifests = Vec::new();
        for text in BUNDLED {
            manifests.push(Manifest::parse(text, Origin::Bundled)?);
        }
        let mut own = Vec::new();
        if let Some(directory) = places.user_manifests.as_deref().filter(|directory| directory.is_dir()) {
            let fault = |source| Error::io("read", directory, source);
            for entry in std::fs::read_dir(directory).map_err(fault)? {
                let path = entry.map_err(fault)?.path();
                if path.extension().is_some_and(|extension| extension == "toml") {
                    own.push(path);
                }
            }
        }
        own.sort();
        for path in own {
            let manifest = Manifest::read(&path)?;
            match manifests.iter_mut().find(|known| known.name == manifest.name) {
                Some(known) => match &known.origin {
                    Origin::File(first) => {
                        let what = format!("a second manifest named {}, after {}", manifest.name, first.display());
                        return Err(Error::input(&path, what, "rename one of them"));
                    }
                    Origin::Bundled | Origin::Weights(_) | Origin::Hub { .. } => *known = manifest,
                },
                None => manifests.push(manifest),
            }
        }
        Ok(Self { manifests })
    }

    /// All manifests.
    #[must_use]
    pub(crate) fn manifests(&self) -> &[Manifest] {
        &self.manifests
    }

    /// The manifest of this name.
    ///
    /// # Errors
    ///
    /// [`Error::Model`] for an unknown name, naming the nearest.
    pub fn find(&self, name: &str) -> Result<&Manifest> {
        self.manifests.iter().find(|manifest| manifest.name == name).ok_or_else(|| {
            let names = self.manifests.iter().map(|manifest| manifest.name.as_str());
            let remedy = match nearest(&name.to_lowercase(), names) {
                Some(near) => format!("did you mean {near}? `instil models list` shows all"),
                None => "`instil models list` shows all; a path to a GGUF file works too".to_owned(),
            };
            Error::model(name, "unknown model", remedy)
        })
    }

    /// What `--model` names: what is found here, as [`Catalog::resolve`] says, and else a model on the hub.
    ///
    /// # Errors
    ///
    /// As [`Catalog::resolve`], and as [`HubName::parse`].
    pub(crate) fn named(&self, model: &str) -> Result<Named> {
        let is_known = self.manifests.iter().any(|manifest| manifest.name == model);
        if !is_known
            && !Path::new(model).exists()
            && let Some(name) = HubName::parse(model)?
        {
            return Ok(Named::Hub(name));
        }
        self.resolve(model).map(|manifest| Named::Here(Box::new(manifest)))
    }

    /// What is named and can be told without the network: nothing of a model on the hub that was never asked for.
    ///
    /// # Errors
    ///
    /// As [`Catalog::named`]; when a repository does not hold what is named.
    pub(crate) fn known(&self, model: &str, places: &Places) -> Result<Option<Manifest>> {
        let name = match self.named(model)? {
            Named::Here(manifest) => return Ok(Some(*manifest)),
            Named::Hub(name) => name,
        };
        match source::list(&name, places, &FetchOptions::default(), Freshness::Kept, &mut |_| ()) {
            Ok(listing) => listing.manifest(&name).map(Some),
            Err(Error::Unavailable { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A model of the catalog, or a path to a GGUF file, to a directory that holds one, or to a manifest.
    ///
    /// # Errors
    ///
    /// As [`Catalog::find`] for a name, [`Error::Io`] for a path that is not there, and
    /// [`Error::Model`] for a path to something that cannot be a model.
    pub(crate) fn resolve(&self, model: &str) -> Result<Manifest> {
        if let Some(manifest) = self.manifests.iter().find(|manifest| manifest.name == model) {
            return Ok(manifest.clone());
        }
        let path = Path::new(model);
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let looks_like_path = model.contains(std::path::MAIN_SEPARATOR) || matches!(extension, "gguf" | "toml");
        if !path.exists() && !looks_like_path {
            return self.find(model).cloned();
        }
        let metadata = std::fs::metadata(path).map_err(|source| Error::io("read", path, source))?;
        if metadata.is_dir() {
            return resolve_directory(path);
        }
        match extension {
            "gguf" => weights(path),
            "toml" => Manifest::read(path),
            "safetensors" => {
                safetensors(path.parent().filter(|folder| folder != &Path::new("")).unwrap_or(Path::new(".")))
            }
            _ if starts_as_gguf(path) => Ok(Manifest::for_weights(path)),
            _ => Err(Error::model(model, "is neither a GGUF file nor a manifest", REMEDY)),
        }
    }
}

/// What a model's name leads to.
#[derive(Debug)]
pub(crate) enum Named {
    /// A manifest or a file on this machine.
    Here(Box<Manifest>),
    /// A repository on the hub.
    Hub(HubName),
}

const REMEDY: &str =
    "give a name from `instil models list`, a GGUF file, a folder of safetensors or a manifest (.toml)";

/// The manifests in `models/`.
const BUNDLED: &[&str] =
    &[include_str!("../../models/smollm2-135m-instruct.toml"), include_str!("../../models/all-minilm-l6-v2.toml")];

/// A directory stands for the one GGUF file in it.
fn resolve_directory(directory: &Path) -> Result<Manifest> {
    let fault = |source| Error::io("read", directory, source);
    let (mut gguf, mut has_safetensors) = (Vec::new(), false);
    for entry in std::fs::read_dir(directory).map_err(fault)? {
        let path = entry.map_err(fault)?.path();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("gguf") => gguf.push(path),
            Some("safetensors") => has_safetensors = true,
            _ => {}
        }
    }
    match gguf.as_slice() {
        [one] => weights(one),
        [one, ..] if parts_of(one).is_some_and(|parts| gguf.iter().all(|path| parts.contains(path))) => weights(one),
        [] if has_safetensors => safetensors(directory),
        [] => Err(Error::model(directory.display().to_string(), "is a directory without a GGUF file", REMEDY)),
        several => {
            let what = format!("is a directory with {} GGUF files", several.len());
            Err(Error::model(directory.display().to_string(), what, "give the path of one of them"))
        }
    }
}

/// The manifest of a GGUF file, or of all parts of a model that lies in several.
fn weights(path: &Path) -> Result<Manifest> {
    let Some(parts) = parts_of(path) else { return Ok(Manifest::for_weights(path)) };
    if let Some(missing) = parts.iter().find(|part| !part.exists()) {
        let missing = missing.file_name().unwrap_or_default().to_string_lossy();
        let what = format!("is a part of a model in {} files, and {missing} is missing", parts.len());
        return Err(Error::input(path, what, "get it, and put it beside this one"));
    }
    Ok(Manifest::for_parts(path, &parts))
}

/// The manifest of a folder with weights in safetensors: every file that says what the model is.
fn safetensors(folder: &Path) -> Result<Manifest> {
    let fault = |source| Error::io("read", folder, source);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fault)? {
        let name = entry.map_err(fault)?.file_name();
        names.extend(name.to_str().filter(|name| variant::is_of_folder(name)).map(str::to_owned));
    }
    for needed in ["config.json", "tokenizer.json"] {
        if !names.iter().any(|name| name == needed) {
            let what = format!("has weights in safetensors and no {needed}");
            return Err(Error::model(folder.display().to_string(), what, "get all files of the model's repository"));
        }
    }
    // The weights come first, as in every manifest.
    names.sort_by_key(|name| variant::order(name));
    Ok(Manifest::for_folder(folder, &names))
}

fn starts_as_gguf(path: &Path) -> bool {
    use std::io::Read as _;
    let mut magic = [0; 4];
    std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && &magic == b"GGUF"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user_manifest(name: &str) -> String {
        format!("name = \"{name}\"\nkind = \"scripted\"\nprompt_form = \"chat\"\n[scripted]\nreplies = [\"yes\"]\n")
    }

    fn catalog(manifests: &[(&str, String)]) -> Result<Catalog> {
        let directory = tempfile::tempdir().unwrap();
        for (file, text) in manifests {
            std::fs::write(directory.path().join(file), text).unwrap();
        }
        let places = Places { user_manifests: Some(directory.path().to_owned()), ..Places::under(directory.path()) };
        Catalog::load(&places)
    }

    #[test]
    fn the_default_model_is_bundled() {
        assert_eq!(catalog(&[]).unwrap().find(DEFAULT_MODEL).unwrap().name, DEFAULT_MODEL);
    }

    #[test]
    fn unknown_names_suggest_the_nearest() {
        let told = catalog(&[]).unwrap().resolve("smollm-135m-instruct").expect_err("unknown").to_string();
        assert!(told.contains("did you mean smollm2-135m-instruct? `instil models list`"), "{told}");
    }

    #[test]
    fn user_manifests_add_and_replace_but_do_not_clash() {
        let found = catalog(&[("a.toml", user_manifest("mine")), ("b.toml", user_manifest(DEFAULT_MODEL))]).unwrap();
        assert_eq!(found.manifests().len(), 3);
        assert!(found.find(DEFAULT_MODEL).unwrap().scripted.is_some());
        let told = catalog(&[("a.toml", user_manifest("mine")), ("b.toml", user_manifest("mine"))]);
        assert!(told.expect_err("clash").to_string().contains("a second manifest named mine"));
    }

    #[test]
    fn paths_are_recognised_by_what_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        let catalog = catalog(&[]).unwrap();
        let told = |path: &str| catalog.resolve(path).expect_err("must be refused").to_string();
        assert!(told(&at("none.gguf")).contains("check the path"));
        assert!(told("none.gguf").contains("check the path"));
        assert!(told(&at("")).contains("without a GGUF file"));
        std::fs::write(at("model.safetensors"), "").unwrap();
        assert!(told(&at("")).contains("has weights in safetensors and no config.json; get all files"));
        std::fs::write(at("config.json"), "{}").unwrap();
        std::fs::write(at("tokenizer.json"), "{}").unwrap();
        let folder = catalog.resolve(&at("")).unwrap();
        let names: Vec<&str> = folder.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["model.safetensors", "config.json", "tokenizer.json"]);
        assert_eq!(catalog.resolve(&at("model.safetensors")).unwrap().files, folder.files);
        std::fs::write(at("plain"), "GGUF").unwrap();
        std::fs::write(at("notes"), "text").unwrap();
        assert_eq!(catalog.resolve(&at("plain")).unwrap().files[0].name, "plain");
        assert!(told(&at("notes")).contains("neither a GGUF file nor a manifest"));
        std::fs::write(at("one.gguf"), "").unwrap();
        assert_eq!(catalog.resolve(&at("")).unwrap().files[0].name, "one.gguf");
        std::fs::write(at("two.gguf"), "").unwrap();
        assert!(told(&at("")).contains("2 GGUF files"));
        std::fs::write(at("own.toml"), user_manifest("own")).unwrap();
        assert_eq!(catalog.resolve(&at("own.toml")).unwrap().name, "own");
    }
}
