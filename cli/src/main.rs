//! The command `resay`: serve, config, ctl, top, send, repl, bench and plugin, each in a module of its own, over the public API of the
//! library. `exit` has the exit statuses, `log` what `serve` writes to standard error, `control` the socket on which
//! it takes orders, `help` what help texts share, `output` standard output, `signals` the handlers, `start` what comes
//! before `main`, `notify` what the service manager hears. `completions` and `man` print what goes with an installed command.

// What a fuzzer starts has its `main`.
#![cfg_attr(fuzzing, no_main, allow(dead_code))]

mod bench;
mod completions;
mod config;
mod control;
mod crash;
mod ctl;
mod deadline;
mod exit;
#[cfg(any(test, fuzzing))]
mod fuzzing;
mod health;
mod help;
mod lock;
mod log;
mod man;
mod metrics;
mod mistake;
mod notify;
mod output;
mod plugin;
mod reload;
mod repl;
mod sandbox;
mod send;
mod serve;
mod signals;
mod start;
mod takeover;
mod tls;
#[cfg(feature = "top")]
mod top;
mod unquoted;

use std::env;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use exit::{Exit, Failure};

/// An echo engine: sockets that answer, through a chain of transforms.
#[derive(Parser)]
#[command(name = "resay", version, after_help = help::OVERVIEW)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(Box<serve::Arguments>),
    Config(config::command::Arguments),
    Ctl(ctl::Arguments),
    #[cfg(feature = "top")]
    Top(top::Arguments),
    Send(send::Arguments),
    Repl(repl::Arguments),
    Bench(Box<bench::Arguments>),
    Plugin(plugin::Arguments),
    Completions(completions::Arguments),
    Man(man::Arguments),
}

fn main() -> ExitCode {
    if env::args_os().nth(1).is_none_or(|command| command != "serve") {
        // Signals are left to the system.
        start::restore_mask();
    }
    // The validator tries plugins in processes of their own: this may be one of them.
    if let Some(code) = resay_check::child_main() {
        return code;
    }
    match run() {
        Ok(exit) => exit.end(),
        Err(failure) => {
            failure.report();
            failure.exit.end()
        }
    }
}

fn run() -> Result<Exit, Failure> {
    let command = match CommandLine::try_parse() {
        Ok(line) => line.command,
        Err(error) if error.use_stderr() => {
            let words: Vec<_> =
                env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
            mistake::explain(error, &CommandLine::command(), &words).exit()
        }
        Err(help) => return output::print_help(&help).map(|()| Exit::Done),
    };
    match command {
        Command::Serve(arguments) => {
            start::take_from_manager();
            crash::install();
            serve::run(&arguments)
        }
        Command::Config(arguments) => config::command::run(&arguments),
        Command::Ctl(arguments) => ctl::run(&arguments),
        #[cfg(feature = "top")]
        Command::Top(arguments) => top::run(&arguments),
        Command::Send(arguments) => send::run(arguments),
        Command::Repl(arguments) => repl::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Plugin(arguments) => plugin::run(&arguments),
        Command::Completions(arguments) => completions::run(&arguments, CommandLine::command()),
        Command::Man(arguments) => man::run(&arguments, CommandLine::command()),
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzing::command(data));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }
}
