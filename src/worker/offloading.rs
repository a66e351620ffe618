//! Messages for transforms that may block. The whole connection goes along: it does no I/O, so it can answer
//! anywhere. Meanwhile its socket is paused, and what happens to its sends is noted.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use super::mailbox::{Command, Mailbox};
use super::streams::describe;
use super::{Post, Shared, Socket, Worker, say_fault};
use crate::buffer::Pool;
use crate::chain::{Generation, Scratch};
use crate::connection::{Answer, Connection, Context, End, Phase, Reply};
use crate::datagram::{self, Outcome};
use crate::driver::{Close, Driver, RecvBuf, Token};
use crate::event::{Cause, Event, Kind, Level};
use crate::limits::OFFLOADED_DATAGRAMS_MAX;
use crate::peer::Peer;
use crate::stats::{Block, CloseReason, DropReason};
use crate::sys::ReplyTo;
use crate::timer::Moment;
use crate::transform::library::SessionPeer;

/// What a connection is to do elsewhere.
#[derive(Debug)]
pub(super) enum Work {
    Greet,
    Receive(Vec<u8>),
    End,
    /// Go over to the listener's current chain.
    Switch,
    /// The same, or end: its time with the old chain is over.
    Leave,
}

/// What stands in a connection's place meanwhile.
#[derive(Debug)]
pub(crate) struct Away {
    id: u64,
    peer: Peer,
    listener: u32,
    queued_bytes: usize,
    sent: Vec<usize>,
    failed: Option<io::Error>,
}

/// A connection that comes back.
#[derive(Debug)]
pub(crate) struct Returned {
    token: Token,
    connection: Box<Connection>,
    answer: Answer,
    /// The generation that was its listener's when it went.
    current: Arc<Generation>,
    stats: Block,
}

/// A datagram that comes back.
#[derive(Debug)]
pub(crate) struct ReturnedDatagram {
    token: Token,
    to: ReplyTo,
    from: Peer,
    outcome: Outcome,
    stats: Block,
}

impl<D: Driver> Worker<D> {
    /// Sends a connection away to do some work.
    pub(super) fn send_away(&mut self, token: Token, work: Work) {
        let Some(place) = self.sockets.get_mut(token) else { return };
        let Socket::Connection(connection) = place else { return };
        let away = Away {
            id: connection.id,
            peer: connection.peer.clone(),
            listener: connection.listener,
            queued_bytes: connection.queued_bytes(),
            sent: Vec::new(),
            failed: None,
        };
        let Socket::Connection(mut connection) = std::mem::replace(place, Socket::Away(Box::new(away)))
        else {
            return;
        };
        let Some(Some(post)) = self.posts.get(connection.listener as usize) else { return };
        self.driver.pause(token);
        connection.paused = true;
        let mut armed = std::mem::replace(&mut connection.deadline, Moment::NEVER);
        self.timers.arm(token, &mut armed, Moment::NEVER);
        let (listener, shared, index) =
            (Arc::clone(&post.listener), Arc::downgrade(&self.shared), self.index);
        let current = Arc::clone(&post.generation);
        let switches = connection.may_switch && !matches!(work, Work::Greet);
        let job = move || {
            let stats = Block::default();
            let mut cx = Context {
                terms: &listener.terms,
                pool: &mut Pool::default(),
                scratch: &mut Scratch::default(),
                stats: &stats,
            };
            let peer = connection.peer.clone();
            let described = describe(connection.id, &peer, &listener);
            if switches && !Arc::ptr_eq(connection.generation(), &current) {
                drop(connection.switch(&current, &described));
            }
            let answer = match work {
                Work::Greet => connection.greet(&described, &mut cx),
                Work::End => connection.ended(&mut cx),
                Work::Switch => Answer::nothing(None),
                Work::Leave if Arc::ptr_eq(connection.generation(), &current) => Answer::nothing(None),
                Work::Leave => Answer::nothing(Some(End::because(CloseReason::ChainChanged))),
                Work::Receive(mut bytes) => {
                    let mut answer = connection.received(RecvBuf { buffer: &mut bytes, start: 0 }, &mut cx);
                    if let Reply::InRecvBuf(range) = answer.bytes {
                        answer.bytes = Reply::Owned(bytes.get(range).unwrap_or_default().to_vec());
                    }
                    answer
                }
            };
            come_back(
                &shared,
                index,
                Command::Returned(Box::new(Returned { token, connection, answer, current, stats })),
            );
        };
        // Without a thread to be had, blocking is better than losing the message.
        if let Err(job) = self.shared.offload.run(Box::new(job)) {
            job();
        }
    }

    pub(super) fn returned(&mut self, returned: Returned) {
        let Returned { token, connection, answer, current, stats } = returned;
        let Some(Socket::Away(_)) = self.sockets.get(token) else { return };
        let Some(place) = self.sockets.get_mut(token) else { return };
        let mut connection = connection;
        if let Some(pace) = &mut connection.pace {
            // Nothing was read meanwhile: the peer gets its time again.
            pace.note(false, 0, self.driver.now());
        }
        let Socket::Away(away) = std::mem::replace(place, Socket::Connection(connection)) else { return };
        if let Some(Some(post)) = self.posts.get(away.listener as usize) {
            post.listener.stats_of(self.index).add_block(&stats);
        }
        for bytes in away.sent {
            self.sent(token, bytes, Vec::new());
        }
        match away.failed {
            Some(error) => return self.failed(token, error),
            None => self.deliver(token, answer),
        }
        // A swap came meanwhile, or the connection could not follow one.
        if let Some(Socket::Connection(connection)) = self.sockets.get_mut(token)
            && let Some(Some(post)) = self.posts.get(connection.listener as usize)
            && connection.phase == Phase::Open
            && !Arc::ptr_eq(connection.generation(), &post.generation)
        {
            if connection.swap_until == Moment::NEVER {
                connection.swap_until = self.driver.now().after(post.listener.options.swap_timeout);
            }
            if Arc::ptr_eq(&current, &post.generation) {
                self.settle(token);
            } else {
                connection.may_switch = true;
                self.send_away(token, Work::Switch);
            }
        }
    }

