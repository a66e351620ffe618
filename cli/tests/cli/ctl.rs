use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Output, PATIENCE, Process, Server, ask, finish, pace, resay, run, wait_until};

/// `resay serve` with a control socket.
pub(crate) struct Controlled {
    pub(crate) server: Server,
    pub(crate) path: PathBuf,
    directory: TempDir,
}

impl Controlled {
    pub(crate) fn start(urls: &[&str], others: &[&str]) -> Controlled {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ctl");
        let others = [&["--control", path.to_str().unwrap()], others].concat();
        Controlled { server: Server::start(urls, &others), path, directory }
    }

    pub(crate) fn ctl(&self, arguments: &[&str]) -> Output {
        ctl(&self.path, arguments)
    }

    /// What a command prints that must succeed.
    pub(crate) fn ask(&self, arguments: &[&str]) -> String {
        let output = self.ctl(arguments);
        assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{arguments:?}");
        output.text()
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let text = self.ask(&[arguments, &["--json"]].concat());
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        serde_json::from_str(&text).expect(&text)
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.server.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

fn ctl(path: &Path, arguments: &[&str]) -> Output {
    run(["ctl", path.to_str().unwrap()].iter().chain(arguments), b"")
}

/// Says something to a control socket, as any program can.
pub(crate) fn say(path: &Path, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // It need not listen to the end.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() != io::ErrorKind::ConnectionReset => panic!("{error}"),
        _ => String::from_utf8(answer).unwrap(),
    }
}

#[test]
fn chains_are_shown_and_swapped_by_url_by_number_and_all_at_once() {
    let urls = ["tcp://127.0.0.1:0", "tcp://127.0.0.1:0?chain=identity", "udp://127.0.0.1:0"];
    let controlled = Controlled::start(&urls, &["-t", "uppercase"]);
    let urls = &controlled.server.urls;
    let mut first = controlled.connect();
    let mut second = TcpStream::connect(urls[1].strip_prefix("tcp://").unwrap()).unwrap();
    let mut both = || [ask(&mut first, b"Hello"), ask(&mut second, b"Hello")].map(|a| a == b"HELLO");
    assert_eq!(both(), [true, false]);

    let text = controlled.ask(&["listeners"]);
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["ID", "LISTENER", "CHAIN"]);
    assert_eq!(rows[1], ["1", &urls[0], "uppercase"]);
    assert_eq!(rows[2], ["2", &urls[1], "identity"]);
    assert_eq!(controlled.ask(&["chain", "all"]), text);
    assert_eq!(controlled.ask(&["chain", &urls[0]]), "uppercase\n");
    assert_eq!(controlled.ask(&["chain", "2"]), "identity\n");
    let effective = &controlled.json(&["chain", "3"])[0]["effective"];
    assert!(effective["rcvbuf"].as_str().is_some(), "{effective}");

