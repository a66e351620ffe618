//! One listener as all workers know it.

mod proxy;

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::chain::{Chain, Generation};
use crate::connection::{Around, FilterAround, MakeAround};
use crate::context::ConnLimits;
use crate::error::{Error, Result, SpecError};
use crate::event::{PeerLines, Subject};
use crate::frame::Framer;
use crate::limits::{
    READ_BYTES_MAX, STREAM_MESSAGE_BYTES_MAX, UDP_DATAGRAM_BYTES_MAX, UNIX_RECORD_BYTES_MAX,
};
use crate::net::guard::{Amplification, DatagramRules, PeerLimiter, Prefixes};
use crate::net::socket::{self, Bound, OnAccept};
use crate::net::unix_file::SocketFile;
use crate::options::{AddressKind, Frame, KEYS, Keepalive, Options};
use crate::peer::{Peer, SocketKind};
use crate::proxy::HEADER_BYTES_MAX;
use crate::stats::{Block, Stats};
use crate::sys;
use crate::transform::library::{FilterInstance, LocalEnd};

use proxy::ProxyRules;
pub(crate) use proxy::Sender;

/// The least that one read asks for, however small the high water.
const READ_BYTES_MIN: usize = 1024;

/// The number of the next listener, or of the next connection: one counter for all engines of a process, so that a number
/// of another engine, or of another kind, names nothing.
pub(crate) fn next_number() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// Names a listener. Never reused, by no engine of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ListenerId(pub(crate) u64);

impl ListenerId {
    /// The name as a number, for languages that have no types for names. Never 0.
    pub fn number(self) -> u64 {
        self.0
    }

    /// The name with that number; it need not name anything.
    pub fn from_number(number: u64) -> ListenerId {
        ListenerId(number)
    }
}

/// A listening socket's name, rules and counters. The socket itself is with one worker's driver.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) id: u64,
    /// Which of its engine's it is: 0 for the first.
    pub(crate) ordinal: usize,
    pub(crate) url: String,
    /// The address that its socket has.
    pub(crate) local: Option<Peer>,
    pub(crate) kind: SocketKind,
    /// Somebody else has opened the socket, and may have it too.
    pub(crate) is_adopted: bool,
    pub(crate) options: Options,
    pub(crate) limits: ConnLimits,
    pub(crate) message_bytes_max: usize,
    pub(crate) destinations: bool,
    /// Which networks are served.
    pub(crate) prefixes: Option<Prefixes>,
    /// Whose headers of the PROXY protocol are believed, where each peer comes with one.
    pub(crate) proxy: Option<ProxyRules>,
    /// Its address is one of loopback.
    is_loopback: bool,
    /// Which datagrams are answered, where not all of them are.
    pub(crate) datagram_rules: Option<Arc<DatagramRules>>,
    /// Every worker may have a socket of its own.
    pub(crate) can_multiply: bool,
    /// Counts the changes of its options: a connection keeps the edition that it began with.
    pub(crate) edition: u64,
    /// What the kernel made of the options, read when the socket was bound.
    pub(crate) effective: Vec<(String, String)>,
    /// What its connections are told as they are accepted.
    pub(crate) on_accept: OnAccept,
    /// Where there is a `max_per_peer`.
    pub(crate) limiter: Option<Arc<PeerLimiter>>,
    /// What stands before and around its streams.
    around: Option<MakeAround>,
    /// What stands between their sockets and them.
    filter: Option<FilterAround>,
    chain: Arc<CurrentChain>,
    common: Arc<Common>,
}

/// What all editions of a listener have together.
#[derive(Debug, Default)]
struct Common {
    /// What its peers cause in the log.
    lines: PeerLines,
    /// Sockets that workers serve now.
    sockets: AtomicUsize,
    /// The host does not want anything to be read of its peers.
    is_paused: AtomicBool,
    /// The host wants nobody to come.
    is_refusing: AtomicBool,
    /// Another process goes on with its sockets.
    is_left: AtomicBool,
    /// A block a worker, once there are workers.
    stats: RwLock<Arc<[Arc<Block>]>>,
    /// Sockets of its address for other workers than the first, until they are handed to them.
    more: Mutex<Vec<OwnedFd>>,
    /// The socket's file, until the listener is closed.
    file: Mutex<Option<SocketFile>>,
    /// What the socket was bound with.
    bound: Options,
    /// What the kernel made of that.
    effective: Vec<(String, String)>,
}

