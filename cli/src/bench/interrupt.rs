//! Ctrl-C, or SIGTERM, ends a measurement early: what was measured until then is reported, and the command ends as the
//! signal would have ended it. A second one ends it at once.

use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::emulate_default_handler;

use super::server;
use crate::exit::{Exit, Failure};
use crate::signals;

/// The signal that came first; 0: none has.
static SIGNAL: AtomicI32 = AtomicI32::new(0);

/// How the measurement was interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interrupt {
    Int,
    Term,
}

impl Interrupt {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Interrupt::Int => "SIGINT",
            Interrupt::Term => "SIGTERM",
        }
    }

    pub(crate) fn exit(self) -> Exit {
        match self {
            Interrupt::Int => Exit::Interrupted,
            Interrupt::Term => Exit::Terminated,
        }
    }
}

/// Handles signals from now on. Servers that were started end with the command.
pub(crate) fn watch() -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::new(Exit::Unreachable, format!("handle signals: {error}"));
    let mut signals = signals::handle(&[SIGINT, SIGTERM, SIGHUP]).map_err(failed)?;
    let wait = move || {
        for signal in signals.forever() {
            let is_first = SIGNAL.compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed).is_ok();
            if !is_first || signal == SIGHUP {
                server::end_all();
                let _ = emulate_default_handler(signal);
            }
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(wait).map(drop).map_err(failed)
}

/// The interruption, if there was one.
pub(crate) fn seen() -> Option<Interrupt> {
    match SIGNAL.load(Ordering::Relaxed) {
        SIGINT => Some(Interrupt::Int),
        SIGTERM => Some(Interrupt::Term),
        _ => None,
    }
}
