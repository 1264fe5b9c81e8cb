//! Keeps a batch of sequences decoding: admits requests, steps the model, hands back completions.
//!
//! A request is admitted as soon as a slot is free and the memory for its keys and values is there;
//! until then it waits. Its prefix is looked up among those already prefilled and forked; only its
//! own prompt is read. A step then advances every slot at once: prompts, forced runs and single drawn
//! tokens are segments of one ragged forward pass; masks and draws of the batch run in parallel.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::sampler::Sampler;
use super::{Completion, Finish, Request, Tension};
use crate::constraint::TextSession;
use crate::error::Result;
use crate::model::{Model, Segment, SequenceId};
use crate::vocab::{TokenId, Vocab};

/// Prompt tokens read in one pass at most, over all slots: bounds a pass's memory.
const PROMPT_CHUNK: usize = 512;
/// Prefixes kept prefilled at once.
const PREFIXES_KEPT: usize = 16;

/// What decoding cost so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Statistics {
    /// Prompt tokens that went through the model.
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
    /// One for each thread that draws.
    samplers: Vec<Mutex<Sampler>>,
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
    /// What the sequence may grow to, in bytes of keys and values.
    reserved: usize,
    session: Option<Box<dyn TextSession>>,
    /// Tokens that the model has not read yet; the first ones of a prompt come first.
    pending: VecDeque<TokenId>,
    tokens: Vec<TokenId>,
    drawn: u32,
    forced: usize,
    tension_sum: f64,
    tension_max: f32,
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
            samplers: (0..=rayon::current_num_threads()).map(|_| Mutex::default()).collect(),
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

    /// Free slots that no queued request will take.
    pub fn vacancies(&self) -> usize {
        self.capacity.slots.saturating_sub(self.outstanding())
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
        let mut room = PROMPT_CHUNK;
        let mut plans: Vec<(usize, Vec<TokenId>, bool)> = Vec::with_capacity(self.active.len());
        for (index, slot) in self.active.iter_mut().enumerate() {
            let count = slot.pending.len().min(if slot.pending.len() == 1 { 1 } else { room });
            if count == 0 {
                continue;
            }
            room = room.saturating_sub(count);
            let tokens: Vec<TokenId> = slot.pending.drain(..count).collect();
            plans.push((index, tokens, slot.pending.is_empty()));
        }
        let segments: Vec<Segment> = plans
            .iter()
            .map(|(index, tokens, logits)| Segment { sequence: self.active[*index].sequence, tokens, logits: *logits })
            .collect();
        let start = Instant::now();
        let logits = self.model.forward(&segments)?;
        self.statistics.model_time += start.elapsed();
        self.statistics.passes += 1;
        let start = Instant::now();
        let mut wants = plans.iter().map(|(index, _, wants_logits)| (*index, *wants_logits)).peekable();
        let mut rows = 0..;
        let mut drawing: Vec<(usize, &mut Slot, &[f32])> = Vec::new();
        for (index, slot) in self.active.iter_mut().enumerate() {
            if wants.next_if(|want| want.0 == index).is_some_and(|want| want.1) {
                let row = rows.next().expect("an endless range");
                drawing.push((index, slot, logits.row(row)));
            }
        }
        let (samplers, vocab) = (&self.samplers, &*self.vocab);
        let advance = |(index, slot, logits): (usize, &mut Slot, &[f32])| {
            let thread = rayon::current_thread_index().map_or(0, |thread| thread + 1);
            let mut sampler = samplers[thread].lock().expect("a sampler's thread locks it alone");
            let before = slot.forced;
            let finish = slot.advance(&mut sampler, logits, vocab)?;
            Ok((index, finish, slot.forced - before))
        };
        // One row is not worth waking other threads.
        let advanced: Vec<(usize, Option<Finish>, usize)> = if drawing.len() == 1 {
            drawing.into_iter().map(advance).collect::<Result<_>>()?
        } else {
            drawing.into_par_iter().map(advance).collect::<Result<_>>()?
        };
        let mut ended: Vec<(usize, Finish)> = Vec::new();
        for (index, finish, forced) in advanced {
            self.statistics.forced_tokens += forced;
            self.statistics.sampled_tokens += usize::from(finish != Some(Finish::DeadEnd));
            ended.extend(finish.map(|finish| (index, finish)));
        }
        self.statistics.sampling_time += start.elapsed();
        for (index, finish) in ended.into_iter().rev() {
            let slot = self.active.remove(index);
            self.model.free(slot.sequence);
            self.finished.push_back(slot.complete(finish, &self.vocab));
        }
        Ok(())
    }

    /// Fills free slots from the queue.
    fn admit(&mut self) -> Result<()> {
        while self.active.len() < self.capacity.slots {
            let Some(next) = self.queue.front() else { break };
            let memory = self.model.key_value_memory();
            let reserved = memory.of_sequence(next.prefix.len() + next.prompt.len() + next.max_tokens);
            if !self.make_room(reserved) {
                break;
            }
            let Some(request) = self.queue.pop_front() else { break };
            let session = match &request.constraint {
                Some(constraint) => Some(constraint.start(Some(request.max_tokens))?),
                None => None,
            };
            let (sequence, pending) = self.place(&request)?;
            let mut slot = Slot {
                request,
                sequence,
                reserved,
                session,
                pending,
                tokens: Vec::new(),
                drawn: 0,
                forced: 0,
                tension_sum: 0.0,
                tension_max: 0.0,
            };
            // What the grammar forces before the first draw is read together with the prompt.
            let finish = slot.follow_grammar(&self.vocab)?;
            self.statistics.forced_tokens += slot.forced;
            if let Some(finish) = finish {
                self.model.free(slot.sequence);
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
                self.model.free(prefix.sequence);
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
            return Ok((self.model.create(), rest));
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
                    self.model.free(oldest.sequence);
                }
                // What another prefix begins with alike is there already.
                let alike = |prefix: &Prefix| {
                    let pairs = prefix.tokens.iter().zip(&request.prefix[..shared]);
                    (pairs.take_while(|(a, b)| a == b).count(), prefix.sequence)
                };
                let (common, nearest) = self.prefixes.iter().map(alike).max().unwrap_or((0, SequenceId(0)));
                let sequence = if common > 0 { self.model.fork(nearest, common)? } else { self.model.create() };
                let start = Instant::now();
                for chunk in request.prefix[common..shared].chunks(PROMPT_CHUNK) {
                    self.model.forward(&[Segment { sequence, tokens: chunk, logits: false }])?;
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
        Ok((self.model.fork(parent, shared)?, rest))
    }
}

impl Drop for Scheduler<'_> {
    fn drop(&mut self) {
        for prefix in self.prefixes.drain(..) {
            self.model.free(prefix.sequence);
        }
        for slot in self.active.drain(..) {
            self.model.free(slot.sequence);
        }
    }
}

