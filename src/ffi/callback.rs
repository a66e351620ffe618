//! Functions of the host's: the marker that they run, and what they write their answers to.
//!
//! A `resay_out` is no address but a number that names one call on one thread. Whoever uses it at another time or on
//! another thread is told so, and nothing is touched.

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::slice;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::error::{RESAY_E_ARG, RESAY_E_FULL, RESAY_E_STATE};
use crate::{Event, Output, Verdict};

/// What a callback writes its answer to. Valid on the thread of the callback until it returns; used later, or
/// elsewhere, it is an error.
pub struct resay_out {
    _nothing: [u8; 0],
}

/// What a callback answers: the message as it is, without a copy.
pub const RESAY_PASS: i32 = 0;
/// What a callback answers: what it wrote to out instead of the message.
pub const RESAY_REPLACE: i32 = 1;

/// A transform in the program. data has len bytes and may be NULL when that is 0; it is borrowed for the call and not to
/// be written to. flags are RESAY_IO_ bits, as in resay_io. It is called on the thread that serves the connection, by
/// several threads at once where there are several: on the engine's own after resay_start, on those that are in
/// resay_run otherwise. It must not block, throw, or longjmp.
///
/// It answers RESAY_PASS, RESAY_REPLACE, or a status of a plugin: RESAY_DROP, RESAY_CLOSE (after what was written),
/// RESAY_RESET, or an error such as RESAY_E_DATA. Any other value, and breaking the rules of resay_out_commit, fails: the
/// connection is closed, a datagram is dropped, both are counted.
///
/// Inside this and every other callback no function of the same engine may be called, and none that waits, of any engine
/// or client: they answer RESAY_E_STATE. resay_out_write and its kin, functions of other engines that do not wait, and
/// those that take no engine may be.
pub type resay_callback = Option<
    unsafe extern "C" fn(
        user: *mut c_void,
        data: *const u8,
        len: usize,
        flags: u32,
        out: *mut resay_out,
    ) -> c_int,
>;

/// Called once when nothing uses user any more, on any thread.
pub type resay_release = Option<unsafe extern "C" fn(user: *mut c_void)>;

/// Takes one line of the log: UTF-8, len bytes, not ended by NUL and without a line end, borrowed for the call. level is
/// RESAY_LOG_ERROR to RESAY_LOG_TRACE. Called on the thread on which it happens, by several at once; for what may be
/// called inside see resay_callback. What it causes itself is not logged.
pub type resay_log_callback =
    Option<unsafe extern "C" fn(user: *mut c_void, level: c_int, utf8: *const c_char, len: usize)>;

/// A callback that is running on this thread.
struct Frame {
    engine: u64,
    /// Names this call; 0: there is nothing to write to.
    token: usize,
    /// An `Output`, of whatever lifetime.
    output: *mut c_void,
    /// The callback in which this one was called.
    above: *const Frame,
}

/// From one thread's first token to the next one's.
const TOKENS_OF_A_THREAD: usize = 1 << (usize::BITS * 5 / 8);

/// What is known of one thread. In one place: finding it takes longer than all else here.
struct Here {
    inside: Cell<*const Frame>,
    /// The last token; 0: none yet.
    token: Cell<usize>,
}

thread_local! {
    static HERE: Here = const { Here { inside: Cell::new(ptr::null()), token: Cell::new(0) } };
}

impl Here {
    #[inline]
    fn next_token(&self) -> usize {
        static THREADS: AtomicUsize = AtomicUsize::new(TOKENS_OF_A_THREAD);
        let last = match self.token.get() {
            0 => THREADS.fetch_add(TOKENS_OF_A_THREAD, Ordering::Relaxed),
            last => last,
        };
        // Odd, so never 0, and never the address of anything.
        let token = last.wrapping_add(2) | 1;
        self.token.set(token);
        token
    }

    /// Runs a callback of an engine, marked as such. Nothing unwinds out of a function of C.
    #[inline]
    fn run<R>(&self, engine: u64, token: usize, output: *mut c_void, callback: impl FnOnce() -> R) -> R {
        let above = self.inside.get();
        let frame = Frame { engine, token, output, above };
        self.inside.set(&raw const frame);
        let result = callback();
        self.inside.set(above);
        result
    }
}

/// Runs a callback that has nothing to write to.
fn inside<R>(engine: u64, callback: impl FnOnce() -> R) -> R {
    HERE.with(|here| here.run(engine, 0, ptr::null_mut(), callback))
}

fn innermost() -> *const Frame {
    HERE.with(|here| here.inside.get())
}

/// Whether a callback of this engine runs on this thread.
pub(super) fn is_inside(engine: u64) -> bool {
    let mut frame = innermost();
    // SAFETY: frames stand on this thread's stack for as long as they are linked.
    while let Some(here) = unsafe { frame.as_ref() } {
        if here.engine == engine {
            return true;
        }
        frame = here.above;
    }
    false
}

/// Whether any callback runs on this thread.
pub(super) fn is_inside_any() -> bool {
    !innermost().is_null()
}

/// What the host gave with a callback, and what ends it.
pub(super) struct Owned {
    user: *mut c_void,
    release: resay_release,
    /// `None`: it was never an engine's.
    engine: Option<u64>,
}

