//! `config.json` → GGUF's keys, as llama.cpp's `conversion/*.py` write them for each family.
//!
//! What a configuration asks for is said in those keys, where [`Architecture`](crate::model::architecture) checks it, or
//! refused here by its name.

use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use crate::error::{Error, Result};
use crate::gguf::{Array, Metadata, Value};

/// How a family's folders differ from its GGUF files.
struct Family {
    /// `model_type`.
    theirs: &'static str,
    /// `general.architecture`.
    ours: &'static str,
    /// Rotary pairs lie half a head apart, where GGUF has them side by side.
    has_halves: bool,
    /// Norms hold `w` of `1 + w`, but for those of these names.
    adds_one: Option<&'static [&'static str]>,
    /// What `post_attention_layernorm` is.
    second: Second,
    /// The function in its networks.
    activation: &'static [&'static str],
}

/// What a norm named for what it follows belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Second {
    /// The input of the network.
    OfNetwork,
    /// The output of attention; or it goes by that name in GGUF.
    OfAttention,
}

const SILU: &[&str] = &["silu", "swish"];
/// Gemma's first configurations say `gelu` and mean this one.
const GELU: &[&str] = &["gelu_pytorch_tanh", "gelu"];

const COMMON: Family =
    Family { theirs: "", ours: "", has_halves: false, adds_one: None, second: Second::OfNetwork, activation: SILU };

const QWEN35: Family = Family { ours: "qwen35", adds_one: Some(&["ssm_norm"]), second: Second::OfAttention, ..COMMON };

const FAMILIES: &[Family] = &[
    Family { theirs: "llama", ours: "llama", has_halves: true, ..COMMON },
    Family { theirs: "mistral", ours: "llama", has_halves: true, ..COMMON },
    Family { theirs: "mixtral", ours: "llama", has_halves: true, ..COMMON },
    Family { theirs: "ministral3", ours: "mistral3", has_halves: true, ..COMMON },
    Family { theirs: "qwen2", ours: "qwen2", ..COMMON },
    Family { theirs: "qwen2_moe", ours: "qwen2moe", ..COMMON },
    Family { theirs: "qwen3", ours: "qwen3", ..COMMON },
    Family { theirs: "qwen3_moe", ours: "qwen3moe", ..COMMON },
    Family { theirs: "qwen3_5_text", ..QWEN35 },
    // As older files of the text alone call themselves.
    Family { theirs: "qwen3_5", ..QWEN35 },
    Family { theirs: "qwen3_5_moe_text", ours: "qwen35moe", ..QWEN35 },
    Family { theirs: "qwen3_5_moe", ours: "qwen35moe", ..QWEN35 },
    Family { theirs: "lfm2", ours: "lfm2", ..COMMON },
    Family { theirs: "lfm2_moe", ours: "lfm2moe", ..COMMON },
    Family { theirs: "gpt_oss", ours: "gpt-oss", second: Second::OfAttention, ..COMMON },
    Family { theirs: "smollm3", ours: "smollm3", has_halves: true, ..COMMON },
    Family { theirs: "granite", ours: "granite", has_halves: true, ..COMMON },
    Family { theirs: "granitemoe", ours: "granitemoe", has_halves: true, ..COMMON },
    Family { theirs: "granitemoeshared", ours: "granitemoe", has_halves: true, ..COMMON },
    Family { theirs: "granitemoehybrid", ours: "granitehybrid", has_halves: true, ..COMMON },
    Family { theirs: "phi3", ours: "phi3", ..COMMON },
    Family { theirs: "olmo2", ours: "olmo2", second: Second::OfAttention, ..COMMON },
    Family { theirs: "olmo3", ours: "olmo2", second: Second::OfAttention, ..COMMON },
    Family { theirs: "olmoe", ours: "olmoe", ..COMMON },
    Family { theirs: "glm4", ours: "glm4", ..COMMON },
    Family { theirs: "ernie4_5", ours: "ernie4_5", ..COMMON },
    Family { theirs: "hunyuan_v1_dense", ours: "hunyuan-dense", ..COMMON },
    Family { theirs: "exaone4", ours: "exaone4", second: Second::OfAttention, ..COMMON },
    Family { theirs: "seed_oss", ours: "seed_oss", second: Second::OfAttention, ..COMMON },
    Family { theirs: "apertus", ours: "apertus", activation: &["xielu"], ..COMMON },
    Family { theirs: "arcee", ours: "arcee", has_halves: true, activation: &["relu2"], ..COMMON },
    Family { theirs: "cohere2", ours: "cohere2", ..COMMON },
    Family {
        theirs: "muse_glimmer_text",
        ours: "muse-glimmer",
        has_halves: true,
        adds_one: Some(&["output_norm"]),
        second: Second::OfAttention,
        ..COMMON
    },
    Family { theirs: "gemma", ours: "gemma", adds_one: Some(&[]), activation: GELU, ..COMMON },
    Family {
        theirs: "gemma2",
        ours: "gemma2",
        adds_one: Some(&[]),
        second: Second::OfAttention,
        activation: GELU,
        ..COMMON
    },
    Family {
        theirs: "gemma3_text",
        ours: "gemma3",
        adds_one: Some(&[]),
        second: Second::OfAttention,
        activation: GELU,
        ..COMMON
    },
    Family { theirs: "gemma4_text", ours: "gemma4", second: Second::OfAttention, activation: GELU, ..COMMON },
];

