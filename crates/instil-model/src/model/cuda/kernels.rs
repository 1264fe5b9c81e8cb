//! Launching the kernels of `kernels.cu` and cuBLAS's products, all on one stream.

use std::ffi::c_void;
use std::sync::Arc;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::cublas::{CudaBlas, result, sys};
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaSlice, CudaStream, DevicePtr, DevicePtrMut, LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts};

use crate::model::architecture::Activation;

type Candle<T> = std::result::Result<T, candle_core::Error>;

const SOURCE: &str = include_str!("kernels.cu");
/// Warps of a block of `attend`.
const WARPS: usize = 4;
/// Memory that a block of threads shares, less what the sums take.
const SHARED_BYTES: usize = 46 << 10;
/// Threads of a block where nothing else decides.
const THREADS: u32 = 256;

/// The kernels of one model.
pub(super) struct Kernels {
    stream: Arc<CudaStream>,
    blas: Arc<CudaBlas>,
    embed: CudaFunction,
    rms_norm: CudaFunction,
    place: CudaFunction,
    attend: CudaFunction,
    add_normed: CudaFunction,
    soft_cap: CudaFunction,
    gate_up: CudaFunction,
}

/// Biases, norms and rotary embedding of queries and keys, and the storing of keys and values.
pub(super) struct Place<'a> {
    pub rows: &'a CudaSlice<u64>,
    pub tables: &'a CudaSlice<u64>,
    /// `(count, (heads + 2 · kv_heads) · head_dim)`
    pub projected: &'a mut CudaSlice<f32>,
    pub count: usize,
    pub bias: Option<&'a CudaSlice<f32>>,
    /// Weights of query heads' and key heads' norms, and their epsilon.
    pub norms: Option<(&'a CudaSlice<f32>, &'a CudaSlice<f32>, f32)>,
    /// Cosines and sines of positions, and how many values of a head they turn; `None` leaves heads unturned.
    pub angles: Option<(&'a CudaSlice<f32>, &'a CudaSlice<f32>, usize)>,
    /// Query heads, key heads.
    pub heads: (usize, usize),
    /// Where the layer begins in a block, in halves.
    pub layer_offset: usize,
}

/// Attention of the queries that [`Place`] left in `projected`.
pub(super) struct Attend<'a> {
    pub rows: &'a CudaSlice<u64>,
    pub tables: &'a CudaSlice<u64>,
    pub projected: &'a CudaSlice<f32>,
    /// `(count, heads · head_dim)` in f16.
    pub out: &'a mut CudaSlice<u16>,
    pub count: usize,
    pub heads: (usize, usize),
    pub layer_offset: usize,
    /// Positions that a row sees; `None` for all.
    pub window: Option<usize>,
    /// Soft cap of the scores.
    pub cap: Option<f32>,
}

impl Kernels {
    /// Whether heads of this width, so many to a key head, can be computed.
    pub(crate) fn fit(head_dim: usize, group: usize) -> bool {
        head_dim.is_multiple_of(8) && (WARPS + 1) * group * head_dim * size_of::<f32>() <= SHARED_BYTES
    }

    /// Compiles the kernels for a model.
    pub fn compile(device: &candle_core::CudaDevice, head_dim: usize, group: usize) -> Candle<Self> {
        let stream = device.cuda_stream();
        let (major, minor) = stream.context().compute_capability().w()?;
        let options = CompileOptions {
            options: vec![format!("--gpu-architecture=compute_{major}{minor}"), "--std=c++17".into()],
            ..CompileOptions::default()
        };
        let source = format!("#define HEAD_DIM {head_dim}\n#define GROUP {group}\n{SOURCE}");
        let ptx = compile_ptx_with_opts(source, options).map_err(candle_core::Error::wrap)?;
        let module = stream.context().load_module(ptx).w()?;
        let function = |name: &str| module.load_function(name).w();
        Ok(Self {
            embed: function("embed")?,
            rms_norm: function("rms_norm")?,
            place: function("place")?,
            attend: function("attend")?,
            add_normed: function("add_normed")?,
            soft_cap: function("soft_cap")?,
            gate_up: function("gate_up")?,
            blas: device.cublas_handle(),
            stream,
        })
    }

