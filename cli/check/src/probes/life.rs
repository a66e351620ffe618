//! From create() to destroy(), many times: what stays behind, in the memory and in the process.

use super::create::{Given, attempt, garbage};
use crate::child::step;
use crate::drive::{Arena, How, Subject};
use crate::fixture::Fixture;
use crate::mode::Mode;
use crate::plan::Plan;
use crate::promise::Promise;
use crate::request::Request;
use crate::rng::{Budget, Rng};
use crate::table::Loaded;
use crate::verdict::{Check, Verdict, Violation};
use std::ffi::{CStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

const SEGMENTS: usize = 5;
const SEGMENT_CYCLES: usize = 200;
const SEGMENT_CYCLES_MIN: usize = 20;
/// What the first cycles take once and keep is no leak.
const CYCLES_FIRST: usize = 30;
/// The least that malloc() gives is twice this.
const LEAK_BYTES_A_CYCLE: usize = 16;
const LIFECYCLE_ROUNDS: usize = 3;
const THREADS_END_WITHIN: Duration = Duration::from_millis(500);

pub(crate) fn leaks(request: &Request) -> Check<Verdict> {
    let loaded = Loaded::open(&request.file)?;
    let mut fixture = Fixture::new(request)?;
    let refused = refused_options(&loaded, request)?;
    let plans: Vec<Plan> = fixture
        .subject
        .modes
        .iter()
        .map(|mode| Plan { mode: *mode, parts: vec![b"hello, world".to_vec(), vec![b'x'; 200]] })
        .collect();
    let cycle = |arena: &mut Arena| -> Check<()> {
        let instance = fixture.subject.create()?;
        for plan in &plans {
            plan.run(&instance, arena, &How::default())?;
        }
        drop(instance);
        if let Some(options) = &refused {
            attempt(&loaded, request, options, Some(512))?.err();
        }
        Ok(())
    };
    for _ in 0..CYCLES_FIRST {
        cycle(&mut fixture.arena)?;
    }
    // What a segment took once, the next does not take again; a leak is in all of them.
    let budget = Budget::new(fixture.budget * 4);
    exact_heap();
    let before = Usage::now();
    let mut segments = Vec::with_capacity(SEGMENTS);
    let mut cycles = 0;
    while segments.len() < SEGMENTS {
        let begin = Usage::now();
        let mut done = 0;
        while done < SEGMENT_CYCLES_MIN || (done < SEGMENT_CYCLES && budget.is_left()) {
            cycle(&mut fixture.arena)?;
            done += 1;
        }
        cycles += done;
        // The stacks of threads that are about to end are no leak.
        let end = Usage::with_threads(before.threads);
        let are_threads_left = end.threads > before.threads;
        segments.push((begin, end, done));
        if are_threads_left {
            break;
        }
    }
    step("looking at what is left");
    let after = Usage::with_threads(before.threads);
    let leaked = |what: String| {
        let with = if refused.is_some() { ", and as many refused create()" } else { "" };
        Err(Violation::of(Promise::Leaks, what)
            .with("after", format!("{cycles} cycles of create() and destroy(){with}")))
    };
    let grows = |of: fn(&Usage) -> usize| {
        segments.iter().all(|(begin, end, done)| of(end) > of(begin) + done * LEAK_BYTES_A_CYCLE)
    };
    let files = after.files.saturating_sub(before.files);
    if files > 0 {
        return leaked(format!("{files} more file descriptors are open"));
    }
    let threads = after.threads.saturating_sub(before.threads);
    if threads > 0 {
        return leaked(format!("{threads} more threads are running"));
    }
    let all = |of: fn(&Usage) -> usize| of(&after).saturating_sub(of(&before));
    if grows(|usage| usage.heap) {
        let bytes = all(|usage| usage.heap);
        return leaked(format!("{bytes} bytes of memory are not freed, {} for each cycle", bytes / cycles));
    }
    if grows(|usage| usage.mapped) {
        let bytes = all(|usage| usage.mapped);
        return leaked(format!("{bytes} bytes stay mapped, {} for each cycle", bytes / cycles));
    }
    Ok(Verdict::Passed)
}

/// Options that create() refuses, if there are any.
fn refused_options(loaded: &Loaded, request: &Request) -> Check<Option<Given>> {
    for option in loaded.table(&request.transform)?.options {
        for value in garbage() {
            let mut given: Given = request
                .options
                .iter()
                .filter(|(key, _)| *key != option.key)
                .map(|(key, value)| (key.clone(), value.clone().into_bytes()))
                .collect();
            given.push((option.key.to_owned(), value));
            if attempt(loaded, request, &given, Some(512))?.is_err() {
                return Ok(Some(given));
            }
        }
    }
    Ok(None)
}

/// What the process holds.
struct Usage {
    files: usize,
    threads: usize,
    /// Of malloc(), where the system tells.
    heap: usize,
    mapped: usize,
}

impl Usage {
    /// Once no more threads run than these, or after a while.
    fn with_threads(threads: usize) -> Usage {
        let patience = Budget::new(THREADS_END_WITHIN);
        loop {
            let usage = Usage::now();
            if usage.threads <= threads || !patience.is_left() {
                return usage;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn now() -> Usage {
        let entries = |path: &str| std::fs::read_dir(path).map_or(0, Iterator::count);
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages: usize = pages.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0);
        Usage {
            files: entries("/proc/self/fd").max(entries("/dev/fd")),
            threads: entries("/proc/self/task"),
            heap: heap(),
            mapped: pages * 4096,
        }
    }
}

/// Freed memory that malloc() keeps at hand looks as if it were in use: it shall keep none. (What threads keep is
/// switched off by the child's environment.)
fn exact_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes numbers only.
    unsafe {
        libc::mallopt(libc::M_MXFAST, 0);
    }
}

#[cfg(target_env = "gnu")]
fn heap() -> usize {
    // SAFETY: reads statistics.
    let info = unsafe { libc::mallinfo2() };
    info.uordblks + info.hblkhd
}

#[cfg(not(target_env = "gnu"))]
fn heap() -> usize {
    0
}

/// A plugin changes nothing in the process that is not its own.
pub(crate) fn alone(request: &Request) -> Check<Verdict> {
    let before = Surroundings::now();
    let loaded = Loaded::open(&request.file)?;
    before.compare("dlopen()")?;
    let subject = Subject::new(&loaded, request)?;
    let mut arena = Arena::new(request.seed);
    let mut rng = Rng::new(request.seed);
    let instance = subject.create()?;
    before.compare("create()")?;
    for mode in &subject.modes {
        for _ in 0..20 {
            Plan::random(&mut rng, *mode, 4, 500).run(&instance, &mut arena, &How::default())?;
        }
        before.compare("its calls")?;
    }
    drop(instance);
    before.compare("destroy()")?;
    Ok(Verdict::Passed)
}

/// What is the process's own.
struct Surroundings {
    directory: Option<PathBuf>,
    variables: Vec<(OsString, OsString)>,
    umask: libc::mode_t,
    locale: Vec<u8>,
    handlers: Vec<usize>,
    blocked: Vec<bool>,
}

const SIGNALS: std::ops::Range<i32> = 1..32;

impl Surroundings {
    fn now() -> Surroundings {
        // SAFETY: umask() takes any mode, and the second call restores the first's.
        let umask = unsafe {
            let mask = libc::umask(0o77);
            libc::umask(mask);
            mask
        };
        // SAFETY: asks only; the answer is NUL-ended and copied at once.
        let locale = unsafe {
            let text = libc::setlocale(libc::LC_ALL, std::ptr::null());
            if text.is_null() { Vec::new() } else { CStr::from_ptr(text).to_bytes().to_vec() }
        };
        let handlers = SIGNALS
            .map(|signal| {
                // SAFETY: zero is a valid sigaction; asks only.
                unsafe {
                    let mut action: libc::sigaction = std::mem::zeroed();
                    libc::sigaction(signal, std::ptr::null(), &mut action);
                    action.sa_sigaction
                }
            })
            .collect();
        // SAFETY: zero is a valid sigset_t; asks only.
        let blocked = unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &mut set);
            SIGNALS.map(|signal| libc::sigismember(&set, signal) == 1).collect()
        };
        Surroundings {
            directory: std::env::current_dir().ok(),
            variables: std::env::vars_os().collect(),
            umask,
            locale,
            handlers,
            blocked,
        }
    }

    fn compare(&self, call: &str) -> Check<()> {
        let now = Surroundings::now();
        let what = if now.directory != self.directory {
            "the working directory"
        } else if now.variables != self.variables {
            "the environment"
        } else if now.umask != self.umask {
            "the umask"
        } else if now.locale != self.locale {
            "the locale"
        } else if now.handlers != self.handlers {
            "how signals are handled"
        } else if now.blocked != self.blocked {
            "which signals are blocked"
        } else {
            return written(call);
        };
        Err(Violation::of(Promise::Alone, format!("{call} changed {what}")))
    }
}

