//! Runs the probes of a plugin file: the parent asks for each, the child answers one.

use crate::child::Child;
use crate::cost::{self, Cost};
use crate::file;
use crate::in_use;
use crate::info::Info;
use crate::options::CheckOptions;
use crate::parent::{Asked, ask};
use crate::probes::{self, COST, LIBRARY, Probe, TRANSFORM};
use crate::promise::Promise;
use crate::report::{Finding, Hint, Outcome, Report};
use crate::request::Request;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::process::ExitCode;

/// Answers one probe, if this process was started for one: `main()` calls this first and ends with the code that it
/// returns. `None`: this process was not started for a probe.
pub fn child_main() -> Option<ExitCode> {
    let Ok(child) = Child::begin()? else { return Some(ExitCode::FAILURE) };
    let result = probes::answer(&child.request);
    child.finish(&result);
    Some(ExitCode::SUCCESS)
}

/// Runs all probes.
pub(crate) fn run(file: &Path, options: &CheckOptions) -> Report {
    let seed = options.seed.unwrap_or_else(|| RandomState::new().hash_one(std::process::id()) >> 16);
    let mut report =
        Report { file: file.to_owned(), seed, findings: Vec::new(), costs: Vec::new(), hints: Vec::new() };
    let before = file::check(file);
    let is_file = before
        .iter()
        .all(|finding| finding.promise != Promise::File || !matches!(finding.outcome, Outcome::Fail(_)));
    report.findings.extend(before);
    if !is_file {
        return report;
    }
    report.hints.extend(in_use::hint(file).map(|text| Hint { transform: String::new(), text }));
    let request = Request {
        file: file.to_owned(),
        probe: String::new(),
        transform: String::new(),
        options: Vec::new(),
        seed,
        budget: options.budget,
        limit: options.limit,
    };
    let mut run = Run { report: &mut report, options };
    let Some(data) = run.run_all(LIBRARY, &request) else { return report };
    let Some(info) = Info::from_data(file, &data) else { return report };
    for transform in run.chosen(&info) {
        let mut given = options.options.clone();
        let described = info.transforms.iter().find(|described| described.id == transform);
        let has_map = described.is_some_and(|described| described.has_map);
        for option in described.iter().flat_map(|described| &described.options) {
            if option.fallback.is_none() && !given.iter().any(|(key, _)| *key == option.key) {
                let value = option.min.clone().or_else(|| option.max.clone());
                given.push((option.key.clone(), value.unwrap_or_else(|| sample(&option.kind).to_owned())));
            }
        }
        let request = Request { transform, options: given, ..request.clone() };
        let is_whole = run.run_all(TRANSFORM, &request).is_some();
        if is_whole && options.cost {
            run.measure(&request, has_map);
        }
    }
    report
}

/// Asks for the description of every transform of a library.
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

struct Run<'a> {
    report: &'a mut Report,
    options: &'a CheckOptions,
}

impl Run<'_> {
    /// The data of these probes; `None`: an essential one failed, and those after it were skipped.
    fn run_all(&mut self, probes: &[Probe], request: &Request) -> Option<Vec<String>> {
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
            let asked = self.run(probe, request);
            if probe.is_essential && matches!(asked.finding.outcome, Outcome::Fail(_)) {
                failed = Some(probe.name);
            }
            data.extend(asked.data);
            self.report.findings.push(asked.finding);
        }
        failed.is_none().then_some(data)
    }

    fn run(&self, probe: &Probe, request: &Request) -> Asked {
        let request = Request { probe: probe.name.to_owned(), ..request.clone() };
        let mut asked = ask(&request, &self.options.child_arguments, probe.name, probe.promise);
        if let Outcome::Fail(reason) = &asked.finding.outcome
            && probe.is_intrusive
            && asked.finding.promise != probe.promise
        {
            let reason = format!("the transform does not run under this probe: {reason}");
            asked.finding.promise = probe.promise;
            asked.finding.outcome = Outcome::Skip(reason);
        }
        asked
    }

    fn measure(&mut self, request: &Request, has_map: bool) {
        let asked = self.run(&COST, request);
        let costs = Cost::from_data(&request.transform, &asked.data);
        if let Some(text) = cost::hint(&costs).filter(|_| has_map) {
            self.report.hints.push(Hint { transform: request.transform.clone(), text });
        }
        self.report.costs.extend(costs);
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
