//! Folders of safetensors give the bits that GGUF files of the same weights give, and refuse in one line.

use std::path::Path;
use std::process::Command;

use instil_model::gguf::{GgmlType, Gguf};
use instil_model::model::checkpoint;
use instil_model::model::needs::Needs;
use instil_model::model::quantise::Quantisation;
use instil_model::model::{self, Checkpoint, LoadOptions, Segment};
use instil_model::tokenizer::EncodeOptions;
use serde_json::{Value, json};

use crate::program::weights::{letters, random_model};
use crate::support::folder;
use crate::support::random_model::{EXPERTS, Entry, Experts, LLAMA, Shape, bytes};

/// Logits after each of some tokens, by the decoder and by the reference.
fn logits(file: &dyn Checkpoint) -> [Vec<f32>; 2] {
    [false, true].map(|reference| {
        let options = LoadOptions { reference, ..LoadOptions::default() };
        let mut model = model::load("m", file, &candle_core::Device::Cpu, options).expect("a model");
        let sequence = model.sequences().create();
        let tokens: Vec<u32> = (0..60).map(|at| at * 7 % 97).collect();
        let logits = model.forward(&[Segment { sequence, tokens: &tokens, logits: tokens.len() }]).expect("logits");
        logits.values().expect("values").to_vec()
    })
}

const PLAIN: Shape = Shape { kind: GgmlType::F32, head_kind: GgmlType::F32, ..LLAMA };

