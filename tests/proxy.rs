//! Listeners behind proxies: the header of the PROXY protocol names the peer, where whoever sends it may do so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

mod proxy {
    mod datagrams;
    mod senders;
}

use std::net::{IpAddr, SocketAddr};

use common::*;
use resay::{
    CloseReason, Engine, EventKind, ListenerId, LogLevel, Options, Reconfiguration, RejectReason, TapOptions,
};
use socket2::{Domain, Socket, Type};

/// A header of version 2, with TLVs behind the addresses.
fn v2(command: u8, protocol: u8, source: SocketAddr, tlvs: &[(u8, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    match source.ip() {
        IpAddr::V4(ip) => body.extend([ip.octets(), [198, 51, 100, 1]].concat()),
        IpAddr::V6(ip) => body.extend([ip.octets(), [1; 16]].concat()),
    }
    body.extend(source.port().to_be_bytes());
    body.extend(443_u16.to_be_bytes());
    for (kind, value) in tlvs {
        body.push(*kind);
        body.extend((value.len() as u16).to_be_bytes());
        body.extend(*value);
    }
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([0x20 | command, protocol]);
    header.extend((body.len() as u16).to_be_bytes());
    header.extend(body);
    header
}

/// A connection of a proxy that has sent a header, in one piece or byte by byte, and that speaks for its client from then on.
#[track_caller]
fn connect_behind(url: &str, header: &[u8], piece: usize) -> Peer {
    let socket = raw(url);
    header.chunks(piece).for_each(|piece| {
        socket.send(piece).unwrap();
    });
    Peer::of(socket).unwrap()
}

fn raw(url: &str) -> Socket {
    let (domain, kind, address) = address_of(url);
    let socket = Socket::new(domain, kind.cloexec(), None).unwrap();
    socket.connect(&address).unwrap();
    if domain != Domain::UNIX {
        socket.set_tcp_nodelay(true).unwrap();
    }
    socket
}

/// A connection with an address of its own, on which nothing was said yet.
fn raw_from(source: [u8; 4], url: &str) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.cloexec(), None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], port_of(url))).into()).unwrap();
    socket
}

/// The engine's end of it is closed, with a reset or without; nothing was answered.
#[track_caller]
fn assert_refused(socket: &Socket) {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = [std::mem::MaybeUninit::uninit(); 16];
    match socket.recv(&mut answer) {
        Ok(0) => {}
        Ok(count) => panic!("{count} bytes of an answer"),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
    }
}

fn who(peer: &Peer) -> String {
    let first = peer.ask_for(b"?", 1);
    assert_eq!(first, b"{");
    let mut answer = first;
    while !answer.ends_with(b"}\n") {
        answer.extend(peer.exactly(1));
    }
    String::from_utf8(answer).unwrap()
}

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 50312 443\r\n";

fn source() -> SocketAddr {
    "192.0.2.7:50312".parse().unwrap()
}

