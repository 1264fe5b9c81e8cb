//! Deals attribute values out to rows so that every beginning of a run is balanced.
//!
//! Three ways ([`Balance`]). *Cells*: every combination of values is a cell, and cells are apportioned
//! by the quota method (Balinski and Young, "The quota method of apportionment", 1975): after any number
//! of rows a cell has its exact share, rounded down or up. *Pairs*, where there are too many cells: each
//! attribute is apportioned by itself, and values are joined so that all pairs are met evenly. *Random*:
//! independent draws. In all three, more rows never change earlier ones.
//!
//! Attributes that stand apart from the cells ([`Attribute::apart`]) are dealt after the others, in the way
//! of *pairs*: their values keep their shares, and go round within each cell. As the cells of the next rows are
//! known, a value is not given to a row when one soon to come needs it more. Continuous ranges follow a shifted
//! Halton sequence.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};

use rustc_hash::FxHashMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Fault;
use super::attributes::{Attribute, Held, Quota, Range, number};
use crate::filter::condition::fits;
use instil_model::decode::StreamKey;

/// Most combinations of values that are apportioned as cells.
pub(crate) const MOST_CELLS: usize = 4096;

/// Most values of an attribute that are compared for one row.
const MOST_COMPARED: usize = 256;

/// Most rows that are looked ahead for values that must get them; rarer values may come later than they should.
const MOST_AHEAD: u32 = 4096;

/// Rows to come that a value of an attribute apart may be kept for; more change little.
const ROWS_KEPT_FOR: usize = 8;

/// `attempt` of the streams that plan rather than decode; decoding attempts stay below it.
pub(super) const PLANNING: u16 = u16::MAX;

/// How attribute values are spread over rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Balance {
    /// `cells` where there are few enough, else `pairs`.
    #[default]
    Auto,
    /// Every combination of values gets its exact share.
    Cells,
    /// Every value gets its exact share; pairs are met evenly.
    Pairs,
    /// Independent draws by weight.
    Random,
}

/// The attributes of row 0, 1, 2, …: an endless iterator, a function of its inputs alone.
pub(crate) struct Assignments<'a> {
    attributes: Cow<'a, [Attribute]>,
    seed: u64,
    row: u32,
    way: Way,
    /// What was dealt by pairs: all attributes, or those apart from the cells.
    pairs: Pairs,
}

enum Way {
    Cells {
        cells: Vec<Cell>,
        marginals: Vec<HashMap<usize, f64>>,
        /// Cells of this row and of some rows to come, where attributes stand apart from them.
        coming: VecDeque<usize>,
    },
    Pairs,
    Random,
}

/// A combination of values.
#[derive(Clone, Debug)]
struct Cell {
    /// Values of the attributes that are not continuous.
    values: Map<String, Value>,
    /// Place of each value among all values of its attribute.
    places: Vec<usize>,
    /// Share of all rows.
    share: f64,
    rows: u32,
}

impl<'a> Assignments<'a> {
    /// Starts at row 0.
    ///
    /// # Errors
    /// When cells or quotas are asked for and there are too many cells, or the quotas leave none.
    pub(crate) fn new(
        attributes: impl Into<Cow<'a, [Attribute]>>,
        quotas: &[Quota],
        balance: Balance,
        seed: u64,
    ) -> Result<Self, Fault> {
        let attributes = attributes.into();
        let cells = match balance {
            Balance::Auto | Balance::Cells => cells(&attributes),
            Balance::Pairs | Balance::Random => None,
        };
        let way = match (balance, cells) {
            (_, Some(mut cells)) => {
                share_out(&mut cells, quotas)?;
                let marginals = attributes.iter().map(|_| HashMap::new()).collect();
                Way::Cells { cells, marginals, coming: VecDeque::new() }
            }
            (Balance::Cells, None) => {
                let what = format!("the attributes have more than {MOST_CELLS} combinations");
                return Err(Fault::new("/balance", what, "use `balance: pairs`, or fewer values"));
            }
            _ if !quotas.is_empty() => {
                let what = "quotas need cells, and these attributes are not spread by cells";
                return Err(Fault::new("/quotas", what, "use `balance: cells` and fewer values, or `weights`"));
            }
            (Balance::Random, None) => Way::Random,
            (Balance::Auto | Balance::Pairs, None) => Way::Pairs,
        };
        Ok(Self { attributes, seed, row: 0, way, pairs: Pairs::default() })
    }

