//! What the metadata and the names of tensors say of a decoder, and what of it is refused.

use instil_model::gguf::{Array, GgmlType, Metadata, Value};
use instil_model::model::architecture::{Architecture, RotaryScaling};
use instil_model::model::decoder::Decoder;

use crate::support::in_memory;
use crate::support::random_model;

use in_memory::InMemory;
use random_model::{FAMILIES, Shape, model};

const SHORT_FACTORS: &str = "rope_factors_short.weight";

fn file(family: &str, entries: &[(&str, Value)], tensors: &[&str]) -> InMemory {
    let mut metadata = Metadata::new("made.gguf");
    metadata.insert("general.architecture", Value::String(family.into()));
    for (key, value) in entries {
        let key = if key.starts_with("xielu.") { (*key).to_owned() } else { format!("{family}.{key}") };
        metadata.insert(key, value.clone());
    }
    for (key, value) in [
        ("block_count", 12),
        ("embedding_length", 64),
        ("feed_forward_length", 64),
        ("attention.head_count", 4),
        ("context_length", 8192),
    ] {
        metadata.insert(format!("{family}.{key}"), Value::Unsigned(value));
    }
    metadata.insert(format!("{family}.attention.layer_norm_rms_epsilon"), Value::Float(1e-6));
    let tensors = ["token_embd.weight"].iter().chain(tensors);
    let tensors = tensors.map(|name| ((*name).to_owned(), (GgmlType::F32, vec![7, 1], vec![0; 28]))).collect();
    InMemory { metadata, tensors }
}

fn read(family: &str, entries: &[(&str, Value)]) -> Architecture {
    Architecture::read("made", &file(family, entries, &[])).expect("an architecture")
}

fn refusal(family: &str, entries: &[(&str, Value)], tensors: &[&str]) -> String {
    Architecture::read("made", &file(family, entries, tensors)).expect_err("refused").to_string()
}

fn text(text: &str) -> Value {
    Value::String(text.into())
}

#[test]
fn families_differ_in_plain_values() {
    let gemma3 = read("gemma3", &[("attention.sliding_window", Value::Unsigned(512))]);
    let local: Vec<usize> = (0..12).filter(|&layer| gemma3.window(layer) == Some(512)).collect();
    assert_eq!(local, [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]);
    assert_eq!(gemma3.local_rotary, None, "both have the base 10,000 here");
    let bases = [("rope.global.freq_base", Value::Float(1e6)), ("rope.local.freq_base", Value::Float(20_000.0))];
    let entries = [&bases[..], &[("attention.sliding_window", Value::Unsigned(512))]].concat();
    let ollama = read("gemma3", &entries);
    assert_eq!((ollama.rotary.base, ollama.local_rotary.map(|local| local.base)), (1e6, Some(20_000.0)));
    assert_eq!((gemma3.embedding_scale, gemma3.attention_scale, gemma3.logit_cap), (8.0, 0.25, None));
    let entries = [
        ("attention.sliding_window", Value::Unsigned(512)),
        ("rope.freq_base", Value::Float(1e6)),
        ("rope.scaling.type", text("linear")),
        ("rope.scaling.factor", Value::Float(8.0)),
    ];
    let gemma3 = read("gemma3", &entries);
    assert_eq!(gemma3.rotary.scaling, RotaryScaling::Linear { factor: 8.0 });
    let local = gemma3.local_rotary.expect("its own");
    assert_eq!((local.base, local.scaling), (10_000.0, RotaryScaling::None));
    let gemma2 = read("gemma2", &[]);
    assert_eq!((gemma2.window(0), gemma2.window(1)), (Some(4096), None));
    assert_eq!((gemma2.score_cap, gemma2.logit_cap), (Some(50.0), Some(30.0)));
    let large = [("block_count", Value::Unsigned(46)), ("attention.key_length", Value::Unsigned(32))];
    assert_eq!(read("gemma2", &large).attention_scale, 0.25, "by the width over the heads");
    let flags = Value::Array(Array::Bool((0..12).map(|layer| layer == 3).collect()));
    let entries = [("attention.sliding_window", Value::Unsigned(64)), ("attention.sliding_window_pattern", flags)];
    let olmo2 = read("olmo2", &entries);
    assert_eq!((0..12).filter(|&layer| olmo2.is_local(layer)).collect::<Vec<_>>(), [3]);
    let whole = [("attention.sliding_window", Value::Unsigned(1 << 18))];
    assert_eq!(read("phi3", &whole).sliding_window, None, "a window that holds the whole context is none");
    let off = [("rope.scaling.finetuned", Value::Bool(false))];
    assert!(!read("granite", &off).is_rotary(0) && read("llama", &off).is_rotary(0));
}

