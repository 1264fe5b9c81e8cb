//! Either, both, not: each simplified as far as is cheap, so that equal languages mostly have equal expressions.
//!
//! The laws, for languages `a`, `b`, `c` over characters; `.{m,n}` are the strings of such a length.
//!
//! - Union and intersection are associative, commutative and idempotent: members are flattened, sorted, each kept once.
//!   Nothing and everything are their units and zeros.
//! - `a|!a` is everything, `a&!a` nothing, `!!a` is `a`: a string is a word or it is not.
//! - `a|.{m,}` is `.{m,}` where no word of `a` is shorter than `m`: then every word of `a` is a word of it.
//! - `a|ε` is `a` where `ε` is a word of `a`; `a&ε` is `ε` where it is, else nothing: `ε` is one word.
//! - `ab|ac` is `a(b|c)`: a word of either is one of `a` followed by one of `b` or of `c`.
//! - `x{i,j}a|x{k,l}a` is `x{min(i,k),max(j,l)}a` where the counts overlap or adjoin: then their union has no gap.
//! - `(a|b)&c` is `a&c|b&c`: in both, the string is in `c` and in one of `a`, `b`.
//! - `a&b` is nothing where the longest word of one is shorter than the shortest of the other: no length is left.
//! - `a&.{m,n}`, where `a` is `x{i,j}` between parts of one length each, `f` together, and every `x` has length `u`: a
//!   word with `k` rounds has length `f+ku`, so it is `a` with the `k` from `⌈(m-f)/u⌉` to `⌊(n-f)/u⌋` within `i,j`.
//! - `!.{m,n}` is `.{0,m-1}|.{n+1,}`: a length outside of an interval is below or above it.
//! - A finite set of words met with anything is those of the words that are in it, by definition.

use super::{ANY, EPSILON, Expr, ExprId, FILTER_LIMIT, FULL, INFINITE, Languages, NONE};

impl Languages {
    /// Either of two.
    pub(crate) fn or2(&mut self, a: ExprId, b: ExprId) -> ExprId {
        match (a, b) {
            (NONE, other) | (other, NONE) => other,
            (ANY, _) | (_, ANY) => ANY,
            (a, b) if a == b => a,
            _ => self.or(vec![a, b]),
        }
    }

    /// Any of them.
    pub(crate) fn or(&mut self, items: Vec<ExprId>) -> ExprId {
        self.or_factored(items, 32)
    }

    pub(super) fn or_factored(&mut self, items: Vec<ExprId>, depth: u32) -> ExprId {
        let mut flat = Vec::with_capacity(items.len());
        for item in items {
            match &self.nodes[item as usize] {
                Expr::None => {}
                Expr::Any => return ANY,
                Expr::Or(inner) => flat.extend_from_slice(inner),
                _ => flat.push(item),
            }
        }
        flat.sort_unstable();
        flat.dedup();
        if flat.len() <= 1 {
            return flat.first().copied().unwrap_or(NONE);
        }
        if let Some(least) = flat.iter().filter_map(|&e| self.as_at_least(e)).min() {
            flat.retain(|&e| self.length(e).0 < least || self.as_at_least(e) == Some(least));
        }
        let classes: Vec<u32> = flat
            .iter()
            .filter_map(|&e| if let Expr::Class(class) = self.nodes[e as usize] { Some(class) } else { None })
            .collect();
        if classes.len() > 1 {
            flat.retain(|&e| !matches!(self.nodes[e as usize], Expr::Class(_)));
            let set = classes[1..].iter().fold(self.classes[classes[0] as usize].clone(), |set, &class| {
                set.union(&self.classes[class as usize])
            });
            flat.push(self.class(set));
        }
        for &e in &flat {
            if let Expr::Not(inner) = self.nodes[e as usize]
                && flat.contains(&inner)
            {
                return ANY;
            }
        }
        if flat.contains(&EPSILON) && flat.iter().any(|&e| e != EPSILON && self.nullable(e)) {
            flat.retain(|&e| e != EPSILON);
        }
        if depth > 0 && flat.len() <= 256 {
            flat = self.factor(flat, depth);
        }
        flat.sort_unstable();
        flat.dedup();
        if flat.len() == 1 { flat[0] } else { self.intern(Expr::Or(flat.into())) }
    }

