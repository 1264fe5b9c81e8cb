//! Requests that measure instead of drawing: how probable given choices are, or a given text.
//!
//! A measurement is made into walks: tokens to be read after the prompt, and questions to be put to
//! the logits on the way. The scheduler reads the tokens and hands the logits back; nothing here
//! touches a model. All sums are of f64 and in a fixed order, so a result depends on nothing but its
//! request.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, Result};
use instil_grammar::vocab::{TokenId, Vocab};

/// What a request asks for instead of a drawn text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Measure {
    /// The probability of each of some token sequences, as decoding under a grammar of just these
    /// would draw them at temperature 1: at each token where choices part, the model's distribution
    /// over the tokens that go on. Where one choice is the beginning of another, its end has the
    /// probability of the end-of-sequence tokens. Gives one probability a choice; they sum to 1.
    ///
    /// Choices that part at their first tokens cost no pass but the prompt's.
    Choices(Arc<[Vec<TokenId>]>),
    /// How surprising a given text is after the prompt. Gives two numbers: the sum over its tokens of
    /// `−ln p(token | what stands before it)`, in nats, and the number of its tokens.
    Text(Vec<TokenId>),
}

impl Measure {
    /// Most tokens that stand after the prompt at once.
    pub(crate) fn most_tokens(&self) -> usize {
        match self {
            Self::Choices(choices) => choices.iter().map(Vec::len).max().unwrap_or(0),
            Self::Text(tokens) => tokens.len(),
        }
    }
}

/// A measurement under way.
pub(super) struct Measuring {
    walks: VecDeque<Walk>,
    /// Questions of the present walk, by ascending length.
    questions: VecDeque<Question>,
    found: Found,
}

/// Tokens read in one go, after the sequence was cut back.
struct Walk {
    /// Length that the sequence is cut back to.
    keep: usize,
    tokens: Vec<TokenId>,
    questions: VecDeque<Question>,
}

/// Something asked of the logits at one place.
#[derive(Clone, Debug)]
pub(super) struct Question {
    /// The logits after this many tokens of the sequence, prompt included.
    pub at: usize,
    of: Asked,
}

#[derive(Clone, Debug)]
enum Asked {
    /// ln p of one token among all.
    Token(TokenId),
    /// ln p of each way on among all ways on.
    Ways(Vec<Way>),
}

/// How choices go on where they part.
#[derive(Clone, Debug)]
struct Way {
    /// The next token; `None` where a choice ends.
    token: Option<TokenId>,
    /// The choices that go this way, by their place in ascending order.
    choices: Range<usize>,
}

enum Found {
    /// ln p of each choice in ascending order, and where that choice stood in the request.
    Choices(Vec<(f64, usize)>),
    /// Surprise in nats, and number of tokens.
    Text(f64, usize),
}

impl Measuring {
    /// Prepares a measurement after a prompt of `prompt` tokens by a model of `width` tokens.
    pub(super) fn start(measure: &Measure, prompt: usize, width: usize, vocab: &Vocab) -> Result<Self> {
        if prompt == 0 {
            return Err(Error::usage(
                "nothing stands before what is to be measured",
                "give a prompt, or the token that starts a sequence",
            ));
        }
        let known = |tokens: &Vec<TokenId>| match tokens.iter().find(|&&token| token as usize >= width) {
            Some(token) => Err(Error::usage(format!("there is no token {token}"), "use this model's tokenizer")),
            None => Ok(()),
        };
        match measure {
            Measure::Choices(choices) => {
                choices.iter().try_for_each(known)?;
                Self::choices(choices, prompt, vocab)
            }
            Measure::Text(tokens) => {
                known(tokens)?;
                Ok(Self::text(tokens, prompt))
            }
        }
    }

