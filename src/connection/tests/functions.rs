//! Functions of the host's: answers that come later, greetings, and the end of a raw stream.

use super::*;
use crate::chain::tests::kit::{DIGITS, HELD_US, take_asked};
use crate::later::{LateAnswer, LateVerdict};
use crate::limits::{LATE_ANSWERS_MAX, TAP_BYTES_MIN};
use crate::tap::{Settings, Tap, Taps};

const LINES: (&str, &str) = ("frame", "lines");

impl Bench {
    fn answer(&mut self, ticket: u64, verdict: LateVerdict, bytes: &[u8]) {
        let answer = LateAnswer { ticket, verdict, bytes: bytes.to_vec() };
        self.step(|connection, cx| connection.answered_late(answer, cx));
    }

    /// Sends a message that a function answers later; its ticket.
    fn ask(&mut self, message: &[u8]) -> u64 {
        self.receive(message);
        let asked = take_asked();
        assert_eq!(asked.len(), 1, "{message:?}");
        asked[0]
    }
}

#[test]
fn answers_that_come_later_keep_their_order() {
    let mut bench = Bench::new("asks | add", &[LINES]);
    bench.answer(u64::MAX, LateVerdict::Answer, b"nobody has asked");
    bench.receive(b"a\nb\nc\n");
    let asked = take_asked();
    for (number, answer) in [(1, b"2"), (2, b"3")] {
        bench.answer(asked[number], LateVerdict::Answer, answer);
        bench.answer(asked[number], LateVerdict::Answer, b"again");
    }
    assert_eq!(bench.received(), b"");
    bench.answer(u64::MAX, LateVerdict::Answer, b"nobody has asked");
    bench.answer(asked[0], LateVerdict::Answer, b"1");
    assert_eq!(bench.received(), b"1+\n2+\n3+\n");
    assert_eq!(bench.tickets.count(), 0);
    bench.end();
    assert_eq!(bench.closed, Some((CloseReason::PeerClosed, Close::Gently)));
    bench.assert_messages();
}

#[test]
fn what_becomes_of_a_message_that_is_answered_later() {
    let transform = |how| Some((CloseReason::TransformClosed, how));
    for (chain, frame, verdict, bytes, expected, closed) in [
        ("asks", "lines", LateVerdict::Answer, "1", "1\n", None),
        ("asks", "lines", LateVerdict::Answer, "", "\n", None),
        ("asks", "raw", LateVerdict::Answer, "", "", None),
        ("asks | hex", "lines", LateVerdict::Answer, "1", "31\n", None),
        ("asks | quiet", "lines", LateVerdict::Answer, "1", "", None),
        ("asks", "lines", LateVerdict::Drop, "", "", None),
        ("asks", "lines", LateVerdict::Close, "1", "1\n", transform(Close::Gently)),
        ("asks | last", "lines", LateVerdict::Answer, "1", "1.\n", transform(Close::Gently)),
        ("last | asks", "lines", LateVerdict::Answer, "1", "1\n", transform(Close::Gently)),
        ("last | asks", "lines", LateVerdict::Drop, "", "", transform(Close::Gently)),
        ("asks", "lines", LateVerdict::Reset, "", "", transform(Close::Reset)),
        ("asks", "lines", LateVerdict::Fail(-9), "", "", Some((CloseReason::TransformFailed, Close::Gently))),
        (
            "asks | fails",
            "lines",
            LateVerdict::Answer,
            "1",
            "",
            Some((CloseReason::TransformFailed, Close::Gently)),
        ),
    ] {
        let mut bench = Bench::new(chain, &[("frame", frame)]);
        let ticket = bench.ask(b"a\n");
        assert_eq!(bench.received(), b"", "{chain} {verdict:?}");
        bench.answer(ticket, verdict, bytes.as_bytes());
        assert_eq!(bench.received(), expected.as_bytes(), "{chain} {verdict:?}");
        bench.end();
        let closed = closed.unwrap_or((CloseReason::PeerClosed, Close::Gently));
        assert_eq!(bench.closed, Some(closed), "{chain} {verdict:?}");
        assert_eq!(bench.tickets.count(), 0, "{chain} {verdict:?}");
        bench.assert_messages();
    }
}

