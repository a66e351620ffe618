//! Queues of events.

use std::ffi::{CStr, c_char, c_int};
use std::os::fd::AsRawFd;
use std::ptr;

use super::engine::{Own, Waits, resay_engine, with_engine, with_own};
use super::error::{RESAY_E_CALLBACK, RESAY_E_PLUGIN, call, resay_error};
use super::listener::resay_id;
use super::memory::{cleared, give_struct};
use super::process::Process;
use super::text::fill;
use super::time::timeout_of;
use crate::{
    CloseReason, DropReason, EVENT_TEXT_BYTES_MAX, EventCause, EventKind, EventQueue, EventRecord,
    RejectReason,
};

/// In resay_event.kind, and for resay_events_open, ORed together: a listener accepts connections or datagrams.
pub const RESAY_EVENT_LISTENING: u32 = 1u32;
/// In resay_event.kind: a listener is closed.
pub const RESAY_EVENT_LISTENER_CLOSED: u32 = 2u32;
/// In resay_event.kind: a connection was accepted; text is its peer.
pub const RESAY_EVENT_ACCEPTED: u32 = 4u32;
/// In resay_event.kind: a connection was closed; code is a RESAY_CLOSED_ reason.
pub const RESAY_EVENT_CLOSED: u32 = 8u32;
/// In resay_event.kind: a connection was rejected by a limit or a rule; code is a RESAY_REJECTED_ reason.
pub const RESAY_EVENT_REJECTED: u32 = 16u32;
/// In resay_event.kind: accept(2) failed; code is the errno.
pub const RESAY_EVENT_ACCEPT_FAILED: u32 = 32u32;
/// In resay_event.kind: a message was not answered; code is a RESAY_DROPPED_ reason, or the negative errno of a datagram
/// socket.
pub const RESAY_EVENT_DROPPED: u32 = 64u32;
/// In resay_event.kind: a transform failed; code is RESAY_E_CALLBACK or RESAY_E_PLUGIN.
pub const RESAY_EVENT_TRANSFORM_FAILED: u32 = 128u32;
/// In resay_event.kind: a transform logs a line.
pub const RESAY_EVENT_TRANSFORM_LOG: u32 = 256u32;
/// In resay_event.kind: a chain was replaced; text is the new chain.
pub const RESAY_EVENT_CHAIN_CHANGED: u32 = 512u32;
/// In resay_event.kind: the engine's state changed, such as its driver or its end. At RESAY_LOG_ERROR: a worker failed, or
/// found a bug of Resay; text has its place and the number of bugs found.
pub const RESAY_EVENT_ENGINE: u32 = 1024u32;
/// A transform has not returned for the time of the option "watchdog": the text names it, and the worker that waits for it
/// where one does. Once for each case.
pub const RESAY_EVENT_TRANSFORM_STUCK: u32 = 2048u32;
/// A transform that was stuck has returned.
pub const RESAY_EVENT_TRANSFORM_RETURNED: u32 = 4096u32;
/// In resay_event.kind: a header of a proxy has named the peer of a connection.
pub const RESAY_EVENT_IDENTIFIED: u32 = 8192u32;
/// For resay_events_open: all kinds, including those of later versions.
pub const RESAY_EVENT_ALL: u32 = 0xffff_ffff_u32;

