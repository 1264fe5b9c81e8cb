//! From a configuration to its mask.
//!
//! Threads inside a free string take the vocabulary's precomputed sets (`free`), threads inside a string over
//! a language take tokens by the classes of their characters (`over_language`); for both, what leaves the
//! string is found by a walk over the few bytes that may follow a closing quote. All other threads walk the
//! token trie together.

mod free;
mod over_language;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use self::free::{Free, Freedom};
pub(crate) use self::over_language::StateSets;
use super::budget::Costs;
use super::costed::Costed;
use super::frame::{Frame, Thread};
use super::mask::Parts;
use super::shared::Map;
use super::step::{Assume, Bytes, ENDLESS, Machine};
use super::tables::{StringSets, Tables};
use super::trie::{NONE, ROOT, Trie};
use crate::grammar::UNIVERSAL;
use crate::vocab::TokenId;

/// A group that may follow a closed string.
#[derive(Clone, Copy, Debug)]
struct Found {
    group: u32,
    /// It depends on the text.
    conditional: bool,
    /// Tokens needed from there, where they are counted.
    cost: u32,
}

/// All of them.
type Accepted = Arc<[Found]>;

/// Accepted suffixes by the thread after the closing quote; kept between walks.
#[derive(Debug, Default)]
pub(crate) struct Suffixes {
    known: Map<Thread, Accepted>,
    bytes: AtomicUsize,
}

impl Suffixes {
    /// Memory held, roughly.
    pub(crate) fn size_bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// What one walk needs and fills.
pub(crate) struct Walk<'a> {
    machine: &'a Machine,
    tables: &'a Arc<Tables>,
    sets: &'a StringSets,
    suffixes: &'a Suffixes,
    state_sets: &'a StateSets,
    /// Threads of the open nodes of the walk.
    arena: Vec<Thread>,
    pub(crate) parts: Parts,
    /// Groups found by the walk over suffixes in progress.
    found: Vec<Found>,
    /// Counts the tokens needed after each token; fills `costed` beside `parts`.
    costs: Option<&'a Costs>,
    pub(crate) costed: Costed,
    /// A language that rules out nothing but ends is among the threads.
    total: bool,
    /// Trie nodes visited, for measuring.
    pub(crate) visited: u64,
}

