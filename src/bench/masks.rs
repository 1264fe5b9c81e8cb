//! The MaskBench protocol for one file and one engine.
//!
//! Compile, then walk every instance token by token: mask, check, advance. Nothing here knows which engine it
//! drives; limits and processes are `supervise`'s.
//!
//! What is timed:
//! - *compile*: from the parsed schema to an engine object; *first mask* (TTFM): that, and the mask of the empty
//!   text. Each is the least of three, or of one where the first took more than a second.
//! - *cold*: each token (mask, check, advance) of the first pass over each instance, in file order, with what the
//!   engine learnt from the instances before it in the same file, and nothing from other files.
//! - *warm*: a second pass over each instance after the first pass over all of the file; the clock is read once a
//!   pass, and each token of a pass counts with the pass's mean.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::input::BenchCase;
use instil_grammar::vocab::TokenId;

/// An engine under test, with all that it computes once a vocabulary.
pub(crate) trait Engine {
    /// Compiles a schema.
    ///
    /// # Errors
    /// The reason why the engine refuses the schema, on one line.
    fn compile(&mut self, schema: &Value) -> Result<Box<dyn Matcher>, String>;
}

/// A compiled schema walking one text after another.
pub(crate) trait Matcher {
    /// Goes back to the empty text. What was learnt stays.
    fn start(&mut self);

    /// Computes the mask of the present place in full.
    fn mask(&mut self);

    /// Computes the mask; when `token` is in it, advances and returns true.
    fn step(&mut self, token: TokenId) -> bool;

    /// True when the text so far may end here.
    fn is_accepting(&mut self) -> bool;
}

/// What became of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Walk {
    /// Every token passed and the text may end.
    pub accepted: bool,
    /// Tokens that passed; fewer than there are where one was not in the mask.
    pub passed: usize,
}

/// What one file gave.
#[derive(Clone, Debug, Default)]
pub(crate) struct FileResult {
    /// Why the engine refused the schema.
    pub refused: Option<String>,
    /// One for each instance, in order; empty when refused.
    pub walks: Vec<Walk>,
    /// Least time from parsed schema to compiled object.
    pub compile_ns: u64,
    /// Least time from parsed schema to first mask.
    pub first_mask_ns: u64,
    /// Each token of the first passes.
    pub cold_ns: Vec<u64>,
    /// Each second pass that ended where the first did: time and tokens.
    pub warm_ns: Vec<(u64, u64)>,
    /// Second passes that ended at another token than the first: the engine's masks depend on its history.
    pub unsteady: usize,
    /// Wall time of everything above.
    pub wall_ns: u64,
}

/// Longest first compile that is repeated for the least of three.
const REPEAT_BELOW: Duration = Duration::from_secs(1);

/// Runs the protocol. `tokens` are those of the case's instances, in order.
pub(crate) fn run_file(engine: &mut dyn Engine, case: &BenchCase, tokens: &[Vec<TokenId>]) -> FileResult {
    let wall = Instant::now();
    let mut result = FileResult::default();
    let (mut compile, mut first_mask) = (Duration::MAX, Duration::MAX);
    for _ in 0..2 {
        let start = Instant::now();
        match engine.compile(&case.schema) {
            Ok(mut matcher) => {
                compile = compile.min(start.elapsed());
                matcher.start();
                matcher.mask();
                first_mask = first_mask.min(start.elapsed());
            }
            Err(reason) => {
                result.refused = Some(reason);
                result.wall_ns = nanos(wall.elapsed());
                return result;
            }
        }
        if first_mask > REPEAT_BELOW {
            break;
        }
    }
    let start = Instant::now();
    let mut matcher = match engine.compile(&case.schema) {
        Ok(matcher) => matcher,
        Err(reason) => {
            result.refused = Some(reason);
            return result;
        }
    };
    let third = start.elapsed();
    compile = compile.min(third);

    for (index, tokens) in tokens.iter().enumerate() {
        matcher.start();
        let mut passed = 0;
        let mut last = Instant::now();
        for &token in tokens {
            let allowed = matcher.step(token);
            let now = Instant::now();
            if index == 0 && passed == 0 {
                first_mask = first_mask.min(third + (now - last));
            }
            result.cold_ns.push(nanos(now - last));
            last = now;
            if !allowed {
                break;
            }
            passed += 1;
        }
        let accepted = passed == tokens.len() && matcher.is_accepting();
        result.walks.push(Walk { accepted, passed });
    }
    for (tokens, walk) in tokens.iter().zip(&result.walks) {
        let steps = tokens.len().min(walk.passed + 1);
        matcher.start();
        let start = Instant::now();
        let mut passed = 0;
        for &token in &tokens[..steps] {
            if !matcher.step(token) {
                break;
            }
            passed += 1;
        }
        let elapsed = start.elapsed();
        if passed != walk.passed {
            result.unsteady += 1;
        } else if steps > 0 {
            result.warm_ns.push((nanos(elapsed), steps as u64));
        }
    }
    result.compile_ns = nanos(compile);
    result.first_mask_ns = nanos(first_mask);
    result.wall_ns = nanos(wall.elapsed());
    result
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
