//! How a schema is enforced, keyword by keyword: what `instil check` prints.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::expand::Expansion;
use super::keyword::Keyword;
use super::node::Signed;
use super::schema::{Schema, Schemas};
use super::shape::{NodeId, Shape, ShapeKind};
use super::{Program, Root, Source};

/// Nodes that are looked at to find out which keywords need guards.
const NODE_LIMIT: usize = 5_000;
/// Expressions of one language that are looked at to find out whether an answer about it is assumed.
const LANGUAGE_LIMIT: usize = 256;
/// The same of all languages together; past this only where each of them starts is looked at.
const ALL_LANGUAGES_LIMIT: usize = 1 << 14;

/// How a keyword is enforced. What cannot be enforced is refused by [`Program::compile`] with its pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Enforcement {
    /// By the automaton, token by token: no dead ends.
    Automaton,
    /// By the automaton, but somewhere the search whether a text can still be completed was given up and a completion
    /// assumed: a row may come to a dead end, never to an invalid record.
    Assumed,
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
        let mut expansion = self.expand();
        let nodes = expansion.visit_root();
        let guarded = expansion.guarded_keywords(schemas);
        let assumed = expansion.assumed_keywords(&nodes);
        let mut entries = Vec::new();
        for schema in &schemas.all[2..] {
            for name in &schema.present {
                let key = (schema.pointer.as_str().into(), (&**name).into());
                let enforcement = match () {
                    () if assumed.contains(&key) => Enforcement::Assumed,
                    () if guarded.contains(&key) => Enforcement::Guard,
                    () => Enforcement::Automaton,
                };
                entries.push(entry(schema, name, enforcement));
            }
            for name in &schema.ignored {
                entries.push(entry(schema, name, Enforcement::Annotation));
            }
        }
        entries
    }

    /// Pointers of the schemas that name members of an object and say nothing of others: in
    /// [natural style](super::Style::Natural) they take no others.
    pub fn closed(&self) -> Vec<String> {
        let Source::Json(schemas) = &self.inner.source else { return Vec::new() };
        let names_some = |schema: &Schema| {
            schema.keywords.iter().any(
                |keyword| matches!(keyword, Keyword::Object(rules) if !rules.properties.is_empty() && rules.patterns.is_empty()),
            )
        };
        let speaks_of_others = |schema: &Schema| {
            schema.evaluates_additional
                || schema
                    .keywords
                    .iter()
                    .any(|keyword| matches!(keyword, Keyword::PropertyNames(_) | Keyword::UnevaluatedProperties(_)))
        };
        let closed = schemas.all.iter().filter(|schema| names_some(schema) && !speaks_of_others(schema));
        closed.map(|schema| schema.pointer.clone()).collect()
    }

    /// Somewhere the search whether a text can still be completed was given up, and a completion assumed: texts may
    /// come to a dead end. Depends on the source alone; looks no further into languages than [`Self::report`] does.
    pub(crate) fn assumed(&self) -> bool {
        *self.inner.assumed.get_or_init(|| {
            let mut expansion = self.expand();
            match expansion.root() {
                Root::Json(_) => {
                    let nodes = expansion.visit_root();
                    !expansion.assumed_keywords(&nodes).is_empty()
                }
                Root::Text(shape) => expansion.languages.assumes(shape.lang, LANGUAGE_LIMIT).0,
            }
        })
    }
}

/// Pointers of schemas, with the names of keywords.
type Names<'a> = BTreeSet<(Cow<'a, str>, Cow<'a, str>)>;

impl Expansion {
    /// All nodes below the root, as far as they are looked at.
    fn visit_root(&mut self) -> Vec<NodeId> {
        match self.root() {
            Root::Json(root) => self.visit_all(root, NODE_LIMIT),
            Root::Text(_) => Vec::new(),
        }
    }

