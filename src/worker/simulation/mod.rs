//! Workers against the simulator: whatever the network does, no byte is lost, doubled or out of order, every bound
//! holds, every connection ends, and everything is given back.
//!
//! `case.rs` says what a seed stands for, `model.rs` what the right answers are, `checks.rs` what must hold. A seed
//! that fails prints its number; `RESAY_SEED=n` runs it alone, `RESAY_SEEDS=n` so many. `cargo xtask simulate` runs others
//! for as long as it is told to.

mod around;
#[cfg(test)]
mod away;
mod balance;
mod case;
mod checks;
mod datagrams;
mod frames;
mod host;
mod model;
mod stages;
mod taps;
mod transforms;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use self::around::Surroundings;
use self::case::{Case, End};
use self::host::Host;
use self::stages::Stage;
use self::taps::Tapped;
use super::*;
use crate::chain::Chain;
use crate::channel::{Nothing, Receiver, Sender, channel};
use crate::driver::simulator::{self, Random, Simulator, World};
use crate::event::Events;
use crate::later::{Owner, Unclaimed};
use crate::net::address::Address;
use crate::net::socket::Bound;
use crate::offload::JobQueue;
use crate::peer::SocketKind;
use crate::stats::Stats;
use crate::sys::OnAccept;
use crate::transform::library::{Counters, Services};
use crate::transform::spec::ChainSpec;

/// Of the ordinary tests, in all parts: a little over a minute on two processors.
const SEEDS: u64 = 10_000;
const STEPS_MAX: usize = 100_000;
/// Steps between two editions of the listener.
const REVISED_EVERY: usize = 41;
/// More of them, and a world in which nothing else happens would never rest.
const EDITIONS_MAX: u64 = 12;

/// How connections ended, as the engine tells its host: by peer.
type Closed = Arc<Mutex<Vec<(Peer, CloseReason)>>>;

/// One case while it runs.
struct Run {
    case: Case,
    world: simulator::Shared,
    listener: Arc<Listener>,
    shared: Arc<Shared<simulator::Handle>>,
    workers: Vec<Worker<Simulator>>,
    jobs: Arc<JobQueue>,
    closed: Closed,
    random: Random,
    /// When each chain after the first became the listener's, and when every worker had noticed.
    swapped_at: Vec<u64>,
    noticed_at: Vec<Option<u64>>,
    /// Which workers have not noticed the last swap yet.
    blind: Vec<bool>,
    /// The last clock reading of a worker when all were told to drain, and how long they were given.
    drained_at: Option<(u64, Duration)>,
    /// What workers have not been told yet, in this order.
    untold: Vec<(usize, Command<simulator::Handle>)>,
    /// When each worker had its last turn.
    turned_at: Vec<u64>,
    /// Which workers have something in their mailboxes.
    woken: Vec<Arc<AtomicBool>>,
    stopped: bool,
    /// How many of the ends that were told have been looked at.
    closed_checked: usize,
    /// For how many steps no job has waited.
    settled: usize,
    met: RefCell<BTreeMap<&'static str, u64>>,
    /// A tap that is open from the beginning, in half of all cases.
    tapped: Option<Tapped>,
    /// Lists of connections that workers were asked for, with what each connection may hold.
    listed: RefCell<Vec<(Receiver<ConnectionInfo>, usize)>>,
    /// Bytes that the host has sent.
    sent_unasked: usize,
    /// Peers of connections that the host has told to close, whether they were open or ending.
    told_to_close: Vec<Peer>,
}

fn listener(case: &Case, chain: &Arc<Chain>) -> Listener {
    // The simulator has no descriptors; any will do for the record.
    let socket = std::fs::File::open("/dev/null").unwrap().into();
    let url = "unix:simulated".parse::<Address>().unwrap().to_string();
    let mut bound = Bound {
        socket,
        kind: case.kind,
        url,
        is_loopback: false,
        destinations: case.kind == SocketKind::Udp,
        options: case.options.clone(),
        more: Vec::new(),
        can_multiply: false,
        is_adopted: false,
        file: None,
        on_accept: OnAccept::default(),
        handover: None,
    };
    let around = case.around.map(Surroundings::maker);
    let listener = Listener::new(0, &mut bound, Vec::new(), Arc::clone(chain), (around, None)).unwrap();
    listener.prepare(case.workers, chain.generations(case.workers).unwrap());
    listener
}

