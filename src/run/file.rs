//! The run file: what a user asks for, as YAML; flags and `--set` change it before it becomes a plan.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::disk::{read_text, yaml};
use crate::error::{Error, Remedy, Result, nearest, setting, suggest};
use crate::filter::Filters;
use crate::recipe::{Attribute, Balance, COMPARE, DrawsOverride, Fault, Held, Quota, Recipe, Thinking, builtin};
use crate::validator::read_schema;

/// What a run is asked to be. Everything may be left out; flags of the same names win.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunFile {
    /// How many rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u32>,
    /// Seed of every draw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The run directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<PathBuf>,
    /// Name of a model, here or on the hub (owner/name:QUANT@REVISION), a GGUF file, or a manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// auto, cpu, cuda, cuda:N or metal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Sequences decoded at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<usize>,
    /// Whether the model thinks before it answers: off, on, or most tokens of a thought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking: Option<Thinking>,
    /// A chat template in place of the one in the model's files: a Jinja file, or the name of a form, as chatml or llama3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<String>,
    /// Variables that the chat template is given, as reasoning_effort.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub template_variables: Map<String, Value>,
    /// A built-in recipe, a recipe file, or a recipe in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<RecipeChoice>,
    /// A JSON Schema that every row satisfies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<PathBuf>,
    /// A folder of schemas that the schema refers to by their addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retrieve: Option<PathBuf>,
    /// Attributes that replace the recipe's of the same name; others are added before them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<Attribute>,
    /// How attributes are spread over rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balance: Option<Balance>,
    /// Parts of the rows that are fixed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quotas: Option<Vec<Quota>>,
    /// Rows that are there already, by cell; `instil generate --fill` counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Vec<Held>>,
    /// Few-shot examples in place of the recipe's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub examples: Option<Vec<Map<String, Value>>>,
    /// Changes in how tokens are drawn.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sampling: DrawsOverride,
    /// Most tokens of one text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<usize>,
    /// Most attempts at a row before it is given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u16>,
    /// Filters in place of the recipe's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filters: Option<Filters>,
}

impl RunFile {
    /// Whether anything is said that decides what stands in a row: all but how many rows there are to be, where, what
    /// makes them how many at a time, and in how much room.
    pub(crate) fn decides_rows(&self) -> bool {
        let how = Self { rows: None, output: None, device: None, batch: None, ..self.clone() };
        Self { max_tokens: None, max_attempts: None, ..how } != Self::default()
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Where the recipe comes from.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum RecipeChoice {
    /// A built-in recipe, or a file.
    Named(String),
    /// Written in place.
    Here(Box<Recipe>),
}

impl<'de> Deserialize<'de> for RecipeChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Choice;

        impl<'de> Visitor<'de> for Choice {
            type Value = RecipeChoice;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("the name of a recipe, a path, or a recipe")
            }

            fn visit_str<E>(self, name: &str) -> Result<RecipeChoice, E> {
                Ok(RecipeChoice::Named(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RecipeChoice, A::Error> {
                Recipe::deserialize(MapAccessDeserializer::new(map)).map(|recipe| RecipeChoice::Here(Box::new(recipe)))
            }
        }

        deserializer.deserialize_any(Choice)
    }
}

/// The JSON Schema of run files (draft 07), for editors that complete and check them.
pub(crate) fn schema() -> Value {
    let generator = SchemaSettings::draft07().into_generator();
    let mut schema = generator.into_root_schema_for::<RunFile>();
    schema.insert("title".to_owned(), "A run file of instil".into());
    schema.to_value()
}

/// Whether the run file at `path` can be made a plan.
///
/// # Errors
/// When it cannot be read or resolved, with the line.
pub fn check(path: &Path) -> Result<()> {
    Source::read(path)?.resolve().map(drop)
}

/// A run file with its text, so that findings can name their lines.
#[derive(Clone, Debug, Default)]
pub(crate) struct Source {
    /// What it asks for.
    pub file: RunFile,
    /// Where it came from; empty when there is none.
    pub path: PathBuf,
    text: String,
}

/// A run file brought together with its recipe.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    /// The recipe, with the file's changes in it.
    pub recipe: Recipe,
    /// The schema that every row satisfies.
    pub schema: Value,
}

impl Source {
    /// Reads a run file.
    ///
    /// # Errors
    /// [`Error::Input`] with the line, when it does not parse or has unknown keys.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = yaml::read(path)?;
        let file = if text.trim().is_empty() { RunFile::default() } else { yaml::parse(&text, path, COMPARE)? };
        Ok(Self { file, path: path.to_owned(), text })
    }

