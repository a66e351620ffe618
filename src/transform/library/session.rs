//! The instances of a chain, and the memory of one conversation in all of them. `map` and `process` are called
//! through it.

use std::alloc::{self, Layout};
use std::ffi::{CString, c_void};
use std::fmt;
use std::mem::size_of;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use resay_plugin::abi::{self, resay_bytes, resay_io, resay_peer};

use super::instance::{ErrorText, Fault, Instance, Status};
use super::lock;
use super::table::session_align;
use crate::error::{Error, Result};
use crate::peer::{Peer, SocketKind};

/// What one transform may remember of one conversation, saved.
const SAVED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The instances of a chain, in order.
#[derive(Debug)]
pub(crate) struct Stages {
    list: Vec<Stage>,
    /// Of a session's memory: the stages' parts one after another.
    layout: Layout,
    /// Some stage wants to hear of conversations.
    has_sessions: bool,
}

#[derive(Debug)]
struct Stage {
    instance: Arc<Instance>,
    /// Of its part of a session's memory.
    offset: usize,
}

impl Stages {
    pub(crate) fn new(instances: Vec<Arc<Instance>>) -> Result<Stages> {
        let mut layout = Layout::new::<()>();
        let mut list = Vec::with_capacity(instances.len());
        let mut has_sessions = false;
        for instance in instances {
            let fields = &*instance.table.fields;
            has_sessions |= instance.has_session();
            let too_large = |_| Error::Transform {
                id: instance.id().to_owned(),
                reason: "the sessions of this chain are too large".to_owned(),
            };
            let part = Layout::from_size_align(fields.session_size as usize, session_align(fields))
                .map_err(too_large)?;
            let (extended, offset) = layout.extend(part).map_err(too_large)?;
            layout = extended;
            list.push(Stage { instance, offset });
        }
        Ok(Stages { list, layout: layout.pad_to_align(), has_sessions })
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn instance(&self, stage: usize) -> &Instance {
        &self.list[stage].instance
    }
}
/// Who a session is with, in the ABI's terms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SessionPeer<'a> {
    pub(crate) kind: SocketKind,
    pub(crate) id: u64,
    pub(crate) local: &'a str,
    pub(crate) peer: &'a Peer,
    pub(crate) listener: &'a str,
}

/// The same as C strings, made when the first transform asks.
struct Described {
    local: CString,
    /// `None`: the peer has no name.
    peer: Option<CString>,
    listener: CString,
}

impl Described {
    fn of(peer: &SessionPeer<'_>) -> Described {
        // A name with a NUL in it cannot be said in C; there is none in an address as it is written.
        let text = |text: &str| CString::new(text).unwrap_or_default();
        Described {
            local: text(peer.local),
            peer: peer.peer.url(peer.kind).as_deref().map(text),
            listener: text(peer.listener),
        }
    }
}

fn abi_kind(kind: SocketKind) -> u32 {
    match kind {
        SocketKind::Tcp | SocketKind::UnixStream => abi::RESAY_STREAM,
        SocketKind::Udp | SocketKind::UnixDatagram => abi::RESAY_DATAGRAM,
        SocketKind::UnixSeqpacket => abi::RESAY_SEQPACKET,
    }
}

/// One conversation's memory in every stage of a chain. Not shared: calls through it are `&mut`.
pub(crate) struct Session {
    stages: Arc<Stages>,
    /// Dangling where the layout is empty.
    memory: NonNull<u8>,
    /// How many stages have seen `session_open`.
    opened: usize,
}

// SAFETY: the memory belongs to this value alone; the ABI asks for one call at a time, not for one thread.
unsafe impl Send for Session {}

impl Session {
    /// Opens a conversation in every stage, in order; where one refuses, those before it are closed again.
    pub(crate) fn open(
        stages: &Arc<Stages>,
        peer: &SessionPeer<'_>,
    ) -> std::result::Result<Session, (usize, Fault)> {
        let mut session = Session::unopened(stages)?;
        session.begin(peer)?;
        Ok(session)
    }

