//! Codes, messages, and the wrapper of every call.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::text::fill;
use crate::Error;

/// An argument is NULL, not UTF-8 or out of range, or a struct_size is invalid.
pub const RESAY_E_ARG: i32 = -101;
/// The header that the program was compiled with does not match the library.
pub const RESAY_E_ABI: i32 = -102;
/// The engine is in the wrong state for the call, for example a second start, or the call is not allowed inside a
/// callback.
pub const RESAY_E_STATE: i32 = -103;
/// Unknown or closed id.
pub const RESAY_E_HANDLE: i32 = -104;
/// A system call failed: see resay_error.os_errno.
pub const RESAY_E_SYS: i32 = -105;
/// Timed out.
pub const RESAY_E_TIMEOUT: i32 = -106;
/// A signal interrupted the call (EINTR): handle it, then call again.
pub const RESAY_E_INTR: i32 = -107;
/// Syntax error in a URL, chain or option: the message has the position.
pub const RESAY_E_SPEC: i32 = -108;
/// A plugin cannot be loaded, or a transform is unknown or rejects its options: the message has the reason.
pub const RESAY_E_PLUGIN: i32 = -109;
/// A callback of the program failed. Used only in resay_event.code.
pub const RESAY_E_CALLBACK: i32 = -110;
/// The engine belongs to the parent process. The child can only free it.
pub const RESAY_E_FORKED: i32 = -111;
/// An internal error of Resay was caught, or a callback has ended its thread. The engine can only be freed.
pub const RESAY_E_BUG: i32 = -112;
/// A limit is reached, or the caller's buffer is too small.
pub const RESAY_E_FULL: i32 = -113;

/// Size of resay_error.message in bytes, including the NUL.
pub const RESAY_ERROR_MESSAGE_BYTES: usize = 240;

/// A failure, in the caller's memory. Every function that takes a resay_error also takes NULL. After success the code
/// is 0 and the message is empty.
#[repr(C)]
pub struct resay_error {
    /// A RESAY_E_ code, or 0.
    pub code: i32,
    /// The errno of RESAY_E_SYS, or 0.
    pub os_errno: i32,
    /// Which bytes of the URL, chain or option are wrong: the offset of the first one, and how many. If something is
    /// missing at the end, position is the length of the text, and length is 1. If no place is known, both are 0.
    pub position: u32,
    pub length: u32,
    /// English text in UTF-8, NUL-terminated, truncated if it is too long. What is wrong comes first; the text that was
    /// parsed follows. The number of a system error is only in os_errno.
    pub message: [c_char; RESAY_ERROR_MESSAGE_BYTES],
}

/// A failure on its way to C.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: i32,
    os_errno: i32,
    place: (u32, u32),
    message: String,
}

impl Failure {
    pub(super) fn new(code: i32, message: impl Into<String>) -> Failure {
        Failure { code, os_errno: 0, place: (0, 0), message: message.into() }
    }

    pub(super) fn null(what: &str) -> Failure {
        Failure::new(RESAY_E_ARG, format!("{what} is NULL"))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let code = match &error {
            Error::Spec(_) => RESAY_E_SPEC,
            Error::System { source, .. } if source.kind() == std::io::ErrorKind::Interrupted => RESAY_E_INTR,
            Error::System { .. } => RESAY_E_SYS,
            Error::Plugin { .. }
            | Error::UnknownTransform { .. }
            | Error::Transform { .. }
            | Error::Filter { .. } => RESAY_E_PLUGIN,
            Error::State(_) => RESAY_E_STATE,
            Error::Handle(_) => RESAY_E_HANDLE,
            Error::Full(_) => RESAY_E_FULL,
            Error::Timeout { .. } => RESAY_E_TIMEOUT,
        };
        let narrow = |number| u32::try_from(number).unwrap_or(u32::MAX);
        let place = error.place().map_or((0, 0), |(at, length)| (narrow(at), narrow(length)));
        Failure { code, os_errno: error.os_error().unwrap_or(0), place, message: error.to_string() }
    }
}

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

unsafe extern "C" {
    /// pthread_setcancelstate(3)
    fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int;
}

/// `PTHREAD_CANCEL_DISABLE`, the same in all C libraries of Linux.
const CANCEL_DISABLE: c_int = 1;

/// A thread that is not cancelled until this is dropped: whoever cancels it in the middle of a call would leave locks locked,
/// and the C library aborts a process in which an unwinding thread meets a frame of Rust that catches panics.
struct NotCancelled(c_int);

