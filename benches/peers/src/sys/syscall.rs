//! The error of a system call.

/// Turns -1 into an error, once.
macro_rules! syscall {
    ($call:ident($($argument:expr),* $(,)?)) => {{
        // SAFETY: the caller of this macro passes what the manual page of the call asks for, and owns it.
        let result = unsafe { libc::$call($($argument),*) };
        if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
    }};
}
pub(super) use syscall;
