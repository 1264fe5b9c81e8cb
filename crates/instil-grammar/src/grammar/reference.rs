//! Membership of a finished value in a node, read off the shapes: what the automaton must accept,
//! said in the plainest way. For tests and for explaining a verdict; object order does not matter here.

use serde_json::Value;

use super::expand::Expansion;
use super::shape::{ArrayShape, NodeId, ObjectShape, ShapeKind};

/// Nesting of values that is followed.
const DEPTH_LIMIT: u32 = 512;

impl Expansion {
    /// Whether the value belongs to the node.
    pub fn contains(&mut self, node: NodeId, value: &Value) -> bool {
        self.contains_at(node, value, 0)
    }

    fn contains_at(&mut self, node: NodeId, value: &Value, depth: u32) -> bool {
        if depth > DEPTH_LIMIT {
            return false;
        }
        let shapes = self.shapes(node);
        shapes.iter().any(|shape| {
            let fits = match (&shape.kind, value) {
                (ShapeKind::Null, Value::Null) => true,
                (ShapeKind::Bool(wanted), Value::Bool(value)) => wanted == value,
                (ShapeKind::Number(language), Value::Number(number)) => self.accepts(*language, number.as_str()),
                (ShapeKind::String(shape), Value::String(text)) => {
                    let count = text.chars().count();
                    count >= shape.min_chars as usize
                        && shape.max_chars.is_none_or(|max| count <= max as usize)
                        && self.accepts(shape.lang, text)
                }
                (ShapeKind::Array(shape), Value::Array(items)) => self.array_fits(shape, items, depth + 1),
                (ShapeKind::Object(shape), Value::Object(members)) => self.object_fits(shape, members, depth + 1),
                _ => false,
            };
            fits && shape.guards.iter().all(|&guard| self.guard_check(guard, value))
        })
    }

    fn accepts(&mut self, language: u32, text: &str) -> bool {
        let start = self.lang_start(language);
        let end = text.bytes().fold(start, |state, byte| self.lang_next(state, byte));
        self.lang_accepts(end)
    }

    fn array_fits(&mut self, shape: &ArrayShape, items: &[Value], depth: u32) -> bool {
        items.len() >= shape.min_items as usize
            && shape.max_items.is_none_or(|max| items.len() <= max as usize)
            && items
                .iter()
                .enumerate()
                .all(|(at, item)| self.contains_at(shape.prefix.get(at).copied().unwrap_or(shape.items), item, depth))
            && shape.contains.iter().all(|contains| {
                let mut count = 0;
                for item in items {
                    if self.contains_at(contains.node, item, depth) {
                        count += 1;
                    } else if !self.contains_at(contains.other, item, depth) {
                        return false;
                    }
                }
                count >= contains.min && contains.max.is_none_or(|max| count <= max)
            })
            && (!shape.unique || super::evaluate::all_unique(items))
    }

    fn object_fits(&mut self, shape: &ObjectShape, members: &serde_json::Map<String, Value>, depth: u32) -> bool {
        let count = members.len();
        let has = |at: u32| members.contains_key(&shape.members[at as usize].name);
        count >= shape.min_members as usize
            && shape.max_members.is_none_or(|max| count <= max as usize)
            && shape.members.iter().all(|member| !member.required || members.contains_key(&member.name))
            && shape.implies.iter().all(|&(a, b)| !has(a) || has(b))
            && (0..shape.obligations).all(|bit| {
                members.iter().any(|(key, value)| {
                    let unnamed = shape.members.iter().all(|member| member.name != *key);
                    let entries = shape.others.iter().zip(&shape.serves).filter(|(_, bits)| *bits >> bit & 1 == 1);
                    unnamed
                        && entries
                            .into_iter()
                            .any(|(&(keys, node), _)| self.accepts(keys, key) && self.contains_at(node, value, depth))
                })
            })
            && members.iter().all(|(key, value)| {
                let named = shape.members.iter().find(|member| member.name == *key).map(|member| member.node);
                let node = named.or_else(|| {
                    let rest = shape.rest.filter(|_| !shape.forbidden.contains(key));
                    rest.or_else(|| {
                        shape.others.iter().find(|(keys, _)| self.accepts(*keys, key)).map(|(_, node)| *node)
                    })
                });
                node.is_some_and(|node| self.contains_at(node, value, depth))
            })
    }
}
