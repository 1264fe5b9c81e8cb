//! The beginning of a GGUF file: header, metadata and the directory of tensors, whose bytes follow it.
//!
//! Numbers are written in the types that readers expect: 32 bits wherever they fit.

use super::metadata::{Array, Value};
use super::types::GgmlType;

/// Bytes to which tensors are aligned.
pub const ALIGNMENT: usize = 32;

/// One entry of the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name, as in `blk.0.attn_q.weight`.
    pub name: String,
    /// Extents, the slowest-varying first, as matrices are usually written: `(rows, columns)`.
    pub shape: Vec<usize>,
    /// The element type.
    pub kind: GgmlType,
}

impl Entry {
    /// Bytes that it takes.
    pub fn size_bytes(&self) -> usize {
        let elements: usize = self.shape.iter().product();
        elements / self.kind.block_elements() as usize * self.kind.block_bytes() as usize
    }
}

/// All that stands before the bytes of the tensors, which follow in this order, each filled up to [`ALIGNMENT`].
pub fn head(metadata: &[(String, Value)], tensors: &[Entry]) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        put_text(&mut out, key);
        put_value(&mut out, value);
    }
    let mut offset = 0;
    for tensor in tensors {
        put_text(&mut out, &tensor.name);
        out.extend((tensor.shape.len() as u32).to_le_bytes());
        tensor.shape.iter().rev().for_each(|&extent| out.extend((extent as u64).to_le_bytes()));
        out.extend(tensor.kind.id().to_le_bytes());
        out.extend((offset as u64).to_le_bytes());
        offset += tensor.size_bytes().next_multiple_of(ALIGNMENT);
    }
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    out
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    let mut tagged = |tag: u32, bytes: &[u8]| {
        out.extend(tag.to_le_bytes());
        out.extend(bytes);
    };
    match value {
        Value::Unsigned(number) => match u32::try_from(*number) {
            Ok(small) => tagged(4, &small.to_le_bytes()),
            Err(_) => tagged(10, &number.to_le_bytes()),
        },
        Value::Signed(number) => match i32::try_from(*number) {
            Ok(small) => tagged(5, &small.to_le_bytes()),
            Err(_) => tagged(11, &number.to_le_bytes()),
        },
        Value::Float(number) => {
            let small = *number as f32;
            if f64::from(small) == *number || number.is_nan() {
                tagged(6, &small.to_le_bytes());
            } else {
                tagged(12, &number.to_le_bytes());
            }
        }
        Value::Bool(truth) => tagged(7, &[u8::from(*truth)]),
        Value::String(text) => {
            tagged(8, &[]);
            put_text(out, text);
        }
        Value::Array(array) => {
            tagged(9, &[]);
            put_array(out, array);
        }
    }
}

fn put_array(out: &mut Vec<u8>, array: &Array) {
    let mut head = |tag: u32, count: usize| {
        out.extend(tag.to_le_bytes());
        out.extend((count as u64).to_le_bytes());
    };
    match array {
        Array::Bytes(items) => {
            head(0, items.len());
            out.extend(items);
        }
        Array::Unsigned(items) => {
            if items.iter().all(|&item| u32::try_from(item).is_ok()) {
                head(4, items.len());
                items.iter().for_each(|&item| out.extend((item as u32).to_le_bytes()));
            } else {
                head(10, items.len());
                items.iter().for_each(|item| out.extend(item.to_le_bytes()));
            }
        }
        Array::Signed(items) => {
            if items.iter().all(|&item| i32::try_from(item).is_ok()) {
                head(5, items.len());
                items.iter().for_each(|&item| out.extend((item as i32).to_le_bytes()));
            } else {
                head(11, items.len());
                items.iter().for_each(|item| out.extend(item.to_le_bytes()));
            }
        }
        Array::Float(items) => {
            head(6, items.len());
            items.iter().for_each(|item| out.extend(item.to_le_bytes()));
        }
        Array::Double(items) => {
            head(12, items.len());
            items.iter().for_each(|item| out.extend(item.to_le_bytes()));
        }
        Array::Bool(items) => {
            head(7, items.len());
            out.extend(items.iter().map(|&item| u8::from(item)));
        }
        Array::String(items) => {
            head(8, items.len());
            items.iter().for_each(|item| put_text(out, item));
        }
        Array::Nested(items) => {
            head(9, items.len());
            items.iter().for_each(|item| put_array(out, item));
        }
    }
}
