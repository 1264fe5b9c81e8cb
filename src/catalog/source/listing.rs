//! What a repository of the hub holds at a commit: asked of the hub's API, and kept, so that it is asked once.
//!
//! A branch or tag is pinned as the hub's own programs do it: `refs/REVISION` in the hub's cache names the commit.
//! What stood at that commit, with sizes and sums, is kept in instil's cache; where only another program has fetched
//! from a repository, the files that it brought are what is known of it. Answers are untrusted: names that leave their
//! folder, and sums that are none, are dropped.

use std::path::{Path, PathBuf};

use hf_hub::{Cache, Repo, RepoType};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::verify::sha256_of;
use super::wire::{Asked, Wire, is_commit};
use super::{Failure, FetchEvent, FetchOptions, Located, LocatedFile, Places, hub};
use crate::catalog::hub_name::{Choice, HubName};
use crate::catalog::manifest::{Check, FileEntry, Kind, Manifest, Origin, PromptForm, Role, Source, is_relative};
use crate::catalog::variant::{self, Variant, variants};
use crate::disk::write_whole;
use crate::error::{Error, Remedy, Result, setting};

/// Longest answer of the hub's API that is read.
const MOST_BYTES: usize = 32 << 20;
/// Folders below a snapshot that are looked into.
const MOST_DEPTH: u32 = 3;

/// A repository at a commit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Listing {
    /// `owner/name`, as it was asked for.
    pub repo: String,
    /// What the hub calls it now, where that is another name.
    pub renamed: Option<String>,
    /// The commit.
    pub commit: String,
    /// Licence of the weights, as the hub spells it.
    pub licence: Option<String>,
    /// Whether its files are given out on conditions.
    pub is_gated: bool,
    /// What the hub says of its GGUF files.
    pub architecture: Option<String>,
    /// The same.
    pub context_length: Option<usize>,
    /// Every file.
    pub files: Vec<ListedFile>,
    /// Only files that are on this machine are known.
    #[serde(default)]
    pub is_partial: bool,
}

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ListedFile {
    /// Its path in the repository.
    pub name: String,
    /// Its size.
    pub size_bytes: Option<u64>,
    /// SHA-256 of its content, where the hub says it: it does of all large files.
    pub sha256: Option<String>,
    /// Git's name of its content, which the hub gives small files.
    #[serde(default)]
    pub blob: Option<String>,
}

/// How much is asked of the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// Nothing.
    Kept,
    /// What is not known yet.
    Known,
    /// What stands there now.
    Newest,
}

impl Listing {
    /// The models in it.
    pub(crate) fn variants(&self) -> Vec<Variant> {
        variants(&self.files)
    }

    /// The manifest of the model that is meant by `name`: its files, pinned, each with its size and sum.
    ///
    /// # Errors
    /// As [`variant::choose`].
    pub(crate) fn manifest(&self, name: &HubName) -> Result<Manifest> {
        let variants = self.variants();
        let has_safetensors = self.files.iter().any(|file| file.name.ends_with(".safetensors"));
        Ok(self.manifest_of(variant::choose(name, &variants, has_safetensors)?, &variants))
    }

    /// The manifest of one of its models.
    pub(crate) fn manifest_of(&self, variant: &Variant, all: &[Variant]) -> Manifest {
        let is_alone = all.iter().filter(|other| other.label == variant.label).count() == 1;
        let is_named = variant.label == variant::FOLDER
            || variant.files[0].name.to_ascii_uppercase().contains(variant.label.trim_start_matches("UD-"));
        let name = if is_alone && is_named && !variant.label.contains('/') {
            format!("{}:{}", self.repo, variant.label)
        } else {
            format!("{}/{}", self.repo, variant.files[0].name)
        };
        let entry = |file: &ListedFile| FileEntry {
            role: Role::of(&file.name),
            name: file.name.clone(),
            check: file.size_bytes.zip(file.sha256.clone()).map(|(size_bytes, sha256)| Check { size_bytes, sha256 }),
        };
        let source = Source::Hub { repo: self.repo.clone(), revision: self.commit.clone(), folder: String::new() };
        Manifest {
            name,
            summary: String::new(),
            kind: Kind::Candle,
            architecture: self.architecture.clone().unwrap_or_default(),
            licence: self.licence.clone().unwrap_or_default(),
            context_length: self.context_length,
            prompt_form: Some(PromptForm::Completion),
            template_notes: String::new(),
            template_variables: Map::new(),
            files: variant.files.iter().map(entry).collect(),
            sources: vec![source],
            scripted: None,
            origin: Origin::Hub { revision: self.commit.clone() },
        }
    }
}

