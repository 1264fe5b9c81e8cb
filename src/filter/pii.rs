//! Personal data and secrets in a text: e-mail addresses, phone numbers, payment cards (with their
//! check digit), bank accounts (IBAN, mod 97), IP addresses, access keys, numbers of persons (USA, China).
//!
//! Shapes, not understanding: names and postal addresses are not found.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::text::text;
use super::{FieldRead, Filter, Problem, Reason, Rule};

/// The rule, as a recipe names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pii {
    /// The fields.
    pub fields: Vec<String>,
    /// What to do with a row that holds some.
    #[serde(default)]
    pub action: Action,
    /// What to look for.
    #[serde(default = "Kind::usual")]
    pub kinds: Vec<Kind>,
}

/// What to do with a row that holds personal data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Turn it down.
    #[default]
    Reject,
    /// Replace each find by a placeholder such as `[EMAIL]`.
    Mask,
}

/// A kind of personal data or secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Access keys and tokens of common shapes, private keys.
    Key,
    /// E-mail addresses.
    Email,
    /// Bank accounts, with their check digits right.
    Iban,
    /// Numbers of persons: of US social security as 000-00-0000, and of Chinese identity cards with their check digit
    /// right.
    Id,
    /// Payment card numbers, with their check digit right.
    Card,
    /// Phone numbers written with a country code, in the North American way, with a leading 0 in groups (030/123456,
    /// 0800 555 1234, 01 23 45 67 89), or as Chinese mobile numbers; other numbers without a country code are taken for
    /// plain numbers.
    Phone,
    /// Public IPv4 addresses.
    Ipv4,
}

impl Kind {
    /// Every kind, in the order in which they are looked for: what one finds the next ones leave.
    const ALL: [Self; 7] = [Self::Key, Self::Email, Self::Iban, Self::Id, Self::Card, Self::Phone, Self::Ipv4];

    fn usual() -> Vec<Self> {
        Self::ALL.to_vec()
    }

    fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Email => "email",
            Self::Iban => "iban",
            Self::Id => "id",
            Self::Card => "card",
            Self::Phone => "phone",
            Self::Ipv4 => "ipv4",
        }
    }

    fn pattern(self) -> &'static Regex {
        static PATTERNS: LazyLock<[Regex; 7]> = LazyLock::new(|| {
            let patterns = [
                concat!(
                    r"\b(?:sk-(?:[a-z]+-)?[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,}",
                    r"|hf_[A-Za-z0-9]{30,}|(?:AKIA|ASIA)[0-9A-Z]{16}|AIza[0-9A-Za-z_-]{35}|xox[abprs]-[A-Za-z0-9-]{10,}",
                    r"|glpat-[A-Za-z0-9_-]{20,}|[rs]k_live_[A-Za-z0-9]{16,}|npm_[A-Za-z0-9]{36}",
                    r"|eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,})",
                    r"|-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----",
                ),
                r"(?i)\b[a-z0-9][a-z0-9._%+-]{0,63}@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,24}\b",
                r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b",
                r"(?-u:\b)(?:[0-9]{3}-[0-9]{2}-[0-9]{4}|[1-9][0-9]{16}[0-9Xx])(?-u:\b)",
                r"\b[0-9](?:[ -]?[0-9]){12,18}\b",
                concat!(
                    r"\+[1-9][0-9]{0,2}(?:[ .-]?\(?[0-9]{1,4}\)?){2,6}\b",
                    r"|(?:\([2-9][0-9]{2}\) ?|\b[2-9][0-9]{2}[-. ])[2-9][0-9]{2}[-. ][0-9]{4}\b",
                    r"|\b0[1-9][0-9]{1,4}/[0-9]{5,8}\b|\b0[1-9][0-9]{1,3}[ -][0-9]{3,4}[ -][0-9]{3,4}\b",
                    r"|\b0[1-9](?:[ .][0-9]{2}){4}\b|(?-u:\b)1[3-9][0-9]{9}(?-u:\b)",
                ),
                r"\b(?:[0-9]{1,3}\.){3}[0-9]{1,3}\b",
            ];
            patterns.map(|pattern| Regex::new(pattern).expect("the patterns are constants"))
        });
        &PATTERNS[self as usize]
    }

    /// How much of a match counts: what a shape alone cannot say.
    fn confirm(self, text: &str, found: Range<usize>) -> Option<Range<usize>> {
        let digits = |text: &str| text.chars().filter(char::is_ascii_digit).count();
        let confirmed = match self {
            Self::Key => true,
            // Addresses of the domains that are reserved for examples (RFC 2606) are nobody's.
            Self::Email => {
                let domain = text[found.clone()].rsplit('@').next().unwrap_or_default().to_ascii_lowercase();
                let reserved = ["example.com", "example.org", "example.net"];
                let inside = |suffix: &&str| domain == **suffix || domain.ends_with(&format!(".{suffix}"));
                !reserved.iter().any(inside)
                    && ![".example", ".invalid", ".test", ".localhost"].iter().any(|end| domain.ends_with(end))
            }
            Self::Iban => return iban(text, found),
            Self::Id => {
                let joined = |c: Option<char>| c.is_some_and(|c| c == '-' || c == '.');
                let number = &text[found.clone()];
                let apart = !joined(text[..found.start].chars().next_back())
                    && !text[found.end..].strip_prefix('-').is_some_and(|rest| rest.starts_with(char::is_alphanumeric));
                apart && (is_social_security(number) || is_chinese_identity(number))
            }
            Self::Card => is_card(&text[found.clone()]),
            Self::Phone => {
                (8..=15).contains(&digits(&text[found.clone()]))
                    && !text[..found.start].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '-')
            }
            Self::Ipv4 => is_public_address(text, &found),
        };
        confirmed.then_some(found)
    }
}

