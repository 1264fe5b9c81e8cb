//! A report as a table for people.

use std::fmt::Write;

use super::report::{FieldReport, Report};

/// Values of an attribute that are shown; those furthest from the plan or flagged come first.
const VALUES_SHOWN: usize = 12;

/// The report as text; every line ends.
pub(crate) fn table(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a text cannot fail.
    let _ = write_table(report, &mut text);
    text
}

fn write_table(report: &Report, out: &mut String) -> std::fmt::Result {
    if let Some(planned) = report.planned {
        write!(out, "{planned} rows planned, {} attempts, ", report.generated)?;
    }
    writeln!(out, "{} rows kept", report.kept)?;
    for (rule, count) in &report.rejected {
        writeln!(out, "  rejected by {rule:18} {count:>8}")?;
    }
    if let Some(review) = &report.review {
        writeln!(out, "{}", review.told())?;
    }
    if let Some(session) = &report.throughput {
        writeln!(
            out,
            "last session: {} rows in {:.1} s, {:.1} rows/s, {:.0} tokens/s",
            session.rows, session.seconds, session.rows_per_s, session.tokens_per_s
        )?;
        let (read, shared) = (session.prompt_tokens, session.prompt_tokens_shared);
        if shared > 0 {
            let share = 100.0 * shared as f64 / (read + shared) as f64;
            writeln!(out, "  prompt tokens: {read} read, {shared} shared between rows ({share:.0} %)")?;
        }
        for memory in &session.memory {
            let megabytes = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
            let (weights, keys) = (megabytes(memory.weight_bytes), megabytes(memory.key_value_bytes));
            writeln!(out, "  {}: {weights} of weights, {keys} of keys and values at most", shortened(&memory.model))?;
        }
    }
    if report.unreadable > 0 {
        writeln!(out, "{} lines are not JSON objects", report.unreadable)?;
    }
    if report.repeated_ids > 0 {
        writeln!(out, "{} rows have the id of an earlier row", report.repeated_ids)?;
    }
    for spread in &report.attributes {
        let mut facts = vec![format!("{} values", spread.values.len())];
        facts.extend(spread.entropy.map(|entropy| format!("entropy {entropy:.3}")));
        facts.extend(spread.total_variation.map(|distance| format!("total variation {distance:.3}")));
        if report.planned.is_some() {
            facts.push(match spread.checked_by.as_slice() {
                [] => "as planned: no rule looks whether a text follows".into(),
                rules => format!("held to it by {}", rules.join(", ")),
            });
        }
        writeln!(out, "\n{}: {}", spread.attribute, facts.join(", "))?;
        writeln!(out, "  {:32} {:>9} {:>9} {:>9} {:>9}", "value", "planned", "generated", "kept", "accepted")?;
        let mut values: Vec<_> = spread.values.iter().collect();
        if values.len() > VALUES_SHOWN {
            let gap = |kept: u64, planned: Option<f64>| planned.map_or(0.0, |planned| (planned - kept as f64).abs());
            values.sort_by(|a, b| {
                let flags = b.below_four_fifths.cmp(&a.below_four_fifths);
                flags.then(gap(b.kept, b.planned).total_cmp(&gap(a.kept, a.planned)))
            });
        }
        for value in values.iter().take(VALUES_SHOWN) {
            let planned = value.planned.map_or_else(|| "-".into(), |planned| format!("{planned:.1}"));
            let rate = value.acceptance.map_or_else(|| "-".into(), |rate| format!("{:.0} %", rate * 100.0));
            let mark = if value.below_four_fifths { "  below 4/5 of the best" } else { "" };
            let name = shortened(&value.value);
            writeln!(out, "  {name:32} {planned:>9} {:>9} {:>9} {rate:>9}{mark}", value.generated, value.kept)?;
        }
        if spread.values.len() > VALUES_SHOWN {
            writeln!(out, "  … and {} more", spread.values.len() - VALUES_SHOWN)?;
        }
    }
    if !report.pairs.is_empty() {
        writeln!(out, "\n{:40} {:>8} {:>8} {:>10}", "attributes together", "cells", "empty", "Cramér's V")?;
    }
    for pair in &report.pairs {
        let name = shortened(&format!("{} × {}", pair.attributes.0, pair.attributes.1));
        writeln!(out, "{name:40} {:>8} {:>8} {:>10}", pair.cells, pair.empty, number(pair.cramers_v, 3))?;
    }
    report.fields.iter().try_for_each(|field| write_field(field, out))?;
    if !report.steps.is_empty() {
        writeln!(
            out,
            "\n{:20} {:>10} {:>14} {:>12} {:>14}",
            "step", "tokens", "mean tension", "max tension", "cut by budget"
        )?;
    }
    for step in &report.steps {
        let closed = format!("{:.0} %", step.closed_by_budget * 100.0);
        let name = shortened(&step.field);
        writeln!(
            out,
            "{name:20} {:>10.1} {:>14.3} {:>12.3} {closed:>14}",
            step.tokens, step.tension_mean, step.tension_max
        )?;
    }
    Ok(())
}

fn write_field(field: &FieldReport, out: &mut String) -> std::fmt::Result {
    writeln!(out, "\n{}", field.field)?;
    let (words, chars) = (&field.words, &field.chars);
    writeln!(
        out,
        "  words       {} to {}, median {}, mean {:.1}, 90 % within {} to {}",
        words.min, words.max, words.median, words.mean, words.p5, words.p95
    )?;
    writeln!(out, "  characters  {} to {}, median {}, mean {:.1}", chars.min, chars.max, chars.median, chars.mean)?;
    let [one, two, three] = field.distinct.map(|share| number(share, 3));
    writeln!(out, "  distinct    1-grams {one}, 2-grams {two}, 3-grams {three} (of {} words)", field.distinct_words)?;
    writeln!(out, "  self-BLEU   {} (of {} texts)", number(field.self_bleu, 3), field.self_bleu_texts)?;
    writeln!(out, "  gzip        {} to 1", number(field.gzip_ratio, 2))?;
    writeln!(out, "  Vendi       {} of {} ({})", number(field.vendi, 1), field.vendi_texts, field.vendi_kernel)
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

/// At most 32 characters, without control characters.
fn shortened(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match clean.char_indices().nth(32) {
        None => clean,
        Some(_) => clean.chars().take(31).chain(['…']).collect(),
    }
}
