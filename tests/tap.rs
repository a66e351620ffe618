//! Taps: whoever has read an answer finds the record of its message, on every transport.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::*;
use resay::{
    CloseReason, DropReason, Engine, Error, Message, Output, SocketKind, Tap, TapOptions, TapOutcome,
    TapRecord, Transform, Verdict,
};

/// Round trips of each test that counts them; `RESAY_TAP_ROUNDS` asks for more.
fn rounds() -> usize {
    std::env::var("RESAY_TAP_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(40)
}

/// A record, kept.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    sequence: u64,
    connection: u64,
    listener: u64,
    outcome: TapOutcome,
    data: Vec<u8>,
    answer: Vec<u8>,
    peer: resay::Peer,
}

fn kept(record: &TapRecord<'_>) -> Kept {
    Kept {
        sequence: record.sequence,
        connection: record.connection,
        listener: record.listener_id,
        outcome: record.outcome,
        data: record.data.to_vec(),
        answer: record.answer.to_vec(),
        peer: record.peer(),
    }
}

/// All records that are there now.
#[track_caller]
fn read_now(tap: &Tap) -> Vec<Kept> {
    let mut all = Vec::new();
    let mut take = |record: &TapRecord<'_>| {
        all.push(kept(record));
        true
    };
    while tap.read(Some(Duration::ZERO), &mut take).unwrap() > 0 {}
    all
}

/// Waits for one record.
#[track_caller]
fn read_one(tap: &Tap) -> Kept {
    let mut found = None;
    let taken = tap.read(Some(PATIENCE), |record| {
        let is_first = found.is_none();
        if is_first {
            found = Some(kept(record));
        }
        is_first
    });
    assert_eq!(taken.unwrap(), 1);
    found.unwrap()
}

const ANSWERS: TapOptions =
    TapOptions { answers: true, listener: None, capacity_bytes: 0, data_bytes_max: 0 };

/// Does what the message says.
fn obedient() -> Transform {
    let call = |message: &Message<'_>, out: &mut Output<'_>| match message.first() {
        Some(b'D') => Verdict::Drop,
        Some(b'C') => {
            out.write(message);
            Verdict::Close
        }
        Some(b'R') => Verdict::Reset,
        Some(b'F') => Verdict::Fail(1),
        Some(b'G') => {
            out.write(message);
            out.write(message);
            Verdict::Replace
        }
        _ => Verdict::Pass,
    };
    Transform::from_fn("obedient", call).unwrap()
}

/// An engine with one listener and one worker.
fn serve_with(url: &str, chain: &str, options: &str) -> (Engine, String) {
    let engine = engine_builder()
        .register(obedient())
        .register(Transform::from_table(&OFFLOADED).unwrap())
        .listen(&format!("{url}{}{options}", if options.is_empty() { "" } else { "?" }))
        .unwrap()
        .chain(chain)
        .unwrap()
        .start()
        .unwrap();
    let url = engine.urls().remove(0);
    (engine, url)
}

/// In place, changed, in reverse, longer, later, elsewhere, by a function, and through stages that pass it on.
const CHAINS: [&str; 8] = [
    "",
    "uppercase",
    "uppercase | reverse",
    "hex",
    "delay:time=50us | uppercase",
    "offloaded",
    "obedient",
    "identity | prefix:text=>> | obedient",
];

#[test]
fn whoever_has_read_an_answer_finds_its_record() {
    isolated(|| {
        for transport in Transport::all() {
            for frame in ["raw", "lines", "varint"] {
                let is_framed = frame != "raw";
                if is_framed && !transport.is_stream() {
                    continue;
                }
                for chain in CHAINS {
                    let directory = directory();
                    let options = if is_framed { format!("frame={frame}") } else { String::new() };
                    let (engine, url) = serve_with(&transport.url(directory.path()), chain, &options);
                    let tap = engine.tap(ANSWERS).unwrap();
                    let peer = Peer::connect(&url);
                    let mut late = 0;
                    for round in 0..rounds() {
                        let message = format!("G message {round} {}", "x".repeat(round % 90)).into_bytes();
                        let expected = answer_of(chain, &message);
                        let [asked, answered] =
                            [&message, &expected].map(|bytes| plugin::framed(frame, bytes));
                        assert_eq!(peer.ask_for(&asked, answered.len()), answered, "{transport:?} {chain}");
                        let found = read_now(&tap);
                        late += usize::from(found.is_empty());
                        for record in found {
                            assert_eq!(record.outcome, TapOutcome::Answered);
                            assert_eq!((record.data, record.answer), (message.clone(), expected.clone()));
                            assert_eq!(record.connection == 0, !transport.is_connected());
                            assert_eq!(record.sequence, round as u64 + 1);
                        }
                    }
                    assert_eq!((late, tap.lost()), (0, 0), "{transport:?} {frame} {chain}");
                    drop(peer);
                    finish(engine);
                }
            }
        }
    });
}

