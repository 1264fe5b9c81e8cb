//! The GGUF reader: what it reads back, what it refuses, and that damage never panics.

use std::time::{Duration, Instant};

use instil_model::gguf::{Array, GgmlType, Gguf, Metadata, Value};

use crate::support::gguf_writer as write;

use write::{Tensor, to_bytes};

fn sample() -> Vec<u8> {
    let mut metadata = Metadata::new("sample");
    metadata.insert("general.architecture", Value::String("llama".into()));
    metadata.insert("llama.block_count", Value::Unsigned(2));
    metadata.insert("llama.rope.freq_base", Value::Float(10_000.0));
    metadata.insert("tokenizer.ggml.add_bos_token", Value::Bool(false));
    metadata.insert("tokenizer.ggml.tokens", Value::Array(Array::String(vec!["a".into(), "é".into(), String::new()])));
    metadata.insert("tokenizer.ggml.scores", Value::Array(Array::Float(vec![0.0, -1.5])));
    metadata.insert("tokenizer.ggml.token_type", Value::Array(Array::Signed(vec![1, -3])));
    metadata.insert("nested", Value::Array(Array::Nested(vec![Array::Bool(vec![true]), Array::Bytes(vec![1, 2])])));
    let tensors = [
        Tensor { name: "a".into(), dims: vec![3, 2], kind: GgmlType::F32, bytes: (0..24).collect() },
        Tensor { name: "b".into(), dims: vec![32, 2], kind: GgmlType::Q4_1, bytes: vec![7; 40] },
    ];
    to_bytes(&metadata, &tensors)
}

fn refusal(bytes: &[u8]) -> String {
    let message = Gguf::parse(bytes, "bad.gguf").expect_err("the file is bad").to_string();
    assert!(!message.contains('\n'), "one line: {message}");
    assert!(message.starts_with("bad.gguf: "), "names the file: {message}");
    message
}

#[test]
fn reads_back_values_and_tensors() {
    let gguf = Gguf::parse(&sample(), "sample").unwrap();
    let metadata = gguf.metadata();
    assert_eq!((gguf.version(), gguf.alignment()), (3, 32));
    assert_eq!(metadata.str("general.architecture").unwrap(), "llama");
    assert_eq!(metadata.u32("llama.block_count").unwrap(), 2);
    assert_eq!(metadata.opt_f32("llama.rope.freq_base").unwrap(), Some(10_000.0));
    assert_eq!(metadata.opt_bool("tokenizer.ggml.add_bos_token").unwrap(), Some(false));
    assert_eq!(metadata.strings("tokenizer.ggml.tokens").unwrap(), ["a", "é", ""]);
    assert_eq!(metadata.opt_floats("tokenizer.ggml.scores").unwrap(), Some(vec![0.0, -1.5]));
    assert_eq!(metadata.opt_integers("tokenizer.ggml.token_type").unwrap(), Some(vec![1, -3]));
    let tensor = gguf.tensor("a").unwrap();
    assert_eq!((tensor.shape(), tensor.elements()), (vec![2, 3], 6));
    assert_eq!(gguf.bytes(tensor).unwrap(), (0..24).collect::<Vec<u8>>());
    let quantised = gguf.tensor("b").unwrap();
    assert_eq!((quantised.ggml_type().unwrap(), quantised.offset % 32), (GgmlType::Q4_1, 0));
    assert_eq!(gguf.bytes(quantised).unwrap(), [7; 40]);
}

#[test]
fn missing_and_mistyped_keys_are_named() {
    let gguf = Gguf::parse(&sample(), "sample").unwrap();
    let missing = gguf.metadata().u32("llama.context_length").unwrap_err().to_string();
    assert!(missing.contains("`llama.context_length` is missing"), "{missing}");
    let mistyped = gguf.metadata().u32("general.architecture").unwrap_err().to_string();
    assert!(mistyped.contains("`general.architecture` is a text, not an integer"), "{mistyped}");
    assert!(gguf.tensor("c").unwrap_err().to_string().contains("tensor `c` is missing"));
}

#[test]
fn truncation_names_the_tensor_and_both_sizes() {
    let bytes = sample();
    let message = refusal(&bytes[..bytes.len() - 1]);
    let expected = format!("truncated: tensor b needs {} bytes, file has {}", bytes.len(), bytes.len() - 1);
    assert!(message.contains(&expected), "{message}");
    assert!(refusal(&bytes[..100]).contains("truncated"));
    assert!(refusal(b"GG").contains("truncated"));
}

