//! `resay serve`: the engine as a service.
//!
//! The calling thread hears what concerns the whole service, in the order in which it comes, and calls nothing that
//! may take long:
//!
//! ```text
//! signals ───────────┐
//! control socket ────┼──> Word ──> the calling thread ──> a thread that drains
//! the workers' end ──┘
//! ```

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use clap::{ArgAction, Args};
use resay::net::address::Listen;
use resay::options::{parse_duration, parse_size};
use resay::{Builder, CloseReason, DropReason, Engine, Handed, LogLevel, Options, Stats};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::config::settings::Config;
use crate::config::{command, read};
use crate::control::{Belongings, Control, Order, Rights, Waiter};
use crate::exit::{Exit, Failure};
use crate::health::Health;
use crate::help;
use crate::log::{Format, Log};
use crate::metrics::Metrics;
use crate::metrics::place::Place;
use crate::metrics::source::Source;
use crate::notify::Notifier;
use crate::reload::{self, EndTimes, Reloader};
use crate::sandbox::{self, Places};
use crate::takeover::{self, Takeover};
use crate::{output, signals};

/// Listen and answer
///
/// When all listeners are ready, one line for each appears on standard output, with the real port:
/// `listening tcp://127.0.0.1:43121`. Standard output has nothing else; the log goes to standard error.
///
/// SIGTERM or SIGINT drains: the server stops listening, answers all input that has arrived, closes every
/// connection and exits 0. A second signal stops it at once, also with exit status 0. If not all is answered within
/// --drain-timeout, or a thread does not end in time, the exit status is 4. SIGHUP reads the file of --config again, and has no effect without one.
/// A signal that was ignored before the start, as nohup does with SIGHUP, stays ignored.
///
/// Under a service manager (`Type=notify`) it tells that it is ready, its figures, that it reloads and ends, and, for
/// `WatchdogSec=`, that every thread still takes turns.
///
/// With --control, `resay ctl` shows the state of the running server, swaps chains, drains and stops it.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES, after_long_help = long_help())]
pub(crate) struct Arguments {
    /// Where to listen, for example tcp://127.0.0.1:8888 or unix:/tmp/e.sock
    #[arg(required_unless_present = "config", value_name = "URL")]
    urls: Vec<String>,
    /// The chain of transforms for every message, for example 'uppercase | identity'
    #[arg(short, long, value_name = "CHAIN", default_value = "", hide_default_value = true)]
    transform: String,
    /// Set an option of all listeners whose URL does not set it; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Number of threads that share the connections
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: usize,
    /// The kernel interface: auto, uring or epoll
    #[arg(long, value_name = "BACKEND", default_value = "auto")]
    backend: String,
    /// Busy-poll this long before a thread sleeps, for example 60us: less latency, more CPU time
    #[arg(long, value_name = "DURATION", default_value = "0", hide_default_value = true,
          value_parser = parse_duration)]
    spin: Duration,
    /// Log a transform that has not returned for this long, and when it has; 0: never
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    watchdog: Duration,
    /// Prefix of the threads' names
    #[arg(long, value_name = "PREFIX", default_value = "resay", hide_default_value = true)]
    thread_name: String,
    /// Stack size of the threads
    #[arg(long, value_name = "SIZE", default_value = "2m", value_parser = parse_size)]
    thread_stack: u64,
    /// Processors for the threads, for example 0-3,6
    #[arg(long, value_name = "LIST", default_value = "", hide_default_value = true)]
    thread_cpus: String,
    /// Look for plugins in this directory, before RESAY_PLUGIN_PATH; repeatable
    #[arg(long = "plugin-dir", value_name = "DIR")]
    plugin_directories: Vec<PathBuf>,
    /// Accept commands of `resay ctl` on a unix socket at this path, usable by this user only
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// Answer the questions of `resay ctl` on another unix socket, usable by this user's group too; it takes no orders
    #[arg(long, value_name = "PATH")]
    control_read: Option<PathBuf>,
    /// Serve metrics and health checks over HTTP, at HOST:PORT or unix:PATH: /metrics, /stats.json, /readyz, /livez
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<Place>,
    /// Format of the log on standard error
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log: Format,
    /// Log each connection and the effective socket options; twice: each step
    #[arg(short, long, action = ArgAction::Count, conflicts_with = "quiet")]
    verbose: u8,
    /// Log errors only
    #[arg(short, long)]
    quiet: bool,
    /// Time limit for draining; connections that are open then are cut off
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    drain_timeout: Duration,
    /// On SIGTERM or SIGINT, go on serving for this long before draining; a second signal drains at once
    #[arg(long, value_name = "DURATION", default_value = "0", hide_default_value = true,
          value_parser = parse_duration)]
    lame_duck: Duration,
    /// After the start, give up all files, programs, connections and system calls that serving does not need
    #[arg(long)]
    sandbox: bool,
    /// Go on with the sockets of the server that has this control socket, which then ends
    #[arg(long, value_name = "PATH", conflicts_with_all = ["check", "diff"])]
    takeover: Option<PathBuf>,
    /// Take listeners and settings from a TOML file, in place of URLs and of the options above; SIGHUP and
    /// `resay ctl reload` read it again
    #[arg(long, value_name = "FILE", conflicts_with_all = SETTINGS)]
    config: Option<PathBuf>,
    /// Only say what is wrong with the file
    #[arg(long, requires = "config", conflicts_with = "diff")]
    check: bool,
    /// Only print what a reload would change in the server that runs with this file's control socket; exit with status 1
    /// if that is something
    #[arg(long, requires = "config")]
    diff: bool,
}

