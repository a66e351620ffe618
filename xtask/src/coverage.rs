//! `cargo xtask coverage`: of the branches of the modules that decide what becomes of bytes, how many the tests take. Branches
//! are counted by a nightly compiler, and read by the tools of an LLVM that is as new as the compiler's own.
//!
//! What a release build does not have does not count: tests, and functions of debug builds, which consist of assertions of
//! which one side is never taken.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::examples::exists;
use crate::files::about;
use crate::place::Place;
use crate::report::{Outcome, Report, Runner, capture, run, run_tests};
use crate::sanitize::{said, tool};

/// A module and where it is: beginnings of paths.
const MODULES: [(&str, &[&str]); 7] = [
    ("connection", &["src/connection/"]),
    ("datagram", &["src/datagram.rs", "src/datagram/"]),
    ("frame", &["src/frame/"]),
    ("chain", &["src/chain/"]),
    ("guard", &["src/net/guard.rs", "src/net/guard/"]),
    ("address", &["src/net/address.rs", "src/net/address/"]),
    ("spec", &["src/transform/spec.rs"]),
];
/// Of the branches of each module, in percent.
const TAKEN_MIN: usize = 95;
/// Where cargo-llvm-cov is told of the tools; by itself it knows those of the component llvm-tools.
const TOOLS: [(&str, &str); 2] = [("LLVM_COV", "llvm-cov"), ("LLVM_PROFDATA", "llvm-profdata")];

pub(crate) fn coverage(place: &Place, report: &mut Report) {
    let tools = match Tools::find() {
        Ok(tools) => tools,
        Err(reason) => {
            report.step("coverage", || Outcome::Skipped(reason));
            return;
        }
    };
    let target = place.built.join("coverage");
    // What a build of before has left counts nothing: its sources may be others.
    let is_clean = report.step("coverage: clean", || {
        run(tools.command(place, &target, &["clean", "--workspace", "--profraw-only"]))
    });
    let tests = || {
        let arguments = if place.has_cargo("nextest") {
            &["nextest", "--no-fail-fast", "--color", "never"][..]
        } else {
            &["test", "--no-fail-fast"][..]
        };
        let runner = if place.has_cargo("nextest") { Runner::Nextest } else { Runner::Cargo };
        let mut command = tools.command(place, &target, arguments);
        command.args(["--branch", "--no-report", "--package", "resay", "--lib"]);
        run_tests(runner, command)
    };
    if !is_clean || !report.step("coverage: tests", tests) {
        return;
    }
    let mut all = BTreeMap::new();
    report.step("coverage: branches", || {
        let file = target.join("lcov.info");
        let mut command = tools.command(place, &target, &["report", "--branch", "--lcov"]);
        command.args(["--package", "resay", "--output-path"]).arg(&file);
        let counted = capture(command).and_then(|_| fs::read_to_string(&file).map_err(about(&file)));
        let read = |path: &str| fs::read_to_string(place.root.join(path)).map_err(about(Path::new(path)));
        match counted.and_then(|counted| branches(&counted, &place.root, read)) {
            Ok(found) => all = found,
            Err(reason) => return Outcome::Failed(reason),
        }
        Outcome::Ok
    });
    for (module, files) in MODULES {
        let of_module: Vec<_> =
            all.iter().filter(|(branch, _)| files.iter().any(|file| branch.file.starts_with(file))).collect();
        let missed = of_module.iter().filter(|(_, is_taken)| !**is_taken).map(|(branch, _)| branch);
        missed.for_each(|branch| println!("{branch}"));
        let taken = of_module.iter().filter(|(_, is_taken)| **is_taken).count();
        report.step(&sum(module, taken, of_module.len()), || outcome(taken, of_module.len()));
    }
}

fn sum(module: &str, taken: usize, count: usize) -> String {
    let tenths = (1000 * taken).checked_div(count).unwrap_or(0);
    format!("{module:<10} {taken:>4} of {count:>4} branches, {:>3}.{} %", tenths / 10, tenths % 10)
}

