//! Taps: records of messages.

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::AsRawFd;
use std::ptr;

use resay_plugin::abi::{RESAY_DATAGRAM, RESAY_SEQPACKET, RESAY_STREAM};

use super::engine::{Own, Waits, resay_engine, with_engine, with_own};
use super::error::{Failure, RESAY_E_ARG, RESAY_E_FULL, call, resay_error};
use super::event::UNKNOWN;
use super::listener::resay_id;
use super::memory::{STRUCT_BYTES_MAX, STRUCT_BYTES_MIN, cleared, length_of, take_struct};
use super::process::Process;
use super::time::timeout_of;
use crate::{CloseReason, DropReason, ListenerId, Tap, TapOptions, TapOutcome, TapRecord};

/// In resay_tap_options.flags: keep the answers too.
pub const RESAY_TAP_ANSWERS: u32 = 1u32;

/// In resay_tap_record.outcome: there is an answer. Whether the peer receives it is not known yet.
pub const RESAY_TAP_ANSWERED: u32 = 1u32;
/// In resay_tap_record.outcome: no answer; reason is a RESAY_DROPPED_ reason.
pub const RESAY_TAP_DROPPED: u32 = 2u32;
/// In resay_tap_record.outcome: a transform closes the connection, with or without a last answer; reason is a
/// RESAY_CLOSED_ reason.
pub const RESAY_TAP_CLOSED: u32 = 3u32;
/// In resay_tap_record.outcome: a transform resets the connection; reason is a RESAY_CLOSED_ reason.
pub const RESAY_TAP_RESET: u32 = 4u32;
/// In resay_tap_record.outcome: a transform failed; reason is RESAY_DROPPED_TRANSFORM_FAILED.
pub const RESAY_TAP_FAILED: u32 = 5u32;
/// In resay_tap_record.outcome: an answer could not be sent to the sender, or from the address that it was sent to, so no
/// transform has seen the message; reason is a RESAY_DROPPED_ reason.
pub const RESAY_TAP_UNSENDABLE: u32 = 6u32;

// The numbers are those of the outcomes, so those may never change.
const _: () = {
    assert!(RESAY_TAP_ANSWERED == TapOutcome::Answered.number());
    assert!(RESAY_TAP_DROPPED == TapOutcome::Dropped(DropReason::Undelivered).number());
    assert!(RESAY_TAP_CLOSED == TapOutcome::Closed(CloseReason::TransformClosed).number());
    assert!(RESAY_TAP_RESET == TapOutcome::Reset(CloseReason::TransformClosed).number());
    assert!(RESAY_TAP_FAILED == TapOutcome::Failed(DropReason::TransformFailed).number());
    assert!(RESAY_TAP_UNSENDABLE == TapOutcome::Unsendable(DropReason::Unnamed).number());
};

/// Records of messages, in a ring in memory. It lives for itself: after resay_engine_free its records can still be read.
pub struct resay_tap {
    tap: Tap,
    process: Process,
}

/// What a tap keeps. Zeros are the defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct resay_tap_options {
    /// Set by the caller: sizeof(resay_tap_options).
    pub struct_size: u32,
    /// RESAY_TAP_ANSWERS, or 0.
    pub flags: u32,
    /// One listener; 0: all, also those that are added later.
    pub listener: resay_id,
    /// Memory for records that wait, 4 KiB to 1 GiB; 0: 4 MiB.
    pub capacity_bytes: usize,
    /// Bytes that are kept of a message, and of an answer, at most; 0, and no more than: a quarter of the capacity.
    pub data_bytes_max: usize,
}

