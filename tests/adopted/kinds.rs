//! Sockets of every kind, as such and by number.

use std::net::{TcpListener, UdpSocket};
use std::os::fd::{IntoRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};

use resay::SocketKind;
use socket2::{Domain, Socket, Type};

use crate::common::*;

/// Sockets of every kind that the host has opened, handed over as such.
#[test]
fn sockets_that_are_handed_over() {
    isolated(|| {
        let directory = directory();
        let engine = engine_builder().chain("uppercase").unwrap().start().unwrap();
        let path = |name: &str| directory.path().join(name);
        let records = Socket::new(Domain::UNIX, Type::SEQPACKET.cloexec(), None).unwrap();
        records.bind(&file_address(&path("r"))).unwrap();
        records.listen(5).unwrap();
        let nonblocking = TcpListener::bind("127.0.0.1:0").unwrap();
        nonblocking.set_nonblocking(true).unwrap();
        let sockets: [(OwnedFd, SocketKind); 6] = [
            (TcpListener::bind("127.0.0.1:0").unwrap().into(), SocketKind::Tcp),
            (nonblocking.into(), SocketKind::Tcp),
            (UdpSocket::bind("127.0.0.1:0").unwrap().into(), SocketKind::Udp),
            (UnixListener::bind(path("s")).unwrap().into(), SocketKind::UnixStream),
            (UnixDatagram::bind(path("d")).unwrap().into(), SocketKind::UnixDatagram),
            (records.into(), SocketKind::UnixSeqpacket),
        ];
        for (socket, kind) in sockets {
            let id = engine.listen_socket(socket, "").unwrap();
            let info = engine.listener(id).unwrap();
            assert_eq!(info.kind, kind);
            assert_eq!(Peer::connect(&info.url).ask(b"handed over"), b"HANDED OVER", "{}", info.url);
        }
        // With options of its own.
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let id = engine.listen_socket(socket.into(), "frame=lines&chain=identity").unwrap();
        assert_eq!(Peer::connect(&engine.listener(id).unwrap().url).ask(b"mine\n"), b"mine\n");
        finish(engine);
        // Their files belong to whoever made them.
        for name in ["s", "d", "r"] {
            assert!(path(name).exists(), "{name}");
        }
    });
}

/// The same by number, in a URL.
#[test]
fn sockets_that_are_handed_over_by_number() {
    isolated(|| {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        let addresses = [
            format!("tcp://{}", socket.local_addr().unwrap()),
            format!("udp://{}", datagrams.local_addr().unwrap()),
        ];
        let urls = [socket.into_raw_fd(), datagrams.into_raw_fd()].map(|fd| format!("fd:{fd}"));
        let engine = engine_builder()
            .listen(&format!("{}?chain=uppercase", urls[0]))
            .unwrap()
            .listen(&urls[1])
            .unwrap()
            .start()
            .unwrap();
        assert_eq!(engine.urls(), addresses);
        assert_eq!(Peer::connect(&addresses[0]).ask(b"by number"), b"BY NUMBER");
        assert_eq!(Peer::connect(&addresses[1]).ask(b"by number"), b"by number");
        finish(engine);
    });
}

/// Whether calls wait is the affair of everybody who shares a socket with us: a parent, a child, another server. Whoever
/// makes it wait makes no worker wait, neither while it serves nor while it drains.
#[test]
fn a_socket_that_somebody_else_makes_blocking() {
    isolated(|| {
        let directory = directory();
        let path = |name: &str| directory.path().join(name);
        let records = Socket::new(Domain::UNIX, Type::SEQPACKET.cloexec(), None).unwrap();
        records.bind(&file_address(&path("r"))).unwrap();
        records.listen(5).unwrap();
        let sockets: [Socket; 5] = [
            TcpListener::bind("127.0.0.1:0").unwrap().into(),
            UdpSocket::bind("127.0.0.1:0").unwrap().into(),
            UnixListener::bind(path("s")).unwrap().into(),
            UnixDatagram::bind(path("d")).unwrap().into(),
            records,
        ];
        let engine = engine_builder().start().unwrap();
        for shared in &sockets {
            let id = engine.listen_socket(shared.try_clone().unwrap().into(), "").unwrap();
            let url = engine.listener(id).unwrap().url;
            for round in 0..3 {
                shared.set_nonblocking(false).unwrap();
                let peers: Vec<_> = (0..3).map(|_| Peer::connect(&url)).collect();
                for peer in &peers {
                    assert_eq!(peer.ask(b"and now?"), b"and now?", "{url} {round}");
                }
            }
            shared.set_nonblocking(false).unwrap();
        }
        engine.drain(PATIENCE).unwrap();
        balanced(&engine);
    });
}
