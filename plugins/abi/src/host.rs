//! The host as a transform sees it: log and counters; and the peer of a session.

use crate::abi;
use crate::error::Clipped;
use crate::growing;
use crate::options::Options;
use core::ffi::{CStr, c_char, c_void};
use core::fmt::{self, Write};
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU8, Ordering};

/// The longest line that [`Host::log`] writes; longer lines are truncated.
const LOG_BYTES_MAX: usize = 1024;

/// The level of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i32)]
pub enum Level {
    /// An unexpected failure.
    Error = abi::RESAY_LOG_ERROR,
    /// A condition that needs attention.
    Warn = abi::RESAY_LOG_WARN,
    /// Information for operators.
    Info = abi::RESAY_LOG_INFO,
    /// Information for developers.
    Debug = abi::RESAY_LOG_DEBUG,
    /// Every step.
    Trace = abi::RESAY_LOG_TRACE,
}

/// What a host is doing on a thread. See [`Host::thread`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thread {
    /// It creates or destroys an instance.
    Control,
    /// It opens, runs or closes a session.
    Worker,
    /// It is not in a call of this transform: the thread is the plugin's own, or someone else's.
    Other,
}

/// A counter of the host, which any instance may have. See [`Setup::counter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter(u32);

/// The host, borrowed for a call. All methods work with every host: a function that the host lacks does nothing.
#[derive(Clone, Copy)]
pub struct Host<'a> {
    table: &'a HostTable,
}

impl<'a> Host<'a> {
    pub(crate) fn new(table: &'a HostTable) -> Self {
        Self { table }
    }

    /// Whether this level is enabled now.
    #[inline]
    pub fn wants(&self, level: Level) -> bool {
        self.table.log.is_some() && self.table.level().is_none_or(|highest| level as i32 <= highest.into())
    }

    /// Logs one line, `host.log(Level::Warn, format_args!("odd: {value}"))`, without allocation. If the level is not
    /// enabled, the line is not formatted.
    pub fn log(&self, level: Level, line: fmt::Arguments<'_>) {
        if !self.wants(level) {
            return;
        }
        let Some(log) = self.table.log else { return };
        let mut memory = [0; LOG_BYTES_MAX];
        let mut text = Clipped::new(&mut memory);
        let _ = text.write_fmt(line); // Clipped never fails; a Display that does has said what it could.
        let text = text.as_bytes();
        // SAFETY: the host lives as long as the instance, 'a is shorter; the text is borrowed for the call.
        unsafe { log(self.table.ctx, level as i32, text.as_ptr().cast::<c_char>(), text.len()) }
    }

    /// What the host is doing on the calling thread; `None`: the host cannot tell. For assertions, and for code that runs on
    /// threads of several kinds.
    pub fn thread(&self) -> Option<Thread> {
        let current = self.table.thread?;
        // SAFETY: as in log().
        Some(match unsafe { current(self.table.ctx) } {
            abi::RESAY_THREAD_CONTROL => Thread::Control,
            abi::RESAY_THREAD_WORKER => Thread::Worker,
            _ => Thread::Other,
        })
    }

    /// Adds to a counter. Wait-free.
    #[inline]
    pub fn add(&self, counter: Counter, n: u64) {
        if let Some(counter_add) = self.table.counter_add {
            // SAFETY: as in log(); the host ignores ids that it does not know.
            unsafe { counter_add(self.table.ctx, counter.0, n) }
        }
    }
}

impl fmt::Debug for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("abi_minor", &self.table.abi_minor).finish_non_exhaustive()
    }
}

/// The arguments of `create`: the options, and a [`Host`] that can also create counters.
#[derive(Debug)]
pub struct Setup<'a> {
    /// The options of the instance.
    pub options: Options<'a>,
    host: Host<'a>,
}

impl<'a> Setup<'a> {
    pub(crate) fn new(host: Host<'a>, options: Options<'a>) -> Self {
        Self { options, host }
    }

    /// The counter with this name. Keep it in the instance, and add to it with [`Host::add`]. With a host that has no
    /// counters, adding does nothing.
    pub fn counter(&self, name: &CStr) -> Counter {
        let table = self.host.table;
        // SAFETY: this is create(), when the host makes counters; the name is borrowed for the call.
        Counter(table.counter.map_or(0, |counter| unsafe { counter(table.ctx, name.as_ptr()) }))
    }

    /// The host, for warnings that are no reason to fail.
    pub fn host(&self) -> Host<'a> {
        self.host
    }
}

/// Our copy of the host's functions, brought to our size once, so that no call has to compare sizes.
pub(crate) struct HostTable {
    raw: abi::resay_host,
    /// Of the extension "resay.thread-check/1".
    thread: Option<unsafe extern "C" fn(ctx: *mut c_void) -> u32>,
}

impl HostTable {
    /// # Safety
    /// `host` is NULL or what the ABI promises, and outlives the result. This is create().
    pub(crate) unsafe fn new(host: *const abi::resay_host) -> Self {
        if host.is_null() {
            // SAFETY: all zero is a resay_host.
            return Self { raw: unsafe { core::mem::zeroed() }, thread: None };
        }
        // SAFETY: a struct of struct_size bytes, by the contract.
        let raw = unsafe { growing::read(host) };
        let thread = raw.extension.and_then(|extension| {
            // SAFETY: the host's own ctx and a NUL-ended id; an extension of that name is a resay_thread_check.
            unsafe {
                let found = extension(raw.ctx, abi::RESAY_EXT_THREAD_CHECK.as_ptr());
                let check = found.cast::<abi::resay_thread_check>();
                if check.is_null() { None } else { growing::read(check).current }
            }
        });
        Self { raw, thread }
    }

