//! The rules that compare rows with each other, as one stage asked in row order.
//!
//! Whoever drives it prepares rows in any order and on any thread ([`CrossRows::prepare`], the costly
//! part), then asks in row order: [`CrossRows::check`], and [`CrossRows::accept`] for what is kept. The
//! answers are a function of the accepted rows below, so a run that is resumed accepts its records again
//! without checking them, and goes on as if it had never stopped.
//!
//! How memory grows with the accepted rows stands with each rule: [`super::distinct`], [`super::near`],
//! [`super::rouge`], [`super::semantic`]; [`super::decontaminate`] does not grow.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::decontaminate::Benchmarks;
use super::distinct::{Distinct, Print, print};
use super::near::{NearIndex, Shingled, Shingles};
use super::rouge::{Pairs, RougeIndex, Words};
use super::semantic::{self, SemanticIndex, Sentence};
use super::text::{hash, joined};
use super::{Filters, Other, Reason};
use crate::error::{Error, Result};
use instil_model::model::embedder::Embedder;

/// A row that asks to be accepted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    /// Its fields.
    pub fields: &'a Map<String, Value>,
    /// What it descends from, where it descends from something. A row is not near to its own lineage: a
    /// parent with a clause added shares most of its words by nature.
    pub family: Option<&'a str>,
}

impl<'a> From<&'a Map<String, Value>> for Candidate<'a> {
    fn from(fields: &'a Map<String, Value>) -> Self {
        Self { fields, family: None }
    }
}

/// What a row is compared by.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    family: Option<u64>,
    contaminated: Option<Reason>,
    prints: Vec<Print>,
    shingled: Option<Shingled>,
    words: Option<Words>,
    sentence: Option<Sentence>,
}

/// How rows are prepared: shared by threads while the stage itself goes on.
pub(crate) struct Preparer {
    benchmarks: Option<Benchmarks>,
    exact: Vec<Exact>,
    near: Option<(Vec<String>, Shingles)>,
    rouge: Option<Vec<String>>,
    semantic: Option<Vec<String>>,
}

struct Exact {
    fields: Vec<String>,
    name: String,
}

/// The stage.
pub(crate) struct CrossRows {
    preparer: Arc<Preparer>,
    accepted: Vec<Distinct>,
    near: Option<NearIndex>,
    rouge: Option<RougeIndex>,
    semantic: Option<Semantics>,
}

struct Semantics {
    index: SemanticIndex,
    embedder: Arc<Embedder>,
}

impl CrossRows {
    /// The rules of `filters`, with nothing accepted yet. Reads the benchmark files; `embedder` is the one that
    /// [`Filters::semantic`] names.
    ///
    /// # Errors
    /// When a benchmark file cannot be read, or holds nothing to compare with, or a rule wants an embedder and
    /// there is none.
    pub(crate) fn new(filters: &Filters, embedder: Option<Arc<Embedder>>) -> Result<Self> {
        let semantic = match (&filters.semantic, embedder) {
            (None, _) => None,
            (Some(rule), Some(embedder)) => {
                Some(Semantics { index: SemanticIndex::new(rule.threshold, embedder.dimensions()), embedder })
            }
            (Some(rule), None) => {
                let remedy = format!("`instil models pull {}` gets it", rule.model);
                return Err(Error::model(&rule.model, "the rule `semantic` needs this sentence embedder", remedy));
            }
        };
        let distinct = filters.distinct.iter().map(|rule| vec![rule.field.clone()]);
        let exact = (!filters.exact.is_empty()).then(|| filters.exact.fields.clone());
        let exact: Vec<Exact> =
            distinct.chain(exact).map(|fields| Exact { name: fields.join(" + "), fields }).collect();
        let preparer = Preparer {
            benchmarks: filters.decontaminate.as_ref().map(Benchmarks::read).transpose()?,
            near: filters.near.as_ref().map(|rule| (rule.fields.clone(), rule.shingles)),
            rouge: filters.rouge_l.as_ref().map(|rule| rule.fields.clone()),
            semantic: filters.semantic.as_ref().map(|rule| rule.fields.clone()),
            exact,
        };
        Ok(Self {
            accepted: preparer.exact.iter().map(|_| Distinct::default()).collect(),
            near: filters.near.as_ref().map(|rule| NearIndex::new(rule.threshold)),
            rouge: filters.rouge_l.as_ref().map(|rule| RougeIndex::new(rule.threshold)),
            semantic,
            preparer: Arc::new(preparer),
        })
    }

