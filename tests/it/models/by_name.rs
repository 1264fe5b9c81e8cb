//! Models by their names on the hub, as a user of the program meets them: found, chosen, pinned, kept, refused.

use std::path::{Path, PathBuf};

use instil_model::gguf::Gguf;
use serde_json::Value;

use super::stand_in::{Answer, Repository, Seen, Server, repositories, sum};
use super::{instil, stand_in, stderr, stdout};
use crate::program::weights::{letters, random_model};
use crate::support::folder;

const COMMIT: &str = "89abcdef89abcdef89abcdef89abcdef89abcdef";
const NEXT: &str = "1111111122222222333333334444444455555555";

/// A home, and a hub that is asked from there.
struct World {
    home: tempfile::TempDir,
    server: Server,
}

/// Weights in several quantisations, one of them in parts, and what else lies in such repositories.
fn small(commit: &'static str) -> Repository {
    let files = vec![
        ("README.md", b"# Small".to_vec()),
        ("Small-BF16.gguf", b"GGUF, in sixteen bits".to_vec()),
        ("Small-Q4_K_M.gguf", random_model()),
        ("Small-Q8_0.gguf", [random_model(), vec![0; 32]].concat()),
        ("parts/Small-F16-00001-of-00002.gguf", b"GGUF, the first".to_vec()),
        ("parts/Small-F16-00002-of-00002.gguf", b"GGUF, the second part".to_vec()),
        ("mmproj-Small-F16.gguf", b"GGUF of pictures".to_vec()),
    ];
    let more = serde_json::json!({
        "cardData": { "license": "apache-2.0" },
        "gguf": { "architecture": "llama", "context_length": 4096 },
    });
    Repository { name: "people/Small-GGUF", commit, files, more }
}

impl World {
    fn new(first: impl FnMut(&Seen) -> Option<Answer> + Send + 'static) -> Self {
        Self { home: tempfile::tempdir().unwrap(), server: repositories(vec![small(COMMIT)], first) }
    }

    fn run(&self, arguments: &[&str]) -> std::process::Output {
        self.run_with(&[], arguments)
    }

    fn run_with(&self, more: &[(&str, &str)], arguments: &[&str]) -> std::process::Output {
        let url = self.server.url();
        let set: Vec<(&str, &str)> = [("HF_ENDPOINT", url.as_str())].into_iter().chain(more.iter().copied()).collect();
        instil(self.home.path(), &set, arguments)
    }

    /// What the program prints when it succeeds.
    fn told(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        stdout(&output)
    }

    /// The one line of an error, which must hold `expected`.
    fn refused(&self, arguments: &[&str], expected: &str) {
        let output = self.run(arguments);
        let told = stderr(&output);
        let last = told.lines().last().unwrap_or_default();
        assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}: {told}");
        assert!(last.starts_with("error: ") && last.contains(expected), "{arguments:?}: {told}");
        assert_eq!(told.matches("error:").count(), 1, "{told}");
    }

    fn cache(&self) -> PathBuf {
        self.home.path().join("cache/huggingface/hub/models--people--Small-GGUF")
    }

    fn asked(&self) -> usize {
        self.server.seen().len()
    }
}

