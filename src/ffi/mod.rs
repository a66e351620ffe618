//! DOOR: callers. The C API, in C's own names; `include/resay.h` is generated from this file.
//!
//! It uses the crate's public names only, and nothing in the crate uses it. Every function is the same: check the
//! pointers, turn C's values into Rust's, call the crate, turn the result back; a panic stops here.
#![allow(non_camel_case_types)]
// Public to the linker, through `no_mangle`, and not to other Rust code.
#![allow(unreachable_pub)]
// The C documentation names the errors and the conditions; `# Safety` sections would go into the header.
#![allow(clippy::missing_safety_doc)]

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::time::Duration;

use crate::{Engine, Error, ListenerId};

/// The version of this interface. It changes only when programs that were built before would break; the
/// SONAME, libresay.so.1, follows it.
pub const RESAY_ABI: u32 = 1u32;

/// A pointer is NULL that must not be, or a number is out of range.
pub const RESAY_E_ARG: i32 = -101;
/// The header that the program was built with and the library do not match.
pub const RESAY_E_ABI: i32 = -102;
/// The call does not fit the state of the engine, for example a second start.
pub const RESAY_E_STATE: i32 = -103;
/// The id names nothing, or no longer.
pub const RESAY_E_HANDLE: i32 = -104;
/// The operating system refused: see resay_error.os_errno.
pub const RESAY_E_SYS: i32 = -105;
/// The time was up first.
pub const RESAY_E_TIMEOUT: i32 = -106;
/// A signal came (EINTR): let the program look after it, then call again.
pub const RESAY_E_INTR: i32 = -107;
/// A URL, chain or option that cannot be read: the message says where.
pub const RESAY_E_SPEC: i32 = -108;
/// A plugin cannot be loaded, or a transform refuses its options: the message says why.
pub const RESAY_E_PLUGIN: i32 = -109;
/// A fault of Resay itself was caught. The engine should be freed.
pub const RESAY_E_BUG: i32 = -112;
/// The buffer is too small: the size that was needed is said.
pub const RESAY_E_FULL: i32 = -113;

/// Bytes of resay_error.message, the NUL included.
pub const RESAY_ERROR_MESSAGE_BYTES: usize = 248;

/// An engine. May be used from any thread, and from several at once.
pub struct resay_engine {
    engine: Engine,
}

/// A listener's name. Never reused within an engine; 0 is never valid.
pub type resay_id = u64;

/// What went wrong, in the caller's memory. Functions that take one take NULL too. After a success its
/// code is 0 and its message empty.
#[repr(C)]
pub struct resay_error {
    /// A RESAY_E_ code, or 0.
    pub code: i32,
    /// The errno behind RESAY_E_SYS, or 0.
    pub os_errno: i32,
    /// English, UTF-8, ended by NUL, cut where it is too long.
    pub message: [c_char; RESAY_ERROR_MESSAGE_BYTES],
}

/// A failure on its way to C.
struct Failure {
    code: i32,
    os_errno: i32,
    message: String,
}

impl Failure {
    fn new(code: i32, message: impl Into<String>) -> Failure {
        Failure { code, os_errno: 0, message: message.into() }
    }

    fn null(what: &str) -> Failure {
        Failure::new(RESAY_E_ARG, format!("{what} is NULL"))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let code = match &error {
            Error::Spec(_) => RESAY_E_SPEC,
            Error::System { source, .. } if source.kind() == std::io::ErrorKind::Interrupted => RESAY_E_INTR,
            Error::System { .. } => RESAY_E_SYS,
            Error::Plugin { .. } | Error::Transform { .. } => RESAY_E_PLUGIN,
            Error::State(_) => RESAY_E_STATE,
            Error::Handle(_) => RESAY_E_HANDLE,
            Error::Timeout { .. } => RESAY_E_TIMEOUT,
        };
        Failure { code, os_errno: error.os_error().unwrap_or(0), message: error.to_string() }
    }
}

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// Runs a call; its failure, or its panic, goes to `err` and to the thread's last error.
fn call(err: *mut resay_error, body: impl FnOnce() -> Result<c_int, Failure>) -> c_int {
    let result = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let what = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let what = what.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(Failure::new(RESAY_E_BUG, format!("a fault of Resay: {what}")))
    });
    let (value, failure) = match result {
        Ok(value) => (value, Failure::new(0, "")),
        Err(failure) => (failure.code, failure),
    };
    // SAFETY: NULL, or the caller's own resay_error.
    if let Some(err) = unsafe { err.as_mut() } {
        err.code = failure.code;
        err.os_errno = failure.os_errno;
        fill(&mut err.message, &failure.message);
    }
    if failure.code != 0 {
        // A message has no NUL unless the caller's own text had one; then it is left out.
        let text = CString::new(failure.message).unwrap_or_default();
        // While a thread ends its storage may be gone already.
        let _ = LAST.try_with(|last| last.replace(text));
    }
    value
}

