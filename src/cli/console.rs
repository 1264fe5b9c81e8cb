//! The two ways out of the program: data on stdout, all else on stderr; and whether the user wants it to stop.
//!
//! A [`Console`] is made once, from the flags that all commands share, and handed to each of them. Nothing else in the
//! program prints. A command gives back an [`Answer`], for a person and for a program; what comes bit by bit is handed
//! out as it comes ([`Console::each`]).

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Error, Result};
use indicatif::ProgressBar;
use serde_json::Value;

use super::exit::Exit;
use super::terminal;

/// How this start of the program speaks with its user.
#[derive(Clone, Debug, Default)]
pub(crate) struct Console {
    quiet: bool,
    json: bool,
    stop: Arc<AtomicBool>,
    /// Somebody looks at `stop`.
    heeded: Arc<AtomicBool>,
    /// The reader of stdout has seen enough.
    closed: Arc<AtomicBool>,
}

impl Console {
    /// A console by the flags.
    pub(super) fn new(quiet: bool, json: bool) -> Self {
        Self { quiet, json, ..Self::default() }
    }

    /// The same, with data and errors only.
    pub(crate) fn hushed(&self) -> Self {
        Self { quiet: true, ..self.clone() }
    }

    /// Whether data is for a program.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether stderr gets errors only.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether whoever watches sees what happens meanwhile: neither quiet nor a program.
    pub(crate) fn is_watched(&self) -> bool {
        !self.quiet && !self.json
    }

    /// What the library looks at to end early.
    pub(super) fn stop(&self) -> &Arc<AtomicBool> {
        self.heeded.store(true, Ordering::Relaxed);
        &self.stop
    }

    /// Asks for an end; whether that had been asked for before.
    pub(super) fn ask_to_stop(&self) -> bool {
        self.stop.swap(true, Ordering::SeqCst)
    }

    /// Whether somebody looks at what was asked.
    pub(super) fn is_heeded(&self) -> bool {
        self.heeded.load(Ordering::Relaxed)
    }

    /// Whether the user asked for an end.
    pub(crate) fn is_stopped(&self) -> bool {
        self.heeded.store(true, Ordering::Relaxed);
        self.stop.load(Ordering::Relaxed)
    }

    /// Ends what the user asked to end; `kept` says what is left of it.
    ///
    /// # Errors
    /// [`Error::Interrupted`] once the user has asked.
    pub(crate) fn check_stop(&self, kept: &str) -> Result<()> {
        if self.is_stopped() {
            return Err(Error::Interrupted { what: kept.into() });
        }
        Ok(())
    }

    /// Whether the reader of stdout is gone, so that no more data need be made.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// A line for the user that is neither data nor an error.
    pub(super) fn note(&self, text: &str) {
        if !self.quiet {
            say(text);
        }
    }

    /// The same, of a text with colours in which all that is not the program's own was made [`terminal::harmless`].
    pub(super) fn note_painted(&self, text: &str) {
        if !self.quiet {
            write_line(text);
        }
    }

    /// A bar with ETA on a terminal; hidden elsewhere and when quiet.
    pub(super) fn bar(&self, length: u64, template: &str) -> ProgressBar {
        terminal::bar(length, template, !self.quiet && is_terminal())
    }

    /// Hands one of several pieces of data out: a text that ends its own lines, or a line of JSON.
    ///
    /// # Errors
    /// When it cannot be written. A reader that is gone is no error; see [`Console::is_closed`].
    pub(super) fn each(&self, text: impl FnOnce() -> String, json: impl FnOnce() -> Value) -> Result<()> {
        if self.json { self.print(&format!("{}\n", json())) } else { self.print(&text()) }
    }

    /// Hands a command's answer out.
    ///
    /// # Errors
    /// The answer's own verdict, or that it cannot be written, or has no JSON.
    pub(super) fn give(&self, answer: Answer) -> Result<()> {
        let Answer { text, json, notes, verdict } = answer;
        match json {
            _ if !self.json => {
                self.print(&text)?;
                if !self.is_closed() {
                    notes.iter().for_each(|line| self.note(line));
                }
            }
            Some(json) => self.print(&json)?,
            None => return Err(Error::usage("what this command prints has no form in JSON", "leave --json out")),
        }
        verdict
    }

