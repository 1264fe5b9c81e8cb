//! An architecture from the metadata and the tensor names of a file of weights.
//!
//! Metadata are untrusted, and what they ask for is computed exactly or refused by the name of the key: a
//! key of the family that is not known here ends the reading unless it switches something off.

use super::{
    Activation, Architecture, Experts, FAMILIES, Family, HeadSizes, HeadStates, LocalRotary, MOST_TAPS, Recurrence,
    Recurrent, RotaryForm, RotaryScaling, Scoring, Sliding, Temperature, Xielu, softplus,
};
use crate::error::{Error, Result};
use crate::gguf::{Array, Metadata, Value};
use crate::model::checkpoint::Checkpoint;
use crate::model::layout::{self, EMBEDDINGS, Layout, SHORT_FACTORS, weight};

/// Largest sizes that are believed: allocations follow them.
const MOST_LAYERS: usize = 1 << 10;
const MOST_WIDTH: usize = 1 << 20;
const MOST_CONTEXT: usize = 1 << 17;
const MOST_EXPERTS: usize = 1 << 10;
/// Floats of a sequence's state: 1 GB.
const MOST_STATE: usize = 1 << 28;

/// Keys below the family's name that are read here.
const READ: &[&str] = &[
    "attention.causal",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_epsilon",
    "attention.layer_norm_rms_epsilon",
    "attention.scale",
    "attention.sliding_window",
    "attention.sliding_window_pattern",
    "attention.temperature_length",
    "attention.temperature_scale",
    "attention.value_length",
    "attn_logit_softcapping",
    "block_count",
    "context_length",
    "embedding_length",
    "embedding_scale",
    "expert_count",
    "expert_feed_forward_length",
    "expert_gating_func",
    "expert_group_count",
    "expert_group_used_count",
    "expert_shared_count",
    "expert_shared_feed_forward_length",
    "expert_used_count",
    "expert_weights_norm",
    "expert_weights_scale",
    "feed_forward_length",
    "final_logit_softcapping",
    "leading_dense_block_count",
    "logit_scale",
    "residual_scale",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.freq_base_swa",
    "rope.global.freq_base",
    "rope.local.freq_base",
    "rope.scale_linear",
    "rope.scaling.attn_factor",
    "rope.scaling.factor",
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
    "rope.scaling.type",
    "rope.scaling.yarn_attn_factor",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "rope.scaling.yarn_ext_factor",
    "rope.scaling.yarn_log_multiplier",
];

/// Those of recurrent families alone. Sections of the rotary dimensions differ in pictures, not in texts.
const READ_RECURRENT: &[&str] = &[
    "attention.recurrent_layers",
    "full_attention_interval",
    "nextn_predict_layers",
    "rope.dimension_sections",
    "shortconv.l_cache",
    "ssm.conv_kernel",
    "ssm.group_count",
    "ssm.inner_size",
    "ssm.state_size",
    "ssm.time_step_rank",
];

/// Those of families whose layers of the sliding window have heads of their own.
const READ_LOCAL: &[&str] = &["attention.key_length_swa", "attention.value_length_swa", "rope.dimension_count_swa"];

/// Keys that change nothing of what is computed here: the vocabulary's size is that of the embeddings, and
/// the layout's name tells where the rows came from.
const IDLE: &[&str] = &["vocab_size", "tensor_data_layout"];

/// Keys of other modalities.
const ELSEWHERE: &[&str] = &["vision.", "audio.", "mm."];

/// A file and its family.
struct Reader<'a> {
    name: &'a str,
    file: &'a dyn Checkpoint,
    metadata: &'a Metadata,
    family: &'static Family,
}

impl Architecture {
    /// Reads and checks the metadata of a file.
    ///
    /// # Errors
    /// When the family is unknown, a key is missing or absurd, or a feature is asked for that the
    /// decoder does not have; always naming the key, or the tensor that has no place in it.
    pub fn read(name: &str, file: &dyn Checkpoint) -> Result<Self> {
        let metadata = file.metadata();
        let named = metadata.str("general.architecture")?;
        let Some(family) = FAMILIES.iter().find(|known| known.name == named) else {
            let names: Vec<&str> = FAMILIES.iter().map(|known| known.name).collect();
            return Err(Error::model(
                name,
                format!("architecture `{named}` is not supported"),
                format!("use a GGUF file of one of these: {}", names.join(", ")),
            ));
        };
        let reader = Reader { name, file, metadata, family };
        reader.refuse_unknown_keys()?;
        let architecture = reader.read()?;
        reader.refuse_unknown_tensors(&architecture)?;
        Ok(architecture)
    }
}

