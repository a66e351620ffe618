//! The simulator: a driver whose kernel, network and peers are decided by a seed.
//!
//! Short reads, short writes, delays, resets, half-closes, peers that stop reading, failing accepts, batches of
//! datagrams and completions in any order between sockets. Time is simulated, so a timeout of half a minute costs
//! nothing. What the contract asks of a worker is asserted on the way: one send at a time, an answer a datagram, no
//! call for a closed socket, the receive buffer only while a completion shows it, every socket closed once.

mod client;
mod datagrams;
mod streams;
mod world;

pub(crate) use client::{Client, Head, Plan};
pub(crate) use datagrams::{Datagram, HERE, Mail};
pub(crate) use world::{Handle, Random, Shared, World};

use std::cell::Cell;
use std::collections::HashSet;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use self::datagrams::DatagramSlot;
use self::streams::{Listening, Slot};
use self::world::What;
use super::{Close, Completion, Driver, Facts, Progress, RecvBuf, Token};
use crate::buffer::Pool;
use crate::limits::HEADROOM_BYTES;
use crate::peer::{Credentials, Peer, SocketKind};
use crate::sys::{OnAccept, Presence, ReplyTo, SendBuffer};
use crate::timer::Moment;

/// One worker's part of the simulated kernel.
#[derive(Debug)]
pub(crate) struct Simulator {
    world: Shared,
    now: Cell<u64>,
    slots: Vec<Slot>,
    listeners: Vec<Listening>,
    sockets: Vec<DatagramSlot>,
    /// Sockets that get a completion in this turn, the last one first.
    turn: Vec<Token>,
    /// Datagrams that this turn may still bring.
    batch: usize,
    buffer: Vec<u8>,
    recv_buf: InRecvBuf,
    /// Names that were given once: none comes back.
    names: HashSet<Token>,
    /// What was asked of the driver since the last wait: see [`CALLS_PER_TURN_MAX`].
    calls: Cell<usize>,
    /// Something happened in the last wait.
    has_found: bool,
    /// No turn will follow.
    is_over: bool,
    /// Streams whose submitted send came short.
    unsent: Vec<Token>,
}

/// What a turn may ask of its driver: far more than the longest of them does.
const CALLS_PER_TURN_MAX: usize = 200_000;

/// What the worker may look at until the next completion.
#[derive(Debug)]
enum InRecvBuf {
    Nothing,
    Stream {
        bytes: usize,
    },
    /// Datagrams, none of which the worker has asked for, or all.
    Batch {
        token: Token,
    },
    Datagram {
        token: Token,
        from: Peer,
        bytes: usize,
        replied: bool,
    },
}

impl Simulator {
    pub(crate) fn new(world: &Shared) -> Simulator {
        Simulator {
            world: Rc::clone(world),
            now: Cell::new(0),
            slots: Vec::new(),
            listeners: Vec::new(),
            sockets: Vec::new(),
            turn: Vec::new(),
            batch: 0,
            buffer: Vec::new(),
            recv_buf: InRecvBuf::Nothing,
            names: HashSet::new(),
            calls: Cell::new(0),
            has_found: false,
            unsent: Vec::new(),
            is_over: false,
        }
    }

    /// Another thread has woken the worker: its wait has just ended.
    pub(crate) fn wake(&self) {
        self.now.set(self.world.borrow().now);
    }

    /// Notes that the worker asks for something: a turn that does so without end fails.
    fn count_call(&self) {
        self.calls.set(self.calls.get() + 1);
        assert!(self.calls.get() < CALLS_PER_TURN_MAX, "a turn without end");
    }

