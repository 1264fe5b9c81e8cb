//! The steps of an attempt: from a row to a request, and from its completion back into the row.
//!
//! [`prompts`] makes the prompts, [`grammars`] the constraints, [`contest`] finds the best of texts that compete; this
//! file conducts them, takes scores, and asks the rules about single rows.

mod contest;
mod grammars;
mod prompts;

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use self::contest::Contest;
use self::grammars::Grammars;
use self::prompts::Prompts;
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
use instil_grammar::constraint::Compiler;
use instil_grammar::vocab::TokenId;
use instil_model::decode::{Completion, Finish, Measure, Repetition, Request, Sampling, StreamKey, Thought};
use instil_model::tokenizer::chat::Way;
use instil_model::tokenizer::{EncodeOptions, Tokenizer};

/// An attempt that is being decoded.
#[derive(Debug)]
pub(crate) struct Decoding {
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
    /// Where several texts of a step compete.
    contest: Option<Contest>,
    /// Its texts are supposed: no rule holds, and none compete.
    supposed: bool,
}

/// What an attempt needs next.
pub(crate) enum Next {
    /// A completion.
    Request(Box<Request>),
    /// Nothing: it is whole; the reason is that of the rules about single rows, if they turn it down.
    Ended(Box<Attempt>, Option<Reason>),
}

/// Prepares requests and reads completions: everything about rows but their order.
pub(crate) struct Steps<'a> {
    /// What the steps belong to.
    pub plan: &'a Plan,
    writer: Reader,
    /// Another model gives the scores.
    judge: Option<Reader>,
    validator: Validator,
    templates: Templates,
    seeds: &'a Seeds,
    grammars: Grammars<'a>,
    prompts: Prompts<'a>,
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
pub(crate) struct Reader {
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// Longest sequence that it reads, in tokens.
    pub context_length: usize,
}

/// Streams of competing texts are this far apart in [`StreamKey::step`].
const STREAMS_PER_STEP: u16 = 256;

impl Decoding {
    /// An attempt at the row of `key`, before its first step.
    pub(crate) fn new(key: StreamKey, attributes: Map<String, Value>, set: u32, origin: Option<Origin>) -> Self {
        Self {
            key,
            attributes,
            set,
            origin,
            step: 0,
            attempt: Attempt::default(),
            begun: String::new(),
            readings: Vec::new(),
            contest: None,
            supposed: false,
        }
    }

    /// The same, of which every text will be supposed ([`Steps::suppose`]).
    pub(crate) fn supposed(self) -> Self {
        Self { supposed: true, ..self }
    }
}

impl<'a> Steps<'a> {
    /// Prepares for the steps of `plan`: `writer` is the model that draws, `judge` the one that gives scores, where
    /// it is another.
    ///
    /// # Errors
    /// When the schema cannot be judged by.
    pub(crate) fn new(
        plan: &'a Plan,
        seeds: &'a Seeds,
        writer: Reader,
        judge: Option<Reader>,
        compiler: &'a Compiler,
    ) -> Result<Self> {
        let templates = Templates::default();
        let mut of_rows = plan.recipe.steps.iter().flat_map(Step::row_templates);
        let speaks_of_schema = of_rows.any(|template| templates.uses(template, "schema"));
        Ok(Self {
            plan,
            writer,
            judge,
            validator: Validator::new(&plan.schema)?,
            templates,
            seeds,
            grammars: Grammars::new(plan, compiler),
            prompts: Prompts::new(plan),
            choices: HashMap::new(),
            neutral: HashMap::new(),
            schema_text: speaks_of_schema.then(|| Value::String(plan.schema.to_string())),
            chain: by_step(&plan.recipe),
        })
    }

