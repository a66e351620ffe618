//! Where the figures come from.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use resay::Engine;

use crate::control::report::Stats;
use crate::exit::Failure;
use crate::health::Readiness;
use crate::log::Log;
use crate::output;
use crate::reload::Reloader;

/// What is asked for its figures.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) engine: Arc<Engine>,
    /// Where there is a configuration file.
    pub(crate) reloader: Option<Arc<Reloader>>,
    pub(crate) readiness: Readiness,
    pub(crate) log: Log,
    pub(crate) workers: usize,
    started: Instant,
    /// The same in seconds since 1970.
    pub(super) start_seconds: f64,
}

impl Source {
    pub(crate) fn new(
        engine: &Arc<Engine>,
        reloader: Option<&Arc<Reloader>>,
        readiness: &Readiness,
        log: &Log,
        workers: usize,
    ) -> Source {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Source {
            engine: Arc::clone(engine),
            reloader: reloader.cloned(),
            readiness: readiness.clone(),
            log: log.clone(),
            workers,
            started: Instant::now(),
            start_seconds: since.map_or(0.0, |since| since.as_secs_f64()),
        }
    }

    pub(super) fn stats_json(&self) -> Result<String, Failure> {
        let names = self.reloader.as_ref().map(|reloader| reloader.names()).unwrap_or_default();
        output::json(&Stats::of(&self.engine, self.readiness.get(), self.started.elapsed(), &names))
    }
}
