//! Waiting for what must happen.

use std::thread;
use std::time::{Duration, Instant};

use resay::{Engine, Stats};

/// How long anything may take before it counts as never: machines are shared and slow. Only a test that fails waits so
/// long, so there is no reason for less anywhere.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Repeats `attempt` until it succeeds, or fails the test with its last words.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(50);
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(why) if Instant::now() > deadline => panic!("not within {PATIENCE:?}: {what}: {why}"),
            Err(_) => thread::sleep(pause),
        }
        pause = (pause * 2).min(Duration::from_millis(5));
    }
}

/// Waits until the engine's figures satisfy `wanted`.
#[track_caller]
pub(crate) fn eventually_stats(engine: &Engine, what: &str, wanted: impl Fn(&Stats) -> bool) -> Stats {
    eventually(what, || {
        let stats = engine.stats();
        if wanted(&stats) { Ok(stats) } else { Err(format!("{stats:?}")) }
    })
}

/// Takes its time, where being slow is what a test is about; never to wait for something to happen.
pub(crate) fn pace(time: Duration) {
    thread::sleep(time);
}
