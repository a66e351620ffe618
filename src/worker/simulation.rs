//! The worker against the simulator: whatever the network does, no byte is lost, doubled or out of order, every
//! bound holds, and every connection ends.

use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::chain::Chain;
use crate::driver::simulator::{Client, Handle, Plan, Random, Simulator};
use crate::event::Events;
use crate::frame::{Found, Framer};
use crate::net::address::Address;
use crate::net::socket::Bound;
use crate::options::{Frame, Options};
use crate::peer::SocketKind;
use crate::stats::Stats;
use crate::transform::library::{Counters, Services};
use crate::transform::registry::Registry;
use crate::transform::spec::ChainSpec;

const SEEDS: u64 = 1000;
const STEPS_MAX: usize = 50_000;

/// What one seed stands for.
struct Case {
    kind: SocketKind,
    options: Options,
    chain: &'static str,
    drain_after: Option<usize>,
    spins: bool,
}

impl Case {
    fn of(random: &mut Random) -> Case {
        let mut options = Options::default();
        let kind = [SocketKind::Tcp, SocketKind::UnixStream, SocketKind::UnixSeqpacket][random.below(3)];
        if kind != SocketKind::UnixSeqpacket {
            let frame = ["raw", "raw", "lines", "delim:0d0a", "len16be", "varint"][random.below(6)];
            options.set("frame", frame).unwrap();
        }
        options.set("high_water", ["1k", "3k", "16k", "256k"][random.below(4)]).unwrap();
        options.set("max_message", "64k").unwrap();
        if random.one_in(4) {
            options.set("idle_timeout", "20s").unwrap();
        }
        if random.one_in(4) {
            options.set("min_rate", "100/5s").unwrap();
        }
        let chain = ["", "identity", "uppercase", "uppercase:unicode=1", "uppercase:unicode=1 | identity"]
            [random.below(5)];
        let drain_after = random.one_in(4).then(|| random.below(400));
        let spins = random.one_in(4);
        Case { kind, options, chain, drain_after, spins }
    }

    /// What a client sends to mean `message`.
    fn framed(&self, message: Vec<u8>) -> Vec<u8> {
        let framer = Framer::new(&self.options.frame, usize::MAX);
        if !matches!(self.options.frame, Frame::Len16Be | Frame::Varint) {
            return message;
        }
        let mut out = Vec::new();
        let mark = framer.open(&mut out);
        out.extend_from_slice(&message);
        framer.close(&mut out, mark, &[], &Found { body: 0..0, len: 0 }).unwrap();
        out
    }

    /// The one right answer to all that a client sends.
    fn answer(&self, input: &[u8]) -> Vec<u8> {
        if !matches!(self.options.frame, Frame::Len16Be | Frame::Varint) {
            return self.transform(input);
        }
        let framer = Framer::new(&self.options.frame, usize::MAX);
        let (mut rest, mut out) = (input, Vec::new());
        while let Some(found) = framer.find(rest, 0).unwrap() {
            out.extend(self.framed(self.transform(&rest[found.body])));
            rest = &rest[found.len..];
        }
        out
    }

    /// The chains here do not depend on where messages begin.
    fn transform(&self, input: &[u8]) -> Vec<u8> {
        match self.chain {
            "" | "identity" => input.to_vec(),
            "uppercase" => input.to_ascii_uppercase(),
            _ => String::from_utf8(input.to_vec()).unwrap().to_uppercase().into_bytes(),
        }
    }
}

/// Text with characters of one to four bytes, and some that grow.
fn text(random: &mut Random, chars: usize) -> Vec<u8> {
    let alphabet = ['a', 'B', 'z', '\n', 'ß', 'é', 'ŉ', '€', 'ΐ', '𝄞', ' ', '\r'];
    (0..chars).map(|_| alphabet[random.below(alphabet.len())]).collect::<String>().into_bytes()
}

fn clients(random: &mut Random, case: &Case) -> Vec<Client> {
    (0..1 + random.below(6))
        .map(|_| {
            let largest = if random.one_in(4) { 8000 } else { 300 };
            let records: Vec<_> = (0..random.below(12))
                .map(|_| {
                    let chars = random.below(largest);
                    case.framed(text(random, chars))
                })
                .collect();
            let bytes = records.iter().map(Vec::len).sum::<usize>();
            let plan = match random.below(8) {
                0 => Plan::Reset { after: random.below(bytes + 1) },
                1 => Plan::Stall { after: random.below(bytes + 1) },
                2 => Plan::Patient,
                _ => Plan::Polite,
            };
            // Clients that wait for the server would wait for ever, unless it ends by itself.
            let ends_by_itself = case.drain_after.is_some() || case.options.idle_timeout.is_some();
            let plan = if plan == Plan::Patient && !ends_by_itself { Plan::Polite } else { plan };
            Client::new(plan, records, 64 + random.below(8192))
        })
        .collect()
}

