//! Datagrams and records: each in a buffer of its own, behind a head that says whose it is.
//!
//! The receive buffer shows datagrams one after the other, also where several came as one; what becomes of their answers
//! is in `replies.rs`. Records (seqpacket) are reported like what streams bring.

use std::io;
use std::os::fd::OwnedFd;

use io_uring::cqueue;

use super::recvmsg::{RecvMessage, RecvmsgOut};
use super::slots::{DRAINING, Event, Role};
use super::{Arrived, Completion, Datagram, RecvSource, Token, Uring};
use crate::peer::Peer;
use crate::sys;

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
        let info = sys::read_control(control);
        let segment_bytes = info.segment_bytes;
        let whole = message.bytes.len();
        let segment_bytes = if segment_bytes == 0 { whole } else { segment_bytes };
        let start = message.bytes.start;
        let received =
            RecvMessage { token, id, len, message, info, segment_bytes, start, end: start, is_begun: false };
        self.recv = RecvSource::Message(received);
        Some(Completion::Datagrams { token })
    }

    /// Goes to the next datagram of a buffer.
    pub(crate) fn next_datagram(&mut self) -> Option<(Datagram, &mut [u8])> {
        let RecvSource::Message(received) = &self.recv else { return None };
        let role = self.slot(received.token)?.role;
        let message_bytes_max = self.messages.socket(role)?.message_bytes_max;
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
        let sys::ControlInfo { to, hops, .. } = received.info;
        let datagram = Datagram { to, truncated, plain_port: sys::plain_port(name), hops };
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
