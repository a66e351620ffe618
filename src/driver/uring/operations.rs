//! What the worker asks of a socket that the ring serves: the operations of [`Driver`](crate::driver::Driver), under the same
//! contract.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use io_uring::{opcode, types};
use socket2::SockRef;

use super::in_flight::Sending;
use super::recvmsg::RecvMessage;
use super::ring::{Operation, Request, skip_success};
use super::slots::{DRAINING, Event, LEAVING, PAUSED, Role};
use super::{CLOSED_WITHIN, LOOK_AGAIN, MESSAGE_HEAD_BYTES, RecvSource, Token, Uring};
use crate::buffer::{Outgoing, Pool};
use crate::driver::{Close, Progress, RecvBuf};
use crate::limits::{HEADROOM_BYTES, RING_BUFFER_BYTES, RING_HEADROOM_BYTES, RING_MESSAGE_BUFFER_BYTES};
use crate::peer::{Peer, SocketKind};
use crate::sys::{self, Reply, ReplyTo};

impl Uring {
    pub(crate) fn add_listener(&mut self, token: Token, socket: OwnedFd) -> io::Result<()> {
        self.begin(token, socket, Role::Listener, 0)
    }

    /// Whether such a stream or seqpacket connection can be added: a read that is shorter than a buffer, or a record that
    /// is longer, cannot be asked for.
    pub(crate) fn can_serve(&mut self, kind: SocketKind, read_bytes_max: usize) -> bool {
        match kind {
            SocketKind::UnixSeqpacket => {
                read_bytes_max + MESSAGE_HEAD_BYTES <= RING_MESSAGE_BUFFER_BYTES
                    && self.messages.limit_of_records(read_bytes_max).is_some()
            }
            _ => read_bytes_max >= RING_BUFFER_BYTES,
        }
    }

    pub(crate) fn add_stream(
        &mut self,
        token: Token,
        socket: OwnedFd,
        kind: SocketKind,
        read_bytes_max: usize,
    ) -> io::Result<()> {
        let prepared = match kind {
            SocketKind::UnixSeqpacket => match self.messages.limit_of_records(read_bytes_max) {
                Some(limit) => sys::tell_empty_records(socket.as_fd()).map(|()| Role::Records { limit }),
                None => Err(io::ErrorKind::InvalidInput.into()),
            },
            // Unlike TCP's, it is not inherited from the listener.
            SocketKind::UnixStream => sys::keep_urgent_inline(socket.as_fd()).map(|()| Role::UnixStream),
            _ => Ok(Role::Stream),
        };
        match prepared {
            Ok(role) => self.begin(token, socket, role, read_bytes_max),
            Err(error) => self.descriptors.close(socket, error),
        }
    }

    /// Whether such a datagram socket can be added: there is a limit to how many there are.
    pub(crate) fn can_serve_datagrams(&self, message_bytes_max: usize) -> bool {
        message_bytes_max + MESSAGE_HEAD_BYTES <= RING_MESSAGE_BUFFER_BYTES && self.messages.has_room()
    }

    pub(crate) fn add_datagram_socket(
        &mut self,
        token: Token,
        socket: OwnedFd,
        message_bytes_max: usize,
        reports: bool,
    ) -> io::Result<()> {
        let is_coalesced = sys::receive_coalesced(socket.as_fd());
        match self.messages.open(message_bytes_max, reports, is_coalesced) {
            Some(place) => self.begin(token, socket, Role::Datagrams { socket: place }, message_bytes_max),
            None => self.descriptors.close(socket, io::ErrorKind::InvalidInput.into()),
        }
    }

