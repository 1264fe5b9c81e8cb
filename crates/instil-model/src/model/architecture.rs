//! What distinguishes one decoder family from another, as plain values.
//!
//! A new family is a new row in [`FAMILIES`] when it differs only in these values; nothing else asks for
//! a family by name. How the values are read from a file, and what is refused, is in `architecture/read.rs`.
//!
//! What files of a family hold, and what their writer has done to the weights already (Gemma's norms hold
//! `1 + w`, Llama's query and key rows are interleaved), follows llama.cpp, which writes and reads them:
//! `gguf-py/gguf/constants.py`, `conversion/*.py` and `src/models/*.cpp` of
//! <https://github.com/ggml-org/llama.cpp>.

mod read;

/// How a family deviates from the common decoder.
struct Family {
    /// `general.architecture`.
    name: &'static str,
    /// Rotary pairs stand next to each other in the file (llama.cpp's NORM) rather than half a head
    /// apart (NEOX).
    rotary_interleaved: bool,
    /// Every so-many-th layer leaves positions alone; 0 for none.
    rotary_skipped_every: usize,
    /// `rope.scaling.finetuned = false` means that positions are left alone altogether.
    rotary_switch: bool,
    /// How the layers inside a sliding window turn positions, where they do it in their own way.
    local_rotary: LocalRotary,
    /// Which layers have the sliding window.
    sliding: Sliding,
    /// The window where the file does not say.
    sliding_window: u32,
    /// Where there is a sliding window, layers outside of it leave positions alone.
    rotary_local_only: bool,
    /// YaRN's pairs between those that are kept and those that are divided are counted from whole ones.
    yarn_whole_pairs: bool,
    activation: Activation,
    pre_norms: bool,
    post_norms: bool,
    /// Epsilon of the norms of outputs, where it is not that of the others.
    post_norm_epsilon: Option<f32>,
    second_norm: SecondNorm,
    centred: bool,
    query_key_norm: Option<NormSpan>,
    norm_after_rotary: bool,
    sinks: bool,
    /// Embeddings are multiplied by the square root of the width.
    scales_embeddings: bool,
    norms_embeddings: bool,
    /// Layers of the sliding window have heads of other sizes than the others.
    local_heads: bool,
    /// Values are normed, and where they have no matrix they are the keys.
    norms_values: bool,
    /// Layers end in a factor.
    scales_layers: bool,
    /// Factor of queries, where the file does not say and it is not that of the heads' width.
    attention_scale: Option<f32>,
    /// A model of so many layers scales its queries by the width over the number of heads, which its
    /// heads do not have.
    scaled_by_width_at: Option<u32>,
    /// Soft caps of attention scores and of logits, where the file does not say; 0 for none.
    caps: (f32, f32),
    /// The file's scale of logits is a factor, where others have a divisor.
    scales_logits: bool,
    /// How rows are dealt to experts, where a file has some; `None` where the family has none.
    routing: Option<Routing>,
    attention_gate: Option<AttentionGate>,
    recurrence: Option<Recurrent>,
}

/// What the recurrent layers of a family are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recurrent {
    ShortConvolution,
    DeltaNet,
    Scan,
}

/// How rows are dealt to experts, where the file does not say.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Routing {
    scoring: Scoring,
    is_normalised: bool,
    /// Added to the sum that weights are divided by.
    epsilon: f32,
    /// Whether a shared expert's part is weighed.
    weighs_shared: bool,
}

/// Shares of all experts, of which the greatest are taken.
const SHARES: Routing = Routing { scoring: Scoring::Softmax, is_normalised: false, epsilon: 0.0, weighs_shared: false };
/// Shares of those that are taken.
const SHARES_OF_CHOSEN: Routing = Routing { is_normalised: true, ..SHARES };

/// Rotation in the layers of a sliding window.
#[derive(Clone, Copy, Debug, PartialEq)]
enum LocalRotary {
    /// As in the others.
    Same,
    /// Unscaled, with this base where the file does not give one.
    Base(f32),
    /// Unscaled, with the base of the others.
    Unscaled,
}

