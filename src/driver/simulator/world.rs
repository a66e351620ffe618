//! What the workers of a simulation share: the clock, the clients, the datagrams on their way.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use resay_plugin::dice::SplitMix64;

use super::client::Client;
use super::datagrams::Mail;

/// What a seed decides, or the bytes of a fuzzer as far as they reach.
#[derive(Debug, Clone)]
pub(crate) struct Random {
    dice: SplitMix64,
    /// The next decision is the last byte.
    decided: Vec<u8>,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random { dice: SplitMix64::new(seed), decided: Vec::new() }
    }

    /// A decision is one byte, or two where there are more ways than that.
    pub(crate) fn of(decisions: &[u8]) -> Random {
        Random { dice: SplitMix64::new(0), decided: decisions.iter().rev().copied().collect() }
    }

    /// Decides something else, by the other half of what is decided.
    pub(crate) fn fork(&mut self) -> Random {
        let dice = SplitMix64::new(self.dice.roll());
        let back = self.decided.len() / 2;
        let front = self.decided.split_off(back);
        Random { dice, decided: std::mem::replace(&mut self.decided, front) }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.dice.roll()
    }

    /// Uniform enough in `0..bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let bound = bound.max(1);
        match self.decided.pop() {
            Some(low) if bound > 256 => {
                usize::from(self.decided.pop().unwrap_or_default()) << 8 | usize::from(low)
            }
            Some(low) => usize::from(low),
            None => return (self.next() % bound as u64) as usize,
        }
        .rem_euclid(bound)
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick_mut<'a, T>(&mut self, from: &'a mut [T]) -> &'a mut T {
        let place = self.below(from.len());
        &mut from[place]
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// A socket before it is handed to a driver. It stands for a descriptor: dropping it closes it.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(super) what: What,
    _open: Arc<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Listener,
    Datagrams,
    Client(usize),
}

/// Everything outside of the workers. One thread runs all of a simulation.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) clients: Vec<Client>,
    pub(crate) mail: Mail,
    /// Microseconds.
    pub(crate) now: u64,
    pub(crate) waits: usize,
    /// For how many waits nothing has happened.
    quiet: usize,
    /// When the next worker wants to be woken, if any: time does not jump over that.
    pub(crate) until_deadline: Option<Duration>,
    /// Whoever connects can be served.
    pub(crate) serves_all: bool,
    /// What has been met on the way, and how often.
    pub(crate) met: BTreeMap<&'static str, u64>,
    /// One for each handle.
    handles: Vec<Weak<()>>,
}

/// A world and those in it.
pub(crate) type Shared = Rc<RefCell<World>>;

impl World {
    #[cfg(test)]
    pub(crate) fn new(seed: u64, clients: Vec<Client>, mail: Mail) -> Shared {
        World::of(Random::new(seed), clients, mail)
    }

    /// A world whose course these decisions are.
    pub(crate) fn of(random: Random, clients: Vec<Client>, mail: Mail) -> Shared {
        Rc::new(RefCell::new(World {
            random,
            clients,
            mail,
            now: 0,
            waits: 0,
            quiet: 0,
            until_deadline: None,
            serves_all: false,
            met: BTreeMap::new(),
            handles: Vec::new(),
        }))
    }

    pub(crate) fn meet(&mut self, what: &'static str) {
        *self.met.entry(what).or_default() += 1;
    }

    fn handle(&mut self, what: What) -> Handle {
        let open = Arc::new(());
        self.handles.push(Arc::downgrade(&open));
        Handle { what, _open: open }
    }

    pub(crate) fn listening_socket(&mut self) -> Handle {
        self.handle(What::Listener)
    }

    pub(crate) fn datagram_socket(&mut self) -> Handle {
        self.handle(What::Datagrams)
    }

    /// A connection that waits in the listen queue.
    pub(super) fn accept(&mut self) -> Option<(Handle, crate::peer::Peer)> {
        let number = self.clients.iter().position(|client| client.is_waiting(self.waits))?;
        let handle = self.handle(What::Client(number));
        let client = &mut self.clients[number];
        client.accept(Arc::downgrade(&handle._open), self.now);
        Some((handle, client.peer.clone()))
    }

    pub(super) fn has_waiting(&self) -> bool {
        self.clients.iter().any(|client| client.is_waiting(self.waits))
    }

    /// Sockets that are neither closed nor dropped.
    pub(crate) fn open_sockets(&self) -> usize {
        self.handles.iter().filter(|open| open.strong_count() > 0).count()
    }

    /// Nothing has happened for so long that nothing will, but for a deadline.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.quiet > 200 && self.clients.iter().all(|client| client.rests_until <= self.now)
    }

    pub(super) fn stir(&mut self) {
        self.quiet = 0;
    }

    /// Something happens outside; whether anything could.
    pub(super) fn live(&mut self, timeout: Option<Duration>) -> bool {
        self.waits += 1;
        let mut lived = false;
        for _ in 0..1 + self.random.below(8) {
            if !self.clients.is_empty() {
                let number = self.random.below(self.clients.len());
                lived |= self.clients[number].live(self.now, &mut self.random);
            }
            lived |= self.mail.arrive(&mut self.random);
        }
        // Looking without waiting, and without taking what there is, says nothing about rest.
        let waits = usize::from(timeout != Some(Duration::ZERO));
        self.quiet = if lived { 0 } else { self.quiet + waits };
        // While the world is busy time hardly moves; when it has been quiet for long, a deadline comes.
        // Whoever looks again and again sees time pass.
        let before = self.now;
        self.now += 1;
        if self.quiet > 40 {
            self.jump(timeout);
        } else {
            let most = timeout.map_or(u64::MAX, |timeout| timeout.as_micros() as u64);
            self.now += most.min(self.random.below(2000) as u64);
        }
        // A client that has rested is given the time to do something.
        let has_rested = |client: &Client| (before + 1..=self.now).contains(&client.rests_until);
        if self.clients.iter().any(has_rested) {
            self.quiet = 0;
        }
        lived
    }

    fn jump(&mut self, timeout: Option<Duration>) {
        let micros = |duration: Duration| duration.as_micros() as u64;
        let mut most = timeout.map_or(1_000_000, micros);
        if let Some(until) = self.until_deadline {
            most = most.min(micros(until).max(1));
        }
        let rests = self.clients.iter().map(|client| client.rests_until).filter(|until| *until > self.now);
        if let Some(until) = rests.min() {
            most = most.min(until - self.now);
        }
        self.now += most;
    }

    /// Lets clients read all that still comes, after the workers are gone.
    pub(crate) fn finish(&mut self) {
        for client in &mut self.clients {
            client.read_all();
        }
    }
}
