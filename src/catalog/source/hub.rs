//! Files from the Hugging Face hub, into the hub's own cache layout.
//!
//! hf-hub's `download` starts over after a break and writes whatever the server answers, so the bytes are
//! taken here: appended to `blobs/SUM.incomplete`, resumed with a range, summed as they arrive, and renamed
//! only when the sum is right. The blob is named by its SHA-256, which is the entity tag that the hub gives
//! large files. How the hub is asked is in [`super::wire`].

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hf_hub::{Cache, Repo, RepoType};

use super::verify::{self, Sum};
use super::wire::{Asked, Head, Waits, Wire};
use super::{Failure, FetchEvent, FetchOptions, Job, Places, lock, sync_directory};
use crate::Error;
use crate::catalog::manifest::{Check, FileEntry};
use crate::disk::write_whole;

/// A repository at a commit.
pub(super) struct Repository<'a> {
    pub(super) repo: &'a str,
    pub(super) revision: &'a str,
    pub(super) folder: &'a str,
}

impl Repository<'_> {
    /// As hf-hub names it.
    fn named(&self) -> Repo {
        Repo::with_revision(self.repo.to_owned(), RepoType::Model, self.revision.to_owned())
    }
}

/// Fetches `file` into the hub's cache.
pub(super) fn fetch(
    job: &Job<'_>,
    wire: &Wire<'_>,
    repository: &Repository<'_>,
    file: &FileEntry,
    on_event: &mut dyn FnMut(FetchEvent<'_>),
) -> Result<(), Failure> {
    let Some(check) = &file.check else {
        return Err(Failure::unreachable(format!("{} has no sum to be held to", file.name)));
    };
    let root = job.places.repository(repository.repo);
    let blob = root.join("blobs").join(&check.sha256);
    let pointer = root.join("snapshots").join(repository.revision).join(repository.folder).join(&file.name);
    let lock_name = format!("{}.lock", check.sha256);
    let folder = root.file_name().unwrap_or_default();
    let lock_path = job.places.hub_cache.join(".locks").join(folder).join(lock_name);
    let _lock = lock::take(&lock_path, job.options, on_event)?;

    // Another revision, or another process that held the lock, may have brought the same content.
    let is_here = blob.is_file()
        && matches!(verify::check_remembered(&blob, Some(check), job.places)?, verify::Verdict::Good { .. });
    if !is_here {
        download(job, wire, repository, file, check, &blob, on_event)?;
    }
    link(&blob, &pointer)?;
    // By its name a commit is found in the snapshots; hf-hub looks for it among the references only.
    let cached = Cache::new(job.places.hub_cache.clone()).repo(repository.named());
    cached.create_ref(repository.revision).map_err(|source| Error::io("write", &root, source))?;
    verify::remember(&pointer, &check.sha256, job.places);
    Ok(())
}

/// Lays a small file that has arrived whole into the hub's cache.
pub(super) fn place(
    places: &Places,
    repo: &str,
    commit: &str,
    name: &str,
    sum: &str,
    bytes: &[u8],
) -> Result<(), Error> {
    let root = places.repository(repo);
    let blob = root.join("blobs").join(sum);
    let folder = blob.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(|source| Error::io("create", folder, source))?;
    write_whole(&blob, bytes)?;
    let pointer = root.join("snapshots").join(commit).join(name);
    link(&blob, &pointer)?;
    verify::remember(&pointer, sum, places);
    Ok(())
}

/// Downloads the content to `blob`.
fn download(
    job: &Job<'_>,
    wire: &Wire<'_>,
    repository: &Repository<'_>,
    file: &FileEntry,
    check: &Check,
    blob: &Path,
    on_event: &mut dyn FnMut(FetchEvent<'_>),
) -> Result<(), Failure> {
    let mut part = Part::open(blob.with_file_name(format!("{}.incomplete", check.sha256)), check)?;
    let mut was_resumed = part.size_bytes > 0;
    let outcome = loop {
        let transfer = Transfer { options: job.options, wire, repository, file, check };
        if let Err(failure) = transfer.run(&mut part, on_event) {
            break Err(failure);
        }
        let sum = part.sum.clone().finish();
        if sum == check.sha256 {
            break Ok(());
        }
        part.restart()?;
        if !std::mem::replace(&mut was_resumed, false) {
            part.remove();
            break Err(Failure::damage(format!("{} {}; removed", file.name, verify::wrong_sum(&sum, check))));
        }
        on_event(FetchEvent::Note { text: "the sum of the resumed download is wrong; starting over" });
    };
    outcome?;
    part.finish(blob)?;
    Ok(())
}

/// The part of a file that has arrived, with its sum so far.
struct Part {
    /// `None` until there is something to write, so that a hub out of reach leaves no trace.
    file: Option<File>,
    path: PathBuf,
    size_bytes: u64,
    sum: Sum,
}

impl Part {
    /// Opens the part of an earlier download, if there is one that is not too long.
    fn open(path: PathBuf, check: &Check) -> Result<Self, Error> {
        let mut part = Self { file: None, path, size_bytes: 0, sum: Sum::default() };
        if !part.path.is_file() {
            return Ok(part);
        }
        let mut open = || {
            let mut file = File::options().read(true).write(true).open(&part.path)?;
            let size_bytes = file.metadata()?.len();
            if size_bytes <= check.size_bytes {
                part.sum.update_from(&mut file)?;
                part.size_bytes = size_bytes;
            } else {
                file.set_len(0)?;
            }
            Ok(file)
        };
        let file = open().map_err(|source| Error::io("read", &part.path, source))?;
        Ok(Self { file: Some(file), ..part })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let directory = self.path.parent().unwrap_or(Path::new("."));
                std::fs::create_dir_all(directory).map_err(|source| Error::io("create", directory, source))?;
                none.insert(File::create(&self.path).map_err(|source| Error::io("create", &self.path, source))?)
            }
        };
        file.write_all(bytes).map_err(|source| Error::io("write", &self.path, source))?;
        self.sum.update(bytes);
        self.size_bytes += bytes.len() as u64;
        Ok(())
    }

    fn restart(&mut self) -> Result<(), Error> {
        if let Some(file) = &mut self.file {
            file.set_len(0)
                .and_then(|()| file.seek(SeekFrom::Start(0)))
                .map_err(|source| Error::io("write", &self.path, source))?;
        }
        (self.size_bytes, self.sum) = (0, Sum::default());
        Ok(())
    }

    fn remove(&self) {
        // An empty part is harmless: the next download starts it over.
        let _ = std::fs::remove_file(&self.path);
    }

    fn finish(self, blob: &Path) -> Result<(), Error> {
        if let Some(file) = &self.file {
            file.sync_all().map_err(|source| Error::io("write", &self.path, source))?;
        }
        std::fs::rename(&self.path, blob).map_err(|source| Error::io("rename", &self.path, source))?;
        sync_directory(blob.parent().unwrap_or(Path::new(".")));
        Ok(())
    }
}

