//! The folder that a model's makers would publish for a GGUF file of 16- or 32-bit floats: the other way round of what
//! a converter does to names, rows and norms. The one map from GGUF's names to the makers' is here.

use std::path::Path;

use instil_model::gguf::{Gguf, Metadata, Value};
use instil_model::model::Checkpoint;
use serde_json::{Map, Value as Json, json};

/// A tensor as safetensors have it.
#[derive(Clone)]
pub struct Written {
    pub name: String,
    pub dtype: String,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

/// Writes `config.json`, with `more` in it, and the weights in so many files.
pub fn write(folder: &Path, file: &Gguf, model_type: &str, files: usize, more: &Json) {
    std::fs::create_dir_all(folder).expect("a folder");
    let mut config = config(file.metadata(), model_type);
    for (key, value) in more.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
    std::fs::write(folder.join("config.json"), config.to_string()).expect("a file");
    let tensors: Vec<Written> =
        Checkpoint::tensors(file).iter().flat_map(|name| theirs(file, name, model_type)).collect();
    let each = tensors.len().div_ceil(files);
    let mut places = Map::new();
    for (number, part) in tensors.chunks(each).enumerate() {
        let name = if files == 1 {
            "model.safetensors".to_owned()
        } else {
            format!("model-{:05}-of-{files:05}.safetensors", number + 1)
        };
        part.iter().for_each(|tensor| drop(places.insert(tensor.name.clone(), json!(name))));
        std::fs::write(folder.join(name), container(part)).expect("a file");
    }
    if files > 1 {
        let index = json!({ "weight_map": places });
        std::fs::write(folder.join("model.safetensors.index.json"), index.to_string()).expect("a file");
    }
}

/// Makes the model in one file the text of a larger one, whose tensors are called otherwise, and which sees.
pub fn surround(folder: &Path, model_type: &str, rename: impl Fn(&str) -> String) {
    let place = folder.join("config.json");
    let text: Json = serde_json::from_slice(&std::fs::read(&place).expect("a file")).expect("JSON");
    std::fs::write(&place, json!({ "model_type": model_type, "text_config": text }).to_string()).expect("a file");
    let place = folder.join("model.safetensors");
    let bytes = std::fs::read(&place).expect("a file");
    let (length, rest) = bytes.split_at(8);
    let length = u64::from_le_bytes(length.try_into().expect("eight bytes")) as usize;
    let header: Map<String, Json> = serde_json::from_slice(&rest[..length]).expect("JSON");
    let mut renamed: Map<String, Json> = header.iter().map(|(name, about)| (rename(name), about.clone())).collect();
    let end = rest.len() - length;
    renamed.insert(
        "vision_tower.patches.weight".into(),
        json!({ "dtype": "F32", "shape": [2], "data_offsets": [end, end + 8] }),
    );
    let mut header = Json::from(renamed).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let whole = [&(header.len() as u64).to_le_bytes()[..], &header, &rest[length..], &[0; 8]].concat();
    std::fs::write(place, whole).expect("a file");
}

/// A `tokenizer.json` over bytes, with a token that ends texts.
pub fn write_tokenizer(folder: &Path, letters: &[String]) {
    let mut vocab = Map::new();
    letters.iter().enumerate().for_each(|(id, letter)| drop(vocab.insert(letter.clone(), json!(id))));
    let end = json!({ "id": letters.len(), "content": "<end>", "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true });
    let bytes = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    let tokenizer = json!({
        "version": "1.0", "added_tokens": [end], "pre_tokenizer": bytes, "decoder": bytes,
        "model": { "type": "BPE", "vocab": vocab, "merges": [] },
    });
    std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).expect("a file");
    let config = json!({ "eos_token": "<end>" });
    std::fs::write(folder.join("tokenizer_config.json"), config.to_string()).expect("a file");
}

fn config(metadata: &Metadata, model_type: &str) -> Json {
    let family = metadata.str("general.architecture").expect("a family").to_owned();
    let mut config = json!({ "model_type": model_type, "rope_theta": 10_000.0 });
    for (ours, theirs) in [
        ("block_count", "num_hidden_layers"),
        ("context_length", "max_position_embeddings"),
        ("embedding_length", "hidden_size"),
        ("feed_forward_length", "intermediate_size"),
        ("attention.head_count", "num_attention_heads"),
        ("attention.head_count_kv", "num_key_value_heads"),
        ("attention.key_length", "head_dim"),
        ("expert_count", "num_experts"),
        ("expert_used_count", "num_experts_per_tok"),
        ("expert_feed_forward_length", "moe_intermediate_size"),
        ("attention.sliding_window", "sliding_window"),
    ] {
        if let Some(number) = metadata.opt_u32(&format!("{family}.{ours}")).expect("a number") {
            config[theirs] = json!(number);
        }
    }
    let epsilon = metadata.iter().find(|(key, _)| key.contains("epsilon")).map(|(_, value)| value.clone());
    if let Some(Value::Float(epsilon)) = epsilon {
        config["rms_norm_eps"] = json!(epsilon);
    }
    config
}

/// What the makers' files hold for a tensor.
fn theirs(file: &Gguf, name: &str, model_type: &str) -> Vec<Written> {
    let stored = file.stored(name).expect("a tensor");
    let (dtype, mut bytes) = (format!("{:?}", stored.kind), stored.bytes.to_vec());
    let shape = file.shape(name).expect("a tensor");
    let (start, rest) = match name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
        Some((layer, rest)) => (format!("model.layers.{layer}."), rest),
        None => ("model.".to_owned(), name),
    };
    let (stem, ending) = rest.rsplit_once('.').expect("an ending");
    let has_halves = ["llama", "mistral", "smollm3", "granite"].contains(&model_type);
    if has_halves && matches!(stem, "attn_q" | "attn_k") {
        let family = file.metadata().str("general.architecture").expect("a family");
        let head_dim = file.metadata().u32(&format!("{family}.attention.key_length")).expect("a width") as usize;
        bytes = apart(&bytes, head_dim, shape[0]);
    }
    if model_type.starts_with("gemma") && stem.ends_with("norm") {
        let less = |value: &[u8; 4]| (f32::from_le_bytes(*value) - 1.0).to_le_bytes();
        bytes = bytes.as_chunks::<4>().0.iter().flat_map(less).collect();
    }
    let is_gemma = model_type.starts_with("gemma");
    let after_attention = is_gemma || model_type.starts_with("olmo2");
    let whole = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    if let Some(name) = their_name(whole, is_gemma, after_attention, model_type == "phi3") {
        return vec![Written { name: format!("{name}.{ending}"), dtype, shape, bytes }];
    }
    let part = match stem {
        "ffn_gate_exps" => "gate_proj",
        "ffn_up_exps" => "up_proj",
        "ffn_down_exps" => "down_proj",
        other => panic!("{other} is not written here"),
    };
    let each = bytes.len() / shape[0];
    let expert = |(index, bytes): (usize, &[u8])| Written {
        name: format!("{start}mlp.experts.{index}.{part}.{ending}"),
        dtype: dtype.clone(),
        shape: shape[1..].to_vec(),
        bytes: bytes.to_vec(),
    };
    bytes.chunks(each).enumerate().map(expert).collect()
}

/// The makers' name of a tensor of GGUF's, both without their ending; `None` for those that are not written here. Norms
/// of outputs, where a family has some, leave two of the names to others.
pub fn their_name(name: &str, before_network: bool, after_attention: bool, joined: bool) -> Option<String> {
    let Some((layer, part)) = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) else {
        return Some(
            match name {
                "token_embd" => "model.embed_tokens",
                "output_norm" => "model.norm",
                "output" => "lm_head",
                other => other,
            }
            .into(),
        );
    };
    let part = match part {
        "attn_norm" => "input_layernorm",
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_qkv" => "self_attn.qkv_proj",
        "attn_output" => "self_attn.o_proj",
        "attn_q_norm" => "self_attn.q_norm",
        "attn_k_norm" => "self_attn.k_norm",
        "ffn_norm" if before_network => "pre_feedforward_layernorm",
        "ffn_norm" => "post_attention_layernorm",
        "post_attention_norm" if after_attention => "post_attention_layernorm",
        "post_ffw_norm" => "post_feedforward_layernorm",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" if joined => "mlp.gate_up_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        "ffn_gate_inp" => "mlp.gate",
        _ => return None,
    };
    Some(format!("model.layers.{layer}.{part}"))
}

