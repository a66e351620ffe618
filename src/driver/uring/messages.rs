//! Datagrams and records: each in a buffer of its own, behind a head that says whose it is.
//!
//! The receive buffer shows datagrams one after the other, also where several came as one; what becomes of their answers
//! is in `replies.rs`. Records (seqpacket) are reported like what streams bring.

use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;

use io_uring::cqueue;

use super::replies::{ReplyInFlight, SendMsg};
use super::slots::{DRAINING, Event, Role};
use super::{Arrived, Completion, Datagram, RecvSource, Token, Uring};
use crate::limits::RING_MESSAGE_BUFFERS_MAX;
use crate::peer::Peer;
use crate::sys::{self, LocalAddr, Reply};

/// What the kernel writes first (`struct io_uring_recvmsg_out`): the lengths of name, control messages and bytes, flags.
const HEAD_BYTES: usize = 16;
/// Headers that are kept for reuse after a burst.
const TRIMMED_HEADERS: usize = 32;

/// How much room names and control messages have in front of what is received. The kernel looks at it whenever it
/// receives, so it does not move.
pub(super) struct MsghdrTemplate {
    header: Box<libc::msghdr>,
    name_bytes: usize,
    control_bytes: usize,
}

// SAFETY: the header points to nothing.
unsafe impl Send for MsghdrTemplate {}

/// A datagram socket.
#[derive(Debug)]
pub(super) struct DatagramSocket {
    template: MsghdrTemplate,
    message_bytes_max: usize,
    /// The socket reports where each was sent to.
    pub(super) destinations: bool,
    /// The kernel has refused to cut a send into datagrams.
    pub(super) refuses_segments: bool,
}

/// Where things are in a buffer.
#[derive(Debug, Clone)]
pub(super) struct RecvmsgOut {
    pub(super) name: Range<usize>,
    pub(super) control: Range<usize>,
    pub(super) bytes: Range<usize>,
    flags: i32,
}

/// What is received: `start..end` of the message in a buffer, which is cut every `segment_bytes`.
#[derive(Debug, Clone)]
pub(super) struct RecvMessage {
    pub(super) token: Token,
    pub(super) id: u16,
    /// All that the kernel has written.
    pub(super) len: usize,
    pub(super) message: RecvmsgOut,
    segment_bytes: usize,
    pub(super) start: usize,
    pub(super) end: usize,
    /// The first datagram was reported.
    is_begun: bool,
}

/// What datagrams need beside buffers.
#[derive(Debug)]
pub(super) struct Messages {
    pub(super) sockets: Vec<Option<DatagramSocket>>,
    /// The longest records of seqpacket connections; many have the same.
    pub(super) record_bytes: Vec<usize>,
    /// What they all have in front of them.
    record_template: MsghdrTemplate,
    /// Memory for the name of a datagram's sender.
    pub(super) sender: Peer,
    /// Where the datagram in the receive buffer was sent to.
    to: LocalAddr,
    /// Answers to what is in the received buffer; all in slot 0, as [`sys::run`] knows them.
    pub(super) replies: Vec<(u16, Reply)>,
    pub(super) in_flight: Vec<Option<ReplyInFlight>>,
    pub(super) free: Vec<u32>,
    /// Of each buffer, how many answers are on their way that need it.
    pub(super) users: Vec<u16>,
    /// Those that are not used.
    pub(super) headers: Vec<SendMsg>,
}

impl MsghdrTemplate {
    fn new(name_bytes: usize, control_bytes: usize) -> MsghdrTemplate {
        // SAFETY: msghdr is plain data for which all zero is valid.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_namelen = name_bytes as libc::socklen_t;
        header.msg_controllen = control_bytes as _;
        MsghdrTemplate { header: Box::new(header), name_bytes, control_bytes }
    }

