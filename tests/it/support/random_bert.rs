//! A tiny sentence embedder of random weights, as files: word vectors say nearly all, so texts of the same words
//! are alike and others are not.

use std::fmt::Write as _;
use std::path::Path;

use instil::catalog::source::verify::sha256_of;
use serde_json::{Value, json};

const HIDDEN: usize = 32;
const INNER: usize = 48;
const POSITIONS: usize = 40;
const LAYERS: usize = 2;

/// Writes `NAME.toml` and the three files that it names into `folder`. Other words than `words` are unknown.
pub fn write(folder: &Path, name: &str, words: &[&str]) {
    let mut state = 7u64;
    let mut noise = move |size: f32| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / 8_388_608.0 - 1.0) * size
    };
    let vocabulary = 4 + words.len();
    let mut header = serde_json::Map::new();
    let mut data: Vec<u8> = Vec::new();
    let mut tensor = |name: String, shape: &[usize], values: &mut dyn FnMut() -> f32| {
        let begin = data.len();
        for _ in 0..shape.iter().product::<usize>() {
            data.extend(values().to_le_bytes());
        }
        header.insert(name, json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, data.len()]}));
    };
    let (small, one) = (0.02, 1.0);
    tensor("embeddings.word_embeddings.weight".into(), &[vocabulary, HIDDEN], &mut || noise(one));
    tensor("embeddings.position_embeddings.weight".into(), &[POSITIONS, HIDDEN], &mut || noise(small));
    tensor("embeddings.token_type_embeddings.weight".into(), &[2, HIDDEN], &mut || noise(small));
    let mut norms = vec!["embeddings.LayerNorm".to_owned()];
    for layer in 0..LAYERS {
        let at = |part: &str| format!("encoder.layer.{layer}.{part}");
        for (part, outputs, inputs) in [
            ("attention.self.query", HIDDEN, HIDDEN),
            ("attention.self.key", HIDDEN, HIDDEN),
            ("attention.self.value", HIDDEN, HIDDEN),
            ("attention.output.dense", HIDDEN, HIDDEN),
            ("intermediate.dense", INNER, HIDDEN),
            ("output.dense", HIDDEN, INNER),
        ] {
            tensor(at(&format!("{part}.weight")), &[outputs, inputs], &mut || noise(small));
            tensor(at(&format!("{part}.bias")), &[outputs], &mut || noise(small));
        }
        norms.extend([at("attention.output.LayerNorm"), at("output.LayerNorm")]);
    }
    for norm in norms {
        tensor(format!("{norm}.weight"), &[HIDDEN], &mut || 1.0);
        tensor(format!("{norm}.bias"), &[HIDDEN], &mut || 0.0);
    }
    let header = Value::Object(header).to_string();
    let mut weights = (header.len() as u64).to_le_bytes().to_vec();
    weights.extend(header.as_bytes());
    weights.extend(data);

    let marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"];
    let ids: serde_json::Map<String, Value> =
        marks.iter().chain(words).zip(0..).map(|(word, id)| ((*word).to_owned(), json!(id))).collect();
    let added: Vec<Value> = (0..4)
        .map(|id| {
            json!({"id": id, "content": marks[id], "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true})
        })
        .collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": {"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": null, "added_tokens": added,
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": ids},
    });
    let config = json!({
        "model_type": "bert", "vocab_size": vocabulary, "hidden_size": HIDDEN, "num_hidden_layers": LAYERS,
        "num_attention_heads": 4, "intermediate_size": INNER, "hidden_act": "gelu",
        "max_position_embeddings": POSITIONS, "type_vocab_size": 2, "layer_norm_eps": 1e-12,
    });
    let files = [
        ("weights", format!("{name}.safetensors"), weights),
        ("tokenizer", format!("{name}.tokenizer.json"), tokenizer.to_string().into_bytes()),
        ("config", format!("{name}.config.json"), config.to_string().into_bytes()),
    ];
    let mut manifest = format!("name = \"{name}\"\nkind = \"embedder\"\ncontext_length = 32\n");
    for (role, file, bytes) in files {
        let (size, sum) = (bytes.len(), sha256_of(&bytes));
        std::fs::write(folder.join(&file), bytes).expect("a writable directory");
        let _ = write!(
            manifest,
            "[[files]]\nrole = \"{role}\"\nname = \"{file}\"\nsize_bytes = {size}\nsha256 = \"{sum}\"\n"
        );
    }
    manifest += "[[sources]]\npath = \".\"\n";
    std::fs::write(folder.join(format!("{name}.toml")), manifest).expect("a writable directory");
}
