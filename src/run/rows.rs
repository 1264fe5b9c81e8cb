//! The rows of a run and the order of its decisions.
//!
//! Attempts end in any order; rows are accepted in row order. Rules about single rows are asked as an
//! attempt ends and their answer is kept in the ledger; rules that compare rows are asked here, when all
//! lower rows are decided, against what was finally accepted. So what stands in a row is a function of the
//! plan alone, and a run that goes on after a stop decides as if it had never stopped.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::directory::RunDirectory;
use super::event::{Event, Summary};
use super::ledger::Entry;
use super::seeds::{Origin, Seeds, family, texts_of};
use crate::error::Result;
use crate::filter::{Candidate, CrossRows, Other, Prepared};
use crate::plan::Plan;
use crate::recipe::Dealer;
use crate::row::{Attempt, Lineage, Meta, Reason, Record, row_id};
use instil_model::decode::StreamKey;
use instil_model::model::embedder::Embedder;

/// A row that is not decided yet.
struct Row {
    /// What the plan gives it; where that depends on what it is made from, once that is decided.
    attributes: Map<String, Value>,
    /// Which set of few-shot examples its prompts show.
    set: u32,
    /// What it is made from, once that is decided.
    origin: Option<Origin>,
    /// The attempt at hand.
    number: u16,
    turned_down: Vec<(u16, Attempt, Reason)>,
    /// Attempts that could not be begun.
    impossible: u16,
    state: State,
}

enum State {
    /// The row that it may be made from is not decided.
    Waiting,
    /// Its attempt is not in the ledger.
    Wanting,
    /// Its attempt passed the rules about single rows.
    Passed { attempt: Box<Attempt>, prepared: Box<Prepared>, was_known: bool },
    /// No attempt is left.
    GivenUp,
    /// No value of an attribute applies to what it would be made from.
    Unfit,
}

/// An attempt that has to be decoded.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// Row and number of the attempt.
    pub key: StreamKey,
    /// What the plan gives the row.
    pub attributes: Map<String, Value>,
    /// Its set of few-shot examples.
    pub set: u32,
    /// What it is made from.
    pub origin: Option<Origin>,
}

/// What stands in a row's line beside its attempt.
struct Context<'a> {
    /// What the plan gave the row.
    attributes: &'a Map<String, Value>,
    /// Fields that it keeps of its seed.
    kept: Option<&'a Map<String, Value>>,
    /// How its seed was made.
    kept_meta: Option<&'a Value>,
    /// What it descends from.
    lineage: Option<Lineage>,
}

impl Context<'_> {
    fn record(&self, key: StreamKey, attempt: &Attempt, reason: Option<&Reason>) -> Record {
        let mut fields = self.kept.cloned().unwrap_or_default();
        fields.extend(attempt.fields.clone());
        let meta = Meta {
            row: Some(key.row),
            attempt: key.attempt,
            seed: Some(key.seed),
            attributes: Some(self.attributes.clone()),
            steps: attempt.steps.clone(),
            aside: attempt.aside.clone(),
            reasoning: attempt.reasoning.clone(),
            scores: attempt.scores.clone(),
            lineage: self.lineage.clone(),
            before: self.kept_meta.cloned(),
            reason: reason.cloned(),
        };
        Record { id: row_id(key.seed, key.row), fields, meta }
    }
}

/// What opening a row found.
#[derive(Debug)]
pub(crate) enum Opened {
    /// It wants an attempt.
    Wanting(Wanted),
    /// The ledger has what is needed of it, or it waits for another row.
    Known,
    /// There is no row left.
    NoneLeft,
}

/// A row that was kept, and its texts.
type Latest = (u32, Arc<Map<String, Value>>);

/// The rows of a run, from the first undecided one on.
pub(crate) struct Rows<'a> {
    plan: &'a Plan,
    seeds: &'a Seeds,
    directory: &'a mut RunDirectory,
    coming: std::iter::Peekable<Box<dyn Iterator<Item = (u32, Map<String, Value>)> + 'a>>,
    /// Deals attributes where they depend on what rows are made from.
    dealer: Option<Dealer<'a>>,
    open: BTreeMap<u32, Row>,
    /// The lowest row that is not decided.
    decided: u32,
    /// The latest row kept of each seed's chain.
    latest: Vec<Option<Latest>>,
    /// What rows are compared with.
    accepted: CrossRows,
    /// What became of the rows decided so far.
    pub summary: Summary,
}

