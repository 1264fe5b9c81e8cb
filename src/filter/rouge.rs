//! No row may share most of its words, in order, with another: ROUGE-L F1 (Lin 2004), as Self-Instruct
//! (arXiv 2212.10560) filters its instructions.
//!
//! F1 = 2 L / (n + m) for texts of n and m words whose longest common subsequence has L words. L is at
//! most the number of words that the texts share, so a row over the threshold must share at least
//! n θ / (2 − θ) words with the new one. An inverted index over the new text's rarest words finds the
//! rows that can; lengths and word counts rule most of these out; what is left is compared in full, 64
//! words at a time (Hyyrö 2004). The result is that of comparing with every row.
//!
//! Memory grows by about 12 bytes for each word of each kept row.

use rustc_hash::FxHashMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::word_hashes;
use super::{FieldRead, Other, Problem, Reason, Rule};

/// The rule, as a recipe names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RougeL {
    /// Fields whose texts are compared, taken together.
    pub fields: Vec<String>,
    /// Rows with an F1 above this are alike; so are rows that meet it, which the rounding of other programs
    /// puts on either side.
    #[serde(default = "default_threshold")]
    pub threshold: f64,
}

fn default_threshold() -> f64 {
    0.7
}

/// Words that a text must share with the new one before it is looked at, where so many must be shared at all.
/// Counting one word more in all texts costs less than looking at those that share a single rare word.
const LEAST_MET: usize = 3;

impl Rule for RougeL {
    fn reads(&self) -> Vec<FieldRead<'_>> {
        FieldRead::each("/fields", &self.fields).collect()
    }

    fn problem(&self) -> Option<Problem> {
        Problem::empty("/fields", &self.fields).or_else(|| Problem::share("/threshold", self.threshold))
    }
}

impl RougeL {
    /// The rule over `fields` with Self-Instruct's threshold.
    pub fn new(fields: Vec<String>) -> Self {
        Self { fields, threshold: default_threshold() }
    }
}

/// ROUGE-L F1 of two texts by their words; 0 when one has none.
///
/// For texts of ASCII letters and digits it is what the Python package `rouge-score` gives without
/// stemming; other letters are words here, and blanks there.
pub fn rouge_l(a: &str, b: &str) -> f64 {
    f1(&Words::new(a), &Words::new(b))
}

fn f1(a: &Words, b: &Words) -> f64 {
    if a.hashes.is_empty() || b.hashes.is_empty() {
        return 0.0;
    }
    let common = Pattern::new(&a.hashes).common_subsequence(&b.hashes);
    2.0 * common as f64 / (a.hashes.len() + b.hashes.len()) as f64
}

/// What a text is compared by: the hashes of its words.
#[derive(Clone, Debug, Default)]
pub struct Words {
    hashes: Vec<u64>,
}

impl Words {
    /// The words of `text`.
    pub fn new(text: &str) -> Self {
        Self { hashes: word_hashes(text) }
    }
}

/// The kept texts, by their words.
pub(crate) struct RougeIndex {
    threshold: f64,
    kept: Vec<Kept>,
    /// Word → kept texts that hold it, each once.
    holders: FxHashMap<u64, Vec<u32>>,
    /// Words met in each kept text during a check; all zero between checks.
    met: Vec<u16>,
    pairs: Pairs,
}

/// How many pairs of texts it took to find those over the threshold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Pairs {
    /// Pairs of a text and one that was kept before it.
    pub all: u64,
    /// Pairs that share a word rare enough to be looked at.
    pub sharing: u64,
    /// Pairs whose lengths and common words leave the answer open, and that were compared in full.
    pub compared: u64,
}

struct Kept {
    other: Other,
    family: Option<u64>,
    words: Box<[u64]>,
}

impl RougeIndex {
    /// An index without texts.
    pub(crate) fn new(threshold: f64) -> Self {
        Self { threshold, kept: Vec::new(), holders: FxHashMap::default(), met: Vec::new(), pairs: Pairs::default() }
    }

    /// What the checks so far took.
    pub(crate) fn pairs(&self) -> Pairs {
        self.pairs
    }

