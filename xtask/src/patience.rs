//! When a command hangs: not by the clock alone, because a busy machine makes everything slow.
//!
//! A command that does something uses processor time, however little a busy machine grants it. One that uses none waits for
//! what does not come; one that uses more than any has to do runs in a circle.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

/// How often is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(5);
/// How often processor time is read.
const COUNT: Duration = Duration::from_secs(1);
/// It may use less than [`TICKS_MIN`] for so many counts in a row.
const IDLE_COUNTS_MAX: u32 = 120;
/// Half a second: servers that nobody asks anything use some time too.
const TICKS_MIN: u64 = 50;
/// Ten minutes of processor time are more than any step takes.
const TICKS_MAX: u64 = 600 * TICKS_PER_SECOND;
/// Where processor time cannot be read, and for what uses a little of it for ever.
const WALL_MAX: Duration = Duration::from_secs(3600);
/// USER_HZ, in which proc(5) counts.
const TICKS_PER_SECOND: u64 = 100;

/// Waits for the end of a command, or ends it; then it says why.
pub(crate) fn wait(child: &mut Child) -> io::Result<Result<ExitStatus, String>> {
    let begin = Instant::now();
    let mut counted = begin;
    let mut watch = Watch::default();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Ok(status));
        }
        let mut verdict = None;
        if counted.elapsed() >= COUNT {
            counted = Instant::now();
            verdict = ticks_of_tree(child.id()).and_then(|ticks| watch.count(ticks));
        }
        if begin.elapsed() > WALL_MAX {
            verdict = Some(format!("not done after {} s", WALL_MAX.as_secs()));
        }
        if let Some(reason) = verdict {
            child.kill()?;
            child.wait()?;
            return Ok(Err(reason));
        }
        thread::sleep(LOOK);
    }
}

/// What it has used, and since when.
#[derive(Debug, Default)]
struct Watch {
    ticks: u64,
    idle_counts: u32,
}

impl Watch {
    /// Takes the processor time used so far; says what is wrong, if something is.
    fn count(&mut self, ticks: u64) -> Option<String> {
        if ticks > TICKS_MAX {
            return Some(format!("not done after {} s of processor time", TICKS_MAX / TICKS_PER_SECOND));
        }
        if ticks >= self.ticks + TICKS_MIN {
            *self = Watch { ticks, idle_counts: 0 };
            return None;
        }
        // Counts and not seconds: a machine that did not let us look has not let the command run either.
        self.idle_counts += 1;
        (self.idle_counts > IDLE_COUNTS_MAX).then(|| format!("it did nothing for {IDLE_COUNTS_MAX} s"))
    }
}

/// Processor time of a process, and of all that it has started; `None`: the system does not tell.
fn ticks_of_tree(root: u32) -> Option<u64> {
    let mut processes = HashMap::new();
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // It may be gone by now.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        if let Some((parent, ticks)) = parent_and_ticks(&stat) {
            processes.insert(pid, (parent, ticks));
        }
    }
    let is_inside = |mut pid: u32| {
        // No tree is deeper than it has processes.
        for _ in 0..processes.len() {
            if pid == root {
                return true;
            }
            match processes.get(&pid) {
                Some((parent, _)) => pid = *parent,
                None => return false,
            }
        }
        false
    };
    processes
        .contains_key(&root)
        .then(|| processes.iter().filter(|(pid, _)| is_inside(**pid)).map(|(_, (_, ticks))| ticks).sum())
}

/// The parent; utime, stime, and the same of children that have ended: proc_pid_stat(5).
fn parent_and_ticks(stat: &str) -> Option<(u32, u64)> {
    // The name in parentheses may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11..15)?.iter().map(|field| field.parse::<u64>().unwrap_or(0)).sum();
    Some((fields.get(1)?.parse().ok()?, ticks))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn who_does_something_is_waited_for() {
        let mut watch = Watch::default();
        for count in 1..2000 {
            // A share of a fortieth of a processor is enough.
            assert_eq!(watch.count(count * TICKS_PER_SECOND / 40), None, "{count}");
        }
    }

    #[test]
    fn who_does_nothing_or_too_much_is_not() {
        let mut watch = Watch::default();
        assert!((0..IDLE_COUNTS_MAX).all(|_| watch.count(7).is_none()));
        assert_eq!(watch.count(7).as_deref(), Some("it did nothing for 120 s"));
        assert!(Watch::default().count(TICKS_MAX + 1).is_some());
    }

    #[test]
    fn the_time_of_children_counts() {
        let stat = "7 (a ) b) S 42 2 3 4 5 6 7 8 9 10 1 20 300 4000 13 14";
        assert_eq!(parent_and_ticks(stat), Some((42, 4321)));
        if cfg!(target_os = "linux") {
            let mut child = Command::new("sh").args(["-c", "read line"]).spawn().unwrap();
            assert!(ticks_of_tree(std::process::id()).is_some());
            assert!(ticks_of_tree(child.id()).is_some());
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    #[test]
    fn an_end_is_seen() {
        let mut child = Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
        assert_eq!(wait(&mut child).unwrap().unwrap().code(), Some(7));
    }
}
