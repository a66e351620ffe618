//! Transforms for tests, of which each does one thing: functions of the host's, without and with sessions, and tables
//! that do with `process` what no bundled transform does. Chains are written as always; what is no name of these is a
//! bundled transform.

use std::cell::RefCell;
use std::ffi::CStr;
use std::sync::Arc;
use std::time::Duration;

use resay_plugin::{Carry, Error, Io, Map, Process, Setup, Status, Table};

use crate::chain::{Chain, Generation};
use crate::event::Events;
use crate::transform::library::{
    Callee, Conversation, Counters, Function, Message, Output, Services, Transform, Verdict,
};
use crate::transform::registry::Registry;
use crate::transform::spec::{ChainSpec, Target};

/// How long what is `held` is held back, in microseconds.
pub(crate) const HELD_US: u64 = 1000;
/// What functions say at the end of a raw stream.
pub(crate) const TAIL: &[u8] = b"end";
/// What functions and tables greet with.
pub(crate) const GREETING: &[u8] = b"hi";
/// What `pieces` and `trickle` say, a byte a call.
pub(crate) const DIGITS: &[u8] = b"0123456789";
/// More room than an answer of a test may take.
const ROOM_MAX: usize = 1 << 30;

thread_local! {
    /// The tickets that functions have asked for and nobody has taken.
    static ASKED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// Takes the tickets that functions have asked for on this thread, in order.
pub(crate) fn take_asked() -> Vec<u64> {
    ASKED.take()
}

/// The generation of a chain for one worker.
pub(crate) fn generation(text: &str) -> Arc<Generation> {
    generations(text, 1).remove(0)
}

pub(crate) fn generations(text: &str, workers: usize) -> Vec<Arc<Generation>> {
    let services = Services {
        events: Arc::new(Events::default()),
        counters: Arc::new(Counters::new()),
        times: Arc::default(),
    };
    let spec = ChainSpec::parse(text).unwrap();
    let mut registry = Registry::new(Vec::new());
    let mut find = |target: &Target| {
        let own = if let Target::Name(name) = target { own(name) } else { None };
        own.unwrap_or_else(|| registry.find(target).unwrap())
    };
    let callees: Vec<_> = spec.stages.iter().map(|stage| find(&stage.target)).collect();
    Chain::create(&spec, &callees, &services).unwrap().generations(workers).unwrap()
}

fn own(name: &str) -> Option<Callee> {
    let function = |call: Call| Transform::from_fn(name, call).unwrap();
    let session =
        |begin: Begin, call: Call| Transform::from_function(name, Scripted { begin, call }).unwrap();
    let table = |table: &'static Table| Transform::from_table(table).unwrap();
    let transform = match name {
        "pass" => function(|_, _| Verdict::Pass),
        "add" => function(|message, out| replace(message, b"+", out)),
        "short" => function(|_, out| replace(b"s", b"", out)),
        "held" => function(|_, out| held(Verdict::Pass, out)),
        "late-x" => {
            function(|message, out| if is_x(message) { held(Verdict::Pass, out) } else { Verdict::Pass })
        }
        // Answers without bytes.
        "hush-x" => function(
            |message, out| if is_x(message) { held(Verdict::Replace, out) } else { Verdict::Replace },
        ),
        "quiet" => function(|_, _| Verdict::Drop),
        "quiet-x" => function(|message, _| if is_x(message) { Verdict::Drop } else { Verdict::Pass }),
        "last" => function(|message, out| last(message, out)),
        "last-x" => function(|message, out| if is_x(message) { last(message, out) } else { Verdict::Pass }),
        "breaks" => function(|_, _| Verdict::Reset),
        "fails" => function(|_, _| Verdict::Fail(-9)),
        "asks" => function(|_, out| later(out)),
        // With sessions: they hear of the end of a raw stream, and pass messages.
        "tail" => session(nothing, |message, out| at_end(message, out, Verdict::Replace)),
        "tail-pass" => session(nothing, |_, _| Verdict::Pass),
        "tail-quiet" => session(nothing, |message, out| at_end(message, out, Verdict::Drop)),
        "tail-last" => session(nothing, |message, out| at_end(message, out, Verdict::Close)),
        "tail-fails" => session(nothing, |message, out| at_end(message, out, Verdict::Fail(-9))),
        "tail-breaks" => session(nothing, |message, out| at_end(message, out, Verdict::Reset)),
        "tail-asks" => session(nothing, |message, out| at_end(message, out, Verdict::Later)),
        "tail-held" => session(nothing, |message, out| {
            let verdict = at_end(message, out, Verdict::Replace);
            if verdict == Verdict::Replace { held(verdict, out) } else { verdict }
        }),
        "session-quiet" => session(nothing, |_, _| Verdict::Drop),
        "session-last" => session(nothing, |message, out| last(message, out)),
        "session-fails" => session(nothing, |_, _| Verdict::Fail(-9)),
        "greets" => session(greet, |_, _| Verdict::Pass),
        "greets-held" => session(
            |out| {
                out.delay(HELD_US);
                greet(out)
            },
            |_, _| Verdict::Pass,
        ),
        "refuses" => session(|_| Err(Verdict::Drop), |_, _| Verdict::Pass),
        "refuses-politely" => session(|out| greet(out).and(Err(Verdict::Close)), |_, _| Verdict::Pass),
        "refuses-rudely" => session(|_| Err(Verdict::Reset), |_, _| Verdict::Pass),
        "cannot-begin" => session(|_| Err(Verdict::Fail(-9)), |_, _| Verdict::Pass),
        "greedy" => table(&GREEDY),
        "greedy-greeter" => table(&GREEDY_GREETER),
        "hoards" => table(&HOARDS),
        "pieces" => table(&PIECES),
        "trickle" => table(&TRICKLE),
        "echoes-late" => table(&ECHOES_LATE),
        "quiet-greeter" => table(&QUIET_GREETER),
        "own" => table(&OWN),
        "drip" => table(&DRIP),
        "fours" => table(&FOURS),
        "flags" => table(&FLAGS),
        "counts" => table(&COUNTS),
        "counts-anew" => table(&COUNTS_ANEW),
        "greets-at-length" => table(&GREETS_AT_LENGTH),
        "greets-in-vain" => table(&GREETS_IN_VAIN),
        "greets-and-closes" => table(&GREETS_AND_CLOSES),
        "greets-and-breaks" => table(&GREETS_AND_BREAKS),
        "greets-and-fails" => table(&GREETS_AND_FAILS),
        _ => return None,
    };
    Some(transform.0)
}

fn replace(message: &[u8], more: &[u8], out: &mut Output<'_>) -> Verdict {
    assert!(out.write(message) && out.write(more));
    Verdict::Replace
}

fn held(verdict: Verdict, out: &mut Output<'_>) -> Verdict {
    out.delay(HELD_US);
    verdict
}

fn last(message: &[u8], out: &mut Output<'_>) -> Verdict {
    replace(message, b".", out);
    Verdict::Close
}

fn is_x(message: &[u8]) -> bool {
    message.starts_with(b"x")
}

fn later(out: &mut Output<'_>) -> Verdict {
    let ticket = out.later().expect("a test that gives no issuer");
    ASKED.with_borrow_mut(|asked| asked.push(ticket));
    Verdict::Later
}

fn at_end(message: &Message<'_>, out: &mut Output<'_>, verdict: Verdict) -> Verdict {
    if message.flags & resay_plugin::abi::RESAY_IO_EOF == 0 {
        return Verdict::Pass;
    }
    if verdict == Verdict::Later {
        return later(out);
    }
    replace(message, TAIL, out);
    verdict
}

fn nothing(_: &mut Output<'_>) -> Result<(), Verdict> {
    Ok(())
}

fn greet(out: &mut Output<'_>) -> Result<(), Verdict> {
    assert!(out.write(GREETING));
    Ok(())
}

type Begin = fn(&mut Output<'_>) -> Result<(), Verdict>;
type Call = fn(&Message<'_>, &mut Output<'_>) -> Verdict;

struct Scripted {
    begin: Begin,
    call: Call,
}

impl Function for Scripted {
    type Session = ();

    fn begin(&self, _: &Conversation<'_>, out: &mut Output<'_>) -> Result<(), Verdict> {
        (self.begin)(out)
    }

    fn call(&self, (): &mut (), message: &Message<'_>, out: &mut Output<'_>) -> Verdict {
        (self.call)(message, out)
    }
}

static GREEDY: Table = Table::process::<Greedy>(c"greedy").build();
static GREEDY_GREETER: Table = Table::process::<Greedy>(c"greedy-greeter").greets().build();
static HOARDS: Table = Table::process::<Hoards>(c"hoards").build();
static PIECES: Table = Table::process::<Pieces>(c"pieces").greets().build();
static TRICKLE: Table = Table::process::<Trickle>(c"trickle").build();
static ECHOES_LATE: Table = Table::process::<EchoesLate>(c"echoes-late").build();
static QUIET_GREETER: Table = Table::process::<QuietGreeter>(c"quiet-greeter").greets().build();
static DRIP: Table = Table::process::<Drip>(c"drip").build();
static FOURS: Table = Table::process::<Fours>(c"fours").bound(1, 1, 0).build();
static FLAGS: Table = Table::process::<Flags>(c"flags").bound(1, 1, 1).build();
// Of one name, as two versions of one transform have.
static COUNTS: Table = Table::map::<Counts<1>>(c"counts").carries_sessions().build();
static COUNTS_ANEW: Table = Table::map::<Counts<2>>(c"counts").carries_sessions().build();
static GREETS_AT_LENGTH: Table = Table::process::<AtLength>(c"greets-at-length").greets().build();
static GREETS_IN_VAIN: Table = greeter::<{ Status::Drop as i32 }>();
static GREETS_AND_CLOSES: Table = greeter::<{ Status::Close as i32 }>();
static GREETS_AND_BREAKS: Table = greeter::<{ Status::Reset as i32 }>();
static GREETS_AND_FAILS: Table = greeter::<{ Status::BadData as i32 }>();
static OWN: Table = Table::process::<QuietGreeter>(c"own").per_worker().build();

macro_rules! transform {
    ($(#[$doc:meta])* $name:ident, $session:ty) => {
        $(#[$doc])*
        struct $name;

        impl resay_plugin::Transform for $name {
            type Session = $session;

            fn create(_: &Setup<'_>) -> Result<Self, Error> {
                Ok($name)
            }
        }
    };
}

transform!(
    /// Asks for more room than there ever is.
    Greedy,
    ()
);

impl Process for Greedy {
    fn process(&self, _: resay_plugin::Call<'_, ()>, io: &mut Io<'_>) -> Status {
        io.need(ROOM_MAX);
        Status::MoreOut
    }
}

transform!(
    /// Waits for more input until the end, which it answers with all of it.
    Hoards,
    ()
);

impl Process for Hoards {
    fn process(&self, _: resay_plugin::Call<'_, ()>, io: &mut Io<'_>) -> Status {
        if !io.ends_stream() {
            return Status::MoreIn;
        }
        if io.lacks_room(io.input().len()) {
            return Status::MoreOut;
        }
        let input = io.take();
        io.write_all(input);
        Status::Ok
    }
}

transform!(
    /// Greets with digits, a byte a call, and passes everything else.
    Pieces,
    usize
);

impl Process for Pieces {
    fn process(&self, call: resay_plugin::Call<'_, usize>, io: &mut Io<'_>) -> Status {
        if !io.input().is_empty() || io.ends_stream() || *call.session == DIGITS.len() {
            return pass(io);
        }
        digit(call.session, io)
    }
}

transform!(
    /// Passes everything, and says digits at the end of a stream, a byte a call.
    Trickle,
    usize
);

impl Process for Trickle {
    fn process(&self, call: resay_plugin::Call<'_, usize>, io: &mut Io<'_>) -> Status {
        if io.is_only_end() { digit(call.session, io) } else { pass(io) }
    }
}

transform!(
    /// Takes its input at once, and answers it in the call after that.
    EchoesLate,
    Vec<u8>
);

impl Process for EchoesLate {
    fn process(&self, call: resay_plugin::Call<'_, Vec<u8>>, io: &mut Io<'_>) -> Status {
        let input = io.take();
        if !input.is_empty() {
            call.session.extend_from_slice(input);
            return Status::MoreOut;
        }
        if io.lacks_room(call.session.len()) {
            return Status::MoreOut;
        }
        io.write_all(&std::mem::take(call.session));
        Status::Ok
    }
}

transform!(
    /// Drops its own greeting, and passes everything else.
    QuietGreeter,
    ()
);

impl Process for QuietGreeter {
    fn process(&self, _: resay_plugin::Call<'_, ()>, io: &mut Io<'_>) -> Status {
        if io.input().is_empty() { Status::Drop } else { pass(io) }
    }
}

transform!(
    /// Each four bytes are a piece that waits for as many milliseconds as they begin with, or for an hour: `x`.
    Drip,
    ()
);

impl Process for Drip {
    fn process(&self, _: resay_plugin::Call<'_, ()>, io: &mut Io<'_>) -> Status {
        let piece = io.input().get(..4).unwrap_or(io.input());
        if io.lacks_room(piece.len()) {
            return Status::MoreOut;
        }
        let digits = piece.iter().take_while(|byte| byte.is_ascii_digit());
        let millis = digits.fold(0, |millis, digit| millis * 10 + u64::from(digit - b'0'));
        io.delay(if is_x(piece) { Duration::from_secs(3600) } else { Duration::from_millis(millis) });
        io.consume(piece.len());
        io.write_all(piece);
        if io.input().is_empty() { Status::Ok } else { Status::MoreOut }
    }
}

transform!(
    /// Passes four bytes at a time; what is less waits for the rest, or for the end.
    Fours,
    ()
);

impl Process for Fours {
    fn process(&self, _: resay_plugin::Call<'_, ()>, io: &mut Io<'_>) -> Status {
        let len = io.input().len();
        let count = if io.ends_stream() { len } else { len / 4 * 4 };
        if io.lacks_room(count) {
            return Status::MoreOut;
        }
        let fours = &io.input()[..count];
        io.consume(count);
        io.write_all(fours);
        if count < len { Status::MoreIn } else { Status::Ok }
    }
}

transform!(
    /// Says in front of each message how much of it the call has: 1 for its beginning and 2 for its end.
    Flags,
    ()
);

impl Process for Flags {
    fn process(&self, _: resay_plugin::Call<'_, ()>, io: &mut Io<'_>) -> Status {
        let len = io.input().len();
        if len == 0 {
            return Status::Ok;
        }
        if io.lacks_room(len + 1) {
            return Status::MoreOut;
        }
        let flags = u8::from(io.begins_message()) + 2 * u8::from(io.ends_message());
        let message = io.take();
        io.write_all(&[b'0' + flags]);
        io.write_all(message);
        Status::Ok
    }
}

/// Puts the number of a conversation's message, below ten, in place of its first byte.
struct Counts<const VERSION: u8>;

impl<const VERSION: u8> resay_plugin::Transform for Counts<VERSION> {
    type Session = u8;

    fn create(_: &Setup<'_>) -> Result<Self, Error> {
        Ok(Counts)
    }
}

impl<const VERSION: u8> Map for Counts<VERSION> {
    fn map(&self, call: resay_plugin::Call<'_, u8>, data: &mut [u8]) -> Status {
        *call.session += 1;
        data[0] = b'0' + *call.session;
        Status::Ok
    }
}

impl<const VERSION: u8> Carry for Counts<VERSION> {
    const SCHEMA: &'static CStr = if VERSION == 1 { c"count/1" } else { c"count/2" };

    fn save(&self, session: &u8, io: &mut Io<'_>) -> Status {
        if io.write_all(&[*session]) { Status::Ok } else { Status::MoreOut }
    }

    fn load(&self, session: &mut u8, schema: &CStr, state: &[u8]) -> Result<(), Error> {
        if schema != Self::SCHEMA {
            return Err(Error::unsupported("another schema"));
        }
        *session = state[0];
        Ok(())
    }
}

transform!(
    /// Greets with more than is lent for it at first, and passes everything else.
    AtLength,
    usize
);

/// What [`AtLength`] says.
pub(crate) fn long_greeting() -> Vec<u8> {
    (b'a'..=b'z').cycle().take(3000).collect()
}

impl Process for AtLength {
    fn process(&self, call: resay_plugin::Call<'_, usize>, io: &mut Io<'_>) -> Status {
        if !is_greeting(io) {
            return pass(io);
        }
        let greeting = long_greeting();
        *call.session += io.write(&greeting[*call.session..]);
        if *call.session < greeting.len() { Status::MoreOut } else { Status::Ok }
    }
}

/// Has something to say first, with a status of its own, and passes everything else.
struct Greeter<const STATUS: i32>;

const fn greeter<const STATUS: i32>() -> Table {
    Table::process::<Greeter<STATUS>>(c"greeter").greets().build()
}

impl<const STATUS: i32> resay_plugin::Transform for Greeter<STATUS> {
    type Session = ();

    fn create(_: &Setup<'_>) -> Result<Self, Error> {
        Ok(Greeter)
    }
}

impl<const STATUS: i32> Process for Greeter<STATUS> {
    fn process(&self, _: resay_plugin::Call<'_, ()>, io: &mut Io<'_>) -> Status {
        if !is_greeting(io) {
            return pass(io);
        }
        if io.lacks_room(GREETING.len()) {
            return Status::MoreOut;
        }
        io.write_all(GREETING);
        let all = [Status::Drop, Status::Close, Status::Reset, Status::BadData];
        all.into_iter().find(|status| status.code() == STATUS).unwrap()
    }
}

/// Nobody has said anything yet.
fn is_greeting(io: &Io<'_>) -> bool {
    io.input().is_empty() && !io.is_last()
}

fn pass(io: &mut Io<'_>) -> Status {
    let count = io.input().len().min(io.room());
    let bytes = io.input().get(..count).unwrap_or_default();
    io.consume(count);
    io.write_all(bytes);
    if io.input().is_empty() { Status::Ok } else { Status::MoreOut }
}

fn digit(said: &mut usize, io: &mut Io<'_>) -> Status {
    let Some(digit) = DIGITS.get(*said..=*said) else { return Status::Ok };
    io.write_all(digit);
    *said += 1;
    if *said == DIGITS.len() { Status::Ok } else { Status::MoreOut }
}
