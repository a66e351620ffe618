//! Chains without connections: what functions of the host's and tables make of a message, and of a raw stream.

pub(crate) mod kit;

use std::sync::Arc;

use kit::{DIGITS, HELD_US, generation, generations, take_asked};
use resay_plugin::abi;

use super::*;
use crate::later::{Owner, TicketIssuer, Tickets};
use crate::limits::SCRATCH_BYTES_MAX;
use crate::peer::{Peer, SocketKind};
use crate::slab::Token;
use crate::transform::library::{CallContext, Conversation, Fault, LocalEnd, Session};

/// A chain with a conversation in it.
struct Bench {
    generation: Arc<Generation>,
    session: Session,
    scratch: Scratch,
    local: LocalEnd,
    tickets: Arc<Tickets>,
    /// Of the messages before.
    waiting_stages: u64,
    answer_bytes_max: usize,
    /// What stages of a raw stream have in hand.
    kept: Option<Box<StreamInput>>,
}

/// What came of a call.
#[derive(Debug)]
struct Came {
    outcome: ChainOutcome,
    answer: Vec<u8>,
    delays: Vec<DelayedRange>,
    /// For the whole of an answer that was made in place.
    delay_us: u64,
    deferred: Option<Deferred>,
}

/// What came of a piece of a raw stream.
#[derive(Debug, PartialEq, Eq)]
struct Streamed {
    outcome: ChainOutcome,
    answer: Vec<u8>,
    delays: Vec<DelayedRange>,
    is_done: bool,
}

impl Bench {
    fn new(chain: &str) -> Bench {
        let generation = generation(chain);
        let local = LocalEnd {
            kind: SocketKind::Tcp,
            url: String::new(),
            listener: 1,
            address: Peer::Unnamed,
            answer_bytes_max: 1000,
        };
        let conversation = Conversation { local: &local, peer: &Peer::Unnamed, proxied: None, id: 1 };
        let session = Session::open(generation.stages(), &conversation).unwrap();
        Bench {
            generation,
            session,
            scratch: Scratch::default(),
            local,
            tickets: Arc::default(),
            waiting_stages: 0,
            answer_bytes_max: 1000,
            kept: None,
        }
    }

