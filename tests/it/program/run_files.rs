//! Run files: what they make, and the one clear line for each way in which they can be wrong.

use instil::validator::Validator;
use serde_json::Value;

use super::{Place, fixture};

/// Run files that are wrong, with the line that tells it. `run.yaml` stands for the file.
const BROKEN: &[(&str, &str)] = &[
    ("rwos: 3\n", "run.yaml: line 1: unknown key `rwos`; did you mean `rows`?"),
    ("rows: many\n", "run.yaml: line 1: "),
    ("rows: 0\n", "run.yaml: line 1: /rows: `rows` is 0; ask for 1 row or more"),
    ("rows: 3\nseed: [1\n", "run.yaml: line "),
    ("rows: 3\nrows: 4\n", "run.yaml: line 2: "),
    (
        "seed: 1\nsampling:\n  temprature: 1\n",
        "run.yaml: line 3: unknown key `temprature`; did you mean `temperature`?",
    ),
    ("sampling:\n  top_p: 1.5\n", "run.yaml: line 2: /sampling/top_p: `top_p` is 1.5; use a number from 0 to 1"),
    (
        "attributes:\n  - name: tone\n    values: [dry, warm]\n    weights: [.nan, 1]\n",
        "run.yaml: line 4: non-finite float `.nan`",
    ),
    ("sampling: {top_p: .inf}\n", "run.yaml: line 1: non-finite float `.inf`"),
    ("max_tokens: 0\n", "run.yaml: line 1: /max_tokens: `max_tokens` is 0; use 1 or more"),
    ("attributes:\n  - name: tone\n", "run.yaml: line 2: /attributes/0: attribute `tone` has no values; add `values`"),
    (
        "attributes:\n  - name: tone\n    values: [dry, warm]\n    weights: [1]\n",
        "run.yaml: line 4: /attributes/0/weights: 1 weights for 2 values; give one weight a value",
    ),
    (
        "attributes:\n  - name: tone\n    values: [dry, warm, dry]\n",
        "run.yaml: line 3: /attributes/0/values/2: \"dry\" stands twice; say how frequent it is with `weights`",
    ),
    (
        "attributes:\n  - name: my tone\n    values: [dry]\n",
        "run.yaml: line 2: /attributes/0/name: `my tone` is no name; use letters, digits and `_`",
    ),
    (
        "attributes:\n  - {name: tone, values: [dry]}\n  - name: style\n    values: [a]\n    when:\n      - is: {tnoe: dry}\n        values: [b]\n",
        "run.yaml: line 6: /attributes/1/when/0/is/tnoe: there is no attribute `tnoe` above; did you mean `tone`?",
    ),
    (
        "attributes:\n  - name: size\n    range: {from: 3, to: 1}\n",
        "run.yaml: line 3: /attributes/0/range: from 3 to 1 is no range; let from be less",
    ),
    (
        "quotas:\n  - is: {topic: braed}\n    share: 0.5\n",
        "run.yaml: line 2: /quotas/0/is/topic: \"braed\" is no value of `topic`; did you mean `bread`?",
    ),
    (
        "quotas:\n  - {is: {topic: bread}, share: 0.7}\n  - {is: {topic: chess}, share: 0.7}\n",
        "run.yaml: line 3: /quotas/1: the quotas add up to 1.4; let them add up to 1 at most",
    ),
    (
        "attributes:\n  - {name: opening, values: [Ask], apart: true}\nquotas:\n  - {is: {opening: Ask}, share: 0.5}\n",
        "run.yaml: line 4: /quotas/0/is/opening: `opening` stands apart from the cells; take `apart` out, or use `weights`",
    ),
    (
        "recipe:\n  name: mine\n  schema: instruction-response\n  steps:\n    - field: instruction\n      prompt: \"{{ topci }}\"\n      output: {regex: 'a+'}\n",
        "run.yaml: line 6: /recipe/steps/0/prompt: `topci` is not defined here; a template can use: ",
    ),
    (
        "recipe:\n  name: mine\n  schema: instruction-response\n  steps:\n    - field: instruction\n      prompt: \"{{ \"\n      output: {regex: 'a+'}\n",
        "run.yaml: line 6: /recipe/steps/0/prompt: the template does not parse",
    ),
    (
        "recipe:\n  name: mine\n  schema: instruction-response\n  steps:\n    - field: instruction\n      prompt: go\n      output: {regex: '(a'}\n",
        "run.yaml: line 7: /recipe/steps/0/output: ",
    ),
    (
        "recipe:\n  name: mine\n  schema: instruction-response\n  steps: []\n",
        "run.yaml: line 4: /recipe/steps: `steps` is empty; add at least one step",
    ),
    (
        "rows: 3\nrecipe: instruction-respose\n",
        "run.yaml: line 2: /recipe: there is no built-in recipe `instruction-respose`; did you mean `instruction-response`?",
    ),
    ("schema: nowhere.json\n", "run.yaml: line 1: /schema: cannot read "),
    (
        "filters:\n  loops: [response]\n  rouge_l: {fields: [instrction]}\n",
        "run.yaml: line 3: /filters/rouge_l/fields/0: no step fills `instrction`; did you mean `instruction`?",
    ),
    (
        "filters:\n  semantic: {fields: [instruction], treshold: 0.8}\n",
        "run.yaml: line 2: unknown key `treshold`; did you mean `threshold`?",
    ),
    (
        "filters:\n  loops: [response]\n  phrases: [{field: respnse, phrases: [no]}]\n",
        "run.yaml: line 3: /filters/phrases/0/field: no step fills `respnse`; did you mean `response`?",
    ),
    (
        "filters:\n  near: {fields: [response], threshold: 2.0}\n",
        "run.yaml: line 2: /filters/near/threshold: near.threshold is 2, not between 0 and 1; see `instil filter --help`",
    ),
    (
        "rows: 3\nattributes:\n  - {name: language, values: [German, Spanish]}\n",
        "run.yaml: line 3: /attributes/0: nothing reads the attribute `language`, so no row would follow it; name it in a prompt, as {{ language }}",
    ),
    (
        "attributes:\n  - {name: instruction, values: [aaa, bbb]}\n",
        "run.yaml: line 2: /attributes/0/name: `instruction` is a field of a step, which would hide the attribute; give the",
    ),
    (
        "attributes:\n  - {name: language, values: [German, Klingon]}\nfilters:\n  language: [{field: response, is: \"{{ language }}\"}]\n",
        "run.yaml: line 2: /attributes/0: `Klingon` of `language` is no language that is told apart, and filters.language.0",
    ),
    (
        "filters:\n  length: [{field: response, words: [500, 900]}]\n",
        "run.yaml: line 2: /filters/length/0/words: 500 words do not fit into the 224 tokens of step response; raise `max",
    ),
    (
        "filters:\n  length: [{field: response, words: [1, 3]}]\n",
        "run.yaml: line 2: /filters/length/0/words: step response writes 6 to any number of words, and this asks for 1 to 3",
    ),
    (
        "recipe:\n  name: mine\n  schema: any\n  steps:\n    - field: label\n      prompt: go\n      output: {choice: [\"yes\", \"no\"]}\n  filters:\n    phrases: [{field: label, phrases: [\"no\"]}]\n",
        "run.yaml: line 9: /recipe/filters/phrases: turns down the choice `no` of step label whenever it is made; change",
    ),
    (
        "recipe:\n  name: mine\n  schema: any\n  steps:\n    - field: label\n      prompt: go\n      output: {choice: [\"{{ topci }}\", \"no\"]}\n",
        "run.yaml: line 7: /recipe/steps/0/output/choice/0: `topci` is not defined here",
    ),
    (
        "schema: persons.json\nrecipe:\n  name: mine\n  schema: any\n  steps:\n    - field: text\n      prompt: go\n      output: {text: {}}\n    - field: persons\n      prompt: go\n      output: schema\n",
        "run.yaml: line 11: /recipe/steps/1/output: `output: schema` is JSON under the schema of the whole row, which `persons`",
    ),
    (
        "schema: persons.json\nrecipe:\n  name: mine\n  schema: any\n  steps:\n    - field: text\n      prompt: go\n      output: {text: {}}\n",
        "run.yaml: line 6: /recipe/steps: the run's schema requires `persons`, and no step fills it; add a step for it",
    ),
    ("filters: {sentence_ends: [a]}\n", "run.yaml: line 1: unknown key `sentence_ends`; did you mean `sentence_end`?"),
];

