//! The transforms of the simulation, behind tables as those of plugins are.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ffi::CStr;
use std::time::Duration;

use resay_plugin::{Call, Carry, Error, Io, Map, OptionSpec, Process, Setup, Status, Table, Transform};

use super::stages::{self, ALL_KINDS, GREETING, HELLO_TEXT, Kind, Memory, RAW_KINDS, Stage, Verdict};
use crate::later::{LateAnswer, LateVerdict};
use crate::transform::library::{self, Message, Output};

thread_local! {
    /// Instances and sessions that there are: each is to be given back once.
    static INSTANCES: Cell<i64> = const { Cell::new(0) };
    static SESSIONS: Cell<i64> = const { Cell::new(0) };
    /// Whether functions answer some messages later, and the answers that are to come.
    static PUTS_OFF: Cell<bool> = const { Cell::new(false) };
    static TO_COME: RefCell<Vec<LateAnswer>> = const { RefCell::new(Vec::new()) };
}

/// Lets functions answer some messages later, or not, and forgets what is to come.
pub(super) fn put_off(puts_off: bool) {
    PUTS_OFF.set(puts_off);
    TO_COME.take();
}

/// The answers that are to come.
pub(super) fn to_come() -> usize {
    TO_COME.with_borrow(Vec::len)
}

pub(super) fn take_to_come(place: usize) -> LateAnswer {
    TO_COME.with_borrow_mut(|answers| answers.remove(place))
}

pub(super) fn keep_to_come(answer: LateAnswer) {
    TO_COME.with_borrow_mut(|answers| answers.push(answer));
}

/// Instances and sessions of this thread that are not given back.
pub(super) fn living() -> (i64, i64) {
    (INSTANCES.get(), SESSIONS.get())
}

/// What a chain's stage is made of. Functions have no options: one is made for each chain.
pub(super) fn callee(stage: &Stage) -> library::Callee {
    if stage.kind == Kind::Function {
        let own = *stage;
        let call = move |message: &Message<'_>, out: &mut Output<'_>| {
            let acted = stages::act(&own, 0, message);
            let is_put_off = PUTS_OFF.get() && !(message.len() + usize::from(own.key)).is_multiple_of(3);
            if let Some(ticket) = out.later().filter(|_| is_put_off) {
                let verdict = match acted.verdict {
                    Verdict::Answer => LateVerdict::Answer,
                    Verdict::Drop => LateVerdict::Drop,
                    Verdict::Close => LateVerdict::Close,
                    Verdict::Reset => LateVerdict::Reset,
                    Verdict::Fail => LateVerdict::Fail(Status::BadData.code()),
                };
                keep_to_come(LateAnswer { ticket, verdict, bytes: acted.bytes() });
                return library::Verdict::Later;
            }
            out.write(&acted.bytes());
            match acted.verdict {
                Verdict::Answer => library::Verdict::Replace,
                Verdict::Drop => library::Verdict::Drop,
                Verdict::Close => library::Verdict::Close,
                Verdict::Reset => library::Verdict::Reset,
                Verdict::Fail => library::Verdict::Fail(Status::BadData.code()),
            }
        };
        return library::Transform::from_fn(&stage.to_string(), call).unwrap().0;
    }
    let table = match stage.kind {
        Kind::Map => &MAP,
        Kind::CountedMap => &COUNTED_MAP,
        Kind::Plain => &PLAIN,
        Kind::Counted => &COUNTED,
        Kind::Keeps => &KEEPS,
        Kind::Greets => &GREETS,
        Kind::Blocks => &BLOCKS,
        Kind::Function => unreachable!("made above"),
        Kind::Bytes => &BYTES,
        Kind::Position => &POSITION,
        Kind::Double => &DOUBLE,
        Kind::Thin => &THIN,
        Kind::Late => &LATE,
        Kind::Triples => &TRIPLES,
        Kind::Trailer => &TRAILER,
        Kind::Hello => &HELLO,
        Kind::Slow => &SLOW,
        Kind::Ends => &ENDS,
    };
    library::Transform::from_table(table).unwrap().0
}

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::integer(c"kind", c"the place in the list of kinds"),
    OptionSpec::integer(c"index", c"the messages that it obeys"),
    OptionSpec::integer(c"key", c"how far letters move"),
    OptionSpec::integer(c"param", c"milliseconds, or a byte's number"),
];

