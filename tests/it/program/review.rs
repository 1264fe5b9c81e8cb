//! People's decisions by the program: the queue, files filled in, rows one by one, and who honours them.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use super::{Outcome, Place, plan};

/// A run of four rows, as it stands on the disk; the third is the least sure one.
fn run_of_rows(place: &Place) {
    std::fs::create_dir(place.at("run")).expect("a directory");
    write_rows(place, "How do tides work?");
    let schema = json!({"type": "object", "properties": {"instruction": {"type": "string", "minLength": 4}}});
    place.write("run/run.lock.json", plan(schema));
}

fn write_rows(place: &Place, first: &str) {
    let rows = [
        (first, 0.1, 0.25),
        ("Name a knot.", 0.2, 0.5),
        ("Explain yeast.", 0.1, 0.75),
        ("Describe a fjord.", 0.625, 0.5),
    ];
    let line = |(row, (instruction, tension, entropy)): (usize, &(&str, f64, f64))| {
        let row = json!({"id": format!("1-{row:06}"), "instruction": instruction, "response": "It is \u{1b}[2Jso.",
            "meta": {"row": row, "steps": [{"field": "response", "tokens": 4, "forced": 0, "tension_mean": tension,
                "tension_max": 0.9, "closed_by_budget": false}],
                "scores": {"quality": {"expected": 3.0, "entropy": entropy, "choice": "3", "probabilities": [0.5, 0.5]}}}});
        format!("{row}\n")
    };
    place.write("run/records.jsonl", rows.iter().enumerate().map(line).collect::<String>());
}

/// Fills in the queue: `(id, decision, another instruction)`.
fn fill_in(place: &Place, name: &str, decisions: &[(&str, &str, Option<&str>)]) {
    let mut lines = place.lines("run/review.jsonl");
    for line in &mut lines {
        if let Some((_, decision, instruction)) = decisions.iter().find(|(id, ..)| line["id"] == *id) {
            line["decision"] = json!(decision);
            if let Some(instruction) = instruction {
                line["fields"]["instruction"] = json!(instruction);
            }
        }
    }
    place.write(name, lines.iter().map(|line| line.to_string() + "\n").collect::<String>());
}

fn ids(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["id"].as_str().expect("an id")).collect()
}

#[test]
fn the_least_sure_rows_wait_first_and_decisions_are_taken() {
    let place = Place::new();
    run_of_rows(&place);
    let outcome = place.run(&["review", "run"]).succeeded();
    assert!(outcome.stderr.contains("4 rows to decide on") && outcome.stderr.contains("--apply"), "{}", outcome.stderr);
    let queue = place.lines("run/review.jsonl");
    assert_eq!(ids(&queue), ["1-000002", "1-000003", "1-000001", "1-000000"]);
    assert_eq!(queue[0]["why"], "score quality: entropy 0.75");
    assert_eq!(queue[1]["why"], "response: tension 0.62");
    assert_eq!((&queue[0]["decision"], &queue[0]["fields"]["instruction"]), (&Value::Null, &json!("Explain yeast.")));
    fill_in(
        &place,
        "run/review.jsonl",
        &[
            ("1-000002", "reject", None),
            ("1-000003", "edit", Some("Describe a fjord to a child.")),
            ("1-000001", "accept", None),
        ],
    );
    let outcome = place.run(&["review", "run"]);
    outcome.refused(3, &["review.jsonl", "holds 3 decisions that were not applied", "--apply"]);
    let outcome = place.run(&["review", "run", "--apply", "--json"]).succeeded();
    let summary: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    assert_eq!(summary["applied"], json!({"new": 3, "known": 0, "undecided": 1, "not_taken": [], "beyond_bounds": []}));
    let told = json!({"accepted": 1, "edited": 1, "rejected": 1, "undecided": 1, "changed": 0});
    assert_eq!(summary["review"], told);
    // Again changes nothing; the queue then holds what is left.
    let before = place.read("run/decisions.jsonl");
    let outcome = place.run(&["review", "run", "--apply"]).succeeded();
    assert!(outcome.stderr.contains("0 decisions taken, 3 stood already"), "{}", outcome.stderr);
    assert_eq!(place.read("run/decisions.jsonl"), before);
    place.run(&["review", "run", "-n", "7"]).succeeded();
    assert_eq!(ids(&place.lines("run/review.jsonl")), ["1-000000"]);

    // Whoever reads the rows honours the decisions.
    let outcome = place.run(&["export", "run", "--format", "alpaca", "-o", "data"]).succeeded();
    assert!(
        outcome.stderr.contains("3 of 4 rows reviewed (75 %): 1 accepted, 1 edited, 1 rejected"),
        "{}",
        outcome.stderr
    );
    let exported: Vec<Value> =
        place.lines("data/train.jsonl").into_iter().map(|row| row["instruction"].clone()).collect();
    assert_eq!(exported, ["How do tides work?", "Name a knot.", "Describe a fjord to a child."]);
    let card = place.read("data/README.md");
    assert!(
        card.contains("People looked at the rows: 3 of 4 rows reviewed") && card.contains("| review | 1 |"),
        "{card}"
    );
    let report: Value =
        serde_json::from_str(&place.run(&["report", "run", "--json"]).succeeded().stdout).expect("JSON");
    assert_eq!((&report["review"], &report["kept"], &report["rejected"]), (&told, &json!(3), &json!({"review": 1})));
    place.run(&["filter", "run", "-o", "kept.jsonl", "--rejects", "no.jsonl", "--exact"]).succeeded();
    assert_eq!(place.lines("kept.jsonl")[2]["instruction"], "Describe a fjord to a child.");
    assert_eq!(place.lines("no.jsonl")[0]["meta"]["reason"]["rule"], "review");
}

