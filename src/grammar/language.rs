//! Regular languages over characters: hash-consed expressions, closed under and, or, not, with
//! derivatives taken when a state is first stepped.
//!
//! An expression is a language; equal expressions have equal ids after simplification, so taking
//! derivatives (Brzozowski 1964; Owens, Reppy and Turon 2009) reaches finitely many of them.
//! Counted repeats stay counted: `a{2,100000}` is one node. `automaton` turns
//! expressions into states over UTF-8 bytes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::charset::CharSet;

/// Index of an expression.
pub type ExprId = u32;
/// The empty language.
pub const NONE: ExprId = 0;
/// Every string.
pub const ANY: ExprId = 1;
/// The empty string alone.
pub const EPSILON: ExprId = 2;
/// Any one character.
const FULL: ExprId = 3;
/// No upper bound.
pub const INFINITE: u32 = u32::MAX;
/// States that a search for a word may visit before it gives up and assumes that there is one. Each search that
/// gives up halves it for those after it, down to [`LEAST_SEARCH_LIMIT`]: what they look for is mostly alike.
const SEARCH_LIMIT: usize = 4_000;
const LEAST_SEARCH_LIMIT: usize = 8;
/// States that the search for a shortest word may visit before any word will do.
const EXACT_SEARCH_LIMIT: usize = 128;
/// Endings that are kept to be tried first.
const WITNESSES: usize = 6;
/// Expressions kept; past this, new ones collapse to the empty language.
const EXPR_LIMIT: usize = 4_000_000;
/// Words of a finite set that are tried one by one when it is intersected.
const FILTER_LIMIT: u32 = 512;

/// What an expression is made of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Node {
    None,
    Any,
    Epsilon,
    Class(u32),
    /// Words `low..high` of a sorted set, all alike up to byte `depth`, without those bytes.
    Words {
        set: u32,
        low: u32,
        high: u32,
        depth: u32,
    },
    /// The head is never itself a concatenation.
    Concat(ExprId, ExprId),
    Or(Arc<[ExprId]>),
    And(Arc<[ExprId]>),
    Not(ExprId),
    Repeat(ExprId, u32, u32),
    /// A named language, defined by an expression in which every use of it comes after a character.
    Fix(u32),
    /// Rest of a decimal literal whose value is a multiple of a step.
    Multiple {
        step: u32,
        /// Fraction digits read so far; `None` before the point.
        fraction: Option<u32>,
        remainder: u64,
    },
    /// Rest of a time of day whose second is 60: one that is 23:59:60 in UTC.
    Leap {
        /// Characters read, the digits of a fraction not counted.
        place: u8,
        hour: u8,
        minute: u8,
    },
}

/// What is known of an expression when it is made.
#[derive(Clone, Copy, Debug)]
struct Info {
    nullable: bool,
    /// Free of and, not and named parts, hence never empty.
    positive: bool,
    /// Has a named part.
    recursive: bool,
    /// Bounds of the length in characters (outer bounds where not positive).
    length: (u32, u32),
    /// Fewest bytes, raw and as written in a JSON string (lower bounds where not positive).
    cost: [u32; 2],
    /// No word has a character outside of these.
    alphabet: Alphabet,
}

/// A set of characters, those above ASCII as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Alphabet {
    ascii: u128,
    wide: bool,
}

impl Alphabet {
    const NONE: Self = Self { ascii: 0, wide: false };
    const ALL: Self = Self { ascii: u128::MAX, wide: true };

    fn of(set: &CharSet) -> Self {
        Self { ascii: set.ascii, wide: !set.wide.is_empty() }
    }

    fn of_text(text: &str) -> Self {
        text.chars().fold(Self::NONE, |all, c| match u32::from(c) {
            c @ 0..0x80 => Self { ascii: all.ascii | 1 << c, ..all },
            _ => Self { wide: true, ..all },
        })
    }

    fn union(self, other: Self) -> Self {
        Self { ascii: self.ascii | other.ascii, wide: self.wide | other.wide }
    }

    fn meet(self, other: Self) -> Self {
        Self { ascii: self.ascii & other.ascii, wide: self.wide & other.wide }
    }

    fn holds(self, other: Self) -> bool {
        self.meet(other) == other
    }
}

/// How the bytes of a shortest word are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// UTF-8 bytes.
    Raw = 0,
    /// Bytes as written in a JSON string in canonical form.
    Json = 1,
}

/// A step `numerator / 10^scale`.
#[derive(Clone, Debug)]
struct Step {
    numerator: u64,
    scale: u32,
}

/// How a search ended.
enum Search {
    Found(u32),
    Exhausted,
    GaveUp,
}

/// All expressions of an expansion.
#[derive(Debug)]
pub struct Languages {
    nodes: Vec<Node>,
    info: Vec<Info>,
    index: FxHashMap<Node, ExprId>,
    classes: Vec<CharSet>,
    class_index: FxHashMap<CharSet, u32>,
    words: Vec<Arc<[Box<str>]>>,
    /// Characters of each set of words.
    word_alphabets: Vec<Alphabet>,
    fixes: Vec<ExprId>,
    steps: Vec<Step>,
    /// 0 unknown, 1 has a word, 2 has none; by expression, for those that are not positive.
    alive: FxHashMap<ExprId, bool>,
    exact_cost: [FxHashMap<ExprId, u32>; 2],
    /// Endings found by the last searches, newest first.
    witnesses: Vec<Arc<[u32]>>,
    /// ASCII branches of expressions that are not positive.
    branches: FxHashMap<ExprId, Arc<[Branch]>>,
    /// Parts of all conjunctions and alternations.
    listed: usize,
    /// Branches that are kept.
    branched: usize,
    /// Searches that gave up.
    given_up: u32,
    /// Set when a limit was hit and an answer assumed.
    pub exhausted: bool,
}

/// The characters that an expression tells apart in its first place.
#[derive(Default)]
pub struct Frontier {
    ascii: Vec<u128>,
    wide: Vec<u32>,
    wide_chars: Vec<u32>,
}

/// A block of characters with equal derivatives.
#[derive(Debug)]
pub struct Branch {
    /// ASCII members (empty for a block above ASCII).
    pub ascii: u128,
    /// Inclusive ranges above ASCII (empty for an ASCII block).
    pub wide: Vec<(u32, u32)>,
    /// The derivative.
    pub target: ExprId,
}

impl Default for Languages {
    fn default() -> Self {
        Self::new()
    }
}

impl Languages {
    /// The four constants only.
    pub fn new() -> Self {
        let mut this = Self {
            nodes: Vec::new(),
            info: Vec::new(),
            index: FxHashMap::default(),
            classes: Vec::new(),
            class_index: FxHashMap::default(),
            words: Vec::new(),
            word_alphabets: Vec::new(),
            fixes: Vec::new(),
            steps: Vec::new(),
            alive: FxHashMap::default(),
            exact_cost: [FxHashMap::default(), FxHashMap::default()],
            witnesses: Vec::new(),
            branches: FxHashMap::default(),
            listed: 0,
            branched: 0,
            given_up: 0,
            exhausted: false,
        };
        this.intern(Node::None);
        this.intern(Node::Any);
        this.intern(Node::Epsilon);
        this.class(CharSet::full());
        this
    }

    /// Memory held, roughly.
    pub(crate) fn size_bytes(&self) -> usize {
        let expression = 2 * size_of::<Node>() + size_of::<Info>() + 8;
        let known = self.alive.len() + self.exact_cost[0].len() + self.exact_cost[1].len();
        expression * self.nodes.len() + 4 * self.listed + 12 * known + 96 * self.branched
    }

    /// Number of expressions.
    pub(crate) fn count(&self) -> usize {
        self.nodes.len()
    }

