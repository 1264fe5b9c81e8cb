//! Which tokens may come next: a shared base and short lists, so that no mask costs the width of a
//! vocabulary unless it is written out.

use std::sync::Arc;

use super::escape::Escapes;
use super::tables::Tables;
use super::trie::NONE;
use crate::vocab::TokenId;

/// A set of tokens. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Mask {
    parts: Arc<Parts>,
    /// Tokens that the text so far adds and rules out.
    by_text: Option<Arc<(Vec<TokenId>, Vec<TokenId>)>>,
}

/// A mask in parts: `(free \ remove) ∪ add ∪ bits`.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    /// Ids the mask is wide.
    pub(crate) width: usize,
    /// Tokens that stay inside a free string.
    pub(crate) inside: Option<Arc<[u32]>>,
    /// Tokens that leave a free string.
    pub(crate) crossing: Vec<Crossing>,
    pub(crate) tables: Option<(Arc<Tables>, Escapes)>,
    /// Tokens that neither of the two above holds after all.
    pub(crate) remove: Vec<TokenId>,
    /// Further tokens, in no order; may repeat.
    pub(crate) add: Vec<TokenId>,
    /// Further tokens, where they are many.
    pub(crate) bits: Option<Arc<[u32]>>,
    /// Tokens that pass or not according to the text. Not in the mask.
    pub(crate) conditional: Vec<TokenId>,
}

/// Tokens that leave a free string with the same bytes after the closing quote, having started
/// between `min` and `max` characters before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crossing {
    pub(crate) group: u32,
    pub(crate) min: u32,
    pub(crate) max: u32,
}

/// A list longer than this becomes a bit set.
pub(crate) const LONG_LIST: usize = 768;

impl Mask {
    pub(crate) fn new(parts: Parts) -> Self {
        Self { parts: Arc::new(parts), by_text: None }
    }

    /// The mask of these tokens, in a vocabulary of `width` ids.
    pub fn from_ids(ids: Vec<TokenId>, width: usize) -> Self {
        let mut parts = Parts { width, ..Parts::default() };
        parts.add = ids;
        parts.pack();
        Self::new(parts)
    }

    /// The mask of the bits set, lowest bit first.
    pub fn from_bits(bits: Box<[u32]>, width: usize) -> Self {
        Self::new(Parts { width, bits: Some(bits.into()), ..Parts::default() })
    }

    /// The mask with and without some tokens; the latter win.
    pub(crate) fn with(mut self, extra: Vec<TokenId>, removed: Vec<TokenId>) -> Self {
        if !extra.is_empty() || !removed.is_empty() {
            let mut by_text = self.by_text.as_deref().cloned().unwrap_or_default();
            by_text.0.extend(extra);
            by_text.1.extend(removed);
            self.by_text = Some(Arc::new(by_text));
        }
        self
    }

    /// The tokens that pass or not according to the text.
    pub(crate) fn conditional(&self) -> &[TokenId] {
        &self.parts.conditional
    }

    /// The token may come next.
    pub fn contains(&self, id: TokenId) -> bool {
        if let Some(by_text) = &self.by_text {
            if by_text.1.contains(&id) {
                return false;
            }
            if by_text.0.contains(&id) {
                return true;
            }
        }
        let parts = &*self.parts;
        parts.in_free(id) && !parts.remove.contains(&id)
            || parts.add.contains(&id)
            || parts.bits.as_ref().is_some_and(|bits| bit(bits, id))
    }

    /// Number of ids that a mask of this vocabulary covers.
    pub fn width(&self) -> usize {
        self.parts.width
    }

    /// Writes the mask, one bit an id, lowest bit first; `out` holds `width.div_ceil(32)` words, further
    /// ones are zeroed.
    pub fn write_bits(&self, out: &mut [u32]) {
        let parts = &*self.parts;
        out.fill(0);
        if let Some(inside) = &parts.inside {
            copy(inside, out);
        }
        if let Some((tables, escapes)) = &parts.tables {
            let sets = tables.strings(*escapes);
            for crossing in &parts.crossing {
                for &id in sets.group(crossing.group) {
                    let chars = u32::from(sets.chars[id as usize]);
                    if (crossing.min..=crossing.max).contains(&chars) {
                        set(out, id);
                    }
                }
            }
        }
        for &id in &parts.remove {
            clear(out, id);
        }
        if let Some(bits) = &parts.bits {
            for (out, bits) in out.iter_mut().zip(bits.iter()) {
                *out |= bits;
            }
        }
        for &id in &parts.add {
            set(out, id);
        }
        if let Some(by_text) = &self.by_text {
            for &id in &by_text.0 {
                set(out, id);
            }
            for &id in &by_text.1 {
                clear(out, id);
            }
        }
    }

