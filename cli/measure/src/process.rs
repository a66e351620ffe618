//! What the system tells of a process.

use std::fs;
use std::io;

use nix::time::ClockId;
use nix::unistd::{Pid, SysconfVar, sysconf};

/// The processor time that a process has used, all its threads together, those that have ended too, in nanoseconds.
pub fn cpu_time_ns(pid: u32) -> io::Result<u64> {
    let time = ClockId::pid_cpu_clock_id(Pid::from_raw(pid.cast_signed()))?.now()?;
    Ok(time.tv_sec().cast_unsigned() * 1_000_000_000 + time.tv_nsec().cast_unsigned())
}

/// Parts of proc_pid_stat(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// The process that started it.
    pub parent: u32,
    children_ticks: u64,
}

/// The fields, counted from the one after the name.
const PARENT: usize = 1;
const CHILDREN_USER: usize = 13;
const CHILDREN_SYSTEM: usize = 14;

impl Stat {
    /// Of this process; `None`: it is gone.
    pub fn of(pid: u32) -> Option<Stat> {
        Stat::read(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn read(text: &str) -> Option<Stat> {
        // The name is in parentheses and may hold anything.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(Stat {
            parent: fields.get(PARENT)?.parse().ok()?,
            children_ticks: ticks(CHILDREN_USER)? + ticks(CHILDREN_SYSTEM)?,
        })
    }

    /// The processor time of children that have ended and were waited for.
    pub fn children_cpu_time_ns(&self) -> io::Result<u64> {
        let ticks_per_second = sysconf(SysconfVar::CLK_TCK)?.unwrap_or(1).max(1).cast_unsigned();
        Ok(self.children_ticks * (1_000_000_000 / ticks_per_second))
    }
}

/// The process and all its descendants that live, itself first.
pub fn family(root: u32) -> io::Result<Vec<u32>> {
    let mut found = vec![root];
    // Most servers are one process, and to look through all of them takes a while.
    if children_of_threads(root).is_some_and(|children| children.is_empty()) {
        return Ok(found);
    }
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // It may be gone by now.
        let Some(stat) = Stat::of(pid) else { continue };
        parents.push((pid, stat.parent));
    }
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    Ok(found)
}

/// By `/proc/PID/task/TID/children`, where the kernel has it.
fn children_of_threads(pid: u32) -> Option<String> {
    let mut children = String::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        children.push_str(&fs::read_to_string(thread.ok()?.path().join("children")).ok()?);
    }
    Some(children)
}

/// The processor time of a process, its descendants, and those of them that have ended, in nanoseconds.
/// An error: there is no such process.
pub fn family_cpu_time_ns(root: u32) -> io::Result<u64> {
    if Stat::of(root).is_none() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "no such process"));
    }
    let mut sum = 0;
    for pid in family(root)? {
        // It may have ended since; then its parent has its time, or will have.
        if let (Ok(time_ns), Some(stat)) = (cpu_time_ns(pid), Stat::of(pid)) {
            sum += time_ns + stat.children_cpu_time_ns()?;
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let stat = Stat::read("7 (a) b (c) S 3 7 7 0 -1 4194560 1 2 3 4 50 60 70 80 20 0 1 0 9").unwrap();
        assert_eq!(stat, Stat { parent: 3, children_ticks: 150 });
        assert_eq!(Stat::read("7 (cut"), None);
    }

    #[test]
    fn this_process_uses_time() {
        let pid = std::process::id();
        let before = cpu_time_ns(pid).unwrap();
        let text = "x".repeat(10_000);
        while cpu_time_ns(pid).unwrap() == before {
            assert!(!text.contains('y'));
        }
        assert!(Stat::of(pid).unwrap().parent > 0);
        assert_eq!(family(pid).unwrap().first(), Some(&pid));
        assert!(family_cpu_time_ns(pid).unwrap() > before);
        // The kernel gives no number above PID_MAX_LIMIT: proc_sys_kernel(5).
        let none = 1 + (4 << 20);
        assert!(cpu_time_ns(none).is_err() && family_cpu_time_ns(none).is_err());
    }

    #[test]
    fn the_time_of_a_child_that_has_ended_counts() {
        let stat = Stat { parent: 1, children_ticks: 250 };
        assert_eq!(stat.children_cpu_time_ns().unwrap() % 1_000_000, 0);
        assert!(stat.children_cpu_time_ns().unwrap() > 0);
    }
}
