//! The configuration that a server runs with, and its replacement by what the file says later.
//!
//! ```text
//! SIGHUP, ctl reload ──> read, check ──> compare ──> Engine::reconfigure: all of it, or nothing
//! ```
//!
//! It is compared with what the engine has: `resay ctl` may have changed that since the file was read.

mod files;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use resay::net::address::Address;
use resay::options::{AddressKind, KEYS};
use resay::transform::spec::ChainSpec;
use resay::{Builder, Engine, Error, Handed, ListenerId, LogLevel, Options, Reconfiguration};

use self::files::Files;
use crate::config::read;
use crate::config::settings::Config;
use crate::config::snapshot::{Change, Snapshot, changes, line, matched, shown};
use crate::control::report::Reloaded;
use crate::ctl::client::Server;
use crate::exit::{Exit, Failure};
use crate::lock::lock;
use crate::log::Log;
use crate::notify::Notifier;
use crate::{output, sandbox};

/// How long a running server may take to say what it runs with.
const ASK_LIMIT: Duration = Duration::from_secs(10);
/// The settings that can change while the server runs; listeners apart.
const LIVE: [&str; 3] = ["chain", "drain_timeout", "lame_duck"];

/// What holds, and where it is read again.
#[derive(Debug)]
pub(crate) struct Reloader {
    file: PathBuf,
    /// One reload at a time, from its reading to its end.
    turn: Mutex<()>,
    /// A thread that a signal has begun has not read the file yet: it will find what later signals are about.
    is_requested: AtomicBool,
    /// Only looked at and replaced under its lock: nobody waits for a reload who asks for a name.
    applied: Mutex<Applied>,
    reloaded: AtomicU64,
    failed: AtomicU64,
    notifier: Notifier,
}

/// How long the end takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EndTimes {
    /// For so long all goes on.
    pub(crate) lame_duck: Duration,
    pub(crate) drain_timeout: Duration,
}

#[derive(Debug, Clone)]
struct Applied {
    /// As the file said.
    snapshot: Snapshot,
    times: EndTimes,
    /// One for each address of the snapshot.
    places: Vec<AppliedPlace>,
}

#[derive(Debug, Clone, Default)]
struct AppliedPlace {
    ids: Vec<ListenerId>,
    /// As the file said.
    options: Options,
    /// As they were read.
    files: Files,
}

impl Applied {
    /// `files` are those of before the engine read them: what changes meanwhile is found later.
    fn new(config: &Config, ids: Vec<Vec<ListenerId>>, files: Vec<Files>) -> Applied {
        let places = config.listeners.iter().zip(ids).zip(files);
        let places = places.map(|((entry, ids), files)| AppliedPlace {
            ids,
            options: entry.listen.options.clone(),
            files,
        });
        Applied { snapshot: config.snapshot(), times: times_of(config), places: places.collect() }
    }

    /// What the engine has by now in place of what the file said.
    fn live(&self, engine: &Engine) -> Snapshot {
        let mut snapshot = self.snapshot.clone();
        let chain = engine.chain();
        if let Some(said) = snapshot.settings.get_mut("chain")
            && canonical(said) != chain
        {
            *said = chain;
        }
        for (listener, place) in snapshot.listeners.iter_mut().zip(&self.places) {
            // One that is gone has nothing to say.
            let options = place.ids.iter().filter_map(|id| engine.listener_options(*id).ok());
            for live in options {
                for key in KEYS.iter().map(|key| key.name) {
                    let is_same = match key {
                        "chain" => place.options.chain.as_deref().map(canonical) == live.chain,
                        _ => place.options.get(key) == live.get(key),
                    };
                    if is_same {
                        continue;
                    }
                    match shown(&live, key) {
                        Some(text) => listener.options.insert(key.to_owned(), text),
                        None => listener.options.remove(key),
                    };
                }
            }
            listener.renewed = place.files.renewed();
        }
        snapshot
    }
}

/// The text by which the engine knows a chain.
fn canonical(chain: &str) -> String {
    ChainSpec::parse(chain).map_or_else(|_| chain.to_owned(), |spec| spec.to_string())
}

fn files_of(config: &Config) -> Vec<Files> {
    config.listeners.iter().map(|entry| Files::of(&entry.listen.options)).collect()
}

