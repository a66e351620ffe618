//! Sockets whose messages are datagrams.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use resay::DropReason;
use socket2::{Domain, SockRef, Socket, Type};

use crate::common::*;

/// A UDP socket on all addresses, as a service manager opens it; with IPv6 for both families, unless `v6only`.
fn on_all_addresses(domain: Domain, v6only: bool) -> (Socket, u16) {
    let socket = Socket::new(domain, Type::DGRAM.cloexec(), None).unwrap();
    let address: SocketAddr = if domain == Domain::IPV4 {
        ([0; 4], 0).into()
    } else {
        socket.set_only_v6(v6only).unwrap();
        ([0_u16; 8], 0).into()
    };
    socket.bind(&address.into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    (socket, port)
}

fn on_everything() -> Vec<(Domain, bool, &'static [&'static str])> {
    let mut all: Vec<(Domain, bool, &'static [&'static str])> =
        vec![(Domain::IPV4, false, &["127.0.0.1", "127.0.0.5"])];
    if has_ipv6() {
        all.push((Domain::IPV6, false, &["127.0.0.1", "127.0.0.5", "[::1]"]));
        all.push((Domain::IPV6, true, &["[::1]"]));
    }
    all
}

/// Every socket activation: the datagram that woke the service waits in the socket, from before anybody has asked to be
/// told where it was sent to. Peers are connected, so an answer from another address does not reach them.
#[test]
fn what_waits_from_before_is_answered_from_where_it_was_sent_to() {
    isolated(|| {
        for (domain, v6only, addresses) in on_everything() {
            let (socket, port) = on_all_addresses(domain, v6only);
            let peers: Vec<_> = addresses
                .iter()
                .map(|address| {
                    let peer = Peer::connect(&format!("udp://{address}:{port}"));
                    peer.send(b"first");
                    // One that the kernel cuts into three.
                    try_set_option(&peer.socket, libc::SOL_UDP, libc::UDP_SEGMENT, 3).unwrap();
                    peer.send(b"onetwosix");
                    try_set_option(&peer.socket, libc::SOL_UDP, libc::UDP_SEGMENT, 0).unwrap();
                    peer.send(b"");
                    peer
                })
                .collect();
            let engine = engine_builder().chain("uppercase").unwrap().start().unwrap();
            engine.listen_socket(socket.into(), "").unwrap();
            for (peer, address) in peers.iter().zip(addresses) {
                for expected in [&b"FIRST"[..], b"ONE", b"TWO", b"SIX", b""] {
                    assert_eq!(peer.message(), expected, "{domain:?} {address}");
                }
                assert_eq!(peer.ask(b"and later"), b"AND LATER", "{domain:?} {address}");
            }
            let stats = finish(engine);
            assert_eq!(stats.messages_out, 6 * addresses.len() as u64, "{domain:?} {stats:?}");
        }
    });
}

/// One on which somebody else has asked for more to be told of each datagram, as a service manager does: what we need to
/// know still has room.
#[test]
fn an_adopted_socket_that_tells_more() {
    if !has_ipv6() {
        return skipped("IPv6: this machine has no [::1]");
    }
    isolated(|| {
        let engine = engine_builder().start().unwrap();
        let (socket, port) = on_all_addresses(Domain::IPV6, false);
        for (level, name) in [
            (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS),
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL),
            (libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT),
            (libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS),
            (libc::IPPROTO_IP, libc::IP_RECVTOS),
        ] {
            try_set_option(&socket, level, name, 1).unwrap();
        }
        let id = engine.listen_socket(socket.into(), "chain=uppercase").unwrap();
        for address in ["127.0.0.5", "[::1]"] {
            let peer = Peer::connect(&format!("udp://{address}:{port}"));
            assert_eq!(peer.ask(b"alone"), b"ALONE", "{address}");
            send_cut(&peer.socket, b"onetwosix", 3);
            let answers = [peer.message(), peer.message(), peer.message()];
            assert_eq!(answers, [b"ONE", b"TWO", b"SIX"], "{address}");
        }
        engine.close_listener(id).unwrap();
        finish(engine);
    });
}

