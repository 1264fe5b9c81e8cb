//! What templates mean beyond the engine: values written as Python writes them, and the methods, filters and tests of
//! Python's Jinja in the sandbox of the transformers library. Each pays in steps for the bytes and items that it reads.

use minijinja::value::{Kwargs, ObjectRepr, Rest, Tuple, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value};
use minijinja_contrib::pycompat;

/// Deepest nesting of a value that is kept or written.
const MOST_DEPTH: usize = 100;
/// Widest field of a format, in characters.
const MOST_WIDTH: usize = 100_000;
/// Bytes that a step pays for.
const BYTES_PER_STEP: usize = 64;

/// Everything, for templates that are to mean what they mean in Python.
pub(super) fn add_to(environment: &mut Environment<'static>) {
    add_bounds_to(environment);
    environment.set_formatter(|out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value| {
        Ok(out.write_str(&text_of(state, value)?)?)
    });
    environment.add_filter("tojson", to_json);
    environment.add_filter("wordcount", wordcount);
    environment.add_filter("truncate", truncate);
    environment.add_filter("center", |state: &State, text: &str, width: Option<usize>| {
        padded(state, text, width.unwrap_or(80), ' ', Side::Both)
    });
    environment.add_filter("string", |state: &State, value: &Value| text_of(state, value));
    environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
    environment.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::String | ValueKind::Undefined)
    });
    environment.add_test("callable", |value: &Value| {
        value.as_object().is_some_and(|object| object.repr() == ObjectRepr::Plain)
    });
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> { Err(wrong(message)) });
}

/// What holds templates to their bounds, for all of them.
pub(super) fn add_bounds_to(environment: &mut Environment<'static>) {
    environment.set_formatter(|out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value| {
        measure(state, value, 0)?;
        minijinja::escape_formatter(out, state, value)
    });
    environment.add_filter("_kept", kept);
    environment.add_filter("_measured", |state: &State, value: Value| measure(state, &value, 0).map(|()| value));
    environment.add_filter("_percent", percent);
    environment.add_filter("format", |state: &State, format: &str, values: Rest<Value>| {
        check_widths(format)?;
        state.consume_fuel(cost(format.len()))?;
        minijinja::formatting::format(minijinja::formatting::FormatStyle::Printf, format, &values)
    });
    environment.set_unknown_method_callback(method);
}

fn wrong(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.into())
}

fn cost(bytes: usize) -> u64 {
    (bytes / BYTES_PER_STEP) as u64 + 1
}

/// Whether a value is a namespace, the one kind that changes.
fn is_namespace(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.type_name().ends_with("::Namespace"))
}

/// Pays for everything in a value, and refuses one that nests too deep.
fn measure(state: &State, value: &Value, depth: usize) -> Result<(), Error> {
    if depth > MOST_DEPTH {
        return Err(wrong(format!("a value nests deeper than {MOST_DEPTH} levels")));
    }
    state.consume_fuel(value.as_str().map_or(1, |text| cost(text.len())))?;
    if !matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::Iterable) {
        return Ok(());
    }
    for item in value.try_iter()?.checked() {
        let item = item?;
        if value.kind() == ValueKind::Map {
            measure(state, &value.get_item(&item)?, depth + 1)?;
        }
        measure(state, &item, depth + 1)?;
    }
    Ok(())
}

/// What a namespace is to keep: nothing that could come to hold itself, and nothing that nests ever deeper.
fn kept(state: &State, value: Value) -> Result<Value, Error> {
    fn holds_one(value: &Value) -> bool {
        let nests = matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::Iterable);
        let inner = |item: Value| {
            holds_one(&item) || (value.kind() == ValueKind::Map && value.get_item(&item).is_ok_and(|it| holds_one(&it)))
        };
        is_namespace(value) || (nests && value.try_iter().is_ok_and(|mut items| items.any(inner)))
    }
    if is_namespace(&value) {
        return Err(wrong("a namespace cannot hold a namespace"));
    }
    measure(state, &value, 0)?;
    if holds_one(&value) {
        return Err(wrong("a namespace cannot hold a namespace"));
    }
    Ok(value)
}

