//! `resay ctl`: asks a running server about itself, and tells it what to do, over its control socket (see
//! [`crate::control`] for what is spoken there).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use resay::net::address::{Address, UnixKind, UnixName};
use resay::options::{self, parse_duration};
use resay::transform::spec::{ChainSpec, Target};
use resay::{Client, CloseReason, DropReason};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::control::report::{
    Closing, Connection, Counts, Ended, HealthReport, Listener, OptionReport, Reloaded, State, Stats,
};
use crate::deadline::Deadline;
use crate::exit::{Exit, Failure, complain};
use crate::log::escape_into;
use crate::{help, output};

/// Show the state of a running server, change its chains, stop it
///
/// The server must run with `resay serve --control SOCKET`. Only the server's user and root can use the socket.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = long_help())]
pub(crate) struct Arguments {
    /// The path in `resay serve --control`
    socket: PathBuf,
    #[command(subcommand)]
    command: Command,
    /// Print the server's answer as one line of JSON
    #[arg(long, global = true)]
    json: bool,
    /// Time limit for the answer, for drain in addition to its own; 0: none
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_duration, global = true)]
    timeout: Duration,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the counters: in total, of each listener, of transforms
    Stats,
    /// List the open connections
    ///
    /// IDLE is the time since the last input, WAITING the size of answers that the peer has not read. The list lacks
    /// connections whose message is on the thread pool, and those of a worker that does not answer in time.
    Connections,
    /// List the listeners with their numbers and chains
    Listeners,
    /// Print events as they happen, one line of JSON each
    ///
    /// Until the server ends, or the command is interrupted. The fields are those of `serve --log json`, but that the text
    /// has the peer. If the reader is too slow, `{"lost":N}` says how many events were left out.
    Watch {
        /// Kinds of events, with a comma between them: listening, listener_closed, accepted, closed, rejected,
        /// accept_failed, dropped, transform_failed, transform_log, chain_changed, engine, transform_stuck; without it, all
        #[arg(value_name = "KINDS")]
        kinds: Option<String>,
    },
    /// Print messages and what becomes of them as it happens, one line of JSON each
    ///
    /// Messages and answers are cut at --bytes; what is not printable ASCII is written as \\xNN. While a tap is open, messages
    /// cost a little more. If the reader is too slow, `{"lost":N}` says how many records were left out.
    Tap {
        /// A listener, by its printed URL, its name or its number; or `all`
        listener: String,
        /// End after so many records; 0: go on
        #[arg(value_name = "COUNT", default_value_t = 0, hide_default_value = true)]
        count: u64,
        /// Bytes to show of each message and answer, 1 to 65536
        #[arg(long, value_name = "BYTES", default_value_t = 64,
              value_parser = clap::value_parser!(u64).range(1..=65536))]
        bytes: u64,
    },
    /// Add a listener; print its URL with the real port
    ///
    /// It has the server's chain unless the URL has one. A reload of a configuration file leaves it alone.
    Listen {
        /// Where to listen, for example tcp://127.0.0.1:8888
        url: String,
    },
    /// Change an option of a listener; print it as it holds
    ///
    /// For new connections, of datagrams at once, as with a reload. Options that are fixed when the socket is bound are
    /// refused. A reload of a configuration file undoes it.
    Set {
        /// A listener, by its printed URL, its name or its number
        listener: String,
        /// The option, for example idle_timeout
        key: String,
        /// Its value
        value: String,
    },
    /// End a connection: what has arrived is answered first
    Close {
        /// Its number in `connections`
        #[arg(value_name = "ID")]
        connection: u64,
        /// At once, with a reset; what waits is lost
        #[arg(long)]
        reset: bool,
    },
    /// Show a chain, or swap it without an interruption
    ///
    /// Messages that have arrived pass through the old chain, later ones through the new chain; none passes through
    /// both. A connection is closed only if a transform still needs its state in the old chain after swap_timeout. If
    /// a transform of the new chain cannot be created, nothing changes.
    Chain {
        /// A listener, by its printed URL, its name or its number; or `all`: all listeners without a chain of their own
        listener: String,
        /// The new chain; without it, print the current one
        #[arg(value_name = "SPEC")]
        spec: Option<String>,
    },
    /// Show whether new work is welcome, or say that it is not
    ///
    /// The same as `/readyz` of `serve --metrics`. `fail` has balancers that ask for it send new work elsewhere; everything
    /// else goes on as before, until `ok`.
    Health {
        /// What it is to be from now on
        #[arg(value_name = "fail|ok", value_parser = ["fail", "ok"])]
        set: Option<String>,
    },
    /// Read the configuration file again and make the server as it says; print what has changed
    ///
    /// All of it, or nothing: the file is checked, chains are created and new sockets are bound first. Listeners are
    /// matched by name and address. One that is as before stays, with its connections; a changed chain is swapped;
    /// other options hold for new connections; a listener that is gone from the file is closed, and its connections go
    /// on. The same as SIGHUP.
    Reload,
    /// Drain: stop listening, answer all input that has arrived, end; wait for it
    Drain {
        /// Time limit; connections that are open then are cut off
        #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
        within: Duration,
    },
    /// Stop at once; wait for the end
    Stop,
}

