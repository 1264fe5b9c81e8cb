//! The baseline back end: outlines-core's `Index`, a table of every DFA state over every token.
//!
//! Kept for comparison and for regexes. Its schema compiler ignores many keywords in silence; the
//! table here lists what it does enforce, and anything else is refused by keyword and pointer
//! before it is used. Its regexes follow its own dialect (Unicode `\d \w \s`, leftmost-first).

use std::sync::Arc;

use outlines_core::prelude::{Index, Vocabulary};
use serde_json::{Map, Value};

use super::Mask;
use super::backend::{Constraint, Enforcement, TextSession, refused};
use crate::error::{Error, Remedy, Result, setting};
use crate::grammar::GrammarSource;
use crate::vocab::{TokenId, Vocab};

/// `", "` and `": "` or none: one optional space.
const WHITESPACE: &str = "[ ]?";
/// References that outlines-core follows before it drops what they stand for.
const MOST_REFERENCES: usize = 3;

/// An index over a vocabulary.
pub(crate) struct OutlinesConstraint {
    index: Index,
    vocab: Arc<Vocab>,
    min_tokens: usize,
}

impl OutlinesConstraint {
    /// Compiles a grammar.
    ///
    /// # Errors
    /// When outlines-core would not enforce it, or cannot compile it.
    pub(crate) fn new(source: &GrammarSource, vocab: &Arc<Vocab>) -> Result<Arc<Self>> {
        let regex = match source {
            GrammarSource::JsonSchema(schema) => {
                if let Some((pointer, keyword)) = unsupported(schema).into_iter().next() {
                    return Err(refusal(pointer, &keyword));
                }
                outlines_core::json_schema::regex_from_value(schema, Some(WHITESPACE), Some(MOST_REFERENCES))
                    .map_err(|cause| Error::grammar("", cause.to_string(), own_engine("use ")))?
            }
            GrammarSource::Regex(regex) => regex.clone(),
            GrammarSource::Choice(texts) => {
                texts.iter().map(|text| format!("(?:{})", regex_syntax::escape(text))).collect::<Vec<_>>().join("|")
            }
            GrammarSource::Text(_) => {
                return Err(Error::grammar("", "free text is not enforced by outlines-core", own_engine("use ")));
            }
        };
        let index = Index::new(&regex, &vocabulary(vocab)?)
            .map_err(|cause| Error::grammar("", cause.to_string(), own_engine("simplify it, or use ")))?;
        let min_tokens = shortest(&index)
            .ok_or_else(|| Error::grammar("", "no text of this vocabulary satisfies it", "check the grammar"))?;
        Ok(Arc::new(Self { index, vocab: vocab.clone(), min_tokens }))
    }
}

/// One text under an index.
#[derive(Clone)]
struct OutlinesSession {
    constraint: Arc<OutlinesConstraint>,
    state: u32,
}

impl Constraint for Arc<OutlinesConstraint> {
    fn start(&self, max_tokens: Option<usize>) -> Result<Box<dyn TextSession>> {
        max_tokens.map_or(Ok(()), |limit| self.check_limit(limit))?;
        Ok(Box::new(OutlinesSession { state: self.index.initial_state(), constraint: self.clone() }))
    }

    fn min_tokens(&self) -> usize {
        self.min_tokens
    }
}

impl TextSession for OutlinesSession {
    fn mask(&mut self) -> Mask {
        let mut ids = self.constraint.index.allowed_tokens(&self.state).unwrap_or_default();
        if self.is_accepting() {
            ids.extend(self.constraint.vocab.eos());
        }
        Mask::from_ids(ids, self.constraint.vocab.len())
    }

    fn advance(&mut self, token: TokenId) -> Result<()> {
        match self.constraint.index.next_state(&self.state, &token) {
            Some(state) => {
                self.state = state;
                Ok(())
            }
            None => Err(refused(token)),
        }
    }

    fn forced(&mut self) -> Vec<TokenId> {
        Vec::new()
    }

    fn is_accepting(&mut self) -> bool {
        self.constraint.index.is_final_state(&self.state)
    }

    fn is_finished(&mut self) -> bool {
        let index = &self.constraint.index;
        let eos = index.allowed_tokens_iter(&self.state);
        index.is_final_state(&self.state) && eos.is_none_or(|mut ids| ids.all(|id| self.constraint.vocab.is_eos(*id)))
    }

    fn closed_by_budget(&self) -> bool {
        false
    }

    fn fork(&self) -> Box<dyn TextSession> {
        Box::new(self.clone())
    }
}

