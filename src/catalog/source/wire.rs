//! The rules of asking the hub: who gets the token, which redirects are followed, how long a busy hub is waited for.
//!
//! A token goes to the hub's own host alone, and only over https or to this machine itself; what a redirect leads to
//! elsewhere never sees it. A request runs on a thread of its own, so that a person who stops the program waits for no
//! server. What is asked, and what an answer holds, is for [`super::hub`] and [`super::listing`] to know.

use std::io::Read as _;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use hf_hub::Cache;
use ureq::Agent;
use ureq::http::{HeaderMap, Uri};

use super::{Failure, FetchEvent, FetchOptions};
use crate::{Error, Result};

/// Where the hub is, unless `HF_ENDPOINT` says otherwise.
const USUAL_ENDPOINT: &str = "https://huggingface.co";
/// Redirects of one request.
const MOST_REDIRECTS: u32 = 10;
/// Waits for a busy hub in a row: those whose length it has said, and those that it left open.
const MOST_WAITS: [u32; 2] = [8, 3];
/// Time between lines while a busy hub is waited for.
const BETWEEN_LINES: Duration = Duration::from_secs(15);

/// The way to one hub.
pub(super) struct Wire<'a> {
    options: &'a FetchOptions,
    endpoint: String,
    agent: Agent,
    /// The token, where the hub may have it.
    token: Option<String>,
    /// There is one, and the hub must not have it.
    is_withheld: bool,
}

/// The beginning of an answer.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// Its status.
    pub status: u16,
    /// Bytes of its body, where they are told.
    pub length: Option<u64>,
    /// The hub's own word for an error, as `GatedRepo`.
    pub code: Option<String>,
    /// How long the hub asks to wait before the next request.
    pub wait: Option<Duration>,
}

/// What comes of a request, in order.
pub(super) enum News {
    /// The answer has begun.
    Answer(Head),
    /// The next bytes of its body.
    Bytes(Vec<u8>),
    /// It is complete.
    End,
    /// No answer, or no more of it, in one line.
    Lost(String),
}

/// What was asked for, for the words of a refusal.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub repo: &'a str,
    pub revision: &'a str,
    /// A file of the repository.
    pub file: Option<&'a str>,
}

/// How often a busy hub was waited for, and how long in all.
#[derive(Default)]
pub(super) struct Waits {
    said: u32,
    open: u32,
    total: Duration,
}