    assert_eq!(controlled.ask(&["chain", "2", "uppercase|identity"]), "uppercase | identity\n");
    assert_eq!(both(), [true, true]);
    // A chain of one's own stays.
    let table = controlled.ask(&["chain", "all", ""]);
    assert!(table.contains("uppercase | identity"), "{table}");
    assert_eq!(both(), [false, true]);
    assert_eq!(controlled.ask(&["chain", &urls[1], "identity"]), "identity\n");
    assert_eq!(both(), [false, false]);
    assert_eq!(controlled.ask(&["chain", "0", "uppercase"]).lines().count(), 4);
    assert_eq!(both(), [true, false]);
    // A chain with a line break is one line all the same; uppercase does not know the option.
    let output = controlled.ctl(&["chain", "1", "uppercase:nonesuch='a\nb'"]);
    assert_eq!(output.code, Some(6), "{}", output.stderr);
    let text = controlled.server.end();
    assert!(text.contains(r#"control socket: chain "uppercase|identity""#), "{text}");
}

#[test]
fn a_chain_that_cannot_be_leaves_the_old_one() {
    let controlled = Controlled::start(&["tcp://127.0.0.1:0"], &["-q", "-t", "uppercase"]);
    let broken = controlled.directory.path().join("libbroken.so");
    fs::write(&broken, "not a library").unwrap();
    let mut client = controlled.connect();
    let table = [
        ("uppercase |", 2, "a stage is missing"),
        ("Upper", 2, "a name has a-z"),
        ("nonesuch", 6, "nonesuch"),
        ("identity | uppercase:nonesuch=1", 6, "nonesuch"),
        ("identity | uppercase:unicode=maybe", 6, "'maybe'"),
        (broken.to_str().unwrap(), 6, "libbroken.so"),
        // Beside the one who asks, not beside the server.
        ("./nonesuch.so", 6, env!("CARGO_MANIFEST_DIR")),
    ];
    for listener in ["all", controlled.server.url()] {
        for (chain, code, part) in table {
            let mut command = resay(["ctl", controlled.path.to_str().unwrap(), "chain", listener, chain]);
            command.current_dir(env!("CARGO_MANIFEST_DIR"));
            let output = finish(command, b"");
            assert_eq!((output.code, output.text().as_str()), (Some(code), ""), "{chain}: {}", output.stderr);
            assert!(output.stderr.starts_with("resay: "), "{chain}: {}", output.stderr);
            assert!(output.stderr.contains(part), "{chain}: {}", output.stderr);
            assert_eq!(ask(&mut client, b"Hello"), b"HELLO", "{chain}");
            assert_eq!(controlled.ask(&["chain", "1"]), "uppercase\n");
        }
    }
    // The caret comes through.
    let output = controlled.ctl(&["chain", "all", "uppercase | Upper"]);
    let lines: Vec<_> = output.stderr.lines().collect();
    let [message, text, caret] = lines[..] else { panic!("{}", output.stderr) };
    assert!(message.ends_with("(chain \"uppercase | Upper\", character 13)"), "{message}");
    assert_eq!((text, caret), ("  uppercase | Upper", "              ^"));
    for listener in ["7", "tcp://127.0.0.1:1", "nonsense"] {
        for spec in [&[][..], &["identity"]] {
            let output = controlled.ctl(&[&["chain", listener], spec].concat());
            assert_eq!(output.code, Some(2), "{listener}");
            assert!(output.stderr.starts_with("resay: unknown or closed listener"), "{}", output.stderr);
        }
    }
    assert_eq!(controlled.server.end(), "");
}

#[test]
fn stats_count_in_total_by_listener_and_by_reason() {
    let urls = ["tcp://127.0.0.1:0?frame=lines&max_message=8", "udp://127.0.0.1:0"];
    let controlled = Controlled::start(&urls, &[]);
    let mut client = controlled.connect();
    assert_eq!(ask(&mut client, b"hello\n"), b"hello\n");
    assert_eq!(ask(&mut client, b"you\n"), b"you\n");
    let mut second = controlled.connect();
    assert_eq!(ask(&mut second, b"a\n"), b"a\n");
    second.write_all(b"this is over the limit\n").unwrap();
    let _ = second.read_to_end(&mut Vec::new());
    let stats = wait_until("the second connection is closed", || {
        let stats = controlled.json(&["stats"]);
        (stats["totals"]["closed"] == 1).then_some(stats)
    });
    assert_eq!(stats["version"], resay::VERSION);
    assert_eq!(stats["pid"], controlled.server.process.0.id());
    let listeners = stats["listeners"].as_array().unwrap();
    assert_eq!(listeners.len(), 2);
    assert_eq!(
        (&listeners[0]["id"], &listeners[0]["url"]),
        (&1.into(), &controlled.server.url().to_owned().into())
    );
    for counts in [&stats["totals"], &listeners[0]] {
        let of = |key: &str| counts[key].as_u64().unwrap();
        assert_eq!((of("accepted"), of("open"), of("closed")), (2, 1, 1), "{counts}");
        assert_eq!(of("messages_out"), 3, "{counts}");
        assert_eq!(counts["closed_by"]["message_too_long"], 1, "{counts}");
        assert_eq!(counts["closed_by"]["drained"], 0, "reasons that never came up are there too");
    }
    assert_eq!(listeners[1]["messages_in"], 0);
    let text = controlled.ask(&["stats"]);
    for part in [
        "all listeners\n",
        &format!("listener 1: {}\n  chain        identity\n", controlled.server.url()),
        "connections  open 1, accepted 2, closed 1, rejected 0",
        "closed       1: message longer than max_message\n",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    controlled.server.end();
}

#[test]
fn connections_are_listed_whatever_their_peers_are_called() {
    let directory = tempfile::tempdir().unwrap();
    let unix = format!("unix:{}", directory.path().join("e.sock").display());
    let controlled = Controlled::start(&["tcp://127.0.0.1:0", &unix], &["--set", "high_water=64k"]);
    assert_eq!(controlled.ask(&["connections"]).lines().count(), 1);
    assert_eq!(controlled.json(&["connections"]).to_string(), r#"{"connections":[],"missing_workers":[]}"#);
    let mut tcp = controlled.connect();
    assert_eq!(ask(&mut tcp, b"hello"), b"hello");

    // A peer whose name would clear the operator's screen.
    let hostile = directory.path().join("\x1b[2J\n");
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddrUnix::new(&hostile).unwrap()).unwrap();
    let server = SocketAddrUnix::new(directory.path().join("e.sock")).unwrap();
    rustix::net::connect(&socket, &server).unwrap();
    let mut local = UnixStream::from(socket);
    assert_eq!(ask(&mut local, b"hello"), b"hello");

    let list = &controlled.json(&["connections"])["connections"];
    let [first, second] = list.as_array().unwrap().as_slice() else { panic!("{list}") };
    let [first_id, second_id] = [first, second].map(|listed| listed["id"].as_u64().unwrap());
    assert!(0 < first_id && first_id < second_id, "{list}");
    assert_eq!(first["listener"], controlled.server.url());
    assert_eq!(first["peer"], tcp.local_addr().unwrap().to_string());
    assert_eq!(
        (&first["worker"], &first["state"], &first["waiting_bytes"]),
        (&0.into(), &"open".into(), &0.into())
    );
    assert_eq!(second["peer"], format!("unix:{}", hostile.display()));
    let text = controlled.ask(&["connections"]);
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(text.contains("\\u001b[2J\\u000a") && !text.contains('\x1b'), "{text}");
    assert!(text.starts_with("ID  LISTENER"), "{text}");

    // Answers that nobody reads wait.
    tcp.set_nonblocking(true).unwrap();
    wait_until("answers wait", || {
        while tcp.write(&[b'x'; 65536]).is_ok() {}
        let waiting = controlled.json(&["connections"])["connections"][0]["waiting_bytes"].as_u64().unwrap();
        (waiting > 0).then_some(())
    });
    drop(local);
    drop(tcp);
    wait_until("they are gone", || (controlled.ask(&["connections"]).lines().count() == 1).then_some(()));
    controlled.server.end();
}

#[test]
fn what_is_said_wrong_is_answered_and_forgotten() {
    let controlled = Controlled::start(&["tcp://127.0.0.1:0"], &["-q", "-t", "uppercase"]);
    let long = [b"chain 1 ".as_slice(), &vec![b'x'; 1 << 20]].concat();
    let table: [(&[u8], &str); 8] = [
        (b"nonsense\n", "error 2 control request \"nonsense\": there are "),
        (b"\n", "error 2 control request \"\": there are "),
        (b"chain 1\n", "error 2 control request \"chain 1\": chain NUMBER SPEC is expected\n"),
        (b"chain 9 identity\n", "error 2 unknown or closed listener: 9\n"),
        (b"chain 1 a ||\n", "error 2 a stage is missing before this bar (chain \"a ||\", character 4)\n"),
        (b"\xff\xfe\n", "error 2 control request: it is not UTF-8\n"),
        (&long, "error 2 control request: it is over 65536 bytes\n"),
        (b"stats\nchain 1 identity\n", "ok\n{"),
    ];
    for (request, answer) in table {
        let said = say(&controlled.path, request);
        let shown = &request[..request.len().min(40)];
        assert!(said.starts_with(answer) && said.ends_with('\n'), "{}: {said}", shown.escape_ascii());
    }
    // A request that was cut short is not done.
    let mut stream = UnixStream::connect(&controlled.path).unwrap();
    stream.write_all(b"chain 1 identity").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "error 2 control request: the line does not end with a newline\n");
    assert_eq!(controlled.ask(&["chain", "1"]), "uppercase\n");
    assert_eq!(controlled.server.end(), "");
}

#[test]
fn clients_that_say_nothing_or_take_nothing_keep_nobody_out_for_long() {
    let controlled = Controlled::start(&["tcp://127.0.0.1:0"], &["-q"]);
    let connect = || UnixStream::connect(&controlled.path).unwrap();
    let silent: Vec<_> = (0..4).map(|_| connect()).collect();
    let dripping: Vec<_> = (0..2)
        .map(|_| {
            let mut stream = connect();
            thread::spawn(move || {
                while stream.write_all(b"s").is_ok() {
                    pace(Duration::from_millis(100));
                }
            })
        })
        .collect();
    // They are told when they have had their time, and the others are served then.
    assert!(controlled.ask(&["stats", "--timeout", "25s"]).starts_with("resay "));
    for mut stream in silent {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "error 4 control request: none in time\n");
    }
    dripping.into_iter().for_each(|thread| thread.join().unwrap());
    // Hundreds that are gone again cost nothing.
    for _ in 0..300 {
        drop(UnixStream::connect(&controlled.path));
    }
    let deaf: Vec<_> = (0..8)
        .map(|_| {
            let mut stream = connect();
            stream.write_all(b"stats\n").unwrap();
            stream
        })
        .collect();
    assert!(controlled.ask(&["stats"]).starts_with("resay "));
    drop(deaf);
    assert_eq!(ask(&mut controlled.connect(), b"hello"), b"hello");
    assert_eq!(controlled.server.end(), "");
}

#[test]
fn what_stands_between_has_its_exit_status() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ctl");
    assert_eq!(ctl(&path, &["stats"]).code, Some(3), "nothing there");
    drop(UnixListener::bind(&path).unwrap());
    assert_eq!(ctl(&path, &["stats"]).code, Some(3), "nobody there any more");
    assert_eq!(ctl(&directory.path().join("x".repeat(200)), &["stats"]).code, Some(2), "no socket's name");

