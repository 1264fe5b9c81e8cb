//! From a configuration to its mask.
//!
//! Threads that stand inside a free string take the vocabulary's precomputed sets, with a walk over
//! the few bytes that may follow the closing quote. All other threads walk the token trie together.
//! A string that is free but for a few words (the keys that an object does not name) is taken as
//! free, and the walk follows only the places where the two differ.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::Whitespace;
use super::budget::{Costs, ENDLESS};
use super::escape::{self, Escapes, PLAIN, Step};
use super::frame::{Kind, Thread};
use super::mask::{Crossing, Mask, Parts};
use super::rules::First;
use super::step::{Assume, Machine};
use super::tables::{StringSets, Tables};
use super::trie::{NONE, ROOT, Trie};
use crate::grammar::{DEAD, StateId, UNIVERSAL};
use crate::vocab::TokenId;

/// A group that may follow a closed string.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    group: u32,
    /// It depends on the text.
    conditional: bool,
    /// Tokens needed from there, where they are counted.
    cost: u32,
}

/// All of them.
pub(crate) type Accepted = Arc<[Found]>;

/// A mask with the tokens needed after each of its tokens.
#[derive(Debug, Default)]
pub(crate) struct Costed {
    listed: Vec<(TokenId, u32)>,
    conditional: Vec<(TokenId, u32)>,
    crossing: Vec<(Crossing, u32)>,
    free: Vec<FreeCost>,
    /// Tokens that no free string holds after all, as [`Parts::remove`].
    remove: Vec<TokenId>,
    /// An upper bound of what is needed after any token of the mask.
    pub(crate) worst: u32,
}

/// Tokens that stay inside a free string.
#[derive(Debug)]
struct FreeCost {
    max: Option<u32>,
    /// Tokens needed after so many more characters; the last stands for all beyond.
    costs: Vec<u32>,
}

/// What a token that ends within a character or an escape may need beyond one that does not.
const PARTIAL: u32 = 4;

/// What one walk needs and fills.
pub(crate) struct Walk<'a> {
    pub(crate) machine: &'a mut Machine,
    pub(crate) tables: &'a Arc<Tables>,
    /// Accepted suffixes by the thread after the closing quote; kept between walks.
    pub(crate) suffixes: &'a mut FxHashMap<Thread, Accepted>,
    /// Threads of the open nodes of the walk.
    pub(crate) arena: Vec<Thread>,
    pub(crate) parts: Parts,
    /// Groups found by the walk over suffixes in progress.
    found: Vec<Found>,
    /// Counts the tokens needed after each token; fills `costed` beside `parts`.
    pub(crate) costs: Option<&'a mut Costs>,
    pub(crate) costed: Costed,
    /// Trie nodes visited, for measuring.
    pub(crate) visited: u64,
}

/// Which trie is walked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    Tokens,
    Suffixes,
}

/// Bytes that may come next.
pub(crate) type Bytes = [u64; 4];

impl<'a> Walk<'a> {
    pub(crate) fn new(
        machine: &'a mut Machine,
        tables: &'a Arc<Tables>,
        suffixes: &'a mut FxHashMap<Thread, Accepted>,
        arena: Vec<Thread>,
    ) -> Self {
        let parts = Parts { width: tables.vocab().len(), ..Parts::default() };
        Self {
            machine,
            tables,
            suffixes,
            arena,
            parts,
            found: Vec::new(),
            costs: None,
            costed: Costed::default(),
            visited: 0,
        }
    }

