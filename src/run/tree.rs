//! The families of an evolved run: each seed with what was made of it, kept and turned down.
//!
//! Read from `records.jsonl` and `rejects.jsonl` alone, by `meta.lineage`; the seeds' own texts come from
//! their file, if it still is what the run was planned with. Memory is that of the families shown.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

use super::directory::{RECORDS, REJECTS, read_plan};
use super::seeds::Seeds;
use crate::disk::Lines;
use crate::error::{Error, Result};
use crate::review::{Applied, Decisions};

/// A seed and what descends from it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Family {
    /// Place of the seed in its file, from 0.
    pub seed: u64,
    /// Identifier of the seed in its file.
    pub seed_id: Option<Value>,
    /// What the seed asks; none where its file has changed since.
    pub instruction: Option<String>,
    /// Attempts, each below what it was made from.
    pub members: Vec<Member>,
}

/// An attempt at a row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Member {
    /// The row's identifier.
    pub id: String,
    /// The row that it was made from; none for the seed itself.
    pub parent: Option<String>,
    /// Rows between it and its seed, itself included: 1 was made from the seed.
    pub depth: usize,
    /// Round of the run, from 1.
    pub round: u64,
    /// Attempt at the row, from 0.
    pub attempt: u64,
    /// What was done to its parent, where the plan dealt operators out.
    pub operator: Option<String>,
    /// It is a row of the data set, and nobody rejected it since.
    pub kept: bool,
    /// Why it is not.
    pub reason: Option<Cause>,
    /// What it asks; empty when it was turned down before that was written.
    pub instruction: String,
}

/// Why an attempt was turned down, as its line tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// Name of the rule.
    pub rule: String,
    /// What it found.
    pub detail: String,
}

/// Families of the run at `run`, by seed: at most `most` of them, or with `wanted` the one that holds the row or
/// the seed of that identifier. Also how many there are.
///
/// # Errors
/// When the run cannot be read, its rows descend from nothing, or `wanted` is in no family.
pub fn families(run: &Path, wanted: Option<&str>, most: usize) -> Result<(Vec<Family>, usize)> {
    let mut seeds = BTreeSet::new();
    let mut found = None;
    each_attempt(run, &mut |row, _| {
        let Some(lineage) = Lineage::of(&row) else { return };
        seeds.insert(lineage.seed);
        let is_wanted = |id: &Value| wanted.is_some_and(|wanted| label(id) == wanted);
        if row.get("id").is_some_and(is_wanted) || lineage.seed_id.is_some_and(is_wanted) {
            found = Some(lineage.seed);
        }
    })?;
    if seeds.is_empty() {
        let what = "no row of this run descends from a seed";
        return Err(Error::input(run, what, "give the directory of an `instil evolve` run"));
    }
    let shown: BTreeSet<u64> = match (wanted, found) {
        (Some(_), Some(seed)) => BTreeSet::from([seed]),
        (Some(wanted), None) => {
            let what = format!("no row or seed of this run has the id {wanted}");
            return Err(Error::input(run, what, "take an id from its records.jsonl or rejects.jsonl"));
        }
        (None, _) => seeds.iter().copied().take(most).collect(),
    };
    let mut families: BTreeMap<u64, Family> = BTreeMap::new();
    each_attempt(run, &mut |row, reason| {
        let Some(lineage) = Lineage::of(&row).filter(|lineage| shown.contains(&lineage.seed)) else { return };
        let new = || Family { seed: lineage.seed, seed_id: lineage.seed_id.cloned(), ..Family::default() };
        families.entry(lineage.seed).or_insert_with(new).members.push(Member::of(&row, &lineage, reason));
    })?;
    // Whoever moved the seeds can still see the tree.
    if let Ok(texts) = read_plan(run).and_then(|plan| Seeds::of(&plan)) {
        for family in families.values_mut() {
            let seed = usize::try_from(family.seed).ok().and_then(|seed| texts.rows.get(seed));
            family.instruction = seed.and_then(|seed| text(&seed.texts));
        }
    }
    let families = families.into_values().map(|family| Family { members: in_order(family.members), ..family });
    Ok((families.collect(), seeds.len()))
}

/// `meta.lineage` of a row.
struct Lineage<'a> {
    seed: u64,
    seed_id: Option<&'a Value>,
    parent: Option<&'a str>,
    round: u64,
}