/// What the repository of `name` holds.
///
/// # Errors
/// [`Error::Unavailable`] when it is not known and the hub cannot or may not be asked, or refuses to tell;
/// [`Error::Interrupted`].
pub(crate) fn list(
    name: &HubName,
    places: &Places,
    options: &FetchOptions,
    freshness: Freshness,
    on_event: &mut dyn FnMut(FetchEvent<'_>),
) -> Result<Listing> {
    let known = kept(&name.repo, name.revision(), places);
    let is_enough = match (&known, freshness) {
        (None, _) | (_, Freshness::Newest) => false,
        (Some(_), Freshness::Kept) => true,
        // Of a part of a repository nobody can say what is usual in it.
        (Some(known), Freshness::Known) => {
            !known.is_partial || (name.choice != Choice::Usual && known.manifest(name).is_ok())
        }
    };
    if freshness == Freshness::Kept || options.offline || is_enough {
        return known.ok_or_else(|| {
            let remedy = if options.offline {
                Remedy::from("unset HF_HUB_OFFLINE, or give a file with ").set(setting::MODEL, "PATH")
            } else {
                Remedy::from(format!("`instil models pull {name}` gets it"))
            };
            Error::unavailable(format!("model {name} is not on this machine"), remedy)
        });
    }
    match ask(name, options, on_event) {
        Ok(mut listing) => {
            listing.learn(known.filter(|known| known.commit == listing.commit));
            keep(&listing, places);
            if let Some(renamed) = &listing.renamed {
                let text = format!("{} is now called {renamed} on the hub", name.repo);
                on_event(FetchEvent::Note { text: &text });
            }
            Ok(listing)
        }
        Err(Failure::Fatal(error)) => Err(error),
        Err(Failure::Source { reason, fault }) => match known {
            Some(known) => {
                let text = format!("hub {}: {reason}; taking what is known of it here", name.repo);
                on_event(FetchEvent::Note { text: &text });
                Ok(known)
            }
            None => {
                let remedy = Remedy::from("give a file with ").set(setting::MODEL, "PATH");
                let reach = if fault.is_refusal() { "" } else { ", or set HF_ENDPOINT or a proxy for the hub" };
                let what = format!("cannot get model {name}: it is no path here, and hub {} {reason}", name.repo);
                Err(Error::unavailable(what, remedy.and(reach)))
            }
        },
    }
}

/// Pins the revision of `name` to the commit of `listing`, as the hub's own programs do.
pub(crate) fn pin(name: &HubName, listing: &Listing, places: &Places) {
    let revision = name.revision();
    if is_commit(revision) || pinned(&name.repo, revision, places).as_ref() == Some(&listing.commit) {
        return;
    }
    let repo = Repo::with_revision(name.repo.clone(), RepoType::Model, revision.to_owned());
    // A cache that cannot be written only costs the next start a request.
    if let Err(error) = Cache::new(places.hub_cache.clone()).repo(repo).create_ref(&listing.commit) {
        tracing::debug!("cannot pin {revision} of {}: {error}", name.repo);
    }
}

/// Gets the files of the model that is meant of which the hub gives git's names alone, small as they are, so that each has
/// a sum that it can be held to from now on.
///
/// # Errors
/// As [`list`], and when what arrives is not what it is called.
pub(crate) fn complete(
    name: &HubName,
    listing: &mut Listing,
    places: &Places,
    options: &FetchOptions,
    on_event: &mut dyn FnMut(FetchEvent<'_>),
) -> Result<()> {
    let manifest = listing.manifest(name)?;
    let meant = |file: &ListedFile| manifest.files.iter().any(|entry| entry.name == file.name && entry.check.is_none());
    if listing.is_partial || options.offline || !listing.files.iter().any(meant) {
        return Ok(());
    }
    let wire = Wire::open(options, on_event)?;
    let (repo, commit) = (listing.repo.clone(), listing.commit.clone());
    let unavailable = |file: &str, reason: String| {
        let remedy = Remedy::from("give a file with ").set(setting::MODEL, "PATH");
        Error::unavailable(format!("cannot get {file} of hub {repo}: {reason}"), remedy)
    };
    for file in listing.files.iter_mut().filter(|file| meant(file)) {
        let asked = Asked { repo: &repo, revision: &commit, file: Some(&file.name) };
        let answer = wire.read(&wire.file(&repo, &commit, &file.name), None, MOST_BYTES, on_event);
        let (head, bytes) = answer.map_err(|failure| match failure {
            Failure::Fatal(error) => error,
            Failure::Source { reason, .. } => unavailable(&file.name, reason),
        })?;
        if !head.is_good() {
            let told = wire.refusal(&head, &asked).unwrap_or_else(|| format!("answered {}", head.status));
            return Err(unavailable(&file.name, told));
        }
        if file.blob.as_deref() != Some(git_name(&bytes).as_str()) {
            let what = format!("{} is not what the hub's listing calls it", file.name);
            return Err(Error::model(name.to_string(), what, "get it again, or from another mirror"));
        }
        let sum = sha256_of(&bytes);
        hub::place(places, &repo, &commit, &file.name, &sum, &bytes)?;
        (file.size_bytes, file.sha256) = (Some(bytes.len() as u64), Some(sum));
    }
    keep(listing, places);
    Ok(())
}

/// Git's name of a content: SHA-1 of its kind, its length and itself.
fn git_name(bytes: &[u8]) -> String {
    use sha1::Digest as _;
    let mut sum = sha1::Sha1::new();
    sum.update(format!("blob {}\0", bytes.len()));
    sum.update(bytes);
    super::verify::hex(&sum.finalize())
}

/// Every model that was fetched by its name, or by another program: of each repository in the hub's cache, what is there
/// of the commits that its branches and tags were pinned to. Held to sizes alone: whoever uses one sums it.
pub(crate) fn cached(places: &Places) -> Vec<(Manifest, Located)> {
    let mut found: Vec<(Manifest, Located)> = Vec::new();
    for folder in entries(&places.hub_cache) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some((owner, name)) = name.strip_prefix("models--").and_then(|rest| rest.split_once("--")) else {
            continue;
        };
        let repo = format!("{owner}/{name}");
        for reference in entries(&folder.join("refs")) {
            let revision = reference.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // What a manifest has pinned is its own.
            if is_commit(&revision) {
                continue;
            }
            let Some(listing) = kept(&repo, &revision, places) else { continue };
            let variants = listing.variants();
            let snapshot = places.repository(&repo).join("snapshots").join(&listing.commit);
            for variant in &variants {
                let manifest = listing.manifest_of(variant, &variants);
                let located = |file: &FileEntry| {
                    let path = snapshot.join(&file.name);
                    let size_bytes = path.metadata().ok().filter(std::fs::Metadata::is_file)?.len();
                    let is_whole = file.check.as_ref().is_none_or(|check| check.size_bytes == size_bytes);
                    is_whole.then(|| LocatedFile {
                        name: file.name.clone(),
                        role: file.role,
                        path,
                        size_bytes,
                        check: file.check.clone(),
                        source: manifest.sources[0].clone(),
                    })
                };
                let Some(files) = manifest.files.iter().map(located).collect::<Option<Vec<_>>>() else { continue };
                if !found.iter().any(|(known, _)| known.name == manifest.name && known.files == manifest.files) {
                    found.push((manifest, Located { files, fetched: false }));
                }
            }
        }
    }
    found.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    found
}

/// The commit that a revision is pinned to.
fn pinned(repo: &str, revision: &str, places: &Places) -> Option<String> {
    if is_commit(revision) {
        return Some(revision.to_ascii_lowercase());
    }
    let commit = std::fs::read_to_string(places.repository(repo).join("refs").join(revision)).ok()?;
    Some(commit.trim().to_owned()).filter(|commit| is_commit(commit))
}

/// What is known of a revision without asking.
fn kept(repo: &str, revision: &str, places: &Places) -> Option<Listing> {
    let commit = pinned(repo, revision, places)?;
    let read = || {
        let listing: Listing = serde_json::from_slice(&std::fs::read(place(repo, &commit, places)).ok()?).ok()?;
        (listing.commit == commit && listing.repo == repo).then(|| listing.checked())
    };
    read().or_else(|| snapshot(repo, &commit, places))
}

/// Where the listing of a commit is kept.
fn place(repo: &str, commit: &str, places: &Places) -> PathBuf {
    places.cache.join("listings").join(repo.replace('/', "--")).join(format!("{commit}.json"))
}

/// Keeps what it can: without it the hub is asked again.
fn keep(listing: &Listing, places: &Places) {
    let path = place(&listing.repo, &listing.commit, places);
    let text = serde_json::to_string(listing).expect("a listing is plain data");
    let written = std::fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).is_ok()
        && write_whole(&path, text.as_bytes()).is_ok();
    if !written {
        tracing::debug!("cannot keep what {} holds", listing.repo);
    }
}

