//! Functions of the program as transforms: what they are called with, and answers that come later.

use std::ffi::{CString, c_int, c_void};
use std::mem::size_of;
use std::ptr;

use resay_plugin::abi::{self, resay_peer};

use super::address::resay_address;
use super::callback::{
    Owned, RESAY_LATER, RESAY_PASS, RESAY_REPLACE, conversation_of, not_running, output_of, resay_out,
    resay_release,
};
use super::engine::{Waits, resay_engine, with_engine};
use super::error::{Failure, RESAY_E_ARG, RESAY_E_STATE, failed};
use super::listener::resay_id;
use super::memory::bytes_of;
use crate::{Conversation, Function, Message, Needs, Output, Verdict};

/// A message, valid during the call.
#[repr(C)]
#[derive(Debug)]
pub struct resay_message {
    /// Bytes of this struct that the library knows.
    pub struct_size: u32,
    /// RESAY_IO_ bits, as in resay_io.
    pub flags: u32,
    /// The message, without its frame; on a raw stream the bytes of one read. Read-only. May be NULL if len is 0.
    pub data: *const u8,
    /// Its length.
    pub len: usize,
    /// The listener; 0 in a dry run.
    pub listener: resay_id,
    /// The number of the connection; an engine never reuses it. 0 for a datagram.
    pub connection: u64,
    /// RESAY_STREAM, RESAY_DATAGRAM or RESAY_SEQPACKET.
    pub kind: u32,
    /// 0.
    pub zero: u32,
}

/// A transform in the program. Set struct_size and call, and what else you need; the rest is 0. The struct is copied.
///
/// The engine calls the functions on the thread that serves the connection: after resay_start on the engine's threads,
/// otherwise on threads in resay_run. Several threads may call them at once, but of one session only one at a time. They
/// must not throw or longjmp, and must not block, unless needs has RESAY_NEED_OFFLOAD. If one calls pthread_exit, its thread
/// stops for ever: what it serves is lost until the process ends, its engine answers RESAY_E_BUG, and resay_engine_free
/// does not wait for it.
///
/// Inside these and every other callback, do not call functions of the same engine, or functions of any engine or client
/// that wait: they return RESAY_E_STATE. Allowed are resay_answer, the resay_out_ functions, functions of other engines that
/// do not wait, and functions that take no engine.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct resay_function {
    /// sizeof(resay_function).
    pub struct_size: u32,
    /// RESAY_NEED_MESSAGES: whole messages, so it cannot be used on raw streams. RESAY_NEED_OFFLOAD: it may block; it runs
    /// on extra threads, one message of a connection at a time.
    pub needs: u32,
    /// Passed to every function.
    pub user: *mut c_void,
    /// NULL, or: a session begins. A connection is one, and each datagram. *session is NULL; what it is set to is passed to
    /// call and end. peer is valid during the call. What is written to out is sent to the peer of a connection at once, in a
    /// frame of its own; it is discarded for a datagram, and if the chain was replaced while the connection was open.
    ///
    /// 0: the session has begun, and ends with end. Anything else: there is no session, and end is not called. RESAY_CLOSE
    /// closes the connection after what was written, RESAY_DROP without, RESAY_RESET resets it, an error such as
    /// RESAY_E_DATA closes it as a failure. The datagram is dropped.
    pub begin: Option<
        unsafe extern "C" fn(
            user: *mut c_void,
            session: *mut *mut c_void,
            peer: *const resay_peer,
            out: *mut resay_out,
        ) -> c_int,
    >,
    /// A message. session is NULL if begin and end are NULL. On a raw stream, a function with begin or end is also called when
    /// the peer sends no more, with len 0 and RESAY_IO_EOF.
    ///
    /// It returns RESAY_PASS, RESAY_REPLACE, RESAY_LATER, or a status of a plugin: RESAY_DROP, RESAY_CLOSE (after the bytes
    /// written), RESAY_RESET, or an error such as RESAY_E_DATA. Any other value, or a violation of the rules of
    /// resay_out_commit, is a failure: the connection is closed or the datagram is dropped, and the failure is counted.
    pub call: Option<
        unsafe extern "C" fn(
            user: *mut c_void,
            session: *mut *mut c_void,
            message: *const resay_message,
            out: *mut resay_out,
        ) -> c_int,
    >,
    /// NULL, or: the session is over. Called once for each begin that returned 0.
    pub end: Option<unsafe extern "C" fn(user: *mut c_void, session: *mut c_void)>,
    /// NULL, or: called once, when no chain uses the function any more.
    pub release: resay_release,
}

/// A function of the host's, and what it is called with.
pub(super) struct HostFunction {
    owned: Owned,
    functions: Functions,
}