/// `format % values`.
fn percent(state: &State, format: Value, values: Value) -> Result<Value, Error> {
    let Some(text) = format.as_str() else { return Err(wrong("only a text can be a format")) };
    check_widths(text)?;
    state.consume_fuel(cost(text.len()))?;
    measure(state, &values, 0)?;
    let list: Vec<Value> =
        if values.is_tuple() { values.try_iter()?.checked().collect::<Result<_, _>>()? } else { vec![values] };
    minijinja::formatting::format(minijinja::formatting::FormatStyle::Printf, text, &list).map(Value::from)
}

/// Refuses a format that asks for a field wider than any text needs.
fn check_widths(format: &str) -> Result<(), Error> {
    let numbers = format.split(|character: char| !character.is_ascii_digit()).filter(|digits| !digits.is_empty());
    for digits in numbers {
        if digits.trim_start_matches('0').len() > 6 || digits.parse().is_ok_and(|width: usize| width > MOST_WIDTH) {
            return Err(wrong(format!("a format is wider than {MOST_WIDTH} characters")));
        }
    }
    Ok(())
}

/// A value as `str` gives it.
fn text_of(state: &State, value: &Value) -> Result<String, Error> {
    match value.as_str() {
        Some(text) => {
            state.consume_fuel(cost(text.len()))?;
            Ok(text.to_owned())
        }
        None => {
            let mut out = String::new();
            write_value(state, value, &mut out, 0)?;
            Ok(out)
        }
    }
}

/// A value as `repr` gives it.
fn write_value(state: &State, value: &Value, out: &mut String, depth: usize) -> Result<(), Error> {
    if depth > MOST_DEPTH {
        return Err(wrong(format!("a value nests deeper than {MOST_DEPTH} levels")));
    }
    let before = out.len();
    let list = |open: &str, close: &str, out: &mut String| -> Result<(), Error> {
        out.push_str(open);
        for (index, item) in value.try_iter()?.checked().enumerate() {
            if index > 0 {
                out.push_str(", ");
            }
            let item = item?;
            write_value(state, &item, out, depth + 1)?;
            if value.kind() == ValueKind::Map {
                out.push_str(": ");
                write_value(state, &value.get_item(&item)?, out, depth + 1)?;
            }
        }
        if value.is_tuple() && value.len() == Some(1) {
            out.push(',');
        }
        out.push_str(close);
        Ok(())
    };
    match value.kind() {
        ValueKind::Undefined if depth > 0 => out.push_str("Undefined"),
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::String => write_quoted(value.as_str().unwrap_or_default(), out),
        ValueKind::Map if is_namespace(value) => list("<Namespace {", "}>", out)?,
        ValueKind::Map => list("{", "}", out)?,
        ValueKind::Seq | ValueKind::Iterable if value.is_tuple() => list("(", ")", out)?,
        ValueKind::Seq | ValueKind::Iterable => list("[", "]", out)?,
        ValueKind::Number => out.push_str(&number(value)),
        _ => out.push_str(&value.to_string()),
    }
    state.consume_fuel(cost(out.len() - before))
}

/// A text in quotes, as Python writes it.
fn write_quoted(text: &str, out: &mut String) {
    use std::fmt::Write;
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for character in text.chars() {
        let written = match character {
            '\n' => out.write_str("\\n"),
            '\r' => out.write_str("\\r"),
            '\t' => out.write_str("\\t"),
            '\\' => out.write_str("\\\\"),
            _ if character == quote => write!(out, "\\{quote}"),
            _ if character.is_control() || character == '\u{ad}' => write!(out, "\\x{:02x}", u32::from(character)),
            _ => out.write_char(character),
        };
        written.expect("a text can always grow");
    }
    out.push(quote);
}

/// How `json.dumps` lays a text out.
struct Layout {
    ascii: bool,
    indent: Option<String>,
    /// Between items, and between a key and its value.
    separators: (String, String),
    sorted: bool,
}