fn place() -> Place {
    let place = Place::new();
    let reply = |text: &str| vec![text.to_owned()];
    place.model(
        "model.toml",
        0,
        &[("Instruction:", reply(" Explain how it works here.\n")), ("assistant: ", reply("It works."))],
    );
    place
}

#[test]
fn a_recipe_in_place_sees_the_attributes_beside_it() {
    let place = Place::new();
    let text = "rows: 2\nattributes:\n  - {name: persona, file: people.txt}\nrecipe:\n  name: mine\n  schema: any\n  steps:\n\
                \x20   - {field: text, prompt: 'On {{ persona }}:', output: {regex: ' [a-z]+'}}\n";
    place.write("run.yaml", text);
    let people: Vec<String> = (0..200_000).map(|at| format!("a person of the number {at}\n")).collect();
    place.write("people.txt", people.concat());
    let start = std::time::Instant::now();
    place.run(&["validate", "-c", "run.yaml", "--set", "recipe.steps.text.max_tokens=9"]).succeeded();
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
    place.write("run.yaml", text.replace("{{ persona }}", "{{ person }}"));
    place
        .run(&["validate", "-c", "run.yaml"])
        .refused(3, &["line 8", "`person` is not defined", "did you mean `persona`?"]);
}

#[test]
fn every_fault_of_a_run_file_is_one_line_that_names_its_place() {
    let place = place();
    let recipe = fixture("recipe.yaml");
    let persons = r#"{"type": "object", "required": ["persons"], "properties": {"persons": {"type": "array"}}}"#;
    place.write("persons.json", persons);
    for (text, told) in BROKEN {
        let uses_fixture = text.starts_with("quotas");
        let text = if uses_fixture { format!("{text}recipe: {recipe}\n") } else { (*text).to_owned() };
        place.write("run.yaml", &text);
        let outcome = place.run(&["validate", "-c", "run.yaml", "--model", "model.toml"]);
        let code = outcome.code.expect("an exit code");
        assert!(code == 2 || code == 3 || code == 4, "{text}: {outcome:?}");
        let line = outcome.refused(code, &[]);
        let line = line.strip_prefix("error: ").expect("an error line");
        assert!(line.contains(told), "{text}\n  told: {line}\n  want: {told}");
        assert!(outcome.stdout.is_empty());
    }
    assert!(BROKEN.len() >= 20);
}

