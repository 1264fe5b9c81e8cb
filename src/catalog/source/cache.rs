//! Where files of models live on this machine, and what is already there.
//!
//! Files from the hub lie in the hub's own cache layout, so that other programs share them; files
//! from a Python package lie in instil's cache. Nothing here touches the network.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::verify::{self, Verdict};
use super::{Located, LocatedFile};
use crate::Result;
use crate::catalog::manifest::{FileEntry, Manifest, Source};

/// The directories that models are found in: plain values, read from the environment once.
#[derive(Debug, Clone)]
pub struct Places {
    /// The hub's cache of repositories.
    pub hub_cache: PathBuf,
    /// instil's own cache.
    pub cache: PathBuf,
    /// The user's manifests; `None` when there is no home directory.
    pub user_manifests: Option<PathBuf>,
}

/// What is on this machine of a model.
#[derive(Debug, Clone)]
pub enum Presence {
    /// Every file, checked.
    Present(Located),
    /// A file is there that is not what the manifest asks for, and no good copy of it elsewhere.
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// At least one file is missing.
    Absent,
}

impl Places {
    /// The usual places: `HF_HUB_CACHE`, else `HF_HOME`/hub, else `XDG_CACHE_HOME`/huggingface/hub;
    /// `XDG_CACHE_HOME`/instil; `XDG_CONFIG_HOME`/instil/models. The XDG variables default to
    /// `.cache` and `.config` in the home directory.
    #[must_use]
    pub fn from_environment() -> Self {
        Self::from_variables(|name| std::env::var_os(name).filter(|value| !value.is_empty()))
    }

    /// All places under one directory, for tests and closed set-ups.
    #[must_use]
    pub fn under(directory: &Path) -> Self {
        Self {
            hub_cache: directory.join("huggingface").join("hub"),
            cache: directory.join("instil"),
            user_manifests: Some(directory.join("models")),
        }
    }

    fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let path = |name: &str| variable(name).map(PathBuf::from);
        let home = path("HOME").or_else(|| path("USERPROFILE"));
        let cache_home = path("XDG_CACHE_HOME")
            .or_else(|| home.as_ref().map(|home| home.join(".cache")))
            .unwrap_or_else(std::env::temp_dir);
        let config_home = path("XDG_CONFIG_HOME").or_else(|| home.map(|home| home.join(".config")));
        let hub_cache = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| path("HF_HOME").map(|directory| directory.join("hub")))
            .unwrap_or_else(|| cache_home.join("huggingface").join("hub"));
        Self {
            hub_cache,
            cache: cache_home.join("instil"),
            user_manifests: config_home.map(|directory| directory.join("instil").join("models")),
        }
    }

    /// Directory of a model whose files come from a package.
    pub(super) fn package_directory(&self, manifest: &Manifest) -> PathBuf {
        self.cache.join("models").join(&manifest.name)
    }

    /// Directory of a repository in the hub's cache.
    pub(super) fn repository(&self, repo: &str) -> PathBuf {
        self.hub_cache.join(format!("models--{}", repo.replace('/', "--")))
    }

    /// Where `file` lies when it came from `source`.
    fn path_of(&self, manifest: &Manifest, source: &Source, file: &FileEntry) -> PathBuf {
        match source {
            Source::Path { path } if path.is_dir() => path.join(&file.name),
            Source::Path { path } => path.clone(),
            Source::Hub { repo, revision, folder } => {
                self.repository(repo).join("snapshots").join(revision).join(folder).join(&file.name)
            }
            Source::Package { .. } => self.package_directory(manifest).join(&file.name),
        }
    }
}

/// Looks for every file of `manifest` on this machine, and checks what it finds: by size and by
/// SHA-256, which is remembered until the file changes.
///
/// # Errors
///
/// [`crate::Error::Io`] for a file that is there but cannot be read.
pub fn locate(manifest: &Manifest, places: &Places) -> Result<Presence> {
    let mut files = Vec::with_capacity(manifest.files.len());
    let mut damaged = None;
    for file in &manifest.files {
        match locate_file(manifest, file, &manifest.sources, places)? {
            Found::Good(found) => files.push(found),
            Found::Bad { path, what } => damaged = damaged.or(Some((path, what))),
            Found::Nothing => {}
        }
    }
    Ok(match damaged {
        _ if files.len() == manifest.files.len() => Presence::Present(Located { files, fetched: false }),
        Some((path, what)) => Presence::Damaged { path, what },
        None => Presence::Absent,
    })
}

/// What is on this machine of one file.
pub(super) enum Found {
    Good(LocatedFile),
    Bad { path: PathBuf, what: String },
    Nothing,
}

/// Looks for `file` where each of `sources` would have put it.
pub(super) fn locate_file<'a>(
    manifest: &Manifest,
    file: &FileEntry,
    sources: impl IntoIterator<Item = &'a Source>,
    places: &Places,
) -> Result<Found> {
    let mut found = Found::Nothing;
    for source in sources {
        let path = places.path_of(manifest, source, file);
        if !path.is_file() {
            continue;
        }
        match verify::check_remembered(&path, file.check.as_ref(), places)? {
            Verdict::Good { size_bytes } => {
                return Ok(Found::Good(LocatedFile {
                    name: file.name.clone(),
                    role: file.role,
                    path,
                    size_bytes,
                    check: file.check.clone(),
                    source: source.clone(),
                }));
            }
            Verdict::Bad { what } if matches!(found, Found::Nothing) => found = Found::Bad { path, what },
            Verdict::Bad { .. } => {}
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(variables: &[(&str, &str)]) -> Places {
        Places::from_variables(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
    }

    #[test]
    fn the_environment_decides_the_places() {
        let home = places(&[("HOME", "/h")]);
        assert_eq!(home.hub_cache, Path::new("/h/.cache/huggingface/hub"));
        assert_eq!(home.cache, Path::new("/h/.cache/instil"));
        assert_eq!(home.user_manifests.unwrap(), Path::new("/h/.config/instil/models"));
        let set = places(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/c"), ("XDG_CONFIG_HOME", "/f"), ("HF_HOME", "/hf")]);
        assert_eq!(set.hub_cache, Path::new("/hf/hub"));
        assert_eq!(set.cache, Path::new("/c/instil"));
        assert_eq!(set.user_manifests.unwrap(), Path::new("/f/instil/models"));
        assert_eq!(places(&[("HF_HUB_CACHE", "/x"), ("HF_HOME", "/hf")]).hub_cache, Path::new("/x"));
    }
}
