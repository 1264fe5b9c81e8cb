//! Messages as data sets have them, read and written: texts, parts, calls of tools and what tools gave.
//!
//! Read are `role` and `content` (OpenAI's chat format, with `tool_calls` and `tool_call_id`) and ShareGPT's `from`
//! and `value`, where `function_call` is a call as JSON and `observation` what came of it.

use serde_json::{Map, Value, json};

use super::form::kind;
use super::{Role, Turn};

/// Names of what a message says of its thinking.
const REASONING: [&str; 3] = ["reasoning_content", "reasoning", "thinking"];
/// What a tool's message says beside its text.
const OF_TOOLS: [&str; 2] = ["tool_call_id", "name"];

/// The turns of a list of messages under `name`.
///
/// # Errors
/// The first message that cannot be read, by its place.
pub(super) fn turns(value: &Value, name: &str) -> Result<Vec<Turn>, String> {
    let turned = value.as_object().and_then(rows_of_columns);
    let Some(list) = turned.as_ref().or(value.as_array()) else {
        return Err(format!("`{name}` is {}, not a list", kind(value)));
    };
    if list.is_empty() {
        return Err(format!("`{name}` is empty"));
    }
    let read = |(at, message)| turn(message).map_err(|what| format!("{name}[{at}] {what}"));
    list.iter().enumerate().map(read).collect()
}

/// A list of messages that is stored by columns, as older `datasets` do: an object of lists of one length.
fn rows_of_columns(columns: &Map<String, Value>) -> Option<Vec<Value>> {
    let lists: Vec<(&String, &Vec<Value>)> =
        columns.iter().map(|(name, list)| Some((name, list.as_array()?))).collect::<Option<_>>()?;
    let length = lists.first()?.1.len();
    if lists.iter().any(|(_, list)| list.len() != length) {
        return None;
    }
    let row = |at: usize| lists.iter().map(|(name, list)| ((*name).clone(), list[at].clone())).collect();
    Some((0..length).map(|at| Value::Object(row(at))).collect())
}

fn turn(message: &Value) -> Result<Turn, String> {
    let either = |a: &str, b: &str| message.get(a).or_else(|| message.get(b));
    let named = either("role", "from").and_then(Value::as_str).ok_or("has no `role` or `from`")?;
    let role = Role::named(named).ok_or_else(|| format!("has the unknown role `{named}`"))?;
    let mut turn = Turn::new(role, String::new());
    let content = either("content", "value");
    if matches!(named, "function_call" | "tool_call") {
        let text = content.and_then(Value::as_str).ok_or_else(|| format!("is a {named} without a text"))?;
        let calls = serde_json::from_str(text).map_err(|cause| format!("is a {named} that is not JSON: {cause}"))?;
        turn.calls = match calls {
            Value::Array(calls) => calls.into_iter().map(call).collect(),
            one => vec![call(one)],
        };
    } else {
        let listed = message.get("tool_calls").and_then(Value::as_array).filter(|calls| !calls.is_empty());
        let older = message.get("function_call").filter(|call| call.is_object());
        turn.calls = match (listed, older) {
            (Some(calls), _) => calls.clone(),
            (None, Some(older)) => vec![call(older.clone())],
            (None, None) => Vec::new(),
        };
        match content {
            Some(Value::String(text)) => turn.text.clone_from(text),
            Some(Value::Array(parts)) => read_parts(parts, &mut turn)?,
            None | Some(Value::Null) if !turn.calls.is_empty() => {}
            None => return Err("has no `content` or `value`".into()),
            Some(other) => return Err(format!("has {} for a text", kind(other))),
        }
    }
    for (name, value) in message.as_object().into_iter().flatten().filter(|(_, value)| says_something(value)) {
        match name.as_str() {
            "role" | "from" | "content" | "value" | "tool_calls" | "function_call" => {}
            name if REASONING.contains(&name) && value.is_string() => {
                turn.reasoning = value.as_str().map(str::to_owned);
            }
            name if OF_TOOLS.contains(&name) && role == Role::Tool => {
                turn.of_tool.insert(name.to_owned(), value.clone());
            }
            name => turn.lost.push(format!("{name} of messages")),
        }
    }
    Ok(turn)
}

/// Whether a field holds anything.
pub(super) fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    }
}

/// A call of a tool as `tool_calls` has it.
fn call(function: Value) -> Value {
    json!({"type": "function", "function": function})
}

fn read_parts(parts: &[Value], turn: &mut Turn) -> Result<(), String> {
    let mut texts: Vec<&str> = Vec::new();
    for part in parts {
        match (part, part.get("type").and_then(Value::as_str), part.get("text").and_then(Value::as_str)) {
            (Value::String(text), ..) => texts.push(text),
            (_, None | Some("text"), Some(text)) => texts.push(text),
            (_, Some(kind), _) => turn.lost.push(format!("{} parts", kind.split('_').next().unwrap_or(kind))),
            _ => return Err("has a part that is neither a text nor says its type".into()),
        }
    }
    turn.text = texts.join("\n");
    Ok(())
}

/// Turns as `messages`.
pub(super) fn messages(said: &[Turn]) -> Value {
    let message = |turn: &Turn| {
        let mut message = Map::new();
        message.insert("role".into(), role_name(turn.role).into());
        message.insert("content".into(), turn.text.as_str().into());
        if let Some(reasoning) = &turn.reasoning {
            message.insert("reasoning_content".into(), reasoning.as_str().into());
        }
        if !turn.calls.is_empty() {
            message.insert("tool_calls".into(), Value::Array(turn.calls.clone()));
        }
        message.extend(turn.of_tool.clone());
        Value::Object(message)
    };
    said.iter().map(message).collect()
}

/// Turns as `conversations`.
///
/// # Errors
/// Why the form cannot say one.
pub(super) fn conversations(said: &[Turn]) -> Result<Value, &'static str> {
    let speech = |turn: &Turn| {
        if turn.calls.is_empty() {
            return Ok(json!({"from": speaker_name(turn.role), "value": turn.text}));
        }
        if !turn.text.is_empty() {
            return Err("a message has both a text and a call of a tool; use messages");
        }
        let mut calls: Vec<Value> = turn.calls.iter().map(function).collect();
        let calls = if calls.len() == 1 { calls.remove(0) } else { Value::Array(calls) };
        Ok(json!({"from": "function_call", "value": calls.to_string()}))
    };
    said.iter().map(speech).collect()
}

/// What a call calls: name and arguments, the latter as JSON where they are a text of it.
fn function(call: &Value) -> Value {
    let mut function = call.get("function").unwrap_or(call).clone();
    if let Some(arguments) = function.get_mut("arguments")
        && let Some(parsed) = arguments.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok())
    {
        *arguments = parsed;
    }
    function
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
        Role::Tool => "observation",
    }
}
