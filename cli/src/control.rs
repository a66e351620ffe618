//! `resay serve --control`: a unix socket on which a running server is asked about itself and told what to do.
//!
//! A client connects, sends one line and reads until the end; `resay ctl` does, and so can
//! `echo stats | nc -U PATH`. All is UTF-8:
//!
//! ```text
//! request = line                       at most 65,536 bytes, and all of it within 2 s (module `request`)
//!   stats | connections | listeners    a report about each (module `report`)
//!   connections COUNT                  so many of them, the slowest first: most waits for them, or they are silent longest
//!   config                             the configuration that holds, with what was changed since (module `config::snapshot`)
//!   watch [KIND,KIND...]               events as they happen (module `stream`), all kinds or these
//!   health                             what `/readyz` says: whether new work is welcome
//!   health fail | health ok            say that it is not, or no longer
//!   reload                             read the configuration file again; answered when that is done
//!   tap NUMBER COUNT BYTES             what becomes of messages of that listener, or with 0 of all, as it happens:
//!                                      COUNT records, or with 0 without an end; BYTES of each message and answer
//!   listen URL                         add a listener; the answer is an element of that of `listeners`
//!   set NUMBER KEY VALUE               change an option of that listener, for those who come from now on
//!   close NUMBER | close NUMBER reset  end that connection in good order, or at once
//!   chain NUMBER SPEC                  swap the chain of that listener, or with 0 the engine's; the answer is
//!                                      that of `listeners`
//!   drain DURATION                     as SIGTERM with that time; answered when it is over
//!   stop                               end at once; answered when it is over
//!   handover 1                         give the sockets to another server (module `takeover`)
//! answer  = "ok" newline JSON newline  of `watch` and `tap` any number of lines, until the client ends
//!         / "error " CODE " " MESSAGE newline *( line newline )
//! ```
//!
//! CODE is the status with which `resay ctl` is to exit, and the lines explain the message. The server ends an answer
//! by closing the connection; for `drain` and `stop` its process ends with that, so that everything it had is free.
//!
//! ```text
//! clients ──> kernel's queue ──> a few threads: read, ask the engine, answer
//!                                  ├─ watch, tap ──> a thread for each, of which there are few
//!                                  └─ drain, stop ──> the service, which answers when it ends
//! ```
//!
//! The socket of `--control-read` refuses what changes something, and `tap`, which shows what peers say.

mod change;
pub(crate) mod report;
mod request;
mod stream;
mod wire;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io::{self, Read};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use resay::net::address::{Address, UnixKind, UnixName};
use resay::net::unix_file::SocketFile;
use resay::{Engine, ListenerId, LogLevel};
use rustix::net::{AddressFamily, SocketFlags, SocketType, listen, socket_with};

use crate::deadline::Deadline;
use crate::exit::{Exit, Failure, Unopened};
use crate::health::{Health, Readiness};
use crate::lock::lock;
use crate::log::{Log, escape_into};
use crate::reload::Reloader;
use crate::takeover;
use crate::{output, sandbox};
use report::{Connection, Connections, Ended, HealthReport, Listener, Stats};
use request::Request;
use stream::Streams;
use wire::write_all;

/// Reading and writing for the owner, nothing for anybody else; connecting takes the right to write (unix(7)).
const MODE: u32 = 0o600;
/// The same for the owner's group.
const READ_MODE: u32 = 0o660;
/// Clients that may wait to be accepted.
const BACKLOG: i32 = 16;
/// Clients that are served at once. The others wait in the kernel's queue, and none for longer than
/// `REQUEST_LIMIT` and `wire::ANSWER_LIMIT` allow.
const THREADS: usize = 4;
const REQUEST_BYTES_MAX: usize = 64 * 1024;
const REQUEST_LIMIT: Duration = Duration::from_secs(2);
/// How long workers may take to list their connections.
const LIST_PATIENCE: Duration = Duration::from_secs(1);
/// How long accepting rests after a failure: descriptors or memory have run out.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What a client wants of the whole service.
#[derive(Debug)]
pub(crate) enum Order {
    Drain {
        within: Duration,
    },
    Stop,
    /// Another server has the sockets: end when the connections have had their time.
    HandedOver,
}

