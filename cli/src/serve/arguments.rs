//! What `resay serve` is told: its arguments, and what they come to.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};
use resay::net::address::Listen;
use resay::options::{parse_duration, parse_size};
use resay::{Builder, Engine, Handed, LogLevel, Options};

use crate::config::place::{Document, TopMarks};
use crate::config::settings::Config;
use crate::exit::Failure;
use crate::help;
use crate::log::Format;
use crate::metrics::place::Place;

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
    pub(super) transform: String,
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
    pub(super) verbose: u8,
    /// Log errors only
    #[arg(short, long)]
    pub(super) quiet: bool,
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
    pub(super) takeover: Option<PathBuf>,
    /// Take listeners and settings from a TOML file, in place of URLs and of the options above; SIGHUP and
    /// `resay ctl reload` read it again
    #[arg(long, value_name = "FILE", conflicts_with_all = SETTINGS)]
    pub(super) config: Option<PathBuf>,
    /// Only say what is wrong with the file
    #[arg(long, requires = "config", conflicts_with = "diff")]
    pub(super) check: bool,
    /// Only print what a reload would change in the server that runs with this file's control socket; exit with status 1
    /// if that is something
    #[arg(long, requires = "config")]
    pub(super) diff: bool,
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

impl Arguments {
    /// What a file would say that says the same, apart from listeners.
    pub(super) fn config(&self) -> Result<Config, Failure> {
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
            document: Document::default(),
            marks: TopMarks::default(),
        })
    }

    /// What the log is to say.
    pub(super) fn log_level(&self) -> LogLevel {
        match self {
            Arguments { quiet: true, .. } => LogLevel::Error,
            Arguments { verbose: 0, .. } => LogLevel::Warn,
            Arguments { verbose: 1, .. } => LogLevel::Debug,
            _ => LogLevel::Trace,
        }
    }

    /// An engine with the listeners, to be started.
    pub(super) fn build(&self, mut builder: Builder, handed: &mut Vec<Handed>) -> Result<Engine, Failure> {
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
