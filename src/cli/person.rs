//! A person at the keyboard who decides on rows: what they see, and what they ask for.
//!
//! On a terminal single keys are read; from a pipe, lines of the same letters.

use std::io::{BufRead, IsTerminal};
use std::time::Instant;

use console::{Key, Term};

use crate::review::queue::Waiting;
use crate::row::Verdict;
use crate::{Error, Result};

use super::console::{say, say_painted};
use super::terminal::{colour, harmless};

const KEYS: &str = "a accept, e edit in $EDITOR, r reject (r WHY adds a reason), s skip, b back, u undo, g N go to row N, \
                    q quit";
const SINGLE_KEYS: &str = "a accept, e edit in $EDITOR, r reject, R reject with a reason, s skip, b back, u undo, g go to a \
                           row, q quit, ? this";
/// Widest line of text.
const MOST_WIDTH: usize = 100;

/// What a person asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The row is good; with a comment.
    Accept(String),
    /// It has to go; with a reason.
    Reject(String),
    /// It is to be changed; with a comment.
    Edit(String),
    /// The next row.
    Skip,
    /// The row before.
    Back,
    /// The last decision is taken back.
    Undo,
    /// A row by its place, from 1.
    Jump(usize),
    /// The keys.
    Help,
    /// The end.
    Quit,
}

/// A person who is asked.
pub(super) struct Person {
    /// The terminal, where keys are read one by one.
    terminal: Option<Term>,
    width: usize,
    began: Instant,
    decided: usize,
}

impl Person {
    /// Whoever sits there.
    pub(super) fn new() -> Self {
        let terminal = Some(Term::stderr()).filter(|term| term.is_term() && std::io::stdin().is_terminal());
        let width = terminal.as_ref().map_or(usize::MAX, |term| usize::from(term.size().1).clamp(20, MOST_WIDTH));
        let person = Self { terminal, width, began: Instant::now(), decided: 0 };
        person.help();
        person
    }

    /// Says what may be pressed.
    pub(super) fn help(&self) {
        say(if self.terminal.is_some() { SINGLE_KEYS } else { KEYS });
    }

    /// Counts a decision, for the time that is left.
    pub(super) fn decided(&mut self) {
        self.decided += 1;
    }

    /// Shows a row: the place, from 0, among how many, and what was decided on it before.
    pub(super) fn show(&self, row: &Waiting, (at, of): (usize, usize), stands: Option<Verdict>) {
        let (bold, off) = if colour() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        let stands = match stands {
            None => "",
            Some(Verdict::Accept) => "  accepted",
            Some(Verdict::Edit) => "  edited",
            Some(Verdict::Reject) => "  rejected",
        };
        let left = self.began.elapsed().as_secs_f64() / self.decided.max(1) as f64 * (of - at) as f64;
        let left =
            if self.decided < 3 { String::new() } else { format!("  about {:.0} min left", (left / 60.0).ceil()) };
        say(&format!("\n{} of {of}  {}  ({}){stands}{left}", at + 1, row.id, row.why));
        for (name, value) in &row.fields {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let lines: Vec<String> =
                text.lines().flat_map(|line| wrapped(&harmless(line), self.width.saturating_sub(2))).collect();
            say_painted(&format!("{bold}{}{off}", harmless(name)));
            lines.iter().for_each(|line| say_painted(&format!("  {line}")));
        }
    }

    /// What the person asks for next.
    ///
    /// # Errors
    /// When nothing can be read.
    pub(super) fn asks(&self) -> Result<Asked> {
        let Some(terminal) = &self.terminal else {
            return Ok(read_line()?.map_or(Asked::Quit, |line| of_line(&line)));
        };
        let fail = |cause| Error::io("read", "the keyboard", cause);
        Ok(match terminal.read_key_raw().map_err(fail)? {
            Key::Char('a') | Key::Enter => Asked::Accept(String::new()),
            Key::Char('r') | Key::Del => Asked::Reject(String::new()),
            Key::Char('R') => match self.more("why: ")? {
                Some(why) => Asked::Reject(why),
                None => Asked::Quit,
            },
            Key::Char('e') => Asked::Edit(String::new()),
            Key::Char('s' | ' ') | Key::ArrowRight | Key::ArrowDown => Asked::Skip,
            Key::Char('b') | Key::ArrowLeft | Key::ArrowUp | Key::Backspace => Asked::Back,
            Key::Char('u') => Asked::Undo,
            Key::Char('g') => match self.more("row: ")? {
                Some(place) => place.trim().parse().map_or(Asked::Help, Asked::Jump),
                None => Asked::Quit,
            },
            Key::Char('q') | Key::Escape | Key::CtrlC | Key::Unknown => Asked::Quit,
            _ => Asked::Help,
        })
    }

    /// A line behind a prompt; none at the end of the input.
    fn more(&self, prompt: &str) -> Result<Option<String>> {
        if let Some(terminal) = &self.terminal {
            // What cannot be shown can still be answered.
            let _ = terminal.write_str(prompt);
        }
        read_line()
    }
}

/// A line of stdin; none at its end.
fn read_line() -> Result<Option<String>> {
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    let read = read.map_err(|cause| Error::io("read", "standard input", cause))?;
    Ok((read > 0).then(|| line.trim().to_owned()))
}

/// What a line asks for.
fn of_line(line: &str) -> Asked {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    match word {
        "a" | "accept" => Asked::Accept(rest.into()),
        "r" | "reject" => Asked::Reject(rest.into()),
        "e" | "edit" => Asked::Edit(rest.into()),
        "s" | "skip" => Asked::Skip,
        "b" | "back" => Asked::Back,
        "u" | "undo" => Asked::Undo,
        "g" | "go" => rest.trim().parse().map_or(Asked::Help, Asked::Jump),
        "q" | "quit" => Asked::Quit,
        _ => Asked::Help,
    }
}

/// A line in pieces of at most `width` columns, broken between words where there are spaces.
fn wrapped(line: &str, width: usize) -> Vec<String> {
    let (mut lines, mut last, mut columns) = (Vec::new(), String::new(), 0);
    for word in line.split_inclusive(' ') {
        let wide = console::measure_text_width(word.trim_end());
        if columns > 0 && columns + wide > width {
            lines.push(std::mem::take(&mut last).trim_end().to_owned());
            columns = 0;
        }
        for c in word.chars() {
            let wide = console::measure_text_width(c.encode_utf8(&mut [0; 4]));
            // A word that fills more than a line, or a script without spaces.
            if c != ' ' && columns + wide > width && columns > 0 {
                lines.push(std::mem::take(&mut last));
                columns = 0;
            }
            last.push(c);
            columns += wide;
        }
    }
    lines.push(last.trim_end().to_owned());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words_and_within_scripts_without_spaces() {
        assert_eq!(wrapped("one two three", 8), ["one two", "three"]);
        assert_eq!(wrapped("潮汐是海水", 4), ["潮汐", "是海", "水"]);
        assert_eq!(wrapped("abcdefghij kl", 4), ["abcd", "efgh", "ij", "kl"]);
        assert_eq!(wrapped("", 8), [""]);
        assert_eq!(wrapped("one two", usize::MAX), ["one two"]);
    }

    #[test]
    fn a_line_says_what_a_key_says() {
        assert_eq!(of_line("r too short"), Asked::Reject("too short".into()));
        assert_eq!(of_line("g 12"), Asked::Jump(12));
        assert_eq!(of_line("hm"), Asked::Help);
    }
}
