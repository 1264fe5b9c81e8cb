//! From the manifest of a sentence embedder and its files to the embedder.

use instil_model::model::embedder::Embedder;

use super::DEFAULT_EMBEDDER;
use super::manifest::{Kind, Manifest, Role};
use super::source::Located;
use crate::{Error, Result};

/// Loads the embedder of `manifest` from its files, in 32-bit floats on the CPU.
///
/// # Errors
/// When the manifest is another kind of model's, or a file cannot be read or does not hold a BERT encoder.
pub fn load(manifest: &Manifest, located: &Located) -> Result<Embedder> {
    if manifest.kind != Kind::Embedder {
        let what = "writes texts and embeds none";
        return Err(Error::model(&manifest.name, what, format!("use {DEFAULT_EMBEDDER}")));
    }
    let file = |role: Role| located.files.iter().find(|file| file.role == role).map(|file| file.path.as_path());
    let (Some(weights), Some(tokenizer), Some(config)) =
        (file(Role::Weights), file(Role::Tokenizer), file(Role::Config))
    else {
        let remedy = "name its weights, its tokenizer and its config in the manifest";
        return Err(Error::model(&manifest.name, "a file is missing", remedy));
    };
    let embedder = Embedder::read(&manifest.name, weights, tokenizer, config)?;
    Ok(match manifest.context_length {
        Some(length) => embedder.with_most_tokens(length),
        None => embedder,
    })
}
