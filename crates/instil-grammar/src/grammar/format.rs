//! `format`: the ones that are enforced, in every dialect.
//!
//! `date`, `time`, `date-time`, `duration` (RFC 3339: leap years and leap seconds are exact), `email`, `idn-email`
//! (RFC 5321, no comments), `hostname` (RFC 1123; labels in `xn--` form are checked when the
//! string is complete), `idn-hostname` (no `xn--` labels), `ipv4`, `ipv6`,
//! `uri`, `uri-reference` (RFC 3986), `iri`, `iri-reference` (RFC 3987), `uri-template` (RFC 6570), `uuid`, `json-pointer`,
//! `relative-json-pointer`, `regex` (ECMA-262, checked when the string is complete, by the reader that the `jsonschema`
//! crate has for it). Any other
//! name is an annotation.

use std::sync::OnceLock;

use super::language::{ANY, ExprId, Languages, NONE};
use super::pattern::{Dialect, Pattern};

/// A format that is enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the variants are the names")]
pub enum Format {
    Date,
    Time,
    DateTime,
    Duration,
    Email,
    IdnEmail,
    Hostname,
    IdnHostname,
    Ipv4,
    Ipv6,
    Uri,
    UriReference,
    Iri,
    IriReference,
    UriTemplate,
    Uuid,
    JsonPointer,
    RelativeJsonPointer,
    Regex,
}

/// Every format that is enforced, with its name.
pub const FORMATS: [(&str, Format); 19] = [
    ("date", Format::Date),
    ("time", Format::Time),
    ("date-time", Format::DateTime),
    ("duration", Format::Duration),
    ("email", Format::Email),
    ("idn-email", Format::IdnEmail),
    ("hostname", Format::Hostname),
    ("idn-hostname", Format::IdnHostname),
    ("ipv4", Format::Ipv4),
    ("ipv6", Format::Ipv6),
    ("uri", Format::Uri),
    ("uri-reference", Format::UriReference),
    ("iri", Format::Iri),
    ("iri-reference", Format::IriReference),
    ("uri-template", Format::UriTemplate),
    ("uuid", Format::Uuid),
    ("json-pointer", Format::JsonPointer),
    ("relative-json-pointer", Format::RelativeJsonPointer),
    ("regex", Format::Regex),
];

const DATE: &str = r"(?:\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)|02-(?:0[1-9]|1\d|2[0-8]))|(?:\d\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)";
const TIME: &str = r"(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d+)?(?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)";
const LABEL: &str = r"[A-Za-z0-9](?:[A-Za-z0-9]|[A-Za-z0-9-][A-Za-z0-9]|[A-Za-z0-9-]{2}[A-Za-z0-9]|[A-Za-z0-9-](?:[A-Za-z0-9][A-Za-z0-9-]|-[A-Za-z0-9])[A-Za-z0-9-]{0,58}[A-Za-z0-9])?";
const IDN_LABEL: &str = r"[\p{L}\p{Nd}](?:[\p{L}\p{Nd}]|[\p{L}\p{M}\p{Nd}-][\p{L}\p{M}\p{Nd}]|[\p{L}\p{M}\p{Nd}-]{2}[\p{L}\p{M}\p{Nd}]|[\p{L}\p{M}\p{Nd}-](?:[\p{L}\p{M}\p{Nd}][\p{L}\p{M}\p{Nd}-]|-[\p{L}\p{M}\p{Nd}])[\p{L}\p{M}\p{Nd}-]{0,58}[\p{L}\p{M}\p{Nd}])?";
const IPV4: &str = r"(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)";
/// Characters above ASCII that an IRI may hold, and those that its query may hold besides.
const UCS: &str = r"\u{A0}-\u{D7FF}\u{F900}-\u{FDCF}\u{FDF0}-\u{FFEF}\u{10000}-\u{1FFFD}\u{20000}-\u{2FFFD}\u{30000}-\u{3FFFD}\u{40000}-\u{4FFFD}\u{50000}-\u{5FFFD}\u{60000}-\u{6FFFD}\u{70000}-\u{7FFFD}\u{80000}-\u{8FFFD}\u{90000}-\u{9FFFD}\u{A0000}-\u{AFFFD}\u{B0000}-\u{BFFFD}\u{C0000}-\u{CFFFD}\u{D0000}-\u{DFFFD}\u{E1000}-\u{EFFFD}";
const PRIVATE: &str = r"\u{E000}-\u{F8FF}\u{F0000}-\u{FFFFD}\u{100000}-\u{10FFFD}";