    /// Sets one scalar: `a.b=c`, where parts are keys, indices, or names of list entries.
    ///
    /// # Errors
    /// When the place does not exist or cannot hold the value.
    pub(crate) fn set(&mut self, assignment: &str) -> Result<()> {
        let fail = |what: String, remedy: Remedy| Error::usage(format!("{assignment}: {what}"), remedy);
        let Some((place, value)) = assignment.split_once('=') else {
            return Err(fail("has no `=`".into(), Remedy::from("write it as ").set(setting::SET, "a.b=c")));
        };
        let place = place.trim();
        if place.split('.').next() == Some("recipe") && place.contains('.') {
            let recipe = self.base_recipe()?;
            self.file.recipe = Some(RecipeChoice::Here(Box::new(recipe)));
        }
        let value: Value =
            serde_saphyr::from_str(value).ok().filter(|value: &Value| !value.is_null()).unwrap_or_else(|| json!(value));
        if value.is_object() {
            return Err(fail("a map is not a single value".into(), "change it in the run file".into()));
        }
        let mut tree = serde_json::to_value(&self.file).expect("a run file is plain data");
        put(&mut tree, place, value).map_err(|(what, remedy)| fail(what, remedy.into()))?;
        self.file = serde_json::from_value(tree).map_err(|cause| {
            let (what, remedy) = suggest::explain(&cause.to_string());
            fail(what, if remedy.is_empty() { COMPARE.into() } else { remedy.into() })
        })?;
        Ok(())
    }

    /// Lays another run file over this one: what it says wins.
    pub(crate) fn lay_over(&mut self, over: &RunFile) {
        let tree = |file: &RunFile| serde_json::to_value(file).expect("a run file is plain data");
        let mut under = tree(&self.file);
        lay_over(&mut under, tree(over));
        self.file = serde_json::from_value(under).expect("each part is as it was in a run file");
    }

    /// Changes the recipe, which is then no longer the one that was named.
    ///
    /// # Errors
    /// When it cannot be read, or the change fails.
    pub(crate) fn edit_recipe(&mut self, change: &dyn Fn(&mut Recipe) -> Result<()>) -> Result<()> {
        let mut recipe = self.base_recipe()?;
        change(&mut recipe)?;
        self.file.recipe = Some(RecipeChoice::Here(Box::new(recipe)));
        Ok(())
    }

