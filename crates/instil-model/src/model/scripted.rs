//! A model that replays written replies: the whole program runs in milliseconds without weights.
//!
//! A script is a list of scenes. A scene applies when its cue is the one that stands last in the
//! sequence's text; what follows the cue is the reply so far. Every reply of the scene that begins
//! with it is as likely as any other, so draws choose among replies, seeds matter, and a refused
//! row gets another reply at its next attempt. Like any model it is a function of the tokens alone.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::sequences::{SequenceId, Sequences, Slots};
use super::{Arithmetic, Logits, Model, ModelInfo, Segment};
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;
use instil_grammar::vocab::{TokenId, TokenKind, Vocab};

/// Logit of a token that continues a reply; others have 0.
const LIKELY: f32 = 30.0;

/// What a scripted model says, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// Scenes; of those whose cue occurs, the one with the latest cue speaks.
    pub scenes: Vec<Scene>,
    /// Pause before each forward pass, in microseconds: makes a run slow enough to be interrupted.
    #[serde(default)]
    pub pause_micros: u64,
}

/// Replies to one cue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scene {
    /// The text that calls for a reply; empty stands at the start of every sequence.
    pub cue: String,
    /// What may be said, each as likely.
    pub replies: Vec<String>,
}

impl Script {
    /// The vocabulary of a script: two control tokens, every byte, every word of every reply.
    pub fn vocab(&self) -> Vocab {
        let mut words: Vec<&str> = Vec::new();
        for text in self.scenes.iter().flat_map(|scene| &scene.replies) {
            words.extend(text.split_inclusive(' ').map(str::trim_end).filter(|word| word.len() > 1));
        }
        words.sort_unstable();
        words.dedup();
        let spaced: Vec<String> = words.iter().map(|word| format!(" {word}")).collect();
        let bytes: Vec<[u8; 1]> = (0..=255).map(|byte| [byte]).collect();
        let control = [&b"<|end|>"[..], b"<|start|>"].map(|spelling| (spelling, TokenKind::Control));
        let text = bytes.iter().map(|byte| &byte[..]).chain(words.iter().map(|w| w.as_bytes()));
        let text = text.chain(spaced.iter().map(String::as_bytes)).map(|bytes| (bytes, TokenKind::Text));
        Vocab::new(control.into_iter().chain(text), &[0])
    }
}

/// Replays a [`Script`] behind the model seam.
pub struct Scripted {
    info: ModelInfo,
    script: Script,
    vocab: Arc<Vocab>,
    tokenizer: Arc<Tokenizer>,
    sequences: Slots<Vec<TokenId>>,
}

impl Scripted {
    /// A model that speaks `script`; `tokenizer` must be over [`Script::vocab`].
    ///
    /// # Errors
    /// When a scene has no reply.
    pub fn new(name: &str, script: Script, tokenizer: Arc<Tokenizer>) -> Result<Self> {
        if script.scenes.is_empty() || script.scenes.iter().any(|scene| scene.replies.is_empty()) {
            return Err(Error::model(name, "the script has a scene without replies", "give each scene `replies`"));
        }
        let vocab = tokenizer.vocab().clone();
        let info = ModelInfo {
            name: name.to_owned(),
            vocab_size: vocab.len(),
            context_length: 1 << 20,
            arithmetic: Arithmetic::Scripted,
        };
        Ok(Self { info, script, vocab, tokenizer, sequences: Slots::new() })
    }

    /// Raises the logits of the tokens that continue a reply after `tokens`.
    fn speak(&self, tokens: &[TokenId], logits: &mut [f32]) {
        let text = self.vocab.decode(tokens);
        let cues = self.script.scenes.iter().filter_map(|scene| {
            let cue = scene.cue.as_bytes();
            let at = if cue.is_empty() { Some(0) } else { text.windows(cue.len()).rposition(|window| window == cue) };
            at.map(|at| (at + cue.len(), scene))
        });
        let Some((start, scene)) = cues.max_by_key(|(end, _)| *end) else {
            logits[0] = LIKELY;
            return;
        };
        let said = &text[start..];
        let mut silent = true;
        for reply in &scene.replies {
            let Some(rest) = reply.as_bytes().strip_prefix(said) else { continue };
            silent = false;
            let next = if rest.is_empty() { Some(0) } else { self.tokenizer.first_token(rest) };
            if let Some(next) = next {
                logits[next as usize] = LIKELY;
            }
        }
        if silent {
            logits[0] = LIKELY;
        }
    }
}

impl Sequences for Slots<Vec<TokenId>> {
    fn create(&mut self) -> SequenceId {
        self.insert(Vec::new())
    }

    fn fork(&mut self, parent: SequenceId, length: usize) -> Result<SequenceId> {
        let tokens = self[parent][..length].to_vec();
        Ok(self.insert(tokens))
    }

    fn truncate(&mut self, sequence: SequenceId, length: usize) {
        self[sequence].truncate(length);
    }

    fn length(&self, sequence: SequenceId) -> usize {
        self[sequence].len()
    }

    fn free(&mut self, sequence: SequenceId) {
        self.remove(sequence);
    }
}

impl Model for Scripted {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn sequences(&mut self) -> &mut dyn Sequences {
        &mut self.sequences
    }

    fn forward(&mut self, segments: &[Segment]) -> Result<Logits> {
        if self.script.pause_micros > 0 {
            std::thread::sleep(std::time::Duration::from_micros(self.script.pause_micros));
        }
        let width = self.info.vocab_size;
        let mut values = Vec::new();
        for segment in segments {
            let before = self.sequences.length(segment.sequence);
            self.sequences[segment.sequence].extend_from_slice(segment.tokens);
            for at in segment.wanted() {
                let from = values.len();
                values.resize(from + width, 0.0);
                self.speak(&self.sequences[segment.sequence][..=before + at], &mut values[from..]);
            }
        }
        Ok(Logits::on_host(values, width))
    }
}
