//! Keywords of objects: `properties` and its kin, `required`, counts, `propertyNames`, `dependent…`,
//! `unevaluatedProperties`.

use std::sync::Arc;

use serde_json::Value;

use super::value::Type;
use super::{Assertion, Count, Keyword, Site};
use crate::Result;
use crate::grammar::evaluate::Marks;
use crate::grammar::expand::{CASE_LIMIT, Expansion, KEY_LIMIT};
use crate::grammar::language::{ANY, ExprId};
use crate::grammar::node::{ANYTHING, Alternatives, Case, Exists, NOTHING, ObjectBody, Signed, Slot, min_bound};
use crate::grammar::schema::{Draft, FALSE, PatternId, SchemaId, Scope, TRUE, types};
use crate::grammar::shape::NodeId;

/// Keywords that give the members of an object their schemas.
#[derive(Clone, Debug)]
pub(crate) struct ObjectRules {
    /// `properties`, in order.
    pub properties: Vec<(Arc<str>, SchemaId)>,
    /// `patternProperties`.
    pub patterns: Vec<(PatternId, SchemaId)>,
    /// `additionalProperties`.
    pub additional: SchemaId,
}

/// `required`.
#[derive(Clone, Debug)]
pub(crate) struct Required(pub Vec<Arc<str>>);

/// `minProperties`, `maxProperties`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MemberCount(pub Count);

/// `propertyNames`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PropertyNames(pub SchemaId);

/// `dependentRequired`, and the like part of `dependencies`: when the first is there, the others must be.
#[derive(Clone, Debug)]
pub(crate) struct DependentRequired(pub Vec<(Arc<str>, Vec<Arc<str>>)>);

/// `dependentSchemas`, and the like part of `dependencies`.
#[derive(Clone, Debug)]
pub(crate) struct DependentSchemas(pub Vec<(Arc<str>, SchemaId)>);

/// `unevaluatedProperties`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UnevaluatedProperties(pub SchemaId);

/// What has been read of the keywords that belong together.
#[derive(Default)]
pub(super) struct Reading {
    rules: ObjectRules,
    count: MemberCount,
    required: Vec<(Arc<str>, Vec<Arc<str>>)>,
    schemas: Vec<(Arc<str>, SchemaId)>,
}

