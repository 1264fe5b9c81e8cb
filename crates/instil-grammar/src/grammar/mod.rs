//! JSON Schema, regex, choice → a grammar that an automaton can run. No model, no vocabulary.
//!
//! From schema to mask, the way goes: a [`GrammarSource`] is read once into a [`Program`] (immutable, shared);
//! [`Program::expand`] gives an [`Expansion`], which builds nodes, shapes and languages when they
//! are first asked for; the `constraint` room runs them over a vocabulary.
//!
//! | file | holds |
//! |---|---|
//! | `shape` | the interface to `constraint`: a node is a union of shapes |
//! | `schema`, `schema/places` | JSON → arena of keywords; dialects, refusals; which places of a schema are schemas |
//! | `schema/resolve`, `/uri` | what references name, against their base |
//! | `keyword` | what each keyword allows, forbids, asks of a finished value; one file a family |
//! | `node`, `expand`, `negate` | nodes as conjunctions of schemas; schemas → alternatives, of either sign |
//! | `expand/bodies`, `expand/combine` | bodies of objects and arrays; both, either, one of alternatives |
//! | `finish`, `empty` | alternatives → shapes; which nodes have no value |
//! | `items` | arrays under `contains`: which items may come, how many are needed |
//! | `evaluate` | exact check of finished values: guards |
//! | `report` | keyword by keyword: automaton, guard or annotation |
//! | `natural` | which valid values a person would write |
//! | `number`, `literal`, `decimal` | sets of numbers by meaning; the literals that write them; exact decimals |
//! | `format` | `format` as languages (the list is there) |
//! | `pattern`, `pattern/parse`, `/foreign` | regexes → languages; their text → trees, by dialect; what others read otherwise |
//! | `text` | free text and its bounds |
//! | `language`, `charset` | regular languages over characters: expressions, each kept once |
//! | `language/algebra`, `/derive` | and, or, not, simplified; derivatives |
//! | `language/search`, `/horizon`, `/counting` | emptiness and shortest words; bounds within sight; multiples and leap seconds |
//! | `automaton` | their states over UTF-8 bytes |
//!
//! Acceptance is exact for every schema that compiles: what an automaton cannot hold, or would need too many
//! alternatives for, stands as a wider shape with a guard. Limits (nesting, cases, states) are
//! constants at the top of the file that keeps them.

pub mod automaton;
pub(crate) mod charset;
pub(crate) mod decimal;
mod empty;
mod evaluate;
pub(crate) mod expand;
mod finish;
pub mod format;
pub(crate) mod items;
mod keyword;
pub mod language;
mod literal;
mod natural;
mod negate;
mod node;
pub(crate) mod number;
pub mod pattern;
mod report;
pub(crate) mod schema;
pub(crate) mod shape;
pub mod speech;
pub(crate) mod text;

use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

pub use automaton::DEAD;
pub(crate) use automaton::Half;
pub(crate) use automaton::{StateId, UNIVERSAL};
pub(crate) use charset::CharSet;
pub(crate) use evaluate::write_normal;
pub(crate) use expand::Expansion;
pub(crate) use finish::least_cover;
pub(crate) use items::{ItemPlace, ItemPlan};
pub use report::Enforcement;
pub use schema::{Draft, remote_references};
pub(crate) use shape::Shape;
pub(crate) use shape::{ArrayShape, GuardId, LangId, NodeId, ObjectShape, ShapeKind, StringShape};

use self::language::{Cost, Languages};
use self::pattern::{Dialect, Pattern, PatternError};
use self::schema::Schemas;
use crate::{Error, Result};

/// What a completion has to look like, as the user gave it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum GrammarSource {
    /// A JSON Schema (drafts 04, 06, 07, 2019-09, 2020-12).
    JsonSchema(serde_json::Value),
    /// A regex in the project's own dialect; the whole text must match.
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// Free text: valid UTF-8 without control characters but newline and tab.
    Text(TextBounds),
}