type Begin = unsafe extern "C" fn(*mut c_void, *mut *mut c_void, *const resay_peer, *mut resay_out) -> c_int;
type Call =
    unsafe extern "C" fn(*mut c_void, *mut *mut c_void, *const resay_message, *mut resay_out) -> c_int;
type End = unsafe extern "C" fn(*mut c_void, *mut c_void);

/// The functions of a `resay_function`.
#[derive(Clone, Copy)]
pub(super) struct Functions {
    begin: Option<Begin>,
    call: Call,
    end: Option<End>,
}

impl Functions {
    pub(super) fn of(function: &resay_function) -> Result<Functions, Failure> {
        let call = function.call.ok_or_else(|| Failure::null("function->call"))?;
        Ok(Functions { begin: function.begin, call, end: function.end })
    }

    pub(super) fn has_sessions(&self) -> bool {
        self.begin.is_some() || self.end.is_some()
    }
}

/// What the bits of `needs` ask for.
pub(super) fn needs_of(bits: u32) -> Result<Needs, Failure> {
    if bits & !(abi::RESAY_NEED_MESSAGES | abi::RESAY_NEED_OFFLOAD) != 0 {
        return Err(Failure::new(RESAY_E_ARG, format!("function->needs is {bits:#x}: unknown bits")));
    }
    let has = |bit| bits & bit != 0;
    Ok(Needs { messages: has(abi::RESAY_NEED_MESSAGES), offload: has(abi::RESAY_NEED_OFFLOAD) })
}

/// A session of the host's: what it has set the word to.
pub(super) struct Session(*mut c_void);

// SAFETY: the header says that a session is used on any thread, by one at a time; the word is only passed on.
unsafe impl Send for Session {}

impl HostFunction {
    pub(super) fn new(owned: Owned, functions: Functions) -> HostFunction {
        HostFunction { owned, functions }
    }

    #[inline]
    pub(super) fn answer(
        &self,
        session: *mut *mut c_void,
        message: &Message<'_>,
        out: &mut Output<'_>,
    ) -> Verdict {
        let conversation = message.conversation;
        // SAFETY: what a reference leads to may be read. Volatile: address and length were written a moment ago as two words, and
        // where they are read as one the processor waits until both have left its store buffer, an eighth of the price of a call.
        let data = unsafe { ptr::read_volatile(&raw const message.data) };
        let given = resay_message {
            struct_size: size_of::<resay_message>() as u32,
            flags: message.flags,
            data: data.as_ptr(),
            len: data.len(),
            listener: conversation.listener(),
            connection: conversation.connection(),
            kind: conversation.kind().number(),
            zero: 0,
        };
        let code = self.owned.run(conversation, out, |user, out| {
            // SAFETY: the host's function, with its own user and session, and a message that lives during the call.
            unsafe { (self.functions.call)(user, session, &raw const given, out) }
        });
        verdict_of(code)
    }
}

impl Function for HostFunction {
    type Session = Session;

    fn begin(&self, conversation: &Conversation<'_>, out: &mut Output<'_>) -> Result<Session, Verdict> {
        let mut session = Session(ptr::null_mut());
        let Some(begin) = self.functions.begin else { return Ok(session) };
        // There is no NUL in an address as it is written.
        let text = |text: &str| CString::new(text).unwrap_or_default();
        // A dry run has no address.
        let url = Some(conversation.url()).filter(|url| !url.is_empty()).map(text);
        let url = url.as_ref().map_or(ptr::null(), |url| url.as_ptr());
        let peer = conversation.peer().url(conversation.kind()).as_deref().map(text);
        let via = conversation.via().and_then(|via| via.url(conversation.kind())).as_deref().map(text);
        let facts = conversation.facts_text();
        let described = resay_peer {
            struct_size: size_of::<resay_peer>() as u32,
            kind: conversation.kind().number(),
            id: conversation.connection(),
            local: url,
            peer: peer.as_ref().map_or(ptr::null(), |peer| peer.as_ptr()),
            listener: url,
            via: via.as_ref().map_or(ptr::null(), |via| via.as_ptr()),
            facts: facts.as_ref().map_or(ptr::null(), |facts| facts.as_ptr().cast()),
        };
        let code = self.owned.run(conversation, out, |user, out| {
            // SAFETY: the host's function, with its own user, and pointers that live during the call.
            unsafe { begin(user, &raw mut session.0, &raw const described, out) }
        });
        match code {
            RESAY_PASS => Ok(session),
            code => Err(verdict_of(code)),
        }
    }

    fn call(&self, session: &mut Session, message: &Message<'_>, out: &mut Output<'_>) -> Verdict {
        self.answer(&raw mut session.0, message, out)
    }

