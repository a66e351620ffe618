//! What stands between a socket and its stream, both ways: the tables of filters, their instances, and the memory of a
//! connection in one.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ffi::{CStr, CString, c_void};
use std::fmt;
use std::mem::size_of;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use resay_plugin::abi::{self, resay_filter, resay_filter_out, resay_kv, resay_peer, resay_status};
use resay_plugin::inspect;

use super::conversation::Conversation;
use super::host::{Host, Services};
use super::instance::unknown_option;
use super::lifecycle::{LibraryUse, PluginLibrary};
use super::running::{controlling, running};
use super::session::Described;
use super::status::Fault;
use super::table::OptionHelp;
use super::text::ErrorText;
use crate::error::{Error, Result};
use crate::limits::{FILTER_FACTS_BYTES_MAX, FILTER_OUT_BYTES};

/// A filter, as its owner offers it. Clones are cheap.
#[derive(Clone)]
pub(crate) struct FilterTable {
    described: Arc<Offered>,
    library: Option<&'static PluginLibrary>,
}

struct Offered {
    by_owner: inspect::Filter,
    name: &'static CStr,
}

// SAFETY: a table is constant data by the ABI's contract and outlives the engine, as those of transforms do.
unsafe impl Send for Offered {}
// SAFETY: as above.
unsafe impl Sync for Offered {}

/// A filter of the host's own, which listeners may name from then on: see [`Builder::register_filter`](crate::Builder).
#[derive(Debug, Clone)]
pub struct Filter(pub(crate) FilterTable);

impl Filter {
    /// A filter that is written with the SDK, `resay-plugin`.
    pub fn from_table(table: &'static resay_plugin::FilterTable) -> std::result::Result<Filter, String> {
        // SAFETY: a static table of the SDK keeps the ABI's promises.
        unsafe { inspect::filter(table.raw()) }.map(|described| Filter(FilterTable::new(described, None)))
    }
}

impl FilterTable {
    /// `library`: of a plugin file.
    pub(super) fn new(by_owner: inspect::Filter, library: Option<&'static PluginLibrary>) -> FilterTable {
        // SAFETY: the id was read as a NUL-terminated string, and stays.
        let name = unsafe { CStr::from_ptr(by_owner.fields.id) };
        FilterTable { described: Arc::new(Offered { by_owner, name }), library }
    }

    /// The name that listeners know it by.
    pub(crate) fn id(&self) -> &'static str {
        self.described.by_owner.id
    }

    fn fields(&self) -> &resay_filter {
        &self.described.by_owner.fields
    }

    fn options(&self) -> Vec<OptionHelp<'static>> {
        self.described.by_owner.options.iter().map(OptionHelp::from).collect()
    }
}

impl fmt::Debug for FilterTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FilterTable({})", self.id())
    }
}

/// A filter that has been created, for a listener. Destroyed when its last connection is gone.
pub(crate) struct FilterInstance {
    table: FilterTable,
    own: *mut c_void,
    layout: Layout,
    _host: Host,
    /// Let go of after `destroy()`.
    _library: Option<LibraryUse>,
}

// SAFETY: `own` is the filter's, which several workers may call at once by the ABI's contract.
unsafe impl Send for FilterInstance {}
// SAFETY: as above.
unsafe impl Sync for FilterInstance {}