    /// Writes data. A reader that has seen enough, as in `instil check … | head -1`, is no error.
    fn print(&self, text: &str) -> Result<()> {
        if text.is_empty() || self.is_closed() {
            return Ok(());
        }
        let mut out = std::io::stdout().lock();
        let text = if out.is_terminal() { terminal::harmless(text) } else { text.into() };
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(cause) if cause.kind() == std::io::ErrorKind::BrokenPipe => {
                self.closed.store(true, Ordering::Relaxed);
                Ok(())
            }
            written => written.map_err(|cause| Error::io("write", "standard output", cause)),
        }
    }
}

/// Prints what clap says in place of running: help and version go to stdout, faults of the arguments to stderr.
pub(super) fn give_told(told: &clap::Error) -> Exit {
    let printed = told.print().and_then(|()| std::io::stdout().flush());
    match printed {
        _ if told.use_stderr() => Exit::Usage,
        Err(cause) if cause.kind() != std::io::ErrorKind::BrokenPipe => {
            let error = Error::io("write", "standard output", cause);
            tell(&error);
            Exit::from(&error)
        }
        _ => Exit::Success,
    }
}

/// What a command found.
#[derive(Debug)]
pub(super) struct Answer {
    text: String,
    json: Option<String>,
    notes: Vec<String>,
    verdict: Result<()>,
}

impl Answer {
    /// Nothing more than what was handed out already.
    pub(super) fn done() -> Self {
        Self { text: String::new(), json: Some(String::new()), notes: Vec::new(), verdict: Ok(()) }
    }

    /// A text for stdout that is the same for a person and a program, and no JSON.
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), json: None, ..Self::done() }
    }

    /// Data for stdout: a text that ends its own lines, and the same as a line of JSON.
    pub(super) fn data(text: impl Into<String>, json: &Value) -> Self {
        Self { text: text.into(), json: Some(format!("{json}\n")), ..Self::done() }
    }

    /// Lines for stderr: stdout gets data only where a program asks for it.
    pub(super) fn notes(notes: Vec<String>, json: &Value) -> Self {
        Self { notes, ..Self::data("", json) }
    }

    /// Data for stdout: a text, and JSON that is written out already.
    pub(super) fn written(text: impl Into<String>, json: impl Into<String>) -> Self {
        Self { text: text.into(), json: Some(json.into()), ..Self::done() }
    }

    /// With one more key in its JSON, where that is an object.
    pub(crate) fn and_json(mut self, key: &str, value: Value) -> Self {
        let object = self.json.as_deref().and_then(|json| serde_json::from_str::<Value>(json).ok());
        if let Some(Value::Object(mut object)) = object {
            object.insert(key.to_owned(), value);
            self.json = Some(format!("{}\n", Value::Object(object)));
        }
        self
    }

    /// With another line for stderr.
    pub(crate) fn and_note(mut self, line: impl Into<String>) -> Self {
        self.notes.push(line.into());
        self
    }

    /// With what the command ends with once the answer is out.
    pub(super) fn ending(self, verdict: Result<()>) -> Self {
        Self { verdict, ..self }
    }

    /// Whether all went well.
    pub(super) fn is_good(&self) -> bool {
        self.verdict.is_ok()
    }
}

/// A line on stderr whatever the flags say: what a person is asked, or has just pressed.
pub(super) fn say(text: &str) {
    write_line(&terminal::harmless(text));
}

/// The same, of a text with colours in which all that is not the program's own was made [`terminal::harmless`].
pub(super) fn say_painted(text: &str) {
    write_line(text);
}

fn write_line(text: &str) {
    // Who closes stderr wants to hear nothing.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// One line for an error, with the causes that it does not name itself.
pub(crate) fn tell(error: &Error) {
    let (on, off) = if terminal::colour() { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
    // Texts from files and servers may hold line ends; an error is one line.
    let text = error.to_string().replace(['\n', '\r'], " ");
    write_line(&format!("{on}error:{off} {}", terminal::harmless(&text)));
}

fn is_terminal() -> bool {
    std::io::stderr().is_terminal()
}
