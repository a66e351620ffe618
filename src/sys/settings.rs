//! Options of sockets as values: set, and put back.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use socket2::SockRef;

use super::options::{get_int, set_int};
use super::sockets::{close_on_exec, give_back, set_status_flags, status_flags};

/// asm-generic/socket.h; Linux 5.14: which buffers the kernel may not resize any more. Architectures with numbers of their
/// own keep that state.
const SO_BUF_LOCK: i32 = 72;

/// An option of a socket, and what it is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Setting {
    level: i32,
    name: i32,
    value: i32,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Needed,
    /// Some kernels, or some protocols, have no such option, and nothing depends on it there.
    Optional,
    /// A buffer: more is as good. The kernel doubles what it is told (socket(7)).
    Buffer,
}

impl Setting {
    pub(crate) const fn new(level: i32, name: i32, value: i32) -> Setting {
        Setting { level, name, value, kind: Kind::Needed }
    }

    /// One that a socket need not know.
    pub(crate) const fn optional(level: i32, name: i32, value: i32) -> Setting {
        Setting { level, name, value, kind: Kind::Optional }
    }

    /// A buffer that is to be no smaller than that, as the kernel counts: twice of it.
    pub(crate) const fn at_least(level: i32, name: i32, value: i32) -> Setting {
        Setting { level, name, value, kind: Kind::Buffer }
    }

    /// setsockopt(2), where that is needed.
    pub(crate) fn apply(self, socket: BorrowedFd<'_>) -> io::Result<()> {
        if self.kind == Kind::Buffer && self.is_enough(get_int(socket, self.level, self.name)?) {
            return Ok(());
        }
        match set_int(socket, self.level, self.name, self.value) {
            Err(error) if self.kind == Kind::Optional && is_unknown(&error) => Ok(()),
            result => result,
        }
    }

    fn is_enough(self, present: i32) -> bool {
        match self.kind {
            Kind::Buffer => present / 2 >= self.value,
            Kind::Needed | Kind::Optional => present == self.value,
        }
    }

    fn is_buffer(self) -> bool {
        self.level == libc::SOL_SOCKET && matches!(self.name, libc::SO_RCVBUF | libc::SO_SNDBUF)
    }
}

fn is_unknown(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOPROTOOPT | libc::EOPNOTSUPP))
}

/// What a connection is told as it is accepted, since it has not inherited it from its listener.
#[derive(Debug, Clone, Default)]
pub(crate) struct OnAccept {
    settings: Box<[Setting]>,
    /// Closing it may wait for its peer: it was made before its listener was ours, with whatever options that had then.
    may_linger: bool,
}

impl OnAccept {
    pub(crate) fn new(settings: Vec<Setting>, may_linger: bool) -> OnAccept {
        OnAccept { settings: settings.into(), may_linger }
    }

    /// Whether there is nothing to be told.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.settings.is_empty() && !self.may_linger
    }

    /// Tells it. What a socket does not take, because its peer is gone by now for example, its first use will show.
    pub(crate) fn apply(&self, socket: BorrowedFd<'_>) {
        if self.may_linger {
            let _ = SockRef::from(&socket).set_linger(None);
        }
        for setting in &self.settings {
            let _ = setting.apply(socket);
        }
    }
}

/// A socket that somebody else has opened, and what is changed of it. Unless it is [kept](Handover::keep), it is put back as
/// it was, and a number that it was handed over by stays open.
#[derive(Debug)]
pub(crate) struct Handover {
    socket: Option<OwnedFd>,
    is_number: bool,
    status_flags: Option<i32>,
    linger: Option<Duration>,
    /// What the options were, in the order in which they were changed.
    settings: Vec<Setting>,
    locked_buffers: Option<i32>,
}

impl Handover {
    /// `is_number`: what [`adopt`](super::adopt) gave.
    pub(crate) fn new(socket: OwnedFd, is_number: bool) -> Handover {
        Handover {
            socket: Some(socket),
            is_number,
            status_flags: None,
            linger: None,
            settings: Vec::new(),
            locked_buffers: None,
        }
    }

    /// The socket.
    pub(crate) fn fd(&self) -> io::Result<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Lets no program that is started inherit this descriptor.
    pub(crate) fn close_on_exec(&self) -> io::Result<()> {
        close_on_exec(self.fd()?.as_raw_fd())
    }

    /// Ends the handover: everything stays as it is now.
    pub(crate) fn keep(mut self) -> io::Result<OwnedFd> {
        self.socket.take().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Lets no call on it wait; for all that share its description.
    pub(crate) fn set_nonblocking(&mut self) -> io::Result<()> {
        let flags = status_flags(self.fd()?)?;
        if flags & libc::O_NONBLOCK == 0 {
            set_status_flags(self.fd()?, flags | libc::O_NONBLOCK)?;
            self.status_flags = Some(flags);
        }
        Ok(())
    }

    /// Lets closing it not wait.
    pub(crate) fn end_linger(&mut self) -> io::Result<()> {
        let socket = self.fd()?;
        let before = SockRef::from(&socket).linger()?;
        if before.is_some() {
            SockRef::from(&socket).set_linger(None)?;
            self.linger = before;
        }
        Ok(())
    }

    /// Changes one option.
    pub(crate) fn set(&mut self, setting: Setting) -> io::Result<()> {
        let socket = self.fd()?;
        let before = match get_int(socket, setting.level, setting.name) {
            Err(error) if setting.kind == Kind::Optional && is_unknown(&error) => return Ok(()),
            result => result?,
        };
        if setting.is_enough(before) {
            return Ok(());
        }
        let locked = get_int(socket, libc::SOL_SOCKET, SO_BUF_LOCK).ok();
        setting.apply(socket)?;
        if setting.is_buffer() {
            self.locked_buffers = self.locked_buffers.or(locked);
        }
        self.settings.push(Setting { value: before, ..setting });
        Ok(())
    }

    /// What fails here cannot be helped, and does not with what the kernel has said itself.
    fn restore(&self, socket: BorrowedFd<'_>) {
        for setting in self.settings.iter().rev() {
            let Setting { level, name, value, .. } = *setting;
            if setting.is_buffer() {
                // What was raised beyond the limits of the system only its administrator raises so again.
                let forced =
                    if name == libc::SO_RCVBUF { libc::SO_RCVBUFFORCE } else { libc::SO_SNDBUFFORCE };
                if set_int(socket, level, forced, value / 2).is_err() {
                    let _ = set_int(socket, level, name, value / 2);
                }
            } else {
                let _ = set_int(socket, level, name, value);
            }
        }
        if let Some(locked) = self.locked_buffers {
            let _ = set_int(socket, libc::SOL_SOCKET, SO_BUF_LOCK, locked);
        }
        if self.linger.is_some() {
            let _ = SockRef::from(&socket).set_linger(self.linger);
        }
        if let Some(flags) = self.status_flags {
            let _ = set_status_flags(socket, flags);
        }
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        let Some(socket) = self.socket.take() else { return };
        self.restore(socket.as_fd());
        if self.is_number {
            give_back(socket);
        }
    }
}
