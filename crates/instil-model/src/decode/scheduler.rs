//! Keeps a batch of sequences decoding: admits requests, steps the model, hands back completions.
//!
//! A request is admitted as soon as a slot is free and the memory for its keys and values is there;
//! until then it waits. Its prefix is looked up among those already prefilled and forked; only its
//! own prompt is read. A step then advances every slot at once: prompts, forced runs and single drawn
//! tokens are segments of one ragged forward pass; masks and draws of the batch run in parallel.
//! Requests that measure read their tokens in the same passes. A model whose sequences cannot be cut anywhere has the
//! end of a prefix or of a measured prompt kept as a sequence of its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::drawing::{Allowed, Drawing};
use super::measure::{Measuring, Question};
use super::{Completion, Finish, Request, Tension};
use crate::error::{Error, Result};
use crate::model::draw::{Samplers, ToDraw};
use crate::model::{Logits, Model, Segment, SequenceId, Sequences};
use instil_grammar::vocab::{TokenId, Vocab};

/// Prompt tokens read in one pass at most, over all slots: bounds a pass's memory.
const PROMPT_CHUNK: usize = 512;
/// Rows of logits computed for measurements in one pass at most, over all slots: 25 MB with a
/// vocabulary of 49,152 tokens.
const MEASURED_ROWS: usize = 128;
/// Prefixes kept prefilled at once.
const PREFIXES_KEPT: usize = 32;

/// What decoding cost so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Statistics {
    /// Prompt tokens that went through the model, and tokens read to measure them.
    pub prompt_tokens: usize,
    /// Prompt tokens that a shared prefix saved.
    pub prompt_tokens_shared: usize,
    /// Tokens drawn from the model's distribution.
    pub sampled_tokens: usize,
    /// Tokens that the grammar alone determined.
    pub forced_tokens: usize,
    /// Forward passes.
    pub passes: usize,
    /// Time inside the model.
    pub model_time: Duration,
    /// Time inside masks and sampling.
    pub sampling_time: Duration,
    /// Most memory that keys and values took at once.
    pub key_value_bytes: usize,
}

impl std::ops::Add for Statistics {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            prompt_tokens: self.prompt_tokens + other.prompt_tokens,
            prompt_tokens_shared: self.prompt_tokens_shared + other.prompt_tokens_shared,
            sampled_tokens: self.sampled_tokens + other.sampled_tokens,
            forced_tokens: self.forced_tokens + other.forced_tokens,
            passes: self.passes + other.passes,
            model_time: self.model_time + other.model_time,
            sampling_time: self.sampling_time + other.sampling_time,
            key_value_bytes: self.key_value_bytes + other.key_value_bytes,
        }
    }
}

/// How much a scheduler takes on at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Sequences decoded at once.
    pub slots: usize,
    /// Most bytes of keys and values. A request waits until what it may grow to fits beside the
    /// others; one that would never fit runs alone.
    pub key_value_bytes: usize,
}

impl Capacity {
    /// So many sequences, with no limit of memory.
    pub fn slots(slots: usize) -> Self {
        Self { slots, key_value_bytes: usize::MAX }
    }
}

/// Decodes requests over one model, a batch at a time.
pub struct Scheduler<'a> {
    model: &'a mut dyn Model,
    vocab: Arc<Vocab>,
    capacity: Capacity,
    queue: VecDeque<Request>,
    active: Vec<Slot>,
    prefixes: VecDeque<Prefix>,
    finished: VecDeque<Completion>,
    /// For models that draw on the processor.
    samplers: Samplers,
    statistics: Statistics,
}

/// Tokens that were read once for all requests that begin with them.
struct Prefix {
    tokens: Arc<[TokenId]>,
    sequence: SequenceId,
    bytes: usize,
}

struct Slot {
    request: Request,
    sequence: SequenceId,
    /// The sequence as it was after the prompt, where a measurement will go back and cannot cut.
    root: Option<SequenceId>,
    /// What the sequence may grow to, in bytes of keys and values.
    reserved: usize,
    /// Tokens that the model has not read yet; the first ones of a prompt come first.
    pending: VecDeque<TokenId>,
    work: Work,
}

