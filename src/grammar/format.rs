//! `format`: the ones that are enforced, as languages.
use super::language::{ANY, ExprId, Languages};
use super::schema::Draft;

/// A format that is enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `date`
    Date,
}

impl Format {
    /// The format of a name, where it is enforced.
    pub fn from_name(_name: &str, _draft: Draft) -> Option<Self> {
        None
    }

    /// Its language, and whether that is all there is to it (else a superset).
    pub fn language(self, _languages: &mut Languages) -> (ExprId, bool) {
        (ANY, true)
    }

    /// Exact check.
    pub fn check(self, _text: &str) -> bool {
        true
    }
}
