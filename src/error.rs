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
    /// A grammar (JSON Schema, regex, choice) that cannot be enforced.
    #[error("{}{what}{}", At(pointer), Remedy(remedy))]
    Grammar {
        /// JSON pointer into the schema, or the byte offset in a regex; empty for the whole.
        pointer: String,
        /// What is wrong, naming the keyword.
        what: String,
        /// What helps.
        remedy: String,
    },
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
        Self::Grammar { pointer: pointer.into(), what: what.into(), remedy: remedy.into() }
    }

    /// A model that cannot be used.
    pub fn model(model: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Model { model: model.into(), what: what.into(), remedy: remedy.into() }
    }

    /// Something out of reach.
    pub fn unavailable(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Unavailable { what: what.into(), remedy: remedy.into() }
    }

    /// A refused file operation; the remedy follows from the cause where it has a usual one.
    pub fn io(action: &'static str, path: impl AsRef<Path>, source: std::io::Error) -> Self {
        use std::io::ErrorKind as Kind;
        let remedy = match source.kind() {
            Kind::NotFound => "check the path",
            Kind::PermissionDenied | Kind::ReadOnlyFilesystem => {
                "choose a place that you may write to, or change its permissions"
            }
            Kind::NotADirectory | Kind::AlreadyExists => "a file stands in its way; choose another path",
            Kind::IsADirectory => "give a file, not a directory",
            Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => "free some space, or choose another disk",
            _ => "",
        };
        Self::Io { action, path: path.as_ref().to_owned(), source, remedy: remedy.into() }
    }
}

/// ` (remedy)`, or nothing.
struct Remedy<'a>(&'a str);

impl fmt::Display for Remedy<'_> {
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
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        assert!(Error::io("write", "out/records.jsonl", full).to_string().contains("free some space"));
    }
}
