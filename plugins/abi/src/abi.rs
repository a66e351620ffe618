//! The boundary itself, in C's own names. `include/resay_plugin.h` is generated from this file, so the
//! comments here are the comments of the header: plain words, no Rust links.
//!
//! Fields never move and never change type. New ones are appended, and `RESAY_PLUGIN_ABI_MINOR` counts
//! them; anything else is a new major, which means a new entry, `resay_plugin_v2`.
//!
//! Where a function may be called: `[C]` on a control thread, and never two such calls at once for one
//! instance; `[W]` on a worker, or where `RESAY_NEED_OFFLOAD` takes it; `[*]` on any thread, at any time.
#![allow(non_camel_case_types)]
// [C], [W] and [*] are no links.
#![allow(rustdoc::broken_intra_doc_links)]

use core::ffi::{CStr, c_char, c_int, c_void};

/// The revision of this header within major 1. It grows when a struct gains a field or a constant is
/// added; a plugin and a host of different revisions work together.
pub const RESAY_PLUGIN_ABI_MINOR: u32 = 0u32;

// ---- What map() and process() answer. Positive: what the host shall do next. Negative: an error.

/// Done: all of the input is consumed (in_used == in_len), and the output is complete.
pub const RESAY_OK: i32 = 0;
/// process() only: the host takes what is in out, then calls again with the input from in_used on (which
/// may be empty) and a fresh out of at least out_need bytes. There must be progress: something consumed,
/// something produced, or out_need > out_cap.
pub const RESAY_MORE_OUT: i32 = 1;
/// process() only, and only in a call with neither RESAY_IO_END nor RESAY_IO_EOF, that is on a raw stream:
/// the host keeps in[in_used..in_len] and passes it again, at the front of what comes next.
pub const RESAY_MORE_IN: i32 = 2;
/// Answer nothing for this message: its output, and the rest of its input, are discarded. (What earlier
/// calls for the same stream message handed over with RESAY_MORE_OUT may be on its way already.)
pub const RESAY_DROP: i32 = 3;
/// Answer with what was produced, then close the connection in good order. A datagram is answered, and
/// there is nothing to close.
pub const RESAY_CLOSE: i32 = 4;
/// Stream: discard what was produced and close at once, by RST where the transport has one. A datagram is
/// dropped.
pub const RESAY_RESET: i32 = 5;
/// This message cannot be transformed: a datagram is dropped, a stream is closed; both are counted.
pub const RESAY_E_DATA: i32 = -1;
/// create(): an option's value cannot be used; the text says which one and why.
pub const RESAY_E_CONFIG: i32 = -2;
/// Memory could not be had. The message or the connection fails, the process does not.
pub const RESAY_E_NOMEM: i32 = -3;
/// What was asked for does not exist here: a kind of peer, a schema, a feature of the system.
pub const RESAY_E_UNSUPPORTED: i32 = -4;
/// The plugin caught a panic or an exception of its own: the host quarantines the instance.
pub const RESAY_E_PANIC: i32 = -5;

// ---- Capabilities: promises. Unknown bits are ignored.

/// In resay_transform.caps, a promise: out[i] depends on in[i] alone, and the length stays. The host splits
/// and merges calls at will, so one call may cover several messages or a part of one. The answer is RESAY_OK
/// or an error, for whatever else it asked would concern all that the call happened to cover.
/// (Unknown bits of caps are ignored; `resay plugin check` tests each promise.)
pub const RESAY_CAP_BYTEWISE: u32 = 1u32;
/// A promise: the bytes are looked at and never changed; map() does not write.
pub const RESAY_CAP_OBSERVER: u32 = 2u32;
/// A promise: process() works with out == in.
pub const RESAY_CAP_ALIAS: u32 = 4u32;
/// process() wants one call, with empty input and flags 0, when a connection opens: what it produces is
/// sent before anything was received. Streams and seqpackets only: no datagram is sent unasked.
pub const RESAY_CAP_GREETS: u32 = 8u32;

// ---- Needs: requirements. An unknown bit means: refuse to load.

