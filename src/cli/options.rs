//! Flags that several commands share.

use std::num::NonZeroUsize;
use std::path::Path;

use crate::plan::ChatUsed;
use crate::recipe::{DrawsOverride, Thinking};
use crate::validator::{self, Validator};
use crate::{Error, Result, disk};
use clap::Args;

use instil_grammar::constraint::{KeyOrder, Settings, Whitespace};
use instil_grammar::grammar::{self, GrammarSource, Program};
use instil_model::decode::Capacity;
use instil_model::model::{LoadOptions, Model};
use instil_model::tokenizer::chat::forms;
use serde_json::{Map, Value};

use super::{MOST_THREADS, machine};

/// Which model, where.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelOptions {
    /// Name of a model (see `instil models list`), a GGUF file, a folder of safetensors, a manifest, or
    /// owner/name[:QUANT][@REVISION] on the Hugging Face hub. [default: smollm2-135m-instruct]
    #[arg(short, long, env = "INSTIL_MODEL")]
    pub model: Option<String>,
    /// auto, cpu, cuda, cuda:N or metal [default: auto].
    #[arg(long)]
    pub device: Option<String>,
    /// Sequences decoded at once [default: 32, on a GPU 256].
    #[arg(long, value_name = "N")]
    pub batch: Option<usize>,
    /// Most memory for keys and values and states, as 512M or 2G; what does not fit waits, and a judge's model
    /// shares it [default: half of what is free, nine tenths on a GPU].
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub kv_memory: Option<usize>,
    /// Threads of the CPU's kernels [default: one a processor].
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Quantise weights of 16 and 32 bits as they are loaded: q8_0, q4_0 or q4_k.
    #[arg(long, value_name = "TYPE")]
    pub quantize: Option<String>,
    /// How the model is asked.
    #[arg(skip)]
    pub chat: Chat,
    /// Compute with the f32 reference instead of the CPU's quantised kernels (slow; for comparison).
    #[arg(long, hide_short_help = true)]
    pub reference: bool,
}

/// How a model is asked in its chat template.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct ChatOptions {
    /// Whether the model thinks before it answers, where its chat template has thoughts: off, on, or most tokens of a
    /// thought. What it thinks is kept apart from the row [default: off].
    #[arg(long, value_name = "off|on|N")]
    pub thinking: Option<Thinking>,
    /// A chat template in place of the one in the model's files: a Jinja file, or the form it was trained on: chatml,
    /// gemma, granite, llama2, llama3, mistral, phi3 or zephyr.
    #[arg(long, value_name = "FILE|NAME")]
    pub chat_template: Option<String>,
    /// A variable that the chat template is given, as in reasoning_effort=high; repeat for more.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_variable)]
    pub template_variable: Vec<(String, Value)>,
}

/// The same, as it was found.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Chat {
    /// Whether the model thinks before what it writes.
    pub thinking: Thinking,
    /// The source of the template, where it is not the one in the model's files.
    pub template: Option<String>,
    /// Variables that it is given.
    pub variables: Map<String, Value>,
}

impl Chat {
    /// How a user asks for it; paths begin in `folder`.
    ///
    /// # Errors
    /// When the template is neither a file nor the name of a form.
    pub(crate) fn of(
        thinking: Option<Thinking>,
        template: Option<&str>,
        variables: Map<String, Value>,
        folder: &Path,
    ) -> Result<Self> {
        let template = template.map(|name| source_of(name, folder)).transpose()?;
        Ok(Self { thinking: thinking.unwrap_or_default(), template, variables })
    }

    /// How the model of a plan was asked.
    pub(crate) fn standing(used: Option<&ChatUsed>) -> Self {
        let used = used.cloned().unwrap_or_default();
        Self { thinking: used.thinking, template: used.template, variables: used.variables }
    }
}

/// The source of the template that `name` names.
fn source_of(name: &str, folder: &Path) -> Result<String> {
    let path = folder.join(name);
    match forms::named(name) {
        Some(form) if !path.exists() => Ok(form.to_owned()),
        None if !path.exists() && !name.contains(['/', '.']) => {
            let names: Vec<&str> = forms::names().collect();
            let what = format!("there is no chat template `{name}`: neither a file nor a form");
            Err(Error::usage(what, format!("name a Jinja file, or one of: {}", names.join(", "))))
        }
        _ => disk::read_text(&path),
    }
}

/// `name=value`; what is no JSON is a text.
fn parse_variable(text: &str) -> std::result::Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("write it as name=value")?;
    Ok((name.trim().to_owned(), serde_json::from_str(value).unwrap_or_else(|_| value.into())))
}

/// Rows nest no deeper than the usual JSON readers take.
const READERS_DEPTH: u32 = 120;
/// Memory for keys and values where the system does not say what is free.
const USUAL_KV_MEMORY: usize = 4 << 30;

