//! Steps, their outcomes, and the sum.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use crate::patience::{self, Work};

/// By automake's convention: what an example needs is not there.
const EXIT_SKIPPED: i32 = 77;
/// How long the output of a command may stay open after its end.
const OUTPUT_HELD_MAX: Duration = Duration::from_secs(60);

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ok,
    /// A step of many tests.
    Tests(Counts),
    Failed(String),
    /// And why.
    Skipped(String),
}

impl<T> From<Result<T, String>> for Outcome {
    fn from(result: Result<T, String>) -> Outcome {
        match result {
            Ok(_) => Outcome::Ok,
            Err(reason) => Outcome::Failed(reason),
        }
    }
}

/// What test runners counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Counts {
    fn add(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// The sum over all steps; a step that counts no tests counts as one.
#[derive(Debug, Default)]
pub(crate) struct Report {
    sum: Counts,
    failures: Vec<String>,
}

impl Report {
    /// Does one step, and says how it went. False: it failed.
    pub(crate) fn step(&mut self, name: &str, step: impl FnOnce() -> Outcome) -> bool {
        let failed_before = self.sum.failed;
        println!("---- {name}");
        let begin = Instant::now();
        let outcome = step();
        let seconds = begin.elapsed().as_secs_f64();
        match outcome {
            Outcome::Ok => {
                self.sum.passed += 1;
                println!("ok      {name} ({seconds:.1} s)");
            }
            Outcome::Tests(counts) if counts.failed == 0 => {
                self.sum.add(counts);
                println!("ok      {name}: {counts} ({seconds:.1} s)");
            }
            Outcome::Tests(counts) => {
                self.sum.add(counts);
                self.failures.push(format!("{name}: {counts}"));
                println!("FAILED  {name}: {counts} ({seconds:.1} s)");
            }
            Outcome::Failed(reason) => {
                self.sum.failed += 1;
                self.failures.push(format!("{name}: {reason}"));
                println!("FAILED  {name}: {reason} ({seconds:.1} s)");
            }
            Outcome::Skipped(reason) => {
                self.sum.skipped += 1;
                println!("skipped {name}: {reason}");
            }
        }
        self.sum.failed == failed_before
    }

    pub(crate) fn is_good(&self) -> bool {
        self.sum.failed == 0
    }
}

impl fmt::Display for Report {
    /// What failed, again, and the closing line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        for failure in &self.failures {
            writeln!(f, "FAILED  {failure}")?;
        }
        self.sum.fmt(f)
    }
}

/// Runs a command whose exit status is its outcome; what it prints is seen. It is ended if it hangs.
pub(crate) fn run(command: Command) -> Outcome {
    match status_of(command) {
        Ok(status) if status.success() => Outcome::Ok,
        Ok(status) => Outcome::Failed(status.to_string()),
        Err(reason) => Outcome::Failed(reason),
    }
}

/// The same for one that may skip itself; its output says why.
pub(crate) fn run_or_skip(command: Command) -> Outcome {
    match status_of(command) {
        Ok(status) if status.code() == Some(EXIT_SKIPPED) => {
            Outcome::Skipped("the reason is above".to_owned())
        }
        Ok(status) if status.success() => Outcome::Ok,
        Ok(status) => Outcome::Failed(status.to_string()),
        Err(reason) => Outcome::Failed(reason),
    }
}

fn status_of(mut command: Command) -> Result<ExitStatus, String> {
    let program = command.get_program().display().to_string();
    let about = |error: io::Error| format!("{program}: {error}");
    let mut child = command.stdin(Stdio::null()).spawn().map_err(about)?;
    patience::wait(&mut child, Work::Step).map_err(about)?
}

/// Whose closing line to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runner {
    /// `test result: ok. 12 passed; 0 failed; 1 ignored; …`, once for each program.
    Cargo,
    /// `Summary [   0.3s] 13 tests run: 12 passed, 1 failed, 2 skipped`. The output of a failed test, which it shows, has
    /// a line of cargo's own.
    Nextest,
    /// `== 3 passed, 1 skipped in 0.12s ==`
    Pytest,
}

/// Runs a test runner; what it prints is seen, and its closing lines are counted. It is ended if it hangs.
pub(crate) fn run_tests(runner: Runner, command: Command) -> Outcome {
    run_named_tests(runner, command).0
}