fn chain(stages: &[Stage], events: &Arc<Events>) -> Arc<Chain> {
    let text: Vec<_> = stages.iter().map(Stage::to_string).collect();
    let spec = ChainSpec::parse(&text.join(" | ")).unwrap();
    let callees: Vec<_> = stages.iter().map(transforms::callee).collect();
    let services =
        Services { events: Arc::clone(events), counters: Arc::new(Counters::new()), times: Arc::default() };
    Arc::new(Chain::create(&spec, &callees, &services).unwrap())
}

fn events(closed: &Closed) -> Arc<Events> {
    let closed = Arc::clone(closed);
    let sink = move |event: &Event<'_>| {
        if let (EventKind::Closed, Some(EventCause::Closed(reason)), Some(peer)) =
            (event.kind, event.cause, event.peer)
        {
            // What is said of it is for people; it must be possible to say it.
            let _ = event.text.to_string();
            closed.lock().unwrap().push((peer.clone(), reason));
        }
    };
    Arc::new(Events::new(LogLevel::Debug, Box::new(sink)))
}

fn waker(woken: &Arc<AtomicBool>) -> Box<dyn Fn() + Send + Sync> {
    let woken = Arc::clone(woken);
    Box::new(move || woken.store(true, Ordering::Relaxed))
}

impl Run {
    fn new(seed: u64, mut random: Random) -> Run {
        let case = Case::of(&mut random);
        let clients = case.clients(&mut random);
        let mail = case.mail(&mut random);
        let world = World::of(random.fork(), clients, mail);
        Run::of(seed, case, world, random)
    }

    fn of(seed: u64, case: Case, world: simulator::Shared, random: Random) -> Run {
        let closed = Closed::default();
        let events = events(&closed);
        let listener = Arc::new(listener(&case, &chain(&case.chains[0], &events)));
        let jobs = Arc::new(JobQueue::default());
        let woken: Vec<Arc<AtomicBool>> = (0..case.workers).map(|_| Arc::default()).collect();
        let shared = Arc::new(Shared {
            events,
            taps: Arc::default(),
            mailboxes: woken.iter().map(|woken| Mailbox::new(waker(woken))).collect(),
            pulses: woken.iter().map(|_| Arc::default()).collect(),
            stuck: 0.into(),
            offload: Offload::into_queue(Arc::clone(&jobs)),
            tickets: Arc::default(),
            spin: if case.spins { Duration::from_micros(60) } else { Duration::ZERO },
            stop: Arc::new(AtomicBool::new(false)),
            chain_epoch: AtomicUsize::new(0),
            directory: Directory::default(),
            own: Arc::default(),
        });
        let tapped = Tapped::of(seed, &shared.taps);
        // Records of a stream's messages would have another order than the messages; chains would end in the middle.
        transforms::put_off(case.swaps.is_empty() && (tapped.is_none() || case.kind.is_datagram()));
        if case.host != Host::Rests {
            // As if there had been a call before the first connection.
            shared.directory.keep();
        }
        let workers: Vec<_> = (0..case.workers)
            .map(|index| Worker::new(index, Simulator::new(&world), Arc::clone(&shared)))
            .collect();
        for (index, mailbox) in shared.mailboxes.iter().enumerate() {
            let socket = match case.kind.is_datagram() {
                true => world.borrow_mut().datagram_socket(),
                false if index == 0 => world.borrow_mut().listening_socket(),
                false => continue,
            };
            mailbox.push(Command::Listen { listener: Arc::clone(&listener), socket }).unwrap();
        }
        let blind = vec![false; case.workers];
        let turned_at = vec![0; case.workers];
        Run {
            case,
            world,
            listener,
            shared,
            workers,
            jobs,
            closed,
            random,
            swapped_at: Vec::new(),
            noticed_at: vec![Some(0)],
            blind,
            drained_at: None,
            untold: Vec::new(),
            turned_at,
            woken,
            closed_checked: 0,
            settled: 0,
            stopped: false,
            met: RefCell::default(),
            tapped,
            listed: RefCell::default(),
            sent_unasked: 0,
            told_to_close: Vec::new(),
        }
    }

