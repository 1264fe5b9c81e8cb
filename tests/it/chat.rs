//! Chat templates of real models give the text that the transformers library gives.
//!
//! `fixtures/chat.json` holds templates from the files of SmolLM2, Llama 3.1, Qwen3 and Gemma 3,
//! one written for this test (`features`), and what Python's jinja2 3.1.6 makes of conversations
//! with them, set up as transformers does it: an `ImmutableSandboxedEnvironment` with
//! `trim_blocks`, `lstrip_blocks` and loop controls, `tojson` as `json.dumps` with
//! `ensure_ascii=False`, `strftime_now` on 26 July 2024, and `tools` and `documents` none.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use instil_grammar::vocab::{TokenKind, Vocab};
use instil_model::tokenizer::Tokenizer;
use instil_model::tokenizer::chat::{ChatTemplate, Date, Message, Way};
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    template: String,
    bos: String,
    eos: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    messages: Vec<Message>,
    add_generation_prompt: bool,
    text: Option<String>,
    refusal: Option<String>,
}

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::from_source("test", source, "<s>", "</s>").unwrap()
}

fn refusal(source: &str) -> String {
    let started = Instant::now();
    let message = template(source).render(&[Message::user("hi")], true).unwrap_err().to_string();
    assert!(started.elapsed() < Duration::from_secs(10), "took {:?}: {source}", started.elapsed());
    assert!(!message.contains('\n'), "{message}");
    message
}

#[test]
fn real_templates_give_what_transformers_gives() {
    let fixtures: BTreeMap<String, Fixture> = serde_json::from_str(include_str!("../fixtures/chat.json")).unwrap();
    assert_eq!(fixtures.len(), 5);
    for (name, fixture) in fixtures {
        let template = ChatTemplate::from_source(&name, &fixture.template, &fixture.bos, &fixture.eos).unwrap();
        for (number, case) in fixture.cases.iter().enumerate() {
            let found = template.render(&case.messages, case.add_generation_prompt);
            match (&case.text, &case.refusal, found) {
                (Some(expected), _, Ok(found)) => assert_eq!(&found, expected, "{name}, case {number}"),
                (None, Some(expected), Err(error)) => {
                    let message = error.to_string();
                    assert!(message.contains(expected), "{name}, case {number}: {message}");
                }
                (_, _, found) => panic!("{name}, case {number}: {found:?}"),
            }
        }
    }
}

#[test]
fn hostile_templates_come_to_an_end() {
    let endless = [
        "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
        "{% set ns = namespace(t='xxxxxxxx') %}{% for i in range(60) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}{{ ns.t }}",
        "{{ 'x' * 999999999999 }}",
        "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
        "{% for i in range(99999) %}{% for b in range(9999) %}{% set c = messages | tojson %}{% endfor %}{% endfor %}",
    ];
    for source in endless {
        let message = refusal(source);
        assert!(message.contains("more steps or memory") || message.contains("recursion"), "{message}");
    }
    let huge = " ".repeat((1 << 20) + 1);
    assert!(ChatTemplate::from_source("test", &huge, "", "").is_err());
    assert!(ChatTemplate::from_source("test", &"{% if a %}".repeat(50_000), "", "").is_err());
}

#[test]
fn refusals_name_the_reason_and_the_line() {
    assert!(refusal("a\n{{ raise_exception('no system role') }}").contains("no system role (line 2)"));
    assert!(refusal("{{ messages[0].content.nothing() }}").contains("line 1"));
    let broken = ChatTemplate::from_source("m.gguf", "a\n{% if %}", "", "").unwrap_err().to_string();
    assert!(broken.contains("model m.gguf: its chat template is not one") && broken.contains("line 2"), "{broken}");
    let role = template("x").render(&[Message { role: "us<er".into(), content: String::new() }], true);
    assert!(role.unwrap_err().to_string().contains("not a plain word"));
}

#[test]
fn the_date_is_the_callers() {
    let date = Date { year: 2031, month: 2, day: 3 };
    let template = template("{{ strftime_now('%d %B %y, %a %F %-d/%-m') }}").with_date(date);
    assert_eq!(template.render(&[], false).unwrap(), "03 February 31, Mon 2031-02-03 3/2");
    assert!(refusal("{{ strftime_now('%Q') }}").contains("%Q"));
}

