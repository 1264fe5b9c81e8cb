//! Sets of Unicode scalar values: an ASCII bitmap and sorted ranges above it.

/// The last scalar value.
pub(crate) const MAX_CHAR: u32 = 0x0010_FFFF;
const ASCII_END: u32 = 0x80;
const SURROGATES: (u32, u32) = (0xD800, 0xDFFF);
/// All scalar values above ASCII.
const WIDE: [(u32, u32); 2] = [(ASCII_END, SURROGATES.0 - 1), (SURROGATES.1 + 1, MAX_CHAR)];

/// A set of Unicode scalar values. Equal sets are equal values.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct CharSet {
    /// Bit `c` is set when the ASCII character `c` is in the set.
    pub ascii: u128,
    /// Inclusive ranges above ASCII: ascending, neither touching nor overlapping, free of surrogates.
    pub wide: Vec<(u32, u32)>,
}

impl CharSet {
    /// Every scalar value.
    pub(crate) fn full() -> Self {
        Self { ascii: u128::MAX, wide: WIDE.to_vec() }
    }

    /// One character.
    pub(crate) fn one(c: char) -> Self {
        Self::range(c as u32, c as u32)
    }

    /// An inclusive range; surrogates within it are left out.
    pub(crate) fn range(low: u32, high: u32) -> Self {
        Self::from_ranges(vec![(low, high)])
    }

    /// Characters of an ASCII string.
    pub(crate) fn ascii_of(chars: &str) -> Self {
        Self::from_ranges(chars.chars().map(|c| (c as u32, c as u32)).collect())
    }

    /// Unicode's `White_Space`.
    pub(crate) fn white_space() -> Self {
        const ABOVE_LATIN: [(u32, u32); 6] = [
            (0x1680, 0x1680),
            (0x2000, 0x200A),
            (0x2028, 0x2029),
            (0x202F, 0x202F),
            (0x205F, 0x205F),
            (0x3000, 0x3000),
        ];
        Self::from_ranges([&[(0x09, 0x0D), (0x20, 0x20), (0x85, 0x85), (0xA0, 0xA0)][..], &ABOVE_LATIN].concat())
    }

    /// The union of inclusive ranges in any order.
    pub(crate) fn from_ranges(mut ranges: Vec<(u32, u32)>) -> Self {
        ranges.sort_unstable();
        let mut set = Self::default();
        for (low, high) in ranges {
            let high = high.min(MAX_CHAR);
            if low > high {
                continue;
            }
            if low < ASCII_END {
                set.ascii |= ascii_span(low, high.min(ASCII_END - 1));
            }
            for (from, to) in WIDE {
                let (low, high) = (low.max(from), high.min(to));
                if low <= high {
                    push_range(&mut set.wide, low, high);
                }
            }
        }
        set
    }