/// Sizes above this are no model's: lists are made of so many entries.
const MOST_SIZE: u64 = 1 << 20;

/// What the library takes where a configuration of Gemma 3 is silent.
const GEMMA3: [(&str, f64); 8] = [
    ("num_attention_heads", 8.0),
    ("num_key_value_heads", 4.0),
    ("head_dim", 256.0),
    ("rms_norm_eps", 1e-6),
    ("max_position_embeddings", 131_072.0),
    ("query_pre_attn_scalar", 256.0),
    ("sliding_window", 4096.0),
    ("rope_theta", 1e6),
];

/// Heads of a delta network.
struct Dealt {
    keys: usize,
    values: usize,
    /// Width of all values.
    inner: usize,
}

/// A configuration.
pub(super) struct Config {
    path: PathBuf,
    json: Json,
    /// Of the scaling of rotary frequencies; empty for none.
    rope: Json,
    family: &'static Family,
    /// Rows and columns of a block of 8-bit floats with one scale; null for none.
    scales: Json,
    /// It is that of the text of a larger model.
    pub is_within: bool,
}

impl Config {
    /// Reads a configuration, or its part that is about text.
    pub(super) fn read(path: &Path, json: &Json) -> Result<Self> {
        let is_within = json["text_config"].is_object();
        let text = if is_within { &json["text_config"] } else { json };
        let fault = |what: String, remedy: &str| Error::input(path, what, remedy);
        let mut scales = Json::Null;
        for part in [json, text] {
            let quantised = &part["quantization_config"];
            let Some(method) = quantised["quant_method"].as_str() else { continue };
            let is_read = match method {
                "fp8" => true,
                "mxfp4" => text["model_type"] == "gpt_oss",
                "compressed-tensors" => quantised["format"] == "float-quantized",
                _ => false,
            };
            if !is_read {
                let what = format!("holds weights quantised by {method}, which are not read");
                return Err(fault(what, "use the model as it was before, or a GGUF file of it"));
            }
            scales = if method == "fp8" { quantised["weight_block_size"].clone() } else { Json::Null };
        }
        let named = text["model_type"].as_str().unwrap_or_default();
        let Some(family) = FAMILIES.iter().find(|family| family.theirs == named) else {
            let names: Vec<&str> = FAMILIES.iter().map(|family| family.theirs).collect();
            let what = format!("model_type `{named}` is not read from safetensors");
            return Err(fault(what, &format!("use a GGUF file of the model, or one of: {}", names.join(", "))));
        };
        let mut json = text.clone();
        if family.ours == "gemma3" {
            for (key, value) in GEMMA3 {
                if json[key].is_null() && (key != "rope_theta" || json["rope_parameters"].is_null()) {
                    let whole = value.fract() == 0.0;
                    json[key] = if whole { Json::from(value as u64) } else { Json::from(value) };
                }
            }
        }
        let rope = ["rope_parameters", "rope_scaling"].iter().map(|key| &json[*key]).find(|rope| rope.is_object());
        let rope = rope.cloned().unwrap_or_default();
        let config = Self { path: path.to_owned(), json, rope, family, scales, is_within };
        for key in ["num_hidden_layers", "head_dim", "hidden_size"] {
            if config.optional(key).is_some_and(|size| size > MOST_SIZE) {
                return Err(config.refused(&format!("`{key}` is more than any model has")));
            }
        }
        Ok(config)
    }

    /// Whether rotary pairs lie otherwise than in GGUF's files of the family.
    pub(super) fn has_halves(&self) -> bool {
        self.family.has_halves
    }

    /// Whether the family is one, by GGUF's name.
    pub(super) fn is_family(&self, ours: &str) -> bool {
        self.family.ours == ours
    }

    /// Rows and columns of a block of 8-bit floats with one scale.
    pub(super) fn scale_block(&self) -> Option<[usize; 2]> {
        let [rows, columns] = self.scales.as_array()?.as_slice() else { return None };
        Some([rows.as_u64()? as usize, columns.as_u64()? as usize])
    }

