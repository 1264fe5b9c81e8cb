//! What a run is to be: a run file and the flags that change it, for every command that plans one.

use std::path::PathBuf;

use clap::Args;
use instil::recipe::{Attribute, DrawsOverride};
use instil::run::file::{RecipeChoice, Source};
use instil::{Error, Result};
use serde_json::json;

use super::options::{ModelOptions, SamplingOptions};

/// A run file and flags.
#[derive(Debug, Clone, Args)]
pub struct RunOptions {
    /// A run file (YAML; `instil init` writes one); flags win over it.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set one value of the run file, as in sampling.top_k=40 or recipe.steps.response.max_tokens=128;
    /// repeat for more.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// How many rows [default: 8].
    #[arg(short = 'n', long)]
    rows: Option<u32>,
    /// A recipe file, or the name of a built-in recipe.
    #[arg(long, value_name = "FILE")]
    recipe: Option<String>,
    /// Most tokens of one text [default: the recipe's].
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    sampling: SamplingOptions,
}

/// What rows made from nothing are about.
#[derive(Debug, Clone, Default, Args)]
pub struct ShapeOptions {
    /// A JSON Schema: each row is a JSON object under it.
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
    /// A topic to write about; repeat for more [default: the recipe's].
    #[arg(long, value_name = "TEXT")]
    topic: Vec<String>,
}

impl ShapeOptions {
    /// Whether anything was said.
    pub fn decides_rows(&self) -> bool {
        self.schema.is_some() || !self.topic.is_empty()
    }
}

impl RunOptions {
    /// Whether anything was said that decides what stands in a row.
    pub fn decide_rows(&self) -> bool {
        let sampling = &self.sampling;
        self.config.is_some()
            || !self.set.is_empty()
            || self.recipe.is_some()
            || self.max_tokens.is_some()
            || self.model.model.is_some()
            || sampling.seed.is_some()
            || sampling.overrides() != DrawsOverride::default()
    }

    /// How many rows the flags ask for.
    pub fn rows(&self) -> Option<u32> {
        self.rows
    }

    /// The flags about the model alone.
    pub fn model_flags(&self) -> &ModelOptions {
        &self.model
    }

    /// The run file with the flags in it; `recipe` is the one to use where nothing names one.
    ///
    /// # Errors
    /// When the file cannot be read, or a flag cannot be what it is.
    pub fn source(&self, shape: &ShapeOptions, recipe: Option<&str>) -> Result<Source> {
        let mut source = self.config.as_deref().map(Source::read).transpose()?.unwrap_or_default();
        if let Some(name) = recipe {
            source.file.recipe.get_or_insert_with(|| RecipeChoice::Named(name.to_owned()));
        }
        for assignment in &self.set {
            source.set(assignment).map_err(|error| match error {
                // A recipe that cannot be read says so by itself.
                Error::Usage { what, remedy } if what.starts_with(assignment.as_str()) => {
                    Error::usage(format!("--set {what}"), remedy)
                }
                other => other,
            })?;
        }
        if self.rows == Some(0) {
            return Err(Error::usage("-n is 0", "ask for 1 row or more"));
        }
        if self.max_tokens == Some(0) {
            return Err(Error::usage("--max-tokens is 0", "use 1 or more"));
        }
        self.sampling.check()?;
        self.model.check()?;
        // Paths in flags begin where the user is, those in a file where the file is.
        let here = match &self.config {
            Some(_) => std::path::absolute(".").map_err(|cause| Error::io("find", ".", cause))?,
            None => PathBuf::new(),
        };
        let file = &mut source.file;
        file.rows = self.rows.or(file.rows);
        file.seed = self.sampling.seed.or(file.seed);
        file.model = self.model.model.clone().or(file.model.take());
        file.device = self.model.device.clone().or(file.device.take());
        file.batch = self.model.batch.or(file.batch);
        file.max_tokens = self.max_tokens.or(file.max_tokens);
        file.sampling = self.sampling.overrides().or(file.sampling);
        if let Some(schema) = &shape.schema {
            file.schema = Some(here.join(schema));
        }
        if let Some(recipe) = &self.recipe {
            let path = here.join(recipe);
            let is_path = path.exists() || path.extension().is_some();
            let name = if is_path { path.to_string_lossy().into_owned() } else { recipe.clone() };
            file.recipe = Some(RecipeChoice::Named(name));
        }
        if !shape.topic.is_empty() {
            if shape.topic.iter().any(|topic| topic.trim().is_empty()) {
                return Err(Error::usage("a --topic is empty", "name what the rows should be about"));
            }
            let topics = Attribute::of("topic", shape.topic.iter().map(|topic| json!(topic.trim())).collect());
            match file.attributes.iter_mut().find(|attribute| attribute.name == "topic") {
                Some(attribute) => *attribute = topics,
                None => file.attributes.push(topics),
            }
        }
        Ok(source)
    }

    /// The model that `source` names, with the flags about where it runs.
    pub fn model_of(&self, source: &Source) -> ModelOptions {
        let file = &source.file;
        ModelOptions { model: file.model.clone(), device: file.device.clone(), batch: file.batch, ..self.model.clone() }
    }
}
