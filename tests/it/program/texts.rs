//! `instil decode` and `instil check`: stdout holds the data and nothing else.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use serde_json::Value;

use super::{Outcome, Place};

const PERSON: &str = r#"{"type":"object","properties":{"name":{"type":"string","maxLength":12}},"required":["name"],"additionalProperties":false}"#;

/// A place with a model that answers every chat with one of `replies`.
fn place(replies: &[&str]) -> Place {
    let place = Place::new();
    let replies: Vec<String> = replies.iter().map(|&reply| reply.to_owned()).collect();
    place.model("model.toml", 0, &[("assistant: ", replies.clone()), ("Sentiment:", replies)]);
    place
}

fn decode(place: &Place, rest: &[&str]) -> Outcome {
    place.run(&[&["decode", "--model", "model.toml"], rest].concat())
}

#[test]
fn a_regex_on_stdout_and_nothing_else() {
    // What the model would like to say is no date; the mask leaves only dates.
    let place = place(&["2024-13", "2023-07", "2022-11"]);
    let flags = ["--regex", "[0-9]{4}-(0[1-9]|1[0-2])", "-n", "50", "--seed", "4"];
    let told = decode(&place, &flags).succeeded();
    assert_eq!(told.stdout.lines().count(), 50);
    for line in told.stdout.lines() {
        let (year, month) = line.split_once('-').expect("a dash");
        assert!(year.len() == 4 && year.bytes().all(|b| b.is_ascii_digit()), "{line}");
        assert!(month.len() == 2 && (1..=12).contains(&month.parse::<u32>().expect("a number")), "{line}");
    }
    assert!(told.stdout.contains("2023-07\n"), "{}", told.stdout);
    assert_eq!(decode(&place, &flags).stdout, told.stdout, "the same seed");
    assert_eq!(decode(&place, &[&flags[..], &["--batch", "1"]].concat()).stdout, told.stdout, "one at a time");
    assert_ne!(decode(&place, &[&flags[..4], &["--seed", "5"]].concat()).stdout, told.stdout, "another seed");
}

#[test]
fn quiet_says_nothing_at_all() {
    let told = decode(&place(&["yes"]), &["--choice", "yes,no", "-q"]).succeeded();
    assert_eq!((told.stdout.as_str(), told.stderr.as_str()), ("yes\n", ""));
}

#[test]
fn a_choice_with_the_prompt_from_standard_input() {
    let place = place(&["negative", "neutral"]);
    let told = decode(&place, &["--choice", "positive,negative", "--prompt", "Review: bad. Sentiment:", "--raw"]);
    assert_eq!(told.succeeded().stdout, "negative\n");

    let mut command = place.command(&["decode", "--model", "model.toml", "--choice", "positive,negative", "-p", "-"]);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("the program starts");
    child.stdin.take().expect("piped").write_all(b"Was it good?").expect("written");
    let told = Outcome::of(child.wait_with_output().expect("the program ends")).succeeded();
    assert_eq!(told.stdout, "negative\n");
}

#[test]
fn json_under_a_schema() {
    let place = place(&["{\"name\": \"Ada\"}", "{\"name\": \"Bob\"}"]);
    place.write("person.json", PERSON);
    for engine in ["instil", "outlines"] {
        let told = decode(&place, &["--schema", "person.json", "-n", "20", "--engine", engine]).succeeded();
        let names: Vec<Value> = told.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(names.len(), 20);
        assert!(names.iter().all(|value| value["name"] == "Ada" || value["name"] == "Bob"), "{names:?}");
        assert!(names.iter().any(|value| *value != names[0]), "{names:?}");
    }
}