fn vocabulary(vocab: &Vocab) -> Result<Vocabulary> {
    let Some(&eos) = vocab.eos().first() else {
        return Err(Error::grammar("", "the vocabulary has no end-of-sequence token", "use another model"));
    };
    let mut vocabulary = Vocabulary::new(eos);
    for (id, bytes) in vocab.text_tokens() {
        // Only the end-of-sequence id is refused, and it is not a text token.
        let _ = vocabulary.try_insert(bytes, id);
    }
    Ok(vocabulary)
}

/// Fewest tokens to a final state, the end-of-sequence token included.
fn shortest(index: &Index) -> Option<usize> {
    let mut frontier = vec![index.initial_state()];
    let mut seen: std::collections::HashSet<u32> = frontier.iter().copied().collect();
    let mut tokens = 1;
    while !frontier.is_empty() {
        if frontier.iter().any(|state| index.is_final_state(state)) {
            return Some(tokens);
        }
        let nexts = frontier.iter().filter_map(|state| index.transitions().get(state)).flat_map(|row| row.values());
        frontier = nexts.copied().filter(|state| seen.insert(*state)).collect();
        tokens += 1;
    }
    None
}

fn own_engine(words: &str) -> Remedy {
    Remedy::from(words).set(setting::ENGINE, "instil")
}

fn refusal(pointer: String, keyword: &str) -> Error {
    Error::grammar(pointer, format!("`{keyword}` is not enforced by outlines-core"), own_engine("use "))
}

const ANNOTATIONS: &[&str] = &[
    "$schema",
    "$id",
    "id",
    "$comment",
    "title",
    "description",
    "default",
    "examples",
    "$defs",
    "definitions",
    "readOnly",
    "writeOnly",
    "deprecated",
];

/// Every `(pointer, keyword)` of a schema that outlines-core 0.2.14 does not enforce.
pub(crate) fn unsupported(schema: &Value) -> Vec<(String, String)> {
    let mut scan = Scan { root: schema, found: Vec::new() };
    scan.node(schema, "", 0);
    scan.found
}

/// How every keyword of a schema is enforced.
pub(crate) fn report(schema: &Value) -> Vec<Enforcement> {
    let refused = unsupported(schema);
    let mut all = Vec::new();
    keywords(schema, "", &mut all);
    let mut report: Vec<Enforcement> = all
        .into_iter()
        .map(|(pointer, keyword)| {
            let refused = refused.iter().any(|(at, _)| *at == pointer);
            let annotation = ANNOTATIONS.contains(&keyword.as_str());
            let how = if refused {
                "refused"
            } else if annotation {
                "annotation"
            } else {
                "automaton"
            };
            Enforcement { pointer, keyword, how, refused }
        })
        .collect();
    for (pointer, keyword) in refused {
        if !report.iter().any(|finding| finding.pointer == pointer) {
            report.push(Enforcement { pointer, keyword, how: "refused", refused: true });
        }
    }
    report
}

/// Every `(pointer, keyword)` of the schemas inside `node`.
fn keywords(node: &Value, pointer: &str, found: &mut Vec<(String, String)>) {
    let Some(schema) = node.as_object() else { return };
    let escape = |name: &str| name.replace('~', "~0").replace('/', "~1");
    for (keyword, value) in schema {
        let here = format!("{pointer}/{}", escape(keyword));
        found.push((here.clone(), keyword.clone()));
        match (keyword.as_str(), value) {
            ("properties" | "patternProperties" | "$defs" | "definitions", Value::Object(children)) => {
                children.iter().for_each(|(name, child)| keywords(child, &format!("{here}/{}", escape(name)), found));
            }
            ("anyOf" | "allOf" | "oneOf" | "prefixItems", Value::Array(children)) => {
                children.iter().zip(0..).for_each(|(child, index)| keywords(child, &format!("{here}/{index}"), found));
            }
            ("items" | "not" | "additionalProperties" | "contains" | "if" | "then" | "else", child) => {
                keywords(child, &here, found);
            }
            _ => {}
        }
    }
}

struct Scan<'a> {
    root: &'a Value,
    found: Vec<(String, String)>,
}

