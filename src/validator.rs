//! Reads JSON Schemas, with what they refer to (`retrieve`), and validates finished values against them: the last word
//! before a row is written.

mod retrieve;

use std::path::Path;

use instil_grammar::grammar::Draft;
use serde_json::Value;

use crate::error::{Error, Result};

/// Reads the text of a JSON Schema file; `path` names it in errors, and `others` is a folder of schemas that it may refer
/// to.
///
/// # Errors
/// When it is not JSON, or a value that no schema is.
pub(crate) fn read_schema(text: &str, path: &Path, others: Option<&Path>) -> Result<Value> {
    let schema: Value = serde_json::from_str(text)
        .map_err(|cause| Error::input(path, format!("not JSON: {cause}"), "a schema is a JSON object"))?;
    if schema.is_object() || schema.is_boolean() {
        return match others {
            Some(folder) => retrieve::with_documents(schema, folder),
            None => Ok(schema),
        };
    }
    Err(Error::input(path, "not a JSON Schema", "a schema is a JSON object, or true or false"))
}

/// A JSON Schema, ready to judge values; formats are asserted.
pub struct Validator {
    inner: jsonschema::Validator,
}

/// One way in which a value breaks its schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// JSON pointer into the value; empty for the whole.
    pub pointer: String,
    /// What is wrong there.
    pub what: String,
    /// The keyword that it breaks.
    pub(crate) keyword: String,
}

impl Violation {
    /// Whether the value is of the right kind, and only too short, too long, or of another pattern.
    pub(crate) fn is_of_bounds(&self) -> bool {
        matches!(self.keyword.as_str(), "minLength" | "maxLength" | "pattern" | "minItems" | "maxItems")
    }
}

impl Validator {
    /// Reads a schema in the dialect that the engine reads it in: the one that it names, else the newest that explains
    /// its keywords.
    ///
    /// # Errors
    /// When it is not a valid schema, with the pointer of the offending keyword.
    pub fn new(schema: &Value) -> Result<Self> {
        let draft = match Draft::of(schema) {
            Draft::Draft4 => jsonschema::Draft::Draft4,
            Draft::Draft6 => jsonschema::Draft::Draft6,
            Draft::Draft7 => jsonschema::Draft::Draft7,
            Draft::Draft2019 => jsonschema::Draft::Draft201909,
            Draft::Draft2020 => jsonschema::Draft::Draft202012,
        };
        let options = jsonschema::options().with_draft(draft).should_validate_formats(true);
        let inner = options.build(schema).map_err(|cause| {
            Error::grammar(
                cause.instance_path().as_str().to_owned(),
                format!("not a valid JSON Schema: {cause}"),
                "mend the schema",
            )
        })?;
        Ok(Self { inner })
    }

    /// True when the value satisfies the schema.
    pub fn is_valid(&self, value: &Value) -> bool {
        self.inner.is_valid(value)
    }

    /// Every violation, in the order found.
    pub fn violations(&self, value: &Value) -> Vec<Violation> {
        let violation = |error: jsonschema::ValidationError| Violation {
            pointer: error.instance_path().as_str().to_owned(),
            keyword: error.schema_path().as_str().rsplit('/').next().unwrap_or_default().to_owned(),
            what: error.to_string(),
        };
        self.inner.iter_errors(value).map(violation).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn points_at_what_is_wrong() {
        let schema = json!({"properties": {"a": {"format": "date"}}, "required": ["b"]});
        let validator = Validator::new(&schema).expect("a schema");
        let violations = validator.violations(&json!({"a": "x"}));
        assert_eq!(violations.len(), 2);
        assert!(violations.iter().any(|violation| violation.pointer == "/a"));
        let misspelt = json!({"properties": {"a": {"type": "strnig"}}});
        let told = Validator::new(&misspelt).err().expect("no type").to_string();
        assert!(told.contains("/properties/a/type"), "{told}");
    }

    #[test]
    fn reads_the_dialect_that_the_engine_reads() {
        let valid = |schema: serde_json::Value, value: serde_json::Value| {
            Validator::new(&schema).expect("a schema").is_valid(&value)
        };
        let tuple = json!({"items": [{"type": "integer"}, {"type": "string"}], "additionalItems": false});
        assert!(valid(tuple.clone(), json!([1, "a"])) && !valid(tuple, json!([1, "a", 2])));
        let above = json!({"minimum": 0, "exclusiveMinimum": true});
        assert!(valid(above.clone(), json!(1)) && !valid(above, json!(0)));
        // What only looks like a schema says nothing of the dialect.
        let beside = json!({"prefixItems": [{"type": "integer"}], "x-ui": {"items": ["a"]}, "example": {"exclusiveMinimum": true}});
        assert!(!valid(beside, json!(["a"])));
        let own = json!({"$schema": "https://example.org/own", "type": "integer"});
        assert!(valid(own.clone(), json!(1)) && !valid(own, json!("a")));
    }
}
