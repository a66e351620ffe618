//! The file of a unix socket: made with the mode that is asked for, taken over from a server that is gone, and removed at
//! the end, whatever others do to its name meanwhile.
//!
//! ```text
//! bind ── the name is free ──────────────────────────────────────────────> look at what was made
//!   └──── EADDRINUSE ── is it a socket of ours that nobody has? ── no ──> the error
//!                          └─ yes: lock the directory, ask again, remove, bind again
//! ```
//!
//! What stands at a name is looked up once, as an `O_PATH` descriptor; all that is asked and done concerns that file.
//!
//! - **Whether anybody has it**: a datagram socket that connects to it is refused where no socket is bound to it, and
//!   gets another answer where one is, of whatever type and not yet listening too. A file whose socket is gone never gets
//!   another, so the answer stays true.
//! - **The lock** is flock(2) on the directory, only while a stale file is removed, so that nobody removes the file that
//!   another server has just put there in its place. It leaves nothing behind, has no name that could be another file's,
//!   and ends with its holder. Whoever may read the directory can hold it too: that costs two seconds and is an error.
//! - **Removing** is by name; the kernel has no other way. So the file first moves to a name that nobody uses, is looked at
//!   again, and goes back where it is not the one that was meant.
//! - **The mode** is the socket's own when it is bound (unix(7)), less the umask, so a thread without a umask binds it.

use std::ffi::{CString, OsStr};
use std::fs::{self, File, Metadata, Permissions, TryLockError};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process;
use std::thread;
use std::time::Instant;

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::limits::{LOCK_AGAIN, LOCK_PATIENCE, PRIVATE_NAMES_MAX};
use crate::sys;

/// The file of a bound unix socket. It is removed when this is dropped, if it is still the same; drop it before the
/// socket, which keeps its inode from being used again.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use resay::net::unix_file::SocketFile;
/// use socket2::{Domain, Socket, Type};
///
/// let path = std::env::temp_dir().join(format!("resay-doc-{}.sock", std::process::id()));
/// let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
/// let file = SocketFile::bind(&socket, &path, Some(0o600))?;
/// socket.listen(16)?;
/// drop(file);
/// assert!(!path.exists());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SocketFile {
    directory: File,
    name: CString,
    identity: Identity,
    /// Whose it is: in a child of fork(2) it is the parent's.
    process: u32,
}

/// In place of a process: no file of anybody here, so that nobody removes it.
const NOBODY: u32 = 0;

/// Which file it is, as long as it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of_entry(found: &libc::stat) -> Identity {
        Identity { device: found.st_dev, inode: found.st_ino }
    }

    fn of(found: &Metadata) -> Identity {
        Identity { device: found.dev(), inode: found.ino() }
    }
}

