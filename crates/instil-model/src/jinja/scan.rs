//! A template's source before it is parsed: held to bounds, and put into the words of the engine.
//!
//! The engine parses and compiles by recursion, a level a sign in a chain of signs; so the signs of a tag are counted
//! first. What Python's Jinja says and the engine cannot is said otherwise: `%` with a format on its left, the tags of
//! the transformers library around a reply, and assignments whose values are to be looked at. Lines stay
//! where they are.

use std::ops::Range;

/// Longest source; real templates have at most some ten thousand bytes.
pub(super) const MOST_BYTES: usize = 1 << 18;
/// Most words and signs of one tag.
const MOST_SIGNS: usize = 2_000;
/// Most branches that follow an `if` by `elif`, in the whole template.
const MOST_ELIFS: usize = 500;

/// A word or sign within a tag.
struct Sign {
    kind: Kind,
    at: Range<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Word,
    Text,
    /// A number, or one character of an operator.
    Other(u8),
}

/// A tag: its words and signs, and where it ends.
struct Tag {
    signs: Vec<Sign>,
    end: usize,
}

/// Text to be put in place of a range.
type Edit = (Range<usize>, &'static str);

/// The source in the engine's words.
///
/// # Errors
/// The bound that it exceeds.
pub(super) fn prepared(source: &str) -> Result<String, String> {
    if source.len() > MOST_BYTES {
        return Err(format!("has {} bytes, more than {MOST_BYTES}", source.len()));
    }
    let mut edits: Vec<Edit> = Vec::new();
    let (mut at, mut elifs) = (0, 0);
    while let Some(start) = next_tag(source, at) {
        let mark = source.as_bytes()[start + 1];
        if mark == b'#' {
            let Some(length) = source[start..].find("#}") else { break };
            at = start + length + 2;
            continue;
        }
        let tag = tag(source, start, mark == b'%').map_err(|what| format!("{what} {}", line(source, start)))?;
        at = tag.end;
        let word = |index: usize| tag.signs.get(index).map(|sign| &source[sign.at.clone()]);
        if mark == b'%' {
            match word(0) {
                Some("raw") => {
                    let Some(length) = end_of_raw(&source[at..]) else { break };
                    at += length;
                    continue;
                }
                Some("elif") => elifs += 1,
                Some("generation") => edits.push((tag.signs[0].at.clone(), "if true")),
                Some("endgeneration") => edits.push((tag.signs[0].at.clone(), "endif")),
                _ => {}
            }
            if elifs > MOST_ELIFS {
                return Err(format!("has more than {MOST_ELIFS} `elif` {}", line(source, start)));
            }
        }
        percents(source, &tag.signs, &mut edits);
        if mark == b'%' && word(0) == Some("set") {
            kept(&tag.signs, &mut edits);
        }
    }
    Ok(edited(source, edits))
}

/// As [`prepared`], for an expression without braces.
pub(super) fn prepared_expression(source: &str) -> Result<String, String> {
    if source.len() > MOST_BYTES {
        return Err(format!("has {} bytes, more than {MOST_BYTES}", source.len()));
    }
    let signs = signs(source, 0, |_| false)?.signs;
    let mut edits = Vec::new();
    percents(source, &signs, &mut edits);
    Ok(edited(source, edits))
}

fn edited(source: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|(range, _)| range.start);
    let mut out = String::with_capacity(source.len() + 32 * edits.len());
    let mut from = 0;
    for (range, text) in edits {
        out.push_str(&source[from..range.start]);
        out.push_str(text);
        from = range.end;
    }
    out.push_str(&source[from..]);
    out
}

fn line(source: &str, at: usize) -> String {
    format!("(line {})", 1 + source[..at].matches('\n').count())
}

/// Where the next tag or comment begins.
fn next_tag(source: &str, from: usize) -> Option<usize> {
    let bytes = source.as_bytes();
    (from..bytes.len().saturating_sub(1)).find(|&at| bytes[at] == b'{' && matches!(bytes[at + 1], b'{' | b'%' | b'#'))
}

