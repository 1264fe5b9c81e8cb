//! Attributes of rows: what the plan gives each one, spread so that every beginning of a run is balanced.
//!
//! Values come from a list, a stepped range, a topic tree or a file of lines, and may depend on the
//! attributes above them. [`super::assign`] deals the values out; nothing here knows a row.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Fault;
use crate::error::{Error, Result};
use crate::filter::condition::fits;

/// Most values of one attribute.
const MOST_VALUES: usize = 1_000_000;
/// Most bytes of a file of values.
const MOST_BYTES: u64 = 256 << 20;

/// A property that the plan gives each row. One of `values`, `range`, `tree` and `file` says what it may be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Attribute {
    /// Name in templates and in a row's `meta`.
    pub name: String,
    /// What it may be: texts, numbers, or maps whose keys templates can reach.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<Value>,
    /// Relative frequency of each value; all alike when absent. 0 leaves a value out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<f64>,
    /// Numbers between two bounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<Range>,
    /// Topics within topics: maps and lists; each leaf is a value, `science > physics > optics`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<Value>,
    /// A text file with a value a line (personas, say), relative to the file that names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Other values where attributes above this one have certain values; the first that fits holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub when: Vec<Case>,
    /// Nothing has to read it: it is planned and balanced, and stands in a row's `meta` alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub only_planned: bool,
    /// It makes no cells: its values keep their shares and go round within the cells of the other attributes,
    /// however many rows there are to a cell.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub apart: bool,
    /// What values need of the `seed` and `parent` that a row is made from, as template expressions:
    /// `{shorten: "parent.response | length > 200"}`. Rows are dealt the values whose need is met, in the
    /// proportion of their weights.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub needs: BTreeMap<String, String>,
}

/// Numbers from `from` to `to`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// Least.
    pub from: f64,
    /// Greatest.
    pub to: f64,
    /// Distance of neighbours; without it the numbers are continuous (rounded to four digits).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<f64>,
}

/// Values under a condition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Attributes above this one, with the value (or a list of values) that each must have.
    pub is: Map<String, Value>,
    /// What the attribute may then be.
    pub values: Vec<Value>,
    /// Relative frequencies, as in [`Attribute::weights`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<f64>,
}

/// A part of the rows that is fixed, whatever the weights say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// The rows meant: attributes with the value (or a list of values) that each must have.
    pub is: Map<String, Value>,
    /// Their share of all rows, `0..=1`.
    pub share: f64,
}

/// Rows of a combination of values that are there already; rows are dealt so that both together keep the shares.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// A value of every attribute that makes cells.
    pub is: Map<String, Value>,
    /// How many.
    pub rows: u32,
}

impl Attribute {
    /// An attribute with these values, each as frequent.
    pub(crate) fn of(name: impl Into<String>, values: Vec<Value>) -> Self {
        Self { name: name.into(), values, ..Self::default() }
    }

    /// Whether its values are numbers between bounds rather than a list.
    pub(crate) fn is_continuous(&self) -> bool {
        self.range.is_some()
    }

