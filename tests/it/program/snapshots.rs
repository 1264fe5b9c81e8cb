//! What people see, word for word: help, reports, a validated plan, a data set's card.
//!
//! The texts stand in `tests/snapshots`. After a change that is meant: `INSTA_UPDATE=always cargo test snapshots`, and
//! look at the difference.

use super::{Place, combine, fixture};

/// The commands of the program, as its help lists them.
fn commands(place: &Place) -> Vec<String> {
    let help = place.run(&["--help"]).succeeded().stdout;
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // A description that goes on in the next line stands further in.
    let named = listed.filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' '));
    let names: Vec<String> = named.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect();
    names.into_iter().filter(|name| name != "help").collect()
}

/// Compares with the text that is kept.
fn keep(name: &str, text: &str) {
    let mut settings = insta::Settings::new();
    settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

#[test]
fn every_help_is_as_it_was_read_last() {
    let place = Place::new();
    keep("help", &place.run(&["--help"]).succeeded().stdout);
    let commands = commands(&place);
    assert!(commands.len() > 15, "{commands:?}");
    for command in commands {
        keep(&format!("help-{command}"), &place.run(&[&command, "--help"]).succeeded().stdout);
    }
}

#[test]
fn a_plan_a_report_and_a_card_are_as_they_were_read_last() {
    let place = Place::new();
    let subjects: &[&str] = &[" bakers", " farmers", " students", " sailors"];
    let instructions = combine(&[
        &[" Explain how"],
        subjects,
        &[" plan", " share"],
        &[" busy mornings", " tools"],
        &[" every day.\n"],
    ]);
    let answers = ["The work starts early and needs patience. Good notes help to see what changed.".to_owned()];
    place.model("model.toml", 0, &[("Instruction:", instructions), ("assistant: ", answers.to_vec())]);
    let recipe = fixture("recipe.yaml");
    let of_recipe = ["--model", "model.toml", "--recipe", &recipe, "--seed", "3", "-n", "12"];
    keep("validate", &place.run(&[&["validate"], of_recipe.as_slice()].concat()).succeeded().stdout);
    place.run(&[&["generate", "-o", "run", "--quiet"], of_recipe.as_slice()].concat()).succeeded();
    let report = place.run(&["report", "run"]).succeeded().stdout;
    // The last session by the clock is no part of the plan.
    let lasting: Vec<&str> =
        report.lines().filter(|line| !line.contains("tokens/s") && !line.contains(" rows/")).collect();
    keep("report", &lasting.join("\n"));
    place.run(&["export", "run", "--format", "alpaca", "--split", "0.25", "-o", "data", "--quiet"]).succeeded();
    let card = place.read("data/README.md").replace(env!("CARGO_PKG_VERSION"), "VERSION");
    keep("card", &card);
}