/// Standard output and error are a file here: it stays empty.
fn written(call: &str) -> Check<()> {
    // SAFETY: NULL flushes every stream of C's.
    unsafe { libc::fflush(std::ptr::null_mut()) };
    // SAFETY: zero is a valid stat; the descriptor is open.
    let bytes = unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        libc::fstat(libc::STDOUT_FILENO, &mut stat);
        stat.st_size
    };
    if bytes == 0 {
        return Ok(());
    }
    Err(Violation::of(Promise::Alone, format!("{call} wrote {bytes} bytes to standard output or error")))
}

/// What a library begins before its first instance it ends after its last, again and again.
pub(crate) fn lifecycle(request: &Request) -> Check<Verdict> {
    let loaded = Loaded::open(&request.file)?;
    let library = loaded.describe()?.library;
    if library.init.is_none() && library.shutdown.is_none() {
        return Ok(Verdict::Skipped("it has neither init() nor shutdown()".to_owned()));
    }
    let threads = Usage::now().threads;
    let mut files = None;
    for round in 1..=LIFECYCLE_ROUNDS {
        let subject = Subject::new(&loaded, request)?;
        let plan = Plan { mode: subject.modes[0], parts: vec![b"hello".to_vec()] };
        plan.run_fresh(&subject, &mut Arena::new(request.seed), &How::default())?;
        drop(subject);
        loaded.end()?;
        let after = Usage::with_threads(threads);
        let left = |what: &str| {
            Err(Violation::of(Promise::Lifecycle, format!("after shutdown() number {round} {what}")))
        };
        if after.threads > threads {
            return left("a thread of the library still runs");
        }
        // What the first round took and keeps is no leak.
        if after.files > *files.get_or_insert(after.files) {
            return left("more file descriptors are open");
        }
    }
    Ok(Verdict::Passed)
}