    let path = directory.path().join("silent");
    let listener = UnixListener::bind(&path).unwrap();
    let output = ctl(&path, &["stats", "--timeout", "200ms"]);
    assert_eq!(output.code, Some(4), "{}", output.stderr);
    assert!(output.stderr.contains(path.to_str().unwrap()), "{}", output.stderr);
    drop(listener);
    for answer in ["", "ok\n", "ok\n{\"version\"", "+PONG\r\n", "error\n"] {
        let path = directory.path().join(format!("peer{}", answer.len()));
        let listener = UnixListener::bind(&path).unwrap();
        let peer = thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let _ = stream.read(&mut [0; 64]);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let output = ctl(&path, &["stats"]);
        peer.join().unwrap();
        assert_eq!(output.code, Some(5), "{answer:?}: {}", output.stderr);
        assert!(output.stderr.contains(path.to_str().unwrap()), "{}", output.stderr);
    }
}

#[test]
fn only_the_owner_may_use_the_socket_whatever_the_umask() {
    for umask in ["000", "022", "777"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ctl");
        // The shell hands its process over, so that signals reach the server.
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(format!("umask {umask}; exec \"$@\""))
            .arg("sh")
            .arg(env!("CARGO_BIN_EXE_resay"));
        command.args(["serve", "tcp://127.0.0.1:0", "-q", "--control"]).arg(&path);
        let watched = path.clone();
        let first_mode = thread::spawn(move || {
            let since = Instant::now();
            loop {
                if let Ok(found) = fs::symlink_metadata(&watched) {
                    return found.permissions().mode();
                }
                assert!(since.elapsed() < PATIENCE, "there is no file");
            }
        });
        let server = Server::of(command, 1, None);
        let found = fs::symlink_metadata(&path).unwrap();
        assert!(found.file_type().is_socket());
        assert_eq!(found.permissions().mode() & 0o7777, 0o600, "umask {umask}");
        let first = first_mode.join().unwrap() & 0o7777;
        assert_eq!(first & !0o600, 0, "umask {umask}: at first it was {first:o}");
        assert_eq!(ctl(&path, &["stats"]).code, Some(0), "umask {umask}");
        assert!(!directory.path().join("ctl.lock").exists());
        server.end();
        assert!(!path.exists());
    }
}

