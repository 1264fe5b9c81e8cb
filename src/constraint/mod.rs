//! A grammar over a vocabulary: which tokens may come next, how a text grows, when it is complete.
//!
//! [`Constraint`] is shared by all rows of a run; each row has a [`Session`] of its own.

mod mask;

pub use mask::Mask;

use crate::error::Result;
use crate::vocab::TokenId;

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