/// What the clients of a socket may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rights {
    All,
    /// Nothing that changes anything, or shows what peers say.
    Reading,
}

/// A control socket that listens, and that nobody serves yet. Its file goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Control {
    rights: Rights,
    // Before the socket, which keeps it from being mistaken for another.
    file: Option<SocketFile>,
    listener: Arc<UnixListener>,
    address: Address,
}

/// What a server has beside its listeners, and another may want: files and addresses, given up when they are dropped, with the
/// address of each. Clones are the same.
#[derive(Clone)]
pub(crate) struct Belongings(Arc<Mutex<Owned>>);

/// `None`: they have been given up.
type Owned = Option<Vec<(Address, Box<dyn Send>)>>;

impl Belongings {
    pub(crate) fn add(&self, address: Address, one: impl Send + 'static) {
        // Whoever comes when all was given up has come too late.
        if let Some(all) = lock(&self.0).as_mut() {
            all.push((address, Box::new(one)));
        }
    }

    pub(crate) fn give_up(&self) {
        drop(lock(&self.0).take());
    }
}

impl Default for Belongings {
    fn default() -> Belongings {
        Belongings(Arc::new(Mutex::new(Some(Vec::new()))))
    }
}

impl fmt::Debug for Belongings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Belongings").finish_non_exhaustive()
    }
}

impl Control {
    pub(crate) fn open(path: &Path, rights: Rights) -> Result<Control, Unopened> {
        let (mode, option) = match rights {
            Rights::All => (MODE, "control"),
            Rights::Reading => (READ_MODE, "control-read"),
        };
        let (file, listener) = open(path, mode).map_err(|error| {
            // The one thing that is wrong with the path itself.
            let exit =
                if error.kind() == io::ErrorKind::InvalidFilename { Exit::Usage } else { Exit::Unreachable };
            let failure = Failure::new(exit, format!("--{option} {}: {error}", path.display()));
            Unopened {
                is_in_use: error.kind() == io::ErrorKind::AddrInUse,
                address: address_of(path),
                failure,
            }
        })?;
        Ok(Control { rights, file: Some(file), listener: Arc::new(listener), address: address_of(path) })
    }

    /// Serves on threads of its own, which end with the process. `order` is told what concerns the whole service. The file
    /// becomes one of the belongings.
    pub(crate) fn serve<F>(
        mut self,
        engine: &Arc<Engine>,
        reloader: Option<&Arc<Reloader>>,
        readiness: &Readiness,
        log: &Log,
        belongings: &Belongings,
        order: F,
    ) -> io::Result<()>
    where
        F: Fn(Order, Waiter) + Clone + Send + 'static,
    {
        if let Some(file) = self.file.take() {
            belongings.add(self.address, file);
        }
        let started = Instant::now();
        let streams = Streams::default();
        let name = if self.rights == Rights::All { "control" } else { "control-read" };
        for number in 0..THREADS {
            let (listener, order) = (Arc::clone(&self.listener), order.clone());
            let acceptor = Acceptor {
                engine: Arc::clone(engine),
                reloader: reloader.cloned(),
                readiness: readiness.clone(),
                log: log.clone(),
                belongings: belongings.clone(),
                started,
                rights: self.rights,
                streams: streams.clone(),
            };
            thread::Builder::new()
                .name(format!("{name}-{number}"))
                .spawn(move || acceptor.accept_for_ever(&listener, order))?;
        }
        Ok(())
    }
}

/// Another process may have another working directory.
fn address_of(path: &Path) -> Address {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    Address::Unix { kind: UnixKind::Stream, name: UnixName::Path(path) }
}

