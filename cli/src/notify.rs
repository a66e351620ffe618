//! What `serve` tells the service manager that started it (sd_notify(3)): that it is ready, what it is doing, and that it is
//! alive.
//!
//! The protocol is one datagram of lines to the socket that `NOTIFY_SOCKET` names. Without that variable nothing is sent. A
//! thread of its own tells of the figures every few seconds, and of being alive while each worker has taken a turn since it
//! last looked: a transform that does not return ends that, and the manager starts the service anew.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use resay::{Engine, LogLevel};
use resay_plugin::environment;
use rustix::time::{ClockId, clock_gettime};

use crate::health::{Health, Readiness};
use crate::lock::lock;
use crate::log::Log;

/// What speaks of the manager. Programs that are started do not find them.
pub(crate) const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// How often the figures are told.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// How often more time is asked for while the service ends, and how much more than is known to be needed.
const EXTEND_EVERY: Duration = Duration::from_secs(1);
const EXTEND_BY: Duration = Duration::from_secs(10);
/// How long a manager may take to make room for a message.
const SEND_LIMIT: Duration = Duration::from_secs(1);

/// What the environment said when the process had one thread.
#[derive(Debug, Default)]
struct Environment([Option<OsString>; 3]);

static ENVIRONMENT: OnceLock<Environment> = OnceLock::new();

/// Reads the variables, for whoever then removes them.
pub(crate) fn read_environment() -> [&'static str; 3] {
    ENVIRONMENT.get_or_init(|| Environment(VARIABLES.map(environment::variable)));
    VARIABLES
}

/// The service manager, if there is one, and what the service is doing. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Notifier {
    manager: Option<Arc<Manager>>,
    readiness: Readiness,
}

#[derive(Debug)]
struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
    /// How often it wants to hear that the service is alive.
    watchdog: Option<Duration>,
    log: Log,
    work: Mutex<Work>,
    changed: Condvar,
}

/// What the thread goes by.
#[derive(Debug, Default)]
struct Work {
    /// When the service will have ended at the latest.
    ends: Option<Instant>,
    /// Something is to be told now.
    is_due: bool,
    has_failed: bool,
}

impl Notifier {
    /// The one of the environment. One that cannot be reached is logged: the service does without.
    pub(crate) fn of_environment(log: &Log) -> Notifier {
        let environment = ENVIRONMENT.get_or_init(Environment::default);
        let manager = Manager::of(environment, log).unwrap_or_else(|error| {
            log.emit(LogLevel::Warn, "", format_args!("service manager: NOTIFY_SOCKET: {error}"));
            None
        });
        Notifier { manager: manager.map(Arc::new), readiness: Readiness::default() }
    }

    pub(crate) fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Every listener listens. Begins to tell of the figures, and of being alive.
    pub(crate) fn ready(&self, engine: &Arc<Engine>) -> io::Result<()> {
        self.readiness.enter(Health::Serving);
        let Some(manager) = &self.manager else { return Ok(()) };
        manager.send(&format!("READY=1\n{}", status(engine, Health::Serving)));
        let (manager, engine, readiness) = (Arc::clone(manager), Arc::clone(engine), self.readiness.clone());
        std::thread::Builder::new()
            .name("notify".to_owned())
            .spawn(move || manager.tell_for_ever(&engine, &readiness))
            .map(drop)
    }

    /// The configuration is read again.
    pub(crate) fn reloading(&self) {
        let Some(manager) = &self.manager else { return };
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec.unsigned_abs() * 1_000_000 + now.tv_nsec.unsigned_abs() / 1000;
        manager.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=reloading\n"));
    }

    /// That is over, however it ended.
    pub(crate) fn reloaded(&self, engine: &Engine) {
        let Some(manager) = &self.manager else { return };
        manager.send(&format!("READY=1\n{}", status(engine, self.readiness.get())));
    }

    /// The service is ending, and will have ended within that time.
    pub(crate) fn ending(&self, health: Health, within: Duration) {
        self.readiness.enter(health);
        let Some(manager) = &self.manager else { return };
        // At once, whatever the thread is doing.
        manager.send(&format!("STOPPING=1\n{}", extension(within + EXTEND_BY)));
        let mut work = lock(&manager.work);
        work.ends = Instant::now().checked_add(within);
        work.is_due = true;
        drop(work);
        manager.changed.notify_all();
    }
}

