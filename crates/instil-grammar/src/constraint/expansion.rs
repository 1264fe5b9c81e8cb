//! A grammar's expansion, asked by many threads at once. Each answer that is asked for often is kept in a cell that is
//! read without a lock; what is not known yet is found out under one, a question at a time.

use std::ops::Index;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::shared::Cells;
use crate::grammar::{CharSet, DEAD, Expansion, Half, LangId, NodeId, Root, StateId};

/// See the module.
#[derive(Debug)]
pub(crate) struct SharedExpansion {
    expansion: Mutex<Expansion>,
    ascii: Cells<Box<Half>>,
    wide: Cells<Box<Half>>,
    accepts: Cells<bool>,
    empty: Cells<bool>,
    starts: Cells<StateId>,
    /// Memory of the expansion when it was last asked, roughly.
    expansion_bytes: AtomicUsize,
    halves: AtomicUsize,
}

/// Where each byte leads from a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row<'a> {
    ascii: &'a Half,
    wide: &'a Half,
}

impl Row<'_> {
    /// The row of the dead state.
    pub(crate) const DEAD: Self = Self { ascii: &[DEAD; 128], wide: &[DEAD; 128] };

    /// The bytes that lead on, ascending.
    pub(crate) fn live(self) -> impl Iterator<Item = u8> + Clone {
        (0u8..=255).filter(move |&byte| self[byte] != DEAD)
    }
}

impl Index<u8> for Row<'_> {
    type Output = StateId;

    #[inline]
    fn index(&self, byte: u8) -> &StateId {
        if byte < 0x80 { &self.ascii[byte as usize] } else { &self.wide[(byte - 0x80) as usize] }
    }
}

impl SharedExpansion {
    pub(crate) fn new(expansion: Expansion) -> Self {
        let expansion_bytes = expansion.size_bytes().into();
        Self {
            expansion: Mutex::new(expansion),
            ascii: Cells::default(),
            wide: Cells::default(),
            accepts: Cells::default(),
            empty: Cells::default(),
            starts: Cells::default(),
            expansion_bytes,
            halves: AtomicUsize::new(0),
        }
    }

    /// Asks the expansion itself.
    pub(crate) fn ask<T>(&self, question: impl FnOnce(&mut Expansion) -> T) -> T {
        let mut expansion: MutexGuard<'_, Expansion> = self.expansion.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = question(&mut expansion);
        self.expansion_bytes.store(expansion.size_bytes(), Ordering::Relaxed);
        answer
    }

    /// Memory held, roughly.
    pub(crate) fn size_bytes(&self) -> usize {
        self.expansion_bytes.load(Ordering::Relaxed) + self.halves.load(Ordering::Relaxed) * size_of::<Half>()
    }

    pub(crate) fn root(&self) -> Root {
        self.ask(Expansion::root)
    }

    /// No value belongs to the node.
    pub(crate) fn is_empty(&self, node: NodeId) -> bool {
        *self.empty.get_or(node, || self.ask(|expansion| expansion.is_empty(node)))
    }

    pub(crate) fn lang_start(&self, language: LangId) -> StateId {
        *self.starts.get_or(language, || self.ask(|expansion| expansion.lang_start(language)))
    }

    /// The state after one more byte.
    #[inline]
    pub(crate) fn lang_next(&self, state: StateId, byte: u8) -> StateId {
        self.half(state, byte >= 0x80)[(byte & 0x7f) as usize]
    }

    #[inline]
    fn half(&self, state: StateId, wide: bool) -> &Half {
        let cells = if wide { &self.wide } else { &self.ascii };
        match cells.get(state) {
            Some(half) => half,
            None => cells.get_or(state, || {
                self.halves.fetch_add(1, Ordering::Relaxed);
                self.ask(|expansion| expansion.lang_half(state, wide))
            }),
        }
    }

    /// Where each byte leads.
    #[inline]
    pub(crate) fn lang_row(&self, state: StateId) -> Row<'_> {
        Row { ascii: self.half(state, false), wide: self.half(state, true) }
    }

    /// What was read is a word of the language.
    #[inline]
    pub(crate) fn lang_accepts(&self, state: StateId) -> bool {
        *self.accepts.get_or(state, || self.ask(|expansion| expansion.lang_accepts(state)))
    }

    pub(crate) fn lang_min_bytes(&self, state: StateId) -> u32 {
        self.ask(|expansion| expansion.lang_min_bytes(state))
    }

    pub(crate) fn lang_min_json_bytes(&self, state: StateId) -> u32 {
        self.ask(|expansion| expansion.lang_min_json_bytes(state))
    }

    pub(crate) fn lang_absorbs<T>(&self, state: StateId, of: impl FnOnce(&CharSet) -> T) -> Option<T> {
        self.ask(|expansion| expansion.lang_absorbs(state).map(of))
    }

    pub(crate) fn lang_worst_bytes(&self, state: StateId, horizon: u32, json: bool) -> Option<u32> {
        self.ask(|expansion| expansion.lang_worst_bytes(state, horizon, json))
    }

    pub(crate) fn lang_is_total(&self, state: StateId) -> bool {
        self.ask(|expansion| expansion.lang_is_total(state))
    }

    pub(crate) fn lang_horizon(&self, state: StateId, horizon: u32) -> StateId {
        self.ask(|expansion| expansion.lang_horizon(state, horizon))
    }
}