/// In resay_transform.needs, a requirement: whole messages only, so never on a raw stream.
/// (A host that does not know a bit of needs refuses the transform.)
pub const RESAY_NEED_MESSAGES: u32 = 1u32;
/// A requirement: a call may block, so run it off the worker; its connection is not read meanwhile.
pub const RESAY_NEED_OFFLOAD: u32 = 2u32;

// ---- Threading.

/// In resay_transform.threading: one instance, called from several threads at once.
pub const RESAY_SHARED: u32 = 0u32;
/// One instance for each worker: no two calls of one instance at once. Calls may still come from more than
/// one thread in turn.
pub const RESAY_PER_WORKER: u32 = 1u32;
/// One instance behind a lock of the host's: no two calls at once.
pub const RESAY_SERIAL: u32 = 2u32;

// ---- Flags of one process() call.

/// In resay_io.flags: this call begins a message: nothing of it has been consumed or answered yet. A call that asked
/// for more room and did neither is repeated with it.
/// A framed stream message, a seqpacket record and a datagram come whole, with BEGIN and END. A raw stream
/// has no messages: each read comes with flags 0, and the peer's half-close with RESAY_IO_EOF.
pub const RESAY_IO_BEGIN: u32 = 1u32;
/// The input ends a message. Whatever is left in hand must come out now.
pub const RESAY_IO_END: u32 = 2u32;
/// The stream has ended: the peer will send no more. On a raw stream this is a call of its own, made once,
/// with the unread tail that RESAY_MORE_IN left, or with empty input.
pub const RESAY_IO_EOF: u32 = 4u32;
/// The message is a datagram.
pub const RESAY_IO_DATAGRAM: u32 = 8u32;

// ---- Kinds of peer.

/// In resay_peer.kind: a TCP or unix stream connection.
pub const RESAY_STREAM: u32 = 1u32;
/// The sender of one datagram. Its session lasts for that datagram.
pub const RESAY_DATAGRAM: u32 = 2u32;
/// A unix seqpacket connection.
pub const RESAY_SEQPACKET: u32 = 3u32;

// ---- Log levels.

/// For resay_host.log: something failed that should not.
pub const RESAY_LOG_ERROR: i32 = 1;
/// Something that someone should look at.
pub const RESAY_LOG_WARN: i32 = 2;
/// What an operator wants to know.
pub const RESAY_LOG_INFO: i32 = 3;
/// What a developer wants to know.
pub const RESAY_LOG_DEBUG: i32 = 4;
/// Every step.
pub const RESAY_LOG_TRACE: i32 = 5;

// ---- Library flags.

/// In resay_library.flags: dlclose() is safe once every instance is destroyed and shutdown() has returned:
/// no thread, no thread-local destructor and no atexit handler of the library remains.
pub const RESAY_LIB_UNLOADABLE: u32 = 1u32;

// Names of extensions: "name/revision". The header defines them in cbindgen-plugin.toml.
/// The extension resay_select.
/// cbindgen:ignore
pub const RESAY_EXT_SELECT: &CStr = c"resay.select/1";
/// The extension resay_session_state.
/// cbindgen:ignore
pub const RESAY_EXT_SESSION_STATE: &CStr = c"resay.session-state/1";

/// One of the RESAY_ status codes. A code that the host does not know closes the connection.
pub type resay_status = i32;

/// A byte that someone else may change at any moment: read it anew each time.
pub type resay_volatile_u8 = u8;

/// Borrowed bytes. ptr may be NULL when len is 0.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct resay_bytes {
    /// The first byte.
    pub ptr: *const u8,
    /// How many.
    pub len: usize,
}

/// One option as it was given. The host has refused unknown keys and repeated ones before.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct resay_kv {
    /// NUL-ended, UTF-8.
    pub key: *const c_char,
    /// The text of the value, without its quotes. Not NUL-ended.
    pub value: resay_bytes,
}

/// One option that a transform understands.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct resay_option {
    /// The name, NUL-ended, UTF-8: letters, digits, '_' and '-'.
    pub key: *const c_char,
    /// What the value looks like, for help texts: "string", "bool", "integer", "rate", "duration", "size".
    pub r#type: *const c_char,
    /// What holds when the option is not given; NULL: it must be given. The host does not pass it to
    /// create(): it tells people.
    pub fallback: *const c_char,
    /// One line for people, or NULL.
    pub help: *const c_char,
}

