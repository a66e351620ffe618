//! The queues that are shared with the kernel, the names of requests, and what the kernel is asked for.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::OnceLock;
use std::time::Duration;

use io_uring::{IoUring, opcode, squeue, types};
use resay_plugin::environment;

use super::buffers::{Buffers, Group};
use crate::limits::{RING_BUFFER_BYTES, RING_COMPLETIONS};
use crate::slab::Token;
use crate::sys;

const ENTER_GETEVENTS: u32 = 1;
const ENTER_EXT_ARG: u32 = 8;
/// One receive takes one buffer; a full one lets the others have theirs first.
const RECEIVE_BUNDLE: u16 = 1 << 4;

/// What we have just answered has hardly been answered in turn: wait before the first attempt.
const RECEIVE_POLL_FIRST: u16 = 1;

/// Names a request: what it does, and for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) operation: Operation,
    /// The index of the socket's token.
    pub(super) index: u32,
    /// 24 bits of its version.
    version: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Receive,
    Accept,
    /// Receives datagrams or records.
    ReceiveMessage,
    /// Answers a datagram; what follows is no socket but a place among the replies in flight.
    Reply,
    Send,
    /// Waits until a socket takes more.
    Writable,
    /// Watches a descriptor that is not the ring's.
    Watch,
    Cancel,
}

impl Operation {
    /// Each in the place of its number.
    const ALL: [Operation; 8] = [
        Operation::Receive,
        Operation::Accept,
        Operation::ReceiveMessage,
        Operation::Reply,
        Operation::Send,
        Operation::Writable,
        Operation::Watch,
        Operation::Cancel,
    ];
}

const _: () = {
    let mut number = 0;
    while number < Operation::ALL.len() {
        assert!(Operation::ALL[number] as usize == number);
        number += 1;
    }
};

/// The queues that are shared with the kernel.
pub(super) struct Ring(pub(super) IoUring);

/// Why this driver cannot be had here, if it cannot. The kernel is asked once a process, unless something has just run out.
///
/// A seccomp filter may kill whoever asks (seccomp(2)), and nobody can see that beforehand: hence the variable.
pub(super) fn probe() -> io::Result<()> {
    const SWITCH: &str = "RESAY_NO_URING";
    if environment::variable(SWITCH).is_some_and(|value| !value.is_empty() && value != "0") {
        return Err(io::Error::other(format!("{SWITCH} is set")));
    }
    static ANSWER: OnceLock<Result<(), String>> = OnceLock::new();
    let known = match ANSWER.get() {
        Some(known) => known,
        None => match on_helper_thread(probe_here) {
            Err(error) if is_passing(&error) => return Err(error),
            found => ANSWER.get_or_init(|| found.map_err(|error| error.to_string())),
        },
    };
    known.clone().map_err(io::Error::other)
}

/// Whether something has run out that may be there the next time.
fn is_passing(error: &io::Error) -> bool {
    use libc::{EAGAIN, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM};
    matches!(error.raw_os_error(), Some(EAGAIN | EINTR | EMFILE | ENFILE | ENOBUFS | ENOMEM))
}

/// What fails, where it is not that something has run out.
fn failing(what: &str) -> impl FnOnce(io::Error) -> io::Error {
    move |error| if is_passing(&error) { error } else { io::Error::other(format!("{what}: {error}")) }
}

fn probe_here() -> io::Result<()> {
    let too_old = || io::Error::other("the kernel is too old for it: it takes Linux 6.17");
    // It knows no call of io_uring that waits, and lets no other thread run meanwhile.
    if environment::variable("RESAY_VG").is_none()
        && environment::variable("LD_PRELOAD")
            .is_some_and(|list| list.to_string_lossy().contains("/vgpreload_"))
    {
        return Err(io::Error::other("valgrind stops all threads while one waits in io_uring_enter(2)"));
    }
    let ring = builder().build(8).map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => io::Error::other(
            "the kernel refuses it: the sysctl kernel.io_uring_disabled, or a seccomp filter",
        ),
        Some(libc::ENOSYS) => io::Error::other("there is none: an old kernel, or a seccomp filter"),
        Some(libc::EINVAL) => too_old(),
        _ => error,
    })?;
    let parameters = ring.params();
    if !parameters.is_feature_nodrop() || !parameters.is_feature_ext_arg() {
        return Err(too_old());
    }
    let mut probe = io_uring::Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(failing("it cannot be asked"))?;
    let needed = [
        ("poll", opcode::PollAdd::CODE),
        ("accept", opcode::AcceptMulti::CODE),
        ("send", opcode::Send::CODE),
        ("sendmsg", opcode::SendMsg::CODE),
        ("recv", opcode::RecvMulti::CODE),
        ("recvmsg", opcode::RecvMsgMulti::CODE),
        ("cancel", opcode::AsyncCancel2::CODE),
    ];
    if let Some((name, _)) = needed.iter().find(|(_, code)| !probe.is_supported(*code)) {
        return Err(io::Error::other(format!("the kernel has no {name} in it")));
    }
    let mut buffers = Buffers::new(Group::STREAMS).map_err(failing("no memory for its buffers"))?;
    buffers.register(&ring).map_err(failing("the kernel takes no ring of buffers"))?;
    let mut ring = Ring(ring);
    probe_capped_receive(&mut ring).map_err(|error| match error.raw_os_error() {
        Some(libc::EINVAL) => {
            io::Error::other("the kernel cannot bound a multishot receive: it takes Linux 6.17")
        }
        _ => failing("a receive fails")(error),
    })?;
    probe_submitted_send(&mut ring).map_err(failing("a send does not report what it must"))
}

