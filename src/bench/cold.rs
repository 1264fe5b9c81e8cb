//! Rows of one batch that begin together while none of their masks is known: how long they take, on one thread and on
//! several.
//!
//! Each row draws its tokens from its masks alone, by a stream of its own, and writes the same text on any number of
//! threads. As in decoding, every row takes a step before any of them takes the next.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::time::{Duration, Instant};

use instil_grammar::Result;
use instil_grammar::constraint::{Engine, Session};

/// What the rows of one batch came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ColdBatch {
    /// Wall time of all steps.
    pub time: Duration,
    /// Tokens of all rows.
    pub tokens: usize,
    /// Hash of all texts (FNV-1a): equal on any number of threads.
    pub texts: u64,
}

/// Writes `rows` texts, each of at most so many tokens beyond what the grammar needs, under an engine that has none of
/// their masks yet.
///
/// # Errors
/// When the grammar needs more tokens than can be counted.
pub(crate) fn run(engine: &Arc<Engine>, rows: usize, threads: usize, spare_tokens: usize) -> Result<ColdBatch> {
    let limit = engine.min_tokens().saturating_add(spare_tokens);
    let rows = (0..rows)
        .map(|row| Ok(Mutex::new(Row { session: engine.start(Some(limit))?, stream: row as u64, over: false })))
        .collect::<Result<Vec<_>>>()?;
    let (barrier, next, open) = (Barrier::new(threads), AtomicUsize::new(0), AtomicUsize::new(rows.len()));
    let work = || {
        loop {
            while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                let mut row = row.lock().unwrap_or_else(PoisonError::into_inner);
                if !row.over {
                    row.step();
                    open.fetch_sub(usize::from(row.over), Ordering::Relaxed);
                }
            }
            if barrier.wait().is_leader() {
                next.store(0, Ordering::Relaxed);
            }
            // Read between the barriers, while nobody writes it.
            let done = open.load(Ordering::Relaxed) == 0;
            barrier.wait();
            if done {
                break;
            }
        }
    };
    let start = Instant::now();
    std::thread::scope(|scope| {
        (1..threads).for_each(|_| {
            scope.spawn(work);
        });
        work();
    });
    let time = start.elapsed();
    let mut batch = ColdBatch { time, tokens: 0, texts: 0xcbf2_9ce4_8422_2325 };
    for row in rows {
        let session = row.into_inner().unwrap_or_else(PoisonError::into_inner).session;
        batch.tokens += session.tokens().len();
        for &byte in session.text().iter().chain(&[0]) {
            batch.texts = (batch.texts ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    Ok(batch)
}

/// One text and its stream of numbers.
struct Row {
    session: Session,
    stream: u64,
    over: bool,
}

impl Row {
    /// Takes what is forced, then draws a token from the mask.
    fn step(&mut self) {
        for token in self.session.forced() {
            self.over |= self.session.advance(token).is_err();
        }
        let bits = self.session.mask().bits();
        let count: u32 = bits.iter().map(|word| word.count_ones()).sum();
        if self.over || count == 0 {
            self.over = true;
            return;
        }
        let mut left = (self.draw() % u64::from(count)) as u32;
        for (base, &word) in (0u32..).step_by(32).zip(&bits) {
            if left >= word.count_ones() {
                left -= word.count_ones();
                continue;
            }
            let mut word = word;
            (0..left).for_each(|_| word &= word - 1);
            self.over = self.session.advance(base + word.trailing_zeros()).is_err() || self.session.is_finished();
            return;
        }
    }

    /// The next number (SplitMix64).
    fn draw(&mut self) -> u64 {
        self.stream = self.stream.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.stream;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
