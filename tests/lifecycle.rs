//! From building to stopping: all or nothing, lent threads, listeners that come and go, draining, dying.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use resay::{Client, CloseReason, Error, EventKind, TapOptions};

const ANY_PORT: &str = "tcp://127.0.0.1:0";

/// One of several listeners cannot be bound, whichever it is: nothing is left open, no file and no thread stays,
/// and the error names it.
#[test]
fn all_listeners_or_none() {
    isolated(|| {
        let directory = directory();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = format!("tcp://{}", taken.local_addr().unwrap());
        let _keeper = TcpListener::bind(taken.trim_start_matches("tcp://"));
        let holder = UnixListener::bind(directory.path().join("taken")).unwrap();
        let taken_file = format!("unix:{}/taken", directory.path().display());
        let good: Vec<_> = Transport::all().iter().map(|transport| transport.url(directory.path())).collect();
        let before = descriptors();
        let files = || fs::read_dir(directory.path()).unwrap().count();
        for bad in [
            taken_file.as_str(),
            "unix:/nowhere/at/all/s",
            "tcp://192.0.2.1:0",
            "udp://192.0.2.1:0",
            "fd:9999",
            "tcp://127.0.0.1:0?chain=nothing-like-that",
        ] {
            for place in [0, 1, good.len()] {
                let mut urls = good.clone();
                urls.insert(place, bad.to_owned());
                let mut builder = engine_builder().threads(3).unwrap();
                for url in &urls {
                    builder = builder.listen(url).unwrap();
                }
                let error = builder.start().map(drop).unwrap_err();
                let name = bad.split('?').next().unwrap();
                assert!(
                    error.to_string().contains(name) || error.to_string().contains("nothing-like-that"),
                    "{bad}: {error}"
                );
                assert_eq!(descriptors(), before, "{bad} at {place}");
                assert_eq!(files(), 1, "{bad} at {place}");
            }
        }
        drop(holder);
    });
}

/// The same with a running engine: what cannot be added leaves it as it was.
#[test]
fn a_listener_that_cannot_be_added() {
    isolated(|| {
        let directory = directory();
        let (engine, url) = serve(ANY_PORT, "");
        let before = descriptors();
        for bad in [url.as_str(), "unix:/nowhere/at/all/s", "fd:9999", "tcp://192.0.2.1:0", "tcp://nowhere"] {
            assert!(engine.listen(bad).is_err(), "{bad}");
            assert_eq!(descriptors(), before, "{bad}");
        }
        // A socket that is handed over and cannot be used is closed.
        let file = fs::File::open(directory.path()).unwrap();
        assert!(engine.listen_socket(file.into(), "").is_err());
        let connected = Peer::connect(&url);
        assert!(engine.listen_socket(connected.socket.try_clone().unwrap().into(), "").is_err());
        let unfit = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(engine.listen_socket(unfit.into(), "nonsense=1").is_err());
        drop(connected);
        eventually("everything is closed again", || {
            let now = descriptors();
            if now == before { Ok(()) } else { Err(format!("{now:?}")) }
        });
        assert_eq!(engine.urls(), [url.as_str()]);
        assert_answers(&url);
        finish(engine);
    });
}

