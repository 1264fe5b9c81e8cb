//! The `filters:` key of a recipe: which rules hold, on which fields, with which bounds.
//!
//! Rules are asked in the order in which [`Filters`] lists them, the cheap ones first.

use std::path::Path;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::added::Added;
use super::copied::Copied;
use super::cross_row::CrossRows;
use super::decontaminate::Decontaminate;
use super::judged::Judged;
use super::language::LanguageOf;
use super::leak::PromptLeak;
use super::length::Length;
use super::near::{LEAST_THRESHOLD, Near};
use super::overlap::Overlap;
use super::phrases::Phrases;
use super::pii::Pii;
use super::rouge::RougeL;
use super::semantic::Semantic;
use super::{Filter, decoding, echo, empty, loops, refusal, sentence_end, stop_words};
use crate::error::{Error, Result};
use instil_model::model::embedder::Embedder;

/// Most bytes of a file of rules.
const MOST_BYTES: u64 = 1 << 20;

/// The filters of a recipe, as its file names them. Fields are named as [`super::text::text`] reads
/// them; none of the rules holds unless it is named.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Filters {
    /// Fields that must hold a word.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub empty: Vec<String>,
    /// Bounds on the length of fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub length: Vec<Length>,
    /// Fields that must end as a sentence ends.
    pub sentence_end: Vec<String>,
    /// Fields that must not loop.
    pub loops: Vec<String>,
    /// `[source, echo]`: the second field must not repeat the first.
    pub echo: Option<(String, String)>,
    /// Fields that must not refuse the task, or speak of being a language model.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refusal: Vec<String>,
    /// Fields that must not say "sorry" in fewer than 80 words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sorry: Vec<String>,
    /// Fields that must hold more than punctuation and stop words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop_words: Vec<String>,
    /// How many words more a field has than the one that it was made from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<Added>,
    /// Fields that must not take their words from the examples in the prompt.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub copied: Vec<Copied>,
    /// How many of a field's words stand in another.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overlap: Vec<Overlap>,
    /// Phrases that fields must not hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub phrases: Vec<Phrases>,
    /// Fields that must not speak of the prompt they were made with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_leak: Option<PromptLeak>,
    /// The language of fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub language: Vec<LanguageOf>,
    /// Bounds on the scores that judging steps give.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub judged: Vec<Judged>,
    /// Personal data and secrets: turn the row down, or mask them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pii: Option<Pii>,
    /// Turn down a row whose text was closed by the token limit rather than by the model.
    pub closed_by_budget: bool,
    /// How much probability the grammar may take away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tension: Option<decoding::TensionBound>,
    /// Benchmark files whose items no row may hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decontaminate: Option<Decontaminate>,
    /// The field in which no two rows may be alike.
    pub distinct: Option<String>,
    /// Fields that, taken together, no two rows may share.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exact: Vec<String>,
    /// No row may be a near copy of another by its words or characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub near: Option<Near>,
    /// No row may share most of its words, in order, with another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rouge_l: Option<RougeL>,
    /// No row may mean what another says already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub semantic: Option<Semantic>,
}

impl Filters {
    /// Reads a file that holds what stands under `filters:` in a recipe.
    ///
    /// # Errors
    /// When it cannot be read, does not parse, has unknown keys, or a bound that cannot hold.
    pub fn read(path: &Path) -> Result<Self> {
        let size = std::fs::metadata(path).map_err(|cause| Error::io("read", path, cause))?.len();
        if size > MOST_BYTES {
            return Err(Error::input(path, format!("{size} bytes are too many for a list of rules"), "check the path"));
        }
        let text = std::fs::read_to_string(path).map_err(|cause| Error::io("read", path, cause))?;
        let options = serde_saphyr::options! { with_snippet: false };
        let filters: Self = serde_saphyr::from_str_with_options(&text, options).map_err(|cause| {
            let cause = cause.to_string();
            let what = cause.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
            Error::input(path, what, "write what stands under `filters:` in a recipe")
        })?;
        match filters.problem() {
            Some(problem) => Err(Error::input(path, problem, "change the bound")),
            None => Ok(filters),
        }
    }