impl SocketFile {
    /// Binds a unix socket to `path`, and lets nobody send descriptors to it (`SO_PASSRIGHTS`, where there is that).
    ///
    /// The file has the permissions `mode`, whatever the umask, and at no moment more; without `mode`, what the umask
    /// leaves. A file of a server of this user that is gone is replaced; whatever else stands there stays, and is an error
    /// of the kind `AddrInUse`. A path that no socket can have is one of the kind `InvalidFilename`.
    pub fn bind(socket: impl AsFd, path: &Path, mode: Option<u32>) -> io::Result<SocketFile> {
        let socket = socket.as_fd();
        let address = address_of(path)?;
        let (directory, name) = place_of(path)?;
        sys::refuse_descriptors(socket)?;
        if let Some(mode) = mode {
            // Before bind there is no file: at no moment does it have more than this mode.
            File::from(socket.try_clone_to_owned()?).set_permissions(Permissions::from_mode(mode))?;
        }
        let until = Instant::now() + LOCK_PATIENCE;
        loop {
            match bind(socket, &address, mode.is_some()) {
                Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) && Instant::now() < until => {
                    remove_stale(&directory, &name, until)?;
                }
                result => break result?,
            }
        }
        SocketFile::made(directory, name, mode)
    }

    /// Looks at the file that bind(2) has made.
    fn made(directory: File, name: CString, mode: Option<u32>) -> io::Result<SocketFile> {
        let replaced = || io::Error::other("another file has taken the place of the socket's");
        let found = sys::stat_entry(directory.as_fd(), &name)?;
        if found.st_mode & libc::S_IFMT != libc::S_IFSOCK {
            return Err(replaced());
        }
        let identity = Identity::of_entry(&found);
        // From here on a failure removes it.
        let file = SocketFile { directory, name, identity, process: process::id() };
        if let Some(mode) = mode
            && found.st_mode & 0o7777 != mode
        {
            let entry = sys::open_entry(file.directory.as_fd(), &file.name)?;
            let found = entry.metadata()?;
            if Identity::of(&found) != identity {
                return Err(replaced());
            }
            // There is a umask after all, or the directory has permissions for new files (acl(5)). That this is the
            // very file that was just made cannot be asked for: it is where nobody else may put another there.
            if found.uid() != sys::effective_user() || !is_safe(&file.directory.metadata()?) {
                let why = format!(
                    "its mode is {:o}, and others may replace files in its directory: it is not changed",
                    found.mode() & 0o7777
                );
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
            }
            fs::set_permissions(sys::path_of(&entry), Permissions::from_mode(mode))?;
        }
        Ok(file)
    }

    /// Finds the file of a socket that another process of this user has bound to `path`. That process may serve on: the file
    /// stays whatever becomes of this, until it is [owned](Self::own).
    pub fn adopt(path: &Path) -> io::Result<SocketFile> {
        let (directory, name) = place_of(path)?;
        let mut file = SocketFile::made(directory, name, None)?;
        file.process = NOBODY;
        let owner = sys::open_entry(file.directory.as_fd(), &file.name)?.metadata()?.uid();
        if owner != sys::effective_user() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is another user's"));
        }
        Ok(file)
    }

    /// Owns one that was [adopted](Self::adopt), now that the other process [leaves](Self::leave) it: from here on it is removed
    /// when this is dropped.
    pub fn own(&mut self) {
        // A child of fork(2) does not get its parent's.
        if self.process == NOBODY {
            self.process = process::id();
        }
    }

    /// Drops it, and leaves the file there for whoever goes on with the socket.
    pub fn leave(mut self) {
        self.process = NOBODY;
    }

    /// What it has open, for a child of fork(2) to close.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.directory.as_raw_fd()
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if process::id() == self.process {
            let _ = remove(&self.directory, &self.name, self.identity);
        }
    }
}

fn address_of(path: &Path) -> io::Result<SockAddr> {
    let refused = |why: &str| io::Error::new(io::ErrorKind::InvalidFilename, why);
    let bytes = path.as_os_str().as_bytes();
    if bytes.is_empty() || bytes.contains(&0) {
        return Err(refused("a path has at least one byte, and no NUL"));
    }
    SockAddr::unix(path).map_err(|_| refused("the path of a unix socket has at most 107 bytes"))
}

/// The directory, and the name in it.
fn place_of(path: &Path) -> io::Result<(File, CString)> {
    let no_name = || io::Error::new(io::ErrorKind::InvalidFilename, "the path ends without a name");
    let name = CString::new(path.file_name().ok_or_else(no_name)?.as_bytes())?;
    let directory = match path.parent() {
        Some(parent) if parent != OsStr::new("") => parent,
        _ => Path::new("."),
    };
    Ok((sys::open_directory(directory)?, name))
}

fn bind(socket: BorrowedFd<'_>, address: &SockAddr, has_mode: bool) -> io::Result<()> {
    let bind = |socket: BorrowedFd<'_>, address: &SockAddr| SockRef::from(&socket).bind(address);
    if has_mode {
        let (copy, address) = (socket.try_clone_to_owned()?, address.clone());
        if let Some(result) = sys::without_umask(move || bind(copy.as_fd(), &address)) {
            return result;
        }
    }
    bind(socket, address)
}

/// Whether only we, and root, can replace a file of ours in this directory.
fn is_safe(directory: &Metadata) -> bool {
    const STICKY: u32 = 0o1000;
    let is_owner_safe = directory.uid() == 0 || directory.uid() == sys::effective_user();
    let is_writable_by_others = directory.mode() & 0o022 != 0;
    is_owner_safe && (!is_writable_by_others || directory.mode() & STICKY != 0)
}

