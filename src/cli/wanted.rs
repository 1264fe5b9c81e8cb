//! What a run is to make, before its models are known: from a run file and flags, or from the run that is gone on with.
//! With the models it becomes the plan, whole and at once.

use crate::catalog::Catalog;
use crate::catalog::source::Places;
use crate::plan::{ModelUsed, Plan, SeedsUsed, Shard};
use crate::recipe::Recipe;
use crate::run::file::Source;
use crate::{Error, Result};
use instil_model::model::Arithmetic;
use serde_json::Value;

use super::making::MakingOptions;
use super::options::{Chat, Engine, ModelOptions};
use super::run_options::RunOptions;

/// Rows when nothing says how many.
const ROWS: u32 = 8;

/// Everything about a run but what its models are found to be.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// Version of the program that resolved it.
    pub version: String,
    /// How many rows.
    pub rows: u32,
    /// That many are tried, however many of them are accepted.
    pub tries: bool,
    /// Which of the rows are made here.
    pub shard: Option<Shard>,
    /// Seed of every draw.
    pub seed: u64,
    /// The constraint engine.
    pub engine: Engine,
    /// The schema that every row satisfies.
    pub schema: Value,
    /// The data set that rows are made from.
    pub seeds: Option<SeedsUsed>,
    /// The recipe, with all changes in it.
    pub recipe: Recipe,
    /// The model, and where it runs.
    pub model: ModelOptions,
    /// Another model that gives the scores.
    pub judge: Option<String>,
}

/// The models of a run, as found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Models {
    /// The model.
    pub model: ModelUsed,
    /// The model that gives the scores.
    pub judge: Option<ModelUsed>,
    /// The sentence embedder.
    pub embedder: Option<ModelUsed>,
}

impl Wanted {
    /// What a run file with the flags in it asks for.
    ///
    /// # Errors
    /// When they do not fit together, or there is no such model.
    pub(super) fn planned(run: &RunOptions, making: &MakingOptions, source: &Source) -> Result<Self> {
        let resolved = source.resolve()?;
        let model = run.model_of(source)?;
        let catalog = Catalog::load(&Places::from_environment())?;
        catalog.named(model.name()).map_err(|cause| source.at("/model", model.name(), cause))?;
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            rows: source.file.rows.unwrap_or(ROWS),
            tries: false,
            shard: None,
            seed: source.file.seed.unwrap_or(0),
            engine: making.engine.unwrap_or(Engine::Instil),
            schema: resolved.schema,
            seeds: None,
            recipe: resolved.recipe,
            model,
            judge: making.judge_model.clone(),
        })
    }

    /// What the run of `plan` still wants. It goes on in its own engine and arithmetic; flags that name others make it
    /// another plan, which is refused.
    ///
    /// # Errors
    /// When the plan names an engine that is not there.
    pub(crate) fn standing(mut plan: Plan, run: &RunOptions, making: &MakingOptions) -> Result<Self> {
        run.give_room(&mut plan.recipe)?;
        let flags = run.model_flags().clone();
        let model = ModelOptions {
            model: Some(plan.model.reference().into_owned()),
            reference: flags.reference || plan.model.arithmetic == Arithmetic::F32Cpu,
            chat: Chat::standing(plan.model.chat.as_ref()),
            quantize: flags.quantize.clone().or_else(|| plan.model.quantised.clone()),
            ..flags
        };
        let judge = || Some(plan.judge.as_ref()?.reference().into_owned());
        Ok(Self {
            rows: run.rows().unwrap_or(plan.rows),
            tries: plan.tries && run.rows().is_none(),
            engine: making.engine.map_or_else(|| Engine::named(&plan.engine), Ok)?,
            judge: making.judge_model.clone().or_else(judge),
            model,
            version: plan.version,
            shard: plan.shard,
            seed: plan.seed,
            schema: plan.schema,
            seeds: plan.seeds,
            recipe: plan.recipe,
        })
    }

    /// Refuses a recipe that makes its rows from a data set, where none is named.
    ///
    /// # Errors
    /// When there is such a recipe and no data set.
    pub(crate) fn check_seeds(&self) -> Result<()> {
        if self.recipe.seeds.is_none() || self.seeds.is_some() {
            return Ok(());
        }
        let name = &self.recipe.name;
        let what = format!("the recipe {name} makes its rows from those of a data set");
        Err(Error::usage(what, format!("name one: `instil {} DATA --recipe …`", self.recipe.verb())))
    }

    /// The plan of it with `models`.
    pub(super) fn plan(self, models: Models) -> Plan {
        Plan {
            version: self.version,
            rows: self.rows,
            tries: self.tries,
            shard: self.shard,
            seed: self.seed,
            model: models.model,
            judge: models.judge,
            embedder: models.embedder,
            engine: self.engine.name().to_owned(),
            schema: self.schema,
            seeds: self.seeds,
            recipe: self.recipe,
            retries: 0,
        }
    }
}
