//! Schemas → alternatives: keyword by keyword; `negate` has the other sign.
//!
//! A node is an interned conjunction of schemas and negated schemas. Its alternatives are worked out once, when they
//! are first asked for, and mention the nodes below only by id. Where the union of cases would grow
//! past a limit, or an automaton cannot hold a keyword, a wider case stands with a guard: the
//! finished value is checked, so acceptance stays exact.

mod bodies;
mod combine;

use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde_json::Value;

use super::automaton::Automaton;
use super::empty::Emptiness;
use super::format::Format;
use super::language::{ExprId, INFINITE, Languages, NONE};
use super::node::{ANYTHING, Alternatives, ArrayBody, Case, Literal, NOTHING, ObjectBody, min_bound};
use super::number::{NumberSet, Range};
use super::schema::{FALSE, Keyword, PatternId, Schema, SchemaId, TRUE, types};
use super::shape::{GuardId, NodeId, Shape};
use super::{Program, Source};

/// Cases of one type that a node may have; past this, guards take over.
const CASE_LIMIT: usize = 64;
/// Nodes that may wait for each other's alternatives.
const NESTED_LIMIT: usize = 96;
/// Key languages that the patterns of one object may be split into.
const KEY_LIMIT: usize = 64;

/// Everything that is built lazily from a [`Program`]; one owner, `&mut self`, no locks inside.
#[derive(Debug)]
pub struct Expansion {
    pub(super) program: Program,
    pub(super) languages: Languages,
    pub(super) automaton: Automaton,
    /// Schemas made up on the way: single keywords and values.
    extra: Vec<Arc<Schema>>,
    nodes: Vec<Arc<[Literal]>>,
    node_index: FxHashMap<Arc<[Literal]>, NodeId>,
    complements: FxHashMap<NodeId, NodeId>,
    alternatives: Vec<Option<Arc<Alternatives>>>,
    in_progress: Vec<NodeId>,
    pub(super) shapes: FxHashMap<NodeId, Arc<[Shape]>>,
    pub(super) emptiness: Emptiness,
    pub(super) guards: Vec<Arc<[Literal]>>,
    pub(super) guard_index: FxHashMap<Arc<[Literal]>, GuardId>,
    patterns: FxHashMap<PatternId, ExprId>,
    formats: FxHashMap<Format, (ExprId, bool, ExprId)>,
    pub(super) number_languages: FxHashMap<NumberSet, Option<ExprId>>,
}

/// Memory of a node with its alternatives and shapes, roughly.
const NODE_BYTES: usize = 512;

impl Expansion {
    /// Memory of the nodes, roughly.
    pub(super) fn nodes_size_bytes(&self) -> usize {
        NODE_BYTES * self.nodes.len()
    }

    pub(super) fn new(program: Program) -> Self {
        let mut this = Self {
            program,
            languages: Languages::new(),
            automaton: Automaton::new(),
            extra: Vec::new(),
            nodes: Vec::new(),
            node_index: FxHashMap::default(),
            complements: FxHashMap::default(),
            alternatives: Vec::new(),
            in_progress: Vec::new(),
            shapes: FxHashMap::default(),
            emptiness: Emptiness::default(),
            guards: Vec::new(),
            guard_index: FxHashMap::default(),
            patterns: FxHashMap::default(),
            formats: FxHashMap::default(),
            number_languages: FxHashMap::default(),
        };
        this.intern(Vec::new());
        this.intern(vec![Literal::positive(FALSE)]);
        this
    }

    // ---- schemas and nodes --------------------------------------------------------------------

    pub(super) fn schema(&self, id: SchemaId) -> Arc<Schema> {
        let Source::Json(schemas) = &self.program.inner.source else { return Arc::default() };
        let own = schemas.all.len();
        if (id as usize) < own { schemas.all[id as usize].clone() } else { self.extra[id as usize - own].clone() }
    }