impl<'a> Rows<'a> {
    /// The rows of `plan`, none of them decided.
    ///
    /// # Errors
    /// When the attributes cannot be dealt out, or a file that filters compare with cannot be read.
    pub(crate) fn new(
        plan: &'a Plan,
        seeds: &'a Seeds,
        directory: &'a mut RunDirectory,
        embedder: Option<Arc<Embedder>>,
    ) -> Result<Self> {
        let assignments = plan.recipe.assignments(plan.seed).map_err(|fault| fault.into_usage(&plan.recipe.name))?;
        let shard = plan.shard;
        let dealer = Dealer::new(&plan.recipe, plan.seed);
        let coming = (0..plan.row_limit()).zip(assignments).filter(move |(row, _)| shard.is_none_or(|s| s.holds(*row)));
        let coming: Box<dyn Iterator<Item = _>> = Box::new(coming);
        let mut cross_rows = plan.recipe.filters.cross_rows(embedder)?;
        for (seed, index) in seeds.rows.iter().zip(0..) {
            let family = family(index);
            let prepared = cross_rows.prepare(Candidate { fields: &seed.texts, family: Some(&family) });
            cross_rows.accept(Other::Seed(index), &prepared)?;
        }
        // A row that is a few-shot example again is no new row.
        for (example, index) in plan.recipe.examples.iter().zip(seeds.len()..) {
            let prepared = cross_rows.prepare(example.into());
            cross_rows.accept(Other::Seed(index), &prepared)?;
        }
        Ok(Self {
            plan,
            seeds,
            directory,
            coming: coming.peekable(),
            dealer,
            open: BTreeMap::new(),
            decided: 0,
            latest: vec![None; seeds.rows.len()],
            accepted: cross_rows,
            summary: Summary::default(),
        })
    }

    /// How many rows are open.
    pub(crate) fn open_count(&self) -> usize {
        self.open.len()
    }

    /// Every row is decided.
    pub(crate) fn all_decided(&mut self) -> bool {
        self.is_met() || (self.open.is_empty() && self.coming.peek().is_none())
    }

    /// As many rows are accepted as are wanted, and the others need not be tried.
    fn is_met(&self) -> bool {
        self.plan.seeds.is_some() && !self.plan.tries && self.summary.accepted >= self.plan.rows
    }