impl Reloader {
    /// Opens the listeners of a configuration, for an engine that is to be started.
    pub(crate) fn open(
        file: &Path,
        config: &Config,
        builder: Builder,
        notifier: &Notifier,
        handed: &mut Vec<Handed>,
    ) -> Result<(Engine, Reloader), Failure> {
        let engine = builder.build()?;
        let listens: Vec<_> = config.listeners.iter().map(|entry| entry.listen.clone()).collect();
        let files = files_of(config);
        let ids = engine.listen_all_with(&listens, handed).map_err(|error| with_place(config, error))?;
        let applied = Applied::new(config, ids, files);
        let reloader = Reloader {
            file: file.to_owned(),
            turn: Mutex::new(()),
            is_requested: AtomicBool::new(false),
            applied: Mutex::new(applied),
            reloaded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            notifier: notifier.clone(),
        };
        Ok((engine, reloader))
    }

    /// Reloads on a thread of its own, since chains may take long to create. However many signals come, one reload runs and
    /// one waits.
    pub(crate) fn request(self: &Arc<Self>, engine: &Arc<Engine>, log: &Log) -> io::Result<()> {
        if self.is_requested.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let (reloader, engine, log) = (Arc::clone(self), Arc::clone(engine), log.clone());
        let begun = thread::Builder::new().name("reload".to_owned()).spawn(move || {
            let turn = reloader.take_turn();
            reloader.is_requested.store(false, Ordering::Release);
            // The log has what has become of it.
            let _ = reloader.reload_and_log(&engine, &log, "SIGHUP");
            drop(turn);
        });
        if begun.is_err() {
            self.is_requested.store(false, Ordering::Release);
        }
        begun.map(drop)
    }

    fn take_turn(&self) -> MutexGuard<'_, ()> {
        lock(&self.turn)
    }

    /// Reads the file again, and makes the server as it says: all of it, or nothing. What has changed, or why nothing has,
    /// goes to the log as well.
    pub(crate) fn reload(&self, engine: &Engine, log: &Log, whence: &str) -> Result<Reloaded, Failure> {
        let _turn = self.take_turn();
        self.reload_and_log(engine, log, whence)
    }

    fn reload_and_log(&self, engine: &Engine, log: &Log, whence: &str) -> Result<Reloaded, Failure> {
        let began = Instant::now();
        self.notifier.reloading();
        let result = self.reload_now(engine);
        self.notifier.reloaded(engine);
        match result {
            Ok(changes) => {
                self.reloaded.fetch_add(1, Ordering::Relaxed);
                let count = changes.len();
                for change in &changes {
                    log.emit(LogLevel::Info, "", format_args!("reload: {change}"));
                }
                let took = began.elapsed();
                log.emit(LogLevel::Info, "", format_args!("{whence}: reloaded in {took:?}, changes {count}"));
                Ok(Reloaded { changes })
            }
            Err(failure) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                let failure = sandbox::explain(failure);
                let text = format_args!("{whence}: not reloaded, nothing has changed: {}", failure.text());
                log.emit(LogLevel::Error, "", text);
                Err(failure)
            }
        }
    }

    fn reload_now(&self, engine: &Engine) -> Result<Vec<String>, Failure> {
        let config = read::read(&self.file)?;
        let new = config.snapshot();
        let applied = self.applied().clone();
        let old = applied.live(engine);
        let old_ids: Vec<_> = applied.places.into_iter().map(|place| place.ids).collect();
        let found = changes(&old, &new);
        // Options of sockets are the engine's to refuse.
        let setting = found
            .iter()
            .find(|change| matches!(change, Change::Setting { .. }) && refused(change, &new).is_some());
        if let Some(change @ Change::Setting { key, .. }) = setting {
            let text = format!("{key} cannot change while the server runs ({})", line(change, &old, &new));
            return Err(Failure::new(Exit::Usage, text));
        }
        let pairs = matched(&old, &new);
        let mut wanted = Reconfiguration { chain: config.chain.clone(), ..Reconfiguration::default() };
        for (place, entry) in config.listeners.iter().enumerate() {
            match pairs.iter().find(|pair| pair.1 == place).and_then(|pair| old_ids.get(pair.0)) {
                Some(ids) => {
                    wanted.keep.extend(ids.iter().map(|id| (*id, entry.listen.options.clone())));
                }
                None => wanted.open.push(entry.listen.clone()),
            }
        }
        for (place, ids) in old_ids.iter().enumerate() {
            if !pairs.iter().any(|pair| pair.0 == place) {
                wanted.close.extend(ids);
            }
        }
        let files = files_of(&config);
        let mut opened = engine.reconfigure(&wanted).map_err(|error| with_place(&config, error))?.into_iter();
        let ids = (0..config.listeners.len()).map(|place| {
            let kept = pairs.iter().find(|pair| pair.1 == place).and_then(|pair| old_ids.get(pair.0));
            kept.cloned().or_else(|| opened.next()).unwrap_or_default()
        });
        let ids = ids.collect();
        let lines = found.iter().map(|change| line(change, &old, &new)).collect();
        *self.applied() = Applied::new(&config, ids, files);
        Ok(lines)
    }

    /// How many reloads have been done, and how many have failed.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.reloaded.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }

    pub(crate) fn times(&self) -> EndTimes {
        self.applied().times
    }

    /// The names of the listeners, by their numbers.
    pub(crate) fn names(&self) -> BTreeMap<u64, String> {
        let applied = self.applied();
        let named = applied.places.iter().zip(&applied.snapshot.listeners);
        named
            .flat_map(|(place, listener)| place.ids.iter().map(|id| (id.number(), listener.name.clone())))
            .collect()
    }

    /// The name of one listener.
    pub(crate) fn name(&self, id: u64) -> Option<String> {
        let applied = self.applied();
        let mut named = applied.places.iter().zip(&applied.snapshot.listeners);
        let found = named.find(|(place, _)| place.ids.iter().any(|known| known.number() == id));
        found.map(|(_, listener)| listener.name.clone())
    }

    /// The configuration that holds, with what has been changed since the file was read.
    pub(crate) fn snapshot(&self, engine: &Engine) -> Snapshot {
        // Files are read for it: nobody who asks for a name waits for them.
        let applied = self.applied().clone();
        applied.live(engine)
    }

    fn applied(&self) -> MutexGuard<'_, Applied> {
        lock(&self.applied)
    }
}

