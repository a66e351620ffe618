//! A header in each datagram.

use std::time::Duration;

use crate::common::*;
use crate::{source, v2};
use resay::{DropReason, Engine, TapOptions, Transform};

fn from(address: &str) -> Vec<u8> {
    let address: std::net::SocketAddr = address.parse().unwrap();
    v2(1, if address.is_ipv4() { 0x12 } else { 0x22 }, address, &[])
}

fn urls(options: &str) -> Vec<String> {
    let directory = directory().keep();
    let unix = format!("unix-dgram:{}?{options}", text(&directory.join("s")));
    vec![format!("udp://127.0.0.1:0?{options}"), unix]
}

/// Sends what is to be dropped, and waits until it was.
#[track_caller]
fn assert_dropped(engine: &Engine, peer: &Peer, datagram: &[u8], reason: DropReason) {
    let before = engine.stats().dropped_by(reason);
    peer.send(datagram);
    eventually_stats(engine, "it is dropped", |stats| stats.dropped_by(reason) == before + 1);
}

/// The answer goes to the proxy, without a header: at once, later, and from a thread that may block.
#[test]
fn a_header_names_the_sender_of_a_datagram() {
    isolated(|| {
        for url in urls("proxy=any") {
            for chain in ["uppercase", "uppercase:unicode=1", "uppercase | delay:time=1ms", "offloaded"] {
                let mut builder = engine_builder().listen(&url).unwrap();
                builder = builder.register(Transform::from_table(&OFFLOADED).unwrap());
                let engine = builder.chain(chain).unwrap().start().unwrap();
                let url = engine.urls().remove(0);
                let tap = engine.tap(TapOptions::default()).unwrap();
                let proxy = Peer::connect(&url);
                for (header, named) in [
                    (from("192.0.2.7:50312"), Some("192.0.2.7:50312")),
                    (from("[2001:db8::7]:50312"), Some("[2001:db8::7]:50312")),
                    (v2(0, 0, source(), &[]), None),
                ] {
                    assert_eq!(proxy.ask(&[&header, b"hello".as_slice()].concat()), b"HELLO", "{chain}");
                    let mut seen = Vec::new();
                    tap.read(Some(PATIENCE), |record| {
                        seen.push((record.peer().to_string(), record.data.to_vec()));
                        true
                    })
                    .unwrap();
                    assert_eq!(seen.len(), 1, "{chain}");
                    assert_eq!(seen[0].1, b"hello", "{chain}");
                    assert!(named.is_none_or(|named| seen[0].0 == named), "{seen:?}");
                }
                // A message may be empty.
                assert_eq!(proxy.ask(&from("192.0.2.7:50312")), b"", "{chain}");
                drop((proxy, tap));
                let stats = finish(engine);
                assert_eq!((stats.messages_out, stats.dropped), (4, 0), "{stats:?}");
            }
        }
    });
}

