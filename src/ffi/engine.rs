//! An engine behind a pointer, and which calls are allowed now.

use std::cell::Cell;
use std::ffi::{c_char, c_int};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::RESAY_ABI;
use super::callback::{is_inside, is_inside_any, is_lost};
use super::error::{Failure, RESAY_E_ABI, RESAY_E_BUG, RESAY_E_STATE, call, resay_error};
use super::memory::{cleared, give_text, text_of};
use super::process::Process;
use crate::Engine;
use crate::options::{
    ENGINE_KEYS, KEYS, Key, ValueFault, duration_text, nearest, parse_duration, parse_size,
};

/// An engine: listeners, chains, and the workers that run them.
pub struct resay_engine {
    pub(super) engine: Engine,
    /// Names it among all engines of this process, whatever their addresses.
    pub(super) serial: u64,
    process: Process,
    /// A panic has stopped at the boundary.
    poisoned: AtomicBool,
}

impl resay_engine {
    /// Whether this process is a child of the one that made the engine.
    pub(super) fn is_copy(&self) -> bool {
        self.process.is_other()
    }
}

/// Whether a call waits for others, so that it could wait for its own caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waits {
    /// It takes no lock that is held while a callback runs, so a callback may make it too.
    Never,
    No,
    Yes,
}

thread_local! {
    /// How many calls of the host's run on this thread; none: it is one of the engine's own.
    static CALLS: Cell<u32> = const { Cell::new(0) };
}

/// Whether the host has called on this thread, and is not back yet.
pub(super) fn is_called() -> bool {
    CALLS.get() > 0
}

/// A call on its way.
struct Counted;

impl Counted {
    fn new() -> Counted {
        CALLS.set(CALLS.get() + 1);
        Counted
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        CALLS.set(CALLS.get() - 1);
    }
}

/// Refuses what a callback may not do.
pub(super) fn refuse_waiting(waits: Waits) -> Result<(), Failure> {
    if waits == Waits::Yes && is_inside_any() {
        return Err(Failure::new(RESAY_E_STATE, "calls that wait are not allowed inside a callback"));
    }
    Ok(())
}

/// Runs a call of an engine, if that can be called here and now. `engine` is NULL or came from resay_engine_new and is not
/// freed before this returns; `err` is NULL or the caller's own.
pub(super) fn with_engine(
    engine: *mut resay_engine,
    waits: Waits,
    err: *mut resay_error,
    body: impl FnOnce(&resay_engine) -> Result<c_int, Failure>,
) -> c_int {
    let mut body = Some(body);
    // It runs once.
    run(engine, waits, err, &mut |engine| body.take().map_or(Ok(0), |body| body(engine)))
}

/// Of one type for all calls: there are many, and this is the larger part of most.
fn run(
    engine: *mut resay_engine,
    waits: Waits,
    err: *mut resay_error,
    body: &mut dyn FnMut(&resay_engine) -> Result<c_int, Failure>,
) -> c_int {
    // SAFETY: the caller's.
    let engine = unsafe { engine.as_ref() };
    let _counted = Counted::new();
    let code = call(err, || {
        let engine = engine.ok_or_else(|| Failure::null("the engine"))?;
        refuse_waiting(waits)?;
        if waits != Waits::Never && is_inside(engine.serial) {
            let message = "an engine may not be called inside one of its own callbacks";
            return Err(Failure::new(RESAY_E_STATE, message));
        }
        engine.process.refuse_other("the engine")?;
        if engine.poisoned.load(Ordering::Relaxed) || engine.engine.is_poisoned() || is_lost(engine.serial) {
            return Err(Failure::new(
                RESAY_E_BUG,
                "an internal error was caught, or a callback has ended its thread; free the engine",
            ));
        }
        body(engine)
    });
    if let Some(engine) = engine
        && code == RESAY_E_BUG
    {
        engine.poisoned.store(true, Ordering::Relaxed);
    }
    code
}

/// What the host owns and closes beside engines, and what lives for itself.
pub(super) trait Own {
    const WHAT: &'static str;

    /// Which process made it.
    fn process(&self) -> Process;
}

/// Runs a call of something that lives for itself. `object` is NULL or was given to the host, who does not close it before
/// this returns.
pub(super) fn with_own<T: Own>(
    object: *const T,
    waits: Waits,
    body: impl FnOnce(&T) -> Result<c_int, Failure>,
) -> c_int {
    call(ptr::null_mut(), || {
        // SAFETY: the caller's.
        let object = unsafe { object.as_ref() }.ok_or_else(|| Failure::null(T::WHAT))?;
        refuse_waiting(waits)?;
        object.process().refuse_other(T::WHAT)?;
        body(object)
    })
}