    /// The memory of a conversation that no stage has heard of yet.
    pub(crate) fn unopened(stages: &Arc<Stages>) -> std::result::Result<Session, (usize, Fault)> {
        let layout = stages.layout;
        let memory = if layout.size() == 0 {
            NonNull::dangling()
        } else {
            // SAFETY: the size is not zero.
            NonNull::new(unsafe { alloc::alloc_zeroed(layout) })
                .ok_or((0, Fault::Status(abi::RESAY_E_NOMEM)))?
        };
        Ok(Session { stages: Arc::clone(stages), memory, opened: 0 })
    }

    /// Opens the conversation in every stage, once.
    pub(crate) fn begin(&mut self, peer: &SessionPeer<'_>) -> std::result::Result<(), (usize, Fault)> {
        self.open_stages(peer)
    }

    /// Ends the conversation and begins another in the same memory, zeroed.
    pub(crate) fn renew(&mut self, peer: &SessionPeer<'_>) -> std::result::Result<(), (usize, Fault)> {
        if !self.stages.has_sessions {
            return Ok(());
        }
        self.close_stages();
        // SAFETY: the memory has this many bytes (none, where it is dangling) and is ours.
        unsafe { ptr::write_bytes(self.memory.as_ptr(), 0, self.stages.layout.size()) };
        self.open_stages(peer)
    }

    /// The same conversation in another chain: each transform that remembers something hands it to the one of the
    /// same id there (`resay.session-state/1`). `None` where one cannot; nothing has changed then.
    pub(crate) fn carry(&self, to: &Arc<Stages>, peer: &SessionPeer<'_>) -> Option<Session> {
        let carried = Session::open(to, peer).ok()?;
        let mut taken = vec![false; to.list.len()];
        for from in self.stages.list.iter().filter(|stage| stage.instance.has_session()) {
            let place = (0..to.list.len()).find(|&place| {
                to.list.get(place).is_some_and(|stage| stage.instance.id() == from.instance.id())
                    && taken.get(place) == Some(&false)
            })?;
            *taken.get_mut(place)? = true;
            let state = self.save(from)?;
            let target = to.list.get(place)?;
            let (source, loader) =
                (from.instance.table.session_state()?, target.instance.table.session_state()?);
            let _guard = target.instance.guard().ok()?;
            let mut text = ErrorText::new();
            let state = resay_bytes { ptr: state.as_ptr(), len: state.len() };
            // SAFETY: an open session of this stage of which no call was made yet; the state lives during the call.
            let status = unsafe {
                (loader.load)(
                    target.instance.own,
                    carried.part(target),
                    source.schema,
                    state,
                    &mut text.as_abi(),
                )
            };
            if target.instance.check(status) != Status::Ok {
                return None;
            }
        }
        Some(carried)
    }

    /// What one stage remembers.
    fn save(&self, stage: &Stage) -> Option<Vec<u8>> {
        let state = stage.instance.table.session_state()?;
        let _guard = stage.instance.guard().ok()?;
        let mut room = 256;
        while room <= SAVED_BYTES_MAX {
            let mut out = vec![0u8; room];
            let mut io = resay_io {
                struct_size: size_of::<resay_io>() as u32,
                flags: 0,
                r#in: ptr::null(),
                in_len: 0,
                in_used: 0,
                out: out.as_mut_ptr(),
                out_cap: room,
                out_len: 0,
                out_need: 0,
                delay_us: 0,
            };
            // SAFETY: the stage's own open session, which save() only reads, and a writable buffer.
            let code = unsafe { (state.save)(stage.instance.own, self.part(stage).cast_const(), &mut io) };
            match stage.instance.check(code) {
                Status::Ok if io.out_len <= room => {
                    out.truncate(io.out_len);
                    return Some(out);
                }
                // It begins anew with more room.
                Status::MoreOut => room = io.out_need.max(room * 2),
                _ => return None,
            }
        }
        None
    }

