//! What can be wrong with a grammar, or with the way it is used: where it stands, and what helps.
//!
//! Every variant prints as one line.

mod remedy;

use std::fmt;

pub use remedy::{Remedy, Setting, setting};

/// Result of everything fallible in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong, sorted by who can mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A grammar (JSON Schema, regex, choice) that cannot be enforced.
    #[error("{}{what}{}", At(pointer), Then(remedy))]
    Grammar {
        /// JSON pointer into the schema, or the byte offset in a regex; empty for the whole.
        pointer: String,
        /// What is wrong, naming the keyword.
        what: String,
        /// What helps.
        remedy: Remedy,
    },
    /// A setting has a value that cannot work.
    #[error("{what}{}", Then(remedy))]
    Usage {
        /// What is wrong.
        what: String,
        /// What helps.
        remedy: Remedy,
    },
    /// A limit on tokens that no text of the grammar keeps to.
    #[error("the shortest text takes {needed} tokens, but the limit is {limit}")]
    ShortLimit {
        /// The least limit that will do.
        needed: usize,
        /// The limit.
        limit: usize,
    },
}

impl Error {
    /// A grammar that cannot be enforced.
    pub fn grammar(pointer: impl Into<String>, what: impl Into<String>, remedy: impl Into<Remedy>) -> Self {
        Self::Grammar { pointer: pointer.into(), what: what.into(), remedy: remedy.into() }
    }

    /// A setting that cannot work.
    pub(crate) fn usage(what: impl Into<String>, remedy: impl Into<Remedy>) -> Self {
        Self::Usage { what: what.into(), remedy: remedy.into() }
    }
}

impl Error {
    /// What helps, where the error does not say it by itself.
    pub fn remedy(&self) -> Option<&Remedy> {
        match self {
            Self::Grammar { remedy, .. } | Self::Usage { remedy, .. } => Some(remedy),
            Self::ShortLimit { .. } => None,
        }
    }

    /// The same error with something else that helps, where it says what helps.
    pub fn with_remedy(mut self, other: impl Into<Remedy>) -> Self {
        if let Self::Grammar { remedy, .. } | Self::Usage { remedy, .. } = &mut self {
            *remedy = other.into();
        }
        self
    }
}

/// `; remedy`, or nothing.
struct Then<'a>(&'a Remedy);

impl fmt::Display for Then<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "; {}", self.0) }
    }
}

/// `at POINTER: `, or nothing.
struct At<'a>(&'a str);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "at {}: ", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_one_line_with_place_and_remedy() {
        let error = Error::grammar("/properties/a/not", "`not` is not enforced", "remove it");
        assert_eq!(error.to_string(), "at /properties/a/not: `not` is not enforced; remove it");
    }
}
