//! The simulator: a driver whose kernel, network and peers are decided by a seed.
//!
//! Short reads, short writes, delays, resets, half-closes, peers that stop reading, failing accepts and completions
//! in any order between sockets. Time is simulated, so a timeout of half a minute costs nothing. The driver's own
//! contract is asserted on the way: one send at a time, nothing for a paused or closed socket.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::time::Duration;

use resay_plugin::dice::SplitMix64;

use super::{Close, Completion, Driver, Progress, RecvBuf, Token};
use crate::buffer::{Outgoing, Pool};
use crate::limits::HEADROOM_BYTES;
use crate::peer::{Peer, SocketKind};
use crate::sys::ReplyTo;
use crate::timer::Moment;

/// What a seed decides.
#[derive(Debug, Clone)]
pub(crate) struct Random(SplitMix64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(SplitMix64::new(seed))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0.roll()
    }

    /// Uniform enough in `0..bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// A socket before it is handed to the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handle {
    Listener,
    Client(usize),
}

/// What a simulated client means to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Send all, end its side, read to the end.
    Polite,
    /// Send all, read everything, and wait for the server to end.
    Patient,
    /// Reset the connection after so many bytes.
    Reset { after: usize },
    /// Stop reading after so many bytes, for ever.
    Stall { after: usize },
}

/// One simulated client and the kernel between it and the server.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) plan: Plan,
    /// What it sends, a record each where records are kept.
    pub(crate) records: Vec<Vec<u8>>,
    input: Vec<u8>,
    /// Ends of records within the input.
    ends: Vec<usize>,
    /// Records that have arrived, when records are kept, and bytes that have arrived.
    arrived: usize,
    pub(crate) taken: usize,
    records_taken: usize,
    fin_arrived: bool,
    pub(crate) was_reset: bool,
    /// What the kernel holds for the client, and how much it would.
    in_kernel: VecDeque<u8>,
    window: usize,
    pub(crate) received: Vec<u8>,
    pub(crate) received_records: Vec<Vec<u8>>,
    pub(crate) server_finished: bool,
    pub(crate) server_closed: Option<Close>,
    accepted: bool,
}

impl Client {
    pub(crate) fn new(plan: Plan, records: Vec<Vec<u8>>, window: usize) -> Client {
        let input = records.concat();
        let mut end = 0;
        let ends = records
            .iter()
            .map(|record| {
                end += record.len();
                end
            })
            .collect();
        Client {
            plan,
            records,
            input,
            ends,
            arrived: 0,
            taken: 0,
            records_taken: 0,
            fin_arrived: false,
            was_reset: false,
            in_kernel: VecDeque::new(),
            window,
            received: Vec::new(),
            received_records: Vec::new(),
            server_finished: false,
            server_closed: None,
            accepted: false,
        }
    }

    /// The input that the server has read so far.
    pub(crate) fn input_taken(&self) -> &[u8] {
        &self.input[..self.taken]
    }

    pub(crate) fn input(&self) -> &[u8] {
        &self.input
    }

    /// The client has seen the end of the server's side, with everything before it.
    pub(crate) fn saw_end(&self) -> bool {
        (self.server_finished || self.server_closed.is_some()) && self.in_kernel.is_empty() && !self.was_reset
    }

    /// Something happens on the client's side; whether anything could.
    fn live(&mut self, random: &mut Random) -> bool {
        if self.was_reset || !self.accepted {
            return false;
        }
        let mut lived = false;
        if self.arrived < self.input.len() {
            let count = 1 + random.below(4096);
            self.arrived = (self.arrived + count).min(self.input.len());
            lived = true;
        } else if self.plan == Plan::Polite && !self.fin_arrived {
            self.fin_arrived = true;
            lived = true;
        }
        let reads = match self.plan {
            Plan::Stall { after } => self.received.len() < after,
            _ => true,
        };
        if reads && !self.in_kernel.is_empty() && random.one_in(2) {
            let count = 1 + random.below(self.in_kernel.len());
            self.received.extend(self.in_kernel.drain(..count));
            lived = true;
        }
        if let Plan::Reset { after } = self.plan
            && self.arrived >= after.min(self.input.len())
            && random.one_in(3)
        {
            self.was_reset = true;
            self.in_kernel.clear();
            lived = true;
        }
        // A client that saw the end of the server's side ends its own, as programs do.
        if self.server_finished
            && self.in_kernel.is_empty()
            && !self.fin_arrived
            && self.plan == Plan::Patient
        {
            self.fin_arrived = true;
            lived = true;
        }
        lived
    }

