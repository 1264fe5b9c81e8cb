//! Models that think: what is sent to them, where their thoughts go, and that rows stay what their plan makes them.

use std::fs;

use serde_json::{Map, Value, json};

use super::{Place, combine, fixture, wait_until};

/// A model that thinks where a thought is open, at length or not, and answers behind one.
fn thinker(place: &Place, pause_micros: u64) {
    let subjects: &[&str] = &[" bakers", " farmers", " students", " sailors", " teachers", " drivers", " nurses"];
    let instructions =
        combine(&[&[" Explain how"], subjects, &[" plan", " share", " measure"], &[" busy days every week.\n"]]);
    let short = combine(&[&["They ask"], subjects, &[" so I say how."], &["\n</think>"]]);
    let long = combine(&[&["Let me see: they ask"], subjects, &[" and this and that and more of it and yet more"]]);
    let answers = ["The work starts early and needs patience.", "A short list is enough for most people."];
    place.model(
        "model.toml",
        pause_micros,
        &[
            ("Instruction:", instructions),
            ("assistant: <think>\n", [short, long].concat()),
            ("</think>\n\n", answers.map(str::to_owned).to_vec()),
        ],
    );
    place.write("chat.jinja", fs::read_to_string(fixture("thinking.jinja")).expect("the template"));
}

fn arguments<'a>(recipe: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    [&["generate", "--model", "model.toml", "--recipe", recipe, "--chat-template", "chat.jinja"], rest].concat()
}

