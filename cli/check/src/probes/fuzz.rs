//! Random calls in random order: sessions open and close, messages and output buffers are of random size. The same
//! seed, the same run.

use crate::drive::{How, Place, Room};
use crate::fixture::Fixture;
use crate::mode::Mode;
use crate::request::Request;
use crate::verdict::{Check, Verdict, Violation};

const SESSIONS_MAX: usize = 4;
const STEPS_MIN: usize = 300;
const STEPS_MAX: usize = 20_000;
const BYTES_MAX: usize = 3000;

pub(crate) fn fuzz(request: &Request) -> Check<Verdict> {
    let mut fixture = Fixture::new(request)?;
    let budget = fixture.budget();
    let mut rng = fixture.rng();
    let modes = &fixture.subject.modes;
    let mut steps = 0;
    while steps < STEPS_MIN || (steps < STEPS_MAX && budget.is_left()) {
        let instance = fixture.subject.create()?;
        let mut sessions = Vec::new();
        for _ in 0..rng.below(60) {
            steps += 1;
            let named = |violation: Violation| {
                violation.with("step", steps.to_string()).with("seed", request.seed.to_string())
            };
            let at = rng.below(SESSIONS_MAX as u64) as usize;
            if at >= sessions.len() {
                let mode = modes[rng.below(modes.len() as u64) as usize];
                let session = instance.session(&mut fixture.arena, mode.kind()).map_err(named)?;
                sessions.push((mode, session));
                continue;
            }
            let how = How {
                room: [Room::Huge, Room::Random, Room::Tight][rng.below(3) as usize],
                place: [Place::End, Place::Start, Place::At(rng.below(64) as usize)][rng.below(3) as usize],
                ..How::default()
            };
            let length = rng.length(BYTES_MAX);
            let bytes = rng.bytes(length);
            let (mode, session) = &mut sessions[at];
            let ends = rng.below(10) == 0 || session.over;
            let arena = &mut fixture.arena;
            match mode {
                Mode::Stream if ends => session.end(arena, &how).map(drop),
                Mode::Stream => session.read(arena, &how, &bytes).map(drop),
                Mode::Messages => session.message(arena, &how, &bytes).map(drop),
                Mode::Datagrams => session.message(arena, &how, &bytes).map(drop),
            }
            .map_err(named)?;
            if ends || *mode == Mode::Datagrams {
                drop(sessions.swap_remove(at));
            }
        }
        drop(sessions);
        instance.check_host()?;
    }
    Ok(Verdict::Passed)
}
