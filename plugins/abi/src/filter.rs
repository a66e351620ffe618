//! Filters: what stands between a socket and its stream, both ways.

use crate::abi;
use crate::error::Error;
use crate::host::{Host, Peer, Setup};
use crate::instance::Instance;
use crate::options::OptionSpec;
use crate::panics;
use core::ffi::{CStr, c_void};
use core::fmt;
use core::marker::PhantomData;
use core::mem::{align_of, size_of};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A filter between the bytes of a socket and the stream that they carry, such as TLS. It does no I/O.
///
/// ```text
/// socket ──> receive ──> plain ──> messages, transforms, answers ──> send ──> socket
///                   └──> reply, to the socket
/// ```
///
/// Several threads call an instance at once; the calls of one connection never overlap.
pub trait Filter: Sized + Send + Sync + 'static {
    /// The state of one connection. It lives in the host's memory.
    type Conn: Send + 'static;

    /// Creates an instance for a listener. When the configuration is loaded again, a new one takes its place.
    fn create(setup: &Setup<'_>) -> Result<Self, Error>;

    /// A connection begins, and its peer is known. An error resets it.
    fn open(&self, host: Host<'_>, peer: &Peer<'_>) -> Result<Self::Conn, Error>;

    /// The peer sent `wire`, which may be overwritten: appends to `plain` what it says, and to `reply` what is to be sent for
    /// the filter's own sake. An error ends the connection once `reply` is sent; nothing but the drop of `conn` follows it.
    fn receive(
        &self,
        link: Link<'_, Self::Conn>,
        wire: &mut [u8],
        plain: &mut Out<'_>,
        reply: &mut Out<'_>,
    ) -> Result<Received, Error>;

    /// After the handshake: appends to `wire` what is to be sent to say `plain`. An error resets the connection.
    fn send(&self, link: Link<'_, Self::Conn>, plain: &[u8], wire: &mut Out<'_>) -> Result<(), Error>;

    /// After the handshake: appends to `wire` what says that our side ends.
    fn end(&self, link: Link<'_, Self::Conn>, wire: &mut Out<'_>) -> Result<(), Error> {
        let _ = (link, wire);
        Ok(())
    }

    /// When the handshake is complete: tells what is known of the connection, for transforms and for people who operate the
    /// server.
    fn facts(&self, link: Link<'_, Self::Conn>, facts: &mut Facts<'_, '_>) -> Result<(), Error> {
        let _ = (link, facts);
        Ok(())
    }
}

/// The context of a filter's call.
#[derive(Debug)]
pub struct Link<'a, C> {
    /// The connection; no two calls use it at once.
    pub conn: &'a mut C,
    /// The host: log and counters.
    pub host: Host<'a>,
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// The handshake goes on.
    Handshaking,
    /// The handshake is complete: the stream is open.
    Open,
    /// It is, and the peer has said that its side ends.
    Ended,
}

/// The host's memory, to append to.
pub struct Out<'a> {
    raw: &'a mut abi::resay_filter_out,
    /// Bytes of the room that [`room`](Out::room) has given.
    offered: usize,
}

impl<'a> Out<'a> {
    /// # Safety
    /// `raw` is what the ABI promises of a `resay_filter_out`, for 'a.
    unsafe fn new(raw: &'a mut abi::resay_filter_out) -> Self {
        Self { raw, offered: 0 }
    }

    /// Appends bytes. An error: the host has no memory, or allows no more.
    #[inline]
    pub fn extend(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let place = self.reserve(bytes.len())?;
        // SAFETY: so many bytes from there on are ours, and what is appended is not in them.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len()) };
        self.raw.len += bytes.len();
        self.offered = 0;
        Ok(())
    }

    /// Room of that many bytes behind what is there, all zero: write to it, then say [`filled`](Out::filled).
    #[inline]
    pub fn room(&mut self, bytes: usize) -> Result<&mut [u8], Error> {
        let place = self.reserve(bytes)?;
        self.offered = bytes;
        // SAFETY: so many bytes from there on are ours, and initialised by the first call.
        unsafe {
            core::ptr::write_bytes(place, 0, bytes);
            Ok(core::slice::from_raw_parts_mut(place, bytes))
        }
    }

    /// The first so many bytes of the last [`room`](Out::room) count; at most all of it.
    #[inline]
    pub fn filled(&mut self, bytes: usize) {
        self.raw.len += bytes.min(self.offered);
        self.offered = 0;
    }

    /// Where so many bytes can be written.
    fn reserve(&mut self, bytes: usize) -> Result<*mut u8, Error> {
        let raw = &mut *self.raw;
        if raw.cap - raw.len < bytes {
            // SAFETY: the host's own function and struct.
            let status = raw.reserve.map_or(abi::RESAY_E_NOMEM, |reserve| unsafe { reserve(raw, bytes) });
            if status != abi::RESAY_OK || raw.cap - raw.len < bytes {
                return Err(Error::no_memory());
            }
        }
        if raw.data.is_null() {
            return Ok(core::ptr::dangling_mut());
        }
        // SAFETY: len <= cap bytes are there.
        Ok(unsafe { raw.data.add(raw.len) })
    }
}

