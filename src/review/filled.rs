//! A file of waiting rows that a person has filled in: lines into decisions, or what is wrong with them.

use std::collections::HashMap;
use std::path::Path;

use super::queue::Waiting;
use crate::disk::{Lines, MOST_LINE_BYTES};
use crate::error::{Error, Result};
use crate::row::{Decision, Verdict, hash_of};

/// Bad lines that are told.
const TOLD: usize = 3;

/// What a person filled in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filled {
    /// The decisions, each with its line.
    pub decisions: Vec<(u64, Decision)>,
    /// Lines without a decision.
    pub undecided: u64,
}

/// Lines that cannot be taken, with what is wrong and what helps.
#[derive(Clone, Debug, Default)]
pub(crate) struct BadLines(Vec<(u64, String)>);

impl BadLines {
    /// Notes a line.
    pub(crate) fn add(&mut self, line: u64, what: String) {
        self.0.push((line, what));
    }

    /// An error that tells the first of them, if there is any.
    ///
    /// # Errors
    /// When there is one.
    pub(crate) fn check(mut self, file: &Path) -> Result<()> {
        self.0.sort();
        if self.0.is_empty() {
            return Ok(());
        }
        let told: Vec<String> = self.0.iter().take(TOLD).map(|(line, what)| format!("line {line}: {what}")).collect();
        let more = self.0.len().saturating_sub(TOLD);
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        let what = format!("{}{more}", told.join("; "));
        Err(Error::input(file, what, "nothing was applied; mend the file and apply it again"))
    }
}

/// Reads a filled-in file. Every line is looked at; the bad ones are added to `bad`.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn read(file: &Path, bad: &mut BadLines) -> Result<Filled> {
    let mut lines = Lines::open(file)?;
    let (mut line, mut filled) = (Vec::new(), Filled::default());
    let mut seen: HashMap<String, u64> = HashMap::new();
    while let Some(number) = lines.next(&mut line)? {
        match decision(&line) {
            Ok((id, decision)) => {
                if let Some(before) = seen.insert(id, number) {
                    bad.add(number, format!("the row of line {before} again; leave one of them"));
                }
                match decision {
                    Some(decision) => filled.decisions.push((number, decision)),
                    None => filled.undecided += 1,
                }
            }
            Err(what) => bad.add(number, what),
        }
    }
    Ok(filled)
}

fn decision(line: &[u8]) -> Result<(String, Option<Decision>), String> {
    if line.len() > MOST_LINE_BYTES {
        return Err(format!("longer than {} MiB", MOST_LINE_BYTES >> 20));
    }
    let waiting: Waiting = serde_json::from_slice(line).map_err(|cause| format!("not a queued row: {cause}"))?;
    let Waiting { id, decision, comment, fields, hash, .. } = waiting;
    let is_changed = hash_of(&fields) != hash;
    let verdict = match decision.as_deref().map(str::trim) {
        None | Some("") if is_changed => {
            return Err("the fields were changed, but there is no decision; write \"edit\"".into());
        }
        None | Some("") => return Ok((id, None)),
        Some("accept") if is_changed => {
            return Err("the fields were changed; write \"edit\" for \"accept\"".into());
        }
        Some("accept") => Verdict::Accept,
        Some("edit") if !is_changed => {
            return Err("\"edit\", but no field was changed; change one, or write \"accept\"".into());
        }
        Some("edit") => Verdict::Edit,
        Some("reject") => Verdict::Reject,
        Some(other) => return Err(format!("the decision {other:?} is none of \"accept\", \"edit\" and \"reject\"")),
    };
    let fields = (verdict == Verdict::Edit).then_some(fields);
    let comment = comment.trim().to_owned();
    Ok((id.clone(), Some(Decision { id, decision: verdict, hash, comment, fields })))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_bad_line_is_told_with_what_helps() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("review.jsonl");
        let fields = json!({"q": "x"});
        let hash = hash_of(fields.as_object().expect("an object"));
        let line = |id: &str, decision: &str, text: &str| {
            json!({"id": id, "decision": decision, "why": "", "fields": {"q": text}, "hash": hash}).to_string()
        };
        let lines = [
            line("a", "accept", "x"),
            line("b", "", "x"),
            line("c", "edit", "y"),
            line("d", "reject", "z"),
            line("a", "reject", "x"),
            line("e", "accept", "y"),
            line("f", "edit", "x"),
            line("g", "", "y"),
            line("h", "maybe", "x"),
            "{\"id\": \"i\", \"decison\": \"accept\"}".to_owned(),
            "\u{7}".to_owned(),
        ];
        std::fs::write(&path, lines.join("\n")).expect("written");
        let mut bad = BadLines::default();
        let filled = read(&path, &mut bad).expect("read");
        let found: Vec<(u64, Verdict)> = filled.decisions.iter().map(|(line, d)| (*line, d.decision)).collect();
        assert_eq!(found, [(1, Verdict::Accept), (3, Verdict::Edit), (4, Verdict::Reject), (5, Verdict::Reject)]);
        assert_eq!(filled.undecided, 1);
        assert_eq!(bad.0.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [5, 6, 7, 8, 9, 10, 11]);
        let told = bad.check(&path).expect_err("refused").to_string();
        for part in [
            "line 5: the row of line 1 again",
            "line 6: the fields were changed",
            "(and 4 more)",
            "nothing was applied",
        ] {
            assert!(told.contains(part), "{part} is not in {told}");
        }
    }
}
