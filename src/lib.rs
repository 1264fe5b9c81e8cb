//! instil
pub mod error;
pub mod vocab;
pub use error::{Error, Result};
