//! Several sessions of one instance: in turn, and from several threads at once.

use crate::child::step;
use crate::drive::{Arena, How, Instance, Session, Subject};
use crate::fixture::Fixture;
use crate::mode::Mode;
use crate::plan::{Plan, Trace, compare};
use crate::promise::Promise;
use crate::request::Request;
use crate::rng::{Budget, Rng};
use crate::verdict::{Check, Verdict, Violation};
use resay_plugin::abi;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const THREADS: usize = 4;
const PLANS: usize = 6;
const BYTES_MAX: usize = 20_000;
/// How often a difference is confirmed.
const CONFIRMATIONS: usize = 3;

/// Two sessions in turn reply as each does alone.
pub(crate) fn interleaved(request: &Request) -> Check<Verdict> {
    let mut fixture = Fixture::new(request)?;
    if !fixture.subject.serves(Mode::Messages) {
        return Ok(Verdict::Skipped("session_open() refuses streams".to_owned()));
    }
    if let Some(why) = fixture.nondeterminism()? {
        return Ok(Verdict::Skipped(why));
    }
    let mut rng = fixture.rng();
    let budget = fixture.budget();
    let mut cases = 0;
    while cases < 30 || (cases < 1000 && budget.is_left()) {
        let streams = fixture.subject.serves(Mode::Stream);
        let mode = if streams && cases % 2 == 0 { Mode::Stream } else { Mode::Messages };
        let plans = [(); 2].map(|()| Plan::random(&mut rng, mode, 6, 300));
        let order: Vec<usize> = (0..64).map(|_| rng.below(2) as usize).collect();
        let arena = std::cell::RefCell::new(&mut fixture.arena);
        let subject = &fixture.subject;
        for index in 0..2 {
            let alone = || plans[index].run_fresh(subject, &mut arena.borrow_mut(), &How::default());
            let shared = || {
                let [one, two] = in_turn(subject, &mut arena.borrow_mut(), &plans, &order)?;
                Ok(if index == 0 { one } else { two })
            };
            let what = "a session replies differently while another one is open";
            compare(Promise::Sessions, what, alone, shared)?;
        }
        cases += 1;
    }
    Ok(Verdict::Passed)
}

fn in_turn(subject: &Subject, arena: &mut Arena, plans: &[Plan; 2], order: &[usize]) -> Check<[Trace; 2]> {
    let instance = subject.create()?;
    let mut sessions: Vec<Session<'_, '_>> = Vec::new();
    for plan in plans {
        sessions.push(instance.session(arena, plan.mode.kind())?);
    }
    let mut traces = [Trace::new(plans[0].mode), Trace::new(plans[1].mode)];
    for (session, trace) in sessions.iter_mut().zip(&mut traces) {
        session.greeting.take().into_iter().for_each(|greeting| trace.add(greeting));
    }
    let mut next = [0, 0];
    for chosen in order.iter().copied().chain([0; 8]).chain([1; 8]) {
        let Some(part) = plans[chosen].parts.get(next[chosen]) else { continue };
        next[chosen] += 1;
        let session = &mut sessions[chosen];
        traces[chosen].add(match plans[chosen].mode {
            Mode::Stream => session.read(arena, &How::default(), part)?,
            _ => session.message(arena, &How::default(), part)?,
        });
    }
    for (session, trace) in sessions.iter_mut().zip(&mut traces) {
        if plans[0].mode == Mode::Stream {
            trace.add(session.end(arena, &How::default())?);
        }
    }
    Ok(traces)
}