    /// Calls `visit` with every token of the mask, ascending.
    pub fn for_each(&self, mut visit: impl FnMut(TokenId)) {
        for (base, &word) in (0u32..).step_by(32).zip(&self.bits()) {
            let mut word = word;
            while word != 0 {
                visit(base + word.trailing_zeros());
                word &= word - 1;
            }
        }
    }

    /// The mask, one bit an id, lowest bit first.
    pub fn bits(&self) -> Vec<u32> {
        let mut bits = vec![0; self.parts.width.div_ceil(32)];
        self.write_bits(&mut bits);
        bits
    }

    /// Number of tokens in the mask.
    pub fn count(&self) -> usize {
        self.bits().iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Bytes of memory held for what the text adds and rules out.
    pub(crate) fn text_bytes(&self) -> usize {
        size_of::<Self>() * 2 + self.by_text.as_ref().map_or(0, |by_text| 64 + 4 * (by_text.0.len() + by_text.1.len()))
    }

    /// Bytes of memory held for this mask alone.
    pub(crate) fn size_bytes(&self) -> usize {
        let parts = &*self.parts;
        size_of::<Parts>()
            + (parts.remove.len() + parts.add.len() + parts.conditional.len()) * 4
            + parts.crossing.len() * size_of::<Crossing>()
            + parts.bits.as_ref().map_or(0, |bits| bits.len() * 4)
    }
}

impl Parts {
    /// Turns a long list into bits.
    pub(crate) fn pack(&mut self) {
        if self.add.len() > LONG_LIST {
            let bits = self.bits.get_or_insert_with(|| vec![0; self.width.div_ceil(32)].into());
            let bits = Arc::make_mut(bits);
            for id in self.add.drain(..) {
                set(bits, id);
            }
        }
    }

    /// The free string's part holds the token.
    #[inline]
    fn in_free(&self, id: TokenId) -> bool {
        if self.inside.as_ref().is_some_and(|inside| bit(inside, id)) {
            return true;
        }
        if self.crossing.is_empty() {
            return false;
        }
        let Some((tables, escapes)) = &self.tables else { return false };
        let sets = tables.strings(*escapes);
        let group = sets.group_of.get(id as usize).copied().unwrap_or(NONE);
        group != NONE && {
            let chars = u32::from(sets.chars[id as usize]);
            self.crossing.iter().any(|c| c.group == group && (c.min..=c.max).contains(&chars))
        }
    }
}

#[inline]
fn bit(bits: &[u32], id: TokenId) -> bool {
    bits.get(id as usize / 32).is_some_and(|word| word >> (id % 32) & 1 == 1)
}

#[inline]
fn set(bits: &mut [u32], id: TokenId) {
    if let Some(word) = bits.get_mut(id as usize / 32) {
        *word |= 1 << (id % 32);
    }
}

#[inline]
fn clear(bits: &mut [u32], id: TokenId) {
    if let Some(word) = bits.get_mut(id as usize / 32) {
        *word &= !(1 << (id % 32));
    }
}

fn copy(from: &[u32], to: &mut [u32]) {
    let len = from.len().min(to.len());
    to[..len].copy_from_slice(&from[..len]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_bits_say_the_same() {
        let ids: Vec<u32> = (0..2000).map(|i| i * 3).collect();
        for mask in [Mask::from_ids(ids[..5].to_vec(), 6000), Mask::from_ids(ids.clone(), 6000)] {
            let mut seen = Vec::new();
            mask.for_each(|id| seen.push(id));
            assert!(seen.is_sorted());
            assert_eq!(seen.len(), mask.count());
            assert!(seen.iter().all(|&id| mask.contains(id)));
            assert!(!mask.contains(1) && !mask.contains(60_000));
        }
    }
}