#[test]
fn yarn_is_read_and_its_factors_agree_or_are_refused() {
    let yarn = |rest: &[(&'static str, Value)]| {
        let mut entries = vec![
            ("rope.scaling.type", text("yarn")),
            ("rope.scaling.factor", Value::Float(4.0)),
            ("rope.scaling.original_context_length", Value::Unsigned(2048)),
        ];
        entries.extend_from_slice(rest);
        entries
    };
    let usual = 0.1 * 4f32.ln() + 1.0;
    assert_eq!(read("qwen3", &yarn(&[])).rotary.magnitude, usual);
    let cancelled = yarn(&[("rope.scaling.yarn_log_multiplier", Value::Float(1.0))]);
    assert_eq!(read("mistral3", &cancelled).rotary.magnitude, 1.0);
    let said = yarn(&[("rope.scaling.attn_factor", Value::Float(f64::from(usual)))]);
    assert_eq!(read("olmo2", &said).rotary.magnitude, usual);
    for (key, value) in [
        ("rope.scaling.attn_factor", 2.0),
        ("rope.scaling.yarn_attn_factor", 1.0),
        ("rope.scaling.yarn_ext_factor", 0.5),
        ("rope.scaling.yarn_beta_fast", -1.0),
        ("rope.scaling.yarn_beta_slow", f64::NAN),
        ("rope.scaling.yarn_log_multiplier", f64::INFINITY),
    ] {
        let told = refusal("qwen2", &yarn(&[(key, Value::Float(value))]), &[]);
        assert!(told.contains(key), "{told}");
    }
}

/// What recurrent layers and heads of two widths are, and where a file asks for too much.
#[test]
fn layers_differ_within_a_family() {
    let flags = |flags: &[bool]| Value::Array(Array::Bool(flags.to_vec()));
    let number = Value::Unsigned;
    let local: Vec<bool> = (0..12).map(|layer| layer % 6 != 5).collect();
    let gemma4 = read(
        "gemma4",
        &[
            ("attention.key_length", number(32)),
            ("attention.key_length_swa", number(16)),
            ("rope.dimension_count_swa", number(8)),
            (
                "attention.head_count_kv",
                Value::Array(Array::Unsigned(local.iter().map(|&l| 1 + u64::from(l)).collect())),
            ),
            ("attention.sliding_window", number(512)),
            ("attention.sliding_window_pattern", flags(&local)),
        ],
    );
    let sizes = |layer| {
        (gemma4.head_sizes(layer).kv_heads, gemma4.head_sizes(layer).head_dim, gemma4.head_sizes(layer).rotary_dims)
    };
    assert_eq!((sizes(4), sizes(5), gemma4.attention_scale), ((2, 16, 8), (1, 32, 32), 1.0));
    let told = refusal("gemma4", &[("embedding_length_per_layer_input", number(256))], &[]);
    assert!(told.contains("`gemma4.embedding_length_per_layer_input`"), "{told}");
    let net = |state: u64, inner: u64| {
        [
            ("ssm.conv_kernel", number(4)),
            ("ssm.group_count", number(1)),
            ("ssm.time_step_rank", number(4)),
            ("ssm.state_size", number(state)),
            ("ssm.inner_size", number(inner)),
        ]
    };
    let qwen35 = read("qwen35", &net(16, 64));
    let recurrent: Vec<usize> = (0..12).filter(|&layer| qwen35.is_recurrent(layer)).collect();
    assert_eq!(recurrent, [0, 1, 2, 4, 5, 6, 8, 9, 10]);
    for (family, state, inner) in [("qwen35", 32, 64), ("qwen35", 16, 66), ("granitehybrid", 4096, 1 << 20)] {
        let told = refusal(family, &net(state, inner), &[]);
        assert!(told.contains("cannot be computed"), "{family}: {told}");
    }
}

#[test]
fn what_is_not_computed_is_refused_by_its_key() {
    let number = Value::Unsigned;
    for (family, key, value) in [
        ("llama", "attention.max_alibi_bias", Value::Float(8.0)),
        ("gemma", "expert_count", number(8)),
        ("qwen3moe", "expert_count", number(1 << 11)),
        ("llama", "attention.causal", Value::Bool(false)),
        ("llama", "rope.dimension_sections", Value::Array(Array::Unsigned(vec![1, 2]))),
        ("llama", "rope.dimension_count", number(0)),
        ("llama", "rope.dimension_count", number(15)),
        ("llama", "rope.dimension_count", number(18)),
        ("llama", "rope.freq_base", Value::Float(0.5)),
        ("llama", "rope.freq_base", Value::Float(f64::NAN)),
        ("llama", "rope.scaling.type", text("dynamic")),
        ("llama", "rope.scaling.type", text("longrope")),
        ("llama", "rope.scaling.yarn_beta_fast", Value::Float(32.0)),
        ("llama", "attention.layer_norm_rms_epsilon", Value::Float(f64::NAN)),
        ("qwen3", "attention.sliding_window", number(100)),
        ("gemma3", "attention.sliding_window", Value::Float(0.5)),
        ("gemma2", "attention.sliding_window_pattern", Value::Array(Array::Bool(vec![true; 11]))),
        ("gemma2", "attention.sliding_window_pattern", text("all")),
        ("gemma2", "attn_logit_softcapping", Value::Float(-1.0)),
        ("gemma2", "final_logit_softcapping", Value::Float(f64::NAN)),
        ("mistral3", "attention.temperature_scale", Value::Float(f64::INFINITY)),
        ("gemma", "attention.value_length", number(32)),
        ("gemma", "block_count", number(u64::from(u32::MAX))),
    ] {
        let told = refusal(family, &[(key, value)], &[]);
        assert!(told.contains(key), "{family} {key}: {told}");
    }
    let floats = |value, count| Value::Array(Array::Float(vec![value; count]));
    for (key, value) in
        [("xielu.beta", floats(0.5, 11)), ("xielu.eps", floats(f32::NAN, 12)), ("xielu.alpha_p", text("none"))]
    {
        let mut entries = vec![(key, value)];
        let all = ["xielu.alpha_n", "xielu.alpha_p", "xielu.beta", "xielu.eps"];
        entries.extend(all.map(|key| (key, floats(0.5, 12))));
        let told = refusal("apertus", &entries, &[]);
        assert!(told.contains(key), "{key}: {told}");
    }
    for (key, value) in [
        ("expert_used_count", number(9)),
        ("expert_used_count", number(0)),
        ("expert_gating_func", number(4)),
        ("expert_group_count", number(3)),
        ("expert_group_count", number(8)),
        ("expert_group_used_count", number(5)),
        ("expert_weights_scale", Value::Float(f64::NAN)),
        ("expert_feed_forward_length", number(1 << 21)),
        ("expert_shared_count", number(1 << 30)),
        ("leading_dense_block_count", number(13)),
        ("interleave_moe_layer_step", number(2)),
    ] {
        let entries = [
            ("expert_count", number(8)),
            (key, value),
            ("expert_group_count", number(4)),
            ("expert_used_count", number(2)),
        ];
        let told = refusal("qwen3moe", &entries, &[]);
        let key = if key == "expert_shared_count" { "expert_shared_feed_forward_length" } else { key };
        assert!(told.contains(key), "{key}: {told}");
    }
    let told = refusal("qwen3moe", &[("expert_count", number(8))], &[]);
    assert!(told.contains("expert_used_count"), "{told}");
    // A layer has experts or a network, and only some have a shared one.
    let experts = [("expert_count", number(8)), ("expert_used_count", number(2))];
    for tensor in
        ["blk.0.ffn_up.weight", "blk.0.ffn_gate.3.weight", "blk.0.ffn_up_shexp.weight", "blk.0.exp_probs_b.weight"]
    {
        let told = refusal("qwen3moe", &experts, &[tensor]);
        assert!(told.contains(&format!("`{tensor}`")), "{told}");
    }
    for tensor in ["blk.0.ffn_up_exps.weight", "blk.0.ffn_gate_inp.weight", "blk.0.exp_probs_b.bias"] {
        let told = refusal("llama", &[], &[tensor]);
        assert!(told.contains(&format!("`{tensor}`")), "{told}");
    }
    let told = refusal("mistral3", &[("attention.temperature_scale", Value::Float(0.1))], &[]);
    assert!(told.contains("original_context_length"), "{told}");
    for tensor in
        ["blk.0.attn_sinks.weight", "blk.12.attn_q.weight", "blk.0.attn_norm.bias", "rope_factors_long.weight"]
    {
        let told = refusal("llama", &[], &[tensor]);
        assert!(told.contains(tensor), "{told}");
    }
    // A bias belongs to a matrix that is there, and a layer has one name.
    for tensor in ["output.bias", "token_embd.bias", "blk.0.attn_q.bias", "blk.00.attn_q.weight", "blk.0.ffn_up"] {
        let told = refusal("llama", &[], &[tensor]);
        assert!(told.contains(&format!("`{tensor}`")), "{told}");
    }
    let told = refusal("qwen2", &[], &["blk.0.attn_q_norm.weight"]);
    assert!(told.contains("attn_q_norm"), "{told}");
    let told = refusal("phi3", &[], &["blk.1.attn_qkv.weight", "blk.1.attn_k.weight"]);
    assert!(told.contains("blk.1.attn_k.weight"), "{told}");
    let context = ("rope.scaling.original_context_length", number(4096));
    let told = refusal("phi3", &[context], &[SHORT_FACTORS]);
    assert!(told.contains("attn_factor"), "{told}");
    // What is switched off, or does not concern the decoder, does no harm.
    let zero = || Value::Float(0.0);
    let off = [
        ("attention.max_alibi_bias", zero()),
        ("vision.block_count", number(2)),
        ("rope.scaling.factor", zero()),
        ("attention.scale", zero()),
        ("rope.scaling.yarn_log_multiplier", zero()),
    ];
    assert_eq!(read("llama", &off), read("llama", &[]));
}

/// Every tensor of every family is looked for: without it the file is refused, by its name or that of what should
/// stand in for it, unless it is one that files may do without.
#[test]
fn no_tensor_goes_missing_unheard() {
    let joined = FAMILIES
        .into_iter()
        .filter(|family| family.joined && family.experts.is_none())
        .map(|family| Shape { biases: true, ..family });
    for shape in FAMILIES.into_iter().chain(joined) {
        let file = InMemory::copy_of(&model(shape, 3));
        let names: Vec<String> = file.tensors.keys().cloned().collect();
        let has_bias = |part: &str| file.tensors.contains_key(&format!("blk.0.{part}.bias"));
        for name in names {
            let mut less = InMemory { metadata: file.metadata.clone(), tensors: file.tensors.clone() };
            less.tensors.remove(&name);
            let told = Decoder::load("less", &less, 1).map(drop).err().map(|error| error.to_string());
            let is_bias = name.rsplit_once('.').is_some_and(|(_, ending)| ending == "bias");
            // Nothing tells of a bias of the choice.
            let optional = is_bias
                || name == "output.weight"
                || name.starts_with("rope_")
                || name.ends_with("layer_output_scale.weight");
            let expected = match name.strip_suffix(".weight").and_then(|name| name.rsplit_once('.')) {
                // A bias has no place without its matrix.
                Some((layer, part @ ("attn_q" | "attn_k" | "attn_v" | "attn_qkv"))) if shape.biases => {
                    format!("{layer}.{part}.bias")
                }
                Some((layer, part @ "ssm_conv1d")) if has_bias(part) => format!("{layer}.{part}.bias"),
                Some((layer, part)) if shape.family == "gpt-oss" && has_bias(part) => format!("{layer}.{part}.bias"),
                Some((layer, "attn_qkv")) if shape.recurrent.is_empty() => format!("{layer}.attn_q.weight"),
                None if name == "token_embd_norm.weight" => "output_norm.weight".into(),
                Some((layer, "ffn_gate")) => format!("{layer}.ffn_up.weight"),
                Some((layer, "ffn_gate_up_exps")) => format!("{layer}.ffn_gate_exps.weight"),
                _ => name.clone(),
            };
            match told {
                None => assert!(optional, "{}: {name} was not missed", shape.family),
                Some(told) => assert!(told.contains(&expected), "{}: {name}: {told}", shape.family),
            }
        }
    }
}
