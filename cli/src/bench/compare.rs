//! `resay bench --compare`: what chains cost beside each other, on servers of our own.
//!
//! All servers run the whole time, and each round loads one after the other, in an order that changes from round to
//! round: so what the machine does meanwhile falls on all of them, and each round is a comparison of its own.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use resay::SpecError;
use resay::options::Frame;
use resay::transform::spec::ChainSpec;
use resay_load::Script;

use super::cores;
use super::interrupt;
use super::measure::{Measured, measure};
use super::numbers::at_least_one;
use super::plan::Plan;
use super::progress::Progress;
use super::report::comparison::{Chain, Comparison, Cores, Round};
use super::report::{About, Outcome, text};
use super::server::{self, Server};
use crate::exit::{Exit, Failure};
use crate::unquoted::Unquoted;

/// What only a comparison has.
#[derive(Debug, Args)]
#[command(next_help_heading = "Comparing chains")]
pub(crate) struct Comparing {
    /// Compare chains, on servers of its own: identity,uppercase. May be given several times
    #[arg(long, value_name = "CHAIN,…", conflicts_with = "expect")]
    pub(crate) compare: Vec<String>,
    /// How many times each chain is measured
    #[arg(long, value_name = "N", default_value_t = 10, requires = "compare", value_parser = at_least_one)]
    pub(crate) rounds: usize,
    /// Which cores the servers and the load run on
    #[arg(long, value_name = "WHICH", value_enum, default_value = "same", requires = "compare")]
    pub(crate) cores: Mode,
    /// The kernel interface of the servers: auto, uring or epoll
    #[arg(long, value_name = "BACKEND", default_value = "auto", requires = "compare")]
    pub(crate) backend: String,
    /// Threads of each server
    #[arg(long, value_name = "N", default_value_t = 1, requires = "compare", value_parser = at_least_one)]
    pub(crate) server_threads: usize,
}

/// Where the servers and the load run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// The load on the server's own core: the steadiest figures of processor time a message
    Same,
    /// Each on a core of its own: latencies and throughput as between two machines
    Apart,
    /// Wherever the system puts them
    Free,
}

/// Compares. `plan` has everything but the server's address and the chain.
pub(crate) fn run(
    base: &Plan,
    comparing: &Comparing,
    plugin_directories: &[PathBuf],
    mut about: About,
) -> Result<(Comparison, Exit), Failure> {
    let names = chains_of(&comparing.compare)?;
    let mut warnings = Vec::new();
    let cores = cores_of(comparing.cores, &mut warnings);
    let settings = server::Settings {
        backend: comparing.backend.clone(),
        threads: comparing.server_threads,
        plugin_directories: plugin_directories.to_vec(),
        core: cores.server,
    };
    let mut contenders = Vec::with_capacity(names.len());
    for (number, name) in names.into_iter().enumerate() {
        let mut plan = Plan { core: cores.load, ..base.clone() };
        plan.load.expect.clone_from(&name);
        // First, so that a chain that is wrong is told before anything is started.
        let script = Script::new(&plan.load, plugin_directories)?;
        let server = Server::start(&listen_url(&plan, &script, number), &name, &settings)?;
        plan.url.clone_from(&server.url);
        warnings.extend(server.note.clone());
        if number == 0 && server.cpu_ns().is_none() {
            warnings.push("this system does not tell the processor time of another process".to_owned());
        }
        contenders.push(Contender { name, plan, script, server, rounds: Vec::new(), notes: Vec::new() });
    }
    let mut exit = Exit::Done;
    'rounds: for round in 0..comparing.rounds {
        for place in 0..contenders.len() {
            let index = (place + round) % contenders.len();
            let Some(contender) = contenders.get_mut(index) else { continue };
            let bar = Progress::new(&format!("round {}/{} {}", round + 1, comparing.rounds, contender.name));
            let (result, ended) = contender.measure(&bar, round)?;
            if let Some(interrupt) = interrupt::seen() {
                // What was cut short is not compared with what was not.
                contenders.iter_mut().for_each(|contender| contender.forget_from(round));
                let (name, of) = (interrupt.name(), comparing.rounds);
                exit = interrupt.exit();
                if round == 0 {
                    return Err(Failure::new(
                        exit,
                        format!("{name} came before the first round was over: nothing was measured"),
                    ));
                }
                warnings.push(format!("interrupted by {name} after {round} of {of} rounds"));
                break 'rounds;
            }
            if let Some(wrong) = &result.first_wrong {
                let text = format!("chain {:?}: {}", contender.name, text::wrong(wrong));
                return Err(Failure::new(Exit::Unexpected, text));
            }
            if ended != Exit::Done {
                exit = ended;
            }
            contender.note(result.warnings, round);
        }
    }
    about.settings.expect = "each its own chain".to_owned();
    warnings.extend(about.machine.warning());
    warnings.extend(contenders.iter().flat_map(|contender| contender.warnings(comparing.rounds)));
    let chains: Vec<_> = contenders.into_iter().map(|each| (each.name, each.rounds)).collect();
    let chains = Chain::all(chains);
    let backend = comparing.backend.clone();
    let comparison = Comparison::new(about, cores, backend, comparing.server_threads, chains, warnings, exit);
    Ok((comparison, exit))
}