    /// True when the empty string is a word.
    pub fn nullable(&self, e: ExprId) -> bool {
        self.info[e as usize].nullable
    }

    /// Outer bounds of the length in characters.
    pub fn length(&self, e: ExprId) -> (u32, u32) {
        match self.nodes[e as usize] {
            Node::Words { .. } => self.words_length(e),
            _ => self.info[e as usize].length,
        }
    }

    fn intern(&mut self, node: Node) -> ExprId {
        if let Some(&id) = self.index.get(&node) {
            return id;
        }
        if self.nodes.len() >= EXPR_LIMIT {
            self.exhausted = true;
            return NONE;
        }
        if let Node::Or(items) | Node::And(items) = &node {
            self.listed += items.len();
        }
        let info = self.describe(&node);
        let id = u32::try_from(self.nodes.len()).expect("bounded by EXPR_LIMIT");
        self.nodes.push(node.clone());
        self.info.push(info);
        self.index.insert(node, id);
        id
    }

    fn describe(&self, node: &Node) -> Info {
        let of = |e: ExprId| {
            let mut info = self.info[e as usize];
            if let Node::Words { .. } = self.nodes[e as usize] {
                info.length = self.words_length(e);
                info.cost = self.words_cost(e);
            }
            info
        };
        let leaf = |nullable, length, cost| Info {
            nullable,
            positive: true,
            recursive: false,
            length,
            cost,
            alphabet: Alphabet::ALL,
        };
        match node {
            Node::None => Info { positive: true, ..leaf(false, (INFINITE, 0), [INFINITE; 2]) },
            Node::Any => leaf(true, (0, INFINITE), [0; 2]),
            Node::Epsilon => Info { alphabet: Alphabet::NONE, ..leaf(true, (0, 0), [0; 2]) },
            Node::Class(class) => {
                let set = &self.classes[*class as usize];
                Info { alphabet: Alphabet::of(set), ..leaf(false, (1, 1), class_cost(set)) }
            }
            Node::Words { set, low, depth, .. } => {
                // Length and cost of word sets are found when asked for; see `of`.
                let nullable = self.words[*set as usize][*low as usize].len() == *depth as usize;
                Info { alphabet: self.word_alphabets[*set as usize], ..leaf(nullable, (0, INFINITE), [0; 2]) }
            }
            Node::Concat(a, b) => {
                let (a, b) = (of(*a), of(*b));
                Info {
                    nullable: a.nullable && b.nullable,
                    positive: a.positive && b.positive,
                    recursive: a.recursive || b.recursive,
                    length: (a.length.0.saturating_add(b.length.0), a.length.1.saturating_add(b.length.1)),
                    cost: [0, 1].map(|k| a.cost[k].saturating_add(b.cost[k])),
                    alphabet: a.alphabet.union(b.alphabet),
                }
            }
            Node::Or(items) => {
                let mut info = of(items[0]);
                for &item in &items[1..] {
                    let item = of(item);
                    info.nullable |= item.nullable;
                    info.positive &= item.positive;
                    info.recursive |= item.recursive;
                    info.length = (info.length.0.min(item.length.0), info.length.1.max(item.length.1));
                    info.cost = [0, 1].map(|k| info.cost[k].min(item.cost[k]));
                    info.alphabet = info.alphabet.union(item.alphabet);
                }
                info
            }
            Node::And(items) => {
                let mut info = Info { positive: false, ..of(items[0]) };
                for &item in &items[1..] {
                    let item = of(item);
                    info.nullable &= item.nullable;
                    info.recursive |= item.recursive;
                    info.length = (info.length.0.max(item.length.0), info.length.1.min(item.length.1));
                    info.cost = [0, 1].map(|k| info.cost[k].max(item.cost[k]));
                    info.alphabet = info.alphabet.meet(item.alphabet);
                }
                info
            }
            Node::Not(e) => {
                let inner = of(*e);
                let least = u32::from(inner.nullable);
                Info {
                    nullable: !inner.nullable,
                    positive: false,
                    recursive: inner.recursive,
                    length: (least, INFINITE),
                    cost: [least; 2],
                    alphabet: Alphabet::ALL,
                }
            }
            Node::Repeat(e, min, max) => {
                let inner = of(*e);
                Info {
                    nullable: *min == 0 || inner.nullable,
                    length: (
                        inner.length.0.saturating_mul(*min),
                        if *max == INFINITE { INFINITE } else { inner.length.1.saturating_mul(*max) },
                    ),
                    cost: inner.cost.map(|cost| cost.saturating_mul(*min)),
                    ..inner
                }
            }
            Node::Fix(name) => {
                let nullable = self.nullable(self.fixes[*name as usize]);
                let least = u32::from(!nullable);
                Info { nullable, positive: false, recursive: true, ..leaf(nullable, (least, INFINITE), [least; 2]) }
            }
            Node::Multiple { step, fraction, remainder } => {
                let nullable = self.multiple_accepts(*step, *fraction, *remainder);
                let least = if nullable { 0 } else { self.multiple_rest(*step, *fraction, *remainder) };
                Info { nullable, ..leaf(nullable, (least, INFINITE), [least; 2]) }
            }
            Node::Leap { place, hour, minute } => {
                let rest = leap_rest(*place, *hour, *minute);
                leaf(rest == 0, (rest, INFINITE), [rest; 2])
            }
        }
    }

    // ---- constructors -------------------------------------------------------------------------

    /// One character of the set.
    pub fn class(&mut self, set: CharSet) -> ExprId {
        if set.is_empty() {
            return NONE;
        }
        let id = if let Some(&id) = self.class_index.get(&set) {
            id
        } else {
            let id = u32::try_from(self.classes.len()).expect("fewer classes than expressions");
            self.classes.push(set.clone());
            self.class_index.insert(set, id);
            id
        };
        self.intern(Node::Class(id))
    }

    /// One of the words.
    pub fn words(&mut self, words: impl IntoIterator<Item = impl Into<Box<str>>>) -> ExprId {
        let mut words: Vec<Box<str>> = words.into_iter().map(Into::into).collect();
        words.sort_unstable();
        words.dedup();
        let high = u32::try_from(words.len()).expect("fewer words than bytes in a schema");
        let set = u32::try_from(self.words.len()).expect("fewer sets than bytes in a schema");
        let alphabet = words.iter().map(|word| Alphabet::of_text(word)).fold(Alphabet::NONE, Alphabet::union);
        self.word_alphabets.push(alphabet);
        self.words.push(words.into());
        self.word_range(set, 0, high, 0)
    }

