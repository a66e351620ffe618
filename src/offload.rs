//! A few threads for transforms that may block, so that workers never do.

use std::cell::Cell;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::limits::{OFFLOAD_END, OFFLOAD_THREADS};
use crate::lock::lock;
use crate::sys::{Thread, ThreadSettings};

type Job = Box<dyn FnOnce() + Send>;
type Lost = Arc<dyn Fn() + Send + Sync>;

/// The thread pool of one engine; each thread starts when a job would have to wait.
#[derive(Default)]
pub(crate) struct Offload {
    state: Mutex<Option<Running>>,
    threads: Arc<ThreadSettings>,
    /// Hears of a thread that the host has ended in the middle of a transform.
    lost: Option<Lost>,
    /// Pools that are ending and may still have threads.
    ending: Mutex<Vec<Arc<ThreadPool>>>,
    /// Where jobs go instead, in a simulation.
    #[cfg(test)]
    queue: Option<Arc<JobQueue>>,
}

/// Jobs that wait until a test runs them: no thread does, so that a seed decides when and in which order.
#[cfg(test)]
#[derive(Default)]
pub(crate) struct JobQueue {
    jobs: Mutex<Vec<Job>>,
    refusing: std::sync::atomic::AtomicBool,
}

#[cfg(test)]
impl JobQueue {
    /// Gives the next jobs back to whoever brings them, as if no thread could be started.
    pub(crate) fn refuse(&self, refusing: bool) {
        self.refusing.store(refusing, std::sync::atomic::Ordering::Relaxed);
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.jobs).len()
    }

    /// Takes one of [`len`](Self::len) jobs, to be run or dropped.
    pub(crate) fn take(&self, place: usize) -> Box<dyn FnOnce() + Send> {
        lock(&self.jobs).remove(place)
    }

    fn put(&self, job: Job) -> Result<(), Job> {
        if self.refusing.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(job);
        }
        lock(&self.jobs).push(job);
        Ok(())
    }
}

struct Running {
    jobs: Sender<Job>,
    waiting: Arc<Mutex<Receiver<Job>>>,
    pool: Arc<ThreadPool>,
}

#[derive(Default)]
struct ThreadPool {
    count: Mutex<Count>,
    changed: Condvar,
    threads: Mutex<Vec<Thread<()>>>,
}

thread_local! {
    /// Set in the threads of every pool.
    static IS_OFFLOADED: Cell<bool> = const { Cell::new(false) };
}

impl ThreadPool {
    /// One of its threads does nothing more.
    fn count_out(&self) {
        lock(&self.count).threads -= 1;
        self.changed.notify_all();
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

#[derive(Default)]
struct Count {
    threads: usize,
    /// Jobs that wait or run.
    jobs: usize,
    /// What is still waiting is not to be done any more.
    ends: bool,
}

impl Offload {
    /// Leaves all jobs in a queue.
    #[cfg(test)]
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

    /// Runs a job on one of the threads. The job comes back where no thread can be started.
    pub(crate) fn run(&self, job: Job) -> Result<(), Job> {
        #[cfg(test)]
        if let Some(queue) = &self.queue {
            return queue.put(job);
        }
        let mut state = lock(&self.state);
        let running = state.get_or_insert_with(|| {
            let (jobs, waiting) = mpsc::channel::<Job>();
            Running { jobs, waiting: Arc::new(Mutex::new(waiting)), pool: Arc::default() }
        });
        let mut count = lock(&running.pool.count);
        if count.jobs >= count.threads && count.threads < OFFLOAD_THREADS {
            let (waiting, pool) = (Arc::clone(&running.waiting), Arc::clone(&running.pool));
            let (losing, lost) = (Arc::clone(&pool), self.lost.clone());
            let on_loss = move || {
                losing.count_out();
                lost.iter().for_each(|lost| lost());
            };
            let name = format!("offload-{}", count.threads);
            let spawned = self.threads.start_when(
                &name,
                |_| true,
                on_loss,
                move || {
                    IS_OFFLOADED.set(true);
                    work(&waiting, &pool);
                    pool.count_out();
                },
            );
            if let Ok(thread) = spawned {
                count.threads += 1;
                lock(&running.pool.threads).push(thread);
            }
        }
        if count.threads == 0 {
            return Err(job);
        }
        count.jobs += 1;
        drop(count);
        running.jobs.send(job).map_err(|refused| refused.0)
    }

    /// Ends the threads, and waits for them until `until`, at most a second; what waits is not done any more. One whose
    /// transform does not come back is left to itself, and waited for again the next time.
    pub(crate) fn end(&self, until: Option<Instant>) {
        let patience = |now: Instant| {
            until.map_or(Duration::MAX, |until| until.saturating_duration_since(now)).min(OFFLOAD_END)
        };
        let mut ending = lock(&self.ending);
        if let Some(Running { jobs, pool, .. }) = lock(&self.state).take() {
            drop(jobs);
            lock(&pool.count).ends = true;
            ending.push(pool);
        }
        ending.retain(|pool| {
            let count = lock(&pool.count);
            let (count, _) = pool
                .changed
                .wait_timeout_while(count, patience(Instant::now()), |count| count.threads > 0)
                .unwrap_or_else(PoisonError::into_inner);
            let is_stuck = count.threads > 0;
            drop(count);
            if !is_stuck {
                pool.join();
            }
            is_stuck
        });
    }
}

impl Drop for Offload {
    fn drop(&mut self) {
        self.end(None);
    }
}

impl std::fmt::Debug for Offload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Offload").finish_non_exhaustive()
    }
}

fn work(waiting: &Mutex<Receiver<Job>>, pool: &ThreadPool) {
    loop {
        // The lock is held while waiting: whoever has it is the next in line.
        let job = lock(waiting).recv();
        let Ok(job) = job else { return };
        if lock(&pool.count).ends {
            // Dropping it gives back what it holds, which is all that is still wanted.
            drop(job);
        } else {
            job();
        }
        lock(&pool.count).jobs -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_run_and_threads_end() {
        let offload = Offload::default();
        let (done, seen) = mpsc::channel();
        for n in 0..100 {
            let done = done.clone();
            assert!(offload.run(Box::new(move || done.send(n).unwrap())).is_ok());
        }
        let mut numbers: Vec<i32> = (0..100).map(|_| seen.recv().unwrap()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..100).collect::<Vec<_>>());
        let pool = Arc::clone(&lock(&offload.state).as_ref().unwrap().pool);
        offload.end(None);
        assert_eq!(lock(&pool.count).threads, 0);
    }

    #[test]
    fn a_job_that_does_not_come_back_holds_nothing_up() {
        let offload = Offload::default();
        let (_never, forever) = mpsc::channel::<()>();
        let stuck: Job = Box::new(move || {
            let _ = forever.recv_timeout(Duration::from_secs(3600));
        });
        assert!(offload.run(stuck).is_ok());
        offload.end(None);
    }
}
