//! The literals that write a set of numbers: plain decimal ones, and those in normalised exponent form (one non-zero
//! digit before the point), which is how JSON printers write.

use super::Style;
use super::charset::CharSet;
use super::decimal::Decimal;
use super::language::{EPSILON, ExprId, INFINITE, Languages, NONE};
use super::natural::Digits;
use super::number::{BOUND_DIGITS, Bound, Range, digits_text, integer_bound};

/// Significant digits of a canonical literal: so many are told apart by every reader that holds numbers in a double.
/// Only where bounds or points need more, and nothing shorter lies between them, are there more.
const DIGITS: u32 = 15;
/// Digits of a canonical literal before and after the point, where bounds ask for no more.
const WHOLE_DIGITS: u32 = DIGITS;
const FRACTION_DIGITS: u32 = 24;
/// The first magnitude that takes more than [`DIGITS`].
const LONG: &str = "1e15";
/// Exponents within which every mantissa is a finite, normal `f64`; with one more, those to [`MOST`] are.
const EXPONENT_LIMIT: i64 = 307;
/// The greatest `f64`.
const MOST: &str = "1.7976931348623157e308";
/// From here on printers switch to exponent form for whole numbers.
const WHOLE_EXPONENT: u64 = 16;

/// Every literal with an exponent.
pub(crate) fn exponent_literals(languages: &mut Languages) -> ExprId {
    let mut literals = Literals { languages, style: Style::Any };
    let all = literals.everything();
    let letter = literals.languages.class(CharSet::ascii_of("eE"));
    let exponent = literals.languages.sequence(&[super::language::ANY, letter, super::language::ANY]);
    literals.languages.and2(all, exponent)
}

/// What may follow the whole part, by how the digits so far compare with the bounds.
#[derive(Clone, Copy)]
struct Tails {
    free: ExprId,
    at_low: ExprId,
    at_high: ExprId,
    at_both: ExprId,
}

/// Writes the languages of sets of numbers.
pub(super) struct Literals<'a> {
    languages: &'a mut Languages,
    style: Style,
}

impl<'a> Literals<'a> {
    pub(super) fn new(languages: &'a mut Languages, style: Style) -> Self {
        Self { languages, style }
    }

    /// Literals of any of these.
    pub(super) fn union(&mut self, parts: Vec<ExprId>) -> ExprId {
        self.languages.or(parts)
    }

    fn char(&mut self, c: char) -> ExprId {
        self.languages.class(CharSet::one(c))
    }

    fn digits(&mut self, low: u8, high: u8) -> ExprId {
        if low > high {
            return NONE;
        }
        self.languages.class(CharSet::range(u32::from(b'0' + low), u32::from(b'0' + high)))
    }

    fn any_digits(&mut self, min: u32, max: u32) -> ExprId {
        let digit = self.digits(0, 9);
        self.languages.repeat(digit, min, max)
    }

    fn optional(&mut self, e: ExprId) -> ExprId {
        self.languages.or2(EPSILON, e)
    }

    fn flexible(&self) -> bool {
        matches!(self.style, Style::Flexible | Style::Any)
    }

    fn whole_limit(&self) -> u32 {
        if self.flexible() { INFINITE } else { WHOLE_DIGITS }
    }

    fn fraction_limit(&self) -> u32 {
        if self.flexible() { INFINITE } else { FRACTION_DIGITS }
    }

    /// Literals of these numbers.
    pub(super) fn points(&mut self, points: &[Decimal]) -> ExprId {
        let (mut whole, mut fractions, mut scientific) = (Vec::new(), Vec::new(), Vec::new());
        for point in points {
            let sign = if point.is_negative() { "-" } else { "" };
            let (digits, exponent) = point.scientific();
            let plain = point.plain(BOUND_DIGITS);
            if let Some((integer, fraction)) = plain {
                if fraction.is_empty() {
                    whole.push(format!("{sign}{}", digits_text(&integer)));
                } else {
                    fractions.push(format!("{sign}{}.{}", digits_text(&integer), digits_text(&fraction)));
                }
            }
            if !point.is_zero() && !(-4..16).contains(&exponent) {
                let mut mantissa = format!("{sign}{}", digits[0]);
                if digits.len() > 1 {
                    mantissa = format!("{mantissa}.{}", digits_text(&digits[1..]));
                }
                let exponents = if exponent < 0 {
                    vec![format!("-{}", -exponent), format!("-{:02}", -exponent)]
                } else {
                    vec![format!("{exponent}"), format!("+{exponent}")]
                };
                scientific
                    .extend(exponents.iter().flat_map(|e| ['e', 'E'].map(|letter| format!("{mantissa}{letter}{e}"))));
            }
        }
        if self.flexible() && points.iter().any(Decimal::is_zero) {
            whole.push("-0".into());
        }
        let whole = self.languages.words(whole);
        let tail = self.integer_tail(true);
        let whole = self.languages.concat(whole, tail);
        let fractions = self.languages.words(fractions);
        let zeros = if self.flexible() {
            let zero = self.char('0');
            self.languages.repeat(zero, 0, INFINITE)
        } else {
            EPSILON
        };
        let fractions = self.languages.concat(fractions, zeros);
        let scientific = self.languages.words(scientific);
        self.languages.or(vec![whole, fractions, scientific])
    }

