//! The inside of a JSON string: escapes byte by byte, and which of them a grammar lets pass.
//!
//! The state of a half-read escape fits in one `u32`, so that it can stand in a frame.

/// Which spellings of a character are permitted inside JSON strings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Escapes {
    /// One spelling a character, the one usual printers write: raw where JSON allows it, else the short
    /// escape, else `\u00xx` in lower case. For generating.
    #[default]
    Canonical,
    /// Every spelling that JSON knows. For accepting other people's JSON.
    Any,
}

/// No escape is open.
pub(crate) const PLAIN: u32 = 0;
/// Just after a backslash.
pub(crate) const BACKSLASH: u32 = 1;
const HEX: u32 = 2;
const LOW_BACKSLASH: u32 = 3;
const LOW_U: u32 = 4;
const HAS_HIGH: u32 = 1 << 27;

/// What one more byte of an escape leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spelt {
    /// The escape is still open.
    Open(u32),
    /// The escape stands for this character.
    Char(char),
    /// Not an escape.
    Bad,
}

/// One byte after a backslash. `open` is not [`PLAIN`].
pub(crate) fn step(open: u32, byte: u8, escapes: Escapes) -> Spelt {
    let high = open & (HAS_HIGH | (0x3ff << 17));
    match open & 7 {
        BACKSLASH => match (byte, escapes) {
            (b'"', _) => Spelt::Char('"'),
            (b'\\', _) => Spelt::Char('\\'),
            (b'n', _) => Spelt::Char('\n'),
            (b't', _) => Spelt::Char('\t'),
            (b'r', _) => Spelt::Char('\r'),
            (b'b', _) => Spelt::Char('\u{8}'),
            (b'f', _) => Spelt::Char('\u{c}'),
            (b'/', Escapes::Any) => Spelt::Char('/'),
            (b'u', _) => Spelt::Open(HEX),
            _ => Spelt::Bad,
        },
        LOW_BACKSLASH if byte == b'\\' => Spelt::Open(LOW_U | high),
        LOW_U if byte == b'u' => Spelt::Open(HEX | high),
        HEX => hex(open, byte, escapes),
        _ => Spelt::Bad,
    }
}

fn hex(open: u32, byte: u8, escapes: Escapes) -> Spelt {
    let high = open & (HAS_HIGH | (0x3ff << 17));
    let digit = match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        b'A'..=b'F' if escapes == Escapes::Any => byte - b'A' + 10,
        _ => return Spelt::Bad,
    };
    let (digits, value) = ((open >> 3) & 3, ((open >> 5) & 0xfff) << 4 | u32::from(digit));
    if escapes == Escapes::Canonical {
        // Only controls without a short form are spelt so.
        let possible = match digits {
            0 | 1 => value == 0,
            2 => value <= 1,
            _ => value < 0x20 && !matches!(value, 8 | 9 | 10 | 12 | 13),
        };
        if !possible {
            return Spelt::Bad;
        }
    }
    if digits < 3 {
        // A pending high half needs a low half: dc00 to dfff.
        let partial_ok = high & HAS_HIGH == 0
            || match digits {
                0 => value == 0xd,
                1 => (0xdc..=0xdf).contains(&value),
                _ => true,
            };
        return if partial_ok { Spelt::Open(HEX | high | (digits + 1) << 3 | value << 5) } else { Spelt::Bad };
    }
    if high & HAS_HIGH != 0 {
        let low = value - 0xdc00;
        let scalar = 0x1_0000 + (((high >> 17) & 0x3ff) << 10) + low;
        return char::from_u32(scalar).map_or(Spelt::Bad, Spelt::Char);
    }
    match value {
        0xd800..=0xdbff => Spelt::Open(LOW_BACKSLASH | HAS_HIGH | (value - 0xd800) << 17),
        _ => char::from_u32(value).map_or(Spelt::Bad, Spelt::Char),
    }
}

/// What is left of a character's spelling, which begins with a backslash, when it passes through an open escape.
pub(crate) fn rest_of(spelling: &[u8], open: u32, escapes: Escapes) -> Option<&[u8]> {
    let mut at = BACKSLASH;
    let mut rest = spelling.strip_prefix(b"\\")?;
    while let Some((&byte, after)) = rest.split_first() {
        if at == open {
            return Some(rest);
        }
        let Spelt::Open(next) = step(at, byte, escapes) else { return None };
        (at, rest) = (next, after);
    }
    None
}

/// What is left of the spellings of a character that pass through an open escape.
pub(crate) fn rests(c: char, open: u32, escapes: Escapes) -> Vec<Vec<u8>> {
    let mut spellings = vec![Vec::new()];
    write_canonical(c.encode_utf8(&mut [0; 4]).as_bytes(), &mut spellings[0]);
    if escapes == Escapes::Any {
        let units = c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect::<String>();
        spellings.push(units.into_bytes());
    }
    spellings.iter().filter_map(|spelling| rest_of(spelling, open, escapes)).map(<[u8]>::to_vec).collect()
}

/// The canonical spelling of a control character passes through open hexadecimal digits.
pub(crate) fn is_control_ahead(control: u8, open: u32) -> bool {
    let mut spelt = Vec::new();
    write_canonical(&[control], &mut spelt);
    open != BACKSLASH && rest_of(&spelt, open, Escapes::Canonical).is_some()
}

/// The canonical spelling of a text inside a JSON string.
pub(crate) fn write_canonical(text: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\r' => out.extend_from_slice(b"\\r"),
            8 => out.extend_from_slice(b"\\b"),
            12 => out.extend_from_slice(b"\\f"),
            0..0x20 => {
                out.extend_from_slice(b"\\u00");
                out.push(b'0' + (byte >> 4));
                out.push(b"0123456789abcdef"[(byte & 15) as usize]);
            }
            _ => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &str, escapes: Escapes) -> Option<char> {
        let mut state = BACKSLASH;
        for (at, byte) in text.bytes().enumerate() {
            match step(state, byte, escapes) {
                Spelt::Open(next) => state = next,
                Spelt::Char(c) => return (at + 1 == text.len()).then_some(c),
                Spelt::Bad => return None,
            }
        }
        None
    }

    #[test]
    fn any_takes_what_json_takes() {
        assert_eq!(decode("u00E9", Escapes::Any), Some('é'));
        assert_eq!(decode("ud83d\\ude00", Escapes::Any), Some('😀'));
        assert_eq!(decode("ud83d\\u0041", Escapes::Any), None);
        assert_eq!(decode("ude00", Escapes::Any), None);
        assert_eq!(decode("/", Escapes::Any), Some('/'));
    }

    #[test]
    fn canonical_takes_one_spelling() {
        assert_eq!(decode("n", Escapes::Canonical), Some('\n'));
        assert_eq!(decode("u001f", Escapes::Canonical), Some('\u{1f}'));
        assert_eq!(decode("u001F", Escapes::Canonical), None);
        assert_eq!(decode("u000a", Escapes::Canonical), None);
        assert_eq!(decode("u0041", Escapes::Canonical), None);
        assert_eq!(rest_of(b"\\u001f", BACKSLASH, Escapes::Canonical), Some(&b"u001f"[..]));
        let Spelt::Open(open) = step(BACKSLASH, b'u', Escapes::Canonical) else { panic!("digits follow") };
        assert!(is_control_ahead(0x1f, open) && !is_control_ahead(b'\n', open));
        let mut out = Vec::new();
        write_canonical("a\"\n\u{1}".as_bytes(), &mut out);
        assert_eq!(out, b"a\\\"\\n\\u0001");
    }
}