/// Which layers have the sliding window, where the file does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sliding {
    /// Unknown: a file that has a window must say.
    Stated,
    /// All.
    All,
    /// All but every so-many-th.
    AllBut(usize),
}

/// The common decoder: Llama's, with rotary pairs half a head apart.
const COMMON: Family = Family {
    name: "",
    rotary_interleaved: false,
    rotary_skipped_every: 0,
    rotary_switch: false,
    local_rotary: LocalRotary::Same,
    sliding: Sliding::Stated,
    sliding_window: 0,
    rotary_local_only: false,
    yarn_whole_pairs: true,
    activation: Activation::Silu,
    pre_norms: true,
    post_norms: false,
    post_norm_epsilon: None,
    second_norm: SecondNorm::Own,
    centred: false,
    query_key_norm: None,
    norm_after_rotary: false,
    sinks: false,
    scales_embeddings: false,
    norms_embeddings: false,
    local_heads: false,
    norms_values: false,
    scales_layers: false,
    attention_scale: None,
    scaled_by_width_at: None,
    caps: (0.0, 0.0),
    scales_logits: false,
    routing: None,
    attention_gate: None,
    recurrence: None,
};

const FAMILIES: &[Family] = &[
    // Mistral's first models slide in every layer; Mixtral has experts.
    Family {
        name: "llama",
        rotary_interleaved: true,
        sliding: Sliding::All,
        routing: Some(SHARES_OF_CHOSEN),
        ..COMMON
    },
    Family { name: "mistral3", rotary_interleaved: true, ..COMMON },
    Family { name: "qwen2", ..COMMON },
    Family { name: "qwen3", query_key_norm: Some(NormSpan::Head), ..COMMON },
    Family { name: "qwen2moe", routing: Some(Routing { weighs_shared: true, ..SHARES }), ..COMMON },
    Family { name: "qwen3moe", query_key_norm: Some(NormSpan::Head), routing: Some(SHARES_OF_CHOSEN), ..COMMON },
    Family {
        name: "qwen35",
        second_norm: SecondNorm::NamedAfterAttention,
        query_key_norm: Some(NormSpan::Head),
        attention_gate: Some(AttentionGate::WithQueries),
        recurrence: Some(Recurrent::DeltaNet),
        ..COMMON
    },
    Family {
        name: "qwen35moe",
        second_norm: SecondNorm::NamedAfterAttention,
        query_key_norm: Some(NormSpan::Head),
        attention_gate: Some(AttentionGate::WithQueries),
        recurrence: Some(Recurrent::DeltaNet),
        routing: Some(Routing { weighs_shared: true, ..SHARES_OF_CHOSEN }),
        ..COMMON
    },
    Family {
        name: "lfm2",
        query_key_norm: Some(NormSpan::Head),
        recurrence: Some(Recurrent::ShortConvolution),
        ..COMMON
    },
    Family {
        name: "lfm2moe",
        query_key_norm: Some(NormSpan::Head),
        recurrence: Some(Recurrent::ShortConvolution),
        routing: Some(Routing { epsilon: 1e-6, ..SHARES_OF_CHOSEN }),
        ..COMMON
    },
    Family { name: "olmoe", query_key_norm: Some(NormSpan::Projection), routing: Some(SHARES), ..COMMON },
    Family { name: "smollm3", rotary_interleaved: true, rotary_skipped_every: 4, ..COMMON },
    Family { name: "granite", rotary_interleaved: true, rotary_switch: true, ..COMMON },
    Family {
        name: "granitemoe",
        rotary_interleaved: true,
        rotary_switch: true,
        routing: Some(SHARES_OF_CHOSEN),
        ..COMMON
    },
    Family {
        name: "granitehybrid",
        rotary_interleaved: true,
        rotary_switch: true,
        recurrence: Some(Recurrent::Scan),
        routing: Some(SHARES_OF_CHOSEN),
        ..COMMON
    },
    Family { name: "phi3", sliding: Sliding::All, ..COMMON },
    Family {
        name: "olmo2",
        pre_norms: false,
        post_norms: true,
        query_key_norm: Some(NormSpan::Projection),
        sliding: Sliding::AllBut(4),
        local_rotary: LocalRotary::Unscaled,
        ..COMMON
    },
    Family {
        name: "gpt-oss",
        sliding: Sliding::AllBut(2),
        yarn_whole_pairs: false,
        activation: Activation::ClampedSilu,
        second_norm: SecondNorm::NamedAfterAttention,
        sinks: true,
        routing: Some(Routing { scoring: Scoring::SoftmaxOfChosen, ..SHARES }),
        ..COMMON
    },
    Family { name: "glm4", rotary_interleaved: true, post_norms: true, ..COMMON },
    Family { name: "ernie4_5", rotary_interleaved: true, ..COMMON },
    Family { name: "hunyuan-dense", query_key_norm: Some(NormSpan::Head), norm_after_rotary: true, ..COMMON },
    Family {
        name: "exaone4",
        pre_norms: false,
        post_norms: true,
        query_key_norm: Some(NormSpan::Head),
        sliding: Sliding::AllBut(4),
        rotary_local_only: true,
        ..COMMON
    },
    Family { name: "seed_oss", second_norm: SecondNorm::NamedAfterAttention, ..COMMON },
    Family {
        name: "apertus",
        query_key_norm: Some(NormSpan::Head),
        // Each layer has its own; the file says which.
        activation: Activation::Xielu(Xielu { positive: 0.0, negative: 0.0, slope: 0.0, least: 0.0 }),
        ..COMMON
    },
    Family { name: "arcee", rotary_interleaved: true, activation: Activation::SquaredRelu, ..COMMON },
    Family {
        name: "cohere2",
        rotary_interleaved: true,
        rotary_local_only: true,
        sliding: Sliding::AllBut(4),
        second_norm: SecondNorm::Shared,
        centred: true,
        scales_logits: true,
        ..COMMON
    },
    Family {
        name: "muse-glimmer",
        rotary_interleaved: true,
        rotary_local_only: true,
        sliding: Sliding::AllBut(4),
        post_norms: true,
        post_norm_epsilon: Some(1e-8),
        query_key_norm: Some(NormSpan::Head),
        attention_gate: Some(AttentionGate::Apart),
        norms_embeddings: true,
        scales_logits: true,
        ..COMMON
    },
    Family { name: "gemma", activation: Activation::GeluTanh, scales_embeddings: true, ..COMMON },
    Family {
        name: "gemma2",
        activation: Activation::GeluTanh,
        scales_embeddings: true,
        post_norms: true,
        sliding: Sliding::AllBut(2),
        sliding_window: 4096,
        // The 27B model.
        scaled_by_width_at: Some(46),
        caps: (50.0, 30.0),
        ..COMMON
    },
    Family {
        name: "gemma3",
        activation: Activation::GeluTanh,
        scales_embeddings: true,
        post_norms: true,
        query_key_norm: Some(NormSpan::Head),
        sliding: Sliding::AllBut(6),
        local_rotary: LocalRotary::Base(10_000.0),
        // The 27B model.
        scaled_by_width_at: Some(62),
        ..COMMON
    },
    Family {
        name: "gemma4",
        activation: Activation::GeluTanh,
        scales_embeddings: true,
        post_norms: true,
        query_key_norm: Some(NormSpan::Head),
        norms_values: true,
        local_heads: true,
        local_rotary: LocalRotary::Base(10_000.0),
        attention_scale: Some(1.0),
        scales_layers: true,
        ..COMMON
    },
];

