//! Long runs under fire: killed at random, torn by the kernel in the middle of a write, decoded in other
//! batches, in shards, grown. The records are always the same bytes.
//!
//! `INSTIL_ENDURANCE=5000` sets the rows of the long runs, with a kill for every hundred rows; by default they
//! are a few hundred, so that every test run goes the whole way.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use instil::run::RunDirectory;
use instil::run::ledger::{Entry, Scan};

use super::{Outcome, Place};

/// Some ten thousand instructions, all as likely; every third answer is turned down for itself, and some rows
/// for lower ones.
const RECIPE: &str = "name: endurance\nschema: instruction-response\nmax_attempts: 30\n\
    sampling: {temperature: 1.0, top_p: 1.0, min_p: 0.0, repetition_strength: 0.0}\n\
    attributes:\n  - {name: topic, values: [bread, tides, chess, roads]}\n\
    steps:\n\
    \x20 - field: instruction\n    prompt: 'Topic: {{ topic }} Instruction:'\n    begins: ' Explain how'\n\
    \x20   output: {regex: ' (?:bakers|farmers|sailors|nurses) (?:plan|share|carry) (?:maps|tools) in case [0-9]{3}\\.'}\n\
    \x20 - field: response\n    form: chat\n    prompt: '{{ instruction }}'\n    output: {regex: '[^\\n]{30,600}'}\n\
    filters: {sentence_end: [instruction, response], loops: [instruction, response], distinct: instruction}\n";
const ANSWERS: &[&str] = &[
    "The work starts early and needs patience. Good notes help to see what changed.",
    "A short list is enough for most people. Write it down and look at it often.",
    "This one stops in the middle of a clause and",
];
pub(super) const DERIVED: [&str; 2] = ["records.jsonl", "rejects.jsonl"];

/// Rows of the long runs.
fn size() -> u32 {
    std::env::var("INSTIL_ENDURANCE").ok().and_then(|rows| rows.parse().ok()).unwrap_or(300)
}

/// Deterministic noise.
pub(super) struct Noise(pub(super) u64);

impl Noise {
    pub(super) fn below(&mut self, count: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % count.max(1)
    }
}

pub(super) fn place(pause_micros: u64) -> Place {
    let place = Place::new();
    place.write("recipe.yaml", RECIPE);
    model(&place, pause_micros);
    place
}

/// The pause is no part of the plan.
pub(super) fn model(place: &Place, pause_micros: u64) {
    let answers = ANSWERS.iter().map(|&answer| answer.to_owned()).collect();
    place.model("model.toml", pause_micros, &[("assistant: ", answers), ("Instruction:", vec!["none".into()])]);
}

pub(super) fn generate<'a>(rows: &'a str, output: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    let plan = ["generate", "-q", "--model", "model.toml", "--recipe", "recipe.yaml", "--seed", "5"];
    [&plan[..], &["-n", rows, "-o", output], rest].concat()
}

pub(super) fn same(place: &Place, one: &str, other: &str) {
    for file in DERIVED {
        let equal = place.read(&format!("{one}/{file}")) == place.read(&format!("{other}/{file}"));
        assert!(equal, "{file} of {other} is not that of {one}");
    }
}

pub(super) fn bytes(place: &Place, name: &str) -> u64 {
    fs::metadata(place.at(name)).map_or(0, |file| file.len())
}

