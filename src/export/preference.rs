//! Rows of preference: a prompt, the answer that was chosen, and the one that was rejected.
//!
//! Read in the spellings that are in use: texts or lists of messages; `response` for `chosen`; answers that
//! repeat the prompt's messages, beside a `prompt` or without one. DPO trainers (TRL's "preference" type,
//! plain and conversational) load what [`super::form::row`] makes of them.

use serde_json::{Map, Value};

use super::form::{asked, kind, turn};
use super::message::turns;
use super::{Role, Turn};

/// Names of the field that asks.
const PROMPTS: [&str; 4] = ["prompt", "instruction", "question", "query"];

/// What such a row says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Preference {
    /// The answers are lists of messages.
    pub is_list: bool,
    /// What was asked.
    pub prompt: Vec<Turn>,
    /// The better answer.
    pub chosen: Vec<Turn>,
    /// The worse answer.
    pub rejected: Vec<Turn>,
    /// The fields that say prompt and chosen answer.
    pub by: Vec<String>,
}

impl Preference {
    /// The preference that a row states, or what is wrong with it; `None` when it states none: without a
    /// rejected answer, or without a prompt.
    pub(super) fn of(fields: &Map<String, Value>) -> Option<Result<Self, String>> {
        let is_there = |name: &&str| fields.get(*name).is_some_and(|value| !value.is_null() && value != "");
        let chosen = ["chosen", "response"].into_iter().find(is_there)?;
        let rejected = Some("rejected").filter(is_there)?;
        let prompt = PROMPTS.into_iter().find(is_there);
        let is_list = fields[chosen].is_array();
        // Texts that hold a whole dialogue each say their prompt in no way that is known.
        (prompt.is_some() || is_list).then(|| Self::read(fields, prompt, chosen, rejected, is_list))
    }

    fn read(
        fields: &Map<String, Value>,
        prompt: Option<&str>,
        chosen: &str,
        rejected: &str,
        is_list: bool,
    ) -> Result<Self, String> {
        let answer = |name: &str| match &fields[name] {
            list @ Value::Array(_) => turns(list, name),
            _ => Ok(vec![turn(fields, name, Role::Assistant)?]),
        };
        if fields[rejected].is_array() != is_list {
            let (a, b) = (kind(&fields[chosen]), kind(&fields[rejected]));
            return Err(format!("`{chosen}` is {a}, and `{rejected}` is {b}"));
        }
        let (mut chosen_said, mut rejected_said) = (answer(chosen)?, answer(rejected)?);
        let by =
            prompt.into_iter().chain([chosen, "input", "context", "system", "messages"]).map(str::to_owned).collect();
        let prompt = match prompt {
            Some(name) if fields[name].is_array() => turns(&fields[name], name)?,
            Some(name) => question(fields, name)?,
            None => {
                let common = chosen_said.iter().zip(&rejected_said).take_while(|(a, b)| a == b).count();
                chosen_said[..common].to_vec()
            }
        };
        for (said, name) in [(&mut chosen_said, chosen), (&mut rejected_said, rejected)] {
            if said.starts_with(&prompt) {
                said.drain(..prompt.len());
            }
            if said.is_empty() || prompt.is_empty() {
                return Err(format!("`{name}` does not tell an answer from its prompt"));
            }
        }
        Ok(Self { is_list, prompt, chosen: chosen_said, rejected: rejected_said, by })
    }

    /// Prompt, chosen and rejected answer, when each is one message and there is no system message.
    pub(super) fn texts(&self) -> Option<[&str; 3]> {
        let one = |said: &[Turn], role: Role| matches!(said, [only] if only.role == role);
        let is_plain =
            one(&self.prompt, Role::User) && one(&self.chosen, Role::Assistant) && one(&self.rejected, Role::Assistant);
        is_plain.then(|| [&self.prompt, &self.chosen, &self.rejected].map(|said| said[0].text.as_str()))
    }
}

/// A prompt of texts: as in the Alpaca form it may have an input and a system message beside it.
fn question(fields: &Map<String, Value>, name: &str) -> Result<Vec<Turn>, String> {
    let system = fields.get("system").and_then(Value::as_str).filter(|text| !text.is_empty());
    let system = system.map(|text| Turn::new(Role::System, text.to_owned()));
    Ok(system.into_iter().chain([asked(fields, name)?]).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(row: Value) -> Option<Result<Preference, String>> {
        Preference::of(row.as_object().expect("an object"))
    }

    fn texts(row: Value) -> [String; 3] {
        of(row).expect("a preference").expect("a good one").texts().expect("texts").map(str::to_owned)
    }

    #[test]
    fn every_spelling_is_read() {
        let user = json!({"role": "user", "content": "Q"});
        let good = json!({"role": "assistant", "content": "A"});
        let bad = json!({"role": "assistant", "content": "B"});
        for row in [
            json!({"prompt": "Q", "chosen": "A", "rejected": "B"}),
            json!({"instruction": "Q", "input": "", "response": "A", "rejected": "B", "meta": {}}),
            json!({"question": "Q", "chosen": "A", "rejected": "B"}),
            json!({"prompt": [user], "chosen": [good], "rejected": [bad]}),
            json!({"prompt": "Q", "chosen": [user, good], "rejected": [user, bad], "messages": [user, good]}),
            json!({"chosen": [user, good], "rejected": [user, bad]}),
        ] {
            assert_eq!(texts(row.clone()), ["Q", "A", "B"], "{row}");
        }
        assert_eq!(texts(json!({"instruction": "Q", "input": "I", "chosen": "A", "rejected": "B"}))[0], "Q\n\nI");
        let with_system = json!({"system": "S", "prompt": "Q", "chosen": "A", "rejected": "B"});
        assert_eq!(of(with_system).expect("one").expect("good").texts(), None);
    }

    #[test]
    fn what_states_no_preference_is_left_alone_and_what_is_wrong_is_told() {
        for row in [
            json!({"prompt": "Q", "response": "A"}),
            json!({"prompt": "Q", "chosen": "A", "rejected": null}),
            json!({"instruction": "Q", "response": "A", "rejected": ""}),
            json!({"chosen": "Human: Q Assistant: A", "rejected": "Human: Q Assistant: B"}),
        ] {
            assert!(of(row.clone()).is_none(), "{row}");
        }
        let message = json!([{"role": "assistant", "content": "A"}]);
        for (row, part) in [
            (
                json!({"prompt": "Q", "chosen": message, "rejected": "B"}),
                "`chosen` is a list, and `rejected` is a text",
            ),
            (json!({"prompt": "Q", "chosen": "A", "rejected": 3}), "`rejected` is a number"),
            (json!({"chosen": message, "rejected": message}), "does not tell an answer"),
            (json!({"prompt": "Q", "chosen": [], "rejected": []}), "`chosen` is empty"),
        ] {
            let what = of(row).expect("a preference").expect_err(part);
            assert!(what.contains(part), "{what}");
        }
    }
}
