//! No row may be a near copy of another: MinHash signatures find candidates, their true Jaccard
//! similarity decides.
//!
//! A text is the set of its shingles. Its MinHash signature (Broder 1997) agrees with that of another
//! text in each place with the probability of their Jaccard similarity J; texts that agree in a whole
//! band of places are candidates. With [`BANDS`] bands of [`ROWS`] places a pair is seen with
//! probability 1 − (1 − Jᴿᴼᵂˢ)ᴮᴬᴺᴰˢ: 0.998 at J = 0.8, 0.93 at J = 0.7. Every candidate is then verified on
//! the sets themselves.
//!
//! A row is compared with *kept* rows only, in row order. So a row is turned down for a row that stays,
//! never for one that was turned down itself, and of two alike one always stays.
//!
//! Memory grows with each kept row by about 450 bytes for the bands, and by 4 bytes a shingle until
//! [`IN_MEMORY`] shingles are held; what comes after lies in an unnamed temporary file. The time of a
//! check is bounded by [`MOST_VERIFIED`] comparisons.

use std::collections::hash_map::Entry;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use rustc_hash::FxHashMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::{hash, hash_run, mix, word_hashes};
use super::{FieldRead, Other, Problem, Reason, Rule};
use crate::error::{Error, Result};

/// Bands of a signature.
pub(crate) const BANDS: usize = 20;
/// Places in a band.
pub(crate) const ROWS: usize = 6;
/// Places of a signature.
pub const PLACES: usize = BANDS * ROWS;
/// The least threshold at which most pairs are seen.
pub(crate) const LEAST_THRESHOLD: f64 = 0.5;
/// Candidates verified for one text; those that share most bands come first.
pub(crate) const MOST_VERIFIED: usize = 256;
/// Shingles held in memory, 4 bytes each.
pub(crate) const IN_MEMORY: usize = 64 << 20;
/// Kept rows looked at in one bucket of a band, the latest first.
const MOST_IN_BUCKET: usize = 2048;
const NONE: u32 = u32::MAX;

/// The rule, as a recipe names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Near {
    /// Fields whose texts are compared, taken together.
    pub fields: Vec<String>,
    /// Rows with this Jaccard similarity or more are alike.
    #[serde(default = "default_threshold")]
    pub threshold: f64,
    /// What a text is the set of.
    #[serde(default)]
    pub shingles: Shingles,
}

fn default_threshold() -> f64 {
    0.7
}

impl Rule for Near {
    fn reads(&self) -> Vec<FieldRead<'_>> {
        FieldRead::each("/fields", &self.fields).collect()
    }

    fn problem(&self) -> Option<Problem> {
        let missed =
            || Problem::new("/threshold", format!("is below {LEAST_THRESHOLD}, where candidates would be missed"));
        Problem::empty("/fields", &self.fields)
            .or_else(|| Problem::share("/threshold", self.threshold))
            .or_else(|| (self.threshold < LEAST_THRESHOLD).then(missed))
    }
}

impl Near {
    /// The rule over `fields` with the usual threshold and shingles.
    pub fn new(fields: Vec<String>) -> Self {
        Self { fields, threshold: default_threshold(), shingles: Shingles::default() }
    }
}

/// What a text is the set of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Shingles {
    /// Runs of one, two and three words.
    #[default]
    Words,
    /// Runs of five characters of the words, a blank between them.
    Chars,
}

impl Shingles {
    /// The set of a text: sorted hashes, each once. A text without words has none.
    pub fn set(self, text: &str) -> Vec<u32> {
        let mut set: Vec<u32> = match self {
            Self::Words => {
                let words = word_hashes(text);
                let runs = (1..=3).flat_map(|length| words.windows(length));
                runs.map(|run| hash_run(run) as u32).collect()
            }
            Self::Chars => {
                let text = super::words(text).join(" ");
                let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
                match ends.len() {
                    0 | 1 => Vec::new(),
                    // Shorter texts are one shingle.
                    2..=5 => vec![hash(text.as_bytes()) as u32],
                    _ => ends.windows(6).map(|ends| hash(&text.as_bytes()[ends[0]..ends[5]]) as u32).collect(),
                }
            }
        };
        set.sort_unstable();
        set.dedup();
        set
    }
}

/// Jaccard similarity of two sets of sorted hashes; 0 when both are empty.
pub fn jaccard(a: &[u32], b: &[u32]) -> f64 {
    let (mut rest_a, mut rest_b, mut both) = (a, b, 0usize);
    while let ([first_a, tail_a @ ..], [first_b, tail_b @ ..]) = (rest_a, rest_b) {
        both += usize::from(first_a == first_b);
        if first_a <= first_b {
            rest_a = tail_a;
        }
        if first_b <= first_a {
            rest_b = tail_b;
        }
    }
    let either = a.len() + b.len() - both;
    if either == 0 { 0.0 } else { both as f64 / either as f64 }
}

