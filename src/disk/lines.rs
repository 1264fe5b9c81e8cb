//! The lines of a file, read in bounded memory, with their numbers.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Most bytes of a line; of a longer one no more is kept than shows that it is longer.
pub(crate) const MOST_LINE_BYTES: usize = 64 << 20;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A line that holds something, without its end.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// Its bytes; one that is longer than [`MOST_LINE_BYTES`] is cut behind them.
    pub bytes: Vec<u8>,
    /// Its number, from 1.
    pub number: u64,
    /// Where it begins in the file.
    pub offset: u64,
}

/// The lines of a file that hold something.
#[derive(Debug)]
pub(crate) struct Lines<R = File> {
    path: PathBuf,
    reader: BufReader<R>,
    size: u64,
    /// Bytes read so far.
    read: u64,
    /// Where the line that was read last begins.
    begin: u64,
    number: u64,
}

impl Lines {
    /// Opens a file.
    ///
    /// # Errors
    /// When it cannot be read, or is a directory.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|cause| Error::io("read", path, cause))?;
        let data = file.metadata().map_err(|cause| Error::io("read", path, cause))?;
        if data.is_dir() {
            let cause = std::io::Error::from(std::io::ErrorKind::IsADirectory);
            return Err(Error::io("read", path, cause));
        }
        Ok(Self::over(path, file, data.len()))
    }

    /// Bytes of the file.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The line that begins at `offset`; what is read next comes after it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn at(&mut self, offset: u64) -> Result<Vec<u8>> {
        let mut line = Vec::new();
        let seek = self.reader.seek(SeekFrom::Start(offset));
        seek.and_then(|_| self.read_line(&mut line)).map_err(|cause| Error::io("read", &self.path, cause))?;
        Ok(line)
    }
}

impl<R: Read> Lines<R> {
    /// The lines of what `reader` gives; `path` names it in errors.
    pub(crate) fn over(path: &Path, reader: R, size: u64) -> Self {
        let reader = BufReader::with_capacity(1 << 18, reader);
        Self { path: path.to_owned(), reader, size, read: 0, begin: 0, number: 0 }
    }

    /// Bytes read so far.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.read
    }

    /// The next line that is not blank into `line`, without a byte order mark and its end; its number.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn next(&mut self, line: &mut Vec<u8>) -> Result<Option<u64>> {
        self.next_line(line).map_err(|cause| Error::io("read", &self.path, cause))
    }

    /// The next line that is not blank, of its own; for readers whose errors are not the disk's alone.
    ///
    /// # Errors
    /// When the reader refuses.
    pub(crate) fn one(&mut self) -> std::io::Result<Option<Line>> {
        let mut bytes = Vec::new();
        let number = self.next_line(&mut bytes)?;
        Ok(number.map(|number| Line { bytes, number, offset: self.begin }))
    }

    fn next_line(&mut self, line: &mut Vec<u8>) -> std::io::Result<Option<u64>> {
        loop {
            let read = self.read_line(line)?;
            if read == 0 {
                return Ok(None);
            }
            self.begin = self.read;
            self.read += read;
            self.number += 1;
            if self.number == 1 && line.starts_with(BYTE_ORDER_MARK) {
                line.drain(..BYTE_ORDER_MARK.len());
                self.begin += BYTE_ORDER_MARK.len() as u64;
            }
            if !line.iter().all(u8::is_ascii_whitespace) {
                return Ok(Some(self.number));
            }
        }
    }

    /// Reads to the end of a line; of one that is too long, no more than shows that it is.
    fn read_line(&mut self, line: &mut Vec<u8>) -> std::io::Result<u64> {
        line.clear();
        let most = MOST_LINE_BYTES as u64 + 2;
        let mut read = self.reader.by_ref().take(most).read_until(b'\n', line)? as u64;
        while read >= most && line.last() != Some(&b'\n') {
            let rest = self.reader.fill_buf()?;
            let end = rest.iter().position(|byte| *byte == b'\n');
            let skipped = end.map_or(rest.len(), |at| at + 1);
            read += skipped as u64;
            self.reader.consume(skipped);
            if end.is_some() || skipped == 0 {
                break;
            }
        }
        while matches!(line.last(), Some(b'\n' | b'\r')) {
            line.pop();
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(content: &[u8]) -> (tempfile::TempDir, Lines) {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("a");
        std::fs::write(&path, content).expect("written");
        let lines = Lines::open(&path).expect("opened");
        (folder, lines)
    }

    #[test]
    fn blank_lines_and_marks_are_left_out_and_places_are_kept() {
        let (_folder, mut lines) = open(b"\xef\xbb\xbfone\r\n\n  \ntwo\n\xffthree");
        for expected in [(&b"one"[..], 1, 3), (b"two", 4, 12), (b"\xffthree", 5, 16)] {
            let line = lines.one().expect("read").expect("a line");
            assert_eq!((line.bytes.as_slice(), line.number, line.offset), expected);
        }
        assert!(lines.one().expect("read").is_none());
        assert_eq!(lines.at(12).expect("read"), b"two");
        assert_eq!(lines.size(), lines.bytes_read());
    }

    #[test]
    fn a_line_too_long_is_cut_and_the_next_one_is_whole() {
        let (_folder, mut lines) = open(&[vec![b'x'; MOST_LINE_BYTES + 10], b"\nnext".to_vec()].concat());
        let long = lines.one().expect("read").expect("a line");
        assert!(long.bytes.len() > MOST_LINE_BYTES && long.bytes.len() <= MOST_LINE_BYTES + 2);
        let next = lines.one().expect("read").expect("a line");
        assert_eq!((next.bytes.as_slice(), next.number), (&b"next"[..], 2));
    }
}
