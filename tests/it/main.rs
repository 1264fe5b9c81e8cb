//! Everything that is promised, in one program: `cargo test --test it NAME::` runs a part of it.

#![expect(unreachable_pub, reason = "a test program has no outside")]

mod support;

mod agreement;
mod architecture;
mod cases;
mod chat;
#[cfg(feature = "cuda")]
mod cuda;
mod decoder;
mod embedder;
mod families;
mod gguf;
mod import_rule;
mod measures;
mod measuring;
mod model;
mod models;
mod program;
mod safetensors;
mod shapes;
mod suite;
mod tokenizer;
mod verdicts;
mod walks;