impl fmt::Debug for Out<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Out").field("len", &self.raw.len).finish_non_exhaustive()
    }
}

/// What a filter tells of a connection.
#[derive(Debug)]
pub struct Facts<'a, 'b>(&'a mut Out<'b>);

impl Facts<'_, '_> {
    /// Tells one. `key` is of small letters, digits and `_`; the host puts the filter's id and a dot in front of it. Of the
    /// value, what is not printable ASCII is escaped, as are `\\`, `'` and `"`.
    pub fn put(&mut self, key: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
        self.0.extend(key.as_bytes())?;
        self.0.extend(b"=")?;
        let mut whole = [0; 4];
        for byte in value.as_ref() {
            let mut len = 0;
            for (place, escaped) in whole.iter_mut().zip(byte.escape_ascii()) {
                *place = escaped;
                len += 1;
            }
            self.0.extend(&whole[..len])?;
        }
        self.0.extend(b"\0")
    }
}

/// A filter as the host sees it. It must be a `static`, because the host keeps its address.
#[repr(transparent)]
pub struct FilterTable(abi::resay_filter);

impl FilterTable {
    /// The table of a filter of this name. The methods set one field each.
    pub const fn of<F: Filter>(id: &'static CStr) -> Self {
        assert!(size_of::<F::Conn>() <= u32::MAX as usize, "a connection is too large");
        Self(abi::resay_filter {
            struct_size: size_of::<abi::resay_filter>() as u32,
            caps: 0,
            id: id.as_ptr(),
            version: core::ptr::null(),
            summary: core::ptr::null(),
            user: core::ptr::null_mut(),
            options: core::ptr::null(),
            n_options: 0,
            option_size: size_of::<abi::resay_option>() as u32,
            conn_size: size_of::<F::Conn>() as u32,
            conn_align: align_of::<F::Conn>() as u32,
            create: Some(Shim::<F>::create),
            destroy: Some(Shim::<F>::destroy),
            open: Some(Shim::<F>::open),
            close: Some(Shim::<F>::close),
            receive: Some(Shim::<F>::receive),
            send: Some(Shim::<F>::send),
            end: Some(Shim::<F>::end),
            facts: Some(Shim::<F>::facts),
        })
    }

    /// The version of the filter, for display.
    #[must_use]
    pub const fn version(mut self, version: &'static CStr) -> Self {
        self.0.version = version.as_ptr();
        self
    }

    /// One line of description.
    #[must_use]
    pub const fn summary(mut self, summary: &'static CStr) -> Self {
        self.0.summary = summary.as_ptr();
        self
    }

    /// The options that the filter accepts. The host refuses all others. One may be given several times: see
    /// [`Options::all`](crate::Options::all).
    #[must_use]
    pub const fn options(mut self, options: &'static [OptionSpec]) -> Self {
        self.0.options = options.as_ptr().cast(); // OptionSpec is transparent
        self.0.n_options = options.len() as u32;
        self
    }

    /// Peers say that their side ends ([`Received::Ended`]): an end of the socket before that has cut the stream off.
    #[must_use]
    pub const fn ends(mut self) -> Self {
        self.0.caps |= abi::RESAY_FILTER_CAP_ENDS;
        self
    }

    /// The table for C, and for a program that registers it without a library.
    pub const fn raw(&'static self) -> *const abi::resay_filter {
        &raw const self.0
    }

    /// The name.
    pub fn id(&self) -> &'static CStr {
        // SAFETY: FilterTable::of put a &'static CStr there.
        unsafe { CStr::from_ptr(self.0.id) }
    }
}

impl fmt::Debug for FilterTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilterTable").field("id", &self.id()).finish_non_exhaustive()
    }
}

/// The C functions of a table. Each is called by a host that keeps the promises of `abi.rs`: `instance` is what `create`
/// here stored, for the same F, and `conn` what `open` here opened, used by one call at a time.
struct Shim<F>(PhantomData<F>);

impl<F: Filter> Shim<F> {
    unsafe extern "C" fn create(
        table: *const abi::resay_filter,
        host: *const abi::resay_host,
        options: *const abi::resay_kv,
        n_options: usize,
        instance: *mut *mut c_void,
        err: *mut abi::resay_text,
    ) -> abi::resay_status {
        // SAFETY: the host passes the table's own pointer, which is NULL or one of ours.
        let declared = unsafe { table.as_ref() }.map(|table| (table.options, table.n_options));
        // SAFETY: create()'s own arguments, for the call.
        unsafe { Instance::create(host, (declared, options, n_options), F::create, instance, err) }
    }

    unsafe extern "C" fn destroy(instance: *mut c_void) {
        // SAFETY: what create() stored; nothing uses it any more.
        unsafe { Instance::<F>::destroy(instance) }
    }

