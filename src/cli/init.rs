//! `instil init`: a commented run file to begin with, on stdout.

use crate::Result;
use crate::recipe::builtin;
use crate::run::file;
use clap::Args;

use super::console::Answer;

const EXAMPLES: &str = "\
Examples:
  instil init > run.yaml
  instil validate -c run.yaml && instil preview -c run.yaml -n 3 && instil generate -c run.yaml -o out
  instil init --schema > run.schema.json       beside run.yaml, for the editor
  instil init --recipe instruction-response > my-recipe.yaml";

/// Print a commented run file, or a built-in recipe to copy and edit.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct InitArguments {
    /// A built-in recipe instead of a run file.
    #[arg(long, value_name = "NAME")]
    recipe: Option<String>,
    /// The JSON Schema of run files instead: editors complete and check with it.
    #[arg(long, conflicts_with = "recipe")]
    schema: bool,
}

/// Prints it.
pub(super) fn run(arguments: &InitArguments) -> Result<Answer> {
    if arguments.schema {
        let text = format!("{:#}\n", file::schema());
        return Ok(Answer::written(text.clone(), text));
    }
    Ok(Answer::text(match &arguments.recipe {
        Some(name) => builtin::recipe_text(name)?,
        None => builtin::RUN_FILE,
    }))
}