/// What a file says.
const SETTINGS: [&str; 18] = [
    "urls",
    "transform",
    "set",
    "threads",
    "backend",
    "spin",
    "watchdog",
    "thread_name",
    "thread_stack",
    "thread_cpus",
    "plugin_directories",
    "control",
    "control_read",
    "metrics",
    "log",
    "drain_timeout",
    "lame_duck",
    "sandbox",
];

const EXAMPLES: &str = "\
Examples:
  resay serve tcp://127.0.0.1:8888 -t uppercase
  resay serve tcp://127.0.0.1:0 udp://127.0.0.1:0 unix:/tmp/e.sock
  resay serve tcp://127.0.0.1:8888 -t 'uppercase | identity' --set frame=lines
  resay serve 'tcp://:8888?idle_timeout=30s' --threads 4 --log json -v
  resay serve tcp://127.0.0.1:8888 --control /tmp/e.ctl   # see `resay help ctl`
  resay serve tcp://127.0.0.1:8888 --metrics 127.0.0.1:9464   # curl http://127.0.0.1:9464/metrics
  resay serve --config /etc/resay/resay.toml   # see `resay help config`
  resay serve --config /etc/resay/resay.toml --check";

fn long_help() -> String {
    [EXAMPLES, help::URLS, &help::options(), help::CHAINS, help::STATUSES].join("\n\n")
}

/// How long to wait for the last lines of the log, and for workers that were told to stop.
const LAST_WAIT: Duration = Duration::from_secs(1);
/// How long draining may last beyond its time, in which the workers are to cut off what is left.
const DRAIN_GRACE: Duration = Duration::from_secs(2);
/// Clients of the control socket that may wait for the end.
const WAITERS_MAX: usize = 16;

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let Some(file) = &arguments.config else {
        return serve_until_end(arguments, &arguments.config()?, None);
    };
    if arguments.check {
        return command::check(file);
    }
    let config = read::read(file)?;
    if arguments.diff {
        return reload::diff(&config);
    }
    serve_until_end(arguments, &config, Some(file))
}