    fn stream(&mut self, token: Token) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|slot| slot.token == token)
    }

    fn listener(&mut self, token: Token) -> Option<&mut Listening> {
        self.listeners.iter_mut().find(|listening| listening.token == token)
    }

    fn socket(&mut self, token: Token) -> Option<&mut DatagramSlot> {
        self.sockets.iter_mut().find(|slot| slot.token == token)
    }

    fn name(&mut self, token: Token) {
        assert!(!self.is_over, "no socket after the last turn");
        assert!(self.names.insert(token), "a name that was given before");
    }

    fn recv_buf_bytes(&self) -> usize {
        match &self.recv_buf {
            InRecvBuf::Nothing | InRecvBuf::Batch { .. } => panic!("the receive buffer is empty"),
            InRecvBuf::Stream { bytes } | InRecvBuf::Datagram { bytes, .. } => *bytes,
        }
    }

    fn next_of(&mut self, token: Token) -> Option<Completion<Handle>> {
        if let Some(place) = self.slots.iter().position(|slot| slot.token == token) {
            return self.next_of_stream(place);
        }
        if let Some(place) = self.listeners.iter().position(|listening| listening.token == token) {
            return self.next_of_listener(place);
        }
        let place = self.sockets.iter().position(|slot| slot.token == token)?;
        self.next_of_datagrams(place)
    }
}

impl Driver for Simulator {
    type Socket = Handle;

    fn now(&self) -> Moment {
        self.count_call();
        Moment::from_micros(self.now.get())
    }

    fn read_clock(&self) -> Moment {
        self.count_call();
        Moment::from_micros(self.world.borrow().now)
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        assert!(!self.is_over, "no turn after the last");
        self.calls.set(0);
        self.recv_buf = InRecvBuf::Nothing;
        if self.world.borrow_mut().random.one_in(50) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        // The worker counts what was submitted as soon as it has left.
        let is_at_once = self.slots.iter().any(|slot| slot.is_submitted);
        self.end_submitted();
        let world = &mut *self.world.borrow_mut();
        self.has_found = world.live(if is_at_once { Some(Duration::ZERO) } else { timeout });
        self.now.set(world.now);
        self.turn = self.slots.iter().map(|slot| slot.token).collect();
        self.slots.iter_mut().for_each(|slot| slot.is_read = false);
        // Some have more than one completion.
        self.turn.extend(self.slots.iter().map(|slot| slot.token).filter(|_| world.random.one_in(4)));
        self.turn.extend(self.listeners.iter().map(|listening| listening.token));
        self.turn.extend(self.sockets.iter().map(|slot| slot.token));
        for index in (1..self.turn.len()).rev() {
            let other = world.random.below(index + 1);
            self.turn.swap(index, other);
        }
        self.batch = 1 + world.random.below(8);
        Ok(())
    }

    fn has_found(&self) -> bool {
        self.has_found
    }

    fn next(&mut self) -> Option<Completion<Handle>> {
        self.count_call();
        // A batch that has begun is brought to its end.
        let is_batch = matches!(self.recv_buf, InRecvBuf::Batch { .. } | InRecvBuf::Datagram { .. });
        self.recv_buf = InRecvBuf::Nothing;
        self.buffer.fill(b'#');
        let mut is_next_of_batch = is_batch;
        while let Some(token) = self.turn.pop() {
            if !std::mem::take(&mut is_next_of_batch) && self.world.borrow_mut().random.one_in(5) {
                continue;
            }
            let completion = self.next_of(token);
            if completion.is_some() {
                self.world.borrow_mut().stir();
                return completion;
            }
        }
        let world = &mut *self.world.borrow_mut();
        self.sockets.iter_mut().for_each(|slot| slot.flush(world));
        None
    }

    fn add_listener(&mut self, token: Token, socket: Handle) -> io::Result<()> {
        self.name(token);
        assert_eq!(socket.what, What::Listener);
        let accepts_by_itself = self.world.borrow_mut().random.one_in(2);
        self.listeners.push(Listening {
            token,
            paused: false,
            draining: false,
            accepts_by_itself,
            rests_until: 0,
            _handle: socket,
        });
        Ok(())
    }

    fn peer_credentials(&self, socket: &Handle) -> io::Result<Credentials> {
        let user = match socket.what {
            What::Listener | What::Datagrams => 0,
            // A few users share all clients.
            What::Client(number) => (number % 3) as u32,
        };
        Ok(Credentials { process: 1, user, group: user })
    }

    fn facts(&self, token: Token) -> Facts {
        assert!(self.slots.iter().any(|slot| slot.token == token), "facts of an open connection");
        Facts::default()
    }