    /// True when there is no character in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.ascii == 0 && self.wide.is_empty()
    }

    /// True when every scalar value is in it.
    #[cfg(test)]
    fn is_full(&self) -> bool {
        self.ascii == u128::MAX && self.wide == WIDE
    }

    /// Membership.
    pub(crate) fn contains(&self, c: u32) -> bool {
        if c < ASCII_END {
            return self.ascii >> c & 1 == 1;
        }
        let after = self.wide.partition_point(|&(low, _)| low <= c);
        after > 0 && self.wide[after - 1].1 >= c
    }

    /// Characters in either.
    #[must_use]
    pub(crate) fn union(&self, other: &Self) -> Self {
        let mut ranges: Vec<_> = self.wide.iter().chain(&other.wide).copied().collect();
        ranges.sort_unstable();
        let mut wide = Vec::with_capacity(ranges.len());
        for (low, high) in ranges {
            push_range(&mut wide, low, high);
        }
        Self { ascii: self.ascii | other.ascii, wide }
    }

    /// Characters in both.
    #[must_use]
    pub(crate) fn intersection(&self, other: &Self) -> Self {
        let (mut i, mut j, mut wide) = (0, 0, Vec::new());
        while i < self.wide.len() && j < other.wide.len() {
            let (a, b) = (self.wide[i], other.wide[j]);
            let (low, high) = (a.0.max(b.0), a.1.min(b.1));
            if low <= high {
                wide.push((low, high));
            }
            if a.1 < b.1 {
                i += 1;
            } else {
                j += 1;
            }
        }
        Self { ascii: self.ascii & other.ascii, wide }
    }

    /// Characters not in it.
    #[must_use]
    pub(crate) fn complement(&self) -> Self {
        let mut wide = Vec::new();
        for (from, to) in WIDE {
            let mut next = from;
            for &(low, high) in self.wide.iter().filter(|&&(low, high)| high >= from && low <= to) {
                if low > next {
                    wide.push((next, low - 1));
                }
                next = high + 1;
            }
            if next <= to {
                wide.push((next, to));
            }
        }
        Self { ascii: !self.ascii, wide }
    }

    /// Adds, for every letter, its other case (simple folding, as regex engines do).
    #[must_use]
    fn fold_unicode(&self) -> Self {
        let ranges = self.ranges().filter_map(|(low, high)| {
            let (low, high) = (char::from_u32(low)?, char::from_u32(high)?);
            Some(regex_syntax::hir::ClassUnicodeRange::new(low, high))
        });
        let mut class = regex_syntax::hir::ClassUnicode::new(ranges);
        class.case_fold_simple();
        Self::from_ranges(class.iter().map(|range| (range.start() as u32, range.end() as u32)).collect())
    }

    /// With the other case of each character, ASCII letters only by ASCII letters: `s` is not `ſ` (U+017F), nor is `k`
    /// the kelvin sign.
    pub(crate) fn fold_case(&self) -> Self {
        let ascii = Self::range(0, 0x7F);
        let folded = |set: Self| set.fold_unicode();
        folded(self.intersection(&ascii)).intersection(&ascii).union(&folded(self.intersection(&ascii.complement())))
    }

    /// All ranges, ASCII ones first.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let mut bits = self.ascii;
        let ascii = std::iter::from_fn(move || {
            if bits == 0 {
                return None;
            }
            let low = bits.trailing_zeros();
            let length = (!(bits >> low)).trailing_zeros();
            bits &= !ascii_span(low, low + length - 1);
            Some((low, low + length - 1))
        });
        ascii.chain(self.wide.iter().copied())
    }
}

fn ascii_span(low: u32, high: u32) -> u128 {
    let width = high - low + 1;
    if width >= 128 { u128::MAX } else { ((1 << width) - 1) << low }
}

/// Appends a range that starts no earlier than the last one, joining where they touch.
fn push_range(ranges: &mut Vec<(u32, u32)>, low: u32, high: u32) {
    if let Some(last) = ranges.last_mut()
        && low <= last.1 + 1
    {
        last.1 = last.1.max(high);
        return;
    }
    ranges.push((low, high));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn algebra_agrees_with_membership() {
        let a = CharSet::from_ranges(vec![(0x61, 0x7a), (0x100, 0x2ff), (0xD000, 0xE010)]);
        let b = CharSet::from_ranges(vec![(0x30, 0x65), (0x200, 0x210), (0x10_0000, MAX_CHAR)]);
        for c in (0..0x400).chain(0xCFF0..0xD800).chain(0xE000..0xE020).chain([0x10_0000, MAX_CHAR]) {
            assert_eq!(a.union(&b).contains(c), a.contains(c) || b.contains(c));
            assert_eq!(a.intersection(&b).contains(c), a.contains(c) && b.contains(c));
            assert_eq!(a.complement().contains(c), !a.contains(c));
        }
        assert_eq!(a.complement().complement(), a);
        assert!(CharSet::default().complement().is_full());
        assert_eq!(CharSet::from_ranges(a.ranges().collect()), a);
        assert!(CharSet::one('k').fold_case().contains('K' as u32));
    }
}
