//! One grammar over one vocabulary: interned configurations, their masks and what tokens make of
//! them, kept once for all sessions and threads.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rustc_hash::FxHashMap;

use super::budget::{Costs, ENDLESS};
use super::costed::Costed;
use super::document::Exact;
use super::frame::{Kind, Thread};
use super::hint::Bytes;
use super::mask::Mask;
use super::session::Session;
use super::step::{Assume, Checks, Machine};
use super::tables::Tables;
use super::trie::{NONE, ROOT};
use super::walk::{Accepted, Walk};
use super::{Escapes, KeyOrder, Whitespace};
use crate::grammar::{Expansion, GrammarSource, Options, Program};
use crate::vocab::TokenId;
use crate::{Error, Result};

/// How texts are to look, and what the engine may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// White space between the parts of a JSON text.
    pub whitespace: Whitespace,
    /// Order of an object's members.
    pub key_order: KeyOrder,
    /// Spellings of characters in strings.
    pub escapes: Escapes,
    /// Masks are dropped, and computed anew when needed, above this.
    pub memory_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            whitespace: Whitespace::Spaced,
            key_order: KeyOrder::Schema,
            escapes: Escapes::Canonical,
            memory_bytes: 256 << 20,
        }
    }
}

/// Index of a configuration.
pub(crate) type ConfigId = u32;

/// No thread is left: the text is not in the grammar.
pub(crate) const REJECTED: ConfigId = u32::MAX;

/// A set of threads.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) threads: Arc<[Thread]>,
    pub(crate) accepting: bool,
    /// Some thread is in a key whose uniqueness the session must see to.
    pub(crate) in_other_key: bool,
    /// What may follow can depend on the text, not only on the configuration.
    by_text: bool,
    mask: Option<Mask>,
    /// An upper bound of what is needed after any token of the mask.
    worst: Option<u32>,
}

/// A text as far as a configuration may depend on it: the tokens since the last configuration that did not.
/// Numbered as they are met, and never twice.
pub(crate) type PathId = u32;

/// The path of every configuration that depends on no text.
pub(crate) const NO_PATH: PathId = 0;

/// A path that is not told apart from others, once numbers have run out.
const LOST_PATH: PathId = u32::MAX;

/// Where a text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) config: ConfigId,
    pub(crate) path: PathId,
}

/// Memory of one known step, roughly.
const STEP_BYTES: usize = 48;

/// A function from text to its canonical tokens.
pub type Tokenise = dyn Fn(&[u8]) -> Vec<TokenId> + Send + Sync;

/// A grammar over a vocabulary; shared by all sessions.
pub struct Engine {
    tokenise: RwLock<Option<Arc<Tokenise>>>,
    pub(crate) tables: Arc<Tables>,
    settings: Settings,
    inner: RwLock<Inner>,
}

/// What grows as texts are written.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) machine: Machine,
    configs: Vec<Config>,
    index: FxHashMap<Arc<[Thread]>, ConfigId>,
    /// Where a token leads; from no path, where that does not depend on the text.
    next: FxHashMap<(Place, TokenId), Place>,
    /// Masks by path, with what the text rules out.
    text_masks: FxHashMap<PathId, Mask>,
    paths: PathId,
    /// Whether what follows depends on the text below a frame, by stack.
    stacks_by_text: Vec<bool>,
    /// Masks by configuration, counters saturated.
    masks: FxHashMap<Box<[Thread]>, Mask>,
    suffixes: FxHashMap<Thread, Accepted>,
    costs: Costs,
    /// Masks with what is needed after each token, by configuration.
    costed: FxHashMap<ConfigId, Arc<Costed>>,
    costed_suffixes: FxHashMap<Thread, Accepted>,
    mask_bytes: usize,
    memory_bytes: usize,
    scratch: Vec<Thread>,
    start: ConfigId,
    visited: u64,
}