    /// The reason to turn a text down, if a kept text outside of `family` is over the threshold. The
    /// first such text in the order of keeping is named.
    pub(crate) fn check(&mut self, text: &Words, family: Option<u64>) -> Option<Reason> {
        let mut pattern = None;
        self.pairs.all += self.kept.len() as u64;
        for index in self.candidates(&text.hashes) {
            self.pairs.sharing += 1;
            let kept = &self.kept[index as usize];
            if family.is_some() && family == kept.family {
                continue;
            }
            let most = text.hashes.len().min(kept.words.len());
            if !self.is_over(most, text.hashes.len(), kept.words.len()) {
                continue;
            }
            let pattern = pattern.get_or_insert_with(|| Pattern::new(&text.hashes));
            let shared = pattern.shared(&kept.words);
            if !self.is_over(shared, text.hashes.len(), kept.words.len()) {
                continue;
            }
            self.pairs.compared += 1;
            let common = pattern.common_subsequence(&kept.words);
            if self.is_over(common, text.hashes.len(), kept.words.len()) {
                let f1 = 2.0 * common as f64 / (text.hashes.len() + kept.words.len()) as f64;
                return Some(Reason::new("rouge_l", format!("ROUGE-L {f1:.2} to {}", kept.other)));
            }
        }
        None
    }

    /// Keeps a text.
    pub(crate) fn accept(&mut self, other: Other, family: Option<u64>, text: &Words) {
        let index = self.kept.len() as u32;
        let mut words = text.hashes.clone();
        words.sort_unstable();
        words.dedup();
        for word in words {
            self.holders.entry(word).or_default().push(index);
        }
        self.kept.push(Kept { other, family, words: text.hashes.clone().into() });
        self.met.push(0);
    }

    /// True when `common` words of texts of `n` and `m` make an F1 that is not below the threshold.
    fn is_over(&self, common: usize, n: usize, m: usize) -> bool {
        2.0 * common as f64 >= self.threshold * (n + m) as f64 - 1e-9
    }

    /// Kept texts that may be over the threshold, in the order of keeping; misses none.
    fn candidates(&mut self, words: &[u64]) -> Vec<u32> {
        // A text over the threshold shares at least `needed` of these words, counted as often as they stand here.
        let needed = (self.threshold * words.len() as f64 / (2.0 - self.threshold) - 1e-9).floor() as usize;
        let mut counted: FxHashMap<u64, u32> = FxHashMap::default();
        for word in words {
            *counted.entry(*word).or_default() += 1;
        }
        let mut by_holders: Vec<(usize, u64, u32)> = counted
            .into_iter()
            .map(|(word, count)| (self.holders.get(&word).map_or(0, Vec::len), word, count))
            .collect();
        by_holders.sort_unstable();
        // Words held by most texts are skipped as long as enough of the others must still be met.
        let mut skipped = 0;
        while let Some((_, _, count)) = by_holders.last()
            && skipped + (*count as usize) + LEAST_MET <= needed
        {
            skipped += *count as usize;
            by_holders.pop();
        }
        let least = u16::try_from(needed.saturating_sub(skipped).max(1)).unwrap_or(u16::MAX);
        let mut touched = Vec::new();
        for (_, word, count) in &by_holders {
            for index in self.holders.get(word).into_iter().flatten() {
                let met = &mut self.met[*index as usize];
                if *met == 0 {
                    touched.push(*index);
                }
                *met = met.saturating_add(u16::try_from(*count).unwrap_or(u16::MAX));
            }
        }
        let enough = |index: &u32| std::mem::take(&mut self.met[*index as usize]) >= least;
        touched.retain(enough);
        touched.sort_unstable();
        touched
    }
}

/// A text ready to be compared with many: for each of its words the places where it stands, as bits.
struct Pattern {
    length: usize,
    /// Word → place of its bits in `places`.
    words: FxHashMap<u64, usize>,
    /// `blocks()` numbers of 64 bits a word.
    places: Vec<u64>,
    /// How often each word stands in the text, and room to count down from there.
    counts: Vec<u32>,
    left: Vec<u32>,
    /// Room for the bits of a comparison.
    growth: Vec<u64>,
}

impl Pattern {
    fn new(text: &[u64]) -> Self {
        let mut pattern = Self {
            length: text.len(),
            words: FxHashMap::default(),
            places: Vec::new(),
            counts: Vec::new(),
            left: Vec::new(),
            growth: Vec::new(),
        };
        let blocks = pattern.blocks();
        for (at, word) in text.iter().enumerate() {
            let next = pattern.words.len();
            let place = *pattern.words.entry(*word).or_insert(next);
            pattern.places.resize(pattern.words.len() * blocks, 0);
            pattern.counts.resize(pattern.words.len(), 0);
            pattern.counts[place] += 1;
            pattern.places[place * blocks + at / 64] |= 1 << (at % 64);
        }
        pattern
    }

    fn blocks(&self) -> usize {
        self.length.div_ceil(64)
    }

