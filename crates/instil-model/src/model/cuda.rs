//! The generic decoder on an NVIDIA GPU: a flat, ragged batch over keys and values in blocks.
//!
//! Weights lie in f16, the residual stream in f32; every product reads f16, adds up in f32 (cuBLAS), and adds its
//! result to the residual stream where one follows. Between products stand the kernels of [`kernels`]. A row
//! attends to its own sequence's blocks alone, so rows of any sequences, prompts and decoding alike, share a pass;
//! but cuBLAS chooses how it adds up by the shape of the batch, so logits are equal to rounding only, as are
//! those of [`super::reference`], which this file is held against.

mod kernels;

use candle_core::Device;
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DeviceRepr};
use half::f16;
use rayon::prelude::*;
use std::cell::Cell;
use std::sync::Arc;

use self::kernels::{Attend, Kernels, Place};
use super::architecture::{Activation, Architecture, NormSpan};
use super::checkpoint::Checkpoint;
use super::kernels::attention::POSITIONS;
use super::kv::{Memory, Store};
use super::layout::{Layout, Map, Role, Section, Slice};
use super::rotary::Rotary;
use super::weights::{Weights, device_error};
use super::{Arithmetic, KeyValueMemory, Logits, Model, ModelInfo, Segment, Sequences};
use crate::error::Result;

type Candle<T> = std::result::Result<T, candle_core::Error>;

/// Sequences at once, where nobody says how many: one reading of the weights serves all of them.
const USUAL_BATCH: usize = 256;
/// Positions by which the table of rotary angles grows.
const ANGLES: usize = 1024;

/// A matrix `(outputs, inputs)` in f16.
struct Matrix {
    weight: CudaSlice<u16>,
    inputs: usize,
    outputs: usize,
}

struct Layer {
    attention_norm: CudaSlice<f32>,
    attention_post_norm: Option<CudaSlice<f32>>,
    /// Rows of queries, keys and values, in this order.
    query_key_value: Matrix,
    bias: Option<CudaSlice<f32>>,
    /// Norms of query heads and of key heads.
    head_norms: Option<(CudaSlice<f32>, CudaSlice<f32>)>,
    attention_output: Matrix,
    feed_forward_norm: CudaSlice<f32>,
    feed_forward_post_norm: Option<CudaSlice<f32>>,
    /// Rows of the gate, then of what it gates.
    gate_up: Matrix,
    down: Matrix,
}

/// Blocks of keys and values on the device.
struct DeviceStore(Arc<CudaStream>);

/// A block and its address.
struct DeviceBlock {
    memory: CudaSlice<u16>,
    address: u64,
}

impl Store for DeviceStore {
    type Block = DeviceBlock;

    fn zeroed(&self, elements: usize) -> Candle<DeviceBlock> {
        let memory = self.0.alloc_zeros::<u16>(elements).w()?;
        let address = memory.device_ptr(&self.0).0;
        Ok(DeviceBlock { memory, address })
    }

    fn copy(&self, from: &DeviceBlock, to: &mut DeviceBlock) -> Candle<()> {
        self.0.memcpy_dtod(&from.memory, &mut to.memory).w()
    }

    fn address(block: &DeviceBlock) -> *mut u16 {
        block.address as *mut u16
    }
}

/// What a pass writes, kept from pass to pass; grown to the most rows so far.
struct Buffers {
    rows: usize,
    /// `(rows, hidden)`: the residual stream.
    hidden: CudaSlice<f32>,
    /// `(rows, hidden)`: what a stage gives, where it is normed before it is added.
    branch: CudaSlice<f32>,
    /// `(rows, hidden)`
    normed: CudaSlice<u16>,
    /// `(rows, (heads + 2 · kv_heads) · head_dim)`
    projected: CudaSlice<f32>,
    /// `(rows, heads · head_dim)`
    attended: CudaSlice<u16>,
    /// `(rows, 2 · feed_forward)`
    gated: CudaSlice<f32>,
    /// `(rows, feed_forward)`
    gate: CudaSlice<u16>,
}

