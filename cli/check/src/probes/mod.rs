//! The questions, in the order in which they are put: first of the library, then of each transform.

mod create;
mod fuzz;
mod library;
mod life;
mod memory;
mod promises;
mod sessions;
mod state;
mod stream;
mod structs;

use crate::CheckOptions;
use crate::child::{Answer, Asked, Request, ask};
use crate::cost::{self, Cost};
use crate::drive::{Breach, Desk, Kept, Subject};
use crate::info::Info;
use crate::plan::unsteady;
use crate::promise::Promise;
use crate::report::{Finding, Outcome, Report};
use crate::table::Loaded;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::time::Duration;

/// What a probe says when nothing was broken.
#[derive(Debug)]
pub(crate) enum Verdict {
    Held,
    /// It held, and this was asked for.
    Data(Vec<String>),
    /// It was not tested; why.
    Skipped(String),
}

/// One question.
struct Probe {
    name: &'static str,
    promise: Promise,
    /// Where it fails, the rest would fail likewise.
    is_essential: bool,
    run: fn(&Request) -> Kept<Verdict>,
}

const fn probe(name: &'static str, promise: Promise, run: fn(&Request) -> Kept<Verdict>) -> Probe {
    Probe { name, promise, is_essential: false, run }
}

const fn essential(name: &'static str, promise: Promise, run: fn(&Request) -> Kept<Verdict>) -> Probe {
    Probe { name, promise, is_essential: true, run }
}

/// Of the library, in children.
const LIBRARY: &[Probe] = &[
    essential("load", Promise::Loads, library::load),
    essential("table", Promise::Table, library::describe),
    probe("entry", Promise::Entry, library::entry),
];

/// Of each transform.
const TRANSFORM: &[Probe] = &[
    essential("create", Promise::Creates, create::create),
    essential("call", Promise::NoCrash, create::call),
    probe("options", Promise::Options, create::options),
    probe("structs", Promise::StructSize, structs::structs),
    probe("leaks", Promise::Leaks, life::leaks),
    probe("alone", Promise::Alone, life::alone),
    probe("memory", Promise::Place, memory::memory),
    probe("ends", Promise::Ends, stream::ends),
    probe("room", Promise::Room, stream::room),
    probe("bound", Promise::Bound, promises::bound),
    probe("bytewise", Promise::Bytewise, promises::bytewise),
    probe("observer", Promise::Observer, promises::observer),
    probe("alias", Promise::Alias, promises::alias),
    probe("sessions", Promise::Sessions, sessions::interleaved),
    probe("threads", Promise::Threading, sessions::threads),
    probe("state", Promise::SessionState, state::state),
    probe("unload", Promise::Unload, life::unload),
    probe("fuzz", Promise::NoCrash, fuzz::fuzz),
];

const COST: Probe = probe("cost", Promise::Returns, cost::measure);

/// Puts them all.
pub(crate) use library::before_loading;
pub(crate) use life::TUNABLES;

pub(crate) fn run(file: &Path, options: &CheckOptions) -> Report {
    let seed = options.seed.unwrap_or_else(|| RandomState::new().hash_one(std::process::id()) >> 16);
    let mut report = Report { file: file.to_owned(), seed, findings: Vec::new(), costs: Vec::new() };
    let before = before_loading(file);
    let is_file = before
        .iter()
        .all(|finding| finding.promise != Promise::File || !matches!(finding.outcome, Outcome::Fail(_)));
    report.findings.extend(before);
    if !is_file {
        return report;
    }
    let request = Request {
        file: file.to_owned(),
        probe: String::new(),
        transform: String::new(),
        options: Vec::new(),
        seed,
        budget: options.budget,
        limit: options.limit,
    };
    let mut session = Inquiry { report: &mut report, options };
    let Some(data) = session.put_all(LIBRARY, &request) else { return report };
    let Some(info) = Info::from_data(file, &data) else { return report };
    for transform in session.chosen(&info) {
        let mut given = options.options.clone();
        for option in info.transforms.iter().filter(|t| t.id == transform).flat_map(|t| &t.options) {
            if option.fallback.is_none() && !given.iter().any(|(key, _)| *key == option.key) {
                given.push((option.key.clone(), sample(&option.kind).to_owned()));
            }
        }
        let request = Request { transform, options: given, ..request.clone() };
        let is_whole = session.put_all(TRANSFORM, &request).is_some();
        if is_whole && options.cost {
            session.measure(&request);
        }
    }
    report
}