/// `tojson` as transformers has it: `json.dumps` with `ensure_ascii=False`, and no HTML escapes.
fn to_json(state: &State, value: &Value, arguments: Rest<Value>, options: Kwargs) -> Result<Value, Error> {
    let positional = arguments.0;
    let of = |index: usize, name: &str| -> Result<Option<Value>, Error> {
        let named: Option<Value> = options.get(name)?;
        Ok(named.or_else(|| positional.get(index).cloned()).filter(|value| !value.is_none()))
    };
    let ascii = of(0, "ensure_ascii")?.is_some_and(|value| value.is_true());
    let indent = match of(1, "indent")? {
        None => None,
        Some(indent) => Some(match (indent.as_str(), indent.as_usize()) {
            (Some(text), _) => text.to_owned(),
            (None, Some(width)) if width <= MOST_WIDTH => " ".repeat(width),
            (None, None) if indent.as_i64().is_some() => String::new(),
            _ => return Err(wrong("the indent of tojson is no number of spaces")),
        }),
    };
    let separators = match of(2, "separators")? {
        None => (if indent.is_some() { ",".into() } else { ", ".into() }, ": ".into()),
        Some(pair) => match (pair.get_item_by_index(0)?.as_str(), pair.get_item_by_index(1)?.as_str()) {
            (Some(item), Some(key)) if pair.len() == Some(2) => (item.to_owned(), key.to_owned()),
            _ => return Err(wrong("separators of tojson are two texts")),
        },
    };
    let sorted = of(3, "sort_keys")?.is_some_and(|value| value.is_true());
    options.assert_all_used()?;
    let mut out = String::new();
    write_json(state, value, &Layout { ascii, indent, separators, sorted }, &mut out, 0)?;
    Ok(Value::from(out))
}

fn write_json(state: &State, value: &Value, layout: &Layout, out: &mut String, depth: usize) -> Result<(), Error> {
    if depth > MOST_DEPTH {
        return Err(wrong(format!("a value nests deeper than {MOST_DEPTH} levels")));
    }
    state.consume_fuel(1)?;
    let line = |out: &mut String, depth: usize| -> Result<(), Error> {
        if let Some(indent) = &layout.indent {
            state.consume_fuel(cost(indent.len() * depth))?;
            out.push('\n');
            (0..depth).for_each(|_| out.push_str(indent));
        }
        Ok(())
    };
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push_str(&json_number(value)),
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            state.consume_fuel(cost(text.len()))?;
            write_json_text(text, layout.ascii, out);
        }
        ValueKind::Map if !is_namespace(value) => {
            let mut keys: Vec<Value> = value.try_iter()?.checked().collect::<Result<_, _>>()?;
            if layout.sorted {
                keys.sort();
            }
            out.push('{');
            for (index, key) in keys.iter().enumerate() {
                if index > 0 {
                    out.push_str(&layout.separators.0);
                }
                line(out, depth + 1)?;
                let written = match key.kind() {
                    ValueKind::None => "null".to_owned(),
                    ValueKind::Bool => if key.is_true() { "true" } else { "false" }.to_owned(),
                    ValueKind::Number => json_number(key),
                    ValueKind::String => key.as_str().unwrap_or_default().to_owned(),
                    _ => return Err(wrong("keys of JSON are texts")),
                };
                write_json_text(&written, layout.ascii, out);
                out.push_str(&layout.separators.1);
                write_json(state, &value.get_item(key)?, layout, out, depth + 1)?;
            }
            if !keys.is_empty() {
                line(out, depth)?;
            }
            out.push('}');
        }
        ValueKind::Seq | ValueKind::Iterable => {
            out.push('[');
            let mut is_empty = true;
            for item in value.try_iter()?.checked() {
                if !is_empty {
                    out.push_str(&layout.separators.0);
                }
                is_empty = false;
                line(out, depth + 1)?;
                write_json(state, &item?, layout, out, depth + 1)?;
            }
            if !is_empty {
                line(out, depth)?;
            }
            out.push(']');
        }
        _ => return Err(wrong(format!("a value of the kind {} cannot be written as JSON", value.kind()))),
    }
    Ok(())
}

/// A number as Python writes it.
fn number(value: &Value) -> String {
    let text = value.to_string();
    let Ok(float) = f64::try_from(value.clone()) else { return text };
    let scientific = format!("{float:e}");
    match scientific.split_once('e').and_then(|(digits, power)| Some((digits, power.parse::<i32>().ok()?))) {
        Some((digits, power)) if !value.is_integer() && !(-4..16).contains(&power) => {
            let sign = if power < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", power.abs())
        }
        _ => text,
    }
}