    /// What becomes of the values of a small tensor; `None` where they stay.
    pub(super) fn function(&self, target: &str) -> Option<fn(f32) -> f32> {
        let name = target.strip_suffix(".weight").unwrap_or(target);
        let name = name.rsplit('.').next().unwrap_or(name);
        let is_norm = name.ends_with("norm");
        match self.family.adds_one {
            _ if name == "ssm_a" => Some(|rate| -rate.exp()),
            Some(others) if is_norm && !others.contains(&name) => Some(|weight| 1.0 + weight),
            _ => None,
        }
    }

    /// The shape that GGUF has a tensor in, where it is another.
    pub(super) fn reshaped(&self, target: &str, shape: &[usize]) -> Option<Vec<usize>> {
        let is_scan = self.is_family("granitehybrid");
        match *shape {
            [channels, 1, taps] if target.contains("conv") => Some(vec![channels, taps]),
            [heads] if is_scan && (target.ends_with("ssm_a") || target.ends_with("ssm_d")) => Some(vec![heads, 1]),
            [inner] if is_scan && target.ends_with("ssm_norm.weight") => {
                let groups = usize::try_from(self.optional("mamba_n_groups")?).ok()?;
                (groups > 0 && inner.is_multiple_of(groups)).then(|| vec![groups, inner / groups])
            }
            _ => None,
        }
    }

    /// Which row of the folder's tensor is which of GGUF's, where they differ: neighbouring heads of a delta network have
    /// one key head, where in GGUF heads as far apart as there are key heads have it.
    pub(super) fn order(&self, target: &str, rows: usize) -> Option<Vec<usize>> {
        let name = target.rsplit_once('.').map_or(target, |(stem, _)| stem);
        let name = if target.ends_with("ssm_a") { "ssm_a" } else { name.rsplit('.').next()? };
        let heads = self.dealt_heads()?;
        match name {
            "attn_qkv" | "ssm_conv1d" => self.dealt(rows, rows.checked_sub(heads.inner)?),
            "attn_gate" if rows == heads.inner => self.dealt(rows, 0),
            "ssm_alpha" | "ssm_beta" | "ssm_a" | "ssm_dt" if rows == heads.values => self.dealt(rows, 0),
            _ => None,
        }
    }

    /// The same of columns.
    pub(super) fn columns(&self, target: &str, columns: usize) -> Option<Vec<usize>> {
        let heads = self.dealt_heads().filter(|heads| heads.inner == columns)?;
        if target.ends_with("ssm_out.weight") { self.dealt(heads.inner, 0) } else { None }
    }

    /// The heads of a delta network, where several have one key head.
    fn dealt_heads(&self) -> Option<Dealt> {
        if self.json["linear_num_key_heads"].is_null() {
            return None;
        }
        let of = |key: &str| self.optional(key).filter(|&size| 0 < size && size <= MOST_SIZE).map(|size| size as usize);
        let (keys, values) = (of("linear_num_key_heads")?, of("linear_num_value_heads")?);
        let inner = values.checked_mul(of("linear_value_head_dim")?).filter(|&inner| inner as u64 <= MOST_SIZE)?;
        (keys != values && values.is_multiple_of(keys)).then_some(Dealt { keys, values, inner })
    }

    /// An order of so many places, of which those from `first` on belong to heads.
    fn dealt(&self, places: usize, first: usize) -> Option<Vec<usize>> {
        let Dealt { keys, values, .. } = self.dealt_heads()?;
        let (each, width) = (values / keys, (places - first) / values);
        let place = |place: usize| {
            let (head, at) = ((place - first) / width, (place - first) % width);
            first + (head % keys * each + head / keys) * width + at
        };
        Some((0..places).map(|at| if at < first { at } else { place(at) }).collect())
    }

    /// What `post_attention_layernorm` is.
    pub(super) fn second(&self) -> Second {
        self.family.second
    }

    /// Writes a list that belongs to no family.
    #[expect(clippy::unused_self, reason = "what is written is said here alone")]
    pub(super) fn list(&self, metadata: &mut Metadata, key: &str, values: Vec<f32>) {
        metadata.insert(key, Value::Array(Array::Float(values)));
    }

