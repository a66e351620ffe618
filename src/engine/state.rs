//! What an engine consists of: what its owner changes, and the workers, once there are some.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use super::backend::{Backend, Chosen};
use super::inherited_fds::InheritedFds;
use super::threads::Ended;
use crate::chain::{Chain, Generation};
use crate::connection::MakeAround;
use crate::driver::hybrid::Hybrid;
use crate::error::{Error, Result};
use crate::event::{EventKind, Events, LogLevel};
use crate::listener::Listener;
use crate::net::socket;
use crate::offload::Offload;
use crate::options::Options;
use crate::stats::ClosedListeners;
use crate::transform::library::Services;
use crate::transform::registry::Registry;
use crate::worker::{Command, Mailbox, Shared, Worker};

/// Sockets, workers and chains. May be used from any thread; dropping it stops it.
pub struct Engine {
    pub(super) control: Mutex<Control>,
    /// Apart from `control`, and never held while a transform is created: a slow one keeps nobody else waiting.
    pub(super) registry: Mutex<Registry>,
    /// The workers, from the first call on that needs them.
    pub(super) core: OnceLock<Core>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) services: Services,
    pub(super) ended: Arc<Ended>,
}

/// Everything that runs.
pub(super) struct Core {
    pub(super) workers: Vec<Arc<Mutex<Worker<Hybrid>>>>,
    pub(super) shared: Arc<Shared<OwnedFd>>,
    pub(super) backend: Backend,
    /// What each worker's driver has open.
    pub(super) inherited_fds: Vec<InheritedFds>,
}

impl Core {
    fn new(chosen: Chosen, spin: Duration, stop: &Arc<AtomicBool>, events: &Arc<Events>) -> Result<Core> {
        let Chosen { backend, reason, drivers } = chosen;
        let workers = drivers.len();
        let mut mailboxes = Vec::with_capacity(workers);
        let mut hybrids = Vec::with_capacity(workers);
        for (hybrid, waker) in drivers {
            mailboxes.push(Mailbox::new(Box::new(move || waker.wake())));
            hybrids.push(hybrid);
        }
        let inherited_fds = hybrids.iter().map(InheritedFds::of).collect();
        let shared = Arc::new(Shared {
            events: Arc::clone(events),
            mailboxes,
            offload: Offload::default(),
            spin,
            stop: Arc::clone(stop),
            chain_epoch: AtomicUsize::new(0),
            last_connection: AtomicUsize::new(0),
        });
        let workers = hybrids
            .into_iter()
            .enumerate()
            .map(|(index, driver)| Arc::new(Mutex::new(Worker::new(index, driver, Arc::clone(&shared)))))
            .collect();
        events.emit_about(
            LogLevel::Info,
            EventKind::Engine,
            &(),
            format_args!("backend {backend}: {reason}"),
        );
        Ok(Core { workers, shared, backend, inherited_fds })
    }

    /// Hands a listener's socket to the worker whose turn it is; of datagram sockets, each worker gets one.
    pub(super) fn serve(&self, listener: &Arc<Listener>, socket: OwnedFd) -> Result<()> {
        let count = self.workers.len();
        let mut sockets = Vec::new();
        if listener.can_multiply && count > 1 {
            let (options, destinations) = (&listener.options, listener.destinations);
            match socket::siblings(socket.as_fd(), options, destinations, count - 1) {
                Ok(siblings) => sockets = siblings,
                Err(error) => {
                    let text = format_args!("one worker serves it alone: {error}");
                    self.shared.events.emit_about(LogLevel::Warn, EventKind::Listening, &**listener, text);
                }
            }
        }
        sockets.insert(0, socket);
        let first = (listener.id - 1) as usize;
        for (offset, socket) in sockets.into_iter().enumerate() {
            let command = Command::Listen { listener: Arc::clone(listener), socket };
            let mailbox = &self.shared.mailboxes[(first + offset) % count];
            mailbox.push(command).map_err(|_| Error::State("the engine has stopped"))?;
        }
        Ok(())
    }
}

/// What only the calls of the owner change.
pub(super) struct Control {
    pub(super) defaults: Options,
    /// The chain of all listeners that have none of their own.
    pub(super) chain: Arc<Chain>,
    /// Its generations, a worker each, once there are workers.
    pub(super) engine_chain: Vec<Arc<Generation>>,
    pub(super) listeners: Vec<Arc<Listener>>,
    pub(super) closed: ClosedListeners,
    /// Listeners whose sockets wait for there to be workers.
    pub(super) waiting: Vec<Waiting>,
    pub(super) last_listener: u64,
    /// How many workers there are, or will be.
    pub(super) workers: usize,
    /// What was asked for.
    pub(super) backend: Backend,
    pub(super) spin: Duration,
    pub(super) threads: Vec<JoinHandle<()>>,
    /// What stands before and around streams.
    pub(super) around: Option<MakeAround>,
}

pub(super) struct Waiting {
    pub(super) listener: Arc<Listener>,
    pub(super) socket: OwnedFd,
}

impl Engine {
    /// The workers, made now if there are none yet.
    pub(super) fn core(&self, control: &mut Control, own_threads: bool) -> Result<&Core> {
        if self.core.get().is_none() {
            let chosen = control.backend.open(control.workers, own_threads)?;
            let core = Core::new(chosen, control.spin, &self.stop, &self.services.events)?;
            for listener in control.listeners.clone() {
                Self::prepare(control, &listener)?;
            }
            for Waiting { listener, socket } in std::mem::take(&mut control.waiting) {
                core.serve(&listener, socket)?;
            }
            self.ended.all.store(control.workers, Ordering::Relaxed);
            // Only set here, under the lock of `control`.
            let _ = self.core.set(core);
        }
        self.core.get().ok_or(Error::State("the engine has no workers"))
    }

    /// Gives a listener what it needs for each worker.
    pub(super) fn prepare(control: &mut Control, listener: &Listener) -> Result<()> {
        let chain = listener.chain();
        let generations = if !Arc::ptr_eq(&chain, &control.chain) {
            chain.generations(control.workers)?
        } else {
            if control.engine_chain.is_empty() {
                control.engine_chain = chain.generations(control.workers)?;
            }
            control.engine_chain.clone()
        };
        listener.prepare(control.workers, generations);
        Ok(())
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("urls", &self.urls()).finish_non_exhaustive()
    }
}
