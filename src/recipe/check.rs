//! What a recipe must be before a row is made with it: every finding names its place.

use std::collections::BTreeSet;

use super::attributes::check_condition;
use super::prompt::{Templates, is_template};
use super::{BestOf, Fault, Form, Output, Recipe, Scale, Step};
use crate::error::nearest;
use crate::filter::{FieldRead, Of};
use instil_grammar::grammar::{GrammarSource, Options, Program};

/// Names that every template can use.
const ALWAYS: &[&str] = &["schema"];
/// Names that templates can use where rows are made from rows.
const FROM_SEEDS: &[&str] = &["seed", "parent"];

impl Recipe {
    /// Finds what cannot make a row.
    ///
    /// # Errors
    /// The first fault, with the pointer to it.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        let fault = |at: &str, what: &str, remedy: &str| Err(Fault::new(at, what, remedy));
        if self.steps.is_empty() {
            return fault("/steps", "`steps` is empty", "add at least one step");
        }
        if self.max_attempts == 0 {
            return fault("/max_attempts", "`max_attempts` is 0", "use 1 or more");
        }
        self.sampling.check("/sampling")?;
        for (index, attribute) in self.attributes.iter().enumerate() {
            attribute.check(&self.attributes[..index], &format!("/attributes/{index}"))?;
        }
        for (index, quota) in self.quotas.iter().enumerate() {
            quota.check(&self.attributes, &format!("/quotas/{index}"))?;
        }
        self.check_needs()?;
        self.assignments(0)?;
        let mut known: BTreeSet<&str> = self.attributes.iter().map(|attribute| attribute.name.as_str()).collect();
        known.extend(ALWAYS);
        if let Some(seeds) = &self.seeds {
            known.extend(FROM_SEEDS);
            if seeds.rounds == 0 {
                return fault("/seeds/rounds", "`rounds` is 0", "use 1 or more");
            }
        }
        for (index, step) in self.steps.iter().enumerate() {
            let at = format!("/steps/{index}");
            check_condition(&step.when, &self.attributes, &format!("{at}/when"))?;
            let twice = |other: &Step| other.field == step.field && other.when.is_empty() && step.when.is_empty();
            if self.steps[..index].iter().any(twice) {
                let what = format!("another step fills `{}` already", step.field);
                return Err(Fault::new(format!("{at}/field"), what, "choose another field"));
            }
            self.check_step(step, &known, &at)?;
            if let Some(best_of) = &step.best_of {
                self.check_best_of(index, best_of, &format!("{at}/best_of"))?;
            }
            known.insert(if step.output.is_score() { "scores" } else { &step.field });
        }
        let keeps = self.seeds.is_some_and(|seeds| seeds.keep);
        let fills = |step: &Step| !step.aside && !step.output.is_score();
        if !keeps && !self.steps.iter().any(fills) {
            return fault("/steps", "every step is `aside`, so rows have no fields", "let one step fill a field");
        }
        self.check_filters()?;
        self.check_reach()
    }

    /// A rule on a field that no row has would pass every row.
    fn check_filters(&self) -> Result<(), Fault> {
        let scores = self.steps.iter().filter(|step| step.output.is_score()).map(|step| step.field.as_str());
        let scores: Vec<&str> = scores.collect();
        let shown: BTreeSet<&str> = self.examples.iter().flat_map(|one| one.keys().map(String::as_str)).collect();
        let shown: Vec<&str> = shown.into_iter().collect();
        let steps = self.steps.iter().filter(|step| !step.output.is_score()).map(|step| step.field.as_str());
        let fields: Vec<&str> = steps.chain(self.attributes.iter().map(|attribute| attribute.name.as_str())).collect();
        // Fields of seeds and of whole schemas are known with the rows only.
        let is_open = self.seeds.is_some() || self.steps.iter().any(|step| step.field == "*");
        for FieldRead { at, name, of } in self.filters.reads() {
            let root = name.split('.').next().unwrap_or(name);
            let (is_known, known, what) = match of {
                Of::Row => (is_open || fields.contains(&name) || fields.contains(&root), &fields, "no step fills"),
                Of::Scores => (scores.contains(&name), &scores, "no step gives the score"),
                // Without examples nothing can be taken from them.
                Of::Examples => (shown.is_empty() || shown.contains(&name), &shown, "no example has"),
            };
            if !is_known {
                let remedy = match nearest(name, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if known.is_empty() => "add a step whose output is a score, or leave the rule out".into(),
                    None => format!("it can be: {}", known.join(", ")),
                };
                return Err(Fault::new(format!("/filters{at}"), format!("{what} `{name}`"), remedy));
            }
        }
        Ok(())
    }

    fn check_step(&self, step: &Step, known: &BTreeSet<&str>, at: &str) -> Result<(), Fault> {
        let templates = Templates::default();
        let check = |template: &str, known: &BTreeSet<&str>, key: &str| {
            templates.check(template, known).map_err(|(what, remedy)| Fault::new(format!("{at}/{key}"), what, remedy))
        };
        let field = &step.field;
        if field.trim().is_empty() || crate::row::is_reserved(field) {
            let what =
                if field.trim().is_empty() { "the field has no name".into() } else { format!("`{field}` is taken") };
            return Err(Fault::new(format!("{at}/field"), what, "choose another name"));
        }
        if step.max_tokens == 0 {
            return Err(Fault::new(format!("{at}/max_tokens"), "`max_tokens` is 0", "use 1 or more"));
        }
        self.sampling.with(step.sampling).check(&format!("{at}/sampling"))?;
        check(&step.prompt, known, "prompt")?;
        check(&step.begins, known, "begins")?;
        let mut in_prefix = BTreeSet::new();
        if step.form == Form::Completion {
            in_prefix.insert("examples");
        }
        check(&step.prefix, &in_prefix, "prefix")?;
        if let Some(turn) = &step.example {
            let keys = self.examples.iter().flat_map(|example| example.keys().map(String::as_str)).collect();
            check(&turn.user, &keys, "example/user")?;
            check(&turn.assistant, &keys, "example/assistant")?;
        }
        Self::check_output(step, known, at)
    }

    fn check_best_of(&self, index: usize, best_of: &BestOf, at: &str) -> Result<(), Fault> {
        let fault = |key: &str, what: String, remedy: &str| Err(Fault::new(format!("{at}/{key}"), what, remedy));
        if best_of.count < 2 || !self.steps[index].output.is_decoded() {
            return fault("count", "one text has nothing to compete with".into(), "use 2 or more for a decoded field");
        }
        let judges = |step: &Step| step.field == best_of.by && step.output.is_score();
        if !self.steps[index..].iter().any(judges) {
            let what = format!("no later step gives the score `{}`", best_of.by);
            return fault("by", what, "name a later step whose output is `score` or `likelihood`");
        }
        // Steps under other conditions are taken to exclude each other.
        let begins = |step: &Step| step.best_of.is_some() && step.when == self.steps[index].when;
        if self.steps[index + 1..].iter().take_while(|step| !judges(step)).any(begins) {
            return fault("by", "another choice begins before this one ends".into(), "let one end before the other");
        }
        Ok(())
    }

    fn check_output(step: &Step, known: &BTreeSet<&str>, at: &str) -> Result<(), Fault> {
        let templates = Templates::default();
        let source = match &step.output {
            Output::Schema => return Ok(()),
            Output::Template(template) => {
                let place = format!("{at}/output/template");
                return templates.check(template, known).map_err(|(what, remedy)| Fault::new(place, what, remedy));
            }
            Output::Likelihood(likelihood) => {
                let at = format!("{at}/output/likelihood");
                for (key, template) in [("text", Some(&likelihood.text)), ("without", likelihood.without.as_ref())] {
                    let checked = templates.check(template.map_or("", String::as_str), known);
                    checked.map_err(|(what, remedy)| Fault::new(format!("{at}/{key}"), what, remedy))?;
                }
                let compares = likelihood.readings() > 1 && !likelihood.is_alone();
                if !(compares || likelihood.neutral.is_empty() && likelihood.without.is_none()) {
                    let what = "this measure compares with no other prompt";
                    return Err(Fault::new(at, what, "leave `neutral` and `without` out"));
                }
                if compares && likelihood.neutral.is_empty() && likelihood.without.is_none() {
                    return Err(Fault::new(at, "there is nothing to compare with", "add `neutral` or `without`"));
                }
                return Ok(());
            }
            Output::Number(template) => {
                let place = format!("{at}/output/number");
                return templates.check(template, known).map_err(|(what, remedy)| Fault::new(place, what, remedy));
            }
            Output::Score(scale) => return Self::check_scale(scale, known, &format!("{at}/output/score")),
            Output::Choice(texts) if texts.is_empty() || texts.iter().any(String::is_empty) => {
                let what = if texts.is_empty() { "there is nothing to choose from" } else { "a choice is empty" };
                return Err(Fault::new(format!("{at}/output/choice"), what, "list the texts to choose from"));
            }
            Output::Choice(texts) => {
                for (index, text) in texts.iter().enumerate() {
                    let place = format!("{at}/output/choice/{index}");
                    templates.check(text, known).map_err(|(what, remedy)| Fault::new(place, what, remedy))?;
                }
                // As with a regex below.
                if texts.iter().any(|text| is_template(text)) {
                    return Ok(());
                }
                GrammarSource::Choice(texts.clone())
            }
            Output::Text(text) => {
                let mut varies = false;
                for (key, template) in text.templates() {
                    let place = format!("{at}/output/text/{key}");
                    templates.check(template, known).map_err(|(what, remedy)| Fault::new(&place, what, remedy))?;
                    varies |= is_template(template);
                }
                let no_number = |key: &str, text: &str| {
                    let what = format!("`{text}` is no number");
                    Fault::new(format!("{at}/output/text/{key}"), what, "write a number, or a template of one")
                };
                // As with a regex below: a row's own bounds are checked with the row.
                if varies {
                    let some = |text: &str| Ok(if is_template(text) { "0".to_owned() } else { text.to_owned() });
                    return text.bounds(some, no_number).map(drop);
                }
                GrammarSource::Text(text.bounds(|text| Ok(text.to_owned()), no_number)?)
            }
            Output::Regex(pattern) => {
                let place = format!("{at}/output/regex");
                templates.check(pattern, known).map_err(|(what, remedy)| Fault::new(&place, what, remedy))?;
                // What a template makes of it is checked when it is rendered.
                if is_template(pattern) {
                    return Ok(());
                }
                GrammarSource::Regex(pattern.trim_end().to_owned())
            }
        };
        match Program::compile(&source, &Options::default()) {
            Ok(_) => Ok(()),
            Err(cause) => Err(Fault::new(format!("{at}/output"), cause.to_string(), "correct the output")),
        }
    }

    fn check_scale(scale: &Scale, known: &BTreeSet<&str>, at: &str) -> Result<(), Fault> {
        let fault = |key: &str, what: &str, remedy: &str| Err(Fault::new(format!("{at}/{key}"), what, remedy));
        let distinct: BTreeSet<&str> = scale.choices.iter().map(|choice| choice.trim()).collect();
        if distinct.len() < 2 || distinct.len() < scale.choices.len() || distinct.contains("") {
            return fault("choices", "a score takes two or more different choices", "list different texts");
        }
        if !scale.values.is_empty() && scale.values.len() != scale.choices.len() {
            return fault("values", "there is not one value a choice", "list as many values as choices");
        }
        if scale.places && (scale.swapped.is_none() || scale.choices.len() != 2) {
            return fault("places", "places need two choices and a `swapped` prompt", "add them, or leave it out");
        }
        let swapped = scale.swapped.as_deref().unwrap_or_default();
        let checked = Templates::default().check(swapped, known);
        checked.map_err(|(what, remedy)| Fault::new(format!("{at}/swapped"), what, remedy))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;
    use crate::filter::Filters;

    const HEAD: &str = "\
name: sample
schema: instruction-response
attributes: [{name: topic, values: [bread, tides]}]
examples: [{clause: one}, {clause: two}]
steps:
  - {field: instruction, prompt: a, output: {text: {}}}
  - {field: response, prompt: b, output: {text: {}}}
  - {field: quality, prompt: c, output: {score: {choices: [yes it is, no]}}}
filters:
";
    const NAMES: [&str; 5] = ["topic", "clause", "instruction", "response", "quality"];

    /// Every rule with every key that it can have, fields by the names of the recipe above.
    fn every_rule() -> Value {
        let when = json!({"topic": "bread"});
        json!({
            "empty": ["instruction", "response"],
            "length": [{"field": "instruction", "words": [1, 9], "chars": [1, 99]}],
            "sentence_end": [{"field": "response", "allow": ["list"]}, "instruction"],
            "loops": ["response"],
            "echo": ["instruction", "response"],
            "refusal": ["response"],
            "sorry": ["response"],
            "stop_words": ["response"],
            "added": [{"field": "response", "over": "instruction", "words": [1, 9], "when": when}],
            "copied": [{"field": "instruction", "from": ["clause"], "besides": ["response"], "words": 4}],
            "overlap": [
                {"field": "response", "with": "instruction", "least": 0.1, "most": 0.9, "own": 2, "when": when},
            ],
            "phrases": [{"field": "response", "phrases": ["the user"], "when": when}],
            "prompt_leak": {"fields": ["instruction"], "phrases": ["given prompt"]},
            "language": [{"field": "response", "is": "en", "confidence": 0.4}],
            "judged": [{"score": "quality", "least": 0.1, "most": 0.9, "reason": "judged"}],
            "pii": {"fields": ["response"], "action": "mask", "kinds": ["email"]},
            "closed_by_budget": true,
            "tension": {"mean": 0.5, "max": 0.9},
            "decontaminate": {
                "fields": ["instruction"], "files": ["test.jsonl"], "item_fields": ["question"], "ngram": 8, "coverage": 0.5,
            },
            "distinct": "instruction",
            "exact": ["instruction", "response"],
            "near": {"fields": ["instruction"], "threshold": 0.8, "shingles": "chars"},
            "rouge_l": {"fields": ["instruction"], "threshold": 0.7},
            "semantic": {"fields": ["instruction"], "threshold": 0.9, "model": "all-minilm-l6-v2"},
        })
    }

    fn told(rules: &Value) -> Result<(), String> {
        let rules = rules.as_object().expect("keys").iter();
        let text: String = rules.map(|(key, rule)| format!("  {key}: {rule}\n")).collect();
        Recipe::parse(&format!("{HEAD}{text}"), Path::new("r.yaml")).map(drop).map_err(|error| error.to_string())
    }

    /// The values and keys in `tree` that are names of the recipe, by pointer.
    fn places(tree: &Value, at: &str, found: &mut Vec<(String, String)>) {
        let below: Vec<(String, &Value)> = match tree {
            Value::String(name) if NAMES.contains(&name.as_str()) => return found.push((at.into(), name.clone())),
            Value::Array(list) => (0..).map(|index: usize| index.to_string()).zip(list).collect(),
            Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), value)).collect(),
            _ => return,
        };
        for (key, value) in below {
            let place = format!("{at}/{key}");
            if NAMES.contains(&key.as_str()) {
                found.push((place.clone(), key));
            }
            places(value, &place, found);
        }
    }

    /// `tree` with the name at `at` misspelt as `wrong`; gives where it then stands.
    fn misspell(tree: &mut Value, at: &str, wrong: &str) -> String {
        let (parent, key) = at.rsplit_once('/').expect("a pointer");
        let value = tree.pointer_mut(at).expect("a place");
        if value.as_str().is_some_and(|name| NAMES.contains(&name)) && !NAMES.contains(&key) {
            *value = wrong.into();
            return at.to_owned();
        }
        let map = tree.pointer_mut(parent).and_then(Value::as_object_mut).expect("a condition");
        let value = map.remove(key).expect("a key");
        map.insert(wrong.to_owned(), value);
        format!("{parent}/{wrong}")
    }

    #[test]
    fn every_misspelt_field_of_every_rule_is_refused_with_its_line() {
        let rules = every_rule();
        assert_eq!(told(&rules), Ok(()));
        let mut found = Vec::new();
        places(&rules, "", &mut found);
        for (at, name) in &found {
            let mut rules = rules.clone();
            let key = at.split('/').nth(1).expect("a key");
            let line =
                HEAD.lines().count() + 1 + rules.as_object().expect("keys").keys().position(|k| k == key).expect("it");
            let wrong = format!("{}x{}", &name[..3], &name[3..]);
            let place = misspell(&mut rules, at, &wrong);
            let told = told(&rules).expect_err(at);
            assert!(told.starts_with(&format!("r.yaml: line {line}: /filters{place}: no ")), "{at}: {told}");
            assert!(told.ends_with(&format!("`{wrong}`; did you mean `{name}`?")), "{at}: {told}");
        }
    }

    #[test]
    fn the_rules_above_are_all_rules_with_all_their_keys() {
        let rules = every_rule();
        let names: Vec<&str> = rules.as_object().expect("keys").keys().map(String::as_str).collect();
        assert_eq!(Filters::default().rules().iter().map(|(key, _)| *key).collect::<Vec<_>>(), names);
        let schema = schemars::schema_for!(Filters).to_value();
        for (key, property) in schema["properties"].as_object().expect("properties") {
            let property = property.to_string();
            let Some((_, named)) = property.split_once("#/$defs/") else { continue };
            let name = named.split('"').next().expect("a name");
            let rule = rules[key].get(0).unwrap_or(&rules[key]);
            for part in schema["$defs"][name]["properties"].as_object().expect("properties").keys() {
                assert!(rule.get(part).is_some(), "{key}.{part} is not tried");
            }
        }
    }
}