/// In resay_event.code: the peer closed its side and received all its answers.
pub const RESAY_CLOSED_PEER_CLOSED: i32 = 1;
/// In resay_event.code: the peer reset the connection, or vanished.
pub const RESAY_CLOSED_PEER_RESET: i32 = 2;
/// In resay_event.code: the peer was silent for idle_timeout.
pub const RESAY_CLOSED_IDLE_TIMEOUT: i32 = 3;
/// In resay_event.code: the peer read nothing for write_timeout.
pub const RESAY_CLOSED_WRITE_TIMEOUT: i32 = 4;
/// In resay_event.code: a message was longer than max_message.
pub const RESAY_CLOSED_MESSAGE_TOO_LONG: i32 = 5;
/// In resay_event.code: a transform requested it.
pub const RESAY_CLOSED_TRANSFORM_CLOSED: i32 = 6;
/// In resay_event.code: a transform failed.
pub const RESAY_CLOSED_TRANSFORM_FAILED: i32 = 7;
/// In resay_event.code: its chain was replaced, and it still needed the old one after swap_timeout.
pub const RESAY_CLOSED_CHAIN_REPLACED: i32 = 8;
/// In resay_event.code: the engine drained.
pub const RESAY_CLOSED_DRAINED: i32 = 9;
/// In resay_event.code: the engine drained, and the connection did not finish in time.
pub const RESAY_CLOSED_CUT_OFF: i32 = 10;
/// In resay_event.code: the engine stopped.
pub const RESAY_CLOSED_STOPPED: i32 = 11;
/// In resay_event.code: another system error.
pub const RESAY_CLOSED_SYSTEM_ERROR: i32 = 12;
/// In resay_event.code: slower than min_rate.
pub const RESAY_CLOSED_TOO_SLOW: i32 = 13;
/// In resay_event.code: the preface of the stream is invalid, or names a peer that is not allowed.
pub const RESAY_CLOSED_PREFACE_REFUSED: i32 = 14;
/// In resay_event.code: the layer around the stream could not be negotiated, or failed.
pub const RESAY_CLOSED_LAYER_FAILED: i32 = 15;
/// In resay_event.code: an answer was longer than the send buffer of its seqpacket socket.
pub const RESAY_CLOSED_ANSWER_TOO_LONG: i32 = 16;
/// In resay_event.code: the program closed or reset it.
pub const RESAY_CLOSED_BY_HOST: i32 = 17;
/// Too many messages of its chain waited for a thread: the chain has a transform that may block.
pub const RESAY_CLOSED_OVERLOADED: i32 = 18;
/// In resay_event.code: the socket ended before the layer around the stream did: the peer, or somebody between, has cut it off.
pub const RESAY_CLOSED_LAYER_TRUNCATED: i32 = 19;

/// In resay_event.code: a transform returned RESAY_DROP.
pub const RESAY_DROPPED_BY_TRANSFORM: i32 = 1;
/// In resay_event.code: a transform failed.
pub const RESAY_DROPPED_TRANSFORM_FAILED: i32 = 2;
/// In resay_event.code: the message was longer than max_message.
pub const RESAY_DROPPED_TOO_LONG: i32 = 3;
/// In resay_event.code: the source cannot be answered: port 0, or an unspecified, broadcast or multicast address.
pub const RESAY_DROPPED_BAD_SOURCE: i32 = 4;
/// In resay_event.code: the destination was a broadcast or multicast address.
pub const RESAY_DROPPED_GROUP_DESTINATION: i32 = 5;
/// In resay_event.code: the unix sender has no name, or a relative one.
pub const RESAY_DROPPED_UNNAMED: i32 = 6;
/// In resay_event.code: its unix peer has not read earlier answers: its queue is full, or they use its share of the send buffer
/// of the socket.
pub const RESAY_DROPPED_PEER_FULL: i32 = 7;
/// In resay_event.code: its answer was longer than max_amplification allows.
pub const RESAY_DROPPED_AMPLIFIED: i32 = 8;
/// In resay_event.code: too many delayed answers are waiting.
pub const RESAY_DROPPED_QUEUE_FULL: i32 = 9;
/// In resay_event.code: the answer could not be sent.
pub const RESAY_DROPPED_SEND_FAILED: i32 = 10;
/// In resay_event.code: the connection broke before the answer was sent, or its last frame was unfinished.
pub const RESAY_DROPPED_UNDELIVERED: i32 = 11;
/// In resay_event.code: the answer was longer than a datagram of its socket may be.
pub const RESAY_DROPPED_ANSWER_TOO_LONG: i32 = 12;
/// Too many messages of its chain waited for a thread: the chain has a transform that may block.
pub const RESAY_DROPPED_OVERLOADED: i32 = 13;
/// The send buffer of its unix datagram socket is full of answers that peers, perhaps others, have not read.
pub const RESAY_DROPPED_SOCKET_FULL: i32 = 14;
/// In resay_event.code: its source is a UDP socket of this engine.
pub const RESAY_DROPPED_OWN_ADDRESS: i32 = 15;
/// In resay_event.code: its source port is not in from_ports.
pub const RESAY_DROPPED_FROM_PORT: i32 = 16;
/// In resay_event.code: its source is in a network that allow and deny keep out.
pub const RESAY_DROPPED_DENIED: i32 = 17;
/// In resay_event.code: it arrived with the hop limit of a server's answer (loop_mark).
pub const RESAY_DROPPED_LOOP_MARK: i32 = 18;
/// In resay_event.code: its network, or the listener, has had its rate.
pub const RESAY_DROPPED_RATE: i32 = 19;
/// In resay_event.code: it is an answer that came back once too often (loop_hops).
pub const RESAY_DROPPED_LOOP: i32 = 20;
/// In resay_event.code: it has no valid header of a proxy, although its listener asks for one (proxy).
pub const RESAY_DROPPED_PROXY_HEADER: i32 = 21;
/// In resay_event.code: it does not come from one of the proxies (proxy_from).
pub const RESAY_DROPPED_NOT_FROM_PROXY: i32 = 22;
/// In resay_event.code: its listener had max_connections already.
pub const RESAY_REJECTED_MAX_CONNECTIONS: i32 = 1;
/// In resay_event.code: its peer, or its peer's network, had max_per_peer already.
pub const RESAY_REJECTED_MAX_PER_PEER: i32 = 2;
/// In resay_event.code: its peer is in a network that allow and deny keep out.
pub const RESAY_REJECTED_DENIED: i32 = 3;
/// In resay_event.code: its peer's user is not in allow_uid.
pub const RESAY_REJECTED_ALLOW_UID: i32 = 4;
/// In resay_event.code: the system does not say whose it is.
pub const RESAY_REJECTED_UNKNOWN_USER: i32 = 5;
/// In resay_event.code: it does not come from one of the proxies (proxy_from).
pub const RESAY_REJECTED_NOT_FROM_PROXY: i32 = 6;