#[test]
fn a_decision_on_a_row_that_changed_is_told_and_not_taken() {
    let place = Place::new();
    run_of_rows(&place);
    place.run(&["review", "run"]).succeeded();
    fill_in(&place, "mine.jsonl", &[("1-000000", "accept", None), ("1-000001", "reject", None)]);
    place.write("mine.jsonl", place.read("mine.jsonl").replace("1-000001", "9-000001"));
    write_rows(&place, "How do tides turn?");
    let outcome = place.run(&["review", "run", "--apply", "mine.jsonl"]).succeeded();
    for part in
        ["0 decisions taken", "not taken: 1-000000: the row has changed since", "9-000001: there is no such row"]
    {
        assert!(outcome.stderr.contains(part), "{part} is not in {}", outcome.stderr);
    }
    assert!(!place.at("run/decisions.jsonl").exists());
    // A decision taken earlier waits again when its row changes.
    write_rows(&place, "How do tides work?");
    place.write("mine.jsonl", place.read("mine.jsonl").replace("9-000001", "1-000001"));
    place.run(&["review", "run", "--apply", "mine.jsonl"]).succeeded();
    write_rows(&place, "How do tides turn?");
    let report = place.run(&["report", "run"]).succeeded().stdout;
    assert!(
        report.contains("1 of 4 rows reviewed (25 %): 0 accepted, 0 edited, 1 rejected; 1 have changed since"),
        "{report}"
    );
    std::fs::remove_file(place.at("run/review.jsonl")).expect("removed");
    place.run(&["review", "run"]).succeeded();
    assert_eq!(ids(&place.lines("run/review.jsonl")), ["1-000002", "1-000003", "1-000000"]);
}

#[test]
fn bad_lines_are_told_and_nothing_is_applied() {
    let place = Place::new();
    run_of_rows(&place);
    place.run(&["review", "run"]).succeeded();
    let refused = |decisions: &[(&str, &str, Option<&str>)], parts: &[&str]| {
        fill_in(&place, "mine.jsonl", decisions);
        place.run(&["review", "run", "--apply", "mine.jsonl"]).refused(3, parts);
        assert!(!place.at("run/decisions.jsonl").exists(), "{parts:?}");
    };
    let fine = ("1-000002", "accept", None);
    refused(&[fine, ("1-000001", "yes", None)], &["mine.jsonl", "line 3", "\"yes\" is none of", "nothing was applied"]);
    refused(&[fine, ("1-000001", "accept", Some("Other."))], &["line 3", "write \"edit\""]);
    refused(&[fine, ("1-000001", "edit", None)], &["line 3", "no field was changed"]);
    place.write("mine.jsonl", place.read("run/review.jsonl") + "{\"id\": \"x\"\n");
    place.run(&["review", "run", "--apply", "mine.jsonl"]).refused(3, &["line 5", "not a queued row"]);
    place.write("mine.jsonl", place.read("run/review.jsonl").repeat(2));
    place
        .run(&["review", "run", "--apply", "mine.jsonl"])
        .refused(3, &["line 5: the row of line 1 again", "(and 1 more)"]);
    place.run(&["review", "run", "--apply", "none.jsonl"]).refused(4, &["none.jsonl"]);
    std::fs::remove_file(place.at("run/review.jsonl")).expect("removed");
    place.run(&["review", "run", "--apply"]).refused(3, &["review.jsonl", "instil review DIR"]);
    place.run(&["review", "none"]).refused(3, &["none: is not there", "a run directory"]);
    place.write("run/decisions.jsonl", "{}\n");
    for arguments in
        [&["review", "run"][..], &["report", "run"], &["export", "run", "--format", "alpaca", "-o", "data"]]
    {
        place.run(arguments).refused(3, &["decisions.jsonl", "line 1: not a decision"]);
    }
}

