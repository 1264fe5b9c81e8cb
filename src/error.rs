//! The one error type: who must act, what went wrong, where, and what helps.
//!
//! Every variant prints as one line. `remedy` is a full sentence naming the setting, key or command that mends it;
//! [`Error::calling`] puts what a setting is called for its reader in. A row that a filter turns down is not an error; it is data with a reason.

pub(crate) mod setting;
pub(crate) mod suggest;

use std::fmt;
use std::path::{Path, PathBuf};

pub(crate) use instil_model::error::{Remedy, Setting};

pub(crate) use suggest::nearest;

/// Result of everything fallible in the library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong, sorted by who can mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A flag or argument has a value that cannot work.
    #[error("{what}{}", Then(remedy))]
    Usage {
        /// What is wrong.
        what: String,
        /// What helps.
        remedy: Remedy,
    },
    /// A file that the user gave cannot be used as it stands.
    #[error("{}: {what}{}", path.display(), Then(remedy))]
    Input {
        /// The file, with `:line` kept in `what`.
        path: PathBuf,
        /// What is wrong, starting with the line or field where that is known.
        what: String,
        /// What helps.
        remedy: Remedy,
    },
    /// A grammar that cannot be enforced, or a use of it that cannot work.
    #[error(transparent)]
    Grammar(instil_grammar::Error),
    /// A model, tokenizer or manifest that cannot be used.
    #[error("model {model}: {what}{}", Then(remedy))]
    Model {
        /// Name or path of the model.
        model: String,
        /// What is wrong.
        what: String,
        /// What helps.
        remedy: Remedy,
    },
    /// Something outside the program cannot be reached.
    #[error("{what}{}", Then(remedy))]
    Unavailable {
        /// What cannot be reached, and why.
        what: String,
        /// What helps.
        remedy: Remedy,
    },
    /// The operating system refused a file operation.
    #[error("cannot {action} {}: {source}{}", path.display(), Then(remedy))]
    Io {
        /// A verb phrase: `read`, `create`, `rename`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
        /// What helps; empty when the cause says it all.
        remedy: Remedy,
    },
    /// The run ended with fewer accepted rows than were asked for.
    #[error("{what}{}", Then(remedy))]
    Unmet {
        /// How many of how many, and the most frequent reason.
        what: String,
        /// What to change.
        remedy: Remedy,
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
    pub(crate) fn usage(what: impl Into<String>, remedy: impl Into<Remedy>) -> Self {
        Self::Usage { what: what.into(), remedy: remedy.into() }
    }

    /// A bad input file.
    pub(crate) fn input(path: impl AsRef<Path>, what: impl Into<String>, remedy: impl Into<Remedy>) -> Self {
        Self::Input { path: path.as_ref().to_owned(), what: what.into(), remedy: remedy.into() }
    }

    /// A grammar that cannot be enforced.
    pub fn grammar(pointer: impl Into<String>, what: impl Into<String>, remedy: impl Into<Remedy>) -> Self {
        Self::Grammar(instil_grammar::Error::grammar(pointer, what, remedy))
    }

    /// A model that cannot be used.
    pub(crate) fn model(model: impl Into<String>, what: impl Into<String>, remedy: impl Into<Remedy>) -> Self {
        Self::Model { model: model.into(), what: what.into(), remedy: remedy.into() }
    }

    /// Something out of reach.
    pub(crate) fn unavailable(what: impl Into<String>, remedy: impl Into<Remedy>) -> Self {
        Self::Unavailable { what: what.into(), remedy: remedy.into() }
    }

    /// The same, where it is about a flag or argument, with the place that asks for it.
    #[must_use]
    pub(crate) fn within(self, place: &str) -> Self {
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

impl Error {
    /// What helps, where something does.
    pub fn remedy(&self) -> Option<&Remedy> {
        match self {
            Self::Usage { remedy, .. }
            | Self::Input { remedy, .. }
            | Self::Model { remedy, .. }
            | Self::Unavailable { remedy, .. }
            | Self::Io { remedy, .. }
            | Self::Unmet { remedy, .. } => Some(remedy),
            Self::Grammar(error) => error.remedy(),
            Self::Interrupted { .. } | Self::Device { .. } => None,
        }
    }

    /// The same with its remedy as a reader knows it: `call` says how a setting is written, at a value unless that is
    /// empty.
    pub(crate) fn calling(mut self, call: &dyn Fn(Setting, &str) -> String) -> Self {
        let Some(told) = self.remedy().map(|remedy| Remedy::from(remedy.told(call))) else { return self };
        match &mut self {
            Self::Usage { remedy, .. }
            | Self::Input { remedy, .. }
            | Self::Model { remedy, .. }
            | Self::Unavailable { remedy, .. }
            | Self::Io { remedy, .. }
            | Self::Unmet { remedy, .. } => *remedy = told,
            Self::Grammar(error) => *error = error.clone().with_remedy(told),
            Self::Interrupted { .. } | Self::Device { .. } => {}
        }
        self
    }
}

impl From<instil_grammar::Error> for Error {
    fn from(error: instil_grammar::Error) -> Self {
        match error {
            instil_grammar::Error::ShortLimit { needed, .. } => Self::usage(
                error.to_string(),
                Remedy::from("use ").set(setting::MAX_TOKENS, needed.to_string()).and(" or more"),
            ),
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

/// `; remedy`, or nothing.
struct Then<'a>(&'a Remedy);

impl fmt::Display for Then<'_> {
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