enum Work {
    Draw(Drawing),
    /// With what was read after the prompt.
    Measure(Measuring, Vec<TokenId>),
}

/// A slot that draws, and the row of logits that it draws from.
struct Draws<'s> {
    slot: usize,
    text: &'s mut Drawing,
    request: &'s Request,
    pending: &'s mut VecDeque<TokenId>,
    row: usize,
}

/// Does something with each of `items`, on several threads where there are several: one is not worth waking others.
fn each<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Sync + Send) -> Vec<R> {
    if items.len() == 1 { items.into_iter().map(work).collect() } else { items.into_par_iter().map(work).collect() }
}

/// What one slot reads in a pass.
struct Read {
    slot: usize,
    tokens: Vec<TokenId>,
    /// After how many of the last tokens logits are wanted.
    logits: usize,
}

impl<'a> Scheduler<'a> {
    /// A scheduler that decodes as many requests at once as `capacity` allows, but at least one.
    pub fn new(model: &'a mut dyn Model, vocab: Arc<Vocab>, capacity: Capacity) -> Self {
        Self {
            model,
            vocab,
            capacity: Capacity { slots: capacity.slots.max(1), ..capacity },
            queue: VecDeque::new(),
            active: Vec::new(),
            prefixes: VecDeque::new(),
            finished: VecDeque::new(),
            samplers: Samplers::default(),
            statistics: Statistics::default(),
        }
    }

    /// Adds a request to the end of the queue.
    pub fn submit(&mut self, request: Request) {
        self.queue.push_back(request);
    }

    /// Requests that are queued or decoding.
    pub fn outstanding(&self) -> usize {
        self.queue.len() + self.active.len()
    }

    /// What decoding cost so far.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// The next completion, in the order in which they end; `None` when nothing is outstanding.
    ///
    /// # Errors
    /// When the model fails, or a request's limit is below what its grammar needs.
    pub fn next_completion(&mut self) -> Result<Option<Completion>> {
        loop {
            if let Some(completion) = self.finished.pop_front() {
                return Ok(Some(completion));
            }
            if self.outstanding() == 0 {
                return Ok(None);
            }
            self.step()?;
        }
    }

    /// A completion that an earlier step ended, if there is one.
    pub fn take_finished(&mut self) -> Option<Completion> {
        self.finished.pop_front()
    }

    /// One forward pass; completions that it ends are kept for [`Scheduler::next_completion`].
    ///
    /// # Errors
    /// As [`Scheduler::next_completion`].
    pub fn step(&mut self) -> Result<()> {
        self.admit()?;
        if self.active.is_empty() {
            return Ok(());
        }
        let reads = self.plan_reads();
        let segments: Vec<Segment> = reads
            .iter()
            .map(|read| Segment {
                sequence: self.active[read.slot].sequence,
                tokens: &read.tokens,
                logits: read.logits,
            })
            .collect();
        let start = Instant::now();
        let logits = self.model.forward(&segments)?;
        self.statistics.model_time += start.elapsed();
        self.statistics.passes += 1;
        for read in &reads {
            let slot = &mut self.active[read.slot];
            if slot.wants_root(self.model.sequences()) == Some(0) {
                let sequences = self.model.sequences();
                slot.root = Some(sequences.fork(slot.sequence, sequences.length(slot.sequence))?);
            }
        }
        self.statistics.key_value_bytes = self.statistics.key_value_bytes.max(self.model.key_value_memory().used_bytes);
        let start = Instant::now();
        let mut ended = self.take(&reads, &logits)?;
        self.model.recycle(logits);
        self.statistics.sampling_time += start.elapsed();
        ended.sort_unstable_by_key(|&(index, _)| index);
        for (index, finish) in ended.into_iter().rev() {
            let slot = self.active.remove(index);
            slot.free(self.model.sequences());
            self.finished.push_back(slot.complete(finish, &self.vocab));
        }
        Ok(())
    }