fn listener(case: &Case) -> Arc<Listener> {
    // The simulator has no descriptors; any will do for the record.
    let socket = std::fs::File::open("/dev/null").unwrap().into();
    let url = "unix:simulated".parse::<Address>().unwrap().to_string();
    let mut bound = Bound {
        socket,
        kind: case.kind,
        url,
        destinations: false,
        options: case.options.clone(),
        can_multiply: false,
        file: None,
    };
    let services = Services { events: Arc::new(Events::default()), counters: Arc::new(Counters::new()) };
    let spec = ChainSpec::parse(case.chain).unwrap();
    let mut registry = Registry::new(Vec::new());
    let tables: Vec<_> = spec.stages.iter().map(|stage| registry.find(&stage.target).unwrap()).collect();
    let chain = Arc::new(Chain::create(&spec, &tables, &services).unwrap());
    let listener = Listener::new(1, &mut bound, Vec::new(), Arc::clone(&chain), None).unwrap();
    listener.prepare(1, chain.generations(1).unwrap());
    Arc::new(listener)
}

fn run(seed: u64) -> Result<Stats, String> {
    let mut random = Random::new(seed);
    let case = Case::of(&mut random);
    let clients = clients(&mut random, &case);
    let listener = listener(&case);
    let shared = Arc::new(Shared {
        events: Arc::new(Events::default()),
        mailboxes: vec![Mailbox::new(Box::new(|| {}))],
        offload: Offload::default(),
        spin: if case.spins { Duration::from_micros(60) } else { Duration::ZERO },
        stop: Arc::new(AtomicBool::new(false)),
        chain_epoch: AtomicUsize::new(0),
        last_connection: AtomicUsize::new(0),
    });
    let mut worker = Worker::new(0, Simulator::new(random.next(), clients), Arc::clone(&shared));
    let listen = Command::Listen { listener: Arc::clone(&listener), socket: Handle::Listener };
    shared.mailboxes[0].push(listen).unwrap();
    let mut expected = Expected::new(&worker.driver.clients, &case);
    let mut drained = false;
    for step in 0..STEPS_MAX {
        match worker.turn(None) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::Interrupted),
        }
        check_step(&worker, &listener, &case, &mut expected)
            .map_err(|what| format!("step {step}: {what}"))?;
        let all_over = worker.driver.clients.iter().all(|client| client.server_closed.is_some());
        // Clients that neither read nor end keep a connection for ever, and rightly so.
        let at_rest = worker.driver.is_at_rest() && worker.until_deadline().is_none();
        if !drained && (all_over || at_rest || case.drain_after.is_some_and(|after| step > after)) {
            drained = true;
            shared.mailboxes[0].push(Command::Drain { within: Duration::from_secs(60) }).unwrap();
        }
    }
    if worker.is_alive() {
        return Err(format!("not over after {STEPS_MAX} turns: {:?}", listener.stats()));
    }
    check_end(&worker, &listener, &case)?;
    Ok(listener.stats())
}

/// The right answers, and how much of each client's share has been compared.
struct Expected {
    answers: Vec<Vec<u8>>,
    records: Vec<Vec<Vec<u8>>>,
    compared: Vec<usize>,
    records_compared: Vec<usize>,
}

impl Expected {
    fn new(clients: &[Client], case: &Case) -> Expected {
        Expected {
            answers: clients.iter().map(|client| case.answer(client.input())).collect(),
            records: clients
                .iter()
                .map(|client| client.records.iter().map(|record| case.answer(record)).collect())
                .collect(),
            compared: vec![0; clients.len()],
            records_compared: vec![0; clients.len()],
        }
    }

    /// Compares what client `index` has received since the last time.
    fn compare(&mut self, index: usize, client: &Client, is_seqpacket: bool) -> Result<(), String> {
        let from = std::mem::replace(&mut self.compared[index], client.received.len());
        if self.answers[index].get(from..client.received.len()) != Some(&client.received[from..]) {
            return Err(format!("client {index}: a wrong byte within {} received", client.received.len()));
        }
        if is_seqpacket {
            let records = client.received_records.len();
            let from = std::mem::replace(&mut self.records_compared[index], records);
            if self.records[index].get(from..records) != Some(&client.received_records[from..]) {
                return Err(format!("client {index}: a record is wrong within {records} received"));
            }
        }
        Ok(())
    }
}

