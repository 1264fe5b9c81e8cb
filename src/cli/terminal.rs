//! What stderr looks like: colours, logs and bars.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Whether stderr shows colours: a terminal, and `NO_COLOR` is not set.
pub(super) fn colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Sends logs to stderr; `INSTIL_LOG` overrides the level (`info`, `instil=debug`).
pub(crate) fn start_logging(verbose: u8, quiet: bool) {
    let level = match (quiet, verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "info",
        (false, 2) => "debug",
        _ => "trace",
    };
    // A source out of reach is told once, in our words, and not by the hub's client as well.
    let filter = tracing_subscriber::EnvFilter::try_from_env("INSTIL_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(format!("{level},hf_hub=off")));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour())
        .without_time()
        .with_target(false)
        .init();
}

/// A number of bytes, as people say it.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..10_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        10_000_000..1_000_000_000 => format!("{:.0} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// A bar with ETA, shown or hidden.
pub(super) fn bar(length: u64, template: &str, is_shown: bool) -> ProgressBar {
    let bar = ProgressBar::new(length);
    if !is_shown {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar.set_style(ProgressStyle::with_template(template).expect("templates are constants").progress_chars("=> "));
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}
