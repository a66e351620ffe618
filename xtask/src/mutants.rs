//! `cargo xtask mutants`: whether the tests would notice if an important line were wrong.
//!
//! `tests/mutants.toml` lists mutants: a line of the engine, what it is changed to, and the tests that must fail then. The
//! engine is copied with every one of them in it, each behind a question: `if crate::mutants::is(7) { new } else { old }`. So
//! all of them are in one build, RESAY_MUTANT chooses one while tests run, and nothing of it is in the sources
//! (docs/decisions/21-mutants.md).

mod list;
mod tree;

use std::ffi::OsString;
use std::fs;
use std::process::{Command, Stdio};

use crate::files::about;
use crate::place::{Place, uring_refusal};
use crate::report::{Outcome, Report, Runner, counts, run};
use list::{Mutant, Test, parse};
use tree::SWITCH;

/// Tests that hang are ended sooner than others: `.config/nextest.toml`.
const PROFILE: &str = "mutants";

/// Whether the list is true: each text stands where it is said to, and each test exists.
pub(crate) fn check(place: &Place) -> Outcome {
    let findings = load(place).map(|mutants| findings(place, &mutants));
    match findings {
        Ok(findings) if findings.is_empty() => Outcome::Ok,
        Ok(findings) => {
            findings.iter().for_each(|finding| println!("{finding}"));
            Outcome::Failed(format!("{}: {} findings", list::PATH, findings.len()))
        }
        Err(reason) => Outcome::Failed(reason),
    }
}

/// Lets the tests meet the mutants, all or those whose names have one of `wanted` in them.
pub(crate) fn run_all(place: &Place, report: &mut Report, wanted: &[String]) {
    if !place.has_cargo("nextest") {
        report.step("mutants", || Outcome::Skipped("cargo nextest is not installed".to_owned()));
        return;
    }
    let mut suite = None;
    let is_built = report.step("build with all mutants", || match Suite::build(place, wanted) {
        Ok(built) => {
            suite = Some(built);
            Outcome::Ok
        }
        Err(reason) => Outcome::Failed(reason),
    });
    let Some(suite) = suite.filter(|_| is_built) else { return };
    report.step("their tests, without a mutant", || suite.without_mutant());
    for (number, mutant) in suite.mutants.iter().filter(|(_, mutant)| mutant.is_named(wanted)) {
        report.step(&mutant.name, || suite.meet(*number, mutant));
    }
}

fn load(place: &Place) -> Result<Vec<Mutant>, String> {
    let path = place.root.join(list::PATH);
    parse(&fs::read_to_string(&path).map_err(about(&path))?)
}

/// What is not true of the list.
fn findings(place: &Place, mutants: &[Mutant]) -> Vec<String> {
    let mut findings = tree::overlaps(place, mutants);
    for mutant in mutants {
        if mutants.iter().filter(|other| other.name == mutant.name).count() > 1 {
            findings.push(format!("{}: two mutants have this name", mutant.name));
        }
        for test in &mutant.tests {
            if let Err(reason) = test.find(&place.root) {
                findings.push(format!("{}: {reason}", mutant.name));
            }
        }
    }
    findings
}

/// The copy of the sources, built.
struct Suite<'a> {
    place: &'a Place,
    tree: tree::Tree,
    mutants: Vec<(usize, Mutant)>,
    tests: Vec<Test>,
}

