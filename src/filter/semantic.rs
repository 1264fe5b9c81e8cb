//! No row may mean what another says already: the cosine of their sentence embeddings, as Deita (arXiv 2312.15685)
//! keeps its rows apart.
//!
//! A row is compared with every *kept* row, in row order, so of two alike one always stays. Nothing is estimated:
//! embeddings are rounded to 16-bit integers once, and their products are whole numbers, the same in any order and
//! on any machine; the rounding moves a cosine by about 0.00001. [`SemanticIndex::ahead`] compares many rows with
//! what is kept in one pass over memory, and changes no answer.
//!
//! Memory grows by 2 bytes for each number of each kept row's embedding: 768 bytes a row with 384. Time grows with
//! the kept rows too, some 50 ns for each on one core, less than an embedding takes (milliseconds) up to about
//! 100,000 rows.

use std::sync::OnceLock;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{FieldRead, Other, Problem, Reason, Rule};
use crate::catalog::DEFAULT_EMBEDDER;
use crate::error::Result;
use instil_model::model::embedder::Embedder;

/// Kept embeddings that one thread compares at a time: half a mebibyte of 384 numbers each.
const BLOCK: usize = 512;
/// Rows compared with a block while it is in a core's cache.
const ROWS: usize = 16;
/// What 1 is rounded to. The product of two embeddings stays below 2³¹.
const ONE: f32 = 32_767.0;

/// The rule, as a recipe names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Semantic {
    /// Fields whose texts are compared, taken together.
    pub fields: Vec<String>,
    /// Rows with a cosine above this are alike.
    #[serde(default = "default_threshold")]
    pub threshold: f64,
    /// The sentence embedder: a name of `instil models list`, or a manifest.
    #[serde(default = "default_model")]
    pub model: String,
}

fn default_threshold() -> f64 {
    0.9
}

fn default_model() -> String {
    DEFAULT_EMBEDDER.into()
}

impl Rule for Semantic {
    fn reads(&self) -> Vec<FieldRead<'_>> {
        FieldRead::each("/fields", &self.fields).collect()
    }

    fn problem(&self) -> Option<Problem> {
        Problem::empty("/fields", &self.fields).or_else(|| Problem::share("/threshold", self.threshold))
    }
}

impl Semantic {
    /// The rule over `fields` with Deita's threshold and the default embedder.
    pub fn new(fields: Vec<String>) -> Self {
        Self { fields, threshold: default_threshold(), model: default_model() }
    }
}

/// What a row is compared by: its text, and the embedding once it was worked out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sentence {
    text: Box<str>,
    embedding: OnceLock<Box<[i16]>>,
    ahead: OnceLock<Ahead>,
}

/// How far a row was compared before its turn.
#[derive(Clone, Copy, Debug)]
struct Ahead {
    kept: usize,
    nearest: Option<Nearest>,
}

/// A kept row and its product with the new one. The greatest product wins, then the row kept first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Nearest {
    product: i32,
    place: std::cmp::Reverse<usize>,
}

impl Sentence {
    /// A row of this text.
    pub(crate) fn new(text: &str) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    fn is_blank(&self) -> bool {
        self.text.trim().is_empty()
    }

    fn embedding(&self, embedder: &Embedder) -> Result<&[i16]> {
        if self.embedding.get().is_none() {
            embed(embedder, &[self])?;
        }
        Ok(self.embedding.get().map(|embedding| &**embedding).unwrap_or_default())
    }
}

/// Works out the embeddings that are not there yet, all together.
///
/// # Errors
/// As [`Embedder::embed`].
pub(crate) fn embed(embedder: &Embedder, rows: &[&Sentence]) -> Result<()> {
    let wanted: Vec<&Sentence> =
        rows.iter().copied().filter(|row| row.embedding.get().is_none() && !row.is_blank()).collect();
    let texts: Vec<&str> = wanted.iter().map(|row| &*row.text).collect();
    for (row, embedding) in wanted.iter().zip(embedder.embed(&texts)?) {
        // Another thread can only have put the same there.
        let _ = row.embedding.set(embedding.iter().map(|x| (x * ONE).round() as i16).collect());
    }
    Ok(())
}

