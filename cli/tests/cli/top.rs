//! `resay top`, once, and live in tmux.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, socket};
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};
use serde_json::Value;
use tempfile::TempDir;

use crate::ctl::Controlled;
use crate::process::{PATIENCE, Process, Server, Written, ask, resay, run, terminal, wait_until};

fn connect(url: &str) -> TcpStream {
    let stream = TcpStream::connect(url.strip_prefix("tcp://").unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Keeps a listener busy.
struct Busy(TcpStream);

impl Busy {
    fn start(url: &str) -> Busy {
        let mut stream = connect(url);
        let ours = stream.try_clone().unwrap();
        thread::spawn(move || {
            let mut answer = [0; 5];
            while stream.write_all(b"hello").is_ok() && stream.read_exact(&mut answer).is_ok() {}
        });
        Busy(ours)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

#[test]
fn one_look_is_a_table_or_one_document() {
    let urls = ["tcp://127.0.0.1:0?chain=uppercase", "udp://127.0.0.1:0"];
    let controlled = Controlled::start(&urls, &["--threads", "2"]);
    let path = controlled.path.to_str().unwrap();
    let client = Busy::start(controlled.server.url());
    let url = controlled.server.url();
    let report = wait_until("there are rates and times", || {
        let output = run(["top", path, "--once", "--json", "--interval", "200ms"], b"");
        assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""));
        let text = output.text();
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        let report: Value = serde_json::from_str(&text).unwrap();
        let stage = &report["servers"][0]["listeners"][0]["stages"][0];
        stage["p50_ns"].is_u64().then_some(report)
    });
    assert_eq!(report["interval_ms"], 200);
    assert!(report["ts"].as_str().unwrap().starts_with("20"), "{report}");
    let server = &report["servers"][0];
    assert_eq!((&server["socket"], &server["state"]), (&path.into(), &"serving".into()));
    assert_eq!(server["pid"], controlled.server.process.0.id());
    let [tcp, udp] = server["listeners"].as_array().unwrap().as_slice() else { panic!("{server}") };
    assert_eq!((&tcp["url"], &tcp["chain"], &tcp["open"]), (&url.into(), &"uppercase".into(), &1.into()));
    let rate = |of: &Value, name: &str| of["per_second"][name].as_f64().unwrap();
    assert!(rate(tcp, "messages_in") > 0.0 && rate(tcp, "bytes_out") > 0.0, "{tcp}");
    assert_eq!(rate(udp, "messages_in"), 0.0);
    assert_eq!(rate(&server["totals"], "messages_in"), rate(tcp, "messages_in"));
    assert_eq!(tcp["per_second"]["dropped_by"]["rate"], 0.0);
    assert_eq!(tcp["stages"][0]["transform"], "uppercase");
    let workers = server["workers"].as_array().unwrap();
    assert_eq!(workers.len(), 2);
    let share: f64 = workers.iter().map(|worker| worker["busy_share"].as_f64().unwrap()).sum();
    assert!(share > 0.0 && share <= 2.0, "{workers:?}");
    assert_eq!(server["connections"][0]["peer"], client.0.local_addr().unwrap().to_string());

    let output = run(["top", path, "--once", "--interval", "100ms"], b"");
    let text = output.text();
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""));
    for part in [path, "LISTENER", url, "all", "uppercase", "WORKER", "WAITING", "serving"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    // The others are shown all the same.
    let output = run(["top", "/tmp/none", path, "--once", "--interval", "100ms"], b"");
    assert_eq!(output.code, Some(3), "{}", output.stderr);
    assert!(output.stderr.starts_with("resay: /tmp/none: ") && output.text().contains(url), "{output:?}");
    drop(client);
    controlled.server.end();
}

#[test]
fn peers_are_named_without_control_characters() {
    let directory = tempfile::tempdir().unwrap();
    let listener = directory.path().join("e.sock");
    let controlled = Controlled::start(&[&format!("unix:{}", listener.display())], &[]);
    let hostile = directory.path().join("\x1b[2J\n\u{9b}");
    let client = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    bind(&client, &SocketAddrUnix::new(&hostile).unwrap()).unwrap();
    rustix::net::connect(&client, &SocketAddrUnix::new(&listener).unwrap()).unwrap();
    let mut stream = UnixStream::from(client);
    assert_eq!(ask(&mut stream, b"hello"), b"hello");
    for arguments in [&["--once"][..], &["--once", "--json"]] {
        let path = controlled.path.to_str().unwrap();
        let output = run([&["top", path, "--interval", "100ms"], arguments].concat(), b"");
        let text = output.text();
        assert!(text.contains("u001b[2J"), "{text}");
        assert!(!text.contains(|letter: char| letter.is_control() && letter != '\n'), "{text:?}");
    }
    controlled.server.end();
}

#[test]
fn without_a_terminal_there_is_no_view() {
    for arguments in [
        &["top", "/tmp/none"][..],
        &["top"],
        &["top", "/tmp/none", "--json"],
        &["top", "/tmp/none", "--once", "--interval", "99ms"],
    ] {
        let output = run(arguments, b"");
        assert_eq!((output.code, output.text().as_str()), (Some(2), ""), "{arguments:?}");
    }
    assert!(run(["top", "/tmp/none"], b"").stderr.contains("--once"));
}

#[test]
fn help_has_the_keys() {
    let text = run(["top", "--help"], b"").text();
    for part in ["<SOCKET>...", "--interval", "--once", "--json", "Keys:", "Left Right", "Exit status"] {
        assert!(text.contains(part), "{part:?}\n{text}");
    }
    let page = run(["man", "top"], b"").text();
    assert!(page.contains(".SH KEYS") && page.contains("Left Right 1\\-9"), "{page}");
}

#[test]
fn every_end_gives_the_terminal_back() {
    let controlled = Controlled::start(&["tcp://127.0.0.1:0"], &[]);
    let modes = |file: &OwnedFd| tcgetattr(file).unwrap().local_modes;
    type End = fn(&Process, &mut File);
    let ends: [(End, Result<i32, i32>); 5] = [
        (|_, keys| keys.write_all(b"q").unwrap(), Ok(0)),
        (|_, keys| keys.write_all(b"\x03").unwrap(), Err(2)),
        (|process, _| process.signal(Signal::TERM), Err(15)),
        (|process, _| process.signal(Signal::INT), Err(2)),
        (|process, _| process.signal(Signal::HUP), Err(15)),
    ];
    for (end, status) in ends {
        let (mut controller, user) = terminal();
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&user, size).unwrap();
        let before = modes(&user);
        let mut command = resay(["top"]);
        command.arg(&controlled.path).stdin(user.try_clone().unwrap()).stdout(user.try_clone().unwrap());
        let mut process = Process(command.stderr(Stdio::piped()).spawn().unwrap());
        let written = Written::follow(controller.try_clone().unwrap());
        written.wait_for("serving");
        assert_ne!(modes(&user), before);
        end(&process, &mut controller);
        let ended = process.wait();
        assert_eq!(ended.code().ok_or(ended.signal().unwrap_or(0)), status);
        assert_eq!(modes(&user), before, "{status:?}");
        // The screen below, and the cursor.
        written.wait_for("\x1b[?1049l\x1b[?25h");
    }
    controlled.server.end();
}