impl<'a> Wire<'a> {
    /// Reads where the hub is and which token there is, and tells where that is withheld.
    ///
    /// # Errors
    /// When the address is none, or the token cannot be sent.
    pub(super) fn open(options: &'a FetchOptions, on_event: &mut dyn FnMut(FetchEvent<'_>)) -> Result<Self> {
        let variable = || std::env::var("HF_ENDPOINT").ok().filter(|value| !value.trim().is_empty());
        let endpoint = options.endpoint.clone().or_else(variable).unwrap_or_else(|| USUAL_ENDPOINT.to_owned());
        let endpoint = endpoint.trim().trim_end_matches('/').to_owned();
        let address = endpoint.parse::<Uri>().ok().filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")));
        let Some(address) = address.filter(|uri| uri.host().is_some()) else {
            let what = format!("HF_ENDPOINT is {endpoint:?}, which is no address of a hub");
            return Err(Error::usage(what, format!("write it as in {USUAL_ENDPOINT}, or unset it")));
        };
        let token = match &options.token {
            Some(token) => Some(plain("the token", token)?),
            None => token()?,
        };
        let is_withheld = token.is_some() && !is_private(&address);
        if is_withheld {
            let text = format!("the token stays here: to {endpoint} it would go in clear; use an https address for it");
            on_event(FetchEvent::Note { text: &text });
        }
        let config = Agent::config_builder()
            .user_agent(concat!("instil/", env!("CARGO_PKG_VERSION")))
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_resolve(Some(options.connect_timeout))
            .timeout_connect(Some(options.connect_timeout))
            .timeout_recv_response(Some(options.answer_timeout))
            .timeout_per_read(Some(options.stall_timeout));
        let token = token.filter(|_| !is_withheld);
        Ok(Self { options, endpoint, agent: config.build().into(), token, is_withheld })
    }

    /// Address of a file of a repository.
    pub(super) fn file(&self, repo: &str, revision: &str, path: &str) -> String {
        let path: Vec<String> = path.split('/').map(escaped).collect();
        format!("{}/{repo}/resolve/{}/{}", self.endpoint, escaped(revision), path.join("/"))
    }

    /// Address of what the hub's API says of a revision of a repository: `revision`, or `tree` for its files.
    pub(super) fn about(&self, repo: &str, what: &str, revision: &str) -> String {
        format!("{}/api/models/{repo}/{what}/{}", self.endpoint, escaped(revision))
    }

    /// Sends a request, perhaps for a range of bytes; its answer comes through the channel. The thread ends with the
    /// answer, with a limit of time, or once nobody listens any more.
    pub(super) fn ask(&self, address: &str, range: Option<(u64, u64)>) -> Receiver<News> {
        let (sender, receiver) = sync_channel(4);
        let request = Request {
            agent: self.agent.clone(),
            range: range.map(|(first, last)| format!("bytes={first}-{last}")),
            token: self.token.clone(),
        };
        let address = address.to_owned();
        std::thread::spawn(move || {
            let listened = match request.send(&address) {
                Ok(answer) => pass_on(answer, &sender),
                Err(reason) => sender.send(News::Lost(reason)),
            };
            // Whoever asked has turned to something else.
            let _ = listened;
        });
        receiver
    }

    /// The head of the answer to come, or why there is none.
    pub(super) fn head(&self, news: &Receiver<News>) -> Result<Result<Head, String>> {
        Ok(match self.wait(news, self.options.answer_timeout)? {
            Some(News::Answer(head)) => Ok(head),
            Some(News::Lost(reason)) => Err(reason),
            Some(News::Bytes(_) | News::End) | None => {
                Err(format!("no answer within {:?}", self.options.answer_timeout))
            }
        })
    }

    /// The next bytes of an answer, `None` at its end, or why there are no more.
    pub(super) fn chunk(&self, news: &Receiver<News>) -> Result<Result<Option<Vec<u8>>, String>> {
        Ok(match self.wait(news, self.options.stall_timeout)? {
            None => Err(format!("no bytes for {:?}", self.options.stall_timeout)),
            Some(News::End | News::Answer(_)) => Ok(None),
            Some(News::Lost(reason)) => Err(reason),
            Some(News::Bytes(chunk)) => Ok(Some(chunk)),
        })
    }

    /// An answer whole, of at most so many bytes; a busy hub is waited for. The body of an answer that refuses is empty.
    pub(super) fn read(
        &self,
        address: &str,
        range: Option<(u64, u64)>,
        most_bytes: usize,
        on_event: &mut dyn FnMut(FetchEvent<'_>),
    ) -> Result<(Head, Vec<u8>), Failure> {
        let mut waits = Waits::default();
        loop {
            let news = self.ask(address, range);
            let head = self.head(&news)?.map_err(Failure::unreachable)?;
            if head.is_busy() {
                self.wait_out(&head, &mut waits, on_event)?;
                continue;
            }
            let mut body = Vec::new();
            if !head.is_good() {
                return Ok((head, body));
            }
            while let Some(chunk) = self.chunk(&news)?.map_err(Failure::unreachable)? {
                body.extend_from_slice(&chunk);
                if body.len() > most_bytes {
                    return Err(Failure::unreachable(format!("its answer is longer than {most_bytes} bytes")));
                }
            }
            if head.length.is_some_and(|length| body.len() as u64 != length) {
                return Err(Failure::unreachable("its answer ended early"));
            }
            return Ok((head, body));
        }
    }

    /// Waits as long as a busy hub asks to.
    ///
    /// # Errors
    /// When it has been waited for long enough, or asks for too much; when the user wants to stop.
    pub(super) fn wait_out(
        &self,
        head: &Head,
        waits: &mut Waits,
        on_event: &mut dyn FnMut(FetchEvent<'_>),
    ) -> Result<(), Failure> {
        let status = head.status;
        let (count, most) = match head.wait {
            Some(_) => (&mut waits.said, MOST_WAITS[0]),
            None => (&mut waits.open, MOST_WAITS[1]),
        };
        let time = head.wait.unwrap_or(Duration::from_secs(1 << *count));
        *count += 1;
        if *count > most {
            return Err(Failure::unreachable(format!("is busy ({status}), also after {most} waits")));
        }
        waits.total += time;
        if waits.total > self.options.busy_timeout {
            let (seconds, most) = (time.as_secs(), self.options.busy_timeout.as_secs());
            let what = format!("is busy ({status}) and asks to wait {seconds} s, where {most} s in all are waited");
            return Err(Failure::unreachable(what));
        }
        let whole = time.as_secs_f64().ceil();
        on_event(FetchEvent::Note { text: &format!("the hub is busy ({status}); asking again in {whole} s") });
        let begun = Instant::now();
        let mut last_line = begun;
        while begun.elapsed() < time {
            self.options.check_stop()?;
            if last_line.elapsed() >= BETWEEN_LINES {
                last_line = Instant::now();
                let left = time.saturating_sub(begun.elapsed()).as_secs();
                on_event(FetchEvent::Note { text: &format!("the hub is busy ({status}); asking again in {left} s") });
            }
            std::thread::sleep(time.saturating_sub(begun.elapsed()).min(Duration::from_millis(100)));
        }
        Ok(())
    }

    /// Why an answer refuses for good, as a person can act on it; `None` where asking again may help.
    pub(super) fn refusal(&self, head: &Head, asked: &Asked<'_>) -> Option<String> {
        let Asked { repo, revision, file } = *asked;
        let page = format!("{}/{repo}", self.endpoint);
        let told = match (head.status, head.code.as_deref().unwrap_or_default()) {
            (401 | 403, "GatedRepo") if self.token.is_some() => {
                format!("is gated, and the account of this token has no access; ask for it on {page}")
            }
            (401 | 403, "GatedRepo") => {
                format!("is gated; accept its conditions on {page}, and set HF_TOKEN to a token of that account")
            }
            (401 | 404, "RepoNotFound") => {
                "is not on the hub, or private; check the spelling, or set HF_TOKEN to a token that may read it".into()
            }
            (_, "DisabledRepo" | "RepositoryDisabled") | (410 | 451, _) => {
                format!("was taken away by the hub ({}); use another repository", head.status)
            }
            (404, "RevisionNotFound") if is_commit(revision) => format!(
                "has no commit {} any more; `instil models pull {repo}` takes what stands there now",
                &revision[..8]
            ),
            (404, "RevisionNotFound") => {
                format!("has no revision {revision}; leave it out, or take a branch, tag or commit of {page}")
            }
            (401, _) => "asks for a token (401); set HF_TOKEN to one that may read it".into(),
            (403, _) => "refuses this token (403); ask for access on its page".into(),
            (404, _) => match file {
                Some(file) => format!("has no {file} at {revision}"),
                None => "is not on the hub (404); check the spelling".into(),
            },
            _ => return None,
        };
        let withheld = " (the token was not sent in clear)";
        Some(format!("{told}{}", if self.is_withheld && head.status != 404 { withheld } else { "" }))
    }

    /// The next news, waiting at most `limit`, looking often whether to stop.
    fn wait(&self, news: &Receiver<News>, limit: Duration) -> Result<Option<News>> {
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
}

impl Head {
    /// Whether the answer brings what was asked for.
    pub(super) fn is_good(&self) -> bool {
        matches!(self.status, 200 | 206)
    }

    /// Whether the hub may answer the same request later.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self.status, 429 | 500 | 502..=504)
    }
}

/// One request and its redirects.
struct Request {
    agent: Agent,
    range: Option<String>,
    token: Option<String>,
}

impl Request {
    fn send(&self, address: &str) -> Result<ureq::http::Response<ureq::Body>, String> {
        let first: Uri = address.parse().map_err(|_| format!("{address:?} is no address"))?;
        let mut uri = first.clone();
        for _ in 0..=MOST_REDIRECTS {
            // What is compressed on the way could not be resumed.
            let mut request = self.agent.get(uri.clone()).header("accept-encoding", "identity");
            if let Some(range) = &self.range {
                request = request.header("range", range);
            }
            if let Some(token) = self.token.as_ref().filter(|_| is_private(&uri) && same_host(&first, &uri)) {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let answer = request.call().map_err(|error| reason(&error))?;
            let location = match answer.status().as_u16() {
                301 | 302 | 303 | 307 | 308 => answer.headers().get("location").and_then(|value| value.to_str().ok()),
                _ => None,
            };
            let Some(location) = location else { return Ok(answer) };
            let next =
                joined(&uri, location).ok_or_else(|| format!("redirects to {location:?}, which is no address"))?;
            if uri.scheme_str() == Some("https") && !is_private(&next) {
                return Err(format!("redirects from {} to plain http, which is not followed", authority(&uri)));
            }
            uri = next;
        }
        Err(format!("redirects more than {MOST_REDIRECTS} times"))
    }
}

/// Whether nobody between can read what is sent there: https, or this machine itself.
fn is_private(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let is_here = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    uri.scheme_str() == Some("https") || is_here
}

fn authority(uri: &Uri) -> &str {
    uri.authority().map_or("", |authority| authority.as_str())
}

/// Whether two addresses are of one server.
fn same_host(one: &Uri, other: &Uri) -> bool {
    let port = |uri: &Uri| uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    let host = |uri: &Uri| uri.host().unwrap_or_default().to_ascii_lowercase();
    one.scheme() == other.scheme() && host(one) == host(other) && port(one) == port(other)
}

/// Where a redirect of `from` leads (RFC 9110, 10.2.2).
fn joined(from: &Uri, location: &str) -> Option<Uri> {
    let (scheme, host) = (from.scheme_str()?, authority(from));
    let text = if location.contains("://") {
        location.to_owned()
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if location.starts_with('/') {
        format!("{scheme}://{host}{location}")
    } else {
        let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{host}{folder}/{location}")
    };
    text.parse::<Uri>().ok().filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some())
}

/// One segment of a path, with what has a meaning in addresses escaped.
fn escaped(segment: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'=');
    let one = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    segment.bytes().map(one).collect()
}

/// Whether a revision is a commit, which never moves.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Hands an answer on as it arrives, until nobody listens.
fn pass_on(
    answer: ureq::http::Response<ureq::Body>,
    listener: &SyncSender<News>,
) -> Result<(), std::sync::mpsc::SendError<News>> {
    let text = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
    listener.send(News::Answer(Head {
        status: answer.status().as_u16(),
        length: answer.body().content_length(),
        code: text("x-error-code").map(str::to_owned),
        wait: asked_wait(answer.headers(), SystemTime::now()),
    }))?;
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

/// How long a server asks to wait: `Retry-After` in seconds or as a date (RFC 9110, 10.2.3), or the `t` of
/// `RateLimit`, which is what the hub sends with 429 (draft-ietf-httpapi-ratelimit-headers).
fn asked_wait(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let retry_after = || {
        let value = text("retry-after")?;
        match value.parse::<u64>() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => Some(httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or_default()),
        }
    };
    let rate_limit = || {
        let seconds = text("ratelimit")?.split(';').find_map(|part| part.trim().strip_prefix("t="))?;
        seconds.parse().ok().map(Duration::from_secs)
    };
    retry_after().or_else(rate_limit)
}

/// The token of this machine's user, as the hub's own programs look for it: `HF_TOKEN`, the file that
/// `HF_TOKEN_PATH` names, the one that was logged in with.
fn token() -> Result<Option<String>> {
    let variable = |name: &str| std::env::var(name).ok().map(|value| value.trim().to_owned()).filter(|v| !v.is_empty());
    let disabled = variable("HF_HUB_DISABLE_IMPLICIT_TOKEN").map(|value| value.to_ascii_lowercase());
    if matches!(disabled.as_deref(), Some("1" | "on" | "yes" | "true")) {
        return Ok(None);
    }
    let from_file = || std::fs::read_to_string(variable("HF_TOKEN_PATH")?).ok();
    let found = match variable("HF_TOKEN") {
        Some(token) => Some(("HF_TOKEN", token)),
        None => from_file().or_else(|| Cache::from_env().token()).map(|token| ("the file of the hub's token", token)),
    };
    let found = found.map(|(place, token)| plain(place, &token)).transpose()?;
    Ok(found.filter(|token| !token.is_empty()))
}

/// A token without the space and line ends around it.
fn plain(place: &str, token: &str) -> Result<String> {
    let token = token.trim();
    if token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(token.to_owned());
    }
    let what = format!("{place} holds a space, a control character or a letter that no token has");
    Err(Error::usage(what, "copy the token again, without what stands around it"))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().expect(text)
    }

    #[test]
    fn only_https_and_this_machine_are_private() {
        for address in ["https://hub.example/x", "http://127.0.0.1:80/", "http://localhost/", "http://[::1]:8/"] {
            assert!(is_private(&uri(address)), "{address}");
        }
        for address in ["http://hub.example/", "http://127.0.0.1.example/", "http://10.0.0.1/"] {
            assert!(!is_private(&uri(address)), "{address}");
        }
    }

    #[test]
    fn a_server_is_its_scheme_host_and_port() {
        let hub = uri("https://hub.example/a");
        assert!(same_host(&hub, &uri("https://HUB.example:443/b")));
        for other in ["http://hub.example/a", "https://hub.example:8443/a", "https://cdn.hub.example/a"] {
            assert!(!same_host(&hub, &uri(other)), "{other}");
        }
    }

    #[test]
    fn redirects_lead_where_they_say() {
        let from = uri("https://hub.example/a/b?c=1");
        for (location, expected) in [
            ("/x?y=2", "https://hub.example/x?y=2"),
            ("//cdn.example/x", "https://cdn.example/x"),
            ("http://cdn.example/x", "http://cdn.example/x"),
            ("x", "https://hub.example/a/x"),
        ] {
            assert_eq!(joined(&from, location), Some(uri(expected)));
        }
        assert_eq!(joined(&from, "file:///etc/passwd"), None);
    }

    #[test]
    fn a_wait_is_told_in_seconds_as_a_date_or_as_a_rate() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").expect("a date");
        for (name, value, expected) in [
            ("retry-after", "7", Some(7)),
            ("retry-after", "Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("ratelimit", "\"resolvers\";r=0;t=33", Some(33)),
            ("retry-after", "soon", None),
            ("date", "7", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().expect("a header"));
            assert_eq!(asked_wait(&headers, now), expected.map(Duration::from_secs), "{name}: {value}");
        }
    }

    #[test]
    fn a_token_is_trimmed_and_nothing_else_is_mended() {
        assert_eq!(plain("HF_TOKEN", " hf_abc\r\n").expect("a token"), "hf_abc");
        for token in ["hf_a\nhf_b", "hf a", "hf_\u{e4}", "hf_\u{7}"] {
            let told = plain("HF_TOKEN", token).expect_err("no token").to_string();
            assert!(told.contains("HF_TOKEN holds") && !told.contains("hf"), "{told}");
        }
    }

    #[test]
    fn addresses_hold_no_bare_question_marks() {
        assert_eq!(escaped("refs/pr/3"), "refs%2Fpr%2F3");
        assert_eq!(escaped("a b#c?.gguf"), "a%20b%23c%3F.gguf");
    }
}
