//! UDP: addresses, lengths, drops and who may take what.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::ffi::CString;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::process::Command;
use std::sync::mpsc;

use common::*;
use resay::{Backend, DropReason, Engine, EventKind, Message, Output, Stats, Transform, Verdict};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Asserts that a datagram was dropped for this reason and nothing came back for it. An answer would have been
/// sent before anything that is received later is looked at.
#[track_caller]
fn assert_dropped(engine: &Engine, url: &str, reason: DropReason, count: u64) -> Stats {
    let stats = eventually_stats(engine, "it is dropped", |stats| stats.dropped_by(reason) == count);
    assert_answers(url);
    stats
}

/// The server listens on all addresses; the answer comes from the very one that was asked, whatever the family.
#[test]
fn answers_come_from_the_address_that_was_asked() {
    isolated(|| {
        for listen in ["udp://0.0.0.0:0", "udp://:0"] {
            let (engine, url) = serve(listen, "uppercase");
            let port = port_of(&url);
            // Connected sockets take no answer from any other address.
            for address in ["127.0.0.1", "127.0.0.5", "127.255.255.254"] {
                let peer = Peer::connect(&format!("udp://{address}:{port}"));
                assert_eq!(peer.ask(b"who is there"), b"WHO IS THERE", "{listen} {address}");
            }
            let open = UdpSocket::bind("0.0.0.0:0").unwrap();
            open.set_read_timeout(Some(PATIENCE)).unwrap();
            open.send_to(b"five", ("127.0.0.5", port)).unwrap();
            let mut answer = [0; 16];
            let (n, from) = open.recv_from(&mut answer).unwrap();
            assert_eq!((&answer[..n], from), (&b"FIVE"[..], SocketAddr::from(([127, 0, 0, 5], port))));
            finish(engine);
        }
        if !has_ipv6() {
            return skipped("IPv6: this machine has no [::1]");
        }
        for listen in ["udp://[::]:0", "udp://:0"] {
            let (engine, url) = serve(listen, "uppercase");
            let port = port_of(&url);
            assert_eq!(Peer::connect(&format!("udp://[::1]:{port}")).ask(b"six"), b"SIX", "{listen}");
            let open = UdpSocket::bind("[::]:0").unwrap();
            open.set_read_timeout(Some(PATIENCE)).unwrap();
            open.send_to(b"six", ("::1", port)).unwrap();
            let mut answer = [0; 16];
            let (n, from) = open.recv_from(&mut answer).unwrap();
            assert_eq!((&answer[..n], from.to_string()), (&b"SIX"[..], format!("[::1]:{port}")), "{listen}");
            finish(engine);
        }
    });
}

/// An empty datagram is a message, and its answer is one; it is no end of anything.
#[test]
fn empty_datagrams_are_answered() {
    isolated(|| {
        for chain in ["", "uppercase", "uppercase:unicode=1"] {
            let (engine, url) = serve("udp://127.0.0.1:0", chain);
            let peer = Peer::connect(&url);
            for _ in 0..3 {
                assert_eq!(peer.ask(b""), b"", "{chain:?}");
                assert_eq!(peer.ask(b"FULL"), b"FULL", "{chain:?}");
            }
            let stats = finish(engine);
            assert_eq!((stats.messages_in, stats.messages_out), (6, 6), "{chain:?}: {stats:?}");
        }
    });
}

/// The longest datagram that there is works without any option.
#[test]
fn the_longest_datagram() {
    isolated(|| {
        for transport in Transport::all() {
            if !matches!(transport, Transport::Udp4 | Transport::Udp6) {
                continue;
            }
            for chain in ["", "uppercase:unicode=1"] {
                let (engine, url) = serve(&transport.url("/".as_ref()), chain);
                let peer = Peer::connect(&url);
                for count in [65_507, 65_506, 1] {
                    let message = vec![b'L'; count];
                    assert_same(&format!("{transport:?} {count}"), &message, &peer.ask(&message));
                }
                finish(engine);
            }
        }
    });
}

