//! JSON Schema, regex, choice → a grammar that an automaton can run. No model, no vocabulary.

pub mod validator;
