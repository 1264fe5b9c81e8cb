//! Strings over a language: which tokens stay inside is found by the classes of their characters.
//!
//! Tokens made of characters that pass from a state, and from all states that they lead to, pass together. The
//! rest is walked, and the walk takes whole subtrees wherever that holds for what lies below. Counts far from
//! their bounds are put out of sight first, so that the sets are shared; a few tokens of very many
//! characters are tried one by one for that.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Found, Walk};
use crate::constraint::classes::{
    CLASSES, FIRST_LETTERS, LONG, Letters, SEPARATORS, WIDE, class_of, class_of_char, is_separator, may_separate,
};
use crate::constraint::costed::PARTIAL;
use crate::constraint::escape::{Escapes, PLAIN};
use crate::constraint::frame::{Frame, Thread};
use crate::constraint::shared::{Cells, Map};
use crate::constraint::step::Assume;
use crate::constraint::tables::Tables;
use crate::constraint::trie::{NONE, ROOT};
use crate::grammar::{CharSet, DEAD, StateId, UNIVERSAL};
use crate::vocab::TokenId;

/// What has been found out of the states of languages, kept between walks.
#[derive(Debug, Default)]
pub(crate) struct StateSets {
    /// Where the classes of characters lead.
    targets: Cells<Box<[StateId; CLASSES]>>,
    /// How tokens fare.
    runs: Cells<Run>,
    /// Tokens that stay inside a string.
    stays: Map<StateId, Arc<[u32]>>,
    known_targets: AtomicUsize,
    known_runs: AtomicUsize,
    /// Words of one of the sets of tokens.
    width: AtomicUsize,
}

impl StateSets {
    /// Memory held, roughly, but for sets of tokens.
    pub(crate) fn size_bytes(&self) -> usize {
        (4 * CLASSES + 48) * self.known_targets.load(Ordering::Relaxed) + 48 * self.known_runs.load(Ordering::Relaxed)
    }

    /// Memory held by sets of tokens.
    pub(crate) fn token_bytes(&self) -> usize {
        4 * self.width.load(Ordering::Relaxed) * self.stays.len()
    }

    /// Forgets sets of tokens.
    pub(crate) fn forget_tokens(&self) {
        self.stays.clear();
    }
}

/// How tokens fare from a state: those of passing classes alone, up to so many characters, stay alive.
#[derive(Clone, Copy, Debug)]
struct Run {
    pass: u64,
    /// Any number of characters, where none.
    chars: Option<u32>,
}

/// The characters of a class lead to different states.
const DIVIDED: StateId = u32::MAX - 1;
/// Characters that a run is followed for.
const LONGEST_RUN: u32 = LONG as u32;
/// More tokens than this are walked, not tried one by one.
const MOST_TRIED: usize = 1000;
/// States that a run is followed through.
const MOST_REACHED: usize = 96;
/// States that letters, one by one, are followed through.
const MOST_LETTERED: usize = 12;
/// Fewer tokens below a node are walked without asking.
const FEW_BELOW: u32 = 6;

/// The classes whose target is as asked.
fn bits_of(targets: &[StateId; CLASSES], is: impl Fn(StateId) -> bool) -> u64 {
    targets.iter().enumerate().filter(|(_, target)| is(**target)).fold(0, |bits, (class, _)| bits | 1 << class)
}

/// The classes all of whose characters are in a set.
fn classes_within(set: &CharSet) -> u64 {
    let mut within = u64::MAX >> (64 - CLASSES);
    for (low, high) in set.complement().ranges() {
        // A long stretch holds characters of the widest class, a short one is looked at.
        if high - low > 128 {
            within &= !(1 << WIDE | 1 << SEPARATORS);
        }
        for c in (low..=high.min(low + 128)).filter_map(char::from_u32) {
            within &= !(1 << class_of_char(c));
        }
    }
    within
}

