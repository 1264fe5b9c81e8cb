//! What a run tells while it goes on, and how it ended.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::row::Reason;
use instil_grammar::vocab::TokenId;
use instil_model::decode::{Statistics, StreamKey};

/// What happens during a run, for whoever shows it.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// A row was accepted and written.
    Accepted {
        /// The row.
        row: u32,
        /// Its fields.
        fields: &'a Map<String, Value>,
        /// It was decoded before this run was resumed.
        was_known: bool,
    },
    /// An attempt was turned down and written to the rejects.
    Rejected {
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
    /// Of these, the rows that nothing applies to.
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
