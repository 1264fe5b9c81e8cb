//! How text is cut into words before byte-pair merges: one table of `tokenizer.ggml.pre` names.
//!
//! A file names its pre-tokenizer instead of spelling it, so the patterns live here. They are
//! those of the `tokenizer.json` files that the names stand for; where no such file exists
//! (`default`), those of llama.cpp, which coined the name.

use fancy_regex::Regex;

use crate::error::{Error, Result};

/// A pre-tokenizer, ready to run.
#[derive(Debug)]
pub(super) struct PreTokenizer {
    patterns: Vec<Regex>,
}

/// What else a name implies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Habits {
    /// A word that is a token as it stands is taken whole, whatever the merges say.
    pub ignore_merges: bool,
    /// Sequences start with the beginning-of-sequence token unless the file says otherwise.
    pub add_bos: bool,
    /// Merges run over characters with `▁` for the space and byte tokens for the rest, instead of
    /// over the byte-level alphabet.
    pub sentencepiece_style: bool,
    /// Texts are composed (NFC) first, as the `tokenizer.json` of these models says and their GGUF files do not. What
    /// comes back of a text is then its composed form.
    pub composes: bool,
}

/// GPT-2: contractions, letters, numbers, the rest, spaces.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const O200K: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const KIMI_K2: &str = r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const BAILING: &str =
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
const SEED_CODER: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
const EXAONE_MOE: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+";
const JAIS2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}";
const MINICPM5: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Scandinavian and multilingual BLOOM relatives: words with one leading space.
const BLOOM: &str = " ?[^(\\s|.,!?\u{2026}\u{3002}\u{FF0C}\u{3001}\u{964}\u{6D4}\u{60C})]+";
const DIGIT: &str = r"\p{N}";
const DIGITS: &str = r"\p{N}+";
const UP_TO_THREE_DIGITS: &str = r"\p{N}{1,3}";
const THREE_ASCII_DIGITS: &str = "[0-9][0-9][0-9]";
/// Groups of three digits counted from the right end of the number.
const DIGITS_FROM_THE_RIGHT: &str = r"\d{1,3}(?=(?:\d{3})*\b)";
const LINES: &str = r"[^\n]+|[\n]+";
const LINE_BREAK: &str = r"[\r\n]";
const CJK_DEEPSEEK: &str = "[\u{4E00}-\u{9FA5}\u{800}-\u{4E00}\u{AC00}-\u{D7FF}]+";
const CJK_DEEPSEEK_V3: &str = "[\u{4E00}-\u{9FA5}\u{3040}-\u{309F}\u{30A0}-\u{30FF}]+";
const DEEPSEEK_V3: &str = "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
/// Cased letters as one version of Unicode had them: the published pattern lists them one by one.
const CASED_DEEPSEEK: &str = "\\s?[\
     A-Za-z\u{B5}\u{C0}-\u{D6}\u{D8}-\u{F6}\u{F8}-\u{1BA}\u{1BC}-\u{1BF}\u{1C4}-\u{293}\u{295}-\
     \u{2AF}\u{370}-\u{373}\u{376}\u{377}\u{37B}-\u{37D}\u{37F}\u{386}\u{388}-\u{38A}\u{38C}\u{38E}-\
     \u{3A1}\u{3A3}-\u{3F5}\u{3F7}-\u{481}\u{48A}-\u{52F}\u{531}-\u{556}\u{10A0}-\u{10C5}\u{13A0}-\
     \u{13F5}\u{13F8}-\u{13FD}\u{1C90}-\u{1CBA}\u{1CBD}-\u{1CBF}\u{1D00}-\u{1D2B}\u{1D6B}-\u{1D77}\
     \u{1D79}-\u{1D9A}\u{1E00}-\u{1F15}\u{1F18}-\u{1F1D}\u{1F20}-\u{1F45}\u{1F48}-\u{1F4D}\u{1F50}-\
     \u{1F57}\u{1F59}\u{1F5B}\u{1F5D}\u{1F5F}-\u{1F7D}\u{1F80}-\u{1FB4}\u{1FB6}-\u{1FBC}\u{1FBE}\
     \u{1FC2}-\u{1FC4}\u{1FC6}-\u{1FCC}\u{1FD0}-\u{1FD3}\u{1FD6}-\u{1FDB}\u{1FE0}-\u{1FEC}\u{1FF2}-\
     \u{1FF4}\u{1FF6}-\u{1FFC}\u{2102}\u{2107}\u{210A}-\u{2113}\u{2115}\u{2119}-\u{211D}\u{2124}\
     \u{2126}\u{2128}\u{212A}-\u{212D}\u{212F}-\u{2134}\u{2139}\u{213C}-\u{213F}\u{2145}-\u{2149}\
     \u{214E}\u{2183}\u{2184}\u{2C00}-\u{2C7B}\u{2C7E}-\u{2CE4}\u{2CEB}-\u{2CEE}\u{2CF2}\u{2CF3}\
     \u{A640}-\u{A66D}\u{A680}-\u{A69B}\u{A722}-\u{A76F}\u{A771}-\u{A787}\u{A78B}-\u{A78E}\u{AB70}-\
     \u{ABBF}\u{FB00}-\u{FB06}\u{FB13}-\u{FB17}\u{FF21}-\u{FF3A}\u{FF41}-\u{FF5A}\u{10400}-\u{1044F}\
     \u{104B0}-\u{104D3}\u{104D8}-\u{104FB}\u{10C80}-\u{10CB2}\u{10CC0}-\u{10CF2}\u{118A0}-\u{118DF}\
     \u{1E900}-\u{1E943}]+";
