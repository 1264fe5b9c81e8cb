//! States over UTF-8 bytes for the expressions of `language`: one lazily filled row of 256 next
//! states each. A state is an expression at a character boundary, or what may follow inside a
//! character of several bytes.

use rustc_hash::FxHashMap;

use super::charset::CharSet;
use super::language::{ANY, Cost, ExprId, Languages, NONE};

/// Index of a state; equal remainders are equal states.
pub(crate) type StateId = u32;
/// The state from which nothing can be accepted.
pub const DEAD: StateId = 0;
/// The state that accepts every valid UTF-8 continuation.
pub(crate) const UNIVERSAL: StateId = 1;
const UNKNOWN: StateId = u32::MAX;
/// The next states for the bytes of ASCII, or for those above it.
pub(crate) type Half = [StateId; 128];

#[derive(Clone, Copy, Debug)]
enum Place {
    /// At a character boundary.
    Boundary(ExprId),
    /// Inside a character; index into `partials`.
    Inside(u32),
}

/// The rest of a character: what `remaining` more bytes lead to, by the value of their payload bits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Partial {
    remaining: u8,
    /// Inclusive ranges, ascending, dead targets left out.
    ranges: Box<[(u32, u32, StateId)]>,
}

/// The states of all languages of an expansion.
#[derive(Debug)]
pub struct Automaton {
    places: Vec<Place>,
    accepts: Vec<bool>,
    /// Index into `rows` by state; `UNKNOWN` until stepped.
    row_of: Vec<u32>,
    rows: Vec<[StateId; 256]>,
    by_expr: FxHashMap<ExprId, StateId>,
    partials: Vec<Partial>,
    by_partial: FxHashMap<Partial, StateId>,
}

impl Default for Automaton {
    fn default() -> Self {
        Self::new()
    }
}

impl Automaton {
    /// Only the dead and the universal state.
    pub fn new() -> Self {
        let mut this = Self {
            places: Vec::new(),
            accepts: Vec::new(),
            row_of: Vec::new(),
            rows: Vec::new(),
            by_expr: FxHashMap::default(),
            partials: Vec::new(),
            by_partial: FxHashMap::default(),
        };
        this.push(Place::Boundary(NONE), false);
        this.push(Place::Boundary(ANY), true);
        this.by_expr.insert(NONE, DEAD);
        this.by_expr.insert(ANY, UNIVERSAL);
        this.rows.push([DEAD; 256]);
        this.row_of[DEAD as usize] = 0;
        this
    }

    /// Memory held, roughly.
    pub(crate) fn size_bytes(&self) -> usize {
        1024 * self.rows.len() + 40 * self.places.len() + 96 * self.partials.len()
    }

    fn push(&mut self, place: Place, accepts: bool) -> StateId {
        let id = u32::try_from(self.places.len()).expect("fewer states than expressions and characters");
        self.places.push(place);
        self.accepts.push(accepts);
        self.row_of.push(UNKNOWN);
        id
    }

    /// The state of an expression; [`DEAD`] when it is empty.
    pub fn state(&mut self, languages: &mut Languages, e: ExprId) -> StateId {
        if let Some(&state) = self.by_expr.get(&e) {
            return state;
        }
        let state = if languages.is_empty(e) { DEAD } else { self.push(Place::Boundary(e), languages.nullable(e)) };
        self.by_expr.insert(e, state);
        state
    }

    /// The state after one more byte.
    #[cfg(test)]
    pub(crate) fn next(&mut self, languages: &mut Languages, state: StateId, byte: u8) -> StateId {
        let row = self.row_of[state as usize];
        if row != UNKNOWN {
            let next = self.rows[row as usize][byte as usize];
            if next != UNKNOWN {
                return next;
            }
        }
        self.fill(languages, state, byte >= 0x80);
        self.rows[self.row_of[state as usize] as usize][byte as usize]
    }

    /// The next states for every byte.
    pub fn row(&mut self, languages: &mut Languages, state: StateId) -> &[StateId; 256] {
        self.fill(languages, state, true);
        &self.rows[self.row_of[state as usize] as usize]
    }

    /// The next states for the bytes of ASCII; found anew each time.
    pub(crate) fn ascii_half(&mut self, languages: &mut Languages, state: StateId) -> Box<Half> {
        let mut half = Box::new([DEAD; 128]);
        if let Place::Boundary(e) = self.places[state as usize] {
            for branch in languages.ascii_branches(e).iter() {
                let target = self.state(languages, branch.target);
                let mut bits = branch.ascii;
                while bits != 0 {
                    half[bits.trailing_zeros() as usize] = target;
                    bits &= bits - 1;
                }
            }
        }
        half
    }