    /// The attributes of `row`, when rows come in ascending order but not all of them are dealt here.
    pub(crate) fn deal(&mut self, row: u32) -> Map<String, Value> {
        self.row = row;
        self.next().expect("it is endless")
    }

    /// Counts rows that are there already: they and the dealt ones together keep the shares.
    ///
    /// # Errors
    /// When rows are not spread by cells, or one is of no cell.
    pub(crate) fn beside(mut self, held: &[Held]) -> Result<Self, Fault> {
        for (index, held) in held.iter().enumerate() {
            let fault = |what: &str, remedy: &str| Err(Fault::new(format!("/held/{index}"), what, remedy));
            let Way::Cells { cells, marginals, .. } = &mut self.way else {
                return fault("rows that are there already need cells", "use `balance: cells` and fewer values");
            };
            let Some(cell) = cells.iter_mut().find(|cell| cell.values == held.is) else {
                return fault("no combination of values is this one", "name a value of every attribute");
            };
            cell.rows += held.rows;
            for (counts, &place) in marginals.iter_mut().zip(&cell.places) {
                *counts.entry(place).or_default() += f64::from(held.rows);
            }
        }
        Ok(self)
    }

    /// Total variation between the cells' rows so far and their shares, 0 to 1; 0 where rows are not spread by
    /// cells.
    pub(crate) fn total_variation(&self) -> f64 {
        let Way::Cells { cells, coming, .. } = &self.way else { return 0.0 };
        let mut rows: Vec<f64> = cells.iter().map(|cell| f64::from(cell.rows)).collect();
        coming.iter().for_each(|&cell| rows[cell] -= 1.0);
        let total = rows.iter().sum::<f64>().max(1.0);
        rows.iter().zip(cells).map(|(rows, cell)| (rows / total - cell.share).abs()).sum::<f64>() / 2.0
    }

    /// Number of cells; `None` where rows are not spread by cells.
    #[cfg(test)]
    pub(crate) fn cells(&self) -> Option<usize> {
        match &self.way {
            Way::Cells { cells, .. } => Some(cells.iter().filter(|cell| cell.share > 0.0).count()),
            Way::Pairs | Way::Random => None,
        }
    }

    /// Each cell's values and its share of all rows; empty where rows are not spread by cells.
    pub(crate) fn shares(&self) -> impl Iterator<Item = (&Map<String, Value>, f64)> {
        let cells = match &self.way {
            Way::Cells { cells, .. } => cells.as_slice(),
            Way::Pairs | Way::Random => &[],
        };
        cells.iter().map(|cell| (&cell.values, cell.share))
    }
}