const EXAMPLES: &str = "\
Examples:
  resay serve tcp://127.0.0.1:8888 unix:/tmp/e.sock --control /tmp/e.ctl
  resay ctl /tmp/e.ctl stats
  resay ctl /tmp/e.ctl connections --json
  resay ctl /tmp/e.ctl chain tcp://127.0.0.1:8888 uppercase
  resay ctl /tmp/e.ctl chain all 'uppercase | identity'
  resay ctl /tmp/e.ctl chain all                      # shows them
  resay ctl /tmp/e.ctl watch accepted,closed          # events, until interrupted
  resay ctl /tmp/e.ctl tap all 10                     # ten messages, and their answers
  resay ctl /tmp/e.ctl listen udp://127.0.0.1:0
  resay ctl /tmp/e.ctl set tcp://127.0.0.1:8888 idle_timeout 30s
  resay ctl /tmp/e.ctl close 17 --reset
  resay ctl /tmp/e.ctl reload                         # of serve --config
  resay ctl /tmp/e.ctl health fail                    # /readyz says 503
  resay ctl /tmp/e.ctl drain --within 30s";

fn long_help() -> String {
    let statuses = "\
Exit status:
  0  done
  2  usage: a bad chain or option, an unknown or closed listener or
     connection, a fault in the configuration
  3  nobody is at SOCKET, or it may not be used, or too many use it
  4  no answer in time; drain: not all was done in time, and the rest was cut off
  5  the server ended before it had answered
  6  a transform of the chain cannot be used";
    [EXAMPLES, help::CHAINS, statuses].join("\n\n")
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let Arguments { socket, command, json, timeout } = arguments;
    let server = Server { socket, timeout: *timeout };
    let text = match command {
        Command::Watch { kinds } => {
            let request = kinds.as_ref().map_or("watch".to_owned(), |kinds| format!("watch {kinds}"));
            return server.stream(&request).map(|_| Exit::Done);
        }
        Command::Tap { listener, count, bytes } => {
            let number = if listener == "all" { 0 } else { server.number(listener)? };
            let records = server.stream(&format!("tap {number} {count} {bytes}"))?;
            // Nobody but the server ends it.
            return if records < *count { Err(broken("the server ended")) } else { Ok(Exit::Done) };
        }
        Command::Listen { url } => {
            let listener: Listener = server.ask(&format!("listen {}", absolute(url)?))?;
            shown(&listener, *json, |listener| format!("listening {}\n", printable(&listener.url)))
        }
        Command::Set { listener, key, value } => {
            let request = format!("set {} {key} {}", server.number(listener)?, one_line(value)?);
            shown(&server.ask::<OptionReport>(&request)?, *json, |now| {
                printable(&format!("{}={}", now.key, now.value)) + "\n"
            })
        }
        Command::Close { connection, reset } => {
            let request = format!("close {connection}{}", if *reset { " reset" } else { "" });
            shown(&server.ask::<Closing>(&request)?, *json, |report| format!("closing {}\n", report.closing))
        }
        Command::Stats => shown(&server.ask::<Stats>("stats")?, *json, stats_text),
        Command::Connections => {
            shown(&server.ask::<Vec<Connection>>("connections")?, *json, |all| connections_text(all))
        }
        Command::Listeners => {
            shown(&server.ask::<Vec<Listener>>("listeners")?, *json, |all| listeners_text(all))
        }
        Command::Chain { listener, spec } => {
            shown(&server.chain(listener, spec.as_deref())?, *json, |found| match found.as_slice() {
                [one] if !matches!(listener.as_str(), "all" | "0") => chain_text(&one.chain) + "\n",
                found => listeners_text(found),
            })
        }
        Command::Health { set } => {
            let request = set.as_ref().map_or("health".to_owned(), |set| format!("health {set}"));
            shown(&server.ask::<HealthReport>(&request)?, *json, |report| printable(&report.health) + "\n")
        }
        Command::Reload => shown(&server.ask::<Reloaded>("reload")?, *json, |reloaded| {
            reloaded.changes.iter().map(|change| printable(change) + "\n").collect()
        }),
        Command::Drain { within } => shown(&server.drain(*within)?, *json, ended_text),
        Command::Stop => shown(&server.ask::<Ended>("stop")?, *json, ended_text),
    }?;
    output::print(text).map(|()| Exit::Done)
}

