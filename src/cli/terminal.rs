//! What stderr looks like: colours, logs and bars; and what no terminal gets to see.

use std::borrow::Cow;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Whether stderr shows colours: a terminal, and `NO_COLOR` is not set.
pub(super) fn colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// `text` without what would steer a terminal or turn the order of its letters round: control characters but for tabs
/// and line ends, and the marks of bidirectional text (Unicode Standard Annex 9) become escapes as `\u{1b}`. Rows, names,
/// templates and files may hold them.
pub(super) fn harmless(text: &str) -> Cow<'_, str> {
    let steers = |c: char| {
        (c.is_control() && !matches!(c, '\n' | '\t'))
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(steers) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if steers(c) { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    shown.into()
}

/// Stderr for the logs: one that cannot be written is no reason to end, or to say so there.
struct Lenient(std::io::Stderr);

impl Write for Lenient {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // Who closes stderr wants to hear nothing.
        let _ = self.0.write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
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
        .with_writer(|| Lenient(std::io::stderr()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_a_terminal_is_left() {
        let text = "a\u{1b}[2Jb\u{7}\u{9b}c\u{202e}d\u{2066}e\r\tf\n";
        assert_eq!(harmless(text), "a\\u{1b}[2Jb\\u{7}\\u{9b}c\\u{202e}d\\u{2066}e\\u{d}\tf\n");
        let plain = "Grüße, 世界: שלום 👍🏽\n";
        assert!(matches!(harmless(plain), Cow::Borrowed(same) if same == plain));
    }
}
