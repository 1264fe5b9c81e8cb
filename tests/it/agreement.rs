//! Measures of judges and labels agree with well-known Python packages; `fixtures/agreement.py` made the
//! sample.

use instil::measure::accuracy::accuracy;
use instil::measure::auc::auc;
use instil::measure::brier::brier;
use instil::measure::calibration::{calibration, likeliest};
use instil::measure::confusion::Confusion;
use serde::Deserialize;

#[derive(Deserialize)]
struct Sample {
    auc: Vec<Scored>,
    labels: Vec<String>,
    probabilities: Vec<Vec<f64>>,
    truth: Vec<usize>,
    calibration_error: f64,
    bins: Vec<(usize, f64, f64)>,
    brier: f64,
    accuracy: f64,
    wilson: (f64, f64),
    wilson_of_all: (f64, f64),
    confusion: Vec<Vec<u64>>,
    kappa: f64,
}

#[derive(Deserialize)]
struct Scored {
    scores: Vec<f64>,
    positive: Vec<bool>,
    auc: f64,
    interval: (f64, f64),
}

fn sample() -> Sample {
    serde_json::from_str(include_str!("../fixtures/agreement.json")).expect("the sample's form")
}

fn close(found: f64, expected: f64) {
    close_within(found, expected, 1e-9);
}

fn close_within(found: f64, expected: f64, most: f64) {
    assert!((found - expected).abs() < most, "{found}, expected {expected}");
}

#[test]
fn auc_is_that_of_scikit_learn_with_the_interval_of_confidenceinterval() {
    for scored in sample().auc {
        let found = auc(&scored.scores, &scored.positive).expect("two sides");
        close(found.value, scored.auc);
        let interval = found.interval.expect("a spread");
        // The package keeps ranks in f32.
        close_within(interval.0, scored.interval.0, 1e-6);
        close_within(interval.1, scored.interval.1, 1e-6);
        let upside_down: Vec<f64> = scored.scores.iter().map(|score| -score).collect();
        close(auc(&upside_down, &scored.positive).expect("two sides").value, 1.0 - scored.auc);
    }
}

#[test]
fn calibration_and_brier_score_are_those_of_scikit_learn() {
    let sample = sample();
    let found = calibration(&sample.probabilities, &sample.truth).expect("rows");
    close(found.error, sample.calibration_error);
    assert_eq!(found.bins.len(), sample.bins.len());
    for (bin, (rows, confidence, accuracy)) in found.bins.iter().zip(sample.bins) {
        assert_eq!(bin.rows, rows);
        close(bin.confidence, confidence);
        close(bin.accuracy, accuracy);
    }
    close(brier(&sample.probabilities, &sample.truth).expect("rows"), sample.brier);
    assert_eq!((calibration(&[], &[]), brier(&[], &[])), (None, None));
}

#[test]
fn accuracy_is_right_with_the_interval_of_statsmodels() {
    let sample = sample();
    let right = |(row, truth): (&Vec<f64>, &usize)| likeliest(row).0 == *truth;
    let correct: Vec<bool> = sample.probabilities.iter().zip(&sample.truth).map(right).collect();
    let found = accuracy(&correct).expect("rows");
    close(found.value, sample.accuracy);
    for (interval, expected) in
        [(found.interval, sample.wilson), (accuracy(&[true; 7]).expect("rows").interval, sample.wilson_of_all)]
    {
        close(interval.0, expected.0);
        close(interval.1, expected.1);
    }
    assert_eq!(accuracy(&[]), None);
}

#[test]
fn confusion_and_kappa_are_those_of_scikit_learn() {
    let sample = sample();
    let observed: Vec<usize> = sample.probabilities.iter().map(|row| likeliest(row).0).collect();
    let found = Confusion::new(sample.labels, &sample.truth, &observed);
    assert_eq!(found.counts, sample.confusion);
    close(found.kappa().expect("rows"), sample.kappa);
}
