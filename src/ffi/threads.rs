//! The program's part in the engine's threads.

use std::ffi::{c_char, c_int, c_void};

use super::callback::{Owned, resay_release};
use super::engine::{Waits, resay_engine, with_engine};
use super::error::resay_error;

/// Runs on a thread of the engine's before everything else there. thread is the thread's name, borrowed for the call.
/// resay_function lists the functions that are allowed inside.
pub type resay_thread_begin = Option<unsafe extern "C" fn(user: *mut c_void, thread: *const c_char)>;

/// Runs on a thread of the engine's after everything else there, and after resay_thread_begin.
pub type resay_thread_end = Option<unsafe extern "C" fn(user: *mut c_void)>;

/// [*] Sets what runs at the beginning and at the end of every thread of the engine's: those of resay_start, of the pool for
/// transforms that may block, and helpers that live for a single system call. Either may be NULL. A thread that
/// begins also ends, before resay_join returns 0, and at the latest in resay_engine_free: the place to attach a thread to an
/// interpreter, and to detach it. Threads that the program lends have no hooks.
///
/// The hooks take the place of those before. release is called with user exactly once.
/// Returns 0; RESAY_E_STATE: the engine has run, RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_thread_hooks(
    engine: *mut resay_engine,
    begin: resay_thread_begin,
    end: resay_thread_end,
    user: *mut c_void,
    release: resay_release,
) -> c_int {
    // Dropped, and so released, on every way out but the last.
    let mut owned = Owned::new(user, release);
    let err: *mut resay_error = std::ptr::null_mut();
    with_engine(engine, Waits::No, err, move |engine| {
        owned.belongs_to(engine.serial);
        let (begin, end) = owned.into_thread_hooks(begin, end);
        engine.engine.set_thread_hooks(begin, end)?;
        Ok(0)
    })
}
