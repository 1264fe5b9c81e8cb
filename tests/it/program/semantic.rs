//! The rule `semantic`, from the command line: with a random embedder for which texts of the same words are alike.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Place, combine, random_bert};

const WORDS: [&str; 24] = [
    "name", "draw", "weigh", "count", "three", "seven", "old", "green", "rivers", "cups", "birds", "stones", "of",
    "from", "spain", "rome", "peru", "mars", "today", "slowly", "again", "twice", "now", ".",
];

fn place() -> Place {
    let place = Place::new();
    random_bert::write(place.folder.path(), "tiny", &WORDS);
    place
}

fn rows(texts: &[&str]) -> String {
    texts.iter().zip(1..).map(|(text, n)| json!({"q": text, "n": n}).to_string() + "\n").collect()
}

/// The second says the same as the first in other order, which no rule on words in order sees.
const TEXTS: [&str; 4] = [
    "Name three old rivers of Spain today.",
    "Today of Spain rivers three name.",
    "Draw seven green birds from Peru slowly.",
    "",
];

#[test]
fn rows_of_one_meaning_are_turned_down_first_or_best() {
    let place = place();
    place.write("rows.jsonl", rows(&TEXTS));
    let filter = |more: &[&str]| {
        let base = [
            "filter",
            "rows.jsonl",
            "-o",
            "kept.jsonl",
            "--rejects",
            "out.jsonl",
            "--force",
            "--field",
            "q",
            "--embedder",
            "tiny.toml",
        ];
        place.run(&[&base[..], more].concat()).succeeded()
    };
    let kept = || place.lines("kept.jsonl").iter().map(|row| row["n"].as_u64().expect("a number")).collect::<Vec<_>>();
    filter(&["--exact", "--minhash", "--rouge-l", "--semantic"]);
    assert_eq!(kept(), [1, 3, 4]);
    let reject = &place.lines("out.jsonl")[0]["meta"]["reason"];
    assert_eq!(reject["rule"], "semantic_duplicate");
    let detail = reject["detail"].as_str().expect("a text");
    assert!(detail.starts_with("cosine 0.9") && detail.ends_with("to row 0"), "{detail}");
    filter(&["--semantic", "--best-by", "n"]);
    assert_eq!(kept(), [2, 3, 4]);
    filter(&["--semantic=0.99"]);
    assert_eq!(kept(), [1, 2, 3, 4]);
    place.write("seeds.jsonl", rows(&TEXTS[..1]));
    filter(&["--semantic", "--seeds", "seeds.jsonl"]);
    assert_eq!(kept(), [3, 4]);
}

#[test]
fn an_embedder_that_is_not_there_is_one_clear_error() {
    let place = place();
    place.write("rows.jsonl", rows(&TEXTS));
    let semantic = ["filter", "rows.jsonl", "-o", "kept.jsonl", "--semantic"];
    let mut command = place.command(&semantic);
    let told = super::Outcome::of(command.env("HF_HUB_OFFLINE", "1").output().expect("the program starts"));
    told.refused(4, &["cannot get model all-minilm-l6-v2", "unset HF_HUB_OFFLINE"]);
    assert!(!place.at("kept.jsonl").exists());
    let told = |name: &str| place.run(&[&semantic[..], &["--embedder", name]].concat());
    told("all-minilm").refused(3, &["unknown model", "did you mean all-minilm-l6-v2?"]);
    place.model("script.toml", 0, &[("", vec!["yes".into()])]);
    told("script.toml").refused(3, &["model script: writes texts and embeds none", "use all-minilm-l6-v2"]);
    place.run(&["generate", "--model", "tiny.toml"]).refused(3, &["is a sentence embedder and writes no text"]);
    place.write("run.yaml", "filters:\n  semantic: {fields: [instruction], treshold: 0.8}\n");
    place
        .run(&["validate", "-c", "run.yaml", "--model", "script.toml"])
        .refused(3, &["run.yaml: line 2", "treshold", "did you mean `threshold`?"]);
    place.write("run.yaml", "filters:\n  semantic: {fields: [instruction], model: all-minilm}\n");
    place
        .run(&["validate", "-c", "run.yaml", "--model", "script.toml"])
        .refused(3, &["all-minilm", "did you mean all-minilm-l6-v2?"]);
}

