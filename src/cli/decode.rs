//! `instil decode`: any text out of the model in a strict format, on stdout and nothing else there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::recipe::Draws;
use crate::validator::Validator;
use crate::{Error, Result};
use clap::Args;
use instil_grammar::grammar::GrammarSource;
use instil_model::decode::{Completion, Finish, Request, Sampling, Scheduler, StreamKey, Thought};
use instil_model::tokenizer::EncodeOptions;
use instil_model::tokenizer::chat::{Message, Way};
use serde_json::{Value, json};

use super::console::{Answer, Console};
use super::options::{
    Chat, ChatOptions, Engine, LayoutOptions, ModelOptions, SamplingOptions, read_schema, read_text, validator,
};
use super::setup;

/// Attempts at a text that the token limit cut off, after the first.
const RETRIES: u16 = 10;

const EXAMPLES: &str = "\
Examples:
  instil decode --choice positive,negative --prompt 'Review: I loved it. Sentiment:' --raw
  instil decode --regex '[0-9]{4}-(0[1-9]|1[0-2])' -n 5
  instil decode --schema person.schema.json --prompt 'Describe a person.' --json
  echo 'Name a colour.' | instil decode --regex '[A-Z][a-z]{2,9}' --prompt -

Regexes match the whole text; \\d \\w \\s are ASCII, and `.` is any character but a newline. With --json
each line is an object: `text` (or the parsed `value`), tokens, tension.";

/// Print texts in a strict format.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[command(group = clap::ArgGroup::new("format").required(true))]
pub(crate) struct DecodeArguments {
    /// JSON under this schema.
    #[arg(long, value_name = "FILE", group = "format")]
    schema: Option<PathBuf>,
    /// A folder of schemas that the schema refers to by their addresses; nothing is fetched.
    #[arg(long, value_name = "DIR")]
    retrieve: Option<PathBuf>,
    /// Text that matches this regex as a whole: ECMA-262's, with ASCII \d \w \s and (?i); what other engines read
    /// otherwise is refused with the spelling to use.
    #[arg(long, value_name = "REGEX", group = "format", allow_hyphen_values = true)]
    regex: Option<String>,
    /// One of these texts.
    #[arg(long, value_name = "A,B,…", group = "format", value_delimiter = ',')]
    choice: Option<Vec<String>>,
    /// What the model is asked; `-` reads standard input.
    #[arg(short, long, value_name = "TEXT", default_value = "", allow_hyphen_values = true)]
    prompt: String,
    /// Let the model continue the prompt as it stands, without its chat template.
    #[arg(long)]
    raw: bool,
    /// How many texts.
    #[arg(short = 'n', long, default_value_t = 1)]
    count: u32,
    /// Most tokens of a text.
    #[arg(long, value_name = "N", default_value_t = 256)]
    max_tokens: usize,
    /// Constraint engine.
    #[arg(long, value_enum, default_value = "instil")]
    engine: Engine,
    #[command(flatten)]
    layout: LayoutOptions,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    chat: ChatOptions,
    #[command(flatten)]
    sampling: SamplingOptions,
}

