//! What a table promises: BYTEWISE, OBSERVER, ALIAS, the bound.

use super::{Scene, Verdict};
use crate::child::Request;
use crate::drive::{Answer, Breach, Desk, How, Instance, Kept, Room};
use crate::plan::{Mode, Plan, Trace, compare, difference};
use crate::promise::Promise;
use resay_plugin::abi;
use std::time::Duration;

const BYTES_MAX: usize = 5000;
const CONFIRMATIONS: usize = 4;
const CONFIRMATION_INTERVAL: Duration = Duration::from_millis(25);

/// A byte becomes what it becomes alone, wherever and with whatever it stands.
pub(crate) fn bytewise(request: &Request) -> Kept<Verdict> {
    let mut scene = Scene::new(request)?;
    if !scene.subject.table.promises(abi::RESAY_CAP_BYTEWISE) {
        return Ok(Verdict::Skipped("it does not promise RESAY_CAP_BYTEWISE".to_owned()));
    }
    if !scene.subject.serves(Mode::Messages) {
        return Ok(Verdict::Skipped("it refuses streams".to_owned()));
    }
    if let Some(why) = scene.unsteady()? {
        return Ok(Verdict::Skipped(why));
    }
    let instance = scene.subject.create()?;
    let Some(alone) = each_alone(&instance, &mut scene.desk)? else {
        return Ok(Verdict::Skipped("it does not answer every byte".to_owned()));
    };
    let needs_messages = scene.subject.table.fields.needs & abi::RESAY_NEED_MESSAGES != 0;
    let mut rng = scene.rng();
    let budget = scene.budget();
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
        let differs = |alone: &[u8; 256], desk: &mut Desk| -> Kept<Option<String>> {
            let expected: Vec<u8> = input.iter().map(|byte| alone[usize::from(*byte)]).collect();
            Ok(difference(&expected, &in_parts(&instance, desk, &parts, needs_messages)?))
        };
        if let Some(what) = differs(&alone, &mut scene.desk)? {
            // A transform that looks at a clock may have changed its mind: a lie stays one.
            for _ in 0..CONFIRMATIONS {
                std::thread::sleep(CONFIRMATION_INTERVAL);
                let again = each_alone(&instance, &mut scene.desk)?.unwrap_or(alone);
                if again != alone || differs(&again, &mut scene.desk)?.is_none() {
                    return Ok(Verdict::Skipped(format!("answers change by themselves ({what})")));
                }
            }
            let how = if is_whole { "in one call" } else { "cut into several calls" };
            let what = format!("{} bytes {how} are not what each byte becomes alone: {what}", input.len());
            return Err(Breach::of(Promise::Bytewise, what));
        }
        cases += 1;
    }
    Ok(Verdict::Held)
}

/// What each byte becomes as a message of its own; `None`: not every one is answered.
fn each_alone(instance: &Instance<'_>, desk: &mut Desk) -> Kept<Option<[u8; 256]>> {
    let mut alone = [0_u8; 256];
    for byte in 0..=255_u8 {
        let answer = once(instance, desk, &[byte])?;
        match (answer.status, answer.output.as_slice()) {
            (Some(abi::RESAY_OK), [output]) => alone[usize::from(byte)] = *output,
            (Some(abi::RESAY_OK), output) => {
                let what = format!("the byte {byte:#04x} became {} bytes", output.len());
                return Err(Breach::of(Promise::Bytewise, what));
            }
            _ => return Ok(None),
        }
    }
    Ok(Some(alone))
}

/// One session, the input in parts: a call may cover a part of a message, or several.
fn in_parts(
    instance: &Instance<'_>,
    desk: &mut Desk,
    parts: &[&[u8]],
    needs_messages: bool,
) -> Kept<Vec<u8>> {
    let mut session = instance.session(desk, abi::RESAY_STREAM)?;
    let mut output = Vec::new();
    for part in parts {
        let answer = if needs_messages {
            session.message(desk, &How::default(), part)?
        } else {
            session.read(desk, &How::default(), part)?
        };
        output.extend(answer.output);
    }
    Ok(output)
}

/// One message in a session of its own.
fn once(instance: &Instance<'_>, desk: &mut Desk, message: &[u8]) -> Kept<Answer> {
    instance.session(desk, abi::RESAY_STREAM)?.message(desk, &How::default(), message)
}