// SAFETY: the header says that callbacks run on any thread, and by several at once; user is only passed on to them.
unsafe impl Send for Owned {}
// SAFETY: as above.
unsafe impl Sync for Owned {}

impl Owned {
    pub(super) fn new(user: *mut c_void, release: resay_release) -> Owned {
        Owned { user, release, engine: None }
    }

    pub(super) fn belongs_to(&mut self, engine: u64) {
        self.engine = Some(engine);
    }

    /// The function that stands for a callback.
    pub(super) fn into_function(
        self,
        callback: unsafe extern "C" fn(*mut c_void, *const u8, usize, u32, *mut resay_out) -> c_int,
    ) -> impl Fn(&[u8], u32, &mut Output<'_>) -> Verdict + Send + Sync + 'static {
        move |message, flags, out| {
            let owned = &self;
            let output = ptr::from_mut(out).cast();
            let code = HERE.with(|here| {
                let token = here.next_token();
                here.run(owned.engine.unwrap_or(u64::MAX), token, output, || {
                    let out = ptr::without_provenance_mut(token);
                    // SAFETY: the host's function, with its own user and a message that lives during the call.
                    unsafe { callback(owned.user, message.as_ptr(), message.len(), flags, out) }
                })
            });
            match code {
                RESAY_PASS => Verdict::Pass,
                RESAY_REPLACE => Verdict::Replace,
                resay_plugin::abi::RESAY_DROP => Verdict::Drop,
                resay_plugin::abi::RESAY_CLOSE => Verdict::Close,
                resay_plugin::abi::RESAY_RESET => Verdict::Reset,
                code => Verdict::Fail(code),
            }
        }
    }

    /// The sink that stands for a log callback.
    pub(super) fn into_sink(
        self,
        log: unsafe extern "C" fn(*mut c_void, c_int, *const c_char, usize),
    ) -> impl Fn(&Event<'_>) + Send + Sync + 'static {
        move |event| {
            let owned = &self;
            let line = event.to_string();
            inside(owned.engine.unwrap_or(u64::MAX), || {
                // SAFETY: the host's function, with its own user and a line that lives during the call.
                unsafe { log(owned.user, event.level as c_int, line.as_ptr().cast(), line.len()) }
            });
        }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            inside(self.engine.unwrap_or(u64::MAX), || {
                // SAFETY: the host's function, once, after the last use of user.
                unsafe { release(self.user) }
            });
        }
    }
}

/// The output that `out` names, if its callback runs on this thread now, and no other in it.
///
/// # Safety
/// The result is not kept, and not used beside another one.
unsafe fn output_of<'a>(out: *mut resay_out) -> Option<&'a mut Output<'a>> {
    // SAFETY: frames stand on this thread's stack for as long as they are linked.
    let frame = unsafe { innermost().as_ref() }?;
    if frame.token == 0 || frame.token != out.addr() {
        return None;
    }
    // SAFETY: the output of the callback that runs, which nobody else touches meanwhile.
    unsafe { frame.output.cast::<Output<'a>>().as_mut() }
}

/// [in a callback] Appends len bytes to the answer.
/// 0; RESAY_E_FULL: the answer would be over the limit, sixteen times max_message, and the message fails; RESAY_E_ARG:
/// data is NULL and len is not 0, or it is memory that resay_out_reserve gave; RESAY_E_STATE: out is not that of the callback that runs here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_out_write(out: *mut resay_out, data: *const c_void, len: usize) -> c_int {
    // SAFETY: used here alone.
    let Some(output) = (unsafe { output_of(out) }) else { return RESAY_E_STATE };
    if len > output.room() {
        // Of such a length there is no slice to be made; this notes that the answer is too long.
        let _ = output.reserve(len);
        return RESAY_E_FULL;
    }
    if len == 0 {
        return 0;
    }
    if data.is_null() || output.holds(data.cast()) {
        return RESAY_E_ARG;
    }
    // SAFETY: the caller says that there are so many bytes; they are not the output's, so they stay as we write.
    output.write(unsafe { slice::from_raw_parts(data.cast(), len) });
    0
}

/// [in a callback] Room for cap more bytes, to be written to until the next call for the same out; resay_out_commit
/// makes them, or the first of them, a part of the answer. NULL: the answer would be over the limit, and the message
/// fails; or out is not that of the callback that runs here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_out_reserve(out: *mut resay_out, cap: usize) -> *mut c_void {
    // SAFETY: used here alone.
    let Some(output) = (unsafe { output_of(out) }) else { return ptr::null_mut() };
    output.reserve(cap).map_or(ptr::null_mut(), |room| room.as_mut_ptr().cast())
}

/// [in a callback] Appends the first len bytes of what was reserved last.
/// 0; RESAY_E_STATE: less was reserved, and the message fails; or out is not that of the callback that runs here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_out_commit(out: *mut resay_out, len: usize) -> c_int {
    // SAFETY: used here alone.
    let is_committed = unsafe { output_of(out) }.is_some_and(|output| output.commit(len));
    if is_committed { 0 } else { RESAY_E_STATE }
}
