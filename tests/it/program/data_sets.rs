//! Data sets by the program: filter, report and export of runs and of any file.

use serde_json::{Value, json};

use super::{Place, combine, fixture};

fn rows(place: &Place, name: &str, rows: &[Value]) {
    place.write(name, rows.iter().map(Value::to_string).collect::<Vec<_>>().join("\n"));
}

#[test]
fn filter_keeps_lines_and_says_why_others_went() {
    let place = Place::new();
    rows(
        &place,
        "in.jsonl",
        &[
            json!({"instruction": "Explain how bread rises in the oven.", "response": "Yeast makes gas."}),
            json!({"instruction": "explain how bread rises in the oven", "response": "yeast makes gas"}),
            json!({"instruction": "Name a colour.", "response": "As an AI language model, I see none."}),
            json!({"instruction": "Who wrote to jo@mail.de?", "response": "I did."}),
        ],
    );
    let flags = [
        "filter",
        "in.jsonl",
        "-o",
        "out.jsonl",
        "--rejects",
        "no.jsonl",
        "--exact",
        "--refusal",
        "--pii",
        "mask",
        "--json",
    ];
    let outcome = place.run(&flags).succeeded();
    let summary: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    assert_eq!((&summary["kept"], &summary["masked"]), (&json!(2), &json!(1)));
    assert_eq!(summary["rejected"], json!({"duplicate": 1, "refusal": 1}));
    assert_eq!(place.lines("out.jsonl")[1]["instruction"], "Who wrote to [EMAIL]?");
    assert_eq!(place.lines("no.jsonl")[0]["meta"]["reason"]["rule"], "duplicate");
    for path in ["in.jsonl", "out.jsonl"] {
        let (before, told) = (place.read(path), place.run(&["filter", "in.jsonl", "-o", path, "--exact"]));
        told.refused(3, &[path, "--force"]);
        assert_eq!(place.read(path), before);
    }
    place
        .run(&["filter", "in.jsonl", "-o", "new.jsonl", "--rejects", "no.jsonl", "--exact"])
        .refused(3, &["no.jsonl", "--force"]);
    let outcome = place.run(&["filter", "in.jsonl", "-o", "in.jsonl", "--rouge-l", "--force"]).succeeded();
    assert!(outcome.stderr.contains("3 of 4 rows kept") && outcome.stderr.contains("rouge_l"), "{}", outcome.stderr);
    assert_eq!(place.lines("in.jsonl").len(), 3);
}

#[test]
fn filter_refuses_fields_that_no_row_has_and_counts_what_rouge_l_compared() {
    let place = Place::new();
    let texts =
        ["Name three rivers of Europe.", "Name three big rivers of Europe.", "Bake bread.", "Draw an old ship."];
    rows(&place, "in.jsonl", &texts.map(|text| json!({"instruction": text, "note": ""})));
    let told = place.run(&["filter", "in.jsonl", "-o", "out.jsonl", "--field", "instrction", "--exact"]);
    told.refused(3, &["no row has text in a field `instrction`; did you mean `instruction`?"]);
    place.run(&["filter", "in.jsonl", "-o", "out.jsonl", "--field", "note", "--exact"]).refused(3, &["`note`"]);
    assert!(!place.at("out.jsonl").exists());
    let outcome = place.run(&["filter", "in.jsonl", "-o", "out.jsonl", "--rouge-l", "--json"]).succeeded();
    let summary: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    assert_eq!(summary["rejected"], json!({"rouge_l": 1}));
    // Of the pairs with a kept row (0 + 1 + 1 + 2) one shares words, and is compared in full.
    assert_eq!(summary["rouge_l_pairs"], json!({"all": 4, "sharing": 1, "compared": 1}));
}

#[test]
fn filter_reads_rules_from_a_file() {
    let place = Place::new();
    rows(&place, "in.jsonl", &[json!({"q": "one two three"}), json!({"q": "one"})]);
    place.write("rules.yaml", "length: [{field: q, words: [2, 9]}]\n");
    place.run(&["filter", "in.jsonl", "-o", "out.jsonl", "--config", "rules.yaml"]).succeeded();
    assert_eq!(place.lines("out.jsonl").len(), 1);
    place.write("rules.yaml", "lenght: []\n");
    place
        .run(&["filter", "in.jsonl", "-o", "new.jsonl", "--config", "rules.yaml"])
        .refused(3, &["rules.yaml", "lenght"]);
}

