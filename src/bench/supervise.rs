//! One engine in a child process, under a time and a memory limit a file.
//!
//! The parent sends a file's text down the child's standard input and reads one JSON line back. A child that is
//! late or too large is killed, and a new one goes on with the next file: an engine that hangs, aborts or eats
//! memory costs one file, not the run. Time is wall time on this side of the pipe. Memory is the child's resident
//! set, read from `/proc` every few milliseconds; where there is no `/proc`, memory is neither limited nor stated.
//!
//! The child is single-threaded as far as this module goes; what threads an engine starts is the engine's to say.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::input::{BenchFile, Spacing};
use super::masks::{Engine, FileResult, Walk, run_file};
use crate::error::{Error, Result};
use instil_grammar::vocab::TokenId;

/// What a file may cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Wall time for compiling and every pass.
    pub time: Duration,
    /// Growth of the child's resident set over what it had before the file, in bytes.
    pub memory_bytes: u64,
}

/// What became of a file.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// The protocol ran to its end (refusals included).
    Done(FileResult),
    /// Out of time.
    Timeout,
    /// Out of memory.
    Memory,
    /// The child died or panicked.
    Crash(String),
}

/// A file with its outcome.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// Position in the input.
    pub index: usize,
    /// What became of it.
    pub outcome: Outcome,
    /// Greatest growth of the resident set during the file, in bytes; 0 where it cannot be read.
    pub peak_bytes: u64,
}

/// What an engine's first child said of itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Startup {
    /// Time to build what depends on the vocabulary alone.
    pub precompute_ns: u64,
    /// Resident set after that, in bytes, the tokenizer included.
    pub resident_bytes: u64,
    /// Growth of the resident set over the precomputation.
    pub precompute_bytes: u64,
}

/// Runs every file through children made by `command`, telling `each` as files finish.
///
/// # Errors
/// When a child cannot be started, or does not say hello.
pub(crate) fn supervise(
    files: &[BenchFile],
    limits: Limits,
    mut command: impl FnMut() -> Command,
    mut each: impl FnMut(Report),
) -> Result<Startup> {
    let mut startup = None;
    let mut worker: Option<Worker> = None;
    for (index, file) in files.iter().enumerate() {
        let running = match &mut worker {
            Some(running) => running,
            slot => {
                let (running, hello) = Worker::start(&mut command())?;
                startup.get_or_insert(hello);
                slot.insert(running)
            }
        };
        let (outcome, peak_bytes) = running.run(&file.text, limits);
        if !matches!(outcome, Outcome::Done(_)) {
            worker = None;
        }
        each(Report { index, outcome, peak_bytes });
    }
    Ok(startup.unwrap_or_default())
}

/// A child process; killed when dropped.
struct Worker {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Worker {
    fn start(command: &mut Command) -> Result<(Self, Startup)> {
        let failed = |what: String| Error::unavailable(format!("bench worker: {what}"), "");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| failed(format!("cannot start: {error}")))?;
        let input = child.stdin.take().expect("standard input is piped");
        let output = child.stdout.take().expect("standard output is piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let Ok(line) = line else { break };
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let worker = Self { child, input, lines };
        let hello = worker
            .lines
            .recv_timeout(Duration::from_secs(300))
            .ok()
            .and_then(|line| serde_json::from_str::<Value>(&line).ok())
            .ok_or_else(|| failed("it did not get ready".into()))?;
        if let Some(error) = hello["error"].as_str() {
            return Err(failed(error.to_owned()));
        }
        let field = |name: &str| hello[name].as_u64().unwrap_or(0);
        let startup = Startup {
            precompute_ns: field("precompute_ns"),
            resident_bytes: field("resident_bytes"),
            precompute_bytes: field("precompute_bytes"),
        };
        Ok((worker, startup))
    }

    fn run(&mut self, text: &str, limits: Limits) -> (Outcome, u64) {
        let before = resident(self.child.id(), "VmRSS:").unwrap_or(0);
        let start = Instant::now();
        let sent = writeln!(self.input, "{}", text.len())
            .and_then(|()| self.input.write_all(text.as_bytes()))
            .and_then(|()| self.input.flush());
        if sent.is_err() {
            return (Outcome::Crash(self.last_words()), 0);
        }
        let mut peak = 0;
        let mut pause = Duration::from_millis(2);
        loop {
            match self.lines.recv_timeout(pause) {
                Ok(line) => {
                    let answer: Value = serde_json::from_str(&line).unwrap_or(Value::Null);
                    peak = peak.max(answer["peak_bytes"].as_u64().unwrap_or(0));
                    return match decode(&answer) {
                        Ok(result) => (Outcome::Done(result), peak),
                        Err(message) => (Outcome::Crash(message), peak),
                    };
                }
                Err(RecvTimeoutError::Timeout) => {
                    let now = resident(self.child.id(), "VmRSS:").unwrap_or(0).saturating_sub(before);
                    peak = peak.max(now);
                    if peak > limits.memory_bytes {
                        return (Outcome::Memory, peak);
                    }
                    if start.elapsed() > limits.time {
                        return (Outcome::Timeout, peak);
                    }
                    pause = (pause * 2).min(Duration::from_millis(20));
                }
                Err(RecvTimeoutError::Disconnected) => return (Outcome::Crash(self.last_words()), peak),
            }
        }
    }

