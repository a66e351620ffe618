//! Threads for transforms that may block, so that workers never do, and others for what is to be destroyed.
//!
//! Each chain has a share of the threads: one whose transforms do not return keeps its own, and no more. What waits for a
//! thread is bounded for each chain; beyond that a job is refused. Of several chains whose jobs wait each has its turn.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ffi::CStr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::chain::ShareId;
use crate::limits::{OFFLOAD_END, OFFLOAD_GRACE, OFFLOAD_QUEUE_MAX, OFFLOAD_THREADS, OFFLOAD_THREADS_MAX};
use crate::lock::lock;
use crate::sys::{Thread, ThreadSettings, with_loss};
use crate::transform::library::{RunningThread, watched};

type Job = Box<dyn FnOnce() + Send>;
type Lost = Arc<dyn Fn() + Send + Sync>;

/// The number of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct JobId(u64);

/// A job that is given back.
pub(crate) enum Refused {
    /// Too many of its chain wait.
    Full(Job),
    /// No thread can be started.
    NoThread(Job),
}

/// A job that takes long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stuck {
    /// The number of its thread.
    pub(crate) thread: usize,
    pub(crate) transform: Option<&'static CStr>,
    pub(crate) share: ShareId,
    pub(crate) since: Instant,
}

/// The threads of one engine; each starts when a job would have to wait.
#[derive(Default)]
pub(crate) struct Offload {
    /// Where transforms run.
    working: Mutex<Option<Arc<ThreadPool>>>,
    /// Where what they leave is destroyed: transforms that do not return hold up nothing of it.
    retiring: Mutex<Option<Arc<ThreadPool>>>,
    threads: Arc<ThreadSettings>,
    /// Hears of a thread that the host has ended in the middle of a transform.
    lost: Option<Lost>,
    /// Pools that are ending and may still have threads.
    ending: Mutex<Vec<Arc<ThreadPool>>>,
    /// Where jobs go instead, in a simulation.
    #[cfg(any(test, fuzzing))]
    queue: Option<Arc<JobQueue>>,
}

/// Jobs that wait until a test runs them: no thread does, so that a seed decides when and in which order.
#[cfg(any(test, fuzzing))]
#[derive(Default)]
pub(crate) struct JobQueue {
    jobs: Mutex<Vec<(JobId, Job)>>,
    count: std::sync::atomic::AtomicU64,
    refusing: std::sync::atomic::AtomicBool,
    #[cfg(test)]
    full: std::sync::atomic::AtomicBool,
}

#[cfg(any(test, fuzzing))]
impl JobQueue {
    /// Gives the next jobs back to whoever brings them, as if no thread could be started.
    pub(crate) fn refuse(&self, refusing: bool) {
        self.refusing.store(refusing, std::sync::atomic::Ordering::Relaxed);
    }

    /// The same, as if too many waited already.
    #[cfg(test)]
    pub(crate) fn fill(&self, is_full: bool) {
        self.full.store(is_full, std::sync::atomic::Ordering::Relaxed);
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.jobs).len()
    }

    /// Takes one of [`len`](Self::len) jobs, to be run or dropped.
    pub(crate) fn take(&self, place: usize) -> Box<dyn FnOnce() + Send> {
        lock(&self.jobs).remove(place).1
    }

    fn cancel(&self, id: JobId) -> Option<Job> {
        let mut jobs = lock(&self.jobs);
        let place = jobs.iter().position(|job| job.0 == id)?;
        Some(jobs.remove(place).1)
    }

    fn put(&self, job: Job) -> Result<JobId, Refused> {
        if self.refusing.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(Refused::NoThread(job));
        }
        #[cfg(test)]
        if self.full.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(Refused::Full(job));
        }
        let id = JobId(self.count.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        lock(&self.jobs).push((id, job));
        Ok(id)
    }
}

