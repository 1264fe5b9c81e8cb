//! Small random models in GGUF, of any family and type of weights.

use half::f16;
use instil_model::gguf::{Array, GgmlType, Gguf, Metadata, Value};

use super::gguf_writer::{Tensor, to_bytes};

pub const VOCABULARY: usize = 99;
pub const CONTEXT: usize = 256;

/// Deterministic noise.
pub struct Noise(pub u64);

impl Noise {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    pub fn value(&mut self) -> f32 {
        (self.bits() & 0xFF_FFFF) as f32 / 8_388_608.0 - 1.0
    }
}

/// Sizes and kinds of a random model.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub family: &'static str,
    pub layers: usize,
    pub hidden: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub feed_forward: usize,
    pub kind: GgmlType,
    pub head_kind: GgmlType,
    pub tied: bool,
    pub biases: bool,
    /// Query, key and value in one matrix, gate and up in another.
    pub joined: bool,
    /// Networks that rows are dealt to, from a layer on.
    pub experts: Option<Experts>,
    /// For each layer, whether it is recurrent; none is where there are no more.
    pub recurrent: &'static [bool],
    /// The tensor of rotary factors.
    pub factors: Option<&'static str>,
    /// Metadata below the family's name (or general), before those that every file has; xIELU's have none.
    pub entries: &'static [(&'static str, Entry)],
}

/// Sizes of the experts of a layer, and what else such a layer has.
#[derive(Clone, Copy, Debug)]
pub struct Experts {
    pub count: usize,
    pub used: usize,
    pub width: usize,
    /// Width of the shared one; 0 for none.
    pub shared: usize,
    pub weighs_shared: bool,
    pub dense_layers: usize,
    /// Biases of the choice.
    pub choice_bias: bool,
}

pub const EXPERTS: Experts =
    Experts { count: 8, used: 2, width: 64, shared: 0, weighs_shared: false, dense_layers: 0, choice_bias: false };

