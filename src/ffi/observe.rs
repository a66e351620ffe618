//! Statistics, the log.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;

use super::callback::{Owned, resay_log_callback};
use super::engine::{Waits, resay_engine, with_engine};
use super::error::{Failure, RESAY_E_ARG, resay_error};
use super::listener::resay_id;
use super::memory::give_struct;
use crate::{ListenerId, LogLevel};

/// The counters of a listener or of a whole engine. The counters of a running engine are read one by one, so they may
/// differ by a few messages.
#[repr(C)]
pub struct resay_stats {
    /// Set by the caller: sizeof(resay_stats). A library with a smaller struct fills the rest with zeros; a library with a
    /// larger struct omits the rest.
    pub struct_size: u32,
    /// Connections open now.
    pub open: u32,
    /// Connections accepted and served.
    pub accepted: u64,
    /// Connections closed, for any reason.
    pub closed: u64,
    /// Messages received. On a raw stream each read counts as one.
    pub messages_in: u64,
    /// Messages whose answers the kernel accepted, or that need no answer. If a send was cut off, none of its messages
    /// counts.
    pub messages_out: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes that the kernel accepted.
    pub bytes_out: u64,
    /// Messages without an answer, for any reason.
    pub dropped: u64,
    /// Connections refused.
    pub rejected: u64,
    /// Messages or sessions in which a transform failed.
    pub transform_errors: u64,
    /// Failures of accept(2).
    pub accept_errors: u64,
    /// Events lost because a queue was full, of all queues that there are and were; always of the whole engine.
    pub events_lost: u64,
    /// Bytes of answers that were still waiting when their connection closed.
    pub undelivered_bytes: u64,
    /// Bytes received on connections and not answered: of dropped messages, and of input that was unanswered when its
    /// connection closed.
    pub dropped_bytes: u64,
    /// How often a turn of a worker or a message with a transform that may block took longer than the option "watchdog";
    /// always of the whole engine.
    pub transforms_stuck: u64,
}

/// [*] Reads the figures of a listener, or with 0 of all together, closed ones too: apart from open, these never run
/// backwards. stats->struct_size is sizeof *stats.
/// 0; RESAY_E_HANDLE, RESAY_E_ARG: stats is NULL, or its struct_size is not set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_stats_get(
    engine: *mut resay_engine,
    listener_or_0: resay_id,
    stats: *mut resay_stats,
) -> c_int {
    with_engine(engine, Waits::No, ptr::null_mut(), |engine| {
        let engine = &engine.engine;
        let found = match listener_or_0 {
            0 => engine.stats(),
            id => engine.listener_stats(ListenerId::from_number(id))?,
        };
        let filled = resay_stats {
            struct_size: 0,
            open: u32::try_from(found.open).unwrap_or(u32::MAX),
            accepted: found.accepted,
            closed: found.closed,
            messages_in: found.messages_in,
            messages_out: found.messages_out,
            bytes_in: found.bytes_in,
            bytes_out: found.bytes_out,
            dropped: found.dropped,
            rejected: found.rejected,
            transform_errors: found.transform_errors,
            accept_errors: found.accept_errors,
            events_lost: engine.events_lost(),
            undelivered_bytes: found.undelivered_bytes,
            dropped_bytes: found.dropped_bytes,
            transforms_stuck: engine.transforms_stuck(),
        };
        // SAFETY: a struct without padding whose size comes first; the caller's, as documented.
        unsafe { give_struct(stats, &filled, "stats")? };
        Ok(0)
    })
}

/// [*] The name of a level in lower case, such as "warn". Static; "unknown" for numbers that are no RESAY_LOG_.
#[unsafe(no_mangle)]
pub extern "C" fn resay_log_level_name(level: c_int) -> *const c_char {
    let found = LogLevel::ALL.into_iter().find(|known| *known as c_int == level);
    found.map_or(c"unknown", LogLevel::c_name).as_ptr()
}

/// [*] Sends the engine's log, up to max_level (RESAY_LOG_), to a callback, in place of the one before; log NULL, or
/// max_level 0: nowhere. When this returns, the one before is not running any more and will not be called again, so
/// that its user can go. See resay_log_callback.
/// 0; RESAY_E_STATE inside any callback, RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_log(
    engine: *mut resay_engine,
    max_level: c_int,
    log: resay_log_callback,
    user: *mut c_void,
) -> c_int {
    let err: *mut resay_error = ptr::null_mut();
    with_engine(engine, Waits::Yes, err, |engine| {
        if max_level != 0 && !LogLevel::ALL.into_iter().any(|known| known as c_int == max_level) {
            return Err(Failure::new(
                RESAY_E_ARG,
                format!("max_level is {max_level}: expected 0 or a RESAY_LOG_ level"),
            ));
        }
        match log {
            Some(log) if max_level > 0 => {
                let mut owned = Owned::new(user, None);
                owned.belongs_to(engine.serial);
                engine.engine.set_on_event(LogLevel::from_number(max_level), owned.into_sink(log));
            }
            _ => engine.engine.clear_on_event(),
        }
        Ok(0)
    })
}
