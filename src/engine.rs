//! The engine: configure, start, swap, drain, stop. It owns the workers and whatever threads run them.

mod after_fork;
mod backend;
mod builder;
mod observing;
mod settings;
mod threads;
mod transforms;

pub use backend::Backend;
use backend::Chosen;
pub use builder::Builder;
use threads::{Ended, join_all, run_worker};

use std::fmt;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::chain::{Chain, Generation};
use crate::connection::MakeAround;
use crate::driver::Driver;
use crate::driver::hybrid::Hybrid;
use crate::error::{Error, Result, SpecError};
use crate::event::{EventKind, Events, LogLevel, Subject};
use crate::limits::{SPIN_MAX, THREADS_MAX};
use crate::listener::Listener;
use crate::lock::lock;
use crate::net::address::{Address, Listen};
use crate::net::socket::{self, Bound};
use crate::offload::Offload;
use crate::options::Options;
use crate::peer::SocketKind;
use crate::stats::{ClosedListeners, Stats};
use crate::transform::library::{Services, Table};
use crate::transform::registry::{Registry, TransformOrigin};
use crate::transform::spec::ChainSpec;
use crate::worker::{Command, ConnectionInfo, Mailbox, Shared, Worker};

/// Names a listener of one engine. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ListenerId(u64);

impl ListenerId {
    /// The name as a number, for languages that have no types for names. Never 0.
    pub fn number(self) -> u64 {
        self.0
    }

    /// The name with that number; it need not name anything.
    pub fn from_number(number: u64) -> ListenerId {
        ListenerId(number)
    }
}

/// A listener as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerInfo {
    /// Its name.
    pub id: ListenerId,
    /// Where it listens, with the real port.
    pub url: String,
    /// The kind of its socket.
    pub kind: SocketKind,
    /// Its chain, canonical; empty for the plain echo.
    pub chain: String,
    /// Options as the operating system reports them (`getsockopt`): what it made of what was asked for. Linux
    /// doubles buffer sizes, for example (socket(7)).
    pub effective: Vec<(String, String)>,
}

impl ListenerInfo {
    /// The port, where the socket has one.
    pub fn port(&self) -> Option<u16> {
        match Address::parse(&self.url) {
            Ok((Address::Tcp(endpoint) | Address::Udp(endpoint), _)) => Some(endpoint.port),
            _ => None,
        }
    }
}

/// Sockets, workers and chains. May be used from any thread; dropping it stops it.
pub struct Engine {
    control: Mutex<Control>,
    /// Apart from `control`, and never held while a transform is created: a slow one keeps nobody else waiting.
    registry: Mutex<Registry>,
    /// The workers, from the first call on that needs them.
    core: OnceLock<Core>,
    stop: Arc<AtomicBool>,
    services: Services,
    ended: Arc<Ended>,
}

