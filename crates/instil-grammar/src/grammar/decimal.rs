//! Exact decimal numbers, as JSON writes them: comparison and divisibility without rounding.

use std::cmp::Ordering;

/// `0.DIGITS × 10^exponent`, with the sign; digits have no zero at either end, zero has none at all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Decimal {
    negative: bool,
    /// Values 0–9.
    digits: Vec<u8>,
    exponent: i64,
}

impl Decimal {
    /// Zero.
    pub const ZERO: Self = Self { negative: false, digits: Vec::new(), exponent: 0 };

    /// A JSON number.
    pub(crate) fn from_number(number: &serde_json::Number) -> Self {
        Self::parse(number.as_str()).unwrap_or(Self::ZERO)
    }

    /// A JSON number literal (a leading `+` and missing digits are taken too); `None` for other text.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let digits = whole.bytes().chain(fraction.bytes()).map(|byte| byte - b'0').collect();
        Some(Self::new(negative, digits, exponent.saturating_add(i64::try_from(whole.len()).ok()?)))
    }

    fn new(negative: bool, mut digits: Vec<u8>, mut exponent: i64) -> Self {
        let zeros = digits.iter().take_while(|&&digit| digit == 0).count();
        digits.drain(..zeros);
        exponent = exponent.saturating_sub(i64::try_from(zeros).unwrap_or(i64::MAX));
        while digits.last() == Some(&0) {
            digits.pop();
        }
        if digits.is_empty() { Self::ZERO } else { Self { negative, digits, exponent } }
    }

    /// A whole number.
    pub(crate) fn from_u64(value: u64) -> Self {
        Self::parse(&value.to_string()).unwrap_or(Self::ZERO)
    }

    /// Below zero.
    pub(crate) fn is_negative(&self) -> bool {
        self.negative
    }

    /// Equal to zero.
    pub fn is_zero(&self) -> bool {
        self.digits.is_empty()
    }

    /// The number without its sign.
    #[must_use]
    pub fn magnitude(&self) -> Self {
        Self { negative: false, ..self.clone() }
    }

    /// No fraction.
    pub(crate) fn is_integer(&self) -> bool {
        self.exponent >= self.digits.len() as i64
    }

    /// Significant digits (values 0–9) and `e` such that the number is `d.ddd × 10^e`.
    pub(crate) fn scientific(&self) -> (&[u8], i64) {
        (&self.digits, self.exponent - 1)
    }

    /// Digits before and after the point, as values; the first is `[0]` for a magnitude below one.
    /// `None` when there would be more than `limit` of them.
    pub fn plain(&self, limit: usize) -> Option<(Vec<u8>, Vec<u8>)> {
        if self.is_zero() {
            return Some((vec![0], Vec::new()));
        }
        let limit = i64::try_from(limit).ok()?;
        if self.exponent > limit || self.digits.len() as i64 - self.exponent > limit {
            return None;
        }
        if self.exponent <= 0 {
            let mut fraction = vec![0; usize::try_from(-self.exponent).ok()?];
            fraction.extend_from_slice(&self.digits);
            return Some((vec![0], fraction));
        }
        let point = usize::try_from(self.exponent).ok()?;
        let mut whole = self.digits[..point.min(self.digits.len())].to_vec();
        whole.resize(point, 0);
        Some((whole, self.digits.get(point..).unwrap_or(&[]).to_vec()))
    }

    /// The greatest whole number not above it (`up`: the least not below it); unchanged where too large to write out.
    #[must_use]
    pub(crate) fn to_integer(&self, up: bool) -> Self {
        if self.is_integer() {
            return self.clone();
        }
        let Some((mut whole, _)) = self.plain(4096) else {
            // Too many fraction digits to write out: cut them.
            let whole = if self.exponent <= 0 { Vec::new() } else { self.digits[..self.exponent as usize].to_vec() };
            return self.rounded(whole, up);
        };
        if whole == [0] {
            whole.clear();
        }
        self.rounded(whole, up)
    }

    fn rounded(&self, mut whole: Vec<u8>, up: bool) -> Self {
        if up != self.negative {
            // Away from zero: add one.
            let mut at = whole.len();
            loop {
                if at == 0 {
                    whole.insert(0, 1);
                    break;
                }
                at -= 1;
                if whole[at] < 9 {
                    whole[at] += 1;
                    break;
                }
                whole[at] = 0;
            }
        }
        let exponent = whole.len() as i64;
        Self::new(self.negative, whole, exponent)
    }

    /// `numerator / 10^scale`, for a positive number whose parts fit.
    pub(crate) fn as_step(&self) -> Option<(u64, u32)> {
        if self.negative || self.is_zero() {
            return None;
        }
        let scale = self.digits.len() as i64 - self.exponent;
        let mut numerator: u64 = 0;
        for &digit in &self.digits {
            numerator = numerator.checked_mul(10)?.checked_add(u64::from(digit))?;
        }
        if scale > 18 {
            return None;
        }
        for _ in scale..0 {
            numerator = numerator.checked_mul(10)?;
        }
        Some((numerator, u32::try_from(scale.max(0)).ok()?))
    }

    /// The least common multiple of two positive numbers, where its parts fit.
    pub(crate) fn common_multiple(&self, other: &Self) -> Option<Self> {
        let ((a, a_scale), (b, b_scale)) = (self.as_step()?, other.as_step()?);
        let scale = a_scale.max(b_scale);
        let a = u128::from(a).checked_mul(10u128.pow(scale - a_scale))?;
        let b = u128::from(b).checked_mul(10u128.pow(scale - b_scale))?;
        let (mut x, mut y) = (a, b);
        while y > 0 {
            (x, y) = (y, x % y);
        }
        let common = (a / x).checked_mul(b)?;
        Self::parse(&format!("{common}e-{scale}")).filter(|common| common.as_step().is_some())
    }

    /// Exact divisibility; `None` when the step has too many digits to tell.
    pub fn is_multiple_of(&self, step: &Self) -> Option<bool> {
        if self.is_zero() {
            return Some(true);
        }
        let mut modulus: u128 = 0;
        for &digit in &step.digits {
            modulus = modulus.checked_mul(10)?.checked_add(u128::from(digit))?;
        }
        if modulus == 0 || modulus > u128::MAX / 16 {
            return None;
        }
        // self = a·10^x, step = m·10^y; neither a nor m ends in zero.
        let x = self.exponent - self.digits.len() as i64;
        let y = step.exponent - step.digits.len() as i64;
        if x < y {
            return Some(false);
        }
        let mut remainder = self.digits.iter().fold(0, |rest, &digit| (rest * 10 + u128::from(digit)) % modulus);
        for _ in 0..(x - y).min(4096) {
            remainder = remainder * 10 % modulus;
            if remainder == 0 {
                break;
            }
        }
        Some(remainder == 0)
    }
}

