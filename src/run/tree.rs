//! The families of an evolved run: each seed with what was made of it, kept and turned down.
//!
//! Read from `records.jsonl` and `rejects.jsonl` alone, by `meta.lineage`; the seeds' own texts come from
//! their file, if it still is what the run was planned with. Memory is that of the families shown.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

use super::seeds::Seeds;
use crate::disk::Lines;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::row::{Applied, Decisions, ID, Lineage, Meta, Reason, RunFiles, parse, rule};

/// A seed and what descends from it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Family {
    /// Place of the seed in its file, from 0.
    pub seed: u32,
    /// Identifier of the seed in its file.
    pub seed_id: Option<Value>,
    /// What the seed asks; none where its file has changed since.
    pub instruction: Option<String>,
    /// Attempts, each below what it was made from.
    pub members: Vec<Member>,
}

/// An attempt at a row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Member {
    /// The row's identifier.
    pub id: String,
    /// The row that it was made from; none for the seed itself.
    pub parent: Option<String>,
    /// Rows between it and its seed, itself included: 1 was made from the seed.
    pub depth: usize,
    /// Round of the run, from 1.
    pub round: u16,
    /// Attempt at the row, from 0.
    pub attempt: u16,
    /// What was done to its parent, where the plan dealt operators out.
    pub operator: Option<String>,
    /// It is a row of the data set, and nobody rejected it since.
    pub kept: bool,
    /// Why it is not.
    pub reason: Option<Reason>,
    /// What it asks; empty when it was turned down before that was written.
    pub instruction: String,
}

/// Families of the run at `run`, by seed: at most `most` of them, or with `wanted` the one that holds the row or
/// the seed of that identifier. Also how many there are.
///
/// # Errors
/// When the run cannot be read, its rows descend from nothing, or `wanted` is in no family.
pub(crate) fn families(run: &Path, wanted: Option<&str>, most: usize) -> Result<(Vec<Family>, usize)> {
    let mut seeds = BTreeSet::new();
    let mut found = None;
    each_attempt(run, &mut |row, _| {
        let Some(lineage) = Meta::of(&row).lineage else { return };
        seeds.insert(lineage.seed);
        let is_wanted = |id: &Value| wanted.is_some_and(|wanted| label(id) == wanted);
        if row.get(ID).is_some_and(is_wanted) || lineage.seed_id.as_ref().is_some_and(is_wanted) {
            found = Some(lineage.seed);
        }
    })?;
    if seeds.is_empty() {
        let what = "no row of this run descends from a seed";
        return Err(Error::input(run, what, "give the directory of an `instil evolve` run"));
    }
    let shown: BTreeSet<u32> = match (wanted, found) {
        (Some(_), Some(seed)) => BTreeSet::from([seed]),
        (Some(wanted), None) => {
            let what = format!("no row or seed of this run has the id {wanted}");
            return Err(Error::input(run, what, "take an id from its records.jsonl or rejects.jsonl"));
        }
        (None, _) => seeds.iter().copied().take(most).collect(),
    };
    let mut families: BTreeMap<u32, Family> = BTreeMap::new();
    each_attempt(run, &mut |row, reason| {
        let meta = Meta::of(&row);
        let Some(lineage) = meta.lineage.as_ref().filter(|lineage| shown.contains(&lineage.seed)) else { return };
        let new = || Family { seed: lineage.seed, seed_id: lineage.seed_id.clone(), ..Family::default() };
        families.entry(lineage.seed).or_insert_with(new).members.push(Member::of(&row, &meta, lineage, reason));
    })?;
    // Whoever moved the seeds can still see the tree.
    if let Ok(texts) = Plan::read(run).and_then(|plan| Seeds::of(&plan)) {
        for family in families.values_mut() {
            let seed = texts.rows.get(family.seed as usize);
            family.instruction = seed.and_then(|seed| text(&seed.texts));
        }
    }
    let families = families.into_values().map(|family| Family { members: in_order(family.members), ..family });
    Ok((families.collect(), seeds.len()))
}

impl Member {
    fn of(row: &Map<String, Value>, meta: &Meta, lineage: &Lineage, reason: Option<Reason>) -> Self {
        Self {
            id: row.get(ID).map(label).unwrap_or_default(),
            parent: lineage.parent.clone(),
            depth: 1,
            round: lineage.round,
            attempt: meta.attempt,
            operator: meta.attribute("operator").and_then(Value::as_str).map(str::to_owned),
            kept: reason.is_none(),
            reason,
            instruction: text(row).unwrap_or_default(),
        }
    }

    /// Whether the run kept it, whatever a person said later: others may descend from it.
    fn is_row(&self) -> bool {
        self.reason.as_ref().is_none_or(|cause| cause.rule == rule::REVIEW)
    }
}

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
fn each_attempt(run: &Path, on_row: &mut dyn FnMut(Map<String, Value>, Option<Reason>)) -> Result<()> {
    let files = RunFiles::of(run);
    let decisions = Decisions::beside(&files.records)?.unwrap_or_default();
    for path in [&files.records, &files.rejects] {
        let are_rejects = *path == files.rejects;
        if are_rejects && !path.exists() {
            continue;
        }
        let mut lines = Lines::open(path)?;
        let mut line = Vec::new();
        while lines.next(&mut line)?.is_some() {
            let Ok(mut row) = parse(&line) else { continue };
            let reason = if are_rejects {
                Some(Meta::of(&row).reason.unwrap_or_else(|| Reason::new(rule::UNKNOWN, "")))
            } else {
                match decisions.apply(&mut row) {
                    Applied::Rejected(detail) => Some(Reason::new(rule::REVIEW, detail)),
                    _ => None,
                }
            };
            on_row(row, reason);
        }
    }
    Ok(())
}
