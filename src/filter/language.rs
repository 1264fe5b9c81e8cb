//! A text must be in the language that was asked for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use whatlang::{Detector, Lang};

use super::text::text;
use super::{FieldRead, Filter, Reason, Rule};

/// Letters below which a text is too short to be judged.
const LEAST_LETTERS: usize = 24;

/// Two-letter codes (ISO 639-1) of the languages that are told apart, with their three-letter codes
/// (ISO 639-3).
const CODES: &str = "\
    af afr, ar ara, az aze, be bel, bg bul, bn ben, ca cat, cs ces, cy cym, da dan, de deu, el ell, \
    en eng, eo epo, es spa, et est, fa pes, fi fin, fr fra, gu guj, he heb, hi hin, hr hrv, hu hun, \
    hy hye, id ind, it ita, ja jpn, ka kat, km khm, kn kan, ko kor, la lat, lt lit, lv lav, mk mkd, \
    ml mal, mr mar, my mya, ne nep, nl nld, nb nob, no nob, pa pan, pl pol, pt por, ro ron, ru rus, \
    sk slk, sl slv, sr srp, sv swe, ta tam, te tel, th tha, tr tur, uk ukr, ur urd, vi vie, zh cmn";

fn codes() -> impl Iterator<Item = (&'static str, &'static str)> {
    CODES.split(", ").filter_map(|pair| pair.split_once(' '))
}

/// A language, by its ISO 639-1 or 639-3 code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Language(Lang);

/// Names that people use for languages, beside those of the detector.
const NAMES: &str = "\
    chinese cmn, mandarin chinese cmn, simplified chinese cmn, traditional chinese cmn, 中文 cmn, 汉语 cmn, 漢語 cmn, \
    普通话 cmn, farsi pes, norwegian nob, norsk nob, bokmål nob, slovenian slv, bangla ben, castilian spa, \
    castellano spa, brazilian portuguese por, british english eng, american english eng, 日本語 jpn, हिंदी hin, \
    عربي ara, العربية ara, русский rus, burmese mya, filipino tgl, panjabi pan";

impl Language {
    /// The language with this ISO 639 code (`de`, `deu`, `de-AT`) or name (`German`, `Deutsch`).
    fn named(name: &str) -> Option<Self> {
        let lower = name.trim().to_lowercase();
        let known = |lang: &Lang| lang.eng_name().to_lowercase() == lower || lang.name().to_lowercase() == lower;
        let more = || NAMES.split(", ").filter_map(|pair| pair.rsplit_once(' ')).find(|(other, _)| *other == lower);
        let code = lower.split(['-', '_']).next().unwrap_or_default();
        let long = codes().find(|(short, _)| *short == code).map_or(code, |(_, long)| long);
        let named = || Lang::all().iter().find(|lang| known(lang)).copied();
        Lang::from_code(long).or_else(named).or_else(|| Lang::from_code(more()?.1)).map(Self)
    }
}

impl TryFrom<String> for Language {
    type Error = String;

    fn try_from(code: String) -> Result<Self, String> {
        Self::named(&code).ok_or_else(|| {
            format!("no language has the code `{code}`, or that name, among those told apart; use one like en, deu or German")
        })
    }
}

impl From<Language> for String {
    fn from(language: Language) -> Self {
        language.0.code().to_owned()
    }
}

/// The language that a field must have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Wanted {
    /// The same for every row.
    Same(Language),
    /// What another field or an attribute of the row names: `{{ language }}`.
    Named(String),
}

impl TryFrom<String> for Wanted {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let Some(name) = text.trim().strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")) else {
            return Language::try_from(text).map(Self::Same);
        };
        let name = name.trim();
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.');
        if name.is_empty() || !name.chars().all(plain) {
            return Err(format!("`{text}` is not the name of a field or an attribute; write it as {{{{ language }}}}"));
        }
        Ok(Self::Named(name.to_owned()))
    }
}

impl From<Wanted> for String {
    fn from(wanted: Wanted) -> Self {
        match wanted {
            Wanted::Same(language) => language.into(),
            Wanted::Named(name) => format!("{{{{ {name} }}}}"),
        }
    }
}

/// Turns down a row whose field is in another language.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LanguageOf {
    /// The field.
    pub field: String,
    /// The language that it must have, by code or name; or `{{ NAME }}`, of the attribute or field that says it.
    pub is: Wanted,
    /// How sure one must be of another language, 0 to 1, to turn the row down.
    #[serde(default = "default_confidence")]
    pub confidence: f64,
}

fn default_confidence() -> f64 {
    0.5
}

impl LanguageOf {
    /// The rule for `field` with the usual confidence.
    ///
    /// # Errors
    /// When no language has the code.
    pub fn new(field: &str, code: &str) -> Result<Self, String> {
        Ok(Self { field: field.to_owned(), is: code.to_owned().try_into()?, confidence: default_confidence() })
    }
}

