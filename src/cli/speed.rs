//! How fast models were on this machine: a note a model in instil's cache, by which `validate` tells how long a run
//! will take. Without it nothing is lost, so nothing here fails.

use std::path::PathBuf;

use crate::catalog::source::Places;
use crate::catalog::source::verify::sha256_of;
use crate::disk::write_whole;
use serde::{Deserialize, Serialize};

/// Shorter runs say little.
const LEAST_SECONDS: f64 = 1.0;

/// The last run with a model.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Speed {
    /// Tokens decoded a second, prompts and filters included.
    pub tokens_per_s: f64,
    /// Texts decoded at once.
    pub batch: usize,
}

/// What the last run with the model of this name was like.
pub(super) fn known(model: &str) -> Option<Speed> {
    let speed: Speed = serde_json::from_slice(&std::fs::read(place(model)).ok()?).ok()?;
    (speed.tokens_per_s.is_finite() && speed.tokens_per_s > 0.0).then_some(speed)
}

/// Notes a run that took `seconds`.
pub(super) fn note(model: &str, speed: Speed, seconds: f64) {
    let path = place(model);
    if seconds >= LEAST_SECONDS
        && let Some(folder) = path.parent()
        && std::fs::create_dir_all(folder).is_ok()
    {
        // Best effort: it is a convenience.
        let _ = write_whole(&path, serde_json::to_string(&speed).expect("plain data").as_bytes());
    }
}

fn place(model: &str) -> PathBuf {
    Places::from_environment().cache.join("speed").join(format!("{}.json", &sha256_of(model.as_bytes())[..16]))
}

/// A time for people: `40 s`, `3 min`, `2.5 h`.
pub(super) fn time(seconds: f64) -> String {
    match seconds {
        ..90.0 => format!("{:.0} s", seconds.max(1.0)),
        ..5400.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}