    /// The values and weights for a row whose attributes above this one are `above`.
    pub(crate) fn choices<'a>(&'a self, above: &Map<String, Value>) -> (&'a [Value], &'a [f64]) {
        match self.when.iter().find(|case| fits(&case.is, above)) {
            Some(case) => (&case.values, &case.weights),
            None => (&self.values, &self.weights),
        }
    }

    /// Turns a tree, a stepped range or a file into plain `values`; `folder` is where relative paths begin.
    ///
    /// # Errors
    /// When the file cannot be read. Whether the values can be used is for [`Attribute::check`].
    pub(crate) fn resolve(&mut self, folder: &Path) -> Result<()> {
        if let Some(tree) = self.tree.take() {
            leaves(&tree, "", &mut self.values);
        }
        if let Some(Range { from, to, step: Some(step) }) = self.range
            && step > 0.0
            && (to - from) / step < MOST_VALUES as f64
        {
            self.range = None;
            let count = ((to - from) / step + 1e-9).floor() as i64;
            self.values.extend((0..=count).map(|at| number(at as f64 * step + from)));
        }
        if let Some(file) = self.file.take() {
            let path = folder.join(file);
            let size = std::fs::metadata(&path).map_err(|cause| Error::io("read", &path, cause))?.len();
            if size > MOST_BYTES {
                return Err(Error::input(&path, format!("{size} bytes are too many for values"), "check the path"));
            }
            let bytes = std::fs::read(&path).map_err(|cause| Error::io("read", &path, cause))?;
            let text = String::from_utf8(bytes)
                .map_err(|_| Error::input(&path, "is not UTF-8 text", "write a value a line, as UTF-8"))?;
            let lines = text.trim_start_matches('\u{FEFF}').lines().map(str::trim).filter(|line| !line.is_empty());
            self.values.extend(lines.map(|line| json!(line)));
        }
        Ok(())
    }

    /// Finds what cannot be dealt out; `above` are the attributes before this one, `at` is its pointer.
    ///
    /// # Errors
    /// The first fault, with the pointer to it.
    pub(crate) fn check(&self, above: &[Self], at: &str) -> Result<(), Fault> {
        let fault = |key: &str, what: String, remedy: &str| Err(Fault::new(format!("{at}{key}"), what, remedy));
        let name = &self.name;
        if !name.starts_with(|c: char| c.is_alphabetic() || c == '_')
            || !name.chars().all(|c| c.is_alphanumeric() || c == '_')
        {
            return fault("/name", format!("`{name}` is no name"), "use letters, digits and `_`, as in a template");
        }
        if above.iter().any(|other| other.name == *name) {
            return fault("/name", format!("there is an attribute `{name}` already"), "choose another name");
        }
        if let Some(range) = &self.range {
            if !self.values.is_empty() || !self.when.is_empty() {
                return fault("/range", format!("`{name}` has a continuous range and values"), "keep one of them");
            }
            if !(range.from.is_finite() && range.to.is_finite() && range.from <= range.to) {
                return fault("/range", format!("from {} to {} is no range", range.from, range.to), "let from be less");
            }
            if range.step.is_some() {
                return fault(
                    "/range/step",
                    format!("the step gives no values, or over {MOST_VALUES}"),
                    "use a positive step that fits into the range",
                );
            }
            return Ok(());
        }
        if self.values.is_empty() {
            return fault(
                "",
                format!("attribute `{name}` has no values"),
                "add `values`, a `range`, a `tree` or a `file`",
            );
        }
        check_choices(&self.values, &self.weights, at)?;
        if !self.needs.is_empty() && !self.when.is_empty() {
            return fault("/needs", format!("`{name}` has both `needs` and `when`"), "make two attributes of it");
        }
        for (index, case) in self.when.iter().enumerate() {
            let at = format!("{at}/when/{index}");
            let place = format!("{at}/is");
            check_condition(&case.is, above, &place)?;
            if !self.apart {
                check_in_cells(&case.is, above, &place, "make this attribute `apart` too")?;
            }
            if case.values.is_empty() {
                return Err(Fault::new(at, "the case has no values", "add at least one value"));
            }
            check_choices(&case.values, &case.weights, &at)?;
        }
        Ok(())
    }

    /// Every value it may have, under any condition.
    pub(crate) fn all_values(&self) -> impl Iterator<Item = &Value> {
        self.values.iter().chain(self.when.iter().flat_map(|case| &case.values))
    }
}

impl Quota {
    /// Finds what cannot be met; `at` is its pointer.
    ///
    /// # Errors
    /// The first fault, with the pointer to it.
    pub(crate) fn check(&self, attributes: &[Attribute], at: &str) -> Result<(), Fault> {
        if !(0.0..=1.0).contains(&self.share) {
            let what = format!("a share of {} is none", self.share);
            return Err(Fault::new(format!("{at}/share"), what, "use a number from 0 to 1"));
        }
        let place = format!("{at}/is");
        check_condition(&self.is, attributes, &place)?;
        check_in_cells(&self.is, attributes, &place, "take `apart` out, or use `weights`")
    }
}