    /// `(\.0+)?` where that is taken for a whole number.
    fn integer_tail(&mut self, allowed: bool) -> ExprId {
        if !allowed || !self.flexible() {
            return EPSILON;
        }
        let (point, zero) = (self.char('.'), self.char('0'));
        let zeros = self.languages.repeat(zero, 1, INFINITE);
        let tail = self.languages.concat(point, zeros);
        self.optional(tail)
    }

    /// Literals of a range; `None` where a step or a bound has too many digits.
    pub(super) fn range(&mut self, range: &Range) -> Option<ExprId> {
        let mut range = range.clone();
        let one = Decimal::from_u64(1);
        // A multiple of a whole step is whole; every whole number is a multiple of one.
        if range.multiples.iter().any(|(step, wanted)| *wanted && step.is_integer()) {
            if range.integer == Some(false) {
                return Some(NONE);
            }
            range.integer = Some(true);
        }
        if range.integer == Some(true) {
            range.multiples.retain(|(step, wanted)| !(*wanted && *step == one));
            for (bound, up) in [(&mut range.low, true), (&mut range.high, false)] {
                if let Some(bound) = bound {
                    *bound = Bound { value: integer_bound(bound, up), exclusive: false };
                }
            }
        }
        if self.style == Style::Natural
            && let Some(few) = self.natural_range(&range)
        {
            return Some(few);
        }
        if range == Range::default() {
            return Some(self.everything());
        }
        let plain = self.short_plain_range(&range)?;
        if range.multiples.is_empty() {
            let scientific = self.short_scientific_range(&range)?;
            return Some(self.languages.or2(plain, scientific));
        }
        self.multiples(&range, plain)
    }

    /// Those of some literals that are the multiples of the range.
    fn multiples(&mut self, range: &Range, literals: ExprId) -> Option<ExprId> {
        let mut parts = vec![literals];
        for (step, wanted) in &range.multiples {
            let (numerator, scale) = step.as_step()?;
            let mut multiples = self.languages.multiple_of(numerator, scale);
            if !wanted {
                multiples = self.languages.not(multiples);
            }
            parts.push(multiples);
        }
        Some(self.languages.and(parts))
    }

    /// Literals of a range as a person would write them; `None` where it has none.
    fn natural_range(&mut self, range: &Range) -> Option<ExprId> {
        let digits = Digits::of(range)?;
        let plain = self.plain_range(range)?;
        let few = self.decimals(digits);
        let few = self.languages.and2(plain, few);
        let found = self.multiples(range, few)?;
        (!self.languages.is_empty(found)).then_some(found)
    }

    /// Decimals of so many digits. What follows the second place ends with another digit than zero.
    fn decimals(&mut self, digits: Digits) -> ExprId {
        let (minus, zero, first, digit) = (self.char('-'), self.char('0'), self.digits(1, 9), self.digits(0, 9));
        let mut fractions = Vec::with_capacity(digits.fraction as usize + 1);
        for places in 0..=digits.fraction {
            let fraction = self.short_fraction(places);
            fractions.push(self.optional(fraction));
        }
        let most = |whole: u32| digits.fraction.min(digits.all.saturating_sub(whole)) as usize;
        // From the end: after so many digits, stop, or go on.
        let mut rest = fractions[most(digits.whole)];
        for whole in (1..digits.whole).rev() {
            let longer = self.languages.concat(digit, rest);
            rest = self.languages.or2(fractions[most(whole)], longer);
        }
        let (large, small) = (self.languages.concat(first, rest), self.languages.concat(zero, fractions[most(0)]));
        let (sign, either) = (self.optional(minus), self.languages.or2(large, small));
        self.languages.concat(sign, either)
    }

