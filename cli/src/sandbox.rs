//! `serve --sandbox`: what a server that listens may still do to the system, whatever its transforms try.
//!
//! ```text
//! sockets are bound, transforms loaded ──> Landlock: paths, no TCP connect      (this thread, and those that it starts)
//! threads run ──────────────────────────> seccomp: system calls, with arguments (all threads)
//! ```
//!
//! Landlock comes first, since it holds for a thread and for what that starts: the engine's threads are not there yet. Of an
//! io_uring, whose operations seccomp does not see, Landlock sees the opens and connects too.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus, path_beneath_rules,
};
use libc::{c_long, c_ulong};
use resay::net::address::{Address, UnixName};
use resay::transform::spec::{ChainSpec, Target};
use resay_plugin::environment;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter_all_threads,
};

use crate::exit::{Exit, Failure};

/// What is added to an error that may come of it.
const HINT: &str = "this server runs in a sandbox (--sandbox): it reads only the directory of its configuration, plugin \
                               directories, the directories of plugins that it began with, and libraries";

static IS_ENTERED: AtomicBool = AtomicBool::new(false);

/// Of later ones nothing is needed; of those before, what the kernel knows is used.
const LANDLOCK: ABI = ABI::V5;

/// What transforms and the threads of a server read of the system, and of this process.
const SYSTEM: [&str; 14] = [
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/proc/sys/net/core/somaxconn",
    "/proc/self/fdinfo",
    // For metrics.
    "/proc/self/fd",
    "/proc/self/limits",
    "/proc/self/net",
    "/proc/self/stat",
    "/proc/self/task",
    "/sys/devices/system/cpu/online",
];

/// Where a server has business after its start.
#[derive(Debug, Default)]
pub(crate) struct Places {
    /// Files and directories that are read.
    read: Vec<PathBuf>,
    /// Directories in which files of sockets come and go.
    sockets: Vec<PathBuf>,
}

impl Places {
    pub(crate) fn new(config: Option<&Path>, plugin_dirs: &[PathBuf]) -> Places {
        let mut places = Places::default();
        places.read.extend(SYSTEM.iter().map(PathBuf::from));
        places.read.extend(plugin_dirs.iter().cloned());
        if let Some(path) = environment::variable("RESAY_PLUGIN_PATH") {
            places.read.extend(std::env::split_paths(&path));
        }
        if let Ok(program) = std::env::current_exe()
            && let Some(prefix) = program.parent().and_then(Path::parent)
        {
            places.read.push(prefix.join("lib/resay/plugins"));
        }
        // A file that is replaced is another one, so that its directory counts.
        places.read.extend(config.map(directory_of));
        places
    }

    /// The file of a socket goes at the end, and that of a server before may give way to it only later.
    pub(crate) fn add_socket(&mut self, path: &Path) {
        self.sockets.push(directory_of(path));
    }

    /// The file of a unix socket goes when its listener does.
    pub(crate) fn add_listener(&mut self, url: &str) {
        if let Ok((address, _)) = Address::parse(url)
            && let Address::Unix { name: UnixName::Path(path), .. } = address.stream()
        {
            self.add_socket(path);
        }
    }

    /// A plugin that a chain names by its path may have changed when the chain comes again.
    pub(crate) fn add_chain(&mut self, chain: &str) {
        let stages = ChainSpec::parse(chain).map(|spec| spec.stages).unwrap_or_default();
        for stage in stages {
            if let Target::File { path, .. } = stage.target {
                self.read.push(directory_of(Path::new(&path)));
            }
        }
    }
}

fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// The same failure, with a hint where the sandbox may be behind it.
pub(crate) fn explain(failure: Failure) -> Failure {
    let is_likely = matches!(failure.exit, Exit::Plugin | Exit::Unreachable | Exit::Usage)
        && ["Permission denied", "Operation not permitted", "no transform"]
            .iter()
            .any(|part| failure.text().contains(part));
    match is_likely && IS_ENTERED.load(Ordering::Relaxed) {
        true => Failure::new(failure.exit, format!("{}\n{HINT}", failure.text())),
        false => failure,
    }
}

/// Shuts this thread out of all other places, and the threads that it starts from now on.
pub(crate) fn enter(places: &Places) -> Result<(), Failure> {
    // Metrics want them, and they are asked for once: by what is not to be had any more in here.
    let _ = (procfs::page_size(), procfs::ticks_per_second());
    let status = restrict(places).map_err(failed)?;
    if status.ruleset == RulesetStatus::NotEnforced {
        return Err(failed("this kernel has no Landlock (Linux 5.13, and `landlock` among the LSMs)"));
    }
    IS_ENTERED.store(true, Ordering::Relaxed);
    Ok(())
}

fn restrict(places: &Places) -> Result<RestrictionStatus, landlock::RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let sockets: BitFlags<AccessFs> = AccessFs::MakeSock | AccessFs::RemoveFile | AccessFs::ReadDir;
    Ruleset::default()
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::ConnectTcp)?
        .create()?
        // What is not there is left out.
        .add_rules(path_beneath_rules(&places.read, read))?
        .add_rules(path_beneath_rules(&places.sockets, sockets))?
        .restrict_self()
}

