//! The contract between policy and kernel: completions.
//!
//! A worker owns one driver: the engine's is [`hybrid`], the simulation's is `simulator`. The driver owns the sockets, the
//! memory that is read into, and every byte that the worker has handed over to be sent; the worker owns everything else.
//! A turn is one [`wait`](Driver::wait), then [`next`](Driver::next) until it gives `None`; every other call may happen at any
//! time between two calls of those, from the thread that makes them. Required of a driver:
//!
//! - **Names.** The worker chooses a [`Token`] for each socket it hands over; the driver uses it in every
//!   completion. A token whose socket was closed never appears again.
//! - **[`wait`](Driver::wait)** blocks until something has happened or the time is up. It is the only call
//!   that blocks, and it reads the clock; [`now`](Driver::now) is that reading.
//! - **[`next`](Driver::next)** gives the completions of this turn one by one, then `None`. It is bounded: a socket
//!   that always has more is continued in the next turn, after all others had theirs. Each stream has at
//!   most one read a turn.
//! - **The receive buffer.** [`Received`](Completion::Received) and [`next_datagram`](Driver::next_datagram) lend bytes that
//!   belong to the driver: [`recv_buf`](Driver::recv_buf) gives them, writable, until the next call of `next` or
//!   `next_datagram`. The worker may change them, and may hand any part of them back with
//!   [`send_from_recv_buf`](Driver::send_from_recv_buf) or [`reply_from_recv_buf`](Driver::reply_from_recv_buf) without a
//!   copy. In front of a stream's bytes are up to `HEADROOM_BYTES` more that the worker may write to; a datagram is the whole
//!   buffer.
//! - **Datagrams** come in batches: after [`Datagrams`](Completion::Datagrams), `next_datagram` lends them one by one. Each
//!   has at most one answer. The answers leave when `next` is called, and what was not asked for until then is lost.
//! - **One send at a time.** A stream has at most one send in flight. `send` and `send_from_recv_buf` either finish at
//!   once ([`Progress::Done`]) or take over the bytes and report [`Completion::Sent`] later; until then the
//!   worker keeps further answers in the connection's send queue.
//! - **Submitted sends.** [`submit_from_recv_buf`](Driver::submit_from_recv_buf) may also give [`Progress::Submitted`]: the
//!   kernel gets the bytes with the next `wait`, and nothing more is reported if it takes all of them, which is what nearly
//!   always happens. After `wait` and before `next` the worker asks [`next_unsent`](Driver::next_unsent) for the others: those
//!   sends are pending from then on. Until that wait such a send is in flight; whoever must know when it ends asks for it with
//!   [`report_sent`](Driver::report_sent).
//! - **A broken stream.** After [`Completion::Failed`] or [`Progress::Failed`], [`unsent`](Driver::unsent) still tells how
//!   many bytes of the send in flight the kernel had not taken, until the worker closes the stream.
//! - **Pausing.** A paused socket reports no `Received`, `Ended` or `Accepted`, but its sends go on.
//! - **Closing** is immediate for the worker. The driver keeps what the kernel may still write to until the
//!   kernel has let go of it.
//! - **Draining** a socket asks for one [`Completion::Drained`] as soon as nothing that has already arrived is left
//!   unreported.
//!
//! Every driver gives the same results in the same order for one socket; order between sockets is free.

mod chunks;
pub(crate) mod epoll;
mod flags;
pub(crate) mod hybrid;
#[cfg(any(test, fuzzing))]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a violated contract ends it")]
pub(crate) mod simulator;
#[allow(unsafe_code)] // Unsafe boundary: the kernel.
pub(crate) mod uring;

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::buffer::Pool;
use crate::peer::{Credentials, Peer, SocketKind};
pub(crate) use crate::slab::Token;
use crate::sys::{self, LocalAddr, OnAccept, Presence, ReplyTo, SendBuffer};
use crate::timer::Moment;

