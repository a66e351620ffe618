//! What an engine consists of: what its owner changes, and the workers, once there are some.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use super::backend::{Backend, Chosen};
use super::carried_over::{CarriedOver, LeftListener};
use super::inherited_fds::InheritedFds;
use super::taken::Runner;
use super::threads::{Ended, Gate};
use super::watchdog::Watchdog;
use crate::chain::{Chain, Generation};
use crate::connection::MakeAround;
use crate::driver::hybrid::Hybrid;
use crate::error::{Error, Result};
use crate::event::{EventKind, LogLevel};
use crate::limits::WATCHDOG_DEFAULT;
use crate::listener::Listener;
use crate::lock::lock;
use crate::net::socket;
use crate::offload::Offload;
use crate::options::Options;
use crate::stats::ClosedListeners;
use crate::sys::{Thread, ThreadSettings};
use crate::tap::Taps;
use crate::transform::library::Services;
use crate::transform::registry::Registry;
use crate::worker::{Command, Directory, Mailbox, Pulse, Shared, Worker};

/// Sockets, workers and chains. May be used from any thread; dropping it stops it.
pub struct Engine {
    pub(super) control: Mutex<Control>,
    /// Apart from `control`, and never held while a transform is created: a slow one keeps nobody else waiting.
    pub(super) registry: Mutex<Registry>,
    /// The workers, from the first call on that needs them.
    pub(super) core: OnceLock<Core>,
    pub(super) stop: Arc<AtomicBool>,
    /// Nothing new begins any more.
    pub(super) is_draining: AtomicBool,
    pub(super) services: Services,
    pub(super) taps: Arc<Taps>,
    pub(super) ended: Arc<Ended>,
    /// One at a time closes listeners, or lets them refuse.
    pub(super) accepting: Mutex<()>,
    /// One at a time waits for threads that are about to be gone.
    pub(super) joining: Mutex<()>,
    /// The host has asked for the numbers of connections before there were any: they are entered from the first one on.
    pub(super) is_indexed_early: AtomicBool,
    /// Who looks for what does not come back, once there are workers.
    pub(super) watchdog: Mutex<Option<Watchdog>>,
}

/// Everything that runs.
pub(super) struct Core {
    pub(super) workers: Vec<Arc<Mutex<Worker<Hybrid>>>>,
    pub(super) shared: Arc<Shared<OwnedFd>>,
    pub(super) backend: Backend,
    /// Why it is that one.
    pub(super) reason: String,
    /// What each worker's driver has open.
    pub(super) inherited_fds: Vec<InheritedFds>,
    /// The workers have threads of the engine's own.
    pub(super) has_own_threads: bool,
    /// For each worker, what threads of the host's do with it.
    pub(super) runners: Vec<Runner>,
}

impl Core {
    fn new(engine: &Engine, control: &Control, chosen: Chosen, has_own_threads: bool) -> Core {
        let Chosen { backend, reason, drivers } = chosen;
        let count = drivers.len();
        let mut mailboxes = Vec::with_capacity(count);
        let mut hybrids = Vec::with_capacity(count);
        for (hybrid, waker) in drivers {
            mailboxes.push(Mailbox::new(Box::new(move || waker.wake())));
            hybrids.push(hybrid);
        }
        let inherited_fds = hybrids.iter().map(InheritedFds::of).collect();
        let shared = Arc::new(Shared {
            events: Arc::clone(&engine.services.events),
            taps: Arc::clone(&engine.taps),
            mailboxes,
            pulses: (0..count).map(|_| Arc::<Pulse>::default()).collect(),
            stuck: 0.into(),
            offload: Offload::new(Arc::clone(&control.thread_settings), {
                let ended = Arc::clone(&engine.ended);
                move || ended.poison()
            }),
            tickets: Arc::default(),
            spin: control.spin,
            stop: Arc::clone(&engine.stop),
            chain_epoch: AtomicUsize::new(0),
            directory: Directory::new(engine.is_indexed_early.load(Ordering::Acquire)),
            own: Arc::default(),
        });
        let shared_by_workers = Arc::downgrade(&shared);
        engine.taps.set_notify(move || {
            if let Some(shared) = shared_by_workers.upgrade() {
                shared.announce_change();
            }
        });
        let workers = hybrids
            .into_iter()
            .enumerate()
            .map(|(index, driver)| Arc::new(Mutex::new(Worker::new(index, driver, Arc::clone(&shared)))))
            .collect();
        let runners = (0..count).map(|_| Runner::default()).collect();
        Core { workers, shared, backend, reason, inherited_fds, has_own_threads, runners }
    }

