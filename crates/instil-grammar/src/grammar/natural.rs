//! Which valid values a person would write: how many digits a number has, what dates and times look like, which objects
//! take no further members. It narrows what is made, never what is valid: where nothing valid is like that,
//! everything valid is taken.

use super::expand::Expansion;
use super::format::Format;
use super::language::{ANY, ExprId, Languages};
use super::node::{NOTHING, ObjectBody};
use super::number::{BOUND_DIGITS, Bound, Range};
use super::pattern::{Dialect, Pattern};
use super::{Source, Style};
use crate::grammar::keyword::Keyword;

/// Digits of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digits {
    /// Before the point.
    pub whole: u32,
    /// After it.
    pub fraction: u32,
    /// Together, a lone zero before the point not counted.
    pub all: u32,
}

/// Digits before the point where no bound says more: of integers, of other numbers, of multiples of a step.
const WHOLE: [u32; 3] = [7, 7, 6];
/// Digits after the point, of a number that may be as large as one.
const FRACTION: u32 = 4;
/// Digits that a number between two bounds has beyond what tells the bounds apart.
const FINER: u32 = 3;
/// Digits of a number that has a fraction.
const ALL: u32 = 7;
/// Digits of a bound, or zeros after its point, up to which it is written without an exponent.
const PLAIN: u32 = 12;
/// Words up to which a language counts as listed: what is listed is meant.
const LISTED: usize = 256;

/// Dates and times as RFC 3339 is written in practice: years of a calendar that people live by, capital `T` and `Z`,
/// milliseconds or microseconds or neither, no leap second, offsets that zones have; durations of a few short parts.
const DATE: &str = "(1[5-9]|20)[0-9]{2}-.{5}";
const RECENT_DATE: &str = "(19|20)[0-9]{2}-.{5}";
const TIME: &str = r"[0-9]{2}:[0-9]{2}:[0-5][0-9](\.[0-9]{3}([0-9]{3})?)?(Z|[+-](0[0-9]|1[0-4]):(00|15|30|45))";
const DURATION: &str = "P((0|[1-9][0-9]?)[YMWD]|[1-9][0-9]{2}D){0,3}(T((0|[1-9][0-9]?)[HMS]){1,3})?";

impl Digits {
    /// Those of the numbers in a range; `None` where its bounds are such as people write with an exponent.
    pub(super) fn of(range: &Range) -> Option<Self> {
        let length = |bound: &Bound| {
            bound.value.magnitude().plain(BOUND_DIGITS).map_or((0, 0), |(whole, fraction)| {
                let leading = fraction.iter().take_while(|&&digit| digit == 0).count();
                let leading = if whole.iter().all(|&digit| digit == 0) { leading } else { 0 };
                (whole.len() as u32, if fraction.is_empty() { 0 } else { leading as u32 })
            })
        };
        let bounds: Vec<(u32, u32)> = [&range.low, &range.high].into_iter().flatten().map(length).collect();
        let most = bounds.iter().map(|&(whole, _)| whole).max().unwrap_or(0);
        let step = range.multiples.iter().filter(|(_, wanted)| *wanted).find_map(|(step, _)| step.as_step());
        let is_integer = range.integer == Some(true);
        let kind = if step.is_some() { 2 } else { usize::from(!is_integer) };
        let is_bounded = range.low.is_some() && range.high.is_some();
        let whole = if is_bounded { most.max(1) } else { WHOLE[kind].max(most + 1) };
        if is_integer {
            return Some(Self { whole, fraction: 0, all: whole });
        }
        if let Some((_, scale)) = step {
            return Some(Self { whole, fraction: scale, all: whole + scale });
        }
        // Between bounds that are close the first digits are theirs.
        let fine = match (&range.low, &range.high) {
            (Some(low), Some(high)) => places_apart(low, high),
            _ => bounds.iter().map(|&(_, zeros)| zeros).max().unwrap_or(0),
        };
        let fraction = FRACTION.max(fine + FINER);
        let all = ALL.max(most + if fine > 0 { fraction } else { fraction.min(2) });
        (most <= PLAIN && fine <= PLAIN).then_some(Self { whole, fraction, all })
    }
}