impl Reading {
    pub(super) fn read<'a>(
        &mut self,
        key: &str,
        value: &'a Value,
        scope: &mut Scope<'_, 'a>,
        out: &mut Vec<Keyword>,
    ) -> Result<bool> {
        let draft = scope.draft();
        match key {
            "properties" => self.rules.properties = scope.map(key, value)?,
            "patternProperties" => {
                let Value::Object(patterns) = value else { return Err(scope.malformed(key, "an object of schemas")) };
                for (source, value) in patterns {
                    let pattern = scope.pattern(source, &[key, source])?;
                    self.rules.patterns.push((pattern, scope.child(value, &[key, source])));
                }
            }
            "additionalProperties" => self.rules.additional = scope.child(value, &[key]),
            "required" => {
                let names = names(value).ok_or_else(|| scope.malformed(key, "an array of strings"))?;
                out.extend((!names.is_empty()).then_some(Keyword::Required(Required(names))));
            }
            "minProperties" => self.count.0.read_min(key, value, scope)?,
            "maxProperties" => self.count.0.read_max(key, value, scope)?,
            "propertyNames" if draft >= Draft::Draft6 => {
                out.push(Keyword::PropertyNames(PropertyNames(scope.child(value, &[key]))));
            }
            "dependencies" => self.read_dependencies(key, value, scope)?,
            "dependentRequired" if draft >= Draft::Draft2019 => {
                let Value::Object(entries) = value else { return Err(scope.malformed(key, "an object")) };
                for (name, value) in entries {
                    let wanted = "an object of arrays of strings";
                    let names = names(value).ok_or_else(|| scope.malformed(key, wanted))?;
                    self.required.push((Arc::from(name.as_str()), names));
                }
            }
            "dependentSchemas" if draft >= Draft::Draft2019 => self.schemas.extend(scope.map(key, value)?),
            "unevaluatedProperties" if draft >= Draft::Draft2019 => {
                let inner = scope.child(value, &[key]);
                out.push(Keyword::UnevaluatedProperties(UnevaluatedProperties(inner)));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// `dependencies`: of names or of schemas, entry by entry.
    fn read_dependencies<'a>(&mut self, key: &str, value: &'a Value, scope: &mut Scope<'_, 'a>) -> Result<()> {
        let Value::Object(entries) = value else { return Err(scope.malformed(key, "an object")) };
        for (name, value) in entries {
            let owner = Arc::from(name.as_str());
            match value {
                Value::Array(_) => {
                    let wanted = "an object of schemas or arrays of strings";
                    let names = names(value).ok_or_else(|| scope.malformed(key, wanted))?;
                    self.required.push((owner, names));
                }
                Value::String(other) => self.required.push((owner, vec![Arc::from(other.as_str())])),
                _ => self.schemas.push((owner, scope.child(value, &[key, name]))),
            }
        }
        Ok(())
    }

    pub(super) fn finish(self, out: &mut Vec<Keyword>) {
        if !self.count.0.is_any() {
            out.push(Keyword::MemberCount(self.count));
        }
        if !self.rules.properties.is_empty() || !self.rules.patterns.is_empty() || self.rules.additional != TRUE {
            // Members first, so that what follows finds them in the schema's order.
            let place = out.iter().take_while(|keyword| matches!(keyword, Keyword::Type(_))).count();
            out.insert(place, Keyword::Object(Box::new(self.rules)));
        }
        if !self.required.is_empty() {
            out.push(Keyword::DependentRequired(DependentRequired(self.required)));
        }
        if !self.schemas.is_empty() {
            out.push(Keyword::DependentSchemas(DependentSchemas(self.schemas)));
        }
    }
}

fn names(value: &Value) -> Option<Vec<Arc<str>>> {
    value.as_array()?.iter().map(|name| name.as_str().map(Arc::from)).collect()
}

impl Default for ObjectRules {
    fn default() -> Self {
        Self { properties: Vec::new(), patterns: Vec::new(), additional: TRUE }
    }
}

impl ObjectRules {
    /// The object that the rules describe; guarded where the patterns split its keys too often.
    fn body(&self, expansion: &mut Expansion, site: Site<'_>) -> Case<ObjectBody> {
        let mut case = Case::plain(ObjectBody::default());
        let mut patterns = Vec::with_capacity(self.patterns.len());
        for &(pattern, inner) in &self.patterns {
            patterns.push((expansion.pattern_language(pattern), inner));
        }
        for (name, inner) in &self.properties {
            let mut node = expansion.schema_node(*inner);
            for &(language, other) in &patterns {
                if expansion.languages.matches(language, name) {
                    let other = expansion.schema_node(other);
                    node = expansion.meet_nodes(node, other);
                }
            }
            match case.body.find(name) {
                Some(at) => case.body.slots_mut()[at].node = node,
                None => case.body.push(Slot { name: name.clone(), node, required: false }),
            }
        }
        let keys = Self::split_keys(expansion, &patterns).unwrap_or_else(|| {
            case.guard(Signed::positive(expansion.alone(site)));
            vec![(ANY, ANYTHING, true)]
        });
        let additional = expansion.schema_node(self.additional);
        case.body.speaks_of_others = site.schema.evaluates_additional || !patterns.is_empty();
        case.body.others.clear();
        for (keys, value, matched) in keys {
            let value = if matched { value } else { additional };
            if value != NOTHING {
                case.body.others.push((keys, value));
            }
        }
        case
    }

    /// All keys by the set of patterns that they match: language, value, and whether they match any. None when there
    /// would be too many.
    fn split_keys(expansion: &mut Expansion, patterns: &[(ExprId, SchemaId)]) -> Option<Vec<(ExprId, NodeId, bool)>> {
        let mut keys = vec![(ANY, ANYTHING, false)];
        for &(language, inner) in patterns {
            let node = expansion.schema_node(inner);
            let outside = expansion.languages.not(language);
            let mut split = Vec::with_capacity(keys.len() + 1);
            for (keys, value, matched) in keys {
                let inside = expansion.languages.and2(keys, language);
                if !expansion.languages.is_empty(inside) {
                    split.push((inside, expansion.meet_nodes(value, node), true));
                }
                let rest = expansion.languages.and2(keys, outside);
                if !expansion.languages.is_empty(rest) {
                    split.push((rest, value, matched));
                }
            }
            keys = split;
            if keys.len() > KEY_LIMIT {
                return None;
            }
        }
        Some(keys)
    }

    /// The schemas that apply to a member.
    fn schemas_for(&self, expansion: &mut Expansion, key: &str) -> Vec<SchemaId> {
        let named = self.properties.iter().filter(|(name, _)| **name == *key).map(|(_, inner)| *inner);
        let mut found: Vec<SchemaId> = named.collect();
        for &(pattern, inner) in &self.patterns {
            let language = expansion.pattern_language(pattern);
            if expansion.languages.matches(language, key) {
                found.push(inner);
            }
        }
        if found.is_empty() {
            found.push(self.additional);
        }
        found
    }

    fn is_named(&self, expansion: &mut Expansion, key: &str) -> bool {
        self.properties.iter().any(|(name, _)| **name == *key)
            || self.patterns.iter().any(|&(pattern, _)| {
                let language = expansion.pattern_language(pattern);
                expansion.languages.matches(language, key)
            })
    }
}

impl Assertion for ObjectRules {
    fn names(&self) -> &'static [&'static str] {
        &["properties", "patternProperties", "additionalProperties"]
    }

    fn allow(&self, expansion: &mut Expansion, result: &mut Alternatives, site: Site<'_>) {
        if !result.objects.is_empty() {
            let case = self.body(expansion, site);
            expansion.meet_objects(&mut result.objects, &[case], || None);
        }
    }

    fn forbid(&self, expansion: &mut Expansion, site: Site<'_>) -> Alternatives {
        let mut result = Alternatives::none();
        let patterns: Vec<ExprId> =
            self.patterns.iter().map(|&(pattern, _)| expansion.pattern_language(pattern)).collect();
        for (name, inner) in self.properties.iter().filter(|(_, inner)| *inner != TRUE) {
            let violated = expansion.node(vec![Signed::negative(*inner)]);
            if violated != NOTHING {
                let mut body = ObjectBody::default();
                body.push(Slot { name: name.clone(), node: violated, required: true });
                result.objects.push(Case::plain(body));
            }
        }
        let inner = self.patterns.iter().map(|&(_, inner)| inner);
        let mut exists: Vec<_> = patterns.iter().copied().zip(inner).filter(|&(_, inner)| inner != TRUE).collect();
        if self.additional != TRUE {
            let mut named = vec![expansion.languages.words(self.properties.iter().map(|(name, _)| &**name))];
            named.extend(&patterns);
            let named = expansion.languages.or(named);
            exists.push((expansion.languages.not(named), self.additional));
        }
        if exists.is_empty() {
            return result;
        }
        let check = Signed::negative(expansion.alone(site));
        for (keys, inner) in exists {
            let value = expansion.node(vec![Signed::negative(inner)]);
            if value != NOTHING && !expansion.languages.is_empty(keys) {
                let some = vec![Exists { keys, value, check }];
                result.objects.push(Case::plain(ObjectBody { some, ..ObjectBody::default() }));
            }
        }
        result
    }

    fn holds(&self, expansion: &mut Expansion, value: &Value, _: Site<'_>, depth: u32) -> bool {
        let Value::Object(members) = value else { return true };
        members.iter().all(|(key, value)| {
            self.schemas_for(expansion, key).into_iter().all(|inner| expansion.valid_at(inner, value, depth))
        })
    }

    fn mark(&self, expansion: &mut Expansion, value: &Value, marks: &mut Marks, _: u32) {
        let Value::Object(members) = value else { return };
        for (mark, key) in marks.members.iter_mut().zip(members.keys()) {
            *mark |= self.is_named(expansion, key);
        }
    }
}

