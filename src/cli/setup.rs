//! From `--model` and `--device` to a model that is ready to decode.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::catalog::manifest::{Kind, Manifest, Origin};
use crate::catalog::source::{Freshness, Located, Places, verify};
use crate::catalog::{self, Catalog, DEFAULT_EMBEDDER};
use crate::filter::semantic::Semantic;
use crate::plan::ModelUsed;
use crate::{Error, Result};
use instil_grammar::constraint::{Compiler, Settings};
use instil_model::model::checkpoint;
use instil_model::model::device::DeviceChoice;
use instil_model::model::embedder::Embedder;
use instil_model::model::scripted::{Script, Scripted};
use instil_model::model::{self, Arithmetic, LoadOptions, Model};
use instil_model::tokenizer::{EncodeOptions, Tokenizer};

use super::console::Console;
use super::options::{Engine, ModelOptions};
use super::{download, terminal};

/// The chat form of scripted models: a line a message, behind a control token as in the forms of real ones.
const PLAIN_CHAT: &str = "{% for message in messages %}<|start|>{{ message.role }}: {{ message.content }}\n\
    {% endfor %}{% if add_generation_prompt %}<|start|>assistant: {% endif %}";

/// A model with its tokenizer.
pub(crate) struct Loaded {
    /// The model.
    pub model: Box<dyn Model>,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// What a plan records of it.
    pub used: ModelUsed,
    /// Memory of its weights.
    pub weight_bytes: u64,
}

/// Finds, fetches if need be, and loads the model that the flags name.
pub(super) fn load(options: &ModelOptions, console: &Console) -> Result<Loaded> {
    let device: DeviceChoice = options.device().parse()?;
    let device = device.open()?;
    let places = Places::from_environment();
    let load_options = options.load_options()?;
    let manifest = download::resolve(options.name(), &places, Freshness::Known, console)?;
    let located = download::fetch(&manifest, &places, None, console)?;
    let sha256 = sums(&manifest, &located, &places)?;
    let start = Instant::now();
    let (model, tokenizer) = match manifest.kind {
        Kind::Scripted => scripted(&manifest)?,
        Kind::Embedder => {
            let what = "is a sentence embedder and writes no text";
            return Err(Error::model(&manifest.name, what, "`instil models list` shows the models that do"));
        }
        Kind::Candle => candle(&manifest, &located, &device, load_options)?,
    };
    let weight_bytes = model.weight_bytes() as u64;
    let seconds = start.elapsed().as_secs_f64();
    let weights = match weight_bytes {
        0 => String::new(),
        bytes => format!(", {} of weights", terminal::size(bytes)),
    };
    console.note(&format!("{} loaded on {} in {seconds:.1} s{weights}", manifest.name, device_name(&device)));
    tokenizer.notes().iter().for_each(|note| console.note(&format!("{}: {note}", manifest.name)));
    let mut used = used(&manifest, sha256, model.info().arithmetic);
    if manifest.kind == Kind::Candle {
        used.quantised = load_options.quantise.map(|quantisation| quantisation.name().to_owned());
    }
    Ok(Loaded { model, tokenizer, used, weight_bytes })
}

/// Finds, fetches if need be, and loads the sentence embedder that a rule wants, if there is one.
pub(super) fn embedder(rule: Option<&Semantic>, console: &Console) -> Result<Option<(Arc<Embedder>, ModelUsed)>> {
    let Some(rule) = rule else { return Ok(None) };
    let places = Places::from_environment();
    let manifest = embedder_manifest(rule)?;
    let located = download::fetch(&manifest, &places, None, console)?;
    let embedder = catalog::embedder::load(&manifest, &located)?;
    let sha256 = sums(&manifest, &located, &places)?;
    Ok(Some((Arc::new(embedder), used(&manifest, sha256, Arithmetic::F32Cpu))))
}

/// The embedder that a rule names.
///
/// # Errors
/// When there is no such model, or it is of another kind.
pub(crate) fn embedder_manifest(rule: &Semantic) -> Result<Manifest> {
    let manifest = Catalog::load(&Places::from_environment())?.resolve(&rule.model)?;
    if manifest.kind == Kind::Embedder {
        return Ok(manifest);
    }
    Err(Error::model(&manifest.name, "writes texts and embeds none", format!("use {DEFAULT_EMBEDDER}")))
}

