//! In an object's key: one of the members' names, a key over a language, or what may still be either.

use super::least::LeastBytes;
use super::{Bytes, Check, Checks, Machine, Piece, Verdict};
use crate::constraint::escape::{self, Escapes, PLAIN, Spelt};
use crate::constraint::frame::{Frame, NamePlace, ObjectId, OtherPlace, Thread};
use crate::constraint::rules::{REST, other};
use crate::grammar::{DEAD, NodeId, UNIVERSAL};

/// Of members any of which will do, so many are looked at.
const MOST_CANDIDATES: usize = 16;
/// Of more names than this there is no hint.
const MOST_HINTED: usize = 64;

impl Machine {
    /// Appends the keys that may follow an opening quote.
    pub(super) fn open_key(&self, thread: Thread, object: ObjectId, out: &mut Vec<Thread>) {
        let below = self.push(Frame::ObjectKey { object }, thread.stack);
        let mut open = |frame| out.push(Thread { stack: below, ..thread.at(frame) });
        let state = self.rules.state(object);
        let (at, members, others) = (state.object, state.members, state.others);
        let rules = self.rules.object(at);
        let high = u32::try_from(rules.names.len()).unwrap_or(u32::MAX);
        let names = NamePlace { object, low: 0, high, open: PLAIN };
        let over = |which, state| Frame::OtherKey(OtherPlace { which, state, rules: at, open: PLAIN });
        if others && rules.rest.is_some() {
            open(if high == 0 { over(REST, UNIVERSAL) } else { Frame::AnyKey { read: 0, names } });
            return;
        }
        if members {
            open(Frame::MemberKey { read: 0, names });
        }
        if others {
            for (which, &(lang, _)) in (0..).zip(&rules.others) {
                let start = self.expansion.lang_start(lang);
                if start != DEAD && self.rules.state(object).other_allowed(which) {
                    open(over(which, start));
                }
            }
        }
    }

    pub(super) fn member_key(&self, thread: Thread, read: u16, names: NamePlace, byte: u8, out: &mut Vec<Thread>) {
        let next = if names.open == PLAIN {
            match byte {
                b'"' => {
                    self.close_name(thread, read, names, out);
                    return;
                }
                b'\\' => {
                    let escapable = self.escapes == Escapes::Any
                        || (0..0x20).chain([b'"', b'\\']).any(|c| self.narrow(read, names, &[c]).is_some());
                    escapable.then_some((read, NamePlace { open: escape::BACKSLASH, ..names }))
                }
                0..0x20 => None,
                _ => self.narrow(read, names, &[byte]),
            }
        } else {
            match escape::step(names.open, byte, self.escapes) {
                Spelt::Bad => None,
                Spelt::Open(open) => Some((read, NamePlace { open, ..names })),
                Spelt::Char(c) => {
                    let names = NamePlace { open: PLAIN, ..names };
                    self.narrow(read, names, c.encode_utf8(&mut [0; 4]).as_bytes())
                }
            }
        };
        if let Some((read, names)) = next {
            out.push(thread.at(Frame::MemberKey { read, names }));
        }
    }

    /// After the closing quote of a member's name, where it is whole and the member may come.
    fn close_name(&self, thread: Thread, read: u16, names: NamePlace, out: &mut Vec<Thread>) {
        let member = names.low;
        if self.is_whole_name(read, names) && self.rules.state(names.object).any_allowed(member, member + 1) {
            let node = self.rules.object_of(names.object).node(member);
            out.push(self.close_key(thread, names.object, member, node));
        }
    }

    /// The names that go on with these bytes, when one of them may follow.
    fn narrow(&self, read: u16, names: NamePlace, bytes: &[u8]) -> Option<(u16, NamePlace)> {
        let (read, names) = self.narrow_all(read, names, bytes)?;
        self.rules.state(names.object).any_allowed(names.low, names.high).then_some((read, names))
    }

