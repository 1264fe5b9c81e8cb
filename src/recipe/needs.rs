//! Attributes of rows that are made from rows, where a value needs something of what the row is made from.
//!
//! An operator that works on tasks without data is of no use to a task that has some: dealing it out all the same would
//! cost every attempt at the row. So rows are dealt what applies to them. Rows of one round to which the same values
//! apply are a group, and each group is dealt as if it were a run of its own, with the other values' weights at 0: within
//! it the rest keep their proportions. A row's values depend on lower rows of its round alone, and on what these are
//! made from.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Map, Value};

use super::assign::Assignments;
use super::attributes::Attribute;
use super::label::plain;
use super::prompt::Templates;
use super::{Fault, Recipe};
use crate::error::{Result, nearest};

/// Deals attributes to rows in ascending order.
pub(crate) struct Dealer<'a> {
    recipe: &'a Recipe,
    seed: u64,
    templates: Templates,
    /// By round, and what does not apply: places of attributes and their values.
    groups: HashMap<(u32, Vec<(usize, usize)>), Assignments<'a>>,
}

impl<'a> Dealer<'a> {
    /// A dealer for the rows of `recipe`; none where no value needs anything.
    pub(crate) fn new(recipe: &'a Recipe, seed: u64) -> Option<Self> {
        let needs = recipe.attributes.iter().any(|attribute| !attribute.needs.is_empty());
        needs.then(|| Self { recipe, seed, templates: Templates::default(), groups: HashMap::new() })
    }

    /// The attributes of `row`, a row of `round`, made from the `seed` and `parent` in `values`. `None` when no value of
    /// an attribute applies to it.
    ///
    /// # Errors
    /// When an expression fails, or what is left cannot be dealt out.
    pub(crate) fn deal(
        &mut self,
        row: u32,
        round: u32,
        values: &Map<String, Value>,
    ) -> Result<Option<Map<String, Value>>> {
        let recipe = self.recipe;
        let mut lacking = Vec::new();
        for (at, attribute) in recipe.attributes.iter().enumerate().filter(|(_, a)| !a.needs.is_empty()) {
            let mut left = false;
            for (place, value) in attribute.values.iter().enumerate() {
                let name = plain(value);
                let met = match attribute.needs.get(&name) {
                    Some(need) => {
                        let where_ = format!("recipe {}, attribute {}, needs of {name}", recipe.name, attribute.name);
                        self.templates.holds(need, values, &where_)?
                    }
                    None => true,
                };
                left |= met && attribute.weights.get(place).is_none_or(|weight| *weight > 0.0);
                if !met {
                    lacking.push((at, place));
                }
            }
            if !left {
                return Ok(None);
            }
        }
        let group = match self.groups.entry((round, lacking)) {
            std::collections::hash_map::Entry::Occupied(group) => group.into_mut(),
            std::collections::hash_map::Entry::Vacant(new) => {
                let attributes = without(&recipe.attributes, &new.key().1);
                let dealt = Assignments::new(attributes, &recipe.quotas, recipe.balance, self.seed);
                new.insert(dealt.map_err(|fault| fault.into_usage(&recipe.name))?)
            }
        };
        Ok(Some(group.deal(row)))
    }
}

/// The attributes with the weights of the values `lacking` at 0.
fn without(attributes: &[Attribute], lacking: &[(usize, usize)]) -> Vec<Attribute> {
    let mut attributes = attributes.to_vec();
    for &(at, place) in lacking {
        let attribute = &mut attributes[at];
        attribute.weights.resize(attribute.values.len(), 1.0);
        attribute.weights[place] = 0.0;
    }
    attributes
}