    fn go(&mut self) -> Result<(), String> {
        for step in 0..STEPS_MAX {
            let alive: Vec<_> = (0..self.workers.len()).filter(|&w| self.workers[w].is_alive()).collect();
            if alive.is_empty() {
                return Ok(());
            }
            self.act(step);
            self.host_acts(step);
            self.deliver_commands();
            let worker = alive[self.random.below(alive.len())];
            self.turn(worker);
            self.run_job();
            self.answer_later();
            if let Some(tapped) = &mut self.tapped {
                tapped.read();
            }
            self.check_step().map_err(|what| format!("step {step}: {what}"))?;
        }
        Err(format!("not over after {STEPS_MAX} turns: {:?}", self.listener.stats()))
    }

    fn turn(&mut self, worker: usize) {
        let deadlines = self.workers.iter().filter(|worker| worker.is_alive());
        let now = self.world.borrow().now;
        let next = deadlines.filter_map(|worker| worker.until_deadline_from(Moment::from_micros(now))).min();
        self.world.borrow_mut().until_deadline = next;
        let timeout = if self.random.one_in(8) { Some(Duration::ZERO) } else { None };
        if self.woken[worker].swap(false, Ordering::Relaxed) {
            self.workers[worker].driver().wake();
        }
        match self.workers[worker].turn(timeout) {
            Ok(_) => {
                self.turned_at[worker] = self.world.borrow().now;
                if std::mem::take(&mut self.blind[worker]) && self.blind.iter().all(|is_blind| !is_blind) {
                    *self.noticed_at.last_mut().unwrap() = Some(self.world.borrow().now);
                }
            }
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::Interrupted),
        }
    }

    /// A job of the offload comes to an end, or is refused.
    fn run_job(&mut self) {
        let waits = self.jobs.len() + transforms::to_come() > 0;
        self.settled = if waits { 0 } else { self.settled + 1 };
        self.jobs.refuse(self.random.one_in(40));
        if self.jobs.len() > 0 && self.random.one_in(self.case.job_every) {
            let place = self.random.below(self.jobs.len());
            self.meet(if place > 0 { "jobs in another order" } else { "jobs" });
            self.jobs.take(place)();
        }
    }

    /// An answer comes that a function has put off, whichever.
    fn answer_later(&mut self) {
        let count = transforms::to_come();
        if count == 0 || !self.random.one_in(self.case.job_every.min(30)) {
            return;
        }
        let answer = transforms::take_to_come(self.random.below(count));
        match self.shared.tickets.claim(answer.ticket, answer.bytes.len()) {
            Ok(Owner { worker, socket }) => {
                self.meet("an answer that came later");
                let _ = self.shared.mailboxes[worker].push(Command::LateAnswer { socket, answer });
            }
            Err(Unclaimed::Full) => {
                self.meet("an answer that came later, and found no room");
                transforms::keep_to_come(answer);
            }
            Err(Unclaimed::Unknown) => self.meet("an answer that came later, and found nobody"),
            Err(Unclaimed::TooLong) => panic!("an answer that would have been too long at once"),
        }
    }

    /// What others ask of the workers meanwhile.
    fn act(&mut self, step: usize) {
        if self.case.swaps.get(self.swapped_at.len()) == Some(&step) {
            self.swap();
        }
        let is_closed = matches!(self.case.end, End::CloseListener { after } if step >= after);
        // Not before all have heard of the last one: what comes behind them must not wait for ever.
        let is_told =
            self.untold.is_empty() && self.drained_at.is_none() && self.listener.edition < EDITIONS_MAX;
        if step % REVISED_EVERY == 7 && is_told && !is_closed {
            self.revise();
        }
        let is_over = self.world.borrow().clients.iter().all(simulator::Client::is_over);
        let is_datagram = self.case.kind.is_datagram();
        let waits = self.workers.iter().any(|w| w.is_alive() && w.until_deadline().is_some());
        // Clients that neither read nor end keep a connection for ever, and rightly so.
        let is_over_elsewhere = self.jobs.len() + transforms::to_come() == 0;
        let is_at_rest = self.world.borrow().is_at_rest() && is_over_elsewhere && !waits;
        let is_done = is_at_rest || (is_over && !is_datagram);
        let id = self.listener.id;
        match self.case.end {
            End::Drain { after, within } if step == after => self.drain(within),
            End::Stop { after } if step == after => {
                self.stopped = true;
                self.meet("stop");
                self.shared.stop.store(true, Ordering::Release);
            }
            End::CloseListener { after } if step == after => {
                self.meet("close a listener");
                let (to, _) = channel();
                let ask = || Ask::new(Question::CloseListener { id }, to.clone());
                self.tell_all(|| Command::Ask(Arc::new(ask())));
            }
            _ if is_done => self.drain(Duration::from_secs(60)),
            _ => {}
        }
    }

    fn drain(&mut self, within: Duration) {
        if self.drained_at.is_none() {
            self.drained_at = Some((self.turned_at.iter().copied().min().unwrap_or(0), within));
            self.tell_all(|| Command::Drain { within });
        }
    }

    /// Leaves a command for each worker; some hear of it later than others.
    fn tell_all(&mut self, command: impl Fn() -> Command<simulator::Handle>) {
        let mut workers: Vec<_> = (0..self.workers.len()).collect();
        if self.random.one_in(2) {
            workers.reverse();
        }
        self.untold.extend(workers.into_iter().map(|worker| (worker, command())));
    }

    fn deliver_commands(&mut self) {
        while !self.untold.is_empty() && self.random.one_in(self.case.deliver_every) {
            let (worker, command) = self.untold.remove(0);
            // One that has ended does not want to know.
            let _ = self.shared.mailboxes[worker].push(command);
        }
    }

    fn swap(&mut self) {
        let stages = &self.case.chains[self.swapped_at.len() + 1];
        let chain = chain(stages, &self.shared.events);
        let generations = chain.generations(self.case.workers).unwrap();
        drop(self.listener.set_chain(chain, generations));
        self.shared.chain_epoch.fetch_add(1, Ordering::Release);
        self.swapped_at.push(self.world.borrow().now);
        self.noticed_at.push(None);
        self.blind.fill(true);
        self.meet("swap");
    }

    /// Another edition of the listener, which every worker hears of in its time; what holds for connections is the same.
    fn revise(&mut self) {
        self.listener = Arc::new(self.listener.revised(&self.case.options, None).unwrap());
        let listener = Arc::clone(&self.listener);
        self.tell_all(|| Command::Revise { listener: Arc::clone(&listener) });
        let stats = self.listener.stats();
        if stats.accepted > stats.closed {
            self.meet("another edition while somebody is connected");
        }
    }

    fn meet(&self, what: &'static str) {
        *self.met.borrow_mut().entry(what).or_default() += 1;
    }
}

