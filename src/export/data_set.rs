//! A whole data set: rows of a run or of any file into a directory, in a form, split, with a card.
//!
//! The rows are gone through twice: once for the columns and the split, once to write. Memory is that of a
//! row group, and of the groups' hashes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Map, Value};

use super::card::card;
use super::folder::{CARD, FACTORY, Folder, factory, signed};
use super::form::{Form, lost, row};
use super::read::{Found, Options, read};
use super::split::Split;
use super::table::Columns;
use super::write::{Container, Writer};
use super::{Example, Role};
use crate::disk::write_whole;
use crate::error::{Error, Remedy, Result, setting};
use crate::filter::text::text;
use crate::measure::{Sources, measure};

/// What to export, and how.
#[derive(Clone, Debug)]
pub struct Task {
    /// A run directory, or a file of rows in any form.
    pub input: PathBuf,
    /// The directory that gets the files.
    pub output: PathBuf,
    /// Form of the rows.
    pub form: Form,
    /// Container.
    pub container: Container,
    /// How to part the rows.
    pub split: Option<Split>,
    /// Fields that are kept beside those of the form.
    pub keep: Vec<String>,
    /// How to read.
    pub options: Options,
    /// Name of the data set, for its card.
    pub name: String,
    /// Licence of the data set, for its card.
    pub licence: Option<String>,
    /// Language of the data set, for its card.
    pub language: Option<String>,
    /// Cells of CSV that a spreadsheet would run get a quote before them.
    pub csv_safe: bool,
    /// Files that no export wrote, and the input itself, may be replaced.
    pub force: bool,
}

/// What was exported.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Exported {
    /// Rows for training.
    pub train: u64,
    /// Rows for testing.
    pub test: u64,
    /// Files of rows that were written.
    pub files: Vec<String>,
    /// Rows that the form cannot say.
    pub left_out: u64,
    /// The first of them: line, and why.
    pub first_left_out: Option<(u64, Remedy)>,
    /// Files of an earlier export into this directory that were removed.
    pub removed: Vec<String>,
    /// Cells of CSV that a spreadsheet would run as formulas.
    pub formulas: u64,
    /// What was found in the input.
    pub found: Found,
}

/// Exports a data set.
///
/// # Errors
/// When the input cannot be read, no row can take the form, a side of the split would be empty, a file that no export
/// wrote stands in the way, or the directory cannot be written. The files appear only when all of them are whole.
pub fn export(task: &Task) -> Result<Exported> {
    let sources = Sources::of(&task.input)?;
    let folder = Folder::open(&task.output);
    let extension = match task.container {
        Container::Jsonl => "jsonl",
        Container::Csv => "csv",
        Container::Parquet => "parquet",
    };
    let sides: &[&str] = if task.split.is_some() { &["train", "test"] } else { &["train"] };
    let files: Vec<String> = sides.iter().map(|side| format!("{side}.{extension}")).collect();
    let check_folder = |beside: &[&str]| {
        // The card first: it says what else may be replaced.
        let all: Vec<String> = beside.iter().map(|file| (*file).to_owned()).chain(files.iter().cloned()).collect();
        if task.force { Ok(all) } else { folder.check(&all, &sources.records).map(|()| all) }
    };
    check_folder(&[CARD])?;
    let (mut columns, mut exported) = (Columns::default(), Exported { files: files.clone(), ..Exported::default() });
    let mut groups: BTreeMap<u64, u64> = BTreeMap::new();
    let mut unused = Found::default();
    exported.found = read(&sources.records, &task.options, &mut |example| {
        match shaped(&example, task) {
            Ok(row) => {
                columns.meet(&row);
                unused.add_unused(lost(&example, task.form).into_iter().filter(|name| !task.keep.contains(name)));
                *groups.entry(group(&example, task)).or_default() += 1;
            }
            Err(why) => {
                exported.left_out += 1;
                exported.first_left_out.get_or_insert((example.line, why));
            }
        }
        Ok(())
    })?;
    exported.found.unused = unused.unused;
    let for_testing = task.split.as_ref().map_or_else(BTreeSet::new, |split| split.for_testing(&groups));
    exported.test = for_testing.iter().map(|place| groups[place]).sum();
    exported.train = groups.values().sum::<u64>() - exported.test;
    check(task, &exported, groups.len())?;
    let about = factory(&task.name, task.form, task.container, &columns, &files);
    let written = check_folder(if about.is_some() { &[CARD, FACTORY] } else { &[CARD] })?;
    std::fs::create_dir_all(&task.output).map_err(|cause| Error::io("create", &task.output, cause))?;
    let writer = |file: &String| Writer::create(&task.output.join(file), task.container, &columns, task.csv_safe);
    let mut writers: Vec<Writer> = files.iter().map(writer).collect::<Result<_>>()?;
    read(&sources.records, &task.options, &mut |example| match shaped(&example, task) {
        Ok(row) => writers[usize::from(for_testing.contains(&group(&example, task)))].add(row),
        Err(_) => Ok(()),
    })?;
    let report = measure(&sources, &[], 0, None, &mut |_, _| {})?;
    let plan = sources.plan()?;
    let card = signed(&card(task, &exported, &report, plan.as_ref()), &written);
    exported.formulas = writers.iter().map(|writer| writer.formulas).sum();
    writers.into_iter().try_for_each(Writer::finish)?;
    if let Some(about) = about {
        let text = serde_json::to_string_pretty(&about).expect("plain data") + "\n";
        write_whole(&task.output.join(FACTORY), text.as_bytes())?;
    }
    write_whole(&task.output.join(CARD), card.as_bytes())?;
    exported.removed = folder.remove_stale(&written)?;
    Ok(exported)
}