/// What was sent to everybody is answered no more than later.
#[test]
fn what_waits_from_before_for_a_group_is_dropped() {
    isolated(|| {
        let (socket, port) = on_all_addresses(Domain::IPV4, false);
        let group = std::net::Ipv4Addr::new(224, 0, 0, 251);
        socket.join_multicast_v4(&group, &std::net::Ipv4Addr::LOCALHOST).unwrap();
        let peer = Socket::new(Domain::IPV4, Type::DGRAM.cloexec(), None).unwrap();
        peer.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        peer.set_broadcast(true).unwrap();
        peer.set_multicast_if_v4(&std::net::Ipv4Addr::LOCALHOST).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        // The broadcast address of the loopback network, and a multicast one.
        for to in [[127, 255, 255, 255], group.octets(), [127, 0, 0, 9]] {
            peer.send_to(b"anybody", &SocketAddr::from((to, port)).into()).unwrap();
        }
        let engine = engine_builder().start().unwrap();
        engine.listen_socket(socket.into(), "").unwrap();
        let mut answer = [std::mem::MaybeUninit::uninit(); 16];
        let (count, from) = peer.recv_from(&mut answer).unwrap();
        let asked = SocketAddr::from(([127, 0, 0, 9], port));
        assert_eq!((count, from.as_socket()), (7, Some(asked)));
        eventually_stats(&engine, "both are dropped", |stats| {
            stats.dropped_by(DropReason::GroupDestination) == 2
        });
        let stats = finish(engine);
        assert_eq!((stats.messages_in, stats.messages_out), (3, 1), "{stats:?}");
    });
}

/// Options that would hold answers back, merge them, cut them, or fill the socket with what nobody reads.
#[test]
fn options_from_before_keep_no_datagram_from_its_answer() {
    let options: [(&str, i32, i32, i32); 8] = [
        ("UDP_CORK", libc::SOL_UDP, libc::UDP_CORK, 1),
        ("UDP_SEGMENT", libc::SOL_UDP, libc::UDP_SEGMENT, 2),
        ("UDP_GRO", libc::SOL_UDP, libc::UDP_GRO, 1),
        ("IP_RECVERR", libc::IPPROTO_IP, libc::IP_RECVERR, 1),
        // SOF_TIMESTAMPING_TX_SOFTWARE, _SOFTWARE, _TX_SCHED: a copy of each answer, in a queue of its own.
        ("SO_TIMESTAMPING", libc::SOL_SOCKET, libc::SO_TIMESTAMPING, 2 | 1 << 4 | 1 << 8),
        ("SO_RCVLOWAT", libc::SOL_SOCKET, libc::SO_RCVLOWAT, 5000),
        ("SO_DONTROUTE", libc::SOL_SOCKET, libc::SO_DONTROUTE, 1),
        ("SO_BUSY_POLL", libc::SOL_SOCKET, libc::SO_BUSY_POLL, 50),
    ];
    isolated(|| {
        for (name, level, option, value) in options {
            let socket = opened("udp://127.0.0.1:0");
            if let Err(error) = try_set_option(&socket, level, option, value) {
                skipped(&format!("{name}: {error}"));
                continue;
            }
            let url = url_of("udp", &socket);
            let (peer, other) = (Peer::connect(&url), Peer::connect(&url));
            peer.send(b"from before");
            let engine = engine_builder().start().unwrap();
            engine.listen_socket(socket.into(), "rcvbuf=4k").unwrap();
            assert_eq!(peer.message(), b"from before", "{name}");
            // Somebody who is gone, so that errors come back for each answer to them.
            let gone = Socket::new(Domain::IPV4, Type::DGRAM.cloexec(), None).unwrap();
            gone.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
            gone.send_to(b"bye", &other.socket.peer_addr().unwrap()).unwrap();
            drop(gone);
            // More than enough to fill what is kept for nobody.
            for round in 0..300 {
                let text = format!("{round} of 300");
                assert_eq!(other.ask(text.as_bytes()), text.as_bytes(), "{name}");
            }
            finish(engine);
        }
    });
}

/// The same for a queue that fills with errors.
#[test]
fn errors_that_nobody_asks_for_fill_nothing() {
    isolated(|| {
        let socket = opened("udp://127.0.0.1:0");
        try_set_option(&socket, libc::IPPROTO_IP, libc::IP_RECVERR, 1).unwrap();
        let url = url_of("udp", &socket);
        let engine = engine_builder().start().unwrap();
        engine.listen_socket(socket.try_clone().unwrap().into(), "rcvbuf=4k").unwrap();
        let bystander = Peer::connect(&url);
        for round in 0..64 {
            // Asks, and does not wait for the answer, to which an error comes back.
            drop({
                let peer = Peer::connect(&url);
                peer.send(b"bye");
                peer
            });
            let text = format!("{round} of 64");
            assert_eq!(bystander.ask(text.as_bytes()), text.as_bytes());
        }
        let mut error = [std::mem::MaybeUninit::uninit(); 8];
        let found =
            SockRef::from(&socket).recv_with_flags(&mut error, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT);
        assert_eq!(found.unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "nothing is queued");
        finish(engine);
    });
}

