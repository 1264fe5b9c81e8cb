//! Bad input: one clear line that says what, where and how to mend it, and the right exit code.

use std::process::Command;

use instil_model::gguf::{Array, GgmlType, Metadata, Value};

use super::{Place, fixture};
use crate::support::gguf_writer as write;

/// A place with a model that works.
fn place() -> Place {
    let place = Place::new();
    let instruction = vec![" Explain how bakers plan a busy morning.\n".to_owned()];
    let answer = vec!["They start early and measure every part of it twice.".to_owned()];
    place.model("model.toml", 0, &[("Instruction:", instruction), ("assistant: ", answer)]);
    place
}

/// Runs `generate` on the working model; whatever it refuses, no run may be left behind.
fn generate(place: &Place, rest: &[&str], code: i32, parts: &[&str]) {
    let told = place.run(&[&["generate", "--model", "model.toml", "-o", "run"], rest].concat());
    told.refused(code, parts);
    assert_eq!(told.stdout, "");
    assert!(!place.at("run").exists(), "{rest:?} left a directory");
}

fn decode(place: &Place, rest: &[&str], code: i32, parts: &[&str]) {
    let told = place.run(&[&["decode", "--model", "model.toml"], rest].concat());
    told.refused(code, parts);
    assert_eq!(told.stdout, "");
}

#[test]
fn files_that_are_not_there() {
    let place = place();
    generate(&place, &["--schema", "none.json"], 4, &["cannot read none.json", "; check the path"]);
    generate(&place, &["--recipe", "none.yaml"], 4, &["cannot read none.yaml", "; check the path"]);
    decode(&place, &["--schema", "none.json"], 4, &["none.json", "; check the path"]);
    place.run(&["check", "none.json"]).refused(4, &["none.json", "; check the path"]);
    place.write("any.json", "true");
    place.run(&["check", "any.json", "none.jsonl"]).refused(4, &["none.jsonl", "; check the path"]);
    let told = place.run(&["decode", "--model", "./none.gguf", "--choice", "a"]);
    told.refused(4, &["./none.gguf", "; check the path"]);
    place.run(&["check", "."]).refused(4, &["cannot read .", "; give a file"]);
}

