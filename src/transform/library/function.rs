//! A function of the host's as a transform: called straight, without a table between.
//!
//! It may leave a message as it is, which costs no copy, or answer something of any length; a table's `map` cannot do
//! the one and its `process` not the other.

use std::alloc::Layout;
use std::collections::BTreeSet;
use std::ffi::{CStr, CString, c_void};
use std::fmt;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use resay_plugin::abi;

use super::conversation::Conversation;
use super::output::{CallContext, Output, Verdict, Written};
use super::status::{Fault, Status};
use crate::later::Ticket;
use crate::lock::lock;

/// A message as a function sees it; it dereferences to its bytes.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// The bytes; on a raw stream what one read brought, or, with `RESAY_IO_EOF`, nothing at the end of the stream.
    pub data: &'a [u8],
    /// The flags of `resay_io`.
    pub flags: u32,
    /// Whose message it is.
    pub conversation: &'a Conversation<'a>,
}

impl Deref for Message<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.data
    }
}

/// A transform of the host's own that knows connections: see `Transform::from_function`.
///
/// A session begins when a connection is open, and ends when that is over; each datagram has one of its own. One session
/// is used by one thread at a time, but not always by the same one, and different sessions by several threads at once.
pub trait Function: Send + Sync + 'static {
    /// What it remembers of one connection.
    type Session: Send + 'static;

    /// A connection is open, or a datagram has come. What is written is sent to the peer of a connection before it has
    /// said anything; to that of a datagram nothing is, nor where a chain is replaced while the connection is open.
    ///
    /// An error means that there is no session: [`Verdict::Close`] closes the connection when what was written is sent,
    /// [`Verdict::Drop`] closes it without, [`Verdict::Reset`] resets it, and [`Verdict::Fail`] closes it as a failure. A
    /// datagram is dropped.
    fn begin(&self, conversation: &Conversation<'_>, out: &mut Output<'_>) -> Result<Self::Session, Verdict>;

    /// A message. On a raw stream also its end, when the peer sends no more: no bytes, with `RESAY_IO_EOF`.
    fn call(&self, session: &mut Self::Session, message: &Message<'_>, out: &mut Output<'_>) -> Verdict;

    /// The connection or the datagram is over.
    fn end(&self, session: Self::Session) {
        drop(session);
    }
}

/// What a function asks of the engine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// Whole messages: it cannot be used on raw streams.
    pub messages: bool,
    /// It may block: it is called on threads for such transforms, one message of a connection at a time.
    pub offload: bool,
}

/// What the engine makes of both kinds of functions. Sessions stand in memory of the engine's.
trait Erased: Send + Sync {
    /// Of a session; `None`: it has none, and the calls get no memory.
    fn layout(&self) -> Option<Layout>;

    /// # Safety
    /// `memory` is writable and has the layout, and no session stands in it.
    unsafe fn begin(
        &self,
        memory: *mut c_void,
        conversation: &Conversation<'_>,
        out: &mut Output<'_>,
    ) -> Result<(), Verdict>;

    /// # Safety
    /// A session stands in `memory`, where there is a layout, and nobody else uses it meanwhile.
    unsafe fn call(&self, memory: *mut c_void, message: &Message<'_>, out: &mut Output<'_>) -> Verdict;

    /// # Safety
    /// As for `call`; the session is gone then.
    unsafe fn end(&self, memory: *mut c_void);
}

struct Stateless<F>(F);

impl<F: Fn(&Message<'_>, &mut Output<'_>) -> Verdict + Send + Sync + 'static> Erased for Stateless<F> {
    fn layout(&self) -> Option<Layout> {
        None
    }

    /// # Safety
    /// See [`Erased`].
    unsafe fn begin(&self, _: *mut c_void, _: &Conversation<'_>, _: &mut Output<'_>) -> Result<(), Verdict> {
        Ok(())
    }

    /// # Safety
    /// See [`Erased`].
    #[inline]
    unsafe fn call(&self, _: *mut c_void, message: &Message<'_>, out: &mut Output<'_>) -> Verdict {
        (self.0)(message, out)
    }

    /// # Safety
    /// See [`Erased`].
    unsafe fn end(&self, _: *mut c_void) {}
}