impl NotCancelled {
    fn new() -> NotCancelled {
        let mut before = CANCEL_DISABLE;
        // SAFETY: a number of ours to write to.
        unsafe { pthread_setcancelstate(CANCEL_DISABLE, &mut before) };
        NotCancelled(before)
    }
}

impl Drop for NotCancelled {
    fn drop(&mut self) {
        // SAFETY: the state that was there; the present one is not asked for.
        unsafe { pthread_setcancelstate(self.0, std::ptr::null_mut()) };
    }
}

/// Runs a call; its failure, or its panic, goes to `err`, which is NULL or the caller's own, and to the thread's last error.
pub(super) fn call(err: *mut resay_error, body: impl FnOnce() -> Result<c_int, Failure>) -> c_int {
    let mut body = Some(body);
    // It runs once.
    run(err, &mut || body.take().map_or(Ok(0), |body| body()))
}

/// Of one type for all calls: there are many, and this is the larger part of most.
fn run(err: *mut resay_error, body: &mut dyn FnMut() -> Result<c_int, Failure>) -> c_int {
    let _not_cancelled = NotCancelled::new();
    let result = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let what = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let what = what.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(Failure::new(RESAY_E_BUG, format!("internal error: {what}")))
    });
    let (value, failure) = match result {
        Ok(value) => (value, Failure::new(0, "")),
        Err(failure) => (failure.code, failure),
    };
    // SAFETY: NULL, or the caller's own resay_error.
    if let Some(err) = unsafe { err.as_mut() } {
        err.code = failure.code;
        err.os_errno = failure.os_errno;
        (err.position, err.length) = failure.place;
        fill(&mut err.message, &failure.message);
    }
    if failure.code != 0 {
        // A message has no NUL unless the caller's own text had one; then it is left out.
        remember(CString::new(failure.message).unwrap_or_default());
    }
    value
}

fn remember(message: CString) {
    // While a thread ends its storage may be gone already.
    let _ = LAST.try_with(|last| last.replace(message));
}

/// The failure of a call that takes no resay_error: its code.
#[cold]
pub(super) fn failed(code: c_int, message: &CStr) -> c_int {
    remember(message.to_owned());
    code
}

/// [*] The name of a code in this header, such as "RESAY_E_SPEC", for logs. The string is static. "" for 0 and more, "unknown"
/// for other numbers.
#[unsafe(no_mangle)]
pub extern "C" fn resay_code_name(code: c_int) -> *const c_char {
    let name = match code {
        0.. => c"",
        RESAY_E_ARG => c"RESAY_E_ARG",
        RESAY_E_ABI => c"RESAY_E_ABI",
        RESAY_E_STATE => c"RESAY_E_STATE",
        RESAY_E_HANDLE => c"RESAY_E_HANDLE",
        RESAY_E_SYS => c"RESAY_E_SYS",
        RESAY_E_TIMEOUT => c"RESAY_E_TIMEOUT",
        RESAY_E_INTR => c"RESAY_E_INTR",
        RESAY_E_SPEC => c"RESAY_E_SPEC",
        RESAY_E_PLUGIN => c"RESAY_E_PLUGIN",
        RESAY_E_CALLBACK => c"RESAY_E_CALLBACK",
        RESAY_E_FORKED => c"RESAY_E_FORKED",
        RESAY_E_BUG => c"RESAY_E_BUG",
        RESAY_E_FULL => c"RESAY_E_FULL",
        _ => c"unknown",
    };
    name.as_ptr()
}

/// [*] Describes a code in a few words. The string is static. Unknown codes have a description too.
#[unsafe(no_mangle)]
pub extern "C" fn resay_strerror(code: c_int) -> *const c_char {
    let text = match code {
        0.. => c"success",
        RESAY_E_ARG => c"an argument is NULL or out of range",
        RESAY_E_ABI => c"header and library do not match",
        RESAY_E_STATE => c"wrong state for this call",
        RESAY_E_HANDLE => c"unknown or closed id",
        RESAY_E_SYS => c"a system call failed",
        RESAY_E_TIMEOUT => c"timed out",
        RESAY_E_INTR => c"interrupted by a signal",
        RESAY_E_SPEC => c"syntax error in a URL, chain or option",
        RESAY_E_PLUGIN => c"a plugin or transform cannot be used",
        RESAY_E_CALLBACK => c"a callback of the program failed",
        RESAY_E_FORKED => c"the engine belongs to the parent process",
        RESAY_E_BUG => c"an internal error was caught",
        RESAY_E_FULL => c"a limit is reached, or the buffer is too small",
        _ => c"unknown code",
    };
    text.as_ptr()
}