    /// `to (count, width) = table[token] · scale`.
    pub fn embed(
        &self,
        rows: &CudaSlice<u64>,
        table: &CudaSlice<u16>,
        to: &mut CudaSlice<f32>,
        count: usize,
        width: usize,
        scale: f32,
    ) -> Candle<()> {
        let width = width as i32;
        let mut launch = self.stream.launch_builder(&self.embed);
        launch.arg(rows).arg(table).arg(to).arg(&width).arg(&scale);
        // SAFETY: the buffers hold `count` rows, and tokens are below the vocabulary's size.
        unsafe { launch.launch(blocks((count, 1), THREADS)) }.w()?;
        Ok(())
    }

    /// `to (count, width)`: the norm of the first `count` rows, or of those in `wanted`.
    pub(crate) fn rms_norm(
        &self,
        from: &CudaSlice<f32>,
        (weight, epsilon): (&CudaSlice<f32>, f32),
        to: &mut CudaSlice<u16>,
        count: usize,
        width: usize,
        wanted: Option<&CudaSlice<u32>>,
    ) -> Candle<()> {
        let (width, listed, none) = (width as i32, i32::from(wanted.is_some()), 0u64);
        let mut launch = self.stream.launch_builder(&self.rms_norm);
        launch.arg(from).arg(weight).arg(to).arg(&width).arg(&epsilon);
        match wanted {
            Some(list) => launch.arg(list),
            None => launch.arg(&none),
        };
        launch.arg(&listed);
        // SAFETY: both buffers hold the rows; a list is as long as `count` and names rows that are there.
        unsafe { launch.launch(blocks((count, 1), THREADS)) }.w()?;
        Ok(())
    }

    pub(crate) fn place(&self, place: &mut Place) -> Candle<()> {
        let (heads, kv_heads, none) = (place.heads.0 as i32, place.heads.1 as i32, 0u64);
        let (biased, normed) = (i32::from(place.bias.is_some()), i32::from(place.norms.is_some()));
        let turned = place.angles.map_or(0, |angles| angles.2 as i32);
        let epsilon = place.norms.map_or(0.0, |norms| norms.2);
        let layer_offset = place.layer_offset as u64;
        let mut launch = self.stream.launch_builder(&self.place);
        launch.arg(place.rows).arg(place.tables).arg(&mut *place.projected);
        match place.bias {
            Some(bias) => launch.arg(bias),
            None => launch.arg(&none),
        };
        launch.arg(&biased);
        match place.norms {
            Some((query, key, _)) => launch.arg(query).arg(key),
            None => launch.arg(&none).arg(&none),
        };
        launch.arg(&normed).arg(&epsilon);
        match place.angles {
            Some((cosines, sines, _)) => launch.arg(cosines).arg(sines),
            None => launch.arg(&none).arg(&none),
        };
        launch.arg(&turned).arg(&heads).arg(&kv_heads).arg(&layer_offset);
        // SAFETY: each head of each row is one block's; blocks of keys and values exist for every position of the
        // pass, and no two rows have a position of a sequence in common.
        unsafe { launch.launch(blocks((place.count, place.heads.0 + 2 * place.heads.1), 32)) }.w()?;
        Ok(())
    }

    pub(crate) fn attend(&self, attend: &mut Attend) -> Candle<()> {
        let (heads, kv_heads) = (attend.heads.0 as i32, attend.heads.1 as i32);
        let layer_offset = attend.layer_offset as u64;
        let mut launch = self.stream.launch_builder(&self.attend);
        launch.arg(attend.rows).arg(attend.tables).arg(attend.projected).arg(&mut *attend.out);
        let window = attend.window.and_then(|window| i32::try_from(window).ok()).unwrap_or(i32::MAX);
        let cap = attend.cap.unwrap_or(0.0);
        launch.arg(&heads).arg(&kv_heads).arg(&layer_offset).arg(&window).arg(&cap);
        // SAFETY: blocks exist for every position up to each row's own, and were written by launches before this one.
        unsafe { launch.launch(blocks((attend.count, attend.heads.1), 32 * WARPS as u32)) }.w()?;
        Ok(())
    }

