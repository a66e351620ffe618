//! Watches the writable data of a library: which instruction writes where, and whether two threads are about to write
//! the same bytes at the same moment.
//!
//! The pages are read-only while they are watched. A write faults; the handler notes it, makes the pages writable and
//! sets the trap flag, so that the one instruction runs; then the pages are read-only again. To find out whether two
//! threads can write the same bytes at once, the first is stopped at its write, before it, and the second runs:
//!
//! ```text
//! first    call ── write? stopped ················· goes on: write ── …
//! second                          call ── write ──┘
//! ```
//!
//! Where a lock keeps them apart, the second waits for it and does not get there.

use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const PAGE_BYTES: usize = 4096;
const RANGES_MAX: usize = 8;
/// More writes than this are not recorded.
const WRITES_MAX: usize = 4096;
/// What should happen at once happens within this time, also on a busy machine.
const HAPPENS_WITHIN: Duration = Duration::from_secs(2);
/// A thread that sleeps for so long, or calculates for so long, waits for a lock.
const SLEEPS_MAX: u32 = 5;
const CALCULATES_MAX: Duration = Duration::from_millis(100);
const POLL_INTERVAL: Duration = Duration::from_millis(10);
const TRAP_FLAG: libc::greg_t = 0x100;
const ERROR_WRITE: libc::greg_t = 2;

/// A write to watched memory. Of the bytes there, the first eight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Write {
    pub(crate) instruction: usize,
    pub(crate) address: usize,
    pub(crate) before: u64,
    pub(crate) after: u64,
}

/// Two threads that were about to write the same bytes at once: the second wrote, then the first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Collision {
    pub(crate) first: Write,
    pub(crate) second: Write,
}

/// The writable data of a library, watched while [`record`](Watch::record) or [`collide`](Watch::collide) runs. There is
/// one at a time.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Where the library is loaded.
    pub(crate) base: usize,
    _only: MutexGuard<'static, ()>,
}

impl Watch {
    /// Of the library that has this address in it; `None`: it has no writable data.
    pub(crate) fn of(address: usize) -> Option<Watch> {
        static ONLY: Mutex<()> = Mutex::new(());
        let only = ONLY.lock().unwrap_or_else(PoisonError::into_inner);
        let mut search = Search { address, base: 0, ranges: Vec::new() };
        // SAFETY: the callback gets the search, and no other references to it are used meanwhile.
        unsafe { libc::dl_iterate_phdr(Some(visit), ptr::from_mut(&mut search).cast()) };
        if search.ranges.is_empty() || search.ranges.len() > RANGES_MAX {
            return None;
        }
        for (index, slot) in STATE.ranges.iter().enumerate() {
            let (start, end) = search.ranges.get(index).copied().unwrap_or((0, 0));
            slot[0].store(start, SeqCst);
            slot[1].store(end, SeqCst);
        }
        install(libc::SIGSEGV, on_write);
        install(libc::SIGTRAP, on_step);
        Some(Watch { base: search.base, _only: only })
    }

    /// The writes of this thread while it works; `None`: too many.
    pub(crate) fn record(&self, work: impl FnOnce()) -> Option<Vec<Write>> {
        STATE.count.store(0, SeqCst);
        STATE.threads[FIRST].id.store(thread_id(), SeqCst);
        STATE.mode.store(RECORD, SeqCst);
        protect(true);
        work();
        STATE.mode.store(OFF, SeqCst);
        protect(false);
        let count = STATE.count.load(SeqCst);
        (count <= WRITES_MAX).then(|| STATE.log[..count].iter().map(WriteCell::get).collect())
    }

