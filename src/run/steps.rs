//! The steps of an attempt: from a row to a request, and from its completion back into the row.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::seeds::{Origin, Seeds};
use crate::error::{Error, Result};
use crate::filter::condition::fits;
use crate::filter::{Filter, first_reason};
use crate::plan::Plan;
use crate::recipe::likelihood::Measure as Measured;
use crate::recipe::prompt::Templates;
use crate::recipe::{Form, Likelihood, Output, Recipe, Scale, Step};
use crate::row::{Attempt, META, Reason, Score, StepNote, rule};
use crate::validator::Validator;
use instil_grammar::constraint::{Compiler, Constraint};
use instil_grammar::grammar::GrammarSource;
use instil_grammar::vocab::TokenId;
use instil_model::decode::{Completion, Finish, Measure, Repetition, Request, Sampling, StreamKey};
use instil_model::tokenizer::chat::Message;
use instil_model::tokenizer::{ChatBeginning, EncodeOptions, Tokenizer};

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
    origin: Option<Origin>,
    step: usize,
    attempt: Attempt,
    /// The text that was given to the model as the beginning of the field.
    begun: String,
    /// Probabilities that the present judging step has read.
    readings: Vec<Vec<f64>>,
    choosing: Option<Choosing>,
    /// Its texts are supposed: no rule holds, and none compete.
    supposed: bool,
}

/// The best of several texts is being found.
#[derive(Debug)]
struct Choosing {
    /// The step whose texts compete.
    step: usize,
    /// The attempt before that step.
    before: Attempt,
    /// Each text so far: its expected score and the attempt with it, or why it was turned down.
    texts: Vec<Result<(f64, Attempt), (Attempt, Reason)>>,
}

/// What an attempt needs next.
pub enum Next {
    /// A completion.
    Request(Box<Request>),
    /// Nothing: it is whole; the reason is that of the rules about single rows, if they turn it down.
    Ended(Box<Attempt>, Option<Reason>),
}

/// Prepares requests and reads completions: everything about rows but their order.
pub struct Steps<'a> {
    /// What the steps belong to.
    pub plan: &'a Plan,
    writer: Reader,
    /// Another model gives the scores.
    judge: Option<Reader>,
    compiler: &'a Compiler,
    validator: Validator,
    templates: Templates,
    seeds: &'a Seeds,
    constraints: HashMap<String, Arc<dyn Constraint>>,
    /// Those of steps whose grammar is the same for every row.
    fixed: HashMap<usize, Arc<dyn Constraint>>,
    /// Tokens that the rows of one step and set share.
    prefixes: HashMap<(usize, u32), Arc<[TokenId]>>,
    /// The same in the chat form.
    beginnings: HashMap<(usize, u32), ChatBeginning>,
    /// Choices of judging steps, as tokens.
    choices: HashMap<usize, Arc<[Vec<TokenId>]>>,
    /// What judging steps read of texts without content.
    neutral: HashMap<(usize, u32, bool), Vec<f64>>,
    /// The schema as templates see it; none when no template speaks of it.
    schema_text: Option<Value>,
    /// The rules about single rows, each at the last step that it needs.
    chain: Vec<Vec<Box<dyn Filter>>>,
}

/// What a model reads.
#[derive(Clone)]
pub struct Reader {
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// Longest sequence that it reads, in tokens.
    pub context_length: usize,
}

/// Streams of competing texts are this far apart in [`StreamKey::step`].
const STREAMS_PER_STEP: u16 = 256;

impl Decoding {
    /// An attempt at the row of `key`, before its first step.
    pub fn new(key: StreamKey, attributes: Map<String, Value>, set: u32, origin: Option<Origin>) -> Self {
        Self {
            key,
            attributes,
            set,
            origin,
            step: 0,
            attempt: Attempt::default(),
            begun: String::new(),
            readings: Vec::new(),
            choosing: None,
            supposed: false,
        }
    }

    /// The same, of which every text will be supposed ([`Steps::suppose`]).
    pub fn supposed(self) -> Self {
        Self { supposed: true, ..self }
    }
}

