//! Which nodes have no value. A value is finite: what only an endless text would satisfy counts as empty.

use rustc_hash::FxHashMap;
use serde_json::Value;

use super::Root;
use super::expand::Expansion;
use super::items::COUNTED_LIMIT;
use super::keyword::array::ItemCount;
use super::keyword::logic::{AnyOf, Ref};
use super::keyword::object::MemberCount;
use super::keyword::string::Length;
use super::keyword::value::{Enum, Type};
use super::keyword::{Count, Keyword};
use super::language::NONE;
use super::node::{ANYTHING, ArrayBody, NOTHING, ObjectBody};
use super::schema::{SchemaId, types};
use super::shape::NodeId;

/// Nesting of required values that is followed when looking for an empty node.
const DEPTH_LIMIT: usize = 24;
/// Listed values that are tried one by one.
const FINITE_LIMIT: usize = 64;

/// What is known of the emptiness of nodes, and where the question stands.
#[derive(Debug, Default)]
pub(super) struct Emptiness {
    known: FxHashMap<NodeId, bool>,
    /// Nodes that are being asked for, each because of the one before it.
    path: Vec<NodeId>,
    /// Nodes of the path before this place are not seen: alternatives are kept, so they must not rest on them.
    base: usize,
    /// First place of the path that an answer of late rests on; past its end when none does.
    rests_on: usize,
    /// An answer of late assumes values that may not be there.
    assumed: bool,
    /// Some question was given up for its depth.
    pub(super) cut_short: bool,
}

/// Where the question stood; see [`Emptiness::enter`].
pub(super) struct Outer {
    base: usize,
    rests_on: usize,
    assumed: bool,
}

impl Emptiness {
    /// Begins questions whose answers may not rest on the nodes asked for so far.
    pub(super) fn enter(&mut self) -> Outer {
        let outer = Outer { base: self.base, rests_on: self.rests_on, assumed: self.assumed };
        self.base = self.path.len();
        outer
    }

    /// Goes back to the question before.
    pub(super) fn leave(&mut self, outer: Outer) {
        self.base = outer.base;
        self.rests_on = outer.rests_on;
        self.assumed |= outer.assumed;
    }

    fn place(&self, node: NodeId) -> Option<usize> {
        let at = self.path[self.base..].iter().position(|&other| other == node)?;
        Some(self.base + at)
    }
}

impl Expansion {
    /// Empty for certain: no finite value. Nodes on the way here count as empty, since a least value does not
    /// hold another of its own kind; nodes whose alternatives are still being worked out count as inhabited.
    pub(super) fn is_surely_empty(&mut self, node: NodeId) -> bool {
        match node {
            ANYTHING => return false,
            NOTHING => return true,
            _ => {}
        }
        if let Some(&empty) = self.emptiness.known.get(&node) {
            return empty;
        }
        if self.is_plainly_inhabited(node) {
            self.emptiness.known.insert(node, false);
            return false;
        }
        if let Some(empty) = self.finite_emptiness(node) {
            self.emptiness.known.insert(node, empty);
            return empty;
        }
        if let Some(at) = self.emptiness.place(node) {
            self.emptiness.rests_on = self.emptiness.rests_on.min(at);
            return true;
        }
        let depth = self.emptiness.path.len();
        if self.is_in_progress(node) || depth >= DEPTH_LIMIT {
            self.emptiness.cut_short |= depth >= DEPTH_LIMIT;
            self.emptiness.assumed = true;
            return false;
        }
        let outer = (std::mem::replace(&mut self.emptiness.rests_on, usize::MAX), self.emptiness.assumed);
        self.emptiness.assumed = false;
        self.emptiness.path.push(node);
        let alternatives = self.alternatives(node);
        let empty = !alternatives.null
            && alternatives.booleans == [false; 2]
            && !alternatives.strings.iter().any(|case| !self.languages.is_empty(case.body))
            && !alternatives.numbers.iter().any(|case| self.number_language(&case.body).is_none_or(|e| e != NONE))
            && !alternatives.arrays.iter().any(|case| !self.is_empty_array(&case.body))
            && !alternatives.objects.iter().any(|case| !self.is_empty_object(&case.body));
        self.emptiness.path.pop();
        // That there is no value holds where it rests on no node further up; that there is one, where none was assumed.
        let (rests_on, assumed) = (self.emptiness.rests_on, self.emptiness.assumed);
        if if empty { rests_on >= depth } else { !assumed } {
            self.emptiness.known.insert(node, empty);
        }
        self.emptiness.rests_on = if empty && rests_on < depth { outer.0.min(rests_on) } else { outer.0 };
        self.emptiness.assumed = outer.1 || (assumed && !empty);
        empty
    }

    /// Some node was taken for inhabited because the question went too deep.
    pub(crate) fn is_emptiness_open(&self) -> bool {
        self.emptiness.cut_short
    }

    /// Pointer of the innermost schema that makes the root empty: down required members as long as one is to blame.
    pub(super) fn empty_part(&mut self) -> String {
        let Root::Json(mut node) = self.root() else { return String::new() };
        let mut pointer = String::new();
        let mut seen = Vec::new();
        while node != NOTHING && !seen.contains(&node) {
            seen.push(node);
            let alternatives = self.alternatives(node);
            let [case] = &alternatives.objects[..] else { break };
            let slots: Vec<(bool, NodeId)> = case.body.slots().iter().map(|slot| (slot.required, slot.node)).collect();
            let Some((_, part)) = slots.into_iter().find(|&(required, node)| required && self.is_surely_empty(node))
            else {
                break;
            };
            let Some(signed) = self.conjuncts(part).first().copied() else { break };
            pointer.clone_from(&self.schema(signed.schema()).pointer);
            node = part;
        }
        pointer
    }

