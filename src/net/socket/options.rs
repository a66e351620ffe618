//! The options of a socket: set, and read back.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use crate::limits::UNIX_RECORD_BYTES_MAX;
use crate::options::{Keepalive, Options};
use crate::peer::SocketKind;
use crate::sys::{self, OnAccept, Setting};

/// What the kernel takes off the send buffer of a unix socket before it compares a record with it
/// (`unix_dgram_sendmsg`).
const RECORD_OVERHEAD_BYTES: usize = 32;

/// What the options of a listener say about its socket. Connections of a TCP listener inherit it (socket(7), tcp(7)), so
/// that it costs no call a connection; those of unix sockets inherit nothing.
pub(super) fn asked_for(kind: SocketKind, options: &Options) -> Vec<Setting> {
    let mut settings = Vec::new();
    // The receiving side of a unix socket has no buffer of its own: the sender's counts (unix(7)).
    if let Some(bytes) = options.rcvbuf_bytes.filter(|_| !kind.is_unix()) {
        settings.push(Setting::new(libc::SOL_SOCKET, libc::SO_RCVBUF, int_of(bytes)));
    }
    settings.extend(send_buffer(kind, options));
    if kind == SocketKind::Tcp {
        settings.push(Setting::new(libc::IPPROTO_TCP, libc::TCP_NODELAY, options.nodelay.into()));
        match options.keepalive {
            Keepalive::Off => {}
            Keepalive::On => settings.push(Setting::new(libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)),
            Keepalive::After(idle) => {
                let probing = Probing::after(idle, options.write_timeout);
                settings.push(Setting::new(libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1));
                for (option, value) in [
                    (libc::TCP_KEEPIDLE, probing.idle_seconds),
                    (libc::TCP_KEEPINTVL, probing.interval_seconds),
                    (libc::TCP_KEEPCNT, PROBES),
                ] {
                    settings.push(Setting::new(libc::IPPROTO_TCP, option, value));
                }
                // Multipath TCP took this one later than the others.
                let (option, value) = (libc::TCP_USER_TIMEOUT, probing.user_timeout_ms);
                settings.push(Setting::optional(libc::IPPROTO_TCP, option, value));
            }
        }
        // An echo owes urgent bytes too (RFC 6093): they stay in the stream. Multipath TCP has none.
        settings.push(Setting::optional(libc::SOL_SOCKET, libc::SO_OOBINLINE, 1));
    }
    if kind == SocketKind::Udp
        && let Some(mark) = options.guard_mark()
    {
        settings.extend(marked(mark.into()));
    }
    settings
}

/// Probes of a silent peer that stay without an answer before it is taken for gone.
const PROBES: i32 = 3;
/// The longest time between two of them; the system's own is as long.
const PROBE_INTERVAL_SECONDS_MAX: i32 = 75;

/// What follows from `keepalive=DURATION` (tcp(7)).
#[derive(Debug, PartialEq, Eq)]
struct Probing {
    idle_seconds: i32,
    interval_seconds: i32,
    user_timeout_ms: i32,
}

impl Probing {
    /// The system's own interval and count would take another 11 minutes to notice that a silent peer is gone, and its
    /// retransmissions about 15 where an answer is on the way: then nobody probes.
    fn after(idle: Duration, write_timeout: Duration) -> Probing {
        let idle_seconds = i32::try_from(idle.as_secs()).unwrap_or(i32::MAX);
        let interval_seconds = (idle_seconds / 3).clamp(1, PROBE_INTERVAL_SECONDS_MAX);
        let probing =
            Duration::from_secs((i64::from(idle_seconds) + i64::from(PROBES * interval_seconds)) as u64);
        // The timeout also ends peers that answer and do not read: that is for `write_timeout` to decide.
        let user_timeout_ms = i32::try_from(probing.max(write_timeout).as_millis()).unwrap_or(i32::MAX);
        Probing { idle_seconds, interval_seconds, user_timeout_ms }
    }
}

/// What makes answers leave with a hop limit, and the socket report that of what arrives. On a dual-stack socket those of
/// IPv4 are for IPv4 packets; a socket of IPv4 has none of IPv6.
fn marked(hops: i32) -> [Setting; 4] {
    [
        Setting::new(libc::IPPROTO_IP, libc::IP_TTL, hops),
        Setting::new(libc::IPPROTO_IP, libc::IP_RECVTTL, 1),
        Setting::optional(libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, hops),
        Setting::optional(libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT, 1),
    ]
}