    /// The kernel takes bytes for the client; how many.
    fn take(&mut self, bytes: &[u8], whole: bool, random: &mut Random) -> usize {
        if self.server_closed.is_some() {
            return bytes.len();
        }
        let room = self.window.saturating_sub(self.in_kernel.len());
        let count = if whole {
            if room >= bytes.len() || self.in_kernel.is_empty() { bytes.len() } else { 0 }
        } else {
            let most = room.min(bytes.len());
            // Often all of it, as kernels do, else a short write.
            if random.one_in(3) { random.below(most + 1) } else { most }
        };
        self.in_kernel.extend(&bytes[..count]);
        if whole && (count > 0 || bytes.is_empty()) {
            self.received_records.push(bytes.to_vec());
        }
        count
    }
}

#[derive(Debug)]
struct Slot {
    token: Token,
    client: usize,
    records: bool,
    read_bytes_max: usize,
    paused: bool,
    draining: bool,
    ended: bool,
    failed: bool,
    outgoing: Option<Outgoing>,
}

/// The simulated kernel.
#[derive(Debug)]
pub(crate) struct Simulator {
    pub(crate) random: Random,
    pub(crate) clients: Vec<Client>,
    now: u64,
    slots: Vec<Slot>,
    listener: Option<(Token, bool)>,
    listener_draining: bool,
    /// Sockets that get a completion in this turn, in this order.
    turn: Vec<Token>,
    buffer: Vec<u8>,
    lent: usize,
    /// For how many waits nothing has happened.
    quiet: usize,
    /// Something happened in the last wait.
    has_found: bool,
}

impl Simulator {
    pub(crate) fn new(seed: u64, clients: Vec<Client>) -> Simulator {
        Simulator {
            random: Random::new(seed),
            clients,
            now: 0,
            slots: Vec::new(),
            listener: None,
            listener_draining: false,
            turn: Vec::new(),
            buffer: Vec::new(),
            lent: 0,
            quiet: 0,
            has_found: false,
        }
    }

