//! Taps without an engine: what a recorder writes, a reader finds.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::*;
use crate::error::Error;
use crate::limits::TAP_BYTES_MIN;
use crate::peer::{Peer, SocketKind};
use crate::stats::{CloseReason, DropReason};
use crate::sys;
use crate::timer::Moment;

const ALL: Settings = Settings { answers: true, listener: 0, capacity_bytes: 0, data_bytes_max: 0 };

fn of<'a>(peer: &'a Peer, listener: u64, outcome: TapOutcome) -> Recorded<'a> {
    let kind = SocketKind::UnixSeqpacket;
    Recorded { time: Moment::from_micros(5), listener, connection: 9, peer, kind, flags: 3, outcome }
}

fn write(recorder: &mut Recorder, listener: u64, data: &[u8], answer: &[u8]) {
    recorder.keep(data);
    recorder.record(&of(&Peer::Unnamed, listener, TapOutcome::Answered), answer);
}

fn texts(tap: &Tap) -> Vec<(u64, String)> {
    let mut found = Vec::new();
    let mut take = |record: &TapRecord<'_>| {
        found.push((record.sequence, String::from_utf8_lossy(record.data).into_owned()));
        true
    };
    while tap.read(Some(Duration::ZERO), &mut take).unwrap() > 0 {}
    found
}

fn is_readable(tap: &Tap) -> bool {
    sys::wait_readable(tap.fd().as_fd(), Some(Duration::ZERO)).unwrap()
}

#[test]
fn a_record_comes_back_as_it_was_written() {
    let taps = Arc::default();
    let mut recorder = Recorder::new(&taps);
    assert!(!recorder.is_on());
    let tap = Tap::open(&taps, ALL).unwrap();
    assert!(recorder.is_on());
    let outcomes = [
        TapOutcome::Answered,
        TapOutcome::Dropped(DropReason::TooLong),
        TapOutcome::Closed(CloseReason::TransformClosed),
        TapOutcome::Reset(CloseReason::TransformClosed),
        TapOutcome::Failed(DropReason::TransformFailed),
        TapOutcome::Unsendable(DropReason::Unnamed),
    ];
    let peers = [
        Peer::Ip("127.0.0.1:80".parse().unwrap()),
        Peer::Ip("[fe80::1%3]:80".parse().unwrap()),
        Peer::Path("/run/x".into()),
        Peer::Abstract(vec![0, 1, 2]),
        Peer::Unnamed,
    ];
    let mut expected = Vec::new();
    for (number, outcome) in outcomes.into_iter().enumerate() {
        for peer in &peers {
            let data = vec![number as u8; 3 * number];
            recorder.keep(&data);
            // A connection has one peer.
            let connection = expected.len() as u64;
            recorder.record(&Recorded { connection, ..of(peer, 4, outcome) }, b"the answer");
            expected.push((outcome, peer.clone(), data));
        }
    }
    let mut found = Vec::new();
    let taken = tap.read(Some(Duration::ZERO), |record| {
        assert_eq!((record.time_ns, record.listener_id, record.flags), (5000, 4, 3));
        assert_eq!(record.connection, found.len() as u64);
        assert_eq!((record.kind, record.answer), (SocketKind::UnixSeqpacket, &b"the answer"[..]));
        assert_eq!((record.sequence, record.answer_bytes), (found.len() as u64 + 1, 10));
        assert_eq!(record.message_bytes, record.data.len() as u64);
        found.push((record.outcome, record.peer(), record.data.to_vec()));
        true
    });
    assert_eq!(taken.unwrap(), expected.len());
    assert_eq!(found, expected);
    assert_eq!(tap.lost(), 0);
    drop(tap);
    assert!(!recorder.is_on());
}

#[test]
fn outcomes_have_numbers_and_names_of_their_own() {
    for (number, name) in
        ["answered", "dropped", "closed", "reset", "failed", "unsendable"].iter().enumerate()
    {
        assert_eq!(TapOutcome::c_name(number as u32 + 1).unwrap().to_str().unwrap(), *name);
    }
    assert_eq!((TapOutcome::c_name(0), TapOutcome::c_name(7)), (None, None));
    assert_eq!(TapOutcome::Failed(DropReason::TransformFailed).name(), "failed");
}

#[test]
fn each_tap_has_the_messages_of_its_listener_and_is_woken_for_no_other() {
    let taps = Arc::default();
    let mut recorder = Recorder::new(&taps);
    let first = Tap::open(&taps, Settings { listener: 1, ..ALL }).unwrap();
    let all = Tap::open(&taps, ALL).unwrap();
    write(&mut recorder, 2, b"two", b"");
    recorder.wake();
    assert_eq!((is_readable(&first), is_readable(&all)), (false, true));
    write(&mut recorder, 1, b"one", b"");
    recorder.wake();
    assert!(is_readable(&first));
    assert_eq!(texts(&first), [(1, "one".into())]);
    assert_eq!(texts(&all), [(1, "two".into()), (2, "one".into())]);
    assert!(!is_readable(&first) && !is_readable(&all));
    drop(all);
    write(&mut recorder, 1, b"more", b"");
    assert_eq!(texts(&first), [(2, "more".into())]);
}

