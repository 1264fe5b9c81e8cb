//! `cargo bench --bench decode [-- FLAGS]`: prompt and decode tokens a second, as `instil bench decode FLAGS`.

use std::process::{Command, exit};

fn main() {
    // Cargo adds a flag of its own.
    let flags = std::env::args().skip(1).filter(|flag| flag != "--bench");
    let status = Command::new(env!("CARGO_BIN_EXE_instil")).args(["bench", "decode"]).args(flags).status();
    exit(status.ok().and_then(|status| status.code()).unwrap_or(1));
}
