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

mod arguments;
mod end;

use std::io;
use std::path::Path;
use std::sync::{Arc, mpsc};

use resay::{Engine, LogLevel};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

pub(crate) use self::arguments::Arguments;
use self::end::{End, LAST_WAIT, Service, Word, emit_totals, no_thread};
use crate::config::settings::Config;
use crate::config::{command, read};
use crate::control::{Belongings, Control, Order, Rights, Waiter};
use crate::exit::{Exit, Failure, Unopened};
use crate::log::Log;
use crate::metrics::Metrics;
use crate::metrics::place::Place;
use crate::metrics::source::Source;
use crate::notify::Notifier;
use crate::reload::{self, EndTimes, Reloader};
use crate::sandbox::{self, Places};
use crate::takeover::Takeover;
use crate::{output, signals, start};

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
    let builder = config.builder()?.on_event(arguments.log_level(), move |event| events.event(event));
    let (engine, reloader) = match file {
        Some(file) => {
            let (engine, reloader) = Reloader::open(file, config, builder, notifier, handed)?;
            (engine, Some(Arc::new(reloader)))
        }
        None => (arguments.build(builder, handed)?, None),
    };
    if let Some(takeover) = &takeover {
        control_all.expect_of(takeover)?;
        control_read.expect_of(takeover)?;
        metrics.expect_of(takeover)?;
    }
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
    let announced = announce(&engine, log);
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
        Order::HandedOver => waiter.answer_with_figures(&engine),
        order => waiter.answer(end.answer_to(order)),
    });
    if end == End::Overdue {
        // Said already.
        return Ok(Exit::Timeout);
    }
    if arguments.log_level() >= LogLevel::Debug {
        emit_totals(&engine.stats(), &engine.transform_counters(), log);
    }
    // What was cut off, or lost, is said already.
    Ok(if matches!(end, End::CutOff { .. }) { Exit::Timeout } else { announced })
}

/// Something that is open, or that another server still has.
enum Opened<'a, P: ?Sized, T> {
    Not,
    Open(T),
    Later(&'a P, Unopened),
}

/// Opens what is asked for; with `is_late`, what somebody else has now is left for later.
fn early<'a, P: ?Sized, T>(
    is_late: bool,
    place: Option<&'a P>,
    open: impl FnOnce(&P) -> Result<T, Unopened>,
) -> Result<Opened<'a, P, T>, Failure> {
    let Some(place) = place else { return Ok(Opened::Not) };
    match open(place) {
        Ok(opened) => Ok(Opened::Open(opened)),
        Err(unopened) if is_late && unopened.is_in_use => Ok(Opened::Later(place, unopened)),
        Err(unopened) => Err(unopened.failure),
    }
}

impl<P: ?Sized, T> Opened<'_, P, T> {
    /// Fails where what was left is not the old server's to give up.
    fn expect_of(&mut self, takeover: &Takeover) -> Result<(), Failure> {
        match std::mem::replace(self, Opened::Not) {
            Opened::Later(_, unopened) if !takeover.frees(&unopened.address) => return Err(unopened.failure),
            opened => *self = opened,
        }
        Ok(())
    }

    /// Opens what was left. If that fails the server does without: it has the other one's clients already.
    fn or_late(&mut self, open: impl FnOnce(&P) -> Result<T, Unopened>, log: &Log) {
        let Opened::Later(place, _) = *self else { return };
        *self = match open(place) {
            Ok(opened) => Opened::Open(opened),
            Err(unopened) => {
                log.emit(LogLevel::Error, "", format_args!("{}; serving without", unopened.failure.text()));
                Opened::Not
            }
        };
    }

    fn take(self) -> Option<T> {
        match self {
            Opened::Open(opened) => Some(opened),
            Opened::Not | Opened::Later(..) => None,
        }
    }
}

/// Where the server has business from now on.
fn places(arguments: &Arguments, config: &Config, file: Option<&Path>, engine: &Engine) -> Places {
    let mut places = Places::new(file, &config.plugin_dirs);
    let metrics = config.metrics.as_ref().and_then(Place::file);
    let beside = [config.control.as_deref(), config.control_read.as_deref(), metrics];
    beside.into_iter().flatten().for_each(|path| places.add_socket(path));
    engine.listeners().iter().for_each(|listener| {
        places.add_listener(&listener.url);
        places.add_chain(&listener.chain);
    });
    [&config.chain, &arguments.transform].into_iter().for_each(|chain| places.add_chain(chain));
    places
}

/// The lines on standard output that others wait for: how a server ends that has nothing else to say. Lines that are lost are no
/// success, but no reason to leave those who are served; without a standard output, or a reader, nobody has missed any.
fn announce(engine: &Engine, log: &Log) -> Exit {
    let lines: String = engine.urls().iter().map(|url| format!("listening {url}\n")).collect();
    let Err(failure) = output::print(lines) else { return Exit::Done };
    log.emit(LogLevel::Warn, "", format_args!("{}; serving all the same", failure.text()));
    let is_lost = start::has_stdout() && failure.exit != Exit::Unread;
    if is_lost { failure.exit } else { Exit::Done }
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