    /// Takes from each slot what it reads in the next pass.
    fn plan_reads(&mut self) -> Vec<Read> {
        let (mut room, mut rows) = (PROMPT_CHUNK, MEASURED_ROWS);
        let mut reads: Vec<Read> = Vec::with_capacity(self.active.len());
        for (index, slot) in self.active.iter_mut().enumerate() {
            let pending = slot.pending.len();
            let until_root = slot.wants_root(self.model.sequences()).filter(|&left| left > 0);
            let room_here = if pending == 1 { 1 } else { room.min(until_root.unwrap_or(room)) };
            let (count, logits) = match &slot.work {
                Work::Draw(_) => {
                    let count = pending.min(room_here);
                    (count, usize::from(count == pending))
                }
                Work::Measure(measuring, _) => {
                    let (count, logits) =
                        measuring.next_read(self.model.sequences().length(slot.sequence), pending, room_here, rows);
                    rows -= logits;
                    (count, logits)
                }
            };
            if count == 0 {
                continue;
            }
            room = room.saturating_sub(count);
            reads.push(Read { slot: index, tokens: slot.pending.drain(..count).collect(), logits });
        }
        reads
    }

    /// Draws and measures from the logits of a pass; returns the slots that ended.
    fn take(&mut self, reads: &[Read], logits: &Logits) -> Result<Vec<(usize, Finish)>> {
        let (mut drawing, mut asked): (Vec<Draws>, Vec<(usize, &Question, &[f32])>) = (Vec::new(), Vec::new());
        let mut reads = reads.iter().filter(|read| read.logits > 0).peekable();
        let mut row = 0;
        for (index, slot) in self.active.iter_mut().enumerate() {
            let Some(read) = reads.next_if(|read| read.slot == index) else { continue };
            match slot {
                Slot { work: Work::Draw(text), request, pending, .. } => {
                    drawing.push(Draws { slot: index, text, request, pending, row });
                }
                Slot { work: Work::Measure(measuring, _), sequence, .. } => {
                    let length = self.model.sequences().length(*sequence);
                    for (at, question) in measuring.answerable(length) {
                        asked.push((index, question, logits.row(row + at)?));
                    }
                }
            }
            row += read.logits;
        }
        let vocab = &*self.vocab;
        let answers: Vec<(usize, Vec<f64>)> =
            each(asked, |(slot, question, logits)| (slot, question.answer(logits, vocab.eos())));
        let allowed: Vec<Allowed> = each(drawing.iter_mut().collect(), |draws| draws.text.allowed(draws.request));
        let wanted: Vec<ToDraw> = drawing
            .iter()
            .zip(&allowed)
            .map(|(draws, allowed)| draws.text.to_draw(draws.request, allowed, draws.row))
            .collect();
        let drawn = self.model.draw(logits, &wanted, &self.samplers)?;
        let took: Vec<_> = drawing.into_iter().zip(allowed).zip(drawn).collect();
        let advanced = each(took, |((draws, allowed), draw)| -> Result<(usize, Option<Finish>, usize)> {
            let before = draws.text.forced;
            let finish = draws.text.take(draws.request, draws.pending, &allowed, draw, vocab)?;
            Ok((draws.slot, finish, draws.text.forced - before))
        });
        let mut ended: Vec<(usize, Finish)> = Vec::new();
        for advanced in advanced {
            let (index, finish, forced) = advanced?;
            self.statistics.forced_tokens += forced;
            self.statistics.sampled_tokens += usize::from(finish != Some(Finish::DeadEnd));
            ended.extend(finish.map(|finish| (index, finish)));
        }
        for (index, answer) in answers {
            if let Work::Measure(measuring, _) = &mut self.active[index].work {
                measuring.take(&answer);
            }
        }
        ended.extend(self.walk_on()?.into_iter().map(|index| (index, Finish::Complete)));
        Ok(ended)
    }