    /// The rules about single rows, in the order in which they are asked.
    pub fn chain(&self) -> Vec<Box<dyn Filter>> {
        let mut chain: Vec<Box<dyn Filter>> = Vec::new();
        for field in &self.empty {
            chain.push(Box::new(empty::Empty { field: field.clone() }));
        }
        for length in &self.length {
            chain.push(Box::new(length.clone()));
        }
        for field in &self.sentence_end {
            chain.push(Box::new(sentence_end::SentenceEnd { field: field.clone() }));
        }
        for field in &self.loops {
            chain.push(Box::new(loops::Loops { field: field.clone() }));
        }
        if let Some((source, echo)) = &self.echo {
            chain.push(Box::new(echo::Echo { source: source.clone(), echo: echo.clone() }));
        }
        for field in &self.refusal {
            chain.push(Box::new(refusal::Refusal { field: field.clone() }));
        }
        for field in &self.sorry {
            chain.push(Box::new(refusal::Sorry { field: field.clone() }));
        }
        for field in &self.stop_words {
            chain.push(Box::new(stop_words::StopWords { field: field.clone() }));
        }
        for added in &self.added {
            chain.push(Box::new(added.clone()));
        }
        for copied in &self.copied {
            chain.push(Box::new(copied.clone()));
        }
        for overlap in &self.overlap {
            chain.push(Box::new(overlap.clone()));
        }
        for phrases in &self.phrases {
            chain.push(Box::new(phrases.clone()));
        }
        if let Some(leak) = &self.prompt_leak {
            chain.push(Box::new(leak.clone()));
        }
        for language in &self.language {
            chain.push(Box::new(language.clone()));
        }
        for judged in &self.judged {
            chain.push(Box::new(judged.clone()));
        }
        if let Some(pii) = &self.pii {
            chain.push(Box::new(pii.clone()));
        }
        chain
    }

    /// Replaces personal data by placeholders where `pii` says so; how many were replaced.
    ///
    /// Comes before every other rule, so that they judge the row that is written.
    pub fn mask(&self, row: &mut Map<String, Value>) -> usize {
        self.pii.as_ref().map_or(0, |pii| pii.mask(row))
    }

    /// The reason to turn an attempt down for the way in which one of its texts was decoded.
    pub fn check_decoding(&self, note: &crate::row::StepNote) -> Option<super::Reason> {
        decoding::check(self.closed_by_budget, self.tension, note)
    }

    /// The rules that compare rows, with nothing accepted yet.
    ///
    /// # Errors
    /// As [`CrossRows::new`].
    pub fn cross_rows(&self, embedder: Option<Arc<Embedder>>) -> Result<CrossRows> {
        CrossRows::new(self, embedder)
    }

    /// Every field of a row that a rule looks at, with the pointer to where it is named: `/loops/0`.
    pub fn fields(&self) -> Vec<(String, &str)> {
        let mut found: Vec<(String, &str)> = Vec::new();
        for (key, fields) in [
            ("empty", Some(&self.empty)),
            ("sentence_end", Some(&self.sentence_end)),
            ("loops", Some(&self.loops)),
            ("refusal", Some(&self.refusal)),
            ("sorry", Some(&self.sorry)),
            ("stop_words", Some(&self.stop_words)),
            ("exact", Some(&self.exact)),
            ("prompt_leak/fields", self.prompt_leak.as_ref().map(|rule| &rule.fields)),
            ("pii/fields", self.pii.as_ref().map(|rule| &rule.fields)),
            ("decontaminate/fields", self.decontaminate.as_ref().map(|rule| &rule.fields)),
            ("near/fields", self.near.as_ref().map(|rule| &rule.fields)),
            ("rouge_l/fields", self.rouge_l.as_ref().map(|rule| &rule.fields)),
            ("semantic/fields", self.semantic.as_ref().map(|rule| &rule.fields)),
        ] {
            found.extend(
                (0..).zip(fields.into_iter().flatten()).map(|(at, field)| (format!("/{key}/{at}"), field.as_str())),
            );
        }
        for (key, fields) in [
            ("length", self.length.iter().map(|rule| &rule.field).collect::<Vec<_>>()),
            ("added", self.added.iter().map(|rule| &rule.field).collect()),
            ("copied", self.copied.iter().map(|rule| &rule.field).collect()),
            ("overlap", self.overlap.iter().map(|rule| &rule.field).collect()),
            ("language", self.language.iter().map(|rule| &rule.field).collect()),
        ] {
            found.extend((0..).zip(fields).map(|(at, field)| (format!("/{key}/{at}/field"), field.as_str())));
        }
        if let Some((source, echo)) = &self.echo {
            found.extend([("/echo/0".to_owned(), source.as_str()), ("/echo/1".to_owned(), echo.as_str())]);
        }
        found.extend(self.distinct.as_deref().map(|field| ("/distinct".to_owned(), field)));
        found
    }

