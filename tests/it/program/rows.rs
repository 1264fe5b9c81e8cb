//! `instil generate`: the main job, its rejects, and how it ends early.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use instil::recipe::builtin;
use instil::validator::Validator;
use serde_json::Value;

use super::{Place, combine, fixture, wait_until};

const SUBJECTS: &[&str] = &[" bakers", " farmers", " students", " sailors", " teachers", " drivers"];
const VERBS: &[&str] = &[" plan", " share", " measure", " improve"];
const OBJECTS: &[&str] = &[" busy mornings", " long winters", " simple tools", " new skills"];
const ANSWERS: &[&str] = &[
    "The work starts early and needs patience. Good notes help to see what changed.",
    "A short list is enough for most people. Write it down and look at it often.",
];

fn answers() -> Vec<String> {
    ANSWERS.iter().map(|&answer| answer.to_owned()).collect()
}

/// What the recipe of the fixtures asks for, well answered.
fn good_instructions() -> Vec<String> {
    combine(&[&[" Explain how"], SUBJECTS, VERBS, OBJECTS, &[" every single day.\n"]])
}

fn good_model(place: &Place, name: &str, pause_micros: u64) {
    place.model(name, pause_micros, &[("Instruction:", good_instructions()), ("assistant: ", answers())]);
}

fn generate<'a>(recipe: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    [&["generate", "--model", "model.toml", "--recipe", recipe], rest].concat()
}

fn text<'a>(row: &'a Value, field: &str) -> &'a str {
    row[field].as_str().unwrap_or_else(|| panic!("{field} of {row}"))
}

/// Ends of instructions, far enough apart for the recipe's bound on ROUGE-L.
const TAILS: &[&str] = &[
    " in a small town by the sea",
    " before the first snow of winter",
    " with friends from other schools",
    " for guests who stay at home",
    " after a long walk through rain",
    " while music plays next door",
];

/// Sentences of answers to the built-in recipe.
const SENTENCES: [&str; 5] = [
    "The work starts early and needs patience.",
    "Good notes help to see what changed.",
    "A short list is enough for most people.",
    "Write it down and look at it often.",
    "Ask a friend when you are not sure.",
];

/// The built-in recipe, and a script that speaks its form: its answers have the planned number of sentences.
fn built_in_model(place: &Place) {
    let recipe = builtin::recipe("instruction-response").expect("it is built in");
    let values = |name: &str| {
        let attribute = recipe.attributes.iter().find(|attribute| attribute.name == name);
        attribute.unwrap_or_else(|| panic!("no `{name}`")).values.clone()
    };
    let mut scenes = Vec::new();
    for (length, tone) in values("length").iter().flat_map(|l| values("tone").into_iter().map(move |t| (l.clone(), t)))
    {
        let asked = recipe.steps[1].prompt.replace("{{ length.words }}", text(&length, "words"));
        let asked = asked.replace("{{ tone }}", tone.as_str().expect("a text"));
        let cue = asked.trim_start_matches("{{ instruction }}").to_owned() + "\nassistant: ";
        let count = length["least"].as_u64().expect("a number") as usize;
        scenes.push((cue, vec![SENTENCES[..count].join(" "), SENTENCES[5 - count..].join(" ")]));
    }
    let mut instructions = Vec::new();
    for value in &values("opening") {
        let (words, end) = (text(value, "words"), text(value, "end"));
        let tails = combine(&[SUBJECTS, VERBS, OBJECTS, TAILS]);
        instructions.extend(tails.iter().map(|tail| format!(" {words}{tail}{end}\n")));
    }
    let cue = recipe.steps[0].prompt.lines().last().expect("a prompt");
    let mut scenes: Vec<(&str, Vec<String>)> =
        scenes.iter().map(|(cue, replies)| (cue.as_str(), replies.clone())).collect();
    scenes.push((cue, instructions));
    place.model("model.toml", 0, &scenes);
}

