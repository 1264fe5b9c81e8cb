//! Tensors of one weight file, held to the shapes that its metadata promise; errors name them.

use candle_core::quantized::GgmlDType;
use candle_core::quantized::ggml_file::qtensor_from_ggml;
use candle_core::{DType, Device, Tensor};

use super::kernels::packed::Stored;
use crate::error::{Error, Result};
use crate::gguf::{GgmlType, Gguf, TensorInfo};

/// A weight file and the model's name, for errors.
#[derive(Clone, Copy)]
pub(super) struct Weights<'a> {
    pub name: &'a str,
    pub file: &'a Gguf,
}

impl<'a> Weights<'a> {
    pub fn missing(&self, tensor: &str) -> Error {
        Error::model(self.name, format!("tensor `{tensor}` is missing"), "the file is incomplete: fetch it again")
    }

    /// The directory entry of a tensor of the shape `dims` (outermost first), if it is there.
    fn find(&self, name: &str, dims: &[usize]) -> Result<Option<&'a TensorInfo>> {
        if !self.file.has_tensor(name) {
            return Ok(None);
        }
        let info = self.file.tensor(name)?;
        let found: Vec<usize> = info.dims.iter().rev().map(|&d| d as usize).collect();
        if found != dims {
            return Err(Error::model(
                self.name,
                format!("tensor `{name}` has shape {found:?}, the metadata promise {dims:?}"),
                "the file is damaged or of another kind",
            ));
        }
        Ok(Some(info))
    }

    /// A matrix `(outputs, inputs)` as it is stored.
    pub fn stored(&self, name: &str, outputs: usize, inputs: usize) -> Result<Option<Stored<'a>>> {
        let Some(info) = self.find(name, &[outputs, inputs])? else { return Ok(None) };
        Ok(Some(Stored { kind: info.ggml_type()?, bytes: self.file.bytes(info)?, outputs, inputs }))
    }

    /// A tensor in f32 on the CPU.
    pub fn tensor(&self, name: &str, dims: &[usize]) -> Result<Option<Tensor>> {
        let Some(info) = self.find(name, dims)? else { return Ok(None) };
        let kind = info.ggml_type()?;
        let dtype = candle_type(kind).ok_or_else(|| {
            Error::model(
                self.name,
                format!("tensor `{name}` has type {kind:?}, which cannot be read"),
                "use a file quantised to F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 or a K-quant",
            )
        })?;
        let data = self.file.bytes(info)?;
        let tensor = qtensor_from_ggml(dtype, data, dims.to_vec(), &Device::Cpu)
            .and_then(|quantised| quantised.dequantize(&Device::Cpu)?.to_dtype(DType::F32))
            .map_err(device_error)?;
        Ok(Some(tensor))
    }

    /// A vector of floats, if it is there.
    pub fn optional_vector(&self, name: &str, length: usize) -> Result<Option<Vec<f32>>> {
        let Some(tensor) = self.tensor(name, &[length])? else { return Ok(None) };
        tensor.to_vec1().map(Some).map_err(device_error)
    }

    /// A vector of floats.
    pub fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>> {
        self.optional_vector(name, length)?.ok_or_else(|| self.missing(name))
    }
}

fn candle_type(kind: GgmlType) -> Option<GgmlDType> {
    Some(match kind {
        GgmlType::F32 => GgmlDType::F32,
        GgmlType::F16 => GgmlDType::F16,
        GgmlType::BF16 => GgmlDType::BF16,
        GgmlType::Q4_0 => GgmlDType::Q4_0,
        GgmlType::Q4_1 => GgmlDType::Q4_1,
        GgmlType::Q5_0 => GgmlDType::Q5_0,
        GgmlType::Q5_1 => GgmlDType::Q5_1,
        GgmlType::Q8_0 => GgmlDType::Q8_0,
        GgmlType::Q2_K => GgmlDType::Q2K,
        GgmlType::Q3_K => GgmlDType::Q3K,
        GgmlType::Q4_K => GgmlDType::Q4K,
        GgmlType::Q5_K => GgmlDType::Q5K,
        GgmlType::Q6_K => GgmlDType::Q6K,
        _ => return None,
    })
}

pub(super) fn device_error(cause: candle_core::Error) -> Error {
    Error::Device { what: "computing on the device", source: Box::new(cause) }
}