    fn presence(&self, token: Token) -> Presence {
        assert!(self.slots.iter().any(|slot| slot.token == token), "presence at an open connection");
        Presence::Here
    }

    fn send_buffer(&self, _: Token) -> Option<SendBuffer> {
        None
    }

    fn accept_waiting(&mut self, token: Token) -> Option<io::Result<(Handle, Peer)>> {
        // What the kernel has accepted by itself is over once such a listener is drained.
        assert!(self.listener(token).is_some(), "an open listener");
        self.world.borrow_mut().accept().map(Ok)
    }

    fn refuse(&mut self, token: Token) -> io::Result<()> {
        if let Some(listening) = self.listener(token) {
            listening.paused = true;
        }
        Ok(())
    }

    fn stop_refusing(&mut self, token: Token, _: i32) -> io::Result<()> {
        if let Some(listening) = self.listener(token) {
            listening.paused = false;
        }
        Ok(())
    }

    fn accepts_by_itself(&self, token: Token) -> bool {
        let listening = self.listeners.iter().find(|listening| listening.token == token);
        listening.is_some_and(|listening| listening.accepts_by_itself)
    }

    fn configure(&self, _: &Handle, _: &OnAccept) {}

    fn add_stream(
        &mut self,
        token: Token,
        socket: Handle,
        kind: SocketKind,
        read_bytes_max: usize,
    ) -> io::Result<()> {
        self.name(token);
        let What::Client(client) = socket.what else { panic!("a listener cannot be connected") };
        let world = &mut *self.world.borrow_mut();
        if world.random.one_in(60) && !world.serves_all {
            world.meet("a connection that cannot be watched");
            return Err(io::Error::from_raw_os_error(libc::ENOMEM));
        }
        self.slots.push(Slot {
            token,
            client,
            records: kind == SocketKind::UnixSeqpacket,
            read_bytes_max,
            paused: false,
            draining: false,
            ended: false,
            failed: false,
            finished: false,
            outgoing: None,
            is_read: false,
            is_submitted: false,
            is_reported: false,
            is_taken: false,
            _handle: socket,
        });
        Ok(())
    }

    fn add_datagram_socket(
        &mut self,
        token: Token,
        socket: Handle,
        message_bytes_max: usize,
        _: bool,
    ) -> io::Result<()> {
        self.name(token);
        assert_eq!(socket.what, What::Datagrams);
        self.sockets.push(DatagramSlot::new(token, message_bytes_max, socket));
        Ok(())
    }

    fn next_datagram(&mut self) -> Option<(super::Datagram, &mut [u8])> {
        let datagram = self.next_of_batch()?;
        Some((datagram, &mut self.buffer))
    }

