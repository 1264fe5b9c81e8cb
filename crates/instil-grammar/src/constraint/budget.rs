//! How many tokens a text needs to its end.
//!
//! From every thread one fixed way leads to the end, its *completion*: what is required and nothing
//! else, the shortest values, runs of a filler in strings that need characters. Each step of it depends on the
//! frame alone, so what is left of a completion is the completion of what is left. The bound D is the
//! fewest tokens that spell the completion, tokens that straddle frames included; hence from every
//! configuration the first of those tokens leads to one whose D is lower by one.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::Whitespace;
use super::escape::{self, Escapes, PLAIN, Step};
use super::frame::{BOTTOM, Frame, Kind, StackId, Thread};
use super::least::ENDLESS;
use super::rules::{First, NO_GUARDS, other};
use super::step::{DEEPEST, LITERALS, Machine};
use super::tables::Tables;
use super::trie::{NONE, ROOT};
use crate::grammar::{DEAD, NodeId, StateId, UNIVERSAL};

/// Longest completion of one frame, in bytes.
const LONGEST_COMPLETION: usize = 1 << 22;
/// The same, over a language, where each byte may take a state of its own.
const LONGEST_SPELT: u32 = 1 << 15;

/// Bounds known so far.
#[derive(Debug, Default)]
pub(crate) struct Costs {
    tails: FxHashMap<StackId, Tails>,
    threads: FxHashMap<Thread, u32>,
    /// By string bounds and stack: tokens needed inside a free string that still lacks so many characters.
    fillers: FxHashMap<(u32, StackId), Arc<[u32]>>,
    /// Memory of tails and fillers, roughly.
    bytes: usize,
}

/// The beginning of the completion of a stack, with the tokens needed from each byte on.
#[derive(Debug, PartialEq, Eq)]
struct Tail {
    text: Vec<u8>,
    tokens: Vec<u32>,
}

/// Those of a stack: one, but where stacks are united.
type Tails = Arc<[Arc<Tail>]>;

/// Tails that are kept of a union.
const MOST_TAILS: usize = 16;

impl Tail {
    /// The tail with a text before it, itself cut to what a token can reach.
    fn after(&self, before: &[u8], slack: Option<u32>, tables: &Tables) -> Self {
        let mut tokens = if slack.is_some() { cover(tables, before, self) } else { vec![ENDLESS; before.len()] };
        let mut text = before.to_vec();
        text.extend_from_slice(&self.text);
        tokens.extend_from_slice(&self.tokens);
        for tokens in &mut tokens {
            *tokens = tokens.saturating_add(slack.unwrap_or(ENDLESS)).min(ENDLESS);
        }
        let keep = text.len().min(tables.longest as usize);
        text.truncate(keep);
        tokens.truncate(keep + 1);
        Self { text, tokens }
    }
}

impl Costs {
    /// Memory held, roughly.
    pub(crate) fn size_bytes(&self) -> usize {
        self.bytes + 40 * self.tails.len() + 48 * self.threads.len()
    }

    /// The bound of a thread.
    pub(crate) fn thread(&mut self, machine: &mut Machine, tables: &Tables, mut thread: Thread) -> u32 {
        thread.frame.conditional = false;
        let frame = thread.frame;
        if frame.kind == Kind::String && frame.d == PLAIN && frame.b == UNIVERSAL {
            let missing = machine.rules.strings[frame.a as usize].min_chars.saturating_sub(frame.c);
            return self.fillers(machine, tables, thread)[missing as usize];
        }
        if let Some(&known) = self.threads.get(&thread) {
            return known;
        }
        let mut text = Vec::new();
        let base = base(machine, thread);
        let tokens = match Self::complete(machine, tables, thread, &mut text) {
            Some(slack) => {
                let tails = self.tails(machine, tables, base);
                let tokens = |tail: &Arc<Tail>| cover(tables, &text, tail).first().copied().unwrap_or(tail.tokens[0]);
                tails.iter().map(tokens).min().unwrap_or(ENDLESS).saturating_add(slack).min(ENDLESS)
            }
            None => ENDLESS,
        };
        self.threads.insert(thread, tokens);
        tokens
    }