/// What another program has fetched of a commit: models alone, with the sums that name their blobs.
fn snapshot(repo: &str, commit: &str, places: &Places) -> Option<Listing> {
    let root = places.repository(repo).join("snapshots").join(commit);
    let mut files = Vec::new();
    collect(&root, &root, MOST_DEPTH, &mut files);
    files.sort_by(|a: &ListedFile, b| a.name.cmp(&b.name));
    (!files.is_empty()).then(|| Listing {
        repo: repo.to_owned(),
        renamed: None,
        commit: commit.to_owned(),
        licence: None,
        is_gated: false,
        architecture: None,
        context_length: None,
        files,
        is_partial: true,
    })
}

fn collect(root: &Path, folder: &Path, depth: u32, files: &mut Vec<ListedFile>) {
    for path in entries(folder) {
        if path.is_dir() {
            if depth > 0 {
                collect(root, &path, depth - 1, files);
            }
        } else if let Some(name) = path.strip_prefix(root).ok().and_then(Path::to_str)
            && (variant::is_model(name) || variant::is_of_folder(name))
        {
            let blob = std::fs::canonicalize(&path).ok();
            let blob = blob.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
            files.push(ListedFile {
                name: name.replace(std::path::MAIN_SEPARATOR, "/"),
                size_bytes: path.metadata().ok().map(|metadata| metadata.len()),
                sha256: blob.filter(|name| is_sum(name)),
                blob: None,
            });
        }
    }
}