impl FilterInstance {
    /// Creates an instance. Options that the filter does not declare are refused here, with what it offers.
    pub(crate) fn create(
        table: FilterTable,
        options: &[(String, Vec<u8>)],
        services: &Services,
    ) -> Result<Arc<FilterInstance>> {
        let (id, name) = (table.id(), table.described.name);
        let fault = |reason: String| Error::Filter { id: id.to_owned(), reason };
        let declared = table.options();
        let mut keys = Vec::with_capacity(options.len());
        for (key, _) in options {
            if !declared.iter().any(|option| option.key == key) {
                return Err(fault(unknown_option(key, &declared)));
            }
            keys.push(CString::new(key.as_str()).map_err(|_| fault("a key has a NUL".into()))?);
        }
        let pair = |(key, (_, value)): (&CString, &(String, Vec<u8>))| resay_kv {
            key: key.as_ptr(),
            value: abi::resay_bytes { ptr: value.as_ptr(), len: value.len() },
        };
        let pairs: Vec<resay_kv> = keys.iter().zip(options).map(pair).collect();
        let fields = table.fields();
        let align = match fields.conn_align {
            0 => align_of::<libc::max_align_t>(),
            align => align as usize,
        };
        let layout = Layout::from_size_align(fields.conn_size as usize, align)
            .map_err(|error| fault(format!("conn_size: {error}")))?;
        let library = table.library.map(|library| library.enter(name)).transpose().map_err(fault)?;
        let host = Host::new(id, services);
        let mut own = ptr::null_mut();
        if let Some(create) = fields.create {
            let raw = table.described.by_owner.raw;
            let mut text = ErrorText::new();
            // SAFETY: every pointer lives during the call, `host` until destroy().
            let status = controlling(name, || unsafe {
                create(raw, host.as_ptr(), pairs.as_ptr(), pairs.len(), &mut own, &mut text.as_abi())
            });
            if status != abi::RESAY_OK {
                return Err(fault(text.or(&format!("create: {}", Fault::Status(status)))));
            }
        }
        Ok(Arc::new(FilterInstance { layout, table, own, _host: host, _library: library }))
    }

    /// Whether an end of the socket that peers have not announced has cut their stream off.
    pub(crate) fn says_ends(&self) -> bool {
        self.table.fields().caps & abi::RESAY_FILTER_CAP_ENDS != 0
    }
}

impl Drop for FilterInstance {
    fn drop(&mut self) {
        if let Some(destroy) = self.table.fields().destroy {
            // SAFETY: what create() gave, once, after the last call that could use it.
            controlling(self.table.described.name, || unsafe { destroy(self.own) });
        }
    }
}

impl fmt::Debug for FilterInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FilterInstance({})", self.table.id())
    }
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It has not begun.
    New,
    Handshaking,
    Established,
    /// The peer has said that its side ends.
    Ended,
    /// A call has failed: none follows.
    Failed,
}

/// One connection in a filter.
pub(crate) struct FilterConn {
    instance: Arc<FilterInstance>,
    /// Where the layout is empty, an aligned address of nothing; `None`: not allocated yet.
    memory: Option<NonNull<u8>>,
    /// `open()` has succeeded, so `close()` is owed.
    is_open: bool,
    state: State,
}

// SAFETY: the memory is the connection's alone, and a filter is called from the thread that has the connection.
unsafe impl Send for FilterConn {}

impl FilterConn {
    /// One that has not begun: it takes no memory yet.
    pub(crate) fn new(instance: &Arc<FilterInstance>) -> FilterConn {
        FilterConn { instance: Arc::clone(instance), memory: None, is_open: false, state: State::New }
    }