fn run(seed: u64, random: Random) -> Result<(Stats, BTreeMap<&'static str, u64>), String> {
    let mut run = Run::new(seed, random);
    if std::env::var_os("RESAY_SEED").is_some() {
        eprintln!("{:#?}", run.case);
    }
    run.go()?;
    // What is still with transforms finds nobody any more.
    while run.jobs.len() > 0 {
        run.meet("a job that nobody waits for");
        let job = run.jobs.take(run.random.below(run.jobs.len()));
        if run.random.one_in(2) { job() } else { drop(job) }
    }
    run.world.borrow_mut().finish();
    run.check_end()?;
    let (world, stats) = (Rc::clone(&run.world), run.listener.stats());
    let mut met = run.met.take();
    met.append(&mut world.borrow_mut().met);
    drop(run);
    match (transforms::living(), world.borrow().open_sockets()) {
        ((0, 0), 0) => Ok((stats, met)),
        left => Err(format!("instances, sessions and sockets are left: {left:?}")),
    }
}

/// Prints the last seed that was begun when no other follows for long: turns and what they ask of their driver are
/// bounded, but not what happens in between.
fn name_those_that_hang() -> Sender<u64> {
    let (begun, seeds) = channel();
    std::thread::spawn(move || {
        let mut last = 0;
        loop {
            match seeds.receive(Duration::from_secs(30)) {
                Ok(seed) => last = seed,
                Err(Nothing::Yet) => eprintln!("RESAY_SEED={last} is not over after 30 s"),
                Err(Nothing::Ever) => return,
            }
        }
    });
    begun
}

