//! Measured requests on a small random model, against an oracle that reads one token a pass.

use std::sync::Arc;

use instil_grammar::vocab::{TokenKind, Vocab};
use instil_model::decode::{Capacity, Completion, Measure, Request, Sampling, Scheduler, StreamKey};
use instil_model::gguf::Gguf;
use instil_model::model::decoder::Decoder;
use instil_model::model::{Model, Segment};
use proptest::prelude::*;

use crate::support::random_model;

use random_model::{FAMILIES, LLAMA, Noise, VOCABULARY, model};

const EOS: [u32; 2] = [7, 11];

fn vocab() -> Arc<Vocab> {
    let spellings: Vec<Vec<u8>> = (0..VOCABULARY).map(|id| format!("<{id}>").into_bytes()).collect();
    Arc::new(Vocab::new(spellings.iter().map(|bytes| (&bytes[..], TokenKind::Text)), &EOS))
}

fn request(row: u32, prefix: &Arc<[u32]>, prompt: &[u32], measure: Option<Measure>) -> Request {
    Request {
        key: StreamKey { seed: 3, row, step: 0, attempt: 0 },
        prefix: prefix.clone(),
        prompt: prompt.to_vec(),
        constraint: None,
        max_tokens: 12,
        sampling: Sampling::default(),
        thought: None,
        measure,
    }
}

/// Completions by row.
fn run(file: &Gguf, threads: usize, capacity: Capacity, requests: &[Request]) -> Vec<Completion> {
    let mut model = Decoder::load("scheduled", file, threads).expect("a decoder");
    let mut scheduler = Scheduler::new(&mut model, vocab(), capacity);
    requests.iter().for_each(|request| scheduler.submit(request.clone()));
    let mut found = Vec::new();
    while let Some(completion) = scheduler.next_completion().expect("a pass") {
        found.push(completion);
    }
    drop(scheduler);
    assert_eq!(model.key_value_memory().used_bytes, 0, "every block comes back");
    found.sort_by_key(|completion| completion.key.row);
    found
}

/// Probabilities of every next token after `tokens`, read one token a pass.
fn next(model: &mut dyn Model, tokens: &[u32]) -> Vec<f64> {
    let sequence = model.sequences().create();
    let mut logits = Vec::new();
    for token in tokens {
        let segment = Segment { sequence, tokens: std::slice::from_ref(token), logits: 1 };
        logits = model.forward(&[segment]).expect("a pass").values().expect("values").to_vec();
    }
    model.sequences().free(sequence);
    let total: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
    logits.iter().map(|&logit| f64::from(logit).exp() / total).collect()
}

/// What is asked for, straight from the definition.
fn oracle(model: &mut dyn Model, prompt: &[u32], measure: &Measure) -> Vec<f64> {
    match measure {
        Measure::Text(text) => {
            let surprise = |at: usize| -next(model, &[prompt, &text[..at]].concat())[text[at] as usize].ln();
            vec![(0..text.len()).map(surprise).sum(), text.len() as f64]
        }
        Measure::Choices(choices) => {
            let mut probability = |choice: &Vec<u32>| {
                // One place beyond the last token: whether the choice ends there.
                (0..=choice.len())
                    .map(|at| {
                        let alike: Vec<&Vec<u32>> = choices.iter().filter(|c| c.starts_with(&choice[..at])).collect();
                        let mut ways: Vec<Option<u32>> = alike.iter().map(|c| c.get(at).copied()).collect();
                        ways.sort_unstable();
                        ways.dedup();
                        if ways.len() == 1 {
                            return 1.0;
                        }
                        let all = next(model, &[prompt, &choice[..at]].concat());
                        let mass = |way: &Option<u32>| match way {
                            Some(token) => all[*token as usize],
                            None => EOS.iter().map(|&token| all[token as usize]).sum(),
                        };
                        mass(&choice.get(at).copied()) / ways.iter().map(mass).sum::<f64>()
                    })
                    .product::<f64>()
            };
            choices.iter().map(&mut probability).collect()
        }
    }
}