/// Points `snapshots/REVISION/FILE` at the blob, in place of anything that was there.
fn link(blob: &Path, pointer: &Path) -> Result<(), Error> {
    let directory = pointer.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory).map_err(|source| Error::io("create", directory, source))?;
    let name = pointer.file_name().unwrap_or_default().display();
    let temporary = pointer.with_file_name(format!("{name}.{}.new", std::process::id()));
    let made = || {
        #[cfg(unix)]
        {
            let root = blob.ancestors().nth(2).unwrap_or(Path::new(""));
            let depth = directory.strip_prefix(root).map_or(0, |inner| inner.components().count());
            let up: PathBuf = std::iter::repeat_n("..", depth).collect();
            let _ = std::fs::remove_file(&temporary);
            std::os::unix::fs::symlink(up.join("blobs").join(blob.file_name().unwrap_or_default()), &temporary)?;
        }
        #[cfg(not(unix))]
        std::fs::copy(blob, &temporary)?;
        std::fs::rename(&temporary, pointer)
    };
    made().map_err(|source| Error::io("create", pointer, source))?;
    sync_directory(directory);
    Ok(())
}

/// How one request ended short of the whole file.
enum Break {
    /// Asking again may help.
    Lost(String),
    /// The hub asks to come again later.
    Busy(Head),
    /// Asking again cannot help.
    Refused(Failure),
}

impl From<Error> for Break {
    fn from(error: Error) -> Self {
        Self::Refused(Failure::Fatal(error))
    }
}

/// Requests for one file until it is whole.
struct Transfer<'a> {
    options: &'a FetchOptions,
    wire: &'a Wire<'a>,
    repository: &'a Repository<'a>,
    file: &'a FileEntry,
    check: &'a Check,
}

/// Requests in a row that may bring nothing, once the hub has answered; whole downloads from a
/// server that does not resume.
const MOST_EMPTY_REQUESTS: u32 = 3;
/// Requests for one file, whatever they bring.
const MOST_REQUESTS: u32 = 50;