    /// Opens the next row.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub(crate) fn open_next(&mut self) -> Result<Opened> {
        let Some((index, attributes)) = self.coming.next() else { return Ok(Opened::NoneLeft) };
        let set = self.plan.recipe.example_set_of(self.plan.seed, index);
        let state = State::Waiting;
        self.open.insert(
            index,
            Row { attributes, set, origin: None, number: 0, turned_down: Vec::new(), impossible: 0, state },
        );
        if self.seeds.before(index).is_none_or(|before| before < self.decided) {
            self.originate(index)?;
        }
        Ok(self.go_on(index)?.map_or(Opened::Known, Opened::Wanting))
    }

    /// Takes an attempt that was decoded into the ledger and its row. Returns the next attempt that the row
    /// wants, if it was turned down.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub(crate) fn take(&mut self, entry: Entry) -> Result<Option<Wanted>> {
        self.directory.ledger().append(&entry)?;
        let index = entry.row;
        self.absorb(entry, false);
        self.go_on(index)
    }

    /// Decides rows in order as far as they are known; what they want on the way is added to `wanted`.
    ///
    /// # Errors
    /// When a line cannot be written.
    pub(crate) fn settle(&mut self, wanted: &mut Vec<Wanted>, on_event: &mut dyn FnMut(Event)) -> Result<()> {
        while !self.is_met()
            && let Some(mut entry) = self.open.first_entry()
        {
            let index = *entry.key();
            let row = entry.get_mut();
            if let State::Passed { prepared, .. } = &row.state
                && let Some(reason) = self.accepted.check(prepared)?
            {
                let State::Passed { attempt, .. } = std::mem::replace(&mut row.state, State::Wanting) else {
                    unreachable!("it was passed a line ago")
                };
                row.turn_down(*attempt, reason, self.plan.retries);
                wanted.extend(self.go_on(index)?);
                continue;
            }
            let key = StreamKey { seed: self.plan.seed, row: index, step: 0, attempt: row.number };
            if matches!(row.state, State::Wanting | State::Waiting) {
                return Ok(());
            }
            let row = entry.remove();
            let context = self.context(&row);
            for (number, attempt, reason) in &row.turned_down {
                let key = StreamKey { attempt: *number, ..key };
                self.directory.reject(&context.record(key, attempt, Some(reason)).line())?;
                *self.summary.rejected.entry(reason.rule.to_string()).or_default() += 1;
                on_event(Event::Rejected { row: index, attempt, reason });
            }
            if let Some(origin) = &row.origin
                && self.seeds.before(index).is_none()
            {
                self.latest[origin.seed as usize] = None;
            }
            match &row.state {
                State::Passed { attempt, prepared, was_known } => {
                    self.accepted.accept(Other::Row(index), prepared)?;
                    self.directory.record(&context.record(key, attempt, None).line())?;
                    if let Some(origin) = &row.origin {
                        self.latest[origin.seed as usize] = Some((index, Arc::new(texts_of(&attempt.fields))));
                    }
                    self.summary.accepted += 1;
                    self.summary.known += u32::from(*was_known);
                    on_event(Event::Accepted { row: index, attempt, was_known: *was_known });
                }
                State::GivenUp | State::Wanting | State::Waiting => {
                    self.summary.given_up += 1;
                    let last = row.turned_down.last().map(|(_, _, reason)| reason);
                    self.summary.lacks(&row.attributes, last);
                }
                State::Unfit => {
                    self.summary.given_up += 1;
                    self.summary.unfit += 1;
                }
            }
            self.decided = index + 1;
            if let Some(after) = self.seeds.after(index)
                && self.open.contains_key(&after)
            {
                self.originate(after)?;
                wanted.extend(self.go_on(after)?);
            }
        }
        Ok(())
    }

    /// Leaves a run that came to nothing: what was begun in this session may be taken back.
    pub(crate) fn forsake(self) {
        self.directory.is_forsaken = true;
    }

    /// Ends the files of the run.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn finish(self) -> Result<Summary> {
        self.directory.finish()?;
        Ok(self.summary)
    }

    /// Gives an open row what it is made from, now that everything below it in its chain is decided. Rows of one round
    /// come here in ascending order, however the run goes.
    fn originate(&mut self, index: u32) -> Result<()> {
        let origin = self.origin_of(index);
        let row = self.open.get_mut(&index).expect("it was opened and is not decided");
        row.state = State::Wanting;
        if let (Some(dealer), Some(origin)) = (&mut self.dealer, &origin) {
            match dealer.deal(index, index / self.seeds.len(), &self.seeds.values(origin))? {
                Some(attributes) => row.attributes = attributes,
                None => {
                    row.attributes.clear();
                    row.state = State::Unfit;
                }
            }
        }
        row.origin = origin;
        Ok(())
    }

    /// What `row` is made from; everything below it in its chain is decided.
    fn origin_of(&self, row: u32) -> Option<Origin> {
        if self.seeds.is_empty() {
            return None;
        }
        let latest = self.seeds.before(row).and(self.latest[self.seeds.place(row).0 as usize].as_ref());
        Some(self.seeds.origin(row, latest))
    }

    fn context<'r>(&self, row: &'r Row) -> Context<'r>
    where
        'a: 'r,
    {
        let mut context = Context { attributes: &row.attributes, kept: None, kept_meta: None, lineage: None };
        if let Some(origin) = &row.origin {
            let seed = &self.seeds.rows[origin.seed as usize];
            if self.plan.recipe.seeds.is_some_and(|seeds| seeds.keep) {
                context.kept = Some(&seed.fields);
                context.kept_meta = seed.meta.as_ref();
            }
            context.lineage = Some(self.seeds.lineage(origin, self.plan.seed));
        }
        context
    }

    /// Brings a row as far as the ledger goes; the attempt that it then wants.
    fn go_on(&mut self, index: u32) -> Result<Option<Wanted>> {
        loop {
            let row = self.open.get_mut(&index).expect("it was opened and is not decided");
            if !matches!(row.state, State::Wanting) {
                return Ok(None);
            }
            if row.number >= self.plan.recipe.max_attempts {
                row.state = State::GivenUp;
                return Ok(None);
            }
            match self.directory.ledger().entry(index, row.number)? {
                Some(entry) => self.absorb(entry, true),
                None => {
                    let key = StreamKey { seed: self.plan.seed, row: index, step: 0, attempt: row.number };
                    let (attributes, origin) = (row.attributes.clone(), row.origin.clone());
                    return Ok(Some(Wanted { key, attributes, set: row.set, origin }));
                }
            }
        }
    }

    fn absorb(&mut self, entry: Entry, was_known: bool) {
        let row = self.open.get_mut(&entry.row).expect("only attempts that were wanted come");
        match entry.reason {
            Some(reason) => row.turn_down(entry.attempt, reason, self.plan.retries),
            None => {
                let family = row.origin.as_ref().map(Origin::family);
                let candidate = Candidate { fields: &entry.attempt.fields, family: family.as_deref() };
                let prepared = Box::new(self.accepted.prepare(candidate));
                row.state = State::Passed { attempt: Box::new(entry.attempt), prepared, was_known };
            }
        }
    }
}

impl Row {
    /// One that could not be begun is tried again only in more room, of which there were `retries`.
    fn turn_down(&mut self, attempt: Attempt, reason: Reason, retries: u16) {
        self.impossible += u16::from(reason.is_final(&attempt));
        self.turned_down.push((self.number, attempt, reason));
        self.number = if self.impossible > retries { u16::MAX } else { self.number + 1 };
    }
}