struct Stateful<T>(T);

impl<T: Function> Erased for Stateful<T> {
    fn layout(&self) -> Option<Layout> {
        Some(Layout::new::<T::Session>())
    }

    /// # Safety
    /// See [`Erased`].
    unsafe fn begin(
        &self,
        memory: *mut c_void,
        conversation: &Conversation<'_>,
        out: &mut Output<'_>,
    ) -> Result<(), Verdict> {
        let session = self.0.begin(conversation, out)?;
        // SAFETY: the memory has the layout of a session, by the caller's promise.
        unsafe { memory.cast::<T::Session>().write(session) };
        Ok(())
    }

    /// # Safety
    /// See [`Erased`].
    #[inline]
    unsafe fn call(&self, memory: *mut c_void, message: &Message<'_>, out: &mut Output<'_>) -> Verdict {
        // SAFETY: a session stands there and is used here alone, by the caller's promise.
        self.0.call(unsafe { &mut *memory.cast::<T::Session>() }, message, out)
    }

    /// # Safety
    /// See [`Erased`].
    unsafe fn end(&self, memory: *mut c_void) {
        // SAFETY: a session stands there, and is not used again, by the caller's promise.
        self.0.end(unsafe { memory.cast::<T::Session>().read() });
    }
}

/// The function, and what it is called. Clones are cheap; the last one to go takes the function with it.
#[derive(Clone)]
pub(crate) struct HostFunction {
    name: &'static CStr,
    id: &'static str,
    needs: Needs,
    erased: Arc<dyn Erased>,
}

/// What one call did.
pub(crate) struct Called {
    pub(crate) status: Status,
    /// The output holds the answer; if not, the message itself is it.
    pub(crate) is_replaced: bool,
    /// For how long the answer is to be held back.
    pub(crate) delay_us: u64,
    /// With `Later`.
    pub(crate) ticket: Option<Ticket>,
}

impl Called {
    pub(super) fn failed(fault: Fault) -> Called {
        Called { status: Status::Failed(fault), is_replaced: false, delay_us: 0, ticket: None }
    }
}

impl HostFunction {
    pub(super) fn stateless(
        id: &str,
        call: impl Fn(&Message<'_>, &mut Output<'_>) -> Verdict + Send + Sync + 'static,
    ) -> HostFunction {
        HostFunction::new(id, Arc::new(Stateless(call)))
    }

    pub(super) fn stateful(id: &str, function: impl Function) -> HostFunction {
        HostFunction::new(id, Arc::new(Stateful(function)))
    }

    fn new(id: &str, erased: Arc<dyn Erased>) -> HostFunction {
        let (name, id) = lasting(id);
        HostFunction { name, id, needs: Needs::default(), erased }
    }

    pub(super) fn set_needs(&mut self, needs: Needs) {
        self.needs = needs;
    }

