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
use super::classes::{CLASSES, LONG, SEPARATORS, WIDE, class_of, is_separator, may_separate};
use super::escape::{self, Escapes, PLAIN, Step};
use super::frame::{Frame, Kind, Thread};
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

impl Costed {
    /// Memory that it takes, in bytes.
    pub(crate) fn size_bytes(&self) -> usize {
        let free: usize = self.free.iter().map(|free| size_of::<FreeCost>() + 4 * free.costs.len()).sum();
        let listed = size_of_val(self.listed.as_slice()) + size_of_val(self.conditional.as_slice());
        size_of::<Self>() + listed + size_of_val(self.crossing.as_slice()) + free + 4 * self.remove.len()
    }
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
    sets: &'a StringSets,
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
        let sets = tables.strings(machine.escapes);
        Self {
            machine,
            tables,
            sets,
            suffixes,
            arena,
            parts,
            found: Vec::new(),
            costs: None,
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

    /// [`Self::worst`] of a string over a language; none where a walk is short, or the language says nothing.
    fn worst_over_language(&mut self, thread: Thread) -> Option<u32> {
        let frame = thread.frame;
        let whole = frame.d == PLAIN && frame.b != UNIVERSAL;
        if frame.kind == Kind::Text {
            let bounds = &self.machine.rules.strings[frame.a as usize];
            let free = frame.b == UNIVERSAL;
            if !free && bounds.min_chars > frame.c {
                return None;
            }
            if free {
                return Some(self.cost(thread).saturating_add(PARTIAL));
            }
            return self.machine.expansion.lang_worst_bytes(frame.b, self.tables.longest, false);
        }
        if !whole || !self.is_unbounded(thread) || self.is_narrow(frame.b) {
            return None;
        }
        let inside = self.machine.expansion.lang_worst_bytes(frame.b, self.tables.longest, true)?;
        let mut worst = 0;
        for found in self.after_string(thread).iter() {
            worst = worst.max(found.cost);
        }
        // The closing quote, and what follows it.
        let start = self.arena.len();
        let closed = Thread { frame: Frame { b: UNIVERSAL, ..frame }, ..thread };
        self.machine.step(closed, b'"', &mut self.arena, &mut Assume);
        let closed = self.arena.get(start).copied();
        self.arena.truncate(start);
        let slack = if frame.kind == Kind::OtherKey { 2 } else { 0 };
        let rest = self.cost(closed?).saturating_add(1 + slack + PARTIAL);
        Some(worst.max(inside.saturating_add(rest)))
    }

    /// A handful of bytes lead on from a state, so that a walk is short.
    fn is_narrow(&mut self, state: StateId) -> bool {
        let row = self.machine.expansion.lang_row(state);
        row[0x20..].iter().filter(|&&next| next != DEAD).count() <= 6
    }

    /// Computes the mask of a set of threads.
    pub(crate) fn run(&mut self, threads: &[Thread]) {
        self.arena.clear();
        let mut frees: Vec<Free> = Vec::new();
        for &thread in threads {
            match self.freedom(thread) {
                // What is needed after each token takes a walk.
                Freedom::None if self.costs.is_none() && self.is_unbounded(thread) => self.over_language(thread),
                Freedom::None => self.arena.push(thread),
                Freedom::Free => frees.push(self.free_at_root(thread)),
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

    /// A string (or key) over a language that counts no characters, at a character boundary.
    fn is_unbounded(&self, thread: Thread) -> bool {
        let frame = thread.frame;
        if frame.d != PLAIN {
            return false;
        }
        match frame.kind {
            Kind::String => {
                let bounds = &self.machine.rules.strings[frame.a as usize];
                bounds.min_chars == 0 && bounds.max_chars.is_none()
            }
            Kind::OtherKey => true,
            _ => false,
        }
    }

    /// A thread inside a string over a language, with the whole vocabulary before it.
    fn over_language(&mut self, thread: Thread) {
        let state = thread.frame.b;
        if self.is_narrow(state) {
            self.arena.push(thread);
            return;
        }
        let row = self.machine.expansion.lang_row(state);
        if (0x80..0xc0).any(|byte| row[byte] != DEAD) {
            self.arena.push(thread);
            return;
        }
        self.stay_over_language(state);
        self.leave_over_language(thread);
    }

    /// Adds the tokens that stay inside.
    fn stay_over_language(&mut self, state: StateId) {
        let classes = &self.sets.classes;
        let vocab = self.tables.vocab();
        if self.machine.expansion.lang_is_total(state) {
            self.parts.inside = Some(self.sets.inside(None).clone());
            self.parts.tables = Some((self.tables.clone(), self.machine.escapes));
            self.total = true;
            if self.machine.escapes == Escapes::Canonical {
                for &id in &classes.loose {
                    if self.survives(state, vocab.bytes(id)) {
                        self.parts.add.push(id);
                    }
                }
            }
            return;
        }
        let run = self.run_of(state);
        if run.chars.is_some_and(|chars| chars < LONGEST_RUN) {
            let mut bits = self.parts.bits.take().unwrap_or_else(|| vec![0; self.parts.width.div_ceil(32)].into());
            self.stay_below(ROOT, state, PLAIN, u64::MAX, &mut bits);
            for &id in &classes.loose {
                if self.survives(state, vocab.bytes(id)) {
                    bits[id as usize / 32] |= 1 << (id % 32);
                }
            }
            self.parts.bits = Some(bits);
            return;
        }
        let divided = !(run.pass | run.fall);
        let width = self.parts.width.div_ceil(32);
        let mut bits = self.parts.bits.take().unwrap_or_else(|| vec![0; width].into());
        let (mut tried, mut divided_tokens): (Vec<&[TokenId]>, Vec<&[TokenId]>) = Default::default();
        let mut many = 0;
        for group in &classes.groups {
            if group.signature & !run.pass == 0 {
                let short = match run.chars {
                    None => group.tokens.len(),
                    Some(most) => group.tokens.partition_point(|&id| u32::from(self.sets.chars[id as usize]) <= most),
                };
                match &group.bits {
                    Some(all) if short == group.tokens.len() => {
                        bits.iter_mut().zip(all).for_each(|(word, all)| *word |= all);
                    }
                    _ => {
                        for &id in &group.tokens[..short] {
                            bits[id as usize / 32] |= 1 << (id % 32);
                        }
                    }
                }
                if short < group.tokens.len() {
                    tried.push(&group.tokens[short..]);
                }
            } else if group.signature & divided != 0 {
                many += group.tokens.len();
                divided_tokens.push(&group.tokens);
            }
        }
        if many <= MOST_TRIED {
            tried.append(&mut divided_tokens);
        }
        tried.push(&classes.loose);
        if run.chars.is_some() {
            // Beyond the run nothing is known.
            tried.extend(
                classes
                    .long
                    .iter()
                    .filter(|long| run.fall >> long.0 & 1 == 0)
                    .map(|long| std::slice::from_ref(&long.1)),
            );
        }
        for &id in tried.into_iter().flatten() {
            if self.survives(state, vocab.bytes(id)) {
                bits[id as usize / 32] |= 1 << (id % 32);
            }
        }
        if many > MOST_TRIED {
            self.stay_below(ROOT, state, PLAIN, divided, &mut bits);
        }
        self.parts.bits = Some(bits);
    }

    /// Walks the tokens that stay inside and hold a character of a divided class.
    fn stay_below(&mut self, node: u32, state: StateId, open: u32, divided: u64, bits: &mut [u32]) {
        let tables: &'a Tables = self.tables;
        let below: &'a [u64] = &self.sets.classes.below;
        let at = *tables.trie.node(node);
        for child in at.first..at.first + u32::from(at.children) {
            if below[child as usize] & divided == 0 {
                continue;
            }
            let here = *tables.trie.node(child);
            if here.byte == b'"' && open == PLAIN {
                continue;
            }
            self.visited += 1;
            if let Some((next, open)) = self.machine.content(state, open, here.byte) {
                if here.value != NONE {
                    for id in tables.twins(here.value) {
                        bits[id as usize / 32] |= 1 << (id % 32);
                    }
                }
                self.stay_below(child, next, open, divided, bits);
            }
        }
    }

    /// A token stays inside a string over a language.
    fn survives(&mut self, state: StateId, bytes: &[u8]) -> bool {
        self.visited += 1;
        let mut now = Some((state, PLAIN));
        for &byte in bytes {
            now = now.and_then(|(state, open)| self.machine.content(state, open, byte));
        }
        now.is_some()
    }

    /// Adds the tokens that leave the string.
    fn leave_over_language(&mut self, thread: Thread) {
        let classes = &self.sets.classes;
        let mut accepting = vec![false; classes.content_count];
        self.contents_below(ROOT, thread.frame.b, PLAIN, &mut accepting);
        if !accepting.contains(&true) {
            return;
        }
        for &Found { group, conditional, cost } in self.after_string(thread).iter() {
            // What a key's uniqueness rules out, the session sees to.
            let conditional = conditional && thread.frame.kind == Kind::String;
            for &id in self.sets.group(group) {
                if accepting[classes.content_of[id as usize] as usize] {
                    self.list(id, conditional, cost);
                }
            }
        }
    }

    /// Finds the contents after which the string may be closed.
    fn contents_below(&mut self, node: u32, state: StateId, open: u32, accepting: &mut [bool]) {
        let sets = self.sets;
        let at = *sets.classes.contents.node(node);
        if at.value != NONE && open == PLAIN && self.machine.expansion.lang_accepts(state) {
            accepting[at.value as usize] = true;
        }
        for child in at.first..at.first + u32::from(at.children) {
            let byte = sets.classes.contents.node(child).byte;
            self.visited += 1;
            if let Some((next, open)) = self.machine.content(state, open, byte) {
                self.contents_below(child, next, open, accepting);
            }
        }
    }

    /// How tokens fare from a state of a language, by the classes of their characters.
    fn run_of(&mut self, state: StateId) -> Run {
        let all = u64::MAX >> (64 - CLASSES);
        let mut pass = all;
        'smaller: loop {
            let mut fall = all;
            let mut reached = vec![state];
            let mut from = 0;
            for chars in 0..LONGEST_RUN {
                let to = reached.len();
                if from == to {
                    return Run { pass, fall, chars: None };
                }
                for at in from..to {
                    let targets = self.targets(reached[at]);
                    let stops = bits_of(&targets, |target| target == DEAD || target == DIVIDED);
                    if pass & stops != 0 {
                        pass &= !stops;
                        if pass == 0 {
                            return Run { pass, fall: 0, chars: Some(0) };
                        }
                        continue 'smaller;
                    }
                    fall &= bits_of(&targets, |target| target == DEAD);
                    for class in (0..CLASSES).filter(|class| pass >> class & 1 == 1) {
                        if !reached.contains(&targets[class]) {
                            reached.push(targets[class]);
                        }
                    }
                }
                if reached.len() > MOST_REACHED && chars + 1 < LONGEST_RUN {
                    return Run { pass: 0, fall: 0, chars: Some(0) };
                }
                from = to;
            }
            return Run { pass, fall, chars: Some(LONGEST_RUN) };
        }
    }

    /// Where each class of characters leads from a state: a state, [`DEAD`], or [`DIVIDED`].
    fn targets(&mut self, state: StateId) -> Arc<[StateId; CLASSES]> {
        if let Some(known) = self.machine.targets.get(&state) {
            return known.clone();
        }
        let row = *self.machine.expansion.lang_row(state);
        let mut targets = [NONE; CLASSES];
        for byte in 0..0x80u8 {
            let (target, next) = (&mut targets[class_of(byte)], row[byte as usize]);
            *target = if *target == NONE || *target == next { next } else { DIVIDED };
        }
        // Wide characters, by way of the states within them, which are few. The lead byte is kept while it
        // bounds the next byte, and where it may lead to a separator.
        let (mut wide, mut separators) = (NONE, NONE);
        let meet = |seen: &mut StateId, next| *seen = if *seen == NONE || *seen == next { next } else { DIVIDED };
        let mut open: Vec<(StateId, u8, u16)> = Vec::new();
        let mut seen: Vec<(StateId, u8, u16)> = Vec::new();
        for lead in 0xc2..0xf5u8 {
            let inner = if lead < 0xe0 { 1 } else { 2 + u8::from(lead >= 0xf0) };
            let told_apart = matches!(lead, 0xc2 | 0xe0..=0xe3 | 0xed | 0xef | 0xf0 | 0xf4);
            open.push((row[lead as usize], inner, if told_apart { lead.into() } else { 0 }));
        }
        while let Some(at) = open.pop() {
            if seen.contains(&at) {
                continue;
            }
            seen.push(at);
            let (inside, inner, prefix) = at;
            if inside == DEAD || inner == 0 {
                meet(&mut wide, inside);
                if inside == DEAD && may_separate(prefix) {
                    meet(&mut separators, DEAD);
                }
                continue;
            }
            let row = *self.machine.expansion.lang_row(inside);
            let valid = match prefix {
                0xe0 => 0xa0..=0xbf,
                0xed => 0x80..=0x9f,
                0xf0 => 0x90..=0xbf,
                0xf4 => 0x80..=0x8f,
                _ => 0x80..=0xbf_u8,
            };
            for byte in valid {
                let next = row[byte as usize];
                let longer = prefix << 8 | u16::from(byte);
                if inner == 1 && is_separator(prefix, byte) {
                    meet(&mut separators, next);
                } else if inner == 2 && may_separate(longer) {
                    open.push((next, 1, longer));
                } else {
                    open.push((next, inner - 1, 0));
                }
            }
        }
        targets[WIDE] = if wide == NONE { DEAD } else { wide };
        targets[SEPARATORS] = if separators == NONE { DEAD } else { separators };
        let targets = Arc::new(targets);
        self.machine.targets.insert(state, targets.clone());
        targets
    }

    /// Removes the tokens that are exceptions of every free string that would let them pass.
    fn except(&mut self, frees: &[Free]) {
        let mut exceptions: Vec<TokenId> = frees.iter().flat_map(|free| free.exceptions.iter().copied()).collect();
        exceptions.sort_unstable();
        exceptions.dedup();
        let sets = self.sets;
        exceptions.retain(|id| {
            let (group, chars) = (sets.group_of[*id as usize], u32::from(sets.chars[*id as usize]));
            !frees.iter().any(|free| {
                let passes = if group == NONE {
                    self.total || chars <= free.max.unwrap_or(u32::MAX)
                } else {
                    (free.min..=free.max.unwrap_or(u32::MAX)).contains(&chars)
                        && free.accepted.iter().any(|found| found.group == group)
                };
                passes && (group == NONE && self.total || !free.exceptions.contains(id))
            })
        });
        self.costed.remove.clone_from(&exceptions);
        self.parts.remove = exceptions;
    }

    /// A thread inside a free string, with the whole vocabulary before it.
    fn free_at_root(&mut self, thread: Thread) -> Free {
        let sets = self.sets;
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
        let accepted = self.after_string(thread);
        let free = Free { min, max, accepted: accepted.clone(), exceptions: Vec::new() };
        let max = max.unwrap_or(u32::MAX);
        for &Found { group, conditional, cost } in accepted.iter() {
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
        free
    }

    /// Tokens needed after 0, 1, … more characters of a free string, as far as that changes.
    fn free_costs(&mut self, thread: Thread) -> Vec<u32> {
        let (min, _) = self.bounds(thread);
        let mut thread = thread;
        thread.frame.b = UNIVERSAL;
        thread.frame.d = PLAIN;
        if thread.frame.kind != Kind::String {
            return vec![self.cost(thread)];
        }
        let Some(costs) = &mut self.costs else { return vec![0] };
        let fillers = costs.fillers(self.machine, self.tables, thread);
        let most = (min as usize).min(self.tables.longest as usize);
        (0..=most).map(|chars| fillers[min as usize - chars]).collect()
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
        let sets = self.sets;
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
        let sets = self.sets;
        let Some(entry) = sets.entry(node) else { return };
        let mut at = low;
        while at < self.arena.len() {
            let thread = self.arena[at];
            let free = self.freedom(thread);
            if free == Freedom::None {
                at += 1;
                continue;
            }
            self.arena.remove(at);
            let mut exceptions = Vec::new();
            let named = thread;
            let thread = self.twin(thread);
            if free == Freedom::Nearly {
                self.differ(node, named, thread, &mut exceptions);
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
    fn differ(&mut self, node: u32, thread: Thread, free: Thread, out: &mut Vec<TokenId>) {
        let tables: &'a Tables = self.tables;
        let trie = &tables.trie;
        let bytes = self.differing(thread, free);
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
                // The key of a member, that is none of the others.
                (Some(mine), Some(theirs)) if mine != theirs && mine.frame.kind == Kind::Colon => {
                    trie.each_below(child, &mut |id| out.extend(tables.twins(id)));
                    self.visit_alone(trie, child, byte, thread);
                }
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
                    self.differ(child, mine, theirs, out);
                }
                (None, Some(_)) => trie.each_below(child, &mut |id| out.extend(tables.twins(id))),
                // Canonical escapes of control characters pass only outside free text.
                (Some(_), None) => {
                    self.visit_alone(trie, child, byte, thread);
                }
                _ => {}
            }
        }
    }

    /// Visits a child with one thread.
    fn visit_alone(&mut self, trie: &Trie, child: u32, byte: u8, thread: Thread) {
        let start = self.arena.len();
        self.arena.push(thread);
        self.visit(Over::Tokens, trie, child, byte, start, start + 1);
        self.arena.truncate(start);
    }

    /// The bytes after which a string or key over nearly every text may differ from the one over every text.
    fn differing(&mut self, thread: Thread, free: Thread) -> Vec<u8> {
        let any = self.machine.escapes == Escapes::Any;
        let frame = thread.frame;
        let mut bytes: Vec<u8> = Vec::new();
        if frame.d != PLAIN && frame.d != escape::BACKSLASH {
            bytes.extend(b"0123456789abcdefABCDEF\\u");
        } else if frame.kind == Kind::AnyKey {
            let names = &self.machine.rules.object_of(frame.a).names;
            let range = &names[frame.b as usize..frame.c as usize];
            let next = range.iter().filter_map(|name| name.get(frame.pos as usize).copied());
            if frame.d == PLAIN {
                bytes.extend(next);
                if range[0].len() == frame.pos as usize {
                    bytes.push(b'"');
                }
                if any || bytes.iter().any(|&byte| byte < 0x20 || byte == b'\\' || byte == b'"') {
                    bytes.push(b'\\');
                }
                bytes.retain(|&byte| byte >= 0x20);
                // A quote in a name is spelt with a backslash; here it stands for the end.
                if range[0].len() != frame.pos as usize {
                    bytes.retain(|&byte| byte != b'"');
                }
                bytes.sort_unstable();
                bytes.dedup();
            } else {
                bytes.extend(b"\"\\/bfnrtu");
            }
        } else {
            let row = *self.machine.expansion.lang_row(frame.b);
            let all = *self.machine.expansion.lang_row(free.frame.b);
            if frame.d == PLAIN {
                bytes.extend((0x20..=0xff).filter(|&b| row[b as usize] != all[b as usize] && b != b'"' && b != b'\\'));
                if !self.machine.expansion.lang_accepts(frame.b) {
                    bytes.push(b'"');
                }
                let escaped = (0..0x20).chain([b'"', b'\\']).any(|b| row[b as usize] != all[b as usize]);
                if escaped || any {
                    bytes.push(b'\\');
                }
            } else {
                let escapes = self.machine.escapes;
                bytes.extend(b"\"\\/bfnrtu".iter().filter(|&&byte| {
                    match escape::step(escape::BACKSLASH, byte, escapes) {
                        Step::Char(c) => row[c as usize] != all[c as usize],
                        Step::Open(_) => true,
                        Step::Bad => false,
                    }
                }));
            }
        }
        bytes
    }

    /// The same string or key over every text.
    fn twin(&mut self, thread: Thread) -> Thread {
        let frame = match thread.frame.kind {
            Kind::AnyKey => Frame { b: UNIVERSAL, ..self.machine.diverged(thread.frame, &[]) },
            _ => Frame { b: UNIVERSAL, ..thread.frame },
        };
        Thread { frame, ..thread }
    }

    /// How a string or key relates to one over every text.
    fn freedom(&mut self, thread: Thread) -> Freedom {
        if thread.frame.d != PLAIN {
            return Freedom::None;
        }
        match thread.frame.kind {
            Kind::String | Kind::OtherKey => self.state_freedom(thread.frame.b),
            // Within a character only its rest may follow.
            Kind::AnyKey if self.machine.diverged(thread.frame, &[]).b == UNIVERSAL => Freedom::Nearly,
            _ => Freedom::None,
        }
    }

    fn state_freedom(&mut self, state: StateId) -> Freedom {
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
            Kind::AnyKey => return false,
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

/// How tokens fare from a state: those of passing classes alone, up to so many characters, stay alive; those
/// with a falling class, and else passing ones, do not.
#[derive(Clone, Copy, Debug)]
struct Run {
    pass: u64,
    fall: u64,
    chars: Option<u32>,
}

/// The characters of a class lead to different states.
const DIVIDED: StateId = u32::MAX - 1;
/// Characters that a run is followed for.
const LONGEST_RUN: u32 = LONG as u32;
/// More tokens than this are walked, not tried one by one.
const MOST_TRIED: usize = 3000;
/// States that a run is followed through.
const MOST_REACHED: usize = 96;

/// The classes whose target is as asked.
fn bits_of(targets: &[StateId; CLASSES], is: impl Fn(StateId) -> bool) -> u64 {
    targets.iter().enumerate().filter(|(_, target)| is(**target)).fold(0, |bits, (class, _)| bits | 1 << class)
}

/// One thread inside a free string.
struct Free {
    /// Fewest and most characters before the closing quote.
    min: u32,
    max: Option<u32>,
    accepted: Accepted,
    /// Tokens that it does not let pass after all.
    exceptions: Vec<TokenId>,
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
