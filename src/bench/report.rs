//! Adding up the files of one engine: the summary, the verdicts, the refusals by reason.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::input::{BenchCase, BenchFile};
use super::supervise::{Outcome, Report, Startup};

/// The figures of one engine over all files.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    files: usize,
    passing: usize,
    refused: usize,
    rejects_valid: usize,
    accepts_invalid: usize,
    timeouts: usize,
    memory: usize,
    crashes: usize,
    unsteady: usize,
    compile_ns: Vec<(u64, u64)>,
    first_mask_ns: Vec<(u64, u64)>,
    cold_ns: Vec<(u64, u64)>,
    warm_ns: Vec<(u64, u64)>,
    whole_ns: Vec<(u64, u64)>,
    wall_ns: Vec<(u64, u64)>,
    peak_bytes: u64,
    peak_file: String,
    refusals: BTreeMap<String, usize>,
    startup: Startup,
}

impl Tally {
    /// Adds a file; gives the lines of its verdicts (one JSON object an instance, or one for a file without any).
    pub(crate) fn add(&mut self, engine: &str, file: &BenchFile, case: &BenchCase, report: &Report) -> Vec<Value> {
        self.files += 1;
        if report.peak_bytes > self.peak_bytes {
            self.peak_bytes = report.peak_bytes;
            self.peak_file.clone_from(&file.name);
        }
        let (outcome, reason) = match &report.outcome {
            Outcome::Done(result) => {
                if let Some(reason) = &result.refused {
                    self.refused += 1;
                    *self.refusals.entry(normal_form(reason)).or_default() += 1;
                    ("refused", Some(reason.clone()))
                } else {
                    self.count(case, result);
                    ("done", None)
                }
            }
            Outcome::Timeout => {
                self.timeouts += 1;
                ("timeout", None)
            }
            Outcome::Memory => {
                self.memory += 1;
                ("memory", None)
            }
            Outcome::Crash(message) => {
                self.crashes += 1;
                ("crash", Some(message.clone()))
            }
        };
        let mut lines = Vec::new();
        for index in 0..case.instances.len().max(1) {
            let instance = case.instances.get(index);
            let walk = match &report.outcome {
                Outcome::Done(result) => result.walks.get(index),
                _ => None,
            };
            let mut line = json!({
                "engine": engine,
                "name": file.name,
                "test": instance.map(|_| index),
                "valid": instance.map(|instance| instance.valid),
                "outcome": walk.map_or(if outcome == "done" { "compiled" } else { outcome }, |walk| {
                    if walk.accepted { "accepted" } else { "rejected" }
                }),
            });
            if let Some(walk) = walk
                && !walk.accepted
            {
                line["tokens_passed"] = json!(walk.passed);
            }
            if let Some(reason) = &reason {
                line["reason"] = json!(reason);
            }
            lines.push(line);
        }
        lines
    }

    fn count(&mut self, case: &BenchCase, result: &super::masks::FileResult) {
        let wrong = |valid: bool| {
            case.instances.iter().zip(&result.walks).any(|(it, walk)| it.valid == valid && walk.accepted != valid)
        };
        self.unsteady += result.unsteady;
        let (rejects_valid, accepts_invalid) = (wrong(true), wrong(false));
        self.rejects_valid += usize::from(rejects_valid);
        self.accepts_invalid += usize::from(accepts_invalid);
        self.passing += usize::from(!rejects_valid && !accepts_invalid);
        self.compile_ns.push((result.compile_ns, 1));
        self.first_mask_ns.push((result.first_mask_ns, 1));
        self.cold_ns.extend(result.cold_ns.iter().map(|&ns| (ns, 1)));
        self.warm_ns.extend(result.warm_ns.iter().map(|&(ns, tokens)| (ns / tokens.max(1), tokens)));
        self.whole_ns.push((result.compile_ns + result.cold_ns.iter().sum::<u64>(), 1));
        self.wall_ns.push((result.wall_ns, 1));
    }

    /// Whether every file ended, and every verdict is the right one; a schema that is refused has none.
    pub(crate) fn is_right(&self) -> bool {
        self.rejects_valid + self.accepts_invalid + self.timeouts + self.memory + self.crashes + self.unsteady == 0
    }