/// What lies in a folder; nothing where there is none.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.flatten().map(|entry| entry.path()).collect()
}

fn is_sum(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What the API says of a repository (`/api/models/REPO/revision/REVISION?blobs=true`).
#[derive(Deserialize)]
struct About {
    id: Option<String>,
    sha: Option<String>,
    #[serde(default)]
    gated: Value,
    #[serde(default)]
    siblings: Vec<Sibling>,
    #[serde(default, rename = "cardData")]
    card: Value,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    gguf: Value,
}

/// A file there, or in the answer of `/api/models/REPO/tree/REVISION`.
#[derive(Deserialize)]
struct Sibling {
    #[serde(alias = "path")]
    rfilename: String,
    size: Option<u64>,
    #[serde(alias = "oid", rename = "blobId")]
    blob: Option<String>,
    lfs: Option<Large>,
}

/// How a large file is stored.
#[derive(Deserialize)]
struct Large {
    #[serde(alias = "oid")]
    sha256: Option<String>,
    size: Option<u64>,
}

/// Asks the hub.
fn ask(name: &HubName, options: &FetchOptions, on_event: &mut dyn FnMut(FetchEvent<'_>)) -> Result<Listing, Failure> {
    let wire = Wire::open(options, on_event)?;
    let asked = Asked { repo: &name.repo, revision: name.revision(), file: None };
    let mut get = |address: String| -> Result<Vec<u8>, Failure> {
        let (head, body) = wire.read(&address, None, MOST_BYTES, on_event)?;
        if head.is_good() {
            return Ok(body);
        }
        Err(match wire.refusal(&head, &asked) {
            Some(told) => Failure::refusal(told),
            None => Failure::unreachable(format!("answered {}", head.status)),
        })
    };
    let strange =
        || Failure::unreachable("gave an answer that is not the hub's (a page that asks for a login, perhaps)");
    let revision = name.revision();
    let about = get(format!("{}?blobs=true", wire.about(&name.repo, "revision", revision)))?;
    let about: About = serde_json::from_slice(&about).map_err(|_| strange())?;
    let commit = about.sha.filter(|sha| is_commit(sha)).ok_or_else(strange)?;
    let mut siblings = about.siblings;
    let is_wanted = |name: &str| variant::is_model(name) || variant::is_of_folder(name);
    let is_bare = |file: &Sibling| {
        is_wanted(&file.rfilename) && (file.size.is_none() || (file.lfs.is_none() && file.blob.is_none()))
    };
    if siblings.iter().any(is_bare) {
        // Some mirrors leave sizes and sums out of the first answer.
        let tree = get(format!("{}?recursive=true", wire.about(&name.repo, "tree", &commit)))?;
        siblings = serde_json::from_slice(&tree).map_err(|_| strange())?;
    }
    let file = |file: Sibling| ListedFile {
        name: file.rfilename,
        size_bytes: file.lfs.as_ref().and_then(|large| large.size).or(file.size),
        // What is stored as a large file has a pointer by this name instead.
        blob: file.blob.filter(|_| file.lfs.is_none()),
        sha256: file.lfs.and_then(|large| large.sha256),
    };
    let listing = Listing {
        repo: name.repo.clone(),
        renamed: about.id.filter(|id| *id != name.repo),
        commit,
        licence: licence(&about.card, &about.tags),
        is_gated: !matches!(about.gated, Value::Null | Value::Bool(false)),
        architecture: about.gguf["architecture"].as_str().map(str::to_owned),
        context_length: about.gguf["context_length"].as_u64().and_then(|length| length.try_into().ok()),
        files: siblings.into_iter().map(file).collect(),
        is_partial: false,
    };
    Ok(listing.checked())
}

/// The licence that a repository names: `other` has a name of its own.
fn licence(card: &Value, tags: &[String]) -> Option<String> {
    let of_card = card["license"].as_str().or_else(|| card["license"][0].as_str());
    let named = card["license_name"].as_str().filter(|_| of_card == Some("other"));
    let of_tags = || tags.iter().find_map(|tag| tag.strip_prefix("license:"));
    named.or(of_card).or_else(of_tags).map(str::to_owned)
}

impl Listing {
    /// Takes over what was found out of the same files before.
    fn learn(&mut self, known: Option<Self>) {
        let known = known.map_or_else(Vec::new, |known| known.files);
        for file in self.files.iter_mut().filter(|file| file.sha256.is_none() && file.blob.is_some()) {
            let same = known.iter().find(|other| (&other.name, &other.blob) == (&file.name, &file.blob));
            file.sha256 = same.and_then(|same| same.sha256.clone());
        }
    }

    /// The same without what cannot be: the answer of a server, and a file that anybody may have written.
    fn checked(mut self) -> Self {
        self.files.retain(|file| is_relative(&file.name) && !file.name.chars().any(char::is_control));
        for file in &mut self.files {
            file.sha256 = file.sha256.take().filter(|sum| is_sum(sum)).map(|sum| sum.to_ascii_lowercase());
            file.blob = file.blob.take().filter(|blob| is_commit(blob)).map(|blob| blob.to_ascii_lowercase());
        }
        self
    }
}
