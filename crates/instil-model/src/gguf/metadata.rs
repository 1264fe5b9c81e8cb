//! The key-value part of a GGUF file, with accessors whose errors name the key.

use std::path::{Path, PathBuf};

use rustc_hash::FxHashMap;

use crate::error::{Error, Result};

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Any of the unsigned integer types.
    Unsigned(u64),
    /// Any of the signed integer types.
    Signed(i64),
    /// Either float type; a 32-bit float keeps its exact value.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// A text.
    String(String),
    /// A list of one type.
    Array(Array),
}

/// A list, stored by element type.
#[derive(Clone, Debug, PartialEq)]
pub enum Array {
    /// 8-bit unsigned integers.
    Bytes(Vec<u8>),
    /// Other unsigned integers.
    Unsigned(Vec<u64>),
    /// Signed integers.
    Signed(Vec<i64>),
    /// 32-bit floats.
    Float(Vec<f32>),
    /// 64-bit floats.
    Double(Vec<f64>),
    /// Truth values.
    Bool(Vec<bool>),
    /// Texts.
    String(Vec<String>),
    /// Lists of lists.
    Nested(Vec<Array>),
}

/// All keys and values of a file, in file order.
#[derive(Clone, Debug)]
pub struct Metadata {
    path: PathBuf,
    entries: Vec<(String, Value)>,
    by_key: FxHashMap<String, usize>,
}

impl Metadata {
    /// Empty metadata; `path` is what errors name.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), entries: Vec::new(), by_key: FxHashMap::default() }
    }

    /// The file the values come from.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a value; false, and nothing changed, when the key is there already.
    pub fn insert(&mut self, key: impl Into<String>, value: Value) -> bool {
        let key = key.into();
        if self.by_key.contains_key(&key) {
            return false;
        }
        self.by_key.insert(key.clone(), self.entries.len());
        self.entries.push((key, value));
        true
    }

    /// Every key and value, in file order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.by_key.get(key).map(|&index| &self.entries[index].1)
    }

    /// A text that must be there.
    ///
    /// # Errors
    /// When the key is missing or holds something else.
    pub fn str(&self, key: &str) -> Result<&str> {
        self.required(key, self.opt_str(key)?)
    }

    /// A text, or `None` when the key is missing.
    ///
    /// # Errors
    /// When the key holds something else.
    pub(crate) fn opt_str(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a text", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// A non-negative integer below 2³² that must be there.
    ///
    /// # Errors
    /// When the key is missing or holds something else.
    pub fn u32(&self, key: &str) -> Result<u32> {
        self.required(key, self.opt_u32(key)?)
    }

    /// A non-negative integer below 2³², or `None` when the key is missing.
    ///
    /// # Errors
    /// When the key holds something else.
    pub fn opt_u32(&self, key: &str) -> Result<Option<u32>> {
        self.typed(key, "an integer from 0 to 4294967295", |value| match value {
            Value::Unsigned(number) => u32::try_from(*number).ok(),
            Value::Signed(number) => u32::try_from(*number).ok(),
            _ => None,
        })
    }

    /// A number that must be there.
    ///
    /// # Errors
    /// When the key is missing or holds something else.
    pub(crate) fn f32(&self, key: &str) -> Result<f32> {
        self.required(key, self.opt_f32(key)?)
    }

    /// A number, or `None` when the key is missing.
    ///
    /// # Errors
    /// When the key holds something else.
    pub fn opt_f32(&self, key: &str) -> Result<Option<f32>> {
        self.typed(key, "a number", |value| match value {
            Value::Float(number) => Some(*number as f32),
            Value::Unsigned(number) => Some(*number as f32),
            Value::Signed(number) => Some(*number as f32),
            _ => None,
        })
    }

    /// A truth value, or `None` when the key is missing.
    ///
    /// # Errors
    /// When the key holds something else.
    pub fn opt_bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "a truth value", |value| match value {
            Value::Bool(truth) => Some(*truth),
            _ => None,
        })
    }

    /// A list of texts that must be there.
    ///
    /// # Errors
    /// When the key is missing or holds something else.
    pub fn strings(&self, key: &str) -> Result<&[String]> {
        self.required(key, self.opt_strings(key)?)
    }

    /// A list of texts, or `None` when the key is missing.
    ///
    /// # Errors
    /// When the key holds something else.
    pub(crate) fn opt_strings(&self, key: &str) -> Result<Option<&[String]>> {
        self.typed(key, "a list of texts", |value| match value {
            Value::Array(Array::String(texts)) => Some(texts.as_slice()),
            _ => None,
        })
    }

    /// A list of integers, or `None` when the key is missing.
    ///
    /// # Errors
    /// When the key holds something else, or a number beyond 63 bits.
    pub fn opt_integers(&self, key: &str) -> Result<Option<Vec<i64>>> {
        self.typed(key, "a list of integers", |value| match value {
            Value::Array(Array::Signed(numbers)) => Some(numbers.clone()),
            Value::Array(Array::Unsigned(numbers)) => numbers.iter().map(|&number| number.try_into().ok()).collect(),
            Value::Array(Array::Bytes(numbers)) => Some(numbers.iter().map(|&number| number.into()).collect()),
            _ => None,
        })
    }

    /// A list of numbers as 32-bit floats, or `None` when the key is missing.
    ///
    /// # Errors
    /// When the key holds something else.
    pub fn opt_floats(&self, key: &str) -> Result<Option<Vec<f32>>> {
        self.typed(key, "a list of numbers", |value| match value {
            Value::Array(Array::Float(numbers)) => Some(numbers.clone()),
            Value::Array(Array::Double(numbers)) => Some(numbers.iter().map(|&number| number as f32).collect()),
            Value::Array(Array::Signed(numbers)) => Some(numbers.iter().map(|&number| number as f32).collect()),
            _ => None,
        })
    }

    fn required<T>(&self, key: &str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| {
            let what = format!("metadata key `{key}` is missing");
            Error::input(&self.path, what, "the file is incomplete or of another architecture; use another file")
        })
    }

    fn typed<'a, T>(&'a self, key: &str, wanted: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| {
            let what = format!("metadata key `{key}` is {}, not {wanted}", value.describe());
            Error::input(&self.path, what, "the file is damaged; get it again")
        })
    }
}

impl Value {
    fn describe(&self) -> String {
        match self {
            Self::Unsigned(number) => number.to_string(),
            Self::Signed(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Bool(truth) => truth.to_string(),
            Self::String(_) => "a text".into(),
            Self::Array(_) => "a list of another kind".into(),
        }
    }
}
