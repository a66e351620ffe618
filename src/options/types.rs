//! The options of a listener as values, with their defaults.

use std::fmt;
use std::time::Duration;

use super::guard::{GuardLevel, Guarded, LoopHops, Network, Ports, Rate, RateNetworks};
use crate::frame::Frame;
use crate::peer::SocketKind;
use crate::proxy::ProxyVersions;

/// What a listener and its connections do, apart from the address and the transforms.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// `backlog`: connections that may wait to be accepted; Linux clamps it to `net.core.somaxconn`.
    pub backlog: u32,
    /// `nodelay`: send small answers without delay (TCP_NODELAY).
    pub nodelay: bool,
    /// `keepalive`: probe silent peers.
    pub keepalive: Keepalive,
    /// `rcvbuf`: SO_RCVBUF; `None` leaves the system's choice.
    pub rcvbuf_bytes: Option<u32>,
    /// `sndbuf`: SO_SNDBUF; `None` leaves the system's choice.
    pub sndbuf_bytes: Option<u32>,
    /// `v6only`: whether an IPv6 socket refuses IPv4; `None` leaves it to the address.
    pub v6only: Option<bool>,
    /// `mode`: permission bits of a unix socket's file, at most 0o777; `None` follows the umask.
    pub mode: Option<u32>,
    /// `frame`: where a message of a stream ends.
    pub frame: Frame,
    /// `max_message`: the longest message; `None` is the default of the socket's kind.
    pub max_message_bytes: Option<usize>,
    /// `max_connections`: how many connections of this listener may be open at once; at least 1.
    pub max_connections: u32,
    /// `max_per_peer`: how many of them one peer may have: one IPv4 address, IPv6 /64 network or, on unix
    /// sockets, user; `None`: no limit but `max_connections`.
    pub max_per_peer: Option<u32>,
    /// `allow_uid`: the users that may connect over a unix socket; `None`: all whom the file's mode lets in.
    pub allow_uid: Option<Vec<u32>>,
    /// `idle_timeout`: close a connection when its peer is silent for this time; `None`: never.
    pub idle_timeout: Option<Duration>,
    /// `write_timeout`: close a connection when its peer reads nothing for this time while answers wait.
    pub write_timeout: Duration,
    /// `min_rate`: close a connection over which less than this passes while something is unfinished.
    pub min_rate: Option<MinRate>,
    /// `max_amplification`: the most bytes of an answer over UDP for each byte of its request.
    pub max_amplification: MaxAmplification,
    /// `max_amplification_except`: networks whose sources are not forged, to which answers may have any length.
    pub max_amplification_except: Vec<Network>,
    /// `guard`: what the options from here to `rate_total` are where they are `auto`.
    pub guard: GuardLevel,
    /// `allow`: the networks that are served; `None`: all.
    pub allow: Option<Vec<Network>>,
    /// `deny`: networks that are not. The longest prefix that holds an address decides, and `deny` at a tie.
    pub deny: Vec<Network>,
    /// `from_ports`: the source ports that are answered over UDP.
    pub from_ports: Guarded<Ports>,
    /// `loop_hops`: how many answers one peer may send back before that is a loop.
    pub loop_hops: Guarded<LoopHops>,
    /// `loop_mark`: the hop limit of answers over UDP: 186 to 254.
    pub loop_mark: Guarded<u8>,
    /// `rate`: datagrams of one network that are answered.
    pub rate: Guarded<Rate>,
    /// `rate_burst`: how many of them at once; `None`: those of two seconds.
    pub rate_burst: Option<u32>,
    /// `rate_networks`: what is one network.
    pub rate_networks: RateNetworks,
    /// `rate_total`: datagrams of the listener that are answered.
    pub rate_total: Guarded<Rate>,
    /// `proxy`: which headers of the PROXY protocol stand before each stream, or in each datagram; `None`: none does.
    pub proxy: Option<ProxyVersions>,
    /// `proxy_from`: the networks whose headers are believed, and nobody else is served; `None`: whoever reaches the listener.
    pub proxy_from: Option<Vec<Network>>,
    /// `proxy_timeout`: how long the header of a stream may take.
    pub proxy_timeout: Duration,
    /// `swap_timeout`: how long a connection that cannot go over to a new chain may keep the old one.
    pub swap_timeout: Duration,
    /// `high_water`: size of unsent answers at which a connection is no longer read.
    pub high_water_bytes: usize,
    /// `filter`: what stands between the socket and the stream, as it was written, such as `tls:cert=…`.
    pub filter: Option<String>,
    /// `handshake_timeout`: how long its handshake may take.
    pub handshake_timeout: Duration,
    /// `chain`: the listener's own chain, as it was written; `None` is the engine's chain.
    pub chain: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            backlog: 1024,
            nodelay: true,
            keepalive: Keepalive::Off,
            rcvbuf_bytes: None,
            sndbuf_bytes: None,
            v6only: None,
            mode: None,
            frame: Frame::Raw,
            max_message_bytes: None,
            max_connections: 65_536,
            max_per_peer: None,
            allow_uid: None,
            idle_timeout: None,
            write_timeout: Duration::from_secs(30),
            min_rate: None,
            max_amplification: MaxAmplification::Auto,
            max_amplification_except: Vec::new(),
            guard: GuardLevel::Local,
            allow: None,
            deny: Vec::new(),
            from_ports: Guarded::Auto,
            loop_hops: Guarded::Auto,
            loop_mark: Guarded::Auto,
            rate: Guarded::Auto,
            rate_burst: None,
            rate_networks: RateNetworks::default(),
            rate_total: Guarded::Auto,
            proxy: None,
            proxy_from: None,
            proxy_timeout: Duration::from_secs(3),
            swap_timeout: Duration::from_secs(60),
            high_water_bytes: 256 << 10,
            filter: None,
            handshake_timeout: Duration::from_secs(10),
            chain: None,
        }
    }
}

