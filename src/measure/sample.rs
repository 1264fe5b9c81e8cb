//! A seeded sample of texts that does not depend on how many there are to come.

use std::collections::BTreeMap;

use crate::filter::text::mix;

/// Keeps the texts whose places hash lowest, in the order of these hashes: a uniform sample, the same for
/// the same seed and texts.
#[derive(Debug)]
pub(crate) struct Sample {
    seed: u64,
    most_texts: usize,
    /// The texts are cut back to those first ones that hold this many words.
    enough_words: usize,
    kept: BTreeMap<(u64, u64), Vec<String>>,
    words: usize,
}

impl Sample {
    /// A sample of at most `most_texts` texts, and of no more than are needed for `enough_words` words.
    pub(crate) fn new(seed: u64, most_texts: usize, enough_words: usize) -> Self {
        Self { seed, most_texts, enough_words, kept: BTreeMap::new(), words: 0 }
    }

    /// Offers the words of the text at `place`.
    pub(crate) fn offer(&mut self, place: u64, words: &[String]) {
        let key = (mix(self.seed ^ mix(place)), place);
        if self.is_full() && self.kept.last_key_value().is_some_and(|(last, _)| key > *last) {
            return;
        }
        self.words += words.len();
        self.kept.insert(key, words.to_vec());
        while let Some((last, words)) = self.kept.last_key_value()
            && (self.kept.len() > self.most_texts || self.words - words.len() >= self.enough_words)
        {
            let (last, words) = (*last, words.len());
            self.kept.remove(&last);
            self.words -= words;
        }
    }

    fn is_full(&self) -> bool {
        self.kept.len() >= self.most_texts || self.words >= self.enough_words
    }

    /// The texts, cut off behind the last word that is enough.
    pub(crate) fn texts(self) -> Vec<Vec<String>> {
        let mut left = self.enough_words;
        let mut texts: Vec<Vec<String>> = self.kept.into_values().collect();
        for words in &mut texts {
            words.truncate(left);
            left -= words.len();
        }
        texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(seed: u64, places: impl Iterator<Item = u64>, most: usize, enough: usize) -> Vec<Vec<String>> {
        let mut sample = Sample::new(seed, most, enough);
        places.for_each(|place| sample.offer(place, &vec![place.to_string(); 3]));
        sample.texts()
    }

    #[test]
    fn the_order_of_offers_does_not_matter_and_the_seed_does() {
        let forth = sample(1, 0..1000, 50, usize::MAX);
        assert_eq!(forth.len(), 50);
        assert_eq!(forth, sample(1, (0..1000).rev(), 50, usize::MAX));
        assert_ne!(forth, sample(2, 0..1000, 50, usize::MAX));
        let low = forth.iter().filter(|words| words[0].len() < 3).count();
        assert!(low < 20, "places below 100 are a tenth: {low}");
    }

    #[test]
    fn the_budget_of_words_is_met_to_the_word() {
        let words: usize = sample(1, 0..1000, usize::MAX, 100).iter().map(Vec::len).sum();
        assert_eq!(words, 100);
        assert_eq!(sample(1, 0..1000, usize::MAX, 100).len(), 34);
        assert_eq!(sample(1, 0..5, usize::MAX, 100).len(), 5);
    }
}
