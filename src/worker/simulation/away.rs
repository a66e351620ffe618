//! Messages that are with a transform that may block, step by step: the test says when each comes back. What is random is only
//! how the network takes its time.

use super::*;
use crate::driver::simulator::{Client, Datagram, HERE, Mail, Plan};
use crate::limits::OFFLOADED_DATAGRAMS_MAX;
use crate::stats::DropReason;

/// Networks that each course meets.
const NETWORKS: std::ops::Range<u64> = 0..20;
/// The new chain of the courses with a swap: letters are the next ones.
const NEXT: Stage = stage(stages::Kind::Bytes, 1, 0);
/// It may block, and answers what it is asked.
const SLOW: Stage = stage(stages::Kind::Slow, 0, 0);
/// It remembers something that it cannot hand over.
const CLINGS: Stage = stage(stages::Kind::Ends, 0, 1_000_000);

const fn stage(kind: stages::Kind, key: u8, param: u64) -> Stage {
    Stage { kind, index: 0, key, param }
}

/// It sends this and waits for what comes, up to the end.
fn client(number: usize, records: &[&str]) -> Client {
    let records = records.iter().map(|record| record.as_bytes().to_vec()).collect();
    Client::new(Plan::Patient, Peer::Path(format!("/client/{number}").into()), records, 1 << 20)
}

fn datagrams(count: usize) -> Mail {
    let from = Peer::Path("/client/0".into());
    let datagram = Datagram { from, to: HERE, hops: 0, bytes: b"old".to_vec(), received: None };
    let mut mail = Mail::default();
    mail.is_unix = true;
    mail.sent = vec![datagram; count];
    mail
}

/// What a thread would do now.
type Job = Box<dyn FnOnce() + Send>;

impl Run {
    /// One worker. `chains`: the first one, and the one that it is swapped for.
    fn course(
        seed: u64,
        (kind, options): (SocketKind, &[(&str, &str)]),
        chains: &[&[Stage]],
        clients: Vec<Client>,
        mail: Mail,
    ) -> Run {
        let mut random = Random::new(seed);
        let case = Case::plain(kind, options, chains.iter().map(|chain| chain.to_vec()).collect());
        let world = World::of(random.fork(), clients, mail);
        world.borrow_mut().serves_all = true;
        // An odd number has no tap.
        Run::of(2 * seed + 1, case, world, random)
    }

    /// Takes turns until that is so, and lets no transform do anything.
    fn wait(&mut self, what: &str, is_so: impl Fn(&Run) -> bool) {
        for _ in 0..STEPS_MAX {
            if is_so(self) {
                return;
            }
            self.turn(0);
        }
        panic!("never: {what}: {:?}", self.listener.stats());
    }

    /// The same, and whatever comes to a transform comes back at once.
    fn until(&mut self, what: &str, is_so: impl Fn(&Run) -> bool) {
        self.wait(what, |run| {
            while run.jobs.len() > 0 {
                run.jobs.take(0)();
            }
            is_so(run)
        });
    }

    /// Takes turns until a message is away, and gives what is to be done with it: a thread has begun.
    fn away(&mut self) -> Job {
        for _ in 0..STEPS_MAX {
            let tokens = self.workers[0].sockets.tokens();
            let job = tokens.into_iter().find_map(|token| match self.workers[0].sockets.get(token) {
                Some(Socket::Offloaded(away)) if away.fresh_bytes > 0 => {
                    self.shared.offload.cancel(away.share, away.job?)
                }
                _ => None,
            });
            if let Some(job) = job {
                return job;
            }
            // Opening is a call too.
            while self.jobs.len() > 0 {
                self.jobs.take(0)();
            }
            self.turn(0);
        }
        panic!("no message is away: {:?}", self.listener.stats());
    }

    fn turns(&mut self, count: usize) {
        (0..count).for_each(|_| self.turn(0));
    }

    fn client(&self, number: usize) -> Client {
        self.world.borrow().clients[number].clone()
    }

    fn now(&self) -> u64 {
        self.world.borrow().now
    }

    fn reasons_told(&self) -> Vec<CloseReason> {
        self.closed.lock().unwrap().iter().map(|(_, reason)| *reason).collect()
    }

    fn stop(self) -> Stats {
        self.stop_before(|| ())
    }

    /// Stops the worker; this comes back too late. Nothing is left, and everything is counted.
    fn stop_before(mut self, job: impl FnOnce()) -> Stats {
        self.shared.stop.store(true, Ordering::Release);
        self.wait("it stops", |run| !run.workers[0].is_alive());
        while self.jobs.len() > 0 {
            self.jobs.take(0)();
        }
        let (world, stats) = (Rc::clone(&self.world), self.listener.stats());
        assert_eq!((stats.open, stats.accepted), (0, stats.closed), "{stats:?}");
        assert_eq!(stats.messages_in, stats.messages_out + stats.dropped, "{stats:?}");
        assert_eq!(self.reasons_told().len() as u64, stats.closed, "each end is told");
        job();
        drop(self);
        assert_eq!((transforms::living(), world.borrow().open_sockets()), ((0, 0), 0));
        stats
    }
}

