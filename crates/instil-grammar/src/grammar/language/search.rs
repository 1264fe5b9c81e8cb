//! Emptiness and shortest words: cheap reasons first, then a search over derivatives that is given up in time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rustc_hash::FxHashMap;

use super::super::charset::CharSet;
use super::{Alphabet, Cost, EPSILON, ExprId, FILTER_LIMIT, INFINITE, Languages, NONE, Node, branch_cost, char_cost};

/// States that a search for a word may visit before it gives up and assumes that there is one. Each search that
/// gives up halves it for those after it, down to [`LEAST_SEARCH_LIMIT`]: what they look for is mostly alike.
const SEARCH_LIMIT: usize = 4_000;
const LEAST_SEARCH_LIMIT: usize = 8;
/// States that the search for a shortest word may visit before any word will do.
const EXACT_SEARCH_LIMIT: usize = 128;
/// Endings that are kept to be tried first.
const WITNESSES: usize = 6;

/// How a search ended.
enum Search {
    Found(u32),
    Exhausted,
    GaveUp,
}

impl Languages {
    /// True when the language has no word.
    pub fn is_empty(&mut self, e: ExprId) -> bool {
        if self.info[e as usize].positive {
            return e == NONE;
        }
        if self.nullable(e) {
            return false;
        }
        if let Some(&alive) = self.alive.get(&e) {
            return !alive;
        }
        if self.is_bounded_positive(e) || self.has_witness(e) {
            self.alive.insert(e, true);
            return false;
        }
        self.search(e, Cost::Raw).is_none()
    }

    /// Every word needs a character that some part of the expression lets in no word: a cheap reason to be empty.
    pub(super) fn is_starved(&self, e: ExprId) -> bool {
        let Node::And(items) = &self.nodes[e as usize] else { return false };
        let alphabet = self.info[e as usize].alphabet;
        alphabet != Alphabet::ALL && items.iter().any(|&item| self.needs_more_than(alphabet, item))
    }

    /// Every word has a character outside of the alphabet (not always found out).
    pub(super) fn needs_more_than(&self, alphabet: Alphabet, mut e: ExprId) -> bool {
        // Most expressions are known to need nothing else at first sight.
        if self.nullable(e) || alphabet.holds(self.info[e as usize].alphabet) {
            return false;
        }
        while let Node::Concat(head, tail) = self.nodes[e as usize] {
            if self.needs_more_than(alphabet, head) {
                return true;
            }
            e = tail;
        }
        match &self.nodes[e as usize] {
            Node::Class(class) => alphabet.meet(Alphabet::of(&self.classes[*class as usize])) == Alphabet::NONE,
            Node::Or(items) => items.iter().all(|&item| self.needs_more_than(alphabet, item)),
            Node::And(items) => items.iter().any(|&item| self.needs_more_than(alphabet, item)),
            Node::Repeat(inner, 1.., _) => self.needs_more_than(alphabet, *inner),
            Node::Words { low, high, .. } if high - low <= FILTER_LIMIT => {
                let (words, depth) = self.word_slice(e);
                words.iter().all(|word| !alphabet.holds(Alphabet::of_text(&word[depth..])))
            }
            _ => false,
        }
    }

    /// Tries the endings that were found last: neighbouring states mostly share them.
    pub(super) fn has_witness(&mut self, e: ExprId) -> bool {
        let witnesses = self.witnesses.clone();
        witnesses.iter().any(|witness| {
            let mut state = e;
            let mut path = Vec::with_capacity(witness.len());
            let mut chars = witness.iter();
            let found = loop {
                if self.nullable(state) || self.alive.get(&state) == Some(&true) {
                    break true;
                }
                if state == NONE || self.alive.get(&state) == Some(&false) {
                    break false;
                }
                path.push(state);
                match chars.next() {
                    Some(&c) => state = self.derive(state, c),
                    None => break false,
                }
            };
            if found {
                self.alive.extend(path.into_iter().map(|state| (state, true)));
            }
            found
        })
    }

    /// A positive expression and a bound on the length that its shortest words keep.
    pub(super) fn is_bounded_positive(&self, e: ExprId) -> bool {
        let Node::And(items) = &self.nodes[e as usize] else { return false };
        let [a, b] = items[..] else { return false };
        [(a, b), (b, a)].into_iter().any(|(bound, e)| match self.as_length(bound) {
            Some((min, max)) => self.info[e as usize].positive && (min..=max).contains(&self.length(e).0),
            None => false,
        })
    }