    /// What was not right, in a few words.
    pub(crate) fn wrong(&self) -> String {
        format!(
            "{} files with a valid text rejected, {} with an invalid one accepted, {} without an end, {} unsteady masks",
            self.rejects_valid,
            self.accepts_invalid,
            self.timeouts + self.memory + self.crashes,
            self.unsteady
        )
    }

    /// Notes what the engine computed once a vocabulary.
    pub(crate) fn set_startup(&mut self, startup: Startup) {
        self.startup = startup;
    }

    /// The summary with exactly the documented keys; times in microseconds. `compile_us` runs from the parsed schema
    /// to the first mask, so that an engine cannot look fast by putting its compiling off.
    pub(crate) fn summary(&self) -> Value {
        json!({
            "files": self.files,
            "passing": self.passing,
            "refused": self.refused,
            "rejects_valid": self.rejects_valid,
            "accepts_invalid": self.accepts_invalid,
            "timeouts": self.timeouts,
            "compile_us": spread(&self.first_mask_ns),
            "mask_cold_us": spread(&self.cold_ns),
            "mask_warm_us": spread(&self.warm_ns),
        })
    }

    /// What the summary leaves out.
    pub(crate) fn details(&self) -> Value {
        json!({
            "out_of_memory": self.memory,
            "crashes": self.crashes,
            "instances_unlike_on_second_pass": self.unsteady,
            "compile_without_first_mask_us": spread(&self.compile_ns),
            "compile_and_masks_per_file_us": spread(&self.whole_ns),
            "wall_per_file_us": spread(&self.wall_ns),
            "masks": self.cold_ns.len(),
            "vocabulary_precompute_us": micros(self.startup.precompute_ns),
            "vocabulary_precompute_bytes": self.startup.precompute_bytes,
            "resident_after_start_bytes": self.startup.resident_bytes,
            "peak_growth_bytes": self.peak_bytes,
            "peak_growth_file": self.peak_file,
            "refusals": self.refusals_by_count().into_iter().collect::<serde_json::Map<String, Value>>(),
        })
    }

    fn refusals_by_count(&self) -> Vec<(String, Value)> {
        let mut reasons: Vec<_> = self.refusals.iter().collect();
        reasons.sort_by_key(|(reason, count)| (std::cmp::Reverse(**count), (*reason).clone()));
        reasons.into_iter().map(|(reason, count)| (reason.clone(), json!(count))).collect()
    }
}

/// The human table: one column an engine.
pub(crate) fn table(tallies: &[(String, Tally)]) -> String {
    let mut out = String::new();
    let mut row = |label: &str, cells: Vec<String>| {
        let _ = write!(out, "{label:<38}");
        for cell in cells {
            let _ = write!(out, "{cell:>30}");
        }
        out.push('\n');
    };
    let each = |cell: &dyn Fn(&Tally) -> String| tallies.iter().map(|(_, tally)| cell(tally)).collect::<Vec<_>>();
    row("", tallies.iter().map(|(name, _)| name.clone()).collect());
    row("files", each(&|tally| tally.files.to_string()));
    row(
        "passing",
        each(&|tally| format!("{} ({:.2} %)", tally.passing, 100.0 * ratio(tally.passing as u64, tally.files as u64))),
    );
    row("refused", each(&|tally| tally.refused.to_string()));
    row(
        "out of time / out of memory / crashed",
        each(&|tally| format!("{} / {} / {}", tally.timeouts, tally.memory, tally.crashes)),
    );
    row(
        "files: valid rejected / invalid accepted",
        each(&|tally| format!("{} / {}", tally.rejects_valid, tally.accepts_invalid)),
    );
    let quantiles: [(&str, fn(&Tally) -> &[(u64, u64)]); 6] = [
        ("compile to first mask", |tally| &tally.first_mask_ns),
        ("compile alone", |tally| &tally.compile_ns),
        ("mask + advance, cold", |tally| &tally.cold_ns),
        ("mask + advance, warm", |tally| &tally.warm_ns),
        ("compile + all masks a file", |tally| &tally.whole_ns),
        ("all passes a file, wall", |tally| &tally.wall_ns),
    ];
    for (label, of) in quantiles {
        row(&format!("{label}, µs: mean"), each(&|tally| format!("{:.2}", spread_of(of(tally)).mean)));
        row("    p50 / p90", each(&|tally| two(of(tally), 0)));
        row("    p99 / max", each(&|tally| two(of(tally), 2)));
    }
    row(
        "once a vocabulary: ms / MB",
        each(&|tally| {
            format!(
                "{:.0} / {:.0}",
                tally.startup.precompute_ns as f64 / 1e6,
                tally.startup.precompute_bytes as f64 / 1e6
            )
        }),
    );
    row("peak growth of memory on a file, MB", each(&|tally| format!("{:.1}", tally.peak_bytes as f64 / 1e6)));
    for (name, tally) in tallies {
        if tally.refusals.is_empty() {
            continue;
        }
        let _ = writeln!(out, "\nrefused by {name}:");
        for (reason, count) in tally.refusals_by_count() {
            let _ = writeln!(out, "{count:>6}  {reason}");
        }
    }
    out
}