/// [*] The version of the library, for example "0.1.0". The string is static.
#[unsafe(no_mangle)]
pub extern "C" fn resay_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// [*] The RESAY_ABI of the library.
#[unsafe(no_mangle)]
pub extern "C" fn resay_abi() -> u32 {
    RESAY_ABI
}

/// [*] Creates an engine without listeners, with the plain echo as its chain. Pass RESAY_ABI as abi. The caller owns
/// *out and frees it with resay_engine_free.
/// Returns 0; RESAY_E_ABI, RESAY_E_ARG (out is NULL) or RESAY_E_SYS, and *out is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_engine_new(
    abi: u32,
    out: *mut *mut resay_engine,
    err: *mut resay_error,
) -> c_int {
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    // SAFETY: NULL, or the caller's own pointer.
    let out = unsafe { cleared(out) };
    call(err, || {
        let out = out.or_refuse()?;
        if abi != RESAY_ABI {
            let message = format!("the program was built for RESAY_ABI {abi}, the library has {RESAY_ABI}");
            return Err(Failure::new(RESAY_E_ABI, message));
        }
        let engine = Box::new(resay_engine {
            engine: Engine::builder().build()?,
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            process: Process::this(),
            poisoned: AtomicBool::new(false),
        });
        out.give(Box::into_raw(engine));
        Ok(0)
    })
}

/// [*] Whether the library has a feature, here and now: 1 or 0. "uring": an engine on threads of its own gets io_uring if it
/// asks for it; this asks the kernel, once a process. "bundled": the bundled transforms are linked in. Unknown
/// features, and NULL, are 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_has(feature: *const c_char) -> c_int {
    if feature.is_null() {
        return 0;
    }
    let has = call(ptr::null_mut(), || {
        // SAFETY: the caller's pointer, as documented.
        Ok(c_int::from(unsafe { text_of(feature, "feature") }.is_ok_and(crate::has_feature)))
    });
    has.max(0)
}

/// [1] Stops an engine, waits for its threads, and frees it with all that belongs to it: listeners, connections,
/// descriptors, transforms. NULL is fine. No other call may be using the engine: threads that were lent to it are back
/// from resay_run, and the program's event loop watches resay_poll_fd no longer. After this no callback runs, and each
/// release has run. Taps and queues of events live for themselves: threads that wait in resay_tap_read or
/// resay_events_next return when all has been taken.
///
/// In a child of fork() it closes the child's copies of the descriptors, waits for nothing, and leaves the parent's engine
/// as it is. Of an engine of which a callback has ended its thread with pthread_exit inside one of the program's calls, the
/// memory stays, and nothing is waited for.
/// Returns 0; RESAY_E_STATE inside a callback of any engine: nothing has happened, and the engine is still to be freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_engine_free(engine: *mut resay_engine) -> c_int {
    if engine.is_null() {
        return 0;
    }
    let _counted = Counted::new();
    call(ptr::null_mut(), || {
        refuse_waiting(Waits::Yes)?;
        // SAFETY: from resay_engine_new, and freed once: the caller's duty.
        let engine = unsafe { Box::from_raw(engine) };
        if engine.is_copy() {
            engine.engine.abandon();
        } else if is_lost(engine.serial) {
            // What the lost call has locked stays locked, and would be waited for.
            engine.engine.stop();
            std::mem::forget(engine);
        }
        Ok(0)
    })
}

