//! Functions of the host: the marker that one is running, and their output.
//!
//! A `resay_out` is not an address but a number that identifies one call on one thread. Its use at another time or on
//! another thread is an error, and touches no memory.

use std::cell::Cell;
use std::ffi::{CString, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::slice;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::{RESAY_E_ARG, RESAY_E_FULL, RESAY_E_STATE, failed};
use crate::{Conversation, Event, Output};

/// The output of a function. Valid on the function's thread until it returns; later use, or use on another thread, is an
/// error.
pub struct resay_out {
    _nothing: [u8; 0],
}

/// Returned by a function: pass the message on unchanged, without a copy.
pub const RESAY_PASS: i32 = 0;
/// Returned by a function: pass on the bytes written to out in place of the message.
pub const RESAY_REPLACE: i32 = 1;
/// Returned by a function: the answer comes later, by resay_answer with the token of resay_later. What was written to out is
/// discarded.
pub const RESAY_LATER: i32 = 6;

/// Called once, on any thread, when nothing uses user any more.
pub type resay_release = Option<unsafe extern "C" fn(user: *mut c_void)>;

/// Receives one line of the log: len bytes of UTF-8, not NUL-terminated, without a line end, borrowed for the call. level is
/// RESAY_LOG_ERROR to RESAY_LOG_TRACE. Any thread may call it, several at once. resay_function lists the calls that
/// are allowed inside. Events that the callback itself causes are not logged.
pub type resay_log_callback =
    Option<unsafe extern "C" fn(user: *mut c_void, level: c_int, utf8: *const c_char, len: usize)>;

/// What pthread_cleanup_push(3) of glibc and of musl keeps of a handler: four words, and some to spare.
#[repr(C, align(16))]
struct Cleanup([usize; 8]);

unsafe extern "C" {
    /// What pthread_cleanup_push(3) is made of, where it is no block of C.
    fn _pthread_cleanup_push(
        buffer: *mut Cleanup,
        routine: unsafe extern "C" fn(*mut c_void),
        argument: *mut c_void,
    );
    fn _pthread_cleanup_pop(buffer: *mut Cleanup, execute: c_int);
}

/// The callback has called pthread_exit(3). This runs before the unwinding of the thread reaches a frame of Rust, where it
/// would abort the process.
unsafe extern "C" fn lose_thread(_: *mut c_void) {
    crate::lose_thread(|| {
        let mut frame = innermost();
        // SAFETY: frames stand on this thread's stack for as long as they are linked.
        while let Some(here) = unsafe { frame.as_ref() } {
            lost().push(here.engine);
            frame = here.above;
        }
        ANY_LOST.store(true, Ordering::Release);
    })
}

/// There is an engine in [`lost`].
static ANY_LOST: AtomicBool = AtomicBool::new(false);

/// The engines in whose callbacks a thread has ended inside a call of the host's. Whoever waits for what that call has locked
/// waits for ever.
fn lost() -> MutexGuard<'static, Vec<u64>> {
    static LOST: Mutex<Vec<u64>> = Mutex::new(Vec::new());
    LOST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a thread has ended inside a call of this engine.
#[inline]
pub(super) fn is_lost(engine: u64) -> bool {
    ANY_LOST.load(Ordering::Acquire) && lost().contains(&engine)
}

/// A callback that is running on this thread.
struct Frame {
    engine: u64,
    /// Names this call; 0: there is nothing to write to.
    token: usize,
    /// An `Output`, of whatever lifetime.
    output: *mut c_void,
    /// A `Conversation`, likewise.
    conversation: *const c_void,
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

    /// Runs a callback of an engine, marked as such. Nothing unwinds out of a function of C: a thread that ends in it is lost.
    #[inline]
    fn run<R>(
        &self,
        engine: u64,
        token: usize,
        (output, conversation): (*mut c_void, *const c_void),
        callback: impl FnOnce() -> R,
    ) -> R {
        let above = self.inside.get();
        let frame = Frame { engine, token, output, conversation, above };
        self.inside.set(&raw const frame);
        let mut cleanup = MaybeUninit::<Cleanup>::uninit();
        // SAFETY: the C library writes to the buffer, which is larger than its own, and stays where it is until the pop.
        unsafe { _pthread_cleanup_push(cleanup.as_mut_ptr(), lose_thread, ptr::null_mut()) };
        let result = callback();
        // SAFETY: what was pushed last on this thread: a callback that pushes pops too, or does not return.
        unsafe { _pthread_cleanup_pop(cleanup.as_mut_ptr(), 0) };
        self.inside.set(above);
        result
    }
}

/// Runs a function of the host's in the middle of a call that has nothing locked.
pub(super) fn run_free<R>(function: impl FnOnce() -> R) -> R {
    let mut cleanup = MaybeUninit::<Cleanup>::uninit();
    // SAFETY: as in `Here::run`.
    unsafe { _pthread_cleanup_push(cleanup.as_mut_ptr(), lose_free_thread, ptr::null_mut()) };
    let result = function();
    // SAFETY: as in `Here::run`.
    unsafe { _pthread_cleanup_pop(cleanup.as_mut_ptr(), 0) };
    result
}

unsafe extern "C" fn lose_free_thread(_: *mut c_void) {
    crate::lose_thread(|| {})
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

    /// Runs a function of the host's with its user and an output.
    #[inline]
    pub(super) fn run(
        &self,
        conversation: &Conversation<'_>,
        output: &mut Output<'_>,
        function: impl FnOnce(*mut c_void, *mut resay_out) -> c_int,
    ) -> c_int {
        let pointers = (ptr::from_mut(output).cast(), ptr::from_ref(conversation).cast());
        HERE.with(|here| {
            let token = here.next_token();
            here.run(self.engine.unwrap_or(u64::MAX), token, pointers, || {
                function(self.user, ptr::without_provenance_mut(token))
            })
        })
    }

    /// Runs a function of the host's that has nothing to write to.
    pub(super) fn run_without_output(&self, function: impl FnOnce(*mut c_void)) {
        let engine = self.engine.unwrap_or(u64::MAX);
        HERE.with(|here| here.run(engine, 0, (ptr::null_mut(), ptr::null()), || function(self.user)));
    }

    /// The hooks that stand for callbacks at the beginning and at the end of threads.
    pub(super) fn into_thread_hooks(
        self,
        begin: Option<unsafe extern "C" fn(*mut c_void, *const c_char)>,
        end: Option<unsafe extern "C" fn(*mut c_void)>,
    ) -> (impl Fn(&str) + Send + Sync + 'static, impl Fn() + Send + Sync + 'static) {
        let begun = Arc::new(self);
        let ended = Arc::clone(&begun);
        let begin = move |thread: &str| {
            let Some(begin) = begin else { return };
            // No name of a thread has a NUL.
            let thread = CString::new(thread).unwrap_or_default();
            begun.run_without_output(|user| {
                // SAFETY: the host's function, with its own user and a name that lives during the call.
                unsafe { begin(user, thread.as_ptr()) }
            });
        };
        let end = move || {
            let Some(end) = end else { return };
            ended.run_without_output(|user| {
                // SAFETY: the host's function, with its own user.
                unsafe { end(user) }
            });
        };
        (begin, end)
    }

    /// The sink that stands for a log callback.
    pub(super) fn into_sink(
        self,
        log: unsafe extern "C" fn(*mut c_void, c_int, *const c_char, usize),
    ) -> impl Fn(&Event<'_>) + Send + Sync + 'static {
        move |event| {
            let line = event.to_string();
            self.run_without_output(|user| {
                // SAFETY: the host's function, with its own user and a line that lives during the call.
                unsafe { log(user, event.level as c_int, line.as_ptr().cast(), line.len()) }
            });
        }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            self.run_without_output(|user| {
                // SAFETY: the host's function, once, after the last use of user.
                unsafe { release(user) }
            });
        }
    }
}

fn frame_of<'a>(out: *mut resay_out) -> Option<&'a Frame> {
    // SAFETY: frames stand on this thread's stack for as long as they are linked.
    let frame = unsafe { innermost().as_ref() }?;
    (frame.token != 0 && frame.token == out.addr()).then_some(frame)
}

/// The conversation of the callback that `out` names.
///
/// # Safety
/// The result is not kept.
pub(super) unsafe fn conversation_of<'a>(out: *mut resay_out) -> Option<&'a Conversation<'a>> {
    // SAFETY: the conversation of the callback that runs, which lives during the call.
    unsafe { frame_of(out)?.conversation.cast::<Conversation<'a>>().as_ref() }
}

/// The output that `out` names, if its callback runs on this thread now, and no other in it.
///
/// # Safety
/// The result is not kept, and not used beside another one.
pub(super) unsafe fn output_of<'a>(out: *mut resay_out) -> Option<&'a mut Output<'a>> {
    let frame = frame_of(out)?;
    // SAFETY: the output of the callback that runs, which nobody else touches meanwhile.
    unsafe { frame.output.cast::<Output<'a>>().as_mut() }
}

/// [in a callback] Appends len bytes to the answer.
/// Returns 0; RESAY_E_FULL: the answer would exceed the limit, 16 times max_message, or there is no memory for it, and the
/// message fails; RESAY_E_ARG:
/// data is NULL and len is not 0, or data points into memory from resay_out_reserve; RESAY_E_STATE: out does not belong to
/// the callback that is running on this thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_out_write(out: *mut resay_out, data: *const c_void, len: usize) -> c_int {
    // SAFETY: used here alone.
    let Some(output) = (unsafe { output_of(out) }) else { return not_running() };
    if len > output.room() {
        // Of such a length there is no slice to be made; this notes that the answer is too long.
        let _ = output.reserve(len);
        return too_long();
    }
    if len == 0 {
        return 0;
    }
    if data.is_null() || output.holds(data.cast()) {
        return failed(RESAY_E_ARG, c"data is NULL, or is memory from resay_out_reserve");
    }
    // SAFETY: the caller says that there are so many bytes; they are not the output's, so they stay as we write.
    let is_written = output.write(unsafe { slice::from_raw_parts(data.cast(), len) });
    if is_written { 0 } else { too_long() }
}