/// Everything that runs.
struct Core {
    workers: Vec<Arc<Mutex<Worker<Hybrid>>>>,
    shared: Arc<Shared<OwnedFd>>,
    backend: Backend,
    /// What each worker's driver has open.
    inherited_fds: Vec<after_fork::InheritedFds>,
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
        let inherited_fds = hybrids.iter().map(after_fork::InheritedFds::of).collect();
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
    fn serve(&self, listener: &Arc<Listener>, socket: OwnedFd) -> Result<()> {
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
struct Control {
    defaults: Options,
    /// The chain of all listeners that have none of their own.
    chain: Arc<Chain>,
    /// Its generations, a worker each, once there are workers.
    engine_chain: Vec<Arc<Generation>>,
    listeners: Vec<Arc<Listener>>,
    closed: ClosedListeners,
    /// Listeners whose sockets wait for there to be workers.
    waiting: Vec<Waiting>,
    last_listener: u64,
    /// How many workers there are, or will be.
    workers: usize,
    /// What was asked for.
    backend: Backend,
    spin: Duration,
    threads: Vec<JoinHandle<()>>,
    /// What stands before and around streams.
    around: Option<MakeAround>,
}

struct Waiting {
    listener: Arc<Listener>,
    socket: OwnedFd,
}

impl Engine {
    /// Begins the description of an engine.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Sets an option for the listeners that are added from now on.
    pub fn set(&self, key: &str, value: &str) -> Result<()> {
        lock(&self.control).defaults.set_pair(&format!("{key}={value}"))?;
        Ok(())
    }

    /// Adds a listener, also while running, and answers its name.
    pub fn listen(&self, url: &str) -> Result<ListenerId> {
        let listen = Listen::parse(url, &lock(&self.control).defaults)?;
        let opened = self.open(&[listen])?;
        opened.first().copied().ok_or(Error::State("the URL names no socket"))
    }

    /// Adds a listener on a socket that the caller opened: listening, or bound for datagrams. `options` are
    /// `key=value` pairs as in a URL's query.
    pub fn listen_socket(&self, socket: OwnedFd, options: &str) -> Result<ListenerId> {
        let mut parsed = lock(&self.control).defaults.clone();
        for pair in options.split('&').filter(|pair| !pair.is_empty()) {
            parsed.set_pair(pair)?;
        }
        let own = self.own_chain(&parsed)?;
        let bound = socket::adopt(socket, &parsed)?;
        let mut control = lock(&self.control);
        self.serve(&mut control, vec![(bound, own)])?
            .first()
            .copied()
            .ok_or(Error::State("the descriptor is no socket"))
    }

    fn open(&self, listens: &[Listen]) -> Result<Vec<ListenerId>> {
        // Everything that can be wrong without a socket is found before one is bound.
        let mut chains = Vec::with_capacity(listens.len());
        for listen in listens {
            chains.push(self.own_chain(&listen.options)?);
        }
        let mut opened = Vec::with_capacity(listens.len());
        for (listen, own) in listens.iter().zip(chains) {
            for bound in socket::bind(listen)? {
                opened.push((bound, own.clone()));
            }
        }
        let mut control = lock(&self.control);
        self.serve(&mut control, opened)
    }

    /// The chain that a listener has for itself.
    fn own_chain(&self, options: &Options) -> Result<Option<Arc<Chain>>> {
        options.chain.as_ref().map(|text| self.create_chain(&ChainSpec::parse(text)?)).transpose()
    }

    fn create_chain(&self, spec: &ChainSpec) -> Result<Arc<Chain>> {
        let tables = {
            let mut registry = lock(&self.registry);
            spec.stages.iter().map(|stage| registry.find(&stage.target)).collect::<Result<Vec<_>>>()?
        };
        Chain::create(spec, &tables, &self.services).map(Arc::new)
    }

    /// The generations of a chain for the workers that there are; none, while there are none.
    fn generations_of(&self, chain: &Chain) -> Result<Vec<Arc<Generation>>> {
        self.core.get().map_or(Ok(Vec::new()), |core| chain.generations(core.workers.len()))
    }

    /// Hands bound sockets to workers, or keeps them until there are some: all of them, or none.
    fn serve(
        &self,
        control: &mut Control,
        opened: Vec<(Bound, Option<Arc<Chain>>)>,
    ) -> Result<Vec<ListenerId>> {
        let mut ready = Vec::with_capacity(opened.len());
        for (mut bound, own) in opened {
            let chain = own.as_ref().unwrap_or(&control.chain);
            let effective = socket::effective(bound.socket.as_fd(), bound.kind, &bound.options);
            control.last_listener += 1;
            let around = control.around.clone();
            let listener =
                Listener::new(control.last_listener, &mut bound, effective, Arc::clone(chain), around)?;
            check_needs(&listener, chain)?;
            ready.push(Waiting { listener: Arc::new(listener), socket: bound.socket });
        }
        let ids = ready.iter().map(|waiting| ListenerId(waiting.listener.id)).collect();
        let Some(core) = self.core.get() else {
            control.listeners.extend(ready.iter().map(|waiting| Arc::clone(&waiting.listener)));
            control.waiting.extend(ready);
            return Ok(ids);
        };
        for Waiting { listener, .. } in &ready {
            Self::prepare(control, listener)?;
        }
        for Waiting { listener, socket } in ready {
            core.serve(&listener, socket)?;
            control.listeners.push(listener);
        }
        Ok(ids)
    }

    /// Gives a listener what it needs for each worker.
    fn prepare(control: &mut Control, listener: &Listener) -> Result<()> {
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

    /// The workers, made now if there are none yet.
    fn core(&self, control: &mut Control, own_threads: bool) -> Result<&Core> {
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

    /// The listeners, in the order in which they were added.
    pub fn listeners(&self) -> Vec<ListenerInfo> {
        lock(&self.control).listeners.iter().map(|listener| info_of(listener)).collect()
    }

    /// One listener.
    pub fn listener(&self, id: ListenerId) -> Result<ListenerInfo> {
        self.find(id).map(|listener| info_of(&listener))
    }

    /// The URLs of the listeners, with real ports.
    pub fn urls(&self) -> Vec<String> {
        lock(&self.control).listeners.iter().map(|listener| listener.url.clone()).collect()
    }

    fn find(&self, id: ListenerId) -> Result<Arc<Listener>> {
        let control = lock(&self.control);
        control
            .listeners
            .iter()
            .find(|listener| listener.id == id.0)
            .cloned()
            .ok_or(Error::Handle("listener"))
    }

    /// Closes a listener, once what already waits to be accepted has been. Its connections go on.
    pub fn close_listener(&self, id: ListenerId) -> Result<()> {
        let mut control = lock(&self.control);
        let place = control
            .listeners
            .iter()
            .position(|listener| listener.id == id.0)
            .ok_or(Error::Handle("listener"))?;
        let listener = control.listeners.remove(place);
        control.closed.add(listener.blocks());
        control.waiting.retain(|waiting| waiting.listener.id != id.0);
        for mailbox in self.core.get().map(|core| &core.shared.mailboxes).into_iter().flatten() {
            // A worker that has ended has no listener any more.
            let _ = mailbox.push(Command::CloseListener { id: id.0 });
        }
        Ok(())
    }

    /// Changes the engine's chain, also while it runs, for every listener that has no chain of its own. Messages
    /// that come after this returns may still go through the old chain until each worker's next turn; no message
    /// goes through both.
    pub fn set_chain(&self, spec: &str) -> Result<()> {
        let spec = ChainSpec::parse(spec)?;
        let chain = self.create_chain(&spec)?;
        let mut generations = self.generations_of(&chain)?;
        let mut control = lock(&self.control);
        if generations.is_empty() {
            // Workers may have been made since.
            generations = self.generations_of(&chain)?;
        }
        let uses_it = |listener: &&Arc<Listener>| Arc::ptr_eq(&listener.chain(), &control.chain);
        let affected: Vec<_> = control.listeners.iter().filter(uses_it).cloned().collect();
        affected.iter().try_for_each(|listener| check_needs(listener, &chain))?;
        let old: Vec<_> = affected
            .iter()
            .map(|listener| listener.set_chain(Arc::clone(&chain), generations.clone()))
            .collect();
        let old_chain = std::mem::replace(&mut control.chain, chain);
        let old_generations = std::mem::replace(&mut control.engine_chain, generations);
        self.announce_swap(&spec, &());
        drop(control);
        // Destroying what nobody uses any more takes as long as its plugins do.
        drop((old, old_chain, old_generations));
        Ok(())
    }

    /// Changes the chain of one listener, also while it runs. From then on it has a chain of its own.
    pub fn set_chain_of(&self, id: ListenerId, spec: &str) -> Result<()> {
        let spec = ChainSpec::parse(spec)?;
        self.find(id)?;
        let chain = self.create_chain(&spec)?;
        let mut generations = self.generations_of(&chain)?;
        let control = lock(&self.control);
        if generations.is_empty() {
            generations = self.generations_of(&chain)?;
        }
        // It may have been closed meanwhile.
        let listener = find_listener(&control, id)?;
        check_needs(&listener, &chain)?;
        let old = listener.set_chain(chain, generations);
        self.announce_swap(&spec, &*listener);
        drop(control);
        drop(old);
        Ok(())
    }

    /// The engine's chain, canonical: that of every listener that has none of its own.
    pub fn chain(&self) -> String {
        lock(&self.control).chain.spec().to_owned()
    }

    fn announce_swap(&self, spec: &ChainSpec, about: &impl Subject) {
        if let Some(core) = self.core.get() {
            core.shared.chain_epoch.fetch_add(1, Ordering::Release);
            core.shared.mailboxes.iter().for_each(Mailbox::wake);
        }
        let text = format_args!("chain {:?}", spec.to_string());
        self.services.events.emit_about(LogLevel::Info, EventKind::ChainChanged, about, text);
    }

    /// What all listeners have done, closed ones too: the figures never run backwards, `open` aside.
    pub fn stats(&self) -> Stats {
        let mut control = lock(&self.control);
        let mut sum = control.closed.stats();
        for listener in &control.listeners {
            sum.add(&listener.stats());
        }
        sum
    }

    /// What one listener has done.
    pub fn listener_stats(&self, id: ListenerId) -> Result<Stats> {
        self.find(id).map(|listener| listener.stats())
    }

    /// The connections that are open now, in the order in which they came. Workers that have no answer within
    /// `patience` are left out: one on a lent thread answers when it next has a turn.
    pub fn connections(&self, patience: Duration) -> Vec<ConnectionInfo> {
        let (to, found) = mpsc::channel();
        for mailbox in self.core.get().map(|core| &core.shared.mailboxes).into_iter().flatten() {
            // A worker that has ended has no connections.
            let _ = mailbox.push(Command::List { to: to.clone() });
        }
        drop(to);
        let until = Instant::now() + patience;
        let mut connections = Vec::new();
        while let Ok(info) = found.recv_timeout(until.saturating_duration_since(Instant::now())) {
            connections.push(info);
        }
        connections.sort_by_key(|info| info.id);
        connections
    }

    /// The counters that transforms keep, as `transform.counter`.
    pub fn transform_counters(&self) -> Vec<(String, u64)> {
        self.services.counters.read()
    }

    /// Serves on threads of the engine's own, one a worker, with all signals blocked in them. When this returns,
    /// every socket answers.
    pub fn start(&self) -> Result<()> {
        let mut control = lock(&self.control);
        self.start_threads(&mut control)
    }

    /// The same with another number of workers than the builder was told.
    pub fn start_with(&self, threads: usize) -> Result<()> {
        check_threads(threads)?;
        let mut control = lock(&self.control);
        if self.core.get().is_some() {
            return Err(Error::State("the engine is already started"));
        }
        control.workers = threads;
        self.start_threads(&mut control)
    }

    fn start_threads(&self, control: &mut Control) -> Result<()> {
        if self.core.get().is_some() {
            return Err(Error::State("the engine is already started"));
        }
        let core = self.core(control, true)?;
        for worker in &core.workers {
            lock(worker).open_listeners().map_err(Error::system("watch a listening socket"))?;
        }
        for (index, worker) in core.workers.iter().enumerate() {
            let (worker, ended) = (Arc::clone(worker), Arc::clone(&self.ended));
            let events = Arc::clone(&self.services.events);
            let spawned = thread::Builder::new()
                .name(format!("resay-{index}"))
                .spawn(move || run_worker(index, &worker, &events, &ended));
            match spawned {
                Ok(thread) => control.threads.push(thread),
                Err(error) => {
                    self.stop();
                    join_all(&mut control.threads);
                    return Err(Error::system(format!("start thread {index}"))(error));
                }
            }
        }
        Ok(())
    }

    /// Whether a fault of Resay itself has ended one of the workers. What was with it is lost; the engine should go.
    pub fn is_poisoned(&self) -> bool {
        self.ended.is_poisoned.load(Ordering::Relaxed)
    }

    /// Which kernel interface is in use, once the engine serves; before that, what was asked for.
    pub fn backend(&self) -> Backend {
        self.core.get().map_or_else(|| lock(&self.control).backend, |core| core.backend)
    }

    /// Serves on the calling thread: one turn at least, then until `timeout` has passed (`None`: until the engine
    /// has ended). Several threads may be lent at once, as many as there are workers. Whether the engine is alive.
    ///
    /// Fails with `Interrupted` when a signal came, so that the host can look after it.
    pub fn run(&self, timeout: Option<Duration>) -> Result<bool> {
        let mut control = lock(&self.control);
        if !control.threads.is_empty() {
            return Err(Error::State("the engine runs on its own threads"));
        }
        let core = self.core(&mut control, false)?;
        drop(control);
        let mut worker =
            core.workers.iter().find_map(free).ok_or(Error::State("every worker already has a thread"))?;
        let until = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let was_alive = worker.is_alive();
            let alive = worker.turn(left).map_err(Error::system("wait for events"))?;
            if !alive {
                if was_alive {
                    self.ended.count();
                }
                self.end_offload();
                return Ok(false);
            }
            if left == Some(Duration::ZERO) {
                return Ok(true);
            }
        }
    }

    /// A descriptor for the host's own event loop: readable when [`run`](Engine::run) would find something to
    /// do. It belongs to the engine. Only for engines with one worker.
    pub fn poll_fd(&self) -> Result<RawFd> {
        let mut control = lock(&self.control);
        if !control.threads.is_empty() {
            return Err(Error::State("the engine runs on its own threads"));
        }
        let core = self.core(&mut control, false)?;
        match core.workers.as_slice() {
            [worker] => match free(worker) {
                Some(worker) => Ok(worker.driver().poll_fd()),
                None => Err(Error::State("the worker already has a thread")),
            },
            _ => Err(Error::State("an engine with several workers has no single descriptor")),
        }
    }

    /// How long the host's event loop may wait before it calls [`run`](Engine::run) even though the
    /// descriptor is not readable; `None`: as long as it likes.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let worker = free(self.core.get()?.workers.first()?)?;
        if worker.driver().has_leftovers() {
            Some(Duration::ZERO)
        } else {
            worker.until_deadline_from(worker.driver().read_clock())
        }
    }

    /// Ends everything at once: connections are closed, what they had not been sent is counted. Returns
    /// immediately; [`join`](Engine::join) waits. May be called from a signal handler.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        if let Some(core) = self.core.get() {
            core.shared.mailboxes.iter().for_each(Mailbox::wake);
        }
    }

