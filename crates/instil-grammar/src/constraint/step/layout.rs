//! White space under the chosen style, and how deep containers nest.

use super::{Bytes, Machine};
use crate::constraint::Whitespace;
use crate::constraint::frame::{StackId, Thread};

/// White space that JSON allows.
const BLANKS: &[u8] = b" \n\t\r";

impl Machine {
    /// A container on this stack is one of those at the greatest depth, which hold only what a completion needs.
    #[inline]
    pub(super) fn is_deep(&self, stack: StackId) -> bool {
        self.stacks.depth(stack) >= self.max_depth
    }

    /// Each element has a line of its own.
    #[inline]
    pub(super) fn is_pretty(&self) -> bool {
        self.whitespace == Whitespace::Pretty
    }

    /// A space follows each colon.
    #[inline]
    pub(super) fn is_spaced(&self) -> bool {
        matches!(self.whitespace, Whitespace::Spaced | Whitespace::Pretty)
    }

    /// Free white space may stand here.
    #[inline]
    pub(super) fn is_blank(&self, byte: u8) -> bool {
        self.whitespace == Whitespace::Flexible && BLANKS.contains(&byte)
    }

    /// White space before an element, or (`extra` 0) before the closing bracket, of the container
    /// whose frame stands on `stack`.
    pub(super) fn indent(&self, stack: StackId, extra: u32) -> u16 {
        match self.whitespace {
            Whitespace::Pretty => u16::try_from(1 + 2 * (self.stacks.depth(stack) + extra)).unwrap_or(u16::MAX),
            _ => 0,
        }
    }

    /// White space between a comma and the next element.
    pub(super) fn comma_width(&self, stack: StackId) -> u16 {
        match self.whitespace {
            Whitespace::Compact | Whitespace::Flexible => 0,
            Whitespace::Spaced => 1,
            Whitespace::Pretty => self.indent(stack, 1),
        }
    }

    /// Reads one byte of fixed white space, of which `read` have been.
    pub(super) fn blank(&self, thread: Thread, read: u16, byte: u8, out: &mut Vec<Thread>) {
        if byte == self.blank_at(read) {
            out.push(thread.at(thread.frame.after_blank()));
        }
    }

    /// Writes what is left of the fixed white space.
    pub(super) fn write_blank(&self, read: u16, width: u16, out: &mut Vec<u8>) {
        out.extend((read..width).map(|at| self.blank_at(at)));
    }

    fn blank_at(&self, at: u16) -> u8 {
        if self.is_pretty() && at == 0 { b'\n' } else { b' ' }
    }

    /// Adds the white space that may come.
    pub(super) fn hint_blank(&self, bytes: &mut Bytes) {
        bytes.add_all(match self.whitespace {
            Whitespace::Compact => b"",
            Whitespace::Spaced => b" ",
            Whitespace::Pretty => b" \n",
            Whitespace::Flexible => BLANKS,
        });
    }
}