fn prompts(place: &Place, recipe: &str, rest: &[&str]) -> Vec<Value> {
    let preview = ["preview", "--model", "model.toml", "--recipe", recipe, "--chat-template", "chat.jinja", "--json"];
    let told = place.run(&[&preview, rest].concat()).succeeded();
    told.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn thoughts_are_kept_apart_and_the_run_goes_on_to_the_same_bytes() {
    let place = Place::new();
    let recipe = fixture("recipe.yaml");
    thinker(&place, 0);
    place.run(&arguments(&recipe, &["-n", "16", "--thinking", "9", "-o", "whole"])).succeeded();
    let rows = place.lines("whole/records.jsonl");
    let mut cut = 0;
    for row in &rows {
        let (thought, response) = (&row["meta"]["reasoning"]["response"], row["response"].as_str().expect("a text"));
        let note = row["meta"]["steps"].as_array().and_then(|steps| steps.last()).expect("a note");
        assert!(thought.as_str().is_some_and(|text| text.contains("they ask") || text.contains("They ask")), "{row}");
        assert!(!row.to_string().contains("think>") && response.ends_with('.'), "{row}");
        assert!(note["thought_tokens"].as_u64().is_some_and(|tokens| (1..=9).contains(&tokens)), "{row}");
        cut += u32::from(note["thought_cut"] == json!(true));
    }
    assert!(cut > 0 && (cut as usize) < rows.len(), "{cut} of {} thoughts were cut", rows.len());

    // A batch of another size, and a run that was stopped and goes on without a flag or the file of the template.
    place.run(&arguments(&recipe, &["-n", "16", "--thinking", "9", "--batch", "1", "-o", "single"])).succeeded();
    thinker(&place, 3000);
    let mut running =
        place.spawn(&arguments(&recipe, &["-n", "16", "--thinking", "9", "--batch", "2", "-o", "stopped"]));
    wait_until("a row is written", || fs::metadata(place.at("stopped/records.jsonl")).is_ok_and(|file| file.len() > 0));
    running.interrupt();
    running.finish().refused(130, &["of 16 rows"]);
    thinker(&place, 0);
    fs::remove_file(place.at("chat.jinja")).expect("it was there");
    place.run(&["generate", "--resume", "-o", "stopped"]).succeeded();
    for other in ["single", "stopped"] {
        for file in ["records.jsonl", "rejects.jsonl"] {
            assert_eq!(
                place.read(&format!("whole/{file}")),
                place.read(&format!("{other}/{file}")),
                "{file} of {other}"
            );
        }
    }

    place.run(&["export", "whole", "--format", "messages", "-o", "data"]).succeeded();
    let exported = &place.lines("data/train.jsonl")[0]["messages"][1];
    assert_eq!(exported["reasoning_content"], rows[0]["meta"]["reasoning"]["response"]);
    assert_eq!(exported["content"], rows[0]["response"]);
}

#[test]
fn no_row_is_decoded_inside_a_thought_unless_it_is_asked_for() {
    let place = Place::new();
    let recipe = fixture("recipe.yaml");
    thinker(&place, 0);
    for row in prompts(&place, &recipe, &["-n", "2"]) {
        let sent = row["prompts"]["response"].as_str().expect("a prompt");
        assert!(sent.ends_with("\n<|start|>assistant: <think>\n\n</think>\n\n"), "{sent}");
        assert_eq!(row["reasoning"], Value::Null);
    }
    for row in prompts(&place, &recipe, &["-n", "2", "--thinking", "on"]) {
        let sent = row["prompts"]["response"].as_str().expect("a prompt");
        assert!(sent.ends_with("\n<|start|>assistant: <think>\n"), "{sent}");
        assert!(row["reasoning"]["response"].is_string(), "{row}");
    }
    // The same by a run file, which knows its own folder.
    fs::create_dir(place.at("sub")).expect("a folder");
    fs::rename(place.at("chat.jinja"), place.at("sub/own.jinja")).expect("it moves");
    place.write(
        "sub/run.yaml",
        format!("rows: 2\nmodel: model.toml\nrecipe: {recipe}\nthinking: 7\nchat_template: own.jinja\n"),
    );
    place.run(&["generate", "-c", "sub/run.yaml", "-o", "by-file"]).succeeded();
    assert!(place.lines("by-file/records.jsonl")[0]["meta"]["reasoning"]["response"].is_string());
    // A manifest may say it too, and the run file is asked first.
    let model = place.read("model.toml");
    place.write("model.toml", format!("template_variables = {{ enable_thinking = true }}\n{model}"));
    place.write("sub/run.yaml", format!("rows: 1\nmodel: model.toml\nrecipe: {recipe}\nchat_template: own.jinja\n"));
    let sent = |place: &Place| {
        let told = place.run(&["preview", "-c", "sub/run.yaml", "--json", "-n", "1"]).succeeded();
        let row: Value = serde_json::from_str(told.stdout.trim()).expect("JSON");
        (row["prompts"]["response"].as_str().expect("a prompt").to_owned(), told.stderr)
    };
    let (prompt, told) = sent(&place);
    assert!(prompt.ends_with("<think>\n\n</think>\n\n") && told.contains("closed empty"), "{prompt} {told}");
    let run = place.read("sub/run.yaml");
    place.write("sub/run.yaml", format!("{run}template_variables: {{enable_thinking: false}}\n"));
    let (prompt, told) = sent(&place);
    assert!(prompt.ends_with("<think>\n\n</think>\n\n") && !told.contains("thought"), "{prompt} {told}");
    place.write("model.toml", model);
    // Variables win over the switch: here the user has it on, and the thought that is opened is closed.
    place.write(
        "sub/run.yaml",
        format!(
            "rows: 1\nmodel: model.toml\nrecipe: {recipe}\nchat_template: own.jinja\n\
             template_variables: {{enable_thinking: true}}\n"
        ),
    );
    let (prompt, told) = sent(&place);
    assert!(prompt.ends_with("assistant: <think>\n\n</think>\n\n"), "{prompt}");
    assert!(told.contains("its template variables open a thought: it is closed empty"), "{told}");
}

#[test]
fn plans_of_models_without_thoughts_are_what_they_were() {
    let place = Place::new();
    let recipe = fixture("recipe.yaml");
    thinker(&place, 0);
    let run = ["generate", "--model", "model.toml", "--recipe", &recipe, "-n", "1"];
    // The scripted model's own template knows no thoughts.
    let answers = vec!["The work starts early and needs patience.".to_owned()];
    place.model(
        "plain.toml",
        0,
        &[("Instruction:", vec![" Explain how bakers plan.\n".into()]), ("assistant: ", answers)],
    );
    place.run(&["generate", "--model", "plain.toml", "--recipe", &recipe, "-n", "1", "-o", "plain"]).succeeded();
    let plan: Value = serde_json::from_str(&place.read("plain/run.lock.json")).expect("a plan");
    assert_eq!(plan["model"].get("chat"), None, "{}", plan["model"]);
    place.run(&[&run[..], &["--thinking", "on", "-o", "x"]].concat()).refused(3, &["knows no thoughts", "--thinking"]);
    place
        .run(&[&run[..], &["--chat-template", "chatlm", "-o", "x"]].concat())
        .refused(2, &["no chat template `chatlm`", "chatml, gemma"]);
    place.run(&[&run[..], &["--chat-template", "no.jinja", "-o", "x"]].concat()).refused(4, &["no.jinja"]);
    place
        .run(&[&run[..], &["--template-variable", "messages=1", "-o", "x"]].concat())
        .refused(2, &["`messages` is given to every template"]);
    // Of a run with thoughts the lock keeps all that its prompts came of.
    place.run(&arguments(&recipe, &["-n", "1", "-o", "off"])).succeeded();
    let plan: Value = serde_json::from_str(&place.read("off/run.lock.json")).expect("a plan");
    assert_eq!(plan["model"]["chat"]["answer"]["switch"], json!({"enable_thinking": false}));
    // What is asked otherwise is another run.
    place.run(&arguments(&recipe, &["-n", "2", "--thinking", "3", "-o", "off", "--resume"])).refused(3, &["thinking"]);
}

#[test]
fn texts_of_decode_come_without_their_thoughts() {
    let place = Place::new();
    thinker(&place, 0);
    let decode = ["decode", "--model", "model.toml", "--chat-template", "chat.jinja", "--prompt", "How?"];
    let regex = ["--regex", "[A-Z][a-z ]+[.]"];
    let told = place.run(&[&decode[..], &regex, &["--thinking", "9"]].concat()).succeeded();
    assert!(told.stdout.ends_with(".\n") && !told.stdout.contains("ask"), "{}", told.stdout);
    let told = place.run(&[&decode[..], &regex, &["--thinking", "9", "--json"]].concat()).succeeded();
    let row: Value = serde_json::from_str(told.stdout.trim()).expect("JSON");
    assert!(row["reasoning"].as_str().is_some_and(|text| text.contains("hey ask")), "{row}");
    let told = place.run(&[&decode[..], &regex, &["--json"]].concat()).succeeded();
    assert_eq!(serde_json::from_str::<Value>(told.stdout.trim()).expect("JSON").get("reasoning"), None);
    place.run(&[&decode[..], &regex, &["--thinking", "9", "--raw"]].concat()).refused(2, &["--raw"]);
}

#[test]
fn scores_are_read_outside_of_thoughts_while_texts_are_thought_over() {
    let place = Place::new();
    thinker(&place, 0);
    let score = "  - field: good\n    form: chat\n    prompt: \"Is it good? {{ response }}\"\n    output: {score: {choices: \
                 [\"yes\", \"no\"]}}\nfilters:";
    let recipe = fs::read_to_string(fixture("recipe.yaml")).expect("the recipe").replacen("filters:", score, 1);
    place.write("recipe.yaml", recipe);
    let rows = prompts(&place, "recipe.yaml", &["-n", "2", "--thinking", "9"]);
    for row in &rows {
        let sent = |field: &str| row["prompts"][field].as_str().expect("a prompt").to_owned();
        assert!(sent("response").ends_with("assistant: <think>\n"), "{row}");
        assert!(sent("good").ends_with("assistant: <think>\n\n</think>\n\n"), "{row}");
        assert_eq!(row["reasoning"].as_object().map(Map::len), Some(1), "{row}");
    }
}