impl Reader<'_> {
    fn key(&self, part: &str) -> String {
        format!("{}.{part}", self.family.name)
    }

    fn refuse(&self, what: impl Into<String>) -> Error {
        Error::model(self.name, what, "use another file of this model, or another model")
    }

    fn absurd(&self, key: &str, value: impl std::fmt::Display) -> Error {
        Error::model(self.name, format!("`{key}` is {value}"), "the file is damaged")
    }

    /// A size that must be there.
    fn size(&self, part: &str, most: usize) -> Result<usize> {
        let value = self.metadata.u32(&self.key(part))? as usize;
        if value == 0 || value > most { Err(self.absurd(&self.key(part), value)) } else { Ok(value) }
    }

    fn count(&self, part: &str, default: usize) -> Result<usize> {
        Ok(self.metadata.opt_u32(&self.key(part))?.map_or(default, |value| value as usize))
    }

    /// A positive number, whose default some writers spell 0.
    fn factor(&self, part: &str, default: f32) -> Result<f32> {
        Ok(self.option(part, default)?.unwrap_or(default))
    }

    /// A number that is 0 for what is not there.
    fn option(&self, part: &str, default: f32) -> Result<Option<f32>> {
        let value = self.metadata.opt_f32(&self.key(part))?.unwrap_or(default);
        if !value.is_finite() || value < 0.0 {
            return Err(self.absurd(&self.key(part), value));
        }
        Ok(Some(value).filter(|&value| value > 0.0))
    }

    fn refuse_unknown_keys(&self) -> Result<()> {
        let prefix = self.key("");
        for (key, value) in self.metadata.iter() {
            let Some(part) = key.strip_prefix(&prefix) else { continue };
            let recurrent = self.family.recurrence.is_some() && READ_RECURRENT.contains(&part);
            let local = self.family.local_heads && READ_LOCAL.contains(&part);
            let known = recurrent || local || READ.contains(&part) || IDLE.contains(&part);
            let elsewhere = ELSEWHERE.iter().any(|prefix| part.starts_with(prefix));
            let is_off = match value {
                Value::Unsigned(number) => *number == 0,
                Value::Signed(number) => *number == 0,
                Value::Float(number) => *number == 0.0,
                Value::Bool(truth) => !truth,
                Value::String(_) | Value::Array(_) => false,
            };
            if !(known || elsewhere || is_off) {
                return Err(self.refuse(format!("`{key}` asks for something that is not computed here")));
            }
        }
        Ok(())
    }

    fn refuse_unknown_tensors(&self, a: &Architecture) -> Result<()> {
        let layout = Layout { architecture: a, file: self.file };
        for name in self.file.tensors() {
            if !layout.has_place_for(name) {
                let what = format!("tensor `{name}` has no place in a decoder of the family `{}`", a.family);
                return Err(self.refuse(what));
            }
        }
        Ok(())
    }

    fn read(&self) -> Result<Architecture> {
        let family = self.family;
        let blocks = self.size("block_count", MOST_LAYERS)?;
        let prediction_layers = self.count("nextn_predict_layers", 0)?;
        if prediction_layers >= blocks {
            return Err(self.absurd(&self.key("nextn_predict_layers"), prediction_layers));
        }
        let layers = blocks - prediction_layers;
        let hidden = self.size("embedding_length", MOST_WIDTH)?;
        let heads = self.size("attention.head_count", MOST_WIDTH)?;
        let kv_counts = self.kv_heads(heads, layers)?;
        let (recurrence, recurrent_layers) = self.recurrence(layers, &kv_counts)?;
        let experts = self.experts(layers)?;
        if self.metadata.opt_bool(&self.key("attention.causal"))? == Some(false) {
            return Err(self.refuse(format!("`{}` is false: not a decoder", self.key("attention.causal"))));
        }
        let Some(vocab_size) = layout::vocabulary(self.file) else {
            let what = format!("tensor `{}` is missing", weight(EMBEDDINGS));
            return Err(Error::model(self.name, what, "the file is incomplete: fetch it again"));
        };
        if vocab_size == 0 || vocab_size > MOST_WIDTH {
            return Err(self.absurd(&format!("{} (rows)", weight(EMBEDDINGS)), vocab_size));
        }

        let mut context_length = (self.metadata.u32(&self.key("context_length"))? as usize).clamp(1, MOST_CONTEXT);
        let has_short_factors = layout::has_short_factors(self.file);
        if has_short_factors {
            context_length = context_length.min(self.size("rope.scaling.original_context_length", usize::MAX)?);
            // Without it, the model's own factor would be known to nobody.
            self.metadata.f32(&self.key("rope.scaling.attn_factor"))?;
        }
        let rotary = self.rotary(has_short_factors)?;
        let unscaled = |base| RotaryForm { base, scaling: RotaryScaling::None, magnitude: 1.0 };
        let base_of_local = |default: f32| self.base("rope.freq_base_swa", "rope.local.freq_base", default);
        let local_rotary = match family.local_rotary {
            LocalRotary::Same => RotaryForm { base: base_of_local(rotary.base)?, ..rotary },
            LocalRotary::Base(base) => unscaled(base_of_local(base)?),
            LocalRotary::Unscaled => unscaled(base_of_local(rotary.base)?),
        };
        let switch = self.metadata.opt_bool(&self.key("rope.scaling.finetuned"))?;
        let is_off = family.rotary_switch && switch == Some(false);
        let (sliding_window, local_layers) = self.sliding(layers, context_length)?;
        let ([global, local], splits) = self.head_sizes(hidden / heads, heads, &kv_counts, &local_layers)?;
        let HeadSizes { kv_heads, head_dim, rotary_dims } = global;

        let attention_width = match family.scaled_by_width_at {
            Some(at) if at as usize == layers => hidden / heads,
            _ => head_dim,
        };
        let attention_scale = family.attention_scale.unwrap_or(1.0 / (attention_width.max(1) as f32).sqrt());
        let activations = self.activations(layers)?;
        let norm_epsilon = self.epsilon()?;
        let logit_scale = self.factor("logit_scale", 1.0)?;
        let embedding_scale = if family.scales_embeddings { (hidden as f32).sqrt() } else { 1.0 };
        Ok(Architecture {
            family: family.name.to_owned(),
            layers,
            hidden,
            feed_forward: if experts.is_some_and(|experts| experts.dense_layers == 0) {
                0
            } else {
                self.size("feed_forward_length", MOST_WIDTH)?
            },
            experts,
            heads,
            kv_heads,
            head_dim,
            vocab_size,
            context_length,
            norm_epsilon,
            post_norm_epsilon: family.post_norm_epsilon.unwrap_or(norm_epsilon),
            rotary_dims,
            local_rotary: Some(local_rotary).filter(|&form| (form != rotary || splits) && local_layers.contains(&true)),
            local_heads: splits.then_some(local),
            rotary,
            rotary_interleaved: self.file.interleaves_pairs(family.rotary_interleaved),
            rotary_skipped_every: if is_off { 1 } else { family.rotary_skipped_every },
            rotary_local_only: family.rotary_local_only,
            sliding_window,
            local_layers,
            activation: activations.first().copied().unwrap_or(family.activation),
            activations,
            pre_norms: family.pre_norms,
            post_norms: family.post_norms,
            second_norm: family.second_norm,
            centred: family.centred,
            query_key_norm: family.query_key_norm,
            norm_after_rotary: family.norm_after_rotary,
            sinks: family.sinks,
            attention_gate: family.attention_gate,
            recurrence,
            recurrent_layers,
            prediction_layers,
            norms_values: family.norms_values,
            scales_layers: family.scales_layers,
            norms_embeddings: family.norms_embeddings,
            embedding_scale: self.factor("embedding_scale", embedding_scale)?,
            attention_scale: self.factor("attention.scale", attention_scale)?,
            temperature: self.temperature()?,
            score_cap: self.option("attn_logit_softcapping", family.caps.0)?,
            residual_scale: self.factor("residual_scale", 1.0)?,
            logit_scale: if family.scales_logits { logit_scale } else { 1.0 / logit_scale },
            logit_cap: self.option("final_logit_softcapping", family.caps.1)?,
        })
    }

    /// Heads of keys and values of each layer; 0 in those that have none.
    fn kv_heads(&self, heads: usize, layers: usize) -> Result<Vec<usize>> {
        let key = self.key("attention.head_count_kv");
        if !matches!(self.metadata.get(&key), Some(Value::Array(_))) {
            return Ok(vec![self.count("attention.head_count_kv", heads)?; layers]);
        }
        let counts = self.metadata.opt_integers(&key)?.unwrap_or_default();
        if counts.len() < layers {
            return Err(self.absurd(&format!("{key} (entries)"), counts.len()));
        }
        Ok(counts[..layers].iter().map(|&count| usize::try_from(count).unwrap_or(0)).collect())
    }

    /// Sizes of heads in the layers that are not of the sliding window, and in those that are; and whether these have
    /// their own.
    fn head_sizes(
        &self,
        width: usize,
        heads: usize,
        kv_counts: &[usize],
        local_layers: &[bool],
    ) -> Result<([HeadSizes; 2], bool)> {
        let splits = self.family.local_heads && local_layers.contains(&true);
        let mut found = Vec::new();
        for is_local in [false, true] {
            let ending = if is_local && splits { "_swa" } else { "" };
            let part = |part: &str| format!("{part}{ending}");
            let of_kind = |layer: &usize| !splits || local_layers[*layer] == is_local;
            let attends = |layer: &usize| self.family.recurrence.is_none() || kv_counts[*layer] > 0;
            let mut counts = (0..kv_counts.len()).filter(of_kind).filter(attends).map(|layer| kv_counts[layer]);
            let kv_heads = counts.next().unwrap_or(heads);
            if let Some(other) = counts.find(|&count| count != kv_heads) {
                let key = self.key("attention.head_count_kv");
                let what = format!("`{key}` has {kv_heads} and {other}: only one number of heads is computed");
                return Err(self.refuse(what));
            }
            let head_dim = self.count(&part("attention.key_length"), width)?;
            let divides = kv_heads > 0 && heads.is_multiple_of(kv_heads);
            if !divides || head_dim == 0 || head_dim % 2 != 0 || head_dim > MOST_WIDTH {
                let what = format!("{heads} heads over {kv_heads} of width {head_dim} cannot be computed");
                return Err(self.refuse(what));
            }
            let value_length = part("attention.value_length");
            if self.count(&value_length, head_dim)? != head_dim {
                return Err(self.refuse(format!("`{}` differs from the key length", self.key(&value_length))));
            }
            let dimensions = part("rope.dimension_count");
            let rotary_dims = self.count(&dimensions, head_dim)?;
            if rotary_dims == 0 || rotary_dims % 2 != 0 || rotary_dims > head_dim {
                return Err(self.absurd(&self.key(&dimensions), rotary_dims));
            }
            found.push(HeadSizes { kv_heads, head_dim, rotary_dims });
        }
        Ok(([found[0], found[1]], splits))
    }

    /// What recurrent layers compute, and which they are.
    fn recurrence(&self, layers: usize, kv_counts: &[usize]) -> Result<(Option<Recurrence>, Vec<bool>)> {
        let Some(kind) = self.family.recurrence else { return Ok((None, vec![false; layers])) };
        let taps = |part: &str| match self.size(part, MOST_TAPS)? {
            1 => Err(self.absurd(&self.key(part), 1)),
            taps => Ok(taps),
        };
        if kind == Recurrent::ShortConvolution {
            let recurrent = kv_counts.iter().map(|&count| count == 0).collect();
            return Ok((Some(Recurrence::ShortConvolution { taps: taps("shortconv.l_cache")? }), recurrent));
        }
        let heads = self.size("ssm.time_step_rank", MOST_WIDTH)?;
        let key_heads = self.size("ssm.group_count", heads)?;
        let key_width = self.size("ssm.state_size", 1 << 12)?;
        let inner = self.size("ssm.inner_size", MOST_WIDTH)?;
        let value_width = inner / heads;
        let is_square = kind == Recurrent::Scan || key_width == value_width;
        let fits = inner * key_width <= MOST_STATE / layers;
        if heads % key_heads != 0 || heads * value_width != inner || value_width == 0 || !(is_square && fits) {
            let what = format!("{heads} heads over {key_heads} of width {key_width} in {inner} cannot be computed");
            return Err(self.refuse(what));
        }
        let sizes = HeadStates { taps: taps("ssm.conv_kernel")?, key_heads, heads, key_width, value_width };
        if kind == Recurrent::Scan {
            let recurrent = kv_counts.iter().map(|&count| count == 0).collect();
            return Ok((Some(Recurrence::Scan(sizes)), recurrent));
        }
        let key = self.key("attention.recurrent_layers");
        let recurrent: Vec<bool> = match self.metadata.get(&key) {
            Some(Value::Array(Array::Bool(flags))) => flags.clone(),
            Some(_) => {
                self.metadata.opt_integers(&key)?.unwrap_or_default().into_iter().map(|flag| flag != 0).collect()
            }
            None => {
                let every = self.count("full_attention_interval", 4)?.max(1);
                (1..=layers).map(|layer| layer % every != 0).collect()
            }
        };
        if recurrent.len() < layers {
            return Err(self.absurd(&format!("{key} (entries)"), recurrent.len()));
        }
        Ok((Some(Recurrence::DeltaNet(sizes)), recurrent[..layers].to_vec()))
    }

    /// The functions of the layers' networks, where they differ.
    fn activations(&self, layers: usize) -> Result<Vec<Activation>> {
        if !matches!(self.family.activation, Activation::Xielu(_)) {
            return Ok(Vec::new());
        }
        // These keys do not begin with the family's name.
        let values = |key: &str| {
            let values = self.metadata.opt_floats(key)?.unwrap_or_default();
            if values.len() != layers {
                return Err(self.absurd(&format!("{key} (entries)"), values.len()));
            }
            match values.iter().find(|value| !value.is_finite()) {
                Some(value) => Err(self.absurd(key, value)),
                None => Ok(values),
            }
        };
        let (negative, positive) = (values("xielu.alpha_n")?, values("xielu.alpha_p")?);
        let (slope, least) = (values("xielu.beta")?, values("xielu.eps")?);
        let of = |layer: usize| {
            Activation::Xielu(Xielu {
                positive: softplus(positive[layer]),
                negative: slope[layer] + softplus(negative[layer]),
                slope: slope[layer],
                least: least[layer],
            })
        };
        Ok((0..layers).map(of).collect())
    }

    fn experts(&self, layers: usize) -> Result<Option<Experts>> {
        let count = self.count("expert_count", 0)?;
        if count == 0 {
            return Ok(None);
        }
        let key = |part: &str| self.key(part);
        let Some(routing) = self.family.routing else {
            return Err(self.refuse(format!("`{}` is {count}: this family has no experts", key("expert_count"))));
        };
        if count > MOST_EXPERTS {
            return Err(self.absurd(&key("expert_count"), count));
        }
        let used = self.size("expert_used_count", count)?;
        let width = match self.count("expert_feed_forward_length", 0)? {
            // In older families, where all layers have experts, the width of the network is theirs.
            0 => self.size("feed_forward_length", MOST_WIDTH)?,
            width => width,
        };
        let shared = self.count("expert_shared_count", 0)?;
        let shared_width = match self.count("expert_shared_feed_forward_length", 0)? {
            0 => shared.saturating_mul(width),
            width => width,
        };
        for (part, width) in
            [("expert_feed_forward_length", width), ("expert_shared_feed_forward_length", shared_width)]
        {
            if width > MOST_WIDTH {
                return Err(self.absurd(&key(part), width));
            }
        }
        let scoring = match self.count("expert_gating_func", 0)? {
            0 => routing.scoring,
            1 => Scoring::Softmax,
            2 => Scoring::Sigmoid,
            3 => Scoring::SoftmaxOfChosen,
            other => {
                return Err(
                    self.refuse(format!("`{}` is {other}, which is not computed here", key("expert_gating_func")))
                );
            }
        };
        let groups = self.count("expert_group_count", 1)?.max(1);
        // Of a group the two greatest count; some writers spell the default 0.
        if groups > 1 && (count % groups != 0 || count / groups < 2) {
            return Err(self.absurd(&key("expert_group_count"), groups));
        }
        let groups_used = match self.count("expert_group_used_count", groups)? {
            0 => groups,
            used => used,
        };
        if groups_used > groups || used > groups_used * (count / groups) {
            return Err(self.absurd(&key("expert_group_used_count"), groups_used));
        }
        let dense_layers = self.count("leading_dense_block_count", 0)?;
        if dense_layers > layers {
            return Err(self.absurd(&key("leading_dense_block_count"), dense_layers));
        }
        Ok(Some(Experts {
            count,
            used,
            width,
            shared_width,
            weighs_shared: routing.weighs_shared,
            dense_layers,
            scoring,
            is_normalised: self.metadata.opt_bool(&key("expert_weights_norm"))?.unwrap_or(routing.is_normalised),
            epsilon: routing.epsilon,
            scale: self.factor("expert_weights_scale", 1.0)?,
            groups,
            groups_used,
        }))
    }

    fn epsilon(&self) -> Result<f32> {
        let key = if self.family.centred { "attention.layer_norm_epsilon" } else { "attention.layer_norm_rms_epsilon" };
        let key = self.key(key);
        let value = self.metadata.f32(&key)?;
        if value.is_finite() && value >= 0.0 { Ok(value) } else { Err(self.absurd(&key, value)) }
    }

    /// A base of rotary frequencies, of which none is above 1; `other` is what Ollama's converter calls its key.
    fn base(&self, part: &str, other: &str, default: f32) -> Result<f32> {
        let value = |part: &str| self.metadata.opt_f32(&self.key(part));
        let base = match (value(part)?, value(other)?) {
            (Some(base), Some(another)) if base != another => {
                let what = format!("`{}` is {base}, but `{}` is {another}", self.key(part), self.key(other));
                return Err(self.refuse(what));
            }
            (base, another) => base.or(another).unwrap_or(default),
        };
        if base.is_finite() && base >= 1.0 { Ok(base) } else { Err(self.absurd(&self.key(part), base)) }
    }

    fn rotary(&self, has_short_factors: bool) -> Result<RotaryForm> {
        let base = self.base("rope.freq_base", "rope.global.freq_base", 10_000.0)?;
        let key = self.key("rope.scaling.type");
        let kind = self.metadata.opt_str(&key)?;
        // An older name of the linear factor, from before there were types.
        let older = self.factor("rope.scale_linear", 1.0)?;
        let factor = self.factor("rope.scaling.factor", older)?;
        let attention_factor = self.factor("rope.scaling.attn_factor", 1.0)?;
        let (scaling, magnitude) = match kind {
            Some("yarn") => self.yarn(base, factor, attention_factor)?,
            Some("longrope") if !has_short_factors => {
                let factors = weight(SHORT_FACTORS);
                return Err(self.refuse(format!("`{key}` is longrope, but `{factors}` is missing")));
            }
            Some("longrope") if factor == 1.0 => (RotaryScaling::None, attention_factor),
            Some("none") if factor != 1.0 => {
                return Err(
                    self.refuse(format!("`{key}` is none, but `{}` is {factor}", self.key("rope.scaling.factor")))
                );
            }
            // Files without a type, written before there were any, mean the linear one.
            None | Some("none" | "linear") if factor == 1.0 => (RotaryScaling::None, attention_factor),
            None | Some("linear") => (RotaryScaling::Linear { factor }, attention_factor),
            Some(other) => return Err(self.refuse(format!("`{key}` is {other}, which is not supported"))),
        };
        if has_short_factors && scaling != RotaryScaling::None {
            return Err(self.refuse(format!("`{key}` and `{}` exclude each other", weight(SHORT_FACTORS))));
        }
        if !matches!(scaling, RotaryScaling::Yarn { .. }) {
            for part in ["yarn_attn_factor", "yarn_log_multiplier", "yarn_beta_fast", "yarn_beta_slow"] {
                let part = self.key(&format!("rope.scaling.{part}"));
                if self.metadata.opt_f32(&part)?.is_some_and(|value| value != 0.0) {
                    return Err(self.refuse(format!("`{part}` is given, but `{key}` is not yarn")));
                }
            }
        }
        Ok(RotaryForm { base, scaling, magnitude })
    }

    /// YaRN's frequencies and magnitude.
    fn yarn(&self, base: f32, factor: f32, extra: f32) -> Result<(RotaryScaling, f32)> {
        let part = |part: &str| self.key(&format!("rope.scaling.{part}"));
        if base <= 1.0 {
            return Err(self.absurd(&self.key("rope.freq_base"), base));
        }
        let original_context =
            self.count("rope.scaling.original_context_length", self.size("context_length", usize::MAX)?)?;
        if original_context == 0 {
            return Err(self.absurd(&part("original_context_length"), original_context));
        }
        let mix = self.metadata.opt_f32(&part("yarn_ext_factor"))?.unwrap_or(1.0);
        if mix != 1.0 {
            return Err(self.refuse(format!("`{}` is {mix}: only 1 is computed", part("yarn_ext_factor"))));
        }
        let growth = |weight: f32| if factor > 1.0 { 0.1 * weight * factor.ln() + 1.0 } else { 1.0 };
        let usual = growth(1.0);
        let magnitude = match self.option("rope.scaling.yarn_log_multiplier", 0.0)? {
            Some(weight) => usual / growth(weight),
            None => usual,
        };
        // Some writers give the whole magnitude, others a factor of YaRN's own: one value means the same in
        // both readings only when it says nothing new.
        let whole = self.factor("rope.scaling.yarn_attn_factor", magnitude)?;
        for (name, value, says_nothing) in [("attn_factor", extra, extra == 1.0), ("yarn_attn_factor", whole, false)] {
            if !says_nothing && (value - magnitude).abs() > 1e-3 {
                let what = format!("`{}` is {value}, where YaRN's own factor is {magnitude}", part(name));
                return Err(self.refuse(what));
            }
        }
        let scaling = RotaryScaling::Yarn {
            factor,
            original_context,
            beta_fast: self.factor("rope.scaling.yarn_beta_fast", 32.0)?,
            beta_slow: self.factor("rope.scaling.yarn_beta_slow", 1.0)?,
            whole_pairs: self.family.yarn_whole_pairs,
        };
        Ok((scaling, magnitude))
    }

    /// The window, and which layers have it.
    fn sliding(&self, layers: usize, context_length: usize) -> Result<(Option<usize>, Vec<bool>)> {
        let key = self.key("attention.sliding_window");
        let window = self.metadata.opt_u32(&key)?.unwrap_or(self.family.sliding_window) as usize;
        if window == 0 {
            return Ok((None, vec![false; layers]));
        }
        let every = |period: usize| (0..layers).map(|layer| period == 0 || layer % period < period - 1).collect();
        let pattern = self.key("attention.sliding_window_pattern");
        let flags = match self.metadata.get(&pattern) {
            Some(Value::Array(Array::Bool(flags))) => Some(flags.clone()),
            Some(Value::Array(_)) => {
                let numbers = self.metadata.opt_integers(&pattern)?.unwrap_or_default();
                Some(numbers.iter().map(|&number| number != 0).collect())
            }
            Some(_) => Some(every(self.metadata.u32(&pattern)? as usize)),
            None => None,
        };
        let local = match (flags, self.family.sliding) {
            (Some(flags), _) if flags.len() != layers => {
                return Err(self.absurd(&format!("{pattern} (entries)"), flags.len()));
            }
            (Some(flags), _) => flags,
            (None, Sliding::All) => every(0),
            (None, Sliding::AllBut(period)) => every(period),
            // A window that holds the whole context is none.
            (None, Sliding::Stated) if window >= context_length => vec![false; layers],
            (None, Sliding::Stated) => {
                return Err(self.refuse(format!("`{key}` is {window}, but `{pattern}` does not say in which layers")));
            }
        };
        Ok((Some(window).filter(|&window| window < context_length), local))
    }

    fn temperature(&self) -> Result<Option<Temperature>> {
        let Some(scale) = self.option("attention.temperature_scale", 0.0)? else { return Ok(None) };
        let length = match self.count("attention.temperature_length", 0)? {
            0 => self.size("rope.scaling.original_context_length", usize::MAX)?,
            length => length,
        };
        Ok(Some(Temperature { scale, length }))
    }
}