/// What is longer than `max_message` is dropped and counted; a prefix of it is never answered.
#[test]
fn longer_than_allowed() {
    isolated(|| {
        let (engine, url) = serve("udp://127.0.0.1:0?max_message=100", "");
        // A second listener with a larger limit shares the worker's memory with it.
        engine.listen("udp://127.0.0.1:0").unwrap();
        let other = engine.urls().remove(1);
        let peer = Peer::connect(&url);
        for count in [101, 102, 200, 65_507] {
            peer.send(&noise(count, 1));
            let longest = noise(100, count as u64);
            assert_same(&format!("after {count}"), &longest, &peer.ask(&longest));
        }
        assert_same("the other listener", &noise(65_507, 2), &Peer::connect(&other).ask(&noise(65_507, 2)));
        let stats = assert_dropped(&engine, &url, DropReason::TooLong, 4);
        assert_eq!(stats.dropped, 4);
        finish(engine);
    });
}

/// An answer that has grown beyond what a datagram can hold cannot be sent: it is counted, the others go on.
#[test]
fn an_answer_that_is_too_long_to_send() {
    isolated(|| {
        let (engine, url) = serve("udp://127.0.0.1:0", "uppercase:unicode=1");
        let peer = Peer::connect(&url);
        // Two bytes in, three out: an i with an ogonek would stay, a j with a caron grows.
        let grows = "ǰ".repeat(65_507 / 2);
        let one = peer.ask("ǰ".as_bytes());
        assert!(one.len() > 2, "the letter grows: {one:?}");
        peer.send(grows.as_bytes());
        assert_eq!(peer.ask(b"NEXT"), b"NEXT");
        let stats = eventually_stats(&engine, "it is counted", |stats| stats.dropped == 1);
        assert_eq!(stats.dropped_by(DropReason::AnswerTooLong), 1, "{stats:?}");
        finish(engine);
    });
}

/// Copies follow their answer, at once and delayed, behind functions that work elsewhere too. They are no messages, but
/// count as bytes, and towards the limit of amplification.
#[test]
fn a_datagram_may_be_answered_twice() {
    isolated(|| {
        for chain in
            ["duplicate:rate=100%", "duplicate:rate=1 | uppercase", "delay:time=1ms | duplicate:rate=1"]
        {
            let (engine, url) = serve("udp://127.0.0.1:0", chain);
            let peer = Peer::connect(&url);
            for message in [&b"ONE"[..], b"", b"THREE"] {
                peer.send(message);
                assert_eq!([peer.message(), peer.message()], [message, message], "{chain}");
            }
            let stats = eventually_stats(&engine, "copies are counted", |stats| stats.bytes_out == 16);
            assert_eq!((stats.messages_in, stats.messages_out, stats.dropped), (3, 3, 0), "{chain}");
            finish(engine);
        }
        let (engine, url) = serve("udp://127.0.0.1:0", "delay:time=60m | duplicate:rate=1");
        Peer::connect(&url).send(b"x");
        eventually_stats(&engine, "both wait", |stats| stats.messages_in == 1);
        let stats = finish(engine);
        assert_eq!(stats.dropped_by(DropReason::Undelivered), 1, "a copy is no message: {stats:?}");
        let (engine, url) = serve("udp://127.0.0.1:0?max_amplification=1", "duplicate:rate=1");
        Peer::connect(&url).send(b"x");
        let stats = eventually_stats(&engine, "it is dropped", |stats| stats.dropped == 1);
        assert_eq!(stats.dropped_by(DropReason::Amplified), 1);
        finish(engine);
    });
}

