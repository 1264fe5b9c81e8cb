//! Files from the Hugging Face hub, through hf-hub's streams, into the hub's own cache layout.
//!
//! hf-hub's `download_file` starts over after a break and writes whatever the server answers, so
//! the bytes are taken from its stream here: appended to `blobs/SUM.incomplete`, resumed with a
//! range, summed as they arrive, and renamed only when the sum is right. The blob is named by its
//! SHA-256, which is the entity tag that the hub gives large files.

use std::fs::File;
use std::future::Future;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use hf_hub::{HFClient, HFError, HFRepository, RepoTypeModel};

use super::verify::{self, Sum};
use super::{Failure, FetchEvent, FetchOptions, Job, lock, sync_directory};
use crate::Error;
use crate::model::manifest::{Check, FileEntry};

/// A repository at a commit.
pub(super) struct Repository<'a> {
    pub(super) repo: &'a str,
    pub(super) revision: &'a str,
    pub(super) folder: &'a str,
}

/// Fetches `file` into the hub's cache.
pub(super) fn fetch(
    job: &Job<'_>,
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
        download(job, repository, file, check, &blob, on_event)?;
    }
    link(&blob, &pointer)?;
    verify::remember(&pointer, &check.sha256, job.places);
    Ok(())
}

/// Downloads the content to `blob`.
fn download(
    job: &Job<'_>,
    repository: &Repository<'_>,
    file: &FileEntry,
    check: &Check,
    blob: &Path,
    on_event: &mut dyn FnMut(FetchEvent<'_>),
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::io("start a runtime for", blob, source))?;
    let mut part = Part::open(blob.with_file_name(format!("{}.incomplete", check.sha256)), check)?;
    let mut was_resumed = part.size_bytes > 0;
    let outcome = loop {
        let transfer = Transfer { options: job.options, repository, file, check };
        if let Err(failure) = runtime.block_on(transfer.run(&mut part, on_event)) {
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
    // A name look-up that hangs must not hold up the end.
    runtime.shutdown_background();
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
    async fn run(&self, part: &mut Part, on_event: &mut dyn FnMut(FetchEvent<'_>)) -> Result<(), Failure> {
        if part.size_bytes == self.check.size_bytes {
            return Ok(());
        }
        let handle = self.client().map_err(|error| Failure::unreachable(reason(&error)))?;
        if part.size_bytes > 0 {
            let text = format!("resuming {} after {} bytes", self.file.name, part.size_bytes);
            on_event(FetchEvent::Note { text: &text });
        }
        let (mut has_answered, mut empty, mut may_resume, mut starts_over) = (false, 0, true, 0);
        for _ in 0..MOST_REQUESTS {
            if !may_resume {
                part.restart()?;
                starts_over += 1;
            }
            let before = part.size_bytes;
            let lost = match self.request(&handle, part, &mut may_resume, on_event).await {
                Ok(()) if part.size_bytes == self.check.size_bytes => return Ok(()),
                Ok(()) => "the answer ended early".to_owned(),
                Err(Break::Refused(failure)) => return Err(failure),
                Err(Break::Lost(reason)) => reason,
            };
            has_answered |= part.size_bytes > before;
            empty = if part.size_bytes > before { 0 } else { empty + 1 };
            // A hub that has sent nothing yet is out of reach: the next source is tried at once.
            if !has_answered || empty == MOST_EMPTY_REQUESTS || starts_over == MOST_EMPTY_REQUESTS {
                return Err(Failure::unreachable(lost));
            }
            let text = format!("{lost} after {} of {} bytes; asking again", part.size_bytes, self.check.size_bytes);
            on_event(FetchEvent::Note { text: &text });
            self.wait(tokio::time::sleep(Duration::from_millis(500 << empty)), Duration::from_secs(60)).await?;
        }
        Err(Failure::unreachable(format!("{} is not whole after {MOST_REQUESTS} requests", self.file.name)))
    }

    fn client(&self) -> Result<HFRepository<RepoTypeModel>, HFError> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("instil/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(self.options.connect_timeout)
            .read_timeout(self.options.stall_timeout)
            .build()?;
        let mut builder = HFClient::builder().client(http).cache_enabled(false).retry_max_attempts(0);
        if let Some(endpoint) = &self.options.endpoint {
            builder = builder.endpoint(endpoint);
        }
        if let Some(token) = &self.options.token {
            builder = builder.token(token);
        }
        let (owner, name) = hf_hub::split_id(self.repository.repo);
        Ok(builder.build()?.model(owner, name))
    }

    /// One request for what is missing, appended to `part` as it arrives.
    async fn request(
        &self,
        handle: &HFRepository<RepoTypeModel>,
        part: &mut Part,
        may_resume: &mut bool,
        on_event: &mut dyn FnMut(FetchEvent<'_>),
    ) -> Result<(), Break> {
        let total_bytes = self.check.size_bytes;
        let start = part.size_bytes;
        let path = if self.repository.folder.is_empty() {
            self.file.name.clone()
        } else {
            format!("{}/{}", self.repository.folder, self.file.name)
        };
        let request = handle
            .download_file_stream()
            .filename(path)
            .revision(self.repository.revision)
            .maybe_range((start > 0).then_some(start..total_bytes))
            .send();
        let (announced, mut stream) = match self.wait(request, self.options.answer_timeout).await? {
            None => return Err(Break::Lost(format!("no answer within {:?}", self.options.answer_timeout))),
            Some(Err(error)) => return Err(self.broken(&error, start, may_resume)),
            Some(Ok(opened)) => opened,
        };
        if let (0, Some(announced)) = (start, announced)
            && announced != total_bytes
        {
            let what = format!("{} {}", self.file.name, verify::wrong_size(announced, self.check));
            return Err(Break::Refused(Failure::damage(what)));
        }
        loop {
            let chunk = match self.wait(stream.next(), self.options.stall_timeout).await? {
                None => return Err(Break::Lost(format!("no bytes for {:?}", self.options.stall_timeout))),
                Some(None) => return Ok(()),
                Some(Some(Err(error))) => return Err(Break::Lost(reason(&error))),
                Some(Some(Ok(chunk))) => chunk,
            };
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
    }

    /// Waits for `future`, at most `limit`, looking often whether to stop.
    async fn wait<T>(&self, future: impl Future<Output = T>, limit: Duration) -> Result<Option<T>, Error> {
        let mut future = pin!(future);
        let begun = Instant::now();
        loop {
            self.options.check_stop()?;
            let left = limit.saturating_sub(begun.elapsed());
            match tokio::time::timeout(left.min(Duration::from_millis(200)), &mut future).await {
                Ok(done) => return Ok(Some(done)),
                Err(_) if begun.elapsed() >= limit => return Ok(None),
                Err(_) => {}
            }
        }
    }

    fn broken(&self, error: &HFError, start: u64, may_resume: &mut bool) -> Break {
        let refused = |what: String| Break::Refused(Failure::unreachable(what));
        match error {
            HFError::AuthRequired { .. } => {
                refused("asks for a token (401); set HF_TOKEN to one that may read it".into())
            }
            HFError::Forbidden { .. } => refused("refuses this token (403); ask for access on its page".into()),
            HFError::RepoNotFound { .. } | HFError::EntryNotFound { .. } | HFError::RevisionNotFound { .. } => {
                refused(format!("has no {} at {}", self.file.name, self.repository.revision))
            }
            HFError::Http { context } if context.status.as_u16() == 416 && start > 0 => {
                *may_resume = false;
                Break::Lost("the server does not resume; starting over".into())
            }
            HFError::Http { context } => Break::Lost(format!("answered {}", context.status)),
            other => Break::Lost(reason(other)),
        }
    }
}

/// The innermost cause, which says what a person can act on.
fn reason(error: &HFError) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let text = cause.to_string().replace('\n', " ");
    match error {
        HFError::Request { source, .. } if source.is_timeout() => "cannot be reached (no answer in time)".into(),
        HFError::Request { source, .. } if source.is_connect() => format!("cannot be reached ({text})"),
        _ => text,
    }
}
