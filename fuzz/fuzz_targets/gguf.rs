//! Any bytes as a GGUF file: reading header, metadata, tensor directory and tokenizer must neither panic nor take long.
#![no_main]

use instil_model::gguf::Gguf;
use instil_model::tokenizer::{EncodeOptions, Tokenizer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(file) = Gguf::parse(data, "fuzzed.gguf") else { return };
    for tensor in file.tensors() {
        let _ = (tensor.ggml_type(), tensor.elements(), file.bytes(tensor));
    }
    if let Ok(tokenizer) = Tokenizer::from_gguf(file.metadata(), "fuzzed") {
        let _ = tokenizer.encode("Any text, 12 words.", EncodeOptions::default()).map(|ids| tokenizer.decode(&ids));
    }
});
