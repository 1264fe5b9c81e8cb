//! The engine against itself: masks from tables and shortcuts say what reading byte by byte says, and
//! every walk within a limit ends in time.

mod natural;

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Engine, Escapes, KeyOrder, Session, Settings, Tables, Whitespace};
use crate::grammar::{GrammarSource, Options, Style, TextBounds};
use crate::vocab::{TokenId, TokenKind, Vocab};

/// Every byte, and tokens that cross every border there is.
fn vocab() -> Arc<Vocab> {
    let mut tokens: Vec<Vec<u8>> = (0..=255u8).map(|byte| vec![byte]).collect();
    for text in [
        "",
        "<eos>",
        "{\"",
        "\": ",
        "\":",
        "\", \"",
        "\",",
        "\"}",
        "\"]",
        "\"}]",
        "\"],",
        "name",
        "na",
        "me\": \"",
        "ab\"",
        "é",
        "日本",
        "\u{1F600}",
        "\\n",
        "\\\"",
        "\\u",
        "\\u00",
        "a\\",
        "  ",
        "    ",
        "        ",
        "\": {\"",
        "}}",
        "]]",
        "[[",
        "[\"",
        ", ",
        "\n  ",
        "\n}",
        "12",
        "0.5",
        "e1",
        "true",
        "false",
        "null",
        "nu",
        "true}",
        "1}",
        "1, ",
        "\"a\": 1",
        "\"\"",
        "\"\":",
        "\"b\"",
        "xyz",
        "b\": 1, \"c\": ",
        "ba",
        "other\": ",
        "Z9-",
        "\\u00e9",
        "\\/",
        "\",\"",
        "\":\"",
        "},{\"",
        "1,",
        "2, 1",
        "a\", \"b",
    ] {
        tokens.push(text.as_bytes().to_vec());
    }
    // A character cut in two, as byte-level vocabularies have them.
    tokens.extend([vec![0xe6, 0x97], vec![0x97, 0xa5], vec![b'a', 0xe6], vec![0xa9, b'"']]);
    let kind = |bytes: &[u8]| if bytes == b"<eos>" { TokenKind::Control } else { TokenKind::Text };
    let eos = tokens.iter().position(|bytes| bytes == b"<eos>").and_then(|at| TokenId::try_from(at).ok());
    Arc::new(Vocab::new(tokens.iter().map(|bytes| (bytes.as_slice(), kind(bytes))), &[eos.expect("it is there")]))
}

fn engine(source: &GrammarSource, settings: Settings) -> Arc<Engine> {
    let numbers = if settings.escapes == Escapes::Any { Style::Flexible } else { Style::Canonical };
    Engine::compile(source, &Options { style: numbers }, Tables::new(vocab()), settings).expect("it compiles")
}

fn json_engine(schema: Value, settings: Settings) -> Arc<Engine> {
    engine(&GrammarSource::JsonSchema(schema), settings)
}

fn any() -> Settings {
    Settings { key_order: KeyOrder::Any, escapes: Escapes::Any, ..Settings::default() }
}

/// Whether a text passes byte by byte.
fn accepts(engine: &Arc<Engine>, text: &str) -> bool {
    let mut session = engine.start(None).expect("no limit");
    text.bytes().all(|byte| session.mask().contains(byte.into()) && session.advance(byte.into()).is_ok())
        && session.is_accepting()
}

/// Compares the mask with trying every token.
fn compare(session: &mut Session) {
    let mask = session.mask();
    let tables = session.engine().tables().clone();
    let mut count = 0;
    for id in 0..TokenId::try_from(tables.vocab().len()).expect("small") {
        let passes = session.clone().advance(id).is_ok();
        count += usize::from(passes);
        let text = String::from_utf8_lossy(session.text()).into_owned();
        let token = String::from_utf8_lossy(tables.vocab().bytes(id)).into_owned();
        assert_eq!(mask.contains(id), passes, "token {id} {token:?} after {text:?}");
    }
    assert_eq!(mask.count(), count);
    let mut listed = Vec::new();
    mask.for_each(|id| listed.push(id));
    assert!(listed.len() == count && listed.iter().all(|&id| mask.contains(id)));
}

