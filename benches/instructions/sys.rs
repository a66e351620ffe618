//! Where processes run, and how the kernel schedules them: sched(7).

use std::io;

/// Binds the calling thread, and those that it starts, to one of the processors that it may use.
pub(crate) fn stay_on_one_processor() -> io::Result<()> {
    // SAFETY: sched_getcpu takes nothing; the set is plain data, initialised to be empty, and lives during both calls.
    unsafe {
        let processor = libc::sched_getcpu();
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if let Ok(processor) = usize::try_from(processor) {
            libc::CPU_SET(processor, &mut set);
        }
        done(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set))
    }
}

/// Makes a process one that does not preempt whoever wakes it.
pub(crate) fn make_batch_process(pid: u32) -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: 0 };
    // SAFETY: the parameter lives during the call.
    done(unsafe { libc::sched_setscheduler(pid as libc::pid_t, libc::SCHED_BATCH, &parameter) })
}

/// Asks a process to end.
pub(crate) fn terminate(pid: u32) -> io::Result<()> {
    // SAFETY: it takes no pointer.
    done(unsafe { libc::kill(pid as libc::pid_t, libc::SIGTERM) })
}

/// Whether all threads of a process sleep. Under valgrind, who waits in a system call is asleep, and nobody else.
pub(crate) fn sleeps(pid: u32) -> io::Result<bool> {
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let stat = std::fs::read_to_string(thread?.path().join("stat"))?;
        if state(&stat) != Some('S') {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a child has ended, and only its status is left.
pub(crate) fn has_ended(pid: u32) -> io::Result<bool> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    Ok(state(&stat) == Some('Z'))
}

fn state(stat: &str) -> Option<char> {
    // The name in parentheses may hold anything.
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next())
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
