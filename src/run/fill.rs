//! Filling gaps: what a data set holds of each cell, and how many rows it lacks of its target.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::container::Rows;
use crate::error::{Error, Result};
use crate::recipe::{Held, Recipe};
use crate::row::{Applied, Meta};

/// Distance from the target at which a data set counts as balanced, unless a number of rows is asked for.
pub(crate) const CLOSE: f64 = 0.02;
/// Most rows that are proposed.
const MOST_ROWS: u32 = 1_000_000;

/// What a data set holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Gaps {
    /// Rows by cell.
    pub held: Vec<Held>,
    /// Rows that have a value of every attribute.
    pub rows: u32,
    /// Rows that lack one, or have one that is not planned.
    pub without: u32,
    /// Total variation between the cells' shares and their target, before.
    pub before: f64,
    /// The same when `lacking` rows are added.
    pub after: f64,
    /// Rows to add.
    pub lacking: u32,
}

impl Gaps {
    /// Compares `data` (in any container: labelled rows, rows of a run, or rows with fields named as attributes) with
    /// what `recipe` plans; `rows` is how many are to be added, where that is known.
    ///
    /// # Errors
    /// When the file cannot be read, no row has the attributes, or they are not spread by cells.
    pub(crate) fn find(data: &Path, recipe: &Recipe, seed: u64, rows: Option<u32>) -> Result<Self> {
        let mut gaps = Self::default();
        let mut counts: BTreeMap<String, Held> = BTreeMap::new();
        let mut rows_held = Rows::open(data)?;
        let decisions = rows_held.decisions()?;
        while let Some(row) = rows_held.next()? {
            let mut row = row.content.fields().ok();
            if let (Some(row), Some(decisions)) = (&mut row, &decisions)
                && matches!(decisions.apply(row), Applied::Rejected(_))
            {
                continue;
            }
            match row.and_then(|row| cell_of(&row, recipe)) {
                Some(is) => {
                    let held = counts.entry(Value::Object(is.clone()).to_string());
                    held.or_insert(Held { is, rows: 0 }).rows += 1;
                    gaps.rows += 1;
                }
                None => gaps.without += 1,
            }
        }
        if gaps.rows == 0 {
            let names: Vec<&str> = recipe.attributes.iter().map(|attribute| attribute.name.as_str()).collect();
            let what = format!("no row has planned values of {}", names.join(", "));
            return Err(Error::input(data, what, "observe them first with `instil label`"));
        }
        gaps.held = counts.into_values().collect();
        let assignments = recipe.assignments(seed).and_then(|dealt| dealt.beside(&gaps.held));
        let mut assignments = assignments.map_err(|fault| fault.into_usage(&recipe.name))?;
        gaps.before = assignments.total_variation();
        gaps.after = gaps.before;
        while rows.map_or(gaps.after > CLOSE && gaps.lacking < MOST_ROWS, |rows| gaps.lacking < rows) {
            assignments.next();
            gaps.lacking += 1;
            gaps.after = assignments.total_variation();
        }
        Ok(gaps)
    }
}

/// The values of a row's attributes: observed, planned, or given as fields.
fn cell_of(row: &Map<String, Value>, recipe: &Recipe) -> Option<Map<String, Value>> {
    let meta = Meta::of(row);
    let observed = |name: &str| meta.score(name)?.choice.map(Value::from);
    let planned = |name: &str| meta.attribute(name).or_else(|| row.get(name)).cloned();
    let listed = recipe.attributes.iter().filter(|attribute| !attribute.is_continuous() && !attribute.apart);
    listed
        .map(|attribute| {
            let name = attribute.name.as_str();
            let value = observed(name).or_else(|| planned(name))?;
            let same = |known: &&Value| **known == value || value.as_str().is_some_and(|text| text_of(known) == text);
            Some((name.to_owned(), attribute.all_values().find(same)?.clone()))
        })
        .collect()
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::recipe::{Attribute, builtin};

    #[test]
    fn a_skewed_set_is_brought_to_its_target() {
        let mut recipe = builtin::recipe("instruction-response").expect("it is built in");
        recipe.attributes = vec![
            Attribute::of("level", vec![json!("easy"), json!("hard")]),
            Attribute::of("n", vec![json!(1), json!(2), json!(3)]),
        ];
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("rows.jsonl");
        let mut text = String::new();
        for index in 0..90 {
            let level = if index < 80 { "easy" } else { "hard" };
            let row = match index % 3 {
                0 => json!({"level": level, "n": 1}),
                1 => json!({"meta": {"attributes": {"level": level, "n": 2}}}),
                _ => json!({"level": "?", "meta": {"scores": {"level": {"choice": level}, "n": {"choice": "3"}}}}),
            };
            text += &format!("{row}\n");
        }
        text += "{\"level\": \"other\", \"n\": 1}\n{\"n\": 1}\n";
        std::fs::write(&path, text).expect("written");
        let gaps = Gaps::find(&path, &recipe, 1, None).expect("gaps");
        assert_eq!((gaps.rows, gaps.without), (90, 2));
        assert!(gaps.before > 0.38 && gaps.after <= CLOSE, "{gaps:?}");
        // 80 easy rows want 80 hard ones, of which 10 are there.
        assert!((62..=70).contains(&gaps.lacking), "{gaps:?}");
        let some = Gaps::find(&path, &recipe, 1, Some(10)).expect("gaps");
        assert!(some.lacking == 10 && some.after < some.before);
        recipe.held = gaps.held;
        let dealt: Vec<_> = recipe.assignments(1).expect("cells").take(gaps.lacking as usize).collect();
        assert!(dealt.iter().all(|row| row["level"] == "hard"), "{dealt:?}");
    }
}