    /// A schema of one keyword.
    pub(super) fn keyword_schema(&mut self, keyword: Keyword, of: &Schema) -> SchemaId {
        let own = match &self.program.inner.source {
            Source::Json(schemas) => schemas.all.len(),
            _ => 0,
        };
        let schema = Schema {
            pointer: of.pointer.clone(),
            keywords: vec![keyword],
            strict_integer: of.strict_integer,
            ..Schema::default()
        };
        self.extra.push(Arc::new(schema));
        u32::try_from(own + self.extra.len() - 1).expect("fewer schemas than bytes of input")
    }

    fn intern(&mut self, literals: Vec<Literal>) -> NodeId {
        let literals: Arc<[Literal]> = literals.into();
        if let Some(&id) = self.node_index.get(&literals) {
            return id;
        }
        let id = u32::try_from(self.nodes.len()).expect("fewer nodes than memory");
        self.nodes.push(literals.clone());
        self.node_index.insert(literals, id);
        self.alternatives.push(None);
        id
    }

    /// The node of values that satisfy all the literals.
    pub(super) fn node(&mut self, literals: Vec<Literal>) -> NodeId {
        let mut flat = Vec::with_capacity(literals.len());
        let mut queue = literals;
        while let Some(mut literal) = queue.pop() {
            loop {
                let schema = self.schema(literal.schema());
                literal = match (&schema.keywords[..], literal.is_negative()) {
                    ([Keyword::Ref(target)], false) => Literal::positive(*target),
                    ([Keyword::Ref(target)], true) => Literal::negative(*target),
                    ([Keyword::Not(inner)], false) => Literal::negative(*inner),
                    ([Keyword::Not(inner)], true) => Literal::positive(*inner),
                    ([Keyword::AllOf(list)], false) => {
                        queue.extend(list.iter().map(|&inner| Literal::positive(inner)));
                        break;
                    }
                    ([], false) => break,
                    ([], true) => return NOTHING,
                    ([Keyword::AnyOf(list)], negative) if list.is_empty() => {
                        if negative {
                            break;
                        }
                        return NOTHING;
                    }
                    _ => {
                        flat.push(literal);
                        break;
                    }
                };
            }
        }
        flat.sort_unstable();
        flat.dedup();
        if flat.windows(2).any(|pair| pair[0].flipped() == pair[1]) {
            return NOTHING;
        }
        self.intern(flat)
    }

    pub(super) fn schema_node(&mut self, schema: SchemaId) -> NodeId {
        if schema == TRUE { ANYTHING } else { self.node(vec![Literal::positive(schema)]) }
    }

    pub(super) fn literals(&self, node: NodeId) -> Arc<[Literal]> {
        self.nodes[node as usize].clone()
    }

    /// Values in both nodes.
    pub(super) fn meet_nodes(&mut self, a: NodeId, b: NodeId) -> NodeId {
        match (a, b) {
            (ANYTHING, other) | (other, ANYTHING) => other,
            (NOTHING, _) | (_, NOTHING) => NOTHING,
            (a, b) if a == b => a,
            _ => {
                let mut literals = self.nodes[a as usize].to_vec();
                literals.extend_from_slice(&self.nodes[b as usize]);
                self.node(literals)
            }
        }
    }

    /// Values not in the node, which is a single literal.
    pub(super) fn complement_node(&mut self, node: NodeId) -> NodeId {
        let literals = self.literals(node);
        match literals[..] {
            [] => NOTHING,
            [literal] => self.node(vec![literal.flipped()]),
            _ => {
                if let Some(&known) = self.complements.get(&node) {
                    return known;
                }
                let mut inner = Vec::with_capacity(literals.len());
                for literal in literals.iter() {
                    inner.push(if literal.is_negative() {
                        self.keyword_schema(Keyword::Not(literal.schema()), &Schema::default())
                    } else {
                        literal.schema()
                    });
                }
                let all = self.keyword_schema(Keyword::AllOf(inner), &Schema::default());
                // Stays one literal: flattening would lose the negation.
                let complement = self.intern(vec![Literal::negative(all)]);
                self.complements.insert(node, complement);
                complement
            }
        }
    }

