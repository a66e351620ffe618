//! Every probe, in the order in which they run: first those of the library, then those of each transform.

mod cost;
mod create;
mod fuzz;
mod library;
mod life;
mod memory;
mod promises;
#[cfg(target_arch = "x86_64")]
mod races;
mod sessions;
mod state;
mod stream;
mod structs;

#[cfg(target_arch = "x86_64")]
use races::races;

use crate::promise::Promise;
use crate::report::Outcome;
use crate::request::{ProbeResult, Request};
use crate::verdict::{Check, Verdict, Violation};

/// One probe.
pub(crate) struct Probe {
    pub(crate) name: &'static str,
    pub(crate) promise: Promise,
    /// If it fails, the later ones would fail likewise.
    pub(crate) is_essential: bool,
    /// It changes how the plugin runs: if anything but its own promise fails, nothing was tested.
    pub(crate) is_intrusive: bool,
    run: fn(&Request) -> Check<Verdict>,
}

const fn probe(name: &'static str, promise: Promise, run: fn(&Request) -> Check<Verdict>) -> Probe {
    Probe { name, promise, is_essential: false, is_intrusive: false, run }
}

const fn essential(name: &'static str, promise: Promise, run: fn(&Request) -> Check<Verdict>) -> Probe {
    Probe { name, promise, is_essential: true, is_intrusive: false, run }
}

const fn intrusive(name: &'static str, promise: Promise, run: fn(&Request) -> Check<Verdict>) -> Probe {
    Probe { name, promise, is_essential: false, is_intrusive: true, run }
}

/// Those of the library.
pub(crate) const LIBRARY: &[Probe] = &[
    essential("load", Promise::Loads, library::load),
    essential("table", Promise::Table, library::describe),
    probe("entry", Promise::Entry, library::entry),
];

/// Those of each transform.
pub(crate) const TRANSFORM: &[Probe] = &[
    essential("create", Promise::Creates, create::create),
    essential("call", Promise::NoCrash, create::call),
    probe("lifecycle", Promise::Lifecycle, life::lifecycle),
    probe("options", Promise::Options, create::options),
    probe("structs", Promise::StructSize, structs::structs),
    probe("leaks", Promise::Leaks, life::leaks),
    probe("alone", Promise::Alone, life::alone),
    probe("memory", Promise::Place, memory::memory),
    probe("ends", Promise::Ends, stream::ends),
    probe("room", Promise::Room, stream::room),
    probe("bound", Promise::Bound, promises::bound),
    probe("bytewise", Promise::Bytewise, promises::bytewise),
    probe("observer", Promise::Observer, promises::observer),
    probe("alias", Promise::Alias, promises::alias),
    probe("sessions", Promise::Sessions, sessions::interleaved),
    probe("threads", Promise::Threading, sessions::threads),
    intrusive("races", Promise::Threading, races),
    probe("state", Promise::SessionState, state::state),
    probe("unload", Promise::Unload, life::unload),
    probe("fuzz", Promise::NoCrash, fuzz::fuzz),
];

/// What a call costs.
pub(crate) const COST: Probe = probe("cost", Promise::Returns, cost::measure);

#[cfg(not(target_arch = "x86_64"))]
fn races(_: &Request) -> Check<Verdict> {
    Ok(Verdict::Skipped("data races on global variables are looked for on x86-64 only".to_owned()))
}

/// Runs a probe, in the child.
pub(crate) fn answer(request: &Request) -> ProbeResult {
    let mut probes = LIBRARY.iter().chain(TRANSFORM).chain([&COST]);
    let Some(probe) = probes.find(|probe| probe.name == request.probe) else {
        return ProbeResult::new(Promise::Table, Outcome::Skip(format!("no probe '{}'", request.probe)));
    };
    match (probe.run)(request) {
        Ok(Verdict::Passed) => ProbeResult::new(probe.promise, Outcome::Pass),
        Ok(Verdict::Data(data)) => ProbeResult { data, ..ProbeResult::new(probe.promise, Outcome::Pass) },
        Ok(Verdict::Skipped(why)) => ProbeResult::new(probe.promise, Outcome::Skip(why)),
        Err(Violation { promise, what, details }) => {
            ProbeResult { details, ..ProbeResult::new(promise, Outcome::Fail(what)) }
        }
    }
}