fn shown<T: Serialize>(report: &T, json: bool, text: impl FnOnce(&T) -> String) -> Result<String, Failure> {
    if !json {
        return Ok(text(report));
    }
    let line = serde_json::to_string(report).map_err(|error| broken(&error.to_string()))?;
    Ok(printable(&line) + "\n")
}

/// A line of what is told as it happens is not longer than this.
const LINE_BYTES_MAX: usize = 4 << 20;

/// The other side of the control socket.
pub(crate) struct Server<'a> {
    pub(crate) socket: &'a Path,
    pub(crate) timeout: Duration,
}

impl Server<'_> {
    pub(crate) fn ask<T: DeserializeOwned>(&self, request: &str) -> Result<T, Failure> {
        self.ask_within(request, self.timeout)
    }

    fn drain(&self, within: Duration) -> Result<Ended, Failure> {
        let limit = help::limit(self.timeout).map_or(Duration::ZERO, |timeout| within + timeout);
        self.ask_within(&format!("drain {}", options::duration_text(within)), limit)
    }

    /// The number of a listener that is named in some way.
    fn number(&self, name: &str) -> Result<u64, Failure> {
        match name.parse() {
            Ok(number) => Ok(number),
            Err(_) => number_of(name, &self.ask::<Vec<Listener>>("listeners")?),
        }
    }

    /// The listeners that are meant, after the swap if there is one.
    fn chain(&self, name: &str, spec: Option<&str>) -> Result<Vec<Listener>, Failure> {
        let listeners = || self.ask::<Vec<Listener>>("listeners");
        let number = match (name, name.parse()) {
            ("all", _) => 0,
            (_, Ok(number)) => number,
            _ => number_of(name, &listeners()?)?,
        };
        let mut found = match spec {
            Some(spec) => self.ask(&format!("chain {number} {}", sendable(spec)?))?,
            None => listeners()?,
        };
        if number != 0 {
            found.retain(|listener| listener.id == number);
            if found.is_empty() {
                return Err(Failure::new(Exit::Usage, format!("unknown or closed listener: {name}")));
            }
        }
        Ok(found)
    }

    fn connect(&self, deadline: &Deadline) -> Result<Client, Failure> {
        let name = UnixName::Path(self.socket.to_owned());
        let url = Address::Unix { kind: UnixKind::Stream, name }.to_string();
        Client::open(&url, deadline.left()?).map_err(|error| deadline.failure(error))
    }

    /// Prints lines as they come, until the server ends. How many there were, but for those that tell of lost ones.
    fn stream(&self, request: &str) -> Result<u64, Failure> {
        let deadline = Deadline::after(self.timeout);
        let client = self.connect(&deadline)?;
        let sent = client.send(format!("{request}\n").as_bytes(), deadline.left()?);
        let (mut buffer, mut unread, mut is_accepted, mut count) = (vec![0; 64 << 10], Vec::new(), false, 0);
        loop {
            let left = if is_accepted { None } else { deadline.left()? };
            match client.recv(&mut buffer, left) {
                Ok(0) => break,
                Ok(count) => unread.extend_from_slice(buffer.get(..count).unwrap_or_default()),
                Err(error) if is_accepted => return Err(error.into()),
                Err(error) if error.os_error() == Some(libc::ECONNRESET) && !unread.is_empty() => break,
                Err(error) => return Err(deadline.failure(error)),
            }
            if !is_accepted && unread.starts_with(b"ok\n") {
                is_accepted = true;
                unread.drain(..3);
            }
            let whole = unread.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
            if is_accepted && whole > 0 {
                let lines: Vec<u8> = unread.drain(..whole).collect();
                let text = String::from_utf8_lossy(&lines);
                count += text.lines().filter(|line| !line.starts_with("{\"lost\":")).count() as u64;
                output::print(text.lines().map(|line| printable(line) + "\n").collect::<String>())?;
            } else if unread.len() > LINE_BYTES_MAX {
                return Err(broken("this is no control socket of resay"));
            }
        }
        if is_accepted {
            return Ok(count);
        }
        if unread.is_empty() {
            sent.map_err(|error| deadline.failure(error))?;
        }
        // It can only be an error.
        read_answer::<Ended>(&unread).map(|_| 0)
    }

    fn ask_within<T: DeserializeOwned>(&self, request: &str, limit: Duration) -> Result<T, Failure> {
        let deadline = Deadline::after(limit);
        let failed = |error| deadline.failure(error);
        let client = self.connect(&deadline)?;
        // A server that refuses says why, also if it has not read all.
        let sent = client.send(format!("{request}\n").as_bytes(), deadline.left()?);
        let mut answer = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            match client.recv(&mut buffer, deadline.left()?) {
                Ok(0) => break,
                Ok(count) => answer.extend_from_slice(buffer.get(..count).unwrap_or_default()),
                // It did not read all that was sent, and has said what it had to say.
                Err(error) if error.os_error() == Some(libc::ECONNRESET) && !answer.is_empty() => break,
                Err(error) => return Err(deadline.failure(error)),
            }
        }
        if answer.is_empty() {
            sent.map_err(failed)?;
        }
        read_answer(&answer)
    }
}