    /// Finds its way in `buffer`, of which the kernel has filled what is behind `headroom`.
    fn read(&self, buffer: &[u8], headroom: usize) -> Option<RecvmsgOut> {
        let head = buffer.get(headroom..)?.get(..HEAD_BYTES)?;
        let word = |place: usize| {
            let bytes = head.get(place * 4..)?.first_chunk()?;
            Some(u32::from_ne_bytes(*bytes))
        };
        let name_start = headroom + HEAD_BYTES;
        let control_start = name_start + self.name_bytes;
        let start = control_start + self.control_bytes;
        let end = (start + word(2)? as usize).min(buffer.len());
        (start <= end).then_some(RecvmsgOut {
            name: name_start..name_start + (word(0)? as usize).min(self.name_bytes),
            control: control_start..control_start + (word(1)? as usize).min(self.control_bytes),
            bytes: start..end,
            flags: word(3)? as i32,
        })
    }
}

impl Messages {
    pub(super) fn new() -> Messages {
        Messages {
            sockets: Vec::new(),
            record_bytes: Vec::new(),
            record_template: MsghdrTemplate::new(0, 0),
            sender: Peer::Unnamed,
            to: LocalAddr::Bound,
            replies: Vec::new(),
            in_flight: Vec::new(),
            free: Vec::new(),
            users: vec![0; RING_MESSAGE_BUFFERS_MAX],
            headers: Vec::new(),
        }
    }

    /// Gives back memory that only a burst has needed.
    pub(super) fn trim(&mut self) {
        self.headers.truncate(TRIMMED_HEADERS);
        if self.in_flight.iter().all(Option::is_none) {
            self.in_flight = Vec::new();
            self.free = Vec::new();
        }
    }

    /// The place of a limit of records, if there are not too many.
    pub(super) fn limit_of_records(&mut self, bytes: usize) -> Option<u16> {
        let known = self.record_bytes.iter().position(|known| *known == bytes);
        let place = known.unwrap_or_else(|| {
            self.record_bytes.push(bytes);
            self.record_bytes.len() - 1
        });
        u16::try_from(place).ok()
    }

    /// Takes in a datagram socket, if there are not too many.
    pub(super) fn open(
        &mut self,
        message_bytes_max: usize,
        destinations: bool,
        is_coalesced: bool,
    ) -> Option<u16> {
        let has_control = destinations || is_coalesced;
        let socket = DatagramSocket {
            template: MsghdrTemplate::new(sys::NAME_BYTES, if has_control { sys::CONTROL_BYTES } else { 0 }),
            message_bytes_max,
            destinations,
            refuses_segments: false,
        };
        let place = self.sockets.iter().position(Option::is_none).unwrap_or(self.sockets.len());
        let name = u16::try_from(place).ok()?;
        if place == self.sockets.len() {
            self.sockets.push(None);
        }
        self.sockets[place] = Some(socket);
        Some(name)
    }

    /// Whether one more datagram socket can be taken in.
    pub(super) fn has_room(&self) -> bool {
        self.sockets.len() < usize::from(u16::MAX)
    }

    pub(super) fn socket(&mut self, role: Role) -> Option<&mut DatagramSocket> {
        match role {
            Role::Datagrams { socket } => self.sockets.get_mut(usize::from(socket))?.as_mut(),
            _ => None,
        }
    }

    /// What the kernel is told of the room in front of what it receives.
    pub(super) fn template(&self, role: Role) -> *const libc::msghdr {
        match role {
            Role::Datagrams { socket } => match self.sockets.get(usize::from(socket)) {
                Some(Some(socket)) => &raw const *socket.template.header,
                _ => &raw const *self.record_template.header,
            },
            _ => &raw const *self.record_template.header,
        }
    }
}

impl Uring {
    pub(super) fn take_message(&mut self, token: Token, arrived: Arrived) -> Option<Completion<OwnedFd>> {
        let slot = self.slot_mut(token)?;
        if !cqueue::more(arrived.flags) {
            slot.end_receive();
        }
        let (role, is_draining) = (slot.role, slot.flags.has(DRAINING));
        let is_datagram = matches!(role, Role::Datagrams { .. });
        match (arrived.result, arrived.buffer()) {
            (len @ 0.., Some(id)) if is_datagram => {
                self.receive_on(token);
                self.report_message(token, id, len as usize)
            }
            (len @ 0.., Some(id)) => {
                let event = self.record_in(role, id, len as usize);
                self.report_or_keep(token, event)
            }
            (result, _) => {
                self.forget(arrived);
                match -result {
                    libc::ENOBUFS if !is_draining => {
                        self.message_buffers.note_enobufs(token);
                        None
                    }
                    ..=0 | libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN => {
                        self.receive_on(token);
                        None
                    }
                    // An error that an earlier answer left behind on the socket (ECONNREFUSED and so on, udp(7)).
                    error if is_datagram => {
                        self.receive_on(token);
                        Some(Completion::Failed { token, error: io::Error::from_raw_os_error(error) })
                    }
                    error => self.report_or_keep(token, Event::Failed(io::Error::from_raw_os_error(error))),
                }
            }
        }
    }

