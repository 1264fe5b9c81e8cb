//! Who is where in a file of weights: the one table of tensors, and what of them belongs to which part of a decoder.
//!
//! A [`Role`] is a part of the arithmetic, such as the query projection; a [`Slice`] is where a file keeps it: rows of
//! a tensor, in some order. Families that hold several parts in one tensor differ in the slices alone. Back ends turn
//! slices into their own matrices, and what has no place in the table is refused; names of tensors stand nowhere else.
//!
//! Names and orders are those of llama.cpp's GGUF files (`gguf-py/gguf/constants.py` and `conversion/*.py` of
//! <https://github.com/ggml-org/llama.cpp>).

use std::ops::Range;

use super::architecture::{Architecture, AttentionGate, HeadSizes, NormSpan, Recurrence, SecondNorm};
use super::checkpoint::Checkpoint;

/// A part of a decoder that has weights. What there are several of in a layer, networks, tells apart by [`Section`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Role {
    /// `(vocabulary, hidden)`.
    Embeddings,
    /// `(vocabulary, hidden)`; the embeddings again where the head is tied.
    Head,
    /// `(hidden)`.
    OutputNorm,
    /// Divisors of the rotary frequencies, `(rotary_dims / 2)`: Llama 3.1's, or LongRoPE's for texts of the first
    /// training's length.
    RotaryFactors,
    /// Before attention, `(hidden)`.
    AttentionNorm,
    /// `(heads · head_dim, hidden)`; where heads have a gate in the same tensor, the rows of all gates follow.
    Query,
    /// Gates of attention in a tensor of their own, `(heads · head_dim, hidden)`.
    QueryGate,
    /// `(kv_heads · head_dim, hidden)`.
    Key,
    /// `(kv_heads · head_dim, hidden)`.
    Value,
    /// `(head_dim)`, or as wide as the projection.
    QueryNorm,
    /// `(head_dim)`, or as wide as the projection.
    KeyNorm,
    /// A score of each head that brings no value, `(heads)`.
    Sinks,
    /// `(hidden, heads · head_dim)`.
    AttentionOutput,
    /// After attention, `(hidden)`.
    AttentionPostNorm,
    /// Before the feed-forward network, `(hidden)`.
    FeedForwardNorm,
    /// `(width, hidden)` of a network.
    Gate,
    /// `(width, hidden)` of a network.
    Up,
    /// `(hidden, width)` of a network.
    Down,
    /// After the feed-forward network, `(hidden)`.
    FeedForwardPostNorm,
    /// Factor of what a layer gives, `(1)`.
    LayerScale,
    /// What chooses experts, `(experts, hidden)`.
    Router,
    /// What is added to an expert's score for the choice alone, `(experts)`.
    ChoiceBias,
    /// How much of the shared expert is taken, `(1, hidden)`; in files a vector.
    SharedSwitch,
    /// What the convolution of a recurrent layer goes over, `(channels, hidden)`: queries, keys and values of a delta
    /// network; b, c and x of a short convolution, `(3 · hidden, hidden)`.
    Mixed,
    /// The gate of what a delta network's heads say, `(inner, hidden)`.
    MixedGate,
    /// How far each head is corrected, `(heads, hidden)`.
    Correction,
    /// How much each head keeps, `(heads, hidden)`.
    Decay,
    /// Added to the decay, `(heads)`.
    DecayBias,
    /// Factor of the decay, below 0, `(heads)`.
    DecayRate,
    /// `(channels, taps)`.
    Taps,
    /// Share of a scan's input in what its heads say, `(heads)`.
    InputShare,
    /// Of each head's output, `(width)`.
    MixedNorm,
    /// `(hidden, inner)`.
    MixedOutput,
}