/// Something that has happened.
#[derive(Debug)]
pub(crate) enum Completion<S> {
    /// A listener brought a connection.
    Accepted { token: Token, socket: S, peer: Peer },
    /// One accept failed; the listener goes on unless it is paused.
    AcceptFailed { token: Token, error: io::Error },
    /// A stream or a seqpacket connection brought bytes: see [`Driver::recv_buf`]. `truncated`: a record longer
    /// than the connection's limit, of which the end is lost.
    Received { token: Token, truncated: bool },
    /// The peer has ended its side; nothing more will be received.
    Ended { token: Token },
    /// The send that was in flight is finished; its memory comes back.
    Sent { token: Token, memory: Vec<u8> },
    /// The connection is broken, and still to be closed by the worker. So is a listener, which accepts nobody any more. On a
    /// datagram socket: an error that some earlier answer left behind; the socket goes on.
    Failed { token: Token, error: io::Error },
    /// Datagrams: see [`Driver::next_datagram`].
    Datagrams { token: Token },
    /// So many answers to datagrams left (`Ok`: their bytes), or did not. Memory of answers that has been done with comes
    /// back.
    Answered { token: Token, answers: usize, result: io::Result<usize>, memory: Vec<u8> },
    /// Nothing that had arrived before [`Driver::drain`] is left.
    Drained { token: Token },
}

/// One of the datagrams that came, as admission looks at it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Datagram {
    pub to: LocalAddr,
    /// Its end is lost.
    pub truncated: bool,
    /// The port it comes from, if it is known to come from an IP address and a port that can be answered; else 0, and
    /// [`Driver::sender`] tells.
    pub plain_port: u16,
    /// The hop limit it arrived with, where its socket reports it; else 0.
    pub hops: u8,
}

/// The bytes of the last completion: `buffer[start..]` arrived, what is before is free to be written to.
#[derive(Debug)]
pub(crate) struct RecvBuf<'a> {
    pub buffer: &'a mut [u8],
    pub start: usize,
}

/// How far a send came.
#[derive(Debug)]
pub(crate) enum Progress {
    /// All of it left; the memory, if any was handed over, comes back.
    Done(Vec<u8>),
    /// A [`Completion::Sent`] will follow.
    Pending,
    /// Nothing will follow, unless [`Driver::next_unsent`] names it.
    Submitted,
    /// The connection is broken; close it.
    Failed(io::Error),
}

/// What the kernel knows of a connection.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// Our side's address.
    pub local: Option<Peer>,
    /// Whose process the peer is, where it is a unix socket.
    pub credentials: Option<Credentials>,
}

impl Facts {
    /// The user of a unix peer.
    pub(crate) fn user(&self) -> Option<u32> {
        self.credentials.map(|credentials| credentials.user)
    }
}

/// How to close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Close {
    /// What the kernel holds for the peer is still delivered (close(2) without `SO_LINGER`).
    Gently,
    /// With a reset, where the socket knows it; what the kernel holds is thrown away.
    Reset,
}

/// Asks the kernel of a socket.
fn facts_of(socket: BorrowedFd<'_>) -> Facts {
    let is_unix = sys::get_int(socket, libc::SOL_SOCKET, libc::SO_DOMAIN).is_ok_and(|of| of == libc::AF_UNIX);
    let credentials = if is_unix { sys::peer_credentials(socket).ok() } else { None };
    Facts { local: sys::local(socket).ok(), credentials }
}

/// See the module's documentation.
pub(crate) trait Driver {
    /// A socket, until a worker hands it to its driver.
    type Socket: Send + 'static;

    fn now(&self) -> Moment;
    /// The clock itself, for what must not be early by as much as this turn has taken.
    fn read_clock(&self) -> Moment;
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()>;
    /// Whether the last wait found anything to do; a wake-up from another thread is something.
    fn has_found(&self) -> bool;
    fn next(&mut self) -> Option<Completion<Self::Socket>>;
    /// For a turn in which `next` has brought nothing: whether that was for a wrong guess at who is ready, and somebody else is.
    fn wait_again(&mut self) -> bool {
        false
    }

