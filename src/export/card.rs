//! The card of a data set: a README.md that the Hugging Face hub reads, and people too.

use std::fmt::Write;

use serde_json::Value;

use super::data_set::{Exported, Task};
use super::form::Form;
use crate::measure::Report;
use crate::plan::Plan;

/// Values of an attribute that are listed.
const VALUES_LISTED: usize = 40;
/// Entropy below which an attribute counts as unbalanced.
const LOW_ENTROPY: f64 = 0.9;
/// Share of the rows that lie elsewhere than planned, above which it is said.
const FAR_FROM_PLAN: f64 = 0.1;
/// Rows that each value must have had on average for a word on balance.
const LEAST_ROWS: u64 = 5;
/// Self-BLEU above which texts count as alike.
const HIGH_SELF_BLEU: f64 = 0.7;

/// The card.
pub(crate) fn card(task: &Task, exported: &Exported, report: &Report, plan: Option<&Plan>) -> String {
    let mut text = String::new();
    // Writing to a text cannot fail.
    let _ = write_card(task, exported, report, plan, &mut text);
    text
}

fn write_card(
    task: &Task,
    exported: &Exported,
    report: &Report,
    plan: Option<&Plan>,
    out: &mut String,
) -> std::fmt::Result {
    write_front_matter(task, exported, out)?;
    writeln!(out, "\n# {}\n", plain(&task.name))?;
    let form = task.form.name();
    write!(out, "{} rows for training", exported.train)?;
    if exported.test > 0 {
        write!(out, " and {} for testing", exported.test)?;
    }
    writeln!(out, ", in the {form} form. The rows are synthetic: a language model wrote them.")?;
    if exported.test > 0 {
        let by = task.split.as_ref().and_then(|split| split.by.as_deref()).unwrap_or("the prompt");
        writeln!(out, "No value of {by} stands on both sides of the split.")?;
    }
    writeln!(out, "\n## How it was made\n")?;
    match plan {
        Some(plan) => write_plan(plan, out)?,
        None => writeln!(
            out,
            "Exported with instil {} from a file that does not say how it was made.",
            env!("CARGO_PKG_VERSION")
        )?,
    }
    write_counts(report, out)?;
    write_balance(report, out)?;
    write_texts(report, out)?;
    writeln!(out, "\n## Known gaps\n")?;
    gaps(report).iter().try_for_each(|gap| writeln!(out, "- {gap}"))
}

fn write_front_matter(task: &Task, exported: &Exported, out: &mut String) -> std::fmt::Result {
    writeln!(out, "---")?;
    writeln!(out, "pretty_name: {}", Value::from(task.name.as_str()))?;
    if let Some(licence) = &task.licence {
        writeln!(out, "license: {}", Value::from(licence.as_str()))?;
    }
    if let Some(language) = &task.language {
        writeln!(out, "language:\n- {}", Value::from(language.as_str()))?;
    }
    writeln!(out, "task_categories:\n- text-generation")?;
    let size = match exported.train + exported.test {
        0..1_000 => "n<1K",
        1_000..10_000 => "1K<n<10K",
        10_000..100_000 => "10K<n<100K",
        100_000..1_000_000 => "100K<n<1M",
        1_000_000..10_000_000 => "1M<n<10M",
        _ => "10M<n<100M",
    };
    writeln!(out, "size_categories:\n- {size}")?;
    writeln!(out, "tags:\n- synthetic\n- instruction-tuning\n- instil")?;
    if matches!(task.form, Form::Preference | Form::PreferenceMessages) {
        writeln!(out, "- preference")?;
    }
    writeln!(out, "configs:\n- config_name: default\n  data_files:")?;
    for file in &exported.files {
        let split = file.split('.').next().unwrap_or_default();
        writeln!(out, "  - split: {split}\n    path: {file}")?;
    }
    writeln!(out, "---")
}

fn write_plan(plan: &Plan, out: &mut String) -> std::fmt::Result {
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let mut fact = |name: &str, value: Option<String>| match value {
        Some(value) => writeln!(out, "- {name}: {}", plain(&value)),
        None => Ok(()),
    };
    let Plan { model, recipe, .. } = plan;
    fact("program", some(&plan.version).map(|version| format!("instil {version}")))?;
    fact("model", some(&model.name))?;
    fact("licence of the model", model.licence.as_deref().and_then(some).or_else(|| some("not known")))?;
    fact("SHA-256 of the model's files", some(&model.sha256.join(", ")))?;
    fact("scores by", plan.judge.as_ref().and_then(|judge| some(&judge.name)))?;
    let embedder = plan.embedder.as_ref().and_then(|embedder| some(&embedder.name));
    fact("rows of one meaning found by embeddings of", embedder)?;
    fact("recipe", some(&recipe.name))?;
    fact("what it asks for", some(&recipe.description))?;
    fact("seed", Some(plan.seed.to_string()))?;
    let filters = serde_json::to_value(&recipe.filters).expect("filters are plain data");
    let named = |value: &&Value| {
        !matches!(value, Value::Null | Value::Bool(false)) && value.as_array().is_none_or(|list| !list.is_empty())
    };
    let rules =
        filters.as_object().into_iter().flatten().filter(|(_, value)| named(value)).map(|(name, _)| name.as_str());
    fact("filters", some(&rules.collect::<Vec<_>>().join(", ")))?;
    writeln!(out, "\nThe output was decoded under a grammar, so every row has the shape that the schema asks for.")
}

