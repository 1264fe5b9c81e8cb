//! An answer must answer: no refusal, no talk of being a language model.
//!
//! The phrases of eleven languages are data: `refusals.yaml` beside this file. An apology alone is no refusal.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::text::{plain_form, text};
use super::{FieldRead, Filter, Reason, Rule};

/// Evol-Instruct's rule: an answer with "sorry" in it and fewer words than this has failed.
const SORRY_WORDS: usize = 80;
/// Characters in which a refusal must begin to count as an opening.
const OPENING_CHARS: usize = 200;

/// How assistants refuse in one language.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Phrases {
    /// What a sentence that refuses by itself begins with.
    opens: Vec<String>,
    /// What an apology begins with.
    sorry: Vec<String>,
    /// What refuses in an apology's sentence, or the next.
    cannot: Vec<String>,
    /// What betrays the machine wherever it stands.
    anywhere: Vec<String>,
}

static LANGUAGES: LazyLock<BTreeMap<String, Phrases>> = LazyLock::new(|| {
    let list = plain_form(include_str!("refusals.yaml"));
    serde_saphyr::from_str(&list).expect("the list is read by a test")
});

/// Turns down a row whose field refuses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Refusal {
    /// The field.
    pub field: String,
}

impl Rule for Refusal {
    fn reads(&self) -> Vec<FieldRead<'_>> {
        vec![FieldRead::field("", &self.field)]
    }

    fn filters(&self) -> Vec<Box<dyn Filter>> {
        vec![Box::new(self.clone())]
    }
}

impl Filter for Refusal {
    fn check(&self, row: &Map<String, Value>) -> Option<Reason> {
        let found = refusal(&text(row, &self.field))?;
        Some(Reason::new("refusal", format!("{} says «{found}»", self.field)))
    }
}

/// Turns down a row whose short field says "sorry" anywhere: Evol-Instruct's second elimination rule to the letter
/// (arXiv 2304.12244). [`Refusal`] is the finer rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sorry {
    /// The field.
    pub field: String,
}

impl Rule for Sorry {
    fn reads(&self) -> Vec<FieldRead<'_>> {
        vec![FieldRead::field("", &self.field)]
    }

    fn filters(&self) -> Vec<Box<dyn Filter>> {
        vec![Box::new(self.clone())]
    }
}

impl Filter for Sorry {
    fn check(&self, row: &Map<String, Value>) -> Option<Reason> {
        let text = text(row, &self.field).to_lowercase();
        let count = text.split_whitespace().count();
        (count < SORRY_WORDS && text.contains("sorry"))
            .then(|| Reason::new("sorry", format!("{} says sorry in {count} words", self.field)))
    }
}

