//! Regular expressions as people write them → languages.
//!
//! Two dialects share one parser. **ECMA-262** (`pattern`, `patternProperties`): unanchored search, `.` is
//! any character but a line terminator, `\d` and `\w` are ASCII, `\s` is Unicode white space, `\p{…}` classes.
//! **The project's own** (`--regex`, text fields): the whole text must match, `.` is any character
//! but `\n`, `\d \w \s` are ASCII. In both: `^ $ \b \B`, lookahead `(?=…) (?!…)` anywhere, greedy and
//! lazy repeats (alike: the language counts), named and non-capturing groups, `(?i)` and `(?s)`.
//! Not regular, hence refused: backreferences. Also refused: lookbehind, atomic groups, possessive repeats.
//!
//! Assertions are exact: translation goes from right to left, with the language of the rest of the
//! text as its argument, once for each kind of left neighbour (none, a word character, another).

use super::charset::{CharSet, MAX_CHAR};
use super::language::{ANY, EPSILON, ExprId, INFINITE, Languages, NONE};

/// How a regex is read and what it must match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// ECMA-262 with Unicode semantics; matches anywhere in the text.
    Ecma,
    /// The project's own; matches the whole text.
    Own,
}

/// Why a regex cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternError {
    /// Byte offset into the regex.
    pub offset: usize,
    /// What is wrong there.
    pub what: String,
    /// Well-formed, but not regular or not supported.
    pub unsupported: bool,
}

/// A parsed regex.
#[derive(Clone, Debug)]
pub struct Pattern {
    ast: Ast,
    dialect: Dialect,
}

#[derive(Clone, Debug, PartialEq)]
enum Ast {
    Empty,
    Class(CharSet),
    Text(String),
    /// Alternatives that are plain texts.
    Words(Vec<String>),
    Concat(Vec<Ast>),
    Or(Vec<Ast>),
    Repeat(Box<Ast>, u32, u32),
    Start,
    End,
    WordBoundary {
        negative: bool,
    },
    Ahead {
        inner: Box<Ast>,
        negative: bool,
    },
}

const NEST_LIMIT: u32 = 200;
const UNROLL_LIMIT: u32 = 64;

impl Pattern {
    /// Reads a regex.
    ///
    /// # Errors
    /// With the byte offset of what is wrong or not supported.
    pub fn parse(source: &str, dialect: Dialect) -> Result<Self, PatternError> {
        let mut parser = Parser { source, at: 0, dialect, fold_case: false, dot_all: false, depth: 0 };
        let ast = parser.alternation()?;
        if parser.at < source.len() {
            return Err(parser.error("unmatched `)`"));
        }
        Ok(Self { ast, dialect })
    }

    /// The language of texts that the regex matches (anywhere, or as a whole, by dialect).
    ///
    /// # Errors
    /// Repeats that hold assertions and could match nothing, or too many of them.
    pub fn language(&self, languages: &mut Languages) -> Result<ExprId, PatternError> {
        let mut translator = Translator { languages };
        match self.dialect {
            Dialect::Own => Ok(translator.rest(&self.ast, [EPSILON; 3])?[0]),
            Dialect::Ecma => {
                let found = translator.rest(&self.ast, [ANY; 3])?;
                let skip = Ast::Repeat(Box::new(Ast::Class(CharSet::full())), 0, INFINITE);
                Ok(translator.rest(&skip, found)?[0])
            }
        }
    }
}

struct Parser<'a> {
    source: &'a str,
    at: usize,
    dialect: Dialect,
    fold_case: bool,
    dot_all: bool,
    depth: u32,
}

/// A class escape or one character.
enum Item {
    Char(char),
    Set(CharSet),
}