/// The same; and which tests passed, where the runner is nextest.
pub(crate) fn run_named_tests(runner: Runner, mut command: Command) -> (Outcome, BTreeSet<String>) {
    let (status, Printed { counts, passed }) = match pass_on(runner, &mut command) {
        Ok(all) => all,
        Err(error) => {
            let reason = format!("{}: {error}", command.get_program().display());
            return (Outcome::Failed(reason), BTreeSet::new());
        }
    };
    let outcome = match status {
        Err(reason) => Outcome::Failed(reason),
        Ok(status) if !status.success() && counts.failed == 0 => Outcome::Failed(status.to_string()),
        Ok(_) if counts == Counts::default() => Outcome::Failed("no test was run".to_owned()),
        Ok(_) => Outcome::Tests(counts),
    };
    (outcome, passed)
}

/// What a test runner said.
#[derive(Debug, Default)]
struct Printed {
    counts: Counts,
    /// By nextest: program and test.
    passed: BTreeSet<String>,
}

fn pass_on(runner: Runner, command: &mut Command) -> io::Result<(Result<ExitStatus, String>, Printed)> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // nextest sums up on standard error, the others on standard output.
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let from_stdout = begin(move || copy_and_count(runner, stdout, io::stdout()));
    let from_stderr = begin(move || copy_and_count(runner, stderr, io::stderr()));
    let mut status = patience::wait(&mut child, Work::Step)?;
    let mut all = Printed::default();
    for reading in [from_stdout, from_stderr] {
        match end_of(&reading) {
            Ok(Printed { counts, passed }) => {
                all.counts.add(counts);
                all.passed.extend(passed);
            }
            Err(reason) => status = status.and(Err(reason)),
        }
    }
    Ok((status, all))
}

/// Reads in a thread of its own.
fn begin<T: Send + 'static>(read: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (to, result) = mpsc::channel();
    // Nobody waits for it any more: what it read is of no use either.
    thread::spawn(move || drop(to.send(read())));
    result
}

/// What was read, once a command has ended; what it left running may hold its output for ever.
fn end_of<T>(reading: &Receiver<T>) -> Result<T, String> {
    reading
        .recv_timeout(OUTPUT_HELD_MAX)
        .map_err(|_| "it ended, but left something running that holds its output".to_owned())
}

fn copy_and_count(runner: Runner, from: Option<impl Read>, mut to: impl Write) -> Printed {
    let mut printed = Printed::default();
    let Some(from) = from else { return printed };
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
        // A closed output is no reason to stop counting.
        let _ = to.write_all(&line);
        let text = String::from_utf8_lossy(&line);
        if let Some(counts) = count(runner, &text) {
            printed.counts.add(counts);
        }
        if runner == Runner::Nextest {
            printed.passed.extend(passed_test(&text));
        }
        line.clear();
    }
    printed
}

/// The test of a line of nextest about one that passed: `PASS [   0.093s] (12/14) resay::tcp half_close`.
fn passed_test(line: &str) -> Option<String> {
    let (_, rest) = line.trim().strip_prefix("PASS [")?.split_once("] ")?;
    let name = match rest.trim_start().strip_prefix('(') {
        Some(counted) => counted.split_once(") ")?.1,
        None => rest,
    };
    Some(name.trim().to_owned())
}

/// How many tests passed and how many failed, by the closing lines of an output.
pub(crate) fn counts(runner: Runner, output: &str) -> (u64, u64) {
    output
        .lines()
        .filter_map(|line| count(runner, line))
        .fold((0, 0), |(passed, failed), counts| (passed + counts.passed, failed + counts.failed))
}

/// Reads a closing line, if it is one.
fn count(runner: Runner, line: &str) -> Option<Counts> {
    let line = line.trim();
    let list = match runner {
        Runner::Cargo => line.strip_prefix("test result: ")?.split_once(". ")?.1,
        Runner::Nextest => line.strip_prefix("Summary [")?.split_once(" run: ")?.1,
        Runner::Pytest => {
            let line = line.strip_prefix("==")?.strip_suffix("==")?.trim_matches('=');
            line.rsplit_once(" in ")?.0
        }
    };
    let mut counts = Counts::default();
    for entry in list.split([',', ';']) {
        // "7 passed (1 slow)", "2 failed", "1 timed out"
        let mut words = entry.split_whitespace();
        let (Some(number), Some(what)) =
            (words.next().and_then(|word| word.parse::<u64>().ok()), words.next())
        else {
            continue;
        };
        match what {
            "passed" => counts.passed += number,
            "failed" | "timed" | "error" | "errors" | "exec" => counts.failed += number,
            "ignored" | "skipped" => counts.skipped += number,
            _ => {}
        }
    }
    Some(counts)
}