/// What a chain of [`CHAINS`] makes of a message that begins with a G.
fn answer_of(chain: &str, message: &[u8]) -> Vec<u8> {
    let mut answer = message.to_vec();
    for stage in chain.split(" | ") {
        match stage.split(':').next().unwrap_or_default() {
            "uppercase" | "offloaded" => answer.make_ascii_uppercase(),
            "reverse" => answer.reverse(),
            "hex" => answer = answer.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect(),
            "prefix" => answer = [b">>", answer.as_slice()].concat(),
            "obedient" if answer.starts_with(b"G") => answer = answer.repeat(2),
            _ => {}
        }
    }
    answer
}

#[test]
fn records_say_what_became_of_a_message() {
    isolated(|| {
        for transport in Transport::all() {
            let directory = directory();
            let frame = if transport.is_stream() { "frame=lines&" } else { "" };
            let options = format!("{frame}max_message=40");
            let (engine, url) = serve_with(&transport.url(directory.path()), "obedient", &options);
            let tap = engine.tap(ANSWERS).unwrap();
            let newline = if transport.is_stream() { "\n" } else { "" };
            let ask = |message: &str| {
                let peer = Peer::connect(&url);
                peer.send(format!("{message}{newline}").as_bytes());
                let record = read_one(&tap);
                assert_eq!(record.data, message.as_bytes(), "{transport:?}");
                (peer, (record.outcome, String::from_utf8(record.answer).unwrap()))
            };
            let dropped = (TapOutcome::Dropped(DropReason::ByTransform), String::new());
            let ended = |outcome: fn(CloseReason) -> TapOutcome| match transport.is_connected() {
                true => (outcome(CloseReason::TransformClosed), String::new()),
                false => dropped.clone(),
            };
            assert_eq!(ask("pass").1, (TapOutcome::Answered, "pass".into()), "{transport:?}");
            assert_eq!(ask("Grow").1, (TapOutcome::Answered, "GrowGrow".into()));
            assert_eq!(ask("Drop").1, dropped);
            assert_eq!(ask("Reset").1, ended(TapOutcome::Reset));
            assert_eq!(ask("Fail").1, (TapOutcome::Failed(DropReason::TransformFailed), String::new()));
            let closed = match transport.is_connected() {
                true => TapOutcome::Closed(CloseReason::TransformClosed),
                false => TapOutcome::Answered,
            };
            assert_eq!(ask("Close").1, (closed, "Close".into()));

            let peer = Peer::connect(&url);
            peer.send(&[b'x'; 100]);
            let record = read_one(&tap);
            assert_eq!(record.outcome, TapOutcome::Dropped(DropReason::TooLong), "{transport:?}");
            assert!(record.data.starts_with(&[b'x'; 40]) && record.answer.is_empty());
            drop(peer);
            assert_eq!((read_now(&tap), tap.lost()), (Vec::new(), 0), "{transport:?}");
            let stats = finish(engine);
            assert_eq!(stats.messages_in, 7);
        }
    });
}

#[test]
fn what_no_transform_sees_has_a_record() {
    isolated(|| {
        let directory = directory();
        let transport = Transport::UnixDatagram;
        let (engine, url) = serve_with(&transport.url(directory.path()), "obedient", "");
        let tap = engine.tap(TapOptions::default()).unwrap();
        let nobody = UnixDatagram::unbound().unwrap();
        nobody.send_to(b"who am I", directory.path().join("datagrams.sock")).unwrap();
        let record = read_one(&tap);
        assert_eq!(record.outcome, TapOutcome::Unsendable(DropReason::Unnamed));
        assert_eq!((record.data, record.peer), (b"who am I".to_vec(), resay::Peer::Unnamed));
        assert_answers(&url);
        finish(engine);

        // An unfinished frame, at the end of its stream and where the connection breaks.
        for ends in [true, false] {
            let (engine, url) = serve_with("tcp://127.0.0.1:0", "", "frame=len16be");
            let tap = engine.tap(TapOptions::default()).unwrap();
            let peer = Peer::connect(&url);
            peer.send(b"\x00\x05some");
            if ends {
                peer.half_close();
                assert_eq!(peer.to_end(), b"");
            } else {
                eventually_stats(&engine, "it is read", |stats| stats.bytes_in == 6);
                peer.reset();
            }
            let record = read_one(&tap);
            assert_eq!(record.outcome, TapOutcome::Dropped(DropReason::Undelivered));
            assert_eq!(record.data, b"\x00\x05some");
            assert_eq!(finish(engine).messages_in, 1);
        }

        let (engine, url) = serve_with("udp://127.0.0.1:0", "obedient", "max_amplification=1");
        let tap = engine.tap(ANSWERS).unwrap();
        let peer = Peer::connect(&url);
        peer.send(b"Grow");
        let record = read_one(&tap);
        assert_eq!(record.outcome, TapOutcome::Dropped(DropReason::Amplified));
        assert_eq!((record.data, record.answer), (b"Grow".to_vec(), Vec::new()));
        finish(engine);
    });
}