#[test]
fn a_place_that_is_taken_is_refused_and_left_alone() {
    let controlled = Controlled::start(&["tcp://127.0.0.1:0"], &[]);
    let path = controlled.path.to_str().unwrap();
    let serve = |control: &str, url: &str| run(["serve", url, "--control", control], b"");
    let refused = |control: &str, url: &str| {
        let output = serve(control, url);
        assert_eq!((output.code, output.text().as_str()), (Some(3), ""), "{}", output.stderr);
        assert!(output.stderr.starts_with("resay: "), "{}", output.stderr);
        output.stderr
    };
    let text = refused(path, "tcp://127.0.0.1:0");
    assert!(text.contains("--control") && text.contains("another server is listening there"), "{text}");
    // A listener does not take it either, nor a server its own.
    refused(controlled.directory.path().join("other").to_str().unwrap(), &format!("unix:{path}"));
    let own = controlled.directory.path().join("own");
    refused(own.to_str().unwrap(), &format!("unix:{}", own.display()));
    assert!(!own.exists() && !controlled.directory.path().join("other").exists(), "nothing is left behind");
    assert!(controlled.ask(&["stats"]).starts_with("resay "));

    // What is not a stale stream socket stays.
    let place = |name: &str| controlled.directory.path().join(name);
    fs::write(place("file"), "precious").unwrap();
    fs::create_dir(place("directory")).unwrap();
    symlink(place("nowhere"), place("link")).unwrap();
    let datagram = UnixDatagram::bind(place("datagram")).unwrap();
    for name in ["file", "directory", "link", "datagram", "none/ctl"] {
        refused(place(name).to_str().unwrap(), "tcp://127.0.0.1:0");
    }
    drop(datagram);
    assert_eq!(fs::read_to_string(place("file")).unwrap(), "precious");
    assert!(place("directory").is_dir() && place("link").is_symlink() && place("datagram").exists());
    let output = serve(place(&"x".repeat(120)).to_str().unwrap(), "tcp://127.0.0.1:0");
    assert_eq!(output.code, Some(2), "{}", output.stderr);
    controlled.server.end();
}

