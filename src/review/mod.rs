//! People in the loop: rows are shown to a person in order of urgency, and what the person says is kept.
//!
//! [`queue`] says which rows to look at first and writes them to `review.jsonl`; [`filled`] reads that file back;
//! [`desk`] keeps the decisions of one run. What a decision is, and what it makes of a row, is said by
//! [`crate::row::decisions`], for all who read rows honour them.

pub(crate) mod desk;
pub(crate) mod filled;
pub(crate) mod queue;

pub(crate) use desk::Desk;
