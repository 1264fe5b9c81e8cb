//! Measures of a data set: balance, diversity, lengths, and what became of each attempt.
//!
//! [`report`](mod@report) reads a run directory or any JSON Lines file and puts them together; the other
//! files hold one kind of measure each and know nothing of files.

pub mod balance;
pub mod diversity;
pub mod report;
pub mod sample;
pub mod table;
pub mod vendi;

pub use report::{Report, Sources, Throughput, measure};