/// What waits is bounded, and copies take no room that their answer needs.
#[test]
fn copies_of_an_answer_come_second() {
    isolated(|| {
        // There is room for 17 of these: for eight with their copies, and for one.
        let answer = vec![b'x'; 64 * 1024 * 1024 * 2 / 35];
        let (requests, waiting) = mpsc::channel();
        let later = move |_: &Message<'_>, out: &mut Output<'_>| match out.later() {
            Some(number) if requests.send(number).is_ok() => Verdict::Later,
            _ => Verdict::Drop,
        };
        let later = Transform::from_fn("later", later).unwrap();
        let directory = directory();
        let url = Transport::UnixDatagram.url(directory.path());
        let builder = engine_builder().register(later).listen(&url).unwrap();
        let engine = builder.chain("later | delay:time=60m | duplicate:rate=1").unwrap().start().unwrap();
        let peer = Peer::connect(&engine.urls()[0]);
        for _ in 0..9 {
            peer.send(b"x");
            let number = waiting.recv_timeout(PATIENCE).unwrap();
            engine.answer(number, Verdict::Replace, &answer).unwrap();
        }
        engine.sync(Some(PATIENCE)).unwrap();
        assert_eq!(engine.stats().dropped, 0, "{:?}", engine.stats());
        let stats = finish(engine);
        assert_eq!(stats.dropped_by(DropReason::Undelivered), 9, "{stats:?}");
    });
}

/// An answer that is longer than its request could hit somebody who never asked: it is dropped, logged once, and
/// counted. Loopback addresses have no such limit, nobody outside can forge them; the option sets another, or none.
#[test]
fn answers_to_unverified_sources_are_limited() {
    isolated(|| {
        let log = Log::default();
        let limited = [
            "udp://0.0.0.0:0",
            "udp://127.0.0.1:0?max_amplification=1",
            "udp://127.0.0.1:0?max_amplification=1&max_amplification_except=127.0.0.2/32,10.0.0.0/8",
        ];
        let unlimited = [
            "udp://127.0.0.1:0?max_amplification=1&max_amplification_except=127.0.0.0/8",
            "udp://[::ffff:127.0.0.1]:0?max_amplification=1&max_amplification_except=127.0.0.1/32",
            "udp://127.0.0.1:0",
            "udp://0.0.0.0:0?max_amplification=2",
            "udp://0.0.0.0:0?max_amplification=off",
        ];
        let mut builder = log.builder();
        for url in limited.iter().chain(&unlimited) {
            builder = builder.listen(url).unwrap();
        }
        let engine = builder.chain("uppercase:unicode=1").unwrap().start().unwrap();
        let urls: Vec<_> = engine.urls().iter().map(|url| url.replace("0.0.0.0", "127.0.0.1")).collect();
        for url in &urls[limited.len()..] {
            assert_eq!(Peer::connect(url).ask("ǰ".as_bytes()), "J\u{30c}".as_bytes(), "{url}");
        }
        for url in &urls[..limited.len()] {
            let peer = Peer::connect(url);
            for _ in 0..3 {
                peer.send("ǰ".as_bytes());
            }
            assert_eq!(peer.ask("ß".as_bytes()), b"SS", "the same length");
        }
        let stats = eventually_stats(&engine, "they are counted", |stats| stats.dropped == 9);
        assert_eq!(stats.dropped_by(DropReason::Amplified), 9, "{stats:?}");
        let logged: Vec<_> = log
            .lines(EventKind::Dropped)
            .into_iter()
            .filter(|(_, text)| text.contains("max_amplification (1 bytes"))
            .collect();
        assert_eq!(logged.len(), limited.len(), "{logged:?}");
        finish(engine);
    });
}

/// Peers that are gone answer with port unreachable. That concerns nobody else.
#[test]
fn peers_that_are_gone() {
    isolated(|| {
        let engine = engine_builder().listen("udp://127.0.0.1:0").unwrap().build().unwrap();
        let url = engine.urls().remove(0);
        // First, so that it has no port that somebody had before it.
        let peer = Peer::connect(&url);
        for _ in 0..50 {
            Peer::connect(&url).send(b"and away");
        }
        peer.send(b"here");
        engine.start().unwrap();
        assert_eq!(peer.message(), b"here");
        for number in 0..100 {
            Peer::connect(&url).send(b"and away");
            let text = format!("here {number}");
            assert_eq!(peer.ask(text.as_bytes()), text.as_bytes());
        }
        // 50 and 1 before the start, 100 and 100 after it. An answer to nobody may fail, or not be noticed.
        eventually_stats(&engine, "all are read and answered", |stats| {
            stats.messages_in == 251 && stats.messages_out + stats.dropped == 251
        });
        finish(engine);
    });
}

