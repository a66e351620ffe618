//! A few threads for transforms that may block, so that workers never do.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::limits::{OFFLOAD_END, OFFLOAD_THREADS};
use crate::sys;

type Job = Box<dyn FnOnce() + Send>;

/// The threads of one engine, started with the first job.
#[derive(Default)]
pub(crate) struct Offload {
    state: Mutex<Option<Running>>,
}

struct Running {
    jobs: Sender<Job>,
    alive: Arc<Alive>,
}

/// How many threads have not ended.
#[derive(Default)]
struct Alive {
    threads: Mutex<usize>,
    changed: Condvar,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Offload {
    /// Runs a job on one of the threads. The job comes back where no thread can be started.
    pub(crate) fn run(&self, job: Job) -> Result<(), Job> {
        let mut state = lock(&self.state);
        if state.is_none() {
            *state = start();
        }
        match &*state {
            Some(running) => running.jobs.send(job).map_err(|refused| refused.0),
            None => Err(job),
        }
    }

    /// Ends the threads. One whose transform does not come back is left to itself after a second: it touches
    /// nothing but its own message any more.
    pub(crate) fn end(&self) {
        let Some(Running { jobs, alive }) = lock(&self.state).take() else { return };
        drop(jobs);
        let threads = lock(&alive.threads);
        // Whether all of them ended in time makes no difference to what can be done.
        let _ = alive.changed.wait_timeout_while(threads, OFFLOAD_END, |threads| *threads > 0);
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

/// As many threads as can be had; `None`: not one.
fn start() -> Option<Running> {
    let (jobs, waiting) = mpsc::channel::<Job>();
    let waiting = Arc::new(Mutex::new(waiting));
    let alive = Arc::new(Alive::default());
    for index in 0..OFFLOAD_THREADS {
        let (waiting, counted) = (Arc::clone(&waiting), Arc::clone(&alive));
        *lock(&alive.threads) += 1;
        let thread = thread::Builder::new().name(format!("resay-offload-{index}")).spawn(move || {
            sys::block_signals();
            work(&waiting);
            *lock(&counted.threads) -= 1;
            counted.changed.notify_all();
        });
        if thread.is_err() {
            *lock(&alive.threads) -= 1;
        }
    }
    let started = *lock(&alive.threads) > 0;
    started.then_some(Running { jobs, alive })
}

fn work(waiting: &Mutex<Receiver<Job>>) {
    loop {
        // The lock is held while waiting: whoever has it is the next in line.
        let job = lock(waiting).recv();
        match job {
            Ok(job) => job(),
            Err(mpsc::RecvError) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

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
        let alive = Arc::clone(&lock(&offload.state).as_ref().unwrap().alive);
        offload.end();
        assert_eq!(*lock(&alive.threads), 0);
    }

    #[test]
    fn a_job_that_does_not_come_back_holds_nothing_up() {
        let offload = Offload::default();
        let (_never, forever) = mpsc::channel::<()>();
        let stuck: Job = Box::new(move || {
            let _ = forever.recv_timeout(Duration::from_secs(3600));
        });
        assert!(offload.run(stuck).is_ok());
        offload.end();
    }
}