impl<'a> Steps<'a> {
    /// Prepares for the steps of `plan`: `writer` is the model that draws, `judge` the one that gives scores, where
    /// it is another.
    ///
    /// # Errors
    /// When the schema cannot be judged by.
    pub fn new(
        plan: &'a Plan,
        seeds: &'a Seeds,
        writer: Reader,
        judge: Option<Reader>,
        compiler: &'a Compiler,
    ) -> Result<Self> {
        Ok(Self {
            plan,
            writer,
            judge,
            compiler,
            validator: Validator::new(&plan.schema)?,
            templates: Templates::default(),
            seeds,
            constraints: HashMap::new(),
            fixed: HashMap::new(),
            prefixes: HashMap::new(),
            beginnings: HashMap::new(),
            choices: HashMap::new(),
            neutral: HashMap::new(),
            schema_text: serde_json::to_string(&plan.recipe.steps)
                .is_ok_and(|steps| steps.contains("schema"))
                .then(|| Value::String(plan.schema.to_string())),
            chain: by_step(&plan.recipe),
        })
    }

    /// The step that a request or completion of this key belongs to.
    pub fn step_of(&self, key: StreamKey) -> &'a Step {
        &self.plan.recipe.steps[usize::from(key.step % STREAMS_PER_STEP)]
    }

    /// Whether a request of this key is for the judge.
    pub fn is_for_judge(&self, key: StreamKey) -> bool {
        self.judge.is_some() && self.step_of(key).output.is_score()
    }

    fn reader(&self, step: &Step) -> &Reader {
        self.judge.as_ref().filter(|_| step.output.is_score()).unwrap_or(&self.writer)
    }

    /// What an attempt needs first.
    ///
    /// # Errors
    /// When a template fails, or a step's shortest text exceeds its limit.
    pub fn begin(&mut self, row: &mut Decoding) -> Result<Next> {
        self.proceed(row)
    }

    /// Takes a completion into its attempt: what that needs next.
    ///
    /// # Errors
    /// As [`Steps::begin`].
    pub fn finish(&mut self, row: &mut Decoding, completion: &Completion) -> Result<Next> {
        let recipe = &self.plan.recipe;
        let step = &recipe.steps[row.step];
        if step.output.is_score() {
            if let Output::Score(scale) = &step.output {
                let reading = scale.readings()[row.readings.len()];
                if reading.neutral {
                    self.neutral.insert((row.step, row.set, reading.swapped), completion.measured.clone());
                }
            }
            row.readings.push(completion.measured.clone());
            return self.proceed(row);
        }
        let note = StepNote::new(&step.field, completion);
        let decoding = recipe.filters.check_decoding(&note);
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
        if let Some(ended) = self.step_done(row, reason) {
            return Ok(ended);
        }
        self.proceed(row)
    }

    /// Goes on as if the present step had given `value`, whatever the rules say; for estimates.
    ///
    /// # Errors
    /// As [`Steps::begin`].
    pub fn suppose(&mut self, row: &mut Decoding, value: Value) -> Result<Next> {
        let step = &self.plan.recipe.steps[row.step];
        match &step.output {
            Output::Score(scale) => {
                let even = vec![1.0 / scale.choices.len() as f64; scale.choices.len()];
                row.readings = vec![even; scale.readings().len()];
            }
            Output::Likelihood(likelihood) => row.readings = vec![vec![1.0, 1.0]; likelihood.readings()],
            _ => insert(row, step, value),
        }
        take_score(row, step);
        row.step += 1;
        self.proceed(row)
    }

    /// Takes the steps that need no model, up to one that does or to the end.
    fn proceed(&mut self, row: &mut Decoding) -> Result<Next> {
        let recipe = &self.plan.recipe;
        while let Some(step) = recipe.steps.get(row.step) {
            if fits(&step.when, &row.attributes) {
                match &step.output {
                    Output::Template(template) => {
                        let place = format!("recipe {}, step {}, output", recipe.name, step.field);
                        let text = self.templates.render(template, &self.values(row), &place)?;
                        insert(row, step, json!(text.trim()));
                    }
                    Output::Number(template) => {
                        let place = format!("recipe {}, step {}, output", recipe.name, step.field);
                        let text = self.templates.render(template, &self.values(row), &place)?;
                        let number: Option<f64> = text.trim().parse().ok().filter(|number: &f64| number.is_finite());
                        let Some(number) = number else {
                            let what = format!("{place}: `{text}` is no number");
                            return Err(Error::usage(what, "correct the template"));
                        };
                        row.attempt.scores.insert(step.field.clone(), Score::number(number).written());
                    }
                    Output::Score(scale) => {
                        if let Some(request) = self.reading(row, step, scale)? {
                            return Ok(request);
                        }
                        take_score(row, step);
                    }
                    Output::Likelihood(likelihood) if row.readings.len() == likelihood.readings() => {
                        take_score(row, step);
                    }
                    Output::Likelihood(likelihood) => return self.reading_of_text(row, step, likelihood),
                    _ => return self.request(row, step),
                }
            }
            if let Some(ended) = self.step_done(row, None) {
                return Ok(ended);
            }
        }
        let mut attempt = std::mem::take(&mut row.attempt);
        let reason = self.judge(&mut attempt);
        Ok(Next::Ended(Box::new(attempt), reason))
    }

    /// Ends the present step, which may have failed for `reason`: asks the rules that have all they need by now,
    /// and chooses among competing texts. `None` when the attempt goes on.
    fn step_done(&mut self, row: &mut Decoding, reason: Option<Reason>) -> Option<Next> {
        let recipe = &self.plan.recipe;
        let done = row.step;
        row.step += 1;
        if row.supposed {
            return None;
        }
        recipe.filters.mask(&mut row.attempt.fields);
        let rules = &self.chain[done];
        let reason = match reason {
            None if !rules.is_empty() => first_reason(rules, &self.view(row)),
            reason => reason,
        };
        // A step whose texts compete begins its round by remembering what there was before.
        let Some(choosing) = &mut row.choosing else {
            return reason.map(|reason| Next::Ended(Box::new(std::mem::take(&mut row.attempt)), Some(reason)));
        };
        let best_of = recipe.steps[choosing.step].best_of.as_ref().expect("only such a step begins a choice");
        // A score that could not be read ranks last.
        let score = row.attempt.scores.get(&best_of.by);
        let score = score.map(|score| Score::of(score).expected.unwrap_or(f64::NEG_INFINITY));
        match (reason, score) {
            (Some(reason), _) => choosing.texts.push(Err((std::mem::take(&mut row.attempt), reason))),
            (None, Some(score)) => choosing.texts.push(Ok((score, std::mem::take(&mut row.attempt)))),
            (None, None) => return None,
        }
        if choosing.texts.len() < usize::from(best_of.count) {
            row.attempt = choosing.before.clone();
            row.step = choosing.step;
            return None;
        }
        let judges = |step: &Step| step.field == best_of.by && fits(&step.when, &row.attributes);
        let judged_at = (choosing.step..recipe.steps.len()).find(|&at| judges(&recipe.steps[at]));
        let mut choosing = row.choosing.take().expect("it was there a line ago");
        let mut best: Option<(f64, Attempt)> = None;
        let mut first_failure = None;
        for text in choosing.texts.drain(..) {
            match text {
                Ok((score, attempt)) if best.as_ref().is_none_or(|(most, _)| score > *most) => {
                    best = Some((score, attempt));
                }
                Ok(_) => {}
                Err(failure) => {
                    first_failure.get_or_insert(failure);
                }
            }
        }
        match (best, first_failure) {
            (Some((_, attempt)), _) => {
                row.attempt = attempt;
                row.step = judged_at.map_or(row.step, |at| at + 1);
                None
            }
            (None, Some((attempt, reason))) => Some(Next::Ended(Box::new(attempt), Some(reason))),
            (None, None) => unreachable!("a choice has at least one text"),
        }
    }

    /// What templates can use.
    fn values(&self, row: &Decoding) -> Map<String, Value> {
        let mut values = row.attributes.clone();
        if let Some(origin) = &row.origin {
            values.extend(self.seeds.values(origin));
        }
        values.extend(row.attempt.fields.clone());
        values.extend(self.schema_text.iter().map(|text| ("schema".to_owned(), text.clone())));
        values.extend(row.attempt.aside.clone());
        values.insert("scores".into(), Value::Object(row.attempt.scores.clone()));
        values
    }

    /// What rules about single rows can read.
    fn view(&self, row: &Decoding) -> Map<String, Value> {
        let mut view = self.values(row);
        if !self.plan.recipe.filters.copied.is_empty() {
            view.insert("examples".into(), self.examples(row).into());
        }
        view
    }

    fn examples(&self, row: &Decoding) -> Vec<Value> {
        let recipe = &self.plan.recipe;
        recipe.examples_of(self.plan.seed, row.set).into_iter().cloned().map(Value::Object).collect()
    }

    /// The prompt of a step, as the prefix that rows share and the row's own tokens.
    fn prompt(
        &mut self,
        row: &mut Decoding,
        step: &Step,
        prompt: &str,
        values: &Map<String, Value>,
    ) -> Result<(Arc<[TokenId]>, Vec<TokenId>)> {
        let plan = self.plan;
        let place = |part: &str| format!("recipe {}, step {}, {part}", plan.recipe.name, step.field);
        row.begun = self.templates.render(&step.begins, values, &place("begins"))?;
        let prompt = self.templates.render(prompt, values, &place("prompt"))?;
        match step.form {
            Form::Completion => {
                let prefix = match self.prefixes.get(&(row.step, row.set)) {
                    Some(prefix) => prefix.clone(),
                    None => {
                        let shared = Map::from_iter([("examples".to_owned(), Value::Array(self.examples(row)))]);
                        let text = self.templates.render(&step.prefix, &shared, &place("prefix"))?;
                        let options = EncodeOptions { special: false, add_bos: true };
                        let tokens: Arc<[TokenId]> = self.reader(step).tokenizer.encode(&text, options)?.into();
                        self.prefixes.insert((row.step, row.set), tokens.clone());
                        tokens
                    }
                };
                let options = EncodeOptions { special: false, add_bos: prefix.is_empty() };
                Ok((prefix, self.reader(step).tokenizer.encode(&format!("{prompt}{}", row.begun), options)?))
            }
            Form::Chat => self.chat_prompt(row, step, prompt),
        }
    }

    /// The request of an attempt's present step.
    fn request(&mut self, row: &mut Decoding, step: &Step) -> Result<Next> {
        let plan = self.plan;
        if step.best_of.is_some() && row.choosing.is_none() && !row.supposed {
            row.choosing = Some(Choosing { step: row.step, before: row.attempt.clone(), texts: Vec::new() });
        }
        let candidate = match &row.choosing {
            Some(choosing) if choosing.step == row.step => choosing.texts.len() as u16,
            _ => 0,
        };
        let values = self.values(row);
        let (prefix, prompt) = self.prompt(row, step, &step.prompt, &values)?;
        let place = format!("recipe {}, step {}, output", plan.recipe.name, step.field);
        let constraint = match self.fixed.get(&row.step) {
            Some(constraint) => constraint.clone(),
            None => {
                let source = self.grammar(step, &values, &place)?;
                let constraint = self.constraint(&source, step, &place)?;
                if !step.output.varies() {
                    self.fixed.insert(row.step, constraint.clone());
                }
                constraint
            }
        };
        let draws = plan.recipe.sampling.with(step.sampling);
        let request = self.fitting(
            row,
            Request {
                key: StreamKey { step: row.step as u16 + candidate * STREAMS_PER_STEP, ..row.key },
                prefix,
                prompt,
                constraint: Some(constraint),
                max_tokens: step.max_tokens,
                sampling: Sampling {
                    temperature: draws.temperature_of(row.key.attempt),
                    top_k: draws.top_k,
                    top_p: draws.top_p,
                    min_p: draws.min_p,
                    repetition: Repetition { strength: draws.repetition_strength, allowed: draws.repetition_allowed },
                    landing: draws.landing,
                },
                measure: None,
            },
        );
        Ok(request)
    }

    /// The next reading that a judging step lacks; `None` when it has all.
    fn reading(&mut self, row: &mut Decoding, step: &Step, scale: &Scale) -> Result<Option<Next>> {
        let readings = scale.readings();
        while let Some(reading) = readings.get(row.readings.len()) {
            if reading.neutral
                && let Some(known) = self.neutral.get(&(row.step, row.set, reading.swapped))
            {
                row.readings.push(known.clone());
                continue;
            }
            let mut values = self.values(row);
            if reading.neutral {
                values.extend(scale.neutral.clone());
            }
            let template = scale.swapped.as_ref().filter(|_| reading.swapped).unwrap_or(&step.prompt);
            let (prefix, prompt) = self.prompt(row, step, template, &values)?;
            let choices = match self.choices.get(&row.step) {
                Some(choices) => choices.clone(),
                None => {
                    let encode = |text: &String| self.reader(step).tokenizer.encode(text, EncodeOptions::default());
                    let choices: Arc<[Vec<TokenId>]> = scale.choices.iter().map(encode).collect::<Result<_, _>>()?;
                    self.choices.insert(row.step, choices.clone());
                    choices
                }
            };
            let longest = choices.iter().map(Vec::len).max().unwrap_or(0);
            return Ok(Some(self.measuring(row, (prefix, prompt), longest, Measure::Choices(choices))));
        }
        Ok(None)
    }

    /// The next reading of a text's likelihood.
    fn reading_of_text(&mut self, row: &mut Decoding, step: &Step, likelihood: &Likelihood) -> Result<Next> {
        let mut values = self.values(row);
        let place = format!("recipe {}, step {}, output", self.plan.recipe.name, step.field);
        let text = self.templates.render(&likelihood.text, &values, &place)?;
        let text = self.reader(step).tokenizer.encode(&text, EncodeOptions::default())?;
        if text.is_empty() {
            row.readings = vec![vec![0.0, 0.0]; likelihood.readings()];
            return self.proceed(row);
        }
        if likelihood.is_alone() && !row.readings.is_empty() {
            return self.reading_alone(row, step, text);
        }
        let mut template = &step.prompt;
        if !row.readings.is_empty() {
            values.extend(likelihood.neutral.clone());
            template = likelihood.without.as_ref().unwrap_or(template);
        }
        let (prefix, mut prompt) = self.prompt(row, step, template, &values)?;
        if likelihood.measure == Measured::Ending {
            prompt.extend(text);
            let end = self.reader(step).tokenizer.vocab().eos().iter().take(1).copied().collect();
            return Ok(self.measuring(row, (prefix, prompt), 1, Measure::Text(end)));
        }
        Ok(self.measuring(row, (prefix, prompt), text.len(), Measure::Text(text)))
    }

    /// The reading of a text that nothing stands before, but what every sequence of the model begins with.
    fn reading_alone(&mut self, row: &mut Decoding, step: &Step, mut text: Vec<TokenId>) -> Result<Next> {
        let options = EncodeOptions { special: false, add_bos: true };
        let mut before = self.reader(step).tokenizer.encode("", options)?;
        if before.is_empty() {
            before.push(text.remove(0));
        }
        if text.is_empty() {
            row.readings.push(vec![0.0, 0.0]);
            return self.proceed(row);
        }
        Ok(self.measuring(row, (Arc::from([]), before), text.len(), Measure::Text(text)))
    }

    fn measuring(
        &self,
        row: &mut Decoding,
        (prefix, prompt): (Arc<[TokenId]>, Vec<TokenId>),
        length: usize,
        measure: Measure,
    ) -> Next {
        let key = StreamKey { step: row.step as u16, ..row.key };
        let (constraint, sampling, measure) = (None, Sampling::default(), Some(measure));
        self.fitting(row, Request { key, prefix, prompt, constraint, max_tokens: length, sampling, measure })
    }

    /// The request, unless it is longer than the model reads: then the attempt has failed.
    fn fitting(&self, row: &mut Decoding, request: Request) -> Next {
        let length = request.prefix.len() + request.prompt.len() + request.max_tokens;
        let step = self.step_of(request.key);
        let most = self.reader(step).context_length;
        if length <= most {
            return Next::Request(Box::new(request));
        }
        let detail = format!("{} may take {length} tokens, and the model reads {most}", step.field);
        Next::Ended(Box::new(std::mem::take(&mut row.attempt)), Some(Reason::new("too_long", detail)))
    }

    fn chat_prompt(&mut self, row: &Decoding, step: &Step, prompt: String) -> Result<(Arc<[TokenId]>, Vec<TokenId>)> {
        let tokenizer = self.reader(step).tokenizer.clone();
        let examples = self.plan.recipe.examples_of(self.plan.seed, row.set);
        let beginning = match self.beginnings.entry((row.step, row.set)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let messages = leading_messages(&self.templates, step, &examples, &self.plan.recipe.name)?;
                new.insert(tokenizer.begin_chat(messages)?)
            }
        };
        let (begins, mut tokens) = tokenizer.go_on_chat(beginning, Message::user(prompt))?;
        if !row.begun.is_empty() {
            tokens.extend(tokenizer.encode(&row.begun, EncodeOptions::default())?);
        }
        let prefix = if begins { beginning.ids().clone() } else { Arc::from([]) };
        Ok((prefix, tokens))
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
            Output::Text(text) if step.stop.is_empty() => {
                let no_number = |key: &str, text: &str| {
                    let what = format!("{place}: {key} is `{text}`, which is no number");
                    Error::usage(what, "check the attribute's values")
                };
                GrammarSource::Text(text.bounds(|template| self.templates.render(template, values, place), no_number)?)
            }
            Output::Text(_) => {
                return Err(Error::usage(format!("{place}: `text` cannot have a `stop`"), "use a regex"));
            }
            Output::Schema => GrammarSource::JsonSchema(self.plan.schema.clone()),
            Output::Template(_) | Output::Score(_) | Output::Likelihood(_) | Output::Number(_) => {
                unreachable!("nothing is decoded for them")
            }
        })
    }

    fn constraint(&mut self, source: &GrammarSource, step: &Step, place: &str) -> Result<Arc<dyn Constraint>> {
        let name = match source {
            GrammarSource::Regex(pattern) => format!("regex {pattern}"),
            other => format!("{other:?}"),
        };
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

    fn take_text(&self, row: &mut Decoding, completion: &Completion) {
        let step = &self.plan.recipe.steps[row.step];
        let text = String::from_utf8_lossy(&completion.text);
        let text = format!("{}{}", row.begun, text.strip_suffix(&step.stop).unwrap_or(&text));
        match &step.output {
            Output::Schema => match serde_json::from_str::<Value>(&text) {
                Ok(Value::Object(whole)) if step.field == "*" => row.attempt.fields.extend(whole),
                Ok(value) if step.field != "*" => insert(row, step, value),
                _ => {
                    row.attempt.fields.insert("text".into(), json!(text));
                }
            },
            _ => insert(row, step, json!(text.trim())),
        }
    }

    /// The reason to turn a whole attempt down for its shape.
    fn judge(&self, attempt: &mut Attempt) -> Option<Reason> {
        let whole = Value::Object(std::mem::take(&mut attempt.fields));
        let violation = self.validator.violations(&whole).into_iter().next();
        if let Value::Object(fields) = whole {
            attempt.fields = fields;
        }
        if let Some(violation) = violation {
            let at = if violation.pointer.is_empty() { "the row" } else { &violation.pointer };
            return Some(Reason::new(rule::SCHEMA, format!("{at}: {}", violation.what)));
        }
        let meta = attempt.fields.contains_key(META);
        meta.then(|| Reason::new(rule::SCHEMA, "/meta: a row keeps its own notes under that name"))
    }
}