    /// What is wrong with the bounds, if anything: one clause that names the key.
    pub fn problem(&self) -> Option<String> {
        let fields = [
            ("prompt_leak.fields", self.prompt_leak.as_ref().map(|rule| &rule.fields)),
            ("pii.fields", self.pii.as_ref().map(|rule| &rule.fields)),
            ("decontaminate.fields", self.decontaminate.as_ref().map(|rule| &rule.fields)),
            ("near.fields", self.near.as_ref().map(|rule| &rule.fields)),
            ("rouge_l.fields", self.rouge_l.as_ref().map(|rule| &rule.fields)),
            ("semantic.fields", self.semantic.as_ref().map(|rule| &rule.fields)),
        ];
        if let Some((key, _)) = fields.iter().find(|(_, fields)| fields.is_some_and(Vec::is_empty)) {
            return Some(format!("{key} is empty"));
        }
        let shares = [
            ("near.threshold", self.near.as_ref().map(|rule| rule.threshold)),
            ("rouge_l.threshold", self.rouge_l.as_ref().map(|rule| rule.threshold)),
            ("semantic.threshold", self.semantic.as_ref().map(|rule| rule.threshold)),
            ("decontaminate.coverage", self.decontaminate.as_ref().map(|rule| rule.coverage)),
        ];
        for (key, share) in shares {
            if share.is_some_and(|share| !(share > 0.0 && share < 1.0)) {
                return Some(format!("{key} is {}, not between 0 and 1", share.unwrap_or_default()));
            }
        }
        if self.near.as_ref().is_some_and(|rule| rule.threshold < LEAST_THRESHOLD) {
            return Some(format!("near.threshold is below {LEAST_THRESHOLD}, where candidates would be missed"));
        }
        if let Some(rule) = self.decontaminate.as_ref() {
            if rule.ngram == 0 {
                return Some("decontaminate.ngram is 0".into());
            }
            if rule.files.is_empty() {
                return Some("decontaminate.files is empty".into());
            }
        }
        let crossed = |bounds: Option<(usize, usize)>| bounds.is_some_and(|(least, most)| least > most);
        let bounds = self.length.iter().find(|rule| crossed(rule.words) || crossed(rule.chars));
        bounds.map(|rule| format!("length of {} has a least above its most", rule.field))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Filters> {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("filters.yaml");
        std::fs::write(&path, text).expect("written");
        Filters::read(&path)
    }

    #[test]
    fn every_key_is_read_and_written_back() {
        let filters = parse(
            "empty: [a]
length:
  - {field: a, words: [3, 90]}
  - {field: a, chars: [10, 900]}
sentence_end: [a]
loops: [a]
echo: [a, b]
refusal: [b]
sorry: [b]
stop_words: [b]
added: [{field: b, over: a, words: [1, 9]}]
copied: [{field: b, from: [a]}]
judged: [{score: quality, least: 2.5}]
overlap: [{field: b, with: a, most: 0.9}]
phrases: [{field: a, phrases: [the given]}]
prompt_leak: {fields: [a]}
language:
  - {field: a, is: en}
pii: {fields: [a, b], action: mask, kinds: [email, card]}
closed_by_budget: true
tension: {mean: 0.5}
decontaminate: {fields: [a], files: [test.jsonl]}
distinct: a
exact: [a, b]
near: {fields: [a], threshold: 0.8, shingles: chars}
rouge_l: {fields: [a]}
semantic: {fields: [a]}
",
        )
        .expect("readable");
        assert_eq!(filters.chain().len(), 17);
        assert_eq!(filters.problem(), None);
        assert_eq!(filters.rouge_l.as_ref().map(|rule| rule.threshold), Some(0.7));
        let semantic = filters.semantic.as_ref().map(|rule| (rule.threshold, rule.model.as_str()));
        assert_eq!(semantic, Some((0.9, "all-minilm-l6-v2")));
        let text = serde_json::to_string(&filters).expect("plain data");
        assert_eq!(serde_json::from_str::<Filters>(&text).expect("plain data"), filters);
    }

    #[test]
    fn what_cannot_hold_is_refused_with_its_key() {
        for (text, part) in [
            ("near: {fields: [a], threshold: 1.5}", "near.threshold is 1.5"),
            ("near: {fields: [a], threshold: 0.2}", "near.threshold is below 0.5"),
            ("rouge_l: {fields: []}", "rouge_l.fields is empty"),
            ("semantic: {fields: [a], threshold: 90}", "semantic.threshold is 90"),
            ("length: [{field: a, words: [9, 3]}]", "length of a has a least above its most"),
            ("decontaminate: {fields: [a], files: []}", "decontaminate.files is empty"),
            ("language: [{field: a, is: klingon}]", "no language has the code `klingon`"),
            ("distict: a", "distict"),
            ("pii: {fields: [a], kinds: [names]}", "names"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(part) && !error.contains('\n'), "{text}: {error}");
        }
    }
}