#[test]
fn a_file_cut_short_after_it_was_opened_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("short.gguf");
    std::fs::write(&path, sample()).unwrap();
    let file = Gguf::open(&path).unwrap();
    let last = file.tensor("b").unwrap();
    assert!(file.bytes(last).is_ok());
    let length = std::fs::metadata(&path).unwrap().len();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(length - 1).unwrap();
    let message = file.bytes(last).unwrap_err().to_string();
    assert!(message.contains("was cut short while it was read: tensor b"), "{message}");
}

#[test]
fn other_files_and_versions_are_told_apart() {
    assert!(refusal(b"{\"not\": \"gguf\"}").contains("is not a GGUF file"));
    assert!(refusal(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n").contains("is a git LFS pointer"));
    assert!(refusal(b"\n<!DOCTYPE html><html>").contains("is an HTML page"));
    let with_version = |version: [u8; 4]| [b"GGUF".as_slice(), &version, &[0; 16]].concat();
    assert!(refusal(&with_version(1u32.to_le_bytes())).contains("version 1"));
    assert!(refusal(&with_version(9u32.to_le_bytes())).contains("version 9"));
    assert!(refusal(&with_version(3u32.to_be_bytes())).contains("big-endian"));
    assert!(Gguf::parse(&with_version(2u32.to_le_bytes()), "two").is_ok());
}

#[test]
fn impossible_counts_are_refused_before_allocating() {
    let header = |tensors: u64, pairs: u64| {
        [b"GGUF".as_slice(), &3u32.to_le_bytes(), &tensors.to_le_bytes(), &pairs.to_le_bytes()].concat()
    };
    assert!(refusal(&header(u64::MAX, 0)).contains("cannot fit"));
    assert!(refusal(&header(0, u64::MAX)).contains("cannot fit"));
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let list = [&header(0, 1)[..], &text("k"), &9u32.to_le_bytes(), &8u32.to_le_bytes(), &(1u64 << 60).to_le_bytes()];
    assert!(refusal(&list.concat()).contains("elements of `k`"));
    // A list of lists of lists: each level costs twelve bytes.
    let mut deep = [&header(0, 1)[..], &text("k"), &9u32.to_le_bytes()].concat();
    for _ in 0..100_000 {
        deep.extend(9u32.to_le_bytes());
        deep.extend(1u64.to_le_bytes());
    }
    assert!(refusal(&deep).contains("nests lists deeper"));
}

#[test]
fn duplicates_are_refused() {
    let mut metadata = Metadata::new("sample");
    assert!(metadata.insert("same", Value::Bool(true)));
    assert!(!metadata.insert("same", Value::Bool(false)));
    metadata.insert("sama", Value::Bool(true));
    let mut bytes = to_bytes(&metadata, &[]);
    let place = bytes.windows(4).position(|window| window == b"sama").unwrap();
    bytes[place + 3] = b'e';
    assert!(refusal(&bytes).contains("`same` is listed twice"));
    let tensor = Tensor { name: "t".into(), dims: vec![1], kind: GgmlType::F32, bytes: vec![0; 4] };
    let bytes = to_bytes(&Metadata::new("sample"), &[tensor.clone(), tensor]);
    assert!(refusal(&bytes).contains("tensor `t` is listed twice"));
}

#[test]
fn an_unknown_type_is_an_error_only_when_used() {
    let tensor = Tensor { name: "t".into(), dims: vec![4], kind: GgmlType::F32, bytes: vec![0; 16] };
    let mut bytes = to_bytes(&Metadata::new("sample"), &[tensor]);
    // Header 24, name length 8, name 1, dimension count 4, one dimension 8, then the type.
    bytes[24 + 8 + 1 + 4 + 8] = 21;
    let gguf = Gguf::parse(&bytes, "sample").unwrap();
    let message = gguf.bytes(gguf.tensor("t").unwrap()).unwrap_err().to_string();
    assert!(message.contains("tensor `t` has the type IQ3_S"), "{message}");
}

#[test]
fn damage_never_panics() {
    let whole = sample();
    let started = Instant::now();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    for length in 0..whole.len() {
        assert!(Gguf::parse(&whole[..length], "cut").is_err(), "a file cut at {length} was accepted");
    }
    for _ in 0..20_000 {
        let mut bytes = whole.clone();
        for _ in 0..=random(4) {
            let place = random(bytes.len());
            bytes[place] = match random(4) {
                0 => 0xff,
                1 => 0,
                2 => bytes[place].wrapping_add(1),
                _ => u8::try_from(random(256)).unwrap(),
            };
        }
        if random(4) == 0 {
            bytes.truncate(random(bytes.len()));
        }
        if let Ok(gguf) = Gguf::parse(&bytes, "changed") {
            for tensor in gguf.tensors() {
                let _ = gguf.bytes(tensor);
            }
        }
    }
    assert!(started.elapsed() < Duration::from_secs(20), "took {:?}", started.elapsed());
}