    /// Bytes of a shortest word; `None` when there is none.
    pub fn min_cost(&mut self, e: ExprId, cost: Cost) -> Option<u32> {
        if let Node::Words { .. } = self.nodes[e as usize] {
            return Some(self.words_cost(e)[cost as usize]);
        }
        let info = self.info[e as usize];
        if info.nullable {
            return Some(0);
        }
        if info.positive && !matches!(self.nodes[e as usize], Node::Multiple { .. }) {
            return (e != NONE).then_some(info.cost[cost as usize]);
        }
        if let Some(&exact) = self.exact_cost[cost as usize].get(&e) {
            return Some(exact);
        }
        if self.alive.get(&e) == Some(&false) {
            return None;
        }
        self.search(e, cost)
    }

    /// From `e` to the nearest expression that has the empty word: the shortest way (A*) while that is cheap,
    /// then any short way. What is found is kept for every step of the way, so costs go down by the
    /// bytes of each step.
    pub(super) fn search(&mut self, e: ExprId, cost: Cost) -> Option<u32> {
        let mut limit = (SEARCH_LIMIT >> self.given_up.min(16)).max(LEAST_SEARCH_LIMIT);
        if self.length(e).0 as usize > limit {
            // Too far to be found: only that there is none may show.
            limit = LEAST_SEARCH_LIMIT;
        }
        let exact = (limit > EXACT_SEARCH_LIMIT).then_some((1, EXACT_SEARCH_LIMIT));
        for (weight, limit) in exact.into_iter().chain([(8, limit)]) {
            match self.search_weighted(e, cost, weight, limit) {
                Search::Found(cost) => return Some(cost),
                Search::Exhausted => return None,
                Search::GaveUp => {}
            }
        }
        self.exhausted = true;
        self.given_up += 1;
        self.alive.insert(e, true);
        let assumed = self.info[e as usize].cost[cost as usize];
        self.exact_cost[cost as usize].insert(e, assumed);
        Some(assumed)
    }

    /// What the parts of a conjunction want, added up: tells progress on one part from progress on all.
    pub(super) fn wanted(&self, e: ExprId, kind: usize, depth: u32) -> u32 {
        let cost = || self.info[e as usize].cost[kind];
        match &self.nodes[e as usize] {
            Node::And(items) if depth > 0 => {
                items.iter().fold(0, |sum: u32, &item| sum.saturating_add(self.wanted(item, kind, depth - 1)))
            }
            Node::Or(items) if depth > 0 && items.len() <= 8 && !self.info[e as usize].positive => {
                items.iter().map(|&item| self.wanted(item, kind, depth - 1)).min().unwrap_or(0)
            }
            _ => cost(),
        }
    }

    /// About how many alternatives a derivative has to be taken of.
    pub(super) fn width(&self, e: ExprId) -> usize {
        match &self.nodes[e as usize] {
            Node::And(items) => items.iter().map(|&item| self.width(item)).sum(),
            Node::Or(items) => items.len(),
            Node::Not(inner) => self.width(*inner),
            _ => 1,
        }
    }

