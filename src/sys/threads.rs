//! Threads of an engine: how they are born, and what they have in common.
//!
//! A thread begins with all signals blocked, which belong to the host's threads: the mask is the starting thread's for as long
//! as pthread_create(3) takes, so that not even the first instruction runs without it. It cannot be cancelled. Its stack has
//! a size of its own, so that the variable `RUST_MIN_STACK` decides nothing.
//!
//! Code of the host may end a thread in the middle of a callback with pthread_exit(3), as interpreters do that are
//! ending. The unwinding would reach a frame of Rust and abort the process. So the thread is [lost](lose) instead: it
//! stays where it is for ever, and whoever would wait for it does not.

use std::cell::Cell;
use std::ffi::c_int;
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use super::call::syscall;

unsafe extern "C" {
    /// pthread_setcancelstate(3)
    fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int;
}

/// `PTHREAD_CANCEL_DISABLE`, the same in all C libraries of Linux.
const CANCEL_DISABLE: c_int = 1;
/// The last processor that a `cpu_set_t` has room for.
pub(crate) const CPU_MAX: u16 = libc::CPU_SETSIZE as u16 - 1;
/// What threads have that nobody has set.
const STACK_BYTES: usize = 2 * 1024 * 1024;

/// What the threads of an engine have in common.
#[derive(Debug, Clone)]
pub(crate) struct ThreadSettings {
    /// What their names begin with.
    pub(crate) name: String,
    pub(crate) stack_bytes: usize,
    /// The processors, in ranges, where they may run; empty: wherever the thread may that starts them.
    pub(crate) cpus: Vec<(u16, u16)>,
    pub(crate) hooks: Option<Arc<ThreadHooks>>,
}

/// What the host does at the beginning and at the end of each thread, on that thread.
pub(crate) struct ThreadHooks {
    pub(crate) begin: Box<dyn Fn(&str) + Send + Sync>,
    pub(crate) end: Box<dyn Fn() + Send + Sync>,
}

impl Default for ThreadSettings {
    fn default() -> ThreadSettings {
        ThreadSettings { name: "resay".into(), stack_bytes: STACK_BYTES, cpus: Vec::new(), hooks: None }
    }
}

impl fmt::Debug for ThreadHooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadHooks").finish_non_exhaustive()
    }
}

/// A thread that was started.
#[derive(Debug)]
pub(crate) struct Thread<T> {
    handle: JoinHandle<Option<T>>,
    fate: Arc<Fate>,
}

/// What becomes of a thread.
#[derive(Debug, Default)]
struct Fate {
    state: Mutex<FateState>,
    changed: Condvar,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum FateState {
    #[default]
    Running,
    Over,
    Lost,
}

impl Fate {
    fn set(&self, state: FateState) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
        self.changed.notify_all();
    }