/// Listeners are added and closed while others run; the connections of a closed one go on.
#[test]
fn listeners_come_and_go() {
    isolated(|| {
        let directory = directory();
        let (engine, first) = serve(ANY_PORT, "uppercase");
        let witness = Peer::connect(&first);
        for round in 0..5 {
            let mut added = Vec::new();
            for transport in Transport::all() {
                let id = engine.listen(&transport.url(directory.path())).unwrap();
                let url = engine.listener(id).unwrap().url;
                let peer = Peer::connect(&url);
                assert_eq!(peer.ask(b"new"), b"NEW", "{round} {transport:?}");
                added.push((transport, id, url, peer));
                assert_eq!(witness.ask(b"and I"), b"AND I");
            }
            assert_eq!(engine.listeners().len(), added.len() + 1);
            for (transport, id, url, peer) in added {
                engine.close_listener(id).unwrap();
                assert!(matches!(engine.close_listener(id), Err(Error::Handle(_))), "{transport:?}");
                assert!(engine.listener(id).is_err(), "{transport:?}");
                if transport.is_connected() {
                    eventually(&format!("{transport:?}: nobody can connect any more"), || {
                        match Peer::try_connect(&url) {
                            Err(_) => Ok(()),
                            Ok(_) => Err("somebody can".into()),
                        }
                    });
                    assert_eq!(peer.ask(b"I stay"), b"I STAY", "{transport:?}");
                }
                if let Some((_, path)) = url.split_once(":/").filter(|_| url.starts_with("unix")) {
                    eventually("the file is gone", || {
                        if fs::exists(format!("/{path}")).unwrap() { Err(path.to_owned()) } else { Ok(()) }
                    });
                }
                assert_eq!(witness.ask(b"and I"), b"AND I");
            }
        }
        assert_eq!(engine.urls(), [first]);
        drop(witness);
        finish(engine);
    });
}

/// Who already waits to be accepted when a listener is closed is served, and not reset.
#[test]
fn closing_a_listener_serves_its_queue() {
    isolated(|| {
        let directory = directory();
        for transport in Transport::connected() {
            let engine = engine_builder().listen(&transport.url(directory.path())).unwrap().build().unwrap();
            let url = engine.urls().remove(0);
            let peers: Vec<_> = (0..100).map(|_| Peer::connect(&url)).collect();
            peers.iter().take(50).for_each(|peer| peer.send(b"queued"));
            let id = engine.listeners()[0].id;
            engine.start().unwrap();
            engine.close_listener(id).unwrap();
            for (number, peer) in peers.iter().enumerate() {
                if number >= 50 {
                    peer.send(b"queued");
                }
                assert_eq!(peer.message(), b"queued", "{transport:?} {number}");
            }
            drop(peers);
            finish(engine);
        }
    });
}

/// Draining answers everything that has arrived, on every transport, ends each connection in good order, and then
/// the engine is gone.
#[test]
fn draining_answers_what_has_arrived() {
    isolated(|| {
        let directory = directory();
        for transport in Transport::all() {
            let engine = engine_builder()
                .listen(&transport.url(directory.path()))
                .unwrap()
                .chain("uppercase")
                .unwrap()
                .build()
                .unwrap();
            let url = engine.urls().remove(0);
            // A socket's queue of datagrams is short, and the server does not read yet.
            let count = if transport.is_connected() { 20 } else { 5 };
            let peers: Vec<_> = (0..count).map(|_| Peer::connect(&url)).collect();
            let text = "to be answered ".repeat(1000);
            peers.iter().for_each(|peer| peer.send(text.as_bytes()));
            engine.start().unwrap();
            thread::scope(|scope| {
                let drain = scope.spawn(|| engine.drain(PATIENCE));
                for peer in peers {
                    let answer = if transport.is_stream() { peer.to_end() } else { peer.message() };
                    assert_same(&format!("{transport:?}"), text.to_uppercase().as_bytes(), &answer);
                    if transport == Transport::Seqpacket {
                        assert_eq!(peer.message(), b"");
                    }
                }
                drain.join().unwrap().unwrap();
            });
            assert!(Peer::try_connect(&url).is_err() || !transport.is_connected(), "{transport:?}");
            let stats = balanced(&engine);
            assert_eq!((stats.messages_out, stats.undelivered_bytes), (count, 0), "{transport:?} {stats:?}");
            drop(engine);
        }
    });
}