#[test]
fn what_stands_beside_the_control_socket_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| directory.path().join(name);
    fs::write(place("poetry.lock"), "precious").unwrap();
    let held = fs::File::open(place("poetry.lock")).unwrap();
    held.lock().unwrap();
    for is_stale in [false, true] {
        if is_stale {
            drop(UnixListener::bind(place("poetry")).unwrap());
        }
        let mut command = resay(["serve", "tcp://127.0.0.1:0", "--control", "./poetry"]);
        command.current_dir(directory.path());
        let server = Server::of(command, 1, None);
        assert_eq!(ctl(&place("poetry"), &["stats"]).code, Some(0));
        server.end();
        assert!(!place("poetry").exists());
        assert_eq!(fs::read_to_string(place("poetry.lock")).unwrap(), "precious");
    }
}

#[test]
fn a_lock_that_is_not_let_go_of_is_an_error_in_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ctl");
    let (control, unix) = (path.to_str().unwrap(), format!("unix:{}", path.display()));
    drop(UnixListener::bind(&path).unwrap());
    let held = fs::File::open(directory.path()).unwrap();
    held.lock().unwrap();
    for arguments in [&["serve", "tcp://127.0.0.1:0", "--control", control][..], &["serve", &unix]] {
        let since = Instant::now();
        let output = run(arguments, b"");
        assert_eq!((output.code, output.text().as_str()), (Some(3), ""), "{}", output.stderr);
        assert!(output.stderr.contains(&format!("process {} ", std::process::id())), "{}", output.stderr);
        assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
        assert!(path.exists());
    }
}