fn parse_exponent(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: i64 = digits.parse().unwrap_or(i64::MAX / 4).min(i64::MAX / 4);
    Some(if negative { -value } else { value })
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let sign = |d: &Self| {
            if d.is_zero() {
                0
            } else if d.negative {
                -1
            } else {
                1
            }
        };
        sign(self).cmp(&sign(other)).then_with(|| {
            let by_magnitude = self.exponent.cmp(&other.exponent).then_with(|| self.digits.cmp(&other.digits));
            if self.negative { by_magnitude.reverse() } else { by_magnitude }
        })
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn d(text: &str) -> Decimal {
        Decimal::parse(text).expect("a number")
    }

    #[test]
    fn compares_and_divides_exactly() {
        assert_eq!(d("1.0"), d("1"));
        assert_eq!(d("-0.0"), Decimal::ZERO);
        assert_eq!(d("120e-1"), d("12"));
        assert!(d("0.1") < d("0.10000000000000000000000001"));
        assert!(d("-2") < d("-1.5"));
        assert!(d("9.99") < d("10"));
        assert_eq!(d("19.99").is_multiple_of(&d("0.01")), Some(true));
        assert_eq!(d("0.07").is_multiple_of(&d("0.02")), Some(false));
        assert_eq!(d("1e308").is_multiple_of(&d("3")), Some(false));
        assert_eq!(d("1e5").is_multiple_of(&d("2.5")), Some(true));
        assert!(d("1e3").is_integer() && !d("1.5").is_integer() && d("15e-1") == d("1.5"));
        assert_eq!(d("-1.5").to_integer(false), d("-2"));
        assert_eq!(d("-1.5").to_integer(true), d("-1"));
        assert_eq!(d("9.5").to_integer(true), d("10"));
        assert_eq!(d("0.5").to_integer(false), Decimal::ZERO);
        assert_eq!(d("-0.5").to_integer(true), Decimal::ZERO);
        assert_eq!(d("120.5").plain(64), Some((vec![1, 2, 0], vec![5])));
        assert_eq!(d("0.05").as_step(), Some((5, 2)));
        assert_eq!(d("300").as_step(), Some((300, 0)));
    }
}
