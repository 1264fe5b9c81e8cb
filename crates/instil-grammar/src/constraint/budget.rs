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
    threads: Map<Thread, u32>,
    /// By string bounds and stack: tokens needed inside a free string that still lacks so many characters.
    fillers: Map<(u32, StackId), Arc<[u32]>>,
    /// Memory of tails and fillers, roughly.
    bytes: AtomicUsize,
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
        self.bytes.load(Ordering::Relaxed) + 40 * self.tails.len() + 48 * self.threads.len()
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
        let mut least = vec![ENDLESS; missing + 1];
        for tail in self.tails(machine, tables, at.1).iter() {
            let tokens = cover(tables, &text, tail);
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
                        if !tails.contains(tail) {
                            tails.push(tail.clone());
                        }
                    }
                }
                tails.sort_by_key(|tail| tail.tokens[0]);
                tails.truncate(MOST_TAILS);
                self.tails.insert(at, tails.into())
            }
            (None, None) => [Arc::new(Tail { text: Vec::new(), tokens: vec![0] })].into(),
        };
        for stack in open.into_iter().rev() {
            let (frame, parent) = machine.stacks.pop(stack);
            if !matches!(frame, Frame::Guard { .. }) {
                let mut text = Vec::new();
                let slack = Self::complete(machine, tables, Thread::new(frame, parent), &mut text);
                let mut longer: Vec<Arc<Tail>> = Vec::with_capacity(tails.len());
                for tail in tails.iter() {
                    let tail = Arc::new(tail.after(&text, slack, tables));
                    if !longer.contains(&tail) {
                        self.bytes.fetch_add(96 + tail.text.len() + 4 * tail.tokens.len(), Ordering::Relaxed);
                        longer.push(tail);
                    }
                }
                tails = longer.into();
            }
            tails = self.tails.insert(stack, tails);
        }
        tails
    }

    /// Writes the completion of a thread's own frame, up to where the frame below comes to the top. The number is
    /// what must be allowed for keys to differ from those before them, which only the session knows: a token to
    /// make one differ, and one to spare.
    fn complete(machine: &Machine, tables: &Tables, thread: Thread, out: &mut Vec<u8>) -> Option<u32> {
        let base = base(machine, thread);
        let mut slack = 0;
        let mut now = Some(thread);
        while let Some(thread) = now {
            if out.len() > LONGEST_COMPLETION {
                return None;
            }
            if let Frame::OtherKey(_) = thread.frame {
                slack += 2 * u32::from(machine.is_among_other_keys(&thread));
            }
            now = match machine.complete(thread, tables.filler.0, out) {
                Piece::Next(thread) => Some(thread),
                Piece::Ended(stack) if stack == base => None,
                Piece::Ended(stack) => {
                    let (mut frame, mut parent) = machine.stacks.pop(stack);
                    while matches!(frame, Frame::Guard { .. }) && parent != base {
                        (frame, parent) = machine.stacks.pop(parent);
                    }
                    (!matches!(frame, Frame::Guard { .. })).then_some(Thread::new(frame, parent))
                }
                Piece::Stuck => return None,
            };
        }
        Some(slack)
    }
}

/// The stack that comes to the top when a thread's own frame has ended. A key ends within its object.
fn base(machine: &Machine, thread: Thread) -> StackId {
    if thread.frame.is_key() { machine.stacks.pop(thread.stack).1 } else { thread.stack }
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