#[test]
fn a_run_tells_the_next_validation_how_long_it_will_take() {
    let place = place();
    let validate = ["validate", "--model", "model.toml", "--recipe", &fixture("recipe.yaml"), "-n", "400"];
    let told = place.run(&validate).succeeded().stdout;
    assert!(told.contains("how long that takes is told once a run"), "{told}");
    let speed = place.at(".cache/instil/speed");
    let name = instil::catalog::source::verify::sha256_of(b"model.toml");
    std::fs::create_dir_all(&speed).expect("a folder");
    std::fs::write(speed.join(format!("{}.json", &name[..16])), "{\"tokens_per_s\": 50.0, \"batch\": 8}")
        .expect("written");
    let told = place.run(&validate).succeeded().stdout;
    assert!(told.contains("at the 50 tokens/s of the last run with this model here, batch 8"), "{told}");
    let told = place.run(&[&validate[..], &["--json"]].concat()).succeeded().stdout;
    let found: Value = serde_json::from_str(&told).expect("JSON");
    let (least, most) = (&found["seconds"]["least"], &found["seconds"]["most"]);
    assert!(least.as_f64() < most.as_f64() && least.as_f64() > Some(0.0), "{found}");
}

#[test]
fn a_model_that_a_run_file_names_wrongly_is_told_with_its_line() {
    let place = place();
    place.write("run.yaml", "rows: 3\nmodel: smollm2-135m\n");
    let told = place.run(&["validate", "-c", "run.yaml"]);
    told.refused(
        3,
        &["run.yaml: line 2: /model: model smollm2-135m: unknown model; did you mean smollm2-135m-instruct?"],
    );
    let told = place.run(&["validate", "-c", "run.yaml", "--model", "smollm3"]);
    assert!(!told.refused(3, &["model smollm3: unknown model"]).contains("line"));
}

