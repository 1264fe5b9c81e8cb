//! A reader that is gone, as in `instil … | head -0`, ends every command that prints quietly and well; and Ctrl-C ends
//! one that does not look whether it is to stop.

use std::fmt::Write as _;

use serde_json::json;

use super::{Outcome, Place, combine, fixture, weights};

/// Commands that print as they are and with `--json`; FILE is another place for each.
const BOTH: &[&str] = &[
    "models list",
    "models show random.gguf",
    "models path random.gguf",
    "models pull random.gguf",
    "validate --model model.toml --recipe RECIPE -n 4",
    "preview --model model.toml --recipe RECIPE -n 2",
    "decode --model model.toml --regex [a-z]{3} -n 3",
    "check schema.json rows.jsonl --model model.toml",
    "report run",
    "tree evolved",
    "bench --models random.gguf --batches 1,2 --runs 1",
    "bench decode --model random.gguf --batches 1,2 --prompt 4 --tokens 2 --runs 1 --profile",
    "bench machine --threads 1 --runs 1",
    "bench rows bench.json --model model.toml --rows 2 --runs 1 --max-tokens 20",
    "bench masks bench.jsonl --tokenizer tokenizer.json",
    "bench pipeline --rows 20",
];
/// Commands that print what has no form in JSON.
const TEXT: &[&str] = &["init", "init --recipe judge", "completions bash"];
/// Commands whose data is for programs only.
const JSON: &[&str] = &[
    "generate --model model.toml --recipe RECIPE -n 2 -o FILE",
    "evolve seeds.jsonl --model model.toml --recipe EVOLVE -o FILE",
    "answer rows.jsonl --model model.toml --recipe ANSWER -o FILE",
    "judge rows.jsonl --model model.toml -o FILE",
    "label rows.jsonl --model model.toml --attribute tone=casual,formal -o FILE",
    "merge run -o FILE",
    "filter rows.jsonl --exact -o FILE",
    "review run",
    "export run --format messages -o FILE",
    "init --schema",
];

fn place() -> Place {
    let place = Place::new();
    let whom = &[" bakers", " farmers", " students", " sailors", " teachers", " drivers"];
    let instructions =
        combine(&[&[" Explain how"], whom, &[" plan", " share"], &[" busy mornings every single day.\n"]]);
    let clauses = combine(&[&[" Say why", " Say how"], &[" it grows", " it is used"], &[" in a garden.\n"]]);
    let answer = "The work starts early and needs patience. Good notes help to see what changed.";
    let reply = |text: &str| vec![text.to_owned()];
    place.model(
        "model.toml",
        0,
        &[
            ("Instruction:", instructions),
            ("Clause:", clauses),
            ("Other:", reply(" Name a bird.\n")),
            ("Fit:", reply(" good")),
            ("Gain:", reply(" yes")),
            ("Rating of the answer:", reply(" 4")),
            ("Complexity:", reply(" 2")),
            ("Tone:", vec![" casual".into(), " formal".into()]),
            ("assistant: ", reply(answer)),
        ],
    );
    place.write("random.gguf", weights::random_model());
    place.write("tokenizer.json", tokenizer());
    place.write("schema.json", "{\"type\": \"object\", \"required\": [\"instruction\"]}");
    let row = json!({"instruction": "Name a tree.", "response": "An oak is a tree."});
    place.write("rows.jsonl", format!("{row}\n"));
    place.write("seeds.jsonl", "{\"instruction\": \"Describe moss.\"}\n{\"instruction\": \"Describe a vine.\"}\n");
    place.write(
        "answer.yaml",
        "name: answer\nschema: any\nseeds: {keep: true}\nsteps:\n  - {field: response, form: chat, \
         prompt: '{{ seed.instruction }}', output: {text: {}}}\n",
    );
    place.write("bench.json", json!({"prompt": "On {topic}:", "topics": ["bread"], "schema": true}).to_string());
    let case = json!({"name": "a", "schema": {"type": "boolean"}, "tests": [{"data": true, "valid": true}]});
    place.write("bench.jsonl", format!("{case}\n"));
    let recipe = fixture("recipe.yaml");
    place.run(&["generate", "-n", "4", "--model", "model.toml", "--recipe", &recipe, "-o", "run"]).succeeded();
    let recipe = fixture("evolve.yaml");
    place.run(&["evolve", "seeds.jsonl", "--model", "model.toml", "--recipe", &recipe, "-o", "evolved"]);
    place
}

