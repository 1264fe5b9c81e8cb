//! What stands before the weights in the files of a model on the hub: a few megabytes, by which a person can tell what
//! it will take before all of it is fetched.

use instil_model::gguf::Gguf;

use super::wire::{Asked, Wire};
use super::{Failure, FetchEvent, FetchOptions};
use crate::catalog::manifest::{Manifest, Source};
use crate::catalog::variant;
use crate::{Error, Result};

/// Bytes of a file that are asked for at first; each further request brings three times what is there.
const FIRST_BYTES: u64 = 1 << 20;
/// Bytes of a file that are read at most: vocabularies of a quarter million words take some fifteen million.
const MOST_BYTES: u64 = 64 << 20;

/// The heads of the files of a model on the hub.
///
/// # Errors
/// [`Error::Unavailable`] when the model is not on the hub, or the hub cannot or may not be asked;
/// [`Error::Input`] when the files begin with no head of a model; [`Error::Interrupted`].
pub(crate) fn head(
    manifest: &Manifest,
    options: &FetchOptions,
    on_event: &mut dyn FnMut(FetchEvent<'_>),
) -> Result<Gguf> {
    let unavailable = |why: String| Error::unavailable(format!("cannot look into model {}: {why}", manifest.name), "");
    if options.offline {
        return Err(unavailable("HF_HUB_OFFLINE is set".into()));
    }
    let hub = manifest.sources.iter().find_map(|source| match source {
        Source::Hub { repo, revision, folder } => Some((repo, revision, folder)),
        Source::Path { .. } | Source::Package { .. } => None,
    });
    let (repo, revision, folder) = hub.ok_or_else(|| unavailable("it is not on the hub".into()))?;
    if !manifest.files.iter().all(|file| variant::is_model(&file.name)) {
        return Err(unavailable("only GGUF files begin with all that is needed".into()));
    }
    let wire = Wire::open(options, on_event)?;
    let mut heads: Vec<(Vec<u8>, u64)> = Vec::new();
    for file in &manifest.files {
        let length = file.check.as_ref().map(|check| check.size_bytes);
        let length = length.ok_or_else(|| unavailable(format!("the size of {} is not known", file.name)))?;
        let path = if folder.is_empty() { file.name.clone() } else { format!("{folder}/{}", file.name) };
        let address = wire.file(repo, revision, &path);
        let mut bytes: Vec<u8> = Vec::new();
        loop {
            let most = length.min(MOST_BYTES);
            let end = (bytes.len() as u64 * 4).clamp(FIRST_BYTES.min(most), most);
            let range = (bytes.len() as u64, end - 1);
            let asked = Asked { repo, revision, file: Some(&file.name) };
            bytes.extend(piece(&wire, &address, range, &asked, on_event).map_err(|failure| match failure {
                Failure::Fatal(error) => error,
                Failure::Source { reason, .. } => unavailable(reason),
            })?);
            match Gguf::from_heads(&[(&bytes, length)], &file.name) {
                Err(error) if end == most || !bytes.starts_with(b"GGUF") => return Err(error.into()),
                Err(_) => {}
                Ok(_) => break,
            }
        }
        heads.push((bytes, length));
    }
    let heads: Vec<(&[u8], u64)> = heads.iter().map(|(bytes, length)| (bytes.as_slice(), *length)).collect();
    Ok(Gguf::from_heads(&heads, &manifest.name)?)
}

/// A range of a file, whole.
fn piece(
    wire: &Wire<'_>,
    address: &str,
    range: (u64, u64),
    asked: &Asked<'_>,
    on_event: &mut dyn FnMut(FetchEvent<'_>),
) -> Result<Vec<u8>, Failure> {
    let length = (range.1 + 1 - range.0) as usize;
    let (head, bytes) = wire.read(address, Some(range), length, on_event)?;
    if let Some(told) = wire.refusal(&head, asked) {
        return Err(Failure::refusal(told));
    }
    if !head.is_good() || bytes.len() != length {
        return Err(Failure::unreachable(format!("answered {} to a request for a part of a file", head.status)));
    }
    Ok(bytes)
}