/// A message and what became of it, as known when it was processed. If its answer comes later (RESAY_LATER), there is a
/// record when that has come, or when the message is given up.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct resay_tap_record {
    /// Counts the records of this tap, from 1, lost ones too: a gap is as many as were lost.
    pub sequence: u64,
    /// When the turn of the worker began in which it was processed, or answered later, in nanoseconds of CLOCK_MONOTONIC, to
    /// the microsecond.
    pub time_ns: u64,
    /// The listener.
    pub listener: resay_id,
    /// The connection's number; 0: a datagram.
    pub connection: u64,
    /// RESAY_STREAM, RESAY_DATAGRAM or RESAY_SEQPACKET.
    pub kind: u32,
    /// RESAY_IO_ bits, as transforms see them.
    pub flags: u32,
    /// RESAY_TAP_ANSWERED and so on.
    pub outcome: u32,
    /// RESAY_DROPPED_ or RESAY_CLOSED_, as the outcome says, or 0.
    pub reason: i32,
    /// The sender as a struct sockaddr, in buf, aligned to 8 bytes; of a unix peer without a name, the family alone.
    pub peer: *const c_void,
    /// Its bytes.
    pub peer_len: usize,
    /// The message as it came, without its frame, in buf. On a raw stream what one read brought; in a layer, what the layer
    /// contained.
    pub data: *const u8,
    /// How many bytes of it are there.
    pub data_len: usize,
    /// With RESAY_TAP_ANSWERS the answer without its frame, in buf; else NULL.
    pub answer: *const u8,
    /// How many bytes of it are there.
    pub answer_len: usize,
    /// Bytes of the whole message: more than data_len where it was cut.
    pub message_bytes: u64,
    /// Bytes of the whole answer, kept or not.
    pub answer_bytes: u64,
}

/// [*] Opens a tap: from now on there is a record of each message that the engine receives and of what became of it,
/// messages included that no transform sees. The record is written before the answer is handed to the kernel, so a
/// client that has read an answer finds the record of its message. A record that finds no room is counted and lost; nothing ever waits for
/// room. Several taps may be open, and be opened and closed while messages flow. Prefaces, greetings of transforms, and
/// what a layer says for its own sake are no messages. options NULL: the defaults. The caller owns *out and closes it with
/// resay_tap_close.
/// Returns 0; RESAY_E_HANDLE: no such listener, RESAY_E_SPEC: capacity_bytes is out of range, RESAY_E_STATE: the engine has
/// ended, RESAY_E_SYS, RESAY_E_ARG: out is NULL, or struct_size or flags are invalid; and *out is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_tap_open(
    engine: *mut resay_engine,
    options: *const resay_tap_options,
    out: *mut *mut resay_tap,
    err: *mut resay_error,
) -> c_int {
    // SAFETY: NULL, or the caller's own pointer.
    let out = unsafe { cleared(out) };
    with_engine(engine, Waits::No, err, |engine| {
        let out = out.or_refuse()?;
        let options = match options.is_null() {
            true => resay_tap_options {
                struct_size: 0,
                flags: 0,
                listener: 0,
                capacity_bytes: 0,
                data_bytes_max: 0,
            },
            // SAFETY: a struct whose size comes first, of numbers; the caller's, as documented.
            false => unsafe { take_struct(options, STRUCT_BYTES_MIN, "options")? },
        };
        if options.flags & !RESAY_TAP_ANSWERS != 0 {
            return Err(Failure::new(RESAY_E_ARG, format!("unknown flags {:#x}", options.flags)));
        }
        let tap = engine.engine.tap(TapOptions {
            answers: options.flags & RESAY_TAP_ANSWERS != 0,
            listener: (options.listener != 0).then(|| ListenerId::from_number(options.listener)),
            capacity_bytes: options.capacity_bytes,
            data_bytes_max: options.data_bytes_max,
        })?;
        out.give(Box::into_raw(Box::new(resay_tap { tap, process: Process::this() })));
        Ok(0)
    })
}

/// [*] A descriptor that is readable while records wait, at the latest when the worker's turn ends that wrote them, for the
/// program's own loop: then call resay_tap_read until it returns 0. Once the engine has ended it stays readable. It belongs
/// to the tap: do not read, write or close it, and take it out of the loop before resay_tap_close.
/// Returns the descriptor; RESAY_E_FORKED, RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_tap_fd(tap: *const resay_tap) -> c_int {
    with_own(tap, Waits::No, |tap| Ok(tap.tap.fd().as_raw_fd()))
}

