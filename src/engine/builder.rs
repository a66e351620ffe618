//! What an engine is to be, before it is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use super::backend::Backend;
use super::carried_over::CarriedOver;
use super::settings::{
    check_spin, check_thread_name, check_thread_stack, check_threads, check_watchdog, parse_cpus,
};
use super::state::{Control, Engine};
use super::threads::Ended;
use crate::chain::Chain;
use crate::connection::{Around, MakeAround};
use crate::error::Result;
use crate::event::{Event, Events, LogLevel};
use crate::net::address::Listen;
use crate::options::Options;
use crate::stats::ClosedListeners;
use crate::sys::{ThreadHooks, ThreadSettings};
use crate::transform::library::{Counters, Filter, Services, Transform};
use crate::transform::registry::Registry;
use crate::transform::spec::ChainSpec;

impl Engine {
    /// Begins the description of an engine.
    pub fn builder() -> Builder {
        Builder::new()
    }
}

/// Collects what an engine is to be. Nothing is bound before [`build`](Builder::build).
pub struct Builder {
    defaults: Options,
    urls: Vec<String>,
    /// As it was given.
    chain: String,
    threads: usize,
    backend: Backend,
    spin: Duration,
    watchdog: Option<Duration>,
    thread_settings: ThreadSettings,
    plugin_directories: Vec<PathBuf>,
    events: Events,
    registered: Vec<Transform>,
    filters: Vec<Filter>,
    around: Option<MakeAround>,
}

