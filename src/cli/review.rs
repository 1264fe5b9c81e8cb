//! `instil review`: a person's accept, edit or reject on the rows of a run, or of any file of JSON Lines.
//!
//! Without a flag the queue is written and nothing is asked, on a terminal as in a script; `--interactive` asks: by
//! single keys on a terminal, a line at a time elsewhere, so that answers can come from a pipe as well.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::disk::write_whole;
use crate::review::Desk;
use crate::review::desk::{Against, Taken};
use crate::review::queue::Waiting;
use crate::row::Verdict;
use crate::{Error, Result};
use clap::Args;
use serde_json::{Map, Value, json};

use super::console::{Answer, Console, say};
use super::person::{Asked, Person};

const EXAMPLES: &str = "\
Examples:
  instil review run                     write run/review.jsonl: undecided rows, the least sure first
  instil review run --apply             take the decisions filled in there
  instil review run -n 50 --interactive look at 50 rows one by one, by single keys
  instil review rows.jsonl -i           any JSON Lines; decisions go to rows.jsonl.decisions.jsonl

In review.jsonl, put \"accept\", \"edit\" (and change `fields` in place) or \"reject\" for `decision`.
Decisions go to run/decisions.jsonl. They survive `generate --resume`, and export, report and filter
honour them: rejected rows are left out, edited ones replaced.";

/// Decide on the rows of a run, the least sure first.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ReviewArguments {
    /// A run directory, or a file of JSON Lines.
    path: PathBuf,
    /// Take the decisions filled in in FILE [default: the queue that was written].
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    #[expect(clippy::option_option, reason = "the flag may stand without its value")]
    apply: Option<Option<PathBuf>>,
    /// Show rows one at a time and ask.
    #[arg(short, long, conflicts_with = "apply")]
    interactive: bool,
    /// Most rows to queue or to show [default: all].
    #[arg(short = 'n', long, value_name = "ROWS", conflicts_with = "apply")]
    rows: Option<usize>,
    /// Where the queue and the decisions go; what else reads the rows looks for them beside the rows [default: there].
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Take edits that the run's schema turns down; those that are only too short or too long are taken in any case.
    #[arg(long)]
    force: bool,
}

/// Reviews the run.
pub(super) fn run(arguments: &ReviewArguments, _: &Console) -> Result<Answer> {
    let mut desk = Desk::open(&arguments.path, arguments.output.as_deref(), arguments.force)?;
    let most = arguments.rows.unwrap_or(usize::MAX);
    let mut summary = Map::new();
    let mut notes = Vec::new();
    if let Some(file) = &arguments.apply {
        let taken = desk.apply(file.as_deref())?;
        tell(&taken, &mut notes);
        summary.insert("applied".into(), json!(taken));
    } else if arguments.interactive {
        ask(&mut desk, most)?;
    } else {
        let (path, rows) = desk.write_queue(most)?;
        let path = path.display().to_string();
        notes.push(format!("{rows} rows to decide on: {path}"));
        if rows > 0 {
            let (rows, place) = (arguments.path.display(), arguments.output.as_ref());
            let place = place.map_or(String::new(), |place| format!(" -o {}", place.display()));
            notes.push(format!("fill in `decision` there, then: instil review {rows}{place} --apply"));
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
    for (id, what) in &taken.beyond_bounds {
        notes.push(format!("taken: {id}: {what}"));
    }
}

/// Shows rows and takes what the person says.
fn ask(desk: &mut Desk, most: usize) -> Result<()> {
    let mut queue = desk.undecided()?;
    queue.truncate(most);
    let mut person = Person::new();
    let (mut at, mut shown) = (0, None);
    // Places in the queue that were decided on, the latest last.
    let mut decided: Vec<usize> = Vec::new();
    loop {
        let Some(&offset) = queue.get(at) else {
            if queue.is_empty() {
                break;
            }
            // The last decision can be taken back, too.
            say("\nthat was the last row: b back, u undo, q quit");
            match person.asks()? {
                Asked::Quit | Asked::Accept(_) => break,
                Asked::Undo => take_back(desk, &queue, &mut decided)?.into_iter().for_each(|last| at = last),
                Asked::Back => at = queue.len() - 1,
                Asked::Jump(place) => at = place.clamp(1, queue.len()) - 1,
                _ => {}
            }
            shown = None;
            continue;
        };
        let row = desk.row(offset)?;
        if shown != Some(at) {
            let stands = desk.decided(&row).map(|decision| decision.decision);
            person.show(&row, (at, queue.len()), stands);
            shown = Some(at);
        }
        let (verdict, comment, fields) = match person.asks()? {
            Asked::Accept(comment) => (Verdict::Accept, comment, None),
            Asked::Reject(comment) => (Verdict::Reject, comment, None),
            Asked::Edit(comment) => match edited(desk, &row)? {
                Ok(fields) => (Verdict::Edit, comment, Some(fields)),
                Err(what) => {
                    say(&format!("{what}; the row is as it was"));
                    continue;
                }
            },
            Asked::Skip => {
                at += 1;
                continue;
            }
            Asked::Back => {
                at = at.saturating_sub(1);
                shown = None;
                continue;
            }
            Asked::Undo => {
                match take_back(desk, &queue, &mut decided)? {
                    Some(last) => (at, shown) = (last, None),
                    None => say("nothing was decided here yet"),
                }
                continue;
            }
            Asked::Jump(place) => {
                if (1..=queue.len()).contains(&place) {
                    at = place - 1;
                } else {
                    say(&format!("there are rows 1 to {}", queue.len()));
                }
                continue;
            }
            Asked::Help => {
                person.help();
                continue;
            }
            Asked::Quit => break,
        };
        desk.decide(&row, verdict, &comment, fields)?;
        person.decided();
        decided.retain(|place| *place != at);
        decided.push(at);
        at += 1;
    }
    Ok(())
}

/// Takes the last decision back; the place of its row.
fn take_back(desk: &mut Desk, queue: &[u64], decided: &mut Vec<usize>) -> Result<Option<usize>> {
    let Some(last) = decided.pop() else { return Ok(None) };
    let row = desk.row(queue[last])?;
    desk.withdraw(&row.id)?;
    Ok(Some(last))
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
    Ok(match desk.against(&row.fields, &fields) {
        Some(Against::Schema(what)) => Err(format!("{what} (--force takes it)")),
        Some(Against::Bounds(what)) => {
            say(&what);
            Ok(fields)
        }
        None => Ok(fields),
    })
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