#[test]
fn a_name_leads_to_a_quantisation_at_a_commit() {
    if !stand_in::loopback() {
        return;
    }
    let world = World::new(|_| None);
    let path = world.told(&["models", "pull", "people/Small-GGUF"]);
    assert_eq!(
        path.trim_end(),
        world.cache().join("snapshots").join(COMMIT).join("Small-Q4_K_M.gguf").to_str().unwrap()
    );
    assert_eq!(std::fs::read(path.trim_end()).unwrap(), random_model());
    assert_eq!(std::fs::read_to_string(world.cache().join("refs/main")).unwrap(), COMMIT);
    let blob = std::fs::canonicalize(path.trim_end()).unwrap();
    assert_eq!(blob.file_name().unwrap().to_str().unwrap(), sum(&random_model()));

    // hf-hub itself finds it under the branch, without a network.
    let found = hf_hub::Cache::new(world.home.path().join("cache/huggingface/hub"));
    let found = found.model("people/Small-GGUF".into()).get("Small-Q4_K_M.gguf").unwrap();
    assert_eq!(found, Path::new(path.trim_end()));

    // Every other spelling of the same leads there too, and nobody is asked.
    let asked = world.asked();
    for name in [
        "people/Small-GGUF:q4_k_m",
        "people/Small-GGUF/Small-Q4_K_M.gguf",
        "hf.co/people/Small-GGUF:Q4_K_M",
        "https://huggingface.co/people/Small-GGUF/blob/main/Small-Q4_K_M.gguf",
        &format!("people/Small-GGUF:Q4_K_M@{COMMIT}"),
    ] {
        assert_eq!(world.told(&["models", "path", name]), path, "{name}");
    }
    assert_eq!(world.asked(), asked);
}

#[test]
fn a_second_run_makes_no_request() {
    if !stand_in::loopback() {
        return;
    }
    let world = World::new(|_| None);
    let decode = ["decode", "--model", "people/Small-GGUF", "--regex", "[a-z]{4}", "--seed", "3", "-q"];
    let first = world.told(&decode);
    let asked = world.asked();
    assert!(asked >= 3, "{:?}", world.server.seen());
    assert_eq!(world.told(&decode), first);
    let offline = world.run_with(&[("HF_HUB_OFFLINE", "1")], &decode);
    assert_eq!(stdout(&offline), first);
    world.told(&["models", "tokenize", "people/Small-GGUF", "abc"]);
    world.told(&["models", "list"]);
    assert_eq!(world.asked(), asked);

    // With a hub that is gone as well.
    let World { home, server } = world;
    drop(server);
    assert_eq!(stdout(&instil(home.path(), &[], &decode)), first);
}

#[test]
fn what_another_program_has_fetched_is_taken() {
    if !stand_in::loopback() {
        return;
    }
    let world = World::new(|_| None);
    // As the Python client lays it down: a blob by its sum, a link, a branch; no word about the rest of the repository.
    let snapshot = world.cache().join("snapshots").join(COMMIT);
    for folder in ["blobs", "refs"] {
        std::fs::create_dir_all(world.cache().join(folder)).unwrap();
    }
    std::fs::create_dir_all(&snapshot).unwrap();
    let blob = world.cache().join("blobs").join(sum(&random_model()));
    std::fs::write(&blob, random_model()).unwrap();
    std::fs::hard_link(&blob, snapshot.join("Small-Q4_K_M.gguf")).unwrap();
    std::fs::write(world.cache().join("refs/main"), COMMIT).unwrap();
    for name in ["people/Small-GGUF:Q4_K_M", "people/Small-GGUF/Small-Q4_K_M.gguf"] {
        let decode = ["decode", "--model", name, "--choice", "yes,no", "-q"];
        assert!(["yes\n", "no\n"].contains(&world.told(&decode).as_str()));
    }
    assert!(world.told(&["models", "list"]).contains("people/Small-GGUF:Q4_K_M"));
    assert_eq!(world.asked(), 0);
    // What is usual there only the hub can say, but where it may not be asked what is here is taken.
    let offline = world.run_with(&[("HF_HUB_OFFLINE", "1")], &["models", "pull", "people/Small-GGUF"]);
    assert!(stdout(&offline).contains("Small-Q4_K_M.gguf"), "{}", stderr(&offline));
    world.told(&["models", "tokenize", "people/Small-GGUF", "abc"]);
    assert_eq!(world.asked(), 1, "{:?}", world.server.seen());
    world.told(&["models", "pull", "people/Small-GGUF"]);
    assert_eq!(world.asked(), 2, "{:?}", world.server.seen());
}

