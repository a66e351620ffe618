//! Where an engine may find itself: without io_uring, without IPv6, stopped for a while, with a clock that somebody sets,
//! beside a transform that does not come back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant, SystemTime};

use common::*;
use resay::{Backend, CloseReason, Error, EventKind, Message, Output, Transform, Verdict};

/// An engine that may not have io_uring serves with epoll, and says why.
#[test]
fn without_io_uring_the_log_says_why() {
    isolated(|| {
        refuse_call(libc::SYS_io_uring_setup, None, libc::EPERM);
        let log = Log::default();
        let directory = directory();
        let mut builder = log.builder().backend(Backend::Auto);
        for transport in Transport::all() {
            builder = builder.listen(&transport.url(directory.path())).unwrap();
        }
        let engine = builder.start().unwrap();
        engine.urls().iter().for_each(|url| assert_answers(url));
        let lines = log.lines(EventKind::Engine);
        let said = |part: &str| lines.iter().any(|(_, line)| line.contains(part));
        assert!(said("epoll") && said("seccomp"), "{lines:?}");
        finish(engine);
    });
}

/// Descriptors that have run out are no word about the kernel: once there are some again, it is asked again.
#[test]
fn io_uring_is_asked_for_again() {
    isolated(|| {
        let limit = set_descriptor_limit(64);
        let start = || {
            let builder = engine_builder().backend(Backend::Uring).listen("tcp://127.0.0.1:0").unwrap();
            builder.start()
        };
        let mut files: Vec<_> = std::iter::from_fn(|| fs::File::open("/dev/null").ok()).collect();
        let mut ran_out = false;
        // With few left it is some step of asking that fails, and a later one each time.
        let engine = loop {
            let started = start();
            let Err(error) = started else { break started };
            let has_run_out =
                matches!(&error, Error::System { source, .. } if source.raw_os_error() == Some(libc::EMFILE));
            if !has_run_out || files.pop().is_none() {
                break Err(error);
            }
            ran_out = true;
        };
        set_descriptor_limit(limit);
        match engine {
            Ok(engine) => drop(finish(engine)),
            Err(error) => return eprintln!("left out: {error}"),
        }
        assert!(ran_out);
    });
}

/// A machine without IPv6: all addresses are those of IPv4, and an IPv6 one is an error that names it.
#[test]
fn without_ipv6_all_addresses_are_those_of_ipv4() {
    isolated(|| {
        let switch = "/proc/sys/net/ipv6/conf/all/disable_ipv6";
        let network = own_network(&["link set lo up"]);
        if let Err(why) = network.and_then(|()| fs::write(switch, "1").map_err(|error| error.to_string())) {
            return skipped(&format!("a network of its own: {why}"));
        }
        // First the addresses are gone, and then the whole family, as if the kernel had never had it.
        for is_gone in [false, true] {
            if is_gone {
                let family = Some((0, libc::AF_INET6 as u32));
                refuse_call(libc::SYS_socket, family, libc::EAFNOSUPPORT);
            }
            let (engine, _) = serve("udp://127.0.0.1:0", "");
            for (url, refused) in [("tcp://:0", "tcp://[::1]:0"), ("udp://:0", "udp://[::1]:0")] {
                let id = engine.listen(url).unwrap();
                let port =
                    port_of(&engine.listeners().iter().find(|listener| listener.id == id).unwrap().url);
                let scheme = url.split(':').next().unwrap();
                assert_answers(&format!("{scheme}://127.0.0.1:{port}"));
                let error = engine.listen(refused).unwrap_err().to_string();
                assert!(error.contains(refused), "{is_gone} {error}");
            }
            finish(engine);
        }
    });
}

/// A process that is stopped and goes on later: whoever has sent something meanwhile is answered, however long it took and
/// however many they are; only whoever has been silent all the time is let go, and what is due is done.
#[test]
fn frozen_and_thawed() {
    const TIMEOUT: Duration = Duration::from_secs(2);
    const FROZEN: [Transport; 5] = [
        Transport::Tcp4,
        Transport::UnixStream,
        Transport::Seqpacket,
        Transport::Udp4,
        Transport::UnixDatagram,
    ];
    isolated(|| {
        if role().is_some() {
            raise_descriptor_limit();
            let directory = directory();
            for transport in FROZEN {
                let url = transport.url(directory.path());
                let options = if transport.is_connected() { "?idle_timeout=2s" } else { "" };
                let (engine, url) = serve(&format!("{url}{options}"), "");
                say(&url);
                while let Some(order) = told() {
                    match order.as_str() {
                        "next" => break,
                        _ => say(&engine.stats().closed.to_string()),
                    }
                }
                finish(engine);
            }
            return say("over");
        }
        raise_descriptor_limit();
        let mut helper = Helper::start("server");
        for transport in FROZEN {
            let url = helper.hear();
            // More than one look at the kernel brings, and as many datagrams as wait in any queue.
            let count = if transport.is_connected() { 1200 } else { 8 };
            let peers: Vec<_> = (0..count).map(|_| Peer::connect(&url)).collect();
            peers.iter().for_each(|peer| assert_eq!(peer.ask(b"before"), b"before", "{transport:?}"));
            let silent = transport.is_connected().then(|| Peer::connect(&url));
            silent.iter().for_each(|peer| assert_eq!(peer.ask(b"once"), b"once"));
            // Within their time, all of them.
            let since = Instant::now();
            peers.iter().for_each(|peer| assert_eq!(peer.ask(b"again"), b"again", "{transport:?}"));
            signal(&helper, libc::SIGSTOP);
            peers.iter().for_each(|peer| peer.send(b"meanwhile"));
            let is_in_time = since.elapsed() < TIMEOUT;
            pace(if transport.is_connected() { TIMEOUT + TIMEOUT / 10 } else { TIMEOUT / 10 });
            signal(&helper, libc::SIGCONT);
            // On a machine so busy that their time had passed before, they may be gone.
            if is_in_time {
                peers.iter().for_each(|peer| {
                    assert_eq!(peer.exactly_or_message(9), b"meanwhile", "{transport:?}");
                });
            }
            if let Some(silent) = silent {
                assert_eq!(silent.to_end(), b"", "{transport:?}");
            }
            drop(peers);
            assert_answers(&url);
            helper.tell("next");
        }
        assert_eq!(helper.hear(), "over");
        helper.finish();
    });
}