/// Runs an example, which is ended if it hangs; what it prints is shown where it fails, and says why where it skips itself.
pub(crate) fn run_example(command: Command) -> Outcome {
    let finished = finish(command);
    match &finished.status {
        Ok(status) if status.success() => Outcome::Ok,
        Ok(status) if status.code() == Some(EXIT_SKIPPED) => {
            Outcome::Skipped(finished.printed().trim().to_owned())
        }
        _ => Outcome::Failed(finished.show()),
    }
}

/// Runs a command, which is ended if it hangs, and gives what it prints, on standard output and then on standard error.
/// Where it fails, that is shown.
pub(crate) fn capture(command: Command) -> Result<String, String> {
    finish(command).successful().map(|finished| finished.printed())
}

/// The same of what it prints on standard output.
pub(crate) fn capture_output(command: Command) -> Result<String, String> {
    finish(command).successful().map(|finished| finished.stdout)
}

/// A command that has ended, or could not begin.
struct Finished {
    name: String,
    status: Result<ExitStatus, String>,
    stdout: String,
    stderr: String,
}

impl Finished {
    fn printed(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    fn successful(self) -> Result<Finished, String> {
        match &self.status {
            Ok(status) if status.success() => Ok(self),
            _ => Err(self.show()),
        }
    }

    /// Shows what it printed, and gives the reason of its failure.
    fn show(self) -> String {
        println!("{}", self.printed());
        let reason = self.status.map_or_else(|reason| reason, |status| status.to_string());
        format!("{}: {reason}", self.name)
    }
}

fn finish(mut command: Command) -> Finished {
    let name = command.get_program().display().to_string();
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            let (stdout, stderr) = (String::new(), String::new());
            return Finished { name, status: Err(error.to_string()), stdout, stderr };
        }
    };
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (stdout, stderr) = (begin(move || read_all(stdout)), begin(move || read_all(stderr)));
    let status = patience::wait(&mut child, Work::Example).unwrap_or_else(|error| Err(error.to_string()));
    let (stdout, stderr) = (end_of(&stdout), end_of(&stderr));
    let status =
        status.and_then(|status| stdout.as_ref().and(stderr.as_ref()).map_err(String::clone).and(Ok(status)));
    Finished { name, status, stdout: stdout.unwrap_or_default(), stderr: stderr.unwrap_or_default() }
}

fn read_all(from: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut from) = from {
        // What was read before an error is still worth showing.
        let _ = from.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_that_passed_have_names() {
        for (line, name) in [
            (
                "        PASS [   0.093s] (12/14) resay::tcp tcp::half_close\n",
                Some("resay::tcp tcp::half_close"),
            ),
            ("        PASS [   0.093s] resay frame::tests::lines", Some("resay frame::tests::lines")),
            ("        FAIL [   0.093s] (12/14) resay::tcp half_close", None),
            ("     Summary [   0.3s] 13 tests run: 13 passed", None),
        ] {
            assert_eq!(passed_test(line).as_deref(), name, "{line}");
        }
    }

    #[test]
    fn closing_lines_are_counted() {
        let counts = |passed, failed, skipped| Some(Counts { passed, failed, skipped });
        for (runner, line, expected) in [
            (
                Runner::Cargo,
                "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out",
                counts(12, 0, 1),
            ),
            (
                Runner::Cargo,
                "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured",
                counts(1, 2, 0),
            ),
            (
                Runner::Nextest,
                "     Summary [   0.3s] 13 tests run: 12 passed (1 slow), 1 failed, 2 skipped",
                counts(12, 1, 2),
            ),
            (
                Runner::Nextest,
                "     Summary [   0.3s] 1 test run: 0 passed, 1 timed out, 0 skipped",
                counts(0, 1, 0),
            ),
            (Runner::Nextest, "test result: FAILED. 0 passed; 1 failed; 0 ignored", None),
            (Runner::Pytest, "==== 3 passed, 1 skipped in 0.12s ====", counts(3, 0, 1)),
            (Runner::Pytest, "==== test session starts ====", None),
            (Runner::Cargo, "test a ... ok", None),
            (Runner::Cargo, "", None),
        ] {
            assert_eq!(count(runner, line), expected, "{line}");
        }
    }
}
