//! What a schema does not allow: what any keyword of it forbids. What each of them does stands in `keyword`.

use serde_json::Value;

use super::expand::Expansion;
use super::keyword::{Keyword, Site};
use super::node::{Alternatives, Signed};
use super::schema::SchemaId;

impl Expansion {
    /// What the schema does not allow.
    pub(super) fn negated(&mut self, id: SchemaId) -> Alternatives {
        let schema = self.schema(id);
        if schema.keywords.iter().any(Keyword::is_unevaluated) {
            return self.unless(id);
        }
        let mut result = Alternatives::none();
        for keyword in &schema.keywords {
            let part = keyword.assertion().forbid(self, Site { keyword, schema: &schema, id });
            self.join(&mut result, &part);
        }
        result
    }

    /// Everything that fails the schema, by checking the finished value.
    pub(super) fn unless(&mut self, id: SchemaId) -> Alternatives {
        let mut result = Alternatives::all();
        result.null = !self.valid(id, &Value::Null);
        result.booleans = [false, true].map(|value| !self.valid(id, &Value::Bool(value)));
        let check = Signed::negative(id);
        result.numbers.iter_mut().for_each(|case| case.guard(check));
        result.strings.iter_mut().for_each(|case| case.guard(check));
        result.arrays.iter_mut().for_each(|case| case.guard(check));
        result.objects.iter_mut().for_each(|case| case.guard(check));
        result
    }
}
