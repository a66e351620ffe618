//! Runs a probe in a child process and makes a finding of whatever becomes of it.

use crate::arena::{self, Region};
use crate::probes;
use crate::promise::Promise;
use crate::report::{Finding, Outcome};
use crate::shared::{Fault, Packer, Shared, Unpacker};
use crate::words::{one_line, signal_text};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Names the shared file; whoever finds it set is a child.
const VARIABLE: &str = "RESAY_PLUGIN_CHECK_CHILD";
const POLL_INTERVAL: Duration = Duration::from_millis(1);
/// The child ends itself when its parent did not.
const ORPHAN_SECONDS: u64 = 5;

/// What a child is asked.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) file: PathBuf,
    pub(crate) probe: String,
    /// Empty: the probe is of the library.
    pub(crate) transform: String,
    pub(crate) options: Vec<(String, String)>,
    pub(crate) seed: u64,
    pub(crate) budget: Duration,
    pub(crate) limit: Duration,
}

/// What a child answers.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) promise: Promise,
    pub(crate) outcome: Outcome,
    pub(crate) details: Vec<(String, String)>,
    /// What was asked for besides: descriptions, figures.
    pub(crate) data: Vec<String>,
}

/// Runs one probe.
pub(crate) fn ask(request: &Request, arguments: &[OsString], name: &'static str, promise: Promise) -> Asked {
    let answer = Exchange::begin(request, arguments).map_or_else(
        |error| {
            let outcome = Outcome::Fail(format!("the probe could not be run: {error}"));
            Answer { promise, outcome, details: Vec::new(), data: Vec::new() }
        },
        Exchange::end,
    );
    let Answer { promise, outcome, details, data } = answer;
    let transform = request.transform.clone();
    Asked { finding: Finding { transform, probe: name, promise, outcome, details }, data }
}

/// A finding, and what the child said besides.
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
        let path = std::env::temp_dir().join(format!("resay-check-{}-{count}", std::process::id()));
        let shared = Shared::create(&path, &request.pack())?;
        let mut exchange = Exchange { path, shared, status: None, limit: request.limit };
        let child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .env(VARIABLE, &exchange.path)
            .envs((request.probe == "leaks").then_some(probes::TUNABLES))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        exchange.status = wait(child, request.limit)?;
        Ok(exchange)
    }

    /// What the child said, or what its end says.
    fn end(self) -> Answer {
        let answer = self.shared.answered().and_then(|bytes| Answer::unpack(&bytes));
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

    fn ended(&self, answered: bool, status: Option<ExitStatus>) -> Answer {
        let (promise, reason) = match status.map(|status| (status, status.signal())) {
            Some((_, Some(signal))) => crashed(signal, self.shared.fault(), answered),
            Some((status, None)) => (Promise::Alone, format!("the process was ended: {status}")),
            None => (Promise::Returns, format!("no answer within {:?}", self.limit)),
        };
        let details = vec![("while".to_owned(), one_line(&self.shared.last_step()))];
        Answer { details, ..Answer::new(promise, Outcome::Fail(reason)) }
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
        (Region::Output, _) => (Promise::OutputBounds, "the room for output"),
        (Region::Session, _) => (Promise::SessionBounds, "the session's memory"),
        (Region::Struct, _) => (Promise::StructSize, "a struct of the host's"),
        (Region::Text, _) => (Promise::ErrorText, "the room for an error's text"),
        (Region::Observed, 2) => (Promise::Observer, "bytes to be looked at"),
        (Region::Observed, _) => (Promise::InputBounds, "the bytes"),
    };
    let how = match fault.access {
        1 => "read",
        2 => "wrote to",
        _ => "touched",
    };
    let distance = fault.distance;
    let place = match fault.side {
        1 => format!("{distance} bytes before {what}"),
        2 => what.to_owned(),
        _ => format!("{distance} bytes behind the end of {what}"),
    };
    (promise, format!("{name}: it {how} {place}"))
}

fn output_path(path: &Path) -> PathBuf {
    let mut output = path.as_os_str().to_owned();
    output.push(".output");
    output.into()
}

/// Answers a request, where this process was run for one: `main()` calls this first and ends with what it gives.
/// `None`: this is no such process.
pub fn child_main() -> Option<ExitCode> {
    let path = std::env::var_os(VARIABLE)?;
    let Ok(shared) = Shared::open(&path) else { return Some(ExitCode::FAILURE) };
    let shared = SHARED.get_or_init(|| shared);
    let Some(request) = Request::unpack(&shared.request()) else { return Some(ExitCode::FAILURE) };
    take_streams(&output_path(Path::new(&path)));
    watch_faults();
    // SAFETY: takes numbers only.
    unsafe { libc::alarm((request.limit.as_secs() + ORPHAN_SECONDS) as libc::c_uint) };
    let answer = probes::answer(&request);
    shared.answer(&answer.pack());
    Some(ExitCode::SUCCESS)
}

