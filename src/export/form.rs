//! The forms of rows: how each names a prompt and an answer, and how one becomes another.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::message::{conversations, messages, says_something, turns};
use super::preference::Preference;
use super::{Example, Role, Turn};
use crate::error::{Remedy, setting};
use crate::row::{META, is_reserved};

/// A form of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// `instruction`, `input`, `output`.
    Alpaca,
    /// `conversations` of `from` and `value`.
    Sharegpt,
    /// `messages` of `role` and `content`.
    Messages,
    /// `prompt` and `completion`, both texts or both lists of messages.
    PromptCompletion,
    /// `prompt`, `chosen` and `rejected`, all texts.
    Preference,
    /// `prompt`, `chosen` and `rejected`, all lists of messages.
    PreferenceMessages,
    /// Fields as they are.
    Plain,
}

impl Form {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Alpaca => "alpaca",
            Self::Sharegpt => "sharegpt",
            Self::Messages => "messages",
            Self::PromptCompletion => "prompt-completion",
            Self::Preference => "preference",
            Self::PreferenceMessages => "preference-messages",
            Self::Plain => "plain",
        }
    }
}

/// Names of plain fields that are a prompt and its answer, the likeliest first.
const PLAIN_PAIRS: [(&str, &str); 8] = [
    ("instruction", "response"),
    ("instruction", "answer"),
    ("prompt", "response"),
    ("prompt", "answer"),
    ("question", "answer"),
    ("question", "response"),
    ("query", "response"),
    ("input", "output"),
];

/// Which fields of a plain row are the prompt and the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pair {
    /// The prompt; none to go by the usual names.
    pub prompt: Option<String>,
    /// The answer; none to go by the usual names.
    pub response: Option<String>,
}

/// Fields beside a question that belong to it: an input, or the passage that it is about.
const BESIDE: [&str; 2] = ["input", "context"];
/// Fields whose text may have such a passage beside it.
const ASKED: [&str; 3] = ["instruction", "question", "query"];

/// What a row says, and in which form.
#[derive(Debug)]
pub(crate) struct Said {
    /// The form.
    pub form: Form,
    /// What is said; empty where no field is known to be a prompt or an answer.
    pub turns: Vec<Turn>,
    /// The fields that say it.
    pub by: Vec<String>,
}

/// The form of a row and what is said in it.
///
/// # Errors
/// What is wrong with a row that has the fields of a form, but not their content.
pub(crate) fn detect(fields: &Map<String, Value>, pair: &Pair) -> Result<Said, String> {
    let mut said = form_of(fields, pair)?;
    // What a run's model thought stands in the notes of its row, by field.
    let reasoning = fields.get(META).and_then(|meta| meta.get("reasoning")).and_then(Value::as_object);
    if let Some(reasoning) = reasoning
        && let Some(answer) = said.turns.last_mut().filter(|turn| turn.role == Role::Assistant)
    {
        let of_answer = said.by.iter().rev().find_map(|field| reasoning.get(field)).or_else(|| reasoning.get("*"));
        answer.reasoning = of_answer.and_then(Value::as_str).map(str::to_owned).or(answer.reasoning.take());
    }
    Ok(said)
}

fn form_of(fields: &Map<String, Value>, pair: &Pair) -> Result<Said, String> {
    let said =
        |form, turns, by: &[&str]| Ok(Said { form, turns, by: by.iter().map(|name| (*name).to_owned()).collect() });
    if let (Some(prompt), Some(response)) = (&pair.prompt, &pair.response) {
        let turns = vec![turn(fields, prompt, Role::User)?, turn(fields, response, Role::Assistant)?];
        return said(Form::Plain, turns, &[prompt, response]);
    }
    if let Some(found) = Preference::of(fields) {
        let Preference { is_list, prompt, chosen, by, .. } = found?;
        let form = if is_list { Form::PreferenceMessages } else { Form::Preference };
        return Ok(Said { form, turns: [prompt, chosen].concat(), by });
    }
    for (name, form) in
        [("messages", Form::Messages), ("conversations", Form::Sharegpt), ("conversation", Form::Sharegpt)]
    {
        if let Some(value) = fields.get(name) {
            let mut said = turns(value, name)?;
            let mut by = vec![name.to_owned()];
            // A system message may stand beside the conversation.
            if let Some(system) = fields.get("system").and_then(Value::as_str).filter(|text| !text.is_empty())
                && said.first().is_some_and(|first| first.role != Role::System)
            {
                said.insert(0, Turn::new(Role::System, system.to_owned()));
                by.push("system".into());
            }
            return Ok(Said { form, turns: said, by });
        }
    }
    if fields.contains_key("prompt") && fields.contains_key("completion") {
        return said(Form::PromptCompletion, prompt_completion(fields)?, &["prompt", "completion"]);
    }
    if fields.contains_key("instruction") && fields.contains_key("output") {
        let by = ["instruction", "input", "context", "output", "system", "history"];
        return said(Form::Alpaca, alpaca(fields)?, &by);
    }
    for (prompt, answer) in PLAIN_PAIRS {
        if fields.contains_key(prompt) && fields.contains_key(answer) {
            let turns = vec![asked(fields, prompt)?, turn(fields, answer, Role::Assistant)?];
            let beside: &[&str] = if ASKED.contains(&prompt) { &BESIDE } else { &[] };
            return said(Form::Plain, turns, &[&[prompt, answer], beside].concat());
        }
    }
    said(Form::Plain, Vec::new(), &[])
}