    /// Vectors that follow from the configuration: factors of rotary frequencies, and scales that GGUF has as norms.
    pub(super) fn made(&self) -> Result<Vec<(String, Vec<f32>)>> {
        let mut made: Vec<_> = self.factors()?.into_iter().map(|(name, values)| (name.to_owned(), values)).collect();
        if self.is_family("muse-glimmer") {
            let (width, scale) = (self.head_dim()? as usize, self.real("qk_scale_factor")? as f32);
            for layer in 0..self.whole("num_hidden_layers")? {
                made.push((format!("blk.{layer}.attn_q_norm.weight"), vec![scale; width]));
                made.push((format!("blk.{layer}.attn_k_norm.weight"), vec![1.0; width]));
            }
        }
        Ok(made)
    }

    fn factors(&self) -> Result<Vec<(&'static str, Vec<f32>)>> {
        let list = |key: &str| -> Result<Vec<f32>> {
            let values = self.rope[key].as_array().into_iter().flatten();
            let values: Option<Vec<f32>> = values.map(|value| value.as_f64().map(|value| value as f32)).collect();
            values.filter(|values| !values.is_empty()).ok_or_else(|| self.absent(key))
        };
        Ok(match self.scaling() {
            "llama3" => vec![("rope_freqs.weight", self.llama3()?)],
            "longrope" | "su" => vec![
                ("rope_factors_short.weight", list("short_factor")?),
                ("rope_factors_long.weight", list("long_factor")?),
            ],
            "proportional" if self.is_family("gemma4") => {
                let share = self.rope["full_attention"]["partial_rotary_factor"].as_f64().unwrap_or(1.0);
                let width = self.of_full("head_dim", "global_head_dim")?;
                let turned = (width as f64 * share.clamp(0.0, 1.0) / 2.0) as u64;
                // What is not turned at all is turned by next to nothing.
                let factor = |pair: u64| if pair < turned { 1.0 } else { 1e30 };
                vec![("rope_freqs.weight", (0..width / 2).map(factor).collect())]
            }
            _ => Vec::new(),
        })
    }

    /// Divisors of the frequencies, as Llama 3.1 stretches them.
    fn llama3(&self) -> Result<Vec<f32>> {
        let base = self.base()?;
        let dims = self.rotary_dims()?;
        let of = |key: &str| self.rope[key].as_f64().ok_or_else(|| self.absent(key));
        let (factor, low, high) = (of("factor")?, of("low_freq_factor")?, of("high_freq_factor")?);
        let context = of("original_max_position_embeddings")?;
        let one = |pair: u64| {
            let length = std::f64::consts::TAU * base.powf(2.0 * pair as f64 / dims as f64);
            if length < context / high {
                1.0
            } else if length > context / low {
                factor
            } else {
                let smooth = (context / length - low) / (high - low);
                1.0 / ((1.0 - smooth) / factor + smooth)
            }
        };
        Ok((0..dims / 2).map(|pair| one(pair) as f32).collect())
    }

    /// Writes every key.
    pub(super) fn write(&self, metadata: &mut Metadata) -> Result<()> {
        let family = self.family.ours;
        metadata.insert("general.architecture", Value::String(family.into()));
        let mut keys = Keys { family, metadata };
        // The first value of a key counts.
        match family {
            "qwen35" | "qwen35moe" => self.write_delta_net(&mut keys)?,
            "lfm2" | "lfm2moe" => self.write_short_convolution(&mut keys)?,
            "granitehybrid" => self.write_scan(&mut keys)?,
            "gemma4" => self.write_gemma4(&mut keys)?,
            "muse-glimmer" => keys.real("logit_scale", self.real("output_multiplier")?),
            "gpt-oss" if self.json["swiglu_limit"].as_f64().is_some_and(|limit| limit != 7.0) => {
                return Err(self.refused("swiglu_limit is another than 7"));
            }
            _ => {}
        }
        let heads = self.whole("num_attention_heads")?;
        let layers = self.whole("num_hidden_layers")?;
        keys.whole("block_count", layers);
        keys.whole("context_length", self.whole("max_position_embeddings")?);
        keys.whole("embedding_length", self.whole("hidden_size")?);
        let experts = self.optional("moe_intermediate_size").filter(|_| self.json["intermediate_size"].is_null());
        keys.whole("feed_forward_length", experts.map_or_else(|| self.whole("intermediate_size"), Ok)?);
        keys.whole("attention.head_count", heads);
        keys.whole("attention.head_count_kv", self.optional("num_key_value_heads").unwrap_or(heads));
        let head_dim = self.head_dim()?;
        keys.whole("attention.key_length", head_dim);
        keys.whole("attention.value_length", head_dim);
        if family == "cohere2" {
            keys.real("attention.layer_norm_epsilon", self.real("layer_norm_eps")?);
        } else if family.starts_with("lfm2") {
            keys.real("attention.layer_norm_rms_epsilon", self.real("norm_eps")?);
        } else {
            keys.real("attention.layer_norm_rms_epsilon", self.real("rms_norm_eps")?);
        }
        self.check_activation()?;
        self.write_rotary(&mut keys)?;
        self.write_window(&mut keys, layers)?;
        self.write_experts(&mut keys)?;
        self.write_scales(&mut keys);
        Ok(())
    }

