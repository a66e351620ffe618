//! Sockets with connections.

use std::io;
use std::time::Duration;

use resay::{Client, CloseReason, DropReason};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::common::*;

/// What a listener may have been told before it was handed over.
#[derive(Debug, Clone, Copy)]
enum Before {
    /// `SO_LINGER`, for so many seconds.
    Linger(u64),
    Int(&'static str, i32, i32, i32),
    /// `SO_SNDTIMEO` and `SO_RCVTIMEO` of a microsecond.
    Timeouts,
}

impl Before {
    const ALL: [Before; 21] = {
        use Before::{Int, Linger, Timeouts};
        use libc::{IPPROTO_IP, IPPROTO_TCP, SOL_SOCKET};
        [
            Linger(0),
            Linger(3600),
            Timeouts,
            Int("TCP_CORK", IPPROTO_TCP, libc::TCP_CORK, 1),
            Int("SO_RCVLOWAT", SOL_SOCKET, libc::SO_RCVLOWAT, 5000),
            Int("TCP_LINGER2", IPPROTO_TCP, libc::TCP_LINGER2, -1),
            Int("IP_RECVERR", IPPROTO_IP, libc::IP_RECVERR, 1),
            // SOF_TIMESTAMPING_TX_SOFTWARE, _SOFTWARE, _TX_SCHED, _TX_ACK.
            Int("SO_TIMESTAMPING", SOL_SOCKET, libc::SO_TIMESTAMPING, 2 | 1 << 4 | 1 << 8 | 1 << 9),
            Int("SO_OOBINLINE", SOL_SOCKET, libc::SO_OOBINLINE, 0),
            Int("SO_DONTROUTE", SOL_SOCKET, libc::SO_DONTROUTE, 1),
            Int("SO_KEEPALIVE", SOL_SOCKET, libc::SO_KEEPALIVE, 1),
            Int("SO_BUSY_POLL", SOL_SOCKET, libc::SO_BUSY_POLL, 50),
            Int("SO_PRIORITY", SOL_SOCKET, libc::SO_PRIORITY, 5),
            Int("SO_SNDBUF", SOL_SOCKET, libc::SO_SNDBUF, 4096),
            Int("SO_RCVBUF", SOL_SOCKET, libc::SO_RCVBUF, 4096),
            Int("IP_TOS", IPPROTO_IP, libc::IP_TOS, 0x10),
            Int("TCP_USER_TIMEOUT", IPPROTO_TCP, libc::TCP_USER_TIMEOUT, 120_000),
            Int("TCP_DEFER_ACCEPT", IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, 1),
            Int("TCP_QUICKACK", IPPROTO_TCP, libc::TCP_QUICKACK, 0),
            Int("TCP_NOTSENT_LOWAT", IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, 1),
            Int("TCP_NODELAY", IPPROTO_TCP, libc::TCP_NODELAY, 0),
        ]
    };

