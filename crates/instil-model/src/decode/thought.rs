//! What a model thinks before its text: drawn freely up to a mark, or closed when its budget is used up.

use std::collections::VecDeque;

use crate::error::Result;
use crate::tokenizer::chat::Way;
use crate::tokenizer::{EncodeOptions, Tokenizer};
use instil_grammar::vocab::{TokenId, Vocab};

/// A thought that a model may have: how long, and how it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thought {
    /// Most tokens, its mark included; after so many it is closed.
    pub budget: usize,
    /// What the model closes it with.
    mark: Vec<u8>,
    /// The same as one token, where there is one.
    mark_token: Option<TokenId>,
    /// Tokens that close it for the model, up to where the text begins.
    closing: Vec<TokenId>,
    /// Tokens between the model's own mark and the text.
    behind: Vec<TokenId>,
}

/// What a model thought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Thoughts {
    /// Bytes of it, without its mark.
    pub text: Vec<u8>,
    /// Tokens that were drawn.
    pub tokens: usize,
    /// It was closed for the model.
    pub cut: bool,
}

impl Thought {
    /// A thought as the chat template of `tokenizer` has them, of at most `budget` tokens; `begun` is the text that the
    /// answer begins with.
    ///
    /// # Errors
    /// When there is no chat template, or the model knows no thoughts.
    pub fn of(tokenizer: &Tokenizer, budget: usize, begun: &str) -> Result<Self> {
        let end = tokenizer.opening(Way::Thought)?.end.unwrap_or_default();
        let begun = tokenizer.encode(begun, EncodeOptions::default())?;
        let then = |text: &str| -> Result<Vec<TokenId>> {
            let mut tokens = tokenizer.encode_within(text)?;
            tokens.extend(&begun);
            Ok(tokens)
        };
        Ok(Self {
            budget: budget.max(1),
            mark_token: tokenizer.id_of(&end.mark),
            closing: then(&end.whole())?,
            behind: then(&end.behind)?,
            mark: end.mark.into_bytes(),
        })
    }

    /// Most tokens of it, with what closes it.
    pub fn room(&self) -> usize {
        self.budget + self.closing.len().max(self.behind.len())
    }
}

/// A thought under way.
pub(super) struct Thinking {
    tokens: Vec<TokenId>,
    /// Bytes of the last tokens, as far as the mark may begin in them.
    last: Vec<u8>,
    end: Option<End>,
}

struct End {
    /// Bytes of the tokens that are of the mark, or behind it.
    of_mark: usize,
    cut: bool,
}