impl Iterator for Assignments<'_> {
    type Item = Map<String, Value>;

    fn next(&mut self) -> Option<Self::Item> {
        let tie_break = StreamKey { seed: self.seed, row: self.row, step: 0, attempt: PLANNING };
        let mut deal = Deal::default();
        let listed = || self.attributes.iter().enumerate().filter(|(_, attribute)| !attribute.is_continuous());
        match &mut self.way {
            Way::Cells { cells, marginals, coming } => {
                let ahead = if listed().any(|(_, attribute)| attribute.apart) { ROWS_KEPT_FOR } else { 0 };
                while coming.len() <= ahead {
                    let row = self.row.wrapping_add(coming.len() as u32);
                    let chosen = apportion(cells, marginals, StreamKey { row, ..tie_break });
                    cells[chosen].rows += 1;
                    for (counts, &place) in marginals.iter_mut().zip(&cells[chosen].places) {
                        *counts.entry(place).or_default() += 1.0;
                    }
                    coming.push_back(chosen);
                }
                let in_cells: Vec<usize> = listed().filter(|(_, a)| !a.apart).map(|(at, _)| at).collect();
                let places = |cell: usize| -> Vec<(usize, usize)> {
                    let values = in_cells.iter().copied().zip(cells[cell].places.iter().copied());
                    values.chain([(self.attributes.len(), cell)]).collect()
                };
                if let Some(chosen) = coming.pop_front() {
                    deal.values.clone_from(&cells[chosen].values);
                    deal.places = places(chosen);
                }
                deal.coming = coming.iter().map(|&cell| places(cell)).collect();
            }
            Way::Pairs => {
                for (at, attribute) in listed().filter(|(_, attribute)| !attribute.apart) {
                    self.pairs.deal(at, attribute, &mut deal, tie_break);
                }
            }
            Way::Random => {
                for (at, attribute) in listed() {
                    let (values, weights) = attribute.choices(&deal.values);
                    let place = by_weight(values.len(), weights, tie_break.uniform(at as u32));
                    deal.values.insert(attribute.name.clone(), values[place].clone());
                }
            }
        }
        if !matches!(self.way, Way::Random) {
            for (at, attribute) in listed().filter(|(_, attribute)| attribute.apart) {
                self.pairs.deal(at, attribute, &mut deal, tie_break);
            }
        }
        let mut dealt = deal.values;
        let continuous = self.attributes.iter().filter_map(|attribute| Some((attribute, attribute.range.as_ref()?)));
        for ((attribute, range), index) in continuous.zip(0..) {
            let key = StreamKey { seed: self.seed, row: u32::MAX, step: index, attempt: PLANNING };
            dealt.insert(attribute.name.clone(), spread(range, index, self.row, key.uniform(0)));
        }
        self.row = self.row.wrapping_add(1);
        // In the order of the recipe, whatever the kind.
        Some(self.attributes.iter().filter_map(|a| dealt.remove_entry(&a.name)).collect())
    }
}

/// All combinations of values with their shares by weight; `None` when there are too many.
fn cells(attributes: &[Attribute]) -> Option<Vec<Cell>> {
    let mut cells = vec![Cell { values: Map::new(), places: Vec::new(), share: 1.0, rows: 0 }];
    for attribute in attributes.iter().filter(|attribute| !attribute.is_continuous() && !attribute.apart) {
        let mut longer = Vec::new();
        for cell in &cells {
            let (values, weights) = attribute.choices(&cell.values);
            let total: f64 = if weights.is_empty() { values.len() as f64 } else { weights.iter().sum() };
            if longer.len() + values.len() > MOST_CELLS {
                return None;
            }
            for (at, value) in values.iter().enumerate() {
                let mut next = cell.clone();
                next.values.insert(attribute.name.clone(), value.clone());
                next.places.push(attribute.all_values().position(|other| other == value).unwrap_or(at));
                next.share *= weights.get(at).copied().unwrap_or(1.0) / total;
                longer.push(next);
            }
        }
        cells = longer;
    }
    Some(cells)
}

