//! What the threads of a measurement share, and what others see of them while they run.

use std::fmt::{self, Debug};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crate::talk::Clock;
use crate::tally::Span;

/// How often a thread looks whether something is lost, or everything is silent.
pub(crate) const LOOK_NS: u64 = 20_000_000;

/// What a thread lets others see while it runs.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) answers: AtomicU64,
    pub(crate) has_ended: AtomicBool,
}

/// The clock of a measurement, what its threads have seen so far, and the server's processor time with the answers of all
/// threads until then, where the measured time begins and ends. Whichever thread gets there first looks.
pub struct Probe<'a> {
    pub(crate) clock: Clock,
    pub(crate) seen: Vec<Seen>,
    server_cpu_ns: Option<&'a ServerTime<'a>>,
    begin: OnceLock<(u64, u64)>,
    end: OnceLock<(u64, u64)>,
    /// When the measured time ends, if that is before its time.
    pub(crate) cut: OnceLock<u64>,
}

/// Says how much processor time the server has used so far, in ns, if the system tells.
pub type ServerTime<'a> = dyn Fn() -> Option<u64> + Sync + 'a;

/// The processor time of the server in the measured time, and the answers that it gave meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// The processor time, in ns.
    pub cpu_ns: u64,
    /// The answers.
    pub answers: u64,
}

impl Debug for Probe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").field("seen", &self.seen).field("cut", &self.cut).finish_non_exhaustive()
    }
}

impl<'a> Probe<'a> {
    /// For so many threads. The clock runs from now on.
    pub fn new(threads: usize, server_cpu_ns: Option<&'a ServerTime<'a>>) -> Self {
        let seen = (0..threads).map(|_| Seen::default()).collect();
        let clock = Clock(Instant::now());
        Probe {
            clock,
            seen,
            server_cpu_ns,
            begin: OnceLock::new(),
            end: OnceLock::new(),
            cut: OnceLock::new(),
        }
    }

    /// Nanoseconds since the clock runs.
    pub fn now(&self) -> u64 {
        self.clock.now()
    }

    /// Answers so far.
    pub fn answers(&self) -> u64 {
        self.seen.iter().map(|seen| seen.answers.load(Ordering::Relaxed)).sum()
    }

    /// Whether all threads have ended.
    pub fn is_over(&self) -> bool {
        self.seen.iter().all(|seen| seen.has_ended.load(Ordering::Relaxed))
    }

    /// Ends the measured time soon: late enough that every thread knows before.
    pub fn cut(&self) {
        self.cut.get_or_init(|| self.now() + 2 * LOOK_NS);
    }

    /// What the server has used; `None`: nobody knows, or the measured time is not over.
    pub fn cost(&self) -> Option<Cost> {
        let ((cpu_before, before), (cpu, answers)) = (self.begin.get()?, self.end.get()?);
        Some(Cost { cpu_ns: cpu.saturating_sub(*cpu_before), answers: answers.saturating_sub(*before) })
    }

    pub(crate) fn look(&self, now: u64, span: Span) {
        let Some(server_cpu_ns) = self.server_cpu_ns else { return };
        for (at, place) in [(span.begin, &self.begin), (span.end, &self.end)] {
            if now >= at
                && place.get().is_none()
                && let Some(cpu_ns) = server_cpu_ns()
            {
                place.get_or_init(|| (cpu_ns, self.answers()));
            }
        }
    }
}