impl Recipe {
    /// Finds needs that can never be told.
    ///
    /// # Errors
    /// The first fault, with the pointer to it.
    pub(super) fn check_needs(&self) -> Result<(), Fault> {
        let templates = Templates::default();
        for (index, attribute) in self.attributes.iter().enumerate() {
            let names: Vec<String> = attribute.values.iter().map(plain).collect();
            for (value, need) in &attribute.needs {
                let at = format!("/attributes/{index}/needs/{value}");
                if self.seeds.is_none() {
                    let what = "rows that are made from nothing meet no need";
                    return Err(Fault::new(at, what, "add a `seeds:` key, or leave `needs` out"));
                }
                if !names.contains(value) {
                    let remedy = match nearest(value, names.iter().map(String::as_str)) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("use one of: {}", names.join(", ")),
                    };
                    return Err(Fault::new(at, format!("`{value}` is no value of `{}`", attribute.name), remedy));
                }
                let known = BTreeSet::from(["seed", "parent"]);
                templates.check_expression(need, &known).map_err(|(what, remedy)| Fault::new(at, what, remedy))?;
            }
            let fixes = |is: &Map<String, Value>| is.contains_key(&attribute.name) && !attribute.needs.is_empty();
            if let Some(quota) = self.quotas.iter().position(|quota| fixes(&quota.is)) {
                let what = format!("how many rows get a value of `{}` depends on their seeds", attribute.name);
                return Err(Fault::new(format!("/quotas/{quota}"), what, "use `weights`, or leave `needs` out"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::builtin;
    use super::*;

    fn recipe() -> Recipe {
        let mut recipe = builtin::recipe("evolve").expect("it is built in");
        let mut operator = Attribute::of("operator", vec![json!("add"), json!("widen"), json!("data")]);
        operator.weights = vec![2.0, 1.0, 3.0];
        operator.needs = [("data".to_owned(), "not parent.input".to_owned())].into();
        recipe.attributes = vec![operator];
        recipe
    }

    fn row(input: &str) -> Map<String, Value> {
        let texts = json!({"instruction": "Add them.", "input": input, "response": ""});
        json!({"seed": texts, "parent": texts}).as_object().cloned().expect("an object")
    }

    #[test]
    fn rows_get_what_applies_to_them_in_the_proportion_of_the_weights() {
        let recipe = recipe();
        let mut dealer = Dealer::new(&recipe, 3).expect("a value needs something");
        let mut counts: HashMap<(bool, String), u32> = HashMap::new();
        for at in 0..120 {
            let has_data = at % 5 < 3;
            let dealt = dealer.deal(at, 0, &row(if has_data { "1, 2" } else { "" })).expect("dealt").expect("some");
            *counts.entry((has_data, plain(&dealt["operator"]))).or_default() += 1;
        }
        let count = |has_data: bool, operator: &str| counts.get(&(has_data, operator.to_owned())).copied();
        assert_eq!([count(true, "add"), count(true, "widen"), count(true, "data")], [Some(48), Some(24), None]);
        assert_eq!([count(false, "add"), count(false, "widen"), count(false, "data")], [Some(16), Some(8), Some(24)]);
        // Another round is dealt as if there were no other.
        let alone = Dealer::new(&recipe, 3).expect("as before").deal(500, 4, &row("")).expect("dealt");
        assert_eq!(dealer.deal(500, 4, &row("")).expect("dealt"), alone);
    }

    #[test]
    fn a_row_that_nothing_applies_to_gets_nothing() {
        let mut recipe = recipe();
        recipe.attributes[0].weights = vec![0.0, 0.0, 1.0];
        let mut dealer = Dealer::new(&recipe, 3).expect("a value needs something");
        assert_eq!(dealer.deal(0, 0, &row("1")).expect("dealt"), None);
        assert_eq!(dealer.deal(1, 0, &row("")).expect("dealt").expect("some")["operator"], "data");
        recipe.attributes[0].needs.clear();
        assert!(Dealer::new(&recipe, 3).is_none());
    }

    #[test]
    fn needs_that_cannot_be_told_are_refused() {
        let fault = |change: &dyn Fn(&mut Recipe)| {
            let mut recipe = recipe();
            change(&mut recipe);
            let fault = recipe.check_needs().expect_err("refused");
            format!("{}: {}; {}", fault.at, fault.what, fault.remedy)
        };
        let needs = |value: &str, need: &str| {
            let (value, need) = (value.to_owned(), need.to_owned());
            fault(&move |recipe| recipe.attributes[0].needs = [(value.clone(), need.clone())].into())
        };
        assert!(needs("dtaa", "true").contains("/attributes/0/needs/dtaa: `dtaa` is no value of `operator`"));
        assert!(needs("dtaa", "true").contains("did you mean `data`?"));
        assert!(needs("data", "not parnt.input").contains("did you mean `parent`?"));
        assert!(needs("data", "not (").contains("does not parse"));
        assert!(fault(&|recipe| recipe.seeds = None).contains("add a `seeds:` key"));
        let quota = json!({"is": {"operator": "add"}, "share": 0.5});
        let told = fault(&|recipe| recipe.quotas = vec![serde_json::from_value(quota.clone()).expect("a quota")]);
        assert!(told.starts_with("/quotas/0"), "{told}");
    }
}
