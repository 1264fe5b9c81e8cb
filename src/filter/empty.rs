//! A field must hold something to read.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::text::text;
use super::{FieldRead, Filter, Reason, Rule};

/// Turns down a row whose field has neither a letter nor a digit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Empty {
    /// The field.
    pub field: String,
}

impl Rule for Empty {
    fn reads(&self) -> Vec<FieldRead<'_>> {
        vec![FieldRead::field("", &self.field)]
    }

    fn filters(&self) -> Vec<Box<dyn Filter>> {
        vec![Box::new(self.clone())]
    }
}

impl Filter for Empty {
    fn check(&self, row: &Map<String, Value>) -> Option<Reason> {
        let empty = !text(row, &self.field).chars().any(char::is_alphanumeric);
        empty.then(|| Reason::new("empty", format!("{} holds no word", self.field)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_marks_and_absent_fields_are_empty() {
        let rule = Empty { field: "a".into() };
        let check = |row: Value| rule.check(row.as_object().expect("an object")).is_some();
        for row in [r#"{"a":""}"#, r#"{"a":" \n\t"}"#, r#"{"a":"...!?"}"#, r#"{"a":null}"#, r#"{"b":"x"}"#] {
            assert!(check(serde_json::from_str(row).expect("JSON")), "{row}");
        }
        for row in [r#"{"a":"no"}"#, r#"{"a":"7"}"#, r#"{"a":"是"}"#] {
            assert!(!check(serde_json::from_str(row).expect("JSON")), "{row}");
        }
    }
}
