//! What an engine finds out as texts are written: interned configurations, their masks and what tokens make of them,
//! kept once for all sessions and threads.
//!
//! There are two kinds of it. What is *interned* (configurations, stacks, objects, states of languages) gets numbers that
//! sessions hold; threads add to it under short locks and read it under none. What is *found* about these (masks,
//! bounds, where tokens lead) is computed under no lock that another question would wait for: only who asks for the very
//! same mask waits for it, instead of computing it again. The first answer is kept, and all answers are alike,
//! so that nothing depends on which thread came first.
//!
//! Numbers that sessions hold cannot be forgotten one by one. When they have grown too many, the whole generation is
//! left behind: the engine begins a new one, and each session reads its text anew in it.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use super::Settings;
use super::budget::Costs;
use super::costed::Costed;
use super::document::Exact;
use super::frame::Thread;
use super::mask::Mask;
use super::shared::{List, Map, read, write};
use super::step::{Assume, Bytes, ENDLESS, Machine};
use super::tables::Tables;
use super::walk::{StateSets, Suffixes, Walk};
use crate::grammar::Expansion;
use crate::vocab::TokenId;

/// Index of a configuration.
pub(crate) type ConfigId = u32;

/// No thread is left: the text is not in the grammar.
pub(crate) const REJECTED: ConfigId = u32::MAX;

/// A set of threads.
#[derive(Debug)]
pub(crate) struct Config {
    threads: Arc<[Thread]>,
    pub(crate) accepting: bool,
    /// Some thread is in a key whose uniqueness the session must see to.
    pub(crate) in_other_key: bool,
    /// What may follow can depend on the text, not only on the configuration.
    by_text: bool,
    mask: RwLock<Option<Mask>>,
    /// An upper bound of what is needed after any token of the mask.
    worst: OnceLock<u32>,
    /// Tokens that are needed to the end.
    needed: OnceLock<u32>,
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
/// Longest run of forced bytes that is looked for at once.
const LONGEST_FORCED: usize = 1024;
/// Ambiguity beyond this many threads is cut: texts may then be turned down, never let through.
const MOST_THREADS: usize = 4096;

/// An answer that is found once: who asks while it is being found waits for it.
type Once<T> = Arc<OnceLock<T>>;

/// One generation, shared by the sessions that have begun in it or moved to it.
#[derive(Debug)]
pub(crate) struct Generation {
    tables: Arc<Tables>,
    machine: Machine,
    configs: List<Config>,
    index: Map<Arc<[Thread]>, ConfigId>,
    /// Threads of all configurations.
    threads: AtomicUsize,
    /// Paths that have been numbered.
    paths: AtomicU32,
    start: ConfigId,
    /// Where a token leads; from no path, where that does not depend on the text.
    next: Map<(Place, TokenId), Place>,
    /// Masks by path, with what the text rules out.
    text_masks: Map<PathId, Mask>,
    /// Masks by configuration, counters saturated.
    masks: Map<Box<[Thread]>, Once<Mask>>,
    /// Masks with what is needed after each token, by configuration.
    costed: Map<ConfigId, Once<Arc<Costed>>>,
    suffixes: Suffixes,
    costed_suffixes: Suffixes,
    state_sets: StateSets,
    costs: Costs,
    mask_bytes: AtomicUsize,
    memory_bytes: usize,
    outgrown: AtomicBool,
    /// Memory that went into reading texts anew.
    reread: Mutex<usize>,
    visited: AtomicU64,
    /// Threads beyond [`MOST_THREADS`] were cut.
    has_cut: AtomicBool,
}

/// What a generation has come to, for reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Configurations that texts have come to.
    pub configurations: usize,
    /// Stacks of enclosing places.
    pub stacks: usize,
    /// Different masks that are kept.
    pub masks: usize,
    /// What they hold, in bytes.
    pub mask_bytes: usize,
    /// Nodes of the vocabulary's trie that were visited for masks.
    pub visited: u64,
    /// All that is held, in bytes.
    pub bytes: usize,
}