impl Scan<'_> {
    fn refuse(&mut self, pointer: &str, keyword: &str) {
        let escaped = keyword.replace('~', "~0").replace('/', "~1");
        self.found.push((format!("{pointer}/{escaped}"), keyword.to_owned()));
    }

    fn node(&mut self, node: &Value, pointer: &str, references: usize) {
        let Some(schema) = node.as_object() else {
            self.found.push((pointer.to_owned(), node.to_string()));
            return;
        };
        // outlines-core looks at one of these only, in this order, and ignores the rest.
        let leading = ["properties", "allOf", "anyOf", "oneOf", "prefixItems", "enum", "const", "$ref", "type"];
        let lead = leading.into_iter().find(|keyword| schema.contains_key(*keyword));
        let enforced: &[&str] = match lead {
            Some("properties") => &["properties", "required", "additionalProperties", "type"],
            Some("anyOf") => &["anyOf"],
            Some("prefixItems") => &["prefixItems", "type"],
            Some("enum") => &["enum", "type"],
            Some("const") => &["const", "type"],
            Some("$ref") => &["$ref"],
            Some("type") => {
                &["type", "minLength", "maxLength", "items", "minItems", "maxItems", "additionalProperties"]
            }
            _ => &[],
        };
        for keyword in schema.keys() {
            if !enforced.contains(&keyword.as_str()) && !ANNOTATIONS.contains(&keyword.as_str()) {
                self.refuse(pointer, keyword);
            }
        }
        match lead {
            Some("properties") => self.properties(schema, pointer, references),
            Some(keyword @ ("anyOf" | "prefixItems")) => {
                let branches = schema[keyword].as_array().map(Vec::as_slice).unwrap_or_default();
                for (index, branch) in branches.iter().enumerate() {
                    self.node(branch, &format!("{pointer}/{keyword}/{index}"), references);
                }
                if keyword == "prefixItems" && !is_type(schema, "array") {
                    self.refuse(pointer, keyword);
                }
            }
            // The type beside an enumeration is ignored.
            Some(keyword @ ("enum" | "const")) if schema.contains_key("type") => self.refuse(pointer, keyword),
            Some("$ref") => self.reference(schema, pointer, references),
            Some("type") => {
                if let Some(items) = schema.get("items") {
                    self.node(items, &format!("{pointer}/items"), references);
                }
                match schema.get("additionalProperties") {
                    None | Some(Value::Bool(true)) => {}
                    Some(values) => self.node(values, &format!("{pointer}/additionalProperties"), references),
                }
            }
            _ => {}
        }
    }

    fn properties(&mut self, schema: &Map<String, Value>, pointer: &str, references: usize) {
        let properties = schema.get("properties").and_then(Value::as_object);
        if !is_type(schema, "object") {
            self.refuse(pointer, "properties");
        }
        for (name, value) in properties.into_iter().flatten() {
            let name = name.replace('~', "~0").replace('/', "~1");
            self.node(value, &format!("{pointer}/properties/{name}"), references);
        }
        let required = schema.get("required").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let known = |name: &Value| name.as_str().is_some_and(|name| properties.is_some_and(|p| p.contains_key(name)));
        if !required.iter().all(known) {
            self.refuse(pointer, "required");
        }
    }

    fn reference(&mut self, schema: &Map<String, Value>, pointer: &str, references: usize) {
        let target = schema["$ref"].as_str().and_then(|target| target.strip_prefix('#'));
        let target = target.filter(|target| !target.contains(['~', '%'])).and_then(|target| self.root.pointer(target));
        match target {
            Some(target) if references < MOST_REFERENCES => {
                self.node(target, &format!("{pointer}/$ref"), references + 1);
            }
            _ => self.refuse(pointer, "$ref"),
        }
    }
}

fn is_type(schema: &Map<String, Value>, name: &str) -> bool {
    schema.get("type").and_then(Value::as_str) == Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_ignored_in_silence_is_refused_by_name_and_place() {
        let cases = [
            (json!({"type": "integer", "minimum": 3}), "/minimum"),
            (json!({"type": "object", "properties": {"a/b": {"not": {}}}}), "/properties/a~1b/not"),
            (json!({"allOf": [{"type": "string"}]}), "/allOf"),
            (json!({"type": "array", "items": {"type": "string", "pattern": "^a$"}}), "/items/pattern"),
            (json!({"type": "object", "properties": {"a": {"type": "null"}}, "required": ["b"]}), "/required"),
            (json!({"$ref": "#"}), "/$ref/$ref/$ref/$ref"),
            (json!({"type": "string", "enum": ["a"]}), "/enum"),
        ];
        for (schema, pointer) in cases {
            let found = unsupported(&schema);
            assert!(found.iter().any(|(at, _)| at == pointer), "{schema}: {found:?}");
        }
        let fine = json!({"type": "object", "properties": {"a": {"enum": [1, "x"]}}, "required": ["a"], "additionalProperties": false});
        assert_eq!(unsupported(&fine), []);
    }
}