    /// Brings recipe, schema and changes together, and checks the whole.
    ///
    /// # Errors
    /// With the line of this file or of the recipe's, whichever is at fault.
    pub(crate) fn resolve(&self) -> Result<Resolved> {
        let file = &self.file;
        let in_file = |fault: Fault| self.fault(fault);
        let mut recipe = self.base_recipe()?;
        self.add_attributes(&mut recipe)?;
        recipe.balance = file.balance.unwrap_or(recipe.balance);
        if let Some(quotas) = &file.quotas {
            recipe.quotas.clone_from(quotas);
            for (index, quota) in quotas.iter().enumerate() {
                quota.check(&recipe.attributes, &format!("/quotas/{index}")).map_err(in_file)?;
            }
        }
        if let Some(held) = &file.held {
            recipe.held.clone_from(held);
        }
        if let Some(examples) = &file.examples {
            recipe.examples.clone_from(examples);
        }
        recipe.sampling = recipe.sampling.with(file.sampling);
        for step in recipe.steps.iter_mut().filter(|step| !step.sampling.is_empty()) {
            step.sampling = file.sampling.or(step.sampling);
        }
        recipe.sampling.check("/sampling").map_err(in_file)?;
        if let Some(limit) = file.max_tokens {
            if limit == 0 {
                return Err(in_file(Fault::new("/max_tokens", "`max_tokens` is 0", "use 1 or more")));
            }
            recipe.steps.iter_mut().for_each(|step| step.max_tokens = limit);
        }
        recipe.max_attempts = file.max_attempts.unwrap_or(recipe.max_attempts);
        if let Some(filters) = &file.filters {
            recipe.filters = filters.clone();
        }
        if let Some(problem) = recipe.filters.problem() {
            let problem = Fault { remedy: "see `instil filter --help`".into(), ..problem };
            return Err(in_file(problem.under("/filters")));
        }
        // What the file adds is found where the file says it.
        for (index, attribute) in file.attributes.iter().enumerate() {
            recipe.check_attribute_reach(&attribute.name, &format!("/attributes/{index}")).map_err(in_file)?;
        }
        recipe.check().map_err(in_file)?;
        if file.rows == Some(0) {
            return Err(in_file(Fault::new("/rows", "`rows` is 0", "ask for 1 row or more")));
        }
        if file.batch == Some(0) {
            return Err(in_file(Fault::new("/batch", "`batch` is 0", "use 1 or more")));
        }
        let schema = self.schema(&recipe)?;
        recipe.check_shape(&schema).map_err(|fault| match &file.recipe {
            Some(RecipeChoice::Here(_)) => in_file(fault.under("/recipe")),
            Some(RecipeChoice::Named(name)) => fault.into_usage(&format!("the recipe {name}")),
            None => fault.into_usage(&format!("the recipe {}", recipe.name)),
        })?;
        Ok(Resolved { recipe, schema })
    }

    /// `cause`, with the line of the file where `value` stands at `pointer`; as it is when a flag gave the value, or
    /// when it names a line of another file already.
    pub(crate) fn at(&self, pointer: &str, value: &str, cause: Error) -> Error {
        let line = yaml::line_of(&self.text, pointer);
        let written = line.and_then(|line| self.text.lines().nth(line.saturating_sub(1) as usize));
        let name = value.rsplit(std::path::MAIN_SEPARATOR).next().unwrap_or(value);
        match (line, written, &cause) {
            (Some(line), Some(written), Error::Usage { .. } | Error::Model { .. } | Error::Io { .. })
                if written.contains(name) =>
            {
                Error::input(&self.path, format!("line {line}: {pointer}: {cause}"), "")
            }
            _ => cause,
        }
    }

    /// A fault of what the file, or flags where there is none, says.
    fn fault(&self, fault: Fault) -> Error {
        if self.path.as_os_str().is_empty() {
            return fault.into_usage("the run");
        }
        fault.in_file(&self.path, &self.text)
    }

    /// Puts the file's attributes into `recipe`: in place of those of their names, others before all.
    fn add_attributes(&self, recipe: &mut Recipe) -> Result<()> {
        let mut attributes = self.file.attributes.clone();
        for attribute in &mut attributes {
            attribute.resolve(self.folder())?;
        }
        for (index, attribute) in attributes.iter().enumerate() {
            let fault = attribute.check(&attributes[..index], &format!("/attributes/{index}"));
            fault.map_err(|fault| self.fault(fault))?;
        }
        let mut added = Vec::new();
        for attribute in attributes {
            match recipe.attributes.iter_mut().find(|other| other.name == attribute.name) {
                Some(other) => *other = attribute,
                None => added.push(attribute),
            }
        }
        recipe.attributes.splice(0..0, added);
        Ok(())
    }