    /// What other threads prepare rows with.
    pub(crate) fn preparer(&self) -> Arc<Preparer> {
        self.preparer.clone()
    }

    /// Works out what a row is compared by. Depends on nothing that was accepted.
    pub(crate) fn prepare(&self, row: Candidate<'_>) -> Prepared {
        self.preparer.prepare(row)
    }

    /// Works out for many rows at once what would otherwise be worked out for each in its turn: embeddings, and
    /// how near the rows accepted by now are. Changes no answer.
    ///
    /// # Errors
    /// When a text cannot be embedded.
    pub(crate) fn prepare_together<'r>(&self, rows: impl IntoIterator<Item = &'r Prepared>) -> Result<()> {
        let Some(semantic) = &self.semantic else { return Ok(()) };
        let rows: Vec<_> = rows.into_iter().filter_map(|row| Some((row.sentence.as_ref()?, row.family))).collect();
        let sentences: Vec<&Sentence> = rows.iter().map(|(sentence, _)| *sentence).collect();
        semantic::embed(&semantic.embedder, &sentences)?;
        semantic.index.ahead(&rows);
        Ok(())
    }

    /// The reason to turn a row down, from what was accepted so far.
    ///
    /// # Errors
    /// When the temporary file of a large index cannot be read, or a text cannot be embedded.
    pub(crate) fn check(&mut self, row: &Prepared) -> Result<Option<Reason>> {
        if row.contaminated.is_some() {
            return Ok(row.contaminated.clone());
        }
        for ((accepted, print), exact) in self.accepted.iter().zip(&row.prints).zip(&self.preparer.exact) {
            if let Some(reason) = accepted.check_print(&exact.name, *print) {
                return Ok(Some(reason));
            }
        }
        if let (Some(near), Some(shingled)) = (&mut self.near, &row.shingled)
            && let Some(reason) = near.check(shingled, row.family)?
        {
            return Ok(Some(reason));
        }
        if let (Some(rouge), Some(words)) = (&mut self.rouge, &row.words)
            && let Some(reason) = rouge.check(words, row.family)
        {
            return Ok(Some(reason));
        }
        match (&self.semantic, &row.sentence) {
            (Some(semantic), Some(sentence)) => semantic.index.check(&semantic.embedder, sentence, row.family),
            _ => Ok(None),
        }
    }

    /// Remembers an accepted row, or a seed.
    ///
    /// # Errors
    /// When the temporary file of a large index cannot be written, or a text cannot be embedded.
    pub(crate) fn accept(&mut self, other: Other, row: &Prepared) -> Result<()> {
        for (accepted, print) in self.accepted.iter_mut().zip(&row.prints) {
            accepted.accept_print(other, *print);
        }
        if let (Some(near), Some(shingled)) = (&mut self.near, &row.shingled) {
            near.accept(other, row.family, shingled)?;
        }
        if let (Some(rouge), Some(words)) = (&mut self.rouge, &row.words) {
            rouge.accept(other, row.family, words);
        }
        if let (Some(semantic), Some(sentence)) = (&mut self.semantic, &row.sentence) {
            semantic.index.accept(&semantic.embedder, other, row.family, sentence)?;
        }
        Ok(())
    }

    /// What the comparisons by ROUGE-L took, where they were asked for.
    pub(crate) fn rouge_pairs(&self) -> Option<Pairs> {
        self.rouge.as_ref().map(RougeIndex::pairs)
    }

    /// Checks a row and accepts it as `index` if nothing speaks against it.
    ///
    /// # Errors
    /// As [`CrossRows::check`] and [`CrossRows::accept`].
    pub(crate) fn admit(&mut self, index: u32, row: &Prepared) -> Result<Option<Reason>> {
        let reason = self.check(row)?;
        if reason.is_none() {
            self.accept(Other::Row(index), row)?;
        }
        Ok(reason)
    }
}