impl Builder {
    fn new() -> Builder {
        Builder {
            defaults: Options::default(),
            urls: Vec::new(),
            chain: String::new(),
            threads: 1,
            backend: Backend::Auto,
            spin: Duration::ZERO,
            watchdog: None,
            thread_settings: ThreadSettings::default(),
            plugin_directories: Vec::new(),
            events: Events::default(),
            registered: Vec::new(),
            filters: Vec::new(),
            around: None,
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
        ChainSpec::parse(spec)?;
        spec.clone_into(&mut self.chain);
        Ok(self)
    }

    /// How many workers share the connections: threads of the engine's own, or threads lent by the host. 1 to 256.
    pub fn threads(mut self, threads: usize) -> Result<Builder> {
        check_threads(threads)?;
        self.threads = threads;
        Ok(self)
    }

    /// Which kernel interface to use. One that cannot be had makes [`Engine::start`] fail, with the reason.
    pub fn backend(mut self, backend: Backend) -> Builder {
        self.backend = backend;
        self
    }

    /// How long a worker goes on looking for something to do before it sleeps, at most a second; zero, the default: not
    /// at all. It buys latency with CPU: what comes within that time is answered without waking a thread. A worker that
    /// finds nothing that way several times in a row sleeps at once, and tries again now and then.
    pub fn spin(mut self, window: Duration) -> Result<Builder> {
        check_spin(window)?;
        self.spin = window;
        Ok(self)
    }

    /// How long a turn of a worker, or a message with the threads for transforms that may block, may take before that is
    /// logged ([`EventKind::TransformStuck`](crate::EventKind), which names the transform), counted
    /// ([`Engine::transforms_stuck`]), and logged again when it is over. 10 ms to 24 h; zero: nobody looks. The default is
    /// 10 s where the engine starts threads of its own. A thread of its own looks, four times in that time and at least once a
    /// second; on an engine that runs on lent threads there is one only if this was called.
    pub fn watchdog(mut self, patience: Duration) -> Result<Builder> {
        check_watchdog(patience)?;
        self.watchdog = Some(patience);
        Ok(self)
    }

    /// What the names of the engine's threads begin with, 1 to 15 bytes; "resay" by default: `resay-0`, `resay-offload-0`. The
    /// system shows 15 bytes of a name.
    pub fn thread_name(mut self, prefix: &str) -> Result<Builder> {
        check_thread_name(prefix)?;
        self.thread_settings.name = prefix.to_owned();
        Ok(self)
    }

    /// The size of the stacks of the engine's threads, 128 KiB to 1 GiB; 2 MiB by default. Transforms run on them.
    pub fn thread_stack(mut self, bytes: usize) -> Result<Builder> {
        check_thread_stack(bytes)?;
        self.thread_settings.stack_bytes = bytes;
        Ok(self)
    }

    /// The processors that the engine's threads may run on, each thread on all of them: `0-3,6`. Empty, the default: those of
    /// the thread that starts the engine. [`Engine::start`] fails if the system knows none of them.
    pub fn thread_cpus(mut self, list: &str) -> Result<Builder> {
        self.thread_settings.cpus = parse_cpus(list)?;
        Ok(self)
    }

    /// What runs on each thread of the engine's before and after everything else there: workers, the pool of transforms that may
    /// block, and threads that live for a single system call. `begin` gets the thread's name. They must not call the
    /// engine. Threads that the host lends have no hooks.
    pub fn thread_hooks(
        mut self,
        begin: impl Fn(&str) + Send + Sync + 'static,
        end: impl Fn() + Send + Sync + 'static,
    ) -> Builder {
        self.thread_settings.hooks =
            Some(Arc::new(ThreadHooks { begin: Box::new(begin), end: Box::new(end) }));
        self
    }

    /// Adds a transform of the host's own. Its name comes before those of bundled ones and of plugins; of two with the
    /// same name the second counts.
    pub fn register(mut self, transform: Transform) -> Builder {
        self.registered.push(transform);
        self
    }

    /// Adds a filter of the host's own, for listeners that name it. Others are looked up as plugin files, by their names too.
    pub fn register_filter(mut self, filter: Filter) -> Builder {
        self.filters.push(filter);
        self
    }

    /// A directory in which bare names of transforms are looked up, before `RESAY_PLUGIN_PATH`.
    pub fn plugin_dir(mut self, directory: impl AsRef<Path>) -> Builder {
        self.plugin_directories.push(directory.as_ref().to_owned());
        self
    }

    /// Where events go, up to this level. `sink` is called on workers and must not block; it must not call
    /// the engine.
    pub fn on_event(mut self, level: LogLevel, sink: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Builder {
        self.events = Events::new(level, Box::new(sink));
        self
    }

    /// Puts something before and around each stream of all listeners: `make` is called for each connection. The place where
    /// the PROXY protocol and TLS belong.
    #[doc(hidden)]
    pub fn around(mut self, make: impl Fn() -> Around + Send + Sync + 'static) -> Builder {
        self.around = Some(MakeAround::new(make));
        self
    }

    /// Creates the transforms and binds the sockets: all of them, or none and an error. Nothing is served yet.
    pub fn build(self) -> Result<Engine> {
        let listens =
            self.urls.iter().map(|url| Listen::parse(url, &self.defaults)).collect::<Result<Vec<_>, _>>()?;
        let mut registry = Registry::new(self.plugin_directories);
        for transform in self.registered {
            drop(registry.register(transform.0));
        }
        for filter in self.filters {
            registry.register_filter(filter.0);
        }
        let services = Services {
            events: Arc::new(self.events),
            counters: Arc::new(Counters::new()),
            times: Arc::default(),
        };
        let spec = ChainSpec::parse(&self.chain)?;
        let chain = registry.find_all(&spec).and_then(|tables| Chain::create(&spec, &tables, &services));
        let chain = chain.map_err(|error| error.in_text(&self.chain))?;
        let control = Control {
            defaults: self.defaults,
            chain: Arc::new(chain),
            engine_chain: Vec::new(),
            listeners: Vec::new(),
            closed: ClosedListeners::default(),
            carried_over: CarriedOver::default(),
            left: Vec::new(),
            waiting: Vec::new(),
            listeners_made: 0,
            workers: self.threads,
            backend: self.backend,
            spin: self.spin,
            watchdog: self.watchdog,
            threads: Vec::new(),
            thread_settings: Arc::new(self.thread_settings),
            around: self.around,
        };
        let taps = Arc::default();
        let ended = Arc::new(Ended::new(&services.events, &taps));
        let engine = Engine {
            control: Mutex::new(control),
            registry: Mutex::new(registry),
            core: OnceLock::new(),
            stop: Arc::new(AtomicBool::new(false)),
            is_draining: AtomicBool::new(false),
            services,
            taps,
            ended,
            accepting: Mutex::new(()),
            joining: Mutex::new(()),
            is_indexed_early: AtomicBool::new(false),
            watchdog: Mutex::new(None),
        };
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
        f.debug_struct("Builder")
            .field("urls", &self.urls)
            .field("chain", &self.chain)
            .finish_non_exhaustive()
    }
}
