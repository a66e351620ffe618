//! Calls that fail on purpose, for tests: the Nth call that the engine makes and that can fail does.
//!
//! The test program has functions of its own under the names of the C library's, which the linker prefers: so every call is
//! met, those of the standard library, socket2 and io-uring too, and no line of the engine knows of it. They count the calls
//! of an engine that is under test, which has threads of the name [`THREADS`] and calls from within [`inside`]; one of them
//! fails with an error that its manual page lists, and all others do what they always do. The requests of io_uring are no
//! calls: one of them becomes a request that does nothing and fails (`IORING_NOP_INJECT_RESULT`, Linux 6.10).

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_void};
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use io_uring::squeue;

/// What the names of the threads of an engine under test begin with.
pub(crate) const THREADS: &str = "tortured";

/// Calls that do not fail yet before one does; negative: none does.
static LEFT: AtomicI64 = AtomicI64::new(-1);
/// Which of its errors.
static CHOICE: AtomicUsize = AtomicUsize::new(0);
/// Which call has failed, by its place in [`CALLS`], and with which error.
static HIT: AtomicUsize = AtomicUsize::new(usize::MAX);
static HIT_ERROR: AtomicI32 = AtomicI32::new(0);

thread_local! {
    static IS_INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// A call that has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hit {
    pub(crate) call: &'static str,
    pub(crate) error: i32,
    /// Errors that it may have.
    pub(crate) errors: usize,
}

/// Held by whoever lets calls fail: there is one plan for all threads.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets the call after `calls` others fail, with one of its errors.
pub(crate) fn arm(calls: u32, choice: usize) {
    HIT.store(usize::MAX, Ordering::Relaxed);
    CHOICE.store(choice, Ordering::Relaxed);
    LEFT.store(calls.into(), Ordering::SeqCst);
}

/// Lets nothing fail any more. What has failed.
pub(crate) fn disarm() -> Option<Hit> {
    LEFT.store(-1, Ordering::SeqCst);
    let (call, errors) = CALLS.get(HIT.load(Ordering::SeqCst))?;
    Some(Hit { call, error: HIT_ERROR.load(Ordering::SeqCst), errors: errors.len() })
}

/// Calls of this thread are the engine's.
pub(crate) fn inside<R>(work: impl FnOnce() -> R) -> R {
    struct Over(bool);
    impl Drop for Over {
        fn drop(&mut self) {
            IS_INSIDE.set(self.0);
        }
    }
    let _over = Over(IS_INSIDE.replace(true));
    work()
}

/// The calls that can fail, and with what.
///
/// Not what never happens on this socket, and not `EAGAIN` of a receive: whoever says that there is nothing, where there is
/// something, takes the edge of epoll(7) away. Nor what only a fault of the engine's own would bring, as `EBADF`. Cancelling a
/// request of io_uring takes nothing that could be missing.
const CALLS: &[(&str, &[i32])] = &[
    ("recvfrom", &[libc::EINTR, libc::ENOMEM, libc::ECONNRESET, libc::ETIMEDOUT]),
    ("recvmsg", &[libc::EINTR, libc::ENOMEM, libc::ECONNRESET]),
    ("recvmmsg", &[libc::EINTR, libc::ENOMEM, libc::ECONNREFUSED]),
    ("sendto", &[libc::EINTR, libc::EAGAIN, libc::ENOMEM, libc::ENOBUFS, libc::EPIPE, libc::ECONNRESET]),
    ("sendmsg", &[libc::EINTR, libc::EAGAIN, libc::ENOMEM, libc::ENOBUFS, libc::EPERM]),
    ("sendmmsg", &[libc::EINTR, libc::EAGAIN, libc::ENOMEM, libc::ENOBUFS, libc::EPERM, libc::EIO]),
    ("epoll_pwait", &[libc::EINTR]),
    ("io_uring_enter", &[libc::EINTR, libc::EAGAIN, libc::EBUSY]),
    ("io_uring_setup", &[libc::EMFILE, libc::ENOMEM, libc::EPERM, libc::ENOSYS]),
    ("io_uring_register", &[libc::ENOMEM]),
    (
        "accept4",
        &[
            libc::EINTR,
            libc::ECONNABORTED,
            libc::EMFILE,
            libc::ENFILE,
            libc::ENOBUFS,
            libc::ENOMEM,
            libc::EPERM,
        ],
    ),
    ("epoll_create1", &[libc::EMFILE, libc::ENFILE, libc::ENOMEM]),
    ("epoll_ctl", &[libc::ENOMEM, libc::ENOSPC]),
    ("eventfd", &[libc::EMFILE, libc::ENFILE, libc::ENOMEM]),
    ("fcntl", &[libc::EMFILE]),
    ("setsockopt", &[libc::ENOMEM, libc::ENOBUFS]),
    ("getsockopt", &[libc::ENOBUFS]),
    ("getsockname", &[libc::ENOBUFS]),
    ("getpeername", &[libc::ENOBUFS, libc::ENOTCONN]),
    ("socket", &[libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM]),
    ("bind", &[libc::EADDRINUSE, libc::EACCES, libc::ENOMEM]),
    ("listen", &[libc::EADDRINUSE]),
    ("connect", &[libc::EINTR, libc::ENOMEM]),
    ("shutdown", &[libc::ENOTCONN]),
    ("ppoll", &[libc::EINTR, libc::ENOMEM]),
    ("open", &[libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EACCES]),
    ("unlinkat", &[libc::EIO, libc::EACCES]),
    ("mmap", &[libc::ENOMEM]),
    ("pthread_create", &[libc::EAGAIN]),
    ("io_uring: recv", &[libc::ENOMEM, libc::ENOBUFS, libc::EINTR, libc::ECONNRESET]),
    ("io_uring: recvmsg", &[libc::ENOMEM, libc::ENOBUFS, libc::EINTR]),
    ("io_uring: accept", &[libc::ECONNABORTED, libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EINTR]),
    ("io_uring: send", &[libc::EINTR, libc::EAGAIN, libc::ENOMEM, libc::ENOBUFS, libc::EPIPE]),
    ("io_uring: sendmsg", &[libc::EINTR, libc::EAGAIN, libc::ENOMEM, libc::ENOBUFS]),
    ("io_uring: poll", &[libc::ENOMEM]),
];

