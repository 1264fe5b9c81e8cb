//! Reads a JSON Schema into an arena of keywords: dialects settled, `$ref`s resolved, patterns parsed.
//!
//! One pass over what is reachable from the root. Anything that cannot be enforced is refused here, with the
//! pointer and the keyword. The meaning of keywords is for `expand` and `evaluate`.

mod resolve;

use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde_json::{Map, Value};

use super::decimal::Decimal;
use super::format::Format;
use super::number::{Bound, Range};
use super::pattern::{Dialect as RegexDialect, Pattern};
use crate::{Error, Result};

/// Index of a schema in the arena.
pub type SchemaId = u32;
/// The schema that everything satisfies.
pub const TRUE: SchemaId = 0;
/// The schema that nothing satisfies.
pub const FALSE: SchemaId = 1;
/// Index of a pattern.
pub type PatternId = u32;

/// One type of `type`, as a bit.
pub mod types {
    /// `null`
    pub const NULL: u8 = 1;
    /// `boolean`
    pub const BOOLEAN: u8 = 2;
    /// `integer`
    pub const INTEGER: u8 = 4;
    /// `number`
    pub const NUMBER: u8 = 8;
    /// `string`
    pub const STRING: u8 = 16;
    /// `array`
    pub const ARRAY: u8 = 32;
    /// `object`
    pub const OBJECT: u8 = 64;
}

/// Every keyword that may assert something.
const ASSERTING: [&str; 43] = [
    "type",
    "enum",
    "const",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "format",
    "properties",
    "patternProperties",
    "additionalProperties",
    "required",
    "minProperties",
    "maxProperties",
    "propertyNames",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
    "items",
    "prefixItems",
    "additionalItems",
    "minItems",
    "maxItems",
    "uniqueItems",
    "contains",
    "minContains",
    "maxContains",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "$ref",
    "$dynamicRef",
    "$recursiveRef",
    "unevaluatedProperties",
    "unevaluatedItems",
];

fn static_name(name: &str) -> Option<&'static str> {
    ASSERTING.iter().find(|known| **known == name).copied()
}

/// How the place of a metaschema begins, where a pointer into the schema itself begins with a slash.
const META: &str = "meta:";
/// The metaschemas that consist of one document: references to them need not be bundled.
const METASCHEMAS: [(&str, &str); 3] = [
    ("json-schema.org/draft-04/schema", include_str!("metaschemas/draft-04.json")),
    ("json-schema.org/draft-06/schema", include_str!("metaschemas/draft-06.json")),
    ("json-schema.org/draft-07/schema", include_str!("metaschemas/draft-07.json")),
];
/// Schema nesting that is read.
const NEST_LIMIT: u32 = 256;
/// Nesting of the JSON text of a schema: what recursive walks over it may rely on.
const JSON_NEST_LIMIT: u32 = 2 * NEST_LIMIT + 16;
/// Length of a chain of references and branches that stays at one value.
const IN_PLACE_LIMIT: usize = 100;
/// Length of a pattern in bytes.
const PATTERN_LIMIT: usize = 1 << 16;

/// A schema: its keywords all hold.
#[derive(Debug, Default)]
pub struct Schema {
    /// Where it stands.
    pub pointer: String,
    /// What it asserts.
    pub keywords: Vec<Keyword>,
    /// `1.0` is not an integer (draft-04).
    pub strict_integer: bool,
    /// `additionalProperties` stands there, whatever it says.
    pub evaluates_additional: bool,
    /// Names of the keywords that assert something.
    pub present: Vec<&'static str>,
    /// Names of those that do not (in this dialect).
    pub ignored: Vec<Box<str>>,
    /// `items` or `additionalItems` gives every further item a schema, whatever it says.
    pub evaluates_items: bool,
}