/// [*] Reads the records that wait, at most count, into records, whose bytes go into buf, cap bytes; record_size is
/// sizeof(resay_tap_record). Waits for the first one: 0 not at all, -1 until the engine has ended, else timeout_ms
/// milliseconds. Takes many at once: while records keep coming, a call that waits first sleeps for up to a millisecond. Of
/// several threads that call it, each record goes to one.
/// Returns the number of records; 0: there was none in that time; RESAY_E_FULL: buf is too small for the next one, and
/// records[0] says what it has, with its lengths and without its bytes; RESAY_E_STATE: the engine has ended and all were
/// read, or it would wait inside a callback; RESAY_E_SYS (ENOMEM): there is no memory for the next one, which waits;
/// RESAY_E_INTR: interrupted by a signal, RESAY_E_FORKED, RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_tap_read(
    tap: *mut resay_tap,
    records: *mut resay_tap_record,
    record_size: usize,
    count: usize,
    buf: *mut c_void,
    cap: usize,
    timeout_ms: i32,
) -> c_int {
    let waits = if timeout_ms == 0 { Waits::No } else { Waits::Yes };
    with_own(tap, waits, |tap| {
        if records.is_null() || count == 0 {
            return Err(Failure::null("records"));
        }
        if !(RECORD_BYTES_MIN..=STRUCT_BYTES_MAX).contains(&record_size)
            || !record_size.is_multiple_of(align_of::<u64>())
        {
            let message = format!("record_size is {record_size}: set it to sizeof(resay_tap_record)");
            return Err(Failure::new(RESAY_E_ARG, message));
        }
        let cap = length_of(cap, buf, "buf")?;
        let count = count.min(c_int::MAX as usize);
        // SAFETY: the caller says that there are `count` records of `record_size` bytes, and `cap` bytes at `buf`.
        let mut place = unsafe { Place::new(records, record_size, buf, cap) };
        let mut too_small = None;
        let taken = tap.tap.read(timeout_of(timeout_ms)?, |record| {
            if place.taken == count {
                return false;
            }
            let is_taken = place.put(record);
            if !is_taken && place.taken == 0 {
                too_small = Some(place.describe(record));
            }
            is_taken
        })?;
        match too_small {
            Some(needed) => {
                let message = format!("the buffer is too small: {needed} bytes are needed");
                Err(Failure::new(RESAY_E_FULL, message))
            }
            None => Ok(taken as c_int),
        }
    })
}

/// [*] How many records have found no room. NULL: 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_tap_lost(tap: *const resay_tap) -> u64 {
    // SAFETY: NULL, or from resay_tap_open and not closed before this returns.
    unsafe { tap.as_ref() }.map_or(0, |tap| tap.tap.lost())
}

/// [1] Closes a tap, before resay_engine_free or after it; what nobody has read is gone. NULL is fine. No thread waits in
/// resay_tap_read, and no loop watches resay_tap_fd. In a child of fork() it closes the child's copy of the descriptor and
/// nothing else.
/// Returns 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_tap_close(tap: *mut resay_tap) -> c_int {
    call(ptr::null_mut(), || {
        if !tap.is_null() {
            // SAFETY: from resay_tap_open, and closed once: the caller's duty.
            let tap = *unsafe { Box::from_raw(tap) };
            if tap.process.is_other() {
                tap.tap.abandon();
            }
        }
        Ok(0)
    })
}

/// [*] The name of a RESAY_TAP_ outcome in snake_case, such as "answered": it is the same in all versions. Static; "unknown"
/// for other numbers.
#[unsafe(no_mangle)]
pub extern "C" fn resay_tap_outcome_name(outcome: u32) -> *const c_char {
    TapOutcome::c_name(outcome).unwrap_or(UNKNOWN).as_ptr()
}