    /// Which layers attend.
    fn attending(&self) -> Result<Vec<bool>> {
        let layers = self.whole("num_hidden_layers")?;
        let named = self.json["layer_types"].as_array().map(|kinds| {
            kinds.iter().map(|kind| matches!(kind.as_str(), Some("attention" | "full_attention"))).collect::<Vec<_>>()
        });
        let every = || {
            let every = self.optional("full_attention_interval").filter(|&every| every > 0)?;
            Some((1..=layers).map(|layer| layer % every == 0).collect())
        };
        let counted = || {
            let indices = self.json["full_attn_idxs"].as_array()?;
            Some((0..layers).map(|layer| indices.iter().any(|index| index.as_u64() == Some(layer))).collect())
        };
        let found = named.or_else(every).or_else(counted).ok_or_else(|| self.refused("layer_types is missing"))?;
        if found.len() as u64 == layers { Ok(found) } else { Err(self.refused("layer_types is not of all layers")) }
    }

    /// Heads of keys and values of each layer, none where it does not attend.
    fn write_hybrid(&self, keys: &mut Keys<'_>) -> Result<()> {
        let heads = self.optional("num_key_value_heads").unwrap_or(self.whole("num_attention_heads")?);
        let counts = self.attending()?.into_iter().map(|attends| if attends { heads as i64 } else { 0 });
        keys.insert("attention.head_count_kv", Value::Array(Array::Signed(counts.collect())));
        Ok(())
    }

    fn write_delta_net(&self, keys: &mut Keys<'_>) -> Result<()> {
        if self.json["attn_output_gate"] == Json::Bool(false) {
            return Err(self.refused("attn_output_gate is false: attention without a gate is not computed here"));
        }
        let (heads, width) = (self.whole("linear_num_value_heads")?, self.whole("linear_value_head_dim")?);
        keys.whole("ssm.conv_kernel", self.whole("linear_conv_kernel_dim")?);
        keys.whole("ssm.state_size", self.whole("linear_key_head_dim")?);
        keys.whole("ssm.group_count", self.whole("linear_num_key_heads")?);
        keys.whole("ssm.time_step_rank", heads);
        keys.whole("ssm.inner_size", heads.saturating_mul(width));
        let recurrent = self.attending()?.into_iter().map(|attends| !attends).collect();
        keys.insert("attention.recurrent_layers", Value::Array(Array::Bool(recurrent)));
        keys.whole("full_attention_interval", self.optional("full_attention_interval").unwrap_or(4));
        // Of pictures; in texts all sections are turned alike.
        let sections = self.rope["mrope_section"].as_array().into_iter().flatten().filter_map(Json::as_i64);
        let mut sections: Vec<i64> = sections.take(4).collect();
        if sections.is_empty() {
            sections = vec![11, 11, 10];
        }
        sections.resize(4, 0);
        keys.insert("rope.dimension_sections", Value::Array(Array::Signed(sections)));
        Ok(())
    }

    fn write_short_convolution(&self, keys: &mut Keys<'_>) -> Result<()> {
        if self.json["conv_bias"] == Json::Bool(true) {
            return Err(self.refused("conv_bias is true: convolutions with biases are not computed here"));
        }
        self.write_hybrid(keys)?;
        keys.whole("shortconv.l_cache", self.whole("conv_L_cache")?);
        if let Some(size) = self.optional("vocab_size") {
            keys.whole("vocab_size", size);
        }
        if self.is_family("lfm2moe") {
            keys.whole("leading_dense_block_count", self.whole("num_dense_layers")?);
            keys.whole("expert_gating_func", 2);
            if let Some(scale) = self.json["routed_scaling_factor"].as_f64() {
                keys.real("expert_weights_scale", scale);
            }
            return Ok(());
        }
        let mut width = self.optional("block_ff_dim").map_or_else(|| self.whole("intermediate_size"), Ok)?;
        if self.json["block_auto_adjust_ff_dim"] != Json::Bool(false) {
            let factor = self.json["block_ffn_dim_multiplier"].as_f64().unwrap_or(1.0);
            let multiple = self.optional("block_multiple_of").unwrap_or(256).clamp(1, MOST_SIZE);
            width = ((width.min(MOST_SIZE) * 2 / 3) as f64 * factor) as u64;
            width = width.min(MOST_SIZE).next_multiple_of(multiple);
        }
        keys.whole("feed_forward_length", width);
        Ok(())
    }