/// An asserting keyword, or several that only mean something together.
#[derive(Clone, Debug)]
pub enum Keyword {
    /// `type`: bits of [`types`].
    Type(u8),
    /// `enum`, `const`.
    Enum(Arc<[Value]>),
    /// `minimum`, `maximum`, `exclusiveMinimum`, `exclusiveMaximum`, `multipleOf`.
    Number(Box<Range>),
    /// `minLength`, `maxLength`.
    Length(u32, Option<u32>),
    /// `pattern`.
    Pattern(PatternId),
    /// `format`, where it is one that is enforced.
    Format(Format),
    /// `properties`, `patternProperties`, `additionalProperties`.
    Object(Box<ObjectRules>),
    /// `required`.
    Required(Vec<Arc<str>>),
    /// `minProperties`, `maxProperties`.
    Members(u32, Option<u32>),
    /// `propertyNames`.
    PropertyNames(SchemaId),
    /// `dependentRequired`, and the like part of `dependencies`.
    DependentRequired(Vec<(Arc<str>, Vec<Arc<str>>)>),
    /// `dependentSchemas`, and the like part of `dependencies`.
    DependentSchemas(Vec<(Arc<str>, SchemaId)>),
    /// `prefixItems` and `items`, or `items` and `additionalItems`.
    Items(Vec<SchemaId>, SchemaId),
    /// `minItems`, `maxItems`.
    ItemCount(u32, Option<u32>),
    /// `uniqueItems`.
    Unique,
    /// `contains`, `minContains`, `maxContains`.
    Contains(SchemaId, u32, Option<u32>),
    /// `allOf`.
    AllOf(Vec<SchemaId>),
    /// `anyOf`.
    AnyOf(Vec<SchemaId>),
    /// `oneOf`.
    OneOf(Vec<SchemaId>),
    /// `not`.
    Not(SchemaId),
    /// `if`, `then`, `else`.
    If(SchemaId, SchemaId, SchemaId),
    /// `$ref` and its kin.
    Ref(SchemaId),
    /// `unevaluatedProperties`.
    UnevaluatedProperties(SchemaId),
    /// `unevaluatedItems`.
    UnevaluatedItems(SchemaId),
}

impl Keyword {
    /// Makes alternatives, where the others only narrow.
    pub fn branches(&self) -> bool {
        matches!(self, Self::AnyOf(_) | Self::OneOf(_) | Self::Not(_) | Self::If(..) | Self::DependentSchemas(_))
    }
}

/// Keywords that give the members of an object their schemas.
#[derive(Clone, Debug)]
pub struct ObjectRules {
    /// `properties`, in order.
    pub properties: Vec<(Arc<str>, SchemaId)>,
    /// `patternProperties`.
    pub patterns: Vec<(PatternId, SchemaId)>,
    /// `additionalProperties`.
    pub additional: SchemaId,
}

/// All schemas that are reachable from the root.
#[derive(Debug)]
pub struct Schemas {
    /// By id.
    pub all: Vec<Arc<Schema>>,
    /// By id: the regex and its parsed form.
    pub patterns: Vec<(Arc<str>, Pattern)>,
    /// Where to start.
    pub root: SchemaId,
    /// The dialect that the whole is read in.
    pub draft: Draft,
}

/// A draft of JSON Schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Draft {
    /// draft-04
    Draft4,
    /// draft-06
    Draft6,
    /// draft-07
    Draft7,
    /// 2019-09
    Draft2019,
    /// 2020-12
    Draft2020,
}

impl Draft {
    /// The draft that `$schema` names.
    pub fn from_uri(uri: &str) -> Option<Self> {
        let uri = uri.trim_end_matches('#').trim_end_matches('/');
        let path = uri.strip_prefix("http://").or_else(|| uri.strip_prefix("https://"))?;
        Some(match path.strip_prefix("json-schema.org/")? {
            "draft-04/schema" => Self::Draft4,
            "draft-06/schema" => Self::Draft6,
            "draft-07/schema" => Self::Draft7,
            "draft/2019-09/schema" => Self::Draft2019,
            "draft/2020-12/schema" | "schema" => Self::Draft2020,
            _ => return None,
        })
    }

