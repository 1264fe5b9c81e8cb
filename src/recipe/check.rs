//! What a recipe must be before a row is made with it: every finding names its place.

use std::collections::BTreeSet;

use super::prompt::Templates;
use super::{Fault, Form, Output, Recipe, Step};
use crate::grammar::{GrammarSource, Options, Program};

/// Names that every template can use.
const ALWAYS: &[&str] = &["schema"];

impl Recipe {
    /// Finds what cannot make a row.
    ///
    /// # Errors
    /// The first fault, with the pointer to it.
    pub fn check(&self) -> Result<(), Fault> {
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
        self.assignments(0)?;
        let mut known: BTreeSet<&str> = self.attributes.iter().map(|attribute| attribute.name.as_str()).collect();
        known.extend(ALWAYS);
        for (index, step) in self.steps.iter().enumerate() {
            let at = format!("/steps/{index}");
            if self.steps[..index].iter().any(|other| other.field == step.field) {
                let what = format!("another step fills `{}` already", step.field);
                return Err(Fault::new(format!("{at}/field"), what, "choose another field"));
            }
            self.check_step(step, &known, &at)?;
            known.insert(&step.field);
        }
        if self.steps.iter().all(|step| step.aside) {
            return fault("/steps", "every step is `aside`, so rows have no fields", "let one step fill a field");
        }
        Ok(())
    }

    fn check_step(&self, step: &Step, known: &BTreeSet<&str>, at: &str) -> Result<(), Fault> {
        let templates = Templates::default();
        let check = |template: &str, known: &BTreeSet<&str>, key: &str| {
            templates.check(template, known).map_err(|(what, remedy)| Fault::new(format!("{at}/{key}"), what, remedy))
        };
        let field = &step.field;
        if field.trim().is_empty() || ["id", "meta"].contains(&field.as_str()) {
            let what =
                if field.trim().is_empty() { "the field has no name".into() } else { format!("`{field}` is taken") };
            return Err(Fault::new(format!("{at}/field"), what, "choose another name"));
        }
        if step.max_tokens == 0 {
            return Err(Fault::new(format!("{at}/max_tokens"), "`max_tokens` is 0", "use 1 or more"));
        }
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

    fn check_output(step: &Step, known: &BTreeSet<&str>, at: &str) -> Result<(), Fault> {
        let templates = Templates::default();
        let source = match &step.output {
            Output::Schema => return Ok(()),
            Output::Choice(texts) if texts.is_empty() || texts.iter().any(String::is_empty) => {
                let what = if texts.is_empty() { "there is nothing to choose from" } else { "a choice is empty" };
                return Err(Fault::new(format!("{at}/output/choice"), what, "list the texts to choose from"));
            }
            Output::Choice(texts) => GrammarSource::Choice(texts.clone()),
            Output::Text(bounds) => GrammarSource::Text(bounds.clone()),
            Output::Regex(pattern) => {
                let place = format!("{at}/output/regex");
                templates.check(pattern, known).map_err(|(what, remedy)| Fault::new(&place, what, remedy))?;
                // What a template makes of it is checked when it is rendered.
                if pattern.contains("{{") || pattern.contains("{%") {
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
}