    /// Calls a chain for a message, and takes its answer from where it stands. `out`: what there is before it.
    fn message(
        &mut self,
        flags: u32,
        out: &[u8],
        run: impl FnOnce(&Generation, &mut ChainContext<'_>) -> ChainOutcome,
    ) -> Came {
        let issuer = TicketIssuer {
            tickets: &self.tickets,
            owner: Owner { worker: 0, socket: Token::new(0, 0) },
            waiting_bytes_max: 1000,
            order: None,
        };
        let conversation = Conversation { local: &self.local, peer: &Peer::Unnamed, proxied: None, id: 1 };
        let (mut answer, mut delays) = (out.to_vec(), Vec::new());
        let mut cx = ChainContext {
            session: &mut self.session,
            call: CallContext { conversation, issuer: Some(&issuer) },
            out: &mut answer,
            out_max: self.answer_bytes_max,
            flags,
            scratch: &mut self.scratch,
            delays: &mut delays,
            delay_us: 0,
            waiting_stages: self.waiting_stages,
            deferred: None,
        };
        let outcome = run(&self.generation, &mut cx);
        let (delay_us, deferred) = (cx.delay_us, cx.deferred);
        Came { outcome, answer, delays, delay_us, deferred }
    }

    /// Sends a whole message through.
    fn run(&mut self, message: &[u8]) -> Came {
        let mut bytes = message.to_vec();
        let mut came = self.message(WHOLE, b"", |generation, cx| generation.run(&mut bytes, cx));
        if self.generation.is_in_place() && matches!(came.outcome, ChainOutcome::Answer | ChainOutcome::Close)
        {
            assert_eq!(came.answer, b"");
            came.answer = self.scratch.replaced().unwrap_or(&bytes).to_vec();
        }
        came
    }

    fn end_stream(&mut self) -> Came {
        self.message(abi::RESAY_IO_EOF, b"", Generation::end_stream)
    }

    fn stream(
        &mut self,
        room: usize,
        at_end: bool,
        out: &[u8],
        run: impl FnOnce(&Generation, &mut Option<Box<StreamInput>>, &mut StreamContext<'_>) -> StreamOutcome,
    ) -> Streamed {
        let conversation = Conversation { local: &self.local, peer: &Peer::Unnamed, proxied: None, id: 1 };
        let (mut answer, mut delays) = (out.to_vec(), Vec::new());
        let StreamOutcome { outcome, is_done } = run(
            &self.generation,
            &mut self.kept,
            &mut StreamContext {
                session: &mut self.session,
                call: CallContext { conversation, issuer: None },
                out: &mut answer,
                out_len_max: out.len() + room,
                unread_max: self.answer_bytes_max,
                scratch: &mut self.scratch,
                delays: &mut delays,
                at_end,
            },
        );
        Streamed { outcome, answer, delays, is_done }
    }

    /// Sends on what a read has brought, as far as there is room.
    fn read(&mut self, bytes: &[u8], room: usize) -> Streamed {
        let mut bytes = bytes.to_vec();
        self.stream(room, false, b"", |generation, kept, cx| generation.stream(&mut bytes, kept, cx))
    }

    fn end(&mut self, room: usize) -> Streamed {
        self.stream(room, true, b"", |generation, kept, cx| generation.stream(&mut [], kept, cx))
    }

    fn stream_greeting(&mut self, stage: usize) -> Streamed {
        self.stream(1000, false, b"", |generation, kept, cx| generation.stream_greeting(stage, kept, cx))
    }
}

fn failed(stage: usize, fault: Fault) -> ChainOutcome {
    ChainOutcome::Failed { stage, fault }
}

fn all_of(answer: &[u8]) -> Vec<DelayedRange> {
    vec![DelayedRange { end: answer.len(), delay_us: HELD_US }]
}

#[test]
fn a_message_through_functions() {
    for (chain, outcome, answer) in [
        ("pass", ChainOutcome::Answer, "a"),
        ("add | add", ChainOutcome::Answer, "a++"),
        ("add | hex | add", ChainOutcome::Answer, "612b+"),
        ("hex | uppercase | pass", ChainOutcome::Answer, "61"),
        ("last | add", ChainOutcome::Close, "a.+"),
        ("quiet | add", ChainOutcome::Drop, ""),
        ("last | quiet", ChainOutcome::DropAndClose, ""),
        ("hex | last | quiet", ChainOutcome::DropAndClose, ""),
        ("breaks | add", ChainOutcome::Reset, ""),
        ("pass | fails", failed(1, Fault::Status(-9)), ""),
        ("greedy", failed(0, Fault::TooLong), ""),
    ] {
        let came = Bench::new(chain).run(b"a");
        assert_eq!(came.outcome, outcome, "{chain}");
        assert_eq!(came.answer, answer.as_bytes(), "{chain}");
        assert!(came.delays.is_empty() && came.delay_us == 0 && came.deferred.is_none(), "{chain}");
    }
}

#[test]
fn an_answer_longer_than_allowed_fails_its_message() {
    let mut bench = Bench::new("hex");
    bench.answer_bytes_max = 4;
    assert_eq!(bench.run(b"ab").answer, b"6162");
    assert_eq!(bench.run(b"abc").outcome, failed(0, Fault::TooLong));
    assert_eq!(bench.run(b"abc").answer, b"");
}

/// An answer that was made in place is held back as a whole; ranges of one that was not each wait for longer.
#[test]
fn functions_hold_answers_back() {
    for (chain, delay_us, delays) in [
        ("held", HELD_US, vec![]),
        ("held | add | held", 2 * HELD_US, vec![]),
        ("hex | held", 0, vec![(2, HELD_US)]),
        ("held | hex | add", 0, vec![(3, HELD_US)]),
        ("held | hex | short", 0, vec![(1, HELD_US)]),
        ("hex | held | short", 0, vec![(1, HELD_US)]),
        ("delay:time=5ms | held | short", 0, vec![(1, 5000 + HELD_US)]),
        ("delay:time=5ms | held", 0, vec![(1, 5000 + HELD_US)]),
        ("delay:time=5ms | held | add", 0, vec![(2, 5000 + HELD_US)]),
    ] {
        let came = Bench::new(chain).run(b"a");
        assert_eq!(came.outcome, ChainOutcome::Answer, "{chain}");
        assert_eq!(came.delay_us, delay_us, "{chain}");
        let ranges: Vec<_> = came.delays.iter().map(|range| (range.end, range.delay_us)).collect();
        assert_eq!(ranges, delays, "{chain}");
    }
}

#[test]
fn a_message_goes_on_with_the_answer_that_came_later() {
    for (chain, outcome, answer, is_held) in [
        ("asks", ChainOutcome::Answer, "b", false),
        ("asks | add", ChainOutcome::Answer, "b+", false),
        ("asks | held", ChainOutcome::Answer, "b", true),
        ("asks | hex", ChainOutcome::Answer, "62", false),
        ("asks | last", ChainOutcome::Close, "b.", false),
        ("asks | quiet", ChainOutcome::Drop, "", false),
    ] {
        let mut bench = Bench::new(chain);
        let came = bench.run(b"a");
        assert_eq!(came.outcome, ChainOutcome::Later { closes: false }, "{chain}");
        assert_eq!(take_asked().len(), 1, "{chain}");
        let deferred = came.deferred.unwrap();
        assert!(matches!((deferred.stage, deferred.answer), (0, DeferredAnswer::ToCome(_))), "{chain}");
        let came = bench.message(WHOLE, b"", |generation, cx| generation.resume(0, &mut b"b".to_vec(), cx));
        assert_eq!((came.outcome, &*came.answer), (outcome, answer.as_bytes()), "{chain}");
        assert_eq!(came.delays, if is_held { all_of(b"b") } else { Vec::new() }, "{chain}");
    }
}

/// What a message that waits at a function has in hand goes on from there, in its turn.
#[test]
fn messages_wait_at_a_function_behind_those_before_them() {
    for (chain, given) in [("add | pass", "a+"), ("hex | add | pass", "61+"), ("hex | pass | pass", "61")] {
        let mut bench = Bench::new(chain);
        let last = bench.generation.last_stage();
        bench.waiting_stages = stage_bit(last - 1);
        let came = bench.run(b"a");
        assert_eq!(
            (came.outcome, &*came.answer),
            (ChainOutcome::Later { closes: false }, &b""[..]),
            "{chain}"
        );
        let deferred = came.deferred.unwrap();
        assert_eq!(deferred.stage, last - 1, "{chain}");
        assert!(
            matches!(deferred.answer, DeferredAnswer::Given(bytes) if bytes == given.as_bytes()),
            "{chain}"
        );
        // Behind the last stage they are put in order anyway.
        bench.waiting_stages = stage_bit(last);
        assert_eq!(bench.run(b"a").outcome, ChainOutcome::Answer, "{chain}");
    }
}

/// The end of a raw stream in a chain that works in place: functions with sessions hear of it, and what one says goes
/// through those behind it.
#[test]
fn functions_hear_of_the_end_of_a_stream() {
    for (chain, outcome, answer) in [
        ("tail", ChainOutcome::Answer, "end"),
        ("uppercase | tail", ChainOutcome::Answer, "end"),
        ("tail | uppercase", ChainOutcome::Answer, "END"),
        ("add | tail", ChainOutcome::Answer, "end"),
        ("tail | add", ChainOutcome::Answer, "end+"),
        ("tail | tail", ChainOutcome::Answer, "endend"),
        ("tail | tail | tail-pass", ChainOutcome::Answer, "endend"),
        ("tail | tail-quiet", ChainOutcome::Answer, ""),
        ("tail-quiet | tail", ChainOutcome::Answer, "end"),
        ("tail-quiet | tail-pass | uppercase", ChainOutcome::Answer, ""),
        ("tail-last | tail", ChainOutcome::Close, "endend"),
        ("tail-breaks | tail", ChainOutcome::Reset, ""),
        ("tail | tail-fails", failed(1, Fault::Status(-9)), ""),
    ] {
        let came = Bench::new(chain).end_stream();
        assert_eq!((came.outcome, &*came.answer), (outcome, answer.as_bytes()), "{chain}");
        assert!(came.delays.is_empty() && came.deferred.is_none(), "{chain}");
    }
    assert_eq!(Bench::new("tail-held").end_stream().delays, all_of(b"end"));
    assert_eq!(Bench::new("tail-held | tail-quiet").end_stream().delays, []);
    // Behind what waits already.
    let came = Bench::new("tail-held").message(abi::RESAY_IO_EOF, b"ab", Generation::end_stream);
    let ranges = [(2, 0), (5, HELD_US)].map(|(end, delay_us)| DelayedRange { end, delay_us });
    assert_eq!((&*came.answer, &*came.delays), (&b"abend"[..], &ranges[..]));
}

#[test]
fn what_a_function_says_at_the_end_may_come_later() {
    let mut bench = Bench::new("tail-asks | tail | uppercase");
    let came = bench.end_stream();
    assert_eq!(came.outcome, ChainOutcome::Later { closes: true });
    assert_eq!(came.deferred.unwrap().stage, 0);
    let resume = |generation: &Generation, cx: &mut ChainContext<'_>| {
        generation.resume(0, &mut b"that is all, ".to_vec(), cx)
    };
    let came = bench.message(abi::RESAY_IO_EOF, b"", resume);
    assert_eq!((came.outcome, &*came.answer), (ChainOutcome::Answer, &b"THAT IS ALL, END"[..]));
    // Also behind messages that wait, with what it has in hand, or nothing.
    for (chain, stage, given) in [("tail | pass", 0, "end"), ("tail-quiet | tail-pass | pass", 1, "")] {
        let mut bench = Bench::new(chain);
        bench.waiting_stages = stage_bit(stage);
        let came = bench.end_stream();
        assert_eq!(came.outcome, ChainOutcome::Later { closes: true }, "{chain}");
        let deferred = came.deferred.unwrap();
        assert_eq!(deferred.stage, stage, "{chain}");
        assert!(
            matches!(deferred.answer, DeferredAnswer::Given(bytes) if bytes == given.as_bytes()),
            "{chain}"
        );
    }
}

#[test]
fn a_function_greets_once() {
    for (chain, stage, greeting) in [
        ("greets", 0, "hi"),
        ("greets | hex", 0, "6869"),
        ("hex | greets", 1, "hi"),
        ("greets | add", 0, "hi+"),
        ("greets | quiet", 0, ""),
    ] {
        let mut bench = Bench::new(chain);
        assert!(bench.session.has_begun(stage), "{chain}");
        let greet = |generation: &Generation, cx: &mut ChainContext<'_>| generation.greet(stage, cx);
        let came = bench.message(WHOLE, b"", greet);
        let outcome = if greeting.is_empty() { ChainOutcome::Drop } else { ChainOutcome::Answer };
        assert_eq!((came.outcome, &*came.answer), (outcome, greeting.as_bytes()), "{chain}");
        assert!(!bench.session.has_begun(stage), "{chain}");
        if chain == "greets" {
            let came = bench.message(WHOLE, b"", greet);
            assert_eq!((came.outcome, &*came.answer), (ChainOutcome::Answer, &b""[..]));
        }
    }
    // What one that refuses has to say goes through the functions behind it, which have sessions.
    let came =
        Bench::new("refuses-politely | greets").message(WHOLE, b"", |generation, cx| generation.greet(0, cx));
    assert_eq!((came.outcome, &*came.answer), (ChainOutcome::Close, &b"hi"[..]));
    let came = Bench::new("greets-held").message(WHOLE, b"", |generation, cx| generation.greet(0, cx));
    assert_eq!((&*came.answer, came.delays), (&b"hi"[..], all_of(b"hi")));
}

#[test]
fn a_raw_stream_through_functions_and_tables() {
    for (chain, outcome, answer) in [
        ("add | add | hex", ChainOutcome::Answer, "612b2b"),
        ("hex | add | add | add", ChainOutcome::Answer, "61+++"),
        ("hex | pass | tail-pass", ChainOutcome::Answer, "61"),
        ("tail-pass | add | uppercase | hex", ChainOutcome::Answer, "412b"),
        ("quiet | hex", ChainOutcome::Drop, ""),
        ("hex | quiet", ChainOutcome::Drop, ""),
        ("hex | session-quiet", ChainOutcome::Drop, ""),
        ("last | hex", ChainOutcome::Close, "612e"),
        ("hex | last", ChainOutcome::Close, "61."),
        ("hex | last | hex", ChainOutcome::Close, "36312e"),
        ("hex | session-last", ChainOutcome::Close, "61."),
        ("last | quiet | hex", ChainOutcome::DropAndClose, ""),
        ("fails | hex", failed(0, Fault::Status(-9)), ""),
        ("hex | fails", failed(1, Fault::Status(-9)), ""),
        ("hex | session-fails", failed(1, Fault::Status(-9)), ""),
        ("greedy", failed(0, Fault::TooLong), ""),
        ("echoes-late", ChainOutcome::Answer, "a"),
    ] {
        let streamed = Bench::new(chain).read(b"a", 100);
        let answer = answer.as_bytes().to_vec();
        assert_eq!(streamed, Streamed { outcome, answer, delays: Vec::new(), is_done: true }, "{chain}");
    }
}

#[test]
fn the_end_of_a_raw_stream_goes_through_its_stages() {
    for (chain, outcome, answer) in [
        ("hex | tail", ChainOutcome::Answer, "end"),
        ("tail | hex", ChainOutcome::Answer, "656e64"),
        ("trickle | hex", ChainOutcome::Answer, "30313233343536373839"),
        ("hex | tail-quiet", ChainOutcome::Drop, ""),
        ("hex | tail-last", ChainOutcome::Close, "end"),
        ("hex | tail-fails", failed(1, Fault::Status(-9)), ""),
    ] {
        let mut bench = Bench::new(chain);
        assert_eq!(bench.read(b"", 100).answer, b"", "{chain}");
        let streamed = bench.end(100);
        assert_eq!((streamed.outcome, &*streamed.answer), (outcome, answer.as_bytes()), "{chain}");
        assert!(streamed.is_done, "{chain}");
    }
}

/// What a stage has to say at the end waits for room like everything else.
#[test]
fn the_end_of_a_raw_stream_comes_as_there_is_room() {
    let mut bench = Bench::new("trickle");
    let mut said = Vec::new();
    for place in 0..DIGITS.len() {
        let streamed = bench.end(1);
        assert_eq!(streamed.answer.len(), 1);
        assert_eq!(streamed.is_done, place + 1 == DIGITS.len(), "{place}");
        said.extend(streamed.answer);
    }
    assert_eq!(said, DIGITS);
    assert!(bench.kept.is_none_or(|kept| kept.unread_bytes() == 0));
}

#[test]
fn a_stage_that_leaves_too_much_unread_fails_its_stream() {
    let mut bench = Bench::new("hoards");
    bench.answer_bytes_max = 4;
    assert_eq!(bench.read(b"abc", 100).outcome, ChainOutcome::Answer);
    assert_eq!(bench.kept.as_ref().unwrap().unread_bytes(), 3);
    assert_eq!(bench.read(b"de", 100).outcome, failed(0, Fault::TooLong));
    let mut bench = Bench::new("hoards");
    assert_eq!(bench.read(b"abc", 100).answer, b"");
    let streamed = bench.end(100);
    assert_eq!((&*streamed.answer, streamed.is_done), (&b"abc"[..], true));
}

/// What is dropped takes nothing along that waits from before.
#[test]
fn what_waits_is_answered_behind_what_is_dropped() {
    for (chain, outcome) in
        [("quiet-x | hex", ChainOutcome::Answer), ("last-x | quiet-x | hex", ChainOutcome::Close)]
    {
        let mut bench = Bench::new(chain);
        let waits = bench.read(&[b'a'; 600], 1);
        assert!(!waits.is_done, "{chain}");
        let more = bench.read(b"x", 100);
        assert_eq!((&more.outcome, more.is_done), (&ChainOutcome::Answer, false), "{chain}");
        let rest = bench.read(b"x", 10_000);
        assert_eq!((rest.outcome, rest.is_done), (outcome, true), "{chain}");
        let answer = [waits.answer, more.answer, rest.answer].concat();
        assert_eq!(answer, b"61".repeat(600), "{chain}");
    }
}

#[test]
fn a_raw_stream_is_greeted() {
    for (chain, stage, outcome, greeting) in [
        ("hex | greets", 1, ChainOutcome::Answer, "hi"),
        ("greets | hex", 0, ChainOutcome::Answer, "6869"),
        ("pieces", 0, ChainOutcome::Answer, "0123456789"),
        ("pieces | last | hex", 0, ChainOutcome::Close, "302e"),
        ("hex | refuses", 1, ChainOutcome::Close, ""),
        ("hex | refuses-politely", 1, ChainOutcome::Close, "hi"),
        ("hex | refuses-rudely", 1, ChainOutcome::Reset, ""),
        ("greedy-greeter", 0, failed(0, Fault::TooLong), ""),
        ("quiet-greeter", 0, ChainOutcome::Drop, ""),
    ] {
        let mut bench = Bench::new(chain);
        let streamed = bench.stream_greeting(stage);
        assert_eq!((streamed.outcome, &*streamed.answer), (outcome, greeting.as_bytes()), "{chain}");
        if chain == "hex | greets" {
            assert_eq!(bench.stream_greeting(stage).answer, b"", "once");
        }
    }
}

/// What is not held back leaves before what is.
#[test]
fn a_part_of_a_raw_stream_is_held_back() {
    let mut bench = Bench::new("hex | held");
    let streamed = bench.stream(100, false, b"before", |generation, kept, cx| {
        generation.stream(&mut b"a".to_vec(), kept, cx)
    });
    let ranges = [(6, 0), (8, HELD_US)].map(|(end, delay_us)| DelayedRange { end, delay_us });
    assert_eq!((&*streamed.answer, &*streamed.delays), (&b"before61"[..], &ranges[..]));
    assert_eq!(bench.read(b"a", 100).delays, all_of(b"61"));
}

#[test]
fn what_a_large_message_has_needed_is_given_back() {
    let mut scratch = Scratch { room: Vec::with_capacity(2 * SCRATCH_BYTES_MAX), ..Scratch::default() };
    scratch.buffers[1].reserve(10);
    scratch.trim();
    assert_eq!(scratch.room.capacity(), 0);
    assert!(scratch.buffers[1].capacity() >= 10, "what is small stays");
    // Also what a stage of a raw stream has read, once the next stream begins.
    let mut bench = Bench::new("hex");
    let most = |bench: &Bench| bench.scratch.stream.stages.iter().map(|stage| stage.bytes.capacity()).max();
    let all = vec![b'a'; 2 * SCRATCH_BYTES_MAX];
    assert_eq!(bench.read(&all, usize::MAX / 2).answer.len(), 2 * all.len());
    assert!(most(&bench) >= Some(all.len()));
    assert_eq!(bench.read(b"a", 100).answer, b"61");
    assert!(most(&bench) < Some(100));
}

#[test]
fn workers_share_what_may_be_shared() {
    let workers = generations("hex | own", 2);
    let instance = |worker: usize, stage| std::ptr::from_ref(workers[worker].stages().instance(stage));
    assert_eq!(instance(0, 0), instance(1, 0));
    assert_ne!(instance(0, 1), instance(1, 1));
    assert_eq!((workers[1].stage_id(0), workers[1].stage_id(1)), ("hex", "own"));
    // An empty chain has no stage to be blamed.
    let echo = generation("");
    assert_eq!((echo.last_stage(), echo.stage_id(0), echo.is_function(0)), (0, "?", false));
}