    /// The draft that a schema without `$schema` is spelled in.
    fn from_spelling(schema: &Value, depth: u32) -> Self {
        let mut draft = Self::Draft2020;
        let Value::Object(members) = schema else { return draft };
        if depth > NEST_LIMIT {
            return draft;
        }
        for (key, value) in members {
            let found = match (key.as_str(), value) {
                ("exclusiveMinimum" | "exclusiveMaximum", Value::Bool(_)) => Self::Draft4,
                ("items", Value::Array(_)) | ("additionalItems", _) => Self::Draft2019,
                ("enum" | "const" | "default" | "examples", _) => continue,
                (
                    "properties" | "patternProperties" | "definitions" | "$defs" | "dependencies" | "dependentSchemas",
                    Value::Object(inner),
                ) => inner.values().map(|value| Self::from_spelling(value, depth + 1)).min().unwrap_or(draft),
                (_, Value::Object(_)) => Self::from_spelling(value, depth + 1),
                (_, Value::Array(items)) => {
                    items.iter().map(|item| Self::from_spelling(item, depth + 1)).min().unwrap_or(draft)
                }
                _ => continue,
            };
            draft = draft.min(found);
        }
        draft
    }
}

/// Reads a schema.
///
/// # Errors
/// Malformed keywords, unresolvable references, patterns that are no regular language.
pub fn load(root: &Value) -> Result<Schemas> {
    if is_deeper(root, JSON_NEST_LIMIT) {
        return Err(Error::grammar("", format!("the schema nests deeper than {JSON_NEST_LIMIT}"), "use `$ref`"));
    }
    let named = root.get("$schema").and_then(Value::as_str).and_then(Draft::from_uri);
    let draft = named.unwrap_or_else(|| Draft::from_spelling(root, 0));
    let mut loader = Loader {
        document: root,
        draft,
        all: vec![
            Some(Schema::default()),
            Some(Schema { keywords: vec![Keyword::AnyOf(Vec::new())], ..Schema::default() }),
        ],
        by_pointer: FxHashMap::default(),
        patterns: Vec::new(),
        pattern_index: FxHashMap::default(),
        queue: Vec::new(),
        names: None,
        depth: 0,
    };
    let id = loader.schema(root, String::new(), &Arc::from(""));
    while let Some(Place { id, value, pointer, resource, depth }) = loader.queue.pop() {
        loader.depth = depth;
        loader.fill(id, value, pointer, &resource)?;
    }
    let mut all = Vec::with_capacity(loader.all.len());
    for schema in loader.all {
        all.push(Arc::new(schema.unwrap_or_default()));
    }
    let schemas = Schemas { all, patterns: loader.patterns, root: id, draft };
    schemas.refuse_reference_loops()?;
    Ok(schemas)
}

struct Loader<'a> {
    document: &'a Value,
    draft: Draft,
    /// `None` while a schema is being read.
    all: Vec<Option<Schema>>,
    by_pointer: FxHashMap<String, SchemaId>,
    patterns: Vec<(Arc<str>, Pattern)>,
    pattern_index: FxHashMap<String, PatternId>,
    /// Schemas still to be read.
    queue: Vec<Place<'a>>,
    /// Absolute names (`$id`, anchors) → pointer; found when first needed.
    names: Option<FxHashMap<String, String>>,
    /// Nesting of the schema being read.
    depth: u32,
}

/// A schema still to be read.
struct Place<'a> {
    id: SchemaId,
    value: &'a Value,
    pointer: String,
    /// Pointer of the resource that it belongs to.
    resource: Arc<str>,
    depth: u32,
}

fn malformed(pointer: &str, keyword: &str, wanted: &str) -> Error {
    Error::grammar(
        format!("{pointer}/{keyword}"),
        format!("`{keyword}` is not {wanted}"),
        "correct the schema, or remove the keyword",
    )
}

/// A key as a step of a JSON pointer.
pub fn pointer_step(key: &str) -> String {
    if key.contains(['~', '/']) { key.replace('~', "~0").replace('/', "~1") } else { key.to_owned() }
}

impl<'a> Loader<'a> {
    /// The schema at a place, to be read in its turn: nothing here recurses.
    fn schema(&mut self, value: &'a Value, pointer: String, resource: &Arc<str>) -> SchemaId {
        match value {
            Value::Bool(true) => return TRUE,
            Value::Bool(false) => return FALSE,
            Value::Object(members) if members.is_empty() => return TRUE,
            _ => {}
        }
        if let Some(&id) = self.by_pointer.get(&pointer) {
            return id;
        }
        let id = self.reserve(&pointer);
        self.queue.push(Place { id, value, pointer, resource: resource.clone(), depth: self.depth + 1 });
        id
    }