/// [*] The name of a kind of socket, RESAY_STREAM and so on: "stream", "datagram", "seqpacket". Static; "unknown" for other
/// numbers.
#[unsafe(no_mangle)]
pub extern "C" fn resay_kind_name(kind: u32) -> *const c_char {
    let name = match kind {
        RESAY_STREAM => c"stream",
        RESAY_DATAGRAM => c"datagram",
        RESAY_SEQPACKET => c"seqpacket",
        _ => UNKNOWN,
    };
    name.as_ptr()
}

/// The fields that the first version of the struct begins with.
const RECORD_BYTES_MIN: usize = 2 * size_of::<u64>();

impl Own for resay_tap {
    const WHAT: &'static str = "the tap";

    fn process(&self) -> Process {
        self.process
    }
}

/// The caller's memory for records.
struct Place {
    records: *mut u8,
    record_bytes: usize,
    buf: *mut u8,
    cap: usize,
    taken: usize,
    used: usize,
}

impl Place {
    /// # Safety
    /// There is memory for as many records as are put there, of `record_bytes` bytes each, and `cap` bytes at `buf`.
    unsafe fn new(
        records: *mut resay_tap_record,
        record_bytes: usize,
        buf: *mut c_void,
        cap: usize,
    ) -> Place {
        Place { records: records.cast(), record_bytes, buf: buf.cast(), cap, taken: 0, used: 0 }
    }

    /// Copies a record, if there is room for its bytes.
    fn put(&mut self, record: &TapRecord<'_>) -> bool {
        let peer = record.peer_sockaddr();
        // A sockaddr is aligned like its largest field.
        let gap = (self.buf as usize + self.used).wrapping_neg() % align_of::<u64>();
        let needed = gap + peer.len() + record.data.len() + record.answer.len();
        if needed > self.cap - self.used {
            return false;
        }
        self.used += gap;
        let mut filled = head_of(record);
        filled.peer = self.copy(peer).cast();
        filled.data = self.copy(record.data);
        if !record.answer.is_empty() {
            filled.answer = self.copy(record.answer);
        }
        self.give(&filled);
        self.taken += 1;
        true
    }

    /// Says what a record has that there is no room for, and how many bytes that needs.
    fn describe(&mut self, record: &TapRecord<'_>) -> usize {
        let filled = head_of(record);
        self.give(&filled);
        align_of::<u64>() - 1 + filled.peer_len + filled.data_len + filled.answer_len
    }

    /// Copies bytes behind those that are there already; the caller has looked whether there is room.
    fn copy(&mut self, bytes: &[u8]) -> *const u8 {
        if bytes.is_empty() {
            return ptr::null();
        }
        // SAFETY: `used + bytes.len()` is at most `cap`.
        let to = unsafe { self.buf.add(self.used) };
        // SAFETY: as above; the tap's memory is not the caller's.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        self.used += bytes.len();
        to
    }

    /// Writes the next record, as far as the caller knows its fields.
    fn give(&mut self, filled: &resay_tap_record) {
        let known = self.record_bytes.min(size_of::<resay_tap_record>());
        // SAFETY: there is memory for this record, and the struct has no padding.
        unsafe {
            let to = self.records.add(self.taken * self.record_bytes);
            ptr::copy_nonoverlapping(ptr::from_ref(filled).cast(), to, known);
            ptr::write_bytes(to.add(known), 0, self.record_bytes - known);
        }
    }
}

/// A record without its bytes.
fn head_of(record: &TapRecord<'_>) -> resay_tap_record {
    resay_tap_record {
        sequence: record.sequence,
        time_ns: record.time_ns,
        listener: record.listener_id,
        connection: record.connection,
        kind: record.kind.number(),
        flags: record.flags,
        outcome: record.outcome.number(),
        reason: record.outcome.reason(),
        peer: ptr::null(),
        peer_len: record.peer_sockaddr().len(),
        data: ptr::null(),
        data_len: record.data.len(),
        answer: ptr::null(),
        answer_len: record.answer.len(),
        message_bytes: record.message_bytes,
        answer_bytes: record.answer_bytes,
    }
}
