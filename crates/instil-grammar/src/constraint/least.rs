//! Least values: of each node the alternative, and of each object the members, that lead to an end with fewest bytes.
//! The budget completes texts with them, and where containers nest deepest nothing else may come.

use rustc_hash::FxHashMap;

use super::frame::{Frame, Kind, Thread};
use super::rules::{Alternative, FIRSTS, First, other};
use super::step::Machine;
use crate::grammar::NodeId;

/// More tokens, or bytes, than any text may have.
pub(crate) const ENDLESS: u32 = u32::MAX / 4;
/// Most nodes that the search for least values expands at once.
const MOST_NODES: usize = 1 << 16;
/// Of members any of which will do, so many are looked at.
const MOST_CANDIDATES: usize = 16;

/// What is known of least values.
#[derive(Debug, Default)]
pub(crate) struct Least {
    /// Bytes of the least value of a node.
    bytes: FxHashMap<NodeId, u32>,
    /// The chosen alternative of a node.
    chosen: FxHashMap<NodeId, Option<Alternative>>,
}

/// The least value of a shape: its fixed bytes, and inner values with how often each stands in it.
#[derive(Debug, Default)]
struct Parts {
    fixed: u32,
    children: Vec<(NodeId, u32)>,
    /// Values of members any of which would have done: which is least depends on them.
    candidates: Vec<NodeId>,
}

impl Parts {
    fn endless() -> Self {
        Self { fixed: ENDLESS, ..Self::default() }
    }

    fn add(&mut self, node: NodeId) {
        match self.children.last_mut() {
            Some((last, times)) if *last == node => *times += 1,
            _ => self.children.push((node, 1)),
        }
    }
}

impl Least {
    /// Bytes of a node's least value, as far as is known.
    fn bytes(&self, node: NodeId) -> u32 {
        self.bytes.get(&node).copied().unwrap_or(ENDLESS)
    }

    /// Bytes of a shape's least value, as far as is known.
    fn sum(&self, parts: &Parts) -> u32 {
        let add =
            |sum: u32, (child, times): &(NodeId, u32)| sum.saturating_add(self.bytes(*child).saturating_mul(*times));
        parts.children.iter().fold(parts.fixed, add)
    }
}

impl Machine {
    /// The alternative of a node whose least value is shortest; none where it has no finite one.
    pub(crate) fn least_alternative(&mut self, node: NodeId) -> Option<Alternative> {
        if let Some(&chosen) = self.least.chosen.get(&node) {
            return chosen;
        }
        let mut best: Option<(u32, Alternative)> = None;
        self.settle(node);
        for alternative in self.all(node) {
            let parts = self.parts_of(alternative);
            let bytes = self.least.sum(&parts);
            if bytes < ENDLESS && best.is_none_or(|(least, _)| bytes < least) {
                best = Some((bytes, alternative));
            }
        }
        let chosen = best.map(|(_, alternative)| alternative);
        self.least.chosen.insert(node, chosen);
        chosen
    }

    /// Finds the bytes of the least values of a node and of all that those need: a least fixed point, since
    /// schemas recurse.
    fn settle(&mut self, node: NodeId) {
        if self.least.bytes.contains_key(&node) {
            return;
        }
        let mut open = vec![node];
        let mut equations: Vec<(NodeId, Vec<(Alternative, Parts)>)> = Vec::new();
        let mut seen: rustc_hash::FxHashSet<NodeId> = open.iter().copied().collect();
        while let Some(node) = open.pop() {
            if equations.len() >= MOST_NODES {
                break;
            }
            let parts: Vec<_> = self.all(node).into_iter().map(|shape| (shape, self.parts_of(shape))).collect();
            for (_, parts) in &parts {
                for &child in parts.children.iter().map(|(child, _)| child).chain(&parts.candidates) {
                    if !self.least.bytes.contains_key(&child) && seen.insert(child) {
                        open.push(child);
                    }
                }
            }
            equations.push((node, parts));
        }
        loop {
            let mut changed = false;
            for (node, shapes) in equations.iter_mut().rev() {
                for (shape, parts) in shapes {
                    if !parts.candidates.is_empty() {
                        *parts = self.parts_of(*shape);
                    }
                    let bytes = self.least.sum(parts);
                    let known = self.least.bytes.entry(*node).or_insert(ENDLESS);
                    if bytes < *known {
                        *known = bytes;
                        changed = true;
                    }
                }
            }
            if !changed {
                break;
            }
        }
        for node in seen {
            self.least.bytes.entry(node).or_insert(ENDLESS);
        }
    }

    /// All alternatives of a node.
    fn all(&mut self, node: NodeId) -> Vec<Alternative> {
        let list = self.rules.alternatives(node, &mut self.expansion);
        (0..FIRSTS).flat_map(|first| self.rules.list(list, first).to_vec()).collect()
    }