/// Whether silent TCP peers are probed (SO_KEEPALIVE).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keepalive {
    /// No probes.
    #[default]
    Off,
    /// Probes, when and how often the system says.
    On,
    /// The first probe after this long without a byte: whole seconds, as the system counts.
    After(Duration),
}

/// The least that must pass over a connection that has something unfinished: a message of which only a part has
/// come, or answers that the peer has not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MinRate {
    /// Bytes, received and taken together; at least 1.
    pub bytes: u64,
    /// In each span of this length.
    pub within: Duration,
}

/// The most bytes of an answer for each byte of a datagram whose source nobody has verified: a forged one must not
/// profit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MaxAmplification {
    /// No limit where the listener is bound to a loopback address, which nobody outside can send from or reach; else 1.
    #[default]
    Auto,
    /// No limit.
    Off,
    /// So many; at least 1.
    Times(u32),
}

impl MaxAmplification {
    /// The limit of a UDP listener; `usize::MAX` is none.
    pub(crate) fn limit(self, is_loopback: bool) -> usize {
        match self {
            MaxAmplification::Auto if is_loopback => usize::MAX,
            MaxAmplification::Auto => 1,
            MaxAmplification::Off => usize::MAX,
            MaxAmplification::Times(count) => count as usize,
        }
    }
}

/// The kinds of listening socket, as far as options differ between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AddressKind {
    /// `tcp`
    Tcp,
    /// `udp`
    Udp,
    /// `unix`
    UnixStream,
    /// `unix-dgram`
    UnixDatagram,
    /// `unix-seqpacket`
    UnixSeqpacket,
    /// `fd` and `systemd`: handed over, of a kind that only the system can tell.
    Inherited,
}

impl From<SocketKind> for AddressKind {
    fn from(kind: SocketKind) -> AddressKind {
        match kind {
            SocketKind::Tcp => AddressKind::Tcp,
            SocketKind::Udp => AddressKind::Udp,
            SocketKind::UnixStream => AddressKind::UnixStream,
            SocketKind::UnixDatagram => AddressKind::UnixDatagram,
            SocketKind::UnixSeqpacket => AddressKind::UnixSeqpacket,
        }
    }
}

impl fmt::Display for AddressKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AddressKind::Tcp => "tcp",
            AddressKind::Udp => "udp",
            AddressKind::UnixStream => "unix",
            AddressKind::UnixDatagram => "unix-dgram",
            AddressKind::UnixSeqpacket => "unix-seqpacket",
            AddressKind::Inherited => "inherited",
        })
    }
}