/// [*] Sets an option for listeners that are added later, with the keys and values of URL queries: ("idle_timeout", "30s").
/// More options belong to the engine and can be set until it runs. "threads": the number of threads that the program will
/// lend with resay_run. "backend": auto, epoll or uring; with epoll the engine never calls io_uring_setup(2), for which
/// some seccomp filters kill a process. "spin": the time that a thread busy-polls before it sleeps, for example "60us".
/// "watchdog": how long a turn of a thread or a message with a transform that may block may take before that is an event
/// (RESAY_EVENT_TRANSFORM_STUCK), "10s"; 0: never. A thread of its own looks; for an engine that runs in resay_run there is
/// one only if this was set.
/// Of the engine's own threads, "thread_name": what their names begin with, 1 to 15 bytes, "resay"; "thread_stack": the
/// size of their stacks, "2m"; "thread_cpus": the processors that they may run on, for example "0-3,6", "" those of
/// the thread that calls resay_start.
/// Returns 0; RESAY_E_SPEC: unknown key or bad value, RESAY_E_STATE: the engine has run, RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_set(
    engine: *mut resay_engine,
    key: *const c_char,
    value: *const c_char,
    err: *mut resay_error,
) -> c_int {
    with_engine(engine, Waits::No, err, |engine| {
        // SAFETY: the caller's pointers, as documented.
        let (key, value) = unsafe { (text_of(key, "key")?, text_of(value, "value")?) };
        let engine = &engine.engine;
        let wrong = |fault: ValueFault| of_value(value, fault.at, &fault.message);
        match key {
            "threads" => {
                let wrong = |_| of_value(value, 0, "expected a number of threads, 1 to 256");
                engine.set_threads(value.parse().map_err(wrong)?)?;
            }
            "backend" => engine.set_backend(value.parse().map_err(crate::Error::from)?)?,
            "spin" => engine.set_spin(parse_duration(value).map_err(wrong)?)?,
            "watchdog" => engine.set_watchdog(parse_duration(value).map_err(wrong)?)?,
            "thread_name" => engine.set_thread_name(value)?,
            "thread_stack" => {
                let bytes = parse_size(value).map_err(wrong)?;
                engine.set_thread_stack(usize::try_from(bytes).unwrap_or(usize::MAX))?;
            }
            "thread_cpus" => engine.set_thread_cpus(value)?,
            key if Key::find(key).is_none() => return Err(unknown_option(key)),
            key => engine.set(key, value)?,
        }
        Ok(0)
    })
}

/// [*] Writes the value of an option to buf, NUL-terminated, as resay_set accepts it. If the option was not set, this is the
/// default; of "chain", what resay_chain set for the engine. If need is not NULL, *need becomes the size needed, including the NUL.
/// Returns 0; RESAY_E_FULL: cap is less than that (buf may then be NULL), RESAY_E_SPEC: unknown key, RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_get(
    engine: *mut resay_engine,
    key: *const c_char,
    buf: *mut c_char,
    cap: usize,
    need: *mut usize,
) -> c_int {
    with_engine(engine, Waits::No, ptr::null_mut(), |engine| {
        // SAFETY: the caller's pointer, as documented.
        let key = unsafe { text_of(key, "key")? };
        let engine = &engine.engine;
        let value = match key {
            "threads" => Some(engine.threads().to_string()),
            "backend" => Some(engine.backend().to_string()),
            "spin" => Some(duration_text(engine.spin())),
            "watchdog" => Some(duration_text(engine.watchdog())),
            "thread_name" => Some(engine.thread_name()),
            "thread_stack" => Some(engine.thread_stack().to_string()),
            "thread_cpus" => Some(engine.thread_cpus()),
            key => engine.get(key),
        };
        let value = value.ok_or_else(|| unknown_option(key))?;
        // SAFETY: the caller's buffer, as documented.
        unsafe { give_text(&value, buf, cap, need)? };
        Ok(0)
    })
}

fn of_value(value: &str, at: usize, message: &str) -> Failure {
    crate::Error::from(crate::SpecError::new("option", value, at, message)).into()
}

/// Of engines and of listeners.
pub(super) fn unknown_option(key: &str) -> Failure {
    let names = ENGINE_KEYS.iter().map(|key| key.name).chain(KEYS.iter().map(|key| key.name));
    let hint = match nearest(key, names) {
        Some(name) => format!("unknown option, did you mean {name:?}?"),
        None => "unknown option; resay_options tells those that there are".to_owned(),
    };
    crate::Error::from(crate::SpecError::new("option", key, 0, hint)).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ffi::error::{RESAY_E_ARG, resay_last_error};

    #[test]
    fn a_panic_poisons_the_engine_and_it_can_still_be_freed() {
        let mut engine = ptr::null_mut();
        let null = ptr::null_mut();
        // SAFETY: pointers of ours, and an engine that is freed once.
        unsafe {
            assert_eq!(resay_engine_new(RESAY_ABI, &mut engine, null), 0);
            assert_eq!(with_engine(engine, Waits::No, null, |_| Ok(7)), 7);
            assert_eq!(with_engine(engine, Waits::No, null, |_| panic!("out")), RESAY_E_BUG);
            assert_eq!(with_engine(engine, Waits::No, null, |_| Ok(7)), RESAY_E_BUG);
            assert_eq!(resay_set(engine, c"backlog".as_ptr(), c"1".as_ptr(), null), RESAY_E_BUG);
            assert!(!resay_last_error().is_null());
            assert_eq!(resay_engine_free(engine), 0);
            assert_eq!(with_engine(null.cast(), Waits::No, null, |_| Ok(7)), RESAY_E_ARG);
        }
        assert!(!is_called());
    }
}