#[test]
fn a_folder_gives_the_bits_of_the_gguf_file() {
    let yarn = &[
        ("rope.scaling.type", Entry::Text("yarn")),
        ("rope.scaling.factor", Entry::Real(4.0)),
        ("rope.scaling.original_context_length", Entry::Number(64)),
    ];
    let yarn_config =
        json!({ "rope_scaling": { "type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64 } });
    for (shape, model_type, more) in [
        (Shape { biases: true, tied: false, ..PLAIN }, "llama", Value::Null),
        (Shape { kind: GgmlType::F16, head_kind: GgmlType::BF16, ..PLAIN }, "llama", Value::Null),
        (Shape { entries: &[("attention.sliding_window", Entry::Number(33))], ..PLAIN }, "mistral", Value::Null),
        (
            Shape { family: "qwen2", biases: true, ..PLAIN },
            "qwen2",
            json!({ "use_sliding_window": false, "sliding_window": 9 }),
        ),
        (Shape { family: "qwen3", head_dim: 32, entries: yarn, ..PLAIN }, "qwen3", yarn_config),
        (
            Shape { family: "qwen3moe", kind: GgmlType::BF16, experts: Some(Experts { used: 3, ..EXPERTS }), ..PLAIN },
            "qwen3_moe",
            json!({ "norm_topk_prob": true }),
        ),
        (Shape { family: "phi3", joined: true, tied: false, ..PLAIN }, "phi3", Value::Null),
        (Shape { family: "olmo2", tied: false, ..PLAIN }, "olmo2", Value::Null),
        (
            Shape {
                family: "gemma3",
                layers: 7,
                entries: &[
                    ("attention.sliding_window", Entry::Number(20)),
                    ("rope.freq_base", Entry::Real(1e6)),
                    ("rope.scaling.type", Entry::Text("linear")),
                    ("rope.scaling.factor", Entry::Real(8.0)),
                    ("attention.scale", Entry::Real(0.25)),
                ],
                ..PLAIN
            },
            "gemma3_text",
            json!({ "rope_theta": 1e6, "rope_local_base_freq": 1e4, "query_pre_attn_scalar": 16,
                "rope_scaling": { "rope_type": "linear", "factor": 8.0 } }),
        ),
    ] {
        let file = Gguf::parse(&bytes(shape, 11), "random").expect("a file");
        let place = tempfile::tempdir().expect("a folder");
        for files in [1, 3] {
            let there = place.path().join(files.to_string());
            folder::write(&there, &file, model_type, files, &more);
            let found = checkpoint::open(&there).unwrap_or_else(|error| panic!("{model_type}: {error}"));
            assert_eq!(logits(&*found), logits(&file), "{shape:?} in {files} files");
            assert_eq!(Needs::of("m", &*found).expect("needs"), Needs::of("m", &file).expect("needs"), "{shape:?}");
        }
    }
}

/// Largest difference of logits in standard deviations.
fn apart(one: &[f32], other: &[f32]) -> f32 {
    let mean = one.iter().sum::<f32>() / one.len() as f32;
    let deviation = (one.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / one.len() as f32).sqrt();
    one.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / deviation
}

#[test]
fn floats_become_blocks_as_they_are_read() {
    let place = tempfile::tempdir().expect("a folder");
    let wide = Shape { hidden: 256, feed_forward: 512, kind: GgmlType::BF16, head_kind: GgmlType::BF16, ..PLAIN };
    let experts = Shape { family: "qwen3moe", kind: GgmlType::F16, experts: Some(EXPERTS), ..PLAIN };
    for (shape, model_type) in [(wide, "llama"), (experts, "qwen3_moe")] {
        let file = Gguf::parse(&bytes(shape, 11), "random").expect("a file");
        let there = place.path().join(model_type);
        folder::write(&there, &file, model_type, 1, &json!({ "norm_topk_prob": true }));
        let found = checkpoint::open(&there).expect("a folder");
        let of = |file: &dyn Checkpoint, quantise: Option<Quantisation>| {
            let options = LoadOptions { quantise, ..LoadOptions::default() };
            let mut model = model::load("m", file, &candle_core::Device::Cpu, options).expect("a model");
            let sequence = model.sequences().create();
            let segment = Segment { sequence, tokens: &[5, 3, 80, 41], logits: 4 };
            let logits = model.forward(&[segment]).expect("logits").values().expect("values").to_vec();
            (logits, model.weight_bytes())
        };
        let (whole, whole_bytes) = of(&*found, None);
        for (to, most, share) in
            [(Quantisation::Q8_0, 0.2, 0.6), (Quantisation::Q4_0, 1.6, 0.4), (Quantisation::Q4K, 1.2, 0.6)]
        {
            let (made, made_bytes) = of(&*found, Some(to));
            let distance = apart(&whole, &made);
            assert!(distance > 0.0 && distance < most, "{model_type} {to:?}: {distance}");
            let size = made_bytes as f32 / whole_bytes as f32;
            assert!(size < share, "{model_type} {to:?}: {size}");
            // The same from a GGUF file of floats.
            assert_eq!(of(&file, Some(to)).0, made, "{model_type} {to:?}");
        }
    }
}

/// The value of an 8-bit float, by its definition.
fn eight(bits: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(bits >> 3 & 15), f32::from(bits & 7) / 8.0);
    let size = if exponent == 0 { mantissa * 2f32.powi(-6) } else { (1.0 + mantissa) * 2f32.powi(exponent - 7) };
    if bits & 128 == 0 { size } else { -size }
}

/// Bytes that depend on what they are for.
fn noise(name: &str, count: usize) -> Vec<u8> {
    let start = name.bytes().fold(7u32, |all, byte| all.wrapping_mul(31).wrapping_add(u32::from(byte)));
    let next = |state: &mut u32| {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Some((*state >> 24) as u8)
    };
    std::iter::repeat_with({
        let mut state = start;
        move || next(&mut state).expect("always one")
    })
    .take(count)
    .collect()
}

/// Sets a key of a folder's configuration.
fn configure(folder: &Path, key: &str, value: Value) {
    let place = folder.join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&place).expect("a file")).expect("JSON");
    config[key] = value;
    std::fs::write(place, config.to_string()).expect("a file");
}

/// Logits of the reference, and those of the decoder with its matrices in `kind`.
fn both(folder: &Path, quantise: Option<Quantisation>) -> [Vec<f32>; 2] {
    let file = checkpoint::open(folder).unwrap_or_else(|error| panic!("{error}"));
    [true, false].map(|reference| {
        let quantise = quantise.filter(|_| !reference);
        let options = LoadOptions { reference, quantise, ..LoadOptions::default() };
        let mut model = model::load("m", &*file, &candle_core::Device::Cpu, options).expect("a model");
        let sequence = model.sequences().create();
        let tokens: Vec<u32> = (0..40).map(|at| at * 7 % 97).collect();
        let logits = model.forward(&[Segment { sequence, tokens: &tokens, logits: tokens.len() }]).expect("logits");
        logits.values().expect("values").to_vec()
    })
}

