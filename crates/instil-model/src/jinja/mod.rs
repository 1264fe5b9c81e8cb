//! Templates (Jinja) rendered within bounds: those of model files, which nobody here wrote, and those of recipes.
//!
//! Whatever a template says, it ends in a text or in a [`Fault`] of one line. The source is held to bounds before it is
//! parsed; parsing and rendering have a stack of their own; steps, memory, output and the nesting of values are
//! bounded; and a rendering that is slow all the same is left behind. What the words of a template mean is
//! [`python`]'s to say.

mod python;
mod scan;

use std::collections::HashSet;
use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value};
use serde::{Serialize, Serializer};
use serde_json::Value as Json;

/// Stack of a thread that parses or renders: the first that the system gives. Of what is not touched no memory is taken;
/// where addresses are limited, a smaller one holds all but templates that were made to overflow it.
const STACK_BYTES: [usize; 3] = [256 << 20, 32 << 20, 4 << 20];
/// Steps that a rendering may take, besides those for the bytes of its values; one is also 64 bytes of memory. Real
/// chat templates take some thousands.
const STEPS: u64 = 300_000;
/// Steps for each byte of the values, since templates look at them several times.
const STEPS_PER_BYTE: u64 = 64;
/// Longest text that a rendering gives, besides what its values may make.
const MOST_OUTPUT_BYTES: usize = 1 << 22;
/// Bytes of text for each byte of the values.
const OUTPUT_PER_BYTE: usize = 64;
/// After that long a rendering is left behind; it is for what steps do not count.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest message of a fault, in characters: a template may raise any text.
const MOST_MESSAGE: usize = 300;

/// Templates by name, and what they can use.
#[derive(Clone)]
pub struct Jinja {
    environment: Environment<'static>,
}

/// Why a template cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It asks for more than a template may: which bound it exceeds.
    Excess(String),
    /// It is no template, or cannot be rendered with these values.
    Wrong {
        /// What is wrong, on one line.
        what: String,
        /// The line of the template, from 1.
        line: Option<usize>,
        /// It uses a value that is not there.
        undefined: bool,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Excess(what) | Self::Wrong { what, line: None, .. } => f.write_str(what),
            Self::Wrong { what, line: Some(line), .. } => write!(f, "{what} (line {line})"),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        if error.kind() == ErrorKind::OutOfFuel {
            return Self::Excess("takes more steps or memory than a template may".into());
        }
        let text = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
        let plain = |character: char| character.is_whitespace() || character.is_control();
        let words: Vec<&str> = text.split(plain).filter(|word| !word.is_empty()).collect();
        let what = words.join(" ").chars().take(MOST_MESSAGE).collect();
        Self::Wrong { what, line: error.line(), undefined: error.kind() == ErrorKind::UndefinedError }
    }
}

