//! `resay top`: what running servers do, over their control sockets, once or live.
//!
//! ```text
//! control socket ── sample ──> two Samples ── figures ──> Figures ── rows ──> once: a table, or JSON
//!                                                            └─ app ── draw ──> live: the screen
//! ```
//!
//! `figures`, `filter`, `app`, `rows`, `draw` and `dialog` are functions of what they are given; `live` has the threads, `screen` the terminal.

mod app;
mod dialog;
mod draw;
mod figures;
mod filter;
mod live;
mod once;
mod order;
#[cfg(test)]
mod picture;
mod prompt;
mod rows;
mod sample;
mod screen;
#[cfg(test)]
mod tests;
mod units;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use resay::options::parse_duration;

use crate::exit::{Exit, Failure};
use crate::start;

/// Show what running servers do, live
///
/// The servers must run with `resay serve --control SOCKET`. The socket of --control-read shows the same, but takes no orders.
///
/// Rates are of the last interval. The listener that is selected has its chain, its drops and its closed connections
/// shown. Connections are listed by the bytes of answers that their peers have not read, then by the time since their
/// last input, the first 100. A server that is gone is tried again.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = long_help())]
pub(crate) struct Arguments {
    /// The paths in `resay serve --control`
    #[arg(required = true, value_name = "SOCKET")]
    sockets: Vec<PathBuf>,
    /// Time between two looks, at least 100ms
    #[arg(short, long, value_name = "DURATION", default_value = "1s", value_parser = parse_interval)]
    interval: Duration,
    /// Print the figures of one interval as a table, and end
    #[arg(long)]
    once: bool,
    /// With --once: print one line of JSON
    #[arg(long, requires = "once")]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  resay serve tcp://127.0.0.1:8888 --control /tmp/e.ctl
  resay top /tmp/e.ctl
  resay top /run/resay/*.ctl                          # several servers
  resay top /tmp/e.ctl --once                         # for a terminal that scrolls
  resay top /tmp/e.ctl --once --json --interval 10s | jq '.servers[0].totals.per_second'";

fn long_help() -> String {
    let keys = "\
Keys:
  Up Down PgUp PgDn
      Select a listener, or a connection.
  Tab
      Go to the other list.
  Left Right 1-9
      Go to another server.
  /
      Show only rows with a text: listeners with it in their name or URL, or in
      a reason for drops or closes that has come up, their connections, and
      those of peers with it. It holds while it is typed, in whatever case.
      Enter keeps it; Esc clears it, also later.
  c
      Swap the chain of the selected listener. With `all` selected, that of all
      listeners without a chain of their own.
  d
      Drain the server: answer what has arrived, then end.
  x X
      Close the selected connection: in good order, or at once with a reset.
  ? q
      Help; quit. Servers go on.";
    let statuses = "\
Exit status:
  0  done
  2  usage; not at a terminal, and without --once
  3  --once: nobody is at a SOCKET, or it may not be used
  4  --once: no answer in time
  5  --once: a server ended before it had answered; or the terminal is gone";
    [EXAMPLES, keys, statuses].join("\n\n")
}

const INTERVAL_MIN: Duration = Duration::from_millis(100);

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text).map_err(|error| error.to_string())?;
    if interval < INTERVAL_MIN {
        return Err("at least 100ms is expected".to_owned());
    }
    Ok(interval)
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let Arguments { sockets, interval, once, json } = arguments;
    if *once {
        return once::run(sockets, *interval, *json);
    }
    if !start::has_stdout() || !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        let why = "standard input and output must be a terminal; --once prints a table, --once --json JSON";
        return Err(Failure::new(Exit::Usage, format!("top: {why}")));
    }
    live::run(sockets, *interval)
}