impl Parser<'_> {
    fn error(&self, what: impl Into<String>) -> PatternError {
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

    fn alternation(&mut self) -> Result<Ast, PatternError> {
        self.depth += 1;
        if self.depth > NEST_LIMIT {
            return Err(self.error(format!("groups nest deeper than {NEST_LIMIT}")));
        }
        let mut branches = vec![self.concatenation()?];
        while self.eat("|") {
            branches.push(self.concatenation()?);
        }
        self.depth -= 1;
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
        let fold_case = self.fold_case;
        let dot_all = self.dot_all;
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
        // Flags set inside a group end with it; at the top level they hold for what follows.
        if self.depth > 1 {
            self.fold_case = fold_case;
            self.dot_all = dot_all;
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

    /// `{n}`, `{n,}`, `{n,m}`; anything else is a literal brace.
    fn braces(&mut self) -> Result<Option<(u32, u32)>, PatternError> {
        let Some(end) = self.rest().find('}') else { return Ok(None) };
        let inner = &self.rest()[1..end];
        let number = |text: &str| {
            (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
                .then(|| text.parse().unwrap_or(INFINITE - 1))
        };
        let bounds = match inner.split_once(',') {
            None => number(inner).map(|n| (n, n)),
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

    fn set(&self, set: CharSet) -> Ast {
        Ast::Class(if self.fold_case { set.fold_case() } else { set })
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
                Some('1'..='9' | 'k') => Err(self.unsupported("a backreference")),
                Some('G' | 'K' | 'R' | 'X') => Err(self.unsupported("this escape")),
                Some(_) => Ok(match self.escape(false)? {
                    Item::Char(c) => self.literal(c),
                    Item::Set(set) => self.set(set),
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

    fn class(&mut self) -> Result<Ast, PatternError> {
        let negative = self.eat("^");
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
        let mut set = set.union(&CharSet::from_ranges(ranges));
        if self.fold_case {
            set = set.fold_case();
        }
        Ok(Ast::Class(if negative { set.complement() } else { set }))
    }

    /// The next member of a class; `None` at its closing bracket.
    fn class_item(&mut self) -> Result<Option<Item>, PatternError> {
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
            'p' | 'P' => Item::Set(self.property(start)?),
            't' => Item::Char('\t'),
            'n' => Item::Char('\n'),
            'r' => Item::Char('\r'),
            'v' => Item::Char('\u{b}'),
            'f' => Item::Char('\u{c}'),
            'a' if self.dialect == Dialect::Own => Item::Char('\u{7}'),
            'e' if self.dialect == Dialect::Own => Item::Char('\u{1b}'),
            '0' => Item::Char('\0'),
            'b' if in_class => Item::Char('\u{8}'),
            'c' => match self.peek() {
                Some(letter) if letter.is_ascii_alphabetic() => {
                    self.at += 1;
                    Item::Char(char::from(letter as u8 % 32))
                }
                _ => return Err(self.error("`\\c` without a letter")),
            },
            'x' => Item::Char(self.hex(2).unwrap_or('x')),
            'u' => match self.hex(4) {
                Some(c) => Item::Char(c),
                None if self.rest().starts_with(|c: char| c.is_ascii_hexdigit()) => {
                    return Err(self.error("a surrogate is not a character"));
                }
                None => Item::Char('u'),
            },
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

fn word_chars() -> CharSet {
    CharSet::from_ranges(vec![(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)])
}

impl Ast {
    fn has_assertion(&self) -> bool {
        match self {
            Self::Empty | Self::Class(_) | Self::Text(_) | Self::Words(_) => false,
            Self::Concat(parts) | Self::Or(parts) => parts.iter().any(Self::has_assertion),
            Self::Repeat(inner, ..) => inner.has_assertion(),
            Self::Start | Self::End | Self::WordBoundary { .. } | Self::Ahead { .. } => true,
        }
    }

    /// May match no character (assertions taken as true).
    fn may_be_empty(&self) -> bool {
        match self {
            Self::Class(_) | Self::Text(_) => false,
            Self::Words(words) => words.iter().any(String::is_empty),
            Self::Concat(parts) => parts.iter().all(Self::may_be_empty),
            Self::Or(parts) => parts.iter().any(Self::may_be_empty),
            Self::Repeat(inner, min, _) => *min == 0 || inner.may_be_empty(),
            _ => true,
        }
    }
}

/// The language of the rest of the text, by what stands to the left: nothing, a character that is not a
/// word character, a word character.
type ByContext = [ExprId; 3];

struct Translator<'a> {
    languages: &'a mut Languages,
}

impl Translator<'_> {
    /// What may stand from here on, when `ast` comes first and then `after`.
    fn rest(&mut self, ast: &Ast, after: ByContext) -> Result<ByContext, PatternError> {
        Ok(match ast {
            Ast::Empty => after,
            Ast::Class(set) => [self.one(set.clone(), after); 3],
            Ast::Text(text) if after[1] == after[2] => {
                let text = self.languages.text(text);
                [self.languages.concat(text, after[1]); 3]
            }
            Ast::Text(text) => text.chars().rev().fold(after, |after, c| [self.one(CharSet::one(c), after); 3]),
            Ast::Words(words) if after.iter().all(|&e| e == after[0]) => {
                let words = self.languages.words(words.iter().map(String::as_str));
                [self.languages.concat(words, after[0]); 3]
            }
            Ast::Words(words) => {
                let parts: Vec<Ast> =
                    words.iter().map(|w| if w.is_empty() { Ast::Empty } else { Ast::Text(w.clone()) }).collect();
                self.rest(&Ast::Or(parts), after)?
            }
            Ast::Concat(parts) => {
                let mut after = after;
                for part in parts.iter().rev() {
                    after = self.rest(part, after)?;
                }
                after
            }
            Ast::Or(parts) => {
                let parts = parts.iter().map(|part| self.rest(part, after)).collect::<Result<Vec<_>, _>>()?;
                [0, 1, 2].map(|k| self.languages.or(parts.iter().map(|part| part[k]).collect()))
            }
            Ast::Repeat(inner, min, max) if inner.has_assertion() => self.asserting_loop(inner, *min, *max, after)?,
            Ast::Repeat(inner, min, max) => {
                let unit = self.rest(inner, [EPSILON; 3])?[0];
                self.plain_loop(unit, *min, *max, after)
            }
            Ast::Start => [after[0], NONE, NONE],
            Ast::End => after.map(|e| if self.languages.nullable(e) { EPSILON } else { NONE }),
            Ast::WordBoundary { negative } => {
                let word = self.languages.class(word_chars());
                let word_next = self.languages.concat(word, ANY);
                let other_next = self.languages.not(word_next);
                let next =
                    if *negative { [other_next, other_next, word_next] } else { [word_next, word_next, other_next] };
                [0, 1, 2].map(|k| self.languages.and2(after[k], next[k]))
            }
            Ast::Ahead { inner, negative } => {
                let seen = self.rest(inner, [ANY; 3])?;
                [0, 1, 2].map(|k| {
                    let seen = if *negative { self.languages.not(seen[k]) } else { seen[k] };
                    self.languages.and2(after[k], seen)
                })
            }
        })
    }

    fn one(&mut self, set: CharSet, after: ByContext) -> ExprId {
        if after[1] == after[2] {
            let class = self.languages.class(set);
            return self.languages.concat(class, after[1]);
        }
        let word = self.languages.class(set.intersection(&word_chars()));
        let other = self.languages.class(set.intersection(&word_chars().complement()));
        let (word, other) = (self.languages.concat(word, after[2]), self.languages.concat(other, after[1]));
        self.languages.or2(word, other)
    }

    fn plain_loop(&mut self, unit: ExprId, min: u32, max: u32, after: ByContext) -> ByContext {
        let whole = self.languages.repeat(unit, min, max);
        if after.iter().all(|&e| e == after[0]) {
            return [self.languages.concat(whole, after[0]); 3];
        }
        let nullable = self.languages.nullable(whole);
        let some = if nullable && !self.languages.nullable(unit) {
            self.languages.repeat(unit, 1, max)
        } else {
            let not_empty = self.languages.length_between(1, INFINITE);
            self.languages.and2(whole, not_empty)
        };
        let passed = if after[1] == after[2] {
            self.languages.concat(some, after[1])
        } else {
            let ends = [word_chars().complement(), word_chars()].map(|set| {
                let class = self.languages.class(set);
                self.languages.concat(ANY, class)
            });
            let parts = [0, 1].map(|k| {
                let part = if whole == ANY { ends[k] } else { self.languages.and2(some, ends[k]) };
                self.languages.concat(part, after[k + 1])
            });
            self.languages.or2(parts[0], parts[1])
        };
        if nullable { after.map(|e| self.languages.or2(e, passed)) } else { [passed; 3] }
    }

    fn asserting_loop(&mut self, inner: &Ast, min: u32, max: u32, after: ByContext) -> Result<ByContext, PatternError> {
        let refuse = |what: &str| PatternError { offset: 0, what: what.into(), unsupported: true };
        if min > UNROLL_LIMIT || (max != INFINITE && max > UNROLL_LIMIT) {
            return Err(refuse("an assertion inside a repeat with a high count is not supported"));
        }
        let mut rest = after;
        if max == INFINITE {
            if inner.may_be_empty() {
                return Err(refuse("a repeat of something that holds an assertion and may be empty is not supported"));
            }
            let names = after.map(|e| {
                let nullable = self.languages.nullable(e);
                self.languages.fix(nullable)
            });
            let round = self.rest(inner, names)?;
            for k in [0, 1, 2] {
                let body = self.languages.or2(after[k], round[k]);
                self.languages.define(names[k], body);
            }
            rest = names;
        } else {
            for _ in min..max {
                let round = self.rest(inner, rest)?;
                rest = [0, 1, 2].map(|k| self.languages.or2(after[k], round[k]));
            }
        }
        for _ in 0..min {
            rest = self.rest(inner, rest)?;
        }
        Ok(rest)
    }
}

const _: () = assert!(MAX_CHAR == char::MAX as u32);

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(source: &str, dialect: Dialect, text: &str) -> bool {
        let mut languages = Languages::new();
        let pattern = Pattern::parse(source, dialect).unwrap_or_else(|error| panic!("{source}: {error:?}"));
        let language = pattern.language(&mut languages).expect("supported");
        languages.matches(language, text)
    }

    /// Every string up to four characters over a small alphabet, against the `regex` crate.
    #[test]
    fn agrees_with_the_regex_crate_on_short_words() {
        let patterns = [
            "a",
            "^a",
            "a$",
            "^a$",
            "^a|b$",
            "(^a|b)c?$",
            "a*b",
            "^(ab|a)(c|bcd)*$",
            "^[^a]+$",
            "a{2,3}",
            "^(a{0,2}b){1,2}$",
            "^$",
            "",
            "(a|^)b",
            "a(b|$)",
            "\\bab",
            "a\\b",
            "\\Ba",
            "^(\\b|a)b",
            "(a\\b|b)+c",
            "^.*a.b$",
            "^a{2}|b{2,}",
            "(?i)A",
            "^(?:ab)*?a$",
            "^[a-b]*a[ab]$",
            "^(a*)*b$",
            "(a?){3}b$",
            "a -",
            "^\\w+ ?\\w*$",
            "-\\b",
        ];
        let alphabet = ['a', 'b', 'c', ' ', '-'];
        let mut words = vec![String::new()];
        let mut last = words.clone();
        for _ in 0..4 {
            last = last.iter().flat_map(|word| alphabet.map(|c| format!("{word}{c}"))).collect();
            words.extend(last.iter().cloned());
        }
        for source in patterns {
            let oracle = regex::Regex::new(source).expect("oracle");
            let mut languages = Languages::new();
            let e = Pattern::parse(source, Dialect::Ecma).expect("parses").language(&mut languages).expect("regular");
            for word in &words {
                assert_eq!(languages.matches(e, word), oracle.is_match(word), "/{source}/ on {word:?}");
            }
        }
    }

    #[test]
    fn lookahead_is_exact() {
        let cases = [
            ("^(?!pattern$).*$", "pattern", false),
            ("^(?!pattern$).*$", "patterns", true),
            ("^((?!mode)(?!Mode).)*$", "my mod", true),
            ("^((?!mode)(?!Mode).)*$", "my Model", false),
            ("^(?=.{3,5}$)[a-z]+(?:-[a-z]+)*$", "a-b", true),
            ("^(?=.{3,5}$)[a-z]+(?:-[a-z]+)*$", "abc-de", false),
            ("a(?=b)", "ab", true),
            ("a(?=b)", "ac", false),
            ("^(?!.*--)[a-z-]+$", "a-b-c", true),
            ("^(?!.*--)[a-z-]+$", "a--c", false),
            ("(?:x(?!y))+$", "axx", true),
            ("^(?:x(?!y))+", "xy", false),
        ];
        for (source, text, expected) in cases {
            assert_eq!(matches(source, Dialect::Ecma, text), expected, "/{source}/ on {text:?}");
        }
    }

    #[test]
    fn dialects_differ_as_documented() {
        assert!(matches("b", Dialect::Ecma, "abc"));
        assert!(!matches("b", Dialect::Own, "abc"));
        assert!(matches("\\s", Dialect::Ecma, "\u{a0}"));
        assert!(!matches("\\s", Dialect::Own, "\u{a0}"));
        assert!(!matches("^.$", Dialect::Ecma, "\u{2028}"));
        assert!(matches("a|ab", Dialect::Own, "ab"));
        assert!(matches("^\\p{L}$", Dialect::Ecma, "é"));
        assert!(matches("^\\uD83D\\uDE00$", Dialect::Ecma, "😀"));
        assert!(matches("^[^]$", Dialect::Ecma, "\n"));
    }

    #[test]
    fn says_what_is_wrong() {
        for (source, unsupported) in [
            ("(a", false),
            ("a)", false),
            ("*a", false),
            ("[z-a]", false),
            ("a{3,1}", false),
            ("[a", false),
            ("\\", false),
            ("(a)\\1", true),
            ("(?<=a)b", true),
            ("a++", true),
            ("(?>a)", true),
            ("a**", false),
        ] {
            let error = Pattern::parse(source, Dialect::Ecma).err().unwrap_or_else(|| panic!("{source} parsed"));
            assert_eq!(error.unsupported, unsupported, "{source}: {error:?}");
        }
        let deep = format!("{}a{}", "(".repeat(5000), ")".repeat(5000));
        assert!(Pattern::parse(&deep, Dialect::Ecma).is_err());
    }
}