    /// The bounds of a free string by the characters that it lacks.
    pub(crate) fn fillers(&mut self, machine: &mut Machine, tables: &Tables, thread: Thread) -> Arc<[u32]> {
        let at = (thread.frame.a, thread.stack);
        if let Some(known) = self.fillers.get(&at) {
            return known.clone();
        }
        let missing = machine.rules.strings[at.0 as usize].min_chars as usize;
        let mut text = vec![tables.filler.0; missing];
        text.push(b'"');
        let mut least = vec![ENDLESS; missing + 1];
        for tail in self.tails(machine, tables, at.1).iter() {
            let tokens = cover(tables, &text, tail);
            // With nothing lacking the quote alone is left.
            least.iter_mut().zip(tokens.iter().rev()).for_each(|(least, tokens)| *least = (*least).min(*tokens));
        }
        let least: Arc<[u32]> = least.into();
        self.bytes += 32 + size_of_val(&*least);
        self.fillers.insert(at, least.clone());
        least
    }

    /// The completions of a stack.
    fn tails(&mut self, machine: &mut Machine, tables: &Tables, stack: StackId) -> Tails {
        let mut open = Vec::new();
        let mut at = stack;
        while at != BOTTOM && !self.tails.contains_key(&at) && machine.stacks.members(at).is_none() {
            open.push(at);
            at = machine.stacks.pop(at).1;
        }
        let mut tails: Tails = match (self.tails.get(&at), machine.stacks.members(at)) {
            (Some(tails), _) => tails.clone(),
            (None, Some(members)) => {
                let mut tails: Vec<Arc<Tail>> = Vec::new();
                for &member in members.iter() {
                    for tail in self.tails(machine, tables, member).iter() {
                        if !tails.contains(tail) {
                            tails.push(tail.clone());
                        }
                    }
                }
                tails.sort_by_key(|tail| tail.tokens[0]);
                tails.truncate(MOST_TAILS);
                let tails: Tails = tails.into();
                self.tails.insert(at, tails.clone());
                tails
            }
            (None, None) => [Arc::new(Tail { text: Vec::new(), tokens: vec![0] })].into(),
        };
        for stack in open.into_iter().rev() {
            let (frame, parent) = machine.stacks.pop(stack);
            if frame.kind != Kind::Guard {
                let mut text = Vec::new();
                let slack = Self::complete(machine, tables, Thread { frame, stack: parent }, &mut text);
                let mut longer: Vec<Arc<Tail>> = Vec::with_capacity(tails.len());
                for tail in tails.iter() {
                    let tail = Arc::new(tail.after(&text, slack, tables));
                    if !longer.contains(&tail) {
                        self.bytes += 96 + tail.text.len() + 4 * tail.tokens.len();
                        longer.push(tail);
                    }
                }
                tails = longer.into();
            }
            self.tails.insert(stack, tails.clone());
        }
        tails
    }

    /// Writes the completion of a thread's own frame, up to where the frame below comes to the top. The number is
    /// what must be allowed for keys to differ from those before them, which only the session knows: a token to
    /// make one differ, and one to spare.
    fn complete(machine: &mut Machine, tables: &Tables, thread: Thread, out: &mut Vec<u8>) -> Option<u32> {
        let base = base(machine, thread);
        let mut slack = 0;
        let mut now = Some(thread);
        while let Some(thread) = now {
            if out.len() > LONGEST_COMPLETION {
                return None;
            }
            if thread.frame.kind == Kind::OtherKey {
                let (below, _) = machine.stacks.pop(thread.stack);
                slack += 2 * u32::from(machine.rules.state(below.a).has_others);
            }
            now = match Self::part(machine, tables, thread, out) {
                Part::Next(thread) => Some(thread),
                Part::Ended(stack) if stack == base => None,
                Part::Ended(stack) => {
                    let (mut frame, mut parent) = machine.stacks.pop(stack);
                    while frame.kind == Kind::Guard && parent != base {
                        (frame, parent) = machine.stacks.pop(parent);
                    }
                    (frame.kind != Kind::Guard).then_some(Thread { frame, stack: parent })
                }
                Part::Stuck => return None,
            };
        }
        Some(slack)
    }

