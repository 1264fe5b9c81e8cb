//! Rows made from rows: evolve, answer, judge, label and fill.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::{Value, json};

use super::{Place, combine, fixture, wait_until};

const DERIVED: &[&str] = &["records.jsonl", "rejects.jsonl"];

/// A model that evolves, with some replies that the rules turn down.
fn evolving_model(place: &Place, pause_micros: u64) {
    let clauses = combine(&[
        &[" Say why", " Say how", " Tell when"],
        &[" it grows", " it is used", " people like it"],
        &[" in a garden", " near the sea", " on a hill"],
        &[".\n"],
    ]);
    let copied = [" Say where it grows best.\n".to_owned(), " Too short.\n".to_owned()];
    let others = combine(&[&[" Name a", " Draw a", " Find a"], &[" bird", " stone", " cloud", " river"], &[".\n"]]);
    let answers = ["It is so because of the rain.", "Sorry about that.", "Most people know it well."];
    place.model(
        "model.toml",
        pause_micros,
        &[
            ("Clause:", clauses.into_iter().chain(copied).collect()),
            ("Other:", others),
            ("Fit:", vec![" good".into()]),
            ("Gain:", vec![" yes".into()]),
            ("assistant: ", answers.map(str::to_owned).to_vec()),
        ],
    );
}

/// JSON Lines of rows.
fn lines(rows: impl IntoIterator<Item = Value>) -> String {
    rows.into_iter().fold(String::new(), |text, row| text + &row.to_string() + "\n")
}

fn seeds(place: &Place, count: usize) {
    let words = ["tree", "flower", "mushroom", "vine", "bush", "herb", "moss", "grass"];
    let row = |at: usize| json!({ "instruction": format!("Describe {} {at}.", words[at % 8]) });
    place.write("seeds.jsonl", lines((0..count).map(row)));
}

fn evolve<'a>(recipe: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    [&["evolve", "seeds.jsonl", "--model", "model.toml", "--recipe", recipe, "--seed", "5"], rest].concat()
}

fn same(place: &Place, one: &str, other: &str) {
    for file in DERIVED {
        assert_eq!(place.read(&format!("{one}/{file}")), place.read(&format!("{other}/{file}")), "{file} of {other}");
    }
}

#[test]
fn lineage_is_whole_and_what_failed_goes_back_into_the_pool() {
    let place = Place::new();
    evolving_model(&place, 0);
    seeds(&place, 12);
    let recipe = fixture("evolve.yaml");
    let told = place.run(&evolve(&recipe, &["-o", "run"])).succeeded();
    assert!(told.stderr.contains("12 rows (plain) from seeds.jsonl"), "{}", told.stderr);
    let rows = place.lines("run/records.jsonl");
    let rejects = place.lines("run/rejects.jsonl");
    assert!(rows.len() > 12 && rows.len() <= 24, "{}", rows.len());
    let rules: BTreeSet<&str> = rejects.iter().filter_map(|row| row["meta"]["reason"]["rule"].as_str()).collect();
    assert!(["added", "copied", "sorry"].iter().any(|rule| rules.contains(rule)), "{rules:?}");
    let by_id: BTreeMap<&str, &Value> = rows.iter().filter_map(|row| Some((row["id"].as_str()?, row))).collect();
    let mut second = 0;
    for row in rows.iter().chain(&rejects) {
        let lineage = &row["meta"]["lineage"];
        let seed = lineage["seed"].as_u64().expect("a seed");
        let parent = match lineage["parent"].as_str() {
            Some(id) => {
                second += 1;
                let parent = by_id[id];
                assert_eq!(parent["meta"]["lineage"]["seed"], seed);
                assert!(parent["meta"]["lineage"]["round"].as_u64() < lineage["round"].as_u64());
                parent["instruction"].as_str().expect("a text").to_owned()
            }
            None => format!(
                "Describe {} {seed}.",
                ["tree", "flower", "mushroom", "vine", "bush", "herb", "moss", "grass"][seed as usize % 8]
            ),
        };
        // The best row so far is the parent: none of the chain's rows stands between.
        let round = lineage["round"].as_u64().expect("a round");
        if round == 2 && lineage["parent"].is_null() {
            assert!(!rows.iter().any(|r| r["meta"]["lineage"]["seed"] == seed && r["meta"]["lineage"]["round"] == 1));
        }
        if row["meta"]["attributes"]["operator"] == "add" && row["instruction"].is_string() {
            assert!(row["instruction"].as_str().expect("a text").starts_with(&parent), "{row}");
        }
    }
    assert!(second > 5);
    for row in &rows {
        assert!(row["response"].as_str().is_some_and(|text| !text.contains("Sorry")), "{row}");
        assert_eq!(row["meta"]["scores"]["gain"]["choice"], "yes", "{row}");
    }
}