fn serve_until_end(arguments: &Arguments, config: &Config, file: Option<&Path>) -> Result<Exit, Failure> {
    let system = |what: &'static str| {
        move |error: io::Error| Failure::new(Exit::Unreachable, format!("{what}: {error}"))
    };
    // Before anything listens: one that has come by now ends it properly.
    let signals = signals::handle(&[SIGTERM, SIGINT, SIGHUP]).map_err(system("handle signals"))?;
    let log = Log::start(config.log, arguments.quiet).map_err(system("start the log's thread"))?;
    let notifier = Notifier::of_environment(&log);
    let mut waiters = Vec::new();
    let result = serve(arguments, config, file, signals, &log, &notifier, &mut waiters);
    log.flush(LAST_WAIT);
    // Who waits for the end of their connections sees it now, when there is nothing else left.
    drop(waiters);
    result
}

impl Arguments {
    /// What a file would say that says the same, apart from listeners.
    fn config(&self) -> Result<Config, Failure> {
        Ok(Config {
            threads: self.threads,
            backend: self.backend.parse()?,
            spin: self.spin,
            watchdog: self.watchdog,
            thread_name: self.thread_name.clone(),
            thread_stack: self.thread_stack,
            thread_cpus: self.thread_cpus.clone(),
            log: self.log,
            drain_timeout: self.drain_timeout,
            lame_duck: self.lame_duck,
            sandbox: self.sandbox,
            control: self.control.clone(),
            control_read: self.control_read.clone(),
            metrics: self.metrics.clone(),
            plugin_dirs: self.plugin_directories.clone(),
            chain: self.transform.clone(),
            listeners: Vec::new(),
        })
    }

    /// An engine with the listeners, to be started.
    fn build(&self, mut builder: Builder, handed: &mut Vec<Handed>) -> Result<Engine, Failure> {
        let mut defaults = Options::default();
        for pair in &self.set {
            // On its own first: this finds a pair that is none.
            defaults.set_pair(pair)?;
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            builder = builder.set(key, value)?;
        }
        let listens =
            self.urls.iter().map(|url| Listen::parse(url, &defaults)).collect::<Result<Vec<_>, _>>()?;
        let engine = builder.build()?;
        engine.listen_all_with(&listens, handed)?;
        Ok(engine)
    }
}

fn serve(
    arguments: &Arguments,
    config: &Config,
    file: Option<&Path>,
    signals: Signals,
    log: &Log,
    notifier: &Notifier,
    waiters: &mut Vec<(Order, Waiter)>,
) -> Result<Exit, Failure> {
    // First, so that a server which is already there keeps everything of this one from beginning.
    let mut takeover = arguments.takeover.as_deref().map(Takeover::begin).transpose()?;
    // What the old server has is to be had when it has been released.
    let is_late = takeover.is_some();
    let open_all = |path: &Path| Control::open(path, Rights::All);
    let open_read = |path: &Path| Control::open(path, Rights::Reading);
    let mut control_all = early(is_late, config.control.as_deref(), open_all)?;
    let mut control_read = early(is_late, config.control_read.as_deref(), open_read)?;
    let mut metrics = early(is_late, config.metrics.as_ref(), Metrics::open)?;
    let mut none = Vec::new();
    let handed = takeover.as_mut().map_or(&mut none, |takeover| &mut takeover.handed);
    let events = log.clone();
    let builder = config.builder()?.on_event(level(arguments), move |event| events.event(event));
    let (engine, reloader) = match file {
        Some(file) => {
            let (engine, reloader) = Reloader::open(file, config, builder, notifier, handed)?;
            (engine, Some(Arc::new(reloader)))
        }
        None => (arguments.build(builder, handed)?, None),
    };
    if config.sandbox {
        sandbox::enter(&places(arguments, config, file, &engine))?;
    }
    engine.start()?;
    let engine = Arc::new(engine);
    if let Some(takeover) = &mut takeover
        && let Err(failure) = takeover.release(&engine)
    {
        // This one serves already.
        log.emit(LogLevel::Warn, "", failure.text());
    }
    let belongings = Belongings::default();
    control_all.or_late(open_all, log);
    control_read.or_late(open_read, log);
    metrics.or_late(Metrics::open, log);
    let (words, heard) = mpsc::channel();
    for control in [control_all, control_read].into_iter().filter_map(Opened::take) {
        let words = words.clone();
        // The receiver lives as long as anybody is to be heard.
        let order = move |order, waiter| drop(words.send(Word::Order(order, waiter)));
        let readiness = notifier.readiness();
        control.serve(&engine, reloader.as_ref(), readiness, log, &belongings, order).map_err(no_thread)?;
    }
    let metrics_url = match metrics.take() {
        Some(metrics) => {
            let source = Source::new(&engine, reloader.as_ref(), notifier.readiness(), log, config.threads);
            let url = metrics.url().to_owned();
            metrics.serve(source, &belongings).map_err(no_thread)?;
            Some(url)
        }
        None => None,
    };
    if config.sandbox {
        sandbox::lock()?;
        log.emit(LogLevel::Info, "", "sandbox: entered");
    }
    if let Some(takeover) = takeover {
        takeover.follow(&engine, log).map_err(no_thread)?;
    }
    announce(&engine, log);
    if let Some(url) = metrics_url {
        log.emit(LogLevel::Info, "", format_args!("metrics {url}"));
    }
    notifier.ready(&engine).map_err(no_thread)?;
    describe(&engine, config, arguments.verbose > 0, log);
    let service = Service {
        engine: Arc::clone(&engine),
        reloader,
        times: EndTimes { lame_duck: config.lame_duck, drain_timeout: config.drain_timeout },
        log: log.clone(),
        notifier: notifier.clone(),
        lost_before: Arc::default(),
    };
    service.watch(signals, words)?;
    let end = service.run(&heard, waiters)?;
    // The place is free before anybody is told of the end.
    belongings.give_up();
    waiters.iter().for_each(|(order, waiter)| match order {
        Order::HandedOver => waiter.answer_with_figures(&engine.stats()),
        order => waiter.answer(end.answer_to(order)),
    });
    if end == End::Overdue {
        // Said already.
        return Ok(Exit::Timeout);
    }
    if level(arguments) >= LogLevel::Debug {
        emit_totals(&engine.stats(), &engine.transform_counters(), log);
    }
    // What was cut off is said already.
    Ok(if matches!(end, End::CutOff { .. }) { Exit::Timeout } else { Exit::Done })
}

