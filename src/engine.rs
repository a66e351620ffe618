//! The engine: configure, start, swap, drain, stop. It owns the workers and whatever threads run them.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::chain::Generation;
use crate::driver::ready::Ready;
use crate::error::{Error, Result, SpecError};
use crate::event::{Event, Events, Kind, Level};
use crate::frame::Framer;
use crate::limits::THREADS_MAX;
use crate::listener::Listener;
use crate::net::SocketKind;
use crate::net::address::Listen;
use crate::net::socket::{self, Bound};
use crate::options::Options;
use crate::stats::Stats;
use crate::sys;
use crate::transform::library::{Counters, Instance, Services, Table};
use crate::transform::registry::{Origin, Registry};
use crate::transform::spec::ChainSpec;
use crate::worker::{Command, Mailbox, Shared, Worker};

/// Which kernel interface moves the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Backend {
    /// Whatever this build and this kernel do best.
    #[default]
    Auto,
    /// Readiness: epoll, or kqueue where that is what the system has.
    Epoll,
}

impl FromStr for Backend {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Backend, SpecError> {
        match text {
            "auto" => Ok(Backend::Auto),
            "epoll" => Ok(Backend::Epoll),
            "uring" => Err(SpecError::new(
                "backend",
                text,
                0,
                "this version has no io_uring driver; use auto or epoll",
            )),
            _ => Err(SpecError::new("backend", text, 0, "unknown; there are auto and epoll")),
        }
    }
}

/// Collects what an engine is to be. Nothing is bound before [`build`](Builder::build).
pub struct Builder {
    defaults: Options,
    urls: Vec<String>,
    chain: ChainSpec,
    threads: usize,
    plugin_directories: Vec<PathBuf>,
    events: Events,
    registered: Vec<Table>,
}

impl Builder {
    fn new() -> Builder {
        Builder {
            defaults: Options::default(),
            urls: Vec::new(),
            chain: ChainSpec::default(),
            threads: 1,
            plugin_directories: Vec::new(),
            events: Events::default(),
            registered: Vec::new(),
        }
    }

    /// Adds a listener: an address URL with options (see [`crate::net::address`]). It is read now and bound later.
    pub fn listen(mut self, url: &str) -> Result<Builder> {
        Listen::parse(url, &self.defaults)?;
        self.urls.push(url.to_owned());
        Ok(self)
    }

    /// Sets an option for all listeners that do not say otherwise, whether they were added before or after.
    pub fn set(mut self, key: &str, value: &str) -> Result<Builder> {
        self.defaults.set_pair(&format!("{key}={value}"))?;
        Ok(self)
    }

    /// The chain of all listeners that have none of their own (see [`crate::transform::spec`]).
    pub fn chain(mut self, spec: &str) -> Result<Builder> {
        self.chain = ChainSpec::parse(spec)?;
        Ok(self)
    }

    /// How many workers share the connections: threads of the engine's own, or threads lent by the host. 1 to 256.
    pub fn threads(mut self, threads: usize) -> Result<Builder> {
        if !(1..=THREADS_MAX).contains(&threads) {
            let text = threads.to_string();
            let range = format!("must be 1 to {THREADS_MAX}");
            return Err(SpecError::new("threads", &text, 0, range).into());
        }
        self.threads = threads;
        Ok(self)
    }

    /// Which kernel interface to use.
    pub fn backend(self, backend: Backend) -> Builder {
        // There is one driver so far; naming it is no mistake.
        match backend {
            Backend::Auto | Backend::Epoll => self,
        }
    }

    /// A directory in which bare names of transforms are looked up, before `RESAY_PLUGIN_PATH`.
    pub fn plugin_dir(mut self, directory: impl AsRef<Path>) -> Builder {
        self.plugin_directories.push(directory.as_ref().to_owned());
        self
    }