/// Where somebody else may bind the same port, he takes our datagrams: nobody may, whatever option he sets.
#[test]
fn nobody_else_can_bind_the_port() {
    isolated(|| {
        for listen in ["udp://127.0.0.1:0", "udp://0.0.0.0:0"] {
            let (engine, url) = serve(listen, "");
            let address: SocketAddr = url.trim_start_matches("udp://").parse().unwrap();
            for reuse_port in [false, true] {
                let thief = Socket::new(Domain::IPV4, Type::DGRAM.cloexec(), None).unwrap();
                thief.set_reuse_address(true).unwrap();
                thief.set_reuse_port(reuse_port).unwrap();
                let error = thief.bind(&address.into()).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{listen} {reuse_port}");
            }
            // Nor may a second engine, which says so.
            let error = engine_builder().listen(&url).unwrap().build().unwrap_err();
            assert_eq!(error.os_error(), Some(libc::EADDRINUSE), "{error}");
            assert!(error.to_string().contains(&url), "{error}");
            finish(engine);
        }
    });
}

/// A datagram that was sent to a broadcast or multicast address has no single one to be answered from.
#[test]
fn sent_to_a_group() {
    isolated(|| {
        for listen in ["udp://0.0.0.0:0", "udp://:0"] {
            let (engine, url) = serve(listen, "");
            let here = format!("udp://127.0.0.1:{}", port_of(&url));
            let port = port_of(&url);
            let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
            sender.set_broadcast(true).unwrap();
            sender.send_to(b"everybody", ("127.255.255.255", port)).unwrap();
            assert_dropped(&engine, &here, DropReason::GroupDestination, 1);

            if listen == "udp://:0" {
                // Linux gives IPv4 multicast to IPv6 sockets only when they are members.
                finish(engine);
                continue;
            }
            // Somebody on this machine is a member, so that the packet is delivered here at all.
            let group = Ipv4Addr::new(239, 255, 12, 34);
            let member = UdpSocket::bind("0.0.0.0:0").unwrap();
            member.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST).unwrap();
            let sender = Socket::from(sender);
            sender.set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
            sender.set_multicast_loop_v4(true).unwrap();
            sender.send_to(b"members", &SockAddr::from(SocketAddr::from((group, port)))).unwrap();
            assert_dropped(&engine, &here, DropReason::GroupDestination, 2);
            assert!(!Peer::of(sender).unwrap().has_something(), "{listen}");
            finish(engine);
        }
        if !has_ipv6() {
            return skipped("IPv6: this machine has no [::1]");
        }
        let (engine, url) = serve("udp://[::]:0", "");
        let here = url.replace("[::]", "[::1]");
        // All nodes, on whichever interface of this machine can do that.
        let sender = Socket::new(Domain::IPV6, Type::DGRAM.cloexec(), None).unwrap();
        let to = std::fs::read_dir("/sys/class/net").unwrap().find_map(|entry| {
            let name = CString::new(entry.unwrap().file_name().into_encoded_bytes()).unwrap();
            // SAFETY: a NUL-terminated name.
            let interface = unsafe { libc::if_nametoindex(name.as_ptr()) };
            let to = SocketAddrV6::new("ff02::1".parse().unwrap(), port_of(&url), 0, interface);
            sender.send_to(b"all nodes", &to.into()).is_ok().then_some(to)
        });
        if to.is_none() {
            finish(engine);
            return skipped("IPv6 multicast: no interface of this machine has a route for it");
        }
        assert_dropped(&engine, &here, DropReason::GroupDestination, 1);
        assert!(!Peer::of(sender).unwrap().has_something());
        finish(engine);
    });
}