/// Size of resay_event.text in bytes, including the NUL.
pub const RESAY_EVENT_TEXT_BYTES: usize = 96;

const _: () = assert!(EVENT_TEXT_BYTES_MAX < RESAY_EVENT_TEXT_BYTES);

// The numbers are the positions of the reasons, so those may never change.
const _: () = {
    assert!(RESAY_EVENT_LISTENING == 1 << EventKind::Listening as u32);
    assert!(RESAY_EVENT_LISTENER_CLOSED == 1 << EventKind::ListenerClosed as u32);
    assert!(RESAY_EVENT_ACCEPTED == 1 << EventKind::Accepted as u32);
    assert!(RESAY_EVENT_CLOSED == 1 << EventKind::Closed as u32);
    assert!(RESAY_EVENT_REJECTED == 1 << EventKind::Rejected as u32);
    assert!(RESAY_EVENT_ACCEPT_FAILED == 1 << EventKind::AcceptFailed as u32);
    assert!(RESAY_EVENT_DROPPED == 1 << EventKind::Dropped as u32);
    assert!(RESAY_EVENT_TRANSFORM_FAILED == 1 << EventKind::TransformFailed as u32);
    assert!(RESAY_EVENT_TRANSFORM_LOG == 1 << EventKind::TransformLog as u32);
    assert!(RESAY_EVENT_CHAIN_CHANGED == 1 << EventKind::ChainChanged as u32);
    assert!(RESAY_EVENT_ENGINE == 1 << EventKind::Engine as u32);
    assert!(RESAY_EVENT_TRANSFORM_STUCK == 1 << EventKind::TransformStuck as u32);
    assert!(RESAY_EVENT_TRANSFORM_RETURNED == 1 << EventKind::TransformReturned as u32);
    assert!(RESAY_EVENT_IDENTIFIED == 1 << EventKind::Identified as u32);
    assert!(RESAY_EVENT_ALL == u32::MAX);
    assert!(RESAY_CLOSED_PEER_CLOSED == CloseReason::PeerClosed as i32 + 1);
    assert!(RESAY_CLOSED_PEER_RESET == CloseReason::PeerReset as i32 + 1);
    assert!(RESAY_CLOSED_IDLE_TIMEOUT == CloseReason::IdleTimeout as i32 + 1);
    assert!(RESAY_CLOSED_WRITE_TIMEOUT == CloseReason::WriteTimeout as i32 + 1);
    assert!(RESAY_CLOSED_MESSAGE_TOO_LONG == CloseReason::MessageTooLong as i32 + 1);
    assert!(RESAY_CLOSED_TRANSFORM_CLOSED == CloseReason::TransformClosed as i32 + 1);
    assert!(RESAY_CLOSED_TRANSFORM_FAILED == CloseReason::TransformFailed as i32 + 1);
    assert!(RESAY_CLOSED_CHAIN_REPLACED == CloseReason::ChainReplaced as i32 + 1);
    assert!(RESAY_CLOSED_DRAINED == CloseReason::Drained as i32 + 1);
    assert!(RESAY_CLOSED_CUT_OFF == CloseReason::CutOff as i32 + 1);
    assert!(RESAY_CLOSED_STOPPED == CloseReason::Stopped as i32 + 1);
    assert!(RESAY_CLOSED_SYSTEM_ERROR == CloseReason::SystemError as i32 + 1);
    assert!(RESAY_CLOSED_TOO_SLOW == CloseReason::TooSlow as i32 + 1);
    assert!(RESAY_CLOSED_PREFACE_REFUSED == CloseReason::PrefaceRefused as i32 + 1);
    assert!(RESAY_CLOSED_LAYER_FAILED == CloseReason::LayerFailed as i32 + 1);
    assert!(RESAY_CLOSED_ANSWER_TOO_LONG == CloseReason::AnswerTooLong as i32 + 1);
    assert!(RESAY_CLOSED_BY_HOST == CloseReason::ByHost as i32 + 1);
    assert!(RESAY_CLOSED_OVERLOADED == CloseReason::Overloaded as i32 + 1);
    assert!(RESAY_CLOSED_LAYER_TRUNCATED == CloseReason::LayerTruncated as i32 + 1);
    assert!(RESAY_DROPPED_BY_TRANSFORM == DropReason::ByTransform as i32 + 1);
    assert!(RESAY_DROPPED_TRANSFORM_FAILED == DropReason::TransformFailed as i32 + 1);
    assert!(RESAY_DROPPED_TOO_LONG == DropReason::TooLong as i32 + 1);
    assert!(RESAY_DROPPED_BAD_SOURCE == DropReason::BadSource as i32 + 1);
    assert!(RESAY_DROPPED_GROUP_DESTINATION == DropReason::GroupDestination as i32 + 1);
    assert!(RESAY_DROPPED_UNNAMED == DropReason::Unnamed as i32 + 1);
    assert!(RESAY_DROPPED_PEER_FULL == DropReason::PeerFull as i32 + 1);
    assert!(RESAY_DROPPED_AMPLIFIED == DropReason::Amplified as i32 + 1);
    assert!(RESAY_DROPPED_QUEUE_FULL == DropReason::QueueFull as i32 + 1);
    assert!(RESAY_DROPPED_SEND_FAILED == DropReason::SendFailed as i32 + 1);
    assert!(RESAY_DROPPED_UNDELIVERED == DropReason::Undelivered as i32 + 1);
    assert!(RESAY_DROPPED_ANSWER_TOO_LONG == DropReason::AnswerTooLong as i32 + 1);
    assert!(RESAY_DROPPED_OVERLOADED == DropReason::Overloaded as i32 + 1);
    assert!(RESAY_DROPPED_SOCKET_FULL == DropReason::SocketFull as i32 + 1);
    assert!(RESAY_DROPPED_OWN_ADDRESS == DropReason::OwnAddress as i32 + 1);
    assert!(RESAY_DROPPED_FROM_PORT == DropReason::FromPort as i32 + 1);
    assert!(RESAY_DROPPED_DENIED == DropReason::Denied as i32 + 1);
    assert!(RESAY_DROPPED_LOOP_MARK == DropReason::LoopMark as i32 + 1);
    assert!(RESAY_DROPPED_RATE == DropReason::Rate as i32 + 1);
    assert!(RESAY_DROPPED_LOOP == DropReason::Loop as i32 + 1);
    assert!(RESAY_DROPPED_PROXY_HEADER == DropReason::ProxyHeader as i32 + 1);
    assert!(RESAY_DROPPED_NOT_FROM_PROXY == DropReason::NotFromProxy as i32 + 1);
    assert!(RESAY_REJECTED_MAX_CONNECTIONS == RejectReason::MaxConnections as i32 + 1);
    assert!(RESAY_REJECTED_MAX_PER_PEER == RejectReason::MaxPerPeer as i32 + 1);
    assert!(RESAY_REJECTED_DENIED == RejectReason::Denied as i32 + 1);
    assert!(RESAY_REJECTED_ALLOW_UID == RejectReason::AllowUid as i32 + 1);
    assert!(RESAY_REJECTED_UNKNOWN_USER == RejectReason::UnknownUser as i32 + 1);
    assert!(RESAY_REJECTED_NOT_FROM_PROXY == RejectReason::NotFromProxy as i32 + 1);
    // Each reason has a number here.
    assert!(RESAY_CLOSED_LAYER_TRUNCATED as usize == CloseReason::ALL.len());
    assert!(RESAY_DROPPED_NOT_FROM_PROXY as usize == DropReason::ALL.len());
    assert!(RESAY_REJECTED_NOT_FROM_PROXY as usize == RejectReason::ALL.len());
};

