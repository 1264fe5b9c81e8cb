//! Logits and a mask → a token: mask first, then temperature, top-k, top-p and min-p on what is left.
//!
//! The vocabulary is never sorted: weights are computed sixteen at a time, and only tokens likely
//! enough to be drawn are looked at one by one.

use super::random::StreamKey;
use crate::model::kernels::Isa;
use crate::model::kernels::distribution::{collect_from, greatest, mask_out, masses, weigh};
use instil_grammar::constraint::Mask;
use instil_grammar::vocab::TokenId;

/// How a token is drawn. The defaults are plain sampling from the model's own distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 is greedy.
    pub temperature: f32,
    /// Keep the `top_k` likeliest tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the likeliest tokens whose probabilities reach `top_p`; 1 keeps all.
    pub top_p: f32,
    /// Drop tokens less likely than `min_p` times the likeliest; 0 keeps all.
    pub min_p: f32,
    /// Against loops: how strongly a token is held back that would continue a repetition.
    pub repetition: Repetition,
    /// Nats by which, at the token limit, tokens are preferred that bring the end nearer; 0 turns it off.
    /// The preference grows from 0 over the last [`landing_tokens`] before the text would have to be closed,
    /// so that the model finds an end of its own instead of being cut short.
    pub landing: f32,
}

/// Over how many tokens a text is brought down to its limit: a quarter of it, at most 64.
pub fn landing_tokens(max_tokens: usize) -> usize {
    (max_tokens / 4).min(64)
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition: Repetition::default(), landing: 0.0 }
    }
}

/// A penalty on repeated runs of tokens, growing with the length of the run ("DRY" sampling).
///
/// A token that would lengthen a repeated run of `n ≥ allowed` tokens loses
/// `strength × 1.75^(n − allowed)` from its logit. `strength = 0` turns it off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Repetition {
    /// Logits taken at `n = allowed`.
    pub strength: f32,
    /// Runs shorter than this may repeat freely.
    pub allowed: usize,
}

impl Default for Repetition {
    fn default() -> Self {
        Self { strength: 0.0, allowed: 3 }
    }
}

/// What the text so far says of the next token.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context<'a> {
    /// The tokens that may come; `None` lets every token pass.
    pub mask: Option<&'a Mask>,
    /// Tokens to be preferred, and by how many nats.
    pub lean: Option<(&'a Mask, f32)>,
    /// What the row has produced, for the repetition penalty.
    pub history: &'a [TokenId],
}

/// A drawn token and what the mask cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// The token.
    pub token: TokenId,
    /// Probability mass, at temperature 1, that the mask removed: 0 when the model agreed.
    pub tension: f32,
}

/// Draws tokens; holds scratch memory only.
#[derive(Debug)]
pub struct Sampler {
    isa: Isa,
    mask: Vec<u32>,
    /// Logits of what the mask lets through, −∞ elsewhere.
    logits: Vec<f32>,
    weights: Vec<f32>,
    candidates: Vec<(f32, TokenId)>,
    penalties: Vec<(TokenId, f32)>,
}

impl Default for Sampler {
    fn default() -> Self {
        Self {
            isa: Isa::detect(),
            mask: Vec::new(),
            logits: Vec::new(),
            weights: Vec::new(),
            candidates: Vec::new(),
            penalties: Vec::new(),
        }
    }
}

impl Sampler {
    /// Draws from `logits` `(vocabulary)` in `context`, with draw `index` of the stream `key`. `None` when
    /// the mask lets nothing through. Ties go to the lowest id.
    pub fn draw(
        &mut self,
        logits: &[f32],
        context: Context,
        sampling: &Sampling,
        key: StreamKey,
        index: u32,
    ) -> Option<Draw> {
        let Context { mask, lean, history } = context;
        self.mask.clear();
        self.mask.resize(logits.len().div_ceil(32), u32::MAX);
        if let Some(mask) = mask {
            self.mask.resize(self.mask.len().max(mask.width().div_ceil(32)), 0);
            mask.write_bits(&mut self.mask);
        }
        self.logits.resize(logits.len(), 0.0);
        mask_out(self.isa, logits, &self.mask, &mut self.logits);
        let mut tension = 0.0;
        if mask.is_some() {
            let most = greatest(self.isa, logits);
            if most > f32::NEG_INFINITY {
                let (all, kept) = masses(self.isa, logits, &self.logits, most);
                tension = (1.0 - kept / all).clamp(0.0, 1.0);
            }
        }
        if let Some((preferred, nats)) = lean {
            preferred.for_each(|token| {
                if let Some(logit) = self.logits.get_mut(token as usize) {
                    *logit += nats;
                }
            });
        }
        self.penalise(history, &sampling.repetition);
        let token = self.choose(sampling, key, index)?;
        Some(Draw { token, tension })
    }

