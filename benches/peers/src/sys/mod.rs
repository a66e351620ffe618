//! Unsafe boundary: the few system calls that the standard library does not give. Every unsafe line of this package is
//! here.

mod epoll;
mod syscall;

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

pub(crate) use epoll::Epoll;
use syscall::syscall;

/// Keeps the calling thread, and what it starts from now on, on one core.
pub(crate) fn pin(core: usize) -> io::Result<()> {
    let set = core_set(core)?;
    syscall!(sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set))?;
    Ok(())
}

fn core_set(core: usize) -> io::Result<libc::cpu_set_t> {
    // SAFETY: cpu_set_t is an array of integers, for which zero is a value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    if core >= 8 * size_of::<libc::cpu_set_t>() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("there is no core {core}")));
    }
    // SAFETY: CPU_SET writes within the set for a core below its size in bits, which was checked.
    unsafe { libc::CPU_SET(core, &mut set) };
    Ok(set)
}

/// Makes a server of this command: on one core with all that it starts, in a process group of its own, which
/// [`kill_group`] ends, and gone when this process is.
pub(crate) fn as_server(command: &mut Command, core: usize) -> io::Result<()> {
    let set = core_set(core)?;
    command.process_group(0);
    let prepare = move || {
        syscall!(sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set))?;
        syscall!(prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
        Ok(())
    };
    // SAFETY: after fork two system calls are made, which may be made there: signal-safety(7).
    unsafe { command.pre_exec(prepare) };
    Ok(())
}

/// Ends a process group that [`as_server`] made, if there is anybody left in it.
pub(crate) fn kill_group(leader: u32) {
    // A group that is gone is what was wanted.
    let _ = syscall!(kill(-(leader as libc::pid_t), libc::SIGKILL));
}

/// Lets connect(2) choose the port of a socket that is bound to an address, so that each address has all ports: ip(7).
pub(crate) fn choose_port_late(socket: &impl AsRawFd) -> io::Result<()> {
    let one: libc::c_int = 1;
    syscall!(setsockopt(
        socket.as_raw_fd(),
        libc::IPPROTO_IP,
        libc::IP_BIND_ADDRESS_NO_PORT,
        (&raw const one).cast(),
        size_of::<libc::c_int>() as libc::socklen_t,
    ))?;
    Ok(())
}

/// As many descriptors as the system lets us have: thousands of connections need more than the usual soft limit.
pub(crate) fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    syscall!(getrlimit(libc::RLIMIT_NOFILE, &mut limit))?;
    limit.rlim_cur = limit.rlim_max;
    syscall!(setrlimit(libc::RLIMIT_NOFILE, &limit))?;
    Ok(limit.rlim_cur)
}
