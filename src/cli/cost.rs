//! What decoding a schema costs over a vocabulary: compile time, least tokens, masks, from walks that draw from the
//! masks alone. No model and no weights are needed, only the tokenizer.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::catalog::Catalog;
use crate::catalog::manifest::Kind;
use crate::catalog::source::{self, FetchOptions, Places};
use crate::{Error, Result};
use instil_grammar::constraint::{Engine, Tables};
use instil_grammar::grammar::{GrammarSource, Options};
use instil_grammar::vocab::Vocab;
use instil_model::decode::StreamKey;
use instil_model::gguf::Gguf;
use instil_model::tokenizer::Tokenizer;
use serde_json::{Value, json};

use super::options::{Chat, LayoutOptions};
use super::setup;

/// Texts that are walked, and most tokens of each past the least.
const WALKS: u32 = 12;
const TOKENS_OVER: usize = 48;
/// Walks end early past this time.
const TIME: Duration = Duration::from_secs(2);

/// What was found.
pub(super) struct Cost {
    /// Where the vocabulary came from.
    pub vocabulary: String,
    tokens: usize,
    /// Tokens within which a text can be closed.
    pub min_tokens: usize,
    compile: Duration,
    texts: u32,
    lost: u32,
    masks: usize,
    mean: Duration,
    longest: Duration,
    mask_bytes: usize,
}

/// The tokenizer in a `tokenizer.json` or a GGUF file.
pub(crate) fn tokenizer_of(path: &Path) -> Result<Tokenizer> {
    let is_gguf = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
    Ok(if is_gguf {
        Tokenizer::from_gguf(Gguf::open(path)?.metadata(), &path.display().to_string())?
    } else {
        Tokenizer::from_file(path)?
    })
}

/// The vocabulary of a tokenizer file, or of a model whose files are here; the name it goes by. `None` when the
/// model is not here: nothing is fetched.
pub(super) fn vocabulary(tokenizer: Option<&Path>, model: &str) -> Result<Option<(String, Arc<Vocab>)>> {
    if let Some(path) = tokenizer {
        return Ok(Some((path.display().to_string(), tokenizer_of(path)?.vocab().clone())));
    }
    let places = Places::from_environment();
    let Some(manifest) = Catalog::load(&places)?.known(model, &places)? else { return Ok(None) };
    if manifest.kind == Kind::Scripted {
        let Some(script) = &manifest.scripted else { return Ok(None) };
        return Ok(Some((manifest.name.clone(), Arc::new(script.vocab()))));
    }
    let options = FetchOptions { offline: true, ..FetchOptions::from_environment() };
    let Ok(located) = source::fetch(&manifest, &places, &options, &mut |_| ()) else { return Ok(None) };
    Ok(Some((manifest.name.clone(), setup::tokenizer(&manifest, &located, &Chat::default())?.vocab().clone())))
}

/// Compiles the schema and walks over it.
pub(super) fn measure(schema: &Value, vocabulary: String, vocab: Arc<Vocab>, layout: LayoutOptions) -> Result<Cost> {
    let settings = layout.settings();
    let tokens = vocab.len();
    let tables = Tables::new(vocab);
    tables.prepare(settings.escapes);
    let source = GrammarSource::JsonSchema(schema.clone());
    let start = Instant::now();
    let engine = Engine::compile(&source, &Options { style: layout.style.into() }, tables, settings)?;
    let compile = start.elapsed();
    let min_tokens = engine.min_tokens();
    let (mut texts, mut lost, mut masks) = (0, 0, 0);
    let (mut sum, mut longest) = (Duration::ZERO, Duration::ZERO);
    let begun = Instant::now();
    for row in 0..WALKS {
        if begun.elapsed() > TIME {
            break;
        }
        let key = StreamKey { row, ..StreamKey::default() };
        let mut session = engine.start(Some(min_tokens.saturating_add(TOKENS_OVER)))?;
        texts += 1;
        for step in 0.. {
            let start = Instant::now();
            let mask = session.mask();
            let taken = start.elapsed();
            (sum, longest, masks) = (sum + taken, longest.max(taken), masks + 1);
            let mut allowed = Vec::new();
            mask.for_each(|token| allowed.push(token));
            if allowed.is_empty() {
                lost += 1;
                break;
            }
            let token = allowed[key.below(step, allowed.len())];
            session.advance(token).map_err(|cause| Error::usage(cause.to_string(), "report this schema"))?;
            if session.is_finished() || begun.elapsed() > TIME {
                break;
            }
        }
    }
    let mean = sum / u32::try_from(masks).unwrap_or(u32::MAX).max(1);
    let mask_bytes = engine.statistics().mask_bytes;
    Ok(Cost { vocabulary, tokens, min_tokens, compile, texts, lost, masks, mean, longest, mask_bytes })
}

/// What may become of a text that is begun: by the weakest of its keywords.
#[derive(Clone, Copy, Debug)]
pub(super) enum Class {
    /// It can be closed.
    Automaton,
    /// It may fail a check when a value is complete.
    Guarded,
    /// It may turn out that it cannot be closed.
    Assumed,
}

impl Class {
    fn name(self) -> &'static str {
        match self {
            Self::Automaton => "automaton",
            Self::Guarded => "guarded",
            Self::Assumed => "assumed",
        }
    }
}

impl Cost {
    /// Lines for a person.
    pub(super) fn lines(&self, class: Class) -> Vec<String> {
        let micros = |time: Duration| time.as_nanos() as f64 / 1000.0;
        let meaning = match class {
            Class::Automaton => "every text that is begun can be closed",
            Class::Guarded => "some values are checked when complete, and a row may end as a reject",
            Class::Assumed => {
                "of some texts it was not found out whether they can be closed, and a row may end as a reject"
            }
        };
        let mut lines = vec![
            format!("vocabulary  {} ({} tokens)", self.vocabulary, self.tokens),
            format!("class       {}: {meaning}", class.name()),
            format!("least       {} tokens a text", self.min_tokens),
            format!("compile     {:.0} µs", micros(self.compile)),
            format!(
                "masks       {:.1} µs each, longest {:.0} µs, over {} masks of {} random texts, nothing known before",
                micros(self.mean),
                micros(self.longest),
                self.masks,
                self.texts
            ),
            format!("kept masks  {:.1} MB", self.mask_bytes as f64 / 1e6),
        ];
        if self.lost > 0 {
            lines.push(format!("dead ends   {} of {} random texts", self.lost, self.texts));
        }
        lines
    }

    /// The same for a program.
    pub(super) fn json(&self, class: Class) -> Value {
        let micros = |time: Duration| time.as_nanos() as f64 / 1000.0;
        json!({
            "vocabulary": self.vocabulary,
            "class": class.name(),
            "min_tokens": self.min_tokens,
            "compile_us": micros(self.compile),
            "masks": self.masks,
            "mask_mean_us": micros(self.mean),
            "mask_max_us": micros(self.longest),
            "mask_bytes": self.mask_bytes,
            "texts": self.texts,
            "dead_ends": self.lost,
        })
    }
}