fn ipv6() -> String {
    let (h, v4) = ("[0-9A-Fa-f]{1,4}", IPV4);
    let tail = format!("(?:{h}:{h}|{v4})");
    format!(
        "(?:(?:{h}:){{6}}{tail}|::(?:{h}:){{5}}{tail}|(?:{h})?::(?:{h}:){{4}}{tail}|(?:(?:{h}:){{0,1}}{h})?::(?:{h}:){{3}}{tail}\
         |(?:(?:{h}:){{0,2}}{h})?::(?:{h}:){{2}}{tail}|(?:(?:{h}:){{0,3}}{h})?::{h}:{tail}|(?:(?:{h}:){{0,4}}{h})?::{tail}\
         |(?:(?:{h}:){{0,5}}{h})?::{h}|(?:(?:{h}:){{0,6}}{h})?::)"
    )
}

fn uri(international: bool, reference: bool) -> String {
    let (ucs, private) = if international { (UCS, PRIVATE) } else { ("", "") };
    let hex = "%[0-9A-Fa-f]{2}";
    let unit = format!(r"[A-Za-z0-9._~!$&'()*+,;={ucs}-]");
    let name = format!("(?:{unit}|{hex})");
    let pchar = format!(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@{ucs}-]|{hex})");
    let user = format!(r"(?:[A-Za-z0-9._~!$&'()*+,;=:{ucs}-]|{hex})*");
    let future = r"[vV][0-9A-Fa-f]+\.[A-Za-z0-9._~!$&'()*+,;=:-]+";
    let authority = format!(r"(?:{user}@)?(?:\[(?:{}|{future})\]|{name}*)(?::\d*)?", ipv6());
    let segments = format!("(?:/{pchar}*)*");
    let absolute = format!("/(?:{pchar}+{segments})?");
    let query = format!(r"(?:\?(?:[A-Za-z0-9._~!$&'()*+,;=:@/?{ucs}{private}-]|{hex})*)?");
    let fragment = format!(r"(?:#(?:[A-Za-z0-9._~!$&'()*+,;=:@/?{ucs}-]|{hex})*)?");
    let full = format!("[A-Za-z][A-Za-z0-9+.-]*:(?://{authority}{segments}|{absolute}|{pchar}+{segments}|)");
    if !reference {
        return format!("{full}{query}{fragment}");
    }
    let first = format!(r"(?:[A-Za-z0-9._~!$&'()*+,;=@{ucs}-]|{hex})+");
    format!("(?:{full}|//{authority}{segments}|{absolute}|{first}{segments}|){query}{fragment}")
}