static SHARED: OnceLock<Shared> = OnceLock::new();

/// Says what is being done now.
pub(crate) fn step(text: impl AsRef<str>) {
    if let Some(shared) = SHARED.get() {
        shared.step(text.as_ref());
    }
}

/// What was written to the standard streams goes to a file.
fn take_streams(path: &Path) {
    if let Ok(file) = fs::File::create(path) {
        use std::os::fd::AsRawFd;
        for stream in [libc::STDOUT_FILENO, libc::STDERR_FILENO] {
            // SAFETY: both are open descriptors.
            unsafe { libc::dup2(file.as_raw_fd(), stream) };
        }
    }
}

/// Notes where a bad access went before the process dies of it.
fn watch_faults() {
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: zero is a valid sigaction; the handler has the type that SA_SIGINFO asks for and calls nothing
        // that is not safe in a handler.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_fault;
            action.sa_sigaction = handler as libc::sighandler_t;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESETHAND;
            libc::sigaction(signal, &action, std::ptr::null_mut());
            let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            libc::setrlimit(libc::RLIMIT_CORE, &none);
        }
    }
}

/// Returns to the faulting instruction, which faults again; then the default action ends the process.
extern "C" fn on_fault(_: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let Some(shared) = SHARED.get() else { return };
    // SAFETY: the system passes a siginfo_t.
    let address = unsafe { (*info).si_addr() } as usize;
    let cell = &shared.header().fault;
    if let Some(fault) = arena::locate(address) {
        cell.region.store(fault.region, Ordering::Relaxed);
        cell.side.store(fault.side, Ordering::Relaxed);
        cell.distance.store(fault.distance, Ordering::Relaxed);
    }
    cell.access.store(access(context), Ordering::Relaxed);
    cell.happened.store(1, Ordering::Release);
}

/// 1: read, 2: written, 0: not known.
fn access(context: *mut libc::c_void) -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        const WRITE: libc::greg_t = 2; // of a page fault's error code
        // SAFETY: the system passes a ucontext_t to a handler with SA_SIGINFO.
        let error =
            unsafe { (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[libc::REG_ERR as usize] };
        if error & WRITE == 0 { 1 } else { 2 }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = context;
        0
    }
}

impl Request {
    fn pack(&self) -> Vec<u8> {
        let mut packer = Packer::default();
        packer.bytes(self.file.as_os_str().as_bytes());
        packer.text(&self.probe);
        packer.text(&self.transform);
        packer.texts(self.options.iter().map(|(key, _)| key.as_str()));
        packer.texts(self.options.iter().map(|(_, value)| value.as_str()));
        packer.number(self.seed);
        packer.number(self.budget.as_micros() as u64);
        packer.number(self.limit.as_micros() as u64);
        packer.0
    }

    fn unpack(bytes: &[u8]) -> Option<Request> {
        let mut fields = Unpacker(bytes);
        Some(Request {
            file: OsString::from_vec(fields.bytes()?.to_vec()).into(),
            probe: fields.text()?,
            transform: fields.text()?,
            options: fields.texts()?.into_iter().zip(fields.texts()?).collect(),
            seed: fields.number()?,
            budget: Duration::from_micros(fields.number()?),
            limit: Duration::from_micros(fields.number()?),
        })
    }
}

impl Answer {
    pub(crate) fn new(promise: Promise, outcome: Outcome) -> Answer {
        Answer { promise, outcome, details: Vec::new(), data: Vec::new() }
    }

    fn pack(&self) -> Vec<u8> {
        let mut packer = Packer::default();
        let (kind, reason) = match &self.outcome {
            Outcome::Pass => (0, ""),
            Outcome::Fail(reason) => (1, reason.as_str()),
            Outcome::Skip(reason) => (2, reason.as_str()),
        };
        packer.text(self.promise.code());
        packer.number(kind);
        packer.text(reason);
        packer.texts(self.details.iter().map(|(name, _)| name.as_str()));
        packer.texts(self.details.iter().map(|(_, value)| value.as_str()));
        packer.texts(self.data.iter().map(String::as_str));
        packer.0
    }

    fn unpack(bytes: &[u8]) -> Option<Answer> {
        let mut fields = Unpacker(bytes);
        let promise = Promise::from_code(&fields.text()?)?;
        let (kind, reason) = (fields.number()?, one_line(&fields.text()?));
        let outcome = match kind {
            0 => Outcome::Pass,
            1 => Outcome::Fail(reason),
            _ => Outcome::Skip(reason),
        };
        let values = |texts: Vec<String>| texts.into_iter().map(|text| one_line(&text));
        let details = fields.texts()?.into_iter().zip(values(fields.texts()?)).collect();
        Some(Answer { promise, outcome, details, data: fields.texts()? })
    }
}
