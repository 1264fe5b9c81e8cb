//! What a schema does not allow: negation, pushed down keyword by keyword.

use serde_json::Value;

use super::expand::Expansion;
use super::language::{ANY, ExprId, INFINITE, NONE};
use super::node::{ANYTHING, Alternatives, ArrayBody, Case, Exists, Literal, NOTHING, ObjectBody, Slot};
use super::number::{NumberSet, Range};
use super::schema::{Keyword, ObjectRules, Schema, SchemaId, TRUE, types};

impl Expansion {
    /// What the schema does not allow.
    pub(super) fn negated(&mut self, id: SchemaId) -> Alternatives {
        let schema = self.schema(id);
        if schema
            .keywords
            .iter()
            .any(|keyword| matches!(keyword, Keyword::UnevaluatedProperties(_) | Keyword::UnevaluatedItems(_)))
        {
            return self.unless(id);
        }
        let mut result = Alternatives::none();
        for keyword in &schema.keywords {
            let part = self.negated_keyword(keyword, &schema);
            self.join(&mut result, &part);
        }
        result
    }

    /// Everything that fails the schema, by checking the finished value.
    fn unless(&mut self, id: SchemaId) -> Alternatives {
        let mut result = Alternatives::all();
        result.null = !self.valid(id, &Value::Null);
        result.booleans = [false, true].map(|value| !self.valid(id, &Value::Bool(value)));
        let check = Literal::negative(id);
        result.numbers.iter_mut().for_each(|case| case.guard(check));
        result.strings.iter_mut().for_each(|case| case.guard(check));
        result.arrays.iter_mut().for_each(|case| case.guard(check));
        result.objects.iter_mut().for_each(|case| case.guard(check));
        result
    }

