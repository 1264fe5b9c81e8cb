//! Random walks: texts sampled from masks alone, without a model, and what must be true of each.

use std::sync::Arc;

use instil_grammar::constraint::{Engine, Session};
use instil_grammar::grammar::{Enforcement, Program};
use instil_grammar::vocab::{TokenId, TokenKind, Vocab};
use serde_json::Value;

use super::oracle;

/// A small seeded generator (xorshift64*): a walk is named by its seed.
pub struct Rng(u64);

impl Rng {
    /// Distinct seeds give unrelated sequences.
    pub fn new(seed: u64) -> Self {
        let mut rng = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..4 {
            rng.next();
        }
        rng
    }

    /// Any number of 53 bits.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    /// A number below `n`, which is not zero.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// How a walk chooses among the tokens of a mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampler {
    /// Each alike.
    Uniform,
    /// A random first byte, then a token that starts with it: rare turns are taken often.
    FirstByte,
    /// Tokens with quotes, brackets, commas, colons and backslashes: across as many places as can be.
    Structure,
    /// Tokens of one byte, or that are no characters by themselves.
    Bytes,
    /// The longest tokens.
    Long,
    /// Never ends while it may go on, and goes where most tokens are still needed.
    Endless,
}

impl Sampler {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Uniform, Self::FirstByte, Self::Structure, Self::Bytes, Self::Long, Self::Endless];
}

/// Classes of a vocabulary's tokens, as bit sets.
pub struct Classes {
    width: usize,
    eos: Vec<TokenId>,
    first: Vec<Vec<u32>>,
    structure: Vec<u32>,
    bytes: Vec<u32>,
    long: Vec<u32>,
}

impl Classes {
    /// Sorts the text tokens.
    pub fn new(vocab: &Vocab) -> Self {
        let words = vocab.len().div_ceil(32);
        let mut classes = Self {
            width: vocab.len(),
            eos: vocab.eos().to_vec(),
            first: vec![vec![0; words]; 256],
            structure: vec![0; words],
            bytes: vec![0; words],
            long: vec![0; words],
        };
        let set = |bits: &mut Vec<u32>, id: TokenId| bits[id as usize / 32] |= 1 << (id % 32);
        for (id, bytes) in vocab.text_tokens() {
            set(&mut classes.first[bytes[0] as usize], id);
            if bytes.iter().any(|byte| b"\"{}[],:\\".contains(byte)) {
                set(&mut classes.structure, id);
            }
            if bytes.len() == 1 || std::str::from_utf8(bytes).is_err() {
                set(&mut classes.bytes, id);
            }
            if bytes.len() >= 8 {
                set(&mut classes.long, id);
            }
        }
        classes
    }

    fn is_eos(&self, id: TokenId) -> bool {
        self.eos.contains(&id)
    }
}

/// One finished walk.
#[derive(Debug)]
pub struct Walk {
    /// What was written.
    pub text: Vec<u8>,
    /// Tokens, the end of sequence not counted.
    pub tokens: usize,
    /// The limit took part.
    pub closed_by_budget: bool,
}

/// A walk that could not be finished, or that broke a promise on the way.
#[derive(Debug)]
#[expect(dead_code, reason = "what they hold is shown by Debug")]
pub enum Failure {
    /// No token may come next, and the text is not complete.
    DeadEnd(Vec<u8>),
    /// The limit is spent, and the text is not complete.
    Unclosed(Vec<u8>),
    /// Mask, `allows` and `advance` do not agree, or the mask lets through what is no text.
    Inconsistent(String),
}

/// In vocabularies of fewer tokens each of them is held against the mask now and then.
const FEW_TOKENS: usize = 1_000;

