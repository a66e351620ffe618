//! `resay serve`: the engine as a service.
//!
//! The calling thread waits for signals. A thread beside it waits for the workers, and ends the waiting for
//! signals when they have ended; a third one drains, so that a second signal is heard meanwhile.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use clap::{ArgAction, Args};
use resay::options::parse_duration;
use resay::{Backend, CloseReason, DropReason, Engine, Level, Options, Stats};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::exit::{Exit, Failure};
use crate::help;
use crate::log::{Format, Log};
use crate::plugin;

/// Listen and answer
///
/// When every listener answers, one line for each is printed on standard output, with the real port:
/// `listening tcp://127.0.0.1:43121`. Nothing else is printed there; the log goes to standard error.
///
/// SIGTERM or SIGINT stops listening, answers what has arrived, ends every connection and exits 0; a second
/// one ends at once, and exits 0 too. SIGHUP changes nothing: there is no configuration file to read again.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = long_help())]
pub(crate) struct Arguments {
    /// Where to listen, for example tcp://127.0.0.1:8888 or unix:/tmp/e.sock
    #[arg(required = true, value_name = "URL")]
    urls: Vec<String>,
    /// The transforms that every message goes through, for example 'uppercase | identity'
    #[arg(short, long, value_name = "CHAIN", default_value = "", hide_default_value = true)]
    transform: String,
    /// Set an option of all listeners that do not say otherwise; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// How many threads share the connections
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: usize,
    /// The kernel interface: auto, uring or epoll
    #[arg(long, value_name = "BACKEND", default_value = "auto")]
    backend: String,
    /// Look for plugins here, before RESAY_PLUGIN_PATH; may be given several times
    #[arg(long = "plugin-dir", value_name = "DIR")]
    plugin_directories: Vec<PathBuf>,
    /// The form of the log on standard error
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log: Format,
    /// Log each connection and what became of the options; twice: each step
    #[arg(short, long, action = ArgAction::Count, conflicts_with = "quiet")]
    verbose: u8,
    /// Log errors only
    #[arg(short, long)]
    quiet: bool,
    /// How long draining may take; what is not answered by then is cut off
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    drain_timeout: Duration,
}

const EXAMPLES: &str = "\
Examples:
  resay serve tcp://127.0.0.1:8888 -t uppercase
  resay serve tcp://127.0.0.1:0 udp://127.0.0.1:0 unix:/tmp/e.sock
  resay serve tcp://127.0.0.1:8888 -t 'uppercase | identity' --set frame=lines
  resay serve 'tcp://:8888?idle_timeout=30s' --threads 4 --log json -v";

fn long_help() -> String {
    [EXAMPLES, help::URLS, &help::options(), help::CHAINS, help::STATUSES].join("\n\n")
}

/// How long to wait for the last lines of the log, and for workers that were told to stop.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let system = |what: &'static str| {
        move |error: io::Error| Failure::new(Exit::Unreachable, format!("{what}: {error}"))
    };
    // Before anything listens, so that no signal finds the way of the system's default.
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(system("handle signals"))?;
    let log = Log::start(arguments.log, arguments.quiet).map_err(system("start the log's thread"))?;
    let result = serve(arguments, signals, &log);
    log.flush(LAST_WAIT);
    result
}

fn serve(arguments: &Arguments, signals: Signals, log: &Log) -> Result<Exit, Failure> {
    let engine = Arc::new(start(arguments, log)?);
    announce(&engine, log);
    describe(&engine, arguments, log);
    let service = Service { engine: Arc::clone(&engine), log: log.clone(), handle: signals.handle() };
    let exit = service.wait(signals, arguments.drain_timeout)?;
    if level(arguments) >= Level::Debug {
        tell_totals(&engine.stats(), &engine.transform_counters(), log);
    }
    Ok(exit)
}

fn start(arguments: &Arguments, log: &Log) -> Result<Engine, Failure> {
    let backend: Backend = arguments.backend.parse()?;
    plugin::check_directories(&arguments.plugin_directories)?;
    let events = log.clone();
    let mut builder = Engine::builder()
        .threads(arguments.threads)?
        .backend(backend)
        .chain(&arguments.transform)?
        .on_event(level(arguments), move |event| events.event(event));
    for pair in &arguments.set {
        // On its own first: this finds a pair that is none.
        Options::default().set_pair(pair)?;
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        builder = builder.set(key, value)?;
    }
    for url in &arguments.urls {
        builder = builder.listen(url)?;
    }
    for directory in &arguments.plugin_directories {
        builder = builder.plugin_dir(directory);
    }
    Ok(builder.start()?)
}

fn level(arguments: &Arguments) -> Level {
    match arguments {
        Arguments { quiet: true, .. } => Level::Error,
        Arguments { verbose: 0, .. } => Level::Warn,
        Arguments { verbose: 1, .. } => Level::Debug,
        _ => Level::Trace,
    }
}