    /// The names that go on with these bytes, if any.
    fn narrow_all(&self, mut read: u16, mut place: NamePlace, bytes: &[u8]) -> Option<(u16, NamePlace)> {
        let names = &self.rules.object_of(place.object).names;
        for &byte in bytes {
            let at = usize::from(read);
            let range = &names[place.low as usize..place.high as usize];
            if let [name] = range {
                if name.get(at) != Some(&byte) {
                    return None;
                }
            } else {
                let low = range.partition_point(|name| name.get(at).is_none_or(|&b| b < byte));
                let high = low + range[low..].partition_point(|name| name.get(at) == Some(&byte));
                place.high = place.low + u32::try_from(high).ok()?;
                place.low += u32::try_from(low).ok()?;
            }
            read = read.checked_add(1)?;
        }
        (place.low < place.high).then_some((read, place))
    }

    /// What has been read is the whole of the first name in the range.
    pub(crate) fn is_whole_name(&self, read: u16, names: NamePlace) -> bool {
        self.rules.object_of(names.object).names[names.low as usize].len() == usize::from(read)
    }

    pub(super) fn any_key(
        &self,
        thread: Thread,
        read: u16,
        names: NamePlace,
        byte: u8,
        out: &mut Vec<Thread>,
        checks: &mut dyn Checks,
    ) {
        let mut spelt = [0; 4];
        let (bytes, names): (&[u8], NamePlace) = if names.open == PLAIN {
            match byte {
                b'"' => {
                    if self.is_whole_name(read, names) {
                        self.close_name(thread, read, names, out);
                    } else {
                        let place = self.diverged(read, names, &[]);
                        self.other_key(thread.at(Frame::OtherKey(place)), place, byte, out, checks);
                    }
                    return;
                }
                b'\\' => {
                    // Not within a character: the bytes read end one.
                    if self.diverged(read, names, &[]).state == UNIVERSAL {
                        let names = NamePlace { open: escape::BACKSLASH, ..names };
                        out.push(thread.at(Frame::AnyKey { read, names }));
                    }
                    return;
                }
                0..0x20 => return,
                _ => (&[byte], names),
            }
        } else {
            match escape::step(names.open, byte, self.escapes) {
                Spelt::Bad => return,
                Spelt::Open(open) => {
                    // Canonical hexadecimal escapes are for controls, which free keys do not hold.
                    if self.escapes == Escapes::Any || self.controls_ahead(read, names, open) {
                        out.push(thread.at(Frame::AnyKey { read, names: NamePlace { open, ..names } }));
                    }
                    return;
                }
                Spelt::Char(c) => {
                    let names = NamePlace { open: PLAIN, ..names };
                    let bytes = c.encode_utf8(&mut spelt).as_bytes();
                    let usual = matches!(c, '"' | '\\' | '\n' | '\t') || self.escapes == Escapes::Any;
                    if !usual && self.narrow(read, names, bytes).is_none() {
                        return;
                    }
                    (bytes, names)
                }
            }
        };
        if let Some((read, names)) = self.narrow_all(read, names, bytes) {
            out.push(thread.at(Frame::AnyKey { read, names }));
            return;
        }
        let place = self.diverged(read, names, bytes);
        if place.state != DEAD {
            out.push(thread.at(Frame::OtherKey(place)));
        }
    }

    /// Some name that may follow goes on with a control character spelt by these open digits.
    fn controls_ahead(&self, read: u16, names: NamePlace, open: u32) -> bool {
        let plain = NamePlace { open: PLAIN, ..names };
        (0..0x20u8).any(|byte| self.narrow(read, plain, &[byte]).is_some() && escape::is_control_ahead(byte, open))
    }

    /// The key as one that is no name, after the bytes that a name shares and some more.
    pub(crate) fn diverged(&self, read: u16, names: NamePlace, bytes: &[u8]) -> OtherPlace {
        let name = &self.rules.object_of(names.object).names[names.low as usize];
        let shared = &name[..usize::from(read).min(name.len())];
        // The bytes since the last character that is whole.
        let start = shared.iter().rposition(|&byte| byte & 0xc0 != 0x80).unwrap_or(0);
        let tail: [u8; 4] = std::array::from_fn(|at| shared.get(start + at).copied().unwrap_or(0));
        let len = (shared.len() - start).min(4);
        let mut state = UNIVERSAL;
        for &byte in tail[..len].iter().chain(bytes) {
            state = self.expansion.lang_next(state, byte);
        }
        OtherPlace { which: REST, state, rules: self.rules.state(names.object).object, open: names.open }
    }