    /// The next states for the bytes above ASCII; found anew each time.
    pub(crate) fn wide_half(&mut self, languages: &mut Languages, state: StateId) -> Box<Half> {
        let mut half = Box::new([DEAD; 128]);
        match self.places[state as usize] {
            Place::Boundary(e) => half[0x42..=0x74].copy_from_slice(&self.lead_targets(languages, e)),
            Place::Inside(partial) => half.copy_from_slice(&self.partial_row(partial)[128..]),
        }
        half
    }

    fn fill(&mut self, languages: &mut Languages, state: StateId, wide: bool) {
        match self.places[state as usize] {
            Place::Inside(partial) => {
                if self.row_of[state as usize] == UNKNOWN {
                    let row = self.partial_row(partial);
                    self.set_row(state, &row);
                }
            }
            Place::Boundary(e) => {
                if self.row_of[state as usize] == UNKNOWN {
                    let mut row = [DEAD; 256];
                    row[..128].copy_from_slice(&*self.ascii_half(languages, state));
                    row[0xC2..=0xF4].fill(UNKNOWN);
                    self.set_row(state, &row);
                }
                let row = self.row_of[state as usize] as usize;
                if wide && self.rows[row][0xC2] == UNKNOWN {
                    let leads = self.lead_targets(languages, e);
                    self.rows[row][0xC2..=0xF4].copy_from_slice(&leads);
                }
            }
        }
    }

    fn set_row(&mut self, state: StateId, row: &[StateId; 256]) {
        self.row_of[state as usize] = u32::try_from(self.rows.len()).expect("fewer rows than states");
        self.rows.push(*row);
    }

    /// Targets of the lead bytes `C2..=F4`.
    fn lead_targets(&mut self, languages: &mut Languages, e: ExprId) -> [StateId; 51] {
        let mut ranges: Vec<(u32, u32, StateId)> = Vec::new();
        for branch in languages.wide_branches(e) {
            let target = self.state(languages, branch.target);
            if target != DEAD {
                ranges.extend(branch.wide.iter().map(|&(low, high)| (low, high, target)));
            }
        }
        ranges.sort_unstable();
        let mut leads = [DEAD; 51];
        if ranges.is_empty() {
            return leads;
        }
        for (lead, slot) in (0xC2u32..).zip(leads.iter_mut()) {
            let (remaining, base) = match lead {
                ..0xE0 => (1, (lead & 0x1F) << 6),
                0xE0..0xF0 => (2, (lead & 0x0F) << 12),
                _ => (3, (lead & 0x07) << 18),
            };
            // The shortest form alone is valid UTF-8.
            let least = [0x80, 0x800, 0x1_0000][remaining as usize - 1];
            *slot = self.block(remaining, &ranges, base, least);
        }
        leads
    }

    /// The state for the block of `64^remaining` values that starts at `base`.
    fn block(&mut self, remaining: u8, ranges: &[(u32, u32, StateId)], base: u32, least: u32) -> StateId {
        let last = base + (1 << (6 * u32::from(remaining))) - 1;
        let from = ranges.partition_point(|&(_, high, _)| high < base.max(least));
        let mut inside: Vec<(u32, u32, StateId)> = Vec::new();
        for &(low, high, target) in ranges[from..].iter().take_while(|&&(low, _, _)| low <= last) {
            let (low, high) = (low.max(base).max(least) - base, high.min(last) - base);
            match inside.last_mut() {
                Some(previous) if previous.2 == target && previous.1 + 1 == low => previous.1 = high,
                _ => inside.push((low, high, target)),
            }
        }
        if remaining == 0 {
            return inside.first().map_or(DEAD, |range| range.2);
        }
        if inside.is_empty() {
            return DEAD;
        }
        let partial = Partial { remaining, ranges: inside.into() };
        if let Some(&state) = self.by_partial.get(&partial) {
            return state;
        }
        let index = u32::try_from(self.partials.len()).expect("fewer partial characters than states");
        self.partials.push(partial.clone());
        let state = self.push(Place::Inside(index), false);
        self.by_partial.insert(partial, state);
        state
    }

