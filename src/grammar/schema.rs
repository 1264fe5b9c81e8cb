//! Reads a JSON Schema into an arena of keywords: dialects settled, `$ref`s resolved, patterns parsed.
//!
//! One pass over what is reachable from the root. Anything that cannot be enforced is refused here, with the
//! pointer and the keyword. The meaning of keywords is for `expand` and `evaluate`.

use std::sync::{Arc, OnceLock};

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

    fn reference(&mut self, value: &Value, pointer: &str, keyword: &str, resource: &str) -> Result<SchemaId> {
        let Value::String(reference) = value else { return Err(malformed(pointer, keyword, "a string")) };
        let target = self.resolve(reference, resource).ok_or_else(|| {
            let remote = !reference.starts_with('#');
            Error::grammar(
                format!("{pointer}/{keyword}"),
                format!(
                    "`{keyword}` leads to `{reference}`, which is {}",
                    if remote { "not in this schema" } else { "not there" }
                ),
                if remote { "put the schema it names under `$defs`, with its `$id`" } else { "correct the reference" },
            )
        })?;
        if let Some(&id) = self.by_pointer.get(&target) {
            return Ok(id);
        }
        let value = self.lookup(&target).unwrap_or(&Value::Null);
        let resource = Arc::from(self.resource_of(&target));
        // A target may stand anywhere, so its nesting counts from here.
        let depth = std::mem::replace(&mut self.depth, 0);
        let id = self.schema(value, target, &resource);
        self.depth = depth;
        Ok(id)
    }

    /// Pointer of a schema that has been met.
    fn place_of(&self, id: SchemaId) -> String {
        self.by_pointer.iter().find(|(_, other)| **other == id).map(|(place, _)| place.clone()).unwrap_or_default()
    }

    /// Where a dynamic reference leads whose fixed target is a dynamic anchor: to the anchor of that name in the
    /// outermost resource on the way to it. That is the root's, since every way begins there. `None`: to the fixed
    /// target.
    fn outermost(&self, reference: &Value, keyword: &str, target: &str) -> Result<Option<String>, String> {
        let (anchor, wanted) = if keyword == "$dynamicRef" {
            let name = reference.as_str().and_then(|text| text.split_once('#')).map_or("", |(_, name)| name);
            ("$dynamicAnchor", Value::String(name.to_owned()))
        } else {
            ("$recursiveAnchor", Value::Bool(true))
        };
        if self.lookup(target).and_then(|schema| schema.get(anchor)) != Some(&wanted) {
            return Ok(None);
        }
        let mut places = Vec::new();
        collect_anchors(self.document, anchor, &wanted, String::new(), 0, &mut places);
        if let Some(root) = places.iter().find(|place| self.resource_of(place).is_empty()) {
            return Ok(Some(root.clone()));
        }
        if places.len() > 1 {
            return Err(format!("`{keyword}` leads to one of {} places, by the way that leads to it", places.len()));
        }
        Ok(None)
    }

    /// The pointer that a reference leads to.
    fn resolve(&mut self, reference: &str, resource: &str) -> Option<String> {
        let (base, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let fragment = percent_decode(fragment);
        if base.is_empty() {
            // Inside the resource at hand; generated schemas often mean the document all the same.
            for root in [resource, ""] {
                if fragment.is_empty() || fragment.starts_with('/') {
                    let target = format!("{root}{fragment}");
                    if self.lookup(&target).is_some() {
                        return Some(normal_pointer(&target));
                    }
                } else {
                    let name = format!("{root}#{fragment}");
                    if let Some(target) = self.names().get(&name) {
                        return Some(target.clone());
                    }
                }
            }
            return None;
        }
        let base = base.to_owned();
        let names = self.names();
        let known = names.get(&base).or_else(|| names.get(base.rsplit('/').next().unwrap_or(&base))).cloned();
        let root = known.or_else(|| {
            let name = base.split_once("://")?.1.trim_end_matches('/');
            METASCHEMAS.iter().find(|(uri, _)| *uri == name).map(|_| format!("{META}{name}"))
        })?;
        if fragment.is_empty() || fragment.starts_with('/') {
            let target = format!("{root}{fragment}");
            return self.lookup(&target).map(|_| normal_pointer(&target));
        }
        let name = format!("{root}#{fragment}");
        self.names().get(&name).cloned()
    }

    /// What stands at a place, in the schema itself or in a metaschema.
    fn lookup(&self, pointer: &str) -> Option<&'a Value> {
        static PARSED: [OnceLock<Value>; METASCHEMAS.len()] = [const { OnceLock::new() }; METASCHEMAS.len()];
        let Some(rest) = pointer.strip_prefix(META) else { return self.document.pointer(pointer) };
        let at = METASCHEMAS.iter().position(|(uri, _)| rest.starts_with(uri))?;
        let (uri, source) = METASCHEMAS[at];
        let document = PARSED[at].get_or_init(|| serde_json::from_str(source).unwrap_or_default());
        document.pointer(&rest[uri.len()..])
    }

    fn resource_of(&self, pointer: &str) -> String {
        if let Some(rest) = pointer.strip_prefix(META) {
            return METASCHEMAS
                .iter()
                .find(|(uri, _)| rest.starts_with(uri))
                .map_or_else(String::new, |(uri, _)| format!("{META}{uri}"));
        }
        let id_key = if self.draft == Draft::Draft4 { "id" } else { "$id" };
        let mut best = "";
        for (at, _) in pointer.match_indices('/').chain([(pointer.len(), "")]) {
            let prefix = &pointer[..at];
            let is_resource = self.document.pointer(prefix).and_then(|value| value.get(id_key)).and_then(Value::as_str);
            if !prefix.is_empty() && is_resource.is_some_and(|id| !id.starts_with('#')) {
                best = prefix;
            }
        }
        best.to_owned()
    }

    /// Every `$id` (as written, resolved against its parents, and by its last path segment) and
    /// every anchor (`resource pointer#name`).
    fn names(&mut self) -> &FxHashMap<String, String> {
        let (document, draft) = (self.document, self.draft);
        self.names.get_or_insert_with(|| {
            let mut names = FxHashMap::default();
            collect_names(document, draft, String::new(), "", "", 0, &mut names);
            names
        })
    }
}