/// Answers that are still on their way when draining begins arrive in full, however long they are.
#[test]
fn draining_delivers_what_waits() {
    isolated(|| {
        let (engine, url) = serve(&format!("{ANY_PORT}?sndbuf=16k"), "");
        let peer = Peer::connect_with(&url, |socket| socket.set_recv_buffer_size(4096)).unwrap();
        let data = noise(100_000, 3);
        peer.send(&data);
        eventually_stats(&engine, "it is read", |stats| stats.bytes_in == 100_000);
        thread::scope(|scope| {
            let drain = scope.spawn(|| engine.drain(PATIENCE));
            eventually("the drain has begun", || match Peer::try_connect(&url) {
                Err(_) => Ok(()),
                Ok(_) => Err("it still listens".into()),
            });
            assert_same("all of it", &data, &peer.to_end());
            drop(peer);
            drain.join().unwrap().unwrap();
        });
        assert_eq!(balanced(&engine).undelivered_bytes, 0);
    });
}

/// A peer that never reads cannot hold up the end: the deadline holds, and what it did not take is counted.
#[test]
fn draining_ends_at_its_deadline() {
    isolated(|| {
        let directory = directory();
        for transport in Transport::streams() {
            let (engine, url) = serve(&transport.url(directory.path()), "");
            let peer = Peer::connect(&url);
            peer.socket.set_nonblocking(true).unwrap();
            eventually("the server reads no more", || {
                let before = engine.stats().bytes_in;
                while peer.try_send(&[b'x'; 4096]).is_ok() {}
                pace(Duration::from_millis(20));
                let after = engine.stats().bytes_in;
                let quiet = before == after && after > 0 && peer.try_send(&[b'x'; 4096]).is_err();
                if quiet { Ok(()) } else { Err(format!("{after} bytes")) }
            });
            let began = Instant::now();
            // Where the machine is so busy that the workers' last turn takes longer than the grace, that is told; they end all the same.
            if engine.drain(Duration::from_millis(500)).is_err() {
                engine.join(PATIENCE).unwrap();
            }
            let took = began.elapsed();
            assert!(took >= Duration::from_millis(490), "{transport:?}: it was given {took:?}");
            assert!(took < PATIENCE, "{transport:?}: {took:?}");
            let stats = balanced(&engine);
            assert_eq!(stats.closed_by(CloseReason::CutOff), 1, "{transport:?} {stats:?}");
            assert!(stats.undelivered_bytes > 0, "{transport:?} {stats:?}");
            // Bytes that were still unread are in nobody's figures.
            assert_eq!(stats.bytes_in, stats.bytes_out + stats.undelivered_bytes, "{transport:?} {stats:?}");
        }
    });
}

/// A transform that does not return: stopping gives up at its deadline and says so. When it returns at last, the
/// engine can still end.
#[test]
fn stopping_with_a_transform_that_does_not_return() {
    isolated(|| {
        let directory = directory();
        let source = directory.path().join("stuck.c");
        let library = directory.path().join("libstuck.so");
        let code = r#"
            #define _GNU_SOURCE
            #include <resay_plugin.h>
            #include <unistd.h>
            static resay_status map(void *instance, void *session, uint8_t *data, size_t len) {
              (void)instance, (void)session;
              if (len > 0 && data[0] == 'X') while (access("GO", F_OK) != 0) usleep(1000);
              return RESAY_OK;
            }
            static const resay_transform stuck = { .struct_size = sizeof stuck, .id = "stuck", .map = map };
            RESAY_PLUGIN(&stuck);
        "#;
        let go = directory.path().join("go");
        fs::write(&source, code.replace("GO", text(&go))).unwrap();
        let include = concat!(env!("CARGO_MANIFEST_DIR"), "/include");
        let output = Command::new("cc")
            .args(["-shared", "-fPIC", "-I", include, "-o", text(&library), text(&source)])
            .output();
        match output {
            Err(_) => return skipped("a transform that does not return: there is no cc"),
            Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        }
        let (engine, url) = serve(ANY_PORT, text(&library));
        let (peer, stuck) = (Peer::connect(&url), Peer::connect(&url));
        assert_eq!(peer.ask(b"fine"), b"fine");
        stuck.send(b"X");
        eventually_stats(&engine, "it is in there", |stats| stats.messages_in == 2);
        let began = Instant::now();
        let error = engine.drain(Duration::from_millis(300)).unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{error}");
        engine.stop();
        let error = engine.join(Duration::from_millis(300)).unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{error}");
        assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
        fs::write(&go, "").unwrap();
        engine.join(PATIENCE).unwrap();
        balanced(&engine);
    });
}