/// It ends behind the answer to the message, however often that asks on its way.
#[test]
fn a_message_that_closes_and_asks_again() {
    let mut bench = Bench::new("asks | last | asks", &[LINES]);
    let first = bench.ask(b"a\n");
    bench.receive(b"b\n");
    let second = take_asked()[0];
    bench.answer(first, LateVerdict::Answer, b"1");
    assert!(bench.received().is_empty() && !bench.has_shut_down);
    bench.answer(second, LateVerdict::Answer, b"2");
    bench.answer(take_asked()[0], LateVerdict::Answer, b"all of it");
    assert_eq!(bench.received(), b"all of it\n");
    assert!(bench.has_shut_down);
    bench.end();
    assert_eq!(bench.closed, Some((CloseReason::TransformClosed, Close::Gently)));
    assert_eq!(bench.tickets.count(), 0);
    bench.assert_messages();
}

/// So many messages may wait for their answers; a connection is read again when half of them have theirs.
#[test]
fn messages_that_wait_for_answers_are_bounded() {
    let mut bench = Bench::new("asks", &[LINES, ("high_water", "1g")]);
    let mut asked = Vec::new();
    while bench.is_reading {
        bench.receive(&b"a\n".repeat(100));
        asked.extend(take_asked());
    }
    assert_eq!(asked.len(), LATE_ANSWERS_MAX);
    let mut answered = 0;
    while !bench.is_reading {
        bench.answer(asked[answered], LateVerdict::Answer, b"1");
        answered += 1;
        asked.extend(take_asked());
    }
    let sent = LATE_ANSWERS_MAX.next_multiple_of(100);
    assert_eq!((answered, asked.len()), (LATE_ANSWERS_MAX / 2 + sent - LATE_ANSWERS_MAX, sent));
    asked.drain(..answered).for_each(drop);
    asked.into_iter().for_each(|ticket| bench.answer(ticket, LateVerdict::Answer, b"1"));
    assert_eq!(bench.received(), b"1\n".repeat(sent));
    bench.end();
    bench.assert_messages();
}

/// A message that waits keeps its connection with its chain, until it is answered.
#[test]
fn a_chain_is_changed_behind_an_answer_that_comes_later() {
    let mut bench = Bench::new("asks", &[LINES]);
    let ticket = bench.ask(b"a\n");
    bench.current = generation("add");
    bench.step(Connection::swap);
    bench.answer(ticket, LateVerdict::Answer, b"1");
    bench.receive(b"b\n");
    assert_eq!(bench.received(), b"1\nb+\n");
    bench.end();
    bench.assert_messages();
    // One that ends when it is answered stays with the old one.
    let mut bench = Bench::new("asks", &[LINES]);
    let ticket = bench.ask(b"a\n");
    bench.end();
    assert_eq!(bench.closed, None);
    bench.current = generation("add");
    bench.step(Connection::swap);
    bench.answer(ticket, LateVerdict::Answer, b"1");
    assert_eq!(bench.received(), b"1\n");
    assert_eq!(bench.closed, Some((CloseReason::PeerClosed, Close::Gently)));
    bench.assert_messages();
}

/// An answer may be held back, in place, in memory of its own, or by a function behind one that made it longer.
#[test]
fn functions_hold_answers_back_in_order() {
    for (chain, frame, expected) in [
        ("held", "raw", "xyz\n"),
        ("held", "lines", "xyz\n"),
        ("held | add", "lines", "xyz+\n"),
        ("held | hex", "lines", "78797a\n"),
        ("hex | held", "varint", "\u{4}780a"),
        ("held | hex | short", "lines", "s\n"),
        ("hex | held | short", "lines", "s\n"),
        ("delay:time=1ms | held | short", "lines", "s\n"),
    ] {
        let mut bench = Bench::new(chain, &[("frame", frame)]);
        let message = if matches!(frame, "raw" | "lines") { &b"xyz\n"[..] } else { b"\x02x\n" };
        bench.receive(message);
        assert_eq!(bench.received(), b"", "{chain} {frame}");
        bench.pass(Duration::from_micros(HELD_US + 1000));
        assert_eq!(bench.received(), expected.as_bytes(), "{chain} {frame}");
        bench.end();
        assert_eq!(bench.closed, Some((CloseReason::PeerClosed, Close::Gently)), "{chain} {frame}");
        bench.assert_messages();
    }
    // What comes first in the same read leaves first, and then waits for nothing.
    let mut bench = Bench::new("late-x", &[LINES]);
    bench.receive(b"a\nx\nb\n");
    bench.pass(Duration::from_micros(HELD_US));
    assert_eq!(bench.received(), b"a\nx\nb\n");
    bench.end();
    bench.assert_messages();
}