    /// The next piece of a completion.
    fn part(machine: &mut Machine, tables: &Tables, thread: Thread, out: &mut Vec<u8>) -> Part {
        let Thread { frame, stack } = thread;
        let next = |frame| Part::Next(Thread { frame, stack });
        match frame.kind {
            Kind::Done => Part::Ended(stack),
            Kind::Value => Self::least_value(machine, frame.a, stack, out),
            Kind::Literal => {
                out.extend_from_slice(&LITERALS[frame.a as usize][frame.pos as usize..]);
                Part::Ended(stack)
            }
            Kind::Number => {
                if least_bytes(machine, frame.a, out) {
                    Part::Ended(stack)
                } else {
                    Part::Stuck
                }
            }
            Kind::String | Kind::OtherKey => least_string(machine, tables, thread, out),
            Kind::Text => {
                let bounds = &machine.rules.strings[frame.a as usize];
                let missing = bounds.min_chars.saturating_sub(frame.c);
                let before = out.len();
                if missing > 0 {
                    // The front end leaves bounds beside a language only where every character is free.
                    let mut state = frame.b;
                    for _ in 0..missing {
                        let filler = tables.filler.0;
                        state = machine.expansion.lang_next(state, filler);
                        out.push(filler);
                    }
                    if state == DEAD {
                        out.truncate(before);
                        return Part::Stuck;
                    }
                    return if least_bytes(machine, state, out) { Part::Ended(stack) } else { Part::Stuck };
                }
                if least_bytes(machine, frame.b, out) { Part::Ended(stack) } else { Part::Stuck }
            }
            Kind::ObjectOpen if machine.rules.state(frame.a).closable && frame.pos == 0 => {
                out.push(b'}');
                Part::Ended(stack)
            }
            Kind::ObjectOpen | Kind::ObjectComma => {
                let mut open = Vec::new();
                machine.blank_before_element(frame, stack, out);
                out.push(b'"');
                machine.open_key(Thread { frame, stack }, &mut open);
                let state = machine.rules.state(frame.a);
                let (named, nearest) = (state.members_first, state.nearest_other);
                let fallback = open.first().copied();
                open.into_iter()
                    .find(|thread| match thread.frame.kind {
                        Kind::OtherKey => !named && thread.frame.a == nearest,
                        _ => named,
                    })
                    .or(fallback)
                    .map_or(Part::Stuck, Part::Next)
            }
            Kind::AnyKey if machine.least_member(frame).is_none() => {
                // Away from all names: as many fillers as it takes.
                let mut now = frame;
                if now.d != PLAIN {
                    out.push(b'n');
                    let mut after = Vec::new();
                    machine.any_key(thread, b'n', &mut after, &mut super::step::Assume);
                    match after.first() {
                        Some(thread) if thread.frame.kind == Kind::OtherKey => return Part::Next(*thread),
                        Some(thread) => now = thread.frame,
                        None => return Part::Stuck,
                    }
                }
                let names = machine.rules.object_of(now.a).names[now.b as usize].clone();
                if names.len() != now.pos as usize {
                    return Part::Next(Thread { frame: machine.diverged(now, &[]), stack });
                }
                out.push(tables.filler.0);
                let mut after = Vec::new();
                machine.any_key(Thread { frame: now, stack }, tables.filler.0, &mut after, &mut super::step::Assume);
                after.first().map_or(Part::Stuck, |&thread| Part::Next(thread))
            }
            Kind::MemberKey | Kind::AnyKey => {
                let Some(member) = machine.least_member(frame) else { return Part::Stuck };
                let name = machine.rules.object_of(frame.a).names[member as usize].clone();
                let Some(rest) = name.get(frame.pos as usize..) else { return Part::Stuck };
                if !write_rest(rest, frame.d, machine.escapes, out) {
                    return Part::Stuck;
                }
                out.push(b'"');
                let node = machine.rules.object_of(frame.a).nodes[member as usize];
                let mut closed = Vec::new();
                machine.close_key(thread, frame.a, member, node, &mut closed);
                Part::Next(closed[0])
            }
            Kind::Colon => {
                let spaced = matches!(machine.whitespace, Whitespace::Spaced | Whitespace::Pretty);
                if frame.pos == 0 {
                    out.push(b':');
                }
                if spaced {
                    out.push(b' ');
                }
                next(frame.turn(Kind::Value))
            }
            Kind::ObjectAfter if machine.rules.state(frame.a).closable => next(frame.turn(Kind::ObjectClose)),
            Kind::ObjectAfter => {
                out.push(b',');
                next(frame.turn(Kind::ObjectComma))
            }
            Kind::ObjectClose => {
                machine.blank_before_close(frame, stack, out);
                out.push(b'}');
                Part::Ended(stack)
            }
            Kind::ArrayOpen if frame.pos == 0 && machine.array_closable(frame) => {
                out.push(b']');
                Part::Ended(stack)
            }
            Kind::ArrayOpen | Kind::ArrayComma => {
                machine.blank_before_element(frame, stack, out);
                let items = machine.items(frame);
                match items.first() {
                    Some(&(node, after)) => {
                        let stack = machine.stacks.push(after, stack);
                        Part::Next(Thread { frame: Frame::new(Kind::Value, node), stack })
                    }
                    None => Part::Stuck,
                }
            }
            Kind::ArrayAfter if machine.array_closable(frame) => next(frame.turn(Kind::ArrayClose)),
            Kind::ArrayAfter => {
                out.push(b',');
                next(frame.turn(Kind::ArrayComma))
            }
            Kind::ArrayClose => {
                machine.blank_before_close(frame, stack, out);
                out.push(b']');
                Part::Ended(stack)
            }
            Kind::ObjectKey | Kind::Guard | Kind::Union => Part::Stuck,
        }
    }