    unsafe extern "C" fn open(
        instance: *mut c_void,
        conn: *mut c_void,
        peer: *const abi::resay_peer,
        err: *mut abi::resay_text,
    ) -> abi::resay_status {
        let opened = catch_unwind(|| {
            // SAFETY: what create() stored; shared, and F is Sync.
            let instance = unsafe { &*instance.cast::<Instance<F>>() };
            // SAFETY: open()'s own argument, for the call.
            let peer = unsafe { Peer::new(peer) };
            let opened = instance.value.open(Host::new(&instance.host), &peer)?;
            if size_of::<F::Conn>() > 0 {
                // SAFETY: conn_size bytes of that alignment, ours until close().
                unsafe { conn.cast::<F::Conn>().write(opened) };
            }
            Ok(())
        });
        // SAFETY: err is open()'s own.
        unsafe { panics::report(opened, err) }
    }

    unsafe extern "C" fn close(_: *mut c_void, conn: *mut c_void) {
        // SAFETY: open() wrote it; nothing uses it any more.
        if let Err(panic) = catch_unwind(|| unsafe { Self::place(conn).drop_in_place() }) {
            panics::bury(panic);
        }
    }

    unsafe extern "C" fn receive(
        instance: *mut c_void,
        conn: *mut c_void,
        wire: *mut u8,
        len: usize,
        plain: *mut abi::resay_filter_out,
        reply: *mut abi::resay_filter_out,
    ) -> abi::resay_status {
        // SAFETY: receive()'s own arguments, for the call: len bytes that are ours, and two structs of the host.
        let (wire, mut plain, mut reply) = unsafe {
            let wire = if wire.is_null() { core::ptr::dangling_mut() } else { wire };
            (core::slice::from_raw_parts_mut(wire, len), Out::new(&mut *plain), Out::new(&mut *reply))
        };
        // SAFETY: the call's own.
        let result = unsafe {
            Self::call(instance, conn, |filter, link| filter.receive(link, wire, &mut plain, &mut reply))
        };
        match result {
            Ok(Received::Handshaking) => abi::RESAY_MORE_IN,
            Ok(Received::Open) => abi::RESAY_OK,
            Ok(Received::Ended) => abi::RESAY_CLOSE,
            Err(status) => status,
        }
    }

    unsafe extern "C" fn send(
        instance: *mut c_void,
        conn: *mut c_void,
        plain: *const u8,
        len: usize,
        wire: *mut abi::resay_filter_out,
    ) -> abi::resay_status {
        // SAFETY: send()'s own arguments, for the call.
        let (plain, mut wire) = unsafe {
            let plain = if plain.is_null() { core::ptr::dangling() } else { plain };
            (core::slice::from_raw_parts(plain, len), Out::new(&mut *wire))
        };
        // SAFETY: the call's own.
        let sent = unsafe { Self::call(instance, conn, |filter, link| filter.send(link, plain, &mut wire)) };
        sent.map_or_else(|status| status, |()| abi::RESAY_OK)
    }

    unsafe extern "C" fn end(
        instance: *mut c_void,
        conn: *mut c_void,
        wire: *mut abi::resay_filter_out,
    ) -> abi::resay_status {
        // SAFETY: end()'s own argument, for the call.
        let mut wire = unsafe { Out::new(&mut *wire) };
        // SAFETY: the call's own.
        let ended = unsafe { Self::call(instance, conn, |filter, link| filter.end(link, &mut wire)) };
        ended.map_or_else(|status| status, |()| abi::RESAY_OK)
    }

    unsafe extern "C" fn facts(
        instance: *mut c_void,
        conn: *mut c_void,
        facts: *mut abi::resay_filter_out,
    ) -> abi::resay_status {
        // SAFETY: facts()'s own argument, for the call.
        let mut out = unsafe { Out::new(&mut *facts) };
        let mut facts = Facts(&mut out);
        // SAFETY: the call's own.
        let told = unsafe { Self::call(instance, conn, |filter, link| filter.facts(link, &mut facts)) };
        told.map_or_else(|status| status, |()| abi::RESAY_OK)
    }

    /// # Safety
    /// `instance` and `conn` are as the type says.
    unsafe fn call<R>(
        instance: *mut c_void,
        conn: *mut c_void,
        call: impl FnOnce(&F, Link<'_, F::Conn>) -> Result<R, Error>,
    ) -> Result<R, abi::resay_status> {
        let called = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: what create() stored; shared, and F is Sync.
            let instance = unsafe { &*instance.cast::<Instance<F>>() };
            // SAFETY: what open() wrote; one call at a time.
            let conn = unsafe { &mut *Self::place(conn) };
            call(&instance.value, Link { conn, host: Host::new(&instance.host) })
        }));
        match called {
            Ok(result) => result.map_err(|error| error.status()),
            Err(panic) => Err(panics::bury(panic)),
        }
    }

    /// Where a connection is. One that holds nothing is nowhere: the host may pass anything.
    fn place(conn: *mut c_void) -> *mut F::Conn {
        if size_of::<F::Conn>() == 0 { core::ptr::dangling_mut() } else { conn.cast() }
    }
}
