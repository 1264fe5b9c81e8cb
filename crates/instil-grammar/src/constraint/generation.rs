//! What an engine finds out as texts are written: interned configurations, their masks and what tokens make of them,
//! kept once for all sessions and threads.
//!
//! Configurations, stacks and states of languages are numbers that sessions hold, so none of them can be forgotten
//! alone. When they have grown too many, the whole generation is left behind: the engine begins a new one, and each
//! session reads its text anew in it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rustc_hash::FxHashMap;

use super::Settings;
use super::budget::Costs;
use super::costed::Costed;
use super::document::Exact;
use super::frame::{Kind, Thread};
use super::hint::Bytes;
use super::least::ENDLESS;
use super::mask::Mask;
use super::step::{Assume, Checks, Machine};
use super::tables::Tables;
use super::walk::{Accepted, Walk};
use crate::grammar::Expansion;
use crate::vocab::TokenId;

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

/// Memory of one configuration without its threads, roughly.
const CONFIG_BYTES: usize = 2 * size_of::<Config>();
/// A limit on the memory below this is taken for this.
const LEAST_MEMORY: usize = 1 << 20;

/// One generation, shared by the sessions that have begun in it or moved to it.
#[derive(Debug)]
pub(crate) struct Generation {
    inner: RwLock<Inner>,
    outgrown: Arc<AtomicBool>,
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
    /// Threads of all configurations and masks.
    threads: usize,
    outgrown: Arc<AtomicBool>,
    /// Memory that went into reading texts anew.
    reread: usize,
    scratch: Vec<Thread>,
    start: ConfigId,
    visited: u64,
    /// Threads beyond [`MOST_THREADS`] were cut.
    pub(crate) has_cut: bool,
}

impl Generation {
    /// Nothing is known but where texts begin.
    pub(crate) fn new(expansion: Expansion, settings: &Settings) -> Self {
        let outgrown = Arc::new(AtomicBool::new(false));
        let mut inner = Inner {
            machine: Machine::new(expansion, settings),
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
            memory_bytes: settings.memory_bytes.max(LEAST_MEMORY),
            threads: 0,
            outgrown: outgrown.clone(),
            reread: 0,
            scratch: Vec::new(),
            start: REJECTED,
            visited: 0,
            has_cut: false,
        };
        let threads = inner.machine.start();
        inner.start = inner.intern(&threads);
        Self { inner: RwLock::new(inner), outgrown }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sessions should move on to the next one.
    #[inline]
    pub(crate) fn is_outgrown(&self) -> bool {
        self.outgrown.load(Ordering::Relaxed)
    }

    /// An upper bound of the tokens needed after any token of a configuration's mask.
    pub(crate) fn worst(&self, config: ConfigId, tables: &Arc<Tables>) -> u32 {
        if let Some(worst) = self.read().configs[config as usize].worst {
            return worst;
        }
        self.write().worst(config, tables)
    }

    /// The mask of a configuration, without what the text rules out.
    pub(crate) fn mask(&self, config: ConfigId, tables: &Arc<Tables>) -> Mask {
        if let Some(mask) = &self.read().configs[config as usize].mask {
            return mask.clone();
        }
        self.write().mask(config, tables)
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
        if place.path == LOST_PATH {
            return Place { path: LOST_PATH, ..bare };
        }
        let next = self.fresh_place(next);
        if next.path != LOST_PATH {
            self.next.insert((place, token), next);
        }
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
        self.threads += threads.len();
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
            self.has_cut |= threads.len() > high + MOST_THREADS;
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
            self.mask_bytes += size_of_val(saturated.as_slice());
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

    /// Memory of what can be forgotten: masks, steps and paths.
    fn droppable_bytes(&self) -> usize {
        let stays = self.machine.stays.values().next().map_or(0, |bits| 4 * bits.len() * self.machine.stays.len());
        self.mask_bytes + STEP_BYTES * self.next.len() + stays
    }

    /// Memory of what everything else is numbered by: configurations, stacks, languages; and of bounds on tokens.
    fn fixed_bytes(&self) -> usize {
        CONFIG_BYTES * self.configs.len()
            + size_of::<Thread>() * self.threads
            + self.stacks_by_text.len()
            + self.costs.size_bytes()
            + self.machine.size_bytes()
    }

    /// Forgets masks and steps when all has grown past the limit; sessions keep the masks that they hold. Where the
    /// rest alone takes half of it, the generation is outgrown.
    fn keep_within_memory(&mut self) {
        let fixed = self.fixed_bytes().saturating_sub(self.reread);
        if fixed > self.memory_bytes / 2 {
            self.outgrown.store(true, Ordering::Relaxed);
        }
        if self.droppable_bytes() + fixed <= self.memory_bytes {
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

    /// Does what reads a text anew. What that takes is not counted: a fresh generation would be as large again.
    pub(crate) fn reread<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.fixed_bytes();
        let read = read(self);
        self.reread += self.fixed_bytes().saturating_sub(before);
        read
    }

    /// Where every text begins; [`REJECTED`] where there is none.
    pub(crate) fn start(&self) -> ConfigId {
        self.start
    }

    /// See [`Engine::statistics`](super::Engine::statistics).
    pub(crate) fn statistics(&self) -> [u64; 6] {
        let all = self.fixed_bytes() + self.droppable_bytes();
        let [configs, stacks] = [self.configs.len(), self.machine.stacks.len()];
        [configs as u64, stacks as u64, self.masks.len() as u64, self.mask_bytes as u64, self.visited, all as u64]
    }

    /// A place with a path of its own, where one is needed.
    pub(crate) fn fresh_place(&mut self, config: ConfigId) -> Place {
        let by_text = self.configs[config as usize].by_text;
        let path = match self.paths {
            _ if !by_text => NO_PATH,
            paths if paths >= LOST_PATH - 1 => LOST_PATH,
            _ => {
                self.paths += 1;
                self.paths
            }
        };
        Place { config, path }
    }

    /// See [`Generation::worst`].
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