/// A connection whose message is away is not read, however much comes; what came is answered afterwards, in order.
#[test]
fn order_is_kept_and_nothing_is_read_meanwhile() {
    let records: Vec<_> = (0..300).map(|number| format!(" then {number}")).collect();
    let records: Vec<_> = records.iter().map(String::as_str).collect();
    for kind in [SocketKind::Tcp, SocketKind::UnixSeqpacket] {
        for seed in NETWORKS {
            let clients = vec![client(0, &records)];
            let mut run = Run::course(seed, (kind, &[]), &[&[SLOW]], clients, Mail::default());
            let job = run.away();
            let taken = run.client(0).taken;
            run.turns(100);
            let client = run.client(0);
            assert_eq!((client.taken, client.answered.len(), run.jobs.len()), (taken, 0, 0), "{seed}");
            assert_eq!(run.listener.stats().bytes_in, 0, "{seed}");
            job();
            run.until("all is answered", |run| run.client(0).received.len() == records.concat().len());
            let client = run.client(0);
            assert_eq!(client.received, client.input(), "{seed}");
            assert!(kind == SocketKind::Tcp || client.answered_records == client.records, "{seed}");
            run.stop();
        }
    }
}

/// A connection that still owes an answer takes nothing along to a transform that may block: its next message waits with the
/// kernel, and what is held is counted when the engine stops. An answer whose time comes leaves before the next message goes.
#[test]
fn nothing_owed_is_taken_along() {
    let text = "a".repeat(20_000);
    for (seed, delay_ms) in NETWORKS.flat_map(|seed| [(seed, 3_600_000), (seed, 100)]) {
        let chain = [SLOW, stage(stages::Kind::Late, 0, delay_ms)];
        let clients = vec![client(0, &[&text])];
        let mut run = Run::course(seed, (SocketKind::Tcp, &[]), &[&chain], clients, Mail::default());
        let job = run.away();
        let taken = run.client(0).taken;
        job();
        if delay_ms > 100 {
            // Far fewer than after which time would jump to a deadline.
            run.turns(30);
            assert_eq!((run.jobs.len(), run.client(0).answered.len()), (0, 0), "{seed}");
            assert_eq!(run.stop().undelivered_bytes, taken as u64, "{seed}");
            continue;
        }
        let next = run.away();
        let client = run.client(0);
        assert_eq!(client.answered.len(), taken, "{seed}");
        assert!(client.writes[0].1 >= client.reads[0].1 + 100_000, "{seed}");
        next();
        run.until("all is answered", |run| run.client(0).received == text.as_bytes());
        run.stop();
    }
}

/// The chain is swapped while a message is away: that message keeps the old one, and when it is back the old one goes, whether
/// the peer says anything more or not.
#[test]
fn a_swap_reaches_who_was_away() {
    let (old, new) = (&[SLOW][..], &[NEXT][..]);
    for (kind, says, hears) in [
        (SocketKind::Tcp, &["o"][..], "o"),
        (SocketKind::UnixSeqpacket, &["old"], "old"),
        (SocketKind::UnixSeqpacket, &["old", "new"], "oldofx"),
    ] {
        for seed in NETWORKS {
            let clients = vec![client(0, says)];
            let mut run = Run::course(seed, (kind, &[]), &[old, new], clients, Mail::default());
            let job = run.away();
            run.swap();
            run.world.borrow_mut().clients.push(client(1, &["abc"]));
            run.until("the new chain answers", |run| run.client(1).received == b"bcd");
            assert_eq!((transforms::living().0, run.client(0).answered.len()), (2, 0), "{seed}");
            job();
            run.until("the old chain is gone", |_| transforms::living().0 == 1);
            run.until("all is answered", |run| run.client(0).received.len() == hears.len());
            assert_eq!(run.client(0).received, hears.as_bytes(), "{seed}");
            run.stop();
        }
    }
    for seed in NETWORKS {
        let kind = (SocketKind::UnixDatagram, &[][..]);
        let mut run = Run::course(seed, kind, &[old, new], Vec::new(), datagrams(1));
        run.wait("it is away", |run| run.jobs.len() == 1);
        let job = run.jobs.take(0);
        run.swap();
        run.until("the swap is noticed", |run| !run.blind[0] && run.jobs.len() == 0);
        assert_eq!(transforms::living().0, 2, "{seed}");
        job();
        run.until("it is back", |run| run.listener.stats().messages_in == 1 && transforms::living().0 == 1);
        assert!(run.world.borrow().mail.answers.iter().all(|(_, bytes, _)| bytes == b"old"), "{seed}");
        run.stop();
    }
}