    /// Nothing has happened for so long that nothing will, but for a deadline.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.quiet > 200
    }

    fn slot(&mut self, token: Token) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|slot| slot.token == token)
    }

    fn next_of_listener(&mut self, token: Token) -> Option<Completion<Handle>> {
        let waiting = self.clients.iter().position(|client| !client.accepted);
        match waiting {
            Some(_) if self.random.one_in(10) => {
                let errno = [libc::EMFILE, libc::ECONNABORTED, libc::ENOBUFS][self.random.below(3)];
                Some(Completion::AcceptFailed { token, error: io::Error::from_raw_os_error(errno) })
            }
            Some(client) => {
                self.clients[client].accepted = true;
                let socket = Handle::Client(client);
                Some(Completion::Accepted { token, socket, peer: Peer::Unnamed })
            }
            None if self.listener_draining => {
                self.listener_draining = false;
                Some(Completion::Drained { token })
            }
            None => None,
        }
    }

    fn next_of(&mut self, token: Token) -> Option<Completion<Handle>> {
        let place = self.slots.iter().position(|slot| slot.token == token)?;
        let slot = &mut self.slots[place];
        let client = &mut self.clients[slot.client];
        if let Some(mut outgoing) = slot.outgoing.take() {
            if client.was_reset {
                slot.failed = true;
                let error = io::ErrorKind::BrokenPipe.into();
                return Some(Completion::Failed { token, error });
            }
            let rest = outgoing.rest();
            let whole_and_empty = slot.records && rest.is_empty();
            let count = client.take(rest, slot.records, &mut self.random);
            outgoing.advance(count);
            if outgoing.is_done() || whole_and_empty {
                let memory = outgoing.into_bytes();
                return Some(Completion::Sent { token, bytes: memory.len(), memory });
            }
            slot.outgoing = Some(outgoing);
        }
        if slot.paused || slot.ended || slot.failed {
            return None;
        }
        if client.was_reset {
            slot.failed = true;
            return Some(Completion::Failed { token, error: io::ErrorKind::ConnectionReset.into() });
        }
        let available = if slot.records {
            match client.ends.get(client.records_taken) {
                Some(&end) if end <= client.arrived => Some(end - client.taken),
                _ => None,
            }
        } else {
            let waiting = client.arrived - client.taken;
            (waiting > 0).then(|| 1 + self.random.below(waiting.min(slot.read_bytes_max)))
        };
        if let Some(count) = available {
            let from = client.taken;
            client.taken += count;
            client.records_taken += usize::from(slot.records);
            self.buffer.clear();
            self.buffer.resize(HEADROOM_BYTES, 0);
            self.buffer.extend_from_slice(&client.input[from..from + count]);
            self.lent = count;
            return Some(Completion::Received { token, truncated: false });
        }
        if client.fin_arrived {
            slot.ended = true;
            return Some(Completion::Ended { token });
        }
        std::mem::take(&mut slot.draining).then_some(Completion::Drained { token })
    }

    /// A send, with however much of it the kernel takes at once.
    fn begin_send(&mut self, token: Token, bytes: &[u8]) -> Result<usize, io::Error> {
        let place = self.slots.iter().position(|slot| slot.token == token).expect("a send to an open socket");
        let slot = &self.slots[place];
        assert!(slot.outgoing.is_none(), "one send at a time");
        let client = &mut self.clients[slot.client];
        assert!(!client.server_finished, "nothing is sent after the end");
        if client.was_reset {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(client.take(bytes, slot.records, &mut self.random))
    }
}

impl Driver for Simulator {
    type Socket = Handle;

    fn now(&self) -> Moment {
        Moment::from_micros(self.now)
    }

    fn read_clock(&self) -> Moment {
        self.now()
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        if self.random.one_in(50) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let mut lived = false;
        for _ in 0..1 + self.random.below(8) {
            let client = self.random.below(self.clients.len());
            lived |= self.clients[client].live(&mut self.random);
        }
        self.has_found = lived;
        // Looking without waiting, and without taking what there is, says nothing about rest.
        let waits = usize::from(timeout != Some(Duration::ZERO));
        self.quiet = if lived { 0 } else { self.quiet + waits };
        let timeout = timeout.map_or(1_000_000, |timeout| timeout.as_micros() as u64);
        // While the world is busy time hardly moves; when it has been quiet for long, a deadline comes.
        // Whoever looks again and again sees time pass.
        self.now += 1;
        self.now += if self.quiet > 40 { timeout } else { timeout.min(self.random.below(2000) as u64) };
        self.turn = self.slots.iter().map(|slot| slot.token).collect();
        if let Some((token, false)) = self.listener {
            self.turn.push(token);
        }
        for index in (1..self.turn.len()).rev() {
            let other = self.random.below(index + 1);
            self.turn.swap(index, other);
        }
        Ok(())
    }

    fn has_found(&self) -> bool {
        self.has_found
    }

    fn next(&mut self) -> Option<Completion<Handle>> {
        self.lent = 0;
        while let Some(token) = self.turn.pop() {
            if self.random.one_in(5) {
                continue;
            }
            let completion = match self.listener {
                Some((listener, paused)) if listener == token => {
                    if paused {
                        None
                    } else {
                        self.next_of_listener(token)
                    }
                }
                _ => self.next_of(token),
            };
            if completion.is_some() {
                return completion;
            }
        }
        None
    }

    fn add_listener(&mut self, token: Token, socket: Handle) -> io::Result<()> {
        assert_eq!(socket, Handle::Listener);
        self.listener = Some((token, false));
        Ok(())
    }

    fn peer_user(&self, socket: &Handle) -> io::Result<u32> {
        Ok(match socket {
            Handle::Listener => 0,
            // A few users share all clients.
            Handle::Client(number) => (number % 3) as u32,
        })
    }

