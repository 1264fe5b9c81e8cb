//! Schemas → nodes → alternatives. What each keyword allows stands in `keyword`; `negate` has the other sign.
//!
//! A node is an interned conjunction of schemas and negated schemas. Its alternatives are worked out once, when they
//! are first asked for, and mention the nodes below only by id. Where the union of cases would grow
//! past a limit, or an automaton cannot hold a keyword, a wider case stands with a guard: the
//! finished value is checked, so acceptance stays exact.

mod bodies;
mod combine;

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::Value;

use super::automaton::Automaton;
use super::empty::Emptiness;
use super::format::Format;
use super::keyword::logic::{AllOf, AnyOf, Not, Ref};
use super::keyword::{Keyword, Site};
use super::language::{ExprId, Languages, NONE};
use super::node::{ANYTHING, Alternatives, NOTHING, Signed};
use super::number::NumberSet;
use super::schema::{FALSE, PatternId, Schema, SchemaId, TRUE};
use super::shape::{GuardId, NodeId, Shape};
use super::{Program, Source};

/// Cases of one type that a node may have; past this, guards take over.
pub(super) const CASE_LIMIT: usize = 64;
/// Nodes that may wait for each other's alternatives.
const NESTED_LIMIT: usize = 96;
/// Key languages that the patterns of one object may be split into.
pub(super) const KEY_LIMIT: usize = 64;

/// Everything that is built lazily from a [`Program`]; one owner, `&mut self`, no locks inside.
#[derive(Debug)]
pub(crate) struct Expansion {
    pub(super) program: Program,
    pub(super) languages: Languages,
    pub(super) automaton: Automaton,
    /// Schemas made up on the way: single keywords and values.
    extra: Vec<Arc<Schema>>,
    nodes: Vec<Arc<[Signed]>>,
    node_index: FxHashMap<Arc<[Signed]>, NodeId>,
    complements: FxHashMap<NodeId, NodeId>,
    alternatives: Vec<Option<Arc<Alternatives>>>,
    in_progress: Vec<NodeId>,
    pub(super) shapes: FxHashMap<NodeId, Arc<[Shape]>>,
    pub(super) emptiness: Emptiness,
    pub(super) guards: Vec<Arc<[Signed]>>,
    pub(super) guard_index: FxHashMap<Arc<[Signed]>, GuardId>,
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
        this.intern(vec![Signed::positive(FALSE)]);
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

    fn intern(&mut self, conjuncts: Vec<Signed>) -> NodeId {
        let conjuncts: Arc<[Signed]> = conjuncts.into();
        if let Some(&id) = self.node_index.get(&conjuncts) {
            return id;
        }
        let id = u32::try_from(self.nodes.len()).expect("fewer nodes than memory");
        self.nodes.push(conjuncts.clone());
        self.node_index.insert(conjuncts, id);
        self.alternatives.push(None);
        id
    }

