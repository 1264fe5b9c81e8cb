//! Masks with the tokens that are needed after each of their tokens, and what is left of one within a limit.

use std::sync::Arc;

use super::escape::Escapes;
use super::mask::{Crossing, Mask, Parts};
use super::tables::Tables;
use crate::vocab::TokenId;

/// A mask with the tokens needed after each of its tokens.
#[derive(Debug, Default)]
pub(crate) struct Costed {
    pub(crate) listed: Vec<(TokenId, u32)>,
    pub(crate) conditional: Vec<(TokenId, u32)>,
    pub(crate) crossing: Vec<(Crossing, u32)>,
    pub(crate) free: Vec<FreeCost>,
    /// Tokens that no free string holds after all, as [`Parts::remove`].
    pub(crate) remove: Vec<TokenId>,
    /// An upper bound of what is needed after any token of the mask.
    pub(crate) worst: u32,
}

impl Costed {
    /// Memory that it takes, in bytes.
    pub(crate) fn size_bytes(&self) -> usize {
        let free: usize = self.free.iter().map(|free| size_of::<FreeCost>() + 4 * free.costs.len()).sum();
        let listed = size_of_val(self.listed.as_slice()) + size_of_val(self.conditional.as_slice());
        size_of::<Self>() + listed + size_of_val(self.crossing.as_slice()) + free + 4 * self.remove.len()
    }
}

/// Tokens that stay inside a free string.
#[derive(Debug)]
pub(crate) struct FreeCost {
    pub(crate) max: Option<u32>,
    /// Tokens needed after so many more characters; the last stands for all beyond.
    pub(crate) costs: Vec<u32>,
}

/// What a token that ends within a character or an escape may need beyond one that does not.
pub(crate) const PARTIAL: u32 = 4;

impl Costed {
    /// The tokens after which at most `limit` more are needed.
    pub(crate) fn within(&self, limit: u32, tables: &Arc<Tables>, escapes: Escapes) -> Mask {
        let width = tables.vocab().len();
        let sets = tables.strings(escapes);
        let mut bits = vec![0u32; width.div_ceil(32)];
        for free in &self.free {
            // Costs fall as characters are written.
            let Some(least) = free.costs.iter().position(|&cost| cost <= limit) else { continue };
            let most = sets.inside(free.max);
            let less = least.checked_sub(1).map(|less| sets.inside(u32::try_from(less).ok()));
            for (at, (word, &most)) in bits.iter_mut().zip(most.iter()).enumerate() {
                *word |= most & !less.map_or(0, |less| less[at]);
            }
            let strict = free.costs.iter().position(|&cost| cost.saturating_add(PARTIAL) <= limit);
            for &id in &sets.partial {
                if strict.is_none_or(|strict| usize::from(sets.chars[id as usize]) < strict) {
                    bits[id as usize / 32] &= !(1 << (id % 32));
                }
            }
        }
        for (crossing, _) in self.crossing.iter().filter(|(_, cost)| *cost <= limit) {
            for &id in sets.group(crossing.group) {
                if (crossing.min..=crossing.max).contains(&u32::from(sets.chars[id as usize])) {
                    bits[id as usize / 32] |= 1 << (id % 32);
                }
            }
        }
        for &id in &self.remove {
            bits[id as usize / 32] &= !(1 << (id % 32));
        }
        for &(id, _) in self.listed.iter().filter(|(_, cost)| *cost <= limit) {
            bits[id as usize / 32] |= 1 << (id % 32);
        }
        let conditional = self.conditional.iter().filter(|(_, cost)| *cost <= limit).map(|(id, _)| *id).collect();
        Mask::new(Parts { width, bits: Some(bits.into()), conditional, ..Parts::default() })
    }
}