    /// `hidden (count, width) += scale · norm(branch)`.
    pub(crate) fn add_normed(
        &self,
        branch: &CudaSlice<f32>,
        (weight, epsilon): (&CudaSlice<f32>, f32),
        hidden: &mut CudaSlice<f32>,
        count: usize,
        width: usize,
        scale: f32,
    ) -> Candle<()> {
        let width = width as i32;
        let mut launch = self.stream.launch_builder(&self.add_normed);
        launch.arg(branch).arg(weight).arg(hidden).arg(&width).arg(&epsilon).arg(&scale);
        // SAFETY: both buffers hold `count` rows.
        unsafe { launch.launch(blocks((count, 1), THREADS)) }.w()?;
        Ok(())
    }

    /// `x = cap · tanh(x / cap)` for the first `count` values.
    pub(crate) fn soft_cap(&self, x: &mut CudaSlice<f32>, count: usize, cap: f32) -> Candle<()> {
        let all = count as u64;
        let mut launch = self.stream.launch_builder(&self.soft_cap);
        launch.arg(x).arg(&all).arg(&cap);
        // SAFETY: the kernel stops at `count`.
        unsafe { launch.launch(blocks((count.div_ceil(THREADS as usize), 1), THREADS)) }.w()?;
        Ok(())
    }

    /// `to (count, width) = f(both[.., ..width]) · both[.., width..]`.
    pub(crate) fn gate_up(
        &self,
        activation: Activation,
        both: &CudaSlice<f32>,
        to: &mut CudaSlice<u16>,
        count: usize,
        width: usize,
    ) -> Candle<()> {
        let (columns, gelu) = (width as i32, i32::from(activation == Activation::GeluTanh));
        let mut launch = self.stream.launch_builder(&self.gate_up);
        launch.arg(both).arg(to).arg(&columns).arg(&gelu);
        // SAFETY: the buffers hold `count` rows.
        unsafe { launch.launch(blocks((count, width.div_ceil(THREADS as usize).min(64)), THREADS)) }.w()?;
        Ok(())
    }

    /// `to (count, outputs) = scale · from (count, inputs) · weight (outputs, inputs)ᵀ + keep · to`.
    pub(crate) fn product(
        &self,
        weight: &CudaSlice<u16>,
        (outputs, inputs): (usize, usize),
        from: &CudaSlice<u16>,
        to: &mut CudaSlice<f32>,
        count: usize,
        (scale, keep): (f32, f32),
    ) -> Candle<()> {
        let (outputs, inputs, count) = (outputs as i32, inputs as i32, count as i32);
        let (weight, _weight) = weight.device_ptr(&self.stream);
        let (from, _from) = from.device_ptr(&self.stream);
        let (to, _to) = to.device_ptr_mut(&self.stream);
        // SAFETY: the buffers hold matrices of these sizes; cuBLAS counts columns first, so rows of ours are its columns.
        unsafe {
            result::gemm_ex(
                *self.blas.handle(),
                sys::cublasOperation_t::CUBLAS_OP_T,
                sys::cublasOperation_t::CUBLAS_OP_N,
                outputs,
                count,
                inputs,
                (&raw const scale).cast::<c_void>(),
                weight as *const c_void,
                sys::cudaDataType::CUDA_R_16F,
                inputs,
                from as *const c_void,
                sys::cudaDataType::CUDA_R_16F,
                inputs,
                (&raw const keep).cast::<c_void>(),
                to as *mut c_void,
                sys::cudaDataType::CUDA_R_32F,
                outputs,
                sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        }
        .w()
    }
}

/// A grid of blocks of so many threads.
fn blocks((x, y): (usize, usize), threads: u32) -> LaunchConfig {
    LaunchConfig { grid_dim: (x as u32, y as u32, 1), block_dim: (threads, 1, 1), shared_mem_bytes: 0 }
}