impl Engine {
    /// Prepares a grammar over a vocabulary. Cheap: everything is computed when it is first needed.
    ///
    /// # Errors
    /// [`Error::Grammar`] when the grammar has no text at all, or the vocabulary lacks a byte that texts need.
    pub fn new(program: &Program, tables: Arc<Tables>, settings: Settings) -> Result<Arc<Self>> {
        Self::with_expansion(program.expand(), tables, settings)
    }

    /// Compiles a source and prepares it: [`Engine::new`] with what compiling has found out already.
    ///
    /// # Errors
    /// Those of [`Program::compile`].
    pub fn compile(
        source: &GrammarSource,
        options: &Options,
        tables: Arc<Tables>,
        settings: Settings,
    ) -> Result<Arc<Self>> {
        let (_, expansion) = Program::compile_expanded(source, options)?;
        Self::with_expansion(expansion, tables, settings)
    }

    fn with_expansion(expansion: Expansion, tables: Arc<Tables>, settings: Settings) -> Result<Arc<Self>> {
        if let Some(byte) = tables.missing.first() {
            return Err(Error::grammar(
                "",
                format!(
                    "the vocabulary has no token for the byte 0x{byte:02x} ({} such): texts could not always be closed",
                    tables.missing.len()
                ),
                "use a model whose tokenizer spells every byte",
            ));
        }
        let machine = Machine::new(expansion, settings.whitespace, settings.key_order, settings.escapes);
        let mut inner = Inner {
            machine,
            configs: Vec::new(),
            index: FxHashMap::default(),
            next: FxHashMap::default(),
            text_masks: FxHashMap::default(),
            paths: NO_PATH,
            stacks_by_text: Vec::new(),
            masks: FxHashMap::default(),
            suffixes: FxHashMap::default(),
            costs: Costs::default(),
            costed: FxHashMap::default(),
            costed_suffixes: FxHashMap::default(),
            mask_bytes: 0,
            memory_bytes: settings.memory_bytes,
            scratch: Vec::new(),
            start: 0,
            visited: 0,
        };
        let threads = inner.machine.start();
        if threads.is_empty() {
            return Err(Error::grammar("", "no text satisfies the grammar", "loosen it"));
        }
        inner.start = inner.intern(&threads);
        if inner.machine.expansion.is_emptiness_open() && inner.needed(inner.start, &tables) >= ENDLESS {
            return Err(Error::grammar("", "no finite value satisfies the grammar", "loosen what contradicts itself"));
        }
        Ok(Arc::new(Self { tokenise: RwLock::default(), tables, settings, inner: RwLock::new(inner) }))
    }

    /// A session at the beginning of a text of at most so many tokens.
    ///
    /// # Errors
    /// [`Error::Usage`] with the number when the limit is below what the grammar needs.
    pub fn start(self: &Arc<Self>, max_tokens: Option<usize>) -> Result<Session> {
        let start = self.read().start;
        if let Some(max_tokens) = max_tokens {
            let least = self.min_tokens();
            if least >= ENDLESS as usize {
                return Err(Error::usage(
                    "the grammar needs more tokens than can be counted",
                    "lower its least lengths and counts, or use a vocabulary that spells what it asks for",
                ));
            }
            if max_tokens < least {
                return Err(Error::usage(
                    format!("the grammar needs {least} tokens, more than the limit of {max_tokens}"),
                    format!("raise the limit (--max-tokens) to {least} or more"),
                ));
            }
        }
        Ok(Session::new(self.clone(), start, max_tokens))
    }

    /// A limit that every text can be closed within, from its beginning: not always the least one.
    pub fn min_tokens(&self) -> usize {
        let mut inner = self.write();
        let start = inner.start;
        inner.needed(start, &self.tables) as usize
    }

    /// Says how the model's tokenizer cuts a text, for [`Session::forced`]. Without it the longest
    /// token is taken at each place, which is near to but not quite what byte-pair merging gives.
    pub fn set_tokenizer(&self, tokenise: Arc<Tokenise>) {
        *self.tokenise.write().unwrap_or_else(PoisonError::into_inner) = Some(tokenise);
    }