/// Scales shares so that each quota's cells hold its share together.
fn share_out(cells: &mut [Cell], quotas: &[Quota]) -> Result<(), Fault> {
    let fault = |index: usize, what: String, remedy: &str| Err(Fault::new(format!("/quotas/{index}"), what, remedy));
    let mut owner: Vec<Option<usize>> = vec![None; cells.len()];
    for (index, quota) in quotas.iter().enumerate() {
        for (cell, owner) in cells.iter().zip(&mut owner).filter(|(cell, _)| fits(&quota.is, &cell.values)) {
            if let Some(other) = owner.replace(index) {
                let values = Value::Object(cell.values.clone());
                return fault(index, format!("{values} is in quota {other} too"), "let quotas not overlap");
            }
        }
    }
    let held = |owner: &[Option<usize>], cells: &[Cell], index: Option<usize>| -> f64 {
        cells.iter().zip(owner).filter(|(_, owner)| **owner == index).map(|(cell, _)| cell.share).sum()
    };
    let fixed: f64 = quotas.iter().map(|quota| quota.share).sum();
    if fixed > 1.0 + 1e-9 {
        return fault(quotas.len() - 1, format!("the quotas add up to {fixed}"), "let them add up to 1 at most");
    }
    let mut factors = Vec::new();
    for (index, quota) in quotas.iter().enumerate() {
        let share = held(&owner, cells, Some(index));
        if share == 0.0 && quota.share > 0.0 {
            return fault(index, "no combination of values fits".into(), "compare it with the attributes' values");
        }
        factors.push(if share == 0.0 { 0.0 } else { quota.share / share });
    }
    let rest = held(&owner, cells, None);
    if rest == 0.0 && fixed < 1.0 - 1e-9 && !quotas.is_empty() {
        return fault(0, format!("the quotas hold all rows but add up to {fixed}"), "let them add up to 1");
    }
    let others = if rest == 0.0 { 0.0 } else { (1.0 - fixed).max(0.0) / rest };
    for (cell, owner) in cells.iter_mut().zip(&owner) {
        cell.share *= owner.map_or(others, |index| factors[index]);
    }
    Ok(())
}

/// The cell of the next row by the quota method. Among cells of equal right the one whose values were dealt
/// least comes first, then chance decides.
fn apportion(cells: &[Cell], marginals: &[HashMap<usize, f64>], tie_break: StreamKey) -> usize {
    let house = cells.iter().map(|cell| f64::from(cell.rows)).sum::<f64>() + 1.0;
    let right = |cell: &Cell| cell.share / (f64::from(cell.rows) + 1.0);
    // A cell may not pass its share rounded up.
    let eligible = |cell: &Cell| cell.share > 0.0 && f64::from(cell.rows) < house * cell.share - 1e-9;
    let best = cells.iter().filter(|cell| eligible(cell)).map(right).fold(0.0, f64::max);
    let load = |cell: &Cell| -> f64 {
        cell.places.iter().zip(marginals).map(|(place, counts)| counts.get(place).copied().unwrap_or(0.0)).sum()
    };
    let candidates = cells.iter().enumerate().filter(|(_, cell)| eligible(cell) && right(cell) >= best * (1.0 - 1e-12));
    let chance = |index: usize| tie_break.words(index as u32)[0];
    let first = candidates
        .map(|(index, cell)| (load(cell), chance(index), index))
        .min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
    first.map_or(0, |(_, _, index)| index)
}

/// What a row has been dealt so far.
#[derive(Default)]
struct Deal {
    values: Map<String, Value>,
    /// Each attribute's index and the place of its value; a cell counts as an attribute behind the last one.
    places: Vec<(usize, usize)>,
    /// The same of rows to come, as far as it is known.
    coming: Vec<Vec<(usize, usize)>>,
}

/// Values dealt one attribute at a time, each within one row of its share, joined so that pairs are met evenly.
///
/// The shares are kept as in Tijdeman's chairman assignment ("The chairman assignment problem", 1980): a value
/// may get its next row once its share has passed its count, and has a turn by which it must. Among those that
/// leave every other value its turn, the one that was met least with what the row has is dealt; where a round of
/// values is dealt, that is weighed against what the rows to come in this round have.
#[derive(Default)]
struct Pairs {
    /// By attribute and case: values of different cases are counted apart.
    turns: FxHashMap<(usize, usize), Turns>,
    /// Rows that have two values, by the attribute and place of each.
    joined: FxHashMap<(usize, usize, usize, usize), u32>,
}

/// Values of one attribute, dealt so far.
struct Turns {
    shares: Vec<f64>,
    counts: Vec<u32>,
    rows: u32,
    /// All shares are alike: a value is dealt once in a round, and these are left of this one.
    left: Option<Vec<usize>>,
}