/// Room for an error's text: the caller's memory. The callee writes UTF-8 that it cuts to fit and ends with
/// NUL, as snprintf(err->buf, err->cap, ...) does. cap is at least 1 where the pointer to this is not NULL;
/// buf holds "" before the call.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct resay_text {
    /// Where to write.
    pub buf: *mut c_char,
    /// How many bytes fit, the NUL included.
    pub cap: usize,
}

/// One call of process(): filled by the host, on the calling thread's stack, valid during the call.
#[repr(C)]
#[derive(Debug)]
pub struct resay_io {
    /// Bytes of this struct that the host knows.
    pub struct_size: u32,
    /// RESAY_IO_ bits.
    pub flags: u32,
    /// The input; may be NULL when in_len is 0. Does not overlap out, unless RESAY_CAP_ALIAS is promised.
    pub r#in: *const u8,
    /// Bytes of input.
    pub in_len: usize,
    /// Set by the callee: bytes of input consumed. 0 before the call.
    pub in_used: usize,
    /// Room for the output: initialised memory of unspecified content. May be NULL when out_cap is 0.
    pub out: *mut u8,
    /// Bytes of room: at least the bound of in_len, where a bound is declared (out_div != 0) and is not over the host's limit
    /// for an answer; what does not fit there fails anyway.
    pub out_cap: usize,
    /// Set by the callee: bytes of output produced. 0 before the call; more than out_cap closes the
    /// connection with an error.
    pub out_len: usize,
    /// Set by the callee, with RESAY_MORE_OUT: how much room the next call wants; 0: any. 0 before the call.
    /// Beyond the host's limits the message fails.
    pub out_need: usize,
    /// Set by the callee: hold this call's output back for so many microseconds. In a stream, later output
    /// waits behind it. 0 before the call.
    pub delay_us: u64,
}

/// Who a session talks to. Valid during session_open(); copy what must stay.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct resay_peer {
    /// Bytes of this struct that the host knows.
    pub struct_size: u32,
    /// RESAY_STREAM, RESAY_DATAGRAM or RESAY_SEQPACKET.
    pub kind: u32,
    /// The connection's number: never used twice by one engine. 0 for a datagram.
    pub id: u64,
    /// Our address as a URL, such as "tcp://127.0.0.1:8888"; NULL where it is not known.
    pub local: *const c_char,
    /// The peer's address as a URL; NULL where it has none (an unbound unix socket).
    pub peer: *const c_char,
    /// The listener, as the URL that it was opened with; NULL where it is not known.
    pub listener: *const c_char,
}

/// What the host offers to one instance. Valid from create() until destroy() returns (or create() fails),
/// and only for that instance. Every function may be NULL; all take ctx first.
#[repr(C)]
#[derive(Debug)]
pub struct resay_host {
    /// Bytes of this struct that the host knows.
    pub struct_size: u32,
    /// The host's RESAY_PLUGIN_ABI_MINOR.
    pub abi_minor: u32,
    /// The host's own; pass it back.
    pub ctx: *mut c_void,
    /// The highest level that is wanted now: test it before formatting. NULL: log() decides.
    pub log_level: *const resay_volatile_u8,
    /// [*] Writes one line: UTF-8, len bytes, without a line end. Never blocks; the host may drop lines.
    pub log: Option<unsafe extern "C" fn(ctx: *mut c_void, level: c_int, utf8: *const c_char, len: usize)>,
    /// [C] Only during create(): the id of the counter of that name, made when it is new. 0: there is no
    /// room; counter_add() ignores 0 and every id that it does not know.
    pub counter: Option<unsafe extern "C" fn(ctx: *mut c_void, name: *const c_char) -> u32>,
    /// [*] Adds to a counter; wait-free.
    pub counter_add: Option<unsafe extern "C" fn(ctx: *mut c_void, id: u32, n: u64)>,
    /// [C] What later revisions add: an id is "name/revision"; NULL: the host does not have it. The result
    /// lives as long as this struct.
    pub extension: Option<unsafe extern "C" fn(ctx: *mut c_void, id: *const c_char) -> *const c_void>,
}