fn check_choices(values: &[Value], weights: &[f64], at: &str) -> Result<(), Fault> {
    let fault = |key: &str, what: String, remedy: &str| Err(Fault::new(format!("{at}{key}"), what, remedy));
    if values.len() > MOST_VALUES {
        return fault("", format!("{} values are too many", values.len()), "split the attribute into two");
    }
    if let Some(index) = values.iter().position(|value| value.as_str().is_some_and(|text| text.trim().is_empty())) {
        return fault(&format!("/values/{index}"), "the value is empty".into(), "write a text, or leave it out");
    }
    let mut seen = HashSet::with_capacity(values.len());
    if let Some(index) = values.iter().position(|value| !seen.insert(value)) {
        return fault(
            &format!("/values/{index}"),
            format!("{} stands twice", values[index]),
            "say how frequent it is with `weights`",
        );
    }
    if weights.is_empty() {
        return Ok(());
    }
    if weights.len() != values.len() {
        return fault(
            "/weights",
            format!("{} weights for {} values", weights.len(), values.len()),
            "give one weight a value",
        );
    }
    if let Some(index) = weights.iter().position(|weight| !(weight.is_finite() && *weight >= 0.0)) {
        return fault(&format!("/weights/{index}"), format!("{} is no weight", weights[index]), "use 0 or more");
    }
    if weights.iter().all(|weight| *weight == 0.0) {
        return fault("/weights", "all weights are 0".into(), "give at least one value a weight");
    }
    Ok(())
}

/// Finds a name or a value in `condition` that no attribute has; `at` is its pointer.
pub(super) fn check_condition(condition: &Map<String, Value>, attributes: &[Attribute], at: &str) -> Result<(), Fault> {
    for (name, wanted) in condition {
        let at = format!("{at}/{name}");
        let known = || attributes.iter().map(|attribute| attribute.name.as_str());
        let Some(attribute) = attributes.iter().find(|attribute| attribute.name == *name) else {
            let remedy = match crate::error::nearest(name, known()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("name one of: {}", known().collect::<Vec<_>>().join(", ")),
            };
            return Err(Fault::new(at, format!("there is no attribute `{name}` above"), remedy));
        };
        let wanted = wanted.as_array().map_or(std::slice::from_ref(wanted), Vec::as_slice);
        if let Some(value) = wanted.iter().find(|value| !attribute.all_values().any(|other| other == *value)) {
            let names: Vec<&str> = attribute.all_values().filter_map(Value::as_str).collect();
            let remedy = match value.as_str().and_then(|text| crate::error::nearest(text, names.iter().copied())) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("write one of the values of `{name}`"),
            };
            return Err(Fault::new(at, format!("{value} is no value of `{name}`"), remedy));
        }
    }
    Ok(())
}

/// Finds a condition on an attribute that makes no cells.
fn check_in_cells(
    condition: &Map<String, Value>,
    attributes: &[Attribute],
    at: &str,
    remedy: &str,
) -> Result<(), Fault> {
    match condition.keys().find(|name| attributes.iter().any(|other| other.apart && other.name == **name)) {
        Some(name) => Err(Fault::new(format!("{at}/{name}"), format!("`{name}` stands apart from the cells"), remedy)),
        None => Ok(()),
    }
}

/// A whole number without a fraction, so that templates print `3` and not `3.0`.
pub(crate) fn number(value: f64) -> Value {
    let rounded = (value * 1e4).round() / 1e4;
    if rounded.fract() == 0.0 && rounded.abs() < 1e15 { json!(rounded as i64) } else { json!(rounded) }
}

