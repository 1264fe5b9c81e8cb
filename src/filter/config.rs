//! The `filters:` key of a recipe: which rules hold, on which fields, with which bounds.
//!
//! Here stands the one list of the rules. They are asked in its order, the cheap ones first.

use std::path::Path;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::added::Added;
use super::copied::Copied;
use super::cross_row::CrossRows;
use super::decoding::{self, ClosedByBudget, TensionBound};
use super::decontaminate::Decontaminate;
use super::distinct::{DistinctField, ExactFields};
use super::echo::Echo;
use super::empty::Empty;
use super::judged::Judged;
use super::language::LanguageOf;
use super::leak::PromptLeak;
use super::length::Length;
use super::loops::Loops;
use super::near::Near;
use super::overlap::Overlap;
use super::phrases::Phrases;
use super::pii::Pii;
use super::refusal::{Refusal, Sorry};
use super::rouge::RougeL;
use super::semantic::Semantic;
use super::sentence_end::SentenceEnd;
use super::stop_words::StopWords;
use super::{FieldRead, Filter, Reason, Rule};
use crate::disk::yaml::{self, Fault};
use crate::error::Result;
use crate::row::StepNote;
use instil_model::model::embedder::Embedder;

/// Makes the type of all rules, and their list, of one text: neither can lack what the other has.
macro_rules! rules_in_order {
    ($(#[$of_all:meta])* pub struct Filters { $($(#[$of_rule:meta])* pub $key:ident: $rule:ty,)* }) => {
        $(#[$of_all])*
        pub struct Filters { $($(#[$of_rule])* pub $key: $rule,)* }

        impl Filters {
            /// Every key with what stands under it, in the order in which rules are asked.
            pub(crate) fn rules(&self) -> Vec<(&'static str, &dyn Rule)> {
                vec![$((stringify!($key), &self.$key as &dyn Rule)),*]
            }
        }
    };
}

rules_in_order! {
    /// The filters of a recipe, as its file names them. Fields are named as [`super::text::text`] reads
    /// them; none of the rules holds unless it is named.
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields, default)]
    pub struct Filters {
        /// Fields that must hold a word.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        #[schemars(with = "Vec<String>")]
        pub empty: Vec<Empty>,
        /// Bounds on the length of fields.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub length: Vec<Length>,
        /// Fields that must end as a sentence ends.
        #[schemars(with = "Vec<super::sentence_end::Either>")]
        pub sentence_end: Vec<SentenceEnd>,
        /// Fields that must not loop.
        #[schemars(with = "Vec<String>")]
        pub loops: Vec<Loops>,
        /// `[source, echo]`: the second field must not repeat the first.
        #[schemars(with = "Option<(String, String)>")]
        pub echo: Option<Echo>,
        /// Fields that must not refuse the task, or speak of being a language model.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        #[schemars(with = "Vec<String>")]
        pub refusal: Vec<Refusal>,
        /// Fields that must not say "sorry" in fewer than 80 words.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        #[schemars(with = "Vec<String>")]
        pub sorry: Vec<Sorry>,
        /// Fields that must hold more than punctuation and stop words.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        #[schemars(with = "Vec<String>")]
        pub stop_words: Vec<StopWords>,
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
        #[schemars(with = "bool")]
        pub closed_by_budget: ClosedByBudget,
        /// How much probability the grammar may take away.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub tension: Option<TensionBound>,
        /// Benchmark files whose items no row may hold.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub decontaminate: Option<Decontaminate>,
        /// The field in which no two rows may be alike.
        #[schemars(with = "Option<String>")]
        pub distinct: Option<DistinctField>,
        /// Fields that, taken together, no two rows may share.
        #[serde(skip_serializing_if = "ExactFields::is_empty")]
        #[schemars(with = "Vec<String>")]
        pub exact: ExactFields,
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
}

impl Filters {
    /// Reads a file that holds what stands under `filters:` in a recipe.
    ///
    /// # Errors
    /// With the line: when it does not parse, has unknown keys, or a bound that cannot hold; or it cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let text = yaml::read(path)?;
        let filters: Self = yaml::parse(&text, path, "write what stands under `filters:` in a recipe")?;
        match filters.problem() {
            Some(problem) => Err(problem.in_file(path, &text)),
            None => Ok(filters),
        }
    }

    /// The rules about single rows, in the order in which they are asked.
    pub(crate) fn chain(&self) -> Vec<Box<dyn Filter>> {
        self.rules().into_iter().flat_map(|(_, rule)| rule.filters()).collect()
    }

    /// Replaces personal data by placeholders where `pii` says so; how many were replaced.
    ///
    /// Comes before every other rule, so that they judge the row that is written.
    pub(crate) fn mask(&self, row: &mut Map<String, Value>) -> usize {
        self.pii.as_ref().map_or(0, |pii| pii.mask(row))
    }

    /// The reason to turn an attempt down for the way in which one of its texts was decoded.
    pub(crate) fn check_decoding(&self, note: &StepNote) -> Option<Reason> {
        decoding::check(self.closed_by_budget, self.tension, note)
    }

    /// The rules that compare rows, with nothing accepted yet.
    ///
    /// # Errors
    /// As [`CrossRows::new`].
    pub(crate) fn cross_rows(&self, embedder: Option<Arc<Embedder>>) -> Result<CrossRows> {
        CrossRows::new(self, embedder)
    }

    /// Every field that a rule looks at, with the pointer to where it is named: `/loops/0`.
    pub(crate) fn reads(&self) -> Vec<FieldRead<'_>> {
        let rules = self.rules().into_iter();
        rules.flat_map(|(key, rule)| rule.reads().into_iter().map(move |read| read.under(&format!("/{key}")))).collect()
    }

    /// What is wrong with the bounds, if anything, in a clause that names the key.
    pub(crate) fn problem(&self) -> Option<Fault> {
        let found = self.rules().into_iter().find_map(|(key, rule)| Some(rule.problem()?.under(&format!("/{key}"))))?;
        // Which of several rules under a key it is, the pointer says.
        let names = found.at.split('/').filter(|part| !part.is_empty() && part.parse::<usize>().is_err());
        let what = format!("{} {}", names.collect::<Vec<_>>().join("."), found.what);
        Some(Fault::new(found.at, what, "change the bound"))
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
sentence_end: [a, {field: b, allow: [list]}]
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
        assert_eq!(filters.chain().len(), 18);
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
            ("loops: [a]\nnear: {fields: [a], threshold: 1.5}", "line 2: /near/threshold: near.threshold is 1.5"),
            ("loops: [a]\ndistict: a", "line 2: unknown key `distict`; did you mean `distinct`?"),
            ("pii: {fields: [a], kinds: [names]}", "names"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(part) && !error.contains('\n'), "{text}: {error}");
        }
    }
}