struct Contender {
    name: String,
    plan: Plan,
    script: Script,
    server: Server,
    rounds: Vec<Round>,
    notes: Vec<Note>,
}

/// A warning that may come in several rounds, with other figures each time.
struct Note {
    text: String,
    round: usize,
    rounds: usize,
}

/// What two warnings of one kind have in common.
fn kind_of(warning: &str) -> &str {
    warning.split_once(':').map_or(warning, |(head, _)| head)
}

impl Contender {
    fn forget_from(&mut self, round: usize) {
        self.rounds.truncate(round);
        self.notes.retain(|note| note.round < round);
    }

    fn note(&mut self, warnings: Vec<String>, round: usize) {
        for text in warnings {
            match self.notes.iter_mut().find(|note| kind_of(&note.text) == kind_of(&text)) {
                Some(note) => note.rounds += 1,
                None => self.notes.push(Note { text, round, rounds: 1 }),
            }
        }
    }

    fn warnings(&self, rounds: usize) -> impl Iterator<Item = String> {
        self.notes.iter().map(move |note| {
            let Note { text, round, rounds: times } = note;
            format!("{}: in {times} of {rounds} rounds, first in round {}: {text}", self.name, round + 1)
        })
    }

    /// One round. Where nothing is answered it is extended, up to [`LONGER_MAX`] times: on a busy machine a server may
    /// not run at all in a short one.
    fn measure(&mut self, bar: &Progress, round: usize) -> Result<(Outcome, Exit), Failure> {
        let mut plan = self.plan.clone();
        let longest = self.plan.load.duration.saturating_mul(LONGER_MAX);
        loop {
            let cpu_ns = || self.server.cpu_ns();
            let measured = match measure(&plan, &self.script, bar, Some(&cpu_ns)) {
                Err(failure) if failure.exit != Exit::Usage => Measured::nothing(&plan, &failure)?,
                result => result?,
            };
            let result = Outcome::of(&plan, &measured, &self.script)?;
            let exit = result.exit(&measured);
            let figures = Round::of(&result, &measured);
            let is_empty = figures.is_empty() || measured.server.is_some_and(|cost| cost.answers == 0);
            let is_patient = matches!(exit, Exit::Done | Exit::Timeout) && !measured.is_silent;
            if is_empty && is_patient && plan.load.duration < longest {
                plan.load.duration = plan.load.duration.saturating_mul(2).min(longest);
                continue;
            }
            let (short, duration) = (self.plan.load.duration, plan.load.duration);
            if is_empty {
                self.note(vec![format!("no answer within {duration:?}: it counts for no latency")], round);
            } else if duration > short {
                self.note(
                    vec![format!("no answer within {short:?}: it was extended to {duration:?}")],
                    round,
                );
            }
            self.rounds.push(figures);
            return Ok((result, exit));
        }
    }
}

/// How much longer a round without an answer may become.
const LONGER_MAX: u32 = 32;

fn cores_of(mode: Mode, warnings: &mut Vec<String>) -> Cores {
    let allowed = cores::allowed();
    let named = |name| Cores { mode: name, server: None, load: None };
    match (mode, allowed.as_slice()) {
        (Mode::Same, &[first, ..]) => Cores { mode: "same", server: Some(first), load: Some(first) },
        (Mode::Apart, &[first, second, ..]) => {
            Cores { mode: "apart", server: Some(first), load: Some(second) }
        }
        (Mode::Free, _) => named("free"),
        (Mode::Same, _) => {
            warnings.push("this system does not let one choose a core: --cores free".to_owned());
            named("free")
        }
        (Mode::Apart, _) => {
            warnings.push("there are no two cores for the servers and the load: --cores free".to_owned());
            named("free")
        }
    }
}

