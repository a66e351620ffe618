//! Engines of which one call fails: the first that can, the second, and so on until a run meets no failure any more.
//!
//! Whatever fails, an engine does not crash and leaves nothing open; it says why it does not start, or serves: what it does
//! not answer is counted under a reason, nobody waits for ever, and the next peer is served as if nothing had been. What
//! can fail, and how, is in `sys/faults.rs`; memory that is not there is in `buffer.rs`.
//!
//! In the ordinary tests each call fails once, with one of its errors; with `RESAY_TORTURE=full` (`cargo xtask torture`) with
//! each of them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests: what is not as expected fails them")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use resay_plugin::environment;

use crate::buffer::SHORTAGE;
use crate::client::{Client, Received};
use crate::engine::{Backend, Engine};
use crate::peer::SocketKind;
use crate::stats::{CloseReason, DropReason, Stats};
use crate::sys::faults::{Hit, THREADS, alone, arm, disarm, inside};

/// Longer than anything here takes: what is not there by then never comes.
const PATIENCE: Duration = Duration::from_secs(30);
/// More than the buffers of a socket take.
const LONG: usize = 400_000;
const RECORD: usize = 3000;
const DATAGRAMS: usize = 24;
/// More calls than any run makes.
const CALLS_MAX: u32 = 5000;

/// What is to fail, and in which part of an engine's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// From its start until it has served two peers.
    Serving,
    /// From the moment it is told to drain, while answers wait.
    Draining,
    /// As the first, but memory and not calls.
    Memory,
}

impl Part {
    /// A chain that answers what it is asked, and needs memory for that, or none.
    fn chain(self) -> &'static str {
        if self == Part::Memory { "hex | hex:mode=decode" } else { "" }
    }
}

/// What became of a peer.
#[derive(Debug, Default)]
struct Talk {
    asked: usize,
    answered: usize,
}

struct Run {
    kind: SocketKind,
    backend: Backend,
    part: Part,
}

impl Run {
    fn begin_faults(&self, part: Part, count: u32, choice: usize) {
        match part {
            _ if part != self.part => {}
            Part::Memory => SHORTAGE.store(count.into(), Ordering::SeqCst),
            Part::Serving | Part::Draining => arm(count, choice),
        }
    }

    /// What has failed.
    fn end_faults(&self) -> Option<Hit> {
        // It counts down to -1, and stays there.
        let is_short = SHORTAGE.swap(i64::MIN, Ordering::SeqCst) == -1;
        let memory = Hit { call: "memory", error: 0, errors: 1 };
        let hit = (self.part == Part::Memory && is_short).then_some(memory);
        disarm().or(hit)
    }

    fn go(&self, count: u32, choice: usize) -> (Option<Hit>, Result<(), String>) {
        let directory = tempfile::Builder::new().prefix("resay-").tempdir_in("/tmp").unwrap();
        let open_before = descriptors();
        let result = self.live(directory.path(), count, choice);
        let hit = self.end_faults();
        let (hit, result) = match result {
            Ok(seen) => (seen.or(hit), Ok(())),
            Err((seen, reason)) => (seen.or(hit), Err(reason)),
        };
        let result = result.and_then(|()| {
            // Descriptors of io_uring are closed a moment after the ring.
            let until = Instant::now() + PATIENCE;
            while descriptors() != open_before && Instant::now() < until {
                thread::yield_now();
            }
            let open = descriptors();
            if open == open_before { Ok(()) } else { Err(format!("{open_before:?} before, {open:?} after")) }
        });
        let result = result.and_then(|()| {
            let left: Vec<_> =
                fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
            let may_be_left = hit.is_some_and(|hit| ["open", "unlinkat"].contains(&hit.call));
            if left.is_empty() || may_be_left { Ok(()) } else { Err(format!("{left:?} is left")) }
        });
        (hit, result)
    }