impl Generation {
    /// Nothing is known but where texts begin.
    pub(crate) fn new(expansion: Expansion, tables: Arc<Tables>, settings: &Settings) -> Self {
        let mut generation = Self {
            tables,
            machine: Machine::new(expansion, settings),
            configs: List::default(),
            index: Map::default(),
            threads: AtomicUsize::new(0),
            paths: AtomicU32::new(NO_PATH),
            start: REJECTED,
            next: Map::default(),
            text_masks: Map::default(),
            masks: Map::default(),
            costed: Map::default(),
            suffixes: Suffixes::default(),
            costed_suffixes: Suffixes::default(),
            state_sets: StateSets::default(),
            costs: Costs::default(),
            mask_bytes: AtomicUsize::new(0),
            memory_bytes: settings.memory_bytes.max(LEAST_MEMORY),
            outgrown: AtomicBool::new(false),
            reread: Mutex::new(0),
            visited: AtomicU64::new(0),
            has_cut: AtomicBool::new(false),
        };
        generation.start = generation.intern(&generation.machine.start());
        generation
    }

    /// Sessions should move on to the next one.
    #[inline]
    pub(crate) fn is_outgrown(&self) -> bool {
        self.outgrown.load(Ordering::Relaxed)
    }

    /// Where every text begins; [`REJECTED`] where there is none.
    pub(crate) fn start(&self) -> ConfigId {
        self.start
    }

    /// Some part of the grammar was taken to have a value because the question went too deep.
    pub(crate) fn is_emptiness_open(&self) -> bool {
        self.machine.expansion.ask(|expansion| expansion.is_emptiness_open())
    }

    /// Threads were cut so far: valid texts may have been turned down.
    pub(crate) fn has_cut(&self) -> bool {
        self.has_cut.load(Ordering::Relaxed)
    }

    /// A configuration.
    #[inline]
    pub(crate) fn config(&self, config: ConfigId) -> &Config {
        self.configs.get(config)
    }

    /// The configuration of these threads, sorted and without repeats.
    fn intern(&self, threads: &[Thread]) -> ConfigId {
        if threads.is_empty() {
            return REJECTED;
        }
        if let Some(config) = self.index.get(threads) {
            return config;
        }
        let machine = &self.machine;
        let accepting = threads.iter().any(|thread| machine.accepts(thread));
        let in_other_key = threads.iter().any(|thread| machine.is_among_other_keys(thread));
        let by_text = threads.iter().any(|thread| machine.depends_on_text(thread));
        let threads: Arc<[Thread]> = threads.into();
        self.index.get_or(threads.clone(), || {
            self.threads.fetch_add(threads.len(), Ordering::Relaxed);
            self.configs.push(Config {
                threads,
                accepting,
                in_other_key,
                by_text,
                mask: RwLock::default(),
                worst: OnceLock::new(),
                needed: OnceLock::new(),
            })
        })
    }

    /// Where a token leads, when that is known.
    #[inline]
    pub(crate) fn known(&self, place: Place, token: TokenId) -> Option<Place> {
        if let Some(next) = self.next.get(&(place, token)) {
            return Some(next);
        }
        let config = if place.path == NO_PATH { None } else { self.known_config(place, token) }?;
        (!self.config(config).by_text).then_some(Place { config, path: NO_PATH })
    }

    /// Where a token leads, when its configuration is known but not its path.
    pub(crate) fn known_config(&self, place: Place, token: TokenId) -> Option<ConfigId> {
        self.next.get(&(Place { path: NO_PATH, ..place }, token)).map(|next| next.config)
    }

    /// Numbers and remembers where a token leads. `depends`: on the text, not on the configuration alone.
    pub(crate) fn remember(&self, place: Place, token: TokenId, next: ConfigId, depends: bool) -> Place {
        self.keep_within_memory();
        let bare = Place { config: next, path: NO_PATH };
        if !depends {
            self.next.insert((Place { path: NO_PATH, ..place }, token), bare);
        }
        if !self.config(next).by_text {
            if depends && place.path != LOST_PATH {
                self.next.insert((place, token), bare);
            }
            return bare;
        }
        if place.path == LOST_PATH {
            return Place { path: LOST_PATH, ..bare };
        }
        let next = self.fresh_place(next);
        if next.path == LOST_PATH { next } else { self.next.insert((place, token), next) }
    }

    /// A place with a path of its own, where one is needed.
    pub(crate) fn fresh_place(&self, config: ConfigId) -> Place {
        let number = |paths: u32| (paths < LOST_PATH - 1).then_some(paths + 1);
        let path = if self.config(config).by_text {
            let before = self.paths.fetch_update(Ordering::Relaxed, Ordering::Relaxed, number);
            before.map_or(LOST_PATH, |before| before + 1)
        } else {
            NO_PATH
        };
        Place { config, path }
    }

    /// The mask of a path, where it has been remembered.
    pub(crate) fn text_mask(&self, path: PathId) -> Option<Mask> {
        self.text_masks.get(&path)
    }

