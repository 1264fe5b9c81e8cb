//! Kernels of the CPU decoder: plain slices and pointers, no tensors.
//!
//! Every kernel is written once over [`lanes::Lanes`] and compiled for each instruction set; [`Isa`]
//! says which of them runs. What a kernel computes for a row is a function of that row alone, in an
//! order fixed by the shapes: neither the number of rows, nor the tile a row falls into, nor the
//! instruction set changes a bit (the tests here hold AVX2 and AVX-512 to the portable twin).
//!
//! | file | holds |
//! |---|---|
//! | [`lanes`], `avx2`, `avx512` | sixteen lanes, by instruction set |
//! | [`blocks`] | GGUF's quantised blocks, read one at a time |
//! | [`packed`] | weight matrices re-ordered for the product |
//! | [`activations`] | rows quantised to 8 bits a block of 32 |
//! | [`product`] | packed matrix × rows |
//! | [`pointwise`] | norms, rotary embedding, activations, soft caps, exp |
//! | [`attention`] | rows over blocks of keys and values |
//! | [`recurrence`] | convolutions and states of recurrent layers |
//! | [`distribution`] | logits under a mask, as weights, for sampling |
//! | [`team`] | the threads that share a pass |
//! | [`ceiling`] | what the processor can do at most, for benches |

#![expect(clippy::inline_always, reason = "kernels are compiled where their instruction set is enabled")]
#![expect(clippy::needless_range_loop, reason = "the rows of a tile index several arrays at once")]

pub(crate) mod activations;
pub(crate) mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub(crate) mod blocks;
pub mod ceiling;
pub(crate) mod distribution;
pub(crate) mod lanes;
pub mod packed;
pub(crate) mod pointwise;
pub(crate) mod product;
pub(crate) mod recurrence;
pub mod team;
#[cfg(test)]
mod tests;

/// The instruction set that kernels run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// Plain Rust.
    Portable,
    /// AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 with VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// All that this processor has, the plainest first.
    pub fn available() -> Vec<Self> {
        #[cfg_attr(not(target_arch = "x86_64"), expect(unused_mut, reason = "only x86-64 adds to it"))]
        let mut found = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let avx2 = has!("avx2") && has!("fma") && has!("f16c");
            if avx2 {
                found.push(Self::Avx2);
            }
            if avx2 && has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") && has!("avx512vnni")
            {
                found.push(Self::Avx512);
            }
        }
        found
    }

    /// The best that this processor has.
    pub fn detect() -> Self {
        *Self::available().last().expect("the portable one is always there")
    }
}

/// Compiles a kernel for each instruction set and calls the one that `$isa` names.
///
/// The kernel's first generic parameter is the [`lanes::Lanes`]; it must be `#[inline(always)]`, so
/// that its body is compiled where the instruction set is enabled. The call is unsafe: the kernel's own
/// conditions hold, and the instruction set was found by [`Isa::available`].
macro_rules! on_isa {
    ($isa:expr, $kernel:ident($($name:ident: $kind:ty = $value:expr),* $(,)?) $(-> $result:ty)?) => {{
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,f16c")]
        unsafe fn avx2($($name: $kind),*) $(-> $result)? {
            unsafe { $kernel::<$crate::model::kernels::avx2::Avx2>($($name),*) }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
        unsafe fn avx512($($name: $kind),*) $(-> $result)? {
            unsafe { $kernel::<$crate::model::kernels::avx512::Avx512>($($name),*) }
        }
        match $isa {
            $crate::model::kernels::Isa::Portable => {
                $kernel::<$crate::model::kernels::lanes::Portable>($($value),*)
            }
            #[cfg(target_arch = "x86_64")]
            $crate::model::kernels::Isa::Avx2 => avx2($($value),*),
            #[cfg(target_arch = "x86_64")]
            $crate::model::kernels::Isa::Avx512 => avx512($($value),*),
        }
    }};
}
use on_isa;
