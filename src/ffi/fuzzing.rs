//! Sequences of calls, in any order and with any arguments that C's rules allow: pointers that are NULL or good, handles that
//! are freed once, numbers and texts as they come.

use std::ffi::{CString, c_char, c_int};
use std::mem::MaybeUninit;
use std::ptr;

use super::RESAY_ABI;
use super::client::*;
use super::connection::*;
use super::dry_run::*;
use super::engine::*;
use super::error::{RESAY_E_BUG, resay_code_name};
use super::event::*;
use super::listener::*;
use super::observe::*;
use super::run::*;
use super::tap::*;
use super::transform::*;

/// More calls show nothing new and take long.
const CALLS_MAX: usize = 40;
/// How long a call may wait.
const PATIENCE_MS: i32 = 2;
/// How many of each handle there may be.
const HANDLES: usize = 2;
/// Numbers of listeners and connections that are kept.
const NUMBERS_MAX: usize = 4;

const URLS: [&str; 10] = [
    "tcp://127.0.0.1:0",
    "udp://127.0.0.1:0",
    "tcp://:0?frame=lines&idle_timeout=1ms",
    "udp://:0?guard=public",
    "tcp://127.0.0.1:0?frame=len8&max_connections=1",
    "unix:@",
    "unix-dgram:@",
    "fd:",
    "systemd:nothing",
    "tcp://127.0.0.1:1?backlog=",
];
const CHAINS: [&str; 8] =
    ["", "identity", "uppercase | hex", "delay:time=1ms", "nothing", "hex:mode=decode", "close", "rot13|"];
const KEYS: [&str; 8] =
    ["backend", "frame", "idle_timeout", "max_message", "thread_name", "spin", "high_water", "nothing"];
const VALUES: [&str; 8] = ["epoll", "auto", "lines", "1ms", "64", "off", "1k", ""];
const KINDS: [&str; 5] = ["tcp", "udp", "unix", "unix-seqpacket", "stream"];

/// Makes the calls that `data` says.
pub(crate) fn calls(data: &[u8]) {
    let mut host = Host::default();
    host.data = data;
    for _ in 0..CALLS_MAX {
        let Some(which) = host.byte() else { break };
        host.call(which);
    }
}

/// What a program in C has.
#[derive(Default)]
struct Host<'a> {
    data: &'a [u8],
    engines: [Handle<resay_engine>; HANDLES],
    events: [Handle<resay_events>; HANDLES],
    taps: [Handle<resay_tap>; HANDLES],
    clients: [Handle<resay_client>; HANDLES],
    dry_runs: [Handle<resay_dry_run>; HANDLES],
    listeners: Vec<u64>,
    connections: Vec<u64>,
    /// Where one of the listeners is.
    url: Option<CString>,
}

/// A pointer that is NULL or good.
struct Handle<T>(*mut T);

impl<T> Default for Handle<T> {
    fn default() -> Handle<T> {
        Handle(ptr::null_mut())
    }
}