impl<'a> Walk<'a> {
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
        let near = self.machine.expansion.lang_horizon(state, LONGEST_RUN);
        let stays = match self.state_sets.stays.get(&near) {
            Some(known) => known,
            None => {
                let stays: Arc<[u32]> = self.stays(near).into();
                self.state_sets.width.store(stays.len(), Ordering::Relaxed);
                self.state_sets.stays.insert(near, stays)
            }
        };
        match &mut self.parts.bits {
            Some(bits) => Arc::make_mut(bits).iter_mut().zip(stays.iter()).for_each(|(bits, stays)| *bits |= stays),
            none => *none = Some(stays),
        }
        let falls = bits_of(self.targets(state), |target| target == DEAD);
        for &(class, id) in &classes.long {
            if falls >> class & 1 == 0 && self.survives(state, vocab.bytes(id)) {
                self.parts.add.push(id);
            }
        }
    }

    /// The tokens that stay inside, but for the long ones, as bits.
    fn stays(&mut self, state: StateId) -> Vec<u32> {
        let classes = &self.sets.classes;
        let vocab = self.tables.vocab();
        let run = self.run_of(state);
        let mut bits = vec![0; self.parts.width.div_ceil(32)];
        let falls = bits_of(self.targets(state), |target| target == DEAD);
        let mut tried = Vec::new();
        if run.chars.is_none_or(|chars| chars >= LONGEST_RUN) {
            // What is not decided by classes alone.
            let open = !run.pass;
            let mut count = 0;
            for group in &classes.groups {
                if group.signature & open == 0 {
                    match &group.bits {
                        Some(all) => bits.iter_mut().zip(all).for_each(|(word, all)| *word |= all),
                        None => group.tokens.iter().for_each(|&id| bits[id as usize / 32] |= 1 << (id % 32)),
                    }
                } else if group.signature & !falls != 0 {
                    count += group.tokens.len();
                    if count <= MOST_TRIED {
                        tried.extend_from_slice(&group.tokens);
                    }
                }
            }
            if count > MOST_TRIED {
                tried.clear();
                if !self.stay_by_letters(state, &mut bits, &mut tried) {
                    tried.clear();
                    self.stay_below(ROOT, state, PLAIN, open, &mut bits);
                }
            }
        } else {
            self.stay_below(ROOT, state, PLAIN, u64::MAX, &mut bits);
        }
        tried.extend_from_slice(&classes.loose);
        for id in tried {
            if self.survives(state, vocab.bytes(id)) {
                bits[id as usize / 32] |= 1 << (id % 32);
            }
        }
        bits
    }

    /// Adds the tokens whose letters pass wherever they stand, and lists in `tried` those that neither do nor fall for
    /// a letter that passes nowhere. False where these are many.
    fn stay_by_letters(&mut self, state: StateId, bits: &mut [u32], tried: &mut Vec<TokenId>) -> bool {
        let Some((pass, fall)) = self.letters_from(state) else { return false };
        let classes = &self.sets.classes;
        for (&letters, &id) in classes.letters.iter().zip(&classes.order) {
            if letters & !pass == 0 {
                bits[id as usize / 32] |= 1 << (id % 32);
            } else if letters & fall == 0 {
                if tried.len() == MOST_TRIED {
                    return false;
                }
                tried.push(id);
            }
        }
        true
    }

    /// The letters that pass from a state and all that letters lead to from it, and those that pass from none of them.
    /// None where they are many, or where a letter stands for characters that part.
    fn letters_from(&mut self, state: StateId) -> Option<(Letters, Letters)> {
        let (mut pass, mut fall): (Letters, Letters) = (Letters::MAX, Letters::MAX);
        let mut reached = vec![state];
        let mut at = 0;
        while let Some(&from) = reached.get(at) {
            at += 1;
            let row = self.machine.expansion.lang_row(from);
            let targets = self.targets(from);
            for letter in 0..128u8 {
                let next = FIRST_LETTERS.get(usize::from(letter)).map_or(row[letter], |&class| targets[class]);
                match next {
                    DIVIDED => return None,
                    DEAD => pass &= !(1 << letter),
                    _ => {
                        fall &= !(1 << letter);
                        if !reached.contains(&next) {
                            reached.push(next);
                        }
                    }
                }
            }
            // Where hardly a letter passes from everywhere, there is nothing to be had.
            if reached.len() > MOST_LETTERED || (pass | fall).count_ones() < 96 {
                return None;
            }
        }
        Some((pass, fall))
    }

    /// Walks the tokens that stay inside and hold a character of an open class.
    fn stay_below(&mut self, node: u32, state: StateId, escape: u32, open: u64, bits: &mut [u32]) {
        let tables: &'a Tables = self.tables;
        let classes = &self.sets.classes;
        let at = *tables.trie.node(node);
        for child in at.first..at.first + u32::from(at.children) {
            let below = classes.below[child as usize];
            if below.signature & open == 0 {
                continue;
            }
            let here = *tables.trie.node(child);
            if here.byte == b'"' && escape == PLAIN {
                continue;
            }
            self.visited += 1;
            let Some((next, escape)) = self.machine.content(state, escape, here.byte) else { continue };
            if escape == PLAIN && below.end - below.first > FEW_BELOW {
                let run = self.run_of(next);
                if below.rest & !run.pass == 0 && run.chars.is_none_or(|chars| chars >= below.height) {
                    for &id in &classes.order[below.first as usize..below.end as usize] {
                        bits[id as usize / 32] |= 1 << (id % 32);
                    }
                    continue;
                }
            }
            if here.value != NONE {
                for id in tables.twins(here.value) {
                    bits[id as usize / 32] |= 1 << (id % 32);
                }
            }
            if here.children > 0 {
                self.stay_below(child, next, escape, open, bits);
            }
        }
    }

    /// How tokens fare from a state, by the classes of their characters.
    fn run_of(&mut self, state: StateId) -> Run {
        if let Some(&run) = self.state_sets.runs.get(state) {
            return run;
        }
        // Characters that a repeated part takes for ever pass without a look at the states they lead to.
        let mut pass = u64::MAX >> (64 - CLASSES);
        let taken = self.machine.expansion.lang_absorbs(state, classes_within).unwrap_or(0);
        let run = loop {
            if taken.count_ones() >= pass.count_ones() {
                break Run { pass: taken, chars: None };
            }
            match self.run_within(state, pass) {
                Ok(chars) => break Run { pass, chars },
                Err(0) => break Run { pass: 0, chars: Some(0) },
                Err(less) => pass = less,
            }
        };
        *self.state_sets.runs.get_or(state, || {
            self.state_sets.known_runs.fetch_add(1, Ordering::Relaxed);
            run
        })
    }

    /// For how many characters texts of some classes pass from a state; else those of the classes that may.
    fn run_within(&mut self, state: StateId, pass: u64) -> Result<Option<u32>, u64> {
        let mut reached = vec![state];
        let mut from = 0;
        for chars in 0..LONGEST_RUN {
            let to = reached.len();
            if from == to {
                return Ok(None);
            }
            for at in from..to {
                let targets = self.targets(reached[at]);
                let stops = bits_of(targets, |target| target == DEAD || target == DIVIDED);
                if pass & stops != 0 {
                    return Err(pass & !stops);
                }
                for class in (0..CLASSES).filter(|class| pass >> class & 1 == 1) {
                    if !reached.contains(&targets[class]) {
                        reached.push(targets[class]);
                    }
                }
            }
            if reached.len() > MOST_REACHED {
                // Each character so far has passed, and the next does.
                return Ok(Some(chars + 1));
            }
            from = to;
        }
        Ok(Some(LONGEST_RUN))
    }

    /// [`Self::worst`] of a string over a language; none where a walk is short, or the language says nothing.
    pub(super) fn worst_over_language(&mut self, thread: Thread) -> Option<u32> {
        if let Frame::Text(place) = thread.frame {
            if place.state == UNIVERSAL {
                return Some(self.cost(thread).saturating_add(PARTIAL));
            }
            if self.machine.rules.bounds(place.bounds).min_chars > place.chars {
                return None;
            }
            return self.machine.expansion.lang_worst_bytes(place.state, self.tables.longest, false);
        }
        let (state, _) = thread.frame.content()?;
        if state == UNIVERSAL || !self.is_unbounded(thread) || self.is_narrow(state) {
            return None;
        }
        let inside = self.machine.expansion.lang_worst_bytes(state, self.tables.longest, true)?;
        let mut worst = 0;
        for found in self.after_string(thread).iter() {
            worst = worst.max(found.cost);
        }
        // The closing quote, and what follows it.
        let start = self.arena.len();
        let closed = thread.at(thread.frame.with_state(UNIVERSAL));
        self.machine.step(closed, b'"', &mut self.arena, &mut Assume);
        let closed = self.arena.split_off(start);
        let slack = if let Frame::OtherKey(_) = thread.frame { 2 } else { 0 };
        let least = closed.into_iter().map(|thread| self.cost(thread)).min()?;
        let rest = least.saturating_add(1 + slack + PARTIAL);
        Some(worst.max(inside.saturating_add(rest)))
    }

    /// A handful of bytes lead on from a state, so that a walk is short.
    fn is_narrow(&mut self, state: StateId) -> bool {
        let row = self.machine.expansion.lang_row(state);
        row.live().filter(|&byte| byte >= 0x20).count() <= 6
    }

    /// A string (or key) over a language that counts no characters, at a character boundary.
    pub(super) fn is_unbounded(&self, thread: Thread) -> bool {
        match thread.frame {
            Frame::String(place) => {
                let bounds = self.machine.rules.bounds(place.bounds);
                place.open == PLAIN && bounds.min_chars == 0 && bounds.max_chars.is_none()
            }
            Frame::OtherKey(place) => place.open == PLAIN,
            _ => false,
        }
    }

    /// A thread inside a string over a language, with the whole vocabulary before it.
    pub(super) fn over_language(&mut self, thread: Thread) {
        let Some((state, _)) = thread.frame.content() else { return };
        if self.is_narrow(state) {
            self.arena.push(thread);
            return;
        }
        let row = self.machine.expansion.lang_row(state);
        if (0x80..0xc0).any(|byte: u8| row[byte] != DEAD) {
            self.arena.push(thread);
            return;
        }
        self.stay_over_language(state);
        self.leave_over_language(thread, state);
    }

    /// Adds the tokens that leave the string.
    fn leave_over_language(&mut self, thread: Thread, state: StateId) {
        let classes = &self.sets.classes;
        let mut accepting = vec![false; classes.content_count];
        self.contents_below(ROOT, state, PLAIN, &mut accepting);
        if !accepting.contains(&true) {
            return;
        }
        for &Found { group, conditional, cost } in self.after_string(thread).iter() {
            // What a key's uniqueness rules out, the session sees to.
            let conditional = conditional && matches!(thread.frame, Frame::String(_));
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

    /// A token stays inside a string over a language.
    fn survives(&mut self, state: StateId, bytes: &[u8]) -> bool {
        self.visited += 1;
        let mut now = Some((state, PLAIN));
        for &byte in bytes {
            now = now.and_then(|(state, open)| self.machine.content(state, open, byte));
        }
        now.is_some()
    }

    /// Where each class of characters leads from a state: a state, [`DEAD`], or [`DIVIDED`].
    fn targets(&self, state: StateId) -> &'a [StateId; CLASSES] {
        let sets: &'a StateSets = self.state_sets;
        sets.targets.get_or(state, || {
            sets.known_targets.fetch_add(1, Ordering::Relaxed);
            self.find_targets(state)
        })
    }

    fn find_targets(&self, state: StateId) -> Box<[StateId; CLASSES]> {
        let row = self.machine.expansion.lang_row(state);
        let mut targets = [NONE; CLASSES];
        for byte in 0..0x80u8 {
            let (target, next) = (&mut targets[class_of(byte)], row[byte]);
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
            open.push((row[lead], inner, if told_apart { lead.into() } else { 0 }));
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
            let row = self.machine.expansion.lang_row(inside);
            let valid = match prefix {
                0xe0 => 0xa0..=0xbf,
                0xed => 0x80..=0x9f,
                0xf0 => 0x90..=0xbf,
                0xf4 => 0x80..=0x8f,
                _ => 0x80..=0xbf_u8,
            };
            for byte in valid {
                let next = row[byte];
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
        Box::new(targets)
    }
}
