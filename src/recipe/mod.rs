//! Recipes: attributes, few-shot examples, prompt templates and steps that together make a row.
//!
//! A [`Recipe`] is data, read from YAML; the built-in ones lie in `recipes/` for users to copy. A row
//! gets its attributes from [`attributes`]; each step then renders a prompt ([`prompt`]), and what is
//! decoded under the step's output becomes a field that later steps see.

pub mod attributes;
pub mod builtin;
pub mod prompt;

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::filter::Filters;

/// Most bytes of a recipe file.
const MOST_BYTES: u64 = 4 << 20;

/// How rows of one kind are made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Short name, used for run directories.
    pub name: String,
    /// One sentence for people.
    #[serde(default)]
    pub description: String,
    /// The schema that every row satisfies: the name of a bundled grammar.
    pub schema: String,
    /// How tokens are drawn, unless flags say otherwise.
    #[serde(default)]
    pub sampling: Draws,
    /// Most attempts at a row before it is given up.
    #[serde(default = "default_attempts")]
    pub max_attempts: u16,
    /// What is planned for each row.
    #[serde(default)]
    pub attributes: Vec<Attribute>,
    /// Pool of few-shot examples: each a set of named texts.
    #[serde(default)]
    pub examples: Vec<Map<String, Value>>,
    /// How many sets of examples are drawn from the pool; rows share them, and so their prompts.
    #[serde(default = "default_sets")]
    pub example_sets: usize,
    /// Examples in a set.
    #[serde(default = "default_shots")]
    pub shots: usize,
    /// What is decoded, in order.
    pub steps: Vec<Step>,
    /// What a row must pass before it is accepted.
    #[serde(default)]
    pub filters: Filters,
}

fn default_attempts() -> u16 {
    20
}

fn default_sets() -> usize {
    4
}

fn default_shots() -> usize {
    4
}

/// How tokens are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Draws {
    /// See [`crate::decode::Sampling::temperature`].
    pub temperature: f32,
    /// See [`crate::decode::Sampling::top_k`].
    pub top_k: usize,
    /// See [`crate::decode::Sampling::top_p`].
    pub top_p: f32,
    /// See [`crate::decode::Sampling::min_p`].
    pub min_p: f32,
    /// See [`crate::decode::Repetition::strength`].
    pub repetition_strength: f32,
    /// See [`crate::decode::Repetition::allowed`].
    pub repetition_allowed: usize,
}

impl Default for Draws {
    fn default() -> Self {
        Self { temperature: 0.8, top_k: 0, top_p: 0.95, min_p: 0.02, repetition_strength: 0.8, repetition_allowed: 3 }
    }
}

/// A property that the plan gives each row, spread evenly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attribute {
    /// Name in templates and in a row's `meta`.
    pub name: String,
    /// What it may be: texts, or maps whose keys templates can reach.
    pub values: Vec<Value>,
}

/// One decoding step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The field that the decoded text fills; `*` for a step whose output is the whole row.
    pub field: String,
    /// How the model is addressed.
    #[serde(default)]
    pub form: Form,
    /// Template of what all rows with the same examples share (`completion`), or of the system
    /// message (`chat`).
    #[serde(default)]
    pub prefix: String,
    /// `chat`: templates of a question and an answer that each example becomes, before the prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub example: Option<Turn>,
    /// Template of the row's own prompt (`completion`), or of the user's message (`chat`).
    pub prompt: String,
    /// Template of a text that the field begins with, given to the model rather than decoded.
    #[serde(default)]
    pub begins: String,
    /// What is decoded.
    pub output: Output,
    /// Literal text that ends the decoded text and is not part of the field.
    #[serde(default)]
    pub stop: String,
    /// Most tokens of this step.
    #[serde(default = "default_max_tokens")]
    pub max_tokens: usize,
}

fn default_max_tokens() -> usize {
    256
}

/// How the model is addressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// Plain text that the model continues.
    #[default]
    Completion,
    /// Messages in the model's chat template.
    Chat,
}

/// An example as two messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// Template of the user's message.
    pub user: String,
    /// Template of the assistant's.
    pub assistant: String,
}

/// The grammar of what a step decodes; patterns are templates too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Output {
    /// Text that matches a regex of the project's dialect, in full.
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// JSON under the run's schema.
    Schema,
}

impl Recipe {
    /// Parses a recipe; `origin` names it in errors.
    ///
    /// # Errors
    /// When the YAML does not parse, has unknown keys, or the recipe cannot make a row.
    pub fn parse(text: &str, origin: &Path) -> Result<Self> {
        let options = serde_saphyr::options! { with_snippet: false };
        let recipe: Self = serde_saphyr::from_str_with_options(text, options).map_err(|cause| {
            let cause = cause.to_string();
            let what = cause.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
            Error::input(origin, what, "compare it with the built-in recipe")
        })?;
        recipe.check(origin)?;
        Ok(recipe)
    }

    /// Reads and parses a recipe file.
    ///
    /// # Errors
    /// As [`Recipe::parse`], or when the file cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let size = std::fs::metadata(path).map_err(|cause| Error::io("read", path, cause))?.len();
        if size > MOST_BYTES {
            return Err(Error::input(path, format!("{size} bytes are too many for a recipe"), "check the path"));
        }
        let text = std::fs::read_to_string(path).map_err(|cause| Error::io("read", path, cause))?;
        Self::parse(&text, path)
    }

    fn check(&self, origin: &Path) -> Result<()> {
        let refuse = |what: String, remedy: &str| Err(Error::input(origin, what, remedy));
        if self.steps.is_empty() {
            return refuse("`steps` is empty".into(), "add at least one step");
        }
        if self.max_attempts == 0 {
            return refuse("`max_attempts` is 0".into(), "use 1 or more");
        }
        if let Some(attribute) = self.attributes.iter().find(|attribute| attribute.values.is_empty()) {
            return refuse(format!("attribute `{}` has no values", attribute.name), "add at least one value");
        }
        Ok(())
    }
}