    fn wait(&self) -> FateState {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let decided = self.changed.wait_while(state, |state| *state == FateState::Running);
        *decided.unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Thread<T> {
    /// Waits until the thread is gone, and what it has of the system. `None`: it was not to begin, panicked, or is lost.
    pub(crate) fn join(self) -> Option<T> {
        match self.fate.wait() {
            FateState::Lost => None,
            // A panic has been reported by the panic hook; there is nothing to add.
            FateState::Over | FateState::Running => self.handle.join().ok().flatten(),
        }
    }
}

thread_local! {
    /// This thread's own fate, if it was started here.
    static FATE: Cell<*const Fate> = const { Cell::new(ptr::null()) };
    /// What is to be done if this thread is lost.
    static ON_LOSS: Cell<Option<*const dyn Fn()>> = const { Cell::new(None) };
    /// Whose threads this thread starts. No `Arc`: that would leave a destructor with a thread of the host's.
    static SETTINGS: Cell<*const ThreadSettings> = const { Cell::new(ptr::null()) };
}

impl ThreadSettings {
    /// Runs something whose helper threads, which it starts without knowing for whom, are to have these settings.
    pub(crate) fn with<R>(self: &Arc<ThreadSettings>, work: impl FnOnce() -> R) -> R {
        struct Restored(*const ThreadSettings);
        impl Drop for Restored {
            fn drop(&mut self) {
                SETTINGS.set(self.0);
            }
        }
        let _restored = Restored(SETTINGS.replace(Arc::as_ptr(self)));
        work()
    }

    /// The settings of whoever runs on this thread.
    fn current() -> Arc<ThreadSettings> {
        let settings = SETTINGS.get();
        if settings.is_null() {
            return Arc::default();
        }
        // SAFETY: `with` borrows the Arc from which the pointer came for as long as the pointer is there.
        unsafe {
            Arc::increment_strong_count(settings);
            Arc::from_raw(settings)
        }
    }

    /// Starts a thread, which is called after `what`.
    pub(crate) fn start<T: Send + 'static>(
        self: &Arc<ThreadSettings>,
        what: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<Thread<T>> {
        // It may be refused its processors later than the first ones: better elsewhere than not at all.
        self.start_when(what, |_| true, || {}, work)
    }

    /// The same; first `may_begin` hears whether the thread is where it is to be. False: the thread ends, without hooks. `lost`:
    /// see [`with_loss`].
    pub(crate) fn start_when<T: Send + 'static>(
        self: &Arc<ThreadSettings>,
        what: &str,
        may_begin: impl FnOnce(io::Result<()>) -> bool + Send + 'static,
        lost: impl Fn() + Send + 'static,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<Thread<T>> {
        let name = format!("{}-{what}", self.name);
        let settings = Arc::clone(self);
        let builder = Builder::new().name(name.clone()).stack_size(self.stack_bytes);
        let fate = Arc::<Fate>::default();
        let own = Arc::clone(&fate);
        let _blocked = SignalsBlocked::new();
        let handle = builder.spawn(move || {
            hold_off_cancellation();
            FATE.set(Arc::as_ptr(&own));
            let _over = Over(&own);
            if !may_begin(bind_thread(&settings.cpus)) {
                return None;
            }
            with_loss(&lost, || {
                let _hooked = Hooked::begin(&settings, &name);
                Some(settings.with(work))
            })
        })?;
        Ok(Thread { handle, fate })
    }
}

/// Starts a helper thread of whoever runs on this thread.
pub(crate) fn start_helper<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Thread<T>> {
    ThreadSettings::current().start(what, work)
}

/// Starts a thread that is no engine's and may outlive them all.
pub(crate) fn start_detached(what: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    Arc::<ThreadSettings>::default().start(what, work).map(drop)
}

/// Runs something in the middle of which code of the host may end this thread. `lost` runs then: it must not call the host.
pub(crate) fn with_loss<R>(lost: &dyn Fn(), work: impl FnOnce() -> R) -> R {
    struct Restored(Option<*const dyn Fn()>);
    impl Drop for Restored {
        fn drop(&mut self) {
            ON_LOSS.set(self.0);
        }
    }
    // SAFETY: only the lifetime changes; the pointer is there for as long as `lost` is borrowed.
    let lost = unsafe { std::mem::transmute::<*const (dyn Fn() + '_), *const (dyn Fn() + 'static)>(lost) };
    let _restored = Restored(ON_LOSS.replace(Some(lost)));
    work()
}

/// Gives up the calling thread, which was to end in the middle of what others need: it does nothing any more, for ever, but
/// handle the signals of a thread of the host's, which may be the only one that does. `unexpected` runs where [`with_loss`] has
/// not said what to do.
pub(crate) fn lose(unexpected: impl FnOnce()) -> ! {
    let fate = FATE.get();
    if !fate.is_null() {
        std::mem::forget(SignalsBlocked::new());
    }
    let told = catch_unwind(AssertUnwindSafe(|| match ON_LOSS.take() {
        // SAFETY: `with_loss` borrows it, and has not returned on this thread.
        Some(lost) => unsafe { (*lost)() },
        None => unexpected(),
    }));
    drop(told);
    // SAFETY: null, or held by this thread's own closure, which never ends now.
    if let Some(fate) = unsafe { fate.as_ref() } {
        fate.set(FateState::Lost);
    }
    loop {
        // SAFETY: waits for nothing. Not the function of the C library, which would look for a cancellation.
        unsafe {
            libc::syscall(libc::SYS_ppoll, ptr::null::<u8>(), 0, ptr::null::<u8>(), ptr::null::<u8>(), 0)
        };
    }
}

/// Tells a thread's fate at its end, however it ends.
struct Over<'a>(&'a Fate);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.set(FateState::Over);
    }
}

/// The part of a thread's life that lies between the host's hooks.
struct Hooked<'a>(&'a ThreadSettings);

impl<'a> Hooked<'a> {
    fn begin(settings: &'a ThreadSettings, name: &str) -> Hooked<'a> {
        if let Some(hooks) = &settings.hooks {
            // A panic of the host's is its own affair, and reported by the panic hook.
            let _ = catch_unwind(AssertUnwindSafe(|| (hooks.begin)(name)));
        }
        Hooked(settings)
    }
}

impl Drop for Hooked<'_> {
    fn drop(&mut self) {
        if let Some(hooks) = &self.0.hooks {
            let _ = catch_unwind(AssertUnwindSafe(|| (hooks.end)()));
        }
    }
}

/// pthread_setcancelstate(3), for the rest of a thread's life.
fn hold_off_cancellation() {
    // SAFETY: the old state is not asked for.
    unsafe { pthread_setcancelstate(CANCEL_DISABLE, ptr::null_mut()) };
}