    /// Joins alternatives with one head (`ab|ac` → `a(b|c)`) or one repeated part and one rest
    /// (`a{0,3}b|a{2,5}b` → `a{0,5}b`).
    pub(super) fn factor(&mut self, mut items: Vec<ExprId>, depth: u32) -> Vec<ExprId> {
        let split = |this: &Self, e: ExprId| match this.nodes[e as usize] {
            Expr::Concat(head, tail) => (head, tail),
            _ => (e, EPSILON),
        };
        let mut i = 0;
        while i < items.len() {
            let (head, tail) = split(self, items[i]);
            let (x, min, max) = self.as_repeat(head);
            let mut j = i + 1;
            let mut merged = None;
            while j < items.len() {
                let (other_head, other_tail) = split(self, items[j]);
                let (y, other_min, other_max) = self.as_repeat(other_head);
                if head != other_head
                    && x == y
                    && tail == other_tail
                    && min <= other_max.saturating_add(1)
                    && other_min <= max.saturating_add(1)
                {
                    let joined = self.repeat(x, min.min(other_min), max.max(other_max));
                    merged = Some(self.concat(joined, tail));
                    break;
                }
                j += 1;
            }
            if let Some(merged) = merged {
                items.swap_remove(j);
                items.swap_remove(i);
                if merged == ANY {
                    return vec![ANY];
                }
                items.push(merged);
                i = 0;
                continue;
            }
            i += 1;
        }
        let mut heads: Vec<(ExprId, ExprId)> = items.iter().map(|&e| split(self, e)).collect();
        heads.sort_unstable();
        if heads.windows(2).all(|pair| pair[0].0 != pair[1].0) {
            return items;
        }
        let mut result = Vec::new();
        let mut start = 0;
        while start < heads.len() {
            let head = heads[start].0;
            let end = start + heads[start..].iter().take_while(|pair| pair.0 == head).count();
            let tails: Vec<ExprId> = heads[start..end].iter().map(|pair| pair.1).collect();
            let tail = if tails.len() == 1 { tails[0] } else { self.or_factored(tails, depth - 1) };
            let joined = self.concat(head, tail);
            // What was joined may be an alternation or a constant again.
            match &self.nodes[joined as usize] {
                Expr::Or(inner) => result.extend_from_slice(inner),
                Expr::Any => return vec![ANY],
                _ => result.push(joined),
            }
            start = end;
        }
        result
    }

    /// Both.
    pub(crate) fn and2(&mut self, a: ExprId, b: ExprId) -> ExprId {
        match (a, b) {
            (NONE, _) | (_, NONE) => NONE,
            (ANY, other) | (other, ANY) => other,
            (a, b) if a == b => a,
            _ => self.and(vec![a, b]),
        }
    }

    /// All of them.
    pub(crate) fn and(&mut self, items: Vec<ExprId>) -> ExprId {
        let mut flat = Vec::with_capacity(items.len());
        for item in items {
            match &self.nodes[item as usize] {
                Expr::Any => {}
                Expr::None => return NONE,
                Expr::And(inner) => flat.extend_from_slice(inner),
                _ => flat.push(item),
            }
        }
        flat.sort_unstable();
        flat.dedup();
        if flat.len() <= 1 {
            return flat.first().copied().unwrap_or(ANY);
        }
        if flat.contains(&EPSILON) {
            return if flat.iter().all(|&e| self.nullable(e)) { EPSILON } else { NONE };
        }
        for &e in &flat {
            if let Expr::Not(inner) = self.nodes[e as usize]
                && flat.contains(&inner)
            {
                return NONE;
            }
        }
        let (low, high) = flat.iter().fold((0, INFINITE), |(low, high), &e| {
            let (min, max) = self.length(e);
            (low.max(min), high.min(max))
        });
        if low > high {
            return NONE;
        }
        if let Some(words) = self.filter_words(&flat) {
            return words;
        }
        if let Some(class) = self.meet_classes(&mut flat)
            && class == NONE
        {
            return NONE;
        }
        self.fold_length(&mut flat);
        if flat.contains(&NONE) {
            return NONE;
        }
        flat.sort_unstable();
        flat.dedup();
        if flat.len() == 1 {
            return flat[0];
        }
        // Derivatives of named parts stay finitely many only in disjunctive form.
        if flat.iter().any(|&e| self.info[e as usize].recursive)
            && let Some(at) = flat.iter().position(|&e| matches!(self.nodes[e as usize], Expr::Or(_)))
            && let Expr::Or(alternatives) = self.nodes[flat[at] as usize].clone()
            && alternatives.len() <= 64
        {
            flat.swap_remove(at);
            let parts = alternatives
                .iter()
                .map(|&alternative| {
                    let mut items = flat.clone();
                    items.push(alternative);
                    self.and(items)
                })
                .collect();
            return self.or(parts);
        }
        self.intern(Expr::And(flat.into()))
    }

    pub(super) fn filter_words(&mut self, items: &[ExprId]) -> Option<ExprId> {
        let (at, set, low, high, depth) = items
            .iter()
            .enumerate()
            .filter_map(|(at, &e)| match self.nodes[e as usize] {
                Expr::Words { set, low, high, depth } => Some((at, set, low, high, depth)),
                _ => None,
            })
            .min_by_key(|&(_, _, low, high, _)| high - low)?;
        if high - low > FILTER_LIMIT && !items.iter().all(|&e| self.is_words(e)) {
            return None;
        }
        let words = self.words[set as usize].clone();
        let words = &words[low as usize..high as usize];
        let kept: Vec<&Box<str>> = words
            .iter()
            .filter(|word| {
                items.iter().enumerate().all(|(other, &e)| other == at || self.matches(e, &word[depth as usize..]))
            })
            .collect();
        if kept.len() == words.len() {
            return Some(items[at]);
        }
        let kept: Vec<Box<str>> = kept.into_iter().map(|word| word[depth as usize..].into()).collect();
        Some(self.words(kept))
    }

