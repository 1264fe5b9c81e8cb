//! The forms of rows: how each names a prompt and an answer, and how one becomes another.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::preference::Preference;
use super::{Example, Role, Turn};
use crate::error::{Remedy, setting};
use crate::row::META;

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

/// The form of a row and what is said in it.
///
/// # Errors
/// What is wrong with a row that has the fields of a form, but not their content.
pub(crate) fn detect(fields: &Map<String, Value>, pair: &Pair) -> Result<(Form, Vec<Turn>), String> {
    if let (Some(prompt), Some(response)) = (&pair.prompt, &pair.response) {
        return Ok((Form::Plain, vec![turn(fields, prompt, Role::User)?, turn(fields, response, Role::Assistant)?]));
    }
    if let Some(found) = Preference::of(fields) {
        let Preference { is_list, prompt, chosen, .. } = found?;
        let form = if is_list { Form::PreferenceMessages } else { Form::Preference };
        return Ok((form, [prompt, chosen].concat()));
    }
    for (name, form) in
        [("messages", Form::Messages), ("conversations", Form::Sharegpt), ("conversation", Form::Sharegpt)]
    {
        if let Some(value) = fields.get(name) {
            return Ok((form, turns(value, name)?));
        }
    }
    if fields.contains_key("prompt") && fields.contains_key("completion") {
        return Ok((Form::PromptCompletion, prompt_completion(fields)?));
    }
    if fields.contains_key("instruction") && fields.contains_key("output") {
        return Ok((Form::Alpaca, alpaca(fields)?));
    }
    for (prompt, answer) in PLAIN_PAIRS {
        if fields.contains_key(prompt) && fields.contains_key(answer) {
            return Ok((Form::Plain, vec![turn(fields, prompt, Role::User)?, turn(fields, answer, Role::Assistant)?]));
        }
    }
    Ok((Form::Plain, Vec::new()))
}

pub(super) fn turn(fields: &Map<String, Value>, name: &str, role: Role) -> Result<Turn, String> {
    Ok(Turn { role, text: words_of(fields, name)?.to_owned() })
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

pub(super) fn turns(value: &Value, name: &str) -> Result<Vec<Turn>, String> {
    let list = value.as_array().ok_or_else(|| format!("`{name}` is {}, not a list", kind(value)))?;
    if list.is_empty() {
        return Err(format!("`{name}` is empty"));
    }
    list.iter()
        .enumerate()
        .map(|(at, message)| message_turn(message).map_err(|what| format!("{name}[{at}] {what}")))
        .collect()
}

fn message_turn(message: &Value) -> Result<Turn, String> {
    let either = |a: &str, b: &str| message.get(a).or_else(|| message.get(b));
    let role = either("role", "from").and_then(Value::as_str).ok_or("has no `role` or `from`")?;
    let role = Role::named(role).ok_or_else(|| format!("has the unknown role `{role}`"))?;
    let text = either("content", "value").ok_or("has no `content` or `value`")?;
    let text = text.as_str().ok_or_else(|| format!("has {} for a text", kind(text)))?;
    Ok(Turn { role, text: text.to_owned() })
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
    let optional = |name: &str| match fields.get(name) {
        None | Some(Value::Null) => Ok(""),
        Some(_) => words_of(fields, name),
    };
    let (system, input) = (optional("system")?, optional("input")?);
    let mut said = Vec::new();
    if !system.is_empty() {
        said.push(Turn { role: Role::System, text: system.to_owned() });
    }
    let instruction = words_of(fields, "instruction")?;
    let text = if input.is_empty() { instruction.to_owned() } else { format!("{instruction}\n\n{input}") };
    said.push(Turn { role: Role::User, text });
    said.push(turn(fields, "output", Role::Assistant)?);
    Ok(said)
}

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
    let list = |keys: (&str, &str), name: fn(Role) -> &'static str| listed(&example.turns, keys, name);
    let row = match form {
        Form::Messages => json!({ "messages": list(("role", "content"), role_name) }),
        Form::Sharegpt => json!({ "conversations": list(("from", "value"), speaker_name) }),
        Form::PromptCompletion => {
            let (prompt, answer) =
                example.exchange().ok_or("it is more than one prompt and one answer; use messages")?;
            json!({"prompt": prompt, "completion": answer})
        }
        Form::Preference | Form::PreferenceMessages => {
            let found = Preference::of(&example.fields).and_then(Result::ok).ok_or("it has no rejected answer")?;
            let messages = |said: &[Turn]| listed(said, ("role", "content"), role_name);
            if form == Form::PreferenceMessages {
                json!({"prompt": messages(&found.prompt), "chosen": messages(&found.chosen), "rejected": messages(&found.rejected)})
            } else {
                let [prompt, chosen, rejected] =
                    found.texts().ok_or("it is more than one prompt and one answer; use preference-messages")?;
                json!({"prompt": prompt, "chosen": chosen, "rejected": rejected})
            }
        }
        Form::Alpaca => {
            if example.form == Form::Alpaca && !example.fields.contains_key("system") {
                let of = |name: &str| example.fields.get(name).filter(|value| value.is_string()).cloned();
                let text = |name: &str| of(name).unwrap_or_else(|| "".into());
                json!({"instruction": text("instruction"), "input": text("input"), "output": text("output")})
            } else {
                let (prompt, answer) =
                    example.exchange().ok_or("it is more than one prompt and one answer; use messages or sharegpt")?;
                json!({"instruction": prompt, "input": "", "output": answer})
            }
        }
        Form::Plain => Value::Null,
    };
    match row {
        Value::Object(row) => Ok(row),
        _ => Err("it has no fields".into()),
    }
}

/// Turns as a list of objects.
fn listed(said: &[Turn], keys: (&str, &str), name: fn(Role) -> &'static str) -> Value {
    said.iter().map(|turn| json!({keys.0: name(turn.role), keys.1: turn.text})).collect()
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    }
}

fn speaker_name(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "human",
        Role::Assistant => "gpt",
        Role::Tool => "tool",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(fields: Value) -> Result<Example, String> {
        let fields = fields.as_object().expect("an object").clone();
        let (form, turns) = detect(&fields, &Pair::default())?;
        Ok(Example { line: 1, form, turns, fields })
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
        let (form, turns) = detect(fields.as_object().expect("an object"), &pair).expect("named");
        assert_eq!((form, turns.len()), (Form::Plain, 2));
        let missing = Pair { prompt: Some("x".into()), ..pair };
        assert!(detect(fields.as_object().expect("an object"), &missing).is_err_and(|what| what == "there is no `x`"));
    }
}
