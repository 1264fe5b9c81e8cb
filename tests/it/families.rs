//! Decoder families against candle-transformers' modules over the same weights in f32, and against
//! themselves where two files must mean the same; and against the transformers library's logits, by files that
//! llama.cpp's converter wrote and folders that the library did (`fixtures/families/make.py`).
//!
//! The modules are read with what is known of them. A sliding window of `w` shows them `w + 1` positions
//! (their mask drops `j < i − w`), and only in the pass that reads a prompt, so each length is read afresh,
//! with a window smaller by one. `gemma2` slides in every layer; `gemma3` takes one key head only.
//! `quantized_gemma3` has SiLU for GELU, so the unquantised module stands in for it. `phi3` multiplies by
//! LongRoPE's factors where the model divides (it gets their inverses here) and leaves the attention factor
//! out; `quantized_phi3` knows neither, nor a rotation of a part of a head. `quantized_llama` ignores every
//! rope scaling, `granite` its four scales; `quantized_qwen3` has angles in half precision unless told
//! otherwise; no module has YaRN.

use std::collections::HashMap;
use std::io::Cursor;
use std::path::Path;

use candle_core::quantized::gguf_file::Content;
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models;
use instil_model::gguf::{Array, GgmlType, Gguf, Metadata, Value as Entered};
use instil_model::model::decoder::Decoder;
use instil_model::model::reference::Reference;
use instil_model::model::{Model, Segment, checkpoint};
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::support::{folder, random_model};

use crate::support::gguf_writer::{Tensor as Stored, to_bytes};
use random_model::{CONTEXT, Entry, FAMILIES, LLAMA, Shape, VOCABULARY, bytes};

const F32: Shape = Shape { kind: GgmlType::F32, head_kind: GgmlType::F32, ..LLAMA };
const SEED: u64 = 5;
const PROMPT: usize = 90;
const STEPS: usize = 8;
/// Largest difference of a logit, in standard deviations of the logits.
const TOLERANCE: f64 = 1e-4;

fn tokens() -> Vec<u32> {
    (0..PROMPT + STEPS).map(|at| (at * at * 7 + at * 31) as u32 % VOCABULARY as u32).collect()
}

/// Logits after the prompt, and after each further token.
fn ours(shape: Shape, file: &[u8]) -> Vec<Vec<f32>> {
    let file = Gguf::parse(file, "random").expect("a file");
    let mut model = Reference::load(shape.family, &file, &Device::Cpu).expect("a reference");
    let sequence = model.sequences().create();
    let tokens = tokens();
    let mut read = |tokens: &[u32]| {
        let logits = model.forward(&[Segment { sequence, tokens, logits: 1 }]).expect("a pass");
        logits.values().expect("values").to_vec()
    };
    let mut rows = vec![read(&tokens[..PROMPT])];
    rows.extend(tokens[PROMPT..].chunks(1).map(read));
    rows
}

fn difference(ours: &[f32], theirs: &[f32]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let mean = theirs.iter().map(|&x| f64::from(x)).sum::<f64>() / theirs.len() as f64;
    let deviation = (theirs.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / theirs.len() as f64).sqrt();
    let largest = ours.iter().zip(theirs).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
    largest / deviation
}

/// Compares with a module that reads each prefix from its start.
fn compare(shape: Shape, mut peer: impl FnMut(&Tensor) -> candle_core::Result<Tensor>) {
    let rows = ours(shape, &bytes(shape, SEED));
    let tokens = tokens();
    let mut largest = 0f64;
    for (length, row) in (PROMPT..).zip(&rows) {
        let input = Tensor::new(&tokens[..length], &Device::Cpu).and_then(|t| t.unsqueeze(0)).expect("tokens");
        let theirs: Vec<f32> = peer(&input).and_then(|t| t.flatten_all()?.to_vec1()).expect("a pass of the peer");
        largest = largest.max(difference(row, &theirs));
    }
    println!("{}: {largest:.1e}", shape.family);
    assert!(largest < TOLERANCE, "{}: {largest}", shape.family);
}