    /// Stops listening, answers everything that has arrived, ends every connection and waits for that, at most
    /// `within`: what is not done by then is cut off and counted. On an engine that runs on lent threads it only
    /// begins the draining; the host goes on calling [`run`](Engine::run).
    pub fn drain(&self, within: Duration) -> Result<()> {
        let Some(core) = self.core.get() else {
            // Nothing has been served, so there is nothing to answer.
            self.stop();
            return Ok(());
        };
        for mailbox in &core.shared.mailboxes {
            // A worker that has ended has nothing to drain.
            let _ = mailbox.push(Command::Drain { within });
        }
        if lock(&self.control).threads.is_empty() {
            return Ok(());
        }
        // The workers keep the deadline themselves; the grace is for their last turn.
        self.join(within + Duration::from_secs(1))
    }

    /// Waits until every worker has ended.
    pub fn join(&self, within: Duration) -> Result<()> {
        let all = self.core.get().map_or(0, |core| core.workers.len());
        let ended = lock(&self.ended.workers);
        let (ended, _) = self
            .ended
            .changed
            .wait_timeout_while(ended, within, |ended| *ended < all)
            .unwrap_or_else(PoisonError::into_inner);
        if *ended < all {
            return Err(Error::Timeout { what: "join the workers", limit: within });
        }
        drop(ended);
        self.join_threads();
        self.end_offload();
        Ok(())
    }

