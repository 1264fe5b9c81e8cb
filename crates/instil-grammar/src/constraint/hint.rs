//! The bytes that a frame may take, where they are few: walks over a trie then look at no others.

use super::Whitespace;
use super::escape::PLAIN;
use super::frame::{Kind, Thread};
use super::rules::First;
use super::step::Machine;
use crate::grammar::DEAD;

/// Bytes that may come next.
pub(crate) type Bytes = [u64; 4];

impl Machine {
    /// Adds the bytes that a thread may take; false when they are many.
    pub(crate) fn hint(&mut self, thread: Thread, bytes: &mut Bytes) -> bool {
        let frame = thread.frame;
        let style = self.whitespace;
        let mut add = |byte: u8| bytes[byte as usize / 64] |= 1 << (byte % 64);
        match style {
            Whitespace::Compact => {}
            Whitespace::Spaced => add(b' '),
            Whitespace::Pretty => b" \n".iter().for_each(|&byte| add(byte)),
            Whitespace::Flexible => b" \n\t\r".iter().for_each(|&byte| add(byte)),
        }
        match frame.kind {
            Kind::Done | Kind::ObjectKey | Kind::Guard | Kind::Union => {}
            Kind::Value => {
                let list = self.rules.alternatives(frame.a, &mut self.expansion);
                for (first, starts) in [
                    (First::Null, &b"n"[..]),
                    (First::False, b"f"),
                    (First::True, b"t"),
                    (First::Number, b"-0123456789"),
                    (First::String, b"\""),
                    (First::Array, b"["),
                    (First::Object, b"{"),
                ] {
                    if !self.rules.list(list, first as usize).is_empty() {
                        starts.iter().for_each(|&byte| add(byte));
                    }
                }
            }
            Kind::Literal => b"nulfasetr".iter().for_each(|&byte| add(byte)),
            Kind::Number => {
                let row = self.expansion.lang_row(frame.a);
                b"+-.0123456789eE".iter().filter(|&&byte| row[byte as usize] != DEAD).for_each(|&byte| add(byte));
                if self.expansion.lang_accepts(frame.a) {
                    b",]}".iter().for_each(|&byte| add(byte));
                }
            }
            Kind::String | Kind::OtherKey | Kind::Text => {
                if frame.d != PLAIN {
                    b"\"\\/bfnrtu0123456789abcdefABCDEF".iter().for_each(|&byte| add(byte));
                    return true;
                }
                let row = self.expansion.lang_row(frame.b);
                let mut few = 0;
                for (byte, &next) in (0u8..=255).zip(row) {
                    if next != DEAD {
                        few += 1;
                        add(byte);
                    }
                }
                if few > 48 {
                    return false;
                }
                add(b'"');
                add(b'\\');
            }
            Kind::ObjectOpen | Kind::ObjectComma => b"}\"".iter().for_each(|&byte| add(byte)),
            Kind::AnyKey => return false,
            Kind::MemberKey => {
                if frame.d != PLAIN {
                    return false;
                }
                add(b'"');
                add(b'\\');
                let names = &self.rules.object_of(frame.a).names;
                let range = &names[frame.b as usize..frame.c as usize];
                if range.len() > 64 {
                    return false;
                }
                range.iter().filter_map(|name| name.get(frame.pos as usize)).for_each(|&byte| add(byte));
            }
            Kind::Colon => add(b':'),
            Kind::ObjectAfter | Kind::ObjectClose => b",}".iter().for_each(|&byte| add(byte)),
            Kind::ArrayAfter | Kind::ArrayClose => b",]".iter().for_each(|&byte| add(byte)),
            Kind::ArrayOpen => {
                add(b']');
                b"nft-0123456789\"[{".iter().for_each(|&byte| add(byte));
            }
            Kind::ArrayComma => b"nft-0123456789\"[{".iter().for_each(|&byte| add(byte)),
        }
        true
    }
}
