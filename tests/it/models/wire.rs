//! The rules of asking the hub: who sees a token, which redirects are followed, how a busy hub is waited for.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use instil::Error;
use instil::catalog::source::{FetchEvent, FetchOptions, fetch};

use super::stand_in::{Answer, Faults, Seen, Server, hub};
use super::{HUB, Machine, options, stand_in, try_fetch};

/// A hub that answers its first `times` requests with `status`, and `header` if there is one.
fn busy_hub(
    machine: &Machine,
    status: &'static str,
    mut times: usize,
    header: Option<(&'static str, &'static str)>,
) -> Server {
    let inner = hub(&machine.content, &machine.sum, Faults::default());
    let address = inner.url();
    Server::start(move |request| {
        let _keep = &inner;
        if times > 0 {
            times -= 1;
            let answer = Answer::new(status, "");
            return match header {
                Some((name, value)) => answer.header(name, value),
                None => answer,
            };
        }
        Answer::new("302 Found", "").header("Location", format!("{address}{}", request.path))
    })
}

#[test]
fn a_busy_hub_is_waited_for_as_long_as_it_asks() {
    if !stand_in::loopback() {
        return;
    }
    for (status, header, least) in [
        ("429 Too Many Requests", Some(("Retry-After", "1")), 2.0),
        ("429 Too Many Requests", Some(("RateLimit", "\"resolvers\";r=0;t=1")), 2.0),
        ("503 Service Unavailable", Some(("Retry-After", "Sun, 06 Nov 1994 08:49:37 GMT")), 0.0),
        ("503 Service Unavailable", None, 3.0),
    ] {
        let machine = Machine::new();
        let server = busy_hub(&machine, status, 2, header);
        let begun = Instant::now();
        let (outcome, told) = try_fetch(&machine, &machine.manifest(HUB), &options(&server.url()));
        assert_eq!(std::fs::read(&outcome.unwrap().weights().unwrap().path).unwrap(), machine.content, "{told:?}");
        let seconds = begun.elapsed().as_secs_f64();
        assert!((least..least + 2.5).contains(&seconds), "{status} {header:?}: {seconds}");
        let asked = format!("the hub is busy ({}); asking again in", &status[..3]);
        assert_eq!(told.iter().filter(|line| line.contains(&asked)).count(), 2, "{told:?}");
        assert_eq!(server.seen().len(), 3);
    }
}

#[test]
fn a_busy_hub_is_not_waited_for_without_end() {
    if !stand_in::loopback() {
        return;
    }
    let machine = Machine::new();
    for (header, expected, requests) in [
        (Some(("Retry-After", "3600")), "is busy (429) and asks to wait 3600 s, where 300 s in all are waited", 1),
        (Some(("Retry-After", "0")), "is busy (429), also after 8 waits", 9),
    ] {
        let server = busy_hub(&machine, "429 Too Many Requests", 100, header);
        let error = try_fetch(&machine, &machine.manifest(HUB), &options(&server.url())).0.expect_err("it is busy");
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(server.seen().len(), requests);
    }
}