#[test]
fn batches_and_kills_change_nothing() {
    let place = Place::new();
    evolving_model(&place, 0);
    seeds(&place, 20);
    let recipe = fixture("evolve.yaml");
    place.run(&evolve(&recipe, &["-o", "whole"])).succeeded();
    place.run(&evolve(&recipe, &["-o", "narrow", "--batch", "1"])).succeeded();
    same(&place, "whole", "narrow");
    evolving_model(&place, 400);
    let mut attempts = 0;
    for round in 0.. {
        assert!(round < 100, "the run does not get on");
        let mut running = place.spawn(&evolve(&recipe, &["-o", "killed", "--resume"]));
        let ledger = place.at("killed/ledger.jsonl");
        let lines = || fs::read(&ledger).map_or(0, |bytes| bytes.split(|byte| *byte == b'\n').count() - 1);
        wait_until("an attempt is in the ledger", || {
            lines() > attempts + 3 || running.child().try_wait().expect("a child").is_some()
        });
        attempts = lines();
        if running.child().try_wait().expect("a child").is_some() {
            running.finish().succeeded();
            break;
        }
        running.child().kill().expect("it can be killed");
    }
    same(&place, "whole", "killed");
    // A finished run goes on without its data set being named, and refuses another one.
    place.run(&["evolve", "--resume", "-o", "whole"]).succeeded();
    seeds(&place, 19);
    place.run(&["evolve", "--resume", "-o", "whole"]).refused(3, &["seeds.jsonl", "has changed"]);
}

#[test]
fn a_number_of_rows_is_kept_to_and_can_grow() {
    let place = Place::new();
    evolving_model(&place, 0);
    seeds(&place, 10);
    let recipe = fixture("evolve.yaml");
    place.run(&evolve(&recipe, &["-o", "run", "-n", "7"])).succeeded();
    assert_eq!(place.lines("run/records.jsonl").len(), 7);
    place.run(&evolve(&recipe, &["-o", "run", "-n", "31", "--resume"])).succeeded();
    place.run(&evolve(&recipe, &["-o", "whole", "-n", "31"])).succeeded();
    assert_eq!(place.lines("run/records.jsonl").len(), 31);
    same(&place, "whole", "run");
    let told = place.run(&evolve(&recipe, &["-o", "other", "--operators", "widn=1"]));
    told.refused(2, &["there is no operator `widn`", "did you mean `widen`?"]);
    place.run(&evolve(&recipe, &["-o", "other", "--operators", "widen", "--rounds", "1"])).succeeded();
    assert!(place.lines("other/records.jsonl").iter().all(|row| row["meta"]["attributes"]["operator"] == "widen"));
}

#[test]
fn a_run_is_not_gone_on_with_under_flags_that_change_it() {
    let place = Place::new();
    evolving_model(&place, 0);
    seeds(&place, 4);
    place.run(&evolve(&fixture("evolve.yaml"), &["-o", "run", "-n", "2"])).succeeded();
    let resumed = ["evolve", "--resume", "-o", "run", "--model", "model.toml"];
    for flag in [["--rounds", "3"], ["--operators", "breadth=1"], ["--seed", "6"], ["--top-k", "4"]] {
        place.run(&[&resumed[..4], &flag].concat()).refused(2, &["gone on with as it was planned", "--max-tokens"]);
    }
    // Rows of later rounds were made from those of earlier ones, which more room could change.
    let told = place.run(&[&resumed[..4], &["--max-tokens", "3000"]].concat());
    told.refused(2, &["several rounds", "begin another run"]);
    place.run(&["evolve", "--retry", "-o", "run"]).refused(2, &["several rounds"]);
    place.run(&[&resumed[..4], &["--batch", "2", "-n", "3"]].concat()).succeeded();
}

