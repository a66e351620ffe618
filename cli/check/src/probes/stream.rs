//! Streams: how they end, and how much room there is.

use super::promises::against;
use super::{Scene, Verdict};
use crate::child::Request;
use crate::drive::{How, Kept, Room};
use crate::plan::{Mode, Plan, Trace, compare};
use crate::promise::Promise;
use resay_plugin::abi;

/// Bytes of a text whose every beginning is a message and a stream of its own.
const PREFIX_BYTES_MAX: usize = 80;

/// Whatever a message or a stream ends in, it ends.
pub(crate) fn ends(request: &Request) -> Kept<Verdict> {
    let mut scene = Scene::new(request)?;
    if scene.is_map() {
        return Ok(Verdict::Skipped("map() sees nothing of the end".to_owned()));
    }
    let instance = scene.subject.create()?;
    let mut rng = scene.rng();
    let budget = scene.budget();
    let modes = &scene.subject.modes;
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
                Plan { mode: *mode, parts }.run(&instance, &mut scene.desk, &How::default())?;
            }
        }
    }
    Ok(Verdict::Held)
}

/// A byte of room, just enough, and far too much give the same stream.
pub(crate) fn room(request: &Request) -> Kept<Verdict> {
    let mut scene = Scene::new(request)?;
    if scene.is_map() {
        return Ok(Verdict::Skipped("map() works in place".to_owned()));
    }
    if let Some(why) = scene.unsteady()? {
        return Ok(Verdict::Skipped(why));
    }
    against(&mut scene, Promise::Room, "with the least room", How { room: Room::Tight, ..How::default() })?;
    against(
        &mut scene,
        Promise::Room,
        "with all sorts of room",
        How { room: Room::Random, ..How::default() },
    )?;
    exact(&mut scene)?;
    Ok(Verdict::Held)
}

/// Room for as much as there will be, one less and one more.
fn exact(scene: &mut Scene) -> Kept<()> {
    let Some(mode) = scene.subject.modes.iter().copied().find(|mode| *mode != Mode::Stream) else {
        return Ok(());
    };
    let mut rng = scene.rng();
    let budget = scene.budget();
    let mut cases = 0;
    while cases < 20 || (cases < 500 && budget.is_left()) {
        let plan = Plan::random(&mut rng, mode, 1, 3000);
        let desk = std::cell::RefCell::new(&mut scene.desk);
        let run = |how: How| -> Kept<Trace> { plan.run_fresh(&scene.subject, &mut desk.borrow_mut(), &how) };
        let expected = run(How::default())?;
        if expected.parts.iter().all(|part| part.status == Some(abi::RESAY_OK)) {
            for total in [expected.bytes(), expected.bytes() + 1, expected.bytes().saturating_sub(1).max(1)] {
                let how = How { room: Room::Exact(total), ..How::default() };
                let what = format!("with out_cap {total}");
                compare(Promise::Room, &what, || run(How::default()), || run(how))?;
            }
        }
        cases += 1;
    }
    Ok(())
}