/// A `tokenizer.json` of a token a byte, in GPT-2's letters for bytes.
fn tokenizer() -> String {
    let vocabulary: serde_json::Map<_, _> =
        weights::letters().into_iter().chain(["<end>".to_owned()]).zip((0..).map(serde_json::Value::from)).collect();
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    json!({
        "version": "1.0",
        "added_tokens": [{"id": 256, "content": "<end>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true}],
        "pre_tokenizer": byte_level, "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    })
    .to_string()
}

/// A command line, each time with another FILE.
fn arguments(line: &str, more: &[&str], count: &mut u32) -> Vec<String> {
    *count += 1;
    let file = format!("file{count}");
    let (recipe, evolve) = (fixture("recipe.yaml"), fixture("evolve.yaml"));
    let word = |word: &str| match word {
        "FILE" => file.clone(),
        "RECIPE" => recipe.clone(),
        "EVOLVE" => evolve.clone(),
        "ANSWER" => "answer.yaml".to_owned(),
        other => other.to_owned(),
    };
    line.split(' ').chain(more.iter().copied()).chain(["--quiet"]).map(word).collect()
}

#[test]
fn every_command_that_prints_ends_quietly_when_nobody_reads() {
    let place = place();
    let mut count = 0;
    let texts = BOTH.iter().chain(TEXT).map(|line| (line, &[][..]));
    let json = BOTH.iter().chain(JSON).map(|line| (line, &["--json"][..]));
    let mut loud = String::new();
    for (line, more) in texts.chain(json) {
        let run = |count: &mut u32, is_read: bool| {
            let arguments = arguments(line, more, count);
            let mut command = place.command(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
            if !is_read {
                let (reader, writer) = std::io::pipe().expect("a pipe");
                drop(reader);
                command.stdout(writer);
            }
            Outcome::of(command.output().expect("the program starts"))
        };
        let read = run(&mut count, true);
        assert!(read.code == Some(0) && !read.stdout.is_empty() && read.stderr.is_empty(), "{line} {more:?}: {read:?}");
        if !more.is_empty() {
            let values = serde_json::Deserializer::from_str(&read.stdout).into_iter::<serde_json::Value>();
            assert!(values.into_iter().all(|value| value.is_ok()), "{line}: {}", read.stdout);
        }
        let gone = run(&mut count, false);
        if gone.code != Some(0) || !gone.stderr.is_empty() {
            let _ = writeln!(loud, "{line} {more:?}: {gone:?}");
        }
    }
    assert!(loud.is_empty(), "{loud}");
}

#[test]
fn what_has_no_form_in_json_is_refused_as_such() {
    let place = Place::new();
    for line in TEXT {
        let arguments: Vec<&str> = line.split(' ').chain(["--json"]).collect();
        let told = place.run(&arguments);
        assert!(told.stdout.is_empty());
        told.refused(2, &["has no form in JSON; leave --json out"]);
    }
}

#[cfg(unix)]
#[test]
fn a_command_that_waits_for_something_else_ends_with_ctrl_c() {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    let place = Place::new();
    let mut command = place.command(&["check", "/dev/stdin"]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    // The handler is set before the schema is read.
    std::thread::sleep(Duration::from_millis(700));
    assert!(child.try_wait().expect("a child").is_none(), "the schema has no end");
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    let begun = Instant::now();
    let mut ended = None;
    while ended.is_none() && begun.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(20));
        ended = child.try_wait().expect("a child");
    }
    let _ = child.kill();
    assert_eq!(ended.and_then(|status| status.code()), Some(130), "after {:?}", begun.elapsed());
}