impl Manager {
    fn of(environment: &Environment, log: &Log) -> io::Result<Option<Manager>> {
        let [path, watchdog, pid] = &environment.0;
        let Some(path) = path.as_ref().filter(|path| !path.is_empty()) else { return Ok(None) };
        let address = match path.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(path)?,
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "neither a path nor an abstract name",
                ));
            }
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(SEND_LIMIT))?;
        let text =
            |value: &Option<OsString>| value.as_ref().map(|value| value.to_string_lossy().into_owned());
        let watchdog = watchdog_of(text(watchdog).as_deref(), text(pid).as_deref(), std::process::id());
        let work = Mutex::default();
        Ok(Some(Manager { socket, address, watchdog, log: log.clone(), work, changed: Condvar::new() }))
    }

    fn send(&self, text: &str) {
        let sent = self.socket.send_to_addr(text.as_bytes(), &self.address);
        let mut work = lock(&self.work);
        let had_failed = std::mem::replace(&mut work.has_failed, sent.is_err());
        drop(work);
        if let (Err(error), false) = (sent, had_failed) {
            self.log.emit(LogLevel::Warn, "", format_args!("service manager: NOTIFY_SOCKET: {error}"));
        }
    }

    fn tell_for_ever(&self, engine: &Engine, readiness: &Readiness) {
        let mut told = String::new();
        let mut watched = self.watchdog.map(|period| Watched::new(period / 2));
        let mut status_at = Instant::now() + STATUS_EVERY;
        loop {
            let ends = lock(&self.work).ends;
            let now = Instant::now();
            let mut message = String::new();
            if let Some(watched) = &mut watched
                && watched.next <= now
            {
                message += watched.look(engine, ends.is_some(), &self.log);
            }
            if status_at <= now {
                let status = status(engine, readiness.get());
                if status != told {
                    message += &status;
                    told = status;
                }
                if let Some(ends) = ends {
                    message += &extension(ends.saturating_duration_since(now) + EXTEND_BY);
                }
                status_at = now + if ends.is_some() { EXTEND_EVERY } else { STATUS_EVERY };
            }
            if !message.is_empty() {
                self.send(&message);
            }
            let next = watched.as_ref().map_or(status_at, |watched| watched.next.min(status_at));
            let rest = next.saturating_duration_since(Instant::now());
            let work = lock(&self.work);
            let waited = self.changed.wait_timeout_while(work, rest, |work| !work.is_due);
            let (mut work, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if std::mem::take(&mut work.is_due) {
                status_at = Instant::now();
            }
        }
    }
}

/// Whether the workers turn.
struct Watched {
    every: Duration,
    next: Instant,
    /// When they were last made to.
    woken: Option<Instant>,
    was_well: bool,
}

impl Watched {
    fn new(every: Duration) -> Watched {
        Watched { every, next: Instant::now(), woken: None, was_well: true }
    }

    /// Says that the service is alive, if each worker has turned since the last time.
    fn look(&mut self, engine: &Engine, is_ending: bool, log: &Log) -> &'static str {
        let workers = engine.workers();
        let has_turned = |last_turn: Duration| self.woken.is_none_or(|woken| last_turn <= woken.elapsed());
        // One that has ended turns no more.
        let hangs = workers
            .iter()
            .position(|worker| !(has_turned(worker.last_turn) || is_ending && worker.busy.is_none()));
        // Before they are woken, and so before the turns that this causes.
        let now = Instant::now();
        engine.wake_workers();
        self.woken = Some(now);
        self.next = now + self.every;
        let was_well = std::mem::replace(&mut self.was_well, hangs.is_none());
        let Some(index) = hangs else { return "WATCHDOG=1\n" };
        if was_well {
            let text = format_args!(
                "worker {index} has not come back since the last look: the service manager's watchdog hears nothing"
            );
            log.emit(LogLevel::Error, "", text);
        }
        ""
    }
}

/// What is told of a service, as a line.
fn status(engine: &Engine, health: Health) -> String {
    let mut text = String::from("STATUS=");
    let stats = engine.stats();
    if health != Health::Serving {
        text += &health.name().replace('_', " ");
        text += ": ";
    }
    let counted = |count: u64, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    // Writing to a String does not fail.
    let _ = writeln!(
        text,
        "{}, {}, {}",
        counted(engine.urls().len() as u64, "listener"),
        counted(stats.open, "connection"),
        counted(stats.messages_in, "message"),
    );
    text
}

fn extension(within: Duration) -> String {
    format!("EXTEND_TIMEOUT_USEC={}\n", within.as_micros())
}

/// How often the manager wants to hear of process `own`, if it does.
fn watchdog_of(micros: Option<&str>, pid: Option<&str>, own: u32) -> Option<Duration> {
    if pid.is_some_and(|pid| pid.parse() != Ok(own)) {
        return None;
    }
    let micros: u64 = micros?.parse().ok()?;
    (micros > 0).then(|| Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_of_this_process() {
        let second = Some(Duration::from_secs(1));
        for (micros, pid, wanted) in [
            (None, None, None),
            (Some("1000000"), None, second),
            (Some("1000000"), Some("42"), second),
            (Some("1000000"), Some("43"), None),
            (Some("1000000"), Some("x"), None),
            (Some("0"), None, None),
            (Some("-1"), None, None),
            (Some("soon"), None, None),
        ] {
            assert_eq!(watchdog_of(micros, pid, 42), wanted, "{micros:?} {pid:?}");
        }
    }
}