/// An event. Later versions may add kinds and codes.
#[repr(C)]
pub struct resay_event {
    /// Set by the caller: sizeof(resay_event).
    pub struct_size: u32,
    /// One RESAY_EVENT_ bit.
    pub kind: u32,
    /// The listener, or 0.
    pub listener: resay_id,
    /// The connection's number, or 0.
    pub connection: u64,
    /// The cause, or 0: see the kinds.
    pub code: i32,
    /// Reserved.
    pub zero: u32,
    /// English text in UTF-8, NUL-terminated, truncated if it is too long. It begins with the peer, if there is one.
    pub text: [c_char; RESAY_EVENT_TEXT_BYTES],
    /// When it happened, in nanoseconds of CLOCK_MONOTONIC.
    pub time_ns: u64,
}

/// A queue of events. It lives for itself: after resay_engine_free its events can still be taken.
pub struct resay_events {
    queue: EventQueue,
    process: Process,
}

/// [*] Opens a queue that keeps events from now on: kinds are RESAY_EVENT_ bits. At most capacity of them wait, 1 to 65536.
/// Events that find the queue full are counted (resay_events_lost, and resay_stats.events_lost for all queues) and lost:
/// nothing ever waits for room. An engine may have several queues. The caller owns *out and closes it with
/// resay_events_close.
/// Returns 0; RESAY_E_SPEC: capacity is out of range, RESAY_E_STATE: the engine has ended, RESAY_E_SYS, RESAY_E_ARG: out is
/// NULL; and *out is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_events_open(
    engine: *mut resay_engine,
    kinds: u32,
    capacity: u32,
    out: *mut *mut resay_events,
    err: *mut resay_error,
) -> c_int {
    // SAFETY: NULL, or the caller's own pointer.
    let out = unsafe { cleared(out) };
    with_engine(engine, Waits::No, err, |engine| {
        let out = out.or_refuse()?;
        let queue = engine.engine.events(kinds, capacity as usize)?;
        out.give(Box::into_raw(Box::new(resay_events { queue, process: Process::this() })));
        Ok(0)
    })
}