/// Short strings over a few characters of different classes, long runs, and closing quotes after them: enough tokens
/// below a node for subtrees to be taken whole.
fn dense_vocab() -> Arc<Vocab> {
    let mut tokens: Vec<Vec<u8>> = (0..=255u8).map(|byte| vec![byte]).collect();
    let mut words: Vec<String> = vec![String::new()];
    for length in 1..=4 {
        let longer: Vec<String> = words
            .iter()
            .filter(|word| word.chars().count() == length - 1)
            .flat_map(|word| ["a", "f", "Z", " ", "1", ":", "é"].map(|c| format!("{word}{c}")))
            .collect();
        tokens.extend(longer.iter().filter(|word| word.len() > 1).map(|word| word.as_bytes().to_vec()));
        tokens.extend(longer.iter().filter(|_| length < 3).map(|word| format!("{word}\"").into_bytes()));
        words.extend(longer);
    }
    tokens.extend(["a", " ", "-", "1a"].map(|run| run.repeat(30).into_bytes()));
    // The beginnings of characters that white space has among them, and of others.
    tokens.extend([&b" \xe2"[..], b"\xe2\x80", b"a\xe2\x80", b"\xe3\x80", b"a\xe4\xbd", b"\xa8\""].map(<[u8]>::to_vec));
    tokens.extend(["a\\n", " \\", "\\u00e9", "a\", \"", "<eos>"].map(|text| text.as_bytes().to_vec()));
    let eos = TokenId::try_from(tokens.len() - 1).expect("small");
    Arc::new(Vocab::new(tokens.iter().map(|bytes| (bytes.as_slice(), TokenKind::Text)), &[eos]))
}

#[test]
fn patterns_say_what_bytes_say() {
    let mut random = Random(3);
    let tables = Tables::new(dense_vocab());
    for schema in [
        json!({"pattern": "^(?:\\S+\\s+){0,9}\\S+$", "maxLength": 40}),
        json!({"pattern": "^(?:\\S+\\s+){0,99}\\S+$"}),
        json!({"pattern": "^.+:[a-f0-9]{2,6}-\\d+$"}),
        json!({"pattern": "^[a-zA-Z0-9]+( [a-z0-9]+){0,3}$", "maxLength": 30}),
        json!({"pattern": "^[af]*a[af]{5}$"}),
        json!({"pattern": "a:"}),
        json!({"pattern": "^\\s*$"}),
        json!({"pattern": "^[^a]*$"}),
        json!({"not": {"pattern": "Z1"}}),
        json!({"allOf": [{"pattern": "f"}, {"not": {"pattern": "a"}}]}),
        json!({"pattern": "^(?!a1)[a-f0-9]*$", "minLength": 3}),
        json!({"format": "email"}),
        json!({"not": {"enum": ["a", "aa", "a1: Z"]}}),
    ] {
        let source = GrammarSource::JsonSchema(json!({"allOf": [{"type": "string"}, schema]}));
        for (settings, numbers) in [(Settings::default(), Style::Canonical), (any(), Style::Flexible)] {
            let engine =
                Engine::compile(&source, &Options { style: numbers }, tables.clone(), settings).expect("it compiles");
            for limit in [None, Some(engine.min_tokens() + 12)] {
                let mut session = engine.start(limit).expect("no limit, or a wide one");
                for _ in 0..14 {
                    compare(&mut session);
                    let mut ids = Vec::new();
                    session.mask().for_each(|id| ids.push(id));
                    if ids.is_empty() || session.is_finished() {
                        break;
                    }
                    session.advance(ids[random.below(ids.len())]).expect("it is in the mask");
                }
            }
        }
    }
}

/// Twelve alternatives that overlap, nested in each other.
fn ambiguous() -> Value {
    let alternatives: Vec<Value> =
        (0..12).map(|i| json!({"properties": {"k": {"enum": [i, i + 1]}}, "required": ["k"]})).collect();
    let node = json!({"type": "object", "properties": {"sub": {"$ref": "#/$defs/node"}, "k": {}}, "additionalProperties": false, "anyOf": alternatives});
    json!({"$ref": "#/$defs/node", "$defs": {"node": node}})
}