#[test]
fn a_run_killed_at_random_and_torn_ends_with_the_same_bytes() {
    let rows = size().to_string();
    let kills = u64::from(size()).div_ceil(100);
    let place = place(0);
    place.run(&generate(&rows, "whole", &[])).succeeded();
    assert!(place.lines("whole/rejects.jsonl").len() as u32 > size() / 4);
    let (whole, length) = (place.read("whole/records.jsonl"), bytes(&place, "whole/ledger.jsonl"));
    model(&place, 150);
    let mut noise = Noise(17);
    let mut places: Vec<u64> = (0..kills).map(|_| length / 50 + noise.below(length * 9 / 10)).collect();
    places.sort_unstable();
    let (mut killed, mut torn) = (0, 0);
    for at in places {
        let mut running = place.spawn(&generate(&rows, "killed", &["--resume"]));
        let start = Instant::now();
        while bytes(&place, "killed/ledger.jsonl") < at {
            assert!(running.child().try_wait().expect("a child").is_none(), "it ended before it was killed");
            assert!(start.elapsed() < Duration::from_secs(300), "the run does not get on");
            std::thread::sleep(Duration::from_micros(500));
        }
        std::thread::sleep(Duration::from_micros(noise.below(4000)));
        running.child().kill().expect("it can be killed");
        drop(running);
        killed += 1;
        // What was accepted is there, and nothing else.
        let records = place.read("killed/records.jsonl");
        let lines = records.rfind('\n').map_or(0, |end| end + 1);
        assert!(whole.starts_with(&records[..lines]), "kill {killed}");
        // Sometimes the machine goes down with it: the ends of files are lost or are noise.
        if noise.below(3) == 0 {
            torn += 1;
            let ledger = OpenOptions::new().write(true).open(place.at("killed/ledger.jsonl")).expect("a ledger");
            let left = bytes(&place, "killed/ledger.jsonl").saturating_sub(noise.below(900));
            ledger.set_len(left).expect("it can be cut");
            let file = OpenOptions::new().append(true).open(place.at("killed/records.jsonl"));
            file.and_then(|mut file| file.write_all(b"{\"id\": \"5-\0\0")).expect("it can be written");
        }
    }
    model(&place, 0);
    place.run(&generate(&rows, "killed", &["--resume"])).succeeded();
    same(&place, "whole", "killed");
    println!("{rows} rows, {killed} kills, {torn} of them torn, {length} bytes of ledger");
}

#[test]
fn batches_shards_and_growth_end_with_the_same_bytes() {
    let rows = size().to_string();
    let place = place(0);
    place.run(&generate(&rows, "whole", &[])).succeeded();
    for batch in ["1", "8", "32"] {
        let output = format!("batch-{batch}");
        place.run(&generate(&rows, &output, &["--batch", batch])).succeeded();
        same(&place, "whole", &output);
    }
    let parts = ["1/4", "2/4", "3/4", "4/4"];
    for part in parts {
        place.run(&generate(&rows, &part.replace('/', "of"), &["--shard", part])).succeeded();
    }
    place.run(&["merge", "-q", "1of4", "2of4", "3of4", "4of4", "-o", "merged"]).succeeded();
    place.run(&["generate", "-q", "--resume", "-o", "merged"]).succeeded();
    same(&place, "whole", "merged");
    let few = (size() / 5).to_string();
    place.run(&generate(&few, "grown", &[])).succeeded();
    place.run(&["generate", "-q", "--resume", "-n", &rows, "-o", "grown"]).succeeded();
    same(&place, "whole", "grown");
}

/// A line torn at every write of a ledger: what was there before is kept, what comes after is as if nothing
/// had happened.
#[test]
fn a_ledger_torn_at_any_write_goes_on_where_it_was() {
    let rows = size().to_string();
    let place = place(0);
    place.run(&generate(&rows, "whole", &[])).succeeded();
    let plan = instil::plan::Plan::read(&place.at("whole")).expect("a plan");
    let ledger = fs::read(place.at("whole/ledger.jsonl")).expect("a ledger");
    let mut whole = Scan::read(&place.at("whole"), &plan.hash()).expect("a ledger");
    let ends: Vec<usize> = (1..=ledger.len()).filter(|&end| ledger[end - 1] == b'\n').collect();
    // The attempts in the order in which they were written, after the hash and the plan.
    let ends = &ends[1..];
    let header = ends[0];
    let entries: Vec<Entry> = ends.windows(2).map(|pair| entry(&ledger[pair[0]..pair[1]])).collect();
    assert_eq!(whole.attempts().len(), entries.len());
    for known in entries.iter().take(3) {
        assert_eq!(whole.entry(known.row, known.number).expect("readable").as_ref(), Some(known));
    }
    // One ledger, to which every line is written half before it is written whole.
    place.write("torn.lock", &ledger[..header]);
    fs::create_dir(place.at("torn")).expect("a directory");
    fs::copy(place.at("whole/run.lock.json"), place.at("torn/run.lock.json")).expect("a plan");
    fs::rename(place.at("torn.lock"), place.at("torn/ledger.jsonl")).expect("a ledger");
    let mut noise = Noise(3);
    // Opening reads all that stands there: of a long ledger, some hundred writes spread over it are torn.
    let every = (entries.len() / 400).max(1);
    for (at, known) in entries.iter().enumerate() {
        let (begin, end) = (ends[at], ends[at + 1]);
        if at % every == 0 {
            let cut = begin + 1 + noise.below((end - begin - 1) as u64) as usize;
            let file = OpenOptions::new().append(true).open(place.at("torn/ledger.jsonl"));
            file.and_then(|mut file| file.write_all(&ledger[begin..cut])).expect("a writable ledger");
            let mut run = RunDirectory::open(&place.at("torn"), &plan, true).expect("it goes on");
            assert_eq!((run.recovered().kept, run.recovered().dropped), (at, 1), "torn at {cut}");
            run.ledger().append(known).expect("a writable ledger");
            drop(run);
            assert_eq!(bytes(&place, "torn/ledger.jsonl"), end as u64);
        } else {
            let file = OpenOptions::new().append(true).open(place.at("torn/ledger.jsonl"));
            file.and_then(|mut file| file.write_all(&ledger[begin..end])).expect("a writable ledger");
        }
    }
    assert!(fs::read(place.at("torn/ledger.jsonl")).expect("a ledger") == ledger);
    let told = place.run(&["generate", "--resume", "-o", "torn", "--json"]).succeeded();
    assert!(told.stdout.contains("\"decoded\":0"), "{}", told.stdout);
    same(&place, "whole", "torn");
}

