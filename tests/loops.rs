//! The guard of datagrams: loops between servers end, and whoever is not to be answered is not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::mpsc;

use common::*;
use resay::{DropReason, Engine, EventKind, LogLevel, Message, Output, Transform, Verdict};
use socket2::{Domain, Protocol, Socket, Type};

/// Chains that answer in place, from memory of their own, and later.
const CHAINS: [&str; 4] = ["", "rot13", "uppercase:unicode=1", "delay:time=1ms"];

/// Two servers, one forged packet: a few datagrams, then silence. Each loop ends with a datagram that is dropped, so
/// nothing is on its way any more when as many were dropped as were forged.
#[test]
fn two_engines_and_forged_packets() {
    isolated(|| {
        for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(std::net::Ipv6Addr::LOCALHOST)] {
            if ip.is_ipv6() && !has_ipv6() {
                skipped("IPv6: this machine has no [::1]");
                continue;
            }
            let forger = match Forger::new(ip) {
                Ok(forger) => forger,
                Err(error) => return skipped(&format!("forged packets: no raw socket: {error}")),
            };
            for (options, most) in
                [("guard=local", 2), ("loop_mark=off", 8), ("loop_mark=off&loop_hops=2:256", 8)]
            {
                for chain in CHAINS {
                    let [a, b] = [("", options), (chain, options)].map(|(chain, options)| {
                        let port = service_socket(ip).local_addr().unwrap().port();
                        serve(&format!("udp://{}?{options}", SocketAddr::new(ip, port)), chain)
                    });
                    for count in [1, 10] {
                        let before = datagrams(&[&a.0, &b.0]);
                        for number in 0..count {
                            forger.send(
                                port_of(&b.1),
                                port_of(&a.1),
                                format!("forged {count}, {number}").as_bytes(),
                            );
                        }
                        let dropped = before.1 + count;
                        eventually("every loop ends", || match datagrams(&[&a.0, &b.0]) {
                            (_, ended) if ended == dropped => Ok(()),
                            other => Err(format!("{other:?}")),
                        });
                        let seen = datagrams(&[&a.0, &b.0]).0 - before.0;
                        assert!(seen <= most * count, "{ip} {options:?} {chain:?}: {seen} for {count}");
                    }
                    finish(a.0);
                    finish(b.0);
                }
            }
        }
    });
}

/// One server that is told that it has asked itself, or its neighbour in the same engine, answers nobody.
#[test]
fn an_engine_and_itself() {
    isolated(|| {
        let forger = match Forger::new(Ipv4Addr::LOCALHOST.into()) {
            Ok(forger) => forger,
            Err(error) => return skipped(&format!("forged packets: no raw socket: {error}")),
        };
        let engine = engine_builder().listen("udp://127.0.0.1:0").unwrap().listen("udp://0.0.0.0:0").unwrap();
        let engine = engine.start().unwrap();
        let ports: Vec<_> = engine.urls().iter().map(|url| port_of(url)).collect();
        let mut forged = 0;
        for to in &ports {
            for from in &ports {
                forger.send(*from, *to, b"who said that?");
                forged += 1;
            }
        }
        let stats = eventually_stats(&engine, "none is answered", |stats| {
            stats.dropped_by(DropReason::OwnAddress) == forged
        });
        assert_eq!((stats.messages_in, stats.messages_out), (forged, 0));
        finish(engine);
    });
}