    /// The keywords of languages about which an answer was assumed.
    fn assumed_keywords(&mut self, nodes: &[NodeId]) -> Names<'static> {
        let (mut found, mut known, mut left) = (Names::new(), FxHashMap::default(), ALL_LANGUAGES_LIMIT);
        for &node in nodes {
            let mut languages = Vec::new();
            for shape in self.shapes(node).iter() {
                match &shape.kind {
                    ShapeKind::Number(language) => languages.push(*language),
                    ShapeKind::String(string) => languages.push(string.lang),
                    ShapeKind::Object(object) => languages.extend(object.others.iter().map(|(keys, _)| *keys)),
                    _ => {}
                }
            }
            let mut assumed = false;
            for language in languages {
                assumed |= *known.entry(language).or_insert_with(|| {
                    let (assumed, visited) = self.languages.assumes(language, LANGUAGE_LIMIT.min(left));
                    left -= visited;
                    assumed
                });
            }
            let mut schemas = Vec::new();
            for signed in self.conjuncts(node).iter().filter(|_| assumed) {
                self.gather(signed.schema(), &mut schemas, &mut FxHashSet::default());
            }
            for (_, schema) in schemas {
                for name in
                    schema.keywords.iter().filter(|keyword| keyword.has_language()).flat_map(|k| k.assertion().names())
                {
                    found.insert((schema.pointer.clone().into(), (*name).into()));
                }
            }
        }
        found
    }

    /// Pointer and name of the keywords that some reachable node checks on finished values.
    fn guarded_keywords<'a>(&mut self, schemas: &'a Schemas) -> Names<'a> {
        let mut found = BTreeSet::new();
        let compared = |shape: &Shape| match &shape.kind {
            ShapeKind::Array(array) => {
                array.unique && array.values.is_empty() && array.max_items.is_none_or(|most| most > 1)
            }
            _ => false,
        };
        let compares = self.shapes.values().any(|shapes| shapes.iter().any(compared));
        let unique =
            |schema: &&Arc<Schema>| schema.keywords.iter().any(|keyword| matches!(keyword, Keyword::Unique(_)));
        for schema in schemas.all.iter().filter(unique).filter(|_| compares) {
            // Each item is held against those before it when it is complete.
            found.insert((schema.pointer.clone().into(), "uniqueItems".into()));
        }
        for signed in self.guard_conjuncts() {
            let schema = self.schema(signed.schema());
            if (signed.schema() as usize) < schemas.all.len() {
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
                    for name in keyword.assertion().names() {
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

impl Expansion {
    /// Works out the shapes of everything below a node, up to a number of nodes; these, each once.
    pub(crate) fn visit_all(&mut self, root: NodeId, limit: usize) -> Vec<NodeId> {
        let (mut queue, mut seen, mut visited) = (vec![root], BTreeSet::from([root]), Vec::new());
        while let Some(node) = queue.pop() {
            visited.push(node);
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
                        next.extend(object.nodes.iter().copied().flatten());
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
        visited
    }

    fn guard_conjuncts(&self) -> Vec<Signed> {
        let mut conjuncts: Vec<Signed> = self.guards.iter().flat_map(|guard| guard.iter().copied()).collect();
        conjuncts.sort_unstable();
        conjuncts.dedup();
        conjuncts
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

    /// Words of one letter whose length is a multiple of both numbers, but of no common multiple.
    fn contradiction(a: u32, b: u32) -> serde_json::Value {
        serde_json::json!({
            "type": "string",
            "allOf": [
                {"pattern": format!("^(a{{{a}}})+$")},
                {"pattern": format!("^(a{{{b}}})+$")},
                {"not": {"pattern": format!("^(a{{{}}})+$", a * b)}}
            ]
        })
    }

    #[test]
    fn says_what_is_assumed() {
        let compile = |schema: &serde_json::Value| {
            Program::compile(&GrammarSource::JsonSchema(schema.clone()), &Options::default())
        };
        let near = compile(&contradiction(31, 37)).expect_err("no text is both");
        assert!(near.to_string().contains("no finite value satisfies the schema"), "{near}");
        let far = compile(&contradiction(71, 67)).expect("not found out");
        assert!(far.assumed());
        let report = far.report();
        let assumed: Vec<&str> = report
            .iter()
            .filter(|entry| entry.enforcement == Enforcement::Assumed)
            .map(|entry| entry.pointer.as_str())
            .collect();
        assert_eq!(assumed, ["/allOf/0/pattern", "/allOf/1/pattern", "/allOf/2/not"]);
        // Beside a text that is short, and a few members down, it is heard of as well.
        let hidden = serde_json::json!({
            "properties": {"a": {"items": {"anyOf": [{"const": "b"}, contradiction(71, 67)]}}},
            "required": ["a"]
        });
        let hidden = compile(&hidden).expect("satisfiable");
        assert!(hidden.assumed());
        let plain = serde_json::json!({"type": "string", "pattern": "^(?=.*[a-z])(?=.*[0-9]).{8,64}$"});
        assert!(!compile(&plain).expect("satisfiable").assumed());
        let regex = |text: &str| Program::compile(&GrammarSource::Regex(text.into()), &Options::default());
        assert!(!regex("(?=.*b)[a-c]{2,9}").expect("satisfiable").assumed());
        // Too far for one search, but found on the way.
        assert!(!regex("(?=.*[A-Z])(?=.*[0-9]).{5666,}").expect("satisfiable").assumed());
        assert!(regex("b|(?=(a{71})+$)(?=(a{67})+$)(?!(a{4757})+$)a*").expect("satisfiable").assumed());
    }
}
