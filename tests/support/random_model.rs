//! Small random models in GGUF, of any family and type of weights.

use half::f16;
use instil::gguf::write::{Tensor, to_bytes};
use instil::gguf::{GgmlType, Gguf, Metadata, Value};

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
    pub head_norms: bool,
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
    head_norms: false,
};

pub fn model(shape: Shape, seed: u64) -> Gguf {
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
    let (query, kv) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
    matrix("token_embd.weight", shape.hidden, VOCABULARY, shape.head_kind);
    if !shape.tied {
        matrix("output.weight", shape.hidden, VOCABULARY, shape.kind);
    }
    for layer in 0..shape.layers {
        let at = |part: &str| format!("blk.{layer}.{part}.weight");
        matrix(&at("attn_q"), shape.hidden, query, shape.kind);
        matrix(&at("attn_k"), shape.hidden, kv, shape.kind);
        matrix(&at("attn_v"), shape.hidden, kv, if layer == 0 { shape.kind } else { shape.head_kind });
        matrix(&at("attn_output"), query, shape.hidden, shape.kind);
        matrix(&at("ffn_gate"), shape.hidden, shape.feed_forward, shape.kind);
        matrix(&at("ffn_up"), shape.hidden, shape.feed_forward, shape.kind);
        matrix(&at("ffn_down"), shape.feed_forward, shape.hidden, shape.kind);
    }
    let mut vector = |name: String, length: usize, middle: f32| {
        let bytes = (0..length).flat_map(|_| (middle + noise.value() * 0.3).to_le_bytes()).collect();
        tensors.push(Tensor { name, dims: vec![length as u64], kind: GgmlType::F32, bytes });
    };
    vector("output_norm.weight".into(), shape.hidden, 1.0);
    for layer in 0..shape.layers {
        let at = |part: &str| format!("blk.{layer}.{part}");
        vector(at("attn_norm.weight"), shape.hidden, 1.0);
        vector(at("ffn_norm.weight"), shape.hidden, 1.0);
        if shape.biases {
            vector(at("attn_q.bias"), query, 0.0);
            vector(at("attn_k.bias"), kv, 0.0);
            vector(at("attn_v.bias"), kv, 0.0);
        }
        if shape.head_norms {
            vector(at("attn_q_norm.weight"), shape.head_dim, 1.0);
            vector(at("attn_k_norm.weight"), shape.head_dim, 1.0);
        }
    }
    let mut metadata = Metadata::new("random");
    metadata.insert("general.architecture", Value::String(shape.family.into()));
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
    if shape.family == "granite" {
        for (key, value) in
            [("embedding_scale", 3.0), ("residual_scale", 0.5), ("logit_scale", 4.0), ("attention.scale", 0.2)]
        {
            metadata.insert(format!("granite.{key}"), Value::Float(value));
        }
    }
    metadata.insert(format!("{}.attention.layer_norm_rms_epsilon", shape.family), Value::Float(1e-5));
    Gguf::parse(&to_bytes(&metadata, &tensors), "random").expect("a file that was just written")
}