/// A datagram from port 0 has nobody to answer. Such a packet is written by hand, which needs rights.
#[test]
fn from_port_zero() {
    isolated(|| {
        let raw = match Socket::new(Domain::IPV4, Type::RAW.cloexec(), Some(Protocol::UDP)) {
            Ok(raw) => raw,
            Err(error) => return skipped(&format!("a datagram from port 0: no raw socket: {error}")),
        };
        for listen in ["udp://127.0.0.1:0", "udp://0.0.0.0:0", "udp://:0"] {
            let (engine, url) = serve(listen, "");
            let port = port_of(&url);
            // RFC 768: source port, destination port, length, and a checksum of 0 for none.
            let mut packet = [0_u8; 12];
            packet[2..4].copy_from_slice(&port.to_be_bytes());
            packet[4..6].copy_from_slice(&12_u16.to_be_bytes());
            packet[8..].copy_from_slice(b"zero");
            raw.send_to(&packet, &SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
            assert_dropped(&engine, &format!("udp://127.0.0.1:{port}"), DropReason::BadSource, 1);
            finish(engine);
        }
    });
}

/// Sources that nobody can be answered at: no address at all, a group, everybody. Such packets are put on a wire of our
/// own by hand. Most the kernel throws away (RFC 1122, section 3.2.1.3); what it lets through gets no answer.
#[test]
fn from_nowhere_and_from_groups() {
    isolated(|| {
        let wire = match Wire::lay() {
            Ok(wire) => wire,
            Err(error) => return skipped(&format!("datagrams from nowhere: no network of our own: {error}")),
        };
        let (engine, url) = serve("udp://0.0.0.0:0", "");
        let put = |from: [u8; 4], to: [u8; 4]| wire.put(&ethernet_udp(from, to, port_of(&url), b"hello"));
        // The wire itself works: a good packet is answered.
        put([10, 9, 0, 2], [10, 9, 0, 1]);
        eventually_stats(&engine, "a good one is answered", |stats| stats.messages_out == 1);
        // DHCP's way: the one packet without a source that the kernel delivers.
        put([0, 0, 0, 0], [255, 255, 255, 255]);
        eventually_stats(&engine, "nowhere is no source", |stats| stats.dropped == 1);
        put([10, 9, 0, 2], [255, 255, 255, 255]);
        put([10, 9, 0, 2], [10, 9, 0, 255]);
        let stats = eventually_stats(&engine, "everybody is no destination", |stats| stats.dropped == 3);
        let groups =
            [DropReason::GroupDestination, DropReason::BadSource].map(|reason| stats.dropped_by(reason));
        assert_eq!(groups.iter().sum::<u64>(), 3, "{stats:?}");
        for source in [[0, 0, 0, 0], [224, 0, 0, 1], [239, 1, 2, 3], [255, 255, 255, 255], [10, 9, 0, 255]] {
            put(source, [10, 9, 0, 1]);
        }
        put([10, 9, 0, 2], [10, 9, 0, 1]);
        let stats = eventually_stats(&engine, "a good one again", |stats| stats.messages_out == 2);
        // Whatever the kernel let through: only the good ones were answered.
        assert_eq!(stats.messages_in - stats.dropped, 2, "{stats:?}");
        finish(engine);
    });
}

/// A network namespace with a wire in it, of which one end is 10.9.0.1 and the other a packet socket.
struct Wire {
    end: Socket,
    address: SockAddr,
}

impl Wire {
    fn lay() -> Result<Wire, String> {
        // SAFETY: no pointers; this process runs one test, and only this thread of it, and those that it starts, move.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return Err(io::Error::last_os_error().to_string());
        }
        for line in [
            "link set lo up",
            "link add wire0 type veth peer name wire1",
            "addr add 10.9.0.1/24 dev wire0",
            "neigh add 10.9.0.2 lladdr 02:00:00:00:00:02 dev wire0",
            "link set wire0 up",
            "link set wire1 up",
        ] {
            let output =
                Command::new("ip").args(line.split(' ')).output().map_err(|error| error.to_string())?;
            if !output.status.success() {
                return Err(format!("ip {line}: {}", String::from_utf8_lossy(&output.stderr)));
            }
        }
        let end =
            Socket::new(Domain::PACKET, Type::RAW.cloexec(), None).map_err(|error| error.to_string())?;
        // SAFETY: a NUL-terminated name.
        let index = unsafe { libc::if_nametoindex(c"wire1".as_ptr()) };
        // SAFETY: sockaddr_ll is plain data and shorter than the storage, which is zeroed.
        let initialised = unsafe {
            SockAddr::try_init(|storage, len| {
                let link = storage.cast::<libc::sockaddr_ll>();
                (*link).sll_family = libc::AF_PACKET as u16;
                (*link).sll_protocol = (libc::ETH_P_IP as u16).to_be();
                (*link).sll_ifindex = index as i32;
                (*link).sll_halen = 6;
                *len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
                Ok(())
            })
        };
        let ((), address) = initialised.map_err(|error| error.to_string())?;
        Ok(Wire { end, address })
    }

    fn put(&self, frame: &[u8]) {
        assert_eq!(self.end.send_to(frame, &self.address).unwrap(), frame.len());
    }
}

