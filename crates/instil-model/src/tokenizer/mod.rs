//! Text ↔ token ids, for GGUF files and `tokenizer.json` files alike, and chat templates.
//!
//! A text is cut at the tokens that stand outside the language model's alphabet first, then an
//! engine (byte-pair merges, SentencePiece, WordPiece, or the tokenizers crate's own pipeline)
//! turns the rest into ids. Raw bytes of every token leave through [`Vocab`]; no spelling of an
//! engine (`Ġ`, `▁`, `<0x0A>`, `##`) is seen outside this room. What ids mean to a grammar or a
//! model is not decided here.

mod bpe;
pub mod chat;
mod from_gguf;
mod from_json;
mod longest;
mod pre;
mod sentencepiece;
mod special;
mod spelling;
mod to_gguf;
mod wordpiece;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustc_hash::FxHashMap;

use crate::error::{Error, Remedy, Result, setting};
use crate::gguf::Metadata;
pub use chat::{ChatTemplate, Message};
use chat::{Opening, Variables, Way};
use instil_grammar::vocab::{TokenId, TokenKind, Vocab};
use longest::LongestMatch;
use special::{Matcher, Piece};
pub(crate) use to_gguf::entries as gguf_entries;

/// A tokenizer and its vocabulary.
pub struct Tokenizer {
    model: String,
    engine: Engine,
    vocab: Arc<Vocab>,
    /// Control and unknown tokens: found in a text only when the caller asks for it.
    control: Matcher,
    /// Tokens that the model's makers added as whole words: found in every text.
    added: Matcher,
    ids: FxHashMap<String, TokenId>,
    bos: Option<TokenId>,
    eos: Option<TokenId>,
    adds_bos: bool,
    chat_source: Option<String>,
    variables: Variables,
    notes: Vec<String>,
    chat: OnceLock<ChatTemplate>,
    /// How replies begin with an answer, and with a thought.
    openings: [OnceLock<Opening>; 2],
    longest: OnceLock<LongestMatch>,
}

/// How a text is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Spellings of control tokens (`<|im_start|>`) in the text become those tokens. Leave it off
    /// for anything a user or a model wrote: it is then ordinary text.
    pub special: bool,
    /// Start with the beginning-of-sequence token, if this model's sequences do.
    pub add_bos: bool,
}

/// What turns text without special tokens into ids.
enum Engine {
    Bpe(bpe::Bpe),
    SentencePiece(sentencepiece::SentencePiece),
    WordPiece(wordpiece::WordPiece),
    Pipeline(Box<from_json::Pipeline>),
    LongestMatch(LongestMatch),
}

/// Messages that many conversations begin with, read once: see [`Tokenizer::go_on_chat`].
#[derive(Clone, Debug, Default)]
pub struct ChatBeginning {
    messages: Vec<Message>,
    /// As the template writes them.
    text: String,
    ids: Arc<[TokenId]>,
    /// The control token that follows, once it was seen to part what is before from what is after.
    seam: Option<TokenId>,
    way: Way,
}

impl ChatBeginning {
    /// Its ids; none when it holds no message.
    pub fn ids(&self) -> &Arc<[TokenId]> {
        &self.ids
    }
}

/// What a loader hands over.
struct Parts {
    engine: Engine,
    tokens: Vec<spelling::Token>,
    control: Matcher,
    added: Matcher,
    bos: Option<TokenId>,
    eos: Option<TokenId>,
    end_ids: Vec<TokenId>,
    adds_bos: bool,
    chat_source: Option<String>,
    /// What a person should know of the files, a line each.
    notes: Vec<String>,
}

impl Tokenizer {
    /// The tokenizer in the metadata of a GGUF file; `model` is what errors name.
    ///
    /// Kinds read: `gpt2` and `gemma4` (byte-pair merges), `llama` (SentencePiece merges by
    /// score), `bert` (WordPiece). Ids agree with llama.cpp's.
    ///
    /// # Errors
    /// When a key is missing or malformed, or the kind or its pre-tokenizer is not known.
    pub fn from_gguf(metadata: &Metadata, model: &str) -> Result<Self> {
        from_gguf::load(metadata, model).map(|parts| Self::assemble(parts, model))
    }

