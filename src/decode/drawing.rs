//! One text that is being drawn: its session, its tokens, and what they cost.
//!
//! Turns logits into the next token and what the grammar forces after it; the scheduler reads the
//! tokens and decides when.

use std::collections::VecDeque;

use super::sampler::Sampler;
use super::{Completion, Finish, Request, Tension};
use crate::constraint::TextSession;
use crate::error::Result;
use crate::vocab::{TokenId, Vocab};

/// A text so far.
pub(super) struct Drawing {
    session: Option<Box<dyn TextSession>>,
    tokens: Vec<TokenId>,
    drawn: u32,
    /// How many of the tokens the grammar alone determined.
    pub forced: usize,
    tension_sum: f64,
    tension_max: f32,
}

impl Drawing {
    /// An empty text.
    pub fn start(request: &Request) -> Result<Self> {
        let session = match &request.constraint {
            Some(constraint) => Some(constraint.start(Some(request.max_tokens))?),
            None => None,
        };
        Ok(Self { session, tokens: Vec::new(), drawn: 0, forced: 0, tension_sum: 0.0, tension_max: 0.0 })
    }

    /// Draws a token from `logits`, then takes what the grammar forces after it; what the model has to
    /// read goes to `pending`.
    pub fn advance(
        &mut self,
        request: &Request,
        pending: &mut VecDeque<TokenId>,
        sampler: &mut Sampler,
        logits: &[f32],
        vocab: &Vocab,
    ) -> Result<Option<Finish>> {
        let mask = self.session.as_mut().map(|session| session.mask());
        let index = self.drawn;
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
        pending.push_back(draw.token);
        self.follow_grammar(request, pending, vocab)
    }

    /// Appends the forced run, and tells whether the text has ended.
    pub fn follow_grammar(
        &mut self,
        request: &Request,
        pending: &mut VecDeque<TokenId>,
        vocab: &Vocab,
    ) -> Result<Option<Finish>> {
        if let Some(session) = &mut self.session {
            for token in session.forced() {
                if self.tokens.len() >= request.max_tokens {
                    break;
                }
                session.advance(token)?;
                self.tokens.push(token);
                pending.push_back(token);
                self.forced += 1;
            }
            // Nothing but an end may follow: it needs no pass of the model.
            let over = session.is_finished() || (session.is_accepting() && session.mask().count() == vocab.eos().len());
            if over {
                return Ok(Some(Finish::Complete));
            }
        }
        if self.tokens.len() >= request.max_tokens {
            let accepting = self.session.as_mut().is_none_or(|session| session.is_accepting());
            return Ok(Some(Finish::Limit { accepting }));
        }
        Ok(None)
    }

    /// The completion of a text that has ended.
    pub fn complete(self, request: &Request, finish: Finish, vocab: &Vocab) -> Completion {
        let mean = if self.drawn == 0 { 0.0 } else { (self.tension_sum / f64::from(self.drawn)) as f32 };
        Completion {
            key: request.key,
            text: vocab.decode(&self.tokens),
            finish,
            closed_by_budget: self.session.is_some_and(|session| session.closed_by_budget()),
            forced: self.forced,
            tension: Tension { mean, max: self.tension_max },
            tokens: self.tokens,
            measured: Vec::new(),
        }
    }
}