    /// Begins it, once.
    pub(crate) fn begin(&mut self, peer: &Conversation<'_>) -> std::result::Result<(), &'static str> {
        let layout = self.instance.layout;
        let memory = if layout.size() == 0 {
            NonNull::new(ptr::without_provenance_mut(layout.align()))
        } else {
            // SAFETY: a layout that is not empty.
            NonNull::new(unsafe { alloc_zeroed(layout) })
        };
        self.state = State::Failed;
        self.memory = Some(memory.ok_or("out of memory")?);
        if let Some(open) = self.instance.table.fields().open {
            let described = Described::of(peer);
            let pointer = |text: &Option<CString>| text.as_ref().map_or(ptr::null(), |text| text.as_ptr());
            let described = resay_peer {
                struct_size: size_of::<resay_peer>() as u32,
                kind: peer.kind().number(),
                id: peer.id,
                local: pointer(&described.local),
                peer: pointer(&described.peer),
                listener: pointer(&described.local),
                via: pointer(&described.via),
                facts: described.facts.as_ref().map_or(ptr::null(), |facts| facts.as_ptr().cast()),
            };
            let mut text = ErrorText::new();
            // SAFETY: this connection's own memory, and pointers that live during the call.
            let status = self.call(|own, conn| unsafe { open(own, conn, &described, &mut text.as_abi()) });
            if status != abi::RESAY_OK {
                return Err("the filter has refused the connection");
            }
        }
        (self.is_open, self.state) = (true, State::Handshaking);
        Ok(())
    }

    /// The peer sent `wire`.
    pub(crate) fn receive(
        &mut self,
        wire: &mut [u8],
        plain: &mut Vec<u8>,
        reply: &mut Vec<u8>,
    ) -> std::result::Result<(), &'static str> {
        let Some(receive) = self.instance.table.fields().receive.filter(|_| self.may_call()) else {
            return Err("the filter has failed before");
        };
        let (mut plain, mut reply) = (Sink::new(plain, wire.len()), Sink::new(reply, wire.len()));
        // SAFETY: this connection's own memory, and pointers that live during the call.
        let status = self.call(|own, conn| unsafe {
            receive(own, conn, wire.as_mut_ptr(), wire.len(), plain.as_abi(), reply.as_abi())
        });
        let are_whole = plain.take() & reply.take();
        let before = std::mem::replace(&mut self.state, State::Failed);
        self.state = match status {
            _ if !are_whole => return Err("the filter broke the ABI: more output than there is room"),
            abi::RESAY_MORE_IN if before == State::Handshaking => State::Handshaking,
            abi::RESAY_OK if before != State::Ended => State::Established,
            abi::RESAY_CLOSE => State::Ended,
            abi::RESAY_OK | abi::RESAY_MORE_IN => {
                return Err("the filter broke the ABI: it went back to an earlier state");
            }
            _ => return Err("the filter has failed"),
        };
        Ok(())
    }

    /// Appends what is to be sent to say `plain`.
    pub(crate) fn send(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> std::result::Result<(), &'static str> {
        let Some(send) = self.instance.table.fields().send.filter(|_| self.is_established()) else {
            return Err("the filter is not established");
        };
        let mut sink = Sink::new(wire, plain.len());
        // SAFETY: this connection's own memory, and pointers that live during the call.
        let status =
            self.call(|own, conn| unsafe { send(own, conn, plain.as_ptr(), plain.len(), sink.as_abi()) });
        if !sink.take() || status != abi::RESAY_OK {
            self.state = State::Failed;
            return Err("the filter has failed");
        }
        Ok(())
    }

    /// Appends what says that our side ends.
    pub(crate) fn end(&mut self, wire: &mut Vec<u8>) {
        let Some(end) = self.instance.table.fields().end.filter(|_| self.is_established()) else { return };
        let mut sink = Sink::new(wire, 0);
        // SAFETY: this connection's own memory, and a pointer that lives during the call.
        let status = self.call(|own, conn| unsafe { end(own, conn, sink.as_abi()) });
        if !sink.take() || status != abi::RESAY_OK {
            self.state = State::Failed;
        }
    }

    /// What the filter tells of the connection once both sides have agreed: texts `ID.key=value`, each ended by NUL.
    pub(crate) fn facts(&mut self) -> String {
        let mut text = String::new();
        let fields = self.instance.table.fields();
        let Some(facts) = fields.facts.filter(|_| self.is_established()) else { return text };
        let mut told = Vec::new();
        let mut sink = Sink::new(&mut told, 0);
        // SAFETY: this connection's own memory, and a pointer that lives during the call.
        let status = self.call(|own, conn| unsafe { facts(own, conn, sink.as_abi()) });
        if !sink.take() || status != abi::RESAY_OK {
            return text;
        }
        let id = self.instance.table.id();
        for fact in told.split(|byte| *byte == 0).filter_map(|fact| std::str::from_utf8(fact).ok()) {
            let Some((key, value)) = fact.split_once('=') else { continue };
            let is_of_key = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
            let is_of_value = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
            let is_right = !key.is_empty() && key.bytes().all(is_of_key) && value.bytes().all(is_of_value);
            let parts = [id, ".", fact, "\0"];
            let bytes: usize = parts.iter().map(|part| part.len()).sum();
            if is_right && text.len() + bytes <= FILTER_FACTS_BYTES_MAX {
                text.extend(parts);
            }
        }
        text
    }