#[test]
fn the_main_job_writes_valid_distinct_rows_and_the_same_ones_again() {
    let place = Place::new();
    built_in_model(&place);
    let run = |seed: &str, folder: &str| {
        place.run(&["generate", "-n", "20", "--seed", seed, "--model", "model.toml", "-o", folder]).succeeded()
    };
    let told = run("1", "one");
    assert_eq!(told.stdout, "");
    assert!(told.stderr.contains("20 of 20 rows") && told.stderr.contains("tokens/s"), "{}", told.stderr);
    run("1", "again");
    run("2", "other");
    for file in ["records.jsonl", "rejects.jsonl"] {
        assert_eq!(place.read(&format!("one/{file}")), place.read(&format!("again/{file}")), "{file}");
    }
    assert_ne!(place.read("one/records.jsonl"), place.read("other/records.jsonl"));

    let schema = std::fs::read_to_string(
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("grammars/instruction-response.schema.json"),
    );
    let schema = serde_json::from_str(&schema.expect("the bundled grammar")).expect("JSON");
    let validator = Validator::new(&schema).expect("a schema");
    let records = place.lines("one/records.jsonl");
    assert_eq!(records.len(), 20);
    let (mut ids, mut instructions) = (BTreeSet::new(), BTreeSet::new());
    for (row, record) in records.iter().enumerate() {
        let mut fields = record.clone();
        let object = fields.as_object_mut().expect("a row is an object");
        let (id, meta) = (object.remove("id").expect("an id"), object.remove("meta").expect("meta"));
        assert!(validator.is_valid(&fields), "{fields}");
        assert_eq!(meta["row"], row);
        assert_eq!(meta["seed"], 1);
        let steps: Vec<&str> = meta["steps"].as_array().expect("steps").iter().map(|s| text(s, "field")).collect();
        assert_eq!(steps, ["instruction", "response"]);
        let opening = text(&meta["attributes"]["opening"], "words");
        assert!(text(record, "instruction").starts_with(opening), "{record}");
        let length = &meta["attributes"]["length"];
        let sentences = text(record, "response").matches('.').count() as u64;
        let within = length["least"].as_u64() <= Some(sentences) && Some(sentences) <= length["most"].as_u64();
        assert!(within && SENTENCES.iter().any(|one| text(record, "response").starts_with(one)), "{record}");
        ids.insert(id.to_string());
        instructions.insert(text(record, "instruction").to_owned());
    }
    assert_eq!((ids.len(), instructions.len()), (20, 20));
    let plan: Value = serde_json::from_str(&place.read("one/run.lock.json")).expect("JSON");
    assert_eq!((&plan["seed"], &plan["rows"]), (&Value::from(1), &Value::from(20)));
}

#[test]
fn rows_do_not_depend_on_how_many_are_decoded_at_once() {
    let place = Place::new();
    let mut instructions = good_instructions();
    // Rejects of every kind make rows overtake each other.
    instructions.truncate(60);
    let mut replies = answers();
    replies.push("This one stops in the middle of a clause and".into());
    place.model("model.toml", 0, &[("Instruction:", instructions), ("assistant: ", replies)]);
    let recipe = fixture("recipe.yaml");
    for batch in ["1", "3", "16"] {
        place.run(&generate(&recipe, &["-n", "30", "--seed", "7", "--batch", batch, "-o", batch])).succeeded();
    }
    assert!(place.lines("1/rejects.jsonl").len() > 5);
    for file in ["records.jsonl", "rejects.jsonl"] {
        assert_eq!(place.read(&format!("1/{file}")), place.read(&format!("3/{file}")), "{file}");
        assert_eq!(place.read(&format!("1/{file}")), place.read(&format!("16/{file}")), "{file}");
    }
}

#[test]
fn more_rows_begin_with_the_same_rows() {
    let place = Place::new();
    good_model(&place, "model.toml", 0);
    let recipe = fixture("recipe.yaml");
    place.run(&generate(&recipe, &["-n", "5", "-o", "few"])).succeeded();
    place.run(&generate(&recipe, &["-n", "12", "-o", "many"])).succeeded();
    let (few, many) = (place.lines("few/records.jsonl"), place.lines("many/records.jsonl"));
    assert_eq!(few[..], many[..5]);
}