#[test]
fn malformed_seeds_are_told_in_one_line() {
    let place = Place::new();
    evolving_model(&place, 0);
    let recipe = fixture("evolve.yaml");
    let row = "{\"instruction\": \"Describe a tree.\", \"id\": 1}\n";
    let run = |content: &[u8], rest: &[&str]| {
        place.write("seeds.jsonl", content);
        let _ = fs::remove_dir_all(place.at("run"));
        place.run(&evolve(&recipe, &[&["-o", "run", "--rounds", "1"], rest].concat()))
    };
    run(b"", &[]).refused(3, &["seeds.jsonl", "is empty"]);
    run(b"{\"a\": 1}\n{\"b\": 2}\n", &[]).refused(3, &["no row has an instruction", "--prompt-field"]);
    let noted = |content: Vec<u8>, part: &str| {
        let told = run(&content, &[]).succeeded();
        assert!(told.stderr.lines().any(|line| line.contains(part)), "{part}: {}", told.stderr);
        run(&content, &["--strict"])
    };
    let with = |other: &[u8]| [row.as_bytes(), other].concat();
    noted(with(b"{\"instruction\": \"\xff\"}\n"), "line 2 was left out: not UTF-8").refused(3, &["line 2"]);
    noted(with(b"{\"x\": 1}\n"), "line 2 was left out: has no instruction").refused(3, &["line 2: has no instruction"]);
    noted(with(b"{\"prompt\": \"Q\", \"completion\": \"A\"}\n"), "several forms").succeeded();
    noted(with(row.as_bytes()), "line 2 has the id of line 1").succeeded();
    let long = format!("{{\"instruction\": \"{}\"}}\n", "word ".repeat(2_200_000));
    run(&with(long.as_bytes()), &[]).succeeded();
    run(&[b"\xef\xbb\xbf", row.as_bytes()].concat(), &["--strict"]).succeeded();
    assert_eq!(place.lines("run/records.jsonl").len(), 1);
}

#[test]
fn tables_are_read_as_seeds_and_bad_rows_are_told() {
    let place = Place::new();
    evolving_model(&place, 0);
    let recipe = fixture("evolve.yaml");
    let run = |file: &str, rest: &[&str]| {
        let _ = fs::remove_dir_all(place.at("run"));
        let evolve = ["evolve", file, "--model", "model.toml", "--recipe", &recipe, "-o", "run", "--rounds", "1"];
        place.run(&[&evolve[..], rest].concat())
    };
    let csv = |content: &[u8], rest: &[&str]| {
        place.write("seeds.csv", content);
        run("seeds.csv", rest)
    };
    let head = "\u{feff}id,instruction,input\r\n1,Describe a tree.,\r\n";
    csv(head.as_bytes(), &["--strict"]).succeeded();
    assert_eq!(place.lines("run/records.jsonl")[0]["meta"]["lineage"]["seed_id"], "1");
    for (bad, told) in [
        (&b"2,Describe a rock.\r\n"[..], "line 3 was left out: 2 cells, but the header has 3"),
        (b"2,\xff,\r\n", "line 3 was left out: `instruction` is not UTF-8 text"),
        (b"1,Describe a rock.,\r\n", "line 3 has the id of line 2"),
        (b"2,,\r\n", "line 3 was left out: "),
    ] {
        let outcome = csv(&[head.as_bytes(), bad].concat(), &[]).succeeded();
        assert!(outcome.stderr.lines().any(|line| line.contains(told)), "{told}: {}", outcome.stderr);
    }
    csv(&[head.as_bytes(), b"2,Describe a rock.\r\n"].concat(), &["--strict"]).refused(3, &["seeds.csv", "line 3"]);
    csv(b"", &[]).refused(3, &["seeds.csv", "is empty"]);
    csv(b"id,instruction,input\r\n", &[]).refused(3, &["seeds.csv", "there is no row"]);
    csv(b"id,name\r\n1,x\r\n", &[]).refused(3, &["seeds.csv", "no row has an instruction", "--prompt-field"]);
    assert!(!place.at("run").exists());

    place.write("rows.jsonl", lines([json!({"id": "a", "instruction": "Describe a tree.", "response": "It is."})]));
    place.run(&["export", "rows.jsonl", "--format", "parquet", "-o", "table"]).succeeded();
    run("table/train.parquet", &["--strict"]).succeeded();
    assert_eq!(place.lines("run/records.jsonl").len(), 1);
    let whole = fs::read(place.at("table/train.parquet")).expect("a table");
    for (cut, told) in [(0, "is empty"), (5, "not a Parquet file"), (whole.len() / 2, "not a Parquet file")] {
        place.write("cut.parquet", &whole[..cut]);
        run("cut.parquet", &[]).refused(3, &["cut.parquet", told]);
    }
}