/// A transform: what it is, what it promises, what it does. Constant, and valid as long as its library is
/// loaded. The host passes this very pointer to create() and extension(), never one to a copy.
///
/// Only struct_size, id and one of map and process are required; all else may be zero.
#[repr(C)]
#[derive(Debug)]
pub struct resay_transform {
    /// sizeof(resay_transform) as the plugin knows it.
    pub struct_size: u32,
    /// RESAY_CAP_ bits: promises.
    pub caps: u32,
    /// RESAY_NEED_ bits: requirements.
    pub needs: u32,
    /// RESAY_SHARED, RESAY_PER_WORKER or RESAY_SERIAL.
    pub threading: u32,
    /// The name in a chain: [a-z0-9][a-z0-9._-]*; unique in its library.
    pub id: *const c_char,
    /// Of the transform, for people; NULL: not said.
    pub version: *const c_char,
    /// One line for people; NULL: none.
    pub summary: *const c_char,
    /// The table's maker's own: the host never looks at it. It is how a program that registers a table of
    /// its own finds its data again, in create().
    pub user: *mut c_void,
    /// n_options of them, or NULL. The host refuses every other key before create().
    pub options: *const resay_option,
    /// How many options there are.
    pub n_options: u32,
    /// Bytes of memory that the host allocates for each session, zeroed before session_open() (or before
    /// the first call, where session_open is NULL) and in one place until the session is closed. 0: none;
    /// then session is NULL or anything. At most 1 MiB.
    pub session_size: u32,
    /// The alignment of that memory, a power of two up to 4096; 0: as malloc() aligns.
    pub session_align: u32,
    /// The bound of the output: n bytes of input make at most n * out_mul / out_div + out_add bytes,
    /// rounded up.
    pub out_mul: u32,
    /// See out_mul. 0: no bound is declared, and process() must be ready for any out_cap.
    pub out_div: u32,
    /// See out_mul.
    pub out_add: u32,
    /// [C] Makes an instance, which never changes: to reconfigure is to create another one and to swap.
    /// RESAY_OK, or an error and its text; then the host calls nothing more. *instance is NULL before the
    /// call. NULL here: every instance is NULL, and no option is accepted.
    pub create: Option<
        unsafe extern "C" fn(
            transform: *const resay_transform,
            host: *const resay_host,
            options: *const resay_kv,
            n_options: usize,
            instance: *mut *mut c_void,
            err: *mut resay_text,
        ) -> resay_status,
    >,
    /// [C] Ends an instance: every session of it is closed, and no call is running. May be NULL.
    pub destroy: Option<unsafe extern "C" fn(instance: *mut c_void)>,
    /// [W] Before the first call of a session. RESAY_OK, or an error and its text: the connection is closed
    /// (a datagram is dropped) and session_close() is not called. May be NULL.
    pub session_open: Option<
        unsafe extern "C" fn(
            instance: *mut c_void,
            session: *mut c_void,
            peer: *const resay_peer,
            err: *mut resay_text,
        ) -> resay_status,
    >,
    /// [W] After the last call of a session, whatever it answered; once. May be NULL.
    pub session_close: Option<unsafe extern "C" fn(instance: *mut c_void, session: *mut c_void)>,
    /// [W] Transforms in place, the length stays. data may be NULL when len is 0. Answers RESAY_OK,
    /// RESAY_DROP, RESAY_CLOSE, RESAY_RESET or an error. On a raw stream it sees each read as it comes,
    /// and nothing of the end. NULL: process() is used. Where both are given, messages go
    /// through map(), and process() is called for nothing but the greeting of RESAY_CAP_GREETS.
    pub map: Option<
        unsafe extern "C" fn(
            instance: *mut c_void,
            session: *mut c_void,
            data: *mut u8,
            len: usize,
        ) -> resay_status,
    >,
    /// [W] Transforms from io->in to io->out: grows, shrinks, splits, delays. It sets io->in_used and
    /// io->out_len in every call. Never two calls at once for one session.
    /// A table with neither map nor process is invalid.
    pub process: Option<
        unsafe extern "C" fn(instance: *mut c_void, session: *mut c_void, io: *mut resay_io) -> resay_status,
    >,
    /// [C] Pure: what this transform offers beyond the table, by "name/revision"; NULL: not offered. The
    /// result lives as long as the library. May be NULL.
    pub extension:
        Option<unsafe extern "C" fn(transform: *const resay_transform, id: *const c_char) -> *const c_void>,
}

