//! What the service manager hears (sd_notify(3)), and how a server ends that is a lame duck first.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::crash::compiled;
use crate::ctl::Controlled;
use crate::process::{PATIENCE, Server, resay, run, wait_until};

/// Where a service manager would listen.
struct Manager {
    socket: UnixDatagram,
    name: OsString,
    directory: TempDir,
}

impl Manager {
    fn new() -> Manager {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        Manager::of(UnixDatagram::bind(&path).unwrap(), path.into(), directory)
    }

    fn with_abstract_name() -> Manager {
        let name = format!("resay-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        Manager::of(socket, format!("@{name}").into(), tempfile::tempdir().unwrap())
    }

    fn of(socket: UnixDatagram, name: OsString, directory: TempDir) -> Manager {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Manager { socket, name, directory }
    }

    fn start(&self, arguments: &[&str], variables: &[(&str, &str)], urls: usize) -> Server {
        let mut command = resay(["serve"]);
        command.args(arguments).env("NOTIFY_SOCKET", &self.name);
        command.envs(variables.iter().copied());
        Server::of(command, urls, None)
    }

    fn next(&self) -> String {
        let mut message = [0; 4096];
        let count = self.socket.recv(&mut message).expect("a message");
        std::str::from_utf8(&message[..count]).unwrap().to_owned()
    }

    /// The next message with this line.
    fn next_with(&self, line: &str) -> String {
        let since = Instant::now();
        loop {
            let message = self.next();
            if message.lines().any(|found| found == line) {
                return message;
            }
            assert!(since.elapsed() < PATIENCE, "no {line}");
        }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }
}

fn number(message: &str, key: &str) -> u64 {
    let value = message.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("{key}: {message}")).parse().unwrap()
}

fn ask(stream: &mut TcpStream, question: &[u8]) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(question).unwrap();
    let mut answer = vec![0; question.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, question);
}

#[test]
fn a_manager_hears_of_the_beginning_the_figures_and_the_end() {
    for manager in [Manager::new(), Manager::with_abstract_name()] {
        let urls = ["tcp://127.0.0.1:0", "udp://127.0.0.1:0"];
        let server = manager.start(&urls, &[], 2);
        let first = manager.next();
        assert_eq!(first, "READY=1\nSTATUS=2 listeners, 0 connections, 0 messages\n");
        // It listened by then.
        let mut client = TcpStream::connect(server.address()).unwrap();
        ask(&mut client, b"hello");
        manager.next_with("STATUS=2 listeners, 1 connection, 1 message");
        drop(client);
        server.end();
        let last = manager.next_with("STOPPING=1");
        // 5 s to drain, and some.
        assert!((5_000_000..60_000_000).contains(&number(&last, "EXTEND_TIMEOUT_USEC")), "{last}");
    }
}

/// What cannot be told is a line of the log, and no more.
#[test]
fn a_manager_that_is_not_there_is_logged() {
    for (name, why) in [("relative", "neither a path"), ("/nonexistent/notify", "No such file")] {
        let mut command = resay(["serve", "tcp://127.0.0.1:0"]);
        command.env("NOTIFY_SOCKET", name);
        let server = Server::of(command, 1, None);
        let mut client = TcpStream::connect(server.address()).unwrap();
        ask(&mut client, b"hello");
        drop(client);
        let text = server.end();
        let lines: Vec<_> = text.lines().filter(|line| line.contains("NOTIFY_SOCKET")).collect();
        assert!(lines.len() == 1 && lines[0].contains(why), "{name}: {text}");
    }
}

#[test]
fn a_reload_is_told_and_its_end_too() {
    let manager = Manager::new();
    let file = manager.path("resay.toml");
    std::fs::write(&file, "[[listener]]\nname = \"a\"\nlisten = \"tcp://127.0.0.1:0\"\n").unwrap();
    let server = manager.start(&["--config", &file], &[], 1);
    manager.next_with("READY=1");
    // The second fails, and the server is as ready as before.
    for text in
        ["chain = \"uppercase\"\n[[listener]]\nname = \"a\"\nlisten = \"tcp://127.0.0.1:0\"\n", "chain = 1 2"]
    {
        std::fs::write(&file, text).unwrap();
        server.process.signal(Signal::HUP);
        let message = manager.next_with("RELOADING=1");
        assert!(number(&message, "MONOTONIC_USEC") > 0, "{message}");
        manager.next_with("READY=1");
    }
    server.end();
}

/// Blocks on `!` while a file is not there, and says whether the environment speaks of the manager.
const HOLDS: &str = r#"
#include <resay_plugin.h>
#include <stdlib.h>
#include <unistd.h>
static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  (void)instance, (void)session;
  while (len > 0 && data[0] == '!' && access("GO", F_OK) != 0) usleep(1000);
  if (len > 0 && data[0] == '?')
    data[0] = getenv("NOTIFY_SOCKET") || getenv("WATCHDOG_USEC") || getenv("WATCHDOG_PID") ? '1' : '0';
  return RESAY_OK;
}
static const resay_transform holds = {.struct_size = sizeof holds, .id = "holds", .map = map};
RESAY_PLUGIN(&holds);
"#;

