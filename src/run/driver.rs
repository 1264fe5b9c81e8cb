//! Turns attempts into accepted rows.
//!
//! Keeps the scheduler full with what [`super::rows`] wants, takes what comes back into the ledger, and lets
//! rows be decided in order. An attempt that is turned down is followed by the next attempt of the same row.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::directory::RunDirectory;
use super::event::{Event, Summary};
use super::ledger::Entry;
use super::rows::{Opened, Rows, Wanted};
use super::seeds::Seeds;
use super::steps::{Decoding, Next, Reader, Steps};
use crate::error::Result;
use crate::plan::Plan;
use instil_grammar::constraint::Compiler;
use instil_model::decode::{Capacity, Scheduler, StreamKey};
use instil_model::model::Model;
use instil_model::model::embedder::Embedder;
use instil_model::tokenizer::Tokenizer;

/// Rows that may be open at once, as a multiple of the slots: bounds memory while rows wait for lower ones.
const AHEAD: usize = 8;

/// A model that gives scores in place of the one that writes.
pub(crate) struct Judge<'a> {
    /// The model.
    pub model: &'a mut dyn Model,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
}

/// What a run works with.
pub(crate) struct Workshop<'a> {
    /// The model.
    pub model: &'a mut dyn Model,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// Grammars → constraints over its vocabulary.
    pub compiler: &'a Compiler,
    /// Another model for the scores.
    pub judge: Option<Judge<'a>>,
    /// The sentence embedder of the rule `semantic`.
    pub embedder: Option<Arc<Embedder>>,
    /// Sequences that each model decodes at once, and the memory of their keys and values.
    pub capacity: Capacity,
}

/// Makes the rows of `plan` into `directory`, until all are decided or `stop` is set.
///
/// # Errors
/// When no row can be made, the model fails, or a line cannot be written. What was decoded before stays
/// on the disk. Rows that were given up are in the summary, not an error.
pub(crate) fn generate<'a>(
    plan: &'a Plan,
    workshop: Workshop<'a>,
    directory: &mut RunDirectory,
    stop: &AtomicBool,
    on_event: &mut dyn FnMut(Event),
) -> Result<Summary> {
    let start = Instant::now();
    let seeds = Seeds::of(plan)?;
    let reader = |model: &dyn Model, tokenizer: &Arc<Tokenizer>| Reader {
        tokenizer: tokenizer.clone(),
        context_length: model.info().context_length,
    };
    let writer = reader(workshop.model, &workshop.tokenizer);
    let judge = workshop.judge.as_ref().map(|judge| reader(judge.model, &judge.tokenizer));
    let mut steps = Steps::new(plan, &seeds, writer, judge, workshop.compiler)?;
    let slots = workshop.capacity.slots;
    let mut scheduler = Scheduler::new(workshop.model, workshop.tokenizer.vocab().clone(), workshop.capacity);
    let mut judge =
        workshop.judge.map(|judge| Scheduler::new(judge.model, judge.tokenizer.vocab().clone(), workshop.capacity));
    let mut rows = Rows::new(plan, &seeds, directory, workshop.embedder)?;
    let mut decoding: HashMap<(u32, u16), Decoding> = HashMap::new();
    let mut wanted: Vec<Wanted> = Vec::new();
    let mut first_cause = None;
    while !rows.all_decided() {
        if stop.load(Ordering::Relaxed) {
            rows.summary.interrupted = true;
            break;
        }
        let waiting = outstanding(&scheduler, judge.as_ref());
        while slots.saturating_sub(waiting) > wanted.len() && rows.open_count() < slots * AHEAD {
            match rows.open_next()? {
                Opened::Wanting(want) => wanted.push(want),
                Opened::Known => {}
                Opened::NoneLeft => break,
            }
        }
        rows.settle(&mut wanted, on_event)?;
        let mut beginning: VecDeque<Wanted> = wanted.drain(..).collect();
        while let Some(want) = beginning.pop_front() {
            let mut attempt = Decoding::new(want.key, want.attributes, want.set, want.origin);
            let next = steps.begin(&mut attempt);
            let (next, cause) = Steps::or_turned_down(&mut attempt, next)?;
            first_cause = first_cause.or(cause);
            decoding.insert((want.key.row, want.key.attempt), attempt);
            let mut desk =
                Desk { scheduler: &mut scheduler, judge: judge.as_mut(), rows: &mut rows, decoding: &mut decoding };
            beginning.extend(desk.follow(want.key, next, &steps, on_event)?);
        }
        if outstanding(&scheduler, judge.as_ref()) == 0 {
            continue;
        }
        let step = Instant::now();
        scheduler.step()?;
        judge.as_mut().map_or(Ok(()), Scheduler::step)?;
        rows.summary.stepping += step.elapsed();
        while let Some(completion) =
            scheduler.take_finished().or_else(|| judge.as_mut().and_then(Scheduler::take_finished))
        {
            let key = completion.key;
            let attempt = decoding.get_mut(&(key.row, key.attempt)).expect("a completion belongs to an attempt");
            let next = steps.finish(attempt, &completion);
            let (next, cause) = Steps::or_turned_down(attempt, next)?;
            first_cause = first_cause.or(cause);
            let mut desk =
                Desk { scheduler: &mut scheduler, judge: judge.as_mut(), rows: &mut rows, decoding: &mut decoding };
            wanted.extend(desk.follow(key, next, &steps, on_event)?);
        }
        let statistics = scheduler.statistics() + judge.as_ref().map(Scheduler::statistics).unwrap_or_default();
        on_event(Event::Progress { statistics });
    }
    // Where no row could even be begun, the cause is the plan's and not a row's.
    if scheduler.statistics().prompt_tokens == 0
        && rows.summary.accepted == 0
        && let Some(cause) = first_cause
    {
        rows.forsake();
        return Err(cause);
    }
    rows.summary.cause = first_cause.map(|cause| cause.to_string());
    let mut summary = rows.finish()?;
    summary.judging = judge.as_ref().map(Scheduler::statistics);
    summary.statistics = scheduler.statistics() + summary.judging.unwrap_or_default();
    summary.elapsed = start.elapsed();
    Ok(summary)
}