    /// Waits a little for what is still with transforms that may block, and for what is being destroyed.
    fn end_offload(&self) {
        if let Some(core) = self.core.get() {
            core.shared.offload.end();
        }
    }

    fn join_threads(&self) {
        let mut threads = std::mem::take(&mut lock(&self.control).threads);
        join_all(&mut threads);
    }
}

/// The worker, if no thread has it.
fn free(worker: &Arc<Mutex<Worker<Hybrid>>>) -> Option<MutexGuard<'_, Worker<Hybrid>>> {
    match worker.try_lock() {
        Ok(worker) => Some(worker),
        Err(TryLockError::Poisoned(worker)) => Some(worker.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
        self.join_threads();
        self.end_offload();
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("urls", &self.urls()).finish_non_exhaustive()
    }
}

fn find_listener(control: &Control, id: ListenerId) -> Result<Arc<Listener>> {
    let mut listeners = control.listeners.iter();
    listeners.find(|listener| listener.id == id.0).cloned().ok_or(Error::Handle("listener"))
}

fn info_of(listener: &Listener) -> ListenerInfo {
    ListenerInfo {
        id: ListenerId(listener.id),
        url: listener.url.clone(),
        kind: listener.kind,
        chain: listener.chain().spec().to_owned(),
        effective: listener.effective.clone(),
    }
}