/// A server of somebody else's that echoes whatever comes, and begins: from a port of services its datagrams are soon
/// not answered any more.
#[test]
fn an_echo_of_somebody_elses() {
    isolated(|| {
        for chain in CHAINS.into_iter().chain(["offloaded", "later"]) {
            let (requests, waiting) = mpsc::channel();
            let later = move |message: &Message<'_>, out: &mut Output<'_>| match out.later() {
                Some(number) if requests.send((number, message.to_vec())).is_ok() => Verdict::Later,
                _ => Verdict::Drop,
            };
            let builder = engine_builder()
                .register(Transform::from_table(&OFFLOADED).unwrap())
                .register(Transform::from_fn("later", later).unwrap());
            let engine = builder.listen("udp://127.0.0.1:0").unwrap().chain(chain).unwrap().start().unwrap();
            let url = engine.urls().remove(0);
            let foreign = service_socket(Ipv4Addr::LOCALHOST.into());
            foreign.connect(("127.0.0.1", port_of(&url))).unwrap();
            foreign.send(b"hello").unwrap();
            let (mut seen, mut room) = (1, [0; 64]);
            let is_over = |engine: &Engine| engine.stats().dropped_by(DropReason::Loop) == 1;
            foreign.set_nonblocking(true).unwrap();
            eventually("the loop ends", || {
                while let Ok(len) = foreign.recv(&mut room) {
                    foreign.send(&room[..len]).unwrap();
                    seen += 2;
                }
                for (number, message) in waiting.try_iter() {
                    engine.answer(number, Verdict::Replace, &message).unwrap();
                }
                if is_over(&engine) { Ok(()) } else { Err(format!("{seen} so far")) }
            });
            assert!(seen <= 8, "{chain:?}: {seen}");
            finish(engine);
        }
    });
}

/// Several datagrams that the kernel delivers as one are looked at one by one.
#[test]
fn datagrams_that_come_as_one_are_counted_one_by_one() {
    isolated(|| {
        for chain in ["", "uppercase:unicode=1"] {
            let (engine, url) = serve("udp://127.0.0.1:0", chain);
            let socket = service_socket(Ipv4Addr::LOCALHOST.into());
            socket.connect(("127.0.0.1", port_of(&url))).unwrap();
            let peer = Peer::of(Socket::from(socket)).unwrap();
            send_cut(&peer.socket, b"ONEONEONETWO", 3);
            let stats = eventually_stats(&engine, "all are looked at", |stats| stats.messages_in == 4);
            assert_eq!((stats.dropped_by(DropReason::Loop), stats.dropped), (1, 1), "{chain:?}");
            assert_eq!([peer.message(), peer.message(), peer.message()], [b"ONE", b"ONE", b"TWO"]);
            finish(engine);
        }
    });
}

/// A client whose messages differ loses nothing, whatever port it has and however strict the detector is.
#[test]
fn a_client_with_numbers_loses_nothing() {
    isolated(|| {
        let (engine, url) = serve("udp://127.0.0.1:0?loop_hops=1:1", "");
        for socket in [service_socket(Ipv4Addr::LOCALHOST.into()), UdpSocket::bind("127.0.0.1:0").unwrap()] {
            socket.connect(("127.0.0.1", port_of(&url))).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut room = [0; 64];
            for number in 0..20_000_u32 {
                let message = format!("number {number}");
                socket.send(message.as_bytes()).unwrap();
                let len = socket.recv(&mut room).unwrap();
                assert_eq!(&room[..len], message.as_bytes());
            }
        }
        assert_eq!(finish(engine).dropped, 0);
    });
}

/// On loopback a client that repeats itself loses nothing either, unless it has a port of services.
#[test]
fn a_client_on_loopback_may_repeat_itself() {
    isolated(|| {
        let (engine, url) = serve("udp://127.0.0.1:0", "");
        let peer = Peer::connect(&url);
        for _ in 0..2000 {
            assert_eq!(peer.ask(b"the same"), b"the same");
        }
        assert_eq!(finish(engine).dropped, 0);
    });
}

