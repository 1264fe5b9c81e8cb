//! Chat templates: from messages to the text that a model was trained to continue.
//!
//! Templates are Jinja, run as the transformers library runs them: blocks trimmed, Python's string
//! methods, `raise_exception`, `strftime_now`, `tojson`, loop controls. They come with model files
//! and are untrusted: each rendering has a budget of steps and memory. The date is the caller's,
//! never the clock's. Which texts become which tokens is not decided here.

use std::fmt;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, ValueKind};
use minijinja::{Environment, ErrorKind, Output, State, Value, context};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The ChatML form, which many models were trained on: for files that lost their template.
pub const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] \
                          + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' \
                          }}{% endif %}";

/// Longest template that is compiled; real ones have a few thousand bytes.
const MAX_SOURCE_BYTES: usize = 1 << 20;
/// Steps that a rendering may take, besides those for the messages' bytes; one is also 64 bytes of memory.
const FUEL: u64 = 1_000_000;
/// Steps for each byte of the messages, since templates look at them several times.
const FUEL_PER_BYTE: u64 = 64;
/// Name under which the template is compiled; its ending turns off HTML escapes.
const NAME: &str = "chat.txt";

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`; letters, digits, `_` and `-`.
    pub role: String,
    /// What was said.
    pub content: String,
}

/// A day, for templates that tell the model the date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    /// Year of the common era.
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
}

/// A compiled chat template.
pub struct ChatTemplate {
    model: String,
    environment: Environment<'static>,
    bos: String,
    eos: String,
}

impl Message {
    /// Something that steers the whole conversation.
    pub fn system(content: impl Into<String>) -> Self {
        Self { role: "system".into(), content: content.into() }
    }

    /// A request.
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: "user".into(), content: content.into() }
    }

    /// A reply.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self { role: "assistant".into(), content: content.into() }
    }
}

impl Default for Date {
    /// 26 July 2024: the day that the Llama 3.1 template falls back to.
    fn default() -> Self {
        Self { year: 2024, month: 7, day: 26 }
    }
}

impl ChatTemplate {
    /// Compiles a template; `model` is what errors name, `bos` and `eos` are the spellings that it
    /// sees as `bos_token` and `eos_token`.
    ///
    /// # Errors
    /// When the source is not a template, with the line.
    pub fn from_source(model: &str, source: &str, bos: &str, eos: &str) -> Result<Self> {
        let refuse = |what: String| {
            Error::model(
                model,
                what,
                "the model's file is damaged, or its template needs a newer version of this program",
            )
        };
        if source.len() > MAX_SOURCE_BYTES {
            return Err(refuse(format!("its chat template has {} bytes, more than {MAX_SOURCE_BYTES}", source.len())));
        }
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.expect("the usual delimiters are valid"));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.set_formatter(print_like_python);
        environment.add_filter("tojson", to_json);
        environment.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        add_date(&mut environment, Date::default());
        environment
            .add_template_owned(NAME, without_generation_tags(source))
            .map_err(|error| refuse(format!("its chat template is not one: {}", describe(&error))))?;
        Ok(Self { model: model.into(), environment, bos: bos.into(), eos: eos.into() })
    }

    /// The same template on another day; [`Date::default`] unless set.
    #[must_use]
    pub fn with_date(mut self, date: Date) -> Self {
        add_date(&mut self.environment, date);
        self
    }

    /// The conversation as text; with `add_generation_prompt`, up to where the reply begins.
    ///
    /// # Errors
    /// When a role is not a plain word, the template refuses the conversation, or it runs over its
    /// budget.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        for message in messages {
            let plain = |character: char| character.is_ascii_alphanumeric() || "_-".contains(character);
            if message.role.is_empty() || !message.role.chars().all(plain) {
                let what = format!("the role {:?} is not a plain word", message.role);
                return Err(Error::usage(what, "use `system`, `user` or `assistant`"));
            }
        }
        let bytes: usize = messages.iter().map(|message| message.content.len()).sum();
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(FUEL + FUEL_PER_BYTE * bytes as u64));
        let template = environment.get_template(NAME).expect("the template was added when this was made");
        let values = context! {
            messages => Value::from(Serde(messages)),
            add_generation_prompt,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
            tools => Value::from(()),
            documents => Value::from(()),
        };
        template.render(values).map_err(|error| {
            let what = match error.kind() {
                ErrorKind::OutOfFuel => "its chat template does not come to an end".into(),
                _ => format!("its chat template refuses the conversation: {}", describe(&error)),
            };
            Error::model(&self.model, what, "change the messages, or use another template")
        })
    }
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChatTemplate({})", self.model)
    }
}

/// Values as Python prints them.
fn print_like_python(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), minijinja::Error> {
    match value.kind() {
        ValueKind::None => Ok(out.write_str("None")?),
        ValueKind::Bool => Ok(out.write_str(if value.is_true() { "True" } else { "False" })?),
        _ => minijinja::escape_formatter(out, state, value),
    }
}

/// `tojson` as transformers has it: like `json.dumps` with `ensure_ascii=False`, and no HTML escapes.
fn to_json(value: &Value, options: Kwargs) -> Result<Value, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    let _: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let failed =
        |error| minijinja::Error::new(ErrorKind::BadSerialization, "cannot be written as JSON").with_source(error);
    let mut out = Vec::new();
    match indent {
        Some(width) => {
            let indent = " ".repeat(width.min(16));
            let pretty = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, pretty)).map_err(failed)?;
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Spaced)).map_err(failed)?,
    }
    Ok(Value::from(String::from_utf8(out).expect("JSON is UTF-8")))
}

/// One line with a space after `:` and `,`, as Python writes JSON.
struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, out: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, out: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, out: &mut W) -> std::io::Result<()> {
        out.write_all(b": ")
    }
}

fn add_date(environment: &mut Environment<'static>, date: Date) {
    environment.add_function("strftime_now", move |format: &str| date.format(format));
}

impl Date {
    /// `strftime`, for the directives that templates use; the time is midnight.
    fn format(self, format: &str) -> Result<String, minijinja::Error> {
        const MONTHS: [&str; 12] = [
            "January",
            "February",
            "March",
            "April",
            "May",
            "June",
            "July",
            "August",
            "September",
            "October",
            "November",
            "December",
        ];
        const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
        let month = MONTHS[usize::from(self.month.clamp(1, 12)) - 1];
        let weekday = DAYS[self.weekday()];
        let mut out = String::new();
        let mut characters = format.chars();
        while let Some(character) = characters.next() {
            if character != '%' {
                out.push(character);
                continue;
            }
            let directive = characters.next();
            let (directive, padded) = match directive {
                Some('-') => (characters.next(), false),
                other => (other, true),
            };
            let number = |value: u8| if padded { format!("{value:02}") } else { value.to_string() };
            let text = match directive {
                Some('Y') => self.year.to_string(),
                Some('y') => format!("{:02}", self.year % 100),
                Some('m') => number(self.month),
                Some('d') => number(self.day),
                Some('B') => month.to_owned(),
                Some('b' | 'h') => month[..3].to_owned(),
                Some('A') => weekday.to_owned(),
                Some('a') => weekday[..3].to_owned(),
                Some('H' | 'M' | 'S') => number(0),
                Some('F') => format!("{}-{:02}-{:02}", self.year, self.month, self.day),
                Some('%') => "%".to_owned(),
                other => {
                    let what = format!("the date format %{} is not known", other.unwrap_or(' '));
                    return Err(minijinja::Error::new(ErrorKind::InvalidOperation, what));
                }
            };
            out.push_str(&text);
        }
        Ok(out)
    }

    /// 0 for Sunday (Sakamoto's method).
    fn weekday(self) -> usize {
        const SHIFTS: [usize; 12] = [0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4];
        let month = usize::from(self.month.clamp(1, 12));
        let year = usize::from(self.year.max(1)) - usize::from(month < 3);
        (year + year / 4 - year / 100 + year / 400 + SHIFTS[month - 1] + usize::from(self.day)) % 7
    }
}

/// `{% generation %}`, which marks the reply for training, becomes a condition that always holds.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        let Some(end) = tag.find("%}") else { break };
        let inner = &tag[2..end];
        let word = inner.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim();
        let replacement = match word {
            "generation" => Some("if true"),
            "endgeneration" => Some("endif"),
            _ => None,
        };
        out.push_str(before);
        match replacement {
            Some(new) => {
                out.push_str("{%");
                out.push_str(&inner.replacen(word, new, 1));
                out.push_str("%}");
            }
            None => out.push_str(&tag[..end + 2]),
        }
        rest = &tag[end + 2..];
    }
    out.push_str(rest);
    out
}

/// The error on one line, with its line in the template.
fn describe(error: &minijinja::Error) -> String {
    let text = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match error.line() {
        Some(line) => format!("{text} (line {line})"),
        None => text,
    }
}