/// A find: where, and of which kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Find {
    /// Bytes of the text.
    pub at: Range<usize>,
    /// The kind.
    pub kind: Kind,
}

/// What stands in `text`, in its order; finds do not overlap.
pub(crate) fn find(text: &str, kinds: &[Kind]) -> Vec<Find> {
    let mut finds: Vec<Find> = Vec::new();
    // Most texts hold neither digit nor sign that any kind needs.
    if !text.bytes().any(|byte| byte.is_ascii_digit() || matches!(byte, b'@' | b'_' | b'-')) {
        return finds;
    }
    for kind in Kind::ALL.into_iter().filter(|kind| kinds.contains(kind)) {
        for found in kind.pattern().find_iter(text) {
            let Some(at) = kind.confirm(text, found.range()) else { continue };
            if finds.iter().all(|find| find.at.end <= at.start || at.end <= find.at.start) {
                finds.push(Find { at, kind });
            }
        }
    }
    finds.sort_by_key(|find| find.at.start);
    finds
}

impl Pii {
    /// The rule over `fields`, for every kind.
    pub fn new(fields: Vec<String>, action: Action) -> Self {
        Self { fields, action, kinds: Kind::usual() }
    }

    /// Replaces what is found by placeholders, if that is the action; how many were replaced.
    pub(crate) fn mask(&self, row: &mut Map<String, Value>) -> usize {
        if self.action != Action::Mask {
            return 0;
        }
        self.fields.iter().map(|field| self.mask_field(row, field)).sum()
    }

    fn mask_field(&self, row: &mut Map<String, Value>, field: &str) -> usize {
        if let Some(value) = row.get_mut(field) {
            return self.mask_value(value);
        }
        match field.split_once('.') {
            Some((first, rest)) => match row.get_mut(first) {
                Some(Value::Object(inner)) => self.mask_field(inner, rest),
                // One role of a conversation: the others are not asked for, but masking them does no harm.
                Some(value @ Value::Array(_)) => self.mask_value(value),
                _ => 0,
            },
            None => 0,
        }
    }

    fn mask_value(&self, value: &mut Value) -> usize {
        match value {
            Value::String(text) => {
                let finds = find(text, &self.kinds);
                for find in finds.iter().rev() {
                    text.replace_range(find.at.clone(), &format!("[{}]", find.kind.name().to_uppercase()));
                }
                finds.len()
            }
            Value::Array(messages) => {
                let contents = messages.iter_mut().filter_map(|message| {
                    let message = message.as_object_mut()?;
                    let key = if message.contains_key("content") { "content" } else { "value" };
                    message.get_mut(key).filter(|content| content.is_string())
                });
                contents.map(|content| self.mask_value(content)).sum()
            }
            _ => 0,
        }
    }
}