    /// Words that both texts hold, as often as both hold them.
    fn shared(&mut self, text: &[u64]) -> usize {
        self.left.clone_from(&self.counts);
        let (words, left) = (&self.words, &mut self.left);
        let taken = text.iter().filter(|word| {
            let Some(left) = words.get(word).map(|place| &mut left[*place]) else { return false };
            let some = *left > 0;
            *left -= u32::from(some);
            some
        });
        taken.count()
    }

    /// Length of the longest common subsequence.
    fn common_subsequence(&mut self, text: &[u64]) -> usize {
        // V has a 0 bit at each place of the pattern where the subsequence grows:
        // V ← (V + (V & M)) | (V & !M), with M the places of the text's next word.
        let blocks = self.blocks();
        let mut growth = std::mem::take(&mut self.growth);
        growth.clear();
        growth.resize(blocks, u64::MAX);
        for word in text {
            let Some(place) = self.words.get(word) else { continue };
            let bits = &self.places[place * blocks..][..blocks];
            let mut carry = false;
            for (v, m) in growth.iter_mut().zip(bits) {
                let (sum, over) = v.overflowing_add(*v & m);
                let (sum, over_again) = sum.overflowing_add(u64::from(carry));
                carry = over || over_again;
                *v = sum | (*v & !m);
            }
        }
        let used = |block: usize| match self.length - block * 64 {
            bits @ 0..64 => (1u64 << bits) - 1,
            _ => u64::MAX,
        };
        let common = growth.iter().enumerate().map(|(block, v)| (!v & used(block)).count_ones() as usize).sum();
        self.growth = growth;
        common
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The textbook table.
    fn table(a: &[u64], b: &[u64]) -> usize {
        let mut row = vec![0usize; b.len() + 1];
        for x in a {
            let mut diagonal = 0;
            for (at, y) in b.iter().enumerate() {
                let above = row[at + 1];
                row[at + 1] = if x == y { diagonal + 1 } else { above.max(row[at]) };
                diagonal = above;
            }
        }
        row[b.len()]
    }

    #[test]
    fn f1_follows_the_definition() {
        assert_eq!(rouge_l("the cat sat", "The cat, sat!"), 1.0);
        assert_eq!(rouge_l("police killed the gunman", "police kill the gunman"), 0.75);
        assert_eq!(rouge_l("a b c d", "d c b a"), 0.25);
        assert_eq!(rouge_l("", "a"), 0.0);
    }

    #[test]
    fn seeds_are_named_and_kin_are_left_out() {
        let mut index = RougeIndex::new(0.7);
        let parent = Words::new("Explain how the tides follow the moon");
        let child = Words::new("Explain how the tides follow the moon in spring");
        index.accept(Other::Seed(4), Some(1), &parent);
        assert_eq!(index.check(&child, Some(1)), None);
        let reason = index.check(&child, Some(2)).expect("over the threshold");
        assert_eq!((reason.rule, reason.detail.as_str()), ("rouge_l", "ROUGE-L 0.88 to seed 4"));
        assert_eq!(index.check(&Words::default(), None), None);
    }

    fn texts(most: usize) -> impl Strategy<Value = Vec<u64>> {
        prop::collection::vec(0u64..12, 0..most)
    }

    proptest! {
        #[test]
        fn bits_agree_with_the_table(a in texts(200), b in texts(200)) {
            prop_assert_eq!(Pattern::new(&a).common_subsequence(&b), table(&a, &b));
            prop_assert!(Pattern::new(&a).shared(&b) >= table(&a, &b));
        }

        #[test]
        fn the_index_finds_what_comparing_with_every_text_finds(
            kept in prop::collection::vec(texts(14), 1..40), text in texts(14), tenths in 3u32..10,
        ) {
            let threshold = f64::from(tenths) / 10.0;
            let mut index = RougeIndex::new(threshold);
            for (row, words) in (0..).zip(&kept) {
                index.accept(Other::Row(row), None, &Words { hashes: words.clone() });
            }
            let over = |words: &&Vec<u64>| {
                let (common, length) = (table(words, &text), words.len() + text.len());
                common > 0 && 2.0 * common as f64 >= threshold * length as f64 - 1e-9
            };
            let expected = kept.iter().position(|words| over(&words)).map(|row| format!("to row {row}"));
            // Twice: a check leaves nothing behind.
            for _ in 0..2 {
                let found = index.check(&Words { hashes: text.clone() }, None);
                match (&found, &expected) {
                    (Some(found), Some(expected)) => prop_assert!(found.detail.ends_with(expected.as_str())),
                    (found, expected) => prop_assert_eq!(found.is_some(), expected.is_some()),
                }
            }
        }
    }
}
