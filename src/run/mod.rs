//! A run: from a [`Plan`] to accepted rows on disk.
//!
//! [`plan`] says what is to be made, [`driver`] turns attempts into accepted rows, [`record`] is a
//! row's line, [`directory`] keeps the files so that nothing in them is ever half-written.

pub mod directory;
pub mod driver;
pub mod plan;
pub mod record;

pub use directory::RunDirectory;
pub use driver::{Event, Summary, generate};
pub use plan::Plan;