/// The chain of all editions whose messages are found in the same way.
#[derive(Debug)]
struct CurrentChain {
    current: Mutex<Current>,
    /// Counts the changes.
    number: AtomicU64,
}

#[derive(Debug)]
struct Current {
    chain: Arc<Chain>,
    /// A generation a worker, once there are workers.
    generations: Vec<Arc<Generation>>,
}

impl Subject for Listener {
    fn subject(&self) -> (u64, &str) {
        (self.id, &self.url)
    }
}

impl Listener {
    /// What its peers cause in the log.
    pub(crate) fn lines(&self) -> &PeerLines {
        &self.common.lines
    }

    /// `effective`: see [`crate::net::socket::effective`].
    pub(crate) fn new(
        ordinal: usize,
        bound: &mut Bound,
        effective: Vec<(String, String)>,
        chain: Arc<Chain>,
        (around, filter): (Option<MakeAround>, Option<Arc<FilterInstance>>),
    ) -> Result<Listener> {
        let options = bound.options.clone();
        let kind = bound.kind;
        let id = next_number();
        let local = LocalEnd {
            kind,
            url: bound.url.clone(),
            listener: id,
            address: bound.local(),
            answer_bytes_max: 0,
        };
        let (message_bytes_max, limits) = limits_of(local, &options, bound.is_loopback)?;
        let (datagram_rules, prefixes) = rules_of(kind, &options, bound.is_loopback);
        let proxy = ProxyRules::new(kind, &options, bound.is_loopback)?;
        let limiter = options.max_per_peer.map(PeerLimiter::new);
        Ok(Listener {
            id,
            ordinal,
            url: bound.url.clone(),
            local: sys::local(bound.socket.as_fd()).ok(),
            kind,
            is_adopted: bound.is_adopted,
            limits,
            message_bytes_max,
            destinations: bound.destinations,
            prefixes,
            proxy,
            is_loopback: bound.is_loopback,
            datagram_rules,
            can_multiply: bound.can_multiply,
            edition: 0,
            effective: effective.clone(),
            on_accept: std::mem::take(&mut bound.on_accept),
            limiter,
            around: around.filter(|_| kind != SocketKind::UnixSeqpacket),
            filter: filter_of(kind, &options, filter),
            chain: CurrentChain::new(chain, Vec::new()),
            common: Arc::new(Common {
                more: Mutex::new(std::mem::take(&mut bound.more)),
                file: Mutex::new(bound.file.take()),
                bound: options.clone(),
                effective,
                ..Common::default()
            }),
            options,
        })
    }

    /// The same listener with other options, for those who come from now on: the same number, socket, counters and, unless
    /// messages are found otherwise, chain. Fails where an option is settled when the socket is bound.
    /// `filter`: what stands between the sockets of new connections and them.
    pub(crate) fn revised(&self, options: &Options, filter: Option<Arc<FilterInstance>>) -> Result<Listener> {
        let kind = AddressKind::from(self.kind);
        for key in KEYS.iter().filter(|key| key.is_settled(kind)) {
            if let (old, Some(new)) = (self.options.get(key.name), options.get(key.name))
                && old.as_ref() != Some(&new)
            {
                let text = format!("{}={new}", key.name);
                let reason = format!("{} is settled when the socket is bound: it cannot change", key.name);
                return Err(SpecError::new("option", &text, 0, reason).into());
            }
        }
        let (message_bytes_max, limits) = limits_of(self.limits.local.clone(), options, self.is_loopback)?;
        let limiter = match (&self.limiter, options.max_per_peer) {
            (Some(limiter), Some(most)) if Some(most) == self.options.max_per_peer => {
                Some(Arc::clone(limiter))
            }
            // Those that are here keep their places, so they count under the new limit too.
            (Some(limiter), Some(most)) => Some(limiter.with_limit(most)),
            (None, most) => most.map(PeerLimiter::new),
            (Some(_), None) => None,
        };
        let chain = if self.has_same_messages(options) {
            Arc::clone(&self.chain)
        } else {
            let current = self.current();
            CurrentChain::new(Arc::clone(&current.chain), current.generations.clone())
        };
        let (_, prefixes) = rules_of(self.kind, options, self.is_loopback);
        let proxy = ProxyRules::new(self.kind, options, self.is_loopback)?;
        let on_accept = socket::on_accept_revised(self.kind, &self.common.bound, options, self.is_adopted)
            .map_err(Error::system(format!("read the options of a new socket for {}", self.url)))?;
        Ok(Listener {
            id: self.id,
            ordinal: self.ordinal,
            url: self.url.clone(),
            local: self.local.clone(),
            kind: self.kind,
            is_adopted: self.is_adopted,
            limits,
            prefixes,
            proxy,
            datagram_rules: self.datagram_rules.clone(),
            message_bytes_max,
            options: options.clone(),
            destinations: self.destinations,
            can_multiply: self.can_multiply,
            is_loopback: self.is_loopback,
            edition: self.edition + 1,
            effective: effective_after(&self.common, options),
            on_accept,
            limiter,
            around: self.around.clone(),
            filter: filter_of(self.kind, options, filter),
            chain,
            common: Arc::clone(&self.common),
        })
    }