/// An attempt from its line, which ends with a checksum.
fn entry(line: &[u8]) -> Entry {
    let mut reader = serde_json::Deserializer::from_slice(line).into_iter::<Entry>();
    reader.next().expect("a line").expect("an attempt")
}

/// Runs the program with files bounded to `blocks` of 512 bytes. When the bound is not caught, the kernel writes
/// up to it and kills the program in the middle of a write.
#[cfg(unix)]
pub(super) fn bounded(place: &Place, blocks: u64, caught: bool, arguments: &[&str]) -> Outcome {
    let trap = if caught { "trap '' XFSZ; " } else { "" };
    let script = format!("{trap}ulimit -f {blocks}; exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_instil")]).args(arguments);
    command.current_dir(place.at(".")).env_clear().env("HOME", place.at("."));
    Outcome::of(command.output().expect("a shell"))
}

#[cfg(unix)]
#[test]
fn a_run_torn_by_the_kernel_at_every_write_ends_with_the_same_bytes() {
    let rows = "40";
    let place = place(0);
    place.run(&generate(rows, "whole", &[])).succeeded();
    let largest = bytes(&place, "whole/ledger.jsonl").max(bytes(&place, "whole/run.lock.json"));
    let mut ended = 0;
    // A line takes about a block: nearly every write of every file is once the one that is torn.
    for blocks in bytes(&place, "whole/run.lock.json").div_ceil(512)..largest.div_ceil(512) {
        let told = bounded(&place, blocks, false, &generate(rows, "torn", &["--resume", "--batch", "1"]));
        assert_eq!(told.code, None, "killed by a signal: {told:?}");
        ended += 1;
    }
    assert!(ended > 10, "{ended}");
    place.run(&generate(rows, "torn", &["--resume"])).succeeded();
    same(&place, "whole", "torn");
}

#[cfg(unix)]
#[test]
fn a_disk_that_takes_no_more_is_one_clear_error_and_nothing_is_lost() {
    let rows = "40";
    let place = place(0);
    place.run(&generate(rows, "whole", &[])).succeeded();
    let blocks = bytes(&place, "whole/ledger.jsonl") / 512 - 3;
    let told = bounded(&place, blocks, true, &generate(rows, "full", &[]));
    told.refused(4, &["cannot write full/ledger.jsonl: ", "; free some space, or choose another disk"]);
    let kept = place.lines("full/records.jsonl").len();
    assert!(kept > 10, "{kept}");
    place.lines("full/rejects.jsonl");
    assert!(place.read("full/ledger.jsonl").ends_with('\n'), "the line that did not fit was taken back");
    place.run(&["generate", "-q", "--resume", "-o", "full"]).succeeded();
    same(&place, "whole", "full");
}