/// An engine whose owner just lets go of it takes everything with it, whatever is going on.
#[test]
fn dropped_in_the_middle() {
    isolated(|| {
        let directory = directory();
        for round in 0..10 {
            let mut builder = engine_builder().threads(1 + round % 3).unwrap();
            for transport in Transport::all() {
                builder = builder.listen(&transport.url(directory.path())).unwrap();
            }
            let engine = if round % 4 == 3 { builder.build().unwrap() } else { builder.start().unwrap() };
            let peers: Vec<_> = engine.urls().iter().map(|url| Peer::connect(url)).collect();
            peers.iter().for_each(|peer| peer.send(b"anybody"));
            drop(engine);
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "{round}: no file stays");
        }
    });
}

/// What does not fit the state of an engine is an error, and changes nothing.
#[test]
fn calls_at_the_wrong_time() {
    isolated(|| {
        let (engine, url) = serve(ANY_PORT, "");
        assert!(matches!(engine.start(), Err(Error::State(_))));
        assert!(matches!(engine.run(Some(Duration::ZERO)), Err(Error::State(_))));
        assert_answers(&url);
        assert!(matches!(engine.join(Duration::from_millis(10)), Err(Error::Timeout { .. })));
        engine.stop();
        engine.stop();
        engine.join(PATIENCE).unwrap();
        engine.join(PATIENCE).unwrap();
        engine.drain(PATIENCE).unwrap();
        assert!(engine.listen(ANY_PORT).is_err(), "an engine that has ended listens no more");
        balanced(&engine);
        drop(engine);

        let two = engine_builder().threads(2).unwrap().listen(ANY_PORT).unwrap().build().unwrap();
        assert!(matches!(two.poll_fd(), Err(Error::State(_))));
        assert!(two.run(Some(Duration::ZERO)).unwrap());
        assert!(matches!(two.start(), Err(Error::State(_))), "its threads are lent");
        for wrong in [0, 257] {
            assert!(engine_builder().threads(wrong).is_err());
        }
        // An engine without any listener is one too.
        finish(engine_builder().start().unwrap());
    });
}

/// The host's own event loop: it watches one descriptor, waits no longer than it is told, and lends its thread
/// when something is to be done.
#[test]
fn in_the_loop_of_the_host() {
    isolated(|| {
        let directory = directory();
        let mut builder = engine_builder().set("idle_timeout", "300ms").unwrap().chain("uppercase").unwrap();
        let transports = Transport::all();
        for transport in &transports {
            builder = builder.listen(&transport.url(directory.path())).unwrap();
        }
        let engine = builder.build().unwrap();
        let urls = engine.urls();
        thread::scope(|scope| {
            let peers = scope.spawn(|| {
                for (transport, url) in transports.iter().zip(&urls) {
                    let peer = Peer::connect(url);
                    for _ in 0..20 {
                        assert_eq!(peer.ask(b"in your loop"), b"IN YOUR LOOP", "{transport:?}");
                    }
                    if transport.is_stream() {
                        let data = vec![b'X'; 1 << 20];
                        assert_same(&format!("{transport:?}"), &data, &exchange(&peer, &data, data.len()));
                    }
                    if transport.is_connected() {
                        // Only a deadline makes something happen now.
                        assert_eq!(peer.message(), b"", "{transport:?}: idle_timeout");
                    }
                }
                engine.drain(PATIENCE).unwrap();
            });
            // The only waits without end would be those of a loop that is told nothing: cut short, and counted.
            let mut alive = true;
            while alive {
                let fd = engine.poll_fd().unwrap();
                let timeout = engine.poll_timeout().unwrap_or(PATIENCE).min(PATIENCE);
                let mut watched = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
                // Rounded up, as a timeout that is cut to 0 would spin.
                let milliseconds = i32::try_from(timeout.as_micros().div_ceil(1000)).unwrap();
                // SAFETY: one pollfd.
                let ready = unsafe { libc::poll(&mut watched, 1, milliseconds) };
                assert!(ready >= 0, "{}", io::Error::last_os_error());
                assert!(ready > 0 || timeout < PATIENCE, "the descriptor never became readable");
                alive = engine.run(Some(Duration::ZERO)).unwrap();
            }
            peers.join().unwrap();
        });
        assert!(!engine.run(Some(Duration::ZERO)).unwrap(), "it stays at its end");
        engine.join(PATIENCE).unwrap();
        balanced(&engine);
    });
}

