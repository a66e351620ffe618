//! Buffers at either end of mapped memory, and at every alignment. The longer ones are tried
//! at as many as the time allows.

use crate::drive::{How, Place, Room};
use crate::fixture::Fixture;
use crate::plan::{Plan, compare};
use crate::promise::Promise;
use crate::request::Request;
use crate::verdict::{Check, Verdict};

const LENGTHS: &[usize] = &[0, 1, 63, 64, 65, 4096, 1024 * 1024];
const ALIGNMENTS: usize = 64;

pub(crate) fn memory(request: &Request) -> Check<Verdict> {
    let mut fixture = Fixture::new(request)?;
    let is_deterministic = fixture.nondeterminism()?.is_none();
    let mut rng = fixture.rng();
    let budget = fixture.budget();
    let arena = std::cell::RefCell::new(&mut fixture.arena);
    let instance = fixture.subject.create()?;
    let places: Vec<Place> =
        [Place::End, Place::Start].into_iter().chain((0..ALIGNMENTS).map(Place::At)).collect();
    for length in LENGTHS {
        for mode in &fixture.subject.modes {
            let plan = Plan { mode: *mode, parts: vec![rng.bytes(*length)] };
            // Room that is only just enough shows a step behind it, where it is known what is enough.
            for room in [Room::Huge, Room::Tight] {
                if room == Room::Tight && fixture.subject.table.bound(*length).is_none() {
                    continue;
                }
                for place in &places {
                    if !budget.is_left() && *length > 65 {
                        break;
                    }
                    let plain = How { room, ..How::default() };
                    let how = How { place: *place, ..plain };
                    let found = || plan.run(&instance, &mut arena.borrow_mut(), &how);
                    if !is_deterministic {
                        found()?;
                        continue;
                    }
                    let expected = || plan.run(&instance, &mut arena.borrow_mut(), &plain);
                    compare(Promise::Place, &format!("{length} bytes {mode}, {place}"), expected, found)?;
                }
            }
        }
    }
    Ok(Verdict::Passed)
}
