//! Datagram sockets: batches, answers that leave with the batch, and what becomes of them.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;

use super::world::{Handle, Random, World};
use super::{InRecvBuf, Simulator};
use crate::driver::{self, Completion, Token};
use crate::peer::Peer;
use crate::sys::{LocalAddr, ReplyTo, plain_port};

/// One datagram for the server.
#[derive(Debug, Clone)]
pub(crate) struct Datagram {
    pub(crate) from: Peer,
    pub(crate) to: LocalAddr,
    /// The hop limit it arrives with; 0 where nobody tells.
    pub(crate) hops: u8,
    pub(crate) bytes: Vec<u8>,
    /// When the server received it.
    pub(crate) received: Option<u64>,
}

/// Datagrams on their way, in both directions.
#[derive(Debug, Default)]
pub(crate) struct Mail {
    /// All that clients send, in this order; the first `arrived` are in the kernel or were read.
    pub(crate) sent: Vec<Datagram>,
    arrived: usize,
    pub(crate) taken: usize,
    /// Answers that left, with the time at which they did.
    pub(crate) answers: Vec<(Peer, Vec<u8>, u64)>,
    /// Answers that did not, because peers' queues were full, or for another reason.
    pub(crate) failed: u64,
    pub(crate) failed_full: u64,
    /// A unix socket: a full queue of the peer is an error of the send.
    pub(crate) is_unix: bool,
}

impl Mail {
    pub(super) fn arrive(&mut self, random: &mut Random) -> bool {
        let most = self.sent.len() - self.arrived;
        self.arrived += random.below(most.min(12) + 1).min(most);
        most > 0
    }

    /// The kernel takes an answer, or does not.
    fn send(&mut self, to: Peer, bytes: Vec<u8>, now: u64, random: &mut Random) -> io::Result<usize> {
        if random.one_in(12) {
            let errno = if self.is_unix && random.one_in(2) {
                self.failed_full += 1;
                libc::EAGAIN
            } else {
                self.failed += 1;
                random.pick(&[libc::ENOBUFS, libc::EMSGSIZE, libc::ECONNREFUSED, libc::EPERM])
            };
            return Err(io::Error::from_raw_os_error(errno));
        }
        let count = bytes.len();
        self.answers.push((to, bytes, now));
        Ok(count)
    }
}

/// A datagram socket.
#[derive(Debug)]
pub(super) struct DatagramSlot {
    pub(super) token: Token,
    pub(super) message_bytes_max: usize,
    pub(super) paused: bool,
    pub(super) draining: bool,
    /// Answers of the current batch.
    replies: Vec<(Peer, Vec<u8>)>,
    /// What became of answers, until the worker is told.
    pub(super) results: VecDeque<(usize, io::Result<usize>)>,
    pub(super) _handle: Handle,
}

impl DatagramSlot {
    pub(super) fn new(token: Token, message_bytes_max: usize, handle: Handle) -> DatagramSlot {
        DatagramSlot {
            token,
            message_bytes_max,
            paused: false,
            draining: false,
            replies: Vec::new(),
            results: VecDeque::new(),
            _handle: handle,
        }
    }

    /// Sends a batch's answers: runs that left together, and each that did not.
    pub(super) fn flush(&mut self, world: &mut World) {
        let mut run = (0, 0);
        for (to, bytes) in self.replies.drain(..) {
            match world.mail.send(to, bytes, world.now, &mut world.random) {
                Ok(count) => run = (run.0 + 1, run.1 + count),
                Err(error) => {
                    if run.0 > 0 {
                        self.results.push_back((run.0, Ok(run.1)));
                    }
                    run = (0, 0);
                    self.results.push_back((1, Err(error)));
                }
            }
        }
        if run.0 > 0 {
            self.results.push_back((run.0, Ok(run.1)));
        }
    }
}

impl Simulator {
    /// A batch of datagrams, or the end of one.
    pub(super) fn next_of_datagrams(&mut self, place: usize) -> Option<Completion<Handle>> {
        let world = &mut *self.world.borrow_mut();
        let slot = &mut self.sockets[place];
        let token = slot.token;
        if !slot.results.is_empty() && world.random.one_in(2) {
            let (answers, result) = slot.results.pop_front()?;
            // There may be more to tell, and there may be a batch.
            self.turn.push(token);
            return Some(Completion::Answered { token, answers, result, memory: Vec::new() });
        }
        if slot.paused {
            slot.flush(world);
            return None;
        }
        if world.random.one_in(40) {
            let error = io::ErrorKind::ConnectionRefused.into();
            return Some(Completion::Failed { token, error });
        }
        if world.mail.taken < world.mail.arrived {
            if self.batch == 0 {
                slot.flush(world);
                return None;
            }
            self.turn.push(token);
            self.recv_buf = InRecvBuf::Batch { token };
            return Some(Completion::Datagrams { token });
        }
        slot.flush(world);
        let is_all = world.mail.taken == world.mail.arrived;
        (is_all && std::mem::take(&mut slot.draining)).then_some(Completion::Drained { token })
    }