    pub(super) fn pattern_language(&mut self, pattern: PatternId) -> ExprId {
        if let Some(&language) = self.patterns.get(&pattern) {
            return language;
        }
        let program = self.program.clone();
        let language = match &program.inner.source {
            // Checked when the program was compiled.
            Source::Json(schemas) => schemas.patterns[pattern as usize].1.language(&mut self.languages).unwrap_or(NONE),
            _ => NONE,
        };
        self.patterns.insert(pattern, language);
        language
    }

    pub(super) fn format_language(&mut self, format: Format) -> (ExprId, bool, ExprId) {
        if let Some(&found) = self.formats.get(&format) {
            return found;
        }
        let (language, exact) = format.language(&mut self.languages);
        let found = (language, exact, format.extension(&mut self.languages));
        self.formats.insert(format, found);
        found
    }

    // ---- alternatives -------------------------------------------------------------------------

    /// What a node allows.
    pub(super) fn alternatives(&mut self, node: NodeId) -> Arc<Alternatives> {
        if let Some(found) = &self.alternatives[node as usize] {
            return found.clone();
        }
        if self.in_progress.len() >= NESTED_LIMIT || self.in_progress.contains(&node) {
            return Arc::new(self.unresolved(node));
        }
        self.in_progress.push(node);
        let outer = self.emptiness.enter();
        let literals = self.literals(node);
        let mut result;
        if let [literal] = literals[..]
            && literal.is_negative()
        {
            result = self.negated(literal.schema());
        } else {
            // The schemas themselves first: they are what the negations are cut out of.
            result = Alternatives::all();
            let (negative, positive): (Vec<Literal>, Vec<Literal>) =
                literals.iter().partition(|literal| literal.is_negative());
            self.constrain(&mut result, &positive);
            for literal in negative {
                if !result.is_none() {
                    let single = self.intern(vec![literal]);
                    let other = self.alternatives(single);
                    self.meet(&mut result, &other, literal);
                }
            }
        }
        self.emptiness.leave(outer);
        self.in_progress.pop();
        let result = Arc::new(result);
        self.alternatives[node as usize] = Some(result.clone());
        result
    }

    /// Everything, to be checked when complete: where a node's alternatives are asked for while they are being worked
    /// out (`propertyNames` that leads back to its own schema).
    fn unresolved(&mut self, node: NodeId) -> Alternatives {
        let mut result = Alternatives::all();
        let literals = self.literals(node);
        let mut holds =
            |value: &Value| literals.iter().all(|literal| self.valid(literal.schema(), value) != literal.is_negative());
        result.null = holds(&Value::Null);
        result.booleans = [false, true].map(|value| holds(&Value::Bool(value)));
        for &literal in literals.iter() {
            result.numbers[0].guard(literal);
            result.strings[0].guard(literal);
            result.arrays[0].guard(literal);
            result.objects[0].guard(literal);
        }
        result
    }

    pub(super) fn is_in_progress(&self, node: NodeId) -> bool {
        self.in_progress.contains(&node)
    }

    /// Applies schemas: types first, then all else that narrows without branching, in all of them and what they
    /// include, so that the branches meet as much of their surroundings as there is.
    fn constrain(&mut self, result: &mut Alternatives, literals: &[Literal]) {
        let (mut schemas, mut seen) = (Vec::new(), Vec::new());
        for literal in literals {
            self.gather(literal.schema(), &mut schemas, &mut seen);
        }
        let phase = |keyword: &Keyword| match keyword {
            Keyword::AllOf(_) | Keyword::Ref(_) => None,
            Keyword::Type(_) => Some(0),
            other => Some(1 + u8::from(other.branches())),
        };
        for now in 0..3 {
            for (id, schema) in &schemas {
                for keyword in &schema.keywords {
                    if phase(keyword) == Some(now) {
                        self.apply(result, keyword, schema, *id);
                        if result.is_none() {
                            return;
                        }
                    }
                }
            }
        }
    }