/// Sizes and constants of a decoder-only transformer.
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
    /// `general.architecture`.
    pub family: String,
    /// Transformer blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward network of layers that have one; 0 where none has.
    pub feed_forward: usize,
    /// What layers have instead of one network, from a layer on.
    pub experts: Option<Experts>,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Tokens, and the width of the logits.
    pub vocab_size: usize,
    /// Most positions of a sequence (at most 131,072). Files with two sets of rotary factors (LongRoPE) are
    /// computed with the short ones, as far as those reach: the long ones would change what a sequence's
    /// first tokens are once it has grown.
    pub context_length: usize,
    /// Epsilon of the root-mean-square norms.
    pub norm_epsilon: f32,
    /// That of the norms of outputs.
    pub post_norm_epsilon: f32,
    /// Leading values of each head that positions turn; even.
    pub rotary_dims: usize,
    /// How they are turned.
    pub rotary: RotaryForm,
    /// How they are turned in the layers of the sliding window, where that differs.
    pub local_rotary: Option<RotaryForm>,
    /// The sizes of heads in the layers of the sliding window, where those have their own.
    pub local_heads: Option<HeadSizes>,
    /// Rotary pairs stand next to each other in the file rather than half of the turned values apart.
    pub rotary_interleaved: bool,
    /// Every so-many-th layer leaves positions alone; 0 for none.
    pub rotary_skipped_every: usize,
    /// Where some layers are local, the others leave positions alone.
    pub rotary_local_only: bool,
    /// Positions that a row of a local layer sees, its own and those before it; `None` when that is all.
    pub sliding_window: Option<usize>,
    /// For each layer, whether it is one of the sliding window.
    pub local_layers: Vec<bool>,
    /// Of the feed-forward network; of its first layer where they differ.
    pub activation: Activation,
    /// Of each layer's network, where they differ; empty where not.
    pub activations: Vec<Activation>,
    /// Whether the input of attention and of the feed-forward network is normed.
    pub pre_norms: bool,
    /// Whether the output of attention and of the feed-forward network is normed.
    pub post_norms: bool,
    /// What norms the input of the feed-forward network, where inputs are normed.
    pub second_norm: SecondNorm,
    /// Whether norms of inputs take the mean away first (Ba et al., "Layer normalization", 2016).
    pub centred: bool,
    /// Norms of queries and keys.
    pub query_key_norm: Option<NormSpan>,
    /// Whether the values of each head are normed, without weights; they are the keys then where they have no matrix.
    pub norms_values: bool,
    /// Whether what a layer gives may have a factor.
    pub scales_layers: bool,
    /// Whether queries and keys are normed after they are turned, not before.
    pub norm_after_rotary: bool,
    /// Whether each head has a score that takes part in the softmax and brings no value (Xiao et al., "Efficient
    /// streaming language models with attention sinks", 2023).
    pub sinks: bool,
    /// Where there is a gate of what each head attends to, of which `1 / (1 + e^−x)` goes through.
    pub attention_gate: Option<AttentionGate>,
    /// What the recurrent layers compute; `None` where all layers attend.
    pub recurrence: Option<Recurrence>,
    /// For each layer, whether it is recurrent.
    pub recurrent_layers: Vec<bool>,
    /// Blocks after the layers that guess further tokens: nothing is computed with them.
    pub prediction_layers: usize,
    /// Factor of the token embeddings.
    pub embedding_scale: f32,
    /// Whether the token embeddings are normed, without weights.
    pub norms_embeddings: bool,
    /// Factor of queries: `1 / sqrt(head_dim)` unless the file says otherwise.
    pub attention_scale: f32,
    /// What makes queries at far positions sharper.
    pub temperature: Option<Temperature>,
    /// Attention scores become `cap · tanh(score / cap)`.
    pub score_cap: Option<f32>,
    /// Factor of what a stage adds to the residual stream.
    pub residual_scale: f32,
    /// Factor of the logits.
    pub logit_scale: f32,
    /// Logits, scaled, become `cap · tanh(logit / cap)`.
    pub logit_cap: Option<f32>,
}