#[test]
fn operators_are_dealt_to_the_rows_that_they_apply_to() {
    let place = Place::new();
    evolving_model(&place, 0);
    place.write(
        "data.yaml",
        "name: data\nschema: instruction-input-response\nmax_attempts: 2\nseeds: {rounds: 2}\n\
         attributes:\n  - name: operator\n    values: [add, widen, data]\n    needs: {data: not parent.input}\n\
         steps:\n  - {field: instruction, output: {template: '{{ parent.instruction }} {{ operator }}'}}\n\
         \x20 - {field: input, when: {operator: data}, output: {template: '1, 2'}}\n\
         \x20 - {field: input, when: {operator: [add, widen]}, output: {template: '{{ parent.input }}'}}\n\
         \x20 - {field: response, output: {template: Yes.}}\n",
    );
    let row = |at: usize| json!({"instruction": format!("Task {at}"), "input": if at.is_multiple_of(2) { "3, 4" } else { "" }});
    place.write("seeds.jsonl", lines((0..60).map(row)));
    place.run(&evolve("data.yaml", &["-o", "run"])).succeeded();
    place.run(&evolve("data.yaml", &["-o", "narrow", "--batch", "1"])).succeeded();
    same(&place, "run", "narrow");
    let rows = place.lines("run/records.jsonl");
    let by_id: BTreeMap<&str, &Value> = rows.iter().filter_map(|row| Some((row["id"].as_str()?, row))).collect();
    let mut counts: BTreeMap<(u64, bool, &str), u32> = BTreeMap::new();
    for row in &rows {
        let lineage = &row["meta"]["lineage"];
        let has_data = match lineage["parent"].as_str() {
            Some(parent) => by_id[parent]["input"] != "",
            None => lineage["seed"].as_u64().expect("a seed") % 2 == 0,
        };
        let operator = row["meta"]["attributes"]["operator"].as_str().expect("an operator");
        *counts.entry((lineage["round"].as_u64().expect("a round"), has_data, operator)).or_default() += 1;
    }
    // Thirty rows of the first round have data, thirty have none; ten of these get some, so the second has forty.
    for (round, operators, each) in
        [(1, ["add", "widen"].as_slice(), 15), (1, &["add", "widen", "data"], 10), (2, &["add", "widen"], 20)]
    {
        let has_data = operators.len() == 2;
        for operator in operators {
            assert_eq!(counts.get(&(round, has_data, operator)), Some(&each), "{round} {operator}: {counts:?}");
        }
    }
    assert!(!counts.keys().any(|(_, has_data, operator)| *has_data && *operator == "data"), "{counts:?}");
    // A row that no operator applies to is not tried.
    let told = place.run(&evolve("data.yaml", &["-o", "some", "--operators", "data", "--rounds", "1"])).succeeded();
    assert!(told.stderr.contains("30 rows were not tried"), "{}", told.stderr);
    place.write("seeds.jsonl", lines([row(0), row(2)]));
    let told = place.run(&evolve("data.yaml", &["-o", "none", "--operators", "data"]));
    told.refused(5, &["0 of 4 rows", "nothing that was planned applies", "--operators"]);
    let recipe = place.read("data.yaml").replace("not parent.input", "not parnt.input");
    place.write("data.yaml", recipe);
    let told = place.run(&evolve("data.yaml", &["-o", "other"]));
    told.refused(3, &["data.yaml: line 8", "`parnt` is not defined", "did you mean `parent`?"]);
}