    /// `\.\d{1,places}`, without zeros at the end past the second place.
    fn short_fraction(&mut self, places: u32) -> ExprId {
        if places == 0 {
            return NONE;
        }
        let (point, last) = (self.char('.'), self.digits(1, 9));
        let (few, most) = (self.any_digits(1, places.min(2)), self.any_digits(2, places.max(3) - 1));
        let longer = if places > 2 { self.languages.concat(most, last) } else { NONE };
        let either = self.languages.or2(few, longer);
        self.languages.concat(point, either)
    }

    /// Any JSON number, within the limits of the style.
    fn everything(&mut self) -> ExprId {
        if !self.flexible() {
            let range = Range::default();
            let plain = self.short_plain();
            let scientific = self.scientific_range(&range).unwrap_or(NONE);
            return self.languages.or2(plain, scientific);
        }
        let minus = self.char('-');
        let sign = self.optional(minus);
        let whole = self.whole();
        let fraction = self.fraction(1);
        let exponent_digits = self.any_digits(1, INFINITE);
        let letter = self.languages.class(CharSet::ascii_of("eE"));
        let exponent_sign = self.languages.class(CharSet::ascii_of("+-"));
        let exponent_sign = self.optional(exponent_sign);
        let exponent = self.languages.sequence(&[letter, exponent_sign, exponent_digits]);
        let (fraction, exponent) = (self.optional(fraction), self.optional(exponent));
        self.languages.sequence(&[sign, whole, fraction, exponent])
    }

    fn whole(&mut self) -> ExprId {
        let zero = self.char('0');
        let first = self.digits(1, 9);
        let more = self.any_digits(0, self.whole_limit().saturating_sub(1));
        let other = self.languages.concat(first, more);
        self.languages.or2(zero, other)
    }

    /// `\.\d{min,}`
    fn fraction(&mut self, min: u32) -> ExprId {
        let point = self.char('.');
        let digits = self.any_digits(min, self.fraction_limit());
        self.languages.concat(point, digits)
    }

    /// Plain literals; of few significant digits in canonical style, if there are such.
    fn short_plain_range(&mut self, range: &Range) -> Option<ExprId> {
        if self.flexible() {
            return self.plain_range(range);
        }
        let long = Decimal::parse(LONG)?;
        let end =
            |text: &str| Decimal::parse(text).map(|value| Bound { value, exclusive: range.integer != Some(true) });
        let (low, high) = if range.integer == Some(true) {
            (end("-999999999999999")?, end("999999999999999")?)
        } else {
            (end("-1e15")?, end(LONG)?)
        };
        let inner = Range { low: Some(low), high: Some(high), ..Range::default() };
        let is_short = |bound: &Option<Bound>| bound.as_ref().is_none_or(|bound| bound.value.magnitude() < long);
        let Some(short) = range.intersection(&inner) else { return self.plain_range(range) };
        let plain = self.plain_range(&short)?;
        let short = if range.integer == Some(true) && is_short(&short.low) && is_short(&short.high) {
            plain
        } else {
            let digits = self.few_digits();
            self.languages.and2(plain, digits)
        };
        if self.languages.is_empty(short) { self.plain_range(range) } else { Some(short) }
    }

    /// All plain literals of few digits, but minus zero.
    fn short_plain(&mut self) -> ExprId {
        let (minus, zero, point) = (self.char('-'), self.char('0'), self.char('.'));
        let zeros = self.languages.repeat(zero, 0, DIGITS / 2);
        let (digit, more) = (self.digits(1, 9), self.any_digits(0, DIGITS / 2));
        let negative = self.languages.sequence(&[minus, zero, point, zeros, digit, more]);
        let (sign, large, small) = (self.optional(minus), self.few_digits_from_one(), self.few_digits_below_one());
        let large = self.languages.concat(sign, large);
        self.languages.or(vec![large, small, negative])
    }