    fn text(tokens: &[TokenId], prompt: usize) -> Self {
        let questions = (prompt..).zip(tokens).map(|(at, &token)| Question { at, of: Asked::Token(token) }).collect();
        let read = &tokens[..tokens.len().saturating_sub(1)];
        let walk = Walk { keep: prompt, tokens: read.to_vec(), questions };
        let walks = if tokens.is_empty() { VecDeque::new() } else { VecDeque::from([walk]) };
        Self { walks, questions: VecDeque::new(), found: Found::Text(0.0, tokens.len()) }
    }

    fn choices(choices: &[Vec<TokenId>], prompt: usize, vocab: &Vocab) -> Result<Self> {
        let order = in_order(choices, vocab)?;
        let sorted: Vec<&[TokenId]> = order.iter().map(|&index| choices[index].as_slice()).collect();
        // What was read last, and the walk that reads it.
        let mut path: &[TokenId] = &[];
        let mut walks: VecDeque<Walk> = VecDeque::new();
        let mut open = VecDeque::new();
        open.push_back(0..sorted.len());
        while let Some(range) = open.pop_front() {
            let (first, last) = (sorted[range.start], sorted[range.end - 1]);
            if range.len() == 1 {
                continue;
            }
            let depth = common(first, last);
            let ways = ways(&sorted, range.clone(), depth);
            // Depth first: what goes on from here comes next, so that it is read in the same walk.
            ways.iter().rev().for_each(|way| open.push_front(way.choices.clone()));
            let question = Question { at: prompt + depth, of: Asked::Ways(ways) };
            let kept = common(path, &first[..depth]);
            match walks.back_mut() {
                Some(walk) if kept == path.len() => {
                    walk.tokens.extend(&first[kept..depth]);
                    walk.questions.push_back(question);
                }
                _ => walks.push_back(Walk {
                    keep: prompt + kept,
                    tokens: first[kept..depth].to_vec(),
                    questions: VecDeque::from([question]),
                }),
            }
            path = &first[..depth];
        }
        let found = Found::Choices(order.into_iter().map(|index| (0.0, index)).collect());
        Ok(Self { walks, questions: VecDeque::new(), found })
    }

    /// The length to cut the sequence back to and the tokens to read then; `None` when all is
    /// answered. Called when nothing is left to read.
    pub(crate) fn next_walk(&mut self) -> Option<(usize, Vec<TokenId>)> {
        let walk = self.walks.pop_front()?;
        self.questions = walk.questions;
        Some((walk.keep, walk.tokens))
    }

    /// Whether nothing will be cut back to what was read before this walk.
    pub(super) fn is_last_walk(&self) -> bool {
        self.walks.is_empty()
    }

    /// Of `pending` tokens to be read by a sequence of `length`, how many come next and after how many
    /// of the last of these logits are needed, when `room` tokens and `rows` rows of logits are left.
    pub(crate) fn next_read(&self, length: usize, pending: usize, room: usize, rows: usize) -> (usize, usize) {
        let Some(first) = self.questions.front() else { return (0, 0) };
        let until_first = first.at - length;
        let count = pending.min(room).min(until_first - 1 + rows);
        (count, (count + 1).saturating_sub(until_first))
    }

    /// Questions that logits up to `length` answer, and the row of each when the first row is that of
    /// the first question.
    pub(crate) fn answerable(&self, length: usize) -> impl Iterator<Item = (usize, &Question)> {
        let first = self.questions.front().map_or(0, |question| question.at);
        self.questions.iter().take_while(move |question| question.at <= length).map(move |q| (q.at - first, q))
    }

    /// Takes what the first open question's logits answered.
    pub(super) fn take(&mut self, answer: &[f64]) {
        let Some(question) = self.questions.pop_front() else { return };
        match (&mut self.found, question.of) {
            (Found::Text(sum, _), Asked::Token(_)) => *sum -= answer.iter().sum::<f64>(),
            (Found::Choices(found), Asked::Ways(ways)) => {
                for (way, log) in ways.into_iter().zip(answer) {
                    found[way.choices].iter_mut().for_each(|choice| choice.0 += log);
                }
            }
            (Found::Text(..), Asked::Ways(_)) | (Found::Choices(_), Asked::Token(_)) => {
                unreachable!("a measurement asks questions of its own kind")
            }
        }
    }