/// An address that is local only by a route, and one that goes away before the answer has left: the answer comes from there
/// all the same.
#[test]
fn an_address_that_is_local_by_route_answers() {
    isolated(|| {
        let network = own_network(&[
            "link set lo up",
            "route add local 10.88.0.0/16 dev lo",
            "-6 route add local 2001:db8:88::/48 dev lo",
            "-6 addr add 2001:db8:99::1/128 dev lo nodad",
            "-6 addr add 2001:db8:99::2/128 dev lo nodad",
            "-6 addr add 2001:db8:99::3/128 dev lo nodad",
        ]);
        if let Err(why) = network {
            return skipped(&format!("a network of its own: {why}"));
        }
        (1..=3).for_each(until_it_is_there);
        for (number, listen) in ["udp://:0", "udp://[::]:0", "adopted"].into_iter().enumerate() {
            let going = format!("2001:db8:99::{}", number + 1);
            let engine = engine_builder().start().unwrap();
            let port = if listen == "adopted" {
                let (socket, port) = on_all_addresses(Domain::IPV6, false);
                engine.listen_socket(socket.into(), "").unwrap();
                port
            } else {
                let id = engine.listen(listen).unwrap();
                engine.listener(id).unwrap().port().unwrap()
            };
            for address in ["10.88.5.6", "[2001:db8:88::5]", &format!("[{going}]")] {
                if listen == "udp://[::]:0" && address.starts_with('1') {
                    continue;
                }
                let peer = Peer::connect(&format!("udp://{address}:{port}"));
                assert_eq!(peer.ask(b"by route"), b"by route", "{listen} {address}");
            }
            let peer = Peer::connect(&format!("udp://[{going}]:{port}"));
            // Bound to what stays.
            let stays = Socket::new(Domain::IPV6, Type::DGRAM.cloexec(), None).unwrap();
            stays.bind(&"[::1]:0".parse::<SocketAddr>().unwrap().into()).unwrap();
            stays.connect(&peer.socket.peer_addr().unwrap()).unwrap();
            let stays = Peer::of(stays).unwrap();
            // Its answer is still being delayed.
            engine.set_chain("delay:time=500ms").unwrap();
            stays.send(b"is it still there?");
            eventually_stats(&engine, "it has arrived", |stats| stats.messages_in > stats.messages_out);
            ip(&format!("-6 addr del {going}/128 dev lo")).unwrap();
            assert_eq!(stays.message(), b"is it still there?", "{listen}");
            engine.drain(PATIENCE).unwrap();
            balanced(&engine);
        }
    });
}

/// The kernel goes on adding an address after it has said that it has.
fn until_it_is_there(number: u16) {
    let address = SocketAddr::from(([0x2001, 0xdb8, 0x99, 0, 0, 0, 0, number], 0));
    eventually("the address is there", || {
        let socket = UdpSocket::bind(address).map_err(|error| error.to_string())?;
        let here = socket.local_addr().unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        socket.send_to(b"?", here).map_err(|error| error.to_string())?;
        socket.recv_from(&mut [0]).map(drop).map_err(|error| error.to_string())
    });
}

/// A record leaves whole or not at all: what is promised is what the send buffer takes.
#[test]
fn records_up_to_the_promised_length_are_answered() {
    isolated(|| {
        let directory = directory();
        for transport in [Transport::Seqpacket, Transport::UnixDatagram] {
            for (options, longest) in [("", 262_144), ("?max_message=300k", 307_200), ("?sndbuf=1m", 262_144)]
            {
                for is_adopted in [false, true] {
                    let engine = engine_builder().start().unwrap();
                    let url = transport.url(directory.path());
                    let id = if is_adopted {
                        let socket = opened(&url);
                        engine.listen_socket(socket.into(), options.trim_start_matches('?')).unwrap()
                    } else {
                        engine.listen(&format!("{url}{options}")).unwrap()
                    };
                    let what = format!("{transport:?} {options} {is_adopted}");
                    let peer =
                        Peer::connect_with(&url, |socket| socket.set_send_buffer_size(1 << 20)).unwrap();
                    for count in [1, 212_900, 212_960, 212_961, 230_000, longest - 1, longest] {
                        let record = noise(count, 3);
                        peer.send(&record);
                        assert_same(&format!("{what} {count}"), &record, &peer.try_recv(1 << 20).unwrap());
                    }
                    let told = engine.listener(id).unwrap().effective;
                    let told = told.into_iter().find(|(key, _)| key == "sndbuf").unwrap().1;
                    assert!(told.parse::<usize>().unwrap() >= longest, "{what}: {told}");
                    finish(engine);
                    let _ = std::fs::remove_file(url.split_once(':').unwrap().1);
                }
            }
        }
    });
}
