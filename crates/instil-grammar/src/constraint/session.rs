//! One text being written: the configuration it has reached, and what the text itself rules out.

use std::fmt;
use std::sync::Arc;

use super::document::{self, Answers, Document, Exact};
use super::engine::Engine;
use super::escape::{self, Escapes, PLAIN, Spelt};
use super::generation::{ConfigId, Generation, NO_PATH, Place, REJECTED};
use super::mask::Mask;
use super::step::ENDLESS;
use super::trie::{NONE, ROOT, Trie};
use crate::vocab::{TokenId, TokenKind};

/// Tokens that are tried to make a key differ from all before it.
const MOST_WAYS_OUT: usize = 256;

/// A text under a grammar, token by token. Cloning forks it.
#[derive(Clone, Debug)]
pub struct Session {
    engine: Arc<Engine>,
    generation: Arc<Generation>,
    place: Place,
    text: Vec<u8>,
    /// Each token, with the place and the length of the text before it.
    steps: Vec<(TokenId, Place, usize)>,
    /// The places of the first so many steps are of an earlier generation.
    moved: usize,
    document: Document,
    answers: Answers,
    max_tokens: Option<usize>,
    finished: bool,
    closed_by_budget: bool,
    mask: Option<Mask>,
}

/// The token may not come next; the session is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The token.
    pub token: TokenId,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "token {} may not come next under the grammar", self.token)
    }
}

impl std::error::Error for Rejected {}

impl Session {
    pub(crate) fn new(engine: Arc<Engine>, generation: Arc<Generation>, max_tokens: Option<usize>) -> Self {
        let start = generation.start();
        Self {
            engine,
            generation,
            place: Place { config: start, path: NO_PATH },
            text: Vec::new(),
            steps: Vec::new(),
            moved: 0,
            document: Document::default(),
            answers: Answers::default(),
            max_tokens,
            finished: false,
            closed_by_budget: false,
            mask: None,
        }
    }

    /// The tokens that may come next. Every end-of-sequence token is among them exactly when the text is
    /// complete. Empty once the session is finished, and where a guard has left no way on.
    pub fn mask(&mut self) -> Mask {
        if self.finished {
            return Mask::from_ids(Vec::new(), self.engine.tables.vocab().len());
        }
        if let Some(mask) = &self.mask {
            return mask.clone();
        }
        self.keep_up();
        if self.place.config == REJECTED {
            return Mask::from_ids(Vec::new(), self.engine.tables.vocab().len());
        }
        let (mask, whole) = self.within_budget();
        let in_other_key = self.generation.config(self.place.config).in_other_key;
        let depends = in_other_key || !mask.conditional().is_empty();
        let known = if whole && depends { self.generation.text_mask(self.place.path) } else { None };
        let mask = match known {
            Some(known) => known,
            None if depends => {
                let mask = self.by_text(mask, in_other_key, whole);
                if whole {
                    self.generation.remember_mask(self.place.path, &mask);
                }
                mask
            }
            None => mask,
        };
        self.mask = Some(mask.clone());
        mask
    }

    /// Moves to the engine's present generation where that of the session is outgrown.
    #[inline]
    fn keep_up(&mut self) {
        if self.generation.is_outgrown() {
            self.move_on(self.text.len());
        }
    }

    /// Reads so many bytes of the text, which end with a token, in the engine's present generation.
    fn move_on(&mut self, len: usize) {
        let vocab = self.engine.tables.vocab();
        self.generation = self.engine.generation();
        let steps = self.steps.iter().take_while(|step| step.2 < len);
        let generation = &self.generation;
        self.place = generation.reread(|| {
            let (mut document, mut answers, mut text) = (Document::default(), Answers::default(), Vec::new());
            let mut config = generation.start();
            for &(token, ..) in steps {
                let bytes = vocab.bytes(token);
                config = generation.advance(config, bytes, &mut Exact::new(&mut document, &mut text, &mut answers)).0;
                if config == REJECTED {
                    return Place { config, path: NO_PATH };
                }
                text.extend_from_slice(bytes);
                answers.clear();
            }
            generation.fresh_place(config)
        });
        self.moved = self.steps.len();
        // They name guards by the numbers of the generation left.
        self.answers.clear();
        self.mask = None;
    }

