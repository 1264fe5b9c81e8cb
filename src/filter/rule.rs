//! What a rule is: the fields it reads, whether its bounds can hold, and what asks it of a row.
//!
//! A rule is a type that holds what stands under its key in a recipe. It has a file of its own, and a line in the list
//! of [`super::config`], from which everything else follows: the key, its place in the order, what `validate` checks,
//! and the published schema.

use serde_json::{Map, Value};

use super::Reason;

/// What stands under a key of [`super::Filters`]. A list of rules and a rule that may be absent are rules too.
pub(crate) trait Rule {
    /// The fields that it reads, each where it is named.
    fn reads(&self) -> Vec<FieldRead<'_>>;

    /// What cannot hold, if anything.
    fn problem(&self) -> Option<Problem> {
        None
    }

    /// What is asked about single rows; nothing for a rule about decoding, or one that compares rows.
    fn filters(&self) -> Vec<Box<dyn Filter>> {
        Vec::new()
    }
}

/// A rule about one row.
pub(crate) trait Filter: Rule + Send + Sync {
    /// The reason to turn `row` down, if there is one.
    fn check(&self, row: &Map<String, Value>) -> Option<Reason>;

    /// The names of the row that it reads, by which a run asks it as soon as they are there.
    fn fields(&self) -> Vec<&str> {
        self.reads().into_iter().filter(|read| read.of != Of::Examples).map(|read| read.name).collect()
    }
}

/// The first reason that a chain finds.
pub(crate) fn first_reason(chain: &[Box<dyn Filter>], row: &Map<String, Value>) -> Option<Reason> {
    chain.iter().find_map(|filter| filter.check(row))
}

/// A field that a rule reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldRead<'a> {
    /// JSON pointer to where it is named, below the rule's key: `/fields/0`.
    pub at: String,
    /// Its name, as [`super::text::text`] reads it.
    pub name: &'a str,
    /// What it is a field of.
    pub of: Of,
}

/// What a rule reads a field of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// The row.
    Row,
    /// The examples in the prompt.
    Examples,
    /// The scores that judging steps give.
    Scores,
}

impl<'a> FieldRead<'a> {
    /// A field of the row, named at `at`.
    pub(crate) fn field(at: &str, name: &'a str) -> Self {
        Self { at: at.to_owned(), name, of: Of::Row }
    }

    /// Fields of the row, listed at `at`.
    pub(crate) fn each(at: &str, names: &'a [String]) -> impl Iterator<Item = Self> {
        (0..).zip(names).map(move |(index, name)| Self { at: format!("{at}/{index}"), name, of: Of::Row })
    }

    /// The keys of a condition on the row, which stands at `at`.
    pub(crate) fn condition(at: &str, condition: &'a Map<String, Value>) -> impl Iterator<Item = Self> {
        condition.keys().map(move |name| {
            let key = name.replace('~', "~0").replace('/', "~1");
            Self { at: format!("{at}/{key}"), name, of: Of::Row }
        })
    }

    /// The same as a field of something else.
    pub(crate) fn of(self, of: Of) -> Self {
        Self { of, ..self }
    }

    pub(super) fn under(self, pointer: &str) -> Self {
        Self { at: format!("{pointer}{}", self.at), ..self }
    }
}

/// Something that cannot hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// JSON pointer to it, below the rule's key.
    pub at: String,
    /// What is wrong, after the place's name: `is empty`.
    pub what: String,
}

impl Problem {
    /// A problem at the JSON pointer `at`.
    pub(crate) fn new(at: impl Into<String>, what: impl Into<String>) -> Self {
        Self { at: at.into(), what: what.into() }
    }

    /// A list that holds nothing.
    pub(crate) fn empty<T>(at: &str, list: &[T]) -> Option<Self> {
        list.is_empty().then(|| Self::new(at, "is empty"))
    }

    /// A share that is not between 0 and 1, both excluded.
    pub(crate) fn share(at: &str, share: f64) -> Option<Self> {
        (!(share > 0.0 && share < 1.0)).then(|| Self::new(at, format!("is {share}, not between 0 and 1")))
    }

    pub(super) fn under(self, pointer: &str) -> Self {
        Self { at: format!("{pointer}{}", self.at), ..self }
    }
}

impl<R: Rule> Rule for Vec<R> {
    fn reads(&self) -> Vec<FieldRead<'_>> {
        let rules = self.iter().enumerate();
        rules.flat_map(|(at, rule)| rule.reads().into_iter().map(move |read| read.under(&format!("/{at}")))).collect()
    }

    fn problem(&self) -> Option<Problem> {
        self.iter().enumerate().find_map(|(at, rule)| Some(rule.problem()?.under(&format!("/{at}"))))
    }

    fn filters(&self) -> Vec<Box<dyn Filter>> {
        self.iter().flat_map(Rule::filters).collect()
    }
}

impl<R: Rule> Rule for Option<R> {
    fn reads(&self) -> Vec<FieldRead<'_>> {
        self.as_ref().map(Rule::reads).unwrap_or_default()
    }

    fn problem(&self) -> Option<Problem> {
        self.as_ref().and_then(Rule::problem)
    }

    fn filters(&self) -> Vec<Box<dyn Filter>> {
        self.as_ref().map(Rule::filters).unwrap_or_default()
    }
}
