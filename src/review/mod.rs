//! People in the loop: what a person decided about the rows of a run, and what that changes.
//!
//! `records.jsonl` follows from the plan and is written again by every resumed run, so a person's word is
//! never written into it. It stands beside it in `decisions.jsonl` and is laid over the rows by whoever
//! reads them: [`Decisions::apply`]. A decision holds for the fields that the person saw; when a row has
//! other fields since, it counts as undecided. [`queue`] says which rows to look at first and writes them
//! to `review.jsonl`; [`filled`] reads that file back; [`desk`] keeps the decisions of one run.
//!
//! This room lies above the filters, the report and the export, because all of them honour decisions; it
//! knows rows as JSON and nothing of plans.

pub mod decisions;
pub mod desk;
pub mod filled;
pub mod queue;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

pub use decisions::{Applied, Decision, Decisions, Tally, Verdict};
pub use desk::Desk;

/// Name of the file of rows.
const RECORDS: &str = "records.jsonl";
/// Name of the file of decisions.
pub const DECISIONS: &str = "decisions.jsonl";
/// Name of the file of rows to be decided.
pub const QUEUE: &str = "review.jsonl";

/// The identifier of a row, as text; `None` when it has none.
fn id_of(row: &Map<String, Value>) -> Option<String> {
    match row.get("id")? {
        Value::String(id) => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    }
}

/// The fields of a row that a person decides on: all but `id` and `meta`.
fn fields_of(row: &Map<String, Value>) -> Map<String, Value> {
    row.iter()
        .filter(|(name, _)| !matches!(name.as_str(), "id" | "meta"))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// What stands for the content of fields: the first 16 hexadecimal digits of the SHA-256 of their JSON.
fn hash_of(fields: &Map<String, Value>) -> String {
    let text = serde_json::to_string(fields).expect("fields are plain data");
    let digest = Sha256::digest(text.as_bytes());
    let first = digest.first_chunk().expect("a digest has 32 bytes");
    format!("{:016x}", u64::from_be_bytes(*first))
}

/// A line as a row.
fn parse_row(line: &[u8]) -> Result<Map<String, Value>, String> {
    match serde_json::from_slice(line) {
        Ok(Value::Object(row)) => Ok(row),
        Ok(_) => Err("not a JSON object".into()),
        Err(_) if std::str::from_utf8(line).is_err() => Err("not UTF-8 text".into()),
        Err(cause) => Err(format!("not JSON: {cause}")),
    }
}
