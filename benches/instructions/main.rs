//! How many user-space instructions a server spends on a message: counts, not times, so a busy machine changes nothing.
//!
//! ```text
//! cargo bench --bench instructions                          every workload, Resay beside other servers
//! cargo bench --bench instructions -- --only tcp-50         one workload
//! cargo bench --bench instructions -- --profile tcp-50      where Resay's instructions go, by function and by line
//! cargo bench --bench instructions -- --check               Resay alone, against benches/instructions.toml
//! cargo bench --bench instructions -- --update              writes that file anew
//! ```
//!
//! Each server runs under valgrind's callgrind; the load generator is this process. One run has N messages, another 3 N:
//! the difference, over 2 N, is a message's, and what starting takes cancels out. Batches have the same shape every time:
//! the load generator waits until the server sleeps, writes to every socket, and only then reads answers. Both share one
//! processor, and the server is a batch process (sched(7)), which does not preempt who wakes it: so it finds a batch whole.
//!
//! Resay has one worker on epoll and `uppercase` from its .so; the others echo.

mod baseline;
mod callgrind;
mod load;
mod profile;
mod result;
mod servers;
mod sys;

use std::process::ExitCode;

use baseline::{Baseline, Toolchain};
use load::Workload;
use result::Result;
use servers::{Builds, Server};

const USAGE: &str = "usage: cargo bench --bench instructions [-- OPTION]...
  --only TEXT          only the workload TEXT, or those with TEXT in their name
  --servers A,B,...    only these servers
  --profile WORKLOAD   Resay's functions and source lines by instructions a message; --servers chooses another server
  --lines N            how many lines each list of a profile has, 40 by default
  --check              Resay's counts against benches/instructions.toml; exit status 77: they cannot be compared here
  --update             measures Resay and writes benches/instructions.toml";

/// By automake's convention: what is needed is not there.
const EXIT_SKIPPED: u8 = 77;
/// Runs of one workload, of which the least counts.
const RUNS_MAX: usize = 8;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["serve", kind, place] => servers::serve(kind, place).map(|()| ExitCode::SUCCESS),
        // Test runners ask harnesses for a list of tests: there is none.
        list if !list.contains(&"--bench") => Ok(ExitCode::SUCCESS),
        list if list.iter().any(|argument| ["-h", "--help"].contains(argument)) => {
            println!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        _ => Plan::read(&arguments).and_then(|plan| plan.run()),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("instructions: {error}");
        ExitCode::FAILURE
    })
}

/// What was asked for.
struct Plan {
    mode: Mode,
    only: Option<String>,
    servers: Option<Vec<String>>,
    lines: usize,
}

enum Mode {
    Table,
    Check,
    Update,
    Profile(&'static Workload),
}

impl Plan {
    fn read(arguments: &[String]) -> Result<Plan> {
        let mut plan = Plan { mode: Mode::Table, only: None, servers: None, lines: 40 };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().ok_or_else(|| format!("{argument} needs a value\n{USAGE}"));
            match argument.as_str() {
                "--bench" => {}
                "--only" => plan.only = Some(value()?.clone()),
                "--servers" => plan.servers = Some(value()?.split(',').map(str::to_owned).collect()),
                "--lines" => plan.lines = value()?.parse()?,
                "--check" => plan.mode = Mode::Check,
                "--update" => plan.mode = Mode::Update,
                "--profile" => plan.mode = Mode::Profile(workload(value()?)?),
                _ => return Err(format!("{argument}: unknown option\n{USAGE}").into()),
            }
        }
        if let Some(unknown) = plan.servers.iter().flatten().find(|name| Server::named(name).is_none()) {
            let names: Vec<_> = Server::ALL.iter().map(|server| server.name()).collect();
            return Err(format!("{unknown}: unknown server; there are {}", names.join(", ")).into());
        }
        Ok(plan)
    }

    fn run(&self) -> Result<ExitCode> {
        let Some(valgrind) = callgrind::version() else {
            println!("instructions: skipped, valgrind is not installed");
            return Ok(ExitCode::from(EXIT_SKIPPED));
        };
        let toolchain = Toolchain::of_this_machine(valgrind)?;
        match self.mode {
            Mode::Table => self.table(),
            Mode::Profile(workload) => self.profile(workload),
            Mode::Check => self.check(&toolchain),
            Mode::Update => {
                Baseline { toolchain, counts: self.measure_resay(|_, _| false)? }.write().map(|path| {
                    println!("written: {}", path.display());
                    ExitCode::SUCCESS
                })
            }
        }
    }