    fn search_weighted(&mut self, e: ExprId, cost: Cost, weight: u32, limit: usize) -> Search {
        let kind = cost as usize;
        // Entries: estimate, then what all parts still want, then deeper first, then the node's place in `seen`.
        let mut queue = BinaryHeap::new();
        let mut seen: Vec<(ExprId, u32, usize)> = vec![(e, 0, 0)];
        let mut best: FxHashMap<ExprId, u32> = FxHashMap::default();
        best.insert(e, 0);
        queue.push((Reverse(0u32), Reverse(0u32), 0u32, 0usize));
        let mut visited = 0;
        // The character that led to each entry of `seen`.
        let mut steps = vec![0u32];
        while let Some((_, _, _, at)) = queue.pop() {
            let (state, spent, _) = seen[at];
            if best[&state] < spent {
                continue;
            }
            let known = if self.nullable(state) { Some(0) } else { self.exact_cost[kind].get(&state).copied() };
            if let Some(rest) = known {
                let total = spent + rest;
                let mut at = at;
                let mut witness = Vec::new();
                loop {
                    let (state, spent, parent) = seen[at];
                    self.alive.insert(state, true);
                    let entry = self.exact_cost[kind].entry(state).or_insert(INFINITE);
                    *entry = (*entry).min(total - spent);
                    if at == 0 {
                        witness.reverse();
                        self.witnesses.truncate(WITNESSES - 1);
                        self.witnesses.insert(0, witness.into());
                        return Search::Found(total);
                    }
                    witness.push(steps[at]);
                    at = parent;
                }
            }
            if self.alive.get(&state) == Some(&false) || self.is_starved(state) {
                continue;
            }
            visited += 1 + self.width(state).pow(2) / 32;
            if visited > limit {
                return Search::GaveUp;
            }
            let narrow = self.ascii_branches(state);
            let wide = self.wide_branches(state);
            for branch in narrow.iter().chain(&wide) {
                let next = spent + branch_cost(branch)[kind];
                let known = best.get(&branch.target).copied().unwrap_or(INFINITE);
                if next >= known || self.alive.get(&branch.target) == Some(&false) {
                    continue;
                }
                best.insert(branch.target, next);
                let place = seen.len();
                seen.push((branch.target, next, at));
                steps.push(branch.wide.first().map_or(branch.ascii.trailing_zeros(), |range| range.0));
                let least = self.info[branch.target as usize].cost[kind];
                let estimate = next.saturating_add(least.saturating_mul(weight));
                queue.push((Reverse(estimate), Reverse(self.wanted(branch.target, kind, 4)), next, place));
            }
        }
        for (state, _, _) in seen {
            self.alive.insert(state, false);
        }
        Search::Exhausted
    }

    pub(super) fn word_slice(&self, e: ExprId) -> (&[Box<str>], usize) {
        match self.nodes[e as usize] {
            Node::Words { set, low, high, depth } => {
                (&self.words[set as usize][low as usize..high as usize], depth as usize)
            }
            _ => (&[], 0),
        }
    }

    pub(super) fn words_length(&self, e: ExprId) -> (u32, u32) {
        let (words, depth) = self.word_slice(e);
        words.iter().fold((INFINITE, 0), |(low, high), word| {
            let count = u32::try_from(word[depth..].chars().count()).unwrap_or(INFINITE);
            (low.min(count), high.max(count))
        })
    }

    pub(super) fn words_cost(&self, e: ExprId) -> [u32; 2] {
        let (words, depth) = self.word_slice(e);
        words.iter().fold([INFINITE; 2], |least, word| {
            let raw = u32::try_from(word.len() - depth).unwrap_or(INFINITE);
            let json = word[depth..].chars().map(|c| char_cost(c as u32)[1]).fold(0, u32::saturating_add);
            [least[0].min(raw), least[1].min(json)]
        })
    }

    /// All words, where there are at most `limit` of them and they are short.
    pub fn finite(&mut self, e: ExprId, limit: usize) -> Option<Vec<String>> {
        const LONGEST: u32 = 64;
        match self.nodes[e as usize] {
            Node::Words { low, high, .. } if (high - low) as usize <= limit => {
                let (words, depth) = self.word_slice(e);
                return Some(words.iter().map(|word| word[depth..].to_owned()).collect());
            }
            Node::Words { .. } => return None,
            _ => {}
        }
        if self.length(e).1 > LONGEST {
            return None;
        }
        let mut words = Vec::new();
        let mut queue = vec![(e, String::new())];
        while let Some((e, prefix)) = queue.pop() {
            if self.nullable(e) {
                words.push(prefix.clone());
            }
            if words.len() + queue.len() > limit || prefix.len() > LONGEST as usize {
                return None;
            }
            if e == EPSILON {
                continue;
            }
            let narrow = self.ascii_branches(e);
            let wide = self.wide_branches(e);
            for branch in narrow.iter().chain(&wide) {
                let set = CharSet { ascii: branch.ascii, wide: branch.wide.clone() };
                for (low, high) in set.ranges() {
                    if (high - low) as usize > limit {
                        return None;
                    }
                    for c in (low..=high).filter_map(char::from_u32) {
                        queue.push((branch.target, format!("{prefix}{c}")));
                    }
                }
            }
        }
        words.sort_unstable();
        Some(words)
    }
}