    /// Runs both at once in threads of their own, so that both write to the address at the same moment; `None`: they
    /// do not.
    pub(crate) fn collide(
        &self,
        address: usize,
        first: impl FnOnce() + Send,
        second: impl FnOnce() + Send,
    ) -> Option<Collision> {
        STATE.target.store(address, SeqCst);
        for thread in &STATE.threads {
            thread.id.store(0, SeqCst);
            thread.state.store(RUNNING, SeqCst);
            thread.may_go.store(0, SeqCst);
        }
        STATE.mode.store(COLLIDE, SeqCst);
        protect(true);
        let [one, two] = &STATE.threads;
        let met = std::thread::scope(|scope| {
            scope.spawn(|| one.run(first));
            let mut met = false;
            if one.wait_until_not(RUNNING, HAPPENS_WITHIN) == AT_TARGET {
                scope.spawn(|| two.run(second));
                if two.wait_until_stuck() == AT_TARGET {
                    // The second has written: now the first does.
                    one.release(1);
                    met = one.wait_until_not(AT_TARGET, HAPPENS_WITHIN) == WROTE;
                }
            }
            STATE.mode.store(OFF, SeqCst);
            protect(false);
            one.release(u32::MAX);
            two.release(u32::MAX);
            met
        });
        met.then(|| Collision { first: one.write.get(), second: two.write.get() })
    }
}

// What the handlers share with the rest: numbers only.

const OFF: u32 = 0;
const RECORD: u32 = 1;
const COLLIDE: u32 = 2;

const FIRST: usize = 0;
const SECOND: usize = 1;

// States of a thread.
const RUNNING: u32 = 0;
const AT_TARGET: u32 = 1;
const WROTE: u32 = 2;
const FINISHED: u32 = 3;

struct State {
    mode: AtomicU32,
    ranges: [[AtomicUsize; 2]; RANGES_MAX],
    target: AtomicUsize,
    threads: [Thread; 2],
    count: AtomicUsize,
    log: [WriteCell; WRITES_MAX],
}

struct Thread {
    id: AtomicU32,
    state: AtomicU32,
    may_go: AtomicU32,
    write: WriteCell,
}

/// A [`Write`] that a signal handler can store.
struct WriteCell {
    instruction: AtomicUsize,
    address: AtomicUsize,
    before: AtomicU64,
    after: AtomicU64,
}

impl WriteCell {
    const fn new() -> WriteCell {
        WriteCell {
            instruction: AtomicUsize::new(0),
            address: AtomicUsize::new(0),
            before: AtomicU64::new(0),
            after: AtomicU64::new(0),
        }
    }

    fn get(&self) -> Write {
        Write {
            instruction: self.instruction.load(SeqCst),
            address: self.address.load(SeqCst),
            before: self.before.load(SeqCst),
            after: self.after.load(SeqCst),
        }
    }

    fn set(&self, write: Write) {
        self.instruction.store(write.instruction, SeqCst);
        self.address.store(write.address, SeqCst);
        self.before.store(write.before, SeqCst);
        self.after.store(write.after, SeqCst);
    }
}

impl Thread {
    const fn new() -> Thread {
        Thread {
            id: AtomicU32::new(0),
            state: AtomicU32::new(RUNNING),
            may_go: AtomicU32::new(0),
            write: WriteCell::new(),
        }
    }

    fn run(&self, work: impl FnOnce()) {
        self.id.store(thread_id(), SeqCst);
        work();
        self.enter(FINISHED);
    }

    fn enter(&self, state: u32) {
        self.state.store(state, SeqCst);
        wake(&self.state);
    }

    /// The state, once it is another than this one, or when the time is up.
    fn wait_until_not(&self, state: u32, within: Duration) -> u32 {
        let end = Instant::now() + within;
        loop {
            let now = self.state.load(SeqCst);
            let left = end.saturating_duration_since(Instant::now());
            if now != state || left.is_zero() {
                return now;
            }
            wait(&self.state, state, left);
        }
    }

    /// The state, once the thread no longer runs: it is at its write, has finished, or waits for something.
    fn wait_until_stuck(&self) -> u32 {
        let end = Instant::now() + HAPPENS_WITHIN;
        let mut sleeps = 0;
        loop {
            let state = self.wait_until_not(RUNNING, POLL_INTERVAL);
            sleeps = if self.is_asleep() { sleeps + 1 } else { 0 };
            let is_waiting = sleeps > SLEEPS_MAX || self.calculated() > CALCULATES_MAX;
            if state != RUNNING || is_waiting || Instant::now() >= end {
                return state;
            }
        }
    }

    /// What proc(5) says of this thread.
    fn about(&self, file: &str) -> String {
        let id = self.id.load(SeqCst);
        std::fs::read_to_string(format!("/proc/self/task/{id}/{file}")).unwrap_or_default()
    }