/// Something that is open, or that another server still has.
enum Opened<'a, P: ?Sized, T> {
    Not,
    Open(T),
    Later(&'a P),
}

/// Opens what is asked for; with `is_late`, what cannot be had now is left for later.
fn early<'a, P: ?Sized, T>(
    is_late: bool,
    place: Option<&'a P>,
    open: impl FnOnce(&P) -> Result<T, Failure>,
) -> Result<Opened<'a, P, T>, Failure> {
    let Some(place) = place else { return Ok(Opened::Not) };
    match open(place) {
        Ok(opened) => Ok(Opened::Open(opened)),
        Err(_) if is_late => Ok(Opened::Later(place)),
        Err(failure) => Err(failure),
    }
}

impl<P: ?Sized, T> Opened<'_, P, T> {
    /// Opens what was left. If that fails the server does without: it has the other one's clients already.
    fn or_late(&mut self, open: impl FnOnce(&P) -> Result<T, Failure>, log: &Log) {
        let Opened::Later(place) = *self else { return };
        *self = match open(place) {
            Ok(opened) => Opened::Open(opened),
            Err(failure) => {
                log.emit(LogLevel::Error, "", format_args!("{}; serving without", failure.text()));
                Opened::Not
            }
        };
    }

    fn take(self) -> Option<T> {
        match self {
            Opened::Open(opened) => Some(opened),
            Opened::Not | Opened::Later(_) => None,
        }
    }
}

/// Where the server has business from now on.
fn places(arguments: &Arguments, config: &Config, file: Option<&Path>, engine: &Engine) -> Places {
    let mut places = Places::new(file, config.control.as_deref(), &config.plugin_dirs);
    engine.listeners().iter().for_each(|listener| {
        places.add_listener(&listener.url);
        places.add_chain(&listener.chain);
    });
    [&config.chain, &arguments.transform].into_iter().for_each(|chain| places.add_chain(chain));
    places
}

