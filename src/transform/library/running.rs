//! Which plugin runs on a thread, and in what kind of call.

use std::cell::Cell;
use std::ffi::CStr;

use resay_plugin::abi;

thread_local! {
    /// Constant at first and without a destructor, so that a signal handler may read it.
    static RUNNING: Cell<Option<&'static CStr>> = const { Cell::new(None) };
    /// Inside a call that is marked `[C]`.
    static IS_CONTROL: Cell<bool> = const { Cell::new(false) };
}

/// Makes a call that is marked `[W]` in the ABI.
#[inline(always)]
pub(super) fn running<R>(name: &'static CStr, call: impl FnOnce() -> R) -> R {
    // Found once: where the engine is a shared library, finding it is a call.
    RUNNING.with(|running| {
        running.set(Some(name));
        let result = call();
        running.set(None);
        result
    })
}

/// Makes a call that is marked `[C]`.
pub(super) fn controlling<R>(name: &'static CStr, call: impl FnOnce() -> R) -> R {
    let before = (RUNNING.replace(Some(name)), IS_CONTROL.replace(true));
    let result = call();
    RUNNING.set(before.0);
    IS_CONTROL.set(before.1);
    result
}

/// The kind of call that the engine makes on this thread: `RESAY_THREAD_…`.
pub(super) fn current() -> u32 {
    match RUNNING.get() {
        _ if IS_CONTROL.get() => abi::RESAY_THREAD_CONTROL,
        Some(_) => abi::RESAY_THREAD_WORKER,
        None => abi::RESAY_THREAD_OTHER,
    }
}

/// The kind of call of this transform that the engine makes on this thread.
pub(super) fn current_of(id: &str) -> u32 {
    if RUNNING.get().is_some_and(|name| name.to_bytes() == id.as_bytes()) {
        current()
    } else {
        abi::RESAY_THREAD_OTHER
    }
}

/// The transform whose code runs on this thread now, if one does; the name stays for ever. For a program that wants to
/// say which plugin crashed: may be called from a handler of SIGSEGV and the like.
pub fn running_transform() -> Option<&'static CStr> {
    RUNNING.get()
}
