//! Tests that need the default model's weights. Without them they say so and pass; with
//! `INSTIL_REQUIRE_MODEL=1` their absence is a failure.

use std::path::PathBuf;
use std::sync::Arc;

use instil::catalog::source::{Places, Presence, locate};
use instil::catalog::{Catalog, DEFAULT_MODEL};
use instil_model::gguf::Gguf;
use instil_model::model::decoder::Decoder;
use instil_model::model::reference::Reference;
use instil_model::model::{Model, Segment, SequenceId};
use instil_model::tokenizer::chat::Message;
use instil_model::tokenizer::{EncodeOptions, Tokenizer};

/// The default model's file, if it is on this machine.
fn weights(test: &str) -> Option<PathBuf> {
    let places = Places::from_environment();
    let manifest = Catalog::load(&places).expect("manifests").find(DEFAULT_MODEL).expect("the default").clone();
    match locate(&manifest, &places).expect("a readable cache") {
        Presence::Present(located) => located.weights().map(|file| file.path.clone()),
        _ => {
            crate::support::skip("MODEL", test, "get the default model: `cargo run --release -- models pull`");
            None
        }
    }
}

fn load(path: &PathBuf) -> (Decoder, Arc<Tokenizer>) {
    let file = Gguf::open(path).expect("a GGUF file");
    let tokenizer = Tokenizer::from_gguf(file.metadata(), "default").expect("a tokenizer");
    let model = Decoder::load("default", &file, 2).expect("a decoder");
    (model, Arc::new(tokenizer))
}

fn chat(tokenizer: &Tokenizer, question: &str) -> Vec<u32> {
    tokenizer.encode_chat(&[Message::user(question)], true).expect("a chat prompt")
}

/// Greedy continuations by llama.cpp (the release that llama-cpp-python 0.3.36 carries, CPU, AVX-512
/// without AMX) of the default file: `POST /completion` with the chat prompt, `temperature` 0,
/// `n_predict` 64, `return_tokens`.
const LLAMA_CPP: [(&str, [u32; 64]); 2] = [
    (
        "Write a short story about a lighthouse keeper.",
        [
            504, 2388, 761, 932, 335, 253, 43471, 3163, 28, 284, 260, 303, 11935, 10483, 282, 260, 905, 9318, 347, 253,
            21651, 288, 260, 6145, 282, 260, 1205, 3330, 30, 533, 260, 1165, 28, 7915, 3102, 282, 22317, 581, 9550, 28,
            253, 33059, 40061, 3365, 33371, 761, 5636, 650, 1029, 288, 260, 10217, 282, 623, 14764, 3626, 30, 198, 198,
            7525, 33371, 436, 253, 555,
        ],
    ),
    (
        "What is photosynthesis? Explain it step by step.",
        [
            33580, 14870, 314, 253, 4334, 5748, 980, 338, 4149, 281, 2109, 28, 12325, 28, 284, 634, 3939, 28, 837, 502,
            7728, 1420, 1439, 429, 260, 2388, 618, 2819, 1439, 6314, 281, 8102, 30, 669, 980, 314, 1895, 327, 1029,
            335, 2591, 975, 357, 2433, 260, 3003, 1439, 2257, 327, 3920, 511, 8133, 30, 198, 198, 504, 980, 3445, 260,
            9538, 282, 3118, 7600, 365,
        ],
    ),
];

/// Both round activations to 8 bits, llama.cpp with f16 scales and ours with f32 ones, so each errs in its
/// own way and the two may part at a near tie. Seen: token 63 of the first prompt, ahead by 0.270.
const NEAR_TIE: f32 = 0.4;

#[test]
fn greedy_tokens_are_those_of_llama_cpp() {
    let Some(path) = weights("greedy_tokens_are_those_of_llama_cpp") else { return };
    let (mut model, tokenizer) = load(&path);
    for (question, expected) in &LLAMA_CPP {
        let sequence = model.sequences().create();
        let mut next = chat(&tokenizer, question);
        let mut parted = Vec::new();
        for (at, &theirs) in expected.iter().enumerate() {
            let logits = model.forward(&[Segment { sequence, tokens: &next, logits: 1 }]).expect("a pass");
            let row = logits.row(0).expect("a row");
            let ours = (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).expect("a vocabulary");
            if ours as u32 != theirs {
                let gap = row[ours] - row[theirs as usize];
                eprintln!("{question} token {at}: {ours} has {}, {theirs} has {}", row[ours], row[theirs as usize]);
                assert!(gap < NEAR_TIE, "token {at} of «{question}»: {ours} instead of {theirs}, ahead by {gap}");
                parted.push(at);
            }
            // Their token is read in any case: a tie that falls the other way must not end the comparison.
            next = vec![theirs];
        }
        assert!(parted.len() <= 5, "{question}: parted at {parted:?}");
        model.sequences().free(sequence);
    }
}

