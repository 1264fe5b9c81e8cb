//! Sets of numbers.
//!
//! A set is kept by meaning (bounds, wholeness, multiples, points), so that intersection and complement are those
//! of numbers and not of spellings; `literal` has the spellings.

use super::Style;
use super::decimal::Decimal;
use super::language::{ExprId, Languages};
use super::literal::Literals;

/// One end of an interval.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Bound {
    /// Where it lies.
    pub value: Decimal,
    /// The end itself is left out.
    pub exclusive: bool,
}

/// Numbers between two bounds, with conditions on divisibility.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Range {
    /// Lower end.
    pub low: Option<Bound>,
    /// Upper end.
    pub high: Option<Bound>,
    /// `Some(true)`: whole numbers; `Some(false)`: all but those.
    pub integer: Option<bool>,
    /// Only plain digits spell a whole number (draft-04: `1.0` is none).
    pub strict: bool,
    /// Multiples of the step (`true`), or all but those (`false`).
    pub multiples: Vec<(Decimal, bool)>,
}

/// A set of numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum NumberSet {
    /// A union of ranges; empty: no number.
    Ranges(Vec<Range>),
    /// Finitely many numbers, ascending.
    Points(Vec<Decimal>),
}

/// Ranges in a union before the caller must give up and check the finished value.
pub(crate) const RANGE_LIMIT: usize = 256;
/// Digits of a bound that can be compared digit by digit.
pub(super) const BOUND_DIGITS: usize = 400;

impl Range {
    /// Whether the number is in it; multiples of steps that are too fine to divide by count as not.
    pub(crate) fn contains(&self, value: &Decimal) -> bool {
        self.low.as_ref().is_none_or(|low| *value > low.value || (!low.exclusive && *value == low.value))
            && self.high.as_ref().is_none_or(|high| *value < high.value || (!high.exclusive && *value == high.value))
            && self.integer.is_none_or(|integer| value.is_integer() == integer)
            && self.multiples.iter().all(|(step, wanted)| value.is_multiple_of(step).unwrap_or(false) == *wanted)
    }

    pub(super) fn intersection(&self, other: &Self) -> Option<Self> {
        let low = match (&self.low, &other.low) {
            (Some(a), Some(b)) => {
                let a_first = (&a.value, a.exclusive) >= (&b.value, b.exclusive);
                Some(if a_first { a } else { b }.clone())
            }
            (a, b) => a.clone().or_else(|| b.clone()),
        };
        let high = match (&self.high, &other.high) {
            (Some(a), Some(b)) => {
                let a_first = (&a.value, !a.exclusive) <= (&b.value, !b.exclusive);
                Some(if a_first { a } else { b }.clone())
            }
            (a, b) => a.clone().or_else(|| b.clone()),
        };
        let integer = match (self.integer, other.integer) {
            (Some(a), Some(b)) if a != b => return None,
            (a, b) => a.or(b),
        };
        let mut multiples = self.multiples.clone();
        for step in &other.multiples {
            if multiples.contains(step) {
                continue;
            }
            let both = |old: &mut (Decimal, bool)| {
                old.1 && step.1 && {
                    let common = old.0.common_multiple(&step.0);
                    common.map(|common| old.0 = common).is_some()
                }
            };
            // Multiples of two steps are those of their least common multiple.
            if !multiples.iter_mut().any(both) {
                multiples.push(step.clone());
            }
        }
        let excludes = |wanted: &Decimal| {
            multiples.iter().any(|(other, positive)| !positive && wanted.is_multiple_of(other) == Some(true))
        };
        if multiples.iter().any(|(step, positive)| *positive && excludes(step)) {
            return None;
        }
        let range = Self { low, high, integer, strict: self.strict || other.strict, multiples };
        (!range.is_surely_empty()).then_some(range)
    }

    fn is_surely_empty(&self) -> bool {
        let (Some(low), Some(high)) = (&self.low, &self.high) else { return false };
        if low.value > high.value || (low.value == high.value && (low.exclusive || high.exclusive)) {
            return true;
        }
        if low.value == high.value {
            return !self.contains(&low.value);
        }
        self.integer == Some(true) && {
            let (first, last) = (integer_bound(low, true), integer_bound(high, false));
            first > last
        }
    }
}

