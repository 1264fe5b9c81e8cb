//! Schemas → alternatives: keyword by keyword; `negate` has the other sign.
//!
//! A node is an interned conjunction of schemas and negated schemas. Its alternatives are worked out once, when they
//! are first asked for, and mention the nodes below only by id. Where the union of cases would grow
//! past a limit, or an automaton cannot hold a keyword, a wider case stands with a guard: the
//! finished value is checked, so acceptance stays exact.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde_json::Value;

use super::automaton::Automaton;
use super::decimal::Decimal;
use super::empty::Emptiness;
use super::format::Format;
use super::language::{ANY, ExprId, INFINITE, Languages, NONE};
use super::node::{ANYTHING, Alternatives, ArrayBody, Case, Literal, NOTHING, ObjectBody, Slot, min_bound};
use super::number::{NumberSet, Range};
use super::schema::{FALSE, Keyword, ObjectRules, PatternId, Schema, SchemaId, TRUE, types};
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
            Keyword::OneOf(list) => self.apply_one_of(result, list),
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

    // ---- object bodies ------------------------------------------------------------------------

    /// The value that a key without a slot of its own may have.
    fn other_value(&mut self, body: &ObjectBody, name: &str) -> NodeId {
        for &(keys, node) in &body.others {
            if self.languages.matches(keys, name) {
                return node;
            }
        }
        NOTHING
    }

    pub(super) fn member_value(&mut self, body: &ObjectBody, name: &str) -> NodeId {
        match body.find(name) {
            Some(at) => body.slots()[at].node,
            None => self.other_value(body, name),
        }
    }

    fn slot(&mut self, body: &mut ObjectBody, name: &Arc<str>) -> usize {
        if let Some(at) = body.find(name) {
            return at;
        }
        let node = self.other_value(body, name);
        body.push(Slot { name: name.clone(), node, required: false });
        body.slots().len() - 1
    }

    /// The member must be there; false when it cannot.
    pub(super) fn require(&mut self, body: &mut ObjectBody, name: &Arc<str>) -> bool {
        let at = self.slot(body, name);
        body.slots_mut()[at].required = true;
        body.slots()[at].node != NOTHING
    }

    /// The member must not be there; false when it must.
    pub(super) fn forbid(&mut self, body: &mut ObjectBody, name: &Arc<str>) -> bool {
        let at = self.slot(body, name);
        body.slots_mut()[at].node = NOTHING;
        !body.slots()[at].required
    }

    fn rules_body(&mut self, rules: &ObjectRules, keyword: &Keyword, schema: &Schema) -> Case<ObjectBody> {
        let mut body = ObjectBody::default();
        let mut guard = None;
        let mut patterns = Vec::with_capacity(rules.patterns.len());
        for &(pattern, inner) in &rules.patterns {
            patterns.push((self.pattern_language(pattern), inner));
        }
        for (name, inner) in &rules.properties {
            let mut node = self.schema_node(*inner);
            for &(language, other) in &patterns {
                if self.languages.matches(language, name) {
                    let other = self.schema_node(other);
                    node = self.meet_nodes(node, other);
                }
            }
            match body.find(name) {
                Some(at) => body.slots_mut()[at].node = node,
                None => body.push(Slot { name: name.clone(), node, required: false }),
            }
        }
        // Keys by the set of patterns that they match.
        let mut keys: Vec<(ExprId, NodeId, bool)> = vec![(ANY, ANYTHING, false)];
        for &(language, inner) in &patterns {
            let node = self.schema_node(inner);
            let outside = self.languages.not(language);
            let mut split = Vec::with_capacity(keys.len() + 1);
            for (keys, value, matched) in keys {
                let inside = self.languages.and2(keys, language);
                if !self.languages.is_empty(inside) {
                    split.push((inside, self.meet_nodes(value, node), true));
                }
                let rest = self.languages.and2(keys, outside);
                if !self.languages.is_empty(rest) {
                    split.push((rest, value, matched));
                }
            }
            keys = split;
            if keys.len() > KEY_LIMIT {
                guard = Some(Literal::positive(self.keyword_schema(keyword.clone(), schema)));
                keys = vec![(ANY, ANYTHING, true)];
                break;
            }
        }
        let additional = self.schema_node(rules.additional);
        body.others.clear();
        for (keys, value, matched) in keys {
            let value = if matched { value } else { additional };
            if value != NOTHING {
                body.others.push((keys, value));
            }
        }
        let mut case = Case::plain(body);
        if let Some(guard) = guard {
            case.guard(guard);
        }
        case
    }

    fn apply_property_names(&mut self, result: &mut Alternatives, inner: SchemaId, keyword: &Keyword, schema: &Schema) {
        if result.objects.is_empty() {
            return;
        }
        // Keys are strings: what the schema says of other values would only lead astray.
        let strings_only = Literal::positive(self.keyword_schema(Keyword::Type(types::STRING), schema));
        let node = self.node(vec![Literal::positive(inner), strings_only]);
        let strings = self.alternatives(node);
        let names = strings.strings.iter().map(|case| case.body).collect();
        let names = self.languages.or(names);
        let guard = strings
            .strings
            .iter()
            .any(|case| !case.guards.is_empty())
            .then(|| Literal::positive(self.keyword_schema(keyword.clone(), schema)));
        self.retain_objects(result, |this, body| {
            for at in 0..body.slots().len() {
                let slot = &body.slots()[at];
                if slot.node != NOTHING && !this.languages.matches(names, &slot.name.clone()) {
                    if body.slots()[at].required {
                        return false;
                    }
                    body.slots_mut()[at].node = NOTHING;
                }
            }
            let others = std::mem::take(&mut body.others);
            for (keys, value) in others {
                let keys = this.languages.and2(keys, names);
                if !this.languages.is_empty(keys) {
                    body.others.push((keys, value));
                }
            }
            true
        });
        if let Some(guard) = guard {
            result.objects.iter_mut().for_each(|case| case.guard(guard));
        }
    }

    fn apply_dependent_schema(&mut self, result: &mut Alternatives, name: &Arc<str>, inner: SchemaId, schema: &Schema) {
        if result.objects.is_empty() || inner == TRUE {
            return;
        }
        let node = self.schema_node(inner);
        let other = self.alternatives(node);
        let entry = Keyword::DependentSchemas(vec![(name.clone(), inner)]);
        if result.objects.len() * (1 + other.objects.len()) > CASE_LIMIT {
            let check = Literal::positive(self.keyword_schema(entry, schema));
            result.objects.iter_mut().for_each(|case| case.guard(check));
            return;
        }
        let mut without = result.objects.clone();
        without.retain_mut(|case| self.forbid(&mut case.body, name));
        let mut with = std::mem::take(&mut result.objects);
        with.retain_mut(|case| self.require(&mut case.body, name));
        self.meet_objects(&mut with, &other.objects, || None);
        without.extend(with);
        result.objects = without;
    }

    fn meet_object_bodies(&mut self, a: &ObjectBody, b: &ObjectBody) -> Option<ObjectBody> {
        if a.is_free() {
            return Some(b.clone());
        }
        if b.is_free() {
            return Some(a.clone());
        }
        // Contradictions between members that must be there come first: most pairs of variants end here.
        for slot in a.slots() {
            if slot.required
                && let Some(at) = b.find(&slot.name)
            {
                let node = self.meet_nodes(slot.node, b.slots()[at].node);
                if self.is_surely_empty(node) {
                    return None;
                }
            }
        }
        let mut body = ObjectBody { others: Vec::new(), ..ObjectBody::default() };
        for slot in a.slots() {
            let (node, required) = match b.find(&slot.name) {
                Some(at) => (b.slots()[at].node, b.slots()[at].required),
                None => (self.other_value(b, &slot.name), false),
            };
            body.push(Slot {
                name: slot.name.clone(),
                node: self.meet_nodes(slot.node, node),
                required: slot.required || required,
            });
        }
        for slot in b.slots() {
            if a.find(&slot.name).is_none() {
                let node = self.other_value(a, &slot.name);
                body.push(Slot {
                    name: slot.name.clone(),
                    node: self.meet_nodes(slot.node, node),
                    required: slot.required,
                });
            }
        }
        for slot in body.slots() {
            if slot.required && self.is_surely_empty(slot.node) {
                return None;
            }
        }
        for &(keys, value) in &a.others {
            for &(other_keys, other_value) in &b.others {
                let value = self.meet_nodes(value, other_value);
                let keys = self.languages.and2(keys, other_keys);
                if value != NOTHING && !self.languages.is_empty(keys) {
                    body.others.push((keys, value));
                }
            }
        }
        body.min = a.min.max(b.min);
        body.max = min_bound(a.max, b.max);
        if body.max.is_some_and(|max| body.min > max) {
            return None;
        }
        body.implies = a.implies.iter().chain(&b.implies).cloned().collect();
        body.implies.sort_unstable();
        body.implies.dedup();
        body.some = a.some.iter().chain(&b.some).cloned().collect();
        Some(body)
    }

    /// Intersects unions of objects. Past the limit `fallback` gives the check that stands for `others`.
    fn meet_objects(
        &mut self,
        cases: &mut Vec<Case<ObjectBody>>,
        others: &[Case<ObjectBody>],
        fallback: impl FnOnce() -> Option<Literal>,
    ) {
        if cases.len() > 1
            && others.len() > 1
            && cases.len() * others.len() > CASE_LIMIT
            && let Some(check) = fallback()
        {
            cases.iter_mut().for_each(|case| case.guard(check));
            return;
        }
        let mut result = Vec::with_capacity(cases.len() * others.len());
        for case in &*cases {
            for other in others {
                if let Some(body) = self.meet_object_bodies(&case.body, &other.body) {
                    result.push(Case { body, guards: case.joined_guards(other) });
                }
            }
        }
        *cases = result;
    }

    // ---- array bodies -------------------------------------------------------------------------

    fn meet_arrays(&mut self, a: &mut ArrayBody, b: &ArrayBody) -> bool {
        let length = a.prefix.len().max(b.prefix.len());
        a.prefix = (0..length).map(|at| self.meet_nodes(a.item(at), b.item(at))).collect();
        a.items = self.meet_nodes(a.items, b.items);
        a.min = a.min.max(b.min);
        a.max = min_bound(a.max, b.max);
        for entry in &b.contains {
            if !a.contains.contains(entry) {
                a.contains.push(*entry);
            }
        }
        a.unique |= b.unique;
        if a.max.is_some_and(|max| a.min > max) {
            return false;
        }
        let needed = (a.min as usize).min(a.prefix.len() + 1);
        !(0..needed).any(|at| self.is_surely_empty(a.item(at)))
    }

    // ---- whole alternatives -------------------------------------------------------------------

    fn meet_keyword(&mut self, result: &mut Alternatives, other: &Alternatives, keyword: &Keyword, schema: &Schema) {
        let literal = Literal::positive(self.keyword_schema(keyword.clone(), schema));
        self.meet(result, other, literal);
    }

    /// Intersection; `check` stands for `other` where the cases would be too many.
    fn meet(&mut self, result: &mut Alternatives, other: &Alternatives, check: Literal) {
        result.null &= other.null;
        for (mine, theirs) in result.booleans.iter_mut().zip(other.booleans) {
            *mine &= theirs;
        }
        let mut numbers: Vec<Case<NumberSet>> = Vec::new();
        for a in &result.numbers {
            for b in &other.numbers {
                let guards = a.joined_guards(b);
                let case = match a.body.intersection(&b.body) {
                    Some(body) => Case { body, guards },
                    None => {
                        let mut case = Case { body: a.body.clone(), guards };
                        case.guard(check);
                        case
                    }
                };
                if !case.body.is_none() {
                    numbers.push(case);
                }
            }
        }
        result.numbers = numbers;
        let mut strings = Vec::new();
        for a in &result.strings {
            for b in &other.strings {
                let body = self.languages.and2(a.body, b.body);
                if body != NONE {
                    strings.push(Case { body, guards: a.joined_guards(b) });
                }
            }
        }
        result.strings = strings;
        if result.arrays.len() > 1 && other.arrays.len() > 1 && result.arrays.len() * other.arrays.len() > CASE_LIMIT {
            result.arrays.iter_mut().for_each(|case| case.guard(check));
        } else {
            let mut arrays = Vec::new();
            for a in std::mem::take(&mut result.arrays) {
                for b in &other.arrays {
                    let mut body = a.body.clone();
                    if self.meet_arrays(&mut body, &b.body) {
                        arrays.push(Case { body, guards: a.joined_guards(b) });
                    }
                }
            }
            result.arrays = arrays;
        }
        self.meet_objects(&mut result.objects, &other.objects, || Some(check));
    }

    /// Union.
    pub(super) fn join(&mut self, result: &mut Alternatives, other: &Alternatives) {
        result.null |= other.null;
        for (mine, theirs) in result.booleans.iter_mut().zip(other.booleans) {
            *mine |= theirs;
        }
        for case in &other.numbers {
            match result.numbers.iter_mut().find(|mine| mine.guards == case.guards) {
                Some(mine) => mine.body = std::mem::replace(&mut mine.body, NumberSet::none()).union(case.body.clone()),
                None => result.numbers.push(case.clone()),
            }
        }
        for case in &other.strings {
            match result.strings.iter_mut().find(|mine| mine.guards == case.guards) {
                Some(mine) => mine.body = self.languages.or2(mine.body, case.body),
                None => result.strings.push(case.clone()),
            }
        }
        // A case that allows everything swallows the others.
        let free = |case: &Case<ObjectBody>| case.guards.is_empty() && case.body.is_free();
        if other.objects.iter().any(free) {
            result.objects = vec![Case::plain(ObjectBody::default())];
        } else if !result.objects.iter().any(free) {
            result.objects.extend_from_slice(&other.objects);
        }
        result.arrays.extend_from_slice(&other.arrays);
    }

    /// No value in both, told by types and by members that both must have.
    fn is_plainly_disjoint(&mut self, a: &Alternatives, b: &Alternatives) -> bool {
        if (a.null && b.null)
            || (0..2).any(|at| a.booleans[at] && b.booleans[at])
            || !(a.arrays.is_empty() || b.arrays.is_empty())
        {
            return false;
        }
        for a in &a.numbers {
            for b in &b.numbers {
                if a.body.intersection(&b.body).is_none_or(|both| !both.is_none()) {
                    return false;
                }
            }
        }
        for a in &a.strings {
            for b in &b.strings {
                if self.languages.and2(a.body, b.body) != NONE {
                    return false;
                }
            }
        }
        for a in &a.objects {
            for b in &b.objects {
                let apart = a.body.slots().iter().any(|slot| {
                    b.body.find(&slot.name).is_some_and(|at| {
                        (slot.required || b.body.slots()[at].required) && {
                            let both = self.meet_nodes(slot.node, b.body.slots()[at].node);
                            self.is_surely_empty(both)
                        }
                    })
                });
                if !apart {
                    return false;
                }
            }
        }
        true
    }

    /// Each branch, cut out of what is allowed so far, without the other branches that it overlaps there.
    fn apply_one_of(&mut self, result: &mut Alternatives, list: &[SchemaId]) {
        let mut parts = Vec::with_capacity(list.len());
        for &inner in list {
            let node = self.schema_node(inner);
            let alone = self.alternatives(node);
            let mut part = result.clone();
            self.meet(&mut part, &alone, Literal::positive(inner));
            parts.push((part, alone));
        }
        let mut joined = Alternatives::none();
        for i in 0..parts.len() {
            let mut part = parts[i].0.clone();
            for j in (0..parts.len()).filter(|&j| j != i) {
                if part.is_none() {
                    break;
                }
                if parts[j].0.is_none() || self.is_plainly_disjoint(&part, &parts[j].1) {
                    continue;
                }
                let (node, other) = (self.schema_node(list[i]), self.schema_node(list[j]));
                let both = self.meet_nodes(node, other);
                if self.is_surely_empty(both) {
                    continue;
                }
                let literal = Literal::negative(list[j]);
                let outside = self.node(vec![literal]);
                let outside = self.alternatives(outside);
                self.meet(&mut part, &outside, literal);
            }
            self.join(&mut joined, &part);
        }
        *result = joined;
    }

    pub(super) fn enumeration(&mut self, values: &[Value], schema: &Schema) -> Alternatives {
        let mut result = Alternatives::none();
        let (mut points, mut words) = (Vec::new(), Vec::new());
        for value in values {
            match value {
                Value::Null => result.null = true,
                Value::Bool(value) => result.booleans[usize::from(*value)] = true,
                Value::Number(number) => points.push(Decimal::from_number(number)),
                Value::String(text) => words.push(text.as_str()),
                Value::Array(items) => {
                    let prefix: Vec<NodeId> = items.iter().map(|item| self.value_node(item, schema)).collect();
                    let count = u32::try_from(items.len()).unwrap_or(INFINITE - 1);
                    let body =
                        ArrayBody { prefix, items: NOTHING, min: count, max: Some(count), ..ArrayBody::default() };
                    result.arrays.push(Case::plain(body));
                }
                Value::Object(members) => {
                    let mut body = ObjectBody { others: Vec::new(), ..ObjectBody::default() };
                    for (key, value) in members {
                        let node = self.value_node(value, schema);
                        body.push(Slot { name: Arc::from(key.as_str()), node, required: true });
                    }
                    result.objects.push(Case::plain(body));
                }
            }
        }
        if !points.is_empty() {
            points.sort_unstable();
            points.dedup();
            result.numbers.push(Case::plain(NumberSet::Points(points)));
        }
        if !words.is_empty() {
            result.strings.push(Case::plain(self.languages.words(words)));
        }
        result
    }

    pub(super) fn value_node(&mut self, value: &Value, schema: &Schema) -> NodeId {
        let id = self.keyword_schema(Keyword::Enum(Arc::from([value.clone()])), schema);
        self.node(vec![Literal::positive(id)])
    }
}
