//! The system: what it tells of a process, its limits, and calls that it refuses.

use std::fs;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::sockets::try_set_option;

/// Processor time that a process has used so far.
pub(crate) fn processor_time(pid: u32) -> Duration {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // Fields 14 and 15, counted from the pid; the name in parentheses may hold blanks.
    let after = text.rsplit_once(')').unwrap().1;
    let ticks: u64 =
        after.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    // SAFETY: sysconf takes no pointer.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as u64;
    Duration::from_millis(ticks * 1000 / per_second)
}

/// A figure of `/proc/PID/status` or `/proc/PID/smaps_rollup`, in bytes.
pub(crate) fn memory_figure(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{file}: {error}"));
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the figure is there");
    let kib: u64 = line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap();
    kib * 1024
}

/// The soft limit of descriptors, raised as far as it goes; gives the limit.
pub(crate) fn raise_descriptor_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a pointer to one rlimit, which lives during both calls.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = limit.rlim_max;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
    }
    limit.rlim_cur
}

/// Sets the soft limit of descriptors and gives the one before.
pub(crate) fn set_descriptor_limit(soft: u64) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: as above.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        let before = limit.rlim_cur;
        limit.rlim_cur = soft;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
        before
    }
}

/// `SO_PASSRIGHTS` (asm-generic/socket.h), Linux 6.16.
pub(crate) const SO_PASSRIGHTS: i32 = 83;

/// Whether the kernel lets a socket refuse descriptors.
pub(crate) fn can_refuse_descriptors() -> bool {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    try_set_option(&socket, libc::SOL_SOCKET, SO_PASSRIGHTS, 0).is_ok()
}

/// Makes the kernel answer a call with an error (seccomp(2)), from now on, in this thread and those that it starts. With
/// `argument`, only where the one of this number has this value.
pub(crate) fn refuse_call(number: libc::c_long, argument: Option<(u32, u32)>, error: i32) {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    let arguments = std::mem::offset_of!(libc::seccomp_data, args) as u32;
    let low = if cfg!(target_endian = "little") { 0 } else { 4 };
    let (argument, value) = argument.unwrap_or((0, 0));
    let mut program = vec![step(LOAD, 0, 0, 0), step(EQUAL, number as u32, 0, 3)];
    program.push(step(LOAD, arguments + 8 * argument + low, 0, 0));
    program.push(step(EQUAL, value, 0, 1));
    program.push(step(RETURN, libc::SECCOMP_RET_ERRNO | error as u32, 0, 0));
    program.push(step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0));
    if argument == 0 && value == 0 {
        program[1].jf = 1;
        program.drain(2..4);
    }
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the filter lives during the call and is as long as it says.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &filter), 0);
    }
}

/// Makes the kernel one that cannot refuse descriptors.
pub(crate) fn forget_how_to_refuse_descriptors() {
    for call in [libc::SYS_setsockopt, libc::SYS_getsockopt] {
        refuse_call(call, Some((2, SO_PASSRIGHTS as u32)), libc::ENOPROTOOPT);
    }
}
