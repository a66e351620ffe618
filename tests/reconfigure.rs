//! Many changes at once while an engine serves: all of them, or none; and what becomes of those who are connected.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::os::fd::AsFd;
use std::time::Duration;

use common::*;
use resay::net::address::Listen;
use resay::{CloseReason, Engine, ListenerId, Options, Reconfiguration};

/// Options out of pairs.
fn options(pairs: &[&str]) -> Options {
    let mut options = Options::default();
    pairs.iter().for_each(|pair| options.set_pair(pair).unwrap());
    options
}

fn keep(id: ListenerId, pairs: &[&str]) -> Reconfiguration {
    Reconfiguration { keep: vec![(id, options(pairs))], ..Reconfiguration::default() }
}

fn start(url: &str, threads: usize) -> (Engine, ListenerId, String) {
    let engine = engine_builder().threads(threads).unwrap().listen(url).unwrap().start().unwrap();
    let info = engine.listeners().remove(0);
    (engine, info.id, info.url)
}

/// Waits until workers have noticed what was changed.
fn noticed(engine: &Engine) {
    engine.sync(Some(PATIENCE)).unwrap();
}

#[test]
fn connections_keep_the_options_that_they_began_with_and_new_ones_have_the_new() {
    isolated(|| {
        for transport in Transport::connected() {
            let directory = directory();
            let (engine, id, url) = start(&transport.url(directory.path()), 2);
            let old = Peer::connect(&url);
            assert_eq!(old.ask(b"before"), b"before");
            engine.reconfigure(&keep(id, &["idle_timeout=1ms", "max_connections=3"])).unwrap();
            noticed(&engine);
            // The same listener: its number, its counters, its address.
            let info = engine.listener(id).unwrap();
            assert_eq!((info.id, &info.url), (id, &url));
            assert_eq!(engine.listener_option(id, "max_connections").unwrap().as_deref(), Some("3"));
            // A silent newcomer is closed for that, and the silent old one is not.
            assert_eq!(Peer::connect(&url).to_end(), b"");
            eventually_stats(&engine, "the newcomer is closed", |stats| {
                stats.closed_by(CloseReason::IdleTimeout) == 1
            });
            assert_eq!(old.ask(b"after"), b"after");
            // It counts towards the new limit.
            engine.reconfigure(&keep(id, &["max_connections=1"])).unwrap();
            noticed(&engine);
            let rejected = Peer::try_connect(&url);
            eventually_stats(&engine, "one is rejected", |stats| stats.rejected == 1);
            drop(rejected);
            // What is asked of the listener concerns the connections of all its editions.
            engine.reconfigure(&keep(id, &[])).unwrap();
            noticed(&engine);
            let new = Peer::connect(&url);
            assert_eq!(new.ask(b"new"), b"new");
            assert_eq!(engine.listener_stats(id).unwrap().open, 2);
            assert_eq!(engine.reset_listener(id).unwrap(), 2);
            finish(engine);
        }
    });
}

