//! Random walks over the schemas of `tests/cases`: every text that masks alone lead to is valid, at limits from the
//! least upwards, and no walk outside guarded schemas ends without a text.

#[path = "support/oracle.rs"]
mod oracle;
#[path = "support/small_vocab.rs"]
mod small_vocab;
#[path = "support/walk.rs"]
mod walk;

use std::path::Path;
use std::sync::Arc;

use instil::bench::input::{self, Spacing};
use instil::constraint::{Engine, KeyOrder, Settings, Tables};
use instil::grammar::{GrammarSource, Options, Program};
use walk::{Classes, Failure, Judge, Rng, Sampler};

#[test]
#[ignore = "takes minutes and is not clean yet: `contains` twice has no finite minimum; run with --ignored"]
fn walks_from_masks_alone_are_valid() {
    let vocab = Arc::new(small_vocab::small_vocab());
    let (tables, classes) = (Tables::new(vocab.clone()), Classes::new(&vocab));
    let files = input::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")).unwrap();
    let (mut done, mut schemas, mut faults) = (0, 0, Vec::new());
    for (index, file) in (0..).zip(&files) {
        let schema = file.case(Spacing::Raw).unwrap().schema;
        let Ok(program) = Program::compile(&GrammarSource::JsonSchema(schema.clone()), &Options::default()) else {
            continue;
        };
        let guarded = walk::is_guarded(&program);
        let order = if index % 2 == 0 { KeyOrder::Schema } else { KeyOrder::Any };
        let settings = Settings { key_order: order, ..Settings::default() };
        let Ok(engine) = Engine::new(&program, tables.clone(), settings) else { continue };
        schemas += 1;
        let judge = Judge::new(&schema, true);
        let least = engine.min_tokens();
        assert!(least == 0 || engine.start(Some(least - 1)).is_err(), "{}: starts below its least limit", file.name);
        for round in 0..24_usize {
            let limit = least + [0, 0, 1, 2, 3, least / 4, least, 16][round % 8];
            let sampler = Sampler::ALL[round % Sampler::ALL.len()];
            let seed = index * 1000 + round as u64;
            match walk::walk(&engine, &classes, limit, sampler, &mut Rng::new(seed)) {
                Ok(walk) => {
                    done += 1;
                    assert!(walk.tokens <= limit);
                    if let Some(fault) = judge.fault(&walk.text) {
                        let text = String::from_utf8_lossy(&walk.text).into_owned();
                        faults.push(format!("{} seed {seed} {sampler:?} {text}: {fault}", file.name));
                    }
                }
                Err(Failure::DeadEnd(_) | Failure::Unclosed(_)) if guarded => {}
                Err(failure) => faults.push(format!("{} seed {seed} {sampler:?}: {failure:?}", file.name)),
            }
        }
    }
    assert!(schemas > 300 && done > 6000, "{schemas} schemas, {done} walks");
    assert!(faults.is_empty(), "{} of {done} walks:\n{}", faults.len(), faults[..faults.len().min(40)].join("\n"));
}