#[test]
fn chunks_forks_and_neighbours_do_not_change_a_bit() {
    let Some(path) = weights("chunks_forks_and_neighbours_do_not_change_a_bit") else { return };
    let (mut model, tokenizer) = load(&path);
    let prompt = chat(&tokenizer, "What is the capital of France?");
    let other = chat(&tokenizer, "Name three colours.");
    let whole = model.sequences().create();
    let expected = model.forward(&[Segment { sequence: whole, tokens: &prompt, logits: 1 }]).expect("a pass");
    // In chunks, through a fork of a longer sequence, beside a neighbour.
    let parent = model.sequences().create();
    let cut = prompt.len() / 2;
    model.forward(&[Segment { sequence: parent, tokens: &prompt[..cut + 3], logits: 0 }]).expect("a pass");
    let child = model.sequences().fork(parent, cut).expect("a fork");
    model.sequences().truncate(parent, 5);
    let neighbour = model.sequences().create();
    let segments = [
        Segment { sequence: neighbour, tokens: &other, logits: 1 },
        Segment { sequence: child, tokens: &prompt[cut..], logits: 1 },
    ];
    let logits = model.forward(&segments).expect("a pass");
    assert!(expected.row(0).expect("a row") == logits.row(1).expect("a row"), "the same tokens, the same bits");
    assert!(expected.row(0).expect("a row") != logits.row(0).expect("a row"), "two prompts must differ");
    assert_eq!(model.sequences().length(child), prompt.len());
    assert_eq!(model.sequences().length(parent), 5);
}

/// Natural logarithms of the probabilities.
fn log_probabilities(logits: &[f32]) -> Vec<f64> {
    let greatest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = logits.iter().map(|&logit| f64::from(logit - greatest).exp()).sum();
    logits.iter().map(|&logit| f64::from(logit - greatest) - total.ln()).collect()
}

/// Divergence of `q` from `p`, both as logarithms, in nats.
fn kullback_leibler(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum()
}

/// Mean Kullback-Leibler divergence from the f32 reference, in nats, and both perplexities, over 32
/// pieces of 64 tokens of the licence's text, each read from its start. With `INSTIL_PEER_LOGITS`, a
/// file that `benches/llama_logits.c` has written, llama.cpp's divergence is measured too, and ours may
/// be at most 1.1 times as much.
#[test]
fn rounding_to_8_bits_stays_near_the_f32_reference() {
    let Some(path) = weights("rounding_to_8_bits_stays_near_the_f32_reference") else { return };
    let (mut model, tokenizer) = load(&path);
    let file = Gguf::open(&path).expect("a GGUF file");
    let mut reference = Reference::load("reference", &file, &candle_core::Device::Cpu).expect("a reference");
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/LICENSE")).expect("the licence");
    let tokens = tokenizer.encode(&text, EncodeOptions::default()).expect("tokens");
    let pieces: Vec<&[u32]> = tokens.chunks_exact(64).take(32).collect();
    assert_eq!(pieces.len(), 32);
    let open = |model: &mut dyn Model| pieces.iter().map(|_| model.sequences().create()).collect::<Vec<_>>();
    let (ours, theirs) = (open(&mut model), open(&mut reference));
    let peer = std::env::var_os("INSTIL_PEER_LOGITS").map(|path| std::fs::read(path).expect("the peer's logits"));
    let width = model.info().vocab_size;
    let (mut divergence, mut our_loss, mut their_loss, mut count) = (0.0, 0.0, 0.0, 0.0);
    let mut peer_divergence = 0.0;
    for at in 0..63 {
        let pass = |model: &mut dyn Model, sequences: &[SequenceId]| {
            let segments: Vec<Segment> = sequences
                .iter()
                .zip(&pieces)
                .map(|(&sequence, piece)| Segment { sequence, tokens: &piece[at..=at], logits: 1 })
                .collect();
            model.forward(&segments).expect("a pass")
        };
        let (p, q) = (pass(&mut reference, &theirs), pass(&mut model, &ours));
        for (row, piece) in pieces.iter().enumerate() {
            let (p, q) = (log_probabilities(p.row(row).expect("a row")), log_probabilities(q.row(row).expect("a row")));
            divergence += kullback_leibler(&p, &q);
            if let Some(bytes) = &peer {
                let logits: Vec<f32> = bytes[(row * 63 + at) * width * 4..][..width * 4]
                    .chunks_exact(4)
                    .map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four bytes")))
                    .collect();
                peer_divergence += kullback_leibler(&p, &log_probabilities(&logits));
            }
            let next = piece[at + 1] as usize;
            (our_loss, their_loss, count) = (our_loss - q[next], their_loss - p[next], count + 1.0);
        }
    }
    let (divergence, ours, theirs) = (divergence / count, f64::exp(our_loss / count), f64::exp(their_loss / count));
    println!("mean divergence {divergence:.6} nats, perplexity {ours:.4}, reference {theirs:.4}");
    if peer.is_some() {
        let peer_divergence = peer_divergence / count;
        println!("the peer's mean divergence {peer_divergence:.6} nats");
        assert!(divergence <= 1.1 * peer_divergence, "{divergence} against {peer_divergence}");
    }
    // Measured: 0.00569.
    assert!(divergence < 7e-3, "{divergence}");
    assert!((ours / theirs - 1.0).abs() < 5e-3, "{ours} against {theirs}");
}