static MAP: Table = Table::map::<Stateless>(c"sim-map").options(OPTIONS).build();
static COUNTED_MAP: Table =
    Table::map::<Stateful>(c"sim-counted-map").options(OPTIONS).carries_sessions().build();
static PLAIN: Table = Table::process::<Stateless>(c"sim-plain").options(OPTIONS).build();
static COUNTED: Table =
    Table::process::<Stateful>(c"sim-counted").options(OPTIONS).carries_sessions().bound(1, 1, 0).build();
static KEEPS: Table = Table::process::<Stateful>(c"sim-keeps").options(OPTIONS).build();
static GREETS: Table =
    Table::process::<Stateful>(c"sim-greets").options(OPTIONS).carries_sessions().greets().build();
static BLOCKS: Table =
    Table::process::<Stateful>(c"sim-blocks").options(OPTIONS).carries_sessions().may_block().build();
static BYTES: Table = Table::map::<Stateless>(c"raw-bytes").options(OPTIONS).bytewise().build();
static POSITION: Table = Table::map::<Stateful>(c"raw-position").options(OPTIONS).carries_sessions().build();
static DOUBLE: Table = Table::process::<Stateless>(c"raw-double").options(OPTIONS).build();
static THIN: Table = Table::process::<Stateless>(c"raw-thin").options(OPTIONS).build();
static LATE: Table = Table::process::<Stateless>(c"raw-late").options(OPTIONS).bound(1, 1, 0).build();
static TRIPLES: Table = Table::process::<Stateless>(c"raw-triples").options(OPTIONS).build();
static TRAILER: Table = Table::process::<Stateless>(c"raw-trailer").options(OPTIONS).build();
static HELLO: Table = Table::process::<Stateless>(c"raw-hello").options(OPTIONS).greets().build();
static SLOW: Table = Table::process::<Stateless>(c"raw-slow").options(OPTIONS).may_block().build();
static ENDS: Table = Table::process::<Stateful>(c"raw-ends").options(OPTIONS).build();

/// An instance, counted.
struct Instance(Stage);

impl Instance {
    fn create(setup: &Setup<'_>) -> Result<Instance, Error> {
        let kind: usize = setup.options.integer("kind")?;
        let stage = Stage {
            kind: ALL_KINDS[kind],
            index: setup.options.integer("index")?,
            key: setup.options.integer("key")?,
            param: setup.options.integer("param")?,
        };
        INSTANCES.set(INSTANCES.get() + 1);
        Ok(Instance(stage))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        INSTANCES.set(INSTANCES.get() - 1);
    }
}

/// Remembers nothing between two calls.
struct Stateless(Instance);

impl Transform for Stateless {
    type Session = ();

    fn create(setup: &Setup<'_>) -> Result<Self, Error> {
        Instance::create(setup).map(Stateless)
    }
}

impl Map for Stateless {
    fn map(&self, _: Call<'_, ()>, data: &mut [u8]) -> Status {
        map(&self.0.0, &mut Memory::default(), data)
    }
}

impl Process for Stateless {
    fn process(&self, _: Call<'_, ()>, io: &mut Io<'_>) -> Status {
        let stage = &self.0.0;
        if RAW_KINDS.contains(&stage.kind) {
            return process_raw(stage, &mut Memory::default(), io);
        }
        let acted = stages::act(stage, 0, io.input());
        let bytes = acted.bytes();
        if io.lacks_room(bytes.len()) {
            return Status::MoreOut;
        }
        io.take();
        io.write_all(&bytes);
        io.delay(Duration::from_millis(acted.delay_ms()));
        status(acted.verdict)
    }
}

/// What a conversation remembers.
struct Session {
    memory: Memory,
    /// Parts of the answer that are not given yet, and what comes after the last.
    waiting: VecDeque<(Vec<u8>, u64)>,
    verdict: Verdict,
}

impl Default for Session {
    fn default() -> Session {
        SESSIONS.set(SESSIONS.get() + 1);
        Session { memory: Memory::default(), waiting: VecDeque::new(), verdict: Verdict::Answer }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        SESSIONS.set(SESSIONS.get() - 1);
    }
}

/// Counts what came before.
struct Stateful(Instance);

impl Transform for Stateful {
    type Session = Session;

    fn create(setup: &Setup<'_>) -> Result<Self, Error> {
        Instance::create(setup).map(Stateful)
    }
}

impl Map for Stateful {
    fn map(&self, call: Call<'_, Session>, data: &mut [u8]) -> Status {
        map(&self.0.0, &mut call.session.memory, data)
    }
}