/// The length of a text up to and with the tag that ends `raw`; none when it has no end.
fn end_of_raw(text: &str) -> Option<usize> {
    let mut from = 0;
    loop {
        let start = from + text[from..].find("{%")?;
        let inner = text[start + 2..].trim_start_matches(['-', '+']).trim_start();
        if let Some(rest) = inner.strip_prefix("endraw") {
            let rest = rest.trim_start().trim_start_matches(['-', '+']);
            return rest.starts_with("%}").then(|| text.len() - rest.len() + 2);
        }
        from = start + 2;
    }
}

/// The tag that begins at `start`.
fn tag(source: &str, start: usize, is_block: bool) -> Result<Tag, String> {
    let end: &[u8] = if is_block { b"%}" } else { b"}}" };
    let bytes = source.as_bytes();
    let is_end = move |at: usize| {
        let marked = usize::from(matches!(bytes[at], b'-' | b'+'));
        bytes[at + marked..].starts_with(end)
    };
    let from = start + 2 + usize::from(matches!(bytes.get(start + 2), Some(b'-' | b'+')));
    let mut tag = signs(source, from, is_end)?;
    let marked = usize::from(matches!(bytes.get(tag.end), Some(b'-' | b'+')));
    tag.end = (tag.end + marked + end.len()).min(source.len());
    Ok(tag)
}

/// The words and signs from `from` on, up to where `is_end` holds outside of braces, or the end of the source.
fn signs(source: &str, from: usize, is_end: impl Fn(usize) -> bool) -> Result<Tag, String> {
    let bytes = source.as_bytes();
    let (mut signs, mut at, mut braces) = (Vec::new(), from, 0usize);
    while at < bytes.len() {
        if braces == 0 && is_end(at) {
            break;
        }
        let start = at;
        let kind = match bytes[at] {
            byte if byte.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            quote @ (b'\'' | b'"') => {
                at += 1;
                while at < bytes.len() && bytes[at] != quote {
                    at += 1 + usize::from(bytes[at] == b'\\');
                }
                at = (at + 1).min(bytes.len());
                Kind::Text
            }
            byte if byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80 => {
                while at < bytes.len() && (bytes[at].is_ascii_alphanumeric() || bytes[at] == b'_' || bytes[at] >= 0x80)
                {
                    at += 1;
                }
                Kind::Word
            }
            byte if byte.is_ascii_digit() => {
                while at < bytes.len() && (bytes[at].is_ascii_alphanumeric() || bytes[at] == b'_') {
                    at += 1;
                }
                Kind::Other(byte)
            }
            byte => {
                braces = match byte {
                    b'{' => braces + 1,
                    b'}' => braces.saturating_sub(1),
                    _ => braces,
                };
                at += 1;
                Kind::Other(byte)
            }
        };
        // A text that has no end may stop inside a character.
        while !source.is_char_boundary(at) {
            at += 1;
        }
        signs.push(Sign { kind, at: start..at });
        if signs.len() > MOST_SIGNS {
            return Err(format!("has a tag of more than {MOST_SIGNS} words and signs"));
        }
    }
    Ok(Tag { signs, end: at })
}

/// Has the engine look at what a namespace is to keep, and at sums.
fn kept(signs: &[Sign], edits: &mut Vec<Edit>) {
    let is = |index: usize, byte: u8| signs.get(index).is_some_and(|sign| sign.kind == Kind::Other(byte));
    let Some(equals) = (1..signs.len()).find(|&index| is(index, b'=')) else { return };
    let Some(last) = signs.last() else { return };
    let check = match (1..equals).any(|index| is(index, b'.')) {
        true => ")|_kept",
        // Sums of lists are lists that were not made yet, and may be of any length.
        false if (equals..signs.len()).any(|index| is(index, b'+')) => ")|_measured",
        false => return,
    };
    let after = signs[equals].at.end;
    edits.push((after..after, " ("));
    edits.push((last.at.end..last.at.end, check));
}

/// Makes `'a %s' % b`, and `a % (b, c)`, filters: there the left side is a format.
fn percents(source: &str, signs: &[Sign], edits: &mut Vec<Edit>) {
    for (index, sign) in signs.iter().enumerate() {
        if sign.kind != Kind::Other(b'%') || index == 0 {
            continue;
        }
        let Some((end, is_tuple)) = operand(source, signs, index + 1) else { continue };
        if signs[index - 1].kind == Kind::Text || is_tuple {
            edits.push((sign.at.clone(), "|_percent("));
            let end = signs[end - 1].at.end;
            edits.push((end..end, ")"));
        }
    }
}

