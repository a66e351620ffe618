//! What a worker knows of one datagram socket.

use std::collections::{HashMap, VecDeque};

use crate::datagram::{AnswerTo, DatagramSession, DeferredDatagram, DelayedDatagrams, UnreadAnswers};
use crate::net::guard::DatagramGuard;
use crate::peer::{Peer, SocketKind};
use crate::proxy::Proxied;
use crate::tap::KeptMessage;
use crate::timer::Moment;

/// A datagram whose answer comes later.
#[derive(Debug)]
pub(super) struct LateDatagram {
    pub(super) to: AnswerTo,
    pub(super) from: Peer,
    pub(super) proxied: Option<Box<Proxied>>,
    pub(super) message: DeferredDatagram,
    /// For taps, which hear of it when it is known what becomes of it.
    pub(super) kept: Option<KeptMessage>,
}

/// A socket whose messages are datagrams.
#[derive(Debug)]
pub(super) struct DatagramSocket {
    /// The place of its listener's state.
    pub(super) state: u32,
    pub(super) session: DatagramSession,
    pub(super) delayed: DelayedDatagrams,
    /// The deadline that is armed for it.
    pub(super) deadline: Moment,
    /// Datagrams that are with transforms that may block.
    pub(super) offloaded: usize,
    /// Those of them that taps are to hear of, by numbers of their own.
    pub(super) recorded: VecDeque<(u64, Peer, KeptMessage)>,
    pub(super) last_recorded: u64,
    /// Datagrams whose answers come later, by the numbers of their tickets.
    pub(super) late: HashMap<u64, LateDatagram>,
    /// Where not every datagram is answered.
    pub(super) guard: Option<DatagramGuard>,
    /// Of a unix socket: whose answers are unread.
    pub(super) unread: Option<UnreadAnswers>,
    /// It receives nothing any more, and is to be closed when it owes no answer.
    pub(super) ends: bool,
}

impl DatagramSocket {
    pub(super) fn new(state: u32, kind: SocketKind, guard: Option<DatagramGuard>) -> DatagramSocket {
        DatagramSocket {
            state,
            session: DatagramSession::default(),
            delayed: DelayedDatagrams::default(),
            deadline: Moment::NEVER,
            offloaded: 0,
            recorded: VecDeque::new(),
            last_recorded: 0,
            late: HashMap::new(),
            guard,
            unread: kind.is_unix().then(UnreadAnswers::default),
            ends: false,
        }
    }

    /// Keeps a datagram for taps that goes to a transform that may block. Its number.
    pub(super) fn note_recorded(&mut self, from: &Peer, kept: KeptMessage) -> u64 {
        self.last_recorded += 1;
        self.recorded.push_back((self.last_recorded, from.clone(), kept));
        self.last_recorded
    }

    /// Takes out what was kept under a number.
    pub(super) fn take_recorded(&mut self, number: u64) -> Option<(Peer, KeptMessage)> {
        let place = self.recorded.binary_search_by_key(&number, |(number, ..)| *number).ok()?;
        self.recorded.remove(place).map(|(_, from, kept)| (from, kept))
    }

    /// What taps are to hear of that nobody will answer.
    pub(super) fn unanswered(&self) -> impl Iterator<Item = (&Peer, &KeptMessage)> {
        let mut tickets: Vec<u64> = self.late.keys().copied().collect();
        tickets.sort_unstable();
        let late = tickets.into_iter().filter_map(|ticket| self.late.get(&ticket));
        let late = late.filter_map(|late| Some((&late.from, late.kept.as_ref()?)));
        late.chain(self.recorded.iter().map(|(_, from, kept)| (from, kept)))
    }

    /// An answer leaves now: to `to`, and to `peer` in the end.
    pub(super) fn remember(&mut self, peer: &Peer, to: &Peer, answer: &[u8], now: Moment) {
        if let Some(guard) = &mut self.guard
            && let Peer::Ip(peer) = peer
        {
            guard.answered(peer, answer, now);
        }
        if let Some(unread) = &mut self.unread {
            unread.sent(to, answer.len());
        }
    }

    /// The same of one that was not sent when its datagram came.
    pub(super) fn remember_late(&mut self, to: &AnswerTo, answer: &[u8], now: Moment) {
        if self.remembers() {
            let address = to.to.peer();
            let peer = to.behind.map(Peer::Ip);
            self.remember(peer.as_ref().unwrap_or(&address), &address, answer, now);
        }
    }

    /// Whether anything is to be remembered.
    pub(super) fn remembers(&self) -> bool {
        self.guard.is_some() || self.unread.is_some()
    }

    /// Answers that are still to come.
    pub(super) fn owed(&self) -> usize {
        self.delayed.answers() + self.offloaded + self.late.len()
    }

    /// Whether something is still to be sent.
    pub(super) fn is_owing(&self) -> bool {
        !self.delayed.is_empty() || self.offloaded + self.late.len() > 0
    }
}
