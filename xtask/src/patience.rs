//! When a command hangs: not by the clock alone, because a busy machine makes everything slow.
//!
//! A command that does something uses processor time, however little a busy machine grants it. One that uses none waits for
//! what does not come; one that uses more than any has to do runs in a circle.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::process::{Child, Command, ExitStatus};
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
/// Two hours of processor time are more than any step takes, ten minutes more than any example.
const TICKS_MAX: u64 = 7200 * TICKS_PER_SECOND;
const TICKS_OF_EXAMPLE_MAX: u64 = 600 * TICKS_PER_SECOND;
/// Where processor time cannot be read, and for what uses a little of it for ever.
const WALL_MAX: Duration = Duration::from_secs(1800);
/// USER_HZ, in which proc(5) counts.
const TICKS_PER_SECOND: u64 = 100;

/// Whether a step of many tests and builds is waited for, or one program that does little.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    Step,
    Example,
}

/// Waits for the end of a command, or ends it and all that it has started; then it says why.
pub(crate) fn wait(child: &mut Child, work: Work) -> io::Result<Result<ExitStatus, String>> {
    let begin = Instant::now();
    let mut counted = begin;
    let mut watch = Watch::new(work);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Ok(status));
        }
        let mut verdict = None;
        if counted.elapsed() >= COUNT {
            counted = Instant::now();
            verdict = Processes::read()
                .and_then(|all| all.ticks_of_tree(child.id()))
                .and_then(|ticks| watch.count(ticks));
        }
        if begin.elapsed() > WALL_MAX {
            verdict = Some(format!("not done after {} s", WALL_MAX.as_secs()));
        }
        if let Some(reason) = verdict {
            end_tree(child)?;
            return Ok(Err(reason));
        }
        thread::sleep(LOOK);
    }
}

/// What it leaves behind would keep its output open, and whoever reads that waiting.
fn end_tree(child: &mut Child) -> io::Result<()> {
    let mut seen = Vec::new();
    // All are stopped before one is ended: they would start more, and who has lost its parent is no longer found.
    while let Some(all) = Processes::read() {
        let mut tree: Vec<u32> = all.tree(child.id()).collect();
        tree.sort_unstable();
        if tree == seen {
            break;
        }
        signal("STOP", &tree);
        seen = tree;
    }
    signal("KILL", &seen);
    child.kill()?;
    child.wait()?;
    Ok(())
}

fn signal(name: &str, processes: &[u32]) {
    let mut kill = Command::new("sh");
    kill.args(["-c", "kill -s \"$@\" 2>/dev/null", "sh", name]);
    // Some may have ended by now, which it calls an error.
    let _ = kill.args(processes.iter().map(u32::to_string)).status();
}

/// What it has used, and since when.
#[derive(Debug)]
struct Watch {
    ticks_max: u64,
    ticks: u64,
    idle_counts: u32,
}

impl Watch {
    fn new(work: Work) -> Watch {
        let ticks_max = match work {
            Work::Step => TICKS_MAX,
            Work::Example => TICKS_OF_EXAMPLE_MAX,
        };
        Watch { ticks_max, ticks: 0, idle_counts: 0 }
    }

    /// Takes the processor time used so far; says what is wrong, if something is.
    fn count(&mut self, ticks: u64) -> Option<String> {
        if ticks > self.ticks_max {
            return Some(format!("not done after {} s of processor time", self.ticks_max / TICKS_PER_SECOND));
        }
        if ticks >= self.ticks + TICKS_MIN {
            self.ticks = ticks;
            self.idle_counts = 0;
            return None;
        }
        // Counts and not seconds: a machine that did not let us look has not let the command run either.
        self.idle_counts += 1;
        (self.idle_counts > IDLE_COUNTS_MAX).then(|| format!("it did nothing for {IDLE_COUNTS_MAX} s"))
    }
}

/// The parent and the processor time of each process there is.
struct Processes(HashMap<u32, (u32, u64)>);

impl Processes {
    /// `None`: the system does not tell.
    fn read() -> Option<Processes> {
        let mut all = HashMap::new();
        for entry in fs::read_dir("/proc").ok()?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            // It may be gone by now.
            let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
            if let Some(parent_and_ticks) = parent_and_ticks(&stat) {
                all.insert(pid, parent_and_ticks);
            }
        }
        Some(Processes(all))
    }

    fn is_inside(&self, root: u32, mut pid: u32) -> bool {
        // No tree is deeper than it has processes.
        for _ in 0..self.0.len() {
            if pid == root {
                return true;
            }
            match self.0.get(&pid) {
                Some((parent, _)) => pid = *parent,
                None => return false,
            }
        }
        false
    }

    /// A process, and all that it has started.
    fn tree(&self, root: u32) -> impl Iterator<Item = u32> {
        self.0.keys().copied().filter(move |pid| self.is_inside(root, *pid))
    }

    /// Their processor time together.
    fn ticks_of_tree(&self, root: u32) -> Option<u64> {
        self.0.contains_key(&root).then(|| self.tree(root).map(|pid| self.0[&pid].1).sum())
    }
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
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    use super::*;

    #[test]
    fn who_does_something_is_waited_for() {
        let mut watch = Watch::new(Work::Example);
        for count in 1..2000 {
            // A share of a fortieth of a processor is enough.
            assert_eq!(watch.count(count * TICKS_PER_SECOND / 40), None, "{count}");
        }
    }

    #[test]
    fn who_does_nothing_or_too_much_is_not() {
        let mut watch = Watch::new(Work::Example);
        assert!((0..IDLE_COUNTS_MAX).all(|_| watch.count(7).is_none()));
        assert_eq!(watch.count(7).as_deref(), Some("it did nothing for 120 s"));
        assert!(Watch::new(Work::Example).count(TICKS_OF_EXAMPLE_MAX + 1).is_some());
        assert_eq!(Watch::new(Work::Step).count(TICKS_OF_EXAMPLE_MAX + 1), None);
        assert!(Watch::new(Work::Step).count(TICKS_MAX + 1).is_some());
    }

    #[test]
    fn the_time_of_children_counts() {
        let stat = "7 (a ) b) S 42 2 3 4 5 6 7 8 9 10 1 20 300 4000 13 14";
        assert_eq!(parent_and_ticks(stat), Some((42, 4321)));
        if cfg!(target_os = "linux") {
            let mut child = Command::new("sh").args(["-c", "read line"]).spawn().unwrap();
            let all = Processes::read().unwrap();
            assert!(all.ticks_of_tree(std::process::id()).is_some());
            assert!(all.ticks_of_tree(child.id()).is_some());
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    #[test]
    fn an_end_is_seen() {
        let mut child = Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
        assert_eq!(wait(&mut child, Work::Example).unwrap().unwrap().code(), Some(7));
    }

    #[test]
    fn what_was_started_ends_too() {
        let script = "sh -c 'echo; sleep 1000; true' & wait";
        let mut child = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut String::new()).unwrap();
        end_tree(&mut child).unwrap();
        // Its end comes when nobody holds the other one.
        assert_eq!(output.read_line(&mut String::new()).unwrap(), 0);
    }
}