/// [*] A descriptor that is readable while events wait, for the program's own loop: then call resay_events_next until it
/// returns 0. Once the engine has ended it stays readable. It belongs to the queue: do not read, write or close it, and
/// take it out of the loop before resay_events_close.
/// Returns the descriptor; RESAY_E_FORKED, RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_events_fd(events: *const resay_events) -> c_int {
    with_own(events, Waits::No, |events| Ok(events.queue.fd().as_raw_fd()))
}

/// [*] Takes the first event that waits, or waits for one: 0 not at all, -1 until the engine has ended, else timeout_ms
/// milliseconds. event->struct_size is sizeof *event. Of several threads that call it, each event goes to one.
/// Returns 1: *event is filled; 0: there was none in that time; RESAY_E_STATE: the engine has ended and all were taken, or
/// it would wait inside a callback; RESAY_E_INTR: interrupted by a signal, RESAY_E_FORKED, RESAY_E_ARG: event is NULL, or
/// its struct_size is not set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_events_next(
    events: *mut resay_events,
    event: *mut resay_event,
    timeout_ms: i32,
) -> c_int {
    let waits = if timeout_ms == 0 { Waits::No } else { Waits::Yes };
    with_own(events, waits, |events| {
        // Looked at before an event is taken, which would be lost.
        let mut filled = blank();
        // SAFETY: a struct without padding whose size comes first; the caller's, as documented.
        unsafe { give_struct(event, &filled, "event")? };
        let Some(record) = events.queue.next(timeout_of(timeout_ms)?)? else { return Ok(0) };
        filled.kind = record.kind.bit();
        filled.listener = record.listener_id;
        filled.connection = record.connection;
        filled.code = code_of(&record);
        filled.time_ns = record.time_ns;
        fill(&mut filled.text, record.text());
        // SAFETY: as above.
        unsafe { give_struct(event, &filled, "event")? };
        Ok(1)
    })
}

