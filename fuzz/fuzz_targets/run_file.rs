//! Any text as a run file: reading and resolving it must neither panic nor take long, and a refusal is one line.
#![no_main]

use instil::run::file::check;
use libfuzzer_sys::fuzz_target;

mod as_file;

fuzz_target!(|data: &[u8]| {
    let file = as_file::holding(data, "run.yaml");
    if let Err(refusal) = check(file.path()) {
        assert!(!refusal.to_string().contains('\n'), "{refusal}");
    }
});