fn parse_size(text: &str) -> std::result::Result<usize, String> {
    let (digits, shift) = match text.trim_end_matches(['B', 'b', 'i']).char_indices().last() {
        Some((at, 'K' | 'k')) => (&text[..at], 10),
        Some((at, 'M' | 'm')) => (&text[..at], 20),
        Some((at, 'G' | 'g')) => (&text[..at], 30),
        _ => (text, 0),
    };
    let number: usize = digits.trim().parse().map_err(|_| format!("`{text}` is no size; write 512M or 2G"))?;
    match number.checked_mul(1 << shift) {
        Some(size) if size > 0 => Ok(size),
        _ => Err(format!("`{text}` is no size that a machine has")),
    }
}

/// Half of the memory that this process may still take.
fn half_of_free_memory() -> Option<usize> {
    // Of the machine and its control group (a container's limit), and of the process itself.
    let machine = machine::memory().map(|memory| memory.available);
    let free = [machine, machine::address_space()].into_iter().flatten().min()?;
    usize::try_from(free / 2).ok()
}

impl ModelOptions {
    /// The model, as the user names it.
    pub(super) fn name(&self) -> &str {
        self.model.as_deref().unwrap_or(crate::catalog::DEFAULT_MODEL)
    }

    /// The device, as the user names it.
    pub(super) fn device(&self) -> &str {
        self.device.as_deref().unwrap_or("auto")
    }

    /// Refuses what no run can follow.
    pub(super) fn check(&self) -> Result<()> {
        if self.batch == Some(0) {
            return Err(Error::usage("--batch is 0", "use 1 or more"));
        }
        if let Some(threads) = self.threads.filter(|threads| threads.get() > MOST_THREADS) {
            return Err(Error::usage(format!("--threads is {threads}"), format!("use {MOST_THREADS} at most")));
        }
        self.load_options().map(drop)
    }

    /// Slots and memory of the scheduler over `model`.
    pub(super) fn capacity(&self, model: &dyn Model) -> Capacity {
        let key_value_bytes =
            self.kv_memory.or_else(|| model.free_bytes()).or_else(half_of_free_memory).unwrap_or(USUAL_KV_MEMORY);
        Capacity { slots: self.batch.unwrap_or(model.usual_batch()), key_value_bytes }
    }

    /// How the weights are computed with.
    ///
    /// # Errors
    /// When the quantisation is none that can be made.
    pub(crate) fn load_options(&self) -> Result<LoadOptions> {
        let quantise = self.quantize.as_deref().map(str::parse).transpose()?;
        Ok(LoadOptions { threads: self.threads, reference: self.reference, quantise })
    }
}

/// How tokens are drawn; what is not given comes from the recipe or the command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct SamplingOptions {
    /// Seed of every draw: the same seed gives the same text [default: 0].
    #[arg(long)]
    pub seed: Option<u64>,
    /// Divides the logits; 0 always takes the likeliest token.
    #[arg(long, value_name = "T")]
    pub temperature: Option<f32>,
    /// Draw among the K likeliest tokens only; 0 for all.
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// Draw among the likeliest tokens that hold this share of the probability.
    #[arg(long, value_name = "P")]
    pub top_p: Option<f32>,
    /// Leave out tokens less likely than this share of the likeliest.
    #[arg(long, value_name = "P")]
    pub min_p: Option<f32>,
    /// How strongly, in nats at the token limit, ends are preferred as the limit comes near; 0 turns it
    /// off [default: 8, or the recipe's].
    #[arg(long, value_name = "NATS")]
    pub landing: Option<f32>,
}

impl SamplingOptions {
    /// Seed of every draw.
    pub(super) fn seed(&self) -> u64 {
        self.seed.unwrap_or(0)
    }

    /// What was given, as changes in a recipe's draws.
    pub(crate) fn overrides(&self) -> DrawsOverride {
        DrawsOverride {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            landing: self.landing,
            ..DrawsOverride::default()
        }
    }

    /// Refuses values that no distribution can follow.
    pub(super) fn check(&self) -> Result<()> {
        let share = |name: &str, value: Option<f32>| match value {
            Some(value) if !(0.0..=1.0).contains(&value) => {
                Err(Error::usage(format!("{name} is {value}"), "use a number from 0 to 1"))
            }
            _ => Ok(()),
        };
        share("--top-p", self.top_p)?;
        share("--min-p", self.min_p)?;
        let positive = |name: &str, value: Option<f32>| match value {
            Some(value) if !(value.is_finite() && value >= 0.0) => {
                Err(Error::usage(format!("{name} is {value}"), "use 0 or a positive number"))
            }
            _ => Ok(()),
        };
        positive("--temperature", self.temperature)?;
        positive("--landing", self.landing)
    }
}