    fn add_stream(
        &mut self,
        token: Token,
        socket: Handle,
        kind: SocketKind,
        read_bytes_max: usize,
    ) -> io::Result<()> {
        let Handle::Client(client) = socket else { panic!("a listener cannot be connected") };
        self.slots.push(Slot {
            token,
            client,
            records: kind == SocketKind::UnixSeqpacket,
            read_bytes_max,
            paused: false,
            draining: false,
            ended: false,
            failed: false,
            outgoing: None,
        });
        Ok(())
    }

    fn add_datagram_socket(&mut self, _: Token, _: Handle, _: usize, _: bool) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn recv_buf(&mut self) -> RecvBuf<'_> {
        RecvBuf { buffer: &mut self.buffer[..HEADROOM_BYTES + self.lent], start: HEADROOM_BYTES }
    }

    fn send_from_recv_buf(&mut self, token: Token, range: Range<usize>, pool: &mut Pool) -> Progress {
        assert!(range.end <= HEADROOM_BYTES + self.lent, "only lent bytes are sent");
        let bytes = pool.copy_of(&self.buffer[range]);
        match self.send(token, bytes) {
            Progress::Done(memory) => {
                pool.put(memory);
                Progress::Done(Vec::new())
            }
            progress => progress,
        }
    }

    fn send(&mut self, token: Token, bytes: Vec<u8>) -> Progress {
        match self.begin_send(token, &bytes) {
            Ok(count) if count == bytes.len() => Progress::Done(bytes),
            Ok(count) => {
                let mut outgoing = Outgoing::new(bytes);
                outgoing.advance(count);
                self.slot(token).expect("checked above").outgoing = Some(outgoing);
                Progress::Pending
            }
            Err(error) => Progress::Failed(error),
        }
    }

    fn unsent(&self, token: Token) -> usize {
        let slot = self.slots.iter().find(|slot| slot.token == token);
        slot.and_then(|slot| slot.outgoing.as_ref()).map_or(0, |outgoing| outgoing.rest().len())
    }

    fn reply_from_recv_buf(&mut self, _: Range<usize>) {}

    fn reply(&mut self, _: Vec<u8>) {}

    fn reply_to(&mut self) -> Option<ReplyTo> {
        None
    }

    fn send_to(&mut self, _: Token, _: &ReplyTo, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn take_send_results(&mut self, _: Token) -> Option<(usize, io::Result<usize>)> {
        None
    }

    fn recycle_peer(&mut self, _: Peer) {}

    fn pause(&mut self, token: Token) {
        match &mut self.listener {
            Some((listener, paused)) if *listener == token => *paused = true,
            _ => self.slot(token).expect("a pause of an open socket").paused = true,
        }
    }

    fn resume(&mut self, token: Token) {
        match &mut self.listener {
            Some((listener, paused)) if *listener == token => *paused = false,
            _ => self.slot(token).expect("a resumption of an open socket").paused = false,
        }
    }

    fn drain(&mut self, token: Token) {
        match self.listener {
            Some((listener, _)) if listener == token => self.listener_draining = true,
            _ => self.slot(token).expect("a drain of an open socket").draining = true,
        }
    }

    fn shutdown_write(&mut self, token: Token) -> io::Result<()> {
        let slot = self.slot(token).expect("an end of an open socket");
        assert!(slot.outgoing.is_none(), "the end comes after what was sent");
        let client = slot.client;
        self.clients[client].server_finished = true;
        Ok(())
    }

    fn wait_closed(&mut self) {}

    fn close(&mut self, token: Token, how: Close) {
        if matches!(self.listener, Some((listener, _)) if listener == token) {
            self.listener = None;
            return;
        }
        let place = self.slots.iter().position(|slot| slot.token == token).expect("closed once");
        let slot = self.slots.remove(place);
        let client = &mut self.clients[slot.client];
        client.server_closed = Some(how);
        // What the peer sent and nobody read turns a close into a reset, which takes answers with it.
        if how == Close::Reset || client.arrived > client.taken {
            client.in_kernel.clear();
        }
        self.quiet = 0;
    }
}