/// Sizes of a layer's heads of keys and values, and of those of queries but for their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadSizes {
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Leading values of each head that positions turn; even.
    pub rotary_dims: usize,
}

/// What recurrent layers compute instead of attention, from a state of fixed size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recurrence {
    /// Three parts of a projection, b, c and x: `W_o · (c ∘ conv(b ∘ x))`, with a causal convolution of each channel
    /// (Liquid AI, "LFM2 technical report", 2025).
    ShortConvolution {
        /// Positions that the convolution sees, its own included.
        taps: usize,
    },
    /// A memory that each position corrects (Yang et al., "Gated delta networks", 2024).
    DeltaNet(HeadStates),
    /// A memory that each position adds to, with a share of its own input (Dao and Gu, "Transformers are SSMs", 2024).
    Scan(HeadStates),
}

/// Most positions that a convolution sees.
pub(crate) const MOST_TAPS: usize = 16;

/// `ln(1 + e^x)`.
pub(crate) fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// Sizes of heads that keep a matrix each, of keys by values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadStates {
    /// Positions that the convolution of queries, keys and values sees, its own included.
    pub taps: usize,
    /// Heads of queries and keys.
    pub key_heads: usize,
    /// Heads of values; a multiple of `key_heads`.
    pub heads: usize,
    /// Width of a query or key.
    pub key_width: usize,
    /// Width of a value.
    pub value_width: usize,
}