impl Pairs {
    /// Deals a value of `attribute`, the one of index `index`.
    fn deal(&mut self, index: usize, attribute: &Attribute, deal: &mut Deal, tie_break: StreamKey) {
        let case = attribute.when.iter().position(|case| fits(&case.is, &deal.values)).map_or(0, |case| case + 1);
        let (values, weights) = attribute.choices(&deal.values);
        let turns = self.turns.entry((index, case)).or_insert_with(|| Turns::new(values.len(), weights));
        let place = |at: usize| case * (1 << 20) + at;
        let joined = &self.joined;
        let met = |at: usize, places: &[(usize, usize)]| -> f64 {
            let with = |&(other, chosen): &(usize, usize)| joined.get(&(other, chosen, index, place(at)));
            f64::from(places.iter().filter_map(with).sum::<u32>())
        };
        // Under a condition it is not known which rows to come are of this case.
        let in_round = if attribute.when.is_empty() { turns.left_after_this() } else { 0 };
        let coming = &deal.coming[..in_round.min(deal.coming.len())];
        let needed = |at: usize| coming.iter().map(|places| met(at, places)).sum::<f64>() / coming.len().max(1) as f64;
        let chance = |at: usize| tie_break.words((index as u32) << 20 | at as u32)[0];
        let at = turns.next(|at, share| ((met(at, &deal.places) - needed(at)) / share, chance(at)), tie_break);
        for &(other, chosen) in &deal.places {
            *self.joined.entry((other, chosen, index, place(at))).or_default() += 1;
        }
        deal.places.push((index, place(at)));
        deal.values.insert(attribute.name.clone(), values[at].clone());
    }
}

impl Turns {
    fn new(count: usize, weights: &[f64]) -> Self {
        let alike = weights.iter().all(|weight| *weight == weights[0]);
        let total: f64 = if weights.is_empty() { count as f64 } else { weights.iter().sum() };
        let shares = (0..count).map(|at| weights.get(at).copied().unwrap_or(1.0) / total).collect();
        Self { shares, counts: vec![0; count], rows: 0, left: alike.then(Vec::new) }
    }

    /// Rows of the present round that come after the next one.
    fn left_after_this(&self) -> usize {
        self.left.as_ref().map_or(0, |left| if left.is_empty() { self.shares.len() } else { left.len() } - 1)
    }

    /// Deals the value of the least rank; `rank` gets a value's place and share.
    fn next(&mut self, rank: impl Fn(usize, f64) -> (f64, u32), tie_break: StreamKey) -> usize {
        let least = |among: &mut dyn Iterator<Item = usize>| {
            let ranked = among.map(|at| (rank(at, self.shares[at]), at));
            let order =
                |a: &((f64, u32), usize), b: &((f64, u32), usize)| a.0.0.total_cmp(&b.0.0).then(a.0.1.cmp(&b.0.1));
            ranked.min_by(|a, b| order(a, b).then(a.1.cmp(&b.1))).map_or(0, |(_, at)| at)
        };
        let chosen = match &mut self.left {
            Some(left) => {
                if left.is_empty() {
                    left.extend(0..self.shares.len());
                }
                // Of very many values some are looked at, from a place that chance names.
                let from = tie_break.words(u32::MAX)[1] as usize % left.len();
                let chosen = least(&mut left.iter().cycle().skip(from).take(left.len().min(MOST_COMPARED)).copied());
                left.retain(|at| *at != chosen);
                chosen
            }
            None => least(&mut self.candidates().into_iter()),
        };
        self.counts[chosen] += 1;
        self.rows += 1;
        chosen
    }

