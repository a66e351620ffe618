use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;
use rustix::pipe::pipe;
use rustix::process::Signal;

use crate::process::{PATIENCE, Process, Server, Written, ask, resay, run, wait_until};

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn one_line_a_listener_with_the_real_port() {
    let directory = tempfile::tempdir().unwrap();
    let unix = format!("unix:{}", directory.path().join("e.sock").display());
    let urls =
        ["tcp://127.0.0.1:0", "tcp://[::1]:0", "udp://127.0.0.1:0", &unix, "tcp://127.0.0.1:0?frame=lines"];
    let server = Server::start(&urls, &["-t", "uppercase", "--threads", "2"]);
    for (asked, real) in urls.iter().zip(&server.urls) {
        let place = asked.split('?').next().unwrap().strip_suffix(":0");
        assert!(real.starts_with(place.unwrap_or(asked)) && !real.ends_with(":0"), "{asked}: {real}");
    }
    assert_eq!(ask(&mut connect(&server), b"hello"), b"HELLO");
    let text = server.end();
    assert!(text.contains(r#"listeners 5, threads 2, backend auto, chain "uppercase""#), "{text}");
    assert!(!directory.path().join("e.sock").exists());
}

#[test]
fn threads_have_the_name_and_the_processors_that_were_asked_for() {
    let mine = std::fs::read_to_string("/proc/self/status").unwrap();
    let field = |status: &str, key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim_start_matches(':').trim().to_owned()
    };
    let list = field(&mine, "Cpus_allowed_list");
    let cpu = list.split([',', '-']).next().unwrap();
    let arguments =
        ["--threads", "2", "--thread-name", "here", "--thread-cpus", cpu, "--thread-stack", "512k"];
    let server = Server::start(&["tcp://127.0.0.1:0"], &arguments);
    assert_eq!(ask(&mut connect(&server), b"hello"), b"hello");
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.process.0.id())).unwrap();
    let tasks = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("status")).unwrap());
    let workers: Vec<_> = tasks.filter(|status| field(status, "Name").starts_with("here-")).collect();
    assert_eq!(workers.len(), 3, "two workers and the watchdog");
    assert!(workers.iter().all(|status| field(status, "Cpus_allowed_list") == cpu));
    server.end();
    for (option, value, what) in [
        ("--thread-cpus", "0-", "thread_cpus"),
        ("--thread-stack", "1k", "thread_stack"),
        ("--thread-name", "", "thread_name"),
    ] {
        let output = run(["serve", "tcp://127.0.0.1:0", option, value], b"");
        assert_eq!(output.code, Some(2), "{option}: {}", output.stderr);
        assert!(output.stderr.contains(what), "{option}: {}", output.stderr);
    }
}

#[test]
fn quiet_says_nothing_and_verbose_says_what_became_of_options() {
    let server = Server::start(&["tcp://127.0.0.1:0"], &["-q"]);
    assert_eq!(server.end(), "");
    let server = Server::start(&["tcp://127.0.0.1:0"], &["-v", "-t", "uppercase", "--set", "backlog=7"]);
    assert_eq!(ask(&mut connect(&server), b"hello"), b"HELLO");
    let text = server.end();
    for part in [
        "backlog=7",
        "rcvbuf=",
        r#"chain "uppercase""#,
        "accepted",
        "messages in 1, out 1, dropped 0",
        "bytes in 5, out 5",
        "connections accepted 1, closed 1",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
}

#[test]
fn the_log_in_json_is_an_object_a_line() {
    let server = Server::start(&["tcp://127.0.0.1:0"], &["-vv", "--log", "json"]);
    let (url, mut stream) = (server.url().to_owned(), connect(&server));
    ask(&mut stream, b"hello");
    let peer = stream.local_addr().unwrap().to_string();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(std::io::Read::read(&mut stream, &mut [0]).unwrap(), 0);
    let text = server.end();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    for line in &lines {
        let keys: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
        let mut wanted = ["ts", "level", "kind", "listener", "connection", "peer", "cause", "errno", "text"];
        wanted.sort_unstable();
        assert_eq!(keys, wanted, "{line}");
    }
    let accepted = lines.iter().find(|line| line["kind"] == "accepted").expect(&text);
    assert_eq!(accepted["listener"], url);
    assert!(accepted["connection"].as_u64() > Some(1), "one counter numbers listeners and connections");
    assert_eq!(accepted["peer"], peer);
    let closed = lines.iter().find(|line| line["kind"] == "closed").expect(&text);
    assert_eq!((&closed["connection"], &closed["cause"]), (&accepted["connection"], &"peer_closed".into()));
}

#[test]
fn what_cannot_be_served_exits_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let broken = directory.path().join("libbroken.so");
    std::fs::write(&broken, "not a library").unwrap();
    let none = format!("unix:{}", directory.path().join("none/e.sock").display());
    let here = "tcp://127.0.0.1:0";
    let table: [(&[&str], i32); 11] = [
        (&["tcp://127.0.0.1:65536"], 2),
        (&[here, "-t", "uppercase |"], 2),
        (&[here, "--set", "backlg=1"], 2),
        (&[here, "--set", "backlog"], 2),
        (&[here, "--threads", "0"], 2),
        (&[here, "--backend", "nonsense"], 2),
        (&["tcp://192.0.2.1:0"], 3),
        (&[&none], 3),
        (&[here, "-t", "nonesuch"], 6),
        (&[here, "-t", "uppercase:nonesuch=1"], 6),
        (&[here, "-t", broken.to_str().unwrap()], 6),
    ];
    for (arguments, code) in table {
        let output = run(["serve"].iter().chain(arguments), b"");
        assert_eq!(
            (output.code, output.text().as_str()),
            (Some(code), ""),
            "{arguments:?} {}",
            output.stderr
        );
        assert!(output.stderr.starts_with("resay: "), "{arguments:?} {}", output.stderr);
    }
    // Two listeners at one place: none is left open, nothing is printed.
    let server = Server::start(&[here], &[]);
    let output = run(["serve", here, server.url()], b"");
    assert_eq!((output.code, output.text().as_str()), (Some(3), ""), "{}", output.stderr);
}