    /// Begins the least value of a node.
    fn least_value(machine: &mut Machine, node: NodeId, stack: StackId, out: &mut Vec<u8>) -> Part {
        let Some(chosen) = machine.least_alternative(node) else { return Part::Stuck };
        let stack = match chosen.guards {
            NO_GUARDS => stack,
            guards => machine.stacks.push(Frame::new(Kind::Guard, guards), stack),
        };
        let frame = match chosen.first {
            First::Null | First::False | First::True => Frame::new(Kind::Literal, chosen.first as u32),
            First::Number => Frame::new(Kind::Number, chosen.index),
            First::String => {
                out.push(b'"');
                let start = machine.expansion.lang_start(machine.rules.strings[chosen.index as usize].lang);
                Frame { b: start, ..Frame::new(Kind::String, chosen.index) }
            }
            First::Array | First::Object if machine.stacks.depth(stack) >= DEEPEST => return Part::Stuck,
            First::Array => {
                out.push(b'[');
                Frame::new(Kind::ArrayOpen, chosen.index)
            }
            First::Object => {
                out.push(b'{');
                Frame::new(Kind::ObjectOpen, machine.rules.open(chosen.index))
            }
        };
        Part::Next(Thread { frame, stack })
    }
}

/// The stack that comes to the top when a thread's own frame has ended. A key ends within its object.
fn base(machine: &Machine, thread: Thread) -> StackId {
    match thread.frame.kind {
        Kind::MemberKey | Kind::OtherKey | Kind::AnyKey => machine.stacks.pop(thread.stack).1,
        _ => thread.stack,
    }
}