    fn few_digits_from_one(&mut self) -> ExprId {
        let (point, first, digit) = (self.char('.'), self.digits(1, 9), self.digits(0, 9));
        // From the end: with so many digits left, stop, or go on, or turn to the fraction.
        let mut rest = EPSILON;
        for left in 1..DIGITS {
            let fraction = self.any_digits(1, left);
            let fraction = self.languages.concat(point, fraction);
            let longer = self.languages.concat(digit, rest);
            rest = self.languages.or(vec![EPSILON, fraction, longer]);
        }
        self.languages.concat(first, rest)
    }

    fn few_digits_below_one(&mut self) -> ExprId {
        let (zero, point, digits) = (self.char('0'), self.char('.'), self.any_digits(1, DIGITS));
        let fraction = self.languages.concat(point, digits);
        let fraction = self.optional(fraction);
        self.languages.concat(zero, fraction)
    }

    /// Plain literals of at most [`DIGITS`] digits, a lone zero before the point not counted.
    fn few_digits(&mut self) -> ExprId {
        let minus = self.char('-');
        let (sign, large, small) = (self.optional(minus), self.few_digits_from_one(), self.few_digits_below_one());
        let either = self.languages.or2(large, small);
        self.languages.concat(sign, either)
    }

    fn plain_range(&mut self, range: &Range) -> Option<ExprId> {
        let zero = Bound { value: Decimal::ZERO, exclusive: false };
        let flip = |bound: &Bound| Bound { value: bound.value.magnitude(), exclusive: bound.exclusive };
        let mut parts = Vec::new();
        // Zero and above.
        let low = match &range.low {
            Some(low) if !low.value.is_negative() => low.clone(),
            _ => zero.clone(),
        };
        if range.high.as_ref().is_none_or(|high| !high.value.is_negative()) {
            parts.push(self.magnitudes(&low, range.high.as_ref(), range.integer, range.strict)?);
        }
        // Below zero; minus zero only where other people's spellings are taken.
        let reaches_zero = match &range.high {
            Some(high) => !high.value.is_negative(),
            None => true,
        };
        let has_zero = range.contains(&Decimal::ZERO);
        if range.low.as_ref().is_none_or(|low| low.value.is_negative()) {
            let least = match &range.high {
                Some(high) if !reaches_zero => flip(high),
                _ => Bound { value: Decimal::ZERO, exclusive: !(self.flexible() && has_zero) },
            };
            let most = range.low.as_ref().map(flip);
            let magnitudes = self.magnitudes(&least, most.as_ref(), range.integer, range.strict)?;
            let minus = self.char('-');
            parts.push(self.languages.concat(minus, magnitudes));
        } else if self.flexible() && has_zero {
            let (minus, digit) = (self.languages.text("-0"), self.integer_tail(!range.strict));
            parts.push(self.languages.concat(minus, digit));
        }
        Some(self.languages.or(parts))
    }

    /// Unsigned plain literals with a value between the bounds.
    fn magnitudes(&mut self, low: &Bound, high: Option<&Bound>, integer: Option<bool>, strict: bool) -> Option<ExprId> {
        if high.is_some_and(|high| low.value > high.value) {
            return Some(NONE);
        }
        let mut low = low.clone();
        if integer == Some(true) && low.exclusive {
            low = Bound { value: integer_bound(&low, true), exclusive: false };
        }
        let (low_whole, low_fraction) = low.value.plain(BOUND_DIGITS)?;
        let high_parts = match high {
            Some(high) => Some(high.value.plain(BOUND_DIGITS)?),
            None => None,
        };
        let tails = if integer == Some(true) {
            let tail = self.integer_tail(!strict);
            Tails { free: tail, at_low: tail, at_high: tail, at_both: tail }
        } else {
            let free = self.fraction(1);
            let mut free = self.optional(free);
            let at_low = self.fraction_from(&low_fraction, low.exclusive);
            let at_high = match (&high_parts, high) {
                (Some((_, fraction)), Some(high)) => self.fraction_to(fraction, high.exclusive),
                _ => free,
            };
            let at_both = self.languages.and2(at_low, at_high);
            let mut tails = [at_low, at_high, at_both];
            if integer == Some(false) {
                let not_zero = self.fraction_from(&[], true);
                free = not_zero;
                tails = tails.map(|tail| self.languages.and2(tail, not_zero));
            }
            Tails { free, at_low: tails[0], at_high: tails[1], at_both: tails[2] }
        };
        let Some((high_whole, _)) = high_parts else {
            let mut parts = vec![self.at_least(&low_whole, tails)];
            let more = u32::try_from(low_whole.len()).ok()?;
            let most = if self.flexible() { INFINITE } else { WHOLE_DIGITS.max(more + 1) - 1 };
            parts.push(self.longer(more, most, tails.free));
            return Some(self.languages.or(parts));
        };
        if low_whole.len() == high_whole.len() {
            return Some(self.between(&low_whole, &high_whole, tails));
        }
        if low_whole.len() > high_whole.len() {
            return Some(NONE);
        }
        let mut parts = vec![self.at_least(&low_whole, tails), self.at_most(&high_whole, tails, true)];
        let (shortest, longest) = (low_whole.len() as u32, high_whole.len() as u32 - 2);
        if shortest <= longest {
            parts.push(self.longer(shortest, longest, tails.free));
        }
        Some(self.languages.or(parts))
    }

