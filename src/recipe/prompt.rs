//! Prompt templates (Jinja): attributes, examples and earlier fields → text.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};

use instil_model::jinja::{Fault, Jinja, Plain};
use minijinja::value::Serde;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::error::{Error, Result, nearest};

/// Functions that every template has.
const GLOBALS: &[&str] = &["range", "dict", "namespace", "debug"];

/// Renders templates of recipes: strict about unknown names, bounded in time.
pub(crate) struct Templates {
    /// Keeps what was parsed, by the text: a recipe has few templates, and every row renders them.
    jinja: RefCell<Jinja>,
}

/// Whether a text changes when it is rendered.
pub(crate) fn is_template(text: &str) -> bool {
    ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark))
}

impl Default for Templates {
    fn default() -> Self {
        let mut jinja = Jinja::strict();
        jinja.environment().add_filter("regex_escape", |text: &str| regex_syntax::escape(text));
        Self { jinja: RefCell::new(jinja) }
    }
}

impl Templates {
    /// Renders `template` with `values`; `place` names it in errors (`step instruction, prompt`).
    ///
    /// # Errors
    /// When the template does not parse, or names a value that is not there.
    pub(crate) fn render(&self, template: &str, values: &Map<String, Value>, place: &str) -> Result<String> {
        if !is_template(template) {
            return Ok(template.to_owned());
        }
        self.rendered(template, values).map_err(|fault| {
            let unknown = match &fault {
                Fault::Wrong { undefined: true, .. } => self.undefined(template, values),
                _ => None,
            };
            let what = unknown.map_or_else(|| told(&fault), |name| format!("`{name}` is not defined"));
            Error::usage(format!("{place}: {what}"), can_use("a template", values))
        })
    }

    fn rendered(&self, template: &str, values: &Map<String, Value>) -> Result<String, Fault> {
        if !self.jinja.borrow().has(template) {
            self.jinja.borrow_mut().add(template, template)?;
        }
        self.jinja.borrow().render(template, minijinja::Value::from(Serde(Context(values))), bytes_of(values))
    }

    /// Whether `expression` is true of `values`.
    ///
    /// # Errors
    /// As [`Templates::render`].
    pub(crate) fn holds(&self, expression: &str, values: &Map<String, Value>, place: &str) -> Result<bool> {
        let found =
            self.jinja.borrow().holds(expression, minijinja::Value::from(Serde(Context(values))), bytes_of(values));
        found.map_err(|fault| Error::usage(format!("{place}: {}", told(&fault)), can_use("an expression", values)))
    }

    /// As [`Templates::check`], for an expression without braces.
    ///
    /// # Errors
    /// That finding.
    pub(crate) fn check_expression(&self, expression: &str, known: &BTreeSet<&str>) -> Result<(), (String, String)> {
        let names = self.jinja.borrow().names_of_expression(expression).map_err(|fault| match fault {
            Fault::Excess(what) => (format!("the expression {what}"), "make it shorter".to_owned()),
            Fault::Wrong { what, .. } => {
                (format!("the expression does not parse: {what}"), "write it as in `not parent.input`".to_owned())
            }
        })?;
        only_known(names, known)
    }

    /// Finds what makes `template` fail whatever the values are, as (what, remedy): its syntax, or a name that
    /// is not among `known`.
    ///
    /// # Errors
    /// That finding.
    pub(crate) fn check(&self, template: &str, known: &BTreeSet<&str>) -> Result<(), (String, String)> {
        let names = self.jinja.borrow().names(template, false).map_err(|fault| match fault {
            Fault::Excess(what) => (format!("the template {what}"), "make it shorter".to_owned()),
            Fault::Wrong { what, .. } => {
                (format!("the template does not parse: {what}"), "write names as {{ name }}".to_owned())
            }
        })?;
        only_known(names, known)
    }

    /// Whether `template` uses the value `name`; of one that does not parse, whether it may.
    pub(crate) fn uses(&self, template: &str, name: &str) -> bool {
        is_template(template) && self.jinja.borrow().names(template, false).map_or(true, |names| names.contains(name))
    }

