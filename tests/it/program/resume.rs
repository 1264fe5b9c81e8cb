//! Runs that are stopped, torn, grown and put together from parts: the records are always the same bytes.

use std::fs;
use std::io::{BufRead, BufReader};

use super::{Place, combine, fixture, wait_until};

const SUBJECTS: &[&str] = &[" bakers", " farmers", " students", " sailors", " teachers", " drivers", " nurses"];
const VERBS: &[&str] = &[" plan", " share", " measure", " improve", " carry", " repair"];
const OBJECTS: &[&str] = &[" busy mornings", " long winters", " simple tools", " new skills", " old maps"];
const ANSWERS: &[&str] = &[
    "The work starts early and needs patience. Good notes help to see what changed.",
    "A short list is enough for most people. Write it down and look at it often.",
    "This one stops in the middle of a clause and",
];
/// What follows from the plan alone.
const DERIVED: &[&str] = &["records.jsonl", "rejects.jsonl"];

/// A model whose rows collide with each other and are turned down for reasons of their own too.
fn model(place: &Place, pause_micros: u64) {
    let instructions = combine(&[&[" Explain how"], SUBJECTS, VERBS, OBJECTS, &[" every single day.\n"]]);
    let answers = ANSWERS.iter().map(|&answer| answer.to_owned()).collect();
    place.model("model.toml", pause_micros, &[("Instruction:", instructions), ("assistant: ", answers)]);
}

fn arguments<'a>(recipe: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    [&["generate", "--model", "model.toml", "--recipe", recipe, "--seed", "3"], rest].concat()
}

fn same(place: &Place, one: &str, other: &str) {
    for file in DERIVED {
        assert_eq!(place.read(&format!("{one}/{file}")), place.read(&format!("{other}/{file}")), "{file} of {other}");
    }
}

#[test]
fn a_killed_run_goes_on_and_ends_the_same() {
    let place = Place::new();
    let recipe = fixture("recipe.yaml");
    model(&place, 0);
    place.run(&arguments(&recipe, &["-n", "60", "-o", "whole"])).succeeded();
    assert!(place.lines("whole/rejects.jsonl").len() > 10);
    // The pause is no part of the plan.
    model(&place, 400);
    let (mut attempts, mut kills) = (0, 0);
    for round in 0.. {
        assert!(round < 200, "the run does not get on");
        let mut running = place.spawn(&arguments(&recipe, &["-n", "60", "-o", "killed", "--resume"]));
        let ledger = place.at("killed/ledger.jsonl");
        let lines = || fs::read(&ledger).map_or(0, |bytes| bytes.split(|byte| *byte == b'\n').count() - 1);
        wait_until("an attempt is in the ledger", || {
            lines() > attempts + 4 || running.child().try_wait().expect("a child").is_some()
        });
        attempts = lines();
        if running.child().try_wait().expect("a child").is_some() {
            running.finish().succeeded();
            break;
        }
        running.child().kill().expect("it can be killed");
        // The end of a killed process is no exit code; one that ended just before is not counted.
        kills += u32::from(running.child().wait().expect("a child").code().is_none());
    }
    assert!(kills >= 3, "the run ended after {kills} kills");
    same(&place, "whole", "killed");
}

#[test]
fn an_interrupted_run_goes_on_with_its_own_settings() {
    let place = Place::new();
    let recipe = fixture("recipe.yaml");
    model(&place, 3000);
    let mut running = place.spawn(&arguments(&recipe, &["-n", "40", "-o", "run"]));
    wait_until("a row is written", || fs::metadata(place.at("run/records.jsonl")).is_ok_and(|file| file.len() > 0));
    running.interrupt();
    let told = running.finish();
    told.refused(130, &["of 40 rows are in run", "--resume -o run"]);
    model(&place, 0);
    // No other flag is needed to go on.
    let told = place.run(&["generate", "--resume", "-o", "run"]).succeeded();
    assert!(told.stderr.contains("going on after"), "{}", told.stderr);
    place.run(&arguments(&recipe, &["-n", "40", "-o", "whole"])).succeeded();
    same(&place, "whole", "run");
    // A finished run is finished.
    let told = place.run(&["generate", "--resume", "-o", "run", "--json"]).succeeded();
    assert!(told.stdout.contains("\"decoded\":0"), "{}", told.stdout);
    same(&place, "whole", "run");
}

