//! What the integration tests share: isolation, transports, peers, engines under watch.
//!
//! Every test runs in a process of its own ([`isolated`]): it starts this very test binary again for the one
//! test. So a test may count the process's descriptors and threads, set limits, the umask or signal actions,
//! and nothing that runs beside it is in the figures. When the test's body is over, descriptors and threads
//! are back to their number before, and nothing has panicked on any thread.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub(crate) mod heap;
pub(crate) mod layer;
pub(crate) mod plugin;

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use resay::{Backend, Builder, CloseReason, DropReason, Engine, Event, EventKind, LogLevel, Stats};
use socket2::{Domain, SockAddr, Socket, Type};
use tempfile::TempDir;

/// How long anything may take before it counts as never: machines are shared and slow. Only a test that fails waits so
/// long, so there is no reason for less anywhere.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How long one isolated test may take.
const TEST_LIMIT: Duration = Duration::from_secs(900);

const ISOLATED: &str = "RESAY_TEST_ISOLATED";
const ROLE: &str = "RESAY_TEST_ROLE";

// ---- Isolation.

/// Runs the body of a test in a process of its own, with the checks that end every test.
pub(crate) fn isolated<F: FnOnce()>(body: F) {
    let name = test_name::<F>();
    if std::env::var_os(ISOLATED).is_some_and(|isolated| isolated == name.as_str()) {
        if role().is_some() {
            return body();
        }
        let before = Resources::of_this_process();
        body();
        eventually("descriptors and threads are back to their number before", || {
            let after = Resources::of_this_process();
            if after == before { Ok(()) } else { Err(format!("before {before:?}, after {after:?}")) }
        });
        return;
    }
    let mut child = Process(
        again(&name).env(ISOLATED, &name).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap(),
    );
    let output = collect(child.0.stdout.take().unwrap());
    let errors = collect(child.0.stderr.take().unwrap());
    let status = child.wait(TEST_LIMIT);
    drop(child);
    let (output, errors) = (output.join().unwrap(), errors.join().unwrap());
    let text = format!("---- {name}: output\n{output}\n---- {name}: errors\n{errors}");
    match status {
        None => panic!("no end within {TEST_LIMIT:?}\n{text}"),
        Some(status) => assert!(status.success(), "{status}\n{text}"),
    }
    assert!(output.contains("1 passed"), "the test was not found under its name\n{text}");
    let expected = output.contains(PANICS_EXPECTED);
    assert!(expected || !errors.contains("panicked at"), "something panicked\n{text}");
    for line in errors.lines().filter(|line| line.starts_with("SKIPPED")) {
        eprintln!("{name}: {line}");
    }
    for line in errors.lines().filter(|line| line.starts_with("FIGURE")) {
        eprintln!("{name}: {line}");
    }
}

const PANICS_EXPECTED: &str = "[a plugin panics in this test]";

/// Says that a panic's text on standard error is a part of the test.
pub(crate) fn expect_panics() {
    println!("{PANICS_EXPECTED}");
}

/// Says loudly that something was not tested.
pub(crate) fn skipped(why: &str) {
    eprintln!("SKIPPED: {why}");
}

/// Starts this binary again for one test.
fn again(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).stdin(Stdio::null());
    die_with_parent(&mut command);
    command
}

/// No helper outlives the process that started it, whatever becomes of that one.
fn die_with_parent(command: &mut Command) {
    // SAFETY: prctl is async-signal-safe and only concerns the new process.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
}

fn test_name<F>() -> String {
    let path = std::any::type_name::<F>().trim_end_matches("::{{closure}}");
    path.split_once("::").map_or(path, |(_, name)| name).to_owned()
}

fn collect(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// What a process holds of its system.
#[derive(Debug, PartialEq, Eq)]
struct Resources {
    descriptors: Vec<String>,
    threads: usize,
}

impl Resources {
    fn of_this_process() -> Resources {
        Resources { descriptors: descriptors(), threads: fs::read_dir("/proc/self/task").unwrap().count() }
    }
}

/// The open descriptors of this process and what they are, but for the one that reads this.
pub(crate) fn descriptors() -> Vec<String> {
    let mut found: Vec<_> = fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let target = fs::read_link(entry.path()).ok()?;
            Some(format!("{} {}", entry.file_name().to_string_lossy(), target.display()))
        })
        .filter(|text| !text.contains("/proc/"))
        .collect();
    found.sort();
    found
}