    /// Whether messages would be found as now.
    fn has_same_messages(&self, options: &Options) -> bool {
        (&self.options.frame, self.options.max_message_bytes) == (&options.frame, options.max_message_bytes)
    }

    /// Whether its datagram sockets have something to report of each datagram.
    pub(crate) fn has_reports(&self) -> bool {
        self.destinations || self.datagram_rules.as_ref().is_some_and(|rules| rules.needs_hops())
    }

    /// What holds of an option of the guard.
    pub(crate) fn guard_option(&self, key: &str) -> Option<String> {
        let all = (self.kind == SocketKind::Udp).then(|| self.options.guard_texts(self.is_loopback))?;
        all.into_iter().find_map(|(known, text)| (known == key).then_some(text))
    }

    /// The address of its sockets, where they are UDP.
    pub(crate) fn udp_address(&self) -> Option<SocketAddr> {
        match (self.kind, &self.local) {
            (SocketKind::Udp, Some(Peer::Ip(address))) => Some(*address),
            _ => None,
        }
    }

    /// Whether a peer's network is served.
    pub(crate) fn serves(&self, peer: &Peer) -> bool {
        match (&self.prefixes, peer) {
            (Some(prefixes), Peer::Ip(address)) => prefixes.allows(address.ip()),
            (None, Peer::Ip(_)) => true,
            // A proxy may name a peer of another kind, which is in no network.
            _ => self.kind.is_unix() || self.options.allow.is_none(),
        }
    }

    /// The longest datagram with all that stands in front of its message.
    pub(crate) fn datagram_bytes_max(&self) -> usize {
        let message = self.message_bytes_max;
        match (&self.proxy, self.kind) {
            (None, _) => message,
            (Some(_), SocketKind::Udp) => message.max(UDP_DATAGRAM_BYTES_MAX.min(message + HEADER_BYTES_MAX)),
            (Some(_), _) => message + HEADER_BYTES_MAX,
        }
    }

    /// Whether the peers of streams are known only when they have said something.
    pub(crate) fn has_preface(&self) -> bool {
        self.proxy.is_some() || self.around.as_ref().is_some_and(|around| around.has_preface)
    }

    /// What stands before and around a new stream.
    pub(crate) fn around(&self) -> Option<Around> {
        let around = self.around.as_ref().map(MakeAround::make);
        let around = match &self.filter {
            Some(filter) => Some(filter.put(around)),
            None => around,
        };
        match &self.proxy {
            Some(rules) => Some(rules.in_front_of(around)),
            None => around,
        }
    }

    /// Makes room for each worker's counters, and hands out the generations. Before any worker sees the listener.
    pub(crate) fn prepare(&self, workers: usize, generations: Vec<Arc<Generation>>) {
        *self.common.stats.write().unwrap_or_else(PoisonError::into_inner) =
            (0..workers).map(|_| Arc::default()).collect();
        self.current().generations = generations;
    }