/// Copies `text`, cut at a character and ended by NUL.
fn fill(place: &mut [c_char], text: &str) {
    let mut len = text.len().min(place.len() - 1);
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    for (to, from) in place.iter_mut().zip(text.as_bytes()[..len].iter().chain([&0])) {
        *to = *from as c_char;
    }
}

/// The engine behind a pointer of the caller's.
///
/// # Safety
/// `engine` is NULL or came from resay_engine_new and has not been freed.
unsafe fn engine_of<'a>(engine: *mut resay_engine) -> Result<&'a Engine, Failure> {
    // SAFETY: the caller's.
    let engine = unsafe { engine.as_ref() };
    engine.map(|engine| &engine.engine).ok_or_else(|| Failure::null("the engine"))
}

/// A string of the caller's.
///
/// # Safety
/// `text` is NULL or ended by NUL, and lives during the call.
unsafe fn text_of<'a>(text: *const c_char, what: &str) -> Result<&'a str, Failure> {
    if text.is_null() {
        return Err(Failure::null(what));
    }
    // SAFETY: the caller's.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|_| Failure::new(RESAY_E_ARG, format!("{what} is not UTF-8")))
}

/// A timeout in milliseconds; negative: none.
fn timeout_of(milliseconds: i32) -> Option<Duration> {
    u64::try_from(milliseconds).ok().map(Duration::from_millis)
}

/// For ever, as far as a condition variable can count.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The version of the library, for example "0.1.0". Static.
#[unsafe(no_mangle)]
pub extern "C" fn resay_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// The RESAY_ABI that the library was built with.
#[unsafe(no_mangle)]
pub extern "C" fn resay_abi() -> u32 {
    RESAY_ABI
}

/// What a code means, in a few words. Static; codes that are unknown have words too.
#[unsafe(no_mangle)]
pub extern "C" fn resay_strerror(code: c_int) -> *const c_char {
    let text = match code {
        0.. => c"success",
        RESAY_E_ARG => c"an argument is NULL or out of range",
        RESAY_E_ABI => c"header and library do not match",
        RESAY_E_STATE => c"the call does not fit the engine's state",
        RESAY_E_HANDLE => c"unknown or stale id",
        RESAY_E_SYS => c"the operating system refused",
        RESAY_E_TIMEOUT => c"the time is up",
        RESAY_E_INTR => c"interrupted by a signal",
        RESAY_E_SPEC => c"a URL, chain or option cannot be read",
        RESAY_E_PLUGIN => c"a plugin cannot be used",
        RESAY_E_BUG => c"a fault of Resay was caught",
        RESAY_E_FULL => c"the buffer is too small",
        _ => c"unknown code",
    };
    text.as_ptr()
}

/// The message of this thread's last failure, or "". Valid until this thread's next call that fails.
#[unsafe(no_mangle)]
pub extern "C" fn resay_last_error() -> *const c_char {
    LAST.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

/// Makes an engine without listeners, whose chain is the plain echo. `abi` is RESAY_ABI.
/// 0 and *out; RESAY_E_ABI, RESAY_E_ARG, RESAY_E_SYS, and *out is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_engine_new(
    abi: u32,
    out: *mut *mut resay_engine,
    err: *mut resay_error,
) -> c_int {
    call(err, || {
        if out.is_null() {
            return Err(Failure::null("out"));
        }
        // SAFETY: not NULL, and the caller's own pointer.
        unsafe { out.write(ptr::null_mut()) };
        if abi != RESAY_ABI {
            let message = format!("the program was built for RESAY_ABI {abi}, the library has {RESAY_ABI}");
            return Err(Failure::new(RESAY_E_ABI, message));
        }
        let engine = Box::new(resay_engine { engine: Engine::builder().build()? });
        // SAFETY: as above.
        unsafe { out.write(Box::into_raw(engine)) };
        Ok(0)
    })
}