/// Writes other tensors in the place of those of one file of weights, each from its name, type, shape and bytes.
pub fn rewrite(from: &Path, folder: &Path, change: impl Fn(&str, &str, &[usize], &[u8]) -> Vec<Written>) {
    std::fs::create_dir_all(folder).expect("a folder");
    std::fs::copy(from.join("config.json"), folder.join("config.json")).expect("a file");
    let bytes = std::fs::read(from.join("model.safetensors")).expect("a file");
    let held = safetensors::SafeTensors::deserialize(&bytes).expect("tensors");
    let tensors: Vec<Written> = held
        .iter()
        .flat_map(|(name, view)| change(name, &format!("{:?}", view.dtype()), view.shape(), view.data()))
        .collect();
    std::fs::write(folder.join("model.safetensors"), container(&tensors)).expect("a file");
}

/// Rows of heads whose rotary pairs stand side by side, with the pairs half a head apart.
fn apart(bytes: &[u8], head_dim: usize, rows: usize) -> Vec<u8> {
    let row = bytes.len() / rows;
    let from = |output: usize| {
        let (head, at) = (output / head_dim, output % head_dim);
        head * head_dim + if at < head_dim / 2 { 2 * at } else { 2 * (at - head_dim / 2) + 1 }
    };
    (0..rows).flat_map(|output| bytes[from(output) * row..(from(output) + 1) * row].to_vec()).collect()
}

fn container(tensors: &[Written]) -> Vec<u8> {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for tensor in tensors {
        let first = data.len();
        data.extend_from_slice(&tensor.bytes);
        let about = json!({ "dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [first, data.len()] });
        header.insert(tensor.name.clone(), about);
    }
    let mut header = Json::from(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}