#[test]
fn of_servers_that_start_at_once_one_gets_the_place() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ctl");
    for round in 0..5 {
        if round > 0 {
            drop(UnixListener::bind(&path).unwrap());
        }
        let start = || {
            let mut command =
                resay(["serve", "tcp://127.0.0.1:0", "-q", "--control", path.to_str().unwrap()]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            Process(command.spawn().unwrap())
        };
        let mut processes: Vec<_> = (0..6).map(|_| start()).collect();
        wait_until("all but one have given up", || {
            processes.retain_mut(|process| match process.0.try_wait().unwrap() {
                Some(status) => {
                    assert_eq!(status.code(), Some(3));
                    false
                }
                None => true,
            });
            (processes.len() == 1).then_some(())
        });
        let stats = ctl(&path, &["stats", "--json"]);
        assert_eq!(stats.code, Some(0), "{}", stats.stderr);
        assert_eq!(ctl(&path, &["stop"]).code, Some(0));
        assert_eq!(processes[0].wait().code(), Some(0));
        assert!(!path.exists());
    }
}

#[test]
fn after_a_kill_the_place_can_be_used_again() {
    let mut controlled = Controlled::start(&["tcp://127.0.0.1:0"], &["-q"]);
    let path = controlled.path.to_str().unwrap().to_owned();
    for _ in 0..3 {
        let before = controlled.json(&["stats"])["pid"].clone();
        controlled.server.process.signal(Signal::KILL);
        assert_eq!(controlled.server.process.wait().code(), None);
        assert!(controlled.path.exists(), "a killed process cleans nothing up");
        assert_eq!(controlled.ctl(&["stats"]).code, Some(3));
        let url = controlled.server.url().to_owned();
        controlled.server = Server::start(&[&url], &["-q", "--control", &path]);
        assert_ne!(controlled.json(&["stats"])["pid"], before);
    }
    // A file that somebody else has put there by now is not ours to remove.
    fs::remove_file(&controlled.path).unwrap();
    let other = UnixListener::bind(&controlled.path).unwrap();
    controlled.server.end();
    assert!(controlled.path.exists());
    drop(other);
}

#[test]
fn drain_answers_what_has_arrived_and_returns_when_the_server_has_ended() {
    let mut controlled = Controlled::start(&["tcp://127.0.0.1:0"], &["-t", "uppercase"]);
    let mut client = controlled.connect();
    assert_eq!(ask(&mut client, b"hello"), b"HELLO");
    assert_eq!(controlled.ask(&["drain", "--within", "20s"]), "drained\n");
    // Nothing of it is left, not even for a moment.
    assert!(!controlled.path.exists());
    let again = Server::start(&[controlled.server.url()], &["--control", controlled.path.to_str().unwrap()]);
    again.end();
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
    assert_eq!(controlled.server.process.wait().code(), Some(0));
    let text = controlled.server.stderr.to_end();
    assert!(text.contains("control socket: draining, at most 20s") && text.ends_with("drained\n"), "{text}");
}

/// A client that asks and asks, and never reads an answer: draining waits for it.
fn stubborn(controlled: &Controlled) -> TcpStream {
    let mut stream = controlled.connect();
    stream.set_nonblocking(true).unwrap();
    let mut before = None;
    wait_until("the server takes no more", || {
        let is_taken = stream.write(&[b'x'; 65536]).is_ok();
        // It has looked since then, for it has answered.
        let waiting = controlled.json(&["connections"])["connections"][0]["waiting_bytes"].as_u64();
        let is_full = !is_taken && waiting > Some(0) && waiting == before;
        before = waiting.filter(|_| !is_taken);
        is_full.then_some(())
    });
    stream.set_nonblocking(false).unwrap();
    stream
}