/// A frame as it is on the wire: Ethernet, IPv4 (RFC 791) and UDP (RFC 768) without a checksum, from port 9999.
fn ethernet_udp(from: [u8; 4], to: [u8; 4], port: u16, body: &[u8]) -> Vec<u8> {
    let mut ip = vec![0x45, 0, 0, (28 + body.len()) as u8, 0, 1, 0, 0, 64, 17, 0, 0];
    ip.extend(from);
    ip.extend(to);
    let sum: u32 = ip.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    // To everybody on the wire, from nobody.
    let mut frame = [[0xff; 6], [2, 0, 0, 0, 0, 2]].concat();
    frame.extend([0x08, 0x00]);
    frame.extend(ip);
    frame.extend(9999_u16.to_be_bytes());
    frame.extend(port.to_be_bytes());
    frame.extend((8 + body.len() as u16).to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(body);
    frame
}

/// The kernel cannot send an answer: no memory, no room, no route. That answer is lost and counted; all others leave.
/// The kernel is made to fail by strace(1), twice.
#[test]
fn sends_fail_in_every_way() {
    isolated(|| {
        if role().is_some() {
            // io_uring sends without a call that could be made to fail; the driver's own tests do so.
            let builder = engine_builder().backend(Backend::Epoll).listen("udp://127.0.0.1:0").unwrap();
            let engine = builder.start().unwrap();
            say(&engine.urls()[0]);
            while told().is_some() {
                let stats = engine.stats();
                say(&format!("{} {}", stats.messages_out, stats.dropped));
            }
            finish(engine);
            return;
        }
        let works = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).output();
        if !works.is_ok_and(|output| output.status.success()) {
            return skipped("failing sendmmsg(2): strace is not there, or may not trace");
        }
        for error in
            ["ENOBUFS", "ENOMEM", "EPERM", "ENETUNREACH", "EAGAIN", "EMSGSIZE", "ECONNREFUSED", "EINTR"]
        {
            let inject = format!("inject=sendmmsg:error={error}:when=2..3");
            let arguments =
                ["-f", "-qq", "-o", "/dev/null", "--seccomp-bpf", "-e", "trace=sendmmsg", "-e", &inject];
            let mut helper = Helper::start_under("server", "strace", &arguments);
            let url = helper.hear();
            let peer = Peer::connect(&url);
            assert_eq!(peer.ask(b"first"), b"first", "{error}");
            // One at a time, so that each is a call of its own.
            for number in 1..=10 {
                let text = format!("{error} {number}");
                peer.send(text.as_bytes());
                let mut lost = 0;
                eventually("it is answered or lost", || {
                    helper.tell("figures");
                    let figures = helper.hear();
                    let (out, dropped) = figures.split_once(' ').unwrap();
                    let (out, dropped): (u64, u64) = (out.parse().unwrap(), dropped.parse().unwrap());
                    lost = dropped;
                    if out + dropped == number + 1 { Ok(()) } else { Err(figures) }
                });
                // The first two fail, or fewer where a failure is no matter of the datagram's own.
                let expected = match error {
                    "EINTR" => 0,
                    "ECONNREFUSED" => 1,
                    _ => number.min(2),
                };
                assert_eq!(lost, expected, "{text}");
                if number > expected {
                    assert_eq!(peer.message(), text.as_bytes(), "{error}");
                }
            }
            helper.finish();
        }
    });
}