    fn end(&self, session: Session) {
        if let Some(end) = self.functions.end {
            self.owned.run_without_output(|user| {
                // SAFETY: the host's function, with its own user and a session that has begun, once.
                unsafe { end(user, session.0) }
            });
        }
    }
}

fn verdict_of(code: c_int) -> Verdict {
    match code {
        RESAY_PASS => Verdict::Pass,
        RESAY_REPLACE => Verdict::Replace,
        RESAY_LATER => Verdict::Later,
        abi::RESAY_DROP => Verdict::Drop,
        abi::RESAY_CLOSE => Verdict::Close,
        abi::RESAY_RESET => Verdict::Reset,
        code => Verdict::Fail(code),
    }
}

/// [in a callback] Holds the answer back for at least this long, from now. Answers of a stream keep their order, so those
/// behind it wait too.
/// Returns 0; RESAY_E_STATE: out does not belong to the callback that is running on this thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_out_delay(out: *mut resay_out, microseconds: u64) -> c_int {
    // SAFETY: used here alone.
    let Some(output) = (unsafe { output_of(out) }) else { return not_running() };
    output.delay(microseconds);
    0
}

/// [in a callback] Writes the address of the peer, and the local address: the one that the listener is bound to, which may be
/// a wildcard. Both may be NULL.
/// Returns 0; RESAY_E_STATE: out does not belong to the callback that is running on this thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_out_peer(
    out: *mut resay_out,
    peer: *mut resay_address,
    local: *mut resay_address,
) -> c_int {
    // SAFETY: used here alone.
    let Some(conversation) = (unsafe { conversation_of(out) }) else { return not_running() };
    // SAFETY: NULL or the caller's own.
    unsafe {
        if let Some(peer) = peer.as_mut() {
            *peer = resay_address::of(Some(conversation.peer()));
        }
        if let Some(local) = local.as_mut() {
            *local = resay_address::of(Some(conversation.local()));
        }
    }
    0
}

/// [in a callback] Returns a token with which resay_answer answers this message later; then return RESAY_LATER. If the
/// function returns anything else, the token is void. A second call returns the same token. A token is never reused, and
/// never that of another engine.
///
/// 0: not possible here: in begin, in a dry run, in a chain with a transform that may block, on a raw stream in a chain with a
/// plugin that makes output of its own, or while 1,024 datagrams of the socket wait; or out does not belong to the
/// callback that is running on this thread. A connection reads no more while 1,024 such messages wait, or what they take of
/// memory reaches high_water, until half of that is answered.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_later(out: *mut resay_out) -> u64 {
    // SAFETY: used here alone.
    let Some(output) = (unsafe { output_of(out) }) else {
        not_running();
        return 0;
    };
    output.later().unwrap_or_else(|| {
        failed(RESAY_E_STATE, c"no answer can come later here: see resay_later");
        0
    })
}

/// [*] Answers a message for which a function returned RESAY_LATER, once, on any thread, also inside a callback. verdict is
/// RESAY_REPLACE: data is the answer; RESAY_CLOSE: the same, then the connection is closed; RESAY_DROP, RESAY_RESET, or an
/// error such as RESAY_E_DATA, as from the function; data is not used then. The answer passes through the rest of the chain.
/// Answers of a connection leave in the order of its messages, so this one may wait for earlier ones.
/// Returns 0: the answer is handed over; RESAY_E_HANDLE: nothing waits for this answer, or not any more: it was answered, its
/// connection has closed, or the engine has ended; RESAY_E_FULL: the answer is longer than 16 times max_message, or there is no
/// memory for it, or more than high_water bytes of answers of this connection wait for earlier ones, and the token remains
/// valid; RESAY_E_ARG: another verdict, or data is NULL and len is not 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_answer(
    engine: *mut resay_engine,
    token: u64,
    verdict: c_int,
    data: *const c_void,
    len: usize,
) -> c_int {
    with_engine(engine, Waits::Never, ptr::null_mut(), |engine| {
        let verdict = match verdict_of(verdict) {
            Verdict::Fail(code) if code >= 0 => {
                return Err(Failure::new(RESAY_E_ARG, format!("verdict is {code}")));
            }
            Verdict::Pass | Verdict::Later => {
                let message = "verdict: an answer that comes later is RESAY_REPLACE with the bytes";
                return Err(Failure::new(RESAY_E_ARG, message));
            }
            verdict => verdict,
        };
        let data = match verdict {
            // SAFETY: the caller says that there are so many bytes.
            Verdict::Replace | Verdict::Close => unsafe { bytes_of(data, len, "data")? },
            _ => &[],
        };
        engine.engine.answer(token, verdict, data)?;
        Ok(0)
    })
}
