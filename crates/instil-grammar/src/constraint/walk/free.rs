//! Strings over every text, or over nearly every text: masks by the vocabulary's precomputed sets.
//!
//! The tokens that stay inside are one set by the characters that are left; of those that leave, only the few
//! bytes after the closing quote are walked. A string that is free but for a few words (the keys that an object
//! does not name) is taken as free, and the walk follows only the places where the two differ.

use std::sync::Arc;

use super::{Accepted, Found, Over, Walk};
use crate::constraint::costed::{FreeCost, PARTIAL};
use crate::constraint::escape::{self, Escapes, PLAIN, Spelt};
use crate::constraint::expansion::Row;
use crate::constraint::frame::{Frame, Thread};
use crate::constraint::mask::Crossing;
use crate::constraint::step::{Assume, Machine};
use crate::constraint::tables::Tables;
use crate::constraint::trie::{NONE, Trie};
use crate::grammar::{DEAD, StateId, UNIVERSAL};
use crate::vocab::TokenId;

/// One thread inside a free string.
pub(super) struct Free {
    /// Fewest and most characters before the closing quote.
    min: u32,
    max: Option<u32>,
    accepted: Accepted,
    /// Tokens that it does not let pass after all.
    pub(super) exceptions: Vec<TokenId>,
}

/// How near a string's language is to every text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freedom {
    Free,
    /// All but a few words.
    Nearly,
    None,
}

impl<'a> Walk<'a> {
    /// Removes the tokens that are exceptions of every free string that would let them pass.
    pub(super) fn except(&mut self, frees: &[Free]) {
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
    pub(super) fn free_at_root(&mut self, thread: Thread) -> Free {
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
            if conditional {
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
        let place = match thread.frame {
            Frame::String(place) => place,
            other => return vec![self.cost(thread.at(other.with_state(UNIVERSAL)))],
        };
        let Some(costs) = self.costs else { return vec![0] };
        let fillers = costs.fillers(self.machine, self.tables, place.bounds, thread.stack);
        let most = (min as usize).min(self.tables.longest as usize);
        (0..=most).map(|chars| fillers[min as usize - chars]).collect()
    }

    /// Fewest and most characters that may still come before the closing quote.
    fn bounds(&self, thread: Thread) -> (u32, Option<u32>) {
        let Frame::String(place) = thread.frame else { return (0, None) };
        let bounds = self.machine.rules.bounds(place.bounds);
        (bounds.min_chars.saturating_sub(place.chars), bounds.max_chars.map(|max| max.saturating_sub(place.chars)))
    }

    /// Takes the threads that have just entered a free string out of the walk, by the tables.
    pub(super) fn enter_strings(&mut self, node: u32, low: usize) {
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
            let opened = thread.conditional;
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
            let own = self.machine.is_among_other_keys(&thread);
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
    pub(super) fn differ(&mut self, node: u32, thread: Thread, free: Thread, out: &mut Vec<TokenId>) {
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
                (Some(mine), Some(theirs)) if mine != theirs && matches!(mine.frame, Frame::Colon { .. }) => {
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
                            self.list(id, mine.conditional, cost);
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
        let (names, open) = match thread.frame {
            Frame::AnyKey { read, names } => (Some((read, names)), names.open),
            other => (None, other.content().map_or(PLAIN, |(_, open)| open)),
        };
        let mut bytes: Vec<u8> = Vec::new();
        match (names, open) {
            (Some((read, names)), PLAIN) => {
                let whole = self.machine.is_whole_name(read, names);
                bytes.extend(self.machine.next_in_names(read, names));
                if whole {
                    bytes.push(b'"');
                }
                if any || bytes.iter().any(|&byte| byte < 0x20 || byte == b'\\' || byte == b'"') {
                    bytes.push(b'\\');
                }
                bytes.retain(|&byte| byte >= 0x20);
                // A quote in a name is spelt with a backslash; here it stands for the end.
                if !whole {
                    bytes.retain(|&byte| byte != b'"');
                }
                bytes.sort_unstable();
                bytes.dedup();
            }
            (Some(_), escape::BACKSLASH) => bytes.extend(b"\"\\/bfnrtu"),
            (None, PLAIN) => {
                let (row, all) = self.rows(thread, free);
                bytes.extend((0x20..=0xff).filter(|&b| row[b] != all[b] && b != b'"' && b != b'\\'));
                if !self.accepts(thread) {
                    bytes.push(b'"');
                }
                let escaped = (0..0x20).chain([b'"', b'\\']).any(|b| row[b] != all[b]);
                if escaped || any {
                    bytes.push(b'\\');
                }
            }
            (None, escape::BACKSLASH) => {
                let (row, all) = self.rows(thread, free);
                let escapes = self.machine.escapes;
                bytes.extend(b"\"\\/bfnrtu".iter().filter(|&&byte| {
                    match escape::step(escape::BACKSLASH, byte, escapes) {
                        Spelt::Char(c) => row[c as u8] != all[c as u8],
                        Spelt::Open(_) => true,
                        Spelt::Bad => false,
                    }
                }));
            }
            _ => bytes.extend(b"0123456789abcdefABCDEF\\u"),
        }
        bytes
    }

    /// Where bytes lead in the languages of two strings or keys.
    fn rows(&self, one: Thread, two: Thread) -> (Row<'a>, Row<'a>) {
        let machine: &'a Machine = self.machine;
        let row = |thread: Thread| match thread.frame.content() {
            Some((state, _)) => machine.expansion.lang_row(state),
            None => Row::DEAD,
        };
        (row(one), row(two))
    }

    /// The content of a string or key is a word of its language.
    fn accepts(&self, thread: Thread) -> bool {
        thread.frame.content().is_some_and(|(state, _)| self.machine.expansion.lang_accepts(state))
    }

    /// The same string or key over every text.
    pub(super) fn twin(&mut self, thread: Thread) -> Thread {
        let frame = match thread.frame {
            Frame::AnyKey { read, names } => Frame::OtherKey(self.machine.diverged(read, names, &[])),
            other => other,
        };
        thread.at(frame.with_state(UNIVERSAL))
    }

    /// How a string or key relates to one over every text.
    pub(super) fn freedom(&mut self, thread: Thread) -> Freedom {
        match thread.frame {
            Frame::String(place) if place.open == PLAIN => self.state_freedom(place.state),
            Frame::OtherKey(place) if place.open == PLAIN => self.state_freedom(place.state),
            // Within a character only its rest may follow.
            Frame::AnyKey { read, names }
                if names.open == PLAIN && self.machine.diverged(read, names, &[]).state == UNIVERSAL =>
            {
                Freedom::Nearly
            }
            _ => Freedom::None,
        }
    }

    fn state_freedom(&mut self, state: StateId) -> Freedom {
        if state == UNIVERSAL {
            return Freedom::Free;
        }
        let row = self.machine.expansion.lang_row(state);
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
}
