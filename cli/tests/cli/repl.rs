use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{ChildStdin, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use resay::Client;
use rustix::process::Signal;

use crate::process::{PATIENCE, Process, Server, Written, resay, run, terminal, wait_until};

/// A TCP echo of capital letters that tells what each read brought.
fn recorder() -> (String, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let sender = sender.clone();
            thread::spawn(move || record(stream, &sender));
        }
    });
    (url, receiver)
}

fn record(mut stream: TcpStream, sender: &mpsc::Sender<Vec<u8>>) {
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        let _ = sender.send(buffer[..count].to_vec());
        stream.write_all(&buffer[..count].to_ascii_uppercase()).unwrap();
    }
}

#[test]
fn lines_are_sent_as_typed_and_empty_ones_are_not() {
    let (url, received) = recorder();
    let output = run(["repl", &url], b"\none\n\n\n two \r\nexit\nlast\xff");
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert_eq!(output.stdout, b"ONE\n TWO \r\nEXIT\nLAST\xff\n");
    let received: Vec<_> = received.try_iter().collect();
    assert_eq!(received, [&b"one"[..], b" two \r", b"exit", b"last\xff"]);
    let output = run(["repl", &url], b"\n\n");
    assert_eq!((output.code, output.text().as_str(), output.stderr.as_str()), (Some(0), "", ""));
}

#[test]
fn every_kind_of_socket_is_talked_to() {
    let directory = tempfile::tempdir().unwrap();
    let url = |scheme: &str| format!("{scheme}:{}", directory.path().join(scheme).display());
    let [stream, datagrams, records] = ["unix", "unix-dgram", "unix-seqpacket"].map(url);
    let urls = ["tcp://127.0.0.1:0", "udp://127.0.0.1:0", &stream, &datagrams, &records];
    let server = Server::start(&urls, &["-t", "uppercase"]);
    for url in &server.urls {
        let output = run(["repl", url], b"one\n\ntwo\n");
        assert_eq!((output.code, output.text().as_str()), (Some(0), "ONE\nTWO\n"), "{url} {}", output.stderr);
    }
    server.end();
}

#[test]
fn servers_of_lines_need_a_newline() {
    let server = Server::start(&["tcp://127.0.0.1:0"], &["--set", "frame=lines"]);
    let output = run(["repl", server.url(), "-n"], b"one\ntwo\n");
    assert_eq!((output.code, output.text().as_str()), (Some(0), "one\ntwo\n"), "{}", output.stderr);
    let output = run(["repl", server.url(), "--timeout", "100ms"], b"one\n");
    assert_eq!((output.code, output.text().as_str()), (Some(4), ""), "{}", output.stderr);
    assert!(output.stderr.contains("--newline"), "{}", output.stderr);
}

#[test]
fn a_late_answer_is_not_taken_for_the_next_one() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("udp://{}", socket.local_addr().unwrap());
    let mut talk = Talk::start(&url, &["--timeout", "1s"]);
    talk.say("one");
    talk.stderr.wait_for("no answer within 1s");
    let mut buffer = [0; 64];
    let (count, peer) = socket.recv_from(&mut buffer).unwrap();
    socket.send_to(&buffer[..count], peer).unwrap();
    talk.say("two");
    let (count, peer) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..count], b"two");
    socket.send_to(b"answer two", peer).unwrap();
    talk.stdout.wait_for("one\nanswer two\n");
    talk.stderr.wait_for("late");
    assert_eq!(talk.end(), Some(4));
}

/// `resay repl` through pipes.
struct Talk {
    process: Process,
    stdin: ChildStdin,
    stdout: Written,
    stderr: Written,
}

impl Talk {
    fn start(url: &str, others: &[&str]) -> Talk {
        let mut command = resay(["repl", url]);
        command.args(others).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Process(command.spawn().unwrap());
        let stdin = process.0.stdin.take().unwrap();
        let stdout = Written::follow(process.0.stdout.take().unwrap());
        let stderr = Written::follow(process.0.stderr.take().unwrap());
        Talk { process, stdin, stdout, stderr }
    }