    fn write_scan(&self, keys: &mut Keys<'_>) -> Result<()> {
        self.write_hybrid(keys)?;
        let heads = self.whole("mamba_n_heads")?;
        let width = self.optional("mamba_d_head");
        let width =
            width.or_else(|| Some(self.optional("mamba_expand")? * self.optional("hidden_size")? / heads.max(1)));
        keys.whole("ssm.conv_kernel", self.whole("mamba_d_conv")?);
        keys.whole("ssm.state_size", self.whole("mamba_d_state")?);
        keys.whole("ssm.group_count", self.whole("mamba_n_groups")?);
        keys.whole("ssm.time_step_rank", heads);
        keys.whole("ssm.inner_size", heads.saturating_mul(width.ok_or_else(|| self.absent("mamba_d_head"))?));
        let turns = self.json["position_embedding_type"].as_str() == Some("rope");
        keys.insert("rope.scaling.finetuned", Value::Bool(turns));
        if !self.has_experts() {
            keys.whole("feed_forward_length", self.whole("shared_intermediate_size")?);
        }
        Ok(())
    }

    /// Whether layers have experts.
    pub(super) fn has_experts(&self) -> bool {
        ["num_local_experts", "num_experts"].iter().any(|key| self.optional(key).is_some_and(|count| count > 0))
    }

    /// A size of the layers without a window: under its own key, or in what is said of each layer.
    fn of_full(&self, key: &str, own: &str) -> Result<u64> {
        let found = self.full(key, own)?.map_or_else(|| self.whole(key), Ok)?;
        if found > MOST_SIZE { Err(self.refused(&format!("`{own}` is more than any model has"))) } else { Ok(found) }
    }

    fn full(&self, key: &str, own: &str) -> Result<Option<u64>> {
        let mut found = self.optional(own);
        for (layer, config) in self.json["per_layer_config"].as_object().into_iter().flatten() {
            let kind = layer.parse().ok().and_then(|layer: usize| self.json["layer_types"][layer].as_str());
            let size = config[key].as_u64();
            if size.is_some() && kind == Some("sliding_attention") || found.is_some() && size.is_some() && size != found
            {
                return Err(self.refused(&format!("per_layer_config has several sizes of {key} in layers of one kind")));
            }
            found = found.or(size);
        }
        Ok(found)
    }

    fn write_gemma4(&self, keys: &mut Keys<'_>) -> Result<()> {
        for (key, what) in [
            ("hidden_size_per_layer_input", "embeddings of each layer"),
            ("num_kv_shared_layers", "layers that share keys and values"),
        ] {
            if self.optional(key).is_some_and(|count| count > 0) {
                return Err(self.refused(&format!("`{key}` is not 0: {what} are not computed here")));
            }
        }
        if self.json["enable_moe_block"] == Json::Bool(true) {
            return Err(self.refused("enable_moe_block is true: experts beside a network are not computed here"));
        }
        let (width, local) = (self.of_full("head_dim", "global_head_dim")?, self.whole("head_dim")?);
        for (key, size) in
            [("key_length", width), ("value_length", width), ("key_length_swa", local), ("value_length_swa", local)]
        {
            keys.whole(&format!("attention.{key}"), size);
        }
        keys.whole("rope.dimension_count", width);
        let share = self.rope["sliding_attention"]["partial_rotary_factor"].as_f64().unwrap_or(1.0);
        keys.whole("rope.dimension_count_swa", (local as f64 * share.clamp(0.0, 1.0)) as u64);
        let heads = self.whole("num_key_value_heads")?;
        if let Some(full) = self.full("num_key_value_heads", "num_global_key_value_heads")? {
            let kinds = self.json["layer_types"].as_array().ok_or_else(|| self.refused("layer_types is missing"))?;
            let counts = kinds.iter().map(|kind| if kind == "sliding_attention" { heads } else { full } as i64);
            keys.insert("attention.head_count_kv", Value::Array(Array::Signed(counts.collect())));
        }
        Ok(())
    }

    fn check_activation(&self) -> Result<()> {
        let named = self.json["hidden_activation"].as_str().or_else(|| self.json["hidden_act"].as_str());
        match named {
            Some(named) if !self.family.activation.contains(&named) => {
                Err(self.refused(&format!("hidden_act is {named}, where {} is computed", self.family.activation[0])))
            }
            _ => Ok(()),
        }
    }

    /// The kind of scaling of the rotary frequencies.
    fn scaling(&self) -> &str {
        let rope = if self.rope["full_attention"].is_object() { &self.rope["full_attention"] } else { &self.rope };
        rope["rope_type"].as_str().or_else(|| rope["type"].as_str()).unwrap_or("default")
    }