    #[inline(never)] // It would make epoll's way through the hybrid longer.
    pub(crate) fn recv_buf(&mut self) -> RecvBuf<'_> {
        match &mut self.recv {
            RecvSource::Nothing => RecvBuf { buffer: &mut [], start: 0 },
            RecvSource::Buffer { id, len } => {
                RecvBuf { buffer: self.buffers.bytes(*id, *len), start: RING_HEADROOM_BYTES }
            }
            RecvSource::Record { id, start, end } => {
                let buffer = self.message_buffers.bytes(*id, end.saturating_sub(RING_HEADROOM_BYTES));
                RecvBuf { buffer, start: *start }
            }
            RecvSource::Message(RecvMessage { id, len, start, end, .. }) => {
                let buffer = self.message_buffers.bytes(*id, *len);
                RecvBuf { buffer: buffer.get_mut(*start..*end).unwrap_or_default(), start: 0 }
            }
            RecvSource::Bytes(bytes) => RecvBuf { buffer: bytes, start: 0 },
            RecvSource::Scratch { len } => {
                let buffer = self.scratch.get_mut(..HEADROOM_BYTES + *len).unwrap_or_default();
                RecvBuf { buffer, start: HEADROOM_BYTES }
            }
        }
    }

    #[inline(never)] // As above.
    pub(crate) fn send_from_recv_buf(
        &mut self,
        token: Token,
        range: Range<usize>,
        pool: &mut Pool,
    ) -> Progress {
        match std::mem::replace(&mut self.recv, RecvSource::Nothing) {
            RecvSource::Buffer { id, .. } => {
                let (start, len) = (range.start as u32, (range.end - range.start) as u32);
                self.begin_send(token, Sending::Buffer { id, start, len, waits: false })
            }
            RecvSource::Record { id, end, .. } => {
                let bytes = self.message_buffers.bytes(id, end.saturating_sub(RING_HEADROOM_BYTES));
                let bytes = bytes.get(range).unwrap_or_default();
                let progress = match self.slots.get(token.index()) {
                    Some(slot) => slot.send_record(bytes),
                    None => Err(io::ErrorKind::NotConnected.into()),
                };
                let progress = match progress {
                    Ok(true) => Progress::Done(Vec::new()),
                    Ok(false) => {
                        let copy = pool.try_copy_of(bytes);
                        self.send_copy(token, copy)
                    }
                    Err(error) => {
                        let unsent = bytes.len() as u32;
                        if let Some(slot) = self.slots.get_mut(token.index()) {
                            slot.sending = Sending::Failed { unsent };
                        }
                        Progress::Failed(error)
                    }
                };
                self.message_buffers.give_back(id);
                progress
            }
            RecvSource::Bytes(mut bytes) => {
                bytes.truncate(range.end);
                let mut outgoing = Outgoing::new(bytes);
                outgoing.advance(range.start);
                let sending = self.own(outgoing);
                self.begin_send(token, sending)
            }
            RecvSource::Scratch { .. } => {
                self.send_copy(token, pool.try_copy_of(self.scratch.get(range).unwrap_or_default()))
            }
            RecvSource::Message(_) | RecvSource::Nothing => {
                Progress::Failed(io::ErrorKind::NotConnected.into())
            }
        }
    }

    #[inline(never)] // As above.
    pub(crate) fn submit_from_recv_buf(
        &mut self,
        token: Token,
        range: Range<usize>,
        pool: &mut Pool,
    ) -> Progress {
        match self.recv {
            RecvSource::Buffer { id, .. } if !self.is_alone => {
                self.recv = RecvSource::Nothing;
                self.submit_buffer(token, id, range.start as u32, (range.end - range.start) as u32)
            }
            _ => self.send_from_recv_buf(token, range, pool),
        }
    }

    pub(crate) fn send(&mut self, token: Token, bytes: Vec<u8>) -> Progress {
        let sending = self.own(Outgoing::new(bytes));
        self.begin_send(token, sending)
    }

    fn send_copy(&mut self, token: Token, copy: Option<Vec<u8>>) -> Progress {
        match copy {
            Some(bytes) => self.send(token, bytes),
            None => Progress::Failed(io::ErrorKind::OutOfMemory.into()),
        }
    }

    pub(crate) fn unsent(&self, token: Token) -> usize {
        self.slot(token).map_or(0, |slot| slot.sending.unsent(&self.owned))
    }

    pub(crate) fn reply_from_recv_buf(&mut self, range: Range<usize>) {
        if let RecvSource::Message(received) = &self.recv {
            let start = received.start;
            self.set_reply(Reply::InPlace(start + range.start..start + range.end));
        }
    }

    pub(crate) fn reply(&mut self, bytes: Vec<u8>) {
        self.set_reply(Reply::Bytes(bytes));
    }

    pub(crate) fn send_to(&mut self, token: Token, to: &ReplyTo, bytes: &[u8]) -> io::Result<usize> {
        let slot = self.slot(token).ok_or(io::ErrorKind::NotConnected)?;
        loop {
            match to.send(slot.socket.as_fd(), bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    pub(crate) fn take_send_results(&mut self, token: Token) -> Option<(usize, io::Result<usize>)> {
        if self.is_answering(token) {
            // None of them waits in the kernel: this sends all.
            self.ring.enter(Some(Duration::ZERO)).ok()?;
            self.reap();
        }
        let place = self.answered.iter().position(|(answered, ..)| *answered == token)?;
        let (_, answers, result, _) = self.answered.remove(place)?;
        Some((answers, result))
    }

    pub(crate) fn recycle_peer(&mut self, peer: Peer) {
        self.messages.sender = peer;
    }

    pub(crate) fn pause(&mut self, token: Token) {
        if let Some(slot) = self.slot_mut(token) {
            slot.flags.set(PAUSED);
            self.cancel_receive(token);
        }
    }

    pub(crate) fn resume(&mut self, token: Token) {
        if let Some(slot) = self.slot_mut(token)
            && slot.flags.take(PAUSED)
        {
            self.enqueue(token);
        }
    }

    pub(crate) fn drain(&mut self, token: Token) {
        if let Some(slot) = self.slot_mut(token) {
            slot.flags.set(DRAINING);
            self.cancel_receive(token);
            self.enqueue(token);
        }
    }

    /// Gives a listener up, as soon as its request is over.
    pub(crate) fn begin_release(&mut self, token: Token) {
        if let Some(slot) = self.slot_mut(token)
            && !slot.flags.replace(LEAVING)
        {
            self.cancel_receive(token);
            self.enqueue(token);
        }
    }

    /// Keeps a listener after all, if it is still here.
    pub(crate) fn stop_release(&mut self, token: Token) -> bool {
        let Some(slot) = self.slot_mut(token) else { return false };
        slot.flags.clear(LEAVING);
        true
    }

    pub(crate) fn socket(&self, token: Token) -> Option<BorrowedFd<'_>> {
        self.slot(token).map(|slot| slot.socket.as_fd())
    }

    pub(crate) fn shutdown_write(&mut self, token: Token) -> io::Result<()> {
        match self.slot(token) {
            Some(slot) => SockRef::from(&slot.socket).shutdown(std::net::Shutdown::Write),
            None => Ok(()),
        }
    }

    pub(crate) fn wait_closed(&mut self) {
        // What has arrived for closed sockets is not reported any more.
        for _ in 0..self.arrived.len() {
            if let Some(arrived) = self.arrived.pop_front() {
                self.keep_arrived(arrived);
            }
        }
        let until = Instant::now() + CLOSED_WITHIN;
        while !self.closing.is_empty() && Instant::now() < until {
            // What cannot be waited for is over with the ring.
            if self.ring.enter(Some(LOOK_AGAIN)).is_err() {
                return;
            }
            self.reap();
            self.end_submitted();
        }
    }

    pub(crate) fn close(&mut self, token: Token, how: Close) {
        let Some(mut slot) = self.take_slot(token) else { return };
        if how == Close::Reset {
            // Fails on sockets that know no linger; then it is a plain close.
            let _ = SockRef::from(&slot.socket).set_linger(Some(Duration::ZERO));
        }
        while let Some(event) = slot.unreported.pop() {
            match event {
                Event::Buffer { id, .. } => self.buffers.give_back(id),
                Event::Record { id, .. } => self.message_buffers.give_back(id),
                Event::Bytes { .. } | Event::Accepted { .. } | Event::End | Event::Failed(_) => {}
            }
        }
        if slot.requests == 0 {
            self.forget_slot(&slot);
            self.descriptors.remove(slot.socket.as_raw_fd());
            return;
        }
        // A request holds the socket open, whatever becomes of our descriptor. The next enter ends it; where there
        // is no room for the cancellation, the ring's own end does.
        let all = types::CancelBuilder::fd(types::Fd(slot.socket.as_raw_fd())).all();
        let _ = self.ring.push(skip_success(opcode::AsyncCancel2::new(all).build()));
        let name = Request::new(Operation::Cancel, token).socket_name();
        self.closing.insert(name, slot);
    }
}
