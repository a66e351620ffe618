//! Signals that the command handles. They are held from before `main` (see [`crate::start`]) until their handlers are
//! there, and then come.
//!
//! What was ignored on entry stays ignored: `nohup` ignores SIGHUP, and a shell without job control ignores SIGINT in
//! what it starts in the background.

use std::io;

use signal_hook::iterator::Signals;

use crate::start;

/// Handles these signals, as far as they were not ignored on entry, and lets them through.
pub(crate) fn handle(signals: &[i32]) -> io::Result<Signals> {
    let heeded = signals.iter().copied().filter(|&signal| !start::is_ignored(signal));
    let handled = Signals::new(heeded.collect::<Vec<_>>())?;
    start::unblock(signals)?;
    Ok(handled)
}
