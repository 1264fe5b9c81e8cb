//! Logits of a pass, where the model left them: in the processor's memory, or on a device until somebody looks.

use std::any::Any;
use std::fmt::Debug;
use std::sync::OnceLock;

use crate::error::Result;

/// Logits that lie on a device. The model that made them knows them by their type.
pub trait OnDevice: Any + Debug + Send + Sync {
    /// Copies them to the processor's memory, row-major.
    ///
    /// # Errors
    /// When the device fails.
    fn fetch(&self) -> Result<Vec<f32>>;
}

/// Logits of a pass: `(tokens after which they were asked for, vocabulary)`, row-major. Rows are in the order of the
/// segments that asked, and of the tokens in each.
#[derive(Debug)]
pub struct Logits {
    device: Option<Box<dyn OnDevice>>,
    host: OnceLock<Vec<f32>>,
    width: usize,
}

impl Logits {
    /// `rows × width` values in the processor's memory.
    pub fn on_host(values: Vec<f32>, width: usize) -> Self {
        Self { device: None, host: values.into(), width }
    }

    /// Logits that stay on a device for as long as nobody asks for their values.
    pub fn on_device(logits: Box<dyn OnDevice>, width: usize) -> Self {
        Self { device: Some(logits), host: OnceLock::new(), width }
    }

    /// What lies on a device, for the model that put it there.
    pub fn device(&self) -> Option<&dyn Any> {
        self.device.as_deref().map(|logits| logits as &dyn Any)
    }

    /// Length of a row: the model's [`super::ModelInfo::vocab_size`].
    pub fn width(&self) -> usize {
        self.width
    }

    /// All values, fetched from the device at the first call.
    ///
    /// # Errors
    /// When the device fails.
    pub fn values(&self) -> Result<&[f32]> {
        if self.host.get().is_none()
            && let Some(device) = &self.device
        {
            let values = device.fetch()?;
            // Whoever was faster fetched the same.
            let _ = self.host.set(values);
        }
        Ok(self.host.get().map_or(&[], Vec::as_slice))
    }

    /// Row `index`, fetched like [`Logits::values`].
    ///
    /// # Errors
    /// When the device fails.
    pub fn row(&self, index: usize) -> Result<&[f32]> {
        Ok(&self.values()?[index * self.width..(index + 1) * self.width])
    }

    /// The memory of values that are on the processor.
    #[cfg(feature = "cuda")]
    pub(crate) fn into_host(self) -> Option<Vec<f32>> {
        self.host.into_inner()
    }
}
