//! Says which transform crashed. The crash itself goes on: the process ends as it would have.
//!
//! A plugin is native code: its own memory errors end the process, and nothing can be done about that but naming
//! the culprit. Only the command does so; the library installs no signal handler.

use std::mem::MaybeUninit;
use std::ptr;
use std::sync::OnceLock;

/// The signals of a program that has gone wrong, and what was to be done about them before.
static BEFORE: OnceLock<Vec<(i32, libc::sigaction)>> = OnceLock::new();

const SIGNALS: [i32; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT];

/// Installs the handlers, once.
pub(crate) fn install() {
    BEFORE
        .get_or_init(|| SIGNALS.iter().filter_map(|&signal| Some((signal, install_one(signal)?))).collect());
}

fn install_one(signal: i32) -> Option<libc::sigaction> {
    // SAFETY: sigaction is plain data for which all zero is valid; the handler has the type that the flags ask for
    // and does only what a signal handler may (signal-safety(7)).
    unsafe {
        let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
        let handler: extern "C" fn(i32) = write_line;
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_ONSTACK;
        let mut before: libc::sigaction = MaybeUninit::zeroed().assume_init();
        (libc::sigaction(signal, &action, &mut before) == 0).then_some(before)
    }
}

/// Writes one line, puts back what was there before, and lets the signal happen again.
extern "C" fn write_line(signal: i32) {
    if let Some(id) = resay::running_transform() {
        let name = match signal {
            libc::SIGSEGV => "SIGSEGV",
            libc::SIGBUS => "SIGBUS",
            libc::SIGILL => "SIGILL",
            libc::SIGFPE => "SIGFPE",
            _ => "SIGABRT",
        };
        let parts: [&[u8]; 5] = [b"resay: transform ", id.to_bytes(), b" crashed: ", name.as_bytes(), b"\n"];
        for part in parts {
            // SAFETY: write(2) of bytes that live during the call. That it fails changes nothing.
            unsafe { libc::write(libc::STDERR_FILENO, part.as_ptr().cast(), part.len()) };
        }
    }
    let before = BEFORE.get().and_then(|all| all.iter().find(|(known, _)| *known == signal));
    // SAFETY: what sigaction gave out is put back, or else the default; raise is allowed here. The signal is blocked
    // until this handler returns, and is then handled anew.
    unsafe {
        match before {
            Some((_, action)) => libc::sigaction(signal, action, ptr::null_mut()),
            None => libc::signal(signal, libc::SIG_DFL) as i32,
        };
        libc::raise(signal);
    }
}