/// Datagrams that arrive with the hop limit of a server's answer are not answered, whatever the socket is bound to and
/// whoever has opened it.
#[test]
fn marked_datagrams_are_not_answered() {
    isolated(|| {
        let adopted = "udp://127.0.0.1:0";
        let listeners = [
            ("udp://127.0.0.1:0", "127.0.0.1", false),
            ("udp://0.0.0.0:0", "127.0.0.1", false),
            ("udp://:0", "127.0.0.1", false),
            ("udp://:0", "::1", false),
            ("udp://[::1]:0", "::1", false),
            (adopted, "127.0.0.1", true),
        ];
        for (listen, host, is_adopted) in listeners {
            let ip: IpAddr = host.parse().unwrap();
            if (ip.is_ipv6() || listen == "udp://:0") && !has_ipv6() {
                skipped("IPv6: this machine has no [::1]");
                continue;
            }
            for (options, mark) in
                [("guard=local", 216), ("loop_mark=200", 200), ("loop_mark=off", 0), ("guard=off", 0)]
            {
                let (engine, url) = if is_adopted {
                    let engine = engine_builder().start().unwrap();
                    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                    engine.listen_socket(socket.into(), options).unwrap();
                    let url = engine.urls().remove(0);
                    (engine, url)
                } else {
                    serve(&format!("{listen}?{options}"), "")
                };
                let mut dropped = 0;
                let socket = UdpSocket::bind((ip, 0)).unwrap();
                socket.connect((ip, port_of(&url))).unwrap();
                let peer = Peer::of(Socket::from(socket)).unwrap();
                for hops in [64_u8, 128, 255, 216, 217, 200, 201, 160, 159, 144, 143] {
                    set_hops(&peer.socket, ip, hops);
                    let is_marked = mark > 0 && (mark - 56..=mark).contains(&hops);
                    if is_marked {
                        peer.send(b"an answer");
                        dropped += 1;
                        let reason = DropReason::LoopMark;
                        eventually_stats(&engine, "it is dropped", |stats| {
                            stats.dropped_by(reason) == dropped
                        });
                    } else {
                        assert_eq!(peer.ask(b"question"), b"question", "{listen} {host} {options} {hops}");
                    }
                }
                let stats = finish(engine);
                assert_eq!(stats.dropped, dropped, "{listen} {host} {options}");
            }
        }
    });
}

/// `allow` and `deny` hold for datagrams and for connections, IPv4 in IPv6 included; nobody is told at the usual level of the
/// log what strangers do.
#[test]
fn networks_that_are_not_served() {
    isolated(|| {
        for (listen, options) in [
            ("127.0.0.1:0", "deny=127.0.0.2"),
            ("0.0.0.0:0", "allow=127.0.0.1"),
            (":0", "allow=127.0.0.0/8&deny=127.0.0.2/31"),
            (":0", "deny=::ffff:127.0.0.2"),
        ] {
            let (engine, url) = serve(&format!("udp://{listen}?{options}"), "");
            for source in ["127.0.0.2", "127.0.0.1"] {
                let socket = UdpSocket::bind((source, 0)).unwrap();
                socket.connect(("127.0.0.1", port_of(&url))).unwrap();
                let peer = Peer::of(Socket::from(socket)).unwrap();
                peer.send(b"hello");
                if source == "127.0.0.1" {
                    assert_eq!(peer.message(), b"hello", "{listen} {options}");
                }
            }
            let stats = finish(engine);
            assert_eq!(
                (stats.messages_out, stats.dropped_by(DropReason::Denied)),
                (1, 1),
                "{listen} {options}"
            );

            let log = Log::default();
            let builder = log.builder().listen(&format!("tcp://{listen}?{options}")).unwrap();
            let engine = builder.start().unwrap();
            let port = port_of(&engine.urls()[0]);
            let connect = |source: [u8; 4]| {
                let socket = Socket::new(Domain::IPV4, Type::STREAM.cloexec(), None).unwrap();
                socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
                socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
                Peer::of(socket).unwrap()
            };
            let stranger = connect([127, 0, 0, 2]);
            eventually_stats(&engine, "the stranger is rejected", |stats| stats.rejected == 1);
            assert!(stranger.try_to_end().map_or(true, |rest| rest.is_empty()), "{listen} {options}");
            assert_eq!(connect([127, 0, 0, 1]).ask(b"hello"), b"hello", "{listen} {options}");
            let stats = finish(engine);
            assert_eq!((stats.accepted, stats.bytes_in), (1, 5), "{listen} {options}");
            let lines = log.lines(EventKind::Rejected);
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert_eq!(lines[0].0, LogLevel::Info, "{lines:?}");
        }
    });
}