/// Choices of up to `longest` tokens from few kinds, so that many begin alike.
fn some_choices(count: usize, longest: usize, draw: &mut impl FnMut(usize) -> usize) -> Measure {
    let mut choices: Vec<Vec<u32>> = Vec::new();
    while choices.len() < count {
        let choice: Vec<u32> = (0..=draw(longest)).map(|_| 20 + draw(3) as u32).collect();
        if !choices.contains(&choice) {
            choices.push(choice);
        }
    }
    Measure::Choices(choices.into())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Beside each other and beside drawn texts, in any order, with any number of slots and threads and
    /// any memory, requests measure what the definition says, and the same to the bit.
    #[test]
    fn measurements_are_what_their_definition_says(
        seed in any::<u64>(),
        threads in 1usize..4,
        slots in 1usize..9,
        blocks in 1usize..20,
        shared in 0usize..50,
        family in prop::sample::select(vec!["llama", "qwen35", "lfm2"]),
    ) {
        let shape = FAMILIES.into_iter().find(|shape| shape.family == family).expect("one");
        let file = model(shape, seed);
        let mut noise = Noise(seed ^ 1);
        let mut draw = |below: usize| noise.bits() as usize % below;
        let prefixes: Vec<Arc<[u32]>> = [shared, shared / 2, 0].iter().map(|&length| {
            (0..length).map(|at| (at * 13 % VOCABULARY) as u32).collect()
        }).collect();
        let mut requests: Vec<Request> = (0..10).map(|row| {
            let prefix = &prefixes[draw(3)];
            let least = usize::from(prefix.is_empty());
            let prompt: Vec<u32> = (0..least + draw(4)).map(|_| draw(VOCABULARY) as u32).collect();
            let measure = match draw(5) {
                0 if !prompt.is_empty() => None,
                1 | 2 => Some(Measure::Text((0..draw(40)).map(|_| draw(VOCABULARY) as u32).collect())),
                _ => { let count = 1 + draw(9); Some(some_choices(count, 5, &mut draw)) }
            };
            request(row, prefix, &prompt, measure)
        }).collect();
        let alone: Vec<Completion> = requests.iter().flat_map(|request| {
            run(&file, 1, Capacity::slots(1), std::slice::from_ref(request))
        }).collect();
        let mut slow = Decoder::load("slow", &file, 1).expect("a decoder");
        for (request, found) in requests.iter().zip(&alone) {
            let Some(measure) = &request.measure else {
                prop_assert!(found.measured.is_empty());
                continue;
            };
            prop_assert!(found.tokens.is_empty() && found.text.is_empty());
            let expected = oracle(&mut slow, &[&request.prefix, &request.prompt[..]].concat(), measure);
            prop_assert_eq!(found.measured.len(), expected.len());
            for (found, expected) in found.measured.iter().zip(&expected) {
                prop_assert!((found - expected).abs() <= 1e-9 * expected.max(1.0), "{found} {expected} {measure:?}");
            }
            if let Measure::Choices(_) = measure {
                prop_assert!((found.measured.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            }
        }
        for at in (1..requests.len()).rev() {
            requests.swap(at, draw(at + 1));
        }
        let block = slow.key_value_memory().block_bytes;
        let together = run(&file, threads, Capacity { slots, key_value_bytes: blocks * block }, &requests);
        for (a, b) in alone.iter().zip(&together) {
            prop_assert_eq!((a.key, &a.tokens), (b.key, &b.tokens));
            let bits = |found: &Completion| found.measured.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(a), bits(b), "{} slots, {} threads, {} blocks", slots, threads, blocks);
        }
    }
}

/// Where a sequence cannot be cut back, its prompt is read once all the same, and so is a prefix.
#[test]
fn a_prompt_is_read_once_for_all_walks() {
    let shape = FAMILIES.into_iter().find(|shape| shape.family == "qwen35").expect("one");
    let file = model(shape, 5);
    let mut model = Decoder::load("scheduled", &file, 1).expect("a decoder");
    let mut scheduler = Scheduler::new(&mut model, vocab(), Capacity::slots(3));
    let prefix: Arc<[u32]> = (0..70).map(|at| at * 13 % 90).collect();
    let longer: Arc<[u32]> = prefix.iter().copied().chain([1, 2, 3]).collect();
    // Three walks: the last two go back, one of them to within the choices.
    let choices: Vec<Vec<u32>> = [[20, 21, 22], [20, 21, 23], [20, 24, 25], [20, 24, 26], [27, 28, 29], [27, 28, 30]]
        .iter()
        .map(|choice| choice.to_vec())
        .collect();
    let measure = || Some(Measure::Choices(choices.clone().into()));
    for (row, prefix) in [&prefix, &prefix, &longer].into_iter().enumerate() {
        scheduler.submit(request(row as u32, prefix, &[5; 40], measure()));
    }
    while scheduler.next_completion().expect("a pass").is_some() {}
    let statistics = scheduler.statistics();
    // Prompts of 40 each, and walks of 2, of 2 once more since the first goes back, and of 2.
    assert_eq!(statistics.prompt_tokens, 70 + 3 + 3 * (40 + 2 + 2 + 2));
    assert_eq!(statistics.prompt_tokens_shared, 70 + 70);
}

/// A text longer than a pass computes rows for, beside another.
#[test]
fn a_long_text_is_measured_in_pieces() {
    let file = model(LLAMA, 5);
    let text: Vec<u32> = (0..230).map(|at| at * 7 % 90).collect();
    let none: Arc<[u32]> = Arc::from([]);
    let requests: Vec<Request> =
        (0..2).map(|row| request(row, &none, &[row + 1], Some(Measure::Text(text.clone())))).collect();
    let found = run(&file, 2, Capacity::slots(4), &requests);
    let mut slow = Decoder::load("slow", &file, 1).expect("a decoder");
    for (row, found) in found.iter().enumerate() {
        let sequence = slow.sequences().create();
        let whole = [&[row as u32 + 1], &text[..]].concat();
        let logits = slow.forward(&[Segment { sequence, tokens: &whole, logits: whole.len() }]).expect("a pass");
        let surprise: f64 = text
            .iter()
            .enumerate()
            .map(|(at, &token)| {
                let row = logits.row(at).expect("a row");
                let total: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
                total.ln() - f64::from(row[token as usize])
            })
            .sum();
        assert!((found.measured[0] - surprise).abs() < 1e-9 * surprise, "{} {surprise}", found.measured[0]);
        assert_eq!(found.measured[1], 230.0);
    }
}

#[test]
fn what_is_shared_is_read_once_and_all_that_is_read_is_counted() {
    let mut model = Decoder::load("small", &model(LLAMA, 5), 1).expect("a decoder");
    let mut scheduler = Scheduler::new(&mut model, vocab(), Capacity::slots(8));
    let prefix: Arc<[u32]> = (0..40).collect();
    let at_once = Measure::Choices(Arc::from([vec![1, 2], vec![2, 2], vec![3]]));
    let deeper = Measure::Choices(Arc::from([vec![1, 2], vec![1, 3], vec![4, 5], vec![4, 6]]));
    for (row, measure) in [at_once.clone(), at_once, deeper, Measure::Text(vec![1, 2, 3])].into_iter().enumerate() {
        scheduler.submit(request(row as u32, &prefix, &[50, 51], Some(measure)));
    }
    while scheduler.next_completion().expect("a pass").is_some() {}
    let statistics = scheduler.statistics();
    assert_eq!(
        statistics.prompt_tokens,
        40 + 4 * 2 + 2 + 2,
        "prefix, prompts, two paths of one token, a text but its last"
    );
    assert_eq!(statistics.prompt_tokens_shared, 3 * 40);
    assert_eq!((statistics.sampled_tokens, statistics.forced_tokens), (0, 0));
    assert_eq!(statistics.passes, 3, "the prefix, all prompts with the first walk, the second path");
}

#[test]
fn choices_that_cannot_be_told_apart_are_refused() {
    let mut model = Decoder::load("small", &model(LLAMA, 5), 1).expect("a decoder");
    let mut scheduler = Scheduler::new(&mut model, vocab(), Capacity::slots(8));
    let same = Measure::Choices(Arc::from([vec![1, 2], vec![1, 2]]));
    scheduler.submit(request(0, &Arc::from([]), &[5], Some(same)));
    let told = scheduler.next_completion().expect_err("refused").to_string();
    assert!(told.contains("choices 0 and 1 are the same"), "{told}");
}