/// Stops an engine, waits for its threads, and frees it with all that belongs to it. NULL is fine. No other
/// call may be using the engine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_engine_free(engine: *mut resay_engine) {
    if engine.is_null() {
        return;
    }
    call(ptr::null_mut(), || {
        // SAFETY: from resay_engine_new, and freed once: the caller's duty.
        drop(unsafe { Box::from_raw(engine) });
        Ok(0)
    });
}

/// Sets an option for the listeners that are added from now on, in the grammar of URL queries:
/// ("idle_timeout", "30s"). 0; RESAY_E_SPEC, RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_set(
    engine: *mut resay_engine,
    key: *const c_char,
    value: *const c_char,
    err: *mut resay_error,
) -> c_int {
    call(err, || {
        // SAFETY: the caller's pointers, as documented.
        let (engine, key, value) =
            unsafe { (engine_of(engine)?, text_of(key, "key")?, text_of(value, "value")?) };
        engine.set(key, value)?;
        Ok(0)
    })
}

/// Adds a listener and binds it; peers can connect from now on and are served while the engine runs. *out, if it
/// is not NULL, is its name. 0; RESAY_E_SPEC, RESAY_E_SYS, RESAY_E_PLUGIN, RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_listen(
    engine: *mut resay_engine,
    url: *const c_char,
    out: *mut resay_id,
    err: *mut resay_error,
) -> c_int {
    call(err, || {
        // SAFETY: the caller's pointers, as documented.
        let (engine, url) = unsafe { (engine_of(engine)?, text_of(url, "url")?) };
        let id = engine.listen(url)?;
        // SAFETY: NULL or the caller's own.
        if let Some(out) = unsafe { out.as_mut() } {
            *out = id.number();
        }
        Ok(0)
    })
}

/// Writes the URL of a listener, with its real port and NUL at its end. *need, if it is not NULL, is the size of
/// all that. 0; RESAY_E_FULL when cap is less than that (buf may be NULL then); RESAY_E_HANDLE, RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_listener_url(
    engine: *mut resay_engine,
    listener: resay_id,
    buf: *mut c_char,
    cap: usize,
    need: *mut usize,
) -> c_int {
    call(ptr::null_mut(), || {
        // SAFETY: the caller's pointer, as documented.
        let engine = unsafe { engine_of(engine)? };
        let url = engine.listener(ListenerId::from_number(listener))?.url;
        // SAFETY: NULL or the caller's own.
        if let Some(need) = unsafe { need.as_mut() } {
            *need = url.len() + 1;
        }
        if cap <= url.len() {
            return Err(Failure::new(RESAY_E_FULL, format!("the URL needs {} bytes", url.len() + 1)));
        }
        if buf.is_null() {
            return Err(Failure::null("buf"));
        }
        // SAFETY: the buffer has `cap` bytes, which is more than the URL.
        unsafe {
            ptr::copy_nonoverlapping(url.as_ptr().cast(), buf, url.len());
            buf.add(url.len()).write(0);
        }
        Ok(0)
    })
}

/// The port of a TCP or UDP listener; 0 for unix sockets. RESAY_E_HANDLE, RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_listener_port(engine: *mut resay_engine, listener: resay_id) -> c_int {
    call(ptr::null_mut(), || {
        // SAFETY: the caller's pointer, as documented.
        let engine = unsafe { engine_of(engine)? };
        let info = engine.listener(ListenerId::from_number(listener))?;
        Ok(info.port().map_or(0, c_int::from))
    })
}

/// Closes a listener; its connections go on. 0; RESAY_E_HANDLE, RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_listener_close(engine: *mut resay_engine, listener: resay_id) -> c_int {
    call(ptr::null_mut(), || {
        // SAFETY: the caller's pointer, as documented.
        let engine = unsafe { engine_of(engine)? };
        engine.close_listener(ListenerId::from_number(listener))?;
        Ok(0)
    })
}

