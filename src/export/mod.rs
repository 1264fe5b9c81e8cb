//! Data sets in the forms that trainers read: written from rows, and read back into rows.
//!
//! An [`Example`] stands between: whatever the form, a row is a conversation of [`Turn`]s beside the
//! fields it came with; of a preference, the answer is the one that was chosen. [`read`](mod@read) finds the
//! form of a file and gives examples; [`form`] turns them into rows of a form; [`write`](mod@write) and
//! [`table`] put rows into files; [`data_set`] does all of it for a directory, with a [`split`] and a
//! [`card`], and `folder` keeps it from replacing what others wrote.

pub(crate) mod card;
pub(crate) mod data_set;
mod folder;
pub(crate) mod form;
mod message;
mod preference;
pub mod read;
pub(crate) mod split;
pub(crate) mod table;
pub(crate) mod write;

use serde::Serialize;
use serde_json::{Map, Value};

pub use data_set::{Task, export};

pub use form::Form;
pub use read::{Found, read};

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sets the scene.
    System,
    /// Asks.
    User,
    /// Answers.
    Assistant,
    /// Gives what a tool found.
    Tool,
}

impl Role {
    /// The role under any of the names that are in use.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "system" | "developer" => Self::System,
            "user" | "human" | "prompter" => Self::User,
            "assistant" | "gpt" | "model" | "chatgpt" | "bot" | "function_call" | "tool_call" => Self::Assistant,
            "tool" | "function" | "observation" | "tool_response" | "ipython" => Self::Tool,
            _ => return None,
        })
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub text: String,
    /// Calls of tools, as `tool_calls` has them.
    pub calls: Vec<Value>,
    /// What is said of the thinking before it.
    pub reasoning: Option<String>,
    /// What a tool's message says beside its text: `tool_call_id` and `name`.
    pub of_tool: Map<String, Value>,
    /// What stood there and is not kept, in words.
    pub lost: Vec<String>,
}

impl Turn {
    /// A message of words alone.
    pub(crate) fn new(role: Role, text: String) -> Self {
        Self { role, text, calls: Vec::new(), reasoning: None, of_tool: Map::new(), lost: Vec::new() }
    }

    /// Whether nothing is said.
    fn is_empty(&self) -> bool {
        self.text.trim().is_empty() && self.calls.is_empty()
    }
}

/// A row of a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// Where it stands in its file, from 1: a line, or a place in a list.
    pub line: u64,
    /// The form that it was found in.
    pub form: Form,
    /// What is said; empty where no field is known to be a prompt or an answer.
    pub turns: Vec<Turn>,
    /// The fields that say it.
    pub said_by: Vec<String>,
    /// All of its fields, as they were.
    pub fields: Map<String, Value>,
}

impl Example {
    /// The prompt and the answer, if it is one exchange without a system message.
    pub(crate) fn exchange(&self) -> Option<(&str, &str)> {
        match self.turns.as_slice() {
            [prompt, answer] if (prompt.role, answer.role) == (Role::User, Role::Assistant) => {
                answer.calls.is_empty().then_some((prompt.text.as_str(), answer.text.as_str()))
            }
            _ => None,
        }
    }

    /// Whether somebody marked its answer as a bad one: KTO's `label` beside a conversation.
    pub(crate) fn is_bad_answer(&self) -> bool {
        !matches!(self.form, Form::Plain | Form::Preference | Form::PreferenceMessages)
            && self.fields.get("label") == Some(&Value::Bool(false))
    }

    /// Prompts that are asked in it.
    pub(crate) fn prompts(&self) -> usize {
        self.turns.iter().filter(|turn| turn.role == Role::User).count()
    }
}
