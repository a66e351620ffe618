//! Where a control socket stands: a file that only its owner may use, from the first moment on.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, fchmod};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};
use rustix::process::geteuid;

/// Reading and writing for the owner, nothing for anybody else; connecting takes the right to write (unix(7)).
const MODE: u32 = 0o600;
/// Clients that may wait to be accepted.
const BACKLOG: i32 = 16;
/// How long another server that starts at the same place is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const LOCK_RETRY: Duration = Duration::from_millis(10);

/// Binds and listens at `path`. As for the engine's listeners, the file of a server that is gone is replaced, and
/// whatever else stands there is the error.
pub(super) fn open(path: &Path) -> io::Result<(UnixListener, Place)> {
    // Until the socket listens, it looks to others as if its server were gone.
    let _lock = Lock::take(path)?;
    let address = SocketAddrUnix::new(path)?;
    let socket = socket()?;
    // The file takes its mode from the socket, so that it has no other at any moment.
    fchmod(&socket, Mode::from_bits_truncate(MODE))?;
    match bind(&socket, &address) {
        Err(Errno::ADDRINUSE) => {
            remove_stale(path, &address)?;
            bind(&socket, &address)?;
        }
        result => result?,
    }
    let place = Place::of(path)?;
    if place.mode != MODE {
        // The umask took more away. It belongs to whoever started us, and is not touched.
        fs::set_permissions(path, Permissions::from_mode(MODE))?;
    }
    listen(&socket, BACKLOG)?;
    Ok((UnixListener::from(socket), place))
}

fn socket() -> rustix::io::Result<OwnedFd> {
    socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
}

fn remove_stale(path: &Path, address: &SocketAddrUnix) -> io::Result<()> {
    let in_use = |why: &str| Err(io::Error::new(io::ErrorKind::AddrInUse, why));
    let found = fs::symlink_metadata(path)?;
    if !found.file_type().is_socket() {
        return in_use("something that is not a socket stands there");
    }
    if found.uid() != geteuid().as_raw() {
        return in_use("a socket of another user stands there");
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&probe, address) {
        Err(Errno::CONNREFUSED) => fs::remove_file(path),
        Err(Errno::NOENT) => Ok(()),
        // Also a socket of another type, and one whose queue is full: somebody has it.
        _ => in_use("another server is listening there"),
    }
}

/// The file of a bound socket: removed when this is dropped, if it is still ours.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    device: u64,
    inode: u64,
    mode: u32,
}

impl Place {
    fn of(path: &Path) -> io::Result<Place> {
        let found = fs::symlink_metadata(path)?;
        let path = std::path::absolute(path)?;
        Ok(Place { path, device: found.dev(), inode: found.ino(), mode: found.mode() & 0o7777 })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Ok(found) = fs::symlink_metadata(&self.path)
            && (found.dev(), found.ino()) == (self.device, self.inode)
        {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A locked file beside a socket's, by the name that the engine's listeners use: of two servers that find a stale
/// socket, one goes first.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    fn take(socket: &Path) -> io::Result<Lock> {
        let mut path = socket.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        let until = Instant::now() + LOCK_PATIENCE;
        loop {
            let file = open_lock(&path)?;
            match file.try_lock() {
                // A file that was removed before we had it locks nobody out.
                Ok(()) if is_at(&file, &path)? => return Ok(Lock { path, _file: file }),
                Ok(()) => {}
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) if Instant::now() < until => thread::sleep(LOCK_RETRY),
                Err(TryLockError::WouldBlock) => {
                    return Err(io::Error::new(io::ErrorKind::AddrInUse, "another server is starting there"));
                }
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is locked: whoever opened it in between finds that it is gone.
        let _ = fs::remove_file(&self.path);
    }
}

fn open_lock(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(MODE).custom_flags(flags.bits().cast_signed());
    options.open(path)
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
