//! Rows in every container that people have them in, by every command that takes rows.

use std::io::Write;
use std::process::Stdio;
use std::sync::Arc;

use arrow_array::{RecordBatch, StringArray};
use arrow_ipc::writer::{FileWriter, StreamWriter};
use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::{Value, json};

use super::{Outcome, Place, run_of_rows};

const ROWS: [(&str, &str); 3] =
    [("What floats on water?", "Ships; \"big\" ones,\ntoo."), ("Wer bäckt Brot?", "Bäcker."), ("Name a tide.", "Ebb.")];

fn lines() -> String {
    ROWS.iter().map(|(ask, say)| json!({"instruction": ask, "response": say}).to_string() + "\n").collect()
}

fn list() -> String {
    let rows: Vec<Value> = ROWS.iter().map(|(ask, say)| json!({"instruction": ask, "response": say})).collect();
    serde_json::to_string_pretty(&rows).expect("JSON")
}

fn table(separator: u8) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new().delimiter(separator).from_writer(Vec::new());
    writer.write_record(["instruction", "response"]).expect("written");
    ROWS.iter().for_each(|(ask, say)| writer.write_record([ask, say]).expect("written"));
    writer.into_inner().expect("written")
}

fn gzip(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packer.write_all(bytes.as_ref()).expect("packed");
    packer.finish().expect("packed")
}

fn zstd(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    zstd::stream::encode_all(bytes.as_ref(), 3).expect("packed")
}

fn parquet(compression: Compression) -> Vec<u8> {
    let schema = "message row { optional binary instruction (UTF8); optional binary response (UTF8); }";
    let schema = Arc::new(parse_message_type(schema).expect("a schema"));
    let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
    let mut out = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut out, schema, properties).expect("begun");
    let mut group = writer.next_row_group().expect("a group");
    for texts in [ROWS.map(|(ask, _)| ask), ROWS.map(|(_, say)| say)] {
        let mut column = group.next_column().expect("a column").expect("one more");
        let texts = texts.map(ByteArray::from);
        column.typed::<ByteArrayType>().write_batch(&texts, Some(&[1, 1, 1]), None).expect("written");
        column.close().expect("closed");
    }
    group.close().expect("closed");
    writer.close().expect("closed");
    out
}

fn batch() -> RecordBatch {
    let column = |texts: Vec<&str>| Arc::new(StringArray::from(texts)) as _;
    let asks = column(ROWS.iter().map(|(ask, _)| *ask).collect());
    let says = column(ROWS.iter().map(|(_, say)| *say).collect());
    RecordBatch::try_from_iter([("instruction", asks), ("response", says)]).expect("a batch")
}

fn arrow_stream() -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batch().schema()).expect("begun");
    writer.write(&batch()).expect("written");
    writer.into_inner().expect("written")
}

fn arrow_file() -> Vec<u8> {
    let mut writer = FileWriter::try_new(Vec::new(), &batch().schema()).expect("begun");
    writer.write(&batch()).expect("written");
    writer.into_inner().expect("written")
}