const PUNCTUATION_DEEPSEEK: &str = "\\s?[!-/:-~\u{FF01}-\u{FF0F}\u{FF1A}-\u{FF5E}\u{2018}-\u{201F}\u{3000}-\u{3002}]+";
const PUNCTUATION_FALCON: &str = r"[\p{P}\$\+<=>\^~\|`]+";
const PUNCTUATION_DEFAULT: &str = r"[\p{P}\$\+<=>\^~\|]+";
const CJK_YOUTU: &str = "[\u{AC00}-\u{D7A3}\u{3131}-\u{318E}]+|[\u{FF01}\u{2026}\u{201C}\u{201D}\u{2018}\u{2019}\u{2014}\u{FF1A}\u{FF1B}\u{FF0C}\u{3001}-\u{303F}\u{FE30}-\u{FE4F}]+|[\u{3105}-\u{312F}]+|[\u{4E00}-\u{9FA5}\u{3040}-\u{309F}\u{30A0}-\u{30FF}]+";
const YOUTU: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const PLAIN: Habits = Habits { ignore_merges: false, add_bos: false, sentencepiece_style: false, composes: false };
const WHOLE_WORDS: Habits = Habits { ignore_merges: true, ..PLAIN };
const WHOLE_WORDS_AND_BOS: Habits = Habits { add_bos: true, ..WHOLE_WORDS };
const PIECES: Habits = Habits { sentencepiece_style: true, ..PLAIN };

/// Names that mean the same, their patterns in order, and their habits.
type Row = (&'static [&'static str], &'static [&'static str], Habits);

const TABLE: &[Row] = &[
    (&["default"], &[PUNCTUATION_DEFAULT, GPT2, DIGITS, THREE_ASCII_DIGITS], PLAIN),
    (
        &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"],
        &[LLAMA3],
        WHOLE_WORDS_AND_BOS,
    ),
    (&["dbrx", "smaug-bpe", "chatglm-bpe"], &[LLAMA3], PLAIN),
    (&["glm4", "glm5"], &[LLAMA3], WHOLE_WORDS),
    (
        &[
            "gpt-2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "exaone4",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "jina-es",
            "jina-de",
            "jina-v1-en",
            "jina-v2-es",
            "jina-v2-de",
            "jina-v2-code",
            "roberta-bpe",
        ],
        &[GPT2],
        PLAIN,
    ),
    (
        &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"],
        &[DIGIT, GPT2],
        PLAIN,
    ),
    (
        &["deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez", "kormo", "f2llmv2", "solar-open", "grok-2"],
        &[QWEN2],
        PLAIN,
    ),
    // Qwen 2 to 3. The published vectors of Qwen3.5 leave texts as they are.
    (&["qwen2"], &[QWEN2], Habits { composes: true, ..PLAIN }),
    (&["qwen35"], &[QWEN35], PLAIN),
    (&["falcon"], &[PUNCTUATION_FALCON, GPT2, THREE_ASCII_DIGITS], PLAIN),
    (&["deepseek-llm"], &[LINE_BREAK, CASED_DEEPSEEK, PUNCTUATION_DEEPSEEK, r"\s+$", CJK_DEEPSEEK, DIGITS], PLAIN),
    (&["deepseek-coder"], &[LINE_BREAK, r"\s?\p{L}+", r"\s?\p{P}+", CJK_DEEPSEEK, DIGIT], PLAIN),
    (
        &["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"],
        &[UP_TO_THREE_DIGITS, CJK_DEEPSEEK_V3, DEEPSEEK_V3],
        PLAIN,
    ),
    (&["tekken"], &[TEKKEN], WHOLE_WORDS_AND_BOS),
    (&["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"], &[O200K], PLAIN),
    (&["tiny_aya", "cohere2moe"], &[DIGITS_FROM_THE_RIGHT, O200K], PLAIN),
    (&["kimi-k2"], &[KIMI_K2], PLAIN),
    (&["superbpe"], &[DIGITS, r"(?=(\d{3})+(?!\d))"], PLAIN),
    (&["bailingmoe", "bailingmoe2", "llada-moe"], &[BAILING], PLAIN),
    (&["seed-coder"], &[SEED_CODER], PLAIN),
    (&["exaone-moe"], &[EXAONE_MOE], PLAIN),
    (&["jais-2"], &[JAIS2], PLAIN),
    (&["minicpm5"], &[UP_TO_THREE_DIGITS, MINICPM5], WHOLE_WORDS),
    (&["youtu"], &[CJK_YOUTU, YOUTU], WHOLE_WORDS),
    (&["laguna"], &[LINES, QWEN2], PLAIN),
    (&["poro-chat", "bloom", "gpt3-finnish"], &[BLOOM], PLAIN),
    (&["viking"], &[BLOOM, DIGIT], PLAIN),
    (&["gemma4"], &[LINES], Habits { add_bos: true, ..PIECES }),
    (&["sarvam-moe"], &[LINES], PIECES),
];

