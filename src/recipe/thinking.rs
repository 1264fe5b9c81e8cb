//! Whether a model thinks before it answers, and how long at most.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// Most tokens of a thought where nothing says how many.
const USUAL_TOKENS: usize = 2048;

/// Whether a model thinks before it answers, where it is asked in its chat template.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Thinking {
    /// It answers at once.
    #[default]
    Off,
    /// It thinks first, 2048 tokens at most, and no more than half of what it reads.
    On,
    /// It thinks first, so many tokens at most.
    UpTo(u32),
}

impl Thinking {
    /// Most tokens of a thought of a model that reads `context_length` tokens; `None` where it does not think.
    pub(crate) fn budget(self, context_length: usize) -> Option<usize> {
        match self {
            Self::Off | Self::UpTo(0) => None,
            Self::On => Some(USUAL_TOKENS.min(context_length / 2).max(1)),
            Self::UpTo(tokens) => Some(tokens as usize),
        }
    }

    /// Whether it answers at once.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands references")]
    pub(crate) fn is_off(&self) -> bool {
        matches!(self, Self::Off | Self::UpTo(0))
    }
}

impl fmt::Display for Thinking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::On => f.write_str("on"),
            Self::UpTo(tokens) => tokens.fmt(f),
        }
    }
}

impl FromStr for Thinking {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" | "0" => Ok(Self::Off),
            "on" => Ok(Self::On),
            _ => text.parse().map(Self::UpTo).map_err(|_| "write off, on, or a number of tokens".to_owned()),
        }
    }
}

impl Serialize for Thinking {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::UpTo(tokens) => serializer.serialize_u32(*tokens),
            _ => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Thinking {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Said;

        impl Visitor<'_> for Said {
            type Value = Thinking;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("off, on, or a number of tokens")
            }

            // YAML takes `off` and `on` for truths.
            fn visit_bool<E>(self, is_on: bool) -> Result<Thinking, E> {
                Ok(if is_on { Thinking::On } else { Thinking::Off })
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Thinking, E> {
                text.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }

            fn visit_u64<E: de::Error>(self, tokens: u64) -> Result<Thinking, E> {
                match u32::try_from(tokens) {
                    Ok(0) => Ok(Thinking::Off),
                    Ok(tokens) => Ok(Thinking::UpTo(tokens)),
                    Err(_) => Err(E::invalid_value(de::Unexpected::Unsigned(tokens), &self)),
                }
            }

            fn visit_i64<E: de::Error>(self, tokens: i64) -> Result<Thinking, E> {
                let unexpected = || E::invalid_value(de::Unexpected::Signed(tokens), &self);
                u64::try_from(tokens).map_err(|_| unexpected()).and_then(|tokens| self.visit_u64(tokens))
            }
        }

        deserializer.deserialize_any(Said)
    }
}

impl JsonSchema for Thinking {
    fn schema_name() -> Cow<'static, str> {
        "Thinking".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Whether a model thinks before it answers, where it is asked in its chat template: off, on, or \
                            most tokens of a thought.",
            "anyOf": [
                { "enum": ["off", "on"] },
                { "type": "boolean" },
                { "type": "integer", "minimum": 0, "maximum": u32::MAX },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_people_write_it() {
        let said = |text: &str| serde_saphyr::from_str::<Thinking>(text).ok();
        for (text, thinking) in [
            ("off", Some(Thinking::Off)),
            ("false", Some(Thinking::Off)),
            ("0", Some(Thinking::Off)),
            ("on", Some(Thinking::On)),
            ("'on'", Some(Thinking::On)),
            ("true", Some(Thinking::On)),
            ("300", Some(Thinking::UpTo(300))),
            ("-3", None),
            ("often", None),
            ("1.5", None),
        ] {
            assert_eq!(said(text), thinking, "{text}");
        }
        for thinking in [Thinking::Off, Thinking::On, Thinking::UpTo(7)] {
            let written = serde_json::to_string(&thinking).expect("plain data");
            assert_eq!(serde_json::from_str::<Thinking>(&written).expect("it is read back"), thinking);
            assert_eq!(thinking.to_string().parse(), Ok(thinking));
        }
    }

    #[test]
    fn a_thought_leaves_room_for_the_answer() {
        assert_eq!(Thinking::On.budget(512), Some(256));
        assert_eq!(Thinking::On.budget(usize::MAX), Some(USUAL_TOKENS));
        assert_eq!((Thinking::UpTo(9).budget(512), Thinking::UpTo(0).budget(512)), (Some(9), None));
    }
}
