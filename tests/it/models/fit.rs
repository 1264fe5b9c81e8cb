//! What a model will take, told before it is fetched, and held against what it takes once it is loaded.

use instil_model::gguf::{Gguf, Value as GgufValue};
use instil_model::model::Model;
use instil_model::model::decoder::Decoder;
use instil_model::model::needs::Needs;
use serde_json::Value;

use super::stand_in::{Answer, Repository, repositories};
use super::{instil, stand_in, stderr, stdout};
use crate::program::weights::{model_with, random_model};
use crate::support::random_model::{FAMILIES, bytes};

#[test]
fn the_head_of_a_file_tells_what_the_decoder_takes() {
    for shape in FAMILIES {
        let whole = bytes(shape, 7);
        let file = Gguf::parse(&whole, "whole.gguf").expect("a file");
        let start = file.tensors().iter().map(|tensor| tensor.offset).min().expect("tensors");
        let head = Gguf::from_heads(&[(&whole[..start as usize], whole.len() as u64)], "head.gguf").expect("a head");
        let needs = Needs::of("head", &head).expect("needs");
        assert_eq!(needs, Needs::of("whole", &file).expect("needs"));
        assert!(Gguf::from_heads(&[(&whole[..start as usize / 2], whole.len() as u64)], "half.gguf").is_err());
        let decoder = Decoder::load("whole", &file, 1).expect("a decoder");
        assert_eq!(needs.block_bytes, decoder.key_value_memory().block_bytes as u64, "{shape:?}");
        // The difference is vectors, which weigh in models of such widths: those beside experts are not in the
        // decoder's sum.
        let (told, taken) = (needs.weight_bytes as f64, decoder.weight_bytes() as f64);
        assert!((told / taken - 1.0).abs() < 0.06, "{shape:?}: {told} for {taken}");
        assert_eq!(needs.state_bytes, decoder.key_value_memory().state_bytes as u64, "{shape:?}");
        assert_eq!(needs.key_value_bytes(3, 33), 6 * needs.block_bytes + 3 * needs.state_bytes);
    }
}

/// A model whose head takes more than a megabyte.
fn wordy() -> Vec<u8> {
    model_with(&[("general.description", GgufValue::String("a word ".repeat(300_000)))])
}

fn hub() -> Vec<Repository> {
    let files = vec![("Small-Q4_K_M.gguf", wordy()), ("Small-Q8_0.gguf", [random_model(), vec![0; 64]].concat())];
    let commit = "89abcdef89abcdef89abcdef89abcdef89abcdef";
    vec![Repository { name: "people/Small-GGUF", commit, files, more: Value::Null }]
}

#[test]
fn a_model_on_the_hub_is_looked_into_and_not_fetched() {
    if !stand_in::loopback() {
        return;
    }
    let server = repositories(hub(), |_| None);
    let home = tempfile::tempdir().unwrap();
    let fit = |arguments: &[&str]| {
        let output = instil(home.path(), &[("HF_ENDPOINT", &server.url())], &[&["models", "fit"], arguments].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    };
    let found: Value =
        serde_json::from_str(&fit(&["people/Small-GGUF", "--batch", "4", "--tokens", "64", "--json"])).unwrap();
    let needs = Needs::of("m", &Gguf::parse(&random_model(), "m.gguf").unwrap()).unwrap();
    assert_eq!(found["name"], "people/Small-GGUF:Q4_K_M");
    assert_eq!(found["architecture"], "llama");
    assert_eq!(found["parameters"], needs.parameters);
    assert_eq!(found["cpu"]["weight_bytes"], needs.weight_bytes);
    assert_eq!(found["key_value_bytes"], 8 * needs.block_bytes);
    assert_eq!(found["file_bytes"], wordy().len());
    assert_eq!(found["quantisations"][1]["quantisation"], "Q8_0");
    if cfg!(target_os = "linux") {
        assert_eq!(found["cpu"]["fits"], "yes");
    }
    let ranges: Vec<String> = server
        .seen()
        .iter()
        .filter(|seen| seen.path.starts_with("/content/"))
        .map(|seen| seen.header("range").unwrap_or("none").to_owned())
        .collect();
    assert_eq!(ranges, ["bytes=0-1048575".to_owned(), format!("bytes=1048576-{}", wordy().len() - 1)]);
    assert!(!home.path().join("cache/huggingface").exists());

    // A million texts are more than any machine holds; keys and values of texts as long as the context at most.
    let told = fit(&["people/Small-GGUF:Q8_0", "--batch", "1000000000", "--tokens", "999999999"]);
    assert!(told.contains("texts of 4096 tokens"), "{told}");
    assert!(!cfg!(target_os = "linux") || told.contains("does not fit"), "{told}");
}

#[test]
fn without_a_head_the_size_is_told() {
    if !stand_in::loopback() {
        return;
    }
    // A server that knows no ranges.
    let server =
        repositories(hub(), |request| request.path.starts_with("/content/").then(|| Answer::new("200 OK", wordy())));
    let home = tempfile::tempdir().unwrap();
    let set = [("HF_ENDPOINT", server.url())];
    let set: Vec<(&str, &str)> = set.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let output = instil(home.path(), &set, &["models", "fit", "people/Small-GGUF"]);
    assert!(stdout(&output).contains("by the size of the files alone"), "{}", stdout(&output));
    assert!(stderr(&output).contains("cannot look into model people/Small-GGUF:Q4_K_M"), "{}", stderr(&output));
}

#[test]
fn a_file_that_is_here_and_the_list_tell_what_is_needed() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("own.gguf").display().to_string();
    std::fs::write(&path, random_model()).unwrap();
    let output = instil(home.path(), &[], &["models", "fit", &path]);
    let told = stdout(&output);
    for expected in
        ["llama, 0.00 billion weights", "keys and values", "32 texts of 1024 tokens", "on the CPU", "on a GPU"]
    {
        assert!(told.contains(expected), "{expected}: {told}");
    }
    let listed = stdout(&instil(home.path(), &[], &["models", "list", "--json"]));
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed[0]["needed_bytes"], listed[0]["size_bytes"]);
    let listed = stdout(&instil(home.path(), &[], &["models", "list"]));
    assert!(listed.lines().next().unwrap().contains("MEMORY  FITS"), "{listed}");
    assert!(!cfg!(target_os = "linux") || listed.contains(" yes "), "{listed}");
    // What this program cannot run is said with the cause.
    let other = home.path().join("other.gguf").display().to_string();
    let bytes: Vec<u8> = random_model();
    let at = bytes.windows(5).position(|window| window == b"llama").unwrap();
    std::fs::write(&other, [&bytes[..at], b"mamba", &bytes[at + 5..]].concat()).unwrap();
    let output = instil(home.path(), &[], &["models", "fit", &other]);
    assert!(stderr(&output).contains("architecture `mamba` is not supported"), "{}", stderr(&output));
}