#[cfg(unix)]
#[test]
fn a_place_that_may_only_be_read_is_one_clear_error() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;

    /// Somebody who may not write everywhere.
    const NOBODY: u32 = 65_534;
    let place = place(0);
    place.run(&generate("4", "run", &[])).succeeded();
    let before = place.read("run/records.jsonl");
    // The owner of the machine may write anywhere, and so lets somebody else try.
    fs::create_dir(place.at("probed")).expect("a directory");
    fs::set_permissions(place.at("probed"), fs::Permissions::from_mode(0o555)).expect("permissions");
    let is_root = fs::write(place.at("probed/probe"), "").is_ok();
    let run = |arguments: &[&str]| {
        let mut command = place.command(arguments);
        if is_root {
            let all = Command::new("chown").args(["-R", &NOBODY.to_string()]).arg(place.at(".")).status();
            assert!(all.is_ok_and(|status| status.success()), "root can give files away");
            command.uid(NOBODY);
        }
        Outcome::of(command.output().expect("the program starts; its folder can be entered by everybody"))
    };
    let set = |mode: u32, name: &str| {
        fs::set_permissions(place.at(name), fs::Permissions::from_mode(mode)).expect("permissions");
    };
    fs::create_dir(place.at("locked")).expect("a directory");
    set(0o555, "locked");
    let told = run(&generate("4", "locked/run", &[]));
    told.refused(4, &["cannot create locked/run", "; choose a place that you may write to"]);
    for file in ["ledger.jsonl", "records.jsonl", "rejects.jsonl", ".lock"] {
        set(0o444, &format!("run/{file}"));
        let told = run(&generate("8", "run", &["--resume"]));
        told.refused(4, &[&format!("run/{file}"), "; choose a place that you may write to"]);
        set(0o644, &format!("run/{file}"));
        assert_eq!(place.read("run/records.jsonl"), before);
    }
}

#[test]
fn a_run_whose_files_were_changed_is_told_or_mended() {
    let place = place(0);
    place.run(&generate("8", "run", &[])).succeeded();
    let read = |name: &str| fs::read(place.at(name)).expect("a file");
    let (plan, ledger) = (read("run/run.lock.json"), read("run/ledger.jsonl"));
    let text = String::from_utf8(ledger.clone()).expect("text");
    let resume = || place.run(&["generate", "--resume", "-o", "run"]);
    let records = read("run/records.jsonl");
    // A plan that is none, is another one, wants other rows, or is lost: the ledger knows it.
    let plan_text = String::from_utf8(plan.clone()).expect("text");
    let mut flipped = plan.clone();
    flipped[plan.len() / 3] |= 0x80;
    for bad in [
        Some(plan[..plan.len() / 2].to_vec()),
        Some(flipped),
        Some(plan_text.replace("bakers", "bankers").into_bytes()),
        Some(plan_text.replace("\"rows\": 8", "\"rows\": 9").into_bytes()),
        None,
    ] {
        match bad {
            Some(bytes) => place.write("run/run.lock.json", bytes),
            None => fs::remove_file(place.at("run/run.lock.json")).expect("removed"),
        }
        let told = resume().succeeded().stderr;
        assert!(told.contains("written again from the ledger"), "{told}");
        assert_eq!((read("run/run.lock.json"), read("run/records.jsonl")), (plan.clone(), records.clone()));
        assert_eq!(read("run/ledger.jsonl"), ledger);
    }
    // A ledger that notes no plan is none the wiser.
    let (first, rest) = text.split_once('\n').expect("lines");
    let (_, entries) = rest.split_once('\n').expect("lines");
    place.write("run/ledger.jsonl", format!("{first}\n{entries}"));
    fs::remove_file(place.at("run/run.lock.json")).expect("removed");
    place.run(&["report", "run"]).succeeded();
    resume().refused(3, &["the plan of the run that stands here is lost"]);
    place.write("run/run.lock.json", &plan[..plan.len() / 2]);
    resume().refused(3, &["run/run.lock.json: line ", "is not a plan"]);
    place.write("run/run.lock.json", &plan);
    resume().succeeded();
    // A line that was edited by hand is made again.
    let edited = text.replacen("needs patience", "needs little", 1);
    assert_ne!(edited, text);
    place.write("run/ledger.jsonl", edited);
    let before = place.read("run/records.jsonl");
    let told = resume().succeeded();
    assert!(told.stderr.contains("1 line was torn or changed, and its attempt is made again"), "{}", told.stderr);
    assert_eq!(place.read("run/records.jsonl"), before);
    // Bytes that are no text, and lines of other programs.
    place.write("run/ledger.jsonl", [&ledger[..], b"\xff\xfe\0\0\n{\"row\": 3}\n[]\n\n"].concat());
    let told = resume().succeeded();
    assert!(told.stderr.contains("lines were torn or changed"), "{}", told.stderr);
    assert_eq!(place.read("run/records.jsonl"), before);
}
