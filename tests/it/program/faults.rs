//! Every fault that ends a run, often and counted: kills, signals, full disks, files cut at each byte. Afterwards the run
//! is gone on with, and the rows are the same bytes.
//!
//! Minutes of work: `tests/faults.sh` runs it and prints the counts.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use super::endurance::{DERIVED, Noise, bounded, bytes, generate, model, place, same};
use super::{Outcome, Place, fixture};
use crate::support::skip;

/// Rows of a run that is killed.
const ROWS: &str = "150";
/// Files of a run whose ends are cut.
const FILES: [&str; 4] = ["ledger.jsonl", "records.jsonl", "rejects.jsonl", "run.lock.json"];

/// How many rows of `whole` are not in `other`, at the ends of files that may be torn.
fn lost(place: &Place, whole: &str, other: &str) -> usize {
    let rows = |name: &str| place.lines(&format!("{name}/records.jsonl"));
    let kept = rows(other);
    rows(whole).iter().filter(|row| !kept.contains(row)).count()
}

/// Runs on until `when` of the time that the run takes, then stops it with a signal; whether it was still running.
fn stopped(place: &Place, arguments: &[&str], signal: &str, after: Duration) -> bool {
    let mut running = place.spawn(arguments);
    std::thread::sleep(after);
    if running.child().try_wait().expect("a child").is_some() {
        running.finish().succeeded();
        return false;
    }
    let id = running.child().id().to_string();
    assert!(Command::new("kill").args([signal, &id]).status().expect("kill starts").success());
    let outcome = running.finish();
    // Killed by the signal, ended by it, or just done.
    assert!(matches!(outcome.code, None | Some(0 | 130)), "{outcome:?}");
    outcome.code != Some(0)
}

#[test]
#[ignore = "minutes of faults: tests/faults.sh"]
fn a_runs_rows_outlive_kills_and_signals() {
    let place = place(0);
    place.run(&generate(ROWS, "whole", &[])).succeeded();
    let mut noise = Noise(99);
    for (signal, wanted) in [("-KILL", 60), ("-TERM", 20), ("-HUP", 10)] {
        let (mut stops, mut runs) = (0, 0);
        while stops < wanted {
            let name = format!("run{signal}-{runs}");
            runs += 1;
            model(&place, 400);
            while stops < wanted {
                let after = Duration::from_millis(40 + noise.below(300));
                if !stopped(&place, &generate(ROWS, &name, &["--resume"]), signal, after) {
                    break;
                }
                stops += 1;
            }
            model(&place, 0);
            place.run(&generate(ROWS, &name, &["--resume"])).succeeded();
            same(&place, "whole", &name);
            assert_eq!(lost(&place, "whole", &name), 0);
        }
        println!("kill {signal}: {stops} stops in {runs} runs of {ROWS} rows, 0 rows lost, the same bytes");
    }
}

/// A disk of some kibibytes; none where only the owner of the machine may mount one.
struct Disk(std::path::PathBuf);