fn open(path: &Path, mode: u32) -> io::Result<(SocketFile, UnixListener)> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let file = SocketFile::bind(&socket, path, Some(mode))?;
    listen(&socket, BACKLOG)?;
    Ok((file, UnixListener::from(socket)))
}

/// A client that is answered when the service ends.
#[derive(Debug)]
pub(crate) struct Waiter {
    client: UnixStream,
}

impl Waiter {
    /// The last figures, for the server that goes on.
    pub(crate) fn answer_with_figures(&self, engine: &Engine) {
        let _ = write_answer(&self.client, "", takeover::last_figures(engine));
    }

    /// Answers, and leaves the connection open: its end is the process's.
    pub(crate) fn answer(&self, ended: Result<&str, Failure>) {
        let answer = ended.and_then(|ended| output::json(&Ended { ended: ended.to_owned() }));
        // The client may be gone; a few bytes do not wait for it.
        let _ = write_answer(&self.client, "", answer);
    }
}

/// Where one client at a time is served.
#[derive(Debug)]
struct Acceptor {
    engine: Arc<Engine>,
    /// Where there is a configuration file.
    reloader: Option<Arc<Reloader>>,
    readiness: Readiness,
    log: Log,
    belongings: Belongings,
    started: Instant,
    rights: Rights,
    /// What goes on after it was answered.
    streams: Streams,
}

impl Acceptor {
    fn accept_for_ever(&self, listener: &UnixListener, order: impl Fn(Order, Waiter)) {
        let mut failing = false;
        loop {
            match listener.accept() {
                Ok((client, _)) => {
                    failing = false;
                    self.serve(client, &order);
                }
                Err(error) => {
                    if !failing {
                        self.log.emit(LogLevel::Warn, "", format_args!("control socket: accept: {error}"));
                    }
                    failing = true;
                    thread::sleep(ACCEPT_RETRY);
                }
            }
        }
    }

    fn serve(&self, client: UnixStream, order: &impl Fn(Order, Waiter)) {
        let request = match read_line(&client) {
            // Somebody looked whether anybody is here.
            Ok(None) => return,
            Ok(Some(line)) => line.parse().and_then(|request| self.permit(request)),
            Err(failure) => Err(failure),
        };
        let is_chain = matches!(request, Ok(Request::Chain { .. } | Request::Reload));
        let answer = match request {
            Ok(Request::Drain { within }) => return order(Order::Drain { within }, Waiter { client }),
            Ok(Request::Stop) => return order(Order::Stop, Waiter { client }),
            Ok(Request::HandOver) => match self.hand_over(&client) {
                Ok(()) => return order(Order::HandedOver, Waiter { client }),
                Err(failure) => Err(failure),
            },
            Ok(Request::Watch { kinds }) => match self.streams.watch(&client, kinds, self.names_of_streams())
            {
                Ok(()) => return,
                Err(failure) => Err(failure),
            },
            Ok(Request::Tap { listener, count, bytes }) => {
                match self.streams.tap(&client, listener, count, bytes, self.names_of_streams()) {
                    Ok(()) => return,
                    Err(failure) => Err(failure),
                }
            }
            Ok(Request::Listen { url }) => self.listen(&url),
            Ok(Request::Set { listener, key, value }) => self.set(listener, &key, &value),
            Ok(Request::Close { connection, is_reset }) => self.close(connection, is_reset),
            Ok(Request::Stats) => {
                let (health, uptime) = (self.readiness.get(), self.started.elapsed());
                output::json(&Stats::of(&self.engine, health, uptime, &self.names()))
            }
            Ok(Request::Connections { most }) => self.connections(most),
            Ok(Request::Listeners) => self.listeners(),
            Ok(Request::Config) => {
                self.reloader().and_then(|reloader| output::json(&reloader.snapshot(&self.engine)))
            }
            Ok(Request::Health { is_failed }) => self.health(is_failed),
            Ok(Request::Reload) => self.reload(),
            Ok(Request::Chain { listener, spec }) => self.set_chain(listener, &spec),
            Err(failure) => Err(failure),
        };
        let warnings = if is_chain && answer.is_ok() { overwritten_warnings() } else { String::new() };
        // The client may be gone, or take nothing in time; that is its own affair.
        let _ = write_answer(&client, &warnings, answer);
    }