/// Threads that are lent for as long as the engine lives, as many as it has workers.
#[test]
fn on_lent_threads() {
    isolated(|| {
        let engine = engine_builder().threads(3).unwrap().listen(ANY_PORT).unwrap().build().unwrap();
        let url = engine.urls().remove(0);
        thread::scope(|scope| {
            let lent: Vec<_> = (0..3).map(|_| scope.spawn(|| engine.run(None))).collect();
            let peers: Vec<_> = (0..9).map(|_| Peer::connect(&url)).collect();
            for peer in &peers {
                assert_eq!(peer.ask(b"lent"), b"lent");
            }
            // A fourth one is not wanted.
            assert!(matches!(engine.run(Some(Duration::ZERO)), Err(Error::State(_))));
            engine.stop();
            lent.into_iter().for_each(|thread| assert!(!thread.join().unwrap().unwrap()));
        });
        engine.join(PATIENCE).unwrap();
        balanced(&engine);
    });
}

/// A time that no clock counts to is one without end, in each call that waits.
#[test]
fn the_longest_time_has_no_end() {
    isolated(|| {
        let forever = Some(Duration::MAX);
        let engine = engine_builder().listen("udp://127.0.0.1:0").unwrap().build().unwrap();
        let url = engine.urls().remove(0);
        let (events, tap) =
            (engine.events(u32::MAX, 100).unwrap(), engine.tap(TapOptions::default()).unwrap());
        thread::scope(|scope| {
            let lent = scope.spawn(|| engine.run(forever));
            let client = Client::open(&url, forever).unwrap();
            client.send(b"hello", forever).unwrap();
            assert_eq!(client.recv(&mut [0; 8], forever).unwrap(), 5);
            assert_eq!(tap.read(forever, |_| true).unwrap(), 1);
            assert!(events.next(forever).unwrap().is_some());
            assert_eq!(engine.connections(Duration::MAX).len(), 0);
            engine.sync(forever).unwrap();
            engine.drain(Duration::MAX).unwrap();
            assert!(!lent.join().unwrap().unwrap());
        });
        engine.join(Duration::MAX).unwrap();
        balanced(&engine);
    });
}

/// A host may leave SIGPIPE its default action, which ends the process, and lend a thread on which it is not blocked: peers
/// that are gone before their answer send none.
#[test]
fn lent_threads_hear_of_no_sigpipe() {
    isolated(|| {
        // SAFETY: the default action is no handler.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        let directory = directory();
        for transport in Transport::all().into_iter().filter(|transport| transport.is_connected()) {
            let url = transport.url(directory.path());
            let engine = engine_builder().listen(&url).unwrap().build().unwrap();
            let url = engine.urls().remove(0);
            // Gone before anything of theirs is read.
            (0..20).for_each(|_| Peer::connect(&url).send(&noise(20_000, 1)));
            thread::scope(|scope| {
                let lent = scope.spawn(|| engine.run(None));
                assert_answers(&url);
                for _ in 0..100 {
                    let peer = Peer::connect(&url);
                    peer.ask(b"x");
                    peer.send(&noise(20_000, 2));
                    peer.send(&noise(20_000, 3));
                }
                assert_answers(&url);
                engine.stop();
                assert!(!lent.join().unwrap().unwrap(), "{transport:?}");
            });
            balanced(&engine);
        }
    });
}