    /// Word sets and their complements, where membership is a binary search.
    pub(super) fn is_words(&self, e: ExprId) -> bool {
        match self.nodes[e as usize] {
            Expr::Words { .. } | Expr::Class(_) => true,
            Expr::Not(inner) => self.is_words(inner),
            _ => false,
        }
    }

    pub(super) fn meet_classes(&mut self, flat: &mut Vec<ExprId>) -> Option<ExprId> {
        let classes: Vec<u32> = flat
            .iter()
            .filter_map(|&e| if let Expr::Class(class) = self.nodes[e as usize] { Some(class) } else { None })
            .collect();
        if classes.len() < 2 {
            return None;
        }
        flat.retain(|&e| !matches!(self.nodes[e as usize], Expr::Class(_)));
        let set = classes[1..].iter().fold(self.classes[classes[0] as usize].clone(), |set, &class| {
            set.intersection(&self.classes[class as usize])
        });
        let class = self.class(set);
        flat.push(class);
        Some(class)
    }

    /// Moves a bound on the length (`.{m,n}`) into another member where that is exact.
    pub(super) fn fold_length(&mut self, flat: &mut Vec<ExprId>) {
        let (mut min, mut max) = (0, INFINITE);
        for &e in flat.iter() {
            if let (FULL, low, high) = self.as_repeat(e) {
                (min, max) = (min.max(low), max.min(high));
            }
        }
        if (min, max) == (0, INFINITE) {
            return;
        }
        flat.retain(|&e| self.as_repeat(e).0 != FULL);
        let bound = self.repeat(FULL, min, max);
        if bound == NONE || flat.is_empty() {
            flat.push(bound);
            return;
        }
        for part in flat.iter_mut() {
            if let Some(folded) = self.bound_length(*part, min, max) {
                *part = folded;
                return;
            }
        }
        flat.push(bound);
    }

    /// `e` with its length bounded, as one expression, where the bound falls on one repeat.
    pub(super) fn bound_length(&mut self, e: ExprId, min: u32, max: u32) -> Option<ExprId> {
        let (low, high) = self.length(e);
        if low >= min && high <= max {
            return Some(e);
        }
        if low > max || high < min {
            return Some(NONE);
        }
        match self.nodes[e as usize].clone() {
            Expr::Or(items) if items.len() <= 8 => {
                let parts = items.iter().map(|&item| self.bound_length(item, min, max)).collect::<Option<Vec<_>>>()?;
                Some(self.or(parts))
            }
            Expr::Words { set, low, high, depth } if high - low <= FILTER_LIMIT => {
                let kept: Vec<Box<str>> = self.words[set as usize][low as usize..high as usize]
                    .iter()
                    .map(|word| &word[depth as usize..])
                    .filter(|word| {
                        let count = u32::try_from(word.chars().count()).unwrap_or(INFINITE);
                        min <= count && count <= max
                    })
                    .map(Into::into)
                    .collect();
                Some(self.words(kept))
            }
            Expr::Concat(..) | Expr::Repeat(..) => {
                let mut parts = Vec::new();
                let mut rest = e;
                while let Expr::Concat(head, tail) = self.nodes[rest as usize] {
                    parts.push(head);
                    rest = tail;
                }
                parts.push(rest);
                let mut fixed = 0u32;
                let mut open = None;
                for (at, &part) in parts.iter().enumerate() {
                    match self.length(part) {
                        (low, high) if low == high => fixed = fixed.saturating_add(low),
                        _ if open.is_none() => open = Some(at),
                        _ => return None,
                    }
                }
                let at = open?;
                let (x, x_min, x_max) = self.as_repeat(parts[at]);
                let (unit, unit_max) = self.length(x);
                if unit != unit_max || unit == 0 || unit == INFINITE {
                    return None;
                }
                let least = min.saturating_sub(fixed).div_ceil(unit).max(x_min);
                let most = if max == INFINITE { x_max } else { (max.checked_sub(fixed)? / unit).min(x_max) };
                parts[at] = self.repeat(x, least, most);
                Some(self.sequence(&parts))
            }
            _ => None,
        }
    }

    /// Every string that is not in `e`.
    pub(crate) fn not(&mut self, e: ExprId) -> ExprId {
        match self.nodes[e as usize] {
            Expr::None => ANY,
            Expr::Any => NONE,
            Expr::Not(inner) => inner,
            Expr::Epsilon => self.repeat(FULL, 1, INFINITE),
            Expr::Repeat(FULL, min, max) => {
                let below = if min == 0 { NONE } else { self.repeat(FULL, 0, min - 1) };
                let above = if max == INFINITE { NONE } else { self.repeat(FULL, max + 1, INFINITE) };
                self.or2(below, above)
            }
            _ => self.intern(Expr::Not(e)),
        }
    }
}
