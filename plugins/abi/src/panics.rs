//! A panic in a plugin is a line in the host's log, once for each instance, with its place; standard error stays the
//! host's own.
//!
//! The standard library prints a panic before anybody can catch it, unless a hook takes it. A plugin library contains a
//! copy of the standard library, so a hook in it sees the plugin's panics alone: [`take_over`] installs one when a host
//! begins to use the library. Where the copy is shared with the host (a transform that is linked into a program, or a
//! standard library in a file of its own), the hook is the host's affair, and none is installed.
//!
//! ```text
//! panic ── hook ──> in a call of an instance ──> the log of that instance, the first time
//!              ├──> in init() or create() ──> a note, which shim makes the text of the error
//!              ├──> on a thread of the plugin's own ──> the log of some instance that lives
//!              └──> no instance lives ──> the hook that was there before
//! ```

use crate::abi;
use crate::error::{Clipped, Error, write_text};
use crate::host::{Host, HostTable, Level, Thread};
use core::any::Any;
use core::cell::{Cell, RefCell};
use core::ffi::{c_char, c_int, c_void};
use core::fmt::Write;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::{Mutex, Once, PoisonError};

/// The longest text of a panic that is kept.
const TEXT_BYTES_MAX: usize = 512;

/// All instances that live. A call does not say which one it is of: that would cost each of them instructions.
static LIVE: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

struct Entry {
    host: HostTable,
    is_logged: bool,
}

/// A text without a destructor: nothing is left to run when a thread ends.
struct Note {
    text: [u8; TEXT_BYTES_MAX],
    len: usize,
}

thread_local! {
    static NOTE: RefCell<Note> = const { RefCell::new(Note { text: [0; TEXT_BYTES_MAX], len: 0 }) };
    /// Inside a call of the host whose error has a text.
    static IS_NOTED: Cell<bool> = const { Cell::new(false) };
}

/// The host of an instance that lives.
pub(crate) struct Living {
    ctx: *mut c_void,
}

// SAFETY: the pointer is compared, never followed.
unsafe impl Send for Living {}
// SAFETY: as above.
unsafe impl Sync for Living {}

impl Living {
    pub(crate) fn new(host: &HostTable) -> Living {
        let entry = Entry { host: host.copy(), is_logged: false };
        LIVE.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
        Living { ctx: host.ctx }
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        let mut live = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = live.iter().position(|entry| entry.host.ctx == self.ctx) {
            live.swap_remove(index);
        }
    }
}

/// The text of a panic that was caught on this thread, and its place, if the hook noted it.
#[cold]
pub(crate) fn text_of(panic: &(dyn Any + Send)) -> String {
    NOTE.with_borrow_mut(|note| {
        let len = core::mem::take(&mut note.len);
        match note.text.get(..len) {
            Some(text) if len > 0 => String::from_utf8_lossy(text).into_owned(),
            _ => format!("panic: {}", payload_text(panic).replace('\n', " ")),
        }
    })
}

/// Ends a panic. Its payload may panic in turn when it is dropped: then that one's payload is leaked.
#[cold]
#[inline(never)]
pub(crate) fn bury(panic: Box<dyn Any + Send>) -> abi::resay_status {
    if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        core::mem::forget(another);
    }
    abi::RESAY_E_PANIC
}

/// The status of what was caught, and its text.
///
/// # Safety
/// `err` is NULL or what the ABI promises of it.
pub(crate) unsafe fn report(
    result: std::thread::Result<Result<(), Error>>,
    err: *mut abi::resay_text,
) -> abi::resay_status {
    match result {
        Ok(Ok(())) => abi::RESAY_OK,
        Ok(Err(error)) => {
            // SAFETY: by the contract.
            unsafe { write_text(err, error.text()) };
            error.status()
        }
        Err(panic) => {
            // SAFETY: by the contract.
            unsafe { write_text(err, &text_of(&*panic)) };
            bury(panic)
        }
    }
}

/// Runs what has an error with a text: a panic in it is noted for that text, and not logged.
pub(crate) fn noted<R>(call: impl FnOnce() -> R) -> R {
    let before = IS_NOTED.replace(true);
    let result = call();
    IS_NOTED.set(before);
    result
}

/// Installs the hook, once, if it is for this library alone. (Where a panic ends the process, its text must be out before.)
pub(crate) fn take_over() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if cfg!(panic = "unwind") && has_own_std() {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                if !taken(info) {
                    before(info);
                }
            }));
        }
    });
}

/// Whether the panic is noted or logged.
fn taken(info: &PanicHookInfo<'_>) -> bool {
    let mut memory = [0; TEXT_BYTES_MAX];
    let mut text = Clipped::new(&mut memory);
    // Clipped never fails.
    let _ = match info.location() {
        Some(place) => write!(text, "panic at {place}: {}", payload_text(info.payload())),
        None => write!(text, "panic: {}", payload_text(info.payload())),
    };
    // A line of a log has no end of its own.
    let len = text.as_bytes().len();
    memory[..len].iter_mut().filter(|byte| **byte == b'\n').for_each(|byte| *byte = b' ');
    let text = &memory[..len];
    note(text);
    if IS_NOTED.get() {
        return true;
    }
    let text = core::str::from_utf8(text).unwrap_or_default();
    let mut live = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
    // A host that cannot tell threads apart is believed to be calling. Of several instances of one transform, each panics
    // once at most: the host disables it then.
    let is_called = |entry: &Entry| Host::new(&entry.host).thread() != Some(Thread::Other);
    let is_any_called = live.iter().any(is_called);
    if is_any_called {
        if let Some(entry) = live.iter_mut().find(|entry| is_called(entry) && !entry.is_logged) {
            entry.is_logged = true;
            Host::new(&entry.host).log(Level::Error, format_args!("{text}"));
        }
        return true;
    }
    let Some(first) = live.first() else { return false };
    Host::new(&first.host).log(Level::Error, format_args!("a thread of the plugin: {text}"));
    true
}

fn note(text: &[u8]) {
    NOTE.with_borrow_mut(|note| {
        note.len = text.len();
        note.text[..text.len()].copy_from_slice(text);
    });
}

fn payload_text(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// Whether the standard library is a part of this library, and this library no part of the program (dladdr(3)).
fn has_own_std() -> bool {
    #[repr(C)]
    struct Object {
        file: *const c_char,
        base: *mut c_void,
        symbol: *const c_char,
        address: *mut c_void,
    }
    unsafe extern "C" {
        fn dladdr(address: *const c_void, object: *mut Object) -> c_int;
        fn getauxval(kind: core::ffi::c_ulong) -> core::ffi::c_ulong;
    }
    /// The address of the program's headers (getauxval(3)).
    const AT_PHDR: core::ffi::c_ulong = 3;
    let base_of = |address: *const c_void| {
        let mut object = Object {
            file: core::ptr::null(),
            base: core::ptr::null_mut(),
            symbol: core::ptr::null(),
            address: core::ptr::null_mut(),
        };
        // SAFETY: any address may be asked for; the object is ours.
        (unsafe { dladdr(address, &mut object) } != 0).then_some(object.base)
    };
    let own = base_of(has_own_std as fn() -> bool as *const c_void);
    let std =
        base_of(panic::take_hook as fn() -> Box<dyn Fn(&PanicHookInfo<'_>) + Sync + Send> as *const c_void);
    // SAFETY: takes a number; 0 where it is unknown.
    let program = base_of(core::ptr::without_provenance(unsafe { getauxval(AT_PHDR) } as usize));
    own.is_some() && own == std && own != program
}
