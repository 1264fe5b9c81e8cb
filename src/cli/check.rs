//! `instil check`: how a schema is enforced, keyword by keyword; which rows break it.

use std::path::PathBuf;

use crate::container::{Row, Rows};
use crate::row::{META, is_reserved};
use crate::validator::Validator;
use crate::{Error, Result};
use clap::Args;
use instil_grammar::constraint::{Backend, Enforcement, enforcement};
use instil_grammar::grammar::{self, GrammarSource, Program};
use serde_json::{Value, json};

use super::console::{Answer, Console};
use super::cost;
use super::input::Input;
use super::options::{Engine, LayoutOptions, Style, read_schema, validator};

/// Violations printed for a person.
const VIOLATIONS_SHOWN: usize = 20;

/// Objects named that take no further members.
const CLOSED_SHOWN: usize = 8;

const EXAMPLES: &str = "\
Examples:
  instil check schema.json
  instil check schema.json --tokenizer tokenizer.json
  instil check schema.json rows.jsonl
  instil check schema.json rows.jsonl --json | jq .rows.invalid

A row may carry `id` and `meta` beside the schema's fields, as records.jsonl does; they are not judged
unless the schema names them.";

/// Say how a schema is enforced, and validate rows against it.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CheckArguments {
    /// A JSON Schema.
    schema: PathBuf,
    /// Rows to validate: one JSON value a line, or rows in any other container; `-` for stdin.
    rows: Option<PathBuf>,
    /// A folder of schemas that the schema refers to by their addresses; nothing is fetched.
    #[arg(long, value_name = "DIR")]
    retrieve: Option<PathBuf>,
    /// Constraint engine.
    #[arg(long, value_enum, default_value = "instil")]
    engine: Engine,
    /// Tell least tokens and costs over this tokenizer: a tokenizer.json or a GGUF file.
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// The same over the tokenizer of this model, if its files are here; nothing is fetched.
    #[arg(short, long, default_value = crate::catalog::DEFAULT_MODEL, env = "INSTIL_MODEL")]
    model: String,
    #[command(flatten)]
    layout: LayoutOptions,
}

/// A row that breaks the schema.
struct Broken {
    line: u64,
    pointer: String,
    what: String,
}

/// Keywords that assert something, but not in every draft, nor beside a `$ref` in the older ones.
const OF_SOME_DRAFTS: &[&str] = &[
    "$dynamicRef",
    "$recursiveRef",
    "additionalItems",
    "const",
    "contains",
    "dependentRequired",
    "dependentSchemas",
    "if",
    "maxContains",
    "minContains",
    "prefixItems",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
];
const OF_ALL_DRAFTS: &[&str] = &[
    "allOf",
    "anyOf",
    "enum",
    "items",
    "maximum",
    "minimum",
    "not",
    "oneOf",
    "pattern",
    "properties",
    "required",
    "type",
];

/// What to do about a keyword that asserts nothing, where people expect that it does.
fn hint(keyword: &str, how: &str) -> Option<&'static str> {
    match keyword {
        _ if how != "annotation" => None,
        "nullable" => Some("OpenAPI's, and nothing in JSON Schema; write \"null\" among the types"),
        "discriminator" => Some("OpenAPI's, and nothing in JSON Schema; give its property a `const` in each branch"),
        _ if OF_SOME_DRAFTS.contains(&keyword) => {
            Some("nothing in the draft of this schema, or beside its `$ref`; name a later draft in `$schema`")
        }
        _ if OF_ALL_DRAFTS.contains(&keyword) => {
            Some("nothing beside a `$ref` up to draft-07; name a later draft in `$schema`, or use `allOf`")
        }
        _ => None,
    }
}

