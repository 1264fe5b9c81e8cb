//! Getting a model's files from the command line: which source, how far, how fast, on stderr.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use crate::Result;
use crate::catalog::hub_name::HubName;
use crate::catalog::manifest::{Manifest, SourceKind};
use crate::catalog::source::{self, FetchEvent, FetchOptions, Freshness, Listing, Located, Places};
use crate::catalog::{Catalog, Named};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use super::console::Console;

/// Finds or fetches the files of `manifest`, telling a person on stderr what happens.
pub(super) fn fetch(
    manifest: &Manifest,
    places: &Places,
    only: Option<SourceKind>,
    console: &Console,
) -> Result<Located> {
    let options = FetchOptions { only, stop: console.stop().clone(), ..FetchOptions::from_environment() };
    let mut teller = Teller { model: &manifest.name, console, progress: None };
    let outcome = source::fetch(manifest, places, &options, &mut |event| teller.tell(&event));
    teller.clear();
    outcome
}

/// The manifest of the model that is named; of one on the hub, what its repository holds is asked for as `freshness`
/// says, and its revision is pinned.
pub(super) fn resolve(model: &str, places: &Places, freshness: Freshness, console: &Console) -> Result<Manifest> {
    match Catalog::load(places)?.named(model)? {
        Named::Here(manifest) => Ok(*manifest),
        Named::Hub(name) => {
            let mut listing = list(&name, places, freshness, console)?;
            if freshness != Freshness::Kept {
                let options = options(console);
                let mut teller = Teller { model: &name.repo, console, progress: None };
                source::complete(&name, &mut listing, places, &options, &mut |event| teller.tell(&event))?;
                source::pin(&name, &listing, places);
            }
            listing.manifest(&name)
        }
    }
}

/// How the hub is asked.
fn options(console: &Console) -> FetchOptions {
    FetchOptions { stop: console.stop().clone(), ..FetchOptions::from_environment() }
}

/// What a repository on the hub holds.
pub(super) fn list(name: &HubName, places: &Places, freshness: Freshness, console: &Console) -> Result<Listing> {
    let options = options(console);
    let mut teller = Teller { model: &name.repo, console, progress: None };
    let outcome = source::list(name, places, &options, freshness, &mut |event| teller.tell(&event));
    teller.clear();
    outcome
}

/// Tells what happens: a bar on a terminal, a line now and then elsewhere.
struct Teller<'a> {
    model: &'a str,
    console: &'a Console,
    progress: Option<Progress>,
}

/// How far one file is.
struct Progress {
    file: String,
    bar: ProgressBar,
    begun: Instant,
    first_bytes: u64,
    last_line: Instant,
}

/// Time between lines where there is no terminal to draw a bar on.
const BETWEEN_LINES: Duration = Duration::from_secs(5);

impl Teller<'_> {
    fn tell(&mut self, event: &FetchEvent<'_>) {
        match event {
            FetchEvent::Trying { source } => {
                self.clear();
                self.line(&format!("fetching {} from {source}", self.model));
            }
            FetchEvent::Progress { file, done_bytes, total_bytes } => self.advance(file, *done_bytes, *total_bytes),
            FetchEvent::Note { text } if text.starts_with("pip: ") => tracing::info!("{text}"),
            FetchEvent::Note { text } => self.line(text),
            FetchEvent::Failed { source, reason } => {
                self.clear();
                self.line(&format!("{source}: {reason}"));
            }
            FetchEvent::Finished { source } => {
                self.clear();
                self.line(&format!("fetched {} from {source}; its sha256 is right", self.model));
            }
        }
    }

    fn advance(&mut self, file: &str, done_bytes: u64, total_bytes: Option<u64>) {
        if self.console.is_quiet() {
            return;
        }
        let now = Instant::now();
        if self.progress.as_ref().is_none_or(|progress| progress.file != file) {
            self.clear();
            let bar = bar(file, total_bytes);
            // What an earlier download left is no part of the rate.
            bar.set_position(done_bytes);
            bar.reset_eta();
            self.progress =
                Some(Progress { file: file.to_owned(), bar, begun: now, first_bytes: done_bytes, last_line: now });
        }
        let Some(progress) = &mut self.progress else { return };
        progress.bar.set_position(done_bytes);
        if progress.bar.is_hidden() && now - progress.last_line >= BETWEEN_LINES {
            progress.last_line = now;
            let seconds = (now - progress.begun).as_secs_f64();
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a rate is shown to three digits"
            )]
            let rate = ((done_bytes - progress.first_bytes) as f64 / seconds) as u64;
            let of = total_bytes.map(|total| format!(" of {}", HumanBytes(total))).unwrap_or_default();
            self.console.note(&format!("{file}: {}{of}, {}/s", HumanBytes(done_bytes), HumanBytes(rate)));
        }
    }

    /// Takes the bar away, so that lines are not drawn over.
    fn clear(&mut self) {
        if let Some(progress) = self.progress.take() {
            progress.bar.finish_and_clear();
        }
    }

    fn line(&mut self, text: &str) {
        match &self.progress {
            Some(progress) => progress.bar.suspend(|| self.console.note(text)),
            None => self.console.note(text),
        }
    }
}

fn bar(file: &str, total_bytes: Option<u64>) -> ProgressBar {
    let (bar, template) = match total_bytes {
        Some(total) => (
            ProgressBar::new(total),
            "{msg} [{bar:24}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}, {eta} left",
        ),
        None => (ProgressBar::new_spinner(), "{spinner} {msg} {decimal_bytes} {decimal_bytes_per_sec}, {elapsed}"),
    };
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
    bar.set_style(ProgressStyle::with_template(template).expect("templates are constants").progress_chars("=> "));
    bar.set_message(file.to_owned());
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}
