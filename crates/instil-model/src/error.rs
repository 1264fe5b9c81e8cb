//! What can be wrong with a model or its files, or fail while it computes: what, where, and what helps.
//!
//! Every variant prints as one line.

use std::fmt;
use std::path::{Path, PathBuf};

pub use instil_grammar::error::{Remedy, Setting};

/// The settings that errors of this crate name, beside those of grammars.
pub mod setting {
    use instil_grammar::error::Setting;
    pub use instil_grammar::error::setting::{ENGINE, MAX_TOKENS, RETRIEVE};

    /// What computes.
    pub const DEVICE: Setting = Setting::new("device");
    /// A chat template in place of the one in the model's files.
    pub const CHAT_TEMPLATE: Setting = Setting::new("chat_template");
    /// Whether a model thinks before it answers.
    pub const THINKING: Setting = Setting::new("thinking");
    /// A feature of the build.
    pub const FEATURE: Setting = Setting::new("feature");
}

/// Result of everything fallible in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong, sorted by who can mend it.
#[derive(Debug, thiserror::Error)]
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
    Grammar(#[from] instil_grammar::Error),
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
    pub fn usage(what: impl Into<String>, remedy: impl Into<Remedy>) -> Self {
        Self::Usage { what: what.into(), remedy: remedy.into() }
    }

    /// A bad input file.
    pub(crate) fn input(path: impl AsRef<Path>, what: impl Into<String>, remedy: impl Into<Remedy>) -> Self {
        Self::Input { path: path.as_ref().to_owned(), what: what.into(), remedy: remedy.into() }
    }

    /// A model that cannot be used.
    pub(crate) fn model(model: impl Into<String>, what: impl Into<String>, remedy: impl Into<Remedy>) -> Self {
        Self::Model { model: model.into(), what: what.into(), remedy: remedy.into() }
    }

    /// Something out of reach.
    pub(crate) fn unavailable(what: impl Into<String>, remedy: impl Into<Remedy>) -> Self {
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
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        assert!(Error::io("write", "out/records.jsonl", full).to_string().contains("free some space"));
    }
}