/// [*] How many events have found this queue full. NULL: 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_events_lost(events: *const resay_events) -> u64 {
    // SAFETY: NULL, or from resay_events_open and not closed before this returns.
    unsafe { events.as_ref() }.map_or(0, |events| events.queue.lost())
}

/// [1] Closes a queue, before resay_engine_free or after it. NULL is fine. No thread waits in resay_events_next, and no
/// loop watches resay_events_fd. In a child of fork() it closes the child's copy of the descriptor and nothing else.
/// Returns 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_events_close(events: *mut resay_events) -> c_int {
    call(ptr::null_mut(), || {
        if !events.is_null() {
            // SAFETY: from resay_events_open, and closed once: the caller's duty.
            let events = *unsafe { Box::from_raw(events) };
            if events.process.is_other() {
                events.queue.abandon();
            }
        }
        Ok(0)
    })
}

impl Own for resay_events {
    const WHAT: &'static str = "the queue of events";

    fn process(&self) -> Process {
        self.process
    }
}

/// [*] The name of a kind of event in snake_case, such as "closed", for logs and statistics that programs read: it is the
/// same in all versions. kind: one RESAY_EVENT_ bit. Static; "unknown" for other numbers.
#[unsafe(no_mangle)]
pub extern "C" fn resay_event_kind_name(kind: u32) -> *const c_char {
    EventKind::from_bit(kind).map_or(UNKNOWN, EventKind::c_name).as_ptr()
}

/// [*] The name of resay_event.code in snake_case, such as "idle_timeout", for an event of this kind: it is the same in all
/// versions, and in the JSON of the command. Static; "" for 0, "unknown" for other numbers, "system_error" for an errno.
#[unsafe(no_mangle)]
pub extern "C" fn resay_event_code_name(kind: u32, code: i32) -> *const c_char {
    let cause = match (EventKind::from_bit(kind), code) {
        (_, 0) => return c"".as_ptr(),
        (Some(EventKind::Closed), _) => CloseReason::from_number(code).map(EventCause::Closed),
        (Some(EventKind::Dropped), ..0) => Some(EventCause::System(code.saturating_neg())),
        (Some(EventKind::Dropped), _) => DropReason::from_number(code).map(EventCause::Dropped),
        (Some(EventKind::Rejected), _) => RejectReason::from_number(code).map(EventCause::Rejected),
        (Some(_), RESAY_E_CALLBACK) => Some(EventCause::Function),
        (Some(_), RESAY_E_PLUGIN) => Some(EventCause::Table),
        (Some(_), 1..) => Some(EventCause::System(code)),
        _ => None,
    };
    cause.map_or(UNKNOWN, EventCause::c_name).as_ptr()
}

/// [*] The name of a RESAY_CLOSED_ reason in snake_case, such as "idle_timeout": it is the same in all versions. Static; ""
/// for 0, "unknown" for other numbers.
#[unsafe(no_mangle)]
pub extern "C" fn resay_close_reason_name(reason: c_int) -> *const c_char {
    reason_name(reason, CloseReason::from_number(reason).map(CloseReason::c_name))
}

/// [*] The name of a RESAY_DROPPED_ reason in snake_case, such as "unnamed": it is the same in all versions. Static; "" for
/// 0, "unknown" for other numbers.
#[unsafe(no_mangle)]
pub extern "C" fn resay_drop_reason_name(reason: c_int) -> *const c_char {
    reason_name(reason, DropReason::from_number(reason).map(DropReason::c_name))
}

fn reason_name(reason: c_int, name: Option<&'static CStr>) -> *const c_char {
    if reason == 0 { c"".as_ptr() } else { name.unwrap_or(UNKNOWN).as_ptr() }
}

pub(super) const UNKNOWN: &CStr = c"unknown";

fn blank() -> resay_event {
    resay_event {
        struct_size: 0,
        kind: 0,
        listener: 0,
        connection: 0,
        code: 0,
        zero: 0,
        text: [0; RESAY_EVENT_TEXT_BYTES],
        time_ns: 0,
    }
}

