//! What every call does: its -1 becomes an error.

/// Turns the -1 of a system call into `io::Error::last_os_error()`, once.
macro_rules! syscall {
    ($call:expr) => {{
        let result = $call;
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
    }};
}
pub(crate) use syscall;

/// Turns the -1 of a transfer into an error, and repeats it where a signal interrupted it.
macro_rules! transfer {
    ($call:expr) => {{
        loop {
            let n = $call;
            if n >= 0 {
                break Ok(n as usize);
            }
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(libc::EINTR) {
                break Err(error);
            }
        }
    }};
}
pub(super) use transfer;

/// A number as syscall(2) takes it.
#[inline]
pub(super) fn wide(number: i32) -> libc::c_long {
    libc::c_long::from(number)
}