#[test]
fn the_run_file_that_init_prints_is_a_valid_one() {
    let place = place();
    let text = place.run(&["init"]).succeeded().stdout;
    place.write("run.yaml", &text);
    let told = place.run(&["validate", "-c", "run.yaml", "--model", "model.toml", "--json"]).succeeded();
    let found: Value = serde_json::from_str(&told.stdout).expect("JSON");
    assert_eq!(found["rows"], 200);
    assert_eq!(found["cells"].as_array().map(Vec::len), Some(4));
    // With every comment that holds a setting taken away it is still one.
    let all: String = text
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.starts_with("yaml-language-server") => format!("# {rest}\n"),
            Some(rest) if rest.contains(':') && !rest.ends_with('.') && !rest.contains('`') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    assert!(all.contains("\nquotas:") && all.contains("\nfilters:"));
    let all = all.replace("schema: product.schema.json", "");
    place.write("all.yaml", &all);
    place.run(&["validate", "-c", "all.yaml", "--model", "model.toml"]).succeeded();
    // The schema that its first line names knows both.
    assert!(text.starts_with("# yaml-language-server: $schema=run.schema.json\n"));
    let schema = schema();
    for file in [&text, &all] {
        assert_eq!(schema.violations(&yaml(file)).into_iter().map(|v| v.what).collect::<Vec<_>>(), [""; 0]);
    }
    let recipe = place.run(&["init", "--recipe", "instruction-response"]).succeeded().stdout;
    place.write("recipe.yaml", &recipe);
    place.run(&["validate", "--recipe", "recipe.yaml", "--model", "model.toml"]).succeeded();
}

/// The schema of run files, as published.
fn schema() -> Validator {
    let text = include_str!("../../../recipes/run.schema.json");
    Validator::new(&serde_json::from_str(text).expect("JSON")).expect("a schema")
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).expect("YAML")
}

#[test]
fn the_published_schema_is_that_of_run_files() {
    let place = place();
    let printed = place.run(&["init", "--schema"]).succeeded().stdout;
    let kept = include_str!("../../../recipes/run.schema.json");
    assert!(printed == kept, "keys have changed: `instil init --schema > recipes/run.schema.json`");
    let schema = schema();
    for recipe in ["instruction-response", "json-row"] {
        let text = place.run(&["init", "--recipe", recipe]).succeeded().stdout;
        let in_place = serde_json::json!({ "recipe": yaml(&text) });
        assert_eq!(schema.violations(&in_place).into_iter().map(|v| v.what).collect::<Vec<_>>(), [""; 0], "{recipe}");
    }
    // What no run file may hold is wrong for an editor too; what only makes no sense together is not seen.
    let wrong: Vec<_> = BROKEN.iter().filter(|(_, told)| told.contains("unknown key")).collect();
    assert!(wrong.len() > 2);
    for (text, _) in wrong {
        assert!(!schema.is_valid(&yaml(text)), "{text}");
    }
    for text in [
        "rows: many",
        "seed: -1",
        "attributes: {topic: a}",
        "attributes: [{values: [a]}]",
        "attributes: [{name: a, apart: maybe}]",
        "balance: even",
        "recipe: [a]",
        "recipe: {name: a, schema: b, steps: [{field: a, prompt: b, output: {text: {min_words: [1]}}}]}",
        "filters: {pii: {fields: [a], action: hide}}",
    ] {
        assert!(!schema.is_valid(&yaml(text)), "{text}");
        place.write("run.yaml", text);
        assert_ne!(place.run(&["validate", "-c", "run.yaml"]).code, Some(0), "{text}");
    }
}

#[test]
fn the_recipe_in_the_readme_is_a_valid_one() {
    let place = place();
    let readme = include_str!("../../../README.md");
    let (_, rest) = readme.split_once("```yaml\n").expect("a recipe");
    place.write("letters.yaml", rest.split_once("```").expect("its end").0);
    let told = place.run(&["validate", "--recipe", "letters.yaml", "--model", "model.toml", "--json"]).succeeded();
    let found: Value = serde_json::from_str(&told.stdout).expect("JSON");
    assert_eq!(found["estimate"]["steps"].as_array().map(Vec::len), Some(3));
}

