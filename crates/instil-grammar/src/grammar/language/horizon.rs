//! What can be seen of an expression within some characters: counts far from their bounds put out of sight, and bounds
//! on what is still to come.
//!
//! The laws, for an expression free of and, not and named parts (so every derivative that is left has a word), and `h`
//! characters of sight. That two expressions agree means: the same strings of up to `h` characters are words of
//! them, and the same are prefixes of words.
//!
//! - `x{m,n}` agrees with `x{min(m,h+1),n'}`, `n'` unbounded where `n` is above `h+1`, where `ε` is not in `x`: each
//!   round takes a character, so `h` characters finish at most `h` rounds and begin one more; no count above shows.
//! - `ab` agrees with `a` alone where the shortest word of `a` is longer than `h`: no string in sight gets past `a`.
//!   Else, `r` being the length of that word, `b` begins after `r` characters at least and need agree in `h-r` only.
//! - `a|b` agrees with `a'|b'` where `a` agrees with `a'` and `b` with `b'`: it is said of words and prefixes, one by one.
//! - `a&.{0,n}` agrees with `a` where any prefix of `a` can be completed within `w` characters and `h+w` is at most `n`:
//!   then a string in sight has a completion that the bound lets pass, and is itself short enough.
//! - Such a `w` of `ab` is the greater of that of `b`, and that of `a` with the shortest word of `b`: a prefix ends in the
//!   one or in the other. That of `x{m,n}` is that of `x` with `m-1` shortest words of `x`: the round that is open, and
//!   those still owed.

use super::super::charset::CharSet;
use super::{Cost, Expr, ExprId, INFINITE, Languages};

impl Languages {
    /// A bound on the length that no prefix of `horizon` characters comes near is out of sight.
    pub(super) fn bounded_horizon(&mut self, e: ExprId, items: &[ExprId], horizon: u32) -> ExprId {
        let [a, b] = items[..] else { return e };
        for (bound, inner) in [(a, b), (b, a)] {
            if let Some((0, max)) = self.as_length(bound)
                && self.info[inner as usize].positive
            {
                let need = self.worst_rest(inner).saturating_add(horizon);
                return if max > need { self.horizon(inner, horizon) } else { e };
            }
        }
        e
    }

    /// An upper bound on the shortest completion of any prefix of a positive expression, in characters.
    pub(super) fn worst_rest(&self, e: ExprId) -> u32 {
        match &self.nodes[e as usize] {
            Expr::None | Expr::Any | Expr::Epsilon => 0,
            Expr::Class(_) => 1,
            Expr::Words { .. } => self.words_length(e).1,
            Expr::Concat(..) => {
                let mut e = e;
                let mut worst = 0u32;
                let mut heads = Vec::new();
                while let Expr::Concat(head, tail) = self.nodes[e as usize] {
                    heads.push(head);
                    e = tail;
                }
                worst = worst.max(self.worst_rest(e));
                let mut rest = self.length(e).0;
                for &head in heads.iter().rev() {
                    worst = worst.max(self.worst_rest(head).saturating_add(rest));
                    rest = rest.saturating_add(self.length(head).0);
                }
                worst
            }
            Expr::Or(items) => items.iter().map(|&item| self.worst_rest(item)).max().unwrap_or(0),
            Expr::Repeat(inner, min, _) => {
                let rounds = self.length(*inner).0.saturating_mul(min.saturating_sub(1));
                self.worst_rest(*inner).saturating_add(rounds)
            }
            Expr::And(_) | Expr::Not(_) | Expr::Fix(_) | Expr::Multiple { .. } => INFINITE,
            Expr::Leap { .. } => 15,
        }
    }

    /// Characters that may begin a word in any number and order, as a repeated class at the beginning says.
    pub fn absorbs(&self, e: ExprId) -> Option<&CharSet> {
        match &self.nodes[e as usize] {
            Expr::Concat(head, tail) if self.info[*tail as usize].positive => self.absorbs(*head),
            Expr::Repeat(inner, _, INFINITE) => match &self.nodes[*inner as usize] {
                Expr::Class(class) => Some(&self.classes[*class as usize]),
                _ => None,
            },
            Expr::Or(items) => {
                let sets = items.iter().filter_map(|&item| self.absorbs(item));
                sets.max_by_key(|set| (set.ascii.count_ones(), set.wide.iter().map(|(a, b)| b - a).sum::<u32>()))
            }
            _ => None,
        }
    }

    /// An upper bound on the bytes of the shortest completion of any prefix of up to `horizon` characters.
    pub fn worst_cost(&self, e: ExprId, horizon: u32, cost: Cost) -> Option<u32> {
        const WIDEST: u32 = 6;
        let worst = match &self.nodes[e as usize] {
            Expr::And(items) => {
                let [a, b] = items[..] else { return None };
                let (max, inner) = match (self.as_length(a), self.as_length(b)) {
                    (Some((0, max)), _) => (max, b),
                    (_, Some((0, max))) => (max, a),
                    _ => return None,
                };
                // Far from the bound on the length a completion of the rest fits; near it no word is long.
                if self.worst_rest(inner).saturating_add(horizon) <= max {
                    return self.worst_cost(inner, horizon, cost);
                }
                max.saturating_mul(WIDEST)
            }
            Expr::Concat(..) => {
                let mut worst = 0;
                let mut e = e;
                while let Expr::Concat(head, tail) = self.nodes[e as usize] {
                    let rest = self.info[tail as usize].cost[cost as usize];
                    worst = worst.max(self.worst_cost(head, horizon, cost)?.saturating_add(rest));
                    e = tail;
                }
                worst.max(self.worst_cost(e, horizon, cost)?)
            }
            Expr::Or(items) => {
                let worst = |&item: &ExprId| self.worst_cost(item, horizon, cost);
                items.iter().map(worst).collect::<Option<Vec<_>>>()?.into_iter().max()?
            }
            Expr::Repeat(inner, min, _) => {
                let rounds = self.info[*inner as usize].cost[cost as usize].saturating_mul(min.saturating_sub(1));
                self.worst_cost(*inner, horizon, cost)?.saturating_add(rounds)
            }
            Expr::Class(_) => self.info[e as usize].cost[cost as usize],
            _ => match self.worst_rest(e) {
                INFINITE => return None,
                characters => characters.saturating_mul(WIDEST),
            },
        };
        Some(worst)
    }

    /// A language whose words and prefixes agree with those of `e` up to `horizon` characters: counts far from
    /// their bounds are saturated. Only for expressions without and, not (but for a bound on the length); others come
    /// back as they are.
    pub fn horizon(&mut self, e: ExprId, horizon: u32) -> ExprId {
        if let Expr::And(items) = self.nodes[e as usize].clone() {
            return self.bounded_horizon(e, &items, horizon);
        }
        if !self.info[e as usize].positive || self.length(e).1 <= horizon {
            return e;
        }
        match self.nodes[e as usize].clone() {
            Expr::Concat(head, tail) => {
                let reach = self.length(head).0;
                let head = self.horizon(head, horizon);
                let tail = if reach > horizon { tail } else { self.horizon(tail, horizon - reach) };
                if reach > horizon { head } else { self.concat(head, tail) }
            }
            Expr::Or(items) => {
                let parts = items.iter().map(|&item| self.horizon(item, horizon)).collect();
                self.or(parts)
            }
            Expr::Repeat(inner, min, max) if !self.nullable(inner) => {
                // Each round takes a character at least, so more than `horizon` rounds are out of sight.
                let far = horizon + 1;
                let max = if max > far { INFINITE } else { max };
                self.repeat(inner, min.min(far), max)
            }
            _ => e,
        }
    }
}
