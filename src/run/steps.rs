//! One step of one attempt: from a row to a request, and from its completion back into the row.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::plan::Plan;
use super::record::{Attempt, StepNote};
use crate::constraint::{Compiler, Constraint};
use crate::decode::{Completion, Finish, Repetition, Request, Sampling, StreamKey};
use crate::error::{Error, Result};
use crate::filter::{Filter, Filters, Reason, first_reason};
use crate::grammar::GrammarSource;
use crate::grammar::validator::Validator;
use crate::recipe::prompt::Templates;
use crate::recipe::{Form, Output, Step};
use crate::tokenizer::chat::Message;
use crate::tokenizer::{EncodeOptions, Tokenizer};
use crate::vocab::TokenId;

/// Constraints kept compiled; beyond that the ones not in use are forgotten.
const CONSTRAINTS_KEPT: usize = 1024;

/// An attempt that is being decoded.
#[derive(Debug)]
pub struct Decoding {
    /// Its first draws: row and attempt.
    pub key: StreamKey,
    /// What the plan gives the row.
    pub attributes: Map<String, Value>,
    /// Which set of few-shot examples its prompts show.
    pub set: u32,
    step: usize,
    attempt: Attempt,
    /// The text that was given to the model as the beginning of the field.
    begun: String,
}

/// What a completion made of an attempt.
pub enum Outcome {
    /// Its next step can be requested.
    NextStep,
    /// It is whole; the reason is that of the rules about single rows, if they turn it down.
    Ended(Box<Attempt>, Option<Reason>),
}

/// Prepares requests and reads completions: everything about rows but their order.
pub struct Steps<'a> {
    /// What the steps belong to.
    pub plan: &'a Plan,
    tokenizer: Arc<Tokenizer>,
    compiler: &'a Compiler,
    validator: Validator,
    templates: Templates,
    constraints: HashMap<String, Arc<dyn Constraint>>,
    /// Tokens that the rows of one step and set share.
    prefixes: HashMap<(usize, u32), Arc<[TokenId]>>,
    schema_text: String,
    chain: Vec<Box<dyn Filter>>,
}

impl Decoding {
    /// An attempt at the row of `key`, before its first step.
    pub fn new(key: StreamKey, attributes: Map<String, Value>, set: u32) -> Self {
        Self { key, attributes, set, step: 0, attempt: Attempt::default(), begun: String::new() }
    }

    /// Goes to the next step as if `step` had given `value`.
    pub fn suppose(&mut self, step: &Step, value: Value) {
        let fields = if step.aside { &mut self.attempt.aside } else { &mut self.attempt.fields };
        fields.insert(step.field.clone(), value);
        self.step += 1;
    }
}

impl<'a> Steps<'a> {
    /// Prepares for the steps of `plan`.
    ///
    /// # Errors
    /// When the schema cannot be judged by.
    pub fn new(plan: &'a Plan, tokenizer: Arc<Tokenizer>, compiler: &'a Compiler) -> Result<Self> {
        Ok(Self {
            plan,
            tokenizer,
            compiler,
            validator: Validator::new(&plan.schema)?,
            templates: Templates::default(),
            constraints: HashMap::new(),
            prefixes: HashMap::new(),
            schema_text: plan.schema.to_string(),
            chain: plan.recipe.filters.chain(),
        })
    }

