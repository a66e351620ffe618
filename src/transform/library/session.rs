//! The instances of a chain, and the memory of one conversation in all of them: made, begun, carried over a swap, ended. What is
//! called in between is in `calls.rs`.

pub(super) mod calls;

use std::alloc::{self, Layout};
use std::ffi::{CString, c_void};
use std::fmt;
use std::mem::size_of;
use std::num::NonZero;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use resay_plugin::abi::{self, resay_bytes, resay_io, resay_peer};

use super::callee::Callee;
use super::conversation::Conversation;
use super::instance::Instance;
use super::status::{Fault, Status};
use super::table::session_align;
use super::text::ErrorText;
use crate::error::{Error, Result};
use crate::lock::lock;
use crate::sys::zeroed;

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
    /// The table's, at hand.
    map: Option<MapFn>,
}

type MapFn = unsafe extern "C" fn(*mut c_void, *mut c_void, *mut u8, usize) -> abi::resay_status;

impl Stages {
    pub(crate) fn new(instances: Vec<Arc<Instance>>) -> Result<Stages> {
        let mut layout = Layout::new::<()>();
        let mut list = Vec::with_capacity(instances.len());
        let mut has_sessions = false;
        for instance in instances {
            has_sessions |= instance.has_session();
            let too_large = |_| Error::Transform {
                id: instance.id().to_owned(),
                reason: "the sessions of this chain are too large".to_owned(),
                place: None,
            };
            let part = match &instance.callee {
                Callee::Table(table) => {
                    let fields = table.fields();
                    Layout::from_size_align(fields.session_size as usize, session_align(fields))
                        .map_err(too_large)?
                }
                Callee::Function(function) => function.layout().unwrap_or(Layout::new::<()>()),
            };
            let (extended, offset) = layout.extend(part).map_err(too_large)?;
            layout = extended;
            let map = instance.fields().and_then(|fields| fields.map);
            list.push(Stage { map, instance, offset });
        }
        Ok(Stages { list, layout: layout.pad_to_align(), has_sessions })
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether some stage hears of conversations, or remembers something of them.
    #[inline]
    pub(crate) fn has_sessions(&self) -> bool {
        self.has_sessions
    }

    pub(crate) fn instance(&self, stage: usize) -> &Instance {
        &self.list[stage].instance
    }

    /// Has the next call of each stage for a message timed.
    pub(crate) fn time_next_calls(&self) {
        self.list.iter().for_each(|stage| stage.instance.arm());
    }
}

/// A conversation as C strings, made when the first transform asks.
pub(super) struct Described {
    /// Of the listener; `None`: there is none, in a dry run.
    pub(super) local: Option<CString>,
    /// `None`: the peer has no name.
    pub(super) peer: Option<CString>,
    pub(super) via: Option<CString>,
    /// Several, with a NUL behind each and one more.
    pub(super) facts: Option<String>,
}

impl Described {
    pub(super) fn of(peer: &Conversation<'_>) -> Described {
        // A name with a NUL in it cannot be said in C; there is none in an address as it is written.
        let text = |text: &str| CString::new(text).unwrap_or_default();
        Described {
            local: Some(peer.url()).filter(|url| !url.is_empty()).map(text),
            peer: peer.peer.url(peer.kind()).as_deref().map(text),
            via: peer.via().and_then(|via| via.url(peer.kind())).as_deref().map(text),
            facts: peer.facts_text(),
        }
    }
}

/// One conversation's memory in every stage of a chain. Not shared: calls through it are `&mut`.
pub(crate) struct Session {
    stages: Arc<Stages>,
    /// Where the layout is empty, an aligned address of nothing.
    memory: NonNull<u8>,
    /// How many stages have seen `session_open`, or have begun.
    opened: usize,
    /// What functions said when they began that was more than that they have. Boxed: most connections have nothing of it.
    begun: Option<Box<BegunStages>>,
}

#[derive(Debug, Default)]
struct BegunStages {
    list: Vec<Begun>,
}

/// What a function had to say when it began.
#[derive(Debug)]
pub(crate) struct Begun {
    stage: usize,
    /// `Ok`: it has a session, and greets. Anything else: it has none.
    pub(crate) status: Status,
    pub(crate) greeting: Vec<u8>,
    pub(crate) delay_us: u64,
}

// SAFETY: the memory belongs to this value alone; the ABI asks for one call at a time, not for one thread.
unsafe impl Send for Session {}

impl Session {
    /// Opens a conversation in every stage, in order; where one refuses, those before it are closed again.
    pub(crate) fn open(
        stages: &Arc<Stages>,
        peer: &Conversation<'_>,
    ) -> std::result::Result<Session, (usize, Fault)> {
        let mut session = Session::unopened(stages)?;
        session.begin(peer)?;
        Ok(session)
    }

