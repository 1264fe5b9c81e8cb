//! Tensors of one weight file, held to the shapes that its metadata promise; errors name them.

use candle_core::quantized::GgmlDType;
use candle_core::quantized::ggml_file::qtensor_from_ggml;
use candle_core::{DType, Device, Tensor};

use super::checkpoint::Checkpoint;
use super::kernels::blocks::{Form, dequantise};
use super::kernels::packed::Stored;
use super::layout::{Order, Slice};
use crate::error::{Error, Result};
use crate::gguf::GgmlType;

/// A file of weights and the model's name, for errors.
#[derive(Clone, Copy)]
pub(super) struct Weights<'a> {
    pub name: &'a str,
    pub file: &'a dyn Checkpoint,
}

impl<'a> Weights<'a> {
    /// Holds the tensor of a slice to its shape.
    fn check(&self, slice: &Slice) -> Result<()> {
        let tensor = &slice.tensor;
        match self.file.shape(tensor) {
            None => Err(Error::model(
                self.name,
                format!("tensor `{tensor}` is missing"),
                "the file is incomplete: fetch it again",
            )),
            Some(found) if significant(&found) != significant(&slice.shape) => Err(Error::model(
                self.name,
                format!("tensor `{tensor}` has shape {found:?}, the metadata promise {:?}", slice.shape),
                "the file is damaged or of another kind",
            )),
            Some(_) => Ok(()),
        }
    }

    /// The rows of a matrix, as and in which order they are stored.
    pub(super) fn stored(&self, slice: &Slice) -> Result<Stored<'a>> {
        self.check(slice)?;
        self.file.rows(&slice.tensor, slice.rows.clone())
    }

    /// A slice in f32 on the CPU, in the decoder's order: `(rows, inputs)`, or `(rows)` of a vector.
    pub(super) fn tensor(&self, slice: &Slice) -> Result<Tensor> {
        let is_matrix = slice.columns.is_some();
        self.check(slice)?;
        let stored = if is_matrix { self.stored(slice)? } else { self.file.stored(&slice.tensor)? };
        let dims = if is_matrix { vec![stored.outputs, stored.inputs] } else { slice.shape.clone() };
        if candle_type(stored.kind).is_none() && Form::of(stored.kind).is_some() {
            let mut values = vec![0.0; stored.outputs * stored.inputs];
            dequantise(stored.kind, &stored.bytes, &mut values);
            return ordered(slice, Tensor::from_vec(values, dims, &Device::Cpu).map_err(device_error)?);
        }
        let dtype = candle_type(stored.kind).ok_or_else(|| unread(self, slice, stored.kind))?;
        let read = || {
            let quantised = qtensor_from_ggml(dtype, &stored.bytes, dims, &Device::Cpu)?;
            quantised.dequantize(&Device::Cpu)?.to_dtype(DType::F32)
        };
        ordered(slice, read().map_err(device_error)?)
    }

    /// The values of a vector, in the decoder's order.
    pub(super) fn vector(&self, slice: &Slice) -> Result<Vec<f32>> {
        self.tensor(slice)?.to_vec1().map_err(device_error)
    }
}

/// Extents but for outermost ones of 1, which writers give or leave out.
fn significant(shape: &[usize]) -> &[usize] {
    let ones = shape.iter().take(shape.len().saturating_sub(1)).take_while(|&&extent| extent == 1).count();
    &shape[ones..]
}

/// The values of a slice in the decoder's order.
fn ordered(slice: &Slice, mut tensor: Tensor) -> Result<Tensor> {
    let read = || {
        if slice.columns.is_none() {
            tensor = tensor.flatten_all()?.narrow(0, slice.rows.start, slice.rows.len())?;
        }
        if slice.order == Order::Plain {
            return Ok(tensor);
        }
        let order: Vec<u32> = (0..slice.rows.len()).map(|output| slice.order.row(output) as u32).collect();
        tensor.index_select(&Tensor::new(order, &Device::Cpu)?, 0)
    };
    read().map_err(device_error)
}

/// A type of weights that nothing is computed with.
pub(super) fn unread(weights: &Weights, slice: &Slice, kind: GgmlType) -> Error {
    Error::model(
        weights.name,
        format!("tensor `{}` has type {kind:?}, which cannot be read", slice.tensor),
        "use a file quantised to F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, a K-quant, IQ4 or MXFP4",
    )
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