    fn reserve(&mut self, pointer: &str) -> SchemaId {
        let id = u32::try_from(self.all.len()).expect("fewer schemas than bytes of input");
        self.all.push(None);
        self.by_pointer.insert(pointer.to_owned(), id);
        id
    }

    fn fill(&mut self, id: SchemaId, value: &'a Value, pointer: String, resource: &Arc<str>) -> Result<()> {
        if self.depth > NEST_LIMIT {
            return Err(Error::grammar(pointer, format!("schemas nest deeper than {NEST_LIMIT}"), "use `$ref`"));
        }
        let schema = match value {
            Value::Bool(true) => Schema { pointer, ..Schema::default() },
            Value::Bool(false) => Schema { pointer, keywords: vec![Keyword::AnyOf(Vec::new())], ..Schema::default() },
            Value::Object(members) => self.object(members, pointer, resource)?,
            _ => return Err(Error::grammar(pointer, "a schema must be an object or a boolean", "correct the schema")),
        };
        self.all[id as usize] = Some(schema);
        Ok(())
    }

    fn child(&mut self, value: &'a Value, pointer: &str, steps: &[&str], resource: &Arc<str>) -> SchemaId {
        let mut place = String::with_capacity(pointer.len() + 24);
        place.push_str(pointer);
        for step in steps {
            place.push('/');
            if step.contains(['~', '/']) {
                place.push_str(&pointer_step(step));
            } else {
                place.push_str(step);
            }
        }
        self.schema(value, place, resource)
    }