// ---- Processes.

/// A process that is killed and reaped when this is dropped.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    /// Waits for the end; `None` when there is none in time.
    pub(crate) fn wait(&mut self, within: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return Some(status);
            }
            if Instant::now() > deadline {
                return None;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Which part of a test this process plays; `None`: the test itself.
pub(crate) fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// Another process of the same test, in another role. It speaks with [`say`] and is heard with `hear`; it is
/// told something with `tell`, which it reads with [`told`].
pub(crate) struct Helper {
    pub(crate) process: Process,
    output: ChildStdout,
    heard: Vec<u8>,
}

impl Helper {
    /// To be called inside of an isolated test: starts the test's body again, in this role.
    pub(crate) fn start(role: &str) -> Helper {
        Helper::start_with(role, |_| {})
    }

    /// The same, with a last word about the command.
    pub(crate) fn start_with(role: &str, adjust: impl FnOnce(&mut Command)) -> Helper {
        let mut command = again(&std::env::var(ISOLATED).unwrap());
        adjust(&mut command);
        Helper::spawn(role, command)
    }

    /// The same as an argument of another program, such as strace(1). The helper ends with its input.
    pub(crate) fn start_under(role: &str, program: &str, arguments: &[&str]) -> Helper {
        let inner = again(&std::env::var(ISOLATED).unwrap());
        let mut command = Command::new(program);
        command.args(arguments).arg(inner.get_program()).args(inner.get_args());
        die_with_parent(&mut command);
        Helper::spawn(role, command)
    }

    fn spawn(role: &str, mut command: Command) -> Helper {
        command.env(ROLE, role).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process(command.spawn().unwrap());
        let output = process.0.stdout.take().unwrap();
        Helper { process, output, heard: Vec::new() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// The next line that the helper says. Its end before that is a failure.
    pub(crate) fn hear(&mut self) -> String {
        loop {
            // The test harness writes to the same pipe, and not always whole lines: ours begin with a mark.
            let start = self.heard.windows(SAID.len()).position(|window| window == SAID.as_bytes());
            if let Some(start) = start
                && let Some(end) = self.heard[start..].iter().position(|&byte| byte == b'\n')
            {
                let line = self.heard[start + SAID.len()..start + end].to_vec();
                self.heard.drain(..=start + end);
                return String::from_utf8(line).unwrap();
            }
            let mut bytes = [0; 4096];
            match self.output.read(&mut bytes).unwrap() {
                0 => panic!("the helper ended: {}", String::from_utf8_lossy(&self.heard)),
                n => self.heard.extend_from_slice(&bytes[..n]),
            }
        }
    }

    pub(crate) fn tell(&mut self, line: &str) {
        let input = self.process.0.stdin.as_mut().unwrap();
        writeln!(input, "{line}").unwrap();
    }

    /// Closes the helper's input and waits for its good end.
    pub(crate) fn finish(mut self) {
        drop(self.process.0.stdin.take());
        let mut rest = Vec::new();
        self.output.read_to_end(&mut rest).unwrap();
        let status = self.process.wait(PATIENCE).expect("the helper ends");
        assert!(status.success(), "{status}: {}", String::from_utf8_lossy(&rest));
    }
}

const SAID: &str = "@@ ";

/// In a helper: says a line to the test.
pub(crate) fn say(line: &str) {
    let mut output = io::stdout().lock();
    writeln!(output, "{SAID}{line}").unwrap();
    output.flush().unwrap();
}

/// In a helper: the next line that the test tells; `None`: it is time to end.
pub(crate) fn told() -> Option<String> {
    let mut line = String::new();
    match io::stdin().read_line(&mut line).unwrap() {
        0 => None,
        _ => Some(line.trim_end().to_owned()),
    }
}

// ---- Waiting.

/// Repeats `attempt` until it succeeds, or fails the test with its last words.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(50);
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(why) if Instant::now() > deadline => panic!("not within {PATIENCE:?}: {what}: {why}"),
            Err(_) => thread::sleep(pause),
        }
        pause = (pause * 2).min(Duration::from_millis(5));
    }
}

