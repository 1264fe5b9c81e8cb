//! Any text as a chat template: compiling and rendering it must neither panic nor take long.
#![no_main]

use instil_model::tokenizer::chat::{ChatTemplate, Message};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(source) = std::str::from_utf8(data) else { return };
    let Ok(template) = ChatTemplate::from_source("fuzzed", source, "<s>", "</s>") else { return };
    let messages = [Message::system("Be brief."), Message::user("Why?"), Message::assistant("So.")];
    let _ = template.render(&messages, true);
});
