//! Where tensors live: `--device auto|cpu|cuda[:N]|metal` → a Candle device.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Remedy, Result, setting};

/// A device as the user names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The best that this build and machine have: CUDA, Metal, CPU.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// An NVIDIA GPU by ordinal.
    Cuda(usize),
    /// Apple's GPU.
    Metal,
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            None => match text {
                "auto" => return Ok(Self::Auto),
                "cpu" => return Ok(Self::Cpu),
                "cuda" => return Ok(Self::Cuda(0)),
                "metal" => return Ok(Self::Metal),
                _ => {}
            },
            Some(("cuda", ordinal)) => {
                if let Ok(ordinal) = ordinal.parse() {
                    return Ok(Self::Cuda(ordinal));
                }
            }
            Some(_) => {}
        }
        Err(Error::usage(format!("unknown device `{text}`"), "use auto, cpu, cuda, cuda:N or metal"))
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
            Self::Metal => f.write_str("metal"),
        }
    }
}

impl DeviceChoice {
    /// Opens the device.
    ///
    /// # Errors
    /// When this build lacks the feature, naming it, or the device does not answer.
    pub fn open(self) -> Result<candle_core::Device> {
        use candle_core::{Device, utils};
        match self {
            Self::Auto if utils::cuda_is_available() => open_cuda(0),
            Self::Auto if utils::metal_is_available() => open_metal(),
            Self::Auto | Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(_) if !utils::cuda_is_available() => Err(missing_feature("cuda")),
            Self::Cuda(ordinal) => open_cuda(ordinal),
            Self::Metal if !utils::metal_is_available() => Err(missing_feature("metal")),
            Self::Metal => open_metal(),
        }
    }
}

fn missing_feature(feature: &str) -> Error {
    Error::usage(
        format!("this build has no {feature} support"),
        Remedy::from("build with ").set(setting::FEATURE, feature).and(", or use ").set(setting::DEVICE, "cpu"),
    )
}

fn open_cuda(ordinal: usize) -> Result<candle_core::Device> {
    candle_core::Device::new_cuda_with_stream(ordinal).map_err(|cause| {
        Error::unavailable(
            format!("cannot open cuda:{ordinal}: {cause}"),
            Remedy::from("check the driver with nvidia-smi, or use ").set(setting::DEVICE, "cpu"),
        )
    })
}

fn open_metal() -> Result<candle_core::Device> {
    candle_core::Device::new_metal(0).map_err(|cause| {
        Error::unavailable(format!("cannot open metal: {cause}"), Remedy::from("use ").set(setting::DEVICE, "cpu"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_bad_ones_are_refused() {
        for name in ["auto", "cpu", "cuda:3", "metal"] {
            assert_eq!(name.parse::<DeviceChoice>().expect(name).to_string(), name);
        }
        assert_eq!("cuda".parse::<DeviceChoice>().expect("cuda"), DeviceChoice::Cuda(0));
        for name in ["gpu", "cuda:x", "cpu:0", ""] {
            assert!(name.parse::<DeviceChoice>().is_err(), "{name}");
        }
    }

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn a_build_without_cuda_names_the_feature() {
        let error = DeviceChoice::Cuda(0).open().expect_err("no cuda here").to_string();
        assert!(error.contains("build with `feature` cuda"), "{error}");
    }
}
