//! The options of a socket: set, and read back.

use std::fs;
use std::io;
use std::os::fd::BorrowedFd;

use socket2::{SockRef, TcpKeepalive};

use crate::options::{Keepalive, Options};
use crate::peer::SocketKind;
use crate::sys;

/// Options that a listening socket passes on to the connections it accepts (socket(7), tcp(7)), so that they cost
/// no call a connection.
pub(super) fn configure(socket: BorrowedFd<'_>, kind: SocketKind, options: &Options) -> io::Result<()> {
    let reference = SockRef::from(&socket);
    if let Some(bytes) = options.rcvbuf_bytes {
        reference.set_recv_buffer_size(bytes as usize)?;
    }
    if let Some(bytes) = options.sndbuf_bytes {
        reference.set_send_buffer_size(bytes as usize)?;
    }
    if kind == SocketKind::Tcp {
        reference.set_tcp_nodelay(options.nodelay)?;
        match options.keepalive {
            Keepalive::Off => {}
            Keepalive::On => reference.set_keepalive(true)?,
            Keepalive::After(idle) => {
                reference.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle))?;
            }
        }
        // An echo owes urgent bytes too (RFC 6093): they stay in the stream.
        reference.set_out_of_band_inline(true)?;
    }
    Ok(())
}

pub(super) fn report_destinations(socket: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    if v6 {
        sys::set_int(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
    }
    // On a dual-stack socket this one tells broadcasts from the rest for IPv4 packets.
    sys::set_int(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)
}

pub(super) fn backlog(options: &Options) -> i32 {
    i32::try_from(options.backlog).unwrap_or(i32::MAX)
}

/// What the kernel made of the options: `getsockopt` of the listening socket.
pub(crate) fn effective(
    socket: BorrowedFd<'_>,
    kind: SocketKind,
    options: &Options,
) -> Vec<(String, String)> {
    let reference = SockRef::from(&socket);
    let mut found = Vec::new();
    let mut report = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            found.push((key.to_owned(), value));
        }
    };
    let flag = |value: io::Result<bool>| value.ok().map(|on| u8::from(on).to_string());
    report("rcvbuf", reference.recv_buffer_size().ok().map(|bytes| bytes.to_string()));
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