    pub(super) fn name(&self) -> &'static CStr {
        self.name
    }

    pub(super) fn id(&self) -> &'static str {
        self.id
    }

    pub(super) fn needs(&self) -> Needs {
        self.needs
    }

    /// Of a session; `None`: it has none.
    pub(super) fn layout(&self) -> Option<Layout> {
        self.erased.layout()
    }

    /// Begins a session. The status `Ok`: there is one. What is written is its greeting.
    ///
    /// # Safety
    /// `memory` is writable and has the layout, and no session stands in it.
    pub(super) unsafe fn begin(
        &self,
        memory: *mut c_void,
        conversation: &Conversation<'_>,
        out: &mut Vec<u8>,
    ) -> (Status, u64) {
        let mut output = Output::new(out, conversation.local.answer_bytes_max, None);
        // SAFETY: the caller's.
        let begin = || unsafe { self.erased.begin(memory, conversation, &mut output) };
        let begun = catch_unwind(AssertUnwindSafe(begin)).unwrap_or(Err(Verdict::Fail(abi::RESAY_E_PANIC)));
        let Written { fault, delay_us, .. } = output.finish();
        let status = match begun {
            Ok(()) => Status::Ok,
            Err(Verdict::Close) => Status::Close,
            Err(Verdict::Drop) => Status::Drop,
            Err(Verdict::Reset) => Status::Reset,
            Err(Verdict::Fail(code)) => Status::Failed(Fault::Status(code)),
            Err(Verdict::Pass | Verdict::Replace | Verdict::Later) => {
                Status::Failed(Fault::Broken("begin gave neither a session nor a reason"))
            }
        };
        match (status, fault) {
            (Status::Ok, Some(fault)) => {
                // SAFETY: the session that has just begun.
                unsafe { self.end(memory) };
                (Status::Failed(fault), 0)
            }
            (Status::Close, Some(fault)) => (Status::Failed(fault), 0),
            (status, _) => (status, delay_us),
        }
    }

    /// Ends a session. A panic ends nothing else.
    ///
    /// # Safety
    /// A session stands in `memory`, and is not used again.
    pub(super) unsafe fn end(&self, memory: *mut c_void) {
        // SAFETY: the caller's.
        let _ = catch_unwind(AssertUnwindSafe(|| unsafe { self.erased.end(memory) }));
    }

    /// Calls it.
    ///
    /// # Safety
    /// A session stands in `memory`, where there is a layout, and nobody else uses it meanwhile.
    #[inline]
    pub(super) unsafe fn call(
        &self,
        memory: *mut c_void,
        data: &[u8],
        flags: u32,
        out: &mut Vec<u8>,
        out_max: usize,
        context: &CallContext<'_>,
    ) -> Called {
        let message = Message { data, flags, conversation: &context.conversation };
        let mut output = Output::new(out, out_max, context.issuer);
        // SAFETY: the caller's.
        let call = || unsafe { self.erased.call(memory, &message, &mut output) };
        let verdict = catch_unwind(AssertUnwindSafe(call)).unwrap_or(Verdict::Fail(abi::RESAY_E_PANIC));
        let Written { fault, delay_us, ticket } = output.finish();
        if let Some(fault) = fault {
            return Called::failed(fault);
        }
        let (status, is_replaced) = match verdict {
            Verdict::Pass => (Status::Ok, false),
            Verdict::Replace => (Status::Ok, true),
            Verdict::Drop => (Status::Drop, false),
            Verdict::Close => (Status::Close, true),
            Verdict::Reset => (Status::Reset, false),
            Verdict::Fail(code) => (Status::Failed(Fault::Status(code)), false),
            Verdict::Later if ticket.is_some() => {
                return Called { status: Status::Later, is_replaced: false, delay_us, ticket };
            }
            Verdict::Later => (
                Status::Failed(Fault::Broken("it returned RESAY_LATER without a token from resay_later")),
                false,
            ),
        };
        Called { status, is_replaced, delay_us, ticket: None }
    }
}

impl fmt::Debug for HostFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostFunction({})", self.id)
    }
}