/// The phrase by which a text refuses, if it does.
pub(crate) fn refusal(text: &str) -> Option<&'static str> {
    let plain = plain_form(text).to_lowercase().replace(['’', '‘', 'ʼ'], "'");
    let opening = plain.char_indices().nth(OPENING_CHARS).map_or(plain.len(), |(end, _)| end);
    // A refusal opens a sentence; the same words inside a story or a quotation do not count.
    let ends = ['.', '!', '?', '\n', '。', '।', '؟', '۔'];
    let mut sentences = Vec::new();
    let mut from = 0;
    for sentence in plain.split(ends) {
        if from >= opening {
            break;
        }
        from += sentence.len() + 1;
        sentences.push(sentence.trim_start());
    }
    let holds = |phrase: &str, text: &str| {
        if phrase.is_ascii() { super::leak::holds(text, phrase) } else { text.contains(phrase) }
    };
    LANGUAGES.values().find_map(|phrases| {
        let opens = phrases.opens.iter().find(|phrase| sentences.iter().any(|text| text.starts_with(phrase.as_str())));
        let anywhere = || phrases.anywhere.iter().find(|phrase| holds(phrase, &plain));
        let sorry = || {
            sentences.iter().enumerate().find_map(|(at, sentence)| {
                let begins = |phrase: &&String| {
                    sentence.strip_prefix(phrase.as_str()).is_some_and(|rest| {
                        // `sorry` does not begin `sorrysomething`; scripts without spaces go on at once.
                        !phrase.is_ascii() || !rest.starts_with(char::is_alphanumeric)
                    })
                };
                phrases.sorry.iter().find(begins)?;
                let near = || sentences[at..].iter().take(2);
                phrases.cannot.iter().find(|phrase| near().any(|text| holds(phrase, text)))
            })
        };
        opens.or_else(anywhere).or_else(sorry).map(String::as_str)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_text_must_not_be_sorry() {
        let rule = Sorry { field: "a".into() };
        let check = |a: &str| rule.check(serde_json::json!({ "a": a }).as_object().expect("an object")).is_some();
        assert!(check("I'm so Sorry about that.") && !check("It is a wasp."));
        assert!(!check(&format!("Sorry. {}", "word ".repeat(79))) && check(&format!("Sorry. {}", "word ".repeat(78))));
    }

    #[test]
    fn refusals_are_found_and_talk_about_them_is_not() {
        for bad in [
            "I'm sorry, but I can't help with that.",
            "I’m sorry, I can’t do this.",
            "Thank you for asking! I cannot provide medical advice.",
            "As an AI language model, I have no body.",
            "Well. As a large language model I was trained on text.",
            "Sorry, that is not possible.",
        ] {
            assert!(refusal(bad).is_some(), "{bad}");
        }
        for good in [
            "She said that she was sorry, but he had left.",
            "Write: \"We are sorry for the delay.\" Then sign it.",
            "An AI model such as this one learns from text.",
            "Bread rises because of yeast.",
            "A host says \"I cannot help you\" in the second act.",
            "",
        ] {
            assert_eq!(refusal(good), None, "{good}");
        }
        assert_eq!(refusal("I am sorry to hear about your loss. Here is what you can do in the next days."), None);
        let long = format!("I'm sorry to hear of it. {}", "Rest well and drink a lot of water. ".repeat(15));
        assert_eq!(refusal(&long), None);
        assert!(refusal("Sorry! That is hard. I cannot swim.").is_none(), "too far behind");
    }

    #[test]
    fn refusals_of_every_language_are_found_and_apologies_are_not() {
        assert_eq!(LANGUAGES.len(), 11);
        for phrases in LANGUAGES.values() {
            let all = [&phrases.opens, &phrases.sorry, &phrases.cannot, &phrases.anywhere];
            for phrase in all.into_iter().flatten() {
                assert_eq!(*phrase, phrase.to_lowercase(), "written as it is compared");
            }
        }
        for bad in [
            "Es tut mir leid, aber dabei kann ich nicht helfen.",
            "Leider kann ich Ihnen dabei nicht helfen.",
            "Lo siento, pero no puedo ayudarte con eso.",
            "No puedo proporcionar esa información.",
            "Je suis désolé, mais je ne peux pas répondre à cette question.",
            "En tant que modèle de langage, je n’ai pas d’avis.",
            "很抱歉，我无法回答这个问题。",
            "作为一个人工智能，我没有感情。",
            "申し訳ありませんが、そのご質問にはお答えできません。",
            "すみません。それはできません。",
            "मुझे खेद है, लेकिन मैं इसमें आपकी मदद नहीं कर सकता।",
            "عذرًا، لا أستطيع مساعدتك في هذا الطلب.",
            "দুঃখিত, আমি এই প্রশ্নের উত্তর দিতে পারব না।",
            "Desculpe, mas não posso ajudar com isso.",
            "К сожалению, я не могу ответить на этот вопрос.",
        ] {
            assert!(refusal(bad).is_some(), "{bad}");
        }
        for good in [
            "Es tut mir leid, das zu hören. Hier ist, was Sie tun können.",
            "Siento mucho tu pérdida. Aquí tienes algunas ideas.",
            "Lo siento mucho por tu pérdida. Estas son algunas ideas.",
            "Je suis désolé pour votre perte. Voici ce que vous pouvez faire.",
            "听到这个消息我很抱歉。你可以先休息一下。",
            "お悔やみ申し上げます。まずゆっくり休んでください。",
            "मुझे आपके नुकसान का खेद है। आप यह कर सकते हैं।",
            "أنا آسف لسماع ذلك. إليك ما يمكنك فعله.",
            "আপনার ক্ষতির কথা শুনে আমি দুঃখিত। আপনি এটি করতে পারেন।",
            "Sinto muito pela sua perda. Veja o que você pode fazer.",
            "Мне очень жаль это слышать. Вот что можно сделать.",
        ] {
            assert_eq!(refusal(good), None, "{good}");
        }
    }
}
