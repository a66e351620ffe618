//! What an engine offers its transforms: the functions of `resay_host`.

use std::ffi::{c_char, c_int, c_void};
use std::mem::size_of;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use resay_plugin::abi::{self, resay_host, resay_thread_check};
use resay_plugin::inspect;

use super::running;
use super::text::text;
use super::times::AllTimes;
use crate::event::{Event, EventKind, Events, LogLevel, More, PeerLine, PeerLines};
use crate::limits::TRANSFORM_LINES_MAX;
use crate::lock::lock;
use crate::sys;

const COUNTERS_MAX: usize = 256;
/// The longest line that a transform logs; what is more is cut.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// Named counters of transforms, for one engine.
#[derive(Debug)]
pub(crate) struct Counters {
    names: Mutex<Vec<String>>,
    values: [AtomicU64; COUNTERS_MAX],
}

impl Counters {
    pub(crate) fn new() -> Counters {
        Counters { names: Mutex::default(), values: [const { AtomicU64::new(0) }; COUNTERS_MAX] }
    }

    /// The id of `name`, from 1; 0 where there is no room.
    fn id(&self, name: &str) -> u32 {
        let mut names = lock(&self.names);
        if let Some(index) = names.iter().position(|known| known == name) {
            return index as u32 + 1;
        }
        if names.len() == COUNTERS_MAX {
            return 0;
        }
        names.push(name.to_owned());
        names.len() as u32
    }

    fn add(&self, id: u32, n: u64) {
        if let Some(value) = (id as usize).checked_sub(1).and_then(|index| self.values.get(index)) {
            value.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// All counters with their values, in the order of their first use.
    pub(crate) fn read(&self) -> Vec<(String, u64)> {
        let names = lock(&self.names);
        names.iter().cloned().zip(self.values.iter().map(|value| value.load(Ordering::Relaxed))).collect()
    }
}

/// What an engine offers its transforms.
#[derive(Debug, Clone)]
pub(crate) struct Services {
    pub(crate) events: Arc<Events>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) times: Arc<AllTimes>,
}

/// The host's side of one instance; `resay_host.ctx` points to it.
struct HostContext {
    id: &'static str,
    services: Services,
    lines: PeerLines,
}

unsafe extern "C" fn host_log(ctx: *mut c_void, level: c_int, utf8: *const c_char, len: usize) {
    if ctx.is_null() || utf8.is_null() {
        return;
    }
    // SAFETY: `ctx` is the HostContext that was handed out with this function, alive until destroy() returns.
    let context = unsafe { &*ctx.cast::<HostContext>() };
    // SAFETY: the plugin lends `len` bytes for the call; no line is as long as the limit.
    let line = unsafe { std::slice::from_raw_parts(utf8.cast::<u8>(), len.min(LINE_BYTES_MAX)) };
    let line = String::from_utf8_lossy(line);
    let level = LogLevel::from_number(level);
    // What it logs as it is created is its owner's doing; all else may be a peer's.
    let (level, more) = if running::current() == abi::RESAY_THREAD_CONTROL || level >= LogLevel::Debug {
        (level, More(0))
    } else {
        let now_us = sys::monotonic_micros();
        context.lines.next_of(PeerLine::FromTransform, level, now_us, TRANSFORM_LINES_MAX)
    };
    context.services.events.emit(&Event {
        level,
        kind: EventKind::TransformLog,
        listener: "",
        listener_id: 0,
        connection: 0,
        peer: None,
        cause: None,
        text: &format_args!("{}: {line}{more}", context.id),
    });
}

unsafe extern "C" fn host_counter(ctx: *mut c_void, name: *const c_char) -> u32 {
    // Only during create(): elsewhere the lock would be on the path of a message.
    if ctx.is_null() || running::current() != abi::RESAY_THREAD_CONTROL {
        return 0;
    }
    // SAFETY: as in `host_log`; the name is NULL or NUL-terminated.
    let (context, name) = unsafe { (&*ctx.cast::<HostContext>(), text(name)) };
    let name = name.filter(|name| name.len() <= inspect::NAME_BYTES_MAX);
    name.map_or(0, |name| context.services.counters.id(&format!("{}.{name}", context.id)))
}

unsafe extern "C" fn host_counter_add(ctx: *mut c_void, id: u32, n: u64) {
    if !ctx.is_null() {
        // SAFETY: as in `host_log`.
        unsafe { &*ctx.cast::<HostContext>() }.services.counters.add(id, n);
    }
}

unsafe extern "C" fn host_extension(_: *mut c_void, id: *const c_char) -> *const c_void {
    // SAFETY: the id is NULL or NUL-terminated.
    match unsafe { text(id) } {
        Some(id) if id.as_bytes() == abi::RESAY_EXT_THREAD_CHECK.to_bytes() => {
            ptr::from_ref(&THREAD_CHECK).cast()
        }
        _ => ptr::null(),
    }
}

static THREAD_CHECK: resay_thread_check =
    resay_thread_check { struct_size: size_of::<resay_thread_check>() as u32, current: Some(host_thread) };

unsafe extern "C" fn host_thread(ctx: *mut c_void) -> u32 {
    if ctx.is_null() {
        return abi::RESAY_THREAD_OTHER;
    }
    // SAFETY: as in `host_log`.
    running::current_of(unsafe { &*ctx.cast::<HostContext>() }.id)
}

/// The table of functions for one instance, and what they work on. Both stay where they are.
pub(super) struct Host {
    table: Box<resay_host>,
    _context: Box<HostContext>,
}

impl Host {
    pub(super) fn new(id: &'static str, services: &Services) -> Host {
        let context = Box::new(HostContext { id, services: services.clone(), lines: PeerLines::default() });
        let table = Box::new(resay_host {
            struct_size: size_of::<resay_host>() as u32,
            abi_minor: abi::RESAY_PLUGIN_ABI_MINOR,
            ctx: ptr::from_ref(&*context).cast_mut().cast(),
            log_level: services.events.level().as_ptr().cast_const(),
            log: Some(host_log),
            counter: Some(host_counter),
            counter_add: Some(host_counter_add),
            extension: Some(host_extension),
        });
        Host { table, _context: context }
    }

    pub(super) fn as_ptr(&self) -> *const resay_host {
        &*self.table
    }
}
