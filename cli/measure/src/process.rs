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
        // The kernel gives no number above PID_MAX_LIMIT: proc_sys_kernel(5).
        assert!(cpu_time_ns(1 + (4 << 20)).is_err());
    }

    #[test]
    fn the_time_of_a_child_that_has_ended_counts() {
        let stat = Stat { parent: 1, children_ticks: 250 };
        assert_eq!(stat.children_cpu_time_ns().unwrap() % 1_000_000, 0);
        assert!(stat.children_cpu_time_ns().unwrap() > 0);
    }
}
