//! What other threads ask of a worker, and where they leave it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::ask::{Answer, Ask};
use super::connection_info::ConnectionInfo;
use super::offloaded::{DatagramResult, OffloadResult};
use crate::channel::Sender;
use crate::connection::Request;
use crate::driver::Token;
use crate::later::LateAnswer;
use crate::listener::Listener;
use crate::lock::lock;
use crate::net::guard::PeerPermit;
use crate::peer::Peer;

/// What another thread asks of a worker.
#[derive(Debug)]
pub(crate) enum Command<S> {
    /// Serve this listener's socket.
    Listen { listener: Arc<Listener>, socket: S },
    /// The listener's options have changed.
    Revise { listener: Arc<Listener> },
    /// Serve a connection that another worker accepted.
    Adopt(Arrival<S>),
    /// A connection whose message the thread pool has processed.
    OffloadResult(Box<OffloadResult>),
    /// A datagram that the thread pool has processed.
    DatagramResult(Box<DatagramResult>),
    /// The answer of a message that waits for it.
    LateAnswer { socket: Token, answer: LateAnswer },
    /// Say which connections there are.
    List { to: Sender<ConnectionInfo> },
    /// What the host asks of a connection.
    Request { token: Token, id: u64, request: Request },
    /// What the host asks and waits for.
    Ask(Arc<Ask>),
    /// The host has stopped the reading of a listener, or lets it go on.
    HoldListener { id: u64 },
    /// The turn that somebody waits for is over: whoever drops this tells it.
    TurnEnded { _to: Sender<Answer> },
    /// Answer what has arrived, then end; what is not done by then is cut off.
    Drain { within: Duration },
}

/// A connection on its way to the worker that will serve it.
#[derive(Debug)]
pub(crate) struct Arrival<S> {
    pub(super) listener: Arc<Listener>,
    pub(super) socket: S,
    pub(super) peer: Peer,
    pub(super) id: u64,
    pub(super) permit: Option<Box<PeerPermit>>,
}

/// Where other threads leave commands for a worker.
pub(crate) struct Mailbox<S> {
    queue: Mutex<Queue<S>>,
    /// There is something in the queue: the worker looks at this once a turn.
    is_filled: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
    /// Connections that the worker serves or is about to.
    pub(super) load: AtomicUsize,
}

struct Queue<S> {
    commands: VecDeque<Command<S>>,
    /// The worker has ended and will not look again.
    closed: bool,
}

impl<S> Mailbox<S> {
    /// `wake` interrupts the driver's wait; any thread may call it.
    pub(crate) fn new(wake: Box<dyn Fn() + Send + Sync>) -> Mailbox<S> {
        let queue = Mutex::new(Queue { commands: VecDeque::new(), closed: false });
        Mailbox { queue, is_filled: AtomicBool::new(false), wake, load: AtomicUsize::new(0) }
    }

    /// Leaves a command; it is handed back where the worker has ended.
    pub(crate) fn push(&self, command: Command<S>) -> Result<(), Command<S>> {
        let mut queue = lock(&self.queue);
        if queue.closed {
            return Err(command);
        }
        queue.commands.push_back(command);
        // Whoever has filled it wakes the worker, which looks before it waits again.
        let was_filled = self.is_filled.swap(true, Ordering::AcqRel);
        drop(queue);
        if !was_filled {
            (self.wake)();
        }
        Ok(())
    }

    /// Whether there is something that the worker has not taken.
    pub(super) fn is_filled(&self) -> bool {
        self.is_filled.load(Ordering::Acquire)
    }

    /// Whether the worker has ended.
    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.queue).closed
    }

    /// The sockets that wait to be served; none where somebody was changing the mailbox when this process was made.
    pub(crate) fn sockets<R>(&self, each: impl Fn(&S) -> R) -> Vec<R> {
        let Ok(queue) = self.queue.try_lock() else { return Vec::new() };
        let sockets = queue.commands.iter().filter_map(|command| match command {
            Command::Listen { socket, .. } | Command::Adopt(Arrival { socket, .. }) => Some(socket),
            _ => None,
        });
        sockets.map(each).collect()
    }

    /// Makes the worker take a turn.
    pub(crate) fn wake(&self) {
        (self.wake)();
    }

    /// Takes what is there, if there is anything.
    #[inline]
    pub(super) fn take(&self) -> Option<VecDeque<Command<S>>> {
        if !self.is_filled() {
            return None;
        }
        let mut queue = lock(&self.queue);
        self.is_filled.store(false, Ordering::Relaxed);
        Some(std::mem::take(&mut queue.commands))
    }

    /// Ends the mailbox, unless something is in it.
    pub(super) fn close(&self) -> bool {
        let mut queue = lock(&self.queue);
        queue.closed |= queue.commands.is_empty();
        queue.closed
    }
}

impl<S> std::fmt::Debug for Mailbox<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailbox").field("load", &self.load).finish_non_exhaustive()
    }
}