    /// The memory of a conversation that no stage has heard of yet.
    pub(crate) fn unopened(stages: &Arc<Stages>) -> std::result::Result<Session, (usize, Fault)> {
        let layout = stages.layout;
        let memory = if layout.size() == 0 {
            // References to sessions without a size are made of it: those have an alignment too.
            NonZero::new(layout.align()).map(NonNull::without_provenance)
        } else {
            // SAFETY: the size is not zero.
            NonNull::new(unsafe { alloc::alloc_zeroed(layout) })
        };
        let memory = memory.ok_or((0, Fault::Status(abi::RESAY_E_NOMEM)))?;
        Ok(Session { stages: Arc::clone(stages), memory, opened: 0, begun: None })
    }

    /// Opens the conversation in every stage, once.
    pub(crate) fn begin(&mut self, peer: &Conversation<'_>) -> std::result::Result<(), (usize, Fault)> {
        self.open_stages(peer)
    }

    /// Ends the conversation and begins another in the same memory, zeroed.
    pub(crate) fn renew(&mut self, peer: &Conversation<'_>) -> std::result::Result<(), (usize, Fault)> {
        if !self.stages.has_sessions {
            return Ok(());
        }
        self.close_stages();
        // SAFETY: the memory has this many bytes, maybe none, and is ours.
        unsafe { ptr::write_bytes(self.memory.as_ptr(), 0, self.stages.layout.size()) };
        self.open_stages(peer)
    }

    /// The same conversation in another chain: each transform that remembers something hands it to the one of the
    /// same id there (`resay.session-state/1`). `None` where one cannot; nothing has changed then.
    pub(crate) fn carry(&self, to: &Arc<Stages>, peer: &Conversation<'_>) -> Option<Session> {
        let mut carried = Session::open(to, peer).ok()?;
        if carried.refusal().is_some() {
            return None;
        }
        // In the middle of a conversation nobody is greeted.
        carried.begun = None;
        let mut taken = vec![false; to.list.len()];
        for from in self.stages.list.iter().filter(|stage| stage.instance.has_session()) {
            let place = (0..to.list.len()).find(|&place| {
                to.list.get(place).is_some_and(|stage| stage.instance.id() == from.instance.id())
                    && taken.get(place) == Some(&false)
            })?;
            *taken.get_mut(place)? = true;
            let state = self.save(from)?;
            let target = to.list.get(place)?;
            let (source, loader) = (from.instance.session_state?, target.instance.session_state?);
            let _guard = target.instance.guard().ok()?;
            let mut text = ErrorText::new();
            let state = resay_bytes { ptr: state.as_ptr(), len: state.len() };
            // SAFETY: an open session of this stage of which no call was made yet; the state lives during the call.
            let status = target.instance.enter(|| unsafe {
                (loader.load)(
                    target.instance.own,
                    carried.part(target),
                    source.schema,
                    state,
                    &mut text.as_abi(),
                )
            });
            if target.instance.check(status) != Status::Ok {
                return None;
            }
        }
        Some(carried)
    }