use Role::{
    AttentionNorm, AttentionOutput, AttentionPostNorm, ChoiceBias, Correction, Decay, DecayBias, DecayRate, Down,
    Embeddings, FeedForwardNorm, FeedForwardPostNorm, Gate, Head, InputShare, Key, KeyNorm, LayerScale, Mixed,
    MixedGate, MixedNorm, MixedOutput, OutputNorm, Query, QueryGate, QueryNorm, RotaryFactors, Router, SharedSwitch,
    Sinks, Taps, Up, Value,
};

/// A tensor that a file may have.
struct Place {
    /// Its name without the ending, and without the layer's.
    name: &'static str,
    /// Whose rows it holds, one below the other.
    holds: &'static [Role],
    kind: Kind,
    when: When,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `NAME.weight`, and perhaps `NAME.bias`.
    Map,
    /// `NAME.weight` alone.
    Bare,
    /// `NAME.weight` alone, a vector that is a matrix of one row.
    Row,
    /// `NAME.bias` alone.
    Offset,
    /// NAME alone, without an ending.
    Plain,
    /// With any ending; nothing is computed with it.
    Idle,
}

/// Whether a file has use for a tensor.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Always,
    /// If it is there.
    Present,
    /// If another is there.
    With(&'static str),
    /// If it is there, and another is not.
    InPlaceOf(&'static str),
    /// If the layer attends.
    Attends,
    /// If the layer attends, and it is there.
    AttendsJoined,
    /// If values are the keys, for they have no tensor of their own, in a layer that is not of the sliding window.
    ValuesAreKeys,
    LayerScale,
    /// If the layer attends, with gates apart.
    GateOfAttention,
    /// If the layer is a delta network.
    DeltaNet,
    /// If the layer is a scan.
    Scan,
    /// If the layer is a short convolution.
    ShortConvolution,
    PreNorms,
    /// If the input of the feed-forward network has a norm of its own.
    SecondNorm,
    /// If that norm is named for the attention that it follows.
    SecondNormNamedAfterAttention,
    PostNorms,
    Sinks,
    /// If networks have a gate.
    Gated,
    /// If they have one, in a tensor of its own.
    GateApart,
    /// If they have one, and it has no tensor of its own.
    GateWithin,
    QueryKeyNorms,
    /// If the layer has experts.
    Experts,
    /// If the layer's experts have a shared one beside them, whose part is weighed.
    SharedSwitch,
}

const fn map(name: &'static str, holds: &'static [Role], when: When) -> Place {
    Place { name, holds, kind: Kind::Map, when }
}

const fn bare(name: &'static str, holds: &'static [Role], when: When) -> Place {
    Place { name, holds, kind: Kind::Bare, when }
}

const fn row(name: &'static str, holds: &'static [Role], when: When) -> Place {
    Place { name, holds, kind: Kind::Row, when }
}

const fn offset(name: &'static str, holds: &'static [Role], when: When) -> Place {
    Place { name, holds, kind: Kind::Offset, when }
}

const fn plain(name: &'static str, holds: &'static [Role], when: When) -> Place {
    Place { name, holds, kind: Kind::Plain, when }
}

const fn idle(name: &'static str, when: When) -> Place {
    Place { name, holds: &[], kind: Kind::Idle, when }
}

/// The token embeddings.
pub(super) const EMBEDDINGS: &str = "token_embd";
/// The rotary factors of LongRoPE for texts of the first training's length.
pub(super) const SHORT_FACTORS: &str = "rope_factors_short";

/// Tensors outside of the layers. Of several places for a role the first counts.
const OUTER: &[Place] = &[
    bare(EMBEDDINGS, &[Embeddings], When::Always),
    map("output", &[Head], When::Present),
    bare(EMBEDDINGS, &[Head], When::Always),
    // As LFM2's files call it.
    bare("token_embd_norm", &[OutputNorm], When::InPlaceOf("output_norm")),
    bare("output_norm", &[OutputNorm], When::Always),
    bare(SHORT_FACTORS, &[RotaryFactors], When::Present),
    idle("rope_factors_long", When::With(SHORT_FACTORS)),
    bare("rope_freqs", &[RotaryFactors], When::Present),
];

/// Tensors of a layer, whose names begin with `blk.LAYER.`. Of several places for a role the first counts.
const LAYER: &[Place] = &[
    bare("attn_norm", &[AttentionNorm], When::PreNorms),
    map("attn_qkv", &[Query, Key, Value], When::AttendsJoined),
    map("attn_q", &[Query], When::Attends),
    map("attn_k", &[Key], When::Attends),
    map("attn_k", &[Value], When::ValuesAreKeys),
    map("attn_v", &[Value], When::Attends),
    map("attn_gate", &[QueryGate], When::GateOfAttention),
    bare("attn_q_norm", &[QueryNorm], When::QueryKeyNorms),
    bare("attn_k_norm", &[KeyNorm], When::QueryKeyNorms),
    map("attn_output", &[AttentionOutput], When::Attends),
    bare("attn_sinks", &[Sinks], When::Sinks),
    bare("post_attention_norm", &[AttentionPostNorm], When::PostNorms),
    bare("ffn_norm", &[FeedForwardNorm], When::SecondNorm),
    bare("post_attention_norm", &[FeedForwardNorm], When::SecondNormNamedAfterAttention),
    bare("post_ffw_norm", &[FeedForwardPostNorm], When::PostNorms),
    bare("layer_output_scale", &[LayerScale], When::LayerScale),
    map("ffn_gate_inp", &[Router], When::Experts),
    offset("exp_probs_b", &[ChoiceBias], When::Present),
    row("ffn_gate_inp_shexp", &[SharedSwitch], When::SharedSwitch),
    map("attn_qkv", &[Mixed], When::DeltaNet),
    map("attn_gate", &[MixedGate], When::DeltaNet),
    map("ssm_beta", &[Correction], When::DeltaNet),
    map("ssm_alpha", &[Decay], When::DeltaNet),
    bare("ssm_conv1d", &[Taps], When::DeltaNet),
    offset("ssm_dt", &[DecayBias], When::DeltaNet),
    plain("ssm_a", &[DecayRate], When::DeltaNet),
    bare("ssm_norm", &[MixedNorm], When::DeltaNet),
    map("ssm_out", &[MixedOutput], When::DeltaNet),
    map("ssm_in", &[MixedGate, Mixed, Decay], When::Scan),
    map("ssm_conv1d", &[Taps], When::Scan),
    offset("ssm_dt", &[DecayBias], When::Scan),
    plain("ssm_a", &[DecayRate], When::Scan),
    plain("ssm_d", &[InputShare], When::Scan),
    bare("ssm_norm", &[MixedNorm], When::Scan),
    map("ssm_out", &[MixedOutput], When::Scan),
    map("shortconv.in_proj", &[Mixed], When::ShortConvolution),
    bare("shortconv.conv", &[Taps], When::ShortConvolution),
    map("shortconv.out_proj", &[MixedOutput], When::ShortConvolution),
    // Frequencies that old files carry beside the base that says the same.
    idle("attn_rot_embd", When::Always),
    idle("attn_rotary_emb", When::Always),
];

/// Tensors of the network that every row goes through.
const DENSE: &[Place] = &[
    map("ffn_gate", &[Gate], When::GateApart),
    map("ffn_up", &[Gate, Up], When::GateWithin),
    map("ffn_up", &[Up], When::Always),
    map("ffn_down", &[Down], When::Always),
];

/// Tensors of the shared expert, which every row goes through beside those chosen for it.
const SHARED: &[Place] = &[
    map("ffn_gate_shexp", &[Gate], When::Gated),
    map("ffn_up_shexp", &[Up], When::Always),
    map("ffn_down_shexp", &[Down], When::Always),
];

/// Tensors of all experts of a layer, one expert after the other.
const EXPERT: &[Place] = &[
    map("ffn_gate_up_exps", &[Gate, Up], When::Present),
    map("ffn_gate_exps", &[Gate], When::Gated),
    map("ffn_up_exps", &[Up], When::Always),
    map("ffn_down_exps", &[Down], When::Always),
];

/// Some rows of a tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slice {
    /// The tensor's name.
    pub tensor: String,
    /// The extents that it must have, outermost first.
    pub shape: Vec<usize>,
    /// The rows that are taken; of a vector, the values.
    pub rows: Range<usize>,
    /// Values of a row of a matrix; `None` where the rows are single values, of a tensor of any extents.
    pub columns: Option<usize>,
    pub order: Order,
}