    /// The request of an attempt's present step.
    ///
    /// # Errors
    /// When a template fails, or the step's shortest text exceeds its limit.
    pub fn request(&mut self, row: &mut Decoding) -> Result<Request> {
        let plan = self.plan;
        let step = &plan.recipe.steps[row.step];
        let mut values = row.attributes.clone();
        values.extend(row.attempt.fields.clone());
        values.insert("schema".into(), Value::String(self.schema_text.clone()));
        values.extend(row.attempt.aside.clone());
        let examples: Vec<Value> =
            plan.recipe.examples_of(plan.seed, row.set).into_iter().cloned().map(Value::Object).collect();
        let place = |part: &str| format!("recipe {}, step {}, {part}", plan.recipe.name, step.field);
        row.begun = self.templates.render(&step.begins, &values, &place("begins"))?;
        let prompt = self.templates.render(&step.prompt, &values, &place("prompt"))?;
        let (prefix, prompt) = match step.form {
            Form::Completion => {
                let prefix = match self.prefixes.get(&(row.step, row.set)) {
                    Some(prefix) => prefix.clone(),
                    None => {
                        let shared = Map::from_iter([("examples".to_owned(), Value::Array(examples))]);
                        let text = self.templates.render(&step.prefix, &shared, &place("prefix"))?;
                        let options = EncodeOptions { special: false, add_bos: true };
                        let tokens: Arc<[TokenId]> = self.tokenizer.encode(&text, options)?.into();
                        self.prefixes.insert((row.step, row.set), tokens.clone());
                        tokens
                    }
                };
                let options = EncodeOptions { special: false, add_bos: prefix.is_empty() };
                (prefix, self.tokenizer.encode(&format!("{prompt}{}", row.begun), options)?)
            }
            Form::Chat => self.chat_prompt(row, step, &examples, prompt)?,
        };
        let source = self.grammar(step, &values, &place("output"))?;
        let constraint = self.constraint(&source, step, &place("output"))?;
        let draws = &plan.recipe.sampling;
        Ok(Request {
            key: StreamKey { step: row.step as u16, ..row.key },
            prefix,
            prompt,
            constraint: Some(constraint),
            max_tokens: step.max_tokens,
            sampling: Sampling {
                temperature: draws.temperature,
                top_k: draws.top_k,
                top_p: draws.top_p,
                min_p: draws.min_p,
                repetition: Repetition { strength: draws.repetition_strength, allowed: draws.repetition_allowed },
            },
            measure: None,
        })
    }

    fn chat_prompt(
        &mut self,
        row: &Decoding,
        step: &Step,
        examples: &[Value],
        prompt: String,
    ) -> Result<(Arc<[TokenId]>, Vec<TokenId>)> {
        let mut messages = Vec::new();
        let place = |part: &str| format!("recipe {}, step {}, {part}", self.plan.recipe.name, step.field);
        if !step.prefix.is_empty() {
            let system = self.templates.render(&step.prefix, &Map::new(), &place("prefix"))?;
            messages.push(Message::system(system.trim_end()));
        }
        if let Some(turn) = &step.example {
            for example in examples {
                let example = example.as_object().expect("examples are objects by their type");
                messages.push(Message::user(self.templates.render(&turn.user, example, &place("example"))?));
                messages.push(Message::assistant(self.templates.render(
                    &turn.assistant,
                    example,
                    &place("example"),
                )?));
            }
        }
        let shared = match self.prefixes.get(&(row.step, row.set)) {
            Some(prefix) => prefix.clone(),
            None => {
                let tokens: Arc<[TokenId]> = if messages.is_empty() {
                    Arc::from([])
                } else {
                    self.tokenizer.encode_chat(&messages, false)?.into()
                };
                self.prefixes.insert((row.step, row.set), tokens.clone());
                tokens
            }
        };
        messages.push(Message::user(prompt));
        let mut tokens = self.tokenizer.encode_chat(&messages, true)?;
        if !row.begun.is_empty() {
            tokens.extend(self.tokenizer.encode(&row.begun, EncodeOptions::default())?);
        }
        // A template may render the leading messages differently once others follow.
        if tokens.starts_with(&shared) {
            let rest = tokens.split_off(shared.len());
            return Ok((shared, rest));
        }
        Ok((Arc::from([]), tokens))
    }

    fn grammar(&self, step: &Step, values: &Map<String, Value>, place: &str) -> Result<GrammarSource> {
        Ok(match &step.output {
            Output::Regex(pattern) => {
                let pattern = self.templates.render(pattern.trim_end(), values, place)?;
                GrammarSource::Regex(format!("(?:{pattern}){}", regex_syntax::escape(&step.stop)))
            }
            Output::Choice(texts) => {
                GrammarSource::Choice(texts.iter().map(|text| format!("{text}{}", step.stop)).collect())
            }
            Output::Text(bounds) if step.stop.is_empty() => GrammarSource::Text(bounds.clone()),
            Output::Text(_) => {
                return Err(Error::usage(format!("{place}: `text` cannot have a `stop`"), "use a regex"));
            }
            Output::Schema => GrammarSource::JsonSchema(self.plan.schema.clone()),
        })
    }