    /// The mask before the text is asked: after each of its tokens the text can still be closed in time. Also whether
    /// the limit has ruled out nothing.
    fn within_budget(&mut self) -> (Mask, bool) {
        let config = self.place.config;
        let Some(left) = self.tokens_left() else { return (self.generation.mask(config), true) };
        let tables = self.engine.tables.clone();
        let Some(after) = left.checked_sub(1) else {
            let ends = self.may_end();
            let eos = if ends { tables.vocab().eos().to_vec() } else { Vec::new() };
            return (Mask::from_ids(eos, tables.vocab().len()), false);
        };
        if self.generation.worst(config) as usize <= after {
            return (self.generation.mask(config), true);
        }
        let costed = self.generation.costed(config);
        if costed.worst as usize <= after {
            return (self.generation.mask(config), true);
        }
        self.closed_by_budget = true;
        let escapes = self.engine.settings().escapes;
        let mut mask = costed.within(u32::try_from(after).unwrap_or(u32::MAX), &tables, escapes);
        if self.may_end() {
            mask = mask.with(tables.vocab().eos().to_vec(), Vec::new());
        }
        (mask, false)
    }

    /// Tokens that may still be written, where that is limited.
    fn tokens_left(&self) -> Option<usize> {
        self.max_tokens.map(|max| max.saturating_sub(self.steps.len()))
    }

    /// A number of tokens within which the text can be closed from here.
    pub fn min_tokens_left(&self) -> usize {
        if self.place.config == REJECTED {
            return ENDLESS as usize;
        }
        self.generation.needed(self.place.config) as usize
    }

    /// Once the limit lies within `window` tokens of what the text needs to its end: the tokens after which
    /// less is needed than before, and how near the limit is, from 0 (just within the window) to 1. Some of
    /// the tokens may be outside the mask. `None` before, and without a limit.
    pub fn lean(&mut self, window: usize) -> Option<(Mask, f32)> {
        let left = self.tokens_left()?;
        self.keep_up();
        if self.finished || self.place.config == REJECTED || window == 0 {
            return None;
        }
        let tables = self.engine.tables.clone();
        // A bound for all tokens of the mask is at hand, and spares the exact one while the limit is far.
        if left > window.saturating_add(self.generation.worst(self.place.config) as usize + 2) {
            return None;
        }
        let needed = self.min_tokens_left();
        let slack = left.checked_sub(needed + 1).filter(|&slack| slack < window)?;
        let less = match needed.checked_sub(1) {
            Some(less) => {
                let costed = self.generation.costed(self.place.config);
                costed.within(u32::try_from(less).unwrap_or(u32::MAX), &tables, self.engine.settings().escapes)
            }
            None => Mask::from_ids(tables.vocab().eos().to_vec(), tables.vocab().len()),
        };
        Some((less, 1.0 - slack as f32 / window as f32))
    }

    /// The tokens that spell the only way on, as the tokenizer would cut it; empty where there is more than
    /// one. Tokens at the end that a longer token could still replace are left to the model.
    /// The caller advances over them.
    pub fn forced(&mut self) -> Vec<TokenId> {
        if self.finished {
            return Vec::new();
        }
        let engine = self.engine.clone();
        self.keep_up();
        if self.place.config == REJECTED {
            return Vec::new();
        }
        let bytes = self.generation.forced_bytes(self.place.config);
        if bytes.is_empty() {
            return Vec::new();
        }
        let vocab = engine.tables.vocab();
        let mut run = engine.tables.tokenise(&bytes);
        let mut ends: Vec<usize> = Vec::with_capacity(run.len());
        for &token in &run {
            ends.push(ends.last().unwrap_or(&0) + vocab.bytes(token).len());
        }
        if ends.last().is_some_and(|&end| end > bytes.len())
            || vocab.decode(&run)[..] != bytes[..*ends.last().unwrap_or(&0)]
        {
            return Vec::new();
        }
        let keep = (0..run.len())
            .find(|&at| {
                let start = if at == 0 { 0 } else { ends[at - 1] };
                let node = engine.tables.trie.find(&bytes[start..]);
                node != NONE && engine.tables.trie.node(node).children > 0
            })
            .unwrap_or(run.len());
        run.truncate(keep);
        if let Some(left) = self.tokens_left() {
            let mut fork = self.clone();
            fork.max_tokens = None;
            let passes = run.len() <= left && run.iter().all(|&token| fork.advance(token).is_ok());
            if !passes || fork.min_tokens_left() > left - run.len() {
                return Vec::new();
            }
        }
        run
    }

