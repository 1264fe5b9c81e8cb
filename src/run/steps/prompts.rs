//! Prompts of steps: templates into tokens, with the part that rows share cut once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::error::Result;
use crate::plan::Plan;
use crate::recipe::prompt::Templates;
use crate::recipe::{Form, Step};
use instil_grammar::vocab::TokenId;
use instil_model::tokenizer::chat::{Message, Way};
use instil_model::tokenizer::{ChatBeginning, EncodeOptions, Tokenizer};

/// A prompt: the tokens that rows share, and the row's own behind them.
pub(super) type Prompt = (Arc<[TokenId]>, Vec<TokenId>);

/// A step and a set of few-shot examples, which share the beginnings of their prompts.
pub(super) type Place = (usize, u32);

/// The prompts of a plan's steps.
pub(super) struct Prompts<'a> {
    plan: &'a Plan,
    /// Tokens that the rows of one step and set share.
    prefixes: HashMap<Place, Arc<[TokenId]>>,
    /// The same in the chat form.
    beginnings: HashMap<Place, ChatBeginning>,
}

impl<'a> Prompts<'a> {
    /// None of them made yet.
    pub(super) fn new(plan: &'a Plan) -> Self {
        Self { plan, prefixes: HashMap::new(), beginnings: HashMap::new() }
    }

    /// The prompt of a step by the template `prompt`, and the text that its answer was begun with. In the chat form the
    /// reply begins this `way`; a thought comes before what the answer begins with.
    ///
    /// # Errors
    /// When a template fails, or a text cannot be cut into tokens.
    pub(super) fn of_step(
        &mut self,
        place: Place,
        prompt: &str,
        values: &Map<String, Value>,
        templates: &Templates,
        (tokenizer, way): (&Tokenizer, Way),
    ) -> Result<(String, Prompt)> {
        let step = &self.plan.recipe.steps[place.0];
        let name = &self.plan.recipe.name;
        let part = |part: &str| format!("recipe {name}, step {}, {part}", step.field);
        let begun = templates.render(&step.begins, values, &part("begins"))?;
        let text = templates.render(prompt, values, &part("prompt"))?;
        let prompt = match step.form {
            Form::Completion => self.completion(place, &format!("{text}{begun}"), templates, tokenizer)?,
            Form::Chat => self.chat(place, text, &begun, templates, (tokenizer, way))?,
        };
        Ok((begun, prompt))
    }

    fn completion(&mut self, place: Place, text: &str, templates: &Templates, tokenizer: &Tokenizer) -> Result<Prompt> {
        let prefix = match self.prefixes.entry(place) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(new) => {
                let step = &self.plan.recipe.steps[place.0];
                let shared = Map::from_iter([("examples".to_owned(), examples(self.plan, place.1).into())]);
                let part = format!("recipe {}, step {}, prefix", self.plan.recipe.name, step.field);
                let text = templates.render(&step.prefix, &shared, &part)?;
                let options = EncodeOptions { special: false, add_bos: true };
                new.insert(tokenizer.encode(&text, options)?.into()).clone()
            }
        };
        let options = EncodeOptions { special: false, add_bos: prefix.is_empty() };
        Ok((prefix, tokenizer.encode(text, options)?))
    }

    fn chat(
        &mut self,
        place: Place,
        prompt: String,
        begun: &str,
        templates: &Templates,
        (tokenizer, way): (&Tokenizer, Way),
    ) -> Result<Prompt> {
        let beginning = match self.beginnings.entry(place) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let step = &self.plan.recipe.steps[place.0];
                let messages = leading_messages(self.plan, step, place.1, templates)?;
                new.insert(tokenizer.begin_chat(messages, way)?)
            }
        };
        let (begins, mut tokens) = tokenizer.go_on_chat(beginning, Message::user(prompt))?;
        if !begun.is_empty() && way != Way::Thought {
            tokens.extend(tokenizer.encode(begun, EncodeOptions::default())?);
        }
        let prefix = if begins { beginning.ids().clone() } else { Arc::from([]) };
        Ok((prefix, tokens))
    }
}

/// The few-shot examples of a set, as templates see them.
pub(super) fn examples(plan: &Plan, set: u32) -> Vec<Value> {
    plan.recipe.examples_of(plan.seed, set).into_iter().cloned().map(Value::Object).collect()
}

/// The messages that the rows of a step and a set of examples share.
fn leading_messages(plan: &Plan, step: &Step, set: u32, templates: &Templates) -> Result<Vec<Message>> {
    let place = |part: &str| format!("recipe {}, step {}, {part}", plan.recipe.name, step.field);
    let mut messages = Vec::new();
    if !step.prefix.is_empty() {
        let system = templates.render(&step.prefix, &Map::new(), &place("prefix"))?;
        messages.push(Message::system(system.trim_end()));
    }
    if let Some(turn) = &step.example {
        for example in plan.recipe.examples_of(plan.seed, set) {
            messages.push(Message::user(templates.render(&turn.user, example, &place("example"))?));
            messages.push(Message::assistant(templates.render(&turn.assistant, example, &place("example"))?));
        }
    }
    Ok(messages)
}