    fn live(
        &self,
        directory: &Path,
        count: u32,
        choice: usize,
    ) -> Result<Option<Hit>, (Option<Hit>, String)> {
        self.begin_faults(Part::Serving, count, choice);
        self.begin_faults(Part::Memory, count, choice);
        let begun = inside(|| {
            let builder = Engine::builder().backend(self.backend).thread_name(THREADS)?;
            builder.listen(&url(self.kind, directory))?.chain(self.part.chain())?.start()
        });
        let engine = match begun {
            Ok(engine) => engine,
            Err(error) => {
                let hit = self.end_faults();
                return if hit.is_some() {
                    Ok(hit)
                } else {
                    Err((None, format!("it does not start: {error}")))
                };
            }
        };
        let url = engine.urls().remove(0);
        let talks = [b"short".to_vec(), bytes(LONG)].map(|data| self.talk(&engine, &url, &data));
        let mut hit = if self.part == Part::Draining { None } else { self.end_faults() };
        let lives = |result: Result<Talk, String>, hit| result.map_err(|reason| (hit, reason));
        let mut talks = talks.into_iter().map(|talk| lives(talk, hit)).collect::<Result<Vec<_>, _>>()?;
        let next = lives(self.talk(&engine, &url, &bytes(RECORD)), hit)?;
        if next.asked != next.answered {
            return Err((hit, format!("the next peer is not served: {next:?}, {:?}", engine.stats())));
        }
        talks.push(next);
        let waiting = self.ask_much(&url);
        self.begin_faults(Part::Draining, count, choice);
        let begin = Instant::now();
        let drained = thread::scope(|scope| {
            scope.spawn(|| {
                waiting.map(
                    |client| while client.recv(&mut [0; 4096], Some(PATIENCE)).is_ok_and(|len| len > 0) {},
                )
            });
            inside(|| engine.drain(PATIENCE))
        });
        hit = self.end_faults().or(hit);
        drained.map_err(|error| (hit, format!("{error}: {:?}", engine.stats())))?;
        if begin.elapsed() >= PATIENCE {
            return Err((hit, format!("it was not drained, but cut off: {:?}", engine.stats())));
        }
        self.balance(&engine.stats(), &talks, hit.is_some()).map_err(|reason| (hit, reason))?;
        inside(|| drop(engine));
        Ok(hit)
    }

    /// Asks for more than is read, so that something waits when the engine drains.
    fn ask_much(&self, url: &str) -> Option<Client> {
        let client = Client::open(url, Some(PATIENCE)).unwrap();
        if self.kind.is_datagram() {
            return None;
        }
        let data = bytes(RECORD);
        // Not until nothing goes any more: TCP would then ask for room less and less often.
        let _ = (0..40).try_for_each(|_| client.send(&data, Some(Duration::ZERO)));
        // It is there, and not only on its way.
        let _ = client.receive(&mut [0; 1], Some(PATIENCE));
        Some(client)
    }

    fn talk(&self, engine: &Engine, url: &str, data: &[u8]) -> Result<Talk, String> {
        let client = Client::open(url, Some(PATIENCE)).map_err(|error| format!("{error}"))?;
        match self.kind {
            SocketKind::Udp | SocketKind::UnixDatagram => {
                datagrams(engine, &client, &data[..data.len().min(1000)])
            }
            SocketKind::UnixSeqpacket => stream(&client, data, RECORD),
            _ => stream(&client, data, data.len()),
        }
    }

    /// Whether everything is in some counter.
    fn balance(&self, stats: &Stats, talks: &[Talk], has_failed: bool) -> Result<(), String> {
        let is_open = stats.accepted != stats.closed || stats.open != 0;
        let accounted = stats.bytes_out + stats.undelivered_bytes + stats.dropped_bytes;
        let lost = talks.iter().filter(|talk| talk.answered < talk.asked).count() as u64;
        let (ordinary, other): (Vec<_>, Vec<_>) = CloseReason::ALL.into_iter().partition(|reason| {
            matches!(reason, CloseReason::PeerClosed | CloseReason::Drained | CloseReason::CutOff)
        });
        let closed =
            |reasons: &[CloseReason]| reasons.iter().map(|reason| stats.closed_by(*reason)).sum::<u64>();
        let why = match self.kind.is_datagram() {
            true => DropReason::ALL.into_iter().map(|reason| stats.dropped_by(reason)).sum(),
            false => closed(&other) + stats.accept_errors + stats.rejected,
        };
        let wrong = if is_open {
            "connections that are not closed"
        } else if stats.messages_in != stats.messages_out + stats.dropped {
            "messages without a reason"
        } else if !self.kind.is_datagram() && self.part.chain().is_empty() && stats.bytes_in != accounted {
            "bytes without a reason"
        } else if lost > 0 && (why == 0 || !has_failed) {
            "a peer that was not answered, and no reason"
        } else if closed(&ordinary) + closed(&other) != stats.closed {
            "connections that are closed without a reason"
        } else {
            return Ok(());
        };
        Err(format!("{wrong}: {talks:?}, {stats:?}"))
    }
}

/// Sends all in pieces, ends, and reads to the end: what came is the beginning of what was sent.
fn stream(client: &Client, data: &[u8], piece: usize) -> Result<Talk, String> {
    let mut answer: Vec<u8> = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            // The connection may be closed before it has taken all.
            let all = data.chunks(piece).try_for_each(|piece| client.send(piece, Some(PATIENCE)));
            let _ = all.and_then(|()| client.shutdown());
        });
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let begin = Instant::now();
            match client.receive(&mut buffer, Some(PATIENCE)) {
                Ok(Received::Bytes(len)) => answer.extend_from_slice(&buffer[..len]),
                Ok(Received::End) => break,
                Ok(other) => return Err(format!("{other:?}")),
                Err(_) if begin.elapsed() < PATIENCE => break,
                Err(error) => return Err(format!("nothing comes any more: {error}")),
            }
        }
        Ok(())
    })?;
    if !data.starts_with(&answer) {
        return Err(format!("{} bytes that are not those that were sent", answer.len()));
    }
    Ok(Talk { asked: data.len(), answered: answer.len() })
}

