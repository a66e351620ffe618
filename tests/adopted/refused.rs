//! Sockets that cannot be adopted, and what a failure leaves of one.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd};
use std::time::Duration;

use resay::{Backend, Engine, Error};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::common::*;

/// Whoever sends to it, or connects, cannot: it would be served and dead.
#[test]
fn what_nobody_can_reach_is_refused() {
    isolated(|| {
        let engine = engine_builder().start().unwrap();
        let open = |domain, socket_type| Socket::new(domain, socket_type, None).unwrap();
        for (domain, socket_type) in [
            (Domain::IPV4, Type::STREAM),
            (Domain::IPV4, Type::DGRAM),
            (Domain::UNIX, Type::STREAM),
            (Domain::UNIX, Type::SEQPACKET),
            (Domain::UNIX, Type::DGRAM),
        ] {
            let socket = open(domain, socket_type);
            let error = engine.listen_socket(socket.into(), "").unwrap_err().to_string();
            assert!(error.contains("it is not bound"), "{domain:?} {socket_type:?}: {error}");
        }
        // Bound ones of the same kinds that do not listen yet are served.
        let directory = directory();
        for url in ["tcp://127.0.0.1:0", "unix:", "unix-seqpacket:"] {
            let file = directory.path().join(url.trim_end_matches(':'));
            let url = if url.ends_with(':') { format!("{url}{}", text(&file)) } else { url.to_owned() };
            let (domain, socket_type, address) = address_of(&url);
            let socket = open(domain, socket_type);
            socket.bind(&address).unwrap();
            let id = engine.listen_socket(socket.into(), "backlog=3").unwrap();
            assert_answers(&engine.listener(id).unwrap().url);
        }
        // A datagram socket of another protocol.
        match Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::ICMPV4)) {
            Err(error) => skipped(&format!("an ICMP socket: {error}")),
            Ok(socket) => {
                socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
                let error = engine.listen_socket(socket.into(), "").unwrap_err().to_string();
                assert!(error.contains("no TCP, UDP or unix socket"), "{error}");
            }
        }
        finish(engine);
    });
}