impl Buffers {
    fn new(stream: &Arc<CudaStream>, a: &Architecture, rows: usize) -> Candle<Self> {
        Ok(Self {
            rows,
            hidden: stream.alloc_zeros(rows * a.hidden).w()?,
            branch: stream.alloc_zeros(rows * a.hidden).w()?,
            normed: stream.alloc_zeros(rows * a.hidden).w()?,
            projected: stream.alloc_zeros(rows * (a.heads + 2 * a.kv_heads) * a.head_dim).w()?,
            attended: stream.alloc_zeros(rows * a.heads * a.head_dim).w()?,
            gated: stream.alloc_zeros(rows * 2 * a.feed_forward).w()?,
            gate: stream.alloc_zeros(rows * a.feed_forward).w()?,
        })
    }
}

/// Cosines and sines of positions, `(positions, rotary_dims / 2)` each.
struct Angles {
    cosines: CudaSlice<f32>,
    sines: CudaSlice<f32>,
}

/// A decoder-only transformer with its sequences, on one GPU.
pub struct CudaDecoder {
    info: ModelInfo,
    architecture: Architecture,
    kernels: Kernels,
    stream: Arc<CudaStream>,
    /// `None` when the head is tied: its rows are the embeddings.
    embedding: Option<Matrix>,
    layers: Vec<Layer>,
    output_norm: CudaSlice<f32>,
    head: Matrix,
    rotary: Rotary,
    /// Those of the layers that see everything, and of local ones.
    angles: [Angles; 2],
    /// Positions whose angles the device knows.
    reached: usize,
    memory: Memory<DeviceStore>,
    buffers: Buffers,
    weight_bytes: usize,
    /// Memory of logits that were given back.
    spare: Vec<f32>,
}

impl CudaDecoder {
    /// Whether the kernels compute this model: heads whose queries fit the memory that a block of threads shares,
    /// inputs that are normed, norms of queries over one head, and biases on nothing but queries, keys and values.
    pub fn supports(a: &Architecture, file: &dyn Checkpoint) -> bool {
        let layout = Layout { architecture: a, file };
        let biased = |section: Section, role| section.map(role).bias.is_some();
        a.recurrence.is_none()
            && a.attention_gate.is_none()
            && !(a.norms_embeddings || a.norms_values || a.scales_layers)
            && a.local_heads.is_none()
            && a.post_norm_epsilon == a.norm_epsilon
            && Kernels::fit(a.head_dim, a.heads / a.kv_heads)
            && a.pre_norms
            && !(a.is_parallel() || a.centred || a.sinks || a.norm_after_rotary)
            && matches!(a.activation, Activation::Silu | Activation::GeluTanh)
            && a.query_key_norm != Some(NormSpan::Projection)
            && !biased(layout.outer(), Role::Head)
            && !biased(layout.layer(0), Role::AttentionOutput)
            && a.experts.is_none()
            && layout.dense(0).is_some_and(|network| {
                ![Role::Gate, Role::Up, Role::Down].into_iter().any(|role| biased(network, role))
            })
    }

