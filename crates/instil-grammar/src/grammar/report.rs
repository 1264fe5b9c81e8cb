//! How a schema is enforced, keyword by keyword: what `instil check` prints.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::expand::Expansion;
use super::node::Literal;
use super::schema::{Keyword, Schema, Schemas};
use super::shape::{NodeId, Shape, ShapeKind};
use super::{Program, Root, Source};

/// Nodes that are looked at to find out which keywords need guards.
const NODE_LIMIT: usize = 5_000;

/// How a keyword is enforced. What cannot be enforced is refused by [`Program::compile`] with its pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Enforcement {
    /// By the automaton, token by token: no dead ends.
    Automaton,
    /// At least in one place by a check of the finished value: a row may end as a reject, never as an
    /// invalid record.
    Guard,
    /// Says nothing about validity (in this dialect).
    Annotation,
}

/// One keyword of a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportEntry {
    /// JSON pointer of the keyword.
    pub pointer: String,
    /// Its name.
    pub keyword: String,
    /// How it is enforced.
    pub enforcement: Enforcement,
}

impl Program {
    /// Every keyword that is reachable from the root, in the order of the schema. Empty for sources that are no JSON
    /// Schema: regexes, choices and texts are held by the automaton as a whole.
    pub fn report(&self) -> Vec<ReportEntry> {
        let Source::Json(schemas) = &self.inner.source else { return Vec::new() };
        let guarded = self.guarded_keywords(schemas);
        let mut entries = Vec::new();
        for schema in &schemas.all[2..] {
            for &name in &schema.present {
                let guarded = guarded.contains(&(schema.pointer.as_str().into(), name.into()));
                let enforcement = if guarded { Enforcement::Guard } else { Enforcement::Automaton };
                entries.push(entry(schema, name, enforcement));
            }
            for name in &schema.ignored {
                entries.push(entry(schema, name, Enforcement::Annotation));
            }
        }
        entries
    }

    /// Pointer and name of the keywords that some reachable node checks on finished values.
    fn guarded_keywords(&self, schemas: &Schemas) -> BTreeSet<(Cow<'_, str>, Cow<'_, str>)> {
        let mut expansion = self.expand();
        let Root::Json(root) = expansion.root() else { return BTreeSet::new() };
        expansion.visit_all(root, NODE_LIMIT);
        let mut found = BTreeSet::new();
        let compared = |shape: &Shape| match &shape.kind {
            ShapeKind::Array(array) => {
                array.unique && array.values.is_empty() && array.max_items.is_none_or(|most| most > 1)
            }
            _ => false,
        };
        let compares = expansion.shapes.values().any(|shapes| shapes.iter().any(compared));
        let unique = |schema: &&Arc<Schema>| schema.keywords.iter().any(|keyword| matches!(keyword, Keyword::Unique));
        for schema in schemas.all.iter().filter(unique).filter(|_| compares) {
            // Each item is held against those before it when it is complete.
            found.insert((schema.pointer.clone().into(), "uniqueItems".into()));
        }
        for literal in expansion.guard_literals() {
            let schema = expansion.schema(literal.schema());
            if (literal.schema() as usize) < schemas.all.len() {
                if schema.keywords.iter().any(|keyword| matches!(keyword, Keyword::UnevaluatedProperties(_))) {
                    found.insert((schema.pointer.clone().into(), "unevaluatedProperties".into()));
                }
                if schema.keywords.iter().any(|keyword| matches!(keyword, Keyword::UnevaluatedItems(_))) {
                    found.insert((schema.pointer.clone().into(), "unevaluatedItems".into()));
                }
                // A whole branch is checked: what holds it is the keyword it stands under.
                let mut steps: Vec<&str> = schema.pointer.split('/').collect();
                let last = steps.pop().unwrap_or_default();
                let keyword = if last.bytes().all(|byte| byte.is_ascii_digit()) { steps.pop() } else { Some(last) };
                found.insert((steps.join("/").into(), keyword.unwrap_or_default().to_owned().into()));
            } else {
                for keyword in &schema.keywords {
                    for name in keyword.names() {
                        found.insert((schema.pointer.clone().into(), (*name).into()));
                    }
                }
            }
        }
        found
    }
}

