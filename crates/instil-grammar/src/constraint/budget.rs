//! How many tokens a text needs to its end.
//!
//! From every thread one fixed way leads to the end, its *completion*: what is required and nothing
//! else, the shortest values, runs of a filler in strings that need characters. Each step of it depends on the
//! frame alone, so what is left of a completion is the completion of what is left. The bound D is the
//! fewest tokens that spell the completion, tokens that straddle frames included; hence from every
//! configuration the first of those tokens leads to one whose D is lower by one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::escape::PLAIN;
use super::frame::{BOTTOM, Frame, StackId, StringPlace, Thread};
use super::shared::Map;
use super::step::{ENDLESS, LONGEST_COMPLETION, Machine, Piece};
use super::tables::Tables;
use super::trie::{NONE, ROOT};
use crate::grammar::UNIVERSAL;

/// Bounds known so far.
#[derive(Debug, Default)]
pub(crate) struct Costs {
    tails: Map<StackId, Tails>,
    /// Of some threads that stand after a member of a long value.
    members: Map<Thread, Tails>,
    threads: Map<Thread, u32>,
    /// By string bounds and stack: tokens needed inside a free string that still lacks so many characters.
    fillers: Map<(u32, StackId), Arc<[u32]>>,
    /// Memory of tails and fillers, roughly.
    bytes: AtomicUsize,
}

/// The beginning of the completion of a stack, with the tokens needed from each byte on.
#[derive(Debug)]
struct Tail {
    text: Vec<u8>,
    tokens: Vec<u32>,
    /// Where the first key begins that must differ from those before it.
    key: Option<usize>,
    /// Length of the whole completion.
    bytes: usize,
}

/// A piece of a completion: up to where the frame that it completes has ended, or stands after another member.
struct Segment {
    text: Vec<u8>,
    /// What must be allowed for keys to differ from those before them, which only the session knows: a token to make
    /// one differ, and one to spare. `None` if the piece has no end.
    slack: Option<u32>,
    /// Where such keys begin. No token of the completion reaches across: it might be the only one on the way that
    /// closes the key in time, and ruled out because the key has been there before.
    keys: Vec<usize>,
    /// Where the next piece begins.
    next: Option<Thread>,
}

/// Those of a stack: one, but where stacks are united.
type Tails = Arc<[Arc<Tail>]>;

/// Tails that are kept of a union.
const MOST_TAILS: usize = 16;
/// Members of a long value from one whose tails are kept to the next.
const MEMBERS_APART: usize = 8;

impl Tail {
    /// The tail with a piece before it, itself cut to what a token can reach.
    fn after(&self, piece: &Segment, tables: &Tables) -> Self {
        let bytes = self.bytes.saturating_add(piece.text.len());
        let slack = piece.slack.filter(|_| bytes <= LONGEST_COMPLETION);
        let mut tokens = if slack.is_some() { cover(tables, piece, self) } else { vec![ENDLESS; piece.text.len()] };
        let mut text = piece.text.clone();
        text.extend_from_slice(&self.text);
        tokens.extend_from_slice(&self.tokens);
        for tokens in &mut tokens {
            *tokens = tokens.saturating_add(slack.unwrap_or(ENDLESS)).min(ENDLESS);
        }
        let keep = text.len().min(tables.longest as usize);
        text.truncate(keep);
        tokens.truncate(keep + 1);
        let below = self.key.map(|key| piece.text.len() + key);
        let key = piece.keys.first().copied().or(below).filter(|&key| key < keep);
        Self { text, tokens, key, bytes }
    }

    /// Whether the other one asks for the same tokens.
    fn equals(&self, other: &Self) -> bool {
        self.text == other.text && self.tokens == other.tokens && self.key == other.key
    }
}

