//! The host that instances under test live in. It comes in several shapes; its memory ends where its struct does.

use crate::guarded::{GuardedMemory, Region};
use resay_plugin::abi;
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

/// What is behind a struct that is longer than minor 0.
pub(crate) const POISON: u8 = 0xa5;
pub(crate) const POISON_BYTES: usize = 64;

/// Which revision of a host it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostVersion {
    /// Of this revision.
    Now,
    /// Of this revision, with nothing that may be NULL.
    Bare,
    /// Of a later revision, with unknown fields.
    Newer,
}

impl fmt::Display for HostVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HostVersion::Now => "a host of this ABI minor",
            HostVersion::Bare => "a host without optional functions",
            HostVersion::Newer => "a host of a later ABI minor",
        })
    }
}

/// A host: the struct, and what its functions need.
#[derive(Debug)]
pub(crate) struct Host {
    memory: GuardedMemory,
    raw: *const abi::resay_host,
    context: Box<Context>,
    shape: HostVersion,
}

#[derive(Debug, Default)]
struct Context {
    level: AtomicU8,
    counters: AtomicU32,
    added: AtomicU64,
    lines: AtomicU64,
}

impl Host {
    pub(crate) fn new(shape: HostVersion) -> Host {
        let context = Box::new(Context { level: AtomicU8::new(5), ..Context::default() });
        let memory = GuardedMemory::new(Region::Struct, 1);
        let bare = shape == HostVersion::Bare;
        let table = abi::resay_host {
            struct_size: (size_of::<abi::resay_host>() + extra(shape)) as u32,
            abi_minor: if shape == HostVersion::Newer { u32::MAX } else { abi::RESAY_PLUGIN_ABI_MINOR },
            ctx: std::ptr::from_ref(&*context).cast_mut().cast(),
            log_level: if bare { std::ptr::null() } else { context.level.as_ptr() },
            log: (!bare).then_some(log),
            counter: (!bare).then_some(counter),
            counter_add: (!bare).then_some(counter_add),
            extension: (!bare).then_some(extension),
        };
        let raw = place_struct(&memory, table, extra(shape));
        Host { memory, raw, context, shape }
    }

    pub(crate) fn raw(&self) -> *const abi::resay_host {
        self.raw
    }

    /// Whether the unknown fields are as they were.
    pub(crate) fn is_unharmed(&self) -> bool {
        is_poisoned(&self.memory, extra(self.shape))
            && self.context.counters.load(Ordering::Relaxed) < u32::MAX
    }
}

/// The bytes behind minor 0 of a host's struct.
pub(crate) fn extra(shape: HostVersion) -> usize {
    if shape == HostVersion::Newer { POISON_BYTES } else { 0 }
}

/// Puts a struct at the end of a guarded memory, before `extra` bytes of poison.
pub(crate) fn place_struct<T>(memory: &GuardedMemory, value: T, extra: usize) -> *mut T {
    let place = memory.end(size_of::<T>() + extra).cast::<T>();
    assert!(place.is_aligned());
    // SAFETY: as much memory as is written, aligned; what is behind it is bytes.
    unsafe {
        place.write(value);
        place.add(1).cast::<u8>().write_bytes(POISON, extra);
    }
    place
}

/// Whether the poison is as it was.
pub(crate) fn is_poisoned(memory: &GuardedMemory, extra: usize) -> bool {
    // SAFETY: initialised bytes of the mapping.
    unsafe { std::slice::from_raw_parts(memory.end(extra), extra) }.iter().all(|byte| *byte == POISON)
}

unsafe extern "C" fn log(ctx: *mut c_void, _: c_int, utf8: *const c_char, len: usize) {
    if len != 0 {
        // SAFETY: ctx is the Context of the host that has this function; the line is borrowed for the call.
        let (context, line) =
            unsafe { (&*ctx.cast::<Context>(), std::slice::from_raw_parts(utf8.cast::<u8>(), len)) };
        // Reads it all, as a real host does.
        let sum = line.iter().fold(0_u64, |sum, byte| sum.wrapping_add(u64::from(*byte)));
        context.lines.fetch_add(1 + std::hint::black_box(sum) % 2, Ordering::Relaxed);
    }
}

unsafe extern "C" fn counter(ctx: *mut c_void, name: *const c_char) -> u32 {
    // SAFETY: as above; the name is NUL-ended.
    let (context, name) = unsafe { (&*ctx.cast::<Context>(), CStr::from_ptr(name)) };
    if name.is_empty() { 0 } else { context.counters.fetch_add(1, Ordering::Relaxed) % 1000 + 1 }
}

unsafe extern "C" fn counter_add(ctx: *mut c_void, _: u32, n: u64) {
    // SAFETY: as above.
    unsafe { &*ctx.cast::<Context>() }.added.fetch_add(n, Ordering::Relaxed);
}

unsafe extern "C" fn extension(_: *mut c_void, id: *const c_char) -> *const c_void {
    // SAFETY: the id is NUL-ended.
    if unsafe { CStr::from_ptr(id) } == abi::RESAY_EXT_THREAD_CHECK {
        std::ptr::from_ref(&THREAD_CHECK).cast()
    } else {
        std::ptr::null()
    }
}

static THREAD_CHECK: abi::resay_thread_check = abi::resay_thread_check {
    struct_size: size_of::<abi::resay_thread_check>() as u32,
    current: Some(current_thread),
};

thread_local! {
    static THREAD: Cell<u32> = const { Cell::new(abi::RESAY_THREAD_OTHER) };
}

unsafe extern "C" fn current_thread(_: *mut c_void) -> u32 {
    THREAD.get()
}

/// Makes a call of this kind, `RESAY_THREAD_CONTROL` or `RESAY_THREAD_WORKER`.
pub(crate) fn calling<R>(kind: u32, call: impl FnOnce() -> R) -> R {
    let before = THREAD.replace(kind);
    let result = call();
    THREAD.set(before);
    result
}