    /// The schema and those that it includes by `allOf` and `$ref`.
    fn gather(&self, id: SchemaId, schemas: &mut Vec<(SchemaId, Arc<Schema>)>, seen: &mut Vec<SchemaId>) {
        if seen.contains(&id) {
            return;
        }
        seen.push(id);
        let schema = self.schema(id);
        schemas.push((id, schema.clone()));
        for keyword in &schema.keywords {
            match keyword {
                Keyword::AllOf(list) => list.iter().for_each(|&inner| self.gather(inner, schemas, seen)),
                Keyword::Ref(target) => self.gather(*target, schemas, seen),
                _ => {}
            }
        }
    }

    fn apply(&mut self, result: &mut Alternatives, keyword: &Keyword, schema: &Schema, id: SchemaId) {
        match keyword {
            Keyword::Type(bits) => Self::apply_type(result, *bits, schema),
            Keyword::Enum(values) => {
                let other = self.enumeration(values, schema);
                self.meet_keyword(result, &other, keyword, schema);
            }
            Keyword::Number(range) => {
                let set = NumberSet::Ranges(vec![(**range).clone()]);
                let cases = std::mem::take(&mut result.numbers);
                for mut case in cases {
                    if let Some(both) = case.body.intersection(&set) {
                        case.body = both;
                    } else {
                        let check = self.keyword_schema(keyword.clone(), schema);
                        case.guard(Literal::positive(check));
                    }
                    if !case.body.is_none() {
                        result.numbers.push(case);
                    }
                }
            }
            Keyword::Length(min, max) => {
                let language = self.languages.length_between(*min, max.unwrap_or(INFINITE));
                self.apply_language(result, language, None);
            }
            Keyword::Pattern(pattern) => {
                let language = self.pattern_language(*pattern);
                self.apply_language(result, language, None);
            }
            Keyword::Format(format) => {
                let (language, exact, extension) = self.format_language(*format);
                let check = (!exact || extension != NONE)
                    .then(|| Literal::positive(self.keyword_schema(keyword.clone(), schema)));
                let mut extended = Vec::new();
                for case in result.strings.iter().filter(|_| extension != NONE) {
                    let mut case =
                        Case { body: self.languages.and2(case.body, extension), guards: case.guards.clone() };
                    check.into_iter().for_each(|check| case.guard(check));
                    extended.push(case);
                }
                self.apply_language(result, language, check.filter(|_| !exact));
                result.strings.extend(extended.into_iter().filter(|case| case.body != NONE));
            }
            Keyword::Object(rules) => {
                if result.objects.is_empty() {
                    return;
                }
                let other = self.rules_body(rules, keyword, schema);
                self.meet_objects(&mut result.objects, &[other], || None);
            }
            Keyword::Required(names) => {
                self.retain_objects(result, |this, body| names.iter().all(|name| this.require(body, name)));
            }
            Keyword::Members(min, max) => self.retain_objects(result, |_, body| {
                body.min = body.min.max(*min);
                body.max = min_bound(body.max, *max);
                body.max.is_none_or(|max| body.min <= max)
            }),
            Keyword::PropertyNames(inner) => self.apply_property_names(result, *inner, keyword, schema),
            Keyword::DependentRequired(entries) => self.retain_objects(result, |_, body| {
                for (name, names) in entries {
                    body.implies.extend(names.iter().map(|other| (name.clone(), other.clone())));
                }
                true
            }),
            Keyword::DependentSchemas(entries) => {
                for (name, inner) in entries {
                    self.apply_dependent_schema(result, name, *inner, schema);
                }
            }
            Keyword::Items(prefix, rest) => {
                let body = ArrayBody {
                    prefix: prefix.iter().map(|&inner| self.schema_node(inner)).collect(),
                    items: self.schema_node(*rest),
                    ..ArrayBody::default()
                };
                self.retain_arrays(result, |this, case| this.meet_arrays(case, &body));
            }
            Keyword::ItemCount(min, max) => self.retain_arrays(result, |_, case| {
                case.min = case.min.max(*min);
                case.max = min_bound(case.max, *max);
                case.max.is_none_or(|max| case.min <= max)
            }),
            Keyword::Unique => self.retain_arrays(result, |_, case| {
                case.unique = true;
                true
            }),
            Keyword::Contains(inner, min, max) => {
                let node = self.schema_node(*inner);
                self.retain_arrays(result, |_, case| {
                    if *min > 0 || max.is_some() {
                        case.contains.push((node, *min, *max));
                    }
                    max.is_none_or(|max| *min <= max)
                });
            }
            Keyword::AnyOf(list) => {
                let mut other = Alternatives::none();
                for &inner in list {
                    let node = self.schema_node(inner);
                    let part = self.alternatives(node);
                    self.join(&mut other, &part);
                }
                self.meet_keyword(result, &other, keyword, schema);
            }
            Keyword::OneOf(list) => match self.values_of_one(list) {
                Some(values) => {
                    let other = self.enumeration(&values, schema);
                    self.meet_keyword(result, &other, keyword, schema);
                }
                None => self.apply_one_of(result, list),
            },
            Keyword::Not(inner) => {
                let literal = Literal::negative(*inner);
                let node = self.node(vec![literal]);
                let other = self.alternatives(node);
                self.meet(result, &other, literal);
            }
            Keyword::If(condition, then, other) => {
                let yes = self.node(vec![Literal::positive(*condition), Literal::positive(*then)]);
                let no = self.node(vec![Literal::negative(*condition), Literal::positive(*other)]);
                let mut joined = Alternatives::none();
                for node in [yes, no] {
                    let part = self.alternatives(node);
                    self.join(&mut joined, &part);
                }
                self.meet_keyword(result, &joined, keyword, schema);
            }
            // Taken in by `gather`.
            Keyword::AllOf(_) | Keyword::Ref(_) => {}
            Keyword::UnevaluatedProperties(_) => {
                for case in &mut result.objects {
                    case.guard(Literal::positive(id));
                }
            }
            Keyword::UnevaluatedItems(_) => {
                for case in &mut result.arrays {
                    case.guard(Literal::positive(id));
                }
            }
        }
    }

