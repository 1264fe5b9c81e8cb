//! Files as this program reads and writes them: lines of bounded length in, whole files out.

mod lines;
mod whole_file;

pub use lines::{Line, Lines, MOST_LINE_BYTES};
pub use whole_file::{WholeFile, write_whole};
