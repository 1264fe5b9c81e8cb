//! `instil models tokenize`: what a model reads where a person reads text.

use std::fmt::Write as _;
use std::path::Path;

use crate::catalog::source::{Freshness, Places};
use crate::{Error, Result};
use clap::Args;
use instil_model::tokenizer::EncodeOptions;
use instil_model::tokenizer::chat::Message;
use serde_json::json;

use super::console::{Answer, Console};
use super::options::{Chat, read_text};
use super::{download, setup};

/// Show the tokens of a text.
#[derive(Debug, Args)]
pub(crate) struct TokenizeArguments {
    /// Name of a model, here or on the hub, a file of weights, or a manifest.
    model: String,
    /// The text; `-` reads standard input.
    #[arg(default_value = "-", allow_hyphen_values = true)]
    text: String,
    /// Take the text for a user's message, in the model's chat template.
    #[arg(long)]
    chat: bool,
    /// Take spellings of control tokens, such as `<|im_end|>`, for these tokens.
    #[arg(long, conflicts_with = "chat")]
    special: bool,
}

/// Reads the tokenizer and shows the text.
pub(super) fn run(arguments: &TokenizeArguments, console: &Console) -> Result<Answer> {
    let places = Places::from_environment();
    let manifest = download::resolve(&arguments.model, &places, Freshness::Known, console)?;
    let located = download::fetch(&manifest, &places, None, console)?;
    let tokenizer = setup::tokenizer(&manifest, &located, &Chat::default())?;
    let text = if arguments.text == "-" { read_text(Path::new("-"))? } else { arguments.text.clone() };
    let (ids, rendered) = if arguments.chat {
        let messages = [Message::user(text)];
        if !tokenizer.has_chat_template() {
            let what = "has no chat template in its files";
            return Err(Error::model(&manifest.name, what, "leave --chat out, or use an instruction-tuned model"));
        }
        let rendered = tokenizer.chat_template()?.render(&messages, true)?;
        (tokenizer.encode_chat(&messages, true)?, Some(rendered))
    } else {
        (tokenizer.encode(&text, EncodeOptions { special: arguments.special, add_bos: true })?, None)
    };
    let vocab = tokenizer.vocab();
    let pieces: Vec<_> = ids.iter().map(|&id| String::from_utf8_lossy(vocab.bytes(id)).into_owned()).collect();
    let mut shown = String::new();
    if let Some(rendered) = &rendered {
        // Writing to a string cannot fail.
        let _ = writeln!(shown, "{rendered}\n");
    }
    for (id, piece) in ids.iter().zip(&pieces) {
        let _ = writeln!(shown, "{id:>7}  {piece:?}");
    }
    let mut found = json!({ "n": ids.len(), "ids": ids, "pieces": pieces });
    if let Some(rendered) = rendered {
        found["rendered"] = rendered.into();
    }
    Ok(Answer::data(shown, &found).and_note(format!("{} tokens", pieces.len())))
}
