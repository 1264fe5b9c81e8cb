//! What a run writes and everybody reads: rows as lines, attempts, reasons, decisions, and the names of the files.
//!
//! A line of `records.jsonl` or `rejects.jsonl` is a [`Record`]; how it was made is its [`Meta`]. Rows of other
//! makers are JSON objects too ([`parse`]); what of their `meta` is not in our form is as if it were not there.
//! A line of `decisions.jsonl` is a [`Decision`]. What a run *is to* make is [`crate::plan`]'s to say.

pub(crate) mod decisions;
mod files;
mod reason;
mod record;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

pub(crate) use decisions::{Tally, Verdict};

pub(crate) use decisions::{Applied, Decision, Decisions};
pub(crate) use files::RunFiles;
pub(crate) use reason::Reason;
pub(crate) use reason::rule;
pub(crate) use record::{Attempt, Lineage, Meta, Record, Score, StepNote, row_id};

use crate::disk::MOST_LINE_BYTES;

/// The key of a row's identifier.
pub(crate) const ID: &str = "id";
/// The key of what is known of how a row was made.
pub(crate) const META: &str = "meta";

/// Whether a key of a row is the program's own, and not a field.
pub(crate) fn is_reserved(key: &str) -> bool {
    matches!(key, ID | META)
}

/// A line as a row, of whatever maker.
///
/// # Errors
/// What is wrong with it, in a few words.
pub(crate) fn parse(line: &[u8]) -> Result<Map<String, Value>, String> {
    if line.len() > MOST_LINE_BYTES {
        return Err(format!("longer than {} MiB", MOST_LINE_BYTES >> 20));
    }
    match serde_json::from_slice(line) {
        Ok(Value::Object(row)) => Ok(row),
        Ok(_) => Err("not a JSON object".into()),
        Err(cause) if std::str::from_utf8(line).is_err() => Err(format!("not UTF-8 text ({cause})")),
        Err(cause) => Err(format!("not JSON: {cause}")),
    }
}

/// The identifier of a row, as text; `None` when it has none.
pub(crate) fn id_of(row: &Map<String, Value>) -> Option<String> {
    match row.get(ID)? {
        Value::String(id) => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    }
}

/// What a decision on a row is filed under: its identifier, else what stands for its content.
pub(crate) fn key_of(row: &Map<String, Value>) -> String {
    id_of(row).unwrap_or_else(|| hash_of(&fields_of(row)))
}

/// The fields of a row: all but its identifier and how it was made.
pub(crate) fn fields_of(row: &Map<String, Value>) -> Map<String, Value> {
    row.iter().filter(|(name, _)| !is_reserved(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// What stands for the content of fields: the first 16 hexadecimal digits of the SHA-256 of their JSON.
pub(crate) fn hash_of(fields: &Map<String, Value>) -> String {
    let text = serde_json::to_string(fields).expect("fields are plain data");
    let digest = Sha256::digest(text.as_bytes());
    let first = digest.first_chunk().expect("a digest has 32 bytes");
    format!("{:016x}", u64::from_be_bytes(*first))
}