/// The lines on standard output that others wait for.
fn announce(engine: &Engine, log: &Log) {
    let lines: String = engine.urls().iter().map(|url| format!("listening {url}\n")).collect();
    let mut output = io::stdout().lock();
    if let Err(error) = output.write_all(lines.as_bytes()).and_then(|()| output.flush()) {
        log.say(Level::Warn, "", format_args!("standard output: {error}; serving all the same"));
    }
}

fn describe(engine: &Engine, arguments: &Arguments, log: &Log) {
    let listeners = engine.listeners();
    let text = format_args!(
        "serving: version {}, listeners {}, threads {}, backend {}, chain {:?}",
        resay::VERSION,
        listeners.len(),
        arguments.threads,
        arguments.backend,
        arguments.transform,
    );
    log.say(Level::Info, "", text);
    if arguments.verbose == 0 {
        return;
    }
    for listener in listeners {
        let options: String =
            listener.effective.iter().map(|(key, value)| format!(", {key}={value}")).collect();
        log.say(Level::Info, &listener.url, format_args!("chain {:?}{options}", listener.chain));
    }
}

/// From serving to the end.
struct Service {
    engine: Arc<Engine>,
    log: Log,
    /// Closing it ends the waiting for signals.
    handle: Handle,
}

impl Service {
    fn wait(&self, mut signals: Signals, drain_timeout: Duration) -> Result<Exit, Failure> {
        self.watch()?;
        let mut draining = false;
        let mut undelivered_before = 0;
        for signal in signals.forever() {
            match signal {
                SIGHUP => self.say("SIGHUP: there is no configuration file to read again"),
                _ if draining => {
                    self.say("another signal: ending at once");
                    return Ok(self.stop());
                }
                _ => {
                    draining = true;
                    undelivered_before = self.engine.stats().undelivered_bytes;
                    let name = if signal == SIGINT { "SIGINT" } else { "SIGTERM" };
                    self.say(format_args!(
                        "{name}: draining, at most {drain_timeout:?}; another one ends at once"
                    ));
                    self.drain(drain_timeout)?;
                }
            }
        }
        if !draining {
            return Err(Failure::new(Exit::Broken, "every worker has ended"));
        }
        let lost = self.engine.stats().undelivered_bytes.saturating_sub(undelivered_before);
        match lost {
            // What is left has been told.
            _ if self.engine.join(Duration::ZERO).is_err() => {}
            0 => self.say("drained"),
            _ => self.log.say(
                Level::Warn,
                "",
                format_args!("drained; {lost} bytes were not delivered in time"),
            ),
        }
        Ok(Exit::Done)
    }

    /// Ends the waiting for signals when there is no worker left.
    fn watch(&self) -> Result<(), Failure> {
        let (engine, handle) = (Arc::clone(&self.engine), self.handle.clone());
        spawn("watch", move || {
            // So long a wait does not end early.
            let _ = engine.join(Duration::MAX);
            handle.close();
        })
    }

    /// Begins to drain. If a worker does not keep the time, the waiting ends without it.
    fn drain(&self, within: Duration) -> Result<(), Failure> {
        let (engine, log, handle) = (Arc::clone(&self.engine), self.log.clone(), self.handle.clone());
        spawn("drain", move || {
            if let Err(error) = engine.drain(within) {
                log.say(Level::Error, "", format_args!("draining: {error}; leaving what is left"));
                handle.close();
            }
        })
    }

    fn stop(&self) -> Exit {
        self.engine.stop();
        if let Err(error) = self.engine.join(LAST_WAIT) {
            self.log.say(Level::Error, "", format_args!("stopping: {error}; leaving what is left"));
        }
        Exit::Done
    }

    fn say(&self, text: impl Display) {
        self.log.say(Level::Info, "", text);
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(work);
    spawned.map(drop).map_err(|error| Failure::new(Exit::Unreachable, format!("start a thread: {error}")))
}

fn tell_totals(stats: &Stats, counters: &[(String, u64)], log: &Log) {
    let say = |text: String| log.say(Level::Info, "", text);
    say(format!(
        "totals: messages in {}, out {}, dropped {}; bytes in {}, out {}, undelivered {}",
        stats.messages_in,
        stats.messages_out,
        stats.dropped,
        stats.bytes_in,
        stats.bytes_out,
        stats.undelivered_bytes,
    ));
    say(format!(
        "totals: connections accepted {}, closed {}, open {}, rejected {}; accept errors {}, \
         transform errors {}",
        stats.accepted, stats.closed, stats.open, stats.rejected, stats.accept_errors, stats.transform_errors,
    ));
    let closed = CloseReason::ALL.map(|reason| (reason.name(), stats.closed_by(reason)));
    let dropped = DropReason::ALL.map(|reason| (reason.name(), stats.dropped_by(reason)));
    for (what, reasons) in [("connections closed", closed.as_slice()), ("messages dropped", &dropped)] {
        for (reason, count) in reasons.iter().filter(|(_, count)| *count > 0) {
            say(format!("totals: {what}: {reason}: {count}"));
        }
    }
    for (name, count) in counters {
        say(format!("totals: {name}: {count}"));
    }
}
