//! One simulated client of a stream or seqpacket listener, and the kernel between it and the server.

use std::collections::VecDeque;
use std::sync::Weak;

use super::world::Random;
use crate::driver::Close;
use crate::peer::Peer;

/// What a simulated client means to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Send all, end its side, read to the end.
    Polite,
    /// Send all, read everything, and wait for the server to end.
    Patient,
    /// Like `Patient`, a few bytes at a time, with seconds between them.
    Trickle,
    /// Reset the connection after so many bytes.
    Reset { after: usize },
    /// Stop reading after so many bytes, for ever.
    Stall { after: usize },
}

/// What a client says before its first message.
#[derive(Debug, Clone, Default)]
pub(crate) struct Head {
    pub(crate) bytes: Vec<u8>,
    /// It is what it should be, or the beginning of that and then nothing.
    pub(crate) is_right: bool,
    pub(crate) is_cut: bool,
    /// Who it says that it is, in so many bytes.
    pub(crate) name: Option<Peer>,
    pub(crate) name_bytes: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) plan: Plan,
    pub(crate) peer: Peer,
    pub(crate) head: Head,
    /// What it sends, a record each where records are kept.
    pub(crate) records: Vec<Vec<u8>>,
    pub(super) input: Vec<u8>,
    /// Ends of records within the input.
    pub(super) ends: Vec<usize>,
    /// Bytes that have arrived, that the server has read, and records that it has read.
    pub(super) arrived: usize,
    pub(crate) taken: usize,
    /// Of these, records that were longer than a read.
    pub(crate) truncated_bytes: usize,
    pub(crate) records_taken: usize,
    /// It connects after so many waits of the world.
    pub(crate) connects_after: usize,
    /// Until when it does nothing.
    pub(crate) rests_until: u64,
    pub(crate) fin_arrived: bool,
    pub(crate) was_reset: bool,
    /// What the kernel holds for the client, and how much it would.
    in_kernel: VecDeque<u8>,
    window: usize,
    pub(crate) received: Vec<u8>,
    /// The same as records, where records are kept.
    pub(crate) answered_records: Vec<Vec<u8>>,
    /// When the kernel took each of them.
    pub(crate) record_times: Vec<u64>,
    /// What the kernel took for the client, whether it was read or not.
    pub(crate) answered: Vec<u8>,
    /// How much the server had read by when, and how much the kernel had taken by when.
    pub(crate) reads: Vec<(usize, u64)>,
    pub(crate) writes: Vec<(usize, u64)>,
    pub(crate) accepted_at: u64,
    /// When the server ended its side, and how much it had read.
    pub(crate) server_finished: Option<(u64, usize)>,
    pub(crate) server_closed: Option<(u64, Close)>,
    /// When the server was told that the client has ended its side.
    pub(crate) ended_at: Option<u64>,
    /// The waits of the world so far when the server was told that the connection is broken.
    pub(crate) failed_at: Option<usize>,
    /// How much the server had read when it was told that a drain is over.
    pub(crate) drained_at: Option<usize>,
    /// Answers in the kernel were thrown away, for the server closed with input unread.
    pub(crate) lost_by_close: bool,
    open: Option<Weak<()>>,
}

impl Client {
    pub(crate) fn new(plan: Plan, peer: Peer, records: Vec<Vec<u8>>, window: usize) -> Client {
        let mut end = 0;
        let ends = records.iter().map(|record| {
            end += record.len();
            end
        });
        Client {
            plan,
            peer,
            head: Head::default(),
            ends: ends.collect(),
            input: records.concat(),
            records,
            arrived: 0,
            taken: 0,
            truncated_bytes: 0,
            records_taken: 0,
            connects_after: 0,
            rests_until: 0,
            fin_arrived: false,
            was_reset: false,
            in_kernel: VecDeque::new(),
            window,
            received: Vec::new(),
            answered_records: Vec::new(),
            record_times: Vec::new(),
            answered: Vec::new(),
            reads: Vec::new(),
            writes: Vec::new(),
            server_finished: None,
            server_closed: None,
            accepted_at: 0,
            ended_at: None,
            failed_at: None,
            drained_at: None,
            lost_by_close: false,
            open: None,
        }
    }

    /// Puts something before all that it sends, and changes each byte behind that.
    pub(crate) fn put_behind(&mut self, head: Head, change: impl Fn(u8) -> u8) {
        let input = std::mem::take(&mut self.input);
        let input = if head.is_cut { Vec::new() } else { input };
        self.input = head.bytes.clone();
        self.input.extend(input.into_iter().map(change));
        self.head = head;
    }

    /// The same as it would be without its head, and without the first `hello` bytes that it was answered.
    pub(crate) fn behind_head(&self, input: Vec<u8>, hello: usize, answered: Vec<u8>) -> Client {
        let head = self.head.bytes.len();
        let behind = |upto: usize| upto.saturating_sub(head);
        let opened = self.reads.iter().find(|(upto, _)| *upto >= head);
        Client {
            input,
            taken: behind(self.taken),
            arrived: behind(self.arrived),
            reads: self
                .reads
                .iter()
                .filter(|(upto, _)| *upto > head)
                .map(|(upto, at)| (upto - head, *at))
                .collect(),
            writes: self
                .writes
                .iter()
                .map(|(upto, at)| (upto.saturating_sub(hello).min(answered.len()), *at))
                .collect(),
            server_finished: self.server_finished.map(|(at, taken)| (at, behind(taken))),
            drained_at: self.drained_at.map(behind),
            accepted_at: opened.map_or(self.accepted_at, |(_, at)| *at),
            answered,
            ..self.clone()
        }
    }