    fn base(&self) -> Result<f64> {
        let places = [&self.rope["full_attention"]["rope_theta"], &self.rope["rope_theta"], &self.json["rope_theta"]];
        places.iter().find_map(|value| value.as_f64()).ok_or_else(|| self.absent("rope_theta"))
    }

    fn head_dim(&self) -> Result<u64> {
        match self.optional("head_dim") {
            Some(head_dim) => Ok(head_dim),
            None => Ok(self.whole("hidden_size")? / self.whole("num_attention_heads")?.max(1)),
        }
    }

    fn rotary_dims(&self) -> Result<u64> {
        let share = [&self.rope["partial_rotary_factor"], &self.json["partial_rotary_factor"]];
        let usual = if self.family.ours.starts_with("qwen35") { 0.25 } else { 1.0 };
        let share = share.iter().find_map(|value| value.as_f64()).unwrap_or(usual);
        Ok((self.head_dim()? as f64 * share.clamp(0.0, 1.0)) as u64)
    }

    fn write_rotary(&self, keys: &mut Keys<'_>) -> Result<()> {
        let rope = if self.rope["full_attention"].is_object() { &self.rope["full_attention"] } else { &self.rope };
        let of = |key: &str| rope[key].as_f64();
        let mut base = self.base()?;
        keys.whole("rope.dimension_count", self.rotary_dims()?);
        let original = of("original_max_position_embeddings");
        let original = original.or_else(|| self.json["original_max_position_embeddings"].as_f64());
        match self.scaling() {
            "default" | "llama3" => {}
            // By factors of the frequencies.
            "proportional" if self.is_family("gemma4") => {}
            "linear" => {
                keys.text("rope.scaling.type", "linear");
                keys.real("rope.scaling.factor", of("factor").ok_or_else(|| self.absent("factor"))?);
            }
            "yarn" => {
                keys.text("rope.scaling.type", "yarn");
                keys.real("rope.scaling.factor", of("factor").ok_or_else(|| self.absent("factor"))?);
                if let Some(original) = original {
                    keys.whole("rope.scaling.original_context_length", original as u64);
                }
                for (theirs, ours) in [
                    ("beta_fast", "rope.scaling.yarn_beta_fast"),
                    ("beta_slow", "rope.scaling.yarn_beta_slow"),
                    ("attention_factor", "rope.scaling.yarn_attn_factor"),
                    ("mscale_all_dim", "rope.scaling.yarn_log_multiplier"),
                ] {
                    if let Some(value) = of(theirs) {
                        keys.real(ours, value);
                    }
                }
                if of("mscale").is_some_and(|scale| scale != 1.0)
                    || (rope["truncate"] == Json::Bool(false)) != self.is_family("gpt-oss")
                {
                    return Err(self.refused("a YaRN with mscale, or of another truncate, is not computed"));
                }
            }
            "longrope" | "su" => {
                let original = original.ok_or_else(|| self.absent("original_max_position_embeddings"))?;
                let longer = self.whole("max_position_embeddings")? as f64 / original;
                let usual = if longer > 1.0 { (1.0 + longer.ln() / original.ln()).sqrt() } else { 1.0 };
                keys.real("rope.scaling.attn_factor", of("attention_factor").unwrap_or(usual));
                keys.whole("rope.scaling.original_context_length", original as u64);
            }
            // Stretched once and for all, for a context that all of its texts have.
            "dynamic" if self.family.ours == "hunyuan-dense" && of("alpha").is_some() => {
                let dims = self.head_dim()? as f64;
                base *= of("alpha").unwrap_or(1.0).powf(dims / (dims - 2.0));
            }
            other => return Err(self.refused(&format!("rotary frequencies scaled by {other} are not computed"))),
        }
        keys.real("rope.freq_base", base);
        let local = self.rope["sliding_attention"]["rope_theta"].as_f64();
        if let Some(local) = local.or_else(|| self.json["rope_local_base_freq"].as_f64()) {
            keys.real("rope.freq_base_swa", local);
        }
        if let Some(scale) = of("llama_4_scaling_beta") {
            keys.real("attention.temperature_scale", scale);
        }
        Ok(())
    }