fn level(arguments: &Arguments) -> LogLevel {
    match arguments {
        Arguments { quiet: true, .. } => LogLevel::Error,
        Arguments { verbose: 0, .. } => LogLevel::Warn,
        Arguments { verbose: 1, .. } => LogLevel::Debug,
        _ => LogLevel::Trace,
    }
}

/// The lines on standard output that others wait for.
fn announce(engine: &Engine, log: &Log) {
    let lines: String = engine.urls().iter().map(|url| format!("listening {url}\n")).collect();
    if let Err(failure) = output::print(lines) {
        log.emit(LogLevel::Warn, "", format_args!("{}; serving all the same", failure.text()));
    }
}

fn describe(engine: &Engine, config: &Config, is_verbose: bool, log: &Log) {
    let listeners = engine.listeners();
    let text = format_args!(
        "serving: version {}, listeners {}, threads {}, backend {}, chain {:?}",
        resay::VERSION,
        listeners.len(),
        config.threads,
        config.backend,
        config.chain,
    );
    log.emit(LogLevel::Info, "", text);
    if let Some(path) = &config.control {
        log.emit(LogLevel::Info, "", format_args!("control socket {}", path.display()));
    }
    if !is_verbose {
        return;
    }
    for listener in listeners {
        let options: String =
            listener.effective.iter().map(|(key, value)| format!(", {key}={value}")).collect();
        log.emit(LogLevel::Info, &listener.url, format_args!("chain {:?}{options}", listener.chain));
    }
}

/// What concerns the whole service.
#[derive(Debug)]
enum Word {
    Signal(i32),
    Order(Order, Waiter),
    /// There is no worker any more.
    Ended,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Serving,
    /// It is to drain then.
    LameDuck {
        until: Option<Instant>,
    },
    Draining {
        until: Option<Instant>,
    },
    Stopping {
        until: Option<Instant>,
    },
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Drained,
    /// What was not done in time was cut off.
    CutOff {
        connections: u64,
        bytes: u64,
    },
    Stopped,
    /// A worker, or a transform that is being created, did not end in time, and was left.
    Overdue,
}

impl End {
    /// What whoever gave this order is told.
    fn answer_to(self, order: &Order) -> Result<&'static str, Failure> {
        match (self, order) {
            (End::Drained, _) => Ok("drained"),
            (End::Stopped | End::CutOff { .. }, Order::Stop | Order::HandedOver) => Ok("stopped"),
            (End::Stopped, Order::Drain { .. }) => {
                Err(Failure::new(Exit::Broken, "the server was stopped before it had drained"))
            }
            (End::CutOff { connections, bytes }, Order::Drain { .. }) => {
                Err(Failure::new(Exit::Timeout, not_in_time(connections, bytes)))
            }
            (End::Overdue, _) => Err(Failure::new(
                Exit::Timeout,
                "the server did not end in time; what was left of it has been cut off",
            )),
        }
    }
}

fn not_in_time(connections: u64, bytes: u64) -> String {
    format!(
        "drained, but not all in time: {connections} connections were cut off, {bytes} bytes of answers were not \
         delivered"
    )
}

/// From serving to the end.
struct Service {
    engine: Arc<Engine>,
    /// Where there is a configuration file.
    reloader: Option<Arc<Reloader>>,
    /// Where there is none.
    times: EndTimes,
    log: Log,
    notifier: Notifier,
    /// Bytes and connections that were lost before draining began.
    lost_before: Arc<Mutex<(u64, u64)>>,
}

