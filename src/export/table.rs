//! Parquet files of rows, written: texts, numbers, and lists of texts or of messages; all else is kept as JSON text.
//!
//! Rows are shredded into columns as Dremel does (Melnik and others 2010): beside each value stand a
//! definition level (how much of its path is there) and a repetition level (0 begins a row). Everything is
//! optional, so no row is refused for a field that it lacks.

use std::io::Write;
use std::sync::Arc;

use parquet::basic::{ConvertedType, LogicalType, Repetition, Type as PhysicalType};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};
use serde_json::{Map, Value};

/// Rows of a row group: what a writer holds in memory.
pub(crate) const ROW_GROUP: usize = 8192;

/// What a column holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing was seen but null.
    Empty,
    /// `true` and `false`.
    Bool,
    /// Whole numbers of 64 bits.
    Whole,
    /// Numbers.
    Number,
    /// Texts.
    Text,
    /// Lists of texts.
    Texts,
    /// Lists of objects whose fields, by these names, are texts.
    Messages(Vec<String>),
    /// Anything, as JSON text.
    Json,
}

impl Kind {
    fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Empty,
            Value::Bool(_) => Self::Bool,
            Value::Number(number) if number.is_i64() => Self::Whole,
            Value::Number(_) => Self::Number,
            Value::String(_) => Self::Text,
            Value::Array(list) if list.is_empty() => Self::Empty,
            Value::Array(list) if list.iter().all(Value::is_string) => Self::Texts,
            Value::Array(list) => {
                let keys = |value: &Value| {
                    let object = value.as_object()?;
                    object.values().all(Value::is_string).then(|| object.keys().cloned().collect::<Vec<String>>())
                };
                let mut all = list.iter().map(keys);
                match all.next().flatten() {
                    Some(first) if !first.is_empty() && all.all(|keys| keys.as_ref() == Some(&first)) => {
                        Self::Messages(first)
                    }
                    _ => Self::Json,
                }
            }
            Value::Object(_) => Self::Json,
        }
    }

    fn join(self, other: Self) -> Self {
        match (self, other) {
            (a, b) if a == b => a,
            (Self::Empty, kind) | (kind, Self::Empty) => kind,
            (Self::Whole, Self::Number) | (Self::Number, Self::Whole) => Self::Number,
            _ => Self::Json,
        }
    }
}

/// The columns of a table, in the order in which they were first seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Columns(Vec<(String, Kind)>);

impl Columns {
    /// Widens the columns so that they can hold `row`.
    pub(crate) fn meet(&mut self, row: &Map<String, Value>) {
        for (name, value) in row {
            let kind = Kind::of(value);
            match self.0.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) => *known = std::mem::replace(known, Kind::Empty).join(kind),
                None => self.0.push((name.clone(), kind)),
            }
        }
    }

    /// Their names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    fn schema(&self) -> Result<TypePtr, ParquetError> {
        let fields: Result<Vec<TypePtr>, ParquetError> = self.0.iter().map(|(name, kind)| field(name, kind)).collect();
        Ok(Arc::new(Type::group_type_builder("row").with_fields(fields?).build()?))
    }
}

fn field(name: &str, kind: &Kind) -> Result<TypePtr, ParquetError> {
    let leaf = |physical| Type::primitive_type_builder(name, physical).with_repetition(Repetition::OPTIONAL);
    match kind {
        Kind::Bool => leaf(PhysicalType::BOOLEAN).build().map(Arc::new),
        Kind::Whole => leaf(PhysicalType::INT64).build().map(Arc::new),
        Kind::Number => leaf(PhysicalType::DOUBLE).build().map(Arc::new),
        Kind::Text | Kind::Json | Kind::Empty => text(name),
        Kind::Texts => list(name, text("element")?),
        Kind::Messages(keys) => {
            let parts: Result<Vec<TypePtr>, ParquetError> = keys.iter().map(|key| text(key)).collect();
            let element = Type::group_type_builder("element").with_repetition(Repetition::OPTIONAL);
            list(name, Arc::new(element.with_fields(parts?).build()?))
        }
    }
}

fn text(name: &str) -> Result<TypePtr, ParquetError> {
    let leaf = Type::primitive_type_builder(name, PhysicalType::BYTE_ARRAY).with_repetition(Repetition::OPTIONAL);
    leaf.with_logical_type(Some(LogicalType::String)).with_converted_type(ConvertedType::UTF8).build().map(Arc::new)
}