    fn is_asleep(&self) -> bool {
        self.about("stat").rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with('S'))
    }

    fn calculated(&self) -> Duration {
        let about = self.about("schedstat");
        Duration::from_nanos(about.split(' ').next().and_then(|time| time.parse().ok()).unwrap_or(0))
    }

    /// Ends the stops up to this one.
    fn release(&self, stops: u32) {
        self.may_go.store(stops, SeqCst);
        wake(&self.may_go);
    }

    /// Waits, in a handler: the first stop of a thread is 1.
    fn stop(&self, stop: u32) {
        loop {
            let may_go = self.may_go.load(SeqCst);
            if may_go >= stop {
                return;
            }
            wait(&self.may_go, may_go, HAPPENS_WITHIN);
        }
    }
}

static STATE: State = State {
    mode: AtomicU32::new(OFF),
    ranges: [const { [AtomicUsize::new(0), AtomicUsize::new(0)] }; RANGES_MAX],
    target: AtomicUsize::new(0),
    threads: [Thread::new(), Thread::new()],
    count: AtomicUsize::new(0),
    log: [const { WriteCell::new() }; WRITES_MAX],
};

fn thread_id() -> u32 {
    // SAFETY: takes nothing.
    unsafe { libc::syscall(libc::SYS_gettid) as u32 }
}

/// The thread that a handler runs in, if it is one of the two.
fn this_thread() -> Option<usize> {
    let id = thread_id();
    STATE.threads.iter().position(|thread| thread.id.load(SeqCst) == id)
}

fn wait(word: &AtomicU32, value: u32, within: Duration) {
    let timeout = libc::timespec { tv_sec: within.as_secs() as _, tv_nsec: within.subsec_nanos().into() };
    // SAFETY: a word and a time that live during the call; futex(2) only reads them.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, value, ptr::from_ref(&timeout))
    };
}

fn wake(word: &AtomicU32) {
    // SAFETY: futex(2) uses the address only.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}

fn ranges() -> impl Iterator<Item = (usize, usize)> {
    STATE
        .ranges
        .iter()
        .map(|slot| (slot[0].load(SeqCst), slot[1].load(SeqCst)))
        .filter(|(start, end)| start < end)
}

fn protect(read_only: bool) {
    let access = if read_only { libc::PROT_READ } else { libc::PROT_READ | libc::PROT_WRITE };
    for (start, end) in ranges() {
        // SAFETY: whole pages of the library's writable data, which stays loaded. Writes to them meanwhile fault, and
        // the handler lets them happen.
        unsafe { libc::mprotect(start as *mut libc::c_void, end - start, access) };
    }
}

/// Up to eight bytes of watched memory.
fn value_at(address: usize) -> u64 {
    let end = ranges().find(|(start, end)| (*start..*end).contains(&address)).map_or(address, |(_, end)| end);
    (address..end.min(address + 8)).rev().fold(0, |value, at| {
        // SAFETY: within a range, which is always readable.
        value << 8 | u64::from(unsafe { ptr::read_volatile(at as *const u8) })
    })
}

type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

fn install(signal: libc::c_int, handler: Handler) {
    // SAFETY: zero is a valid sigaction; the handler has the type that SA_SIGINFO asks for, and calls nothing that is not
    // safe in a handler.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = handler as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigaction(signal, &action, ptr::null_mut());
    }
}

