//! Recipes: attributes, few-shot examples, prompt templates and steps that together make a row.
//!
//! A [`Recipe`] is data, read from YAML; the built-in ones lie in `recipes/` for users to copy. A
//! row gets its [`attributes`] from [`assign`] and its few-shot [`examples`]; each step then renders a prompt
//! ([`prompt`]), and what is decoded under the step's output becomes a field that later steps see.

pub(crate) mod assign;
pub(crate) mod attributes;
pub mod builtin;
mod check;
pub(crate) mod draws;
pub(crate) mod examples;
pub(crate) mod label;
pub(crate) mod likelihood;
pub(crate) mod needs;
pub(crate) mod prompt;
mod reach;
pub(crate) mod scale;
pub(crate) mod text_output;
mod thinking;

use std::path::Path;

use instil_grammar::grammar;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub(crate) use assign::{Assignments, Balance};
pub(crate) use attributes::Quota;
pub use attributes::{Attribute, Held};
pub use draws::Draws;
pub(crate) use draws::DrawsOverride;
pub(crate) use likelihood::Likelihood;
pub(crate) use needs::Dealer;
pub(crate) use scale::Scale;
pub(crate) use text_output::TextOutput;
pub use thinking::Thinking;

use crate::disk::yaml;
pub(crate) use crate::disk::yaml::Fault;
use crate::error::Result;
use crate::filter::Filters;

/// What helps where a YAML file of a run or a recipe does not parse.
pub(crate) const COMPARE: &str = "compare it with `instil init`";

/// How rows of one kind are made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Short name, used for run directories.
    pub name: String,
    /// One sentence for people.
    #[serde(default)]
    pub description: String,
    /// The schema that every row satisfies: the name of a bundled grammar.
    pub schema: String,
    /// Rows are made from the rows of a data set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seeds: Option<FromSeeds>,
    /// How tokens are drawn, unless flags say otherwise.
    #[serde(default)]
    pub sampling: Draws,
    /// Most attempts at a row before it is given up.
    #[serde(default = "default_attempts")]
    pub max_attempts: u16,
    /// What is planned for each row.
    #[serde(default)]
    pub attributes: Vec<Attribute>,
    /// How the attributes are spread over rows.
    #[serde(default)]
    pub balance: Balance,
    /// Parts of the rows that are fixed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quotas: Vec<Quota>,
    /// Rows that are there already, which the new ones are to bring to their shares.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<Held>,
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

/// How rows are made from the rows of a data set. Templates see them as `seed`, and what a row directly descends
/// from as `parent`; both have `instruction`, `input` and `response`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FromSeeds {
    /// How often a row is made from the row that was made before it, beginning with the seed.
    #[serde(default = "one")]
    pub rounds: u16,
    /// A record has the fields of its seed, with the steps' fields in place of those of the same names.
    #[serde(default)]
    pub keep: bool,
}

fn one() -> u16 {
    1
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

/// One decoding step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The field that the decoded text fills; `*` for a step whose output is the whole row.
    pub field: String,
    /// The field serves later steps only: it is kept in a row's `meta`, not among its fields.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub aside: bool,
    /// Values that attributes must have for the step to be taken; a list asks for any of its values.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub when: Map<String, Value>,
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
    #[serde(default)]
    pub prompt: String,
    /// Template of a text that the field begins with, given to the model rather than decoded.
    #[serde(default)]
    pub begins: String,
    /// What is decoded.
    pub output: Output,
    /// Which of the valid texts are made.
    #[serde(default, skip_serializing_if = "Style::is_natural")]
    pub style: Style,
    /// How this step's tokens are drawn, where it is otherwise than the recipe's `sampling`.
    #[serde(default, skip_serializing_if = "DrawsOverride::is_empty")]
    pub sampling: DrawsOverride,
    /// Literal text that ends the decoded text and is not part of the field.
    #[serde(default)]
    pub stop: String,
    /// Decode several texts and keep the one that a later judging step scores highest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_of: Option<BestOf>,
    /// Most tokens of this step.
    #[serde(default = "default_max_tokens")]
    pub max_tokens: usize,
}

fn default_max_tokens() -> usize {
    256
}

/// Which of the texts that a step's output allows are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Style {
    /// Those that a person would write: numbers of few digits, usual dates, no members that a schema does not speak of.
    #[default]
    Natural,
    /// Any.
    Any,
}

impl Style {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands references")]
    fn is_natural(&self) -> bool {
        *self == Self::Natural
    }
}