impl HeadStates {
    /// Width of the values of all heads.
    pub fn inner(&self) -> usize {
        self.heads * self.value_width
    }

    /// Queries, keys and values, which the convolution goes over.
    pub fn channels(&self) -> usize {
        2 * self.key_heads * self.key_width + self.inner()
    }

    /// Floats of a head's state.
    pub(crate) fn elements(&self) -> usize {
        self.key_width * self.value_width
    }
}

impl Recurrence {
    /// The heads that keep a state, where there are any.
    pub(crate) fn heads(self) -> Option<HeadStates> {
        match self {
            Self::ShortConvolution { .. } => None,
            Self::DeltaNet(sizes) | Self::Scan(sizes) => Some(sizes),
        }
    }

    /// What a norm of what heads say goes over: a head of a delta network, all heads of one key head of a scan.
    pub(crate) fn norm_span(self) -> usize {
        match self {
            Self::ShortConvolution { .. } => 0,
            Self::DeltaNet(sizes) => sizes.value_width,
            Self::Scan(sizes) => sizes.inner() / sizes.key_heads,
        }
    }

    /// The query, the key and the value of a head, as columns of what the convolution gives: a delta network has queries,
    /// keys and values in this order, and deals key heads to heads in turn; a scan has them in the other order, and
    /// neighbouring heads have one key head.
    pub(crate) fn columns(self, head: usize) -> [usize; 3] {
        let Some(HeadStates { key_heads, heads, key_width, value_width, .. }) = self.heads() else { return [0; 3] };
        match self {
            Self::Scan(_) => {
                let (inner, key_head) = (heads * value_width, head / (heads / key_heads));
                [inner + (key_heads + key_head) * key_width, inner + key_head * key_width, head * value_width]
            }
            _ => {
                let key_head = head % key_heads;
                let keys = key_heads * key_width;
                [key_head * key_width, keys + key_head * key_width, 2 * keys + head * value_width]
            }
        }
    }
}

/// Networks of which each row goes through a few (Shazeer et al., "Outrageously large neural networks", 2017).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Experts {
    /// Experts of a layer.
    pub count: usize,
    /// Experts that a row goes through; at most `count`.
    pub used: usize,
    /// Width of an expert.
    pub width: usize,
    /// Width of the expert that every row goes through besides; 0 for none.
    pub shared_width: usize,
    /// Whether the shared expert's part is weighed, by the sigmoid of a product with the row.
    pub weighs_shared: bool,
    /// Layers at the start that have one network instead.
    pub dense_layers: usize,
    /// What the router's products become.
    pub scoring: Scoring,
    /// Whether the weights of the chosen are divided by their sum, to which `epsilon` is added.
    pub is_normalised: bool,
    /// Near 0.
    pub epsilon: f32,
    /// Factor of the weights.
    pub scale: f32,
    /// Groups of neighbouring experts; divides `count`.
    pub groups: usize,
    /// Groups that a row's experts are chosen from: those with the greatest sums of two scores.
    pub groups_used: usize,
}