/// Where the operand that begins at `from` ends, and whether it is a tuple.
fn operand(source: &str, signs: &[Sign], from: usize) -> Option<(usize, bool)> {
    let is = |index: usize, byte: u8| signs.get(index).is_some_and(|sign| sign.kind == Kind::Other(byte));
    let group = |index: usize| {
        let (mut depth, mut commas) = (0usize, false);
        for (at, sign) in signs.iter().enumerate().skip(index) {
            match sign.kind {
                Kind::Other(b'(' | b'[' | b'{') => depth += 1,
                Kind::Other(b')' | b']' | b'}') if depth == 1 => return Some((at + 1, commas)),
                Kind::Other(b')' | b']' | b'}') => depth = depth.saturating_sub(1),
                Kind::Other(b',') if depth == 1 => commas = true,
                _ => {}
            }
        }
        None
    };
    let mut at = from;
    while is(at, b'-') || is(at, b'+') {
        at += 1;
    }
    let mut is_tuple = false;
    at = match signs.get(at)?.kind {
        Kind::Other(bracket @ (b'(' | b'[' | b'{')) => {
            let (end, commas) = group(at)?;
            is_tuple = commas && bracket == b'(';
            end
        }
        Kind::Other(byte) if !byte.is_ascii_digit() => return None,
        Kind::Other(_) if is(at + 1, b'.') => at + 3,
        _ => at + 1,
    };
    loop {
        at = match signs.get(at).map(|sign| sign.kind) {
            Some(Kind::Other(b'.')) => at + 2,
            Some(Kind::Other(b'|')) if !source[..signs[at].at.end].ends_with("||") => at + 2,
            Some(Kind::Other(b'(' | b'[')) => group(at)?.0,
            _ => return (at <= signs.len()).then_some((at, is_tuple)),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_engine_cannot_say_is_said_otherwise() {
        let same = |source: &str| assert_eq!(prepared(source).expect("within bounds"), source);
        same("a {{ b['%'] }} {# {% set a.b = 1 %} #}{% raw %}{% set a.b = 1 %}{%- endraw +%} 50% {{ 7 % n }}{{");
        same("{% set ab = 1 %}{% set a.b %}x{% endset %}{{ '%}' }}{% if a == b.c %}{{ {'a': {'b': 1}} }}{% endif %}");
        let cases = [
            ("{%- set ns.a=b + 1 -%}x", "{%- set ns.a= (b + 1)|_kept -%}x"),
            ("{% set a=b + b %}", "{% set a= (b + b)|_measured %}"),
            ("{% set a, n.b = 1, 2 %}", "{% set a, n.b = ( 1, 2)|_kept %}"),
            ("{{ '%s' % a.b(1)|upper ~ c }}", "{{ '%s' |_percent( a.b(1)|upper) ~ c }}"),
            ("{{ f % (a, -b) }}", "{{ f |_percent( (a, -b)) }}"),
            ("{% set n.x = '%d' % 1.5 %}", "{% set n.x = ( '%d' |_percent( 1.5))|_kept %}"),
            ("a{%- generation %}b{% endgeneration -%}c", "a{%- if true %}b{% endif -%}c"),
        ];
        for (source, expected) in cases {
            assert_eq!(prepared(source).expect("within bounds"), expected);
        }
    }

    #[test]
    fn chains_are_counted_before_they_are_parsed() {
        let long = format!("a\n{{{{ {}1 }}}}", "-".repeat(MOST_SIGNS));
        assert!(prepared(&long).expect_err("long").ends_with("(line 2)"));
        assert!(prepared(&"{% elif a %}".repeat(MOST_ELIFS + 1)).is_err());
        assert!(prepared(&" ".repeat(MOST_BYTES + 1)).is_err());
        assert!(prepared_expression(&"not ".repeat(MOST_SIGNS + 1)).is_err());
        // A text without an end, also within a character.
        assert_eq!(prepared("{{ 'é\\é").expect("within bounds"), "{{ 'é\\é");
    }
}