/// The order of rows in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// That of the decoder.
    Plain,
    /// Rows of heads, of whose first `turned` the rotary pairs stand side by side; in the decoder they are half of
    /// the turned ones apart.
    Interleaved { head_dim: usize, turned: usize },
    /// A head's queries are followed by its gates; in the decoder all gates come after all queries.
    Gated { head_dim: usize, heads: usize },
}

/// A linear map: a matrix, and a bias where the file has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Map {
    pub weight: Slice,
    pub bias: Option<Slice>,
}

impl Order {
    /// Which of the rows taken becomes the decoder's row `output`.
    pub(super) fn row(self, output: usize) -> usize {
        match self {
            Self::Interleaved { head_dim, turned } if output % head_dim < turned => {
                let (head, at, half) = (output / head_dim, output % head_dim, turned / 2);
                head * head_dim + at % half * 2 + at / half
            }
            Self::Gated { head_dim, heads } => {
                let (is_gate, at) = (output / (heads * head_dim), output % (heads * head_dim));
                (at / head_dim * 2 + is_gate) * head_dim + at % head_dim
            }
            Self::Plain | Self::Interleaved { .. } => output,
        }
    }
}

/// The layout of one file.
#[derive(Clone, Copy)]
pub(super) struct Layout<'a> {
    pub architecture: &'a Architecture,
    pub file: &'a dyn Checkpoint,
}

