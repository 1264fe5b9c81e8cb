//! Runs with weights: a random decoder of two kilobytes a layer, whose rows only the grammar makes sense of.

use instil_model::gguf::{Array, GgmlType, Gguf, Metadata, Value};
use instil_model::model::{self, LoadOptions, Segment};
use instil_model::tokenizer::{EncodeOptions, Tokenizer};

use super::Place;
use crate::support::gguf_writer as write;

const HIDDEN: usize = 32;
const FEED_FORWARD: usize = 64;

/// Deterministic noise, as 32-bit floats.
fn noise(state: &mut u64, count: usize) -> Vec<u8> {
    let mut next = || {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 40) as f32 / 8_388_608.0 - 1.0
    };
    (0..count).flat_map(|_| next().to_le_bytes()).collect()
}

/// A llama of one layer over bytes, with random weights.
pub fn random_model() -> Vec<u8> {
    model_with(&[])
}

/// GPT-2's letters for bytes: printable ones stand for themselves, the others come after them.
pub fn letters() -> Vec<String> {
    let printable = |byte: &u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut others = 256..;
    let letter = |byte: u32| if printable(&byte) { byte } else { others.next().expect("an endless range") };
    (0..256).map(letter).map(|letter| char::from_u32(letter).expect("a letter").to_string()).collect()
}

/// The same with further metadata.
pub fn model_with(more: &[(&str, Value)]) -> Vec<u8> {
    let mut tokens = letters();
    tokens.push("<end>".into());
    let vocabulary = tokens.len();
    let kinds = (0..vocabulary as i64).map(|id| if id == 256 { 3 } else { 1 }).collect();
    let mut metadata = Metadata::new("random.gguf");
    for (key, value) in [
        ("general.architecture", Value::String("llama".into())),
        ("llama.block_count", Value::Unsigned(1)),
        ("llama.embedding_length", Value::Unsigned(HIDDEN as u64)),
        ("llama.feed_forward_length", Value::Unsigned(FEED_FORWARD as u64)),
        ("llama.attention.head_count", Value::Unsigned(2)),
        ("llama.attention.head_count_kv", Value::Unsigned(1)),
        ("llama.context_length", Value::Unsigned(4096)),
        ("llama.attention.layer_norm_rms_epsilon", Value::Float(1e-5)),
        ("tokenizer.ggml.model", Value::String("gpt2".into())),
        ("tokenizer.ggml.tokens", Value::Array(Array::String(tokens))),
        ("tokenizer.ggml.token_type", Value::Array(Array::Signed(kinds))),
        ("tokenizer.ggml.merges", Value::Array(Array::String(Vec::new()))),
        ("tokenizer.ggml.eos_token_id", Value::Unsigned(256)),
    ] {
        metadata.insert(key, value);
    }
    for (key, value) in more {
        metadata.insert(*key, value.clone());
    }
    let mut state = 1;
    let mut tensors = Vec::new();
    let half = HIDDEN as u64 / 2;
    let (hidden, feed_forward) = (HIDDEN as u64, FEED_FORWARD as u64);
    for (name, dims) in [
        ("token_embd.weight", vec![hidden, vocabulary as u64]),
        ("blk.0.attn_q.weight", vec![hidden, hidden]),
        ("blk.0.attn_k.weight", vec![hidden, half]),
        ("blk.0.attn_v.weight", vec![hidden, half]),
        ("blk.0.attn_output.weight", vec![hidden, hidden]),
        ("blk.0.ffn_gate.weight", vec![hidden, feed_forward]),
        ("blk.0.ffn_up.weight", vec![hidden, feed_forward]),
        ("blk.0.ffn_down.weight", vec![feed_forward, hidden]),
        ("blk.0.attn_norm.weight", vec![hidden]),
        ("blk.0.ffn_norm.weight", vec![hidden]),
        ("output_norm.weight", vec![hidden]),
    ] {
        let bytes = noise(&mut state, dims.iter().product::<u64>() as usize);
        tensors.push(write::Tensor { name: name.into(), dims, kind: GgmlType::F32, bytes });
    }
    write::to_bytes(&metadata, &tensors)
}

