//! How replies begin, by templates of every kind that models have.

use serde_json::{Value, json};

use super::*;
use crate::tokenizer::{Message, Tokenizer};
use instil_grammar::vocab::{TokenKind, Vocab};

const CONTROL: [&str; 6] = ["<|start|>", "<|end|>", "<|channel|>", "<|message|>", "<|return|>", "</think>"];

/// Bytes, and some control tokens.
fn tokenizer(template: &str) -> Tokenizer {
    let bytes: Vec<Vec<u8>> = (0..=255u8).map(|byte| vec![byte]).collect();
    let tokens = bytes.iter().map(|byte| (byte.as_slice(), TokenKind::Text));
    let control = CONTROL.iter().map(|spelling| (spelling.as_bytes(), TokenKind::Control));
    let vocab = Vocab::new(tokens.chain(control), &[260]);
    let mut tokenizer = Tokenizer::from_vocab(&vocab, "bytes").expect("a tokenizer");
    tokenizer.set_chat_template(template).expect("a template");
    tokenizer
}

/// A template that writes each turn by `turn`, and opens a reply by `opens`.
fn template(turn: &str, opens: &str) -> String {
    format!(
        "{{%- for message in messages %}}<{{{{ message.role }}}}>{turn}{{{{ message.content }}}}</>{{%- endfor %}}\
         {{%- if add_generation_prompt %}}<assistant>{opens}{{%- endif %}}"
    )
}

/// The end of what is sent: with an answer, and with a thought.
fn sent(source: &str, messages: &[Message], way: Way) -> String {
    let tokenizer = tokenizer(source);
    let ids = tokenizer.ask(messages, way).expect("it renders");
    let spelled: Vec<u8> = ids.iter().flat_map(|&id| tokenizer.vocab().bytes(id).to_vec()).collect();
    let text = String::from_utf8(spelled).expect("a text");
    let from = text.rfind("Why?").expect("the question");
    text[from + "Why?".len()..].to_owned()
}

fn opening(source: &str, way: Way) -> Opening {
    let template = ChatTemplate::from_source("m", source, "", "").expect("a template");
    template.opening(way, &|_| false).expect("an opening")
}

const THOUGHT: &str = "{% if message.reasoning_content %}{{ '<think>\n' + message.reasoning_content + '\n</think>\n\n' }}\
                       {% endif %}";

#[test]
fn the_templates_own_switch_is_found_and_used() {
    let ask = [Message::user("Why?")];
    let flag = |name: &str, off: &str| {
        template(
            THOUGHT,
            &format!("{{% if {name} is defined and {name} {off} %}}{{{{ '<think>\n\n</think>\n\n' }}}}{{% endif %}}"),
        )
    };
    for (name, off, value) in [
        ("enable_thinking", "is false", json!(false)),
        ("thinking", "is false", json!(false)),
        ("thinking_budget", "== 0", json!(0)),
        ("reasoning_effort", "== 'no_think'", json!("no_think")),
        ("thinking_mode", "== 'disabled'", json!("disabled")),
    ] {
        let source = flag(name, off);
        let found = opening(&source, Way::Answer);
        assert_eq!(Value::Object(found.switch), json!({name: value}));
        assert_eq!((found.begins.as_str(), found.note), ("", None), "{name}");
        assert_eq!(sent(&source, &ask, Way::Answer), "</><assistant><think>\n\n</think>\n\n", "{name}");
        assert_eq!(sent(&source, &ask, Way::Plain), "</><assistant>", "{name}");
        assert_eq!(sent(&source, &ask, Way::Thought), "</><assistant><think>\n", "{name}");
    }
    // Off by default: nothing needs to be said, and the switch is what turns thoughts on.
    let source = template(THOUGHT, "{{ '<think>\n' if enable_thinking else '<think>\n\n</think>\n\n' }}");
    assert!(opening(&source, Way::Answer).is_plain());
    assert_eq!(Value::Object(opening(&source, Way::Thought).switch), json!({"enable_thinking": true}));
    assert_eq!(sent(&source, &ask, Way::Thought), "</><assistant><think>\n");
    // A value that the template refuses is not used, nor is a word that only looks like a switch.
    let source = template(
        THOUGHT,
        "{% if reasoning_effort not in ['no_think', 'high', undefined] %}{{ raise_exception('no') }}{% endif %}\
         {{ '<think>' if reasoning_effort == 'high' else '<think></think>' }}{{ my_thinking }}",
    );
    assert!(opening(&source, Way::Answer).is_plain());
    assert_eq!(Value::Object(opening(&source, Way::Thought).switch), json!({"reasoning_effort": "high"}));
}

#[test]
fn a_thought_that_is_always_opened_is_closed_as_the_template_closes_one() {
    let ask = [Message::user("Why?")];
    for (turn, opens, closed) in [
        (THOUGHT, "{{ '<think>\n' }}", "<think>\n\n</think>\n\n"),
        // What the template writes of a reply without a thought counts more.
        (
            "{{ '<think>' + (message.reasoning_content or '') + '</think>' if message.role == 'assistant' }}",
            "<think>",
            "<think></think>",
        ),
        // It writes no thoughts: the usual marks.
        ("", "{{ '<think>\n' }}", "<think>\n\n</think>\n\n"),
        ("", "[THINK]", "[THINK][/THINK]"),
        // In words.
        ("{{ message.thinking + '\n[ANSWER]\n' if message.thinking }}", "{{ 'I think:\n' }}", "I think:\n\n[ANSWER]\n"),
    ] {
        let source = template(turn, opens);
        assert_eq!(sent(&source, &ask, Way::Answer), format!("</><assistant>{closed}"), "{source}");
        let note = opening(&source, Way::Answer).note.expect("a note");
        assert!(note.contains("no switch"), "{note}");
        let thinks = sent(&source, &ask, Way::Thought);
        assert!(format!("</><assistant>{closed}").starts_with(&thinks), "{thinks}");
    }
}

