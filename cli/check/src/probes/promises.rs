//! What a table promises: BYTEWISE, OBSERVER, ALIAS, the bound.

use crate::drive::{Arena, How, Instance, Reply, Room};
use crate::fixture::Fixture;
use crate::mode::Mode;
use crate::plan::{Plan, Trace, compare, difference};
use crate::promise::Promise;
use crate::request::Request;
use crate::verdict::{Check, Verdict, Violation};
use resay_plugin::abi;
use std::time::Duration;

const BYTES_MAX: usize = 5000;
const CONFIRMATIONS: usize = 4;
const CONFIRMATION_INTERVAL: Duration = Duration::from_millis(25);

/// A byte becomes what it becomes alone, wherever and with whatever it stands.
pub(crate) fn bytewise(request: &Request) -> Check<Verdict> {
    let mut fixture = Fixture::new(request)?;
    if !fixture.subject.table.promises(abi::RESAY_CAP_BYTEWISE) {
        return Ok(Verdict::Skipped("it does not promise RESAY_CAP_BYTEWISE".to_owned()));
    }
    if !fixture.subject.serves(Mode::Messages) {
        return Ok(Verdict::Skipped("session_open() refuses streams".to_owned()));
    }
    if let Some(why) = fixture.nondeterminism()? {
        return Ok(Verdict::Skipped(why));
    }
    let instance = fixture.subject.create()?;
    let Some(alone) = each_alone(&instance, &mut fixture.arena)? else {
        return Ok(Verdict::Skipped("it does not reply to every byte".to_owned()));
    };
    let needs_messages = fixture.subject.table.fields.needs & abi::RESAY_NEED_MESSAGES != 0;
    let mut rng = fixture.rng();
    let budget = fixture.budget();
    let mut cases = 0;
    while cases < 50 || (cases < 2000 && budget.is_left()) {
        let length = rng.length(BYTES_MAX);
        let input = rng.bytes(length);
        let is_whole = cases % 3 == 0;
        let mut parts = Vec::new();
        let mut rest = input.as_slice();
        while !rest.is_empty() {
            let length = if is_whole { rest.len() } else { 1 + rng.below(rest.len() as u64) as usize };
            let (part, others) = rest.split_at(length);
            parts.push(part);
            rest = others;
        }
        let differs = |alone: &[u8; 256], arena: &mut Arena| -> Check<Option<String>> {
            let expected: Vec<u8> = input.iter().map(|byte| alone[usize::from(*byte)]).collect();
            Ok(difference(&expected, &in_parts(&instance, arena, &parts, needs_messages)?))
        };
        if let Some(what) = differs(&alone, &mut fixture.arena)? {
            // A transform that looks at a clock may have changed its mind: a lie stays one.
            for _ in 0..CONFIRMATIONS {
                std::thread::sleep(CONFIRMATION_INTERVAL);
                let again = each_alone(&instance, &mut fixture.arena)?.unwrap_or(alone);
                if again != alone || differs(&again, &mut fixture.arena)?.is_none() {
                    return Ok(Verdict::Skipped(format!("its replies change by themselves ({what})")));
                }
            }
            let how = if is_whole { "in one call" } else { "cut into several calls" };
            let what = format!("{} bytes {how} differ from their bytes one by one: {what}", input.len());
            return Err(Violation::of(Promise::Bytewise, what));
        }
        cases += 1;
    }
    Ok(Verdict::Passed)
}

/// What each byte becomes as a message of its own; `None`: not every one is answered.
fn each_alone(instance: &Instance<'_>, arena: &mut Arena) -> Check<Option<[u8; 256]>> {
    let mut alone = [0_u8; 256];
    for byte in 0..=255_u8 {
        let answer = once(instance, arena, &[byte])?;
        match (answer.status, answer.output.as_slice()) {
            (Some(abi::RESAY_OK), [output]) => alone[usize::from(byte)] = *output,
            (Some(abi::RESAY_OK), output) => {
                let what = format!("the byte {byte:#04x} became {} bytes", output.len());
                return Err(Violation::of(Promise::Bytewise, what));
            }
            _ => return Ok(None),
        }
    }
    Ok(Some(alone))
}

/// One session, the input in parts: a call may cover a part of a message, or several.
fn in_parts(
    instance: &Instance<'_>,
    arena: &mut Arena,
    parts: &[&[u8]],
    needs_messages: bool,
) -> Check<Vec<u8>> {
    let mut session = instance.session(arena, abi::RESAY_STREAM)?;
    let mut output = Vec::new();
    for part in parts {
        let answer = if needs_messages {
            session.message(arena, &How::default(), part)?
        } else {
            session.read(arena, &How::default(), part)?
        };
        output.extend(answer.output);
    }
    Ok(output)
}