#[test]
fn a_step_draws_and_ranks_as_it_says() {
    let place = Place::new();
    evolving_model(&place, 0);
    let recipe = "name: rank\nschema: any\nseeds: {rounds: 1}\nsteps:\n\
        - {field: word, prompt: 'Other:', best_of: {count: 8, by: worth}, sampling: {temperature: 1.5},\n\
        \x20  output: {regex: '(?: [A-Za-z]+){2,12}\\.'}, stop: \"\\n\"}\n\
        - {field: length, prompt: 'Other:', output: {likelihood: {text: ' {{ word }}', without: 'Fit:'}}}\n\
        - {field: worth, output: {number: '{{ word | length }}'}}\n";
    place.write("rank.yaml", recipe);
    seeds(&place, 6);
    place.run(&evolve("rank.yaml", &["-o", "run"])).succeeded();
    for row in place.lines("run/records.jsonl") {
        let length = row["word"].as_str().expect("a text").len();
        assert_eq!(row["meta"]["scores"]["worth"]["expected"].as_f64(), Some(length as f64), "{row}");
        // The longest of twelve texts has 13 letters, and most have fewer: the best of eight is among the longest.
        assert!(length >= 12, "{row}");
    }
    let lock: Value = serde_json::from_str(&place.read("run/run.lock.json")).expect("JSON");
    assert_eq!(lock["recipe"]["steps"][0]["sampling"], json!({"temperature": 1.5}));
    // Flags win over a step's own draws.
    place.run(&evolve("rank.yaml", &["-o", "cold", "--temperature", "0.25"])).succeeded();
    let lock: Value = serde_json::from_str(&place.read("cold/run.lock.json")).expect("JSON");
    assert_eq!(lock["recipe"]["steps"][0]["sampling"], json!({"temperature": 0.25}));
    place.write("rank.yaml", recipe.replace("{{ word | length }}", "{{ word }}"));
    place.run(&evolve("rank.yaml", &["-o", "words"])).refused(5, &["by impossible", "step worth", "is no number"]);
    place.write("rank.yaml", recipe.replace("temperature: 1.5", "temperature: -1"));
    place.run(&evolve("rank.yaml", &["-o", "negative"])).refused(3, &["rank.yaml", "/steps/0/sampling/temperature"]);
}

#[test]
fn recipes_from_rows_are_checked_without_rows_and_made_with_some() {
    let place = Place::new();
    evolving_model(&place, 0);
    for recipe in ["evolve", "vary", "answer", "judge", "preference"] {
        let told = place.run(&["validate", "--recipe", recipe, "--model", "model.toml"]).succeeded();
        assert!(told.stdout.contains("prompt tokens for rows of usual length"), "{recipe}: {}", told.stdout);
        for command in [&["generate", "-o", "run"][..], &["preview"]] {
            let told = place.run(&[command, &["--recipe", recipe, "--model", "model.toml"]].concat());
            let remedy = if command == ["preview"] { "preview --recipe" } else { " DATA --recipe" };
            told.refused(2, &[&format!("the recipe {recipe} makes its rows from those of a data set"), remedy]);
        }
    }
}

/// A model that tells tones by the text before.
fn labelling_model(place: &Place) {
    let reply = |text: &str| vec![format!(" {text}")];
    place.model(
        "model.toml",
        0,
        &[
            ("Text: Hey you\nTone:", reply("casual")),
            ("Text: Dear Sir\nTone:", reply("formal")),
            ("N/A\nTone:", vec![" casual".into(), " formal".into()]),
        ],
    );
}