/// Puts a file where it may need a folder.
fn put(place: &Place, name: &str, content: impl AsRef<[u8]>) {
    let path = place.at(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    std::fs::write(path, content).expect("written");
}

#[test]
fn every_container_is_read_by_every_command() {
    let place = Place::new();
    let files: Vec<(&str, Vec<u8>)> = vec![
        ("a.jsonl", lines().into()),
        ("a.json", list().into()),
        ("a.csv", table(b',')),
        ("semicolon.csv", table(b';')),
        ("a.tsv", table(b'\t')),
        ("no-name-of-its-own", table(b';')),
        ("a.jsonl.gz", gzip(lines())),
        ("a.json.zst", zstd(list())),
        ("a.csv.gz", gzip(table(b';'))),
        ("b.jsonl", zstd(lines())),
        ("plain.parquet", parquet(Compression::UNCOMPRESSED)),
        ("snappy.parquet", parquet(Compression::SNAPPY)),
        ("gzip.parquet", parquet(Compression::GZIP(GzipLevel::default()))),
        ("zstd.parquet", parquet(Compression::ZSTD(ZstdLevel::default()))),
        ("brotli.parquet", parquet(Compression::BROTLI(BrotliLevel::default()))),
        ("lz4.parquet", parquet(Compression::LZ4)),
        ("lz4_raw.parquet", parquet(Compression::LZ4_RAW)),
        ("stream.arrow", arrow_stream()),
        ("file.arrow", arrow_file()),
    ];
    files.iter().for_each(|(name, content)| place.write(name, content));
    // As `datasets` saves one, and a dictionary of them.
    put(&place, "saved/state.json", "{\"_data_files\": [{\"filename\": \"data-00000-of-00001.arrow\"}]}");
    put(&place, "saved/dataset_info.json", "{}");
    put(&place, "saved/data-00000-of-00001.arrow", arrow_stream());
    put(&place, "splits/dataset_dict.json", "{\"splits\": [\"train\"]}");
    put(&place, "splits/train/state.json", "{\"_data_files\": [{\"filename\": \"a.arrow\"}]}");
    put(&place, "splits/train/a.arrow", arrow_stream());
    put(&place, "folder/README.md", "No rows.");
    put(&place, "folder/part-1.jsonl", lines().lines().next().expect("a line"));
    put(&place, "folder/part-2.csv.gz", {
        let rest = String::from_utf8(table(b',')).expect("text");
        let (header, rows) = rest.split_once('\n').expect("a header");
        gzip(format!("{header}\n{}", rows.split_once("too.\"\n").expect("the first row").1))
    });
    place.write(
        "schema.json",
        json!({"type": "object", "required": ["instruction", "response"], "properties": {
        "instruction": {"type": "string"}, "response": {"type": "string"}}, "additionalProperties": false})
        .to_string(),
    );
    let inputs = files.iter().map(|(name, _)| *name).chain(["saved", "splits", "folder"]);
    let expected: Vec<Value> =
        ROWS.iter().map(|(ask, say)| json!({"instruction": ask, "input": "", "output": say})).collect();
    for (at, input) in inputs.enumerate() {
        let data = format!("data-{at}");
        place.run(&["export", input, "--format", "alpaca", "-o", &data, "--strict"]).succeeded();
        assert_eq!(place.lines(&format!("{data}/train.jsonl")), expected, "{input}");
        let table = place.run(&["report", input]).succeeded().stdout;
        assert!(table.starts_with("3 rows kept"), "{input}: {table}");
        let clean = format!("clean-{at}.jsonl");
        place.run(&["filter", input, "-o", &clean, "--exact", "--best-by", "n"]).succeeded();
        assert_eq!(place.lines(&clean).len(), 3, "{input}");
        assert_eq!(place.lines(&clean)[1], json!({"instruction": ROWS[1].0, "response": ROWS[1].1}), "{input}");
        let checked = place.run(&["check", "schema.json", input]).succeeded().stdout;
        assert!(checked.contains("3 rows valid, 0 invalid"), "{input}: {checked}");
    }
}

#[test]
fn rows_come_on_stdin() {
    let place = Place::new();
    let give = |arguments: &[&str], content: &[u8]| {
        let mut command = place.command(arguments);
        let mut child = command.stdin(Stdio::piped()).spawn().expect("the program starts");
        child.stdin.take().expect("piped").write_all(content).expect("taken");
        Outcome::of(child.wait_with_output().expect("the program ends"))
    };
    give(&["export", "-", "--format", "messages", "-o", "data"], &table(b';')).succeeded();
    assert_eq!(place.lines("data/train.jsonl")[2]["messages"][1]["content"], "Ebb.");
    assert!(give(&["report", "-"], &gzip(lines())).succeeded().stdout.starts_with("3 rows kept"));
    give(&["filter", "-", "-o", "clean.jsonl", "--exact"], &parquet(Compression::SNAPPY)).succeeded();
    assert_eq!(place.lines("clean.jsonl").len(), 3);
}

#[test]
fn gaps_are_counted_in_any_container() {
    let place = Place::new();
    run_of_rows(&place);
    let recipe = super::fixture("recipe.yaml");
    place.write("held.json", json!([{"topic": "bread"}, {"topic": "bread"}]).to_string());
    place.write("held.csv", "topic;n\nbread;1\nbread;2\n");
    for held in ["held.json", "held.csv", "run"] {
        let told = place.run(&[
            "generate",
            "--model",
            "model.toml",
            "--recipe",
            &recipe,
            "--fill",
            held,
            "-o",
            "more",
            "-n",
            "1",
        ]);
        assert_eq!(told.code, Some(0), "{held}: {told:?}");
        std::fs::remove_dir_all(place.at("more")).expect("made");
    }
}

#[test]
fn what_cannot_be_read_is_one_clear_line() {
    let place = Place::new();
    let half = gzip(lines().repeat(500));
    let files: Vec<(&str, Vec<u8>, &str)> = vec![
        ("half.jsonl.gz", half[..half.len() / 2].to_vec(), "cannot be unpacked"),
        ("broken.zst", b"\x28\xb5\x2f\xfd and no more".to_vec(), "cannot be unpacked"),
        ("bomb.jsonl.zst", bomb(), "more than 1 GiB"),
        ("a.zip", b"PK\x03\x04zip".to_vec(), "unpack it first"),
        ("a.xz", b"\xfd7zXZ\0".to_vec(), "unpack it first"),
        ("half.parquet", parquet(Compression::SNAPPY)[..100].to_vec(), "not a Parquet file"),
        ("half.arrow", arrow_stream()[..100].to_vec(), "not an Arrow stream"),
        ("twice.csv", b"a,b,a\n1,2,3\n".to_vec(), "names the column `a` twice"),
    ];
    for (name, content, part) in files {
        place.write(name, content);
        for arguments in [&["report", name][..], &["filter", name, "-o", "out.jsonl", "--exact"]] {
            let told = place.run(arguments);
            assert_eq!(told.code, Some(3), "{name}: {told:?}");
            assert!(told.stderr.lines().last().is_some_and(|line| line.contains(part)), "{name}: {told:?}");
        }
    }
    put(&place, "lists/state.json", "{\"_data_files\": [{\"filename\": \"../a.zip\"}]}");
    place.run(&["report", "lists"]).refused(3, &["its lists name", "which is not there"]);
    place.write("a.jsonl", lines());
    place.run(&["filter", "a.jsonl", "-o", "clean.csv", "--exact"]).refused(2, &["clean.csv", "JSON Lines"]);
}

/// 1.1 GiB of one letter.
fn bomb() -> Vec<u8> {
    let mut packer = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("begun");
    let mut part = vec![b'x'; 1 << 20];
    part[0] = b'\n';
    (0..1130).for_each(|_| packer.write_all(&part).expect("packed"));
    packer.finish().expect("packed")
}