    /// `[1-9]\d{min,max}` and a tail.
    fn longer(&mut self, min: u32, max: u32, tail: ExprId) -> ExprId {
        let first = self.digits(1, 9);
        let more = self.any_digits(min, max);
        self.languages.sequence(&[first, more, tail])
    }

    /// Literals of as many digits, not below.
    fn at_least(&mut self, digits: &[u8], tails: Tails) -> ExprId {
        let mut result = tails.at_low;
        for (left, &digit) in (0u32..).zip(digits.iter().rev()) {
            let same = self.digits(digit, digit);
            let same = self.languages.concat(same, result);
            let above = self.digits(digit + 1, 9);
            let more = self.any_digits(left, left);
            let above = self.languages.sequence(&[above, more, tails.free]);
            result = self.languages.or2(same, above);
        }
        result
    }

    /// Literals of as many digits, not above; `leading`: the first digit is not zero.
    fn at_most(&mut self, digits: &[u8], tails: Tails, leading: bool) -> ExprId {
        let mut result = tails.at_high;
        for (left, &digit) in (0u32..).zip(digits.iter().rev()) {
            let first = leading && left as usize + 1 == digits.len();
            let same = self.digits(digit, digit);
            let same = self.languages.concat(same, result);
            let below = if digit == 0 { NONE } else { self.digits(u8::from(first), digit - 1) };
            let more = self.any_digits(left, left);
            let below = self.languages.sequence(&[below, more, tails.free]);
            result = self.languages.or2(same, below);
        }
        result
    }

    /// Literals of as many digits as both bounds, between them.
    fn between(&mut self, low: &[u8], high: &[u8], tails: Tails) -> ExprId {
        let shared = low.iter().zip(high).take_while(|(a, b)| a == b).count();
        let mut result = if shared == low.len() {
            tails.at_both
        } else if low[shared] > high[shared] {
            return NONE;
        } else {
            let left = u32::try_from(low.len() - shared - 1).unwrap_or(INFINITE);
            let first = self.digits(low[shared], low[shared]);
            let rest = self.at_least(&low[shared + 1..], tails);
            let lower = self.languages.concat(first, rest);
            let last = self.digits(high[shared], high[shared]);
            let rest = self.at_most(&high[shared + 1..], tails, false);
            let upper = self.languages.concat(last, rest);
            let middle = self.digits(low[shared] + 1, high[shared] - 1);
            let more = self.any_digits(left, left);
            let middle = self.languages.sequence(&[middle, more, tails.free]);
            self.languages.or(vec![lower, middle, upper])
        };
        for &digit in low[..shared].iter().rev() {
            let same = self.digits(digit, digit);
            result = self.languages.concat(same, result);
        }
        result
    }

    /// A fraction (or none) with a value of at least `0.DIGITS`.
    fn fraction_from(&mut self, digits: &[u8], exclusive: bool) -> ExprId {
        let limit = self.fraction_limit();
        let point = self.char('.');
        if digits.is_empty() && !exclusive {
            let fraction = self.fraction(1);
            return self.optional(fraction);
        }
        let left = limit.saturating_sub(u32::try_from(digits.len()).unwrap_or(INFINITE)).max(1);
        let mut result = if exclusive {
            let zero = self.char('0');
            let zeros = self.languages.repeat(zero, 0, left.saturating_sub(u32::from(left != INFINITE)));
            let digit = self.digits(1, 9);
            let more = self.any_digits(0, left);
            self.languages.sequence(&[zeros, digit, more])
        } else {
            self.any_digits(0, left)
        };
        for &digit in digits.iter().rev() {
            let same = self.digits(digit, digit);
            let same = self.languages.concat(same, result);
            let above = self.digits(digit + 1, 9);
            let more = self.any_digits(0, limit);
            let above = self.languages.concat(above, more);
            result = self.languages.or2(same, above);
        }
        self.languages.concat(point, result)
    }

