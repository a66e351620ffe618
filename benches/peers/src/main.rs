//! Resay beside other people's echo servers: the same load, in the same run, round after round in turn, so that the
//! machine's moods fall on all alike. What counts is the ratios; the figures themselves are this machine's.
//!
//! `cargo xtask peers` builds the servers and calls this program:
//!
//! ```text
//! peers run BUILT [--quick] [--rounds N] [--seconds S] [--idle N] [--only TEXT]... [--servers A,B,...]
//!                 [--server-core N] [--load-core N] [--out DIR]
//! ```
//!
//! Two passes. *Cost*: the load on the server's own core, where a message's processor time drifts least, since no
//! wake-up crosses cores. *Time*: the load on the other core, where answers take what they take.
//!
//! | file | what |
//! |---|---|
//! | `peer.rs` | the list of servers, and how each is started; their sources are in `servers/` |
//! | `workload.rs` | the list of workloads |
//! | `load/` | the load: streams and datagrams by the generator of `resay bench`; short connections, idle ones |
//! | `running.rs`, `place.rs`, `procfs.rs` | a server as a process: when it listens, where, and what it uses |
//! | `plan.rs`, `results.rs` | the command line and the rounds; what they measured |
//! | `report/` | medians, ratios, the page and its pictures |
//! | `flame.rs` | where Resay's time goes, by perf(1) |
//! | `server_resay.rs` | Resay as one of the servers |
//! | `sys/` | unsafe boundary: system calls |
//!
//! A new server is a line in `peer.rs` and a file in `servers/`; a new workload is a line in `workload.rs`.
#![deny(unsafe_code)]

mod flame;
mod load;
mod peer;
mod place;
mod plan;
mod procfs;
mod report;
mod results;
mod running;
mod server_resay;
#[allow(unsafe_code)] // Unsafe boundary: the kernel.
mod sys;
mod workload;

use std::error::Error;
use std::process::ExitCode;

use plan::Plan;
use server_resay::Variant;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["serve", variant, kind, place] => serve(variant, kind, place),
        ["run", built, ..] => Plan::read(built, &arguments[2..]).and_then(Plan::run),
        _ => {
            println!("{}", plan::USAGE);
            return ExitCode::SUCCESS;
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::from(2)
        }
    }
}

fn serve(variant: &str, kind: &str, place: &str) -> Result<(), Box<dyn Error>> {
    let found = Variant::ALL.into_iter().find(|found| found.name() == variant);
    let Some(variant) = found else { return Err(format!("there is no variant {variant:?}").into()) };
    sys::raise_descriptor_limit()?;
    server_resay::serve(variant, kind, place)
}