const fn place(name: &str) -> usize {
    let mut place = 0;
    while place < CALLS.len() {
        if is_same(CALLS[place].0, name) {
            return place;
        }
        place += 1;
    }
    panic!("a call that is in the table")
}

const fn is_same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// The error of a call, if it is this one that fails.
fn failure(call: usize) -> Option<i32> {
    if LEFT.load(Ordering::Relaxed) < 0 || !is_of_engine() || LEFT.fetch_sub(1, Ordering::SeqCst) != 0 {
        return None;
    }
    let errors = CALLS[call].1;
    let error = errors[CHOICE.load(Ordering::Relaxed) % errors.len()];
    HIT_ERROR.store(error, Ordering::SeqCst);
    HIT.store(call, Ordering::SeqCst);
    Some(error)
}

fn is_of_engine() -> bool {
    if IS_INSIDE.get() {
        return true;
    }
    let mut name = [0 as c_char; 16];
    // SAFETY: room for the 16 bytes that it writes (prctl(2)).
    let result = unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    // SAFETY: it ends with a NUL.
    result == 0 && unsafe { CStr::from_ptr(name.as_ptr()) }.to_bytes().starts_with(THREADS.as_bytes())
}

/// -1, and the error in errno, if it is this call that fails.
fn fails<T: From<i8>>(call: usize) -> Option<T> {
    let error = failure(call)?;
    // SAFETY: this thread's own errno.
    unsafe { *libc::__errno_location() = error };
    Some(T::from(-1))
}

/// A request of io_uring, or one that fails in its place.
pub(crate) fn request(entry: squeue::Entry) -> squeue::Entry {
    const NOP: u8 = 0;
    const INJECT_RESULT: u32 = 1;
    // As in `struct io_uring_sqe`: the operation, and in the seventh and eighth u32 the length and the operation's flags.
    let mut words = [0_u32; 16];
    const { assert!(size_of::<squeue::Entry>() == size_of::<[u32; 16]>()) };
    // SAFETY: both are 64 bytes without padding, for which every pattern is valid.
    unsafe { (&raw mut words).copy_from((&raw const entry).cast(), 1) };
    let call = match words[0] as u8 {
        27 => const { place("io_uring: recv") },
        10 => const { place("io_uring: recvmsg") },
        13 => const { place("io_uring: accept") },
        26 => const { place("io_uring: send") },
        9 => const { place("io_uring: sendmsg") },
        6 => const { place("io_uring: poll") },
        _ => return entry,
    };
    let Some(error) = failure(call) else { return entry };
    // Of the flags, only whether a success has no completion: no buffer is to be chosen.
    let flags = words[0] & u32::from(1_u8 << 6) << 8;
    let (name_low, name_high) = (words[8], words[9]);
    words = [0; 16];
    (words[0], words[6], words[7]) = (u32::from(NOP) | flags, (-error) as u32, INJECT_RESULT);
    (words[8], words[9]) = (name_low, name_high);
    let mut entry = entry;
    // SAFETY: as above.
    unsafe { (&raw mut entry).cast::<[u32; 16]>().write_unaligned(words) };
    entry
}

