//! Keywords of numbers: `minimum` to `multipleOf`, all of them one range.

use serde_json::{Map, Value};

use super::{Assertion, Keyword, Site, decimal};
use crate::Result;
use crate::grammar::decimal::Decimal;
use crate::grammar::expand::Expansion;
use crate::grammar::node::{Alternatives, Case, Signed};
use crate::grammar::number::{Bound, NumberSet, Range};
use crate::grammar::schema::{Draft, Scope};

/// The range as far as it is read.
#[derive(Default)]
pub(super) struct Reading(Range);

impl Reading {
    pub fn read(&mut self, key: &str, value: &Value, scope: &Scope<'_, '_>) -> Result<bool> {
        match key {
            "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => {
                self.bound(key, value, scope.members, scope.draft()).ok_or_else(|| scope.malformed(key, "a number"))?
            }
            "multipleOf" => {
                let step = decimal(value).filter(|step| !step.is_zero() && !step.is_negative());
                let step = step.ok_or_else(|| scope.malformed(key, "a number above zero"))?;
                self.0.multiples.push((step, true));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Takes a bound, where it is the tightest of its side; in draft-04 `exclusive…` is a word about its neighbour.
    fn bound(&mut self, key: &str, value: &Value, members: &Map<String, Value>, draft: Draft) -> Option<()> {
        let lower = key.ends_with("inimum");
        let exclusive_key = if lower { "exclusiveMinimum" } else { "exclusiveMaximum" };
        if key == exclusive_key && (value.is_boolean() || draft == Draft::Draft4) {
            return Some(());
        }
        let exclusive = key == exclusive_key || members.get(exclusive_key) == Some(&Value::Bool(true));
        let new = Bound { value: decimal(value)?, exclusive };
        let side = if lower { &mut self.0.low } else { &mut self.0.high };
        let tighter = side.as_ref().is_none_or(|old| {
            let order = new.value.cmp(&old.value);
            let order = if lower { order } else { order.reverse() };
            order.is_gt() || (order.is_eq() && exclusive)
        });
        if tighter {
            *side = Some(new);
        }
        Some(())
    }

    pub fn finish(self, out: &mut Vec<Keyword>) {
        if self.0 != Range::default() {
            out.push(Keyword::Number(Box::new(self.0)));
        }
    }
}

impl Assertion for Range {
    fn names(&self) -> &'static [&'static str] {
        &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]
    }

    fn allow(&self, expansion: &mut Expansion, result: &mut Alternatives, site: Site<'_>) {
        let set = NumberSet::Ranges(vec![self.clone()]);
        result.numbers.retain_mut(|case| {
            match case.body.intersection(&set) {
                Some(both) => case.body = both,
                None => case.guard(Signed::positive(expansion.alone(site))),
            }
            !case.body.is_none()
        });
    }

    fn forbid(&self, expansion: &mut Expansion, site: Site<'_>) -> Alternatives {
        let mut case = Case::plain(NumberSet::all());
        match NumberSet::Ranges(vec![self.clone()]).complement() {
            Some(outside) => case.body = outside,
            None => case.guard(Signed::negative(expansion.alone(site))),
        }
        Alternatives { numbers: vec![case], ..Alternatives::none() }
    }

    fn holds(&self, _: &mut Expansion, value: &Value, _: Site<'_>, _: u32) -> bool {
        match value {
            Value::Number(number) => self.contains(&Decimal::from_number(number)),
            _ => true,
        }
    }
}