#[test]
fn a_bad_chain_is_pointed_at() {
    for (chain, before) in [("uppercase | Upper", "uppercase | "), ("identity ||", "identity |"), ("é", "")]
    {
        let output = run(["serve", "tcp://127.0.0.1:0", "-t", chain], b"");
        let lines: Vec<_> = output.stderr.lines().collect();
        let [message, text, caret] = lines[..] else { panic!("{}", output.stderr) };
        assert!(message.contains(" (chain \""), "{message}");
        assert_eq!(text, format!("  {chain}"));
        assert_eq!(caret, format!("  {}^", " ".repeat(before.len())), "{chain}");
        assert_eq!(output.code, Some(2));
    }
}

#[test]
fn clients_that_wait_to_be_accepted_are_answered_while_draining() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("e.sock");
    let server =
        Server::start(&["tcp://127.0.0.1:0", &format!("unix:{}", path.display())], &["-t", "uppercase"]);
    // Stopped, the server finds the clients and the signal at once, in whatever order it likes.
    server.process.signal(Signal::STOP);
    let mut clients: Vec<_> = (0..8).map(|_| connect(&server)).collect();
    let mut local = UnixStream::connect(&path).unwrap();
    local.set_read_timeout(Some(PATIENCE)).unwrap();
    clients.iter_mut().for_each(|client| client.write_all(b"hello").unwrap());
    local.write_all(b"hello").unwrap();
    server.process.signal(Signal::TERM);
    server.process.signal(Signal::CONT);
    for stream in &mut clients {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "HELLO");
    }
    let mut answer = String::new();
    local.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "HELLO");
    let mut server = server;
    assert_eq!(server.process.wait().code(), Some(0), "{}", server.stderr.text());
    let text = server.stderr.to_end();
    assert!(text.contains("SIGTERM: draining") && text.ends_with("drained\n"), "{text}");
    assert!(!path.exists());
}

/// A client that asks and asks, and never reads an answer: draining waits for it.
fn stubborn(server: &Server) -> TcpStream {
    let mut stream = connect(server);
    stream.set_nonblocking(true).unwrap();
    let (data, mut idle_since) = ([b'x'; 65536], None);
    wait_until("the server takes no more", || match stream.write(&data) {
        Ok(_) => {
            idle_since = None;
            None
        }
        Err(_) => {
            let since: &mut Instant = idle_since.get_or_insert_with(Instant::now);
            (since.elapsed() > Duration::from_millis(500)).then_some(())
        }
    });
    stream
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut server = Server::start(&["tcp://127.0.0.1:0"], &["--drain-timeout", "10m"]);
    let _client = stubborn(&server);
    server.process.signal(Signal::INT);
    server.stderr.wait_for("SIGINT: draining");
    assert!(server.process.0.try_wait().unwrap().is_none(), "it drains");
    let since = Instant::now();
    server.process.signal(Signal::TERM);
    assert_eq!(server.process.wait().code(), Some(0), "{}", server.stderr.text());
    assert!(since.elapsed() < PATIENCE, "{:?}", since.elapsed());
}

