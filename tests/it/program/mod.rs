//! The whole program, as a user starts it, with a scripted model: no weights, no network.
//!
//! [`rows`] makes run directories, [`run_files`] plans them, [`resume`] stops, tears, grows and joins them,
//! [`endurance`] does so at any size and on disks that refuse, [`faults`] counts how often, [`from_rows`] evolves, answers, judges and labels,
//! [`tree`] shows families, [`semantic`] keeps meanings apart, [`snapshots`] keeps what people see, [`data_sets`] filters, measures and exports, [`containers`] reads rows of every file, [`conversations`] of every form, [`review`] takes people's decisions,
//! [`texts`] decodes and checks on stdout, [`thinking`] has models think, [`weights`] decodes with a small model of random weights,
//! [`bad_input`] holds every refusal to one clear line, [`closed`] looks away while a command prints. Here is what they share: a place of their own to run
//! the program in.

mod bad_input;
mod closed;
mod containers;
mod conversations;
mod data_sets;
mod endurance;
mod faults;
mod from_rows;
mod languages;
mod resume;
mod review;
mod room;
mod rows;
mod run_files;
mod semantic;
mod snapshots;
mod texts;
mod thinking;
mod tree;
pub mod weights;

use crate::support::random_bert;
use data_sets::run_of_rows;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A directory of its own, in which the program runs with nothing of the user's environment.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary directory") }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.at(name), content).expect("a writable directory");
    }

    /// Writes a scripted model with `(cue, replies)`.
    fn model(&self, name: &str, pause_micros: u64, scenes: &[(&str, Vec<String>)]) {
        // A JSON string or list of strings is TOML as well.
        let mut text = format!(
            "name = \"script\"\nkind = \"scripted\"\nprompt_form = \"chat\"\n[scripted]\npause_micros = {pause_micros}\n"
        );
        for (cue, replies) in scenes {
            text += &format!("[[scripted.scenes]]\ncue = {}\nreplies = {}\n", json!(cue), json!(replies));
        }
        self.write(name, text);
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_instil"));
        command.args(arguments).current_dir(self.folder.path()).env_clear().env("HOME", self.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        Outcome::of(self.command(arguments).output().expect("the program starts"))
    }

    fn spawn(&self, arguments: &[&str]) -> Running {
        Running(Some(self.command(arguments).spawn().expect("the program starts")))
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.at(name)).unwrap_or_else(|cause| panic!("{name}: {cause}"))
    }

    /// The lines of a file of rows, each of which must be whole and JSON.
    fn lines(&self, name: &str) -> Vec<Value> {
        let text = self.read(name);
        assert!(text.is_empty() || text.ends_with('\n'), "{name} ends with half a line");
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{name}: {e}: {line}"))).collect()
    }
}

/// How the program ended.
#[derive(Debug)]
struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Outcome {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("stderr is UTF-8"),
        }
    }

    fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        assert!(!self.stderr.contains("error:") && !self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }

    /// The one error line; it must be the last line of stderr, and hold every one of `parts`.
    fn refused(&self, code: i32, parts: &[&str]) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        let errors: Vec<&str> = self.stderr.lines().filter(|line| line.contains("error:")).collect();
        let last = self.stderr.lines().last().unwrap_or_default();
        assert_eq!(errors, [last], "exactly one error line, and the last: {}", self.stderr);
        assert!(last.starts_with("error: "), "{}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        for part in parts {
            assert!(last.contains(part), "{part:?} is not in: {last}");
        }
        last.to_owned()
    }
}

/// A program under way; killed when dropped.
struct Running(Option<Child>);

impl Running {
    fn child(&mut self) -> &mut Child {
        self.0.as_mut().expect("still under way")
    }

    fn interrupt(&mut self) {
        let id = self.child().id().to_string();
        let status = Command::new("kill").args(["-INT", &id]).status().expect("kill starts");
        assert!(status.success());
    }

    fn finish(mut self) -> Outcome {
        let child = self.0.take().expect("still under way");
        Outcome::of(child.wait_with_output().expect("the program ends"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            // Best effort: it may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits until `condition` holds, and fails when it does not within ten seconds.
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(10), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The plan of a run whose rows satisfy `schema`.
fn plan(schema: Value) -> String {
    let plan = instil::plan::Plan {
        version: "0.1.0".into(),
        rows: 4,
        tries: false,
        shard: None,
        seed: 1,
        model: instil::plan::ModelUsed { name: "script".into(), ..Default::default() },
        judge: None,
        embedder: None,
        engine: "instil".into(),
        schema,
        seeds: None,
        recipe: instil::recipe::builtin::recipe("instruction-response").expect("it is built in"),
        retries: 0,
    };
    json!(plan).to_string()
}

/// The path of a fixture.
fn fixture(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/program").join(name).display().to_string()
}

/// Every sentence that takes one part of each list.
fn combine(parts: &[&[&str]]) -> Vec<String> {
    parts.iter().fold(vec![String::new()], |texts, choices| {
        texts.iter().flat_map(|text| choices.iter().map(move |choice| format!("{text}{choice}"))).collect()
    })
}