impl<'a> Lineage<'a> {
    fn of(row: &'a Map<String, Value>) -> Option<Self> {
        let lineage = row.get("meta")?.get("lineage")?;
        Some(Self {
            seed: lineage.get("seed")?.as_u64()?,
            seed_id: lineage.get("seed_id").filter(|id| !id.is_null()),
            parent: lineage.get("parent").and_then(Value::as_str),
            round: lineage.get("round").and_then(Value::as_u64).unwrap_or(1),
        })
    }
}

impl Member {
    fn of(row: &Map<String, Value>, lineage: &Lineage, reason: Option<Cause>) -> Self {
        let meta = row.get("meta");
        let at = |pointer: &str| meta.and_then(|meta| meta.pointer(pointer));
        Self {
            id: row.get("id").map(label).unwrap_or_default(),
            parent: lineage.parent.map(str::to_owned),
            depth: 1,
            round: lineage.round,
            attempt: at("/attempt").and_then(Value::as_u64).unwrap_or(0),
            operator: at("/attributes/operator").and_then(Value::as_str).map(str::to_owned),
            kept: reason.is_none(),
            reason,
            instruction: text(row).unwrap_or_default(),
        }
    }

    /// Whether the run kept it, whatever a person said later: others may descend from it.
    fn is_row(&self) -> bool {
        self.reason.as_ref().is_none_or(|cause| cause.rule == REVIEW)
    }
}

/// Name of the reason of rows that a person rejected.
const REVIEW: &str = "review";

/// What a row asks.
fn text(row: &Map<String, Value>) -> Option<String> {
    row.get("instruction").and_then(Value::as_str).map(str::to_owned)
}

fn label(id: &Value) -> String {
    id.as_str().map_or_else(|| id.to_string(), str::to_owned)
}

/// Members, each followed by what was made from it; what was made from nothing that is here comes from the seed.
fn in_order(members: Vec<Member>) -> Vec<Member> {
    let rows: BTreeSet<String> =
        members.iter().filter(|member| member.is_row()).map(|member| member.id.clone()).collect();
    let mut below: BTreeMap<Option<String>, Vec<Member>> = BTreeMap::new();
    for member in members {
        let parent = member.parent.clone().filter(|parent| rows.contains(parent));
        below.entry(parent).or_default().push(member);
    }
    let sorted = |mut members: Vec<Member>| {
        // From the last to the first: they are taken from the end.
        members.sort_by(|a, b| (b.round, &b.id, b.attempt).cmp(&(a.round, &a.id, a.attempt)));
        members
    };
    let mut open = sorted(below.remove(&None).unwrap_or_default());
    let mut ordered: Vec<Member> = Vec::new();
    while let Some(member) = open.pop() {
        if member.is_row() {
            let children = sorted(below.remove(&Some(member.id.clone())).unwrap_or_default());
            open.extend(children.into_iter().map(|child| Member { depth: member.depth + 1, ..child }));
        }
        ordered.push(member);
    }
    ordered
}

/// Gives every attempt of a run, and why it was turned down. Lines that are no rows are passed over.
fn each_attempt(run: &Path, on_row: &mut dyn FnMut(Map<String, Value>, Option<Cause>)) -> Result<()> {
    let decisions = Decisions::beside(&run.join(RECORDS))?.unwrap_or_default();
    for name in [RECORDS, REJECTS] {
        let path = run.join(name);
        if name == REJECTS && !path.exists() {
            continue;
        }
        let mut lines = Lines::open(&path)?;
        let mut line = Vec::new();
        while lines.next(&mut line)?.is_some() {
            let Ok(Value::Object(mut row)) = serde_json::from_slice(&line) else { continue };
            let reason = if name == REJECTS {
                let of = |part: &str| {
                    let reason = row.get("meta").and_then(|meta| meta.get("reason")).and_then(|r| r.get(part));
                    reason.and_then(Value::as_str).unwrap_or_default().to_owned()
                };
                Some(Cause { rule: of("rule"), detail: of("detail") })
            } else {
                match decisions.apply(&mut row) {
                    Applied::Rejected(detail) => Some(Cause { rule: REVIEW.to_owned(), detail }),
                    _ => None,
                }
            };
            on_row(row, reason);
        }
    }
    Ok(())
}