#[test]
fn a_drain_that_is_cut_off_says_so() {
    let mut controlled = Controlled::start(&["tcp://127.0.0.1:0"], &["-q"]);
    let _client = stubborn(&controlled);
    let since = Instant::now();
    let output = controlled.ctl(&["drain", "--within", "300ms"]);
    assert_eq!((output.code, output.text().as_str()), (Some(4), ""), "{}", output.stderr);
    assert!(output.stderr.contains("1 connections were cut off"), "{}", output.stderr);
    assert!(since.elapsed() >= Duration::from_millis(300));
    assert_eq!(
        controlled.server.process.wait().code(),
        Some(4),
        "whoever looks at the server alone is told too"
    );
}

#[test]
fn while_it_drains_it_is_asked_and_stopped() {
    let mut controlled = Controlled::start(&["tcp://127.0.0.1:0"], &[]);
    let _client = stubborn(&controlled);
    let path = controlled.path.to_str().unwrap().to_owned();
    let drains: Vec<_> = (0..6)
        .map(|_| {
            let path = path.clone();
            thread::spawn(move || run(["ctl", &path, "drain", "--within", "10m"], b""))
        })
        .collect();
    controlled.server.stderr.wait_for("draining, at most 600s");
    // Those who wait for the end keep nobody out.
    assert_eq!(controlled.json(&["stats"])["totals"]["open"], 1);
    assert!(controlled.json(&["connections"])["connections"][0]["waiting_bytes"].as_u64() > Some(0));
    // Each is waiting by now, or comes too late and finds nobody.
    let since = Instant::now();
    assert_eq!(controlled.ask(&["stop"]), "stopped\n");
    assert!(since.elapsed() < PATIENCE, "{:?}", since.elapsed());
    assert_eq!(controlled.server.process.wait().code(), Some(0));
    let outputs: Vec<_> = drains.into_iter().map(|drain| drain.join().unwrap()).collect();
    assert!(outputs.iter().any(|output| output.code == Some(5)), "{outputs:?}");
    assert!(outputs.iter().all(|output| matches!(output.code, Some(3 | 5))), "{outputs:?}");
}

#[test]
fn signals_and_orders_know_of_each_other() {
    // A drain that a signal began is waited for, and ended by a second signal.
    let mut controlled = Controlled::start(&["tcp://127.0.0.1:0"], &["--drain-timeout", "10m"]);
    let _client = stubborn(&controlled);
    controlled.server.process.signal(Signal::TERM);
    controlled.server.stderr.wait_for("SIGTERM: draining");
    // The order is with the server's socket before the signal is sent, whichever it looks at first.
    let mut order = UnixStream::connect(&controlled.path).unwrap();
    order.set_read_timeout(Some(PATIENCE)).unwrap();
    order.write_all(b"drain 10m\n").unwrap();
    controlled.server.process.signal(Signal::TERM);
    assert_eq!(controlled.server.process.wait().code(), Some(0));
    let mut answer = Vec::new();
    match order.read_to_end(&mut answer) {
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
        Ok(_) => assert!(answer.is_empty() || answer.starts_with(b"error 5 "), "{}", answer.escape_ascii()),
    }
}