    /// What one stage remembers.
    fn save(&self, stage: &Stage) -> Option<Vec<u8>> {
        let state = stage.instance.session_state?;
        let _guard = stage.instance.guard().ok()?;
        let mut room = 256;
        while room <= SAVED_BYTES_MAX {
            let mut out = zeroed(room)?;
            let mut io = resay_io {
                struct_size: size_of::<resay_io>() as u32,
                flags: 0,
                input: ptr::null(),
                input_len: 0,
                input_used: 0,
                output: out.as_mut_ptr(),
                output_cap: room,
                output_len: 0,
                output_need: 0,
                delay_us: 0,
                copies: 0,
                zero: 0,
            };
            // SAFETY: the stage's own open session, which save() only reads, and a writable buffer.
            let code = stage.instance.enter(|| unsafe {
                (state.save)(stage.instance.own, self.part(stage).cast_const(), &mut io)
            });
            match stage.instance.check(code) {
                Status::Ok if io.output_len <= room => {
                    out.truncate(io.output_len);
                    return Some(out);
                }
                // It begins anew with more room.
                Status::MoreOut => room = io.output_need.max(room * 2),
                _ => return None,
            }
        }
        None
    }

    pub(crate) fn stages(&self) -> &Arc<Stages> {
        &self.stages
    }