/// Waits until the engine's figures satisfy `wanted`.
#[track_caller]
pub(crate) fn eventually_stats(engine: &Engine, what: &str, wanted: impl Fn(&Stats) -> bool) -> Stats {
    eventually(what, || {
        let stats = engine.stats();
        if wanted(&stats) { Ok(stats) } else { Err(format!("{stats:?}")) }
    })
}

// ---- Transports.

/// Every kind of socket that the engine serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp4,
    Tcp6,
    UnixStream,
    UnixAbstract,
    Seqpacket,
    Udp4,
    Udp6,
    UnixDatagram,
}

impl Transport {
    const EACH: [Transport; 8] = [
        Transport::Tcp4,
        Transport::Tcp6,
        Transport::UnixStream,
        Transport::UnixAbstract,
        Transport::Seqpacket,
        Transport::Udp4,
        Transport::Udp6,
        Transport::UnixDatagram,
    ];

    /// All that this machine has.
    pub(crate) fn all() -> Vec<Transport> {
        let six = has_ipv6();
        if !six {
            skipped("IPv6: this machine has no [::1]");
        }
        let here = |transport: &Transport| six || !matches!(transport, Transport::Tcp6 | Transport::Udp6);
        Transport::EACH.into_iter().filter(here).collect()
    }

    /// Those that carry a stream of bytes.
    pub(crate) fn streams() -> Vec<Transport> {
        Transport::all().into_iter().filter(|transport| transport.is_stream()).collect()
    }

    /// Those with connections.
    pub(crate) fn connected() -> Vec<Transport> {
        Transport::all().into_iter().filter(|transport| transport.is_connected()).collect()
    }

    pub(crate) fn is_stream(self) -> bool {
        self.is_connected() && self != Transport::Seqpacket
    }

    pub(crate) fn is_connected(self) -> bool {
        !matches!(self, Transport::Udp4 | Transport::Udp6 | Transport::UnixDatagram)
    }

    /// An address of this kind that nobody else has.
    pub(crate) fn url(self, directory: &Path) -> String {
        let file = |scheme: &str, name: &str| format!("{scheme}:{}", directory.join(name).display());
        match self {
            Transport::Tcp4 => "tcp://127.0.0.1:0".into(),
            Transport::Tcp6 => "tcp://[::1]:0".into(),
            Transport::Udp4 => "udp://127.0.0.1:0".into(),
            Transport::Udp6 => "udp://[::1]:0".into(),
            Transport::UnixStream => file("unix", "stream.sock"),
            Transport::UnixAbstract => format!("unix:@{}", abstract_name()),
            Transport::Seqpacket => file("unix-seqpacket", "records.sock"),
            Transport::UnixDatagram => file("unix-dgram", "datagrams.sock"),
        }
    }
}

pub(crate) fn has_ipv6() -> bool {
    std::net::TcpListener::bind("[::1]:0").is_ok()
}

/// An abstract name that nobody else has.
pub(crate) fn abstract_name() -> String {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!("resay-test-{}-{count}", std::process::id())
}

// ---- Peers.

/// The socket address, domain and type behind a listener's URL.
pub(crate) fn address_of(url: &str) -> (Domain, Type, SockAddr) {
    let url = url.split('?').next().unwrap();
    let (scheme, rest) = url.split_once(':').unwrap();
    let socket_type = match scheme {
        "tcp" | "unix" => Type::STREAM,
        "udp" | "unix-dgram" => Type::DGRAM,
        "unix-seqpacket" => Type::SEQPACKET,
        _ => panic!("{url}"),
    };
    if let Some(endpoint) = rest.strip_prefix("//") {
        let endpoint =
            if endpoint.starts_with(':') { format!("127.0.0.1{endpoint}") } else { endpoint.into() };
        let address: SocketAddr = endpoint.parse().unwrap();
        return (Domain::for_address(address), socket_type, address.into());
    }
    let path = rest.strip_prefix('@').map_or_else(|| rest.to_owned(), |name| format!("\0{name}"));
    (Domain::UNIX, socket_type, SockAddr::unix(path).unwrap())
}

/// The port of a `tcp://` or `udp://` URL.
pub(crate) fn port_of(url: &str) -> u16 {
    url.rsplit_once(':').unwrap().1.parse().unwrap()
}

/// A blocking client: one socket, connected, with a deadline for every call.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) socket: Socket,
    stream: bool,
    /// What it says goes through a layer, like what it hears.
    is_layered: bool,
}

