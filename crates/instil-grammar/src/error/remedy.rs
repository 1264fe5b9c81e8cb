//! What helps against an error: words, in which settings are named as data.
//!
//! A library does not know what its settings are called where a person meets them: a flag, a key, a field of a form.
//! Whoever shows an error calls them so ([`Remedy::told`]); printed as it is, a remedy gives their plain names.

use std::fmt;

/// What can be set, by its plain name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Setting(&'static str);

impl Setting {
    /// A setting of this name: words in lower case with `_` between them.
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// Its plain name.
    pub fn name(self) -> &'static str {
        self.0
    }
}

/// The settings that errors of this crate name.
pub mod setting {
    use super::Setting;

    /// Most tokens of a text.
    pub const MAX_TOKENS: Setting = Setting::new("max_tokens");
    /// The constraint engine.
    pub const ENGINE: Setting = Setting::new("engine");
    /// A folder of schemas that others refer to.
    pub const RETRIEVE: Setting = Setting::new("retrieve");
}

/// What helps.
///
/// ```
/// use instil_grammar::error::{Remedy, setting};
///
/// let remedy = Remedy::from("simplify it, or use ").set(setting::ENGINE, "instil");
/// assert_eq!(remedy.to_string(), "simplify it, or use `engine` instil");
/// let flag = |setting: instil_grammar::error::Setting, value: &str| format!("--{} {value}", setting.name());
/// assert_eq!(remedy.told(&flag), "simplify it, or use --engine instil");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remedy {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Words(String),
    /// A setting and its value; empty when it is only named.
    Setting(Setting, String),
}

impl Remedy {
    /// With more words.
    pub fn and(mut self, words: impl Into<String>) -> Self {
        self.parts.push(Part::Words(words.into()));
        self
    }

    /// With the name of a setting.
    pub fn name(self, setting: Setting) -> Self {
        self.set(setting, "")
    }

    /// With a setting at a value.
    pub fn set(mut self, setting: Setting, value: impl Into<String>) -> Self {
        self.parts.push(Part::Setting(setting, value.into()));
        self
    }

    /// With all of another.
    pub fn then(mut self, other: Self) -> Self {
        self.parts.extend(other.parts);
        self
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Words(words) if words.is_empty()))
    }

    /// In words; `call` says how a setting is written, at a value unless that is empty.
    pub fn told(&self, call: &dyn Fn(Setting, &str) -> String) -> String {
        let parts = self.parts.iter().map(|part| match part {
            Part::Words(words) => words.clone(),
            Part::Setting(setting, value) => call(*setting, value),
        });
        parts.collect()
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told(&|setting, value| {
            let gap = if value.is_empty() { "" } else { " " };
            format!("`{}`{gap}{value}", setting.name())
        }))
    }
}

impl serde::Serialize for Remedy {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl From<String> for Remedy {
    fn from(words: String) -> Self {
        Self::default().and(words)
    }
}

impl From<&str> for Remedy {
    fn from(words: &str) -> Self {
        Self::default().and(words)
    }
}

impl From<&String> for Remedy {
    fn from(words: &String) -> Self {
        Self::default().and(words)
    }
}