impl Request {
    const VERSION: u32 = 0xff_ffff;

    pub(super) fn new(operation: Operation, token: Token) -> Request {
        Request { operation, index: token.index() as u32, version: token.version() & Self::VERSION }
    }

    /// One that is about no socket.
    pub(super) fn plain(operation: Operation, index: u32) -> Request {
        Request { operation, index, version: 0 }
    }

    /// What the kernel gives back with a completion: the operation, the version, the index.
    pub(super) fn name(self) -> u64 {
        (self.operation as u64) << 56 | self.socket_name()
    }

    /// The part of the name that all requests of a socket have in common.
    pub(super) fn socket_name(self) -> u64 {
        u64::from(self.version) << 32 | u64::from(self.index)
    }

    /// Whether the socket under its index is the one that it was made for.
    #[inline]
    pub(super) fn is_of(self, version: u32) -> bool {
        self.version == version & Self::VERSION
    }

    #[inline]
    pub(super) fn of(name: u64) -> Option<Request> {
        let operation = *Operation::ALL.get((name >> 56) as usize)?;
        Some(Request { operation, index: name as u32, version: (name >> 32) as u32 & Self::VERSION })
    }
}

impl Ring {
    /// Puts a request into the queue; into the kernel, where the queue is full.
    pub(super) fn push(&mut self, entry: squeue::Entry) -> io::Result<()> {
        #[cfg(test)]
        let entry = sys::faults::request(entry);
        // SAFETY: what each request points to lives until its last completion has been taken: sockets and vectors in
        // their slot, buffers in their mapping, which the ring does not outlive.
        if unsafe { self.0.submission().push(&entry) }.is_ok() {
            return Ok(());
        }
        self.enter(Some(Duration::ZERO))?;
        // SAFETY: as above.
        unsafe { self.0.submission().push(&entry) }.map_err(|_| io::ErrorKind::ResourceBusy.into())
    }