impl Assertion for Required {
    fn names(&self) -> &'static [&'static str] {
        &["required"]
    }

    fn allow(&self, expansion: &mut Expansion, result: &mut Alternatives, _: Site<'_>) {
        result.objects.retain_mut(|case| self.0.iter().all(|name| expansion.require(&mut case.body, name)));
    }

    fn forbid(&self, expansion: &mut Expansion, _: Site<'_>) -> Alternatives {
        let mut result = Alternatives::none();
        for name in &self.0 {
            let mut body = ObjectBody::default();
            if expansion.forbid(&mut body, name) {
                result.objects.push(Case::plain(body));
            }
        }
        result
    }

    fn holds(&self, _: &mut Expansion, value: &Value, _: Site<'_>, _: u32) -> bool {
        let Value::Object(members) = value else { return true };
        self.0.iter().all(|name| members.contains_key(&**name))
    }
}

impl Assertion for MemberCount {
    fn names(&self) -> &'static [&'static str] {
        &["minProperties", "maxProperties"]
    }

    fn allow(&self, _: &mut Expansion, result: &mut Alternatives, _: Site<'_>) {
        result.objects.retain_mut(|Case { body, .. }| {
            body.min = body.min.max(self.0.min);
            body.max = min_bound(body.max, self.0.max);
            body.max.is_none_or(|max| body.min <= max)
        });
    }

    fn forbid(&self, _: &mut Expansion, _: Site<'_>) -> Alternatives {
        let fewer = self.0.min.checked_sub(1).map(|max| ObjectBody { max: Some(max), ..ObjectBody::default() });
        let more = self.0.max.map(|max| ObjectBody { min: max + 1, ..ObjectBody::default() });
        Alternatives { objects: fewer.into_iter().chain(more).map(Case::plain).collect(), ..Alternatives::none() }
    }

    fn holds(&self, _: &mut Expansion, value: &Value, _: Site<'_>, _: u32) -> bool {
        value.as_object().is_none_or(|members| self.0.holds(members.len()))
    }
}