    fn partial_row(&mut self, partial: u32) -> [StateId; 256] {
        let Partial { remaining, ranges } = self.partials[partial as usize].clone();
        let mut row = [DEAD; 256];
        for (payload, slot) in (0u32..).zip(&mut row[0x80..0xC0]) {
            let base = payload << (6 * u32::from(remaining - 1));
            *slot = self.block(remaining - 1, &ranges, base, 0);
        }
        row
    }

    /// True when what was read is a word.
    pub fn accepts(&self, state: StateId) -> bool {
        self.accepts[state as usize]
    }

    /// True only when every valid continuation can be completed to a word.
    pub(crate) fn is_total(&self, languages: &Languages, state: StateId) -> bool {
        match self.places[state as usize] {
            Place::Boundary(e) => languages.is_total(e),
            Place::Inside(_) => false,
        }
    }

    /// Fewest bytes from a live state to a word; `u32::MAX` from the dead one.
    pub(crate) fn min_bytes(&mut self, languages: &mut Languages, state: StateId, cost: Cost) -> u32 {
        match self.places[state as usize] {
            Place::Boundary(e) => languages.min_cost(e, cost).unwrap_or(u32::MAX),
            Place::Inside(partial) => {
                let Partial { remaining, ranges } = self.partials[partial as usize].clone();
                let mut targets: Vec<StateId> = ranges.iter().map(|range| range.2).collect();
                targets.sort_unstable();
                targets.dedup();
                let rest = targets.into_iter().map(|target| self.min_bytes(languages, target, cost)).min();
                rest.unwrap_or(u32::MAX).saturating_add(u32::from(remaining))
            }
        }
    }

    /// Characters that may follow a state in any number and order.
    pub(crate) fn absorbs<'a>(&self, languages: &'a Languages, state: StateId) -> Option<&'a CharSet> {
        match self.places[state as usize] {
            Place::Boundary(e) => languages.absorbs(e),
            Place::Inside(_) => None,
        }
    }

    /// An upper bound of [`Self::min_bytes`] after up to `horizon` more characters; see [`Languages::worst_cost`].
    pub(crate) fn worst_bytes(&self, languages: &Languages, state: StateId, horizon: u32, cost: Cost) -> Option<u32> {
        match self.places[state as usize] {
            // Within a character at most three bytes more.
            Place::Boundary(e) => Some(languages.worst_cost(e, horizon, cost)?.saturating_add(3)),
            Place::Inside(_) => None,
        }
    }

    /// A state with the same prefixes and words up to `horizon` bytes; see [`Languages::horizon`].
    pub(crate) fn horizon(&mut self, languages: &mut Languages, state: StateId, horizon: u32) -> StateId {
        match self.places[state as usize] {
            Place::Boundary(e) => {
                let near = languages.horizon(e, horizon);
                self.state(languages, near)
            }
            Place::Inside(_) => state,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(languages: &mut Languages, automaton: &mut Automaton, e: ExprId, text: &[u8]) -> bool {
        let start = automaton.state(languages, e);
        let end = text.iter().fold(start, |state, &byte| automaton.next(languages, state, byte));
        automaton.accepts(end)
    }

    #[test]
    fn bytes_follow_utf8() {
        let (mut languages, mut automaton) = (Languages::new(), Automaton::new());
        let wide = languages.class(CharSet::from_ranges(vec![(0x7F0, 0x810), (0xFFF0, 0x1_0010)]));
        for c in ['\u{7ef}', '\u{7f0}', '\u{800}', '\u{810}', '\u{811}', '\u{fff0}', '\u{10010}', '\u{10011}', 'a'] {
            let inside = matches!(c as u32, 0x7F0..=0x810 | 0xFFF0..=0x1_0010);
            assert_eq!(accepts(&mut languages, &mut automaton, wide, c.to_string().as_bytes()), inside, "{c:?}");
        }
        for bad in [&b"\xC0\x80"[..], b"\xE0\x9F\xB0", b"\xED\xA0\x80", b"\xF4\x90\x80\x80", b"\x80", b"\xFF"] {
            assert!(!accepts(&mut languages, &mut automaton, ANY, bad), "{bad:x?}");
        }
        let start = automaton.state(&mut languages, ANY);
        assert_eq!(start, UNIVERSAL);
        let inside = automaton.next(&mut languages, start, 0xE4);
        assert_eq!(automaton.min_bytes(&mut languages, inside, Cost::Raw), 2);
        assert_eq!(automaton.next(&mut languages, inside, b'a'), DEAD);
    }
}