#[test]
fn bounds_of_a_text_may_come_from_the_row_and_hold() {
    let place = Place::new();
    let reply = |text: &str| vec![text.to_owned()];
    // The model would go on and on; the grammar ends its text in time.
    let endless = "It is so. ".repeat(30);
    place.model("model.toml", 0, &[("Instruction:", reply(" how it all came about")), ("Answer:", reply(&endless))]);
    place.write(
        "recipe.yaml",
        "name: bounds\nschema: instruction-response\nattributes:\n\
         - {name: length, values: [{least: 1, most: 1}, {least: 3, most: 4}]}\nsteps:\n\
         - {field: instruction, prompt: 'Instruction:', output: {text: {min_words: 3, max_words: 6}}}\n\
         - {field: response, prompt: 'Answer:', max_tokens: 90, output: {text: {min_sentences: '{{ length.least }}', \
         max_sentences: '{{ length.most }}', max_words: 40}}}\n",
    );
    let run = ["generate", "--model", "model.toml", "--recipe", "recipe.yaml", "-n", "8", "-o", "run"];
    place.run(&run).succeeded();
    for record in place.lines("run/records.jsonl") {
        let length = &record["meta"]["attributes"]["length"];
        let response = record["response"].as_str().expect("a text");
        let sentences = response.matches(". ").count() as u64 + u64::from(response.ends_with('.'));
        let within = length["least"].as_u64() <= Some(sentences) && Some(sentences) <= length["most"].as_u64();
        assert!(
            within && response.ends_with(['.', '!', '?', '…', '。', '！', '？']) || !response.is_ascii(),
            "{record}"
        );
        let words = record["instruction"].as_str().expect("a text").split_whitespace().count();
        assert!((3..=6).contains(&words), "{record}");
    }
    let recipe = place.read("recipe.yaml");
    place.write("recipe.yaml", recipe.replace("{{ length.least }}", "{{ lenght.least }}"));
    place.run(&run).refused(3, &["/steps/1/output/text/min_sentences: `lenght` is not defined here", "`length`?"]);
    place.write("recipe.yaml", recipe.replace("{{ length.least }}", "some"));
    place.run(&run).refused(3, &["/steps/1/output/text/min_sentences: `some` is no number; write a number"]);
}

#[test]
fn flags_and_set_win_over_the_file() {
    let place = place();
    let recipe = fixture("recipe.yaml");
    place.write("run.yaml", format!("rows: 9\nseed: 5\nmodel: model.toml\nrecipe: {recipe}\n"));
    let found = |rest: &[&str]| -> Value {
        let arguments = [&["validate", "-c", "run.yaml", "--json"], rest].concat();
        serde_json::from_str(&place.run(&arguments).succeeded().stdout).expect("JSON")
    };
    assert_eq!((&found(&[])["rows"], &found(&[])["seed"]), (&Value::from(9), &Value::from(5)));
    assert_eq!(found(&["-n", "3", "--set", "rows=4"])["rows"], 3);
    assert_eq!(found(&["--set", "rows=4"])["rows"], 4);
    let estimate = &found(&["--set", "recipe.steps.response.max_tokens=50"])["estimate"];
    assert_eq!(estimate["steps"][1]["max_tokens"], 50);
    assert!(estimate["steps"][0]["min_tokens"].as_u64().is_some_and(|least| least > 0));
    place.run(&["validate", "-c", "run.yaml", "--set", "rwos=4"]).refused(2, &["--set rwos=4", "did you mean `rows`?"]);
}

#[test]
fn cells_get_their_exact_share() {
    let place = Place::new();
    let mut replies = Vec::new();
    for word in ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"] {
        for other in ["red", "green", "blue", "white", "black", "brown", "grey"] {
            replies.push(format!(" Explain the {word} {other} things.\n"));
        }
    }
    let answers = vec!["They are kept in a box by the door. Ask before you take one.".to_owned()];
    place.model("model.toml", 0, &[("Instruction:", replies), ("assistant: ", answers)]);
    let recipe = fixture("recipe.yaml");
    let text = "attributes:\n  - {name: tone, values: [dry, warm, odd], only_planned: true}\n  - {name: level, values: [easy, hard], only_planned: true}\n";
    place.write("run.yaml", format!("rows: 50\nmodel: model.toml\nrecipe: {recipe}\n{text}"));
    place.run(&["generate", "-c", "run.yaml", "-o", "run"]).succeeded();
    let mut counts = std::collections::BTreeMap::new();
    for record in place.lines("run/records.jsonl") {
        *counts.entry(record["meta"]["attributes"].to_string()).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 4 * 3 * 2);
    assert!(counts.values().all(|&count| count == 2 || count == 3), "{counts:?}");
}

