//! Grammar × vocabulary → which token may come next.
//!
//! # From schema to mask
//!
//! 1. `crate::grammar` compiles a schema, a regex, a choice or a text into *nodes*, each a union of *shapes*: a literal,
//!    an object with its members, an array with its items, a string or a number over a regular language. What no
//!    automaton holds stands beside a shape as *guards*.
//! 2. `rules` turns shapes into what can be run: alternatives by first byte, objects as sets of members read, bounds
//!    of strings.
//! 3. `frame`: a *frame* is a place within one value, a *thread* a frame on a stack of enclosing places, a
//!    *configuration* an interned set of threads. `step` moves a thread by one byte; `escape` reads the inside of strings.
//! 4. `tables` and `classes` sort the vocabulary once: a byte trie (`trie`), the tokens that stay inside a free string,
//!    those that leave one by what follows the quote, and the classes of characters that tokens are made of.
//! 5. `walk` finds the tokens that pass from a configuration: strings over every text by the tables (`free`), strings
//!    over a language by classes (`over_language`), all else down the trie, where `hint` says which bytes are worth a look.
//!    The outcome is a [`Mask`]: shared sets and short lists.
//! 6. `engine` keeps what was found for all sessions: masks by configuration (counters far from their bounds put out of
//!    sight), where tokens lead, and, where guards or unique keys make that depend on the text, both by *path*: the
//!    tokens since the last configuration that depended on none. All of it within [`Settings::memory_bytes`].
//! 7. `session` is one text. It asks what the text itself decides (`document` answers guards and uniqueness), and keeps
//!    to the limit: `budget` bounds the tokens to the end, `costed` cuts a mask to those after which it is in reach.
//!    While a cheap bound on the worst token of a mask is within the limit, no costs are counted at all.
//!
//! `backend` puts the engine and `outlines`, the baseline, behind one interface.

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