    /// The least value of a shape, as far as is known.
    fn parts_of(&mut self, shape: Alternative) -> Parts {
        let mut parts = Parts::default();
        match shape.first {
            First::Null | First::True => parts.fixed = 4,
            First::False => parts.fixed = 5,
            First::Number => parts.fixed = self.expansion.lang_min_bytes(shape.index),
            First::String => {
                let bounds = self.rules.strings[shape.index as usize].clone();
                let start = self.expansion.lang_start(bounds.lang);
                parts.fixed = self.expansion.lang_min_json_bytes(start).max(bounds.min_chars).saturating_add(2);
            }
            First::Array => {
                let mut frame = Frame::new(Kind::ArrayOpen, shape.index);
                parts.fixed = 2;
                while !self.array_closable(frame) {
                    let items = self.items(frame);
                    let Some(&(node, after)) = items.first() else { return Parts::endless() };
                    parts.add(node);
                    frame = after;
                    parts.fixed += 2;
                    if parts.fixed > 1 << 20 {
                        return Parts::endless();
                    }
                }
            }
            First::Object => {
                let mut state = self.rules.open(shape.index);
                parts.fixed = 2;
                while !self.rules.state(state).closable {
                    let rules = self.rules.state(state);
                    let member = if rules.members_first {
                        let end = u32::try_from(self.rules.object_of(state).names.len()).unwrap_or(u32::MAX);
                        let key = Frame { c: end, ..Frame::new(Kind::MemberKey, state) };
                        let candidates = self.candidates(key);
                        let Some(member) = self.least_of(key, &candidates) else { return Parts::endless() };
                        let object = self.rules.object_of(state);
                        if candidates.len() > 1 {
                            parts.candidates.extend(candidates.iter().map(|&member| object.nodes[member as usize]));
                        }
                        parts.add(object.nodes[member as usize]);
                        let name = u32::try_from(object.names[member as usize].len()).unwrap_or(ENDLESS);
                        parts.fixed = parts.fixed.saturating_add(name);
                        member
                    } else if rules.others {
                        let which = rules.nearest_other;
                        parts.add(self.rules.object_of(state).other_node(which));
                        other(which)
                    } else {
                        return Parts::endless();
                    };
                    parts.fixed = parts.fixed.saturating_add(6);
                    let next = self.rules.with_member(state, member);
                    if next == state && parts.fixed > 1 << 20 {
                        return Parts::endless();
                    }
                    state = next;
                }
            }
        }
        parts.fixed = parts.fixed.min(ENDLESS);
        parts
    }

    /// The members that a completion may take among the names that still match a key: the one that the object needs
    /// next, where it is one of them, else those that may follow.
    fn candidates(&self, key: Frame) -> Vec<u32> {
        let state = self.rules.state(key.a);
        if let Some(member) = self.rules.next_required(key.a)
            && (key.b..key.c).contains(&member)
            && state.any_allowed(member, member + 1)
        {
            return vec![member];
        }
        (key.b..key.c).filter(|&member| state.any_allowed(member, member + 1)).take(MOST_CANDIDATES).collect()
    }

    /// The one of some members whose least value is shortest, as far as is known.
    fn least_of(&self, key: Frame, candidates: &[u32]) -> Option<u32> {
        let object = self.rules.object_of(key.a);
        candidates.iter().copied().min_by_key(|&member| self.least.bytes(object.nodes[member as usize]))
    }

    /// The member that a completion takes among the names that still match a key.
    pub(crate) fn least_member(&mut self, key: Frame) -> Option<u32> {
        let candidates = self.candidates(key);
        if candidates.len() > 1 {
            for &member in &candidates {
                let node = self.rules.object_of(key.a).nodes[member as usize];
                self.settle(node);
            }
        }
        self.least_of(key, &candidates)
    }

    /// Of the keys that may be opened from a place, those from `low` on in `keys`, keeps the one that a completion takes.
    pub(crate) fn keep_least_key(&mut self, state: u32, keys: &mut Vec<Thread>, low: usize) {
        let rules = self.rules.state(state);
        let (members_first, nearest_other) = (rules.members_first, rules.nearest_other);
        let opened = keys.split_off(low);
        keys.extend(opened.into_iter().find_map(|mut thread| {
            let frame = &mut thread.frame;
            match frame.kind {
                Kind::OtherKey => return (!members_first && frame.a == nearest_other).then_some(thread),
                Kind::AnyKey | Kind::MemberKey if members_first => {}
                Kind::AnyKey => return Some(thread),
                _ => return None,
            }
            let member = self.least_member(*frame)?;
            (frame.kind, frame.b, frame.c) = (Kind::MemberKey, member, member + 1);
            Some(thread)
        }));
    }
}