/// Checks the schema, then the rows.
pub(super) fn run(arguments: &CheckArguments, _: &Console) -> Result<Answer> {
    let schema = read_schema(&arguments.schema, arguments.retrieve.as_deref())?;
    let validator = validator(&schema)?;
    arguments.layout.check(arguments.engine)?;
    let backend: Backend = arguments.engine.into();
    let findings = enforcement(&schema, backend)?;
    let (mut valid, mut broken) = (0usize, Vec::new());
    let input = arguments.rows.as_deref().map(Input::of).transpose()?;
    if let Some(path) = input.as_ref().map(Input::path) {
        let mut rows = Rows::open_values(path)?;
        while let Some(row) = rows.next()? {
            match check_row(&row, &schema, &validator) {
                Ok(()) => valid += 1,
                Err((pointer, what)) => broken.push(Broken { line: row.place, pointer, what: row.told(what) }),
            }
        }
    }
    let refused: Vec<_> = findings.iter().filter(|finding| finding.refused).collect();
    let has = |how: &str| findings.iter().any(|finding| finding.how == how);
    let class = match () {
        () if has("assumed") => cost::Class::Assumed,
        () if has("guard") => cost::Class::Guarded,
        () => cost::Class::Automaton,
    };
    let cost = match backend {
        Backend::Instil => match cost::vocabulary(arguments.tokenizer.as_deref(), &arguments.model)? {
            Some((name, vocab)) => Some(cost::measure(&schema, name, vocab, arguments.layout)?),
            None => None,
        },
        Backend::Outlines => None,
    };
    let closed = match (backend, arguments.layout.style) {
        (Backend::Instil, Style::Natural) => {
            let source = GrammarSource::JsonSchema(schema.clone());
            Program::compile(&source, &grammar::Options::default())?.closed()
        }
        _ => Vec::new(),
    };
    let keywords: Vec<Value> = findings
        .iter()
        .map(|f| {
            let hint = hint(&f.keyword, f.how);
            json!({"pointer": f.pointer, "keyword": f.keyword, "enforced_by": f.how, "refused": f.refused, "hint": hint})
        })
        .collect();
    let mut report = json!({ "schema": arguments.schema, "enforceable": refused.is_empty(), "keywords": keywords, "closed": closed });
    let width = findings.iter().map(|finding| finding.how.len()).max().unwrap_or(0);
    let line = |finding: &Enforcement| {
        let hint = hint(&finding.keyword, finding.how).map_or(String::new(), |hint| format!(": {hint}"));
        format!("{:width$}  {}{hint}", finding.how, finding.pointer)
    };
    let mut lines: Vec<String> = findings.iter().map(line).collect();
    if !closed.is_empty() {
        let shown: Vec<&str> =
            closed.iter().take(CLOSED_SHOWN).map(|pointer| if pointer.is_empty() { "/" } else { pointer }).collect();
        let more = closed.len().saturating_sub(CLOSED_SHOWN);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        lines.push(format!(
            "closed      {}{more}: members beyond those named are valid and not made; say `additionalProperties`, or \
             use --style any",
            shown.join(", ")
        ));
    }
    match &cost {
        Some(cost) => lines.extend(cost.lines(class)),
        None if backend == Backend::Instil => lines.push(format!(
            "the files of {} are not here, so least tokens and costs are not told; give --tokenizer FILE",
            arguments.model
        )),
        None => {}
    }
    if let Some(path) = &arguments.rows {
        let invalid: Vec<Value> =
            broken.iter().map(|row| json!({"line": row.line, "pointer": row.pointer, "what": row.what})).collect();
        report["rows"] = json!({"file": path, "valid": valid, "invalid": invalid});
        for row in broken.iter().take(VIOLATIONS_SHOWN) {
            let place = if row.pointer.is_empty() { "row" } else { &row.pointer };
            lines.push(format!("line {}: {place}: {}", row.line, row.what));
        }
        if broken.len() > VIOLATIONS_SHOWN {
            lines.push(format!("… and {} more", broken.len() - VIOLATIONS_SHOWN));
        }
        lines.push(format!("{valid} rows valid, {} invalid", broken.len()));
    }
    if let Some(cost) = &cost {
        report["cost"] = cost.json(class);
    }
    let verdict = if let Some(first) = refused.first() {
        Err(Error::grammar(
            &first.pointer,
            format!("`{}` cannot be enforced ({} such in all)", first.keyword, refused.len()),
            "remove it, or use another --engine",
        ))
    } else if let (Some(path), Some(first)) = (&arguments.rows, broken.first()) {
        let all = broken.len() + valid;
        let what = format!("{} of {all} rows break the schema, the first on line {}", broken.len(), first.line);
        Err(Error::input(path, what, "mend or drop these rows"))
    } else {
        Ok(())
    };
    Ok(Answer::data(lines.join("\n") + "\n", &report).ending(verdict))
}

fn check_row(row: &Row, schema: &Value, validator: &Validator) -> Result<(), (String, String)> {
    let value = without_bookkeeping(row.content.value().map_err(|what| (String::new(), what))?, schema);
    match validator.violations(&value).into_iter().next() {
        None => Ok(()),
        Some(violation) => Err((violation.pointer, violation.what)),
    }
}

/// The row as the schema sees it: a record's own `id` and `meta` are taken off where the schema does
/// not name them.
fn without_bookkeeping(mut value: Value, schema: &Value) -> Value {
    let named = |name: &str| schema.get("properties").is_some_and(|properties| properties.get(name).is_some());
    if let Some(fields) = value.as_object_mut()
        && fields.contains_key(META)
    {
        fields.retain(|key, _| named(key) || !is_reserved(key));
    }
    value
}