#[test]
fn nested_alternatives_do_not_multiply() {
    let engine = json_engine(ambiguous(), Settings::default());
    let depth = 40;
    let text = format!("{}{{\"k\": 3}}{}", "{\"sub\": ".repeat(depth), ", \"k\": 7}".repeat(depth));
    assert!(accepts(&engine, &text));
    assert!(!accepts(&engine, &text.replacen('7', "14", 3)));
    let stacks = engine.statistics().stacks;
    assert!(stacks < 20_000, "{stacks} stacks");
}

fn schemas() -> Vec<Value> {
    vec![
        json!({}),
        json!({"type": "string", "minLength": 2, "maxLength": 5}),
        json!({"type": "string", "pattern": "^[a-z]{2,9}$"}),
        json!({"enum": ["a\"b", "ab", "name", "na", "日本", 1, 1.5, null, true, "line\nfeed", "\u{1}"]}),
        json!({"type": "object", "properties": {"name": {"type": "string"}, "n": {"type": "integer"}, "na": {}}, "required": ["name"]}),
        json!({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}, "c": {"type": "boolean"}}, "additionalProperties": false, "minProperties": 2}),
        json!({"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 1, "maxProperties": 3}),
        json!({"type": "object", "patternProperties": {"^a": {"type": "integer"}, "^b": {"type": "string"}}, "additionalProperties": false}),
        json!({"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 12}, "uniqueItems": true, "minItems": 2, "maxItems": 4}),
        json!({"type": "array", "contains": {"const": 1}, "items": {"type": "integer"}, "maxItems": 3}),
        json!({"type": "array", "prefixItems": [{"type": "string"}, {"type": "null"}], "items": false, "minItems": 1}),
        json!({"oneOf": [{"type": "object", "properties": {"kind": {"const": "a"}, "x": {"type": "integer"}}, "required": ["kind", "x"]},
                         {"type": "object", "properties": {"kind": {"const": "b"}, "y": {"type": "string"}}, "required": ["kind", "y"]}]}),
        json!({"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "object", "properties": {"v": {"type": "number"}, "sub": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}, "required": ["v"], "additionalProperties": false}}}),
        ambiguous(),
        json!({"$ref": "#/$defs/n", "$defs": {"n": {"type": "object", "properties": {"a": {"$ref": "#/$defs/n"}, "b": {"type": "integer"}}, "minProperties": 1, "additionalProperties": false}}}),
        json!({"type": "object", "properties": {"a": {}, "b": {}, "c": {}}, "dependentRequired": {"a": ["c"]}, "maxProperties": 2, "additionalProperties": false}),
        json!({"type": "object", "minProperties": 9}),
        json!({"type": "array", "minItems": 3, "items": {"type": "object", "minProperties": 3}}),
    ]
}

/// A small generator of numbers: walks must be the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap_or(0) % n
    }
}

#[test]
fn masks_say_what_bytes_say() {
    let mut random = Random(7);
    for schema in schemas() {
        for (settings, steps) in
            [(Settings::default(), 24), (any(), 24), (Settings { whitespace: Whitespace::Flexible, ..any() }, 12)]
        {
            let engine = json_engine(schema.clone(), settings);
            for _ in 0..3 {
                let mut session = engine.start(None).expect("no limit");
                for _ in 0..steps {
                    compare(&mut session);
                    let mut ids = Vec::new();
                    session.mask().for_each(|id| ids.push(id));
                    if ids.is_empty() || session.is_finished() {
                        break;
                    }
                    session.advance(ids[random.below(ids.len())]).expect("it is in the mask");
                }
            }
        }
    }
}

#[test]
fn walks_end_within_their_limit() {
    let mut random = Random(11);
    for schema in schemas() {
        let validator = jsonschema::options().should_validate_formats(true).build(&schema).expect("a schema");
        for whitespace in [Whitespace::Compact, Whitespace::Spaced, Whitespace::Pretty] {
            for key_order in [KeyOrder::Schema, KeyOrder::Any] {
                let style = if whitespace == Whitespace::Compact { Style::Natural } else { Style::Canonical };
                let source = GrammarSource::JsonSchema(schema.clone());
                let settings = Settings { whitespace, key_order, ..Settings::default() };
                let engine =
                    Engine::compile(&source, &Options { style }, Tables::new(vocab()), settings).expect("it compiles");
                let least = engine.min_tokens();
                assert!(engine.start(Some(least - 1)).is_err());
                for walk in 0..12 {
                    let limit = least + if walk < 4 { walk } else { random.below(40) };
                    let mut session = engine.start(Some(limit)).expect("above the least");
                    while !session.is_finished() {
                        let mut ids = Vec::new();
                        session.mask().for_each(|id| ids.push(id));
                        let text = String::from_utf8_lossy(session.text()).into_owned();
                        if ids.is_empty() {
                            // Only what no automaton holds may run into the sand.
                            assert!(schema.get("uniqueItems").is_some(), "{schema} stops after {text:?}");
                            break;
                        }
                        session.advance(ids[random.below(ids.len())]).expect("it is in the mask");
                        assert!(session.tokens().len() <= limit + 1, "{text:?} of {schema}");
                    }
                    if session.is_finished() {
                        let text = String::from_utf8(session.text().to_vec()).expect("UTF-8");
                        let value: Value =
                            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
                        assert!(validator.is_valid(&value), "{text} of {schema}");
                    }
                }
            }
        }
    }
}

#[test]
fn keys_are_unique_however_spelt() {
    let engine = json_engine(json!({"type": "object"}), any());
    assert!(accepts(&engine, r#"{"a": 1, "b": {"a": 2}}"#));
    assert!(!accepts(&engine, r#"{"a": 1, "a": 2}"#));
    assert!(!accepts(&engine, r#"{"a": 1, "\u0061": 2}"#));
    assert!(accepts(&engine, r#"{"a": 1, "ab": 2, "": 3}"#));
    assert!(!accepts(&engine, r#"{"": 1, "": 2}"#));
}

#[test]
fn near_the_limit_ends_are_leant_to() {
    let engine = json_engine(json!({"type": "string"}), any());
    let mut session = engine.start(Some(20)).expect("above the least");
    let mut nearness = Vec::new();
    for byte in *b"\"abcdefghijklmnopq" {
        session.advance(byte.into()).expect("it passes");
        let lean = session.lean(8);
        if let Some((preferred, near)) = &lean {
            assert!(preferred.contains(b'"'.into()) && !preferred.contains(b'x'.into()));
            assert!(session.mask().contains(b'x'.into()), "nothing is ruled out yet");
            nearness.push(*near);
        }
    }
    // Of 20 tokens one closes the string; the eight before are the window.
    assert_eq!(nearness, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0].map(|n: f32| n / 8.0));
    assert!(engine.start(None).expect("no limit").lean(8).is_none());
    assert!(engine.start(Some(20)).expect("above the least").lean(0).is_none());
}

#[test]
fn a_key_can_be_told_from_others_within_the_limit() {
    let schema =
        json!({"type": "object", "patternProperties": {"^\\d*$": {"type": "string"}}, "additionalProperties": false});
    let engine = json_engine(schema, Settings::default());
    let text = r#"{"": "", ""#;
    let mut session = engine.start(Some(engine.min_tokens() + text.len() + 12)).expect("above the least");
    for byte in text.bytes() {
        session.advance(byte.into()).expect("it passes");
    }
    let mut fork = engine.start(Some(text.len() + session.min_tokens_left())).expect("above the least");
    for byte in text.bytes() {
        fork.advance(byte.into()).expect("it passes");
    }
    assert!(fork.mask().count() > 0, "the key can be made to differ");
    assert!(!fork.mask().contains(b'"'.into()));
}

#[test]
fn strings_are_counted_in_characters() {
    let engine = json_engine(json!({"type": "string", "maxLength": 2}), any());
    assert!(accepts(&engine, "\"日本\""));
    assert!(accepts(&engine, "\"\u{1F600}a\""));
    assert!(accepts(&engine, r#""\ud83d\ude00a""#));
    assert!(!accepts(&engine, r#""\ud83d\ude00ab""#));
    assert!(!accepts(&engine, "\"abc\""));
    assert!(!accepts(&engine, r#""\ud83d""#));
}

#[test]
fn order_and_white_space_are_as_set() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]});
    let spaced = json_engine(schema.clone(), Settings::default());
    assert!(accepts(&spaced, r#"{"a": 1, "b": 2}"#));
    assert!(!accepts(&spaced, r#"{"b": 1, "a": 2}"#));
    assert!(!accepts(&spaced, r#"{"a":1,"b":2}"#));
    assert!(accepts(&json_engine(schema.clone(), any()), r#"{"b": 1, "a": 2}"#));
    let pretty = json_engine(schema.clone(), Settings { whitespace: Whitespace::Pretty, ..Settings::default() });
    assert!(accepts(&pretty, "{\n  \"a\": 1,\n  \"b\": 2\n}"));
    let flexible = json_engine(schema, Settings { whitespace: Whitespace::Flexible, ..Settings::default() });
    assert!(accepts(&flexible, " {\"a\" :1 ,\n\t\"b\":\r2 } \n"));
}

#[test]
fn texts_and_choices_run_through_the_same_masks() {
    let choice = engine(&GrammarSource::Choice(vec!["name".into(), "na".into(), "other".into()]), Settings::default());
    assert!(accepts(&choice, "na") && accepts(&choice, "name") && !accepts(&choice, "nam"));
    let bounds = TextBounds { min_chars: 3, max_chars: Some(6), ..TextBounds::default() };
    let text = engine(&GrammarSource::Text(bounds), Settings::default());
    assert!(accepts(&text, "日本語") && !accepts(&text, "ab") && !accepts(&text, "abcdefg"));
    let regex = engine(&GrammarSource::Regex("[ab]*a[ab]{3}".into()), Settings::default());
    assert!(accepts(&regex, "babab") && !accepts(&regex, "bbbbb") && !accepts(&regex, "abb"));
    for engine in [choice, text, regex] {
        let mut session = engine.start(Some(engine.min_tokens())).expect("the least");
        while !session.is_finished() {
            compare_free(&mut session);
        }
    }
}

/// Advances by the last token of the mask.
fn compare_free(session: &mut Session) {
    let mut last = None;
    session.mask().for_each(|id| last = Some(id));
    session.advance(last.expect("never stuck")).expect("it is in the mask");
}

#[test]
fn forced_runs_and_rollback() {
    let schema = json!({"type": "object", "properties": {"name": {"type": "integer"}}, "required": ["name"], "additionalProperties": false});
    let engine = json_engine(schema, Settings::default());
    let mut session = engine.start(None).expect("no limit");
    let run = session.forced();
    let text = engine.tables().vocab().decode(&run);
    assert!(b"{\"name\": ".starts_with(&text[..]) && text.len() > 5, "{text:?}");
    for token in run {
        session.advance(token).expect("forced");
    }
    let fork = session.clone();
    let len = session.tokens().len();
    session.rollback(1);
    assert_eq!(session.tokens().len(), len - 1);
    session.rollback(100);
    assert_eq!(session.text(), b"");
    assert_eq!(fork.tokens().len(), len);
}

/// Lists within members within lists.
fn nested() -> Value {
    let node = json!({"type": "object", "properties": {"sub": {"type": "array", "items": {"$ref": "#/$defs/node"}}, "v": {"type": "integer"}}, "required": ["v"], "minProperties": 1});
    json!({"$ref": "#/$defs/node", "$defs": {"node": node}})
}

#[test]
fn containers_nest_as_deep_as_is_set() {
    let text = |levels: usize| format!("{}{{\"v\": 1}}{}", "{\"sub\": [".repeat(levels), "], \"v\": 2}".repeat(levels));
    let engine = json_engine(nested(), Settings::default());
    assert!(accepts(&engine, &text(255)) && !accepts(&engine, &text(257)));
    for whitespace in [Whitespace::Spaced, Whitespace::Pretty, Whitespace::Flexible] {
        for key_order in [KeyOrder::Schema, KeyOrder::Any] {
            for schema in [nested(), json!({}), ambiguous()] {
                let settings = Settings { max_depth: 7, whitespace, key_order, ..Settings::default() };
                let engine = json_engine(schema.clone(), settings);
                for limit in [None, Some(engine.min_tokens() + 200)] {
                    let mut session = engine.start(limit).expect("no limit, or a wide one");
                    let (mut depth, mut deepest) = (0, 0);
                    while !session.is_accepting() && session.text().len() < 600 {
                        compare(&mut session);
                        let mask = session.mask();
                        let text = String::from_utf8_lossy(session.text()).into_owned();
                        assert!(mask.count() > 0, "{schema} stops after {text:?}");
                        // Down wherever that is possible, then on by what is shortest.
                        let ways = match whitespace {
                            _ if text.ends_with('"') => "s",
                            Whitespace::Pretty => "[{\"\n",
                            _ => "[{\"",
                        };
                        let down = ways.bytes().map(TokenId::from).find(|&id| mask.contains(id));
                        let down = down.filter(|_| depth < 9 && text.len() < 300);
                        let mut ids = Vec::new();
                        mask.for_each(|id| ids.push(id));
                        let token = down.or_else(|| {
                            ids.into_iter().min_by_key(|&id| {
                                let mut fork = session.clone();
                                fork.advance(id).map_or(usize::MAX, |()| fork.min_tokens_left())
                            })
                        });
                        session.advance(token.expect("some token passes")).expect("it is in the mask");
                        depth = open_containers(session.text());
                        deepest = deepest.max(depth);
                    }
                    assert!(session.is_accepting(), "{schema}: {}", String::from_utf8_lossy(session.text()));
                    let text = String::from_utf8_lossy(session.text());
                    assert!(deepest <= 9 && (limit.is_some() || deepest >= 7), "{deepest} levels of {schema}: {text}");
                }
            }
        }
    }
}

/// Brackets that are open at the end of a text, none of whose strings holds one.
fn open_containers(text: &[u8]) -> usize {
    let count = |of: &[u8; 2]| text.iter().filter(|byte| of.contains(byte)).count();
    count(b"[{") - count(b"]}")
}

#[test]
fn what_must_nest_too_deep_is_refused() {
    let chain = |levels: usize| {
        let node = |at: usize| match at {
            0 => json!({"type": "null"}),
            at => json!({"type": "array", "items": {"$ref": format!("#/$defs/n{}", at - 1)}, "minItems": 1}),
        };
        let nodes: serde_json::Map<String, Value> = (0..=levels).map(|at| (format!("n{at}"), node(at))).collect();
        json!({"$ref": format!("#/$defs/n{levels}"), "$defs": nodes})
    };
    let engine = json_engine(chain(1000), Settings { max_depth: 20, ..Settings::default() });
    assert!(accepts(&engine, &format!("{}null{}", "[".repeat(1000), "]".repeat(1000))));
    let source = GrammarSource::JsonSchema(chain(1025));
    let engine = Engine::compile(&source, &Options::default(), Tables::new(vocab()), Settings::default());
    let told = engine.err().map(|error| error.to_string());
    assert!(told.is_some_and(|told| told.contains("1024 levels")));
}

#[test]
fn what_is_included_twice_is_met_once() {
    // Two to the fortieth inclusions.
    let mut definitions = serde_json::Map::from_iter([("0".to_owned(), json!({"type": "string"}))]);
    for level in 1..40 {
        let below = json!({"$ref": format!("#/$defs/{}", level - 1)});
        definitions.insert(level.to_string(), json!({"allOf": [below, below]}));
    }
    let engine = json_engine(json!({"$ref": "#/$defs/39", "$defs": definitions}), Settings::default());
    assert!(accepts(&engine, r#""a""#) && !accepts(&engine, "1"));
}

#[test]
fn a_member_costs_what_its_neighbours_cost() {
    let names: Vec<String> = (0..3000).map(|at| format!("p{at}")).collect();
    let properties: serde_json::Map<_, _> = names.iter().map(|name| (name.clone(), json!({"type": "null"}))).collect();
    let schema = json!({"type": "object", "properties": properties, "required": names, "additionalProperties": false});
    let engine = json_engine(schema, Settings { whitespace: Whitespace::Compact, ..Settings::default() });
    let mut session = engine.start(Some(engine.min_tokens())).expect("the least");
    let begun = std::time::Instant::now();
    while !session.is_finished() {
        let mut ids = Vec::new();
        session.mask().for_each(|id| ids.push(id));
        session.advance(*ids.iter().max().expect("a way on")).expect("it is in the mask");
    }
    // Where each member costs what all that are left cost, it takes minutes.
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    let value: Value = serde_json::from_slice(session.text()).expect("JSON");
    assert_eq!(value.as_object().map(serde_json::Map::len), Some(3000));
}

#[test]
fn what_takes_too_long_to_spell_is_refused() {
    let engine = json_engine(json!({"type": "string", "pattern": "^(?=.*[A-Z]).{2666666}$"}), Settings::default());
    let told = engine.start(Some(1 << 30)).err().map(|error| error.to_string());
    assert!(told.is_some_and(|told| told.contains("more tokens than can be counted")));
    assert!(engine.statistics().bytes < 1 << 22, "{} bytes held", engine.statistics().bytes);
}

#[test]
fn memory_is_bounded_whatever_is_written() {
    let mut random = Random(5);
    let source = GrammarSource::Regex("[ab]*a[ab]{13}".into());
    let limit = 1 << 20;
    let engine = engine(&source, Settings { memory_bytes: limit, ..Settings::default() });
    let mut sessions: Vec<Session> = (0..3).map(|_| engine.start(None).expect("no limit")).collect();
    let (mut most, mut moves, mut before) = (0, 0, 0);
    for step in 0..6_000 {
        let session = &mut sessions[step % 3];
        let mask = session.mask();
        let letter = b"ab"[random.below(2)];
        assert!(mask.contains(letter.into()) && mask.contains(b'a'.into()) && mask.contains(b'b'.into()));
        session.advance(letter.into()).expect("it is in the mask");
        let text = session.text().to_vec();
        let accepting = text.len() > 13 && text[text.len() - 14] == b'a';
        assert_eq!(session.is_accepting(), accepting, "{:?}", String::from_utf8_lossy(&text));
        if step % 100 == 99 {
            session.rollback(40);
            assert!(session.text().len() + 40 == text.len() || session.text().is_empty());
        }
        if text.len() > 400 {
            *session = engine.start(None).expect("no limit");
        }
        let held = engine.statistics().bytes;
        moves += u64::from(held < before);
        most = most.max(held);
        before = held;
    }
    assert!(moves > 3, "{moves} moves");
    let texts = 3 * 400 * 4096;
    assert!(most < limit + texts, "{most} bytes held");
}

/// What one row writes by a stream of its own, with the masks that it has seen.
fn row(engine: &Arc<Engine>, stream: u64) -> (Vec<Vec<u32>>, Vec<u8>) {
    let mut random = Random(stream);
    let mut session = engine.start(Some(engine.min_tokens() + 24)).expect("above the least");
    let mut masks = Vec::new();
    while !session.is_finished() {
        session.forced().into_iter().for_each(|token| session.advance(token).expect("forced tokens pass"));
        let mask = session.mask();
        let mut ids = Vec::new();
        mask.for_each(|id| ids.push(id));
        masks.push(mask.bits());
        if ids.is_empty() {
            break;
        }
        session.advance(ids[random.below(ids.len())]).expect("it is in the mask");
    }
    (masks, session.text().to_vec())
}

#[test]
fn rows_write_the_same_on_any_number_of_threads() {
    for (at, schema) in (0u64..).zip(schemas().into_iter().chain([ambiguous(), nested()])) {
        let settings = Settings { memory_bytes: 1 << 20, ..Settings::default() };
        let alone = json_engine(schema.clone(), settings.clone());
        let expected: Vec<_> = (0..12).map(|stream| row(&alone, at * 100 + stream + 1)).collect();
        let together = json_engine(schema.clone(), settings);
        let found: Vec<_> = std::thread::scope(|scope| {
            let row = |stream| row(&together, at * 100 + stream + 1);
            let rows: Vec<_> = (0..12).map(|stream| scope.spawn(move || row(stream))).collect();
            rows.into_iter().map(|row| row.join().expect("no row panics")).collect()
        });
        assert!(expected == found, "{schema}");
    }
}

#[test]
fn guards_hold_in_every_generation() {
    let item = json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "^[ab]*a[ab]{15}$"}}, "required": ["a"]});
    let schema = json!({"type": "array", "items": item, "uniqueItems": true, "minItems": 60, "maxItems": 90});
    let mut random = Random(9);
    let engine = json_engine(schema, Settings { memory_bytes: 1 << 20, ..Settings::default() });
    let mut session = engine.start(None).expect("no limit");
    let mut generations = 0;
    let mut before = 0;
    while !session.is_finished() {
        let mut ids = Vec::new();
        session.mask().for_each(|id| ids.push(id));
        // Close as soon as may be, else write on.
        let close = ids.iter().copied().find(|&id| id < 256 && b"\"}]".contains(&(id as u8)));
        let token = close.filter(|_| random.below(3) > 0).unwrap_or_else(|| ids[random.below(ids.len())]);
        session.advance(token).expect("it is in the mask");
        let held = engine.statistics().bytes;
        generations += usize::from(held < before);
        before = held;
        assert!(session.text().len() < 20_000);
    }
    let items: Vec<Value> = serde_json::from_slice(session.text()).expect("JSON");
    let mut texts: Vec<String> = items.iter().map(Value::to_string).collect();
    texts.sort_unstable();
    texts.dedup();
    assert!(texts.len() == items.len() && items.len() >= 60 && generations > 1, "{generations} generations");
}

#[test]
fn a_vocabulary_must_spell_what_texts_need_and_no_more() {
    let compile = |left_out: u8| {
        let bytes: Vec<[u8; 1]> = (0..=255).filter(|byte| *byte != left_out).map(|byte| [byte]).collect();
        let end = std::iter::once((&b"<end>"[..], TokenKind::Control));
        let tokens = end.chain(bytes.iter().map(|byte| (&byte[..], TokenKind::Text)));
        let tables = Tables::new(Arc::new(Vocab::new(tokens, &[0])));
        let source = GrammarSource::Text(TextBounds::default());
        Engine::compile(&source, &Options::default(), tables, Settings::default())
    };
    // Nothing begins with these, or what begins with them can be done without.
    for byte in [0x04, 0xc0, 0xf1, 0xf2, 0xff] {
        assert!(compile(byte).is_ok(), "{byte:#x}");
    }
    for byte in [b'a', b'"', 0x80, 0xbf] {
        let told = compile(byte).err().map(|error| error.to_string());
        assert!(told.is_some_and(|told| told.contains(&format!("no token for the byte 0x{byte:02x}"))), "{byte:#x}");
    }
}

#[test]
fn a_grammar_of_which_no_text_is_found_is_refused_with_the_reason() {
    let pattern = |count: u32| serde_json::json!({"pattern": format!("^(a{{{count}}})+$")});
    let schema = serde_json::json!({
        "type": "string",
        "allOf": [pattern(71), pattern(67), {"not": pattern(71 * 67)}]
    });
    let engine = json_engine(schema, Settings::default());
    assert!(engine.assumed());
    let error = engine.start(Some(100_000)).expect_err("there is no such text").to_string();
    assert!(error.contains("the search whether there is one was given up"), "{error}");
    assert!(!json_engine(serde_json::json!({"type": "string"}), Settings::default()).assumed());
}