fn content(file: &[u8]) -> (Content, Cursor<&[u8]>) {
    let mut reader = Cursor::new(file);
    let content = Content::read(&mut reader).expect("a file that Candle reads");
    (content, reader)
}

/// A module's configuration.
fn config<C: DeserializeOwned>(shape: Shape, more: Value) -> C {
    let mut all = json!({
        "vocab_size": VOCABULARY,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "max_position_embeddings": CONTEXT,
        "attention_bias": false,
        "hidden_act": "silu",
    });
    for (key, value) in more.as_object().expect("an object") {
        all[key] = value.clone();
    }
    serde_json::from_value(all).expect("a configuration")
}

/// The weights of a file under the names of the transformers library, and as they are there.
fn weights(shape: Shape) -> VarBuilder<'static> {
    let data = bytes(shape, SEED);
    let file = Gguf::parse(&data, "random").expect("a file");
    let is_gemma = shape.family.starts_with("gemma");
    let mut named = HashMap::new();
    for tensor in file.tensors() {
        let values: Vec<f32> = file
            .bytes(tensor)
            .expect("bytes")
            .chunks_exact(4)
            .map(|x| f32::from_le_bytes(x.try_into().expect("4")))
            .collect();
        let dims: Vec<usize> = tensor.shape().iter().map(|&dim| dim as usize).collect();
        let mut value = Tensor::from_vec(values, dims, &Device::Cpu).expect("a tensor");
        let name = tensor.name.strip_suffix(".weight").expect("a weight");
        if is_gemma && name.ends_with("norm") {
            // The file holds 1 + w.
            value = (value - 1.0).expect("a tensor");
        }
        let is_interleaved = ["llama", "granite", "smollm3"].contains(&shape.family);
        if is_interleaved && (name.ends_with("attn_q") || name.ends_with("attn_k")) {
            value = apart(&value, shape.head_dim);
        }
        named.insert(theirs(name, shape), value);
    }
    VarBuilder::from_tensors(named, DType::F32, &Device::Cpu)
}

/// Rows of heads whose pairs stand side by side, with pairs half a head apart.
fn apart(rows: &Tensor, head_dim: usize) -> Tensor {
    let (all, columns) = rows.dims2().expect("a matrix");
    let split = rows.reshape((all / head_dim, head_dim / 2, 2, columns)).and_then(|t| t.transpose(1, 2)?.contiguous());
    split.and_then(|t| t.reshape((all, columns))).expect("a matrix")
}

fn theirs(name: &str, shape: Shape) -> String {
    let has_post_norms = ["olmo2", "gemma2", "gemma3"].contains(&shape.family);
    let named = folder::their_name(name, has_post_norms, has_post_norms, shape.joined);
    format!("{}.weight", named.unwrap_or_else(|| panic!("{name} has no name")))
}

#[test]
fn llama_is_that_of_candle() {
    let shape = Shape { entries: &[("rope.dimension_count", Entry::Number(16))], ..F32 };
    let file = bytes(shape, SEED);
    let (content, mut reader) = content(&file);
    let mut peer =
        models::quantized_llama::ModelWeights::from_gguf(content, &mut reader, &Device::Cpu).expect("a model");
    compare(shape, |tokens| peer.forward(tokens, 0));
}

#[test]
fn qwen2_is_that_of_candle() {
    let entries = &[("rope.freq_base", Entry::Real(1e6))];
    let shape = Shape { family: "qwen2", biases: true, kv_heads: 3, tied: false, entries, ..F32 };
    let file = bytes(shape, SEED);
    let (content, mut reader) = content(&file);
    let mut peer =
        models::quantized_qwen2::ModelWeights::from_gguf(content, &mut reader, &Device::Cpu).expect("a model");
    compare(shape, |tokens| peer.forward(tokens, 0));
}