/// What the router's products with a row become: scores by which experts are chosen, and weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scoring {
    /// Shares of all experts.
    Softmax,
    /// `1 / (1 + e^−x)`.
    Sigmoid,
    /// They are left as they are for the choice, and become shares of the chosen.
    SoftmaxOfChosen,
}

/// The function inside a network: of the gate, which is then multiplied by the other half of the network; or, where
/// there is no gate, of the one half that there is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// `x / (1 + e^−x)`.
    Silu,
    /// `x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))` (Hendrycks and Gimpel, "Gaussian error linear units",
    /// 2016).
    GeluTanh,
    /// `x / (1 + e^−1.702x)` of the gate, which is at most 7, times one more than the other half, which is within 7 of 0.
    ClampedSilu,
    /// `max(x, 0)²`, without a gate (So et al., "Primer", 2021).
    SquaredRelu,
    /// Without a gate (Huang et al., "Deriving activation functions using integration", 2024).
    Xielu(Xielu),
}

impl Activation {
    /// Whether networks have a gate.
    pub fn is_gated(self) -> bool {
        matches!(self, Self::Silu | Self::GeluTanh | Self::ClampedSilu)
    }
}

/// `positive · x² + slope · x` above 0, `negative · (e^min(x, least) − 1 − x) + slope · x` elsewhere.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Xielu {
    /// Growth above 0.
    pub positive: f32,
    /// Growth below 0.
    pub negative: f32,
    /// The linear part.
    pub slope: f32,
    /// The exponent is at most this, a little below 0.
    pub least: f32,
}

/// Where a file holds the gates of attention, a value for each value that a head attends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttentionGate {
    /// Below each head's queries.
    WithQueries,
    /// In a tensor of their own.
    Apart,
}

/// What norms the input of the feed-forward network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecondNorm {
    /// A norm of its own.
    Own,
    /// The same, but files name it after the attention that it follows.
    NamedAfterAttention,
    /// The one before attention: both take the same input, side by side.
    Shared,
}

/// What a norm of queries or keys goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormSpan {
    /// Each head.
    Head,
    /// All heads together.
    Projection,
}

/// Frequencies of a rotary embedding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RotaryForm {
    /// The frequencies are `base^(−2i / dims)`.
    pub base: f32,
    /// What is done to them for longer texts.
    pub scaling: RotaryScaling,
    /// Factor of the turned values.
    pub magnitude: f32,
}

/// What is done to rotary frequencies for texts longer than those of the first training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RotaryScaling {
    /// Nothing.
    None,
    /// All are divided.
    Linear {
        /// The divisor.
        factor: f32,
    },
    /// Low ones are divided, high ones kept, those between in proportion (Peng et al., "YaRN", 2023,
    /// <https://arxiv.org/abs/2309.00071>).
    Yarn {
        /// The divisor.
        factor: f32,
        /// Context of the first training.
        original_context: usize,
        /// Frequencies of more turns in it are kept.
        beta_fast: f32,
        /// Frequencies of fewer turns in it are divided.
        beta_slow: f32,
        /// Whether the pairs of those turns are widened to whole ones.
        whole_pairs: bool,
    },
}

/// Queries are multiplied by `1 + scale · ln(1 + ⌊position / length⌋)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Temperature {
    /// Growth.
    pub scale: f32,
    /// Positions of a step.
    pub length: usize,
}