/// One probe, by name, for [`info`](crate::info()).
pub(crate) fn describe(file: &Path, options: &CheckOptions) -> Asked {
    let request = Request {
        file: file.to_owned(),
        probe: "table".to_owned(),
        transform: String::new(),
        options: Vec::new(),
        seed: 0,
        budget: options.budget,
        limit: options.limit,
    };
    ask(&request, &options.child_arguments, "table", Promise::Table)
}

struct Inquiry<'a> {
    report: &'a mut Report,
    options: &'a CheckOptions,
}

impl Inquiry<'_> {
    /// The data that they gave; `None`: an essential one failed, and the others were skipped.
    fn put_all(&mut self, probes: &[Probe], request: &Request) -> Option<Vec<String>> {
        let mut data = Vec::new();
        let mut failed = None;
        for probe in probes {
            if let Some(name) = failed {
                let outcome = Outcome::Skip(format!("'{name}' failed"));
                self.report.findings.push(Finding {
                    transform: request.transform.clone(),
                    probe: probe.name,
                    promise: probe.promise,
                    outcome,
                    details: Vec::new(),
                });
                continue;
            }
            let asked = self.put(probe, request);
            if probe.is_essential && matches!(asked.finding.outcome, Outcome::Fail(_)) {
                failed = Some(probe.name);
            }
            data.extend(asked.data);
            self.report.findings.push(asked.finding);
        }
        failed.is_none().then_some(data)
    }

    fn put(&self, probe: &Probe, request: &Request) -> Asked {
        let request = Request { probe: probe.name.to_owned(), ..request.clone() };
        ask(&request, &self.options.child_arguments, probe.name, probe.promise)
    }

    fn measure(&mut self, request: &Request) {
        let asked = self.put(&COST, request);
        self.report.costs.extend(Cost::from_data(&request.transform, &asked.data));
        if asked.finding.outcome != Outcome::Pass {
            self.report.findings.push(asked.finding);
        }
    }

    fn chosen(&mut self, info: &Info) -> Vec<String> {
        let ids: Vec<String> = info.transforms.iter().map(|transform| transform.id.clone()).collect();
        match &self.options.transform {
            Some(id) if ids.contains(id) => vec![id.clone()],
            Some(id) => {
                self.report.findings.push(Finding {
                    transform: id.clone(),
                    probe: "table",
                    promise: Promise::Table,
                    outcome: Outcome::Fail(format!("there is no '{id}' here, but {}", ids.join(", "))),
                    details: Vec::new(),
                });
                Vec::new()
            }
            None if self.options.options.is_empty() => ids,
            None => ids.into_iter().take(1).collect(),
        }
    }
}

/// In the child.
pub(crate) fn answer(request: &Request) -> Answer {
    let mut probes = LIBRARY.iter().chain(TRANSFORM).chain([&COST]);
    let Some(probe) = probes.find(|probe| probe.name == request.probe) else {
        return Answer::new(Promise::Table, Outcome::Skip(format!("no probe '{}'", request.probe)));
    };
    match (probe.run)(request) {
        Ok(Verdict::Held) => Answer::new(probe.promise, Outcome::Pass),
        Ok(Verdict::Data(data)) => Answer { data, ..Answer::new(probe.promise, Outcome::Pass) },
        Ok(Verdict::Skipped(why)) => Answer::new(probe.promise, Outcome::Skip(why)),
        Err(Breach { promise, what, details }) => {
            Answer { details, ..Answer::new(promise, Outcome::Fail(what)) }
        }
    }
}

/// What probes of a transform begin with.
struct Scene {
    subject: Subject,
    desk: Desk,
    seed: u64,
    budget: Duration,
}

impl Scene {
    fn new(request: &Request) -> Kept<Scene> {
        let subject = Subject::new(&Loaded::open(&request.file)?, request)?;
        let desk = Desk::new(request.seed);
        Ok(Scene { subject, desk, seed: request.seed, budget: request.budget })
    }

    fn budget(&self) -> crate::plan::Budget {
        crate::plan::Budget::new(self.budget)
    }

    fn rng(&self) -> crate::plan::Rng {
        crate::plan::Rng::new(self.seed)
    }

    fn unsteady(&mut self) -> Kept<Option<String>> {
        unsteady(&self.subject, &mut self.desk, self.seed)
    }

    fn is_map(&self) -> bool {
        self.subject.table.fields.map.is_some()
    }
}

/// Something that an option of this type takes, for options that must be given.
fn sample(kind: &str) -> &'static str {
    match kind {
        "bool" | "integer" => "1",
        "rate" => "5%",
        "duration" => "1ms",
        "size" => "1k",
        _ => "x",
    }
}