#[test]
fn a_ledger_torn_or_damaged_anywhere_costs_attempts_and_nothing_else() {
    let place = Place::new();
    let recipe = fixture("recipe.yaml");
    model(&place, 0);
    place.run(&arguments(&recipe, &["-n", "12", "-o", "whole"])).succeeded();
    let ledger = fs::read(place.at("whole/ledger.jsonl")).expect("a ledger");
    let plan = fs::read(place.at("whole/run.lock.json")).expect("a plan");
    let resume = |bytes: &[u8], records: &[u8], what: &str| {
        let _ = fs::remove_dir_all(place.at("torn"));
        fs::create_dir(place.at("torn")).expect("a directory");
        place.write("torn/run.lock.json", &plan);
        place.write("torn/ledger.jsonl", bytes);
        place.write("torn/records.jsonl", records);
        place.run(&["generate", "--resume", "-o", "torn", "--quiet"]).succeeded();
        for file in DERIVED {
            assert_eq!(place.read(&format!("whole/{file}")), place.read(&format!("torn/{file}")), "{file}: {what}");
        }
    };
    let ends: Vec<usize> = (1..=ledger.len()).filter(|&end| ledger[end - 1] == b'\n').collect();
    assert!(ends.len() > 12);
    for pair in ends.windows(2) {
        let torn = usize::midpoint(pair[0], pair[1]);
        resume(&ledger[..torn], b"", &format!("torn at {torn}"));
    }
    // Torn while it was begun, empty, damaged within, and records that were changed by hand.
    resume(&ledger[..ends[0] / 2], b"", "torn in its first line");
    resume(b"", b"{\"id\": \"something else\"}\nhalf a li", "empty");
    let mut damaged = ledger.clone();
    damaged[usize::midpoint(ends[3], ends[4])] ^= 1;
    resume(&damaged, b"", "a changed line");
    let mut records = fs::read(place.at("whole/records.jsonl")).expect("records");
    records.truncate(records.len() / 2);
    resume(&ledger, &records, "half of the records");
}

#[test]
fn a_run_grows_as_if_it_had_been_asked_for_from_the_start() {
    let place = Place::new();
    let recipe = fixture("recipe.yaml");
    model(&place, 0);
    place.run(&arguments(&recipe, &["-n", "90", "-o", "whole", "--batch", "1"])).succeeded();
    place.run(&arguments(&recipe, &["-n", "10", "-o", "grown", "--batch", "8"])).succeeded();
    place.run(&arguments(&recipe, &["-n", "45", "-o", "grown", "--resume", "--batch", "32"])).succeeded();
    place.run(&["generate", "-n", "90", "-o", "grown", "--resume"]).succeeded();
    same(&place, "whole", "grown");
    let told = place.run(&["generate", "-n", "20", "-o", "grown", "--resume"]);
    told.refused(3, &["the run has 90 rows, and 20 were asked for", "use -n 90 or more"]);
}

#[test]
fn shards_merged_and_resumed_are_the_whole_run() {
    let place = Place::new();
    let recipe = fixture("recipe.yaml");
    model(&place, 0);
    place.run(&arguments(&recipe, &["-n", "80", "-o", "whole"])).succeeded();
    let parts = ["1/4", "2/4", "3/4", "4/4"];
    for part in parts {
        let folder = part.replace('/', "of");
        place.run(&arguments(&recipe, &["-n", "80", "--shard", part, "-o", &folder])).succeeded();
        assert_eq!(place.lines(&format!("{folder}/records.jsonl")).len(), 20);
    }
    let told = place.run(&["merge", "1of4", "2of4", "3of4", "4of4", "-o", "merged"]).succeeded();
    assert!(told.stderr.contains("of 80 rows are in merged"), "{}", told.stderr);
    let whole = place.read("whole/records.jsonl");
    assert!(whole.starts_with(&place.read("merged/records.jsonl")), "what is decided is decided as in one run");
    let told = place.run(&["generate", "--resume", "-o", "merged", "--json"]).succeeded();
    let summary: serde_json::Value = serde_json::from_str(&told.stdout).expect("JSON");
    let decoded = summary["decoded"].as_u64().expect("a count");
    assert!(decoded < 40, "{decoded} attempts were made again");
    same(&place, "whole", "merged");
    for (wrong, parts) in [
        (&["merge", "1of4", "-o", "merged"][..], &["there is a run in this directory already"][..]),
        (&["merge", "nowhere", "-o", "x"], &["nowhere"]),
    ] {
        place.run(wrong).refused(3, parts);
    }
    place.run(&["generate", "--model", "model.toml", "--recipe", &recipe, "--seed", "4", "-n", "4", "-o", "other"]);
    place.run(&["merge", "1of4", "other", "-o", "x"]).refused(3, &["planned otherwise", "seed is 3, not 4"]);
    assert!(!place.at("x").exists());
}

