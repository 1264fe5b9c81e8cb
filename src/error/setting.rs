//! The settings that errors name. What each is called where a person meets it, the edge of a program says.

use super::Setting;
#[cfg(test)]
use instil_model::error::setting::{CHAT_TEMPLATE, DEVICE, ENGINE, RETRIEVE, THINKING};
pub(crate) use instil_model::error::setting::{FEATURE, MAX_TOKENS};

/// The model.
pub(crate) const MODEL: Setting = Setting::new("model");
/// How many rows.
pub(crate) const ROWS: Setting = Setting::new("rows");
/// The directory that is written.
pub(crate) const OUTPUT: Setting = Setting::new("output");
/// Whether a run is gone on with.
pub(crate) const RESUME: Setting = Setting::new("resume");
/// One value of a run file.
pub(crate) const SET: Setting = Setting::new("set");
/// Whether a row that cannot be read is an error.
pub(crate) const STRICT: Setting = Setting::new("strict");
/// A field that rules look at.
pub(crate) const FIELD: Setting = Setting::new("field");
/// The field that is the prompt.
pub(crate) const PROMPT_FIELD: Setting = Setting::new("prompt_field");
/// The field that is the answer.
pub(crate) const RESPONSE_FIELD: Setting = Setting::new("response_field");
/// The form of exported rows.
pub(crate) const FORMAT: Setting = Setting::new("format");
/// The share of the rows that is kept for testing.
pub(crate) const SPLIT: Setting = Setting::new("split");
/// The field whose values stay on one side of a split.
pub(crate) const SPLIT_BY: Setting = Setting::new("split_by");
/// Taking decisions that were filled in.
pub(crate) const APPLY: Setting = Setting::new("apply");

/// Replacing what somebody else wrote.
pub(crate) const FORCE: Setting = Setting::new("force");

/// All of them: the test of flags goes through them.
#[cfg(test)]
pub(crate) const ALL: &[Setting] = &[
    CHAT_TEMPLATE,
    RETRIEVE,
    DEVICE,
    ENGINE,
    FEATURE,
    THINKING,
    MAX_TOKENS,
    MODEL,
    ROWS,
    OUTPUT,
    RESUME,
    SET,
    STRICT,
    FIELD,
    PROMPT_FIELD,
    RESPONSE_FIELD,
    FORMAT,
    SPLIT,
    SPLIT_BY,
    APPLY,
    FORCE,
];