    /// Where paths in it begin.
    pub(crate) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    fn base_recipe(&self) -> Result<Recipe> {
        match &self.file.recipe {
            None if self.file.schema.is_some() => builtin::recipe("json-row"),
            None => builtin::recipe("instruction-response"),
            Some(RecipeChoice::Here(recipe)) => {
                let mut recipe = (**recipe).clone();
                recipe.resolve(self.folder())?;
                // Its prompts may read what the file adds.
                let mut whole = recipe.clone();
                self.add_attributes(&mut whole)?;
                whole.check().map_err(|fault| {
                    if self.path.as_os_str().is_empty() {
                        return fault.into_usage("the recipe");
                    }
                    fault.under("/recipe").in_file(&self.path, &self.text)
                })?;
                Ok(recipe)
            }
            Some(RecipeChoice::Named(name)) => {
                let path = self.folder().join(name);
                let is_path = path.exists() || Path::new(name).extension().is_some();
                let found = if is_path { Recipe::read(&path) } else { builtin::recipe(name) };
                found.map_err(|cause| self.at("/recipe", name, cause))
            }
        }
    }

    fn schema(&self, recipe: &Recipe) -> Result<Value> {
        let Some(path) = &self.file.schema else {
            return Ok(serde_json::from_str(builtin::grammar(&recipe.schema)?).expect("bundled grammars are JSON"));
        };
        let path = self.folder().join(path);
        let text = read_text(&path).map_err(|cause| self.at("/schema", &path.to_string_lossy(), cause))?;
        let others = self.file.retrieve.as_ref().map(|folder| self.folder().join(folder));
        read_schema(&text, &path, others.as_deref())
    }
}

