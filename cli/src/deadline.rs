//! One limit for several waits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use resay::Error;

use crate::exit::{Exit, Failure};
use crate::help;

/// One limit for all that is waited for.
#[derive(Debug, Clone)]
pub(crate) struct Deadline {
    /// Whom it waits for: a URL, a path. The library does not name it when the time is over.
    whom: Arc<str>,
    limit: Duration,
    at: Option<Instant>,
}

impl Deadline {
    /// So long from now, for an answer of `whom`; 0 is no limit.
    pub(crate) fn after(limit: Duration, whom: &str) -> Deadline {
        Deadline {
            whom: whom.into(),
            limit,
            at: help::limit(limit).and_then(|limit| Instant::now().checked_add(limit)),
        }
    }

    /// What is left; `None` is no limit.
    pub(crate) fn left(&self) -> Result<Option<Duration>, Failure> {
        let left = self.at.map(|at| at.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) { Err(self.passed("time is up")) } else { Ok(left) }
    }

    /// The library knows only what was left of the limit.
    pub(crate) fn failure(&self, error: Error) -> Failure {
        match error {
            Error::Timeout { what, .. } => self.passed(what),
            error => error.into(),
        }
    }

    fn passed(&self, what: &str) -> Failure {
        Failure::new(Exit::Timeout, format!("{}: {what}: not done within {:?}", self.whom, self.limit))
    }
}