impl Assertion for PropertyNames {
    fn names(&self) -> &'static [&'static str] {
        &["propertyNames"]
    }

    fn allow(&self, expansion: &mut Expansion, result: &mut Alternatives, site: Site<'_>) {
        if result.objects.is_empty() {
            return;
        }
        // Keys are strings: what the schema says of other values would only lead astray.
        let only = expansion.keyword_schema(Keyword::Type(Type(types::STRING)), site.schema);
        let node = expansion.node(vec![Signed::positive(self.0), Signed::positive(only)]);
        let strings = expansion.alternatives(node);
        let names = strings.strings.iter().map(|case| case.body).collect();
        let names = expansion.languages.or(names);
        let guarded = strings.strings.iter().any(|case| !case.guards.is_empty());
        let guard = guarded.then(|| Signed::positive(expansion.alone(site)));
        result.objects.retain_mut(|case| {
            case.body.speaks_of_others = true;
            keep_keys(expansion, &mut case.body, names)
        });
        if let Some(guard) = guard {
            result.objects.iter_mut().for_each(|case| case.guard(guard));
        }
    }

    fn forbid(&self, expansion: &mut Expansion, site: Site<'_>) -> Alternatives {
        let node = expansion.node(vec![Signed::negative(self.0)]);
        let strings = expansion.alternatives(node);
        let keys = strings.strings.iter().map(|case| case.body).collect();
        let keys = expansion.languages.or(keys);
        let check = Signed::negative(expansion.alone(site));
        let some = vec![Exists { keys, value: ANYTHING, check }];
        let mut case = Case::plain(ObjectBody { some, ..ObjectBody::default() });
        if strings.strings.iter().any(|case| !case.guards.is_empty()) {
            case.guard(check);
        }
        Alternatives { objects: vec![case], ..Alternatives::none() }
    }

    fn holds(&self, expansion: &mut Expansion, value: &Value, _: Site<'_>, depth: u32) -> bool {
        let Value::Object(members) = value else { return true };
        members.keys().all(|key| expansion.valid_at(self.0, &Value::String(key.clone()), depth))
    }
}

/// Leaves an object the keys of a language; false when a member that must be there has none of them.
fn keep_keys(expansion: &mut Expansion, body: &mut ObjectBody, names: ExprId) -> bool {
    for slot in body.slots_mut() {
        if slot.node != NOTHING && !expansion.languages.matches(names, &slot.name) {
            if slot.required {
                return false;
            }
            slot.node = NOTHING;
        }
    }
    body.others.retain_mut(|(keys, _)| {
        *keys = expansion.languages.and2(*keys, names);
        !expansion.languages.is_empty(*keys)
    });
    true
}

