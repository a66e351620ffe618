//! The child's side of a probe: it notes what it is doing, and where a bad memory access went, in the shared file.

use crate::guarded;
use crate::request::{ProbeResult, Request, VARIABLE, output_path};
use crate::shared::Shared;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

/// A child ends itself this long after its time limit, if its parent did not.
const ORPHAN_SECONDS: u64 = 5;

static SHARED: OnceLock<Shared> = OnceLock::new();

/// A process that was started for a probe.
pub(crate) struct Child {
    pub(crate) request: Request,
}

impl Child {
    /// `None`: this process was not started for a probe.
    pub(crate) fn begin() -> Option<io::Result<Child>> {
        std::env::var_os(VARIABLE).map(|path| Child::open(Path::new(&path)))
    }

    fn open(path: &Path) -> io::Result<Child> {
        let shared = Shared::open(path)?;
        let shared = SHARED.get_or_init(|| shared);
        let request = Request::unpack(&shared.request()).ok_or(io::ErrorKind::InvalidData)?;
        redirect_streams(&output_path(path));
        watch_faults();
        // SAFETY: takes numbers only.
        unsafe { libc::alarm((request.limit.as_secs() + ORPHAN_SECONDS) as libc::c_uint) };
        Ok(Child { request })
    }

    pub(crate) fn finish(self, result: &ProbeResult) {
        if let Some(shared) = SHARED.get() {
            shared.answer(&result.pack());
        }
    }
}

/// Notes what is being done now, for the parent of a child that crashes or hangs.
pub(crate) fn step(text: impl AsRef<str>) {
    if let Some(shared) = SHARED.get() {
        shared.step(text.as_ref());
    }
}

/// Sends standard output and error to a file.
fn redirect_streams(path: &Path) {
    if let Ok(file) = fs::File::create(path) {
        for stream in [libc::STDOUT_FILENO, libc::STDERR_FILENO] {
            // SAFETY: both are open descriptors.
            unsafe { libc::dup2(file.as_raw_fd(), stream) };
        }
    }
}

/// Notes where a bad access went before the process dies of it.
fn watch_faults() {
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: zero is a valid sigaction; the handler has the type that SA_SIGINFO asks for and calls nothing
        // that is not safe in a handler.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_fault;
            action.sa_sigaction = handler as libc::sighandler_t;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESETHAND;
            libc::sigaction(signal, &action, std::ptr::null_mut());
            let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            libc::setrlimit(libc::RLIMIT_CORE, &none);
        }
    }
}

/// Returns to the faulting instruction, which faults again; then the default action ends the process.
extern "C" fn on_fault(_: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let Some(shared) = SHARED.get() else { return };
    // SAFETY: the system passes a siginfo_t.
    let address = unsafe { (*info).si_addr() } as usize;
    let cell = &shared.header().fault;
    if let Some(fault) = guarded::locate(address) {
        cell.region.store(fault.region, Ordering::Relaxed);
        cell.side.store(fault.side, Ordering::Relaxed);
        cell.distance.store(fault.distance, Ordering::Relaxed);
    }
    cell.access.store(access(context), Ordering::Relaxed);
    cell.happened.store(1, Ordering::Release);
}

/// 1: read, 2: written, 0: not known.
fn access(context: *mut libc::c_void) -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        const WRITE: libc::greg_t = 2; // of a page fault's error code
        // SAFETY: the system passes a ucontext_t to a handler with SA_SIGINFO.
        let error =
            unsafe { (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[libc::REG_ERR as usize] };
        if error & WRITE == 0 { 1 } else { 2 }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = context;
        0
    }
}