pub(super) fn turn(fields: &Map<String, Value>, name: &str, role: Role) -> Result<Turn, String> {
    Ok(Turn::new(role, words_of(fields, name)?.to_owned()))
}

/// What is asked under `name`, with the input or the passage beside it.
pub(super) fn asked(fields: &Map<String, Value>, name: &str) -> Result<Turn, String> {
    let mut text = words_of(fields, name)?.to_owned();
    for beside in BESIDE.into_iter().filter(|_| ASKED.contains(&name)) {
        let passage = optional(fields, beside)?;
        if !passage.is_empty() {
            text = format!("{text}\n\n{passage}");
        }
    }
    Ok(Turn::new(Role::User, text))
}

/// A text that may be missing.
fn optional<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<&'a str, String> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(""),
        Some(_) => words_of(fields, name),
    }
}

pub(super) fn words_of<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<&'a str, String> {
    match fields.get(name) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(format!("`{name}` is {}, not a text", kind(other))),
        None => Err(format!("there is no `{name}`")),
    }
}

pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn prompt_completion(fields: &Map<String, Value>) -> Result<Vec<Turn>, String> {
    if fields.get("prompt").is_some_and(Value::is_array) {
        let mut said = turns(&fields["prompt"], "prompt")?;
        said.extend(turns(&fields["completion"], "completion")?);
        return Ok(said);
    }
    Ok(vec![turn(fields, "prompt", Role::User)?, turn(fields, "completion", Role::Assistant)?])
}

fn alpaca(fields: &Map<String, Value>) -> Result<Vec<Turn>, String> {
    let mut said = Vec::new();
    let system = optional(fields, "system")?;
    if !system.is_empty() {
        said.push(Turn::new(Role::System, system.to_owned()));
    }
    // Earlier exchanges, as LLaMA-Factory has them: pairs of texts.
    match fields.get("history") {
        None | Some(Value::Null) => {}
        Some(Value::Array(pairs)) => {
            for (at, pair) in pairs.iter().enumerate() {
                let text = |place: usize| pair.get(place).and_then(Value::as_str).map(str::to_owned);
                let (Some(asked), Some(answered)) = (text(0), text(1)) else {
                    return Err(format!("history[{at}] is not a pair of texts"));
                };
                said.extend([Turn::new(Role::User, asked), Turn::new(Role::Assistant, answered)]);
            }
        }
        Some(other) => return Err(format!("`history` is {}, not a list", kind(other))),
    }
    said.push(asked(fields, "instruction")?);
    said.push(turn(fields, "output", Role::Assistant)?);
    Ok(said)
}

/// What of an example a row of `form` cannot say, by field; fields of the program's own are not meant.
pub(crate) fn lost(example: &Example, form: Form) -> Vec<String> {
    if form == Form::Plain {
        return Vec::new();
    }
    let is_preference = matches!(form, Form::Preference | Form::PreferenceMessages);
    let carries_tools = matches!(form, Form::Messages | Form::Sharegpt);
    let is_kept = |name: &str| match name {
        "rejected" => is_preference,
        TOOLS => carries_tools,
        _ => example.said_by.iter().any(|by| by == name) || is_reserved(name),
    };
    let fields = example.fields.iter().filter(|(name, value)| says_something(value) && !is_kept(name));
    let mut lost: Vec<String> = fields.map(|(name, _)| name.clone()).collect();
    lost.extend(example.turns.iter().flat_map(|turn| turn.lost.clone()));
    let thinks = example.turns.iter().any(|turn| turn.reasoning.is_some());
    if thinks && !matches!(form, Form::Messages | Form::PreferenceMessages) {
        lost.push("reasoning_content of messages".into());
    }
    lost.sort();
    lost.dedup();
    lost
}