    /// Reads a file of weights onto `device`, which has one stream for everything.
    ///
    /// # Errors
    /// When a tensor is missing, of a shape that the metadata does not promise, or of a type that cannot be read; or
    /// when the device has no memory for the weights.
    pub fn load(name: &str, file: &dyn Checkpoint, device: &Device) -> Result<Self> {
        let architecture = Architecture::read(name, file)?;
        let a = &architecture;
        let cuda = device.as_cuda_device().map_err(device_error)?;
        // SAFETY: every buffer of the decoder is used on the device's one stream, in order.
        unsafe { cuda.disable_event_tracking() };
        let stream = cuda.cuda_stream();
        let kernels = Kernels::compile(cuda, a.head_dim, a.heads / a.kv_heads).map_err(device_error)?;
        let reader = Reader { weights: Weights { name, file }, stream: &stream, bytes: Cell::new(0) };
        let layout = Layout { architecture: a, file };
        let outer = layout.outer();
        let layers = (0..a.layers).map(|index| reader.layer(layout, index)).collect::<Result<Vec<_>>>()?;
        let head = reader.matrix(&[outer.map(Role::Head)])?;
        let embedding = if layout.is_tied() { None } else { Some(reader.matrix(&[outer.map(Role::Embeddings)])?) };
        let empty = || stream.null::<f32>().w().map_err(device_error);
        let unknown = || Ok::<_, crate::Error>(Angles { cosines: empty()?, sines: empty()? });
        Ok(Self {
            info: ModelInfo {
                name: name.to_owned(),
                vocab_size: a.vocab_size,
                context_length: a.context_length,
                arithmetic: Arithmetic::F16Cuda,
            },
            layers,
            embedding,
            head,
            output_norm: reader.vector(&outer.output_norm())?,
            rotary: Rotary::load(layout, &reader.weights)?,
            angles: [unknown()?, unknown()?],
            reached: 0,
            memory: Memory::new(DeviceStore(stream.clone()), a.layers * a.attention_layout(0).layer_elements(), 0),
            buffers: Buffers::new(&stream, a, 1).map_err(device_error)?,
            kernels,
            weight_bytes: reader.bytes.get(),
            spare: Vec::new(),
            stream: stream.clone(),
            architecture,
        })
    }

    /// Makes the angles of positions `0..count` known to the device.
    fn reach(&mut self, count: usize) -> Candle<()> {
        if count > self.reached {
            let count = count.next_multiple_of(ANGLES);
            self.rotary.reach(count);
            for (angles, is_local) in self.angles.iter_mut().zip([false, true]) {
                let (cosines, sines) = self.rotary.tables(is_local);
                angles.cosines = self.stream.clone_htod(cosines).w()?;
                angles.sines = self.stream.clone_htod(sines).w()?;
            }
            self.reached = count;
        }
        Ok(())
    }

