//! Turns attempts into accepted rows.
//!
//! Rows are decoded many at a time and in any order; they are accepted in row order. An attempt that
//! a filter turns down is followed by the next attempt of the same row, so what stands in a row is a
//! function of the plan alone. Rows that pass the rules about single rows wait for the rows below
//! them; only then are they compared with what was accepted.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::directory::RunDirectory;
use super::plan::Plan;
use super::record::{Attempt, StepNote, record_line, reject_line};
use crate::constraint::{Compiler, Constraint};
use crate::decode::{Completion, Finish, Repetition, Request, Sampling, Scheduler, Statistics, StreamKey};
use crate::error::{Error, Result};
use crate::filter::{Distinct, Filter, Reason, first_reason};
use crate::grammar::GrammarSource;
use crate::grammar::validator::Validator;
use crate::model::Model;
use crate::recipe::attributes::{assign, deal, example_set};
use crate::recipe::prompt::Templates;
use crate::recipe::{Form, Output, Step};
use crate::tokenizer::chat::Message;
use crate::tokenizer::{EncodeOptions, Tokenizer};
use crate::vocab::TokenId;

/// Rows that may be decoded ahead of the row to be accepted next, as a multiple of the slots: bounds memory.
const AHEAD: usize = 8;

/// What happens during a run, for whoever shows it.
#[derive(Debug)]
pub enum Event<'a> {
    /// A row was accepted and written.
    Accepted {
        /// The row.
        row: u32,
        /// Its fields.
        fields: &'a Map<String, Value>,
    },
    /// An attempt was turned down and written to the rejects.
    Rejected {
        /// The row.
        row: u32,
        /// Why.
        reason: &'a Reason,
    },
    /// A decoding step has ended.
    Progress {
        /// Rows accepted so far.
        accepted: u32,
        /// What decoding cost so far.
        statistics: Statistics,
    },
}

/// How a run ended.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Rows written.
    pub accepted: u32,
    /// Attempts turned down, by rule.
    pub rejected: BTreeMap<&'static str, u32>,
    /// Rows given up after `max_attempts`.
    pub given_up: u32,
    /// What decoding cost.
    pub statistics: Statistics,
    /// From the first prompt to the last row.
    pub elapsed: Duration,
    /// The user stopped the run.
    pub interrupted: bool,
}

/// What a run works with.
pub struct Workshop<'a> {
    /// The model.
    pub model: &'a mut dyn Model,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// Grammars → constraints over its vocabulary.
    pub compiler: &'a Compiler,
    /// Sequences decoded at once.
    pub slots: usize,
}