/// A MinHash signature: for each of [`PLACES`] hash functions the least value over the set.
pub fn signature(set: &[u32]) -> [u32; PLACES] {
    let mut least = [u32::MAX; PLACES];
    for shingle in set {
        let x = mix(u64::from(*shingle));
        for (place, least) in least.iter_mut().enumerate() {
            let (a, b) = FUNCTIONS[place];
            // The upper half of a·x + b, a odd: multiply-shift (Dietzfelbinger and others 1997).
            *least = (*least).min((x.wrapping_mul(a).wrapping_add(b) >> 32) as u32);
        }
    }
    least
}

/// The estimate of two sets' Jaccard similarity from their signatures.
pub fn estimate(a: &[u32; PLACES], b: &[u32; PLACES]) -> f64 {
    a.iter().zip(b).filter(|(a, b)| a == b).count() as f64 / PLACES as f64
}

static FUNCTIONS: [(u64, u64); PLACES] = functions();

const fn functions() -> [(u64, u64); PLACES] {
    let mut functions = [(0, 0); PLACES];
    let mut place = 0;
    while place < PLACES {
        let number = 2 * place as u64;
        functions[place] = (mix(number) | 1, mix(number + 1));
        place += 1;
    }
    functions
}

/// What a text is compared by.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shingled {
    set: Vec<u32>,
    bands: Option<[u32; BANDS]>,
}

impl Shingled {
    /// The shingles of `text` and the bands of their signature.
    pub(crate) fn new(text: &str, shingles: Shingles) -> Self {
        Self::of(shingles.set(text))
    }

    fn of(set: Vec<u32>) -> Self {
        let bands = (!set.is_empty()).then(|| bands(&signature(&set)));
        Self { set, bands }
    }
}

/// A hash of each band of a signature.
fn bands(signature: &[u32; PLACES]) -> [u32; BANDS] {
    let mut bands = [0; BANDS];
    for (band, places) in bands.iter_mut().zip(signature.chunks_exact(ROWS)) {
        let hash = places.iter().fold(0u64, |state, place| mix(state ^ u64::from(*place)));
        *band = (hash >> 32) as u32;
    }
    bands
}

/// The kept rows, by the bands of their signatures.
pub(crate) struct NearIndex {
    threshold: f64,
    /// For each band: its hash → the latest kept text with it.
    latest: Vec<FxHashMap<u32, u32>>,
    /// For each kept text and band: the one before it with the same hash.
    earlier: Vec<[u32; BANDS]>,
    others: Vec<(Other, Option<u64>)>,
    sets: Sets,
}

impl NearIndex {
    /// An index without texts.
    pub(crate) fn new(threshold: f64) -> Self {
        Self {
            threshold,
            latest: vec![FxHashMap::default(); BANDS],
            earlier: Vec::new(),
            others: Vec::new(),
            sets: Sets::new(IN_MEMORY),
        }
    }

    /// The reason to turn a text down, if a kept text outside of `family` is near it.
    ///
    /// # Errors
    /// When the temporary file of a large index cannot be read.
    pub(crate) fn check(&mut self, text: &Shingled, family: Option<u64>) -> Result<Option<Reason>> {
        for candidate in self.candidates(text) {
            let (other, kin) = self.others[candidate as usize];
            if family.is_some() && family == kin {
                continue;
            }
            let similarity = self.sets.similarity(candidate as usize, &text.set, self.threshold)?;
            if similarity >= self.threshold {
                return Ok(Some(Reason::new(
                    "near_duplicate",
                    format!("Jaccard similarity {similarity:.2} to {other}"),
                )));
            }
        }
        Ok(None)
    }

    /// Keeps a text.
    ///
    /// # Errors
    /// When the temporary file of a large index cannot be written.
    pub(crate) fn accept(&mut self, other: Other, family: Option<u64>, text: &Shingled) -> Result<()> {
        let Some(bands) = text.bands else { return Ok(()) };
        let index = self.others.len() as u32;
        self.sets.push(&text.set)?;
        self.others.push((other, family));
        let mut earlier = [NONE; BANDS];
        for ((band, hash), earlier) in self.latest.iter_mut().zip(bands).zip(&mut earlier) {
            match band.entry(hash) {
                Entry::Occupied(mut latest) => *earlier = latest.insert(index),
                Entry::Vacant(vacant) => {
                    vacant.insert(index);
                }
            }
        }
        self.earlier.push(earlier);
        Ok(())
    }