impl Process for Stateful {
    fn process(&self, call: Call<'_, Session>, io: &mut Io<'_>) -> Status {
        let stage = &self.0.0;
        let session = call.session;
        if RAW_KINDS.contains(&stage.kind) {
            return process_raw(stage, &mut session.memory, io);
        }
        if session.waiting.is_empty() {
            let greets = stage.kind.greets() && !io.is_last() && io.input().is_empty();
            if greets {
                session.waiting.push_back((GREETING.to_vec(), 0));
                session.verdict = Verdict::Answer;
            } else {
                let acted = stages::act(stage, session.memory.seen, io.take());
                session.memory.seen += 1;
                session.verdict = acted.verdict;
                if matches!(acted.verdict, Verdict::Answer | Verdict::Close) {
                    session.waiting.extend(acted.parts);
                } else {
                    return status(acted.verdict);
                }
            }
        }
        // One part a call, for each has a time of its own.
        let Some((bytes, delay_ms)) = session.waiting.front() else { return status(session.verdict) };
        if io.lacks_room(bytes.len()) {
            return Status::MoreOut;
        }
        io.write_all(bytes);
        io.delay(Duration::from_millis(*delay_ms));
        session.waiting.pop_front();
        if session.waiting.is_empty() { status(session.verdict) } else { Status::MoreOut }
    }
}

impl Carry for Stateful {
    const SCHEMA: &'static CStr = c"simulation.count/1";

    fn save(&self, session: &Session, io: &mut Io<'_>) -> Status {
        assert!(session.waiting.is_empty(), "a swap comes between two messages");
        if io.lacks_room(8) {
            return Status::MoreOut;
        }
        io.write_all(&session.memory.seen.to_be_bytes());
        Status::Ok
    }

    fn load(&self, session: &mut Session, schema: &CStr, state: &[u8]) -> Result<(), Error> {
        assert_eq!(schema, Self::SCHEMA);
        session.memory.seen = u64::from_be_bytes(state.try_into().unwrap());
        Ok(())
    }
}

fn status(verdict: Verdict) -> Status {
    match verdict {
        Verdict::Answer => Status::Ok,
        Verdict::Drop => Status::Drop,
        Verdict::Close => Status::Close,
        Verdict::Reset => Status::Reset,
        Verdict::Fail => Status::BadData,
    }
}

fn map(stage: &Stage, memory: &mut Memory, data: &mut [u8]) -> Status {
    if RAW_KINDS.contains(&stage.kind) {
        let (bytes, verdict) = stages::answer_next(stage, memory, data, false);
        data.copy_from_slice(&bytes);
        return status(verdict);
    }
    let acted = stages::act(stage, memory.seen, data);
    memory.seen += 1;
    data.copy_from_slice(&acted.bytes());
    status(acted.verdict)
}

/// As much of a raw stream as there is room for.
fn process_raw(stage: &Stage, memory: &mut Memory, io: &mut Io<'_>) -> Status {
    let input = io.input();
    let is_opening = stage.kind.greets() && input.is_empty() && !io.ends_stream();
    if is_opening {
        return if io.write_all(HELLO_TEXT) { Status::Ok } else { ask_for(io, HELLO_TEXT.len()) };
    }
    let fits = match stage.kind {
        Kind::Double => io.room() / 2,
        Kind::Triples => io.room() / 3 * 3,
        _ => io.room(),
    };
    let mut count = input.len().min(fits);
    let is_end = io.ends_stream() && count == input.len();
    if stage.kind == Kind::Triples && !is_end {
        count = count / 3 * 3;
    }
    if stage.kind == Kind::Trailer && is_end && io.room() < count + 3 {
        return ask_for(io, count + 3);
    }
    let (bytes, verdict) = stages::answer_next(stage, memory, &input[..count], is_end);
    io.consume(count);
    io.write_all(&bytes);
    if stage.kind == Kind::Late {
        io.delay(Duration::from_millis(stages::lateness_ms(stage, count)));
    }
    match (verdict, input.len() - count) {
        (Verdict::Answer, 0) => Status::Ok,
        (Verdict::Answer, rest) if stage.kind == Kind::Triples && rest < 3 && !io.ends_stream() => {
            Status::MoreIn
        }
        (Verdict::Answer, rest) => ask_for(io, 3 * rest),
        (verdict, _) => status(verdict),
    }
}

fn ask_for(io: &mut Io<'_>, room: usize) -> Status {
    io.need(room);
    Status::MoreOut
}