    /// The workers that it was prepared for are not to be.
    pub(crate) fn unprepare(&self) {
        *self.common.stats.write().unwrap_or_else(PoisonError::into_inner) = Arc::default();
        self.current().generations.clear();
        self.common.sockets.store(0, Ordering::Relaxed);
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.chain.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The counters, a block for each worker.
    pub(crate) fn blocks(&self) -> Arc<[Arc<Block>]> {
        Arc::clone(&self.common.stats.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The counters that worker `worker`, and nobody else, adds to.
    pub(crate) fn stats_of(&self, worker: usize) -> Arc<Block> {
        Arc::clone(&self.blocks()[worker])
    }

    pub(crate) fn stats(&self) -> Stats {
        let mut sum = Stats::default();
        self.blocks().iter().for_each(|block| sum.add_block(block));
        sum
    }

    /// Connections open now, over all workers.
    pub(crate) fn open_connections(&self) -> u64 {
        let blocks = self.blocks();
        let closed: u64 = blocks.iter().map(|block| block.closed_total()).sum();
        let accepted: u64 = blocks.iter().map(|block| block.accepted.get()).sum();
        accepted.saturating_sub(closed)
    }

    pub(crate) fn chain(&self) -> Arc<Chain> {
        Arc::clone(&self.current().chain)
    }

    /// The generation that worker `worker` is to use now.
    pub(crate) fn generation(&self, worker: usize) -> Arc<Generation> {
        Arc::clone(&self.current().generations[worker])
    }

    /// Whether a swap of one edition's chain is one of the other's.
    pub(crate) fn has_chain_of(&self, other: &Listener) -> bool {
        Arc::ptr_eq(&self.chain, &other.chain)
    }

    /// The generations of its chain, a worker each.
    pub(crate) fn generations(&self) -> Vec<Arc<Generation>> {
        self.current().generations.clone()
    }

    /// Counts the swaps.
    pub(crate) fn chain_number(&self) -> u64 {
        self.chain.number.load(Ordering::Acquire)
    }

    /// The hot swap: workers notice at their next turn. What was there before is given back, so that it is
    /// destroyed outside the lock.
    pub(crate) fn set_chain(
        &self,
        chain: Arc<Chain>,
        generations: Vec<Arc<Generation>>,
    ) -> (Arc<Chain>, Vec<Arc<Generation>>) {
        let old = std::mem::replace(&mut *self.current(), Current { chain, generations });
        self.chain.number.fetch_add(1, Ordering::Release);
        (old.chain, old.generations)
    }

    /// A worker serves a socket; whether it is the first.
    pub(crate) fn opened(&self) -> bool {
        self.common.sockets.fetch_add(1, Ordering::Relaxed) == 0
    }

    /// A worker has closed its socket; whether it was the last. Then the file goes too.
    pub(crate) fn closed(&self) -> bool {
        let was_last = self.common.sockets.fetch_sub(1, Ordering::Relaxed) == 1;
        if was_last {
            self.remove_file();
        }
        was_last
    }

    /// A worker has closed its socket, and another one is to follow; whether it was the last. The file stays.
    pub(crate) fn rests(&self) -> bool {
        self.common.sockets.fetch_sub(1, Ordering::Relaxed) == 1
    }

    /// Whether anything is to be read of its peers.
    pub(crate) fn is_paused(&self) -> bool {
        self.common.is_paused.load(Ordering::Acquire)
    }

    pub(crate) fn set_paused(&self, is_paused: bool) {
        self.common.is_paused.store(is_paused, Ordering::Release);
    }

    /// Whether nobody is to come.
    pub(crate) fn is_refusing(&self) -> bool {
        self.common.is_refusing.load(Ordering::Acquire)
    }

    pub(crate) fn set_refusing(&self, is_refusing: bool) {
        self.common.is_refusing.store(is_refusing, Ordering::Release);
    }

    /// Takes the place of the socket's file: what `make` gives, once the one that was there is gone.
    pub(crate) fn replace_file<R>(
        &self,
        make: impl FnOnce() -> Result<(Option<SocketFile>, R)>,
    ) -> Result<R> {
        let mut file = self.common.file.lock().unwrap_or_else(PoisonError::into_inner);
        drop(file.take());
        let (made, rest) = make()?;
        *file = made;
        Ok(rest)
    }

    /// The sockets that other workers than the first are to have.
    pub(crate) fn take_more(&self) -> Vec<OwnedFd> {
        std::mem::take(&mut *self.common.more.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Owns the socket's file, which was another process's until now.
    pub(crate) fn own_file(&self) {
        if let Some(file) = self.common.file.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            file.own();
        }
    }

    /// Whether others have its sockets too, so that nothing may be done to these that they would notice.
    pub(crate) fn is_shared(&self) -> bool {
        self.is_adopted || self.common.is_left.load(Ordering::Acquire)
    }

    /// Leaves the sockets, and their file, to whoever goes on with them.
    pub(crate) fn leave(&self) {
        self.common.is_left.store(true, Ordering::Release);
        if let Some(file) = self.common.file.lock().unwrap_or_else(PoisonError::into_inner).take() {
            file.leave();
        }
    }

    /// What the socket's file has open, if there is one and nobody is at it.
    pub(crate) fn file_descriptor(&self) -> Option<RawFd> {
        self.common.file.try_lock().ok()?.as_ref().map(SocketFile::descriptor)
    }

    /// How many connections may wait to be accepted.
    pub(crate) fn waiting_max(&self) -> i32 {
        socket::waiting_max(&self.options)
    }

    /// Whether any worker has a socket of it.
    pub(crate) fn is_served(&self) -> bool {
        self.common.sockets.load(Ordering::Relaxed) > 0
    }

    /// Removes the socket's file, if there is one and it is still ours.
    pub(crate) fn remove_file(&self) {
        drop(self.common.file.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// The longest message, and what connections and datagrams are bound by.
fn limits_of(local: LocalEnd, options: &Options, is_loopback: bool) -> Result<(usize, ConnLimits)> {
    let kind = local.kind;
    let message_bytes_max = options.max_message_bytes.unwrap_or(match kind {
        SocketKind::Udp => options.guard_message_bytes_max().unwrap_or(UDP_DATAGRAM_BYTES_MAX),
        SocketKind::UnixDatagram | SocketKind::UnixSeqpacket => UNIX_RECORD_BYTES_MAX,
        SocketKind::Tcp | SocketKind::UnixStream => STREAM_MESSAGE_BYTES_MAX,
    });
    let records = kind == SocketKind::UnixSeqpacket;
    // Where records or datagrams are messages, there is nothing to frame.
    let frame = if kind.is_datagram() || records { &Frame::Raw } else { &options.frame };
    if frame != &Frame::Raw
        && let Some(reason) = options.frame_fault()
    {
        return Err(SpecError::new("option", &format!("frame={frame}"), "frame=fixed:".len(), reason).into());
    }
    let framer = Framer::new(frame, message_bytes_max);
    let read_bytes_max = if records {
        message_bytes_max
    } else {
        READ_BYTES_MAX.min(options.high_water_bytes.max(READ_BYTES_MIN))
    };
    let answer_bytes_max = message_bytes_max.max(READ_BYTES_MAX).saturating_mul(16);
    let limits = ConnLimits {
        local: LocalEnd { answer_bytes_max, ..local },
        framer,
        records,
        // Only UDP sources can be forged.
        amplification: if kind == SocketKind::Udp {
            let times = options.guard_amplification(is_loopback);
            Amplification::new(times, &options.max_amplification_except)
        } else {
            Amplification::UNLIMITED
        },
        read_bytes_max,
        min_rate: options.min_rate,
        idle_timeout: options.idle_timeout,
        write_timeout: options.write_timeout,
        swap_timeout: options.swap_timeout,
        // A record beside one that waits must fit.
        high_water_bytes: if records {
            options.high_water_bytes.max(2 * read_bytes_max)
        } else {
            options.high_water_bytes
        },
    };
    Ok((message_bytes_max, limits))
}

/// What stands between the sockets of a listener's streams and them.
fn filter_of(
    kind: SocketKind,
    options: &Options,
    filter: Option<Arc<FilterInstance>>,
) -> Option<FilterAround> {
    let is_stream = matches!(kind, SocketKind::Tcp | SocketKind::UnixStream);
    let within = options.handshake_timeout;
    filter.filter(|_| is_stream).map(|instance| FilterAround { instance, within })
}

/// What is asked of the senders of datagrams, and of connecting peers.
fn rules_of(
    kind: SocketKind,
    options: &Options,
    is_loopback: bool,
) -> (Option<Arc<DatagramRules>>, Option<Prefixes>) {
    match kind {
        SocketKind::Udp => (DatagramRules::new(options, is_loopback), None),
        SocketKind::Tcp => (None, Prefixes::new(options.allow.as_deref(), &options.deny)),
        _ => (None, None),
    }
}

/// What connections have now of what the kernel made of the options that they are told.
fn effective_after(common: &Common, options: &Options) -> Vec<(String, String)> {
    let told = |(key, value): &(String, String)| {
        let value = match key.as_str() {
            "nodelay" => u8::from(options.nodelay).to_string(),
            "keepalive" if options.keepalive != common.bound.keepalive => {
                u8::from(options.keepalive != Keepalive::Off).to_string()
            }
            _ => value.clone(),
        };
        (key.clone(), value)
    };
    common.effective.iter().map(told).collect()
}

impl CurrentChain {
    fn new(chain: Arc<Chain>, generations: Vec<Arc<Generation>>) -> Arc<CurrentChain> {
        let current = Mutex::new(Current { chain, generations });
        Arc::new(CurrentChain { current, number: AtomicU64::new(0) })
    }
}