#[test]
fn functions_and_tables_greet() {
    for (chain, frame, greeting) in [
        ("greets", "raw", "hi"),
        ("greets", "lines", "hi\n"),
        ("greets", "len8", "\u{2}hi"),
        ("greets | hex", "raw", "6869"),
        ("hex | greets | greets", "lines", "hi\nhi\n"),
        ("greets | quiet", "lines", ""),
        ("greets | quiet", "raw", ""),
        ("quiet-greeter", "lines", ""),
        ("tail", "raw", ""),
        ("tail | hex", "lines", ""),
        ("pieces", "raw", "0123456789"),
        ("pieces | greets", "lines", "0123456789\nhi\n"),
    ] {
        let mut bench = Bench::new(chain, &[("frame", frame)]);
        assert_eq!(bench.received(), greeting.as_bytes(), "{chain} {frame}");
        assert_eq!((bench.closed, bench.has_shut_down), (None, false), "{chain} {frame}");
        bench.end();
        bench.assert_greeted();
    }
}

impl Bench {
    /// A greeting answers nothing: it is in no balance of messages.
    pub(super) fn assert_greeted(&self) {
        let stats = self.figures();
        assert_eq!((stats.messages_in, stats.messages_out, stats.dropped), (0, 0, 0), "{stats:?}");
    }
}

#[test]
fn a_function_may_refuse_a_connection() {
    let gently = Some((CloseReason::TransformClosed, Close::Gently));
    for (chain, greeting, closed) in [
        ("refuses | greets", "", gently),
        ("refuses-politely | greets", "hi\n", gently),
        ("refuses-rudely | greets", "", Some((CloseReason::TransformClosed, Close::Reset))),
        ("greets | fails", "", Some((CloseReason::TransformFailed, Close::Gently))),
        ("cannot-begin | greets", "", Some((CloseReason::TransformFailed, Close::Gently))),
    ] {
        for frame in ["lines", "raw"] {
            let mut bench = Bench::new(chain, &[("frame", frame)]);
            let greeting = if frame == "raw" { greeting.trim_end() } else { greeting };
            assert_eq!(bench.received(), greeting.as_bytes(), "{chain} {frame}");
            bench.end();
            assert_eq!(bench.closed, closed, "{chain} {frame}");
            bench.assert_greeted();
        }
    }
}

/// A greeting that is more than may wait comes as the peer takes it.
#[test]
fn a_long_greeting_waits_for_its_peer() {
    let chain = format!("pieces{}", " | hex".repeat(8));
    let mut bench = Bench::new(&chain, &[("high_water", "1k")]);
    let mut expected = DIGITS.to_vec();
    for _ in 0..8 {
        expected = expected.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect();
    }
    assert!(bench.sent.len() > 1, "in more than one turn");
    assert_eq!(bench.received(), expected);
    bench.receive(b"a");
    assert_eq!(bench.received().len(), expected.len() + 256);
    bench.end();
    assert_eq!(bench.closed, Some((CloseReason::PeerClosed, Close::Gently)));
}

