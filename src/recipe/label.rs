//! The recipe that observes attributes: one judging step an attribute, over rows that are there.

use std::fmt::Write;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::attributes::Attribute;
use super::{DrawsOverride, Form, Output, Recipe, Scale, Step};
use crate::container::Rows;
use crate::error::{Error, Result};

/// Which text of a row is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Observed {
    /// What is asked, with its input.
    #[default]
    Instruction,
    /// The answer.
    Response,
    /// Both.
    Both,
}

/// Values of an attribute that can be told apart by reading; more make a prompt too long.
const MOST_VALUES: usize = 64;

/// A recipe that labels rows with `attributes`. `examples` are labelled rows to show: texts under `text`, and
/// values under the attributes' names.
///
/// # Errors
/// When an attribute has no values to choose from, or too many.
pub(crate) fn label(attributes: &[Attribute], observed: Observed, examples: Vec<Map<String, Value>>) -> Result<Recipe> {
    let steps = attributes.iter().map(|attribute| step(attribute, observed, &examples)).collect::<Result<_>>()?;
    let recipe: Recipe = serde_json::from_value(json!({
        "name": "label",
        "description": "Observed attributes of rows that are there.",
        "schema": "any",
        "max_attempts": 1,
        "seeds": { "rounds": 1, "keep": true },
        "example_sets": 1,
        "shots": examples.len(),
        "examples": examples,
        "steps": [],
    }))
    .expect("the skeleton is a recipe");
    let recipe = Recipe { steps, ..recipe };
    recipe.check().map_err(|fault| fault.into_usage("label"))?;
    Ok(recipe)
}

fn step(attribute: &Attribute, observed: Observed, examples: &[Map<String, Value>]) -> Result<Step> {
    let name = &attribute.name;
    attribute.check(&[], "").map_err(|fault| fault.into_usage(&format!("attribute {name}")))?;
    let values: Vec<String> = attribute.all_values().map(plain).collect();
    if attribute.is_continuous() || values.len() < 2 || values.len() > MOST_VALUES {
        let what = format!("attribute {name} has {} values to choose from", values.len());
        return Err(Error::usage(what, format!("give it 2 to {MOST_VALUES} values")));
    }
    let title = title(name);
    let mut prefix = format!("Each text below is labelled. {title}: {}.\n\n", values.join(", "));
    for example in examples.iter().filter(|example| example.contains_key(name)) {
        let text = example.get("text").map(plain).unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = write!(prefix, "Text: {}\n{title}: {}\n\n", one_line(&text), plain(&example[name]));
    }
    // Braces of data are no template.
    let prefix = prefix.replace("{{", "{ {").replace("{%", "{ %").replace("{#", "{ #");
    let text = match observed {
        Observed::Instruction => "{{ (seed.instruction ~ ' ' ~ seed.input) | split | join(' ') }}",
        Observed::Response => "{{ seed.response | split | join(' ') }}",
        Observed::Both => {
            "{{ (seed.instruction ~ ' ' ~ seed.input) | split | join(' ') }} / {{ seed.response | split | join(' ') }}"
        }
    };
    let nothing = json!({ "seed": { "instruction": "N/A", "input": "", "response": "N/A" } });
    let numbers: Option<Vec<f64>> = attribute.all_values().map(Value::as_f64).collect();
    Ok(Step {
        field: name.clone(),
        aside: false,
        when: Map::new(),
        form: Form::Completion,
        prefix,
        example: None,
        prompt: format!("Text: {text}\n{title}:"),
        begins: String::new(),
        output: Output::Score(Scale {
            choices: values.iter().map(|value| format!(" {value}")).collect(),
            values: numbers.unwrap_or_default(),
            neutral: nothing.as_object().cloned().unwrap_or_default(),
            ..Scale::default()
        }),
        style: super::Style::Natural,
        sampling: DrawsOverride::default(),
        stop: String::new(),
        best_of: None,
        max_tokens: 1,
    })
}

/// The examples of a file of labelled rows, in any container, with the text under `text` or `instruction`.
///
/// # Errors
/// When it cannot be read, or a line is no such row.
pub(crate) fn read_examples(path: &Path, attributes: &[Attribute]) -> Result<Vec<Map<String, Value>>> {
    let mut rows = Rows::open(path)?;
    let mut examples = Vec::new();
    while let Some(row) = rows.next()? {
        let refuse = |what: String| {
            let what = format!("line {}: {}", row.place, row.told(what));
            Error::input(path, what, "write {\"text\": …, \"ATTRIBUTE\": \"value\"}")
        };
        let row = row.content.fields().map_err(refuse)?;
        let text = ["text", "instruction", "prompt"].iter().find_map(|name| row.get(*name)?.as_str());
        let mut example =
            Map::from_iter([("text".to_owned(), json!(text.ok_or_else(|| refuse("there is no `text`".into()))?))]);
        for attribute in attributes {
            let Some(value) = row.get(&attribute.name) else { continue };
            let known = attribute.all_values().find(|known| plain(known) == plain(value));
            let known = known.ok_or_else(|| refuse(format!("{value} is no value of {}", attribute.name)))?;
            example.insert(attribute.name.clone(), known.clone());
        }
        examples.push(example);
    }
    Ok(examples)
}

fn title(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect()).replace('_', " ")
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A value as it is written in a prompt.
pub(crate) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attribute_becomes_a_judging_step() {
        let attributes = [
            Attribute::of("tone", vec![json!("dry"), json!("warm")]),
            Attribute::of("level", vec![json!(1), json!(3)]),
        ];
        let shown = json!({"text": "Say {{ hello }}\nnow", "tone": "warm"});
        let shown = vec![shown.as_object().expect("an object").clone()];
        let recipe = label(&attributes, Observed::Instruction, shown).expect("a recipe");
        assert!(
            recipe.steps[0].prefix.ends_with("Text: Say { { hello }} now\nTone: warm\n\n"),
            "{:?}",
            recipe.steps[0]
        );
        let Output::Score(scale) = &recipe.steps[1].output else { panic!("a score") };
        assert_eq!((scale.choices.clone(), scale.values.clone()), (vec![" 1".into(), " 3".into()], vec![1.0, 3.0]));
        assert!(label(&[Attribute::of("one", vec![json!("a")])], Observed::Both, Vec::new()).is_err());
    }
}