/// Floats of 8 bits with a scale for each block, row or matrix are the products.
#[test]
fn eight_bit_floats_are_read_with_their_scales() {
    let place = tempfile::tempdir().expect("a folder");
    let experts = Shape { family: "qwen3moe", experts: Some(EXPERTS), ..PLAIN };
    let blocks = json!({ "quant_method": "fp8", "weight_block_size": [24, 40] });
    let rows = json!({ "quant_method": "compressed-tensors", "format": "float-quantized" });
    for (at, (shape, model_type, config, ending)) in [
        (PLAIN, "llama", &blocks, "_scale_inv"),
        (experts, "qwen3_moe", &blocks, "_scale_inv"),
        (PLAIN, "llama", &rows, "_scale"),
        (PLAIN, "llama", &json!({ "quant_method": "fp8" }), "_scale"),
    ]
    .into_iter()
    .enumerate()
    {
        let file = Gguf::parse(&bytes(shape, 11), "random").expect("a file");
        let there = |name: &str| place.path().join(format!("{at}-{name}"));
        folder::write(&there("floats"), &file, model_type, 1, &json!({ "norm_topk_prob": true }));
        let is_matrix =
            |name: &str, shape: &[usize]| shape.len() == 2 && name.contains("layers.") && !name.contains("mlp.gate.");
        // Blocks that do not divide the matrix; one scale for each row; one for all.
        let block = |[outputs, inputs]: [usize; 2]| match at {
            0 | 1 => [24, 40],
            2 => [1, inputs],
            _ => [outputs, inputs],
        };
        let made = |name: &str, shape: &[usize]| {
            let [outputs, inputs] = [shape[0], shape[1]];
            // Without the two that are no numbers.
            let bits: Vec<u8> = noise(name, outputs * inputs).into_iter().map(|bits| bits & 0xbf).collect();
            let [high, wide] = block([outputs, inputs]);
            let scales = noise(ending, outputs.div_ceil(high) * inputs.div_ceil(wide));
            (bits, scales.into_iter().map(|bits| (f32::from(bits) + 9.0) / 1300.0).collect::<Vec<f32>>())
        };
        folder::rewrite(&there("floats"), &there("eights"), |name, dtype, shape, bytes| {
            let one = |name: String, dtype: &str, shape: &[usize], bytes: Vec<u8>| folder::Written {
                name,
                dtype: dtype.into(),
                shape: shape.to_vec(),
                bytes,
            };
            if !is_matrix(name, shape) {
                return vec![one(name.into(), dtype, shape, bytes.to_vec())];
            }
            let (bits, scales) = made(name, shape);
            let [high, wide] = block([shape[0], shape[1]]);
            let extents = match at {
                3 => vec![],
                _ => vec![shape[0].div_ceil(high), shape[1].div_ceil(wide)],
            };
            let scales = scales.into_iter().flat_map(f32::to_le_bytes).collect();
            vec![one(name.into(), "F8_E4M3", shape, bits), one(format!("{name}{ending}"), "F32", &extents, scales)]
        });
        configure(&there("eights"), "quantization_config", config.clone());
        folder::rewrite(&there("floats"), &there("products"), |name, dtype, shape, bytes| {
            let mut written = folder::Written {
                name: name.into(),
                dtype: dtype.into(),
                shape: shape.to_vec(),
                bytes: bytes.to_vec(),
            };
            if is_matrix(name, shape) {
                let (bits, scales) = made(name, shape);
                let [high, wide] = block([shape[0], shape[1]]);
                let across = shape[1].div_ceil(wide);
                let value = |at: usize| {
                    let (row, column) = (at / shape[1], at % shape[1]);
                    eight(bits[at]) * scales[row / high * across + column / wide]
                };
                written.bytes = (0..bits.len()).flat_map(|at| value(at).to_le_bytes()).collect();
            }
            vec![written]
        });
        let found = both(&there("eights"), None);
        // But for a reference, they are computed with in 16 bits.
        assert_eq!(found, both(&there("products"), Some(Quantisation::F16)), "{at}");
        let needs = |name: &str| Needs::of("m", &*checkpoint::open(&there(name)).expect("a folder")).expect("needs");
        assert!(needs("eights").weight_bytes * 3 < needs("products").weight_bytes * 2, "{at}");
        // Blocks of 8 bits are made of the products, not of what those were rounded to.
        let eights = both(&there("eights"), Some(Quantisation::Q8_0));
        assert_eq!(eights, both(&there("products"), Some(Quantisation::Q8_0)), "{at}");
    }
}

