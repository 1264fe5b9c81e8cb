//! Keywords of strings: `minLength`, `maxLength`, `pattern`, `format`. Each is a language.

use serde_json::Value;

use super::{Assertion, Count, Keyword, Site};
use crate::Result;
use crate::grammar::expand::Expansion;
use crate::grammar::format::Format;
use crate::grammar::language::{ANY, ExprId, INFINITE, NONE};
use crate::grammar::node::{Alternatives, Case, Signed};
use crate::grammar::schema::{PatternId, Scope};

/// `minLength`, `maxLength`, in characters.
#[derive(Clone, Copy, Debug, Default)]
pub struct Length(pub Count);

/// `pattern`.
#[derive(Clone, Copy, Debug)]
pub struct Matching(pub PatternId);

/// The length as far as it is read.
#[derive(Default)]
pub(super) struct Reading(Length);

impl Reading {
    pub fn read(
        &mut self,
        key: &str,
        value: &Value,
        scope: &mut Scope<'_, '_>,
        out: &mut Vec<Keyword>,
    ) -> Result<bool> {
        let Length(length) = &mut self.0;
        match key {
            "minLength" => length.read_min(key, value, scope)?,
            "maxLength" => length.read_max(key, value, scope)?,
            "pattern" => {
                let Value::String(source) = value else { return Err(scope.malformed(key, "a string")) };
                out.push(Keyword::Pattern(Matching(scope.pattern(source, &[key])?)));
            }
            "format" => match value.as_str().and_then(Format::from_name) {
                Some(format) => out.push(Keyword::Format(format)),
                None => return Ok(false),
            },
            _ => return Ok(false),
        }
        Ok(true)
    }

    pub fn finish(self, out: &mut Vec<Keyword>) {
        if !self.0.0.is_any() {
            out.push(Keyword::Length(self.0));
        }
    }
}

/// Leaves the strings of a language.
fn keep(expansion: &mut Expansion, result: &mut Alternatives, language: ExprId) {
    result.strings.retain_mut(|case| {
        case.body = expansion.languages.and2(case.body, language);
        case.body != NONE
    });
}

/// The strings outside of a language.
fn outside(expansion: &mut Expansion, language: ExprId) -> Alternatives {
    let mut result = Alternatives::none();
    let outside = expansion.languages.not(language);
    if outside != NONE {
        result.strings.push(Case::plain(outside));
    }
    result
}

impl Length {
    fn language(self, expansion: &mut Expansion) -> ExprId {
        expansion.languages.length_between(self.0.min, self.0.max.unwrap_or(INFINITE))
    }
}

impl Assertion for Length {
    fn names(&self) -> &'static [&'static str] {
        &["minLength", "maxLength"]
    }

    fn allow(&self, expansion: &mut Expansion, result: &mut Alternatives, _: Site<'_>) {
        let language = self.language(expansion);
        keep(expansion, result, language);
    }

    fn forbid(&self, expansion: &mut Expansion, _: Site<'_>) -> Alternatives {
        let language = self.language(expansion);
        outside(expansion, language)
    }

    fn holds(&self, _: &mut Expansion, value: &Value, _: Site<'_>, _: u32) -> bool {
        value.as_str().is_none_or(|text| self.0.holds(text.chars().count()))
    }
}

impl Assertion for Matching {
    fn names(&self) -> &'static [&'static str] {
        &["pattern"]
    }

    fn allow(&self, expansion: &mut Expansion, result: &mut Alternatives, _: Site<'_>) {
        let language = expansion.pattern_language(self.0);
        keep(expansion, result, language);
    }

    fn forbid(&self, expansion: &mut Expansion, _: Site<'_>) -> Alternatives {
        let language = expansion.pattern_language(self.0);
        outside(expansion, language)
    }

    fn holds(&self, expansion: &mut Expansion, value: &Value, _: Site<'_>, _: u32) -> bool {
        value.as_str().is_none_or(|text| {
            let language = expansion.pattern_language(self.0);
            expansion.languages.matches(language, text)
        })
    }
}

impl Assertion for Format {
    fn names(&self) -> &'static [&'static str] {
        &["format"]
    }

    fn allow(&self, expansion: &mut Expansion, result: &mut Alternatives, site: Site<'_>) {
        let (language, exact, extension) = expansion.format_language(*self);
        let check = (!exact || extension != NONE).then(|| Signed::positive(expansion.alone(site)));
        let mut extended = Vec::new();
        for case in result.strings.iter().filter(|_| extension != NONE) {
            let mut case = Case { body: expansion.languages.and2(case.body, extension), guards: case.guards.clone() };
            check.into_iter().for_each(|check| case.guard(check));
            extended.push(case);
        }
        keep(expansion, result, language);
        if let Some(check) = check.filter(|_| !exact) {
            result.strings.iter_mut().for_each(|case| case.guard(check));
        }
        result.strings.extend(extended.into_iter().filter(|case| case.body != NONE));
    }

    fn forbid(&self, expansion: &mut Expansion, site: Site<'_>) -> Alternatives {
        let (language, exact, extension) = expansion.format_language(*self);
        if exact && extension == NONE {
            return outside(expansion, language);
        }
        let mut case = Case::plain(ANY);
        case.guard(Signed::negative(expansion.alone(site)));
        Alternatives { strings: vec![case], ..Alternatives::none() }
    }

    fn holds(&self, expansion: &mut Expansion, value: &Value, _: Site<'_>, _: u32) -> bool {
        let Value::String(text) = value else { return true };
        let (language, exact, extension) = expansion.format_language(*self);
        if extension != NONE && expansion.languages.matches(extension, text) {
            return self.check(text);
        }
        expansion.languages.matches(language, text) && (exact || self.check(text))
    }
}
