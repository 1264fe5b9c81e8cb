//! What a recipe says in vain: attributes that nothing reads, rules that no text can meet, steps that can never pass.
//!
//! All of it would look like success, or like a model that is too small. Bounds that come from a row's own values are
//! not looked at.

use serde_json::{Map, Value};

use super::prompt::Templates;
use super::text_output::Bound;
use super::{Fault, Output, Recipe, Step};
use crate::filter::Of;

/// Names that templates have from elsewhere.
const TAKEN: &[&str] = &["schema", "seed", "parent", "examples", "scores"];
/// Characters that the longest tokens have; runs of spaces aside.
const CHARS_PER_TOKEN: usize = 32;

impl Recipe {
    /// Finds what is said in vain.
    ///
    /// # Errors
    /// The first fault, with the pointer to it.
    pub(super) fn check_reach(&self) -> Result<(), Fault> {
        for (index, attribute) in self.attributes.iter().enumerate() {
            self.check_attribute_reach(&attribute.name, &format!("/attributes/{index}"))?;
        }
        self.check_lengths()?;
        self.check_choices()
    }

    /// Finds an attribute that no row can tell of; `at` is its pointer.
    ///
    /// # Errors
    /// When a step's field or a built-in name hides it, nothing reads it, or it names an unknown language.
    pub(crate) fn check_attribute_reach(&self, name: &str, at: &str) -> Result<(), Fault> {
        let Some(attribute) = self.attributes.iter().find(|attribute| attribute.name == name) else { return Ok(()) };
        if self.steps.iter().any(|step| step.field == name && !step.output.is_score()) {
            let what = format!("`{name}` is a field of a step, which would hide the attribute");
            return Err(Fault::new(format!("{at}/name"), what, "give the attribute another name"));
        }
        if TAKEN.contains(&name) {
            let what = format!("`{name}` is a name that templates have already");
            return Err(Fault::new(format!("{at}/name"), what, "give the attribute another name"));
        }
        for (index, rule) in self.filters.language.iter().enumerate() {
            if let Some(what) = rule.unknown(name, attribute.all_values().cloned()) {
                let what = format!("{what}, and filters.language.{index} asks for it");
                return Err(Fault::new(
                    at,
                    what,
                    "write a code or a name, such as de or German, or leave the rule out",
                ));
            }
        }
        if attribute.only_planned || self.reads(name) {
            return Ok(());
        }
        let what = format!("nothing reads the attribute `{name}`, so no row would follow it");
        let remedy = format!(
            "name it in a prompt, as {{{{ {name} }}}}, in a `when` or a rule; or say `only_planned: true` to have it in `meta` alone"
        );
        Err(Fault::new(at, what, remedy))
    }

    /// Whether a prompt, a condition or a rule reads the attribute.
    fn reads(&self, name: &str) -> bool {
        let templates = Templates::default();
        let root = |read: &str| read == name || read.split('.').next() == Some(name);
        let step = |step: &Step| {
            step.when.contains_key(name)
                || step.row_templates().into_iter().any(|template| templates.uses(template, name))
        };
        let condition = |attribute: &super::Attribute| attribute.when.iter().any(|case| case.is.contains_key(name));
        self.steps.iter().any(step)
            || self.attributes.iter().any(condition)
            || self.filters.reads().into_iter().any(|read| read.of == Of::Row && root(read.name))
    }

    /// Finds a rule on the length of a field that its step can never give.
    fn check_lengths(&self) -> Result<(), Fault> {
        for (index, rule) in self.filters.length.iter().enumerate() {
            let mut steps = self.steps.iter().filter(|step| step.field == rule.field && step.output.is_decoded());
            // Of several steps for a field, each in its own case, one may do.
            let (Some(step), None) = (steps.next(), steps.next()) else { continue };
            if !step.begins.is_empty() {
                continue;
            }
            let bound = |bound: &Option<Bound>| match bound {
                Some(Bound::Number(number)) => Some(*number as usize),
                _ => None,
            };
            let text = match &step.output {
                Output::Text(text) => {
                    [bound(&text.min_words), bound(&text.max_words), bound(&text.min_chars), bound(&text.max_chars)]
                }
                _ => [None; 4],
            };
            let most_chars = step.max_tokens.saturating_mul(CHARS_PER_TOKEN);
            let rules = [
                ("words", rule.words, text[0], text[1], step.max_tokens),
                ("chars", rule.chars, text[2], text[3], most_chars),
            ];
            for (unit, bounds, min, max, by_tokens) in rules {
                let Some((least, most)) = bounds else { continue };
                let at = format!("/filters/length/{index}/{unit}");
                let field = &step.field;
                if max.is_some_and(|max| max < least) || min.is_some_and(|min| min > most) {
                    let told = |bound: Option<usize>, none: &str| bound.map_or(none.to_owned(), |n| n.to_string());
                    let (min, max) = (told(min, "0"), told(max, "any number of"));
                    let what =
                        format!("step {field} writes {min} to {max} {unit}, and this asks for {least} to {most}");
                    return Err(Fault::new(at, what, "let the two bounds meet"));
                }
                if least > by_tokens {
                    let what = format!("{least} {unit} do not fit into the {} tokens of step {field}", step.max_tokens);
                    return Err(Fault::new(at, what, "raise `max_tokens` of the step, or ask for less"));
                }
            }
        }
        Ok(())
    }

