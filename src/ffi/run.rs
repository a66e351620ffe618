//! The three ways to run; stop, drain, join.

use std::ffi::c_int;
use std::ptr;

use super::callback::is_inside_any;
use super::engine::{Waits, is_called, resay_engine, with_engine};
use super::error::{RESAY_E_ARG, RESAY_E_FORKED, RESAY_E_STATE, resay_error};
use super::time::{FOR_EVER, timeout_of};

/// [*] Starts this number of threads of the engine, which block all signals, and returns when every listener is served.
/// Returns 0; RESAY_E_STATE: the engine has run before, or was stopped, RESAY_E_SPEC: threads is not 1 to 256, RESAY_E_SYS,
/// RESAY_E_PLUGIN: a transform cannot be created again for another thread, RESAY_E_ARG. After a failure nothing has changed:
/// the listeners are bound as before, and another start may succeed, for example with fewer threads.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_start(
    engine: *mut resay_engine,
    threads: u32,
    err: *mut resay_error,
) -> c_int {
    with_engine(engine, Waits::No, err, |engine| {
        engine.engine.start_with(threads as usize)?;
        Ok(0)
    })
}

/// [*] Serves on the calling thread: -1 until the engine has ended, 0 for one turn without waiting, else for timeout_ms
/// milliseconds. Lend as many threads as resay_set(engine, "threads", ...) set, 1 by default: connections are shared
/// out among all of them.
/// 1: the engine is alive; 0: it has ended, or what this thread served of it has; RESAY_E_INTR: interrupted by a signal,
/// RESAY_E_STATE: it runs on threads of its own, or enough were lent, RESAY_E_SYS, RESAY_E_PLUGIN, RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_run(engine: *mut resay_engine, timeout_ms: i32) -> c_int {
    with_engine(engine, Waits::Yes, ptr::null_mut(), |engine| {
        Ok(c_int::from(engine.engine.run(timeout_of(timeout_ms)?)?))
    })
}

/// [*] Returns a descriptor for the program's own event loop: when it is readable, call resay_run(engine, 0). It becomes
/// readable for deadlines too. The engine owns the descriptor: do not read, write or close it, and remove it from the loop
/// before resay_engine_free.
/// Errors: RESAY_E_STATE: the engine runs on its own threads, or was set to several threads, RESAY_E_SYS, RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_poll_fd(engine: *mut resay_engine) -> c_int {
    with_engine(engine, Waits::No, ptr::null_mut(), |engine| Ok(engine.engine.poll_fd()?))
}

/// [*] Returns the time in milliseconds, rounded up, after which resay_poll_fd becomes readable by itself; -1: it does not. A
/// loop that watches the descriptor need not ask. Errors: RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_poll_timeout(engine: *mut resay_engine) -> i32 {
    with_engine(engine, Waits::No, ptr::null_mut(), |engine| {
        let timeout = engine.engine.poll_timeout().map(|timeout| timeout.as_micros().div_ceil(1000));
        Ok(timeout.map_or(-1, |timeout| c_int::try_from(timeout).unwrap_or(c_int::MAX)))
    })
}

/// [*] Stops the engine at once and returns without waiting; resay_join waits. It is async-signal-safe: of all functions,
/// a signal handler may call only this one and resay_running_transform.
/// Returns 0; RESAY_E_STATE inside a callback, where it has no effect. The exception is a thread that the program lent, or
/// that is inside a call of the program: there the call may come from a signal handler, so the engine stops although the
/// result is RESAY_E_STATE. RESAY_E_FORKED, RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_stop(engine: *mut resay_engine) -> c_int {
    // Nothing here allocates or locks: no message is made, and nothing can panic.
    // SAFETY: the caller's pointer, as documented.
    let Some(engine) = (unsafe { engine.as_ref() }) else { return RESAY_E_ARG };
    if engine.is_copy() {
        return RESAY_E_FORKED;
    }
    let is_in_callback = is_inside_any();
    if !is_in_callback || is_called() {
        engine.engine.stop();
    }
    if is_in_callback { RESAY_E_STATE } else { 0 }
}

/// [*] Stops listening, answers all that has arrived, closes the connections, and waits for that, at most timeout_ms
/// milliseconds; -1: without a limit. Connections that are open then are cut off and counted, which takes at most 250
/// milliseconds more. An engine that runs on lent threads, or in the program's loop, only begins with it: go on calling
/// resay_run until it is 0. An engine that never ran answers nothing: connections that wait are reset. From this call on
/// nothing is started or listened on any more.
/// 0; RESAY_E_TIMEOUT: a callback or transform did not return in that time; the engine still ends when it does,
/// RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_drain(engine: *mut resay_engine, timeout_ms: i32) -> c_int {
    with_engine(engine, Waits::Yes, ptr::null_mut(), |engine| {
        engine.engine.drain(timeout_of(timeout_ms)?.unwrap_or(FOR_EVER))?;
        Ok(0)
    })
}

/// [*] Waits until the engine has ended, which takes a resay_stop or a resay_drain, at most timeout_ms milliseconds; -1:
/// without a limit. An engine that never ran has ended then, and workers of a stopped engine that no thread was lent for end
/// here. When this returns 0 all threads of the engine are gone, also those of
/// transforms that may block.
/// 0; RESAY_E_TIMEOUT, RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_join(engine: *mut resay_engine, timeout_ms: i32) -> c_int {
    with_engine(engine, Waits::Yes, ptr::null_mut(), |engine| {
        engine.engine.join(timeout_of(timeout_ms)?.unwrap_or(FOR_EVER))?;
        Ok(0)
    })
}
