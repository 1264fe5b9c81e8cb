//! What sessions take: every instance of the project's table of cases (`tests/cases/*.jsonl`) as text, in each style of
//! numbers and of white space that the engine has. Walks show that what masks let through is valid; this shows that
//! what is valid is let through.

use crate::support::session;

use std::path::Path;

use instil::bench::input::{self, BenchFile, Spacing};
use instil_grammar::constraint::Whitespace;
use instil_grammar::grammar::Style;
use serde_json::Value;
use session::Engines;

/// Schemas of the table that are refused.
const REFUSED: [&str; 0] = [];

fn table() -> Vec<BenchFile> {
    input::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")).unwrap()
}

/// The text with a line for each element, indented by two spaces a level; every other byte is kept.
fn pretty(compact: &str) -> String {
    let (mut out, mut depth, mut in_string, mut escaped) = (String::new(), 0_usize, false, false);
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
    };
    let mut chars = compact.chars().peekable();
    while let Some(ch) = chars.next() {
        if in_string {
            out.push(ch);
            in_string = escaped || ch != '"';
            escaped = !escaped && ch == '\\';
            continue;
        }
        in_string = ch == '"';
        match ch {
            '{' | '[' => {
                out.push(ch);
                if let Some(&close @ ('}' | ']')) = chars.peek() {
                    out.push(close);
                    chars.next();
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth -= 1;
                line(&mut out, depth);
                out.push(ch);
            }
            ',' => {
                out.push(ch);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            _ => out.push(ch),
        }
    }
    out
}

/// The instances of a file as texts in a style of white space, each with its verdict.
fn texts(file: &BenchFile, whitespace: Whitespace) -> (Value, Vec<(String, bool)>) {
    let spacing = match whitespace {
        Whitespace::Compact | Whitespace::Pretty => Spacing::Compact,
        Whitespace::Spaced => Spacing::Spaced,
        Whitespace::Flexible => Spacing::Raw,
    };
    let case = file.case(spacing).unwrap();
    let style = |text: String| if whitespace == Whitespace::Pretty { pretty(&text) } else { text };
    (case.schema, case.instances.into_iter().map(|instance| (style(instance.text), instance.valid)).collect())
}

#[test]
fn sessions_take_what_is_valid_and_nothing_else() {
    let engines = Engines::new();
    let table = table();
    let (mut wrong, mut judged, mut taken) = (Vec::new(), 0, 0);
    for whitespace in [Whitespace::Compact, Whitespace::Spaced, Whitespace::Pretty, Whitespace::Flexible] {
        for numbers in [Style::Canonical, Style::Flexible, Style::Any] {
            let mut refused = Vec::new();
            for file in &table {
                let (schema, texts) = texts(file, whitespace);
                let Ok(engine) = engines.of(&schema, numbers, whitespace) else {
                    refused.push(file.name.as_str());
                    continue;
                };
                for (text, valid) in texts {
                    let takes = engines.takes(&engine, &text);
                    judged += 1;
                    taken += usize::from(takes);
                    // Of the other styles some spellings of numbers are not taken, by design.
                    if takes && !valid || valid && !takes && numbers == Style::Any {
                        wrong
                            .push(format!("{numbers:?} {whitespace:?} {}: {text} should be valid: {valid}", file.name));
                    }
                }
            }
            assert_eq!(refused, REFUSED, "{numbers:?} {whitespace:?}");
        }
    }
    assert!(wrong.is_empty(), "{} of {judged}:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
    assert!(judged > 12 * 2000 && taken > 12 * 900, "{taken} of {judged} taken");
}

/// Of the style that generates, what it leaves out must be spellings of numbers and nothing else: no text without a
/// number may be lost.
#[test]
fn only_spellings_of_numbers_are_left_out() {
    let engines = Engines::new();
    let mut wrong = Vec::new();
    for file in table() {
        let (schema, texts) = texts(&file, Whitespace::Compact);
        let engine = |numbers| engines.of(&schema, numbers, Whitespace::Compact).unwrap();
        let (canonical, any) = (engine(Style::Canonical), engine(Style::Any));
        for (text, valid) in texts {
            let has_number = text.contains(|ch: char| ch.is_ascii_digit());
            if valid && !has_number && !engines.takes(&canonical, &text) {
                wrong.push(format!("{}: {text}", file.name));
            }
            if engines.takes(&canonical, &text) && !engines.takes(&any, &text) {
                wrong.push(format!("{}: {text} is canonical, but not one of all spellings", file.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}
