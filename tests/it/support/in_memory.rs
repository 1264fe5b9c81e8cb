//! Weights that lie in memory in no form of file: what reads a checkpoint must need nothing else.

use std::collections::BTreeMap;

use instil_model::gguf::{GgmlType, Gguf, Metadata};
use instil_model::model::Checkpoint;
use instil_model::model::kernels::packed::Stored;
use instil_model::{Error, Result};

/// Metadata, and by its name the type, the shape (outermost first) and the bytes of each tensor.
pub struct InMemory {
    pub metadata: Metadata,
    pub tensors: BTreeMap<String, (GgmlType, Vec<usize>, Vec<u8>)>,
}

impl InMemory {
    /// What a GGUF file holds.
    pub fn copy_of(file: &Gguf) -> Self {
        let copy = |name: &str| {
            let stored = file.stored(name).expect("a tensor");
            (stored.kind, file.shape(name).expect("a tensor"), stored.bytes.to_vec())
        };
        let tensors = Checkpoint::tensors(file).into_iter().map(|name| (name.to_owned(), copy(name))).collect();
        Self { metadata: file.metadata().clone(), tensors }
    }
}

impl Checkpoint for InMemory {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn tensors(&self) -> Vec<&str> {
        self.tensors.keys().map(String::as_str).collect()
    }

    fn shape(&self, tensor: &str) -> Option<Vec<usize>> {
        Some(self.tensors.get(tensor)?.1.clone())
    }

    fn stored(&self, tensor: &str) -> Result<Stored<'_>> {
        let Some((kind, shape, bytes)) = self.tensors.get(tensor) else {
            return Err(Error::usage(format!("there is no tensor {tensor}"), ""));
        };
        let (inputs, outer) = shape.split_last().expect("an extent");
        Ok(Stored { kind: *kind, bytes: bytes.into(), outputs: outer.iter().product(), inputs: *inputs })
    }
}