/// One name of each row of the table but the first, which stands for files that do not say, with its patterns and habits.
pub(super) fn names() -> impl Iterator<Item = (&'static str, &'static [&'static str], Habits)> {
    TABLE.iter().skip(1).map(|(names, patterns, habits)| (names[0], *patterns, *habits))
}

impl PreTokenizer {
    /// The pre-tokenizer of that name, and its habits.
    ///
    /// # Errors
    /// When the name is not in the table; the error lists the names that are.
    pub(super) fn named(name: &str, model: &str) -> Result<(Self, Habits)> {
        let Some((_, patterns, habits)) = TABLE.iter().find(|row| row.0.contains(&name)) else {
            let mut known: Vec<&str> = TABLE.iter().flat_map(|row| row.0).copied().collect();
            known.sort_unstable();
            let what = format!("its pre-tokenizer `{name}` (tokenizer.ggml.pre) is not known");
            return Err(Error::model(model, what, format!("use a model with one of: {}", known.join(", "))));
        };
        let patterns = patterns.iter().map(|pattern| Regex::new(pattern).expect("every pattern of the table compiles"));
        Ok((Self { patterns: patterns.collect() }, *habits))
    }

    /// Cuts a text into words; joined, they are the text again.
    ///
    /// # Errors
    /// When a pattern gives up on the text because it would have to try too many ways.
    pub(super) fn split<'t>(&self, text: &'t str, model: &str) -> Result<Vec<&'t str>> {
        let mut words = vec![text];
        for pattern in &self.patterns {
            let mut finer = Vec::with_capacity(words.len());
            for word in words {
                let mut from = 0;
                for found in pattern.find_iter(word) {
                    let found = found.map_err(|error| {
                        let remedy = "shorten the text: it has a very long run of one kind of character";
                        Error::model(model, format!("cannot tokenize a text: {error}"), remedy)
                    })?;
                    // A match is a word of its own, and so is what lies before it.
                    finer.push(&word[from..found.start()]);
                    finer.push(found.as_str());
                    from = found.end();
                }
                finer.push(&word[from..]);
            }
            finer.retain(|word| !word.is_empty());
            words = finer;
        }
        Ok(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words<'t>(name: &str, text: &'t str) -> Vec<&'t str> {
        PreTokenizer::named(name, "test").unwrap().0.split(text, "test").unwrap()
    }

    #[test]
    fn every_row_compiles_and_keeps_the_text() {
        let text = "Hello, y'all! It'S 1234567 \u{e9}t\u{e9} \u{4f60}\u{597d}\u{3042} \t\r\n\n  <x>\u{1f999}  ";
        let mut seen = std::collections::BTreeSet::new();
        for name in TABLE.iter().flat_map(|row| row.0) {
            assert!(seen.insert(name), "{name} is listed twice");
            assert_eq!(words(name, text).concat(), text, "{name}");
            assert!(words(name, "").is_empty(), "{name}");
        }
    }

    #[test]
    fn digits_are_cut_as_each_model_was_trained() {
        assert_eq!(words("smollm", " 123"), [" ", "1", "2", "3"]);
        assert_eq!(words("gpt-2", " 123"), [" 123"]);
        assert_eq!(words("llama-bpe", "12345"), ["123", "45"]);
        assert_eq!(words("qwen2", "123"), ["1", "2", "3"]);
        assert_eq!(words("tiny_aya", "1234567"), ["1", "234", "567"]);
        assert_eq!(words("superbpe", "1234567"), ["1", "234", "567"]);
        assert_eq!(words("default", " 12345"), [" ", "123", "45"]);
    }

    #[test]
    fn spaces_before_a_word_stay_with_it() {
        assert_eq!(words("gpt-2", "a   b"), ["a", "  ", " b"]);
        assert_eq!(words("gpt-2", "a \n"), ["a", " \n"]);
        assert_eq!(words("llama-bpe", "a.\n\n b"), ["a", ".\n\n", " b"]);
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let message = PreTokenizer::named("martian", "m.gguf").unwrap_err().to_string();
        assert!(message.contains("`martian`") && message.contains("llama-bpe") && !message.contains('\n'), "{message}");
    }
}
