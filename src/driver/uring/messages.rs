//! Datagrams and records: each in a buffer of its own, behind a head that says whose it is.
//!
//! Datagrams are lent one after the other, also where several came as one. Their answers are kept until all of a buffer
//! were lent, and leave with the next enter, out of that very buffer where they stand in it; it goes back to the ring
//! when the last of them has left. Records (seqpacket) are told like what streams bring.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use io_uring::{cqueue, opcode, types};

use super::ring::{Operation, Request};
use super::{Arrived, Completion, Held, Place, Role, Source, Token, Uring};
use crate::limits::RING_MESSAGE_BUFFERS_MAX;
use crate::peer::Peer;
use crate::sys::{self, LocalAddr, Reply, ReplyTo};

/// What the kernel writes first (`struct io_uring_recvmsg_out`): the lengths of name, control messages and bytes, flags.
const HEAD_BYTES: usize = 16;

/// How much room names and control messages have in front of what is received. The kernel looks at it whenever it
/// receives, so it does not move.
pub(super) struct Shape {
    header: Box<libc::msghdr>,
    name_bytes: usize,
    control_bytes: usize,
}

// SAFETY: the header points to nothing.
unsafe impl Send for Shape {}

/// A datagram socket.
#[derive(Debug)]
pub(super) struct Port {
    shape: Shape,
    message_bytes_max: usize,
    /// The socket reports where each was sent to.
    destinations: bool,
    /// The kernel has refused to cut a send into datagrams.
    refuses_segments: bool,
}

/// Where things are in a buffer.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    name: Range<usize>,
    control: Range<usize>,
    bytes: Range<usize>,
    flags: i32,
}

/// What is lent: `start..end` of the message in a buffer, which is cut every `segment_bytes`.
#[derive(Debug, Clone)]
pub(super) struct LentMessage {
    slot: u32,
    pub(super) id: u16,
    /// All that the kernel has written.
    pub(super) len: usize,
    message: Layout,
    segment_bytes: usize,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// What datagrams need beside buffers.
#[derive(Debug)]
pub(super) struct Messages {
    pub(super) ports: Vec<Option<Port>>,
    /// The longest records of seqpacket connections; many have the same.
    pub(super) record_bytes: Vec<usize>,
    /// What they all have in front of them.
    record_shape: Shape,
    /// Who sent what is lent, and to whom.
    pub(super) from: Peer,
    to: LocalAddr,
    /// Answers to what is in the lent buffer; all in slot 0, as [`sys::run`] knows them.
    replies: Vec<(u16, Reply)>,
    outbox: Vec<Option<Answer>>,
    free: Vec<u32>,
    /// Of each buffer, how many answers are on their way that need it.
    users: Vec<u16>,
    /// Those that are not used.
    headers: Vec<Header>,
}

/// An answer on its way: one datagram, or several as one.
#[derive(Debug)]
struct Answer {
    slot: u32,
    token: Token,
    lent: LentMessage,
    /// In the buffer, where it stands there.
    part: Range<usize>,
    memory: Vec<u8>,
    is_in_place: bool,
    count: usize,
    segment_bytes: usize,
    header: Option<Header>,
    is_second_try: bool,
}

/// What sendmsg(2) is told, in memory that does not move.
struct Header(Box<(libc::msghdr, libc::iovec, Option<ReplyTo>)>);

// SAFETY: the pointers in it are set before each use, to what lives until the send is over.
unsafe impl Send for Header {}

impl Shape {
    fn new(name_bytes: usize, control_bytes: usize) -> Shape {
        // SAFETY: msghdr is plain data for which all zero is valid.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_namelen = name_bytes as libc::socklen_t;
        header.msg_controllen = control_bytes as _;
        Shape { header: Box::new(header), name_bytes, control_bytes }
    }