impl Rule for Pii {
    fn reads(&self) -> Vec<FieldRead<'_>> {
        FieldRead::each("/fields", &self.fields).collect()
    }

    fn problem(&self) -> Option<Problem> {
        Problem::empty("/fields", &self.fields)
    }

    fn filters(&self) -> Vec<Box<dyn Filter>> {
        vec![Box::new(self.clone())]
    }
}

impl Filter for Pii {
    fn check(&self, row: &Map<String, Value>) -> Option<Reason> {
        if self.action == Action::Mask {
            return None;
        }
        self.fields.iter().find_map(|field| {
            let finds = find(&text(row, field), &self.kinds);
            // The reason names the kind only: a list of rejects must not spread what was found.
            let first = finds.first()?;
            Some(Reason::new("pii", format!("{field} holds {} of kind {}", finds.len(), first.kind.name())))
        })
    }
}

/// The Luhn check (ISO/IEC 7812-1) over the digits of a number that begins as cards do.
fn is_card(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(10)).collect();
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match (place % 2, digit * 2) {
            (0, _) => *digit,
            (_, double) => double / 10 + double % 10,
        })
        .sum();
    matches!(digits.first(), Some(2..=6)) && sum.is_multiple_of(10)
}

/// A number that US social security gives: no part of zeros, no area 666 or from 900 on.
fn is_social_security(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [area, group, serial] = parts[..] else { return false };
    area != "000" && area != "666" && !area.starts_with('9') && group != "00" && serial != "0000"
}

