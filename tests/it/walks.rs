//! Random walks: every text that masks alone lead to is valid, at limits from the least upwards, and no walk outside
//! guarded schemas ends without a text.
//!
//! Over the schemas of `tests/cases` always; over any other folder or file of schemas, with any vocabulary, when
//! asked for:
//!
//!     INSTIL_WALKS=maskbench.jsonl.gz INSTIL_TOKENIZER=tokenizer.json \
//!         cargo test --release --test walks -- --ignored --nocapture

use crate::support::small_vocab;
use crate::support::walk;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use instil::bench::input::{self, Spacing};
use instil_grammar::constraint::{Engine, KeyOrder, Settings, Tables};
use instil_grammar::grammar::format::FORMATS;
use instil_grammar::grammar::{GrammarSource, Options, Program};
use instil_model::tokenizer::Tokenizer;
use serde_json::Value;
use walk::{Classes, Failure, Judge, Rng, Sampler};

/// What walks over many schemas have come to.
#[derive(Debug, Default)]
struct Tally {
    schemas: usize,
    guarded_schemas: usize,
    /// Schemas that the second opinion cannot read; their texts are only parsed.
    unjudged_schemas: usize,
    refused_schemas: usize,
    /// Schemas whose least text takes more than [`MOST_TOKENS`].
    too_long_schemas: usize,
    finished: usize,
    closed_by_budget: usize,
    guarded_walks: usize,
    guarded_dead_ends: usize,
    /// Everything that must not be, one line each.
    faults: Vec<String>,
}

/// Deeper texts the judge does not parse.
const JUDGED_DEPTH: u32 = 120;

/// Longer texts are not walked.
const MOST_TOKENS: usize = 100_000;

/// How often and how long one schema is walked.
#[derive(Clone, Copy)]
struct Effort {
    walks: usize,
    time: Duration,
    seed: u64,
}

/// Walks over one schema.
fn walk_schema(name: &str, schema: &Value, tables: &Arc<Tables>, classes: &Classes, effort: Effort, tally: &mut Tally) {
    let Ok(program) = Program::compile(&GrammarSource::JsonSchema(schema.clone()), &Options::default()) else {
        tally.refused_schemas += 1;
        return;
    };
    let key_order = if effort.seed.is_multiple_of(2) { KeyOrder::Schema } else { KeyOrder::Any };
    let Ok(engine) =
        Engine::new(&program, tables.clone(), Settings { key_order, max_depth: JUDGED_DEPTH, ..Settings::default() })
    else {
        tally.refused_schemas += 1;
        return;
    };
    let guarded = walk::is_guarded(&program);
    tally.schemas += 1;
    tally.guarded_schemas += usize::from(guarded);
    let judge = Judge::new(schema, true);
    tally.unjudged_schemas += usize::from(!judge.has_validator());
    let least = engine.min_tokens();
    let fault = |tally: &mut Tally, text: String| tally.faults.push(format!("{name}: {text}"));
    if least > MOST_TOKENS {
        println!("too long: {name} needs {least} tokens");
        tally.too_long_schemas += 1;
        return;
    }
    if least > 0 {
        match engine.start(Some(least - 1)) {
            Err(error) if error.to_string().contains(&least.to_string()) => {}
            _ => fault(tally, "a limit below the least is not refused with the number".to_owned()),
        }
    }
    let start = Instant::now();
    for round in 0..effort.walks {
        if round >= Sampler::ALL.len() && start.elapsed() > effort.time {
            break;
        }
        let limit = least + [0, 0, 1, 2, 3, (least / 4).min(40), least.min(64), 16][round % 8];
        let sampler = Sampler::ALL[round % Sampler::ALL.len()];
        let seed = effort.seed.wrapping_mul(1_000_003).wrapping_add(round as u64);
        let place = format!("seed {seed} {sampler:?} limit {limit} (least {least}, {key_order:?})");
        tally.guarded_walks += usize::from(guarded);
        match walk::walk(&engine, classes, limit, sampler, &mut Rng::new(seed)) {
            Ok(walk) => {
                tally.finished += 1;
                tally.closed_by_budget += usize::from(walk.closed_by_budget);
                if walk.tokens > limit {
                    fault(tally, format!("{place}: {} tokens", walk.tokens));
                }
                if let Some(wrong) = judge.fault(&walk.text) {
                    fault(tally, format!("{place}: {}: {wrong}", String::from_utf8_lossy(&walk.text)));
                }
            }
            Err(Failure::DeadEnd(_) | Failure::Unclosed(_)) if guarded => tally.guarded_dead_ends += 1,
            Err(failure) => fault(tally, format!("{place}: {failure:?}")),
        }
    }
}

