//! Which cores threads run on.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Does something on one core, such as starting a process that stays there, and comes back.
pub(crate) fn on<R>(core: Option<usize>, work: impl FnOnce() -> R) -> (R, io::Result<()>) {
    let Some(core) = core else { return (work(), Ok(())) };
    let before = allowed();
    let pinned = pin(core);
    let result = work();
    if pinned.is_ok() {
        free(&before);
    }
    (result, pinned)
}

/// The cores that this process may use.
pub(crate) fn allowed() -> Vec<usize> {
    sched_getaffinity(None)
        .map(|set| (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect())
        .unwrap_or_default()
}

/// Keeps the calling thread, and what it starts from now on, on one core.
pub(crate) fn pin(core: usize) -> io::Result<()> {
    if core >= CpuSet::MAX_CPU {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no such core"));
    }
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).map_err(Into::into)
}

/// Puts the calling thread back on these cores.
fn free(cores: &[usize]) {
    let mut set = CpuSet::new();
    cores.iter().filter(|&&core| core < CpuSet::MAX_CPU).for_each(|&core| set.set(core));
    // What it could use before, it may use again.
    let _ = sched_setaffinity(None, &set);
}
