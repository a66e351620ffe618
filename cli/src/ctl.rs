//! `resay ctl`: asks a running server about itself, and tells it what to do, over its control socket (see
//! [`crate::control`] for what is spoken there).

pub(crate) mod client;
pub(crate) mod text;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use resay::options::parse_duration;
use serde::Serialize;

use crate::control::report::{
    Closing, Connections, Ended, HealthReport, Listener, OptionReport, Reloaded, Stats,
};
use crate::exit::{Exit, Failure, complain};
use crate::{help, output};
use client::{Server, absolute, broken, one_line};
use text::{chain_text, connections_text, ended_text, listeners_text, printable, stats_text};

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
    /// those of a worker that does not answer in time; a line on standard error says so, and `missing_workers` in JSON.
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
            let list: Connections = server.ask("connections")?;
            if let Some(warning) = list.warning() {
                complain(warning);
            }
            shown(&list, *json, |list| connections_text(&list.connections))
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