fn signal(helper: &Helper, number: i32) {
    // SAFETY: kill(2) takes no pointer.
    assert_eq!(unsafe { libc::kill(helper.pid() as i32, number) }, 0);
}

/// Somebody sets the clock, back and forth by years: nothing depends on it.
#[test]
fn the_wall_clock_jumps() {
    isolated(|| {
        if role().is_some() {
            return with_any_clock();
        }
        if !plugin::has_compiler() {
            return;
        }
        let directory = directory();
        let clock = plugin::compile_with(directory.path(), "clock", CLOCK, &["-D_GNU_SOURCE"]);
        let mut helper = Helper::start_with("server", |command| {
            command.env("LD_PRELOAD", &clock);
        });
        let readings: Vec<u64> = helper.hear().split(' ').map(|reading| reading.parse().unwrap()).collect();
        assert!(readings[0].abs_diff(readings[1]) > 300_000_000, "the clock does not jump: {readings:?}");
        let url = helper.hear();
        let peers = [Peer::connect(&url), Peer::connect(&url)];
        for number in 0..20_u8 {
            let begin = Instant::now();
            peers.iter().for_each(|peer| assert_eq!(peer.ask(&[number; 9]), [number; 9]));
            assert!(begin.elapsed() >= Duration::from_millis(20), "{:?}", begin.elapsed());
        }
        let impatient = helper.hear();
        assert_eq!(Peer::connect(&impatient).to_end(), b"");
        drop(peers);
        helper.finish();
    });
}

/// The server: what it delays, what it waits for and when it ends are times of the other clock.
fn with_any_clock() {
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    say(&format!("{} {}", now(), now()));
    let (engine, url) =
        serve("tcp://127.0.0.1:0?idle_timeout=1h&min_rate=1/1h&keepalive=1h", "delay:time=20ms");
    say(&url);
    let (other, url) = serve("tcp://127.0.0.1:0?idle_timeout=50ms", "");
    say(&url);
    assert_eq!(told(), None);
    finish(other);
    let stats = eventually_stats(&engine, "both have ended", |stats| stats.closed == 2);
    assert_eq!(stats.closed_by(CloseReason::PeerClosed), 2, "{stats:?}");
    engine.drain(PATIENCE).unwrap();
    finish(engine);
}

/// Another year at each call. What the C library asks itself has no such name.
const CLOCK: &str = r#"
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long jump(void)
{
  static _Atomic long calls;
  return (calls++ % 2) * 631152000L;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
  int result = (int)syscall(SYS_clock_gettime, clock, now);
  if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += jump();
  return result;
}

time_t time(time_t *to)
{
  struct timespec now = {0, 0};
  (void)clock_gettime(CLOCK_REALTIME, &now);
  if (to != NULL) *to = now.tv_sec;
  return now.tv_sec;
}

int gettimeofday(struct timeval *restrict to, void *restrict zone)
{
  struct timespec now = {0, 0};
  (void)zone;
  (void)clock_gettime(CLOCK_REALTIME, &now);
  to->tv_sec = now.tv_sec;
  to->tv_usec = now.tv_nsec / 1000;
  return 0;
}
"#;

/// A transform that does not come back, and has not said that it may block, holds its own worker and nobody else: the
/// connections of the other worker are served.
#[test]
fn a_worker_that_is_held_holds_no_other() {
    isolated(|| {
        for transport in Transport::connected() {
            let ((enter, entered), (release, held)) = (mpsc::channel(), mpsc::channel::<()>());
            let held = Mutex::new(held);
            let hold = move |message: &Message<'_>, _: &mut Output<'_>| {
                if **message == *b"hold" {
                    enter.send(()).unwrap();
                    let _ = held.lock().unwrap().recv();
                }
                Verdict::Pass
            };
            let directory = directory();
            let builder =
                engine_builder().threads(2).unwrap().register(Transform::from_fn("hold", hold).unwrap());
            let builder = builder.listen(&transport.url(directory.path())).unwrap();
            let engine = builder.chain("hold").unwrap().start().unwrap();
            let url = &engine.urls()[0];
            // Two for each worker.
            let peers: Vec<_> = (0..4).map(|_| Peer::connect(url)).collect();
            peers.iter().for_each(|peer| assert_eq!(peer.ask(b"hello"), b"hello"));
            peers[0].send(b"hold");
            entered.recv_timeout(PATIENCE).unwrap();
            peers[1..].iter().for_each(|peer| peer.send(b"still there?"));
            eventually("those of the other worker are answered", || {
                match peers[1..].iter().filter(|peer| peer.has_something()).count() {
                    answered @ 2.. => Ok(answered),
                    answered => Err(format!("{answered} are")),
                }
            });
            release.send(()).unwrap();
            assert_eq!(peers[0].exactly_or_message(4), b"hold");
            peers[1..].iter().for_each(|peer| assert_eq!(peer.exactly_or_message(12), b"still there?"));
            drop((peers, release));
            finish(engine);
        }
    });
}