    /// Starts the next walk of each measurement that has read all; returns those that have none left.
    fn walk_on(&mut self) -> Result<Vec<usize>> {
        let mut over = Vec::new();
        for (index, slot) in self.active.iter_mut().enumerate() {
            let prompt = slot.request.prompt_length();
            let Work::Measure(measuring, read) = &mut slot.work else { continue };
            if !slot.pending.is_empty() {
                continue;
            }
            let Some((keep, tokens)) = measuring.next_walk() else {
                over.push(index);
                continue;
            };
            read.truncate(keep - prompt);
            read.extend(tokens);
            let sequences = self.model.sequences();
            let kept = match slot.root {
                Some(root) if !sequences.can_cut(slot.sequence, keep) => {
                    let again = sequences.fork(root, prompt)?;
                    sequences.free(std::mem::replace(&mut slot.sequence, again));
                    prompt
                }
                _ => {
                    sequences.truncate(slot.sequence, keep);
                    keep
                }
            };
            slot.pending.extend(&read[kept - prompt..]);
            self.statistics.prompt_tokens += slot.pending.len();
        }
        Ok(over)
    }

    /// Fills free slots from the queue.
    fn admit(&mut self) -> Result<()> {
        while self.active.len() < self.capacity.slots {
            let Some(next) = self.queue.front() else { break };
            if next.prompt_length() == 0 {
                self.queue.pop_front();
                return Err(Error::usage("a request holds no token to go on from", "give it a prompt"));
            }
            let memory = self.model.key_value_memory();
            let mut reserved = memory.of_sequence(next.prompt_length() + next.room());
            if next.measure.is_some() && memory.state_bytes > 0 {
                // What may be kept of the prompt.
                reserved += memory.of_sequence(1);
            }
            if !self.make_room(reserved) {
                break;
            }
            let Some(request) = self.queue.pop_front() else { break };
            let work = match &request.measure {
                None => Work::Draw(Drawing::start(&request)?),
                Some(measure) => {
                    let width = self.model.info().vocab_size;
                    let measuring = Measuring::start(measure, request.prompt_length(), width, &self.vocab)?;
                    Work::Measure(measuring, Vec::new())
                }
            };
            let (sequence, pending) = self.place(&request)?;
            let mut slot = Slot { request, sequence, root: None, reserved, pending, work };
            let finish = match &mut slot.work {
                // What the grammar forces before the first draw is read together with the prompt.
                Work::Draw(drawing) => {
                    let finish = drawing.follow_grammar(&slot.request, &mut slot.pending, &self.vocab)?;
                    self.statistics.forced_tokens += drawing.forced;
                    finish
                }
                // So is the first walk of a measurement.
                Work::Measure(measuring, read) => match measuring.next_walk() {
                    Some((_, tokens)) => {
                        self.statistics.prompt_tokens += tokens.len();
                        slot.pending.extend(&tokens);
                        *read = tokens;
                        None
                    }
                    None => Some(Finish::Complete),
                },
            };
            if let Some(finish) = finish {
                slot.free(self.model.sequences());
                self.finished.push_back(slot.complete(finish, &self.vocab));
            } else {
                self.active.push(slot);
            }
        }
        Ok(())
    }

    /// Whether `bytes` fit beside what is reserved, once prefixes that nobody needs now are let go.
    fn make_room(&mut self, bytes: usize) -> bool {
        let wanted = self.queue.front().map(|request| request.prefix.clone());
        loop {
            let active: usize = self.active.iter().map(|slot| slot.reserved).sum();
            let kept: usize = self.prefixes.iter().map(|prefix| prefix.bytes).sum();
            if active + kept + bytes <= self.capacity.key_value_bytes {
                return true;
            }
            let unneeded = |prefix: &Prefix| wanted.as_ref().is_none_or(|wanted| !wanted.starts_with(&prefix.tokens));
            // When nothing runs, whatever is kept has to go, and the request runs in any case.
            let Some(at) = self.prefixes.iter().position(|prefix| self.active.is_empty() || unneeded(prefix)) else {
                return self.active.is_empty();
            };
            if let Some(prefix) = self.prefixes.remove(at) {
                self.model.sequences().free(prefix.sequence);
            }
        }
    }

