//! Derivatives, and the characters that an expression tells apart.

use super::counting::derive_leap;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::super::charset::CharSet;
use super::{ANY, Branch, EPSILON, Expr, ExprId, FULL, Frontier, INFINITE, Languages, NONE};

impl Languages {
    /// The rests of the words that start with `c`.
    pub(crate) fn derive(&mut self, e: ExprId, c: u32) -> ExprId {
        match self.nodes[e as usize].clone() {
            Expr::None | Expr::Epsilon => NONE,
            Expr::Any => ANY,
            Expr::Class(class) => {
                if self.classes[class as usize].contains(c) {
                    EPSILON
                } else {
                    NONE
                }
            }
            Expr::Words { set, low, high, depth } => self.derive_words(set, low, high, depth, c),
            Expr::Concat(mut head, mut tail) => {
                let mut parts = Vec::new();
                loop {
                    let derived = self.derive(head, c);
                    let part = self.concat(derived, tail);
                    if part != NONE {
                        parts.push(part);
                    }
                    if !self.nullable(head) {
                        break;
                    }
                    if let Expr::Concat(next, rest) = self.nodes[tail as usize] {
                        (head, tail) = (next, rest);
                    } else {
                        parts.push(self.derive(tail, c));
                        break;
                    }
                }
                if parts.len() == 1 { parts[0] } else { self.or(parts) }
            }
            Expr::Or(items) => {
                let parts = items.iter().map(|&item| self.derive(item, c)).collect();
                self.or(parts)
            }
            Expr::And(items) => {
                let mut parts = Vec::with_capacity(items.len());
                for &item in items.iter() {
                    let part = self.derive(item, c);
                    if part == NONE {
                        return NONE;
                    }
                    parts.push(part);
                }
                self.and(parts)
            }
            Expr::Not(inner) => {
                let derived = self.derive(inner, c);
                self.not(derived)
            }
            Expr::Repeat(inner, min, max) => {
                let derived = self.derive(inner, c);
                if derived == NONE {
                    return NONE;
                }
                let max = if max == INFINITE { INFINITE } else { max - 1 };
                let rest = self.repeat(inner, min.saturating_sub(1), max);
                self.concat(derived, rest)
            }
            Expr::Fix(name) => {
                let body = self.fixes[name as usize];
                self.derive(body, c)
            }
            Expr::Multiple { divisor, fraction, remainder } => self.derive_multiple(divisor, fraction, remainder, c),
            Expr::Leap { place, hour, minute } => match derive_leap(place, hour, minute, c) {
                Some((place, hour, minute)) => self.intern(Expr::Leap { place, hour, minute }),
                None => NONE,
            },
        }
    }

    pub(super) fn derive_words(&mut self, set: u32, low: u32, high: u32, depth: u32, c: u32) -> ExprId {
        let Some(c) = char::from_u32(c) else { return NONE };
        let mut buffer = [0; 4];
        let bytes = c.encode_utf8(&mut buffer).as_bytes();
        let words = &self.words[set as usize];
        let (from, to, at) = (low as usize, high as usize, depth as usize);
        let prefix = |word: &str| {
            let rest = &word.as_bytes()[at..];
            rest[..rest.len().min(bytes.len())].cmp(bytes)
        };
        let start = from + words[from..to].partition_point(|word| prefix(word).is_lt());
        let end = start + words[start..to].partition_point(|word| prefix(word).is_eq());
        let narrow = |n: usize| u32::try_from(n).expect("indexes into a set fit u32");
        let (start, end, depth) = (narrow(start), narrow(end), depth + narrow(bytes.len()));
        self.word_range(set, start, end, depth)
    }

    /// True when the text is a word of the language.
    pub fn matches(&mut self, e: ExprId, text: &str) -> bool {
        match self.nodes[e as usize] {
            Expr::Any => return true,
            Expr::Words { set, low, high, depth } => {
                let words = &self.words[set as usize][low as usize..high as usize];
                return words.binary_search_by(|word| word.as_bytes()[depth as usize..].cmp(text.as_bytes())).is_ok();
            }
            Expr::Not(inner) => return !self.matches(inner, text),
            _ => {}
        }
        let mut state = e;
        for c in text.chars() {
            state = self.derive(state, c as u32);
            if state == NONE || state == ANY {
                break;
            }
        }
        self.nullable(state)
    }

    pub(super) fn frontier(&self, e: ExprId, out: &mut Frontier) {
        match &self.nodes[e as usize] {
            Expr::None | Expr::Any | Expr::Epsilon => {}
            Expr::Class(class) => {
                let set = &self.classes[*class as usize];
                out.ascii.push(set.ascii);
                if !set.wide.is_empty() {
                    out.wide.push(*class);
                }
            }
            Expr::Words { set, low, high, depth } => {
                let words = &self.words[*set as usize][*low as usize..*high as usize];
                let mut from = words.partition_point(|word| word.len() == *depth as usize);
                while from < words.len() {
                    let Some(c) = words[from][*depth as usize..].chars().next() else { break };
                    if c.is_ascii() {
                        out.ascii.push(1 << (c as u32));
                    } else {
                        out.wide_chars.push(c as u32);
                    }
                    from += words[from..].partition_point(|word| word[*depth as usize..].starts_with(c));
                }
            }
            Expr::Concat(head, tail) => {
                let (mut head, mut tail) = (*head, *tail);
                loop {
                    self.frontier(head, out);
                    if !self.nullable(head) {
                        return;
                    }
                    if let Expr::Concat(next, rest) = self.nodes[tail as usize] {
                        (head, tail) = (next, rest);
                    } else {
                        return self.frontier(tail, out);
                    }
                }
            }
            Expr::Or(items) | Expr::And(items) => items.iter().for_each(|&item| self.frontier(item, out)),
            Expr::Not(inner) | Expr::Repeat(inner, _, _) => self.frontier(*inner, out),
            Expr::Fix(name) => self.frontier(self.fixes[*name as usize], out),
            Expr::Multiple { .. } => {
                out.ascii.extend((b'0'..=b'9').chain([b'.']).map(|byte| 1u128 << byte));
            }
            Expr::Leap { .. } => out.ascii.extend(b"0123456789:.+-Zz".iter().map(|&byte| 1u128 << byte)),
        }
    }