/// A part of a file with names of its own.
#[derive(Clone, Copy)]
pub(super) struct Section<'a> {
    layout: Layout<'a>,
    part: Part,
}

#[derive(Clone, Copy)]
enum Part {
    /// What stands outside of the layers.
    Outer,
    /// A layer, but for its networks.
    Layer(usize),
    /// The network that every row of a layer goes through.
    Dense(usize),
    /// A layer's shared expert.
    Shared(usize),
    /// One of a layer's experts.
    Expert(usize, usize),
}

impl<'a> Layout<'a> {
    /// What stands outside of the layers.
    pub(super) fn outer(self) -> Section<'a> {
        Section { layout: self, part: Part::Outer }
    }

    /// One layer, from 0.
    pub(super) fn layer(self, index: usize) -> Section<'a> {
        Section { layout: self, part: Part::Layer(index) }
    }

    /// The network that every row of a layer goes through; `None` where it has experts instead.
    pub(super) fn dense(self, layer: usize) -> Option<Section<'a>> {
        self.architecture.is_dense(layer).then_some(Section { layout: self, part: Part::Dense(layer) })
    }

    /// The expert of a layer that every row goes through, if there is one.
    pub(super) fn shared(self, layer: usize) -> Option<Section<'a>> {
        let experts = self.architecture.experts(layer)?;
        (experts.shared_width > 0).then_some(Section { layout: self, part: Part::Shared(layer) })
    }

    /// The experts of a layer that rows are dealt to, in order; none where it has none.
    pub(super) fn experts(self, layer: usize) -> impl Iterator<Item = Section<'a>> {
        let count = self.architecture.experts(layer).map_or(0, |experts| experts.count);
        (0..count).map(move |index| Section { layout: self, part: Part::Expert(layer, index) })
    }

    /// Whether the head's rows are the embeddings.
    pub(crate) fn is_tied(self) -> bool {
        self.outer().map(Head).weight == self.outer().map(Embeddings).weight
    }

    /// Whether a decoder of this architecture has use for a tensor of that name.
    pub(crate) fn has_place_for(self, tensor: &str) -> bool {
        let Some((layer, name)) = tensor.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) else {
            return self.outer().has_place_for(tensor);
        };
        // One spelling of a number alone is looked for.
        let index = layer.parse::<usize>().ok().filter(|index| index.to_string() == layer);
        let predicts = self.architecture.layers..self.architecture.layers + self.architecture.prediction_layers;
        index.is_some_and(|index| {
            if predicts.contains(&index) {
                return true;
            }
            let networks = [self.dense(index), self.shared(index), self.experts(index).next()];
            index < self.architecture.layers
                && networks.into_iter().flatten().chain([self.layer(index)]).any(|part| part.has_place_for(name))
        })
    }

    /// Rows and columns of a role; a vector has rows alone.
    fn extents(self, part: Part, role: Role) -> (usize, Option<usize>) {
        let a = self.architecture;
        let experts = |layer| a.experts(layer).expect("a layer with experts");
        let width = match part {
            Part::Shared(layer) => experts(layer).shared_width,
            Part::Expert(layer, _) => experts(layer).width,
            Part::Outer | Part::Layer(_) | Part::Dense(_) => a.feed_forward,
        };
        let count = |part| if let Part::Layer(layer) = part { experts(layer).count } else { 0 };
        let HeadSizes { kv_heads, head_dim, .. } = a.head_sizes(if let Part::Layer(layer) = part { layer } else { 0 });
        let (query, kv) = (a.heads * head_dim, kv_heads * head_dim);
        let norm = |projection| if a.query_key_norm == Some(NormSpan::Projection) { projection } else { head_dim };
        match role {
            Embeddings | Head => (a.vocab_size, Some(a.hidden)),
            RotaryFactors => (a.rotary_dims / 2, None),
            Query if a.attention_gate == Some(AttentionGate::WithQueries) => (2 * query, Some(a.hidden)),
            Query | QueryGate => (query, Some(a.hidden)),
            Key | Value => (kv, Some(a.hidden)),
            QueryNorm => (norm(query), None),
            KeyNorm => (norm(kv), None),
            Sinks => (a.heads, None),
            AttentionOutput => (a.hidden, Some(query)),
            Gate | Up => (width, Some(a.hidden)),
            Down => (a.hidden, Some(width)),
            Router => (count(part), Some(a.hidden)),
            ChoiceBias => (count(part), None),
            SharedSwitch => (1, Some(a.hidden)),
            LayerScale => (1, None),
            Mixed | MixedGate | Correction | Decay | DecayBias | DecayRate | Taps | InputShare | MixedNorm
            | MixedOutput => self.recurrent_extents(role),
            OutputNorm | AttentionNorm | AttentionPostNorm | FeedForwardNorm | FeedForwardPostNorm => (a.hidden, None),
        }
    }
}