/// All that adopting changes of a socket.
fn state(socket: impl AsFd) -> Vec<Option<i32>> {
    /// asm-generic/socket.h; Linux 5.14.
    const SO_BUF_LOCK: i32 = 72;
    let fd = socket.as_fd();
    let mut found = vec![Some(status_flags(fd))];
    let linger = SockRef::from(&fd).linger().ok().flatten();
    found.push(linger.map(|linger| linger.as_secs() as i32));
    for (level, name) in [
        (libc::SOL_SOCKET, libc::SO_RCVBUF),
        (libc::SOL_SOCKET, libc::SO_SNDBUF),
        (libc::SOL_SOCKET, SO_BUF_LOCK),
        (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
        (libc::SOL_SOCKET, libc::SO_OOBINLINE),
        (libc::SOL_SOCKET, libc::SO_RCVLOWAT),
        (libc::SOL_SOCKET, libc::SO_TIMESTAMPING),
        (libc::SOL_SOCKET, libc::SO_PEEK_OFF),
        (libc::SOL_SOCKET, SO_PASSRIGHTS),
        (libc::SOL_SOCKET, libc::SO_ACCEPTCONN),
        (libc::IPPROTO_TCP, libc::TCP_NODELAY),
        (libc::IPPROTO_TCP, libc::TCP_CORK),
        (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
        (libc::IPPROTO_TCP, libc::TCP_LINGER2),
        (libc::SOL_UDP, libc::UDP_CORK),
        (libc::SOL_UDP, libc::UDP_SEGMENT),
        (libc::SOL_UDP, libc::UDP_GRO),
        (libc::IPPROTO_IP, libc::IP_PKTINFO),
        (libc::IPPROTO_IP, libc::IP_RECVERR),
        (libc::IPPROTO_IP, libc::IP_FREEBIND),
        (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
        (libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
    ] {
        found.push(option(fd, level, name));
    }
    found
}

/// Sockets with everything set that Resay does not leave as it is, or nothing.
fn sockets(directory: &std::path::Path) -> Vec<(String, Socket)> {
    let mut all = Vec::new();
    for (number, is_odd) in [false, true].into_iter().enumerate() {
        let file =
            |scheme: &str| format!("{scheme}:{}", directory.join(format!("{scheme}{number}")).display());
        for url in [
            "tcp://127.0.0.1:0".to_owned(),
            "udp://0.0.0.0:0".to_owned(),
            file("unix"),
            file("unix-dgram"),
            file("unix-seqpacket"),
        ] {
            let socket = opened(&url);
            if is_odd {
                let _ = socket.set_linger(Some(Duration::from_secs(9)));
                let _ = socket.set_send_buffer_size(20_000);
                let _ = socket.set_recv_buffer_size(30_000);
                for (level, name, value) in [
                    (libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1),
                    (libc::SOL_SOCKET, libc::SO_RCVLOWAT, 77),
                    (libc::SOL_SOCKET, libc::SO_TIMESTAMPING, 1 << 4),
                    (libc::IPPROTO_TCP, libc::TCP_CORK, 1),
                    (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, 99),
                    (libc::IPPROTO_TCP, libc::TCP_LINGER2, 5),
                    (libc::SOL_UDP, libc::UDP_SEGMENT, 9),
                    (libc::IPPROTO_IP, libc::IP_RECVERR, 1),
                ] {
                    let _ = try_set_option(&socket, level, name, value);
                }
            }
            all.push((format!("{url} {is_odd}"), socket));
        }
        // One that does not listen yet.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.set_nonblocking(is_odd).unwrap();
        all.push((format!("bound {is_odd}"), socket));
    }
    all
}

const OPTIONS: &str = "rcvbuf=9k&sndbuf=9k&nodelay=1&keepalive=3s&";

/// Whatever the failure, and however late: the flags and options of the socket are those it had.
#[test]
fn a_failure_leaves_the_socket_as_it_was() {
    isolated(|| {
        let directory = directory();
        let ended = engine_builder().listen("tcp://127.0.0.1:0").unwrap().start().unwrap();
        ended.drain(PATIENCE).unwrap();
        let engines = [engine_builder().build().unwrap(), engine_builder().start().unwrap(), ended];
        for (what, socket) in sockets(directory.path()) {
            let before = state(&socket);
            for (number, engine) in engines.iter().enumerate() {
                let is_stream = socket.r#type().unwrap() == Type::STREAM;
                let bad = match (number, is_stream) {
                    // No chain of this name; a frame that is longer than any message.
                    (0 | 1, true) => &["chain=nonesuch", "frame=fixed:9&max_message=5"][..],
                    (0 | 1, false) => &["chain=nonesuch"],
                    _ => &[""],
                };
                for bad in bad {
                    let options = format!("{OPTIONS}{bad}");
                    let handed = socket.try_clone().unwrap().into();
                    let result = engine.listen_socket(handed, options.trim_end_matches('&'));
                    assert!(result.is_err(), "{what} {bad} {number}");
                    assert_eq!(state(&socket), before, "{what} {bad} {number}");
                }
            }
        }
        for engine in engines {
            drop(engine);
        }
        // A connection that is no listener.
        let (connected, _other) = Socket::pair(Domain::UNIX, Type::STREAM, None).unwrap();
        let before = state(&connected);
        let engine = Engine::builder().backend(Backend::Epoll).build().unwrap();
        assert!(engine.listen_socket(connected.try_clone().unwrap().into(), "").is_err());
        assert_eq!(state(&connected), before);
    });
}

/// The same by number: it stays open and its owner's, who may hand it over again. So do those that were to be adopted with
/// it.
#[test]
fn a_number_that_is_refused_is_its_owners() {
    isolated(|| {
        let socket = opened("tcp://127.0.0.1:0");
        socket.set_linger(Some(Duration::from_secs(9))).unwrap();
        let before = state(&socket);
        let url = url_of("tcp", &socket);
        let number = socket.into_raw_fd();
        // SAFETY: open as long as nobody closes it, which is the question.
        let open = unsafe { BorrowedFd::borrow_raw(number) };
        let taken = opened("tcp://127.0.0.1:0");
        let same = format!("fd:{number}");
        for others in [None, Some(url_of("tcp", &taken)), Some("fd:9999".to_owned()), Some(same)] {
            let options = if others.is_none() { "frame=fixed:9&max_message=5" } else { "sndbuf=9k" };
            let mut builder = engine_builder().listen(&format!("fd:{number}?{options}")).unwrap();
            if let Some(other) = &others {
                builder = builder.listen(other).unwrap();
            }
            builder.build().unwrap_err();
            assert_eq!(state(open), before, "{others:?}");
        }
        let engine = engine_builder().listen(&format!("fd:{number}")).unwrap().start().unwrap();
        assert_eq!(engine.urls().concat(), url);
        assert_answers(&url);
        // While it is served it is nobody else's.
        let twice = engine.listen(&format!("fd:{number}"));
        assert!(matches!(twice, Err(Error::System { .. })), "{twice:?}");
        assert_answers(&url);
        finish(engine);
        assert!(open.try_clone_to_owned().is_err(), "it went with the engine");
        assert_eq!(open.as_raw_fd(), number);
    });
}