/// Answers as a person would give them at the keyboard.
fn answer(place: &Place, editor: &str, answers: &str) -> Outcome {
    let mut command = place.command(&["review", "run", "--interactive"]);
    command.env("EDITOR", editor).env("PATH", std::env::var_os("PATH").unwrap_or_default()).stdin(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(answers.as_bytes()).expect("read");
    drop(input);
    Outcome::of(child.wait_with_output().expect("the program ends"))
}

#[test]
fn rows_are_decided_one_by_one() {
    let place = Place::new();
    run_of_rows(&place);
    place.write("edit.sh", "sed -i 's/a fjord/one fjord/' \"$1\"");
    let editor = format!("sh {}", place.at("edit.sh").display());
    let outcome = answer(&place, &editor, "r too short\nhm\ne\nq\n").succeeded();
    for part in ["1 of 4  1-000002  (score quality: entropy 0.75)", "instruction\n  Explain yeast.", "a accept, e edit"]
    {
        assert!(outcome.stderr.contains(part), "{part} is not in {}", outcome.stderr);
    }
    assert!(outcome.stderr.contains("It is \\u{1b}[2Jso.") && !outcome.stderr.contains('\u{1b}'), "{}", outcome.stderr);
    let decisions = place.lines("run/decisions.jsonl");
    assert_eq!(ids(&decisions), ["1-000002", "1-000003"]);
    assert_eq!((&decisions[0]["decision"], &decisions[0]["comment"]), (&json!("reject"), &json!("too short")));
    assert_eq!(decisions[1]["fields"]["instruction"], "Describe one fjord.");
    // The next session goes on with the rest, after a line that was cut short.
    place.write("run/decisions.jsonl", place.read("run/decisions.jsonl") + "{\"id\": \"1-0");
    let outcome = answer(&place, "false", "e\ns\na\n").succeeded();
    assert!(
        outcome.stderr.contains("1 of 2  1-000001") && outcome.stderr.contains("the row is as it was"),
        "{}",
        outcome.stderr
    );
    let decisions = place.lines("run/decisions.jsonl");
    assert_eq!(ids(&decisions), ["1-000002", "1-000003", "1-000000"]);
    assert_eq!(decisions[2]["decision"], "accept");
    // The end of the input is the end of the session.
    let outcome = answer(&place, "false", "").succeeded();
    assert!(outcome.stderr.contains("3 of 4 rows reviewed (75 %)"), "{}", outcome.stderr);
}

#[test]
fn a_person_goes_back_takes_back_and_jumps() {
    let place = Place::new();
    run_of_rows(&place);
    // Rows wait in the order 2, 3, 1, 0.
    answer(&place, "false", "a\nr\nb\na\ng 4\nr wrong\nu\ng 9\nq\n").succeeded();
    let decided = |place: &Place| {
        let lines = place.lines("run/decisions.jsonl");
        lines.iter().map(|line| (line["id"].clone(), line["decision"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(
        decided(&place),
        [(json!("1-000002"), json!("accept")), (json!("1-000003"), json!("accept"))],
        "the second row was rejected, gone back to and accepted; the fourth rejected and taken back"
    );
}

#[test]
fn an_edit_beyond_bounds_is_taken_with_a_word_and_one_of_another_kind_with_force() {
    let place = Place::new();
    run_of_rows(&place);
    place.run(&["review", "run"]).succeeded();
    fill_in(&place, "mine.jsonl", &[("1-000001", "edit", Some("No."))]);
    let told = place.run(&["review", "run", "--apply", "mine.jsonl"]).succeeded().stderr;
    assert!(told.contains("taken: 1-000001: the edited fields go beyond the run's schema: /instruction"), "{told}");
    fill_in(&place, "mine.jsonl", &[("1-000002", "edit", Some("NUMBER"))]);
    place.write("mine.jsonl", place.read("mine.jsonl").replace("\"NUMBER\"", "7"));
    let apply = ["review", "run", "--apply", "mine.jsonl", "--force"];
    place.run(&apply[..4]).refused(3, &["break the run's schema: /instruction"]);
    place.run(&apply).succeeded();
    assert_eq!(place.lines("run/decisions.jsonl").len(), 2);
}

#[test]
fn rows_of_any_maker_are_reviewed_with_decisions_beside_them() {
    let place = Place::new();
    place.write(
        "rows.jsonl",
        "{\"q\": \"a\", \"a\": \"b\"}\n{\"id\": 7, \"q\": \"c\", \"a\": \"d\"}\n{\"q\": \"e\", \"a\": \"f\"}\n",
    );
    let mut command = place.command(&["review", "rows.jsonl", "-i"]);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("the program starts");
    child.stdin.take().expect("a pipe").write_all(b"r\na\nq\n").expect("read");
    assert!(child.wait_with_output().expect("it ends").status.success());
    assert_eq!(place.lines("rows.jsonl.decisions.jsonl").len(), 2);
    let pair = ["--prompt-field", "q", "--response-field", "a"];
    place.run(&[&["export", "rows.jsonl", "--format", "alpaca", "-o", "data"][..], &pair].concat()).succeeded();
    assert_eq!(place.lines("data/train.jsonl").len(), 2);
    // The decision holds for the row, wherever it stands in the file.
    place.write("rows.jsonl", "{\"q\": \"e\", \"a\": \"f\"}\n{\"q\": \"a\", \"a\": \"b\"}\n");
    let told = place.run(&["review", "rows.jsonl"]).succeeded().stderr;
    assert!(told.contains("1 rows to decide on: rows.jsonl.review.jsonl"), "{told}");
    place.write("table.csv", "q,a\nb,c\n");
    place.run(&["review", "table.csv"]).refused(3, &["table.csv: line 1", "JSON Lines"]);
    // Elsewhere, as for rows on a disk that cannot be written.
    place.run(&["review", "rows.jsonl", "-o", "desk"]).succeeded();
    assert_eq!(place.lines("desk/rows.jsonl.review.jsonl").len(), 2);
}

#[test]
fn two_reviews_of_one_run_are_kept_apart() {
    let place = Place::new();
    run_of_rows(&place);
    let mut command = place.command(&["review", "run", "--interactive"]);
    let mut first = command.stdin(Stdio::piped()).spawn().expect("the program starts");
    super::wait_until("the first review holds the run", || place.at("run/.review.lock").exists());
    let refused = || place.run(&["review", "run"]).code == Some(3);
    super::wait_until("the second is refused", refused);
    drop(first.stdin.take());
    assert!(first.wait().expect("it ends").success());
    place.run(&["review", "run"]).succeeded();
}

#[test]
fn decisions_survive_a_resumed_run() {
    let place = Place::new();
    super::data_sets::run_of_rows(&place);
    let records = place.read("run/records.jsonl");
    place.run(&["review", "run"]).succeeded();
    let first = place.lines("run/review.jsonl")[0]["id"].as_str().expect("an id").to_owned();
    fill_in(&place, "run/review.jsonl", &[(&first, "reject", None)]);
    place.run(&["review", "run", "--apply"]).succeeded();
    place.write("run/records.jsonl", "");
    let recipe = super::fixture("recipe.yaml");
    let again = ["generate", "-n", "6", "--model", "model.toml", "--recipe", &recipe, "-o", "run", "--resume"];
    place.run(&again).succeeded();
    assert_eq!(place.read("run/records.jsonl"), records);
    place.run(&["export", "run", "--format", "alpaca", "-o", "data"]).succeeded();
    assert_eq!(place.lines("data/train.jsonl").len(), 5);
}