fn outcome(taken: usize, count: usize) -> Outcome {
    match count {
        0 => Outcome::Failed("it has no branches: has it moved?".to_owned()),
        _ if 100 * taken < TAKEN_MIN * count => Outcome::Failed(format!("less than {TAKEN_MIN} %")),
        _ => Outcome::Ok,
    }
}

/// The programs that read what was counted.
struct Tools {
    /// Variables and programs; none where cargo-llvm-cov finds them itself.
    variables: Vec<(&'static str, PathBuf)>,
}

impl Tools {
    fn find() -> Result<Tools, String> {
        let missing = "there is no nightly toolchain (rustup toolchain install nightly)";
        let version = said(tool(None, "rustc").arg("-vV")).ok_or(missing)?;
        if said(tool(None, "cargo").args(["llvm-cov", "--version"])).is_none() {
            return Err("there is no cargo-llvm-cov (cargo install cargo-llvm-cov)".to_owned());
        }
        let line = |name: &str| version.lines().find_map(|line| line.strip_prefix(name));
        let major = line("LLVM version: ").and_then(|llvm| llvm.split('.').next()).unwrap_or_default();
        let component = said(tool(None, "rustc").args(["--print", "sysroot"])).is_some_and(|root| {
            let host = line("host: ").unwrap_or_default();
            Path::new(&root).join("lib/rustlib").join(host).join("bin/llvm-cov").is_file()
        });
        let is_named = TOOLS.iter().all(|(variable, _)| std::env::var_os(variable).is_some());
        if component || is_named {
            return Ok(Tools { variables: Vec::new() });
        }
        // As Debian names them.
        let program = |name: &str| format!("{name}-{major}");
        if TOOLS.iter().all(|(_, name)| exists(&program(name))) {
            let found = TOOLS.iter().map(|(variable, name)| (*variable, PathBuf::from(program(name))));
            return Ok(Tools { variables: found.collect() });
        }
        Err(format!(
            "there is no llvm-cov that reads what LLVM {major} counts (rustup component add llvm-tools --toolchain nightly; \
             or the Debian package llvm-{major}; or LLVM_COV and LLVM_PROFDATA)"
        ))
    }

    fn command(&self, place: &Place, target: &Path, arguments: &[&str]) -> Command {
        let mut command = tool(None, "cargo");
        command.arg("llvm-cov").args(arguments).current_dir(&place.root).env("CARGO_TARGET_DIR", target);
        command.envs(self.variables.iter().map(|(variable, program)| (variable, program)));
        command
    }
}

/// One side of a condition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Branch {
    /// As seen from the workspace.
    file: String,
    line: usize,
    /// Its number in that line: even where the condition holds, and odd where it does not.
    number: usize,
    text: String,
}

impl fmt::Display for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Branch { file, line, number, text } = self;
        let side = if number.is_multiple_of(2) { "true" } else { "false" };
        write!(f, "never {side}, condition {}: {file}:{line}: {text}", number / 2 + 1)
    }
}