impl Architecture {
    /// Whether GGUF's files of a family have rotary pairs side by side.
    pub(crate) fn has_pairs_side_by_side(family: &str) -> bool {
        FAMILIES.iter().any(|known| known.name == family && known.rotary_interleaved)
    }

    /// Whether a layer is recurrent; it attends otherwise.
    pub fn is_recurrent(&self, layer: usize) -> bool {
        self.recurrent_layers.get(layer).is_some_and(|&recurrent| recurrent)
    }

    /// How many layers of a layer's kind, recurrent or not, come before it; for the number of layers, of those that attend.
    pub(crate) fn kind_index(&self, layer: usize) -> usize {
        (0..layer).filter(|&other| self.is_recurrent(other) == self.is_recurrent(layer)).count()
    }

    /// Positions that the convolutions of recurrent layers see, and the channels that they go over; 1 and 0 where there
    /// are none.
    pub(crate) fn convolution(&self) -> (usize, usize) {
        match self.recurrence {
            None => (1, 0),
            Some(Recurrence::ShortConvolution { taps }) => (taps, self.hidden),
            Some(Recurrence::DeltaNet(sizes) | Recurrence::Scan(sizes)) => (sizes.taps, sizes.channels()),
        }
    }

    /// Floats of one recurrent layer's state: the last inputs of its convolution, oldest first, then its heads.
    pub(crate) fn state_elements(&self) -> usize {
        let (taps, channels) = self.convolution();
        let sizes = self.recurrence.and_then(Recurrence::heads);
        let heads = sizes.map_or(0, |sizes| sizes.heads * sizes.elements());
        (taps - 1) * channels + heads
    }

    /// Layers that are recurrent.
    pub(crate) fn recurrent_count(&self) -> usize {
        self.recurrent_layers.iter().filter(|&&recurrent| recurrent).count()
    }

    /// The sizes of a layer's heads.
    pub fn head_sizes(&self, layer: usize) -> HeadSizes {
        let Self { kv_heads, head_dim, rotary_dims, .. } = *self;
        self.local_heads.filter(|_| self.is_local(layer)).unwrap_or(HeadSizes { kv_heads, head_dim, rotary_dims })
    }

    /// Whether a layer's queries and keys are turned by their positions.
    pub fn is_rotary(&self, layer: usize) -> bool {
        let is_skipped = self.rotary_skipped_every > 0 && (layer + 1).is_multiple_of(self.rotary_skipped_every);
        let is_local_only = self.rotary_local_only && self.local_layers.contains(&true);
        !(is_skipped || is_local_only && !self.is_local(layer))
    }

    /// The function of a layer's networks.
    pub fn activation(&self, layer: usize) -> Activation {
        self.activations.get(layer).copied().unwrap_or(self.activation)
    }

    /// Whether attention and the feed-forward network take the same input.
    pub fn is_parallel(&self) -> bool {
        self.second_norm == SecondNorm::Shared
    }

    /// The experts of a layer, where it has some.
    pub fn experts(&self, layer: usize) -> Option<&Experts> {
        self.experts.as_ref().filter(|experts| layer >= experts.dense_layers)
    }

    /// Whether a layer has a network that every row goes through.
    pub fn is_dense(&self, layer: usize) -> bool {
        self.experts(layer).is_none()
    }

    /// Whether a layer is one of the sliding window.
    pub fn is_local(&self, layer: usize) -> bool {
        self.local_layers.get(layer).is_some_and(|&local| local)
    }

    /// Positions that a row of a layer sees, its own and those before it; `None` when that is all.
    pub fn window(&self, layer: usize) -> Option<usize> {
        self.sliding_window.filter(|_| self.is_local(layer))
    }

    /// Factor of a row's queries.
    pub(crate) fn query_scale(&self, position: usize) -> f32 {
        let sharper = self
            .temperature
            .map_or(1.0, |Temperature { scale, length }| 1.0 + scale * (1.0 + (position / length) as f32).ln());
        self.attention_scale * sharper
    }
}
