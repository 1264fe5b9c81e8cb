//! `instil bench pipeline`: what a row costs outside the model, on one thread.
//!
//! A scripted model and a recipe of two steps stand in for the real ones; the filters are those of the built-in
//! recipe. The instruction is drawn word by word under a regex, so that ten thousand of them differ as
//! instructions do; the response replays one of some replies. Afterwards the run is decided once more from its
//! ledger, which is the part of it that no decoding is in.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::plan::ModelUsed;
use crate::plan::Plan;
use crate::recipe::{Recipe, builtin};
use crate::run::driver::{Workshop, replay};
use crate::run::{RunDirectory, Summary};
use crate::{Error, Result};
use clap::Args;
use instil_grammar::constraint::Settings;
use instil_model::decode::Capacity;
use instil_model::model::scripted::{Scene, Script};
use serde_json::{Value, json};

use super::console::{Answer, Console};
use super::options::{Chat, Engine};
use super::setup;

const RECIPE: &str = "recipe";

/// What a row costs outside the model: scheduling, sampling, prompts, filters, ledger.
#[derive(Debug, Args)]
pub(crate) struct PipelineBench {
    /// Rows of the run.
    #[arg(long, default_value_t = 10_000)]
    rows: u32,
    /// Texts decoded at once.
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// Keep the run in this directory.
    #[arg(long, value_name = "DIR")]
    keep: Option<std::path::PathBuf>,
}

const WORDS: &str = "about above answer apple arrive autumn balance basket before begin between bottle bridge bright \
    build butter candle careful castle chance choose circle clean climb cloud coast colour common corner country \
    cover crowd dance danger decide deep desert device dinner distance doctor double dream early earth empty engine \
    enough evening event exact family farmer feather field figure finger finish flower follow forest forward friend \
    garden gentle glass gold grain green ground guide hammer handle harbour harvest health heavy height history \
    hollow honest island journey kitchen ladder language large laugh learn letter listen local machine market meadow \
    measure metal middle mirror moment morning mountain narrow nature needle number ocean office orange order paper \
    pattern pencil people pepper picture planet pocket point prepare problem public quiet rabbit reason record \
    repair result ribbon river rocket sailor sample school season secret shadow shelter silver simple smooth spring \
    station steady stone story street strong sudden summer supper surface table teacher temple theatre thunder timber \
    travel valley velvet village vision water weather window winter wonder";
const OPENINGS: &str = "Explain Describe Compare Suggest Summarize List Show Tell";

/// Runs it.
pub(super) fn run(bench: &PipelineBench, console: &Console) -> Result<Answer> {
    if bench.rows == 0 || bench.batch == 0 {
        return Err(Error::usage("a count is 0", "use 1 or more"));
    }
    let fault = |cause| Error::io("create", std::env::temp_dir(), cause);
    let folder = tempfile::tempdir().map_err(fault)?;
    let path = bench.keep.clone().unwrap_or_else(|| folder.path().join("run"));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let pool = pool.map_err(|cause| Error::unavailable(format!("no thread can be started: {cause}"), ""))?;
    let figures = pool.install(|| measure(bench, &path, console))?;
    let mut text = String::new();
    for (name, value) in figures.as_object().into_iter().flatten() {
        let value = value.as_f64().unwrap_or_default();
        text += &format!("{name:28} {value:12.2}\n");
    }
    Ok(Answer::data(text, &figures))
}

fn measure(bench: &PipelineBench, path: &Path, console: &Console) -> Result<Value> {
    let (mut model, tokenizer) = setup::speaker("bench", script(), &Chat::default())?;
    let plan = plan(bench.rows)?;
    let compiler = setup::compiler(&tokenizer, Engine::Instil, Settings::default());
    let workshop = Workshop {
        model: &mut *model,
        tokenizer: Arc::clone(&tokenizer),
        compiler: &compiler,
        judge: None,
        embedder: None,
        capacity: Capacity::slots(bench.batch),
    };
    let mut directory = RunDirectory::open(path, &plan, false)?;
    let summary = crate::run::generate(&plan, workshop, &mut directory, console.stop(), &mut |_| {})?;
    drop(directory);
    if summary.interrupted {
        return Err(Error::Interrupted { what: "nothing was measured to the end".into() });
    }
    let mut directory = RunDirectory::open(path, &plan, true)?;
    let start = Instant::now();
    let again = replay(&plan, None, &mut directory, &mut |_| {})?;
    let seconds = start.elapsed().as_secs_f64();
    if again.accepted != summary.accepted {
        return Err(Error::usage("the run was decided otherwise from its ledger", "report this as a fault"));
    }
    Ok(figures(&summary, seconds))
}