fn outstanding(scheduler: &Scheduler, judge: Option<&Scheduler>) -> usize {
    scheduler.outstanding() + judge.map_or(0, Scheduler::outstanding)
}

/// Where attempts go from step to step.
struct Desk<'d, 's, 'r> {
    scheduler: &'d mut Scheduler<'s>,
    judge: Option<&'d mut Scheduler<'s>>,
    rows: &'d mut Rows<'r>,
    decoding: &'d mut HashMap<(u32, u16), Decoding>,
}

impl Desk<'_, '_, '_> {
    /// Gives an attempt what it needs next; what its row wants when it has ended.
    fn follow(
        &mut self,
        key: StreamKey,
        next: Next,
        steps: &Steps,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<Option<Wanted>> {
        match next {
            Next::Request(request) => {
                let field = &steps.step_of(request.key).field;
                on_event(Event::Requested {
                    key: request.key,
                    field,
                    prefix: &request.prefix,
                    prompt: &request.prompt,
                });
                match self.judge.as_mut().filter(|_| steps.is_for_judge(request.key)) {
                    Some(judge) => judge.submit(*request),
                    None => self.scheduler.submit(*request),
                }
                Ok(None)
            }
            Next::Ended(attempt, reason) => {
                let (row, number) = (key.row, key.attempt);
                self.decoding.remove(&(row, number));
                self.rows.summary.decoded += 1;
                self.rows.take(Entry { row, number, attempt: *attempt, reason })
            }
        }
    }
}

/// Decides the rows of `plan` as far as the ledger of `directory` goes, without a model.
///
/// # Errors
/// When the ledger cannot be read or a line cannot be written.
pub(crate) fn replay(
    plan: &Plan,
    embedder: Option<Arc<Embedder>>,
    directory: &mut RunDirectory,
    on_event: &mut dyn FnMut(Event),
) -> Result<Summary> {
    let seeds = Seeds::of(plan)?;
    let mut rows = Rows::new(plan, &seeds, directory, embedder)?;
    let mut wanted = Vec::new();
    while wanted.is_empty() && !rows.all_decided() {
        if let Opened::Wanting(want) = rows.open_next()? {
            wanted.push(want);
        }
        rows.settle(&mut wanted, on_event)?;
    }
    rows.finish()
}