    fn choose(&mut self, sampling: &Sampling, key: StreamKey, index: u32) -> Option<TokenId> {
        let logits = &self.logits;
        let most = greatest(self.isa, logits);
        if most == f32::NEG_INFINITY {
            // Nothing has a probability: the lowest token that may come, if there is one.
            let word = self.mask.iter().position(|&word| word != 0)?;
            let id = word * 32 + self.mask[word].trailing_zeros() as usize;
            return (id < logits.len()).then_some(id as TokenId);
        }
        let best = || logits.iter().position(|&logit| logit == most).map(|id| id as TokenId);
        if sampling.temperature <= 0.0 {
            return best();
        }
        self.weights.resize(logits.len(), 0.0);
        let total = weigh(self.isa, logits, most, 1.0 / sampling.temperature, &mut self.weights);
        self.candidates.clear();
        // p ≥ min_p · p_max, and every weight is at most that of the likeliest, 1.
        let floor = if sampling.min_p > 0.0 { sampling.min_p.min(1.0) } else { f32::MIN_POSITIVE };
        let likelier = |a: &(f32, TokenId), b: &(f32, TokenId)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        let chooses = sampling.top_p < 1.0 && sampling.top_k == 0 && sampling.min_p <= 0.0;
        if chooses {
            // The nucleus lies among the likeliest tokens as soon as those hold its share.
            let wanted = f64::from(total) * f64::from(sampling.top_p.max(0.0));
            let mut least = (total * (1.0 - sampling.top_p) / 64.0).min(1.0);
            loop {
                self.candidates.clear();
                collect_from(self.isa, &self.weights, least.max(floor), &mut self.candidates);
                let held: f64 = self.candidates.iter().map(|c| f64::from(c.0)).sum();
                if held >= wanted || least <= floor {
                    break;
                }
                least /= 16.0;
            }
            keep_nucleus(&mut self.candidates, wanted, likelier);
        } else {
            collect_from(self.isa, &self.weights, floor, &mut self.candidates);
            if sampling.top_k > 0 && sampling.top_k < self.candidates.len() {
                self.candidates.select_nth_unstable_by(sampling.top_k - 1, likelier);
                self.candidates.truncate(sampling.top_k);
            }
            if sampling.top_p < 1.0 {
                let total: f64 = self.candidates.iter().map(|c| f64::from(c.0)).sum();
                keep_nucleus(&mut self.candidates, total * f64::from(sampling.top_p.max(0.0)), likelier);
            }
        }
        // The order in which candidates stand must not depend on how they were selected.
        self.candidates.sort_unstable_by_key(|c| c.1);
        let total: f64 = self.candidates.iter().map(|c| f64::from(c.0)).sum();
        let mut target = key.uniform(index) * total;
        for &(weight, id) in &self.candidates {
            target -= f64::from(weight);
            if target < 0.0 {
                return Some(id);
            }
        }
        best()
    }

    /// Lowers the logits of tokens that would continue a repetition of the end of `history`.
    fn penalise(&mut self, history: &[TokenId], repetition: &Repetition) {
        if repetition.strength <= 0.0 || history.len() <= repetition.allowed {
            return;
        }
        self.penalties.clear();
        let end = history.len();
        for next in repetition.allowed.max(1)..end {
            // How long a run that ends before `next` equals the end of the history.
            let run = (0..next.min(64)).take_while(|&back| history[next - 1 - back] == history[end - 1 - back]).count();
            if run >= repetition.allowed.max(1) {
                let grown = repetition.strength * 1.75f32.powi((run - repetition.allowed) as i32);
                match self.penalties.iter_mut().find(|p| p.0 == history[next]) {
                    Some(penalty) => penalty.1 = penalty.1.max(grown),
                    None => self.penalties.push((history[next], grown)),
                }
            }
        }
        for &(token, penalty) in &self.penalties {
            if let Some(logit) = self.logits.get_mut(token as usize) {
                *logit -= penalty;
            }
        }
    }
}