impl Costs {
    /// Memory held, roughly.
    pub(crate) fn size_bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed) + 40 * (self.tails.len() + self.members.len()) + 48 * self.threads.len()
    }

    /// The bound of a thread.
    pub(crate) fn thread(&self, machine: &Machine, tables: &Tables, mut thread: Thread) -> u32 {
        thread.conditional = false;
        if let Frame::String(place @ StringPlace { state: UNIVERSAL, open: PLAIN, .. }) = thread.frame {
            let missing = machine.rules.bounds(place.bounds).min_chars.saturating_sub(place.chars);
            return self.fillers(machine, tables, place.bounds, thread.stack)[missing as usize];
        }
        if let Some(known) = self.threads.get(&thread) {
            return known;
        }
        let base = base(machine, thread);
        let first = piece(machine, tables, thread, base);
        let below = self.tails(machine, tables, base);
        let tails = self.rest(machine, tables, &first, base, below);
        let tokens = before(&first, &tails, tables).iter().map(|tail| tail.tokens[0]).min().unwrap_or(ENDLESS);
        self.threads.insert(thread, tokens)
    }

    /// The bounds of a free string by the characters that it lacks, given those that its length has.
    pub(crate) fn fillers(&self, machine: &Machine, tables: &Tables, bounds: u32, stack: StackId) -> Arc<[u32]> {
        let at = (bounds, stack);
        if let Some(known) = self.fillers.get(&at) {
            return known;
        }
        let missing = machine.rules.bounds(bounds).min_chars as usize;
        let mut text = vec![tables.filler.0; missing];
        text.push(b'"');
        let piece = Segment { text, slack: Some(0), keys: Vec::new(), next: None };
        let mut least = vec![ENDLESS; missing + 1];
        for tail in self.tails(machine, tables, at.1).iter() {
            let tokens = cover(tables, &piece, tail);
            // With nothing lacking the quote alone is left.
            least.iter_mut().zip(tokens.iter().rev()).for_each(|(least, tokens)| *least = (*least).min(*tokens));
        }
        let least: Arc<[u32]> = least.into();
        self.bytes.fetch_add(32 + size_of_val(&*least), Ordering::Relaxed);
        self.fillers.insert(at, least)
    }

    /// The completions of a stack.
    fn tails(&self, machine: &Machine, tables: &Tables, stack: StackId) -> Tails {
        let mut open = Vec::new();
        let mut at = stack;
        let mut known = self.tails.get(&at);
        while at != BOTTOM && known.is_none() && machine.stacks.members(at).is_none() {
            open.push(at);
            at = machine.stacks.pop(at).1;
            known = self.tails.get(&at);
        }
        let mut tails: Tails = match (known, machine.stacks.members(at)) {
            (Some(tails), _) => tails,
            (None, Some(members)) => {
                let mut tails: Vec<Arc<Tail>> = Vec::new();
                for &member in members.iter() {
                    for tail in self.tails(machine, tables, member).iter() {
                        if !tails.iter().any(|other| other.equals(tail)) {
                            tails.push(tail.clone());
                        }
                    }
                }
                tails.sort_by_key(|tail| tail.tokens[0]);
                tails.truncate(MOST_TAILS);
                self.tails.insert(at, tails.into())
            }
            (None, None) => [Arc::new(Tail { text: Vec::new(), tokens: vec![0], key: None, bytes: 0 })].into(),
        };
        for stack in open.into_iter().rev() {
            let (frame, parent) = machine.stacks.pop(stack);
            if !matches!(frame, Frame::Guard { .. }) {
                let thread = Thread::new(frame, parent);
                let base = base(machine, thread);
                let first = piece(machine, tables, thread, base);
                tails = before(&first, &self.rest(machine, tables, &first, base, tails), tables);
                self.count(&tails);
            }
            tails = self.tails.insert(stack, tails);
        }
        tails
    }

    /// What comes after the first piece of a completion, up to `base` and from there on `below`. Who comes to a later
    /// member of a long value finds what was kept at one of the members after it.
    fn rest(&self, machine: &Machine, tables: &Tables, first: &Segment, base: StackId, below: Tails) -> Tails {
        let mut pieces = Vec::new();
        let (mut next, mut bytes) = (first.next, first.text.len());
        let mut tails = below;
        while let Some(thread) = next {
            if let Some(known) = self.members.get(&thread) {
                tails = known;
                break;
            }
            let piece = piece(machine, tables, thread, base);
            bytes += piece.text.len();
            if bytes > LONGEST_COMPLETION {
                return [Arc::new(Tail { text: Vec::new(), tokens: vec![ENDLESS], key: None, bytes })].into();
            }
            next = piece.next;
            pieces.push((thread, piece));
        }
        for (at, (thread, piece)) in (1..).zip(pieces.iter().rev()) {
            tails = before(piece, &tails, tables);
            if at % MEMBERS_APART == 0 {
                self.count(&tails);
                tails = self.members.insert(*thread, tails);
            }
        }
        tails
    }

    /// Counts the memory of tails that are kept.
    fn count(&self, tails: &Tails) {
        let bytes: usize = tails.iter().map(|tail| 96 + tail.text.len() + 4 * tail.tokens.len()).sum();
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Tails with a piece before them.
fn before(piece: &Segment, tails: &Tails, tables: &Tables) -> Tails {
    let mut longer: Vec<Arc<Tail>> = Vec::with_capacity(tails.len());
    for tail in tails.iter() {
        let tail = Arc::new(tail.after(piece, tables));
        if !longer.iter().any(|other| other.equals(&tail)) {
            longer.push(tail);
        }
    }
    longer.into()
}

/// The first piece of a thread's completion, which ends at the stack `base`.
fn piece(machine: &Machine, tables: &Tables, thread: Thread, base: StackId) -> Segment {
    let (mut text, mut keys, mut slack) = (Vec::new(), Vec::new(), 0);
    let mut now = thread;
    let next = loop {
        if text.len() > LONGEST_COMPLETION {
            return Segment { text, slack: None, keys, next: None };
        }
        if matches!(now.frame, Frame::OtherKey(_)) && machine.is_among_other_keys(&now) {
            slack += 2;
            keys.push(text.len());
        }
        match machine.complete(now, tables.filler.0, &mut text) {
            Piece::Next(thread) => now = thread,
            Piece::Ended(stack) if stack == base => break None,
            Piece::Ended(stack) => {
                let (mut frame, mut parent) = machine.stacks.pop(stack);
                while matches!(frame, Frame::Guard { .. }) && parent != base {
                    (frame, parent) = machine.stacks.pop(parent);
                }
                break (!matches!(frame, Frame::Guard { .. })).then(|| Thread::new(frame, parent));
            }
            Piece::Stuck => return Segment { text, slack: None, keys, next: None },
        }
    };
    Segment { text, slack: Some(slack), keys, next }
}

/// The stack that comes to the top when a thread's own frame has ended. A key ends within its object.
fn base(machine: &Machine, thread: Thread) -> StackId {
    if thread.frame.is_key() { machine.stacks.pop(thread.stack).1 } else { thread.stack }
}

/// Fewest tokens from each byte of a piece, which `tail` follows.
fn cover(tables: &Tables, piece: &Segment, tail: &Tail) -> Vec<u32> {
    let text = &piece.text;
    let mut tokens = vec![ENDLESS; text.len()];
    let mut keys = piece.keys.iter().rev().peekable();
    // Where the next key begins, as seen from the byte at `start`.
    let mut key = tail.key.map(|key| text.len() + key);
    for start in (0..text.len()).rev() {
        while let Some(&at) = keys.next_if(|&&at| at > start) {
            key = Some(at);
        }
        let reach = key.map_or(usize::MAX, |key| key - start);
        let mut node = ROOT;
        let mut best = ENDLESS;
        for (end, &byte) in (start + 1..).zip(text[start..].iter().chain(&tail.text)).take(reach) {
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