    /// Notes that a send of a connection that is away is finished.
    pub(super) fn note_sent(&mut self, token: Token, bytes: usize) {
        if let Some(Socket::Away(away)) = self.sockets.get_mut(token) {
            away.sent.push(bytes);
        }
    }

    /// Notes that the socket of a connection that is away is broken.
    pub(super) fn note_failed(&mut self, token: Token, error: io::Error) {
        if let Some(Socket::Away(away)) = self.sockets.get_mut(token) {
            away.failed = Some(error);
        }
    }

    /// Closes the socket of a connection that is away. What comes back finds nobody.
    pub(super) fn abandon(&mut self, token: Token, reason: CloseReason) {
        let Some(Socket::Away(away)) = self.sockets.remove(token) else { return };
        self.driver.close(token, Close::Gently);
        self.shared.mailboxes[self.index].load.fetch_sub(1, Ordering::Relaxed);
        let place = away.listener as usize;
        if let Some(Some(post)) = self.posts.get_mut(place) {
            post.connections -= 1;
            let stats = post.listener.stats_of(self.index);
            stats.closed(reason);
            let sent: usize = away.sent.iter().sum();
            stats.bytes_out.add(sent as u64);
            stats.undelivered_bytes.add(away.queued_bytes.saturating_sub(sent) as u64);
            self.shared.events.emit(&Event {
                level: Level::Debug,
                kind: Kind::Closed,
                listener: &post.listener.url,
                listener_id: post.listener.id,
                connection: away.id,
                peer: Some(&away.peer),
                cause: Some(Cause::Closed(reason)),
                text: &format_args!("closed: {reason}, while a transform had its message"),
            });
        }
        self.leave_post(place);
    }

    /// Sends an admitted datagram away, if there is room for it.
    pub(super) fn send_datagram_away(&mut self, token: Token, from: Peer) {
        let Some(to) = self.driver.reply_to() else { return };
        let lent = self.driver.recv_buf();
        let mut bytes = lent.buffer.get(lent.start..).unwrap_or_default().to_vec();
        let Some(Socket::Datagrams { post, offloaded, .. }) = self.sockets.get_mut(token) else { return };
        let Some(Some(Post { listener, generation, .. })) = self.posts.get(*post as usize) else { return };
        if *offloaded >= OFFLOADED_DATAGRAMS_MAX {
            return listener.stats_of(self.index).dropped(DropReason::QueueFull, 1);
        }
        *offloaded += 1;
        let (listener, generation) = (Arc::clone(listener), Arc::clone(generation));
        let (shared, index) = (Arc::downgrade(&self.shared), self.index);
        let job = move || {
            let stats = Block::default();
            let mut cx = Context {
                terms: &listener.terms,
                pool: &mut Pool::default(),
                scratch: &mut Scratch::default(),
                stats: &stats,
            };
            let peer = SessionPeer {
                kind: listener.kind,
                id: 0,
                local: &listener.url,
                peer: &from,
                listener: &listener.url,
            };
            let mut turn = datagram::Turn::default();
            let lent = RecvBuf { buffer: &mut bytes, start: 0 };
            let mut outcome = turn.answer(lent, &generation, &peer, &mut cx);
            drop(turn);
            if let Reply::InRecvBuf(range) = outcome.reply {
                outcome.reply = Reply::Owned(bytes.get(range).unwrap_or_default().to_vec());
            }
            let returned = ReturnedDatagram { token, to, from, outcome, stats };
            come_back(&shared, index, Command::ReturnedDatagram(Box::new(returned)));
        };
        if let Err(job) = self.shared.offload.run(Box::new(job)) {
            job();
        }
    }

    pub(super) fn returned_datagram(&mut self, returned: ReturnedDatagram) {
        let ReturnedDatagram { token, to, from, outcome, stats } = returned;
        let now = self.driver.read_clock();
        let Some(Socket::Datagrams { post, held, deadline, offloaded, .. }) = self.sockets.get_mut(token)
        else {
            return;
        };
        *offloaded -= 1;
        let Some(Some(post)) = self.posts.get(*post as usize) else { return };
        if outcome.is_amplified {
            post.say_amplified(&self.shared.events, &from);
        }
        let counters = post.listener.stats_of(self.index);
        counters.add_block(&stats);
        if let Some((stage, fault)) = &outcome.fault {
            say_fault(&self.shared.events, post, &post.generation, *stage, fault, 0, &from);
        }
        match outcome.reply {
            Reply::Owned(bytes) if outcome.delay.is_zero() => {
                let result = self.driver.send_to(token, &to, &bytes);
                self.answered(token, 1, result);
            }
            Reply::Owned(bytes) => {
                if held.keep(now.after(outcome.delay), to, bytes).is_err() {
                    counters.dropped(DropReason::QueueFull, 1);
                }
                self.timers.arm(token, deadline, held.next());
            }
            Reply::Nothing | Reply::InRecvBuf(_) => {}
        }
        self.end_datagrams_if_done(token);
    }
}

/// Leaves a result with the worker it belongs to. One that has ended does not want it any more.
fn come_back<S>(shared: &Weak<Shared<S>>, worker: usize, command: Command<S>) {
    let Some(shared) = shared.upgrade() else { return };
    if let Some(mailbox) = shared.mailboxes.get(worker) {
        let _ = Mailbox::push(mailbox, command);
    }
}
