//! Reads a JSON Schema into an arena of keywords: dialects settled, `$ref`s resolved, patterns parsed.
//!
//! One pass over what is reachable from the root. Anything that cannot be enforced is refused here, with the
//! pointer and the keyword. How each keyword is read, and what it means, is for `keyword`.

mod places;
mod resolve;
mod uri;

use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde_json::{Map, Value};

pub use self::resolve::remote_references;
use super::keyword::logic::AnyOf;
use super::keyword::{Keyword, Reading};
use super::pattern::{Dialect as RegexDialect, Pattern};
use crate::{Error, Result};

/// Index of a schema in the arena.
pub(crate) type SchemaId = u32;
/// The schema that everything satisfies.
pub(crate) const TRUE: SchemaId = 0;
/// The schema that nothing satisfies.
pub(crate) const FALSE: SchemaId = 1;
/// Index of a pattern.
pub(crate) type PatternId = u32;

/// One type of `type`, as a bit.
pub(crate) mod types {
    /// `null`
    pub(crate) const NULL: u8 = 1;
    /// `boolean`
    pub(crate) const BOOLEAN: u8 = 2;
    /// `integer`
    pub(crate) const INTEGER: u8 = 4;
    /// `number`
    pub(crate) const NUMBER: u8 = 8;
    /// `string`
    pub(crate) const STRING: u8 = 16;
    /// `array`
    pub(crate) const ARRAY: u8 = 32;
    /// `object`
    pub(crate) const OBJECT: u8 = 64;
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
pub(crate) struct Schema {
    /// Where it stands.
    pub pointer: String,
    /// What it asserts.
    pub keywords: Vec<Keyword>,
    /// `1.0` is not an integer (draft-04).
    pub strict_integer: bool,
    /// `additionalProperties` stands there, whatever it says.
    pub evaluates_additional: bool,
    /// Names of the keywords that assert something.
    pub present: Vec<Box<str>>,
    /// Names of those that do not (in this dialect).
    pub ignored: Vec<Box<str>>,
    /// `items` or `additionalItems` gives every further item a schema, whatever it says.
    pub evaluates_items: bool,
}

/// All schemas that are reachable from the root.
#[derive(Debug)]
pub(crate) struct Schemas {
    /// By id.
    pub all: Vec<Arc<Schema>>,
    /// By id: the regex and its parsed form.
    pub patterns: Vec<(Arc<str>, Pattern)>,
    /// Where to start.
    pub root: SchemaId,
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
    pub(crate) fn from_uri(uri: &str) -> Option<Self> {
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

    /// The draft of a schema: the one that it names, else the newest that explains its keywords, where they stand in
    /// schemas.
    pub fn of(root: &Value) -> Self {
        let named = root.get("$schema").and_then(Value::as_str).and_then(Self::from_uri);
        let spelt = |members: &Map<String, Value>| match members {
            _ if ["exclusiveMinimum", "exclusiveMaximum"]
                .iter()
                .any(|key| members.get(*key).is_some_and(Value::is_boolean)) =>
            {
                Self::Draft4
            }
            _ if members.get("items").is_some_and(Value::is_array) || members.contains_key("additionalItems") => {
                Self::Draft2019
            }
            _ => Self::Draft2020,
        };
        named.unwrap_or_else(|| {
            let mut draft = Self::Draft2020;
            places::visit(root, &mut |schema| draft = draft.min(schema.as_object().map_or(draft, spelt)));
            draft
        })
    }
}

/// Reads a schema.
///
/// # Errors
/// Malformed keywords, unresolvable references, patterns that are no regular language.
pub(crate) fn load(root: &Value) -> Result<Schemas> {
    if is_deeper(root, JSON_NEST_LIMIT) {
        return Err(Error::grammar("", format!("the schema nests deeper than {JSON_NEST_LIMIT}"), "use `$ref`"));
    }
    let draft = Draft::of(root);
    let mut loader = Loader {
        document: root,
        draft,
        all: vec![
            Some(Schema::default()),
            Some(Schema { keywords: vec![Keyword::AnyOf(AnyOf(Vec::new()))], ..Schema::default() }),
        ],
        by_pointer: FxHashMap::default(),
        patterns: Vec::new(),
        pattern_index: FxHashMap::default(),
        queue: Vec::new(),
        names: None,
        depth: 0,
        has_unevaluated: false,
    };
    places::visit(root, &mut |schema| {
        let keys = ["unevaluatedProperties", "unevaluatedItems"];
        loader.has_unevaluated |= keys.iter().any(|key| schema.get(key).is_some());
    });
    let id = loader.schema(root, String::new(), &Arc::from(""));
    while let Some(Pending { id, value, pointer, resource, depth }) = loader.queue.pop() {
        loader.depth = depth;
        loader.fill(id, value, pointer, &resource)?;
    }
    let mut all = Vec::with_capacity(loader.all.len());
    for schema in loader.all {
        all.push(Arc::new(schema.unwrap_or_default()));
    }
    let schemas = Schemas { all, patterns: loader.patterns, root: id };
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
    queue: Vec<Pending<'a>>,
    /// What schemas are called (`$id`, anchors); found when first needed.
    names: Option<resolve::Names>,
    /// Nesting of the schema being read.
    depth: u32,
    /// Some schema asks what others have looked at.
    has_unevaluated: bool,
}

/// A schema still to be read.
struct Pending<'a> {
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
pub(crate) fn pointer_step(key: &str) -> String {
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
        self.queue.push(Pending { id, value, pointer, resource: resource.clone(), depth: self.depth + 1 });
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
            Value::Bool(false) => {
                Schema { pointer, keywords: vec![Keyword::AnyOf(AnyOf(Vec::new()))], ..Schema::default() }
            }
            Value::Object(members) => self.object(members, pointer, resource)?,
            _ => return Err(Error::grammar(pointer, "a schema must be an object or a boolean", "correct the schema")),
        };
        self.all[id as usize] = Some(schema);
        Ok(())
    }

