//! What a run tells while it goes on, and how it ended.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::row::{Attempt, Reason};
use instil_grammar::vocab::TokenId;
use instil_model::decode::{Statistics, StreamKey};

/// What happens during a run, for whoever shows it.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// A row was accepted and written.
    Accepted {
        /// The row.
        row: u32,
        /// What was decoded of it.
        attempt: &'a Attempt,
        /// It was decoded before this run was resumed.
        was_known: bool,
    },
    /// An attempt was turned down and written to the rejects.
    Rejected {
        /// The row.
        row: u32,
        /// What it came to.
        attempt: &'a Attempt,
        /// Why.
        reason: &'a Reason,
    },
    /// A step of an attempt is about to be decoded.
    Requested {
        /// Row, step and attempt.
        key: StreamKey,
        /// Field of the step.
        field: &'a str,
        /// Tokens that other rows share.
        prefix: &'a [TokenId],
        /// The row's own tokens.
        prompt: &'a [TokenId],
    },
    /// A decoding step has ended.
    Progress {
        /// What decoding cost so far.
        statistics: Statistics,
    },
}

/// How a run ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Summary {
    /// Rows written.
    pub accepted: u32,
    /// Attempts turned down, by rule.
    pub rejected: BTreeMap<String, u32>,
    /// Rows given up: after `max_attempts`, or because nothing applies to what they would be made from.
    pub given_up: u32,
    /// The cells of rows given up: their attributes, how many rows they lack, and by which rules the last attempts
    /// were turned down.
    pub lacking: BTreeMap<String, (u32, BTreeMap<&'static str, u32>)>,
    /// Why the first of those that could not be made could not.
    pub cause: Option<String>,
    /// Of the rows given up, those that nothing applies to.
    pub unfit: u32,
    /// Attempts that were decoded in this session.
    pub decoded: u32,
    /// Rows written that were decoded before this session.
    pub known: u32,
    /// What decoding cost, by both models where another one judges.
    pub statistics: Statistics,
    /// What the judging model cost of that.
    pub judging: Option<Statistics>,
    /// From the first prompt to the last row.
    pub elapsed: Duration,
    /// Part of that in the schedulers' steps: model, masks, draws and keeping the batch full.
    pub stepping: Duration,
    /// The user stopped the run.
    pub interrupted: bool,
}

impl Summary {
    /// Counts a row that was given up.
    pub(super) fn lacks(&mut self, attributes: &Map<String, Value>, last: Option<&Reason>) {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let cell: Vec<String> = attributes.iter().map(|(name, value)| format!("{name}={}", text(value))).collect();
        let (rows, rules) = self.lacking.entry(cell.join(", ")).or_default();
        *rows += 1;
        if let Some(reason) = last {
            *rules.entry(reason.rule).or_default() += 1;
        }
    }
}
