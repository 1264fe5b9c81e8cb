//! The project's own table of JSON Schema cases (`tests/cases/*.jsonl`, one schema with its instances a line, in the
//! form that `bench masks` reads) against the `jsonschema` crate: the table itself is right. What the engine makes of it
//! is for `verdicts`.

use crate::support::oracle;

use std::path::Path;

use instil::bench::input::{self, BenchFile, Spacing};
use serde_json::Value;

fn table() -> Vec<BenchFile> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    input::read(&folder).unwrap()
}

#[test]
fn the_table_agrees_with_the_oracle() {
    let mut wrong = Vec::new();
    let mut instances = 0;
    for file in table() {
        let case = file.case(Spacing::Spaced).unwrap();
        let validator = oracle::current(&case.schema).unwrap_or_else(|error| panic!("{}: {error}", file.name));
        for instance in &case.instances {
            instances += 1;
            let value: Value = serde_json::from_str(&instance.text).unwrap();
            if validator.is_valid(&value) != instance.valid {
                wrong.push(format!("{}: {} should be valid: {}", file.name, instance.text, instance.valid));
            }
        }
    }
    assert!(instances > 2000);
    assert!(wrong.is_empty(), "{} of {instances} instances:\n{}", wrong.len(), wrong.join("\n"));
}
