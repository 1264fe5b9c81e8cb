//! What templates say is what Python's jinja2 says of them, and no template ends or holds the process.

use std::process::Command;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::{ChatTemplate, Message};

#[derive(Deserialize)]
struct Fixture {
    set: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    text: Option<String>,
}

/// One-line templates on which this and jinja2 differ, and why that is left.
const DIFFERENT: [(&str, &str); 3] = [
    ("{{ 'x'|int }}", "the engine refuses a word that is no number, where none is given in its place"),
    ("{{ '%r' % 'a' }}", "the engine's formats have no `r`: refused"),
    ("{% for a in n %}x{% endfor %}", "a loop over none is empty here, so that templates for tools serve without them"),
];

#[test]
fn one_line_templates_say_what_jinja2_says() {
    let text = include_str!("../../../../../tests/fixtures/jinja.json");
    let Fixture { set, cases } = serde_json::from_str(text).expect("a fixture");
    let mut wrong = Vec::new();
    for case in &cases {
        let source = format!("{set}{}", case.template);
        let template = ChatTemplate::from_source("test", &source, "", "");
        let found = template.and_then(|template| template.render(&[], false));
        let is_known = DIFFERENT.iter().any(|(template, _)| case.template == *template);
        if (found.as_ref().ok() == case.text.as_ref()) == is_known {
            wrong.push(format!("{}\n   jinja2: {:?}\n   found:  {found:?}", case.template, case.text));
        }
    }
    assert!(wrong.is_empty(), "{} of {}\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// Templates that want too much.
fn hostile() -> Vec<String> {
    let chain = |begin: &str, link: &str, end: &str| format!("{begin}{}{end}", link.repeat(100_000));
    let mut all = vec![
        chain("{{ ", "not ", "a }}"),
        chain("{{ ", "-", "1 }}"),
        chain("{{ a", "~a", " }}"),
        chain("{{ a", ".b", " }}"),
        chain("{{ a", "|e", " }}"),
        chain("{{ a", "[0]", " }}"),
        chain("{{ a", "()", " }}"),
        chain("{{ a", "+1", " }}"),
        chain("{{ a", " is b", " }}"),
        chain("{{ a", " if b else c", " }}"),
        chain("{{ a", " and a", " }}"),
        chain("{{ a", "**a", " }}"),
        chain("{{ ", "[", ""),
        chain("{{ ", "(", ""),
        chain("{{ ", "{1:", ""),
        chain("{% if a %}", "{% elif a %}", "{% endif %}"),
        chain("", "{% if a %}", ""),
        chain("", "{% for a in b %}", ""),
        format!("{{% set a = [] %}}{}{{{{ a }}}}", "{% set a = [a] %}".repeat(15_000)),
        format!("{{% set a = [] %}}{}{{{{ a == a }}}}", "{% set a = [a] %}".repeat(15_000)),
        format!("{{% set a = [1] %}}{}{{{{ a }}}}", "{% set a = a + a %}".repeat(40)),
        format!("{{% set a = [1] %}}{}{{{{ a|length }}}}", "{% set a = a + a %}".repeat(40)),
        format!("{{% set a = [1] %}}{}{{{{ 7 in a }}}}", "{% set a = a + a %}".repeat(40)),
        format!("{{% set a = [1] %}}{}{{{{ a == a }}}}", "{% set a = a + a %}".repeat(40)),
        format!("{{% set a = [1] %}}{}{{{{ a|tojson }}}}", "{% set a = [a, a] %}".repeat(40)),
        format!("{{% set a = [1] %}}{}{{{{ a == a|list }}}}", "{% set a = [a, a] %}".repeat(40)),
        format!("{{{{ {}1{} }}}}", "f(".repeat(10_000), ")".repeat(10_000)),
        "{{ raise_exception('x' * 9000000) }}".into(),
        " ".repeat(1 << 19),
    ];
    let nested = "{% set ns = namespace(s=[]) %}{% for i in range(100000) %}{% set ns.s = [ns.s] %}{% endfor %}";
    let lines = [
        "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}",
        "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns|tojson }}",
        "{% set ns = namespace() %}{% set ns.a = [1, {'b': ns}] %}{{ ns }}",
        "{% set a = namespace() %}{% set b = namespace(a=a) %}{% set a.b = b %}{{ a }}",
        "{% set ns = namespace(a=1) %}{% set x, ns.a = 1, [ns] %}{{ ns }}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(40) %}{% set ns.l = ns.l + ns.l %}{% endfor %}{{ ns.l }}",
        "{% set ns = namespace(l={}) %}{% for i in range(99999) %}{% set ns.l = {'a': ns.l} %}{% endfor %}{{ ns.l }}",
        "{% set ns = namespace(t='x') %}{% for i in range(60) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}{{ ns.t }}",
        "{{ '{:>1000000000}'.format(1) }}",
        "{{ '{:.1000000000f}'.format(1.0) }}",
        "{{ '{:>{}}'.format(1, 1000000000) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%1000000000d'|format(1) }}",
        "{{ '%*d'|format(1000000000, 1) }}",
        "{{ 'a'.center(1000000000) }}",
        "{{ 'a'|center(1000000000) }}",
        "{{ 'a'.zfill(1000000000) }}",
        "{{ 'a'.rjust(99999999999999999999) }}",
        "{{ 'x' * 999999999999 }}",
        "{{ ['x'] * 999999999999 }}",
        "{{ 'a\nb'|indent(1000000000) }}",
        "{{ [1]|tojson(indent=1000000000) }}",
        "{{ [1]|batch(1000000000, 'x')|list }}",
        "{{ [1]|slice(1000000000)|list }}",
        "{{ range(1000000000)|list }}",
        "{{ 2 ** 1000000000 }}",
        "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
        "{% macro f(x) %}{{ f([x]) }}{% endmacro %}{{ f(1) }}",
        "{% for a in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}",
        "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{% set x = messages|tojson %}{% endfor %}",
        "{% set s = 'a' * 4000000 %}{% for a in range(99999) %}{% set x = s.count('b') %}{% endfor %}",
        "{% set s = 'a' * 4000000 %}{% for a in range(99999) %}{% set x = s == s ~ 'b' %}{% endfor %}",
        "{% set s = 'a' * 4000000 %}{% for a in range(99999) %}{% set x = s|upper %}{% endfor %}",
        "{% set s = ('a' * 1000000).split('') %}{{ s }}",
        "{{ ('a,' * 4000000).split(',')|length }}",
        "{% include 'chat.txt' %}",
        "{% block a %}{{ self.a() }}{% endblock %}",
        "{% extends 'chat.txt' %}",
    ];
    all.extend(lines.map(str::to_owned));
    all.extend(["{{ ns.s }}", "{{ ns.s|tojson }}", "{{ ns.s == 1 }}", "x"].map(|end| format!("{nested}{end}")));
    all
}

/// Set in the process that tries one template: which.
const WHICH: &str = "INSTIL_HOSTILE_TEMPLATE";
const MOST_MEMORY_KIB: u64 = 200 << 10;

/// Tries a template where an overflow of the stack or of memory harms nobody.
#[test]
fn no_template_ends_or_holds_the_process() {
    let all = hostile();
    if let Ok(which) = std::env::var(WHICH) {
        let source = &all[which.parse::<usize>().expect("a number")];
        let rendered = ChatTemplate::from_source("test", source, "<s>", "</s>")
            .and_then(|template| template.render(&[Message::user("hi")], true));
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB").trim().to_owned();
        let told = rendered.map_or_else(|error| error.to_string(), |text| format!("{} bytes", text.len()));
        assert!(told.len() < 500 && !told.chars().any(char::is_control), "{told}");
        std::fs::write(std::env::var(format!("{WHICH}_OUT")).expect("a file"), format!("{peak}\n{told}"))
            .expect("told");
        return;
    }
    let program = std::env::current_exe().expect("this program");
    let folder = std::env::temp_dir().join(format!("instil-hostile-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let mut wrong = Vec::new();
    for (index, source) in all.iter().enumerate() {
        let shown: String = source.chars().take(90).collect();
        let out = folder.join(index.to_string());
        let started = Instant::now();
        let status = Command::new(&program)
            .args(["--exact", "tokenizer::chat::tests::no_template_ends_or_holds_the_process"])
            .env(WHICH, index.to_string())
            .env(format!("{WHICH}_OUT"), &out)
            .output()
            .expect("it starts");
        let took = started.elapsed();
        let told = std::fs::read_to_string(&out).unwrap_or_default();
        let peak: u64 = told.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0);
        // A second on an idle machine; tests run beside others.
        if !status.status.success() || took > Duration::from_secs(5) || peak > MOST_MEMORY_KIB {
            wrong.push(format!("{shown}\n   {:?}, {took:?}, {peak} KiB: {told}", status.status));
        } else if std::env::var_os("INSTIL_SHOW").is_some() {
            wrong.push(format!("{shown}\n   ok, {took:?}: {told}"));
        }
    }
    std::fs::remove_dir_all(&folder).expect("the folder goes");
    assert!(wrong.is_empty(), "{} of {}\n{}", wrong.len(), all.len(), wrong.join("\n"));
}

#[test]
fn a_text_that_a_template_raises_is_plain_and_short() {
    let source = "{{ raise_exception('\u{1b}]0;P\u{7}\u{1b}[31m evil\n' ~ 'x' * 9999) }}";
    let template = ChatTemplate::from_source("test", source, "", "").expect("a template");
    let told = template.render(&[], false).expect_err("it raises").to_string();
    assert!(told.contains("]0;P [31m evil") && !told.chars().any(char::is_control) && told.len() < 500, "{told}");
}

#[test]
fn what_fuzzing_found_is_refused_or_rendered() {
    let messages = [Message::user("Why?")];
    for source in ["\n{\n{%}}}}}}}}}", "{%", "{%}", "{% -%}", "{%-", "{{", "{#", "{% %}", "{%%}"] {
        let _ =
            ChatTemplate::from_source("fuzzed", source, "<s>", "</s>").map(|template| template.render(&messages, true));
    }
}