/// Places of all schemas with such an anchor.
fn collect_anchors(value: &Value, anchor: &str, wanted: &Value, place: String, depth: u32, places: &mut Vec<String>) {
    match value {
        _ if depth > JSON_NEST_LIMIT => {}
        Value::Object(members) => {
            for (key, value) in members {
                if !matches!(key.as_str(), "enum" | "const" | "default" | "examples") {
                    let inner = format!("{place}/{}", pointer_step(key));
                    collect_anchors(value, anchor, wanted, inner, depth + 1, places);
                }
            }
            if members.get(anchor) == Some(wanted) {
                places.push(place);
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                collect_anchors(item, anchor, wanted, format!("{place}/{at}"), depth + 1, places);
            }
        }
        _ => {}
    }
}

fn collect_names(
    value: &Value,
    draft: Draft,
    pointer: String,
    resource: &str,
    base: &str,
    depth: u32,
    names: &mut FxHashMap<String, String>,
) {
    if depth > NEST_LIMIT {
        return;
    }
    match value {
        Value::Object(members) => {
            let (mut resource, mut base) = (resource.to_owned(), base.to_owned());
            for key in ["$id", "id"] {
                if let Some(Value::String(id)) = members.get(key) {
                    if let Some(anchor) = id.strip_prefix('#') {
                        names.entry(format!("{resource}#{anchor}")).or_insert_with(|| pointer.clone());
                    } else if key == "$id" || draft == Draft::Draft4 {
                        let id = id.trim_end_matches('#');
                        base = join_uri(&base, id);
                        if !pointer.is_empty() {
                            resource.clone_from(&pointer);
                        }
                        for name in [id, base.as_str(), base.rsplit('/').next().unwrap_or_default()] {
                            if !name.is_empty() {
                                names.entry(name.to_owned()).or_insert_with(|| pointer.clone());
                            }
                        }
                    }
                }
            }
            for key in ["$anchor", "$dynamicAnchor"] {
                if let Some(Value::String(anchor)) = members.get(key) {
                    names.entry(format!("{resource}#{anchor}")).or_insert_with(|| pointer.clone());
                }
            }
            for (key, value) in members {
                if !matches!(key.as_str(), "enum" | "const" | "default" | "examples") {
                    let place = format!("{pointer}/{}", pointer_step(key));
                    collect_names(value, draft, place, &resource, &base, depth + 1, names);
                }
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                collect_names(item, draft, format!("{pointer}/{at}"), resource, base, depth + 1, names);
            }
        }
        _ => {}
    }
}