/// Experts of gpt-oss in 4-bit floats, as its makers publish them.
#[test]
fn four_bit_floats_of_experts_are_read_with_their_scales() {
    const VALUES: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    let theirs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/families/gpt-oss");
    let place = tempfile::tempdir().expect("a folder");
    let is_matrix = |name: &str| name.ends_with("experts.gate_up_proj") || name.ends_with("experts.down_proj");
    // Of a matrix (experts, inputs, outputs): two numbers in a byte, and exponents.
    let made = |name: &str, shape: &[usize]| {
        let blocks = shape.iter().product::<usize>() / 32;
        let exponents: Vec<u8> = noise("exponents", blocks).into_iter().map(|bits| 119 + bits % 4).collect();
        (noise(name, blocks * 16), exponents)
    };
    folder::rewrite(&theirs, &place.path().join("fours"), |name, dtype, shape, bytes| {
        let one = |name: String, dtype: &str, shape: Vec<usize>, bytes| folder::Written {
            name,
            dtype: dtype.into(),
            shape,
            bytes,
        };
        if !is_matrix(name) {
            return vec![one(name.into(), dtype, shape.to_vec(), bytes.to_vec())];
        }
        let (fours, exponents) = made(name, shape);
        let extents = vec![shape[0], shape[2], shape[1] / 32];
        vec![
            one(format!("{name}_blocks"), "U8", [extents.as_slice(), &[16]].concat(), fours),
            one(format!("{name}_scales"), "U8", extents, exponents),
        ]
    });
    configure(&place.path().join("fours"), "quantization_config", json!({ "quant_method": "mxfp4" }));
    folder::rewrite(&theirs, &place.path().join("products"), |name, dtype, shape, bytes| {
        let (mut dtype, mut bytes) = (dtype.to_owned(), bytes.to_vec());
        if is_matrix(name) {
            let (fours, exponents) = made(name, shape);
            let [_, inputs, outputs] = shape else { panic!("{shape:?}") };
            let value = |at: usize| {
                let (expert, input, output) = (at / (inputs * outputs), at / outputs % inputs, at % outputs);
                let place = (expert * outputs + output) * inputs + input;
                let four = fours[place / 2] >> (place % 2 * 4);
                let size = VALUES[usize::from(four & 7)] * 2f32.powi(i32::from(exponents[place / 32]) - 127);
                if four & 8 == 0 { size } else { -size }
            };
            bytes = (0..shape.iter().product()).flat_map(|at| value(at).to_le_bytes()).collect();
            dtype = "F32".into();
        }
        vec![folder::Written { name: name.into(), dtype, shape: shape.to_vec(), bytes }]
    });
    let [found, decoded] = both(&place.path().join("fours"), None);
    let [expected, _] = both(&place.path().join("products"), None);
    assert!(apart(&expected, &found) < 1e-5, "{}", apart(&expected, &found));
    assert!(apart(&expected, &decoded) < 0.2, "{}", apart(&expected, &decoded));
    let file = checkpoint::open(&place.path().join("fours")).expect("a folder");
    assert_eq!(file.kind("blk.0.ffn_up_exps.weight").expect("a type"), GgmlType::MXFP4);
}