#[test]
fn a_run_keeps_the_commit_and_the_sums() {
    if !stand_in::loopback() {
        return;
    }
    let world = World::new(|_| None);
    let recipe = "name: letters\nschema: instruction-response\nsteps:\n\
                  - {field: instruction, prompt: 'Ask:', output: {regex: '[a-z ]{12,30}'}}\n\
                  - {field: response, prompt: 'Answer:', output: {regex: '[a-z ]{12,30}'}}\n";
    let at = |name: &str| world.home.path().join(name).display().to_string();
    std::fs::write(at("recipe.yaml"), recipe).unwrap();
    std::fs::write(at("run.yaml"), "model: people/Small-GGUF@v1.0\nrows: 2\nrecipe: recipe.yaml\n").unwrap();
    world.told(&["generate", "--config", &at("run.yaml"), "-o", &at("run")]);
    let lock: Value = serde_json::from_str(&std::fs::read_to_string(at("run/run.lock.json")).unwrap()).unwrap();
    assert_eq!(lock["model"]["name"], "people/Small-GGUF:Q4_K_M");
    assert_eq!(lock["model"]["revision"], COMMIT);
    assert_eq!(lock["model"]["sha256"][0], sum(&random_model()));
    assert_eq!(lock["model"]["licence"], "apache-2.0");

    // It goes on with that commit, whatever the branch is now, and asks nobody.
    let asked = world.asked();
    std::fs::write(world.cache().join("refs/v1.0"), NEXT).unwrap();
    world.told(&["generate", "--resume", "-n", "3", "-o", &at("run")]);
    assert_eq!(world.asked(), asked);
    assert_eq!(std::fs::read_to_string(at("run/records.jsonl")).unwrap().lines().count(), 3);
}

#[test]
fn pulling_again_takes_what_stands_there_now() {
    if !stand_in::loopback() {
        return;
    }
    let world = World::new(|_| None);
    let first = world.told(&["models", "pull", "people/Small-GGUF:Q8_0"]);
    let moved = repositories(vec![small(NEXT)], |_| None);
    let World { home, .. } = world;
    let set = [("HF_ENDPOINT", moved.url())];
    let set: Vec<(&str, &str)> = set.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let path = stdout(&instil(home.path(), &set, &["models", "path", "people/Small-GGUF:Q8_0"]));
    assert_eq!(path, first);
    assert_eq!(moved.seen().len(), 0);
    let pulled = stdout(&instil(home.path(), &set, &["models", "pull", "people/Small-GGUF:Q8_0"]));
    assert!(pulled.contains(NEXT), "{pulled}");
    // The content is the same, so nothing but the listing was asked for.
    assert_eq!(moved.seen().len(), 1, "{:?}", moved.seen());
    // A hub that is gone takes nothing away.
    let gone = repositories(Vec::new(), |_| None);
    let output = instil(home.path(), &[("HF_ENDPOINT", &gone.url())], &["models", "pull", "people/Small-GGUF:Q8_0"]);
    assert_eq!(stdout(&output), pulled);
    assert!(stderr(&output).contains("is not on the hub, or private"), "{}", stderr(&output));
}

#[test]
fn parts_come_together_and_are_resumed() {
    if !stand_in::loopback() {
        return;
    }
    let mut cut = 1;
    let second = sum(b"GGUF, the second part");
    let path = format!("/content/{second}");
    let world = World::new(move |request| {
        (request.path == path && cut > 0).then(|| {
            cut -= 1;
            let mut answer = Answer::new("200 OK", "GGUF, the second part");
            answer.sent = 10;
            answer
        })
    });
    let path = world.told(&["models", "pull", "people/Small-GGUF:f16"]);
    assert!(path.trim_end().ends_with("parts/Small-F16-00001-of-00002.gguf"), "{path}");
    let other = path.trim_end().replace("00001-of", "00002-of");
    assert_eq!(std::fs::read(other).unwrap(), b"GGUF, the second part");
    let seen = world.server.seen().into_iter().filter(|seen| seen.path.starts_with("/content/"));
    let ranges: Vec<String> = seen.filter_map(|seen| seen.header("range").map(str::to_owned)).collect();
    assert_eq!(ranges, ["bytes=10-20"]);
    assert_eq!(world.told(&["models", "path", "people/Small-GGUF/parts/Small-F16-00002-of-00002.gguf"]), path);
}