/// A recipe whose instructions often mean the same.
fn recipe(place: &Place) {
    let asks = combine(&[
        &[" Name", " Draw", " Weigh", " Count"],
        &[" three", " seven"],
        &[" rivers", " cups", " birds", " stones"],
        &[" of", " from"],
        &[" Spain", " Rome", " Peru", " Mars"],
        &[" slowly.", " again.", " twice.", " now."],
    ]);
    place.model(
        "script.toml",
        0,
        &[("Task:", asks), ("Answer:", vec![" It is done now and stays as it is here.".into()])],
    );
    place.write(
        "recipe.yaml",
        "name: asks\nschema: instruction-response\nmax_attempts: 200\nsteps:\n\
         - {field: instruction, prompt: 'Task:', stop: \"\\n\", output: {regex: ' [A-Z][A-Za-z ]{8,60}\\.'}}\n\
         - {field: response, prompt: 'Answer:', stop: \"\\n\", output: {regex: ' [A-Z][A-Za-z ]{8,60}\\.'}}\n\
         filters:\n  semantic: {fields: [instruction], model: tiny.toml, threshold: 0.85}\n",
    );
}

fn texts(place: &Place, run: &str) -> BTreeSet<String> {
    let rows = place.lines(&format!("{run}/records.jsonl"));
    rows.iter().map(|row| row["instruction"].as_str().expect("a text").to_owned()).collect()
}

#[test]
fn a_run_keeps_meanings_apart_whatever_the_way_to_it() {
    let place = place();
    recipe(&place);
    let run = |more: &[&str]| {
        let base = ["generate", "--model", "script.toml", "--recipe", "recipe.yaml", "--seed", "3"];
        place.run(&[&base[..], more].concat())
    };
    let whole = run(&["-n", "40", "-o", "whole", "--json"]).succeeded();
    let whole: Value = serde_json::from_str(&whole.stdout).expect("JSON");
    let turned_down = whole["rejected"]["semantic_duplicate"].as_u64().expect("a count");
    assert!(turned_down > 2, "the rule had something to do: {whole}");
    let records = place.read("whole/records.jsonl");
    let rejects = place.read("whole/rejects.jsonl");
    assert_eq!(texts(&place, "whole").len(), 40);
    // The rule over the finished rows finds nothing more.
    let filter =
        ["filter", "whole", "-o", "kept.jsonl", "--field", "instruction", "--semantic=0.85", "--embedder", "tiny.toml"];
    place.run(&filter).succeeded();
    assert_eq!(place.lines("kept.jsonl").len(), 40);

    run(&["-n", "40", "-o", "narrow", "--batch", "1", "--threads", "1"]).succeeded();
    assert_eq!(place.read("narrow/records.jsonl"), records);
    run(&["-n", "15", "-o", "grown"]).succeeded();
    run(&["-n", "40", "-o", "grown", "--resume"]).succeeded();
    assert_eq!(
        (place.read("grown/records.jsonl"), place.read("grown/rejects.jsonl")),
        (records.clone(), rejects.clone())
    );
    for part in ["1/3", "2/3", "3/3"] {
        run(&["-n", "40", "-o", &part[..1], "--shard", part]).succeeded();
    }
    place.run(&["merge", "1", "2", "3", "-o", "merged"]).succeeded();
    place.run(&["generate", "--resume", "-o", "merged"]).succeeded();
    assert_eq!((place.read("merged/records.jsonl"), place.read("merged/rejects.jsonl")), (records, rejects));

    // Another embedder is another plan.
    random_bert::write(place.folder.path(), "tiny", &WORDS[..20]);
    run(&["-n", "41", "-o", "grown", "--resume"]).refused(3, &["planned otherwise: embedder.sha256"]);
    place.run(&["merge", "1", "2", "-o", "again"]).refused(3, &["was planned with other files of tiny"]);
}
