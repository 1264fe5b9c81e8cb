//! `instil tree`: what was made of each seed of an evolved run.

use std::path::PathBuf;

use crate::Result;
use crate::row::Reason;
use crate::run::tree::{Family, Member, families};
use clap::Args;
use serde_json::json;

use super::console::{Answer, Console};

const EXAMPLES: &str = "\
Examples:
  instil tree run                   the first ten families
  instil tree run 7-000012          the family of a row, or of a seed, by its id
  instil tree run -n 500 --json     one family a line, for machines

A line starts with + for a row that was kept and - for an attempt that was turned down; it stands below
what it was made from.";

/// Characters of a text that are shown.
const SHOWN: usize = 300;

/// Show what was made of each seed: operators, rounds, and what turned attempts down.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TreeArguments {
    /// The directory of an evolved run.
    path: PathBuf,
    /// The id of a row or of a seed: its family alone.
    id: Option<String>,
    /// Most families to show.
    #[arg(short = 'n', long, default_value_t = 10, conflicts_with = "id")]
    families: usize,
}

/// Shows the families.
pub(super) fn run(arguments: &TreeArguments, console: &Console) -> Result<Answer> {
    let (families, all) = families(&arguments.path, arguments.id.as_deref(), arguments.families)?;
    for (at, family) in families.iter().enumerate() {
        let text = || {
            let gap = if at > 0 { "\n" } else { "" };
            family.members.iter().fold(format!("{gap}{}", heading(family)), |text, member| text + &line(member))
        };
        console.each(text, || json!(family))?;
    }
    if !console.is_closed() && arguments.id.is_none() && families.len() < all {
        console.note(&format!("{} of {all} families; -n shows more", families.len()));
    }
    Ok(Answer::done())
}

fn heading(family: &Family) -> String {
    let id = family.seed_id.as_ref().map(|id| format!(" ({})", shown(id.as_str().unwrap_or(&id.to_string()))));
    let asks = family.instruction.as_deref().map_or_else(|| "(its file is gone or has changed)".into(), shown);
    format!("seed {}{}: {asks}\n", family.seed, id.unwrap_or_default())
}

fn line(member: &Member) -> String {
    let Member { depth, id, round, attempt, operator, reason, instruction, .. } = member;
    let (mark, indent) = (if member.kept { '+' } else { '-' }, "  ".repeat((*depth).min(32)));
    let operator = operator.as_ref().map(|operator| format!(", {}", shown(operator))).unwrap_or_default();
    let why = match reason {
        Some(Reason { rule, detail }) if detail.is_empty() => format!(" [{rule}]"),
        Some(Reason { rule, detail }) => format!(" [{rule}: {}]", shown(detail)),
        None => String::new(),
    };
    let attempt = if member.kept { String::new() } else { format!(" attempt {}", attempt + 1) };
    format!("{indent}{mark} {}{attempt}, round {round}{operator}{why}: {}\n", shown(id), shown(instruction))
}

/// On one line, without what would steer a terminal, and not too long.
fn shown(text: &str) -> String {
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    let line = words.join(" ");
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