fn list(name: &str, element: TypePtr) -> Result<TypePtr, ParquetError> {
    let middle = Type::group_type_builder("list").with_repetition(Repetition::REPEATED).with_fields(vec![element]);
    let outer = Type::group_type_builder(name).with_repetition(Repetition::OPTIONAL);
    let outer = outer.with_logical_type(Some(LogicalType::List)).with_converted_type(ConvertedType::LIST);
    outer.with_fields(vec![Arc::new(middle.build()?)]).build().map(Arc::new)
}

/// A Parquet file under way.
pub(crate) struct Table<W: Write + Send> {
    columns: Columns,
    writer: SerializedFileWriter<W>,
    rows: Vec<Map<String, Value>>,
}

impl<W: Write + Send> Table<W> {
    /// Begins a file with these columns.
    ///
    /// # Errors
    /// When the writer refuses.
    pub(crate) fn new(out: W, columns: Columns) -> Result<Self, ParquetError> {
        let properties = WriterProperties::builder().set_compression(parquet::basic::Compression::SNAPPY).build();
        let writer = SerializedFileWriter::new(out, columns.schema()?, Arc::new(properties))?;
        Ok(Self { columns, writer, rows: Vec::new() })
    }

    /// Adds a row that the columns have met.
    ///
    /// # Errors
    /// When the writer refuses.
    pub(crate) fn add(&mut self, row: Map<String, Value>) -> Result<(), ParquetError> {
        self.rows.push(row);
        if self.rows.len() < ROW_GROUP { Ok(()) } else { self.put_group() }
    }

    /// Writes what is left and the footer.
    ///
    /// # Errors
    /// When the writer refuses.
    pub(crate) fn finish(mut self) -> Result<W, ParquetError> {
        if !self.rows.is_empty() {
            self.put_group()?;
        }
        self.writer.into_inner()
    }

    fn put_group(&mut self) -> Result<(), ParquetError> {
        let rows = std::mem::take(&mut self.rows);
        let mut group = self.writer.next_row_group()?;
        for (name, kind) in &self.columns.0 {
            let values = rows.iter().map(|row| row.get(name).unwrap_or(&Value::Null));
            put_column(&mut group, kind, values)?;
        }
        group.close()?;
        Ok(())
    }
}

fn put_column<'a, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    kind: &Kind,
    values: impl Iterator<Item = &'a Value> + Clone,
) -> Result<(), ParquetError> {
    /// Writes one leaf: a level and perhaps a value for each item.
    macro_rules! put {
        ($type:ty, $items:expr) => {{
            let items: Vec<(i16, i16, Option<_>)> = $items;
            let definition: Vec<i16> = items.iter().map(|(definition, _, _)| *definition).collect();
            let repetition: Vec<i16> = items.iter().map(|(_, repetition, _)| *repetition).collect();
            let values: Vec<_> = items.into_iter().filter_map(|(_, _, value)| value).collect();
            let column = group.next_column()?;
            let mut column = column.ok_or_else(|| ParquetError::General("a column is missing".into()))?;
            column.typed::<$type>().write_batch(&values, Some(&definition), Some(&repetition))?;
            column.close()?;
        }};
    }
    fn flat<T>(value: Option<T>) -> (i16, i16, Option<T>) {
        (i16::from(value.is_some()), 0, value)
    }
    match kind {
        Kind::Bool => put!(BoolType, values.map(|value| flat(value.as_bool())).collect()),
        Kind::Whole => put!(Int64Type, values.map(|value| flat(value.as_i64())).collect()),
        Kind::Number => put!(DoubleType, values.map(|value| flat(value.as_f64())).collect()),
        Kind::Text => put!(ByteArrayType, values.map(|value| flat(value.as_str().map(ByteArray::from))).collect()),
        Kind::Json | Kind::Empty => {
            let json = |value: &Value| (!value.is_null()).then(|| ByteArray::from(value.to_string().as_str()));
            put!(ByteArrayType, values.map(|value| flat(json(value))).collect());
        }
        Kind::Texts => {
            put!(ByteArrayType, values.flat_map(|value| leaves(value, 3, Value::as_str)).collect());
        }
        Kind::Messages(keys) => {
            for key in keys {
                let part = |message: &'a Value| message.get(key).and_then(Value::as_str);
                put!(ByteArrayType, values.clone().flat_map(|value| leaves(value, 4, part)).collect());
            }
        }
    }
    Ok(())
}