#[test]
fn source_ports_that_are_not_answered() {
    isolated(|| {
        for (options, is_answered) in
            [("guard=local", true), ("from_ports=1-9", false), ("from_ports=any", true)]
        {
            let (engine, url) = serve(&format!("udp://127.0.0.1:0?{options}"), "");
            let peer = Peer::connect(&url);
            peer.send(b"hello");
            eventually_stats(&engine, "it is looked at", |stats| stats.messages_out + stats.dropped == 1);
            assert_eq!(finish(engine).dropped_by(DropReason::FromPort), u64::from(!is_answered), "{options}");
        }
        // Below 1024 are no clients; on loopback there may be.
        for (listen, dropped) in [("udp://0.0.0.0:0", 1), ("udp://127.0.0.1:0", 0)] {
            let (engine, url) = serve(listen, "");
            let bound = (1..1024).rev().find_map(|port| UdpSocket::bind(("127.0.0.1", port)).ok());
            let Some(low) = bound else {
                finish(engine);
                return skipped("a source port below 1024: it takes rights to have one");
            };
            low.send_to(b"hello", ("127.0.0.1", port_of(&url))).unwrap();
            eventually_stats(&engine, "it is looked at", |stats| stats.messages_out + stats.dropped == 1);
            assert_eq!(finish(engine).dropped_by(DropReason::FromPort), dropped, "{listen}");
        }
    });
}

/// The ports of services that answer whoever asks are no sources of requests, in either family, unless an option says so.
#[test]
fn ports_of_services_are_not_answered() {
    const SERVICES: [u16; 8] = [7, 13, 17, 19, 37, 53, 69, 123];
    isolated(|| {
        // Where nobody has them.
        if let Err(why) = own_network(&["link set lo up"]) {
            return skipped(&format!("a network of its own: {why}"));
        }
        for (listen, answered) in [
            ("udp://0.0.0.0:0", &[][..]),
            ("udp://:0", &[]),
            ("udp://:0?guard=public", &[]),
            ("udp://:0?from_ports=53,123,1024-65535", &[53, 123]),
            ("udp://:0?from_ports=any", &SERVICES),
        ] {
            let (engine, url) = serve(listen, "");
            for port in SERVICES {
                let before = engine.stats();
                let service = UdpSocket::bind(("127.0.0.1", port)).unwrap();
                service.send_to(b"hello", ("127.0.0.1", port_of(&url))).unwrap();
                let stats = eventually_stats(&engine, "it is looked at", |stats| {
                    stats.messages_in == before.messages_in + 1
                        && stats.messages_out + stats.dropped == stats.messages_in
                });
                let is_answered = stats.messages_out > before.messages_out;
                assert_eq!(is_answered, answered.contains(&port), "{listen} {port}");
            }
            let stats = finish(engine);
            let dropped = SERVICES.len() - answered.len();
            assert_eq!(stats.dropped_by(DropReason::FromPort), dropped as u64, "{listen} {stats:?}");
        }
    });
}

/// IPv4 in IPv6 included: on a socket of both families a network of IPv4 is one of IPv4.
#[test]
fn rates_of_a_network_and_in_all() {
    isolated(|| {
        let cases = [
            ("127.0.0.1:0?rate=1/1h&rate_burst=3", [3, 0, 3]),
            ("127.0.0.1:0?rate=1/1h&rate_burst=3&rate_networks=32/128", [3, 3, 3]),
            (":0?rate=1/1h&rate_burst=3", [3, 0, 3]),
            (":0?rate=1/1h&rate_burst=3&rate_networks=32/16", [3, 3, 3]),
            ("127.0.0.1:0?rate_total=2/1s&rate=off", [4, 0, 0]),
        ];
        for (options, answered) in cases {
            let (engine, url) = serve(&format!("udp://{options}"), "");
            let mut messages = 0;
            for (source, expected) in ["127.0.0.1", "127.0.0.2", "127.9.0.1"].into_iter().zip(answered) {
                let before = engine.stats().messages_out;
                let socket = UdpSocket::bind((source, 0)).unwrap();
                for number in 0..5_u8 {
                    socket.send_to(&[number], ("127.0.0.1", port_of(&url))).unwrap();
                }
                messages += 5;
                let stats = eventually_stats(&engine, "all are looked at", |stats| {
                    stats.messages_out + stats.dropped == messages
                });
                // The total fills up while this runs.
                let is_slow = stats.messages_out - before > expected && options.contains("rate_total");
                assert!(is_slow || stats.messages_out - before == expected, "{options} {source}: {stats:?}");
                assert_eq!(stats.dropped, stats.dropped_by(DropReason::Rate), "{options}");
            }
            finish(engine);
        }
    });
}