#[test]
fn answers_begin_where_the_template_has_them_begin() {
    let ask = [Message::user("Why?")];
    let channels = "{% for message in messages %}{{ '<|start|>' + message.role }}{% if message.thinking %}\
        {{ '<|channel|>analysis<|message|>' + message.thinking + '<|end|><|start|>assistant' }}{% endif %}\
        {% if message.role == 'assistant' %}{{ '<|channel|>final' }}{% endif %}\
        {{ '<|message|>' + message.content + '<|end|>' }}{% endfor %}\
        {% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}";
    assert_eq!(sent(channels, &ask, Way::Answer), "<|end|><|start|>assistant<|channel|>final<|message|>");
    assert_eq!(sent(channels, &ask, Way::Thought), "<|end|><|start|>assistant<|channel|>analysis<|message|>");
    let end = opening(channels, Way::Thought).end.expect("an end");
    assert_eq!(end.whole(), "<|end|><|start|>assistant<|channel|>final<|message|>");
    assert_eq!(end.mark, "<|end|>");
    // Whatever the header of an answer is called, and however empty the thought before it.
    let source = template("{{ '<text>' if message.role == 'assistant' }}", "{{ '<think></think>' }}");
    assert_eq!(sent(&source, &ask, Way::Answer), "</><assistant><think></think><text>");
    // Spaces alone are no header: tokens begin with them.
    assert!(opening(&template(" ", ""), Way::Answer).is_plain());
}

#[test]
fn a_model_that_knows_no_thoughts_is_asked_as_ever() {
    let source = template("", "");
    assert!(opening(&source, Way::Answer).is_plain() && opening(&source, Way::Answer).note.is_none());
    let template = ChatTemplate::from_source("m", &source, "", "").expect("a template");
    let refused = template.opening(Way::Thought, &|_| false).expect_err("no thoughts").to_string();
    assert!(refused.contains("knows no thoughts") && refused.contains("`thinking`"), "{refused}");
    // A model whose tokens are marks of thoughts knows some, whatever its template says.
    let found = template.opening(Way::Thought, &|spelling| spelling.contains("think>")).expect("an opening");
    assert_eq!((found.begins.as_str(), found.end.expect("an end").whole().as_str()), ("<think>\n", "\n</think>\n\n"));
    // Templates that refuse what is tried on them are left alone.
    let source = "{{ raise_exception('never') }}";
    assert!(opening(source, Way::Answer).is_plain());
}

#[test]
fn a_conversation_with_another_generation_prompt_ends_outside_of_thoughts_too() {
    // What a system message says decides, as for some models.
    let opens = "{{ '<think></think>' if '/no_think' in messages[0].content else '<think>\n' }}";
    let source = template("", opens);
    let quiet = [Message::system("/no_think"), Message::user("Why?")];
    assert_eq!(sent(&source, &quiet, Way::Answer), "</><assistant><think></think>");
    assert_eq!(sent(&source, &quiet, Way::Thought), "</><assistant><think></think><think>\n");
    let loud = [Message::user("What is <think>? Why?")];
    assert_eq!(sent(&source, &loud, Way::Answer), "</><assistant><think>\n\n</think>\n\n");
    // The same the other way about: only a system message opens a thought.
    let source = template(THOUGHT, "{{ '<think>\n' if messages[0].role == 'system' }}");
    assert_eq!(sent(&source, &quiet, Way::Answer), "</><assistant><think>\n\n</think>\n\n");
    assert_eq!(sent(&source, &quiet[1..], Way::Answer), "</><assistant>");
    // A user's words are no marks of the template's.
    let marked = [Message::user("</think> Why?")];
    assert_eq!(sent(&source, &marked, Way::Thought), "</><assistant><think>\n");
}

#[test]
fn variables_of_the_callers_win() {
    let source = template(THOUGHT, "{{ '<think>\n' if enable_thinking else '<think>\n\n</think>\n\n' }}{{ effort }}");
    let mut tokenizer = tokenizer(&source);
    let variables = |value: Value| value.as_object().cloned().expect("an object");
    tokenizer.set_template_variables(variables(json!({"enable_thinking": true, "effort": 1.5}))).expect("variables");
    let text = |ids: Vec<u32>| String::from_utf8(tokenizer.decode(&ids)).expect("a text");
    let plain = tokenizer.encode_chat(&[Message::user("Why?")], true).expect("it renders");
    assert!(text(plain).ends_with("<think>\n1.5"));
    assert!(tokenizer.opening(Way::Answer).expect("an opening").switch.is_empty());
    let mut other =
        super::super::super::Tokenizer::from_vocab(&Vocab::new([(&b"a"[..], TokenKind::Text)], &[]), "a").expect("one");
    let refused = other.set_template_variables(variables(json!({"messages": 1}))).expect_err("given").to_string();
    assert!(refused.contains("`messages`"), "{refused}");
}
