//! Items of an array under `contains`: what each may be, and how many are still needed to close it.

use rustc_hash::FxHashMap;

use super::expand::Expansion;
use super::shape::{ArrayShape, NodeId};

/// Most `contains` of one array that are counted.
pub(crate) const COUNTED_LIMIT: usize = 4;
/// Items that are planned ahead; past this, each `contains` is looked at by itself.
const PLAN_LIMIT: u32 = 256;

/// A place in an array: items read, and how many of them each `contains` has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct ItemPlace {
    /// Items read.
    pub items: u32,
    /// Items counted, no further than matters.
    pub counts: [u16; COUNTED_LIMIT],
}

/// Items needed from the places of one array.
pub(crate) type ItemPlan = FxHashMap<(ItemPlace, u32), Option<u32>>;

impl Expansion {
    /// What the next item may be, with the place after it: one entry for each choice of the `contains` that it
    /// counts for. Some may lead nowhere.
    pub(crate) fn item_choices(&mut self, array: &ArrayShape, place: ItemPlace) -> Vec<(NodeId, ItemPlace)> {
        if array.max_items.is_some_and(|max| place.items >= max) {
            return Vec::new();
        }
        let node = array.prefix.get(place.items as usize).copied().unwrap_or(array.items);
        let mut choices = vec![(node, ItemPlace { items: place.items.saturating_add(1), ..place })];
        for (at, contains) in array.contains.iter().enumerate().take(COUNTED_LIMIT) {
            let count = u32::from(place.counts[at]);
            let mut next = Vec::with_capacity(2 * choices.len());
            for (node, mut after) in choices {
                let other = (self.and(node, contains.other), after);
                if contains.max.is_none_or(|max| count < max) {
                    let cap = contains.max.unwrap_or(contains.min);
                    after.counts[at] = u16::try_from((count + 1).min(cap)).unwrap_or(u16::MAX);
                    next.push((self.and(node, contains.node), after));
                }
                next.push(other);
            }
            choices = next;
        }
        choices.retain(|&(node, _)| !self.is_empty(node));
        choices
    }

    /// The least number of further items after which the array may be closed, if it can be.
    pub(crate) fn items_needed(&mut self, array: &ArrayShape, place: ItemPlace, plan: &mut ItemPlan) -> Option<u32> {
        let lacking: Vec<u32> =
            array.contains.iter().zip(place.counts).map(|(c, count)| c.min.saturating_sub(count.into())).collect();
        let wanted = array.min_items.saturating_sub(place.items);
        let most = lacking.iter().fold(wanted, |sum, &lacking| sum.saturating_add(lacking));
        if most == 0 {
            return Some(0);
        }
        let room = array.max_items.map_or(u32::MAX, |max| max.saturating_sub(place.items));
        if room < wanted || lacking.iter().any(|&lacking| room < lacking) {
            return None;
        }
        if most > PLAN_LIMIT {
            return self.each_in_reach(array, place, &lacking, room).then_some(most);
        }
        // Past the prefix only what is wanted and what room there is tell places apart.
        let fixed = u32::try_from(array.prefix.len()).unwrap_or(u32::MAX);
        let key = if place.items < fixed {
            (place, u32::MAX)
        } else {
            (ItemPlace { items: fixed + wanted, ..place }, room.min(most))
        };
        if let Some(&known) = plan.get(&key) {
            return known;
        }
        let mut least = None;
        for (_, after) in self.item_choices(array, place) {
            // An item that nobody asks for brings the end no nearer, unless the prefix lies before what does.
            if wanted == 0 && place.items >= fixed && after.counts == place.counts {
                continue;
            }
            if let Some(needed) = self.items_needed(array, after, plan)
                && least.is_none_or(|least| needed + 1 < least)
            {
                least = Some(needed + 1);
            }
        }
        plan.insert(key, least);
        least
    }

    /// Each `contains` by itself can still get the items that it lacks.
    fn each_in_reach(&mut self, array: &ArrayShape, place: ItemPlace, lacking: &[u32], room: u32) -> bool {
        let fixed = u32::try_from(array.prefix.len()).unwrap_or(u32::MAX);
        array.contains.iter().zip(lacking).all(|(contains, &lacking)| {
            let mut slots = 0u32;
            for &node in array.prefix.iter().skip(place.items as usize).take(room as usize) {
                let both = self.and(node, contains.node);
                slots += u32::from(!self.is_empty(both));
            }
            let both = self.and(array.items, contains.node);
            if !self.is_empty(both) {
                slots = slots.saturating_add(room.saturating_sub(fixed.saturating_sub(place.items)));
            }
            slots >= lacking
        })
    }
}