#[derive(Default)]
struct ThreadPool {
    state: Mutex<State>,
    /// There is a job, or the pool ends.
    has_job: Condvar,
    /// A thread is gone.
    has_ended: Condvar,
    threads: Mutex<Vec<Thread<()>>>,
}

#[derive(Default)]
struct State {
    /// Of each chain that has jobs, by its number.
    shares: Vec<(ShareId, Share)>,
    /// Those of which jobs wait, in the order of their turns.
    order: VecDeque<ShareId>,
    /// What runs: at most one job of each thread.
    running: Vec<Running>,
    threads: usize,
    threads_born: usize,
    jobs_born: u64,
    /// What is still waiting is not to be done any more.
    ends: bool,
}

#[derive(Default)]
struct Share {
    /// In the order of their numbers.
    waiting: VecDeque<(JobId, Job)>,
    running: usize,
}

impl Share {
    /// Jobs that need a thread now.
    fn ready(&self) -> usize {
        self.waiting.len().min(OFFLOAD_THREADS.saturating_sub(self.running))
    }
}

struct Running {
    /// The number of the thread.
    number: usize,
    share: ShareId,
    since: Instant,
    thread: RunningThread,
}

impl State {
    fn share(&mut self, share: ShareId) -> Option<&mut Share> {
        self.shares.iter_mut().find(|(known, _)| *known == share).map(|(_, place)| place)
    }

    fn put(&mut self, share: ShareId, job: Job) -> JobId {
        let id = JobId(self.jobs_born);
        self.jobs_born += 1;
        let known = self.shares.iter().position(|(known, _)| *known == share);
        let at = known.unwrap_or(self.shares.len());
        if known.is_none() {
            self.shares.push((share, Share::default()));
        }
        let place = &mut self.shares[at].1;
        if place.waiting.is_empty() {
            self.order.push_back(share);
        }
        place.waiting.push_back((id, job));
        id
    }

    /// The next job whose chain may have another thread; of a pool that ends, any.
    fn next(&mut self) -> Option<(ShareId, Job)> {
        for _ in 0..self.order.len() {
            let share = self.order.pop_front()?;
            let ends = self.ends;
            let Some(place) = self.share(share) else { continue };
            if !ends && place.running >= OFFLOAD_THREADS {
                self.order.push_back(share);
                continue;
            }
            let Some((_, job)) = place.waiting.pop_front() else { continue };
            place.running += 1;
            if !place.waiting.is_empty() {
                self.order.push_back(share);
            }
            return Some((share, job));
        }
        None
    }

    fn done(&mut self, share: ShareId) {
        if let Some(place) = self.share(share) {
            place.running -= 1;
        }
        self.forget_if_over(share);
    }

    fn cancel(&mut self, share: ShareId, id: JobId) -> Option<Job> {
        let place = self.share(share)?;
        let at = place.waiting.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        let (_, job) = place.waiting.remove(at)?;
        if place.waiting.is_empty() {
            self.order.retain(|&other| other != share);
        }
        self.forget_if_over(share);
        Some(job)
    }

    fn forget_if_over(&mut self, share: ShareId) {
        self.shares
            .retain(|(known, place)| *known != share || place.running > 0 || !place.waiting.is_empty());
    }

    fn wants_thread(&self) -> bool {
        let ready: usize = self.shares.iter().map(|(_, share)| share.running + share.ready()).sum();
        ready > self.threads && self.threads < OFFLOAD_THREADS_MAX
    }
}

thread_local! {
    /// Set in the threads of every pool.
    static IS_OFFLOADED: Cell<bool> = const { Cell::new(false) };
}