fn read_answer<T: DeserializeOwned>(answer: &[u8]) -> Result<T, Failure> {
    if answer.is_empty() {
        return Err(broken("the server ended without an answer"));
    }
    let cut = || broken("the server ended within its answer");
    let mut text = str::from_utf8(answer).ok().and_then(|text| text.strip_suffix('\n')).ok_or_else(cut)?;
    while let Some((warning, rest)) = text.strip_prefix("warning ").and_then(|rest| rest.split_once('\n')) {
        complain(format_args!("warning: {}", printable(warning)));
        text = rest;
    }
    let (first, body) = text.split_once('\n').unwrap_or((text, ""));
    if first == "ok" {
        return serde_json::from_str(body).map_err(|error| broken(&format!("the answer: {error}")));
    }
    let error = first.strip_prefix("error ").and_then(|rest| rest.split_once(' '));
    let (code, message) = error.ok_or_else(|| broken("this is no control socket of resay"))?;
    let exit = Exit::from_number(code).unwrap_or(Exit::Broken);
    let lines: Vec<_> = [message].into_iter().chain(body.lines()).map(printable).collect();
    Err(Failure::new(exit, lines.join("\n")))
}

/// Any bytes of a server: an answer, or an error that cannot command the terminal.
#[cfg(any(test, fuzzing))]
pub(crate) fn try_answer(bytes: &[u8]) {
    for failure in [read_answer::<Ended>(bytes).err(), read_answer::<Vec<Listener>>(bytes).err()] {
        let text = failure.as_ref().map(Failure::text).unwrap_or_default();
        assert!(text.chars().all(|letter| letter == '\n' || !letter.is_control()), "{text:?}");
    }
}

fn broken(what: &str) -> Failure {
    Failure::new(Exit::Broken, what)
}

/// The one with this URL, or the only one with this name.
fn number_of(word: &str, listeners: &[Listener]) -> Result<u64, Failure> {
    let is_meant = |listener: &&Listener| listener.url == word || listener.name.as_deref() == Some(word);
    let found: Vec<_> = listeners.iter().filter(is_meant).collect();
    let text = match found.as_slice() {
        [listener] => return Ok(listener.id),
        [] => {
            let known: Vec<_> = listeners.iter().map(|listener| listener.url.as_str()).collect();
            format!("unknown or closed listener: {word}; there are {}, and all", known.join(", "))
        }
        several => {
            let known: Vec<_> = several.iter().map(|listener| listener.url.as_str()).collect();
            format!("{word} has several addresses: {}; name one of them", known.join(", "))
        }
    };
    Err(Failure::new(Exit::Usage, text))
}