impl Preparer {
    /// As [`CrossRows::prepare`].
    pub(crate) fn prepare(&self, row: Candidate<'_>) -> Prepared {
        let prints = self.exact.iter().map(|exact| print(&joined(row.fields, &exact.fields))).collect();
        Prepared {
            family: row.family.map(|family| hash(family.as_bytes())),
            contaminated: self.benchmarks.as_ref().and_then(|benchmarks| benchmarks.check(row.fields)),
            prints,
            shingled: self
                .near
                .as_ref()
                .map(|(fields, shingles)| Shingled::new(&joined(row.fields, fields), *shingles)),
            words: self.rouge.as_ref().map(|fields| Words::new(&joined(row.fields, fields))),
            sentence: self.semantic.as_ref().map(|fields| Sentence::new(&joined(row.fields, fields))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::near::Near;
    use crate::filter::rouge::RougeL;

    fn row(text: &str) -> Map<String, Value> {
        Map::from_iter([("q".to_owned(), Value::from(text))])
    }

    fn stage() -> CrossRows {
        let q = || vec!["q".to_owned()];
        let filters = Filters {
            distinct: Some("q".into()),
            near: Some(Near::new(q())),
            rouge_l: Some(RougeL::new(q())),
            ..Filters::default()
        };
        filters.cross_rows(None).expect("no files to read")
    }

    fn verdicts(stage: &mut CrossRows, texts: &[&str]) -> Vec<Option<&'static str>> {
        (0..)
            .zip(texts)
            .map(|(index, text)| {
                let prepared = stage.prepare((&row(text)).into());
                stage.admit(index, &prepared).expect("in memory").map(|reason| reason.rule)
            })
            .collect()
    }

    const TEXTS: [&str; 6] = [
        "Explain how the tides of the ocean follow the moon in the course of one month.",
        "explain how the tides of the ocean follow the moon in the course of one month",
        "Explain how the tides of the ocean follow the moon in the course of one long month.",
        "Describe how the tides of an ocean follow our moon in the course of a month.",
        "Name three rivers of Europe.",
        "",
    ];

    #[test]
    fn each_rule_turns_its_copies_down() {
        let expected = [None, Some("duplicate"), Some("near_duplicate"), Some("rouge_l"), None, None];
        assert_eq!(verdicts(&mut stage(), &TEXTS), expected);
    }

    #[test]
    fn accepting_again_without_checking_gives_the_same_answers() {
        let mut resumed = stage();
        for index in [0, 4] {
            let prepared = resumed.prepare((&row(TEXTS[index])).into());
            resumed.accept(Other::Row(index as u32), &prepared).expect("in memory");
        }
        let prepared = resumed.prepare((&row(TEXTS[2])).into());
        let reason = resumed.check(&prepared).expect("in memory").expect("near");
        assert!(reason.detail.ends_with("to row 0"), "{}", reason.detail);
    }

    #[test]
    fn a_lineage_may_be_near_but_not_equal() {
        let mut stage = stage();
        let (first, near) = (row(TEXTS[0]), row(TEXTS[2]));
        let kin = |fields| Candidate { fields, family: Some("seed-1") };
        let seed = stage.prepare(kin(&first));
        stage.accept(Other::Seed(1), &seed).expect("in memory");
        let child = stage.prepare(kin(&near));
        assert_eq!(stage.check(&child).expect("in memory"), None);
        let same = stage.prepare(kin(&first));
        assert_eq!(stage.check(&same).expect("in memory").map(|reason| reason.rule), Some("duplicate"));
        let stranger = stage.prepare((&near).into());
        assert!(stage.check(&stranger).expect("in memory").is_some());
    }
}