/// Makes the present step's readings its score, if it has any.
fn take_score(row: &mut Decoding, step: &Step) {
    let readings = std::mem::take(&mut row.readings);
    let score = match &step.output {
        Output::Score(scale) => scale.score(&readings),
        Output::Likelihood(likelihood) => likelihood.score(&readings),
        _ => return,
    };
    row.attempt.scores.insert(step.field.clone(), score.written());
}

fn insert(row: &mut Decoding, step: &Step, value: Value) {
    let fields = if step.aside { &mut row.attempt.aside } else { &mut row.attempt.fields };
    fields.insert(step.field.clone(), value);
}

/// The rules of a recipe, each at the last of the steps that fill a field it reads; at the last step of all where
/// a field may come with the whole row.
fn by_step(recipe: &Recipe) -> Vec<Vec<Box<dyn Filter>>> {
    let last = recipe.steps.len() - 1;
    let mut chain: Vec<Vec<Box<dyn Filter>>> = recipe.steps.iter().map(|_| Vec::new()).collect();
    let given = |name: &str| {
        recipe.attributes.iter().any(|attribute| attribute.name == name) || ["seed", "parent"].contains(&name)
    };
    for rule in recipe.filters.chain() {
        let needed = rule.fields().into_iter().map(|field| {
            let root = field.split('.').next().unwrap_or(field);
            match recipe.steps.iter().rposition(|step| step.field == field || step.field == root) {
                Some(step) => step,
                None if given(root) => 0,
                None => last,
            }
        });
        let at = needed.max().unwrap_or(last);
        chain[at].push(rule);
    }
    chain
}

/// The messages that the rows of a step and a set of examples share.
fn leading_messages(
    templates: &Templates,
    step: &Step,
    examples: &[&Map<String, Value>],
    recipe: &str,
) -> Result<Vec<Message>> {
    let place = |part: &str| format!("recipe {recipe}, step {}, {part}", step.field);
    let mut messages = Vec::new();
    if !step.prefix.is_empty() {
        let system = templates.render(&step.prefix, &Map::new(), &place("prefix"))?;
        messages.push(Message::system(system.trim_end()));
    }
    if let Some(turn) = &step.example {
        for example in examples {
            messages.push(Message::user(templates.render(&turn.user, example, &place("example"))?));
            messages.push(Message::assistant(templates.render(&turn.assistant, example, &place("example"))?));
        }
    }
    Ok(messages)
}