    fn say(&mut self, line: &str) {
        self.stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn end(self) -> Option<i32> {
        let Talk { mut process, stdin, .. } = self;
        drop(stdin);
        process.wait().code()
    }
}

/// Kills a server. Its sockets may outlive it by a few milliseconds, for what io_uring holds the kernel lets go of later.
fn kill(mut server: Server) {
    server.process.signal(Signal::KILL);
    server.process.wait();
    wait_until("its socket is gone", || Client::open(&server.urls[0], Some(PATIENCE)).is_err().then_some(()));
}

#[test]
fn when_the_server_is_gone_it_says_so_and_connects_again() {
    let directory = tempfile::tempdir().unwrap();
    for scheme in ["unix", "unix-dgram", "unix-seqpacket"] {
        let url = format!("{scheme}:{}", directory.path().join(scheme).display());
        let server = Server::start(&[&url], &["-t", "uppercase"]);
        let mut talk = Talk::start(&url, &["--timeout", "20s"]);
        talk.say("one");
        talk.stdout.wait_for("ONE\n");
        kill(server);
        let server = Server::start(&[&url], &["-t", "uppercase"]);
        talk.say("two");
        talk.stdout.wait_for("ONE\nTWO\n");
        // It waits for a server that is not there yet.
        kill(server);
        talk.say("three");
        let server = Server::start(&[&url], &["-t", "uppercase"]);
        talk.stdout.wait_for("ONE\nTWO\nTHREE\n");
        let stderr = talk.stderr.clone();
        assert_eq!(talk.end(), Some(0), "{}", stderr.text());
        let told = stderr.to_end();
        assert_eq!(told.matches(&format!("connected to {url} again")).count(), 2, "{told}");
        server.end();
    }
}

#[test]
fn when_the_server_stays_away_it_ends_with_3() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("unix:{}", directory.path().join("e.sock").display());
    let server = Server::start(&[&url], &[]);
    let mut talk = Talk::start(&url, &["--timeout", "200ms"]);
    talk.say("one");
    talk.stdout.wait_for("one\n");
    kill(server);
    talk.say("two");
    let told = talk.stderr.wait_for("the line was not sent");
    assert!(told.contains("has ended the connection"), "{told}");
    assert_eq!(talk.end(), Some(3));
    assert_eq!(run(["repl", &url], b"x\n").code, Some(3));
}

#[test]
fn a_server_that_ends_instead_of_answering_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 3]).unwrap();
        drop(stream);
        record(listener.accept().unwrap().0, &mpsc::channel().0);
    });
    let mut talk = Talk::start(&url, &[]);
    talk.say("one");
    talk.stderr.wait_for("without an answer");
    talk.say("two");
    talk.stdout.wait_for("TWO\n");
    assert_eq!(talk.end(), Some(5));
}

#[test]
fn at_a_terminal_lines_are_edited_and_remembered() {
    let (url, received) = recorder();
    let state = tempfile::tempdir().unwrap();
    let (mut keys, terminal) = terminal();
    let mut command = resay(["repl", &url]);
    command.env("XDG_STATE_HOME", state.path()).env("TERM", "xterm");
    command.stdin(terminal.try_clone().unwrap()).stdout(terminal.try_clone().unwrap()).stderr(terminal);
    let mut process = Process(command.spawn().unwrap());
    drop(command);
    let screen = Written::follow(keys.try_clone().unwrap());
    // What the editor writes when it takes the terminal over; keys before that are not for it.
    let ready = |times: usize| {
        let what = format!("the editor is ready {times} times");
        wait_until(&what, || (screen.text().matches("\x1b[?2004h").count() >= times).then_some(()));
    };
    let mut press = |text: &str| keys.write_all(text.as_bytes()).unwrap();
    ready(1);
    screen.wait_for(&format!("{url}> "));
    // The cursor goes back over a letter, and another one is put in.
    press("helo\x1b[Dl\r");
    assert_eq!(received.recv_timeout(PATIENCE).unwrap(), b"hello");
    ready(2);
    assert!(screen.text().contains("\nHELLO\r\n"), "{}", screen.text());
    // An empty line; then one that Ctrl-C clears.
    press("\r");
    ready(3);
    press("garbage\x03again\r");
    assert_eq!(received.recv_timeout(PATIENCE).unwrap(), b"again");
    ready(4);
    // Up, to the line before the last.
    press("\x1b[A\x1b[A!\r");
    assert_eq!(received.recv_timeout(PATIENCE).unwrap(), b"hello!");
    ready(5);
    // Any byte, and a view that shows them.
    press(":hex on\r");
    ready(6);
    press("\\x00\\xffz\r");
    assert_eq!(received.recv_timeout(PATIENCE).unwrap(), b"\0\xffz");
    ready(7);
    assert!(screen.text().contains("00000000  00 ff 5a  "), "{}", screen.text());
    press("\\q\r");
    ready(8);
    assert!(screen.text().contains("unknown escape \\q"), "{}", screen.text());
    press(":hex off\r");
    ready(9);
    press("\\:a\r");
    assert_eq!(received.recv_timeout(PATIENCE).unwrap(), b":a");
    ready(10);
    assert!(screen.text().contains("\n:A\r\n"), "{}", screen.text());
    press("\x04");
    assert_eq!(process.wait().code(), Some(0), "{}", screen.text());
    let history = std::fs::read_to_string(state.path().join("resay/history")).unwrap();
    assert!(history.contains("hello\nagain\nhello!\n"), "{history}");
}

#[test]
fn through_pipes_everything_is_data_and_the_view_is_an_option() {
    let (url, received) = recorder();
    let output = run(["repl", &url, "--hex"], b"\\x00\n:hex off\n");
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert_eq!(received.try_iter().collect::<Vec<_>>(), [&b"\\x00"[..], b":hex off"]);
    let lines: Vec<_> = output.text().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("00000000  5c 58 30 30 ") && lines[0].ends_with("|\\X00|"), "{lines:?}");
}
