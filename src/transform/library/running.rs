//! Which plugin runs on a thread, and in what kind of call.

use std::cell::Cell;
use std::ffi::{CStr, c_char};
use std::fmt;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex};

use resay_plugin::abi;

use crate::lock::lock;

thread_local! {
    /// The name, or NULL. Constant at first and without a destructor, so that a signal handler may read it; atomic, so that
    /// another thread may.
    static RUNNING: AtomicPtr<c_char> = const { AtomicPtr::new(ptr::null_mut()) };
    /// Inside a call that is marked `[C]`.
    static IS_CONTROL: Cell<bool> = const { Cell::new(false) };
}

/// Makes a call that is marked `[W]` in the ABI.
#[inline(always)]
pub(super) fn running<R>(name: &'static CStr, call: impl FnOnce() -> R) -> R {
    // Found once: where the engine is a shared library, finding it is a call.
    RUNNING.with(|running| {
        running.store(name.as_ptr().cast_mut(), Ordering::Relaxed);
        let result = call();
        running.store(ptr::null_mut(), Ordering::Relaxed);
        result
    })
}

/// Makes a call that is marked `[C]`.
pub(super) fn controlling<R>(name: &'static CStr, call: impl FnOnce() -> R) -> R {
    let name = name.as_ptr().cast_mut();
    let before = (RUNNING.with(|running| running.swap(name, Ordering::Relaxed)), IS_CONTROL.replace(true));
    let result = call();
    RUNNING.with(|running| running.store(before.0, Ordering::Relaxed));
    IS_CONTROL.set(before.1);
    result
}

/// The kind of call that the engine makes on this thread: `RESAY_THREAD_…`.
pub(super) fn current() -> u32 {
    match running_transform() {
        _ if IS_CONTROL.get() => abi::RESAY_THREAD_CONTROL,
        Some(_) => abi::RESAY_THREAD_WORKER,
        None => abi::RESAY_THREAD_OTHER,
    }
}

/// The kind of call of this transform that the engine makes on this thread.
pub(super) fn current_of(id: &str) -> u32 {
    if running_transform().is_some_and(|name| name.to_bytes() == id.as_bytes()) {
        current()
    } else {
        abi::RESAY_THREAD_OTHER
    }
}

/// The transform whose code runs on this thread now, if one does; the name stays for ever. For a program that wants to
/// say which plugin crashed: may be called from a handler of SIGSEGV and the like.
pub fn running_transform() -> Option<&'static CStr> {
    RUNNING.with(name_in)
}

fn name_in(running: &AtomicPtr<c_char>) -> Option<&'static CStr> {
    let name = running.load(Ordering::Relaxed);
    // SAFETY: only names that stay for ever are put there, as they are: NUL-terminated.
    (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) })
}

/// What runs on a thread, for others to see.
#[derive(Clone, Default)]
pub(crate) struct RunningThread(Arc<Mutex<Option<Place>>>);

/// Where the thread has the name of what runs on it.
struct Place(*const AtomicPtr<c_char>);

// SAFETY: what it points to is atomic, and there while it can be found: see `during`.
unsafe impl Send for Place {}

/// Lets other threads see what runs on this one during `work`.
pub(crate) fn watched<R>(work: impl FnOnce(&RunningThread) -> R) -> R {
    let thread = RunningThread::default();
    thread.during(|| work(&thread))
}

impl RunningThread {
    /// Is the calling thread during `work`. Only one thread at a time.
    pub(crate) fn during<R>(&self, work: impl FnOnce() -> R) -> R {
        struct Unseen<'a>(&'a RunningThread);
        impl Drop for Unseen<'_> {
            fn drop(&mut self) {
                *lock(&self.0.0) = None;
            }
        }
        *lock(&self.0) = Some(Place(RUNNING.with(ptr::from_ref)));
        // Before the thread can end, however it leaves this.
        let _unseen = Unseen(self);
        work()
    }

    /// The transform whose code runs there now, if one does.
    pub(crate) fn transform(&self) -> Option<&'static CStr> {
        let place = lock(&self.0);
        // SAFETY: while it is there, and nobody takes it away as long as the lock is held, the thread has not left `during`, so
        // its variables are alive. One that never leaves it never ends.
        place.as_ref().and_then(|place| name_in(unsafe { &*place.0 }))
    }
}

impl fmt::Debug for RunningThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RunningThread").field(&self.transform()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn another_thread_sees_what_runs() {
        let (told, hears) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel::<()>();
        let other = thread::spawn(move || {
            watched(|thread| {
                told.send(thread.clone()).unwrap();
                running(c"slow", || {
                    told.send(thread.clone()).unwrap();
                    may_go_on.recv().unwrap();
                });
            });
        });
        hears.recv().unwrap();
        let thread = hears.recv().unwrap();
        assert_eq!(thread.transform(), Some(c"slow"));
        assert_eq!(running_transform(), None, "not here");
        go_on.send(()).unwrap();
        other.join().unwrap();
        assert_eq!(thread.transform(), None);
    }
}