/// Where the server of this number listens. Sockets that are files, or have names, get one each.
fn listen_url(plan: &Plan, script: &Script, number: usize) -> String {
    let (mut url, plan) = (plan.url.clone(), &plan.load);
    if plan.kind.is_unix() {
        url += &format!(".{}", number + 1);
    }
    let mut options = Vec::new();
    if plan.frame != Frame::Raw {
        options.push(format!("frame={}", plan.frame));
    }
    let longest = script.answer_bytes_max();
    let default_bytes = if plan.is_stream() { 1 << 20 } else { 256 << 10 };
    if plan.is_stream() && plan.frame != Frame::Raw && plan.message_bytes > default_bytes {
        options.push(format!("max_message={}", plan.message_bytes));
    }
    if plan.kind == resay::SocketKind::Udp && longest > plan.message_bytes {
        // Answers that are longer than their requests are refused to peers that may be forged; these are not.
        options.push(format!("max_amplification={}", longest.div_ceil(plan.message_bytes.max(1))));
    }
    if options.is_empty() { url } else { format!("{url}?{}", options.join("&")) }
}

/// Chains with commas between them. A comma before `key=` belongs to the chain that it is in, for a chain begins with a
/// name, and one in quotes does so too.
fn chains_of(lists: &[String]) -> Result<Vec<String>, Failure> {
    let mut chains = Vec::new();
    for list in lists {
        let mut at = 0;
        for chain in split(list) {
            if chain.trim().is_empty() {
                let why = "a chain is missing; the plain echo is called identity";
                return Err(SpecError::new("--compare", list, at, why).into());
            }
            at += chain.len() + 1;
            // Its text, canonical: two that are written differently may be the same.
            let chain = ChainSpec::parse(chain)?.to_string();
            chains.push(if chain.is_empty() { "identity".to_owned() } else { chain });
        }
    }
    Ok(chains)
}

fn split(list: &str) -> Vec<&str> {
    let (mut chains, mut from) = (Vec::new(), 0);
    for (at, letter) in Unquoted::new(list) {
        if letter == ',' && !is_option(list.get(at + 1..).unwrap_or_default()) {
            chains.push(list.get(from..at).unwrap_or_default());
            from = at + 1;
        }
    }
    chains.push(list.get(from..).unwrap_or_default());
    chains
}

/// Whether `key=` comes next.
fn is_option(text: &str) -> bool {
    let text = text.trim_start();
    let end = text
        .find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'))
        .unwrap_or(text.len());
    end > 0 && text.get(end..).is_some_and(|rest| rest.trim_start().starts_with('='))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tests::plan;

    #[test]
    fn commas_are_between_chains_and_between_options() {
        let table: [(&str, &[&str]); 6] = [
            ("identity,uppercase", &["identity", "uppercase"]),
            ("delay:time=1ms,jitter=2ms,hex", &["delay:time=1ms,jitter=2ms", "hex"]),
            (
                "prefix:text='a,b=c',suffix:text=\"x\\\",y\"",
                &["prefix:text='a,b=c'", "suffix:text=\"x\\\",y\""],
            ),
            ("uppercase | hex:mode=encode, identity", &["uppercase | hex:mode=encode", " identity"]),
            ("", &[""]),
            (",hex", &["", "hex"]),
        ];
        for (list, chains) in table {
            assert_eq!(split(list), chains, "{list}");
        }
        let chains = chains_of(&["identity,delay:time=1ms,jitter=2ms".into(), "hex".into()]).unwrap();
        assert_eq!(chains, ["identity", "delay:time=1ms,jitter=2ms", "hex"]);
        for (list, place) in [("", 1), ("identity,", 10), (",hex", 1), ("hex, ,hex", 5), ("hex,,:", 5)] {
            let failure = chains_of(&[list.into()]).unwrap_err();
            assert!(failure.text().contains(&format!("character {place})")), "{list} {}", failure.text());
        }
    }

    #[test]
    fn servers_listen_where_they_can_answer_all() {
        let mut udp = plan("udp://127.0.0.1:0");
        udp.load.expect = "hex".into();
        let script = Script::new(&udp.load, &[]).unwrap();
        assert_eq!(listen_url(&udp, &script, 0), "udp://127.0.0.1:0?max_amplification=2");
        let mut lines = plan("unix:@name");
        lines.load.frame = Frame::Lines;
        let script = Script::new(&lines.load, &[]).unwrap();
        assert_eq!(listen_url(&lines, &script, 1), "unix:@name.2?frame=lines");
    }
}