/// A name that stays for ever, once: names of transforms are told to whoever asks which one runs, even after a crash.
fn lasting(name: &str) -> (&'static CStr, &'static str) {
    static NAMES: Mutex<BTreeSet<&'static CStr>> = Mutex::new(BTreeSet::new());
    // A name has no NUL: whoever makes a function has checked that.
    let wanted = CString::new(name).unwrap_or_default();
    let mut names = lock(&NAMES);
    let lasting = match names.get(wanted.as_c_str()) {
        Some(known) => *known,
        None => {
            let name: &'static CStr = Box::leak(wanted.into_boxed_c_str());
            names.insert(name);
            name
        }
    };
    (lasting, lasting.to_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::{Peer, SocketKind};
    use crate::transform::library::conversation::LocalEnd;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn with_conversation<R>(run: impl FnOnce(Conversation<'_>) -> R) -> R {
        let (url, address) = (String::new(), Peer::Unnamed);
        let local = LocalEnd { kind: SocketKind::Tcp, url, listener: 0, address, answer_bytes_max: 16 };
        run(Conversation { local: &local, peer: &Peer::Unnamed, proxied: None, id: 1 })
    }

    fn run(
        call: impl Fn(&Message<'_>, &mut Output<'_>) -> Verdict + Send + Sync + 'static,
    ) -> (Status, bool, Vec<u8>) {
        let mut out = b"from before".to_vec();
        let function = HostFunction::stateless("x", call);
        let called = with_conversation(|conversation| {
            let context = CallContext { conversation, issuer: None };
            // SAFETY: it has no session.
            unsafe { function.call(std::ptr::null_mut(), b"message", 0, &mut out, 16, &context) }
        });
        (called.status, called.is_replaced, out)
    }

    #[test]
    fn what_is_written_reserved_and_committed_is_the_answer() {
        let (status, replaced, out) = run(|message, out| {
            assert!(out.is_empty());
            assert!(out.write(message));
            out.reserve(4).unwrap()[..2].copy_from_slice(b"ab");
            assert!(out.commit(2));
            assert!(out.reserve(3).is_some());
            assert!(out.write(b"c"));
            assert_eq!(out.len(), 10);
            Verdict::Replace
        });
        assert_eq!((status, replaced, out), (Status::Ok, true, b"messageabc".to_vec()));
    }

    #[test]
    fn what_breaks_the_rules_fails_whatever_is_said_then() {
        let (status, ..) = run(|_, out| {
            assert!(out.reserve(3).is_some());
            assert!(!out.commit(4));
            Verdict::Pass
        });
        assert!(matches!(status, Status::Failed(Fault::Broken(_))));
        let (status, ..) = run(|_, out| {
            assert!(!out.write(&[0; 17]));
            Verdict::Replace
        });
        assert_eq!(status, Status::Failed(Fault::TooLong));
        let (status, ..) = run(|_, out| {
            assert!(out.reserve(usize::MAX).is_none());
            Verdict::Replace
        });
        assert_eq!(status, Status::Failed(Fault::TooLong));
        let (status, ..) = run(|_, _| panic!("in a function of the host's"));
        assert_eq!(status, Status::Failed(Fault::Status(abi::RESAY_E_PANIC)));
        let (status, ..) = run(|_, out| {
            assert_eq!(out.later(), None, "nobody is there to answer later");
            Verdict::Later
        });
        assert!(matches!(status, Status::Failed(Fault::Broken(_))));
    }

    #[test]
    fn each_session_that_begins_ends_once() {
        static ENDED: AtomicUsize = AtomicUsize::new(0);
        struct Refuses(Option<Verdict>);
        impl Function for Refuses {
            type Session = String;
            fn begin(&self, _: &Conversation<'_>, out: &mut Output<'_>) -> Result<String, Verdict> {
                if self.0.is_none() {
                    out.write(&[b'x'; 17]);
                }
                self.0.map_or(Ok(String::from("a session")), Err)
            }
            fn call(&self, _: &mut String, _: &Message<'_>, _: &mut Output<'_>) -> Verdict {
                Verdict::Pass
            }
            fn end(&self, session: String) {
                assert_eq!(session, "a session");
                ENDED.fetch_add(1, Ordering::Relaxed);
            }
        }
        for (refusal, expected, ended) in [
            (Some(Verdict::Close), Status::Close, 0),
            (Some(Verdict::Drop), Status::Drop, 0),
            (Some(Verdict::Fail(-7)), Status::Failed(Fault::Status(-7)), 0),
            // Its greeting is too long.
            (None, Status::Failed(Fault::TooLong), 1),
        ] {
            let function = HostFunction::stateful("x", Refuses(refusal));
            assert_eq!(function.layout(), Some(Layout::new::<String>()));
            let mut memory = std::mem::MaybeUninit::<String>::uninit();
            let (status, _) = with_conversation(|conversation| {
                // SAFETY: memory for a session.
                unsafe { function.begin(memory.as_mut_ptr().cast(), &conversation, &mut Vec::new()) }
            });
            assert_eq!((status, ENDED.load(Ordering::Relaxed)), (expected, ended));
        }
    }

    #[test]
    fn names_are_kept_once() {
        assert_eq!(lasting("a-name").1.as_ptr(), lasting(&String::from("a-name")).1.as_ptr());
    }
}