/// Decodes and prints.
pub(super) fn run(arguments: &DecodeArguments, console: &Console) -> Result<Answer> {
    if arguments.count == 0 {
        return Err(Error::usage("-n is 0", "ask for 1 text or more"));
    }
    if arguments.max_tokens == 0 {
        return Err(Error::usage("--max-tokens is 0", "use 1 or more"));
    }
    arguments.sampling.check()?;
    arguments.layout.check(arguments.engine)?;
    arguments.model.check()?;
    let (source, validator) = source(arguments)?;
    let prompt = if arguments.prompt == "-" { read_text(Path::new("-"))? } else { arguments.prompt.clone() };
    let chat = &arguments.chat;
    let variables = chat.template_variable.iter().cloned().collect();
    let chat = Chat::of(chat.thinking, chat.chat_template.as_deref(), variables, Path::new(""))?;
    let thinking = chat.thinking;
    let mut loaded = setup::load(&ModelOptions { chat, ..arguments.model.clone() }, console)?;
    let tokenizer = loaded.tokenizer.clone();
    let compiler = setup::compiler(&loaded.tokenizer, arguments.engine, arguments.layout.settings());
    let constraint = compiler.compile(&source, arguments.layout.style.into())?;
    constraint.check_limit(arguments.max_tokens)?;
    let thought = match thinking.budget(loaded.model.info().context_length) {
        Some(_) if arguments.raw => {
            return Err(Error::usage("--raw and --thinking exclude each other", "leave one of them out"));
        }
        Some(tokens) => Some(Arc::new(Thought::of(&tokenizer, tokens, "")?)),
        None => None,
    };
    if !arguments.raw && !tokenizer.has_chat_template() {
        let name = &loaded.used.name;
        console.note(&format!(
            "{name} has no chat template, and continues the prompt as it stands; --chat-template gives one"
        ));
    }
    let tokens = if arguments.raw || !tokenizer.has_chat_template() {
        tokenizer.encode(&prompt, EncodeOptions { special: false, add_bos: true })?
    } else {
        let way = if thought.is_some() { Way::Thought } else { Way::Answer };
        tokenizer.opening(way)?.note.iter().for_each(|note| console.note(&format!("{}: {note}", loaded.used.name)));
        tokenizer.ask(&[Message::user(prompt)], way)?
    };
    // A model needs something to continue: an end of sequence is what a new text follows.
    let tokens = if tokens.is_empty() { tokenizer.vocab().eos().iter().copied().take(1).collect() } else { tokens };
    let sampling = &arguments.sampling;
    let request = |row: u32, attempt: u16| Request {
        key: StreamKey { seed: sampling.seed(), row, step: 0, attempt },
        prefix: tokens.clone().into(),
        prompt: Vec::new(),
        constraint: Some(constraint.clone()),
        max_tokens: arguments.max_tokens,
        sampling: Sampling {
            temperature: sampling.temperature.unwrap_or(1.0),
            top_k: sampling.top_k.unwrap_or(0),
            top_p: sampling.top_p.unwrap_or(1.0),
            min_p: sampling.min_p.unwrap_or(0.0),
            landing: sampling.landing.unwrap_or(Draws::default().landing),
            ..Sampling::default()
        },
        thought: thought.clone(),
        measure: None,
    };
    let capacity = arguments.model.capacity(&*loaded.model);
    let mut scheduler = Scheduler::new(&mut *loaded.model, tokenizer.vocab().clone(), capacity);
    (0..arguments.count).for_each(|row| scheduler.submit(request(row, 0)));
    // Texts are printed in order, each as soon as those before it are there.
    let mut waiting: Vec<Option<Completion>> = Vec::new();
    waiting.resize_with(arguments.count as usize, || None);
    let mut printed = 0;
    while let Some(completion) = scheduler.next_completion()? {
        console.check_stop(&format!("{printed} of {} texts were printed", arguments.count))?;
        let key = completion.key;
        let complete = matches!(completion.finish, Finish::Complete | Finish::Limit { accepting: true });
        if !complete {
            if key.attempt < RETRIES {
                scheduler.submit(request(key.row, key.attempt + 1));
                continue;
            }
            return Err(Error::Unmet {
                what: format!(
                    "text {} was cut off by the limit of {} tokens, {RETRIES} times over",
                    key.row + 1,
                    arguments.max_tokens
                ),
                remedy: "raise --max-tokens, or bound the format".into(),
            });
        }
        waiting[key.row as usize] = Some(completion);
        while let Some(completion) = waiting.get_mut(printed).and_then(Option::take) {
            let value = checked(&completion, validator.as_ref())?;
            console.each(|| text_of(&completion) + "\n", || described(&completion, value))?;
            printed += 1;
        }
        if console.is_closed() {
            break;
        }
    }
    Ok(Answer::done())
}

fn source(arguments: &DecodeArguments) -> Result<(GrammarSource, Option<Validator>)> {
    if let Some(path) = &arguments.schema {
        let schema = read_schema(path, arguments.retrieve.as_deref())?;
        let validator = validator(&schema)?;
        return Ok((GrammarSource::JsonSchema(schema), Some(validator)));
    }
    if let Some(regex) = &arguments.regex {
        return Ok((GrammarSource::Regex(regex.clone()), None));
    }
    let choices = arguments.choice.clone().unwrap_or_default();
    if choices.iter().any(String::is_empty) {
        return Err(Error::usage("a --choice is empty", "separate texts by single commas"));
    }
    Ok((GrammarSource::Choice(choices), None))
}

fn text_of(completion: &Completion) -> String {
    String::from_utf8_lossy(&completion.text).into_owned()
}

/// The value of a text under a schema.
fn checked(completion: &Completion, validator: Option<&Validator>) -> Result<Option<Value>> {
    let Some(validator) = validator else { return Ok(None) };
    let text = text_of(completion);
    let value: Value = serde_json::from_str(&text).map_err(|cause| broken(&text, &cause.to_string()))?;
    match validator.violations(&value).first() {
        Some(violation) => Err(broken(&text, &violation.what)),
        None => Ok(Some(value)),
    }
}

fn described(completion: &Completion, value: Option<Value>) -> Value {
    let mut object = match value {
        Some(value) => json!({ "value": value }),
        None => json!({ "text": text_of(completion) }),
    };
    if let Some(thoughts) = &completion.thoughts {
        object["reasoning"] = String::from_utf8_lossy(&thoughts.text).trim().into();
    }
    object["tokens"] = completion.tokens.len().into();
    object["forced"] = completion.forced.into();
    object["tension"] = json!({ "mean": completion.tension.mean, "max": completion.tension.max });
    object["closed_by_budget"] = completion.closed_by_budget.into();
    object
}

/// The engine let a text through that the validator refuses: the text must not be printed.
fn broken(text: &str, cause: &str) -> Error {
    Error::grammar("", format!("a decoded text breaks the schema ({cause}): {text}"), "please report this schema")
}