    /// The values that may be dealt now so that none will be a row or more from its share.
    fn candidates(&self) -> Vec<usize> {
        let all = || self.shares.iter().zip(&self.counts).enumerate().filter(|(_, (share, _))| **share > 0.0);
        let earned = |share: f64, rows: u32| share * f64::from(rows);
        let open = all().filter(|(_, (share, count))| f64::from(**count) < earned(**share, self.rows + 1) - 1e-9);
        let open: Vec<usize> = open.map(|(at, _)| at).collect();
        // How many rows from now a value must have its next row but `more`.
        let turn = |share: f64, count: u32, more: u32| {
            (((f64::from(count + more) + 1.0 - 1e-9) / share).ceil() as u32).saturating_sub(self.rows).max(1)
        };
        // Values ahead of their shares leave the others more turns than rows, until their shares have passed them.
        let ahead = all().filter(|(_, (share, count))| f64::from(**count) > earned(**share, self.rows) + 1e-9);
        let until = ahead.map(|(_, (share, count))| (f64::from(*count) / share).ceil() as u32 - self.rows).max();
        let until = until.unwrap_or(1).min(MOST_AHEAD);
        let mut due = vec![0u32; until as usize + 1];
        for (_, (share, count)) in all() {
            let turns = (0..).map(|more| turn(*share, *count, more));
            turns.take_while(|turn| *turn <= until).for_each(|turn| due[turn as usize] += 1);
        }
        let mut sum = 0;
        let full = (1..=until).find(|rows| {
            sum += due[*rows as usize];
            sum >= *rows
        });
        match full {
            Some(rows) => open.into_iter().filter(|at| turn(self.shares[*at], self.counts[*at], 0) <= rows).collect(),
            None => open,
        }
    }
}

/// The place that a uniform number in `[0, 1)` falls on.
fn by_weight(count: usize, weights: &[f64], uniform: f64) -> usize {
    if weights.is_empty() {
        return ((uniform * count as f64) as usize).min(count.saturating_sub(1));
    }
    let mut left = uniform * weights.iter().sum::<f64>();
    for (at, weight) in weights.iter().enumerate() {
        left -= weight;
        if left < 0.0 {
            return at;
        }
    }
    weights.iter().rposition(|weight| *weight > 0.0).unwrap_or(0)
}

/// Bases of the Halton sequence, one a continuous attribute; later attributes share them, shifted otherwise.
const BASES: [u32; 8] = [2, 3, 5, 7, 11, 13, 17, 19];

fn spread(range: &Range, index: u16, row: u32, shift: f64) -> Value {
    let base = BASES[usize::from(index) % BASES.len()];
    let (mut inverse, mut digit, mut rest) = (0.0, 1.0 / f64::from(base), row);
    while rest > 0 {
        inverse += f64::from(rest % base) * digit;
        digit /= f64::from(base);
        rest /= base;
    }
    number(range.from + (inverse + shift).fract() * (range.to - range.from))
}

#[cfg(test)]
mod tests {
    use super::super::attributes::Case;
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn attribute(name: &str, count: usize) -> Attribute {
        Attribute::of(name, (0..count).map(|value| json!(format!("{name}{value}"))).collect())
    }

    fn deal(attributes: &[Attribute], balance: Balance, rows: usize) -> Vec<Map<String, Value>> {
        Assignments::new(attributes, &[], balance, 7).expect("it can be dealt").take(rows).collect()
    }

    proptest! {
        #[test]
        fn every_cell_has_its_share_after_any_number_of_rows(
            weights in prop::collection::vec(0u32..5, 1..9), others in 1usize..5, seed in 0u64..50
        ) {
            prop_assume!(weights.iter().any(|weight| *weight > 0));
            let mut first = attribute("a", weights.len());
            first.weights = weights.iter().map(|weight| f64::from(*weight)).collect();
            let attributes = [first, attribute("b", others)];
            let mut assignments = Assignments::new(&attributes, &[], Balance::Cells, seed).expect("few cells");
            let shares: Vec<_> = assignments.shares().map(|(values, share)| (values.clone(), share)).collect();
            let mut counts = vec![0u32; shares.len()];
            for row in 1..200u32 {
                let dealt = assignments.next().expect("it is endless");
                counts[shares.iter().position(|(values, _)| *values == dealt).expect("a cell")] += 1;
                for ((_, share), count) in shares.iter().zip(&counts) {
                    prop_assert!((f64::from(*count) - share * f64::from(row)).abs() < 1.0 + 1e-9);
                }
            }
        }

        #[test]
        fn without_cells_values_keep_their_share_and_pairs_are_met(first in 2usize..7, second in 2usize..7) {
            let attributes = [attribute("a", first), attribute("b", second)];
            let rows = deal(&attributes, Balance::Pairs, first * second * 3);
            for (attribute, count) in attributes.iter().zip([first, second]) {
                for value in &attribute.values {
                    for end in 1..=rows.len() {
                        let has = rows[..end].iter().filter(|row| row[&attribute.name] == *value).count();
                        let share = end as f64 / count as f64;
                        prop_assert!((has as f64 - share).abs() < 1.0 + 1e-9, "{has} of {share}");
                    }
                }
            }
            let mut pairs: Vec<String> = rows.iter().map(|row| Value::Object(row.clone()).to_string()).collect();
            pairs.sort();
            pairs.dedup();
            prop_assert_eq!(pairs.len(), first * second);
        }
    }

