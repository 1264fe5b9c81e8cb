//! Measures agree with well-known Python packages on a fixed sample; `fixtures/measures.py` made it.

use instil::filter::near::{PLACES, Shingles, estimate, jaccard, signature};
use instil::filter::rouge::rouge_l;
use instil::filter::words;
use instil::measure::{balance, diversity, vendi};
use serde_json::Value;

struct Sample {
    value: Value,
    texts: Vec<String>,
}

impl Sample {
    fn read() -> Self {
        let value: Value = serde_json::from_str(include_str!("../fixtures/measures.json")).expect("JSON");
        let texts = value["texts"].as_array().expect("a list").iter();
        let texts = texts.map(|text| text.as_str().expect("a text").to_owned()).collect();
        Self { value, texts }
    }

    fn words(&self) -> Vec<Vec<String>> {
        self.texts.iter().map(|text| words(text)).collect()
    }

    fn number(&self, pointer: &str) -> f64 {
        self.value.pointer(pointer).and_then(Value::as_f64).expect("a number")
    }

    /// Rows of numbers.
    fn table(&self, name: &str) -> Vec<Vec<f64>> {
        let rows = self.value[name].as_array().expect("a list").iter();
        let numbers =
            |row: &Value| row.as_array().expect("a list").iter().map(|cell| cell.as_f64().expect("a number")).collect();
        rows.map(numbers).collect()
    }
}

fn close(found: Option<f64>, expected: f64) {
    assert!(found.is_some_and(|found| (found - expected).abs() < 1e-9), "{found:?}, expected {expected}");
}

#[test]
fn rouge_l_is_that_of_rouge_score() {
    let sample = Sample::read();
    let pairs = sample.table("rouge_l");
    assert!(pairs.len() > 200);
    for pair in pairs {
        let (a, b) = (&sample.texts[pair[0] as usize], &sample.texts[pair[1] as usize]);
        close(Some(rouge_l(a, b)), pair[2]);
    }
}

#[test]
fn distinct_and_self_bleu_are_those_of_nltk() {
    let sample = Sample::read();
    for n in 1..=3 {
        close(diversity::distinct(&sample.words(), n), sample.number(&format!("/distinct/{}", n - 1)));
    }
    close(diversity::self_bleu(&sample.words()), sample.number("/self_bleu"));
}

#[test]
fn true_similarities_agree_and_estimates_err_as_datasketch_does() {
    let sample = Sample::read();
    let sets: Vec<Vec<u32>> = sample.texts.iter().map(|text| Shingles::Words.set(text)).collect();
    let signatures: Vec<_> = sets.iter().map(|set| signature(set)).collect();
    let (mut own, mut theirs, mut pairs) = (0.0, 0.0, 0.0);
    for pair in sample.table("jaccard") {
        let (a, b, truth) = (pair[0] as usize, pair[1] as usize, pair[2]);
        close(Some(jaccard(&sets[a], &sets[b])), truth);
        let estimated = estimate(&signatures[a], &signatures[b]);
        // Five standard deviations of a mean of so many draws.
        let bound = 5.0 * (truth * (1.0 - truth) / PLACES as f64).sqrt();
        assert!((estimated - truth).abs() <= bound + 1e-9, "{estimated}, truth {truth}");
        own += (estimated - truth).powi(2);
        theirs += (pair[3] - truth).powi(2);
        pairs += 1.0;
    }
    let (own, theirs) = (f64::sqrt(own / pairs), f64::sqrt(theirs / pairs));
    assert!(own < 0.05 && own < 1.5 * theirs, "error {own}, that of datasketch {theirs}");
}

#[test]
fn the_vendi_score_is_that_of_vendi_score() {
    let sample = Sample::read();
    let texts: Vec<Vec<String>> = sample.words().into_iter().filter(|words| words.len() > 1).collect();
    close(vendi::vendi_score(&texts), sample.number("/vendi"));
}

#[test]
fn entropy_and_association_are_those_of_scipy() {
    let sample = Sample::read();
    let counts: Vec<u64> =
        sample.value["counts"].as_array().expect("a list").iter().map(|count| count.as_u64().expect("whole")).collect();
    close(balance::normalised_entropy(&counts), sample.number("/entropy"));
    let table: Vec<Vec<u64>> =
        sample.table("table").iter().map(|row| row.iter().map(|count| *count as u64).collect()).collect();
    // scipy's is not corrected for bias: V² (k - 1) is its χ²/n, from which Bergsma's (2013) follows.
    let rows: u64 = table.iter().flatten().sum();
    let (height, width, less) = (table.len() as f64, table[0].len() as f64, rows as f64 - 1.0);
    let association = sample.number("/cramers_v").powi(2) * (height.min(width) - 1.0);
    let unbiased = (association - (height - 1.0) * (width - 1.0) / less).max(0.0);
    let side = |side: f64| side - (side - 1.0).powi(2) / less;
    close(balance::cramers_v(&table), (unbiased / (side(height).min(side(width)) - 1.0)).sqrt());
}