#[test]
fn qwen3_is_that_of_candle() {
    // Without the second entry the module computes angles in half precision.
    let entries = &[("rope.freq_base", Entry::Real(1e6)), ("general.dtype", Entry::Number(0))];
    let shape = Shape { family: "qwen3", head_dim: 32, entries, ..F32 };
    let file = bytes(shape, SEED);
    let (content, mut reader) = content(&file);
    let mut peer =
        models::quantized_qwen3::ModelWeights::from_gguf(content, &mut reader, &Device::Cpu).expect("a model");
    compare(shape, |tokens| {
        peer.clear_kv_cache();
        peer.forward(tokens, 0)
    });
}

#[test]
fn mistral_is_that_of_candle_beyond_its_window() {
    let shape = Shape { tied: false, entries: &[("attention.sliding_window", Entry::Number(20))], ..F32 };
    let config = config(shape, json!({ "sliding_window": 19, "use_flash_attn": false }));
    let mut peer = models::mistral::Model::new(&config, weights(shape)).expect("a model");
    compare(shape, |tokens| {
        peer.clear_kv_cache();
        peer.forward(tokens, 0)
    });
}

#[test]
fn granite_without_its_scales_is_that_of_candle() {
    let shape = Shape { family: "granite", tied: false, ..F32 };
    let all: Value = json!({ "use_flash_attn": false });
    let config: models::granite::GraniteConfig = config(shape, all);
    let config = config.into_config(false);
    let peer = models::granite::Granite::load(weights(shape), &config).expect("a model");
    compare(shape, |tokens| {
        let mut cache = models::granite::Cache::new(false, DType::F32, &config, &Device::Cpu)?;
        peer.forward(tokens, 0, &mut cache)
    });
}

#[test]
fn smollm3_is_that_of_candle() {
    let shape = Shape { family: "smollm3", layers: 5, ..F32 };
    let config = config(shape, json!({ "tie_word_embeddings": true, "no_rope_layer_interval": 4 }));
    let mut peer = models::smol::smollm3::ModelForCausalLM::new(&config, weights(shape)).expect("a model");
    compare(shape, |tokens| {
        peer.clear_kv_cache();
        peer.forward(tokens, 0)
    });
}

#[test]
fn phi3_is_that_of_candle() {
    let entries = &[("rope.dimension_count", Entry::Number(16))];
    let shape = Shape { family: "phi3", joined: true, tied: false, entries, ..F32 };
    let file = bytes(shape, SEED);
    let (content, mut reader) = content(&file);
    let mut peer =
        models::quantized_phi3::ModelWeights::from_gguf(false, content, &mut reader, &Device::Cpu).expect("a model");
    compare(shape, |tokens| peer.forward(tokens, 0));
}

/// Half of each head is turned, by frequencies with LongRoPE's factors for short texts.
#[test]
fn phi3_with_factors_and_a_part_of_a_head_is_that_of_candle() {
    let entries = &[
        ("rope.dimension_count", Entry::Number(8)),
        ("rope.scaling.original_context_length", Entry::Number(200)),
        ("rope.scaling.attn_factor", Entry::Real(1.0)),
    ];
    let factors = Some("rope_factors_short.weight");
    let shape = Shape { family: "phi3", joined: true, tied: false, factors, entries, ..F32 };
    let file = Gguf::parse(&bytes(shape, SEED), "random").expect("a file");
    let found = file.tensor("rope_factors_short.weight").and_then(|tensor| file.bytes(tensor)).expect("factors");
    let inverses: Vec<f32> =
        found.chunks_exact(4).map(|x| 1.0 / f32::from_le_bytes(x.try_into().expect("4"))).collect();
    let config = config(
        shape,
        json!({
            "partial_rotary_factor": 0.5,
            "original_max_position_embeddings": 200,
            "rope_scaling": { "type": "longrope", "short_factor": inverses, "long_factor": inverses },
        }),
    );
    let mut peer = models::phi3::Model::new(&config, weights(shape)).expect("a model");
    compare(shape, |tokens| {
        peer.clear_kv_cache();
        peer.forward(tokens, 0)
    });
}