/// Sends datagrams, and reads until as many answers have come as the engine says to have sent.
fn datagrams(engine: &Engine, client: &Client, data: &[u8]) -> Result<Talk, String> {
    let before = engine.stats();
    let mut buffer = vec![0; 64 * 1024];
    let mut answered = 0;
    for _ in 0..DATAGRAMS {
        client.send(data, Some(PATIENCE)).map_err(|error| format!("{error}"))?;
    }
    let until = Instant::now() + PATIENCE;
    loop {
        while let Ok(Received::Bytes(len)) = client.receive(&mut buffer, Some(Duration::from_millis(1))) {
            if buffer[..len] != *data {
                return Err("a datagram that was not sent".into());
            }
            answered += 1;
        }
        let stats = engine.stats();
        let done = |now: u64, before: u64| (now - before) as usize;
        let (came, out) =
            (done(stats.messages_in, before.messages_in), done(stats.messages_out, before.messages_out));
        if came == DATAGRAMS && out + done(stats.dropped, before.dropped) == came && answered >= out {
            return Ok(Talk { asked: DATAGRAMS, answered });
        }
        if Instant::now() > until {
            return Err(format!("{answered} of {DATAGRAMS} datagrams are answered: {stats:?}"));
        }
    }
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
}

fn url(kind: SocketKind, directory: &Path) -> String {
    let directory = directory.display();
    match kind {
        SocketKind::Tcp => "tcp://127.0.0.1:0?sndbuf=128k&high_water=64k".to_owned(),
        SocketKind::Udp => "udp://127.0.0.1:0".to_owned(),
        SocketKind::UnixStream => format!("unix:{directory}/s?sndbuf=128k&high_water=64k"),
        SocketKind::UnixDatagram => format!("unix-dgram:{directory}/d"),
        SocketKind::UnixSeqpacket => format!("unix-seqpacket:{directory}/r?sndbuf=128k&high_water=64k"),
    }
}

/// What this process has open. Of a process that runs other tests meanwhile that says nothing.
fn descriptors() -> Vec<String> {
    if environment::variable("NEXTEST").is_none() {
        return Vec::new();
    }
    let entries = fs::read_dir("/proc/self/fd").unwrap();
    let targets = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let mut found: Vec<_> = targets.map(|target| target.display().to_string()).collect();
    // The one that reads this.
    found.retain(|target| !target.starts_with("/proc/"));
    found.sort();
    found
}

/// Lets one call after the other fail in a part of an engine's life.
fn torture(kind: SocketKind, backend: Backend, part: Part) {
    if backend == Backend::Uring && !crate::engine::has_uring() {
        return eprintln!("left out: there is no io_uring");
    }
    let _alone = alone();
    let run = Run { kind, backend, part };
    let is_full = environment::variable("RESAY_TORTURE").is_some_and(|value| value == "full");
    let mut failed: BTreeMap<(&str, i32), usize> = BTreeMap::new();
    for count in 0..CALLS_MAX {
        let mut choices = 1;
        let mut choice = 0;
        while choice < choices {
            // One of the errors of each call, in turn, or all of them.
            let (hit, result) = run.go(count, if is_full { choice } else { count as usize });
            let name = format!("{kind:?}, {backend:?}, {part:?}, call {count}: {hit:?}");
            if let Err(reason) = result {
                panic!("{name}: {reason}");
            }
            let Some(hit) = hit else {
                println!("{count} calls: {failed:?}");
                assert!(count > 0, "{name}: nothing can fail");
                return;
            };
            *failed.entry((hit.call, hit.error)).or_default() += 1;
            choices = if is_full { hit.errors } else { 1 };
            choice += 1;
        }
    }
    panic!("{CALLS_MAX} calls, and more");
}

macro_rules! tests {
    ($($name:ident: $kind:ident, $backend:ident;)*) => {
        $(mod $name {
            use super::*;

            #[test]
            fn serving() {
                torture(SocketKind::$kind, Backend::$backend, Part::Serving);
            }

            #[test]
            fn draining() {
                torture(SocketKind::$kind, Backend::$backend, Part::Draining);
            }

            #[test]
            fn memory() {
                torture(SocketKind::$kind, Backend::$backend, Part::Memory);
            }
        })*
    };
}

tests! {
    epoll_tcp: Tcp, Epoll;
    epoll_udp: Udp, Epoll;
    epoll_unix: UnixStream, Epoll;
    epoll_unix_datagrams: UnixDatagram, Epoll;
    epoll_records: UnixSeqpacket, Epoll;
    uring_tcp: Tcp, Uring;
    uring_udp: Udp, Uring;
    uring_unix: UnixStream, Uring;
    uring_unix_datagrams: UnixDatagram, Uring;
    uring_records: UnixSeqpacket, Uring;
}
