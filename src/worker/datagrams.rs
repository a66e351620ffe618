//! Datagrams: admit, answer at once or later.

use std::io;

use super::{Socket, Worker, say_fault};
use crate::connection::{Context, Reply};
use crate::datagram;
use crate::driver::{Driver, Token};
use crate::event::{Cause, Event, Kind, Level};
use crate::peer::Peer;
use crate::stats::DropReason;
use crate::sys::LocalAddr;
use crate::timer::Moment;
use crate::transform::library::SessionPeer;

impl<D: Driver> Worker<D> {
    pub(super) fn datagram(&mut self, token: Token, from: Peer, to: LocalAddr, truncated: bool) {
        self.datagram_from(token, &from, to, truncated);
        self.driver.recycle_peer(from);
    }

    fn datagram_from(&mut self, token: Token, from: &Peer, to: LocalAddr, truncated: bool) {
        let Some(Socket::Datagrams { post, turn, held, deadline, .. }) = self.sockets.get_mut(token) else {
            return;
        };
        let Some(Some(post)) = self.posts.get(*post as usize) else { return };
        let stats = post.listener.stats_of(self.index);
        let lent = self.driver.recv_buf();
        stats.messages_in.add(1);
        stats.bytes_in.add((lent.buffer.len() - lent.start) as u64);
        let drop_it = |reason: DropReason| {
            stats.dropped(reason, 1);
            self.shared.events.emit(&Event {
                level: Level::Debug,
                kind: Kind::Dropped,
                listener: &post.listener.url,
                listener_id: post.listener.id,
                connection: 0,
                peer: Some(from),
                cause: Some(Cause::Dropped(reason)),
                text: &format_args!("dropped a datagram: {reason}"),
            });
        };
        if let Some(reason) = datagram::refuse(from, to, truncated) {
            return drop_it(reason);
        }
        if post.generation.is_offloaded() {
            return self.send_datagram_away(token, from.clone());
        }
        let peer = SessionPeer {
            kind: post.listener.kind,
            id: 0,
            local: &post.listener.url,
            peer: from,
            listener: &post.listener.url,
        };
        let mut cx =
            Context { terms: &post.listener.terms, pool: &mut self.pool, scratch: &mut self.scratch, stats };
        let outcome = turn.answer(lent, &post.generation, &peer, &mut cx);
        match outcome.reply {
            Reply::Nothing => {}
            Reply::InRecvBuf(range) => self.driver.reply_from_recv_buf(range),
            Reply::Owned(bytes) if outcome.delay.is_zero() => self.driver.reply(bytes),
            Reply::Owned(bytes) => {
                let due = self.driver.read_clock().after(outcome.delay);
                let kept = match self.driver.reply_to() {
                    Some(to) => held.keep(due, to, bytes),
                    None => Err(bytes),
                };
                match kept {
                    Ok(()) => self.timers.arm(token, deadline, held.next()),
                    Err(bytes) => {
                        self.pool.put(bytes);
                        drop_it(DropReason::QueueFull);
                    }
                }
            }
        }
        if outcome.is_amplified {
            post.say_amplified(&self.shared.events, from);
        }
        if let Some((stage, fault)) = outcome.fault {
            say_fault(&self.shared.events, post, &post.generation, stage, &fault, 0, from);
        }
    }

    /// Sends the delayed answers that are due.
    pub(super) fn release_datagrams(&mut self, token: Token, now: Moment) {
        if let Some(Socket::Datagrams { deadline, .. }) = self.sockets.get_mut(token) {
            *deadline = Moment::NEVER;
        }
        while let Some(Socket::Datagrams { held, .. }) = self.sockets.get_mut(token)
            && let Some((to, bytes)) = held.release(now)
        {
            let result = self.driver.send_to(token, &to, &bytes);
            self.pool.put(bytes);
            self.answered(token, 1, result);
        }
        if let Some(Socket::Datagrams { held, deadline, .. }) = self.sockets.get_mut(token) {
            self.timers.arm(token, deadline, held.next());
        }
        self.end_datagrams_if_done(token);
    }

    /// Closes a draining socket when it owes nothing any more.
    pub(super) fn end_datagrams_if_done(&mut self, token: Token) {
        if let Some(Socket::Datagrams { held, offloaded: 0, ends: true, .. }) = self.sockets.get(token)
            && held.len() == 0
        {
            self.close_socket(token);
        }
    }

    pub(super) fn answered(&mut self, token: Token, answers: usize, result: io::Result<usize>) {
        let Some(Socket::Datagrams { post, .. }) = self.sockets.get(token) else { return };
        let Some(Some(post)) = self.posts.get(*post as usize) else { return };
        let stats = post.listener.stats_of(self.index);
        match result {
            Ok(bytes) => {
                stats.messages_out.add(answers as u64);
                stats.bytes_out.add(bytes as u64);
            }
            Err(error) => {
                let full = error.kind() == io::ErrorKind::WouldBlock && post.listener.kind.is_unix();
                let reason = if full { DropReason::PeerFull } else { DropReason::SendFailed };
                stats.dropped(reason, answers as u64);
                let (why, text) =
                    (Cause::Dropped(reason), format_args!("an answer could not be sent: {error}"));
                self.shared.events.say_why(Level::Debug, Kind::Dropped, &*post.listener, Some(why), text);
            }
        }
    }
}