    /// The tokenizer in a `tokenizer.json` file, with the settings beside it:
    /// `tokenizer_config.json`, `generation_config.json`, `config.json`, `chat_template.jinja`.
    ///
    /// # Errors
    /// When a file cannot be read or does not have the form its name promises.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        from_json::load(path).map(|parts| Self::assemble(parts, &path.display().to_string()))
    }

    /// A tokenizer over a bare vocabulary, that always takes the longest token that fits.
    ///
    /// # Errors
    /// When the control tokens' spellings cannot be indexed.
    pub fn from_vocab(vocab: &Vocab, model: &str) -> Result<Self> {
        longest::load(vocab, model).map(|parts| Self::assemble(parts, model))
    }

    /// Every token as raw bytes, with its kind, and every id that ends a sequence.
    pub fn vocab(&self) -> &Arc<Vocab> {
        &self.vocab
    }

    /// The ids of a text.
    ///
    /// # Errors
    /// When a pattern of the pre-tokenizer gives up on the text, or a `tokenizer.json` is at odds
    /// with itself; never for a text of ordinary length.
    pub fn encode(&self, text: &str, options: EncodeOptions) -> Result<Vec<TokenId>> {
        let mut ids = Vec::new();
        ids.extend(self.bos.filter(|_| options.add_bos && self.adds_bos));
        if options.special {
            for piece in self.control.split(text) {
                match piece {
                    Piece::Token(id) => ids.push(id),
                    Piece::Text { text, at } => self.encode_plain(text, at == 0, &mut ids)?,
                }
            }
        } else {
            self.encode_plain(text, true, &mut ids)?;
        }
        Ok(ids)
    }

    /// The bytes of text tokens, joined; control and unused tokens add nothing.
    ///
    /// Nothing is trimmed: a SentencePiece model's first word keeps the space that stands before it.
    pub fn decode(&self, ids: &[TokenId]) -> Vec<u8> {
        self.vocab.decode(ids)
    }

    /// The id of a token by its spelling in the model's files: `<|im_end|>`, `Ġthe`.
    pub fn id_of(&self, spelling: &str) -> Option<TokenId> {
        self.ids.get(spelling).copied()
    }

    /// The beginning-of-sequence token.
    pub fn bos(&self) -> Option<TokenId> {
        self.bos
    }

    /// The end-of-sequence token that the files name; [`Vocab::eos`] holds every id that ends one.
    pub fn eos(&self) -> Option<TokenId> {
        self.eos
    }

    /// True when sequences of this model start with [`Tokenizer::bos`].
    pub fn adds_bos(&self) -> bool {
        self.adds_bos
    }

    /// The token with which the vocabulary's longest match on the start of `bytes` begins.
    pub fn first_token(&self, bytes: &[u8]) -> Option<TokenId> {
        self.longest.get_or_init(|| LongestMatch::new(&self.vocab)).first(bytes)
    }

    /// What in the model's files had to be guessed or passed over, a line each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// True when the model's files, or the caller, gave a chat template.
    pub fn has_chat_template(&self) -> bool {
        self.chat_source.is_some()
    }

    /// The source of the chat template.
    pub fn chat_source(&self) -> Option<&str> {
        self.chat_source.as_deref()
    }

    /// Puts a chat template of the caller's in the place of the one in the model's files.
    ///
    /// [`chat::CHATML`] is a usual choice for a model without one; it is never chosen silently.
    ///
    /// # Errors
    /// When the source is not a template.
    pub fn set_chat_template(&mut self, source: &str) -> Result<()> {
        self.chat = OnceLock::from(self.compile(source)?);
        self.chat_source = Some(source.to_owned());
        self.openings = <[OnceLock<Opening>; 2]>::default();
        Ok(())
    }

    /// Gives the chat template variables of the caller's, such as `reasoning_effort`.
    ///
    /// # Errors
    /// When one has the name of what every template is given.
    pub fn set_template_variables(&mut self, variables: Variables) -> Result<()> {
        chat::check(&variables)?;
        self.variables = variables;
        self.chat = OnceLock::new();
        self.openings = <[OnceLock<Opening>; 2]>::default();
        Ok(())
    }

    /// Variables of the caller's that the chat template is given.
    pub fn template_variables(&self) -> &Variables {
        &self.variables
    }

    /// The chat template, with this model's beginning and end tokens.
    ///
    /// # Errors
    /// When there is none, or it is not a template.
    pub fn chat_template(&self) -> Result<&ChatTemplate> {
        if self.chat.get().is_none() {
            let source = self.chat_source.as_deref().ok_or_else(|| {
                let remedy = Remedy::from(
                    "use an instruction-tuned model, or give a template: a file, or the form it was \
                                           trained on, as ",
                )
                .set(setting::CHAT_TEMPLATE, "chatml");
                Error::model(&self.model, "has no chat template in its files", remedy)
            })?;
            // A template that another thread set meanwhile is the same one.
            let _ = self.chat.set(self.compile(source)?);
        }
        Ok(self.chat.get().expect("it was set above"))
    }

    /// The ids of a conversation: the template's own control tokens are tokens, and everything in
    /// the messages is plain text, also where it spells one.
    ///
    /// Starts with the beginning-of-sequence token exactly once if this model's sequences do.
    ///
    /// # Errors
    /// When there is no template, it refuses the messages, or as [`Tokenizer::encode`].
    pub fn encode_chat(&self, messages: &[Message], add_generation_prompt: bool) -> Result<Vec<TokenId>> {
        let (text, mask) = self.render_chat(messages, add_generation_prompt, Way::Plain)?;
        self.encode_rendered(&text, &mask)
    }

    /// The ids of a conversation, up to where a reply goes on that begins this `way`.
    ///
    /// # Errors
    /// As [`Tokenizer::encode_chat`] and [`Tokenizer::opening`].
    pub fn ask(&self, messages: &[Message], way: Way) -> Result<Vec<TokenId>> {
        let (text, mask) = self.render_chat(messages, true, way)?;
        self.encode_rendered(&text, &mask)
    }

    /// How replies begin this `way`.
    ///
    /// # Errors
    /// When there is no chat template, or a thought is asked for and the model knows none.
    pub fn opening(&self, way: Way) -> Result<Opening> {
        let known = match way {
            Way::Plain => return Ok(Opening::default()),
            Way::Answer => &self.openings[0],
            Way::Thought => &self.openings[1],
        };
        if let Some(opening) = known.get() {
            return Ok(opening.clone());
        }
        let found = self.chat_template()?.opening(way, &|spelling| self.id_of(spelling).is_some())?;
        Ok(known.get_or_init(|| found).clone())
    }

    /// The ids of a text in which spellings of control tokens are these tokens, and before which something stands.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub(crate) fn encode_within(&self, text: &str) -> Result<Vec<TokenId>> {
        self.encode_pieces(text, &special::Mask::new(&self.control), false)
    }

    /// The beginning of conversations that all open with `messages`, and whose reply begins this `way`.
    ///
    /// # Errors
    /// As [`Tokenizer::encode_chat`].
    pub fn begin_chat(&self, messages: Vec<Message>, way: Way) -> Result<ChatBeginning> {
        if messages.is_empty() {
            return Ok(ChatBeginning { way, ..ChatBeginning::default() });
        }
        let (text, mask) = match self.render_chat(&messages, false, way) {
            Ok(rendered) => rendered,
            // Some templates refuse a conversation in which nobody asks.
            Err(refused) => match self.render_before_question(&messages, way) {
                Some(rendered) => rendered,
                None => return Err(refused),
            },
        };
        let ids = self.encode_rendered(&text, &mask)?.into();
        Ok(ChatBeginning { messages, text, ids, seam: None, way })
    }

    /// What stands before a question that `messages` lead to, up to the last control token before it; `None` where the
    /// template refuses that too, or does not write it.
    fn render_before_question(&self, messages: &[Message], way: Way) -> Option<(String, special::Mask<'_>)> {
        const QUESTION: &str = "qvzqa";
        let asked: Vec<Message> = messages.iter().cloned().chain([Message::user(QUESTION)]).collect();
        let (mut text, mask) = self.render_chat(&asked, true, way).ok()?;
        text.truncate(text.rfind(QUESTION)?);
        let last = self.control.split(&text).into_iter().rev().find_map(|piece| match piece {
            Piece::Token(id) => Some(self.vocab.bytes(id)),
            Piece::Text { .. } => None,
        });
        let at = text.rfind(std::str::from_utf8(last?).ok()?)?;
        text.truncate(at);
        Some((text, mask))
    }

    /// The ids of a conversation that opens with `beginning` and asks `last`, as [`Tokenizer::ask`]
    /// gives them for the whole: whether it begins with [`ChatBeginning::ids`], and the ids behind these, or all
    /// of them. (A template may write messages differently once others follow.)
    ///
    /// What `beginning` holds is not read again where a control token stands between it and the rest.
    ///
    /// # Errors
    /// As [`Tokenizer::encode_chat`].
    pub fn go_on_chat(&self, beginning: &mut ChatBeginning, last: Message) -> Result<(bool, Vec<TokenId>)> {
        beginning.messages.push(last);
        let rendered = self.render_chat(&beginning.messages, true, beginning.way);
        beginning.messages.pop();
        let (text, mask) = rendered?;
        let rest = text.strip_prefix(&beginning.text).filter(|_| !beginning.ids.is_empty());
        let seam = rest.and_then(|rest| match self.control.split(rest).first() {
            Some(Piece::Token(id)) => Some((rest, *id)),
            _ => None,
        });
        if let Some((rest, _)) = seam.filter(|(_, seam)| beginning.seam == Some(*seam)) {
            return Ok((true, self.encode_pieces(rest, &mask, false)?));
        }
        let mut ids = self.encode_rendered(&text, &mask)?;
        if beginning.ids.is_empty() || !ids.starts_with(&beginning.ids) {
            return Ok((false, ids));
        }
        let behind = ids.split_off(beginning.ids.len());
        if let Some((rest, seam)) = seam
            && self.encode_pieces(rest, &mask, false)? == behind
        {
            // What stands on either side of this token is read by itself, whatever comes after it.
            beginning.seam = Some(seam);
        }
        Ok((true, behind))
    }

    /// The text of a conversation, in which control tokens are the template's own; the mask hides others.
    fn render_chat(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        way: Way,
    ) -> Result<(String, special::Mask<'_>)> {
        let template = self.chat_template()?;
        let mut mask = special::Mask::new(&self.control);
        for message in messages {
            mask.avoid(&message.content);
        }
        let masked: Vec<Message> = messages
            .iter()
            .map(|message| Message { role: message.role.clone(), content: mask.hide(&message.content) })
            .collect();
        let opening = self.opening(way)?;
        let mut text = template.render_for(&masked, add_generation_prompt, &opening)?;
        if add_generation_prompt && way != Way::Plain {
            let behind = opening.behind(&text, || template.render_for(&masked, false, &opening).ok());
            text.push_str(&behind);
        }
        Ok((text, mask))
    }

    fn encode_rendered(&self, text: &str, mask: &special::Mask<'_>) -> Result<Vec<TokenId>> {
        let mut ids = self.encode_pieces(text, mask, true)?;
        if self.adds_bos && self.bos.is_some() && ids.first().copied() != self.bos {
            ids.splice(0..0, self.bos);
        }
        Ok(ids)
    }

    /// The ids of a rendered text; `first` when nothing stands before it.
    fn encode_pieces(&self, text: &str, mask: &special::Mask<'_>, first: bool) -> Result<Vec<TokenId>> {
        let mut ids = Vec::new();
        for piece in self.control.split(text) {
            match piece {
                Piece::Token(id) => ids.push(id),
                Piece::Text { text, at } => self.encode_plain(&mask.reveal(text), first && at == 0, &mut ids)?,
            }
        }
        Ok(ids)
    }

    fn compile(&self, source: &str) -> Result<ChatTemplate> {
        let spelling =
            |id: Option<TokenId>| String::from_utf8_lossy(id.map_or(&[], |id| self.vocab.bytes(id))).into_owned();
        ChatTemplate::from_source(&self.model, source, &spelling(self.bos), &spelling(self.eos))?
            .with_variables(self.variables.clone())
    }

    fn assemble(parts: Parts, model: &str) -> Self {
        let vocab = Vocab::new(parts.tokens.iter().map(|token| (token.bytes.as_slice(), token.kind)), &parts.end_ids);
        let mut ids = FxHashMap::default();
        for (id, token) in (0..).zip(parts.tokens) {
            if !token.spelling.is_empty() {
                ids.entry(token.spelling).or_insert(id);
            }
        }
        let within = |id: &TokenId| (*id as usize) < vocab.len();
        Self {
            model: model.to_owned(),
            engine: parts.engine,
            control: parts.control,
            added: parts.added,
            ids,
            bos: parts.bos.filter(within),
            eos: parts.eos.filter(within),
            adds_bos: parts.adds_bos,
            chat_source: parts.chat_source,
            variables: Variables::new(),
            notes: parts.notes,
            chat: OnceLock::new(),
            openings: <[OnceLock<Opening>; 2]>::default(),
            longest: OnceLock::new(),
            vocab: Arc::new(vocab),
        }
    }

    /// Appends the ids of a text in which no control token is recognised.
    fn encode_plain(&self, text: &str, first: bool, ids: &mut Vec<TokenId>) -> Result<()> {
        for piece in self.added.split(text) {
            let (text, at) = match piece {
                Piece::Token(id) => {
                    ids.push(id);
                    continue;
                }
                Piece::Text { text, at } => (text, at),
            };
            let start = ids.len();
            self.engine.encode(text, first && at == 0, ids, &self.model)?;
            let is_control = |id: &TokenId| self.vocab.kind(*id) == TokenKind::Control;
            if ids[start..].iter().any(is_control) {
                // The file's own vocabulary holds the spelling as a word: cut into it.
                ids.truncate(start);
                let mut from = 0;
                for cut in self.control.cuts(text).into_iter().chain([text.len()]) {
                    self.engine.encode(&text[from..cut], first && at == 0 && from == 0, ids, &self.model)?;
                    from = cut;
                }
                let rest = ids.split_off(start);
                ids.extend(rest.into_iter().filter(|id| !is_control(id)));
            }
        }
        Ok(())
    }
}

impl Engine {
    /// Appends the ids of a text without special tokens; `first` when it begins the whole text.
    fn encode(&self, text: &str, first: bool, ids: &mut Vec<TokenId>, model: &str) -> Result<()> {
        match self {
            Self::Bpe(engine) => engine.encode(text, ids, model),
            Self::SentencePiece(engine) => {
                engine.encode(text, ids);
                Ok(())
            }
            Self::WordPiece(engine) => engine.encode(text, ids, model),
            Self::Pipeline(engine) => engine.encode(text, first, ids, model),
            Self::LongestMatch(engine) => {
                engine.encode(text, ids);
                Ok(())
            }
        }
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokenizer({}, {:?})", self.model, self.vocab)
    }
}