    fn sets(&self) -> &'a StringSets {
        self.tables.strings(self.machine.escapes)
    }

    /// Computes the mask of a set of threads.
    pub(crate) fn run(&mut self, threads: &[Thread]) {
        self.arena.clear();
        let mut removed: Option<Vec<TokenId>> = None;
        for &thread in threads {
            let free = match thread.frame.kind {
                Kind::String | Kind::OtherKey if thread.frame.d == PLAIN => self.freedom(thread.frame.b),
                _ => Freedom::None,
            };
            match free {
                Freedom::Free => {
                    self.free_at_root(thread);
                    removed = Some(Vec::new());
                }
                // Exceptions of two threads do not add up; the second walks.
                Freedom::Nearly if removed.is_none() => {
                    self.free_at_root(thread);
                    let mut exceptions = Vec::new();
                    let mut free = thread;
                    free.frame.b = UNIVERSAL;
                    self.differ(Over::Tokens, ROOT, thread, free, &mut exceptions);
                    removed = Some(exceptions);
                }
                _ => self.arena.push(thread),
            }
        }
        self.parts.remove = removed.unwrap_or_default();
        self.costed.remove.clone_from(&self.parts.remove);
        let end = self.arena.len();
        if end > 0 {
            self.descend(Over::Tokens, ROOT, 0, end);
        }
        self.parts.pack();
        self.arena.clear();
    }

    /// A thread inside a free string, with the whole vocabulary before it.
    fn free_at_root(&mut self, thread: Thread) {
        let sets = self.sets();
        let (min, max) = self.bounds(thread);
        let inside = sets.inside(max);
        let wider = |now: &Arc<[u32]>| now.len() < inside.len() || Arc::ptr_eq(now, inside);
        match &self.parts.inside {
            Some(now) if !wider(now) => {
                // Sets are nested: keep the one with more characters.
                let count = |bits: &Arc<[u32]>| bits.iter().map(|word| word.count_ones()).sum::<u32>();
                if count(inside) > count(now) {
                    self.parts.inside = Some(inside.clone());
                }
            }
            _ => self.parts.inside = Some(inside.clone()),
        }
        self.parts.tables = Some((self.tables.clone(), self.machine.escapes));
        if self.costs.is_some() {
            let costs = self.free_costs(thread);
            self.costed.worst = self.costed.worst.max(costs[0].saturating_add(PARTIAL));
            self.costed.free.push(FreeCost { max, costs });
        }
        let max = max.unwrap_or(u32::MAX);
        for &Found { group, conditional, cost } in self.after_string(thread).iter() {
            self.costed.worst = self.costed.worst.max(cost);
            if conditional && thread.frame.kind == Kind::String {
                for &id in sets.group(group) {
                    if (min..=max).contains(&u32::from(sets.chars[id as usize])) {
                        self.parts.conditional.push(id);
                        self.costed.conditional.push((id, cost));
                    }
                }
            } else {
                let crossing = Crossing { group, min, max };
                self.parts.crossing.push(crossing);
                self.costed.crossing.push((crossing, cost));
            }
        }
    }

    /// Tokens needed after 0, 1, … more characters of a free string, as far as that changes.
    fn free_costs(&mut self, thread: Thread) -> Vec<u32> {
        let (min, _) = self.bounds(thread);
        let mut thread = thread;
        thread.frame.b = UNIVERSAL;
        thread.frame.d = PLAIN;
        (0..=min.min(self.tables.longest))
            .map(|chars| {
                let mut later = thread;
                if later.frame.kind == Kind::String {
                    later.frame.c += chars;
                }
                self.cost(later)
            })
            .collect()
    }

    /// Tokens needed from a thread; 0 where they are not counted.
    fn cost(&mut self, thread: Thread) -> u32 {
        match &mut self.costs {
            Some(costs) => costs.thread(self.machine, self.tables, thread),
            None => 0,
        }
    }

    /// Fewest and most characters that may still come before the closing quote.
    fn bounds(&self, thread: Thread) -> (u32, Option<u32>) {
        if thread.frame.kind == Kind::OtherKey {
            return (0, None);
        }
        let bounds = &self.machine.rules.strings[thread.frame.a as usize];
        (
            bounds.min_chars.saturating_sub(thread.frame.c),
            bounds.max_chars.map(|max| max.saturating_sub(thread.frame.c)),
        )
    }

    /// The suffixes that may follow a string once it is closed, its length being right.
    fn after_string(&mut self, mut thread: Thread) -> Accepted {
        if thread.frame.kind == Kind::String {
            thread.frame.c = thread.frame.c.max(self.machine.rules.strings[thread.frame.a as usize].min_chars);
        }
        thread.frame.b = UNIVERSAL;
        let start = self.arena.len();
        self.machine.step(thread, b'"', &mut self.arena, &mut Assume);
        let end = self.arena.len();
        let Some(&closed) = self.arena[start..end].first() else { return Arc::from([]) };
        debug_assert_eq!(end - start, 1, "a closing quote leads to one place");
        // The check at the end of a key is the session's, which knows the keys.
        let own = thread.frame.kind == Kind::OtherKey;
        let mut closed = closed;
        if own {
            closed.frame.conditional = thread.frame.conditional;
        }
        self.arena[start] = closed;
        if let Some(known) = self.suffixes.get(&closed) {
            self.arena.truncate(start);
            return known.clone();
        }
        let outer = std::mem::take(&mut self.found);
        let sets = self.sets();
        let empty = sets.suffixes.node(ROOT).value;
        if empty != NONE {
            let cost = self.cost(closed);
            self.found.push(Found { group: empty, conditional: closed.frame.conditional, cost });
        }
        self.descend(Over::Suffixes, ROOT, start, end);
        self.arena.truncate(start);
        let accepted: Accepted = std::mem::replace(&mut self.found, outer).into();
        self.suffixes.insert(closed, accepted.clone());
        accepted
    }

    /// A token or a suffix ends where the threads from `start` on stand.
    fn emit(&mut self, over: Over, value: u32, start: usize) {
        let conditional = self.arena[start..].iter().all(|thread| thread.frame.conditional);
        let mut cost = 0;
        if self.costs.is_some() {
            // A thread that a check may drop does not count where others remain.
            cost = ENDLESS;
            for at in start..self.arena.len() {
                if conditional || !self.arena[at].frame.conditional {
                    cost = cost.min(self.cost(self.arena[at]));
                }
            }
        }
        match over {
            Over::Suffixes => self.found.push(Found { group: value, conditional, cost }),
            Over::Tokens => {
                let tables = self.tables.clone();
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
        let sets = self.sets();
        let tables = self.tables.clone();
        let trie: &Trie = match over {
            Over::Tokens => &tables.trie,
            Over::Suffixes => &sets.suffixes,
        };
        let at = *trie.node(node);
        let hints = if at.children > 6 { self.hints(start, end) } else { None };
        match hints {
            Some(bytes) => {
                for (word, &set) in (0u8..).zip(&bytes) {
                    let mut bits = set;
                    while bits != 0 {
                        let byte = word * 64 + u8::try_from(bits.trailing_zeros()).expect("below 64");
                        bits &= bits - 1;
                        let child = trie.child(node, byte);
                        if child != NONE {
                            self.visit(over, trie, child, byte, start, end);
                        }
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
            unify(&mut self.arena, low);
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

    /// Takes the threads that have just entered a free string out of the walk, by the tables.
    fn enter_strings(&mut self, node: u32, low: usize) {
        let sets = self.sets();
        let Some(entry) = sets.entry(node) else { return };
        let mut at = low;
        while at < self.arena.len() {
            let thread = self.arena[at];
            let fresh = matches!(thread.frame.kind, Kind::String | Kind::OtherKey) && thread.frame.d == PLAIN;
            let free = if fresh { self.freedom(thread.frame.b) } else { Freedom::None };
            if free == Freedom::None {
                at += 1;
                continue;
            }
            self.arena.remove(at);
            let mut exceptions = Vec::new();
            if free == Freedom::Nearly {
                let mut free = thread;
                free.frame.b = UNIVERSAL;
                self.differ(Over::Tokens, node, thread, free, &mut exceptions);
            }
            let (min, max) = self.bounds(thread);
            let max = max.unwrap_or(u32::MAX);
            let opened = thread.frame.conditional;
            let costs = if self.costs.is_some() { self.free_costs(thread) } else { Vec::new() };
            for &(chars, id) in &entry.inside {
                if u32::from(chars) <= max && !exceptions.contains(&id) {
                    let cost = costs.get(usize::from(chars)).or(costs.last()).map_or(0, |cost| cost + PARTIAL);
                    self.list(id, opened, cost);
                }
            }
            if entry.crossing.is_empty() {
                continue;
            }
            // The key was opened within the token: the session's removal does not see it.
            let own = thread.frame.kind == Kind::OtherKey && {
                let (below, _) = self.machine.stacks.pop(thread.stack);
                self.machine.rules.state(below.a).has_others
            };
            let accepted = self.after_string(thread);
            for &(group, chars, id) in &entry.crossing {
                let Some(&found) = accepted.iter().find(|found| found.group == group) else { continue };
                if (min..=max).contains(&u32::from(chars)) && !exceptions.contains(&id) {
                    self.list(id, found.conditional || own || opened, found.cost);
                }
            }
        }
    }

    /// Follows a string over nearly every text beside the same string over every text, and collects the tokens
    /// that only the latter lets pass.
    fn differ(&mut self, over: Over, node: u32, thread: Thread, free: Thread, out: &mut Vec<TokenId>) {
        let tables = self.tables.clone();
        let trie = &tables.trie;
        let any = self.machine.escapes == Escapes::Any;
        let row = *self.machine.expansion.lang_row(thread.frame.b);
        let all = *self.machine.expansion.lang_row(free.frame.b);
        let accepts = self.machine.expansion.lang_accepts(thread.frame.b);
        let mut bytes: Vec<u8> = Vec::new();
        if thread.frame.d == PLAIN {
            bytes.extend((0x20..=0xff).filter(|&b| row[b as usize] != all[b as usize] && b != b'"' && b != b'\\'));
            if !accepts {
                bytes.push(b'"');
            }
            let escaped = (0..0x20).chain([b'"', b'\\']).any(|b| row[b as usize] != all[b as usize]);
            if escaped || any {
                bytes.push(b'\\');
            }
        } else if thread.frame.d == escape::BACKSLASH {
            bytes.extend(b"\"\\/bfnrtu".iter().filter(|&&byte| {
                match escape::step(escape::BACKSLASH, byte, self.machine.escapes) {
                    Step::Char(c) => row[c as usize] != all[c as usize],
                    Step::Open(_) => any,
                    Step::Bad => false,
                }
            }));
        } else {
            bytes.extend(b"0123456789abcdefABCDEF\\u");
        }
        for byte in bytes {
            let child = trie.child(node, byte);
            if child == NONE {
                continue;
            }
            self.visited += 1;
            let low = self.arena.len();
            self.machine.step(thread, byte, &mut self.arena, &mut Assume);
            let mine = self.arena.get(low).copied();
            self.arena.truncate(low);
            self.machine.step(free, byte, &mut self.arena, &mut Assume);
            let theirs = self.arena.get(low).copied();
            self.arena.truncate(low);
            match (mine, theirs) {
                (Some(mine), Some(theirs)) if mine != theirs => {
                    let value = trie.node(child).value;
                    if value != NONE && self.costs.is_some() {
                        // Counted one by one: a language may need more from here than free text does.
                        let cost = self.cost(mine);
                        for id in tables.twins(value) {
                            out.push(id);
                            self.list(id, mine.frame.conditional, cost);
                        }
                    }
                    self.differ(over, child, mine, theirs, out);
                }
                (None, Some(_)) => trie.each_below(child, &mut |id| out.extend(tables.twins(id))),
                // Canonical escapes of control characters pass only outside free text.
                (Some(_), None) => {
                    let mut threads = vec![thread];
                    std::mem::swap(&mut threads, &mut self.arena);
                    self.visit(over, trie, child, byte, 0, 1);
                    std::mem::swap(&mut threads, &mut self.arena);
                }
                _ => {}
            }
        }
    }

    /// How a string's state relates to every text.
    fn freedom(&mut self, state: StateId) -> Freedom {
        if state == UNIVERSAL {
            return Freedom::Free;
        }
        let row = *self.machine.expansion.lang_row(state);
        let all = self.machine.expansion.lang_row(UNIVERSAL);
        let mut differing = 0;
        for byte in (0x20..0x7f).chain(0xc2..0xf5) {
            if row[byte] != all[byte] {
                if row[byte] == DEAD {
                    return Freedom::None;
                }
                differing += 1;
            }
        }
        if differing <= 40 { Freedom::Nearly } else { Freedom::None }
    }

    /// The bytes that the threads may take, when they are few.
    fn hints(&mut self, start: usize, end: usize) -> Option<Bytes> {
        let mut bytes = [0; 4];
        for at in start..end {
            let thread = self.arena[at];
            if !self.machine.hint(thread, &mut bytes) {
                return None;
            }
        }
        Some(bytes)
    }
}

impl Machine {
    /// Adds the bytes that a thread may take; false when they are many.
    pub(crate) fn hint(&mut self, thread: Thread, bytes: &mut Bytes) -> bool {
        let frame = thread.frame;
        let style = self.whitespace;
        let mut add = |byte: u8| bytes[byte as usize / 64] |= 1 << (byte % 64);
        match style {
            Whitespace::Compact => {}
            Whitespace::Spaced => add(b' '),
            Whitespace::Pretty => b" \n".iter().for_each(|&byte| add(byte)),
            Whitespace::Flexible => b" \n\t\r".iter().for_each(|&byte| add(byte)),
        }
        match frame.kind {
            Kind::Done | Kind::ObjectKey | Kind::Guard => {}
            Kind::Value => {
                let list = self.rules.alternatives(frame.a, &mut self.expansion);
                for (first, starts) in [
                    (First::Null, &b"n"[..]),
                    (First::False, b"f"),
                    (First::True, b"t"),
                    (First::Number, b"-0123456789"),
                    (First::String, b"\""),
                    (First::Array, b"["),
                    (First::Object, b"{"),
                ] {
                    if !self.rules.list(list, first as usize).is_empty() {
                        starts.iter().for_each(|&byte| add(byte));
                    }
                }
            }
            Kind::Literal => b"nulfasetr".iter().for_each(|&byte| add(byte)),
            Kind::Number => {
                let row = self.expansion.lang_row(frame.a);
                b"+-.0123456789eE".iter().filter(|&&byte| row[byte as usize] != DEAD).for_each(|&byte| add(byte));
                if self.expansion.lang_accepts(frame.a) {
                    b",]}".iter().for_each(|&byte| add(byte));
                }
            }
            Kind::String | Kind::OtherKey | Kind::Text => {
                if frame.d != PLAIN {
                    b"\"\\/bfnrtu0123456789abcdefABCDEF".iter().for_each(|&byte| add(byte));
                    return true;
                }
                let row = self.expansion.lang_row(frame.b);
                let mut few = 0;
                for (byte, &next) in (0u8..=255).zip(row) {
                    if next != DEAD {
                        few += 1;
                        add(byte);
                    }
                }
                if few > 48 {
                    return false;
                }
                add(b'"');
                add(b'\\');
            }
            Kind::ObjectOpen | Kind::ObjectComma => b"}\"".iter().for_each(|&byte| add(byte)),
            Kind::MemberKey => {
                if frame.d != PLAIN {
                    return false;
                }
                add(b'"');
                add(b'\\');
                let names = &self.rules.object_of(frame.a).names;
                let range = &names[frame.b as usize..frame.c as usize];
                if range.len() > 64 {
                    return false;
                }
                range.iter().filter_map(|name| name.get(frame.pos as usize)).for_each(|&byte| add(byte));
            }
            Kind::Colon => add(b':'),
            Kind::ObjectAfter | Kind::ObjectClose => b",}".iter().for_each(|&byte| add(byte)),
            Kind::ArrayAfter | Kind::ArrayClose => b",]".iter().for_each(|&byte| add(byte)),
            Kind::ArrayOpen => {
                add(b']');
                b"nft-0123456789\"[{".iter().for_each(|&byte| add(byte));
            }
            Kind::ArrayComma => b"nft-0123456789\"[{".iter().for_each(|&byte| add(byte)),
        }
        true
    }
}

impl Costed {
    /// The tokens after which at most `limit` more are needed.
    pub(crate) fn within(&self, limit: u32, tables: &Arc<Tables>, escapes: Escapes) -> Mask {
        let width = tables.vocab().len();
        let sets = tables.strings(escapes);
        let mut bits = vec![0u32; width.div_ceil(32)];
        for free in &self.free {
            // Costs fall as characters are written.
            let Some(least) = free.costs.iter().position(|&cost| cost <= limit) else { continue };
            let most = sets.inside(free.max);
            let less = least.checked_sub(1).map(|less| sets.inside(u32::try_from(less).ok()));
            for (at, (word, &most)) in bits.iter_mut().zip(most.iter()).enumerate() {
                *word |= most & !less.map_or(0, |less| less[at]);
            }
            let strict = free.costs.iter().position(|&cost| cost.saturating_add(PARTIAL) <= limit);
            for &id in &sets.partial {
                if strict.is_none_or(|strict| usize::from(sets.chars[id as usize]) < strict) {
                    bits[id as usize / 32] &= !(1 << (id % 32));
                }
            }
        }
        for (crossing, _) in self.crossing.iter().filter(|(_, cost)| *cost <= limit) {
            for &id in sets.group(crossing.group) {
                if (crossing.min..=crossing.max).contains(&u32::from(sets.chars[id as usize])) {
                    bits[id as usize / 32] |= 1 << (id % 32);
                }
            }
        }
        for &id in &self.remove {
            bits[id as usize / 32] &= !(1 << (id % 32));
        }
        for &(id, _) in self.listed.iter().filter(|(_, cost)| *cost <= limit) {
            bits[id as usize / 32] |= 1 << (id % 32);
        }
        let conditional = self.conditional.iter().filter(|(_, cost)| *cost <= limit).map(|(id, _)| *id).collect();
        Mask::new(Parts { width, bits: Some(bits.into()), conditional, ..Parts::default() })
    }
}

/// How near a string's language is to every text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Freedom {
    Free,
    /// All but a few words.
    Nearly,
    None,
}

/// Sorts the threads from `low` on and drops repeats.
pub(crate) fn unify(threads: &mut Vec<Thread>, low: usize) {
    threads[low..].sort_unstable();
    let mut kept = low;
    for at in low..threads.len() {
        if at == low || threads[at] != threads[kept - 1] {
            threads[kept] = threads[at];
            kept += 1;
        }
    }
    threads.truncate(kept);
}