    /// The step that a request or completion of this key belongs to.
    pub(crate) fn step_of(&self, key: StreamKey) -> &'a Step {
        &self.plan.recipe.steps[usize::from(key.step % STREAMS_PER_STEP)]
    }

    /// Whether a request of this key is for the judge.
    pub(crate) fn is_for_judge(&self, key: StreamKey) -> bool {
        self.judge.is_some() && self.step_of(key).output.is_score()
    }

    fn reader(&self, step: &Step) -> &Reader {
        self.judge.as_ref().filter(|_| step.output.is_score()).unwrap_or(&self.writer)
    }

    /// What an attempt needs first.
    ///
    /// # Errors
    /// When a template fails, or a step's shortest text exceeds its limit: see [`Steps::or_turned_down`].
    pub(crate) fn begin(&mut self, row: &mut Decoding) -> Result<Next> {
        self.proceed(row)
    }

    /// What an attempt needs next, where it may turn out that its row cannot be made: that ends the attempt, with the
    /// cause, and not the run.
    ///
    /// # Errors
    /// What is no fault of the row's.
    pub(crate) fn or_turned_down(row: &mut Decoding, next: Result<Next>) -> Result<(Next, Option<Error>)> {
        match next {
            Err(cause @ (Error::Usage { .. } | Error::Input { .. } | Error::Grammar(_))) => {
                let reason = Reason::new(rule::IMPOSSIBLE, cause.to_string());
                Ok((Next::Ended(Box::new(std::mem::take(&mut row.attempt)), Some(reason)), Some(cause)))
            }
            next => next.map(|next| (next, None)),
        }
    }

    /// Takes a completion into its attempt: what that needs next.
    ///
    /// # Errors
    /// As [`Steps::begin`].
    pub(crate) fn finish(&mut self, row: &mut Decoding, completion: &Completion) -> Result<Next> {
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
    pub(crate) fn suppose(&mut self, row: &mut Decoding, value: Value) -> Result<Next> {
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
        recipe.filters.mask(&mut row.attempt.reasoning);
        let rules = &self.chain[done];
        let reason = match reason {
            None if !rules.is_empty() => first_reason(rules, &self.view(row)),
            reason => reason,
        };
        let Some(contest) = &mut row.contest else {
            return reason.map(|reason| Next::Ended(Box::new(std::mem::take(&mut row.attempt)), Some(reason)));
        };
        if !contest.enter(recipe, &mut row.attempt, reason) {
            return None;
        }
        if contest.is_open(recipe) {
            (row.attempt, row.step) = contest.next_round();
            return None;
        }
        let contest = row.contest.take().expect("it was there a line ago");
        let judged_at = contest.judged_at(recipe, &row.attributes);
        match contest.best() {
            Ok(attempt) => {
                row.attempt = attempt;
                row.step = judged_at.map_or(row.step, |at| at + 1);
                None
            }
            Err(failure) => {
                let (attempt, reason) = *failure;
                Some(Next::Ended(Box::new(attempt), Some(reason)))
            }
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
            view.insert("examples".into(), prompts::examples(self.plan, row.set).into());
        }
        view
    }

    /// The prompt of a step, as the prefix that rows share and the row's own tokens.
    fn prompt(
        &mut self,
        row: &mut Decoding,
        step: &Step,
        prompt: &str,
        values: &Map<String, Value>,
    ) -> Result<(Arc<[TokenId]>, Vec<TokenId>)> {
        let tokenizer = self.reader(step).tokenizer.clone();
        let place = (row.step, row.set);
        let way = if self.thought_tokens(step).is_some() { Way::Thought } else { Way::Answer };
        let (begun, prompt) = self.prompts.of_step(place, prompt, values, &self.templates, (&tokenizer, way))?;
        row.begun = begun;
        Ok(prompt)
    }

    /// Most tokens that the model may think before the text of a step; `None` where it answers at once.
    fn thought_tokens(&self, step: &Step) -> Option<usize> {
        let thinks = step.form == Form::Chat && step.output.is_decoded();
        self.plan.thinking().budget(self.writer.context_length).filter(|_| thinks)
    }

    /// The request of an attempt's present step.
    fn request(&mut self, row: &mut Decoding, step: &Step) -> Result<Next> {
        let plan = self.plan;
        if step.best_of.is_some() && row.contest.is_none() && !row.supposed {
            row.contest = Some(Contest::new(row.step, &row.attempt));
        }
        let candidate = row.contest.as_ref().map_or(0, |contest| contest.entries_of(row.step));
        let values = self.values(row);
        let (prefix, prompt) = self.prompt(row, step, &step.prompt, &values)?;
        let constraint = self.grammars.of_step(row.step, &self.templates, &values)?;
        let draws = plan.recipe.sampling.with(step.sampling);
        let thought = match self.thought_tokens(step) {
            Some(tokens) => Some(Arc::new(Thought::of(&self.writer.tokenizer, tokens, &row.begun)?)),
            None => None,
        };
        let request = self.fitting(
            row,
            Request {
                key: StreamKey { step: row.step as u16 + candidate * STREAMS_PER_STEP, ..row.key },
                prefix,
                prompt,
                constraint: Some(constraint),
                max_tokens: step.max_tokens,
                thought,
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
        let request = Request {
            key,
            prefix,
            prompt,
            constraint: None,
            max_tokens: length,
            thought: None,
            sampling: Sampling::default(),
            measure: Some(measure),
        };
        self.fitting(row, request)
    }

    /// The request, unless it holds nothing to read or is longer than the model reads: then the attempt has failed.
    fn fitting(&self, row: &mut Decoding, request: Request) -> Next {
        if request.prefix.is_empty() && request.prompt.is_empty() {
            let detail = format!("the prompt of {} is empty", self.step_of(request.key).field);
            return Next::Ended(
                Box::new(std::mem::take(&mut row.attempt)),
                Some(Reason::new(rule::IMPOSSIBLE, detail)),
            );
        }
        let length = request.prefix.len() + request.prompt.len() + request.room();
        let step = self.step_of(request.key);
        let most = self.reader(step).context_length;
        if length <= most {
            return Next::Request(Box::new(request));
        }
        let detail = format!("{} may take {length} tokens, and the model reads {most}", step.field);
        Next::Ended(Box::new(std::mem::take(&mut row.attempt)), Some(Reason::new(rule::TOO_LONG, detail)))
    }

    fn take_text(&self, row: &mut Decoding, completion: &Completion) {
        let step = &self.plan.recipe.steps[row.step];
        let thought = completion.thoughts.as_ref().map(|thoughts| String::from_utf8_lossy(&thoughts.text));
        if let Some(thought) = thought.filter(|thought| !thought.trim().is_empty()) {
            row.attempt.reasoning.insert(step.field.clone(), json!(thought.trim()));
        }
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