impl Layout<'_> {
    /// Rows and columns of a recurrent layer's role.
    fn recurrent_extents(self, role: Role) -> (usize, Option<usize>) {
        let a = self.architecture;
        let (taps, channels) = a.convolution();
        let sizes = a.recurrence.and_then(Recurrence::heads);
        let (inner, heads, mixed) = sizes.map_or((a.hidden, 0, 3 * a.hidden), |one| (one.inner(), one.heads, channels));
        let scans = matches!(a.recurrence, Some(Recurrence::Scan(_)));
        match role {
            Mixed => (mixed, Some(a.hidden)),
            MixedGate => (inner, Some(a.hidden)),
            Correction | Decay => (heads, Some(a.hidden)),
            Taps => (channels, Some(taps)),
            // Files of scans have columns of these, and a row for each key head.
            DecayRate | InputShare if scans => (heads, Some(1)),
            MixedNorm => {
                let span = a.recurrence.map_or(0, Recurrence::norm_span);
                if scans { (inner / span, Some(span)) } else { (span, None) }
            }
            MixedOutput => (a.hidden, Some(inner)),
            _ => (heads, None),
        }
    }
}

impl Section<'_> {
    /// The linear map of a role that every decoder has.
    pub(super) fn map(self, role: Role) -> Map {
        self.optional_map(role).expect("a place in the table for each map")
    }

    /// The linear map of a role; `None` where this decoder has none.
    pub(super) fn optional_map(self, role: Role) -> Option<Map> {
        let place = self.place(role)?;
        let columns = self.extents(role).1;
        let bias = self.full(place.name, "bias");
        let has_bias = place.kind == Kind::Map && self.layout.file.shape(&bias).is_some();
        Some(Map {
            weight: self.slice(place, role, self.full(place.name, "weight"), columns),
            bias: has_bias.then(|| self.slice(place, role, bias, None)),
        })
    }

    /// The vector of a role; `None` where this decoder has none.
    pub(super) fn vector(self, role: Role) -> Option<Slice> {
        let place = self.place(role)?;
        let ending = match place.kind {
            Kind::Offset => "bias",
            Kind::Plain => "",
            _ => "weight",
        };
        Some(self.slice(place, role, self.full(place.name, ending), self.extents(role).1))
    }

    /// The norm before the head, which every decoder has.
    pub(super) fn output_norm(self) -> Slice {
        self.vector(OutputNorm).expect("a place in the table for it")
    }

    fn places(self) -> &'static [Place] {
        match self.part {
            Part::Outer => OUTER,
            Part::Layer(_) => LAYER,
            Part::Dense(_) => DENSE,
            Part::Shared(_) => SHARED,
            Part::Expert(..) => EXPERT,
        }
    }

    fn layer(self) -> Option<usize> {
        match self.part {
            Part::Outer => None,
            Part::Layer(layer) | Part::Dense(layer) | Part::Shared(layer) | Part::Expert(layer, _) => Some(layer),
        }
    }

    fn extents(self, role: Role) -> (usize, Option<usize>) {
        self.layout.extents(self.part, role)
    }

    /// Where a role is.
    fn place(self, role: Role) -> Option<&'static Place> {
        self.places().iter().find(|place| place.holds.contains(&role) && self.applies(place))
    }

    fn applies(self, place: &Place) -> bool {
        let a = self.layout.architecture;
        let experts = || a.experts(self.layer()?);
        let has = |name| self.has(name, "weight");
        let recurs = || self.layer().is_some_and(|layer| a.is_recurrent(layer));
        let attends = || !recurs();
        match place.when {
            When::Always => true,
            When::Present if place.kind == Kind::Offset => experts().is_some() && self.has(place.name, "bias"),
            When::Present => has(place.name),
            When::With(other) => has(other),
            When::InPlaceOf(other) => has(place.name) && !has(other),
            When::Attends => attends(),
            When::AttendsJoined => attends() && has(place.name),
            When::ValuesAreKeys => {
                a.norms_values && self.layer().is_some_and(|layer| !a.is_local(layer)) && !has("attn_v")
            }
            When::LayerScale => a.scales_layers && has(place.name),
            When::GateOfAttention => a.attention_gate == Some(AttentionGate::Apart) && attends(),
            When::DeltaNet => recurs() && matches!(a.recurrence, Some(Recurrence::DeltaNet(_))),
            When::Scan => recurs() && matches!(a.recurrence, Some(Recurrence::Scan(_))),
            When::ShortConvolution => recurs() && matches!(a.recurrence, Some(Recurrence::ShortConvolution { .. })),
            When::PreNorms => a.pre_norms,
            When::SecondNorm => a.pre_norms && a.second_norm == SecondNorm::Own,
            When::SecondNormNamedAfterAttention => a.pre_norms && a.second_norm == SecondNorm::NamedAfterAttention,
            When::PostNorms => a.post_norms,
            When::Sinks => a.sinks && attends(),
            When::Gated => a.activation.is_gated(),
            When::GateApart => a.activation.is_gated() && has("ffn_gate"),
            When::GateWithin => a.activation.is_gated() && !has("ffn_gate"),
            When::QueryKeyNorms => a.query_key_norm.is_some() && attends(),
            When::Experts => experts().is_some(),
            When::SharedSwitch => experts().is_some_and(|experts| experts.shared_width > 0 && experts.weighs_shared),
        }
    }

    fn has(self, name: &str, ending: &str) -> bool {
        self.layout.file.shape(&self.full(name, ending)).is_some()
    }

    fn has_place_for(self, tensor: &str) -> bool {
        let (name, ending) = tensor.rsplit_once('.').unwrap_or((tensor, ""));
        self.places().iter().filter(|place| place.name == name).any(|place| {
            let is_looked_at =
                || place.holds.iter().any(|&role| self.place(role).is_some_and(|chosen| std::ptr::eq(chosen, place)));
            match place.kind {
                Kind::Idle => !ending.is_empty() && self.applies(place),
                Kind::Plain => is_looked_at() && ending.is_empty(),
                Kind::Map if ending == "bias" => is_looked_at() && self.has(name, "weight"),
                Kind::Map | Kind::Bare | Kind::Row => is_looked_at() && ending == "weight",
                Kind::Offset => is_looked_at() && ending == "bias",
            }
        })
    }

    fn full(self, name: &str, ending: &str) -> String {
        let dot = if ending.is_empty() { "" } else { "." };
        match self.layer() {
            Some(layer) => format!("blk.{layer}.{name}{dot}{ending}"),
            None => format!("{name}{dot}{ending}"),
        }
    }

    /// The rows of a role in a tensor that holds it.
    fn slice(self, place: &Place, role: Role, tensor: String, columns: Option<usize>) -> Slice {
        let a = self.layout.architecture;
        let count = |role: &Role| self.extents(*role).0;
        let all: usize = place.holds.iter().map(count).sum();
        // Of an expert's rows, or values of biases, those of the experts before it come first.
        let (experts, before) = match self.part {
            Part::Expert(layer, index) => (a.experts(layer).map(|experts| experts.count), index * all),
            _ => (None, 0),
        };
        let first = before + place.holds.iter().take_while(|&&held| held != role).map(count).sum::<usize>();
        let rows = if place.kind == Kind::Row { None } else { Some(all) };
        let HeadSizes { head_dim, rotary_dims, .. } = a.head_sizes(self.layer().unwrap_or(0));
        let turns = a.rotary_interleaved && matches!(role, Query | Key | QueryNorm | KeyNorm);
        Slice {
            tensor,
            shape: experts.into_iter().chain(rows).chain(columns).collect(),
            rows: first..first + count(&role),
            columns,
            order: if turns {
                Order::Interleaved { head_dim, turned: rotary_dims }
            } else if role == Query && a.attention_gate == Some(AttentionGate::WithQueries) {
                Order::Gated { head_dim, heads: a.heads }
            } else {
                Order::Plain
            },
        }
    }
}

/// The name of the weights of a tensor outside of the layers.
pub(super) fn weight(name: &str) -> String {
    format!("{name}.weight")
}

/// Rows of the token embeddings, if a file has any: how many tokens there are.
pub(super) fn vocabulary(file: &dyn Checkpoint) -> Option<usize> {
    let shape = file.shape(&weight(EMBEDDINGS))?;
    Some(if shape.len() < 2 { 0 } else { shape[shape.len() - 2] })
}

/// Whether a file has the rotary factors of LongRoPE.
pub(super) fn has_short_factors(file: &dyn Checkpoint) -> bool {
    file.shape(&weight(SHORT_FACTORS)).is_some()
}