/// A Chinese identity number (GB 11643-1999): a day of birth, and the check digit mod 11.
fn is_chinese_identity(text: &str) -> bool {
    const WEIGHTS: [u32; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    let digits: Vec<u32> = text.chars().take(17).filter_map(|c| c.to_digit(10)).collect();
    if digits.len() != 17 || text.len() != 18 {
        return false;
    }
    let number = |from: usize, to: usize| digits[from..to].iter().fold(0, |number, digit| number * 10 + digit);
    let born = (1850..2100).contains(&number(6, 10)) && (1..=12).contains(&number(10, 12));
    let sum: u32 = digits.iter().zip(WEIGHTS).map(|(digit, weight)| digit * weight).sum();
    let check = b"10X98765432"[(sum % 11) as usize];
    born && (1..=31).contains(&number(12, 14)) && text.as_bytes()[17].to_ascii_uppercase() == check
}

/// The longest beginning of a match that is an account number: ISO 13616, check digits mod 97.
fn iban(text: &str, found: Range<usize>) -> Option<Range<usize>> {
    let candidate = &text[found.clone()];
    let ends = candidate.char_indices().map(|(at, c)| at + c.len_utf8()).rev();
    // A word may follow the number; the number ends where a group ends.
    let ends = ends.filter(|end| candidate[*end..].chars().next().is_none_or(|next| next == ' '));
    for end in ends {
        let plain: Vec<u8> = candidate[..end].bytes().filter(|byte| *byte != b' ').collect();
        if !(15..=34).contains(&plain.len()) {
            continue;
        }
        let turned = plain[4..].iter().chain(&plain[..4]);
        let remainder = turned.fold(0u32, |remainder, byte| match byte {
            b'0'..=b'9' => (remainder * 10 + u32::from(byte - b'0')) % 97,
            letter => (remainder * 100 + u32::from(letter - b'A') + 10) % 97,
        });
        if remainder == 1 {
            return Some(found.start..found.start + end);
        }
    }
    None
}

/// Four numbers below 256 that are neither part of a longer one nor of a range for private use,
/// loopback, documentation or broadcast.
fn is_public_address(text: &str, found: &Range<usize>) -> bool {
    let joined = |c: char| c.is_alphanumeric();
    let before = text[..found.start].chars().next_back();
    let after = text[found.end..].strip_prefix('.').and_then(|rest| rest.chars().next());
    if before == Some('.') || after.is_some_and(joined) {
        return false;
    }
    let Ok(address) = text[found.clone()].parse::<std::net::Ipv4Addr>() else { return false };
    let special = address.is_private()
        || address.is_loopback()
        || address.is_documentation()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_multicast()
        || address.octets()[0] == 0;
    // Versions of programs look the same: 1.2.3.4 is one more often than a machine.
    !special && !address.octets().iter().all(|octet| *octet < 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<(&str, Kind)> {
        find(text, &Kind::ALL).into_iter().map(|find| (&text[find.at], find.kind)).collect()
    }

    #[test]
    fn finds_each_kind() {
        let cases: [(&str, &str, Kind); 21] = [
            ("Write to jo.doe+x@mail.uni-bonn.de today.", "jo.doe+x@mail.uni-bonn.de", Kind::Email),
            ("Call +49 228 123 4567.", "+49 228 123 4567", Kind::Phone),
            ("Call (415) 555-2671 now", "(415) 555-2671", Kind::Phone),
            ("Call 415-555-2671 now", "415-555-2671", Kind::Phone),
            ("Ruf 030/123456 an", "030/123456", Kind::Phone),
            ("call 0800 555 1234", "0800 555 1234", Kind::Phone),
            ("au 01 23 45 67 89.", "01 23 45 67 89", Kind::Phone),
            ("电话13800138000。", "13800138000", Kind::Phone),
            ("SSN 078-05-1120.", "078-05-1120", Kind::Id),
            ("号码11010519491231002X。", "11010519491231002X", Kind::Id),
            ("440524188001010014", "440524188001010014", Kind::Id),
            ("card 4111 1111 1111 1111, thanks", "4111 1111 1111 1111", Kind::Card),
            ("card 378282246310005", "378282246310005", Kind::Card),
            ("pay to DE89 3704 0044 0532 0130 00 TODAY", "DE89 3704 0044 0532 0130 00", Kind::Iban),
            ("GB82WEST12345698765432", "GB82WEST12345698765432", Kind::Iban),
            ("host 93.184.216.34.", "93.184.216.34", Kind::Ipv4),
            ("key AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE", Kind::Key),
            ("hf_abcdefghijklmnopqrstuvwxyzABCDEFGH", "hf_abcdefghijklmnopqrstuvwxyzABCDEFGH", Kind::Key),
            ("sk-proj-abcdefghij0123456789ABCD", "sk-proj-abcdefghij0123456789ABCD", Kind::Key),
            ("ghp_0123456789abcdefghijABCDEFGHIJ012345", "ghp_0123456789abcdefghijABCDEFGHIJ012345", Kind::Key),
            ("-----BEGIN RSA PRIVATE KEY-----", "-----BEGIN RSA PRIVATE KEY-----", Kind::Key),
        ];
        for (text, found, kind) in cases {
            assert_eq!(kinds(text), [(found, kind)], "{text}");
        }
    }

    #[test]
    fn leaves_numbers_and_words_alone() {
        for text in [
            "someone@example.com",
            "4111 1111 1111 1112 has a wrong check digit",
            "DE88 3704 0044 0532 0130 00 has wrong check digits",
            "127.0.0.1, 192.168.1.1, 10.0.0.1 and version 1.2.3.4",
            "300.1.2.3 and 93.184.216.34.5",
            "3.14159265358979, 1234567890123456, 2024-01-02, 10,000,000",
            "an @ sign, a-b-c, x_1, sk-short, pages 100-200",
            "The sum of 123 456 7890 and 1.",
            "000-12-3456, 666-12-3456, 912-12-3456 and 078-05-1120-3",
            "110105194912310021 has a wrong check digit",
            "23800138000 and 138001380001, 0.123 456 789, 05/12/2023",
            "a+b=12345678",
            "",
        ] {
            let found = kinds(text);
            assert!(found.is_empty(), "{text}: {found:?}");
        }
    }

    #[test]
    fn masks_texts_and_conversations() {
        let rule = Pii::new(vec!["a".into(), "messages".into()], Action::Mask);
        let row = serde_json::json!({
            "a": "jo@mail.de or +49 228 1234567", "b": "jo@mail.de",
            "messages": [{"role": "user", "content": "I am jo@mail.de"}],
        });
        let mut row = row.as_object().expect("an object").clone();
        assert_eq!(rule.mask(&mut row), 3);
        assert_eq!(row["a"], "[EMAIL] or [PHONE]");
        assert_eq!(row["b"], "jo@mail.de");
        assert_eq!(row["messages"][0]["content"], "I am [EMAIL]");
        assert_eq!(rule.check(&row), None);
        let rule = Pii::new(vec!["b".into()], Action::Reject);
        assert_eq!(rule.mask(&mut row), 0);
        let reason = rule.check(&row).expect("found");
        assert!(reason.detail.contains("email") && !reason.detail.contains("jo@"), "{}", reason.detail);
    }
}