#[test]
fn a_run_goes_on_in_its_own_engine_and_arithmetic() {
    let place = Place::new();
    place.write("random.gguf", random_model());
    place.write(
        "recipe.yaml",
        "name: letters\nschema: instruction-response\nsteps:\n\
         - {field: instruction, prompt: 'Ask:', output: {regex: '[a-z ]{12,30}'}}\n\
         - {field: response, prompt: 'Answer:', output: {regex: '[a-z ]{12,30}'}}\n",
    );
    let run = |rest: &[&str]| place.run(&[&["generate"], rest].concat());
    let first = ["--model", "random.gguf", "--recipe", "recipe.yaml", "--seed", "2"];
    let planned = |more: &[&str]| run(&[&first, more].concat()).succeeded();
    planned(&["-n", "6", "-o", "kernels"]);
    planned(&["-n", "6", "-o", "whole", "--reference"]);
    planned(&["-n", "2", "-o", "grown", "--reference"]);
    assert_ne!(place.read("kernels/records.jsonl"), place.read("whole/records.jsonl"));
    // Other arithmetic is another plan, whether it is said with all flags or with one.
    let told = run(&[&first[..], &["-n", "6", "--resume", "-o", "grown"]].concat());
    told.refused(3, &["planned otherwise: model.arithmetic is \"f32-cpu\", not \"quantised\""]);
    let told = run(&["--resume", "-o", "kernels", "--reference"]);
    told.refused(3, &["planned otherwise: model.arithmetic is \"quantised\", not \"f32-cpu\""]);
    // Without a word about it the run goes on as it was planned.
    run(&["-n", "6", "--resume", "-o", "grown"]).succeeded();
    assert_eq!(place.read("grown/records.jsonl"), place.read("whole/records.jsonl"));

    planned(&["-n", "2", "-o", "baseline", "--engine", "outlines"]);
    run(&["--resume", "-o", "baseline", "--engine", "instil"])
        .refused(3, &["planned otherwise: engine is \"outlines\", not \"instil\""]);
    run(&["-n", "4", "--resume", "-o", "baseline"]).succeeded();
    planned(&["-n", "4", "-o", "baseline-whole", "--engine", "outlines"]);
    assert_eq!(place.read("baseline/records.jsonl"), place.read("baseline-whole/records.jsonl"));
    assert!(place.read("baseline/run.lock.json").contains("\"engine\": \"outlines\""));
}

#[test]
fn tokens_and_logits_are_shown_as_the_model_has_them() {
    let place = Place::new();
    place.write("random.gguf", random_model());
    let told = place.run(&["models", "tokenize", "random.gguf", "ab c", "--json"]).succeeded();
    let told: serde_json::Value = serde_json::from_str(&told.stdout).expect("JSON");
    assert_eq!(told["pieces"], serde_json::json!(["a", "b", " ", "c"]));
    place.run(&["models", "tokenize", "random.gguf", "a", "--chat"]).refused(3, &["has no chat template"]);

    place.write("ids.json", told["ids"].to_string());
    let logits = |name: &str, rest: &[&str]| {
        let told = place
            .run(&[&["models", "logits", "random.gguf", "--ids", "ids.json", "-o", name, "--json"], rest].concat());
        let told: serde_json::Value = serde_json::from_str(&told.succeeded().stdout).expect("JSON");
        assert_eq!(told, serde_json::json!({ "n": 4, "width": 257 }));
        std::fs::read(place.at(name)).expect("a file")
    };
    let whole = logits("whole.f32", &[]);
    assert_eq!(logits("pieces.f32", &["--chunk", "1"]), whole);
    let file = Gguf::parse(&random_model(), "random.gguf").expect("a file");
    let options = LoadOptions { reference: true, ..LoadOptions::default() };
    let mut model = model::load("random", &file, &candle_core::Device::Cpu, options).expect("a model");
    let tokens: Vec<u32> = serde_json::from_value(told["ids"].clone()).expect("ids");
    let sequence = model.sequences().create();
    let expected = model.forward(&[Segment { sequence, tokens: &tokens, logits: 4 }]).expect("it computes");
    let expected: Vec<u8> = expected.values().expect("values").iter().flat_map(|value| value.to_le_bytes()).collect();
    assert_eq!(logits("reference.f32", &["--reference", "--chunk", "4"]), expected);

    // Written whole or not at all.
    place.write("ids.json", "[97, 300]");
    place
        .run(&["models", "logits", "random.gguf", "--ids", "ids.json", "-o", "none.f32", "--chunk", "1"])
        .refused(2, &["no token 300"]);
    assert!(!place.at("none.f32").exists());
}