impl Peer {
    #[track_caller]
    pub(crate) fn connect(url: &str) -> Peer {
        match Peer::try_connect(url) {
            Ok(peer) => peer,
            Err(error) => panic!("connect to {url}: {error}"),
        }
    }

    pub(crate) fn try_connect(url: &str) -> io::Result<Peer> {
        Peer::connect_with(url, |_| Ok(()))
    }

    /// With options that must be set before connecting.
    pub(crate) fn connect_with(
        url: &str,
        prepare: impl FnOnce(&Socket) -> io::Result<()>,
    ) -> io::Result<Peer> {
        let (domain, socket_type, address) = address_of(url);
        let socket = Socket::new(domain, socket_type.cloexec(), None)?;
        if domain == Domain::UNIX && socket_type == Type::DGRAM {
            // A name that the system chooses, so that there is somebody to answer.
            socket.bind(&SockAddr::unix("")?)?;
        }
        prepare(&socket)?;
        socket.connect(&address)?;
        Peer::of(socket)
    }

    /// A peer on a socket that the test has made.
    pub(crate) fn of(socket: Socket) -> io::Result<Peer> {
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let stream = socket.r#type()? == Type::STREAM;
        let mut peer = Peer { socket, stream, is_layered: false };
        if stream && layer::is_on() {
            peer.try_send(layer::HELLO)?;
            let mut heard = Vec::new();
            while heard.len() < layer::HELLO.len() {
                let more = peer.try_recv(layer::HELLO.len() - heard.len())?;
                if more.is_empty() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                heard.extend(more);
            }
            assert_eq!(heard, layer::HELLO);
            peer.is_layered = true;
        }
        Ok(peer)
    }

    /// Sends as much as the system takes at once.
    pub(crate) fn try_send_some(&self, data: &[u8]) -> io::Result<usize> {
        let mut layered = Vec::new();
        if self.is_layered {
            layered.extend_from_slice(data);
            layer::flip(&mut layered);
        }
        let wire = if self.is_layered { &layered } else { data };
        self.socket.send_with_flags(wire, libc::MSG_NOSIGNAL)
    }

    /// Sends all of a stream's bytes, or one message.
    pub(crate) fn try_send(&self, data: &[u8]) -> io::Result<()> {
        let mut rest = data;
        loop {
            let sent = self.try_send_some(rest)?;
            rest = &rest[sent..];
            if rest.is_empty() {
                return Ok(());
            }
            assert!(self.stream, "one message was sent in parts");
        }
    }

    #[track_caller]
    pub(crate) fn send(&self, data: &[u8]) {
        if let Err(error) = self.try_send(data) {
            panic!("send {} bytes: {error}", data.len());
        }
    }

    /// What comes next, at most `max` bytes; of a message what is longer is cut off.
    pub(crate) fn try_recv(&self, max: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; max];
        let n = loop {
            match (&self.socket).read(&mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        bytes.truncate(n);
        if self.is_layered {
            layer::flip(&mut bytes);
        }
        Ok(bytes)
    }

    /// One message.
    #[track_caller]
    pub(crate) fn message(&self) -> Vec<u8> {
        match self.try_recv(300_000) {
            Ok(message) => message,
            Err(error) => panic!("receive a message: {error}"),
        }
    }

    /// Exactly so many bytes of a stream.
    #[track_caller]
    pub(crate) fn exactly(&self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count);
        while bytes.len() < count {
            match self.try_recv((count - bytes.len()).min(256 * 1024)) {
                Ok(more) if more.is_empty() => {
                    panic!("the stream ended after {} of {count} bytes", bytes.len())
                }
                Ok(more) => bytes.extend(more),
                Err(error) => panic!("after {} of {count} bytes: {error}", bytes.len()),
            }
        }
        bytes
    }

    /// So many bytes of a stream, or one message.
    #[track_caller]
    pub(crate) fn exactly_or_message(&self, count: usize) -> Vec<u8> {
        if self.stream { self.exactly(count) } else { self.message() }
    }

    /// Everything up to the end of a stream.
    pub(crate) fn try_to_end(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        loop {
            let more = self.try_recv(64 * 1024)?;
            if more.is_empty() {
                return Ok(bytes);
            }
            bytes.extend(more);
        }
    }