/// A value of metadata.
#[derive(Clone, Copy, Debug)]
pub enum Entry {
    Number(u64),
    Real(f64),
    Text(&'static str),
    Flags(&'static [bool]),
    Reals(&'static [f32]),
}

pub const LLAMA: Shape = Shape {
    family: "llama",
    layers: 2,
    hidden: 96,
    heads: 6,
    kv_heads: 2,
    head_dim: 16,
    feed_forward: 160,
    kind: GgmlType::Q4_1,
    head_kind: GgmlType::Q8_0,
    tied: true,
    biases: false,
    joined: false,
    experts: None,
    recurrent: &[],
    factors: None,
    entries: &[],
};

const YARN: [(&str, Entry); 3] = [
    ("rope.scaling.type", Entry::Text("yarn")),
    ("rope.scaling.factor", Entry::Real(4.0)),
    ("rope.scaling.original_context_length", Entry::Number(64)),
];

/// One model of each family, with everything that distinguishes it, and windows that sequences outgrow.
pub const FAMILIES: [Shape; 37] = [
    Shape { factors: Some("rope_freqs.weight"), ..LLAMA },
    // Mistral's first models.
    Shape { entries: &[("attention.sliding_window", Entry::Number(33))], ..LLAMA },
    Shape { head_dim: 32, entries: &[("rope.dimension_count", Entry::Number(24))], ..LLAMA },
    Shape {
        family: "mistral3",
        entries: &[
            YARN[0],
            YARN[1],
            YARN[2],
            ("rope.scaling.yarn_log_multiplier", Entry::Real(1.0)),
            ("attention.temperature_scale", Entry::Real(0.5)),
        ],
        ..LLAMA
    },
    Shape { family: "qwen2", biases: true, kv_heads: 3, entries: &YARN, ..LLAMA },
    Shape { family: "qwen3", head_dim: 32, tied: false, entries: &YARN, ..LLAMA },
    // Mixtral.
    Shape { experts: Some(EXPERTS), ..LLAMA },
    Shape {
        family: "qwen2moe",
        biases: true,
        experts: Some(Experts { shared: 96, weighs_shared: true, ..EXPERTS }),
        ..LLAMA
    },
    Shape { family: "qwen3moe", experts: Some(Experts { used: 3, ..EXPERTS }), ..LLAMA },
    // Gate and up of the experts in one.
    Shape { family: "qwen3moe", joined: true, tied: false, experts: Some(EXPERTS), ..LLAMA },
    // What files may say of the choice.
    Shape {
        family: "qwen3moe",
        layers: 3,
        experts: Some(Experts { shared: 32, dense_layers: 1, choice_bias: true, ..EXPERTS }),
        entries: &[
            ("expert_gating_func", Entry::Number(2)),
            ("expert_weights_scale", Entry::Real(1.5)),
            ("expert_group_count", Entry::Number(4)),
            ("expert_group_used_count", Entry::Number(2)),
        ],
        ..LLAMA
    },
    Shape {
        family: "qwen35",
        layers: 3,
        recurrent: &[true, false, true],
        entries: &[
            ("rope.dimension_count", Entry::Number(8)),
            ("ssm.conv_kernel", Entry::Number(4)),
            ("ssm.group_count", Entry::Number(1)),
            ("ssm.time_step_rank", Entry::Number(3)),
            ("ssm.state_size", Entry::Number(32)),
            ("ssm.inner_size", Entry::Number(96)),
            ("full_attention_interval", Entry::Number(2)),
        ],
        ..LLAMA
    },
    Shape {
        family: "qwen35moe",
        tied: false,
        recurrent: &[true, false],
        experts: Some(Experts { shared: 32, weighs_shared: true, ..EXPERTS }),
        entries: &[
            ("ssm.conv_kernel", Entry::Number(2)),
            ("ssm.group_count", Entry::Number(2)),
            ("ssm.time_step_rank", Entry::Number(4)),
            ("ssm.state_size", Entry::Number(16)),
            ("ssm.inner_size", Entry::Number(64)),
            ("attention.recurrent_layers", Entry::Flags(&[true, false])),
        ],
        ..LLAMA
    },
    Shape {
        family: "lfm2",
        layers: 4,
        recurrent: &[true, false, true, true],
        entries: &[("shortconv.l_cache", Entry::Number(3))],
        ..LLAMA
    },
    Shape {
        family: "lfm2moe",
        recurrent: &[false, true],
        experts: Some(Experts { dense_layers: 1, choice_bias: true, ..EXPERTS }),
        entries: &[("shortconv.l_cache", Entry::Number(4)), ("expert_gating_func", Entry::Number(2))],
        ..LLAMA
    },
    Shape {
        family: "granitehybrid",
        layers: 3,
        recurrent: &[true, false, true],
        entries: &[
            ("residual_scale", Entry::Real(0.5)),
            ("ssm.conv_kernel", Entry::Number(4)),
            ("ssm.group_count", Entry::Number(2)),
            ("ssm.time_step_rank", Entry::Number(4)),
            ("ssm.state_size", Entry::Number(16)),
            ("ssm.inner_size", Entry::Number(128)),
        ],
        ..LLAMA
    },
    Shape { family: "olmoe", kv_heads: 3, experts: Some(EXPERTS), ..LLAMA },
    Shape {
        family: "granitemoe",
        experts: Some(Experts { shared: 32, ..EXPERTS }),
        entries: &[("residual_scale", Entry::Real(0.5)), ("attention.scale", Entry::Real(0.2))],
        ..LLAMA
    },
    Shape { family: "smollm3", layers: 4, ..LLAMA },
    Shape {
        family: "granite",
        entries: &[
            ("embedding_scale", Entry::Real(3.0)),
            ("residual_scale", Entry::Real(0.5)),
            ("logit_scale", Entry::Real(4.0)),
            ("attention.scale", Entry::Real(0.2)),
        ],
        ..LLAMA
    },
    Shape {
        family: "phi3",
        joined: true,
        tied: false,
        factors: Some("rope_factors_short.weight"),
        entries: &[
            ("rope.dimension_count", Entry::Number(12)),
            ("rope.scaling.original_context_length", Entry::Number(200)),
            ("rope.scaling.attn_factor", Entry::Real(1.19)),
            ("attention.sliding_window", Entry::Number(50)),
        ],
        ..LLAMA
    },
    Shape {
        family: "olmo2",
        layers: 5,
        tied: false,
        entries: &[
            YARN[0],
            YARN[1],
            YARN[2],
            ("attention.sliding_window", Entry::Number(40)),
            ("attention.sliding_window_pattern", Entry::Flags(&[true, true, false, true, false])),
        ],
        ..LLAMA
    },
    Shape {
        family: "gpt-oss",
        layers: 3,
        biases: true,
        tied: false,
        experts: Some(EXPERTS),
        entries: &[YARN[0], YARN[1], YARN[2], ("attention.sliding_window", Entry::Number(24))],
        ..LLAMA
    },
    Shape { family: "glm4", joined: true, entries: &[("rope.dimension_count", Entry::Number(8))], ..LLAMA },
    Shape { family: "ernie4_5", head_dim: 32, ..LLAMA },
    Shape { family: "hunyuan-dense", ..LLAMA },
    Shape {
        family: "exaone4",
        layers: 5,
        factors: Some("rope_freqs.weight"),
        entries: &[("attention.sliding_window", Entry::Number(40))],
        ..LLAMA
    },
    // The small one turns everywhere.
    Shape { family: "exaone4", ..LLAMA },
    Shape { family: "seed_oss", biases: true, tied: false, ..LLAMA },
    Shape {
        family: "apertus",
        tied: false,
        entries: &[
            ("xielu.alpha_n", Entry::Reals(&[0.5, -0.5])),
            ("xielu.alpha_p", Entry::Reals(&[-1.0, 1.0])),
            ("xielu.beta", Entry::Reals(&[0.5, 0.25])),
            ("xielu.eps", Entry::Reals(&[-1e-6, -1e-6])),
        ],
        ..LLAMA
    },
    Shape { family: "arcee", entries: &YARN, ..LLAMA },
    Shape {
        family: "cohere2",
        layers: 5,
        entries: &[("attention.sliding_window", Entry::Number(24)), ("logit_scale", Entry::Real(0.25))],
        ..LLAMA
    },
    Shape {
        family: "muse-glimmer",
        layers: 5,
        tied: false,
        entries: &[
            ("attention.sliding_window", Entry::Number(24)),
            ("attention.sliding_window_pattern", Entry::Flags(&[false, true, true, true, false])),
            ("logit_scale", Entry::Real(0.5)),
            ("final_logit_softcapping", Entry::Real(2.0)),
        ],
        ..LLAMA
    },
    Shape { family: "gemma", head_dim: 32, ..LLAMA },
    Shape {
        family: "gemma2",
        layers: 4,
        head_dim: 32,
        entries: &[
            ("attention.sliding_window", Entry::Number(24)),
            ("attn_logit_softcapping", Entry::Real(2.0)),
            ("final_logit_softcapping", Entry::Real(1.5)),
        ],
        ..LLAMA
    },
    Shape {
        family: "gemma3",
        layers: 7,
        entries: &[
            ("attention.sliding_window", Entry::Number(20)),
            ("rope.freq_base", Entry::Real(1e6)),
            ("rope.scaling.type", Entry::Text("linear")),
            ("rope.scaling.factor", Entry::Real(8.0)),
        ],
        ..LLAMA
    },
    // Heads of another width in the layers of the window; in the others values are the keys.
    Shape {
        family: "gemma4",
        layers: 4,
        head_dim: 32,
        factors: Some("rope_freqs.weight"),
        entries: &[
            ("attention.sliding_window", Entry::Number(20)),
            ("attention.sliding_window_pattern", Entry::Flags(&[true, false, true, false])),
            ("attention.key_length_swa", Entry::Number(16)),
            ("attention.value_length_swa", Entry::Number(16)),
            ("rope.dimension_count_swa", Entry::Number(8)),
            ("attention.scale", Entry::Real(0.25)),
            ("final_logit_softcapping", Entry::Real(2.0)),
        ],
        ..LLAMA
    },
];

pub fn model(shape: Shape, seed: u64) -> Gguf {
    Gguf::parse(&bytes(shape, seed), "random").expect("a file that was just written")
}

/// The file of a random model.
pub fn bytes(shape: Shape, seed: u64) -> Vec<u8> {
    let family = shape.family;
    let has_post_norms = ["olmo2", "gemma2", "gemma3", "gemma4", "glm4", "exaone4", "muse-glimmer"].contains(&family);
    let has_pre_norms = !["olmo2", "exaone4"].contains(&family);
    let second_norm = match family {
        "gpt-oss" | "seed_oss" | "qwen35" | "qwen35moe" => Some("post_attention_norm.weight"),
        "cohere2" => None,
        _ => Some("ffn_norm.weight"),
    };
    let is_gated = !["apertus", "arcee"].contains(&family);
    let mut noise = Noise(seed);
    let mut tensors = Vec::new();
    let mut matrix = |name: &str, inputs: usize, outputs: usize, kind: GgmlType| {
        let size = 1.0 / (inputs as f32).sqrt();
        let mut bytes: Vec<u8> = Vec::new();
        for _ in 0..inputs * outputs / kind.block_elements() as usize {
            let at = bytes.len();
            let mut halves: Vec<(usize, f32)> = Vec::new();
            match kind {
                GgmlType::F32 => bytes.extend((noise.value() * 2.0 * size).to_le_bytes()),
                GgmlType::F16 => bytes.extend(f16::from_f32(noise.value() * 2.0 * size).to_le_bytes()),
                GgmlType::BF16 => bytes.extend(half::bf16::from_f32(noise.value() * 2.0 * size).to_le_bytes()),
                GgmlType::Q4_0 => halves = vec![(0, size / 4.0)],
                GgmlType::Q4_1 => halves = vec![(0, size / 4.0), (2, -7.5 * size / 4.0)],
                GgmlType::Q5_0 => halves = vec![(0, size / 8.0)],
                GgmlType::Q5_1 => halves = vec![(0, size / 8.0), (2, -15.5 * size / 8.0)],
                GgmlType::Q8_0 => halves = vec![(0, size / 64.0)],
                GgmlType::Q2_K => halves = vec![(80, size / 8.0), (82, size / 8.0)],
                GgmlType::Q3_K => halves = vec![(108, size / 64.0)],
                GgmlType::Q4_K => halves = vec![(0, size / 100.0), (2, size / 13.0)],
                GgmlType::Q5_K => halves = vec![(0, size / 200.0), (2, size / 13.0)],
                GgmlType::Q6_K => halves = vec![(208, size / 1200.0)],
                other => panic!("{other:?} is not made here"),
            }
            if !halves.is_empty() {
                bytes.extend((0..kind.block_bytes()).map(|_| noise.bits() as u8));
            }
            for (offset, value) in halves {
                bytes[at + offset..at + offset + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
            }
        }
        tensors.push(Tensor { name: name.into(), dims: vec![inputs as u64, outputs as u64], kind, bytes });
    };
    let number = |key: &str| {
        let found = shape.entries.iter().find(|entry| entry.0 == key);
        found.map_or(0, |(_, entry)| if let Entry::Number(number) = entry { *number as usize } else { 0 })
    };
    let is_recurrent = |layer: usize| shape.recurrent.get(layer).is_some_and(|&recurrent| recurrent);
    let is_local_of_gemma4 = |layer: usize| family == "gemma4" && layer.is_multiple_of(2);
    let head_dim =
        |layer: usize| if is_local_of_gemma4(layer) { number("attention.key_length_swa") } else { shape.head_dim };
    let widths = |layer: usize| (shape.heads * head_dim(layer), shape.kv_heads * head_dim(layer));
    // Of a delta network.
    let (inner, heads) = (number("ssm.inner_size"), number("ssm.time_step_rank"));
    let width = number("ssm.state_size");
    matrix("token_embd.weight", shape.hidden, VOCABULARY, shape.head_kind);
    if !shape.tied {
        matrix("output.weight", shape.hidden, VOCABULARY, shape.kind);
    }
    for layer in 0..shape.layers {
        let at = |part: &str| format!("blk.{layer}.{part}.weight");
        let (query, kv) = widths(layer);
        let channels = inner + 2 * number("ssm.group_count") * width;
        if is_recurrent(layer) && family == "granitehybrid" {
            matrix(&at("ssm_in"), shape.hidden, inner + channels + heads, shape.kind);
            matrix(&at("ssm_conv1d"), number("ssm.conv_kernel"), channels, GgmlType::F32);
            matrix(&at("ssm_out"), inner, shape.hidden, shape.kind);
        } else if is_recurrent(layer) && inner > 0 {
            matrix(&at("attn_qkv"), shape.hidden, channels, shape.kind);
            matrix(&at("attn_gate"), shape.hidden, inner, shape.kind);
            matrix(&at("ssm_alpha"), shape.hidden, heads, GgmlType::F32);
            matrix(&at("ssm_beta"), shape.hidden, heads, shape.kind);
            matrix(&at("ssm_conv1d"), number("ssm.conv_kernel"), channels, GgmlType::F32);
            matrix(&at("ssm_out"), inner, shape.hidden, shape.kind);
        } else if is_recurrent(layer) {
            matrix(&at("shortconv.in_proj"), shape.hidden, 3 * shape.hidden, shape.kind);
            matrix(&at("shortconv.conv"), number("shortconv.l_cache"), shape.hidden, GgmlType::F32);
            matrix(&at("shortconv.out_proj"), shape.hidden, shape.hidden, shape.kind);
        } else if shape.joined {
            matrix(&at("attn_qkv"), shape.hidden, query + 2 * kv, shape.kind);
        } else {
            let gates = if family.starts_with("qwen35") { 2 } else { 1 };
            matrix(&at("attn_q"), shape.hidden, gates * query, shape.kind);
            matrix(&at("attn_k"), shape.hidden, kv, shape.kind);
            if family != "gemma4" || is_local_of_gemma4(layer) {
                matrix(&at("attn_v"), shape.hidden, kv, if layer == 0 { shape.kind } else { shape.head_kind });
            }
        }
        if family == "muse-glimmer" {
            matrix(&at("attn_gate"), shape.hidden, query, shape.kind);
        }
        if !is_recurrent(layer) {
            matrix(&at("attn_output"), query, shape.hidden, shape.kind);
        }
        let mut network = |ending: &str, count: usize, width: usize| {
            let at = |part: &str| at(&format!("ffn_{part}{ending}"));
            if shape.joined && ending.is_empty() {
                matrix(&at("up"), shape.hidden, 2 * width, shape.kind);
            } else if shape.joined {
                matrix(&at("gate_up"), shape.hidden, count * 2 * width, shape.kind);
            } else {
                if is_gated {
                    matrix(&at("gate"), shape.hidden, count * width, shape.kind);
                }
                matrix(&at("up"), shape.hidden, count * width, shape.kind);
            }
            matrix(&at("down"), width, count * shape.hidden, shape.kind);
        };
        match shape.experts.filter(|experts| layer >= experts.dense_layers) {
            None => network("", 1, shape.feed_forward),
            Some(Experts { count, width, shared, weighs_shared, .. }) => {
                network("_exps", count, width);
                if shared > 0 {
                    network("_shexp", 1, shared);
                }
                matrix(&at("ffn_gate_inp"), shape.hidden, count, GgmlType::F32);
                if weighs_shared {
                    matrix(&at("ffn_gate_inp_shexp"), shape.hidden, 1, GgmlType::F32);
                }
            }
        }
    }
    let mut vector = |name: String, length: usize, middle: f32| {
        let bytes = (0..length).flat_map(|_| (middle + noise.value() * 0.3).to_le_bytes()).collect();
        tensors.push(Tensor { name, dims: vec![length as u64], kind: GgmlType::F32, bytes });
    };
    let output_norm = if family.starts_with("lfm2") { "token_embd_norm.weight" } else { "output_norm.weight" };
    vector(output_norm.into(), shape.hidden, 1.0);
    for layer in 0..shape.layers {
        let at = |part: &str| format!("blk.{layer}.{part}");
        let (query, kv) = widths(layer);
        for (has, norms) in [
            (has_pre_norms, [Some("attn_norm.weight"), second_norm]),
            (has_post_norms, [Some("post_attention_norm.weight"), Some("post_ffw_norm.weight")]),
        ] {
            norms.iter().flatten().filter(|_| has).for_each(|norm| vector(at(norm), shape.hidden, 1.0));
        }
        if family == "gpt-oss" {
            let experts = shape.experts.expect("gpt-oss has experts");
            vector(at("attn_sinks.weight"), shape.heads, 0.0);
            vector(at("attn_output.bias"), shape.hidden, 0.0);
            vector(at("ffn_gate_inp.bias"), experts.count, 0.0);
            vector(at("ffn_gate_exps.bias"), experts.count * experts.width, 0.0);
            vector(at("ffn_up_exps.bias"), experts.count * experts.width, 0.0);
            vector(at("ffn_down_exps.bias"), experts.count * shape.hidden, 0.0);
        }
        if let Some(experts) = shape.experts.filter(|one| one.choice_bias && layer >= one.dense_layers) {
            vector(at("exp_probs_b.bias"), experts.count, 0.0);
        }
        if shape.biases && shape.joined {
            vector(at("attn_qkv.bias"), query + 2 * kv, 0.0);
        } else if shape.biases {
            vector(at("attn_q.bias"), query, 0.0);
            vector(at("attn_k.bias"), kv, 0.0);
            vector(at("attn_v.bias"), kv, 0.0);
        }
        let norms = match family {
            "gemma4" => {
                vector(at("layer_output_scale.weight"), 1, 0.8);
                Some((head_dim(layer), head_dim(layer)))
            }
            "qwen35" | "qwen35moe" if is_recurrent(layer) => {
                vector(at("ssm_norm.weight"), width, 1.0);
                vector(at("ssm_dt.bias"), heads, 0.0);
                vector(at("ssm_a"), heads, -0.5);
                None
            }
            "granitehybrid" if is_recurrent(layer) => {
                vector(at("ssm_conv1d.bias"), inner + 2 * number("ssm.group_count") * width, 0.0);
                vector(at("ssm_norm.weight"), inner, 1.0);
                vector(at("ssm_dt.bias"), heads, 0.0);
                vector(at("ssm_a"), heads, -0.5);
                vector(at("ssm_d"), heads, 1.0);
                None
            }
            _ if is_recurrent(layer) => None,
            "qwen3" | "qwen3moe" | "qwen35" | "qwen35moe" | "lfm2" | "lfm2moe" | "gemma3" | "hunyuan-dense"
            | "exaone4" | "apertus" | "muse-glimmer" => Some((shape.head_dim, shape.head_dim)),
            "olmo2" | "olmoe" => Some((query, kv)),
            _ => None,
        };
        if let Some((of_query, of_key)) = norms {
            vector(at("attn_q_norm.weight"), of_query, 1.0);
            vector(at("attn_k_norm.weight"), of_key, 1.0);
        }
    }
    if let Some(factors) = shape.factors {
        let turned = shape.entries.iter().find_map(|entry| match entry {
            ("rope.dimension_count", Entry::Number(dims)) => Some(*dims as usize),
            _ => None,
        });
        vector(factors.into(), turned.unwrap_or(shape.head_dim) / 2, 2.0);
    }
    // Experts have an extent of their own, and a single row is a vector.
    for tensor in &mut tensors {
        if let Some(experts) = shape.experts.filter(|_| tensor.name.contains("_exps")) {
            *tensor.dims.last_mut().expect("an extent") /= experts.count as u64;
            tensor.dims.push(experts.count as u64);
        }
        let in_columns = match tensor.name.rsplit_once('.').map_or("", |(_, part)| part) {
            "ssm_a" | "ssm_d" => 1,
            _ if tensor.name.ends_with("ssm_norm.weight") => inner / number("ssm.group_count").max(1),
            _ => 0,
        };
        if family == "granitehybrid" && in_columns > 0 {
            tensor.dims = vec![in_columns as u64, tensor.dims[0] / in_columns as u64];
        } else if tensor.dims.len() > 1 {
            tensor.dims.retain(|&extent| extent > 1);
        }
    }
    let mut metadata = Metadata::new("random");
    metadata.insert("general.architecture", Value::String(shape.family.into()));
    for (key, entry) in shape.entries {
        let value = match entry {
            Entry::Number(number) => Value::Unsigned(*number),
            // In 32 bits, as files have them.
            Entry::Real(number) => Value::Float(f64::from(*number as f32)),
            Entry::Text(text) => Value::String((*text).into()),
            Entry::Reals(numbers) => Value::Array(Array::Float(numbers.to_vec())),
            Entry::Flags(flags) => Value::Array(Array::Bool(flags.to_vec())),
        };
        let key = if key.starts_with("general.") || key.starts_with("xielu.") {
            (*key).into()
        } else {
            format!("{family}.{key}")
        };
        metadata.insert(key, value);
    }
    if let Some(experts) = shape.experts {
        for (key, value) in [
            ("expert_count", experts.count),
            ("expert_used_count", experts.used),
            ("expert_feed_forward_length", experts.width),
            ("expert_shared_feed_forward_length", experts.shared),
            ("leading_dense_block_count", experts.dense_layers),
        ] {
            metadata.insert(format!("{family}.{key}"), Value::Unsigned(value as u64));
        }
    }
    if family.starts_with("lfm2") || family == "granitehybrid" {
        let counts = (0..shape.layers).map(|layer| if is_recurrent(layer) { 0 } else { shape.kv_heads as u64 });
        metadata.insert(format!("{family}.attention.head_count_kv"), Value::Array(Array::Unsigned(counts.collect())));
    }
    for (key, value) in [
        ("block_count", shape.layers),
        ("embedding_length", shape.hidden),
        ("feed_forward_length", shape.feed_forward),
        ("attention.head_count", shape.heads),
        ("attention.head_count_kv", shape.kv_heads),
        ("attention.key_length", shape.head_dim),
        ("attention.value_length", shape.head_dim),
        ("context_length", CONTEXT),
    ] {
        metadata.insert(format!("{}.{key}", shape.family), Value::Unsigned(value as u64));
    }
    let epsilon = if family == "cohere2" { "layer_norm_epsilon" } else { "layer_norm_rms_epsilon" };
    metadata.insert(format!("{family}.attention.{epsilon}"), Value::Float(f64::from(1e-5_f32)));
    to_bytes(&metadata, &tensors)
}