#[test]
fn a_repository_is_shown_with_sizes_sums_and_the_usual_choice() {
    if !stand_in::loopback() {
        return;
    }
    let world = World::new(|_| None);
    let shown = world.told(&["models", "show", "people/Small-GGUF"]);
    for expected in ["people/Small-GGUF at 89abcdef (main)", "apache-2.0", "llama", "* Q4_K_M", "  Q8_0", "and 1 more"]
    {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    assert!(!shown.contains("mmproj"), "{shown}");
    let shown: Value = serde_json::from_str(&world.told(&["models", "show", "people/Small-GGUF", "--json"])).unwrap();
    let models = shown["models"].as_array().unwrap();
    let names: Vec<&str> = models.iter().map(|model| model["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["BF16", "Q4_K_M", "Q8_0", "F16"].map(|label| format!("people/Small-GGUF:{label}")));
    assert_eq!(models[1]["files"][0]["sha256"], sum(&random_model()));
    assert_eq!(models[1]["size_bytes"], random_model().len());
    assert_eq!((&models[1]["is_usual"], &models[0]["is_usual"]), (&true.into(), &false.into()));
    assert_eq!(shown["commit"], COMMIT);
    // Looking pins nothing.
    assert!(!world.cache().exists());
    let one = world.told(&["models", "show", "people/Small-GGUF:Q8_0"]);
    assert!(one.contains("Small-Q8_0.gguf") && one.contains("not here"), "{one}");

    world.told(&["models", "pull", "people/Small-GGUF"]);
    let listed = world.told(&["models", "list"]);
    let row = listed.lines().find(|line| line.starts_with("people/Small-GGUF:Q4_K_M")).expect("a row");
    assert!(row.contains("apache-2.0"), "{row}");
    assert!(!listed.contains("Q8_0"), "{listed}");
}

#[test]
fn a_mirror_that_tells_no_sizes_is_asked_for_the_tree() {
    if !stand_in::loopback() {
        return;
    }
    let bare = repositories(vec![small(COMMIT)], |_| None);
    let inner = bare.url();
    let world = World::new(move |request| {
        let _keep = &bare;
        let address = format!("{inner}{}", request.path.replace("?blobs=true", ""));
        request
            .path
            .ends_with("?blobs=true")
            .then(|| Answer::new("307 Temporary Redirect", "").header("Location", address))
    });
    world.told(&["models", "pull", "people/Small-GGUF"]);
    assert!(world.server.seen().iter().any(|seen| seen.path.contains("/tree/")), "{:?}", world.server.seen());
}

/// A repository as a model's makers publish it.
fn makers() -> Repository {
    let place = tempfile::tempdir().unwrap();
    let file = Gguf::parse(&random_model(), "random").unwrap();
    folder::write(place.path(), &file, "qwen2", 2, &serde_json::json!({}));
    folder::write_tokenizer(place.path(), &letters());
    let names = [
        "config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    let mut files: Vec<_> = names.map(|name| (name, std::fs::read(place.path().join(name)).unwrap())).to_vec();
    files.push(("consolidated.safetensors", b"the same in another form".to_vec()));
    Repository { name: "people/Small", commit: COMMIT, files, more: Value::Null }
}

#[test]
fn the_form_of_the_makers_is_taken_by_name_too() {
    if !stand_in::loopback() {
        return;
    }
    let World { home, .. } = World::new(|_| None);
    let world = World { home, server: repositories(vec![makers()], |_| None) };
    let decode = ["decode", "--model", "people/Small", "--regex", "[a-z]{6}", "--seed", "5", "-q"];
    let first = world.told(&decode);
    let asked = world.asked();
    assert!(world.server.seen().iter().all(|seen| !seen.path.contains("consolidated")), "{:?}", world.server.seen());
    // Looking again forgets nothing, and neither the second run nor one offline asks anybody.
    let shown = world.told(&["models", "show", "people/Small", "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["models"][0]["name"], "people/Small:safetensors");
    assert_eq!(shown["models"][0]["files"].as_array().unwrap().len(), 6);
    assert_eq!(world.asked(), asked + 1);
    assert_eq!(world.told(&decode), first);
    assert_eq!(stdout(&world.run_with(&[("HF_HUB_OFFLINE", "1")], &decode)), first);
    assert_eq!(world.asked(), asked + 1);
    // The same folder by its path.
    let path = world.told(&["models", "path", "people/Small:safetensors"]);
    let there = Path::new(path.trim_end()).parent().unwrap().to_str().unwrap();
    assert_eq!(world.told(&["decode", "--model", there, "--regex", "[a-z]{6}", "--seed", "5", "-q"]), first);
}

#[test]
fn a_small_file_is_held_to_what_git_calls_it() {
    if !stand_in::loopback() {
        return;
    }
    let config = makers().files[0].1.clone();
    let path = format!("/content/{}", sum(&config));
    let other: Vec<u8> = config.iter().map(|&byte| if byte == b'2' { b'3' } else { byte }).collect();
    let World { home, .. } = World::new(|_| None);
    let server = repositories(vec![makers()], move |request| {
        (request.path == path).then(|| Answer::new("200 OK", other.clone()))
    });
    let world = World { home, server };
    world.refused(&["models", "pull", "people/Small"], "config.json is not what the hub's listing calls it");
    world.refused(&["models", "path", "people/Small"], "is not on this machine");
}

#[test]
fn a_repository_that_was_renamed_is_followed_and_told() {
    if !stand_in::loopback() {
        return;
    }
    let world = World::new(|request| {
        request.path.contains("old/Name").then(|| {
            let path = request.path.replace("old/Name", "people/Small-GGUF");
            Answer::new("307 Temporary Redirect", "").header("Location", path)
        })
    });
    let output = world.run(&["models", "pull", "old/Name"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("old/Name is now called people/Small-GGUF on the hub"), "{}", stderr(&output));
    let asked = world.asked();
    assert_eq!(world.told(&["models", "path", "old/Name"]), stdout(&output));
    assert_eq!(world.asked(), asked);
}

#[test]
fn a_path_that_is_here_is_no_name() {
    if !stand_in::loopback() {
        return;
    }
    let world = World::new(|_| None);
    let folder = world.home.path().join("people/Small-GGUF");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("own.gguf"), random_model()).unwrap();
    let shown = std::process::Command::new(env!("CARGO_BIN_EXE_instil"))
        .args(["models", "path", "people/Small-GGUF"])
        .current_dir(world.home.path())
        .env("HF_ENDPOINT", world.server.url())
        .output()
        .unwrap();
    assert_eq!(stdout(&shown).trim_end(), "people/Small-GGUF/own.gguf");
    assert_eq!(world.asked(), 0);
}

#[test]
fn what_cannot_be_had_gets_one_line_with_the_remedy() {
    if !stand_in::loopback() {
        return;
    }
    let world = World::new(|request| {
        if request.path.contains("people/Gated") {
            return Some(Answer::new("401 Unauthorized", "").header("X-Error-Code", "GatedRepo"));
        }
        let bare = "{\"id\": \"people/Bare\", \"sha\": \"89abcdef89abcdef89abcdef89abcdef89abcdef\", \"siblings\": \
                    [{\"rfilename\": \"model.safetensors\", \"size\": 5, \"blobId\": \"5\"}]}";
        if request.path.contains("people/Bare") {
            return Some(Answer::new("200 OK", bare));
        }
        request.path.contains("people/Login").then(|| Answer::new("200 OK", "<html>Log in</html>"))
    });
    for (name, expected) in [
        ("people/Nothing", "hub people/Nothing is not on the hub, or private; check the spelling, or set HF_TOKEN"),
        ("people/Gated", "is gated; accept its conditions on"),
        ("people/Small-GGUF@v9", "has no revision v9; leave it out, or take a branch, tag or commit of"),
        ("people/Small-GGUF:Q3_K_S", "has no Q3_K_S; it has BF16 (21 B), Q4_K_M ("),
        ("people/Small-GGUF/else.gguf", "has no else.gguf; it has BF16"),
        (
            "people/Bare",
            "holds no GGUF file, and safetensors without the config.json and tokenizer.json that they need; look",
        ),
        ("people/Login", "gave an answer that is not the hub's (a page that asks for a login, perhaps)"),
        ("hf:people", "is no name on the hub\u{22}; write owner/name"),
    ] {
        let expected = expected.replace("\u{22}; write", "; write");
        for command in [&["models", "pull", name][..], &["decode", "--choice", "a,b", "--model", name][..]] {
            world.refused(command, &expected);
        }
    }
    world.refused(&["models", "path", "people/Small-GGUF"], "`instil models pull people/Small-GGUF` gets it");
    let offline = world.run_with(&[("HF_HUB_OFFLINE", "1")], &["models", "pull", "people/Small-GGUF"]);
    assert!(stderr(&offline).contains("is not on this machine; unset HF_HUB_OFFLINE"), "{}", stderr(&offline));
    // Files of a gated repository: the listing is there for all.
    let gated = World::new(|request| {
        request.path.contains("/resolve/").then(|| Answer::new("403 Forbidden", "").header("X-Error-Code", "GatedRepo"))
    });
    gated.refused(&["models", "pull", "people/Small-GGUF"], "is gated; accept its conditions on");
}

#[test]
fn a_busy_hub_is_waited_for_and_told() {
    if !stand_in::loopback() {
        return;
    }
    let mut busy = 1;
    let world = World::new(move |_| {
        busy -= 1;
        (busy >= 0).then(|| Answer::new("429 Too Many Requests", "").header("Retry-After", "1"))
    });
    let output = world.run(&["models", "pull", "people/Small-GGUF"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("the hub is busy (429); asking again in 1 s"), "{}", stderr(&output));
}

#[test]
fn a_token_in_the_environment_may_end_a_line_and_is_not_shown() {
    if !stand_in::loopback() {
        return;
    }
    let world = World::new(|_| None);
    let output = world.run_with(&[("HF_TOKEN", "hf_secret\n")], &["models", "pull", "people/Small-GGUF"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(world.server.seen().iter().all(|seen| seen.header("authorization") == Some("Bearer hf_secret")));
    let broken = world.run_with(&[("HF_TOKEN", "hf_sec\nret")], &["models", "show", "people/Small-GGUF"]);
    let told = stderr(&broken);
    assert!(told.contains("HF_TOKEN holds a space, a control") && !told.contains("hf_sec"), "{told}");
}

#[test]
fn a_token_does_not_go_over_plain_http() {
    if !stand_in::loopback() {
        return;
    }
    // As a proxy the stand-in sees what would go out.
    let world = World::new(|_| None);
    let proxy = world.server.url();
    let set = [
        ("HF_ENDPOINT", "http://hub.invalid"),
        ("HF_TOKEN", "hf_secret"),
        ("http_proxy", proxy.as_str()),
        ("no_proxy", ""),
        ("NO_PROXY", ""),
    ];
    let output = instil(world.home.path(), &set, &["models", "pull", "people/Small-GGUF"]);
    let told = stderr(&output);
    assert!(told.contains("the token stays here: to http://hub.invalid it would go in clear"), "{told}");
    assert!(output.status.success(), "{told}");
    assert!(world.asked() >= 6, "{:?}", world.server.seen());
    assert!(world.server.seen().iter().all(|seen| seen.header("authorization").is_none()), "{:?}", world.server.seen());
}