fn entry(schema: &Schema, name: &str, enforcement: Enforcement) -> ReportEntry {
    let step = super::schema::pointer_step(name);
    ReportEntry { pointer: format!("{}/{step}", schema.pointer), keyword: name.to_owned(), enforcement }
}

impl Keyword {
    /// The spellings that may stand behind it.
    fn names(&self) -> &'static [&'static str] {
        match self {
            Self::Type(_) => &["type"],
            Self::Enum(_) => &["enum", "const"],
            Self::Number(_) => &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"],
            Self::Length(..) => &["minLength", "maxLength"],
            Self::Pattern(_) => &["pattern"],
            Self::Format(_) => &["format"],
            Self::Object(_) => &["properties", "patternProperties", "additionalProperties"],
            Self::Required(_) => &["required"],
            Self::Members(..) => &["minProperties", "maxProperties"],
            Self::PropertyNames(_) => &["propertyNames"],
            Self::DependentRequired(_) => &["dependentRequired", "dependencies"],
            Self::DependentSchemas(_) => &["dependentSchemas", "dependencies"],
            Self::Items(..) => &["items", "prefixItems", "additionalItems"],
            Self::ItemCount(..) => &["minItems", "maxItems"],
            Self::Unique => &["uniqueItems"],
            Self::Contains(..) => &["contains", "minContains", "maxContains"],
            Self::AllOf(_) => &["allOf"],
            Self::AnyOf(_) => &["anyOf"],
            Self::OneOf(_) => &["oneOf"],
            Self::Not(_) => &["not"],
            Self::If(..) => &["if", "then", "else"],
            Self::Ref(_) => &["$ref", "$dynamicRef", "$recursiveRef"],
            Self::UnevaluatedProperties(_) => &["unevaluatedProperties"],
            Self::UnevaluatedItems(_) => &["unevaluatedItems"],
        }
    }
}

impl Expansion {
    /// Works out the shapes of everything below a node, up to a number of nodes.
    pub fn visit_all(&mut self, root: NodeId, limit: usize) {
        let (mut queue, mut seen) = (vec![root], BTreeSet::from([root]));
        while let Some(node) = queue.pop() {
            let shapes = self.shapes(node);
            let mut next = Vec::new();
            for shape in shapes.iter() {
                match &shape.kind {
                    ShapeKind::Array(array) => {
                        next.extend(array.prefix.iter().copied().chain([array.items]));
                        for contains in &array.contains {
                            let nodes = [self.and(array.items, contains.node), self.and(array.items, contains.other)];
                            next.extend(nodes);
                        }
                    }
                    ShapeKind::Object(object) => {
                        next.extend(object.members.iter().map(|member| member.node));
                        next.extend(object.others.iter().map(|(_, node)| *node).chain(object.rest));
                    }
                    _ => {}
                }
            }
            for node in next {
                if seen.len() < limit && seen.insert(node) {
                    queue.push(node);
                }
            }
        }
    }

    fn guard_literals(&self) -> Vec<Literal> {
        let mut literals: Vec<Literal> = self.guards.iter().flat_map(|guard| guard.iter().copied()).collect();
        literals.sort_unstable();
        literals.dedup();
        literals
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grammar::{GrammarSource, Options};

    #[test]
    fn says_how_each_keyword_is_enforced() {
        let schema = serde_json::json!({
            "title": "t",
            "type": "object",
            "properties": {"a": {"type": "string", "format": "regex", "x-own": 1}, "b": {"format": "colour"}},
            "unevaluatedProperties": false
        });
        let program = Program::compile(&GrammarSource::JsonSchema(schema), &Options::default()).expect("satisfiable");
        let report = program.report();
        let how = |pointer: &str| {
            report.iter().find(|entry| entry.pointer == pointer).map(|entry| entry.enforcement).expect(pointer)
        };
        assert_eq!(how("/type"), Enforcement::Automaton);
        assert_eq!(how("/title"), Enforcement::Annotation);
        assert_eq!(how("/unevaluatedProperties"), Enforcement::Guard);
        assert_eq!(how("/properties/a/format"), Enforcement::Guard);
        assert_eq!(how("/properties/a/x-own"), Enforcement::Annotation);
        assert_eq!(how("/properties/b/format"), Enforcement::Annotation);
        assert_eq!(how("/properties/a/type"), Enforcement::Automaton);
    }
}
