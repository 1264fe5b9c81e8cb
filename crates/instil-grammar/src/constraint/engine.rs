//! One grammar over one vocabulary: what a user builds once and starts sessions from.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use super::Settings;
use super::backend::raise_to;
use super::generation::{Generation, REJECTED};
use super::least::ENDLESS;
use super::session::Session;
use super::step::DEEPEST;
use super::tables::Tables;
use super::trie::{NONE, ROOT};
use crate::grammar::{Expansion, GrammarSource, Options, Program};
use crate::vocab::TokenId;
use crate::{Error, Result};

/// A function from text to its canonical tokens.
pub type Tokenise = dyn Fn(&[u8]) -> Vec<TokenId> + Send + Sync;

/// A grammar over a vocabulary; shared by all sessions.
pub struct Engine {
    tokenise: RwLock<Option<Arc<Tokenise>>>,
    pub(crate) tables: Arc<Tables>,
    settings: Settings,
    program: Program,
    generation: RwLock<Arc<Generation>>,
}

impl Engine {
    /// Prepares a grammar over a vocabulary. Cheap: everything is computed when it is first needed.
    ///
    /// # Errors
    /// [`Error::Grammar`] when the grammar has no text at all, or the vocabulary lacks a byte that texts need.
    pub fn new(program: &Program, tables: Arc<Tables>, settings: Settings) -> Result<Arc<Self>> {
        Self::with_expansion(program.expand(), tables, settings)
    }

    /// Compiles a source and prepares it: [`Engine::new`] with what compiling has found out already.
    ///
    /// # Errors
    /// Those of [`Program::compile`].
    pub fn compile(
        source: &GrammarSource,
        options: &Options,
        tables: Arc<Tables>,
        settings: Settings,
    ) -> Result<Arc<Self>> {
        let (_, expansion) = Program::compile_expanded(source, options)?;
        Self::with_expansion(expansion, tables, settings)
    }

    fn with_expansion(expansion: Expansion, tables: Arc<Tables>, settings: Settings) -> Result<Arc<Self>> {
        if let Some(byte) = tables.missing.first() {
            return Err(Error::grammar(
                "",
                format!(
                    "the vocabulary has no token for the byte 0x{byte:02x} ({} such): texts could not always be closed",
                    tables.missing.len()
                ),
                "use a model whose tokenizer spells every byte",
            ));
        }
        let program = expansion.program().clone();
        let generation = Generation::new(expansion, &settings);
        {
            let mut inner = generation.write();
            if inner.start() == REJECTED {
                return Err(Error::grammar("", "no text satisfies the grammar", "loosen it"));
            }
            let start = inner.start();
            if inner.machine.expansion.is_emptiness_open() && inner.needed(start, &tables) >= ENDLESS {
                let what = format!("no value of at most {DEEPEST} levels of nesting satisfies the grammar");
                return Err(Error::grammar("", what, "loosen what contradicts itself"));
            }
        }
        let generation = RwLock::new(Arc::new(generation));
        Ok(Arc::new(Self { tokenise: RwLock::default(), tables, settings, program, generation }))
    }

    /// A session at the beginning of a text of at most so many tokens.
    ///
    /// # Errors
    /// [`Error::Usage`] with the number when the limit is below what the grammar needs.
    pub fn start(self: &Arc<Self>, max_tokens: Option<usize>) -> Result<Session> {
        if let Some(max_tokens) = max_tokens {
            let least = self.min_tokens();
            if least >= ENDLESS as usize {
                return Err(Error::usage(
                    format!(
                        "the grammar needs more tokens than can be counted, or more than {DEEPEST} levels of nesting"
                    ),
                    "lower its least lengths, counts and depth, or use a vocabulary that spells what it asks for",
                ));
            }
            if max_tokens < least {
                return Err(Error::usage(
                    format!("the grammar needs {least} tokens, more than the limit of {max_tokens}"),
                    raise_to(least),
                ));
            }
        }
        Ok(Session::new(self.clone(), self.generation(), max_tokens))
    }

    /// A limit that every text can be closed within, from its beginning: not always the least one.
    pub fn min_tokens(&self) -> usize {
        let generation = self.generation();
        let mut inner = generation.write();
        let start = inner.start();
        inner.needed(start, &self.tables) as usize
    }

    /// Says how the model's tokenizer cuts a text, for [`Session::forced`]. Without it the longest
    /// token is taken at each place, which is near to but not quite what byte-pair merging gives.
    pub fn set_tokenizer(&self, tokenise: Arc<Tokenise>) {
        *self.tokenise.write().unwrap_or_else(PoisonError::into_inner) = Some(tokenise);
    }

    /// The tokens of a text.
    pub(crate) fn tokenise(&self, text: &[u8]) -> Vec<TokenId> {
        let tokenise = self.tokenise.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(tokenise) = tokenise {
            return tokenise(text);
        }
        let trie = &self.tables.trie;
        let (mut tokens, mut at) = (Vec::new(), 0);
        while at < text.len() {
            let (mut node, mut best) = (ROOT, None);
            for (end, &byte) in (at + 1..).zip(&text[at..]) {
                node = trie.child(node, byte);
                if node == NONE {
                    break;
                }
                if trie.node(node).value != NONE {
                    best = Some((end, trie.node(node).value));
                }
            }
            let Some((end, token)) = best else { break };
            tokens.push(token);
            at = end;
        }
        tokens
    }

    /// How the engine was set up.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The vocabulary's tables.
    pub fn tables(&self) -> &Arc<Tables> {
        &self.tables
    }

    /// The present generation; a fresh one where that has grown past its share of the memory.
    pub(crate) fn generation(&self) -> Arc<Generation> {
        let present = self.generation.read().unwrap_or_else(PoisonError::into_inner).clone();
        if !present.is_outgrown() {
            return present;
        }
        let mut slot = self.generation.write().unwrap_or_else(PoisonError::into_inner);
        if slot.is_outgrown() {
            *slot = Arc::new(Generation::new(self.program.expand(), &self.settings));
        }
        slot.clone()
    }

    /// Configurations, stacks, masks, bytes of masks, trie nodes visited, all bytes: of the present generation, for
    /// reports.
    pub fn statistics(&self) -> [u64; 6] {
        self.generation().read().statistics()
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("settings", &self.settings).finish_non_exhaustive()
    }
}
