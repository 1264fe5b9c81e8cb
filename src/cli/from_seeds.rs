//! Commands that make rows from the rows of a data set: what they share.

use std::path::{Path, PathBuf};

use crate::export::form::Pair;
use crate::plan::SeedsUsed;
use crate::recipe::Attribute;
use crate::run::file::Source;
use crate::run::seeds::Seeds;
use crate::{Error, Result};
use clap::Args;

use super::console::{Answer, Console};
use super::making::{MakingOptions, make};
use super::run_options::{RunOptions, ShapeOptions};
use super::wanted::Wanted;

/// A data set, and the run that is made from it.
#[derive(Debug, Args)]
pub(super) struct FromSeeds {
    /// The data set: JSON Lines, JSON, CSV or Parquet, in Alpaca, ShareGPT, messages or plain form. With
    /// --resume it may be left out.
    pub data: Option<PathBuf>,
    /// The field of plain rows that is the instruction [default: instruction, prompt, question, …].
    #[arg(long, value_name = "FIELD", requires = "response_field")]
    prompt_field: Option<String>,
    /// The field of plain rows that is the response.
    #[arg(long, value_name = "FIELD", requires = "prompt_field")]
    response_field: Option<String>,
    /// A row that cannot be read ends the command, rather than being left out.
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    pub making: MakingOptions,
    #[command(flatten)]
    pub run: RunOptions,
}

/// What a command makes of the run file and its recipe.
pub(crate) struct Change<'a> {
    /// Whether flags of its own ask for it; a run that is gone on with has its recipe already.
    pub is_asked: bool,
    /// The change.
    pub make: &'a dyn Fn(&mut Source) -> Result<()>,
}

impl FromSeeds {
    /// Makes the rows: by `recipe` unless flags or the run file name another, with `change` made in what is planned;
    /// gives the run directory, and the answer.
    ///
    /// # Errors
    /// When the data set or the run cannot be used.
    pub(super) fn make(&self, recipe: &str, change: &Change<'_>, console: &Console) -> Result<(PathBuf, Answer)> {
        let mut source = self.run.source(&ShapeOptions::default(), Some(recipe))?;
        let output = self.making.output.clone().or_else(|| source.file.output.clone());
        let shape = ShapeOptions::default();
        let decides = change.is_asked || self.prompt_field.is_some() || self.run.decide_rows(&shape);
        if !decides
            && self.data.is_none()
            && let Some(standing) = self.making.standing(output.as_deref(), &self.run)?
        {
            return make(standing, output, &self.making, console);
        }
        if self.data.is_none() && self.making.standing(output.as_deref(), &self.run)?.is_some() {
            let what = "a run is gone on with as it was planned, and a flag asks for something else";
            let remedy = "change its room alone (--max-tokens, --set max_attempts=N, --retry, -n), or name the data set \
                          again with another -o";
            return Err(Error::usage(what, remedy));
        }
        let Some(data) = &self.data else {
            return Err(Error::usage("no data set is named", "give a file of rows, or --resume -o DIR to go on"));
        };
        (change.make)(&mut source)?;
        let wanted = Wanted::planned(&self.run, &self.making, &source)?;
        let Some(from) = wanted.recipe.seeds else {
            let what = format!("the recipe {} makes its rows from nothing", wanted.recipe.name);
            return Err(Error::usage(what, "use `instil generate`, or add a `seeds:` key to the recipe"));
        };
        let (found, used) = self.read(data, console)?;
        let tries = source.file.rows.is_none();
        let rows = if tries { found * u32::from(from.rounds) } else { wanted.rows };
        make(Wanted { rows, tries, seeds: Some(used), ..wanted }, output, &self.making, console)
    }

    /// Reads the data set: how many rows can be used, and what a plan notes of it.
    fn read(&self, data: &Path, console: &Console) -> Result<(u32, SeedsUsed)> {
        let pair = Pair { prompt: self.prompt_field.clone(), response: self.response_field.clone() };
        let (seeds, used, found) = Seeds::read(data, &pair, self.strict)?;
        let forms: Vec<&str> = found.forms.keys().map(|form| form.name()).collect();
        console.note(&format!("{} rows ({}) from {}", seeds.len(), forms.join(", "), data.display()));
        found.notes().iter().for_each(|note| console.note(&format!("{}: {note}", data.display())));
        Ok((seeds.len(), used))
    }
}

/// Weights of an attribute's values, as `value=2,other=1`; values that are not named get none.
///
/// # Errors
/// When a value does not exist, or a weight is none.
pub(super) fn weigh(attribute: &mut Attribute, weights: &str, flag: &str) -> Result<()> {
    let names: Vec<String> =
        attribute.values.iter().map(|value| value.as_str().unwrap_or_default().to_owned()).collect();
    let mut given = vec![0.0; names.len()];
    for part in weights.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
        let Some(at) = names.iter().position(|known| known == name.trim()) else {
            let remedy = match crate::error::nearest(name, names.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("use one of: {}", names.join(", ")),
            };
            return Err(Error::usage(format!("{flag}: there is no {} `{name}`", attribute.name), remedy));
        };
        given[at] = weight.trim().parse().ok().filter(|weight: &f64| weight.is_finite() && *weight >= 0.0).ok_or_else(
            || Error::usage(format!("{flag}: `{weight}` is no weight"), "write a number, as in deepen=2"),
        )?;
    }
    if given.iter().all(|weight| *weight == 0.0) {
        return Err(Error::usage(format!("{flag} leaves nothing"), "give at least one a weight"));
    }
    attribute.weights = given;
    Ok(())
}
