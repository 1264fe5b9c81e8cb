//! Exit codes, one for each kind of person or thing that must act.

use crate::Error;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// All was done.
    Success = 0,
    /// Something failed that no other code names.
    Failure = 1,
    /// A flag or argument has to change.
    Usage = 2,
    /// A file, schema or model has to change.
    Input = 3,
    /// A source out of reach, or the operating system refused.
    Unavailable = 4,
    /// Fewer rows than were asked for.
    Unmet = 5,
    /// Stopped by the user (as shells count SIGINT).
    Interrupted = 130,
}

impl From<&Error> for Exit {
    fn from(error: &Error) -> Self {
        match error {
            Error::Usage { .. } | Error::Grammar(instil_grammar::Error::Usage { .. }) => Self::Usage,
            Error::Input { .. } | Error::Grammar(_) | Error::Model { .. } => Self::Input,
            Error::Unavailable { .. } | Error::Io { .. } => Self::Unavailable,
            Error::Unmet { .. } => Self::Unmet,
            Error::Interrupted { .. } => Self::Interrupted,
            _ => Self::Failure,
        }
    }
}