#[test]
fn olmo2_is_that_of_candle() {
    let shape = Shape { family: "olmo2", kv_heads: 3, tied: false, ..F32 };
    let config = config(shape, json!({ "tie_word_embeddings": false }));
    let mut peer = models::olmo2::Model::new(&config, weights(shape)).expect("a model");
    compare(shape, |tokens| {
        peer.clear_kv_cache();
        peer.forward(tokens, 0)
    });
}

#[test]
fn gemma_is_that_of_candle() {
    let shape = Shape { family: "gemma", head_dim: 32, ..F32 };
    let config = config(shape, json!({ "hidden_act": "gelu_pytorch_tanh" }));
    let mut peer = models::gemma::Model::new(false, &config, weights(shape)).expect("a model");
    compare(shape, |tokens| {
        peer.clear_kv_cache();
        peer.forward(tokens, 0)
    });
}

#[test]
fn gemma2_is_that_of_candle_beyond_its_window() {
    let entries = &[
        ("attention.sliding_window", Entry::Number(24)),
        // As the peer, in every layer.
        ("attention.sliding_window_pattern", Entry::Number(0)),
        ("attn_logit_softcapping", Entry::Real(2.0)),
        ("final_logit_softcapping", Entry::Real(1.5)),
    ];
    let shape = Shape { family: "gemma2", layers: 4, head_dim: 32, entries, ..F32 };
    let config = config(
        shape,
        json!({
            "hidden_activation": "gelu_pytorch_tanh",
            "query_pre_attn_scalar": 32,
            "sliding_window": 23,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 1.5,
        }),
    );
    let mut peer = models::gemma2::Model::new(false, &config, weights(shape)).expect("a model");
    compare(shape, |tokens| {
        peer.clear_kv_cache();
        peer.forward(tokens, 0)
    });
}

#[test]
fn gemma3_is_that_of_candle_beyond_its_window() {
    let entries = &[("attention.sliding_window", Entry::Number(20)), ("rope.freq_base", Entry::Real(1e6))];
    // The module's cache takes one key head only.
    let shape = Shape { family: "gemma3", layers: 7, kv_heads: 1, entries, ..F32 };
    let config = config(
        shape,
        json!({
            "hidden_activation": "gelu_pytorch_tanh",
            "query_pre_attn_scalar": 16,
            "rope_theta": 1e6,
            "rope_local_base_freq": 10_000.0,
            "sliding_window": 19,
            "sliding_window_pattern": 6,
        }),
    );
    let mut peer = models::gemma3::Model::new(false, &config, weights(shape)).expect("a model");
    compare(shape, |tokens| {
        peer.clear_kv_cache();
        peer.forward(tokens, 0)
    });
}