    pub(crate) fn stages(&self) -> &Arc<Stages> {
        &self.stages
    }

    fn open_stages(&mut self, peer: &SessionPeer<'_>) -> std::result::Result<(), (usize, Fault)> {
        let (id, abi_kind) = (peer.id, abi_kind(peer.kind));
        let mut described = None;
        for index in self.opened..self.stages.list.len() {
            let stage = &self.stages.list[index];
            let Some(open) = stage.instance.table.fields.session_open else {
                self.opened = index + 1;
                continue;
            };
            let _guard = stage.instance.guard().map_err(|fault| (index, fault))?;
            let Described { local, peer, listener } = described.get_or_insert_with(|| Described::of(peer));
            let described = resay_peer {
                struct_size: size_of::<resay_peer>() as u32,
                kind: abi_kind,
                id,
                local: local.as_ptr(),
                peer: peer.as_ref().map_or(ptr::null(), |peer| peer.as_ptr()),
                listener: listener.as_ptr(),
            };
            let mut text = ErrorText::new();
            // SAFETY: the stage's own part of this session's memory, and pointers that live during the call.
            let status = stage.instance.enter(|| unsafe {
                open(stage.instance.own, self.part(stage), &described, &mut text.as_abi())
            });
            match stage.instance.check(status) {
                Status::Ok => self.opened = index + 1,
                Status::Failed(fault) => {
                    return Err((index, Fault::Refused(text.or(&fault.to_string()))));
                }
                _ => return Err((index, Fault::Refused(text.or("no reason given")))),
            }
        }
        Ok(())
    }

    fn close_stages(&mut self) {
        while let Some(index) = self.opened.checked_sub(1) {
            self.opened = index;
            let stage = &self.stages.list[index];
            if let Some(close) = stage.instance.table.fields.session_close {
                let _guard = stage.instance.serial.as_ref().map(lock);
                // SAFETY: this stage saw session_open with the same memory, and sees nothing after this.
                stage.instance.enter(|| unsafe { close(stage.instance.own, self.part(stage)) });
            }
        }
    }

    fn part(&self, stage: &Stage) -> *mut c_void {
        // SAFETY: the offset lies within the layout that the memory has.
        unsafe { self.memory.as_ptr().add(stage.offset) }.cast()
    }

    /// Calls `map` of a stage that has it, in place.
    pub(crate) fn map(&mut self, stage: usize, data: &mut [u8]) -> Status {
        let stage = &self.stages.list[stage];
        let Some(map) = stage.instance.table.fields.map else {
            return Status::Failed(Fault::Status(abi::RESAY_E_UNSUPPORTED));
        };
        let _guard = match stage.instance.guard() {
            Ok(guard) => guard,
            Err(fault) => return Status::Failed(fault),
        };
        // SAFETY: the stage's own session memory, and a writable slice for the call.
        let status = stage
            .instance
            .enter(|| unsafe { map(stage.instance.own, self.part(stage), data.as_mut_ptr(), data.len()) });
        match stage.instance.check(status) {
            Status::MoreOut | Status::MoreIn => Status::Failed(Fault::Broken("MORE_OUT or MORE_IN from map")),
            status => status,
        }
    }

    /// Calls the function of a stage that is one. Whether `out` holds the answer then; if not, `input` is it.
    #[inline]
    pub(crate) fn call(
        &mut self,
        stage: usize,
        input: &[u8],
        out: &mut Vec<u8>,
        out_max: usize,
        flags: u32,
    ) -> (Status, bool) {
        let instance = self.stages.instance(stage);
        let Some(function) = &instance.table.function else {
            return (Status::Failed(Fault::Status(abi::RESAY_E_UNSUPPORTED)), false);
        };
        if let Err(fault) = instance.guard() {
            return (Status::Failed(fault), false);
        }
        let (status, is_replaced) = instance.enter(|| function.call(input, flags, out, out_max));
        if status == Status::Failed(Fault::Status(abi::RESAY_E_PANIC)) {
            instance.check(abi::RESAY_E_PANIC);
        }
        (status, is_replaced)
    }

