//! The decoder on small random models: what a batch, a chunk, a fork or a thread must not change, and
//! how near the kernels are to the reference.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use instil_grammar::vocab::{TokenKind, Vocab};
use instil_model::decode::{Capacity, Request, Sampling, Scheduler, StreamKey};
use instil_model::gguf::{GgmlType, Gguf, Metadata, Value};
use instil_model::model::decoder::Decoder;
use instil_model::model::draw::{Draw, Sampler, Samplers, ToDraw};
use instil_model::model::kernels::Isa;
use instil_model::model::reference::Reference;
use instil_model::model::{Checkpoint, Logits, Model, ModelInfo, OnDevice, Segment, SequenceId, Sequences};
use proptest::prelude::*;

use crate::support::in_memory;
use crate::support::random_model;

use in_memory::InMemory;
use random_model::{CONTEXT, FAMILIES, LLAMA, Noise, Shape, VOCABULARY, model};

/// Logits after each of `tokens`, read one token a pass, alone.
fn alone(model: &mut dyn Model, tokens: &[u32]) -> Vec<Vec<u32>> {
    let sequence = model.sequences().create();
    let read = |token: &u32| {
        let segment = Segment { sequence, tokens: std::slice::from_ref(token), logits: 1 };
        bits(model.forward(&[segment]).expect("a pass").values().expect("values"))
    };
    let rows = tokens.iter().map(read).collect();
    model.sequences().free(sequence);
    rows
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// A sequence's logits are the same to the bit whatever else the model computes beside it, in
    /// whatever chunks it is read, whoever shares its prefix, however many threads there are.
    #[test]
    fn nothing_but_its_tokens_changes_a_sequence(
        seed in any::<u64>(),
        threads in 1usize..4,
        lengths in prop::collection::vec(1usize..90, 1..6),
        common in 0usize..70,
        kind in prop::sample::select(vec![GgmlType::Q4_1, GgmlType::Q4_0, GgmlType::Q8_0, GgmlType::F16]),
        family in prop::sample::select(&FAMILIES[..]),
    ) {
        let file = model(Shape { kind, ..family }, seed);
        let mut noise = Noise(seed ^ 1);
        let mut draw = |below: usize| noise.bits() as usize % below;
        let prefix: Vec<u32> = (0..common).map(|_| draw(VOCABULARY) as u32).collect();
        let texts: Vec<Vec<u32>> = lengths.iter().map(|&length| {
            prefix.iter().copied().chain((0..length).map(|_| draw(VOCABULARY) as u32)).collect()
        }).collect();
        let mut lone = Decoder::load("lone", &file, 1).expect("a decoder");
        let expected: Vec<Vec<Vec<u32>>> = texts.iter().map(|text| alone(&mut lone, text)).collect();

        let mut model = Decoder::load("batched", &file, threads).expect("a decoder");
        let parent = model.sequences().create();
        // The parent holds more than the prefix, so that forks cut blocks in the middle; or no more than it, where
        // nothing else can be cut.
        let cuts_anywhere = model.sequences().cuts_anywhere();
        let beyond = if cuts_anywhere { [texts[0].as_slice(), &[3, 5, 8]].concat() } else { prefix.clone() };
        if !beyond.is_empty() {
            model.forward(&[Segment { sequence: parent, tokens: &beyond, logits: 0 }]).expect("a pass");
        }
        let mut open: Vec<(SequenceId, usize)> = Vec::new();
        for _ in &texts {
            // Some share the prefix, some read it themselves.
            let shared = if draw(3) == 0 { 0 } else if cuts_anywhere { draw(common + 1) } else { common };
            open.push((model.sequences().fork(parent, shared).expect("a fork"), shared));
        }
        if draw(2) == 0 {
            model.sequences().free(parent);
        } else {
            model.sequences().truncate(parent, usize::from(cuts_anywhere));
        }
        let mut whole = vec![false; texts.len()];
        while whole.contains(&false) {
            let mut order: Vec<usize> = (0..texts.len()).filter(|&text| !whole[text]).collect();
            for at in (1..order.len()).rev() {
                order.swap(at, draw(at + 1));
            }
            order.truncate(1 + draw(order.len()));
            // Each reads some tokens, and asks for logits after some of the last of them.
            let chunks: Vec<(usize, usize, usize)> = order.iter().map(|&text| {
                let left = texts[text].len() - open[text].1;
                let count = if draw(2) == 0 { 1 } else { 1 + draw(left) };
                (text, count, if count == left { 1 + draw(count) } else { draw(count + 1) })
            }).collect();
            let segments: Vec<Segment> = chunks.iter().map(|&(text, count, logits)| {
                let (sequence, at) = open[text];
                Segment { sequence, tokens: &texts[text][at..at + count], logits }
            }).collect();
            let logits = model.forward(&segments).expect("a pass");
            prop_assert_eq!(logits.values().expect("values").len(), chunks.iter().map(|chunk| chunk.2).sum::<usize>() * VOCABULARY);
            let mut row = 0;
            for (text, count, wanted) in chunks {
                open[text].1 += count;
                let first = open[text].1 - wanted;
                for (at, expected) in expected[text].iter().enumerate().skip(first).take(wanted) {
                    let same = bits(logits.row(row).expect("a row")) == *expected;
                    prop_assert!(same, "{}: token {} of {} of {:?}, {} threads", family.family, at, text, lengths, threads);
                    row += 1;
                }
                whole[text] = open[text].1 == texts[text].len();
                if !whole[text] && draw(8) == 0 {
                    // Taking back what was read must leave no trace either.
                    let (sequence, length) = (open[text].0, draw(open[text].1 + 1));
                    open[text].1 = if model.sequences().can_cut(sequence, length) { length } else { 0 };
                    model.sequences().truncate(sequence, open[text].1);
                }
            }
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
    let wide = Shape { hidden: 256, heads: 4, kv_heads: 4, head_dim: 64, feed_forward: 256, ..LLAMA };
    let mut shapes =
        vec![LLAMA, Shape { feed_forward: 72, hidden: 80, kind: GgmlType::F32, head_kind: GgmlType::F32, ..LLAMA }];
    shapes.extend(FAMILIES);
    shapes.extend(FAMILIES.map(|shape| Shape { kind: GgmlType::F32, head_kind: GgmlType::F32, ..shape }));
    // Fused matrices of a type that has no form of its own, with biases.
    let phi3 = FAMILIES.into_iter().find(|shape| shape.family == "phi3").expect("one");
    shapes.push(Shape {
        hidden: 256,
        feed_forward: 256,
        kind: GgmlType::Q2_K,
        head_kind: GgmlType::Q6_K,
        heads: 16,
        biases: true,
        ..phi3
    });
    for kind in [GgmlType::Q4_0, GgmlType::Q5_0, GgmlType::Q5_1, GgmlType::Q8_0, GgmlType::F16, GgmlType::BF16] {
        shapes.push(Shape { kind, ..qwen2 });
    }
    for kind in [GgmlType::Q2_K, GgmlType::Q3_K, GgmlType::Q4_K, GgmlType::Q5_K, GgmlType::Q6_K] {
        shapes.push(Shape { kind, head_kind: GgmlType::Q6_K, ..wide });
    }
    for shape in shapes {
        let file = model(shape, 7);
        let tokens: Vec<u32> = (0..150).map(|at| at * 31 % VOCABULARY as u32).collect();
        let run = |model: &mut dyn Model| {
            let sequence = model.sequences().create();
            model
                .forward(&[Segment { sequence, tokens: &tokens, logits: 1 }])
                .expect("a pass")
                .values()
                .expect("values")
                .to_vec()
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

/// A checkpoint need not be a file of any form.
#[test]
fn weights_in_memory_are_those_of_the_file() {
    let tokens: Vec<u32> = (0..40).map(|at| at * 31 % VOCABULARY as u32).collect();
    for family in FAMILIES {
        let file = model(Shape { biases: family.biases || family.joined, ..family }, 9);
        let in_memory = InMemory::copy_of(&file);
        let decoder = |file: &dyn Checkpoint| alone(&mut Decoder::load("one", file, 1).expect("a decoder"), &tokens);
        assert_eq!(decoder(&in_memory), decoder(&file), "{}", family.family);
        let cpu = candle_core::Device::Cpu;
        let mut reference = Reference::load("reference", &in_memory, &cpu).expect("a reference");
        let mut expected = Reference::load("reference", &file, &cpu).expect("a reference");
        assert_eq!(alone(&mut reference, &tokens), alone(&mut expected, &tokens), "{}", family.family);
    }
}

#[test]
fn what_cannot_be_computed_is_refused() {
    let mut model = Decoder::load("small", &model(LLAMA, 1), 1).expect("a decoder");
    let sequence = model.sequences().create();
    let told = |result: instil_model::Result<Logits>| result.expect_err("refused").to_string();
    let unknown = [VOCABULARY as u32];
    let error = told(model.forward(&[Segment { sequence, tokens: &unknown, logits: 0 }]));
    assert!(error.contains("no token 99"), "{error}");
    let long = vec![1; CONTEXT + 1];
    let error = told(model.forward(&[Segment { sequence, tokens: &long, logits: 0 }]));
    assert!(error.contains("exceeds the context"), "{error}");
    assert_eq!(model.sequences().length(sequence), 0, "a refused pass leaves the sequence as it was");
}

#[test]
fn blocks_are_shared_and_come_back() {
    let mut model = Decoder::load("small", &model(LLAMA, 1), 1).expect("a decoder");
    let block = model.key_value_memory().block_bytes;
    let used = |model: &Decoder| model.key_value_memory().used_bytes / block;
    let parent = model.sequences().create();
    model.forward(&[Segment { sequence: parent, tokens: &[1; 70], logits: 0 }]).expect("a pass");
    assert_eq!(used(&model), 3);
    let children: Vec<SequenceId> = (0..5).map(|_| model.sequences().fork(parent, 70).expect("a fork")).collect();
    assert_eq!(used(&model), 3, "forks share");
    for &sequence in &children {
        model.forward(&[Segment { sequence, tokens: &[2], logits: 0 }]).expect("a pass");
    }
    assert_eq!(used(&model), 3 + 5, "whoever writes gets a block of its own");
    model.sequences().truncate(children[0], 64);
    assert_eq!(used(&model), 3 + 4);
    children.into_iter().chain([parent]).for_each(|sequence| model.sequences().free(sequence));
    assert_eq!(used(&model), 0);
}

/// States are counted as blocks are, and whoever goes on from a shared one gets its own.
#[test]
fn states_are_shared_and_come_back() {
    let file = model(FAMILIES.into_iter().find(|shape| shape.family == "qwen35").expect("one"), 1);
    let mut model = Decoder::load("small", &file, 1).expect("a decoder");
    let sizes = model.key_value_memory();
    // Of two layers the inputs of a convolution over 160 channels that sees 4, and 3 heads of 32 × 32 floats.
    assert_eq!(sizes.state_bytes, 2 * (3 * 160 + 3 * 32 * 32) * 4);
    let used = |model: &Decoder| model.key_value_memory().used_bytes;
    let parent = model.sequences().create();
    model.forward(&[Segment { sequence: parent, tokens: &[1; 70], logits: 0 }]).expect("a pass");
    assert_eq!(used(&model), 3 * sizes.block_bytes + sizes.state_bytes);
    let child = model.sequences().fork(parent, 70).expect("a fork");
    assert_eq!(used(&model), 3 * sizes.block_bytes + sizes.state_bytes, "a fork shares");
    model.forward(&[Segment { sequence: child, tokens: &[2], logits: 0 }]).expect("a pass");
    assert_eq!(used(&model), 4 * sizes.block_bytes + 2 * sizes.state_bytes);
    assert!(!model.sequences().can_cut(child, 70) && model.sequences().can_cut(parent, 70));
    model.sequences().truncate(child, 0);
    assert_eq!(used(&model), 3 * sizes.block_bytes + sizes.state_bytes);
    [child, parent].into_iter().for_each(|sequence| model.sequences().free(sequence));
    assert_eq!(used(&model), 0);
}

/// Blocks that guess further tokens are passed over, whatever they hold.
#[test]
fn blocks_of_predictions_change_nothing() {
    let shape = FAMILIES.into_iter().find(|shape| shape.family == "qwen35").expect("one");
    let file = model(shape, 3);
    let tokens: Vec<u32> = (0..20).collect();
    let mut more = InMemory::copy_of(&file);
    more.metadata = Metadata::new("more");
    more.metadata.insert("qwen35.block_count", Value::Unsigned(shape.layers as u64 + 1));
    more.metadata.insert("qwen35.nextn_predict_layers", Value::Unsigned(1));
    for (key, value) in file.metadata().iter() {
        more.metadata.insert(key, value.clone());
    }
    for name in ["nextn.eh_proj.weight", "attn_q.weight", "nextn.shared_head_norm.weight"] {
        more.tensors.insert(format!("blk.3.{name}"), (GgmlType::F32, vec![2, 2], vec![0; 16]));
    }
    let decoder = |file: &dyn Checkpoint| alone(&mut Decoder::load("one", file, 1).expect("a decoder"), &tokens);
    assert_eq!(decoder(&more), decoder(&file));
}

/// Rows of 12 requests with a common prefix.
fn rows(file: &Gguf, threads: usize, capacity: Capacity) -> Vec<Vec<u32>> {
    let mut model = Decoder::load("scheduled", file, threads).expect("a decoder");
    let rows = rows_of(&mut model, capacity);
    assert_eq!(model.key_value_memory().used_bytes, 0, "every block comes back");
    rows
}

fn rows_of(model: &mut dyn Model, capacity: Capacity) -> Vec<Vec<u32>> {
    let spellings: Vec<Vec<u8>> = (0..VOCABULARY).map(|id| format!("<{id}>").into_bytes()).collect();
    let vocab = Vocab::new(spellings.iter().map(|bytes| (&bytes[..], TokenKind::Text)), &[7]);
    let mut scheduler = Scheduler::new(model, Arc::new(vocab), capacity);
    let prefix: Arc<[u32]> = (0..45).map(|at| at * 13 % VOCABULARY as u32).collect();
    for row in 0..12 {
        scheduler.submit(Request {
            key: StreamKey { seed: 3, row, step: 0, attempt: 0 },
            prefix: prefix.clone(),
            prompt: vec![row, row + 1, row + 2],
            constraint: None,
            max_tokens: 20 + row as usize * 4,
            sampling: Sampling { temperature: 0.9, top_p: 0.95, ..Sampling::default() },
            thought: None,
            measure: None,
        });
    }
    let mut found = vec![Vec::new(); 12];
    while let Some(completion) = scheduler.next_completion().expect("a pass") {
        found[completion.key.row as usize] = completion.tokens;
    }
    found
}

/// A decoder whose logits lie out of the processor's sight; it draws from them where they are, or leaves that.
struct Remote {
    decoder: Decoder,
    draws: bool,
    /// How often logits were fetched.
    fetched: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Hidden {
    values: Vec<f32>,
    fetched: Arc<AtomicUsize>,
}

impl OnDevice for Hidden {
    fn fetch(&self) -> instil_model::Result<Vec<f32>> {
        self.fetched.fetch_add(1, Ordering::Relaxed);
        Ok(self.values.clone())
    }
}

impl Model for Remote {
    fn info(&self) -> &ModelInfo {
        self.decoder.info()
    }

    fn sequences(&mut self) -> &mut dyn Sequences {
        self.decoder.sequences()
    }

    fn forward(&mut self, segments: &[Segment]) -> instil_model::Result<Logits> {
        let logits = self.decoder.forward(segments)?;
        let hidden = Hidden { values: logits.values()?.to_vec(), fetched: self.fetched.clone() };
        Ok(Logits::on_device(Box::new(hidden), logits.width()))
    }

    fn draw(
        &mut self,
        logits: &Logits,
        wanted: &[ToDraw],
        samplers: &Samplers,
    ) -> instil_model::Result<Vec<Option<Draw>>> {
        if !self.draws {
            return samplers.draw(logits, wanted);
        }
        let hidden = logits.device().and_then(|logits| logits.downcast_ref::<Hidden>()).expect("its own logits");
        let mut sampler = Sampler::default();
        let draw = |wanted: &ToDraw| {
            let row = &hidden.values[wanted.row * VOCABULARY..(wanted.row + 1) * VOCABULARY];
            sampler.draw(row, wanted.context, wanted.sampling, wanted.key, wanted.index)
        };
        Ok(wanted.iter().map(draw).collect())
    }
}

#[test]
fn logits_may_stay_where_they_are() {
    let file = model(LLAMA, 11);
    let expected = rows(&file, 2, Capacity::slots(5));
    for draws in [true, false] {
        let decoder = Decoder::load("remote", &file, 2).expect("a decoder");
        let mut remote = Remote { decoder, draws, fetched: Arc::default() };
        assert_eq!(rows_of(&mut remote, Capacity::slots(5)), expected);
        assert_eq!(remote.fetched.load(Ordering::Relaxed) == 0, draws, "a model that draws keeps its logits");
    }
}

/// What is told is what lies in memory: 2 and 3 bits take 4 a weight.
#[test]
fn the_memory_of_weights_is_that_of_their_forms() {
    let wide = Shape { hidden: 256, heads: 4, kv_heads: 4, head_dim: 64, feed_forward: 256, ..LLAMA };
    let bytes = |kind| {
        let file = model(Shape { kind, head_kind: kind, ..wide }, 1);
        Decoder::load("weights", &file, 1).expect("a decoder").weight_bytes()
    };
    assert!(bytes(GgmlType::Q2_K) * 3 < bytes(GgmlType::F16));
    assert_eq!(bytes(GgmlType::Q2_K), bytes(GgmlType::Q3_K));
    assert!(bytes(GgmlType::Q3_K) < bytes(GgmlType::Q4_K));
    let file = model(LLAMA, 1);
    let reference = Reference::load("weights", &file, &candle_core::Device::Cpu).expect("a reference");
    let elements: u64 = file.tensors().iter().map(instil_model::gguf::TensorInfo::elements).sum();
    assert_eq!(reference.weight_bytes() as u64, elements * 4);
}

#[test]
fn batch_threads_and_memory_change_no_row() {
    let recurrent = ["qwen35", "lfm2moe"];
    for shape in FAMILIES.into_iter().filter(|shape| recurrent.contains(&shape.family)).chain([LLAMA]) {
        let file = model(shape, 11);
        let expected = rows(&file, 1, Capacity::slots(1));
        assert!(expected.iter().all(|tokens| !tokens.is_empty()));
        let memory = Decoder::load("small", &file, 1).expect("a decoder").key_value_memory();
        let most = memory.block_bytes.max(memory.state_bytes);
        for (threads, slots, blocks) in [(2, 32, 1000), (3, 5, 1000), (2, 32, 8), (1, 32, 3), (2, 4, 1)] {
            let capacity = Capacity { slots, key_value_bytes: blocks * most };
            assert_eq!(rows(&file, threads, capacity), expected, "{threads} threads, {slots} slots, {blocks} blocks");
        }
    }
}
