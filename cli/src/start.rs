//! What has to be done before `main`, and the calls that this takes.
//!
//! The standard library's own start opens /dev/null in place of a standard output that is closed: what is written would
//! vanish without an error. And a signal that comes before its handler is installed takes the system's default action:
//! it would end `serve` without draining, or the kernel drops it altogether if `serve` is the first process of a
//! container. So the former is looked at, and the latter are blocked, before anything else.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::OnceLock;

use libc::{c_int, sigset_t};

use crate::notify;

/// The signals that are held.
const HELD: [c_int; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

/// How the process was started.
#[derive(Debug)]
struct Entry {
    has_stdout: bool,
    /// The signals that were blocked; `None`: the system did not say.
    blocked: Option<sigset_t>,
}

static ENTRY: OnceLock<Entry> = OnceLock::new();

/// The C library calls it before `main`.
// SAFETY: the section holds pointers to functions that take no argument that they use; this is one.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = before_main;

extern "C" fn before_main() {
    // SAFETY: fcntl(2) with F_GETFD only looks the number up.
    let flags = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) };
    // A program of tests has another `main`, which would never let them through.
    let held: &[c_int] = if cfg!(any(test, fuzzing)) { &[] } else { &HELD };
    let blocked = change_mask(libc::SIG_BLOCK, &set_of(held)).ok();
    let _ = ENTRY.set(Entry { has_stdout: flags != -1, blocked });
}

/// Whether standard output was open when the process started.
pub(crate) fn has_stdout() -> bool {
    ENTRY.get().is_none_or(|entry| entry.has_stdout)
}

/// Blocks what was blocked on entry, and nothing else.
pub(crate) fn restore_mask() {
    if let Some(blocked) = ENTRY.get().and_then(|entry| entry.blocked.as_ref()) {
        // A set that the system gave out, and a constant: this does not fail.
        let _ = change_mask(libc::SIG_SETMASK, blocked);
    }
}

/// Lets these signals through, those that have come meanwhile first.
pub(crate) fn unblock(signals: &[c_int]) -> io::Result<()> {
    change_mask(libc::SIG_UNBLOCK, &set_of(signals)).map(drop)
}

/// Lets no program that a transform starts take for its own what a service manager has passed: sockets (sd_listen_fds(3)), and
/// where it listens (sd_notify(3)). To be called while there is one thread.
pub(crate) fn take_from_manager() {
    let sockets = resay::read_passed_sockets();
    for variable in sockets.into_iter().chain(notify::read_environment()) {
        // SAFETY: there is no other thread yet that could read the environment.
        unsafe { std::env::remove_var(variable) };
    }
}

pub(crate) fn is_ignored(signal: c_int) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: sigaction(2) without a new action only writes the present one; all zero is a valid one too.
    let action = unsafe {
        libc::sigaction(signal, ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    action.sa_sigaction == libc::SIG_IGN
}

fn set_of(signals: &[c_int]) -> sigset_t {
    let mut set = MaybeUninit::<sigset_t>::zeroed();
    // SAFETY: sigemptyset(3) makes a valid set of any memory of its size, sigaddset(3) changes a valid one.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for &signal in signals {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        set.assume_init()
    }
}

/// Changes what this thread blocks; returns what it blocked before.
fn change_mask(how: c_int, set: &sigset_t) -> io::Result<sigset_t> {
    let mut before = MaybeUninit::<sigset_t>::zeroed();
    // SAFETY: pthread_sigmask(3) reads one valid set and writes another, for which all zero is valid as well.
    let (error, before) = unsafe {
        let error = libc::pthread_sigmask(how, set, before.as_mut_ptr());
        (error, before.assume_init())
    };
    if error == 0 { Ok(before) } else { Err(io::Error::from_raw_os_error(error)) }
}
