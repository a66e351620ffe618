//! Chains that change under load: every answer is whole, in order, and of one generation.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use resay::{Client, SocketKind};

use crate::ctl::{Controlled, say};
use crate::process::PATIENCE;

/// How many swaps, if `RESAY_SWAPS` does not say.
const SWAPS: usize = 1_000;
/// After so many, the next one is made by `resay ctl`, and not over its socket alone.
const SWAPS_PER_COMMAND: usize = 50;
/// Messages that a client has under way. Datagrams may be lost where there are more than one.
const WINDOW: u64 = 16;
/// Whatever the way, in place, through memory of their own, or later, each answers as one of the first two.
const CHAINS: [&str; 7] = [
    "uppercase",
    "identity",
    "identity | uppercase",
    "hex | hex:mode=decode",
    "uppercase:unicode=1",
    "identity | identity",
    "delay:time=1ms,jitter=1ms | uppercase",
];
/// What cannot be created, after a transform that could.
const BROKEN: &str = "identity | uppercase:unicode=maybe";
/// What the server may have grown by, in the course of any number of swaps.
const GROWTH_KIB_MAX: u64 = 8 * 1024;

/// What a client has seen.
#[derive(Debug, Default)]
struct Seen {
    identity: u64,
    uppercase: u64,
    /// How often an answer was of another generation than the one before.
    changes: u64,
}

impl Seen {
    fn count(&self) -> u64 {
        self.identity + self.uppercase
    }

    fn take(&mut self, answer: &[u8], message: &[u8], was_uppercase: &mut bool) {
        let is_uppercase = answer != message;
        if is_uppercase {
            assert_eq!(answer, message.to_ascii_uppercase(), "{}", answer.escape_ascii());
            self.uppercase += 1;
        } else {
            self.identity += 1;
        }
        self.changes += u64::from(is_uppercase != *was_uppercase);
        *was_uppercase = is_uppercase;
    }
}

fn message(kind: SocketKind, number: u64) -> Vec<u8> {
    // Of every length up to some hundred bytes.
    let filling = "and so on ".repeat((number % 64) as usize);
    format!("message {number} over {kind:?} {filling}\n").into_bytes()
}