/// Removes the file of a server that is gone. Whatever else stands there stays, and is the error.
fn remove_stale(directory: &File, name: &CString, until: Instant) -> io::Result<()> {
    // Without the lock first: nobody waits for it in vain.
    if find_stale(directory, name)?.is_none() {
        return Ok(());
    }
    let _lock = lock(directory, until)?;
    match find_stale(directory, name)? {
        // Its descriptor is open while it is removed: no other file can have this identity.
        Some((_open, identity)) => remove(directory, name, identity),
        None => Ok(()),
    }
}

/// The socket of this user at this name, if nobody has it; `None`: the name is free.
fn find_stale(directory: &File, name: &CString) -> io::Result<Option<(File, Identity)>> {
    let in_use = |why: &str| Err(io::Error::new(io::ErrorKind::AddrInUse, why));
    let entry = match sys::open_entry(directory.as_fd(), name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result?,
    };
    let found = entry.metadata()?;
    if !found.file_type().is_socket() {
        return in_use("something that is not a socket stands there");
    }
    if found.uid() != sys::effective_user() {
        return in_use("a socket of another user stands there");
    }
    let probe = Socket::new(Domain::UNIX, Type::DGRAM.nonblocking().cloexec(), None)?;
    match probe.connect(&SockAddr::unix(sys::path_of(&entry))?) {
        Err(error) if error.raw_os_error() == Some(libc::ECONNREFUSED) => {
            Ok(Some((entry, Identity::of(&found))))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            in_use("a socket stands there; whether a server has it is not seen without /proc")
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && is_closed(&found) => in_use(
            "a socket stands there; whether a server has it is not seen without the right to write to it",
        ),
        _ => in_use("another server is listening there"),
    }
}

/// Its owner may not write to it.
fn is_closed(found: &Metadata) -> bool {
    found.mode() & 0o200 == 0
}

/// Locks a directory, so that of several servers one looks and removes at a time. `None`: it cannot be locked here, being
/// unreadable or on a file system that has no locks. What can go wrong then is told by [`remove`].
fn lock(directory: &File, until: Instant) -> io::Result<Option<File>> {
    let Ok(file) = sys::open_to_lock(directory.as_fd()) else { return Ok(None) };
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) if Instant::now() < until => thread::sleep(LOCK_AGAIN),
            Err(TryLockError::WouldBlock) => {
                let place = fs::read_link(sys::path_of(directory)).unwrap_or_default();
                let holder = match holder_of(&file.metadata()?) {
                    Some(holder) => format!("process {holder}"),
                    None => "another process".to_owned(),
                };
                let why = format!(
                    "a stale socket stands there, and {holder} has had the lock of {} for {LOCK_PATIENCE:?}",
                    place.display()
                );
                return Err(io::Error::new(io::ErrorKind::AddrInUse, why));
            }
            Err(TryLockError::Error(_)) => return Ok(None),
        }
    }
}

/// Which process has the lock of a file (proc_locks(5)).
fn holder_of(locked: &Metadata) -> Option<u32> {
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let inode = locked.ino().to_string();
    locks.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (kind, pid, file) = (words.next()?, words.nth(2)?, words.next()?);
        // It is 0 or negative where that process is not seen from here.
        let pid = pid.parse().ok().filter(|pid| *pid != 0);
        (kind == "FLOCK" && file.rsplit(':').next() == Some(&inode)).then_some(pid).flatten()
    })
}

/// Removes the file that has this identity, if the name still means it.
fn remove(directory: &File, name: &CString, identity: Identity) -> io::Result<()> {
    let is_it = |name: &CString| match sys::stat_entry(directory.as_fd(), name) {
        Ok(found) => Ok(Identity::of_entry(&found) == identity),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    };
    if !is_it(name)? {
        return Ok(());
    }
    // Between here and the rename another file may come by the name. It is then away for some microseconds.
    for number in 0..PRIVATE_NAMES_MAX {
        let private = CString::new(format!(".resay-{}-{number}", process::id()))?;
        match sys::rename(directory.as_fd(), name, &private) {
            Ok(()) if is_it(&private)? => return sys::unlink(directory.as_fd(), &private),
            Ok(()) => return sys::rename(directory.as_fd(), &private, name),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // The file system does not rename so. Another file that comes now is removed in place of ours.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => break,
            Err(error) => return Err(error),
        }
    }
    sys::unlink(directory.as_fd(), name)
}
