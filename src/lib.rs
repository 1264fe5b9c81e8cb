//! instil
pub mod error;
pub mod gguf;
pub mod tokenizer;
pub mod vocab;
pub use error::{Error, Result};