    pub(super) fn other_key(
        &self,
        mut thread: Thread,
        place: OtherPlace,
        byte: u8,
        out: &mut Vec<Thread>,
        checks: &mut dyn Checks,
    ) {
        if place.open == PLAIN && byte == b'"' {
            if !self.expansion.lang_accepts(place.state) {
                return;
            }
            let object = self.object_below(thread.stack);
            if self.rules.state(object).has_others {
                match checks.value(false, Check::UniqueKey, &self.expansion) {
                    Verdict::Yes => {}
                    Verdict::No => return,
                    Verdict::Depends => thread.conditional = true,
                }
            }
            out.push(self.close_other(thread, object, place));
        } else if let Some((state, open)) = self.content(place.state, place.open, byte) {
            out.push(thread.at(Frame::OtherKey(OtherPlace { state, open, ..place })));
        }
    }

    /// After the closing quote of a key that is no member's name.
    fn close_other(&self, thread: Thread, object: ObjectId, place: OtherPlace) -> Thread {
        let node = self.rules.object(place.rules).other_node(place.which);
        self.close_key(thread, object, other(place.which), node)
    }

    /// After the closing quote of a key, whose value is of a node.
    fn close_key(&self, thread: Thread, object: ObjectId, member: u32, node: NodeId) -> Thread {
        let (_, below) = self.stacks.pop(thread.stack);
        let object = self.rules.with_member(object, member);
        let stack = self.push(Frame::ObjectAfter { object }, below);
        Thread { stack, ..thread.at(Frame::Colon { colon: false, node }) }
    }

    pub(super) fn hint_member_key(&self, read: u16, names: NamePlace, bytes: &mut Bytes) -> bool {
        if names.open != PLAIN || names.high - names.low > MOST_HINTED as u32 {
            return false;
        }
        bytes.add_all(b"\"\\");
        self.next_in_names(read, names).for_each(|byte| bytes.add(byte));
        true
    }

    /// The bytes with which names that match go on.
    pub(crate) fn next_in_names(&self, read: u16, names: NamePlace) -> impl Iterator<Item = u8> {
        let range = &self.rules.object_of(names.object).names[names.low as usize..names.high as usize];
        range.iter().filter_map(move |name| name.get(usize::from(read)).copied())
    }

    pub(super) fn complete_member_key(&self, thread: Thread, read: u16, names: NamePlace, out: &mut Vec<u8>) -> Piece {
        match self.least_member(names) {
            Some(member) => self.complete_name(thread, read, names, member, out),
            None => Piece::Stuck,
        }
    }

    pub(super) fn complete_any_key(
        &self,
        thread: Thread,
        read: u16,
        names: NamePlace,
        filler: u8,
        out: &mut Vec<u8>,
    ) -> Piece {
        if let Some(member) = self.least_member(names) {
            return self.complete_name(thread, read, names, member, out);
        }
        // Away from all names: as many fillers as it takes.
        let (read, names) = if names.open == PLAIN {
            (read, names)
        } else {
            match self.after_byte(thread, b'n', out) {
                Some(Thread { frame: Frame::AnyKey { read, names }, .. }) => (read, names),
                Some(thread) if matches!(thread.frame, Frame::OtherKey(_)) => return Piece::Next(thread),
                _ => return Piece::Stuck,
            }
        };
        if !self.is_whole_name(read, names) {
            let place = self.diverged(read, names, &[]);
            return Piece::Next(thread.at(Frame::OtherKey(place)));
        }
        self.after_byte(thread.at(Frame::AnyKey { read, names }), filler, out).map_or(Piece::Stuck, Piece::Next)
    }

