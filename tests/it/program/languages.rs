//! Rules on eleven languages alike: right on 95 of 100 texts, and of no language wrong as a whole.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Place;

/// Texts of one language: five whole, the same five cut off, and how many words the whole ones have.
fn languages() -> BTreeMap<String, [Vec<Value>; 3]> {
    let text = include_str!("../../fixtures/languages.json");
    let all: BTreeMap<String, BTreeMap<String, Vec<Value>>> = serde_json::from_str(text).expect("the fixture");
    let of = |texts: &BTreeMap<String, Vec<Value>>| ["good", "cut", "words"].map(|key| texts[key].clone());
    all.iter().map(|(code, texts)| (code.clone(), of(texts))).collect()
}

/// Which of `texts` the rule of `flags` keeps.
fn kept(place: &Place, flags: &[&str], texts: &[String]) -> Vec<bool> {
    let rows: String = (0i32..).zip(texts).map(|(at, text)| format!("{}\n", json!({"n": at, "a": text}))).collect();
    let _ = std::fs::remove_file(place.at("kept.jsonl"));
    place.write("rows.jsonl", &rows);
    let asked = [&["filter", "rows.jsonl", "-o", "kept.jsonl", "--field", "a"][..], flags].concat();
    place.run(&asked).succeeded();
    let kept: Vec<i64> = place.lines("kept.jsonl").iter().filter_map(|row| row["n"].as_i64()).collect();
    (0..).zip(texts).map(|(at, _)| kept.contains(&at)).collect()
}

#[test]
fn rules_are_right_in_every_language() {
    let place = Place::new();
    let mut right: BTreeMap<&str, BTreeMap<String, Vec<bool>>> = BTreeMap::new();
    let languages = languages();
    for (code, [good, cut, words]) in &languages {
        let texts = |list: &[Value]| list.iter().map(|text| text.as_str().expect("a text").to_owned()).collect();
        let (good, cut): (Vec<String>, Vec<String>) = (texts(good), texts(cut));
        let both = [&good[..], &cut].concat();
        let whole = |at: usize| at < good.len();
        let mut note = |rule: &'static str, found: Vec<bool>, expected: &dyn Fn(usize) -> bool| {
            let judged = found.into_iter().enumerate().map(|(at, kept)| kept == expected(at));
            right.entry(rule).or_default().insert(code.clone(), judged.collect());
        };
        note("sentence_end", kept(&place, &["--sentence-end"], &both), &whole);
        note("language", kept(&place, &["--language", code], &both), &|_| true);
        let other = if code == "de" { "en" } else { "de" };
        note("another language", kept(&place, &["--language", other], &good), &|_| false);
        let looped: Vec<String> = good.iter().map(|text| [text.as_str(); 6].join(" ")).collect();
        note("loops", kept(&place, &["--loops"], &[&good[..], &looped].concat()), &whole);
        // The same again, with marks that do not count.
        let again: Vec<String> =
            good.iter().map(|text| format!("\u{200b}{}", text.replace(['.', '。', '।'], "!"))).collect();
        note("distinct", kept(&place, &["--exact"], &[&good[..], &again].concat()), &whole);
        let mut counted = Vec::new();
        for (text, words) in good.iter().zip(words) {
            let words = words.as_u64().expect("a number");
            counted.extend(kept(&place, &["--words", &format!("{words}..{words}")], std::slice::from_ref(text)));
        }
        note("length", counted, &|_| true);
    }
    assert_eq!(languages.len(), 11);
    for (rule, of) in &right {
        let all: Vec<bool> = of.values().flatten().copied().collect();
        let share = |judged: &[bool]| judged.iter().filter(|right| **right).count() as f64 / judged.len() as f64;
        assert!(share(&all) >= 0.95, "{rule}: {of:?}");
        for (code, judged) in of {
            assert!(share(judged) >= 0.7, "{rule} in {code}: {judged:?}");
        }
    }
}

#[test]
fn copies_in_another_spelling_are_copies() {
    let place = Place::new();
    for (one, other) in [
        ("Café crème, bitte.", "Cafe\u{301} cre\u{300}me, bitte."),
        ("ＡＢＣ １２３", "ABC 123"),
        ("zero width", "zero\u{200b} wid\u{200b}th"),
        ("ｶﾞﾗｽの花", "ガラスの花"),
    ] {
        assert_eq!(kept(&place, &["--exact"], &[one.to_owned(), other.to_owned()]), [true, false], "{one}");
    }
}
