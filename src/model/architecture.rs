//! What distinguishes one decoder family from another, read from GGUF metadata as plain values.
//!
//! A new family is a new row in [`FAMILIES`] when it differs only in these values.

use crate::error::{Error, Result};
use crate::gguf::Gguf;

/// How a family deviates from the common decoder.
struct Family {
    /// `general.architecture`.
    name: &'static str,
    /// Rotary pairs stand next to each other in the file (llama.cpp's NORM) rather than half a head
    /// apart (NEOX).
    rotary_interleaved: bool,
    /// Every so-many-th layer leaves positions alone; 0 for none.
    rotary_skipped_every: usize,
}

const FAMILIES: &[Family] = &[
    Family { name: "llama", rotary_interleaved: true, rotary_skipped_every: 0 },
    Family { name: "qwen2", rotary_interleaved: false, rotary_skipped_every: 0 },
    Family { name: "qwen3", rotary_interleaved: false, rotary_skipped_every: 0 },
    Family { name: "smollm3", rotary_interleaved: true, rotary_skipped_every: 4 },
    Family { name: "granite", rotary_interleaved: true, rotary_skipped_every: 0 },
];

/// Largest sizes that are believed: metadata are untrusted, and allocations follow them.
const MOST_LAYERS: usize = 1 << 10;
const MOST_WIDTH: usize = 1 << 20;
const MOST_CONTEXT: usize = 1 << 17;

/// Sizes and constants of a decoder-only transformer.
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
    /// `general.architecture`.
    pub family: String,
    /// Transformer blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward network.
    pub feed_forward: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Tokens, and the width of the logits.
    pub vocab_size: usize,
    /// Most positions of a sequence (at most 131,072).
    pub context_length: usize,
    /// Epsilon of the root-mean-square norms.
    pub norm_epsilon: f32,
    /// Base of the rotary frequencies.
    pub rotary_base: f32,
    /// Positions are divided by this (linear rope scaling); 1 leaves them alone.
    pub rotary_linear_factor: f32,
    /// See [`Family::rotary_interleaved`].
    pub rotary_interleaved: bool,
    /// See [`Family::rotary_skipped_every`].
    pub rotary_skipped_every: usize,
    /// Factor of the token embeddings.
    pub embedding_scale: f32,
    /// Factor of queries: `1 / sqrt(head_dim)` unless the file says otherwise.
    pub attention_scale: f32,
    /// Factor of what a stage adds to the residual stream.
    pub residual_scale: f32,
    /// Factor of the logits.
    pub logit_scale: f32,
}

impl Architecture {
    /// Whether a layer's queries and keys are turned by their positions.
    pub fn is_rotary(&self, layer: usize) -> bool {
        self.rotary_skipped_every == 0 || !(layer + 1).is_multiple_of(self.rotary_skipped_every)
    }

    /// Reads and checks the metadata of a file.
    ///
    /// # Errors
    /// When the family is unknown, a key is missing or absurd, or a feature is asked for that the
    /// decoder does not have; always naming the key.
    pub fn from_gguf(name: &str, file: &Gguf) -> Result<Self> {
        let metadata = file.metadata();
        let family = metadata.str("general.architecture")?;
        let Some(known) = FAMILIES.iter().find(|known| known.name == family) else {
            let names: Vec<&str> = FAMILIES.iter().map(|known| known.name).collect();
            return Err(Error::model(
                name,
                format!("architecture `{family}` is not supported"),
                format!("use a GGUF file of one of these: {}", names.join(", ")),
            ));
        };
        let key = |part: &str| format!("{family}.{part}");
        let size = |part: &str, most: usize| -> Result<usize> {
            let value = metadata.u32(&key(part))? as usize;
            if value == 0 || value > most {
                return Err(absurd(name, &key(part), value));
            }
            Ok(value)
        };
        let heads = size("attention.head_count", MOST_WIDTH)?;
        let hidden = size("embedding_length", MOST_WIDTH)?;
        let optional = |part: &str, default: usize| -> Result<usize> {
            Ok(metadata.opt_u32(&key(part))?.map_or(default, |value| value as usize))
        };
        let kv_heads = optional("attention.head_count_kv", heads)?;
        let head_dim = optional("attention.key_length", hidden / heads)?;
        let refuse = |what: String| Error::model(name, what, "use another file of this model, or another model");
        if kv_heads == 0 || heads % kv_heads != 0 || head_dim == 0 || head_dim % 2 != 0 || head_dim > MOST_WIDTH {
            return Err(refuse(format!("{heads} heads over {kv_heads} of width {head_dim} cannot be computed")));
        }
        if optional("attention.value_length", head_dim)? != head_dim {
            return Err(refuse(format!("`{}` differs from the key length", key("attention.value_length"))));
        }
        if optional("rope.dimension_count", head_dim)? != head_dim {
            return Err(refuse(format!("`{}` covers only a part of a head", key("rope.dimension_count"))));
        }
        if optional("expert_count", 0)? > 0 {
            return Err(refuse("mixture-of-experts layers are not supported".into()));
        }
        let scaling = metadata.opt_str(&key("rope.scaling.type"))?.unwrap_or("none");
        let rotary_linear_factor = match scaling {
            "none" => 1.0,
            "linear" => metadata.f32(&key("rope.scaling.factor"))?,
            other => return Err(refuse(format!("rope scaling `{other}` is not supported"))),
        };
        let rotary_base = metadata.opt_f32(&key("rope.freq_base"))?.unwrap_or(10_000.0);
        let norm_epsilon = metadata.f32(&key("attention.layer_norm_rms_epsilon"))?;
        let factor = |part: &str| metadata.opt_f32(&key(part));
        let embedding_scale = factor("embedding_scale")?.unwrap_or(1.0);
        let attention_scale = factor("attention.scale")?.unwrap_or_else(|| 1.0 / (head_dim as f32).sqrt());
        let residual_scale = factor("residual_scale")?.unwrap_or(1.0);
        // The file holds the divisor.
        let logit_divisor = factor("logit_scale")?.unwrap_or(1.0);
        for (part, value) in [
            ("rope.scaling.factor", rotary_linear_factor),
            ("rope.freq_base", rotary_base),
            ("embedding_scale", embedding_scale),
            ("attention.scale", attention_scale),
            ("residual_scale", residual_scale),
            ("logit_scale", logit_divisor),
        ] {
            if !(value.is_finite() && value > 0.0) {
                return Err(absurd(name, &key(part), value));
            }
        }
        let vocab_size = file.tensor("token_embd.weight")?.dims.get(1).map_or(0, |&rows| rows as usize);
        if vocab_size == 0 || vocab_size > MOST_WIDTH {
            return Err(absurd(name, "token_embd.weight (rows)", vocab_size));
        }
        Ok(Self {
            family: family.to_owned(),
            layers: size("block_count", MOST_LAYERS)?,
            hidden,
            feed_forward: size("feed_forward_length", MOST_WIDTH)?,
            heads,
            kv_heads,
            head_dim,
            vocab_size,
            context_length: (metadata.u32(&key("context_length"))? as usize).clamp(1, MOST_CONTEXT),
            norm_epsilon,
            rotary_base,
            rotary_linear_factor,
            rotary_interleaved: known.rotary_interleaved,
            rotary_skipped_every: known.rotary_skipped_every,
            embedding_scale,
            attention_scale,
            residual_scale,
            logit_scale: 1.0 / logit_divisor,
        })
    }
}

fn absurd(name: &str, key: &str, value: impl std::fmt::Display) -> Error {
    Error::model(name, format!("`{key}` is {value}"), "the file is damaged")
}
