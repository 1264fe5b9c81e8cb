//! Expressions that count instead of listing: multiples of a step, and the times of day of leap seconds.

use super::super::charset::CharSet;
use super::{Divisor, Expr, ExprId, Languages, NONE};

impl Languages {
    /// Decimal literals without exponent whose value is a multiple of `numerator / 10^scale`.
    /// The form of the literal (leading zeros and the like) is for another language to say.
    pub fn multiple_of(&mut self, numerator: u64, scale: u32) -> ExprId {
        let divisor = u32::try_from(self.divisors.len()).expect("fewer divisors than expressions");
        self.divisors.push(Divisor { numerator, scale });
        let magnitude = self.intern(Expr::Multiple { divisor, fraction: None, remainder: 0 });
        let minus = self.class(CharSet::one('-'));
        let sign = self.repeat(minus, 0, 1);
        self.concat(sign, magnitude)
    }

    /// `10^(scale - read)`, as the factor of a remainder; `None` when all digits are read.
    pub(super) fn multiple_weight(divisor: &Divisor, fraction: Option<u32>) -> u64 {
        let left = divisor.scale - fraction.unwrap_or(0).min(divisor.scale);
        10u64.saturating_pow(left)
    }

    pub(super) fn multiple_accepts(&self, divisor: u32, fraction: Option<u32>, remainder: u64) -> bool {
        let divisor = &self.divisors[divisor as usize];
        let weight = Self::multiple_weight(divisor, fraction);
        u128::from(remainder) * u128::from(weight) % u128::from(divisor.numerator) == 0
    }

    /// Fewest characters to a multiple.
    pub(super) fn multiple_rest(&self, divisor: u32, fraction: Option<u32>, remainder: u64) -> u32 {
        let Divisor { numerator, scale } = self.divisors[divisor as usize];
        let left = scale - fraction.unwrap_or(0).min(scale);
        let mut best = 40;
        for digits in 0..20u32 {
            // How many of the digits stand after the point.
            let split = if fraction.is_some() { digits..=digits } else { 0..=digits.min(scale) };
            for after in split.filter(|&after| after <= left) {
                let length = digits + u32::from(fraction.is_none() && after > 0);
                let modulus = u128::from(numerator);
                let weight = 10u128.pow(left - after) % modulus;
                let common = gcd(weight, modulus);
                let modulus = modulus / common;
                let room = 10u128.pow(digits);
                let missing = (modulus - u128::from(remainder) % modulus * (room % modulus) % modulus) % modulus;
                if missing < room {
                    best = best.min(length);
                }
            }
            if best <= digits {
                break;
            }
        }
        best
    }

    pub(super) fn derive_multiple(&mut self, divisor: u32, fraction: Option<u32>, remainder: u64, c: u32) -> ExprId {
        let Divisor { numerator, scale } = self.divisors[divisor as usize];
        if c == u32::from(b'.') && fraction.is_none() {
            return self.multiple_state(divisor, Some(0), remainder);
        }
        let Some(digit) = c.checked_sub(u32::from(b'0')).filter(|&digit| digit <= 9) else { return NONE };
        if fraction == Some(scale) {
            return if digit == 0 { self.multiple_state(divisor, fraction, remainder) } else { NONE };
        }
        let next = (u128::from(remainder) * 10 + u128::from(digit)) % u128::from(numerator);
        let next = u64::try_from(next).expect("below the numerator");
        self.multiple_state(divisor, fraction.map(|read| read + 1), next)
    }

    pub(super) fn multiple_state(&mut self, divisor: u32, fraction: Option<u32>, remainder: u64) -> ExprId {
        let definition = &self.divisors[divisor as usize];
        if fraction.is_some() {
            let weight = u128::from(Self::multiple_weight(definition, fraction));
            let numerator = u128::from(definition.numerator);
            let missing = (numerator - u128::from(remainder) * weight % numerator) % numerator;
            if missing >= weight {
                return NONE;
            }
        }
        self.intern(Expr::Multiple { divisor, fraction, remainder })
    }