impl Thinking {
    /// Nothing yet.
    pub(super) fn begin() -> Self {
        Self { tokens: Vec::new(), last: Vec::new(), end: None }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    pub(super) fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// Takes a drawn token; what the model has to read goes to `pending`.
    pub(super) fn take(&mut self, thought: &Thought, token: TokenId, vocab: &Vocab, pending: &mut VecDeque<TokenId>) {
        if thought.mark_token == Some(token) {
            pending.push_back(token);
            pending.extend(&thought.behind);
            self.end = Some(End { of_mark: 0, cut: false });
            return;
        }
        if vocab.is_eos(token) {
            pending.extend(&thought.closing);
            self.end = Some(End { of_mark: 0, cut: true });
            return;
        }
        self.tokens.push(token);
        pending.push_back(token);
        self.last.extend(vocab.decode(&[token]));
        let found = self.last.windows(thought.mark.len().max(1)).position(|bytes| bytes == thought.mark);
        if let Some(at) = found {
            // A token may go on behind the mark, with what stands there in any case.
            let of_mark = self.last.len() - at;
            let written = vocab.decode(&thought.behind);
            let more = of_mark - thought.mark.len();
            let is_part = more > 0 && written.starts_with(&self.last[at + thought.mark.len()..]);
            if is_part {
                let mut skipped = 0;
                let rest = thought.behind.iter().skip_while(|&&token| {
                    skipped += vocab.decode(&[token]).len();
                    skipped <= more
                });
                pending.extend(rest);
            } else {
                pending.extend(&thought.behind);
            }
            self.end = Some(End { of_mark, cut: false });
        } else if self.tokens.len() >= thought.budget {
            pending.extend(&thought.closing);
            self.end = Some(End { of_mark: 0, cut: true });
        } else {
            let kept = self.last.len().min(thought.mark.len());
            self.last.drain(..self.last.len() - kept);
        }
    }

    pub(super) fn complete(self, vocab: &Vocab) -> Thoughts {
        let end = self.end.unwrap_or(End { of_mark: 0, cut: true });
        let mut text = vocab.decode(&self.tokens);
        text.truncate(text.len() - end.of_mark.min(text.len()));
        Thoughts { text, tokens: self.tokens.len(), cut: end.cut }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::Message;
    use instil_grammar::vocab::TokenKind;

    const MARK: TokenId = 256;
    const EOS: TokenId = 257;

    /// Bytes, the mark as a control token, an end, and a token that goes on behind the mark.
    fn vocab() -> Vocab {
        let bytes: Vec<u8> = (0..=255).collect();
        let tokens = bytes.chunks(1).map(|byte| (byte, TokenKind::Text));
        let control = [(&b"</think>"[..], TokenKind::Control), (b"<eos>", TokenKind::Control)];
        Vocab::new(tokens.chain(control).chain([(&b"ink>\n"[..], TokenKind::Text)]), &[EOS])
    }

    fn ids(text: &str) -> Vec<TokenId> {
        text.bytes().map(TokenId::from).collect()
    }

    fn thought(budget: usize) -> Thought {
        Thought {
            budget,
            mark: b"</think>".to_vec(),
            mark_token: Some(MARK),
            closing: ids("\n</think>\n\nSo"),
            behind: ids("\n\nSo"),
        }
    }

    /// What the model has read when the thought has ended, and the thought.
    fn after(tokens: &[TokenId], budget: usize) -> (Vec<u8>, Thoughts) {
        let (vocab, thought, mut pending) = (vocab(), thought(budget), VecDeque::new());
        let mut thinking = Thinking::begin();
        for &token in tokens {
            assert!(!thinking.has_ended(), "it goes on with {token}");
            thinking.take(&thought, token, &vocab, &mut pending);
        }
        assert!(thinking.has_ended());
        let spelled = pending.iter().flat_map(|&token| vocab.bytes(token).to_vec()).collect();
        (spelled, thinking.complete(&vocab))
    }

    #[test]
    fn a_thought_ends_at_its_mark_or_when_its_tokens_are_used_up() {
        let told = |text: &str, tokens, cut| Thoughts { text: text.into(), tokens, cut };
        let by_token = after(&[ids("Hm.\n"), vec![MARK]].concat(), 99);
        assert_eq!(by_token, (b"Hm.\n</think>\n\nSo".to_vec(), told("Hm.\n", 4, false)));
        // The mark in letters, with what comes before it in the same token or behind it.
        let by_letters = after(&ids("Hm.</think>"), 99);
        assert_eq!(by_letters, (b"Hm.</think>\n\nSo".to_vec(), told("Hm.", 11, false)));
        let beyond = after(&[ids("Hm.</th"), vec![258]].concat(), 99);
        assert_eq!(beyond, (b"Hm.</think>\n\nSo".to_vec(), told("Hm.", 8, false)));
        assert_eq!(after(&ids("Hmmm"), 4), (b"Hmmm\n</think>\n\nSo".to_vec(), told("Hmmm", 4, true)));
        // A model that ends its text there is led on to the answer.
        let ended = after(&[ids("Hm"), vec![EOS]].concat(), 99);
        assert_eq!(ended, (b"Hm\n</think>\n\nSo".to_vec(), told("Hm", 2, true)));
    }

    #[test]
    fn marks_are_tokens_where_the_vocabulary_has_them() {
        let template = "{% for message in messages %}{{ '<|start|>' + message.role }}{% if message.thinking %}\
            {{ '<|channel|>analysis<|message|>' + message.thinking + '<|end|><|start|>assistant' }}{% endif %}\
            {% if message.role == 'assistant' %}{{ '<|channel|>final' }}{% endif %}\
            {{ '<|message|>' + message.content + '<|end|>' }}{% endfor %}\
            {% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}";
        let control = ["<|start|>", "<|end|>", "<|channel|>", "<|message|>"];
        let bytes: Vec<u8> = (0..=255).collect();
        let tokens = bytes.chunks(1).map(|byte| (byte, TokenKind::Text));
        let tokens = tokens.chain(control.iter().map(|spelling| (spelling.as_bytes(), TokenKind::Control)));
        let mut tokenizer = Tokenizer::from_vocab(&Vocab::new(tokens, &[]), "bytes").expect("a tokenizer");
        tokenizer.set_chat_template(template).expect("a template");
        let [start, end, channel, message] = [256, 257, 258, 259];
        let header = [&[start][..], &ids("assistant"), &[channel], &ids("final"), &[message], &ids("So")].concat();
        let thought = Thought::of(&tokenizer, 5, "So").expect("a thought");
        assert_eq!((thought.mark_token, &thought.behind), (Some(end), &header));
        assert_eq!(thought.closing, [&[end][..], &header].concat());
        let asked = tokenizer.ask(&[Message::user("Why?")], Way::Answer).expect("it renders");
        let answer = &header[..header.len() - "So".len()];
        assert!(asked.ends_with(answer) && asked.iter().filter(|&&token| token == channel).count() == 1);
    }

    #[test]
    fn there_is_room_for_the_thought_and_what_closes_it() {
        assert_eq!(thought(30).room(), 30 + "\n</think>\n\nSo".len());
    }
}