/// Datagrams of many peers that arrive together are answered each to its own sender, from its own address.
#[test]
fn a_batch_of_many_peers() {
    isolated(|| {
        for chain in ["", "uppercase", "uppercase:unicode=1"] {
            let engine =
                engine_builder().listen("udp://0.0.0.0:0").unwrap().chain(chain).unwrap().build().unwrap();
            let port = port_of(&engine.urls()[0]);
            let peers: Vec<_> =
                (1..=100).map(|host| Peer::connect(&format!("udp://127.0.0.{host}:{port}"))).collect();
            for (number, peer) in peers.iter().enumerate() {
                // Of different lengths, one of them none.
                peer.send(format!("PEER {number}").repeat(number % 7).as_bytes());
            }
            engine.start().unwrap();
            for (number, peer) in peers.iter().enumerate() {
                let expected = format!("PEER {number}").repeat(number % 7);
                assert_eq!(peer.message(), expected.as_bytes(), "{chain:?}");
            }
            finish(engine);
        }
    });
}

/// With several workers each has a socket of its own, and the kernel deals the senders out among them: all are answered,
/// always from the same address, counted once, and the listener is one in everything that is said of it.
#[test]
fn every_worker_has_a_socket() {
    isolated(|| {
        for listen in ["udp://127.0.0.1:0", "udp://:0"] {
            let log = Log::default();
            let engine = log.builder().listen(listen).unwrap().chain("uppercase").unwrap();
            let engine = engine.threads(4).unwrap().start().unwrap();
            let url = engine.urls().remove(0);
            let here = url.replace("udp://:", "udp://127.0.0.1:").replace("[::]", "127.0.0.1");
            let sockets = || {
                let all = std::fs::read_dir("/proc/self/fd").unwrap();
                all.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
                    .filter(|link| link.to_string_lossy().starts_with("socket:"))
                    .count()
            };
            assert_eq!(sockets(), 4, "{listen}");
            let peers: Vec<_> = (0..64).map(|_| Peer::connect(&here)).collect();
            for round in 0..5 {
                for (number, peer) in peers.iter().enumerate() {
                    peer.send(format!("peer {number} {round}").as_bytes());
                }
                for (number, peer) in peers.iter().enumerate() {
                    assert_eq!(peer.message(), format!("PEER {number} {round}").as_bytes());
                }
            }
            drop(peers);
            let id = engine.listeners()[0].id;
            // An answer may be read before it is counted.
            eventually("all are counted once", || {
                let stats = engine.listener_stats(id).unwrap();
                match (stats.messages_in, stats.messages_out) {
                    (320, 320) => Ok(()),
                    _ => Err(format!("{stats:?}")),
                }
            });
            engine.close_listener(id).unwrap();
            eventually("it is closed", || if sockets() == 0 { Ok(()) } else { Err("not yet".into()) });
            for kind in [EventKind::Listening, EventKind::ListenerClosed] {
                eventually("it is said once", || {
                    let lines = log.lines(kind);
                    if lines.len() == 1 { Ok(()) } else { Err(format!("{lines:?}")) }
                });
            }
            finish(engine);
        }
    });
}