fn code_of(record: &EventRecord) -> i32 {
    match record.cause {
        Some(EventCause::Closed(reason)) => reason.number(),
        Some(EventCause::Dropped(reason)) => reason.number(),
        Some(EventCause::Rejected(reason)) => reason.number(),
        Some(EventCause::System(errno)) if record.kind == EventKind::Dropped => -errno,
        Some(EventCause::System(errno)) => errno,
        Some(EventCause::Function) => RESAY_E_CALLBACK,
        Some(EventCause::Table) => RESAY_E_PLUGIN,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn text(name: *const c_char) -> &'static str {
        // SAFETY: static strings.
        unsafe { CStr::from_ptr(name) }.to_str().unwrap()
    }

    /// `RESAY_prefix_NAME` of the header, with its number.
    fn constants(prefix: &str) -> Vec<(String, i64)> {
        let header = include_str!("../../include/resay.h");
        let rows = header.lines().filter_map(|line| line.strip_prefix("#define ")?.strip_prefix(prefix));
        rows.filter_map(|row| {
            let (name, number) = row.split_once(' ')?;
            let number = number.trim_matches(['(', ')', 'u', 'U']);
            let (digits, radix) = number.strip_prefix("0x").map_or((number, 10), |digits| (digits, 16));
            Some((name.to_lowercase(), i64::from_str_radix(digits, radix).ok()?))
        })
        .collect()
    }

    #[test]
    fn every_number_of_the_header_has_its_own_name() {
        let name_of = |prefix, number| match prefix {
            "RESAY_CLOSED_" => {
                let name = text(resay_close_reason_name(number as i32));
                assert_eq!(name, text(resay_event_code_name(RESAY_EVENT_CLOSED, number as i32)));
                name
            }
            "RESAY_DROPPED_" => {
                let name = text(resay_drop_reason_name(number as i32));
                assert_eq!(name, text(resay_event_code_name(RESAY_EVENT_DROPPED, number as i32)));
                name
            }
            "RESAY_REJECTED_" => text(resay_event_code_name(RESAY_EVENT_REJECTED, number as i32)),
            _ => text(resay_event_kind_name(number as u32)),
        };
        for (prefix, count) in [
            ("RESAY_CLOSED_", CloseReason::ALL.len()),
            ("RESAY_DROPPED_", DropReason::ALL.len()),
            ("RESAY_REJECTED_", RejectReason::ALL.len()),
            ("RESAY_EVENT_", EventKind::ALL.len()),
        ] {
            let mut rows = constants(prefix);
            rows.retain(|(name, _)| {
                !(prefix == "RESAY_EVENT_" && ["all", "text_bytes"].contains(&name.as_str()))
            });
            assert_eq!(rows.len(), count, "{prefix}: {rows:?}");
            for (name, number) in &rows {
                assert_eq!(name_of(prefix, *number), name, "{prefix}{number}");
            }
            assert_eq!(rows.iter().map(|(name, _)| name).collect::<BTreeSet<_>>().len(), count);
        }
    }

    #[test]
    fn other_numbers_have_names_too() {
        for (kind, code, name) in [
            (RESAY_EVENT_CLOSED, 0, ""),
            (RESAY_EVENT_CLOSED, -1, "unknown"),
            (RESAY_EVENT_CLOSED, i32::MAX, "unknown"),
            (RESAY_EVENT_CLOSED, i32::MIN, "unknown"),
            (RESAY_EVENT_DROPPED, -libc::EPERM, "system_error"),
            (RESAY_EVENT_DROPPED, i32::MIN, "system_error"),
            (RESAY_EVENT_ACCEPT_FAILED, libc::EMFILE, "system_error"),
            (RESAY_EVENT_TRANSFORM_FAILED, RESAY_E_CALLBACK, "callback_failed"),
            (RESAY_EVENT_TRANSFORM_FAILED, RESAY_E_PLUGIN, "plugin_failed"),
            (RESAY_EVENT_ALL, 1, "unknown"),
        ] {
            assert_eq!(text(resay_event_code_name(kind, code)), name, "{kind} {code}");
        }
        for (number, name) in [(0, ""), (-1, "unknown"), (i32::MAX, "unknown"), (i32::MIN, "unknown")] {
            assert_eq!(text(resay_close_reason_name(number)), name);
            assert_eq!(text(resay_drop_reason_name(number)), name);
        }
        for kind in [0, 3, RESAY_EVENT_ALL] {
            assert_eq!(text(resay_event_kind_name(kind)), "unknown");
        }
    }
}
