//! Answers to datagrams. They are kept until the worker has seen all of a buffer, and leave with the next enter, out of
//! that very buffer where they stand in it; it goes back to the ring when the last of them has left.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};

use io_uring::{opcode, types};

use super::recvmsg::RecvMessage;
use super::reply_in_flight::{ReplyInFlight, SendMsg};
use super::ring::{Operation, Request};
use super::{Arrived, RecvSource, Token, Uring};
use crate::sys::{self, Reply, ReplyTo};

impl Uring {
    pub(super) fn set_reply(&mut self, reply: Reply) {
        if matches!(self.recv, RecvSource::Message(_)) {
            self.messages.replies.push((0, reply));
        }
    }

    /// Lets the answers to what was received depart.
    pub(super) fn send_replies(&mut self) {
        let RecvSource::Message(received) = &self.recv else { return };
        let received = received.clone();
        self.recv = RecvSource::Nothing;
        let mut replies = std::mem::take(&mut self.messages.replies);
        if self.serves(received.token) {
            self.reply_to_message(&received, &mut replies);
        }
        replies.clear();
        self.messages.replies = replies;
        self.free_message_buffer(received.id);
    }

    fn reply_to_message(&mut self, received: &RecvMessage, replies: &mut [(u16, Reply)]) {
        let token = received.token;
        let Some(role) = self.slot(token).map(|slot| slot.role) else { return };
        // By a call of its own, where this turn has brought nothing else: that costs less.
        let is_alone = self.is_alone && sys::run(replies, 0) == replies.len();
        let mut at = 0;
        while at < replies.len() {
            let refuses_segments = self.messages.socket(role).is_none_or(|socket| socket.refuses_segments);
            let count = if refuses_segments { 1 } else { sys::run(replies, at) };
            let last = match replies.get(at + count - 1) {
                Some((_, Reply::InPlace(range))) => range.end,
                _ => 0,
            };
            let first = std::mem::replace(&mut replies[at].1, Reply::InPlace(0..0));
            let mut answer = ReplyInFlight {
                token,
                received: received.clone(),
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
                let result = self.send_reply(&answer);
                self.finish_reply(answer, result);
            } else {
                self.submit_later(answer);
            }
            at += count;
        }
    }

    /// Sends an answer with the next enter.
    fn submit_later(&mut self, answer: ReplyInFlight) {
        let id = usize::from(answer.received.id);
        let place = match self.messages.free.pop() {
            Some(place) => place,
            None => {
                self.messages.in_flight.push(None);
                (self.messages.in_flight.len() - 1) as u32
            }
        };
        let token = answer.token;
        self.messages.in_flight[place as usize] = Some(answer);
        match self.submit_reply(place) {
            Ok(()) => {
                self.messages.users[id] += 1;
                if let Some(slot) = self.slot_mut(token) {
                    slot.requests += 1;
                }
            }
            Err(error) => {
                if let Some(answer) = self.take_reply(place) {
                    self.finish_reply(answer, Err(error));
                }
            }
        }
    }

    fn submit_reply(&mut self, place: u32) -> io::Result<()> {
        const FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        let answer =
            self.messages.in_flight.get_mut(place as usize).and_then(Option::as_mut).ok_or_else(gone)?;
        let slot = self.slots.get(answer.token.index()).ok_or_else(gone)?;
        let socket = types::Fd(slot.socket.as_raw_fd());
        let received = &answer.received;
        let buffer = self.message_buffers.bytes(received.id, received.len);
        let bytes = if answer.is_in_place {
            buffer.get(answer.part.clone()).unwrap_or_default()
        } else {
            &answer.memory[..]
        };
        let name = buffer.get(received.message.name.clone()).unwrap_or_default();
        let request = Request::plain(Operation::Reply, place);
        // A name that fills all of `sun_path` is one that the kernel does not take back: see `ReplyTo`.
        let is_plain = !received.info.says_destination()
            && answer.count == 1
            && name.len() <= size_of::<libc::sockaddr_un>();
        let entry = if is_plain {
            opcode::Send::new(socket, bytes.as_ptr(), bytes.len() as u32)
                .dest_addr(name.as_ptr().cast())
                .dest_addr_len(name.len() as u32)
                .flags(FLAGS)
                .build()
        } else {
            let mut kept = self.messages.headers.pop().unwrap_or_else(SendMsg::new);
            let reply_to = reply_to_of(buffer, received, answer.count, answer.segment_bytes);
            let header = kept.address(reply_to, bytes);
            answer.header = Some(kept);
            opcode::SendMsg::new(socket, header).flags(FLAGS as u32).build()
        };
        self.ring.push(entry.user_data(request.name()))
    }

