//! What a probe finds out: it passed, was skipped, or the plugin violates a promise.

use crate::promise::Promise;

/// A broken promise, and how it was broken.
#[derive(Debug, Clone)]
pub(crate) struct Violation {
    pub(crate) promise: Promise,
    pub(crate) what: String,
    pub(crate) details: Vec<(String, String)>,
}

impl Violation {
    pub(crate) fn of(promise: Promise, what: String) -> Violation {
        Violation { promise, what, details: Vec::new() }
    }

    pub(crate) fn with(mut self, name: &str, value: String) -> Violation {
        self.details.push((name.to_owned(), value));
        self
    }
}

/// The result of a check.
pub(crate) type Check<T> = Result<T, Violation>;

/// How a probe ends when nothing is violated.
#[derive(Debug)]
pub(crate) enum Verdict {
    Passed,
    /// It passed, and these texts were asked for.
    Data(Vec<String>),
    /// Nothing was tested; why.
    Skipped(String),
}