fn check(task: &Task, exported: &Exported, groups: usize) -> Result<()> {
    if exported.train + exported.test == 0 {
        let (line, why) = exported.first_left_out.clone().unwrap_or_default();
        let what = format!("no row can take the form {}", task.form.name());
        let remedy = Remedy::from(format!("line {line}: ")).then(why).and("; choose another ").name(setting::FORMAT);
        return Err(Error::input(&task.input, what, remedy));
    }
    if let Some(split) = &task.split
        && groups < 2
    {
        let what =
            format!("all rows are one group by {}, which cannot be split", split.by.as_deref().unwrap_or("prompt"));
        let remedy = Remedy::from("leave out ").name(setting::SPLIT);
        return Err(Error::usage(
            what,
            remedy.and(", or use a ").name(setting::SPLIT_BY).and(" field with more values"),
        ));
    }
    Ok(())
}

/// The row in its form, with the fields that are kept beside.
fn shaped(example: &Example, task: &Task) -> Result<Map<String, Value>, Remedy> {
    let mut shaped = row(example, task.form)?;
    for name in &task.keep {
        let pointer = format!("/{}", name.replace('.', "/"));
        let value = example.fields.get(name).cloned();
        let value = value.or_else(|| Value::Object(example.fields.clone()).pointer(&pointer).cloned());
        shaped.insert(name.replace('.', "_"), value.unwrap_or(Value::Null));
    }
    Ok(shaped)
}