#[test]
fn what_is_turned_down_is_a_reject_with_its_reason_and_never_a_record() {
    let place = Place::new();
    let mut instructions = good_instructions();
    instructions.truncate(60);
    let repeated = " Explain how echoes come back from a wall.\n";
    let open = " Explain how a sentence can stop before\n";
    instructions.push(repeated.into());
    instructions.push(open.into());
    let looping = "The wheel turns round and round and then ".repeat(5) + "it stops.";
    let half = "An answer can stop in the middle of a clause and".to_owned();
    let endless = "word ".repeat(100) + "end.";
    let mut replies = answers();
    replies.extend([looping.clone(), half.clone(), endless]);
    let echo = "Explain how echoes come back from a wall. They travel through the air.".to_owned();
    place.model(
        "model.toml",
        0,
        &[
            ("Instruction:", instructions),
            ("assistant: ", replies),
            ("user: Explain how echoes come back from a wall.\nassistant: ", vec![echo.clone()]),
        ],
    );
    let told = place.run(&generate(&fixture("recipe.yaml"), &["-n", "16", "--seed", "3", "-o", "run", "--json"]));
    let told = told.succeeded();
    let summary: Value = serde_json::from_str(&told.stdout).expect("one JSON object on stdout");
    let (records, rejects) = (place.lines("run/records.jsonl"), place.lines("run/rejects.jsonl"));
    assert_eq!((summary["accepted"].as_u64(), records.len()), (Some(16), 16));

    let mut rules: BTreeMap<String, u64> = BTreeMap::new();
    for reject in &rejects {
        let reason = &reject["meta"]["reason"];
        let rule = text(reason, "rule");
        *rules.entry(rule.to_owned()).or_default() += 1;
        let expected = match rule {
            "echo" => text(reject, "response") == echo && text(reason, "detail").contains("instruction"),
            "loop" => text(reject, "response") == looping,
            "sentence_end" if reject["instruction"] == open.trim() => {
                text(reason, "detail").starts_with("instruction ends with")
            }
            "sentence_end" => text(reject, "response") == half && text(reason, "detail").contains("a clause and"),
            "duplicate" => {
                records.iter().any(|record| record["instruction"] == reject["instruction"])
                    && text(reason, "detail").contains("row ")
            }
            "closed_by_budget" | "token_limit" => text(reason, "detail").contains("60"),
            _ => false,
        };
        assert!(expected, "{reject}");
    }
    assert_eq!(serde_json::to_value(&rules).expect("plain data"), summary["rejected"]);
    for rule in ["echo", "loop", "sentence_end", "duplicate"] {
        assert!(rules.contains_key(rule), "no {rule} in {rules:?}");
    }
    assert!(rules.contains_key("closed_by_budget") || rules.contains_key("token_limit"), "{rules:?}");
    let mut distinct = BTreeSet::new();
    for record in &records {
        assert!(ANSWERS.contains(&text(record, "response")), "{record}");
        assert_ne!(record["instruction"], open.trim());
        assert!(record["meta"].get("reason").is_none());
        assert!(distinct.insert(text(record, "instruction").to_lowercase()), "{record}");
    }
}

#[test]
fn fewer_rows_than_asked_for_is_an_exit_code_of_its_own() {
    let place = Place::new();
    let instructions = good_instructions().into_iter().take(3).collect();
    place.model("model.toml", 0, &[("Instruction:", instructions), ("assistant: ", answers())]);
    let told = place.run(&generate(&fixture("recipe.yaml"), &["-n", "6", "-o", "run"]));
    told.refused(5, &["only 3 of 6 rows", "run", "duplicate", "with more topics"]);
    assert_eq!(place.lines("run/records.jsonl").len(), 3);
    // Three rows, each given up after the recipe's thirty attempts.
    let last = place.lines("run/rejects.jsonl").iter().filter(|r| r["meta"]["attempt"] == 29).count();
    assert_eq!(last, 3);
}

#[test]
fn an_interrupt_keeps_what_is_there() {
    let place = Place::new();
    good_model(&place, "model.toml", 2_000);
    let mut running = place.spawn(&generate(&fixture("recipe.yaml"), &["-n", "90", "-o", "run", "--batch", "2"]));
    let records = place.at("run/records.jsonl");
    wait_until("three rows are there", || {
        std::fs::read_to_string(&records).is_ok_and(|text| text.lines().count() >= 3)
    });
    running.interrupt();
    let told = running.finish();
    let kept = place.lines("run/records.jsonl").len();
    assert!((3..90).contains(&kept), "{kept}");
    told.refused(130, &["interrupted", &format!("{kept} of 90 rows are in run")]);
    place.lines("run/rejects.jsonl");
    serde_json::from_str::<Value>(&place.read("run/run.lock.json")).expect("the plan is whole");
}

