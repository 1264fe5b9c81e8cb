//! Grammar × vocabulary → which token may come next.
//!
//! The engine stands by itself: whoever has a vocabulary and a loop that draws tokens can use it. Build [`Tables`] once
//! a vocabulary, an [`Engine`] once a grammar, a [`Session`] once a text; then, until it is finished: take the
//! mask, draw one of its tokens, advance.
//!
//! ```
//! use std::sync::Arc;
//!
//! use instil_grammar::constraint::{Engine, Settings, Tables};
//! use instil_grammar::grammar::{GrammarSource, Options};
//! use instil_grammar::vocab::{TokenKind, Vocab};
//!
//! # fn main() -> instil_grammar::Result<()> {
//! // Token id → bytes: here each byte is a token; id 256 ends a sequence.
//! let bytes: Vec<[u8; 1]> = (0..=255).map(|byte| [byte]).collect();
//! let tokens = bytes.iter().map(|byte| (byte.as_slice(), TokenKind::Text));
//! let end: &[u8] = b"<end>";
//! let vocab = Arc::new(Vocab::new(tokens.chain([(end, TokenKind::Control)]), &[256]));
//!
//! let schema = serde_json::json!({
//!     "type": "object",
//!     "properties": { "mood": { "enum": ["good", "bad"] }, "score": { "type": "integer", "minimum": 0, "maximum": 9 } },
//!     "required": ["mood", "score"]
//! });
//! let engine = Engine::compile(
//!     &GrammarSource::JsonSchema(schema),
//!     &Options::default(),
//!     Tables::new(vocab.clone()),
//!     Settings::default(),
//! )?;
//!
//! // At most so many tokens; a limit below the grammar's own least is refused with the number.
//! let mut session = engine.start(Some(engine.min_tokens() + 8))?;
//! while !session.is_finished() {
//!     // What can only be one way needs no model.
//!     let forced = session.forced();
//!     for &token in &forced {
//!         session.advance(token).expect("forced tokens pass");
//!     }
//!     if !forced.is_empty() {
//!         continue;
//!     }
//!     let mask = session.mask();
//!     // The model's logits would be drawn from here, those outside of the mask left out.
//!     let mut allowed = Vec::new();
//!     mask.for_each(|token| allowed.push(token));
//!     // A fork goes its own way: here to look one token ahead.
//!     let cheapest = allowed.iter().copied().min_by_key(|&token| {
//!         let mut fork = session.clone();
//!         fork.advance(token).map_or(usize::MAX, |()| fork.min_tokens_left())
//!     });
//!     session.advance(cheapest.expect("some token may come next")).expect("it is in the mask");
//! }
//! assert!(session.is_accepting() || session.is_finished());
//! let row: serde_json::Value = serde_json::from_slice(session.text()).expect("complete JSON");
//! assert!(row["score"].is_u64());
//! # Ok(())
//! # }
//! ```
//!
//! # Bounds
//!
//! Containers nest at most [`Settings::max_depth`] deep. At that depth masks let pass only what the shortest way to the
//! end needs, so every text can still be closed; a grammar that needs more than twice [`MOST_DEPTH`] levels is refused
//! with the number, at the latest when a limited session starts. A value under a guard, or an item that must be unique, is read only up
//! to 127 levels, and not closed beyond.
//!
//! An engine holds [`Settings::memory_bytes`], by its own count: what can be forgotten (masks, steps between
//! configurations, paths) is, when all of it passes the limit; when what cannot be (configurations, stacks, the states
//! of languages, bounds on tokens) takes half of it, sessions move to a fresh *generation* of all of these, in which they
//! read their text anew. So it holds at most the limit, what one step adds, and what the open texts took to read (for
//! the worst patterns some kilobytes a character); twice that while sessions move. A session that rests keeps its
//! generation.
//!
//! # From schema to mask
//!
//! 1. `crate::grammar` compiles a schema, a regex, a choice or a text into *nodes*, each a union of *shapes*: a literal,
//!    an object with its members, an array with its items, a string or a number over a regular language. What no
//!    automaton holds stands beside a shape as *guards*.
//! 2. `rules` numbers shapes as they are run: alternatives by first byte, objects as sets of members read, bounds of
//!    strings.
//! 3. `frame`: a *frame* is a place within one value, a *thread* a frame on a stack of enclosing places, a
//!    *configuration* an interned set of threads. `step` moves a thread by one byte, names the bytes that it may take, and
//!    completes it; each kind of value has a file of its own in it. `escape` reads the inside of strings.
//! 4. `tables` and `classes` sort the vocabulary once: a byte trie (`trie`), the tokens that stay inside a free string,
//!    those that leave one by what follows the quote, and the classes of characters that tokens are made of.
//! 5. `walk` finds the tokens that pass from a configuration: strings over every text by the tables (`walk/free`), strings
//!    over a language by classes (`walk/over_language`), all else down the trie. The outcome is a [`Mask`]: shared sets
//!    and short lists.
//! 6. `generation` keeps what was found for all sessions of an `engine`, which may ask from many threads at once (`shared`,
//!    and `expansion` in the same way for the grammar's nodes and languages): masks by configuration (counters far from their
//!    bounds put out of sight), where tokens lead, and, where guards or unique keys make that depend on the text, both by
//!    *path*: the tokens since the last configuration that depended on none.
//! 7. `session` is one text. It asks what the text itself decides (`document` answers guards and uniqueness), and keeps
//!    to the limit: `budget` bounds the tokens to the end by way of `least` values, `costed` cuts a mask to those after
//!    which it is in reach. While a cheap bound on the worst token of a mask is within the limit, no costs are counted.
//!
//! `backend` puts the engine and `outlines`, the baseline, behind one interface.

pub mod backend;
mod budget;
mod classes;
mod costed;
mod document;
mod engine;
mod escape;
mod expansion;
mod frame;
mod generation;
mod mask;
#[cfg(feature = "outlines")]
pub mod outlines;
mod rules;
mod session;
mod shared;
mod step;
mod tables;
#[cfg(test)]
mod tests;
mod trie;
mod walk;

pub use backend::{Backend, Compiler, Constraint, Enforcement, TextSession, enforcement};
pub use engine::Engine;
pub use escape::Escapes;
pub use generation::Statistics;
pub use mask::Mask;
pub use session::{Rejected, Session};
pub use tables::{Tables, Tokenise};

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

/// No engine lets containers nest deeper than this, but for what is required there.
pub const MOST_DEPTH: u32 = 512;

/// How texts are to look, and what the engine may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// White space between the parts of a JSON text.
    pub whitespace: Whitespace,
    /// Order of an object's members.
    pub key_order: KeyOrder,
    /// Spellings of characters in strings.
    pub escapes: Escapes,
    /// Containers nest at most so deep, and no deeper than [`MOST_DEPTH`]; beyond, only what is required may come.
    pub max_depth: u32,
    /// What the engine may hold, in bytes; a megabyte at least. See the module for what it counts.
    pub memory_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            whitespace: Whitespace::Spaced,
            key_order: KeyOrder::Schema,
            escapes: Escapes::Canonical,
            max_depth: MOST_DEPTH,
            memory_bytes: 256 << 20,
        }
    }
}