/// The field of the tools that a conversation may call.
const TOOLS: &str = "tools";

/// The row of `form` that says what the example says.
///
/// # Errors
/// Why the form cannot say it, and what helps.
pub(crate) fn row(example: &Example, form: Form) -> Result<Map<String, Value>, Remedy> {
    if form == Form::Plain {
        let mut fields = example.fields.clone();
        fields.remove(META);
        return Ok(fields);
    }
    if example.turns.is_empty() {
        let why = Remedy::from("no field is known to be a prompt or an answer; name them with ");
        return Err(why.name(setting::PROMPT_FIELD).and(" and ").name(setting::RESPONSE_FIELD));
    }
    if example.is_bad_answer() {
        return Err("its answer is marked as a bad one: `label` is false".into());
    }
    if example.turns.last().is_some_and(|last| last.role == Role::Assistant && last.is_empty()) {
        return Err("its answer is empty".into());
    }
    let tools = example.fields.get(TOOLS).filter(|tools| says_something(tools));
    let mut row = match form {
        Form::Messages => json!({ "messages": messages(&example.turns) }),
        Form::Sharegpt => json!({ "conversations": conversations(&example.turns)? }),
        Form::PromptCompletion => {
            let (prompt, answer) =
                example.exchange().ok_or("it is more than one prompt and one answer; use messages")?;
            json!({"prompt": prompt, "completion": answer})
        }
        Form::Preference | Form::PreferenceMessages => {
            let found = Preference::of(&example.fields).and_then(Result::ok).ok_or("it has no rejected answer")?;
            if form == Form::PreferenceMessages {
                json!({"prompt": messages(&found.prompt), "chosen": messages(&found.chosen), "rejected": messages(&found.rejected)})
            } else {
                let [prompt, chosen, rejected] =
                    found.texts().ok_or("it is more than one prompt and one answer; use preference-messages")?;
                json!({"prompt": prompt, "chosen": chosen, "rejected": rejected})
            }
        }
        Form::Alpaca => {
            let has = |name: &str| example.fields.contains_key(name);
            let has_input = has("instruction") && BESIDE.iter().any(|name| has(name));
            if example.form == Form::Alpaca || example.form == Form::Plain && has_input && example.exchange().is_some()
            {
                let text = |name: &str| example.fields.get(name).and_then(Value::as_str).unwrap_or_default();
                let inputs: Vec<&str> = BESIDE.iter().map(|name| text(name)).filter(|text| !text.is_empty()).collect();
                let answer = example.turns.last().map_or("", |last| &last.text);
                let mut row =
                    json!({"instruction": text("instruction"), "input": inputs.join("\n\n"), "output": answer});
                for name in ["system", "history"] {
                    if let Some(value) = example.fields.get(name).filter(|value| says_something(value)) {
                        row[name] = value.clone();
                    }
                }
                row
            } else {
                let (prompt, answer) =
                    example.exchange().ok_or("it is more than one prompt and one answer; use messages or sharegpt")?;
                json!({"instruction": prompt, "input": "", "output": answer})
            }
        }
        Form::Plain => Value::Null,
    };
    match (form, tools) {
        (Form::Messages, Some(tools)) => row[TOOLS] = tools.clone(),
        // There a text of JSON.
        (Form::Sharegpt, Some(tools)) => {
            row[TOOLS] = tools.as_str().map_or_else(|| tools.to_string(), str::to_owned).into();
        }
        _ => {}
    }
    match row {
        Value::Object(row) => Ok(row),
        _ => Err("it has no fields".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(fields: Value) -> Result<Example, String> {
        let fields = fields.as_object().expect("an object").clone();
        let Said { form, turns, by } = detect(&fields, &Pair::default())?;
        Ok(Example { line: 1, form, turns, said_by: by, fields })
    }

    fn shaped(fields: Value, form: Form) -> Value {
        row(&example(fields).expect("a known form"), form).map_or_else(|why| why.to_string().into(), Value::Object)
    }

    #[test]
    fn every_form_becomes_every_other() {
        let forms = [
            (Form::Alpaca, json!({"instruction": "Q", "input": "", "output": "A"})),
            (
                Form::Sharegpt,
                json!({"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]}),
            ),
            (
                Form::Messages,
                json!({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]}),
            ),
            (Form::PromptCompletion, json!({"prompt": "Q", "completion": "A"})),
        ];
        for (from, fields) in &forms {
            assert_eq!(example(fields.clone()).expect("known").form, *from);
            for (to, expected) in &forms {
                assert_eq!(shaped(fields.clone(), *to), *expected, "{from:?} to {to:?}");
            }
        }
        for plain in [json!({"instruction": "Q", "response": "A", "meta": {}}), json!({"question": "Q", "answer": "A"})]
        {
            assert_eq!(shaped(plain, Form::Messages), forms[2].1);
        }
        let conversational = json!({"prompt": [{"role": "user", "content": "Q"}], "completion": [{"role": "assistant", "content": "A"}]});
        assert_eq!(shaped(conversational, Form::Alpaca), forms[0].1);
    }

    #[test]
    fn preferences_keep_both_answers() {
        let message = |role: &str, text: &str| json!([{"role": role, "content": text}]);
        let plain = json!({"prompt": "Q", "chosen": "A", "rejected": "B"});
        let messages = json!({"prompt": message("user", "Q"), "chosen": message("assistant", "A"), "rejected": message("assistant", "B")});
        assert_eq!(example(plain.clone()).expect("known").form, Form::Preference);
        assert_eq!(example(messages.clone()).expect("known").form, Form::PreferenceMessages);
        for from in [&plain, &messages, &json!({"instruction": "Q", "response": "A", "rejected": "B", "meta": {}})] {
            assert_eq!(shaped(from.clone(), Form::Preference), plain);
            assert_eq!(shaped(from.clone(), Form::PreferenceMessages), messages);
            // Elsewhere the chosen answer is the answer.
            assert_eq!(shaped(from.clone(), Form::Alpaca), json!({"instruction": "Q", "input": "", "output": "A"}));
        }
        let alone = json!({"instruction": "Q", "response": "A"});
        assert_eq!(shaped(alone, Form::Preference), json!("it has no rejected answer"));
        let system = json!({"system": "S", "prompt": "Q", "chosen": "A", "rejected": "B"});
        assert!(
            shaped(system.clone(), Form::Preference).as_str().is_some_and(|why| why.contains("preference-messages"))
        );
        assert_eq!(shaped(system, Form::PreferenceMessages)["prompt"][0]["role"], "system");
    }

    #[test]
    fn input_and_system_are_kept() {
        let with_input = json!({"instruction": "Add.", "input": "1 and 2", "output": "3"});
        assert_eq!(shaped(with_input.clone(), Form::Alpaca), with_input);
        assert_eq!(shaped(with_input, Form::PromptCompletion)["prompt"], "Add.\n\n1 and 2");
        let system = json!({"instruction": "Q", "output": "A", "system": "S"});
        assert_eq!(shaped(system.clone(), Form::Messages)["messages"][0], json!({"role": "system", "content": "S"}));
        assert!(shaped(system, Form::PromptCompletion).as_str().is_some_and(|why| why.contains("use messages")));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (fields, part) in [
            (json!({"messages": []}), "`messages` is empty"),
            (json!({"messages": "hi"}), "`messages` is a text, not a list"),
            (
                json!({"messages": [{"role": "user", "content": "x"}, {"role": "assistant"}]}),
                "messages[1] has no `content`",
            ),
            (
                json!({"messages": [{"role": "narrator", "content": "x"}]}),
                "messages[0] has the unknown role `narrator`",
            ),
            (json!({"conversations": [{"from": "gpt", "value": 3}]}), "conversations[0] has a number for a text"),
            (json!({"instruction": "Q", "output": null}), "`output` is null"),
            (json!({"prompt": 1, "completion": "A"}), "`prompt` is a number"),
        ] {
            let error = example(fields).expect_err(part);
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(shaped(json!({"text": "x"}), Form::Plain), json!({"text": "x"}));
        assert!(shaped(json!({"text": "x"}), Form::Alpaca).as_str().is_some_and(|why| why.contains("`prompt_field`")));
    }

    #[test]
    fn named_fields_come_first() {
        let fields = json!({"messages": "not one", "q": "Q", "a": "A"});
        let pair = Pair { prompt: Some("q".into()), response: Some("a".into()) };
        let said = detect(fields.as_object().expect("an object"), &pair).expect("named");
        assert_eq!((said.form, said.turns.len()), (Form::Plain, 2));
        let missing = Pair { prompt: Some("x".into()), ..pair };
        assert!(detect(fields.as_object().expect("an object"), &missing).is_err_and(|what| what == "there is no `x`"));
    }
}