/// The function of the C library whose name one of ours has.
fn real(name: &CStr, cache: &AtomicPtr<c_void>) -> *mut c_void {
    let known = cache.load(Ordering::Relaxed);
    if !known.is_null() {
        return known;
    }
    // SAFETY: looks for a name behind this program.
    let found = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    assert!(!found.is_null(), "the C library has {name:?}");
    cache.store(found, Ordering::Relaxed);
    found
}

/// A function under the name of one of the C library's, with the same arguments.
macro_rules! instead_of {
    ($name:ident, $call:literal, ($($argument:ident: $type:ty),*) -> $result:ty) => {
        /// Fails, or does what the C library's does.
        ///
        /// # Safety
        ///
        /// As there.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($argument: $type),*) -> $result {
            static REAL: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
            if let Some(failed) = fails::<$result>(const { place($call) }) {
                return failed;
            }
            let name = const {
                match CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                    Ok(name) => name,
                    Err(_) => panic!("a name without NUL"),
                }
            };
            let real = real(name, &REAL);
            // SAFETY: the function of that name takes these arguments; one of variable arguments takes them in the same
            // registers.
            let real = unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($type),*) -> $result>(real) };
            // SAFETY: the caller's promise.
            unsafe { real($($argument),*) }
        }
    };
}

instead_of!(accept4, "accept4", (fd: c_int, name: *mut c_void, len: *mut c_void, flags: c_int) -> c_int);
instead_of!(epoll_create1, "epoll_create1", (flags: c_int) -> c_int);
instead_of!(epoll_ctl, "epoll_ctl", (epoll: c_int, what: c_int, fd: c_int, event: *mut c_void) -> c_int);
instead_of!(eventfd, "eventfd", (count: c_uint, flags: c_int) -> c_int);
instead_of!(setsockopt, "setsockopt", (fd: c_int, level: c_int, name: c_int, value: *const c_void, len: c_uint) -> c_int);
instead_of!(getsockopt, "getsockopt", (fd: c_int, level: c_int, name: c_int, value: *mut c_void, len: *mut c_void) -> c_int);
instead_of!(getsockname, "getsockname", (fd: c_int, name: *mut c_void, len: *mut c_void) -> c_int);
instead_of!(getpeername, "getpeername", (fd: c_int, name: *mut c_void, len: *mut c_void) -> c_int);
instead_of!(socket, "socket", (domain: c_int, kind: c_int, protocol: c_int) -> c_int);
instead_of!(bind, "bind", (fd: c_int, name: *const c_void, len: c_uint) -> c_int);
instead_of!(listen, "listen", (fd: c_int, count: c_int) -> c_int);
instead_of!(connect, "connect", (fd: c_int, name: *const c_void, len: c_uint) -> c_int);
instead_of!(shutdown, "shutdown", (fd: c_int, how: c_int) -> c_int);
instead_of!(sendmsg, "sendmsg", (fd: c_int, message: *const c_void, flags: c_int) -> isize);
instead_of!(ppoll, "ppoll", (fds: *mut c_void, count: c_long, time: *const c_void, mask: *const c_void) -> c_int);
instead_of!(open64, "open", (path: *const c_char, flags: c_int, mode: c_uint) -> c_int);
instead_of!(openat, "open", (fd: c_int, path: *const c_char, flags: c_int, mode: c_uint) -> c_int);
instead_of!(unlinkat, "unlinkat", (fd: c_int, path: *const c_char, flags: c_int) -> c_int);

/// fcntl(2), which can only be short of descriptors.
///
/// # Safety
///
/// As there.
#[unsafe(no_mangle)]
unsafe extern "C" fn fcntl(fd: c_int, what: c_int, argument: usize) -> c_int {
    static REAL: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
    if what == libc::F_DUPFD_CLOEXEC
        && let Some(failed) = fails(const { place("fcntl") })
    {
        return failed;
    }
    // SAFETY: fcntl's third argument, where it has one, is a number or a pointer.
    let real: unsafe extern "C" fn(c_int, c_int, usize) -> c_int =
        unsafe { std::mem::transmute(real(c"fcntl", &REAL)) };
    // SAFETY: the caller's promise.
    unsafe { real(fd, what, argument) }
}