/// The first whole number inside a bound.
pub(super) fn integer_bound(bound: &Bound, up: bool) -> Decimal {
    if !bound.exclusive || !bound.value.is_integer() {
        return bound.value.to_integer(up);
    }
    // Half a step further and rounded: the next whole number.
    let mut text = bound.value.plain(BOUND_DIGITS).map_or_else(String::new, |(whole, _)| digits_text(&whole));
    if text.is_empty() {
        return bound.value.clone();
    }
    text.push_str(".5");
    let away = bound.value.is_negative() != up;
    if bound.value.is_zero() || away {
        let sign = if bound.value.is_negative() || (bound.value.is_zero() && !up) { "-" } else { "" };
        return Decimal::parse(&format!("{sign}{text}")).map_or(Decimal::ZERO, |d| d.to_integer(up));
    }
    // Towards zero: one less in magnitude.
    let (mut whole, _) = bound.value.plain(BOUND_DIGITS).unwrap_or_default();
    for digit in whole.iter_mut().rev() {
        if *digit > 0 {
            *digit -= 1;
            break;
        }
        *digit = 9;
    }
    let sign = if bound.value.is_negative() { "-" } else { "" };
    Decimal::parse(&format!("{sign}{}", digits_text(&whole))).unwrap_or(Decimal::ZERO)
}

pub(super) fn digits_text(digits: &[u8]) -> String {
    digits.iter().map(|&digit| char::from(b'0' + digit)).collect()
}

impl NumberSet {
    /// Every number.
    pub(crate) fn all() -> Self {
        Self::Ranges(vec![Range::default()])
    }

    /// No number.
    pub(crate) fn none() -> Self {
        Self::Ranges(Vec::new())
    }

    /// Surely without a member (divisibility is left to the language).
    pub(crate) fn is_none(&self) -> bool {
        match self {
            Self::Ranges(ranges) => ranges.is_empty(),
            Self::Points(points) => points.is_empty(),
        }
    }

    /// Numbers not in it; `None` when that would take too many ranges.
    pub(crate) fn complement(&self) -> Option<Self> {
        match self {
            Self::Points(points) => {
                if points.len() >= RANGE_LIMIT {
                    return None;
                }
                let bound = |value: &Decimal| Some(Bound { value: value.clone(), exclusive: true });
                let mut ranges = Vec::with_capacity(points.len() + 1);
                let mut low = None;
                for point in points {
                    ranges.push(Range { low: low.take(), high: bound(point), ..Range::default() });
                    low = bound(point);
                }
                ranges.push(Range { low, ..Range::default() });
                Some(Self::Ranges(ranges))
            }
            Self::Ranges(ranges) => {
                let mut result = Self::all();
                for range in ranges {
                    let mut outside = Vec::new();
                    let turn = |bound: &Bound| Some(Bound { value: bound.value.clone(), exclusive: !bound.exclusive });
                    if let Some(low) = &range.low {
                        outside.push(Range { high: turn(low), ..Range::default() });
                    }
                    if let Some(high) = &range.high {
                        outside.push(Range { low: turn(high), ..Range::default() });
                    }
                    if let Some(integer) = range.integer {
                        outside.push(Range { integer: Some(!integer), ..Range::default() });
                    }
                    for (step, wanted) in &range.multiples {
                        outside.push(Range { multiples: vec![(step.clone(), !wanted)], ..Range::default() });
                    }
                    result = result.intersection(&Self::Ranges(outside))?;
                }
                Some(result)
            }
        }
    }