/// A signal that comes while a thread is lent ends the call, so that the host can look after it; nothing is lost.
#[test]
fn a_signal_interrupts_a_lent_thread() {
    isolated(|| {
        extern "C" fn nothing(_: i32) {}
        let handler: extern "C" fn(i32) = nothing;
        // SAFETY: an action without SA_RESTART; the handler does nothing.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as usize;
            assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
        }
        let engine = engine_builder().listen(ANY_PORT).unwrap().build().unwrap();
        let url = engine.urls().remove(0);
        let interrupted = AtomicBool::new(false);
        thread::scope(|scope| {
            let (tell, told) = mpsc::channel();
            let (engine, interrupted) = (&engine, &interrupted);
            let lent = scope.spawn(move || {
                // SAFETY: no arguments.
                tell.send(unsafe { libc::pthread_self() }).unwrap();
                let error = engine.run(None).unwrap_err();
                let Error::System { source, .. } = error else { panic!("{error}") };
                assert_eq!(source.kind(), io::ErrorKind::Interrupted);
                interrupted.store(true, Ordering::Relaxed);
                // And on with it, however many signals are still on their way.
                loop {
                    match engine.run(None) {
                        Ok(alive) => break alive,
                        Err(Error::System { source, .. }) => {
                            assert_eq!(source.kind(), io::ErrorKind::Interrupted);
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            });
            let thread = told.recv().unwrap();
            let peer = Peer::connect(&url);
            assert_eq!(peer.ask(b"before"), b"before");
            peer.send(b"meanwhile");
            eventually("a signal meets the wait", || {
                // SAFETY: the thread runs until the scope ends.
                assert_eq!(unsafe { libc::pthread_kill(thread, libc::SIGUSR1) }, 0);
                if interrupted.load(Ordering::Relaxed) { Ok(()) } else { Err("not yet".into()) }
            });
            assert_eq!(peer.exactly(9), b"meanwhile");
            drop(peer);
            engine.stop();
            assert!(!lent.join().unwrap());
        });
        balanced(&engine);
    });
}

/// A server is killed without a chance to clean up, with connections open, and started again at once at the same
/// addresses: it binds them, TCP and unix.
#[test]
fn killed_and_started_again() {
    isolated(|| {
        if let Some(urls) = role() {
            let mut builder = engine_builder();
            for url in urls.split(' ') {
                builder = builder.listen(url).unwrap();
            }
            let engine = builder.start().unwrap();
            say(&engine.urls().join(" "));
            while told().is_some() {}
            finish(engine);
            return;
        }
        let directory = directory();
        let urls: Vec<_> = Transport::all().iter().map(|transport| transport.url(directory.path())).collect();
        let mut urls = urls.join(" ");
        for round in 0..4 {
            let mut helper = Helper::start(&urls);
            // From the second round on with the real ports.
            urls = helper.hear();
            let peers: Vec<_> = urls.split(' ').map(Peer::connect).collect();
            for (peer, url) in peers.iter().zip(urls.split(' ')) {
                assert_eq!(peer.ask(b"alive"), b"alive", "{round} {url}");
            }
            // SIGKILL; the server's side of each connection is what ends first, and has to wait out its time.
            drop(helper);
        }
    });
}

/// An engine's totals have what closed listeners did, and what their last connections still do.
#[test]
fn totals_never_run_backwards() {
    isolated(|| {
        for threads in [1, 2] {
            let builder = engine_builder().threads(threads).unwrap();
            let engine = builder.listen(ANY_PORT).unwrap().listen(ANY_PORT).unwrap().start().unwrap();
            let id = engine.listeners()[1].id;
            let peer = Peer::connect(&engine.urls()[1]);
            assert_eq!(peer.ask(b"before"), b"before");
            let before = eventually_stats(&engine, "all is counted", |stats| stats.messages_out == 1);
            engine.close_listener(id).unwrap();
            let after = engine.stats();
            assert_eq!(
                (after.accepted, after.messages_in, after.bytes_out),
                (1, 1, 6),
                "{before:?} {after:?}"
            );
            assert_eq!(peer.ask(b"after"), b"after");
            eventually_stats(&engine, "its last connection is counted", |stats| stats.bytes_out == 11);
            drop(peer);
            let last = eventually_stats(&engine, "the end too", |stats| stats.open == 0);
            assert_eq!((last.accepted, last.closed, last.messages_in), (1, 1, 2), "{last:?}");
            assert_eq!(finish(engine), last);
        }
    });
}

/// Events tell of every listener and connection, and are the same on the thread that makes them.
#[test]
fn events_tell_what_happened() {
    isolated(|| {
        let log = Log::default();
        let engine = log.builder().listen(ANY_PORT).unwrap().start().unwrap();
        let url = engine.urls().remove(0);
        assert_answers(&url);
        eventually_stats(&engine, "closed", |stats| stats.closed == 1);
        engine.set_chain("uppercase").unwrap();
        finish(engine);
        for (kind, what) in [
            (EventKind::Listening, "listening"),
            (EventKind::Accepted, " from 127.0.0.1:"),
            (EventKind::Closed, "closed by the peer"),
            (EventKind::ChainChanged, "uppercase"),
            (EventKind::ListenerClosed, "closed"),
        ] {
            let lines = log.lines(kind);
            assert_eq!(lines.len(), 1, "{kind:?}: {lines:?}");
            assert!(lines[0].1.contains(what), "{kind:?}: {lines:?}");
        }
    });
}

/// Many engines one after another, and several at once: none leaves anything behind.
#[test]
fn many_engines() {
    isolated(|| {
        for _ in 0..40 {
            let (engine, url) = serve(ANY_PORT, "uppercase");
            assert_eq!(Peer::connect(&url).ask(b"one of many"), b"ONE OF MANY");
            finish(engine);
        }
        let engines: Vec<_> = (0..10).map(|_| serve(ANY_PORT, "")).collect();
        engines.iter().for_each(|(_, url)| assert_answers(url));
        for (engine, _) in engines {
            finish(engine);
        }
    });
}

/// The state of this process's workers, as proc(5) has it: R runs, S sleeps.
fn states_of_workers() -> Vec<char> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let texts = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")).ok());
    texts
        .filter(|text| text.contains("(resay-"))
        .map(|text| text.rsplit_once(") ").unwrap().1.chars().next().unwrap())
        .collect()
}

/// A worker that looks before it sleeps answers like any other, hears of swaps and stops, and sleeps when there is
/// nothing to do.
#[test]
fn spinning_changes_nothing_but_time() {
    isolated(|| {
        for transport in Transport::all() {
            let directory = directory();
            let builder = engine_builder().listen(&transport.url(directory.path())).unwrap();
            let builder = builder.threads(2).unwrap().spin(Duration::from_micros(200)).unwrap();
            let engine = builder.chain("uppercase").unwrap().start().unwrap();
            let url = engine.urls().remove(0);
            let peer = Peer::connect(&url);
            for number in 0..300 {
                let text = format!("message {number}");
                assert_eq!(peer.ask(text.as_bytes()), text.to_uppercase().as_bytes(), "{transport:?}");
            }
            engine.set_chain("identity").unwrap();
            eventually("the swap is heard of", || match peer.ask(b"quiet").as_slice() {
                b"quiet" => Ok(()),
                other => Err(format!("{other:?}")),
            });
            eventually("they sleep", || match states_of_workers() {
                states if states.len() >= 2 && states.iter().all(|state| *state == 'S') => Ok(()),
                states => Err(format!("{states:?}")),
            });
            assert_eq!(peer.ask(b"awake?"), b"awake?");
            drop(peer);
            finish(engine);
        }
        let error = engine_builder().spin(Duration::from_millis(1001)).map(drop).unwrap_err();
        assert!(error.to_string().contains("at most 1 s"), "{error}");
    });
}