/// Makes the rows of `plan` into `directory`, until all are there or `stop` is set.
///
/// # Errors
/// When a step cannot be set up, the model fails, or a line cannot be written. What was accepted
/// before stays on the disk. Rows that were given up are in the summary, not an error.
pub fn generate<'a>(
    plan: &'a Plan,
    workshop: Workshop<'a>,
    directory: &mut RunDirectory,
    stop: &AtomicBool,
    on_event: &mut dyn FnMut(Event),
) -> Result<Summary> {
    let start = Instant::now();
    let mut bench = Bench::new(plan, &workshop)?;
    let slots = workshop.slots;
    let mut scheduler = Scheduler::new(workshop.model, workshop.tokenizer.vocab().clone(), slots);
    let chain = plan.recipe.filters.chain();
    let mut distinct = Distinct::default();
    let mut summary = Summary::default();
    let mut rows: BTreeMap<u32, Row> = BTreeMap::new();
    let (mut next_new, mut next_accepted) = (0u32, 0u32);
    while next_accepted < plan.rows {
        if stop.load(Ordering::Relaxed) {
            summary.interrupted = true;
            break;
        }
        while next_new < plan.rows && scheduler.vacancies() > 0 && rows.len() < slots * AHEAD {
            let mut row = Row::new(plan, next_new);
            scheduler.submit(bench.request(&mut row)?);
            rows.insert(next_new, row);
            next_new += 1;
        }
        scheduler.step()?;
        while let Some(completion) = scheduler.take_finished() {
            let row = rows.get_mut(&completion.key.row).expect("a completion belongs to an open row");
            let outcome = bench.finish_step(row, &completion, &chain);
            match outcome {
                Outcome::NextStep => scheduler.submit(bench.request(row)?),
                Outcome::Waiting => row.waiting = true,
                Outcome::Rejected(reason) => row.rejected = Some(reason),
            }
        }
        // Rejected attempts above the row to be accepted go on at once; their lines wait for their turn.
        for row in rows.values_mut() {
            if let Some(reason) = row.rejected.take()
                && row.next_attempt(reason, plan)
            {
                scheduler.submit(bench.request(row)?);
            }
        }
        while let Some(row) = rows.get_mut(&next_accepted) {
            if row.waiting
                && let Some(field) = &plan.recipe.filters.distinct
            {
                let text = row.attempt.fields.get(field).and_then(Value::as_str).unwrap_or_default();
                if let Some(reason) = distinct.check(field, text) {
                    row.waiting = false;
                    if row.next_attempt(reason, plan) {
                        scheduler.submit(bench.request(row)?);
                    }
                } else {
                    distinct.accept(next_accepted, text);
                }
            }
            for (key, attempt, reason) in row.turned_down.drain(..) {
                directory.reject(&reject_line(key, &row.attributes, &attempt, &reason))?;
                *summary.rejected.entry(reason.rule).or_default() += 1;
                on_event(Event::Rejected { row: next_accepted, reason: &reason });
            }
            if row.given_up {
                summary.given_up += 1;
            } else if row.waiting {
                directory.record(&record_line(row.key(plan.seed), &row.attributes, &row.attempt))?;
                summary.accepted += 1;
                on_event(Event::Accepted { row: next_accepted, fields: &row.attempt.fields });
            } else {
                break;
            }
            rows.remove(&next_accepted);
            next_accepted += 1;
        }
        on_event(Event::Progress { accepted: summary.accepted, statistics: scheduler.statistics() });
    }
    directory.sync()?;
    summary.statistics = scheduler.statistics();
    summary.elapsed = start.elapsed();
    Ok(summary)
}

/// A row that is being made.
struct Row {
    index: u32,
    attributes: Map<String, Value>,
    /// Which set of few-shot examples its prompts show.
    set: u32,
    number: u16,
    step: usize,
    attempt: Attempt,
    /// The text that was given to the model as the beginning of the field.
    begun: String,
    waiting: bool,
    rejected: Option<Reason>,
    given_up: bool,
    turned_down: Vec<(StreamKey, Attempt, Reason)>,
}

impl Row {
    fn new(plan: &Plan, index: u32) -> Self {
        let sets = plan.recipe.example_sets.max(1);
        Self {
            index,
            attributes: assign(&plan.recipe.attributes, plan.seed, index),
            set: deal(sets, plan.seed, u16::MAX - 1, index) as u32,
            number: 0,
            step: 0,
            attempt: Attempt::default(),
            begun: String::new(),
            waiting: false,
            rejected: None,
            given_up: false,
            turned_down: Vec::new(),
        }
    }

    fn key(&self, seed: u64) -> StreamKey {
        StreamKey { seed, row: self.index, step: self.step as u16, attempt: self.number }
    }

    /// Puts the attempt aside with its reason; false when it was the last one.
    fn next_attempt(&mut self, reason: Reason, plan: &Plan) -> bool {
        let key = StreamKey { step: 0, ..self.key(plan.seed) };
        self.turned_down.push((key, std::mem::take(&mut self.attempt), reason));
        self.step = 0;
        self.number += 1;
        self.given_up = self.number >= plan.recipe.max_attempts;
        !self.given_up
    }
}

enum Outcome {
    NextStep,
    Waiting,
    Rejected(Reason),
}

