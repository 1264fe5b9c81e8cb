//! What a run is to be: a run file and the flags that change it, for every command that plans one.

use std::path::PathBuf;

use crate::recipe::{Attribute, Recipe};
use crate::run::file::{RecipeChoice, RunFile, Source};
use crate::{Error, Result};
use clap::Args;
use serde_json::{Value, json};

use super::options::{Chat, ChatOptions, ModelOptions, SamplingOptions};

/// A run file and flags.
#[derive(Debug, Clone, Args)]
pub(crate) struct RunOptions {
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
    chat: ChatOptions,
    #[command(flatten)]
    sampling: SamplingOptions,
}

/// What rows made from nothing are about.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ShapeOptions {
    /// A JSON Schema: each row is a JSON object under it.
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
    /// A folder of schemas that the schema refers to by their addresses; nothing is fetched.
    #[arg(long, value_name = "DIR")]
    retrieve: Option<PathBuf>,
    /// A topic to write about; repeat for more [default: the recipe's].
    #[arg(long, value_name = "TEXT")]
    topic: Vec<String>,
}

impl RunOptions {
    /// Whether anything was said that decides what stands in a row; what cannot be said without a run file does.
    pub(crate) fn decide_rows(&self, shape: &ShapeOptions) -> bool {
        self.config.is_some() || self.said(shape).map_or(true, |said| said.decides_rows())
    }

    /// What the flags alone say.
    fn said(&self, shape: &ShapeOptions) -> Result<RunFile> {
        let mut source = Source::default();
        for assignment in &self.set {
            source.set(assignment)?;
        }
        source.lay_over(&self.overlay(shape)?);
        Ok(source.file)
    }

    /// Gives the recipe of a run that is gone on with the room that the flags ask for.
    ///
    /// # Errors
    /// When that is less than it has.
    pub(crate) fn give_room(&self, recipe: &mut Recipe) -> Result<()> {
        let said = self.said(&ShapeOptions::default())?;
        if let Some(tokens) = said.max_tokens {
            let most = recipe.steps.iter().map(|step| step.max_tokens).max().unwrap_or(0);
            if recipe.steps.iter().all(|step| step.max_tokens > tokens) {
                let what = format!("the run that stands here gives its texts {most} tokens, and {tokens} is less");
                return Err(Error::usage(what, format!("use --max-tokens {most} or more, or leave it out")));
            }
            recipe.steps.iter_mut().for_each(|step| step.max_tokens = step.max_tokens.max(tokens));
        }
        if let Some(attempts) = said.max_attempts {
            if attempts < recipe.max_attempts {
                let most = recipe.max_attempts;
                let what = format!("the run that stands here tries a row {most} times, and {attempts} is less");
                return Err(Error::usage(what, format!("use max_attempts={most} or more, or leave it out")));
            }
            recipe.max_attempts = attempts;
        }
        Ok(())
    }

    /// How many rows the flags ask for.
    pub(super) fn rows(&self) -> Option<u32> {
        self.rows
    }

    /// The flags about the model alone.
    pub(crate) fn model_flags(&self) -> &ModelOptions {
        &self.model
    }

    /// The run file with the flags in it; `recipe` is the one to use where nothing names one.
    ///
    /// # Errors
    /// When the file cannot be read, or a flag cannot be what it is.
    pub(super) fn source(&self, shape: &ShapeOptions, recipe: Option<&str>) -> Result<Source> {
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
        source.lay_over(&self.overlay(shape)?);
        Ok(source)
    }

    /// What the flags say, as a run file of their own.
    fn overlay(&self, shape: &ShapeOptions) -> Result<RunFile> {
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
        let recipe = self.recipe.as_ref().map(|recipe| {
            let path = here.join(recipe);
            let is_path = path.exists() || path.extension().is_some();
            RecipeChoice::Named(if is_path { path.to_string_lossy().into_owned() } else { recipe.clone() })
        });
        if shape.topic.iter().any(|topic| topic.trim().is_empty()) {
            return Err(Error::usage("a --topic is empty", "name what the rows should be about"));
        }
        let topics: Vec<Value> = shape.topic.iter().map(|topic| json!(topic.trim())).collect();
        Ok(RunFile {
            rows: self.rows,
            seed: self.sampling.seed,
            model: self.model.model.clone(),
            device: self.model.device.clone(),
            batch: self.model.batch,
            thinking: self.chat.thinking,
            chat_template: self.chat.chat_template.as_ref().map(|name| {
                let path = here.join(name);
                if path.exists() { path.to_string_lossy().into_owned() } else { name.clone() }
            }),
            template_variables: self.chat.template_variable.iter().cloned().collect(),
            max_tokens: self.max_tokens,
            sampling: self.sampling.overrides(),
            schema: shape.schema.as_ref().map(|schema| here.join(schema)),
            retrieve: shape.retrieve.as_ref().map(|folder| here.join(folder)),
            recipe,
            attributes: if topics.is_empty() { Vec::new() } else { vec![Attribute::of("topic", topics)] },
            ..RunFile::default()
        })
    }

    /// The model that `source` names, with the flags about where it runs.
    ///
    /// # Errors
    /// When its chat template cannot be read.
    pub(crate) fn model_of(&self, source: &Source) -> Result<ModelOptions> {
        let file = &source.file;
        let (template, variables) = (file.chat_template.as_deref(), file.template_variables.clone());
        let chat = Chat::of(file.thinking, template, variables, source.folder());
        let chat = chat.map_err(|cause| source.at("/chat_template", template.unwrap_or_default(), cause))?;
        let (model, device) = (file.model.clone(), file.device.clone());
        Ok(ModelOptions { model, device, batch: file.batch, chat, ..self.model.clone() })
    }
}