    /// Kept texts that share a band with `text`: those that share most first, then the earliest.
    fn candidates(&self, text: &Shingled) -> Vec<u32> {
        let Some(bands) = text.bands else { return Vec::new() };
        let mut met: Vec<u32> = Vec::new();
        for (band, hash) in bands.iter().enumerate() {
            let mut at = self.latest[band].get(hash).copied().unwrap_or(NONE);
            for _ in 0..MOST_IN_BUCKET {
                if at == NONE {
                    break;
                }
                met.push(at);
                at = self.earlier[at as usize][band];
            }
        }
        met.sort_unstable();
        let mut ranked: Vec<(usize, u32)> =
            met.chunk_by(|a, b| a == b).map(|same| (BANDS - same.len(), same[0])).collect();
        ranked.sort_unstable();
        ranked.truncate(MOST_VERIFIED);
        ranked.into_iter().map(|(_, index)| index).collect()
    }
}

/// Sets of shingles one after another: in memory up to a limit, the rest in an unnamed file.
struct Sets {
    /// Where each set ends, in shingles.
    ends: Vec<u64>,
    memory: Vec<u32>,
    limit: usize,
    file: Option<File>,
}

impl Sets {
    fn new(limit: usize) -> Self {
        Self { ends: Vec::new(), memory: Vec::new(), limit, file: None }
    }

    fn push(&mut self, set: &[u32]) -> Result<()> {
        let end = self.ends.last().copied().unwrap_or(0) + set.len() as u64;
        // Once a set lies in the file, all later ones do, so that places stay in order.
        if self.file.is_none() && self.memory.len() + set.len() <= self.limit {
            self.memory.extend_from_slice(set);
        } else {
            let at = self.place(end - set.len() as u64);
            let bytes: Vec<u8> = set.iter().flat_map(|shingle| shingle.to_le_bytes()).collect();
            let write = |file: &mut Option<File>| {
                let file = match file {
                    Some(file) => file,
                    none => none.insert(tempfile::tempfile()?),
                };
                file.seek(SeekFrom::Start(at))?;
                file.write_all(&bytes)
            };
            write(&mut self.file).map_err(|cause| Error::io("write", std::env::temp_dir(), cause))?;
        }
        self.ends.push(end);
        Ok(())
    }

    /// Byte in the file of a shingle.
    fn place(&self, shingle: u64) -> u64 {
        (shingle - self.memory.len() as u64) * 4
    }