/// mmap(2), where it is about much memory or a ring's. The standard library ends a thread that has none for its stack.
///
/// # Safety
///
/// As there.
#[unsafe(no_mangle)]
unsafe extern "C" fn mmap(
    at: *mut c_void,
    len: usize,
    protection: c_int,
    flags: c_int,
    fd: c_int,
    offset: i64,
) -> *mut c_void {
    static REAL: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
    const MUCH: usize = 64 * 1024;
    if (fd >= 0 || len >= MUCH) && fails::<i32>(const { place("mmap") }).is_some() {
        return libc::MAP_FAILED;
    }
    // SAFETY: these are mmap's arguments.
    let real: unsafe extern "C" fn(*mut c_void, usize, c_int, c_int, c_int, i64) -> *mut c_void =
        unsafe { std::mem::transmute(real(c"mmap", &REAL)) };
    // SAFETY: the caller's promise.
    unsafe { real(at, len, protection, flags, fd, offset) }
}

/// pthread_create(3), which gives its error.
///
/// # Safety
///
/// As there.
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_create(
    thread: *mut c_void,
    attributes: *const c_void,
    begin: *mut c_void,
    argument: *mut c_void,
) -> c_int {
    static REAL: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
    if let Some(error) = failure(const { place("pthread_create") }) {
        return error;
    }
    // SAFETY: these are pthread_create's arguments.
    let real: unsafe extern "C" fn(*mut c_void, *const c_void, *mut c_void, *mut c_void) -> c_int =
        unsafe { std::mem::transmute(real(c"pthread_create", &REAL)) };
    // SAFETY: the caller's promise.
    unsafe { real(thread, attributes, begin, argument) }
}

/// syscall(2), through which the engine makes the calls of messages.
///
/// # Safety
///
/// As there.
#[unsafe(no_mangle)]
unsafe extern "C" fn syscall(
    number: c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> c_long {
    static REAL: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
    const IORING_REGISTER_PBUF_RING: usize = 22;
    let call = match number {
        libc::SYS_recvfrom => const { place("recvfrom") },
        libc::SYS_recvmsg => const { place("recvmsg") },
        libc::SYS_recvmmsg => const { place("recvmmsg") },
        libc::SYS_sendto => const { place("sendto") },
        libc::SYS_sendmmsg => const { place("sendmmsg") },
        libc::SYS_epoll_pwait => const { place("epoll_pwait") },
        libc::SYS_io_uring_enter => const { place("io_uring_enter") },
        libc::SYS_io_uring_setup => const { place("io_uring_setup") },
        // A ring of buffers takes memory; what else is registered does not.
        libc::SYS_io_uring_register if b == IORING_REGISTER_PBUF_RING => const { place("io_uring_register") },
        _ => CALLS.len(),
    };
    if call < CALLS.len()
        && let Some(failed) = fails(call)
    {
        return failed;
    }
    // SAFETY: up to six arguments, which are numbers or pointers; those that were not given are not looked at.
    let real: unsafe extern "C" fn(c_long, usize, usize, usize, usize, usize, usize) -> c_long =
        unsafe { std::mem::transmute(real(c"syscall", &REAL)) };
    // SAFETY: the caller's promise.
    unsafe { real(number, a, b, c, d, e, f) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::net::TcpListener;

    #[test]
    fn the_call_that_is_meant_fails_and_no_other() {
        let _alone = alone();
        let bind = || TcpListener::bind("127.0.0.1:0").map(drop);
        let mut hits = Vec::new();
        for calls in 0.. {
            arm(calls, 0);
            assert!(bind().is_ok(), "it is not the engine's");
            let result = inside(bind);
            let hit = disarm();
            assert_eq!(result.is_err(), hit.is_some(), "{hit:?}: {result:?}");
            let Some(hit) = hit else { break };
            if let Err(error) = result {
                assert_eq!(error.raw_os_error(), Some(hit.error));
            }
            hits.push(hit.call);
        }
        assert!(hits.starts_with(&["socket"]) && hits.ends_with(&["bind", "listen"]), "{hits:?}");
    }

    #[test]
    fn a_choice_is_one_of_the_errors() {
        let _alone = alone();
        for (choice, error) in
            [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EMFILE].iter().enumerate()
        {
            arm(0, choice);
            let result = inside(|| TcpListener::bind("127.0.0.1:0"));
            assert_eq!(disarm(), Some(Hit { call: "socket", error: *error, errors: 4 }));
            assert_eq!(result.map(drop).map_err(|error: io::Error| error.raw_os_error()), Err(Some(*error)));
        }
    }
}