/// A number as `json.dumps` writes it.
fn json_number(value: &Value) -> String {
    match number(value).as_str() {
        "nan" => "NaN".into(),
        "inf" => "Infinity".into(),
        "-inf" => "-Infinity".into(),
        text => text.into(),
    }
}

fn write_json_text(text: &str, ascii: bool, out: &mut String) {
    use std::fmt::Write;
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            _ if character < ' ' || (ascii && character > '~') => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}").expect("a text can always grow");
                }
            }
            _ => out.push(character),
        }
    }
    out.push('"');
}

fn wordcount(state: &State, text: &str) -> Result<usize, Error> {
    state.consume_fuel(cost(text.len()))?;
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    Ok(text.split(|character| !is_word(character)).filter(|word| !word.is_empty()).count())
}

/// `truncate(length=255, killwords=False, end='...', leeway=5)`.
fn truncate(state: &State, text: &str, arguments: Rest<Value>, options: Kwargs) -> Result<String, Error> {
    state.consume_fuel(cost(text.len()))?;
    let positional = arguments.0;
    let of = |index: usize, name: &str| -> Result<Option<Value>, Error> {
        let named: Option<Value> = options.get(name)?;
        Ok(named.or_else(|| positional.get(index).cloned()).filter(|value| !value.is_none()))
    };
    let number = |value: Option<Value>, usual: usize| match value {
        None => Ok(usual),
        Some(value) => value.as_usize().ok_or_else(|| wrong("truncate takes numbers")),
    };
    let (length, leeway) = (number(of(0, "length")?, 255)?, number(of(3, "leeway")?, 5)?);
    let kills = of(1, "killwords")?.is_some_and(|value| value.is_true());
    let end = of(2, "end")?.map_or_else(|| "...".to_owned(), |value| value.to_string());
    options.assert_all_used()?;
    let Some(room) = length.checked_sub(end.chars().count()) else {
        return Err(wrong(format!("truncate to {length} has no room for its end")));
    };
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(text.to_owned());
    }
    let cut: String = text.chars().take(room).collect();
    let kept = if kills { cut.as_str() } else { cut.rsplit_once(' ').map_or(cut.as_str(), |(before, _)| before) };
    Ok(format!("{kept}{end}"))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
    Both,
}

/// A text with `fill` on a side, up to `width` characters.
fn padded(state: &State, text: &str, width: usize, fill: char, side: Side) -> Result<Value, Error> {
    if width > MOST_WIDTH {
        return Err(wrong(format!("a text is to be wider than {MOST_WIDTH} characters")));
    }
    state.consume_fuel(cost(width + text.len()))?;
    let missing = width.saturating_sub(text.chars().count());
    let left = match side {
        Side::Left => missing,
        Side::Right => 0,
        // As Python centres: of an odd rest the left side has the more when the width is odd.
        Side::Both => missing / 2 + (missing & width & 1),
    };
    let fill = |count: usize| fill.to_string().repeat(count);
    Ok(Value::from(format!("{}{text}{}", fill(left), fill(missing - left))))
}

/// Methods of Python's texts, lists and maps.
fn method(state: &mut State<'_, '_>, value: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    let bytes = |value: &Value| value.as_str().map_or(0, str::len);
    state.consume_fuel(cost(bytes(value) + arguments.iter().map(bytes).sum::<usize>()))?;
    if let Some(text) = value.as_str()
        && let Some(found) = text_method(state, text, name, arguments)?
    {
        return Ok(found);
    }
    match (value.kind(), name) {
        (ValueKind::Seq, "index") => {
            let (wanted,): (&Value,) = from_args(arguments)?;
            for (index, item) in value.try_iter()?.checked().enumerate() {
                state.consume_fuel(1)?;
                if item? == *wanted {
                    return Ok(Value::from(index));
                }
            }
            Err(wrong("the value is not in the list"))
        }
        (ValueKind::Seq | ValueKind::Map, "copy") => {
            let () = from_args(arguments)?;
            Ok(value.clone())
        }
        (ValueKind::Seq, "count") => {
            measure(state, value, 0)?;
            pycompat::unknown_method_callback(state, value, name, arguments)
        }
        _ => pycompat::unknown_method_callback(state, value, name, arguments),
    }
}