#[test]
fn the_text_of_a_model_that_sees_is_read() {
    let place = tempfile::tempdir().expect("a folder");
    let shape = Shape { tied: false, ..PLAIN };
    let file = Gguf::parse(&bytes(shape, 5), "random").expect("a file");
    let older = |name: &str| format!("language_model.{name}");
    let newer = |name: &str| match name.strip_prefix("model.") {
        Some(rest) => format!("model.language_model.{rest}"),
        None => name.to_owned(),
    };
    for (at, rename) in [&older as &dyn Fn(&str) -> String, &newer].into_iter().enumerate() {
        let there = place.path().join(at.to_string());
        folder::write(&there, &file, "mistral", 1, &Value::Null);
        folder::surround(&there, "mistral3", rename);
        let found = checkpoint::open(&there).expect("a folder");
        assert_eq!(logits(&*found), logits(&file));
    }
}

#[test]
fn rotary_frequencies_are_stretched_as_the_makers_say() {
    let place = tempfile::tempdir().expect("a folder");
    let file = Gguf::parse(&bytes(PLAIN, 3), "random").expect("a file");
    let rope = json!({ "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 64 });
    folder::write(place.path(), &file, "llama", 1, &json!({ "rope_parameters": rope }));
    let found = checkpoint::open(place.path()).expect("a folder");
    let stored = found.stored("rope_freqs.weight").expect("factors");
    let factors: Vec<f32> = stored.bytes.as_chunks::<4>().0.iter().map(|&value| f32::from_le_bytes(value)).collect();
    // By the library's formula: wave lengths 2π · 500000^(2i/16) against 64/4 and 64/1.
    assert_eq!((factors.len(), factors[0]), (8, 1.0));
    let smooth = (64.0 / (std::f64::consts::TAU * 5e5_f64.powf(0.125)) - 1.0) / 3.0;
    assert!((f64::from(factors[1]) - 1.0 / ((1.0 - smooth) / 8.0 + smooth)).abs() < 1e-6, "{factors:?}");
    assert!(factors[2..].iter().all(|&factor| factor == 8.0), "{factors:?}");
}

/// The program, offline, in a home of its own.
fn run(home: &Path, arguments: &[&str]) -> (bool, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_instil"));
    command.args(arguments).current_dir(home).env_clear().env("HOME", home).env("HF_HUB_OFFLINE", "1");
    let output = command.output().expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_model_is_written_as_a_gguf_file_of_another_type() {
    let home = tempfile::tempdir().expect("a home");
    let there = |name: &str| home.path().join(name);
    // Rotary pairs apart, where GGUF has them side by side; biases.
    let llama = Shape { biases: true, kind: GgmlType::BF16, ..PLAIN };
    let file = Gguf::parse(&bytes(llama, 11), "random").expect("a file");
    folder::write(&there("llama"), &file, "llama", 1, &Value::Null);
    // As many of the letters as it has tokens for.
    folder::write_tokenizer(&there("llama"), &letters()[..98]);
    let write = |from: &str, to: &str, more: &[&str]| {
        run(home.path(), &[&["models", "quantize", from, to, "--json"][..], more].concat())
    };
    for kind in ["f32", "f16", "bf16", "q8_0", "q4_0"] {
        let name = format!("{kind}.gguf");
        let (is_good, out, error) = write("llama", &name, &["--type", kind]);
        assert!(is_good, "{kind}: {error}");
        let told: Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(told["size_bytes"], std::fs::metadata(there(&name)).expect("a file").len(), "{kind}");
        let made = checkpoint::open(&there(&name)).expect("a file");
        let from = checkpoint::open(&there("llama")).expect("a folder");
        let quantise = Quantisation::of_file(kind).expect("a type");
        let [_, expected] = both(&there("llama"), Some(quantise));
        assert_eq!(both(&there(&name), None)[1], expected, "{kind}");
        let text = "TWO WORDS, 12!";
        let encode = |file: &dyn Checkpoint| {
            file.tokenizer("m").expect("a tokenizer").encode(text, EncodeOptions::default()).expect("ids")
        };
        assert_eq!(encode(&*made), encode(&*from));
        assert_eq!(made.tokenizer("m").expect("one").eos(), from.tokenizer("m").expect("one").eos());
    }
    // From GGUF to GGUF, keys and all.
    let (is_good, _, error) = write("f32.gguf", "again.gguf", &["--type", "q8_0"]);
    assert!(is_good, "{error}");
    let read = |name: &str| std::fs::read(there(name)).expect("a file");
    assert_eq!(both(&there("again.gguf"), None), both(&there("q8_0.gguf"), None));
    // Nothing is written over, nothing is done that changes nothing, and nothing is left behind.
    let before = read("again.gguf");
    let (is_good, _, error) = write("f32.gguf", "again.gguf", &["--type", "q4_0"]);
    assert!(!is_good && error.contains("there is a file of this name already"), "{error}");
    let (is_good, _, error) = write("q4_0.gguf", "none.gguf", &["--type", "q8_0"]);
    assert!(!is_good && error.contains("holds no floats that q8_0 would change"), "{error}");
    assert_eq!((read("again.gguf"), there("none.gguf").exists()), (before.clone(), false));
    assert!(write("f32.gguf", "again.gguf", &["--type", "q4_0", "--force"]).0);
    assert_ne!(read("again.gguf"), before);
    let (is_good, _, error) = write("f32.gguf", "none.gguf", &["--type", "q3_k"]);
    assert!(!is_good && error.contains("unknown type `q3_k`; use q8_0, q4_0, q4_k, f16, bf16, f32"), "{error}");
    let left = std::fs::read_dir(home.path())
        .expect("a folder")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut left: Vec<String> = left.filter(|name| !name.starts_with('.')).collect();
    left.sort();
    assert_eq!(left, ["again.gguf", "bf16.gguf", "f16.gguf", "f32.gguf", "llama", "q4_0.gguf", "q8_0.gguf"]);
}

/// A folder with everything that a model needs.
fn whole(folder: &Path) {
    let file = Gguf::parse(&random_model(), "random").expect("a file");
    // What the file does not say, this width follows from.
    folder::write(folder, &file, "qwen2", 2, &json!({}));
    folder::write_tokenizer(folder, &letters());
}

#[test]
fn the_program_takes_a_folder_wherever_it_takes_a_file() {
    let home = tempfile::tempdir().expect("a folder");
    whole(&home.path().join("model"));
    let shard = "model/model-00001-of-00002.safetensors";
    let mut told = Vec::new();
    for model in ["model", shard] {
        let arguments = ["decode", "--model", model, "--regex", "[a-z]{6}", "--seed", "5", "-n", "3", "-q"];
        let (is_good, out, error) = run(home.path(), &arguments);
        assert!(is_good && out.lines().count() == 3, "{error}");
        told.push(out);
    }
    assert_eq!(told[0], told[1]);
    let (is_good, out, error) = run(home.path(), &["models", "tokenize", "model", "ab<end>"]);
    assert!(is_good && out.lines().count() == 7, "{error}{out}");
    let (is_good, out, error) = run(home.path(), &["models", "fit", "model"]);
    assert!(is_good && out.contains("qwen2, 0.00 billion weights"), "{error}{out}");
    let (is_good, out, _) = run(home.path(), &["models", "path", "model"]);
    assert!(is_good && out.trim_end().ends_with("model-00001-of-00002.safetensors"), "{out}");
    // A run keeps the sums of all that it was read from.
    let recipe = "name: letters\nschema: instruction-response\nsteps:\n\
                  - {field: instruction, prompt: 'Ask:', output: {regex: '[a-z ]{12,30}'}}\n\
                  - {field: response, prompt: 'Answer:', output: {regex: '[a-z ]{12,30}'}}\n";
    std::fs::write(home.path().join("recipe.yaml"), recipe).expect("a file");
    let (is_good, _, error) =
        run(home.path(), &["generate", "--model", "model", "--recipe", "recipe.yaml", "-n", "2", "-o", "run"]);
    assert!(is_good, "{error}");
    let lock = std::fs::read_to_string(home.path().join("run/run.lock.json")).expect("a lock");
    let lock: Value = serde_json::from_str(&lock).expect("JSON");
    assert_eq!(
        (lock["model"]["name"].as_str(), lock["model"]["sha256"].as_array().map(Vec::len)),
        (Some("model"), Some(6))
    );
    let (is_good, _, error) = run(home.path(), &["generate", "--resume", "-n", "3", "-o", "run"]);
    assert!(is_good, "{error}");

    // Quantised weights are another plan, and go on as such.
    let smaller =
        ["generate", "--model", "model", "--recipe", "recipe.yaml", "-n", "2", "-o", "small", "--quantize", "q8_0"];
    let (is_good, _, error) = run(home.path(), &smaller);
    assert!(is_good, "{error}");
    let (is_good, _, error) = run(home.path(), &["generate", "--resume", "-n", "3", "-o", "small"]);
    assert!(is_good, "{error}");
    let (is_good, _, error) = run(home.path(), &["generate", "--resume", "-o", "run", "--quantize", "q8_0"]);
    assert!(!is_good && error.contains("planned otherwise: model.quantised is null, not \"q8_0\""), "{error}");
    let (is_good, _, error) = run(home.path(), &["decode", "--model", "model", "--choice", "a,b", "--quantize", "q3"]);
    assert!(!is_good && error.contains("unknown quantisation `q3`; use q8_0, q4_0, q4_k"), "{error}");
}

#[test]
fn a_folder_that_cannot_be_read_is_refused_in_one_line() {
    let home = tempfile::tempdir().expect("a folder");
    let model = home.path().join("model");
    let change = |name: &str, to: &dyn Fn(Vec<u8>) -> Vec<u8>| {
        let path = model.join(name);
        let bytes = to(std::fs::read(&path).expect("a file"));
        std::fs::write(path, bytes).expect("a file");
    };
    let replace = |name: &'static str, from: &'static str, to: &'static str| {
        change(name, &|bytes| {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            assert!(text.contains(from), "{from}");
            let at = text.find(from).expect("it is there");
            [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat()
        });
    };
    let shard = "model-00002-of-00002.safetensors";
    let cases: [(&dyn Fn(), &str); 10] = [
        (
            &|| std::fs::remove_file(model.join(shard)).expect("gone"),
            "model-00002-of-00002.safetensors: is missing beside",
        ),
        (&|| std::fs::remove_file(model.join("tokenizer.json")).expect("gone"), "in safetensors and no tokenizer.json"),
        (&|| std::fs::remove_file(model.join("config.json")).expect("gone"), "in safetensors and no config.json"),
        (&|| change(shard, &|bytes| bytes[..bytes.len() - 5].to_vec()), "incomplete or damaged; get the file again"),
        (&|| change(shard, &|bytes| bytes[..5].to_vec()), "is too short for weights"),
        (&|| replace("config.json", "\"qwen2\"", "\"mamba\""), "model_type `mamba` is not read from safetensors"),
        (
            &|| replace("config.json", "{", "{\"quantization_config\": {\"quant_method\": \"awq\"},"),
            "holds weights quantised by awq, which are not read; use the model as it was before",
        ),
        (
            &|| replace("config.json", "\"num_hidden_layers\"", "\"layers_of_it\""),
            "has no number at `num_hidden_layers`",
        ),
        (&|| replace("config.json", "{", "{\"hidden_act\": \"relu\","), "hidden_act is relu, where silu is computed"),
        (
            &|| {
                replace(
                    "model.safetensors.index.json",
                    "model-00002-of-00002.safetensors",
                    "../00002-of-00002.safetensors",
                );
            },
            "leaves its folder",
        ),
    ];
    for (spoil, expected) in cases {
        whole(&model);
        spoil();
        let (is_good, out, error) = run(home.path(), &["decode", "--model", "model", "--choice", "a,b"]);
        assert!(!is_good && out.is_empty(), "{expected}");
        assert!(error.contains(expected) && error.lines().count() == 1, "{expected}: {error}");
    }
}