/// What must hold after every turn.
fn check_step(
    worker: &Worker<Simulator>,
    listener: &Listener,
    case: &Case,
    expected: &mut Expected,
) -> Result<(), String> {
    for token in worker.sockets.tokens() {
        let Some(Socket::Connection(Served { connection, .. })) = worker.sockets.get(token) else { continue };
        let growth = if worker_grows(case) { 3 } else { 1 };
        let read = listener.limits.read_bytes_max;
        // One read, or the one message that it completes, is always answered as a whole.
        let message = if has_frames(case) { listener.message_bytes_max } else { 0 };
        let limit = case.options.high_water_bytes.max(read) + growth * read.max(message);
        if connection.waiting_bytes() > limit {
            return Err(format!("{} bytes wait, over {limit}", connection.waiting_bytes()));
        }
        // Without growth, the high water itself is the bound.
        if growth == 1 && case.kind != SocketKind::UnixSeqpacket && !has_frames(case) {
            let queued = connection.waiting_bytes();
            if queued > case.options.high_water_bytes {
                return Err(format!("{queued} bytes wait, over high_water"));
            }
        }
    }
    for (index, client) in worker.driver.clients.iter().enumerate() {
        expected.compare(index, client, case.kind == SocketKind::UnixSeqpacket)?;
    }
    let stats = listener.stats();
    if stats.messages_out > stats.messages_in || stats.closed > stats.accepted {
        return Err(format!("counters do not balance: {stats:?}"));
    }
    Ok(())
}

fn worker_grows(case: &Case) -> bool {
    case.chain.contains("unicode")
}

/// With lines, one read may complete a message that began in earlier ones, and all of it is answered at once.
fn has_frames(case: &Case) -> bool {
    case.options.frame != Frame::Raw
}

/// What must hold when all is over.
fn check_end(worker: &Worker<Simulator>, listener: &Listener, case: &Case) -> Result<(), String> {
    if !worker.sockets.is_empty() || !worker.timers.is_empty() || !worker.listeners.is_empty() {
        return Err("something is left in the worker".into());
    }
    let stats = listener.stats();
    let taken: usize = worker.driver.clients.iter().map(|client| client.taken).sum();
    if stats.open != 0 || stats.accepted != stats.closed || stats.bytes_in != taken as u64 {
        return Err(format!("counters do not balance, {taken} bytes were read: {stats:?}"));
    }
    for (index, client) in worker.driver.clients.iter().enumerate() {
        if client.plan != Plan::Polite || case.drain_after.is_some() {
            continue;
        }
        // A slow but polite client gets everything and then the end; only a timeout may cut it short.
        let timed_out = [CloseReason::IdleTimeout, CloseReason::WriteTimeout, CloseReason::TooSlow]
            .map(|reason| stats.closed_by(reason))
            != [0; 3];
        if !timed_out && !client.saw_end() && client.server_closed.is_none() {
            return Err(format!("client {index}: no end"));
        }
        if !timed_out && client.input_taken() != client.input() {
            return Err(format!("client {index}: {} of {} bytes read", client.taken, client.input().len()));
        }
    }
    if case.drain_after.is_none() && stats.closed == stats.closed_by(CloseReason::PeerEnded) {
        let answered: usize = worker.driver.clients.iter().map(|c| case.answer(c.input()).len()).sum();
        if stats.bytes_out != answered as u64 || stats.undelivered_bytes != 0 {
            return Err(format!("{answered} bytes are owed: {stats:?}"));
        }
    }
    Ok(())
}

#[test]
fn no_network_loses_a_byte() {
    let first = std::env::var("RESAY_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = first.map_or(0..SEEDS, |seed| seed..seed + 1);
    let seen = Mutex::new(Stats::default());
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| run(seed));
        match outcome {
            Ok(Ok(stats)) => seen.lock().unwrap().add(&stats),
            Ok(Err(what)) => panic!("RESAY_SEED={seed}: {what}"),
            Err(panic) => {
                eprintln!("RESAY_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    // The seeds must really have been through all of it.
    let seen = seen.into_inner().unwrap();
    println!("{seen:?}");
    if first.is_none() {
        for reason in [
            CloseReason::PeerEnded,
            CloseReason::PeerReset,
            CloseReason::WriteTimeout,
            CloseReason::IdleTimeout,
            CloseReason::TooSlow,
            CloseReason::Drained,
        ] {
            assert!(seen.closed_by(reason) > 0, "no connection ended because of {reason}");
        }
        assert!(seen.accept_errors > 0 && seen.undelivered_bytes > 0);
    }
}