#[test]
fn schemas_that_cannot_be_used() {
    let place = place();
    place.write("words.json", "no schema");
    place.write("list.json", "[]");
    place.write("latin.json", b"{\"title\": \"\xe9\"}");
    place.write("type.json", r#"{"properties": {"a": {"type": "text"}}}"#);
    for (file, parts) in [
        ("words.json", &["words.json: not JSON", "line 1", "; a schema is a JSON object"][..]),
        ("list.json", &["list.json: not a JSON Schema", "; a schema is"]),
        ("latin.json", &["latin.json: not UTF-8", "; save it as UTF-8"]),
        ("type.json", &["at /properties/a/type: `type`", "; correct the schema"]),
    ] {
        generate(&place, &["--schema", file], 3, parts);
        decode(&place, &["--schema", file], 3, parts);
        place.run(&["check", file]).refused(3, parts);
    }
}

#[test]
fn commands_read_the_dialect_that_the_engine_reads_and_say_what_asserts_nothing() {
    let place = place();
    place.write(
        "tuple.json",
        r#"{"type": "array", "items": [{"type": "integer"}, {"type": "string"}], "additionalItems": false}"#,
    );
    place.write("rows.jsonl", "[1, \"a\"]\n[1, \"a\", 2]\n");
    let told = place.run(&["check", "tuple.json", "rows.jsonl"]);
    assert!(told.code == Some(3) && told.stdout.contains("1 rows valid, 1 invalid"), "{told:?}");
    place.write("above.json", r#"{"type": "integer", "minimum": 0, "exclusiveMinimum": true, "maximum": 2}"#);
    let made = place.run(&["decode", "--model", "model.toml", "--schema", "above.json", "-n", "8"]).succeeded().stdout;
    assert!(made.lines().all(|line| line == "1" || line == "2"), "{made}");
    place.write("foreign.json", r#"{"properties": {"a": {"type": "string", "nullable": true}}, "x-ui": {"items": ["a"]}, "prefixItems": [true]}"#);
    let told = place.run(&["check", "foreign.json"]).succeeded().stdout;
    assert!(told.contains("/properties/a/nullable: OpenAPI's") && told.contains("automaton   /prefixItems"), "{told}");
    place.write(
        "older.json",
        r#"{"$schema": "http://json-schema.org/draft-07/schema#", "type": "array", "prefixItems": [{}]}"#,
    );
    let told = place.run(&["check", "older.json"]).succeeded().stdout;
    assert!(told.contains("annotation  /prefixItems: nothing in the draft of this schema"), "{told}");
}

#[test]
fn a_keyword_that_is_not_enforced_is_refused_with_its_pointer() {
    let place = place();
    place.write("remote.json", r#"{"properties": {"a": {"$ref": "http://example.org/a.json"}}}"#);
    let parts = ["/properties/a/$ref", "$ref", "; "];
    generate(&place, &["--schema", "remote.json"], 3, &parts);
    decode(&place, &["--schema", "remote.json"], 3, &parts);
    place.run(&["check", "remote.json"]).refused(3, &[&parts[..], &["--retrieve"]].concat());
    // Followed, it is read from a folder, and nothing is fetched.
    std::fs::create_dir(place.at("schemas")).expect("created");
    place.write("schemas/a.json", r#"{"enum": ["yes"]}"#);
    let told = place.run(&["check", "remote.json", "--retrieve", "schemas"]).succeeded().stdout;
    assert!(told.contains("automaton") && told.contains("/properties/a/$ref"), "{told}");
    place.write("other.json", r#"{"type": "object", "properties": {"a": {"$ref": "a.json"}}, "required": ["a"]}"#);
    let made = ["decode", "--model", "model.toml", "--schema", "other.json", "--retrieve", "schemas", "-n", "4"];
    assert_eq!(place.run(&made).succeeded().stdout, "{\"a\": \"yes\"}\n".repeat(4));
    place.write("run.yaml", "rows: 2\nschema: remote.json\nretrieve: schemas\n");
    place.run(&["validate", "-c", "run.yaml"]).succeeded();

    place.write("third.json", r#"{"type": "object", "properties": {"a": {"type": "integer", "multipleOf": 3}}, "required": ["a"], "additionalProperties": false}"#);
    let parts = ["/properties/a/multipleOf", "`multipleOf`", "; "];
    generate(&place, &["--schema", "third.json", "--engine", "outlines"], 3, &parts);
    decode(&place, &["--schema", "third.json", "--engine", "outlines"], 3, &parts);
    let told = place.run(&["check", "third.json", "--engine", "outlines", "--json"]);
    told.refused(3, &parts);
    let report: serde_json::Value = serde_json::from_str(&told.stdout).expect("JSON");
    assert_eq!(report["enforceable"], false);
}

#[test]
fn a_limit_below_the_shortest_text_says_the_number() {
    let place = place();
    place.write("long.json", r#"{"type": "string", "minLength": 300}"#);
    let flags = ["--schema", "long.json", "--max-tokens", "50"];
    generate(&place, &flags, 2, &["302 tokens", "limit is 50", "; use --max-tokens 302 or more"]);
    decode(&place, &flags, 2, &["302 tokens", "limit is 50", "; use --max-tokens 302 or more"]);
}

#[test]
fn weights_that_cannot_be_used() {
    let place = place();
    let mut metadata = Metadata::new("test.gguf");
    metadata.insert("general.architecture", Value::String("starfish".into()));
    metadata.insert("tokenizer.ggml.model", Value::String("gpt2".into()));
    let tokens = ["a", "b", "<end>"].map(String::from).to_vec();
    metadata.insert("tokenizer.ggml.tokens", Value::Array(Array::String(tokens)));
    metadata.insert("tokenizer.ggml.eos_token_id", Value::Unsigned(2));
    metadata.insert("tokenizer.ggml.merges", Value::Array(Array::String(Vec::new())));
    let tensor =
        write::Tensor { name: "token_embd.weight".into(), dims: vec![32, 3], kind: GgmlType::F32, bytes: vec![0; 384] };
    let whole = write::to_bytes(&metadata, &[tensor]);
    place.write("starfish.gguf", &whole);
    place.write("tensors.gguf", &whole[..whole.len() - 100]);
    place.write("header.gguf", &whole[..60]);
    place.write("empty.gguf", "");
    place.write("words.gguf", "These are words, and no weights at all; they are long enough.");
    for (file, parts) in [
        ("starfish.gguf", &["starfish", "is not supported", "; use a GGUF file of one of these: llama"][..]),
        ("tensors.gguf", &["tensors.gguf: truncated", "token_embd.weight", "; the download is incomplete"]),
        ("header.gguf", &["header.gguf: truncated", "; the download is incomplete"]),
        ("empty.gguf", &["empty.gguf: truncated", "; the download is incomplete"]),
        ("words.gguf", &["words.gguf: ", "GGUF", "; "]),
    ] {
        place.run(&["generate", "--model", file, "-o", "run"]).refused(3, parts);
        assert!(!place.at("run").exists(), "{file} left a directory");
        place.run(&["decode", "--model", file, "--choice", "a"]).refused(3, parts);
    }
}

#[test]
fn an_unknown_model_suggests_the_nearest() {
    let place = place();
    for name in ["smollm-135m-instruct", "smolm2"] {
        let parts = [name, "unknown model", "; did you mean smollm2-135m-instruct?"];
        place.run(&["generate", "--model", name, "-o", "run"]).refused(3, &parts);
        place.run(&["decode", "--model", name, "--choice", "a"]).refused(3, &parts);
    }
    place.write("typo.toml", "name = \"s\"\nkind = \"scripted\"\nprompt_from = \"chat\"\n");
    let told = place.run(&["decode", "--model", "typo.toml", "--choice", "a"]);
    told.refused(3, &["typo.toml: line 3: unknown key `prompt_from`", "; did you mean `prompt_form`?"]);
}

#[test]
fn flags_that_cannot_work() {
    let place = place();
    generate(&place, &["-n", "0"], 2, &["-n is 0", "; ask for 1 row"]);
    decode(&place, &["-n", "0", "--choice", "a"], 2, &["-n is 0", "; ask for 1 text"]);
    for (flag, value, parts) in [
        ("--temperature", "nan", ["--temperature is NaN", "; use 0 or a positive number"]),
        ("--top-p", "1.5", ["--top-p is 1.5", "; use a number from 0 to 1"]),
        ("--min-p", "nan", ["--min-p is NaN", "; use a number from 0 to 1"]),
        ("--device", "gpu", ["unknown device `gpu`", "; use auto, cpu, cuda"]),
        ("--batch", "0", ["--batch is 0", "; use 1 or more"]),
        ("--max-tokens", "0", ["--max-tokens is 0", "; use 1 or more"]),
    ] {
        generate(&place, &[flag, value], 2, &parts);
        decode(&place, &["--choice", "a", flag, value], 2, &parts);
    }
    for topic in ["", " "] {
        generate(&place, &["--topic", topic], 2, &["a --topic is empty", "; name what"]);
    }
    decode(&place, &["--choice", "a,,b"], 2, &["a --choice is empty", "; separate"]);
    for regex in ["(a", "[z-a]", "a{2,1}", "*"] {
        decode(&place, &["--regex", regex], 3, &["at byte ", "; rewrite the regex"]);
    }
    generate(&place, &["--recipe", "nune"], 2, &["no built-in recipe `nune`", "; use one of: instruction-response"]);
}

#[cfg(not(any(feature = "cuda", feature = "metal")))]
#[test]
fn a_device_that_this_build_lacks_names_the_feature() {
    let place = place();
    for (device, feature) in [("cuda", "cuda"), ("cuda:1", "cuda"), ("metal", "metal")] {
        generate(&place, &["--device", device], 2, &[&format!("--features {feature}"), "; build with"]);
    }
}

#[test]
fn recipes_that_cannot_be_used() {
    let place = place();
    let recipe = std::fs::read_to_string(fixture("recipe.yaml")).expect("the fixture");
    let changed = |from: &str, to: &str| {
        assert!(recipe.contains(from), "{from}");
        place.write("own.yaml", recipe.replace(from, to));
    };
    changed("max_attempts", "max_atempts");
    generate(&place, &["--recipe", "own.yaml"], 3, &["own.yaml: ", "line 4", "`max_atempts`", "max_attempts", "; "]);
    changed("Topic: {{ topic }}", "Topic: {{ topci }}");
    let parts = ["own.yaml: line 11: /steps/0/prompt: `topci` is not defined here", "; did you mean `topic`?"];
    generate(&place, &["--recipe", "own.yaml"], 3, &parts);
    changed("values: [bread, tides, chess, roads]", "values: []");
    generate(&place, &["--recipe", "own.yaml"], 3, &["own.yaml: line 7: ", "attribute `topic` has no values", "; add"]);
    changed("max_attempts: 30", "max_attempts: 0");
    generate(&place, &["--recipe", "own.yaml"], 3, &["own.yaml: line 4: ", "`max_attempts` is 0", "; use 1 or more"]);
    place.write("own.yaml", "name: [");
    generate(&place, &["--recipe", "own.yaml"], 3, &["own.yaml: ", "line 1", "; compare it"]);
    changed("schema: instruction-response", "schema: letters");
    generate(&place, &["--recipe", "own.yaml"], 2, &["grammar `letters`", "; use one of: instruction-response"]);
}

#[test]
fn a_directory_that_cannot_be_written() {
    let place = place();
    place.write("file", "");
    for output in ["file", "file/run"] {
        let told = place.run(&["generate", "--model", "model.toml", "-o", output]);
        told.refused(4, &[&format!("cannot create {output}"), "; a file stands in its way"]);
    }
    assert_eq!(place.read("file"), "");
}

/// A disk of its own, unmounted when dropped.
struct Disk(std::path::PathBuf);

impl Disk {
    fn mount(path: std::path::PathBuf, size: &str) -> Option<Self> {
        std::fs::create_dir(&path).expect("a directory");
        let options = format!("size={size}");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&path).output();
        mount.is_ok_and(|output| output.status.success()).then_some(Self(path))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Best effort: a failed unmount shows when the directory is removed.
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_leaves_whole_lines() {
    let place = place();
    let subjects: Vec<String> =
        (0..400).map(|n| format!(" Explain how bakers plan the morning of day {n}.\n")).collect();
    let answer = vec!["They start early and measure every part of it twice.".to_owned()];
    place.model("model.toml", 0, &[("Instruction:", subjects), ("assistant: ", answer)]);
    let Some(_disk) = Disk::mount(place.at("disk"), "64k") else {
        return crate::support::skip("DISK", "a full disk", "mounting a small tmpfs needs root");
    };
    let recipe = fixture("recipe.yaml");
    let run = |output: &str| {
        place.run(&["generate", "--model", "model.toml", "--recipe", &recipe, "-n", "300", "-o", output])
    };
    run("disk/run").refused(4, &["cannot write disk/run/re", "No space left", "; free some space"]);
    assert!(place.lines("disk/run/records.jsonl").len() > 5);
    place.lines("disk/run/rejects.jsonl");

    // No space from the start: nothing is left that the next run would trip over.
    let filler = vec![0; 1 << 20];
    assert!(std::fs::write(place.at("disk/filler"), filler).is_err(), "the disk is full");
    run("disk/second").refused(4, &["cannot ", "disk/second", "; free some space"]);
    assert!(!place.at("disk/second/run.lock.json").exists() && !place.at("disk/second/records.jsonl").exists());
}