/// One case and its course, as a fuzzer decides them.
pub(crate) fn decide(decisions: &[u8]) {
    let seed = decisions.iter().fold(0, |seed: u64, byte| seed.rotate_left(5) ^ u64::from(*byte));
    if let Err(what) = run(seed, Random::of(decisions)) {
        panic!("{what}");
    }
}

/// What a part of the seeds has met: everything that there is, unless it is a single one.
#[derive(Default)]
struct Seen(Stats, BTreeMap<&'static str, u64>);

impl Seen {
    /// Runs one seed.
    fn run(&mut self, seed: u64) {
        match std::panic::catch_unwind(|| run(seed, Random::new(seed))) {
            Ok(Ok((stats, met))) => {
                self.0.add(&stats);
                met.into_iter().for_each(|(what, n)| *self.1.entry(what).or_default() += n);
            }
            Ok(Err(what)) => panic!("RESAY_SEED={seed}: {what}"),
            Err(panic) => {
                eprintln!("RESAY_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|number| number.parse().ok())
}

/// Runs the seeds of one part.
fn simulate(part: u64) {
    let count = number("RESAY_SEEDS").unwrap_or(SEEDS);
    let begin_of = |part: u64| count * part / PARTS;
    let begun = name_those_that_hang();
    let mut seen = Seen::default();
    if let Some(seed) = number("RESAY_SEED") {
        // One is enough, also for a seed that is no part's.
        return if part == 0 {
            seen.run(seed)
        };
    }
    for seed in begin_of(part)..begin_of(part + 1) {
        begun.send(seed);
        seen.run(seed);
    }
    // The seeds must really have been through all of it.
    let Seen(stats, met) = seen;
    println!("{stats:?}\n{met:#?}");
    checks::check_met(&stats, &met);
}

macro_rules! parts {
    ($($name:ident: $part:literal),*) => {
        const PARTS: u64 = [$($part),*].len() as u64;
        $(
            #[test]
            fn $name() {
                simulate($part);
            }
        )*
    };
}

// So that they run at once, where there is more than one processor.
parts! {
    no_network_loses_a_byte_0: 0,
    no_network_loses_a_byte_1: 1,
    no_network_loses_a_byte_2: 2,
    no_network_loses_a_byte_3: 3,
    no_network_loses_a_byte_4: 4,
    no_network_loses_a_byte_5: 5
}

/// `cargo xtask simulate --minutes N`: seeds that nobody has tried yet, on all processors. Asked for nothing, it does nothing.
#[test]
fn as_long_as_it_is_asked_to() {
    let Some(minutes) = number("RESAY_MINUTES") else { return };
    let until = Instant::now() + Duration::from_secs(60 * minutes);
    // Far away from those of the ordinary tests, and from those of the last time.
    let first = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() << 24;
    let threads = std::thread::available_parallelism().unwrap().get() as u64;
    let count = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let count = &count;
            scope.spawn(move || {
                let begun = name_those_that_hang();
                let mut seen = Seen::default();
                for seed in (first + thread..).step_by(threads as usize) {
                    if Instant::now() > until {
                        break;
                    }
                    begun.send(seed);
                    seen.run(seed);
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    println!("{} seeds, from RESAY_SEED={first} on", count.into_inner());
}