    fn table(&self) -> Result<ExitCode> {
        let mut builds = Builds::new()?;
        let servers: Vec<Server> = Server::ALL.into_iter().filter(|server| self.includes(*server)).collect();
        builds.build(&servers)?;
        for (server, reason) in &builds.missing {
            println!("{} is left out: {reason}", server.name());
        }
        print!("user-space instructions a message\n\n{:<10} {:>8}", "", "limit");
        servers.iter().for_each(|server| print!(" {:>10}", server.name()));
        println!();
        for workload in self.workloads() {
            print!("{:<10} {:>8}", workload.name, workload.limit);
            for server in &servers {
                match builds.counts(*server, workload)? {
                    Some(counts) => print!(" {:>10.1}", counts.a_message()),
                    None => print!(" {:>10}", "-"),
                }
            }
            println!();
        }
        println!();
        for workload in self.workloads() {
            println!("{:<10} {}", workload.name, workload.about);
        }
        println!("\nresay: one worker on epoll, uppercase from its .so; limit: what it is to stay below");
        println!(
            "epoll: one read and one write an event, in C; for udp it is recvmmsg and sendmmsg in a loop"
        );
        Ok(ExitCode::SUCCESS)
    }

    fn profile(&self, workload: &Workload) -> Result<ExitCode> {
        let name = self.servers.iter().flatten().next().map_or(Server::Resay.name(), String::as_str);
        let server = Server::named(name).ok_or("no such server")?;
        let mut builds = Builds::new()?;
        builds.build(&[server])?;
        let counts = builds.counts(server, workload)?.ok_or_else(|| format!("{name} is not built"))?;
        profile::print(&counts, workload, self.lines)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Counts Resay's, each the least of a few runs: where the scheduler lets the server run in the middle of a batch, it
    /// takes more turns for it. `is_enough` says of a count that it needs no other run.
    fn measure_resay(&self, is_enough: impl Fn(&str, f64) -> bool) -> Result<Vec<(String, f64)>> {
        let mut builds = Builds::new()?;
        builds.build(&[Server::Resay])?;
        let mut measured = Vec::new();
        for workload in self.workloads() {
            let mut least = f64::INFINITY;
            let mut failure = None;
            for _ in 0..RUNS_MAX {
                match builds.counts(Server::Resay, workload) {
                    Ok(counts) => least = least.min(counts.ok_or("Resay is not built")?.a_message()),
                    Err(error) => failure = Some(error),
                }
                if is_enough(workload.name, least) {
                    break;
                }
            }
            if let (true, Some(failure)) = (least.is_infinite(), failure) {
                return Err(failure);
            }
            println!("{:<10} {least:>8.1}   limit {}", workload.name, workload.limit);
            measured.push((workload.name.to_owned(), least));
        }
        Ok(measured)
    }

    fn check(&self, toolchain: &Toolchain) -> Result<ExitCode> {
        let baseline = Baseline::read()?;
        if let Some(difference) = baseline.toolchain.difference(toolchain) {
            println!("instruction counts are not compared: {difference}");
            return Ok(ExitCode::from(EXIT_SKIPPED));
        }
        let is_as_committed =
            |name: &str, count: f64| baseline.compare(&[(name.to_owned(), count)]).is_empty();
        let findings = baseline.compare(&self.measure_resay(is_as_committed)?);
        findings.iter().for_each(|finding| println!("{finding}"));
        if findings.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        println!("if that is meant: cargo bench --bench instructions -- --update");
        Ok(ExitCode::FAILURE)
    }

    fn workloads(&self) -> impl Iterator<Item = &'static Workload> {
        let only = self.only.as_deref().unwrap_or_default();
        let is_name = load::WORKLOADS.iter().any(|workload| workload.name == only);
        load::WORKLOADS.iter().filter(move |workload| {
            if is_name { workload.name == only } else { workload.name.contains(only) }
        })
    }

    fn includes(&self, server: Server) -> bool {
        self.servers.as_ref().is_none_or(|names| names.iter().any(|name| name == server.name()))
    }
}

fn workload(name: &str) -> Result<&'static Workload> {
    load::WORKLOADS.iter().find(|workload| workload.name == name).ok_or_else(|| {
        let names: Vec<_> = load::WORKLOADS.iter().map(|workload| workload.name).collect();
        format!("{name}: unknown workload; there are {}", names.join(", ")).into()
    })
}