/// Bounds of a free text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TextBounds {
    /// Least number of Unicode scalar values.
    pub min_chars: u32,
    /// Greatest number of Unicode scalar values.
    pub max_chars: Option<u32>,
    /// Least number of words, as [`speech::word_count`] counts them.
    pub min_words: u32,
    /// Greatest number of words.
    pub max_words: Option<u32>,
    /// Least number of sentences, as [`speech::sentences`] counts them; under such a bound a text ends with one.
    pub min_sentences: u32,
    /// Greatest number of sentences.
    pub max_sentences: Option<u32>,
    /// The whole text must match this regex too (the project's own dialect).
    pub pattern: Option<String>,
    /// Newlines are allowed.
    pub multiline: bool,
    /// What ends the text and does not count as of it; the text does not hold it. Nothing when empty.
    pub stop: String,
}

/// Which of the valid texts a grammar takes; each style takes what the one before it takes, and more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// For generating what a person would write (what that is says `natural`): numbers of a few digits, dates and times
    /// as they are mostly written, no members that the schema does not speak of. Where no valid value is like
    /// that, any.
    #[default]
    Natural,
    /// For generating any value: integers as plain digits; other numbers as plain decimals or in normalised exponent
    /// form; always a finite `f64`, of at most 15 significant digits where the bounds leave any such, so that readers
    /// that hold numbers in a double judge them alike.
    Canonical,
    /// For accepting what JSON printers write: any number of digits, a whole number as `1.0`, exponents after one
    /// non-zero digit (`1e-05`, `2.5e+16`).
    Flexible,
    /// Every JSON spelling of a permitted number; the rare ones (`12e3`, `0.5e1`) are checked when complete.
    Any,
}

/// How a source is compiled.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What is taken of all that is valid.
    pub style: Style,
}

/// A compiled grammar: immutable, cheap to clone and to share between threads.
#[derive(Clone, Debug)]
pub struct Program {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    source: Source,
    options: Options,
    /// Some answer about it is assumed; found out when it is first asked for.
    assumed: OnceLock<bool>,
}

/// A source that has been read.
#[derive(Debug)]
enum Source {
    Json(Schemas),
    Regex(Pattern),
    Choice(Vec<String>),
    Text(TextBounds, Option<Pattern>),
}

/// Where a grammar starts.
#[derive(Clone, Debug)]
pub(crate) enum Root {
    /// One JSON value.
    Json(NodeId),
    /// A raw text (not JSON): its bytes are in the language, its length within the bounds.
    Text(StringShape),
}

impl Program {
    /// Reads a source. What cannot be enforced or satisfied is refused with the place and the keyword.
    ///
    /// # Errors
    /// [`Error::Grammar`] with a JSON pointer (or a byte offset in a regex).
    pub fn compile(source: &GrammarSource, options: &Options) -> Result<Self> {
        Ok(Self::compile_expanded(source, options)?.0)
    }

    /// The same, with the expansion that the check for satisfiability has begun.
    ///
    /// # Errors
    /// Like [`Program::compile`].
    pub(crate) fn compile_expanded(source: &GrammarSource, options: &Options) -> Result<(Self, Expansion)> {
        let regex = |source: &str| {
            let refuse =
                |error: PatternError| Error::grammar(format!("byte {}", error.offset), error.what, "rewrite the regex");
            let pattern = Pattern::parse(source, Dialect::Own).map_err(refuse)?;
            pattern.language(&mut Languages::new()).map_err(refuse)?;
            Ok::<_, Error>(pattern)
        };
        let source = match source {
            GrammarSource::JsonSchema(value) => Source::Json(schema::load(value)?),
            GrammarSource::Regex(source) => Source::Regex(regex(source)?),
            GrammarSource::Choice(texts) => Source::Choice(texts.clone()),
            GrammarSource::Text(bounds) => {
                Source::Text(bounds.clone(), bounds.pattern.as_deref().map(regex).transpose()?)
            }
        };
        let program = Self { inner: Arc::new(Inner { source, options: options.clone(), assumed: OnceLock::new() }) };
        let mut expansion = program.expand();
        let empty = match expansion.root() {
            Root::Json(node) => expansion.is_empty(node),
            Root::Text(shape) => expansion.lang_start(shape.lang) == DEAD,
        };
        if empty {
            let pointer = expansion.empty_part();
            let what = match &program.inner.source {
                Source::Json(_) if pointer.is_empty() => "no finite value satisfies the schema",
                Source::Json(_) => "no finite value satisfies the schema here, where one is required",
                Source::Regex(_) => "no text matches the regex",
                Source::Choice(_) => "there is nothing to choose from",
                Source::Text(..) => "no text keeps within the bounds",
            };
            return Err(Error::grammar(pointer, what, "loosen what contradicts itself"));
        }
        Ok((program, expansion))
    }