/// Who cannot go along to the new chain has `swap_timeout`, also if his message was away when it came, and also if it never
/// comes back. Nobody else is closed for it.
#[test]
fn the_old_chain_has_its_time_for_who_was_away() {
    let (old, new) = (&[SLOW, CLINGS][..], &[NEXT][..]);
    for (seed, comes_back) in NETWORKS.flat_map(|seed| [(seed, true), (seed, false)]) {
        let listener = (SocketKind::Tcp, &[("swap_timeout", "300ms")][..]);
        let clients = vec![client(0, &["o"]), client(1, &[])];
        let mut run = Run::course(seed, listener, &[old, new], clients, Mail::default());
        let job = run.away();
        run.until("a witness is there", |run| run.listener.stats().accepted == 2 && run.jobs.len() == 0);
        run.swap();
        let swapped = run.now();
        let mut late = client(2, &["a"]);
        late.rests_until = swapped + 60_000_000;
        run.world.borrow_mut().clients.push(late);
        // The witness cannot go along either: that it is told the end shows that the time is up.
        run.until("the time is up", |run| run.client(1).server_finished.is_some());
        assert!(run.now() >= swapped + 300_000, "{seed}");
        assert!(run.client(0).server_closed.is_none(), "{seed}");
        let mut job = Some(job);
        job.take_if(|_| comes_back).into_iter().for_each(|job| job());
        run.until("both are closed", |run| run.reasons_told().len() == 2);
        assert_eq!(run.reasons_told(), [CloseReason::ChainReplaced; 2], "{seed}");
        assert_eq!(run.client(0).received.len(), usize::from(comes_back), "{seed}");
        run.until("who comes now stays", |run| run.client(2).received == b"b");
        let lost = u64::from(!comes_back);
        let stats = run.stop_before(|| job.into_iter().for_each(|job| job()));
        assert_eq!(stats.dropped_by(DropReason::Undelivered), lost, "{seed}");
    }
}

/// Of every connection that came it is told how it ended, also of one that was away then, whose message comes back too late.
#[test]
fn the_end_of_who_is_away_is_told() {
    for seed in NETWORKS {
        let clients = vec![client(0, &["o"]), client(1, &[])];
        let mut run = Run::course(seed, (SocketKind::Tcp, &[]), &[&[SLOW]], clients, Mail::default());
        let job = run.away();
        run.until("both are there", |run| run.listener.stats().open == 2 && run.jobs.len() == 0);
        let closed = Arc::clone(&run.closed);
        let stats = run.stop_before(job);
        assert_eq!(stats.dropped_by(DropReason::Undelivered), 1, "{seed} {stats:?}");
        let closed = closed.lock().unwrap();
        assert!(closed.iter().all(|(_, reason)| *reason == CloseReason::Stopped), "{seed} {closed:?}");
    }
}

/// More datagrams than may be away: what is over it is dropped and counted, all others are answered.
#[test]
fn datagrams_that_are_away_are_bounded() {
    let (sent, fit) = (OFFLOADED_DATAGRAMS_MAX as u64 + 76, OFFLOADED_DATAGRAMS_MAX as u64);
    let kind = (SocketKind::UnixDatagram, &[][..]);
    let mut run = Run::course(1, kind, &[&[SLOW]], Vec::new(), datagrams(sent as usize));
    run.wait("all have come", |run| run.listener.stats().messages_in == sent);
    let stats = run.listener.stats();
    assert_eq!(stats.dropped_by(DropReason::QueueFull), sent - fit, "{stats:?}");
    let is_done = |stats: &Stats| stats.messages_out + stats.dropped == sent;
    run.until("all are back", |run| is_done(&run.listener.stats()));
    // Peers' queues may be full, and networks fail.
    let failed = run.world.borrow().mail.failed + run.world.borrow().mail.failed_full;
    assert_eq!(run.stop().messages_out + failed, fit);
}

/// What waits for a thread is bounded: beyond that a connection is closed, and that has a name. Who waits already does so.
#[test]
fn messages_beyond_the_bound_of_a_chain_are_refused() {
    for seed in NETWORKS {
        let mut clients = [0, 1, 2].map(|number| client(number, &["o"])).to_vec();
        // The first speaks first.
        clients.iter_mut().zip([1, 60, 60]).for_each(|(client, at)| client.rests_until = at * 1_000_000);
        let mut run = Run::course(seed, (SocketKind::Tcp, &[]), &[&[SLOW]], clients, Mail::default());
        let job = run.away();
        run.until("all are there", |run| run.listener.stats().open == 3 && run.jobs.len() == 0);
        run.jobs.fill(true);
        run.wait("the others are refused", |run| run.listener.stats().closed == 2);
        run.jobs.fill(false);
        let stats = run.listener.stats();
        assert_eq!(stats.closed_by(CloseReason::Overloaded), 2, "{seed} {stats:?}");
        assert_eq!(stats.dropped_by(DropReason::Overloaded), 2, "{seed} {stats:?}");
        job();
        run.until("the first is answered", |run| run.client(0).received == b"o");
        run.stop();
    }
}