    fn constraint(&mut self, source: &GrammarSource, step: &Step, place: &str) -> Result<Arc<dyn Constraint>> {
        let name = format!("{source:?}");
        if let Some(known) = self.constraints.get(&name) {
            return Ok(known.clone());
        }
        let constraint = self.compiler.compile(source)?;
        let needed = constraint.min_tokens();
        if needed > step.max_tokens {
            return Err(Error::usage(
                format!("{place}: the shortest text takes {needed} tokens, but the limit is {}", step.max_tokens),
                format!("use --max-tokens {needed} or more"),
            ));
        }
        if self.constraints.len() >= CONSTRAINTS_KEPT {
            self.constraints.retain(|_, constraint| Arc::strong_count(constraint) > 1);
        }
        self.constraints.insert(name, constraint.clone());
        Ok(constraint)
    }

    /// Takes a step's text into its attempt, and asks the rules about single rows when it is whole.
    pub fn finish(&self, row: &mut Decoding, completion: &Completion) -> Outcome {
        let recipe = &self.plan.recipe;
        let step = &recipe.steps[row.step];
        let note = StepNote::new(&step.field, completion);
        let decoding = recipe.filters.check_decoding(&note.decoded());
        row.attempt.steps.push(note);
        self.take_text(row, completion);
        let reason = match completion.finish {
            Finish::Complete | Finish::Limit { accepting: true } => decoding,
            Finish::Limit { accepting: false } => {
                let detail = format!("{} was cut off at {} tokens", step.field, completion.tokens.len());
                Some(Reason::new("token_limit", detail))
            }
            Finish::DeadEnd => {
                let detail = format!("{} could not go on under its grammar", step.field);
                Some(Reason::new("dead_end", detail))
            }
        };
        if reason.is_none() && row.step + 1 < recipe.steps.len() {
            row.step += 1;
            return Outcome::NextStep;
        }
        let mut attempt = std::mem::take(&mut row.attempt);
        let reason = reason.or_else(|| self.judge(&mut attempt, &recipe.filters));
        Outcome::Ended(Box::new(attempt), reason)
    }

    fn take_text(&self, row: &mut Decoding, completion: &Completion) {
        let step = &self.plan.recipe.steps[row.step];
        let text = String::from_utf8_lossy(&completion.text);
        let text = format!("{}{}", row.begun, text.strip_suffix(&step.stop).unwrap_or(&text));
        let fields = if step.aside { &mut row.attempt.aside } else { &mut row.attempt.fields };
        match &step.output {
            Output::Schema => match serde_json::from_str::<Value>(&text) {
                Ok(Value::Object(whole)) if step.field == "*" => fields.extend(whole),
                Ok(value) if step.field != "*" => {
                    fields.insert(step.field.clone(), value);
                }
                _ => {
                    fields.insert("text".into(), json!(text));
                }
            },
            Output::Regex(_) | Output::Choice(_) | Output::Text(_) => {
                fields.insert(step.field.clone(), json!(text.trim()));
            }
        }
    }

    /// The reason to turn a whole attempt down, by itself.
    fn judge(&self, attempt: &mut Attempt, filters: &Filters) -> Option<Reason> {
        filters.mask(&mut attempt.fields);
        let whole = Value::Object(std::mem::take(&mut attempt.fields));
        let violation = self.validator.violations(&whole).into_iter().next();
        if let Value::Object(fields) = whole {
            attempt.fields = fields;
        }
        if let Some(violation) = violation {
            let at = if violation.pointer.is_empty() { "the row" } else { &violation.pointer };
            return Some(Reason::new("schema", format!("{at}: {}", violation.what)));
        }
        if attempt.fields.contains_key("meta") {
            return Some(Reason::new("schema", "/meta: a row keeps its own notes under that name"));
        }
        first_reason(&self.chain, &attempt.fields)
    }
}