/// Walks once from the empty text, within `limit` tokens (the end of sequence not counted).
pub fn walk(
    engine: &Arc<Engine>,
    classes: &Classes,
    limit: usize,
    sampler: Sampler,
    rng: &mut Rng,
) -> Result<Walk, Failure> {
    let vocab = engine.tables().vocab().clone();
    let mut session = engine.start(Some(limit)).map_err(|error| Failure::Inconsistent(error.to_string()))?;
    let mut bits = vec![0_u32; vocab.len().div_ceil(32)];
    for step in 0.. {
        let mask = session.mask();
        bits.fill(0);
        mask.write_bits(&mut bits);
        let accepting = session.is_accepting();
        let fault = |what: &str, id: TokenId, session: &Session| {
            let (token, text) = (String::from_utf8_lossy(vocab.bytes(id)), String::from_utf8_lossy(session.text()));
            Failure::Inconsistent(format!("{what}: token {id} {token:?} after {text:?} (limit {limit})"))
        };
        for &id in vocab.eos() {
            if contains(&bits, id) != accepting {
                return Err(fault("the end of sequence is not gated by acceptance", id, &session));
            }
        }
        let Some(id) = choose(&bits, classes, sampler, &mut session, rng) else {
            return Err(if step >= limit {
                Failure::Unclosed(session.text().to_vec())
            } else {
                Failure::DeadEnd(session.text().to_vec())
            });
        };
        if vocab.is_eos(id) {
            session.advance(id).map_err(|_| fault("the end of sequence is turned down", id, &session))?;
            return Ok(Walk {
                text: session.text().to_vec(),
                tokens: step,
                closed_by_budget: session.closed_by_budget(),
            });
        }
        if step >= limit {
            return Err(fault("a token passes after the limit", id, &session));
        }
        if vocab.kind(id) != TokenKind::Text || !mask.contains(id) {
            return Err(fault("the mask holds what is no text", id, &session));
        }
        // What the mask leaves out must be turned down, unless it is the limit that leaves it out.
        let all = vocab.len() < FEW_TOKENS && rng.below(8) == 0;
        let some = TokenId::try_from(rng.below(vocab.len())).expect("token ids are 32 bits wide");
        let asked = if all { 0..TokenId::try_from(vocab.len()).unwrap_or(0) } else { some..some + 1 };
        for other in asked.filter(|_| all || step % 8 == 0) {
            if contains(&bits, other) && !session.allows(other) {
                return Err(fault("in the mask but not allowed", other, &session));
            }
            if !contains(&bits, other) && !session.closed_by_budget() && session.allows(other) {
                return Err(fault("allowed but not in the mask", other, &session));
            }
        }
        session.advance(id).map_err(|_| fault("in the mask but turned down", id, &session))?;
    }
    unreachable!("a walk ends at its limit")
}

fn contains(bits: &[u32], id: TokenId) -> bool {
    bits[id as usize / 32] >> (id % 32) & 1 == 1
}

fn choose(bits: &[u32], classes: &Classes, sampler: Sampler, session: &mut Session, rng: &mut Rng) -> Option<TokenId> {
    debug_assert_eq!(bits.len(), classes.width.div_ceil(32));
    // One choice in eight is free, so that no walk is the slave of its sampler.
    let sampler = if rng.below(8) == 0 { Sampler::Uniform } else { sampler };
    let within = |class: &[u32], rng: &mut Rng| pick(bits.iter().zip(class).map(|(a, b)| a & b), rng);
    let uniform = |rng: &mut Rng| pick(bits.iter().copied(), rng);
    match sampler {
        Sampler::Uniform => uniform(rng),
        Sampler::FirstByte => {
            for _ in 0..12 {
                let byte = if rng.below(2) == 0 { 0x20 + rng.below(0x5f) } else { rng.below(256) };
                if let Some(id) = within(&classes.first[byte], rng) {
                    return Some(id);
                }
            }
            uniform(rng)
        }
        Sampler::Structure => within(&classes.structure, rng).or_else(|| uniform(rng)),
        Sampler::Bytes => within(&classes.bytes, rng).or_else(|| uniform(rng)),
        Sampler::Long => within(&classes.long, rng).or_else(|| uniform(rng)),
        Sampler::Endless => {
            let mut best = None;
            for _ in 0..3 {
                let Some(id) = uniform(rng) else { break };
                let mut fork = session.clone();
                let need = if classes.is_eos(id) || fork.advance(id).is_err() { 0 } else { 1 + fork.min_tokens_left() };
                if best.is_none_or(|(most, _)| need > most) {
                    best = Some((need, id));
                }
            }
            best.map(|(_, id)| id)
        }
    }
}