    /// Times of day in the 60th second, with their offset (RFC 3339): 23:59:60 in UTC.
    pub fn leap_second(&mut self) -> ExprId {
        self.intern(Expr::Leap { place: 0, hour: 0, minute: 0 })
    }
}

pub(super) fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Places in a leap second: `hh:mm:60` is 0 to 8, then a fraction from its point on, then the offset.
const FRACTION_START: u8 = 9;
const FRACTION: u8 = 10;
/// `+hh:mm` is `PLUS` to `PLUS + 5`, `-hh:mm` likewise; then the end.
const PLUS: u8 = 11;
const MINUS: u8 = 17;
const END: u8 = 23;

/// Fewest characters from a place in a leap second to its end.
pub(super) fn leap_rest(place: u8, hour: u8, minute: u8) -> u32 {
    let zone = |could_be_utc: bool| if could_be_utc { 1 } else { 6 };
    let utc = (hour, minute) == (23, 59);
    match place {
        0 => 9,
        1 => 7 + zone(hour == 2),
        2 | 3 => 8 - u32::from(place) + zone(hour == 23),
        4 => 4 + zone(hour == 23 && minute == 5),
        5..=8 => 8 - u32::from(place) + zone(utc),
        FRACTION_START => 1 + zone(utc),
        FRACTION => zone(utc),
        PLUS..MINUS => u32::from(MINUS - place - 1),
        MINUS..END => u32::from(END - place - 1),
        _ => 0,
    }
}

/// One more character of a leap second; `hour` and `minute` hold the digits read so far.
pub(super) fn derive_leap(place: u8, hour: u8, minute: u8, c: u32) -> Option<(u8, u8, u8)> {
    let byte = u8::try_from(c).ok()?;
    let digit = byte.wrapping_sub(b'0');
    let is_digit = digit <= 9;
    // Local time is 23:59 plus or minus the offset, so the offset follows from it.
    let offset = |plus: bool| {
        let utc = 23 * 60 + 59;
        let local = i32::from(hour) * 60 + i32::from(minute);
        let ahead = if plus { local - utc } else { utc - local };
        let ahead =
            u32::from(u8::try_from(ahead.rem_euclid(24 * 60) / 60).unwrap_or(0)) * 60 + ahead.rem_euclid(60) as u32;
        let (h, m) = (ahead / 60, ahead % 60);
        [h / 10, h % 10, 10, m / 10, m % 10]
    };
    let forced = |wanted: u32| if wanted == 10 { byte == b':' } else { is_digit && u32::from(digit) == wanted };
    match place {
        0 if digit <= 2 => Some((1, digit, 0)),
        1 if is_digit && hour * 10 + digit <= 23 => Some((2, hour * 10 + digit, 0)),
        2 | 5 if byte == b':' => Some((place + 1, hour, minute)),
        3 if digit <= 5 => Some((4, hour, digit)),
        4 if is_digit => Some((5, hour, minute * 10 + digit)),
        6 if byte == b'6' => Some((7, hour, minute)),
        7 if byte == b'0' => Some((8, hour, minute)),
        8 if byte == b'.' => Some((FRACTION_START, hour, minute)),
        FRACTION_START | FRACTION if is_digit => Some((FRACTION, hour, minute)),
        8 | FRACTION => match byte {
            b'Z' | b'z' if (hour, minute) == (23, 59) => Some((END, 0, 0)),
            b'+' => Some((PLUS, hour, minute)),
            b'-' => Some((MINUS, hour, minute)),
            _ => None,
        },
        PLUS..END => {
            let (plus, at) = if place < MINUS { (true, place - PLUS) } else { (false, place - MINUS) };
            let wanted = *offset(plus).get(at as usize)?;
            if !forced(wanted) {
                return None;
            }
            Some(if at == 4 { (END, 0, 0) } else { (place + 1, hour, minute) })
        }
        _ => None,
    }
}