#[test]
fn a_preview_shows_rows_with_their_prompts_and_writes_nothing() {
    let place = Place::new();
    let replies = ["how echoes come back", "why bread rises", "what tides do"];
    let replies = replies.iter().map(|text| format!(" Explain {text} in a few words.\n")).collect();
    let answers = vec!["It takes some time to see. Then it is clear to everyone.".to_owned()];
    place.model("model.toml", 0, &[("Instruction:", replies), ("assistant: ", answers)]);
    let recipe = fixture("recipe.yaml");
    let told = place.run(&["preview", "--model", "model.toml", "--recipe", &recipe, "-n", "2", "--json"]).succeeded();
    let rows: Vec<Value> = told.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(rows.len(), 2);
    for row in &rows {
        let prompt = row["prompts"]["instruction"].as_str().expect("a prompt");
        assert!(prompt.contains("Topic: ") && prompt.ends_with("Instruction: Explain"), "{prompt}");
        let instruction = row["fields"]["instruction"].as_str().expect("a text");
        assert!(row["prompts"]["response"].as_str().expect("a prompt").contains(instruction));
    }
    let mut names: Vec<_> =
        std::fs::read_dir(place.at(".")).expect("a folder").map(|e| e.expect("an entry").file_name()).collect();
    names.sort();
    assert_eq!(names, ["model.toml"]);
}

#[test]
fn a_recipe_of_ones_own_can_have_steps_that_rows_do_not_keep() {
    let place = Place::new();
    let reply = |text: &str| vec![text.to_owned()];
    place.model(
        "model.toml",
        0,
        &[
            ("Plan:", reply(" bees and flowers\n")),
            ("Instruction:", reply(" Explain what bees find in flowers.\n")),
            ("Answer:", reply(" They find nectar, and carry pollen to the next flower.\n")),
        ],
    );
    place.write(
        "recipe.yaml",
        "name: three\nschema: instruction-response\nsteps:\n\
         - {field: outline, aside: true, prompt: 'Plan:', output: {regex: '[^\\n]+'}, stop: \"\\n\"}\n\
         - {field: instruction, prompt: \"{{ outline }}\\nInstruction:\", output: {regex: '[^\\n]+'}, stop: \"\\n\"}\n\
         - {field: response, prompt: \"{{ instruction }}\\nAnswer:\", output: {regex: '[^\\n]+'}, stop: \"\\n\"}\n",
    );
    place.run(&["generate", "--model", "model.toml", "--recipe", "recipe.yaml", "-n", "1", "-o", "run"]).succeeded();
    let record = &place.lines("run/records.jsonl")[0];
    assert_eq!(record["instruction"], "Explain what bees find in flowers.");
    assert_eq!(record["outline"], Value::Null);
    assert_eq!(record["meta"]["aside"]["outline"], "bees and flowers");
}

#[test]
fn a_rows_language_follows_its_attribute() {
    let place = Place::new();
    let english = "Bread rises because yeast makes gas inside the warm dough of flour and water.".to_owned();
    place.model(
        "model.toml",
        0,
        &[("Instruction:", vec![" Explain how it works here.\n".into()]), ("assistant: ", vec![english])],
    );
    let recipe = "name: tongues\nschema: instruction-response\nmax_attempts: 2\nattributes:\n  - {name: language, values: [English, German]}\nsteps:\n\
        \x20 - {field: instruction, prompt: \"{{ language }}\\nInstruction:\", output: {regex: ' [^\\n]{4,80}'}, stop: \"\\n\", max_tokens: 40}\n\
        \x20 - {field: response, form: chat, prompt: \"{{ instruction }}\", output: {text: {min_sentences: 1}}, max_tokens: 90}\n\
        filters:\n  language: [{field: response, is: \"{{ language }}\"}]\n";
    place.write("tongues.yaml", recipe);
    let outcome = place.run(&["generate", "--recipe", "tongues.yaml", "--model", "model.toml", "-n", "2", "-o", "run"]);
    assert_eq!(outcome.code, Some(5), "{outcome:?}");
    let records = place.lines("run/records.jsonl");
    assert!(records.iter().all(|record| record["meta"]["attributes"]["language"] == "English") && records.len() == 1);
    let rejects = place.lines("run/rejects.jsonl");
    assert!(!rejects.is_empty());
    for reject in &rejects {
        assert_eq!(reject["meta"]["attributes"]["language"], "German", "{reject}");
        assert!(reject.to_string().contains("response is English"), "{reject}");
    }
}