    /// The kernel is done with a reply.
    pub(super) fn take_answered(&mut self, place: u32, arrived: Arrived) {
        #[cfg(test)]
        let arrived = match self.fail_next_answer.take() {
            Some(error) => Arrived { result: -error, ..arrived },
            None => arrived,
        };
        let Some(mut answer) = self.take_reply(place) else { return };
        let (token, id) = (answer.token, answer.received.id);
        self.messages.users[usize::from(id)] -= 1;
        let result = match -arrived.result {
            ..=0 => Ok(arrived.result as usize),
            // On a socket that hears of refusals, each stops the next send, whomever that is for (udp(7)).
            libc::EINTR | libc::ECONNREFUSED if !answer.is_second_try => {
                answer.is_second_try = true;
                self.send_reply(&answer)
            }
            error => Err(io::Error::from_raw_os_error(error)),
        };
        self.finish_reply(answer, result);
        self.free_message_buffer(id);
        self.end_request(Request::new(Operation::Reply, token));
    }

    /// Whether answers of a socket are on their way.
    pub(super) fn is_answering(&self, token: Token) -> bool {
        self.messages.in_flight.iter().flatten().any(|answer| answer.token == token)
    }

    fn take_reply(&mut self, place: u32) -> Option<ReplyInFlight> {
        let mut answer = self.messages.in_flight.get_mut(place as usize)?.take()?;
        self.messages.free.push(place);
        self.messages.headers.extend(answer.header.take());
        Some(answer)
    }

    /// Notes what became of an answer, and sends one by one what cannot be sent as one.
    fn finish_reply(&mut self, answer: ReplyInFlight, result: io::Result<usize>) {
        let ReplyInFlight { token, count, .. } = &answer;
        match result {
            Err(error) if *count > 1 && error.kind() != io::ErrorKind::WouldBlock => {
                // The way there may not do that: no checksums by the device (EIO), or segments that have to be
                // fragmented (EMSGSIZE, EINVAL). Each by itself then, and on another route perhaps for good.
                let role = self.slot(answer.token).map(|slot| slot.role);
                if error.raw_os_error() == Some(libc::EIO)
                    && let Some(socket) = role.and_then(|role| self.messages.socket(role))
                {
                    socket.refuses_segments = true;
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
    fn send_reply(&mut self, answer: &ReplyInFlight) -> io::Result<usize> {
        self.send_part(answer, answer.part.clone(), answer.count)
    }

    fn send_part(&mut self, answer: &ReplyInFlight, part: Range<usize>, count: usize) -> io::Result<usize> {
        let slot = self.slots.get(answer.token.index());
        let slot = slot.filter(|slot| slot.version == answer.token.version());
        let socket = slot.ok_or(io::ErrorKind::NotConnected)?.socket.as_fd();
        let received = &answer.received;
        let buffer = self.message_buffers.bytes(received.id, received.len);
        let reply_to = reply_to_of(buffer, received, count, answer.segment_bytes);
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

    /// Where an answer to the datagram that was received is to go.
    pub(crate) fn reply_to(&mut self) -> Option<ReplyTo> {
        let RecvSource::Message(received) = &self.recv else { return None };
        Some(reply_to_of(self.message_buffers.bytes(received.id, received.len), received, 1, 0))
    }
}

fn reply_to_of(buffer: &[u8], received: &RecvMessage, count: usize, segment_bytes: usize) -> ReplyTo {
    let name = buffer.get(received.message.name.clone()).unwrap_or_default();
    let control = buffer.get(received.message.control.clone()).unwrap_or_default();
    let mut reply_to = ReplyTo::back(name, control);
    if count > 1 {
        reply_to.cut_into(segment_bytes as u16);
    }
    reply_to
}