    /// Numbers in both; `None` when that would take too many ranges.
    pub(crate) fn intersection(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Points(points), other) | (other, Self::Points(points)) => {
                Some(Self::Points(points.iter().filter(|point| other.contains(point)).cloned().collect()))
            }
            (Self::Ranges(a), Self::Ranges(b)) => {
                let all = [Range::default()];
                if a[..] == all {
                    return Some(other.clone());
                }
                if b[..] == all {
                    return Some(self.clone());
                }
                let mut ranges: Vec<Range> = Vec::new();
                for a in a {
                    for range in b.iter().filter_map(|b| a.intersection(b)) {
                        if !ranges.contains(&range) {
                            ranges.push(range);
                        }
                    }
                    if ranges.len() > RANGE_LIMIT {
                        return None;
                    }
                }
                Some(Self::Ranges(ranges))
            }
        }
    }

    /// Numbers in either.
    #[must_use]
    pub(crate) fn union(self, other: Self) -> Self {
        match (self, other) {
            (a, b) if a.is_none() || a == b => b,
            (a, b) if b.is_none() => a,
            (Self::Points(mut a), Self::Points(b)) => {
                a.extend(b);
                a.sort_unstable();
                a.dedup();
                Self::Points(a)
            }
            (a, b) => {
                let mut ranges = a.into_ranges();
                for range in b.into_ranges() {
                    if !ranges.contains(&range) {
                        ranges.push(range);
                    }
                }
                if ranges.contains(&Range::default()) { Self::all() } else { Self::Ranges(ranges) }
            }
        }
    }

    fn into_ranges(self) -> Vec<Range> {
        match self {
            Self::Ranges(ranges) => ranges,
            Self::Points(points) => points
                .into_iter()
                .map(|value| {
                    let bound = Some(Bound { value, exclusive: false });
                    Range { low: bound.clone(), high: bound, ..Range::default() }
                })
                .collect(),
        }
    }

    /// Membership.
    pub(crate) fn contains(&self, value: &Decimal) -> bool {
        match self {
            Self::Ranges(ranges) => ranges.iter().any(|range| range.contains(value)),
            Self::Points(points) => points.binary_search(value).is_ok(),
        }
    }

    /// All numbers of the set, where they are whole and at most `limit`.
    pub(crate) fn few_integers(&self, limit: usize) -> Option<Vec<i64>> {
        let whole = |value: &Decimal| -> Option<i64> {
            let (digits, _) = value.magnitude().plain(BOUND_DIGITS)?;
            let magnitude: i64 = if digits.is_empty() { 0 } else { digits_text(&digits).parse().ok()? };
            value.is_integer().then_some(if value.is_negative() { -magnitude } else { magnitude })
        };
        let mut found = Vec::new();
        match self {
            Self::Points(points) => {
                for point in points {
                    found.push(whole(point)?);
                }
            }
            Self::Ranges(ranges) => {
                for range in ranges {
                    let (Some(low), Some(high), Some(true)) = (&range.low, &range.high, range.integer) else {
                        return None;
                    };
                    let (low, high) = (whole(&integer_bound(low, true))?, whole(&integer_bound(high, false))?);
                    // Steps thin a range out, but not one that is endless in practice.
                    if usize::try_from(high.saturating_sub(low)).is_ok_and(|span| span > 64 * limit) {
                        return None;
                    }
                    let inside = |&n: &i64| Decimal::parse(&n.to_string()).is_some_and(|n| range.contains(&n));
                    found.extend((low..=high).filter(inside));
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        (found.len() <= limit).then_some(found)
    }

    /// The language of its literals; `None` where a step or a bound has too many digits for an
    /// automaton.
    pub(crate) fn language(&self, languages: &mut Languages, style: Style) -> Option<ExprId> {
        let mut literals = Literals::new(languages, style);
        match self {
            Self::Points(points) => Some(literals.points(points)),
            Self::Ranges(ranges) => {
                let parts = ranges.iter().map(|range| literals.range(range)).collect::<Option<Vec<_>>>()?;
                Some(literals.union(parts))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(text: &str, exclusive: bool) -> Option<Bound> {
        (!text.is_empty()).then(|| Bound { value: Decimal::parse(text).expect("a number"), exclusive })
    }

    fn literals() -> Vec<String> {
        let mut all = Vec::new();
        for whole in ["0", "1", "2", "7", "9", "10", "12", "19", "20", "99", "100", "101", "123", "255", "256", "1000"]
        {
            for fraction in ["", ".0", ".00", ".01", ".05", ".1", ".25", ".250", ".3", ".5", ".75", ".99"] {
                for sign in ["", "-"] {
                    all.push(format!("{sign}{whole}{fraction}"));
                }
            }
        }
        for mantissa in ["1", "1.5", "2", "2.55", "9.99"] {
            for exponent in ["e0", "e1", "e-1", "e+2", "e-05", "E5", "e+16", "e20", "e300"] {
                all.push(format!("{mantissa}{exponent}"));
                all.push(format!("-{mantissa}{exponent}"));
            }
        }
        all
    }

    /// Flexible literals against exact arithmetic, over many bounds.
    #[test]
    fn ranges_agree_with_arithmetic() {
        let ends = [
            "", "0", "1", "-1", "0.5", "-0.5", "10", "12.25", "99", "100", "-20", "255", "1000", "1e5", "0.00001",
            "2.5e16",
        ];
        for low in ends {
            for high in ends {
                for exclusive in [false, true] {
                    for integer in [None, Some(true), Some(false)] {
                        let range = Range {
                            low: bound(low, exclusive),
                            high: bound(high, exclusive),
                            integer,
                            ..Range::default()
                        };
                        if range.is_surely_empty() {
                            continue;
                        }
                        let set = NumberSet::Ranges(vec![range.clone()]);
                        let mut languages = Languages::new();
                        let e = set.language(&mut languages, Style::Flexible).expect("small bounds");
                        let mut canonical = Languages::new();
                        let c = set.language(&mut canonical, Style::Canonical).expect("small bounds");
                        for literal in literals() {
                            let value = Decimal::parse(&literal).expect("a number");
                            let expected = range.contains(&value);
                            let found = languages.matches(e, &literal);
                            if canonical.matches(c, &literal) {
                                assert!(expected, "canonical {literal} in {low}..{high} ({exclusive}, {integer:?})");
                            }
                            // Whole numbers in exponent form are taken from 10^16 on only.
                            let other_spelling = expected && integer.is_some() && literal.contains(['e', 'E']);
                            assert!(
                                found == expected || other_spelling,
                                "{literal} in {low}..{high} ({exclusive}, {integer:?}): {found}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn multiples_agree_with_arithmetic() {
        for step in ["1", "2", "3", "7", "10", "25", "0.5", "0.01", "0.25", "1.5", "100", "0.1"] {
            let range = Range { multiples: vec![(Decimal::parse(step).expect("a number"), true)], ..Range::default() };
            let set = NumberSet::Ranges(vec![range.clone()]);
            let not = set.complement().expect("one range");
            let mut languages = Languages::new();
            let e = set.language(&mut languages, Style::Flexible).expect("a small step");
            let n = not.language(&mut languages, Style::Flexible).expect("a small step");
            for literal in literals().iter().filter(|literal| !literal.contains(['e', 'E'])) {
                let expected = range.contains(&Decimal::parse(literal).expect("a number"));
                assert_eq!(languages.matches(e, literal), expected, "{literal} multiple of {step}");
                assert_eq!(languages.matches(n, literal), !expected, "{literal} not multiple of {step}");
            }
        }
    }

    #[test]
    fn points_have_all_their_spellings() {
        let points = ["-3", "0", "0.5", "1e20"].map(|text| Decimal::parse(text).expect("a number")).to_vec();
        let set = NumberSet::Points(points);
        let mut languages = Languages::new();
        let e = set.language(&mut languages, Style::Flexible).expect("points");
        for literal in literals() {
            let value = Decimal::parse(&literal).expect("a number");
            if !literal.contains(['e', 'E']) {
                assert_eq!(languages.matches(e, &literal), set.contains(&value), "{literal}");
            }
        }
        assert!(languages.matches(e, "1e+20"));
        let c = set.language(&mut languages, Style::Canonical).expect("points");
        assert!(languages.matches(c, "-3") && !languages.matches(c, "-3.0"));
    }
}