/// The first place after the point in which numbers between two bounds differ; 0 before it.
fn places_apart(low: &Bound, high: &Bound) -> u32 {
    let (Some(mut a), Some(mut b)) =
        (low.value.magnitude().plain(BOUND_DIGITS), high.value.magnitude().plain(BOUND_DIGITS))
    else {
        return 0;
    };
    let differ = low.value.is_negative() != high.value.is_negative() && !low.value.is_zero() && !high.value.is_zero();
    let width = a.0.len().max(b.0.len());
    for (whole, _) in [&mut a, &mut b] {
        let missing = width - whole.len();
        whole.splice(0..0, std::iter::repeat_n(0, missing));
    }
    if differ || a.0 != b.0 {
        return 0;
    }
    let digit = |fraction: &[u8], at: usize| fraction.get(at).copied().unwrap_or(0);
    let places = a.1.len().max(b.1.len());
    (0..places).find(|&at| digit(&a.1, at) != digit(&b.1, at)).map_or(places as u32, |at| at as u32 + 1)
}

impl Format {
    /// Its texts as they are mostly written, before they are cut to the format; `None` where any is as good.
    fn usual(self, languages: &mut Languages) -> Option<ExprId> {
        let text = match self {
            Self::Date => DATE.to_owned(),
            Self::Time => TIME.to_owned(),
            Self::DateTime => format!("{RECENT_DATE}T{TIME}"),
            Self::Duration => DURATION.to_owned(),
            _ => return None,
        };
        let pattern = Pattern::parse(&text, Dialect::Own).expect("these are regexes");
        Some(pattern.language(languages).expect("regular ones"))
    }
}

impl Expansion {
    /// Whether values are made as a person would write them.
    fn is_natural(&self) -> bool {
        self.program.inner.options.style == Style::Natural
    }

    /// The formats that the schema names and that have a usual form.
    fn usual_formats(&self) -> Vec<Format> {
        let Source::Json(schemas) = &self.program.inner.source else { return Vec::new() };
        let mut found = Vec::new();
        for keyword in schemas.all.iter().flat_map(|schema| &schema.keywords) {
            if let Keyword::Format(format) = keyword
                && matches!(format, Format::Date | Format::Time | Format::DateTime | Format::Duration)
                && !found.contains(format)
            {
                found.push(*format);
            }
        }
        found
    }

    /// The strings of a language that a person would write: of those that all have one format, the usual ones.
    pub(super) fn natural_strings(&mut self, language: ExprId) -> ExprId {
        if !self.is_natural() || self.languages.as_length(language).is_some() {
            return language;
        }
        for format in self.usual_formats() {
            let (all, exact, extension) = self.format_language(format);
            if !exact || extension != super::language::NONE {
                continue;
            }
            let outside = self.languages.not(all);
            let outside = self.languages.and2(language, outside);
            if !self.languages.is_empty(outside) || self.languages.finite(language, LISTED).is_some() {
                continue;
            }
            let Some(usual) = format.usual(&mut self.languages) else { continue };
            let usual = self.languages.and2(language, usual);
            if !self.languages.is_empty(usual) {
                return usual;
            }
        }
        language
    }

    /// Takes from further members the names that begin with a name of the schema: whoever means that one, and may not
    /// write it any more, would end up with `"name` and something behind it.
    pub(super) fn leave_names_alone(&mut self, body: &mut ObjectBody) {
        let required = body.slots().iter().filter(|slot| slot.required).count();
        if !self.is_natural() || !body.witnesses.is_empty() || body.min as usize > required || body.slots().is_empty() {
            return;
        }
        let names = self.languages.words(body.slots().iter().map(|slot| &*slot.name));
        let begun = self.languages.concat(names, ANY);
        let others = self.languages.not(begun);
        for at in 0..body.others.len() {
            let keys = self.languages.and2(body.others[at].0, others);
            if !self.languages.is_empty(keys) {
                body.others[at].0 = keys;
            }
        }
    }

    /// Takes further members from an object whose schemas name some and say nothing of others.
    pub(super) fn close_naturally(&mut self, body: &mut ObjectBody) {
        let members = || body.slots().iter().filter(|slot| slot.node != NOTHING);
        let required = members().filter(|slot| slot.required).count();
        if self.is_natural()
            && !body.speaks_of_others
            && body.witnesses.is_empty()
            && members().next().is_some()
            && body.min as usize <= required
        {
            body.others.clear();
        }
    }
}