    pub(super) fn apply_type(result: &mut Alternatives, bits: u8, schema: &Schema) {
        result.null &= bits & types::NULL != 0;
        if bits & types::BOOLEAN == 0 {
            result.booleans = [false; 2];
        }
        if bits & types::NUMBER == 0 {
            if bits & types::INTEGER == 0 {
                result.numbers.clear();
            } else {
                let whole = Range { integer: Some(true), strict: schema.strict_integer, ..Range::default() };
                let whole = NumberSet::Ranges(vec![whole]);
                let cases = std::mem::take(&mut result.numbers);
                for mut case in cases {
                    case.body = case.body.intersection(&whole).unwrap_or_else(NumberSet::none);
                    if !case.body.is_none() {
                        result.numbers.push(case);
                    }
                }
            }
        }
        if bits & types::STRING == 0 {
            result.strings.clear();
        }
        if bits & types::ARRAY == 0 {
            result.arrays.clear();
        }
        if bits & types::OBJECT == 0 {
            result.objects.clear();
        }
    }

    fn apply_language(&mut self, result: &mut Alternatives, language: ExprId, check: Option<Literal>) {
        for case in &mut result.strings {
            case.body = self.languages.and2(case.body, language);
            if let Some(check) = check {
                case.guard(check);
            }
        }
        result.strings.retain(|case| case.body != NONE);
    }

    fn retain_objects(
        &mut self,
        result: &mut Alternatives,
        mut change: impl FnMut(&mut Self, &mut ObjectBody) -> bool,
    ) {
        let cases = std::mem::take(&mut result.objects);
        for mut case in cases {
            if change(self, &mut case.body) {
                result.objects.push(case);
            }
        }
    }

    fn retain_arrays(&mut self, result: &mut Alternatives, mut change: impl FnMut(&mut Self, &mut ArrayBody) -> bool) {
        let cases = std::mem::take(&mut result.arrays);
        for mut case in cases {
            if change(self, &mut case.body) {
                result.arrays.push(case);
            }
        }
    }
}