/// Sends numbered messages until it is told to end, and compares what comes back.
fn talk(url: &str, end: &AtomicBool) -> Seen {
    let client = Client::open(url, Some(PATIENCE)).unwrap();
    let kind = client.kind();
    let window = if kind.is_datagram() { 1 } else { WINDOW };
    let mut seen = Seen::default();
    let (mut number, mut was_uppercase) = (0, false);
    let (mut received, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    while !end.load(Ordering::Relaxed) {
        let messages: Vec<_> = (number..number + window).map(|number| message(kind, number)).collect();
        number += window;
        match kind {
            // Now and then a message is cut in two, so that a swap may come in between.
            SocketKind::Tcp | SocketKind::UnixStream => {
                let all = messages.concat();
                let (first, second) = all.split_at(number as usize % all.len());
                client.send(first, Some(PATIENCE)).unwrap();
                client.send(second, Some(PATIENCE)).unwrap();
            }
            _ => messages.iter().for_each(|message| client.send(message, Some(PATIENCE)).unwrap()),
        }
        for message in &messages {
            if kind.is_datagram() || kind == SocketKind::UnixSeqpacket {
                let count = client.recv(&mut buffer, Some(PATIENCE)).unwrap();
                seen.take(&buffer[..count], message, &mut was_uppercase);
                continue;
            }
            while received.len() < message.len() {
                let count = client.recv(&mut buffer, Some(PATIENCE)).unwrap();
                assert_ne!(count, 0, "the server has ended the connection");
                received.extend_from_slice(&buffer[..count]);
            }
            let rest = received.split_off(message.len());
            seen.take(&received, message, &mut was_uppercase);
            received = rest;
        }
    }
    assert!(received.is_empty(), "{}", received.escape_ascii());
    seen
}

/// Swaps chains, and tries some that cannot be. The sizes of the server on the way, in KiB.
fn swap(controlled: &Controlled, swaps: usize) -> Vec<u64> {
    let mut sizes = Vec::new();
    for swap in 0..swaps {
        let chain = CHAINS[swap % CHAINS.len()];
        // Now the engine's chain, now that of the last listener.
        let last = controlled.server.urls.len();
        let listener = if swap % 3 == 2 { last } else { 0 };
        if swap % SWAPS_PER_COMMAND == 0 {
            controlled.ask(&["chain", &listener.to_string(), chain]);
            let output = controlled.ctl(&["chain", "all", BROKEN]);
            assert_eq!(output.code, Some(6), "{}", output.stderr);
            sizes.push(resident_kib(controlled));
        } else {
            let answer = say(&controlled.path, format!("chain {listener} {chain}\n").as_bytes());
            assert!(answer.starts_with("ok\n"), "{answer}");
        }
        if swap % 5 == 0 {
            let answer = say(&controlled.path, format!("chain {listener} {BROKEN}\n").as_bytes());
            assert!(answer.starts_with("error 6 "), "{answer}");
        }
    }
    sizes.push(resident_kib(controlled));
    sizes
}

fn resident_kib(controlled: &Controlled) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", controlled.server.process.0.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn no_message_sees_two_chains_while_they_are_swapped() {
    let swaps =
        std::env::var("RESAY_SWAPS").map_or(SWAPS, |text| text.parse().expect("RESAY_SWAPS: a number"));
    let directory = tempfile::tempdir().unwrap();
    let place = |scheme: &str, name: &str| format!("{scheme}:{}", directory.path().join(name).display());
    let urls = [
        "tcp://127.0.0.1:0?frame=lines",
        &(place("unix", "s") + "?frame=lines"),
        &place("unix-seqpacket", "q"),
        "udp://127.0.0.1:0",
        "tcp://127.0.0.1:0?frame=lines&chain=identity",
    ];
    let controlled = Controlled::start(&urls, &["-q", "--threads", "2"]);
    let end = AtomicBool::new(false);
    let since = Instant::now();
    let (seen, sizes) = thread::scope(|scope| {
        // Two a listener, so that both workers have connections of each kind.
        let talks: Vec<_> = (controlled.server.urls.iter().chain(&controlled.server.urls))
            .map(|url| (url, scope.spawn(|| talk(url, &end))))
            .collect();
        let ending = Ending(&end);
        let sizes = swap(&controlled, swaps);
        drop(ending);
        let mut seen: BTreeMap<&str, Vec<Seen>> = BTreeMap::new();
        for (url, talk) in talks {
            seen.entry(url).or_default().push(talk.join().unwrap());
        }
        (seen, sizes)
    });
    let took = since.elapsed();

    let stats = settled(&controlled);
    for listener in stats["listeners"].as_array().unwrap() {
        let of = |key: &str| listener[key].as_u64().unwrap();
        let seen = &seen[listener["url"].as_str().unwrap()];
        let sent: u64 = seen.iter().map(Seen::count).sum();
        assert_eq!((of("messages_in"), of("messages_out"), of("dropped")), (sent, sent, 0), "{listener}");
        assert_eq!(of("bytes_in"), of("bytes_out"), "{listener}");
        let connections = if listener["url"].as_str().unwrap().starts_with("udp") { 0 } else { 2 };
        assert_eq!((of("accepted"), of("closed"), of("open")), (connections, connections, 0), "{listener}");
        assert_eq!(listener["closed_by"]["peer_closed"], connections, "{listener}");
        assert_eq!((of("transform_errors"), of("undelivered_bytes")), (0, 0), "{listener}");
        for seen in seen {
            assert!(seen.identity > 0 && seen.uppercase > 0, "{listener}: {seen:?}");
        }
    }
    // The engine, the allocator and the kernel have what they need after the first quarter.
    let (warm, last) = (sizes[sizes.len() / 4], sizes[sizes.len() - 1]);
    let messages: u64 = seen.values().flatten().map(Seen::count).sum();
    let changes: u64 = seen.values().flatten().map(|seen| seen.changes).sum();
    println!(
        "{swaps} swaps in {took:.1?}: {messages} answers, {changes} times of another chain than the one before; \
         resident at first {} KiB, after a quarter {warm} KiB, at the end {last} KiB, at most {} KiB",
        sizes[0],
        sizes.iter().max().unwrap(),
    );
    assert!(last < warm + GROWTH_KIB_MAX, "from {warm} to {last} KiB: {sizes:?}");
    assert_eq!(controlled.server.end(), "");
}

/// Ends the clients, also when what they are swapped by fails.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The counters when the last connection is over.
fn settled(controlled: &Controlled) -> serde_json::Value {
    crate::process::wait_until("every connection is closed", || {
        let stats = controlled.json(&["stats"]);
        (stats["totals"]["open"] == 0).then_some(stats)
    })
}

#[test]
fn a_connection_that_is_idle_goes_over_too() {
    let controlled = Controlled::start(&["tcp://127.0.0.1:0?frame=lines"], &["-q"]);
    let client = Client::open(controlled.server.url(), Some(PATIENCE)).unwrap();
    let mut buffer = [0; 64];
    let mut ask = |question: &[u8]| {
        client.send(question, Some(PATIENCE)).unwrap();
        let count = client.recv(&mut buffer, Some(PATIENCE)).unwrap();
        buffer[..count].to_vec()
    };
    assert_eq!(ask(b"Hello\n"), b"Hello\n");
    // Half a line arrives under the old chain, and is a message under the new one.
    client.send(b"wor", Some(PATIENCE)).unwrap();
    crate::process::wait_until("the half has come", || {
        (controlled.json(&["stats"])["totals"]["bytes_in"] == 9).then_some(())
    });
    controlled.ask(&["chain", "1", "uppercase"]);
    assert_eq!(ask(b"ld\n"), b"WORLD\n");
    controlled.server.end();
}