    /// What a record's buffer holds.
    fn record_in(&mut self, role: Role, id: u16, len: usize) -> Event {
        let Role::Records { limit } = role else { return Event::End };
        let bytes_max = self.messages.record_bytes.get(usize::from(limit)).copied().unwrap_or(0);
        let buffer = self.message_buffers.bytes(id, len);
        let headroom = buffer.len() - len;
        let message = self.messages.record_template.read(buffer, headroom);
        match message {
            // See `tell_empty_records`.
            Some(RecvmsgOut { bytes, flags, .. }) if !bytes.is_empty() || flags & libc::MSG_CTRUNC != 0 => {
                let is_too_long = flags & libc::MSG_TRUNC != 0 || bytes.len() > bytes_max;
                let end = bytes.end.min(bytes.start + bytes_max);
                Event::Record { id, start: bytes.start as u32, end: end as u32, truncated: is_too_long }
            }
            _ => {
                self.message_buffers.give_back(id);
                Event::End
            }
        }
    }

    fn report_message(&mut self, token: Token, id: u16, len: usize) -> Option<Completion<OwnedFd>> {
        let role = self.slot(token)?.role;
        let buffer = self.message_buffers.bytes(id, len);
        let headroom = buffer.len() - len;
        let message = self.messages.socket(role).and_then(|socket| socket.template.read(buffer, headroom));
        let Some(message) = message else {
            self.message_buffers.give_back(id);
            return None;
        };
        let control = buffer.get(message.control.clone()).unwrap_or_default();
        let (destination, segment_bytes) = sys::read_control(control);
        self.messages.to = destination;
        let whole = message.bytes.len();
        let segment_bytes = if segment_bytes == 0 { whole } else { segment_bytes };
        let start = message.bytes.start;
        let received =
            RecvMessage { token, id, len, message, segment_bytes, start, end: start, is_begun: false };
        self.recv = RecvSource::Message(received);
        Some(Completion::Datagrams { token })
    }

    /// Goes to the next datagram of a buffer.
    pub(crate) fn next_datagram(&mut self) -> Option<(Datagram, &mut [u8])> {
        let RecvSource::Message(received) = &self.recv else { return None };
        let role = self.slot(received.token)?.role;
        let message_bytes_max = self.messages.socket(role)?.message_bytes_max;
        let to = self.messages.to;
        let RecvSource::Message(received) = &mut self.recv else { return None };
        let whole = &received.message.bytes;
        // Also one without bytes is one.
        if received.end >= whole.end && received.is_begun {
            return None;
        }
        received.is_begun = true;
        received.start = received.end;
        received.end = whole.end.min(received.start + received.segment_bytes);
        let is_too_long = received.end - received.start > message_bytes_max;
        let truncated = received.message.flags & libc::MSG_TRUNC != 0 || is_too_long;
        let buffer = self.message_buffers.bytes(received.id, received.len);
        let name = buffer.get(received.message.name.clone()).unwrap_or_default();
        let datagram = Datagram { to, truncated, is_plain_source: sys::is_plain_source(name) };
        Some((datagram, buffer.get_mut(received.start..received.end).unwrap_or_default()))
    }

    /// Who sent it.
    pub(crate) fn sender(&mut self) -> Peer {
        let mut sender = std::mem::replace(&mut self.messages.sender, Peer::Unnamed);
        if let RecvSource::Message(received) = &self.recv {
            let buffer = self.message_buffers.bytes(received.id, received.len);
            sys::read_sender(&mut sender, buffer.get(received.message.name.clone()).unwrap_or_default());
        }
        sender
    }
}

impl std::fmt::Debug for MsghdrTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MsghdrTemplate({}, {})", self.name_bytes, self.control_bytes)
    }
}