/// The send buffer: what is asked for, or, where records leave whole or not at all, as much as the longest one takes.
fn send_buffer(kind: SocketKind, options: &Options) -> Option<Setting> {
    if let Some(bytes) = options.sndbuf_bytes {
        return Some(Setting::new(libc::SOL_SOCKET, libc::SO_SNDBUF, int_of(bytes)));
    }
    if !matches!(kind, SocketKind::UnixDatagram | SocketKind::UnixSeqpacket) {
        return None;
    }
    let record = options.max_message_bytes.unwrap_or(UNIX_RECORD_BYTES_MAX) + RECORD_OVERHEAD_BYTES;
    let half = i32::try_from(record.div_ceil(2)).unwrap_or(i32::MAX);
    Some(Setting::at_least(libc::SOL_SOCKET, libc::SO_SNDBUF, half))
}

fn int_of(bytes: u32) -> i32 {
    i32::try_from(bytes).unwrap_or(i32::MAX)
}

/// What an inherited socket must not have from before: whatever would keep small answers back, reads of small messages,
/// or close otherwise than Resay does. docs/serving.md has all options and what becomes of them.
pub(super) fn neutral(kind: SocketKind) -> Vec<Setting> {
    // Errors and copies of what was sent that are queued for somebody who asks for them: nobody does, and the queue counts
    // towards the receive buffer until that is full (ip(7), SO_TIMESTAMPING).
    let no_error_queue = [
        Setting::optional(libc::IPPROTO_IP, libc::IP_RECVERR, 0),
        Setting::optional(libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 0),
        Setting::optional(libc::SOL_SOCKET, libc::SO_TIMESTAMPING, 0),
    ];
    match kind {
        SocketKind::Tcp => {
            let mut settings = vec![
                // Small answers would wait for up to 200 ms.
                Setting::optional(libc::IPPROTO_TCP, libc::TCP_CORK, 0),
                // Fewer bytes would not be announced (poll(2)).
                Setting::optional(libc::SOL_SOCKET, libc::SO_RCVLOWAT, 1),
                // Less than nothing: a connection that both sides have not ended yet is reset as we close it.
                Setting::optional(libc::IPPROTO_TCP, libc::TCP_LINGER2, 0),
            ];
            settings.extend(no_error_queue);
            settings
        }
        SocketKind::Udp => {
            let mut settings = vec![
                // All answers would wait, and then leave as one.
                Setting::optional(libc::SOL_UDP, libc::UDP_CORK, 0),
                // Each would be cut into several.
                Setting::optional(libc::SOL_UDP, libc::UDP_SEGMENT, 0),
            ];
            settings.extend(no_error_queue);
            settings
        }
        SocketKind::UnixStream | SocketKind::UnixDatagram | SocketKind::UnixSeqpacket => {
            vec![Setting::optional(libc::SOL_SOCKET, sys::SO_PASSRIGHTS, 0)]
        }
    }
}

/// What makes a socket on all addresses say where each datagram was sent to, and answer from there.
pub(super) fn destinations(v6: bool) -> Vec<Setting> {
    let mut settings = Vec::new();
    if v6 {
        settings.push(Setting::new(libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1));
        // An answer may leave from whatever address its request reached: of IPv6 also one that is local only by route, or
        // that has gone since, which the kernel takes from such sockets alone (ipv6(7); for IPv4 the route is enough).
        settings.push(Setting::optional(libc::IPPROTO_IPV6, libc::IPV6_FREEBIND, 1));
    }
    // On a dual-stack socket this one tells broadcasts from the rest for IPv4 packets.
    settings.push(Setting::new(libc::IPPROTO_IP, libc::IP_PKTINFO, 1));
    settings
}

pub(super) fn configure(socket: BorrowedFd<'_>, settings: &[Setting]) -> io::Result<()> {
    settings.iter().try_for_each(|setting| setting.apply(socket))
}

/// What the connections of a listener are told.
pub(super) fn on_accept(kind: SocketKind, options: &Options, is_inherited: bool) -> OnAccept {
    let is_tcp = kind == SocketKind::Tcp;
    let mut settings = Vec::new();
    if is_tcp && is_inherited {
        settings = neutral(kind);
    }
    if (is_tcp && is_inherited) || matches!(kind, SocketKind::UnixStream | SocketKind::UnixSeqpacket) {
        settings.extend(asked_for(kind, options));
    }
    OnAccept::new(settings, is_tcp && is_inherited)
}

