//! The families of an evolved run by the program.

use serde_json::{Value, json};

use super::Place;

/// A run of two seeds over two rounds, as it stands on the disk.
fn run_of_families(place: &Place) {
    std::fs::create_dir(place.at("run")).expect("a directory");
    let row = |row: u32, attempt: u32, seed: u32, parent: Option<&str>, round: u32, text: &str, reason: Value| {
        let mut row = json!({"id": format!("7-{row:06}"), "instruction": text, "meta": {"row": row, "attempt": attempt,
            "attributes": {"operator": "deepen"},
            "lineage": {"seed": seed, "seed_id": format!("task-{seed}"), "round": round, "parent": parent}}});
        if !reason.is_null() {
            row["meta"]["reason"] = reason;
        }
        format!("{row}\n")
    };
    let kept = [
        row(0, 1, 0, None, 1, "Name three knots and why.", Value::Null),
        row(1, 0, 1, None, 1, "Explain \u{1b}yeast\nwell.", Value::Null),
        row(2, 0, 0, Some("7-000000"), 2, "Name three knots, why, and when.", Value::Null),
    ];
    let turned_down = [
        row(0, 0, 0, None, 1, "Name knots.", json!({"rule": "added", "detail": "adds 1 word"})),
        row(3, 0, 1, Some("7-000001"), 2, "", json!({"rule": "prompt_leak", "detail": ""})),
    ];
    place.write("run/records.jsonl", kept.concat());
    place.write("run/rejects.jsonl", turned_down.concat());
}

#[test]
fn a_family_is_shown_with_what_became_of_each_attempt() {
    let place = Place::new();
    run_of_families(&place);
    let tree = "\
seed 0 (task-0): (its file is gone or has changed)
  - 7-000000 attempt 1, round 1, deepen [added: adds 1 word]: Name knots.
  + 7-000000, round 1, deepen: Name three knots and why.
    + 7-000002, round 2, deepen: Name three knots, why, and when.
";
    assert_eq!(place.run(&["tree", "run", "7-000002"]).succeeded().stdout, tree);
    assert_eq!(place.run(&["tree", "run", "task-0"]).succeeded().stdout, tree);
    let outcome = place.run(&["tree", "run", "-n", "1"]).succeeded();
    assert_eq!(outcome.stdout, tree);
    assert!(outcome.stderr.contains("1 of 2 families"), "{}", outcome.stderr);
    let all = place.run(&["tree", "run"]).succeeded().stdout;
    assert!(
        all.ends_with(
            "  + 7-000001, round 1, deepen: Explain yeast well.\n    - 7-000003 attempt 1, round 2, deepen [prompt_leak]: \n"
        ),
        "{all}"
    );
    let lines = place.run(&["tree", "run", "--json"]).succeeded().stdout;
    let families: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(families.len(), 2);
    assert_eq!(families[0]["members"][2]["parent"], "7-000000");
    assert_eq!(families[0]["members"][0]["reason"], json!({"rule": "added", "detail": "adds 1 word"}));
}

#[test]
fn what_has_no_families_is_refused() {
    let place = Place::new();
    run_of_families(&place);
    place.run(&["tree", "run", "8-000000"]).refused(3, &["no row or seed of this run has the id 8-000000"]);
    place.run(&["tree", "none"]).refused(4, &["records.jsonl"]);
    place.write("run/rejects.jsonl", "");
    place.write("run/records.jsonl", "{\"id\": \"1\", \"meta\": {}}\n");
    place.run(&["tree", "run"]).refused(3, &["no row of this run descends from a seed", "instil evolve"]);
}