fn too_long() -> c_int {
    failed(RESAY_E_FULL, c"the answer would be too long, or there is no memory for it")
}

pub(super) fn not_running() -> c_int {
    failed(RESAY_E_STATE, c"out does not belong to the callback that is running on this thread")
}

/// [in a callback] Returns memory for cap more bytes, writable until the next call with the same out. resay_out_commit
/// appends the first bytes of it to the answer. Returns NULL if the answer would exceed the limit or there is no memory for
/// it, and the message fails;
/// or if out does not belong to the callback that is running on this thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_out_reserve(out: *mut resay_out, cap: usize) -> *mut c_void {
    // SAFETY: used here alone.
    let Some(output) = (unsafe { output_of(out) }) else {
        not_running();
        return ptr::null_mut();
    };
    match output.reserve(cap) {
        Some(room) => room.as_mut_ptr().cast(),
        None => {
            too_long();
            ptr::null_mut()
        }
    }
}

/// [in a callback] Appends the first len bytes of the last reserved memory to the answer.
/// Returns 0; RESAY_E_STATE: fewer bytes were reserved, and the message fails; or out does not belong to the callback that
/// is running on this thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_out_commit(out: *mut resay_out, len: usize) -> c_int {
    // SAFETY: used here alone.
    let Some(output) = (unsafe { output_of(out) }) else { return not_running() };
    if output.commit(len) { 0 } else { failed(RESAY_E_STATE, c"fewer bytes were reserved") }
}