    /// Hands a listener's socket to the worker whose turn it is; of datagram sockets, each worker gets one.
    pub(super) fn serve(&self, listener: &Arc<Listener>, socket: OwnedFd) -> Result<()> {
        let count = self.workers.len();
        let mut sockets = listener.take_more();
        if sockets.len() >= count {
            return Err(Error::State("more sockets of one address were handed over than there are threads"));
        }
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
        let first = listener.ordinal;
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
    /// What a process before this one has done, whose sockets the engine goes on with.
    pub(super) carried_over: CarriedOver,
    /// What was left to a process that goes on with its sockets.
    pub(super) left: Vec<LeftListener>,
    /// Listeners whose sockets wait for there to be workers.
    pub(super) waiting: Vec<Waiting>,
    pub(super) listeners_made: usize,
    /// How many workers there are, or will be.
    pub(super) workers: usize,
    /// What was asked for.
    pub(super) backend: Backend,
    pub(super) spin: Duration,
    /// How long something may take before it is named; zero: as long as it likes. `None`: the default, on the engine's own
    /// threads only.
    pub(super) watchdog: Option<Duration>,
    pub(super) threads: Vec<Thread<()>>,
    pub(super) thread_settings: Arc<ThreadSettings>,
    /// What stands before and around streams.
    pub(super) around: Option<MakeAround>,
}

pub(super) struct Waiting {
    pub(super) listener: Arc<Listener>,
    pub(super) socket: OwnedFd,
}

impl Engine {
    /// The workers, made now if there are none yet, for threads that are lent.
    pub(super) fn core(&self, control: &mut Control) -> Result<&Core> {
        match self.core.get() {
            Some(core) => Ok(core),
            None => self.begin(control, false, |_| Ok(Gate::default())),
        }
    }

    /// Makes the workers, and the threads that `start` gives them: all of it, or nothing has changed.
    ///
    /// What may fail comes first. Only then are sockets handed over, of which copies are kept until the last one is watched.
    pub(super) fn begin(
        &self,
        control: &mut Control,
        own_threads: bool,
        start: impl FnOnce(&Core) -> Result<Gate>,
    ) -> Result<&Core> {
        let settings = Arc::clone(&control.thread_settings);
        let chosen = settings.with(|| control.backend.open(control.workers, own_threads))?;
        let core = Core::new(self, control, chosen, own_threads);
        let gate = start(&core)?;
        let text = format_args!("backend {}: {}", core.backend, core.reason);
        self.services.events.emit_about(LogLevel::Info, EventKind::Engine, &(), text);
        if let Err(error) = control.hand_over(&core) {
            control.take_back();
            return Err(error);
        }
        control.waiting.clear();
        self.ended.all.store(control.workers, Ordering::Relaxed);
        // Only set here, under the lock of `control`.
        let _ = self.core.set(core);
        let core = self.core.get().ok_or(Error::State("the engine has no workers"))?;
        let patience = control.watchdog.or(own_threads.then_some(WATCHDOG_DEFAULT));
        if let Some(patience) = patience.filter(|patience| !patience.is_zero()) {
            *lock(&self.watchdog) = Watchdog::start(&core.shared, &control.thread_settings, patience);
        }
        control.threads = gate.open();
        Ok(core)
    }
}

impl Control {
    /// Hands all listeners to new workers, which watch them when this returns. The sockets stay here too.
    fn hand_over(&mut self, core: &Core) -> Result<()> {
        for listener in self.listeners.clone() {
            self.prepare(&listener)?;
        }
        for waiting in &mut self.waiting {
            let kept = waiting.socket.try_clone().map_err(Error::system("duplicate a listening socket"))?;
            // The original goes: its number is known elsewhere.
            core.serve(&waiting.listener, std::mem::replace(&mut waiting.socket, kept))?;
        }
        for worker in &core.workers {
            lock(worker).open_listeners().map_err(Error::system("watch a listening socket"))?;
        }
        Ok(())
    }

    /// The workers to which the listeners were handed are not to be, after all.
    fn take_back(&mut self) {
        self.engine_chain.clear();
        self.listeners.iter().for_each(|listener| listener.unprepare());
    }

    /// Gives a listener what it needs for each worker.
    pub(super) fn prepare(&mut self, listener: &Listener) -> Result<()> {
        let chain = listener.chain();
        let generations = if !Arc::ptr_eq(&chain, &self.chain) {
            chain.generations(self.workers)?
        } else {
            if self.engine_chain.is_empty() {
                self.engine_chain = chain.generations(self.workers)?;
            }
            self.engine_chain.clone()
        };
        listener.prepare(self.workers, generations);
        Ok(())
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("urls", &self.urls()).finish_non_exhaustive()
    }
}
