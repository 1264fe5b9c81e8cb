//! Emptiness and shortest words: cheap reasons first, then a search over derivatives that is given up in time.
//!
//! Whether a language counts as empty is a matter of its expression alone, never of what was asked before: it does when
//! it has no word *and* visiting every expression that derivatives lead to from it costs at most [`SEARCH_LIMIT`]. That
//! makes the work on one expression bounded, and every answer may be kept:
//!
//! - *What is reached from an expression that counts as empty counts as empty.* It has no word either, and fewer
//!   expressions are reached from it, so visiting them costs no more. One search settles all that it saw.
//! - *What reaches an expression that does not count as empty does not either.* Either that one has a word, and a way to
//!   it is a word here too; or visiting what it reaches costs too much, and that is reached from here as well. So a
//!   search ends at the first such expression, and one that is given up settles the whole way to where it got
//!   ([`Languages::settle`]).
//!
//! The cheap reasons:
//!
//! - An expression free of and, not and named parts has a word unless it is the empty language: each of its operators
//!   makes words of words, and none is left where a part has none.
//! - Such a one, bounded in length, has a word where its shortest is within the bounds: that is a word of both.
//! - A conjunction one of whose parts needs in every word a character that another part has in no word is empty: a
//!   common word would have that character ([`Languages::is_starved`]).
//! - An expression has a word where the derivative by some string has one: the string before it ([`Languages::has_witness`]).
//!
//! A search that is given up leaves open whether there is a word; one is *assumed*, and that is kept to be told.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::super::charset::CharSet;
use super::{Alphabet, Cost, EPSILON, Expr, ExprId, FILTER_LIMIT, INFINITE, Languages, NONE, branch_cost, char_cost};

/// Expressions that a search for a word may visit before it gives up and assumes that there is one; wide ones count
/// for more.
const SEARCH_LIMIT: usize = 4_000;
/// The same where words are longer than that: a search cannot come to their end.
const FAR_SEARCH_LIMIT: usize = 8;
/// States that the search for a shortest word may visit before any word will do.
const EXACT_SEARCH_LIMIT: usize = 128;
/// Endings that are kept to be tried first.
const WITNESSES: usize = 6;

/// What is known of an expression that is not positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// It has a word.
    Inhabited,
    /// A search was given up, so a word is assumed.
    Assumed,
    /// It has none; visiting all that is reached from it costs so much at most.
    Dead(u32),
}

impl Life {
    fn is_dead(self) -> bool {
        matches!(self, Self::Dead(_))
    }
}

/// How a search for a shortest word ended.
enum Search {
    /// Bytes of the word.
    Found(u32),
    /// At an expression that does not count as empty (only where no cost was asked for).
    Inhabited,
    /// All was visited but what is known to have no word. What visiting that too would cost, at most.
    Exhausted(u32),
    GaveUp,
}

/// How a visit of all that is reached ended.
enum Visit {
    /// There is no word.
    Dead,
    /// At an expression that does not count as empty, by way of these.
    Inhabited(Vec<ExprId>, Life),
    /// It would cost too much. The way to the farthest expression.
    TooMuch(Vec<ExprId>),
}

impl Languages {
    /// True when the language has no word.
    pub(crate) fn is_empty(&mut self, e: ExprId) -> bool {
        if self.info[e as usize].positive {
            return e == NONE;
        }
        if self.nullable(e) {
            return false;
        }
        if let Some(life) = self.life.get(&e) {
            return life.is_dead();
        }
        if self.is_bounded_positive(e) || self.has_witness(e) {
            self.life.insert(e, Life::Inhabited);
            return false;
        }
        !self.is_found(e) && self.settle(e)
    }

    /// The expression counts as having a word because the search for one was given up.
    pub(crate) fn is_assumed(&self, e: ExprId) -> bool {
        self.life.get(&e) == Some(&Life::Assumed)
    }