    /// Writes a byte, and gives the thread after it.
    fn after_byte(&self, thread: Thread, byte: u8, out: &mut Vec<u8>) -> Option<Thread> {
        out.push(byte);
        let mut after = Vec::new();
        self.step(thread, byte, &mut after, &mut super::Assume);
        after.first().copied()
    }

    /// Writes the rest of a member's name, and its closing quote.
    fn complete_name(&self, thread: Thread, read: u16, names: NamePlace, member: u32, out: &mut Vec<u8>) -> Piece {
        let rules = self.rules.object_of(names.object);
        let node = rules.node(member);
        let Some(rest) = rules.names[member as usize].get(usize::from(read)..) else { return Piece::Stuck };
        if !write_rest(rest, names.open, self.escapes, out) {
            return Piece::Stuck;
        }
        out.push(b'"');
        Piece::Next(self.close_key(thread, names.object, member, node))
    }

    pub(super) fn complete_other_key(&self, thread: Thread, place: OtherPlace, filler: u8, out: &mut Vec<u8>) -> Piece {
        if !self.close_content(place.state, place.open, 0, filler, out) {
            return Piece::Stuck;
        }
        let object = self.object_below(thread.stack);
        Piece::Next(self.close_other(thread, object, place))
    }

    /// The members that a completion may take among the names that still match a key: the one that the object needs
    /// next, where it is one of them, else those that may follow.
    pub(super) fn candidates(&self, names: NamePlace) -> Vec<u32> {
        let state = self.rules.state(names.object);
        if let Some(member) = self.rules.next_required(names.object)
            && (names.low..names.high).contains(&member)
            && state.any_allowed(member, member + 1)
        {
            return vec![member];
        }
        (names.low..names.high).filter(|&member| state.any_allowed(member, member + 1)).take(MOST_CANDIDATES).collect()
    }

    /// The one of some members whose least value is shortest, as far as is known.
    pub(super) fn least_of(&self, names: NamePlace, candidates: &[u32], known: &LeastBytes) -> Option<u32> {
        let object = self.rules.object_of(names.object);
        candidates.iter().copied().min_by_key(|&member| known.of(object.node(member)))
    }

    /// The member that a completion takes among the names that still match a key.
    fn least_member(&self, names: NamePlace) -> Option<u32> {
        let candidates = self.candidates(names);
        if candidates.len() < 2 {
            return candidates.first().copied();
        }
        let object = self.rules.object_of(names.object);
        let nodes: Vec<NodeId> = candidates.iter().map(|&member| object.node(member)).collect();
        self.least_of(names, &candidates, &self.settled(&nodes))
    }

    /// Of the keys that may be opened from a place, those from `low` on in `keys`, keeps the one that a completion takes.
    pub(super) fn keep_least_key(&self, object: ObjectId, keys: &mut Vec<Thread>, low: usize) {
        let rules = self.rules.state(object);
        let (members_first, nearest_other) = (rules.members_first, rules.nearest_other);
        let opened = keys.split_off(low);
        keys.extend(opened.into_iter().find_map(|thread| match thread.frame {
            Frame::OtherKey(place) => (!members_first && place.which == nearest_other).then_some(thread),
            Frame::AnyKey { read, names } | Frame::MemberKey { read, names } if members_first => {
                let member = self.least_member(names)?;
                let names = NamePlace { low: member, high: member + 1, ..names };
                Some(thread.at(Frame::MemberKey { read, names }))
            }
            Frame::AnyKey { .. } => Some(thread),
            _ => None,
        }));
    }
}

/// Writes the rest of a name, its first character's escape being half read already.
fn write_rest(rest: &[u8], open: u32, escapes: Escapes, out: &mut Vec<u8>) -> bool {
    if open == PLAIN {
        escape::write_canonical(rest, out);
        return true;
    }
    let Some(c) = std::str::from_utf8(rest).ok().and_then(|rest| rest.chars().next()) else { return false };
    let Some(spelt) = escape::rests(c, open, escapes).into_iter().next() else { return false };
    out.extend_from_slice(&spelt);
    escape::write_canonical(&rest[c.len_utf8()..], out);
    true
}
