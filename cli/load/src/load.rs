//! One thread of the generator: its connections, and a loop that waits for what the kernel says of them.
//!
//! Each event costs one receive and one send, whatever it brings. The clock is read once an event: when an answer has
//! come, which is also when the next message is due in a closed loop.

use std::fmt::{self, Debug};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use crate::alarm::Alarm;
use crate::due::{Due, Schedule};
use crate::error::LoadError;
use crate::plan::{Pace, Plan, ns};
use crate::probe::{LOOK_NS, Probe, Seen};
use crate::records::Records;
use crate::script::Script;
use crate::socket::Socket;
use crate::stream::Stream;
use crate::talk::{Broken, Clock, Talk, Turn};
use crate::tally::{Span, Tally};

/// Events of one wait.
const EVENTS: usize = 128;
/// The same where messages are due at times of their own, and most messages that are taken up before events are
/// looked at again.
const EVENTS_OPEN: usize = 32;
const TAKEN_MAX: usize = 4096;
/// What one receive may bring of a stream.
const RECEIVE_BYTES: usize = 128 << 10;
/// How long an interrupted measurement waits for answers.
const CUT_PATIENCE: Duration = Duration::from_secs(1);
const ALARM: Token = Token(usize::MAX);

/// What a thread brings back.
#[derive(Debug)]
pub struct Report {
    /// What it counted.
    pub tally: Tally,
    /// Processor time of this thread in the measured time.
    pub cpu: Duration,
    /// How long the measured time was for it.
    pub measured: Duration,
    /// It ended because nothing was answered any more.
    pub is_silent: bool,
    /// Connections that were open at the end.
    pub open: usize,
    /// The last system call that failed on a connection in a way that has no name here.
    pub failure: Option<io::Error>,
}

/// Connections and their numbers.
pub type Sockets = Vec<(usize, Socket)>;

/// The work of one thread, everything made that it needs.
pub struct Job<'a>(Box<Work<'a>>);

type Work<'a> = dyn FnOnce(&Probe<'_>, &Seen) -> Result<Report, LoadError> + Send + 'a;

impl Debug for Job<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").finish_non_exhaustive()
    }
}

impl<'a> Job<'a> {
    /// Makes what a thread needs to load the server until the measurement is over: before the clock runs.
    pub fn new(plan: &'a Plan, script: &'a Script, sockets: Sockets) -> Result<Job<'a>, LoadError> {
        let limit = plan.pace.pipeline();
        let raw: Vec<_> = sockets.iter().map(|(_, socket)| socket.as_fd().as_raw_fd()).collect();
        let numbers = sockets.iter().map(|(number, _)| *number).collect();
        let schedule = plan
            .pace
            .rate()
            .map(|rate| Schedule { ns_per_message: 1e9 / rate, connections: plan.connections });
        let due = |number: usize| Due::new(schedule, number, limit.unwrap_or(0));
        let turns = schedule.map(|schedule| Turns { schedule, mine: numbers, turn: 0, at: 0 });
        if plan.is_stream() {
            let each = |(number, socket)| Stream::new(socket, number, limit, due(number), script);
            Load::new(plan, script, sockets.into_iter().map(each).collect(), turns, &raw).map(Load::into_job)
        } else {
            let is_datagram = plan.kind.is_datagram();
            let each = |(number, socket): (usize, Socket)| {
                Records::new(socket, number, is_datagram, limit, due(number), script)
            };
            Load::new(plan, script, sockets.into_iter().map(each).collect(), turns, &raw).map(Load::into_job)
        }
    }

    /// Loads the server, as thread `number` of those that the probe is for.
    pub fn run(self, probe: &Probe<'_>, number: usize) -> Result<Report, LoadError> {
        let nobody = Seen::default();
        let seen = probe.seen.get(number).unwrap_or(&nobody);
        let report = (self.0)(probe, seen);
        seen.has_ended.store(true, Ordering::Relaxed);
        report
    }
}

struct Load<'a, T> {
    plan: &'a Plan,
    script: &'a Script,
    /// The probe's, once it runs.
    clock: Clock,
    span: Span,
    tally: Tally,
    peers: Vec<Peer<T>>,
    turns: Option<Turns>,
    poll: Poll,
    alarm: Option<Alarm>,
    buffer: Vec<u8>,
    now: u64,
    failure: Option<Errno>,
}

struct Peer<T> {
    talk: T,
    is_open: bool,
    /// Something was granted that is not sent yet.
    is_dirty: bool,
}

/// Whose turn it is, where messages are due that no answer brings.
#[derive(Debug)]
struct Turns {
    schedule: Schedule,
    /// The numbers of this thread's connections.
    mine: Vec<usize>,
    turn: u64,
    at: usize,
}

impl Turns {
    fn next(&self) -> u64 {
        self.schedule.due(self.mine.get(self.at).copied().unwrap_or(0), self.turn)
    }

