//! A byte trie over a set of byte strings. Knows nothing of grammars.
//!
//! Nodes lie in breadth-first order, so the children of a node are neighbours, ascending by byte.

use std::collections::VecDeque;

/// No node, no value.
pub(crate) const NONE: u32 = u32::MAX;

/// One node of a [`Trie`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    /// Index of the first child.
    pub(crate) first: u32,
    /// Number of children.
    pub(crate) children: u16,
    /// The byte that leads here.
    pub(crate) byte: u8,
    /// What ends here, or [`NONE`].
    pub(crate) value: u32,
    /// Parent, [`NONE`] for the root.
    pub(crate) parent: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Trie {
    nodes: Vec<Node>,
    /// `bytes[i]` is `nodes[i].byte`: dense, for searching.
    bytes: Vec<u8>,
    /// Child of the root by byte.
    top: Box<[u32; 256]>,
}

/// Index of the root.
pub(crate) const ROOT: u32 = 0;

impl Trie {
    /// Builds from distinct strings, sorted ascending; the empty string stands at the root.
    pub(crate) fn new(sorted: &[(&[u8], u32)]) -> Self {
        debug_assert!(sorted.is_sorted_by(|a, b| a.0 < b.0));
        let mut nodes = vec![Node { first: 0, children: 0, byte: 0, value: NONE, parent: NONE }];
        let mut queue = VecDeque::from([(0usize, 0usize, sorted.len(), 0usize)]);
        while let Some((node, mut low, high, depth)) = queue.pop_front() {
            if low < high && sorted[low].0.len() == depth {
                nodes[node].value = sorted[low].1;
                low += 1;
            }
            let first = nodes.len();
            while low < high {
                let byte = sorted[low].0[depth];
                let end = low + sorted[low..high].partition_point(|(bytes, _)| bytes[depth] == byte);
                queue.push_back((nodes.len(), low, end, depth + 1));
                let parent = u32::try_from(node).expect("a trie has fewer than 2^32 nodes");
                nodes.push(Node { first: 0, children: 0, byte, value: NONE, parent });
                low = end;
            }
            nodes[node].first = u32::try_from(first).expect("a trie has fewer than 2^32 nodes");
            nodes[node].children = u16::try_from(nodes.len() - first).expect("a node has at most 256 children");
        }
        let bytes: Vec<u8> = nodes.iter().map(|node| node.byte).collect();
        let mut top = Box::new([NONE; 256]);
        for child in nodes[0].first..nodes[0].first + u32::from(nodes[0].children) {
            top[bytes[child as usize] as usize] = child;
        }
        Self { nodes, bytes, top }
    }

    /// A node.
    #[inline]
    pub(crate) fn node(&self, index: u32) -> &Node {
        &self.nodes[index as usize]
    }

    /// Number of nodes.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The child by a byte, or [`NONE`].
    #[inline]
    pub(crate) fn child(&self, index: u32, byte: u8) -> u32 {
        if index == ROOT {
            return self.top[byte as usize];
        }
        let node = &self.nodes[index as usize];
        let (first, count) = (node.first as usize, node.children as usize);
        match self.bytes[first..first + count].iter().position(|&b| b == byte) {
            Some(offset) => node.first + u32::try_from(offset).expect("fewer than 256"),
            None => NONE,
        }
    }

    /// The node at which a string ends, or [`NONE`].
    pub(crate) fn find(&self, bytes: &[u8]) -> u32 {
        let mut node = ROOT;
        for &byte in bytes {
            node = self.child(node, byte);
            if node == NONE {
                return NONE;
            }
        }
        node
    }

    /// Calls `visit` with every value at or below a node.
    pub(crate) fn each_below(&self, node: u32, visit: &mut impl FnMut(u32)) {
        let mut open = vec![node];
        while let Some(node) = open.pop() {
            let node = self.node(node);
            if node.value != NONE {
                visit(node.value);
            }
            open.extend(node.first..node.first + u32::from(node.children));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_put_in() {
        let words: [(&[u8], u32); 5] = [(b"", 9), (b"a", 1), (b"abc", 2), (b"b", 3), (b"\xff\x00", 4)];
        let trie = Trie::new(&words);
        for (word, value) in words {
            assert_eq!(trie.node(trie.find(word)).value, value);
        }
        assert_eq!(trie.node(trie.find(b"ab")).value, NONE);
        assert_eq!(trie.find(b"ac"), NONE);
        let mut below = Vec::new();
        trie.each_below(trie.find(b"a"), &mut |value| below.push(value));
        below.sort_unstable();
        assert_eq!(below, [1, 2]);
    }
}