    fn open_stages(&mut self, peer: &Conversation<'_>) -> std::result::Result<(), (usize, Fault)> {
        let (id, kind) = (peer.id, peer.kind().number());
        let mut described = None;
        for index in self.opened..self.stages.list.len() {
            let stage = &self.stages.list[index];
            let fields = match &stage.instance.callee {
                Callee::Table(table) => table.fields(),
                Callee::Function(_) => {
                    let begun = self.begin_function(index, peer).map_err(|fault| (index, fault))?;
                    if let Some(begun) = begun {
                        self.begun.get_or_insert_default().list.push(begun);
                    }
                    self.opened = index + 1;
                    continue;
                }
            };
            let Some(open) = fields.session_open else {
                self.opened = index + 1;
                continue;
            };
            let _guard = stage.instance.guard().map_err(|fault| (index, fault))?;
            let Described { local, peer, via, facts } = described.get_or_insert_with(|| Described::of(peer));
            let pointer = |text: &Option<CString>| text.as_ref().map_or(ptr::null(), |text| text.as_ptr());
            let described = resay_peer {
                struct_size: size_of::<resay_peer>() as u32,
                kind,
                id,
                local: pointer(local),
                peer: pointer(peer),
                listener: pointer(local),
                via: pointer(via),
                facts: facts.as_ref().map_or(ptr::null(), |facts| facts.as_ptr().cast()),
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

    /// Lets a function begin; what it had to say.
    fn begin_function(
        &self,
        index: usize,
        conversation: &Conversation<'_>,
    ) -> std::result::Result<Option<Begun>, Fault> {
        let stage = &self.stages.list[index];
        let Callee::Function(function) = &stage.instance.callee else { return Ok(None) };
        if function.layout().is_none() {
            return Ok(None);
        }
        let _guard = stage.instance.guard()?;
        let mut greeting = Vec::new();
        // SAFETY: the stage's own part of this session's memory, in which no session stands before it is opened.
        let begin = || unsafe { function.begin(self.part(stage), conversation, &mut greeting) };
        let (status, delay_us) = stage.instance.enter(begin);
        match status {
            Status::Failed(fault) => {
                stage.instance.note(&fault);
                Err(Fault::Refused(fault.to_string()))
            }
            Status::Ok if greeting.is_empty() => Ok(None),
            status => Ok(Some(Begun { stage: index, status, greeting, delay_us })),
        }
    }

    /// What a stage had to say when it began, once.
    pub(crate) fn take_begun(&mut self, stage: usize) -> Option<Begun> {
        let list = &mut self.begun.as_mut()?.list;
        let place = list.iter().position(|begun| begun.stage == stage)?;
        let begun = list.get_mut(place)?;
        let greeting = std::mem::take(&mut begun.greeting);
        let taken = Begun { stage, status: begun.status.clone(), greeting, delay_us: begun.delay_us };
        // One without a session is remembered, so that none is ended.
        if taken.status == Status::Ok {
            list.swap_remove(place);
        }
        Some(taken)
    }

    fn begun(&self) -> impl Iterator<Item = &Begun> {
        self.begun.iter().flat_map(|begun| &begun.list)
    }

    /// Whether a stage had something to say when it began that was not taken.
    pub(crate) fn has_begun(&self, stage: usize) -> bool {
        self.begun().any(|begun| begun.stage == stage)
    }

    /// A function that has refused to begin.
    pub(crate) fn refusal(&self) -> Option<&Begun> {
        self.begun().find(|begun| begun.status != Status::Ok)
    }

    /// Whether a stage is a function that has refused to begin: it has no session. Those before and behind it have.
    #[inline]
    fn has_refused(&self, stage: usize) -> bool {
        self.begun().any(|begun| begun.stage == stage && begun.status != Status::Ok)
    }

    fn close_stages(&mut self) {
        while let Some(index) = self.opened.checked_sub(1) {
            self.opened = index;
            let stage = &self.stages.list[index];
            if let Callee::Function(function) = &stage.instance.callee {
                if function.layout().is_some() && !self.has_refused(index) {
                    // SAFETY: a session of this stage stands there, and no call is made to it after this.
                    stage.instance.enter(|| unsafe { function.end(self.part(stage)) });
                }
                continue;
            }
            if let Some(close) = stage.instance.fields().and_then(|fields| fields.session_close) {
                let _guard = stage.instance.serial.as_ref().map(lock);
                // SAFETY: this stage saw session_open with the same memory, and sees nothing after this.
                stage.instance.enter(|| unsafe { close(stage.instance.own, self.part(stage)) });
            }
        }
        self.begun = None;
    }

    fn part(&self, stage: &Stage) -> *mut c_void {
        // SAFETY: the offset lies within the layout that the memory has.
        unsafe { self.memory.as_ptr().add(stage.offset) }.cast()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Events;
    use crate::peer::{Peer, SocketKind};
    use crate::transform::library::conversation::LocalEnd;
    use crate::transform::library::{Counters, Function, Message, Output, Services, Transform, Verdict};

    /// A session that has no size, and stands at multiples of 64 all the same.
    #[repr(align(64))]
    struct Nothing;

    struct Forgets;

    impl Function for Forgets {
        type Session = Nothing;

        fn begin(&self, _: &Conversation<'_>, _: &mut Output<'_>) -> std::result::Result<Nothing, Verdict> {
            Ok(Nothing)
        }

        fn call(&self, _: &mut Nothing, _: &Message<'_>, _: &mut Output<'_>) -> Verdict {
            Verdict::Pass
        }
    }

    fn services() -> Services {
        Services {
            events: Arc::new(Events::default()),
            counters: Arc::new(Counters::new()),
            times: Arc::default(),
        }
    }

    #[test]
    fn a_call_is_timed_once_and_a_quarantine_holds() {
        let services = services();
        let Transform(callee) = Transform::from_function("forgets", Forgets).unwrap();
        let instance = Instance::create(callee, &[], &services).unwrap();
        let timed = || services.times.read()[0].calls.iter().sum::<u64>();
        let call = || instance.guard_of_message().map(drop);
        for wanted in 1..=3 {
            instance.arm();
            assert!(!instance.is_unguarded());
            (0..3).for_each(|_| call().unwrap());
            assert_eq!((timed(), instance.is_unguarded()), (wanted, true));
        }
        // What is out of service is not put back by what is to be timed.
        instance.arm();
        instance.note(&Fault::Status(abi::RESAY_E_PANIC));
        (0..3).for_each(|_| assert_eq!(call(), Err(Fault::Quarantined)));
        instance.arm();
        assert_eq!((call(), instance.is_unguarded(), timed()), (Err(Fault::Quarantined), false, 3));
    }

    #[test]
    fn a_session_without_a_size_is_aligned() {
        let services = services();
        let Transform(callee) = Transform::from_function("forgets", Forgets).unwrap();
        let instance = Arc::new(Instance::create(callee, &[], &services).unwrap());
        let stages = Arc::new(Stages::new(vec![instance]).unwrap());
        let mut session = Session::unopened(&stages).unwrap();
        assert_eq!(session.part(&stages.list[0]).addr() % align_of::<Nothing>(), 0);
        let (kind, url, address) = (SocketKind::Tcp, String::new(), Peer::Unnamed);
        let local = LocalEnd { kind, url, listener: 0, address, answer_bytes_max: 16 };
        session.begin(&Conversation { local: &local, peer: &Peer::Unnamed, proxied: None, id: 1 }).unwrap();
    }
}