    fn set(self, socket: &Socket) -> io::Result<()> {
        match self {
            Before::Linger(seconds) => socket.set_linger(Some(Duration::from_secs(seconds))),
            Before::Int(_, level, name, value) => try_set_option(socket, level, name, value),
            Before::Timeouts => {
                socket.set_read_timeout(Some(Duration::from_micros(1)))?;
                socket.set_write_timeout(Some(Duration::from_micros(1)))
            }
        }
    }
}

/// Connections inherit the options of their listener, and those that wait as it is handed over have them from before. None
/// of them keeps a small answer back, loses bytes at the end, or lets others wait.
#[test]
fn options_from_before_change_no_answer_and_no_end() {
    isolated(|| {
        for before in Before::ALL {
            let socket = opened("tcp://127.0.0.1:0");
            if let Err(error) = before.set(&socket) {
                skipped(&format!("{before:?}: {error}"));
                continue;
            }
            let url = url_of("tcp", &socket);
            // Some accepted later than they have connected, some not.
            let connect = |buffer: usize| {
                let prepared = |socket: &Socket| socket.set_recv_buffer_size(buffer);
                let (domain, kind, address) = address_of(&url);
                let socket = Socket::new(domain, kind.cloexec(), None).unwrap();
                prepared(&socket).unwrap();
                socket.connect(&address).unwrap();
                socket
            };
            let waiting: Vec<_> = (0..3).map(|_| connect(4096)).collect();
            let engine = engine_builder().start().unwrap();
            engine.listen_socket(socket.into(), "").unwrap();
            let peers = waiting.into_iter().map(|socket| Peer::of(socket).unwrap());
            let peers: Vec<_> = peers.chain((0..3).map(|_| Peer::of(connect(4096)).unwrap())).collect();
            let bystander = Peer::connect(&url);
            for peer in &peers {
                for small in [&b"a"[..], b"few", b"bytes"] {
                    assert_eq!(peer.ask(small), small, "{before:?}");
                }
                if !layer::is_on() {
                    peer.socket.send_out_of_band(b"!").unwrap();
                    assert_eq!(peer.exactly(1), b"!", "{before:?}");
                }
            }
            let all = noise(100_000, 7);
            for peer in &peers {
                // It has sent all, and reads nothing: its answers wait in the kernel as the connection ends.
                peer.send(&all);
                peer.half_close();
                assert_eq!(bystander.ask(b"and me?"), b"and me?", "{before:?}");
            }
            for peer in &peers {
                assert_same(&format!("{before:?}"), &all, &peer.to_end());
            }
            drop((peers, bystander));
            finish(engine);
        }
    });
}

/// Options that are their owner's affair are those that connections have.
#[test]
fn options_of_the_owner_stay() {
    isolated(|| {
        let engine = engine_builder().start().unwrap();
        let kept =
            |name: &str| ["SO_KEEPALIVE", "IP_TOS", "TCP_USER_TIMEOUT", "SO_DONTROUTE"].contains(&name);
        for before in Before::ALL {
            let Before::Int(name, level, option_name, value) = before else { continue };
            if !kept(name) {
                continue;
            }
            let socket = opened("tcp://127.0.0.1:0");
            before.set(&socket).unwrap();
            let url = url_of("tcp", &socket);
            // A layer is agreed on before anything else.
            let waiting = (!layer::is_on()).then(|| Peer::connect(&url));
            engine.listen_socket(socket.into(), "").unwrap();
            for peer in [waiting, Some(Peer::connect(&url))].into_iter().flatten() {
                assert_eq!(peer.ask(b"kept?"), b"kept?");
                let end = accepted_end(&peer).expect("it was accepted");
                assert_eq!(option(end, level, option_name), Some(value), "{name}");
            }
        }
        finish(engine);
    });
}

/// Each option that the kernel keeps, for each kind of socket, bound or handed over, for connections from before and later:
/// what is told of a listener is what its connections have.
#[test]
fn connections_have_what_is_told_of_their_listener() {
    let kinds = |key: &str| -> &[Transport] {
        match key {
            "sndbuf" => {
                &[Transport::Tcp4, Transport::UnixStream, Transport::UnixAbstract, Transport::Seqpacket]
            }
            _ => &[Transport::Tcp4],
        }
    };
    isolated(|| {
        let directory = directory();
        for pair in ["", "sndbuf=8k", "rcvbuf=8k", "nodelay=0", "nodelay=1", "keepalive=1", "keepalive=7s"] {
            let key = pair.split('=').next().unwrap();
            let all = [Transport::Tcp4, Transport::UnixStream, Transport::UnixAbstract, Transport::Seqpacket];
            let transports = if pair.is_empty() { &all } else { kinds(key) };
            for (transport, is_adopted) in transports.iter().flat_map(|kind| [(*kind, false), (*kind, true)])
            {
                let what = format!("{transport:?} {pair} {is_adopted}");
                let engine = engine_builder().start().unwrap();
                let mut peers = Vec::new();
                let asked = transport.url(directory.path());
                let connect = |url: &str| {
                    Peer::connect_with(url, |socket| match socket.domain()? {
                        // A name, by which its other end is found.
                        Domain::UNIX => socket.bind(&SockAddr::unix("")?),
                        _ => Ok(()),
                    })
                };
                let id = if is_adopted {
                    let socket = opened(&asked);
                    let url =
                        if transport != Transport::Tcp4 { asked.clone() } else { url_of("tcp", &socket) };
                    if !layer::is_on() {
                        peers.push(connect(&url).unwrap());
                    }
                    engine.listen_socket(socket.into(), pair).unwrap()
                } else {
                    engine
                        .listen(
                            &format!("{asked}?{pair}").replace("?", if pair.is_empty() { "" } else { "?" }),
                        )
                        .unwrap()
                };
                let info = engine.listener(id).unwrap();
                peers.push(connect(&info.url).unwrap());
                for peer in &peers {
                    assert_eq!(peer.ask(b"what do you have?"), b"what do you have?", "{what}");
                    let end = accepted_end(peer).expect("it was accepted");
                    for (key, value) in &info.effective {
                        let (level, name) = match key.as_str() {
                            "sndbuf" => (libc::SOL_SOCKET, libc::SO_SNDBUF),
                            // The kernel sizes it with what arrives, unless it was asked for.
                            "rcvbuf" if pair.starts_with("rcvbuf") => (libc::SOL_SOCKET, libc::SO_RCVBUF),
                            "nodelay" => (libc::IPPROTO_TCP, libc::TCP_NODELAY),
                            "keepalive" => (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
                            _ => continue,
                        };
                        if key == "sndbuf" && transport == Transport::Tcp4 && pair != "sndbuf=8k" {
                            continue;
                        }
                        let found = option(end, level, name).unwrap();
                        assert_eq!(found.to_string(), *value, "{what}: {key}");
                    }
                    match pair {
                        "sndbuf=8k" => {
                            assert_eq!(option(end, libc::SOL_SOCKET, libc::SO_SNDBUF), Some(16_384), "{what}")
                        }
                        "rcvbuf=8k" => {
                            assert_eq!(option(end, libc::SOL_SOCKET, libc::SO_RCVBUF), Some(16_384), "{what}")
                        }
                        "keepalive=7s" => {
                            assert_eq!(option(end, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE), Some(7), "{what}");
                        }
                        _ => {}
                    }
                }
                drop(peers);
                finish(engine);
                if let Some(path) = asked.split_once(":/") {
                    let _ = std::fs::remove_file(format!("/{}", path.1));
                }
            }
        }
        // The receiving side of a unix socket has no buffer.
        for transport in [Transport::UnixStream, Transport::Seqpacket, Transport::UnixDatagram] {
            let url = format!("{}?rcvbuf=8k", transport.url(directory.path()));
            let error = engine_builder().listen(&url).unwrap_err().to_string();
            assert!(error.contains("rcvbuf means nothing for unix"), "{error}");
        }
    });
}

/// An answer that the send buffer cannot take as one ends its connection, or is dropped, for a reason of its own.
#[test]
fn an_answer_that_is_too_long_to_send_has_a_reason() {
    isolated(|| {
        let directory = directory();
        let (engine, url) = serve(&format!("{}?sndbuf=8k", Transport::Seqpacket.url(directory.path())), "");
        let peer = Peer::connect(&url);
        let longest = noise(2 * 8192 - 32, 1);
        assert_same("the longest", &longest, &peer.ask(&longest));
        peer.send(&[longest.as_slice(), b"!"].concat());
        assert_eq!(peer.to_end(), b"");
        let stats = finish(engine);
        assert_eq!(stats.closed_by(CloseReason::AnswerTooLong), 1, "{stats:?}");

        let unix = format!("{}?sndbuf=8k", Transport::UnixDatagram.url(directory.path()));
        let hexes = [(unix.as_str(), "", 2 * 8192 - 32), ("udp://127.0.0.1:0", "hex", 32_753)];
        for (url, chain, longest) in hexes {
            let (engine, url) = serve(url, chain);
            let peer = Peer::connect(&url);
            let longest = noise(longest, 1);
            assert!(peer.ask(&longest).len() >= longest.len(), "{url}");
            peer.send(&[longest.as_slice(), b"!"].concat());
            eventually_stats(&engine, "it is dropped", |stats| {
                stats.dropped_by(DropReason::AnswerTooLong) == 1
            });
            assert!(!peer.ask(b"shorter").is_empty());
            finish(engine);
        }
    });
}

/// Multipath TCP, as Go and systemd open listeners: it knows fewer options.
#[test]
fn a_multipath_listener_is_served() {
    isolated(|| {
        let engine = engine_builder().chain("uppercase").unwrap().start().unwrap();
        let multipath = Some(Protocol::from(libc::IPPROTO_MPTCP));
        for options in ["", "nodelay=0&keepalive=1&sndbuf=64k"] {
            let socket = match Socket::new(Domain::IPV4, Type::STREAM.cloexec(), multipath) {
                Ok(socket) => socket,
                Err(error) => return skipped(&format!("multipath TCP: {error}")),
            };
            socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
            socket.listen(5).unwrap();
            let url = url_of("tcp", &socket);
            let waiting = (!layer::is_on()).then(|| Peer::connect(&url));
            engine.listen_socket(socket.into(), options).unwrap();
            let other = Socket::new(Domain::IPV4, Type::STREAM.cloexec(), multipath).unwrap();
            other.connect(&address_of(&url).2).unwrap();
            let later = [Some(Peer::connect(&url)), Some(Peer::of(other).unwrap())];
            for peer in [waiting].into_iter().chain(later).flatten() {
                assert_eq!(peer.ask(b"on all paths"), b"ON ALL PATHS", "{options}");
                peer.send(&noise(300_000, 2).to_ascii_uppercase());
                peer.half_close();
                assert_same("all of it", &noise(300_000, 2).to_ascii_uppercase(), &peer.to_end());
            }
        }
        finish(engine);
    });
}

/// An address that a name of an interface makes whole, of servers and of clients.
#[test]
fn a_link_local_address_at_a_named_interface() {
    isolated(|| {
        let network = own_network(&[
            "link set lo up",
            "link add wire0 type veth peer name wire1",
            "addr add fe80::77/64 dev wire0 nodad",
            "link set wire0 up",
            "link set wire1 up",
        ]);
        if let Err(why) = network {
            return skipped(&format!("a network of its own: {why}"));
        }
        for scheme in ["tcp", "udp"] {
            for zone in ["%25wire0", "%wire0"] {
                let (engine, url) = serve(&format!("{scheme}://[fe80::77{zone}]:0"), "uppercase");
                assert!(url.starts_with(&format!("{scheme}://[fe80::77%25wire0]:")), "{url}");
                if layer::is_on() && scheme == "tcp" {
                    finish(engine);
                    continue;
                }
                let client = Client::open(&url, Some(PATIENCE)).unwrap();
                client.send(b"at this link", Some(PATIENCE)).unwrap();
                let mut answer = [0; 12];
                let mut got = 0;
                while got < answer.len() {
                    got += client.recv(&mut answer[got..], Some(PATIENCE)).unwrap();
                }
                assert_eq!(&answer, b"AT THIS LINK", "{url}");
                drop(client);
                finish(engine);
            }
            let error = engine_builder().listen(&format!("{scheme}://[fe80::77%none0]:0")).unwrap();
            let error = error.build().unwrap_err().to_string();
            assert!(error.contains("\"none0\": there is no such network interface"), "{error}");
            let error = engine_builder().listen(&format!("{scheme}://[fe80::77]:0")).unwrap_err().to_string();
            assert!(error.contains("needs its network interface"), "{error}");
        }
    });
}

/// `::ffff:127.0.0.1` is 127.0.0.1, for servers, for clients, and for all rules.
#[test]
fn an_ipv4_mapped_address_is_ipv4() {
    isolated(|| {
        for url in [
            "tcp://[::ffff:127.0.0.1]:0",
            "udp://[::ffff:127.0.0.1]:0",
            "tcp://[::ffff:127.0.0.1]:0?v6only=0",
        ] {
            let (engine, real) = serve(url, "");
            let scheme = url.split(':').next().unwrap();
            assert!(real.starts_with(&format!("{scheme}://127.0.0.1:")), "{url}: {real}");
            assert_answers(&real);
            if layer::is_on() && scheme == "tcp" {
                finish(engine);
                continue;
            }
            let mapped = format!("{scheme}://[::ffff:127.0.0.1]:{}", port_of(&real));
            let client = Client::open(&mapped, Some(PATIENCE)).unwrap();
            client.send(b"x", Some(PATIENCE)).unwrap();
            assert_eq!(client.recv(&mut [0; 4], Some(PATIENCE)).unwrap(), 1, "{mapped}");
            finish(engine);
        }
        let error = engine_builder().listen("tcp://[::ffff:127.0.0.1]:0?v6only=1").unwrap().build();
        let error = error.unwrap_err().to_string();
        assert!(error.contains("v6only=1"), "{error}");
        if !has_ipv6() {
            return skipped("IPv6: this machine has no [::1]");
        }
        // One that somebody else has bound so.
        let socket = Socket::new(Domain::IPV6, Type::STREAM.cloexec(), None).unwrap();
        socket.set_only_v6(false).unwrap();
        socket.bind(&"[::ffff:127.0.0.1]:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
        let engine = engine_builder().start().unwrap();
        let id = engine.listen_socket(socket.into(), "").unwrap();
        let url = engine.listener(id).unwrap().url;
        assert!(url.starts_with("tcp://127.0.0.1:"), "{url}");
        assert_answers(&url);
        finish(engine);
    });
}
