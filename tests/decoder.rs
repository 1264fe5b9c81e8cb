//! The decoder on small random models: what a batch, a chunk, a fork or a thread must not change, and
//! how near the kernels are to the reference.

use std::sync::Arc;

use half::f16;
use instil::decode::{Capacity, Request, Sampling, Scheduler, StreamKey};
use instil::gguf::write::{Tensor, to_bytes};
use instil::gguf::{GgmlType, Gguf, Metadata, Value};
use instil::model::decoder::Decoder;
use instil::model::kernels::Isa;
use instil::model::reference::Reference;
use instil::model::{Model, Segment, SequenceId};
use instil::vocab::{TokenKind, Vocab};
use proptest::prelude::*;

const VOCABULARY: usize = 99;
const CONTEXT: usize = 256;

/// Deterministic noise.
struct Noise(u64);

impl Noise {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn value(&mut self) -> f32 {
        (self.bits() & 0xFF_FFFF) as f32 / 8_388_608.0 - 1.0
    }
}

/// Sizes and kinds of a random model.
#[derive(Clone, Copy, Debug)]
struct Shape {
    family: &'static str,
    layers: usize,
    hidden: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    feed_forward: usize,
    kind: GgmlType,
    head_kind: GgmlType,
    tied: bool,
    biases: bool,
    head_norms: bool,
}

