//! A BERT encoder (Devlin and others 2018) in Candle's operations, over one text.
//!
//! Only what a sentence embedder needs: no padding, no mask, no second segment, no pooler. Names of tensors are
//! those of the transformers library.

use candle_core::{Module, Result, Tensor};
use candle_nn::ops::softmax_last_dim;
use candle_nn::{LayerNorm, Linear, VarBuilder, layer_norm, linear};
use serde::Deserialize;

use instil_grammar::vocab::TokenId;

/// What `config.json` says of an encoder, as far as it matters here.
#[derive(Debug, Deserialize)]
pub(super) struct Config {
    model_type: String,
    pub(super) vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    hidden_act: String,
    pub(super) max_position_embeddings: usize,
    type_vocab_size: usize,
    layer_norm_eps: f64,
    #[serde(default = "absolute")]
    position_embedding_type: String,
}

fn absolute() -> String {
    "absolute".into()
}

/// Greatest of any size in a configuration: no encoder comes near it, and products of two stay in bounds.
const MOST: usize = 1 << 20;

impl Config {
    /// Reads and checks it; what is wrong as one clause.
    pub(super) fn parse(text: &[u8]) -> std::result::Result<Self, String> {
        let config: Self = serde_json::from_slice(text).map_err(|cause| format!("line {}: {cause}", cause.line()))?;
        let named = [
            ("model_type", &config.model_type, "bert"),
            ("hidden_act", &config.hidden_act, "gelu"),
            ("position_embedding_type", &config.position_embedding_type, "absolute"),
        ];
        if let Some((key, is, can)) = named.into_iter().find(|(_, is, can)| is != can) {
            return Err(format!("{key} is `{is}`, and only `{can}` can be computed"));
        }
        let sizes = [
            ("vocab_size", config.vocab_size),
            ("hidden_size", config.hidden_size),
            ("num_hidden_layers", config.num_hidden_layers),
            ("num_attention_heads", config.num_attention_heads),
            ("intermediate_size", config.intermediate_size),
            ("type_vocab_size", config.type_vocab_size),
        ];
        if let Some((key, size)) = sizes.into_iter().find(|(_, size)| !(1..=MOST).contains(size)) {
            return Err(format!("{key} is {size}"));
        }
        if !(3..=MOST).contains(&config.max_position_embeddings) {
            return Err(format!("max_position_embeddings is {}", config.max_position_embeddings));
        }
        if !config.hidden_size.is_multiple_of(config.num_attention_heads) {
            let (size, heads) = (config.hidden_size, config.num_attention_heads);
            return Err(format!("hidden_size {size} cannot be split into {heads} heads"));
        }
        Ok(config)
    }
}

/// The encoder.
pub(super) struct Bert {
    /// `(vocabulary, hidden)`.
    words: Tensor,
    /// `(positions, hidden)`, with the embedding of the first segment added.
    positions: Tensor,
    norm: LayerNorm,
    layers: Vec<Layer>,
    heads: usize,
}

struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    attended: Linear,
    attended_norm: LayerNorm,
    up: Linear,
    down: Linear,
    norm: LayerNorm,
}

impl Bert {
    pub(super) fn load(config: &Config, variables: &VarBuilder) -> Result<Self> {
        let hidden = config.hidden_size;
        let embeddings = variables.pp("embeddings");
        let table = |name: &str, rows: usize| embeddings.pp(name).get((rows, hidden), "weight");
        let segments = table("token_type_embeddings", config.type_vocab_size)?;
        let positions = table("position_embeddings", config.max_position_embeddings)?;
        let norm = |variables: VarBuilder| layer_norm(hidden, config.layer_norm_eps, variables);
        let layers = (0..config.num_hidden_layers).map(|index| {
            let layer = variables.pp(format!("encoder.layer.{index}"));
            let attention = layer.pp("attention");
            let projection = |name: &str| linear(hidden, hidden, attention.pp("self").pp(name));
            Ok(Layer {
                query: projection("query")?,
                key: projection("key")?,
                value: projection("value")?,
                attended: linear(hidden, hidden, attention.pp("output.dense"))?,
                attended_norm: norm(attention.pp("output.LayerNorm"))?,
                up: linear(hidden, config.intermediate_size, layer.pp("intermediate.dense"))?,
                down: linear(config.intermediate_size, hidden, layer.pp("output.dense"))?,
                norm: norm(layer.pp("output.LayerNorm"))?,
            })
        });
        Ok(Self {
            words: table("word_embeddings", config.vocab_size)?,
            positions: positions.broadcast_add(&segments.narrow(0, 0, 1)?)?,
            norm: norm(embeddings.pp("LayerNorm"))?,
            layers: layers.collect::<Result<_>>()?,
            heads: config.num_attention_heads,
        })
    }

    pub(super) fn hidden_size(&self) -> usize {
        self.words.dims()[1]
    }

    /// The mean of the last states of a text, `(hidden)`.
    pub(super) fn mean_state(&self, ids: &[TokenId]) -> Result<Vec<f32>> {
        let words = self.words.index_select(&Tensor::new(ids, self.words.device())?, 0)?;
        let mut states = self.norm.forward(&(words + self.positions.narrow(0, 0, ids.len())?)?)?;
        for layer in &self.layers {
            states = layer.forward(&states, self.heads)?;
        }
        states.mean(0)?.to_vec1()
    }
}

impl Layer {
    /// `(length, hidden)` → the same.
    fn forward(&self, states: &Tensor, heads: usize) -> Result<Tensor> {
        let (length, hidden) = states.dims2()?;
        let split = |tensor: Tensor| tensor.reshape((length, heads, hidden / heads))?.transpose(0, 1)?.contiguous();
        let scale = 1.0 / ((hidden / heads) as f64).sqrt();
        let query = split((self.query.forward(states)? * scale)?)?;
        let (key, value) = (split(self.key.forward(states)?)?, split(self.value.forward(states)?)?);
        let weights = softmax_last_dim(&query.matmul(&key.transpose(1, 2)?)?)?;
        let attended = weights.matmul(&value)?.transpose(0, 1)?.reshape((length, hidden))?;
        let states = self.attended_norm.forward(&(self.attended.forward(&attended)? + states)?)?;
        let inner = self.up.forward(&states)?.gelu_erf()?;
        self.norm.forward(&(self.down.forward(&inner)? + &states)?)
    }
}
