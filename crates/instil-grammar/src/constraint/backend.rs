//! The seam between grammars and decoding: two back ends, one way to use them.
//!
//! [`Compiler`] turns grammars into [`Constraint`]s, shared by all rows of a run; each row has a
//! [`TextSession`] of its own. Behind the seam stand instil's [`Engine`] and, with the feature `outlines`, a
//! baseline: outlines-core's index.

use std::sync::Arc;

use serde_json::Value;

use super::engine::check_limit;
#[cfg(feature = "outlines")]
use super::outlines::{self, OutlinesConstraint};
use super::{Engine, Mask, Session, Settings, Tables, Tokenise};
use crate::error::{Error, Result};
use crate::grammar::{self, GrammarSource, Options, Program, Style};
use crate::vocab::{TokenId, Vocab};

/// A compiled grammar over one vocabulary, shared by every row and thread.
pub trait Constraint: Send + Sync {
    /// A session at the start of a text.
    ///
    /// # Errors
    /// When `max_tokens` is below [`Constraint::min_tokens`], with both numbers.
    fn start(&self, max_tokens: Option<usize>) -> Result<Box<dyn TextSession>>;
    /// Tokens within which a text can be completed, the end-of-sequence token included.
    fn min_tokens(&self) -> usize;

    /// Refuses a limit on tokens that no text keeps to.
    ///
    /// # Errors
    /// [`Error::ShortLimit`] with both numbers, or when what is needed cannot be counted.
    fn check_limit(&self, max_tokens: usize) -> Result<()> {
        check_limit(self.min_tokens(), max_tokens)
    }

    /// The grammar holds only under an assumption, so a text may come to a dead end; see [`Engine::assumed`].
    fn assumed(&self) -> bool {
        false
    }
}

/// One text under a grammar.
pub trait TextSession: Send {
    /// The tokens that may come next; an end-of-sequence token exactly when the text is complete.
    fn mask(&mut self) -> Mask;
    /// Appends a token.
    ///
    /// # Errors
    /// When the mask does not let it through.
    fn advance(&mut self, token: TokenId) -> Result<()>;
    /// The tokens of the only text that can follow, if there is only one; may be empty.
    fn forced(&mut self) -> Vec<TokenId>;
    /// The text is complete as it stands.
    fn is_accepting(&mut self) -> bool;
    /// The text is complete and nothing can follow.
    fn is_finished(&mut self) -> bool;
    /// The token limit, rather than the model, decided how the text goes on.
    fn closed_by_budget(&self) -> bool;
    /// Once the limit lies within `window` tokens of what the text needs to its end: the tokens after which
    /// less is needed, and how near the limit is, from 0 (just within the window) to 1. `None` before, and
    /// from engines that do not count.
    fn lean(&mut self, window: usize) -> Option<(Mask, f32)> {
        let _ = window;
        None
    }
    /// A session that goes its own way from here.
    fn fork(&self) -> Box<dyn TextSession>;
}

impl Constraint for Arc<Engine> {
    fn start(&self, max_tokens: Option<usize>) -> Result<Box<dyn TextSession>> {
        Ok(Box::new(Engine::start(self, max_tokens)?))
    }

    fn min_tokens(&self) -> usize {
        Engine::min_tokens(self)
    }

    fn check_limit(&self, max_tokens: usize) -> Result<()> {
        Engine::check_limit(self, max_tokens)
    }

    fn assumed(&self) -> bool {
        Engine::assumed(self)
    }
}

impl TextSession for Session {
    fn mask(&mut self) -> Mask {
        Self::mask(self)
    }

    fn advance(&mut self, token: TokenId) -> Result<()> {
        Self::advance(self, token).map_err(|refusal| refused(refusal.token))
    }

    fn forced(&mut self) -> Vec<TokenId> {
        Self::forced(self)
    }

    fn is_accepting(&mut self) -> bool {
        Self::is_accepting(self)
    }

    fn is_finished(&mut self) -> bool {
        Self::is_finished(self)
    }

    fn closed_by_budget(&self) -> bool {
        Self::closed_by_budget(self)
    }

    fn lean(&mut self, window: usize) -> Option<(Mask, f32)> {
        Self::lean(self, window)
    }

    fn fork(&self) -> Box<dyn TextSession> {
        Box::new(self.clone())
    }
}

/// Which engine enforces grammars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// instil's own engine.
    #[default]
    Instil,
    /// outlines-core's index.
    #[cfg(feature = "outlines")]
    Outlines,
}

/// Grammars → constraints over one vocabulary.
pub struct Compiler {
    backend: Backend,
    settings: Settings,
    /// What is computed once a vocabulary, for instil's engine; the vocabulary itself for others.
    tables: Arc<Tables>,
}

impl Compiler {
    /// A compiler over `vocab`. `tokenise` cuts forced text as the model's tokenizer would; without
    /// it the longest token is taken at each place.
    pub fn new(vocab: Arc<Vocab>, backend: Backend, settings: Settings, tokenise: Option<Arc<Tokenise>>) -> Self {
        Self { backend, settings, tables: Tables::with_tokenizer(vocab, tokenise) }
    }

    /// Compiles a grammar; the style is for instil's own engine.
    ///
    /// # Errors
    /// When the back end cannot enforce it, naming keyword and place, or when no text satisfies it.
    pub fn compile(&self, source: &GrammarSource, style: Style) -> Result<Arc<dyn Constraint>> {
        match self.backend {
            Backend::Instil => {
                let tables = self.tables.clone();
                Ok(Arc::new(Engine::compile(source, &Options { style }, tables, self.settings.clone())?))
            }
            #[cfg(feature = "outlines")]
            Backend::Outlines => Ok(Arc::new(OutlinesConstraint::new(source, self.tables.vocab())?)),
        }
    }
}

/// How one keyword of a schema is enforced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enforcement {
    /// JSON pointer of the keyword.
    pub pointer: String,
    /// Its name.
    pub keyword: String,
    /// `automaton`, `assumed`, `guard`, `annotation` or `refused`.
    pub how: &'static str,
    /// It is not enforced, so the schema is refused.
    pub refused: bool,
}

/// How every keyword of `schema` is enforced by `backend`.
///
/// # Errors
/// When the schema cannot be read at all.
pub fn enforcement(schema: &Value, backend: Backend) -> Result<Vec<Enforcement>> {
    match backend {
        #[cfg(feature = "outlines")]
        Backend::Outlines => Ok(outlines::report(schema)),
        Backend::Instil => {
            let program = Program::compile(&GrammarSource::JsonSchema(schema.clone()), &Options::default())?;
            // What cannot be enforced is an error of compiling, so nothing is left to refuse here.
            let entries = program.report().into_iter().map(|entry| Enforcement {
                how: match entry.enforcement {
                    grammar::Enforcement::Automaton => "automaton",
                    grammar::Enforcement::Assumed => "assumed",
                    grammar::Enforcement::Guard => "guard",
                    grammar::Enforcement::Annotation => "annotation",
                },
                refused: false,
                pointer: entry.pointer,
                keyword: entry.keyword,
            });
            Ok(entries.collect())
        }
    }
}

/// A token that the mask does not hold was appended: a mistake of the caller.
pub(super) fn refused(token: TokenId) -> Error {
    Error::grammar("", format!("token {token} may not come next under the grammar"), "draw from the mask")
}
