//! What each keyword of JSON Schema says, keyword by keyword.
//!
//! A keyword is a type with [`Assertion`] in the file of its family: what it allows, what it forbids, whether a finished
//! value satisfies it, what it is called. How it is read stands beside it, in the family's `read`. A new keyword is
//! that, a variant of [`Keyword`] and a line in [`Keyword::assertion`].
//!
//! | file | keywords of |
//! |---|---|
//! | `value` | any value: `type`, `enum`, `const` |
//! | `number`, `string` | numbers and strings |
//! | `array`, `object` | arrays and objects, `unevaluated…` among them |
//! | `logic` | other schemas for the same value: `allOf` to `if`, `$ref` |

pub mod array;
pub mod logic;
pub mod number;
pub mod object;
pub mod string;
pub mod value;

use serde_json::Value;

use super::decimal::Decimal;
use super::evaluate::Marks;
use super::expand::Expansion;
use super::format::Format;
use super::node::Alternatives;
use super::number::Range;
use super::schema::{Schema, SchemaId, Scope};
use crate::Result;

/// An asserting keyword, or several that only mean something together.
#[derive(Clone, Debug)]
pub enum Keyword {
    /// `type`.
    Type(value::Type),
    /// `enum`, `const`.
    Enum(value::Enum),
    /// `minimum`, `maximum`, `exclusiveMinimum`, `exclusiveMaximum`, `multipleOf`.
    Number(Box<Range>),
    /// `minLength`, `maxLength`.
    Length(string::Length),
    /// `pattern`.
    Pattern(string::Matching),
    /// `format`, where it is one that is enforced.
    Format(Format),
    /// `properties`, `patternProperties`, `additionalProperties`.
    Object(Box<object::ObjectRules>),
    /// `required`.
    Required(object::Required),
    /// `minProperties`, `maxProperties`.
    MemberCount(object::MemberCount),
    /// `propertyNames`.
    PropertyNames(object::PropertyNames),
    /// `dependentRequired`, and the like part of `dependencies`.
    DependentRequired(object::DependentRequired),
    /// `dependentSchemas`, and the like part of `dependencies`.
    DependentSchemas(object::DependentSchemas),
    /// `prefixItems` and `items`, or `items` and `additionalItems`.
    Items(array::Items),
    /// `minItems`, `maxItems`.
    ItemCount(array::ItemCount),
    /// `uniqueItems`.
    Unique(array::Unique),
    /// `contains`, `minContains`, `maxContains`.
    Contains(array::Contains),
    /// `allOf`.
    AllOf(logic::AllOf),
    /// `anyOf`.
    AnyOf(logic::AnyOf),
    /// `oneOf`.
    OneOf(logic::OneOf),
    /// `not`.
    Not(logic::Not),
    /// `if`, `then`, `else`.
    If(logic::If),
    /// `$ref` and its kin.
    Ref(logic::Ref),
    /// `unevaluatedProperties`.
    UnevaluatedProperties(object::UnevaluatedProperties),
    /// `unevaluatedItems`.
    UnevaluatedItems(array::UnevaluatedItems),
}

/// Where a keyword stands.
#[derive(Clone, Copy)]
pub(super) struct Site<'a> {
    pub keyword: &'a Keyword,
    pub schema: &'a Schema,
    pub id: SchemaId,
}