    /// Whether a word is assumed for any of the first expressions that derivatives lead to, and how many were looked at.
    pub(crate) fn assumes(&mut self, e: ExprId, limit: usize) -> (bool, usize) {
        let (mut seen, mut queue) = (FxHashSet::from_iter([e]), VecDeque::from([e]));
        let mut visited = 0;
        while let Some(e) = queue.pop_front() {
            if self.is_empty(e) || self.info[e as usize].positive {
                continue;
            }
            if self.is_assumed(e) {
                return (true, visited);
            }
            if visited >= limit {
                break;
            }
            visited += 1;
            queue.extend(self.targets(e).iter().filter(|&&target| seen.insert(target)));
        }
        (false, visited)
    }

    /// Every word needs a character that some part of the expression lets in no word: a cheap reason to be empty.
    pub(super) fn is_starved(&self, e: ExprId) -> bool {
        let Expr::And(items) = &self.nodes[e as usize] else { return false };
        let alphabet = self.info[e as usize].alphabet;
        alphabet != Alphabet::ALL && items.iter().any(|&item| self.needs_more_than(alphabet, item))
    }

    /// Every word has a character outside of the alphabet (not always found out).
    pub(super) fn needs_more_than(&self, alphabet: Alphabet, mut e: ExprId) -> bool {
        // Most expressions are known to need nothing else at first sight.
        if self.nullable(e) || alphabet.holds(self.info[e as usize].alphabet) {
            return false;
        }
        while let Expr::Concat(head, tail) = self.nodes[e as usize] {
            if self.needs_more_than(alphabet, head) {
                return true;
            }
            e = tail;
        }
        match &self.nodes[e as usize] {
            Expr::Class(class) => alphabet.meet(Alphabet::of(&self.classes[*class as usize])) == Alphabet::NONE,
            Expr::Or(items) => items.iter().all(|&item| self.needs_more_than(alphabet, item)),
            Expr::And(items) => items.iter().any(|&item| self.needs_more_than(alphabet, item)),
            Expr::Repeat(inner, 1.., _) => self.needs_more_than(alphabet, *inner),
            Expr::Words { low, high, .. } if high - low <= FILTER_LIMIT => {
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
                match self.life.get(&state) {
                    Some(Life::Inhabited) => break true,
                    Some(Life::Dead(_)) => break false,
                    _ if self.nullable(state) => break true,
                    _ if state == NONE => break false,
                    _ => {}
                }
                path.push(state);
                match chars.next() {
                    Some(&c) => state = self.derive(state, c),
                    None => break false,
                }
            };
            if found {
                self.life.extend(path.into_iter().map(|state| (state, Life::Inhabited)));
            }
            found
        })
    }

    /// A positive expression and a bound on the length that its shortest words keep.
    pub(super) fn is_bounded_positive(&self, e: ExprId) -> bool {
        let Expr::And(items) = &self.nodes[e as usize] else { return false };
        let [a, b] = items[..] else { return false };
        [(a, b), (b, a)].into_iter().any(|(bound, e)| match self.as_length(bound) {
            Some((min, max)) => self.info[e as usize].positive && (min..=max).contains(&self.length(e).0),
            None => false,
        })
    }

    /// Bytes of a shortest word; `None` when there is none.
    pub(crate) fn min_cost(&mut self, e: ExprId, cost: Cost) -> Option<u32> {
        if let Expr::Words { .. } = self.nodes[e as usize] {
            return Some(self.words_cost(e)[cost as usize]);
        }
        let info = self.info[e as usize];
        if info.nullable {
            return Some(0);
        }
        if info.positive && !matches!(self.nodes[e as usize], Expr::Multiple { .. }) {
            return (e != NONE).then_some(info.cost[cost as usize]);
        }
        if let Some(&exact) = self.exact_cost[cost as usize].get(&e) {
            return Some(exact);
        }
        if self.is_empty(e) {
            return None;
        }
        if let Some(&exact) = self.exact_cost[cost as usize].get(&e) {
            return Some(exact);
        }
        for (weight, limit) in self.efforts(e) {
            if let Search::Found(found) = self.search(e, cost, weight, limit, false) {
                return Some(found);
            }
        }
        // Too far to be found: a lower bound will have to do.
        self.assumed = true;
        let least = self.info[e as usize].cost[cost as usize];
        self.exact_cost[cost as usize].insert(e, least);
        Some(least)
    }

    /// Weights and limits of the searches that are tried: the shortest way (A*) while that is cheap, then any short
    /// way.
    fn efforts(&self, e: ExprId) -> impl Iterator<Item = (u32, usize)> + use<> {
        let far = self.length(e).0 as usize > SEARCH_LIMIT || self.is_assumed(e);
        let exact = (!far).then_some((1, EXACT_SEARCH_LIMIT));
        exact.into_iter().chain([(8, if far { FAR_SEARCH_LIMIT } else { SEARCH_LIMIT })])
    }

    /// Looks for a word, or for an expression that is known not to count as empty. False when neither was met.
    fn is_found(&mut self, e: ExprId) -> bool {
        for (weight, limit) in self.efforts(e) {
            match self.search(e, Cost::Raw, weight, limit, true) {
                Search::Found(_) | Search::Inhabited => return true,
                Search::Exhausted(work) => {
                    if work as usize <= SEARCH_LIMIT {
                        return false;
                    }
                    break;
                }
                Search::GaveUp => {}
            }
        }
        false
    }

    /// Decides whether an expression that no word was found for counts as empty, for it and for all on the way to where
    /// a visit that costs too much got: there is a last one on that way that does not count as empty.
    fn settle(&mut self, e: ExprId) -> bool {
        let way = match self.decide(e) {
            Ok(life) => return life.is_dead(),
            Err(way) => way,
        };
        // From the far end, then by halves: what is before one that does not count as empty does not either, and what
        // is behind one that does, does.
        let (mut inhabited, mut dead) = (0, way.len());
        let mut middle = dead - 1;
        while dead - inhabited > 1 {
            let found = self.is_found(way[middle]);
            let life = if found { self.life[&way[middle]] } else { self.decide(way[middle]).unwrap_or(Life::Assumed) };
            if life.is_dead() {
                dead = middle;
            } else {
                self.mark(&way[..middle], life);
                inhabited = middle;
            }
            middle = inhabited.midpoint(dead);
        }
        self.assumed |= way.iter().any(|&e| self.is_assumed(e));
        false
    }

    /// What is known of an expression, or is found by visiting all that is reached from it; the way to the farthest of
    /// that where a word has to be assumed.
    fn decide(&mut self, e: ExprId) -> Result<Life, Vec<ExprId>> {
        if let Some(&life) = self.life.get(&e) {
            return Ok(life);
        }
        match self.visit(e) {
            Visit::Dead => Ok(self.life[&e]),
            Visit::Inhabited(way, life) => {
                self.mark(&way, life);
                Ok(life)
            }
            Visit::TooMuch(way) => {
                self.life.insert(e, Life::Assumed);
                Err(way)
            }
        }
    }

    /// Keeps what is known of expressions that do not count as empty: a word that was found says more than one that was
    /// assumed.
    fn mark(&mut self, states: &[ExprId], life: Life) {
        for &state in states {
            if self.life.get(&state) != Some(&Life::Inhabited) {
                self.life.insert(state, life);
            }
        }
    }

    /// Visits all that is reached from an expression, those known to have no word as well: what that costs is to
    /// depend on the expression alone. Each is visited once, far ones first.
    fn visit(&mut self, e: ExprId) -> Visit {
        let mut reached: Vec<(ExprId, usize, u32)> = vec![(e, 0, 0)];
        let mut seen: FxHashSet<ExprId> = FxHashSet::from_iter([e]);
        let (mut open, mut farthest, mut work) = (vec![0], 0, 0);
        let way = |reached: &[(ExprId, usize, u32)], mut at: usize| {
            let mut way = vec![reached[at].0];
            while at != 0 {
                at = reached[at].1;
                way.push(reached[at].0);
            }
            way.reverse();
            way
        };
        while let Some(at) = open.pop() {
            let (state, _, depth) = reached[at];
            if depth > reached[farthest].2 {
                farthest = at;
            }
            work += self.work(state);
            if work > SEARCH_LIMIT {
                return Visit::TooMuch(way(&reached, farthest));
            }
            for &target in self.targets(state).iter() {
                if !seen.insert(target) || self.is_starved(target) {
                    continue;
                }
                let info = self.info[target as usize];
                let known = if info.nullable || info.positive { Some(Life::Inhabited) } else { None };
                if let Some(life) = known.or_else(|| self.life.get(&target).copied().filter(|life| !life.is_dead())) {
                    return Visit::Inhabited(way(&reached, at), life);
                }
                open.push(reached.len());
                reached.push((target, at, depth + 1));
            }
        }
        self.bury(seen, work);
        Visit::Dead
    }

    /// None of these has a word; visiting all of them costs so much.
    fn bury(&mut self, states: impl IntoIterator<Item = ExprId>, work: usize) {
        let work = u32::try_from(work).unwrap_or(u32::MAX);
        for state in states {
            let life = self.life.entry(state).or_insert(Life::Dead(work));
            if let Life::Dead(known) = life {
                *known = work.min(*known);
            }
        }
    }

    /// What visiting an expression costs: about as many alternatives as a derivative has to be taken of.
    fn work(&self, e: ExprId) -> usize {
        1 + self.width(e).pow(2) / 32
    }

    /// The derivatives of an expression, each once.
    fn targets(&mut self, e: ExprId) -> Arc<[ExprId]> {
        if let Some(targets) = self.targets.get(&e) {
            return targets.clone();
        }
        let narrow = self.ascii_branches(e);
        let wide = self.wide_branches(e);
        let mut targets: Vec<ExprId> = narrow.iter().chain(&wide).map(|branch| branch.target).collect();
        targets.sort_unstable();
        targets.dedup();
        let targets: Arc<[ExprId]> = targets.into();
        self.listed += targets.len();
        self.targets.insert(e, targets.clone());
        targets
    }

    /// What the parts of a conjunction want, added up: tells progress on one part from progress on all.
    pub(super) fn wanted(&self, e: ExprId, kind: usize, depth: u32) -> u32 {
        let cost = || self.info[e as usize].cost[kind];
        match &self.nodes[e as usize] {
            Expr::And(items) if depth > 0 => {
                items.iter().fold(0, |sum: u32, &item| sum.saturating_add(self.wanted(item, kind, depth - 1)))
            }
            Expr::Or(items) if depth > 0 && items.len() <= 8 && !self.info[e as usize].positive => {
                items.iter().map(|&item| self.wanted(item, kind, depth - 1)).min().unwrap_or(0)
            }
            _ => cost(),
        }
    }

    /// About how many alternatives a derivative has to be taken of.
    pub(super) fn width(&self, e: ExprId) -> usize {
        match &self.nodes[e as usize] {
            Expr::And(items) => items.iter().map(|&item| self.width(item)).sum(),
            Expr::Or(items) => items.len(),
            Expr::Not(inner) => self.width(*inner),
            _ => 1,
        }
    }

    /// From `e` to the nearest expression that has the empty word. What is found is kept for every step of the way,
    /// so costs go down by the bytes of each step. `any`: an expression that does not count as empty will do.
    ///
    /// A* with the lower bounds of [`Info::cost`]: such a bound never promises more than a step takes (the bound of an
    /// expression is at most the bytes of a character and the bound of the derivative by it), so with weight 1 the
    /// first word met is a shortest one, and with weight `w` at most `w` times as long.
    fn search(&mut self, e: ExprId, cost: Cost, weight: u32, limit: usize, any: bool) -> Search {
        let kind = cost as usize;
        // Entries: estimate, then what all parts still want, then deeper first, then the node's place in `seen`.
        let mut queue = BinaryHeap::new();
        let mut seen: Vec<(ExprId, u32, usize)> = vec![(e, 0, 0)];
        let mut best: FxHashMap<ExprId, u32> = FxHashMap::default();
        best.insert(e, 0);
        queue.push((Reverse(0u32), Reverse(0u32), 0u32, 0usize));
        let mut visited = 0;
        // Those known to have no word, and what visiting them would cost.
        let (mut buried, mut spared) = (FxHashSet::default(), 0u32);
        // The character that led to each entry of `seen`.
        let mut steps = vec![0u32];
        while let Some((_, _, _, at)) = queue.pop() {
            let (state, spent, _) = seen[at];
            if best[&state] < spent {
                continue;
            }
            let known = if self.nullable(state) { Some(0) } else { self.exact_cost[kind].get(&state).copied() };
            if let Some(rest) = known {
                self.keep_way(&seen, &steps, at, kind, spent + rest);
                return Search::Found(spent + rest);
            }
            match self.life.get(&state) {
                Some(&Life::Dead(work)) => {
                    if buried.insert(state) {
                        spared = spared.saturating_add(work);
                    }
                    continue;
                }
                Some(&life) if any => {
                    let mut at = at;
                    while at != 0 {
                        at = seen[at].2;
                        self.mark(&[seen[at].0], life);
                    }
                    return Search::Inhabited;
                }
                _ => {}
            }
            if self.is_starved(state) {
                continue;
            }
            visited += self.work(state);
            if visited > limit {
                return Search::GaveUp;
            }
            let narrow = self.ascii_branches(state);
            let wide = self.wide_branches(state);
            for branch in narrow.iter().chain(&wide) {
                let next = spent + branch_cost(branch)[kind];
                let known = best.get(&branch.target).copied().unwrap_or(INFINITE);
                if next >= known {
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
        let work = u32::try_from(visited).unwrap_or(u32::MAX).saturating_add(spared);
        if work as usize <= SEARCH_LIMIT {
            self.bury(seen.into_iter().map(|(state, _, _)| state), work as usize);
        }
        Search::Exhausted(work)
    }

    /// Keeps a way to a word: what each expression on it costs, and the ending itself.
    fn keep_way(&mut self, seen: &[(ExprId, u32, usize)], steps: &[u32], mut at: usize, kind: usize, total: u32) {
        let mut witness = Vec::new();
        let life = if self.is_assumed(seen[at].0) { Life::Assumed } else { Life::Inhabited };
        loop {
            let (state, spent, parent) = seen[at];
            self.mark(&[state], life);
            let entry = self.exact_cost[kind].entry(state).or_insert(INFINITE);
            *entry = (*entry).min(total - spent);
            if at == 0 {
                break;
            }
            witness.push(steps[at]);
            at = parent;
        }
        witness.reverse();
        self.witnesses.truncate(WITNESSES - 1);
        self.witnesses.insert(0, witness.into());
    }

    pub(super) fn word_slice(&self, e: ExprId) -> (&[Box<str>], usize) {
        match self.nodes[e as usize] {
            Expr::Words { set, low, high, depth } => {
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
    pub(crate) fn finite(&mut self, e: ExprId, limit: usize) -> Option<Vec<String>> {
        const LONGEST: u32 = 64;
        match self.nodes[e as usize] {
            Expr::Words { low, high, .. } if (high - low) as usize <= limit => {
                let (words, depth) = self.word_slice(e);
                return Some(words.iter().map(|word| word[depth..].to_owned()).collect());
            }
            Expr::Words { .. } => return None,
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
