//! Writes small GGUF files in memory.

use instil_model::gguf::{ALIGNMENT, Entry, GgmlType, Metadata, Value, head};

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
    let entry = |tensor: &Tensor| Entry {
        name: tensor.name.clone(),
        shape: tensor.dims.iter().rev().map(|&extent| extent as usize).collect(),
        kind: tensor.kind,
    };
    let entries: Vec<Entry> = tensors.iter().map(entry).collect();
    let metadata: Vec<(String, Value)> = metadata.iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
    let mut out = head(&metadata, &entries);
    for (tensor, entry) in tensors.iter().zip(&entries) {
        assert_eq!(entry.size_bytes(), tensor.bytes.len(), "tensor {} has the wrong number of bytes", tensor.name);
        out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
        out.extend(&tensor.bytes);
    }
    out
}
