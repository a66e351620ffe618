//! Connections without a driver: what goes in, and what comes out.

mod around;
mod ends;
mod functions;
mod greetings;
mod held;
mod swaps;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::buffer::Pool;
use crate::chain::Scratch;
use crate::chain::tests::kit::generation;
use crate::frame::Framer;
use crate::later::{Owner, TicketIssuer, Tickets};
use crate::limits::{LINGER, READ_BYTES_MAX, TURN_MESSAGES, TURN_SENDS};
use crate::net::guard::Amplification;
use crate::options::{MinRate, Options};
use crate::peer::SocketKind;
use crate::slab::Token;
use crate::stats::{Block, Stats};
use crate::tap::Recorder;
use crate::transform::library::LocalEnd;

/// A connection, and a kernel that takes as many bytes as it is told to.
struct Bench {
    connection: Connection,
    limits: ConnLimits,
    current: Arc<Generation>,
    pool: Pool,
    scratch: Scratch,
    stats: Block,
    recorder: Recorder,
    tickets: Arc<Tickets>,
    now: Moment,
    /// Bytes that the kernel takes before the peer reads on.
    window: usize,
    in_flight: Option<Vec<u8>>,
    unsent: usize,
    /// What the peer has received, a send each.
    sent: Vec<Vec<u8>>,
    is_reading: bool,
    has_shut_down: bool,
    closed: Option<(CloseReason, Close)>,
    /// The most that its input and output have cost.
    cost_max: usize,
    /// The most sends that a step has made.
    sends_max: usize,
}

/// In place of a frame: a connection of records.
const RECORDS: (&str, &str) = ("frame", "records");
const FRAMES: [&str; 6] = ["records", "raw", "lines", "len16be", "varint", "delim:0d0a"];

/// A message as it comes in such a frame, and its answer.
fn framed(frame: &str, message: &[u8]) -> Vec<u8> {
    let (len, end) = (message.len(), &b""[..]);
    let (head, end) = match frame {
        "len16be" => (vec![(len >> 8) as u8, len as u8], end),
        "varint" if len >= 128 => (vec![len as u8 | 0x80, (len >> 7) as u8], end),
        "varint" => (vec![len as u8], end),
        "lines" => (Vec::new(), &b"\n"[..]),
        "delim:0d0a" => (Vec::new(), &b"\r\n"[..]),
        _ => (Vec::new(), end),
    };
    [&head, message, end].concat()
}

fn limits(options: &[(&str, &str)]) -> ConnLimits {
    let mut all = Options::default();
    let records = options.contains(&RECORDS);
    options.iter().filter(|option| **option != RECORDS).for_each(|(key, value)| all.set(key, value).unwrap());
    let message_bytes_max = all.max_message_bytes.unwrap_or(1024 * 1024);
    ConnLimits {
        local: LocalEnd {
            kind: SocketKind::Tcp,
            url: "tcp://127.0.0.1:1".to_owned(),
            listener: 1,
            address: Peer::Unnamed,
            answer_bytes_max: message_bytes_max.max(READ_BYTES_MAX) * 16,
        },
        framer: Framer::new(&all.frame, message_bytes_max),
        records,
        amplification: Amplification::UNLIMITED,
        read_bytes_max: READ_BYTES_MAX.min(all.high_water_bytes.max(1024)),
        high_water_bytes: all.high_water_bytes,
        min_rate: all.min_rate,
        idle_timeout: all.idle_timeout,
        write_timeout: all.write_timeout,
        swap_timeout: all.swap_timeout,
    }
}

impl Bench {
    fn new(chain: &str, options: &[(&str, &str)]) -> Bench {
        Bench::around(chain, options, None)
    }

    fn around(chain: &str, options: &[(&str, &str)], around: Option<Around>) -> Bench {
        let (limits, current) = (limits(options), generation(chain));
        let session = Session::unopened(current.stages()).unwrap();
        let now = Moment::from_micros(1_000_000);
        let parts = (Arc::clone(&current), session);
        let connection =
            Connection::new(1, 0, Peer::Unnamed, parts, (None, around.map(Box::new)), &limits, now);
        let mut bench = Bench {
            connection,
            limits,
            current,
            pool: Pool::default(),
            scratch: Scratch::default(),
            recorder: Recorder::new(&Arc::default()),
            tickets: Arc::default(),
            stats: Block::default(),
            now,
            window: usize::MAX,
            in_flight: None,
            unsent: 0,
            sent: Vec::new(),
            is_reading: true,
            has_shut_down: false,
            closed: None,
            cost_max: 0,
            sends_max: 0,
        };
        bench.step(Connection::accepted);
        bench
    }