impl Transfer<'_> {
    fn run(&self, part: &mut Part, on_event: &mut dyn FnMut(FetchEvent<'_>)) -> Result<(), Failure> {
        if part.size_bytes == self.check.size_bytes {
            return Ok(());
        }
        let (folder, name) = (self.repository.folder, &self.file.name);
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        let address = self.wire.file(self.repository.repo, self.repository.revision, &path);
        if part.size_bytes > 0 {
            let text = format!("resuming {} after {} bytes", self.file.name, part.size_bytes);
            on_event(FetchEvent::Note { text: &text });
        }
        let (mut has_answered, mut empty, mut may_resume, mut starts_over) = (false, 0, true, 0);
        let mut waits = Waits::default();
        for _ in 0..MOST_REQUESTS {
            if !may_resume {
                part.restart()?;
                starts_over += 1;
            }
            let before = part.size_bytes;
            let lost = match self.request(&address, part, &mut may_resume, on_event) {
                Ok(()) if part.size_bytes == self.check.size_bytes => return Ok(()),
                Ok(()) => "the answer ended early".to_owned(),
                Err(Break::Refused(failure)) => return Err(failure),
                Err(Break::Lost(reason)) => reason,
                Err(Break::Busy(head)) => {
                    self.wire.wait_out(&head, &mut waits, on_event)?;
                    continue;
                }
            };
            has_answered |= part.size_bytes > before;
            empty = if part.size_bytes > before { 0 } else { empty + 1 };
            // A hub that has sent nothing yet is out of reach: the next source is tried at once.
            if !has_answered || empty == MOST_EMPTY_REQUESTS || starts_over == MOST_EMPTY_REQUESTS {
                return Err(Failure::unreachable(lost));
            }
            waits = Waits::default();
            let text = format!("{lost} after {} of {} bytes; asking again", part.size_bytes, self.check.size_bytes);
            on_event(FetchEvent::Note { text: &text });
            self.pause(Duration::from_millis(500 << empty))?;
        }
        Err(Failure::unreachable(format!("{} is not whole after {MOST_REQUESTS} requests", self.file.name)))
    }

    /// One request for what is missing, appended to `part` as it arrives.
    fn request(
        &self,
        address: &str,
        part: &mut Part,
        may_resume: &mut bool,
        on_event: &mut dyn FnMut(FetchEvent<'_>),
    ) -> Result<(), Break> {
        let total_bytes = self.check.size_bytes;
        let start = part.size_bytes;
        let news = self.wire.ask(address, (start > 0).then(|| (start, total_bytes - 1)));
        let head = self.wire.head(&news)?.map_err(Break::Lost)?;
        if !head.is_good() {
            return Err(self.broken(head, start, may_resume));
        }
        if let (0, Some(announced)) = (start, head.length)
            && announced != total_bytes
        {
            let what = format!("{} {}", self.file.name, verify::wrong_size(announced, self.check));
            return Err(Break::Refused(Failure::damage(what)));
        }
        while let Some(chunk) = self.wire.chunk(&news)?.map_err(Break::Lost)? {
            if part.size_bytes + chunk.len() as u64 > total_bytes {
                if start > 0 {
                    *may_resume = false;
                    return Err(Break::Lost("the server does not resume; starting over".into()));
                }
                let what = format!("{} is longer than the {total_bytes} bytes of its manifest", self.file.name);
                part.restart()?;
                return Err(Break::Refused(Failure::damage(what)));
            }
            part.append(&chunk)?;
            let (file, done_bytes) = (self.file.name.as_str(), part.size_bytes);
            on_event(FetchEvent::Progress { file, done_bytes, total_bytes: Some(total_bytes) });
        }
        Ok(())
    }

    fn pause(&self, time: Duration) -> Result<(), Error> {
        let begun = Instant::now();
        while begun.elapsed() < time {
            self.options.check_stop()?;
            std::thread::sleep(time.saturating_sub(begun.elapsed()).min(Duration::from_millis(200)));
        }
        Ok(())
    }

    fn broken(&self, head: Head, start: u64, may_resume: &mut bool) -> Break {
        let (repo, revision) = (self.repository.repo, self.repository.revision);
        let asked = Asked { repo, revision, file: Some(&self.file.name) };
        if head.is_busy() {
            return Break::Busy(head);
        }
        if let Some(told) = self.wire.refusal(&head, &asked) {
            return Break::Refused(Failure::refusal(told));
        }
        if head.status == 416 && start > 0 {
            *may_resume = false;
            return Break::Lost("the server does not resume; starting over".into());
        }
        Break::Lost(format!("answered {}", head.status))
    }
}