/// Microseconds a row, of which each part is a part of the one above it.
fn figures(summary: &Summary, replayed: f64) -> Value {
    let rows = f64::from(summary.accepted.max(1));
    let statistics = &summary.statistics;
    let tokens = (statistics.sampled_tokens + statistics.forced_tokens) as f64;
    let us = |seconds: f64| seconds * 1e6 / rows;
    let all = summary.elapsed.as_secs_f64();
    let (model, draws) = (statistics.model_time.as_secs_f64(), statistics.sampling_time.as_secs_f64());
    let steps = summary.stepping.as_secs_f64();
    json!({
        "rows": summary.accepted,
        "attempts": summary.decoded,
        "tokens_per_row": tokens / rows,
        "outside_model_us": us(all - model),
        "masks_and_draws_us": us(draws),
        "scheduling_us": us(steps - model - draws),
        "pipeline_us": us(all - steps),
        "decided_from_ledger_us": us(replayed),
        "masks_and_draws_us_per_token": draws * 1e6 / tokens.max(1.0),
        "scheduling_us_per_token": (steps - model - draws) * 1e6 / tokens.max(1.0),
    })
}

fn script() -> Script {
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    // Sentences of eleven words each, three a reply.
    let sentence = |from: usize| {
        let said: Vec<&str> = (0..11).map(|at| words[(from * 7 + at * (from % 13 + 3)) % words.len()]).collect();
        let text = said.join(" ");
        format!("{}{}.", text[..1].to_uppercase(), &text[1..])
    };
    let reply =
        |index: usize| format!("{} {} {}", sentence(index * 3), sentence(index * 3 + 1), sentence(index * 3 + 2));
    let scene = |cue: &str, replies: Vec<String>| Scene { cue: cue.into(), replies };
    Script {
        scenes: vec![
            scene("assistant: ", (0..64).map(reply).collect()),
            scene("Instruction:", vec!["none".into()]),
            // Never called for: makes the words tokens of their own.
            scene("\u{1}", vec![format!("{OPENINGS} {WORDS}")]),
        ],
        pause_micros: 0,
    }
}

fn plan(rows: u32) -> Result<Plan> {
    let choice = |words: &str| words.split_whitespace().collect::<Vec<_>>().join("|");
    let text = format!(
        "name: bench\nschema: instruction-response\nmax_attempts: 100\n\
         sampling: {{temperature: 1.0, top_p: 1.0, min_p: 0.0, repetition_strength: 0.0}}\n\
         attributes:\n  - {{name: topic, values: [bread, tides, chess, roads]}}\n\
         \x20 - {{name: tone, values: [plain, warm, dry], apart: true}}\n\
         steps:\n\
         \x20 - field: instruction\n    prompt: 'Topic: {{{{ topic }}}} Instruction:'\n\
         \x20   output: {{regex: ' (?:{})(?: (?:{})){{9}}\\.'}}\n\
         \x20 - field: response\n    form: chat\n    prompt: '{{{{ instruction }}}} Answer in a {{{{ tone }}}} tone.'\n\
         \x20   output: {{text: {{min_words: 6}}}}\n",
        choice(OPENINGS),
        choice(WORDS),
    );
    let mut recipe = Recipe::parse(&text, Path::new(RECIPE))?;
    recipe.filters = builtin::recipe("instruction-response")?.filters;
    let schema = builtin::grammar("instruction-response")?;
    Ok(Plan {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        rows,
        tries: false,
        shard: None,
        seed: 1,
        model: ModelUsed { name: "scripted".into(), ..ModelUsed::default() },
        judge: None,
        embedder: None,
        engine: Engine::Instil.name().to_owned(),
        schema: serde_json::from_str(schema).expect("it is bundled"),
        seeds: None,
        recipe,
        retries: 0,
    })
}