    /// What a worker does with a connection, with a kernel of this bench's.
    fn step(&mut self, enter: impl FnOnce(&mut Connection, &mut Context<'_>) -> Step) {
        if self.closed.is_some() {
            return;
        }
        let issuer = TicketIssuer {
            tickets: &self.tickets,
            owner: Owner { worker: 0, socket: Token::new(0, 0) },
            waiting_bytes_max: self.limits.high_water_bytes,
            order: None,
        };
        let mut cx = Context {
            limits: &self.limits,
            current: &self.current,
            pool: &mut self.pool,
            scratch: &mut self.scratch,
            stats: &self.stats,
            recorder: &mut self.recorder,
            now: self.now,
            sends_left: TURN_SENDS,
            may_block: false,
            issuer: Some(issuer),
            is_draining: false,
        };
        let connection = &mut self.connection;
        let mut step = enter(connection, &mut cx);
        let mut sends = 0;
        loop {
            let rare = step.rare.take().unwrap_or_default();
            match rare.reading {
                Reading::AsBefore => {}
                Reading::Pause => self.is_reading = false,
                Reading::Resume => self.is_reading = true,
            }
            if rare.has_delays {
                connection.schedule(Duration::ZERO);
            }
            self.has_shut_down |= rare.shuts_down;
            if let Some(closing) = rare.close {
                connection.close(self.unsent, &mut cx);
                self.stats.closed(closing.reason);
                self.closed = Some((closing.reason, closing.how));
                return;
            }
            if rare.is_identified {
                step = connection.identified(None, &mut cx);
                continue;
            }
            let bytes = match step.send {
                Send::Nothing => break,
                Send::RecvBuf(_) => unreachable!("see receive"),
                Send::Owned(bytes) => bytes,
            };
            assert!(
                self.in_flight.is_none() && !self.has_shut_down,
                "one send at a time, none after the end"
            );
            cx.sends_left = cx.sends_left.saturating_sub(1);
            sends += 1;
            let taken = bytes.len().min(self.window);
            self.window -= taken;
            self.unsent = bytes.len() - taken;
            if self.unsent == 0 {
                self.sent.push(bytes);
                step = connection.sent(&mut cx).unwrap_or_default();
            } else {
                self.in_flight = Some(bytes);
                step = connection.sending(self.unsent, &mut cx);
            }
        }
        let wants_turn = connection.wants_turn(&cx);
        self.sends_max = self.sends_max.max(sends);
        self.cost_max = self.cost_max.max(connection.cost());
        #[cfg(debug_assertions)]
        connection.check(&self.limits, &self.current);
        if wants_turn {
            self.step(Connection::go_on);
        }
    }

    fn receive(&mut self, bytes: &[u8]) {
        assert!(self.is_reading, "a paused connection receives nothing");
        let mut buffer = [&[0; 16], bytes].concat();
        self.step(|connection, cx| {
            let mut step = connection.received(RecvBuf { buffer: &mut buffer, start: 16 }, cx);
            if let Send::RecvBuf(range) = step.send {
                step.send = Send::Owned(buffer[range].to_vec());
            }
            step
        });
    }

    /// The peer takes so many bytes, and all that this lets go on.
    fn peer_reads(&mut self, bytes: usize) {
        self.window = bytes;
        while let Some(bytes) = self.in_flight.take() {
            let taken = self.unsent.min(self.window);
            self.window -= taken;
            self.unsent -= taken;
            if self.unsent > 0 {
                self.in_flight = Some(bytes);
                return;
            }
            self.sent.push(bytes);
            self.step(|connection, cx| connection.sent(cx).unwrap_or_default());
        }
    }

    fn end(&mut self) {
        self.step(Connection::peer_ended);
    }

    /// The peer resets, and what it was owed is in no hand any more.
    fn reset(&mut self) -> Stats {
        self.step(|connection, _| connection.failed(io::ErrorKind::ConnectionReset.into()));
        assert_eq!(self.closed, Some((CloseReason::PeerReset, Close::Gently)));
        self.assert_balance();
        self.figures()
    }

    /// The listener's chain is another.
    fn swap(&mut self, chain: &str) {
        self.current = generation(chain);
        self.step(Connection::swap);
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
        let unsent = self.unsent;
        self.step(|connection, cx| connection.timeout(unsent, cx));
    }

    /// Lets time pass as deadlines ask for, up to so much.
    fn pass_until_closed(&mut self, most: Duration) -> Duration {
        let begin = self.now;
        while self.closed.is_none() && begin.until(self.now) < most {
            let next = self.connection.poll_timeout(&self.limits);
            assert_ne!(next, Moment::NEVER, "there is a deadline");
            self.pass(self.now.until(next));
        }
        begin.until(self.now)
    }

    fn received(&self) -> Vec<u8> {
        self.sent.concat()
    }

    fn figures(&self) -> Stats {
        let mut stats = Stats::default();
        stats.add_block(&self.stats);
        stats
    }

    /// What must be true of the counters when it is over, whatever the chain does with lengths.
    fn assert_messages(&self) -> Stats {
        let stats = self.figures();
        assert_eq!(stats.messages_in, stats.messages_out + stats.dropped, "{stats:?}");
        stats
    }

    /// The same where each answer is as long as its message.
    fn assert_balance(&self) {
        let stats = self.assert_messages();
        assert_eq!(
            stats.bytes_in,
            stats.bytes_out + stats.undelivered_bytes + stats.dropped_bytes,
            "{stats:?}"
        );
    }
}

fn reading(step: &Step) -> Reading {
    step.rare.as_ref().map_or(Reading::AsBefore, |rare| rare.reading)
}

#[test]
fn at_high_water_reading_pauses_and_goes_on_at_half() {
    for (frame, unit) in
        [("raw", &b"0123456789abcdef"[..]), ("lines", b"0123456789abcd\n"), ("fixed:4", b"0123")]
    {
        let mut bench = Bench::new("uppercase", &[("frame", frame), ("high_water", "16k")]);
        bench.limits.read_bytes_max = 1024;
        bench.window = 0;
        let input = unit.repeat(1024 / unit.len());
        let mut reads = 0;
        while bench.is_reading {
            bench.receive(&input);
            reads += 1;
            assert!(reads < 100, "{frame}: it pauses");
        }
        let waiting = bench.connection.waiting_bytes();
        assert!((7 * 1024..=16 * 1024).contains(&waiting), "{frame}: {waiting}");
        assert!(bench.cost_max <= 2 * 16 * 1024, "{frame}: {}", bench.cost_max);
        // It reads on at half of where it paused, and not before.
        while !bench.is_reading {
            bench.peer_reads(512);
            let waiting = bench.connection.waiting_bytes();
            assert!(!bench.is_reading || waiting <= 8 * 1024, "{frame}: {waiting} bytes wait");
        }
        bench.peer_reads(usize::MAX);
        bench.end();
        assert_eq!(bench.received(), input.repeat(reads).to_ascii_uppercase(), "{frame}");
        assert_eq!(bench.closed, Some((CloseReason::PeerClosed, Close::Gently)), "{frame}");
        bench.assert_balance();
    }
}

/// The same where what waits goes bit by bit: each record is a send of its own.
#[test]
fn records_are_read_on_at_half_of_where_they_paused() {
    let mut bench = Bench::new("uppercase", &[("high_water", "16k")]);
    bench.limits.read_bytes_max = 1024;
    bench.limits.records = true;
    bench.connection.flags.is_special = true;
    bench.window = 0;
    let paused_above = bench.limits.read_below_bytes();
    while bench.is_reading {
        assert!(bench.connection.waiting_bytes() <= paused_above, "it pauses");
        bench.receive(&[b'a'; 256]);
    }
    while !bench.is_reading {
        bench.peer_reads(256);
    }
    let waiting = bench.connection.waiting_bytes();
    assert!(
        (paused_above / 4..=paused_above / 2).contains(&waiting),
        "{waiting} of {paused_above} bytes wait"
    );
}

/// A step hands over a bounded number of sends, however many wait and however fast they leave.
#[test]
fn a_step_makes_a_bounded_number_of_sends() {
    let mut bench = Bench::new("", &[]);
    bench.limits.records = true;
    bench.connection.flags.is_special = true;
    bench.window = 0;
    let records = 3 * TURN_SENDS + 1;
    (0..records).for_each(|_| bench.receive(b"r"));
    bench.peer_reads(usize::MAX);
    assert_eq!((bench.sent.len(), bench.sends_max), (records, TURN_SENDS));
}

/// One read may be 131,072 messages: what their answers cost is bounded, and all of them come once the peer reads.
#[test]
fn small_messages_with_long_answers_stay_under_high_water() {
    const LINES: usize = 16_384;
    let text = "p".repeat(1024);
    for chain in
        [format!("prefix:text={text}"), format!("template:text={text}"), format!("prefix:text={text} | hex")]
    {
        let mut bench = Bench::new(&chain, &[("frame", "lines"), ("high_water", "16k")]);
        bench.window = 0;
        let input = vec![b'\n'; LINES];
        bench.receive(&input);
        assert!(!bench.is_reading, "unread input pauses");
        assert!(bench.cost_max <= 2 * 16 * 1024 + 2 * LINES, "{chain:.20}: {}", bench.cost_max);
        let mut reads = 0;
        while !bench.is_reading {
            bench.peer_reads(20_000);
            reads += 1;
            assert!(reads < 100_000, "it goes on");
        }
        let per_message = bench.received().len() / LINES;
        bench.peer_reads(usize::MAX);
        bench.end();
        let received = bench.received();
        assert_eq!(received.iter().filter(|byte| **byte == b'\n').count(), LINES, "{chain:.20}");
        assert!(per_message >= 1000, "{per_message}");
        assert!(bench.cost_max <= 2 * 16 * 1024 + 2 * LINES, "{chain:.20}: {}", bench.cost_max);
        assert_eq!(bench.figures().messages_out, LINES as u64);
    }
}

/// A turn ends after so many messages, whatever they cost.
#[test]
fn a_turn_answers_a_bounded_number_of_messages() {
    let mut bench = Bench::new("", &[("frame", "lines")]);
    let mut buffer = vec![b'\n'; 10 * TURN_MESSAGES];
    let mut cx = Context {
        limits: &bench.limits,
        current: &bench.current,
        pool: &mut bench.pool,
        scratch: &mut bench.scratch,
        stats: &bench.stats,
        recorder: &mut bench.recorder,
        now: bench.now,
        sends_left: TURN_SENDS,
        may_block: false,
        issuer: None,
        is_draining: false,
    };
    let step = bench.connection.received(RecvBuf { buffer: &mut buffer, start: 0 }, &mut cx);
    assert_eq!(step.send, Send::RecvBuf(0..TURN_MESSAGES));
    let step = bench.connection.sent(&mut cx).unwrap_or_default();
    assert_eq!(reading(&step), Reading::Pause);
    assert!(bench.connection.wants_turn(&cx));
    for turn in 1..10 {
        let step = bench.connection.go_on(&mut cx);
        assert_eq!(step.send, Send::Owned(vec![b'\n'; TURN_MESSAGES]));
        let step = bench.connection.sent(&mut cx).unwrap_or_default();
        assert_eq!(reading(&step), if turn == 9 { Reading::Resume } else { Reading::AsBefore });
    }
    assert!(!bench.connection.wants_turn(&cx));
}

/// Nine times hex is 512 letters a byte: all of it arrives, in bounded memory, however the input was cut.
#[test]
fn a_stream_that_grows_arrives_whole_in_bounded_memory() {
    let chain = ["hex"; 9].join(" | ");
    let input: Vec<u8> = (0..20_000u32).map(|n| (n % 251) as u8).collect();
    let mut expected = input.clone();
    for _ in 0..9 {
        expected = expected.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect();
    }
    for cut in [1000, 7777, 20_000] {
        let mut bench = Bench::new(&chain, &[("high_water", "128k")]);
        for piece in input.chunks(cut) {
            bench.window = 0;
            bench.receive(piece);
            while !bench.is_reading {
                bench.peer_reads(50_000);
            }
        }
        bench.peer_reads(usize::MAX);
        bench.end();
        assert!(bench.received() == expected, "cut into {cut}");
        assert!(bench.cost_max <= 2 * 1024 * 1024, "cut into {cut}: {}", bench.cost_max);
        let stats = bench.figures();
        assert_eq!(
            (stats.messages_in, stats.messages_out),
            ((20_000usize.div_ceil(cut)) as u64, stats.messages_in)
        );
        assert_eq!(bench.closed, Some((CloseReason::PeerClosed, Close::Gently)));
    }
}

proptest! {
    /// What a raw stream is answered does not depend on how it was cut, nor on how the peer reads.
    #[test]
    fn streams_do_not_depend_on_cuts(
        input in proptest::collection::vec(any::<u8>(), 0..5000),
        cuts in proptest::collection::vec(1usize..2000, 1..20),
        reads in proptest::collection::vec(1usize..3000, 1..20),
        chain in proptest::sample::select(vec![
            "hex", "base64", "hex | base64", "base64 | hex | uppercase", "uppercase | hex", "rot13", "hex | hex:mode=decode",
        ]),
    ) {
        let mut whole = Bench::new(chain, &[]);
        whole.receive(&input);
        whole.end();
        let mut bench = Bench::new(chain, &[("high_water", "1k")]);
        let (mut rest, mut cuts, mut reads) = (&input[..], cuts.iter().cycle(), reads.iter().cycle());
        bench.window = 0;
        while !rest.is_empty() {
            if bench.is_reading {
                let (piece, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                bench.receive(piece);
                rest = later;
            } else {
                bench.peer_reads(*reads.next().unwrap());
            }
        }
        bench.end();
        while bench.closed.is_none() {
            bench.peer_reads(*reads.next().unwrap());
        }
        prop_assert_eq!(bench.received(), whole.received());
        prop_assert_eq!(bench.closed, Some((CloseReason::PeerClosed, Close::Gently)));
        let stats = bench.figures();
        prop_assert_eq!(stats.messages_in, stats.messages_out + stats.dropped);
    }
}

#[test]
fn a_half_close_gets_all_answers_and_then_the_end() {
    for (frame, sent, expected) in [
        ("raw", &b"all of it"[..], &b"ALL OF IT"[..]),
        ("lines", b"one\ntwo\nlast", b"ONE\nTWO\nLAST"),
        ("len8", b"\x03one\x03tw", b"\x03ONE"),
    ] {
        let mut bench = Bench::new("uppercase", &[("frame", frame)]);
        bench.window = 2;
        bench.receive(sent);
        bench.end();
        assert_eq!(bench.closed, None, "{frame}: answers wait");
        bench.peer_reads(usize::MAX);
        assert_eq!(bench.received(), expected, "{frame}");
        assert_eq!(bench.closed, Some((CloseReason::PeerClosed, Close::Gently)), "{frame}");
        bench.assert_balance();
    }
}

#[test]
fn after_our_end_the_peer_is_read_on_for_a_while() {
    for peer_ends in [true, false] {
        let mut bench = Bench::new("close:after=4", &[("frame", "lines")]);
        bench.receive(b"last\n");
        assert!(bench.has_shut_down && bench.is_reading && bench.closed.is_none());
        bench.receive(b"too late\n");
        assert_eq!(bench.received(), b"last\n");
        if peer_ends {
            bench.end();
        } else {
            assert_eq!(bench.pass_until_closed(LINGER * 2), LINGER);
        }
        assert_eq!(bench.closed, Some((CloseReason::TransformClosed, Close::Gently)));
        bench.assert_balance();
    }
}

#[test]
fn a_peer_that_takes_nothing_is_given_up_and_one_that_takes_something_is_not() {
    let mut bench = Bench::new("", &[("write_timeout", "10s")]);
    bench.window = 100;
    bench.receive(&[b'x'; 1000]);
    for _ in 0..5 {
        bench.peer_reads(10);
        bench.pass(Duration::from_secs(9));
        assert_eq!(bench.closed, None);
    }
    bench.peer_reads(10);
    let passed = bench.pass_until_closed(Duration::from_secs(60));
    assert!(passed <= Duration::from_secs(20), "{passed:?}");
    assert_eq!(bench.closed, Some((CloseReason::WriteTimeout, Close::Reset)));
    let stats = bench.figures();
    assert_eq!((stats.bytes_out, stats.undelivered_bytes, stats.messages_out), (160, 840, 0));
    bench.assert_balance();
}

/// The length of an answer leaves with it, whether its bytes or their number come first.
#[test]
fn a_delayed_answer_leaves_whole() {
    let head = |frame: &str, len: u8| match frame {
        "len16be" => vec![0, len],
        _ => vec![len],
    };
    for frame in ["len8", "len16be", "varint"] {
        for chain in ["hex | delay:time=1s", "delay:time=1s | hex"] {
            let mut bench = Bench::new(chain, &[("frame", frame)]);
            let first = [head(frame, 1), b"a".to_vec()].concat();
            bench.receive(&[first.clone(), first].concat());
            assert_eq!(bench.received(), b"", "{frame} {chain}");
            bench.pass(Duration::from_secs(2));
            let answer = [head(frame, 2), b"61".to_vec()].concat();
            assert_eq!(bench.received(), [answer.clone(), answer].concat(), "{frame} {chain}");
            // An answer of nothing has a length too.
            let mut bench = Bench::new(chain, &[("frame", frame)]);
            bench.receive(&head(frame, 0));
            assert_eq!(bench.received(), b"", "{frame} {chain}");
            bench.pass(Duration::from_secs(2));
            assert_eq!(bench.received(), head(frame, 0), "{frame} {chain}");
        }
    }
}

#[test]
fn silence_is_the_peers_only_when_it_is_its_turn() {
    let mut bench = Bench::new("delay:time=30s", &[("idle_timeout", "10s"), ("frame", "lines")]);
    bench.receive(b"wait\n");
    // While the answer is delayed, nobody is silent; then its time begins.
    let passed = bench.pass_until_closed(Duration::from_secs(100));
    assert_eq!(bench.closed, Some((CloseReason::IdleTimeout, Close::Gently)));
    assert_eq!(passed, Duration::from_secs(30 + 10) + LINGER);
    assert_eq!(bench.received(), b"wait\n");
    bench.assert_balance();
}

/// A transform that blocks has the message for longer than `idle_timeout`, and gives no answer: nothing was read meanwhile,
/// so the silence was not the peer's.
#[test]
fn a_peer_is_not_silent_while_a_transform_has_its_message() {
    let mut bench = Bench::new("", &[("idle_timeout", "10s"), ("frame", "lines")]);
    bench.receive(b"unfinished");
    bench.now = bench.now.after(Duration::from_secs(60));
    bench.connection.resumed(bench.now);
    assert_eq!(bench.pass_until_closed(Duration::from_secs(100)), Duration::from_secs(10) + LINGER);
    assert_eq!(bench.closed, Some((CloseReason::IdleTimeout, Close::Gently)));
    bench.assert_balance();
}

#[test]
fn a_peer_below_the_minimum_rate_is_closed() {
    let mut bench = Bench::new("", &[("frame", "lines")]);
    bench.connection.monitor =
        Some(Box::new(MinRateMonitor::new(MinRate { bytes: 100, within: Duration::from_secs(5) })));
    bench.connection.flags.is_special = true;
    for _ in 0..20 {
        bench.receive(b"x");
        let now = bench.now;
        bench.connection.note_progress(0, now);
        bench.pass(Duration::from_secs(1));
        if bench.has_shut_down {
            break;
        }
    }
    assert!(bench.has_shut_down, "it was too slow");
    bench.end();
    assert_eq!(bench.closed, Some((CloseReason::TooSlow, Close::Gently)));
    bench.assert_balance();
}

#[test]
fn delayed_answers_keep_their_order() {
    let mut bench = Bench::new("delay:time=20ms,jitter=15ms,seed=3", &[("frame", "lines")]);
    let messages: Vec<String> = (0..200).map(|n| format!("{n}\n")).collect();
    for message in &messages {
        bench.receive(message.as_bytes());
        let next = bench.connection.poll_timeout(&bench.limits);
        if bench.now.until(next) < Duration::from_millis(3) {
            bench.pass(Duration::from_millis(3));
        }
    }
    while bench.received().len() < messages.concat().len() {
        let next = bench.connection.poll_timeout(&bench.limits);
        bench.pass(bench.now.until(next));
    }
    assert_eq!(String::from_utf8(bench.received()).unwrap(), messages.concat());
    bench.end();
    bench.assert_balance();
}

/// Messages that nothing delays stay behind those that something does.
#[test]
fn an_answer_waits_behind_delayed_ones() {
    for window in [usize::MAX, 3] {
        let mut bench = Bench::new("delay:time=20ms", &[("frame", "lines")]);
        bench.window = window;
        bench.receive(b"first\n");
        bench.current = generation("");
        bench.step(Connection::swap);
        bench.receive(b"second\n");
        bench.receive(b"third\n");
        assert_eq!(bench.received(), b"");
        bench.pass(Duration::from_millis(20));
        bench.peer_reads(usize::MAX);
        assert_eq!(bench.received(), b"first\nsecond\nthird\n");
        bench.end();
        bench.assert_balance();
    }
}

/// Whatever the connection has in hand when it breaks is in some counter.
#[test]
fn what_is_in_hand_when_a_peer_resets_is_counted() {
    for (chain, frame, window) in [
        ("", "raw", 0),
        ("", "raw", 700),
        ("uppercase", "lines", 0),
        ("delay:time=1m", "lines", usize::MAX),
        ("uppercase", "len32be", 0),
    ] {
        let mut bench = Bench::new(chain, &[("frame", frame), ("high_water", "2k")]);
        bench.window = window;
        let mut input = [&[b'a'; 99][..], b"\n"].concat().repeat(10);
        if frame == "len32be" {
            input = [&100u32.to_be_bytes()[..], &[b'a'; 100], &100u32.to_be_bytes(), b"half"].concat();
        }
        bench.receive(&input);
        bench.step(|connection, _| connection.failed(io::ErrorKind::ConnectionReset.into()));
        assert_eq!(bench.closed, Some((CloseReason::PeerReset, Close::Gently)), "{chain} {frame}");
        let stats = bench.figures();
        assert_eq!(stats.bytes_in, input.len() as u64);
        assert!(stats.undelivered_bytes > 0, "{chain} {frame}: {stats:?}");
        bench.assert_balance();
    }
}

/// A message that resets its connection, and all that it takes along.
#[test]
fn a_reset_counts_what_it_throws_away() {
    let mut bench = Bench::new("reset:after=3", &[("frame", "lines")]);
    bench.receive(b"one\ntwo\nthree\nfour\nfi");
    assert_eq!(bench.closed, Some((CloseReason::TransformClosed, Close::Reset)));
    bench.assert_balance();
    let stats = bench.figures();
    assert_eq!(stats.bytes_in, 21);
    assert!(stats.dropped >= 1 && stats.dropped_bytes > 0, "{stats:?}");
}

/// What a release build does where it finds a fault of its own: no answer, the end, and that it can be told.
#[test]
fn a_fault_of_our_own_ends_the_connection_without_an_answer() {
    for (chain, frame) in [("hex", "raw"), ("hex", "lines"), ("uppercase", "lines")] {
        let mut bench = Bench::new(chain, &[("frame", frame)]);
        bench.receive(b"before\n");
        let answered = bench.received();
        let mut buffer = b"behind\n and".to_vec();
        bench.step(|connection, cx| {
            bug::found_in_release("no fault");
            connection.received_in_general(RecvBuf { buffer: &mut buffer, start: 0 }, Begun::default(), cx)
        });
        assert_eq!(bench.closed, Some((CloseReason::SystemError, Close::Reset)), "{chain} {frame}");
        assert_eq!(bench.received(), answered, "{chain} {frame}");
        assert!(bug::take().is_some());
    }
}
