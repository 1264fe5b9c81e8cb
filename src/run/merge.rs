//! Joins runs of the same plan: shards into one, or what two machines made of it.
//!
//! Only attempts are joined. Decisions between rows are taken again in row order, so the result is what one
//! run would have written, up to the first row that still wants an attempt. What people decided on the rows of the
//! parts (`decisions.jsonl`) comes along.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::directory::{self, RunDirectory};
use super::driver::replay;
use super::event::{Event, Summary};
use super::ledger::{Recovered, Scan};
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::row::{Decision, Decisions, RunFiles};
use instil_model::model::embedder::Embedder;

/// What was joined.
#[derive(Debug)]
pub(crate) struct Merged {
    /// The plan of the whole.
    pub plan: Plan,
    /// What became of its rows.
    pub summary: Summary,
    /// What the parts' ledgers held, in the order given.
    pub parts: Vec<Recovered>,
    /// Rows that people decided on in the parts.
    pub decided: usize,
}

/// Joins the runs `parts` into a new run at `output`; `embedder` is the one that the parts' plan names.
///
/// # Errors
/// When a part is no run, belongs to another plan or is being written, people decided differently on the same row of
/// two parts, or `output` cannot be written.
pub(crate) fn merge(
    output: &Path,
    parts: &[PathBuf],
    embedder: Option<Arc<Embedder>>,
    on_event: &mut dyn FnMut(Event),
) -> Result<Merged> {
    let Some(first) = parts.first() else {
        return Err(Error::usage("there is nothing to merge", "name the run directories"));
    };
    let mut plan = Plan::read(first)?;
    let hash = plan.hash();
    let mut locks = Vec::new();
    let mut scans = Vec::new();
    for part in parts {
        locks.push(directory::lock_to_read(part)?);
        let other = Plan::read(part)?;
        if other.hash() != hash {
            let differences = plan.differences(&other, 3).join("; ");
            let what = format!("was planned otherwise than {}: {differences}", first.display());
            return Err(Error::input(part, what, "merge runs of one plan only"));
        }
        plan.rows = plan.rows.max(other.rows);
        scans.push(Scan::read(part, &hash)?);
    }
    plan.shard = None;
    let decisions = Decisions::gather(parts)?;
    let mut whole = RunDirectory::open(output, &plan, false)?;
    let joined = scans.iter_mut().try_for_each(|scan| {
        for (row, number) in scan.attempts() {
            if !whole.ledger().has(row, number)
                && let Some(entry) = scan.entry(row, number)?
            {
                whole.ledger().append(&entry)?;
            }
        }
        Ok(())
    });
    if let Err(cause) = joined.and_then(|()| whole.ledger().sync()) {
        whole.discard();
        return Err(cause);
    }
    let summary = replay(&plan, embedder, &mut whole, on_event)?;
    let decided = match carry(decisions, output) {
        Ok(decided) => decided,
        Err(cause) => {
            whole.discard();
            return Err(cause);
        }
    };
    Ok(Merged { plan, summary, parts: scans.iter().map(Scan::recovered).collect(), decided })
}

/// Writes the parts' decisions beside the rows of the whole; on how many rows they are.
fn carry(gathered: Vec<Decision>, output: &Path) -> Result<usize> {
    if gathered.is_empty() {
        return Ok(0);
    }
    let files = RunFiles::of(output);
    let decisions = Decisions::settle(gathered, &files.records)?;
    decisions.write(&files.decisions)?;
    Ok(decisions.len())
}
