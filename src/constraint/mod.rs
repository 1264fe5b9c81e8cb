//! A grammar over a vocabulary: which tokens may come next, how a text grows, when it is complete.
//!
//! [`Compiler`] turns grammars into [`Constraint`]s, shared by all rows of a run; each row has a
//! [`Session`] of its own. Two back ends stand behind the seam: instil's engine and, as a baseline,
//! [`outlines`].

mod mask;
pub mod outlines;

use std::sync::Arc;

pub use mask::Mask;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::grammar::GrammarSource;
use crate::vocab::{TokenId, Vocab};

/// A compiled grammar over one vocabulary, shared by every row and thread.
pub trait Constraint: Send + Sync {
    /// A session at the start of a text.
    ///
    /// # Errors
    /// When `max_tokens` is below [`Constraint::min_tokens`], with both numbers.
    fn start(&self, max_tokens: Option<usize>) -> Result<Box<dyn Session>>;
    /// Fewest tokens of a complete text, the end-of-sequence token included.
    fn min_tokens(&self) -> usize;
}

/// One text under a grammar.
pub trait Session: Send {
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
    fn is_accepting(&self) -> bool;
    /// The text is complete and nothing can follow.
    fn is_finished(&self) -> bool;
    /// The token limit, rather than the model, decided how the text goes on.
    fn closed_by_budget(&self) -> bool;
    /// A session that goes its own way from here.
    fn fork(&self) -> Box<dyn Session>;
}

/// Which engine enforces grammars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// instil's own engine.
    #[default]
    Instil,
    /// outlines-core's index.
    Outlines,
}

/// Grammars → constraints over one vocabulary.
pub struct Compiler {
    vocab: Arc<Vocab>,
    backend: Backend,
}

impl Compiler {
    /// A compiler over `vocab`.
    ///
    /// # Errors
    /// When the vocabulary cannot end a text.
    pub fn new(vocab: Arc<Vocab>, backend: Backend) -> Result<Self> {
        Ok(Self { vocab, backend })
    }

    /// Compiles a grammar.
    ///
    /// # Errors
    /// When the back end cannot enforce it, naming keyword and place.
    pub fn compile(&self, source: &GrammarSource) -> Result<Arc<dyn Constraint>> {
        match self.backend {
            Backend::Instil | Backend::Outlines => Ok(Arc::new(outlines::OutlinesConstraint::new(source, &self.vocab)?)),
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
    /// `automaton`, `guard`, `annotation` or `refused`.
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
        Backend::Instil | Backend::Outlines => Ok(outlines::report(schema)),
    }
}

/// Refuses a limit below the shortest text.
fn check_budget(min_tokens: usize, max_tokens: Option<usize>) -> Result<()> {
    match max_tokens {
        Some(limit) if limit < min_tokens => Err(Error::usage(
            format!("the shortest text takes {min_tokens} tokens, but the limit is {limit}"),
            format!("use --max-tokens {min_tokens} or more"),
        )),
        _ => Ok(()),
    }
}
