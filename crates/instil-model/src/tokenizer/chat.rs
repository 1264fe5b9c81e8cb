//! Chat templates: from messages to the text that a model was trained to continue.
//!
//! Templates are Jinja, run as the transformers library runs them, within the bounds of
//! [`crate::jinja`]. The date is the caller's, never the clock's. Which texts become which tokens is not decided here;
//! what stands where a reply begins, [`opening`] finds out.

pub mod forms;
pub mod opening;

use std::collections::BTreeMap;
use std::fmt;

use minijinja::value::Serde;
use minijinja::{ErrorKind, Value};
use serde::{Deserialize, Serialize};
use serde_json::Map;

use crate::error::{Error, Remedy, Result, setting};
use crate::jinja::{Fault, Jinja, Plain};

pub use forms::CHATML;
pub use opening::{Opening, Way};

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
    source: String,
    jinja: Jinja,
    bos: String,
    eos: String,
    /// The caller's variables, besides those that every template is given.
    variables: Variables,
}

/// Variables of templates, by name.
pub type Variables = Map<String, serde_json::Value>;

/// Names that a template is given in any case.
const GIVEN: [&str; 4] = ["messages", "add_generation_prompt", "bos_token", "eos_token"];

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
            let remedy = "the model's file is damaged, or its template needs a newer version of this program; give another with ";
            Error::model(model, what, Remedy::from(remedy).name(setting::CHAT_TEMPLATE))
        };
        let mut jinja = Jinja::of_transformers();
        add_date(&mut jinja, Date::default());
        jinja.add(NAME, source).map_err(|fault| match fault {
            Fault::Excess(what) => refuse(format!("its chat template {what}")),
            Fault::Wrong { .. } => refuse(format!("its chat template is not one: {fault}")),
        })?;
        let (bos, eos, variables) = (bos.into(), eos.into(), Variables::new());
        Ok(Self { model: model.into(), source: source.into(), jinja, bos, eos, variables })
    }

    /// The same template with variables of the caller's, such as `reasoning_effort`.
    ///
    /// # Errors
    /// When one has the name of what every template is given.
    pub fn with_variables(mut self, variables: Variables) -> Result<Self> {
        check(&variables)?;
        self.variables = variables;
        Ok(self)
    }

    /// How replies of this template begin where they are to begin this `way`.
    ///
    /// # Errors
    /// When a thought is asked for, and the template knows none; `knows` tells whether the model has a token of a
    /// spelling.
    pub fn opening(&self, way: Way, knows: &dyn Fn(&str) -> bool) -> Result<Opening> {
        opening::find(self, way, knows)
    }

    /// The same template on another day; [`Date::default`] unless set.
    #[must_use]
    pub fn with_date(mut self, date: Date) -> Self {
        add_date(&mut self.jinja, date);
        self
    }

    /// The conversation as text; with `add_generation_prompt`, up to where the reply begins.
    ///
    /// # Errors
    /// When a role is not a plain word, the template refuses the conversation, or it runs over its
    /// budget.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        self.render_for(messages, add_generation_prompt, &Opening::default())
    }

    /// The same with the switch of `opening`; what goes behind the text is the caller's to add.
    pub(super) fn render_for(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        opening: &Opening,
    ) -> Result<String> {
        for message in messages {
            let plain = |character: char| character.is_ascii_alphanumeric() || "_-".contains(character);
            if message.role.is_empty() || !message.role.chars().all(plain) {
                let what = format!("the role {:?} is not a plain word", message.role);
                return Err(Error::usage(what, "use `system`, `user` or `assistant`"));
            }
        }
        let bytes: usize = messages.iter().map(|message| message.content.len()).sum();
        self.render_with(Value::from(Serde(messages)), bytes, add_generation_prompt, &opening.switch)
    }

    /// The same for messages of any form, whose texts have `bytes` bytes, with variables besides the caller's.
    fn render_with(
        &self,
        messages: Value,
        bytes: usize,
        add_generation_prompt: bool,
        variables: &Variables,
    ) -> Result<String> {
        let mut values: BTreeMap<&str, Value> = BTreeMap::from([
            ("messages", messages),
            ("add_generation_prompt", add_generation_prompt.into()),
            ("bos_token", self.bos.as_str().into()),
            ("eos_token", self.eos.as_str().into()),
            ("tools", ().into()),
            ("documents", ().into()),
        ]);
        values.extend(
            self.variables
                .iter()
                .chain(variables)
                .map(|(name, value)| (name.as_str(), Value::from(Serde(Plain(value))))),
        );
        self.jinja.render(NAME, values.into(), bytes).map_err(|fault| {
            let what = match fault {
                Fault::Excess(what) => format!("its chat template {what}"),
                Fault::Wrong { .. } => format!("its chat template refuses the conversation: {fault}"),
            };
            let remedy = Remedy::from("change the messages, or give another template with ");
            Error::model(&self.model, what, remedy.name(setting::CHAT_TEMPLATE))
        })
    }
}

/// Refuses variables that every template is given in any case.
pub(super) fn check(variables: &Variables) -> Result<()> {
    match variables.keys().find(|name| GIVEN.contains(&name.as_str())) {
        Some(name) => {
            Err(Error::usage(format!("the template variable `{name}` is given to every template"), "leave it out"))
        }
        None => Ok(()),
    }
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChatTemplate({})", self.model)
    }
}

fn add_date(jinja: &mut Jinja, date: Date) {
    jinja.environment().add_function("strftime_now", move |format: &str| date.format(format));
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
                Some('I') => number(12),
                Some('p') => "AM".to_owned(),
                Some('j') if padded => format!("{:03}", self.day_of_year()),
                Some('j') => self.day_of_year().to_string(),
                Some('w') => self.weekday().to_string(),
                Some('u') => ((self.weekday() + 6) % 7 + 1).to_string(),
                Some('T' | 'X') => "00:00:00".to_owned(),
                Some('R') => "00:00".to_owned(),
                Some('D' | 'x') => format!("{:02}/{:02}/{:02}", self.month, self.day, self.year % 100),
                Some('f') => "000000".to_owned(),
                Some('e') => format!("{:>2}", self.day),
                Some('n') => "\n".to_owned(),
                Some('Z' | 'z') => String::new(),
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

    /// 1 for the first of January.
    fn day_of_year(self) -> u16 {
        const BEFORE: [u16; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
        let leaps = self.year.is_multiple_of(4) && (!self.year.is_multiple_of(100) || self.year.is_multiple_of(400));
        let month = usize::from(self.month.clamp(1, 12));
        BEFORE[month - 1] + u16::from(self.day) + u16::from(leaps && month > 2)
    }

    /// 0 for Sunday (Sakamoto's method).
    fn weekday(self) -> usize {
        const SHIFTS: [usize; 12] = [0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4];
        let month = usize::from(self.month.clamp(1, 12));
        let year = usize::from(self.year.max(1)) - usize::from(month < 3);
        (year + year / 4 - year / 100 + year / 400 + SHIFTS[month - 1] + usize::from(self.day)) % 7
    }
}

#[cfg(test)]
mod tests;