    /// When its name had been read.
    pub(crate) fn named_at(&self) -> Option<u64> {
        let Head { name: Some(_), name_bytes, bytes, .. } = &self.head else { return None };
        let read = self.reads.iter().find(|(upto, _)| *upto >= *name_bytes);
        read.filter(|_| bytes.len() >= *name_bytes).map(|(_, at)| *at)
    }

    pub(crate) fn largest_read(&self) -> usize {
        let before = std::iter::once(0).chain(self.reads.iter().map(|(upto, _)| *upto));
        self.reads.iter().zip(before).map(|((upto, _), before)| upto - before).max().unwrap_or(0)
    }

    /// Whether the engine may call it so.
    pub(crate) fn is_called(&self, peer: &Peer) -> bool {
        self.peer == *peer || self.head.name.as_ref() == Some(peer)
    }

    pub(super) fn accept(&mut self, open: Weak<()>, now: u64) {
        self.accepted_at = now;
        self.open = Some(open);
    }

    /// It waits in the listen queue.
    pub(super) fn is_waiting(&self, waits: usize) -> bool {
        self.open.is_none() && self.connects_after <= waits
    }

    pub(crate) fn is_accepted(&self) -> bool {
        self.open.is_some()
    }

    /// The server has closed its socket, or dropped it without a look.
    pub(crate) fn is_over(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.strong_count() == 0)
    }

    pub(crate) fn input(&self) -> &[u8] {
        &self.input
    }

    /// It reads whatever comes, to the end.
    pub(crate) fn reads_all(&self) -> bool {
        !matches!(self.plan, Plan::Reset { .. } | Plan::Stall { .. })
    }

    /// Something happens on the client's side; whether anything could.
    pub(super) fn live(&mut self, now: u64, random: &mut Random) -> bool {
        if self.was_reset || !self.is_accepted() || now < self.rests_until {
            return false;
        }
        let mut lived = false;
        if self.arrived < self.input.len() {
            let is_in_head = self.arrived < self.head.bytes.len();
            let is_slow = self.plan == Plan::Trickle || (is_in_head && random.one_in(2));
            let most = if is_slow { 3 } else { 4096 };
            self.arrived = (self.arrived + 1 + random.below(most)).min(self.input.len());
            lived = true;
            if self.plan == Plan::Trickle {
                self.rests_until = now + random.below(8_000_000) as u64;
            } else if random.one_in(if is_in_head { 4 } else { 20 }) {
                self.rests_until = now + random.below(100_000) as u64;
            }
        } else if self.plan == Plan::Polite && !self.fin_arrived {
            self.fin_arrived = true;
            lived = true;
        }
        let reads = match self.plan {
            Plan::Stall { after } => self.received.len() < after,
            _ => true,
        };
        if reads && !self.in_kernel.is_empty() && random.one_in(2) {
            let count = 1 + random.below(self.in_kernel.len());
            self.received.extend(self.in_kernel.drain(..count));
            lived = true;
        }
        if let Plan::Reset { after } = self.plan
            && self.arrived >= after.min(self.input.len())
            && random.one_in(3)
        {
            self.was_reset = true;
            self.in_kernel.clear();
            lived = true;
        }
        // A client that saw the end of the server's side ends its own, as programs do.
        let waits = matches!(self.plan, Plan::Patient | Plan::Trickle);
        if self.server_finished.is_some() && self.in_kernel.is_empty() && !self.fin_arrived && waits {
            self.fin_arrived = true;
            lived = true;
        }
        lived
    }

    pub(super) fn read_all(&mut self) {
        if self.reads_all() {
            self.received.extend(self.in_kernel.drain(..));
        }
    }

    /// The kernel takes bytes for the client; how many. Of a record, all or (`None`) nothing.
    pub(super) fn take(&mut self, bytes: &[u8], whole: bool, now: u64, random: &mut Random) -> Option<usize> {
        let room = self.window.saturating_sub(self.in_kernel.len());
        let count = if whole {
            (room >= bytes.len() || self.in_kernel.is_empty()).then_some(bytes.len())?
        } else {
            let most = room.min(bytes.len());
            // Often all of it, as kernels do, else a short write.
            if random.one_in(3) { random.below(most + 1) } else { most }
        };
        self.in_kernel.extend(&bytes[..count]);
        if whole {
            self.answered_records.push(bytes.to_vec());
            self.record_times.push(now);
        }
        self.answered.extend(&bytes[..count]);
        if count > 0 {
            self.writes.push((self.answered.len(), now));
        }
        Some(count)
    }

    pub(super) fn read(&mut self, count: usize, now: u64) -> &[u8] {
        let from = self.taken;
        self.taken += count;
        self.reads.push((self.taken, now));
        &self.input[from..self.taken]
    }

    pub(super) fn close(&mut self, how: Close, now: u64) {
        assert!(self.server_closed.replace((now, how)).is_none(), "closed once");
        // What the peer sent and nobody read turns a close into a reset, which takes answers with it.
        if how == Close::Reset || self.arrived > self.taken {
            self.lost_by_close = how == Close::Gently && !self.in_kernel.is_empty();
            self.in_kernel.clear();
        }
    }
}