    /// The numbers that were asked for.
    pub(super) fn measured(self) -> Vec<f64> {
        match self.found {
            Found::Text(sum, count) => vec![sum, count as f64],
            Found::Choices(found) => {
                let mut measured = vec![0.0; found.len()];
                found.into_iter().for_each(|(log, index)| measured[index] = log.exp());
                measured
            }
        }
    }
}

impl Question {
    /// Natural logarithms of the probabilities asked for, from `logits` `(vocabulary)`.
    pub(super) fn answer(&self, logits: &[f32], eos: &[TokenId]) -> Vec<f64> {
        let logit = |token: TokenId| logits.get(token as usize).map_or(f64::NEG_INFINITY, |&logit| finite(logit));
        match &self.of {
            Asked::Token(token) => vec![logit(*token) - log_sum_exp(logits.iter().map(|&logit| finite(logit)))],
            Asked::Ways(ways) => {
                let of_end = || log_sum_exp(eos.iter().map(|&token| logit(token)));
                let values: Vec<f64> = ways.iter().map(|way| way.token.map_or_else(of_end, logit)).collect();
                let all = log_sum_exp(values.iter().copied());
                if all == f64::NEG_INFINITY {
                    // Nothing has a probability, so nothing is likelier than the rest.
                    return vec![-(ways.len() as f64).ln(); ways.len()];
                }
                values.into_iter().map(|value| value - all).collect()
            }
        }
    }
}

/// A logit as f64; what is not a number counts for nothing.
fn finite(logit: f32) -> f64 {
    if logit.is_nan() { f64::NEG_INFINITY } else { f64::from(logit.min(f32::MAX)) }
}

/// `ln Σ eˣ`; −∞ for nothing.
fn log_sum_exp(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let most = values.clone().fold(f64::NEG_INFINITY, f64::max);
    if most == f64::NEG_INFINITY { most } else { most + values.map(|value| (value - most).exp()).sum::<f64>().ln() }
}

