use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::thread;

use rustix::net::{AddressFamily, SocketType};
use rustix::process::Signal;

use crate::process::{Process, Server, resay, run, wait_until};

/// Every kind of socket, on one server.
fn server(others: &[&str]) -> (tempfile::TempDir, Server) {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let [stream, datagram, records] = [("unix", "s"), ("unix-dgram", "d"), ("unix-seqpacket", "q")]
        .map(|(scheme, name)| format!("{scheme}:{}", path(name)));
    let urls = ["tcp://127.0.0.1:0", "tcp://[::1]:0", "udp://127.0.0.1:0", &stream, &datagram, &records];
    let server = Server::start(&urls, others);
    (directory, server)
}

/// A TCP server of one connection, which does what `serve` says.
fn peer(serve: impl FnOnce(TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    thread::spawn(move || serve(listener.accept().unwrap().0));
    url
}

#[test]
fn a_text_is_sent_exactly_and_its_answer_printed_exactly() {
    let (_directory, server) = server(&["-t", "uppercase"]);
    for url in &server.urls {
        let output = run(["send", url, "hello,", "w\\n", "--expect", "HELLO, W\\N"], b"");
        assert_eq!(
            (output.code, output.text().as_str()),
            (Some(0), "HELLO, W\\N"),
            "{url} {}",
            output.stderr
        );
        let bytes: [&OsStr; 3] = ["send".as_ref(), url.as_ref(), OsStr::from_bytes(b"\xff\xfea\n")];
        assert_eq!(run(bytes, b"").stdout, b"\xff\xfeA\n", "{url}");
        let output = run(["send", url], b"from a pipe\0\n");
        assert_eq!((output.code, output.text().as_str()), (Some(0), "FROM A PIPE\0\n"), "{url}");
        // Nothing is a message too, where there are messages.
        let output = run(["send", url, ""], b"");
        assert_eq!((output.code, output.text().as_str()), (Some(0), ""), "{url} {}", output.stderr);
    }
    server.end();
}

#[test]
fn megabytes_go_through_while_answers_come_back() {
    let (_directory, server) = server(&["--set", "high_water=64k"]);
    let input: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    for url in server.urls.iter().filter(|url| url.starts_with("tcp") || url.starts_with("unix:")) {
        let output = run(["send", url, "--timeout", "25s"], &input);
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        assert!(output.stdout == input, "{url}: {} bytes came back", output.stdout.len());
    }
    server.end();
}

#[test]
fn another_answer_exits_1_and_shows_the_difference() {
    let (_directory, server) = server(&["-t", "uppercase"]);
    for url in &server.urls {
        for expected in ["HELlO\n", "HELLO", "HELLO\n!"] {
            let output = run(["send", url, "--expect", expected], b"hello\n");
            assert_eq!(
                (output.code, output.text().as_str()),
                (Some(1), "HELLO\n"),
                "{url} {}",
                output.stderr
            );
            assert!(
                output.stderr.contains(&format!("\"{}\"", expected.escape_default())),
                "{}",
                output.stderr
            );
            assert!(output.stderr.contains(r#"got      6 bytes: "HELLO\n""#), "{}", output.stderr);
        }
    }
}

#[test]
fn a_wrong_url_or_message_exits_2() {
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("udp://{}", peer.local_addr().unwrap());
    let output = run(["send", &url], &[b'x'; 70_000]);
    assert_eq!(output.code, Some(2), "{}", output.stderr);
    for url in ["nonsense", "tcp://127.0.0.1:65536", "tcp://127.0.0.1:1?frame=lines", "fd:0"] {
        let output = run(["send", url, "x"], b"");
        assert_eq!(output.code, Some(2), "{url} {}", output.stderr);
    }
    let output = run(["send", "tcp://127.0.0.1:65536", "x"], b"");
    let lines: Vec<_> = output.stderr.lines().collect();
    assert_eq!(lines[1..], ["  tcp://127.0.0.1:65536", "                  ^"], "{}", output.stderr);
}

#[test]
fn nobody_there_exits_3() {
    let directory = tempfile::tempdir().unwrap();
    let url = |name: &str| format!("unix:{}", directory.path().join(name).display());
    drop(UnixListener::bind(directory.path().join("stale")).unwrap());
    // Ports that are taken, so that nobody else can answer there: one where nobody listens, and one whose
    // owner hears only somebody else.
    let silent = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&silent, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
    let silent_at = SocketAddrV4::try_from(rustix::net::getsockname(&silent).unwrap()).unwrap();
    let deaf = UdpSocket::bind("127.0.0.1:0").unwrap();
    deaf.connect(deaf.local_addr().unwrap()).unwrap();
    let urls = [
        url("stale"),
        url("none"),
        format!("tcp://{silent_at}"),
        format!("udp://{}", deaf.local_addr().unwrap()),
    ];
    for url in urls {
        let output = run(["send", &url, "x"], b"");
        assert_eq!(output.code, Some(3), "{url} {}", output.stderr);
        assert!(output.stderr.starts_with("resay: "), "{}", output.stderr);
    }
}

#[test]
fn no_answer_in_time_exits_4() {
    let stream = TcpListener::bind("127.0.0.1:0").unwrap();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let urls = [
        format!("tcp://{}", stream.local_addr().unwrap()),
        format!("udp://{}", datagrams.local_addr().unwrap()),
    ];
    for url in urls {
        let output = run(["send", &url, "x", "--timeout", "200ms"], b"");
        assert_eq!(output.code, Some(4), "{url} {}", output.stderr);
        assert!(output.stderr.contains("200ms") && output.stderr.contains(&url), "{}", output.stderr);
    }
    // A server that answers and answers: the limit is for all of it.
    let url = peer(|mut stream| while stream.write_all(b"more").is_ok() {});
    let output = run(["send", &url, "x", "--timeout", "200ms"], b"");
    assert_eq!(output.code, Some(4), "{}", output.stderr);
    // A server that reads nothing of much.
    let output = run(
        ["send", &format!("tcp://{}", stream.local_addr().unwrap()), "--timeout", "300ms"],
        &[0; 20 << 20],
    );
    assert_eq!(output.code, Some(4), "{}", output.stderr);
}

#[test]
fn a_reset_or_an_early_end_exits_5() {
    let reset = peer(|stream| {
        // Closing with bytes unread resets.
        stream.peek(&mut [0]).unwrap();
    });
    let output = run(["send", &reset, "hello"], b"");
    assert_eq!(output.code, Some(5), "{}", output.stderr);
    let swallow = |mut stream: TcpStream| drop(stream.read_to_end(&mut Vec::new()));
    let output = run(["send", &peer(swallow), "hello"], b"");
    assert_eq!(output.code, Some(5), "{}", output.stderr);
    assert!(output.stderr.contains("without an answer"), "{}", output.stderr);
    let output = run(["send", &peer(swallow), "hello", "--expect", ""], b"");
    assert_eq!(output.code, Some(0), "{}", output.stderr);
}

#[test]
fn a_server_that_ends_before_the_input_does_exits_5() {
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let url = peer(move |stream| {
        stream.shutdown(Shutdown::Write).unwrap();
        let _ = held.recv();
    });
    // The input stays open.
    let mut command = resay(["send", &url]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut process = Process(command.spawn().unwrap());
    let stdin = process.0.stdin.take();
    assert_eq!(process.wait().code(), Some(5));
    drop((stdin, hold));
}

#[test]
fn a_reader_that_has_seen_enough_ends_it_quietly() {
    let url = peer(|mut stream| while stream.write_all(&[b'x'; 4096]).is_ok() {});
    let mut command = resay(["send", &url, "x", "--timeout", "20s"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = Process(command.spawn().unwrap());
    let mut first = [0; 10];
    process.0.stdout.take().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(process.wait().signal(), Some(Signal::PIPE.as_raw()));
    let mut told = String::new();
    process.0.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!(told, "");
}

#[test]
fn input_is_sent_while_it_comes() {
    let (_directory, server) = server(&["-t", "uppercase"]);
    let mut command = resay(["send", server.url(), "--timeout", "20s"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = Process(command.spawn().unwrap());
    let (mut stdin, mut stdout) = (process.0.stdin.take().unwrap(), process.0.stdout.take().unwrap());
    for _ in 0..3 {
        stdin.write_all(b"ping\n").unwrap();
        let mut answer = [0; 5];
        stdout.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"PING\n");
    }
    drop(stdin);
    assert_eq!(wait_until("it ends", || process.0.try_wait().unwrap()).code(), Some(0));
}

#[test]
fn the_address_that_answers_datagrams_is_found() {
    let server = Server::start(&["udp://127.0.0.1:0"], &["-q", "-t", "uppercase"]);
    // This machine: [::1] first, where nobody is.
    let url = format!("udp://:{}", server.address().rsplit_once(':').unwrap().1);
    let output = run(["send", &url, "hello"], b"");
    assert_eq!((output.code, output.text().as_str()), (Some(0), "HELLO"), "{}", output.stderr);
    let output = run(["repl", &url], b"one\ntwo\n");
    assert_eq!((output.code, output.text().as_str()), (Some(0), "ONE\nTWO\n"), "{}", output.stderr);
    let bench = ["bench", &url, "--expect", "uppercase", "-c", "3", "-d", "50ms", "--warmup", "0s"];
    let output = run(bench, b"");
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    server.end();
}