    /// Where a schema lists its values, trying them tells.
    fn finite_emptiness(&mut self, node: NodeId) -> Option<bool> {
        self.listed_values(node).map(|values| values.is_empty())
    }

    /// The values of a node, where a schema of it lists them.
    pub(super) fn listed_values(&mut self, node: NodeId) -> Option<Vec<Value>> {
        let conjuncts = self.conjuncts(node);
        let values = conjuncts.iter().filter(|signed| !signed.is_negative()).find_map(|signed| {
            self.schema(signed.schema()).keywords.iter().find_map(|keyword| match keyword {
                Keyword::Enum(Enum(values)) if values.len() <= FINITE_LIMIT => Some(values.clone()),
                _ => None,
            })
        })?;
        let mut fitting = Vec::with_capacity(values.len());
        for value in values.iter() {
            if conjuncts.iter().all(|signed| self.valid(signed.schema(), value) != signed.is_negative()) {
                fitting.push(value.clone());
            }
        }
        Some(fitting)
    }

    fn is_empty_array(&mut self, body: &ArrayBody) -> bool {
        let needed = (body.min as usize).min(body.prefix.len() + 1);
        if body.max.is_some_and(|max| body.min > max) || (0..needed).any(|at| self.is_surely_empty(body.item(at))) {
            return true;
        }
        // Nothing more is looked at than must be: items that need not come are worked out when they do.
        if body.contains.is_empty() && !(body.unique && body.min > 1) {
            return false;
        }
        let mut body = body.clone();
        body.contains.truncate(COUNTED_LIMIT);
        body.contains.iter().any(|&(node, min, _)| min > 0 && self.is_surely_empty(node))
            || self.array_shape(&body).is_none()
    }

    pub(super) fn is_empty_object(&mut self, body: &ObjectBody) -> bool {
        let required = body.slots().iter().filter(|slot| slot.required).count();
        if body.max.is_some_and(|max| (max as usize) < required) {
            return true;
        }
        if body.others.is_empty() && (body.min as usize) > required {
            let possible = body.slots().iter().filter(|slot| slot.node != NOTHING).count();
            if possible < body.min as usize {
                return true;
            }
        }
        if body.slots().iter().any(|slot| slot.required && self.is_surely_empty(slot.node)) {
            return true;
        }
        body.some.iter().any(|exists| {
            exists.keys == NONE
                || self.is_surely_empty(exists.value)
                || (body.others.is_empty()
                    && !body
                        .slots()
                        .iter()
                        .any(|slot| slot.node != NOTHING && self.languages.matches(exists.keys, &slot.name)))
        })
    }

    /// A quick look at a single schema; false when it takes more than that.
    fn is_plainly_inhabited(&mut self, node: NodeId) -> bool {
        match self.conjuncts(node)[..] {
            [signed] if !signed.is_negative() => self.schema_inhabited(signed.schema(), 0),
            _ => false,
        }
    }

    fn schema_inhabited(&self, id: SchemaId, depth: u32) -> bool {
        if depth > 8 {
            return false;
        }
        let schema = self.schema(id);
        // Types that are allowed and about which no other keyword says anything.
        let mut open = 0x7F;
        for keyword in &schema.keywords {
            open &= match keyword {
                Keyword::Type(Type(bits)) => *bits,
                Keyword::Enum(Enum(values)) if schema.keywords.len() == 1 => return !values.is_empty(),
                Keyword::Number(_) => !(types::NUMBER | types::INTEGER),
                Keyword::Length(Length(count)) if count.is_possible() && !has_language(&schema.keywords) => 0x7F,
                Keyword::Length(_) | Keyword::Pattern(_) | Keyword::Format(_) => !types::STRING,
                Keyword::Object(_) | Keyword::PropertyNames(_) | Keyword::DependentRequired(_) => 0x7F,
                Keyword::MemberCount(MemberCount(Count { min: 0, .. }))
                | Keyword::ItemCount(ItemCount(Count { min: 0, .. })) => 0x7F,
                Keyword::Unique(_) | Keyword::Items(_) => 0x7F,
                Keyword::Required(_)
                | Keyword::MemberCount(_)
                | Keyword::UnevaluatedProperties(_)
                | Keyword::DependentSchemas(_) => !types::OBJECT,
                Keyword::ItemCount(_) | Keyword::Contains(_) | Keyword::UnevaluatedItems(_) => !types::ARRAY,
                Keyword::Ref(Ref(target)) if schema.keywords.len() == 1 => {
                    return self.schema_inhabited(*target, depth + 1);
                }
                Keyword::AnyOf(AnyOf(list)) if schema.keywords.len() == 1 => {
                    return list.iter().any(|&inner| self.schema_inhabited(inner, depth + 1));
                }
                Keyword::Enum(_)
                | Keyword::AllOf(_)
                | Keyword::AnyOf(_)
                | Keyword::OneOf(_)
                | Keyword::Not(_)
                | Keyword::If(_)
                | Keyword::Ref(_) => return false,
            };
        }
        open != 0
    }
}

fn has_language(keywords: &[Keyword]) -> bool {
    keywords.iter().any(|keyword| matches!(keyword, Keyword::Pattern(_) | Keyword::Format(_)))
}