impl Host<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.data.split_first()?;
        self.data = rest;
        Some(*first)
    }

    /// A number in `0..bound`; 0 where nothing is left.
    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte().unwrap_or_default()) % bound.max(1)
    }

    /// One of these, or the next bytes themselves; `None`: NULL.
    fn text(&mut self, known: &[&str]) -> Option<CString> {
        let which = self.below(known.len() + 2);
        if let Some(text) = known.get(which) {
            return CString::new(*text).ok();
        }
        if which > known.len() {
            return None;
        }
        let (text, rest) = self.data.split_at(self.data.len().min(8));
        self.data = rest;
        // No path: neither plugins nor sockets are to be found by chance.
        CString::new(text.iter().copied().filter(|byte| !b"\0/.".contains(byte)).collect::<Vec<_>>()).ok()
    }

    fn engine(&mut self) -> *mut resay_engine {
        let place = self.below(HANDLES);
        self.engines[place].0
    }

    /// One that was given, 0 or none at all.
    fn number(&mut self, known: &[u64]) -> u64 {
        let which = self.below(NUMBERS_MAX + 2);
        match known.get(which) {
            Some(number) => *number,
            None if which == NUMBERS_MAX => 0,
            None => u64::from(self.byte().unwrap_or_default()) << 32 | 77,
        }
    }

    fn listener(&mut self) -> u64 {
        self.number(&self.listeners.clone())
    }

    fn connection(&mut self) -> u64 {
        self.number(&self.connections.clone())
    }

    fn call(&mut self, which: u8) {
        let code = match which % 6 {
            0 => self.live(which / 6),
            1 => self.configure(which / 6),
            2 => self.direct(which / 6),
            3 => self.run(which / 6),
            4 => self.observe(which / 6),
            _ => self.ask(which / 6),
        };
        assert_ne!(code, RESAY_E_BUG, "a fault of the engine's own");
        if code < 0 {
            // SAFETY: the name of a code is a static text.
            let name = unsafe { std::ffi::CStr::from_ptr(resay_code_name(code)) };
            assert!(name.to_bytes().starts_with(b"RESAY_E_"), "{code} is no code");
        }
    }

    /// Handles come and go.
    fn live(&mut self, which: u8) -> c_int {
        let (engine, place) = (self.engine(), self.below(HANDLES));
        let null = ptr::null_mut();
        // SAFETY: what is freed is not used again: its place is NULL; each `out` is a place of ours that is NULL before.
        unsafe {
            match which % 9 {
                0 | 1 if self.engines[place].0.is_null() => {
                    let abi = if self.below(16) == 15 { 99 } else { RESAY_ABI };
                    resay_engine_new(abi, &mut self.engines[place].0, null)
                }
                2 => resay_engine_free(std::mem::take(&mut self.engines[place]).0),
                3 if self.events[place].0.is_null() => {
                    let (kinds, capacity) = (self.below(256) as u32, self.below(40) as u32);
                    resay_events_open(engine, kinds, capacity, &mut self.events[place].0, null)
                }
                4 => resay_events_close(std::mem::take(&mut self.events[place]).0),
                5 if self.taps[place].0.is_null() => {
                    resay_tap_open(engine, ptr::null(), &mut self.taps[place].0, null)
                }
                6 => resay_tap_close(std::mem::take(&mut self.taps[place]).0),
                7 if self.dry_runs[place].0.is_null() => {
                    let (chain, kind) = (self.text(&CHAINS), self.text(&KINDS));
                    let frame = self.text(&["raw", "lines"]);
                    let out = &mut self.dry_runs[place].0;
                    resay_dry_run_new(engine, pointer(&chain), pointer(&kind), pointer(&frame), out, null)
                }
                8 => resay_dry_run_free(std::mem::take(&mut self.dry_runs[place]).0),
                _ => 0,
            }
        }
    }

    fn configure(&mut self, which: u8) -> c_int {
        let (engine, listener) = (self.engine(), self.listener());
        let (mut id, mut buffer) = (0, [0; 40]);
        let (mut need, cap) = (0, self.below(buffer.len()));
        let (buf, need): (*mut c_char, *mut usize) = (buffer.as_mut_ptr(), &mut need);
        let null = ptr::null_mut();
        // SAFETY: NULL or good pointers, and a buffer that is at least as long as it is said to be.
        unsafe {
            match which % 9 {
                0 | 1 => {
                    let url = self.text(&URLS[..]);
                    let code = resay_listen(engine, pointer(&url), &mut id, null);
                    if code == 0 && self.listeners.len() < NUMBERS_MAX {
                        self.listeners.push(id);
                    }
                    code
                }
                2 => {
                    let (key, value) = (self.text(&KEYS), self.text(&VALUES));
                    resay_set(engine, pointer(&key), pointer(&value), null)
                }
                3 => {
                    let key = self.text(&KEYS);
                    resay_get(engine, pointer(&key), buf, cap, need)
                }
                4 | 5 => {
                    let chain = self.text(&CHAINS);
                    resay_chain(engine, listener, pointer(&chain), null)
                }
                6 => {
                    let mut place = [0; 256];
                    let code = resay_listener_url(engine, listener, place.as_mut_ptr(), place.len(), need);
                    if code == 0 {
                        self.url = Some(std::ffi::CStr::from_ptr(place.as_ptr()).to_owned());
                    }
                    code
                }
                7 => {
                    let key = self.text(&KEYS);
                    resay_listener_option(engine, listener, pointer(&key), buf, cap, need)
                }
                _ => resay_listener_chain(engine, listener, buf, cap, need),
            }
        }
    }

    /// Listeners and connections while they are served.
    fn direct(&mut self, which: u8) -> c_int {
        let (engine, listener, connection) = (self.engine(), self.listener(), self.connection());
        let (mut ids, mut count) = ([0; NUMBERS_MAX], 0);
        let cap = self.below(NUMBERS_MAX + 1);
        // SAFETY: NULL or good pointers, and room for as many numbers as is said.
        unsafe {
            match which % 14 {
                0 => resay_listener_close(engine, listener),
                1 => resay_listener_port(engine, listener),
                2 => resay_listener_pause(engine, listener),
                3 => resay_listener_resume(engine, listener),
                4 => resay_listener_reset(engine, listener),
                5 => resay_listener_accept(engine, listener, self.below(3) as c_int - 1),
                6 | 7 => {
                    let code = resay_connections(engine, listener, ids.as_mut_ptr(), cap, &mut count);
                    self.connections = ids[..count.min(cap)].to_vec();
                    code
                }
                8 => {
                    let mut info = MaybeUninit::<resay_connection>::zeroed();
                    let size = self.below(size_of::<resay_connection>() + 1) as u32;
                    info.as_mut_ptr().cast::<u32>().write(size);
                    resay_connection_get(engine, connection, info.as_mut_ptr())
                }
                9 => resay_connection_send(engine, connection, self.data.as_ptr().cast(), self.data.len()),
                10 => resay_connection_shutdown(engine, connection),
                11 => resay_connection_close(engine, connection),
                12 => resay_connection_reset(engine, connection),
                _ if self.below(2) == 0 => resay_connection_pause(engine, connection),
                _ => resay_connection_resume(engine, connection),
            }
        }
    }

    fn run(&mut self, which: u8) -> c_int {
        let engine = self.engine();
        // SAFETY: a good pointer or NULL.
        unsafe {
            match which % 8 {
                0 => resay_start(engine, self.below(4) as u32, ptr::null_mut()),
                1 | 2 => resay_run(engine, self.below(2) as i32),
                3 => resay_poll_fd(engine),
                4 => {
                    let _ = resay_poll_timeout(engine);
                    0
                }
                5 => resay_stop(engine),
                6 if self.below(2) == 0 => resay_drain(engine, PATIENCE_MS),
                6 => resay_join(engine, PATIENCE_MS),
                _ => resay_sync(engine, PATIENCE_MS),
            }
        }
    }

    fn observe(&mut self, which: u8) -> c_int {
        let (engine, listener, place) = (self.engine(), self.listener(), self.below(HANDLES));
        let (events, tap) = (self.events[place].0, self.taps[place].0);
        // SAFETY: NULL or good pointers; structs are as long as they say.
        unsafe {
            match which % 6 {
                0 => {
                    let mut stats = MaybeUninit::<resay_stats>::zeroed();
                    let size = self.below(size_of::<resay_stats>() + 1) as u32;
                    stats.as_mut_ptr().cast::<u32>().write(size);
                    resay_stats_get(engine, listener, stats.as_mut_ptr())
                }
                1 => {
                    let mut event = MaybeUninit::<resay_event>::zeroed();
                    event.as_mut_ptr().cast::<u32>().write(size_of::<resay_event>() as u32);
                    resay_events_next(events, event.as_mut_ptr(), self.below(2) as i32)
                }
                2 => resay_events_fd(events),
                3 => {
                    let mut records = MaybeUninit::<[resay_tap_record; 4]>::zeroed();
                    let (count, size) = (self.below(5), size_of::<resay_tap_record>());
                    let mut buffer = [0_u8; 300];
                    let cap = self.below(buffer.len());
                    let to = records.as_mut_ptr().cast();
                    resay_tap_read(tap, to, size, count, buffer.as_mut_ptr().cast(), cap, 0)
                }
                4 => resay_tap_fd(tap),
                _ => {
                    let _ = (resay_events_lost(events), resay_tap_lost(tap));
                    0
                }
            }
        }
    }

    /// A peer, and a chain without one.
    fn ask(&mut self, which: u8) -> c_int {
        let place = self.below(HANDLES);
        let (client, dry_run) = (self.clients[place].0, self.dry_runs[place].0);
        let mut buffer = [0_u8; 64];
        let (mut got, cap) = (0, self.below(buffer.len()));
        let room = buffer.as_mut_ptr().cast();
        // SAFETY: NULL or good pointers; what is freed is NULL afterwards.
        unsafe {
            match which % 6 {
                0 | 1 if client.is_null() => {
                    let url = self.url.clone();
                    let out = &mut self.clients[place].0;
                    resay_client_open(pointer(&url), PATIENCE_MS, out, ptr::null_mut())
                }
                2 => resay_client_send(client, self.data.as_ptr().cast(), self.data.len(), PATIENCE_MS),
                3 => resay_client_recv(client, room, cap, &mut got, PATIENCE_MS),
                4 => resay_dry_run_process(
                    dry_run,
                    self.data.as_ptr().cast(),
                    self.data.len(),
                    room,
                    cap,
                    &mut got,
                ),
                5 if self.below(2) == 0 => resay_client_shutdown(client),
                _ => {
                    resay_client_free(std::mem::take(&mut self.clients[place]).0);
                    0
                }
            }
        }
    }
}

impl Drop for Host<'_> {
    fn drop(&mut self) {
        // SAFETY: each is NULL or good, and this is its end.
        unsafe {
            self.clients.iter().for_each(|client| resay_client_free(client.0));
            self.engines.iter().for_each(|engine| assert_eq!(resay_engine_free(engine.0), 0));
            // They outlive their engine.
            self.taps.iter().for_each(|tap| assert_eq!(resay_tap_close(tap.0), 0));
            self.events.iter().for_each(|events| assert_eq!(resay_events_close(events.0), 0));
            self.dry_runs.iter().for_each(|dry_run| assert_eq!(resay_dry_run_free(dry_run.0), 0));
        }
    }
}

fn pointer(text: &Option<CString>) -> *const c_char {
    text.as_ref().map_or(ptr::null(), |text| text.as_ptr())
}
