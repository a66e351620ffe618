//! The command from outside: real processes, real sockets, every exit status.
// Helpers are tests too, where clippy.toml's exemption does not reach.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bench;
mod check;
mod completions;
mod config;
mod crash;
mod ctl;
mod help;
mod live;
mod man;
mod metrics;
mod notify;
mod output;
mod passed;
mod plugin;
mod process;
mod repl;
mod sandbox;
mod send;
mod serve;
mod signals;
mod surroundings;
mod swap;
mod takeover;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "top")]
mod top;
mod units;