/// What a piece of a completion leads to.
enum Part {
    Next(Thread),
    /// The frame on this stack has ended.
    Ended(StackId),
    Stuck,
}

/// Writes the shortest way from a state of a language to a word, byte by byte.
fn least_bytes(machine: &mut Machine, mut state: StateId, out: &mut Vec<u8>) -> bool {
    let mut left = machine.expansion.lang_min_bytes(state);
    if left > LONGEST_SPELT {
        return false;
    }
    while left > 0 {
        let row = *machine.expansion.lang_row(state);
        let found = (0u8..=255).find(|&byte| {
            let next = row[byte as usize];
            next != DEAD && machine.expansion.lang_min_bytes(next) == left - 1
        });
        let Some(byte) = found else { return false };
        out.push(byte);
        state = row[byte as usize];
        left -= 1;
    }
    true
}

/// Writes the rest of a string (or key) and its closing quote.
fn least_string(machine: &mut Machine, tables: &Tables, thread: Thread, out: &mut Vec<u8>) -> Part {
    let Thread { frame, stack } = thread;
    let own = frame.kind == Kind::String;
    let missing = if own { machine.rules.strings[frame.a as usize].min_chars.saturating_sub(frame.c) } else { 0 };
    let filler = tables.filler.0;
    let mut state = frame.b;
    if frame.d != PLAIN {
        match least_escape(machine, state, frame.d, out) {
            Some(next) => state = next,
            None => return Part::Stuck,
        }
    }
    for _ in 0..missing {
        // Bounds beside a language mean that every character is free, but a character may be half read.
        let mut left = machine.expansion.lang_min_json_bytes(state);
        while left > 0 {
            let row = *machine.expansion.lang_row(state);
            let Some(byte) = (0x80..0xc0).find(|&byte: &u8| row[byte as usize] != DEAD) else { break };
            out.push(byte);
            state = row[byte as usize];
            left -= 1;
        }
        state = machine.expansion.lang_next(state, filler);
        out.push(filler);
    }
    if state == DEAD || out.len() > LONGEST_COMPLETION {
        return Part::Stuck;
    }
    loop {
        let left = machine.expansion.lang_min_json_bytes(state);
        if left == 0 {
            break;
        }
        if left > LONGEST_SPELT {
            return Part::Stuck;
        }
        let row = *machine.expansion.lang_row(state);
        let mut spelt = Vec::new();
        let found = std::iter::once(filler).chain(0u8..=255).find(|&byte| {
            let next = row[byte as usize];
            next != DEAD && {
                spelt.clear();
                escape::write_canonical(&[byte], &mut spelt);
                let rest = machine.expansion.lang_min_json_bytes(next);
                rest.saturating_add(u32::try_from(spelt.len()).unwrap_or(ENDLESS)) == left
            }
        });
        let Some(byte) = found else { return Part::Stuck };
        out.extend_from_slice(&spelt);
        state = row[byte as usize];
    }
    out.push(b'"');
    if own {
        return Part::Ended(stack);
    }
    let (below, _) = machine.stacks.pop(stack);
    let node = machine.rules.objects[frame.c as usize].other_node(frame.a);
    let mut closed = Vec::new();
    machine.close_key(thread, below.a, other(frame.a), node, &mut closed);
    Part::Next(closed[0])
}

