//! Threads and loops of the host, which run an engine in parts: what comes from elsewhere meanwhile, and who serves what at the
//! end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use common::*;
use resay::{EventKind, LogLevel};

const ANY_PORT: &str = "tcp://127.0.0.1:0";

/// What another thread asks for while a turn goes on is done by the next one, and the loop is told of that: also where the wait
/// of this turn has taken the waking with it.
#[test]
fn a_loop_of_the_host_hears_of_what_comes_in_the_middle_of_a_turn() {
    isolated(|| {
        let (tell, told) = mpsc::channel();
        let (go_on, gone_on) = mpsc::channel();
        let both = Mutex::new((tell, gone_on));
        let engine = engine_builder().on_event(LogLevel::Info, move |event| {
            if event.kind == EventKind::Listening {
                // In front of the wait.
                let both = both.lock().unwrap();
                both.0.send(()).unwrap();
                both.1.recv_timeout(PATIENCE).unwrap();
            }
        });
        let engine = &engine.build().unwrap();
        let fd = engine.poll_fd().unwrap();
        assert!(engine.run(Some(Duration::ZERO)).unwrap());
        engine.listen(ANY_PORT).unwrap();
        thread::scope(|scope| {
            scope.spawn(move || {
                told.recv_timeout(PATIENCE).unwrap();
                engine.drain(PATIENCE).unwrap();
                go_on.send(()).unwrap();
            });
            while engine.run(Some(Duration::ZERO)).unwrap() {
                assert!(becomes_readable(fd), "the loop sleeps, and the engine is to be drained");
            }
        });
        engine.join(Duration::ZERO).unwrap();
    });
}

/// The same of what another thread has done with the worker itself, while no turn goes on.
#[test]
fn a_loop_of_the_host_hears_of_what_is_left_for_a_turn() {
    isolated(|| {
        let engine = engine_builder().listen("udp://127.0.0.1:0").unwrap().build().unwrap();
        let fd = engine.poll_fd().unwrap();
        assert!(engine.run(Some(Duration::ZERO)).unwrap());
        let id = engine.listeners()[0].id;
        thread::scope(|scope| scope.spawn(|| engine.close_listener(id).unwrap()).join().unwrap());
        assert!(becomes_readable(fd), "the loop sleeps, and the socket is still open");
        engine.stop();
        while engine.run(Some(Duration::ZERO)).unwrap() {}
    });
}

/// A thread that comes when another has brought its worker to an end serves what is left, not what has ended.
#[test]
fn a_thread_that_comes_late_serves_what_is_left() {
    isolated(|| {
        let engine = engine_builder().threads(3).unwrap().listen(ANY_PORT).unwrap().build().unwrap();
        assert!(engine.run(Some(Duration::ZERO)).unwrap());
        engine.drain(PATIENCE).unwrap();
        for _ in 0..3 {
            assert!(!engine.run(None).unwrap());
        }
        engine.join(Duration::ZERO).unwrap();
        assert!(!engine.run(Some(Duration::ZERO)).unwrap(), "it stays at its end");
        balanced(&engine);
    });
}

/// What was stopped before it had a thread has ended when it gets one.
#[test]
fn a_thread_that_is_lent_to_a_stopped_engine_comes_back() {
    isolated(|| {
        let engine = engine_builder().threads(2).unwrap().listen(ANY_PORT).unwrap().build().unwrap();
        engine.stop();
        assert!(!engine.run(None).unwrap());
        assert!(!engine.run(None).unwrap());
        engine.join(Duration::ZERO).unwrap();
    });
}

/// A host may hold something of its own while it makes a turn without waiting: a thread of the engine's that wants the same, in
/// a hook, is not waited for.
#[test]
fn a_turn_without_waiting_waits_for_no_thread() {
    isolated(|| {
        let (tell, told) = mpsc::channel();
        let (held, hold) = mpsc::channel::<()>();
        let (tell, hold) = (Mutex::new(tell), Mutex::new(hold));
        let ended = move || {
            tell.lock().unwrap().send(()).unwrap();
            let _ = hold.lock().unwrap().recv();
        };
        let builder = engine_builder().listen(ANY_PORT).unwrap().chain("uppercase").unwrap();
        let engine = builder.thread_hooks(|_| {}, ended).build().unwrap();
        assert!(engine.run(Some(Duration::ZERO)).unwrap());
        // The old chain is destroyed on a thread of the engine's.
        engine.set_chain("lowercase").unwrap();
        assert!(engine.run(Some(Duration::ZERO)).unwrap());
        engine.stop();
        thread::scope(|scope| {
            let (say, said) = mpsc::channel();
            let engine = &engine;
            while engine.run(Some(Duration::ZERO)).unwrap() {}
            let joins = scope.spawn(|| engine.join(PATIENCE));
            told.recv_timeout(PATIENCE).expect("a thread of the engine ends");
            scope.spawn(move || say.send(engine.run(Some(Duration::ZERO)).unwrap()));
            let alive = said.recv_timeout(PATIENCE);
            // Also before it fails: the threads would be waited for.
            drop(held);
            assert!(!alive.expect("a turn without waiting comes back"));
            joins.join().unwrap().unwrap();
        });
    });
}

fn becomes_readable(fd: i32) -> bool {
    let mut watched = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd.
    let ready = unsafe { libc::poll(&mut watched, 1, i32::try_from(PATIENCE.as_millis()).unwrap()) };
    assert!(ready >= 0, "{}", io::Error::last_os_error());
    ready > 0
}