    /// A fresh expansion.
    pub(crate) fn expand(&self) -> Expansion {
        Expansion::new(self.clone())
    }
}

impl Expansion {
    /// Where the grammar starts.
    pub(crate) fn root(&mut self) -> Root {
        let program = self.program.clone();
        match &program.inner.source {
            Source::Json(schemas) => Root::Json(self.schema_node(schemas.root)),
            Source::Regex(pattern) => {
                let language = pattern.language(&mut self.languages).unwrap_or(language::NONE);
                Root::Text(self.string_shape(language))
            }
            Source::Choice(texts) => {
                let language = self.languages.words(texts.iter().map(String::as_str));
                Root::Text(self.string_shape(language))
            }
            Source::Text(bounds, pattern) => {
                let language = text::language(bounds, pattern.as_ref(), &mut self.languages);
                Root::Text(self.string_shape(language))
            }
        }
    }

    /// What is expanded.
    pub(crate) fn program(&self) -> &Program {
        &self.program
    }

    /// True when no value belongs to the node.
    pub(crate) fn is_empty(&mut self, node: NodeId) -> bool {
        self.is_surely_empty(node)
    }

    /// Values in both nodes.
    pub(crate) fn and(&mut self, a: NodeId, b: NodeId) -> NodeId {
        self.meet_nodes(a, b)
    }

    /// Where the automaton of a language starts ([`DEAD`] when it is empty).
    pub(crate) fn lang_start(&mut self, language: LangId) -> StateId {
        self.automaton.state(&mut self.languages, language)
    }

    /// Half of a row, for whoever keeps what is found: the bytes of ASCII, or (`wide`) those above it.
    pub(crate) fn lang_half(&mut self, state: StateId, wide: bool) -> Box<automaton::Half> {
        let (automaton, languages) = (&mut self.automaton, &mut self.languages);
        if wide { automaton.wide_half(languages, state) } else { automaton.ascii_half(languages, state) }
    }

    /// True when the bytes read so far are a word of the language.
    pub(crate) fn lang_accepts(&self, state: StateId) -> bool {
        self.automaton.accepts(state)
    }

    /// Fewest bytes to acceptance; from every live state some byte lowers it by one.
    pub(crate) fn lang_min_bytes(&mut self, state: StateId) -> u32 {
        self.automaton.min_bytes(&mut self.languages, state, Cost::Raw)
    }

    /// The same, counted as written in a JSON string in canonical form: `"`, `\` and the short
    /// control escapes count 2, other control characters 6.
    pub(crate) fn lang_min_json_bytes(&mut self, state: StateId) -> u32 {
        self.automaton.min_bytes(&mut self.languages, state, Cost::Json)
    }

    /// Characters that may follow a state in any number and order.
    pub(crate) fn lang_absorbs(&self, state: StateId) -> Option<&CharSet> {
        self.automaton.absorbs(&self.languages, state)
    }

    /// An upper bound of the fewest bytes to acceptance (`json`: as written in a JSON string) after any string of up
    /// to `horizon` characters that may follow a state; none where that cannot be said.
    pub(crate) fn lang_worst_bytes(&self, state: StateId, horizon: u32, json: bool) -> Option<u32> {
        let cost = if json { Cost::Json } else { Cost::Raw };
        self.automaton.worst_bytes(&self.languages, state, horizon, cost)
    }

    /// Memory of languages and nodes, roughly.
    pub(crate) fn size_bytes(&self) -> usize {
        self.languages.size_bytes() + self.automaton.size_bytes() + self.nodes_size_bytes()
    }

    /// True only when every valid continuation can be completed to a word: nothing is ever ruled out
    /// inside such a text, only its end. Not always found out.
    pub(crate) fn lang_is_total(&self, state: StateId) -> bool {
        self.automaton.is_total(&self.languages, state)
    }

    /// A state with the same mask: the same byte strings of up to `horizon` bytes stay live, and the
    /// same of them are accepted. Counters far from their bounds are saturated, so that long bounded
    /// strings share masks. The state itself where that cannot be said.
    pub(crate) fn lang_horizon(&mut self, state: StateId, horizon: u32) -> StateId {
        self.automaton.horizon(&mut self.languages, state, horizon)
    }
}
