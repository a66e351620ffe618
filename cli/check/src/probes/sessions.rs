//! Several sessions of one instance: in turn, and from several threads at once.

use super::{Scene, Verdict};
use crate::child::{Request, step};
use crate::drive::{Breach, Desk, How, Instance, Kept, Session, Subject};
use crate::plan::{Budget, Mode, Plan, Rng, Trace, compare};
use crate::promise::Promise;
use resay_plugin::abi;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const THREADS: usize = 4;
const PLANS: usize = 6;
const BYTES_MAX: usize = 20_000;
/// How often a difference is looked at before it is believed.
const CONFIRMATIONS: usize = 3;

/// Two sessions in turn give what each gives alone.
pub(crate) fn interleaved(request: &Request) -> Kept<Verdict> {
    let mut scene = Scene::new(request)?;
    if !scene.subject.serves(Mode::Messages) {
        return Ok(Verdict::Skipped("it refuses streams".to_owned()));
    }
    if let Some(why) = scene.unsteady()? {
        return Ok(Verdict::Skipped(why));
    }
    let mut rng = scene.rng();
    let budget = scene.budget();
    let mut cases = 0;
    while cases < 30 || (cases < 1000 && budget.is_left()) {
        let streams = scene.subject.serves(Mode::Stream);
        let mode = if streams && cases % 2 == 0 { Mode::Stream } else { Mode::Messages };
        let plans = [(); 2].map(|()| Plan::random(&mut rng, mode, 6, 300));
        let order: Vec<usize> = (0..64).map(|_| rng.below(2) as usize).collect();
        let desk = std::cell::RefCell::new(&mut scene.desk);
        let subject = &scene.subject;
        for index in 0..2 {
            let alone = || plans[index].run_fresh(subject, &mut desk.borrow_mut(), &How::default());
            let shared = || {
                let [one, two] = in_turn(subject, &mut desk.borrow_mut(), &plans, &order)?;
                Ok(if index == 0 { one } else { two })
            };
            let what = "a session answers otherwise while another one is open";
            compare(Promise::Sessions, what, alone, shared)?;
        }
        cases += 1;
    }
    Ok(Verdict::Held)
}

fn in_turn(subject: &Subject, desk: &mut Desk, plans: &[Plan; 2], order: &[usize]) -> Kept<[Trace; 2]> {
    let instance = subject.create()?;
    let mut sessions: Vec<Session<'_, '_>> = Vec::new();
    for plan in plans {
        sessions.push(instance.session(desk, plan.mode.kind())?);
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
            Mode::Stream => session.read(desk, &How::default(), part)?,
            _ => session.message(desk, &How::default(), part)?,
        });
    }
    for (session, trace) in sessions.iter_mut().zip(&mut traces) {
        if plans[0].mode == Mode::Stream {
            trace.add(session.end(desk, &How::default())?);
        }
    }
    Ok(traces)
}

/// The threads that the table allows give what one thread gives.
pub(crate) fn threads(request: &Request) -> Kept<Verdict> {
    let mut scene = Scene::new(request)?;
    let why = scene.unsteady()?;
    let mut rng = scene.rng();
    let modes = &scene.subject.modes;
    let plans: Vec<Plan> =
        (0..PLANS).map(|index| Plan::random(&mut rng, modes[index % modes.len()], 3, BYTES_MAX)).collect();
    let per_worker = scene.subject.table.fields.threading == abi::RESAY_PER_WORKER;
    let count = if per_worker { THREADS } else { 1 };
    let instances: Vec<Instance<'_>> = (0..count).map(|_| scene.subject.create()).collect::<Kept<_>>()?;
    let mut expected = Vec::new();
    for plan in &plans {
        expected.push(plan.run(&instances[0], &mut scene.desk, &How::default())?);
    }
    // What one thread does not repeat, several need not.
    let mut repeats = |budget: Budget| -> Kept<bool> {
        loop {
            for (plan, expected) in plans.iter().zip(&expected) {
                let trace = plan.run(&instances[0], &mut scene.desk, &How::default())?;
                if expected.difference(&trace).is_some() {
                    return Ok(false);
                }
            }
            if !budget.is_left() {
                return Ok(true);
            }
        }
    };
    let is_steady = why.is_none() && repeats(Budget::new(scene.budget / 4))?;
    let shared = Shared { plans: &plans, expected: &expected, is_steady, instances: &instances };
    let mut result = shared.hammer_all(scene.seed, scene.budget);
    // A difference counts if it comes each time, and never to one thread alone.
    for _ in 0..CONFIRMATIONS {
        if !matches!(&result, Err(breach) if breach.promise == Promise::Threading) {
            break;
        }
        if !repeats(Budget::new(scene.budget))? {
            return Ok(Verdict::Skipped("one thread alone does not repeat its answers".to_owned()));
        }
        result = shared.hammer_all(scene.seed, scene.budget);
    }
    result.map_err(|breach| breach.with("threads", THREADS.to_string()))?;
    match why {
        Some(why) => Ok(Verdict::Skipped(why)),
        None if !is_steady => Ok(Verdict::Skipped("one thread alone does not repeat its answers".to_owned())),
        None => Ok(Verdict::Held),
    }
}

/// What all the threads see.
struct Shared<'a> {
    plans: &'a [Plan],
    expected: &'a [Trace],
    is_steady: bool,
    instances: &'a [Instance<'a>],
}

impl Shared<'_> {
    /// All threads at once; the first breach of any.
    fn hammer_all(&self, seed: u64, budget: Duration) -> Kept<()> {
        step(format!("calls from {THREADS} threads at once"));
        let stop = AtomicBool::new(false);
        let budget = Budget::new(budget);
        std::thread::scope(|scope| {
            let begin = |thread: usize| {
                let (stop, budget) = (&stop, &budget);
                scope.spawn(move || {
                    let seed = seed ^ thread as u64;
                    let result = self.hammer(thread, &mut Desk::new(seed), &mut Rng::new(seed), stop, budget);
                    if result.is_err() {
                        stop.store(true, Ordering::Relaxed);
                    }
                    result
                })
            };
            let threads: Vec<_> = (0..THREADS).map(begin).collect();
            let died = || Err(Breach::of(Promise::Threading, "a thread was ended".to_owned()));
            let join = |thread: std::thread::ScopedJoinHandle<'_, Kept<()>>| {
                thread.join().unwrap_or_else(|_| died())
            };
            let results: Vec<Kept<()>> = threads.into_iter().map(join).collect();
            results.into_iter().collect()
        })
    }

    fn hammer(
        &self,
        thread: usize,
        desk: &mut Desk,
        rng: &mut Rng,
        stop: &AtomicBool,
        budget: &Budget,
    ) -> Kept<()> {
        let mut round = 0;
        while !stop.load(Ordering::Relaxed) && (round < 3 || budget.is_left()) {
            let instance = &self.instances[thread % self.instances.len()];
            let chosen = rng.below(self.plans.len() as u64) as usize;
            let trace = self.plans[chosen].run(instance, desk, &How::default())?;
            if let Some(what) = self.expected[chosen].difference(&trace).filter(|_| self.is_steady) {
                return Err(Breach::of(Promise::Threading, what));
            }
            round += 1;
        }
        Ok(())
    }
}
