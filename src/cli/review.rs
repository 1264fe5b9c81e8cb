//! `instil review`: a person's accept, edit or reject on the rows of a run.
//!
//! Without a flag the queue is written and nothing is asked, on a terminal as in a script; `--interactive`
//! asks, a line at a time, so that answers can come from a pipe as well.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::disk::write_whole;
use crate::review::Desk;
use crate::review::desk::Taken;
use crate::review::queue::Waiting;
use crate::row::Verdict;
use crate::{Error, Result};
use clap::Args;
use serde_json::{Map, Value, json};

use super::console::{Answer, Console, say};

const EXAMPLES: &str = "\
Examples:
  instil review run                     write run/review.jsonl: undecided rows, the least sure first
  instil review run --apply             take the decisions filled in there
  instil review run -n 50 --interactive look at 50 rows one by one

In review.jsonl, put \"accept\", \"edit\" (and change `fields` in place) or \"reject\" for `decision`.
Decisions go to run/decisions.jsonl. They survive `generate --resume`, and export, report and filter
honour them: rejected rows are left out, edited ones replaced.";

const KEYS: &str = "a accept, e edit in $EDITOR, r reject (r WHY adds a reason), s skip, q quit";

/// Decide on the rows of a run, the least sure first.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ReviewArguments {
    /// A run directory.
    path: PathBuf,
    /// Take the decisions filled in in FILE [default: the run's review.jsonl].
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    #[expect(clippy::option_option, reason = "the flag may stand without its value")]
    apply: Option<Option<PathBuf>>,
    /// Show rows one at a time and ask.
    #[arg(short, long, conflicts_with = "apply")]
    interactive: bool,
    /// Most rows to queue or to show [default: all].
    #[arg(short = 'n', long, value_name = "ROWS", conflicts_with = "apply")]
    rows: Option<usize>,
}

/// Reviews the run.
pub(super) fn run(arguments: &ReviewArguments, console: &Console) -> Result<Answer> {
    let mut desk = Desk::open(&arguments.path)?;
    let most = arguments.rows.unwrap_or(usize::MAX);
    let mut summary = Map::new();
    let mut notes = Vec::new();
    if let Some(file) = &arguments.apply {
        let taken = desk.apply(file.as_deref())?;
        tell(&taken, &mut notes);
        summary.insert("applied".into(), json!(taken));
    } else if arguments.interactive {
        ask(&mut desk, most, console)?;
    } else {
        let (path, rows) = desk.write_queue(most)?;
        let path = path.display().to_string();
        notes.push(format!("{rows} rows to decide on: {path}"));
        if rows > 0 {
            let run = arguments.path.display();
            notes.push(format!("fill in `decision` there, then: instil review {run} --apply"));
        }
        summary.insert("queued".into(), rows.into());
        summary.insert("file".into(), path.into());
    }
    let tally = desk.tally()?;
    notes.push(tally.told());
    summary.insert("review".into(), json!(tally));
    Ok(Answer::notes(notes, &Value::Object(summary)))
}

fn tell(taken: &Taken, notes: &mut Vec<String>) {
    let known = if taken.known > 0 { format!(", {} stood already", taken.known) } else { String::new() };
    notes.push(format!("{} decisions taken{known}; {} lines without one", taken.new, taken.undecided));
    for (id, why) in &taken.not_taken {
        notes.push(format!("not taken: {id}: {why}"));
    }
}

/// Shows rows and takes what the person says.
fn ask(desk: &mut Desk, most: usize, console: &Console) -> Result<()> {
    let mut input = std::io::stdin().lock();
    say(KEYS);
    desk.each_waiting(most, &mut |desk, row, (place, of)| {
        say(&format!("\n{place} of {of}  {}  ({})", row.id, row.why));
        show(&row.fields);
        loop {
            let mut answer = String::new();
            let read = input.read_line(&mut answer).map_err(|cause| Error::io("read", "standard input", cause))?;
            if read == 0 || console.is_stopped() {
                return Ok(false);
            }
            let (word, rest) = answer.trim().split_once(' ').unwrap_or((answer.trim(), ""));
            match word {
                "a" | "accept" => desk.decide(&row, Verdict::Accept, rest, None)?,
                "r" | "reject" => desk.decide(&row, Verdict::Reject, rest, None)?,
                "e" | "edit" => match edited(desk, &row)? {
                    Ok(fields) => desk.decide(&row, Verdict::Edit, rest, Some(fields))?,
                    Err(what) => {
                        say(&format!("{what}; the row is still undecided"));
                        continue;
                    }
                },
                "s" | "skip" => {}
                "q" | "quit" => return Ok(false),
                _ => {
                    say(KEYS);
                    continue;
                }
            }
            return Ok(true);
        }
    })
}

/// Fields as a person reads them, without what would steer a terminal.
fn show(fields: &Map<String, Value>) {
    for (name, value) in fields {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let clean = |c: char| if c.is_control() && c != '\n' { ' ' } else { c };
        let lines: Vec<String> =
            text.lines().map(|line| format!("  {}", line.replace(char::is_control, " "))).collect();
        say(&format!("{}\n{}", name.chars().map(clean).collect::<String>(), lines.join("\n")));
    }
}

/// The fields as they come back from the person's editor; what stands against them otherwise.
fn edited(desk: &Desk, row: &Waiting) -> Result<Result<Map<String, Value>, String>> {
    let folder = tempfile::tempdir().map_err(|cause| Error::io("create", std::env::temp_dir(), cause))?;
    let path = folder.path().join("fields.json");
    let text = serde_json::to_string_pretty(&row.fields).expect("fields are plain data") + "\n";
    write_whole(&path, text.as_bytes())?;
    if let Err(what) = edit(&path) {
        return Ok(Err(what));
    }
    let text = std::fs::read(&path).map_err(|cause| Error::io("read", &path, cause))?;
    let fields = match serde_json::from_slice::<Map<String, Value>>(&text) {
        Ok(fields) if fields == row.fields => return Ok(Err("no field was changed".into())),
        Ok(fields) => fields,
        Err(cause) => return Ok(Err(format!("that is not a JSON object: {cause}"))),
    };
    Ok(desk.breaks_schema(&row.fields, &fields).map_or(Ok(fields), Err))
}

/// Opens the person's editor on a file, and waits for it.
fn edit(path: &Path) -> Result<(), String> {
    let named = |name: &str| std::env::var(name).ok().filter(|editor| !editor.trim().is_empty());
    let usual = if cfg!(windows) { "notepad" } else { "vi" };
    let editor = named("VISUAL").or_else(|| named("EDITOR")).unwrap_or_else(|| usual.to_owned());
    // An editor may be named with flags of its own.
    let mut words = editor.split_whitespace();
    let program = words.next().unwrap_or(usual);
    match Command::new(program).args(words).arg(path).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{program} ended with {status}")),
        Err(cause) => Err(format!("{program} cannot be started ({cause}); set $EDITOR")),
    }
}