    /// Jaccard similarity of set `index` to `set`; 0 where the sizes rule `threshold` out.
    fn similarity(&mut self, index: usize, set: &[u32], threshold: f64) -> Result<f64> {
        let begin = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        let length = (self.ends[index] - begin) as usize;
        let (less, more) = (length.min(set.len()), length.max(set.len()));
        if (less as f64) < threshold * more as f64 {
            return Ok(0.0);
        }
        if begin < self.memory.len() as u64 {
            let begin = begin as usize;
            return Ok(jaccard(&self.memory[begin..begin + length], set));
        }
        let at = self.place(begin);
        let mut bytes = vec![0; length * 4];
        if let Some(file) = &mut self.file {
            let read = file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(&mut bytes));
            read.map_err(|cause| Error::io("read", std::env::temp_dir(), cause))?;
        }
        let words = bytes.chunks_exact(4).map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]));
        Ok(jaccard(&words.collect::<Vec<u32>>(), set))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `shared` numbers in both sets and `own` more in each.
    fn pair(seed: u32, shared: u32, own: u32) -> (Vec<u32>, Vec<u32>) {
        let number = |index: u32| mix(u64::from(seed) << 32 | u64::from(index)) as u32;
        let set = |from: u32| {
            let mut set: Vec<u32> = (0..shared).chain(from..from + own).map(number).collect();
            set.sort_unstable();
            set
        };
        (set(shared), set(shared + own))
    }

    #[test]
    fn estimates_are_unbiased() {
        for (shared, own) in [(80, 10), (50, 50), (10, 90)] {
            let truth = f64::from(shared) / f64::from(shared + 2 * own);
            let estimates: Vec<f64> = (0..300)
                .map(|seed| pair(seed, shared, own))
                .map(|(a, b)| estimate(&signature(&a), &signature(&b)))
                .collect();
            let mean = estimates.iter().sum::<f64>() / 300.0;
            // Standard error of the mean: sqrt(J (1 − J) / 120 / 300) ≤ 0.0027.
            assert!((mean - truth).abs() < 0.012, "mean {mean}, truth {truth}");
        }
    }

    #[test]
    fn pairs_over_the_threshold_are_seen() {
        let mut seen = 0;
        for seed in 0..1000 {
            let (a, b) = pair(seed, 80, 10);
            let mut index = NearIndex::new(0.7);
            index.accept(Other::Row(0), None, &Shingled::of(a)).expect("in memory");
            seen += usize::from(index.check(&Shingled::of(b), None).expect("in memory").is_some());
        }
        // J = 0.8 is seen with probability 0.998.
        assert!(seen > 985, "{seen}");
    }

    #[test]
    fn every_place_counts_in_its_band_and_any_one_band_is_enough() {
        let (set, _) = pair(1, 80, 10);
        let whole = signature(&set);
        for place in 0..PLACES {
            let mut changed = whole;
            changed[place] ^= 1;
            let unlike: Vec<usize> = (0..BANDS).filter(|&band| bands(&changed)[band] != bands(&whole)[band]).collect();
            assert_eq!(unlike, [place / ROWS], "place {place}");
        }
        for shared in 0..BANDS {
            let mut other = bands(&whole).map(|hash| !hash);
            other[shared] = !other[shared];
            let mut index = NearIndex::new(0.7);
            index.accept(Other::Row(0), None, &Shingled::of(set.clone())).expect("in memory");
            let twin = Shingled { set: set.clone(), bands: Some(other) };
            assert!(index.check(&twin, None).expect("in memory").is_some(), "band {shared}");
        }
    }

    fn index_of(texts: &[&str]) -> NearIndex {
        let mut index = NearIndex::new(0.7);
        for (row, text) in (0..).zip(texts) {
            index.accept(Other::Row(row), None, &Shingled::new(text, Shingles::Words)).expect("in memory");
        }
        index
    }

    #[test]
    fn a_near_copy_is_named_with_its_row_and_other_texts_pass() {
        let text = "Explain in a few sentences how the tides of the ocean follow the moon through the month.";
        let mut index = index_of(&["Name three rivers.", text]);
        let near = text.replace("few sentences", "few short sentences");
        let reason = index.check(&Shingled::new(&near, Shingles::Words), None).expect("in memory").expect("near");
        assert_eq!(reason.rule, "near_duplicate");
        assert!(reason.detail.ends_with("to row 1"), "{}", reason.detail);
        let other = "Explain in a few sentences how bread rises.";
        assert_eq!(index.check(&Shingled::new(other, Shingles::Words), None).expect("in memory"), None);
        assert_eq!(index.check(&Shingled::new("", Shingles::Words), None).expect("in memory"), None);
    }

    #[test]
    fn kin_are_not_compared() {
        let mut index = NearIndex::new(0.7);
        let text = Shingled::new("one two three four five six", Shingles::Chars);
        index.accept(Other::Seed(0), Some(7), &text).expect("in memory");
        assert!(index.check(&text, Some(7)).expect("in memory").is_none());
        assert!(index.check(&text, Some(8)).expect("in memory").is_some());
        assert!(index.check(&text, None).expect("in memory").is_some());
    }

    #[test]
    fn similarity_is_that_of_the_sets() {
        assert_eq!(jaccard(&[1, 2, 3, 4], &[3, 4, 5]), 0.4);
        assert_eq!(jaccard(&[], &[]), 0.0);
        assert_eq!(Shingles::Words.set("a b c").len(), 6);
        assert_eq!(Shingles::Words.set("a a a").len(), 3);
        assert_eq!(Shingles::Chars.set("abcdefg").len(), 3);
        assert_eq!(Shingles::Chars.set("abc").len(), 1);
        assert!(Shingles::Chars.set("!").is_empty());
    }

    proptest! {
        #[test]
        fn what_lies_in_the_file_is_found_again(
            sets in prop::collection::vec(prop::collection::btree_set(0u32..60, 1..20), 1..30), limit in 0usize..200,
        ) {
            let mut stored = Sets::new(limit);
            let sets: Vec<Vec<u32>> = sets.into_iter().map(|set| set.into_iter().collect()).collect();
            for set in &sets {
                stored.push(set).expect("a writable place");
            }
            for (index, set) in sets.iter().enumerate() {
                prop_assert_eq!(stored.similarity(index, set, 0.5).expect("readable"), 1.0);
                let similarity = stored.similarity(index, &sets[0], 0.0).expect("readable");
                prop_assert_eq!(similarity, jaccard(set, &sets[0]));
            }
        }
    }
}