/// [*] The message of this thread's last failure, or "". Valid until this thread's next call that fails.
#[unsafe(no_mangle)]
pub extern "C" fn resay_last_error() -> *const c_char {
    LAST.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> resay_error {
        resay_error { code: 1, os_errno: 1, position: 1, length: 1, message: [1; RESAY_ERROR_MESSAGE_BYTES] }
    }

    fn message_of(error: &resay_error) -> &str {
        // SAFETY: the message is ended by NUL.
        unsafe { CStr::from_ptr(error.message.as_ptr()) }.to_str().unwrap()
    }

    #[test]
    fn a_failure_is_reported_in_both_places_and_a_success_clears_the_first() {
        let mut error = empty();
        let code = call(&mut error, || Err(Failure::new(RESAY_E_FULL, "ä".repeat(200))));
        assert_eq!((code, error.code, error.os_errno), (RESAY_E_FULL, RESAY_E_FULL, 0));
        assert_eq!(message_of(&error), "ä".repeat((RESAY_ERROR_MESSAGE_BYTES - 1) / 2));
        // SAFETY: a string of ours, until the next failure.
        assert_eq!(unsafe { CStr::from_ptr(resay_last_error()) }.to_str().unwrap(), "ä".repeat(200));
        assert_eq!(call(&mut error, || Ok(3)), 3);
        assert_eq!((error.code, message_of(&error)), (0, ""));
        assert_eq!((error.position, error.length), (0, 0));
    }

    #[test]
    fn a_place_is_told_by_its_bytes() {
        for (text, at, place) in
            [("a | b", 2, (2, 1)), ("ä frame=x", 3, (3, 5)), ("tcp://", 6, (6, 1)), ("é", 0, (0, 2))]
        {
            let mut error = empty();
            let fault = crate::SpecError::new("chain", text, at, "no");
            call(&mut error, || Err(crate::Error::from(fault).into()));
            assert_eq!((error.position, error.length), place, "{text:?}");
        }
    }

    #[test]
    fn a_panic_stops_at_the_boundary() {
        let mut error = empty();
        let code = call(&mut error, || panic!("no {}", "way"));
        assert_eq!((code, error.code), (RESAY_E_BUG, RESAY_E_BUG));
        assert_eq!(message_of(&error), "internal error: no way");
    }

    #[test]
    fn every_code_has_the_name_of_its_constant() {
        // SAFETY: static strings.
        let name = |code| unsafe { CStr::from_ptr(resay_code_name(code)) }.to_str().unwrap();
        let header = include_str!("../../include/resay.h");
        let rows = header.lines().filter_map(|line| line.strip_prefix("#define ")?.split_once(' '));
        let codes: Vec<_> = rows.filter(|(name, _)| name.starts_with("RESAY_E_")).collect();
        assert!(codes.len() > 12, "{codes:?}");
        for (constant, code) in codes {
            assert_eq!(name(code.parse().unwrap()), constant);
        }
        assert_eq!([0, 1, -1, i32::MIN].map(name), ["", "", "unknown", "unknown"]);
    }

    #[test]
    fn every_error_has_its_code_and_every_code_its_words() {
        let system =
            |errno| Error::System { what: "it".into(), source: std::io::Error::from_raw_os_error(errno) };
        for (error, code) in [
            (system(libc::EINTR), RESAY_E_INTR),
            (system(libc::EACCES), RESAY_E_SYS),
            (Error::State("no"), RESAY_E_STATE),
            (Error::Handle("listener"), RESAY_E_HANDLE),
            (Error::Full("no"), RESAY_E_FULL),
            (Error::Timeout { what: "it", limit: std::time::Duration::ZERO }, RESAY_E_TIMEOUT),
            (crate::SpecError::new("option", "x", 0, "no").into(), RESAY_E_SPEC),
            (Error::Transform { id: "x".into(), reason: "no".into(), place: None }, RESAY_E_PLUGIN),
        ] {
            assert_eq!(Failure::from(error).code, code);
        }
        // SAFETY: static strings.
        let words = |code| unsafe { CStr::from_ptr(resay_strerror(code)) }.to_str().unwrap();
        for code in RESAY_E_FULL..=RESAY_E_ARG {
            assert_ne!(words(code), "unknown code", "{code}");
        }
        assert_eq!(
            (words(0), words(1), words(-100), words(-114)),
            ("success", "success", "unknown code", "unknown code")
        );
    }
}