#[test]
fn labels_are_read_compared_and_filled_up() {
    let place = Place::new();
    labelling_model(&place);
    let rows = (0..40).map(|at| {
        let (text, known) = if at < 34 { ("Hey you", "casual") } else { ("Dear Sir", "formal") };
        // One is known to be what it is not.
        let known = if at == 0 { "formal" } else { known };
        json!({"instruction": text, "tone": known, "id": at, "note": "kept"})
    });
    place.write("rows.jsonl", lines(rows));
    let arguments =
        ["label", "rows.jsonl", "--model", "model.toml", "--attribute", "tone=casual,formal", "-o", "labels"];
    let told = place.run(&arguments).succeeded();
    assert!(told.stderr.contains("tone: casual 34, formal 6"), "{}", told.stderr);
    assert!(told.stderr.contains("accuracy 0.97"), "{}", told.stderr);
    let rows = place.lines("labels/records.jsonl");
    assert_eq!(
        (rows.len(), rows[5]["note"].as_str(), rows[5]["meta"]["lineage"]["seed_id"].as_u64()),
        (40, Some("kept"), Some(5))
    );
    assert_eq!(rows[39]["meta"]["scores"]["tone"]["choice"], "formal");
    let found: Value = serde_json::from_str(&place.read("labels/labels.json")).expect("JSON");
    assert_eq!(found[0]["confusion"]["counts"], json!([[33, 0], [1, 6]]));

    // 34 casual rows and 6 formal ones want 28 formal ones, and one less is close enough.
    let instructions = combine(&[
        &[" Explain how"],
        &[" bakers", " farmers", " sailors", " nurses"],
        &[" plan", " share", " carry"],
        &[" busy mornings", " long winters", " old maps"],
        &[" every single day.\n"],
    ]);
    let answers = vec!["The work starts early and needs patience. Good notes help to see what changed.".to_owned()];
    place.model("writer.toml", 0, &[("Instruction:", instructions), ("assistant: ", answers)]);
    place.write(
        "run.yaml",
        format!("recipe: {}\nattributes:\n  - {{name: topic, values: [bees]}}\n  - {{name: tone, values: [casual, formal], only_planned: true}}\n", fixture("recipe.yaml")),
    );
    place.write(
        "labelled.jsonl",
        lines(rows.iter().map(|row| {
            let mut row = row.clone();
            row["topic"] = "bees".into();
            row
        })),
    );
    let told =
        place.run(&["generate", "-c", "run.yaml", "--fill", "labelled.jsonl", "--model", "writer.toml", "-o", "more"]);
    let told = told.succeeded();
    assert!(told.stderr.contains("40 rows, total variation 0.350 from the target"), "{}", told.stderr);
    let more = place.lines("more/records.jsonl");
    assert!(more.iter().all(|row| row["meta"]["attributes"]["tone"] == "formal"));
    let formal = 6 + more.len();
    let apart = (34.0 / (34 + formal) as f64 - 0.5).abs();
    assert!(apart <= 0.02 && more.len() <= 28, "{formal}");
}

#[test]
fn rows_are_judged_as_they_are_and_answers_compete() {
    let place = Place::new();
    place.write("rows.jsonl", "{\"instruction\": \"Name a tree.\", \"response\": \"An oak.\", \"extra\": [1]}\n{\"instruction\": \"Say no.\"}\n");
    place.model(
        "model.toml",
        0,
        &[
            ("Rating of the answer:", vec![" 4".into()]),
            ("Complexity:", vec![" 2".into()]),
            (
                "assistant: ",
                vec!["An oak is a tree that grows old.".into(), "A birch is a tree with a white bark.".into()],
            ),
            // To another message it says something else, so that its answers have to do with their questions.
            ("Say something.\nassistant: ", vec!["Nothing.".into()]),
        ],
    );
    let told = place.run(&["judge", "rows.jsonl", "--model", "model.toml", "-o", "judged"]).succeeded();
    assert!(
        told.stderr.contains("complexity            2     2.") && told.stderr.contains("least sure: 0-00000"),
        "{told:?}"
    );
    let rows = place.lines("judged/records.jsonl");
    assert_eq!((rows.len(), &rows[0]["extra"]), (2, &json!([1])));
    for name in ["quality", "complexity", "relevance", "ifd"] {
        assert!(rows[0]["meta"]["scores"][name]["expected"].is_number(), "{name}: {}", rows[0]);
    }
    assert_eq!(rows[0]["meta"]["scores"]["complexity"]["choice"], "2");
    let answer = ["answer", "rows.jsonl", "--model", "model.toml", "--judge-model", "model.toml", "--best-of", "3"];
    place.run(&[&answer[..], &["-o", "one"]].concat()).succeeded();
    place.run(&[&answer[..], &["-o", "two", "--batch", "1"]].concat()).succeeded();
    same(&place, "one", "two");
    let rows = place.lines("one/records.jsonl");
    assert!(rows.iter().all(|row| row["response"].as_str().is_some_and(|text| text.ends_with('.'))));
    let lock: Value = serde_json::from_str(&place.read("one/run.lock.json")).expect("JSON");
    assert_eq!(
        (&lock["judge"]["name"], &lock["recipe"]["steps"][2]["best_of"]["count"]),
        (&json!("script"), &json!(3))
    );
}