/// A plugin that is overwritten while the server has it loaded: whoever swaps the chain next hears of it.
#[test]
fn a_chain_with_an_overwritten_plugin_warns() {
    let directory = tempfile::tempdir().unwrap();
    let plugin = directory.path().join("libsame.so");
    let source = directory.path().join("same.c");
    let code = "#include <resay_plugin.h>\n\
        static resay_status map(void *i, void *s, uint8_t *d, size_t n) { (void)i, (void)s, (void)d, (void)n; return RESAY_OK; }\n\
        static const resay_transform same = {.struct_size = sizeof same, .id = \"same\", .map = map};\n\
        RESAY_PLUGIN(&same);\n";
    fs::write(&source, code).unwrap();
    let include = concat!("-I", env!("CARGO_MANIFEST_DIR"), "/../include");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", include]).arg(&source).arg("-o").arg(&plugin);
    match compiler.status() {
        Ok(status) => assert!(status.success()),
        Err(_) => return eprintln!("SKIPPED: a plugin in C: there is no cc"),
    }
    let controlled = Controlled::start(&["tcp://127.0.0.1:0"], &[]);
    let plugin = plugin.to_str().unwrap();
    controlled.ask(&["chain", "all", plugin]);
    controlled.ask(&["chain", "all", plugin]);
    // The bytes that were there already, written again: what runs of the file can go on, and its time is another one.
    let bytes = fs::read(plugin).unwrap();
    let mut file = fs::File::options().write(true).open(plugin).unwrap();
    file.write_all(&bytes).unwrap();
    file.set_modified(std::time::SystemTime::now() + Duration::from_secs(1)).unwrap();
    drop(file);
    let output = controlled.ctl(&["chain", "all", plugin]);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert!(
        output.stderr.starts_with("resay: warning: ") && output.stderr.contains(plugin),
        "{}",
        output.stderr
    );
    assert!(output.stderr.contains("written to in place"), "{}", output.stderr);
}

/// A list that lacks the connections of a worker is not taken for all that there are.
#[test]
fn a_worker_that_hangs_is_missing_from_the_connections() {
    let directory = tempfile::tempdir().unwrap();
    let Some((plugin, go)) = crate::notify::holds(directory.path()) else { return };
    let controlled = Controlled::start(&["tcp://127.0.0.1:0"], &["-t", &plugin]);
    let mut client = controlled.connect();
    client.write_all(b"!").unwrap();
    wait_until("the transform holds the worker", || {
        (controlled.json(&["stats"])["workers"][0]["transform"] == "holds").then_some(())
    });
    let listed = controlled.ctl(&["connections"]);
    assert_eq!((listed.code, listed.text().lines().count()), (Some(0), 1), "{listed:?}");
    assert_eq!(listed.stderr, "resay: worker 0 does not answer: its connections are not in the list\n");
    let listed = controlled.ctl(&["connections", "--json"]);
    assert_eq!(listed.text(), "{\"connections\":[],\"missing_workers\":[0]}\n", "{listed:?}");
    fs::write(go, "").unwrap();
    client.read_exact(&mut [0]).unwrap();
    let list = controlled.json(&["connections"]);
    assert_eq!(
        (list["connections"].as_array().unwrap().len(), list["missing_workers"][0].is_null()),
        (1, true)
    );
    controlled.server.end();
}

#[test]
fn a_listener_that_is_not_there_is_named() {
    let controlled = Controlled::start(&["tcp://127.0.0.1:0"], &[]);
    let table: [(&[&str], &str); 5] = [
        (&["chain", "99", "hex"], "unknown or closed listener: 99"),
        (&["chain", "99"], "unknown or closed listener: 99"),
        (&["chain", "nobody"], "unknown or closed listener: nobody; there are tcp://"),
        (&["set", "99", "nodelay", "0"], "unknown or closed listener: 99"),
        (&["set", "all", "nodelay", "0"], "an option is of one listener, not of all"),
    ];
    for (arguments, part) in table {
        let output = controlled.ctl(arguments);
        assert_eq!(output.code, Some(2), "{arguments:?} {}", output.stderr);
        assert!(output.stderr.contains(part), "{arguments:?} {}", output.stderr);
    }
    for name in ["nobody", "all"] {
        let output = controlled.ctl(&["set", name, "nodelay", "0"]);
        assert!(!output.stderr.contains("and all"), "{}", output.stderr);
    }
}

#[test]
fn a_socket_that_echoes_is_told_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("echo");
    let url = format!("unix:{}", path.display());
    let server = crate::process::Server::start(&[&url], &[]);
    for command in ["stats", "watch"] {
        let output = ctl(&path, &[command, "--timeout", "0"]);
        assert_eq!(output.code, Some(5), "{}", output.stderr);
        let text = format!("resay: {}: this is no control socket of resay\n", path.display());
        assert_eq!(output.stderr, text);
    }
    server.end();
}