#[test]
fn walks_from_masks_alone_are_valid() {
    let vocab = Arc::new(small_vocab::small_vocab());
    let (tables, classes) = (Tables::new(vocab.clone()), Classes::new(&vocab));
    let files = input::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")).unwrap();
    let mut tally = Tally::default();
    for (seed, file) in (0..).zip(&files) {
        let schema = file.case(Spacing::Raw).unwrap().schema;
        let effort = Effort { walks: 24, time: Duration::from_secs(2), seed };
        let before = tally.guarded_dead_ends;
        walk_schema(&file.name, &schema, &tables, &classes, effort, &mut tally);
        if tally.guarded_dead_ends > before {
            println!("dead ends: {} {}", file.name, tally.guarded_dead_ends - before);
        }
    }
    println!("{tally:#?}");
    assert!(tally.schemas > 300 && tally.finished > 6000, "{} schemas, {} walks", tally.schemas, tally.finished);
    assert!(tally.faults.is_empty(), "{} faults", tally.faults.len());
    assert!(
        tally.guarded_dead_ends * 8 <= tally.guarded_walks,
        "more than an eighth of the walks under guards are lost"
    );
}

#[test]
fn walks_over_every_format_are_valid() {
    let vocab = Arc::new(small_vocab::small_vocab());
    let (tables, classes) = (Tables::new(vocab.clone()), Classes::new(&vocab));
    let mut tally = Tally::default();
    for (seed, (name, _)) in (0..).zip(FORMATS) {
        let effort = Effort { walks: 240, time: Duration::from_secs(2), seed };
        walk_schema(
            name,
            &serde_json::json!({ "format": name, "type": "string" }),
            &tables,
            &classes,
            effort,
            &mut tally,
        );
    }
    println!("{tally:#?}");
    assert!(tally.schemas == FORMATS.len() && tally.faults.is_empty(), "{} faults", tally.faults.len());
}

#[test]
#[ignore = "needs a folder of schemas and a tokenizer: INSTIL_WALKS, INSTIL_TOKENIZER"]
fn walks_over_a_folder_of_schemas_are_valid() {
    let path = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let number = |name: &str, usual: u64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let (Some(data), Some(tokenizer)) = (path("INSTIL_WALKS"), path("INSTIL_TOKENIZER")) else {
        let how = "set INSTIL_WALKS to a folder of schemas and INSTIL_TOKENIZER to a tokenizer.json";
        return crate::support::skip("WALKS", "walks over a folder of schemas", how);
    };
    let tokenizer = Tokenizer::from_file(&tokenizer).unwrap();
    let vocab = tokenizer.vocab();
    let (tables, classes) = (Tables::new(vocab.clone()), Classes::new(vocab));
    let only = std::env::var("INSTIL_WALKS_ONLY").ok();
    let seed = number("INSTIL_WALKS_SEED", 0);
    let walks = usize::try_from(number("INSTIL_WALKS_EACH", 240)).unwrap();
    let time = Duration::from_millis(number("INSTIL_WALKS_MILLIS", 500));
    let (mut tally, mut told) = (Tally::default(), 0);
    let start = Instant::now();
    for (index, file) in (0_u64..).zip(input::read(&data).unwrap()) {
        if only.as_ref().is_some_and(|only| !file.name.contains(only.as_str())) {
            continue;
        }
        let Ok(case) = file.case(Spacing::Raw) else { continue };
        let before = (Instant::now(), tally.guarded_dead_ends);
        let effort = Effort { walks, time, seed: seed * 7919 + index };
        walk_schema(&file.name, &case.schema, &tables, &classes, effort, &mut tally);
        let taken = before.0.elapsed();
        if taken > 4 * time + Duration::from_secs(1) {
            println!("slow: {} took {taken:.1?}", file.name);
        }
        if tally.guarded_dead_ends > before.1 {
            println!("dead ends: {} {}", file.name, tally.guarded_dead_ends - before.1);
        }
        for fault in &tally.faults[told..] {
            println!("FAULT {fault:.1200}");
        }
        told = tally.faults.len();
        if index % 250 == 249 {
            println!("{index}: {} walks in {:.0?}, {told} faults", tally.finished, start.elapsed());
        }
    }
    let faults = std::mem::take(&mut tally.faults);
    println!("{tally:#?}\n{} faults, {:.0?}", faults.len(), start.elapsed());
    assert!(faults.is_empty(), "{} faults", faults.len());
}