/// A set bit, each alike.
fn pick(words: impl Iterator<Item = u32> + Clone, rng: &mut Rng) -> Option<TokenId> {
    let count: usize = words.clone().map(|word| word.count_ones() as usize).sum();
    if count == 0 {
        return None;
    }
    let mut rank = rng.below(count);
    for (index, mut word) in (0..).zip(words) {
        let ones = word.count_ones() as usize;
        if rank >= ones {
            rank -= ones;
            continue;
        }
        for _ in 0..rank {
            word &= word - 1;
        }
        return Some(index * 32 + word.trailing_zeros());
    }
    None
}

/// Some keyword of the schema is left to checks of the finished text.
pub fn is_guarded(program: &Program) -> bool {
    program.report().iter().any(|entry| entry.enforcement == Enforcement::Guard)
}

/// Checks finished texts of one schema.
pub struct Judge {
    current: Option<jsonschema::Validator>,
    exact: Option<jsonschema_exact::Validator>,
    spaced: bool,
}

impl Judge {
    /// Validators where the schema has them.
    pub fn new(schema: &Value, spaced: bool) -> Self {
        let schema = oracle::without_word_escapes(schema);
        Self { current: oracle::current(&schema).ok(), exact: oracle::exact(&schema).ok(), spaced }
    }

    /// True when there is a validator at all.
    pub fn has_validator(&self) -> bool {
        self.current.is_some()
    }

    /// Why the text is wrong, if it is.
    pub fn fault(&self, text: &[u8]) -> Option<String> {
        let Ok(text) = std::str::from_utf8(text) else { return Some("not UTF-8".to_owned()) };
        let value: Value = match serde_json::from_str(text) {
            Ok(value) => value,
            Err(error) => return Some(format!("not JSON: {error}")),
        };
        let (members, spaced) = count_colons(text);
        if members != count_members(&value) {
            return Some("a key stands twice in one object".to_owned());
        }
        if self.spaced && !spaced {
            return Some("not in the asked-for whitespace".to_owned());
        }
        let current = self.current.as_ref().and_then(|validator| {
            let error = validator.iter_errors(&value).next()?;
            Some(format!("invalid: {:.200} at {} by {}", error.to_string(), error.instance_path(), error.schema_path()))
        });
        // In the older release a dot takes every line end but `\n`.
        let dotless = !text.contains(['\r', '\u{2028}', '\u{2029}']) && !text.contains("\\r");
        let exact = self.exact.as_ref().filter(|_| dotless).and_then(|validator| {
            let error = validator.iter_errors(&value).next()?;
            Some(format!("invalid (exact): {:.200} by {}", error.to_string(), error.schema_path()))
        });
        // Each release errs on numbers that no double holds; on others both must be pleased.
        if has_long_number(&value) { current.and(exact) } else { current.or(exact) }
    }
}

/// A number of more than 15 significant digits is among the values.
fn has_long_number(value: &Value) -> bool {
    match value {
        Value::Number(number) => {
            let literal = number.to_string();
            let mantissa = literal.split(['e', 'E']).next().unwrap_or("");
            mantissa.bytes().filter(u8::is_ascii_digit).skip_while(|&digit| digit == b'0').count() > 15
        }
        Value::Array(items) => items.iter().any(has_long_number),
        Value::Object(members) => members.values().any(has_long_number),
        _ => false,
    }
}

/// Colons outside strings, and whether white space stands exactly after each comma and colon.
fn count_colons(text: &str) -> (usize, bool) {
    let (mut colons, mut spaced) = (0, true);
    let (mut in_string, mut escaped) = (false, false);
    let mut after_separator = false;
    for byte in text.bytes() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        spaced &= (byte == b' ') == after_separator && !matches!(byte, b'\n' | b'\t' | b'\r');
        after_separator = matches!(byte, b',' | b':');
        colons += usize::from(byte == b':');
        in_string = byte == b'"';
    }
    (colons, spaced)
}

fn count_members(value: &Value) -> usize {
    match value {
        Value::Object(members) => members.len() + members.values().map(count_members).sum::<usize>(),
        Value::Array(items) => items.iter().map(count_members).sum(),
        _ => 0,
    }
}