    /// The node of values that satisfy all of these.
    pub(super) fn node(&mut self, conjuncts: Vec<Signed>) -> NodeId {
        let mut flat = Vec::with_capacity(conjuncts.len());
        let mut queue = conjuncts;
        // What is included twice says the same twice; doubled level by level it would be met without end.
        let mut included = FxHashSet::default();
        while let Some(mut signed) = queue.pop() {
            loop {
                let schema = self.schema(signed.schema());
                signed = match (&schema.keywords[..], signed.is_negative()) {
                    ([Keyword::Ref(Ref(target))], false) => Signed::positive(*target),
                    ([Keyword::Ref(Ref(target))], true) => Signed::negative(*target),
                    ([Keyword::Not(Not(inner))], false) => Signed::negative(*inner),
                    ([Keyword::Not(Not(inner))], true) => Signed::positive(*inner),
                    ([Keyword::AllOf(AllOf(list))], false) => {
                        if included.insert(signed.schema()) {
                            queue.extend(list.iter().map(|&inner| Signed::positive(inner)));
                        }
                        break;
                    }
                    ([], false) => break,
                    ([], true) => return NOTHING,
                    ([Keyword::AnyOf(AnyOf(list))], negative) if list.is_empty() => {
                        if negative {
                            break;
                        }
                        return NOTHING;
                    }
                    _ => {
                        flat.push(signed);
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
        if schema == TRUE { ANYTHING } else { self.node(vec![Signed::positive(schema)]) }
    }

    pub(super) fn conjuncts(&self, node: NodeId) -> Arc<[Signed]> {
        self.nodes[node as usize].clone()
    }

    /// Values in both nodes.
    pub(super) fn meet_nodes(&mut self, a: NodeId, b: NodeId) -> NodeId {
        match (a, b) {
            (ANYTHING, other) | (other, ANYTHING) => other,
            (NOTHING, _) | (_, NOTHING) => NOTHING,
            (a, b) if a == b => a,
            _ => {
                let mut conjuncts = self.nodes[a as usize].to_vec();
                conjuncts.extend_from_slice(&self.nodes[b as usize]);
                self.node(conjuncts)
            }
        }
    }

    /// Values not in the node, as a conjunction of one signed schema.
    pub(super) fn complement_node(&mut self, node: NodeId) -> NodeId {
        let conjuncts = self.conjuncts(node);
        match conjuncts[..] {
            [] => NOTHING,
            [signed] => self.node(vec![signed.flipped()]),
            _ => {
                if let Some(&known) = self.complements.get(&node) {
                    return known;
                }
                let mut inner = Vec::with_capacity(conjuncts.len());
                for signed in conjuncts.iter() {
                    inner.push(if signed.is_negative() {
                        self.keyword_schema(Keyword::Not(Not(signed.schema())), &Schema::default())
                    } else {
                        signed.schema()
                    });
                }
                let all = self.keyword_schema(Keyword::AllOf(AllOf(inner)), &Schema::default());
                // Stays one negated schema: flattening would lose the negation.
                let complement = self.intern(vec![Signed::negative(all)]);
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
        let conjuncts = self.conjuncts(node);
        let mut result;
        if let [signed] = conjuncts[..]
            && signed.is_negative()
        {
            result = self.negated(signed.schema());
        } else {
            // The schemas themselves first: they are what the negations are cut out of.
            result = Alternatives::all();
            let (negative, positive): (Vec<Signed>, Vec<Signed>) =
                conjuncts.iter().partition(|signed| signed.is_negative());
            self.constrain(&mut result, &positive);
            for signed in negative {
                if !result.is_none() {
                    let single = self.intern(vec![signed]);
                    let other = self.alternatives(single);
                    self.meet(&mut result, &other, signed);
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
        let conjuncts = self.conjuncts(node);
        let mut holds =
            |value: &Value| conjuncts.iter().all(|signed| self.valid(signed.schema(), value) != signed.is_negative());
        result.null = holds(&Value::Null);
        result.booleans = [false, true].map(|value| holds(&Value::Bool(value)));
        for &signed in conjuncts.iter() {
            result.numbers[0].guard(signed);
            result.strings[0].guard(signed);
            result.arrays[0].guard(signed);
            result.objects[0].guard(signed);
        }
        result
    }

    pub(super) fn is_in_progress(&self, node: NodeId) -> bool {
        self.in_progress.contains(&node)
    }

    /// Applies schemas: types first, then all else that narrows without branching, in all of them and what they
    /// include, so that the branches meet as much of their surroundings as there is.
    fn constrain(&mut self, result: &mut Alternatives, conjuncts: &[Signed]) {
        let (mut schemas, mut seen) = (Vec::new(), FxHashSet::default());
        for signed in conjuncts {
            self.gather(signed.schema(), &mut schemas, &mut seen);
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
                        keyword.assertion().allow(self, result, Site { keyword, schema, id: *id });
                        if result.is_none() {
                            return;
                        }
                    }
                }
            }
        }
    }

    /// The schema after those that it includes by `allOf` and `$ref`: members come in the order a person reads.
    pub(super) fn gather(
        &self,
        id: SchemaId,
        schemas: &mut Vec<(SchemaId, Arc<Schema>)>,
        seen: &mut FxHashSet<SchemaId>,
    ) {
        if !seen.insert(id) {
            return;
        }
        let schema = self.schema(id);
        for keyword in &schema.keywords {
            match keyword {
                Keyword::AllOf(AllOf(list)) => list.iter().for_each(|&inner| self.gather(inner, schemas, seen)),
                Keyword::Ref(Ref(target)) => self.gather(*target, schemas, seen),
                _ => {}
            }
        }
        schemas.push((id, schema));
    }
}