/// What llama.cpp's converter made of random models of the transformers library, and that library's logits.
#[test]
fn converted_files_are_those_of_transformers() {
    const WIDTH: usize = 160;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/families");
    let tokens: Vec<u32> = (0..24).map(|at| (at * at * 7 + at * 31 + 5) % WIDTH as u32).collect();
    let (mut names, mut folders) = (Vec::new(), 0);
    for entry in std::fs::read_dir(&folder).expect("the fixtures") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "gguf") {
            names.push(path);
        }
    }
    assert_eq!(names.len(), 21);
    for path in names {
        let theirs = std::fs::read(path.with_extension("f32")).expect("logits");
        let theirs: Vec<f32> =
            theirs.chunks_exact(4).map(|x| f32::from_le_bytes(x.try_into().expect("four bytes"))).collect();
        assert_eq!(theirs.len(), WIDTH * tokens.len());
        let furthest = |model: &mut dyn Model| {
            let sequence = model.sequences().create();
            let logits = model.forward(&[Segment { sequence, tokens: &tokens, logits: tokens.len() }]).expect("a pass");
            let rows = logits.values().expect("values").chunks_exact(WIDTH).zip(theirs.chunks_exact(WIDTH));
            rows.map(|(ours, theirs)| difference(ours, theirs)).fold(0.0, f64::max)
        };
        // And the folder that the library wrote, where it is there.
        let folder = Some(path.with_extension("")).filter(|folder| folder.is_dir());
        folders += usize::from(folder.is_some());
        for path in [Some(path), folder].into_iter().flatten() {
            let file = checkpoint::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let reference = furthest(&mut Reference::load("reference", &*file, &Device::Cpu).expect("a reference"));
            let decoder = furthest(&mut Decoder::load("decoder", &*file, 1).expect("a decoder"));
            println!("{}: {reference:.1e}, {decoder:.1e}", path.display());
            assert!(reference < TOLERANCE, "{}: {reference}", path.display());
            // Keys and values lie in 16 bits, and nearly equal experts change places.
            assert!(decoder < 0.05, "{}: {decoder}", path.display());
        }
    }
    assert_eq!(folders, 8);
}

/// A file's bytes with the values of one tensor replaced.
fn with_values(file: Vec<u8>, tensor: &str, values: &[f32]) -> Vec<u8> {
    let parsed = Gguf::parse(&file, "random").expect("a file");
    let at = parsed.tensor(tensor).expect("the tensor").offset as usize;
    let mut file = file;
    for (index, value) in values.iter().enumerate() {
        file[at + index * 4..at + index * 4 + 4].copy_from_slice(&value.to_le_bytes());
    }
    file
}

fn same(a: &[Vec<f32>], b: &[Vec<f32>]) -> f64 {
    a.iter().zip(b).map(|(a, b)| difference(a, b)).fold(0.0, f64::max)
}

/// YaRN is a factor for each frequency, by the paper's formulas (section 3.2 and its appendix), and queries
/// and keys that are longer by a common factor.
#[test]
fn yarn_is_factors_and_a_magnitude() {
    let (factor, original, dims) = (4.0f64, 64.0f64, 16usize);
    let ramp = |i: usize| {
        let turns = |beta: f64| dims as f64 * (original / (beta * std::f64::consts::TAU)).ln() / (2.0 * 10_000f64.ln());
        let (low, high) = (turns(32.0).floor().max(0.0), turns(1.0).ceil().min(dims as f64 - 1.0));
        ((i as f64 - low) / (high - low)).clamp(0.0, 1.0)
    };
    let factors: Vec<f32> = (0..dims / 2).map(|i| (1.0 / (1.0 - ramp(i) + ramp(i) / factor)) as f32).collect();
    assert!(factors[0] == 1.0 && factors[dims / 2 - 1] > 3.9 && factors.is_sorted());
    let yarn = Shape {
        entries: &[
            ("rope.scaling.type", Entry::Text("yarn")),
            ("rope.scaling.factor", Entry::Real(4.0)),
            ("rope.scaling.original_context_length", Entry::Number(64)),
            ("attention.scale", Entry::Real(0.25)),
        ],
        family: "qwen2",
        factors: Some("rope_freqs.weight"),
        ..F32
    };
    // (0.1 · ln 4 + 1)² / √16.
    let by_hand = Shape { entries: &[("attention.scale", Entry::Real(0.324_119_2))], ..yarn };
    let scaled = ours(yarn, &with_values(bytes(yarn, SEED), "rope_freqs.weight", &[1.0; 8]));
    let expected = ours(yarn, &with_values(bytes(by_hand, SEED), "rope_freqs.weight", &factors));
    let plain = ours(yarn, &with_values(bytes(by_hand, SEED), "rope_freqs.weight", &[1.0; 8]));
    assert!(same(&scaled, &expected) < TOLERANCE, "{}", same(&scaled, &expected));
    assert!(same(&scaled, &plain) > 0.05, "the test must be able to fail");
}

