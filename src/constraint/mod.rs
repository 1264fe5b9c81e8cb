//! Grammar × vocabulary → which token may come next.

pub mod backend;
mod budget;
mod classes;
mod costed;
mod document;
mod engine;
mod escape;
mod frame;
mod free;
mod hint;
mod mask;
pub mod outlines;
mod over_language;
mod rules;
mod session;
mod step;
mod tables;
#[cfg(test)]
mod tests;
mod trie;
mod walk;

pub use backend::{Backend, Compiler, Constraint, Enforcement, TextSession, enforcement};
pub use engine::{Engine, Settings, Tokenise};
pub use escape::Escapes;
pub use mask::Mask;
pub use session::{Rejected, Session};
pub use tables::Tables;

/// White space between the parts of a JSON text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Whitespace {
    /// None at all.
    Compact,
    /// One space after each comma and colon.
    #[default]
    Spaced,
    /// A line for each element, indented by two spaces a level.
    Pretty,
    /// Any, wherever JSON allows it. For accepting other people's JSON, not for generating.
    Flexible,
}

/// The order of an object's members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KeyOrder {
    /// As in the schema; other members after the named ones.
    #[default]
    Schema,
    /// Any.
    Any,
}
