//! The text of a regex → its tree, in either dialect.

use super::super::charset::CharSet;
use super::super::language::INFINITE;
use super::{Ast, Dialect, NEST_LIMIT, PatternError, foreign, word_chars};

pub(super) struct Parser<'a> {
    pub(super) source: &'a str,
    pub(super) at: usize,
    pub(super) dialect: Dialect,
    pub(super) fold_case: bool,
    pub(super) dot_all: bool,
    pub(super) depth: u32,
}

/// A class escape or one character.
enum Item {
    Char(char),
    Set(CharSet),
}

impl Parser<'_> {
    pub(super) fn error(&self, what: impl Into<String>) -> PatternError {
        PatternError { offset: self.at, what: what.into(), unsupported: false }
    }

    fn unsupported(&self, what: &str) -> PatternError {
        PatternError { offset: self.at, what: format!("{what} is not supported"), unsupported: true }
    }

    fn rest(&self) -> &str {
        &self.source[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    pub(super) fn alternation(&mut self) -> Result<Ast, PatternError> {
        self.depth += 1;
        if self.depth > NEST_LIMIT {
            return Err(self.error(format!("groups nest deeper than {NEST_LIMIT}")));
        }
        let (fold_case, dot_all) = (self.fold_case, self.dot_all);
        let mut branches = vec![self.concatenation()?];
        while self.eat("|") {
            branches.push(self.concatenation()?);
        }
        self.depth -= 1;
        // Flags set inside a group hold for all that follows in it, and end with it.
        (self.fold_case, self.dot_all) = (fold_case, dot_all);
        if branches.len() == 1 {
            return Ok(branches.remove(0));
        }
        let words: Option<Vec<String>> = branches
            .iter()
            .map(|branch| match branch {
                Ast::Text(text) => Some(text.clone()),
                Ast::Empty => Some(String::new()),
                _ => None,
            })
            .collect();
        Ok(words.map_or(Ast::Or(branches), Ast::Words))
    }

    fn concatenation(&mut self) -> Result<Ast, PatternError> {
        let mut parts: Vec<Ast> = Vec::new();
        while let Some(c) = self.peek() {
            if c == '|' || c == ')' {
                break;
            }
            let atom = self.atom()?;
            let part = self.quantified(atom)?;
            match (parts.last_mut(), part) {
                (_, Ast::Empty) => {}
                (Some(Ast::Text(text)), Ast::Text(more)) => text.push_str(&more),
                (_, Ast::Concat(inner)) => parts.extend(inner),
                (_, part) => parts.push(part),
            }
        }
        Ok(match parts.len() {
            0 => Ast::Empty,
            1 => parts.remove(0),
            _ => Ast::Concat(parts),
        })
    }

    fn quantified(&mut self, atom: Ast) -> Result<Ast, PatternError> {
        let mut atom = atom;
        loop {
            let start = self.at;
            let (min, max) = match self.peek() {
                Some('*') => (0, INFINITE),
                Some('+') => (1, INFINITE),
                Some('?') => (0, 1),
                Some('{') => match self.braces()? {
                    Some(bounds) => bounds,
                    None => return Ok(atom),
                },
                _ => return Ok(atom),
            };
            if self.at == start {
                self.at += 1;
            }
            if matches!(atom, Ast::Start | Ast::End | Ast::WordBoundary { .. }) || self.repeats_nothing(&atom, start) {
                self.at = start;
                return Err(self.error("nothing to repeat"));
            }
            if !self.eat("?") && self.peek() == Some('+') {
                return Err(self.unsupported("a possessive repeat"));
            }
            atom = Ast::Repeat(Box::new(atom), min, max);
        }
    }

    fn repeats_nothing(&self, atom: &Ast, start: usize) -> bool {
        // `(?i)*` and a quantifier after a quantifier.
        let doubled = matches!(atom, Ast::Repeat(..)) && !self.source[..start].ends_with(')');
        doubled || (*atom == Ast::Empty && !self.source[..start].ends_with(')'))
    }

    /// `{n}`, `{n,}`, `{n,m}`; anything else is a literal brace, but `{,m}`, which is a repeat elsewhere.
    fn braces(&mut self) -> Result<Option<(u32, u32)>, PatternError> {
        let Some(end) = self.rest().find('}') else { return Ok(None) };
        let inner = &self.rest()[1..end];
        let number = |text: &str| {
            (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
                .then(|| text.parse().unwrap_or(INFINITE - 1))
        };
        let bounds = match inner.split_once(',') {
            None => number(inner).map(|n| (n, n)),
            Some(("", max)) if number(max).is_some() => {
                return Err(self
                    .error(format!("`{{,{max}}}` is no repeat here: write `{{0,{max}}}`, or `\\{{` for the letter")));
            }
            Some((min, "")) => number(min).map(|min| (min, INFINITE)),
            Some((min, max)) => number(min).zip(number(max)),
        };
        let Some((min, max)) = bounds else { return Ok(None) };
        if min > max {
            return Err(self.error("the bounds of a repeat are in the wrong order"));
        }
        self.at += end + 1;
        Ok(Some((min, max)))
    }

    /// `set`, with the other case of its characters where the flag is set.
    fn folded(&self, set: CharSet) -> CharSet {
        if self.fold_case { set.fold_case() } else { set }
    }

    fn literal(&self, c: char) -> Ast {
        if self.fold_case {
            let set = CharSet::one(c).fold_case();
            if set != CharSet::one(c) {
                return Ast::Class(set);
            }
        }
        Ast::Text(c.to_string())
    }

    fn atom(&mut self) -> Result<Ast, PatternError> {
        let start = self.at;
        let Some(c) = self.bump() else { return Ok(Ast::Empty) };
        match c {
            '.' if self.dot_all => Ok(Ast::Class(CharSet::full())),
            '.' => Ok(Ast::Class(match self.dialect {
                Dialect::Ecma => CharSet::ascii_of("\n\r\u{2028}\u{2029}").complement(),
                Dialect::Own => CharSet::one('\n').complement(),
            })),
            '^' => Ok(Ast::Start),
            '$' => Ok(Ast::End),
            '(' => self.group(),
            '[' => self.class(),
            '*' | '+' | '?' => {
                self.at = start;
                Err(self.error("nothing to repeat"))
            }
            '\\' => match self.peek() {
                None => Err(self.error("a trailing backslash")),
                Some('b') => {
                    self.at += 1;
                    Ok(Ast::WordBoundary { negative: false })
                }
                Some('B') => {
                    self.at += 1;
                    Ok(Ast::WordBoundary { negative: true })
                }
                Some('A') => {
                    self.at += 1;
                    Ok(Ast::Start)
                }
                Some('z' | 'Z') => {
                    self.at += 1;
                    Ok(Ast::End)
                }
                Some('1'..='9') if self.octal() => Err(self.no_octal()),
                Some('1'..='9' | 'k') => Err(self.unsupported("a backreference")),
                Some(_) => Ok(match self.escape(false)? {
                    Item::Char(c) => self.literal(c),
                    Item::Set(set) => Ast::Class(set),
                }),
            },
            c => Ok(self.literal(c)),
        }
    }

    fn group(&mut self) -> Result<Ast, PatternError> {
        let start = self.at;
        if self.eat("?") {
            if self.eat("=") || self.eat("!") {
                let negative = self.source[..self.at].ends_with('!');
                let inner = Box::new(self.closed_group()?);
                return Ok(Ast::Ahead { inner, negative });
            }
            if self.rest().starts_with("<=") || self.rest().starts_with("<!") {
                return Err(self.unsupported("lookbehind"));
            }
            if self.eat("<") || self.eat("P<") || self.eat("'") {
                let Some(end) = self.rest().find(['>', '\'']) else { return Err(self.error("an unclosed group name")) };
                self.at += end + 1;
            } else if !self.eat(":") {
                return self.flags(start);
            }
        }
        self.closed_group()
    }

    fn closed_group(&mut self) -> Result<Ast, PatternError> {
        let inner = self.alternation()?;
        if !self.eat(")") {
            return Err(self.error("an unclosed group"));
        }
        Ok(match inner {
            // A group is one atom: what follows must not repeat or extend a part of it.
            Ast::Text(text) if text.chars().count() > 1 => Ast::Concat(vec![Ast::Text(text)]),
            inner => inner,
        })
    }

    fn flags(&mut self, start: usize) -> Result<Ast, PatternError> {
        let (fold_case, dot_all) = (self.fold_case, self.dot_all);
        let mut on = true;
        loop {
            match self.bump() {
                Some('i') => self.fold_case = on,
                Some('s') => self.dot_all = on,
                Some('u') => {}
                Some('-') => on = false,
                Some(')') => return Ok(Ast::Empty),
                Some(':') => {
                    let inner = self.closed_group()?;
                    (self.fold_case, self.dot_all) = (fold_case, dot_all);
                    return Ok(inner);
                }
                _ => {
                    self.at = start;
                    return Err(self.unsupported("this kind of group"));
                }
            }
        }
    }

    /// Three octal digits come next.
    fn octal(&self) -> bool {
        self.rest().len() >= 3 && self.rest().bytes().take(3).all(|byte| matches!(byte, b'0'..=b'7'))
    }

    fn no_octal(&self) -> PatternError {
        self.error("octal escapes are not read: write `\\xHH` with hexadecimal digits")
    }

    fn class(&mut self) -> Result<Ast, PatternError> {
        let negative = self.eat("^");
        if foreign::is_member_bracket(self.rest()) {
            let what = "`]` closes an empty class here, and is a member of it elsewhere: write `\\]` for the member";
            return Err(self.error(what));
        }
        let mut set = CharSet::default();
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        while let Some(low) = self.class_item()? {
            let is_range = self.rest().starts_with('-') && !self.rest().starts_with("-]") && self.rest().len() > 1;
            match low {
                Item::Char(low) if is_range => {
                    self.at += 1;
                    match self.class_item()? {
                        Some(Item::Char(high)) if low <= high => ranges.push((low as u32, high as u32)),
                        Some(Item::Char(_)) => return Err(self.error("a class range is in the wrong order")),
                        Some(Item::Set(other)) => {
                            ranges.extend([(low as u32, low as u32), ('-' as u32, '-' as u32)]);
                            set = set.union(&other);
                        }
                        None => return Err(self.error("an unclosed class")),
                    }
                }
                Item::Char(c) => ranges.push((c as u32, c as u32)),
                Item::Set(other) => set = set.union(&other),
            }
        }
        let set = set.union(&self.folded(CharSet::from_ranges(ranges)));
        Ok(Ast::Class(if negative { set.complement() } else { set }))
    }

    /// The next member of a class; `None` at its closing bracket.
    fn class_item(&mut self) -> Result<Option<Item>, PatternError> {
        if let Some((name, instead)) = foreign::posix_class(self.rest()) {
            return Err(self.error(format!("`{name}` is no class here: write `{instead}`")));
        }
        for operation in ["&&", "--", "~~"] {
            // A range may end at a hyphen: `[+--]`.
            if self.rest().starts_with(operation) && !self.rest().starts_with("--]") {
                let letter = &operation[..1];
                let what =
                    format!("`{operation}` is an operation on classes elsewhere: write `\\{letter}` for the letter");
                return Err(self.error(what));
            }
        }
        match self.bump() {
            None => Err(self.error("an unclosed class")),
            Some(']') => Ok(None),
            Some('\\') if self.peek().is_none() => Err(self.error("a trailing backslash")),
            Some('\\') => self.escape(true).map(Some),
            Some(c) => Ok(Some(Item::Char(c))),
        }
    }

    /// What follows a backslash, assertions and backreferences excepted.
    fn escape(&mut self, in_class: bool) -> Result<Item, PatternError> {
        let start = self.at;
        let Some(c) = self.bump() else { return Err(self.error("a trailing backslash")) };
        Ok(match c {
            'd' => Item::Set(CharSet::range(0x30, 0x39)),
            'D' => Item::Set(CharSet::range(0x30, 0x39).complement()),
            'w' => Item::Set(word_chars()),
            'W' => Item::Set(word_chars().complement()),
            's' => Item::Set(self.space()),
            'S' => Item::Set(self.space().complement()),
            'p' | 'P' => {
                let set = self.property(start)?;
                Item::Set(self.folded(set))
            }
            't' => Item::Char('\t'),
            'n' => Item::Char('\n'),
            'r' => Item::Char('\r'),
            'v' => Item::Char('\u{b}'),
            'f' => Item::Char('\u{c}'),
            'a' if self.dialect == Dialect::Own => Item::Char('\u{7}'),
            'e' if self.dialect == Dialect::Own => Item::Char('\u{1b}'),
            '0' if self.rest().starts_with(|c: char| c.is_ascii_digit()) => {
                self.at = start;
                return Err(self.no_octal());
            }
            '0' => Item::Char('\0'),
            'b' if in_class => Item::Char('\u{8}'),
            'c' => match self.peek() {
                Some(letter) if letter.is_ascii_alphabetic() => {
                    self.at += 1;
                    Item::Char(char::from(letter as u8 % 32))
                }
                _ => return Err(self.error("`\\c` without a letter")),
            },
            'x' | 'u' => match self.hex(if c == 'x' { 2 } else { 4 }) {
                Some(c) => Item::Char(c),
                None if c == 'u' && self.rest().bytes().take(4).filter(u8::is_ascii_hexdigit).count() == 4 => {
                    return Err(self.error("a surrogate is not a character"));
                }
                None => {
                    self.at = start;
                    return Err(self.error(foreign::escape(c)));
                }
            },
            '1'..='9' => {
                self.at = start;
                return Err(self.no_octal());
            }
            c if c.is_ascii_alphabetic() => {
                self.at = start;
                return Err(self.error(foreign::escape(c)));
            }
            c => Item::Char(c),
        })
    }

    /// `HH`, `HHHH` (also as a surrogate pair) or `{H…}`.
    fn hex(&mut self, digits: usize) -> Option<char> {
        if self.peek() == Some('{') {
            let end = self.rest().find('}')?;
            let c = u32::from_str_radix(&self.rest()[1..end], 16).ok().and_then(char::from_u32)?;
            self.at += end + 1;
            return Some(c);
        }
        let unit = |text: &str| {
            let text = text.get(..digits)?;
            text.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u32::from_str_radix(text, 16).ok())?
        };
        let first = unit(self.rest())?;
        if digits == 4 && (0xD800..0xDC00).contains(&first) {
            let second = self.rest()[4..].strip_prefix("\\u").and_then(unit)?;
            if !(0xDC00..0xE000).contains(&second) {
                return None;
            }
            self.at += 10;
            return char::from_u32(0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00));
        }
        let c = char::from_u32(first)?;
        self.at += digits;
        Some(c)
    }

    fn property(&mut self, start: usize) -> Result<CharSet, PatternError> {
        let end = match self.peek() {
            Some('{') => self.rest().find('}').map(|end| self.at + end + 1),
            Some(c) if c.is_ascii_alphabetic() => Some(self.at + 1),
            _ => None,
        };
        let Some(end) = end else { return Err(self.error("`\\p` without a property")) };
        let source = format!("\\{}", &self.source[start..end]);
        let parsed = regex_syntax::Parser::new().parse(&source).ok();
        let Some(regex_syntax::hir::HirKind::Class(regex_syntax::hir::Class::Unicode(class))) =
            parsed.map(regex_syntax::hir::Hir::into_kind)
        else {
            return Err(self.error(format!("unknown property `{source}`")));
        };
        self.at = end;
        Ok(CharSet::from_ranges(class.iter().map(|range| (range.start() as u32, range.end() as u32)).collect()))
    }

    fn space(&self) -> CharSet {
        match self.dialect {
            Dialect::Own => CharSet::ascii_of("\t\n\u{b}\u{c}\r "),
            // Not U+0085, but the byte order mark.
            Dialect::Ecma => CharSet::white_space()
                .intersection(&CharSet::range(0x85, 0x85).complement())
                .union(&CharSet::one('\u{feff}')),
        }
    }
}
