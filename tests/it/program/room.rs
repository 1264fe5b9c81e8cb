//! Rows that cannot be made do not end a run; and what a run says when it falls short can be followed.

use serde_json::Value;

use super::Place;

/// A step whose texts are as long as an attribute says: the long ones do not fit into their tokens.
const LENGTHS: &str = "name: lengths\nschema: any\nmax_attempts: 3\nattributes:\n  - {name: words, values: [2, 400]}\n\
    steps:\n  - {field: text, prompt: 'Text:', max_tokens: 60, output: {text: {min_words: '{{ words }}'}}}\n";

/// Texts of two kinds, of which one is turned down.
const WARES: &str = "name: wares\nschema: any\nmax_attempts: 1\nattributes:\n  - {name: ware, values: [bread, rope]}\n\
    filters:\n  phrases: [{field: text, phrases: [rope is cheap]}]\n\
    steps:\n  - {field: text, prompt: 'On {{ ware }}:', output: {regex: ' [a-z ]+\\.'}}\n";

fn place(replies: &[(&str, &[&str])], recipe: &str) -> Place {
    let place = Place::new();
    let replies: Vec<(&str, Vec<String>)> = replies
        .iter()
        .map(|(prompt, texts)| (*prompt, texts.iter().map(|text| (*text).to_owned()).collect()))
        .collect();
    place.model("model.toml", 0, &replies);
    place.write("recipe.yaml", recipe);
    place
}

fn generate<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["generate", "--model", "model.toml"], more].concat()
}

fn reasons(place: &Place) -> Vec<(u64, String)> {
    let rejects = place.lines("run/rejects.jsonl");
    let of = |row: &Value| {
        let rule = row["meta"]["reason"]["rule"].as_str().expect("a rule").to_owned();
        (row["meta"]["row"].as_u64().expect("a row"), rule)
    };
    rejects.iter().map(of).collect()
}

#[test]
fn a_row_that_cannot_be_made_is_given_up_and_the_run_goes_on() {
    let place = place(&[("Text:", &[" one two three", " four five six"])], LENGTHS);
    let told = place.run(&generate(&["--recipe", "recipe.yaml", "-n", "6", "-o", "run"]));
    told.refused(5, &["only 3 of 6 rows", "by impossible", "short are 3 of words=400 by impossible", "--max-tokens"]);
    assert_eq!(place.lines("run/records.jsonl").len(), 3);
    // Trying again would come to the same, so each is tried once.
    let reasons = reasons(&place);
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    assert!(reasons.iter().all(|(_, rule)| rule == "impossible"), "{reasons:?}");
    let detail = place.lines("run/rejects.jsonl")[0]["meta"]["reason"]["detail"].to_string();
    assert!(detail.contains("step text") && detail.contains("tokens"), "{detail}");
    // Followed to the letter, the advice makes them, and leaves what stands.
    let before = place.read("run/ledger.jsonl");
    place.run(&["generate", "--resume", "-o", "run", "--max-tokens", "2000"]).succeeded();
    assert_eq!(place.lines("run/records.jsonl").len(), 6);
    assert!(place.read("run/ledger.jsonl").starts_with(&before));
    // Gone on with, and with less room than it has by now, it stays as it is.
    place.run(&["generate", "--resume", "-o", "run"]).succeeded();
    place.run(&["generate", "--resume", "-o", "run", "--max-tokens", "7"]).refused(2, &["2000 tokens, and 7 is less"]);
}

#[test]
fn an_empty_prompt_is_a_reject_and_not_a_run_that_stands_still() {
    let recipe = "name: echo\nschema: any\nmax_attempts: 20\nsteps:\n\
        \x20 - {field: text, prompt: 'Text:', max_tokens: 60, output: {text: {max_words: 9}}}\n\
        \x20 - {field: more, prompt: '{{ text }}', max_tokens: 60, output: {text: {max_words: 9}}}\n";
    let place = place(&[("Text:", &["", " one two"]), ("one two", &[" three"])], recipe);
    place.run(&generate(&["--recipe", "recipe.yaml", "-n", "8", "-o", "run", "--seed", "1"])).succeeded();
    let rejects = place.lines("run/rejects.jsonl");
    assert!(!rejects.is_empty());
    for reject in rejects {
        assert_eq!(reject["meta"]["reason"]["detail"], "the prompt of more is empty");
    }
}

#[test]
fn where_no_row_can_be_made_the_cause_is_told_and_nothing_is_left() {
    let recipe = LENGTHS.replace("[2, 400]", "[300, 400]");
    let place = place(&[("Text:", &[" one"])], &recipe);
    let told = place.run(&generate(&["--recipe", "recipe.yaml", "-n", "6", "-o", "run"]));
    told.refused(2, &["step text", "tokens"]);
    assert!(!std::path::Path::new(&place.at("run")).exists());
}

#[test]
fn a_run_that_fell_short_goes_on_with_more_attempts() {
    let wares = [
        ("On bread:", &[" bread is warm.", " bread is cheap."][..]),
        ("On rope:", &[" rope is cheap.", " rope is long."]),
    ];
    for more in [&["--retry"][..], &["--resume", "--set", "max_attempts=9"]] {
        let place = place(&wares, WARES);
        let told = place.run(&generate(&["--recipe", "recipe.yaml", "-n", "8", "-o", "run"]));
        told.refused(5, &["of 8 rows", "short are", "ware=rope by phrase", "--retry -o run"]);
        let rows = place.lines("run/records.jsonl").len();
        let mut told = place.run(&[&["generate"], more, &["-o", "run"]].concat());
        // Each time as many attempts again.
        for _ in 0..6 {
            if told.code != Some(0) {
                told = place.run(&["generate", "--retry", "-o", "run"]);
            }
        }
        told.succeeded();
        let records = place.lines("run/records.jsonl");
        assert!(rows < 8 && records.len() == 8, "{rows}");
        // The same run begun with that many attempts.
        let plan: Value = serde_json::from_str(&place.read("run/run.lock.json")).expect("a plan");
        let attempts = format!("max_attempts={}", plan["recipe"]["max_attempts"]);
        let whole = ["--recipe", "recipe.yaml", "-n", "8", "-o", "whole", "--set", &attempts];
        place.run(&generate(&whole)).succeeded();
        assert_eq!(place.read("run/records.jsonl"), place.read("whole/records.jsonl"));
        place.run(&["generate", "--resume", "-o", "run", "--set", "max_attempts=1"]).refused(2, &["and 1 is less"]);
    }
}

#[test]
fn only_room_may_change_where_a_run_is_gone_on_with() {
    let place = place(&[("Text:", &[" one two three"])], &LENGTHS.replace("400", "3"));
    place.run(&generate(&["--recipe", "recipe.yaml", "-n", "2", "-o", "run"])).succeeded();
    place.run(&generate(&["--retry"])).refused(2, &["--retry is for a run that stands already", "-o DIR"]);
    let other = generate(&["--recipe", "recipe.yaml", "--resume", "-o", "run", "--temperature", "0.5"]);
    place.run(&other).refused(3, &["planned otherwise", "temperature"]);
    place.run(&["generate", "--resume", "-o", "run", "--max-tokens", "90", "-n", "4"]).succeeded();
    assert_eq!(place.lines("run/records.jsonl").len(), 4);
}
