//! How replies begin: what stands between a conversation and an answer, so that no answer is decoded inside a thought.
//!
//! Models are not known by name here. A template is rendered with small conversations: with and without each switch that
//! templates have for thoughts, and with a reply that has a thought or none. What it writes between the question and
//! the answer tells how a thought is opened and closed, and how an answer begins without one. Only for templates that
//! write no thoughts of replies, marks in wide use are looked for.

use minijinja::Value;
use minijinja::value::Serde;
use serde_json::json;

use super::{ChatTemplate, Variables};
use crate::error::{Error, Remedy, Result, setting};
use crate::jinja::Plain;

/// How a reply is to begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Way {
    /// As the template alone begins it, inside a thought or not.
    #[default]
    Plain,
    /// With the answer: never inside a thought.
    Answer,
    /// With a thought, which the answer follows.
    Thought,
}

/// How replies of a template begin one way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Opening {
    /// Variables that the template is given for it.
    pub switch: Variables,
    /// What stands behind the template's own generation prompt, before the model goes on.
    pub begins: String,
    /// How a thought ends; only for [`Way::Thought`].
    pub end: Option<End>,
    /// What a person should know of it, as what is said of the model.
    pub note: Option<String>,
    /// What opens a thought where nothing has opened it.
    opener: String,
    /// The generation prompt that `begins` was found for.
    tail: String,
    facts: Facts,
}

/// How a thought ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// What the model closes it with: `</think>`.
    pub mark: String,
    /// What stands before that where the thought is closed for the model.
    pub before: String,
    /// What stands behind it, before the answer.
    pub behind: String,
}

/// Texts that no template writes by itself.
const QUESTION: &str = "qvzqa";
const THOUGHT: &str = "tvzqb";
const ANSWER: &str = "avzqc";
/// Bytes of a prompt's end in which a thought is looked for that the usual ways do not find.
const LAST_BYTES: usize = 256;