impl Jinja {
    /// No templates yet, which will mean what they mean to the transformers library: blocks trimmed, values written as
    /// Python writes them, unknown names empty.
    pub fn of_transformers() -> Self {
        let mut jinja = Self::with(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true));
        python::add_to(&mut jinja.environment);
        jinja
    }

    /// No templates yet, which may use known names only, and keep their last newline.
    pub fn strict() -> Self {
        let mut jinja =
            Self::with(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true));
        jinja.environment.set_undefined_behavior(UndefinedBehavior::Strict);
        python::add_bounds_to(&mut jinja.environment);
        jinja
    }

    fn with(syntax: &mut minijinja::syntax::SyntaxConfigBuilder) -> Self {
        let mut environment = Environment::new();
        environment.set_syntax(syntax.build().expect("the usual delimiters are distinct"));
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        Self { environment }
    }

    /// For filters and functions of the caller's.
    pub fn environment(&mut self) -> &mut Environment<'static> {
        &mut self.environment
    }

    /// Whether a template of that name was added.
    pub fn has(&self, name: &str) -> bool {
        self.environment.get_template(name).is_ok()
    }

    /// Adds a template.
    ///
    /// # Errors
    /// When the source exceeds a bound, or is no template.
    pub fn add(&mut self, name: &str, source: &str) -> Result<(), Fault> {
        let source = scan::prepared(source).map_err(Fault::Excess)?;
        let (mut environment, name) = (self.environment.clone(), name.to_owned());
        self.environment = on_own_stack(move || environment.add_template_owned(name, source).map(|()| environment))??;
        Ok(())
    }

    /// The text of a template that was added, with `values`, whose texts have `bytes` bytes.
    ///
    /// # Errors
    /// When it exceeds a bound, or cannot be rendered.
    pub fn render(&self, name: &str, values: Value, bytes: usize) -> Result<String, Fault> {
        let (environment, name) = (self.within(bytes), name.to_owned());
        let most = MOST_OUTPUT_BYTES.saturating_add(bytes.saturating_mul(OUTPUT_PER_BYTE));
        on_own_stack(move || {
            let mut out = Limited { text: Vec::new(), most, is_over: false };
            let rendered = environment.get_template(&name)?.render_captured_to(values, &mut out).map(drop);
            if out.is_over {
                return Err(Fault::Excess(format!("gives more than {most} bytes")));
            }
            rendered?;
            Ok(String::from_utf8(out.text).expect("templates write texts"))
        })?
    }

    /// Whether an expression is true of `values`, whose texts have `bytes` bytes.
    ///
    /// # Errors
    /// As [`Jinja::render`].
    pub fn holds(&self, expression: &str, values: Value, bytes: usize) -> Result<bool, Fault> {
        let expression = scan::prepared_expression(expression).map_err(Fault::Excess)?;
        let environment = self.within(bytes);
        on_own_stack(move || Ok(environment.compile_expression(&expression)?.eval(values)?.is_true()))?
    }

    /// The names that a template uses and does not set; with `nested`, as in `a.b`.
    ///
    /// # Errors
    /// As [`Jinja::add`].
    pub fn names(&self, source: &str, nested: bool) -> Result<HashSet<String>, Fault> {
        let source = scan::prepared(source).map_err(Fault::Excess)?;
        let environment = self.environment.clone();
        on_own_stack(move || Ok(environment.template_from_str(&source)?.undeclared_variables(nested)))?
    }

    /// As [`Jinja::names`], for an expression without braces.
    ///
    /// # Errors
    /// As [`Jinja::add`].
    pub fn names_of_expression(&self, expression: &str) -> Result<HashSet<String>, Fault> {
        let expression = scan::prepared_expression(expression).map_err(Fault::Excess)?;
        let environment = self.environment.clone();
        on_own_stack(move || Ok(environment.compile_expression(&expression)?.undeclared_variables(false)))?
    }

    fn within(&self, bytes: usize) -> Environment<'static> {
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(STEPS.saturating_add(STEPS_PER_BYTE.saturating_mul(bytes as u64))));
        environment
    }
}

/// JSON as templates see it. Numbers of `serde_json` serialise as maps to all but its own writer, so they are handed
/// over as plain ones.
pub struct Plain<'a>(pub &'a Json);

impl Serialize for Plain<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Json::Null => serializer.serialize_unit(),
            Json::Bool(truth) => serializer.serialize_bool(*truth),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => serializer.serialize_i64(number),
                (None, Some(number)) => serializer.serialize_u64(number),
                (None, None) => serializer.serialize_f64(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => serializer.serialize_str(text),
            Json::Array(list) => serializer.collect_seq(list.iter().map(Plain)),
            Json::Object(map) => serializer.collect_map(map.iter().map(|(name, value)| (name, Plain(value)))),
        }
    }
}

impl fmt::Debug for Jinja {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Jinja")
    }
}

/// Does `work` on a thread with a large stack, for as long as there is patience.
fn on_own_stack<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
    let (sender, receiver) = mpsc::channel();
    let wrong = |what: String| Fault::Wrong { what, line: None, undefined: false };
    let work = Arc::new(Mutex::new(Some((work, sender))));
    let begun = STACK_BYTES.into_iter().try_fold(None, |_, bytes| {
        let work = Arc::clone(&work);
        let run = move || {
            let taken = work.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some((work, sender)) = taken {
                // Nobody may wait for the answer any more.
                drop(sender.send(work()));
            }
        };
        match std::thread::Builder::new().name("template".into()).stack_size(bytes).spawn(run) {
            Ok(_) => Err(()),
            Err(cause) => Ok(Some(cause)),
        }
    });
    drop(work);
    if let Ok(Some(cause)) = begun {
        return Err(Fault::Excess(format!("gets no thread to be rendered on: {cause}")));
    }
    receiver.recv_timeout(PATIENCE).map_err(|cause| match cause {
        mpsc::RecvTimeoutError::Timeout => Fault::Excess(format!("takes longer than {} s", PATIENCE.as_secs())),
        mpsc::RecvTimeoutError::Disconnected => wrong("the template engine failed on it".into()),
    })
}

/// A text of bounded length.
struct Limited {
    text: Vec<u8>,
    most: usize,
    is_over: bool,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.text.len() + bytes.len() > self.most {
            self.is_over = true;
            return Err(io::Error::other("the text is too long"));
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