    fn run(&mut self, segments: &[Segment]) -> Candle<Logits> {
        let count: usize = segments.iter().map(|segment| segment.tokens.len()).sum();
        let mut addresses: Vec<u64> = Vec::new();
        let mut rows: Vec<u64> = Vec::with_capacity(2 * count);
        let mut wanted: Vec<u32> = Vec::new();
        let mut furthest = 0;
        for segment in segments {
            let start = self.memory.length(segment.sequence);
            let first = addresses.len() as u64;
            let blocks = self.memory.grow(segment.sequence, segment.tokens.len())?;
            addresses.extend(blocks.into_iter().map(|block| block as u64));
            wanted.extend(segment.wanted().map(|at| (rows.len() / 2 + at) as u32));
            for (position, &token) in (start..).zip(segment.tokens) {
                let scale = u64::from(self.architecture.query_scale(position).to_bits());
                rows.extend([(position as u64) << 32 | u64::from(token), scale << 32 | first]);
            }
            furthest = furthest.max(start + segment.tokens.len());
        }
        if count == 0 {
            return Ok(Logits::on_host(Vec::new(), self.info.vocab_size));
        }
        self.reach(furthest)?;
        let a = &self.architecture;
        if count > self.buffers.rows {
            self.buffers = Buffers::new(&self.stream, a, count.next_power_of_two())?;
        }
        let tables = self.stream.clone_htod(&addresses).w()?;
        let rows = self.stream.clone_htod(&rows).w()?;
        let (kernels, buffers) = (&self.kernels, &mut self.buffers);
        let embedding = self.embedding.as_ref().unwrap_or(&self.head);
        kernels.embed(&rows, &embedding.weight, &mut buffers.hidden, count, a.hidden, a.embedding_scale)?;
        let layer_elements = a.attention_layout(0).layer_elements();
        for (index, layer) in self.layers.iter().enumerate() {
            let angles = &self.angles[usize::from(a.is_local(index))];
            let norm = |weight| (weight, a.norm_epsilon);
            kernels.rms_norm(
                &buffers.hidden,
                norm(&layer.attention_norm),
                &mut buffers.normed,
                count,
                a.hidden,
                None,
            )?;
            layer.query_key_value.apply(kernels, &buffers.normed, &mut buffers.projected, count, 1.0, false)?;
            kernels.place(&mut Place {
                rows: &rows,
                tables: &tables,
                projected: &mut buffers.projected,
                count,
                bias: layer.bias.as_ref(),
                norms: layer.head_norms.as_ref().map(|(query, key)| (query, key, a.norm_epsilon)),
                angles: a.is_rotary(index).then_some((&angles.cosines, &angles.sines, a.rotary_dims)),
                heads: (a.heads, a.kv_heads),
                layer_offset: index * layer_elements,
            })?;
            kernels.attend(&mut Attend {
                rows: &rows,
                tables: &tables,
                projected: &buffers.projected,
                out: &mut buffers.attended,
                count,
                heads: (a.heads, a.kv_heads),
                layer_offset: index * layer_elements,
                window: a.window(index),
                cap: a.score_cap,
            })?;
            let plus = a.residual_scale;
            if let Some(weight) = &layer.attention_post_norm {
                layer.attention_output.apply(kernels, &buffers.attended, &mut buffers.branch, count, 1.0, false)?;
                kernels.add_normed(&buffers.branch, norm(weight), &mut buffers.hidden, count, a.hidden, plus)?;
            } else {
                layer.attention_output.apply(kernels, &buffers.attended, &mut buffers.hidden, count, plus, true)?;
            }
            kernels.rms_norm(
                &buffers.hidden,
                norm(&layer.feed_forward_norm),
                &mut buffers.normed,
                count,
                a.hidden,
                None,
            )?;
            layer.gate_up.apply(kernels, &buffers.normed, &mut buffers.gated, count, 1.0, false)?;
            kernels.gate_up(a.activation, &buffers.gated, &mut buffers.gate, count, a.feed_forward)?;
            if let Some(weight) = &layer.feed_forward_post_norm {
                layer.down.apply(kernels, &buffers.gate, &mut buffers.branch, count, 1.0, false)?;
                kernels.add_normed(&buffers.branch, norm(weight), &mut buffers.hidden, count, a.hidden, plus)?;
            } else {
                layer.down.apply(kernels, &buffers.gate, &mut buffers.hidden, count, plus, true)?;
            }
        }
        let mut values = Vec::new();
        if !wanted.is_empty() {
            let list = self.stream.clone_htod(&wanted).w()?;
            let norm = (&self.output_norm, a.norm_epsilon);
            kernels.rms_norm(&buffers.hidden, norm, &mut buffers.normed, wanted.len(), a.hidden, Some(&list))?;
            // SAFETY: the product writes all of it.
            let mut logits = unsafe { self.stream.alloc::<f32>(wanted.len() * a.vocab_size) }.w()?;
            self.head.apply(kernels, &buffers.normed, &mut logits, wanted.len(), a.logit_scale, false)?;
            if let Some(cap) = a.logit_cap {
                kernels.soft_cap(&mut logits, wanted.len() * a.vocab_size, cap)?;
            }
            values = std::mem::take(&mut self.spare);
            values.resize(wanted.len() * a.vocab_size, 0.0);
            self.stream.memcpy_dtoh(&logits, &mut values).w()?;
            self.stream.synchronize().w()?;
        }
        Ok(Logits::on_host(values, a.vocab_size))
    }
}

impl Matrix {
    /// `to (count, outputs) = scale · from (count, inputs) · weightᵀ`, added to what is there if `adds`.
    fn apply(
        &self,
        kernels: &Kernels,
        from: &CudaSlice<u16>,
        to: &mut CudaSlice<f32>,
        count: usize,
        scale: f32,
        adds: bool,
    ) -> Candle<()> {
        kernels.product(&self.weight, (self.outputs, self.inputs), from, to, count, (scale, f32::from(u8::from(adds))))
    }
}

impl Model for CudaDecoder {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn sequences(&mut self) -> &mut dyn Sequences {
        &mut self.memory
    }

    fn forward(&mut self, segments: &[Segment]) -> Result<Logits> {
        self.info.check(segments, |sequence| self.memory.length(sequence))?;
        self.run(segments).map_err(device_error)
    }