    /// The tokens of a text.
    pub(crate) fn tokenise(&self, text: &[u8]) -> Vec<TokenId> {
        let tokenise = self.tokenise.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(tokenise) = tokenise {
            return tokenise(text);
        }
        let trie = &self.tables.trie;
        let (mut tokens, mut at) = (Vec::new(), 0);
        while at < text.len() {
            let (mut node, mut best) = (ROOT, None);
            for (end, &byte) in (at + 1..).zip(&text[at..]) {
                node = trie.child(node, byte);
                if node == NONE {
                    break;
                }
                if trie.node(node).value != NONE {
                    best = Some((end, trie.node(node).value));
                }
            }
            let Some((end, token)) = best else { break };
            tokens.push(token);
            at = end;
        }
        tokens
    }

    /// How the engine was set up.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The vocabulary's tables.
    pub fn tables(&self) -> &Arc<Tables> {
        &self.tables
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Configurations, stacks, masks, bytes of masks, trie nodes visited: for reports.
    pub fn statistics(&self) -> [u64; 5] {
        let inner = self.read();
        [inner.configs.len(), inner.machine.stacks.len(), inner.masks.len(), inner.mask_bytes]
            .map(|n| n as u64)
            .into_iter()
            .chain([inner.visited])
            .collect::<Vec<_>>()
            .try_into()
            .unwrap_or_default()
    }

    /// An upper bound of the tokens needed after any token of a configuration's mask.
    pub(crate) fn worst(&self, config: ConfigId) -> u32 {
        if let Some(worst) = self.read().configs[config as usize].worst {
            return worst;
        }
        self.write().worst(config, &self.tables)
    }

    /// The mask of a configuration, without what the text rules out.
    pub(crate) fn mask(&self, config: ConfigId) -> Mask {
        if let Some(mask) = &self.read().configs[config as usize].mask {
            return mask.clone();
        }
        self.write().mask(config, &self.tables)
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Inner {
    /// A configuration.
    #[inline]
    pub(crate) fn config(&self, config: ConfigId) -> &Config {
        &self.configs[config as usize]
    }

    /// Where a token leads, when that is known.
    #[inline]
    pub(crate) fn known(&self, place: Place, token: TokenId) -> Option<Place> {
        if let Some(&next) = self.next.get(&(place, token)) {
            return Some(next);
        }
        let config = if place.path == NO_PATH { None } else { self.known_config(place, token) }?;
        (!self.configs[config as usize].by_text).then_some(Place { config, path: NO_PATH })
    }

    /// Where a token leads, when its configuration is known but not its path.
    pub(crate) fn known_config(&self, place: Place, token: TokenId) -> Option<ConfigId> {
        self.next.get(&(Place { path: NO_PATH, ..place }, token)).map(|next| next.config)
    }

    /// Numbers and remembers where a token leads. `depends`: on the text, not on the configuration alone.
    pub(crate) fn remember(&mut self, place: Place, token: TokenId, next: ConfigId, depends: bool) -> Place {
        self.keep_within_memory();
        let bare = Place { config: next, path: NO_PATH };
        if !depends {
            self.next.insert((Place { path: NO_PATH, ..place }, token), bare);
        }
        if !self.configs[next as usize].by_text {
            if depends && place.path != LOST_PATH {
                self.next.insert((place, token), bare);
            }
            return bare;
        }
        if place.path == LOST_PATH || self.paths >= LOST_PATH - 1 {
            return Place { path: LOST_PATH, ..bare };
        }
        self.paths += 1;
        let next = Place { path: self.paths, ..bare };
        self.next.insert((place, token), next);
        next
    }

    /// The mask of a path, where it has been remembered.
    pub(crate) fn text_mask(&self, path: PathId) -> Option<&Mask> {
        self.text_masks.get(&path)
    }

    /// Remembers the mask of a path.
    pub(crate) fn remember_mask(&mut self, path: PathId, mask: &Mask) {
        if path != NO_PATH && path != LOST_PATH {
            self.mask_bytes += mask.text_bytes();
            self.text_masks.insert(path, mask.clone());
        }
    }

    /// What follows a thread can depend on the text.
    fn depends_on_text(&mut self, thread: &Thread) -> bool {
        let machine = &self.machine;
        for stack in self.stacks_by_text.len()..machine.stacks.len() {
            let (frame, parent) = machine.stacks.pop(stack as u32);
            let own = match frame.kind {
                Kind::Guard => true,
                Kind::ArrayOpen | Kind::ArrayComma | Kind::ArrayAfter | Kind::ArrayClose => {
                    machine.rules.array(frame.a).unique
                }
                Kind::ObjectKey | Kind::ObjectAfter => machine.rules.state(frame.a).has_others,
                _ => false,
            };
            let known = &self.stacks_by_text;
            let below = match machine.stacks.members(stack as u32) {
                Some(members) => members.iter().any(|&member| known[member as usize]),
                None => stack > 0 && known[parent as usize],
            };
            self.stacks_by_text.push(own || below);
        }
        let frame = thread.frame;
        self.stacks_by_text[thread.stack as usize]
            || match frame.kind {
                Kind::AnyKey | Kind::OtherKey => true,
                Kind::ArrayOpen | Kind::ArrayComma | Kind::ArrayAfter | Kind::ArrayClose => {
                    machine.rules.array(frame.a).unique
                }
                Kind::ObjectOpen | Kind::ObjectComma | Kind::ObjectAfter | Kind::ObjectClose => {
                    machine.rules.state(frame.a).has_others
                }
                _ => false,
            }
    }

    /// The configuration of these threads, sorted and without repeats.
    pub(crate) fn intern(&mut self, threads: &[Thread]) -> ConfigId {
        if threads.is_empty() {
            return REJECTED;
        }
        if let Some(&config) = self.index.get(threads) {
            return config;
        }
        let machine = &self.machine;
        let accepting = threads.iter().any(|thread| machine.accepts(thread));
        let in_other_key = threads.iter().any(|thread| {
            matches!(thread.frame.kind, Kind::OtherKey | Kind::AnyKey) && {
                let (below, _) = machine.stacks.pop(thread.stack);
                machine.rules.state(below.a).has_others
            }
        });
        let by_text = threads.iter().any(|thread| self.depends_on_text(thread));
        let threads: Arc<[Thread]> = threads.into();
        let config = u32::try_from(self.configs.len()).expect("memory ends before 2^32 configurations");
        self.configs.push(Config {
            threads: threads.clone(),
            accepting,
            in_other_key,
            by_text,
            mask: None,
            worst: None,
        });
        self.index.insert(threads, config);
        config
    }

    /// The configuration after some bytes; also whether a check of the text was asked for on the way.
    pub(crate) fn advance(&mut self, config: ConfigId, bytes: &[u8], exact: &mut Exact<'_>) -> (ConfigId, bool) {
        let mut now = std::mem::take(&mut self.scratch);
        now.clear();
        now.extend_from_slice(&self.configs[config as usize].threads);
        let alive = bytes.iter().all(|&byte| {
            let low = now.len();
            self.feed(&mut now, 0, byte, exact);
            now.drain(..low);
            !now.is_empty()
        });
        let next = if alive { self.intern(&now) } else { REJECTED };
        self.scratch = now;
        (next, exact.asked)
    }

    /// Appends what the threads from `low` on become after one more byte. A number at the very end is checked as far
    /// as it goes.
    fn feed(&mut self, threads: &mut Vec<Thread>, low: usize, byte: u8, exact: &mut Exact<'_>) {
        exact.read(byte);
        let high = threads.len();
        for at in low..high {
            let thread = threads[at];
            self.machine.step(thread, byte, threads, exact as &mut dyn Checks);
        }
        if threads.len() - high > 1 {
            self.machine.unify(threads, high);
            threads.truncate(high + MOST_THREADS);
        }
    }

    /// Those of some tokens, sorted by their bytes, that pass from a configuration, the text being what it is.
    pub(crate) fn passing(
        &mut self,
        config: ConfigId,
        tokens: &[TokenId],
        tables: &Tables,
        exact: &mut Exact<'_>,
    ) -> Vec<TokenId> {
        let mut passing = Vec::new();
        let mut arena = std::mem::take(&mut self.scratch);
        arena.clear();
        arena.extend_from_slice(&self.configs[config as usize].threads);
        // Where the threads after each byte of the path begin.
        let mut levels = vec![0];
        let mut path: &[u8] = &[];
        for &token in tokens {
            let bytes = tables.vocab().bytes(token);
            let shared = path.iter().zip(bytes).take_while(|(a, b)| a == b).count().min(levels.len() - 1);
            if let Some(&end) = levels.get(shared + 1) {
                arena.truncate(end);
            }
            levels.truncate(shared + 1);
            exact.truncate(shared);
            for &byte in &bytes[shared..] {
                let low = levels[levels.len() - 1];
                if low == arena.len() {
                    break;
                }
                levels.push(arena.len());
                self.feed(&mut arena, low, byte, exact);
            }
            if levels.len() == bytes.len() + 1 && levels[bytes.len()] < arena.len() {
                passing.push(token);
            }
            path = bytes;
        }
        self.scratch = arena;
        passing
    }

    /// Whether the text may end here, its checks included.
    pub(crate) fn accepts(&mut self, config: ConfigId, exact: &mut Exact<'_>) -> bool {
        let threads = self.configs[config as usize].threads.clone();
        threads.iter().any(|thread| self.machine.accepts(thread) || self.machine.ends(thread, exact))
    }

    /// The mask of a configuration.
    pub(crate) fn mask(&mut self, config: ConfigId, tables: &Arc<Tables>) -> Mask {
        if let Some(mask) = &self.configs[config as usize].mask {
            return mask.clone();
        }
        self.keep_within_memory();
        let threads = self.configs[config as usize].threads.clone();
        let mut saturated: Vec<Thread> = threads.iter().map(|&thread| self.saturate(thread, tables.longest)).collect();
        self.machine.unify(&mut saturated, 0);
        let mask = if let Some(mask) = self.masks.get(saturated.as_slice()) {
            mask.clone()
        } else {
            let arena = std::mem::take(&mut self.scratch);
            let mut walk = Walk::new(&mut self.machine, tables, &mut self.suffixes, arena);
            walk.run(&saturated);
            let (arena, mut parts, visited) = (walk.arena, walk.parts, walk.visited);
            self.scratch = arena;
            self.visited += visited;
            let ends = saturated.iter().any(|thread| self.machine.accepts(thread));
            if ends {
                parts.add.extend_from_slice(tables.vocab().eos());
            } else if saturated.iter().any(|thread| self.machine.ends(thread, &mut Assume)) {
                parts.conditional.extend_from_slice(tables.vocab().eos());
            }
            let vocab = tables.vocab();
            parts.conditional.sort_unstable_by(|&a, &b| vocab.bytes(a).cmp(vocab.bytes(b)).then(a.cmp(&b)));
            parts.conditional.dedup();
            let mask = Mask::new(parts);
            self.mask_bytes += mask.size_bytes();
            self.masks.insert(saturated.into(), mask.clone());
            mask
        };
        self.configs[config as usize].mask = Some(mask.clone());
        mask
    }

    /// The bytes that must come next, one after another, as far as there is only one way.
    pub(crate) fn forced_bytes(&mut self, config: ConfigId) -> Vec<u8> {
        let mut now = self.configs[config as usize].threads.to_vec();
        let mut bytes = Vec::new();
        while bytes.len() < LONGEST_FORCED && !now.iter().any(|thread| self.machine.accepts(thread)) {
            let mut hints: Bytes = [0; 4];
            if !now.iter().all(|&thread| self.machine.hint(thread, &mut hints)) {
                break;
            }
            let mut only: Option<(u8, Vec<Thread>)> = None;
            for byte in (0..=255u8).filter(|&byte| hints[byte as usize / 64] >> (byte % 64) & 1 == 1) {
                let mut next = Vec::new();
                for &thread in &now {
                    self.machine.step(thread, byte, &mut next, &mut Assume);
                }
                if next.is_empty() {
                    continue;
                }
                if only.is_some() || next.iter().any(|thread| thread.frame.conditional) {
                    return bytes;
                }
                self.machine.unify(&mut next, 0);
                only = Some((byte, next));
            }
            let Some((byte, next)) = only else { break };
            bytes.push(byte);
            now = next;
        }
        bytes
    }

    /// Tokens that are needed from a configuration.
    pub(crate) fn needed(&mut self, config: ConfigId, tables: &Tables) -> u32 {
        let threads = self.configs[config as usize].threads.clone();
        if self.configs[config as usize].accepting {
            return 0;
        }
        let needed = threads.iter().map(|&thread| self.costs.thread(&mut self.machine, tables, thread)).min();
        needed.unwrap_or(ENDLESS)
    }

    /// Forgets masks and steps when they have grown past the limit; sessions keep the masks that they hold.
    fn keep_within_memory(&mut self) {
        let stays = self.machine.stays.values().next().map_or(0, |bits| 4 * bits.len() * self.machine.stays.len());
        if self.mask_bytes + STEP_BYTES * self.next.len() + stays <= self.memory_bytes {
            return;
        }
        self.mask_bytes = 0;
        self.machine.stays = FxHashMap::default();
        self.masks = FxHashMap::default();
        self.text_masks = FxHashMap::default();
        self.next = FxHashMap::default();
        self.costed = FxHashMap::default();
        self.configs.iter_mut().for_each(|config| config.mask = None);
    }

    /// See [`Engine::worst`].
    fn worst(&mut self, config: ConfigId, tables: &Arc<Tables>) -> u32 {
        let threads = self.configs[config as usize].threads.clone();
        let arena = std::mem::take(&mut self.scratch);
        let mut walk = Walk::new(&mut self.machine, tables, &mut self.costed_suffixes, arena);
        walk.costs = Some(&mut self.costs);
        let worst = walk.worst(&threads);
        self.scratch = walk.arena;
        self.configs[config as usize].worst = Some(worst);
        worst
    }

    /// The mask of a configuration with what is needed after each token.
    pub(crate) fn costed(&mut self, config: ConfigId, tables: &Arc<Tables>) -> Arc<Costed> {
        if let Some(costed) = self.costed.get(&config) {
            return costed.clone();
        }
        self.keep_within_memory();
        let threads = self.configs[config as usize].threads.clone();
        let arena = std::mem::take(&mut self.scratch);
        let mut walk = Walk::new(&mut self.machine, tables, &mut self.costed_suffixes, arena);
        walk.costs = Some(&mut self.costs);
        walk.run(&threads);
        let (arena, costed) = (walk.arena, Arc::new(walk.costed));
        self.scratch = arena;
        self.mask_bytes += costed.size_bytes();
        self.costed.insert(config, costed.clone());
        costed
    }

    /// A thread with the same mask, its counters cut to what one token can reach.
    fn saturate(&mut self, mut thread: Thread, longest: u32) -> Thread {
        let frame = &mut thread.frame;
        match frame.kind {
            Kind::String | Kind::Text => {
                let bounds = &self.machine.rules.strings[frame.a as usize];
                let (min, max) = (bounds.min_chars, bounds.max_chars.unwrap_or(u32::MAX));
                if frame.c < min && min - frame.c > longest {
                    frame.c = 0;
                } else if frame.c >= min && max.saturating_sub(frame.c) > longest {
                    frame.c = min;
                }
                frame.b = self.machine.expansion.lang_horizon(frame.b, longest);
            }
            Kind::OtherKey => frame.b = self.machine.expansion.lang_horizon(frame.b, longest),
            Kind::Number => frame.a = self.machine.expansion.lang_horizon(frame.a, longest),
            _ => {}
        }
        thread
    }
}

/// Longest run of forced bytes that is looked for at once.
const LONGEST_FORCED: usize = 1024;

/// Ambiguity beyond this many threads is cut: texts may then be turned down, never let through.
const MOST_THREADS: usize = 4096;
