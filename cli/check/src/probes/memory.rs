//! Where the bytes are: at either end of the memory that may be touched, at every alignment. The longer ones are tried
//! at as many as the time allows.

use super::{Scene, Verdict};
use crate::child::Request;
use crate::drive::{How, Kept, Place, Room};
use crate::plan::{Plan, compare};
use crate::promise::Promise;

const LENGTHS: &[usize] = &[0, 1, 63, 64, 65, 4096, 1024 * 1024];
const ALIGNMENTS: usize = 64;

pub(crate) fn memory(request: &Request) -> Kept<Verdict> {
    let mut scene = Scene::new(request)?;
    let is_steady = scene.unsteady()?.is_none();
    let mut rng = scene.rng();
    let budget = scene.budget();
    let desk = std::cell::RefCell::new(&mut scene.desk);
    let instance = scene.subject.create()?;
    let places: Vec<Place> =
        [Place::End, Place::Start].into_iter().chain((0..ALIGNMENTS).map(Place::At)).collect();
    for length in LENGTHS {
        for mode in &scene.subject.modes {
            let plan = Plan { mode: *mode, parts: vec![rng.bytes(*length)] };
            // Room that is only just enough shows a step behind it, where it is known what is enough.
            for room in [Room::Huge, Room::Tight] {
                if room == Room::Tight && scene.subject.table.bound(*length).is_none() {
                    continue;
                }
                for place in &places {
                    if !budget.is_left() && *length > 65 {
                        break;
                    }
                    let plain = How { room, ..How::default() };
                    let how = How { place: *place, ..plain };
                    let found = || plan.run(&instance, &mut desk.borrow_mut(), &how);
                    if !is_steady {
                        found()?;
                        continue;
                    }
                    let expected = || plan.run(&instance, &mut desk.borrow_mut(), &plain);
                    compare(
                        Promise::Place,
                        &format!("{length} bytes, {place:?}, {mode:?}"),
                        expected,
                        found,
                    )?;
                }
            }
        }
    }
    Ok(Verdict::Held)
}
