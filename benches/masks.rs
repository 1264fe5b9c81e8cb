//! `cargo bench --bench masks -- DATA --tokenizer FILE [FLAGS]`: cost and verdicts of constraint engines, as
//! `instil bench masks`. Without DATA it runs over the project's own cases.

use std::process::{Command, exit};

fn main() {
    // Cargo adds a flag of its own.
    let mut flags: Vec<String> = std::env::args().skip(1).filter(|flag| flag != "--bench").collect();
    if flags.first().is_none_or(|flag| flag.starts_with('-')) {
        flags.insert(0, concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases").into());
    }
    let status = Command::new(env!("CARGO_BIN_EXE_instil")).args(["bench", "masks"]).args(flags).status();
    exit(status.ok().and_then(|status| status.code()).unwrap_or(1));
}