    /// Finds a choice that a rule always turns down.
    fn check_choices(&self) -> Result<(), Fault> {
        for step in self.steps.iter().filter(|step| step.begins.is_empty()) {
            let Output::Choice(texts) = &step.output else { continue };
            let alone = self.steps.iter().filter(|other| other.field == step.field).count() == 1;
            for (key, rule) in self.filters.rules().into_iter().filter(|_| alone) {
                for filter in rule.filters() {
                    let reads = filter.reads();
                    if reads.is_empty() || reads.iter().any(|read| read.name != step.field || read.of != Of::Row) {
                        continue;
                    }
                    let mut plain = texts.iter().filter(|text| !super::prompt::is_template(text));
                    let down = |text: &&String| {
                        let row = Map::from_iter([(step.field.clone(), Value::String(text.trim().to_owned()))]);
                        filter.check(&row).is_some()
                    };
                    if let Some(text) = plain.find(down) {
                        let what = format!(
                            "turns down the choice `{}` of step {} whenever it is made",
                            text.trim(),
                            step.field
                        );
                        return Err(Fault::new(
                            format!("/filters/{key}"),
                            what,
                            "change the rule, or take the choice out",
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// Finds a step or a schema by which no row can pass: `schema` is what every row satisfies.
    ///
    /// # Errors
    /// The first fault, with the pointer to it.
    pub(crate) fn check_shape(&self, schema: &Value) -> Result<(), Fault> {
        if self.seeds.is_some_and(|seeds| seeds.keep) {
            return Ok(());
        }
        let required = schema.get("required").and_then(Value::as_array);
        let required: Vec<&str> = required.into_iter().flatten().filter_map(Value::as_str).collect();
        let properties = schema.get("properties").and_then(Value::as_object);
        let is_closed = schema.get("additionalProperties") == Some(&Value::Bool(false))
            && schema.get("patternProperties").is_none();
        let takes_object = |field: &str| match properties.and_then(|properties| properties.get(field)?.get("type")) {
            Some(Value::String(kind)) => kind == "object",
            Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "object"),
            _ => true,
        };
        let kept = |step: &&Step| !step.aside && !step.output.is_score();
        let has = |field: &str| properties.is_some_and(|properties| properties.contains_key(field));
        let whole = self.steps.iter().any(|step| step.field == "*");
        let fills = |field: &str| whole || self.steps.iter().filter(kept).any(|step| step.field == field);
        for (index, step) in self.steps.iter().enumerate().filter(|(_, step)| kept(step) && step.field != "*") {
            let field = &step.field;
            let at = format!("/steps/{index}");
            if is_closed && !has(field) {
                let what = format!("the run's schema has no property `{field}` and allows no others");
                return Err(Fault::new(
                    format!("{at}/field"),
                    what,
                    "add it to the schema, or let the step be `aside`",
                ));
            }
            let is_whole = !takes_object(field) || required.contains(&field.as_str());
            if matches!(step.output, Output::Schema) && is_whole {
                let what =
                    format!("`output: schema` is JSON under the schema of the whole row, which `{field}` is a part of");
                let remedy = "use `field: \"*\"` for a step that gives the whole row, or another output";
                return Err(Fault::new(format!("{at}/output"), what, remedy));
            }
        }
        if let Some(lacking) = required.iter().find(|field| !fills(field)) {
            let what = format!("the run's schema requires `{lacking}`, and no step fills it");
            return Err(Fault::new("/steps", what, "add a step for it, or use another schema"));
        }
        Ok(())
    }

    /// The commands that make rows by this recipe, by what it is.
    pub(crate) fn verb(&self) -> &'static str {
        let Some(seeds) = self.seeds else { return "generate" };
        match () {
            () if seeds.keep && self.steps.iter().all(|step| step.output.is_score()) => "judge",
            () if seeds.rounds > 1 || self.attributes.iter().any(|attribute| attribute.name == "operator") => "evolve",
            () => "answer",
        }
    }
}