/// Several threads, as the table allows, get the replies that one thread gets.
pub(crate) fn threads(request: &Request) -> Check<Verdict> {
    let mut fixture = Fixture::new(request)?;
    let why = fixture.nondeterminism()?;
    let mut rng = fixture.rng();
    let modes = &fixture.subject.modes;
    let plans: Vec<Plan> =
        (0..PLANS).map(|index| Plan::random(&mut rng, modes[index % modes.len()], 3, BYTES_MAX)).collect();
    let per_worker = fixture.subject.table.fields.threading == abi::RESAY_PER_WORKER;
    let count = if per_worker { THREADS } else { 1 };
    let instances: Vec<Instance<'_>> = (0..count).map(|_| fixture.subject.create()).collect::<Check<_>>()?;
    let mut expected = Vec::new();
    for plan in &plans {
        expected.push(plan.run(&instances[0], &mut fixture.arena, &How::default())?);
    }
    // What one thread does not repeat, several threads cannot be expected to repeat.
    let mut repeats = |budget: Budget| -> Check<bool> {
        loop {
            for (plan, expected) in plans.iter().zip(&expected) {
                let trace = plan.run(&instances[0], &mut fixture.arena, &How::default())?;
                if expected.difference(&trace).is_some() {
                    return Ok(false);
                }
            }
            if !budget.is_left() {
                return Ok(true);
            }
        }
    };
    let is_deterministic = why.is_none() && repeats(Budget::new(fixture.budget / 4))?;
    let calls = Calls { plans: &plans, expected: &expected, is_deterministic, instances: &instances };
    let mut result = calls.hammer_all(fixture.seed, fixture.budget);
    // A difference counts if it comes each time, and never to one thread alone.
    for _ in 0..CONFIRMATIONS {
        if !matches!(&result, Err(violation) if violation.promise == Promise::Threading) {
            break;
        }
        if !repeats(Budget::new(fixture.budget))? {
            return Ok(Verdict::Skipped("its replies differ from run to run on one thread".to_owned()));
        }
        result = calls.hammer_all(fixture.seed, fixture.budget);
    }
    result.map_err(|violation| violation.with("threads", THREADS.to_string()))?;
    match why {
        Some(why) => Ok(Verdict::Skipped(why)),
        None if !is_deterministic => {
            Ok(Verdict::Skipped("its replies differ from run to run on one thread".to_owned()))
        }
        None => Ok(Verdict::Passed),
    }
}

/// What all threads use.
struct Calls<'a> {
    plans: &'a [Plan],
    expected: &'a [Trace],
    is_deterministic: bool,
    instances: &'a [Instance<'a>],
}

impl Calls<'_> {
    /// All threads at once; the first violation of any.
    fn hammer_all(&self, seed: u64, budget: Duration) -> Check<()> {
        step(format!("calls from {THREADS} threads at once"));
        let stop = AtomicBool::new(false);
        let budget = Budget::new(budget);
        std::thread::scope(|scope| {
            let begin = |thread: usize| {
                let (stop, budget) = (&stop, &budget);
                scope.spawn(move || {
                    let seed = seed ^ thread as u64;
                    let result =
                        self.hammer(thread, &mut Arena::new(seed), &mut Rng::new(seed), stop, budget);
                    if result.is_err() {
                        stop.store(true, Ordering::Relaxed);
                    }
                    result
                })
            };
            let threads: Vec<_> = (0..THREADS).map(begin).collect();
            let died = || Err(Violation::of(Promise::Threading, "a thread ended".to_owned()));
            let join = |thread: std::thread::ScopedJoinHandle<'_, Check<()>>| {
                thread.join().unwrap_or_else(|_| died())
            };
            let results: Vec<Check<()>> = threads.into_iter().map(join).collect();
            results.into_iter().collect()
        })
    }

    fn hammer(
        &self,
        thread: usize,
        arena: &mut Arena,
        rng: &mut Rng,
        stop: &AtomicBool,
        budget: &Budget,
    ) -> Check<()> {
        let mut round = 0;
        while !stop.load(Ordering::Relaxed) && (round < 3 || budget.is_left()) {
            let instance = &self.instances[thread % self.instances.len()];
            let chosen = rng.below(self.plans.len() as u64) as usize;
            let trace = self.plans[chosen].run(instance, arena, &How::default())?;
            if let Some(what) = self.expected[chosen].difference(&trace).filter(|_| self.is_deterministic) {
                return Err(Violation::of(Promise::Threading, what));
            }
            round += 1;
        }
        Ok(())
    }
}
