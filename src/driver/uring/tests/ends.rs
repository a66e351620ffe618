//! Ends of streams that come together with their bytes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use socket2::SockRef;

use super::super::slots::CANCELLING;
use super::*;

/// The end of a stream that comes right behind its first bytes is looked for, in case that the kernel woke up once for both,
/// and only then.
#[test]
fn an_end_behind_the_first_bytes_is_looked_for() {
    let Some(mut driver) = driver() else { return };
    let mut pool = Pool::default();
    for (number, (first, ends)) in [(false, true), (true, true), (false, false)].into_iter().enumerate() {
        let token = Token::new(0, number as u32);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        driver.add_stream(token, ours.into(), SocketKind::UnixStream, READ_BYTES_MAX).unwrap();
        // The kernel waits for bytes.
        wait(&mut driver, Some(Duration::ZERO));
        assert!(driver.next().is_none());
        if first {
            theirs.write_all(b"first").unwrap();
            let seen = turns(&mut driver, &mut pool, false, PATIENCE);
            assert_eq!(seen, [(received(b"first"), token)]);
        }
        theirs.write_all(b"last").unwrap();
        if ends {
            theirs.shutdown(std::net::Shutdown::Write).unwrap();
        }
        wait(&mut driver, Some(PATIENCE));
        let found = driver.next();
        assert!(matches!(found, Some(Completion::Received { .. })), "{found:?}");
        let is_looked_for = ring(&mut driver).slot(token).unwrap().flags.has(CANCELLING);
        assert_eq!(is_looked_for, ends && !first, "first: {first}, ends: {ends}");
        if ends {
            while driver.next().is_none() {
                wait(&mut driver, Some(PATIENCE));
            }
        }
        driver.close(token, Close::Gently);
    }
}

/// Bytes and an end that come while a receive begins: one turn in some tens of thousands has both behind the kernel's first
/// attempt and before it waits.
#[test]
fn an_end_while_a_receive_begins_is_reported() {
    let Some(mut driver) = driver() else { return };
    let mut pool = Pool::default();
    let begun = AtomicUsize::new(0);
    let (hand_over, handed_over) = mpsc::channel::<TcpStream>();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for (number, mut theirs) in handed_over.into_iter().enumerate() {
                SockRef::from(&theirs).set_linger(Some(Duration::ZERO)).unwrap();
                while begun.load(Ordering::Acquire) <= number {
                    std::hint::spin_loop();
                }
                (0..number % 97).for_each(|_| std::hint::spin_loop());
                // The connection may be gone already, if the driver was quicker.
                let _ = theirs.write_all(b"last");
            }
        });
        for number in 0..3000 {
            let token = Token::new(0, number);
            hand_over.send(connect(&mut driver, token)).unwrap();
            begun.fetch_add(1, Ordering::Release);
            let mut has_ended = false;
            while !has_ended {
                let seen = turns(&mut driver, &mut pool, false, PATIENCE);
                assert!(!seen.is_empty(), "connection {number}: no end");
                has_ended = seen.iter().any(|(seen, _)| matches!(seen, Seen::Ended | Seen::Failed));
            }
            driver.close(token, Close::Gently);
        }
        drop(hand_over);
    });
}
