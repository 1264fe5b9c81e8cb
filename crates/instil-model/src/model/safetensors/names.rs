//! Names of tensors: the library's that trained the model → GGUF's, as llama.cpp's `gguf-py/gguf/tensor_mapping.py` and
//! `conversion/*.py` have them.

use super::config::{Config, Second};

/// What becomes of a tensor.
pub(super) enum Target {
    /// It has this name.
    Tensor(String),
    /// Its first rows are one, its last another.
    Halves([String; 2]),
    /// Of all experts, its rows are dealt to these in turn.
    InTurn(Vec<String>),
    /// It is one of the experts of this one.
    Expert(String, usize),
    /// It is one number of a layer's activation, under this key.
    Activation(&'static str, usize),
    /// It is not computed with.
    Nothing,
}

/// Tensors of a layer under the same name in all families.
const LAYER: &[(&str, &str)] = &[
    ("input_layernorm", "attn_norm"),
    ("attention_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.qkv_proj", "attn_qkv"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("self_attn.query_layernorm", "attn_q_norm"),
    ("self_attn.key_layernorm", "attn_k_norm"),
    ("post_self_attn_layernorm", "post_attention_norm"),
    ("pre_feedforward_layernorm", "ffn_norm"),
    ("feedforward_layernorm", "ffn_norm"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
    ("post_mlp_layernorm", "post_ffw_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.gate_up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("mlp.gate", "ffn_gate_inp"),
    ("block_sparse_moe.gate", "ffn_gate_inp"),
    ("block_sparse_moe.router.layer", "ffn_gate_inp"),
    ("block_sparse_moe.input_linear", "ffn_gate_up_exps"),
    ("block_sparse_moe.output_linear", "ffn_down_exps"),
    ("mlp.shared_expert.gate_proj", "ffn_gate_shexp"),
    ("mlp.shared_expert.up_proj", "ffn_up_shexp"),
    ("mlp.shared_expert.down_proj", "ffn_down_shexp"),
    ("mlp.shared_expert_gate", "ffn_gate_inp_shexp"),
    ("linear_attn.in_proj_qkv", "attn_qkv"),
    ("linear_attn.in_proj_z", "attn_gate"),
    ("linear_attn.in_proj_a", "ssm_alpha"),
    ("linear_attn.in_proj_b", "ssm_beta"),
    ("linear_attn.conv1d", "ssm_conv1d"),
    ("linear_attn.norm", "ssm_norm"),
    ("linear_attn.out_proj", "ssm_out"),
    ("self_attn.gate_proj", "attn_gate"),
    ("mamba.in_proj", "ssm_in"),
    ("mamba.conv1d", "ssm_conv1d"),
    ("mamba.norm", "ssm_norm"),
    ("mamba.out_proj", "ssm_out"),
    ("operator_norm", "attn_norm"),
    ("ffn_norm", "ffn_norm"),
    ("self_attn.out_proj", "attn_output"),
    ("self_attn.q_layernorm", "attn_q_norm"),
    ("self_attn.k_layernorm", "attn_k_norm"),
    ("conv.in_proj", "shortconv.in_proj"),
    ("conv.conv", "shortconv.conv"),
    ("conv.out_proj", "shortconv.out_proj"),
    ("feed_forward.w1", "ffn_gate"),
    ("feed_forward.w3", "ffn_up"),
    ("feed_forward.w2", "ffn_down"),
    ("feed_forward.gate", "ffn_gate_inp"),
    ("mlp.router", "ffn_gate_inp"),
];

/// Tensors of a layer whose names have no ending, or lose it.
const WHOLE: &[(&str, &str)] = &[
    ("linear_attn.A_log", "ssm_a"),
    ("linear_attn.dt_bias", "ssm_dt.bias"),
    ("mamba.A_log", "ssm_a"),
    ("mamba.D", "ssm_d"),
    ("mamba.dt_bias", "ssm_dt.bias"),
    ("feed_forward.expert_bias", "exp_probs_b.bias"),
    ("layer_scalar", "layer_output_scale.weight"),
    ("self_attn.sinks", "attn_sinks.weight"),
    ("mlp.experts.gate_up_proj", "ffn_gate_up_exps.weight"),
    ("mlp.experts.down_proj", "ffn_down_exps.weight"),
];

/// Tensors of all experts whose outputs are dealt in turn.
const IN_TURN: &[(&str, &[&str])] = &[
    ("mlp.experts.gate_up_proj", &["ffn_gate_exps.weight", "ffn_up_exps.weight"]),
    ("mlp.experts.gate_up_proj_blocks", &["ffn_gate_exps.weight", "ffn_up_exps.weight"]),
    ("mlp.experts.gate_up_proj_bias", &["ffn_gate_exps.bias", "ffn_up_exps.bias"]),
    ("mlp.experts.down_proj", &["ffn_down_exps.weight"]),
    ("mlp.experts.down_proj_blocks", &["ffn_down_exps.weight"]),
    ("mlp.experts.down_proj_bias", &["ffn_down_exps.bias"]),
];

/// Tensors of one expert.
const EXPERT: &[(&str, &str)] = &[
    ("gate_proj", "ffn_gate_exps"),
    ("up_proj", "ffn_up_exps"),
    ("down_proj", "ffn_down_exps"),
    ("w1", "ffn_gate_exps"),
    ("w3", "ffn_up_exps"),
    ("w2", "ffn_down_exps"),
];

/// Numbers of xIELU.
const ACTIVATION: &[(&str, &str)] = &[
    ("mlp.act_fn.alpha_n", "xielu.alpha_n"),
    ("mlp.act_fn.alpha_p", "xielu.alpha_p"),
    ("mlp.act_fn.beta", "xielu.beta"),
    ("mlp.act_fn.eps", "xielu.eps"),
];

/// Parts of models that see or hear.
const ELSEWHERE: [&str; 10] = [
    "vision_tower.",
    "vision_model.",
    "vision_adapter.",
    "vision_projection.",
    "multi_modal_projector.",
    "audio_tower.",
    "embed_vision.",
    "embed_audio.",
    "visual.",
    "patch_merger.",
];

/// What becomes of the tensor `name`. A name that is not known stays as it is: whoever reads the model refuses it.
pub(super) fn target(name: &str, config: &Config) -> Target {
    let bare = name.strip_prefix("model.").unwrap_or(name);
    if config.is_within && ELSEWHERE.iter().any(|part| bare.starts_with(part)) {
        return Target::Nothing;
    }
    // Blocks that guess further tokens, and scales of what is computed, not of weights.
    let is_idle = ["input_scale", "k_scale", "v_scale"].iter().any(|ending| name.ends_with(&format!(".{ending}")));
    if bare.starts_with("mtp.") || is_idle {
        return Target::Nothing;
    }
    // Around a model of text that is part of a larger one.
    let name = bare.strip_prefix("language_model.").unwrap_or(bare);
    let name = name.strip_prefix("model.").unwrap_or(name);
    let Some((layer, rest)) = name.strip_prefix("layers.").and_then(|rest| rest.split_once('.')) else {
        return outer(name);
    };
    let Ok(index) = layer.parse::<usize>() else { return Target::Tensor(name.to_owned()) };
    if rest.ends_with("rotary_emb.inv_freq") {
        return Target::Nothing;
    }
    if let Some((_, key)) = ACTIVATION.iter().find(|(theirs, _)| *theirs == rest) {
        return Target::Activation(key, index);
    }
    let place = |ours: &str, ending: &str| format!("blk.{index}.{ours}.{ending}");
    if config.is_family("gpt-oss")
        && let Some((_, ours)) = IN_TURN.iter().find(|(theirs, _)| *theirs == rest)
    {
        return Target::InTurn(ours.iter().map(|ours| format!("blk.{index}.{ours}")).collect());
    }
    if let Some((_, ours)) = WHOLE.iter().find(|(theirs, _)| *theirs == rest) {
        return Target::Tensor(format!("blk.{index}.{ours}"));
    }
    let Some((stem, ending)) = rest.rsplit_once('.') else { return Target::Tensor(name.to_owned()) };
    // Where there are no experts, what they would share is all there is.
    let alone = config.is_family("granitehybrid") && !config.has_experts();
    if stem == "shared_mlp.input_linear" && alone {
        return Target::Halves(["ffn_gate", "ffn_up"].map(|ours| place(ours, ending)));
    }
    if stem == "shared_mlp.output_linear" {
        return Target::Tensor(place(if alone { "ffn_down" } else { "ffn_down_shexp" }, ending));
    }
    if stem == "shared_mlp.input_linear" {
        return Target::Halves(["ffn_gate_shexp", "ffn_up_shexp"].map(|ours| place(ours, ending)));
    }
    if stem == "post_attention_layernorm" {
        let ours = if config.second() == Second::OfNetwork { "ffn_norm" } else { "post_attention_norm" };
        return Target::Tensor(place(ours, ending));
    }
    let of_expert = ["mlp.experts.", "block_sparse_moe.experts.", "feed_forward.experts."]
        .iter()
        .find_map(|part| stem.strip_prefix(part));
    if let Some((expert, part)) = of_expert.and_then(|rest| rest.split_once('.'))
        && let Ok(expert) = expert.parse()
        && let Some((_, ours)) = EXPERT.iter().find(|(theirs, _)| *theirs == part)
    {
        return Target::Expert(place(ours, ending), expert);
    }
    match LAYER.iter().find(|(theirs, _)| *theirs == stem) {
        Some((_, ours)) => Target::Tensor(place(ours, ending)),
        None => Target::Tensor(name.to_owned()),
    }
}

fn outer(name: &str) -> Target {
    Target::Tensor(
        match name {
            "embed_tokens.weight" => "token_embd.weight",
            "norm.weight" => "output_norm.weight",
            "embedding_norm.weight" => "token_embd_norm.weight",
            "lm_head.weight" => "output.weight",
            "lm_head.bias" => "output.bias",
            other => other,
        }
        .to_owned(),
    )
}
