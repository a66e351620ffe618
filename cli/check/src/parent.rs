//! The parent's side of a probe: it starts the child, waits for it, and makes a finding of how it ended.

use crate::guarded::Region;
use crate::promise::Promise;
use crate::report::{Finding, Outcome};
use crate::request::{ProbeResult, Request, VARIABLE, output_path};
use crate::shared::{Fault, Shared};
use crate::words::{bytes_text, duration_text, one_line, signal_text};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const POLL_INTERVAL: Duration = Duration::from_millis(1);
/// What threads keep of freed memory looks like a leak: the probe `leaks` runs without it.
const TUNABLES: (&str, &str) = ("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0");

/// Runs one probe.
pub(crate) fn ask(request: &Request, arguments: &[OsString], name: &'static str, promise: Promise) -> Asked {
    let result = Exchange::begin(request, arguments).map_or_else(
        |error| {
            let outcome = Outcome::Fail(format!("the probe could not be run: {error}"));
            ProbeResult { promise, outcome, details: Vec::new(), data: Vec::new() }
        },
        Exchange::end,
    );
    let ProbeResult { promise, outcome, details, data } = result;
    let transform = request.transform.clone();
    Asked { finding: Finding { transform, probe: name, promise, outcome, details }, data }
}

/// A finding, and the data that the child gave with it.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) finding: Finding,
    pub(crate) data: Vec<String>,
}

struct Exchange {
    path: PathBuf,
    shared: Shared,
    status: Option<ExitStatus>,
    limit: Duration,
}

impl Exchange {
    fn begin(request: &Request, arguments: &[OsString]) -> io::Result<Exchange> {
        if std::env::var_os(VARIABLE).is_some() {
            // Else every child would begin children of its own.
            return Err(io::Error::other("this program does not call child_main() first"));
        }
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = resay_plugin::environment::temporary_directory()
            .join(format!("resay-check-{}-{count}", std::process::id()));
        let shared = Shared::create(&path, &request.pack())?;
        let mut exchange = Exchange { path, shared, status: None, limit: request.limit };
        let child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .env(VARIABLE, &exchange.path)
            .envs((request.probe == "leaks").then_some(TUNABLES))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        exchange.status = wait(child, request.limit)?;
        Ok(exchange)
    }

    /// What the child said, or what its end says.
    fn end(self) -> ProbeResult {
        let answer = self.shared.answered().and_then(|bytes| ProbeResult::unpack(&bytes));
        let mut answer = match (answer, self.status) {
            (Some(answer), Some(status)) if status.signal().is_none() => answer,
            (answer, status) => self.ended(answer.is_some(), status),
        };
        if matches!(answer.outcome, Outcome::Fail(_)) {
            let output = fs::read(output_path(&self.path)).unwrap_or_default();
            let output = one_line(&String::from_utf8_lossy(&output));
            if !output.is_empty() {
                answer.details.push(("output".to_owned(), output));
            }
        }
        answer
    }

    fn ended(&self, answered: bool, status: Option<ExitStatus>) -> ProbeResult {
        let (promise, reason) = match status.map(|status| (status, status.signal())) {
            Some((_, Some(signal))) => crashed(signal, self.shared.fault(), answered),
            Some((status, None)) => (Promise::Alone, format!("it ended the process: {status}")),
            None => (Promise::Returns, format!("no call returned within {}", duration_text(self.limit))),
        };
        let details = vec![("while".to_owned(), one_line(&self.shared.last_step()))];
        ProbeResult { details, ..ProbeResult::new(promise, Outcome::Fail(reason)) }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_file(output_path(&self.path));
    }
}

/// Waits for the end, or makes one when the time is up: then `None`.
fn wait(mut child: Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Which promise a crash broke, and how.
fn crashed(signal: i32, fault: Option<Fault>, answered: bool) -> (Promise, String) {
    let name = signal_text(signal);
    let located =
        fault.and_then(|fault| Some((fault, *Region::ALL.get(fault.region.checked_sub(1)? as usize)?)));
    let Some((fault, region)) = located else {
        let when = if answered { ", when the process ended" } else { "" };
        return (Promise::NoCrash, format!("{name}{when}"));
    };
    let (promise, what) = match (region, fault.side) {
        (Region::Input, 2) => (Promise::InputUnchanged, "the input"),
        (Region::Input, _) => (Promise::InputBounds, "the input"),
        (Region::Output, _) => (Promise::OutputBounds, "the output buffer"),
        (Region::Session, _) => (Promise::SessionBounds, "the session's memory"),
        (Region::Struct, _) => (Promise::StructSize, "a struct of the host"),
        (Region::Text, _) => (Promise::ErrorText, "the error buffer"),
        (Region::Observed, 2) => (Promise::Observer, "the data, which an observer may only read"),
        (Region::Observed, _) => (Promise::InputBounds, "the data"),
    };
    let how = match fault.access {
        1 => "read",
        2 => "wrote to",
        _ => "touched",
    };
    let distance = fault.distance as usize;
    let place = match fault.side {
        1 => format!("{} before {what}", bytes_text(distance)),
        2 => what.to_owned(),
        _ if distance == 0 => format!("the byte after the end of {what}"),
        _ => format!("{} beyond the end of {what}", bytes_text(distance)),
    };
    (promise, format!("{name}: it {how} {place}"))
}