/// RFC 3986 resolution, as far as schema names need it.
fn join_uri(base: &str, reference: &str) -> String {
    if reference.contains("://") || base.is_empty() || reference.starts_with("urn:") {
        return reference.to_owned();
    }
    let authority =
        base.find("://").map_or(0, |at| base[at + 3..].find('/').map_or(base.len(), |slash| at + 3 + slash));
    if reference.starts_with('/') {
        return format!("{}{reference}", &base[..authority]);
    }
    let directory = base.rfind('/').filter(|&at| at >= authority).map_or(base.len(), |at| at);
    format!("{}/{reference}", &base[..directory])
}

fn percent_decode(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let code = tail
            .get(..2)
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match code {
            Some(code) if byte == b'%' => {
                bytes.push(code);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One spelling for one place: `~0` and `~1` only where needed.
fn normal_pointer(pointer: &str) -> String {
    if !pointer.contains('~') {
        return pointer.to_owned();
    }
    let steps = pointer.split('/').map(|step| pointer_step(&step.replace("~1", "/").replace("~0", "~")));
    steps.collect::<Vec<_>>().join("/")
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

impl Schemas {
    /// A chain of `$ref`, `allOf` and the like that comes back to itself without entering a value
    /// has no meaning.
    fn refuse_reference_loops(&self) -> Result<()> {
        // 0 unseen, 1 on the path, 2 done.
        let mut marks = vec![0u8; self.all.len()];
        for start in 0..self.all.len() {
            let mut path = vec![(start, self.in_place(start))];
            if marks[start] != 0 {
                continue;
            }
            marks[start] = 1;
            while let Some((at, next)) = path.last_mut() {
                let Some(child) = next.pop() else {
                    marks[*at] = 2;
                    path.pop();
                    continue;
                };
                match marks[child as usize] {
                    0 if path.len() > IN_PLACE_LIMIT => {
                        return Err(Error::grammar(
                            self.all[child as usize].pointer.clone(),
                            format!("more than {IN_PLACE_LIMIT} schemas apply to one value through each other"),
                            "flatten the chain of references",
                        ));
                    }
                    0 => {
                        marks[child as usize] = 1;
                        path.push((child as usize, self.in_place(child as usize)));
                    }
                    1 => {
                        return Err(Error::grammar(
                            self.all[child as usize].pointer.clone(),
                            "`$ref` leads back to itself before any value is entered",
                            "remove the loop",
                        ));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Schemas that apply to the same value as this one.
    fn in_place(&self, id: usize) -> Vec<SchemaId> {
        let mut found = Vec::new();
        for keyword in &self.all[id].keywords {
            match keyword {
                Keyword::AllOf(list) | Keyword::AnyOf(list) | Keyword::OneOf(list) => found.extend(list),
                Keyword::Not(inner) | Keyword::Ref(inner) => found.push(*inner),
                Keyword::If(condition, then, other) => found.extend([condition, then, other]),
                Keyword::DependentSchemas(list) => found.extend(list.iter().map(|(_, inner)| inner)),
                _ => {}
            }
        }
        found
    }
}