fn times_of(config: &Config) -> EndTimes {
    EndTimes { lame_duck: config.lame_duck, drain_timeout: config.drain_timeout }
}

/// A failure of the engine; for a chain that cannot be, with the listener whose it is.
fn with_place(config: &Config, error: Error) -> Failure {
    let is_of_chain = matches!(
        error,
        Error::Transform { .. }
            | Error::UnknownTransform { .. }
            | Error::Plugin { .. }
            | Error::Filter { .. }
    );
    let placed = if is_of_chain { config.check().err() } else { None };
    placed.unwrap_or_else(|| error.into())
}

/// Why a reload would refuse a change, and all others with it.
fn refused(change: &Change, new: &Snapshot) -> Option<&'static str> {
    match change {
        Change::Setting { key, .. } => {
            (!LIVE.contains(&key.as_str())).then_some("it cannot change while the server runs")
        }
        Change::Option { new: place, key, .. } => {
            let (address, _) = Address::parse(&new.listeners.get(*place)?.url).ok()?;
            let kind = AddressKind::from(address.socket_kind()?);
            let is_settled = KEYS.iter().any(|known| known.name == key && known.is_settled(kind));
            is_settled.then_some("it is settled when the socket is bound")
        }
        Change::Added { .. } | Change::Removed { .. } | Change::Renamed { .. } | Change::File { .. } => None,
    }
}

/// Prints what a reload would change in the server that listens on the file's control socket.
pub(crate) fn diff(config: &Config) -> Result<Exit, Failure> {
    let new = config.snapshot();
    let socket: &PathBuf = config.control.as_ref().ok_or_else(|| {
        Failure::new(
            Exit::Usage,
            "--diff asks the running server: the file must have its control socket (control)",
        )
    })?;
    // What a reload would refuse changes nothing.
    config.check()?;
    let old: Snapshot = Server { socket, timeout: ASK_LIMIT }.ask("config")?;
    let found = changes(&old, &new);
    let told = |change: &Change| match refused(change, &new) {
        Some(why) => format!("{} (a reload refuses this: {why})\n", line(change, &old, &new)),
        None => line(change, &old, &new) + "\n",
    };
    let text: String = found.iter().map(told).collect();
    output::print(text)?;
    Ok(if found.is_empty() { Exit::Done } else { Exit::Unexpected })
}
