//! One text that is being drawn: its session, its tokens, and what they cost.
//!
//! Says what the next token may be, takes it once it is drawn, and what the grammar forces after it; the scheduler has
//! tokens drawn and read, and decides when. Where the model thinks first, the grammar begins behind the thought.

use std::collections::VecDeque;

use super::thought::Thinking;
use super::{Completion, Finish, Request, Tension};
use crate::error::Result;
use crate::model::draw::{Context, Draw, ToDraw, landing_tokens};
use instil_grammar::constraint::{Mask, TextSession};
use instil_grammar::vocab::{TokenId, Vocab};

/// A text so far.
pub(super) struct Drawing {
    session: Option<Box<dyn TextSession>>,
    /// The thought before the text, while it is open and when it has ended.
    thinking: Option<Thinking>,
    tokens: Vec<TokenId>,
    drawn: u32,
    /// How many of these draws were of the thought.
    before_text: u32,
    /// How many of the tokens the grammar alone determined.
    pub forced: usize,
    leant: usize,
    tension_sum: f64,
    tension_max: f32,
}

/// What a grammar says of the next token.
#[derive(Default)]
pub(super) struct Allowed {
    /// The tokens that may come; `None` without a grammar.
    mask: Option<Mask>,
    /// Tokens to be preferred, and by how many nats.
    lean: Option<(Mask, f32)>,
}

impl Drawing {
    /// An empty text.
    pub(super) fn start(request: &Request) -> Result<Self> {
        let session = match &request.constraint {
            Some(constraint) => Some(constraint.start(Some(request.max_tokens))?),
            None => None,
        };
        Ok(Self {
            session,
            thinking: request.thought.is_some().then(Thinking::begin),
            tokens: Vec::new(),
            drawn: 0,
            before_text: 0,
            forced: 0,
            leant: 0,
            tension_sum: 0.0,
            tension_max: 0.0,
        })
    }

    /// What the grammar says of the next token.
    pub(super) fn allowed(&mut self, request: &Request) -> Allowed {
        let Some(session) = self.session.as_mut().filter(|_| self.thinking.as_ref().is_none_or(Thinking::has_ended))
        else {
            return Allowed::default();
        };
        let mask = Some(session.mask());
        let landing = request.sampling.landing;
        let lean = if landing > 0.0 { session.lean(landing_tokens(request.max_tokens)) } else { None };
        Allowed { mask, lean: lean.map(|(preferred, nearness)| (preferred, nearness * landing)) }
    }

