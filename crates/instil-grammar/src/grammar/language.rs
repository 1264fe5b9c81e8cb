//! Regular languages over characters: hash-consed expressions, closed under and, or, not, with
//! derivatives taken when a state is first stepped.
//!
//! An expression is a language; equal expressions have equal ids after simplification, so taking
//! derivatives (Brzozowski 1964; Owens, Reppy and Turon 2009) reaches finitely many of them.
//! Counted repeats stay counted: `a{2,100000}` is one node. `automaton` turns
//! expressions into states over UTF-8 bytes.

mod algebra;
mod counting;
mod derive;
mod horizon;
mod search;

use std::sync::Arc;

use rustc_hash::FxHashMap;

use self::counting::leap_rest;
use self::search::Life;
use super::charset::CharSet;

/// Index of an expression.
pub(crate) type ExprId = u32;
/// The empty language.
pub(crate) const NONE: ExprId = 0;
/// Every string.
pub(crate) const ANY: ExprId = 1;
/// The empty string alone.
pub(crate) const EPSILON: ExprId = 2;
/// Any one character.
const FULL: ExprId = 3;
/// No upper bound.
pub(crate) const INFINITE: u32 = u32::MAX;
/// Expressions kept; past this, new ones collapse to the empty language.
const EXPR_LIMIT: usize = 4_000_000;
/// Words of a finite set that are tried one by one when it is intersected.
const FILTER_LIMIT: u32 = 512;