/// The calling thread with every signal blocked, until this is dropped (pthread_sigmask(3)). Those that a thread brings upon
/// itself stay open, for the host may have a handler that tells of crashes; blocked, they would kill the process without it.
struct SignalsBlocked {
    before: libc::sigset_t,
}

impl SignalsBlocked {
    fn new() -> SignalsBlocked {
        const FAULTS: [i32; 7] = [
            libc::SIGSEGV,
            libc::SIGBUS,
            libc::SIGILL,
            libc::SIGFPE,
            libc::SIGABRT,
            libc::SIGTRAP,
            libc::SIGSYS,
        ];
        let mut blocked = MaybeUninit::<libc::sigset_t>::zeroed();
        let mut before = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: sigset_t is plain data that sigfillset initialises, and of which all zero is a value. None of the calls
        // can fail with these arguments.
        unsafe {
            libc::sigfillset(blocked.as_mut_ptr());
            for signal in FAULTS {
                libc::sigdelset(blocked.as_mut_ptr(), signal);
            }
            libc::pthread_sigmask(libc::SIG_SETMASK, blocked.as_ptr(), before.as_mut_ptr());
            SignalsBlocked { before: before.assume_init() }
        }
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: the mask that this thread had; the present one is not asked for.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut()) };
    }
}

/// sched_setaffinity(2) of the calling thread, to the processors in these ranges, if there are any.
fn bind_thread(ranges: &[(u16, u16)]) -> io::Result<()> {
    if ranges.is_empty() {
        return Ok(());
    }
    let cpus = ranges.iter().flat_map(|(first, last)| *first..=(*last).min(CPU_MAX));
    // SAFETY: cpu_set_t is plain data of which all zero is the empty set; the numbers are below CPU_SETSIZE.
    let set = unsafe {
        let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed().assume_init();
        cpus.for_each(|cpu| libc::CPU_SET(cpu.into(), &mut set));
        set
    };
    // SAFETY: 0 is the calling thread; the set has the size that is given.
    syscall!(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) }).map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc;

    use super::*;

    fn mask() -> libc::sigset_t {
        let mut mask = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: no new mask is given; the present one is written.
        unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), mask.as_mut_ptr());
            mask.assume_init()
        }
    }

    fn has(mask: &libc::sigset_t, signal: i32) -> bool {
        // SAFETY: a mask that the system wrote.
        unsafe { libc::sigismember(mask, signal) == 1 }
    }

    #[test]
    fn a_thread_blocks_signals_and_its_starter_has_its_own_mask_back() {
        let before = mask();
        let born = Arc::<ThreadSettings>::default().start("test", mask).unwrap().join().unwrap();
        assert!(
            [libc::SIGALRM, libc::SIGTERM, libc::SIGRTMAX()].into_iter().all(|signal| has(&born, signal))
        );
        assert!(!has(&born, libc::SIGSEGV));
        let after = mask();
        assert!((1..=libc::SIGRTMAX()).all(|signal| has(&before, signal) == has(&after, signal)));
    }

    #[test]
    fn hooks_run_on_the_thread_before_and_after_its_work_and_its_helpers() {
        let (seen, told) = mpsc::channel();
        let (begun, ended) = (Mutex::new(seen.clone()), Mutex::new(seen.clone()));
        let name = || std::thread::current().name().unwrap_or_default().to_owned();
        let hooks = ThreadHooks {
            begin: Box::new(move |called| {
                assert_eq!(called, name());
                begun.lock().unwrap().send(format!("begin {called}")).unwrap();
            }),
            end: Box::new(move || ended.lock().unwrap().send(format!("end {}", name())).unwrap()),
        };
        let settings =
            Arc::new(ThreadSettings { name: "own".into(), hooks: Some(hooks.into()), ..Default::default() });
        let thread = settings.start("0", move || {
            seen.send("work".into()).unwrap();
            start_helper("help", || ()).unwrap().join().unwrap();
        });
        thread.unwrap().join().unwrap();
        drop(settings);
        let told: Vec<String> = told.iter().collect();
        assert_eq!(told, ["begin own-0", "work", "begin own-help", "end own-help", "end own-0"]);
        // Here nobody has settings: a helper is called as always.
        let helper = start_helper("help", name);
        assert_eq!(helper.unwrap().join().as_deref(), Some("resay-help"));
    }

    #[test]
    fn nobody_waits_for_a_thread_that_is_lost() {
        let (seen, told) = mpsc::channel();
        let thread = Arc::<ThreadSettings>::default().start("lost", move || {
            with_loss(&|| seen.send("lost").unwrap(), || lose(|| {}));
        });
        assert!(thread.unwrap().join().is_none());
        assert_eq!(told.try_recv(), Ok("lost"));
    }

    #[test]
    fn processors_that_are_not_there_are_refused() {
        assert!(bind_thread(&[(CPU_MAX, CPU_MAX)]).is_err(), "no machine has that many");
    }
}
