//! How much texts differ from each other: distinct n-grams, self-BLEU, compression.
//!
//! The Vendi score stands in [`super::vendi`]. All measures work on the words of
//! [`crate::filter::words`].

use std::collections::{HashMap, HashSet};
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

/// Longest n-grams of self-BLEU.
const BLEU_ORDER: usize = 4;
/// What an order without a match counts as, of its n-grams (smoothing method 1 of Chen and Cherry 2014).
const BLEU_EPSILON: f64 = 0.1;

/// Distinct n-grams over all n-grams of the texts (Li and others 2016); None without any.
pub fn distinct(texts: &[Vec<String>], n: usize) -> Option<f64> {
    let grams: Vec<&[String]> = texts.iter().flat_map(|words| words.windows(n)).collect();
    let all = grams.len();
    let different: HashSet<&[String]> = grams.into_iter().collect();
    (all > 0).then(|| different.len() as f64 / all as f64)
}

/// The mean BLEU-4 of each text against all others (Zhu and others 2018): 1 is all alike.
///
/// Agrees with `sentence_bleu` of NLTK with smoothing method 1. None for fewer than two texts.
pub fn self_bleu(texts: &[Vec<String>]) -> Option<f64> {
    if texts.len() < 2 {
        return None;
    }
    // Of each n-gram, the two greatest counts in one text: "the greatest among the others" is then at hand.
    let mut greatest: HashMap<&[String], Greatest> = HashMap::new();
    let counts: Vec<[HashMap<&[String], u32>; BLEU_ORDER]> = texts
        .iter()
        .map(|words| {
            std::array::from_fn(|order| {
                let mut counts = HashMap::new();
                words.windows(order + 1).for_each(|gram| *counts.entry(gram).or_default() += 1);
                counts
            })
        })
        .collect();
    for (text, orders) in counts.iter().enumerate() {
        for (gram, count) in orders.iter().flatten() {
            greatest.entry(gram).or_default().meet(text, *count);
        }
    }
    let mut lengths: Vec<usize> = texts.iter().map(Vec::len).collect();
    lengths.sort_unstable();
    let scores = counts.iter().zip(texts).enumerate().map(|(text, (orders, words))| {
        let mut logarithm = 0.0;
        for (order, counts) in orders.iter().enumerate() {
            let matched: u32 = counts.iter().map(|(gram, count)| (*count).min(greatest[gram].among_others(text))).sum();
            if order == 0 && matched == 0 {
                return 0.0;
            }
            let all = words.len().saturating_sub(order).max(1) as f64;
            let precision = if matched == 0 { BLEU_EPSILON / all } else { f64::from(matched) / all };
            logarithm += precision.ln() / BLEU_ORDER as f64;
        }
        logarithm.exp() * brevity(words.len(), closest_other(&lengths, words.len()))
    });
    Some(scores.sum::<f64>() / texts.len() as f64)
}

/// The two greatest counts of an n-gram, of different texts.
#[derive(Clone, Copy, Default)]
struct Greatest {
    first: u32,
    /// The text that has `first`.
    of: usize,
    second: u32,
}

impl Greatest {
    fn meet(&mut self, text: usize, count: u32) {
        if count > self.first {
            *self = Self { first: count, of: text, second: self.first };
        } else {
            self.second = self.second.max(count);
        }
    }

    fn among_others(self, text: usize) -> u32 {
        if self.of == text { self.second } else { self.first }
    }
}

/// The length closest to `own` among the others; of two equally close ones the shorter.
fn closest_other(sorted: &[usize], own: usize) -> usize {
    let begin = sorted.partition_point(|length| *length < own);
    let end = sorted.partition_point(|length| *length <= own);
    if end - begin > 1 {
        return own;
    }
    let below = begin.checked_sub(1).map(|at| sorted[at]);
    let above = sorted.get(end).copied();
    match (below, above) {
        (Some(below), Some(above)) if above - own < own - below => above,
        (Some(below), _) => below,
        (None, above) => above.unwrap_or(own),
    }
}

fn brevity(own: usize, reference: usize) -> f64 {
    match own {
        0 => 0.0,
        own if own > reference => 1.0,
        own => (1.0 - reference as f64 / own as f64).exp(),
    }
}

/// Bytes of texts, and what gzip (level 9) makes of them; a newline stands between the texts.
pub(crate) struct Compressed {
    encoder: GzEncoder<Counted>,
    bytes: u64,
}

#[derive(Default)]
struct Counted(u64);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Default for Compressed {
    fn default() -> Self {
        Self { encoder: GzEncoder::new(Counted::default(), Compression::best()), bytes: 0 }
    }
}

impl Compressed {
    /// Adds a text.
    pub(crate) fn add(&mut self, text: &str) {
        let write = self.encoder.write_all(text.as_bytes()).and_then(|()| self.encoder.write_all(b"\n"));
        write.expect("a counter takes all bytes");
        self.bytes += text.len() as u64 + 1;
    }

    /// Bytes over compressed bytes (Shaib and others 2024): the more the texts repeat each other, the
    /// higher. None without text.
    pub(crate) fn ratio(self) -> Option<f64> {
        let compressed = self.encoder.finish().expect("a counter takes all bytes").0;
        (self.bytes > 0).then(|| self.bytes as f64 / compressed as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::words;

    fn texts(texts: &[&str]) -> Vec<Vec<String>> {
        texts.iter().map(|text| words(text)).collect()
    }

    #[test]
    fn distinct_counts_within_texts() {
        let texts = texts(&["a b a b", "a b"]);
        assert_eq!(distinct(&texts, 1), Some(2.0 / 6.0));
        assert_eq!(distinct(&texts, 2), Some(2.0 / 4.0));
        assert_eq!(distinct(&texts, 5), None);
    }

    #[test]
    fn equal_texts_have_a_self_bleu_of_1_and_strangers_of_0() {
        let close = |a: Option<f64>, b: f64| a.is_some_and(|a| (a - b).abs() < 1e-12);
        assert!(close(self_bleu(&texts(&["one two three four five", "one two three four five"])), 1.0));
        assert!(close(self_bleu(&texts(&["one two three four", "five six seven eight"])), 0.0));
        assert_eq!(self_bleu(&texts(&["alone"])), None);
        assert!(close(self_bleu(&texts(&["", "one"])), 0.0));
    }

    #[test]
    fn the_closest_length_is_that_of_another_text() {
        assert_eq!(closest_other(&[3, 5, 9], 5), 3);
        assert_eq!(closest_other(&[3, 5, 6], 5), 6);
        assert_eq!(closest_other(&[3, 5, 5], 5), 5);
        assert_eq!(closest_other(&[3, 5, 7], 5), 3);
        assert_eq!(closest_other(&[5, 7], 5), 7);
    }

    #[test]
    fn repetition_compresses() {
        let ratio = |texts: Vec<String>| {
            let mut compressed = Compressed::default();
            texts.iter().for_each(|text| compressed.add(text));
            compressed.ratio()
        };
        let repeated = ratio(vec!["the same text again and again".into(); 100]).expect("text");
        let varied = ratio((0..100u64).map(|i| format!("{:x}", crate::filter::text::mix(i))).collect()).expect("text");
        assert!(repeated > 10.0 && varied < 2.5, "{repeated} {varied}");
        assert_eq!(Compressed::default().ratio(), None);
    }
}
