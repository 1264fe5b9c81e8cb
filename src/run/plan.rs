//! What a run is to make: plain values, resolved once at the edge, written to `run.lock.json`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::recipe::Recipe;

/// A resolved plan. Two runs of equal plans write equal records; `rows` only says how far they go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Version of the program that resolved it.
    pub version: String,
    /// How many rows are wanted.
    pub rows: u32,
    /// Seed of every draw.
    pub seed: u64,
    /// The model.
    pub model: ModelUsed,
    /// Constraint engine, as `--engine` names it.
    pub engine: String,
    /// The schema that every row satisfies.
    pub schema: Value,
    /// The recipe, with the flags' changes in it.
    pub recipe: Recipe,
}

/// The model of a run, as found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelUsed {
    /// Name of the manifest, or the path that was given.
    pub name: String,
    /// Sums of its files, where the manifest states them.
    pub sha256: Vec<String>,
    /// Licence, where it is known.
    pub licence: Option<String>,
}