    /// The same functions of the same host.
    pub(crate) fn copy(&self) -> Self {
        // SAFETY: numbers and pointers, which the host keeps valid for the instance.
        Self { raw: unsafe { core::ptr::read(&raw const self.raw) }, thread: self.thread }
    }

    fn level(&self) -> Option<u8> {
        let level = self.raw.log_level.cast_mut();
        // SAFETY: NULL, or a byte that lives as long as the host does and that others change atomically.
        (!level.is_null()).then(|| unsafe { AtomicU8::from_ptr(level) }.load(Ordering::Relaxed))
    }
}

impl core::ops::Deref for HostTable {
    type Target = abi::resay_host;

    fn deref(&self) -> &abi::resay_host {
        &self.raw
    }
}

// SAFETY: log and counter_add may be called on any thread, counter only through Setup, on the thread of
// create(); ctx is the host's and only passed back.
unsafe impl Send for HostTable {}
// SAFETY: as above.
unsafe impl Sync for HostTable {}

/// The kind of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerKind {
    /// A TCP or unix stream connection.
    Stream,
    /// The sender of one datagram.
    Datagram,
    /// A unix seqpacket connection.
    Seqpacket,
    /// A kind that this crate does not know yet.
    Other,
}

/// The peer of a session.
pub struct Peer<'a> {
    raw: abi::resay_peer,
    borrowed: PhantomData<&'a abi::resay_peer>,
}

impl<'a> Peer<'a> {
    /// # Safety
    /// `peer` is NULL or what the ABI promises, for 'a.
    pub(crate) unsafe fn new(peer: *const abi::resay_peer) -> Self {
        // SAFETY: all zero is a resay_peer; else a struct of struct_size bytes, by the contract.
        let raw = unsafe { if peer.is_null() { core::mem::zeroed() } else { growing::read(peer) } };
        Self { raw, borrowed: PhantomData }
    }

    /// The kind of the session.
    pub fn kind(&self) -> PeerKind {
        match self.raw.kind {
            abi::RESAY_STREAM => PeerKind::Stream,
            abi::RESAY_DATAGRAM => PeerKind::Datagram,
            abi::RESAY_SEQPACKET => PeerKind::Seqpacket,
            _ => PeerKind::Other,
        }
    }

    /// The number of the connection, which an engine never reuses; 0 for a datagram.
    pub fn id(&self) -> u64 {
        self.raw.id
    }

    /// The local address as a URL; empty if it is unknown.
    pub fn local(&self) -> &'a str {
        // SAFETY: a field of a peer that is borrowed for 'a.
        unsafe { text(self.raw.local) }
    }

    /// The peer's address as a URL; empty if it has none.
    pub fn address(&self) -> &'a str {
        // SAFETY: as above.
        unsafe { text(self.raw.peer) }
    }

    /// The URL that the listener was opened with; empty if it is unknown.
    pub fn listener(&self) -> &'a str {
        // SAFETY: as above.
        unsafe { text(self.raw.listener) }
    }

    /// The address of the proxy that has named the peer, as a URL; empty: no proxy has.
    pub fn via(&self) -> &'a str {
        // SAFETY: as above.
        unsafe { text(self.raw.via) }
    }

    /// What else a proxy says: keys and values, each key once. Nothing where there is no proxy. Bytes that are not printable
    /// ASCII are escaped (`\xNN`), and so are `\`, `'` and `"`.
    pub fn facts(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let mut next = self.raw.facts;
        core::iter::from_fn(move || {
            // SAFETY: where a text of the list begins, or its end, which is an empty one.
            let fact = unsafe { text(next) };
            if fact.is_empty() {
                return None;
            }
            // SAFETY: behind the NUL of a text there is another one, or the end.
            next = unsafe { next.add(fact.len() + 1) };
            Some(fact.split_once('=').unwrap_or((fact, "")))
        })
    }
}

impl fmt::Debug for Peer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("kind", &self.kind())
            .field("id", &self.id())
            .field("local", &self.local())
            .field("address", &self.address())
            .field("listener", &self.listener())
            .field("via", &self.via())
            .field("facts", &self.facts().collect::<Vec<_>>())
            .finish()
    }
}

/// # Safety
/// `text` is NULL or NUL-ended, and lives for 'a.
unsafe fn text<'a>(text: *const c_char) -> &'a str {
    if text.is_null() {
        return "";
    }
    // SAFETY: by the contract.
    unsafe { CStr::from_ptr(text) }.to_str().unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_proxy_says() {
        let facts = b"version=2\0unique_id=a=b\0odd\0\0not=there\0";
        // SAFETY: all zero is a resay_peer.
        let mut raw: abi::resay_peer = unsafe { core::mem::zeroed() };
        raw.struct_size = size_of::<abi::resay_peer>() as u32;
        raw.via = c"tcp://127.0.0.1:1".as_ptr();
        raw.facts = facts.as_ptr().cast();
        // SAFETY: a struct of that size, and texts that live as long.
        let peer = unsafe { Peer::new(&raw) };
        assert_eq!(peer.via(), "tcp://127.0.0.1:1");
        assert_eq!(peer.facts().collect::<Vec<_>>(), [("version", "2"), ("unique_id", "a=b"), ("odd", "")]);
        // An older host does not know them.
        raw.struct_size = core::mem::offset_of!(abi::resay_peer, via) as u32;
        // SAFETY: as above.
        let peer = unsafe { Peer::new(&raw) };
        assert!(peer.via().is_empty() && peer.facts().next().is_none());
    }
}