#[test]
fn a_second_interrupt_leaves_at_once() {
    let place = Place::new();
    good_model(&place, "model.toml", 60_000_000);
    let mut running = place.spawn(&generate(&fixture("recipe.yaml"), &["-n", "9", "-o", "run"]));
    wait_until("the run has begun", || place.at("run/run.lock.json").exists());
    let stderr = running.child().stderr.take().expect("piped");
    running.interrupt();
    let told = BufReader::new(stderr).lines().map_while(Result::ok).find(|line| line.contains("stopping"));
    assert!(told.is_some_and(|line| line.contains("again")));
    let start = Instant::now();
    running.interrupt();
    assert_eq!(running.finish().code, Some(130));
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_directory_with_a_run_is_left_alone() {
    let place = Place::new();
    good_model(&place, "model.toml", 0);
    let recipe = fixture("recipe.yaml");
    place.run(&generate(&recipe, &["-n", "3", "-o", "run"])).succeeded();
    let before = ["records.jsonl", "rejects.jsonl", "run.lock.json"].map(|name| place.read(&format!("run/{name}")));
    let told = place.run(&generate(&recipe, &["-n", "3", "-o", "run", "--seed", "9"]));
    told.refused(
        3,
        &["run: there is a run in this directory already", "; add --resume to go on with it, or choose another -o"],
    );
    let after = ["records.jsonl", "rejects.jsonl", "run.lock.json"].map(|name| place.read(&format!("run/{name}")));
    assert_eq!(before, after);
}

#[test]
fn two_processes_never_write_one_run() {
    let place = Place::new();
    good_model(&place, "slow.toml", 20_000);
    good_model(&place, "model.toml", 0);
    let recipe = fixture("recipe.yaml");
    let first = place.spawn(&["generate", "--model", "slow.toml", "--recipe", &recipe, "-n", "50", "-o", "run"]);
    wait_until("the first has begun", || place.at("run/rejects.jsonl").exists());
    let second = place.run(&generate(&recipe, &["-n", "3", "-o", "run"]));
    second.refused(3, &["run: another process is writing this run", "; wait for it, or choose another -o"]);
    drop(first);
    // Killed, it holds the lock no longer, and what it left is still a run.
    place.run(&generate(&recipe, &["-n", "3", "-o", "run"])).refused(3, &["there is a run"]);
    place.lines("run/records.jsonl");
}

#[test]
fn a_run_without_a_name_gets_the_next_free_one() {
    let place = Place::new();
    good_model(&place, "model.toml", 0);
    let recipe = fixture("recipe.yaml");
    for name in ["runs/program-001", "runs/program-002"] {
        place.run(&generate(&recipe, &["-n", "2"])).succeeded();
        assert_eq!(place.lines(&format!("{name}/records.jsonl")).len(), 2);
    }
}

#[test]
fn topics_are_spread_over_the_rows() {
    let place = Place::new();
    good_model(&place, "model.toml", 0);
    let flags = ["-n", "6", "-o", "run", "--topic", "glass", "--topic", " rain "];
    place.run(&generate(&fixture("recipe.yaml"), &flags)).succeeded();
    let records = place.lines("run/records.jsonl");
    for topic in ["glass", "rain"] {
        assert_eq!(records.iter().filter(|r| r["meta"]["attributes"]["topic"] == topic).count(), 3, "{topic}");
    }
}

#[test]
fn rows_of_ones_own_schema() {
    let place = Place::new();
    place.write("own.json", r#"{"type":"object","properties":{"name":{"type":"string","maxLength":20},"age":{"type":"integer","minimum":0,"maximum":150}},"required":["name","age"],"additionalProperties":false}"#);
    let replies = combine(&[&["{\"name\": \"Ada", "{\"name\": \"Bob"], &["\", \"age\": "], &["36}", "41}", "7}"]]);
    place.model("model.toml", 0, &[("assistant: ", replies)]);
    place.run(&["generate", "--model", "model.toml", "--schema", "own.json", "-n", "4", "-o", "run"]).succeeded();
    for row in place.lines("run/records.jsonl") {
        assert!(["Ada", "Bob"].contains(&text(&row, "name")) && row["age"].is_u64(), "{row}");
    }
    let told = place.run(&["check", "own.json", "run/records.jsonl"]).succeeded();
    assert!(told.stdout.contains("4 rows valid, 0 invalid"), "{}", told.stdout);
}