/// Writes the rest of a half-read escape, so that what follows is shortest; the state after it.
fn least_escape(machine: &mut Machine, state: StateId, open: u32, out: &mut Vec<u8>) -> Option<StateId> {
    let row = *machine.expansion.lang_row(state);
    let mut best: Option<(u32, Vec<u8>, StateId)> = None;
    let free = machine.escapes == Escapes::Canonical && state == UNIVERSAL;
    for byte in b"\"\\\n\t".iter().copied().chain(0..0x20).chain(b'a'..=b'z') {
        let next = row[byte as usize];
        if next == DEAD || free && !matches!(byte, b'"' | b'\\' | b'\n' | b'\t') {
            continue;
        }
        for rest in rests(byte, open, machine.escapes) {
            let total = machine.expansion.lang_min_json_bytes(next).saturating_add(u32::try_from(rest.len()).ok()?);
            if best.as_ref().is_none_or(|(least, _, _)| total < *least) {
                best = Some((total, rest, next));
            }
        }
    }
    if best.is_none() && machine.escapes == Escapes::Any {
        // Some digits of a code point are fixed already: any end that the language takes.
        best = any_escape(machine, state, open, &mut Vec::new());
    }
    let (_, rest, next) = best?;
    out.extend_from_slice(&rest);
    Some(next)
}

/// A rest of an escape in any of JSON's spellings, first found.
fn any_escape(
    machine: &mut Machine,
    state: StateId,
    open: u32,
    spelt: &mut Vec<u8>,
) -> Option<(u32, Vec<u8>, StateId)> {
    for &byte in b"0123456789abcdef\\u" {
        spelt.push(byte);
        match escape::step(open, byte, machine.escapes) {
            Step::Bad => {}
            Step::Open(next) => {
                if let Some(found) = any_escape(machine, state, next, spelt) {
                    return Some(found);
                }
            }
            Step::Char(c) => {
                let mut next = state;
                for &byte in c.encode_utf8(&mut [0; 4]).as_bytes() {
                    next = machine.expansion.lang_next(next, byte);
                }
                if next != DEAD {
                    return Some((0, spelt.clone(), next));
                }
            }
        }
        spelt.pop();
    }
    None
}

/// What is left of the spellings of a character that pass through an open escape.
fn rests(byte: u8, open: u32, escapes: Escapes) -> Vec<Vec<u8>> {
    let mut spellings = vec![Vec::new()];
    escape::write_canonical(&[byte], &mut spellings[0]);
    if escapes == Escapes::Any {
        spellings.push(format!("\\u{byte:04x}").into_bytes());
    }
    spellings.iter().filter_map(|spelling| escape::rest_of(spelling, open, escapes)).map(<[u8]>::to_vec).collect()
}

/// Writes the rest of a name, its first character's escape being half read already.
fn write_rest(rest: &[u8], open: u32, escapes: Escapes, out: &mut Vec<u8>) -> bool {
    if open == PLAIN {
        escape::write_canonical(rest, out);
        return true;
    }
    let Some(c) = std::str::from_utf8(rest).ok().and_then(|rest| rest.chars().next()) else { return false };
    let mut spellings = vec![Vec::new()];
    escape::write_canonical(c.to_string().as_bytes(), &mut spellings[0]);
    if escapes == Escapes::Any {
        let mut units = String::new();
        for unit in c.encode_utf16(&mut [0; 2]) {
            units.push_str(&format!("\\u{unit:04x}"));
        }
        spellings.push(units.into_bytes());
    }
    let found = spellings.iter().find_map(|spelling| escape::rest_of(spelling, open, escapes));
    if let Some(spelt) = found {
        out.extend_from_slice(spelt);
        escape::write_canonical(&rest[c.len_utf8()..], out);
    }
    found.is_some()
}

/// Fewest tokens from each byte of `text`, which `tail` follows.
fn cover(tables: &Tables, text: &[u8], tail: &Tail) -> Vec<u32> {
    let mut tokens = vec![ENDLESS; text.len()];
    for start in (0..text.len()).rev() {
        let mut node = ROOT;
        let mut best = ENDLESS;
        for (end, &byte) in (start + 1..).zip(text[start..].iter().chain(&tail.text)) {
            node = tables.trie.child(node, byte);
            if node == NONE {
                break;
            }
            if tables.trie.node(node).value != NONE {
                let rest = if end < text.len() { tokens[end] } else { tail.tokens[end - text.len()] };
                best = best.min(rest.saturating_add(1));
            }
        }
        tokens[start] = best.min(ENDLESS);
    }
    tokens
}