    /// The first name, in the order of the alphabet, that `template` uses and `values` lacks.
    fn undefined(&self, template: &str, values: &Map<String, Value>) -> Option<String> {
        let names = self.jinja.borrow().names(template, true).ok()?;
        let pointer = |name: &String| format!("/{}", name.replace('.', "/"));
        let values = Value::Object(values.clone());
        names.into_iter().filter(|name| values.pointer(&pointer(name)).is_none()).min()
    }
}

/// A fault, as the middle of a sentence.
fn told(fault: &Fault) -> String {
    match fault {
        Fault::Excess(what) => format!("the template {what}"),
        Fault::Wrong { what, .. } => what.clone(),
    }
}

fn can_use(what: &str, values: &Map<String, Value>) -> String {
    let known: Vec<&str> = values.keys().map(String::as_str).collect();
    format!("{what} can use: {}", known.join(", "))
}

/// Bytes of the texts in `values`.
fn bytes_of(values: &Map<String, Value>) -> usize {
    fn of(value: &Value) -> usize {
        match value {
            Value::String(text) => text.len(),
            Value::Array(list) => list.iter().map(of).sum(),
            Value::Object(map) => bytes_of(map),
            _ => 1,
        }
    }
    values.values().map(of).sum()
}

/// Refuses the first of `names`, in the order of the alphabet, that is not `known`, as (what, remedy).
fn only_known(names: HashSet<String>, known: &BTreeSet<&str>) -> Result<(), (String, String)> {
    let unknown = names.into_iter().filter(|name| !known.contains(name.as_str()));
    match unknown.filter(|name| !GLOBALS.contains(&name.as_str())).min() {
        None => Ok(()),
        Some(name) => {
            let remedy = match nearest(&name, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("a template can use: {}", known.iter().copied().collect::<Vec<_>>().join(", ")),
            };
            Err((format!("`{name}` is not defined here"), remedy))
        }
    }
}

/// Values as templates see them.
struct Context<'a>(&'a Map<String, Value>);

impl Serialize for Context<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, Plain(value))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_print_as_they_are_written() {
        let text =
            r#"{"n": 3, "most": 18446744073709551615, "half": 0.5, "on": true, "map": {"b": -1, "a": [1, 2.25]}}"#;
        let values: Value = serde_json::from_str(text).expect("JSON");
        let values = values.as_object().expect("an object");
        let rendered = |template: &str| Templates::default().render(template, values, "t").expect("renders");
        assert_eq!(rendered("{{ n }} {{ n + 1 }} {{ most }} {{ half }}"), "3 4 18446744073709551615 0.5");
        assert_eq!(rendered("{{ map.b }} {{ map.a[1] }} {{ map }}"), "-1 2.25 {'b': -1, 'a': [1, 2.25]}");
        assert_eq!(rendered("{% if on and n > 2 %}yes{% endif %}"), "yes");
    }

    #[test]
    fn renders_values_and_refuses_unknown_names() {
        let values = serde_json::json!({"topic": "bread {{ topic }}", "examples": [{"a": "x"}]});
        let values = values.as_object().expect("an object");
        let templates = Templates::default();
        let text = templates.render("{% for e in examples %}\n{{ e.a }}\n{% endfor %}\n{{ topic }}\n", values, "t");
        // Data is not a template: braces inside a value stay as they are.
        assert_eq!(text.expect("renders"), "x\nbread {{ topic }}\n");
        let error = templates.render("{{ topci }}", values, "step a, prompt").expect_err("unknown name").to_string();
        assert!(error.contains("step a, prompt: `topci` is not defined") && error.contains("topic"), "{error}");
        assert!(
            templates
                .render(
                    "{% for i in range(100000) %}{% for j in range(100000) %}x{% endfor %}{% endfor %}",
                    values,
                    "t"
                )
                .is_err()
        );
    }
}