/// What an expression is made of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Expr {
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
    /// Rest of a decimal literal whose value is a multiple of a divisor.
    Multiple {
        divisor: u32,
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

/// What multiples are multiples of: `numerator / 10^scale`.
#[derive(Clone, Debug)]
struct Divisor {
    numerator: u64,
    scale: u32,
}

/// All expressions of an expansion.
#[derive(Debug)]
pub struct Languages {
    nodes: Vec<Expr>,
    info: Vec<Info>,
    index: FxHashMap<Expr, ExprId>,
    classes: Vec<CharSet>,
    class_index: FxHashMap<CharSet, u32>,
    words: Vec<Arc<[Box<str>]>>,
    /// Characters of each set of words.
    word_alphabets: Vec<Alphabet>,
    fixes: Vec<ExprId>,
    divisors: Vec<Divisor>,
    /// Whether there is a word; by expression, for those that are not positive and have been asked.
    life: FxHashMap<ExprId, Life>,
    exact_cost: [FxHashMap<ExprId, u32>; 2],
    /// Endings found by the last searches, newest first.
    witnesses: Vec<Arc<[u32]>>,
    /// ASCII branches of expressions that are not positive.
    branches: FxHashMap<ExprId, Arc<[Branch]>>,
    /// Parts of all conjunctions and alternations, and of all lists of derivatives.
    listed: usize,
    /// Branches that are kept.
    branched: usize,
    /// The derivatives of expressions that were searched without a word being found.
    targets: FxHashMap<ExprId, Arc<[ExprId]>>,
    /// A limit was hit and an answer assumed.
    assumed: bool,
}

/// The characters that an expression tells apart in its first place.
#[derive(Default)]
pub(crate) struct Frontier {
    ascii: Vec<u128>,
    wide: Vec<u32>,
    wide_chars: Vec<u32>,
}

/// A block of characters with equal derivatives.
#[derive(Debug)]
pub(crate) struct Branch {
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
            divisors: Vec::new(),
            life: FxHashMap::default(),
            exact_cost: [FxHashMap::default(), FxHashMap::default()],
            witnesses: Vec::new(),
            branches: FxHashMap::default(),
            listed: 0,
            branched: 0,
            targets: FxHashMap::default(),
            assumed: false,
        };
        this.intern(Expr::None);
        this.intern(Expr::Any);
        this.intern(Expr::Epsilon);
        this.class(CharSet::full());
        this
    }

    /// Memory held, roughly.
    pub(crate) fn size_bytes(&self) -> usize {
        let expression = 2 * size_of::<Expr>() + size_of::<Info>() + 8;
        let known = self.life.len() + self.exact_cost[0].len() + self.exact_cost[1].len();
        expression * self.nodes.len() + 4 * self.listed + 16 * known + 32 * self.targets.len() + 96 * self.branched
    }

    /// Number of expressions.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.nodes.len()
    }

    /// True when the empty string is a word.
    pub(crate) fn nullable(&self, e: ExprId) -> bool {
        self.info[e as usize].nullable
    }

    /// Outer bounds of the length in characters.
    pub(crate) fn length(&self, e: ExprId) -> (u32, u32) {
        match self.nodes[e as usize] {
            Expr::Words { .. } => self.words_length(e),
            _ => self.info[e as usize].length,
        }
    }

    fn intern(&mut self, node: Expr) -> ExprId {
        if let Some(&id) = self.index.get(&node) {
            return id;
        }
        if self.nodes.len() >= EXPR_LIMIT {
            self.assumed = true;
            return NONE;
        }
        if let Expr::Or(items) | Expr::And(items) = &node {
            self.listed += items.len();
        }
        let info = self.describe(&node);
        let id = u32::try_from(self.nodes.len()).expect("bounded by EXPR_LIMIT");
        self.nodes.push(node.clone());
        self.info.push(info);
        self.index.insert(node, id);
        id
    }

    fn describe(&self, node: &Expr) -> Info {
        let of = |e: ExprId| {
            let mut info = self.info[e as usize];
            if let Expr::Words { .. } = self.nodes[e as usize] {
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
            Expr::None => Info { positive: true, ..leaf(false, (INFINITE, 0), [INFINITE; 2]) },
            Expr::Any => leaf(true, (0, INFINITE), [0; 2]),
            Expr::Epsilon => Info { alphabet: Alphabet::NONE, ..leaf(true, (0, 0), [0; 2]) },
            Expr::Class(class) => {
                let set = &self.classes[*class as usize];
                Info { alphabet: Alphabet::of(set), ..leaf(false, (1, 1), class_cost(set)) }
            }
            Expr::Words { set, low, depth, .. } => {
                // Length and cost of word sets are found when asked for; see `of`.
                let nullable = self.words[*set as usize][*low as usize].len() == *depth as usize;
                Info { alphabet: self.word_alphabets[*set as usize], ..leaf(nullable, (0, INFINITE), [0; 2]) }
            }
            Expr::Concat(a, b) => {
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
            Expr::Or(items) => {
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
            Expr::And(items) => {
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
            Expr::Not(e) => {
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
            Expr::Repeat(e, min, max) => {
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
            Expr::Fix(name) => {
                let nullable = self.nullable(self.fixes[*name as usize]);
                let least = u32::from(!nullable);
                Info { nullable, positive: false, recursive: true, ..leaf(nullable, (least, INFINITE), [least; 2]) }
            }
            Expr::Multiple { divisor, fraction, remainder } => {
                let nullable = self.multiple_accepts(*divisor, *fraction, *remainder);
                let least = if nullable { 0 } else { self.multiple_rest(*divisor, *fraction, *remainder) };
                Info { nullable, ..leaf(nullable, (least, INFINITE), [least; 2]) }
            }
            Expr::Leap { place, hour, minute } => {
                let rest = leap_rest(*place, *hour, *minute);
                leaf(rest == 0, (rest, INFINITE), [rest; 2])
            }
        }
    }

    /// One character of the set.
    pub(crate) fn class(&mut self, set: CharSet) -> ExprId {
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
        self.intern(Expr::Class(id))
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
    pub(crate) fn text(&mut self, text: &str) -> ExprId {
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
        self.intern(Expr::Words { set, low, high, depth })
    }

    /// `a` then `b`.
    pub(crate) fn concat(&mut self, mut a: ExprId, b: ExprId) -> ExprId {
        if let Expr::Concat(..) = self.nodes[a as usize] {
            let mut heads = Vec::new();
            while let Expr::Concat(head, tail) = self.nodes[a as usize] {
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
    pub(crate) fn sequence(&mut self, parts: &[ExprId]) -> ExprId {
        parts.iter().rev().fold(EPSILON, |rest, &part| self.concat(part, rest))
    }

    /// `x{min,max}` behind an expression, one character of any kind behind the constants.
    fn as_repeat(&self, e: ExprId) -> (ExprId, u32, u32) {
        match self.nodes[e as usize] {
            Expr::Repeat(x, min, max) => (x, min, max),
            Expr::Any => (FULL, 0, INFINITE),
            _ => (e, 1, 1),
        }
    }

    /// Bounds of the length, where that is all there is to the language.
    pub(crate) fn as_length(&self, e: ExprId) -> Option<(u32, u32)> {
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
            Expr::Concat(next, rest) => (next, rest),
            _ => (tail, EPSILON),
        };
        let (x, min, max) = self.as_repeat(head);
        let (y, next_min, next_max) = self.as_repeat(next);
        if x == y {
            let max = if max == INFINITE || next_max == INFINITE { INFINITE } else { max.saturating_add(next_max) };
            let joined = self.repeat(x, min.saturating_add(next_min), max);
            return self.cons_joined(joined, rest);
        }
        self.intern(Expr::Concat(head, tail))
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
        self.intern(Expr::Concat(head, rest))
    }

    /// `e` repeated between `min` and `max` times ([`INFINITE`]: no bound).
    pub(crate) fn repeat(&mut self, e: ExprId, min: u32, max: u32) -> ExprId {
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
                Expr::Repeat(x, 0 | 1, INFINITE) if min == 0 => self.repeat(x, 0, INFINITE),
                Expr::Repeat(x, 1, INFINITE) if max == INFINITE => self.repeat(x, min, INFINITE),
                _ => self.intern(Expr::Repeat(e, min, max)),
            },
        }
    }

    /// Strings whose length in characters is within the bounds.
    pub(crate) fn length_between(&mut self, min: u32, max: u32) -> ExprId {
        self.repeat(FULL, min, max)
    }

    /// A language defined through itself: `define` gets the name and gives the definition, in
    /// which every use of the name comes after at least one character. `nullable` says whether
    /// the empty string will be in it.
    pub(crate) fn fix(&mut self, nullable: bool) -> ExprId {
        let name = u32::try_from(self.fixes.len()).expect("fewer names than expressions");
        self.fixes.push(if nullable { EPSILON } else { NONE });
        self.intern(Expr::Fix(name))
    }

    /// Gives a name made by [`Languages::fix`] its definition.
    pub(crate) fn define(&mut self, fix: ExprId, body: ExprId) {
        if let Expr::Fix(name) = self.nodes[fix as usize] {
            self.fixes[name as usize] = body;
        }
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
mod tests;