    fn list(&mut self, value: &'a Value, pointer: &str, keyword: &str, resource: &Arc<str>) -> Result<Vec<SchemaId>> {
        let Value::Array(items) = value else { return Err(malformed(pointer, keyword, "an array of schemas")) };
        let child = |(at, item): (usize, &'a Value)| self.child(item, pointer, &[keyword, &at.to_string()], resource);
        Ok(items.iter().enumerate().map(child).collect())
    }

    fn map(
        &mut self,
        value: &'a Value,
        pointer: &str,
        keyword: &str,
        resource: &Arc<str>,
    ) -> Result<Vec<(Arc<str>, SchemaId)>> {
        let Value::Object(members) = value else { return Err(malformed(pointer, keyword, "an object of schemas")) };
        let child = |(key, value): (&'a String, &'a Value)| {
            (Arc::from(key.as_str()), self.child(value, pointer, &[keyword, key], resource))
        };
        Ok(members.iter().map(child).collect())
    }

    fn object(&mut self, members: &'a Map<String, Value>, pointer: String, resource: &Arc<str>) -> Result<Schema> {
        let draft = self.draft;
        // An embedded resource gives its own root to the references inside it.
        let id_key = if draft == Draft::Draft4 { "id" } else { "$id" };
        let own_resource = match members.get(id_key) {
            Some(Value::String(id)) if !id.starts_with('#') && !pointer.is_empty() => Some(Arc::from(pointer.as_str())),
            _ => None,
        };
        let resource = own_resource.as_ref().unwrap_or(resource);
        let mut out = Vec::with_capacity(4);
        if let Some(reference) = members.get("$ref")
            && draft < Draft::Draft2019
            && reference.is_string()
        {
            out.push(Keyword::Ref(self.reference(reference, &pointer, "$ref", resource)?));
            let ignored = members.keys().filter(|key| *key != "$ref").map(|key| key.as_str().into()).collect();
            return Ok(Schema { pointer, keywords: out, present: vec!["$ref"], ignored, ..Schema::default() });
        }
        let mut range = Range::default();
        let (mut min_length, mut max_length) = (0, None);
        let (mut min_items, mut max_items) = (0, None);
        let (mut min_members, mut max_members) = (0, None);
        let mut rules = ObjectRules { properties: Vec::new(), patterns: Vec::new(), additional: TRUE };
        let (mut prefix, mut items, mut additional_items, mut items_is_array) = (Vec::new(), None, None, false);
        let mut dependent_schemas = Vec::new();
        let mut dependent_required = Vec::new();
        let mut condition = None;
        let (mut present, mut ignored) = (Vec::new(), Vec::new());
        for (key, value) in members {
            let at = |keyword: &str, wanted: &str| malformed(&pointer, keyword, wanted);
            match key.as_str() {
                "type" => out.insert(0, Keyword::Type(type_bits(value, &pointer)?)),
                "enum" => {
                    let Value::Array(values) = value else { return Err(at("enum", "an array")) };
                    out.push(Keyword::Enum(values.as_slice().into()));
                }
                "const" if draft >= Draft::Draft6 => out.push(Keyword::Enum(Arc::from([value.clone()]))),
                "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => {
                    bound(&mut range, key, value, members, draft).ok_or_else(|| at(key, "a number"))?;
                }
                "multipleOf" => {
                    let step = decimal(value).filter(|step| !step.is_zero() && !step.is_negative());
                    range.multiples.push((step.ok_or_else(|| at(key, "a number above zero"))?, true));
                }
                "minLength" => min_length = count(value, true).ok_or_else(|| at(key, "a whole number"))?,
                "maxLength" => max_length = Some(count(value, false).ok_or_else(|| at(key, "a whole number"))?),
                "minItems" => min_items = count(value, true).ok_or_else(|| at(key, "a whole number"))?,
                "maxItems" => max_items = Some(count(value, false).ok_or_else(|| at(key, "a whole number"))?),
                "minProperties" => min_members = count(value, true).ok_or_else(|| at(key, "a whole number"))?,
                "maxProperties" => max_members = Some(count(value, false).ok_or_else(|| at(key, "a whole number"))?),
                "pattern" => {
                    let Value::String(source) = value else { return Err(at(key, "a string")) };
                    out.push(Keyword::Pattern(self.pattern(source, &pointer, "pattern")?));
                }
                "format" => match value.as_str().and_then(Format::from_name) {
                    Some(format) => out.push(Keyword::Format(format)),
                    None => {
                        ignored.push(key.as_str().into());
                        continue;
                    }
                },
                "properties" => rules.properties = self.map(value, &pointer, key, resource)?,
                "patternProperties" => {
                    let Value::Object(patterns) = value else { return Err(at(key, "an object of schemas")) };
                    for (source, value) in patterns {
                        let pattern = self.pattern(source, &format!("{pointer}/{key}"), &pointer_step(source))?;
                        rules.patterns.push((pattern, self.child(value, &pointer, &[key, source], resource)));
                    }
                }
                "additionalProperties" => rules.additional = self.child(value, &pointer, &[key], resource),
                "required" => match value {
                    Value::Array(names) => {
                        let names = names.iter().map(|name| name.as_str().map(Arc::from)).collect::<Option<Vec<_>>>();
                        let names = names.ok_or_else(|| at(key, "an array of strings"))?;
                        if !names.is_empty() {
                            out.push(Keyword::Required(names));
                        }
                    }
                    _ => return Err(at(key, "an array of strings")),
                },
                "propertyNames" if draft >= Draft::Draft6 => {
                    out.push(Keyword::PropertyNames(self.child(value, &pointer, &[key], resource)));
                }
                "dependencies" => {
                    let Value::Object(entries) = value else { return Err(at(key, "an object")) };
                    for (name, value) in entries {
                        match value {
                            Value::Array(names) => {
                                let names =
                                    names.iter().map(|name| name.as_str().map(Arc::from)).collect::<Option<Vec<_>>>();
                                let names =
                                    names.ok_or_else(|| at(key, "an object of schemas or arrays of strings"))?;
                                dependent_required.push((Arc::from(name.as_str()), names));
                            }
                            Value::String(other) => {
                                dependent_required.push((Arc::from(name.as_str()), vec![Arc::from(other.as_str())]));
                            }
                            _ => dependent_schemas
                                .push((Arc::from(name.as_str()), self.child(value, &pointer, &[key, name], resource))),
                        }
                    }
                }
                "dependentRequired" if draft >= Draft::Draft2019 => {
                    let Value::Object(entries) = value else { return Err(at(key, "an object")) };
                    for (name, value) in entries {
                        let names = value
                            .as_array()
                            .and_then(|names| names.iter().map(|name| name.as_str().map(Arc::from)).collect());
                        let names: Vec<Arc<str>> = names.ok_or_else(|| at(key, "an object of arrays of strings"))?;
                        dependent_required.push((Arc::from(name.as_str()), names));
                    }
                }
                "dependentSchemas" if draft >= Draft::Draft2019 => {
                    dependent_schemas.extend(self.map(value, &pointer, key, resource)?);
                }
                "prefixItems" if draft >= Draft::Draft2020 => prefix = self.list(value, &pointer, key, resource)?,
                "items" => match value {
                    Value::Array(_) => {
                        items_is_array = true;
                        prefix = self.list(value, &pointer, key, resource)?;
                    }
                    _ => items = Some(self.child(value, &pointer, &[key], resource)),
                },
                "additionalItems" if draft < Draft::Draft2020 => {
                    additional_items = Some(self.child(value, &pointer, &[key], resource));
                }
                "uniqueItems" => {
                    if *value == Value::Bool(true) {
                        out.push(Keyword::Unique);
                    }
                }
                "contains" if draft >= Draft::Draft6 => {
                    let node = self.child(value, &pointer, &[key], resource);
                    let (mut min, mut max) = (1, None);
                    if draft >= Draft::Draft2019 {
                        if let Some(value) = members.get("minContains") {
                            min = count(value, true).ok_or_else(|| at("minContains", "a whole number"))?;
                        }
                        if let Some(value) = members.get("maxContains") {
                            max = Some(count(value, false).ok_or_else(|| at("maxContains", "a whole number"))?);
                        }
                    }
                    out.push(Keyword::Contains(node, min, max));
                }
                "allOf" => out.push(Keyword::AllOf(self.list(value, &pointer, key, resource)?)),
                "anyOf" => out.push(Keyword::AnyOf(self.list(value, &pointer, key, resource)?)),
                "oneOf" => out.push(Keyword::OneOf(self.list(value, &pointer, key, resource)?)),
                "not" => out.push(Keyword::Not(self.child(value, &pointer, &[key], resource))),
                "if" if draft >= Draft::Draft7 => {
                    if members.contains_key("then") || members.contains_key("else") {
                        condition = Some(self.child(value, &pointer, &[key], resource));
                    }
                }
                "$ref" if value.is_string() => {
                    out.push(Keyword::Ref(self.reference(value, &pointer, key, resource)?));
                }
                "$dynamicRef" | "$recursiveRef" if draft >= Draft::Draft2019 => {
                    let fixed = self.reference(value, &pointer, key, resource)?;
                    let outermost = self.outermost(value, key, &self.place_of(fixed));
                    let target = match outermost
                        .map_err(|what| Error::grammar(format!("{pointer}/{key}"), what, "use `$ref`"))?
                    {
                        Some(place) => self.reference(&Value::String(format!("#{place}")), &pointer, key, "")?,
                        None => fixed,
                    };
                    out.push(Keyword::Ref(target));
                }
                "unevaluatedProperties" if draft >= Draft::Draft2019 => {
                    let inner = self.child(value, &pointer, &[key], resource);
                    out.push(Keyword::UnevaluatedProperties(inner));
                }
                "unevaluatedItems" if draft >= Draft::Draft2019 => {
                    let inner = self.child(value, &pointer, &[key], resource);
                    out.push(Keyword::UnevaluatedItems(inner));
                }
                _ => {
                    if !matches!(key.as_str(), "then" | "else" | "minContains" | "maxContains") {
                        ignored.push(key.as_str().into());
                        continue;
                    }
                }
            }
            present.extend(static_name(key));
        }
        if range != Range::default() {
            out.push(Keyword::Number(Box::new(range)));
        }
        if (min_length, max_length) != (0, None) {
            out.push(Keyword::Length(min_length, max_length));
        }
        if (min_items, max_items) != (0, None) {
            out.push(Keyword::ItemCount(min_items, max_items));
        }
        if (min_members, max_members) != (0, None) {
            out.push(Keyword::Members(min_members, max_members));
        }
        if items_is_array {
            items = additional_items;
        }
        if !prefix.is_empty() || items.is_some_and(|items| items != TRUE) {
            out.push(Keyword::Items(prefix, items.unwrap_or(TRUE)));
        }
        if !rules.properties.is_empty() || !rules.patterns.is_empty() || rules.additional != TRUE {
            // Members first, so that what follows finds them in the schema's order.
            let place = out.iter().take_while(|keyword| matches!(keyword, Keyword::Type(_))).count();
            out.insert(place, Keyword::Object(Box::new(rules)));
        }
        if !dependent_required.is_empty() {
            out.push(Keyword::DependentRequired(dependent_required));
        }
        if !dependent_schemas.is_empty() {
            out.push(Keyword::DependentSchemas(dependent_schemas));
        }
        if let Some(condition) = condition {
            let mut branch = |keyword: &str| match members.get(keyword) {
                Some(value) => self.child(value, &pointer, &[keyword], resource),
                None => TRUE,
            };
            let (then, other) = (branch("then"), branch("else"));
            out.push(Keyword::If(condition, then, other));
        }
        Ok(Schema {
            pointer,
            keywords: out,
            strict_integer: draft == Draft::Draft4,
            evaluates_additional: members.contains_key("additionalProperties"),
            evaluates_items: items.is_some(),
            present,
            ignored,
        })
    }