    /// The next token, to be drawn from row `row` of the logits.
    pub(crate) fn to_draw<'a>(&'a self, request: &'a Request, allowed: &'a Allowed, row: usize) -> ToDraw<'a> {
        let Allowed { mask, lean } = allowed;
        ToDraw {
            row,
            context: Context {
                mask: mask.as_ref(),
                lean: lean.as_ref().map(|(preferred, nats)| (preferred, *nats)),
                history: self.open_thought().map_or(&self.tokens[..], Thinking::tokens),
            },
            sampling: &request.sampling,
            key: request.key,
            index: self.drawn,
        }
    }

    /// Takes the token that was drawn, if one could be, then what the grammar forces after it; what the model has to
    /// read goes to `pending`.
    pub(super) fn take(
        &mut self,
        request: &Request,
        pending: &mut VecDeque<TokenId>,
        allowed: &Allowed,
        draw: Option<Draw>,
        vocab: &Vocab,
    ) -> Result<Option<Finish>> {
        let Some(draw) = draw else { return Ok(Some(Finish::DeadEnd)) };
        self.leant += usize::from(allowed.lean.is_some());
        self.drawn += 1;
        if let (Some(thinking), Some(thought)) = (self.thinking.as_mut().filter(|it| !it.has_ended()), &request.thought)
        {
            thinking.take(thought, draw.token, vocab, pending);
            // The mean of the tension is over the text.
            self.before_text = self.drawn;
            return self.follow_grammar(request, pending, vocab);
        }
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
    pub(crate) fn follow_grammar(
        &mut self,
        request: &Request,
        pending: &mut VecDeque<TokenId>,
        vocab: &Vocab,
    ) -> Result<Option<Finish>> {
        if self.open_thought().is_some() {
            return Ok(None);
        }
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

    fn open_thought(&self) -> Option<&Thinking> {
        self.thinking.as_ref().filter(|thinking| !thinking.has_ended())
    }

    /// The completion of a text that has ended.
    pub(super) fn complete(self, request: &Request, finish: Finish, vocab: &Vocab) -> Completion {
        let drawn = self.drawn - self.before_text;
        let mean = if drawn == 0 { 0.0 } else { (self.tension_sum / f64::from(drawn)) as f32 };
        Completion {
            key: request.key,
            text: vocab.decode(&self.tokens),
            thoughts: self.thinking.map(|thinking| thinking.complete(vocab)),
            finish,
            closed_by_budget: self.session.is_some_and(|session| session.closed_by_budget()),
            assumed: request.constraint.as_ref().is_some_and(|constraint| constraint.assumed()),
            forced: self.forced,
            leant: self.leant,
            tension: Tension { mean, max: self.tension_max },
            tokens: self.tokens,
            measured: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::decode::{Sampling, StreamKey};
    use crate::model::Logits;
    use crate::model::draw::Samplers;
    use instil_grammar::constraint::{Constraint, Engine, Settings, Tables};
    use instil_grammar::grammar::{GrammarSource, Options};
    use instil_grammar::vocab::TokenKind;

    /// A text of a model that goes on writing `a` forever, and would seldom close the string.
    fn endless(landing: f32) -> Completion {
        let bytes: Vec<u8> = (0..=255).collect();
        let tokens = bytes.chunks(1).map(|byte| (byte, TokenKind::Text)).chain([(&[][..], TokenKind::Control)]);
        let vocab = Arc::new(Vocab::new(tokens, &[256]));
        let tables = Tables::new(vocab.clone());
        let grammar = GrammarSource::JsonSchema(json!({"type": "string"}));
        let engine = Engine::compile(&grammar, &Options::default(), tables, Settings::default()).expect("a grammar");
        let request = Request {
            key: StreamKey { seed: 1, row: 0, step: 0, attempt: 0 },
            prefix: [].into(),
            prompt: vec![0],
            constraint: Some(Arc::new(engine) as Arc<dyn Constraint>),
            max_tokens: 64,
            thought: None,
            sampling: Sampling { landing, ..Sampling::default() },
            measure: None,
        };
        let mut logits = vec![f32::NEG_INFINITY; 257];
        (logits[usize::from(b'a')], logits[usize::from(b'"')]) = (0.0, -12.0);
        let logits = Logits::on_host(logits, 257);
        let (mut drawing, samplers) = (Drawing::start(&request).expect("a start"), Samplers::default());
        let mut pending = VecDeque::new();
        let mut finish = drawing.follow_grammar(&request, &mut pending, &vocab).expect("forced");
        while finish.is_none() {
            let allowed = drawing.allowed(&request);
            let draw = samplers.draw(&logits, &[drawing.to_draw(&request, &allowed, 0)]).expect("logits")[0];
            finish = drawing.take(&request, &mut pending, &allowed, draw, &vocab).expect("a token");
        }
        drawing.complete(&request, finish.expect("it has ended"), &vocab)
    }

    #[test]
    fn a_text_lands_before_its_limit_closes_it() {
        let cut = endless(0.0);
        assert!(cut.closed_by_budget && cut.leant == 0, "{cut:?}");
        let landed = endless(20.0);
        assert!(!landed.closed_by_budget && landed.leant > 0, "{landed:?}");
        assert!(landed.tokens.len() < cut.tokens.len());
        assert_eq!((landed.finish, cut.finish), (Finish::Complete, Finish::Complete));
    }
}