#[test]
fn one_json_object_a_text() {
    let place = place(&["{\"name\": \"Ada\"}", "2024-07"]);
    place.write("person.json", PERSON);
    let told = decode(&place, &["--schema", "person.json", "--json"]).succeeded();
    let object: Value = serde_json::from_str(&told.stdout).expect("one JSON object");
    assert_eq!(object["value"]["name"], "Ada");
    assert_eq!(object["closed_by_budget"], false);
    assert!(object["tokens"].as_u64() > Some(0) && object["tension"]["max"].is_number(), "{object}");
    let told = decode(&place, &["--regex", "[0-9]{4}-[0-9]{2}", "--json", "-n", "2"]).succeeded();
    for line in told.stdout.lines() {
        let object: Value = serde_json::from_str(line).expect("a JSON object a line");
        assert_eq!(object["text"], "2024-07");
        assert!(object.get("value").is_none());
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let place = place(&["abcde"]);
    let mut command = place.command(&["decode", "--model", "model.toml", "--regex", "[a-e]{5}", "-n", "20000"]);
    let mut child = command.spawn().expect("the program starts");
    let mut reader = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    reader.read_line(&mut line).expect("a line");
    assert_eq!(line, "abcde\n");
    drop(reader);
    Outcome::of(child.wait_with_output().expect("the program ends")).succeeded();

    place.write("person.json", PERSON);
    for arguments in [&["check", "person.json"][..], &["check", "person.json", "--json"], &["completions", "bash"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = place.command(arguments).stdout(writer).output().expect("the program starts");
        Outcome::of(output).succeeded();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_behind_stdout_is_told() {
    let place = place(&["abcde"]);
    place.write("person.json", PERSON);
    for arguments in [
        &["decode", "--model", "model.toml", "--regex", "[a-e]{5}"][..],
        &["check", "person.json"],
        &["check", "person.json", "--json"],
        &["completions", "zsh"],
        &["models", "list"],
    ] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
        let output = place.command(arguments).stdout(full).output().expect("the program starts");
        Outcome::of(output).refused(4, &["cannot write standard output", "; free some space"]);
    }
}

#[test]
fn a_text_that_never_ends_is_told() {
    // Outlines' baseline does not close a text at the limit.
    let place = place(&[&"a ".repeat(400)]);
    let told = decode(&place, &["--regex", "(a ){200,}b", "--max-tokens", "420", "--engine", "outlines"]);
    told.refused(5, &["cut off by the limit of 420 tokens", "; raise --max-tokens"]);
    assert_eq!(told.stdout, "");
}

#[test]
fn check_says_how_a_schema_is_enforced() {
    let place = Place::new();
    place.write("person.json", PERSON);
    let told = place.run(&["check", "person.json"]).succeeded();
    assert!(told.stdout.lines().any(|line| line.ends_with(" /properties/name/maxLength")), "{}", told.stdout);
    let told = place.run(&["check", "person.json", "--json"]).succeeded();
    let report: Value = serde_json::from_str(&told.stdout).expect("one JSON object");
    assert_eq!(report["enforceable"], true);
    let keywords = report["keywords"].as_array().expect("keywords");
    let pointer = |pointer: &str| keywords.iter().find(|k| k["pointer"] == pointer);
    assert_eq!(pointer("/properties/name/maxLength").expect("listed")["refused"], false);
    assert!(report.get("rows").is_none());
}

#[test]
fn check_finds_the_rows_that_break_a_schema() {
    let place = Place::new();
    place.write("person.json", PERSON);
    place.write("good.jsonl", "{\"name\": \"Ada\"}\n\n{\"id\": \"1\", \"name\": \"Bob\", \"meta\": {}}\n");
    let told = place.run(&["check", "person.json", "good.jsonl"]).succeeded();
    assert!(told.stdout.ends_with("2 rows valid, 0 invalid\n"), "{}", told.stdout);

    place.write("bad.jsonl", "{\"name\": \"Ada\"}\n{\"name\": 5}\n{\"name\n{}\n");
    let told = place.run(&["check", "person.json", "bad.jsonl"]);
    told.refused(3, &["bad.jsonl: 3 of 4 rows break the schema, the first on line 2", "; mend or drop"]);
    assert!(told.stdout.contains("line 2: /name: "), "{}", told.stdout);
    assert!(told.stdout.contains("line 3: row: not JSON"), "{}", told.stdout);
    let told = place.run(&["check", "person.json", "bad.jsonl", "--json"]);
    told.refused(3, &["3 of 4 rows"]);
    let report: Value = serde_json::from_str(&told.stdout).expect("one JSON object");
    assert_eq!(report["rows"]["valid"], 1);
    let lines: Vec<u64> =
        report["rows"]["invalid"].as_array().expect("rows").iter().filter_map(|row| row["line"].as_u64()).collect();
    assert_eq!(lines, [2, 3, 4]);
}