    fn negated_keyword(&mut self, keyword: &Keyword, schema: &Schema) -> Alternatives {
        let mut result = Alternatives::none();
        match keyword {
            Keyword::Type(bits) => {
                let mut inverse = !bits & 0x7F;
                if bits & types::NUMBER != 0 {
                    inverse &= !types::INTEGER;
                }
                result = Alternatives::all();
                let fractions_only = inverse & types::NUMBER != 0 && bits & types::INTEGER != 0;
                Self::apply_type(&mut result, inverse, schema);
                if fractions_only {
                    let range = Range { integer: Some(false), strict: schema.strict_integer, ..Range::default() };
                    result.numbers = vec![Case::plain(NumberSet::Ranges(vec![range]))];
                }
            }
            Keyword::Enum(values) => return self.negated_enumeration(values, keyword, schema),
            Keyword::Number(range) => {
                let set = NumberSet::Ranges(vec![(**range).clone()]);
                let mut case = Case::plain(NumberSet::all());
                match set.complement() {
                    Some(outside) => case.body = outside,
                    None => case.guard(Literal::negative(self.keyword_schema(keyword.clone(), schema))),
                }
                result.numbers.push(case);
            }
            Keyword::Length(min, max) => {
                let language = self.languages.length_between(*min, max.unwrap_or(INFINITE));
                self.push_complement(&mut result, language);
            }
            Keyword::Pattern(pattern) => {
                let language = self.pattern_language(*pattern);
                self.push_complement(&mut result, language);
            }
            Keyword::Format(format) => {
                let (language, exact, extension) = self.format_language(*format);
                if exact && extension == NONE {
                    self.push_complement(&mut result, language);
                } else {
                    let mut case = Case::plain(ANY);
                    case.guard(Literal::negative(self.keyword_schema(keyword.clone(), schema)));
                    result.strings.push(case);
                }
            }
            Keyword::Object(rules) => self.negated_rules(&mut result, rules, keyword, schema),
            Keyword::Required(names) => {
                for name in names {
                    let mut body = ObjectBody::default();
                    if self.forbid(&mut body, name) {
                        result.objects.push(Case::plain(body));
                    }
                }
            }
            Keyword::Members(min, max) => {
                if *min > 0 {
                    result.objects.push(Case::plain(ObjectBody { max: Some(min - 1), ..ObjectBody::default() }));
                }
                if let Some(max) = max {
                    result.objects.push(Case::plain(ObjectBody { min: max + 1, ..ObjectBody::default() }));
                }
            }
            Keyword::PropertyNames(inner) => {
                let node = self.node(vec![Literal::negative(*inner)]);
                let strings = self.alternatives(node);
                let keys = strings.strings.iter().map(|case| case.body).collect();
                let keys = self.languages.or(keys);
                let check = Literal::negative(self.keyword_schema(keyword.clone(), schema));
                let mut case = Case::plain(ObjectBody::default());
                if strings.strings.iter().any(|case| !case.guards.is_empty()) {
                    case.guard(check);
                }
                case.body.some.push(Exists { keys, value: ANYTHING, check });
                result.objects.push(case);
            }
            Keyword::DependentRequired(entries) => {
                for (name, names) in entries {
                    for other in names {
                        let mut body = ObjectBody::default();
                        if self.require(&mut body, name) && self.forbid(&mut body, other) {
                            result.objects.push(Case::plain(body));
                        }
                    }
                }
            }
            Keyword::DependentSchemas(entries) => {
                for (name, inner) in entries {
                    let node = self.node(vec![Literal::negative(*inner)]);
                    let outside = self.alternatives(node);
                    let mut objects = outside.objects.clone();
                    objects.retain_mut(|case| self.require(&mut case.body, name));
                    result.objects.extend(objects);
                }
            }
            Keyword::Items(prefix, rest) => {
                for (at, &inner) in (0u32..).zip(prefix) {
                    if inner != TRUE {
                        let violated = self.node(vec![Literal::negative(inner)]);
                        let mut nodes = vec![ANYTHING; at as usize];
                        nodes.push(violated);
                        result.arrays.push(Case::plain(ArrayBody {
                            prefix: nodes,
                            min: at + 1,
                            ..ArrayBody::default()
                        }));
                    }
                }
                if *rest != TRUE {
                    if prefix.is_empty() {
                        let violated = self.node(vec![Literal::negative(*rest)]);
                        let contains = vec![(violated, 1, None)];
                        result.arrays.push(Case::plain(ArrayBody { contains, min: 1, ..ArrayBody::default() }));
                    } else {
                        let check = Literal::negative(self.keyword_schema(keyword.clone(), schema));
                        let min = u32::try_from(prefix.len() + 1).unwrap_or(INFINITE);
                        let mut case = Case::plain(ArrayBody { min, ..ArrayBody::default() });
                        case.guard(check);
                        result.arrays.push(case);
                    }
                }
            }
            Keyword::ItemCount(min, max) => {
                if *min > 0 {
                    result.arrays.push(Case::plain(ArrayBody { max: Some(min - 1), ..ArrayBody::default() }));
                }
                if let Some(max) = max {
                    result.arrays.push(Case::plain(ArrayBody { min: max + 1, ..ArrayBody::default() }));
                }
            }
            Keyword::Unique => {
                let mut case = Case::plain(ArrayBody { min: 2, ..ArrayBody::default() });
                case.guard(Literal::negative(self.keyword_schema(keyword.clone(), schema)));
                result.arrays.push(case);
            }
            Keyword::Contains(inner, min, max) => {
                let node = self.schema_node(*inner);
                if *min > 0 {
                    let contains = vec![(node, 0, Some(min - 1))];
                    result.arrays.push(Case::plain(ArrayBody { contains, ..ArrayBody::default() }));
                }
                if let Some(max) = max {
                    let contains = vec![(node, max + 1, None)];
                    result.arrays.push(Case::plain(ArrayBody { contains, min: max + 1, ..ArrayBody::default() }));
                }
            }
            Keyword::AllOf(list) => {
                for &inner in list {
                    let node = self.node(vec![Literal::negative(inner)]);
                    let part = self.alternatives(node);
                    self.join(&mut result, &part);
                }
            }
            Keyword::AnyOf(list) => {
                let literals = list.iter().map(|&inner| Literal::negative(inner)).collect();
                let node = self.node(literals);
                return (*self.alternatives(node)).clone();
            }
            Keyword::OneOf(list) => return self.negated_one_of(list, keyword, schema),
            Keyword::Not(inner) | Keyword::Ref(inner) => {
                let literal = if matches!(keyword, Keyword::Not(_)) {
                    Literal::positive(*inner)
                } else {
                    Literal::negative(*inner)
                };
                let node = self.node(vec![literal]);
                return (*self.alternatives(node)).clone();
            }
            Keyword::If(condition, then, other) => {
                let yes = self.node(vec![Literal::positive(*condition), Literal::negative(*then)]);
                let no = self.node(vec![Literal::negative(*condition), Literal::negative(*other)]);
                for node in [yes, no] {
                    let part = self.alternatives(node);
                    self.join(&mut result, &part);
                }
            }
            // Whole schemas with these are handled by `unless`.
            Keyword::UnevaluatedProperties(_) | Keyword::UnevaluatedItems(_) => {}
        }
        result
    }