/// How many tokens two texts begin with alike.
fn common(a: &[TokenId], b: &[TokenId]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The indices of the choices in ascending order, once all are known to be fit for it.
fn in_order(choices: &[Vec<TokenId>], vocab: &Vocab) -> Result<Vec<usize>> {
    const REMEDY: &str = "give at least one choice, each with tokens of its own";
    if choices.is_empty() {
        return Err(Error::usage("there are no choices to measure", REMEDY));
    }
    for (index, choice) in choices.iter().enumerate() {
        if choice.is_empty() {
            return Err(Error::usage(format!("choice {index} is empty"), REMEDY));
        }
        if let Some(token) = choice.iter().find(|&&token| vocab.is_eos(token)) {
            let what = format!("choice {index} holds token {token}, which ends a sequence");
            return Err(Error::usage(what, "leave it out: an end is added where it is needed"));
        }
    }
    let mut order: Vec<usize> = (0..choices.len()).collect();
    order.sort_by(|&a, &b| choices[a].cmp(&choices[b]));
    if let Some((a, b)) = order.iter().zip(&order[1..]).find(|&(&a, &b)| choices[a] == choices[b]) {
        return Err(Error::usage(format!("choices {a} and {b} are the same"), REMEDY));
    }
    Ok(order)
}

/// How the choices of `range`, which are alike in `depth` tokens, go on from there.
fn ways(sorted: &[&[TokenId]], range: Range<usize>, depth: usize) -> Vec<Way> {
    let mut ways: Vec<Way> = Vec::new();
    for index in range {
        let token = sorted[index].get(depth).copied();
        match ways.last_mut() {
            Some(way) if way.token == token => way.choices.end = index + 1,
            _ => ways.push(Way { token, choices: index..index + 1 }),
        }
    }
    ways
}

#[cfg(test)]
mod tests {
    use super::*;
    use instil_grammar::vocab::TokenKind;

    fn vocab() -> Vocab {
        let spellings: Vec<String> = (0..10).map(|id| format!("<{id}>")).collect();
        Vocab::new(spellings.iter().map(|text| (text.as_bytes(), TokenKind::Text)), &[0])
    }

    fn start(choices: &[&[TokenId]]) -> Result<Measuring> {
        let choices = Measure::Choices(choices.iter().map(|choice| choice.to_vec()).collect());
        Measuring::start(&choices, 5, 10, &vocab())
    }

    fn walks(measuring: &mut Measuring) -> Vec<(usize, Vec<TokenId>, Vec<usize>)> {
        let next = |measuring: &mut Measuring| measuring.next_walk();
        std::iter::from_fn(|| {
            let (keep, tokens) = next(measuring)?;
            Some((keep, tokens, measuring.questions.iter().map(|question| question.at).collect()))
        })
        .collect()
    }

    #[test]
    fn choices_that_part_at_once_need_the_prompt_alone() {
        let mut measuring = start(&[&[3, 1, 1], &[1], &[2, 2]]).expect("choices");
        assert_eq!(walks(&mut measuring), [(5, vec![], vec![5])]);
        assert!(walks(&mut start(&[&[1, 2, 3]]).expect("a choice")).is_empty());
    }

    #[test]
    fn a_walk_asks_all_that_lies_on_its_way() {
        let mut measuring = start(&[&[1, 2, 3, 4], &[1, 2, 3, 5], &[1, 6], &[7, 7, 7], &[7, 7, 8], &[9]]).expect("six");
        assert_eq!(walks(&mut measuring), [(5, vec![1, 2, 3], vec![5, 6, 8]), (5, vec![7, 7], vec![7])]);
        let mut measuring = start(&[&[1, 2, 1], &[1, 2, 2], &[1, 3, 1], &[1, 3, 2]]).expect("four");
        assert_eq!(walks(&mut measuring), [(5, vec![1, 2], vec![6, 7]), (6, vec![3], vec![7])]);
    }

    #[test]
    fn an_end_has_the_mass_of_the_tokens_that_end() {
        let mut measuring = start(&[&[1, 2], &[1]]).expect("two choices");
        measuring.next_walk().expect("a walk");
        let mut logits = [f32::NEG_INFINITY; 10];
        (logits[0], logits[2], logits[3]) = (0.25f32.ln(), 0.5f32.ln(), 9.0);
        let question = measuring.questions[0].clone();
        measuring.take(&question.answer(&logits, &[0]));
        let found = measuring.measured();
        assert!((found[0] - 2.0 / 3.0).abs() < 1e-7 && (found[1] - 1.0 / 3.0).abs() < 1e-7, "{found:?}");
    }

    #[test]
    fn logits_without_a_probability_give_numbers_all_the_same() {
        let mut measuring = start(&[&[1], &[2]]).expect("two choices");
        measuring.next_walk().expect("a walk");
        let question = measuring.questions[0].clone();
        assert_eq!(question.answer(&[f32::NAN; 10], &[0]), [0.5f64.ln(); 2]);
        let mut logits = [0.0; 10];
        (logits[1], logits[2]) = (f32::INFINITY, f32::NAN);
        assert_eq!(question.answer(&logits, &[0]), [0.0, f64::NEG_INFINITY]);
    }

    #[test]
    fn what_cannot_be_measured_is_told() {
        let told = |choices: &[&[TokenId]]| start(choices).err().expect("refused").to_string();
        assert!(told(&[]).contains("no choices"));
        assert!(told(&[&[1], &[]]).contains("choice 1 is empty"));
        assert!(told(&[&[2], &[1], &[2]]).contains("choices 0 and 2 are the same"));
        assert!(told(&[&[1, 0]]).contains("ends a sequence"));
        assert!(told(&[&[10]]).contains("no token 10"));
        let text = Measure::Text(vec![1]);
        assert!(Measuring::start(&text, 0, 10, &vocab()).is_err());
        assert!(Measuring::start(&text, 1, 10, &vocab()).is_ok());
    }
}
