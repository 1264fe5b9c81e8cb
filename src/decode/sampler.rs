//! Logits and a mask → a token: mask first, then temperature, top-k, top-p and min-p on what is left.
//!
//! The vocabulary is never sorted: candidates are the tokens that the mask lets through and that
//! pass the min-p threshold, and only as many of them are ordered as top-k and top-p need.

use super::random::StreamKey;
use crate::constraint::Mask;
use crate::vocab::TokenId;

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
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition: Repetition::default() }
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

/// A drawn token and what the mask cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// The token.
    pub token: TokenId,
    /// Probability mass, at temperature 1, that the mask removed: 0 when the model agreed.
    pub tension: f32,
}

/// Draws tokens; holds scratch memory only.
#[derive(Debug, Default)]
pub struct Sampler {
    candidates: Vec<(f32, TokenId)>,
    penalties: Vec<(TokenId, f32)>,
}

impl Sampler {
    /// Draws from `logits` `(vocabulary)` under `mask` (`None`: every token may come), with draw
    /// `index` of the stream `key`. `history` is what the row has produced, for the repetition
    /// penalty. `None` when the mask lets nothing through. Ties go to the lowest id.
    pub fn draw(
        &mut self,
        logits: &[f32],
        mask: Option<&Mask>,
        history: &[TokenId],
        sampling: &Sampling,
        key: StreamKey,
        index: u32,
    ) -> Option<Draw> {
        self.candidates.clear();
        match mask {
            None => self.candidates.extend((0..).zip(logits).map(|(id, &logit)| (logit, id))),
            Some(mask) => mask.for_each(|id| {
                if let Some(&logit) = logits.get(id as usize) {
                    self.candidates.push((logit, id));
                }
            }),
        }
        self.candidates.iter_mut().filter(|c| c.0.is_nan()).for_each(|c| c.0 = f32::NEG_INFINITY);
        if self.candidates.is_empty() {
            return None;
        }
        let tension = if mask.is_some() { removed_mass(logits, &self.candidates) } else { 0.0 };
        self.penalise(history, &sampling.repetition);
        let token = self.choose(sampling, key, index);
        Some(Draw { token, tension })
    }

    fn choose(&mut self, sampling: &Sampling, key: StreamKey, index: u32) -> TokenId {
        let candidates = &mut self.candidates;
        let best = *candidates.iter().max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1))).expect("not empty");
        if candidates.len() == 1 || sampling.temperature <= 0.0 || best.0 == f32::NEG_INFINITY {
            return best.1;
        }
        let scale = 1.0 / sampling.temperature;
        // p ≥ min_p · p_max is logit ≥ max + temperature · ln(min_p).
        if sampling.min_p > 0.0 {
            let floor = best.0 + sampling.temperature * sampling.min_p.min(1.0).ln();
            candidates.retain(|c| c.0 >= floor);
        }
        let likelier = |a: &(f32, TokenId), b: &(f32, TokenId)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if sampling.top_k > 0 && sampling.top_k < candidates.len() {
            candidates.select_nth_unstable_by(sampling.top_k - 1, likelier);
            candidates.truncate(sampling.top_k);
        }
        for candidate in candidates.iter_mut() {
            candidate.0 = ((candidate.0 - best.0) * scale).exp();
        }
        if sampling.top_p < 1.0 {
            keep_nucleus(candidates, sampling.top_p, likelier);
        }
        // The order in which candidates stand must not depend on how they were selected.
        candidates.sort_unstable_by_key(|c| c.1);
        let total: f64 = candidates.iter().map(|c| f64::from(c.0)).sum();
        let mut target = key.uniform(index) * total;
        for &(weight, id) in candidates.iter() {
            target -= f64::from(weight);
            if target < 0.0 {
                return id;
            }
        }
        best.1
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
            if let Ok(at) = self.candidates.binary_search_by_key(&token, |c| c.1) {
                self.candidates[at].0 -= penalty;
            }
        }
    }
}

/// Keeps the fewest likeliest candidates whose weights reach `top_p` of the whole; `candidates`
/// hold weights, and more of them are ordered only while the share is not reached.
fn keep_nucleus(
    candidates: &mut Vec<(f32, TokenId)>,
    top_p: f32,
    likelier: impl Fn(&(f32, TokenId), &(f32, TokenId)) -> std::cmp::Ordering + Copy,
) {
    let total: f64 = candidates.iter().map(|c| f64::from(c.0)).sum();
    let wanted = total * f64::from(top_p.max(0.0));
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

/// `1 − Σ allowed p` at temperature 1.
fn removed_mass(logits: &[f32], allowed: &[(f32, TokenId)]) -> f32 {
    if allowed.len() == logits.len() {
        return 0.0;
    }
    let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if best == f32::NEG_INFINITY {
        return 0.0;
    }
    let sum = |values: &mut dyn Iterator<Item = f32>| -> f64 { values.map(|v| f64::from((v - best).exp())).sum() };
    let total = sum(&mut logits.iter().copied().filter(|v| !v.is_nan()));
    let kept = sum(&mut allowed.iter().map(|c| c.0));
    (1.0 - kept / total).clamp(0.0, 1.0) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: StreamKey = StreamKey { seed: 1, row: 0, step: 0, attempt: 0 };

    fn frequencies(logits: &[f32], mask: Option<&Mask>, sampling: &Sampling) -> Vec<f64> {
        let mut counts = vec![0.0; logits.len()];
        let mut sampler = Sampler::default();
        for index in 0..20_000 {
            let draw = sampler.draw(logits, mask, &[], sampling, KEY, index).expect("some token");
            counts[draw.token as usize] += 1.0;
        }
        counts.into_iter().map(|count: f64| count / 20_000.0).collect()
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
        let draw = Sampler::default().draw(&logits, Some(&mask), &[], &sampling, KEY, 0).expect("some token");
        assert!(draw.tension > 0.99);
        assert!(Sampler::default().draw(&logits, Some(&Mask::from_ids(vec![], 4)), &[], &sampling, KEY, 0).is_none());
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
        keep_nucleus(&mut weights, 0.9, likelier);
        assert_eq!(weights, sorted[..expected]);
    }

    #[test]
    fn a_repeated_run_is_held_back() {
        let logits = [5.0, 4.0, 0.0];
        let greedy =
            Sampling { temperature: 0.0, repetition: Repetition { strength: 2.0, allowed: 2 }, ..Sampling::default() };
        let mut sampler = Sampler::default();
        let history = [1, 2, 0, 1, 2];
        assert_eq!(sampler.draw(&logits, None, &history, &greedy, KEY, 0).map(|d| d.token), Some(1));
        assert_eq!(sampler.draw(&logits, None, &[2, 2, 1], &greedy, KEY, 0).map(|d| d.token), Some(0));
    }

    #[test]
    fn logits_that_are_not_numbers_are_never_drawn() {
        let logits = [f32::NAN, 1.0, f32::NAN];
        assert_eq!(frequencies(&logits, None, &Sampling::default()), [0.0, 1.0, 0.0]);
    }
}