impl Slot {
    /// Draws a token from `logits`, then takes what the grammar forces after it.
    fn advance(&mut self, sampler: &mut Sampler, logits: &[f32], vocab: &Vocab) -> Result<Option<Finish>> {
        let mask = self.session.as_mut().map(|session| session.mask());
        let index = self.drawn;
        let request = &self.request;
        let Some(draw) = sampler.draw(logits, mask.as_ref(), &self.tokens, &request.sampling, request.key, index)
        else {
            return Ok(Some(Finish::DeadEnd));
        };
        self.drawn += 1;
        self.tension_sum += f64::from(draw.tension);
        self.tension_max = self.tension_max.max(draw.tension);
        if vocab.is_eos(draw.token) {
            return Ok(Some(Finish::Complete));
        }
        if let Some(session) = &mut self.session {
            session.advance(draw.token)?;
        }
        self.tokens.push(draw.token);
        self.pending.push_back(draw.token);
        self.follow_grammar(vocab)
    }

    /// Appends the forced run, and tells whether the text has ended.
    fn follow_grammar(&mut self, vocab: &Vocab) -> Result<Option<Finish>> {
        if let Some(session) = &mut self.session {
            for token in session.forced() {
                if self.tokens.len() >= self.request.max_tokens {
                    break;
                }
                session.advance(token)?;
                self.tokens.push(token);
                self.pending.push_back(token);
                self.forced += 1;
            }
            // Nothing but an end may follow: it needs no pass of the model.
            let over = session.is_finished() || (session.is_accepting() && session.mask().count() == vocab.eos().len());
            if over {
                return Ok(Some(Finish::Complete));
            }
        }
        if self.tokens.len() >= self.request.max_tokens {
            let accepting = self.session.as_mut().is_none_or(|session| session.is_accepting());
            return Ok(Some(Finish::Limit { accepting }));
        }
        Ok(None)
    }

    fn complete(self, finish: Finish, vocab: &Vocab) -> Completion {
        let mean = if self.drawn == 0 { 0.0 } else { (self.tension_sum / f64::from(self.drawn)) as f32 };
        Completion {
            key: self.request.key,
            text: vocab.decode(&self.tokens),
            finish,
            closed_by_budget: self.session.is_some_and(|session| session.closed_by_budget()),
            forced: self.forced,
            tension: Tension { mean, max: self.tension_max },
            tokens: self.tokens,
        }
    }
}