/// Gemma 3's linear factor divides the frequencies of the global layers, and only of those, as factors in
/// the file do.
#[test]
fn linear_scaling_of_gemma3_is_global() {
    let scaled = FAMILIES.into_iter().find(|shape| shape.family == "gemma3").expect("one");
    let scaled = Shape { kind: GgmlType::F32, head_kind: GgmlType::F32, ..scaled };
    let by_hand = Shape {
        factors: Some("rope_freqs.weight"),
        entries: &[("attention.sliding_window", Entry::Number(20)), ("rope.freq_base", Entry::Real(1e6))],
        ..scaled
    };
    let found = ours(scaled, &bytes(scaled, SEED));
    let expected = ours(by_hand, &with_values(bytes(by_hand, SEED), "rope_freqs.weight", &[8.0; 8]));
    let plain = ours(by_hand, &with_values(bytes(by_hand, SEED), "rope_freqs.weight", &[1.0; 8]));
    assert!(same(&found, &expected) < TOLERANCE, "{}", same(&found, &expected));
    assert!(same(&found, &plain) > 0.01, "the test must be able to fail: {}", same(&found, &plain));
}

/// An attention factor makes queries and keys longer where whole heads are turned.
#[test]
fn the_attention_factor_is_a_magnitude() {
    const FACTOR: (&str, Entry) = ("rope.scaling.attn_factor", Entry::Real(1.5));
    let phi3 = Shape { family: "phi3", joined: true, tied: false, ..F32 };
    let found = ours(phi3, &bytes(Shape { entries: &[FACTOR], ..phi3 }, SEED));
    let expected = ours(phi3, &bytes(Shape { entries: &[("attention.scale", Entry::Real(0.5625))], ..phi3 }, SEED));
    let plain = ours(phi3, &bytes(phi3, SEED));
    assert!(same(&found, &expected) < TOLERANCE, "{}", same(&found, &expected));
    assert!(same(&found, &plain) > 0.05, "the test must be able to fail");
}

#[test]
fn damaged_factors_are_refused() {
    let shape = FAMILIES[0];
    for value in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let file = Gguf::parse(&with_values(bytes(shape, SEED), "rope_freqs.weight", &[1.0, value]), "random");
        let file = file.expect("a file");
        let decoder = Decoder::load("damaged", &file, 1).map(drop).expect_err("refused").to_string();
        let reference = Reference::load("damaged", &file, &Device::Cpu).map(drop).expect_err("refused").to_string();
        assert!(decoder.contains("rope_freqs.weight") && decoder == reference, "{decoder}");
    }
}

/// Temperature leaves the first `length` positions alone and sharpens later ones.
#[test]
fn temperature_begins_after_the_first_training_context() {
    const LENGTH: (&str, Entry) = ("attention.temperature_length", Entry::Number(PROMPT as u64 + 3));
    let plain = Shape { family: "mistral3", ..F32 };
    let entries = &[LENGTH, ("attention.temperature_scale", Entry::Real(2.0))];
    let (found, plain) = (ours(plain, &bytes(Shape { entries, ..plain }, SEED)), ours(plain, &bytes(plain, SEED)));
    for (at, (found, plain)) in found.iter().zip(&plain).enumerate() {
        // Row `at` is that of position `PROMPT + at − 1`.
        let apart = difference(found, plain);
        assert_eq!(apart > 0.01, at >= 4, "{at}: {apart}");
    }
}