/// One message in a session of its own.
fn once(instance: &Instance<'_>, arena: &mut Arena, message: &[u8]) -> Check<Reply> {
    instance.session(arena, abi::RESAY_STREAM)?.message(arena, &How::default(), message)
}

/// map() gets data that cannot be written; process() must copy it unchanged.
pub(crate) fn observer(request: &Request) -> Check<Verdict> {
    let mut fixture = Fixture::new(request)?;
    if !fixture.subject.table.promises(abi::RESAY_CAP_OBSERVER) {
        return Ok(Verdict::Skipped("it does not promise RESAY_CAP_OBSERVER".to_owned()));
    }
    let how = How { read_only: fixture.is_map(), ..How::default() };
    let instance = fixture.subject.create()?;
    let mut rng = fixture.rng();
    let budget = fixture.budget();
    let mut cases = 0;
    while cases < 20 || (cases < 1000 && budget.is_left()) {
        let served = [Mode::Messages, Mode::Datagrams].map(|mode| (mode, fixture.subject.serves(mode)));
        let (mode, is_served) = served[cases % 2];
        let mode = if is_served { mode } else { served[1 - cases % 2].0 };
        let plan = Plan::random(&mut rng, mode, 4, BYTES_MAX);
        let trace = plan.run(&instance, &mut fixture.arena, &how)?;
        let greetings = trace.parts.len().saturating_sub(plan.parts.len());
        for (answer, input) in trace.parts.iter().skip(greetings).zip(&plan.parts) {
            if answer.status != Some(abi::RESAY_OK) {
                break;
            }
            if let Some(what) = difference(input, &answer.output) {
                return Err(Violation::of(Promise::Observer, format!("the message was changed: {what}")));
            }
        }
        cases += 1;
    }
    Ok(Verdict::Passed)
}

/// process() with output == input writes what it writes with two buffers.
pub(crate) fn alias(request: &Request) -> Check<Verdict> {
    let mut fixture = Fixture::new(request)?;
    if !fixture.subject.table.promises(abi::RESAY_CAP_ALIAS) {
        return Ok(Verdict::Skipped("it does not promise RESAY_CAP_ALIAS".to_owned()));
    }
    if fixture.is_map() {
        return Ok(Verdict::Skipped("it has map(), so process() is not called".to_owned()));
    }
    if let Some(why) = fixture.nondeterminism()? {
        return Ok(Verdict::Skipped(why));
    }
    let alias = How { alias: true, ..How::default() };
    against(&mut fixture, Promise::Alias, "with output == input", alias)
}

/// The bound is a promise about each whole message; the calls themselves test it.
pub(crate) fn bound(request: &Request) -> Check<Verdict> {
    let mut fixture = Fixture::new(request)?;
    if fixture.subject.table.fields.out_div == 0 || fixture.is_map() {
        return Ok(Verdict::Skipped("it declares no bound".to_owned()));
    }
    if !fixture.subject.serves(Mode::Messages) {
        return Ok(Verdict::Skipped("session_open() refuses streams".to_owned()));
    }
    let instance = fixture.subject.create()?;
    let mut rng = fixture.rng();
    let budget = fixture.budget();
    let mut cases = 0;
    while cases < 100 || (cases < 4000 && budget.is_left()) {
        for room in [Room::Huge, Room::Tight] {
            let plan = Plan::random(&mut rng, Mode::Messages, 3, BYTES_MAX);
            plan.run(&instance, &mut fixture.arena, &How { room, ..How::default() })?;
        }
        // Each byte alone and repeated: what grows most is seldom in random text.
        let byte = (cases % 256) as u8;
        let plan = Plan { mode: Mode::Messages, parts: vec![vec![byte], vec![byte; 100]] };
        plan.run(&instance, &mut fixture.arena, &How::default())?;
        cases += 1;
    }
    Ok(Verdict::Passed)
}

/// Compares random plans, run as usual and run so.
pub(super) fn against(fixture: &mut Fixture, promise: Promise, what: &str, how: How) -> Check<Verdict> {
    let mut rng = fixture.rng();
    let budget = fixture.budget();
    let mut cases = 0;
    while cases < 20 || (cases < 2000 && budget.is_left()) {
        let modes = &fixture.subject.modes;
        let mode = modes[cases % modes.len()];
        let plan = Plan::random(&mut rng, mode, 4, BYTES_MAX);
        let arena = std::cell::RefCell::new(&mut fixture.arena);
        let run =
            |how: How| -> Check<Trace> { plan.run_fresh(&fixture.subject, &mut arena.borrow_mut(), &how) };
        compare(promise, &format!("{what}, {mode}"), || run(How::default()), || run(how))?;
        cases += 1;
    }
    Ok(Verdict::Passed)
}