/// What a keyword says of values.
pub(super) trait Assertion {
    /// The spellings that may stand behind it.
    fn names(&self) -> &'static [&'static str];

    /// Narrows what is allowed to the values that satisfy the keyword.
    fn allow(&self, expansion: &mut Expansion, result: &mut Alternatives, site: Site<'_>);

    /// The values that fail the keyword.
    fn forbid(&self, expansion: &mut Expansion, site: Site<'_>) -> Alternatives;

    /// Whether a finished value satisfies the keyword.
    fn holds(&self, expansion: &mut Expansion, value: &Value, site: Site<'_>, depth: u32) -> bool;

    /// Marks the members and items of the value that the keyword looks at, as `unevaluated…` counts them.
    fn mark(&self, _expansion: &mut Expansion, _value: &Value, _marks: &mut Marks, _depth: u32) {}
}

impl Keyword {
    /// What it says.
    pub(super) fn assertion(&self) -> &dyn Assertion {
        match self {
            Self::Type(keyword) => keyword,
            Self::Enum(keyword) => keyword,
            Self::Number(keyword) => &**keyword,
            Self::Length(keyword) => keyword,
            Self::Pattern(keyword) => keyword,
            Self::Format(keyword) => keyword,
            Self::Object(keyword) => &**keyword,
            Self::Required(keyword) => keyword,
            Self::MemberCount(keyword) => keyword,
            Self::PropertyNames(keyword) => keyword,
            Self::DependentRequired(keyword) => keyword,
            Self::DependentSchemas(keyword) => keyword,
            Self::Items(keyword) => keyword,
            Self::ItemCount(keyword) => keyword,
            Self::Unique(keyword) => keyword,
            Self::Contains(keyword) => keyword,
            Self::AllOf(keyword) => keyword,
            Self::AnyOf(keyword) => keyword,
            Self::OneOf(keyword) => keyword,
            Self::Not(keyword) => keyword,
            Self::If(keyword) => keyword,
            Self::Ref(keyword) => keyword,
            Self::UnevaluatedProperties(keyword) => keyword,
            Self::UnevaluatedItems(keyword) => keyword,
        }
    }

    /// Makes alternatives, where the others only narrow.
    pub(super) fn branches(&self) -> bool {
        matches!(self, Self::AnyOf(_) | Self::OneOf(_) | Self::Not(_) | Self::If(..) | Self::DependentSchemas(_))
    }

    /// Takes part in what a string, a number or a key may look like.
    pub(super) fn has_language(&self) -> bool {
        matches!(
            self,
            Self::Number(_)
                | Self::Length(_)
                | Self::Pattern(_)
                | Self::Format(_)
                | Self::Object(_)
                | Self::PropertyNames(_)
        ) || self.branches()
    }

    /// `unevaluatedProperties` or `unevaluatedItems`: looks at what its neighbours have looked at.
    pub(super) fn is_unevaluated(&self) -> bool {
        matches!(self, Self::UnevaluatedProperties(_) | Self::UnevaluatedItems(_))
    }
}

impl Expansion {
    /// The keyword by itself as a schema: what a guard checks.
    fn alone(&mut self, site: Site<'_>) -> SchemaId {
        self.keyword_schema(site.keyword.clone(), site.schema)
    }
}

/// The keywords of one schema while they are read: those that stand by themselves, and by family those that only mean
/// something together.
#[derive(Default)]
pub(super) struct Reading {
    keywords: Vec<Keyword>,
    number: number::Reading,
    string: string::Reading,
    array: array::Reading,
    object: object::Reading,
    logic: logic::Reading,
}

impl Reading {
    /// Takes a member of the schema; false when it asserts nothing in this dialect.
    ///
    /// # Errors
    /// What stands behind the key is malformed.
    pub fn read<'a>(&mut self, key: &str, value: &'a Value, scope: &mut Scope<'_, 'a>) -> Result<bool> {
        let out = &mut self.keywords;
        Ok(value::read(key, value, scope, out)?
            || self.number.read(key, value, scope)?
            || self.string.read(key, value, scope, out)?
            || self.array.read(key, value, scope, out)?
            || self.object.read(key, value, scope, out)?
            || self.logic.read(key, value, scope, out)?)
    }

    /// Every further item has been given a schema.
    pub fn evaluates_items(&self) -> bool {
        self.array.items().is_some()
    }

    /// All of them.
    pub fn finish(self, scope: &mut Scope<'_, '_>) -> Vec<Keyword> {
        let mut out = self.keywords;
        self.number.finish(&mut out);
        self.string.finish(&mut out);
        self.array.finish(&mut out);
        self.object.finish(&mut out);
        self.logic.finish(scope, &mut out);
        out
    }
}

/// How many there may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// At least.
    pub min: u32,
    /// At most.
    pub max: Option<u32>,
}

impl Count {
    /// So many are within the bounds.
    pub(super) fn holds(self, count: usize) -> bool {
        count >= self.min as usize && self.max.is_none_or(|max| count <= max as usize)
    }

    /// Some number is within the bounds.
    pub(super) fn is_possible(self) -> bool {
        self.max.is_none_or(|max| self.min <= max)
    }

    fn is_any(self) -> bool {
        self == Self::default()
    }

    fn read_min(&mut self, key: &str, value: &Value, scope: &Scope<'_, '_>) -> Result<()> {
        self.min = count(value, true).ok_or_else(|| scope.malformed(key, "a whole number"))?;
        Ok(())
    }

    fn read_max(&mut self, key: &str, value: &Value, scope: &Scope<'_, '_>) -> Result<()> {
        self.max = Some(count(value, false).ok_or_else(|| scope.malformed(key, "a whole number"))?);
        Ok(())
    }
}

fn decimal(value: &Value) -> Option<Decimal> {
    match value {
        Value::Number(number) => Some(Decimal::from_number(number)),
        _ => None,
    }
}

/// A number as a count, a fraction rounded up or down to the next whole one.
fn count(value: &Value, up: bool) -> Option<u32> {
    let value = decimal(value)?;
    if value.is_negative() {
        return Some(0);
    }
    let (whole, _) = value.to_integer(up).plain(20)?;
    Some(
        whole
            .iter()
            .try_fold(0u32, |sum, &digit| sum.checked_mul(10)?.checked_add(u32::from(digit)))
            .unwrap_or(u32::MAX - 1),
    )
}