fn two(samples: &[(u64, u64)], first: usize) -> String {
    let spread = spread_of(samples);
    format!("{:.2} / {:.2}", spread.quantiles[first], spread.quantiles[first + 1])
}

/// A refusal without what differs from file to file: the pointer in front, long quoted names, numbers.
fn normal_form(reason: &str) -> String {
    let reason = reason.lines().next().unwrap_or("");
    let reason = reason.strip_prefix("at ").and_then(|rest| rest.split_once(": ")).map_or(reason, |(_, what)| what);
    let mut out = String::new();
    for (index, part) in reason.split('"').enumerate() {
        let is_quoted = index % 2 == 1;
        if index > 0 {
            out.push('"');
        }
        if is_quoted && part.len() > 24 {
            out.push('…');
            continue;
        }
        for ch in part.chars() {
            if is_quoted || !ch.is_ascii_digit() {
                out.push(ch);
            } else if !out.ends_with('#') {
                out.push('#');
            }
        }
    }
    out
}

/// Mean, and p50, p90, p99, max, in microseconds.
struct Spread {
    mean: f64,
    quantiles: [f64; 4],
}

/// `samples` are nanoseconds with a weight.
fn spread_of(samples: &[(u64, u64)]) -> Spread {
    let weight: u64 = samples.iter().map(|&(_, weight)| weight).sum();
    if weight == 0 {
        return Spread { mean: 0.0, quantiles: [0.0; 4] };
    }
    let sum: f64 = samples.iter().map(|&(ns, weight)| ns as f64 * weight as f64).sum();
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    let quantiles = [50, 90, 99, 100].map(|percent: u64| {
        // The least sample with at least this share of the weight at or below it.
        let rank = (weight * percent).div_ceil(100).max(1);
        let mut below = 0;
        let found = sorted.iter().find(|&&(_, weight)| {
            below += weight;
            below >= rank
        });
        micros(found.expect("the rank is within the weight").0)
    });
    Spread { mean: sum / weight as f64 / 1000.0, quantiles }
}

fn spread(samples: &[(u64, u64)]) -> Value {
    let Spread { mean, quantiles: [p50, p90, p99, max] } = spread_of(samples);
    let round = |value: f64| (value * 1000.0).round() / 1000.0;
    json!({ "mean": round(mean), "p50": round(p50), "p90": round(p90), "p99": round(p99), "max": round(max) })
}

fn micros(ns: u64) -> f64 {
    ns as f64 / 1000.0
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_count_weights() {
        let spread = spread_of(&[(1000, 98), (5000, 1), (9000, 1)]);
        assert_eq!(spread.quantiles, [1.0, 1.0, 5.0, 9.0]);
        assert!((spread.mean - 1.12).abs() < 1e-9);
        assert_eq!(spread_of(&[]).quantiles, [0.0; 4]);
    }

    #[test]
    fn refusals_are_grouped() {
        assert_eq!(normal_form("at /a/b: `not` at \"x\" 12; help"), "`not` at \"x\" #; help");
    }
}