/// A connection has what its listener's options say now, not what they said as the socket was bound; of a socket that
/// somebody else has opened, what it had from before.
#[test]
fn probes_of_new_connections_follow_their_option() {
    /// Whether there are probes, when, how often, how many, and how long nothing may be taken.
    fn probing(engine: &Engine, id: ListenerId) -> [i32; 5] {
        let info = engine.listener(id).unwrap();
        let peer = Peer::connect(&info.url);
        assert_eq!(peer.ask(b"probes?"), b"probes?");
        let found = probing_of(accepted_end(&peer).expect("it was accepted"));
        let told = info.effective.iter().find(|(key, _)| key == "keepalive").unwrap();
        assert_eq!(told.1, found[0].to_string());
        found
    }
    fn probing_of(socket: impl AsFd + Copy) -> [i32; 5] {
        let names = [libc::TCP_KEEPIDLE, libc::TCP_KEEPINTVL, libc::TCP_KEEPCNT, libc::TCP_USER_TIMEOUT];
        let [idle, interval, count, timeout] =
            names.map(|name| option(socket, libc::IPPROTO_TCP, name).unwrap());
        [option(socket, libc::SOL_SOCKET, libc::SO_KEEPALIVE).unwrap(), idle, interval, count, timeout]
    }
    isolated(|| {
        let engine = engine_builder().start().unwrap();
        let pairs = ["keepalive=3s", "keepalive=0", "keepalive=60s", "keepalive=1", "nodelay=0"];
        let fresh = pairs.map(|pair| {
            let id = engine.listen(&format!("tcp://127.0.0.1:0?{pair}")).unwrap();
            (id, probing(&engine, id))
        });
        for (id, _) in fresh {
            for (pair, (_, wanted)) in pairs.iter().zip(fresh).chain(pairs.iter().zip(fresh).rev()) {
                engine.reconfigure(&keep(id, &[*pair])).unwrap();
                noticed(&engine);
                assert_eq!(probing(&engine, id), wanted, "{pair}");
            }
        }
        let socket = opened("tcp://127.0.0.1:0");
        try_set_option(&socket, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1).unwrap();
        try_set_option(&socket, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, 99).unwrap();
        let owners = probing_of(&socket);
        let id = engine.listen_socket(socket.into(), "").unwrap();
        for (pair, wanted) in [("nodelay=0", owners), ("keepalive=60s", fresh[2].1), ("keepalive=0", owners)]
        {
            engine.reconfigure(&keep(id, &[pair])).unwrap();
            noticed(&engine);
            assert_eq!(probing(&engine, id), wanted, "{pair}");
        }
        finish(engine);
    });
}

#[test]
fn a_chain_is_swapped_for_all_whose_messages_are_found_as_before() {
    isolated(|| {
        let (engine, id, url) = start("tcp://127.0.0.1:0", 2);
        let raw = Peer::connect(&url);
        assert_eq!(raw.ask(b"a\n"), b"a\n");
        engine.reconfigure(&keep(id, &["nodelay=0", "chain=uppercase"])).unwrap();
        noticed(&engine);
        assert_eq!(raw.ask(b"b\n"), b"B\n");
        // Under another frame nobody but those who come has the chain.
        engine.reconfigure(&keep(id, &["frame=lines", "chain=rot13"])).unwrap();
        noticed(&engine);
        assert_eq!(raw.ask(b"c\n"), b"C\n");
        let framed = Peer::connect(&url);
        assert_eq!(framed.ask(b"c\n"), b"p\n");
        // The listener's own, and the engine's.
        engine.reconfigure(&keep(id, &["frame=lines"])).unwrap();
        noticed(&engine);
        assert_eq!(framed.ask(b"d\n"), b"d\n");
        engine.set_chain("uppercase").unwrap();
        noticed(&engine);
        assert_eq!(framed.ask(b"e\n"), b"E\n");
        drop((raw, framed));
        finish(engine);
    });
}

#[test]
fn datagrams_follow_at_once_on_every_worker() {
    isolated(|| {
        let (engine, id, url) = start("udp://127.0.0.1:0", 3);
        let peers: Vec<Peer> = (0..16).map(|_| Peer::connect(&url)).collect();
        peers.iter().for_each(|peer| assert_eq!(peer.ask(b"a"), b"a"));
        engine.reconfigure(&keep(id, &["max_amplification=1", "chain=hex"])).unwrap();
        noticed(&engine);
        peers.iter().for_each(|peer| peer.send(b"a"));
        eventually_stats(&engine, "answers of twice the length are dropped", |stats| stats.dropped == 16);
        engine.reconfigure(&keep(id, &["max_amplification=2", "chain=hex"])).unwrap();
        noticed(&engine);
        peers.iter().for_each(|peer| assert_eq!(peer.ask_for(b"a", 2), b"61"));
        finish(engine);
    });
}