/// Refuses transforms that need whole messages on a raw stream.
fn check_needs(listener: &Listener, chain: &Chain) -> Result<()> {
    let raw =
        listener.kind.is_connected() && !listener.limits.records && !listener.limits.framer.has_messages();
    match chain.needs_messages() {
        Some(id) if raw => Err(Error::Transform {
            id: id.to_owned(),
            reason: "needs whole messages; a raw stream has none (set frame, for example frame=lines)".into(),
        }),
        _ => Ok(()),
    }
}

fn check_spin(window: Duration) -> Result<()> {
    if window > SPIN_MAX {
        return Err(Error::State("spin is at most 1 s"));
    }
    Ok(())
}

fn check_threads(threads: usize) -> Result<()> {
    if (1..=THREADS_MAX).contains(&threads) {
        return Ok(());
    }
    let range = format!("must be 1 to {THREADS_MAX}");
    Err(SpecError::new("threads", &threads.to_string(), 0, range).into())
}

/// A transform that a chain can name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransformInfo {
    /// The name.
    pub id: String,
    /// Its version.
    pub version: String,
    /// One line about it.
    pub summary: String,
    /// Where it comes from.
    pub origin: TransformOrigin,
    /// Its options.
    pub options: Vec<crate::transform::library::OptionHelp<'static>>,
}

/// Every transform that a bare name reaches, given these plugin directories before the usual ones; beside
/// them, why a file in one of the directories is none.
pub fn transforms(directories: &[PathBuf]) -> (Vec<TransformInfo>, Vec<Error>) {
    let (found, errors) = Registry::new(directories.to_vec()).list();
    (found.iter().map(|(table, origin)| describe(table, origin.clone())).collect(), errors)
}

fn describe(table: &Table, origin: TransformOrigin) -> TransformInfo {
    TransformInfo {
        id: table.id().to_owned(),
        version: table.version().to_owned(),
        summary: table.summary().to_owned(),
        origin,
        options: table.options(),
    }
}