/// The plugin, and the file that lets it go on; `None`: there is no compiler.
pub(crate) fn holds(directory: &Path) -> Option<(String, String)> {
    let go = directory.join("go").to_str().unwrap().to_owned();
    let plugin = compiled(directory, "holds", &HOLDS.replace("GO", &go))?;
    Some((plugin.to_str().unwrap().to_owned(), go))
}

/// The manager hears that the service is alive while every worker turns; not while a transform holds one, and again after that.
#[test]
fn the_watchdog_hears_nothing_while_a_worker_hangs() {
    let manager = Manager::new();
    let Some((plugin, go)) = holds(manager.directory.path()) else { return };
    let arguments = ["tcp://127.0.0.1:0", "-t", &plugin, "--threads", "2", "--watchdog", "100ms"];
    let server = manager.start(&arguments, &[("WATCHDOG_USEC", "400000")], 1);
    manager.next_with("READY=1");
    // Idle workers are alive too.
    (0..5).for_each(|_| drop(manager.next_with("WATCHDOG=1")));
    assert_eq!(run(["send", server.url(), "?"], b"").text(), "0", "the variables are unset");
    let client = resay::Client::open(server.url(), Some(PATIENCE)).unwrap();
    client.send(b"!", Some(PATIENCE)).unwrap();
    server.stderr.wait_for("transform holds has not returned for ");
    server.stderr.wait_for("has not come back since the last look");
    // Those of before.
    manager.socket.set_nonblocking(true).unwrap();
    while manager.socket.recv(&mut [0; 4096]).is_ok() {}
    manager.socket.set_nonblocking(false).unwrap();
    // A status may come meanwhile.
    let until = Instant::now() + Duration::from_secs(2);
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        manager.socket.set_read_timeout(Some(left)).unwrap();
        let mut message = [0; 4096];
        if let Ok(count) = manager.socket.recv(&mut message) {
            let message = String::from_utf8_lossy(&message[..count]);
            assert!(!message.contains("WATCHDOG"), "{message}");
        }
    }
    manager.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    std::fs::write(go, "").unwrap();
    manager.next_with("WATCHDOG=1");
    server.stderr.wait_for("transform holds has returned after ");
    drop(client);
    server.end();
}

/// A watchdog of another process is none.
#[test]
fn the_watchdog_of_another_process_is_not_fed() {
    let manager = Manager::new();
    let server =
        manager.start(&["tcp://127.0.0.1:0"], &[("WATCHDOG_USEC", "10000"), ("WATCHDOG_PID", "1")], 1);
    manager.next_with("READY=1");
    manager.socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut message = [0; 4096];
    while let Ok(count) = manager.socket.recv(&mut message) {
        let message = String::from_utf8_lossy(&message[..count]);
        assert!(!message.contains("WATCHDOG"), "{message}");
    }
    server.end();
}

#[test]
fn a_lame_duck_serves_until_its_time_is_over() {
    let manager = Manager::new();
    let mut server =
        manager.start(&["tcp://127.0.0.1:0", "--lame-duck", "1500ms", "--drain-timeout", "3s"], &[], 1);
    manager.next_with("READY=1");
    let mut old = TcpStream::connect(server.address()).unwrap();
    ask(&mut old, b"before");
    let since = Instant::now();
    server.process.signal(Signal::TERM);
    let message = manager.next_with("STOPPING=1");
    assert!(number(&message, "EXTEND_TIMEOUT_USEC") >= 4_500_000, "{message}");
    server.stderr.wait_for("SIGTERM: still serving for 1.5s");
    // Whoever comes now is served as well.
    ask(&mut TcpStream::connect(server.address()).unwrap(), b"new");
    ask(&mut old, b"still");
    manager.next_with("STATUS=lame duck: 1 listener, 1 connection, 3 messages");
    assert_eq!(old.read(&mut [0; 8]).unwrap(), 0, "then it drains");
    assert_eq!(server.process.wait().code(), Some(0), "{}", server.stderr.text());
    assert!(since.elapsed() >= Duration::from_millis(1500), "{:?}", since.elapsed());
    assert!(server.stderr.to_end().contains("the time is over: draining, at most 3s"));
}

#[test]
fn another_signal_ends_a_lame_duck() {
    let mut controlled = Controlled::start(&["tcp://127.0.0.1:0"], &["--lame-duck", "1h"]);
    assert_eq!(controlled.json(&["stats"])["state"], "serving");
    controlled.server.process.signal(Signal::TERM);
    wait_until("it is a lame duck", || (controlled.json(&["stats"])["state"] == "lame_duck").then_some(()));
    assert!(controlled.ask(&["stats"]).contains("lame duck"));
    controlled.server.process.signal(Signal::TERM);
    assert_eq!(controlled.server.process.wait().code(), Some(0));
    assert!(controlled.server.stderr.to_end().contains("another signal: draining"));
    // An order ends it as well.
    let mut controlled = Controlled::start(&["tcp://127.0.0.1:0"], &["--lame-duck", "1h"]);
    controlled.server.process.signal(Signal::INT);
    controlled.server.stderr.wait_for("SIGINT: still serving for 3600s");
    controlled.ask(&["drain"]);
    assert_eq!(controlled.server.process.wait().code(), Some(0));
}