    /// The limit has ruled out tokens that the grammar would have let pass.
    pub fn closed_by_budget(&self) -> bool {
        self.closed_by_budget
    }

    /// Applies to a mask what depends on the text. `whole`: the limit has ruled out nothing.
    fn by_text(&mut self, mask: Mask, in_other_key: bool, whole: bool) -> Mask {
        let mut removed = Vec::new();
        let mut extra = Vec::new();
        if in_other_key {
            self.document.read(&self.text, self.text.len());
            if self.used_keys(&mut removed) && !whole {
                extra.extend(self.way_out());
            }
        }
        if !mask.conditional().is_empty() {
            let (engine, generation) = (self.engine.clone(), self.generation.clone());
            let (config, tables) = (self.place.config, engine.tables());
            removed.sort_unstable();
            let is_eos = |token: TokenId| tables.vocab().is_eos(token);
            if mask.conditional().iter().any(|&token| is_eos(token)) && self.may_end() {
                extra.extend(tables.vocab().eos());
            }
            let mut asked: Vec<TokenId> = mask.conditional().to_vec();
            asked.retain(|&token| !is_eos(token) && removed.binary_search(&token).is_err());
            let exact = &mut Exact::new(&mut self.document, &mut self.text, &mut self.answers);
            extra.extend(generation.passing(config, &asked, exact));
        }
        mask.with(extra, removed)
    }

    /// Within a limit, a token that makes the open key differ from all before it. The bound allows for it
    /// without knowing the keys, so the mask may lack it.
    fn way_out(&mut self) -> Option<TokenId> {
        let left = self.tokens_left()?;
        let tables = self.engine.tables.clone();
        let (filler, runs) = &tables.filler;
        let fillers = runs.iter().map(|&run| tables.trie.node(tables.trie.find(&vec![*filler; run as usize])).value);
        // Where fillers may not stand in the key, whatever else may.
        let mut others = Vec::new();
        self.generation.mask(self.place.config).for_each(|token| {
            if others.len() < MOST_WAYS_OUT && !tables.vocab().bytes(token).contains(&b'"') {
                others.push(token);
            }
        });
        fillers.chain(others).find_map(|token| {
            let mut fork = self.clone();
            fork.max_tokens = None;
            fork.advance(token).ok()?;
            let mut ignored = Vec::new();
            fork.document.read(&fork.text, fork.text.len());
            let fresh = !fork.used_keys(&mut ignored);
            // Two of the tokens needed are those allowed for this.
            let within = fresh && fork.min_tokens_left() < left + 2;
            // Those two are spent here, so the key must be closed next.
            fork.max_tokens = self.max_tokens;
            (within && fork.mask().count() > 0).then_some(token)
        })
    }

    /// The tokens that would close the open key on one that the object has already; true when the key is
    /// such a one as it stands.
    fn used_keys(&self, removed: &mut Vec<TokenId>) -> bool {
        let mut used = false;
        let Some((start, spans)) = self.document.open_key() else { return false };
        let escapes = self.engine.settings().escapes;
        for &(from, to) in spans {
            let Some(key) = document::key(&self.text[from..to]) else { continue };
            let key = key.as_bytes();
            let at = self.text[start..]
                .iter()
                .try_fold((PLAIN, 0), |(open, at), &byte| match_key(key, open, at, byte, escapes));
            if let Some((open, at)) = at {
                used |= open == PLAIN && at == key.len();
                let tables = &self.engine.tables;
                closing(&tables.trie, ROOT, key, open, at, escapes, &mut |id| removed.extend(tables.twins(id)));
            }
        }
        used
    }

    /// The token may come next; exact, without the mask.
    pub fn allows(&mut self, token: TokenId) -> bool {
        let vocab = self.engine.tables.vocab().clone();
        self.keep_up();
        if self.finished || self.place.config == REJECTED {
            false
        } else if vocab.is_eos(token) {
            self.may_end()
        } else {
            vocab.kind(token) == TokenKind::Text && self.peek(vocab.bytes(token)).0 != REJECTED
        }
    }

    /// Where some bytes lead, and whether that depends on the text.
    fn peek(&mut self, bytes: &[u8]) -> (ConfigId, bool) {
        let exact = &mut Exact::new(&mut self.document, &mut self.text, &mut self.answers);
        self.generation.advance(self.place.config, bytes, exact)
    }