/// Which constraint engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Engine {
    /// instil's own.
    Instil,
    /// outlines-core, as a baseline.
    Outlines,
}

impl Engine {
    /// The engine of that name, as a plan holds it.
    pub(crate) fn named(name: &str) -> Result<Self> {
        <Self as clap::ValueEnum>::from_str(name, false)
            .map_err(|_| Error::usage(format!("the plan names an unknown engine `{name}`"), "use instil or outlines"))
    }

    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Instil => "instil",
            Self::Outlines => "outlines",
        }
    }
}

impl From<Engine> for instil_grammar::constraint::Backend {
    fn from(engine: Engine) -> Self {
        match engine {
            Engine::Instil => Self::Instil,
            Engine::Outlines => Self::Outlines,
        }
    }
}

/// How JSON texts are laid out.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct LayoutOptions {
    /// White space between the parts of a JSON text; `flexible` is for accepting, not for generating.
    #[arg(long, value_enum, default_value = "spaced")]
    pub whitespace: Spaces,
    /// Order of an object's members: as in the schema, or any.
    #[arg(long, value_enum, default_value = "schema")]
    pub order: Order,
    /// What is made of all that is valid: what a person would write (numbers of few digits, usual dates, no members that
    /// the schema does not speak of), or any of it.
    #[arg(long, value_enum, default_value = "natural")]
    pub style: Style,
}

/// Which of the valid values are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Style {
    /// Those that a person would write.
    Natural,
    /// Any.
    Any,
}

impl From<Style> for grammar::Style {
    fn from(style: Style) -> Self {
        match style {
            Style::Natural => Self::Natural,
            Style::Any => Self::Canonical,
        }
    }
}

/// White space between the parts of a JSON text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Spaces {
    /// None.
    Compact,
    /// One space after each comma and colon.
    Spaced,
    /// A line for each element, indented by two spaces a level.
    Pretty,
    /// Any that JSON allows.
    Flexible,
}

/// Order of an object's members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Order {
    /// As in the schema.
    Schema,
    /// Any.
    Any,
}

impl From<Spaces> for Whitespace {
    fn from(spaces: Spaces) -> Self {
        match spaces {
            Spaces::Compact => Self::Compact,
            Spaces::Spaced => Self::Spaced,
            Spaces::Pretty => Self::Pretty,
            Spaces::Flexible => Self::Flexible,
        }
    }
}

impl From<Order> for KeyOrder {
    fn from(order: Order) -> Self {
        match order {
            Order::Schema => Self::Schema,
            Order::Any => Self::Any,
        }
    }
}

impl LayoutOptions {
    /// What the engine is told.
    pub(super) fn settings(self) -> Settings {
        Settings {
            whitespace: self.whitespace.into(),
            key_order: self.order.into(),
            max_depth: READERS_DEPTH,
            ..Settings::default()
        }
    }

    /// Refuses a layout that the engine has no say in.
    pub(super) fn check(self, engine: Engine) -> Result<()> {
        let usual = (Spaces::Spaced, Order::Schema, Style::Natural);
        if engine == Engine::Instil || (self.whitespace, self.order, self.style) == usual {
            return Ok(());
        }
        Err(Error::usage(
            "--whitespace, --order and --style are for instil's own engine",
            "leave them out, or use --engine instil",
        ))
    }
}

/// Reads a text file, or standard input for `-`.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    if path.as_os_str() == "-" {
        return std::io::read_to_string(std::io::stdin()).map_err(|cause| Error::io("read", "standard input", cause));
    }
    disk::read_text(path)
}

/// Reads a JSON Schema file.
pub(crate) fn read_schema(path: &Path, others: Option<&Path>) -> Result<serde_json::Value> {
    validator::read_schema(&read_text(path)?, path, others)
}

/// The judge of finished values. A schema that it cannot read is told in the grammar's words, with
/// keyword and pointer, where the grammar refuses it too.
pub(super) fn validator(schema: &serde_json::Value) -> Result<Validator> {
    Validator::new(schema).map_err(|cause| {
        let source = GrammarSource::JsonSchema(schema.clone());
        Program::compile(&source, &instil_grammar::grammar::Options::default()).err().map_or(cause, Error::from)
    })
}

#[cfg(test)]
mod tests {
    use super::parse_size;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let sizes = [("7", 7), ("3K", 3 << 10), ("512M", 512 << 20), ("2GiB", 2 << 30), ("2gb", 2 << 30)];
        for (text, size) in sizes {
            assert_eq!(parse_size(text), Ok(size), "{text}");
        }
        for text in ["", "0", "M", "-1G", "1.5G", "99999999999G", "2T", "é"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
