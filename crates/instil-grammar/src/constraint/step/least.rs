//! Least values: of each node the alternative, and of each object the members, that lead to an end with fewest bytes.
//! The budget completes texts with them, and where containers nest deepest nothing else may come.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashMap;

use super::Machine;
use crate::constraint::rules::{Alternative, Start};
use crate::constraint::shared::Cells;
use crate::grammar::NodeId;

/// More tokens, or bytes, than any text may have.
pub(crate) const ENDLESS: u32 = u32::MAX / 4;
/// Most nodes that the search for least values expands at once.
const MOST_NODES: usize = 1 << 16;

/// What is known of least values.
#[derive(Debug, Default)]
pub(crate) struct Least {
    known: Mutex<LeastBytes>,
    /// The chosen alternative of a node.
    chosen: Cells<Option<Alternative>>,
}

/// Bytes of the least values of nodes, as far as is known.
#[derive(Debug, Default)]
pub(super) struct LeastBytes(FxHashMap<NodeId, u32>);

/// The least value of a shape: its fixed bytes, and inner values with how often each stands in it.
#[derive(Debug, Default)]
pub(super) struct LeastShape {
    pub(super) fixed: u32,
    children: Vec<(NodeId, u32)>,
    /// Values of members any of which would have done: which is least depends on them.
    pub(super) candidates: Vec<NodeId>,
}

impl LeastShape {
    /// Nothing but so many bytes.
    pub(super) fn of_bytes(fixed: u32) -> Self {
        Self { fixed, ..Self::default() }
    }

    /// There is no finite one.
    pub(super) fn endless() -> Self {
        Self { fixed: ENDLESS, ..Self::default() }
    }

    /// One more inner value.
    pub(super) fn add(&mut self, node: NodeId) {
        match self.children.last_mut() {
            Some((last, times)) if *last == node => *times += 1,
            _ => self.children.push((node, 1)),
        }
    }
}

impl LeastBytes {
    /// Bytes of a node's least value, as far as is known.
    pub(super) fn of(&self, node: NodeId) -> u32 {
        self.0.get(&node).copied().unwrap_or(ENDLESS)
    }

    /// Bytes of a shape's least value, as far as is known.
    fn sum(&self, shape: &LeastShape) -> u32 {
        let add = |sum: u32, (child, times): &(NodeId, u32)| sum.saturating_add(self.of(*child).saturating_mul(*times));
        shape.children.iter().fold(shape.fixed, add)
    }
}

impl Machine {
    /// The alternative of a node whose least value is shortest; none where it has no finite one.
    pub(super) fn least_alternative(&self, node: NodeId) -> Option<Alternative> {
        *self.least.chosen.get_or(node, || {
            let mut best: Option<(u32, Alternative)> = None;
            let known = self.settled(&[node]);
            for alternative in self.all(node) {
                let bytes = known.sum(&self.least_shape(alternative.start, &known));
                if bytes < ENDLESS && best.is_none_or(|(least, _)| bytes < least) {
                    best = Some((bytes, alternative));
                }
            }
            best.map(|(_, alternative)| alternative)
        })
    }

    /// What is known of least values once those of some nodes are.
    pub(super) fn settled(&self, nodes: &[NodeId]) -> MutexGuard<'_, LeastBytes> {
        let mut known = self.least.known.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.iter().for_each(|&node| self.settle(node, &mut known));
        known
    }

    /// Finds the bytes of the least values of a node and of all that those need: a least fixed point, since
    /// schemas recurse.
    fn settle(&self, node: NodeId, known: &mut LeastBytes) {
        if known.0.contains_key(&node) {
            return;
        }
        let mut open = vec![node];
        let mut equations: Vec<(NodeId, Vec<(Start, LeastShape)>)> = Vec::new();
        let mut seen: rustc_hash::FxHashSet<NodeId> = open.iter().copied().collect();
        while let Some(node) = open.pop() {
            if equations.len() >= MOST_NODES {
                break;
            }
            let starts = self.all(node).into_iter().map(|alternative| alternative.start);
            let shapes: Vec<_> = starts.map(|start| (start, self.least_shape(start, known))).collect();
            for (_, shape) in &shapes {
                for &child in shape.children.iter().map(|(child, _)| child).chain(&shape.candidates) {
                    if !known.0.contains_key(&child) && seen.insert(child) {
                        open.push(child);
                    }
                }
            }
            equations.push((node, shapes));
        }
        loop {
            let mut changed = false;
            for (node, shapes) in equations.iter_mut().rev() {
                for (start, shape) in shapes {
                    if !shape.candidates.is_empty() {
                        *shape = self.least_shape(*start, known);
                    }
                    let bytes = known.sum(shape);
                    let least = known.0.entry(*node).or_insert(ENDLESS);
                    if bytes < *least {
                        *least = bytes;
                        changed = true;
                    }
                }
            }
            if !changed {
                break;
            }
        }
        for node in seen {
            known.0.entry(node).or_insert(ENDLESS);
        }
    }

    /// All alternatives of a node.
    fn all(&self, node: NodeId) -> Vec<Alternative> {
        self.rules.alternatives(node, &self.expansion).iter().flat_map(|list| list.iter().copied()).collect()
    }

    /// The least value of a shape, as far as is known.
    fn least_shape(&self, start: Start, known: &LeastBytes) -> LeastShape {
        let mut shape = match start {
            Start::Constant(which) => LeastShape::of_bytes(u32::try_from(which.spelling().len()).unwrap_or(ENDLESS)),
            Start::Number(state) => self.least_number(state),
            Start::String(bounds) => self.least_string(bounds),
            Start::Array(array) => self.least_array(array),
            Start::Object(object) => self.least_object(object, known),
        };
        shape.fixed = shape.fixed.min(ENDLESS);
        shape
    }
}
