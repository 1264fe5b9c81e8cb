//! Any bytes as a data set (jsonl): reading it must neither panic nor take long, and a refusal is one line.
#![no_main]

use instil::export::read::{Options, read};
use libfuzzer_sys::fuzz_target;

mod as_file;

fuzz_target!(|data: &[u8]| {
    let file = as_file::holding(data, "rows.jsonl");
    if let Err(refusal) = read(file.path(), &Options::default(), &mut |_| Ok(())) {
        assert!(!refusal.to_string().contains('\n'), "{refusal}");
    }
});