/// map() is lent bytes that cannot be written; process() hands them on as they are.
pub(crate) fn observer(request: &Request) -> Kept<Verdict> {
    let mut scene = Scene::new(request)?;
    if !scene.subject.table.promises(abi::RESAY_CAP_OBSERVER) {
        return Ok(Verdict::Skipped("it does not promise RESAY_CAP_OBSERVER".to_owned()));
    }
    let how = How { read_only: scene.is_map(), ..How::default() };
    let instance = scene.subject.create()?;
    let mut rng = scene.rng();
    let budget = scene.budget();
    let mut cases = 0;
    while cases < 20 || (cases < 1000 && budget.is_left()) {
        let served = [Mode::Messages, Mode::Datagrams].map(|mode| (mode, scene.subject.serves(mode)));
        let (mode, is_served) = served[cases % 2];
        let mode = if is_served { mode } else { served[1 - cases % 2].0 };
        let plan = Plan::random(&mut rng, mode, 4, BYTES_MAX);
        let trace = plan.run(&instance, &mut scene.desk, &how)?;
        let greetings = trace.parts.len().saturating_sub(plan.parts.len());
        for (answer, input) in trace.parts.iter().skip(greetings).zip(&plan.parts) {
            if answer.status != Some(abi::RESAY_OK) {
                break;
            }
            if let Some(what) = difference(input, &answer.output) {
                return Err(Breach::of(Promise::Observer, format!("the bytes were changed: {what}")));
            }
        }
        cases += 1;
    }
    Ok(Verdict::Held)
}

/// process() with out == in gives what it gives with two memories.
pub(crate) fn alias(request: &Request) -> Kept<Verdict> {
    let mut scene = Scene::new(request)?;
    if !scene.subject.table.promises(abi::RESAY_CAP_ALIAS) {
        return Ok(Verdict::Skipped("it does not promise RESAY_CAP_ALIAS".to_owned()));
    }
    if scene.is_map() {
        return Ok(Verdict::Skipped("it has map(), so process() is not called".to_owned()));
    }
    if let Some(why) = scene.unsteady()? {
        return Ok(Verdict::Skipped(why));
    }
    let alias = How { alias: true, ..How::default() };
    against(&mut scene, Promise::Alias, "with out == in", alias)
}

/// The bound is a promise about each whole message; the calls themselves test it.
pub(crate) fn bound(request: &Request) -> Kept<Verdict> {
    let mut scene = Scene::new(request)?;
    if scene.subject.table.fields.out_div == 0 || scene.is_map() {
        return Ok(Verdict::Skipped("it declares no bound".to_owned()));
    }
    if !scene.subject.serves(Mode::Messages) {
        return Ok(Verdict::Skipped("it refuses streams".to_owned()));
    }
    let instance = scene.subject.create()?;
    let mut rng = scene.rng();
    let budget = scene.budget();
    let mut cases = 0;
    while cases < 100 || (cases < 4000 && budget.is_left()) {
        for room in [Room::Huge, Room::Tight] {
            let plan = Plan::random(&mut rng, Mode::Messages, 3, BYTES_MAX);
            plan.run(&instance, &mut scene.desk, &How { room, ..How::default() })?;
        }
        // Each byte alone and repeated: what grows most is seldom in random text.
        let byte = (cases % 256) as u8;
        let plan = Plan { mode: Mode::Messages, parts: vec![vec![byte], vec![byte; 100]] };
        plan.run(&instance, &mut scene.desk, &How::default())?;
        cases += 1;
    }
    Ok(Verdict::Held)
}

/// Compares random plans, run as usual and run so.
pub(super) fn against(scene: &mut Scene, promise: Promise, what: &str, how: How) -> Kept<Verdict> {
    let mut rng = scene.rng();
    let budget = scene.budget();
    let mut cases = 0;
    while cases < 20 || (cases < 2000 && budget.is_left()) {
        let modes = &scene.subject.modes;
        let mode = modes[cases % modes.len()];
        let plan = Plan::random(&mut rng, mode, 4, BYTES_MAX);
        let desk = std::cell::RefCell::new(&mut scene.desk);
        let run = |how: How| -> Kept<Trace> { plan.run_fresh(&scene.subject, &mut desk.borrow_mut(), &how) };
        compare(promise, &format!("{what}, {mode:?}"), || run(How::default()), || run(how))?;
        cases += 1;
    }
    Ok(Verdict::Held)
}
