//! A text must be in the language that was asked for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use whatlang::Lang;

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

impl TryFrom<String> for Language {
    type Error = String;

    fn try_from(code: String) -> Result<Self, String> {
        let lower = code.to_lowercase();
        let long = codes().find(|(short, _)| *short == lower).map_or(lower.as_str(), |(_, long)| long);
        let language = Lang::from_code(long).map(Self);
        language.ok_or_else(|| format!("no language has the code `{code}`; use one like en, de, zh or eng"))
    }
}

impl From<Language> for String {
    fn from(language: Language) -> Self {
        language.0.code().to_owned()
    }
}

/// Turns down a row whose field is in another language.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LanguageOf {
    /// The field.
    pub field: String,
    /// The language that it must have.
    pub is: Language,
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

impl Rule for LanguageOf {
    fn reads(&self) -> Vec<FieldRead<'_>> {
        vec![FieldRead::field("/field", &self.field)]
    }

    fn filters(&self) -> Vec<Box<dyn Filter>> {
        vec![Box::new(self.clone())]
    }
}

impl Filter for LanguageOf {
    fn check(&self, row: &Map<String, Value>) -> Option<Reason> {
        let text = text(row, &self.field);
        // Characters of scripts without spaces carry more than letters of an alphabet.
        let letters = text.chars().filter(|c| c.is_alphabetic()).map(|c| if c as u32 > 0x2e80 { 3 } else { 1 });
        if letters.sum::<usize>() < LEAST_LETTERS {
            return None;
        }
        let found = whatlang::detect(&text)?;
        (found.lang() != self.is.0 && found.confidence() >= self.confidence).then(|| {
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
    fn every_code_names_a_language() {
        assert!(codes().count() > 50);
        for (short, long) in codes() {
            assert!(Language::try_from(short.to_owned()).is_ok(), "{short}");
            assert!(Language::try_from(long.to_uppercase()).is_ok(), "{long}");
        }
        assert!(Language::try_from("xx".to_owned()).is_err());
    }
}