    /// Calls `process` of a stage until it has taken all of `input` or wants more (`MoreIn`); what it gives is
    /// appended to `out`, at most `out_max` bytes, and `delayed` hears for each call where its output ends in
    /// `out` and for how many microseconds it is to be held back. Answers how much of the input was taken.
    pub(crate) fn process(
        &mut self,
        stage: usize,
        input: &[u8],
        out: &mut Vec<u8>,
        out_max: usize,
        flags: u32,
        mut delayed: impl FnMut(usize, u64),
    ) -> (Status, usize) {
        let stage = &self.stages.list[stage];
        let instance = &*stage.instance;
        let Some(process) = instance.table.fields.process else {
            return (Status::Failed(Fault::Status(abi::RESAY_E_UNSUPPORTED)), 0);
        };
        let _guard = match instance.guard() {
            Ok(guard) => guard,
            Err(fault) => return (Status::Failed(fault), 0),
        };
        let base = out.len();
        let mut used = 0;
        let room_for = |len: usize| instance.output_bound(len).unwrap_or(len.max(512));
        let mut wanted = room_for(input.len());
        loop {
            let broken = |what, used| (Status::Failed(Fault::Broken(what)), used);
            // The ABI promises initialised memory: the SDK makes a slice of it.
            let written = out.len();
            out.resize(written + wanted.max(1), 0);
            // Whether anything of the message has been taken or answered.
            let begun = if used == 0 && written == base { 0 } else { abi::RESAY_IO_BEGIN };
            let spare = out.get_mut(written..).unwrap_or_default();
            let out_cap = spare.len();
            let mut io = resay_io {
                struct_size: size_of::<resay_io>() as u32,
                flags: flags & !begun,
                r#in: input[used..].as_ptr(),
                in_len: input.len() - used,
                in_used: 0,
                out: spare.as_mut_ptr(),
                out_cap,
                out_len: 0,
                out_need: 0,
                delay_us: 0,
            };
            // SAFETY: the input is readable and the output writable for the lengths given; the session's part is
            // this stage's.
            let code = instance.enter(|| unsafe { process(instance.own, self.part(stage), &mut io) });
            let status = instance.check(code);
            out.truncate(written + io.out_len.min(out_cap));
            if let Status::Failed(_) = status {
                return (status, used);
            }
            if io.out_len > out_cap {
                return broken("process wrote more than out_cap", used);
            }
            if io.in_used > input.len() - used {
                return broken("process used more than in_len", used);
            }
            delayed(out.len(), io.delay_us);
            used += io.in_used;
            if out.len() - base > out_max {
                return (Status::Failed(Fault::TooLong), used);
            }
            match status {
                Status::MoreOut => {
                    let progress = io.in_used > 0 || io.out_len > 0 || io.out_need > out_cap;
                    if !progress {
                        return broken("MORE_OUT without progress", used);
                    }
                    if io.out_need > out_max {
                        return (Status::Failed(Fault::TooLong), used);
                    }
                    wanted = io.out_need.max(room_for(input.len() - used));
                }
                Status::Ok if used < input.len() => return broken("OK with input left", used),
                Status::MoreIn if flags & (abi::RESAY_IO_END | abi::RESAY_IO_EOF) != 0 => {
                    return broken("MORE_IN at the end of a message or stream", used);
                }
                status => return (status, used),
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.close_stages();
        if self.stages.layout.size() > 0 {
            // SAFETY: allocated in `open` with this very layout.
            unsafe { alloc::dealloc(self.memory.as_ptr(), self.stages.layout) }
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("stages", &self.stages.list.len()).finish_non_exhaustive()
    }
}