    #[track_caller]
    pub(crate) fn to_end(&self) -> Vec<u8> {
        match self.try_to_end() {
            Ok(bytes) => bytes,
            Err(error) => panic!("receive up to the end: {error}"),
        }
    }

    /// Sends a message and gives the answer, which has `count` bytes.
    #[track_caller]
    pub(crate) fn ask_for(&self, data: &[u8], count: usize) -> Vec<u8> {
        self.send(data);
        if self.stream { self.exactly(count) } else { self.message() }
    }

    /// The same, where the length stays.
    #[track_caller]
    pub(crate) fn ask(&self, data: &[u8]) -> Vec<u8> {
        self.ask_for(data, data.len())
    }

    /// Whether anything has arrived that was not read, without waiting.
    pub(crate) fn has_something(&self) -> bool {
        let mut one = [MaybeUninit::uninit()];
        match self.socket.recv_with_flags(&mut one, libc::MSG_PEEK | libc::MSG_DONTWAIT) {
            Ok(_) => true,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    pub(crate) fn half_close(&self) {
        self.socket.shutdown(std::net::Shutdown::Write).unwrap();
    }

    /// Ends the connection with a reset, where the transport has one.
    pub(crate) fn reset(self) {
        let _ = self.socket.set_linger(Some(Duration::ZERO));
    }
}

/// Sends and receives at the same time, so that neither side's buffers can fill for good.
#[track_caller]
pub(crate) fn exchange(peer: &Peer, data: &[u8], count: usize) -> Vec<u8> {
    thread::scope(|scope| {
        scope.spawn(|| peer.send(data));
        peer.exactly(count)
    })
}

/// Whether two byte strings are the same; if not, only the place of the first difference is printed.
#[track_caller]
pub(crate) fn assert_same(what: &str, expected: &[u8], found: &[u8]) {
    if expected == found {
        return;
    }
    let at = expected.iter().zip(found).take_while(|(a, b)| a == b).count();
    let (a, b) = (expected.len(), found.len());
    panic!("{what}: {a} bytes were expected and {b} came; the first difference is at byte {at}");
}

/// Bytes without a pattern that a shift could hide.
pub(crate) fn noise(count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..count).map(|_| next()).collect()
}

// ---- Engines.

/// A directory for socket files, with a short path: addresses have 108 bytes.
pub(crate) fn directory() -> TempDir {
    tempfile::Builder::new().prefix("resay-").tempdir_in("/tmp").unwrap()
}

/// What an engine said.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<(LogLevel, EventKind, String)>>>);

impl Log {
    /// A builder whose engine says everything to this log.
    pub(crate) fn builder(&self) -> Builder {
        let log = self.clone();
        engine_builder().on_event(LogLevel::Trace, move |event: &Event<'_>| {
            log.0.lock().unwrap().push((event.level, event.kind, event.to_string()));
        })
    }

    pub(crate) fn lines(&self, kind: EventKind) -> Vec<(LogLevel, String)> {
        let all = self.0.lock().unwrap();
        all.iter().filter(|line| line.1 == kind).map(|(level, _, text)| (*level, text.clone())).collect()
    }
}

/// An engine to be, with the driver that `RESAY_BACKEND` names: the whole suite runs once for each.
pub(crate) fn engine_builder() -> Builder {
    let builder = if layer::is_on() { Engine::builder().around(layer::around) } else { Engine::builder() };
    match std::env::var("RESAY_BACKEND").as_deref() {
        Err(_) | Ok("auto") => builder,
        Ok("epoll") => builder.backend(Backend::Epoll),
        Ok("uring") => builder.backend(Backend::Uring),
        Ok(other) => panic!("RESAY_BACKEND={other}: auto, epoll or uring"),
    }
}

/// An engine with one listener of this kind on its own threads, and the listener's URL.
pub(crate) fn serve(url: &str, chain: &str) -> (Engine, String) {
    let engine = engine_builder().listen(url).unwrap().chain(chain).unwrap().start().unwrap();
    let url = engine.urls().remove(0);
    (engine, url)
}

/// Stops an engine, waits until all its workers have ended, and checks that the figures balance.
#[track_caller]
pub(crate) fn finish(engine: Engine) -> Stats {
    engine.stop();
    engine.join(PATIENCE).expect("a stopped engine ends");
    let stats = balanced(&engine);
    drop(engine);
    stats
}