    fn last_words(&mut self) -> String {
        match self.child.wait() {
            Ok(status) => format!("the process ended: {status}"),
            Err(error) => error.to_string(),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Either may fail when the child is gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The child's side: answers each file from `input` with a line on `output` until `input` ends.
///
/// `make` builds the engine (timed as the precomputation a vocabulary); `tokenize` turns text into tokens.
///
/// # Errors
/// When a pipe breaks.
pub(crate) fn serve(
    make: impl FnOnce() -> Result<Box<dyn Engine>>,
    tokenize: &dyn Fn(&str) -> Vec<TokenId>,
    spacing: Spacing,
    input: &mut dyn BufRead,
    output: &mut dyn Write,
) -> Result<()> {
    let broken = |error| Error::io("read or write", "the bench worker's pipe", error);
    let own = std::process::id();
    let before = resident(own, "VmRSS:").unwrap_or(0);
    let start = Instant::now();
    let made = make();
    let precompute_ns = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let after = resident(own, "VmRSS:").unwrap_or(0);
    let hello = match &made {
        Ok(_) => json!({
            "precompute_ns": precompute_ns, "resident_bytes": after, "precompute_bytes": after.saturating_sub(before)
        }),
        Err(error) => json!({ "error": error.to_string() }),
    };
    writeln!(output, "{hello}").and_then(|()| output.flush()).map_err(broken)?;
    let Ok(mut engine) = made else { return Ok(()) };

    let mut head = String::new();
    loop {
        head.clear();
        if input.read_line(&mut head).map_err(broken)? == 0 {
            return Ok(());
        }
        let length = head.trim().parse().map_err(|_| Error::usage("bench worker: bad message", ""))?;
        let mut text = vec![0; length];
        input.read_exact(&mut text).map_err(broken)?;
        let file = BenchFile { name: String::new(), text: String::from_utf8_lossy(&text).into_owned() };
        drop(text);
        let answer = match file.case(spacing) {
            Err(message) => json!({ "error": format!("not a benchmark file: {message}") }),
            Ok(case) => {
                let tokens: Vec<Vec<TokenId>> = case.instances.iter().map(|it| tokenize(&it.text)).collect();
                let reset = reset_peak();
                let before = resident(own, "VmRSS:").unwrap_or(0);
                let run = || run_file(engine.as_mut(), &case, &tokens);
                match std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) {
                    Ok(result) => {
                        let peak = resident(own, if reset { "VmHWM:" } else { "VmRSS:" }).unwrap_or(0);
                        encode(&result, peak.saturating_sub(before))
                    }
                    Err(panic) => {
                        let message = panic
                            .downcast_ref::<String>()
                            .cloned()
                            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                            .unwrap_or_default();
                        json!({ "error": format!("panic: {message}") })
                    }
                }
            }
        };
        writeln!(output, "{answer}").and_then(|()| output.flush()).map_err(broken)?;
    }
}

fn encode(result: &FileResult, peak_bytes: u64) -> Value {
    json!({
        "refused": result.refused,
        "walks": result.walks.iter().map(|walk| (walk.accepted, walk.passed)).collect::<Vec<_>>(),
        "compile_ns": result.compile_ns,
        "first_mask_ns": result.first_mask_ns,
        "cold_ns": result.cold_ns,
        "warm_ns": result.warm_ns,
        "unsteady": result.unsteady,
        "wall_ns": result.wall_ns,
        "peak_bytes": peak_bytes,
    })
}

fn decode(answer: &Value) -> Result<FileResult, String> {
    if let Some(message) = answer["error"].as_str() {
        return Err(message.to_owned());
    }
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let list = |name: &str| answer[name].as_array().cloned().ok_or_else(|| format!("bad answer: no `{name}`"));
    Ok(FileResult {
        refused: answer["refused"].as_str().map(str::to_owned),
        walks: list("walks")?
            .iter()
            .map(|walk| Walk {
                accepted: walk[0] == true,
                passed: usize::try_from(number(&walk[1])).unwrap_or(usize::MAX),
            })
            .collect(),
        compile_ns: number(&answer["compile_ns"]),
        first_mask_ns: number(&answer["first_mask_ns"]),
        cold_ns: list("cold_ns")?.iter().map(number).collect(),
        warm_ns: list("warm_ns")?.iter().map(|pass| (number(&pass[0]), number(&pass[1]))).collect(),
        unsteady: usize::try_from(number(&answer["unsteady"])).unwrap_or(usize::MAX),
        wall_ns: number(&answer["wall_ns"]),
    })
}

/// A memory field of `/proc/PID/status`, in bytes.
fn resident(process: u32, field: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}

/// Sets this process's peak resident set back to the present one; false where that is not possible.
fn reset_peak() -> bool {
    std::fs::write("/proc/self/clear_refs", "5").is_ok()
}