impl LanguageOf {
    /// What is wrong with the first of `values`, which the attribute `name` may have, if it decides this rule.
    pub(crate) fn unknown(&self, name: &str, mut values: impl Iterator<Item = Value>) -> Option<String> {
        let Wanted::Named(path) = &self.is else { return None };
        if path.split('.').next() != Some(name) {
            return None;
        }
        values.find_map(|value| {
            let row = Map::from_iter([(name.to_owned(), value)]);
            let named = text(&row, path);
            Language::named(&named)
                .is_none()
                .then(|| format!("`{named}` of `{name}` is no language that is told apart"))
        })
    }
}

impl Rule for LanguageOf {
    fn reads(&self) -> Vec<FieldRead<'_>> {
        let named = match &self.is {
            Wanted::Same(_) => None,
            Wanted::Named(name) => Some(FieldRead::field("/is", name)),
        };
        std::iter::once(FieldRead::field("/field", &self.field)).chain(named).collect()
    }

    fn filters(&self) -> Vec<Box<dyn Filter>> {
        vec![Box::new(self.clone())]
    }
}

impl Filter for LanguageOf {
    fn check(&self, row: &Map<String, Value>) -> Option<Reason> {
        let wanted = match &self.is {
            Wanted::Same(language) => *language,
            Wanted::Named(name) => match Language::named(&text(row, name)) {
                Some(language) => language,
                None => {
                    let what = format!("`{}` of {name} is no language that is told apart", text(row, name));
                    return Some(Reason::new("language", what));
                }
            },
        };
        let text = text(row, &self.field);
        // Characters of scripts without spaces carry more than letters of an alphabet.
        let letters = text.chars().filter(|c| c.is_alphabetic()).map(|c| if c as u32 > 0x2e80 { 3 } else { 1 });
        if letters.sum::<usize>() < LEAST_LETTERS {
            return None;
        }
        let mut found = whatlang::detect(&text)?;
        if found.lang() != wanted.0 && found.confidence() < self.confidence {
            // Which of its relatives it is may be doubtful, and yet not that it is none of them that is wanted.
            found = Detector::with_allowlist(vec![wanted.0, found.lang()]).detect(&text)?;
        }
        (found.lang() != wanted.0 && found.confidence() >= self.confidence).then(|| {
            let (lang, sure) = (found.lang().eng_name(), found.confidence());
            Reason::new("language", format!("{} is {lang} (confidence {sure:.2})", self.field))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_languages_apart_and_leaves_short_texts_alone() {
        let check = |code: &str, text: &str| {
            let row = serde_json::json!({ "a": text });
            LanguageOf::new("a", code).expect("a language").check(row.as_object().expect("an object")).is_some()
        };
        let english = "Bread needs flour, water, salt and yeast, and a good deal of patience from the baker.";
        let german = "Brot braucht Mehl, Wasser, Salz und Hefe, und der Bäcker braucht dazu viel Geduld.";
        let chinese = "面包需要面粉、水、盐和酵母，还需要面包师的耐心。";
        assert!(!check("en", english) && check("en", german) && check("eng", chinese));
        assert!(!check("de", german) && check("de", english));
        assert!(!check("zh", chinese) && check("zh", german));
        assert!(!check("en", "Guten Tag!"), "too short to tell");
    }

    #[test]
    fn a_row_says_its_language_by_code_or_name() {
        let rule: LanguageOf =
            serde_json::from_value(serde_json::json!({"field": "a", "is": "{{ in.name }}"})).expect("a rule");
        assert_eq!(serde_json::to_value(&rule).expect("plain data")["is"], "{{ in.name }}");
        let text = "Brot braucht Mehl, Wasser, Salz und Hefe, und der Bäcker braucht dazu viel Geduld.";
        let check = |name: &str| {
            let row = serde_json::json!({"a": text, "in": {"name": name}});
            rule.check(row.as_object().expect("an object")).map(|reason| reason.detail)
        };
        for german in ["German", "Deutsch", "de", "deu", "de-AT", "DE"] {
            assert_eq!(check(german), None, "{german}");
        }
        for other in ["Chinese", "中文", "zh-CN", "Spanish", "español", "pt_BR", "العربية", "Farsi"] {
            assert!(check(other).is_some_and(|what| what.contains("a is German")), "{other}");
        }
        assert!(check("Klingon").is_some_and(|what| what.contains("no language")));
        for wrong in ["{{ a b }}", "{{ }}", "{{ language | lower }}", "sw"] {
            let rule = serde_json::json!({"field": "a", "is": wrong});
            assert!(serde_json::from_value::<LanguageOf>(rule).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_code_names_a_language() {
        assert!(codes().count() > 50);
        for (short, long) in codes() {
            assert!(Language::try_from(short.to_owned()).is_ok(), "{short}");
            assert!(Language::try_from(long.to_uppercase()).is_ok(), "{long}");
        }
        assert!(Language::try_from("xx".to_owned()).is_err());
    }
}