    /// A fraction (or none) with a value of at most `0.DIGITS`.
    fn fraction_to(&mut self, digits: &[u8], exclusive: bool) -> ExprId {
        let limit = self.fraction_limit();
        if digits.is_empty() {
            if exclusive {
                return NONE;
            }
            let (point, zero) = (self.char('.'), self.char('0'));
            let zeros = self.languages.repeat(zero, 1, limit);
            let zeros = self.languages.concat(point, zeros);
            return self.optional(zeros);
        }
        let mut result = if exclusive {
            NONE
        } else {
            let zero = self.char('0');
            self.languages.repeat(zero, 0, limit)
        };
        for (at, &digit) in digits.iter().enumerate().rev() {
            let same = self.digits(digit, digit);
            let same = self.languages.concat(same, result);
            let below = if digit == 0 { NONE } else { self.digits(0, digit - 1) };
            let more = self.any_digits(0, limit);
            let below = self.languages.concat(below, more);
            result = self.languages.or2(same, below);
            if at > 0 {
                // Ending here leaves a smaller value.
                result = self.optional(result);
            }
        }
        let point = self.char('.');
        let fraction = self.languages.concat(point, result);
        self.optional(fraction)
    }

    /// Literals in normalised exponent form; of few significant digits in canonical style, if there are such.
    fn short_scientific_range(&mut self, range: &Range) -> Option<ExprId> {
        let all = self.scientific_range(range)?;
        if self.flexible() || (range.low.is_none() && range.high.is_none()) || all == NONE {
            return Some(all);
        }
        let (digits, letter) = (self.few_digits(), self.languages.class(CharSet::ascii_of("eE")));
        let short = self.languages.sequence(&[digits, letter, super::language::ANY]);
        let short = self.languages.and2(all, short);
        Some(if self.languages.is_empty(short) { all } else { short })
    }

    /// Literals in normalised exponent form between the bounds.
    fn scientific_range(&mut self, range: &Range) -> Option<ExprId> {
        if range.integer == Some(false) {
            // Only exponents below zero are surely not whole.
            let limit = Bound { value: Decimal::from_u64(1), exclusive: true };
            let minus = Bound { value: Decimal::parse("-1")?, exclusive: true };
            let inner = Range { low: Some(minus), high: Some(limit), ..Range::default() };
            let bounds = Range { low: range.low.clone(), high: range.high.clone(), ..Range::default() };
            return bounds.intersection(&inner).map_or(Some(NONE), |range| self.scientific_range(&range));
        }
        if range.integer == Some(true) && (range.strict || !self.flexible()) {
            return Some(NONE);
        }
        let mut parts = Vec::new();
        for negative in [false, true] {
            let (near, far) = if negative { (&range.high, &range.low) } else { (&range.low, &range.high) };
            let outside = |bound: &Bound| bound.value.is_negative() != negative && !bound.value.is_zero();
            if far.as_ref().is_some_and(|far| outside(far) || far.value.is_zero()) {
                continue;
            }
            let near = near.as_ref().filter(|near| near.value.is_negative() == negative && !near.value.is_zero());
            let magnitudes = if range.integer == Some(true) {
                self.scientific_integers(near, far.as_ref())
            } else {
                self.scientific_magnitudes(near, far.as_ref())
            };
            let sign = if negative { self.char('-') } else { EPSILON };
            parts.push(self.languages.concat(sign, magnitudes));
        }
        Some(self.languages.or(parts))
    }

    /// Whole numbers as printers write them past 10^16, where all of those are inside the bounds.
    fn scientific_integers(&mut self, near: Option<&Bound>, far: Option<&Bound>) -> ExprId {
        let start = Decimal::parse(&format!("1e{WHOLE_EXPONENT}")).unwrap_or(Decimal::ZERO);
        if far.is_some() || near.is_some_and(|near| near.value.magnitude() >= start) {
            return NONE;
        }
        let first = self.digits(1, 9);
        let point = self.char('.');
        let digits = self.any_digits(1, 16);
        let fraction = self.languages.concat(point, digits);
        let fraction = self.optional(fraction);
        let exponent = self.exponents(16, EXPONENT_LIMIT);
        self.languages.sequence(&[first, fraction, exponent])
    }

