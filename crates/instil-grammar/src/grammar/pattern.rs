//! Regular expressions as people write them → languages.
//!
//! Two dialects share one parser. **ECMA-262** (`pattern`, `patternProperties`): unanchored search, `.` is
//! any character but a line terminator, `\d` and `\w` are ASCII, `\s` is Unicode white space, `\p{…}` classes.
//! **The project's own** (`--regex`, text fields): the whole text must match, `.` is any character
//! but `\n`, `\d \w \s` are ASCII. In both: `^ $ \b \B`, lookahead `(?=…) (?!…)` anywhere, greedy and
//! lazy repeats (alike: the language counts), named and non-capturing groups, `(?i)` and `(?s)`.
//! Not regular, hence refused: backreferences. Also refused: lookbehind, atomic groups, possessive repeats; and what other
//! engines read otherwise ([`foreign`]). `grammars/regex.md` has the whole.
//!
//! Assertions are exact: translation goes from right to left, with the language of the rest of the
//! text as its argument, once for each kind of left neighbour (none, a word character, another).

mod foreign;
mod parse;

use self::parse::Parser;
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
    use proptest::prelude::*;

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

    /// Regexes that all engines read alike.
    fn common() -> impl Strategy<Value = String> {
        const ATOMS: &[&str] = &[
            "a", "b", "C", "-", "[ab]", "[^a]", "[a-c-]", ".", r"\w", r"\W", r"\d", r"\s", r"\b", "^", "$", "(?i:c)",
            "(?i)b",
        ];
        let leaf = prop::sample::select(ATOMS).prop_map(str::to_owned);
        leaf.prop_recursive(4, 24, 4, |inner| {
            const QUANTIFIERS: &[&str] = &["*", "+", "?", "{2}", "{0,2}", "{1,}", "*?", "+?"];
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| parts.concat()),
                prop::collection::vec(inner.clone(), 2..4).prop_map(|parts| format!("(?:{})", parts.join("|"))),
                (inner, prop::sample::select(QUANTIFIERS)).prop_map(|(part, often)| format!("(?:{part}){often}")),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_regex_that_engines_read_alike_is_read_like_that(source in common()) {
            let alphabet = ['a', 'b', 'c', 'C', '-', ' ', '\u{17f}'];
            let mut words = vec![String::new()];
            for _ in 0..3 {
                let longer: Vec<String> = words.iter().flat_map(|word| alphabet.map(|c| format!("{word}{c}"))).collect();
                words.extend(longer);
            }
            words.sort();
            words.dedup();
            for dialect in [Dialect::Own, Dialect::Ecma] {
                let mut languages = Languages::new();
                // What is refused is refused by its kind: see the page of the dialect.
                let Ok(pattern) = Pattern::parse(&source, dialect) else { continue };
                let Ok(language) = pattern.language(&mut languages) else { continue };
                // Classes and case within ASCII, as here; but for these letters of the alphabet `.` is the same.
                let whole = if dialect == Dialect::Own { format!("\\A(?:{source})\\z") } else { source.clone() };
                let whole = whole.replace(r"\w", "(?-i:[0-9A-Za-z_])").replace(r"\W", "(?-i:[^0-9A-Za-z_])").replace(r"\b", r"(?-u:\b)");
                let oracle = regex::Regex::new(&whole).expect("an engine reads it");
                for word in &words {
                    prop_assert_eq!(languages.matches(language, word), oracle.is_match(word), "/{}/ on {:?}", source, word);
                }
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
    fn what_other_engines_read_otherwise_is_refused_with_the_spelling_to_use() {
        for (source, instead) in [
            ("[[:digit:]]{3}-[[:upper:]]{2}", r"`[:digit:]` is no class here: write `\d`"),
            ("[a[:^alpha:]]", "write `A-Za-z`"),
            ("[]a]{2}", r"write `\]` for the member"),
            ("[^]]+", r"write `\]` for the member"),
            ("a{,3}b", "write `{0,3}`"),
            (r"\Qa.b\E", "escape each character"),
            (r"\U0001F600", r"write \u{…}"),
            (r"\h+", r"write [ \t]"),
            (r"\N", r"write [^\n]"),
            (r"\R", r"write (?:\r\n|\n|\r)"),
            (r"\i", "write `i` for the letter"),
            (r"[\q]", "write `q` for the letter"),
            (r"[\A]", "take it out of the class"),
            (r"\xg", r"write \xHH"),
            (r"\u12", r"\uHHHH"),
            (r"\101", r"octal escapes are not read: write `\xHH`"),
            (r"[\1]", "octal escapes are not read"),
            (r"\012", "octal escapes are not read"),
            ("[a-z&&[^aeiou]]{3}", r"write `\&` for the letter"),
            ("[a-z--b]", r"write `\-` for the letter"),
            ("[a~~b]", r"write `\~` for the letter"),
        ] {
            for dialect in [Dialect::Own, Dialect::Ecma] {
                let error = Pattern::parse(source, dialect).err().unwrap_or_else(|| panic!("{source} parsed"));
                assert!(error.what.contains(instead), "{source}: {error:?}");
            }
        }
        for source in [r"[+--]", "[&]", "a{", "a{}", "{,}", "[a-]", r"[\]a]", r"\-\_\/\ ", "[^]", "[]"] {
            assert!(Pattern::parse(source, Dialect::Ecma).is_ok(), "{source}");
        }
    }

    #[test]
    fn case_is_folded_over_the_whole_group_and_ascii_within_ascii() {
        for (source, text, expected) in [
            ("(?i)yes|no", "NO", true),
            ("(?i)yes|no", "YE\u{17f}", false),
            ("(?i)k", "\u{212a}", false),
            ("(?i)\u{17f}", "s", true),
            ("(?i)é", "É", true),
            ("(?i)[a-zé]", "É", true),
            ("(?:(?i)yes|no)!", "NO!", true),
            ("(?:(?i)yes|no)x", "NOX", false),
            ("(?:a(?i)b|c)d", "C", false),
            ("(?:a(?i)b|c)d", "Cd", true),
            (r"(?i)\W", "s", false),
            (r"(?i)[\W_]", "k", false),
            (r"(?i)\p{Lu}", "a", true),
        ] {
            assert_eq!(matches(source, Dialect::Own, text), expected, "/{source}/ on {text:?}");
        }
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