    fn write_window(&self, keys: &mut Keys<'_>, layers: u64) -> Result<()> {
        let skipped = self.json["no_rope_layers"].as_array().map(|flags| {
            flags.iter().enumerate().all(|(layer, flag)| flag.as_u64() == Some(u64::from((layer + 1) % 4 != 0)))
        });
        if skipped == Some(false) {
            return Err(self.refused("no_rope_layers is not every fourth layer"));
        }
        let is_off = self.json["use_sliding_window"] == Json::Bool(false);
        let window = self.optional("sliding_window").filter(|&window| window > 0 && !is_off);
        let Some(window) = window else { return Ok(()) };
        // Elsewhere a window that a configuration carries along is of no use.
        let from = self.json["use_sliding_window"].as_bool().map(|_| self.optional("max_window_layers").unwrap_or(0));
        let kinds = self.json["layer_types"]
            .as_array()
            .map(|kinds| kinds.iter().map(|kind| kind.as_str() == Some("sliding_attention")).collect::<Vec<bool>>());
        let flags = kinds.or_else(|| from.map(|from| (0..layers).map(|layer| layer >= from).collect()));
        if flags.as_ref().is_some_and(|flags| !flags.contains(&true)) {
            return Ok(());
        }
        if self.family.ours == "qwen3moe" && flags.is_none() {
            return Ok(());
        }
        keys.whole("attention.sliding_window", window);
        let pattern = self.optional("sliding_window_pattern");
        let flags = flags.or_else(|| {
            let every = pattern.filter(|&every| every > 0)?;
            Some((0..layers).map(|layer| (layer + 1) % every != 0).collect())
        });
        if let Some(flags) = flags {
            keys.insert("attention.sliding_window_pattern", Value::Array(Array::Bool(flags)));
        }
        Ok(())
    }

    fn write_experts(&self, keys: &mut Keys<'_>) -> Result<()> {
        let count = ["num_local_experts", "num_experts"].iter().find_map(|key| self.optional(key));
        let Some(count) = count.filter(|&count| count > 0) else { return Ok(()) };
        let is_mixed = self.json["mlp_only_layers"].as_array().is_some_and(|layers| !layers.is_empty())
            || self.optional("decoder_sparse_step").is_some_and(|step| step != 1);
        if is_mixed {
            return Err(self.refused("layers without experts between others are not computed"));
        }
        keys.whole("expert_count", count);
        keys.whole("expert_used_count", self.whole("num_experts_per_tok")?);
        if let Some(width) = self.optional("moe_intermediate_size") {
            keys.whole("expert_feed_forward_length", width);
        }
        let shared = ["shared_expert_intermediate_size", "shared_intermediate_size"];
        if let Some(width) = shared.iter().find_map(|key| self.optional(key)).filter(|&width| width > 0) {
            keys.whole("expert_shared_feed_forward_length", width);
        }
        if let Some(is_normalised) = self.json["norm_topk_prob"].as_bool() {
            keys.insert("expert_weights_norm", Value::Bool(is_normalised));
        }
        Ok(())
    }

    fn write_scales(&self, keys: &mut Keys<'_>) {
        for (theirs, ours) in [
            ("attention_multiplier", "attention.scale"),
            ("embedding_multiplier", "embedding_scale"),
            ("residual_multiplier", "residual_scale"),
            ("logits_scaling", "logit_scale"),
            ("logit_scale", "logit_scale"),
            ("attn_logit_softcapping", "attn_logit_softcapping"),
            ("final_logit_softcapping", "final_logit_softcapping"),
        ] {
            if let Some(value) = self.json[theirs].as_f64() {
                keys.real(ours, value);
            }
        }
        if let Some(scalar) = self.json["query_pre_attn_scalar"].as_f64() {
            keys.real("attention.scale", scalar.powf(-0.5));
        }
    }

    fn optional(&self, key: &str) -> Option<u64> {
        self.json[key].as_u64()
    }

    fn whole(&self, key: &str) -> Result<u64> {
        self.optional(key).ok_or_else(|| self.absent(key))
    }

    fn real(&self, key: &str) -> Result<f64> {
        self.json[key].as_f64().ok_or_else(|| self.absent(key))
    }

    fn absent(&self, key: &str) -> Error {
        Error::input(&self.path, format!("has no number at `{key}`"), "get the files of the model again")
    }

    fn refused(&self, what: &str) -> Error {
        Error::input(&self.path, what, "use another model, or a GGUF file of this one")
    }
}

/// Keys of one family.
struct Keys<'a> {
    family: &'static str,
    metadata: &'a mut Metadata,
}

impl Keys<'_> {
    fn insert(&mut self, key: &str, value: Value) {
        self.metadata.insert(format!("{}.{key}", self.family), value);
    }

    fn whole(&mut self, key: &str, value: u64) {
        self.insert(key, Value::Unsigned(value));
    }

    fn real(&mut self, key: &str, value: f64) {
        // Files keep them in 32 bits.
        self.insert(key, Value::Float(f64::from(value as f32)));
    }

    fn text(&mut self, key: &str, value: &str) {
        self.insert(key, Value::String(value.into()));
    }
}