    /// io_uring_enter(2): submits what is queued, runs what is due, and waits for a completion.
    pub(super) fn enter(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let queued = self.0.submission().len() as u32;
        let submitter = self.0.submitter();
        let result = match timeout {
            Some(Duration::ZERO) => {
                // SAFETY: no argument is passed.
                unsafe { submitter.enter::<libc::sigset_t>(queued, 0, ENTER_GETEVENTS, None) }
            }
            None => {
                // SAFETY: no argument is passed.
                unsafe { submitter.enter::<libc::sigset_t>(queued, 1, ENTER_GETEVENTS, None) }
            }
            Some(timeout) => {
                let timeout = types::Timespec::from(timeout);
                let arguments = types::SubmitArgs::new().timespec(&timeout);
                let flags = ENTER_GETEVENTS | ENTER_EXT_ARG;
                // SAFETY: the flag says what the argument is; both live until the call returns.
                unsafe { submitter.enter(queued, 1, flags, Some(&arguments)) }
            }
        };
        match result {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // The time is up; or there are completions to be taken first; or the kernel is short of memory, and
                // what is queued stays queued.
                Some(libc::ETIME | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ring")
    }
}

pub(super) fn builder() -> io_uring::Builder {
    let mut builder = IoUring::builder();
    builder.dontfork().setup_single_issuer().setup_defer_taskrun().setup_submit_all().setup_clamp();
    builder.setup_cqsize(RING_COMPLETIONS);
    builder
}

/// A receive that goes on until it is cancelled, one buffer at a time.
pub(super) fn receive_entry(socket: RawFd, request: Request) -> squeue::Entry {
    let receive = opcode::RecvMulti::new(types::Fd(socket), Group::STREAMS.id).len(RING_BUFFER_BYTES as u32);
    let mut entry = receive.build().user_data(request.name());
    const { assert!(size_of::<squeue::Entry>() == 64) };
    // SAFETY: an entry is a `struct io_uring_sqe` (`repr(C)`), whose `ioprio` is the u16 at its third byte. The cap
    // is only kept by requests that may take several buffers; being that of one, it never gives them a second.
    unsafe { *(&raw mut entry).cast::<u16>().add(1) |= RECEIVE_BUNDLE };
    entry
}

/// The same without the bound: what has come may take many buffers at once.
pub(super) fn receive_many_entry(socket: RawFd, request: Request) -> squeue::Entry {
    opcode::RecvMulti::new(types::Fd(socket), Group::STREAMS.id).build().user_data(request.name())
}

/// A receive that is over with one buffer, once there is something.
pub(super) fn receive_once_entry(socket: RawFd, request: Request) -> squeue::Entry {
    let receive = opcode::Recv::new(types::Fd(socket), std::ptr::null_mut(), RING_BUFFER_BYTES as u32);
    let receive = receive.buf_group(Group::STREAMS.id).ioprio(RECEIVE_POLL_FIRST);
    receive.build().flags(squeue::Flags::BUFFER_SELECT).user_data(request.name())
}

/// Accepts until it is cancelled. Who has connected is to be asked for: there is one place for all their names.
pub(super) fn accept_entry(socket: RawFd, request: Request) -> squeue::Entry {
    let accept = opcode::AcceptMulti::new(types::Fd(socket)).flags(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC);
    accept.build().user_data(request.name())
}

/// Receives datagrams or records until it is cancelled, each into a buffer of its own. `template` says how much room the name
/// and the control messages have, and must stay where it is until the request is over.
pub(super) fn receive_message_entry(
    socket: RawFd,
    template: *const libc::msghdr,
    request: Request,
) -> squeue::Entry {
    let receive = opcode::RecvMsgMulti::new(types::Fd(socket), template, Group::MESSAGES.id);
    receive.build().user_data(request.name())
}

/// A send that has no completion if the kernel takes all of it.
pub(super) fn submitted_entry(socket: RawFd, bytes: &[u8], request: Request) -> squeue::Entry {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let send = opcode::Send::new(types::Fd(socket), bytes.as_ptr(), len).flags(flags);
    send.build().flags(squeue::Flags::SKIP_SUCCESS).user_data(request.name())
}

/// A request whose success is of no interest.
pub(super) fn skip_success(entry: squeue::Entry) -> squeue::Entry {
    let request = Request::plain(Operation::Cancel, 0);
    entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(request.name())
}

/// Runs something on a thread that ends with it. The kernel notifies whoever created a ring when the ring goes, and the
/// notification interrupts what that thread then waits in (`EINTR`): it is not to be one of the host's.
pub(super) fn on_helper_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    // Not a scoped thread, which would leave a note of itself with the host's.
    let result = sys::start_helper("ring", work)?.join();
    result.unwrap_or_else(|| Err(io::Error::other("the thread that was to ask for it panicked")))
}

/// Receives something as the driver does.
fn probe_capped_receive(ring: &mut Ring) -> io::Result<()> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ring.push(receive_entry(ours.as_raw_fd(), Request::plain(Operation::Receive, 0)))?;
    sys::send(theirs.as_fd(), b"?")?;
    ring.enter(Some(Duration::from_secs(1)))?;
    let Some(completion) = ring.0.completion().next() else { return Err(io::ErrorKind::TimedOut.into()) };
    match completion.result() {
        1 => Ok(()),
        error if error < 0 => Err(io::Error::from_raw_os_error(-error)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Sends as the driver does (`submitted.rs`): what is sent whole has no completion, and what is not has one.
fn probe_submitted_send(ring: &mut Ring) -> io::Result<()> {
    let (ours, _theirs) = std::os::unix::net::UnixStream::pair()?;
    let more_than_fits = vec![0_u8; 8 << 20];
    let small = more_than_fits.get(..1).unwrap_or_default();
    for bytes in [small, &more_than_fits] {
        ring.push(submitted_entry(ours.as_raw_fd(), bytes, Request::plain(Operation::Send, 0)))?;
        // The call runs the send: what the bytes are in is not needed any more.
        ring.enter(Some(Duration::ZERO))?;
    }
    let mut results = Vec::new();
    while let Some(completion) = ring.0.completion().next() {
        // Of the receive before, whose peer is gone.
        if Request::of(completion.user_data()).is_some_and(|request| request.operation == Operation::Send) {
            results.push(completion.result());
        }
    }
    match results[..] {
        [sent] if sent > 0 && (sent as usize) < more_than_fits.len() => Ok(()),
        _ => Err(io::Error::other(format!("of one that is whole and one that is not: {results:?}"))),
    }
}