/// A burst that the sender hands to the kernel as one (`UDP_SEGMENT`, udp(7)) is so many datagrams all the same: each is a
/// message with an answer of its own, whatever becomes of its neighbours.
#[test]
fn bursts_that_come_as_one() {
    isolated(|| {
        let answers_to = |url: &str, burst: &[u8], segment: usize, count: usize| {
            let peer = Peer::connect(url);
            peer.socket.set_recv_buffer_size(4 << 20).unwrap();
            send_cut(&peer.socket, burst, segment);
            let answers: Vec<_> = (0..count).map(|_| peer.message()).collect();
            assert_eq!(peer.ask(b"last"), if answers_are_upper(&answers) { b"LAST" } else { b"last" });
            answers
        };
        for listen in ["udp://127.0.0.1:0", "udp://0.0.0.0:0", "udp://:0", "udp://[::1]:0"] {
            if listen.contains("[::1]") && !has_ipv6() {
                skipped("IPv6: this machine has no [::1]");
                continue;
            }
            let (engine, url) = serve(listen, "uppercase");
            let here = url.replace("0.0.0.0", "127.0.0.1").replace("udp://:", "udp://127.0.0.1:");
            let here = here.replace("[::]", "127.0.0.1");
            for (bytes, segment) in [(64 * 60, 64), (64 * 60 + 7, 64), (1200 * 40, 1200), (5, 1), (300, 300)]
            {
                let burst: Vec<u8> = (0..bytes).map(|n| b'a' + (n / segment % 26) as u8).collect();
                let expected: Vec<_> = burst.chunks(segment).map(<[u8]>::to_ascii_uppercase).collect();
                let answers = answers_to(&here, &burst, segment, expected.len());
                assert_eq!(answers, expected, "{listen} {bytes} by {segment}");
            }
            let stats = finish(engine);
            assert_eq!((stats.messages_in, stats.dropped), (stats.messages_out, 0), "{stats:?}");
        }
        // Some get no answer, and the others theirs: a transform drops, or they are longer than allowed.
        let burst: Vec<u8> = (0..50 * 8).map(|n| b'a' + (n / 8 % 26) as u8).collect();
        let (engine, url) = serve("udp://127.0.0.1:0", "drop:every=3");
        let whole: Vec<_> = burst.chunks(8).map(<[u8]>::to_vec).collect();
        let peer = Peer::connect(&url);
        send_cut(&peer.socket, &burst, 8);
        let stats = eventually_stats(&engine, "all are seen", |stats| stats.messages_in == 50);
        let answers: Vec<_> = (0..50 - stats.dropped).map(|_| peer.message()).collect();
        assert!(stats.dropped > 0 && answers.iter().all(|answer| whole.contains(answer)), "{stats:?}");
        finish(engine);
        let (engine, url) = serve("udp://127.0.0.1:0?max_message=8", "");
        let peer = Peer::connect(&url);
        send_cut(&peer.socket, &[vec![b'x'; 9 * 20].as_slice(), b"short"].concat(), 9);
        assert_eq!(peer.message(), b"short");
        eventually_stats(&engine, "the others are counted", |stats| {
            stats.dropped_by(DropReason::TooLong) == 20
        });
        finish(engine);
        // Answers that are longer, or later, than what came.
        let (engine, url) = serve("udp://127.0.0.1:0", "delay:time=1ms | hex");
        let peer = Peer::connect(&url);
        send_cut(&peer.socket, b"aabbccddee", 2);
        for answer in ["6161", "6262", "6363", "6464", "6565"] {
            assert_eq!(String::from_utf8_lossy(&peer.message()), answer);
        }
        finish(engine);
    });
}

fn answers_are_upper(answers: &[Vec<u8>]) -> bool {
    answers.first().is_some_and(|answer| answer.first().is_some_and(u8::is_ascii_uppercase))
}

/// One peer floods the server and never reads; another one is answered all the time.
#[test]
fn a_flood_does_not_silence_the_others() {
    isolated(|| {
        let (engine, url) = serve("udp://127.0.0.1:0", "");
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let flood = Peer::connect(&url);
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    let _ = flood.try_send(&[0; 1000]);
                }
            });
            // A flood fills the server's queue, so a question may be lost before the server sees it: it is
            // asked again, and must be answered in the end.
            let (_, socket_type, address) = address_of(&url);
            let socket = Socket::new(Domain::IPV4, socket_type.cloexec(), None).unwrap();
            socket.connect(&address).unwrap();
            socket.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
            let mut answer = [0; 64];
            for number in 0..50 {
                let text = format!("question {number}");
                eventually("a question is answered during the flood", || {
                    socket.send(text.as_bytes()).map_err(|error| error.to_string())?;
                    loop {
                        let n =
                            io::Read::read(&mut &socket, &mut answer).map_err(|error| error.to_string())?;
                        if &answer[..n] == text.as_bytes() {
                            return Ok(());
                        }
                    }
                });
            }
            over.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        finish(engine);
    });
}
