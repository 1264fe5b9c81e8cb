//! What the benches measure, and how: the MaskBench protocol for constraint engines.
//!
//! This room knows the protocol, not the flags: `cli` parses flags, builds an [`masks::Engine`] and prints. The way of
//! the data:
//!
//! - [`input`] reads `.json`, `.jsonl` and `.jsonl.gz` files into [`input::BenchFile`]s, whose instances are
//!   slices of the text they stand in, never reprinted values.
//! - [`masks`] is the protocol for one file and one engine: compile, cold pass, warm pass, verdicts.
//! - [`supervise`] runs that protocol in a child process, one per engine, under a time and a memory limit a file.
//! - [`report`] adds up the files into the summary that is printed.
//! - [`cold`] is another measure of the project's own engine: rows of one batch that begin together, by threads.
//! - [`engines`] makes the engines that are compared; [`extremes`] has schemas that are hard by their size.
pub(crate) mod cold;
pub(crate) mod engines;
pub(crate) mod extremes;
pub mod input;
pub(crate) mod masks;
pub(crate) mod report;
pub(crate) mod supervise;
