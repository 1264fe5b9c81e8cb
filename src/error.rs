//! The one error type: who must act, what went wrong, where, and what helps.
//!
//! Every variant prints as one line. `remedy` is a full sentence naming the flag, key or command
//! that mends it. A row that a filter turns down is not an error; it is data with a reason.

pub mod suggest;

use std::fmt;
use std::path::{Path, PathBuf};

pub use suggest::nearest;

/// Result of everything fallible in the library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong, sorted by who can mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A flag or argument has a value that cannot work.
    #[error("{what}{}", Remedy(remedy))]
    Usage {
        /// What is wrong.
        what: String,
        /// What helps.
        remedy: String,
    },
    /// A file that the user gave cannot be used as it stands.
    #[error("{}: {what}{}", path.display(), Remedy(remedy))]
    Input {
        /// The file, with `:line` kept in `what`.
        path: PathBuf,
        /// What is wrong, starting with the line or field where that is known.
        what: String,
        /// What helps.
        remedy: String,
    },
    /// A grammar that cannot be enforced, or a use of it that cannot work.
    #[error(transparent)]
    Grammar(instil_grammar::Error),
    /// A model, tokenizer or manifest that cannot be used.
    #[error("model {model}: {what}{}", Remedy(remedy))]
    Model {
        /// Name or path of the model.
        model: String,
        /// What is wrong.
        what: String,
        /// What helps.
        remedy: String,
    },
    /// Something outside the program cannot be reached.
    #[error("{what}{}", Remedy(remedy))]
    Unavailable {
        /// What cannot be reached, and why.
        what: String,
        /// What helps.
        remedy: String,
    },
    /// The operating system refused a file operation.
    #[error("cannot {action} {}: {source}{}", path.display(), Remedy(remedy))]
    Io {
        /// A verb phrase: `read`, `create`, `rename`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
        /// What helps; empty when the cause says it all.
        remedy: String,
    },
    /// The run ended with fewer accepted rows than were asked for.
    #[error("{what}{}", Remedy(remedy))]
    Unmet {
        /// How many of how many, and the most frequent reason.
        what: String,
        /// What to change.
        remedy: String,
    },
    /// The user stopped the program.
    #[error("interrupted: {what}")]
    Interrupted {
        /// What was kept.
        what: String,
    },
    /// A computation on the device failed.
    #[error("{what}: {source}")]
    Device {
        /// What was being done.
        what: &'static str,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// A bad flag or argument.
    pub fn usage(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Usage { what: what.into(), remedy: remedy.into() }
    }

    /// A bad input file.
    pub fn input(path: impl AsRef<Path>, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Input { path: path.as_ref().to_owned(), what: what.into(), remedy: remedy.into() }
    }

    /// A grammar that cannot be enforced.
    pub fn grammar(pointer: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Grammar(instil_grammar::Error::grammar(pointer, what, remedy))
    }

    /// A model that cannot be used.
    pub fn model(model: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Model { model: model.into(), what: what.into(), remedy: remedy.into() }
    }

    /// Something out of reach.
    pub fn unavailable(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Unavailable { what: what.into(), remedy: remedy.into() }
    }

    /// The same, where it is about a flag or argument, with the place that asks for it.
    #[must_use]
    pub fn within(self, place: &str) -> Self {
        match self {
            Self::Usage { what, remedy } => Self::Usage { what: format!("{place}: {what}"), remedy },
            other => other,
        }
    }

    /// A refused file operation; the remedy follows from the cause where it has a usual one.
    pub fn io(action: &'static str, path: impl AsRef<Path>, source: std::io::Error) -> Self {
        instil_model::Error::io(action, path, source).into()
    }
}

impl From<instil_grammar::Error> for Error {
    fn from(error: instil_grammar::Error) -> Self {
        match error {
            instil_grammar::Error::ShortLimit { needed, .. } => {
                Self::usage(error.to_string(), format!("use --max-tokens {needed} or more"))
            }
            other => Self::Grammar(other),
        }
    }
}

impl From<instil_model::Error> for Error {
    fn from(error: instil_model::Error) -> Self {
        use instil_model::Error as Inner;
        match error {
            Inner::Usage { what, remedy } => Self::Usage { what, remedy },
            Inner::Input { path, what, remedy } => Self::Input { path, what, remedy },
            Inner::Grammar(error) => error.into(),
            Inner::Model { model, what, remedy } => Self::Model { model, what, remedy },
            Inner::Unavailable { what, remedy } => Self::Unavailable { what, remedy },
            Inner::Io { action, path, source, remedy } => Self::Io { action, path, source, remedy },
            Inner::Device { what, source } => Self::Device { what, source },
        }
    }
}

/// ` (remedy)`, or nothing.
struct Remedy<'a>(&'a str);

impl fmt::Display for Remedy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "; {}", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_one_line_with_place_and_remedy() {
        let error = Error::grammar("/properties/a/not", "`not` is not enforced", "remove it");
        assert_eq!(error.to_string(), "at /properties/a/not: `not` is not enforced; remove it");
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        assert!(Error::io("write", "out/records.jsonl", full).to_string().contains("free some space"));
    }
}