impl Assertion for DependentRequired {
    fn names(&self) -> &'static [&'static str] {
        &["dependentRequired", "dependencies"]
    }

    fn allow(&self, _: &mut Expansion, result: &mut Alternatives, _: Site<'_>) {
        for case in &mut result.objects {
            for (name, names) in &self.0 {
                case.body.implies.extend(names.iter().map(|other| (name.clone(), other.clone())));
            }
        }
    }

    fn forbid(&self, expansion: &mut Expansion, _: Site<'_>) -> Alternatives {
        let mut result = Alternatives::none();
        for (name, names) in &self.0 {
            for other in names {
                let mut body = ObjectBody::default();
                if expansion.require(&mut body, name) && expansion.forbid(&mut body, other) {
                    result.objects.push(Case::plain(body));
                }
            }
        }
        result
    }

    fn holds(&self, _: &mut Expansion, value: &Value, _: Site<'_>, _: u32) -> bool {
        let Value::Object(members) = value else { return true };
        self.0.iter().all(|(name, names)| {
            !members.contains_key(&**name) || names.iter().all(|name| members.contains_key(&**name))
        })
    }
}

impl Assertion for DependentSchemas {
    fn names(&self) -> &'static [&'static str] {
        &["dependentSchemas", "dependencies"]
    }

    fn allow(&self, expansion: &mut Expansion, result: &mut Alternatives, site: Site<'_>) {
        for (name, inner) in self.0.iter().filter(|(_, inner)| *inner != TRUE) {
            if result.objects.is_empty() {
                return;
            }
            let node = expansion.schema_node(*inner);
            let other = expansion.alternatives(node);
            if result.objects.len() * (1 + other.objects.len()) > CASE_LIMIT {
                let entry = Keyword::DependentSchemas(Self(vec![(name.clone(), *inner)]));
                let check = Signed::positive(expansion.keyword_schema(entry, site.schema));
                result.objects.iter_mut().for_each(|case| case.guard(check));
                continue;
            }
            let mut without = result.objects.clone();
            without.retain_mut(|case| expansion.forbid(&mut case.body, name));
            let mut with = std::mem::take(&mut result.objects);
            with.retain_mut(|case| expansion.require(&mut case.body, name));
            expansion.meet_objects(&mut with, &other.objects, || None);
            without.extend(with);
            result.objects = without;
        }
    }

    fn forbid(&self, expansion: &mut Expansion, _: Site<'_>) -> Alternatives {
        let mut result = Alternatives::none();
        for (name, inner) in &self.0 {
            let node = expansion.node(vec![Signed::negative(*inner)]);
            let outside = expansion.alternatives(node);
            let mut objects = outside.objects.clone();
            objects.retain_mut(|case| expansion.require(&mut case.body, name));
            result.objects.extend(objects);
        }
        result
    }

    fn holds(&self, expansion: &mut Expansion, value: &Value, _: Site<'_>, depth: u32) -> bool {
        let Value::Object(members) = value else { return true };
        self.0.iter().all(|(name, inner)| !members.contains_key(&**name) || expansion.valid_at(*inner, value, depth))
    }

    fn mark(&self, expansion: &mut Expansion, value: &Value, marks: &mut Marks, depth: u32) {
        let Value::Object(members) = value else { return };
        for (_, inner) in self.0.iter().filter(|(name, _)| members.contains_key(&**name)) {
            expansion.mark_if_valid(*inner, value, marks, depth);
        }
    }
}

impl Assertion for UnevaluatedProperties {
    fn names(&self) -> &'static [&'static str] {
        &["unevaluatedProperties"]
    }

    fn allow(&self, _: &mut Expansion, result: &mut Alternatives, site: Site<'_>) {
        for case in &mut result.objects {
            case.guard(Signed::positive(site.id));
            case.body.speaks_of_others |= self.0 != FALSE;
        }
    }

    /// Whole schemas with it are negated by a check; see `negate`.
    fn forbid(&self, _: &mut Expansion, _: Site<'_>) -> Alternatives {
        Alternatives::none()
    }

    fn holds(&self, expansion: &mut Expansion, value: &Value, site: Site<'_>, depth: u32) -> bool {
        let Value::Object(members) = value else { return true };
        let mut marks = Marks { members: vec![false; members.len()], items: Vec::new() };
        expansion.mark(site.id, value, &mut marks, depth, true);
        members.values().zip(&marks.members).all(|(value, marked)| *marked || expansion.valid_at(self.0, value, depth))
    }

    fn mark(&self, _: &mut Expansion, _: &Value, marks: &mut Marks, _: u32) {
        marks.members.fill(true);
    }
}