impl Service {
    fn run(&self, heard: &Receiver<Word>, waiters: &mut Vec<(Order, Waiter)>) -> Result<End, Failure> {
        let mut phase = Phase::Serving;
        loop {
            let word = match phase {
                Phase::LameDuck { until: Some(until) }
                | Phase::Draining { until: Some(until) }
                | Phase::Stopping { until: Some(until) } => {
                    heard.recv_timeout(until.saturating_duration_since(Instant::now())).ok()
                }
                _ => heard.recv().ok(),
            };
            match (word, phase) {
                (None, Phase::LameDuck { .. }) => {
                    phase = self.drain("the time is over", self.times().drain_timeout)?;
                }
                (None, _) => {
                    self.log.emit(LogLevel::Error, "", "not all has ended in time; leaving what is left");
                    return Ok(End::Overdue);
                }
                (Some(Word::Ended), phase) => return self.ended(phase),
                (Some(Word::Signal(SIGHUP)), _) => {
                    self.reload()?;
                }
                (Some(Word::Signal(signal)), Phase::Serving) => {
                    let name = if signal == SIGINT { "SIGINT" } else { "SIGTERM" };
                    let times = self.times();
                    phase = if times.lame_duck.is_zero() {
                        self.drain(name, times.drain_timeout)?
                    } else {
                        self.begin_lame_duck(name, times)
                    };
                }
                (Some(Word::Signal(_)), Phase::LameDuck { .. }) => {
                    phase = self.drain("another signal", self.times().drain_timeout)?;
                }
                (Some(Word::Signal(_)), Phase::Draining { .. }) => {
                    self.emit("another signal: ending at once");
                    phase = self.stop();
                }
                (Some(Word::Signal(_)), Phase::Stopping { .. }) => {}
                (Some(Word::Order(_, waiter)), _) if waiters.len() == WAITERS_MAX => {
                    let text = format!("{WAITERS_MAX} wait for the end of this server already");
                    waiter.answer(Err(Failure::new(Exit::Unreachable, text)));
                }
                (Some(Word::Order(order, waiter)), _) => {
                    match (&order, phase) {
                        (Order::Drain { within }, Phase::Serving | Phase::LameDuck { .. }) => {
                            phase = self.drain("control socket", *within)?;
                        }
                        (Order::HandedOver, Phase::Serving | Phase::LameDuck { .. }) => {
                            phase = self.begin_end_after_handover();
                        }
                        (Order::Stop, Phase::Serving | Phase::LameDuck { .. } | Phase::Draining { .. }) => {
                            self.emit("control socket: ending at once");
                            phase = self.stop();
                        }
                        // It is under way.
                        _ => {}
                    }
                    waiters.push((order, waiter));
                }
            }
        }
    }

    /// Brings signals, and the end of the workers, to where they are heard.
    fn watch(&self, mut signals: Signals, words: Sender<Word>) -> Result<(), Failure> {
        let (engine, ended) = (Arc::clone(&self.engine), words.clone());
        spawn("watch", move || {
            // So long a wait does not end early.
            let _ = engine.join(Duration::MAX);
            let _ = ended.send(Word::Ended);
        })?;
        spawn("signals", move || {
            for signal in signals.forever() {
                let _ = words.send(Word::Signal(signal));
            }
        })
    }

    /// Reads the configuration file again, if there is one.
    fn reload(&self) -> Result<(), Failure> {
        match &self.reloader {
            Some(reloader) => reloader.request(&self.engine, &self.log).map_err(no_thread),
            None => {
                self.emit("SIGHUP: there is no configuration file to read again");
                Ok(())
            }
        }
    }

    /// What the configuration says of the end, now.
    fn times(&self) -> EndTimes {
        self.reloader.as_ref().map_or(self.times, |reloader| reloader.times())
    }

    /// Goes on serving, so that whoever sends clients here finds out first that this server ends.
    fn begin_lame_duck(&self, why: &str, times: EndTimes) -> Phase {
        let EndTimes { lame_duck, drain_timeout } = times;
        self.emit(format_args!(
            "{why}: still serving for {lame_duck:?}, then draining; a signal drains at once"
        ));
        self.notifier
            .ending(Health::LameDuck, lame_duck.saturating_add(drain_timeout).saturating_add(DRAIN_GRACE));
        Phase::LameDuck { until: Instant::now().checked_add(lame_duck) }
    }

