//! Files as this program reads and writes them: lines of bounded length in, whole files or whole lines out.

mod appended;
mod lines;
mod whole_file;

pub use appended::AppendedLines;
pub use lines::{Line, Lines, MOST_LINE_BYTES};
pub use whole_file::{WholeFile, write_whole};