/// The levels and texts of a list; `present` is the definition level of a text that is there.
fn leaves<'a>(
    list: &'a Value,
    present: i16,
    text: impl Fn(&'a Value) -> Option<&'a str>,
) -> Vec<(i16, i16, Option<ByteArray>)> {
    match list.as_array() {
        None => vec![(0, 0, None)],
        Some(list) if list.is_empty() => vec![(1, 0, None)],
        Some(list) => {
            let item = |(at, item)| match text(item) {
                Some(text) => (present, i16::from(at > 0), Some(ByteArray::from(text))),
                None => (present - 1, i16::from(at > 0), None),
            };
            list.iter().enumerate().map(item).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::Path;

    use proptest::prelude::*;
    use serde_json::json;

    use crate::container::Rows;
    use crate::error::Result;

    use super::*;

    fn round(rows: &[Value]) -> Vec<Value> {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("a.parquet");
        put(&path, rows);
        read(&path).expect("read").into_iter().map(|row| row.expect("a row")).collect()
    }

    fn read(path: &Path) -> Result<Vec<Result<Value, String>>> {
        let (mut rows, mut found) = (Rows::open(path)?, Vec::new());
        while let Some(row) = rows.next()? {
            found.push(row.content.value());
        }
        Ok(found)
    }

    fn put(path: &Path, rows: &[Value]) {
        let mut columns = Columns::default();
        let rows: Vec<&Map<String, Value>> = rows.iter().map(|row| row.as_object().expect("an object")).collect();
        rows.iter().for_each(|row| columns.meet(row));
        let mut table = Table::new(File::create(path).expect("created"), columns).expect("begun");
        rows.iter().for_each(|row| table.add((*row).clone()).expect("added"));
        table.finish().expect("written");
    }

    #[test]
    fn every_kind_of_column_comes_back() {
        let rows = [
            json!({"t": "é\n", "b": true, "w": -3, "f": 1.5, "l": ["a", ""], "m": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]}),
            json!({"t": null, "b": null, "w": null, "f": 2.25, "l": [], "m": []}),
            json!({"t": "", "b": false, "w": 9, "f": null, "l": null, "m": [{"role": "user", "content": "R"}]}),
        ];
        assert_eq!(round(&rows), rows);
    }

    #[test]
    fn fields_that_differ_become_json_text() {
        let rows = [json!({"a": 1, "n": 1}), json!({"a": "x", "n": 2.5}), json!({"c": {"d": [1]}})];
        let back = round(&rows);
        assert_eq!(back[0], json!({"a": "1", "n": 1.0, "c": null}));
        assert_eq!(back[1]["a"], "\"x\"");
        assert_eq!(back[2]["c"], "{\"d\":[1]}");
    }

    proptest! {
        #[test]
        fn broken_files_are_errors(at in 0usize..2000, byte in any::<u8>()) {
            let folder = tempfile::tempdir().expect("a temporary directory");
            let path = folder.path().join("a.parquet");
            put(&path, &[json!({"t": "text", "n": 1, "m": [{"role": "user", "content": "Q"}]}), json!({"t": "more"})]);
            let mut bytes = std::fs::read(&path).expect("read");
            let length = bytes.len();
            bytes[at % length] = byte;
            std::fs::write(&path, bytes).expect("written");
            // Rows or an error, and an end.
            prop_assert!(read(&path).map_or(0, |rows| rows.len()) < 1000);
        }

        #[test]
        fn lists_keep_their_rows(rows in prop::collection::vec(prop::option::of(prop::collection::vec("[a-c]{0,3}", 0..5)), 1..40)) {
            let rows: Vec<Value> = rows.into_iter().map(|list| json!({"x": "k", "l": list})).collect();
            // A column of nothing but null and empty lists has no type to come back with.
            prop_assume!(rows.iter().any(|row| row["l"].as_array().is_some_and(|list| !list.is_empty())));
            prop_assert_eq!(round(&rows), rows);
        }
    }
}
