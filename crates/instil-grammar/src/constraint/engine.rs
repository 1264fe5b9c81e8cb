//! One grammar over one vocabulary: what a user builds once and starts sessions from.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use super::Settings;
use super::generation::{Generation, REJECTED, Statistics};
use super::session::Session;
use super::step::{DEEPEST, ENDLESS};
use super::tables::Tables;
use crate::grammar::{Expansion, GrammarSource, Options, Program};
use crate::{Error, Result};

/// A grammar over a vocabulary; shared by all sessions.
pub struct Engine {
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
        let generation = Generation::new(expansion, tables.clone(), &settings);
        if generation.start() == REJECTED {
            return Err(Error::grammar("", "no text satisfies the grammar", "loosen it"));
        }
        if generation.is_emptiness_open() && generation.needed(generation.start()) >= ENDLESS {
            let what = format!("no value of at most {DEEPEST} levels of nesting satisfies the grammar");
            return Err(Error::grammar("", what, "loosen what contradicts itself"));
        }
        let generation = RwLock::new(Arc::new(generation));
        Ok(Arc::new(Self { tables, settings, program, generation }))
    }

    /// A session at the beginning of a text of at most so many tokens.
    ///
    /// # Errors
    /// Those of [`Engine::check_limit`].
    pub fn start(self: &Arc<Self>, max_tokens: Option<usize>) -> Result<Session> {
        if let Some(limit) = max_tokens {
            self.check_limit(limit)?;
        }
        Ok(Session::new(self.clone(), self.generation(), max_tokens))
    }

    /// A limit that every text can be closed within, from its beginning: not always the least one.
    pub fn min_tokens(&self) -> usize {
        let generation = self.generation();
        generation.needed(generation.start()) as usize
    }

    /// Refuses a limit on tokens that no text keeps to.
    ///
    /// # Errors
    /// [`Error::ShortLimit`] when the limit is below what the grammar needs, [`Error::Usage`] when that cannot be
    /// counted, [`Error::Grammar`] when no text was found at all and it is not known whether there is one.
    pub fn check_limit(&self, limit: usize) -> Result<()> {
        let needed = self.min_tokens();
        if needed >= ENDLESS as usize && self.assumed() {
            return Err(Error::grammar(
                "",
                "no text of the grammar was found, and the search whether there is one was given up",
                "loosen what may contradict itself, or lower its counts",
            ));
        }
        check_limit(needed, limit)
    }

    /// The grammar holds only under an assumption: somewhere the search whether a text can still be completed was given
    /// up, so a text may come to a dead end. A matter of the grammar alone; see [`Program::assumed`].
    pub fn assumed(&self) -> bool {
        self.program.assumed()
    }

    /// So far some text was so ambiguous that readings of it were cut: valid texts may have been turned down, never
    /// invalid ones let through. Told of the present generation.
    pub fn has_cut(&self) -> bool {
        self.generation().has_cut()
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
            *slot = Arc::new(Generation::new(self.program.expand(), self.tables.clone(), &self.settings));
        }
        slot.clone()
    }

    /// What the present generation has come to, for reports.
    pub fn statistics(&self) -> Statistics {
        self.generation().statistics()
    }
}

/// Refuses a limit on tokens that is below what the shortest text needs.
pub(super) fn check_limit(needed: usize, limit: usize) -> Result<()> {
    if needed >= ENDLESS as usize {
        return Err(Error::usage(
            format!("the grammar needs more tokens than can be counted, or more than {DEEPEST} levels of nesting"),
            "lower its least lengths, counts and depth, or use a vocabulary that spells what it asks for",
        ));
    }
    if limit < needed { Err(Error::ShortLimit { needed, limit }) } else { Ok(()) }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("settings", &self.settings).finish_non_exhaustive()
    }
}
