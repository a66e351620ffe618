//! Files by descriptor: a name is looked up once, and what is found is what all later calls mean.
//!
//! Descriptors are opened with `O_PATH` (open(2)): that waits for nothing, whatever stands there, follows no symbolic
//! link where it must not, and wakes no device and no other end of a FIFO.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::call::syscall;
use super::threads::start_helper;

/// A directory, to look up names in.
pub(crate) fn open_directory(path: &Path) -> io::Result<File> {
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    File::options().read(true).custom_flags(flags).open(path)
}

/// What a name in a directory means, if need be a symbolic link itself.
pub(crate) fn open_entry(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<File> {
    open_at(directory, name, libc::O_PATH | libc::O_NOFOLLOW)
}

/// What fstatat(2) says of a name in a directory, if need be of a symbolic link itself. It takes no descriptor, so it works
/// where none is left.
pub(crate) fn stat_entry(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<libc::stat> {
    let mut status = MaybeUninit::<libc::stat>::zeroed();
    let fd = directory.as_raw_fd();
    // SAFETY: the name is NUL-terminated, and `status` has room for one stat.
    syscall!(unsafe { libc::fstatat(fd, name.as_ptr(), status.as_mut_ptr(), libc::AT_SYMLINK_NOFOLLOW) })?;
    // SAFETY: plain data, zeroed and then filled.
    Ok(unsafe { status.assume_init() })
}

/// The directory once more, in the form that flock(2) takes. It must be readable for that.
pub(crate) fn open_to_lock(directory: BorrowedFd<'_>) -> io::Result<File> {
    open_at(directory, c".", libc::O_RDONLY | libc::O_DIRECTORY)
}

fn open_at(directory: BorrowedFd<'_>, name: &CStr, flags: i32) -> io::Result<File> {
    // SAFETY: the name is NUL-terminated; nothing is created, so there is no mode.
    let fd = unsafe { libc::openat(directory.as_raw_fd(), name.as_ptr(), flags | libc::O_CLOEXEC) };
    let fd = syscall!(fd)?;
    // SAFETY: a descriptor that openat just made and that nobody else knows.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// A path that means this very file, where /proc is mounted (proc_pid_fd(5)).
pub(crate) fn path_of(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// renameat2(2) within a directory, onto a name that is free.
pub(crate) fn rename(directory: BorrowedFd<'_>, from: &CStr, to: &CStr) -> io::Result<()> {
    let fd = directory.as_raw_fd();
    // SAFETY: both names are NUL-terminated.
    let result = unsafe {
        libc::syscall(libc::SYS_renameat2, fd, from.as_ptr(), fd, to.as_ptr(), libc::RENAME_NOREPLACE)
    };
    syscall!(result).map(drop)
}

/// unlinkat(2) of what is no directory.
pub(crate) fn unlink(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    // SAFETY: the name is NUL-terminated.
    syscall!(unsafe { libc::unlinkat(directory.as_raw_fd(), name.as_ptr(), 0) }).map(drop)
}

/// Runs `work` on a thread that has a umask of its own, of 0; the process's is not touched. `None`: the system gives it
/// none (some containers), or no thread.
pub(crate) fn without_umask<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    // Not a scoped thread: those make a name for the calling one, which is the host's and would keep it to its end.
    let thread = start_helper("bind", || {
        // SAFETY: takes no pointer; what is unshared is this thread's copy of umask, root and working directory.
        syscall!(unsafe { libc::unshare(libc::CLONE_FS) }).ok()?;
        // SAFETY: cannot fail. It is this thread's own since the call before, and the thread ends here.
        unsafe { libc::umask(0) };
        Some(work())
    });
    thread.ok()?.join().flatten()
}
