//! Writes small GGUF files in memory.

use instil_model::gguf::{Array, GgmlType, Metadata, Value};

/// A tensor to write.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// The name.
    pub name: String,
    /// Extents, the fastest-varying first.
    pub dims: Vec<u64>,
    /// The element type.
    pub kind: GgmlType,
    /// The stored bytes.
    pub bytes: Vec<u8>,
}

/// A version 3 file with these values and tensors.
///
/// # Panics
/// When a tensor's bytes do not fit its shape and type.
pub fn to_bytes(metadata: &Metadata, tensors: &[Tensor]) -> Vec<u8> {
    let alignment = metadata.opt_u32("general.alignment").ok().flatten().unwrap_or(32) as usize;
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((metadata.iter().count() as u64).to_le_bytes());
    for (key, value) in metadata.iter() {
        put_text(&mut out, key);
        put_value(&mut out, value);
    }
    let mut offset = 0;
    for tensor in tensors {
        let size = tensor.dims.iter().product::<u64>() / tensor.kind.block_elements() * tensor.kind.block_bytes();
        assert_eq!(size, tensor.bytes.len() as u64, "tensor {} has the wrong number of bytes", tensor.name);
        put_text(&mut out, &tensor.name);
        out.extend(u32::try_from(tensor.dims.len()).expect("few dimensions").to_le_bytes());
        for dim in &tensor.dims {
            out.extend(dim.to_le_bytes());
        }
        out.extend(tensor.kind.id().to_le_bytes());
        out.extend((offset as u64).to_le_bytes());
        offset += tensor.bytes.len().next_multiple_of(alignment);
    }
    for tensor in tensors {
        out.resize(out.len().next_multiple_of(alignment), 0);
        out.extend(&tensor.bytes);
    }
    out
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// The smallest usual type that holds the value: 32-bit integers where they fit.
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
            if f64::from(small).to_bits() == number.to_bits() {
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
            head(10, items.len());
            for item in items {
                out.extend(item.to_le_bytes());
            }
        }
        Array::Signed(items) => {
            let small: Option<Vec<i32>> = items.iter().map(|&item| item.try_into().ok()).collect();
            head(if small.is_some() { 5 } else { 11 }, items.len());
            match small {
                Some(small) => {
                    for item in small {
                        out.extend(item.to_le_bytes());
                    }
                }
                None => {
                    for item in items {
                        out.extend(item.to_le_bytes());
                    }
                }
            }
        }
        Array::Float(items) => {
            head(6, items.len());
            for item in items {
                out.extend(item.to_le_bytes());
            }
        }
        Array::Double(items) => {
            head(12, items.len());
            for item in items {
                out.extend(item.to_le_bytes());
            }
        }
        Array::Bool(items) => {
            head(7, items.len());
            out.extend(items.iter().map(|&item| u8::from(item)));
        }
        Array::String(items) => {
            head(8, items.len());
            for item in items {
                put_text(out, item);
            }
        }
        Array::Nested(items) => {
            head(9, items.len());
            for item in items {
                put_array(out, item);
            }
        }
    }
}
