//! References: what a `$ref` names, by pointer, anchor or identifier; which of them lead nowhere or in a circle.

use std::sync::Arc;
use std::sync::OnceLock;

use rustc_hash::FxHashMap;
use serde_json::Value;

use super::places::Place;
use super::{
    Draft, IN_PLACE_LIMIT, Loader, META, METASCHEMAS, SchemaId, Schemas, malformed, places, pointer_step, uri,
};
use crate::error::{Remedy, setting};
use crate::grammar::keyword::Keyword;
use crate::grammar::keyword::logic::{AllOf, AnyOf, If, Not, OneOf, Ref};
use crate::{Error, Result};

impl<'a> Loader<'a> {
    pub(super) fn reference(
        &mut self,
        value: &Value,
        pointer: &str,
        keyword: &str,
        resource: &str,
    ) -> Result<SchemaId> {
        let Value::String(reference) = value else { return Err(malformed(pointer, keyword, "a string")) };
        let target = self.resolve(reference, resource).ok_or_else(|| {
            let remote = !reference.starts_with('#');
            Error::grammar(
                format!("{pointer}/{keyword}"),
                format!(
                    "`{keyword}` leads to `{reference}`, which is {}",
                    if remote { "not in this schema" } else { "not there" }
                ),
                if remote {
                    Remedy::from(
                        "put the schema it names under `$defs`, with its `$id`, or name the folder that has it: ",
                    )
                    .name(setting::RETRIEVE)
                } else {
                    "correct the reference".into()
                },
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
    pub(super) fn place_of(&self, id: SchemaId) -> String {
        self.by_pointer.iter().find(|(_, other)| **other == id).map(|(place, _)| place.clone()).unwrap_or_default()
    }

    /// Where a dynamic reference leads whose fixed target is a dynamic anchor: to the anchor of that name in the
    /// outermost resource on the way to it. That is the root's, since every way begins there. `None`: to the fixed
    /// target.
    pub(super) fn outermost(
        &mut self,
        reference: &Value,
        keyword: &str,
        target: &str,
    ) -> Result<Option<String>, String> {
        let (anchor, wanted) = if keyword == "$dynamicRef" {
            let name = reference.as_str().and_then(|text| text.split_once('#')).map_or("", |(_, name)| name);
            ("$dynamicAnchor", Value::String(name.to_owned()))
        } else {
            ("$recursiveAnchor", Value::Bool(true))
        };
        if self.lookup(target).and_then(|schema| schema.get(anchor)) != Some(&wanted) {
            return Ok(None);
        }
        let holds = |place: &Place| place.schema.get(anchor) == Some(&wanted);
        let places: Vec<String> =
            places::schemas(self.document).into_iter().filter(holds).map(|place| place.pointer).collect();
        if let Some(root) = places.iter().find(|place| self.resource_of(place).is_empty()) {
            return Ok(Some(root.clone()));
        }
        if places.len() > 1 {
            return Err(format!("`{keyword}` leads to one of {} places, by the way that leads to it", places.len()));
        }
        Ok(None)
    }

    /// The pointer that a reference leads to.
    pub(super) fn resolve(&mut self, reference: &str, resource: &str) -> Option<String> {
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
                    if let Some(target) = self.names().anchors.get(&name) {
                        return Some(target.clone());
                    }
                }
            }
            return None;
        }
        let known = self.names().named(resource, base);
        let root = known.map(str::to_owned).or_else(|| {
            let name = base.split_once("://")?.1.trim_end_matches('/');
            METASCHEMAS.iter().find(|(uri, _)| *uri == name).map(|_| format!("{META}{name}"))
        })?;
        if fragment.is_empty() || fragment.starts_with('/') {
            let target = format!("{root}{fragment}");
            return self.lookup(&target).map(|_| normal_pointer(&target));
        }
        let name = format!("{root}#{fragment}");
        self.names().anchors.get(&name).cloned()
    }

    /// What stands at a place, in the schema itself or in a metaschema.
    pub(super) fn lookup(&self, pointer: &str) -> Option<&'a Value> {
        static PARSED: [OnceLock<Value>; METASCHEMAS.len()] = [const { OnceLock::new() }; METASCHEMAS.len()];
        let Some(rest) = pointer.strip_prefix(META) else { return self.document.pointer(pointer) };
        let at = METASCHEMAS.iter().position(|(uri, _)| rest.starts_with(uri))?;
        let (uri, source) = METASCHEMAS[at];
        let document = PARSED[at].get_or_init(|| serde_json::from_str(source).unwrap_or_default());
        document.pointer(&rest[uri.len()..])
    }

    pub(super) fn resource_of(&mut self, pointer: &str) -> String {
        if let Some(rest) = pointer.strip_prefix(META) {
            return METASCHEMAS
                .iter()
                .find(|(uri, _)| rest.starts_with(uri))
                .map_or_else(String::new, |(uri, _)| format!("{META}{uri}"));
        }
        self.names().resource_of(pointer).to_owned()
    }

    /// The names of all schemas.
    pub(super) fn names(&mut self) -> &Names {
        let (document, draft) = (self.document, self.draft);
        self.names.get_or_insert_with(|| Names::of(document, draft))
    }
}

/// What the schemas of a document are called, each by its place.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Absolute addresses of resources.
    resources: FxHashMap<String, String>,
    /// `place of the resource#anchor`.
    anchors: FxHashMap<String, String>,
    /// The base that references in a resource are resolved against, by its place; the root's may be empty.
    bases: FxHashMap<String, String>,
}