/// Keeps the fewest likeliest candidates whose weights reach `wanted`; more of them are ordered only
/// while it is not reached.
fn keep_nucleus(
    candidates: &mut Vec<(f32, TokenId)>,
    wanted: f64,
    likelier: impl Fn(&(f32, TokenId), &(f32, TokenId)) -> std::cmp::Ordering + Copy,
) {
    let (mut ordered, mut sum) = (0, 0.0);
    while ordered < candidates.len() {
        let until = (ordered * 4).max(64).min(candidates.len());
        let rest = &mut candidates[ordered..];
        if until - ordered < rest.len() {
            rest.select_nth_unstable_by(until - ordered - 1, likelier);
        }
        candidates[ordered..until].sort_unstable_by(likelier);
        for at in ordered..until {
            sum += f64::from(candidates[at].0);
            if sum >= wanted {
                candidates.truncate(at + 1);
                return;
            }
        }
        ordered = until;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: StreamKey = StreamKey { seed: 1, row: 0, step: 0, attempt: 0 };

    fn frequencies(logits: &[f32], mask: Option<&Mask>, sampling: &Sampling) -> Vec<f64> {
        let mut counts = vec![0.0; logits.len()];
        let mut sampler = Sampler::default();
        for index in 0..20_000 {
            let draw =
                sampler.draw(logits, Context { mask, ..Context::default() }, sampling, KEY, index).expect("some token");
            counts[draw.token as usize] += 1.0;
        }
        counts.into_iter().map(|count: f64| count / 20_000.0).collect()
    }

    fn under(mask: &Mask) -> Context<'_> {
        Context { mask: Some(mask), ..Context::default() }
    }

    #[test]
    fn what_is_leant_to_gains_by_so_many_nats_and_nothing_passes_the_mask() {
        let logits = [0.0, 1.0, -1.0, 2.0];
        let (mask, preferred) = (Mask::from_ids(vec![0, 1, 2], 4), Mask::from_ids(vec![2, 3], 4));
        let context = Context { lean: Some((&preferred, 1.5)), ..under(&mask) };
        let mut sampler = Sampler::default();
        let mut counts = [0.0; 4];
        for index in 0..20_000 {
            let draw = sampler.draw(&logits, context, &Sampling::default(), KEY, index).expect("some token");
            counts[draw.token as usize] += 1.0 / 20_000.0;
        }
        for (seen, expected) in counts.iter().zip(softmax(&[0.0, 1.0, 0.5, f32::NEG_INFINITY])) {
            assert!((seen - expected).abs() < 0.02, "{seen} {expected}");
        }
    }

    fn softmax(logits: &[f32]) -> Vec<f64> {
        let total: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
        logits.iter().map(|&l| f64::from(l).exp() / total).collect()
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let logits = [0.0, 1.0, -1.0, 2.0];
        for (seen, expected) in frequencies(&logits, None, &Sampling::default()).iter().zip(softmax(&logits)) {
            assert!((seen - expected).abs() < 0.02, "{seen} {expected}");
        }
    }

    #[test]
    fn the_mask_comes_before_every_other_rule() {
        let logits = [9.0, 1.0, 0.0, 8.0];
        let mask = Mask::from_ids(vec![1, 2], 4);
        let sampling = Sampling { top_k: 1, top_p: 0.1, min_p: 0.9, ..Sampling::default() };
        assert_eq!(frequencies(&logits, Some(&mask), &sampling), [0.0, 1.0, 0.0, 0.0]);
        let draw = Sampler::default().draw(&logits, under(&mask), &sampling, KEY, 0).expect("some token");
        assert!(draw.tension > 0.99);
        assert!(Sampler::default().draw(&logits, under(&Mask::from_ids(vec![], 4)), &sampling, KEY, 0).is_none());
    }

    #[test]
    fn each_rule_keeps_what_its_definition_says() {
        let logits: Vec<f32> = [0.5f32, 0.25, 0.15, 0.1].iter().map(|p| p.ln()).collect();
        let kept = |sampling: Sampling| -> Vec<bool> {
            frequencies(&logits, None, &sampling).iter().map(|&f| f > 0.0).collect()
        };
        let plain = Sampling::default();
        assert_eq!(kept(Sampling { temperature: 0.0, ..plain }), [true, false, false, false]);
        assert_eq!(kept(Sampling { top_k: 3, ..plain }), [true, true, true, false]);
        assert_eq!(kept(Sampling { top_p: 0.7, ..plain }), [true, true, false, false]);
        assert_eq!(kept(Sampling { top_p: 0.4, ..plain }), [true, false, false, false]);
        assert_eq!(kept(Sampling { min_p: 0.28, ..plain }), [true, true, true, false]);
    }

    #[test]
    fn the_nucleus_of_a_flat_vocabulary_is_exact() {
        let mut weights: Vec<(f32, TokenId)> = (0..1000).map(|id| (1.0 + (id % 7) as f32 * 1e-4, id)).collect();
        let likelier = |a: &(f32, TokenId), b: &(f32, TokenId)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        let mut sorted = weights.clone();
        sorted.sort_by(likelier);
        let total: f64 = sorted.iter().map(|c| f64::from(c.0)).sum();
        let mut sum = 0.0;
        let expected = sorted
            .iter()
            .take_while(|c| {
                let more = sum < 0.9 * total;
                sum += f64::from(c.0);
                more
            })
            .count();
        keep_nucleus(&mut weights, 0.9 * total, likelier);
        assert_eq!(weights, sorted[..expected]);
    }

    #[test]
    fn a_repeated_run_is_held_back() {
        let logits = [5.0, 4.0, 0.0];
        let greedy =
            Sampling { temperature: 0.0, repetition: Repetition { strength: 2.0, allowed: 2 }, ..Sampling::default() };
        let mut sampler = Sampler::default();
        let history = [1, 2, 0, 1, 2];
        let after = |history| Context { history, ..Context::default() };
        assert_eq!(sampler.draw(&logits, after(&history), &greedy, KEY, 0).map(|d| d.token), Some(1));
        assert_eq!(sampler.draw(&logits, after(&[2, 2, 1]), &greedy, KEY, 0).map(|d| d.token), Some(0));
    }

    #[test]
    fn logits_that_are_not_numbers_are_never_drawn() {
        let logits = [f32::NAN, 1.0, f32::NAN];
        assert_eq!(frequencies(&logits, None, &Sampling::default()), [0.0, 1.0, 0.0]);
    }
}