    /// A sequence that holds the request's prefix, and the tokens still to be read.
    fn place(&mut self, request: &Request) -> Result<(SequenceId, VecDeque<TokenId>)> {
        // The last prompt token is always read by the row itself: its logits are the row's.
        let shared =
            if request.prompt.is_empty() { request.prefix.len().saturating_sub(1) } else { request.prefix.len() };
        let rest: VecDeque<TokenId> = request.prefix[shared..].iter().chain(&request.prompt).copied().collect();
        self.statistics.prompt_tokens += rest.len();
        if shared == 0 {
            return Ok((self.model.sequences().create(), rest));
        }
        let known = self.prefixes.iter().position(|prefix| prefix.tokens[..] == request.prefix[..shared]);
        let parent = match known {
            Some(at) => {
                self.statistics.prompt_tokens_shared += shared;
                let entry = self.prefixes.remove(at).expect("the index was just found");
                let sequence = entry.sequence;
                self.prefixes.push_back(entry);
                sequence
            }
            None => {
                if self.prefixes.len() == PREFIXES_KEPT
                    && let Some(oldest) = self.prefixes.pop_front()
                {
                    self.model.sequences().free(oldest.sequence);
                }
                // What another prefix begins with alike is there already, if that can be cut to it.
                let sequences = self.model.sequences();
                let alike = |prefix: &Prefix| {
                    let pairs = prefix.tokens.iter().zip(&request.prefix[..shared]);
                    let common = pairs.take_while(|(a, b)| a == b).count();
                    (if sequences.can_cut(prefix.sequence, common) { common } else { 0 }, prefix.sequence)
                };
                let (common, nearest) = self.prefixes.iter().map(alike).max().unwrap_or((0, SequenceId(0)));
                let sequence = if common > 0 {
                    self.model.sequences().fork(nearest, common)?
                } else {
                    self.model.sequences().create()
                };
                let start = Instant::now();
                for chunk in request.prefix[common..shared].chunks(PROMPT_CHUNK) {
                    self.model.forward(&[Segment { sequence, tokens: chunk, logits: 0 }])?;
                    self.statistics.passes += 1;
                }
                self.statistics.model_time += start.elapsed();
                self.statistics.prompt_tokens += shared - common;
                self.statistics.prompt_tokens_shared += common;
                let bytes = self.model.key_value_memory().of_sequence(shared);
                self.prefixes.push_back(Prefix { tokens: request.prefix[..shared].into(), sequence, bytes });
                sequence
            }
        };
        Ok((self.model.sequences().fork(parent, shared)?, rest))
    }
}

impl Drop for Scheduler<'_> {
    fn drop(&mut self) {
        for prefix in self.prefixes.drain(..) {
            self.model.sequences().free(prefix.sequence);
        }
        for slot in self.active.drain(..) {
            slot.free(self.model.sequences());
        }
    }
}

impl Slot {
    /// How many tokens are left until the sequence is to be kept as it is then, for a measurement that will go back;
    /// `None` where it need not.
    fn wants_root(&self, sequences: &dyn Sequences) -> Option<usize> {
        match &self.work {
            Work::Measure(measuring, _) if !measuring.is_last_walk() && !sequences.cuts_anywhere() => {
                self.request.prompt_length().checked_sub(sequences.length(self.sequence))
            }
            _ => None,
        }
    }

    fn free(&self, sequences: &mut dyn Sequences) {
        [self.sequence].into_iter().chain(self.root).for_each(|sequence| sequences.free(sequence));
    }

    fn complete(self, finish: Finish, vocab: &Vocab) -> Completion {
        match self.work {
            Work::Draw(drawing) => drawing.complete(&self.request, finish, vocab),
            Work::Measure(measuring, _) => Completion {
                key: self.request.key,
                tokens: Vec::new(),
                text: Vec::new(),
                thoughts: None,
                finish,
                closed_by_budget: false,
                assumed: false,
                forced: 0,
                leant: 0,
                tension: Tension::default(),
                measured: measuring.measured(),
            },
        }
    }
}