impl ThreadPool {
    /// `waiting_max`: jobs of one chain that may wait.
    fn run(
        self: &Arc<Self>,
        share: ShareId,
        job: Job,
        waiting_max: usize,
        start: impl FnOnce(usize, Arc<ThreadPool>) -> Option<Thread<()>>,
    ) -> Result<JobId, Refused> {
        let mut state = lock(&self.state);
        if state.share(share).is_some_and(|place| place.waiting.len() >= waiting_max) {
            return Err(Refused::Full(job));
        }
        let id = state.put(share, job);
        if state.wants_thread() {
            let number = state.threads_born;
            if let Some(thread) = start(number, Arc::clone(self)) {
                state.threads += 1;
                state.threads_born += 1;
                lock(&self.threads).push(thread);
            }
        }
        if state.threads == 0
            && let Some(job) = state.cancel(share, id)
        {
            return Err(Refused::NoThread(job));
        }
        drop(state);
        self.has_job.notify_one();
        Ok(id)
    }

    /// What a thread does.
    fn work(&self, number: usize, lost: Option<&Lost>) {
        IS_OFFLOADED.set(true);
        watched(|thread| self.work_watched(number, thread, lost));
    }

    fn work_watched(&self, number: usize, thread: &RunningThread, lost: Option<&Lost>) {
        let current = Cell::new(None);
        // Also if the job ends the thread.
        let end_job = || {
            if let Some(share) = current.take() {
                let mut state = lock(&self.state);
                state.running.retain(|running| running.number != number);
                state.done(share);
            }
        };
        let is_over = || {
            end_job();
            lock(&self.state).threads -= 1;
            self.has_ended.notify_all();
        };
        let on_loss = || {
            is_over();
            lost.into_iter().for_each(|lost| lost());
        };
        with_loss(&on_loss, || {
            let mut state = lock(&self.state);
            loop {
                let Some((share, job)) = state.next() else {
                    if state.ends {
                        break;
                    }
                    state = self.has_job.wait(state).unwrap_or_else(PoisonError::into_inner);
                    continue;
                };
                current.set(Some(share));
                let is_wanted = !state.ends;
                let running = Running { number, share, since: Instant::now(), thread: thread.clone() };
                state.running.push(running);
                drop(state);
                // Dropping it gives back what it holds, which is all that is wanted at the end.
                if is_wanted {
                    job()
                } else {
                    drop(job)
                }
                end_job();
                state = lock(&self.state);
            }
        });
        is_over();
    }

    /// Waits until threads that have nothing more to do are gone, and with them what they have of the system.
    fn join(&self) {
        if IS_OFFLOADED.get() {
            // One that ends its own engine cannot wait for itself.
            return;
        }
        for thread in lock(&self.threads).drain(..) {
            thread.join();
        }
    }
}