    /// Where events go, up to this level. `sink` is called on workers and must not block; it must not call
    /// the engine.
    pub fn on_event(mut self, level: Level, sink: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Builder {
        self.events = Events::new(level, Box::new(sink));
        self
    }

    /// Creates the transforms and binds the sockets: all of them, or none and an error. Nothing is served yet.
    pub fn build(self) -> Result<Engine> {
        let listens =
            self.urls.iter().map(|url| Listen::parse(url, &self.defaults)).collect::<Result<Vec<_>, _>>()?;
        let mut registry = Registry::new(self.plugin_directories);
        for table in self.registered {
            registry.register(table)?;
        }
        let mut mailboxes = Vec::with_capacity(self.threads);
        let mut drivers = Vec::with_capacity(self.threads);
        for _ in 0..self.threads {
            let (driver, waker) = Ready::new().map_err(Error::system("open an epoll instance"))?;
            // A failing wake means that the eventfd is gone, and with it the worker.
            mailboxes.push(Mailbox::new(Box::new(move || drop(waker.wake()))));
            drivers.push(driver);
        }
        let events = Arc::new(self.events);
        let shared = Arc::new(Shared {
            events: Arc::clone(&events),
            mailboxes,
            stop: AtomicBool::new(false),
            chain_epoch: AtomicUsize::new(0),
            last_connection: AtomicUsize::new(0),
        });
        let workers: Vec<_> = drivers
            .into_iter()
            .enumerate()
            .map(|(index, driver)| Arc::new(Mutex::new(Worker::new(index, driver, Arc::clone(&shared)))))
            .collect();
        let control = Control {
            registry,
            defaults: self.defaults,
            chain: self.chain,
            engine_chain: Vec::new(),
            listeners: Vec::new(),
            last_listener: 0,
            threads: Vec::new(),
            ran: false,
        };
        let services = Services { events, counters: Arc::new(Counters::new()) };
        let ended = Arc::new(Ended { workers: Mutex::new(0), changed: Condvar::new() });
        let engine = Engine { control: Mutex::new(control), workers, shared, services, ended };
        engine.open(&listens)?;
        Ok(engine)
    }

    /// [`build`](Builder::build) and [`Engine::start`].
    pub fn start(self) -> Result<Engine> {
        let engine = self.build()?;
        engine.start()?;
        Ok(engine)
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chain = self.chain.to_string();
        f.debug_struct("Builder").field("urls", &self.urls).field("chain", &chain).finish_non_exhaustive()
    }
}

/// Names a listener of one engine. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ListenerId(pub(crate) u64);

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

/// Sockets, workers and chains. May be used from any thread; dropping it stops it.
pub struct Engine {
    control: Mutex<Control>,
    workers: Vec<Arc<Mutex<Worker<Ready>>>>,
    shared: Arc<Shared<OwnedFd>>,
    services: Services,
    ended: Arc<Ended>,
}

/// What only the calls of the owner change.
#[derive(Debug)]
struct Control {
    registry: Registry,
    defaults: Options,
    chain: ChainSpec,
    /// The generations of `chain`, a worker each; made when the first listener needs them.
    engine_chain: Vec<Arc<Generation>>,
    listeners: Vec<Arc<Listener>>,
    last_listener: u64,
    threads: Vec<JoinHandle<()>>,
    /// Some worker has had a turn.
    ran: bool,
}

/// How many workers have ended.
#[derive(Debug)]
struct Ended {
    workers: Mutex<usize>,
    changed: Condvar,
}

impl Ended {
    fn count(&self) {
        *lock(&self.workers) += 1;
        self.changed.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Engine {
    /// Begins the description of an engine.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Adds a listener, also while running, and answers its name.
    pub fn listen(&self, url: &str) -> Result<ListenerId> {
        let listen = Listen::parse(url, &lock(&self.control).defaults)?;
        let opened = self.open(&[listen])?;
        opened.first().copied().ok_or(Error::State("the URL stands for no socket"))
    }

    /// Adds a listener on a socket that the caller opened: listening, or bound for datagrams. `options` are
    /// `key=value` pairs as in a URL's query.
    pub fn listen_socket(&self, socket: OwnedFd, options: &str) -> Result<ListenerId> {
        let mut parsed = lock(&self.control).defaults.clone();
        for pair in options.split('&').filter(|pair| !pair.is_empty()) {
            parsed.set_pair(pair)?;
        }
        let mut control = lock(&self.control);
        let chain = self.chain_for(&mut control, &parsed)?;
        let bound = socket::adopt(socket, &parsed)?;
        self.serve(&mut control, vec![(bound, chain)])?
            .first()
            .copied()
            .ok_or(Error::State("the descriptor stands for no socket"))
    }

    fn open(&self, listens: &[Listen]) -> Result<Vec<ListenerId>> {
        let mut control = lock(&self.control);
        // Everything that can be wrong without a socket is found before one is bound.
        let mut chains = Vec::with_capacity(listens.len());
        for listen in listens {
            Framer::new(&listen.options.frame, 0).map_err(|reason| {
                SpecError::new("option", &format!("frame={}", listen.options.frame), 6, reason)
            })?;
            chains.push(self.chain_for(&mut control, &listen.options)?);
        }
        let mut opened = Vec::with_capacity(listens.len());
        for (listen, chain) in listens.iter().zip(chains) {
            for bound in socket::bind(listen)? {
                opened.push((bound, chain.clone()));
            }
        }
        self.serve(&mut control, opened)
    }

    /// Hands bound sockets to workers: all of them, or none.
    fn serve(
        &self,
        control: &mut Control,
        opened: Vec<(Bound, Vec<Arc<Generation>>)>,
    ) -> Result<Vec<ListenerId>> {
        let mut ready = Vec::with_capacity(opened.len());
        for (mut bound, chain) in opened {
            check_needs(&bound, &chain)?;
            let effective = socket::effective(bound.socket.as_fd(), bound.kind, &bound.options);
            control.last_listener += 1;
            let listener =
                Listener::new(control.last_listener, &mut bound, effective, self.workers.len(), chain)?;
            ready.push((Arc::new(listener), bound.socket));
        }
        let mut ids = Vec::with_capacity(ready.len());
        for (listener, socket) in ready {
            ids.push(ListenerId(listener.id));
            let worker = (listener.id - 1) as usize % self.workers.len();
            let command = Command::Listen { listener: Arc::clone(&listener), socket };
            if self.shared.mailboxes[worker].push(command).is_err() {
                return Err(Error::State("the engine has stopped"));
            }
            control.listeners.push(listener);
        }
        Ok(ids)
    }

    /// The generations for a listener with these options: its own chain's, or the engine's.
    fn chain_for(&self, control: &mut Control, options: &Options) -> Result<Vec<Arc<Generation>>> {
        if let Some(own) = &options.chain {
            return self.generations_of(control, &ChainSpec::parse(own)?);
        }
        if control.engine_chain.is_empty() {
            let chain = control.chain.clone();
            control.engine_chain = self.generations_of(control, &chain)?;
        }
        Ok(control.engine_chain.clone())
    }

    /// Creates the transforms of a chain: one instance, or one for each worker where the transform asks for that.
    fn generations_of(&self, control: &mut Control, spec: &ChainSpec) -> Result<Vec<Arc<Generation>>> {
        let workers = self.workers.len();
        let mut instances: Vec<Vec<Arc<Instance>>> = vec![Vec::new(); workers];
        for stage in &spec.stages {
            let table = control.registry.find(&stage.target)?;
            let options: Vec<_> = stage.options.iter().map(|o| (o.key.clone(), o.value.clone())).collect();
            let create = || Instance::create(table.clone(), &options, &self.services).map(Arc::new);
            if table.is_per_worker() {
                for place in &mut instances {
                    place.push(create()?);
                }
            } else {
                let shared = create()?;
                instances.iter_mut().for_each(|place| place.push(Arc::clone(&shared)));
            }
        }
        instances.into_iter().map(|stages| Generation::new(spec.to_string(), stages).map(Arc::new)).collect()
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
        control.listeners.remove(place);
        for mailbox in &self.shared.mailboxes {
            // A worker that has ended has no listener any more.
            let _ = mailbox.push(Command::CloseListener { id: id.0 });
        }
        Ok(())
    }

    /// Changes the engine's chain while it runs, for every listener that has no chain of its own. Messages that
    /// are answered after this returns may still go through the old chain until each worker's next turn; no
    /// message goes through both.
    pub fn set_chain(&self, spec: &str) -> Result<()> {
        let spec = ChainSpec::parse(spec)?;
        let mut control = lock(&self.control);
        let chain = self.generations_of(&mut control, &spec)?;
        let affected: Vec<_> =
            control.listeners.iter().filter(|listener| listener.options.chain.is_none()).cloned().collect();
        for listener in &affected {
            check_listener_needs(listener, &chain)?;
        }
        let old: Vec<_> = affected.iter().map(|listener| listener.set_chain(chain.clone())).collect();
        control.engine_chain = chain;
        control.chain = spec;
        self.announce_swap(&control.chain.to_string(), "");
        drop(control);
        drop(old);
        Ok(())
    }

    /// Changes the chain of one listener while it runs.
    pub fn set_chain_of(&self, id: ListenerId, spec: &str) -> Result<()> {
        let spec = ChainSpec::parse(spec)?;
        let listener = self.find(id)?;
        let mut control = lock(&self.control);
        let chain = self.generations_of(&mut control, &spec)?;
        check_listener_needs(&listener, &chain)?;
        let old = listener.set_chain(chain);
        self.announce_swap(&spec.to_string(), &listener.url);
        drop(control);
        drop(old);
        Ok(())
    }

    fn announce_swap(&self, spec: &str, listener: &str) {
        self.shared.chain_epoch.fetch_add(1, Ordering::Release);
        self.shared.mailboxes.iter().for_each(Mailbox::wake);
        let text = format_args!("chain {:?}", spec);
        self.shared.events.say(Level::Info, Kind::ChainChanged, listener, text);
    }

    /// What all listeners have done, closed ones excluded.
    pub fn stats(&self) -> Stats {
        let mut sum = Stats::default();
        for listener in &lock(&self.control).listeners {
            sum.add(&listener.stats());
        }
        sum
    }

    /// What one listener has done.
    pub fn listener_stats(&self, id: ListenerId) -> Result<Stats> {
        self.find(id).map(|listener| listener.stats())
    }

    /// The counters that transforms keep, as `transform.counter`.
    pub fn transform_counters(&self) -> Vec<(String, u64)> {
        self.services.counters.read()
    }

    /// Serves on threads of the engine's own, one a worker, with all signals blocked in them. When this returns,
    /// every socket answers.
    pub fn start(&self) -> Result<()> {
        let mut control = lock(&self.control);
        if control.ran {
            return Err(Error::State("the engine has been started already"));
        }
        control.ran = true;
        for (index, worker) in self.workers.iter().enumerate() {
            let (worker, ended) = (Arc::clone(worker), Arc::clone(&self.ended));
            let events = Arc::clone(&self.shared.events);
            let spawned = thread::Builder::new().name(format!("resay-{index}")).spawn(move || {
                sys::block_signals();
                let mut worker = lock(&worker);
                loop {
                    match worker.turn(None) {
                        Ok(true) => {}
                        Ok(false) => break,
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => {
                            events.say(
                                Level::Error,
                                Kind::Engine,
                                "",
                                format_args!("worker {index}: {error}"),
                            );
                            break;
                        }
                    }
                }
                drop(worker);
                ended.count();
            });
            match spawned {
                Ok(thread) => control.threads.push(thread),
                Err(error) => {
                    drop(control);
                    self.stop();
                    self.join_threads();
                    return Err(Error::system(format!("start thread {index}"))(error));
                }
            }
        }
        Ok(())
    }

    /// Serves on the calling thread: one turn at least, then until `timeout` has passed (`None`: until the engine
    /// has ended). Several threads may be lent at once, as many as there are workers. Whether the engine is alive.
    ///
    /// Fails with `Interrupted` when a signal came, so that the host can look after it.
    pub fn run(&self, timeout: Option<Duration>) -> Result<bool> {
        let mut free = None;
        {
            let mut control = lock(&self.control);
            if !control.threads.is_empty() {
                return Err(Error::State("the engine runs on threads of its own"));
            }
            control.ran = true;
            for worker in &self.workers {
                match worker.try_lock() {
                    Ok(worker) => free = Some(worker),
                    Err(TryLockError::Poisoned(worker)) => free = Some(worker.into_inner()),
                    Err(TryLockError::WouldBlock) => continue,
                }
                break;
            }
        }
        let mut worker = free.ok_or(Error::State("every worker has a thread already"))?;
        let until = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let was_alive = worker.is_alive();
            let alive = worker.turn(left).map_err(Error::system("wait for events"))?;
            if !alive {
                if was_alive {
                    self.ended.count();
                }
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
        match self.workers.as_slice() {
            [worker] => match worker.try_lock() {
                Ok(worker) => Ok(worker.driver().poll_fd()),
                Err(_) => Err(Error::State("the worker has a thread")),
            },
            _ => Err(Error::State("an engine with several workers has no single descriptor")),
        }
    }

    /// How long the host's event loop may wait before it calls [`run`](Engine::run) even though the
    /// descriptor is not readable; `None`: as long as it likes.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let worker = self.workers.first()?.try_lock().ok()?;
        if worker.driver().has_leftovers() { Some(Duration::ZERO) } else { worker.until_deadline() }
    }

    /// Ends everything at once: connections are closed, what they had not been sent is counted. Returns
    /// immediately; [`join`](Engine::join) waits. May be called from a signal handler.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.mailboxes.iter().for_each(Mailbox::wake);
    }

    /// Stops listening, answers everything that has arrived, ends every connection and waits for that, at most
    /// `within`: what is not done by then is cut off and counted. On an engine that runs on lent threads it only
    /// begins the draining; the host goes on calling [`run`](Engine::run).
    pub fn drain(&self, within: Duration) -> Result<()> {
        for mailbox in &self.shared.mailboxes {
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
        let ended = lock(&self.ended.workers);
        let all = self.workers.len();
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
        Ok(())
    }

    fn join_threads(&self) {
        let threads = std::mem::take(&mut lock(&self.control).threads);
        for thread in threads {
            // A panic of a worker has been reported by the panic hook; there is nothing to add.
            let _ = thread.join();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
        self.join_threads();
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("urls", &self.urls()).finish_non_exhaustive()
    }
}

fn info_of(listener: &Listener) -> ListenerInfo {
    ListenerInfo {
        id: ListenerId(listener.id),
        url: listener.url.clone(),
        kind: listener.kind,
        chain: listener.generation(0).spec.clone(),
        effective: listener.effective.clone(),
    }
}

/// Refuses transforms that need whole messages on a raw stream.
fn check_needs(bound: &Bound, chain: &[Arc<Generation>]) -> Result<()> {
    let raw = matches!(bound.kind, SocketKind::Tcp | SocketKind::UnixStream)
        && bound.options.frame == crate::options::Frame::Raw;
    check_raw(raw, chain)
}

fn check_listener_needs(listener: &Listener, chain: &[Arc<Generation>]) -> Result<()> {
    let raw =
        !listener.terms.records && listener.kind.is_connected() && !listener.terms.framer.has_messages();
    check_raw(raw, chain)
}

fn check_raw(raw: bool, chain: &[Arc<Generation>]) -> Result<()> {
    match chain.first().and_then(|generation| generation.needs_messages()) {
        Some(id) if raw => Err(Error::Transform {
            id: id.to_owned(),
            reason: "needs whole messages; a raw stream has none (set frame, for example frame=lines)".into(),
        }),
        _ => Ok(()),
    }
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
    pub origin: Origin,
    /// Its options.
    pub options: Vec<crate::transform::library::OptionHelp<'static>>,
}

/// Every transform that a bare name reaches, given these plugin directories before the usual ones; beside
/// them, why a file in one of the directories is none.
pub fn transforms(directories: &[PathBuf]) -> (Vec<TransformInfo>, Vec<Error>) {
    let (found, errors) = Registry::new(directories.to_vec()).list();
    (found.iter().map(|(table, origin)| describe(table, origin.clone())).collect(), errors)
}

fn describe(table: &Table, origin: Origin) -> TransformInfo {
    TransformInfo {
        id: table.id().to_owned(),
        version: table.version().to_owned(),
        summary: table.summary().to_owned(),
        origin,
        options: table.options(),
    }
}