    /// Whether both sides have agreed.
    pub(crate) fn is_established(&self) -> bool {
        matches!(self.state, State::Established | State::Ended)
    }

    /// Whether the peer has said that its side ends.
    pub(crate) fn has_peer_ended(&self) -> bool {
        self.state == State::Ended
    }

    pub(crate) fn says_ends(&self) -> bool {
        self.instance.says_ends()
    }

    fn may_call(&self) -> bool {
        self.is_open && self.state != State::Failed
    }

    /// Calls into the filter, known to [`running_transform`](super::running_transform) meanwhile.
    fn call(&self, call: impl FnOnce(*mut c_void, *mut c_void) -> resay_status) -> resay_status {
        let memory = self.memory.map_or(ptr::null_mut(), |memory| memory.as_ptr().cast());
        running(self.instance.table.described.name, || call(self.instance.own, memory))
    }
}

impl Drop for FilterConn {
    fn drop(&mut self) {
        if self.is_open
            && let Some(close) = self.instance.table.fields().close
        {
            self.call(|own, conn| {
                // SAFETY: this connection's own memory, for the last time.
                unsafe { close(own, conn) };
                abi::RESAY_OK
            });
        }
        if let Some(memory) = self.memory
            && self.instance.layout.size() > 0
        {
            // SAFETY: allocated with this layout.
            unsafe { dealloc(memory.as_ptr(), self.instance.layout) };
        }
    }
}

impl fmt::Debug for FilterConn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FilterConn({} {:?})", self.instance.table.id(), self.state)
    }
}

/// A vector that a filter appends to; `resay_filter_out` is a pointer to this.
#[repr(C)]
struct Sink<'a> {
    raw: resay_filter_out,
    vector: &'a mut Vec<u8>,
    /// What the vector had, and may have.
    before: usize,
    bytes_max: usize,
}

impl<'a> Sink<'a> {
    /// For what a call makes of so many bytes.
    fn new(vector: &'a mut Vec<u8>, bytes: usize) -> Sink<'a> {
        let before = vector.len();
        let raw = resay_filter_out {
            struct_size: size_of::<resay_filter_out>() as u32,
            zero: 0,
            data: vector.as_mut_ptr(),
            len: before,
            cap: vector.capacity(),
            reserve: Some(reserve),
        };
        let bytes_max = before.saturating_add(bytes.saturating_mul(2)).saturating_add(FILTER_OUT_BYTES);
        Sink { raw, vector, before, bytes_max }
    }

    fn as_abi(&mut self) -> *mut resay_filter_out {
        ptr::from_mut(self).cast()
    }

    /// Takes over what was appended; whether that is possible.
    fn take(&mut self) -> bool {
        let is_possible = (self.before..=self.vector.capacity()).contains(&self.raw.len);
        if is_possible {
            // SAFETY: within the capacity, and written by the filter by its contract.
            unsafe { self.vector.set_len(self.raw.len) };
        }
        is_possible
    }
}

unsafe extern "C" fn reserve(out: *mut resay_filter_out, additional: usize) -> resay_status {
    // SAFETY: the pointer that the call was given is one to a Sink, and nobody else uses it meanwhile.
    let Some(sink) = (unsafe { out.cast::<Sink<'_>>().as_mut() }) else { return abi::RESAY_E_NOMEM };
    let wanted = sink.raw.len.checked_add(additional).filter(|bytes| *bytes <= sink.bytes_max);
    if wanted.is_none() || !sink.take() || sink.vector.try_reserve(additional).is_err() {
        return abi::RESAY_E_NOMEM;
    }
    (sink.raw.data, sink.raw.cap) = (sink.vector.as_mut_ptr(), sink.vector.capacity());
    abi::RESAY_OK
}
