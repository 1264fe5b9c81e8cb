//! The CUDA decoder against the reference in f32, on small random models and, where it is there, the default one.
//!
//! `cargo test --release --features cuda --test cuda -- --nocapture`; without a GPU it says that it skips.
#![cfg(feature = "cuda")]

use candle_core::Device;
use instil_model::gguf::{GgmlType, Gguf};
use instil_model::model::architecture::Architecture;
use instil_model::model::cuda::CudaDecoder;
use instil_model::model::reference::Reference;
use instil_model::model::{Model, Segment, SequenceId};

use crate::support::random_model;

use random_model::{FAMILIES, LLAMA, Noise, Shape, VOCABULARY, model};

/// Mean difference of logits, in standard deviations of the reference's, that rounding to f16 may make.
const TOLERANCE: f32 = 0.02;

fn gpu() -> Option<Device> {
    let device = Device::new_cuda_with_stream(0);
    if let Err(cause) = &device {
        crate::support::skip("GPU", "the decoder on a GPU", cause.to_string().lines().next().unwrap_or_default());
    }
    device.ok()
}

/// Logits after the last of each of `texts`, read in chunks of a few tokens, all texts in each pass.
fn in_chunks(model: &mut dyn Model, texts: &[Vec<u32>], chunk: usize, shared: usize) -> Vec<Vec<f32>> {
    let parent = model.sequences().create();
    if shared > 0 {
        model.forward(&[Segment { sequence: parent, tokens: &texts[0][..shared], logits: 0 }]).expect("a pass");
    }
    let sequences: Vec<SequenceId> =
        texts.iter().map(|_| model.sequences().fork(parent, shared).expect("a fork")).collect();
    model.sequences().free(parent);
    let mut last = vec![Vec::new(); texts.len()];
    let mut at = shared;
    while texts.iter().any(|text| at < text.len()) {
        let mut segments = Vec::new();
        let mut asked = Vec::new();
        for (index, text) in texts.iter().enumerate().filter(|(_, text)| at < text.len()) {
            let end = (at + chunk).min(text.len());
            let logits = usize::from(end == text.len());
            segments.push(Segment { sequence: sequences[index], tokens: &text[at..end], logits });
            asked.extend((logits == 1).then_some(index));
        }
        let logits = model.forward(&segments).expect("a pass");
        asked.iter().enumerate().for_each(|(row, &index)| last[index] = logits.row(row).expect("a row").to_vec());
        at += chunk;
    }
    sequences.into_iter().for_each(|sequence| model.sequences().free(sequence));
    last
}

fn texts(seed: u64, shared: usize, vocabulary: usize) -> Vec<Vec<u32>> {
    let mut noise = Noise(seed);
    let mut draw = |below: usize| noise.bits() as usize % below;
    let common: Vec<u32> = (0..shared).map(|_| draw(vocabulary) as u32).collect();
    [1usize, 7, 40, 130]
        .iter()
        .map(|&more| common.iter().copied().chain((0..more).map(|_| draw(vocabulary) as u32)).collect())
        .collect()
}

/// Mean absolute difference over the standard deviation of the expected logits.
fn apart(seen: &[f32], expected: &[f32]) -> f32 {
    let count = expected.len() as f32;
    let mean = expected.iter().sum::<f32>() / count;
    let deviation = (expected.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / count).sqrt();
    seen.iter().zip(expected).map(|(a, b)| (a - b).abs()).sum::<f32>() / count / deviation
}

fn agree(device: &Device, file: &Gguf, what: &str, vocabulary: usize) {
    let mut expected = Reference::load(what, file, &Device::Cpu).expect("the reference");
    let mut decoder = CudaDecoder::load(what, file, device).expect("a decoder");
    for (shared, chunk) in [(0, 1), (0, 64), (37, 5), (32, 200)] {
        let texts = texts(shared as u64 + 3, shared, vocabulary);
        let seen = in_chunks(&mut decoder, &texts, chunk, shared);
        let wanted = in_chunks(&mut expected, &texts, 512, shared);
        for (seen, wanted) in seen.iter().zip(&wanted) {
            let apart = apart(seen, wanted);
            println!("{what}, {shared} shared, chunks of {chunk}: {apart:.5}");
            assert!(apart < TOLERANCE, "{what}, {shared} shared, chunks of {chunk}: {apart}");
        }
    }
    assert_eq!(decoder.key_value_memory().used_bytes, 0);
}

#[test]
fn random_models_agree_with_the_reference() {
    let Some(device) = gpu() else { return };
    let wide = [
        Shape { family: "qwen2", biases: true, kind: GgmlType::Q8_0, head_dim: 64, heads: 4, kv_heads: 4, ..LLAMA },
        Shape { family: "qwen3", tied: false, kind: GgmlType::F16, head_dim: 128, ..LLAMA },
        Shape { family: "gemma", layers: 2, head_dim: 256, heads: 4, kv_heads: 1, ..LLAMA },
        Shape { family: "granite", kind: GgmlType::Q4_0, heads: 8, kv_heads: 1, head_dim: 32, ..LLAMA },
    ];
    for shape in FAMILIES.into_iter().chain(wide) {
        let file = model(shape, 11);
        let architecture = Architecture::read("random", &file).expect("an architecture");
        if !CudaDecoder::supports(&architecture, &file) {
            // Norms over all heads together: the reference runs these.
            assert_eq!(shape.family, "olmo2");
            continue;
        }
        agree(&device, &file, &format!("{} with heads of {}", shape.family, shape.head_dim), VOCABULARY);
    }
}

#[test]
fn a_weight_file_agrees_with_the_reference() {
    let Some(device) = gpu() else { return };
    let Some(path) = std::env::var_os("INSTIL_WEIGHTS") else {
        return crate::support::skip("WEIGHTS", "a weight file on the GPU", "name one in INSTIL_WEIGHTS");
    };
    let file = Gguf::open(std::path::Path::new(&path)).expect("a GGUF file");
    agree(&device, &file, "the weight file", 1000);
}
