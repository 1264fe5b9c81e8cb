//! References: what a `$ref` names, by pointer, anchor or identifier; which of them lead nowhere or in a circle.

use std::sync::Arc;
use std::sync::OnceLock;

use rustc_hash::FxHashMap;
use serde_json::Value;

use super::{
    Draft, IN_PLACE_LIMIT, JSON_NEST_LIMIT, Loader, META, METASCHEMAS, NEST_LIMIT, SchemaId, Schemas, malformed,
    pointer_step,
};
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
    pub(super) fn place_of(&self, id: SchemaId) -> String {
        self.by_pointer.iter().find(|(_, other)| **other == id).map(|(place, _)| place.clone()).unwrap_or_default()
    }

    /// Where a dynamic reference leads whose fixed target is a dynamic anchor: to the anchor of that name in the
    /// outermost resource on the way to it. That is the root's, since every way begins there. `None`: to the fixed
    /// target.
    pub(super) fn outermost(&self, reference: &Value, keyword: &str, target: &str) -> Result<Option<String>, String> {
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
    pub(super) fn lookup(&self, pointer: &str) -> Option<&'a Value> {
        static PARSED: [OnceLock<Value>; METASCHEMAS.len()] = [const { OnceLock::new() }; METASCHEMAS.len()];
        let Some(rest) = pointer.strip_prefix(META) else { return self.document.pointer(pointer) };
        let at = METASCHEMAS.iter().position(|(uri, _)| rest.starts_with(uri))?;
        let (uri, source) = METASCHEMAS[at];
        let document = PARSED[at].get_or_init(|| serde_json::from_str(source).unwrap_or_default());
        document.pointer(&rest[uri.len()..])
    }

    pub(super) fn resource_of(&self, pointer: &str) -> String {
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
    pub(super) fn names(&mut self) -> &FxHashMap<String, String> {
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