/// The signal has nothing to do with the watch: it does what it does without a handler.
fn give_up(signal: libc::c_int) {
    // SAFETY: takes numbers only.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// SIGSEGV: a write to watched memory, or a crash.
extern "C" fn on_write(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the system passes a siginfo_t and a ucontext_t to a handler with SA_SIGINFO.
    let (address, registers) =
        unsafe { ((*info).si_addr() as usize, &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs) };
    let is_watched = ranges().any(|(start, end)| (start..end).contains(&address));
    if !is_watched || registers[libc::REG_ERR as usize] & ERROR_WRITE == 0 {
        // The instruction faults again.
        return give_up(signal);
    }
    let mode = STATE.mode.load(SeqCst);
    if mode == OFF {
        // The watch ended just now. A handler of the other thread may have made the pages read-only after that.
        return protect(false);
    }
    let this = this_thread();
    if let Some(index) = this {
        let thread = &STATE.threads[index];
        let is_on_its_way = thread.state.load(SeqCst) == RUNNING;
        if mode == RECORD || is_on_its_way {
            let instruction = registers[libc::REG_RIP as usize] as usize;
            thread.write.set(Write { instruction, address, before: value_at(address), after: 0 });
        }
        if mode == COLLIDE && index == FIRST && is_on_its_way && address == STATE.target.load(SeqCst) {
            thread.enter(AT_TARGET);
            thread.stop(1);
            if STATE.mode.load(SeqCst) == OFF {
                return;
            }
        }
    }
    protect(false);
    registers[libc::REG_EFL as usize] |= TRAP_FLAG;
}

/// SIGTRAP: the instruction has written.
extern "C" fn on_step(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: as in on_write.
    let (code, registers) =
        unsafe { ((*info).si_code, &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs) };
    if code != libc::TRAP_TRACE {
        give_up(signal);
        // SAFETY: takes a number only.
        unsafe { libc::raise(signal) };
        return;
    }
    registers[libc::REG_EFL as usize] &= !TRAP_FLAG;
    let mode = STATE.mode.load(SeqCst);
    if mode == OFF {
        return;
    }
    if let Some(index) = this_thread() {
        let thread = &STATE.threads[index];
        let mut write = thread.write.get();
        let is_target = write.address == STATE.target.load(SeqCst);
        match (mode, index, thread.state.load(SeqCst)) {
            (RECORD, ..) => {
                write.after = value_at(write.address);
                let count = STATE.count.fetch_add(1, SeqCst);
                match STATE.log.get(count) {
                    Some(cell) => cell.set(write),
                    None => {
                        STATE.mode.store(OFF, SeqCst);
                        return;
                    }
                }
            }
            (COLLIDE, FIRST, AT_TARGET) => {
                write.after = value_at(write.address);
                thread.write.set(write);
                thread.enter(WROTE);
                return thread.stop(2);
            }
            (COLLIDE, SECOND, RUNNING) if is_target => {
                write.after = value_at(write.address);
                thread.write.set(write);
                thread.enter(AT_TARGET);
                return thread.stop(1);
            }
            _ => {}
        }
    }
    if STATE.mode.load(SeqCst) != OFF {
        protect(true);
    }
}

struct Search {
    address: usize,
    base: usize,
    ranges: Vec<(usize, usize)>,
}

/// Notes the writable pages of the library that has the address in it, but for those that the linker made read-only.
unsafe extern "C" fn visit(
    info: *mut libc::dl_phdr_info,
    _: usize,
    search: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: dl_iterate_phdr(3) passes a description that is valid during the call, and the Search of the caller.
    let (info, search) = unsafe { (&*info, &mut *search.cast::<Search>()) };
    // SAFETY: the description says how many headers there are.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    let base = info.dlpi_addr as usize;
    let bounds = |header: &libc::Elf64_Phdr| {
        let start = base + header.p_vaddr as usize;
        (start, start + header.p_memsz as usize)
    };
    let loaded = || headers.iter().filter(|header| header.p_type == libc::PT_LOAD);
    let is_in = |header: &libc::Elf64_Phdr| {
        let (start, end) = bounds(header);
        (start..end).contains(&search.address)
    };
    if !loaded().any(is_in) {
        return 0;
    }
    let read_only_end = headers
        .iter()
        .filter(|header| header.p_type == libc::PT_GNU_RELRO)
        .map(|header| bounds(header).1 / PAGE_BYTES * PAGE_BYTES) // as the dynamic linker does
        .max()
        .unwrap_or(0);
    for header in loaded().filter(|header| header.p_flags & libc::PF_W != 0) {
        let (start, end) = bounds(header);
        let start = (start / PAGE_BYTES * PAGE_BYTES).max(read_only_end);
        let end = end.next_multiple_of(PAGE_BYTES);
        if start < end {
            search.ranges.push((start, end));
        }
    }
    search.base = base;
    1
}
