//! Files as this program reads and writes them: lines of bounded length, texts and YAML in, whole files or whole
//! lines out.

mod appended;
mod lines;
mod text;
mod whole_file;
pub(crate) mod yaml;

pub(crate) use appended::{AppendedLines, check_plain};
pub(crate) use lines::{Line, Lines, MOST_LINE_BYTES};
pub(crate) use text::read_text;
pub(crate) use whole_file::{WholeFile, write_whole};