impl Names {
    /// The place of the resource that `pointer` belongs to.
    fn resource_of<'p>(&self, pointer: &'p str) -> &'p str {
        if self.bases.len() == 1 {
            return "";
        }
        let mut ends = pointer.match_indices('/').map(|(at, _)| at).chain([pointer.len()]).rev();
        let nearest = ends.find_map(|end| self.bases.contains_key(&pointer[..end]).then_some(&pointer[..end]));
        nearest.unwrap_or_default()
    }

    /// `reference`, which has no fragment, as an address, where it stands in a resource.
    fn address(&self, resource: &str, reference: &str) -> String {
        uri::join(self.bases.get(resource).map_or("", String::as_str), reference)
    }

    /// The place of the resource that such a reference names.
    fn named(&self, resource: &str, reference: &str) -> Option<&str> {
        let known = self.resources.get(&self.address(resource, reference)).or_else(|| {
            // Where the document has no address, a name can only be meant as it is written or by its end.
            let is_meant = self.bases.get(resource).is_none_or(String::is_empty) && !reference.contains(':');
            let end = reference.rsplit('/').next().unwrap_or(reference);
            let mut alike = self.resources.iter().filter(|(name, _)| name.rsplit('/').next() == Some(end));
            match (alike.next(), alike.next()) {
                (Some((_, only)), None) if is_meant => Some(only),
                _ => None,
            }
        });
        known.map(String::as_str)
    }

    fn of(document: &Value, draft: Draft) -> Self {
        let mut names = Self::default();
        let mut named = 0;
        places::visit(document, &mut |schema| {
            let keys = ["$id", "id", "$anchor", "$dynamicAnchor"];
            named += usize::from(keys.iter().any(|key| schema.get(key).is_some_and(Value::is_string)));
        });
        // Most documents name nothing, or themselves alone.
        let places = if named == 0 { Vec::new() } else { places::schemas(document) };
        // The resource that each place belongs to.
        let mut resources: Vec<&str> = Vec::with_capacity(places.len());
        names.bases.insert(String::new(), String::new());
        for place in &places {
            let mut resource = resources.get(place.parent).copied().unwrap_or("");
            let text = |key: &str| place.schema.get(key).and_then(Value::as_str);
            // Up to draft-07 what stands beside a reference says nothing.
            let is_reference = draft < Draft::Draft2019 && text("$ref").is_some();
            let id = text(if draft == Draft::Draft4 { "id" } else { "$id" }).filter(|_| !is_reference);
            match id.map(|id| (id, id.strip_prefix('#'))) {
                Some((_, Some(anchor))) => {
                    names.anchors.entry(format!("{resource}#{anchor}")).or_insert_with(|| place.pointer.clone());
                }
                Some((id, None)) => {
                    let (id, anchor) = id.split_once('#').unwrap_or((id, ""));
                    let base = uri::join(&names.bases[resource], id);
                    resource = &place.pointer;
                    names.resources.entry(base.clone()).or_insert_with(|| place.pointer.clone());
                    names.bases.insert(place.pointer.clone(), base);
                    if !anchor.is_empty() {
                        names.anchors.entry(format!("{resource}#{anchor}")).or_insert_with(|| place.pointer.clone());
                    }
                }
                None => {}
            }
            for anchor in ["$anchor", "$dynamicAnchor"].into_iter().filter_map(text) {
                names.anchors.entry(format!("{resource}#{anchor}")).or_insert_with(|| place.pointer.clone());
            }
            resources.push(resource);
        }
        names
    }
}

/// Addresses that the references of a schema lead to and that are not in it, each once, as RFC 3986 resolves them against
/// their base.
pub fn remote_references(schema: &Value) -> Vec<String> {
    let names = Names::of(schema, Draft::of(schema));
    let mut remote: Vec<String> = Vec::new();
    for place in places::schemas(schema) {
        for keyword in ["$ref", "$dynamicRef"] {
            let Some(reference) = place.schema.get(keyword).and_then(Value::as_str) else { continue };
            let (base, _) = reference.split_once('#').unwrap_or((reference, ""));
            let resource = names.resource_of(&place.pointer);
            let address = names.address(resource, base);
            let path = address.split_once("://").map_or(&*address, |(_, path)| path);
            let is_here = base.is_empty()
                || names.named(resource, base).is_some()
                || METASCHEMAS.iter().any(|(uri, _)| *uri == path.trim_end_matches('/'));
            if !is_here && !remote.contains(&address) {
                remote.push(address);
            }
        }
    }
    remote
}

/// A fragment as it is meant.
pub(super) fn percent_decode(text: &str) -> String {
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

impl Schemas {
    /// A chain of `$ref`, `allOf` and the like that comes back to itself without entering a value
    /// has no meaning.
    pub(super) fn refuse_reference_loops(&self) -> Result<()> {
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
    pub(super) fn in_place(&self, id: usize) -> Vec<SchemaId> {
        let mut found = Vec::new();
        for keyword in &self.all[id].keywords {
            match keyword {
                Keyword::AllOf(AllOf(list)) | Keyword::AnyOf(AnyOf(list)) | Keyword::OneOf(OneOf(list)) => {
                    found.extend(list);
                }
                Keyword::Not(Not(inner)) | Keyword::Ref(Ref(inner)) => found.push(*inner),
                Keyword::If(If { condition, then, other }) => found.extend([condition, then, other]),
                Keyword::DependentSchemas(entries) => found.extend(entries.0.iter().map(|(_, inner)| inner)),
                _ => {}
            }
        }
        found
    }
}