    /// The fraction of a mantissa with one digit before the point.
    fn mantissa_fraction(&mut self) -> ExprId {
        let point = self.char('.');
        let digits = self.any_digits(1, if self.flexible() { INFINITE } else { DIGITS - 1 });
        self.languages.concat(point, digits)
    }

    fn scientific_magnitudes(&mut self, near: Option<&Bound>, far: Option<&Bound>) -> ExprId {
        let most = Bound { value: Decimal::parse(MOST).unwrap_or(Decimal::ZERO), exclusive: false };
        let far = far.filter(|far| far.value <= most.value).unwrap_or(&most);
        let exponent_of = |bound: &Bound| bound.value.scientific().1;
        let low = near.map_or(-EXPONENT_LIMIT - 1, exponent_of);
        let high = exponent_of(far);
        if low > high {
            return NONE;
        }
        let free = self.mantissa_fraction();
        let free = self.optional(free);
        let first = self.digits(1, 9);
        let mut parts = Vec::new();
        if low < high {
            let mantissa = self.languages.concat(first, free);
            let exponents = self.exponents(low + 1, high - 1);
            parts.push(self.languages.concat(mantissa, exponents));
        }
        let mut at = |this: &mut Self, exponent: i64, near: Option<&Bound>, far: Option<&Bound>| {
            if exponent < -EXPONENT_LIMIT {
                return;
            }
            let split = |bound: &Bound| {
                let digits = bound.value.scientific().0;
                (digits[0], digits[1..].to_vec(), bound.exclusive)
            };
            let (near, far) = (near.map(split), far.map(split));
            let at_low = near.as_ref().map_or(free, |(_, rest, exclusive)| this.fraction_from(rest, *exclusive));
            let at_high = far.as_ref().map_or(free, |(_, rest, exclusive)| this.fraction_to(rest, *exclusive));
            let at_both = this.languages.and2(at_low, at_high);
            let (near, far) = (near.map_or(1, |n| n.0), far.map_or(9, |f| f.0));
            let mantissa = this.between(&[near], &[far], Tails { free, at_low, at_high, at_both });
            let exponents = this.exponents(exponent, exponent);
            parts.push(this.languages.concat(mantissa, exponents));
        };
        if low == high {
            at(self, low, near, Some(far));
        } else {
            at(self, low, near, None);
            at(self, high, None, Some(far));
        }
        self.languages.or(parts)
    }

    /// `[eE]` and an exponent within the bounds, with or without a plus sign and one leading zero.
    fn exponents(&mut self, low: i64, high: i64) -> ExprId {
        let (low, high) = (low.max(-EXPONENT_LIMIT), high.min(EXPONENT_LIMIT + 1));
        if low > high {
            return NONE;
        }
        let mut parts = Vec::new();
        if high >= 0 {
            let magnitudes = self.naturals(low.max(0), high);
            let plus = self.char('+');
            let plus = self.optional(plus);
            parts.push(self.languages.concat(plus, magnitudes));
        }
        if low < 0 {
            let magnitudes = self.naturals((-high).max(1), -low);
            let minus = self.char('-');
            parts.push(self.languages.concat(minus, magnitudes));
        }
        let value = self.languages.or(parts);
        let letter = self.languages.class(CharSet::ascii_of("eE"));
        self.languages.concat(letter, value)
    }

    fn naturals(&mut self, low: i64, high: i64) -> ExprId {
        let text = |value: i64| value.to_string().bytes().map(|byte| byte - b'0').collect::<Vec<u8>>();
        let tails = Tails { free: EPSILON, at_low: EPSILON, at_high: EPSILON, at_both: EPSILON };
        let (low, high) = (text(low), text(high));
        let digits = if low.len() == high.len() {
            self.between(&low, &high, tails)
        } else {
            let mut parts = vec![self.at_least(&low, tails), self.at_most(&high, tails, true)];
            if high.len() - low.len() > 1 {
                parts.push(self.longer(low.len() as u32, high.len() as u32 - 2, EPSILON));
            }
            self.languages.or(parts)
        };
        let zero = self.char('0');
        let zero = self.optional(zero);
        self.languages.concat(zero, digits)
    }
}
