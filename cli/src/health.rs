//! Whether the service wants new work: what `/readyz` and `resay ctl health` tell balancers, and who decides it.
//!
//! ```text
//! starting ──> serving ──(the operator: ctl health fail | ok)── failed
//!                 └──> lame duck ──> draining ──> stopping      whatever the operator says; there is no way back
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// What the service is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Health {
    /// Not every listener listens yet.
    Starting,
    /// It takes new connections, and wants them.
    Serving,
    /// It serves; the operator wants others to be asked.
    Failed,
    /// It serves, and will soon drain.
    LameDuck,
    /// It answers what has arrived, and ends.
    Draining,
    /// It ends.
    Stopping,
}

impl Health {
    pub(crate) const ALL: [Health; 6] = [
        Health::Starting,
        Health::Serving,
        Health::Failed,
        Health::LameDuck,
        Health::Draining,
        Health::Stopping,
    ];

    /// The name in snake_case, for programs: it is the same in all versions.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Health::Starting => "starting",
            Health::Serving => "serving",
            Health::Failed => "failed",
            Health::LameDuck => "lame_duck",
            Health::Draining => "draining",
            Health::Stopping => "stopping",
        }
    }

    /// Whether new work is welcome.
    pub(crate) fn is_ready(self) -> bool {
        self == Health::Serving
    }
}

/// The health of one service; clones are the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Readiness(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    /// The furthest [`Health`] on the way to the end.
    phase: AtomicU8,
    is_failed: AtomicBool,
}

impl Readiness {
    pub(crate) fn get(&self) -> Health {
        let phase = usize::from(self.0.phase.load(Ordering::Relaxed));
        match Health::ALL.get(phase) {
            Some(Health::Serving) if self.0.is_failed.load(Ordering::Relaxed) => Health::Failed,
            Some(phase) => *phase,
            None => Health::Stopping,
        }
    }

    /// The service goes on to this phase, and never back.
    pub(crate) fn enter(&self, phase: Health) {
        self.0.phase.fetch_max(phase as u8, Ordering::Relaxed);
    }

    /// The operator wants others to be asked, or no longer.
    pub(crate) fn set_failed(&self, is_failed: bool) {
        self.0.is_failed.store(is_failed, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_the_end_has_no_way_back() {
        let readiness = Readiness::default();
        assert_eq!(readiness.get(), Health::Starting);
        readiness.set_failed(true);
        assert_eq!(readiness.get(), Health::Starting);
        readiness.enter(Health::Serving);
        assert_eq!(readiness.get(), Health::Failed);
        readiness.set_failed(false);
        assert_eq!(readiness.get(), Health::Serving);
        readiness.enter(Health::LameDuck);
        readiness.set_failed(true);
        assert_eq!(readiness.get(), Health::LameDuck);
        readiness.enter(Health::Draining);
        readiness.enter(Health::LameDuck);
        assert_eq!(readiness.get(), Health::Draining);
        let ready: Vec<_> = Health::ALL.into_iter().filter(|health| health.is_ready()).collect();
        assert_eq!(ready, [Health::Serving]);
        for (place, health) in Health::ALL.into_iter().enumerate() {
            assert_eq!(health as usize, place);
        }
    }
}