    fn object(&mut self, members: &'a Map<String, Value>, pointer: String, resource: &Arc<str>) -> Result<Schema> {
        let draft = self.draft;
        // An embedded resource gives its own root to the references inside it.
        let id_key = if draft == Draft::Draft4 { "id" } else { "$id" };
        // Up to draft-07 what stands beside a reference says nothing.
        let is_reference = draft < Draft::Draft2019 && members.get("$ref").is_some_and(Value::is_string);
        let own_resource = match members.get(id_key).filter(|_| !is_reference) {
            Some(Value::String(id)) if !id.starts_with('#') && !pointer.is_empty() => Some(Arc::from(pointer.as_str())),
            _ => None,
        };
        let resource = own_resource.as_ref().unwrap_or(resource);
        let strict_integer = draft == Draft::Draft4;
        let (mut present, mut ignored) = (Vec::new(), Vec::new());
        let mut reading = Reading::default();
        let mut scope = Scope { loader: self, members, pointer: &pointer, resource };
        if let Some(reference) = members.get("$ref").filter(|_| is_reference) {
            reading.read("$ref", reference, &mut scope)?;
            let keywords = reading.finish(&mut scope);
            let ignored = members.keys().filter(|key| *key != "$ref").map(|key| key.as_str().into()).collect();
            return Ok(Schema { pointer, keywords, present: vec!["$ref".into()], ignored, ..Schema::default() });
        }
        for (key, value) in members {
            let asserts = reading.read(key, value, &mut scope)?;
            if asserts { &mut present } else { &mut ignored }.push(key.as_str().into());
        }
        let evaluates_items = reading.evaluates_items();
        let keywords = reading.finish(&mut scope);
        let evaluates_additional = members.contains_key("additionalProperties");
        Ok(Schema { pointer, keywords, strict_integer, evaluates_additional, present, ignored, evaluates_items })
    }