fn email(international: bool) -> String {
    let wide = if international { r"\u{80}-\u{10FFFF}" } else { "" };
    let atom = format!(r"[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~{wide}-]+");
    let quoted = format!(r#""(?:[\t !#-\[\]-~{wide}]|\\[!-~])*""#);
    let label = if international { IDN_LABEL } else { LABEL };
    let literal = format!(r"\[(?:{IPV4}|[Ii][Pp][Vv]6:{})\]", ipv6());
    format!(r"(?:{atom}(?:\.{atom})*|{quoted})@(?:{label}(?:\.{label})*|{literal})")
}

impl Format {
    /// The format of a name, where it is enforced.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        FORMATS.iter().find(|(other, _)| *other == name).map(|(_, format)| *format)
    }

    /// A regex for it, in the project's own dialect.
    fn source(self) -> String {
        let hex = "[0-9A-Fa-f]";
        match self {
            Self::Date => DATE.into(),
            Self::Time => TIME.into(),
            Self::DateTime => format!("{DATE}[Tt]{TIME}"),
            Self::Duration => r"P(?:\d+W|(?:\d+Y(?:\d+M(?:\d+D)?)?|\d+M(?:\d+D)?|\d+D)(?:T(?:\d+H(?:\d+M(?:\d+S)?)?|\d+M(?:\d+S)?|\d+S))?|T(?:\d+H(?:\d+M(?:\d+S)?)?|\d+M(?:\d+S)?|\d+S))".into(),
            Self::Email => email(false),
            Self::IdnEmail => email(true),
            Self::Hostname => format!(r"{LABEL}(?:\.{LABEL})*"),
            Self::IdnHostname => format!(r"{IDN_LABEL}(?:\.{IDN_LABEL})*"),
            Self::Ipv4 => IPV4.into(),
            Self::Ipv6 => ipv6(),
            Self::Uri => uri(false, false),
            Self::UriReference => uri(false, true),
            Self::Iri => uri(true, false),
            Self::IriReference => uri(true, true),
            Self::UriTemplate => {
                let name = r"(?:[A-Za-z0-9_]|%[0-9A-Fa-f]{2})+";
                let variable = format!(r"{name}(?:\.{name})*(?::[1-9]\d{{0,3}}|\*)?");
                format!(r#"(?:[^\x00-\x20"<>%\\^`{{|}}\x7f]|%[0-9A-Fa-f]{{2}}|\{{[+#./;?&=,!@|]?{variable}(?:,{variable})*\}})*"#)
            }
            Self::Uuid => format!("{hex}{{8}}-{hex}{{4}}-{hex}{{4}}-{hex}{{4}}-{hex}{{12}}"),
            Self::JsonPointer => r"(?s)(?:/(?:[^~/]|~[01])*)*".into(),
            Self::RelativeJsonPointer => r"(?s)(?:0|[1-9]\d*)(?:#|(?:/(?:[^~/]|~[01])*)*)".into(),
            Self::Regex => "(?s).*".into(),
        }
    }

    /// Its language, and whether that is all there is to it; else [`Format::check`] decides.
    pub(crate) fn language(self, languages: &mut Languages) -> (ExprId, bool) {
        static PARSED: [OnceLock<Pattern>; FORMATS.len()] = [const { OnceLock::new() }; FORMATS.len()];
        if self == Self::Regex {
            return (ANY, false);
        }
        let pattern = PARSED[self as usize]
            .get_or_init(|| Pattern::parse(&self.source(), Dialect::Own).expect("the formats are tested"));
        let mut language = pattern.language(languages).unwrap_or(NONE);
        match self {
            Self::Time => {
                let leap = languages.leap_second();
                language = languages.or2(language, leap);
            }
            Self::DateTime => {
                let date = Pattern::parse(&format!("{DATE}[Tt]"), Dialect::Own).expect("the formats are tested");
                let date = date.language(languages).unwrap_or(NONE);
                let leap = languages.leap_second();
                let leap = languages.concat(date, leap);
                language = languages.or2(language, leap);
            }
            Self::Email | Self::IdnEmail => {
                // At most 64 bytes before the sign, 253 after it.
                let local = Pattern::parse("(?s).{1,64}@[^@]{1,253}", Dialect::Own).expect("the formats are tested");
                let bound = local.language(languages).unwrap_or(NONE);
                language = languages.and2(language, bound);
            }
            Self::Hostname | Self::IdnHostname => {
                let bound = languages.length_between(1, 253);
                language = languages.and2(language, bound);
            }
            _ => {}
        }
        (language, true)
    }

    /// What its language leaves out and [`Format::check`] decides: host names with a label in `xn--` form.
    pub(crate) fn extension(self, languages: &mut Languages) -> ExprId {
        let Self::Hostname = self else { return NONE };
        let encoded = "xn--[A-Za-z0-9-]{0,58}[A-Za-z0-9]";
        let source = format!(r"(?:(?:{LABEL}|{encoded})\.)*{encoded}(?:\.(?:{LABEL}|{encoded}))*");
        let pattern = Pattern::parse(&source, Dialect::Own).expect("the formats are tested");
        let language = pattern.language(languages).unwrap_or(NONE);
        let bound = languages.length_between(1, 253);
        languages.and2(language, bound)
    }

    /// Exact check, where the language alone does not decide.
    pub(crate) fn check(self, text: &str) -> bool {
        match self {
            Self::Hostname => text.split('.').filter_map(|label| label.strip_prefix("xn--")).all(|encoded| {
                let decoded = decode_punycode(encoded);
                decoded.is_some_and(|chars| chars.iter().all(|c| c.is_alphanumeric() || *c == '-'))
            }),
            Self::Regex => jsonschema_regex::is_valid_ecma_regex(text),
            _ => true,
        }
    }
}

/// RFC 3492, section 6.2.
fn decode_punycode(encoded: &str) -> Option<Vec<char>> {
    let (basic, digits) = encoded.rsplit_once('-').unwrap_or(("", encoded));
    let mut output: Vec<char> = basic.chars().collect();
    let (mut code, mut index, mut bias) = (128u32, 0u32, 72u32);
    let mut digits = digits.chars().peekable();
    while digits.peek().is_some() {
        let (start, mut weight) = (index, 1u32);
        let mut k = 36;
        loop {
            let digit = match digits.next()? {
                c @ '0'..='9' => c as u32 - '0' as u32 + 26,
                c => c.to_ascii_lowercase().to_digit(36)? - 10,
            };
            index = index.checked_add(digit.checked_mul(weight)?)?;
            let threshold = if k <= bias { 1 } else { (k - bias).min(26) };
            if digit < threshold {
                break;
            }
            weight = weight.checked_mul(36 - threshold)?;
            k += 36;
        }
        let count = u32::try_from(output.len()).ok()? + 1;
        let mut delta = (index - start) / if start == 0 { 700 } else { 2 };
        delta += delta / count;
        let mut steps = 0;
        while delta > 455 {
            delta /= 35;
            steps += 36;
        }
        bias = steps + 36 * delta / (delta + 38);
        code = code.checked_add(index / count)?;
        index %= count;
        output.insert(index as usize, char::from_u32(code)?);
        index += 1;
    }
    Some(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the `jsonschema` crate, over a table of texts of every kind and their small mutations.
    #[test]
    fn formats_agree_with_the_jsonschema_crate() {
        let seeds = [
            "2024-02-29",
            "2023-02-29",
            "1900-02-29",
            "2000-02-29",
            "2024-13-01",
            "2024-04-31",
            "12:30:45Z",
            "12:30:45.123+05:30",
            "23:59:60Z",
            "22:59:60Z",
            "15:59:60-08:00",
            "05:29:60+05:30",
            "00:59:60+01:00",
            "24:00:00Z",
            "2024-02-29T12:30:45Z",
            "1998-12-31t23:59:60z",
            "1998-12-31T15:59:60.123-08:00",
            "1998-12-31T15:58:60.123-08:00",
            "P1Y2M3DT4H5M6S",
            "P1W",
            "P1YT1S",
            "PT1H1S",
            "P1Y1D",
            "P",
            "PT",
            "a@b.com",
            "a.b+c@x-y.example",
            "\"a b\"@c.d",
            "a@[127.0.0.1]",
            "a@[IPv6:::1]",
            "a..b@c",
            ".a@b",
            "a@b..c",
            "a b@c.d",
            "@b",
            "a@",
            "example.com",
            "a-.com",
            "-a.com",
            "a--b.com",
            "ab--c.com",
            "a.",
            "x",
            "127.0.0.1",
            "256.0.0.1",
            "01.2.3.4",
            "1.2.3",
            "::",
            "::1",
            "1::",
            "1:2:3:4:5:6:7:8",
            "1:2:3:4:5:6:7::",
            "::2:3:4:5:6:7:8",
            "1:2:3:4:5:6:7:8:9",
            "::ffff:1.2.3.4",
            "1::2::3",
            "12345::",
            "fe80::1%eth0",
            "http://example.com/a?b=c#d",
            "http://[::1]:80/",
            "urn:isbn:123",
            "mailto:a@b",
            "//x/y",
            "/a/b",
            "a/b",
            "a:b",
            ":a",
            "#",
            "?q",
            "http://a b",
            "http://a/%zz",
            "http://a/%41",
            "http:",
            "http://",
            "http://ü.example/ü",
            "http://u:p@h:1/p;x=1,2",
            "http://h:x/",
            "1http://x",
            "http://[v1.a]/",
            "http://[1::2/",
            "{a}",
            "/{a,b*}{?c:3}",
            "{",
            "}",
            "{a:0}",
            "{+a}x",
            "{%41b.c}",
            "%4",
            "a b",
            "123e4567-e89b-12d3-a456-426614174000",
            "123E4567-E89B-12D3-A456-426614174000",
            "123e4567e89b12d3a456426614174000",
            "/a~0b/~1",
            "/a~2",
            "a",
            "",
            "/",
            "0#",
            "1/a",
            "01",
            "10",
            "0/~",
            "[a-z]+",
            "(",
            "a{2,1}",
            "^\\d$",
        ];
        let mut texts: Vec<String> = seeds.iter().map(|&seed| seed.to_owned()).collect();
        for seed in seeds {
            let chars: Vec<char> = seed.chars().collect();
            for at in 0..chars.len() {
                for new in ["", "0", "9", "-", ".", ":", "/", "a", "Z", "%", "@", "é"] {
                    let mut text: String = chars[..at].iter().collect();
                    text.push_str(new);
                    text.extend(&chars[at + 1..]);
                    texts.push(text);
                }
            }
        }
        for (name, format) in FORMATS {
            if matches!(format, Format::Regex | Format::IdnEmail | Format::IdnHostname) {
                continue;
            }
            let schema = serde_json::json!({"format": name});
            let oracle = jsonschema::options().should_validate_formats(true).build(&schema).expect("a schema");
            let mut languages = Languages::new();
            let (language, _) = format.language(&mut languages);
            for text in &texts {
                let expected = oracle.is_valid(&serde_json::Value::String(text.clone()));
                assert_eq!(languages.matches(language, text), expected, "{name}: {text:?}");
            }
        }
    }
}