#[test]
fn decisions_on_shards_survive_their_merge() {
    let place = Place::new();
    let recipe = fixture("recipe.yaml");
    model(&place, 0);
    for part in ["1/2", "2/2"] {
        let folder = part.replace('/', "of");
        place.run(&arguments(&recipe, &["-n", "12", "--shard", part, "-o", &folder])).succeeded();
        place.run(&["review", &folder]).succeeded();
    }
    let decide = |folder: &str, row: &str, decision: &str| {
        let mut queue = place.lines(&format!("{folder}/review.jsonl"));
        let line = queue.iter_mut().find(|line| line["id"] == row).expect("the row is queued");
        line["decision"] = decision.into();
        let text = queue.iter().fold(String::new(), |text, line| text + &line.to_string() + "\n");
        place.write("filled.jsonl", text);
        place.run(&["review", folder, "--apply", "filled.jsonl"]).succeeded();
    };
    decide("1of2", "3-000002", "reject");
    decide("2of2", "3-000001", "accept");
    let told = place.run(&["merge", "1of2", "2of2", "-o", "merged"]).succeeded();
    assert!(told.stderr.contains("people's decisions on 2 rows came along"), "{}", told.stderr);
    place.run(&["generate", "--resume", "-o", "merged"]).succeeded();
    let told = place.run(&["report", "merged"]).succeeded().stdout;
    assert!(told.contains("2 of 12 rows reviewed (17 %): 1 accepted, 0 edited, 1 rejected"), "{told}");
    place.run(&["export", "merged", "--format", "jsonl", "-o", "data"]).succeeded();
    assert_eq!(place.lines("data/train.jsonl").len(), 11);
    // The same row, decided on in two copies of a part: alike is taken, otherwise is refused before anything is
    // written.
    for file in ["run.lock.json", "ledger.jsonl", "records.jsonl", "rejects.jsonl", "decisions.jsonl"] {
        fs::create_dir_all(place.at("copy")).expect("a directory");
        place.write(&format!("copy/{file}"), place.read(&format!("1of2/{file}")));
    }
    place.run(&["merge", "1of2", "copy", "-o", "alike"]).succeeded();
    place.write("copy/decisions.jsonl", place.read("1of2/decisions.jsonl").replace("reject", "accept"));
    let told = place.run(&["merge", "1of2", "copy", "-o", "other"]);
    told.refused(3, &["copy", "decisions.jsonl", "row 3-000002 was decided on differently in 1of2"]);
    assert!(!place.at("other").exists());
}

#[test]
fn another_plan_is_refused_with_the_difference() {
    let place = Place::new();
    let recipe = fixture("recipe.yaml");
    model(&place, 0);
    place.run(&arguments(&recipe, &["-n", "5", "-o", "run"])).succeeded();
    let before = place.read("run/ledger.jsonl");
    let told = place.run(&arguments(&recipe, &["-n", "5", "-o", "run", "--resume", "--temperature", "0.5"]));
    told.refused(3, &["planned otherwise", "sampling.temperature is 1.0, not 0.5", "choose another -o"]);
    let other = place.run(&arguments(&recipe, &["-n", "5", "-o", "run", "--resume", "--shard", "1/2"]));
    other.refused(3, &["shard is none, not 1/2"]);
    assert_eq!(before, place.read("run/ledger.jsonl"));
}

#[test]
fn resume_begins_a_run_where_there_is_none() {
    let place = Place::new();
    let recipe = fixture("recipe.yaml");
    model(&place, 0);
    place.run(&arguments(&recipe, &["-n", "6", "-o", "a"])).succeeded();
    place.run(&arguments(&recipe, &["-n", "6", "-o", "b", "--resume"])).succeeded();
    same(&place, "a", "b");
    let ledger = fs::File::open(place.at("a/ledger.jsonl")).expect("a ledger");
    // Its first lines are the plan's hash and the plan.
    let attempts = BufReader::new(ledger).lines().count() - 2;
    let written = place.lines("a/records.jsonl").len() + place.lines("a/rejects.jsonl").len();
    assert_eq!(attempts, written, "every attempt is a record or a reject");
}