    fn recycle(&mut self, logits: Logits) {
        self.spare = logits.into_host().unwrap_or_default();
    }

    fn key_value_memory(&self) -> KeyValueMemory {
        KeyValueMemory {
            block_positions: POSITIONS,
            block_bytes: self.memory.block_bytes(),
            state_bytes: 0,
            used_bytes: self.memory.size_bytes(),
        }
    }

    fn weight_bytes(&self) -> usize {
        self.weight_bytes
    }

    fn usual_batch(&self) -> usize {
        USUAL_BATCH
    }

    fn free_bytes(&self) -> Option<usize> {
        // A tenth is left for buffers that grow with the batch.
        self.stream.context().mem_get_info().ok().map(|(free, _)| free / 10 * 9)
    }
}

/// Reads slices onto the device.
struct Reader<'a> {
    weights: Weights<'a>,
    stream: &'a Arc<CudaStream>,
    /// Memory of what was read.
    bytes: Cell<usize>,
}

impl Reader<'_> {
    fn layer(&self, layout: Layout, index: usize) -> Result<Layer> {
        let at = layout.layer(index);
        let network = layout.dense(index).expect("a model without it is not supported");
        let norm = |role| at.vector(role).map(|slice| self.vector(&slice)).transpose();
        let projections = [Role::Query, Role::Key, Role::Value].map(|role| at.map(role));
        Ok(Layer {
            attention_norm: norm(Role::AttentionNorm)?.expect("a model without it is not supported"),
            attention_post_norm: norm(Role::AttentionPostNorm)?,
            query_key_value: self.matrix(&projections)?,
            bias: self.bias(&projections)?,
            head_norms: norm(Role::QueryNorm)?.zip(norm(Role::KeyNorm)?),
            attention_output: self.matrix(&[at.map(Role::AttentionOutput)])?,
            feed_forward_norm: norm(Role::FeedForwardNorm)?.expect("a model without it is not supported"),
            feed_forward_post_norm: norm(Role::FeedForwardPostNorm)?,
            gate_up: self.matrix(&[network.map(Role::Gate), network.map(Role::Up)])?,
            down: self.matrix(&[network.map(Role::Down)])?,
        })
    }

    fn upload<T: DeviceRepr>(&self, values: &[T]) -> Result<CudaSlice<T>> {
        self.bytes.set(self.bytes.get() + size_of_val(values));
        self.stream.clone_htod(values).w().map_err(device_error)
    }

    fn vector(&self, slice: &Slice) -> Result<CudaSlice<f32>> {
        self.upload(&self.weights.vector(slice)?)
    }

    /// The matrices of some maps of the same inputs, one below the other.
    fn matrix(&self, maps: &[Map]) -> Result<Matrix> {
        let outputs: usize = maps.iter().map(|map| map.weight.rows.len()).sum();
        let inputs = maps[0].weight.shape[1];
        let mut halves = vec![0u16; outputs * inputs];
        let mut rest = halves.as_mut_slice();
        for map in maps {
            let tensor = self.weights.tensor(&map.weight)?;
            let values = tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>()).map_err(device_error)?;
            let (mine, others) = rest.split_at_mut(values.len());
            mine.par_chunks_mut(inputs).zip(values.par_chunks(inputs)).for_each(|(to, from)| {
                for (half, value) in to.iter_mut().zip(from) {
                    *half = f16::from_f32(value.clamp(-65504.0, 65504.0)).to_bits();
                }
            });
            rest = others;
        }
        Ok(Matrix { weight: self.upload(&halves)?, inputs, outputs })
    }

    /// The biases of some maps, zero where one of them has none.
    fn bias(&self, maps: &[Map]) -> Result<Option<CudaSlice<f32>>> {
        let mut all = Vec::new();
        for map in maps {
            match &map.bias {
                Some(bias) => all.extend(self.weights.vector(bias)?),
                None => all.resize(all.len() + map.weight.rows.len(), 0.0),
            }
        }
        maps.iter().any(|map| map.bias.is_some()).then(|| self.upload(&all)).transpose()
    }
}