    /// The next datagram of the batch.
    pub(super) fn next_of_batch(&mut self) -> Option<driver::Datagram> {
        let token = match self.recv_buf {
            InRecvBuf::Batch { token } | InRecvBuf::Datagram { token, .. } => token,
            InRecvBuf::Nothing | InRecvBuf::Stream { .. } => {
                panic!("a datagram, and no batch is in the receive buffer")
            }
        };
        self.recv_buf = InRecvBuf::Batch { token };
        let world = &mut *self.world.borrow_mut();
        let slot = self.sockets.iter_mut().find(|slot| slot.token == token).expect("an open socket");
        if self.batch == 0 || world.mail.taken == world.mail.arrived {
            return None;
        }
        self.batch -= 1;
        let datagram = &mut world.mail.sent[world.mail.taken];
        world.mail.taken += 1;
        datagram.received = Some(world.now);
        let truncated = datagram.bytes.len() > slot.message_bytes_max;
        let count = datagram.bytes.len().min(slot.message_bytes_max);
        self.buffer.clear();
        self.buffer.extend_from_slice(&datagram.bytes[..count]);
        let (from, to) = (datagram.from.clone(), datagram.to);
        let (plain_port, hops) = (plain_port(&name_of(&from)), datagram.hops);
        self.recv_buf = InRecvBuf::Datagram { token, from, bytes: count, replied: false };
        Some(driver::Datagram { to, truncated, plain_port, hops })
    }

    pub(super) fn recv_buf_sender(&self) -> Peer {
        let InRecvBuf::Datagram { from, .. } = &self.recv_buf else {
            panic!("a sender, and no datagram is in the receive buffer");
        };
        from.clone()
    }

    pub(super) fn put_reply(&mut self, bytes: Vec<u8>) {
        let InRecvBuf::Datagram { token, from, replied, .. } = &mut self.recv_buf else {
            panic!("an answer, and no datagram is in the receive buffer");
        };
        assert!(!std::mem::replace(replied, true), "a datagram is answered once");
        let slot = self.sockets.iter_mut().find(|slot| slot.token == *token).expect("an open socket");
        slot.replies.push((from.clone(), bytes));
    }

    pub(super) fn recv_buf_reply_to(&mut self) -> ReplyTo {
        let InRecvBuf::Datagram { from, replied, .. } = &mut self.recv_buf else {
            panic!("an address for an answer, and no datagram is in the receive buffer");
        };
        assert!(!std::mem::replace(replied, true), "a datagram is answered once");
        ReplyTo::back(&name_of(from), &[])
    }

    pub(super) fn send_by_itself(&mut self, token: Token, to: &ReplyTo, bytes: &[u8]) -> io::Result<usize> {
        assert!(self.sockets.iter().any(|slot| slot.token == token), "a datagram leaves by an open socket");
        let world = &mut *self.world.borrow_mut();
        world.stir();
        world.mail.send(to.peer(), bytes.to_vec(), world.now, &mut world.random)
    }
}

/// A peer's name as the kernel writes it: `sockaddr_in`, `sockaddr_in6`, `sockaddr_un`.
fn name_of(peer: &Peer) -> Vec<u8> {
    let family = |family: i32| (family as u16).to_ne_bytes().to_vec();
    match peer {
        Peer::Ip(SocketAddr::V4(address)) => {
            let port = address.port().to_be_bytes();
            [&family(libc::AF_INET)[..], &port, &address.ip().octets(), &[0; 8]].concat()
        }
        Peer::Ip(SocketAddr::V6(address)) => {
            let port = address.port().to_be_bytes();
            [&family(libc::AF_INET6)[..], &port, &[0; 4], &address.ip().octets(), &[0; 4]].concat()
        }
        Peer::Path(path) => [&family(libc::AF_UNIX)[..], path.as_os_str().as_bytes(), &[0]].concat(),
        Peer::Abstract(name) => [&family(libc::AF_UNIX)[..], &[0], name].concat(),
        Peer::Unnamed => family(libc::AF_UNIX),
    }
}

/// Where a datagram was sent to, most of the time.
pub(crate) const HERE: LocalAddr = LocalAddr::Unicast;
