//! Answers that are held back: in which order they leave, and when.

use super::*;
use crate::chain::tests::kit::HELD_US;

/// Each piece of a message leaves by itself, in order, and when it is its time; a length with the first of them.
#[test]
fn pieces_leave_one_by_one() {
    let millis = Duration::from_millis;
    for frame in &FRAMES[1..] {
        let mut bench = Bench::new("drip", &[("frame", frame)]);
        let answer = framed(frame, b"10 a60 b150cend");
        let body = answer.windows(4).position(|window| window == b"10 a").unwrap();
        bench.receive(&answer);
        for (passed, end) in
            [(9, 0), (1, body + 4), (49, body + 4), (1, body + 8), (89, body + 8), (1, answer.len())]
        {
            bench.pass(millis(passed));
            assert_eq!(bench.received(), answer[..end], "{frame}");
        }
        assert_eq!(bench.figures().messages_out, 1, "{frame}");
        // The next one is not late because the last one was.
        let quick = framed(frame, b"0   quick");
        bench.receive(&quick);
        assert_eq!(bench.received(), [answer, quick].concat(), "{frame}");
        // The first pieces do not wait for the last.
        let answer = framed(frame, b"1  a20 bnow x  cend ");
        let (now, later) = answer.split_at(answer.windows(4).position(|window| window == b"x  c").unwrap());
        bench.sent.clear();
        bench.receive(&answer);
        for passed in [20, 3_599_979] {
            bench.pass(millis(passed));
            assert_eq!(bench.received(), now, "{frame}");
        }
        assert_eq!(bench.reset().undelivered_bytes, later.len() as u64, "{frame}");
    }
}

/// An answer of no bytes is one where there are records, or frames: behind what is held back, and held back itself.
#[test]
fn empty_answers_wait_too() {
    let mut bench = Bench::new("late-x", &[RECORDS]);
    [&b"x first"[..], b"", b"third"].iter().for_each(|record| bench.receive(record));
    assert!(bench.sent.is_empty());
    bench.pass(Duration::from_micros(HELD_US));
    assert_eq!(bench.sent, [&b"x first"[..], b"", b"third"]);
    for frame in &FRAMES[2..] {
        let mut bench = Bench::new("hush-x", &[("frame", frame)]);
        bench.receive(&[framed(frame, b"x one"), framed(frame, b"two")].concat());
        assert_eq!(bench.received(), b"", "{frame}");
        bench.pass(Duration::from_micros(HELD_US));
        assert_eq!(bench.received(), framed(frame, b"").repeat(2), "{frame}");
    }
}

/// Who floods an hour's delay is not read any more once what is held for him is at the high water.
#[test]
fn the_high_water_bounds_held_answers() {
    const HIGH_WATER: usize = 64 * 1024;
    let mut bench = Bench::new("delay:time=60m", &[("frame", "lines"), ("high_water", "64k")]);
    let lines = [&[b'.'; 99][..], b"\n"].concat().repeat(100);
    while bench.is_reading {
        bench.receive(&lines);
        assert!(bench.figures().bytes_in <= 2 * HIGH_WATER as u64, "it pauses");
    }
    let held = bench.connection.waiting_bytes();
    assert!(held > 0 && held <= 2 * HIGH_WATER, "{held}");
    assert!(bench.cost_max <= 2 * HIGH_WATER + lines.len(), "{}", bench.cost_max);
    bench.pass(Duration::from_secs(3599));
    assert!(!bench.is_reading && bench.sent.is_empty());
    assert!(bench.reset().undelivered_bytes >= held as u64);
}

/// `high_water` counts bytes, of records too: one that is held does not stop the next.
#[test]
fn one_held_record_does_not_stop_the_next() {
    let mut bench = Bench::new("late-x", &[RECORDS]);
    [&b"x one"[..], b"two"].iter().for_each(|record| bench.receive(record));
    assert!(bench.is_reading);
    let stats = bench.reset();
    assert_eq!((stats.messages_in, stats.undelivered_bytes), (2, 8), "{stats:?}");
}