/// Extension "resay.select/1" of a transform: another table for certain options.
///
/// A transform's promises are constant, but an option may change them: uppercasing ASCII is bytewise,
/// uppercasing Unicode grows. Such a transform offers one table for each, under one id.
#[repr(C)]
#[derive(Debug)]
pub struct resay_select {
    /// sizeof(resay_select) as the plugin knows it.
    pub struct_size: u32,
    /// [C] Pure; called once before create(), with the options that create() will get. The table to use
    /// instead: it has the same id and options, is not asked again, and is the one that create() gets.
    /// NULL: keep this one, also where a value is wrong, for create() will say so.
    pub select: Option<
        unsafe extern "C" fn(
            transform: *const resay_transform,
            options: *const resay_kv,
            n_options: usize,
        ) -> *const resay_transform,
    >,
}

/// Extension "resay.session-state/1" of a transform: carry a session over to another instance, when a chain
/// is swapped under a living connection.
#[repr(C)]
#[derive(Debug)]
pub struct resay_session_state {
    /// sizeof(resay_session_state) as the plugin knows it.
    pub struct_size: u32,
    /// Names the format of the state, such as "acme.counter/2".
    pub schema: *const c_char,
    /// [W] Writes the state to io->out; io->in is empty. RESAY_OK, RESAY_MORE_OUT (the host begins anew
    /// with at least out_need bytes of room), or an error: the session stays where it is.
    pub save: Option<
        unsafe extern "C" fn(
            instance: *mut c_void,
            session: *const c_void,
            io: *mut resay_io,
        ) -> resay_status,
    >,
    /// [W] Sets an open session, of which no call was made yet, to a state that save() wrote, maybe another
    /// version's. An error, such as RESAY_E_UNSUPPORTED for an unknown schema: the old session stays.
    pub load: Option<
        unsafe extern "C" fn(
            instance: *mut c_void,
            session: *mut c_void,
            schema: *const c_char,
            state: resay_bytes,
            err: *mut resay_text,
        ) -> resay_status,
    >,
}

/// What a plugin library holds. Constant, and valid as long as the library is loaded.
#[repr(C)]
#[derive(Debug)]
pub struct resay_library {
    /// sizeof(resay_library) as the plugin knows it.
    pub struct_size: u32,
    /// RESAY_PLUGIN_ABI_MINOR of the header that it was compiled with.
    pub abi_minor: u32,
    /// RESAY_LIB_ bits.
    pub flags: u32,
    /// How many transforms there are.
    pub n: u32,
    /// n pointers to tables. The first one is what the library's path alone names.
    pub transforms: *const *const resay_transform,
    /// [C] Called once before dlclose(), when no instance lives. May be NULL.
    pub shutdown: Option<unsafe extern "C" fn()>,
}

/// [*] The type of resay_plugin_v1, the only export of a plugin: pure, callable at any time and more than
/// once. NULL refuses a host whose revision is too old for the plugin.
pub type resay_plugin_entry = unsafe extern "C" fn(host_abi_minor: u32) -> *const resay_library;

// The tables hold raw pointers, which nothing safe follows: the constants they point to may be shared.
/// cbindgen:ignore
const _: () = {
    // SAFETY: plain constant data; whoever follows its pointers is in an unsafe block and answers for it.
    unsafe impl Sync for resay_option {}
    // SAFETY: as above.
    unsafe impl Send for resay_option {}
    // SAFETY: as above.
    unsafe impl Sync for resay_transform {}
    // SAFETY: as above.
    unsafe impl Send for resay_transform {}
    // SAFETY: as above.
    unsafe impl Sync for resay_select {}
    // SAFETY: as above.
    unsafe impl Send for resay_select {}
    // SAFETY: as above.
    unsafe impl Sync for resay_session_state {}
    // SAFETY: as above.
    unsafe impl Send for resay_session_state {}
    // SAFETY: as above.
    unsafe impl Sync for resay_library {}
    // SAFETY: as above.
    unsafe impl Send for resay_library {}
};