/// The figures of an engine whose workers have ended: nothing is open, everything has a reason.
#[track_caller]
pub(crate) fn balanced(engine: &Engine) -> Stats {
    for listener in engine.listeners() {
        let stats = engine.listener_stats(listener.id).unwrap();
        let text = format!("{}: {stats:?}", listener.url);
        assert_eq!(stats.open, 0, "{text}");
        assert_eq!(stats.accepted, stats.closed, "{text}");
        let reasons: u64 = CloseReason::ALL.into_iter().map(|reason| stats.closed_by(reason)).sum();
        assert_eq!(stats.closed, reasons, "{text}");
        let dropped: u64 = DropReason::ALL.into_iter().map(|reason| stats.dropped_by(reason)).sum();
        assert_eq!(stats.dropped, dropped, "{text}");
        assert_eq!(stats.messages_in, stats.messages_out + stats.dropped, "{text}");
        if listener.kind.is_datagram() {
            assert_eq!(stats.accepted, 0, "{text}");
        } else if keeps_length(&listener.chain) {
            let accounted = stats.bytes_out + stats.undelivered_bytes + stats.dropped_bytes;
            assert_eq!(stats.bytes_in, accounted, "{text}");
        }
    }
    engine.stats()
}

/// Whether a chain is known to answer as many bytes as it is asked, and nothing of its own accord.
fn keeps_length(chain: &str) -> bool {
    chain.split('|').all(|stage| ["", "identity", "uppercase", "lowercase", "rot13"].contains(&stage.trim()))
}

/// Whether an engine still answers: a peer of its own asks something.
#[track_caller]
pub(crate) fn assert_answers(url: &str) {
    let peer = Peer::connect(url);
    assert_eq!(peer.ask(b"STILL THERE\n"), b"STILL THERE\n", "{url}");
}

// ---- The system.

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

/// Sends a message with flags that `Peer::send` has not.
pub(crate) fn send_flags(peer: &Peer, data: &[u8], flags: i32) -> io::Result<usize> {
    peer.socket.send_with_flags(data, flags | libc::MSG_NOSIGNAL)
}

/// Sends `data` with a descriptor of ours along (`SCM_RIGHTS`).
pub(crate) fn send_descriptor(peer: &Peer, data: &[u8], descriptor: impl AsFd) {
    try_send_descriptor(peer, data, descriptor).unwrap();
}

/// The same; the kernel may refuse it.
pub(crate) fn try_send_descriptor(peer: &Peer, data: &[u8], descriptor: impl AsFd) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let fd = descriptor.as_fd().as_raw_fd();
    let mut control = [0_u64; 8];
    let mut part = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    // SAFETY: the control buffer is aligned for cmsghdr and has room for one descriptor; the header and what it
    // points to live during the call.
    let sent = unsafe {
        let mut message: libc::msghdr = MaybeUninit::zeroed().assume_init();
        message.msg_iov = &mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(size_of::<i32>() as u32) as _;
        let header = libc::CMSG_FIRSTHDR(&message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<i32>() as u32) as _;
        libc::CMSG_DATA(header).cast::<i32>().write_unaligned(fd);
        libc::sendmsg(peer.socket.as_raw_fd(), &message, libc::MSG_NOSIGNAL)
    };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    assert_eq!(sent, data.len() as isize);
    Ok(())
}

/// `SO_PASSRIGHTS` (asm-generic/socket.h), Linux 6.16.
pub(crate) const SO_PASSRIGHTS: i32 = 83;

/// Whether the kernel lets a socket refuse descriptors.
pub(crate) fn can_refuse_descriptors() -> bool {
    use std::os::fd::AsRawFd;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    let off = 0_i32;
    // SAFETY: the pointer and the size are those of one int.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PASSRIGHTS,
            (&raw const off).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    result == 0
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

/// A path as text.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The address of a unix socket's file.
pub(crate) fn file_address(path: &Path) -> SockAddr {
    SockAddr::unix(OsStr::from_bytes(path.as_os_str().as_bytes())).unwrap()
}

/// Takes its time, where being slow is what a test is about; never to wait for something to happen.
#[allow(dead_code, unreachable_pub)]
pub fn pace(time: std::time::Duration) {
    std::thread::sleep(time);
}