    /// Exactly this text.
    pub fn text(&mut self, text: &str) -> ExprId {
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (None, _) => EPSILON,
            (Some(c), None) => self.class(CharSet::one(c)),
            _ => self.words([text]),
        }
    }

    fn word_range(&mut self, set: u32, low: u32, high: u32, depth: u32) -> ExprId {
        if low >= high {
            return NONE;
        }
        if low + 1 == high && self.words[set as usize][low as usize].len() == depth as usize {
            return EPSILON;
        }
        self.intern(Node::Words { set, low, high, depth })
    }

    /// `a` then `b`.
    pub fn concat(&mut self, mut a: ExprId, b: ExprId) -> ExprId {
        if let Node::Concat(..) = self.nodes[a as usize] {
            let mut heads = Vec::new();
            while let Node::Concat(head, tail) = self.nodes[a as usize] {
                heads.push(head);
                a = tail;
            }
            let mut result = self.cons(a, b);
            for &head in heads.iter().rev() {
                result = self.cons(head, result);
            }
            return result;
        }
        self.cons(a, b)
    }

    /// All of them, one after the other.
    pub fn sequence(&mut self, parts: &[ExprId]) -> ExprId {
        parts.iter().rev().fold(EPSILON, |rest, &part| self.concat(part, rest))
    }

    /// `x{min,max}` behind an expression, one character of any kind behind the constants.
    fn as_repeat(&self, e: ExprId) -> (ExprId, u32, u32) {
        match self.nodes[e as usize] {
            Node::Repeat(x, min, max) => (x, min, max),
            Node::Any => (FULL, 0, INFINITE),
            _ => (e, 1, 1),
        }
    }

    /// Bounds of the length, where that is all there is to the language.
    pub fn as_length(&self, e: ExprId) -> Option<(u32, u32)> {
        match self.as_repeat(e) {
            (FULL, min, max) => Some((min, max)),
            _ => None,
        }
    }

    /// `.{m,}`: the length in characters is all that counts.
    fn as_at_least(&self, e: ExprId) -> Option<u32> {
        match self.as_repeat(e) {
            (FULL, min, INFINITE) => Some(min),
            _ => None,
        }
    }

    fn cons(&mut self, head: ExprId, tail: ExprId) -> ExprId {
        match (head, tail) {
            (NONE, _) | (_, NONE) => return NONE,
            (EPSILON, other) | (other, EPSILON) => return other,
            _ => {}
        }
        if self.as_at_least(tail).is_some() && self.nullable(head) {
            return tail;
        }
        if self.as_at_least(head).is_some() && self.nullable(tail) {
            return head;
        }
        let (next, rest) = match self.nodes[tail as usize] {
            Node::Concat(next, rest) => (next, rest),
            _ => (tail, EPSILON),
        };
        let (x, min, max) = self.as_repeat(head);
        let (y, next_min, next_max) = self.as_repeat(next);
        if x == y {
            let max = if max == INFINITE || next_max == INFINITE { INFINITE } else { max.saturating_add(next_max) };
            let joined = self.repeat(x, min.saturating_add(next_min), max);
            return self.cons_joined(joined, rest);
        }
        self.intern(Node::Concat(head, tail))
    }

    /// After two repeats were joined, the rest no longer starts with the same one.
    fn cons_joined(&mut self, head: ExprId, rest: ExprId) -> ExprId {
        if rest == EPSILON {
            return head;
        }
        if self.as_at_least(rest).is_some() && self.nullable(head) {
            return rest;
        }
        if self.as_at_least(head).is_some() && self.nullable(rest) {
            return head;
        }
        self.intern(Node::Concat(head, rest))
    }

    /// `e` repeated between `min` and `max` times ([`INFINITE`]: no bound).
    pub fn repeat(&mut self, e: ExprId, min: u32, max: u32) -> ExprId {
        let min = if self.nullable(e) { 0 } else { min };
        match (e, min, max) {
            (_, min, max) if min > max => NONE,
            (_, _, 0) | (EPSILON, _, _) => EPSILON,
            (NONE, 0, _) => EPSILON,
            (NONE, _, _) => NONE,
            (ANY, _, _) => ANY,
            (e, 1, 1) => e,
            (FULL, 0, INFINITE) => ANY,
            _ => match self.nodes[e as usize] {
                // (x{0,})* and the like are x*.
                Node::Repeat(x, 0 | 1, INFINITE) if min == 0 => self.repeat(x, 0, INFINITE),
                Node::Repeat(x, 1, INFINITE) if max == INFINITE => self.repeat(x, min, INFINITE),
                _ => self.intern(Node::Repeat(e, min, max)),
            },
        }
    }

    /// Either of two.
    pub fn or2(&mut self, a: ExprId, b: ExprId) -> ExprId {
        match (a, b) {
            (NONE, other) | (other, NONE) => other,
            (ANY, _) | (_, ANY) => ANY,
            (a, b) if a == b => a,
            _ => self.or(vec![a, b]),
        }
    }

    /// Any of them.
    pub fn or(&mut self, items: Vec<ExprId>) -> ExprId {
        self.or_factored(items, 32)
    }

    fn or_factored(&mut self, items: Vec<ExprId>, depth: u32) -> ExprId {
        let mut flat = Vec::with_capacity(items.len());
        for item in items {
            match &self.nodes[item as usize] {
                Node::None => {}
                Node::Any => return ANY,
                Node::Or(inner) => flat.extend_from_slice(inner),
                _ => flat.push(item),
            }
        }
        flat.sort_unstable();
        flat.dedup();
        if flat.len() <= 1 {
            return flat.first().copied().unwrap_or(NONE);
        }
        if let Some(least) = flat.iter().filter_map(|&e| self.as_at_least(e)).min() {
            flat.retain(|&e| self.length(e).0 < least || self.as_at_least(e) == Some(least));
        }
        let classes: Vec<u32> = flat
            .iter()
            .filter_map(|&e| if let Node::Class(class) = self.nodes[e as usize] { Some(class) } else { None })
            .collect();
        if classes.len() > 1 {
            flat.retain(|&e| !matches!(self.nodes[e as usize], Node::Class(_)));
            let set = classes[1..].iter().fold(self.classes[classes[0] as usize].clone(), |set, &class| {
                set.union(&self.classes[class as usize])
            });
            flat.push(self.class(set));
        }
        for &e in &flat {
            if let Node::Not(inner) = self.nodes[e as usize]
                && flat.contains(&inner)
            {
                return ANY;
            }
        }
        if flat.contains(&EPSILON) && flat.iter().any(|&e| e != EPSILON && self.nullable(e)) {
            flat.retain(|&e| e != EPSILON);
        }
        if depth > 0 && flat.len() <= 256 {
            flat = self.factor(flat, depth);
        }
        flat.sort_unstable();
        flat.dedup();
        if flat.len() == 1 { flat[0] } else { self.intern(Node::Or(flat.into())) }
    }

    /// Joins alternatives with one head (`ab|ac` → `a(b|c)`) or one repeated part and one rest
    /// (`a{0,3}b|a{2,5}b` → `a{0,5}b`).
    fn factor(&mut self, mut items: Vec<ExprId>, depth: u32) -> Vec<ExprId> {
        let split = |this: &Self, e: ExprId| match this.nodes[e as usize] {
            Node::Concat(head, tail) => (head, tail),
            _ => (e, EPSILON),
        };
        let mut i = 0;
        while i < items.len() {
            let (head, tail) = split(self, items[i]);
            let (x, min, max) = self.as_repeat(head);
            let mut j = i + 1;
            let mut merged = None;
            while j < items.len() {
                let (other_head, other_tail) = split(self, items[j]);
                let (y, other_min, other_max) = self.as_repeat(other_head);
                if head != other_head
                    && x == y
                    && tail == other_tail
                    && min <= other_max.saturating_add(1)
                    && other_min <= max.saturating_add(1)
                {
                    let joined = self.repeat(x, min.min(other_min), max.max(other_max));
                    merged = Some(self.concat(joined, tail));
                    break;
                }
                j += 1;
            }
            if let Some(merged) = merged {
                items.swap_remove(j);
                items.swap_remove(i);
                if merged == ANY {
                    return vec![ANY];
                }
                items.push(merged);
                i = 0;
                continue;
            }
            i += 1;
        }
        let mut heads: Vec<(ExprId, ExprId)> = items.iter().map(|&e| split(self, e)).collect();
        heads.sort_unstable();
        if heads.windows(2).all(|pair| pair[0].0 != pair[1].0) {
            return items;
        }
        let mut result = Vec::new();
        let mut start = 0;
        while start < heads.len() {
            let head = heads[start].0;
            let end = start + heads[start..].iter().take_while(|pair| pair.0 == head).count();
            let tails: Vec<ExprId> = heads[start..end].iter().map(|pair| pair.1).collect();
            let tail = if tails.len() == 1 { tails[0] } else { self.or_factored(tails, depth - 1) };
            let joined = self.concat(head, tail);
            // What was joined may be an alternation or a constant again.
            match &self.nodes[joined as usize] {
                Node::Or(inner) => result.extend_from_slice(inner),
                Node::Any => return vec![ANY],
                _ => result.push(joined),
            }
            start = end;
        }
        result
    }

    /// Both.
    pub fn and2(&mut self, a: ExprId, b: ExprId) -> ExprId {
        match (a, b) {
            (NONE, _) | (_, NONE) => NONE,
            (ANY, other) | (other, ANY) => other,
            (a, b) if a == b => a,
            _ => self.and(vec![a, b]),
        }
    }

    /// All of them.
    pub fn and(&mut self, items: Vec<ExprId>) -> ExprId {
        let mut flat = Vec::with_capacity(items.len());
        for item in items {
            match &self.nodes[item as usize] {
                Node::Any => {}
                Node::None => return NONE,
                Node::And(inner) => flat.extend_from_slice(inner),
                _ => flat.push(item),
            }
        }
        flat.sort_unstable();
        flat.dedup();
        if flat.len() <= 1 {
            return flat.first().copied().unwrap_or(ANY);
        }
        if flat.contains(&EPSILON) {
            return if flat.iter().all(|&e| self.nullable(e)) { EPSILON } else { NONE };
        }
        for &e in &flat {
            if let Node::Not(inner) = self.nodes[e as usize]
                && flat.contains(&inner)
            {
                return NONE;
            }
        }
        let (low, high) = flat.iter().fold((0, INFINITE), |(low, high), &e| {
            let (min, max) = self.length(e);
            (low.max(min), high.min(max))
        });
        if low > high {
            return NONE;
        }
        if let Some(words) = self.filter_words(&flat) {
            return words;
        }
        if let Some(class) = self.meet_classes(&mut flat)
            && class == NONE
        {
            return NONE;
        }
        self.fold_length(&mut flat);
        if flat.contains(&NONE) {
            return NONE;
        }
        flat.sort_unstable();
        flat.dedup();
        if flat.len() == 1 {
            return flat[0];
        }
        // Derivatives of named parts stay finitely many only in disjunctive form.
        if flat.iter().any(|&e| self.info[e as usize].recursive)
            && let Some(at) = flat.iter().position(|&e| matches!(self.nodes[e as usize], Node::Or(_)))
            && let Node::Or(alternatives) = self.nodes[flat[at] as usize].clone()
            && alternatives.len() <= 64
        {
            flat.swap_remove(at);
            let parts = alternatives
                .iter()
                .map(|&alternative| {
                    let mut items = flat.clone();
                    items.push(alternative);
                    self.and(items)
                })
                .collect();
            return self.or(parts);
        }
        self.intern(Node::And(flat.into()))
    }

    fn filter_words(&mut self, items: &[ExprId]) -> Option<ExprId> {
        let (at, set, low, high, depth) = items
            .iter()
            .enumerate()
            .filter_map(|(at, &e)| match self.nodes[e as usize] {
                Node::Words { set, low, high, depth } => Some((at, set, low, high, depth)),
                _ => None,
            })
            .min_by_key(|&(_, _, low, high, _)| high - low)?;
        if high - low > FILTER_LIMIT && !items.iter().all(|&e| self.is_words(e)) {
            return None;
        }
        let words = self.words[set as usize].clone();
        let words = &words[low as usize..high as usize];
        let kept: Vec<&Box<str>> = words
            .iter()
            .filter(|word| {
                items.iter().enumerate().all(|(other, &e)| other == at || self.matches(e, &word[depth as usize..]))
            })
            .collect();
        if kept.len() == words.len() {
            return Some(items[at]);
        }
        let kept: Vec<Box<str>> = kept.into_iter().map(|word| word[depth as usize..].into()).collect();
        Some(self.words(kept))
    }

    /// Word sets and their complements, where membership is a binary search.
    fn is_words(&self, e: ExprId) -> bool {
        match self.nodes[e as usize] {
            Node::Words { .. } | Node::Class(_) => true,
            Node::Not(inner) => self.is_words(inner),
            _ => false,
        }
    }

    fn meet_classes(&mut self, flat: &mut Vec<ExprId>) -> Option<ExprId> {
        let classes: Vec<u32> = flat
            .iter()
            .filter_map(|&e| if let Node::Class(class) = self.nodes[e as usize] { Some(class) } else { None })
            .collect();
        if classes.len() < 2 {
            return None;
        }
        flat.retain(|&e| !matches!(self.nodes[e as usize], Node::Class(_)));
        let set = classes[1..].iter().fold(self.classes[classes[0] as usize].clone(), |set, &class| {
            set.intersection(&self.classes[class as usize])
        });
        let class = self.class(set);
        flat.push(class);
        Some(class)
    }

    /// Moves a bound on the length (`.{m,n}`) into another member where that is exact.
    fn fold_length(&mut self, flat: &mut Vec<ExprId>) {
        let (mut min, mut max) = (0, INFINITE);
        for &e in flat.iter() {
            if let (FULL, low, high) = self.as_repeat(e) {
                (min, max) = (min.max(low), max.min(high));
            }
        }
        if (min, max) == (0, INFINITE) {
            return;
        }
        flat.retain(|&e| self.as_repeat(e).0 != FULL);
        let bound = self.repeat(FULL, min, max);
        if bound == NONE || flat.is_empty() {
            flat.push(bound);
            return;
        }
        for part in flat.iter_mut() {
            if let Some(folded) = self.bound_length(*part, min, max) {
                *part = folded;
                return;
            }
        }
        flat.push(bound);
    }

    /// `e` with its length bounded, as one expression, where the bound falls on one repeat.
    fn bound_length(&mut self, e: ExprId, min: u32, max: u32) -> Option<ExprId> {
        let (low, high) = self.length(e);
        if low >= min && high <= max {
            return Some(e);
        }
        if low > max || high < min {
            return Some(NONE);
        }
        match self.nodes[e as usize].clone() {
            Node::Or(items) if items.len() <= 8 => {
                let parts = items.iter().map(|&item| self.bound_length(item, min, max)).collect::<Option<Vec<_>>>()?;
                Some(self.or(parts))
            }
            Node::Words { set, low, high, depth } if high - low <= FILTER_LIMIT => {
                let kept: Vec<Box<str>> = self.words[set as usize][low as usize..high as usize]
                    .iter()
                    .map(|word| &word[depth as usize..])
                    .filter(|word| {
                        let count = u32::try_from(word.chars().count()).unwrap_or(INFINITE);
                        min <= count && count <= max
                    })
                    .map(Into::into)
                    .collect();
                Some(self.words(kept))
            }
            Node::Concat(..) | Node::Repeat(..) => {
                let mut parts = Vec::new();
                let mut rest = e;
                while let Node::Concat(head, tail) = self.nodes[rest as usize] {
                    parts.push(head);
                    rest = tail;
                }
                parts.push(rest);
                let mut fixed = 0u32;
                let mut open = None;
                for (at, &part) in parts.iter().enumerate() {
                    match self.length(part) {
                        (low, high) if low == high => fixed = fixed.saturating_add(low),
                        _ if open.is_none() => open = Some(at),
                        _ => return None,
                    }
                }
                let at = open?;
                let (x, x_min, x_max) = self.as_repeat(parts[at]);
                let (unit, unit_max) = self.length(x);
                if unit != unit_max || unit == 0 || unit == INFINITE {
                    return None;
                }
                let least = min.saturating_sub(fixed).div_ceil(unit).max(x_min);
                let most = if max == INFINITE { x_max } else { (max.checked_sub(fixed)? / unit).min(x_max) };
                parts[at] = self.repeat(x, least, most);
                Some(self.sequence(&parts))
            }
            _ => None,
        }
    }

    /// Every string that is not in `e`.
    pub fn not(&mut self, e: ExprId) -> ExprId {
        match self.nodes[e as usize] {
            Node::None => ANY,
            Node::Any => NONE,
            Node::Not(inner) => inner,
            Node::Epsilon => self.repeat(FULL, 1, INFINITE),
            Node::Repeat(FULL, min, max) => {
                let below = if min == 0 { NONE } else { self.repeat(FULL, 0, min - 1) };
                let above = if max == INFINITE { NONE } else { self.repeat(FULL, max + 1, INFINITE) };
                self.or2(below, above)
            }
            _ => self.intern(Node::Not(e)),
        }
    }

    /// Strings whose length in characters is within the bounds.
    pub fn length_between(&mut self, min: u32, max: u32) -> ExprId {
        self.repeat(FULL, min, max)
    }

    /// A language defined through itself: `define` gets the name and gives the definition, in
    /// which every use of the name comes after at least one character. `nullable` says whether
    /// the empty string will be in it.
    pub fn fix(&mut self, nullable: bool) -> ExprId {
        let name = u32::try_from(self.fixes.len()).expect("fewer names than expressions");
        self.fixes.push(if nullable { EPSILON } else { NONE });
        self.intern(Node::Fix(name))
    }

    /// Gives a name made by [`Languages::fix`] its definition.
    pub fn define(&mut self, fix: ExprId, body: ExprId) {
        if let Node::Fix(name) = self.nodes[fix as usize] {
            self.fixes[name as usize] = body;
        }
    }

    /// Decimal literals without exponent whose value is a multiple of `numerator / 10^scale`.
    /// The form of the literal (leading zeros and the like) is for another language to say.
    pub fn multiple_of(&mut self, numerator: u64, scale: u32) -> ExprId {
        let step = u32::try_from(self.steps.len()).expect("fewer steps than expressions");
        self.steps.push(Step { numerator, scale });
        let magnitude = self.intern(Node::Multiple { step, fraction: None, remainder: 0 });
        let minus = self.class(CharSet::one('-'));
        let sign = self.repeat(minus, 0, 1);
        self.concat(sign, magnitude)
    }

    /// `10^(scale - read)`, as the factor of a remainder; `None` when all digits are read.
    fn multiple_weight(step: &Step, fraction: Option<u32>) -> u64 {
        let left = step.scale - fraction.unwrap_or(0).min(step.scale);
        10u64.saturating_pow(left)
    }

    fn multiple_accepts(&self, step: u32, fraction: Option<u32>, remainder: u64) -> bool {
        let step = &self.steps[step as usize];
        let weight = Self::multiple_weight(step, fraction);
        u128::from(remainder) * u128::from(weight) % u128::from(step.numerator) == 0
    }

    /// Fewest characters to a multiple.
    fn multiple_rest(&self, step: u32, fraction: Option<u32>, remainder: u64) -> u32 {
        let Step { numerator, scale } = self.steps[step as usize];
        let left = scale - fraction.unwrap_or(0).min(scale);
        let mut best = 40;
        for digits in 0..20u32 {
            // How many of the digits stand after the point.
            let split = if fraction.is_some() { digits..=digits } else { 0..=digits.min(scale) };
            for after in split.filter(|&after| after <= left) {
                let length = digits + u32::from(fraction.is_none() && after > 0);
                let modulus = u128::from(numerator);
                let weight = 10u128.pow(left - after) % modulus;
                let common = gcd(weight, modulus);
                let modulus = modulus / common;
                let room = 10u128.pow(digits);
                let missing = (modulus - u128::from(remainder) % modulus * (room % modulus) % modulus) % modulus;
                if missing < room {
                    best = best.min(length);
                }
            }
            if best <= digits {
                break;
            }
        }
        best
    }

    fn derive_multiple(&mut self, step: u32, fraction: Option<u32>, remainder: u64, c: u32) -> ExprId {
        let Step { numerator, scale } = self.steps[step as usize];
        if c == u32::from(b'.') && fraction.is_none() {
            return self.multiple_state(step, Some(0), remainder);
        }
        let Some(digit) = c.checked_sub(u32::from(b'0')).filter(|&digit| digit <= 9) else { return NONE };
        if fraction == Some(scale) {
            return if digit == 0 { self.multiple_state(step, fraction, remainder) } else { NONE };
        }
        let next = (u128::from(remainder) * 10 + u128::from(digit)) % u128::from(numerator);
        let next = u64::try_from(next).expect("below the numerator");
        self.multiple_state(step, fraction.map(|read| read + 1), next)
    }

    fn multiple_state(&mut self, step: u32, fraction: Option<u32>, remainder: u64) -> ExprId {
        let definition = &self.steps[step as usize];
        if fraction.is_some() {
            let weight = u128::from(Self::multiple_weight(definition, fraction));
            let numerator = u128::from(definition.numerator);
            let missing = (numerator - u128::from(remainder) * weight % numerator) % numerator;
            if missing >= weight {
                return NONE;
            }
        }
        self.intern(Node::Multiple { step, fraction, remainder })
    }

    /// Times of day in the 60th second, with their offset (RFC 3339): 23:59:60 in UTC.
    pub fn leap_second(&mut self) -> ExprId {
        self.intern(Node::Leap { place: 0, hour: 0, minute: 0 })
    }

    // ---- derivatives --------------------------------------------------------------------------

    /// The rests of the words that start with `c`.
    pub fn derive(&mut self, e: ExprId, c: u32) -> ExprId {
        match self.nodes[e as usize].clone() {
            Node::None | Node::Epsilon => NONE,
            Node::Any => ANY,
            Node::Class(class) => {
                if self.classes[class as usize].contains(c) {
                    EPSILON
                } else {
                    NONE
                }
            }
            Node::Words { set, low, high, depth } => self.derive_words(set, low, high, depth, c),
            Node::Concat(mut head, mut tail) => {
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
                    if let Node::Concat(next, rest) = self.nodes[tail as usize] {
                        (head, tail) = (next, rest);
                    } else {
                        parts.push(self.derive(tail, c));
                        break;
                    }
                }
                if parts.len() == 1 { parts[0] } else { self.or(parts) }
            }
            Node::Or(items) => {
                let parts = items.iter().map(|&item| self.derive(item, c)).collect();
                self.or(parts)
            }
            Node::And(items) => {
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
            Node::Not(inner) => {
                let derived = self.derive(inner, c);
                self.not(derived)
            }
            Node::Repeat(inner, min, max) => {
                let derived = self.derive(inner, c);
                if derived == NONE {
                    return NONE;
                }
                let max = if max == INFINITE { INFINITE } else { max - 1 };
                let rest = self.repeat(inner, min.saturating_sub(1), max);
                self.concat(derived, rest)
            }
            Node::Fix(name) => {
                let body = self.fixes[name as usize];
                self.derive(body, c)
            }
            Node::Multiple { step, fraction, remainder } => self.derive_multiple(step, fraction, remainder, c),
            Node::Leap { place, hour, minute } => match derive_leap(place, hour, minute, c) {
                Some((place, hour, minute)) => self.intern(Node::Leap { place, hour, minute }),
                None => NONE,
            },
        }
    }

    fn derive_words(&mut self, set: u32, low: u32, high: u32, depth: u32, c: u32) -> ExprId {
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
            Node::Any => return true,
            Node::Words { set, low, high, depth } => {
                let words = &self.words[set as usize][low as usize..high as usize];
                return words.binary_search_by(|word| word.as_bytes()[depth as usize..].cmp(text.as_bytes())).is_ok();
            }
            Node::Not(inner) => return !self.matches(inner, text),
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

    fn frontier(&self, e: ExprId, out: &mut Frontier) {
        match &self.nodes[e as usize] {
            Node::None | Node::Any | Node::Epsilon => {}
            Node::Class(class) => {
                let set = &self.classes[*class as usize];
                out.ascii.push(set.ascii);
                if !set.wide.is_empty() {
                    out.wide.push(*class);
                }
            }
            Node::Words { set, low, high, depth } => {
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
            Node::Concat(head, tail) => {
                let (mut head, mut tail) = (*head, *tail);
                loop {
                    self.frontier(head, out);
                    if !self.nullable(head) {
                        return;
                    }
                    if let Node::Concat(next, rest) = self.nodes[tail as usize] {
                        (head, tail) = (next, rest);
                    } else {
                        return self.frontier(tail, out);
                    }
                }
            }
            Node::Or(items) | Node::And(items) => items.iter().for_each(|&item| self.frontier(item, out)),
            Node::Not(inner) | Node::Repeat(inner, _, _) => self.frontier(*inner, out),
            Node::Fix(name) => self.frontier(self.fixes[*name as usize], out),
            Node::Multiple { .. } => {
                out.ascii.extend((b'0'..=b'9').chain([b'.']).map(|byte| 1u128 << byte));
            }
            Node::Leap { .. } => out.ascii.extend(b"0123456789:.+-Zz".iter().map(|&byte| 1u128 << byte)),
        }
    }

    /// ASCII characters in blocks of equal derivatives; empty derivatives are left out.
    pub fn ascii_branches(&mut self, e: ExprId) -> Arc<[Branch]> {
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
    pub fn is_total(&self, e: ExprId) -> bool {
        match &self.nodes[e as usize] {
            Node::Any => true,
            Node::Or(items) => items.iter().any(|&item| self.is_total(item)),
            Node::Not(inner) => self.length(*inner).1 != INFINITE,
            // Words that stay words however they go on: any two such languages have words in common.
            Node::And(items) => items.iter().all(|&item| match self.nodes[item as usize] {
                Node::Not(inner) => self.length(inner).1 != INFINITE,
                _ => self.is_total(item) && self.is_open(item),
            }),
            Node::Concat(head, tail) => match self.nodes[*head as usize] {
                Node::Any => self.info[*tail as usize].positive && *tail != NONE,
                Node::Repeat(FULL, _, _) | Node::Class(_) => {
                    (*head == FULL || matches!(self.nodes[*head as usize], Node::Repeat(FULL, ..)))
                        && self.is_total(*tail)
                }
                _ => false,
            },
            Node::Repeat(FULL, _, INFINITE) => true,
            _ => false,
        }
    }

    /// True only when every word stays one however it goes on.
    fn is_open(&self, e: ExprId) -> bool {
        match &self.nodes[e as usize] {
            Node::Any | Node::Repeat(FULL, _, INFINITE) => true,
            Node::Concat(_, tail) => self.is_open(*tail),
            Node::Or(items) => items.iter().all(|&item| self.is_open(item)),
            _ => false,
        }
    }

    /// Characters above ASCII in blocks of equal derivatives; empty derivatives are left out.
    pub fn wide_branches(&mut self, e: ExprId) -> Vec<Branch> {
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

    // ---- emptiness and shortest words ---------------------------------------------------------

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
    fn is_starved(&self, e: ExprId) -> bool {
        let Node::And(items) = &self.nodes[e as usize] else { return false };
        let alphabet = self.info[e as usize].alphabet;
        alphabet != Alphabet::ALL && items.iter().any(|&item| self.needs_more_than(alphabet, item))
    }

    /// Every word has a character outside of the alphabet (not always found out).
    fn needs_more_than(&self, alphabet: Alphabet, mut e: ExprId) -> bool {
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
    fn has_witness(&mut self, e: ExprId) -> bool {
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
    fn is_bounded_positive(&self, e: ExprId) -> bool {
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
    fn search(&mut self, e: ExprId, cost: Cost) -> Option<u32> {
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
    fn wanted(&self, e: ExprId, kind: usize, depth: u32) -> u32 {
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
    fn width(&self, e: ExprId) -> usize {
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

    fn word_slice(&self, e: ExprId) -> (&[Box<str>], usize) {
        match self.nodes[e as usize] {
            Node::Words { set, low, high, depth } => {
                (&self.words[set as usize][low as usize..high as usize], depth as usize)
            }
            _ => (&[], 0),
        }
    }

    fn words_length(&self, e: ExprId) -> (u32, u32) {
        let (words, depth) = self.word_slice(e);
        words.iter().fold((INFINITE, 0), |(low, high), word| {
            let count = u32::try_from(word[depth..].chars().count()).unwrap_or(INFINITE);
            (low.min(count), high.max(count))
        })
    }

    fn words_cost(&self, e: ExprId) -> [u32; 2] {
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

    /// A bound on the length that no prefix of `horizon` characters comes near is out of sight.
    fn bounded_horizon(&mut self, e: ExprId, items: &[ExprId], horizon: u32) -> ExprId {
        let [a, b] = items[..] else { return e };
        for (bound, inner) in [(a, b), (b, a)] {
            if let Some((0, max)) = self.as_length(bound)
                && self.info[inner as usize].positive
            {
                let need = self.worst_rest(inner).saturating_add(horizon);
                return if max > need { self.horizon(inner, horizon) } else { e };
            }
        }
        e
    }

    /// An upper bound on the shortest completion of any prefix of a positive expression, in characters.
    fn worst_rest(&self, e: ExprId) -> u32 {
        match &self.nodes[e as usize] {
            Node::None | Node::Any | Node::Epsilon => 0,
            Node::Class(_) => 1,
            Node::Words { .. } => self.words_length(e).1,
            Node::Concat(..) => {
                let mut e = e;
                let mut worst = 0u32;
                let mut heads = Vec::new();
                while let Node::Concat(head, tail) = self.nodes[e as usize] {
                    heads.push(head);
                    e = tail;
                }
                worst = worst.max(self.worst_rest(e));
                let mut rest = self.length(e).0;
                for &head in heads.iter().rev() {
                    worst = worst.max(self.worst_rest(head).saturating_add(rest));
                    rest = rest.saturating_add(self.length(head).0);
                }
                worst
            }
            Node::Or(items) => items.iter().map(|&item| self.worst_rest(item)).max().unwrap_or(0),
            Node::Repeat(inner, min, _) => {
                let rounds = self.length(*inner).0.saturating_mul(min.saturating_sub(1));
                self.worst_rest(*inner).saturating_add(rounds)
            }
            Node::And(_) | Node::Not(_) | Node::Fix(_) | Node::Multiple { .. } => INFINITE,
            Node::Leap { .. } => 15,
        }
    }

    /// Characters that may begin a word in any number and order, as a repeated class at the beginning says.
    pub fn absorbs(&self, e: ExprId) -> Option<&CharSet> {
        match &self.nodes[e as usize] {
            Node::Concat(head, tail) if self.info[*tail as usize].positive => self.absorbs(*head),
            Node::Repeat(inner, _, INFINITE) => match &self.nodes[*inner as usize] {
                Node::Class(class) => Some(&self.classes[*class as usize]),
                _ => None,
            },
            Node::Or(items) => {
                let sets = items.iter().filter_map(|&item| self.absorbs(item));
                sets.max_by_key(|set| (set.ascii.count_ones(), set.wide.iter().map(|(a, b)| b - a).sum::<u32>()))
            }
            _ => None,
        }
    }

    /// An upper bound on the bytes of the shortest completion of any prefix of up to `horizon` characters.
    pub fn worst_cost(&self, e: ExprId, horizon: u32, cost: Cost) -> Option<u32> {
        const WIDEST: u32 = 6;
        let worst = match &self.nodes[e as usize] {
            Node::And(items) => {
                let [a, b] = items[..] else { return None };
                let (max, inner) = match (self.as_length(a), self.as_length(b)) {
                    (Some((0, max)), _) => (max, b),
                    (_, Some((0, max))) => (max, a),
                    _ => return None,
                };
                // Far from the bound on the length a completion of the rest fits; near it no word is long.
                if self.worst_rest(inner).saturating_add(horizon) <= max {
                    return self.worst_cost(inner, horizon, cost);
                }
                max.saturating_mul(WIDEST)
            }
            Node::Concat(..) => {
                let mut worst = 0;
                let mut e = e;
                while let Node::Concat(head, tail) = self.nodes[e as usize] {
                    let rest = self.info[tail as usize].cost[cost as usize];
                    worst = worst.max(self.worst_cost(head, horizon, cost)?.saturating_add(rest));
                    e = tail;
                }
                worst.max(self.worst_cost(e, horizon, cost)?)
            }
            Node::Or(items) => {
                let worst = |&item: &ExprId| self.worst_cost(item, horizon, cost);
                items.iter().map(worst).collect::<Option<Vec<_>>>()?.into_iter().max()?
            }
            Node::Repeat(inner, min, _) => {
                let rounds = self.info[*inner as usize].cost[cost as usize].saturating_mul(min.saturating_sub(1));
                self.worst_cost(*inner, horizon, cost)?.saturating_add(rounds)
            }
            Node::Class(_) => self.info[e as usize].cost[cost as usize],
            _ => match self.worst_rest(e) {
                INFINITE => return None,
                characters => characters.saturating_mul(WIDEST),
            },
        };
        Some(worst)
    }

    /// A language whose words and prefixes agree with those of `e` up to `horizon` characters: counts far from
    /// their bounds are saturated. Only for expressions without and, not (but for a bound on the length); others come
    /// back as they are.
    pub fn horizon(&mut self, e: ExprId, horizon: u32) -> ExprId {
        if let Node::And(items) = self.nodes[e as usize].clone() {
            return self.bounded_horizon(e, &items, horizon);
        }
        if !self.info[e as usize].positive || self.length(e).1 <= horizon {
            return e;
        }
        match self.nodes[e as usize].clone() {
            Node::Concat(head, tail) => {
                let reach = self.length(head).0;
                let head = self.horizon(head, horizon);
                let tail = if reach > horizon { tail } else { self.horizon(tail, horizon - reach) };
                if reach > horizon { head } else { self.concat(head, tail) }
            }
            Node::Or(items) => {
                let parts = items.iter().map(|&item| self.horizon(item, horizon)).collect();
                self.or(parts)
            }
            Node::Repeat(inner, min, max) if !self.nullable(inner) => {
                // Each round takes a character at least, so more than `horizon` rounds are out of sight.
                let far = horizon + 1;
                let max = if max > far { INFINITE } else { max };
                self.repeat(inner, min.min(far), max)
            }
            _ => e,
        }
    }
}

fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Places in a leap second: `hh:mm:60` is 0 to 8, then a fraction from its point on, then the offset.
const FRACTION_START: u8 = 9;
const FRACTION: u8 = 10;
/// `+hh:mm` is `PLUS` to `PLUS + 5`, `-hh:mm` likewise; then the end.
const PLUS: u8 = 11;
const MINUS: u8 = 17;
const END: u8 = 23;

/// Fewest characters from a place in a leap second to its end.
fn leap_rest(place: u8, hour: u8, minute: u8) -> u32 {
    let zone = |could_be_utc: bool| if could_be_utc { 1 } else { 6 };
    let utc = (hour, minute) == (23, 59);
    match place {
        0 => 9,
        1 => 7 + zone(hour == 2),
        2 | 3 => 8 - u32::from(place) + zone(hour == 23),
        4 => 4 + zone(hour == 23 && minute == 5),
        5..=8 => 8 - u32::from(place) + zone(utc),
        FRACTION_START => 1 + zone(utc),
        FRACTION => zone(utc),
        PLUS..MINUS => u32::from(MINUS - place - 1),
        MINUS..END => u32::from(END - place - 1),
        _ => 0,
    }
}

/// One more character of a leap second; `hour` and `minute` hold the digits read so far.
fn derive_leap(place: u8, hour: u8, minute: u8, c: u32) -> Option<(u8, u8, u8)> {
    let byte = u8::try_from(c).ok()?;
    let digit = byte.wrapping_sub(b'0');
    let is_digit = digit <= 9;
    // Local time is 23:59 plus or minus the offset, so the offset follows from it.
    let offset = |plus: bool| {
        let utc = 23 * 60 + 59;
        let local = i32::from(hour) * 60 + i32::from(minute);
        let ahead = if plus { local - utc } else { utc - local };
        let ahead =
            u32::from(u8::try_from(ahead.rem_euclid(24 * 60) / 60).unwrap_or(0)) * 60 + ahead.rem_euclid(60) as u32;
        let (h, m) = (ahead / 60, ahead % 60);
        [h / 10, h % 10, 10, m / 10, m % 10]
    };
    let forced = |wanted: u32| if wanted == 10 { byte == b':' } else { is_digit && u32::from(digit) == wanted };
    match place {
        0 if digit <= 2 => Some((1, digit, 0)),
        1 if is_digit && hour * 10 + digit <= 23 => Some((2, hour * 10 + digit, 0)),
        2 | 5 if byte == b':' => Some((place + 1, hour, minute)),
        3 if digit <= 5 => Some((4, hour, digit)),
        4 if is_digit => Some((5, hour, minute * 10 + digit)),
        6 if byte == b'6' => Some((7, hour, minute)),
        7 if byte == b'0' => Some((8, hour, minute)),
        8 if byte == b'.' => Some((FRACTION_START, hour, minute)),
        FRACTION_START | FRACTION if is_digit => Some((FRACTION, hour, minute)),
        8 | FRACTION => match byte {
            b'Z' | b'z' if (hour, minute) == (23, 59) => Some((END, 0, 0)),
            b'+' => Some((PLUS, hour, minute)),
            b'-' => Some((MINUS, hour, minute)),
            _ => None,
        },
        PLUS..END => {
            let (plus, at) = if place < MINUS { (true, place - PLUS) } else { (false, place - MINUS) };
            let wanted = *offset(plus).get(at as usize)?;
            if !forced(wanted) {
                return None;
            }
            Some(if at == 4 { (END, 0, 0) } else { (place + 1, hour, minute) })
        }
        _ => None,
    }
}

/// Least bytes of a character in the set: raw, and as written in a JSON string.
fn class_cost(set: &CharSet) -> [u32; 2] {
    branch_cost_of(set.ascii, set.wide.first().map(|range| range.0))
}

fn branch_cost(branch: &Branch) -> [u32; 2] {
    branch_cost_of(branch.ascii, branch.wide.first().map(|range| range.0))
}

fn branch_cost_of(ascii: u128, wide: Option<u32>) -> [u32; 2] {
    const SHORT: u128 = 1 << b'"' | 1 << b'\\' | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 12 | 1 << 13;
    const LONG: u128 = 0xFFFF_FFFF & !SHORT;
    let wide = wide.map_or(INFINITE, |c| char::from_u32(c).map_or(4, |c| c.len_utf8() as u32));
    let raw = if ascii == 0 { wide } else { 1 };
    let json = if ascii & !SHORT & !LONG != 0 {
        1
    } else if ascii & SHORT != 0 {
        2
    } else {
        wide.min(if ascii == 0 { INFINITE } else { 6 })
    };
    [raw, json]
}

/// Bytes of one character: raw, and as written in a JSON string.
fn char_cost(c: u32) -> [u32; 2] {
    if c < 0x80 { branch_cost_of(1 << c, None) } else { branch_cost_of(0, Some(c)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An expression beside its plain meaning.
    #[derive(Debug)]
    enum Plain {
        Class(&'static str),
        Text(&'static str),
        Concat(Box<Plain>, Box<Plain>),
        Or(Box<Plain>, Box<Plain>),
        And(Box<Plain>, Box<Plain>),
        Not(Box<Plain>),
        Repeat(Box<Plain>, u32, u32),
        Length(u32, u32),
    }

    impl Plain {
        fn random(next: &mut impl FnMut(u32) -> u32, depth: u32) -> Self {
            let inner = |next: &mut _| Box::new(Self::random(next, depth - 1));
            match next(if depth == 0 { 2 } else { 8 }) {
                0 => Self::Class(["a", "b", "ab", "é", "aé"][next(5) as usize]),
                1 => Self::Text(["", "a", "ab", "ba", "aab", "é"][next(6) as usize]),
                2 | 3 => Self::Concat(inner(next), inner(next)),
                4 => Self::Or(inner(next), inner(next)),
                5 => Self::And(inner(next), inner(next)),
                6 if next(2) == 0 => Self::Not(inner(next)),
                6 => Self::Length(next(3), if next(3) == 0 { INFINITE } else { 2 + next(3) }),
                _ => {
                    let min = next(3);
                    Self::Repeat(inner(next), min, if next(2) == 0 { INFINITE } else { min + next(3) })
                }
            }
        }

        fn build(&self, languages: &mut Languages) -> ExprId {
            match self {
                Self::Class(chars) => languages.class(CharSet::ascii_of(chars)),
                Self::Text(text) => languages.text(text),
                Self::Concat(a, b) => {
                    let (a, b) = (a.build(languages), b.build(languages));
                    languages.concat(a, b)
                }
                Self::Or(a, b) => {
                    let (a, b) = (a.build(languages), b.build(languages));
                    languages.or2(a, b)
                }
                Self::And(a, b) => {
                    let (a, b) = (a.build(languages), b.build(languages));
                    languages.and2(a, b)
                }
                Self::Not(a) => {
                    let a = a.build(languages);
                    languages.not(a)
                }
                Self::Repeat(a, min, max) => {
                    let a = a.build(languages);
                    languages.repeat(a, *min, *max)
                }
                Self::Length(min, max) => languages.length_between(*min, *max),
            }
        }

        /// Membership by trying every split.
        fn holds(&self, word: &[char]) -> bool {
            match self {
                Self::Class(chars) => matches!(word, [c] if chars.contains(*c)),
                Self::Text(text) => text.chars().eq(word.iter().copied()),
                Self::Concat(a, b) => (0..=word.len()).any(|at| a.holds(&word[..at]) && b.holds(&word[at..])),
                Self::Or(a, b) => a.holds(word) || b.holds(word),
                Self::And(a, b) => a.holds(word) && b.holds(word),
                Self::Not(a) => !a.holds(word),
                Self::Repeat(_, 0, _) if word.is_empty() => true,
                Self::Repeat(_, _, 0) => word.is_empty(),
                Self::Repeat(a, min, max) => {
                    let rest = |word: &[char]| {
                        let max = if *max == INFINITE { INFINITE } else { max - 1 };
                        Self::repeat_holds(a, min.saturating_sub(1), max, word)
                    };
                    (word.is_empty() && a.holds(word))
                        || (1..=word.len()).any(|at| a.holds(&word[..at]) && rest(&word[at..]))
                        || (*min > 0 && a.holds(&[]) && Self::repeat_holds(a, 0, *max, word))
                }
                Self::Length(min, max) => (*min as usize..=*max as usize).contains(&word.len()),
            }
        }

        fn repeat_holds(a: &Self, min: u32, max: u32, word: &[char]) -> bool {
            if word.is_empty() {
                return min == 0 || a.holds(word);
            }
            if max == 0 {
                return false;
            }
            let next = if max == INFINITE { INFINITE } else { max - 1 };
            (1..=word.len())
                .any(|at| a.holds(&word[..at]) && Self::repeat_holds(a, min.saturating_sub(1), next, &word[at..]))
                || (min > 0 && a.holds(&[]) && Self::repeat_holds(a, 0, max, word))
        }
    }

    #[test]
    fn what_a_part_lets_in_nowhere_is_known_to_be_missing() {
        let mut languages = Languages::new();
        let digits = languages.class(CharSet::ascii_of("0123456789:"));
        let time = languages.repeat(digits, 8, INFINITE);
        let letter = languages.class(CharSet::one('T'));
        let dated = languages.sequence(&[ANY, letter, ANY]);
        let both = languages.and2(time, dated);
        let before = languages.count();
        assert!(languages.is_empty(both));
        assert!(languages.count() - before < 8, "{} expressions", languages.count() - before);
        let words = languages.words(["a:1", "1T", "12T"]);
        let (either, some) = (languages.or2(digits, letter), languages.repeat(digits, 1, 2));
        let some = languages.concat(some, either);
        let both = languages.and2(words, some);
        assert!(!languages.is_empty(both), "1T and 12T are in both");
    }

    #[test]
    fn searches_that_lead_nowhere_grow_cheap() {
        let mut languages = Languages::new();
        let parts = ["AB", "CD", "EF"].map(|chars| {
            let class = languages.class(CharSet::ascii_of(chars));
            languages.sequence(&[ANY, class, ANY])
        });
        let long = languages.class(CharSet::one('\n').complement());
        let long = languages.repeat(long, 5_000, 6_000);
        let mut state = languages.and([&parts[..], &[long]].concat());
        for at in 0..200 {
            for c in ['A', 'C', 'E', 'x'] {
                let next = languages.derive(state, c.into());
                assert!(!languages.is_empty(next));
                if at % 4 == c as usize % 4 {
                    state = next;
                }
            }
        }
        assert!(languages.count() < 60_000, "{} expressions", languages.count());
    }

    #[test]
    fn algebra_agrees_with_brute_force_on_short_words() {
        let alphabet = ['a', 'b', 'é'];
        let mut words: Vec<Vec<char>> = vec![Vec::new()];
        let mut last = words.clone();
        for _ in 0..4 {
            last = last.iter().flat_map(|word| alphabet.map(|c| [&word[..], &[c]].concat())).collect();
            words.extend(last.iter().cloned());
        }
        let mut seed = 7u64;
        let mut next = |below: u32| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            u32::try_from(seed >> 33).expect("31 bits") % below
        };
        for round in 0..1500 {
            let plain = Plain::random(&mut next, 4);
            let mut languages = Languages::new();
            let e = plain.build(&mut languages);
            let mut shortest = None;
            for word in &words {
                let text: String = word.iter().collect();
                let expected = plain.holds(word);
                assert_eq!(languages.matches(e, &text), expected, "round {round}: {text:?} in {plain:?}");
                if expected {
                    let bytes = u32::try_from(text.len()).expect("short");
                    shortest = Some(shortest.map_or(bytes, |least: u32| least.min(bytes)));
                    assert!((languages.length(e).0 as usize..=languages.length(e).1 as usize).contains(&word.len()));
                }
                let near = languages.horizon(e, 4);
                let state = text.chars().fold(near, |state, c| languages.derive(state, c as u32));
                let exact = text.chars().fold(e, |state, c| languages.derive(state, c as u32));
                assert_eq!(languages.is_empty(state), languages.is_empty(exact), "round {round}: horizon at {text:?}");
            }
            if let Some(shortest) = shortest {
                assert!(!languages.is_empty(e), "round {round}");
                let found = languages.min_cost(e, Cost::Raw).expect("not empty");
                assert!(found <= shortest, "round {round}: {found} > {shortest}");
            }
            if languages.is_empty(e) {
                assert_eq!(shortest, None, "round {round}");
            }
        }
    }
}