    fn recv_buf(&mut self) -> RecvBuf<'_> {
        self.count_call();
        let bytes = self.recv_buf_bytes();
        let start = if matches!(self.recv_buf, InRecvBuf::Stream { .. }) { HEADROOM_BYTES } else { 0 };
        RecvBuf { buffer: &mut self.buffer[..start + bytes], start }
    }

    fn send_from_recv_buf(&mut self, token: Token, range: Range<usize>, pool: &mut Pool) -> Progress {
        assert!(
            matches!(self.recv_buf, InRecvBuf::Stream { .. }),
            "a stream's bytes are in the receive buffer"
        );
        assert!(range.end <= HEADROOM_BYTES + self.recv_buf_bytes(), "only received bytes are sent");
        let bytes = pool.copy_of(&self.buffer[range]);
        match self.send(token, bytes) {
            Progress::Done(memory) => {
                pool.put(memory);
                Progress::Done(Vec::new())
            }
            progress => progress,
        }
    }

    fn submit_from_recv_buf(&mut self, token: Token, range: Range<usize>, pool: &mut Pool) -> Progress {
        if self.world.borrow_mut().random.one_in(2) {
            return self.send_from_recv_buf(token, range, pool);
        }
        assert!(range.end <= HEADROOM_BYTES + self.recv_buf_bytes(), "only received bytes are sent");
        self.begin_submitted(token, self.buffer[range].to_vec())
    }

    fn next_unsent(&mut self) -> Option<Token> {
        self.unsent.pop()
    }

    fn report_sent(&mut self, token: Token) -> bool {
        let slot = self.slots.iter_mut().find(|slot| slot.token == token && slot.is_submitted);
        slot.map(|slot| slot.is_reported = true).is_some()
    }

    fn send(&mut self, token: Token, bytes: Vec<u8>) -> Progress {
        self.count_call();
        self.begin_send(token, bytes)
    }

    fn unsent(&self, token: Token) -> usize {
        self.count_call();
        let slot = self.slots.iter().find(|slot| slot.token == token);
        slot.and_then(|slot| slot.outgoing.as_ref()).map_or(0, |outgoing| outgoing.rest().len())
    }

    fn reply_from_recv_buf(&mut self, range: Range<usize>) {
        assert!(range.end <= self.recv_buf_bytes(), "only received bytes are sent");
        self.put_reply(self.buffer[range].to_vec());
    }

    fn reply(&mut self, bytes: Vec<u8>) {
        self.put_reply(bytes);
    }

    fn reply_to(&mut self) -> Option<ReplyTo> {
        Some(self.recv_buf_reply_to())
    }

    fn send_to(&mut self, token: Token, to: &ReplyTo, bytes: &[u8]) -> io::Result<usize> {
        self.send_by_itself(token, to, bytes)
    }

    fn take_send_results(&mut self, token: Token) -> Option<(usize, io::Result<usize>)> {
        let result = self.socket(token)?.results.pop_front()?;
        self.world.borrow_mut().meet("results of sends at the end");
        Some(result)
    }

    fn sender(&mut self) -> Peer {
        self.recv_buf_sender()
    }

    fn recycle_peer(&mut self, _: Peer) {}

    fn pause(&mut self, token: Token) {
        if let Some(listening) = self.listener(token) {
            listening.paused = true;
        } else if let Some(slot) = self.socket(token) {
            slot.paused = true;
        } else {
            self.stream(token).expect("a pause of an open socket").paused = true;
        }
    }

    fn resume(&mut self, token: Token) {
        self.world.borrow_mut().stir();
        if let Some(listening) = self.listener(token) {
            listening.paused = false;
        } else if let Some(slot) = self.socket(token) {
            slot.paused = false;
        } else {
            self.stream(token).expect("a resumption of an open socket").paused = false;
        }
    }

    fn drain(&mut self, token: Token) {
        self.world.borrow_mut().stir();
        if let Some(listening) = self.listener(token) {
            listening.draining = true;
            listening.rests_until = 0;
        } else if let Some(slot) = self.socket(token) {
            slot.draining = true;
        } else {
            self.stream(token).expect("a drain of an open socket").draining = true;
        }
    }

    fn shutdown_write(&mut self, token: Token) -> io::Result<()> {
        let slot = self.stream(token).expect("an end of an open socket");
        assert!(slot.outgoing.is_none(), "the end comes after what was sent");
        assert!(!std::mem::replace(&mut slot.finished, true), "one end is enough");
        let number = slot.client;
        let world = &mut *self.world.borrow_mut();
        let client = &mut world.clients[number];
        client.server_finished = Some((world.now, client.taken));
        if client.was_reset { Err(io::ErrorKind::NotConnected.into()) } else { Ok(()) }
    }

    fn close(&mut self, token: Token, how: Close) {
        self.world.borrow_mut().stir();
        if let Some(place) = self.listeners.iter().position(|listening| listening.token == token) {
            self.listeners.remove(place);
        } else if let Some(place) = self.sockets.iter().position(|slot| slot.token == token) {
            let slot = self.sockets.remove(place);
            assert!(slot.results.is_empty(), "what became of answers is asked for before the end");
        } else {
            let place = self.slots.iter().position(|slot| slot.token == token).expect("closed once");
            let slot = self.slots.remove(place);
            let world = &mut *self.world.borrow_mut();
            world.clients[slot.client].close(how, world.now);
        }
    }

    fn wait_closed(&mut self) {
        let is_empty = self.slots.is_empty() && self.listeners.is_empty() && self.sockets.is_empty();
        assert!(is_empty, "everything is closed before the end");
        assert!(!std::mem::replace(&mut self.is_over, true), "one end is enough");
    }
}