/// What the connections of a listener are told whose options have changed since its socket was bound: what they inherit of
/// that is what `bound` says.
pub(crate) fn on_accept_revised(
    kind: SocketKind,
    bound: &Options,
    options: &Options,
    is_inherited: bool,
) -> io::Result<OnAccept> {
    if kind != SocketKind::Tcp {
        return Ok(on_accept(kind, options, is_inherited));
    }
    let mut settings = asked_for(kind, options);
    if is_inherited {
        settings.splice(0..0, neutral(kind));
    } else {
        let inherited = asked_for(kind, bound);
        settings.retain(|setting| !inherited.contains(setting));
    }
    if bound.keepalive != Keepalive::Off && options.keepalive == Keepalive::Off {
        settings.push(Setting::new(libc::SOL_SOCKET, libc::SO_KEEPALIVE, 0));
    }
    let has_times = |options: &Options| matches!(options.keepalive, Keepalive::After(_));
    if has_times(bound) && !has_times(options) {
        settings.extend(system_probing()?);
    }
    Ok(OnAccept::new(settings, is_inherited))
}

/// The times of probes that a socket has which was told none.
fn system_probing() -> io::Result<Vec<Setting>> {
    let untold = Socket::new(Domain::IPV4, Type::STREAM.cloexec(), None)?;
    let names = [libc::TCP_KEEPIDLE, libc::TCP_KEEPINTVL, libc::TCP_KEEPCNT, libc::TCP_USER_TIMEOUT];
    let settings = names.map(|name| {
        let value = sys::get_int(untold.as_fd(), libc::IPPROTO_TCP, name)?;
        Ok(Setting::optional(libc::IPPROTO_TCP, name, value))
    });
    settings.into_iter().collect()
}

/// How many connections may wait to be accepted, as listen(2) takes it.
pub(crate) fn waiting_max(options: &Options) -> i32 {
    i32::try_from(options.backlog).unwrap_or(i32::MAX)
}

/// What the kernel made of the options: `getsockopt` of a socket that has them, which is the listener's own, or, where
/// connections inherit nothing, one that is made like a connection.
pub(crate) fn effective(
    socket: BorrowedFd<'_>,
    kind: SocketKind,
    options: &Options,
    on_accept: &OnAccept,
) -> Vec<(String, String)> {
    let alike = match kind {
        SocketKind::UnixStream | SocketKind::UnixSeqpacket => {
            Socket::new(Domain::UNIX, sys::type_of(kind).cloexec(), None).ok()
        }
        SocketKind::Tcp | SocketKind::Udp | SocketKind::UnixDatagram => None,
    };
    let socket = match &alike {
        Some(connection) => {
            on_accept.apply(connection.as_fd());
            connection.as_fd()
        }
        None => socket,
    };
    let reference = SockRef::from(&socket);
    let mut found = Vec::new();
    let mut report = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            found.push((key.to_owned(), value));
        }
    };
    let flag = |value: io::Result<bool>| value.ok().map(|on| u8::from(on).to_string());
    if !kind.is_unix() {
        report("rcvbuf", reference.recv_buffer_size().ok().map(|bytes| bytes.to_string()));
    }
    report("sndbuf", reference.send_buffer_size().ok().map(|bytes| bytes.to_string()));
    if kind == SocketKind::Tcp {
        report("nodelay", flag(reference.tcp_nodelay()));
        report("keepalive", flag(reference.keepalive()));
    }
    if matches!(kind, SocketKind::Tcp | SocketKind::Udp) {
        report("v6only", flag(reference.only_v6()));
    }
    if kind.is_connected() {
        report("backlog", Some(effective_backlog(options).to_string()));
    }
    found
}

/// The kernel clamps the backlog (listen(2)).
fn effective_backlog(options: &Options) -> u32 {
    let limit = fs::read_to_string("/proc/sys/net/core/somaxconn");
    match limit.map(|text| text.trim().parse()) {
        Ok(Ok(limit)) => options.backlog.min(limit),
        _ => options.backlog,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probing_follows_the_time_that_was_asked_for() {
        let ms = Duration::from_millis;
        for (idle, write, interval_seconds, user_timeout_ms) in [
            (1, 1000, 1, 4000),
            (1, 3000, 1, 4000),
            (1, 30_000, 1, 30_000),
            (3, 1000, 1, 6000),
            (90, 30_000, 30, 180_000),
            (300, 30_000, 75, 525_000),
            (32_767, 30_000, 75, 32_992_000),
        ] {
            let probing = Probing::after(Duration::from_secs(idle as u64), ms(write));
            assert_eq!(probing, Probing { idle_seconds: idle, interval_seconds, user_timeout_ms }, "{idle}");
        }
    }
}
