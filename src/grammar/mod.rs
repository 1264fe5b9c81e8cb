//! JSON Schema, regex, choice → a grammar that an automaton can run. No model, no vocabulary.

pub mod validator;

/// What a completion has to look like, as the user gave it.
#[derive(Clone, Debug, PartialEq)]
pub enum GrammarSource {
    /// A JSON Schema.
    JsonSchema(serde_json::Value),
    /// A regex; the whole text must match.
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// Free text.
    Text(()),
}