#[test]
fn a_model_in_several_files_is_one_model() {
    let place = Place::new();
    place.write("random.gguf", random_model());
    let file = Gguf::parse(&random_model(), "random.gguf").expect("a file");
    let (count, each) = (3, 4);
    let part = |number: usize, of: usize| {
        let mut metadata = if number == 0 { file.metadata().clone() } else { Metadata::new("part.gguf") };
        metadata.insert("split.no", Value::Unsigned(number as u64));
        metadata.insert("split.count", Value::Unsigned(of as u64));
        metadata.insert("split.tensors.count", Value::Signed(file.tensors().len() as i64));
        let tensors: Vec<_> = file.tensors().iter().skip(number * each).take(each).collect();
        let tensors: Vec<_> = tensors
            .iter()
            .map(|tensor| write::Tensor {
                name: tensor.name.clone(),
                dims: tensor.dims.clone(),
                kind: GgmlType::F32,
                bytes: file.bytes(tensor).expect("bytes").to_vec(),
            })
            .collect();
        write::to_bytes(&metadata, &tensors)
    };
    std::fs::create_dir(place.at("m")).expect("a folder");
    let name = |number: usize| format!("m/r-0000{}-of-00003.gguf", number + 1);
    (0..count).for_each(|number| place.write(&name(number), part(number, count)));
    place.write("ids.json", "[97, 98, 99]");
    let logits = |model: &str| {
        place.run(&["models", "logits", model, "--ids", "ids.json", "-o", "out.f32"]).succeeded();
        std::fs::read(place.at("out.f32")).expect("a file")
    };
    let whole = logits("random.gguf");
    // Any part, or the folder, stands for all.
    for model in [&*name(0), &name(2), "m"] {
        assert_eq!(logits(model), whole, "{model}");
    }
    place.write(
        "recipe.yaml",
        "name: letters\nschema: instruction-response\nsteps:\n\
         - {field: instruction, prompt: 'Ask:', output: {regex: '[a-z ]{12,30}'}}\n\
         - {field: response, prompt: 'Answer:', output: {regex: '[a-z ]{12,30}'}}\n",
    );
    let generate = ["generate", "--model", "m", "--recipe", "recipe.yaml", "-n", "1", "-o", "run"];
    place.run(&generate).succeeded();
    let plan: serde_json::Value = serde_json::from_str(&place.read("run/run.lock.json")).expect("JSON");
    assert_eq!(plan["model"]["sha256"].as_array().map(Vec::len), Some(count), "every part is summed");

    let refused = |parts: &[&str]| {
        let told = place.run(&["models", "logits", &name(0), "--ids", "ids.json", "-o", "none.f32"]);
        told.refused(3, parts);
    };
    place.write(&name(1), part(2, count));
    refused(&["00002-of-00003.gguf", "says that it is part 3 of 3"]);
    place.write(&name(1), part(1, 2));
    refused(&["00002-of-00003.gguf", "says that it is part 2 of 2"]);
    std::fs::remove_file(place.at(&name(1))).expect("removed");
    refused(&["r-00002-of-00003.gguf is missing"]);
    std::fs::rename(place.at(&name(0)), place.at("alone.gguf")).expect("renamed");
    place
        .run(&["models", "tokenize", "alone.gguf", "a"])
        .refused(3, &["is part 1 of 3", "which its name does not say"]);
}

#[test]
fn what_had_to_be_guessed_is_told() {
    let place = Place::new();
    place.write("random.gguf", model_with(&[("tokenizer.ggml.eot_token_id", Value::Unsigned(999_999))]));
    place.write("ids.json", "[97]");
    let told = place.run(&["models", "logits", "random.gguf", "--ids", "ids.json", "-o", "out.f32"]).succeeded();
    assert!(told.stderr.contains("(tokenizer.ggml.pre): tokens may be wrong"), "{}", told.stderr);
    assert!(told.stderr.contains("`tokenizer.ggml.eot_token_id` is 999999"), "{}", told.stderr);
    place.write("said.gguf", model_with(&[("tokenizer.ggml.pre", Value::String("gpt-2".into()))]));
    let told = place.run(&["models", "logits", "said.gguf", "--ids", "ids.json", "-o", "out.f32"]).succeeded();
    assert!(!told.stderr.contains("tokenizer.ggml"), "{}", told.stderr);
}

/// Mean surprise of the last `count` of `tokens`, in nats, worked out from the logits.
fn surprise(model: &mut dyn model::Model, tokens: &[u32], count: usize) -> f64 {
    let sequence = model.sequences().create();
    let logits = model.forward(&[Segment { sequence, tokens, logits: tokens.len() }]).expect("it computes");
    model.sequences().free(sequence);
    let of = |at: usize| {
        let row: Vec<f64> = logits.row(at - 1).expect("a row").iter().map(|logit| f64::from(*logit)).collect();
        row.iter().map(|logit| logit.exp()).sum::<f64>().ln() - row[tokens[at] as usize]
    };
    (tokens.len() - count..tokens.len()).map(of).sum::<f64>() / count as f64
}