/// A library that says so can be closed.
pub(crate) fn unload(request: &Request) -> Check<Verdict> {
    for _ in 0..3 {
        let before = Usage::now();
        let loaded = Loaded::open(&request.file)?;
        let library = loaded.describe()?.library;
        if library.flags & resay_plugin::abi::RESAY_LIB_UNLOADABLE == 0 {
            return Ok(Verdict::Skipped("it does not promise that it can be unloaded".to_owned()));
        }
        let subject = Subject::new(&loaded, request)?;
        let mut arena = Arena::new(request.seed);
        let plan = Plan { mode: Mode::Messages, parts: vec![b"hello".to_vec()] };
        plan.run_fresh(&subject, &mut arena, &How::default())?;
        loaded.end()?;
        step("dlclose()");
        drop(subject);
        let closed = std::mem::ManuallyDrop::into_inner(loaded.library).close();
        if let Err(error) = closed {
            return Err(Violation::of(Promise::Unload, error.to_string()));
        }
        // Whatever of it still runs, or is called when a thread ends, falls now.
        step("a thread ends after dlclose()");
        let _ = std::thread::spawn(|| std::thread::sleep(Duration::from_millis(50))).join();
        if Usage::now().threads > before.threads {
            return Err(Violation::of(Promise::Unload, "one of its threads is still running".to_owned()));
        }
    }
    Ok(Verdict::Passed)
}