/// As many records as messages, each once and in order, whatever the chain, while several workers are busy.
#[test]
fn there_is_a_record_for_each_message_of_a_busy_engine() {
    isolated(|| {
        for chain in ["", "uppercase", "hex", "offloaded", "delay:time=100us"] {
            let directory = directory();
            let mut builder = engine_builder()
                .threads(2)
                .unwrap()
                .register(Transform::from_table(&OFFLOADED).unwrap())
                .chain(chain)
                .unwrap();
            let transports = Transport::all();
            for transport in &transports {
                let frame = if transport.is_stream() { "?frame=lines" } else { "" };
                builder = builder.listen(&format!("{}{frame}", transport.url(directory.path()))).unwrap();
            }
            let engine = builder.start().unwrap();
            let tap = engine.tap(TapOptions { capacity_bytes: 64 << 20, ..ANSWERS }).unwrap();
            let growth = if chain == "hex" { 2 } else { 1 };
            let count = rounds().min(200);
            thread::scope(|scope| {
                for (transport, url) in transports.iter().zip(engine.urls()) {
                    for peer in 0..3 {
                        let url = url.clone();
                        scope.spawn(move || talk(&url, *transport, peer, count, growth));
                    }
                }
            });
            engine.stop();
            engine.join(PATIENCE).unwrap();
            let (mut last, mut sums) = (0, BTreeMap::<u64, u64>::new());
            let mut next = BTreeMap::<(u64, u64, String), usize>::new();
            let ended = loop {
                let read = tap.read(None, |record| {
                    assert_eq!(record.sequence, last + 1);
                    last += 1;
                    *sums.entry(record.listener_id).or_default() += 1;
                    assert_eq!(record.outcome, TapOutcome::Answered);
                    let (peer, number) = std::str::from_utf8(record.data).unwrap().split_once(' ').unwrap();
                    let key = (record.listener_id, record.connection, peer.to_owned());
                    let expected = next.entry(key).or_default();
                    // Datagrams of threads that may be blocked overtake each other.
                    if record.connection != 0 || chain != "offloaded" {
                        assert_eq!(number.trim().parse::<usize>().unwrap(), *expected);
                    }
                    *expected += 1;
                    true
                });
                if let Err(error) = read {
                    break error;
                }
            };
            assert!(matches!(ended, Error::State(_)));
            assert_eq!(tap.lost(), 0);
            for listener in engine.listeners() {
                let stats = engine.listener_stats(listener.id).unwrap();
                assert_eq!(sums.get(&listener.id.number()), Some(&stats.messages_in), "{}", listener.url);
            }
        }
    });
}

fn talk(url: &str, transport: Transport, number: usize, count: usize, growth: usize) {
    let peer = Peer::connect(url);
    let mut at = 0;
    while at < count {
        // Several at once: of a stream they come in one read.
        let upto = (at + 1 + number * 5).min(count);
        let messages = (at..upto).map(|n| format!("{number} {n:08}"));
        if transport.is_stream() {
            let lines: String = messages.map(|message| message + "\n").collect();
            let len = lines.len() - (upto - at);
            assert_eq!(
                peer.ask_for(lines.as_bytes(), len * growth + (upto - at)).len(),
                len * growth + upto - at
            );
        } else {
            messages.clone().for_each(|message| peer.send(message.as_bytes()));
            messages.for_each(|message| assert_eq!(peer.message().len(), message.len() * growth));
        }
        at = upto;
    }
}