/// `guard=public` limits what `guard=local` does not; what is set by itself stays.
#[test]
fn a_public_guard_is_stricter() {
    isolated(|| {
        let (engine, url) = serve("udp://127.0.0.1:0?guard=public&from_ports=any", "hex");
        let peer = Peer::connect(&url);
        peer.send(b"twice as long");
        peer.send(&[7; 1473]);
        let stats = eventually_stats(&engine, "both are dropped", |stats| stats.dropped == 2);
        assert_eq!(
            [DropReason::Amplified, DropReason::TooLong].map(|reason| stats.dropped_by(reason)),
            [1, 1],
            "{stats:?}"
        );
        finish(engine);
    });
}

/// What is `auto` is told as it holds.
#[test]
fn what_holds_is_told() {
    let cases = [
        (
            "udp://127.0.0.1:0",
            [("from_ports", "any"), ("loop_hops", "2:off"), ("loop_mark", "216"), ("rate", "off")],
        ),
        (
            "udp://0.0.0.0:0?guard=public&loop_mark=off",
            [("from_ports", "1024-65535"), ("loop_hops", "2:256"), ("loop_mark", "off"), ("rate", "200/1s")],
        ),
    ];
    for (url, told) in cases {
        let engine = engine_builder().listen(url).unwrap().build().unwrap();
        let id = engine.listeners()[0].id;
        for (key, value) in told {
            assert_eq!(engine.listener_option(id, key).unwrap().as_deref(), Some(value), "{url} {key}");
        }
    }
}

/// What came to servers, and how many loops ended.
fn datagrams(engines: &[&Engine]) -> (u64, u64) {
    engines.iter().map(|engine| engine.stats()).fold((0, 0), |(all, ended), stats| {
        let loops = stats.dropped_by(DropReason::Loop) + stats.dropped_by(DropReason::LoopMark);
        (all + stats.messages_in, ended + loops)
    })
}

/// A socket on a free port of those that services have.
fn service_socket(ip: IpAddr) -> UdpSocket {
    // Not the same for every test that runs now.
    let first = 20_000 + (std::process::id() as u16 % 100) * 100;
    (first..32_000).find_map(|port| UdpSocket::bind((ip, port)).ok()).expect("a free port")
}

fn set_hops(socket: &Socket, ip: IpAddr, hops: u8) {
    if ip.is_ipv6() {
        socket.set_unicast_hops_v6(hops.into()).unwrap();
    } else {
        socket.set_ttl_v4(hops.into()).unwrap();
    }
}

/// Sends datagrams from ports that others have.
struct Forger {
    raw: Socket,
    ip: IpAddr,
}

impl Forger {
    fn new(ip: IpAddr) -> io::Result<Forger> {
        let domain = if ip.is_ipv6() { Domain::IPV6 } else { Domain::IPV4 };
        let raw = Socket::new(domain, Type::RAW.cloexec(), Some(Protocol::UDP))?;
        if ip.is_ipv6() {
            // The kernel is to write the checksum, which IPv6 insists on, at this place.
            try_set_option(&raw, libc::IPPROTO_IPV6, libc::IPV6_CHECKSUM, 6)?;
        }
        Ok(Forger { raw, ip })
    }

    fn send(&self, from: u16, to: u16, body: &[u8]) {
        // RFC 768: source port, destination port, length, and a checksum of 0 for none.
        let len = (8 + body.len()) as u16;
        let head = [from, to, len, 0].map(u16::to_be_bytes).concat();
        self.raw.send_to(&[&head, body].concat(), &SocketAddr::new(self.ip, 0).into()).unwrap();
    }
}