/// A terminal of tmux, with a server of its own.
struct Tmux {
    directory: TempDir,
    pid: Option<Pid>,
}

impl Tmux {
    /// Runs the command there; `None`: there is no tmux.
    fn start(command: &str) -> Option<Tmux> {
        let mut tmux = Tmux { directory: tempfile::tempdir().unwrap(), pid: None };
        let start = ["-f", "/dev/null", "new-session", "-d", "-x", "100", "-y", "30", command];
        if !tmux.command(&start).output().ok()?.status.success() {
            return None;
        }
        let pid = tmux.ask(&["display-message", "-p", "#{pid}"]);
        tmux.pid = pid.trim().parse().ok().and_then(Pid::from_raw);
        tmux.ask(&["set-option", "-s", "escape-time", "0"]);
        Some(tmux)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        command.arg("-u").arg("-S").arg(self.directory.path().join("socket")).args(arguments);
        command.env("TERM", "xterm").env_remove("TMUX").env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
        command
    }

    fn ask(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn press(&self, keys: &[&str]) {
        self.ask(&[&["send-keys"], keys].concat());
    }

    fn type_in(&self, text: &str) {
        self.ask(&["send-keys", "-l", text]);
    }

    /// Looks until the screen has it, and says what it had instead.
    fn wait_for(&self, part: &str) -> String {
        let since = Instant::now();
        loop {
            let screen = self.ask(&["capture-pane", "-p"]);
            if screen.contains(part) {
                return screen;
            }
            assert!(since.elapsed() < PATIENCE, "{part:?} is not on the screen:\n{screen}");
        }
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        if let Some(pid) = self.pid {
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

#[test]
fn a_server_is_watched_and_driven_in_a_terminal() {
    let urls = ["tcp://127.0.0.1:0?chain=identity", "tcp://127.0.0.1:0"];
    let controlled = Controlled::start(&urls, &[]);
    let other = controlled.path.with_file_name("other");
    let resay = env!("CARGO_BIN_EXE_resay");
    let (path, other) = (controlled.path.display().to_string(), other.display().to_string());
    // What is there when the view has gone.
    let command = format!("echo before; {resay} top {path} {other} -i 100ms; echo ended $?; cat");
    let Some(tmux) = Tmux::start(&command) else {
        return eprintln!("SKIPPED: resay top at a terminal: there is no tmux");
    };
    let _client = Busy::start(controlled.server.url());
    let mut idle = connect(&controlled.server.urls[1]);
    tmux.wait_for("serving");
    let screen = tmux.wait_for(&idle.local_addr().unwrap().to_string());
    assert!(screen.contains(controlled.server.url()) && screen.contains("Slow connections"), "{screen}");

    // A wrong chain, and the caret below what is wrong; then a right one.
    tmux.press(&["Down", "c"]);
    tmux.wait_for("Chain of tcp://");
    tmux.press(&["C-u"]);
    tmux.type_in("uppercase | Upper");
    tmux.press(&["Enter"]);
    let screen = tmux.wait_for("a name has a-z");
    let column = |line: &str, what: char| line.chars().position(|letter| letter == what);
    let lines: Vec<_> = screen.lines().collect();
    let line = lines.iter().position(|line| line.contains("uppercase | Upper")).unwrap();
    assert_eq!(column(lines[line + 1], '^'), column(lines[line], 'U'), "{screen}");
    tmux.press(&["C-u"]);
    tmux.type_in("nonesuch");
    tmux.press(&["Enter"]);
    tmux.wait_for("unknown transform");
    tmux.press(&["C-u"]);
    tmux.type_in("uppercase");
    tmux.press(&["Enter"]);
    tmux.wait_for("the chain is now uppercase");
    assert_eq!(controlled.ask(&["chain", controlled.server.url()]), "uppercase\n");

    // The idle connection, which is the slowest one, is closed.
    tmux.press(&["Tab", "Home"]);
    tmux.press(&["x"]);
    tmux.wait_for(&format!(" from {}?", idle.local_addr().unwrap()));
    tmux.press(&["y"]);
    tmux.wait_for("closing connection");
    assert_eq!(idle.read(&mut [0; 16]).unwrap(), 0);

    // A server that is gone is tried until it is there.
    tmux.press(&["2"]);
    tmux.wait_for("trying again");
    let second = Server::start(&["tcp://127.0.0.1:0"], &["-q", "--control", &other]);
    tmux.wait_for(&format!("process {}", second.process.0.id()));
    second.end();
    tmux.wait_for("trying again");

    // Too small for a moment.
    tmux.ask(&["resize-window", "-x", "40", "-y", "10"]);
    tmux.wait_for("too small");
    tmux.ask(&["resize-window", "-x", "100", "-y", "30"]);
    // Keys that come before the size are about a screen on which nothing is seen.
    tmux.wait_for("Slow connections");
    tmux.press(&["1"]);
    tmux.wait_for("serving");
    tmux.press(&["d"]);
    tmux.wait_for("Drain the server");
    tmux.press(&["Enter"]);
    tmux.wait_for("gone: ");
    tmux.press(&["q"]);
    let screen = tmux.wait_for("ended 0");
    assert!(screen.contains("before") && !screen.contains("Listeners"), "{screen}");
    let Controlled { server, .. } = controlled;
    let mut process = server.process;
    assert_eq!(process.wait().code(), Some(0));
}
