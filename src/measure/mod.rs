//! Measures of a data set: balance, diversity, lengths, and what became of each attempt; and of judges and
//! labels: how far they agree with what is known.
//!
//! [`report`](mod@report) reads a run directory or any JSON Lines file and puts the measures of a data set
//! together; the other files hold one kind of measure each and know nothing of files. Those of judges and
//! labels are [`auc`](mod@auc), [`accuracy`](mod@accuracy), [`brier`](mod@brier),
//! [`calibration`](mod@calibration) and [`confusion`]: slices in, small structs out.

pub mod accuracy;
pub mod auc;
pub mod balance;
pub mod brier;
pub mod calibration;
pub mod confusion;
pub mod diversity;
pub(crate) mod report;
pub(crate) mod sample;
pub(crate) mod table;
pub mod vendi;

pub use report::measure;

pub(crate) use report::{ModelMemory, Report, Sources, Throughput};
