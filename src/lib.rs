//! instil
pub mod error;
pub mod gguf;
pub mod vocab;
pub use error::{Error, Result};
