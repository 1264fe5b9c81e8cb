//! What tests share: small models and vocabularies, walks, an outside judge, and the one way to skip.

pub mod folder;
pub mod gguf_writer;
pub mod in_memory;
pub mod oracle;
pub mod random_bert;
pub mod random_model;
pub mod schema_gen;
pub mod session;
pub mod skip;
pub mod small_vocab;
pub mod walk;

pub use skip::skip;
