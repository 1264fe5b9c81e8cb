//! Files from the Hugging Face hub, at the addresses that hf-hub gives, into the hub's own cache layout.
//!
//! hf-hub's `download` starts over after a break and writes whatever the server answers, so the bytes are
//! taken here: appended to `blobs/SUM.incomplete`, resumed with a range, summed as they arrive, and renamed
//! only when the sum is right. The blob is named by its SHA-256, which is the entity tag that the hub gives
//! large files. A request runs on a thread of its own, so that a person who stops the program waits for no
//! server.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use hf_hub::api::sync::{ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};
use ureq::Agent;
use ureq::config::RedirectAuthHeaders;

use super::verify::{self, Sum};
use super::{Failure, FetchEvent, FetchOptions, Job, lock, sync_directory};
use crate::Error;
use crate::catalog::manifest::{Check, FileEntry};

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
    // By its name a commit is found in the snapshots; hf-hub looks for it among the references only.
    let cached = Cache::new(job.places.hub_cache.clone()).repo(repository.named());
    cached.create_ref(repository.revision).map_err(|source| Error::io("write", &root, source))?;
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
    let mut part = Part::open(blob.with_file_name(format!("{}.incomplete", check.sha256)), check)?;
    let mut was_resumed = part.size_bytes > 0;
    let outcome = loop {
        let transfer = Transfer { options: job.options, repository, file, check };
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
    fn run(&self, part: &mut Part, on_event: &mut dyn FnMut(FetchEvent<'_>)) -> Result<(), Failure> {
        if part.size_bytes == self.check.size_bytes {
            return Ok(());
        }
        let address = self.address().map_err(|cause| Failure::unreachable(cause.to_string().replace('\n', " ")))?;
        let agent = self.agent();
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
            let lost = match self.request(&agent, &address, part, &mut may_resume, on_event) {
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
            self.pause(Duration::from_millis(500 << empty))?;
        }
        Err(Failure::unreachable(format!("{} is not whole after {MOST_REQUESTS} requests", self.file.name)))
    }

    /// Where the hub has the file: at `HF_ENDPOINT` or the usual place, unless the options say otherwise.
    fn address(&self) -> Result<String, ApiError> {
        let mut builder = ApiBuilder::from_env().with_progress(false).with_token(None);
        if let Some(endpoint) = &self.options.endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
        }
        let (folder, name) = (self.repository.folder, &self.file.name);
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        Ok(builder.build()?.repo(self.repository.named()).url(&path))
    }

    /// Connections through the proxies of the environment; a token stays with the host that it is meant for.
    fn agent(&self) -> Agent {
        let options = self.options;
        let config = Agent::config_builder()
            .user_agent(concat!("instil/", env!("CARGO_PKG_VERSION")))
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .http_status_as_error(false)
            .timeout_resolve(Some(options.connect_timeout))
            .timeout_connect(Some(options.connect_timeout))
            .timeout_recv_response(Some(options.answer_timeout))
            .timeout_per_read(Some(options.stall_timeout));
        config.build().into()
    }

    /// One request for what is missing, appended to `part` as it arrives.
    fn request(
        &self,
        agent: &Agent,
        address: &str,
        part: &mut Part,
        may_resume: &mut bool,
        on_event: &mut dyn FnMut(FetchEvent<'_>),
    ) -> Result<(), Break> {
        let total_bytes = self.check.size_bytes;
        let start = part.size_bytes;
        let news = self.ask(agent, address, start);
        let announced = match self.wait(&news, self.options.answer_timeout)? {
            None => return Err(Break::Lost(format!("no answer within {:?}", self.options.answer_timeout))),
            Some(News::Lost(reason)) => return Err(Break::Lost(reason)),
            Some(News::Answer { status: 200 | 206, length }) => length,
            Some(News::Answer { status, .. }) => return Err(self.broken(status, start, may_resume)),
            Some(News::Bytes(_) | News::End) => unreachable!("an answer begins with its status"),
        };
        if let (0, Some(announced)) = (start, announced)
            && announced != total_bytes
        {
            let what = format!("{} {}", self.file.name, verify::wrong_size(announced, self.check));
            return Err(Break::Refused(Failure::damage(what)));
        }
        loop {
            let chunk = match self.wait(&news, self.options.stall_timeout)? {
                None => return Err(Break::Lost(format!("no bytes for {:?}", self.options.stall_timeout))),
                Some(News::End | News::Answer { .. }) => return Ok(()),
                Some(News::Lost(reason)) => return Err(Break::Lost(reason)),
                Some(News::Bytes(chunk)) => chunk,
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

    /// Sends a request for what follows `start`; its answer comes through the channel. The thread ends with the
    /// answer, with a limit of time, or once nobody listens any more.
    fn ask(&self, agent: &Agent, address: &str, start: u64) -> Receiver<News> {
        let (sender, receiver) = sync_channel(4);
        // What is compressed on the way could not be resumed.
        let mut request = agent.get(address).header("accept-encoding", "identity");
        if start > 0 {
            request = request.header("range", format!("bytes={start}-{}", self.check.size_bytes - 1));
        }
        if let Some(token) = self.options.token.clone().or_else(token) {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        std::thread::spawn(move || {
            let listened = match request.call() {
                Ok(answer) => pass_on(answer, &sender),
                Err(error) => sender.send(News::Lost(reason(&error))),
            };
            // Whoever asked has turned to something else.
            let _ = listened;
        });
        receiver
    }

    /// The next news, waiting at most `limit`, looking often whether to stop.
    fn wait(&self, news: &Receiver<News>, limit: Duration) -> Result<Option<News>, Error> {
        let begun = Instant::now();
        loop {
            self.options.check_stop()?;
            let left = limit.saturating_sub(begun.elapsed());
            match news.recv_timeout(left.min(Duration::from_millis(200))) {
                Ok(news) => return Ok(Some(news)),
                Err(RecvTimeoutError::Disconnected) => return Ok(Some(News::End)),
                Err(RecvTimeoutError::Timeout) if begun.elapsed() >= limit => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn pause(&self, time: Duration) -> Result<(), Error> {
        let begun = Instant::now();
        while begun.elapsed() < time {
            self.options.check_stop()?;
            std::thread::sleep(time.saturating_sub(begun.elapsed()).min(Duration::from_millis(200)));
        }
        Ok(())
    }

    fn broken(&self, status: u16, start: u64, may_resume: &mut bool) -> Break {
        let refused = |what: String| Break::Refused(Failure::unreachable(what));
        match status {
            401 => refused("asks for a token (401); set HF_TOKEN to one that may read it".into()),
            403 => refused("refuses this token (403); ask for access on its page".into()),
            404 => refused(format!("has no {} at {}", self.file.name, self.repository.revision)),
            416 if start > 0 => {
                *may_resume = false;
                Break::Lost("the server does not resume; starting over".into())
            }
            other => Break::Lost(format!("answered {other}")),
        }
    }
}

/// What comes of a request, in order.
enum News {
    /// The answer has begun, with its length where it is told.
    Answer { status: u16, length: Option<u64> },
    /// The next bytes of its body.
    Bytes(Vec<u8>),
    /// It is complete.
    End,
    /// No answer, or no more of it, in one line.
    Lost(String),
}

/// Hands an answer on as it arrives, until nobody listens.
fn pass_on(
    answer: ureq::http::Response<ureq::Body>,
    listener: &SyncSender<News>,
) -> Result<(), std::sync::mpsc::SendError<News>> {
    listener.send(News::Answer { status: answer.status().as_u16(), length: answer.body().content_length() })?;
    let mut body = answer.into_body().into_reader();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match body.read(&mut buffer) {
            Ok(0) => return listener.send(News::End),
            Ok(length) => listener.send(News::Bytes(buffer[..length].to_vec()))?,
            Err(cause) if cause.kind() == std::io::ErrorKind::Interrupted => {}
            // The end of a connection before the end of the answer is told by the length that is missing.
            Err(cause) if cause.kind() == std::io::ErrorKind::UnexpectedEof => return listener.send(News::End),
            Err(cause) => return listener.send(News::Lost(cause.to_string().replace('\n', " "))),
        }
    }
}

/// The token of this machine's user, as the hub's own programs look for it: `HF_TOKEN`, the file that
/// `HF_TOKEN_PATH` names, the one that was logged in with.
fn token() -> Option<String> {
    let variable = |name: &str| std::env::var(name).ok().map(|value| value.trim().to_owned()).filter(|v| !v.is_empty());
    let disabled = variable("HF_HUB_DISABLE_IMPLICIT_TOKEN").map(|value| value.to_ascii_lowercase());
    if matches!(disabled.as_deref(), Some("1" | "on" | "yes" | "true")) {
        return None;
    }
    let from_file = || std::fs::read_to_string(variable("HF_TOKEN_PATH")?).ok();
    let token = variable("HF_TOKEN").or_else(from_file).or_else(|| Cache::from_env().token())?;
    Some(token.trim().to_owned()).filter(|token| !token.is_empty())
}

/// Why there is no answer, as a person can act on it.
fn reason(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => "cannot be reached (no answer in time)".into(),
        ureq::Error::Io(cause) => format!("cannot be reached ({})", cause.to_string().replace('\n', " ")),
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => format!("cannot be reached ({error})"),
        other => other.to_string().replace('\n', " "),
    }
}
