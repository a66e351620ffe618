//! How a worker records messages: one recorder a worker, and one for each job of the thread pool.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::channel::Channel;
use super::record::{Bytes, Recorded, TapOutcome};
use super::registry::Taps;
use crate::buffer::{try_append, try_copy};
use crate::lock::lock;
use crate::peer::{Peer, SocketKind};
use crate::sys;
use crate::timer::Moment;

/// Writes records into the rings of all taps that want them.
///
/// A message is [kept](Recorder::keep) before its transforms change it, and [recorded](Recorder::record) when it is known
/// what became of it, before its answer goes to the driver.
#[derive(Debug)]
pub(crate) struct Recorder {
    taps: Arc<Taps>,
    /// Of what `channels` is a copy.
    version: u64,
    channels: Vec<Open>,
    /// The most that any of them wants of a message.
    data_bytes_max: usize,
    /// The sockaddr of the peer of the connection `named`.
    name: sys::Sockaddr,
    named: u64,
    /// The message in hand as it came, as far as any tap wants it.
    data: Vec<u8>,
    data_bytes: usize,
    /// Records wait for [`wake`](Recorder::wake).
    is_dirty: bool,
    /// Off the workers, records are kept for the worker: it may find that nobody wants the result.
    collected: Option<Vec<Collected>>,
}

/// One tap, as this recorder knows it.
#[derive(Debug)]
struct Open {
    channel: Arc<Channel>,
    is_dirty: bool,
}

/// A message as it came, for a record that is written when its answer has come.
#[derive(Debug)]
pub(crate) struct KeptMessage {
    data: Box<[u8]>,
    bytes: usize,
}

impl KeptMessage {
    /// What it takes of memory.
    pub(crate) fn cost(&self) -> usize {
        self.data.len()
    }
}

/// A record that is to be written later.
#[derive(Debug)]
pub(crate) struct Collected {
    time: Moment,
    listener: u64,
    connection: u64,
    peer: Peer,
    kind: SocketKind,
    flags: u32,
    outcome: TapOutcome,
    data: Vec<u8>,
    data_bytes: usize,
    answer: Vec<u8>,
    answer_bytes: usize,
}

impl Recorder {
    pub(crate) fn new(taps: &Arc<Taps>) -> Recorder {
        Recorder {
            taps: Arc::clone(taps),
            version: 0,
            channels: Vec::new(),
            data_bytes_max: 0,
            name: sys::Sockaddr::default(),
            named: 0,
            data: Vec::new(),
            data_bytes: 0,
            is_dirty: false,
            collected: None,
        }
    }

    /// One for a job off the worker, which gives what it [collects](Recorder::into_collected) to the worker.
    pub(crate) fn for_job(&self) -> Recorder {
        Recorder { collected: Some(Vec::new()), ..Recorder::new(&self.taps) }
    }

    /// Whether any tap is open.
    #[inline(always)]
    pub(crate) fn is_on(&self) -> bool {
        self.taps.version.load(Ordering::Relaxed) != 0
    }

    /// Looks which taps are open, and lets go of the others.
    #[inline]
    pub(crate) fn refresh(&mut self) {
        if self.taps.version.load(Ordering::Acquire) != self.version {
            self.copy_channels();
        }
    }

    #[cold]
    fn copy_channels(&mut self) {
        // One that is let go of has no reader any more.
        let open = lock(&self.taps.open);
        let copy = |channel| Open { channel: Arc::clone(channel), is_dirty: false };
        let known = std::mem::take(&mut self.channels);
        self.channels = open.channels.iter().map(copy).collect();
        self.version = self.taps.version.load(Ordering::Acquire);
        let most = open.channels.iter().map(|channel| channel.settings.data_bytes_max).max();
        self.data_bytes_max = most.unwrap_or(0);
        drop(open);
        for Open { channel, .. } in known.iter().filter(|known| known.is_dirty) {
            channel.signal.raise();
        }
        if self.channels.is_empty() {
            self.data = Vec::new();
        }
    }

    /// Keeps a message as it came; without memory for its bytes, its length alone.
    #[inline(never)]
    pub(crate) fn keep(&mut self, message: &[u8]) {
        self.refresh();
        self.data.clear();
        let _ = try_append(&mut self.data, message.get(..self.data_bytes_max).unwrap_or(message));
        self.data_bytes = message.len();
    }

    /// Keeps a message of which nobody knows the bytes any more.
    pub(crate) fn keep_length(&mut self, bytes: usize) {
        self.keep(&[]);
        self.data_bytes = bytes;
    }

    /// The message that was kept last, for later.
    pub(crate) fn kept(&self) -> KeptMessage {
        KeptMessage { data: try_copy(&self.data).unwrap_or_default().into(), bytes: self.data_bytes }
    }

    /// Keeps a message again, whose answer has come.
    pub(crate) fn keep_again(&mut self, message: &KeptMessage) {
        self.keep(&message.data);
        self.data_bytes = message.bytes;
    }

    /// Records the message that was kept.
    #[inline(never)]
    pub(crate) fn record(&mut self, of: &Recorded<'_>, answer: &[u8]) {
        let Some(collected) = &mut self.collected else {
            return self.write(of, Bytes::of(answer));
        };
        let wants =
            self.channels.iter().map(|open| open.channel.settings).filter(|settings| settings.answers);
        let most = wants.map(|settings| settings.data_bytes_max).max().unwrap_or(0);
        let Recorded { time, listener, connection, peer, kind, flags, outcome } = *of;
        collected.push(Collected {
            time,
            listener,
            connection,
            peer: peer.clone(),
            kind,
            flags,
            outcome,
            data: try_copy(&self.data).unwrap_or_default(),
            data_bytes: self.data_bytes,
            answer: try_copy(Bytes::of(answer).cut(most).kept).unwrap_or_default(),
            answer_bytes: answer.len(),
        });
    }

    fn write(&mut self, of: &Recorded<'_>, answer: Bytes<'_>) {
        // A connection has mostly several messages, and its peer is what it was.
        if of.connection == 0 || of.connection != self.named {
            (self.name, self.named) = (sys::sockaddr_of(of.peer), of.connection);
        }
        let data = Bytes { kept: &self.data, count: self.data_bytes };
        for Open { channel, is_dirty } in
            self.channels.iter_mut().filter(|open| open.channel.wants(of.listener))
        {
            channel.write(of, &self.name, data, answer);
            (*is_dirty, self.is_dirty) = (true, true);
        }
    }

    pub(crate) fn into_collected(self) -> Vec<Collected> {
        self.collected.unwrap_or_default()
    }

    /// Writes what was collected elsewhere.
    pub(crate) fn record_collected(&mut self, collected: Vec<Collected>) {
        for record in collected {
            self.refresh();
            let Collected { time, listener, connection, peer, kind, flags, outcome, .. } = record;
            let of = Recorded { time, listener, connection, peer: &peer, kind, flags, outcome };
            (self.data, self.data_bytes) = (record.data, record.data_bytes);
            self.write(&of, Bytes { kept: &record.answer, count: record.answer_bytes });
        }
    }

    /// Tells the readers of what was written since the last time.
    #[inline(always)]
    pub(crate) fn wake(&mut self) {
        if self.is_dirty {
            self.wake_readers();
        }
    }

    #[cold]
    fn wake_readers(&mut self) {
        self.is_dirty = false;
        for open in &mut self.channels {
            if std::mem::take(&mut open.is_dirty) {
                open.channel.signal.raise();
            }
        }
    }
}