/// Methods of texts that the engine lacks, or does not bound.
fn text_method(state: &State, text: &str, name: &str, arguments: &[Value]) -> Result<Option<Value>, Error> {
    let three = |a: &str, b: &str, c: &str| Value::from(Tuple::from([a, b, c].map(Value::from)));
    let place = |at: Option<usize>| at.map(|at| text[..at].chars().count());
    let pad = |side: Side| -> Result<Option<Value>, Error> {
        let (width, fill): (usize, Option<char>) = from_args(arguments)?;
        padded(state, text, width, fill.unwrap_or(' '), side).map(Some)
    };
    let found = match name {
        "format" => {
            check_widths(text)?;
            return Ok(None);
        }
        "join" => {
            let (values,): (&Value,) = from_args(arguments)?;
            let mut out = String::new();
            for (index, value) in values.try_iter()?.checked().enumerate() {
                let value = value?;
                let Some(part) = value.as_str() else { return Err(wrong("`join` joins texts alone")) };
                state.consume_fuel(cost(part.len() + text.len()))?;
                if index > 0 {
                    out.push_str(text);
                }
                out.push_str(part);
            }
            Value::from(out)
        }
        "partition" => {
            let (by,): (&str,) = from_args(arguments)?;
            text.split_once(by).map_or_else(|| three(text, "", ""), |(before, after)| three(before, by, after))
        }
        "rpartition" => {
            let (by,): (&str,) = from_args(arguments)?;
            text.rsplit_once(by).map_or_else(|| three("", "", text), |(before, after)| three(before, by, after))
        }
        "index" | "rindex" => {
            let (wanted,): (&str,) = from_args(arguments)?;
            let at = if name == "index" { text.find(wanted) } else { text.rfind(wanted) };
            Value::from(place(at).ok_or_else(|| wrong("substring not found"))?)
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(arguments)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(arguments)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "rsplit" => {
            let (by, most): (Option<&str>, Option<i64>) = from_args(arguments)?;
            let most =
                most.and_then(|most| usize::try_from(most).ok()).map_or(usize::MAX, |most| most.saturating_add(1));
            let mut parts: Vec<&str> = match by {
                Some("") => return Err(wrong("empty separator")),
                Some(by) => text.rsplitn(most, by).collect(),
                None => {
                    let mut parts = Vec::new();
                    let mut rest = text.trim();
                    while !rest.is_empty() {
                        let cut = rest.rfind(char::is_whitespace).filter(|_| parts.len() + 1 < most);
                        let (before, part) = match cut {
                            Some(at) => (rest[..at].trim_end(), rest[at..].trim_start()),
                            None => ("", rest),
                        };
                        parts.push(part);
                        rest = before;
                    }
                    parts
                }
            };
            parts.reverse();
            state.consume_fuel(parts.len() as u64)?;
            parts.into_iter().map(Value::from).collect()
        }
        "ljust" => return pad(Side::Right),
        "rjust" => return pad(Side::Left),
        "center" => return pad(Side::Both),
        "zfill" => {
            let (width,): (usize,) = from_args(arguments)?;
            let sign = text.len() - text.trim_start_matches(['+', '-']).len();
            let (sign, digits) = text.split_at(sign.min(1));
            let rest = padded(state, digits, width.saturating_sub(sign.len()), '0', Side::Left)?;
            Value::from(format!("{sign}{rest}"))
        }
        "swapcase" => Value::from(text.chars().fold(String::new(), |mut out, character| {
            if character.is_uppercase() {
                out.extend(character.to_lowercase());
            } else {
                out.extend(character.to_uppercase());
            }
            out
        })),
        "casefold" => Value::from(text.to_lowercase().replace('ß', "ss")),
        "isdecimal" => Value::from(!text.is_empty() && text.chars().all(|character| character.is_ascii_digit())),
        _ => return Ok(None),
    };
    Ok(Some(found))
}