    #[test]
    fn the_first_rows_differ_in_every_attribute() {
        let attributes = [attribute("topic", 32), attribute("opening", 14)];
        let rows = deal(&attributes, Balance::Auto, 14);
        for name in ["topic", "opening"] {
            let mut values: Vec<&str> = rows.iter().filter_map(|row| row[name].as_str()).collect();
            values.sort_unstable();
            values.dedup();
            assert_eq!(values.len(), 14, "{name}");
        }
    }

    /// Counts of the pairs of values that two attributes have in `rows`.
    fn joined(rows: &[Map<String, Value>], one: &str, other: &str) -> Vec<u32> {
        let mut counts: HashMap<String, u32> = HashMap::new();
        rows.iter().for_each(|row| *counts.entry(format!("{} {}", row[one], row[other])).or_default() += 1);
        counts.into_values().collect()
    }

    proptest! {
        #[test]
        fn an_attribute_apart_leaves_the_cells_alone_and_goes_round_within_them(
            first in 1usize..5, second in 1usize..4, weights in prop::collection::vec(0u32..30, 1..12),
            before in any::<bool>(), seed in 0u64..50,
        ) {
            prop_assume!(weights.iter().any(|weight| *weight > 0));
            let cells = [attribute("a", first), attribute("b", second)];
            let mut apart = Attribute { apart: true, ..attribute("c", weights.len()) };
            apart.weights = weights.iter().map(|weight| f64::from(*weight)).collect();
            let all = if before {
                [apart.clone(), cells[0].clone(), cells[1].clone()]
            } else {
                [cells[0].clone(), cells[1].clone(), apart.clone()]
            };
            let alone = Assignments::new(&cells, &[], Balance::Cells, seed).expect("few cells");
            let with = Assignments::new(&all, &[], Balance::Cells, seed).expect("few cells");
            prop_assert_eq!(with.cells(), Some(first * second));
            let total = f64::from(weights.iter().sum::<u32>());
            let mut counts = vec![0u32; weights.len()];
            for (row, (mut with, alone)) in (1..300u32).zip(with.zip(alone)) {
                let value = with.remove("c").expect("it is dealt to every row");
                prop_assert_eq!(with, alone);
                counts[apart.values.iter().position(|other| *other == value).expect("one of its values")] += 1;
                for (count, weight) in counts.iter().zip(&weights) {
                    let share = f64::from(row) * f64::from(*weight) / total;
                    prop_assert!((f64::from(*count) - share).abs() < 1.0 + 1e-9, "{count} of {share}");
                }
            }
        }

        #[test]
        fn an_attribute_apart_meets_every_value_of_the_others_evenly(
            first in 2usize..6, second in 2usize..5, count in 2usize..15, seed in 0u64..50,
        ) {
            let all = [attribute("a", first), attribute("b", second), Attribute { apart: true, ..attribute("c", count) }];
            let rows = Assignments::new(&all, &[], Balance::Auto, seed).expect("few cells");
            let rows: Vec<_> = rows.take(first * second * count).collect();
            for (other, values) in [("a", first), ("b", second)] {
                let even = (rows.len() / values / count) as u32;
                let met = joined(&rows, other, "c");
                let unmet = values * count - met.len();
                let off = |count: &u32| count.abs_diff(even);
                prop_assert!(met.iter().all(|count| off(count) <= 2) && (unmet == 0 || even < 3), "{met:?} of {even}");
                let total = met.iter().map(off).sum::<u32>() as usize + unmet * even as usize;
                prop_assert!(total <= values * count, "{met:?} of {even}: more than 1 apart in the mean");
            }
        }
    }