/// The kept rows' embeddings, one after another.
#[derive(Debug)]
pub(crate) struct SemanticIndex {
    threshold: f64,
    width: usize,
    embeddings: Vec<i16>,
    kept: Vec<(Other, Option<u64>)>,
}

impl SemanticIndex {
    /// An index without rows, for embeddings of `width` numbers.
    pub(crate) fn new(threshold: f64, width: usize) -> Self {
        Self { threshold, width, embeddings: Vec::new(), kept: Vec::new() }
    }

    /// The reason to turn a row down, if a kept row outside of `family` is above the threshold; the nearest is named.
    ///
    /// # Errors
    /// As [`Embedder::embed`].
    pub(crate) fn check(&self, embedder: &Embedder, row: &Sentence, family: Option<u64>) -> Result<Option<Reason>> {
        if row.is_blank() {
            return Ok(None);
        }
        let embedding = row.embedding(embedder)?;
        let ahead = row.ahead.get().copied().unwrap_or(Ahead { kept: 0, nearest: None });
        let nearest = self.nearest(embedding, family, ahead.kept).max(ahead.nearest);
        Ok(nearest.filter(|nearest| cosine(nearest.product) > self.threshold).map(|nearest| {
            let (other, _) = self.kept[nearest.place.0];
            Reason::new("semantic_duplicate", format!("cosine {:.3} to {other}", cosine(nearest.product)))
        }))
    }

    /// Keeps a row.
    ///
    /// # Errors
    /// As [`Embedder::embed`].
    pub(crate) fn accept(
        &mut self,
        embedder: &Embedder,
        other: Other,
        family: Option<u64>,
        row: &Sentence,
    ) -> Result<()> {
        if !row.is_blank() {
            self.embeddings.extend_from_slice(row.embedding(embedder)?);
            self.kept.push((other, family));
        }
        Ok(())
    }

    /// Compares rows with all that is kept by now, before it is their turn.
    pub(crate) fn ahead(&self, rows: &[(&Sentence, Option<u64>)]) {
        rows.par_chunks(ROWS).for_each(|rows| {
            let mut nearest = vec![None; rows.len()];
            for (block, embeddings) in self.embeddings.chunks(BLOCK * self.width).enumerate() {
                for ((row, family), nearest) in rows.iter().zip(&mut nearest) {
                    if let Some(embedding) = row.embedding.get() {
                        *nearest = self.nearest_of(embedding, *family, block * BLOCK, embeddings).max(*nearest);
                    }
                }
            }
            for ((row, _), nearest) in rows.iter().zip(nearest) {
                let _ = row.ahead.set(Ahead { kept: self.kept.len(), nearest });
            }
        });
    }

    /// The nearest of the rows kept from place `from` on.
    fn nearest(&self, embedding: &[i16], family: Option<u64>, from: usize) -> Option<Nearest> {
        let blocks = self.embeddings[from * self.width..].par_chunks(BLOCK * self.width).enumerate();
        let of_block = |(block, of)| self.nearest_of(embedding, family, from + block * BLOCK, of);
        // One block is done sooner than threads are woken.
        if self.kept.len() - from <= BLOCK {
            return self.nearest_of(embedding, family, from, &self.embeddings[from * self.width..]);
        }
        blocks.map(of_block).max().flatten()
    }

    fn nearest_of(&self, embedding: &[i16], family: Option<u64>, from: usize, of: &[i16]) -> Option<Nearest> {
        let places = (from..).zip(of.chunks_exact(self.width));
        let strangers = places.filter(|(place, _)| family.is_none() || family != self.kept[*place].1);
        strangers
            .map(|(place, kept)| Nearest { product: product(embedding, kept), place: std::cmp::Reverse(place) })
            .max()
    }
}

fn product(a: &[i16], b: &[i16]) -> i32 {
    a.iter().zip(b).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum()
}

fn cosine(product: i32) -> f64 {
    f64::from(product) / (f64::from(ONE) * f64::from(ONE))
}