#[test]
fn stopping_ends_a_wait_at_once() {
    if !stand_in::loopback() {
        return;
    }
    let machine = Machine::new();
    let server = busy_hub(&machine, "503 Service Unavailable", 9, Some(("Retry-After", "60")));
    let options = options(&server.url());
    let (stop, begun) = (options.stop.clone(), Instant::now());
    let outcome = fetch(&machine.manifest(HUB), &machine.places, &options, &mut |event| {
        if matches!(event, FetchEvent::Note { .. }) {
            stop.store(true, Ordering::SeqCst);
        }
    });
    assert!(matches!(outcome, Err(Error::Interrupted { .. })), "{outcome:?}");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

/// The requests that brought a token.
fn with_token(seen: &[Seen]) -> usize {
    seen.iter().filter(|request| request.header("authorization").is_some()).count()
}

#[test]
fn a_token_stays_with_the_hub_that_it_is_for() {
    if !stand_in::loopback() {
        return;
    }
    let machine = Machine::new();
    let elsewhere = hub(&machine.content, &machine.sum, Faults::default());
    let server = busy_hub(&machine, "200 OK", 0, None);
    let away = elsewhere.url();
    let redirecting = Server::start(move |request| {
        Answer::new("302 Found", "").header("Location", format!("{away}{}", request.path))
    });
    for server in [&server, &redirecting] {
        let machine = Machine::new();
        try_fetch(&machine, &machine.manifest(HUB), &options(&server.url())).0.unwrap();
        assert_eq!(with_token(&server.seen()), server.seen().len());
    }
    // Another port is another server, also on this machine.
    assert!(elsewhere.seen().len() >= 2, "{:?}", elsewhere.seen());
    assert_eq!(with_token(&elsewhere.seen()), 0);
}

#[test]
fn a_token_is_never_sent_in_clear() {
    let machine = Machine::new();
    // A name that nobody has: what matters is said before the request.
    let open = FetchOptions { endpoint: Some("http://hub.invalid/".into()), ..options("") };
    let (outcome, told) = try_fetch(&machine, &machine.manifest(HUB), &open);
    outcome.expect_err("there is no such host");
    let told = told.join("\n");
    assert!(told.contains("the token stays here: to http://hub.invalid it would go in clear; use an https"), "{told}");
    for (endpoint, is_told) in [("https://hub.invalid", false), ("http://127.0.0.1:9", false)] {
        let open = FetchOptions { endpoint: Some(endpoint.into()), ..options("") };
        let told = try_fetch(&machine, &machine.manifest(HUB), &open).1.join("\n");
        assert_eq!(told.contains("the token stays here"), is_told, "{endpoint}: {told}");
    }
}

#[test]
fn a_token_with_a_line_end_behind_it_works_and_one_within_is_refused() {
    if !stand_in::loopback() {
        return;
    }
    let machine = Machine::new();
    let server = hub(&machine.content, &machine.sum, Faults::default());
    let with = |token: &str| FetchOptions { token: Some(token.into()), ..options(&server.url()) };
    let error = try_fetch(&machine, &machine.manifest(HUB), &with("se\ncret")).0.expect_err("no token").to_string();
    assert!(error.contains("holds a space, a control character") && !error.contains("cret"), "{error}");
    assert_eq!(server.seen().len(), 0);
    try_fetch(&machine, &machine.manifest(HUB), &with("secret\r\n")).0.unwrap();
    let resolving: Vec<Seen> = server.seen().into_iter().filter(|seen| seen.path.contains("/resolve/")).collect();
    assert!(resolving.iter().all(|request| request.header("authorization") == Some("Bearer secret")), "{resolving:?}");
}

#[test]
fn refusals_of_the_hub_say_what_helps() {
    if !stand_in::loopback() {
        return;
    }
    let machine = Machine::new();
    for (status, code, token, expected) in [
        ("401 Unauthorized", "GatedRepo", "", "is gated; accept its conditions on"),
        ("403 Forbidden", "GatedRepo", "secret", "the account of this token has no access; ask for it on"),
        ("401 Unauthorized", "RepoNotFound", "", "is not on the hub, or private; check the spelling"),
        ("404 Not Found", "RevisionNotFound", "", "has no commit 01234567 any more; `instil models pull toys/toy`"),
        ("404 Not Found", "EntryNotFound", "", "has no model.gguf at 0123456789"),
        ("403 Forbidden", "DisabledRepo", "", "was taken away by the hub (403); use another repository"),
    ] {
        let server = Server::start(move |_| Answer::new(status, "").header("X-Error-Code", code));
        let options =
            FetchOptions { token: Some(token.into()).filter(|_| !token.is_empty()), ..options(&server.url()) };
        let error = try_fetch(&machine, &machine.manifest(HUB), &options).0.expect_err("refused").to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{expected}: {error}");
        assert_eq!(server.seen().len(), 1, "{code} is asked once");
    }
}