#[test]
fn transforms_hear_of_the_named_sender() {
    isolated(|| {
        for url in urls("proxy=v2") {
            let (engine, url) = serve(&url, "whoami");
            let proxy = Peer::connect(&url);
            let header = v2(1, 0x12, source(), &[(2, b"example.org")]);
            let answer = String::from_utf8(proxy.ask(&[&header, b"?".as_slice()].concat())).unwrap();
            assert!(answer.starts_with(r#"{"peer":"udp://192.0.2.7:50312","#), "{answer}");
            let scheme = url.split_once(':').unwrap().0;
            assert!(answer.contains(&format!(r#""via":"{scheme}:"#)), "{answer}");
            assert!(answer.contains(r#""authority":"example.org"}"#), "{answer}");
            drop(proxy);
            finish(engine);
        }
    });
}

#[test]
fn datagrams_without_a_right_header_are_dropped() {
    isolated(|| {
        for url in urls("proxy=v2") {
            let (engine, url) = serve(&url, "");
            let proxy = Peer::connect(&url);
            let header = from("192.0.2.7:50312");
            for datagram in
                [&b"hello"[..], b"", crate::V1, &header[..27], &v2(1, 0x11, source(), &[(3, b"nope")])]
            {
                assert_dropped(&engine, &proxy, datagram, DropReason::ProxyHeader);
            }
            assert_eq!(proxy.ask(&[&header, b"hello".as_slice()].concat()), b"hello");
            drop(proxy);
            finish(engine);
        }
        let (engine, url) = serve("udp://127.0.0.1:0?proxy=v2&proxy_from=127.0.0.2", "");
        let stranger = Peer::connect(&url);
        let datagram = [&from("192.0.2.7:50312"), b"hello".as_slice()].concat();
        assert_dropped(&engine, &stranger, &datagram, DropReason::NotFromProxy);
        let address = std::net::SocketAddr::from(([127, 0, 0, 2], 0));
        let proxy = Peer::connect_with(&url, |socket| socket.bind(&address.into())).unwrap();
        assert_eq!(proxy.ask(&datagram), b"hello");
        drop((stranger, proxy));
        finish(engine);
    });
}

/// Amplification and `max_message` are about the message alone, without its header.
#[test]
fn a_header_is_no_part_of_the_message() {
    isolated(|| {
        let (engine, url) = serve("udp://127.0.0.1:0?proxy=v2&max_amplification=1&max_message=16", "hex");
        let proxy = Peer::connect(&url);
        let header = from("192.0.2.7:50312");
        let with = |message: &[u8]| [&header, message].concat();
        assert_dropped(&engine, &proxy, &with(b"four"), DropReason::Amplified);
        engine.set_chain("").unwrap();
        engine.sync(Some(PATIENCE)).unwrap();
        assert_eq!(proxy.ask(&with(&[b'x'; 16])), [b'x'; 16]);
        assert_dropped(&engine, &proxy, &with(&[b'x'; 17]), DropReason::TooLong);
        let long = v2(1, 0x12, source(), &[(4, &[0; 4000])]);
        assert_eq!(proxy.ask(&[&long, b"behind".as_slice()].concat()), b"behind");
        assert_dropped(&engine, &proxy, &[0; 6000], DropReason::TooLong);
        drop(proxy);
        finish(engine);
    });
}

#[test]
fn the_guard_of_datagrams_looks_at_whom_the_proxy_names() {
    isolated(|| {
        let options = "proxy=v2&allow=192.0.2.0/24&from_ports=1024-65535";
        let (engine, url) = serve(&format!("udp://127.0.0.1:0?{options}"), "");
        let proxy = Peer::connect(&url);
        let with = |address: &str| [&from(address), b"hello".as_slice()].concat();
        assert_eq!(proxy.ask(&with("192.0.2.7:50312")), b"hello");
        assert_dropped(&engine, &proxy, &with("198.51.100.7:50312"), DropReason::Denied);
        assert_dropped(&engine, &proxy, &with("192.0.2.7:53"), DropReason::FromPort);
        let mut unix = v2(1, 0x32, source(), &[]);
        unix.truncate(16);
        unix[14..16].copy_from_slice(&216_u16.to_be_bytes());
        unix.extend([b'x'; 216]);
        assert_dropped(&engine, &proxy, &unix, DropReason::Denied);
        drop(proxy);
        finish(engine);
    });
}

/// An answer that comes back behind a header is one of a loop, whenever it left.
#[test]
fn loops_through_a_proxy_end() {
    isolated(|| {
        for chain in ["", "uppercase:unicode=1", "delay:time=1ms", "offloaded"] {
            let builder = engine_builder().listen("udp://127.0.0.1:0?proxy=v2&loop_hops=2:off").unwrap();
            let engine = builder
                .register(Transform::from_table(&OFFLOADED).unwrap())
                .chain(chain)
                .unwrap()
                .start()
                .unwrap();
            let url = engine.urls().remove(0);
            let proxy = Peer::connect(&url);
            // Another client says the same, and is no service.
            for named in ["192.0.2.7:50312", "192.0.2.8:50312", "192.0.2.7:50312"] {
                assert_eq!(proxy.ask(&[&from(named), b"SAME".as_slice()].concat()), b"SAME", "{chain}");
            }
            let datagram = [&from("192.0.2.7:7"), b"SAME".as_slice()].concat();
            for _ in 0..2 {
                assert_eq!(proxy.ask(&datagram), b"SAME", "{chain}");
            }
            assert_dropped(&engine, &proxy, &datagram, DropReason::Loop);
            drop(proxy);
            finish(engine);
        }
    });
}

/// Answers that wait for their time are the proxy's too, when the socket is closed.
#[test]
fn a_delayed_answer_goes_to_the_proxy() {
    isolated(|| {
        let (engine, url) = serve("udp://127.0.0.1:0?proxy=v2", "delay:time=50ms");
        let (one, two) = (Peer::connect(&url), Peer::connect(&url));
        let datagram = |text: &[u8]| [&from("192.0.2.7:50312"), text].concat();
        one.send(&datagram(b"one"));
        two.send(&datagram(b"two"));
        engine.drain(Duration::from_secs(60)).unwrap();
        assert_eq!((one.message(), two.message()), (b"one".to_vec(), b"two".to_vec()));
    });
}