impl Disk {
    fn of(place: &Place, kibibytes: u64) -> Option<Self> {
        let path = place.at("disk");
        fs::create_dir_all(&path).expect("a directory");
        let size = format!("size={kibibytes}k");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(&path).status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(path))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A disk that stays is found by the next mount.
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
#[ignore = "minutes of faults: tests/faults.sh"]
fn a_runs_rows_outlive_full_disks() {
    let place = place(0);
    let rows = "60";
    place.run(&generate(rows, "whole", &[])).succeeded();
    let whole: u64 = FILES.iter().map(|file| bytes(&place, &format!("whole/{file}"))).sum();
    let mut full = 0;
    for step in 0..20 {
        // From a disk that takes not even the plan to one that lacks a page.
        let kibibytes = 4 + (whole / 1024) * step / 20;
        let Some(disk) = Disk::of(&place, kibibytes) else {
            skip("DISK", "full disks", "only the owner of the machine may mount one");
            return;
        };
        let told = place.run(&generate(rows, "disk/run", &["--resume"]));
        told.refused(4, &["disk/run", "; free some space, or choose another disk"]);
        full += 1;
        // What is there is moved to where there is room, as a person would.
        let moved = format!("moved-{step}");
        copy(&disk.0.join("run"), &place.at(&moved));
        drop(disk);
        place.run(&generate(rows, &moved, &["--resume"])).succeeded();
        same(&place, "whole", &moved);
        assert_eq!(lost(&place, "whole", &moved), 0);
    }
    println!("{full} full disks, 0 rows lost, the same bytes");
    // And files that may not grow, by the system's own bound.
    let largest = bytes(&place, "whole/ledger.jsonl") / 512;
    for blocks in (2..largest).step_by(usize::try_from(largest / 20).expect("few")) {
        bounded(&place, blocks, true, &generate(rows, "bound", &["--resume"])).refused(4, &["bound"]);
    }
    place.run(&generate(rows, "bound", &["--resume"])).succeeded();
    same(&place, "whole", "bound");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    let Ok(entries) = fs::read_dir(from) else { return };
    for entry in entries {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
}

#[test]
#[ignore = "minutes of faults: tests/faults.sh"]
fn a_runs_rows_outlive_cuts_at_each_byte_of_the_last_lines() {
    let place = place(0);
    let rows = "12";
    place.run(&generate(rows, "whole", &[])).succeeded();
    let mut cuts = 0;
    for file in FILES {
        let text = place.read(&format!("whole/{file}")).into_bytes();
        let ends: Vec<usize> = (0..text.len() - 1).filter(|at| text[*at] == b'\n').collect();
        let begin = ends[ends.len().saturating_sub(3)];
        for at in begin..text.len() {
            copy(&place.at("whole"), &place.at("cut"));
            place.write(&format!("cut/{file}"), &text[..at]);
            place.run(&["generate", "-q", "--resume", "-o", "cut"]).succeeded();
            for derived in DERIVED {
                assert_eq!(
                    place.read(&format!("whole/{derived}")),
                    place.read(&format!("cut/{derived}")),
                    "{file} {at}"
                );
            }
            cuts += 1;
        }
    }
    println!("{cuts} cuts of the last three lines of {}, 0 rows lost, the same bytes", FILES.join(", "));
}

/// Output that cannot be written, or nobody reads, ends no command.
#[test]
fn a_lost_output_is_no_panic() {
    let place = place(0);
    place.run(&generate("4", "run", &[])).succeeded();
    let commands: [&[&str]; 10] = [
        &["generate", "--model", "model.toml", "--recipe", "recipe.yaml", "-n", "2", "--resume", "-o", "again"],
        &["report", "run"],
        &["review", "run"],
        &["export", "run", "--format", "alpaca", "-o", "data"],
        &["models", "list"],
        &["check", "--regex", "a+"],
        &["init", "--schema"],
        &["decode", "--nonsense"],
        &["--help"],
        &["decode", "--help"],
    ];
    for arguments in commands {
        for (out, err) in
            [("/dev/full", "/dev/null"), ("/dev/null", "/dev/full"), ("/dev/full", "/dev/full"), ("-", "-")]
        {
            let redirect =
                |number: u8, to: &str| if to == "-" { format!("{number}>&-") } else { format!("{number}>{to}") };
            let script = format!("exec \"$0\" \"$@\" {} {}", redirect(1, out), redirect(2, err));
            let mut command = Command::new("sh");
            command.args(["-c", &script, env!("CARGO_BIN_EXE_instil")]).args(arguments);
            command.current_dir(place.at(".")).env_clear().env("HOME", place.at("."));
            let code = command.stdin(Stdio::null()).status().expect("a shell").code();
            assert!(matches!(code, Some(0 | 2 | 4)), "{arguments:?} with {out} and {err}: {code:?}");
            let help_is_lost = arguments.contains(&"--help") && out == "/dev/full";
            assert!(!help_is_lost || code == Some(4), "{arguments:?} with {out}: {code:?}");
        }
    }
    assert_eq!(place.lines("again/records.jsonl").len(), 2);
}

/// A hundred seeds of any length through three rounds: every row is made, or given up with a reason, whatever stops the
/// run on its way.
#[test]
fn seeds_of_any_length_are_evolved_or_given_up() {
    let place = Place::new();
    super::from_rows::evolving_model(&place, 0);
    let words = ["tree", "flower", "mushroom", "vine", "bush", "herb", "moss", "grass", "reed", "fern", "palm"];
    let seed = |at: usize| {
        let count = 20 + at * 380 / 99;
        let text: Vec<&str> = (0..count).map(|word| words[(word * 7 + at * 3 + word / 11) % words.len()]).collect();
        json!({ "instruction": format!("Describe {at}: {}.", text.join(" ")) }).to_string() + "\n"
    };
    place.write("seeds.jsonl", (0..100).map(seed).collect::<String>());
    let recipe = fixture("evolve.yaml");
    let flags = ["evolve", "seeds.jsonl", "--model", "model.toml", "--recipe", &recipe, "--seed", "5", "--rounds", "3"];
    let evolve = |output| [&flags[..], &["--resume", "-o", output]].concat();
    let ended = |outcome: &Outcome| assert!(matches!(outcome.code, Some(0 | 5)), "{outcome:?}");
    ended(&place.run(&evolve("whole")));
    // Every row of the plan is a record, or its last attempt is a reject that says why.
    let (records, rejects) = (place.lines("whole/records.jsonl"), place.lines("whole/rejects.jsonl"));
    let row = |line: &serde_json::Value| line["meta"]["row"].as_u64().expect("a row");
    let made: std::collections::BTreeSet<u64> = records.iter().map(row).collect();
    let given_up =
        |wanted: u64| rejects.iter().any(|line| row(line) == wanted && line["meta"]["reason"]["rule"].is_string());
    let missing: Vec<u64> = (0..300).filter(|row| !made.contains(row) && !given_up(*row)).collect();
    assert!(missing.is_empty(), "neither made nor given up: {missing:?}");
    assert!(made.len() > 50, "{}", made.len());
    super::from_rows::evolving_model(&place, 60);
    let (mut noise, mut kills) = (Noise(7), 0);
    for _ in 0..200 {
        if kills == 10 || !stopped(&place, &evolve("killed"), "-KILL", Duration::from_millis(60 + noise.below(250))) {
            break;
        }
        kills += 1;
    }
    assert_eq!(kills, 10, "the run ended before it was killed ten times");
    super::from_rows::evolving_model(&place, 0);
    ended(&place.run(&evolve("killed")));
    same(&place, "whole", "killed");
    println!("{} rows made, {} given up, {kills} kills, the same bytes", made.len(), 300 - made.len());
}

/// A log that nobody reads any more is no reason to end.
#[test]
fn a_closed_reader_of_the_log_is_no_end() {
    let place = place(100);
    let arguments = generate("20", "run", &["-v"]);
    // Loud, not quiet.
    let loud: Vec<&str> = arguments.into_iter().filter(|argument| *argument != "-q").collect();
    let mut running = place.spawn(&loud);
    let mut log = running.child().stderr.take().expect("a pipe");
    let _ = log.read(&mut [0; 1]);
    drop(log);
    let outcome = running.finish();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(place.lines("run/records.jsonl").len(), 20);
}