fn write_counts(report: &Report, out: &mut String) -> std::fmt::Result {
    if let Some(review) = report.review.filter(|review| review.decided() > 0) {
        writeln!(out, "\nPeople looked at the rows: {}.", review.told())?;
    }
    if report.rejected.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{} attempts gave {} rows. Turned down:\n", report.generated, report.kept)?;
    writeln!(out, "| rule | attempts |\n|---|---|")?;
    report.rejected.iter().try_for_each(|(rule, count)| writeln!(out, "| {} | {count} |", plain(rule)))
}

fn write_balance(report: &Report, out: &mut String) -> std::fmt::Result {
    if report.attributes.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n## Balance")?;
    for spread in &report.attributes {
        let entropy = spread.entropy.map_or_else(String::new, |entropy| format!(" (entropy {entropy:.3} of 1)"));
        writeln!(out, "\n### {}{entropy}\n", plain(&spread.attribute))?;
        match spread.checked_by.as_slice() {
            [] => writeln!(out, "Planned; no rule looked whether a text follows.\n")?,
            rules => writeln!(out, "Rows were held to it by {}.\n", rules.join(", "))?,
        }
        writeln!(out, "| value | planned | generated | kept |\n|---|---|---|---|")?;
        for value in spread.values.iter().take(VALUES_LISTED) {
            let planned = value.planned.map_or_else(|| "-".into(), |planned| format!("{planned:.1}"));
            writeln!(out, "| {} | {planned} | {} | {} |", plain(&value.value), value.generated, value.kept)?;
        }
        if spread.values.len() > VALUES_LISTED {
            writeln!(out, "\n… and {} more values.", spread.values.len() - VALUES_LISTED)?;
        }
    }
    Ok(())
}

fn write_texts(report: &Report, out: &mut String) -> std::fmt::Result {
    if report.fields.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n## Texts\n")?;
    writeln!(
        out,
        "| field | words, median (5 to 95 %) | distinct 2-grams | self-BLEU | gzip | Vendi |\n|---|---|---|---|---|---|"
    )?;
    let number = |value: Option<f64>| value.map_or_else(|| "-".into(), |value| format!("{value:.2}"));
    for field in &report.fields {
        let words = &field.words;
        let vendi = format!("{} of {}", number(field.vendi), field.vendi_texts);
        writeln!(
            out,
            "| {} | {} ({} to {}) | {} | {} | {} | {vendi} |",
            plain(&field.field),
            words.median,
            words.p5,
            words.p95,
            number(field.distinct[1]),
            number(field.self_bleu),
            number(field.gzip_ratio)
        )?;
    }
    writeln!(
        out,
        "\nDistinct 2-grams are counted on at most 10,000 words, self-BLEU on at most 1,000 texts. The Vendi \
         score uses the {}.",
        report.fields.first().map_or(crate::measure::vendi::KERNEL, |field| &field.vendi_kernel)
    )
}

/// What a reader should know before trusting the data.
fn gaps(report: &Report) -> Vec<String> {
    let mut gaps =
        vec!["No person and no second model has checked the facts in the rows, unless said above.".to_owned()];
    for spread in &report.attributes {
        let name = plain(&spread.attribute);
        let list = |values: Vec<&str>| values.into_iter().take(8).map(plain).collect::<Vec<_>>().join(", ");
        let missing: Vec<&str> =
            spread.values.iter().filter(|value| value.kept == 0).map(|value| value.value.as_str()).collect();
        if !missing.is_empty() {
            gaps.push(format!("{name}: no row for {} of the values ({}).", missing.len(), list(missing)));
        }
        let flagged: Vec<&str> =
            spread.values.iter().filter(|value| value.below_four_fifths).map(|value| value.value.as_str()).collect();
        if !flagged.is_empty() {
            gaps.push(format!(
                "{name}: attempts were accepted less than four fifths as often as the best value's for {}.",
                list(flagged)
            ));
        }
        // What was planned uneven is no gap, and few rows cannot be even.
        let rows: u64 = spread.values.iter().map(|value| value.kept).sum();
        let is_told = rows >= LEAST_ROWS * spread.values.len() as u64;
        match (spread.total_variation, spread.entropy) {
            (Some(distance), _) if distance > FAR_FROM_PLAN && is_told => {
                gaps.push(format!(
                    "{name} is not spread as planned: {:.0} % of its rows lie elsewhere.",
                    distance * 100.0
                ));
            }
            (None, Some(entropy)) if entropy < LOW_ENTROPY && is_told => {
                gaps.push(format!("{name} is unbalanced: its entropy is {entropy:.2} of 1."));
            }
            _ => {}
        }
    }
    for pair in report.pairs.iter().filter(|pair| pair.empty > 0) {
        let (first, second) = (plain(&pair.attributes.0), plain(&pair.attributes.1));
        gaps.push(format!("{first} × {second}: {} of {} combinations have no row.", pair.empty, pair.cells));
    }
    for field in &report.fields {
        if let Some(bleu) = field.self_bleu.filter(|bleu| *bleu > HIGH_SELF_BLEU) {
            gaps.push(format!("The texts of {} are much alike: self-BLEU {bleu:.2}.", plain(&field.field)));
        }
    }
    gaps
}

/// A text from elsewhere on a line of its own, in which nothing is markup (CommonMark 0.31, section 2.4).
fn plain(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut plain = String::with_capacity(line.len());
    let mut is_within = false;
    for c in line.chars() {
        if "\\`*{}[]<>#|~&!$".contains(c) || c == '_' && !is_within {
            plain.push('\\');
        }
        plain.push(c);
        // Within a word an underscore is one.
        is_within = c.is_alphanumeric();
    }
    // What would begin a list or a heading of underlines.
    if plain.starts_with(['-', '+', '=', ':']) { format!("\\{plain}") } else { plain }
}
