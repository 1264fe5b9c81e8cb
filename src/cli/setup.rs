//! From `--model` and `--device` to a model that is ready to decode.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::catalog::manifest::{Kind, Manifest, Origin};
use crate::catalog::source::{Freshness, Located, Places, verify};
use crate::catalog::{self, Catalog, DEFAULT_EMBEDDER};
use crate::filter::semantic::Semantic;
use crate::plan::{Beginning, ChatUsed, ModelUsed};
use crate::recipe::{Form, Recipe, Step};
use crate::{Error, Result};
use instil_grammar::constraint::{Compiler, Settings};
use instil_model::model::checkpoint;
use instil_model::model::device::DeviceChoice;
use instil_model::model::embedder::Embedder;
use instil_model::model::scripted::{Script, Scripted};
use instil_model::model::{self, Arithmetic, LoadOptions, Model};
use instil_model::tokenizer::chat::Way;
use instil_model::tokenizer::chat::opening::End;
use instil_model::tokenizer::{EncodeOptions, Tokenizer};

use super::console::Console;
use super::options::{Chat, Engine, ModelOptions};
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
    chat: Chat,
}

impl Loaded {
    /// Notes how the model is asked for those steps of a recipe that are `its`, and tells what is worth knowing of that.
    ///
    /// # Errors
    /// As [`chat_of`].
    pub(super) fn is_asked_for(
        &mut self,
        recipe: &Recipe,
        its: impl Fn(&Step) -> bool,
        console: &Console,
    ) -> Result<()> {
        let (chat, notes) = chat_of(&self.tokenizer, &self.chat, recipe, its)?;
        self.used.chat = chat;
        notes.iter().for_each(|note| console.note(&format!("{}: {note}", self.used.name)));
        Ok(())
    }
}

/// How a model is asked for those steps of a recipe that are `its`, if that is not just as its template has it; and
/// notes for a person.
///
/// # Errors
/// When it is to think and cannot, or is never asked in its chat template.
pub(super) fn chat_of(
    tokenizer: &Tokenizer,
    chat: &Chat,
    recipe: &Recipe,
    its: impl Fn(&Step) -> bool,
) -> Result<(Option<ChatUsed>, Vec<String>)> {
    let is_chat = |step: &&Step| step.form == Form::Chat && step.output.asks_a_model() && its(step);
    let (draws, reads): (Vec<&Step>, Vec<&Step>) =
        recipe.steps.iter().filter(is_chat).partition(|step| step.output.is_decoded());
    let thinks = !chat.thinking.is_off();
    if thinks && draws.is_empty() {
        let what = format!("thinking is asked for, and no step of the recipe {} writes in the chat form", recipe.name);
        return Err(Error::usage(what, "leave --thinking out, or give a step `form: chat`"));
    }
    if (draws.is_empty() && reads.is_empty()) || !tokenizer.has_chat_template() {
        return Ok((None, Vec::new()));
    }
    let mut notes = Vec::new();
    let mut beginning = |way: Way| -> Result<Option<Beginning>> {
        let opening = tokenizer.opening(way)?;
        notes.extend(opening.note.clone());
        let closing = opening.end.as_ref().map(End::whole).unwrap_or_default();
        let found = Beginning { switch: opening.switch.clone(), text: opening.begins.clone(), closing };
        Ok(Some(found).filter(|_| !opening.is_plain()))
    };
    let used = ChatUsed {
        template: chat.template.clone(),
        variables: tokenizer.template_variables().clone(),
        thinking: chat.thinking,
        answer: if !thinks || !reads.is_empty() { beginning(Way::Answer)? } else { None },
        thought: if thinks { beginning(Way::Thought)? } else { None },
    };
    Ok((Some(used).filter(|used| *used != ChatUsed::default()), notes))
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
        Kind::Scripted => scripted(&manifest, &options.chat)?,
        Kind::Embedder => {
            let what = "is a sentence embedder and writes no text";
            return Err(Error::model(&manifest.name, what, "`instil models list` shows the models that do"));
        }
        Kind::Candle => candle(&manifest, &located, &device, (load_options, &options.chat))?,
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
    Ok(Loaded { model, tokenizer, used, weight_bytes, chat: options.chat.clone() })
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
        chat: None,
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
pub(super) fn scripted(manifest: &Manifest, chat: &Chat) -> Result<(Box<dyn Model>, Arc<Tokenizer>)> {
    let script = manifest
        .scripted
        .clone()
        .ok_or_else(|| Error::model(&manifest.name, "a scripted model has no [scripted] table", "add one"))?;
    speaker(&manifest.name, script, &beside(manifest, chat))
}

/// A model that speaks a script, with the tokenizer of its words.
pub(crate) fn speaker(name: &str, script: Script, chat: &Chat) -> Result<(Box<dyn Model>, Arc<Tokenizer>)> {
    let mut tokenizer = Tokenizer::from_vocab(&script.vocab(), name)?;
    tokenizer.set_chat_template(PLAIN_CHAT)?;
    let tokenizer = asking(tokenizer, chat)?;
    let model = Scripted::new(name, script, tokenizer.clone())?;
    Ok((Box::new(model), tokenizer))
}

/// How a user asks a model, with what its manifest says of that.
fn beside(manifest: &Manifest, chat: &Chat) -> Chat {
    let mut variables = manifest.template_variables.clone();
    variables.extend(chat.variables.clone());
    Chat { variables, ..chat.clone() }
}

/// A tokenizer that asks so.
fn asking(mut tokenizer: Tokenizer, chat: &Chat) -> Result<Arc<Tokenizer>> {
    if !chat.variables.is_empty() {
        tokenizer.set_template_variables(chat.variables.clone())?;
    }
    if let Some(source) = &chat.template {
        tokenizer.set_chat_template(source)?;
    }
    Ok(Arc::new(tokenizer))
}

fn candle(
    manifest: &Manifest,
    located: &Located,
    device: &candle_core::Device,
    (options, chat): (LoadOptions, &Chat),
) -> Result<(Box<dyn Model>, Arc<Tokenizer>)> {
    let file = checkpoint::open(weights(manifest, located)?)?;
    let tokenizer = asking(file.tokenizer(&manifest.name)?, &beside(manifest, chat))?;
    let model = model::load(&manifest.name, &*file, device, options)?;
    Ok((model, tokenizer))
}

fn weights<'a>(manifest: &Manifest, located: &'a Located) -> Result<&'a Path> {
    let weights = located.weights();
    let weights = weights.ok_or_else(|| Error::model(&manifest.name, "names no weights", "add a [[files]] entry"))?;
    Ok(&weights.path)
}

/// The tokenizer of a model whose files are here.
pub(super) fn tokenizer(manifest: &Manifest, located: &Located, chat: &Chat) -> Result<Arc<Tokenizer>> {
    match manifest.kind {
        Kind::Scripted => scripted(manifest, chat).map(|(_, tokenizer)| tokenizer),
        Kind::Candle => {
            let file = checkpoint::open(weights(manifest, located)?)?;
            asking(file.tokenizer(&manifest.name)?, &beside(manifest, chat))
        }
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