/// The place of the row's group.
fn group(example: &Example, task: &Task) -> u64 {
    let Some(split) = &task.split else { return 0 };
    let group = match &split.by {
        Some(field) => match text(&example.fields, field) {
            // Numbers, lists and objects name groups too.
            text if text.is_empty() => {
                let pointer = format!("/{}", field.replace('.', "/"));
                let fields = Value::Object(example.fields.clone());
                fields.pointer(&pointer).map(Value::to_string).unwrap_or_default()
            }
            text => text.into_owned(),
        },
        // Rows that share a system message alone are not of one group.
        None => example.turns.iter().find(|turn| turn.role == Role::User).or(example.turns.first()).map_or_else(
            || Value::Object(example.fields.clone()).to_string(),
            |turn| crate::filter::words(&turn.text).join(" "),
        ),
    };
    split.place(&group)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plan::Plan;
    use crate::recipe::Attribute;
    use crate::row::RunFiles;

    fn task(folder: &std::path::Path, form: Form, file_type: Container) -> Task {
        Task {
            input: folder.to_owned(),
            output: folder.join("out"),
            form,
            container: file_type,
            split: None,
            keep: Vec::new(),
            options: Options::default(),
            name: "Small rows".into(),
            licence: Some("cc0-1.0".into()),
            language: Some("en".into()),
            csv_safe: false,
            force: false,
        }
    }

    fn run_directory(rows: usize) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let line = |row: usize| {
            let topic = ["bread", "tides", "chess"][row % 3];
            let row = json!({"id": format!("0-{row:06}"), "instruction": format!("Ask {}?", row / 2), "response": format!("Say {row}."),
                "meta": {"row": row, "attributes": {"topic": topic}, "steps": []}});
            format!("{row}\n")
        };
        let mut plan = Plan::sample(rows as u32);
        (plan.model.name, plan.model.licence) = ("m|x".into(), Some("Apache-2.0".into()));
        plan.recipe.attributes =
            vec![Attribute::of("topic", ["bread", "tides", "chess", "dogs"].map(Value::from).to_vec())];
        plan.recipe.filters =
            serde_json::from_value(json!({"loops": ["response"], "echo": null, "closed_by_budget": true}))
                .expect("filters");
        std::fs::write(RunFiles::of(folder.path()).records, (0..rows).map(line).collect::<String>()).expect("written");
        std::fs::write(RunFiles::of(folder.path()).plan, json!(plan).to_string()).expect("written");
        folder
    }

    #[test]
    fn a_run_becomes_files_with_a_card() {
        let folder = run_directory(60);
        let split = Split { share: 0.2, by: None, seed: 1 };
        let task = Task {
            split: Some(split),
            keep: vec!["meta.attributes.topic".into()],
            ..task(folder.path(), Form::Alpaca, Container::Jsonl)
        };
        let exported = export(&task).expect("exported");
        assert_eq!(
            (exported.train + exported.test, exported.files.clone()),
            (60, vec!["train.jsonl".to_owned(), "test.jsonl".into()])
        );
        let read = |name: &str| std::fs::read_to_string(folder.path().join("out").join(name)).expect("read");
        let rows = |name: &str| -> Vec<Value> {
            read(name).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
        };
        let (train, test) = (rows("train.jsonl"), rows("test.jsonl"));
        assert_eq!(
            train[0].as_object().expect("an object").keys().collect::<Vec<_>>(),
            ["instruction", "input", "output", "meta_attributes_topic"]
        );
        // Two rows ask each question; they stay together.
        for row in &test {
            assert!(train.iter().all(|other| other["instruction"] != row["instruction"]));
        }
        let card = read("README.md");
        for part in [
            "---\npretty_name: \"Small rows\"\nlicense: \"cc0-1.0\"\nlanguage:\n- \"en\"\n",
            "size_categories:\n- n<1K\n",
            "  - split: train\n    path: train.jsonl\n  - split: test\n    path: test.jsonl\n---\n",
            "- model: m\\|x\n- licence of the model: Apache-2.0\n",
            "- filters: loops, closed_by_budget\n",
            "| bread | 20.0 | 20 | 20 |\n",
            "- topic: no row for 1 of the values (dogs).\n",
        ] {
            assert!(card.contains(part), "{part:?} is not in:\n{card}");
        }
    }

    #[test]
    fn groups_stay_on_one_side_and_no_side_is_empty() {
        let folder = run_directory(30);
        let by = |field: &str, seed| Task {
            split: Some(Split { share: 0.3, by: Some(field.into()), seed }),
            ..task(folder.path(), Form::Plain, Container::Jsonl)
        };
        for seed in 0..12 {
            let exported = export(&by("meta.attributes.topic", seed)).expect("exported");
            assert_eq!((exported.train, exported.test), (20, 10));
        }
        let error = export(&by("meta.steps", 0)).expect_err("one group").to_string();
        assert!(error.contains("all rows are one group by meta.steps"), "{error}");
    }

    #[test]
    fn nothing_is_replaced_that_no_export_wrote() {
        let folder = run_directory(30);
        let split = Some(Split { share: 0.2, by: None, seed: 1 });
        let plain = task(folder.path(), Form::Alpaca, Container::Jsonl);
        let out = |name: &str| folder.path().join("out").join(name);
        let told = |task: &Task| export(task).expect_err("refused").to_string();
        std::fs::create_dir(folder.path().join("out")).expect("made");
        for (name, content) in [("README.md", "# My project\n"), ("train.jsonl", "{}\n"), ("dataset_info.json", "{}")] {
            std::fs::write(out(name), content).expect("written");
            let error = told(&plain);
            assert!(error.contains(name) && error.contains("not written by an"), "{error}");
            assert_eq!(std::fs::read_to_string(out(name)).expect("read"), content);
            std::fs::remove_file(out(name)).expect("removed");
        }
        // What an export wrote is replaced by the next, and none of its files is left over.
        assert_eq!(export(&Task { split, ..plain.clone() }).expect("exported").removed, Vec::<String>::new());
        assert!(out("test.jsonl").exists());
        assert_eq!(export(&plain).expect("exported").removed, ["test.jsonl"]);
        assert!(!out("test.jsonl").exists());
        // Unless somebody edited the card.
        let card = std::fs::read_to_string(out("README.md")).expect("read");
        std::fs::write(out("README.md"), card.replace("Small rows", "My rows")).expect("written");
        assert!(told(&plain).contains("README.md"));
        export(&Task { force: true, ..plain.clone() }).expect("insisted");
        // Nor is the input.
        let own = Task { input: out("train.jsonl"), ..plain };
        assert!(told(&own).contains("is the input"));
        assert!(told(&Task { input: folder.path().join("out"), ..own }).contains("lie in this directory"));
    }

    #[test]
    fn cells_that_a_spreadsheet_would_run_are_counted_or_quoted() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let input = folder.path().join("a.jsonl");
        std::fs::write(&input, "{\"q\": \"=1+1\", \"n\": -1}\n{\"q\": \"a = b\", \"n\": 2}\n").expect("written");
        let task = Task { input, force: true, ..task(folder.path(), Form::Plain, Container::Csv) };
        let text = || std::fs::read_to_string(folder.path().join("out/train.csv")).expect("read");
        assert_eq!(export(&task).expect("exported").formulas, 1);
        assert_eq!(text(), "q,n\n=1+1,-1\na = b,2\n");
        assert_eq!(export(&Task { csv_safe: true, ..task }).expect("exported").formulas, 1);
        assert_eq!(text(), "q,n\n'=1+1,-1\na = b,2\n");
    }

    #[test]
    fn every_container_is_read_back() {
        let folder = run_directory(10);
        for (form, file_type, name) in [
            (Form::Messages, Container::Parquet, "train.parquet"),
            (Form::Sharegpt, Container::Jsonl, "train.jsonl"),
            (Form::Messages, Container::Csv, "train.csv"),
            (Form::PromptCompletion, Container::Parquet, "train.parquet"),
        ] {
            export(&task(folder.path(), form, file_type)).expect("exported");
            let mut answers = Vec::new();
            let options = Options { strict: true, ..Options::default() };
            let found = read(&folder.path().join("out").join(name), &options, &mut |example| {
                answers.push(example.exchange().expect("one exchange").1.to_owned());
                Ok(())
            });
            assert_eq!(found.expect("read").forms.keys().collect::<Vec<_>>(), [&form]);
            assert_eq!((answers.len(), answers[3].as_str()), (10, "Say 3."));
        }
    }

    #[test]
    fn preferences_are_read_back_from_every_container() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let input = folder.path().join("a.jsonl");
        let line = |row: usize| {
            let (ask, no) = (format!("Ask {row}?"), format!("No {row}."));
            json!({"instruction": ask, "response": "Yes.", "rejected": no}).to_string() + "\n"
        };
        std::fs::write(&input, (0..5).map(line).collect::<String>()).expect("written");
        for form in [Form::Preference, Form::PreferenceMessages] {
            for (file_type, name) in [
                (Container::Jsonl, "train.jsonl"),
                (Container::Csv, "train.csv"),
                (Container::Parquet, "train.parquet"),
            ] {
                let task = Task { input: input.clone(), ..task(folder.path(), form, file_type) };
                assert_eq!(
                    export(&task).expect("exported").found.forms.keys().collect::<Vec<_>>(),
                    [&Form::Preference]
                );
                let options = Options { strict: true, ..Options::default() };
                let mut plain = Vec::new();
                let found = read(&task.output.join(name), &options, &mut |example| {
                    assert_eq!(example.exchange().map(|(_, answer)| answer), Some("Yes."));
                    plain.push(row(&example, Form::Preference).expect("a preference"));
                    Ok(())
                });
                assert_eq!(found.expect("read").forms.keys().collect::<Vec<_>>(), [&form], "{file_type:?}");
                assert_eq!((plain.len(), &plain[3]["rejected"]), (5, &json!("No 3.")), "{form:?} {file_type:?}");
            }
        }
    }

    #[test]
    fn rows_that_a_form_cannot_say_are_counted_or_refused() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("a.jsonl");
        let long = json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]});
        let short = json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]});
        std::fs::write(&path, format!("{long}\n{short}\n")).expect("written");
        let task = Task {
            input: path.clone(),
            output: folder.path().join("out"),
            ..task(folder.path(), Form::Alpaca, Container::Jsonl)
        };
        let exported = export(&task).expect("exported");
        assert_eq!((exported.train, exported.left_out, exported.first_left_out.map(|(line, _)| line)), (1, 1, Some(1)));
        std::fs::write(&path, format!("{long}\n")).expect("written");
        let error = export(&task).expect_err("refused").to_string();
        assert!(error.contains("no row can take the form alpaca; line 1: it is more than one prompt"), "{error}");
    }
}