    #[test]
    fn a_condition_holds_for_an_attribute_apart_too() {
        let is = json!({"level": "level0"}).as_object().expect("an object").clone();
        let mut tone = Attribute { apart: true, ..attribute("tone", 3) };
        tone.when = vec![Case { is, values: vec![json!("plain")], weights: vec![] }];
        for balance in [Balance::Cells, Balance::Pairs, Balance::Random] {
            let rows = deal(&[attribute("level", 2), tone.clone()], balance, 60);
            for row in &rows {
                assert_eq!(row["tone"] == "plain", row["level"] == "level0", "{balance:?}: {row:?}");
            }
        }
    }

    #[test]
    fn conditional_values_follow_their_condition() {
        let mut tone = attribute("tone", 2);
        let is = json!({"level": ["level0", "level1"]});
        let is = is.as_object().expect("an object").clone();
        tone.when = vec![Case { is, values: vec![json!("plain")], weights: vec![] }];
        let attributes = [attribute("level", 3), tone];
        for balance in [Balance::Cells, Balance::Pairs, Balance::Random] {
            let rows = deal(&attributes, balance, 60);
            for row in &rows {
                assert_eq!(row["tone"] == "plain", row["level"] != "level2", "{row:?}");
            }
            assert!(rows.iter().any(|row| row["tone"] == "tone1"), "{balance:?}");
        }
    }

    #[test]
    fn quotas_fix_shares_and_refuse_what_cannot_be() {
        let attributes = [attribute("a", 4), attribute("b", 2)];
        let quota = |is: Value, share| Quota { is: is.as_object().expect("an object").clone(), share };
        let quotas = [quota(json!({"a": "a0"}), 0.5), quota(json!({"a": "a1", "b": "b0"}), 0.0)];
        let dealt = Assignments::new(&attributes, &quotas, Balance::Auto, 1).expect("they can be met");
        let rows: Vec<_> = dealt.take(100).collect();
        assert_eq!(rows.iter().filter(|row| row["a"] == "a0").count(), 50);
        assert!(rows.iter().all(|row| row["a"] != "a1" || row["b"] != "b0"));
        let at = |quotas: &[Quota], balance| Assignments::new(&attributes, quotas, balance, 1).err().map(|f| f.at);
        let overlap = [quota(json!({"a": "a0"}), 0.5), quota(json!({"b": "b0"}), 0.1)];
        assert_eq!(at(&overlap, Balance::Auto).as_deref(), Some("/quotas/1"));
        assert_eq!(at(&overlap[..1], Balance::Pairs).as_deref(), Some("/quotas"));
        let over = [quota(json!({"a": "a0"}), 0.8), quota(json!({"a": "a1"}), 0.8)];
        assert_eq!(at(&over, Balance::Auto).as_deref(), Some("/quotas/1"));
    }

    #[test]
    fn continuous_ranges_are_spread_evenly_and_stay_in_bounds() {
        let range = Range { from: 2.0, to: 4.0, step: None };
        let attributes = [Attribute { name: "t".into(), range: Some(range), ..Attribute::default() }];
        let rows = deal(&attributes, Balance::Auto, 64);
        let mut bins = [0; 8];
        for row in &rows {
            let value = row["t"].as_f64().expect("a number");
            assert!((2.0..=4.0).contains(&value));
            bins[(((value - 2.0) * 4.0) as usize).min(7)] += 1;
        }
        assert!(bins.iter().all(|&count| (6..=10).contains(&count)), "{bins:?}");
    }
}
