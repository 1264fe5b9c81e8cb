//! Which rows are meant: fields with the values that each must have.

use serde_json::{Map, Value};

/// Whether `row` has the values that `condition` asks for; a list asks for any of its values.
pub(crate) fn fits(condition: &Map<String, Value>, row: &Map<String, Value>) -> bool {
    condition.iter().all(|(name, wanted)| {
        row.get(name).is_some_and(|value| match wanted {
            Value::Array(any) => any.contains(value),
            one => one == value,
        })
    })
}