    fn add_listener(&mut self, token: Token, socket: Self::Socket) -> io::Result<()>;
    /// Whose process a unix peer is.
    fn peer_credentials(&self, socket: &Self::Socket) -> io::Result<Credentials>;
    /// Sets what a connection that was just accepted has not inherited.
    fn configure(&self, socket: &Self::Socket, settings: &OnAccept);
    /// What the kernel knows of a connection.
    fn facts(&self, token: Token) -> Facts;
    /// Whether the peer of a connection is still there, also of one that is paused.
    fn presence(&self, token: Token) -> Presence;
    /// How much of the send buffer of a unix datagram socket is used by answers that peers have not read.
    fn send_buffer(&self, token: Token) -> Option<SendBuffer>;
    /// Another descriptor of a socket, for somebody who goes on with it. Only sockets of the kernel have one.
    fn copy_socket(&self, _: Token) -> io::Result<OwnedFd> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// A connection that waits at a listener, if there is one, in a turn or between two. Only of a listener that is not
    /// accepting by itself: see [`refuse`](Driver::refuse).
    fn accept_waiting(&mut self, token: Token) -> Option<io::Result<(Self::Socket, Peer)>>;
    /// Begins to refuse whoever comes to a listener or a datagram socket. A listener has to be drained before, where it
    /// accepts by itself ([`accepts_by_itself`](Driver::accepts_by_itself)); it is paused from then on, and to be closed
    /// without being drained again. A datagram socket goes on with what has arrived.
    fn refuse(&mut self, token: Token) -> io::Result<()>;
    /// Takes peers again. Of unix sockets this is not possible.
    fn stop_refusing(&mut self, token: Token, waiting_max: i32) -> io::Result<()>;
    /// Whether the kernel may have accepted connections of a listener that are not reported yet.
    fn accepts_by_itself(&self, token: Token) -> bool;
    /// `read_bytes_max` bounds one read (a record, for seqpacket).
    fn add_stream(
        &mut self,
        token: Token,
        socket: Self::Socket,
        kind: SocketKind,
        read_bytes_max: usize,
    ) -> io::Result<()>;
    /// `reports`: the socket reports where each datagram was sent to, or the hop limit it arrived with.
    fn add_datagram_socket(
        &mut self,
        token: Token,
        socket: Self::Socket,
        message_bytes_max: usize,
        reports: bool,
    ) -> io::Result<()>;

    /// The next of the datagrams that the last completion told of, and its bytes, which `recv_buf` gives too; `None`: that
    /// was all.
    fn next_datagram(&mut self) -> Option<(Datagram, &mut [u8])>;
    fn recv_buf(&mut self) -> RecvBuf<'_>;
    /// Sends `buffer[range]` of the receive buffer. `pool`: memory for what the peer does not take at once.
    fn send_from_recv_buf(&mut self, token: Token, range: Range<usize>, pool: &mut Pool) -> Progress;
    /// The same for a send whose end nobody waits for.
    fn submit_from_recv_buf(&mut self, token: Token, range: Range<usize>, pool: &mut Pool) -> Progress {
        self.send_from_recv_buf(token, range, pool)
    }
    /// A submitted send that the last wait has not sent whole, or has found broken: it is pending now.
    fn next_unsent(&mut self) -> Option<Token> {
        None
    }
    /// Makes a submitted send pending after all. Whether it still was in flight.
    fn report_sent(&mut self, _: Token) -> bool {
        false
    }
    fn send(&mut self, token: Token, bytes: Vec<u8>) -> Progress;
    /// Bytes in flight that the kernel has not taken: a figure that falls while the peer reads, and stays when the stream
    /// breaks.
    fn unsent(&self, token: Token) -> usize;
    /// Answers the datagram in the receive buffer with a part of it; the answer leaves at the latest with the turn's end.
    fn reply_from_recv_buf(&mut self, range: Range<usize>);
    fn reply(&mut self, bytes: Vec<u8>);
    /// Where an answer to the datagram in the receive buffer is to go, for one that is sent later.
    fn reply_to(&mut self) -> Option<ReplyTo>;
    /// Who sent the datagram in the receive buffer.
    fn sender(&mut self) -> Peer;
    /// The address of that sender, if it has one.
    fn source(&mut self) -> Option<SocketAddr> {
        let sender = self.sender();
        let source = if let Peer::Ip(address) = &sender { Some(*address) } else { None };
        self.recycle_peer(sender);
        source
    }
    /// Gives back what [`sender`](Driver::sender) gave: the memory of a name serves for the next one.
    fn recycle_peer(&mut self, peer: Peer);
    /// What became of answers that were not told of yet, for a socket that is about to be closed: so many, and how they
    /// went; `None` when there are no more.
    fn take_send_results(&mut self, token: Token) -> Option<(usize, io::Result<usize>)>;
    /// Sends a datagram by itself, at once or not at all.
    fn send_to(&mut self, token: Token, to: &ReplyTo, bytes: &[u8]) -> io::Result<usize>;

    fn pause(&mut self, token: Token);
    fn resume(&mut self, token: Token);
    fn drain(&mut self, token: Token);
    /// Ends our side; everything that was sent before still arrives, then the end.
    fn shutdown_write(&mut self, token: Token) -> io::Result<()>;
    fn close(&mut self, token: Token, how: Close);
    /// After everything was closed, and no turn will follow: waits until the kernel has let go of it.
    fn wait_closed(&mut self);
}