const LLAMA: Shape = Shape {
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

fn model(shape: Shape, seed: u64) -> Gguf {
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

/// Logits after the last of `tokens`, read one token a pass, alone.
fn alone(model: &mut dyn Model, tokens: &[u32]) -> Vec<u32> {
    let sequence = model.create();
    let mut last = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let wanted = at + 1 == tokens.len();
        let segment = Segment { sequence, tokens: std::slice::from_ref(token), logits: wanted };
        last = bits(&model.forward(&[segment]).expect("a pass").values);
    }
    model.free(sequence);
    last
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A sequence's logits are the same to the bit whatever else the model computes beside it, in
    /// whatever chunks it is read, whoever shares its prefix, however many threads there are.
    #[test]
    fn nothing_but_its_tokens_changes_a_sequence(
        seed in any::<u64>(),
        threads in 1usize..4,
        lengths in prop::collection::vec(1usize..90, 1..6),
        common in 0usize..70,
        kind in prop::sample::select(vec![GgmlType::Q4_1, GgmlType::Q4_0, GgmlType::Q8_0, GgmlType::F16]),
    ) {
        let file = model(Shape { kind, ..LLAMA }, seed);
        let mut noise = Noise(seed ^ 1);
        let mut draw = |below: usize| noise.bits() as usize % below;
        let prefix: Vec<u32> = (0..common).map(|_| draw(VOCABULARY) as u32).collect();
        let texts: Vec<Vec<u32>> = lengths.iter().map(|&length| {
            prefix.iter().copied().chain((0..length).map(|_| draw(VOCABULARY) as u32)).collect()
        }).collect();
        let mut lone = Decoder::load("lone", &file, 1).expect("a decoder");
        let expected: Vec<Vec<u32>> = texts.iter().map(|text| alone(&mut lone, text)).collect();

        let mut model = Decoder::load("batched", &file, threads).expect("a decoder");
        let parent = model.create();
        // The parent holds more than the prefix, so that forks cut blocks in the middle.
        let beyond = [texts[0].as_slice(), &[3, 5, 8]].concat();
        model.forward(&[Segment { sequence: parent, tokens: &beyond, logits: false }]).expect("a pass");
        let mut open: Vec<(SequenceId, usize)> = Vec::new();
        for _ in &texts {
            // Some share the prefix, some read it themselves.
            let shared = if draw(3) == 0 { 0 } else { draw(common + 1) };
            open.push((model.fork(parent, shared).expect("a fork"), shared));
        }
        if draw(2) == 0 {
            model.free(parent);
        } else {
            model.truncate(parent, 1);
        }
        let mut found = vec![Vec::new(); texts.len()];
        while found.iter().any(Vec::is_empty) {
            let mut order: Vec<usize> = (0..texts.len()).filter(|&text| found[text].is_empty()).collect();
            for at in (1..order.len()).rev() {
                order.swap(at, draw(at + 1));
            }
            order.truncate(1 + draw(order.len()));
            let chunks: Vec<(usize, usize)> = order.iter().map(|&text| {
                let left = texts[text].len() - open[text].1;
                (text, if draw(2) == 0 { 1 } else { 1 + draw(left) })
            }).collect();
            let segments: Vec<Segment> = chunks.iter().map(|&(text, count)| {
                let (sequence, at) = open[text];
                Segment { sequence, tokens: &texts[text][at..at + count], logits: at + count == texts[text].len() }
            }).collect();
            let logits = model.forward(&segments).expect("a pass");
            let mut row = 0;
            for (text, count) in chunks {
                open[text].1 += count;
                if open[text].1 == texts[text].len() {
                    found[text] = bits(logits.row(row));
                    row += 1;
                } else if draw(8) == 0 {
                    // Taking back what was read must leave no trace either.
                    open[text].1 = draw(open[text].1 + 1);
                    model.truncate(open[text].0, open[text].1);
                }
            }
        }
        for (text, (found, expected)) in found.iter().zip(&expected).enumerate() {
            prop_assert!(found == expected, "text {} of {:?}, {} threads", text, lengths, threads);
        }
    }
}

/// Correlation of two rows of logits, and their largest difference in standard deviations.
fn nearness(ours: &[f32], theirs: &[f32]) -> (f64, f64) {
    let mean = |values: &[f32]| values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len() as f64;
    let (a, b) = (mean(ours), mean(theirs));
    let (mut ab, mut aa, mut bb, mut largest) = (0.0, 0.0, 0.0, 0f64);
    for (&x, &y) in ours.iter().zip(theirs) {
        let (x, y) = (f64::from(x) - a, f64::from(y) - b);
        (ab, aa, bb) = (ab + x * y, aa + x * x, bb + y * y);
        largest = largest.max((x - y).abs());
    }
    (ab / (aa * bb).sqrt(), largest / (bb / theirs.len() as f64).sqrt())
}

/// Every family and every type of weights, against the reference in f32.
#[test]
fn kernels_are_near_the_reference() {
    let qwen2 = Shape { family: "qwen2", biases: true, kv_heads: 3, ..LLAMA };
    let qwen3 = Shape { family: "qwen3", head_norms: true, head_dim: 32, tied: false, ..LLAMA };
    let granite = Shape { family: "granite", ..LLAMA };
    let smollm3 = Shape { family: "smollm3", layers: 4, ..LLAMA };
    let wide = Shape { hidden: 256, heads: 4, kv_heads: 4, head_dim: 64, feed_forward: 256, ..LLAMA };
    let mut shapes = vec![
        LLAMA,
        qwen2,
        qwen3,
        granite,
        smollm3,
        Shape { feed_forward: 72, hidden: 80, kind: GgmlType::F32, head_kind: GgmlType::F32, ..LLAMA },
    ];
    for kind in [GgmlType::Q4_0, GgmlType::Q5_0, GgmlType::Q5_1, GgmlType::Q8_0, GgmlType::F16, GgmlType::BF16] {
        shapes.push(Shape { kind, ..qwen2 });
    }
    for kind in [GgmlType::Q2_K, GgmlType::Q3_K, GgmlType::Q4_K, GgmlType::Q5_K, GgmlType::Q6_K] {
        shapes.push(Shape { kind, head_kind: GgmlType::Q6_K, ..wide });
    }
    for shape in shapes {
        let file = model(shape, 7);
        let tokens: Vec<u32> = (0..70).map(|at| at * 31 % VOCABULARY as u32).collect();
        let run = |model: &mut dyn Model| {
            let sequence = model.create();
            model.forward(&[Segment { sequence, tokens: &tokens, logits: true }]).expect("a pass").values
        };
        let reference = run(&mut Reference::load("reference", &file, &candle_core::Device::Cpu).expect("a reference"));
        let isas = Isa::available();
        let runs: Vec<Vec<f32>> =
            isas.iter().map(|&isa| run(&mut Decoder::load_for("kernels", &file, 2, isa).expect("a decoder"))).collect();
        for (isa, logits) in isas.iter().zip(&runs) {
            assert_eq!(bits(logits), bits(&runs[0]), "{shape:?} on {isa:?}");
        }
        let (correlation, largest) = nearness(&runs[0], &reference);
        let is_float =
            matches!(shape.kind, GgmlType::F32 | GgmlType::F16 | GgmlType::BF16) && shape.head_kind == shape.kind;
        let (least, most) = if is_float { (0.999_99, 0.02) } else { (0.997, 0.3) };
        assert!(correlation > least && largest < most, "{shape:?}: correlation {correlation}, difference {largest}");
    }
}

#[test]
fn what_cannot_be_computed_is_refused() {
    let mut model = Decoder::load("small", &model(LLAMA, 1), 1).expect("a decoder");
    let sequence = model.create();
    let told = |result: instil::Result<instil::model::Logits>| result.expect_err("refused").to_string();
    let unknown = [VOCABULARY as u32];
    let error = told(model.forward(&[Segment { sequence, tokens: &unknown, logits: false }]));
    assert!(error.contains("no token 99"), "{error}");
    let long = vec![1; CONTEXT + 1];
    let error = told(model.forward(&[Segment { sequence, tokens: &long, logits: false }]));
    assert!(error.contains("exceeds the context"), "{error}");
    assert_eq!(model.length(sequence), 0, "a refused pass leaves the sequence as it was");
}

#[test]
fn blocks_are_shared_and_come_back() {
    let mut model = Decoder::load("small", &model(LLAMA, 1), 1).expect("a decoder");
    let block = model.key_value_memory().block_bytes;
    let used = |model: &Decoder| model.key_value_memory().used_bytes / block;
    let parent = model.create();
    model.forward(&[Segment { sequence: parent, tokens: &[1; 70], logits: false }]).expect("a pass");
    assert_eq!(used(&model), 3);
    let children: Vec<SequenceId> = (0..5).map(|_| model.fork(parent, 70).expect("a fork")).collect();
    assert_eq!(used(&model), 3, "forks share");
    for &sequence in &children {
        model.forward(&[Segment { sequence, tokens: &[2], logits: false }]).expect("a pass");
    }
    assert_eq!(used(&model), 3 + 5, "whoever writes gets a block of its own");
    model.truncate(children[0], 64);
    assert_eq!(used(&model), 3 + 4);
    children.into_iter().chain([parent]).for_each(|sequence| model.free(sequence));
    assert_eq!(used(&model), 0);
}

/// Rows of 12 requests with a common prefix.
fn rows(file: &Gguf, threads: usize, capacity: Capacity) -> Vec<Vec<u32>> {
    let mut model = Decoder::load("scheduled", file, threads).expect("a decoder");
    let spellings: Vec<Vec<u8>> = (0..VOCABULARY).map(|id| format!("<{id}>").into_bytes()).collect();
    let vocab = Vocab::new(spellings.iter().map(|bytes| (&bytes[..], TokenKind::Text)), &[7]);
    let mut scheduler = Scheduler::new(&mut model, Arc::new(vocab), capacity);
    let prefix: Arc<[u32]> = (0..45).map(|at| at * 13 % VOCABULARY as u32).collect();
    for row in 0..12 {
        scheduler.submit(Request {
            key: StreamKey { seed: 3, row, step: 0, attempt: 0 },
            prefix: prefix.clone(),
            prompt: vec![row, row + 1, row + 2],
            constraint: None,
            max_tokens: 20 + row as usize * 4,
            sampling: Sampling { temperature: 0.9, top_p: 0.95, ..Sampling::default() },
        });
    }
    let mut found = vec![Vec::new(); 12];
    while let Some(completion) = scheduler.next_completion().expect("a pass") {
        found[completion.key.row as usize] = completion.tokens;
    }
    drop(scheduler);
    assert_eq!(model.key_value_memory().used_bytes, 0, "every block comes back");
    found
}

#[test]
fn batch_threads_and_memory_change_no_row() {
    let file = model(LLAMA, 11);
    let expected = rows(&file, 1, Capacity::slots(1));
    assert!(expected.iter().all(|tokens| !tokens.is_empty()));
    let block = Decoder::load("small", &file, 1).expect("a decoder").key_value_memory().block_bytes;
    for (threads, slots, blocks) in [(2, 32, 1000), (3, 5, 1000), (2, 32, 8), (1, 32, 3), (2, 4, 1)] {
        let capacity = Capacity { slots, key_value_bytes: blocks * block };
        assert_eq!(rows(&file, threads, capacity), expected, "{threads} threads, {slots} slots, {blocks} blocks");
    }
}
