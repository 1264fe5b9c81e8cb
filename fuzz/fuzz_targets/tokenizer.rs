//! Any text as a `tokenizer.json`: reading it and cutting a text must neither panic nor take long.
#![no_main]

use instil_model::tokenizer::{EncodeOptions, Tokenizer};
use libfuzzer_sys::fuzz_target;

mod as_file;

fuzz_target!(|data: &[u8]| {
    let file = as_file::holding(data, "tokenizer.json");
    if let Ok(tokenizer) = Tokenizer::from_file(file.path()) {
        let _ = tokenizer.encode("Any text, 12 words.", EncodeOptions::default()).map(|ids| tokenizer.decode(&ids));
    }
});