/// A burst that arrives as one run (`UDP_GRO`, udp(7)) is so many datagrams, and so many records.
#[test]
fn each_datagram_of_a_run_has_a_record() {
    isolated(|| {
        for chain in ["", "uppercase", "hex"] {
            let (engine, url) = serve("udp://127.0.0.1:0", chain);
            let tap = engine.tap(ANSWERS).unwrap();
            let peer = Peer::connect(&url);
            if try_set_option(&peer.socket, libc::SOL_UDP, libc::UDP_SEGMENT, 10).is_err() {
                return skipped("UDP_SEGMENT: this kernel has none");
            }
            let burst: Vec<u8> = (0..305).map(|at| b'a' + (at / 10 % 26) as u8).collect();
            peer.send(&burst);
            let answers: Vec<_> = burst.chunks(10).map(|_| peer.message()).collect();
            let found: Vec<_> =
                read_now(&tap).into_iter().map(|record| (record.data, record.answer)).collect();
            let expected: Vec<_> = burst.chunks(10).map(<[u8]>::to_vec).zip(answers).collect();
            assert_eq!(found, expected);
            assert_eq!((finish(engine).messages_in, tap.lost()), (31, 0));
        }
    });
}

#[test]
fn taps_come_and_go_while_messages_flow() {
    isolated(|| {
        let engine = engine_builder()
            .threads(2)
            .unwrap()
            .listen("tcp://127.0.0.1:0?frame=lines")
            .unwrap()
            .listen("udp://127.0.0.1:0")
            .unwrap()
            .chain("uppercase")
            .unwrap()
            .start()
            .unwrap();
        let ids: Vec<_> = engine.listeners().iter().map(|listener| listener.id).collect();
        let urls = engine.urls();
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            for url in &urls {
                scope.spawn(|| {
                    let peer = Peer::connect(url);
                    while !is_over.load(Ordering::Relaxed) {
                        assert_eq!(peer.ask(b"noise\n"), b"NOISE\n");
                    }
                });
            }
            for round in 0..rounds() {
                let place = round % 2;
                let all = engine.tap(TapOptions::default()).unwrap();
                let one = engine.tap(TapOptions { listener: Some(ids[place]), ..ANSWERS }).unwrap();
                let peer = Peer::connect(&urls[place]);
                let message = format!("round {round}\n");
                peer.ask(message.as_bytes());
                let of = |records: Vec<Kept>| {
                    let is_mine = |record: &Kept| record.data.starts_with(message.trim_end().as_bytes());
                    let others = records.iter().any(|record| record.listener != ids[place].number());
                    (records.iter().filter(|record| is_mine(record)).count(), others)
                };
                assert_eq!(of(read_now(&one)), (1, false));
                drop(one);
                assert_eq!(of(read_now(&all)).0, 1);
            }
            is_over.store(true, Ordering::Relaxed);
        });
        finish(engine);
    });
}

#[test]
fn a_tap_outlives_its_engine_and_a_reader_hears_of_the_end() {
    isolated(|| {
        let (engine, url) = serve("tcp://127.0.0.1:0", "");
        let tap = engine.tap(TapOptions::default()).unwrap();
        assert_answers(&url);
        thread::scope(|scope| {
            let reading = scope.spawn(|| {
                let mut kinds = Vec::new();
                loop {
                    let read = tap.read(None, |record| {
                        kinds.push(record.kind);
                        true
                    });
                    if let Err(error) = read {
                        assert!(matches!(error, Error::State(_)));
                        return kinds;
                    }
                }
            });
            finish(engine);
            assert_eq!(reading.join().unwrap(), [SocketKind::Tcp]);
        });
        assert!(matches!(tap.read(Some(Duration::ZERO), |_| true), Err(Error::State(_))));

        // One that never ran.
        let engine = engine_builder().build().unwrap();
        let tap = engine.tap(TapOptions::default()).unwrap();
        assert_eq!(tap.read(Some(Duration::from_millis(1)), |_| true).unwrap(), 0);
        let unknown = TapOptions { listener: Some(resay::ListenerId::from_number(u64::MAX)), ..ANSWERS };
        assert!(matches!(engine.tap(unknown), Err(Error::Handle(_))));
        drop(engine);
        assert!(matches!(tap.read(None, |_| true), Err(Error::State(_))));
    });
}

/// Nobody reads: nobody waits, and what is lost is counted.
#[test]
fn a_full_tap_holds_nobody_up() {
    isolated(|| {
        let directory = directory();
        let (engine, url) = serve(&Transport::Seqpacket.url(directory.path()), "uppercase");
        let tap = engine.tap(TapOptions { capacity_bytes: 4096, ..TapOptions::default() }).unwrap();
        let peer = Peer::connect(&url);
        for _ in 0..200 {
            assert_eq!(peer.ask(b"more"), b"MORE");
        }
        let found = read_now(&tap);
        assert_eq!(found.len() as u64 + tap.lost(), 200);
        assert!(found.len() > 10 && tap.lost() > 10);
        peer.ask(b"again");
        assert_eq!(read_now(&tap)[0].sequence, 201);
        drop(peer);
        finish(engine);
    });
}
