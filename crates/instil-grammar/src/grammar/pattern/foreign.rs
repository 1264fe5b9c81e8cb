//! What other engines read otherwise than ECMA-262, with the spelling to use: refused, and never read as letters.
//!
//! A text that is made here is judged by the next tool, mostly Python, PCRE or Rust; where that would take the same
//! spelling for something else, the two would silently disagree.

/// A POSIX class where `rest` begins with the bracket that opens it inside a class: `[:digit:]`, as its name and what to
/// write in its place.
pub(super) fn posix_class(rest: &str) -> Option<(&str, &'static str)> {
    let inner = rest.strip_prefix("[:")?;
    let end = inner.find(":]")?;
    let name = inner[..end].strip_prefix('^').unwrap_or(&inner[..end]);
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase()) {
        return None;
    }
    let instead = match name {
        "alnum" => "A-Za-z0-9",
        "alpha" => "A-Za-z",
        "ascii" => r"\x00-\x7f",
        "blank" => r" \t",
        "cntrl" => r"\x00-\x1f\x7f",
        "digit" => r"\d",
        "graph" => "!-~",
        "lower" => "a-z",
        "print" => " -~",
        "punct" => r"!-\/:-@[-`{-~",
        "space" => r"\s",
        "upper" => "A-Z",
        "word" => r"\w",
        "xdigit" => "0-9A-Fa-f",
        _ => "its characters",
    };
    Some((&rest[..end + 4], instead))
}

/// Whether `rest`, right behind the opening of a class, begins with a bracket that most engines take for a member: so
/// where another one closes the class.
pub(super) fn is_member_bracket(rest: &str) -> bool {
    let Some(behind) = rest.strip_prefix(']') else { return false };
    let mut escaped = false;
    for c in behind.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ']' => return true,
            _ => {}
        }
    }
    false
}

/// What an escape that ECMA-262 does not have is elsewhere, and what to write in its place.
pub(super) fn escape(letter: char) -> String {
    let instead = match letter {
        'a' => r"write \x07 for the bell",
        'e' => r"write \x1b for the escape character",
        'h' => r"write [ \t] for horizontal space",
        'H' => r"write [^ \t]",
        'N' => r"write [^\n] for all but line ends, or the character itself for a name",
        'R' => r"write (?:\r\n|\n|\r) for line ends",
        'V' => r"write [^\n\v\f\r]",
        'Q' | 'E' => r"escape each character between \Q and \E by itself",
        'U' => r"write \u{…} with the character's number",
        'x' | 'u' => r"write \xHH, \uHHHH or \u{H…} with hexadecimal digits",
        'K' => "match what stands before it with a group",
        'G' => "take it out: a text is matched as a whole",
        'X' | 'C' => "write . for a character",
        'A' | 'z' | 'Z' | 'B' => "it stands for no character, so take it out of the class",
        _ => "",
    };
    match instead {
        "" => format!(r"`\{letter}` is no escape: write `{letter}` for the letter"),
        instead => format!(r"`\{letter}` is no escape here: {instead}"),
    }
}