    /// Parses a regex that has not been met yet.
    fn pattern(&mut self, source: &str, place: &str) -> Result<PatternId> {
        let refuse = |what: String| Error::grammar(place, what, "rewrite the pattern, or remove it");
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

/// One schema while it is read: its members, where it stands, and what its keywords ask of the whole.
pub(super) struct Scope<'l, 'a> {
    loader: &'l mut Loader<'a>,
    /// All members of the schema.
    pub members: &'a Map<String, Value>,
    pointer: &'l str,
    resource: &'l Arc<str>,
}

impl<'a> Scope<'_, 'a> {
    /// The dialect that the schema is read in.
    pub(super) fn draft(&self) -> Draft {
        self.loader.draft
    }

    /// Whether a schema of the document asks what its neighbours have looked at.
    pub(super) fn has_unevaluated(&self) -> bool {
        self.loader.has_unevaluated
    }

    /// The refusal of a keyword.
    pub(crate) fn malformed(&self, keyword: &str, wanted: &str) -> Error {
        malformed(self.pointer, keyword, wanted)
    }

    fn place(&self, steps: &[&str]) -> String {
        let mut place = String::with_capacity(self.pointer.len() + 24);
        place.push_str(self.pointer);
        for step in steps {
            place.push('/');
            if step.contains(['~', '/']) {
                place.push_str(&pointer_step(step));
            } else {
                place.push_str(step);
            }
        }
        place
    }

    /// The schema below, by the keys that lead to it.
    pub(super) fn child(&mut self, value: &'a Value, steps: &[&str]) -> SchemaId {
        let place = self.place(steps);
        self.loader.schema(value, place, self.resource)
    }

    /// The schemas of an array.
    pub(super) fn list(&mut self, keyword: &str, value: &'a Value) -> Result<Vec<SchemaId>> {
        let Value::Array(items) = value else { return Err(self.malformed(keyword, "an array of schemas")) };
        Ok(items.iter().enumerate().map(|(at, item)| self.child(item, &[keyword, &at.to_string()])).collect())
    }

    /// The schemas of an object.
    pub(super) fn map(&mut self, keyword: &str, value: &'a Value) -> Result<Vec<(Arc<str>, SchemaId)>> {
        let Value::Object(members) = value else { return Err(self.malformed(keyword, "an object of schemas")) };
        let child = |(key, value): (&'a String, &'a Value)| (Arc::from(&**key), self.child(value, &[keyword, key]));
        Ok(members.iter().map(child).collect())
    }

    /// A regex, parsed once however often it occurs.
    pub(super) fn pattern(&mut self, source: &str, steps: &[&str]) -> Result<PatternId> {
        if let Some(&id) = self.loader.pattern_index.get(source) {
            return Ok(id);
        }
        let place = self.place(steps);
        self.loader.pattern(source, &place)
    }

    /// The schema that a `$ref` names.
    pub(super) fn reference(&mut self, keyword: &str, value: &Value) -> Result<SchemaId> {
        self.loader.reference(value, self.pointer, keyword, self.resource)
    }

    /// The schema that a `$dynamicRef` or `$recursiveRef` names.
    pub(crate) fn dynamic_reference(&mut self, keyword: &str, value: &Value) -> Result<SchemaId> {
        let fixed = self.reference(keyword, value)?;
        let outermost = self.loader.outermost(value, keyword, &self.loader.place_of(fixed));
        match outermost.map_err(|what| Error::grammar(self.place(&[keyword]), what, "use `$ref`"))? {
            Some(place) => self.loader.reference(&Value::String(format!("#{place}")), self.pointer, keyword, ""),
            None => Ok(fixed),
        }
    }
}

/// The value nests deeper than `limit`.
fn is_deeper(value: &Value, limit: u32) -> bool {
    match value {
        Value::Object(members) => limit == 0 || members.values().any(|value| is_deeper(value, limit - 1)),
        Value::Array(items) => limit == 0 || items.iter().any(|item| is_deeper(item, limit - 1)),
        _ => false,
    }
}