/// A URL for a server that may be in another directory.
fn absolute(url: &str) -> Result<String, Failure> {
    let url = one_line(url)?;
    let query = url.split_once('?').map(|(_, query)| format!("?{query}")).unwrap_or_default();
    match Address::parse(url) {
        Ok((Address::Unix { kind, name: UnixName::Path(path) }, _)) if path.is_relative() => {
            let failed = |error| Failure::new(Exit::Usage, format!("{}: {error}", path.display()));
            let name = UnixName::Path(std::path::absolute(&path).map_err(failed)?);
            Ok(Address::Unix { kind, name }.to_string() + &query)
        }
        // The server says what is wrong.
        _ => Ok(url.to_owned()),
    }
}

/// What would end the request in the middle is refused.
fn one_line(text: &str) -> Result<&str, Failure> {
    if text.contains('\n') {
        return Err(Failure::new(Exit::Usage, "a line break means nothing here"));
    }
    Ok(text)
}

/// The chain for a line of its own, read by a server that may be in another directory.
fn sendable(spec: &str) -> Result<String, Failure> {
    let breaks = spec.contains('\n');
    let mut chain = match ChainSpec::parse(spec) {
        Ok(chain) => chain,
        Err(error) if breaks => return Err(error.into()),
        // The server says what is wrong.
        Err(_) => return Ok(spec.to_owned()),
    };
    if chain.stages.is_empty() {
        return Ok("identity".to_owned());
    }
    let mut moved = false;
    for stage in &mut chain.stages {
        if let Target::File { path, .. } = &mut stage.target
            && path.is_relative()
        {
            let failed = |error| Failure::new(Exit::Usage, format!("{}: {error}", path.display()));
            *path = std::path::absolute(&*path).map_err(failed)?;
            moved = true;
        }
    }
    Ok(if moved || breaks { chain.to_string() } else { spec.to_owned() })
}

fn chain_text(chain: &str) -> String {
    printable(if chain.is_empty() { "identity" } else { chain })
}

/// Peers choose their names; a terminal is not to obey them.
fn printable(text: &str) -> String {
    let mut escaped = String::new();
    escape_into(&mut escaped, text);
    escaped
}

fn ended_text(ended: &Ended) -> String {
    printable(&ended.ended) + "\n"
}

fn listeners_text(listeners: &[Listener]) -> String {
    let row = |listener: &Listener| {
        [listener.id.to_string(), printable(&listener.url), chain_text(&listener.chain)]
    };
    if listeners.iter().all(|listener| listener.name.is_none()) {
        return table(["ID", "LISTENER", "CHAIN"], listeners.iter().map(row));
    }
    let named = |listener: &Listener| {
        let [id, url, chain] = row(listener);
        [id, printable(listener.name.as_deref().unwrap_or("-")), url, chain]
    };
    table(["ID", "NAME", "LISTENER", "CHAIN"], listeners.iter().map(named))
}

fn connections_text(connections: &[Connection]) -> String {
    let row = |connection: &Connection| {
        let state = match connection.state {
            State::Open => "open",
            State::Ending => "ending",
        };
        let mut peer = printable(&connection.peer);
        if let Some(via) = &connection.via {
            peer += &format!(" via {}", printable(via));
        }
        [
            connection.id.to_string(),
            printable(&connection.listener),
            peer,
            connection.worker.to_string(),
            duration_text(connection.idle_ms),
            connection.waiting_bytes.to_string(),
            state.to_owned(),
        ]
    };
    let head = ["ID", "LISTENER", "PEER", "WORKER", "IDLE", "WAITING", "STATE"];
    table(head, connections.iter().map(row))
}

/// Columns as wide as their widest cell.
fn table<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<[String; N]> = [head.map(str::to_owned)].into_iter().chain(rows).collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text += cells.join("  ").trim_end();
        text += "\n";
    }
    text
}

/// Milliseconds below a second, seconds above.
fn duration_text(ms: u64) -> String {
    let shown = if ms < 1000 { ms } else { ms - ms % 1000 };
    humantime::format_duration(Duration::from_millis(shown)).to_string()
}