    fn step(&mut self) {
        self.at += 1;
        if self.at == self.mine.len() {
            self.at = 0;
            self.turn += 1;
        }
    }
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> LoadError {
    move |source| LoadError::System { what, source }
}

impl<'a, T: Talk + Send + 'a> Load<'a, T> {
    /// `raw`: the descriptors of `talks`, in their order.
    fn new(
        plan: &'a Plan,
        script: &'a Script,
        talks: Vec<T>,
        turns: Option<Turns>,
        raw: &[i32],
    ) -> Result<Load<'a, T>, LoadError> {
        let span = Span::of(plan);
        let poll = Poll::new().map_err(system("wait for events"))?;
        for (index, fd) in raw.iter().enumerate() {
            poll.registry()
                .register(&mut SourceFd(fd), Token(index), Interest::READABLE | Interest::WRITABLE)
                .map_err(system("watch a connection"))?;
        }
        let alarm = turns.is_some().then(Alarm::new).flatten();
        if let Some(alarm) = &alarm {
            poll.registry()
                .register(&mut SourceFd(&alarm.as_raw_fd()), ALARM, Interest::READABLE)
                .map_err(system("watch a timer"))?;
        }
        let peers = talks.into_iter().map(|talk| Peer { talk, is_open: true, is_dirty: false });
        Ok(Load {
            plan,
            script,
            clock: Clock(Instant::now()),
            span,
            tally: Tally::new(span)?,
            peers: peers.collect(),
            turns,
            poll,
            alarm,
            buffer: vec![0; RECEIVE_BYTES.max(script.answer_bytes_max() + 1)],
            now: 0,
            failure: None,
        })
    }

    fn into_job(self) -> Job<'a> {
        Job(Box::new(move |probe, seen| self.run(probe, seen)))
    }

    fn run(mut self, probe: &Probe<'_>, seen: &Seen) -> Result<Report, LoadError> {
        self.clock = probe.clock;
        let mut events = Events::with_capacity(if self.turns.is_some() { EVENTS_OPEN } else { EVENTS });
        if let Pace::Closed { pipeline } = self.plan.pace {
            let now = self.clock.now();
            for peer in &mut self.peers {
                for _ in 0..pipeline {
                    self.tally.ask(now);
                    peer.talk.grant(now);
                }
                peer.is_dirty = true;
            }
        }
        let mut drain_until = self.span.end.saturating_add(ns(self.plan.timeout));
        let (mut cpu, mut look_at, mut progress, mut silent) = (Cpu::default(), 0, (0, 0), false);
        let mut seen_at_end = None;
        self.flush(true);
        loop {
            self.now = self.clock.now();
            cpu.look(self.now, self.span);
            seen.answers.store(self.tally.seen, Ordering::Relaxed);
            probe.look(self.now, self.span);
            if let Some(&cut) = probe.cut.get()
                && self.span.end > cut
            {
                // A thread that did not run meanwhile ends it now: what it has asked belongs to the measurement.
                self.span.end = cut.max(self.now).min(self.span.end);
                self.tally.span.end = self.span.end;
                drain_until = self.span.end.saturating_add(ns(self.plan.timeout.min(CUT_PATIENCE)));
            }
            self.take_up();
            if self.now >= look_at {
                look_at = self.now + LOOK_NS.min(ns(self.plan.lost_after) / 4).max(1_000_000);
                self.expire();
                if self.tally.seen != progress.0 || !self.is_waiting() {
                    progress = (self.tally.seen, self.now);
                }
                let quiet = self.now.saturating_sub(progress.1);
                silent = quiet >= ns(self.plan.timeout) && !self.plan.kind.is_datagram();
            }
            if self.now >= self.span.end {
                seen_at_end.get_or_insert(self.tally.seen);
            }
            let is_over = self.now >= self.span.end && (!self.is_busy() || self.now >= drain_until);
            if is_over || silent || self.peers.iter().all(|peer| !peer.is_open) {
                break;
            }
            let wait = self.wait(look_at);
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => result.map_err(system("wait for events"))?,
            }
            for event in &events {
                self.serve(event);
            }
        }
        cpu.finish(self.now);
        // Where messages are due whatever comes, a server that still answers at the end is slow, and not silent.
        let is_slow = self.turns.is_some() && seen_at_end.is_some_and(|seen| self.tally.seen > seen);
        let is_silent = silent || (self.now >= drain_until && self.is_busy() && !is_slow);
        let open = self.peers.iter().filter(|peer| peer.is_open).count();
        for peer in &mut self.peers {
            peer.talk.give_up(self.now, &mut self.tally);
        }
        self.give_up_due();
        let (cpu, measured) = cpu.used();
        Ok(Report {
            tally: self.tally,
            cpu,
            measured,
            is_silent,
            open,
            failure: self.failure.map(Into::into),
        })
    }

    fn is_busy(&self) -> bool {
        self.has_due() || self.is_waiting()
    }

    /// Something was asked that may still be answered.
    fn is_waiting(&self) -> bool {
        self.peers.iter().any(|peer| peer.is_open && peer.talk.is_busy())
    }

    /// Something is due by the schedule, now or later, that was not taken up.
    fn has_due(&self) -> bool {
        self.turns.as_ref().is_some_and(|turns| turns.next() < self.span.end)
    }

    /// What was due and was not even taken up has waited too.
    fn give_up_due(&mut self) {
        let Some(turns) = &mut self.turns else { return };
        while turns.next() < self.span.end.min(self.now) {
            if self.peers.get(turns.at).is_some_and(|peer| peer.is_open) {
                self.tally.ask(turns.next());
                self.tally.give_up(turns.next(), self.now);
            }
            turns.step();
        }
    }

    /// How long nothing is to be done unless an event comes.
    fn wait(&self, look_at: u64) -> Duration {
        let mut until = look_at;
        for boundary in [self.span.begin, self.span.end] {
            if boundary > self.now {
                until = until.min(boundary);
            }
        }
        if let Some(turns) = &self.turns
            && turns.next() < self.span.end
        {
            let due = turns.next();
            match &self.alarm {
                // Finer than a wait, which counts in milliseconds.
                Some(alarm) if due > self.now && due < until => alarm.set(due - self.now),
                _ => until = until.min(due),
            }
        }
        Duration::from_nanos(until.saturating_sub(self.now))
    }

    /// Takes up messages that are due by now, and sends them.
    fn take_up(&mut self) {
        let Some(turns) = &mut self.turns else { return };
        let mut taken = 0;
        while taken < TAKEN_MAX {
            let due = turns.next();
            if due > self.now || due >= self.span.end {
                break;
            }
            if let Some(peer) = self.peers.get_mut(turns.at)
                && peer.is_open
            {
                self.tally.take_up(due, self.now);
                peer.talk.grant(due);
                peer.is_dirty = true;
            }
            turns.step();
            taken += 1;
        }
        if taken > 0 {
            self.flush(false);
        }
    }

    fn flush(&mut self, all: bool) {
        for index in 0..self.peers.len() {
            if all || self.peers.get(index).is_some_and(|peer| peer.is_dirty) {
                self.with(index, |talk, _, turn| talk.send(turn));
            }
        }
    }

    fn expire(&mut self) {
        if self.plan.kind.is_datagram() {
            for index in 0..self.peers.len() {
                self.with(index, |talk, _, turn| {
                    talk.expire(turn);
                    // Tried again, whether the kernel has said so or not.
                    talk.unblock();
                    talk.send(turn)
                });
            }
        }
    }

    fn serve(&mut self, event: &Event) {
        if event.token() == ALARM {
            return;
        }
        let (readable, to_end) =
            (event.is_readable() || event.is_error(), event.is_read_closed() || event.is_error());
        let writable = event.is_writable();
        self.with(event.token().0, |talk, buffer, turn| {
            if readable {
                talk.receive(to_end, buffer, turn)?;
            }
            if writable {
                talk.unblock();
            }
            talk.send(turn)
        });
    }

    fn with(
        &mut self,
        index: usize,
        work: impl FnOnce(&mut T, &mut [u8], &mut Turn<'_>) -> Result<(), Broken>,
    ) {
        let Some(peer) = self.peers.get_mut(index).filter(|peer| peer.is_open) else { return };
        peer.is_dirty = false;
        let mut turn = Turn {
            script: self.script,
            tally: &mut self.tally,
            clock: self.clock,
            now: self.now,
            refill_until: if self.turns.is_none() { self.span.end } else { 0 },
            lost_after: ns(self.plan.lost_after),
        };
        let result = work(&mut peer.talk, &mut self.buffer, &mut turn);
        self.now = turn.now;
        if let Err(broken) = result {
            peer.is_open = false;
            broken.count(&mut self.tally.counts);
            peer.talk.give_up(self.now, &mut self.tally);
            if let Broken::Failed(error) = broken {
                self.failure = Some(error);
            }
        }
    }
}

/// Processor time of this thread, in the measured time.
#[derive(Debug, Default)]
struct Cpu {
    begin: Option<(u64, Duration)>,
    end: Option<(u64, Duration)>,
}

impl Cpu {
    fn look(&mut self, now: u64, span: Span) {
        if self.begin.is_none() && now >= span.begin {
            self.begin = Some((now, thread_time()));
        }
        if self.end.is_none() && now >= span.end {
            self.end = Some((now, thread_time()));
        }
    }

    /// It may end before its time.
    fn finish(&mut self, now: u64) {
        if self.begin.is_some() {
            self.end.get_or_insert_with(|| (now, thread_time()));
        }
    }

    fn used(&self) -> (Duration, Duration) {
        match (self.begin, self.end) {
            (Some((began, cpu_before)), Some((ended, cpu))) => {
                (cpu.saturating_sub(cpu_before), Duration::from_nanos(ended.saturating_sub(began)))
            }
            _ => (Duration::ZERO, Duration::ZERO),
        }
    }
}

/// clock_gettime(2) of CLOCK_THREAD_CPUTIME_ID.
fn thread_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}
