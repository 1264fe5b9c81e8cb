//! The official JSON Schema Test Suite (`tests/suite`, with its source and licence) as texts through sessions: verdict
//! by verdict as `tests/suite/expected.txt` says, so that any change of one shows.

use crate::support::session;

use std::fmt::Write;
use std::path::Path;

use instil::bench::input::{self, Spacing};
use instil_grammar::constraint::Whitespace;
use instil_grammar::grammar::Style;
use serde_json::Value;
use session::Engines;

/// The files, and what `$schema` says in a schema that does not say it itself.
const DRAFTS: [(&str, &str); 5] = [
    ("draft-04", "http://json-schema.org/draft-04/schema#"),
    ("draft-06", "http://json-schema.org/draft-06/schema#"),
    ("draft-07", "http://json-schema.org/draft-07/schema#"),
    ("2019-09", "https://json-schema.org/draft/2019-09/schema"),
    ("2020-12", "https://json-schema.org/draft/2020-12/schema"),
];

/// Instances are told by their text, up to so many characters of it.
const TOLD_CHARS: usize = 100;

/// What the engine makes of one draft, in the form of `expected.txt`.
fn findings(engines: &Engines, folder: &Path, draft: &str, dialect: &str) -> String {
    let (mut passed, mut refused, mut accepted, mut rejected) = (0, Vec::new(), Vec::new(), Vec::new());
    for file in input::read(&folder.join(format!("{draft}.jsonl"))).unwrap() {
        let mut case = file.case(Spacing::Compact).unwrap();
        if let Value::Object(members) = &mut case.schema {
            members.entry("$schema").or_insert_with(|| dialect.into());
        }
        let engine = match engines.of(&case.schema, Style::Any, Whitespace::Compact) {
            Ok(engine) => engine,
            Err(error) => {
                // A schema without any value is rightly refused: as good as one that takes nothing.
                let right = case.instances.iter().all(|instance| !instance.valid);
                passed += if right { case.instances.len() } else { 0 };
                refused.push(format!("{}: {error}", file.name));
                continue;
            }
        };
        for instance in &case.instances {
            let takes = engines.takes(&engine, &instance.text);
            let told: String = instance.text.chars().take(TOLD_CHARS).collect();
            match (takes, instance.valid) {
                (true, false) => accepted.push(format!("{}: {told}", file.name)),
                (false, true) => rejected.push(format!("{}: {told}", file.name)),
                _ => passed += 1,
            }
        }
    }
    let mut out = format!("# {draft}\n\n{passed} instances judged as the suite does\n");
    for (what, names) in [
        ("schemas refused", refused),
        ("instances wrongly accepted", accepted),
        ("instances wrongly refused", rejected),
    ] {
        writeln!(out, "{} {what}", names.len()).unwrap();
        for name in names {
            writeln!(out, "    {name}").unwrap();
        }
    }
    out
}

#[test]
fn the_official_suite_is_judged_as_expected() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite");
    let engines = Engines::new();
    let found: Vec<String> =
        DRAFTS.iter().map(|(draft, dialect)| findings(&engines, &folder, draft, dialect)).collect();
    let found = found.join("\n");
    let path = folder.join("expected.txt");
    if std::env::var("INSTIL_EXPECT").is_ok_and(|value| value == "write") {
        std::fs::write(&path, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    let only = |these: &str, others: &str| {
        let others: Vec<&str> = others.lines().collect();
        these.lines().filter(|line| !others.contains(line)).map(|line| format!("\n{line}")).collect::<String>()
    };
    assert!(
        found == expected,
        "verdicts have changed.\nNo longer so:{}\nNow:{}",
        only(&expected, &found),
        only(&found, &expected)
    );
}