    /// Appends a token.
    ///
    /// # Errors
    /// [`Rejected`] when it is not in the mask; the session is then unchanged.
    pub fn advance(&mut self, token: TokenId) -> Result<(), Rejected> {
        let engine = self.engine.clone();
        let vocab = engine.tables.vocab();
        self.keep_up();
        if self.finished || self.place.config == REJECTED {
            return Err(Rejected { token });
        }
        if vocab.is_eos(token) {
            if !self.may_end() {
                return Err(Rejected { token });
            }
            self.steps.push((token, self.place, self.text.len()));
            self.finished = true;
            self.mask = None;
            return Ok(());
        }
        if vocab.kind(token) != TokenKind::Text {
            return Err(Rejected { token });
        }
        if let Some(left) = self.tokens_left()
            && (left == 0 || self.generation.worst(self.place.config) as usize >= left)
            && !self.mask().contains(token)
        {
            return Err(Rejected { token });
        }
        let bytes = vocab.bytes(token);
        let known = self.generation.known(self.place, token);
        let next = if let Some(next) = known {
            next
        } else {
            let known = self.generation.known_config(self.place, token);
            let (next, depends) = if let Some(next) = known { (next, false) } else { self.peek(bytes) };
            if next == REJECTED {
                return Err(Rejected { token });
            }
            self.generation.remember(self.place, token, next, depends)
        };
        self.steps.push((token, self.place, self.text.len()));
        self.text.extend_from_slice(bytes);
        self.place = next;
        self.mask = None;
        self.answers.clear();
        Ok(())
    }

    /// The text so far is complete: it may end here.
    pub fn is_accepting(&mut self) -> bool {
        self.keep_up();
        self.place.config != REJECTED && self.may_end()
    }

    /// The same, the place being of the session's generation.
    fn may_end(&mut self) -> bool {
        let config = self.place.config;
        if self.generation.config(config).accepting {
            return true;
        }
        let exact = &mut Exact::new(&mut self.document, &mut self.text, &mut self.answers);
        self.generation.accepts(config, exact)
    }

    /// An end-of-sequence token has been read.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// The engine.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// The text so far.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The tokens so far, the end-of-sequence token included.
    pub fn tokens(&self) -> impl ExactSizeIterator<Item = TokenId> + '_ {
        self.steps.iter().map(|step| step.0)
    }

    /// Takes back the last `count` tokens (all, when there are fewer).
    pub fn rollback(&mut self, count: usize) {
        let keep = self.steps.len().saturating_sub(count);
        if let Some(&(_, place, len)) = self.steps.get(keep) {
            self.steps.truncate(keep);
            self.text.truncate(len);
            self.place = place;
            if keep < self.moved {
                self.move_on(len);
            }
            self.answers.clear();
            self.finished = false;
            self.mask = None;
            self.document.clear();
        }
    }
}

/// One more byte of a key against a given key.
fn match_key(key: &[u8], open: u32, at: usize, byte: u8, escapes: Escapes) -> Option<(u32, usize)> {
    if open == PLAIN {
        return match byte {
            b'\\' => Some((escape::BACKSLASH, at)),
            _ => (key.get(at) == Some(&byte)).then_some((PLAIN, at + 1)),
        };
    }
    match escape::step(open, byte, escapes) {
        Spelt::Bad => None,
        Spelt::Open(open) => Some((open, at)),
        Spelt::Char(c) => {
            let spelt = c.encode_utf8(&mut [0; 4]).len();
            key[at..].starts_with(&c.to_string().as_bytes()[..spelt]).then_some((PLAIN, at + spelt))
        }
    }
}

/// Visits every token below `node` that closes a string exactly at the end of `key`.
fn closing(
    trie: &Trie,
    node: u32,
    key: &[u8],
    open: u32,
    at: usize,
    escapes: Escapes,
    visit: &mut impl FnMut(TokenId),
) {
    let mut next = vec![b'\\'];
    if open != PLAIN {
        next.extend(b"\"/bfnrtu0123456789abcdefABCDEF");
    } else if let Some(&byte) = key.get(at) {
        next.push(byte);
    } else {
        let quote = trie.child(node, b'"');
        if quote != NONE {
            trie.each_below(quote, visit);
        }
    }
    for byte in next {
        let child = trie.child(node, byte);
        if child != NONE
            && let Some((open, at)) = match_key(key, open, at, byte, escapes)
        {
            closing(trie, child, key, open, at, escapes, visit);
        }
    }
}