    /// Remembers the mask of a path.
    pub(crate) fn remember_mask(&self, path: PathId, mask: &Mask) {
        if path != NO_PATH && path != LOST_PATH {
            self.mask_bytes.fetch_add(mask.text_bytes(), Ordering::Relaxed);
            self.text_masks.insert(path, mask.clone());
        }
    }

    /// The configuration after some bytes; also whether a check of the text was asked for on the way.
    pub(crate) fn advance(&self, config: ConfigId, bytes: &[u8], exact: &mut Exact<'_>) -> (ConfigId, bool) {
        let mut now = self.config(config).threads.to_vec();
        let alive = bytes.iter().all(|&byte| {
            let low = now.len();
            self.feed(&mut now, 0, byte, exact);
            now.drain(..low);
            !now.is_empty()
        });
        (if alive { self.intern(&now) } else { REJECTED }, exact.asked)
    }

    /// Appends what the threads from `low` on become after one more byte. A number at the very end is checked as far
    /// as it goes.
    fn feed(&self, threads: &mut Vec<Thread>, low: usize, byte: u8, exact: &mut Exact<'_>) {
        exact.read(byte);
        let high = threads.len();
        for at in low..high {
            let thread = threads[at];
            self.machine.step(thread, byte, threads, exact);
        }
        if threads.len() - high > 1 {
            self.machine.unify(threads, high);
            if threads.len() > high + MOST_THREADS {
                threads.truncate(high + MOST_THREADS);
                self.has_cut.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Those of some tokens, sorted by their bytes, that pass from a configuration, the text being what it is.
    pub(crate) fn passing(&self, config: ConfigId, tokens: &[TokenId], exact: &mut Exact<'_>) -> Vec<TokenId> {
        let mut passing = Vec::new();
        let mut arena = self.config(config).threads.to_vec();
        // Where the threads after each byte of the path begin.
        let mut levels = vec![0];
        let mut path: &[u8] = &[];
        for &token in tokens {
            let bytes = self.tables.vocab().bytes(token);
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
        passing
    }

    /// Whether the text may end here, its checks included.
    pub(crate) fn accepts(&self, config: ConfigId, exact: &mut Exact<'_>) -> bool {
        let threads = &self.config(config).threads;
        threads.iter().any(|thread| self.machine.accepts(thread) || self.machine.ends(thread, exact))
    }

    /// The mask of a configuration, without what the text rules out.
    pub(crate) fn mask(&self, config: ConfigId) -> Mask {
        let config = self.config(config);
        if let Some(mask) = &*read(&config.mask) {
            return mask.clone();
        }
        self.keep_within_memory();
        let longest = self.tables.longest;
        let mut saturated: Vec<Thread> =
            config.threads.iter().map(|&thread| self.machine.saturate(thread, longest)).collect();
        self.machine.unify(&mut saturated, 0);
        let once = match self.masks.get(saturated.as_slice()) {
            Some(known) => known,
            None => self.masks.insert(saturated.clone().into(), Once::default()),
        };
        let mask = once.get_or_init(|| self.find_mask(&saturated)).clone();
        *write(&config.mask) = Some(mask.clone());
        mask
    }

    fn find_mask(&self, threads: &[Thread]) -> Mask {
        let (vocab, machine) = (self.tables.vocab(), &self.machine);
        let mut walk = Walk::new(machine, &self.tables, &self.suffixes, &self.state_sets, None);
        walk.run(threads);
        self.visited.fetch_add(walk.visited, Ordering::Relaxed);
        let mut parts = walk.parts;
        if threads.iter().any(|thread| machine.accepts(thread)) {
            parts.add.extend_from_slice(vocab.eos());
        } else if threads.iter().any(|thread| machine.ends(thread, &mut Assume)) {
            parts.conditional.extend_from_slice(vocab.eos());
        }
        parts.conditional.sort_unstable_by(|&a, &b| vocab.bytes(a).cmp(vocab.bytes(b)).then(a.cmp(&b)));
        parts.conditional.dedup();
        let mask = Mask::new(parts);
        self.mask_bytes.fetch_add(mask.size_bytes() + size_of_val(threads), Ordering::Relaxed);
        mask
    }

    /// The mask of a configuration with what is needed after each token.
    pub(crate) fn costed(&self, config: ConfigId) -> Arc<Costed> {
        let once = match self.costed.get(&config) {
            Some(known) => known,
            None => {
                self.keep_within_memory();
                self.costed.insert(config, Once::default())
            }
        };
        let find = || {
            let mut walk = self.costed_walk();
            walk.run(&self.config(config).threads);
            self.mask_bytes.fetch_add(walk.costed.size_bytes(), Ordering::Relaxed);
            Arc::new(walk.costed)
        };
        once.get_or_init(find).clone()
    }

    /// An upper bound of the tokens needed after any token of a configuration's mask.
    pub(crate) fn worst(&self, config: ConfigId) -> u32 {
        let config = self.config(config);
        *config.worst.get_or_init(|| self.costed_walk().worst(&config.threads))
    }

    fn costed_walk(&self) -> Walk<'_> {
        Walk::new(&self.machine, &self.tables, &self.costed_suffixes, &self.state_sets, Some(&self.costs))
    }

    /// Tokens that are needed from a configuration.
    pub(crate) fn needed(&self, config: ConfigId) -> u32 {
        let config = self.config(config);
        if config.accepting {
            return 0;
        }
        *config.needed.get_or_init(|| {
            let needed = |&thread: &Thread| self.costs.thread(&self.machine, &self.tables, thread);
            config.threads.iter().map(needed).min().unwrap_or(ENDLESS)
        })
    }

    /// The bytes that must come next, one after another, as far as there is only one way.
    pub(crate) fn forced_bytes(&self, config: ConfigId) -> Vec<u8> {
        let mut now = self.config(config).threads.to_vec();
        let mut bytes = Vec::new();
        while bytes.len() < LONGEST_FORCED && !now.iter().any(|thread| self.machine.accepts(thread)) {
            let mut hints = Bytes::default();
            if !now.iter().all(|&thread| self.machine.hint(thread, &mut hints)) {
                break;
            }
            let mut only: Option<(u8, Vec<Thread>)> = None;
            for byte in hints.iter() {
                let mut next = Vec::new();
                for &thread in &now {
                    self.machine.step(thread, byte, &mut next, &mut Assume);
                }
                if next.is_empty() {
                    continue;
                }
                if only.is_some() || next.iter().any(|thread| thread.conditional) {
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

    /// Memory of what can be forgotten: masks, steps and paths.
    fn droppable_bytes(&self) -> usize {
        self.mask_bytes.load(Ordering::Relaxed) + STEP_BYTES * self.next.len() + self.state_sets.token_bytes()
    }

    /// Memory of what everything else is numbered by: configurations, stacks, languages; and of bounds on tokens.
    fn fixed_bytes(&self) -> usize {
        CONFIG_BYTES * self.configs.len()
            + size_of::<Thread>() * self.threads.load(Ordering::Relaxed)
            + self.costs.size_bytes()
            + self.machine.size_bytes()
            + self.state_sets.size_bytes()
            + self.suffixes.size_bytes()
            + self.costed_suffixes.size_bytes()
    }

    /// Forgets masks and steps when all has grown past the limit; sessions keep the masks that they hold. Where the
    /// rest alone takes half of it, the generation is outgrown.
    fn keep_within_memory(&self) {
        let fixed = self.fixed_bytes();
        // While a text is being read anew, how much of it that takes is not known yet.
        let Ok(reread) = self.reread.try_lock() else { return };
        let fixed = fixed.saturating_sub(*reread);
        if fixed > self.memory_bytes / 2 {
            self.outgrown.store(true, Ordering::Relaxed);
        }
        if self.droppable_bytes() + fixed <= self.memory_bytes {
            return;
        }
        self.mask_bytes.store(0, Ordering::Relaxed);
        self.state_sets.forget_tokens();
        self.masks.clear();
        self.text_masks.clear();
        self.next.clear();
        self.costed.clear();
        self.configs.iter().for_each(|config| *write(&config.mask) = None);
    }

    /// Does what reads a text anew. What that takes is not counted: a fresh generation would be as large again.
    pub(crate) fn reread<T>(&self, read: impl FnOnce() -> T) -> T {
        let mut reread = self.reread.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.fixed_bytes();
        let read = read();
        *reread += self.fixed_bytes().saturating_sub(before);
        read
    }

    /// See [`Engine::statistics`](super::Engine::statistics).
    pub(crate) fn statistics(&self) -> Statistics {
        Statistics {
            configurations: self.configs.len(),
            stacks: self.machine.stacks.len(),
            masks: self.masks.len(),
            mask_bytes: self.mask_bytes.load(Ordering::Relaxed),
            visited: self.visited.load(Ordering::Relaxed),
            bytes: self.fixed_bytes() + self.droppable_bytes(),
        }
    }
}