impl Offload {
    /// Leaves all jobs in a queue.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn into_queue(queue: Arc<JobQueue>) -> Offload {
        let mut offload = Offload::default();
        offload.queue = Some(queue);
        offload
    }

    /// A pool whose threads have these settings. `lost` is called on a thread that the host has ended in the middle of a
    /// transform; it must not call the host.
    pub(crate) fn new(threads: Arc<ThreadSettings>, lost: impl Fn() + Send + Sync + 'static) -> Offload {
        let mut offload = Offload::default();
        offload.threads = threads;
        offload.lost = Some(Arc::new(lost));
        offload
    }

    /// Runs a job of a chain on one of the threads.
    pub(crate) fn run(&self, share: ShareId, job: Job) -> Result<JobId, Refused> {
        self.run_in(&self.working, "offload", share, job, OFFLOAD_QUEUE_MAX)
    }

    /// Runs a job that destroys something of a chain, on threads of its own. It comes back where no thread can be started.
    pub(crate) fn destroy(&self, share: ShareId, job: Job) -> Result<(), Job> {
        match self.run_in(&self.retiring, "destroy", share, job, usize::MAX) {
            Ok(_) => Ok(()),
            Err(Refused::Full(job) | Refused::NoThread(job)) => Err(job),
        }
    }

    fn run_in(
        &self,
        pool: &Mutex<Option<Arc<ThreadPool>>>,
        name: &str,
        share: ShareId,
        job: Job,
        waiting_max: usize,
    ) -> Result<JobId, Refused> {
        #[cfg(any(test, fuzzing))]
        if let Some(queue) = &self.queue {
            return queue.put(job);
        }
        // Held until the job is in: whoever ends the pool finds all of them.
        let mut place = lock(pool);
        let pool = place.get_or_insert_default();
        pool.run(share, job, waiting_max, |number, pool| {
            let lost = self.lost.clone();
            self.threads.start(&format!("{name}-{number}"), move || pool.work(number, lost.as_ref())).ok()
        })
    }

    /// Takes back a job that no thread has begun.
    pub(crate) fn cancel(&self, share: ShareId, id: JobId) -> Option<Job> {
        #[cfg(any(test, fuzzing))]
        if let Some(queue) = &self.queue {
            return queue.cancel(id);
        }
        let pool = lock(&self.working).clone()?;
        lock(&pool.state).cancel(share, id)
    }

    /// What has been running for so long.
    pub(crate) fn stuck(&self, patience: Duration) -> Vec<Stuck> {
        let Some(pool) = lock(&self.working).clone() else { return Vec::new() };
        let state = lock(&pool.state);
        let running = state.running.iter().filter(|running| running.since.elapsed() >= patience);
        let stuck = running.map(|Running { number, share, since, thread: runs }| Stuck {
            thread: *number,
            transform: runs.transform(),
            share: *share,
            since: *since,
        });
        stuck.collect()
    }

    /// Has the threads end; what waits is not done any more.
    pub(crate) fn begin_end(&self) {
        let mut ending = lock(&self.ending);
        for pool in [&self.working, &self.retiring] {
            if let Some(pool) = lock(pool).take() {
                lock(&pool.state).ends = true;
                pool.has_job.notify_all();
                ending.push(pool);
            }
        }
    }

    /// Ends the threads, and waits a second for them; what waits is not done any more.
    pub(crate) fn end(&self) {
        self.end_by(Instant::now().checked_add(OFFLOAD_END));
    }

    /// Ends the threads, and waits for them until `until` (`None`: as long as it takes); what waits is not done any more. One
    /// whose transform does not come back is left to itself, and waited for again the next time: those of others have a moment
    /// more. Whether all are gone.
    pub(crate) fn end_by(&self, until: Option<Instant>) -> bool {
        self.begin_end();
        let mut is_over = true;
        // Not locked while this waits: whoever only begins the end does not wait.
        let ending = lock(&self.ending).clone();
        for pool in ending {
            let left = |until: Instant| until.saturating_duration_since(Instant::now());
            let patience = until.map_or(Duration::MAX, left);
            let (state, _) = pool
                .has_ended
                .wait_timeout_while(lock(&pool.state), patience, |state| state.threads > 0)
                .unwrap_or_else(PoisonError::into_inner);
            // Those that have nothing to do any more, or have just begun, are about to be gone, as a worker's are.
            let has_time = |state: &mut State| {
                state.threads > 0
                    && !state.running.iter().any(|running| running.since.elapsed() >= OFFLOAD_GRACE)
            };
            let (state, _) = pool
                .has_ended
                .wait_timeout_while(state, OFFLOAD_GRACE, has_time)
                .unwrap_or_else(PoisonError::into_inner);
            let is_stuck = state.threads > 0;
            drop(state);
            if is_stuck {
                is_over = false;
            } else {
                pool.join();
                lock(&self.ending).retain(|other| !Arc::ptr_eq(other, &pool));
            }
        }
        is_over
    }
}

impl Drop for Offload {
    fn drop(&mut self) {
        self.end();
    }
}