#[test]
fn what_fails_changes_nothing() {
    isolated(|| {
        let (engine, id, url) = start("tcp://127.0.0.1:0", 2);
        let peer = Peer::connect(&url);
        assert_eq!(peer.ask(b"a"), b"a");
        let before = (descriptors(), engine.listeners(), engine.chain());
        let open = |url: &str| Listen::parse(url, &Options::default()).unwrap();
        let good = Reconfiguration {
            chain: "uppercase".to_owned(),
            open: vec![open("tcp://127.0.0.1:0"), open("udp://127.0.0.1:0")],
            keep: vec![(id, options(&["idle_timeout=1ms"]))],
            close: Vec::new(),
        };
        let with = |change: &dyn Fn(&mut Reconfiguration)| {
            let mut wanted = good.clone();
            change(&mut wanted);
            wanted
        };
        let table = [
            with(&|wanted| wanted.chain = "uppercas".to_owned()),
            with(&|wanted| wanted.chain = "a ||".to_owned()),
            with(&|wanted| wanted.open.push(open(&url))),
            with(&|wanted| wanted.open.push(open("tcp://127.0.0.1:0?frame=fixed:9&max_message=8"))),
            with(&|wanted| wanted.open.push(open("tcp://127.0.0.1:0?chain=uppercas"))),
            with(&|wanted| wanted.keep[0].1 = options(&["backlog=7"])),
            with(&|wanted| wanted.keep[0].1 = options(&["frame=fixed:9", "max_message=8"])),
            with(&|wanted| wanted.keep[0].1 = options(&["chain=uppercas"])),
            with(&|wanted| wanted.keep.push((ListenerId::from_number(u64::MAX), Options::default()))),
            with(&|wanted| wanted.close.push(ListenerId::from_number(u64::MAX))),
        ];
        for (number, wanted) in table.iter().enumerate() {
            engine.reconfigure(wanted).unwrap_err();
            noticed(&engine);
            assert_eq!((descriptors(), engine.listeners(), engine.chain()), before, "{number}");
            assert_eq!(peer.ask(b"a"), b"a", "{number}");
        }
        let opened = engine.reconfigure(&good).unwrap();
        assert_eq!(opened.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1]);
        noticed(&engine);
        assert_eq!(peer.ask(b"a"), b"A");
        let new = engine.listener(opened[0][0]).unwrap();
        assert_eq!(Peer::connect(&new.url).ask(b"a"), b"A");
        // One that is closed leaves its connections alone.
        let close = Reconfiguration { close: vec![id], ..Reconfiguration::default() };
        engine.reconfigure(&close).unwrap();
        assert!(Peer::try_connect(&url).is_err());
        assert_eq!(peer.ask(b"a"), b"A");
        drop(peer);
        engine.drain(Duration::from_secs(5)).unwrap();
        drop(engine);
    });
}

#[test]
fn one_option_is_changed_and_the_others_stay() {
    isolated(|| {
        let (engine, id, url) = start("tcp://127.0.0.1:0?max_connections=7&chain=uppercase", 2);
        let old = Peer::connect(&url);
        assert_eq!(old.ask(b"a"), b"A");
        engine.set_listener_option(id, "max_connections", "1").unwrap();
        engine.set_listener_option(id, "nodelay", "0").unwrap();
        noticed(&engine);
        for (key, value) in [("max_connections", "1"), ("nodelay", "0"), ("chain", "uppercase")] {
            assert_eq!(engine.listener_option(id, key).unwrap().as_deref(), Some(value), "{key}");
        }
        assert_eq!(old.ask(b"b"), b"B");
        assert_eq!(Peer::connect(&url).to_end(), b"");
        engine.set_listener_option(id, "max_connections", "2").unwrap();
        noticed(&engine);
        assert_eq!(Peer::connect(&url).ask(b"c"), b"C");
        for (key, value) in [("max_conections", "1"), ("max_connections", "many"), ("backlog", "3")] {
            assert!(engine.set_listener_option(id, key, value).is_err(), "{key}={value}");
        }
        assert!(engine.set_listener_option(ListenerId::from_number(u64::MAX), "nodelay", "0").is_err());
        drop(old);
        finish(engine);
    });
}