    fn pattern(&mut self, source: &str, pointer: &str, step: &str) -> Result<PatternId> {
        if let Some(&id) = self.pattern_index.get(source) {
            return Ok(id);
        }
        let refuse =
            |what: String| Error::grammar(format!("{pointer}/{step}"), what, "rewrite the pattern, or remove it");
        if source.len() > PATTERN_LIMIT {
            return Err(refuse(format!("the pattern is longer than {PATTERN_LIMIT} bytes")));
        }
        let pattern = Pattern::parse(source, RegexDialect::Ecma)
            .map_err(|error| refuse(format!("`pattern` at byte {}: {}", error.offset, error.what)))?;
        let id = u32::try_from(self.patterns.len()).expect("fewer patterns than bytes of input");
        self.patterns.push((Arc::from(source), pattern));
        self.pattern_index.insert(source.to_owned(), id);
        Ok(id)
    }
}

fn type_bits(value: &Value, pointer: &str) -> Result<u8> {
    let one = |value: &Value| {
        Some(match value.as_str()? {
            "null" => types::NULL,
            "boolean" => types::BOOLEAN,
            "integer" => types::INTEGER,
            "number" => types::NUMBER | types::INTEGER,
            "string" => types::STRING,
            "array" => types::ARRAY,
            "object" => types::OBJECT,
            _ => return None,
        })
    };
    let bits = match value {
        Value::Array(names) => names.iter().map(one).try_fold(0, |bits, bit| Some(bits | bit?)),
        value => one(value),
    };
    bits.ok_or_else(|| malformed(pointer, "type", "a type or an array of types"))
}

/// The value nests deeper than `limit`.
fn is_deeper(value: &Value, limit: u32) -> bool {
    match value {
        Value::Object(members) => limit == 0 || members.values().any(|value| is_deeper(value, limit - 1)),
        Value::Array(items) => limit == 0 || items.iter().any(|item| is_deeper(item, limit - 1)),
        _ => false,
    }
}

fn decimal(value: &Value) -> Option<Decimal> {
    match value {
        Value::Number(number) => Some(Decimal::from_number(number)),
        _ => None,
    }
}

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

fn bound(range: &mut Range, key: &str, value: &Value, members: &Map<String, Value>, draft: Draft) -> Option<()> {
    let lower = key.ends_with("inimum");
    let exclusive_key = if lower { "exclusiveMinimum" } else { "exclusiveMaximum" };
    if key == exclusive_key && value.is_boolean() {
        // The draft-04 spelling belongs to its neighbour.
        return Some(());
    }
    if key == exclusive_key && draft == Draft::Draft4 {
        return Some(());
    }
    let exclusive = key == exclusive_key || members.get(exclusive_key) == Some(&Value::Bool(true));
    let new = Bound { value: decimal(value)?, exclusive };
    let side = if lower { &mut range.low } else { &mut range.high };
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
