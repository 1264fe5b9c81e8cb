//! A run: from a [`Plan`](crate::plan::Plan) to accepted rows on disk.
//!
//! [`file`](mod@file) reads what a user asks for; [`driver`] turns attempts
//! into accepted rows: [`steps`] decodes them, [`rows`] decides in row order, [`seeds`] gives what rows are made
//! from. [`directory`] keeps the files, and [`ledger`] the attempts, so that nothing in them is ever half-written;
//! [`merge`](mod@merge) joins shards. [`estimate`] tells beforehand what a run will cost, [`fill`] what a data
//! set lacks, and [`tree`] afterwards what was made of each seed.

pub mod directory;
pub mod driver;
pub mod estimate;
pub mod event;
pub mod file;
pub mod fill;
pub mod ledger;
pub mod merge;
pub mod observed;
pub mod rows;
pub mod seeds;
pub mod steps;
pub mod tree;

pub use directory::RunDirectory;
pub use driver::generate;
pub use estimate::Estimate;
pub use event::{Event, Summary};
pub use file::RunFile;
pub use merge::merge;