#[test]
fn generation_tags_mark_nothing_here() {
    let template = template("a{%- generation -%} b {%- endgeneration %} c");
    assert_eq!(template.render(&[], false).unwrap(), "ab c");
}

/// Bytes, some words, and two control tokens.
fn words() -> Tokenizer {
    let control = ["<|end|>", "<|start|>"].map(|spelling| (spelling.as_bytes().to_vec(), TokenKind::Control));
    let words = ["user", "ask", "\nuser", "\n\n", "x\n"].map(|word| (word.as_bytes().to_vec(), TokenKind::Text));
    let bytes = (0..=255u8).map(|byte| (vec![byte], TokenKind::Text));
    let tokens: Vec<(Vec<u8>, TokenKind)> = control.into_iter().chain(bytes).chain(words).collect();
    let vocab = Vocab::new(tokens.iter().map(|(bytes, kind)| (bytes.as_slice(), *kind)), &[0]);
    Tokenizer::from_vocab(&vocab, "words").expect("a tokenizer")
}

/// Templates by what parts messages: a control token, nothing, a control token that only later ones have.
const SEAMS: [&str; 3] = [
    "{% for m in messages %}<|start|>{{ m.role }}: {{ m.content }}\n{% endfor %}<|start|>assistant: ",
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: ",
    "{% for m in messages %}{% if loop.last and m.role == 'user' %}<|start|>{% endif %}{{ m.content }}{% endfor %}",
];

#[test]
fn a_template_that_wants_a_question_shares_what_stands_before_one() {
    let mut tokenizer = words();
    let wants = "{% if messages | selectattr('role', 'equalto', 'user') | list | length == 0 %}\
                 {{ raise_exception('nobody asks') }}{% endif %}";
    tokenizer.set_chat_template(&format!("{wants}{}", SEAMS[0])).expect("a template");
    let leading = vec![Message::system("x\n"), Message::assistant("ask <|start|>")];
    let mut beginning = tokenizer.begin_chat(leading.clone(), Way::Plain).expect("it renders");
    assert!(beginning.ids().len() > "system: x assistant: ask".len(), "{beginning:?}");
    for text in ["ask", "user", "<|start|>\n", ""] {
        let whole = [leading.clone(), vec![Message::user(text)]].concat();
        let whole = tokenizer.encode_chat(&whole, true).expect("it renders");
        let (begins, ids) = tokenizer.go_on_chat(&mut beginning, Message::user(text)).expect("it renders");
        assert!(begins, "{text:?}");
        assert_eq!([beginning.ids().to_vec(), ids].concat(), whole);
    }
    // One that is refused in any case says why.
    tokenizer.set_chat_template("{{ raise_exception('never') }}").expect("a template");
    let refused = tokenizer.begin_chat(leading, Way::Plain).expect_err("refused").to_string();
    assert!(refused.contains("never"), "{refused}");
}

proptest! {
    #[test]
    fn a_conversation_that_goes_on_from_a_beginning_is_the_whole(
        seam in 0..SEAMS.len(), leading in prop::collection::vec("[ax\n<|start>\u{e000}]{0,12}", 0..4),
        last in prop::collection::vec("(<[|]start[|]>|[ax\nuser\u{e000}]){0,6}", 1..5),
    ) {
        let mut tokenizer = words();
        tokenizer.set_chat_template(SEAMS[seam]).expect("a template");
        let leading: Vec<Message> = leading.into_iter().map(Message::user).collect();
        let mut beginning = tokenizer.begin_chat(leading.clone(), Way::Plain).expect("it renders");
        for text in last {
            let whole = [leading.clone(), vec![Message::user(text.clone())]].concat();
            let whole = tokenizer.encode_chat(&whole, true).expect("it renders");
            let (begins, ids) = tokenizer.go_on_chat(&mut beginning, Message::user(text)).expect("it renders");
            let shared = if begins { beginning.ids().to_vec() } else { Vec::new() };
            prop_assert_eq!([shared, ids].concat(), whole);
        }
    }
}
