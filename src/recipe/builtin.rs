//! The recipes and grammars that come with the program.

use std::path::Path;

use super::Recipe;
use crate::error::{Error, Result, nearest};

const RECIPES: &[(&str, &str)] = &[
    ("instruction-response", include_str!("../../recipes/instruction-response.yaml")),
    ("answer", include_str!("../../recipes/answer.yaml")),
    ("evolve", include_str!("../../recipes/evolve.yaml")),
    ("judge", include_str!("../../recipes/judge.yaml")),
    ("vary", include_str!("../../recipes/vary.yaml")),
    ("preference", include_str!("../../recipes/preference.yaml")),
    ("json-row", include_str!("../../recipes/json-row.yaml")),
];

const GRAMMARS: &[(&str, &str)] = &[
    ("instruction-response", include_str!("../../grammars/instruction-response.schema.json")),
    ("instruction-input-response", include_str!("../../grammars/instruction-input-response.schema.json")),
    ("any", include_str!("../../grammars/any.schema.json")),
];

/// A commented run file to begin with.
pub(crate) const RUN_FILE: &str = include_str!("../../recipes/run-file.yaml");

/// The text of a built-in recipe, to copy and edit.
///
/// # Errors
/// When there is none of that name.
pub(crate) fn recipe_text(name: &str) -> Result<&'static str> {
    find(RECIPES, "recipe", name)
}

/// A built-in recipe.
///
/// # Errors
/// When there is none of that name.
pub fn recipe(name: &str) -> Result<Recipe> {
    Recipe::parse(recipe_text(name)?, Path::new(name))
}

/// The text of a bundled grammar (JSON Schema).
///
/// # Errors
/// When there is none of that name.
pub(crate) fn grammar(name: &str) -> Result<&'static str> {
    find(GRAMMARS, "grammar", name)
}

fn find(table: &[(&str, &'static str)], kind: &str, name: &str) -> Result<&'static str> {
    table.iter().find(|entry| entry.0 == name).map(|entry| entry.1).ok_or_else(|| {
        let names: Vec<&str> = table.iter().map(|entry| entry.0).collect();
        let remedy = match nearest(name, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("use one of: {}", names.join(", ")),
        };
        Error::usage(format!("there is no built-in {kind} `{name}`"), remedy)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_parses_and_refers_to_what_is_there() {
        for (name, _) in RECIPES {
            let recipe = recipe(name).expect(name);
            assert_eq!(recipe.name, *name);
        }
        for (name, text) in GRAMMARS {
            assert!(serde_json::from_str::<serde_json::Value>(text).is_ok(), "{name}");
        }
    }
}