#[test]
fn functions_have_the_last_word_on_a_raw_stream() {
    let closed = |reason| (reason, Close::Gently);
    for (chain, answer, reason) in [
        ("tail", "Aend", closed(CloseReason::PeerClosed)),
        ("tail | hex", "41656e64", closed(CloseReason::PeerClosed)),
        ("hex | tail-last", "41end", closed(CloseReason::TransformClosed)),
        ("tail-quiet", "A", closed(CloseReason::PeerClosed)),
        ("tail-fails", "A", closed(CloseReason::TransformFailed)),
        ("tail-breaks", "A", (CloseReason::TransformClosed, Close::Reset)),
    ] {
        let mut bench = Bench::new(chain, &[]);
        bench.receive(b"A");
        bench.end();
        assert_eq!(bench.received(), answer.as_bytes(), "{chain}");
        assert_eq!(bench.closed, Some(reason), "{chain}");
    }
    let mut bench = Bench::new("tail-asks | tail", &[]);
    bench.receive(b"A");
    bench.end();
    assert_eq!((bench.received(), bench.closed), (b"A".to_vec(), None));
    bench.answer(take_asked()[0], LateVerdict::Answer, b", that was all, ");
    assert_eq!(bench.received(), b"A, that was all, end");
    assert_eq!(bench.closed, Some((CloseReason::PeerClosed, Close::Gently)));
}

/// What a tap hears of a message: its outcome, its bytes and those of its answer.
fn taps(chain: &str, run: impl FnOnce(&mut Bench)) -> Vec<(TapOutcome, Vec<u8>, Vec<u8>)> {
    let open: Arc<Taps> = Arc::default();
    let settings = Settings { answers: true, listener: 0, capacity_bytes: TAP_BYTES_MIN, data_bytes_max: 0 };
    let tap = Tap::open(&open, settings).unwrap();
    let mut bench = Bench::new(chain, &[LINES]);
    bench.recorder = Recorder::new(&open);
    run(&mut bench);
    let mut heard = Vec::new();
    tap.read(Some(Duration::ZERO), |record| {
        heard.push((record.outcome, record.data.to_vec(), record.answer.to_vec()));
        true
    })
    .unwrap();
    heard
}

#[test]
fn taps_hear_of_messages_when_they_are_answered() {
    let heard = taps("asks | add", |bench| {
        let first = bench.ask(b"a\n");
        let second = bench.ask(b"b\n");
        let third = bench.ask(b"c\n");
        bench.answer(first, LateVerdict::Answer, b"1");
        bench.answer(second, LateVerdict::Drop, b"");
        bench.answer(third, LateVerdict::Reset, b"");
    });
    let expected = [
        (TapOutcome::Answered, b"a".to_vec(), b"1+".to_vec()),
        (TapOutcome::Dropped(DropReason::ByTransform), b"b".to_vec(), Vec::new()),
        (TapOutcome::Reset(CloseReason::TransformClosed), b"c".to_vec(), Vec::new()),
    ];
    assert_eq!(heard, expected);
    // A tap that is closed meanwhile hears of nothing.
    let mut bench = Bench::new("asks", &[LINES]);
    let open: Arc<Taps> = Arc::default();
    let settings = Settings { answers: true, listener: 0, capacity_bytes: TAP_BYTES_MIN, data_bytes_max: 0 };
    let tap = Tap::open(&open, settings).unwrap();
    bench.recorder = Recorder::new(&open);
    let ticket = bench.ask(b"a\n");
    drop(tap);
    bench.recorder.refresh();
    bench.answer(ticket, LateVerdict::Answer, b"1");
    assert_eq!(bench.received(), b"1\n");
}

/// Also where the message at which a chain stops is answered in the driver's own buffer.
#[test]
fn taps_hear_of_messages_at_which_a_chain_stops() {
    for (chain, outcome) in [
        ("reset:messages=2", TapOutcome::Reset(CloseReason::TransformClosed)),
        ("pass | reset:messages=2", TapOutcome::Reset(CloseReason::TransformClosed)),
        ("drop:every=2", TapOutcome::Dropped(DropReason::ByTransform)),
    ] {
        let heard = taps(chain, |bench| bench.receive(b"a\nb\n"));
        let expected =
            [(TapOutcome::Answered, b"a".to_vec(), b"a".to_vec()), (outcome, b"b".to_vec(), Vec::new())];
        assert_eq!(heard, expected, "{chain}");
    }
}