    /// ASCII characters in blocks of equal derivatives; empty derivatives are left out.
    pub(crate) fn ascii_branches(&mut self, e: ExprId) -> Arc<[Branch]> {
        if let Some(branches) = self.branches.get(&e) {
            return branches.clone();
        }
        let mut frontier = Frontier::default();
        self.frontier(e, &mut frontier);
        frontier.ascii.sort_unstable();
        frontier.ascii.dedup();
        let mut blocks = vec![u128::MAX];
        for mask in frontier.ascii {
            for at in 0..blocks.len() {
                let (inside, outside) = (blocks[at] & mask, blocks[at] & !mask);
                if inside != 0 && outside != 0 {
                    blocks[at] = inside;
                    blocks.push(outside);
                }
            }
        }
        let mut branches: Vec<Branch> = Vec::with_capacity(blocks.len());
        for block in blocks {
            let target = self.derive(e, block.trailing_zeros());
            if target != NONE {
                branches.push(Branch { ascii: block, wide: Vec::new(), target });
            }
        }
        let branches: Arc<[Branch]> = branches.into();
        if !self.info[e as usize].positive {
            // A search for words asks first, the automaton soon after.
            self.branched += branches.len();
            self.branches.insert(e, branches.clone());
        }
        branches
    }

    /// True only when every string is a prefix of some word (not always found out).
    pub(crate) fn is_total(&self, e: ExprId) -> bool {
        match &self.nodes[e as usize] {
            Expr::Any => true,
            Expr::Or(items) => items.iter().any(|&item| self.is_total(item)),
            Expr::Not(inner) => self.length(*inner).1 != INFINITE,
            // Words that stay words however they go on: any two such languages have words in common.
            Expr::And(items) => items.iter().all(|&item| match self.nodes[item as usize] {
                Expr::Not(inner) => self.length(inner).1 != INFINITE,
                _ => self.is_total(item) && self.is_open(item),
            }),
            Expr::Concat(head, tail) => match self.nodes[*head as usize] {
                Expr::Any => self.info[*tail as usize].positive && *tail != NONE,
                Expr::Repeat(FULL, _, _) | Expr::Class(_) => {
                    (*head == FULL || matches!(self.nodes[*head as usize], Expr::Repeat(FULL, ..)))
                        && self.is_total(*tail)
                }
                _ => false,
            },
            Expr::Repeat(FULL, _, INFINITE) => true,
            _ => false,
        }
    }

    /// True only when every word stays one however it goes on.
    pub(super) fn is_open(&self, e: ExprId) -> bool {
        match &self.nodes[e as usize] {
            Expr::Any | Expr::Repeat(FULL, _, INFINITE) => true,
            Expr::Concat(_, tail) => self.is_open(*tail),
            Expr::Or(items) => items.iter().all(|&item| self.is_open(item)),
            _ => false,
        }
    }

    /// Characters above ASCII in blocks of equal derivatives; empty derivatives are left out.
    pub(crate) fn wide_branches(&mut self, e: ExprId) -> Vec<Branch> {
        let mut frontier = Frontier::default();
        self.frontier(e, &mut frontier);
        frontier.wide.sort_unstable();
        frontier.wide.dedup();
        let full = CharSet::full().wide;
        let mut cuts: Vec<u32> = Vec::new();
        for &class in &frontier.wide {
            let wide = &self.classes[class as usize].wide;
            if *wide != full {
                cuts.extend(wide.iter().flat_map(|&(low, high)| [low, high + 1]));
            }
        }
        cuts.extend(frontier.wide_chars.iter().flat_map(|&c| [c, c + 1]));
        cuts.sort_unstable();
        cuts.dedup();
        let mut blocks: FxHashMap<Vec<u32>, usize> = FxHashMap::default();
        let mut branches: Vec<Branch> = Vec::new();
        for (from, to) in full {
            let inner = cuts.iter().copied().filter(|&cut| cut > from && cut <= to);
            let mut low = from;
            for next in inner.chain([to + 1]) {
                let (start, high) = (low, next - 1);
                low = next;
                // Which classes and single characters hold the block decides its derivative.
                let mut signature: Vec<u32> =
                    frontier.wide.iter().copied().filter(|&c| self.classes[c as usize].contains(start)).collect();
                if frontier.wide_chars.contains(&start) {
                    signature.push(INFINITE);
                    signature.push(start);
                }
                if let Some(&at) = blocks.get(&signature) {
                    branches[at].wide.push((start, high));
                } else {
                    blocks.insert(signature, branches.len());
                    let target = self.derive(e, start);
                    branches.push(Branch { ascii: 0, wide: vec![(start, high)], target });
                }
            }
        }
        branches.retain(|branch| branch.target != NONE);
        branches
    }
}