/// Keys below a family's name, of which the hostile files get some.
const KEYS: [&str; 41] = [
    "attention.causal",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_rms_epsilon",
    "attention.scale",
    "attention.sliding_window",
    "attention.sliding_window_pattern",
    "attention.temperature_length",
    "attention.temperature_scale",
    "attention.value_length",
    "attn_logit_softcapping",
    "block_count",
    "context_length",
    "embedding_length",
    "embedding_scale",
    "expert_count",
    "expert_feed_forward_length",
    "expert_gating_func",
    "expert_group_count",
    "expert_group_used_count",
    "expert_shared_count",
    "expert_shared_feed_forward_length",
    "expert_used_count",
    "expert_weights_scale",
    "feed_forward_length",
    "final_logit_softcapping",
    "leading_dense_block_count",
    "logit_scale",
    "residual_scale",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.freq_base_swa",
    "rope.scaling.attn_factor",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.type",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "rope.scaling.yarn_log_multiplier",
    "an.unknown.key",
];

fn hostile() -> impl Strategy<Value = Entered> {
    let numbers = vec![0, 1, 2, 3, 8, 16, 33, 1 << 16, 1 << 20, u64::from(u32::MAX), u64::MAX];
    let reals = vec![0.0, -1.0, 0.5, 1.0, 4.0, 1e-30, 1e30, 1e300, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    let texts = vec!["yarn", "linear", "longrope", "none", "", "dynamic"];
    prop_oneof![
        3 => prop::sample::select(numbers).prop_map(Entered::Unsigned),
        1 => any::<i64>().prop_map(Entered::Signed),
        3 => prop::sample::select(reals).prop_map(Entered::Float),
        1 => any::<bool>().prop_map(Entered::Bool),
        2 => prop::sample::select(texts).prop_map(|text| Entered::String(text.into())),
        1 => prop::collection::vec(any::<bool>(), 0..9).prop_map(|flags| Entered::Array(Array::Bool(flags))),
        1 => prop::collection::vec(any::<i64>(), 0..9).prop_map(|numbers| Entered::Array(Array::Signed(numbers))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// A file that says anything at all is a model that computes, or an error; reference and decoder agree
    /// on which.
    #[test]
    fn hostile_metadata_end_in_an_error_or_in_logits(
        shape in prop::sample::select(&FAMILIES[..]),
        entries in prop::collection::vec((prop::sample::select(&KEYS[..]), hostile()), 1..3),
    ) {
        let file = Gguf::parse(&bytes(shape, SEED), "random").expect("a file");
        let mut metadata = Metadata::new("hostile");
        for (key, value) in &entries {
            metadata.insert(format!("{}.{key}", shape.family), value.clone());
        }
        for (key, value) in file.metadata().iter() {
            metadata.insert(key, value.clone());
        }
        let tensors: Vec<Stored> = file.tensors().iter().map(|tensor| Stored {
            name: tensor.name.clone(),
            dims: tensor.dims.clone(),
            kind: tensor.ggml_type().expect("a type"),
            bytes: file.bytes(tensor).expect("bytes").to_vec(),
        }).collect();
        let file = Gguf::parse(&to_bytes(&metadata, &tensors), "hostile").expect("a file");
        let decoder = Decoder::load("hostile", &file, 1);
        let reference = Reference::load("hostile", &file, &Device::Cpu);
        prop_assert_eq!(decoder.is_ok(), reference.is_ok(), "{:?}", entries);
        let (Ok(mut decoder), Ok(mut reference)) = (decoder, reference) else { return Ok(()) };
        let tokens: Vec<u32> = (0..45).collect();
        for model in [&mut decoder as &mut dyn Model, &mut reference] {
            let sequence = model.sequences().create();
            let logits = model.forward(&[Segment { sequence, tokens: &tokens, logits: 1 }]);
            match logits {
                Ok(logits) => prop_assert_eq!(logits.values().expect("values").len(), VOCABULARY),
                Err(error) => prop_assert!(error.to_string().contains("exceeds the context"), "{}", error),
            }
        }
    }
}