/// The branches that count, and whether each was taken, out of a file of lcov (geninfo(1)). `read`: gives a source.
fn branches(
    lcov: &str,
    root: &Path,
    read: impl Fn(&str) -> Result<String, String>,
) -> Result<BTreeMap<Branch, bool>, String> {
    let mut all = BTreeMap::new();
    let mut at: Option<(String, Vec<String>, BTreeSet<usize>)> = None;
    for record in lcov.lines() {
        if let Some(path) = record.strip_prefix("SF:") {
            let path = Path::new(path).strip_prefix(root).unwrap_or(Path::new(path)).to_string_lossy();
            let is_ours = MODULES.iter().flat_map(|(_, files)| *files).any(|file| path.starts_with(file));
            let is_test = path.ends_with("/tests.rs") || path.contains("/tests/");
            at = None;
            if is_ours && !is_test {
                let source = read(&path)?;
                let lines: Vec<_> = source.lines().map(str::to_owned).collect();
                let hidden = not_released(&lines);
                at = Some((path.into_owned(), lines, hidden));
            }
        }
        // BRDA:line,block,branch,taken
        let (Some((file, lines, hidden)), Some(fields)) = (&at, record.strip_prefix("BRDA:")) else {
            continue;
        };
        let fields: Vec<_> = fields.split(',').collect();
        let [line, _, number, taken] = fields.as_slice() else {
            return Err(format!("{record:?} is no branch of lcov"));
        };
        let (Ok(line), Ok(number)) = (line.parse::<usize>(), number.parse()) else {
            return Err(format!("{record:?} is no branch of lcov"));
        };
        if !hidden.contains(&line) {
            let text = line.checked_sub(1).and_then(|line| lines.get(line)).map_or("", |text| text.trim());
            let branch = Branch { file: file.clone(), line, number, text: text.to_owned() };
            *all.entry(branch).or_insert(false) |= !matches!(*taken, "0" | "-");
        }
    }
    Ok(all)
}

/// The numbers of the lines of which a release build has nothing: items of tests and of debug builds, as rustfmt writes them.
fn not_released(lines: &[String]) -> BTreeSet<usize> {
    let mut hidden = BTreeSet::new();
    for (place, line) in lines.iter().enumerate() {
        let attribute = line.trim_start();
        if !matches!(attribute, "#[cfg(test)]" | "#[cfg(debug_assertions)]") {
            continue;
        }
        let end = format!("{}}}", &line[..line.len() - attribute.len()]);
        let item = lines.iter().skip(place + 1).take_while(|line| **line != end);
        hidden.extend((1..=1 + item.count()).map(|offset| place + offset));
    }
    hidden
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "\
fn a() {
    if x && y {}
}

#[cfg(debug_assertions)]
fn check() {
    if x {}
}

fn b() {
    if z {}
}

#[cfg(test)]
mod tests {
    fn c() {
        if z {}
    }
}
";

    fn found(lcov: &str) -> Result<Vec<(String, bool)>, String> {
        let all = branches(lcov, Path::new("/there"), |_| Ok(SOURCE.to_owned()))?;
        Ok(all.into_iter().map(|(branch, is_taken)| (branch.to_string(), is_taken)).collect())
    }

    #[test]
    fn branches_of_releases_are_found() {
        let lcov = "SF:/there/src/frame/mod.rs\nDA:2,1\nBRDA:2,0,0,7\nBRDA:2,0,1,0\nBRDA:2,1,2,-\nBRDA:2,1,3,1\n\
                    BRDA:7,0,0,1\nBRDA:11,0,0,0\nBRDA:11,0,0,5\nBRDA:17,0,0,1\nend_of_record\n\
                    SF:/there/src/frame/tests.rs\nBRDA:2,0,0,7\nend_of_record\n\
                    SF:/there/src/engine.rs\nBRDA:2,0,0,7\nend_of_record\n";
        let first = "src/frame/mod.rs:2: if x && y {}";
        let expected = [
            (format!("never true, condition 1: {first}"), true),
            (format!("never false, condition 1: {first}"), false),
            (format!("never true, condition 2: {first}"), false),
            (format!("never false, condition 2: {first}"), true),
            ("never true, condition 1: src/frame/mod.rs:11: if z {}".to_owned(), true),
        ];
        assert_eq!(found(lcov).unwrap(), expected);
        assert!(found("SF:/there/src/frame/mod.rs\nBRDA:2,0,7\n").is_err());
    }

    #[test]
    fn a_module_with_too_few_branches_fails() {
        assert_eq!(outcome(95, 100), Outcome::Ok);
        assert!(matches!(outcome(94, 100), Outcome::Failed(_)));
        assert!(matches!(outcome(0, 0), Outcome::Failed(_)));
        assert_eq!(sum("chain", 949, 1000), "chain       949 of 1000 branches,  94.9 %");
    }
}