/// Changes a chain, at any time, also while messages flow: that of one listener, or with 0 the engine's, which
/// all listeners have that were given none of their own. "" is the plain echo. After a failure nothing has
/// changed. 0; RESAY_E_SPEC, RESAY_E_PLUGIN, RESAY_E_HANDLE, RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_chain(
    engine: *mut resay_engine,
    listener_or_0: resay_id,
    spec: *const c_char,
    err: *mut resay_error,
) -> c_int {
    call(err, || {
        // SAFETY: the caller's pointers, as documented.
        let (engine, spec) = unsafe { (engine_of(engine)?, text_of(spec, "spec")?) };
        match listener_or_0 {
            0 => engine.set_chain(spec)?,
            id => engine.set_chain_of(ListenerId::from_number(id), spec)?,
        }
        Ok(0)
    })
}

/// Serves on this many threads of the engine's own, with all signals blocked in them, and returns at once.
/// 0; RESAY_E_STATE when the engine has run before, RESAY_E_SPEC for threads outside 1 to 256, RESAY_E_SYS.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_start(
    engine: *mut resay_engine,
    threads: u32,
    err: *mut resay_error,
) -> c_int {
    call(err, || {
        // SAFETY: the caller's pointer, as documented.
        let engine = unsafe { engine_of(engine)? };
        engine.start_with(threads as usize)?;
        Ok(0)
    })
}

/// Serves on the calling thread: -1 until the engine is stopped, 0 for one turn without waiting, else for so many
/// milliseconds. 1: the engine is alive; 0: it has ended. RESAY_E_STATE when it runs on other threads,
/// RESAY_E_INTR when a signal came.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_run(engine: *mut resay_engine, timeout_ms: i32) -> c_int {
    call(ptr::null_mut(), || {
        // SAFETY: the caller's pointer, as documented.
        let engine = unsafe { engine_of(engine)? };
        Ok(c_int::from(engine.run(timeout_of(timeout_ms))?))
    })
}

/// A descriptor for the program's own event loop: when it is readable, or resay_poll_timeout is over, call
/// resay_run(engine, 0). It belongs to the engine: do not read, write or close it. RESAY_E_STATE after
/// resay_start.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_poll_fd(engine: *mut resay_engine) -> c_int {
    call(ptr::null_mut(), || {
        // SAFETY: the caller's pointer, as documented.
        let engine = unsafe { engine_of(engine)? };
        Ok(engine.poll_fd()?)
    })
}

/// How many milliseconds the program's event loop may wait for resay_poll_fd, rounded up; -1: as long as it
/// likes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_poll_timeout(engine: *mut resay_engine) -> i32 {
    call(ptr::null_mut(), || {
        // SAFETY: the caller's pointer, as documented.
        let engine = unsafe { engine_of(engine)? };
        let timeout = engine.poll_timeout().map(|timeout| timeout.as_micros().div_ceil(1000));
        Ok(timeout.map_or(-1, |timeout| c_int::try_from(timeout).unwrap_or(c_int::MAX)))
    })
}

/// Ends everything at once and returns without waiting. Async-signal-safe. 0; RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_stop(engine: *mut resay_engine) -> c_int {
    // Nothing here allocates or locks: no message is made, and nothing can panic.
    // SAFETY: the caller's pointer, as documented.
    match unsafe { engine.as_ref() } {
        Some(engine) => {
            engine.engine.stop();
            0
        }
        None => RESAY_E_ARG,
    }
}

/// Stops listening, answers all that has arrived, ends the connections, and waits for that, at most so long; what
/// is not done by then is cut off. An engine that runs on lent threads only begins with it: go on calling
/// resay_run until it is 0. 0; RESAY_E_TIMEOUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_drain(engine: *mut resay_engine, timeout_ms: i32) -> c_int {
    call(ptr::null_mut(), || {
        // SAFETY: the caller's pointer, as documented.
        let engine = unsafe { engine_of(engine)? };
        engine.drain(timeout_of(timeout_ms).unwrap_or(FOR_EVER))?;
        Ok(0)
    })
}

/// Waits until the engine has ended, at most so long; -1: for ever. 0; RESAY_E_TIMEOUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_join(engine: *mut resay_engine, timeout_ms: i32) -> c_int {
    call(ptr::null_mut(), || {
        // SAFETY: the caller's pointer, as documented.
        let engine = unsafe { engine_of(engine)? };
        engine.join(timeout_of(timeout_ms).unwrap_or(FOR_EVER))?;
        Ok(0)
    })
}