    /// Another server has the sockets: the connections have a moment, as in a lame duck.
    fn begin_end_after_handover(&self) -> Phase {
        self.emit("handed over to another server: connections go on for a moment, then draining");
        let within = self.times().drain_timeout.saturating_add(takeover::GRACE).saturating_add(DRAIN_GRACE);
        self.notifier.ending(Health::LameDuck, within);
        Phase::LameDuck { until: Instant::now().checked_add(takeover::GRACE) }
    }

    /// Begins to drain.
    fn drain(&self, why: &str, within: Duration) -> Result<Phase, Failure> {
        self.emit(format_args!("{why}: draining, at most {within:?}; a signal ends it at once"));
        self.notifier.ending(Health::Draining, within.saturating_add(DRAIN_GRACE));
        let (engine, before) = (Arc::clone(&self.engine), Arc::clone(&self.lost_before));
        spawn("drain", move || {
            *before.lock().unwrap_or_else(PoisonError::into_inner) = lost(&engine.stats());
            // Its end is heard of as the end of the workers, and if that does not come, the time is kept here too.
            let _ = engine.drain(within);
        })?;
        Ok(Phase::Draining { until: Instant::now().checked_add(within + DRAIN_GRACE) })
    }

    /// Begins to end at once.
    fn stop(&self) -> Phase {
        self.notifier.ending(Health::Stopping, LAST_WAIT);
        self.engine.stop();
        Phase::Stopping { until: Some(Instant::now() + LAST_WAIT) }
    }

    /// The last worker has ended.
    fn ended(&self, phase: Phase) -> Result<End, Failure> {
        match phase {
            Phase::Serving | Phase::LameDuck { .. } => {
                return Err(Failure::new(Exit::Broken, "every worker has ended"));
            }
            Phase::Stopping { .. } => return Ok(End::Stopped),
            Phase::Draining { .. } => {}
        }
        let stats = self.engine.stats();
        let (bytes, connections) = lost(&stats);
        let before = *self.lost_before.lock().unwrap_or_else(PoisonError::into_inner);
        let (bytes, connections) = (bytes.saturating_sub(before.0), connections.saturating_sub(before.1));
        if bytes + connections == 0 {
            self.emit("drained");
            return Ok(End::Drained);
        }
        self.log.emit(LogLevel::Warn, "", not_in_time(connections, bytes));
        Ok(End::CutOff { connections, bytes })
    }

    fn emit(&self, text: impl Display) {
        self.log.emit(LogLevel::Info, "", text);
    }
}

/// Bytes that were not delivered, and connections that were cut off.
fn lost(stats: &Stats) -> (u64, u64) {
    (stats.undelivered_bytes, stats.closed_by(CloseReason::CutOff))
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop).map_err(no_thread)
}

fn no_thread(error: io::Error) -> Failure {
    Failure::new(Exit::Unreachable, format!("start a thread: {error}"))
}

fn emit_totals(stats: &Stats, counters: &[(String, u64)], log: &Log) {
    let emit = |text: String| log.emit(LogLevel::Info, "", text);
    emit(format!(
        "totals: messages in {}, out {}, dropped {}; bytes in {}, out {}, undelivered {}",
        stats.messages_in,
        stats.messages_out,
        stats.dropped,
        stats.bytes_in,
        stats.bytes_out,
        stats.undelivered_bytes,
    ));
    emit(format!(
        "totals: connections accepted {}, closed {}, open {}, rejected {}; accept errors {}, \
         transform errors {}",
        stats.accepted, stats.closed, stats.open, stats.rejected, stats.accept_errors, stats.transform_errors,
    ));
    let closed = CloseReason::ALL.map(|reason| (reason.to_string(), stats.closed_by(reason)));
    let dropped = DropReason::ALL.map(|reason| (reason.to_string(), stats.dropped_by(reason)));
    for (what, reasons) in [("connections closed", closed.as_slice()), ("messages dropped", &dropped)] {
        for (reason, count) in reasons.iter().filter(|(_, count)| *count > 0) {
            emit(format!("totals: {what}: {reason}: {count}"));
        }
    }
    for (name, count) in counters {
        emit(format!("totals: {name}: {count}"));
    }
}