/// What a plan records of a model.
fn used(manifest: &Manifest, sha256: Vec<String>, arithmetic: Arithmetic) -> ModelUsed {
    ModelUsed {
        name: match &manifest.origin {
            Origin::Weights(path) if path.is_dir() => {
                path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
            }
            Origin::Weights(path) => {
                path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
            }
            Origin::Bundled | Origin::File(_) | Origin::Hub { .. } => manifest.name.clone(),
        },
        path: manifest.origin.path().and_then(|path| std::path::absolute(path).ok()),
        revision: match &manifest.origin {
            Origin::Hub { revision } => Some(revision.clone()),
            Origin::Bundled | Origin::File(_) | Origin::Weights(_) => None,
        },
        quantised: None,
        sha256,
        licence: Some(manifest.licence.clone()).filter(|licence| !licence.is_empty()),
        arithmetic,
    }
}

/// What tells this model from another of the same name.
fn sums(manifest: &Manifest, located: &Located, places: &Places) -> Result<Vec<String>> {
    if let Some(script) = &manifest.scripted {
        let text = serde_json::to_string(&script.scenes).expect("a script is plain data");
        return Ok(vec![verify::sha256_of(text.as_bytes())]);
    }
    let sums = located.files.iter().map(|file| match &file.check {
        Some(check) => Ok(check.sha256.clone()),
        None => verify::sha256_of_file(&file.path, places),
    });
    sums.collect()
}

/// Grammars → constraints over the tokenizer's vocabulary.
pub(super) fn compiler(tokenizer: &Arc<Tokenizer>, engine: Engine, settings: Settings) -> Compiler {
    let forced = tokenizer.clone();
    // Text that the grammar forces is valid UTF-8 but for a character cut at its ends.
    let tokenise = move |bytes: &[u8]| {
        let text = std::str::from_utf8(bytes).ok()?;
        forced.encode(text, EncodeOptions::default()).ok()
    };
    let tokenise = Arc::new(move |bytes: &[u8]| tokenise(bytes).unwrap_or_default());
    Compiler::new(tokenizer.vocab().clone(), engine.into(), settings, Some(tokenise))
}

/// The scripted model of a manifest, with the tokenizer of its words.
pub(super) fn scripted(manifest: &Manifest) -> Result<(Box<dyn Model>, Arc<Tokenizer>)> {
    let script = manifest
        .scripted
        .clone()
        .ok_or_else(|| Error::model(&manifest.name, "a scripted model has no [scripted] table", "add one"))?;
    speaker(&manifest.name, script)
}

/// A model that speaks a script, with the tokenizer of its words.
pub(crate) fn speaker(name: &str, script: Script) -> Result<(Box<dyn Model>, Arc<Tokenizer>)> {
    let mut tokenizer = Tokenizer::from_vocab(&script.vocab(), name)?;
    tokenizer.set_chat_template(PLAIN_CHAT)?;
    let tokenizer = Arc::new(tokenizer);
    let model = Scripted::new(name, script, tokenizer.clone())?;
    Ok((Box::new(model), tokenizer))
}

fn candle(
    manifest: &Manifest,
    located: &Located,
    device: &candle_core::Device,
    options: LoadOptions,
) -> Result<(Box<dyn Model>, Arc<Tokenizer>)> {
    let file = checkpoint::open(weights(manifest, located)?)?;
    let tokenizer = Arc::new(file.tokenizer(&manifest.name)?);
    let model = model::load(&manifest.name, &*file, device, options)?;
    Ok((model, tokenizer))
}

fn weights<'a>(manifest: &Manifest, located: &'a Located) -> Result<&'a Path> {
    let weights = located.weights();
    let weights = weights.ok_or_else(|| Error::model(&manifest.name, "names no weights", "add a [[files]] entry"))?;
    Ok(&weights.path)
}

/// The tokenizer of a model whose files are here.
pub(super) fn tokenizer(manifest: &Manifest, located: &Located) -> Result<Arc<Tokenizer>> {
    match manifest.kind {
        Kind::Scripted => scripted(manifest).map(|(_, tokenizer)| tokenizer),
        Kind::Candle => Ok(Arc::new(checkpoint::open(weights(manifest, located)?)?.tokenizer(&manifest.name)?)),
        Kind::Embedder => {
            let what = "is a sentence embedder and writes no text";
            Err(Error::model(&manifest.name, what, "`instil models list` shows the models that do"))
        }
    }
}

fn device_name(device: &candle_core::Device) -> &'static str {
    match device {
        candle_core::Device::Cpu => "the CPU",
        candle_core::Device::Cuda(_) => "CUDA",
        candle_core::Device::Metal(_) => "Metal",
    }
}
