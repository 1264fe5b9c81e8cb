//! A run: from a [`Plan`](crate::plan::Plan) to accepted rows on disk.
//!
//! [`file`](mod@file) reads what a user asks for; [`driver`] turns attempts
//! into accepted rows: [`steps`] decodes them, [`rows`] decides in row order, [`seeds`] gives what rows are made
//! from. [`directory`] keeps the files, and [`ledger`] the attempts, so that nothing in them is ever half-written;
//! [`merge`](mod@merge) joins shards. [`estimate`] tells beforehand what a run will cost, [`fill`] what a data
//! set lacks, and [`tree`] afterwards what was made of each seed.

pub(crate) mod directory;
pub(crate) mod driver;
pub mod estimate;
pub(crate) mod event;
pub mod file;
pub(crate) mod fill;
pub mod ledger;
pub(crate) mod merge;
pub(crate) mod observed;
pub(crate) mod rows;
pub(crate) mod seeds;
pub(crate) mod steps;
pub(crate) mod tree;

pub use directory::RunDirectory;
pub(crate) use driver::generate;
pub(crate) use estimate::Estimate;
pub(crate) use event::{Event, Summary};
pub use file::RunFile;
pub(crate) use merge::merge;