fn stats_text(stats: &Stats) -> String {
    let mut text = format!(
        "resay {}, process {}, up {}{}{}\n\nall listeners\n",
        printable(&stats.version),
        stats.pid,
        duration_text(stats.uptime_ms),
        if stats.state.is_empty() { "" } else { ", " },
        printable(&stats.state.replace('_', " ")),
    );
    counts_into(&mut text, &stats.totals);
    for listener in &stats.listeners {
        let (url, chain) = (printable(&listener.url), chain_text(&listener.chain));
        // Writing to a String does not fail.
        let _ = writeln!(text, "\nlistener {}: {url}\n  chain        {chain}", listener.id);
        counts_into(&mut text, &listener.counts);
    }
    if !stats.transforms.is_empty() {
        text += "\ntransforms\n";
    }
    for (name, count) in &stats.transforms {
        let _ = writeln!(text, "  {}: {count}", printable(name));
    }
    if stats.transforms_stuck > 0 {
        let _ = writeln!(text, "\ntransforms that did not return in time: {}", stats.transforms_stuck);
    }
    text
}

fn counts_into(text: &mut String, counts: &Counts) {
    // Writing to a String does not fail.
    let _ = writeln!(
        text,
        "  connections  open {}, accepted {}, closed {}, rejected {}, accept errors {}\n  \
         messages     in {}, out {}, dropped {}, transform errors {}\n  \
         bytes        in {}, out {}, undelivered {}",
        counts.open,
        counts.accepted,
        counts.closed,
        counts.rejected,
        counts.accept_errors,
        counts.messages_in,
        counts.messages_out,
        counts.dropped,
        counts.transform_errors,
        counts.bytes_in,
        counts.bytes_out,
        counts.undelivered_bytes,
    );
    for (what, reasons) in [("closed", &counts.closed_by), ("dropped", &counts.dropped_by)] {
        for (name, count) in reasons.iter().filter(|(_, count)| **count > 0) {
            let _ = writeln!(text, "  {what:11}  {count}: {}", printable(&reason_text(what, name)));
        }
    }
}

/// A reason in words. A server of another version may have reasons that are unknown here.
fn reason_text(what: &str, name: &str) -> String {
    let closed =
        CloseReason::ALL.into_iter().find(|reason| reason.name() == name).map(|reason| reason.to_string());
    let dropped =
        DropReason::ALL.into_iter().find(|reason| reason.name() == name).map(|reason| reason.to_string());
    if what == "closed" { closed } else { dropped }.unwrap_or_else(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(answer: &[u8]) -> (Exit, String) {
        let failure = read_answer::<Ended>(answer).unwrap_err();
        (failure.exit, failure.text().to_owned())
    }

    #[test]
    fn an_answer_is_whole_or_none() {
        assert_eq!(read_answer::<Ended>(b"ok\n{\"ended\":\"drained\"}\n").unwrap().ended, "drained");
        let broken: [&[u8]; 8] = [
            b"",
            b"o",
            b"ok\n",
            b"ok\n{\"ended\":\"drai",
            b"ok\n{\"ended\":\"drained\"}",
            b"HTTP/1.1 400 Bad Request\r\n",
            b"\xff\n",
            b"error 2\n",
        ];
        for answer in broken {
            assert_eq!(failure(answer).0, Exit::Broken, "{}", answer.escape_ascii());
        }
        let caret = b"error 2 why (chain \"a ||\", character 4)\n  a ||\n     ^\n";
        assert_eq!(
            failure(caret),
            (Exit::Usage, "why (chain \"a ||\", character 4)\n  a ||\n     ^".to_owned())
        );
        assert_eq!(failure(b"error 6 \x1b[2J\n"), (Exit::Plugin, "\\u001b[2J".to_owned()));
        assert_eq!(failure(b"error 99 from the future\n").0, Exit::Broken);
    }

    #[test]
    fn a_chain_is_sent_as_it_is_unless_it_would_not_arrive() {
        let here = std::env::current_dir().unwrap();
        let table = [
            ("uppercase|  identity", "uppercase|  identity".to_owned()),
            ("", "identity".to_owned()),
            (" ", "identity".to_owned()),
            ("/a/lib.so", "/a/lib.so".to_owned()),
            ("./lib.so | x", format!("{}/lib.so | x", here.display())),
            ("x:text='a\nb'", r#"x:text="a\nb""#.to_owned()),
            // The server says what is wrong with it.
            ("x ||", "x ||".to_owned()),
        ];
        for (spec, wanted) in table {
            assert_eq!(sendable(spec).unwrap(), wanted, "{spec:?}");
        }
        assert_eq!(sendable("x |\n|").unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn durations_are_short() {
        for (ms, text) in [(0, "0s"), (999, "999ms"), (1999, "1s"), (61_000, "1m 1s")] {
            assert_eq!(duration_text(ms), text);
        }
    }
}