    fn hand_over(&self, client: &UnixStream) -> Result<(), Failure> {
        // One at a time, and only once.
        let mut belongings = lock(&self.belongings.0);
        if belongings.is_none() || self.readiness.get() != Health::Serving {
            return Err(Failure::new(
                Exit::Unreachable,
                "this server is ending, or another one has its sockets",
            ));
        }
        self.log.emit(LogLevel::Info, "", "control socket: handing over to another server");
        let others = belongings.iter().flatten().map(|(address, _)| address.to_string()).collect();
        if let Err(failure) = takeover::hand_over(client, &self.engine, others) {
            let text = format_args!("{}; serving on", failure.text());
            self.log.emit(LogLevel::Warn, "", text);
            return Err(failure);
        }
        drop(belongings.take());
        takeover::release(client, &self.engine);
        Ok(())
    }

    fn names_of_streams(&self) -> stream::Names {
        stream::Names::new(&self.engine, self.reloader.as_ref())
    }

    fn permit(&self, request: Request) -> Result<Request, Failure> {
        if self.rights == Rights::All || request.is_reading() {
            return Ok(request);
        }
        let why = "this socket only answers questions (--control-read); the one of --control takes orders";
        Err(Failure::new(Exit::Usage, why))
    }

    fn reloader(&self) -> Result<&Reloader, Failure> {
        let without =
            || Failure::new(Exit::Usage, "the server was started without a configuration file (--config)");
        self.reloader.as_deref().ok_or_else(without)
    }

    fn reload(&self) -> Result<String, Failure> {
        output::json(&self.reloader()?.reload(&self.engine, &self.log, "control socket")?)
    }

    fn health(&self, is_failed: Option<bool>) -> Result<String, Failure> {
        if let Some(is_failed) = is_failed {
            self.readiness.set_failed(is_failed);
            let word = if is_failed { "fail" } else { "ok" };
            self.log.emit(LogLevel::Info, "", format_args!("control socket: health {word}"));
        }
        let health = self.readiness.get();
        output::json(&HealthReport { health: health.name().to_owned(), ready: health.is_ready() })
    }

    fn connections(&self, most: Option<usize>) -> Result<String, Failure> {
        let list = self.engine.list_connections(LIST_PATIENCE);
        let (mut connections, missing_workers) = (list.connections, list.missing_workers);
        if let Some(most) = most {
            connections.sort_by_key(|connection| Reverse((connection.waiting_bytes, connection.idle)));
            connections.truncate(most);
        }
        let connections = connections.into_iter().map(Connection::from).collect();
        output::json(&Connections { connections, missing_workers })
    }

    fn listeners(&self) -> Result<String, Failure> {
        let names = self.names();
        let listeners = self.engine.listeners().into_iter();
        let named = listeners.map(|info| {
            let name = names.get(&info.id.number()).cloned();
            Listener { name, ..Listener::from(info) }
        });
        output::json(&named.collect::<Vec<_>>())
    }

    /// The names of listeners in the configuration file, by their numbers.
    fn names(&self) -> BTreeMap<u64, String> {
        self.reloader.as_ref().map(|reloader| reloader.names()).unwrap_or_default()
    }

    /// The URL of a listener; an error names its number.
    fn url_of(&self, id: ListenerId) -> Result<String, Failure> {
        let unknown = |_| Failure::new(Exit::Usage, format!("unknown or closed listener: {}", id.number()));
        self.engine.listener(id).map(|info| info.url).map_err(unknown)
    }

