//! Files as this program reads and writes them: lines of bounded length, texts and YAML in, whole files or whole
//! lines out.

mod appended;
mod lines;
mod text;
mod whole_file;
pub mod yaml;

pub use appended::AppendedLines;
pub use lines::{Line, Lines, MOST_LINE_BYTES};
pub use text::read_text;
pub use whole_file::{WholeFile, write_whole};