#[test]
fn choices_follow_the_row_and_texts_end_at_their_stop() {
    let place = Place::new();
    let replies = vec!["tides".to_owned(), "bread".to_owned(), "none".to_owned()];
    place.model("model.toml", 0, &[("About:", replies), ("Say:", vec!["It is so.\n More of it.".to_owned()])]);
    let recipe = "name: labels\nschema: any\nattributes:\n  - {name: topic, values: [bread, tides]}\nsteps:\n\
        \x20 - {field: label, prompt: \"About:\", output: {choice: [\"{{ topic }}\", none]}, max_tokens: 9}\n\
        \x20 - {field: words, prompt: \"Say:\", output: {text: {min_words: 2}}, stop: \"\\n\", max_tokens: 30}\n";
    place.write("labels.yaml", recipe);
    place.run(&["validate", "--recipe", "labels.yaml", "--model", "model.toml"]).succeeded();
    place.run(&["generate", "--recipe", "labels.yaml", "--model", "model.toml", "-n", "12", "-o", "run"]).succeeded();
    let records = place.lines("run/records.jsonl");
    assert_eq!(records.len(), 12);
    for record in &records {
        let (label, topic) = (&record["label"], &record["meta"]["attributes"]["topic"]);
        assert!(label == topic || label == "none", "{record}");
        assert_eq!(record["words"], "It is so.", "{record}");
    }
}

#[test]
fn a_preview_of_rows_from_rows_shows_their_prompts() {
    let place = Place::new();
    place.model(
        "model.toml",
        0,
        &[("assistant: ", vec!["They rise because of yeast. Heat does the rest.".to_owned()])],
    );
    place.write("seeds.jsonl", "{\"instruction\": \"Explain bread.\", \"response\": \"\"}\n");
    let recipe = "name: answers\nschema: any\nseeds: {rounds: 1, keep: true}\nsteps:\n\
        \x20 - {field: response, form: chat, prompt: \"{{ seed.instruction }}\", output: {text: {min_sentences: 1}}, max_tokens: 60}\n";
    place.write("answers.yaml", recipe);
    let preview = ["preview", "--recipe", "answers.yaml", "--model", "model.toml"];
    let told = place.run(&[&preview[..], &["seeds.jsonl", "--json"]].concat()).succeeded().stdout;
    let row: Value = serde_json::from_str(told.lines().next().expect("a row")).expect("JSON");
    assert!(row["prompts"]["response"].as_str().expect("a prompt").contains("Explain bread."), "{row}");
    assert_eq!(row["fields"]["response"], "They rise because of yeast. Heat does the rest.");
    place
        .run(&preview)
        .refused(2, &["answers makes its rows from those of a data set", "instil preview --recipe … DATA"]);
    place.run(&["generate", "--recipe", "answers.yaml", "--model", "model.toml"]).refused(2, &["`instil answer DATA"]);
    let made = ["preview", "--recipe", &fixture("recipe.yaml"), "--model", "model.toml", "seeds.jsonl"];
    place.run(&made).refused(2, &["makes its rows from nothing"]);
    // A row that comes to nothing is shown with its prompts, and why.
    place.write(
        "answers.yaml",
        format!("{recipe}filters: {{length: [{{field: response, words: [50, 90]}}]}}\nmax_attempts: 2\n"),
    );
    let told = place.run(&[&preview[..], &["seeds.jsonl"]].concat());
    assert_eq!(told.code, Some(5), "{told:?}");
    assert_eq!(told.code, Some(5), "{told:?}");
    for part in ["row 0, turned down by length: ", "Explain bread.", "They rise because of yeast."] {
        assert!(told.stdout.contains(part), "{told:?}");
    }
    assert!(told.stderr.contains("0 of 1 rows were accepted"), "{told:?}");
}