    fn set_chain(&self, listener: u64, spec: &str) -> Result<String, Failure> {
        let id = ListenerId::from_number(listener);
        let (url, result) = match listener {
            0 => (String::new(), self.engine.set_chain(spec)),
            _ => (self.url_of(id)?, self.engine.set_chain_of(id, spec)),
        };
        match result {
            Ok(()) => {
                self.log.emit(LogLevel::Info, &url, format_args!("control socket: chain {spec:?}"));
                self.listeners()
            }
            Err(error) => {
                let text = format_args!("control socket: chain {spec:?} refused: {error}");
                self.log.emit(LogLevel::Warn, &url, text);
                Err(sandbox::explain(error.into()))
            }
        }
    }
}

/// Reads the request; `None`: the client ended without one.
fn read_line(mut client: &UnixStream) -> Result<Option<String>, Failure> {
    let deadline = Deadline::after(REQUEST_LIMIT, "control request");
    let failed = |error: &io::Error| match error.kind() {
        io::ErrorKind::WouldBlock => Failure::new(Exit::Timeout, "control request: none in time"),
        _ => Failure::new(Exit::Broken, format!("control request: {error}")),
    };
    let wrong = |what: String| Failure::new(Exit::Usage, format!("control request: {what}"));
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        client.set_read_timeout(deadline.left()?).map_err(|error| failed(&error))?;
        let count = match client.read(&mut buffer) {
            Ok(0) if request.is_empty() => return Ok(None),
            // What was cut short must not be done.
            Ok(0) => return Err(wrong("the line does not end with a newline".to_owned())),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(&error)),
        };
        let new = buffer.get(..count).unwrap_or_default();
        let end = new.iter().position(|&byte| byte == b'\n');
        request.extend_from_slice(new.get(..end.unwrap_or(count)).unwrap_or_default());
        if request.len() > REQUEST_BYTES_MAX {
            return Err(wrong(format!("it is over {REQUEST_BYTES_MAX} bytes")));
        }
        if end.is_some() {
            return String::from_utf8(request).map(Some).map_err(|_| wrong("it is not UTF-8".to_owned()));
        }
    }
}

/// Writes the answer; the limit is for all of it, however slowly the client reads.
fn write_answer(client: &UnixStream, warnings: &str, answer: Result<String, Failure>) -> Result<(), Failure> {
    let text = match answer {
        Ok(json) => format!("{warnings}ok\n{json}\n"),
        Err(failure) => error_text(&failure),
    };
    write_all(client, text.as_bytes())
}

/// A line for each plugin file that was written to while it was loaded.
fn overwritten_warnings() -> String {
    let mut text = String::new();
    for path in resay::overwritten_plugins() {
        text.push_str("warning ");
        escape_into(&mut text, &path.display().to_string());
        text.push_str(
            " was written to in place after the server had loaded it (cp): what runs of it may crash; replace plugins by \
             rename (mv, install)\n",
        );
    }
    text
}

/// Any bytes of a client: a request or an error of lines.
#[cfg(any(test, fuzzing))]
#[allow(clippy::expect_used, reason = "a target of a fuzzer panics where something is wrong")]
pub(crate) fn try_request(bytes: &[u8]) {
    use std::io::Write as _;
    let (mut client, server) = UnixStream::pair().expect("two ends");
    client.write_all(bytes.get(..bytes.len().min(1 << 14)).unwrap_or_default()).expect("it is little");
    drop(client);
    let request = read_line(&server).and_then(|line| line.map(|line| line.parse::<Request>()).transpose());
    if let Err(failure) = request {
        let text = error_text(&failure);
        assert!(text.starts_with("error ") && text.ends_with('\n'), "{text:?}");
        assert!(text.chars().all(|letter| letter == '\n' || !letter.is_control()), "{text:?}");
    }
}

fn error_text(failure: &Failure) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = write!(text, "error {} ", failure.exit as u8);
    for line in failure.text().split('\n') {
        escape_into(&mut text, line);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_keeps_its_lines_and_escapes_the_rest() {
        let failure = Failure::new(Exit::Plugin, "why\n  \x1b[2J\n  ^");
        assert_eq!(error_text(&failure), "error 6 why\n  \\u001b[2J\n  ^\n");
    }
}