/// Takes all other system calls from every thread. From then on no program can be started and no process made.
pub(crate) fn lock() -> Result<(), Failure> {
    // The C library makes threads with clone(2) where clone3(2), whose arguments no filter sees, is not there.
    let without_clone3 = filter(&BTreeMap::from([(libc::SYS_clone3, Vec::new())]), true)?;
    let allowed = filter(&allowed().map_err(failed)?, false)?;
    for program in [without_clone3, allowed] {
        apply_filter_all_threads(&program).map_err(failed)?;
    }
    Ok(())
}

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

/// A filter that refuses these calls as unknown ones, or allows no others.
fn filter(calls: &Rules, is_refused: bool) -> Result<BpfProgram, Failure> {
    let machine = TargetArch::try_from(std::env::consts::ARCH).map_err(failed)?;
    let (others, these) = match is_refused {
        true => (SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS.unsigned_abs())),
        false => (SeccompAction::Errno(libc::EPERM.unsigned_abs()), SeccompAction::Allow),
    };
    let filter = SeccompFilter::new(calls.clone(), others, these, machine).map_err(failed)?;
    filter.try_into().map_err(failed)
}

/// What a server does once it listens, on each driver.
fn allowed() -> Result<Rules, seccompiler::BackendError> {
    let mut rules: Rules = ANY.iter().map(|&call| (call, Vec::new())).collect();
    #[cfg(target_arch = "x86_64")]
    rules.extend(ANY_OLD.iter().map(|&call| (call, Vec::new())));
    let mut only = |call: c_long, argument: u8, mask: c_ulong, values: &[c_ulong]| {
        let condition = |value: &c_ulong| {
            let equal = SeccompCmpOp::MaskedEq(mask);
            SeccompCondition::new(argument, SeccompCmpArgLen::Dword, equal, *value)
                .and_then(|condition| SeccompRule::new(vec![condition]))
        };
        let found = values.iter().map(condition).collect::<Result<Vec<_>, _>>()?;
        rules.insert(call, found);
        Ok(())
    };
    const WHOLE: c_ulong = 0xffff_ffff;
    let number = |value: i32| c_ulong::from(value.unsigned_abs());
    // Reading alone. What writes is a descriptor that is open already.
    let writes = number(libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND);
    only(libc::SYS_openat, 2, writes, &[number(libc::O_RDONLY)])?;
    // Threads, and no processes.
    only(libc::SYS_clone, 0, number(libc::CLONE_THREAD), &[number(libc::CLONE_THREAD)])?;
    let families = [libc::AF_INET, libc::AF_INET6, libc::AF_UNIX].map(number);
    only(libc::SYS_socket, 0, WHOLE, &families)?;
    only(libc::SYS_socketpair, 0, WHOLE, &[number(libc::AF_UNIX)])?;
    // Signals to itself, as for abort(3).
    only(libc::SYS_tgkill, 0, WHOLE, &[c_ulong::from(std::process::id())])?;
    only(libc::SYS_prctl, 0, WHOLE, &[libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA].map(number))?;
    only(libc::SYS_ioctl, 1, WHOLE, &[libc::FIONREAD, libc::FIONBIO, libc::TIOCOUTQ, libc::TCGETS])?;
    Ok(rules)
}

/// Calls whose arguments do not matter.
const ANY: &[c_long] = &[
    // Sockets.
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_listen,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    // Waiting.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_ppoll,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    // Descriptors and files, as far as Landlock lets them be opened.
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_lseek,
    libc::SYS_memfd_create,
    libc::SYS_newfstatat,
    libc::SYS_pipe2,
    libc::SYS_pread64,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_renameat2,
    libc::SYS_statx,
    libc::SYS_unlinkat,
    libc::SYS_write,
    libc::SYS_writev,
    // Memory.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Threads, signals, who and what this is.
    libc::SYS_clone3,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_membarrier,
    libc::SYS_prlimit64,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    // Time.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
];

/// Those of them that have an older form there.
#[cfg(target_arch = "x86_64")]
const ANY_OLD: &[c_long] = &[
    libc::SYS_access,
    libc::SYS_dup2,
    libc::SYS_epoll_wait,
    libc::SYS_getrlimit,
    libc::SYS_lstat,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_stat,
    libc::SYS_time,
    libc::SYS_unlink,
];

fn failed(error: impl Display) -> Failure {
    Failure::new(Exit::Unreachable, format!("--sandbox: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The filters are made, whether or not they are used here.
    #[test]
    fn the_filters_compile() {
        let rules = allowed().unwrap();
        assert!(!filter(&rules, false).unwrap_or_else(|error| panic!("{}", error.text())).is_empty());
        for refused in [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_connect,
            libc::SYS_ptrace,
            libc::SYS_io_uring_setup,
        ] {
            assert!(!rules.contains_key(&refused), "{refused}");
        }
    }

    #[test]
    fn places_are_directories() {
        let mut places = Places::new(Some(Path::new("/etc/resay/resay.toml")), &[]);
        places.add_socket(Path::new("ctl"));
        places.add_listener("unix:/run/resay/e.sock");
        places.add_listener("unix:@name");
        places.add_listener("tcp://127.0.0.1:1");
        places.add_chain("uppercase | ./libmine.so | /opt/x/lib.so");
        assert_eq!(places.sockets, [".", "/run/resay"].map(PathBuf::from));
        for read in ["/etc/resay", ".", "/opt/x"] {
            assert!(places.read.contains(&PathBuf::from(read)), "{read}: {places:?}");
        }
    }
}
