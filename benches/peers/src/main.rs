//! Resay beside other people's echo servers: the same load, in the same run, round after round in turn, so that the
//! machine's moods fall on all alike. What counts is the ratios; the figures themselves are this machine's.
//!
//! ```text
//! cargo build --release --workspace
//! cargo run --release -p resay-peers -- [--quick] [--rounds N] [--seconds S] [--only TEXT]... [--servers A,B]
//!                                       [--server-core N] [--load-core N]
//! ```
//!
//! Every server is a process of its own, pinned to one core. The load runs on the same core unless told otherwise:
//! there a message's cost drifts least, since no wake-up crosses cores.
//!
//! | file | what |
//! |---|---|
//! | `server.rs` | the list of servers; starts one as a process, ends it, reads its clock |
//! | `server_*.rs` | one server each |
//! | `load.rs` | the workloads and the load generator |
//! | `report.rs` | medians, ratios, the machine |
//! | `sys.rs` | DOOR: system calls |
//!
//! A new server is a line in `server.rs` and a file; a new workload is a line in `load.rs`.
#![deny(unsafe_code)]

mod load;
mod report;
mod server;
mod server_epoll;
mod server_resay;
mod server_tokio;
#[allow(unsafe_code)] // DOOR: the kernel.
mod sys;

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use load::Workload;
use report::Row;
use server::{Running, Server};

const USAGE: &str =
    "usage: peers [--quick] [--rounds N] [--seconds S] [--only WORKLOAD]... [--servers A,B,...]
             [--server-core N] [--load-core N]
       peers serve NAME CORE";

struct Plan {
    rounds: usize,
    measured: Duration,
    workloads: Vec<Workload>,
    servers: Vec<Server>,
    server_core: usize,
    load_core: usize,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["serve", name, core] => serve(name, core),
        ["--help" | "-h"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => Plan::read(&arguments).and_then(|plan| plan.run()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::from(2)
        }
    }
}

fn serve(name: &str, core: &str) -> Result<(), Box<dyn Error>> {
    name.parse::<Server>()?.serve(core.parse()?)
}

impl Plan {
    fn read(arguments: &[String]) -> Result<Plan, Box<dyn Error>> {
        let mut plan = Plan {
            rounds: 5,
            measured: Duration::from_secs(2),
            workloads: Vec::new(),
            servers: Server::ALL.to_vec(),
            server_core: 0,
            load_core: 0,
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} wants a value\n{USAGE}"));
            match argument.as_str() {
                "--quick" => (plan.rounds, plan.measured) = (3, Duration::from_millis(500)),
                "--rounds" => plan.rounds = value()?.parse()?,
                "--seconds" => plan.measured = Duration::try_from_secs_f64(value()?.parse()?)?,
                "--only" => {
                    let text = value()?;
                    let found = Workload::ALL.into_iter().find(|workload| workload.name == text);
                    let names = Workload::ALL.map(|workload| workload.name).join(", ");
                    plan.workloads
                        .push(found.ok_or(format!("there is no workload {text:?}; there are {names}"))?);
                }
                "--servers" => {
                    plan.servers = value()?.split(',').map(str::parse).collect::<Result<_, _>>()?;
                }
                "--server-core" => plan.server_core = value()?.parse()?,
                "--load-core" => plan.load_core = value()?.parse()?,
                other => return Err(format!("what is {other:?}?\n{USAGE}").into()),
            }
        }
        if plan.rounds == 0 || plan.measured.is_zero() {
            return Err("there must be a round and a time".into());
        }
        if plan.workloads.is_empty() {
            plan.workloads = Workload::ALL.to_vec();
        }
        plan.servers.retain(|server| match server.missing() {
            None => true,
            Some(reason) => {
                println!("{server} is left out: {reason}");
                false
            }
        });
        Ok(plan)
    }

    fn run(&self) -> Result<(), Box<dyn Error>> {
        println!("{}", report::machine());
        sys::pin(self.load_core)?;
        sys::raise_descriptor_limit()?;
        println!(
            "server on core {}, load on core {}; medians of {} interleaved rounds of {:?}; ratios to {}\n",
            self.server_core,
            self.load_core,
            self.rounds,
            self.measured,
            self.servers.first().map_or("nothing", |server| server.name()),
        );
        let mut rows = Vec::new();
        for workload in &self.workloads {
            rows.extend(self.measure(workload)?);
        }
        eprintln!();
        println!("{}", report::table(&self.workloads, &rows));
        Ok(())
    }

    fn measure(&self, workload: &Workload) -> Result<Vec<Row>, Box<dyn Error>> {
        let mut rows: Vec<Row> = self
            .servers
            .iter()
            .map(|server| Row { workload: workload.name, server: *server, samples: Vec::new() })
            .collect();
        let warm_up = (self.measured / 4).min(Duration::from_millis(300));
        for round in 1..=self.rounds {
            for row in &mut rows {
                eprint!("\r{:8} round {round}/{} {:15}", workload.name, self.rounds, row.server);
                std::io::stderr().flush()?;
                let running = Running::start(row.server, self.server_core)?;
                let sample = load::run(workload, &running, row.server.shouts(), warm_up, self.measured)
                    .map_err(|error| format!("{} under {}: {error}", row.server, workload.name))?;
                row.samples.push(sample);
            }
        }
        Ok(rows)
    }
}