/// Switches of templates: the name, values that turn thoughts off, and values that turn them on; null leaves it out.
fn switches() -> [(&'static str, Vec<serde_json::Value>, Vec<serde_json::Value>); 7] {
    let list = |values: serde_json::Value| values.as_array().cloned().unwrap_or_default();
    [
        ("enable_thinking", list(json!([false])), list(json!([true]))),
        ("thinking", list(json!([false])), list(json!([true]))),
        ("enable_reasoning", list(json!([false])), list(json!([true]))),
        ("thinking_budget", list(json!([0])), list(json!([null]))),
        (
            "reasoning_effort",
            list(json!(["none", "no_think", "minimal", "low"])),
            list(json!([null, "medium", "high"])),
        ),
        (
            "thinking_mode",
            list(json!(["disabled", "off", "no_think", "chat"])),
            list(json!([null, "enabled", "on", "thinking"])),
        ),
        ("reasoning", list(json!([false])), list(json!([true]))),
    ]
}

/// Marks of thoughts.
struct Marks {
    open: &'static str,
    close: &'static str,
    /// What stands between the opening mark and a thought, between a thought and the closing mark, and behind that.
    around: [&'static str; 3],
}

/// Marks in wide use, with what usually stands around them.
const MARKS: [Marks; 8] = [
    Marks { open: "<think>", close: "</think>", around: ["\n", "\n", "\n\n"] },
    Marks { open: "<|channel>thought", close: "<channel|>", around: ["\n", "", ""] },
    Marks { open: "[THINK]", close: "[/THINK]", around: ["", "", ""] },
    Marks { open: "<seed:think>", close: "</seed:think>", around: ["", "", "\n"] },
    Marks { open: "<|START_THINKING|>", close: "<|END_THINKING|>", around: ["", "", ""] },
    Marks {
        open: "<|channel|>analysis<|message|>",
        close: "<|end|>",
        around: ["", "", "<|start|>assistant<|channel|>final<|message|>"],
    },
    Marks { open: "<|begin_of_thought|>", close: "<|end_of_thought|>", around: ["\n\n", "\n\n", "\n\n"] },
    Marks { open: "◁think▷", close: "◁/think▷", around: ["", "", ""] },
];

/// What rendering told of a template.
#[derive(Clone, Debug, Default, PartialEq)]
struct Facts {
    /// What it writes from the end of a conversation to an answer without a thought.
    lead: Option<String>,
    /// What it writes up to the thought of a reply, and from there to the answer.
    thought: Option<(String, String)>,
    /// Opening and closing marks.
    marks: Vec<(String, String)>,
    /// For each of the marks, what stands behind the opening one of an empty thought.
    closings: Vec<String>,
}

/// Finds how replies of `template` begin.
pub(super) fn find(template: &ChatTemplate, way: Way, knows: &dyn Fn(&str) -> bool) -> Result<Opening> {
    if way == Way::Plain {
        return Ok(Opening::default());
    }
    let none = || {
        let what = "knows no thoughts, by its chat template";
        Error::model(&template.model, what, Remedy::from("leave ").name(setting::THINKING).and(" out"))
    };
    let Some(probe) = Probe::new(template) else {
        return if way == Way::Answer { Ok(Opening::default()) } else { Err(none()) };
    };
    let (name, off, on) = probe.switch().unwrap_or_default();
    let without = probe.facts(&off);
    let has_switch = !name.is_empty();
    if way == Way::Answer {
        let Some(tail) = probe.tail(&off) else { return Ok(Opening::default()) };
        let begins = without.begins(&tail);
        let is_opened = without.is_inside(&tail) || without.opens(&tail);
        let is_known = without.thought.is_some() || without.closes(&begins);
        let note = match (has_switch, is_opened) {
            _ if probe.is_switched() => {
                is_opened.then(|| format!("its template variables open a thought: it is closed empty, by {begins:?}"))
            }
            (false, true) => Some(format!(
                "its chat template always opens a thought and has no switch: it is closed empty, by {begins:?}"
            )),
            (true, true) => {
                Some(format!("its chat template opens a thought all the same: it is closed empty, by {begins:?}"))
            }
            (false, false) if is_known && !begins.trim().is_empty() => {
                Some(format!("its chat template has no switch for thoughts: answers begin behind {begins:?}"))
            }
            (false, false) if is_known => {
                Some("its chat template has no switch for thoughts: answers begin without one".to_owned())
            }
            _ => None,
        };
        return Ok(Opening { switch: off, begins, note, tail, facts: without, ..Opening::default() });
    }
    let with = probe.facts(&on);
    let tail = probe.tail(&on).ok_or_else(none)?;
    if let Some((begins, end)) = with.thinks(&tail) {
        return Ok(Opening {
            switch: on,
            opener: begins.clone(),
            begins,
            end: Some(end),
            note: None,
            tail,
            facts: with,
        });
    }
    let (opener, end) = probe.usual(&tail, &with, &off, &without, knows).ok_or_else(none)?;
    let begins = if with.is_inside(&tail) { String::new() } else { opener.clone() };
    Ok(Opening { switch: on, begins, end: Some(end), note: None, opener, tail, facts: with })
}

impl Opening {
    /// What stands behind `text`, the template's rendering up to where the reply begins. A conversation may have another
    /// generation prompt than the one that was looked at; `before` gives the rendering without it.
    pub(in crate::tokenizer) fn behind(&self, text: &str, before: impl FnOnce() -> Option<String>) -> String {
        if text.ends_with(&self.tail) {
            return self.begins.clone();
        }
        let base = before();
        let tail = base.and_then(|base| text.strip_prefix(base.as_str()).map(str::to_owned));
        match tail {
            Some(tail) if self.end.is_some() => match self.facts.thinks(&tail) {
                Some((begins, _)) => begins,
                None if self.facts.is_inside(&tail) => String::new(),
                None => self.opener.clone(),
            },
            None if self.end.is_some() => self.begins.clone(),
            Some(tail) => self.facts.begins(&tail),
            None => {
                let from = text.len().saturating_sub(LAST_BYTES);
                let from = (from..=text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
                self.facts.closing(&text[from..]).unwrap_or_default()
            }
        }
    }

    /// Whether replies begin just as the template begins them.
    pub fn is_plain(&self) -> bool {
        self.switch.is_empty() && self.begins.is_empty() && self.end.is_none()
    }
}

impl End {
    /// All of it: what closes a thought for the model.
    pub fn whole(&self) -> String {
        format!("{}{}{}", self.before, self.mark, self.behind)
    }

    /// Cuts what stands between a thought and the answer at its mark.
    fn of(text: &str) -> Self {
        let start = text.len() - text.trim_start().len();
        let mark = mark_of(&text[start..]);
        let (before, behind) = (text[..start].to_owned(), text[start + mark.len()..].to_owned());
        Self { mark: mark.to_owned(), before, behind }
    }
}

/// The mark that a text begins with: in brackets, or a line.
fn mark_of(text: &str) -> &str {
    let close = match text.chars().next() {
        Some('<') => '>',
        Some('[') => ']',
        Some('◁') => '▷',
        _ => '\n',
    };
    match text.find(close) {
        Some(at) if close == '\n' => &text[..at],
        Some(at) => &text[..at + close.len_utf8()],
        None => text,
    }
}

/// How far two texts are alike, but never up to the inside of a mark.
fn alike(a: &str, b: &str) -> usize {
    let pairs = a.char_indices().zip(b.chars());
    let common = pairs.take_while(|((_, a), b)| a == b).map(|((at, c), _)| at + c.len_utf8()).last().unwrap_or(0);
    match a[..common].rfind('<') {
        Some(open) if !a[open..common].contains('>') => open,
        _ => common,
    }
}

impl Facts {
    /// What goes behind the generation prompt `tail`, so that an answer may follow.
    fn begins(&self, tail: &str) -> String {
        let about_thoughts = self.thought.is_some() || self.closes(tail);
        let mut begins = self.leads_on(tail);
        if begins.trim().is_empty() && !(about_thoughts && begins.starts_with('\n')) {
            begins.clear();
        }
        if self.is_inside(&format!("{tail}{begins}")) {
            begins = self.closing(tail).unwrap_or_default() + &self.behind_header(tail);
        }
        begins
    }

    /// How the template itself would go on from `tail` to an answer.
    fn leads_on(&self, tail: &str) -> String {
        if let Some(rest) = self.lead.as_ref().and_then(|lead| lead.strip_prefix(tail)) {
            return rest.to_owned();
        }
        if let Some((before, after)) = &self.thought
            && let Some(intro) = tail.strip_prefix(before.as_str())
        {
            let is_closed = intro.contains(&End::of(after).mark);
            return if is_closed { after.strip_prefix(intro).unwrap_or_default().to_owned() } else { after.clone() };
        }
        self.behind_header(tail)
    }

    /// What opens an answer where `tail` has something else behind the header of the reply.
    fn behind_header(&self, tail: &str) -> String {
        let Some(lead) = &self.lead else { return String::new() };
        let rest = &lead[alike(lead, tail)..];
        let is_of_thought = self.marks.iter().any(|(open, close)| rest.contains(open) || rest.contains(close));
        if rest.trim().is_empty() || is_of_thought { String::new() } else { rest.to_owned() }
    }

    /// Whether a text ends inside a thought, by the marks.
    fn is_inside(&self, text: &str) -> bool {
        self.open_at(text).is_some()
    }

    /// Whether the template goes from `tail` on to a thought.
    fn opens(&self, tail: &str) -> bool {
        let Some((before, after)) = &self.thought else { return false };
        let is_lead = self.lead.as_ref().is_some_and(|lead| lead.trim_end() == tail.trim_end());
        !is_lead && tail.strip_prefix(before.as_str()).is_some_and(|intro| !intro.contains(&End::of(after).mark))
    }

    /// Whether a text closes a thought.
    fn closes(&self, text: &str) -> bool {
        self.marks.iter().any(|(_, close)| text.contains(close.as_str()))
    }

    /// Which of the marks is open at the end of a text.
    fn open_at(&self, text: &str) -> Option<usize> {
        self.marks.iter().position(|(open, close)| {
            text.rfind(open.as_str()).is_some_and(|at| !text[at + open.len()..].contains(close.as_str()))
        })
    }

    /// What closes the thought that `text` ends inside of, by the marks.
    fn closing(&self, text: &str) -> Option<String> {
        let at = self.open_at(text)?;
        let closing = &self.closings[at];
        // What was written behind the opening mark already is not written again.
        let (open, close) = &self.marks[at];
        let written = text[text.rfind(open.as_str())? + open.len()..].trim_start_matches(|c| c != '\n');
        let blank = closing.find(close.as_str()).unwrap_or(0);
        let more = closing[..blank].strip_prefix(written).unwrap_or_default();
        Some(format!("{more}{}", &closing[blank..]))
    }

    /// What begins a thought behind `tail`, and how it ends, by the thoughts that the template writes.
    fn thinks(&self, tail: &str) -> Option<(String, End)> {
        let (before, after) = self.thought.as_ref()?;
        let end = End::of(after);
        let begins = if let Some(rest) = before.strip_prefix(tail) {
            rest.to_owned()
        } else if tail.strip_prefix(before.as_str()).is_some_and(|intro| !intro.contains(&end.mark))
            || self.is_inside(tail)
        {
            String::new()
        } else {
            before[alike(before, tail)..].to_owned()
        };
        (!end.mark.is_empty()).then_some((begins, end))
    }
}

/// A template, and the small conversations that it takes.
struct Probe<'t> {
    template: &'t ChatTemplate,
    /// What stands before the question.
    system: Option<serde_json::Value>,
    /// What the template writes of a question with the usual variables.
    usual: String,
}

impl<'t> Probe<'t> {
    fn new(template: &'t ChatTemplate) -> Option<Self> {
        let mut probe = Self { template, system: None, usual: String::new() };
        for system in [None, Some(json!({"role": "system", "content": "svzqd"}))] {
            probe.system = system;
            if let Some(text) = probe.rendered(&[], true, &Variables::new())
                && text.contains(QUESTION)
            {
                probe.usual = text;
                return Some(probe);
            }
        }
        None
    }

    /// A question, and what follows it.
    fn rendered(&self, then: &[serde_json::Value], opens: bool, variables: &Variables) -> Option<String> {
        let question = json!({"role": "user", "content": QUESTION});
        let messages = self.system.iter().chain([&question]).chain(then);
        let messages: Vec<Value> = messages.map(|message| Value::from(Serde(Plain(message)))).collect();
        self.template.render_with(messages.into(), LAST_BYTES, opens, variables).ok()
    }

    /// What a rendering has behind the conversation, where it begins with that.
    fn behind(&self, text: &str, variables: &Variables) -> Option<String> {
        let base = self.rendered(&[], false, variables)?;
        if self.rendered(&[], true, variables)? != base {
            return text.strip_prefix(base.as_str()).map(str::to_owned);
        }
        // Some templates write the generation prompt whether they are asked to or not.
        text.rfind(QUESTION).map(|at| text[at + QUESTION.len()..].to_owned())
    }

    /// The generation prompt.
    fn tail(&self, variables: &Variables) -> Option<String> {
        self.behind(&self.rendered(&[], true, variables)?, variables)
    }

    /// Whether the caller's variables hold a switch.
    fn is_switched(&self) -> bool {
        let is_held = |name: &str| self.template.variables.contains_key(name) && has_word(&self.template.source, name);
        switches().iter().any(|(name, ..)| is_held(name))
    }

    /// The switch for thoughts: its name, and the variables by which they are off and on.
    fn switch(&self) -> Option<(&'static str, Variables, Variables)> {
        let mut of_texts = None;
        for (name, off, on) in switches() {
            if self.template.variables.contains_key(name) || !has_word(&self.template.source, name) {
                continue;
            }
            let given = |value: &serde_json::Value| match value {
                serde_json::Value::Null => Variables::new(),
                value => Variables::from_iter([(name.to_owned(), value.clone())]),
            };
            let render = |value: &serde_json::Value| Some((given(value), self.rendered(&[], true, &given(value))?));
            let on: Vec<(Variables, String)> = on.iter().filter_map(render).collect();
            for (off, without) in off.iter().filter_map(|value| Some((value, render(value)?))).map(|(_, found)| found) {
                let Some((on, with)) = on.iter().find(|(_, with)| *with != without) else { continue };
                // What is so in any case needs no variable.
                let needed = |variables: &Variables, text: &str| {
                    if text == self.usual { Variables::new() } else { variables.clone() }
                };
                let found = (name, needed(&off, &without), needed(on, with));
                let behind = |text: &str| text.rfind(QUESTION).map(|at| text[at..].to_owned());
                if behind(&without) != behind(with) {
                    return Some(found);
                }
                let is_flag = matches!(off.get(name), Some(serde_json::Value::Bool(_)));
                if is_flag && of_texts.is_none() {
                    of_texts = Some(found);
                }
            }
        }
        of_texts
    }

    /// What replies tell.
    fn facts(&self, variables: &Variables) -> Facts {
        let told = |reply: serde_json::Value| {
            let text = self.rendered(&[reply], false, variables)?;
            let text = self.behind(&text, variables)?;
            Some(text[..text.rfind(ANSWER)?].to_owned())
        };
        let lead = told(json!({"role": "assistant", "content": ANSWER}));
        let forms = [
            json!({"role": "assistant", "content": ANSWER, "reasoning_content": THOUGHT, "reasoning": THOUGHT,
                   "thinking": THOUGHT}),
            json!({"role": "assistant", "content": [{"type": "thinking", "thinking": THOUGHT},
                   {"type": "text", "text": ANSWER}]}),
            json!({"role": "assistant", "content": [
                   {"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]},
                   {"type": "text", "text": ANSWER}]}),
        ];
        let cut = |text: String| {
            let at = text.find(THOUGHT)?;
            let (before, after) = (&text[..at], &text[at + THOUGHT.len()..]);
            // A thought that is written as data, in the form of some language, is none that a model writes.
            let is_data = before.trim_end().ends_with(['"', '\'']) || after.trim().is_empty();
            (!is_data).then(|| (before.to_owned(), after.to_owned()))
        };
        let thought = forms.into_iter().find_map(|reply| told(reply).and_then(cut));
        let mut facts = Facts { lead, thought, marks: Vec::new(), closings: Vec::new() };
        if let Some((before, after)) = &facts.thought {
            let lead = facts.lead.as_deref().unwrap_or_default();
            let open = before[alike(before, lead)..].trim().to_owned();
            let end = End::of(after);
            if !open.is_empty() && !end.mark.is_empty() {
                let blank = &before[before.trim_end().len()..];
                facts.closings.push(format!("{blank}{after}"));
                facts.marks.push((open, end.mark));
            }
        }
        for Marks { open, close, around } in &MARKS {
            let is_known = facts.marks.iter().any(|(known, _)| known == open);
            if self.template.source.contains(open) && !is_known {
                facts.marks.push(((*open).to_owned(), (*close).to_owned()));
                let [into, before, behind] = around;
                facts.closings.push(format!("{into}{before}{close}{behind}"));
            }
        }
        facts
    }

    /// What opens a thought, and how it ends, by the marks in wide use: where the template writes none of a reply's.
    fn usual(
        &self,
        tail: &str,
        with: &Facts,
        off: &Variables,
        without: &Facts,
        knows: &dyn Fn(&str) -> bool,
    ) -> Option<(String, End)> {
        let closed = self.tail(off).map(|tail| format!("{tail}{}", without.begins(&tail))).unwrap_or_default();
        let inside = with.open_at(tail).map(|at| with.marks[at].0.clone());
        let is_it = |marks: &&Marks| match &inside {
            Some(open) => open == marks.open,
            None => closed.contains(marks.open) || self.template.source.contains(marks.open),
        };
        let by_tokens = || MARKS.iter().find(|marks| knows(marks.open) && knows(marks.close));
        let Marks { open, close, around } = MARKS.iter().find(is_it).or_else(by_tokens)?;
        let [mut into, mut before, mut behind] = around.map(str::to_owned);
        // The template's own empty thought shows what stands around one.
        if let Some((_, rest)) = closed.rsplit_once(open)
            && let Some((between, rest)) = rest.split_once(close)
            && between.trim().is_empty()
        {
            let half = between.chars().count().div_ceil(2);
            into = between.chars().take(half).collect();
            before = between.chars().skip(half).collect();
            rest.clone_into(&mut behind);
        }
        Some((format!("{open}{into}"), End { mark: (*close).to_owned(), before, behind }))
    }
}

/// Whether a text has `word` as a whole word.
fn has_word(text: &str, word: &str) -> bool {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(is_part) && !text[at + word.len()..].starts_with(is_part))
}

#[cfg(test)]
mod tests;