    fn push_complement(&mut self, result: &mut Alternatives, language: ExprId) {
        let outside = self.languages.not(language);
        if outside != NONE {
            result.strings.push(Case::plain(outside));
        }
    }

    fn negated_enumeration(&mut self, values: &[Value], keyword: &Keyword, schema: &Schema) -> Alternatives {
        let mut result = Alternatives::all();
        let inside = self.enumeration(values, schema);
        result.null = !inside.null;
        result.booleans = inside.booleans.map(|inside| !inside);
        if let Some(case) = inside.numbers.first() {
            match case.body.complement() {
                Some(outside) => result.numbers[0].body = outside,
                None => {
                    let check = Literal::negative(self.keyword_schema(keyword.clone(), schema));
                    result.numbers[0].guard(check);
                }
            }
        }
        if let Some(case) = inside.strings.first() {
            result.strings[0].body = self.languages.not(case.body);
        }
        if !inside.arrays.is_empty() || !inside.objects.is_empty() {
            let check = Literal::negative(self.keyword_schema(keyword.clone(), schema));
            if !inside.arrays.is_empty() {
                result.arrays[0].guard(check);
            }
            if !inside.objects.is_empty() {
                result.objects[0].guard(check);
            }
        }
        result
    }

    fn negated_rules(&mut self, result: &mut Alternatives, rules: &ObjectRules, keyword: &Keyword, schema: &Schema) {
        let patterns: Vec<ExprId> = rules.patterns.iter().map(|&(pattern, _)| self.pattern_language(pattern)).collect();
        for (name, inner) in &rules.properties {
            if *inner != TRUE {
                let violated = self.node(vec![Literal::negative(*inner)]);
                if violated != NOTHING {
                    let mut body = ObjectBody::default();
                    body.push(Slot { name: name.clone(), node: violated, required: true });
                    result.objects.push(Case::plain(body));
                }
            }
        }
        let mut exists = Vec::new();
        for (&keys, &(_, inner)) in patterns.iter().zip(&rules.patterns) {
            if inner != TRUE {
                exists.push((keys, inner));
            }
        }
        if rules.additional != TRUE {
            let named = self.languages.words(rules.properties.iter().map(|(name, _)| &**name));
            let mut named = vec![named];
            named.extend(&patterns);
            let named = self.languages.or(named);
            exists.push((self.languages.not(named), rules.additional));
        }
        if exists.is_empty() {
            return;
        }
        let check = Literal::negative(self.keyword_schema(keyword.clone(), schema));
        for (keys, inner) in exists {
            let value = self.node(vec![Literal::negative(inner)]);
            if value != NOTHING && !self.languages.is_empty(keys) {
                let mut body = ObjectBody::default();
                body.some.push(Exists { keys, value, check });
                result.objects.push(Case::plain(body));
            }
        }
    }

    fn negated_one_of(&mut self, list: &[SchemaId], keyword: &Keyword, schema: &Schema) -> Alternatives {
        if list.len() > 6 {
            let id = self.keyword_schema(keyword.clone(), schema);
            return self.unless(id);
        }
        // None of them, or two of them.
        let none = list.iter().map(|&inner| Literal::negative(inner)).collect();
        let mut nodes = vec![self.node(none)];
        for i in 0..list.len() {
            for j in i + 1..list.len() {
                nodes.push(self.node(vec![Literal::positive(list[i]), Literal::positive(list[j])]));
            }
        }
        let mut result = Alternatives::none();
        for node in nodes {
            let part = self.alternatives(node);
            self.join(&mut result, &part);
        }
        result
    }
}