#[test]
fn the_difficulty_of_an_answer_is_measured_against_the_answer_alone() {
    let place = Place::new();
    place.write(
        "difficulty.yaml",
        "name: difficulty\nschema: any\nseeds: {keep: true}\nsteps:\n\
         - field: ifd\n  prompt: 'Q: {{ seed.instruction }} A:'\n\
         \x20 output: {likelihood: {text: ' {{ seed.response }}', measure: ifd}}\n",
    );
    let rows = [("Name a tree.", "An old oak."), ("Why?", "So"), ("Count.", "1 2 3 4 5 6 7 8 9")];
    let lines = rows.map(|(ask, answer)| serde_json::json!({"instruction": ask, "response": answer}).to_string());
    place.write("rows.jsonl", lines.join("\n"));
    let begins: &[(&str, Value)] =
        &[("tokenizer.ggml.bos_token_id", Value::Unsigned(256)), ("tokenizer.ggml.add_bos_token", Value::Bool(true))];
    for (name, more) in [("none", &[][..]), ("begins", begins)] {
        let weights = format!("{name}.gguf");
        place.write(&weights, model_with(more));
        let judge = ["judge", "rows.jsonl", "--recipe", "difficulty.yaml", "--model", &weights, "-o", name];
        place.run(&judge).succeeded();
        let file = Gguf::open(place.at(&weights)).expect("a model");
        let tokenizer = Tokenizer::from_gguf(file.metadata(), "random").expect("a tokenizer");
        let device = candle_core::Device::Cpu;
        let mut model = model::load("random", &file, &device, LoadOptions::default()).expect("weights");
        let encode = |text: &str, add_bos| tokenizer.encode(text, EncodeOptions { special: false, add_bos });
        for (row, (ask, answer)) in place.lines(&format!("{name}/records.jsonl")).iter().zip(rows) {
            let answer = encode(&format!(" {answer}"), false).expect("tokens");
            let asked = encode(&format!("Q: {ask} A:"), true).expect("tokens");
            let with = surprise(&mut *model, &[&asked[..], &answer].concat(), answer.len());
            // Alone: after the beginning of a sequence, or else from the second token on.
            let alone = [encode("", true).expect("tokens"), answer.clone()].concat();
            let without = surprise(&mut *model, &alone, alone.len() - 1);
            let score = &row["meta"]["scores"]["ifd"];
            for (key, by_hand) in [("nats_with", with), ("nats_without", without), ("expected", with / without)] {
                let told = score[key].as_f64().expect("a number");
                assert!((told - by_hand).abs() < 1e-3, "{name}, {key}: {told}, by hand {by_hand}: {row}");
            }
        }
    }
}

#[test]
fn the_memory_of_two_models_is_told() {
    let place = Place::new();
    place.write("writer.gguf", random_model());
    place.write("judge.gguf", model_with(&[("general.name", Value::String("judge".into()))]));
    place.write("rows.jsonl", "{\"instruction\": \"Why?\", \"response\": \"So it is.\"}\n");
    place.write(
        "both.yaml",
        "name: both\nschema: any\nseeds: {rounds: 1}\nsteps:\n\
         - {field: text, prompt: 'Ask:', output: {regex: '[a-z ]{12,30}'}}\n\
         - {field: fit, prompt: '{{ text }}', output: {score: {choices: [a, b]}}}\n",
    );
    let run = |rest: &[&str]| {
        let judge = ["answer", "rows.jsonl", "--recipe", "both.yaml", "--model", "writer.gguf"];
        place.run(&[&judge[..], &["--judge-model", "judge.gguf"], rest].concat()).succeeded()
    };
    let told = run(&["-o", "told"]).stderr;
    assert!(told.contains("memory: writer 0.1 MB of weights, 0.0 MB of keys and values; judge judge 0.1 MB"), "{told}");
    let summary: serde_json::Value = serde_json::from_str(&run(&["-o", "run", "--json"]).stdout).expect("JSON");
    let memory = &summary["memory"];
    // 21,600 weights of four bytes, outputs in groups of 16; blocks of 32 positions of one layer with 16 keys and 16
    // values of two bytes.
    let weights = 4 * (272 * 32 + 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64 + 3 * 32);
    for (at, name, blocks) in [(0, "writer", 2), (1, "judge", 1)] {
        let model = &memory[at];
        assert_eq!(
            (model["model"].as_str(), model["weight_bytes"].as_u64(), model["key_value_bytes"].as_u64()),
            (Some(name), Some(weights), Some(blocks * 32 * 32 * 2)),
            "{memory}"
        );
    }
    let report = place.run(&["report", "run"]).succeeded().stdout;
    assert!(report.contains("judge: 0.1 MB of weights, 0.0 MB of keys and values at most"), "{report}");
}