    /// Finds its way in `buffer`, of which the kernel has filled what is behind `headroom`.
    fn read(&self, buffer: &[u8], headroom: usize) -> Option<Layout> {
        let head = buffer.get(headroom..)?.get(..HEAD_BYTES)?;
        let word = |place: usize| {
            let bytes = head.get(place * 4..)?.first_chunk()?;
            Some(u32::from_ne_bytes(*bytes))
        };
        let name_start = headroom + HEAD_BYTES;
        let control_start = name_start + self.name_bytes;
        let start = control_start + self.control_bytes;
        let end = (start + word(2)? as usize).min(buffer.len());
        (start <= end).then_some(Layout {
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
            ports: Vec::new(),
            record_bytes: Vec::new(),
            record_shape: Shape::new(0, 0),
            from: Peer::Unnamed,
            to: LocalAddr::Bound,
            replies: Vec::new(),
            outbox: Vec::new(),
            free: Vec::new(),
            users: vec![0; RING_MESSAGE_BUFFERS_MAX],
            headers: Vec::new(),
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
        let port = Port {
            shape: Shape::new(sys::NAME_BYTES, if has_control { sys::CONTROL_BYTES } else { 0 }),
            message_bytes_max,
            destinations,
            refuses_segments: false,
        };
        let place = self.ports.iter().position(Option::is_none).unwrap_or(self.ports.len());
        let name = u16::try_from(place).ok()?;
        if place == self.ports.len() {
            self.ports.push(None);
        }
        self.ports[place] = Some(port);
        Some(name)
    }

    fn port(&mut self, role: Role) -> Option<&mut Port> {
        match role {
            Role::Datagrams { port } => self.ports.get_mut(usize::from(port))?.as_mut(),
            _ => None,
        }
    }

    /// The longest message of a datagram socket, and whether it reports where each was sent to.
    pub(super) fn terms(&mut self, role: Role) -> Option<(usize, bool)> {
        self.port(role).map(|port| (port.message_bytes_max, port.destinations))
    }

    /// What the kernel is told of the room in front of what it receives.
    pub(super) fn shape(&self, role: Role) -> *const libc::msghdr {
        match role {
            Role::Datagrams { port } => match self.ports.get(usize::from(port)) {
                Some(Some(port)) => &raw const *port.shape.header,
                _ => &raw const *self.record_shape.header,
            },
            _ => &raw const *self.record_shape.header,
        }
    }
}

impl Uring {
    pub(super) fn take_message(&mut self, index: u32, arrived: Arrived) -> Option<Completion<OwnedFd>> {
        let slot = self.slot_at(index)?;
        if !cqueue::more(arrived.flags) {
            slot.end_receive();
        }
        let (role, token, is_draining) = (slot.role, slot.token, slot.is_draining);
        if slot.is_closed {
            self.forget(arrived);
            self.free_if_over(index);
            return None;
        }
        let is_datagram = matches!(role, Role::Datagrams { .. });
        match (arrived.result, arrived.buffer()) {
            (len @ 0.., Some(id)) if is_datagram => {
                self.receive_on(index);
                self.lend_message(index, id, len as usize)
            }
            (len @ 0.., Some(id)) => {
                let held = self.record_in(role, id, len as usize);
                self.hold_or_report(index, held)
            }
            (result, _) => {
                self.forget(arrived);
                match -result {
                    libc::ENOBUFS if !is_draining => {
                        self.message_buffers.lacked_by(index);
                        None
                    }
                    ..=0 | libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN => {
                        self.receive_on(index);
                        None
                    }
                    // An error that an earlier answer left behind on the socket (ECONNREFUSED and so on, udp(7)).
                    error if is_datagram => {
                        self.receive_on(index);
                        Some(Completion::Failed { token, error: io::Error::from_raw_os_error(error) })
                    }
                    error => self.hold_or_report(index, Held::Failed(io::Error::from_raw_os_error(error))),
                }
            }
        }
    }

    /// What a record's buffer holds.
    fn record_in(&mut self, role: Role, id: u16, len: usize) -> Held {
        let Role::Records { limit } = role else { return Held::End };
        let bytes_max = self.messages.record_bytes.get(usize::from(limit)).copied().unwrap_or(0);
        let buffer = self.message_buffers.bytes(id, len);
        let headroom = buffer.len() - len;
        let message = self.messages.record_shape.read(buffer, headroom);
        match message {
            // See `tell_empty_records`.
            Some(Layout { bytes, flags, .. }) if !bytes.is_empty() || flags & libc::MSG_CTRUNC != 0 => {
                let is_too_long = flags & libc::MSG_TRUNC != 0 || bytes.len() > bytes_max;
                let end = bytes.end.min(bytes.start + bytes_max);
                Held::Record { id, start: bytes.start as u32, end: end as u32, truncated: is_too_long }
            }
            _ => {
                self.message_buffers.give_back(id);
                Held::End
            }
        }
    }

    fn lend_message(&mut self, index: u32, id: u16, len: usize) -> Option<Completion<OwnedFd>> {
        let role = self.slot_at(index)?.role;
        let buffer = self.message_buffers.bytes(id, len);
        let headroom = buffer.len() - len;
        let message = self.messages.port(role).and_then(|port| port.shape.read(buffer, headroom));
        let Some(message) = message else {
            self.message_buffers.give_back(id);
            return None;
        };
        sys::read_sender(&mut self.messages.from, buffer.get(message.name.clone()).unwrap_or_default());
        let control = buffer.get(message.control.clone()).unwrap_or_default();
        let (destination, segment_bytes) = sys::read_control(control);
        self.messages.to = destination;
        let whole = message.bytes.len();
        let segment_bytes = if segment_bytes == 0 { whole } else { segment_bytes };
        let start = message.bytes.start;
        self.lend_segment(LentMessage { slot: index, id, len, message, segment_bytes, start, end: start })
    }

    /// Lends the next datagram of a buffer.
    fn lend_segment(&mut self, lent: LentMessage) -> Option<Completion<OwnedFd>> {
        let Some(slot) = self.slot_at(lent.slot) else {
            self.message_buffers.give_back(lent.id);
            return None;
        };
        let (token, role) = (slot.token, slot.role);
        let message_bytes_max = self.messages.port(role).map_or(0, |port| port.message_bytes_max);
        let start = lent.end;
        let end = lent.message.bytes.end.min(start + lent.segment_bytes);
        let is_last = end == lent.message.bytes.end;
        let truncated = lent.message.flags & libc::MSG_TRUNC != 0 || end - start > message_bytes_max;
        self.lent = Source::Message(LentMessage { start, end, ..lent });
        Some(Completion::Datagram {
            token,
            // Of several in one buffer each has the same.
            from: if is_last {
                std::mem::replace(&mut self.messages.from, Peer::Unnamed)
            } else {
                self.messages.from.clone()
            },
            to: self.messages.to,
            truncated,
        })
    }

    pub(super) fn set_reply(&mut self, reply: Reply) {
        if matches!(self.lent, Source::Message(_)) {
            self.messages.replies.push((0, reply));
        }
    }

    /// The next datagram of what is lent, or, after its last, the answers' departure.
    pub(super) fn continue_message(&mut self) -> Option<Completion<OwnedFd>> {
        let Source::Message(lent) = &self.lent else { return None };
        let lent = lent.clone();
        let is_open = self.slot_at(lent.slot).is_some_and(|slot| !slot.is_closed);
        if is_open && lent.end < lent.message.bytes.end {
            return self.lend_segment(lent);
        }
        self.lent = Source::Nothing;
        let mut replies = std::mem::take(&mut self.messages.replies);
        if is_open {
            self.answer_message(&lent, &mut replies);
        }
        replies.clear();
        self.messages.replies = replies;
        self.free_message_buffer(lent.id);
        None
    }

    fn answer_message(&mut self, lent: &LentMessage, replies: &mut [(u16, Reply)]) {
        let Some(Place { slot: Some(slot), .. }) = self.slots.get(lent.slot as usize) else { return };
        let (token, role) = (slot.token, slot.role);
        // By a call of its own, where this turn has brought nothing else: that costs less.
        let is_alone = self.is_alone && sys::run(replies, 0) == replies.len();
        let mut at = 0;
        while at < replies.len() {
            let refuses_segments = self.messages.port(role).is_none_or(|port| port.refuses_segments);
            let count = if refuses_segments { 1 } else { sys::run(replies, at) };
            let last = match replies.get(at + count - 1) {
                Some((_, Reply::InPlace(range))) => range.end,
                _ => 0,
            };
            let first = std::mem::replace(&mut replies[at].1, Reply::InPlace(0..0));
            let mut answer = Answer {
                slot: lent.slot,
                token,
                lent: lent.clone(),
                part: 0..0,
                memory: Vec::new(),
                is_in_place: false,
                count,
                segment_bytes: 0,
                header: None,
                is_second_try: false,
            };
            match first {
                Reply::Bytes(memory) => answer.memory = memory,
                Reply::InPlace(range) => {
                    answer.is_in_place = true;
                    answer.segment_bytes = range.len();
                    answer.part = range.start..last;
                }
            }
            if is_alone {
                let result = self.send_answer(&answer);
                self.settle_answer(answer, result);
            } else {
                self.dispatch(answer);
            }
            at += count;
        }
    }

    /// Sends an answer with the next enter.
    fn dispatch(&mut self, answer: Answer) {
        let id = usize::from(answer.lent.id);
        let place = match self.messages.free.pop() {
            Some(place) => place,
            None => {
                self.messages.outbox.push(None);
                (self.messages.outbox.len() - 1) as u32
            }
        };
        let slot = answer.slot;
        self.messages.outbox[place as usize] = Some(answer);
        match self.submit_answer(place) {
            Ok(()) => {
                self.messages.users[id] += 1;
                if let Some(slot) = self.slot_at(slot) {
                    slot.requests += 1;
                }
            }
            Err(error) => {
                if let Some(answer) = self.take_from_outbox(place) {
                    self.settle_answer(answer, Err(error));
                }
            }
        }
    }

    fn submit_answer(&mut self, place: u32) -> io::Result<()> {
        const FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        let answer =
            self.messages.outbox.get_mut(place as usize).and_then(Option::as_mut).ok_or_else(gone)?;
        let slot =
            self.slots.get(answer.slot as usize).and_then(|place| place.slot.as_ref()).ok_or_else(gone)?;
        let socket = types::Fd(slot.socket.as_raw_fd());
        let lent = &answer.lent;
        let buffer = self.message_buffers.bytes(lent.id, lent.len);
        let bytes = if answer.is_in_place {
            buffer.get(answer.part.clone()).unwrap_or_default()
        } else {
            &answer.memory[..]
        };
        let name = buffer.get(lent.message.name.clone()).unwrap_or_default();
        let request = Request { operation: Operation::Answer, slot: place, generation: 0 };
        // A name that fills all of `sun_path` is one that the kernel does not take back: see `ReplyTo`.
        let is_plain = lent.message.control.is_empty()
            && answer.count == 1
            && name.len() <= size_of::<libc::sockaddr_un>();
        let entry = if is_plain {
            opcode::Send::new(socket, bytes.as_ptr(), bytes.len() as u32)
                .dest_addr(name.as_ptr().cast())
                .dest_addr_len(name.len() as u32)
                .flags(FLAGS)
                .build()
        } else {
            let mut kept = self.messages.headers.pop().unwrap_or_else(Header::new);
            let reply_to = reply_to_of(buffer, lent, answer.count, answer.segment_bytes);
            let header = kept.address(reply_to, bytes);
            answer.header = Some(kept);
            opcode::SendMsg::new(socket, header).flags(FLAGS as u32).build()
        };
        self.ring.push(entry.user_data(request.name()))
    }

    pub(super) fn take_answered(&mut self, place: u32, arrived: Arrived) {
        #[cfg(test)]
        let arrived = match self.fail_next_answer.take() {
            Some(error) => Arrived { result: -error, ..arrived },
            None => arrived,
        };
        let Some(mut answer) = self.take_from_outbox(place) else { return };
        let (index, id) = (answer.slot, answer.lent.id);
        self.messages.users[usize::from(id)] -= 1;
        if let Some(slot) = self.slot_at(index) {
            slot.requests -= 1;
        }
        let result = match -arrived.result {
            ..=0 => Ok(arrived.result as usize),
            // On a socket that hears of refusals, each stops the next send, whomever that is for (udp(7)).
            libc::EINTR | libc::ECONNREFUSED if !answer.is_second_try => {
                answer.is_second_try = true;
                self.send_answer(&answer)
            }
            error => Err(io::Error::from_raw_os_error(error)),
        };
        self.settle_answer(answer, result);
        self.free_message_buffer(id);
        self.free_if_over(index);
    }

    /// Whether answers of a slot are on their way.
    pub(super) fn is_answering(&self, slot: u32) -> bool {
        self.messages.outbox.iter().flatten().any(|answer| answer.slot == slot)
    }

    fn take_from_outbox(&mut self, place: u32) -> Option<Answer> {
        let mut answer = self.messages.outbox.get_mut(place as usize)?.take()?;
        self.messages.free.push(place);
        self.messages.headers.extend(answer.header.take());
        Some(answer)
    }

    /// Notes what became of an answer, and sends one by one what cannot be sent as one.
    fn settle_answer(&mut self, answer: Answer, result: io::Result<usize>) {
        let Answer { token, count, .. } = &answer;
        match result {
            Err(error) if *count > 1 && error.kind() != io::ErrorKind::WouldBlock => {
                // The way there may not do that: no checksums by the device (EIO), or segments that have to be
                // fragmented (EMSGSIZE, EINVAL). Each by itself then, and on another route perhaps for good.
                let role = self.slot_at(answer.slot).map(|slot| slot.role);
                if error.raw_os_error() == Some(libc::EIO)
                    && let Some(port) = role.and_then(|role| self.messages.port(role))
                {
                    port.refuses_segments = true;
                }
                let (token, all) = (*token, answer.part.clone());
                for start in all.clone().step_by(answer.segment_bytes.max(1)) {
                    let part = start..all.end.min(start + answer.segment_bytes);
                    let result = self.send_part(&answer, part, 1);
                    self.answered.push_back((token, 1, result, Vec::new()));
                }
            }
            result => self.answered.push_back((*token, *count, result, answer.memory)),
        }
    }

    /// sendmsg(2) of an answer.
    fn send_answer(&mut self, answer: &Answer) -> io::Result<usize> {
        self.send_part(answer, answer.part.clone(), answer.count)
    }

    fn send_part(&mut self, answer: &Answer, part: Range<usize>, count: usize) -> io::Result<usize> {
        let slot = self.slots.get(answer.slot as usize).and_then(|place| place.slot.as_ref());
        let socket = slot.ok_or(io::ErrorKind::NotConnected)?.socket.as_fd();
        let lent = &answer.lent;
        let buffer = self.message_buffers.bytes(lent.id, lent.len);
        let reply_to = reply_to_of(buffer, lent, count, answer.segment_bytes);
        let bytes = if answer.is_in_place { buffer.get(part).unwrap_or_default() } else { &answer.memory };
        let mut tries = 0;
        loop {
            tries += 1;
            match reply_to.send(socket, bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && tries == 1 => {}
                result => return result,
            }
        }
    }

    /// Gives a buffer back that no answer needs.
    pub(super) fn free_message_buffer(&mut self, id: u16) {
        if self.messages.users.get(usize::from(id)) == Some(&0) {
            self.message_buffers.give_back(id);
        }
    }

    /// Where an answer to the datagram that is lent is to go.
    pub(super) fn reply_to_of_recv_buf(&mut self) -> Option<ReplyTo> {
        let Source::Message(lent) = &self.lent else { return None };
        Some(reply_to_of(self.message_buffers.bytes(lent.id, lent.len), lent, 1, 0))
    }
}

fn reply_to_of(buffer: &[u8], lent: &LentMessage, count: usize, segment_bytes: usize) -> ReplyTo {
    let name = buffer.get(lent.message.name.clone()).unwrap_or_default();
    let control = buffer.get(lent.message.control.clone()).unwrap_or_default();
    let mut reply_to = ReplyTo::back(name, control);
    if count > 1 {
        reply_to.cut_into(segment_bytes as u16);
    }
    reply_to
}

impl Header {
    fn new() -> Header {
        // SAFETY: msghdr and iovec are plain data for which all zero is valid.
        Header(Box::new(unsafe { (std::mem::zeroed(), std::mem::zeroed(), None) }))
    }

    /// Says what is to be sent to whom. The bytes must stay where they are until that is over.
    fn address(&mut self, reply_to: ReplyTo, bytes: &[u8]) -> *const libc::msghdr {
        let (header, part, kept) = &mut *self.0;
        *part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        *header = kept.insert(reply_to).header(part);
        header
    }
}

impl std::fmt::Debug for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shape({}, {})", self.name_bytes, self.control_bytes)
    }
}

impl std::fmt::Debug for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Header({:?})", self.0.2)
    }
}