fn leaves(tree: &Value, path: &str, values: &mut Vec<Value>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path} > {name}") };
    match tree {
        Value::Object(branches) => branches.iter().for_each(|(name, branch)| leaves(branch, &below(name), values)),
        Value::Array(branches) => branches.iter().for_each(|branch| leaves(branch, path, values)),
        Value::Null => values.push(json!(path)),
        Value::String(name) => values.push(json!(below(name))),
        other => values.push(json!(below(&other.to_string()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(mut attribute: Attribute) -> Vec<Value> {
        attribute.resolve(Path::new(".")).expect("no file");
        attribute.values
    }

    #[test]
    fn trees_and_ranges_become_values() {
        let tree = json!({"science": {"physics": ["optics", "sound"], "biology": null}, "history": "Rome"});
        let tree = Attribute { name: "topic".into(), tree: Some(tree), ..Attribute::default() };
        let expected =
            json!(["science > physics > optics", "science > physics > sound", "science > biology", "history > Rome"]);
        assert_eq!(json!(resolved(tree)), expected);
        let range = |step| Some(Range { from: 1.0, to: 2.0, step: Some(step) });
        let steps = |step| resolved(Attribute { name: "n".into(), range: range(step), ..Attribute::default() });
        assert_eq!(json!(steps(1.0)), json!([1, 2]));
        assert_eq!(json!(steps(0.25)), json!([1, 1.25, 1.5, 1.75, 2]));
    }

    #[test]
    fn lines_of_a_file_become_values() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(folder.path().join("personas.txt"), "\u{FEFF}a nurse\n\n  a sailor \n").expect("written");
        let mut personas = Attribute { name: "p".into(), file: Some("personas.txt".into()), ..Attribute::default() };
        personas.resolve(folder.path()).expect("readable");
        assert_eq!(json!(personas.values), json!(["a nurse", "a sailor"]));
    }

    #[test]
    fn faults_name_the_place_and_the_remedy() {
        let level = Attribute::of("level", vec![json!("easy"), json!("hard")]);
        let tone = Attribute::of("tone", vec![json!("dry")]);
        let case = |is: Value| Case {
            is: is.as_object().expect("an object").clone(),
            values: vec![json!("x")],
            ..Case::default()
        };
        let broken = [
            (Attribute { weights: vec![1.0], ..level.clone() }, "/a/weights"),
            (Attribute { weights: vec![0.0, 0.0], ..level.clone() }, "/a/weights"),
            (Attribute { weights: vec![1.0, -1.0], ..level.clone() }, "/a/weights/1"),
            (Attribute { values: vec![json!("x"), json!("x")], ..tone.clone() }, "/a/values/1"),
            (Attribute { values: vec![], ..tone.clone() }, "/a"),
            (Attribute { name: "my name".into(), ..tone.clone() }, "/a/name"),
            (Attribute { name: "level".into(), ..tone.clone() }, "/a/name"),
            (Attribute { when: vec![case(json!({"levle": "easy"}))], ..tone.clone() }, "/a/when/0/is/levle"),
            (Attribute { when: vec![case(json!({"level": "hrad"}))], ..tone.clone() }, "/a/when/0/is/level"),
            (Attribute { when: vec![case(json!({"end": "."}))], ..tone.clone() }, "/a/when/0/is/end"),
        ];
        let end = Attribute { apart: true, ..Attribute::of("end", vec![json!(".")]) };
        let above = [level.clone(), end];
        for (attribute, at) in broken {
            let above = if attribute.name == "level" && at != "/a/name" { &[][..] } else { &above };
            let fault = attribute.check(above, "/a").expect_err(at);
            assert_eq!(fault.at, at, "{fault:?}");
        }
        let free = Attribute { apart: true, when: vec![case(json!({"end": "."}))], ..tone.clone() };
        assert!(free.check(&above, "/a").is_ok());
        let quota = Quota { is: json!({"end": "."}).as_object().expect("an object").clone(), share: 0.5 };
        assert_eq!(quota.check(&above, "/q").expect_err("no cells").at, "/q/is/end");
        assert!(tone.check(&[level], "/a").is_ok());
    }
}