impl std::fmt::Debug for Offload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Offload").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn jobs_run_and_threads_end() {
        let offload = Offload::default();
        let (done, seen) = mpsc::channel();
        for n in 0..100 {
            let done = done.clone();
            assert!(offload.run(1, Box::new(move || done.send(n).unwrap())).is_ok());
        }
        let mut numbers: Vec<i32> = (0..100).map(|_| seen.recv().unwrap()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..100).collect::<Vec<_>>());
        let pool = Arc::clone(lock(&offload.working).as_ref().unwrap());
        assert!(offload.end_by(None));
        assert_eq!(lock(&pool.state).threads, 0);
        assert!(lock(&pool.state).shares.is_empty());
    }

    /// Jobs that wait until the test lets them go.
    struct Gate {
        entered: (mpsc::Sender<()>, mpsc::Receiver<()>),
        open: Arc<(Mutex<bool>, Condvar)>,
    }

    impl Gate {
        fn new() -> Gate {
            Gate { entered: mpsc::channel(), open: Arc::default() }
        }

        fn job(&self) -> Job {
            let (entered, open) = (self.entered.0.clone(), Arc::clone(&self.open));
            Box::new(move || {
                _ = entered.send(());
                drop(open.1.wait_while(lock(&open.0), |is_open| !*is_open));
            })
        }

        fn release(&self) {
            *lock(&self.open.0) = true;
            self.open.1.notify_all();
        }
    }

    #[test]
    fn a_chain_that_blocks_keeps_its_share_and_no_more() {
        let (offload, gate) = (Offload::default(), Gate::new());
        for _ in 0..100 {
            assert!(offload.run(1, gate.job()).is_ok());
        }
        (0..OFFLOAD_THREADS).for_each(|_| gate.entered.1.recv().unwrap());
        let (done, seen) = mpsc::channel();
        let (others, retired) = (done.clone(), done);
        assert!(offload.run(2, Box::new(move || others.send("another chain").unwrap())).is_ok());
        assert_eq!(seen.recv().unwrap(), "another chain");
        assert!(offload.destroy(1, Box::new(move || retired.send("retired").unwrap())).is_ok());
        assert_eq!(seen.recv().unwrap(), "retired");
        assert!(gate.entered.1.try_recv().is_err(), "no more than its share");
        gate.release();
    }

    #[test]
    fn a_job_that_waits_can_be_taken_back() {
        let (offload, gate) = (Offload::default(), Gate::new());
        let jobs: Vec<_> = (0..10).map(|_| offload.run(1, gate.job()).ok().unwrap()).collect();
        (0..OFFLOAD_THREADS).for_each(|_| gate.entered.1.recv().unwrap());
        assert!(offload.cancel(1, jobs[0]).is_none(), "it has begun");
        for &job in &jobs[OFFLOAD_THREADS..] {
            assert!(offload.cancel(1, job).is_some());
            assert!(offload.cancel(1, job).is_none());
        }
        let pool = Arc::clone(lock(&offload.working).as_ref().unwrap());
        assert!(lock(&pool.state).order.is_empty());
        gate.release();
    }

    #[test]
    fn what_waits_is_bounded() {
        let (offload, gate) = (Offload::default(), Gate::new());
        for _ in 0..OFFLOAD_THREADS {
            assert!(offload.run(1, gate.job()).is_ok());
            gate.entered.1.recv().unwrap();
        }
        for _ in 0..OFFLOAD_QUEUE_MAX {
            assert!(offload.run(1, Box::new(|| {})).is_ok());
        }
        assert!(matches!(offload.run(1, Box::new(|| {})), Err(Refused::Full(_))));
        assert!(offload.run(2, Box::new(|| {})).is_ok(), "another chain");
        gate.release();
    }

    #[test]
    fn a_job_that_does_not_come_back_holds_nothing_up() {
        let (offload, gate) = (Offload::default(), Gate::new());
        assert!(offload.run(1, gate.job()).is_ok());
        gate.entered.1.recv().unwrap();
        assert!(!offload.end_by(Some(Instant::now())), "its thread is still there");
        offload.end();
        gate.release();
        assert!(offload.end_by(None));
    }
}