#[test]
fn a_header_names_the_peer_of_a_stream() {
    isolated(|| {
        let directory = directory();
        for transport in Transport::streams() {
            let v6 = v2(1, 0x21, "[2001:db8::7]:50312".parse().unwrap(), &[(5, b"one\0")]);
            let told = |scheme: &str| format!(r#""via":"{scheme}"#);
            for (header, piece, peer, proxy) in [
                (
                    V1.to_vec(),
                    1,
                    "192.0.2.7:50312",
                    r#""proxy":{"version":"1","command":"proxy","protocol":"tcp4","destination":"198.51.100.1:443"}"#,
                ),
                (V1.to_vec(), 4096, "192.0.2.7:50312", r#""version":"1""#),
                (
                    v6,
                    7,
                    "[2001:db8::7]:50312",
                    r#""protocol":"tcp6","destination":"[101:101:101:101:101:101:101:101]:443","unique_id":"one\\x00"}"#,
                ),
            ] {
                let url = format!("{}?proxy=any", transport.url(directory.path()));
                let (engine, url) = serve(&url, "whoami");
                let proxied = connect_behind(&url, &header, piece);
                let answer = who(&proxied);
                assert!(answer.contains(&format!(r#"{{"peer":"tcp://{peer}","local""#)), "{answer}");
                assert!(answer.contains(proxy), "{answer}");
                let is_unix = url.starts_with("unix");
                // Who connects over a unix socket has no name.
                assert_eq!(
                    answer.contains(&told("tcp://127.0.0.1:")) || answer.contains(&told("tcp://[::1]:")),
                    !is_unix,
                    "{answer}"
                );
                let info = engine.connections(PATIENCE).remove(0);
                assert_eq!(info.peer.to_string(), peer);
                assert!(info.via.is_some());
                drop(proxied);
                let stats = finish(engine);
                assert_eq!((stats.accepted, stats.messages_in, stats.bytes_in), (1, 1, 1), "{stats:?}");
            }
        }
    });
}

/// The header and the first messages come in one segment, which is cut anywhere.
#[test]
fn what_is_behind_a_header_is_the_stream() {
    isolated(|| {
        if layer::is_on() {
            return skipped("a stream in one segment with its header: there is a layer in between");
        }
        let directory = directory();
        for transport in Transport::streams() {
            let url = format!("{}?proxy=v2&frame=lines", transport.url(directory.path()));
            let (engine, url) = serve(&url, "uppercase");
            let header = v2(1, 0x11, source(), &[(4, &[0; 99])]);
            let said = [&header, b"first\nsecond\n".as_slice()].concat();
            for cut in (0..said.len()).step_by(9).chain(header.len() - 1..said.len()) {
                let socket = raw(&url);
                socket.send(&said[..cut]).unwrap();
                socket.send(&said[cut..]).unwrap();
                assert_eq!(Peer::of(socket).unwrap().exactly(13), b"FIRST\nSECOND\n", "{cut}");
            }
            finish(engine);
        }
    });
}

#[test]
fn no_header_no_service() {
    isolated(|| {
        let log = Log::default();
        let engine = log.builder().listen("tcp://127.0.0.1:0?proxy=v2").unwrap().start().unwrap();
        let url = engine.urls().remove(0);
        let bad_protocol = v2(1, 0x13, source(), &[]);
        let bad_sum = v2(1, 0x11, source(), &[(3, b"nope")]);
        let faults: [(&[u8], &str); 4] = [
            (b"hello", "no PROXY header of version 2"),
            (V1, "no PROXY header of version 2"),
            (&bad_protocol, "unknown family or protocol"),
            (&bad_sum, "wrong checksum"),
        ];
        for (bytes, _) in faults {
            let socket = raw(&url);
            socket.send(bytes).unwrap();
            assert_refused(&socket);
        }
        let count = faults.len() as u64;
        let refused = CloseReason::PrefaceRefused;
        eventually_stats(&engine, "all are counted", |stats| stats.closed_by(refused) == count);
        let lines = log.lines(EventKind::Rejected);
        for ((_, reason), (_, line)) in faults.iter().zip(&lines) {
            assert!(line.contains(reason), "{line}");
        }
        // One line a period for people; all of them for whoever looks closer.
        assert_eq!(lines.iter().filter(|(level, _)| *level == LogLevel::Warn).count(), 1, "{lines:?}");
        let stats = finish(engine);
        assert_eq!((stats.messages_in, stats.bytes_in), (0, 0), "{stats:?}");
    });
}

#[test]
fn a_header_has_its_time() {
    isolated(|| {
        let log = Log::default();
        let builder = log.builder().listen("tcp://127.0.0.1:0?proxy=v1&proxy_timeout=30ms").unwrap();
        let engine = builder.start().unwrap();
        let url = engine.urls().remove(0);
        let socket = raw(&url);
        socket.send(&V1[..20]).unwrap();
        assert_refused(&socket);
        eventually_stats(&engine, "it is counted", |stats| stats.closed_by(CloseReason::PrefaceRefused) == 1);
        let lines = log.lines(EventKind::Rejected);
        assert!(lines.len() == 1 && lines[0].1.contains("has not come in time"), "{lines:?}");
        assert_eq!(lines[0].0, LogLevel::Warn);
        finish(engine);
    });
}

/// A header of anybody else is not even read, however right it is.
#[test]
fn only_proxies_are_believed() {
    isolated(|| {
        let log = Log::default();
        let url = "tcp://127.0.0.1:0?proxy=any&proxy_from=127.0.0.2,127.1.0.0/16";
        let engine = log.builder().listen(url).unwrap().chain("whoami").unwrap().start().unwrap();
        let url = engine.urls().remove(0);
        for (from, is_proxy) in [([127, 0, 0, 1], false), ([127, 0, 0, 2], true), ([127, 1, 2, 3], true)] {
            let socket = raw_from(from, &url);
            // It may be turned away while it still speaks.
            let _ = socket.send(V1);
            if is_proxy {
                assert!(who(&Peer::of(socket).unwrap()).contains("tcp://192.0.2.7:50312"));
            } else {
                assert_refused(&socket);
            }
        }
        let stats = engine.stats();
        assert_eq!((stats.rejected, stats.accepted), (1, 2), "{stats:?}");
        assert_eq!(stats.rejected_by(RejectReason::NotFromProxy), 1, "{stats:?}");
        let lines = log.lines(EventKind::Rejected);
        assert!(lines[0].1.contains("rejected 127.0.0.1:") && lines[0].1.contains("proxy_from"), "{lines:?}");
        let lines = log.lines(EventKind::Identified);
        assert!(lines[0].1.contains("from 192.0.2.7:50312: identified by 127.0.0.2:"), "{lines:?}");
        finish(engine);
    });
}

/// `allow`, `deny` and `max_per_peer` are about whom the proxy names; a proxy that looks whether we are here is let in.
#[test]
fn the_guard_looks_at_whom_the_proxy_names() {
    isolated(|| {
        let options = "proxy=any&allow=192.0.2.0/24&deny=192.0.2.9&max_per_peer=1";
        let (engine, url) = serve(&format!("tcp://127.0.0.1:0?{options}"), "");
        let from = |address: &str| v2(1, 0x11, address.parse().unwrap(), &[]);
        let named = connect_behind(&url, &from("192.0.2.7:1"), 4096);
        assert_eq!(named.ask(b"let in"), b"let in");
        let other = connect_behind(&url, &from("192.0.2.8:1"), 4096);
        assert_eq!(other.ask(b"let in"), b"let in");
        let mut unix = v2(1, 0x31, source(), &[]);
        unix.truncate(16);
        unix[14..16].copy_from_slice(&216_u16.to_be_bytes());
        unix.extend([b'x'; 216]);
        let outsiders = [
            from("192.0.2.9:1"),
            from("198.51.100.7:1"),
            from("192.0.2.7:2"),
            b"PROXY UNKNOWN\r\n".to_vec(),
            unix,
        ];
        for header in &outsiders {
            let socket = raw(&url);
            socket.send(header).unwrap();
            assert_refused(&socket);
        }
        let refused = outsiders.len() as u64;
        eventually_stats(&engine, "they are counted", |stats| {
            stats.closed_by(CloseReason::PrefaceRefused) == refused
        });
        let check = connect_behind(&url, &v2(0, 0x00, source(), &[]), 4096);
        assert_eq!(check.ask(b"here?"), b"here?");
        drop((named, check));
        eventually_stats(&engine, "its place is free", |stats| stats.open == 1);
        let again = connect_behind(&url, &from("192.0.2.7:3"), 4096);
        assert_eq!(again.ask(b"again"), b"again");
        drop((again, other));
        finish(engine);
    });
}

#[test]
fn taps_and_connections_have_the_named_peer() {
    isolated(|| {
        let (engine, url) = serve("tcp://127.0.0.1:0?proxy=v1", "");
        let tap = engine.tap(TapOptions::default()).unwrap();
        let proxied = connect_behind(&url, V1, 4096);
        let real = proxied.socket.local_addr().unwrap().as_socket().unwrap();
        assert_eq!(proxied.ask(b"hello"), b"hello");
        let mut peers = Vec::new();
        tap.read(Some(PATIENCE), |record| {
            peers.push(record.peer().to_string());
            true
        })
        .unwrap();
        assert_eq!(peers, ["192.0.2.7:50312"]);
        let info = engine.connections(PATIENCE).remove(0);
        assert_eq!(info.peer.to_string(), "192.0.2.7:50312");
        assert_eq!(info.via.map(|via| via.to_string()), Some(real.to_string()));
        drop((proxied, tap));
        finish(engine);
    });
}

fn refusal(url: &str) -> String {
    engine_builder().listen(url).unwrap().build().unwrap_err().to_string()
}

/// Where strangers could write the header, somebody has to say who may.
#[test]
fn proxies_have_to_be_named() {
    isolated(|| {
        for url in ["tcp://0.0.0.0:0?proxy=v2", "tcp://:0?proxy=any", "udp://[::]:0?proxy=v2"] {
            let error = refusal(url);
            assert!(error.contains("proxy_from=10.0.0.0/8"), "{url}: {error}");
        }
        let error = refusal("udp://127.0.0.1:0?proxy=v1");
        assert!(error.contains("version 2 only"), "{error}");
        let socket = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let engine = engine_builder().start().unwrap();
        let error = engine.listen_socket(socket.into(), "proxy=v1").unwrap_err().to_string();
        assert!(error.contains("proxy_from=10.0.0.0/8"), "{error}");
        for url in ["tcp://0.0.0.0:0?proxy=v2&proxy_from=::/0", "tcp://localhost:0?proxy=v1"] {
            engine.listen(url).unwrap();
        }
        finish(engine);
    });
}

#[test]
fn a_reload_reaches_those_who_come_later() {
    isolated(|| {
        let (engine, url) = serve("tcp://0.0.0.0:0", "");
        let url = format!("tcp://127.0.0.1:{}", port_of(&url));
        let id = engine.listeners()[0].id;
        let change = |pairs: &[&str]| {
            let mut options = Options::default();
            pairs.iter().for_each(|pair| options.set_pair(pair).unwrap());
            reconfigure(&engine, id, options)
        };
        let before = Peer::connect(&url);
        assert_eq!(before.ask(b"before"), b"before");
        let error = change(&["proxy=v1"]).unwrap_err();
        assert!(error.contains("proxy_from"), "{error}");
        change(&["proxy=v1", "proxy_from=127.0.0.0/8"]).unwrap();
        let proxied = connect_behind(&url, V1, 4096);
        assert_eq!(proxied.ask(b"after"), b"after");
        assert_eq!(before.ask(b"still"), b"still");
        change(&["proxy=off"]).unwrap();
        assert_answers(&url);
        drop((before, proxied));
        finish(engine);
    });
}

fn reconfigure(engine: &Engine, id: ListenerId, options: Options) -> Result<(), String> {
    let wanted = Reconfiguration { keep: vec![(id, options)], ..Reconfiguration::default() };
    engine.reconfigure(&wanted).map_err(|error| error.to_string())?;
    engine.sync(Some(PATIENCE)).map_err(|error| error.to_string())
}

/// A connection whose header is not complete ends with a drain, and one that has come through is answered.
#[test]
fn a_drain_waits_for_no_header() {
    isolated(|| {
        let (engine, url) = serve("unix:s?proxy=v1", "");
        let unfinished = raw(&url);
        unfinished.send(&V1[..9]).unwrap();
        let proxied = connect_behind(&url, V1, 4096);
        assert_eq!(proxied.ask(b"hello"), b"hello");
        engine.drain(PATIENCE).unwrap();
        assert_refused(&unfinished);
        let stats = engine.stats();
        assert_eq!((stats.closed_by(CloseReason::Drained), stats.dropped), (2, 0), "{stats:?}");
        drop(proxied);
    });
}