/// Prepares requests and reads completions: everything about rows but their order.
struct Bench<'a> {
    plan: &'a Plan,
    tokenizer: Arc<Tokenizer>,
    compiler: &'a Compiler,
    validator: Validator,
    templates: Templates,
    constraints: HashMap<String, Arc<dyn Constraint>>,
    /// Tokens that the rows of one step and set share.
    prefixes: HashMap<(usize, u32), Arc<[TokenId]>>,
    schema_text: String,
}

impl<'a> Bench<'a> {
    fn new(plan: &'a Plan, workshop: &Workshop<'a>) -> Result<Self> {
        Ok(Self {
            plan,
            tokenizer: workshop.tokenizer.clone(),
            compiler: workshop.compiler,
            validator: Validator::new(&plan.schema)?,
            templates: Templates::default(),
            constraints: HashMap::new(),
            prefixes: HashMap::new(),
            schema_text: plan.schema.to_string(),
        })
    }

    fn request(&mut self, row: &mut Row) -> Result<Request> {
        let plan = self.plan;
        let step = &plan.recipe.steps[row.step];
        let mut values = row.attributes.clone();
        values.extend(row.attempt.fields.clone());
        values.insert("schema".into(), Value::String(self.schema_text.clone()));
        let examples: Vec<Value> = example_set(plan.recipe.examples.len(), plan.recipe.shots, plan.seed, row.set)
            .into_iter()
            .map(|index| Value::Object(plan.recipe.examples[index].clone()))
            .collect();
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
            key: row.key(plan.seed),
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
        })
    }

    fn chat_prompt(
        &mut self,
        row: &Row,
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
        self.constraints.insert(name, constraint.clone());
        Ok(constraint)
    }

    /// Takes a step's text into its row, and asks the filters when the row is whole.
    fn finish_step(&self, row: &mut Row, completion: &Completion, chain: &[Box<dyn Filter>]) -> Outcome {
        let step = &self.plan.recipe.steps[row.step];
        row.attempt.steps.push(StepNote::new(&step.field, completion));
        let text = String::from_utf8_lossy(&completion.text);
        let text = format!("{}{}", row.begun, text.strip_suffix(&step.stop).unwrap_or(&text));
        match &step.output {
            Output::Schema => match serde_json::from_str::<Value>(&text) {
                Ok(Value::Object(fields)) if step.field == "*" => row.attempt.fields = fields,
                Ok(value) if step.field != "*" => {
                    row.attempt.fields.insert(step.field.clone(), value);
                }
                _ => {
                    row.attempt.fields.insert("text".into(), json!(text));
                }
            },
            Output::Regex(_) | Output::Choice(_) => {
                row.attempt.fields.insert(step.field.clone(), json!(text.trim()));
            }
        }
        match completion.finish {
            Finish::Complete | Finish::Limit { accepting: true } => {}
            Finish::Limit { accepting: false } => {
                let detail = format!("{} was cut off at {} tokens", step.field, completion.tokens.len());
                return Outcome::Rejected(Reason::new("token_limit", detail));
            }
            Finish::DeadEnd => {
                let detail = format!("{} could not go on under its grammar", step.field);
                return Outcome::Rejected(Reason::new("dead_end", detail));
            }
        }
        if completion.closed_by_budget && self.plan.recipe.filters.closed_by_budget {
            let detail = format!("{} was closed by the limit of {} tokens", step.field, step.max_tokens);
            return Outcome::Rejected(Reason::new("closed_by_budget", detail));
        }
        if row.step + 1 < self.plan.recipe.steps.len() {
            row.step += 1;
            return Outcome::NextStep;
        }
        let whole = Value::Object(row.attempt.fields.clone());
        if let Some(violation) = self.validator.violations(&whole).into_iter().next() {
            let at = if violation.pointer.is_empty() { "the row" } else { &violation.pointer };
            return Outcome::Rejected(Reason::new("schema", format!("{at}: {}", violation.what)));
        }
        first_reason(chain, &row.attempt.fields).map_or(Outcome::Waiting, Outcome::Rejected)
    }
}
