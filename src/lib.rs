//! instil makes instruction-tuning datasets on one's own machine.
//!
//! It loads an open-weights language model through Candle, decodes under a grammar so that every row
//! has exactly the required shape, and drives that decoder until N accepted rows stand on disk.
//!
//! # The map
//!
//! Two crates stand by themselves below this one: [`instil_grammar`] turns grammars into token masks, and
//! [`instil_model`] reads models and decodes many texts at once. The rooms of this one, in reading order; a file
//! imports only from rooms above its own, and `tests/it/import_rule.rs` holds the code to this list.
//!
//! | room | holds |
//! |---|---|
//! | [`error`] | one `Error`: who must act, what, where, what helps |
//! | [`disk`] | lines of bounded length, texts and YAML in, whole files or whole lines out |
//! | [`catalog`] | manifests of models, and where their files come from: this machine, the hub, a Python package |
//! | [`validator`] | JSON Schemas read, and as judges of finished values |
//! | [`row`] | what a run writes: records, attempts, reasons, people's decisions, the names of the files |
//! | [`container`] | files of rows in any container, packed or not, one or a directory of them, read row by row |
//! | [`filter`] | rules that turn rows down, one a file; the same rules over any JSONL |
//! | [`recipe`] | attributes and how they are dealt out, prompt templates, steps; the built-in recipes |
//! | [`plan`] | what a run is to make, resolved |
//! | [`review`] | rows shown to a person in order of urgency, and what the person says taken down |
//! | [`measure`] | balance, diversity and lengths: the numbers of a report; how far judges and labels agree |
//! | [`export`] | the forms of trainers: reading and writing them, splits, the data set's card |
//! | [`bench`](mod@bench) | what the benches of constraint engines measure: the MaskBench protocol |
//! | [`run`] | run file, driver, ledger, run directory: attempts → accepted rows |
//!
//! [`cli`] lies below all of them: one file a command; the program itself only calls it.
//!
//! # The way of the data
//!
//! A run file and flags become a [`plan::Plan`] of plain values at the edge. The driver gives each row its
//! attributes, renders a prompt a step, and submits a [`Request`](instil_model::decode::Request); the scheduler steps the model
//! over all open requests at once, masks logits with each row's [`Session`](instil_grammar::constraint::Session), draws, and hands
//! back [`Completion`](instil_model::decode::Completion)s. Attempts go into the ledger as they end; filters accept or reject them,
//! and records are written in row order.
//!
//! # Words
//!
//! *plan*: what a run is to make. *row*: one place in the data set. *attempt*: one try at a row. *seed*: a row of a
//! data set that rows are made from; *parent*: the row, or seed, that a row directly descends from. *step*: one
//! decoding within an attempt. *request* and *completion*: a step on its way into and out of the scheduler.
//! *thought*: what a model writes for itself before its text. *slot*: a place in the batch. *session*: one text under
//! a grammar. *mask*: the tokens that may come next. *record*: an accepted row. *reject*: an attempt turned down,
//! with its reason. *cell*: a combination of attribute values, with its share of the rows. *ledger*: attempts as they
//! ended, from which a stopped run goes on. *manifest*: what is known of a model. *recipe*: how rows of one kind are
//! made. *tension*: the probability mass that masks removed.

#![warn(clippy::unwrap_used)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod bench;
pub mod catalog;
pub mod cli;
pub(crate) mod container;
pub(crate) mod disk;
pub(crate) mod error;
pub mod export;
pub mod filter;
pub mod measure;
pub mod plan;
pub mod recipe;
pub(crate) mod review;
pub(crate) mod row;
pub mod run;
pub mod validator;

pub use error::{Error, Result};