/// Which trie is walked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    Tokens,
    Suffixes,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(
        machine: &'a Machine,
        tables: &'a Arc<Tables>,
        suffixes: &'a Suffixes,
        state_sets: &'a StateSets,
        costs: Option<&'a Costs>,
    ) -> Self {
        let parts = Parts { width: tables.vocab().len(), ..Parts::default() };
        let sets = tables.strings(machine.escapes);
        Self {
            machine,
            tables,
            sets,
            suffixes,
            state_sets,
            arena: Vec::new(),
            parts,
            found: Vec::new(),
            costs,
            costed: Costed::default(),
            total: false,
            visited: 0,
        }
    }

    /// An upper bound of the tokens needed after any token. Exact but for strings over a language, which a walk
    /// with costs would take over the whole vocabulary.
    pub(crate) fn worst(&mut self, threads: &[Thread]) -> u32 {
        let mut walked = Vec::with_capacity(threads.len());
        let mut worst = 0;
        for &thread in threads {
            match self.worst_over_language(thread) {
                Some(bound) => worst = worst.max(bound),
                None => walked.push(thread),
            }
        }
        if !walked.is_empty() {
            self.run(&walked);
        }
        self.costed.worst.max(worst)
    }

    /// Computes the mask of a set of threads.
    pub(crate) fn run(&mut self, threads: &[Thread]) {
        self.arena.clear();
        let mut frees: Vec<Free> = Vec::new();
        for &thread in threads {
            match self.freedom(thread) {
                Freedom::Free => frees.push(self.free_at_root(thread)),
                // What is needed after each token takes a walk.
                _ if self.costs.is_none() && self.is_unbounded(thread) => self.over_language(thread),
                Freedom::None => self.arena.push(thread),
                Freedom::Nearly => {
                    let twin = self.twin(thread);
                    let mut free = self.free_at_root(twin);
                    let start = self.arena.len();
                    self.differ(ROOT, thread, twin, &mut free.exceptions);
                    self.arena.truncate(start);
                    frees.push(free);
                }
            }
        }
        self.except(&frees);
        let end = self.arena.len();
        if end > 0 {
            self.descend(Over::Tokens, ROOT, 0, end);
        }
        self.parts.pack();
        self.arena.clear();
    }

    /// Tokens needed from a thread; 0 where they are not counted.
    fn cost(&mut self, thread: Thread) -> u32 {
        match self.costs {
            Some(costs) => costs.thread(self.machine, self.tables, thread),
            None => 0,
        }
    }

    /// The suffixes that may follow a string once it is closed, its length being right.
    fn after_string(&mut self, thread: Thread) -> Accepted {
        let mut closing = thread.frame.with_state(UNIVERSAL);
        if let Frame::String(place) = &mut closing {
            place.chars = place.chars.max(self.machine.rules.bounds(place.bounds).min_chars);
        }
        let closing = thread.at(closing);
        let start = self.arena.len();
        self.machine.step(closing, b'"', &mut self.arena, &mut Assume);
        let end = self.arena.len();
        if end == start {
            return Arc::from([]);
        }
        // The check at the end of a key is the session's, which knows the keys.
        if let Frame::OtherKey(_) = thread.frame {
            self.arena[start].conditional = thread.conditional;
        }
        // Several places follow only where stacks are united.
        let at = if end - start == 1 { self.arena[start] } else { closing };
        if let Some(known) = self.suffixes.known.get(&at) {
            self.arena.truncate(start);
            return known;
        }
        let outer = std::mem::take(&mut self.found);
        let sets = self.sets;
        let empty = sets.suffixes.node(ROOT).value;
        if empty != NONE {
            self.emit(Over::Suffixes, empty, start);
        }
        self.descend(Over::Suffixes, ROOT, start, end);
        self.arena.truncate(start);
        let accepted: Accepted = std::mem::replace(&mut self.found, outer).into();
        self.suffixes.bytes.fetch_add(64 + size_of_val(&*accepted), Ordering::Relaxed);
        self.suffixes.known.insert(at, accepted)
    }

    /// A token or a suffix ends where the threads from `start` on stand.
    fn emit(&mut self, over: Over, value: u32, start: usize) {
        let conditional = self.arena[start..].iter().all(|thread| thread.conditional);
        let mut cost = 0;
        if self.costs.is_some() {
            // A thread that a check may drop does not count where others remain.
            cost = ENDLESS;
            for at in start..self.arena.len() {
                if conditional || !self.arena[at].conditional {
                    cost = cost.min(self.cost(self.arena[at]));
                }
            }
        }
        match over {
            Over::Suffixes => self.found.push(Found { group: value, conditional, cost }),
            Over::Tokens => {
                let tables: &'a Tables = self.tables;
                for id in tables.twins(value) {
                    self.list(id, conditional, cost);
                }
            }
        }
    }

    fn list(&mut self, id: TokenId, conditional: bool, cost: u32) {
        let list = if conditional { &mut self.parts.conditional } else { &mut self.parts.add };
        list.push(id);
        if self.costs.is_some() {
            self.costed.worst = self.costed.worst.max(cost);
            let list = if conditional { &mut self.costed.conditional } else { &mut self.costed.listed };
            list.push((id, cost));
        }
    }

    /// Walks below a node with the threads `start..end` of the arena.
    fn descend(&mut self, over: Over, node: u32, start: usize, end: usize) {
        let sets = self.sets;
        let tables: &'a Tables = self.tables;
        let trie: &Trie = match over {
            Over::Tokens => &tables.trie,
            Over::Suffixes => &sets.suffixes,
        };
        let at = *trie.node(node);
        let hints = if at.children > 6 { self.hints(start, end) } else { None };
        match hints {
            Some(bytes) => {
                for byte in bytes.iter() {
                    let child = trie.child(node, byte);
                    if child != NONE {
                        self.visit(over, trie, child, byte, start, end);
                    }
                }
            }
            None => {
                for child in at.first..at.first + u32::from(at.children) {
                    self.visit(over, trie, child, trie.node(child).byte, start, end);
                }
            }
        }
    }

    fn visit(&mut self, over: Over, trie: &Trie, child: u32, byte: u8, start: usize, end: usize) {
        self.visited += 1;
        let low = self.arena.len();
        for at in start..end {
            let thread = self.arena[at];
            self.machine.step(thread, byte, &mut self.arena, &mut Assume);
        }
        if self.arena.len() - low > 1 {
            self.machine.unify(&mut self.arena, low);
        }
        if self.arena.len() > low {
            let here = trie.node(child);
            if here.value != NONE {
                self.emit(over, here.value, low);
            }
            if here.children > 0 {
                if over == Over::Tokens && byte == b'"' {
                    self.enter_strings(child, low);
                }
                if self.arena.len() > low {
                    let high = self.arena.len();
                    self.descend(over, child, low, high);
                }
            }
        }
        self.arena.truncate(low);
    }

    /// The bytes that the threads may take, when they are few.
    fn hints(&mut self, start: usize, end: usize) -> Option<Bytes> {
        let mut bytes = Bytes::default();
        for at in start..end {
            let thread = self.arena[at];
            if !self.machine.hint(thread, &mut bytes) {
                return None;
            }
        }
        Some(bytes)
    }
}
