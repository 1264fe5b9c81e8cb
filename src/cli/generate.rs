//! `instil generate`: the main job. Rows into a run directory.

use std::path::{Path, PathBuf};

use crate::plan::Shard;
use crate::run::file::Source;
use crate::run::fill::Gaps;
use crate::{Error, Result};
use clap::Args;

use super::console::{Answer, Console};
use super::making::{MakingOptions, make};
use super::run_options::{RunOptions, ShapeOptions};
use super::wanted::Wanted;

const EXAMPLES: &str = "\
Examples:
  instil generate
  instil generate -n 200 --seed 1 -o out --topic astronomy --topic cooking
  instil generate -n 50 --schema product.schema.json --model ./model.gguf
  instil generate -c run.yaml --set sampling.temperature=0.9 -o out
  instil generate --resume -o out                 go on after a stop, with the run's own settings
  instil generate --resume -n 5000 -o out         grow a run
  instil generate -c run.yaml --shard 1/4 -o s1   one of four parts; `instil merge` joins them

A run directory holds records.jsonl (accepted rows), rejects.jsonl (what was turned down, and why),
run.lock.json (everything that decided the rows), ledger.jsonl (attempts as they end) and throughput.json
(what the clock said of the last session).";

/// Write rows of training data into a run directory.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct GenerateArguments {
    /// Make one part of the rows only, as PART/PARTS.
    #[arg(long, value_name = "PART/PARTS")]
    shard: Option<Shard>,
    /// Fill the gaps of a data set: plan the rows so that it and they together keep the attributes' shares. Its
    /// rows are labelled (`instil label`), or a run's, or have fields named as the attributes. Without -n, as many
    /// rows as it takes.
    #[arg(long, value_name = "FILE")]
    fill: Option<PathBuf>,
    #[command(flatten)]
    making: MakingOptions,
    #[command(flatten)]
    shape: ShapeOptions,
    #[command(flatten)]
    run: RunOptions,
}

/// Makes the rows.
pub(super) fn run(arguments: &GenerateArguments, console: &Console) -> Result<Answer> {
    let mut source = arguments.run.source(&arguments.shape, None)?;
    let output = arguments.making.output.clone().or_else(|| source.file.output.clone());
    let decides = arguments.run.decide_rows(&arguments.shape) || arguments.fill.is_some();
    let standing = if decides { None } else { arguments.making.standing(output.as_deref(), &arguments.run)? };
    if let Some(data) = &arguments.fill {
        fill(&mut source, data, console)?;
    }
    let wanted = match standing {
        Some(standing) => standing,
        None => Wanted::planned(&arguments.run, &arguments.making, &source)?,
    };
    wanted.check_seeds()?;
    let wanted = Wanted { shard: arguments.shard.or(wanted.shard), ..wanted };
    make(wanted, output, &arguments.making, console).map(|(_, answer)| answer)
}

/// Plans for what `data` lacks.
fn fill(source: &mut Source, data: &Path, console: &Console) -> Result<()> {
    let recipe = source.resolve()?.recipe;
    let gaps = Gaps::find(data, &recipe, source.file.seed.unwrap_or(0), source.file.rows)?;
    let Gaps { rows, without, before, after, lacking, .. } = &gaps;
    let left = if *without == 0 { String::new() } else { format!("; {without} rows lack a planned value") };
    console.note(&format!(
        "{}: {rows} rows, total variation {before:.3} from the target; {after:.3} with {lacking} more{left}",
        data.display()
    ));
    if gaps.lacking == 0 {
        return Err(Error::input(data, "the data set is balanced already", "ask for rows with -n"));
    }
    source.file.rows = Some(gaps.lacking);
    source.file.held = Some(gaps.held);
    Ok(())
}
