//! Streams: their end, and output buffers of every size.

use super::promises::against;
use crate::drive::{How, Room};
use crate::fixture::Fixture;
use crate::mode::Mode;
use crate::plan::{Plan, Trace, compare};
use crate::promise::Promise;
use crate::request::Request;
use crate::verdict::{Check, Verdict};
use resay_plugin::abi;

/// Bytes of a text whose every beginning is a message and a stream of its own.
const PREFIX_BYTES_MAX: usize = 80;

/// Whatever a message or a stream ends in, it ends.
pub(crate) fn ends(request: &Request) -> Check<Verdict> {
    let mut fixture = Fixture::new(request)?;
    if fixture.is_map() {
        return Ok(Verdict::Skipped("map() is not called at the end of a stream".to_owned()));
    }
    let instance = fixture.subject.create()?;
    let mut rng = fixture.rng();
    let budget = fixture.budget();
    let modes = &fixture.subject.modes;
    for round in 0..40 {
        if round > 4 && !budget.is_left() {
            break;
        }
        let text = rng.bytes(PREFIX_BYTES_MAX);
        for length in 0..text.len() {
            let prefix = &text[..length];
            for mode in modes {
                let parts = match mode {
                    // Byte by byte: every place is the end of a read.
                    Mode::Stream if round % 2 == 1 => prefix.iter().map(|byte| vec![*byte]).collect(),
                    _ => vec![prefix.to_vec()],
                };
                Plan { mode: *mode, parts }.run(&instance, &mut fixture.arena, &How::default())?;
            }
        }
    }
    Ok(Verdict::Passed)
}

/// The smallest output buffer, a fitting one and a far too large one lead to the same output.
pub(crate) fn room(request: &Request) -> Check<Verdict> {
    let mut fixture = Fixture::new(request)?;
    if fixture.is_map() {
        return Ok(Verdict::Skipped("map() has no output buffer".to_owned()));
    }
    if let Some(why) = fixture.nondeterminism()? {
        return Ok(Verdict::Skipped(why));
    }
    against(
        &mut fixture,
        Promise::Room,
        "with the smallest output_cap allowed",
        How { room: Room::Tight, ..How::default() },
    )?;
    against(
        &mut fixture,
        Promise::Room,
        "with random output_cap",
        How { room: Room::Random, ..How::default() },
    )?;
    exact(&mut fixture)?;
    Ok(Verdict::Passed)
}

/// Room for as much as there will be, one less and one more.
fn exact(fixture: &mut Fixture) -> Check<()> {
    let Some(mode) = fixture.subject.modes.iter().copied().find(|mode| *mode != Mode::Stream) else {
        return Ok(());
    };
    let mut rng = fixture.rng();
    let budget = fixture.budget();
    let mut cases = 0;
    while cases < 20 || (cases < 500 && budget.is_left()) {
        let plan = Plan::random(&mut rng, mode, 1, 3000);
        let arena = std::cell::RefCell::new(&mut fixture.arena);
        let run =
            |how: How| -> Check<Trace> { plan.run_fresh(&fixture.subject, &mut arena.borrow_mut(), &how) };
        let expected = run(How::default())?;
        if expected.parts.iter().all(|part| part.status == Some(abi::RESAY_OK)) {
            for total in [expected.bytes(), expected.bytes() + 1, expected.bytes().saturating_sub(1).max(1)] {
                let how = How { room: Room::Exact(total), ..How::default() };
                let what = format!("with output_cap {total}");
                compare(Promise::Room, &what, || run(How::default()), || run(how))?;
            }
        }
        cases += 1;
    }
    Ok(())
}