/// Lays one tree over another: maps are merged, attributes take the place of those of their names, and all else that
/// `over` has is taken from it.
fn lay_over(under: &mut Value, over: Value) {
    let (Value::Object(under), Value::Object(over)) = (&mut *under, &over) else {
        *under = over;
        return;
    };
    for (key, value) in over {
        match (under.get_mut(key), value) {
            (Some(Value::Array(under)), Value::Array(over)) if key == "attributes" => {
                for attribute in over {
                    match under.iter_mut().find(|other| other["name"] == attribute["name"]) {
                        Some(other) => other.clone_from(attribute),
                        None => under.push(attribute.clone()),
                    }
                }
            }
            (Some(under), value) => lay_over(under, value.clone()),
            (None, value) => {
                under.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Puts `value` at `place`; on failure says (what, remedy).
fn put(tree: &mut Value, place: &str, value: Value) -> Result<(), (String, String)> {
    let mut at = tree;
    let parts: Vec<&str> = place.split('.').collect();
    for (depth, part) in parts.iter().enumerate() {
        let is_last = depth + 1 == parts.len();
        at = match at {
            Value::Object(map) if is_last => {
                map.insert((*part).to_owned(), value);
                return Ok(());
            }
            Value::Object(map) => map.entry(*part).or_insert_with(|| json!({})),
            Value::Array(list) => {
                let names: Vec<String> = list.iter().map(name_of).collect();
                let index = part.parse().ok().or_else(|| names.iter().position(|name| name == part));
                let Some(entry) = index.and_then(|index: usize| list.get_mut(index)) else {
                    let remedy = match nearest(part, names.iter().map(String::as_str)) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("use an index below {}, or one of: {}", names.len(), names.join(", ")),
                    };
                    return Err((format!("there is no `{part}` in the list"), remedy));
                };
                if is_last {
                    *entry = value;
                    return Ok(());
                }
                entry
            }
            _ => return Err((format!("`{part}` is below a single value"), "shorten the place".into())),
        };
    }
    Ok(())
}

/// What an entry of a list is called.
fn name_of(entry: &Value) -> String {
    let name = entry.get("name").or_else(|| entry.get("field")).unwrap_or(entry);
    name.as_str().map_or_else(|| name.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Result<Source> {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("run.yaml");
        std::fs::write(&path, text).expect("written");
        Source::read(&path)
    }

    #[test]
    fn a_run_file_changes_its_recipe() {
        let text = "rows: 5\nattributes:\n  - name: topic\n    values: [bees]\n  - name: place\n    values: [here, there]\n    only_planned: true\n\
                    sampling: {top_k: 7}\nmax_tokens: 99\nmax_attempts: 2\n";
        let recipe = source(text).expect("it parses").resolve().expect("it resolves").recipe;
        let names: Vec<&str> = recipe.attributes.iter().map(|attribute| attribute.name.as_str()).collect();
        assert_eq!(names, ["place", "topic", "opening", "level", "tone", "length"]);
        assert_eq!(recipe.attributes[1].values, [json!("bees")]);
        assert_eq!((recipe.sampling.top_k, recipe.sampling.temperature), (7, 0.7));
        assert!(recipe.steps.iter().all(|step| step.max_tokens == 99));
        assert_eq!(recipe.max_attempts, 2);
        let empty = source("").expect("it parses").resolve().expect("it resolves").recipe;
        assert_eq!(empty, builtin::recipe("instruction-response").expect("it is built in"));
    }

    #[test]
    fn a_run_file_laid_over_another_wins_where_it_says_something() {
        let under = "rows: 5\nseed: 3\nattributes:\n  - {name: place, values: [here]}\n  - {name: topic, values: [bees]}\n\
                     sampling: {top_k: 7, top_p: 0.9}\nexamples: [{name: a}]\n";
        let mut laid = source(under).expect("it parses");
        laid.lay_over(&RunFile::default());
        assert_eq!(laid.file, source(under).expect("it parses").file);
        let over = source(
            "seed: 4\nattributes: [{name: topic, values: [tides]}, {name: age, values: [1]}]\n\
             sampling: {top_p: 0.25, temperature: 0}\nexamples: [{name: b}]\nrecipe: judge\n",
        );
        laid.lay_over(&over.expect("it parses").file);
        let expected = source(
            "rows: 5\nseed: 4\nattributes:\n  - {name: place, values: [here]}\n  - {name: topic, values: [tides]}\n  \
             - {name: age, values: [1]}\nsampling: {top_k: 7, top_p: 0.25, temperature: 0}\nexamples: [{name: b}]\n\
             recipe: judge\n",
        );
        assert_eq!(laid.file, expected.expect("it parses").file);
    }

    #[test]
    fn all_but_how_many_and_where_decides_what_rows_say() {
        for text in ["rows: 5\n", "output: run\ndevice: cpu\nbatch: 4\n", "max_attempts: 3\nmax_tokens: 9\n"] {
            assert!(!source(text).expect("it parses").file.decides_rows(), "{text}");
        }
        for text in ["seed: 0\n", "model: m\n", "sampling: {top_k: 0}\n", "filters: {}\n"] {
            assert!(source(text).expect("it parses").file.decides_rows(), "{text}");
        }
    }

    #[test]
    fn any_scalar_can_be_set() {
        let mut source = source("rows: 5\n").expect("it parses");
        for assignment in [
            "rows=7",
            "sampling.temperature=0",
            "recipe.steps.response.max_tokens=33",
            "recipe.attributes.topic.values.0=bees",
            "model=some model",
        ] {
            source.set(assignment).expect(assignment);
        }
        assert_eq!((source.file.rows, source.file.model.as_deref()), (Some(7), Some("some model")));
        let recipe = source.resolve().expect("it resolves").recipe;
        assert_eq!((recipe.sampling.temperature, recipe.steps[1].max_tokens), (0.0, 33));
        assert_eq!(recipe.attributes[0].values[0], json!("bees"));
        for (assignment, told) in [
            ("rwos=1", "did you mean `rows`?"),
            ("rows", "has no `=`"),
            ("rows=many", "rows=many: "),
            ("recipe.steps.respnse.max_tokens=3", "did you mean `response`?"),
            ("rows.x=1", "below a single value"),
        ] {
            let error = source.clone().set(assignment).expect_err(assignment).to_string();
            assert!(error.contains(told) && !error.contains('\n'), "{error}");
        }
    }
}
