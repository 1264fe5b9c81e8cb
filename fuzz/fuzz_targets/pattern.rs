//! Any text as a regex, in both dialects: reading it and running its automaton must neither panic nor take long.
#![no_main]

use instil_grammar::grammar::automaton::{Automaton, DEAD};
use instil_grammar::grammar::language::Languages;
use instil_grammar::grammar::pattern::{Dialect, Pattern};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // The first byte steers the walk, the rest is the regex.
    let Some((&steer, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    for dialect in [Dialect::Ecma, Dialect::Own] {
        let Ok(pattern) = Pattern::parse(text, dialect) else { continue };
        let mut languages = Languages::new();
        let Ok(language) = pattern.language(&mut languages) else { continue };
        let mut automaton = Automaton::new();
        let mut state = automaton.state(&mut languages, language);
        let mut word = Vec::new();
        for step in 0..48_usize {
            let row = *automaton.row(&mut languages, state);
            let live: Vec<u8> = (0..=255).filter(|&byte| row[byte as usize] != DEAD).collect();
            if live.is_empty() || (automaton.accepts(state) && step % 16 == 15) {
                break;
            }
            let byte = live[(steer as usize * 31 + step * 7) % live.len()];
            word.push(byte);
            state = row[byte as usize];
        }
        if automaton.accepts(state) {
            let word = String::from_utf8(word).expect("languages hold UTF-8 only");
            assert!(languages.matches(language, &word), "automaton and derivatives differ on {word:?}");
        }
    }
});