#[test]
fn messages_and_answers_are_cut_and_their_lengths_are_not() {
    let taps = Arc::default();
    let mut recorder = Recorder::new(&taps);
    let short = Tap::open(&taps, Settings { data_bytes_max: 2, ..ALL }).unwrap();
    let plain = Tap::open(&taps, Settings { answers: false, capacity_bytes: TAP_BYTES_MIN, ..ALL }).unwrap();
    write(&mut recorder, 1, &[b'x'; 5000], b"answer");
    let mut seen = Vec::new();
    for tap in [&short, &plain] {
        let see = |record: &TapRecord<'_>| {
            let whole = (record.message_bytes, record.answer_bytes);
            seen.push((record.data.len(), record.answer.to_vec(), whole));
            true
        };
        assert_eq!(tap.read(None, see).unwrap(), 1);
    }
    assert_eq!(seen, [(2, b"an".to_vec(), (5000, 6)), (1024, Vec::new(), (5000, 6))]);
}

#[test]
fn a_gap_in_the_sequence_is_as_many_as_were_lost() {
    let taps = Arc::default();
    let mut recorder = Recorder::new(&taps);
    let tap = Tap::open(&taps, Settings { capacity_bytes: TAP_BYTES_MIN, ..ALL }).unwrap();
    for number in 0..100 {
        write(&mut recorder, 1, number.to_string().as_bytes(), b"");
    }
    let before = texts(&tap);
    let lost = tap.lost();
    assert_eq!(before.len() as u64 + lost, 100);
    assert!(
        lost > 0 && before.iter().enumerate().all(|(place, (sequence, _))| *sequence == place as u64 + 1)
    );
    write(&mut recorder, 1, b"next", b"");
    assert_eq!(texts(&tap), [(101, "next".into())]);
}

#[test]
fn what_is_not_taken_waits_for_the_next_call() {
    let taps = Arc::default();
    let mut recorder = Recorder::new(&taps);
    let tap = Tap::open(&taps, ALL).unwrap();
    for text in ["a", "b", "c"] {
        write(&mut recorder, 1, text.as_bytes(), b"");
    }
    let mut calls = 0;
    let one = |_: &TapRecord<'_>| {
        calls += 1;
        calls == 1
    };
    assert_eq!(tap.read(None, one).unwrap(), 1);
    assert_eq!(tap.read(None, |_| false).unwrap(), 0);
    assert_eq!(texts(&tap), [(2, "b".into()), (3, "c".into())]);
}

#[test]
fn a_reader_that_waits_is_woken_by_a_record_and_by_the_end() {
    let taps: Arc<Taps> = Arc::default();
    let tap = Arc::new(Tap::open(&taps, ALL).unwrap());
    let waiting = {
        let tap = Arc::clone(&tap);
        thread::spawn(move || {
            let mut taken = 0;
            loop {
                match tap.read(None, |_| true) {
                    Ok(count) => taken += count,
                    Err(error) => return (taken, matches!(error, Error::State(_))),
                }
            }
        })
    };
    let mut recorder = Recorder::new(&taps);
    for _ in 0..1000 {
        write(&mut recorder, 1, b"x", b"");
        recorder.wake();
    }
    taps.end();
    assert_eq!(waiting.join().unwrap(), (1000, true));
    assert!(is_readable(&tap));
    assert!(matches!(Tap::open(&taps, ALL), Err(Error::State(_))));
}

#[test]
fn capacities_out_of_range_are_refused() {
    for capacity_bytes in [1, TAP_BYTES_MIN - 1, (1 << 30) + 1, usize::MAX] {
        let opened = Tap::open(&Arc::default(), Settings { capacity_bytes, ..ALL });
        assert!(matches!(opened, Err(Error::Spec(_))), "{capacity_bytes}");
    }
}

#[test]
fn what_a_job_collects_is_written_later_or_never() {
    let taps = Arc::default();
    let mut recorder = Recorder::new(&taps);
    let tap = Tap::open(&taps, Settings { data_bytes_max: 3, ..ALL }).unwrap();
    let mut job = recorder.for_job();
    write(&mut job, 1, b"forgotten", b"");
    drop(job);
    let mut job = recorder.for_job();
    write(&mut job, 1, b"collected", b"answer");
    let collected = job.into_collected();
    assert_eq!(texts(&tap), []);
    recorder.record_collected(collected);
    let mut seen = 0;
    tap.read(None, |record| {
        assert_eq!((record.data, record.message_bytes), (&b"col"[..], 9));
        assert_eq!((record.answer, record.answer_bytes), (&b"ans"[..], 6));
        seen += 1;
        true
    })
    .unwrap();
    assert_eq!(seen, 1);
}

#[test]
fn a_closed_tap_is_let_go_of() {
    let taps: Arc<Taps> = Arc::default();
    let mut recorder = Recorder::new(&taps);
    let told = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&told);
    taps.set_notify(move || _ = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    let tap = Tap::open(&taps, ALL).unwrap();
    write(&mut recorder, 1, b"x", b"");
    let channel = tap.weak();
    drop(tap);
    assert_eq!(told.load(std::sync::atomic::Ordering::Relaxed), 2);
    assert!(channel.upgrade().is_some(), "the worker has it");
    recorder.refresh();
    assert!(channel.upgrade().is_none());
}