impl<'a> Suite<'a> {
    fn build(place: &'a Place, wanted: &[String]) -> Result<Suite<'a>, String> {
        let mutants = load(place)?;
        let tree = tree::Tree::write(place, &mutants)?;
        let mutants: Vec<_> = (1..).zip(mutants).collect();
        let chosen = mutants.iter().filter(|(_, mutant)| mutant.is_named(wanted));
        let mut tests: Vec<_> = chosen.flat_map(|(_, mutant)| mutant.tests.clone()).collect();
        tests.sort();
        tests.dedup();
        if tests.is_empty() {
            return Err(format!("no mutant is called {}", wanted.join(" or ")));
        }
        let suite = Suite { place, tree, mutants, tests };
        let mut build = suite.nextest("run --no-run --cargo-quiet");
        build.args(suites_of(&suite.tests));
        match run(build) {
            Outcome::Ok => Ok(suite),
            _ => Err("the copy with the mutants does not compile".to_owned()),
        }
    }

    fn nextest(&self, arguments: &str) -> Command {
        let mut command = self.place.cargo(&format!("nextest {arguments} --package resay"));
        command.current_dir(&self.tree.sources).env("CARGO_TARGET_DIR", &self.tree.built);
        command
    }

    /// Tests that fail without a mutant would catch everything.
    fn without_mutant(&self) -> Outcome {
        let (passed, failed, output) = match self.test(&self.tests, None, None) {
            Ok(result) => result,
            Err(reason) => return Outcome::Failed(reason),
        };
        if failed == 0 && passed > 0 {
            return Outcome::Ok;
        }
        println!("{output}");
        Outcome::Failed(format!("{failed} tests fail"))
    }

    /// Whether all tests that are to catch a mutant do.
    fn meet(&self, number: usize, mutant: &Mutant) -> Outcome {
        if mutant.driver.as_deref() == Some("uring")
            && let Some(why) = uring_refusal()
        {
            return Outcome::Skipped(why);
        }
        let result = self.test(&mutant.tests, Some(number), mutant.driver.as_deref());
        let (passed, failed, output) = match result {
            Ok(result) => result,
            Err(reason) => return Outcome::Failed(reason),
        };
        match (&mutant.lives, passed, failed) {
            (_, 0, 0) => {
                println!("{output}");
                Outcome::Failed("no test was run".to_owned())
            }
            (None, 0, _) => Outcome::Ok,
            (None, ..) => Outcome::Failed(format!("it lives: {passed} of {} tests pass", passed + failed)),
            (Some(why), _, 0) => Outcome::Skipped(format!("it lives: {why}")),
            (Some(_), ..) => Outcome::Failed("it is said to live, and a test catches it".to_owned()),
        }
    }

    /// Runs tests: how many pass, how many do not, and what was printed.
    fn test(
        &self,
        tests: &[Test],
        mutant: Option<usize>,
        driver: Option<&str>,
    ) -> Result<(u64, u64, String), String> {
        let mut command = self.nextest(&format!("run --no-fail-fast --profile {PROFILE}"));
        command.args(suites_of(tests));
        let filters: Vec<_> = tests.iter().map(Test::filter).collect();
        command.arg("--filterset").arg(filters.join(" | "));
        command.env_remove(SWITCH).env_remove("RESAY_BACKEND");
        command.envs(mutant.map(|number| (SWITCH, number.to_string())));
        command.envs(driver.map(|driver| ("RESAY_BACKEND", driver)));
        // nextest ends what hangs, and all that it has started.
        let output = command.stdin(Stdio::null()).output().map_err(|error| format!("cargo: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        let (passed, failed) = counts(Runner::Nextest, &text);
        Ok((passed, failed, text.into_owned()))
    }
}

/// `--lib --test tcp …`, so that nothing else is built and asked for its tests.
fn suites_of(tests: &[Test]) -> Vec<OsString> {
    let mut suites: Vec<&str> = tests.iter().map(|test| test.suite.as_str()).collect();
    suites.sort_unstable();
    suites.dedup();
    let mut arguments = Vec::new();
    for suite in suites {
        match suite {
            "lib" => arguments.push("--lib".into()),
            suite => arguments.extend(["--test".into(), suite.into()]),
        }
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_true() {
        let place = Place::find().unwrap();
        let mutants = load(&place).unwrap();
        let findings = findings(&place, &mutants);
        assert!(findings.is_empty(), "{findings:#?}");
        assert!(mutants.len() >= 60, "{} mutants", mutants.len());
    }
}