#[test]
fn filter_refuses_what_cannot_be_done() {
    let place = Place::new();
    rows(&place, "in.jsonl", &[json!({"q": "x"})]);
    place.write("empty.jsonl", "");
    place.run(&["filter", "in.jsonl", "-o", "out"]).refused(2, &["no rule is named", "--exact"]);
    place.run(&["filter", "none.jsonl", "-o", "out", "--exact"]).refused(4, &["none.jsonl", "check the path"]);
    place.run(&["filter", "empty.jsonl", "-o", "out", "--exact"]).refused(3, &["no row"]);
    place.run(&["filter", "in.jsonl", "-o", "none/out", "--exact"]).refused(4, &["none/out"]);
    place.run(&["filter", "in.jsonl", "-o", "out", "--minhash=0.1"]).refused(2, &["near.threshold"]);
    place.run(&["filter", "in.jsonl", "-o", "out", "--language", "xx"]).refused(2, &["no language"]);
    place.run(&["filter", "in.jsonl", "-o", "out", "--decontaminate", "b.jsonl"]).refused(4, &["b.jsonl"]);
    place.run(&["filter", "in.jsonl", "-o", "out", "--exact", "--rejects", "out"]).refused(2, &["same file"]);
    assert!(!place.at("out").exists());
}

/// A run of six rows by the recipe of the fixtures.
pub fn run_of_rows(place: &Place) {
    let whom = &[" bakers", " farmers", " students", " sailors", " teachers", " drivers"];
    let instructions =
        combine(&[&[" Explain how"], whom, &[" plan", " share"], &[" busy mornings every single day.\n"]]);
    let answer = "The work starts early and needs patience. Good notes help to see what changed.";
    place.model("model.toml", 0, &[("Instruction:", instructions), ("assistant: ", vec![answer.to_owned()])]);
    let recipe = fixture("recipe.yaml");
    place.run(&["generate", "-n", "6", "--model", "model.toml", "--recipe", &recipe, "-o", "run"]).succeeded();
}

#[test]
fn a_run_is_reported_and_exported() {
    let place = Place::new();
    run_of_rows(&place);
    let table = place.run(&["report", "run"]).succeeded().stdout;
    assert!(table.contains("last session: 6 rows in "), "{table}");
    for part in ["6 rows planned", "6 rows kept", "topic: 4 values, entropy 0.9", "self-BLEU", "mean tension"] {
        assert!(table.contains(part), "{part} is not in {table}");
    }
    let report: Value = serde_json::from_str(&place.read("run/report.json")).expect("JSON");
    let values = report["attributes"][0]["values"].as_array().expect("values");
    let planned: Vec<f64> = values.iter().filter_map(|value| value["planned"].as_f64()).collect();
    assert!(planned.len() == 4 && planned.iter().all(|rows| [1.0, 2.0].contains(rows)), "{planned:?}");
    assert_eq!((report["kept"].as_u64(), planned.iter().sum::<f64>()), (Some(6), 6.0));
    assert!(report["throughput"]["tokens_per_s"].as_f64().is_some_and(|speed| speed > 0.0));
    let again: Value = serde_json::from_str(&place.run(&["report", "run", "--json"]).succeeded().stdout).expect("JSON");
    assert_eq!(again, report);
    let flags = [
        "export",
        "run",
        "--format",
        "messages",
        "-o",
        "data",
        "--split",
        "0.5",
        "--split-by",
        "meta.row",
        "--keep",
        "id",
    ];
    place.run(&flags).succeeded();
    let (train, test) = (place.lines("data/train.jsonl"), place.lines("data/test.jsonl"));
    assert_eq!(train.len() + test.len(), 6);
    assert_eq!(train[0]["messages"][1]["role"], "assistant");
    assert!(train[0]["id"].is_string());
    assert!(place.read("data/README.md").contains("- model: script"));
}

#[test]
fn export_tells_what_it_left_out() {
    let place = Place::new();
    place.write("in.jsonl", "{\"prompt\":\"Q\",\"completion\":\"A\"}\nbroken\n{\"text\":\"alone\"}\n");
    let outcome = place.run(&["export", "in.jsonl", "--format", "alpaca", "-o", "data"]).succeeded();
    for part in
        ["several forms: 1 prompt-completion, 1 plain", "line 2 was left out: not JSON", "1 rows were left out; line 3"]
    {
        assert!(outcome.stderr.contains(part), "{part} is not in {}", outcome.stderr);
    }
    assert_eq!(place.lines("data/train.jsonl"), [json!({"instruction": "Q", "input": "", "output": "A"})]);
    place
        .run(&["export", "in.jsonl", "--format", "alpaca", "-o", "data", "--strict"])
        .refused(3, &["line 2", "not JSON"]);
    place.run(&["export", "in.jsonl", "--format", "alpaca", "-o", "in.jsonl"]).refused(4, &["in.jsonl"]);
    place
        .run(&["export", "in.jsonl", "--format", "alpaca", "-o", "data", "--split", "2"])
        .refused(2, &["--split is 2"]);
    place.run(&["report", "data/none"]).refused(4, &["data/none"]);
    std::fs::create_dir(place.at("empty")).expect("a directory");
    place.run(&["report", "empty"]).refused(3, &["records.jsonl"]);
}