#[test]
fn the_drain_timeout_is_kept() {
    let server = Server::start(&["tcp://127.0.0.1:0"], &["--drain-timeout", "200ms", "-v"]);
    let _client = stubborn(&server);
    let since = Instant::now();
    let text = server.end_with(4);
    assert!(since.elapsed() < PATIENCE, "{:?}", since.elapsed());
    assert!(text.contains("SIGTERM: draining, at most 200ms"), "{text}");
    assert!(text.contains("drained, but not all in time: 1 connections were cut off, "), "{text}");
    assert!(text.contains(" bytes of answers were not delivered\n"), "{text}");
}

#[test]
fn sighup_changes_nothing() {
    let server = Server::start(&["tcp://127.0.0.1:0"], &[]);
    server.process.signal(Signal::HUP);
    server.stderr.wait_for("SIGHUP: there is no configuration file to read again");
    assert_eq!(ask(&mut connect(&server), b"hello"), b"hello");
    server.end();
}

#[test]
fn after_a_kill_the_same_places_can_be_bound_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("e.sock");
    let unix = format!("unix:{}", path.display());
    let datagrams = format!("unix-dgram:{}", directory.path().join("d.sock").display());
    let mut server = Server::start(&["tcp://127.0.0.1:0", "udp://127.0.0.1:0", &unix, &datagrams], &[]);
    let urls = server.urls.clone();
    for round in 0..3 {
        let (mut client, mut local) = (connect(&server), UnixStream::connect(&path).unwrap());
        assert_eq!(ask(&mut client, b"hello"), b"hello", "{round}");
        assert_eq!(ask(&mut local, b"hello"), b"hello", "{round}");
        server.process.signal(Signal::KILL);
        assert_eq!(server.process.wait().code(), None);
        assert!(path.exists(), "a killed process cleans nothing up");
        // The clients are still there while the new server binds.
        server = Server::start(&urls.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
        assert_eq!(server.urls, urls);
    }
    server.end();
}

/// Serves on `path` with this standard output and error, and waits until it answers.
fn start_blind(path: &Path, stdout: Stdio, stderr: Stdio) -> Process {
    let mut command = resay(["serve", &format!("unix:{}", path.display()), "-vv"]);
    command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    let process = Process(command.spawn().unwrap());
    let mut stream = wait_until("it listens", || UnixStream::connect(path).ok());
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(ask(&mut stream, b"hello"), b"hello");
    process
}

/// The writing end of a pipe that nobody reads.
fn broken_pipe() -> OwnedFd {
    pipe().unwrap().1
}

#[test]
fn closed_standard_output_and_error_are_no_reason_to_die() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("e.sock");
    let (reader, writer) = pipe().unwrap();
    let mut process = start_blind(&path, broken_pipe().into(), writer.into());
    let stderr = Written::follow(File::from(reader));
    stderr.wait_for("standard output: ");
    process.signal(Signal::TERM);
    assert_eq!(process.wait().code(), Some(0), "{}", stderr.text());

    let mut process = start_blind(&path, broken_pipe().into(), broken_pipe().into());
    for _ in 0..100 {
        assert_eq!(ask(&mut UnixStream::connect(&path).unwrap(), b"hello"), b"hello");
    }
    process.signal(Signal::TERM);
    assert_eq!(process.wait().code(), Some(0));
}

/// A pipe that is full.
fn full_pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = pipe().unwrap();
    fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
    while rustix::io::write(&writer, &[b'.'; 4096]) != Err(Errno::AGAIN) {}
    fcntl_setfl(&writer, OFlags::empty()).unwrap();
    (reader, writer)
}

#[test]
fn a_blocked_standard_error_stalls_nobody_and_is_told_later() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("e.sock");
    let (reader, writer) = full_pipe();
    let mut process = start_blind(&path, Stdio::null(), writer.into());
    // Each connection is two lines; this is more than may wait.
    for _ in 0..6_000 {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(ask(&mut stream, b"hello"), b"hello");
    }
    let stderr = Written::follow(File::from(reader));
    stderr.wait_for(" lines dropped: standard error takes no more");
    process.signal(Signal::TERM);
    assert_eq!(process.wait().code(), Some(0));
    stderr.wait_for("drained\n");
}

#[test]
fn a_blocked_standard_error_does_not_keep_it_from_ending() {
    let directory = tempfile::tempdir().unwrap();
    let (_reader, writer) = full_pipe();
    let mut process = start_blind(&directory.path().join("e.sock"), Stdio::null(), writer.into());
    process.signal(Signal::TERM);
    assert_eq!(process.wait().code(), Some(0));
}

#[test]
fn many_clients_on_several_threads() {
    let server = Server::start(&["tcp://127.0.0.1:0"], &["-t", "uppercase", "--threads", "4"]);
    thread::scope(|scope| {
        for _ in 0..16 {
            let mut client = connect(&server);
            scope.spawn(move || {
                (0..50).for_each(|_| assert_eq!(ask(&mut client, b"hello"), b"HELLO"));
            });
        }
    });
    server.end();
}