impl From<Style> for grammar::Style {
    fn from(style: Style) -> Self {
        match style {
            Style::Natural => Self::Natural,
            Style::Any => Self::Canonical,
        }
    }
}

/// Texts that compete for a field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BestOf {
    /// How many.
    pub count: u8,
    /// Field of the judging step.
    pub by: String,
}

/// How the model is addressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// Plain text that the model continues.
    #[default]
    Completion,
    /// Messages in the model's chat template.
    Chat,
}

/// An example as two messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// Template of the user's message.
    pub user: String,
    /// Template of the assistant's.
    pub assistant: String,
}

/// The grammar of what a step decodes; patterns are templates too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Output {
    /// Text that matches a regex of the project's dialect, in full.
    Regex(String),
    /// One of these texts; each is a template.
    Choice(Vec<String>),
    /// Free text within bounds.
    Text(TextOutput),
    /// JSON under the run's schema.
    Schema,
    /// Nothing is decoded: the field is what this template gives.
    Template(String),
    /// Nothing is decoded: the probabilities of choices are read, and go into the row's scores.
    Score(Scale),
    /// Nothing is decoded: a text's likelihood is read, and goes into the row's scores.
    Likelihood(Likelihood),
    /// Nothing is decoded or read: the number that this template gives, of the scores before it, goes into the row's
    /// scores.
    Number(String),
}

impl Step {
    /// The templates that are rendered with a row's own values.
    pub(crate) fn row_templates(&self) -> Vec<&str> {
        let mut templates = vec![self.prompt.as_str(), self.begins.as_str()];
        match &self.output {
            Output::Regex(template) | Output::Template(template) | Output::Number(template) => templates.push(template),
            Output::Text(text) => templates.extend(text.templates().map(|(_, template)| template)),
            Output::Score(scale) => templates.extend(scale.swapped.as_deref()),
            Output::Likelihood(likelihood) => {
                templates.push(&likelihood.text);
                templates.extend(likelihood.without.as_deref());
            }
            Output::Choice(texts) => templates.extend(texts.iter().map(String::as_str)),
            Output::Schema => {}
        }
        templates
    }
}

impl Output {
    /// Whether the model draws tokens for it.
    pub(crate) fn is_decoded(&self) -> bool {
        !matches!(self, Self::Template(_)) && !self.is_score()
    }

    /// Whether a model is asked for it, to draw or to measure.
    pub(crate) fn asks_a_model(&self) -> bool {
        !matches!(self, Self::Template(_) | Self::Number(_))
    }

    /// Whether its grammar depends on the row.
    pub(crate) fn varies(&self) -> bool {
        match self {
            Self::Regex(pattern) => prompt::is_template(pattern),
            Self::Text(text) => text.templates().any(|(_, template)| prompt::is_template(template)),
            Self::Choice(texts) => texts.iter().any(|text| prompt::is_template(text)),
            Self::Schema => false,
            // None of these has a grammar.
            Self::Template(_) | Self::Score(_) | Self::Likelihood(_) | Self::Number(_) => false,
        }
    }

    /// Whether it goes into a row's scores.
    pub(crate) fn is_score(&self) -> bool {
        matches!(self, Self::Score(_) | Self::Likelihood(_) | Self::Number(_))
    }
}

impl Recipe {
    /// Parses a recipe; `path` names it in errors, and relative paths in it begin at `path`'s folder.
    ///
    /// # Errors
    /// With the line: YAML that does not parse, unknown keys, or a recipe that cannot make a row.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let mut recipe: Self = yaml::parse(text, path, COMPARE)?;
        recipe.resolve(path.parent().unwrap_or(Path::new("")))?;
        recipe.check().map_err(|fault| fault.in_file(path, text))?;
        Ok(recipe)
    }

    /// Reads and parses a recipe file.
    ///
    /// # Errors
    /// As [`Recipe::parse`], or when the file cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(&yaml::read(path)?, path)
    }

    /// Turns trees, stepped ranges and files of values into plain values.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(crate) fn resolve(&mut self, folder: &Path) -> Result<()> {
        self.attributes.iter_mut().try_for_each(|attribute| attribute.resolve(folder))
    }

    /// The attributes of rows 0, 1, 2, ….
    ///
    /// # Errors
    /// When the quotas cannot be met, or there are too many cells for `balance: cells`.
    pub(crate) fn assignments(&self, seed: u64) -> Result<Assignments<'_>, Fault> {
        Assignments::new(self.attributes.as_slice(), &self.quotas, self.balance, seed)?.beside(&self.held)
    }
}
