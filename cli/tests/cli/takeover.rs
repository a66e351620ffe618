//! One server after the other on the same sockets: nobody who comes meanwhile notices.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use rustix::process::Signal;

use crate::process::{PATIENCE, Server, finish, resay, run, wait_until};

/// What peers have asked until they are told to stop; each waits for its answer.
#[derive(Default)]
struct Storm {
    is_over: AtomicBool,
    tcp: AtomicU64,
    udp: AtomicU64,
    unix: AtomicU64,
    datagrams: AtomicU64,
}

impl Storm {
    /// `ask` is given numbers, until the storm is over.
    fn keep(
        self: &Arc<Self>,
        count: fn(&Storm) -> &AtomicU64,
        ask: impl Fn(u64) + Send + 'static,
    ) -> thread::JoinHandle<()> {
        let storm = Arc::clone(self);
        thread::spawn(move || {
            for number in 0.. {
                if storm.is_over.load(Ordering::Relaxed) {
                    break;
                }
                ask(number);
                count(&storm).fetch_add(1, Ordering::Relaxed);
            }
        })
    }

    fn counts(&self) -> [u64; 4] {
        [&self.tcp, &self.udp, &self.unix, &self.datagrams].map(|count| count.load(Ordering::Relaxed))
    }
}

fn ask(stream: &mut (impl Read + Write), number: u64) {
    let question = format!("question {number:08}");
    stream.write_all(question.as_bytes()).unwrap();
    let mut answer = vec![0; question.len()];
    stream.read_exact(&mut answer).unwrap_or_else(|error| panic!("{question}: {error}"));
    assert_eq!(String::from_utf8(answer).unwrap(), question.to_uppercase());
}

fn ask_datagram(number: u64, send: impl Fn(&[u8]), receive: impl Fn(&mut [u8]) -> std::io::Result<usize>) {
    let question = format!("question {number:08}");
    send(question.as_bytes());
    let mut answer = [0; 64];
    let count = receive(&mut answer).unwrap_or_else(|error| panic!("{question}: {error}"));
    assert_eq!(std::str::from_utf8(&answer[..count]).unwrap(), question.to_uppercase());
}

/// A server that may follow another one with this control socket.
fn serve(urls: &[String], control: &str, others: &[&str], follows: bool) -> Server {
    let mut command = resay(["serve", "--control", control, "-t", "uppercase", "--set", "frame=raw"]);
    command.args(urls).args(others);
    if follows {
        command.args(["--takeover", control]);
    }
    Server::of(command, urls.len(), None)
}

fn figures(control: &str) -> serde_json::Value {
    let output = run(["ctl", control, "stats", "--json"], b"");
    assert_eq!(output.code, Some(0), "{output:?}");
    serde_json::from_str(&output.text()).unwrap()
}

fn end_of(mut server: Server) -> String {
    assert_eq!(server.process.wait().code(), Some(0), "{}", server.stderr.text());
    let text = server.stderr.to_end();
    assert!(!text.contains("panicked"), "{text}");
    text
}

/// Peers of each kind ask while one server after the other takes the sockets: every connection is accepted, every message and
/// every datagram answered, and the figures go on.
#[test]
fn nothing_is_lost_while_servers_follow_each_other_in_a_storm() {
    let takeovers = std::env::var("RESAY_TAKEOVERS").map_or(5, |count| count.parse().unwrap());
    for backend in ["epoll", "auto"] {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        let control = path("ctl");
        let urls = [
            "tcp://127.0.0.1:0".to_owned(),
            "udp://127.0.0.1:0?guard=off".to_owned(),
            format!("unix:{}", path("s")),
            format!("unix-dgram:{}", path("d")),
        ];
        let others = ["--backend", backend, "--threads", "2", "--drain-timeout", "60s"];
        let mut server = serve(&urls, &control, &others, false);
        let first = server.urls.clone();
        let address_of = |place: usize| first[place].split_once("://").unwrap().1.to_owned();
        let storm = Arc::new(Storm::default());
        let mut peers = Vec::new();
        for _ in 0..2 {
            let tcp = address_of(0);
            peers.push(storm.keep(
                |storm| &storm.tcp,
                move |number| {
                    let mut stream = TcpStream::connect(&tcp).expect("somebody listens");
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    ask(&mut stream, number);
                },
            ));
            let udp = address_of(1);
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect(udp).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            peers.push(storm.keep(
                |storm| &storm.udp,
                move |number| {
                    ask_datagram(
                        number,
                        |bytes| assert_eq!(socket.send(bytes).unwrap(), bytes.len()),
                        |answer| socket.recv(answer),
                    );
                },
            ));
        }
        let unix = path("s");
        peers.push(storm.keep(
            |storm| &storm.unix,
            move |number| {
                let mut stream = UnixStream::connect(&unix).expect("somebody listens");
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                ask(&mut stream, number);
            },
        ));
        let socket = UnixDatagram::bind(path("peer")).unwrap();
        socket.connect(path("d")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        peers.push(storm.keep(
            |storm| &storm.datagrams,
            move |number| {
                ask_datagram(
                    number,
                    |bytes| assert_eq!(socket.send(bytes).unwrap(), bytes.len()),
                    |answer| socket.recv(answer),
                );
            },
        ));
        for number in 0..takeovers {
            let next = serve(&urls, &control, &others, true);
            assert_eq!(next.urls, first, "{number}: the same addresses");
            let text = end_of(std::mem::replace(&mut server, next));
            assert!(text.contains("handed over to another server") && text.contains("drained"), "{text}");
            server.stderr.wait_for("takeover: the old server has ended");
            // All of them go on.
            let before = storm.counts();
            wait_until("everybody is served", || {
                let now = storm.counts();
                now.iter().zip(before).all(|(now, before)| *now > before).then_some(())
            });
        }
        storm.is_over.store(true, Ordering::Relaxed);
        peers.into_iter().for_each(|peer| peer.join().expect("a peer has lost something"));
        let counts = storm.counts();
        let asked: u64 = counts.iter().sum();
        let totals = wait_until("all is counted", || {
            let totals = figures(&control)["totals"].clone();
            (totals["open"] == 0).then_some(totals)
        });
        assert_eq!(totals["messages_in"], asked, "{backend} {counts:?} {totals}");
        assert_eq!(totals["messages_out"], asked, "{backend} {counts:?} {totals}");
        assert_eq!(totals["accepted"], counts[0] + counts[2], "{backend} {counts:?} {totals}");
        assert_eq!(totals["closed"], totals["accepted"], "{backend} {totals}");
        eprintln!("{backend}: {takeovers} takeovers, {counts:?} asked on tcp, udp, unix, unix-dgram");
        let text = server.end();
        assert!(!text.contains("not all in time"), "{text}");
        for name in ["s", "d", "ctl"] {
            assert!(!Path::new(&path(name)).exists(), "{name} goes with the last one");
        }
    }
}

/// A new server that fails, or is killed, before it serves changes nothing.
#[test]
fn a_server_that_does_not_come_up_leaves_the_old_one_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let control = path("ctl");
    let urls = ["tcp://127.0.0.1:0".to_owned(), format!("unix:{}", path("s"))];
    let server = serve(&urls, &control, &[], false);
    let mut connection = TcpStream::connect(server.address()).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    // An address that is taken.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("tcp://{}", taken.local_addr().unwrap());
    let output = run(["serve", &urls[0], &taken, "--takeover", &control], b"");
    assert_eq!(output.code, Some(3), "{output:?}");
    server.stderr.wait_for("serving on");
    // Whoever asks and goes away without a word.
    drop({
        let mut client = UnixStream::connect(&control).unwrap();
        client.write_all(b"handover 1\n").unwrap();
        client.read_exact(&mut [0; 3]).unwrap();
        client
    });
    ask(&mut connection, 1);
    ask(&mut UnixStream::connect(path("s")).unwrap(), 2);
    // And after both, one that does.
    let next = serve(&urls, &control, &[], true);
    drop(connection);
    end_of(server);
    ask(&mut UnixStream::connect(path("s")).unwrap(), 3);
    // The first one is nobody's any more.
    let output = run(["serve", "tcp://127.0.0.1:0", "--takeover", &path("nowhere")], b"");
    assert!(output.code == Some(3) && output.stderr.contains("--takeover"), "{output:?}");
    next.end();
}

/// Whatever a new server fails of, the files of the old one's sockets stay, and lead to it.
#[test]
fn files_of_sockets_survive_a_server_that_fails() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let control = path("ctl");
    let urls = [("unix", "s"), ("unix-dgram", "d"), ("unix-seqpacket", "q")]
        .map(|(scheme, name)| format!("{scheme}:{}", path(name)));
    let server = serve(&urls, &control, &[], false);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("tcp://{}", taken.local_addr().unwrap());
    let program = resay([""; 0]).get_program().to_owned();
    for (descriptors, others) in [
        ("256", [taken.as_str()].as_slice()),
        // The engine has adopted all by then, and does not start: no machine has that processor.
        ("256", &["--thread-cpus", "900"]),
        ("14", &["--threads", "2"]),
    ] {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -n $0 && exec \"$@\"", descriptors]).arg(&program);
        command.args(["serve", "--takeover", &control, "-t", "uppercase"]).args(&urls).args(others);
        let output = finish(command, b"");
        assert_ne!(output.code, Some(0), "{output:?}");
        assert!(!output.stdout.starts_with(b"listening"), "{output:?}");
        for (url, name) in urls.iter().zip(["s", "d", "q"]) {
            assert!(Path::new(&path(name)).exists(), "{name}: {output:?}");
            assert_eq!(run(["send", url, "x"], b"").text(), "X", "{name}: {output:?}");
        }
    }
    let next = serve(&urls, &control, &[], true);
    end_of(server);
    for url in &urls {
        assert_eq!(run(["send", url, "x"], b"").text(), "X");
    }
    next.end();
    for name in ["s", "d", "q", "ctl"] {
        assert!(!Path::new(&path(name)).exists(), "{name} goes with the last one");
    }
}

/// With a configuration file: what the new one does not want is closed, what the old one has not is opened, connections of the
/// old one get their answers and the end.
#[test]
fn the_new_server_has_what_its_file_says() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (file, control) = (path("resay.toml"), path("ctl"));
    let listeners = |names: &[&str]| -> String {
        names
            .iter()
            .map(|name| format!("[[listener]]\nname = {name:?}\nlisten = \"unix:{}\"\n", path(name)))
            .collect()
    };
    let start = |names: &[&str], others: &[&str]| {
        std::fs::write(&file, format!("control = {control:?}\nchain = \"uppercase\"\n{}", listeners(names)))
            .unwrap();
        let mut command = resay(["serve", "--config", &file]);
        command.args(others);
        Server::of(command, names.len(), None)
    };
    let old = start(&["a", "b"], &[]);
    let mut kept = UnixStream::connect(path("a")).unwrap();
    kept.set_read_timeout(Some(PATIENCE)).unwrap();
    ask(&mut kept, 1);
    let new = start(&["b", "c"], &["--takeover", &control]);
    ask(&mut kept, 2);
    for name in ["b", "c"] {
        ask(&mut UnixStream::connect(path(name)).unwrap(), 3);
    }
    assert!(UnixStream::connect(path("a")).is_err());
    assert_eq!(kept.read(&mut [0; 8]).unwrap(), 0, "it drains");
    end_of(old);
    // The figures of both, and of one that is killed nothing.
    new.stderr.wait_for("takeover: the old server has ended");
    assert_eq!(figures(&control)["totals"]["messages_in"], 4);
    let last = start(&["b", "c"], &["--takeover", &control]);
    new.process.signal(Signal::KILL);
    // Whether it had told its last figures or not.
    last.stderr.wait_for("takeover: the old server");
    assert_eq!(figures(&control)["totals"]["messages_in"], 4);
    drop(new);
    last.end();
}

/// What `ctl listeners` says of each: name, URL and chain.
fn listeners(control: &str) -> Vec<[String; 3]> {
    let output = run(["ctl", control, "listeners", "--json"], b"");
    assert_eq!(output.code, Some(0), "{output:?}");
    let all: Vec<serde_json::Value> = serde_json::from_str(&output.text()).unwrap();
    all.iter().map(|one| ["name", "url", "chain"].map(|key| one[key].to_string())).collect()
}

/// However a listener's address is written, and whatever is around its stream: each server has the same ports and calls them the
/// same.
#[test]
fn addresses_stay_what_they_are_through_many_takeovers() {
    let free = || {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        // Of both kinds, since the same number may be free of one only.
        UdpSocket::bind(("127.0.0.1", port)).map_or(0, |_| port)
    };
    let free = || std::iter::repeat_with(free).find(|port| *port != 0).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (file, control) = (path("resay.toml"), path("ctl"));
    let mut urls = vec![
        format!("tcp://:{}", free()),
        format!("udp://:{}", free()),
        "tcp://:0".to_owned(),
        "udp://:0".to_owned(),
        "tcp://127.0.0.1:0".to_owned(),
        format!("tcp://127.0.0.1:{}", free()),
        format!("tcp://localhost:{}", free()),
        "tcp://localhost:0".to_owned(),
        format!("udp://[::ffff:127.0.0.1]:{}", free()),
        "tcp://[::ffff:127.0.0.1]:0".to_owned(),
        "tcp://[::1]:0".to_owned(),
        format!("unix:{}", path("s")),
        format!("unix-dgram:{}", path("d")),
        format!("unix:@{}", path("abstract")),
    ];
    #[cfg(feature = "tls")]
    let authority = crate::tls::Authority::new();
    #[cfg(feature = "tls")]
    urls.extend([
        format!("tls://:{}?{}", free(), authority.query()),
        format!("tls://127.0.0.1:0?{}", authority.query()),
        format!("tls://localhost:{}?{}", free(), authority.query()),
        format!("unix+tls:{}?{}", path("t"), authority.query()),
    ]);
    let mut text = format!("control = {control:?}\nchain = \"uppercase\"\nthreads = 2\n");
    for (number, url) in urls.iter().enumerate() {
        text.push_str(&format!("[[listener]]\nname = \"l{number}\"\nlisten = {url:?}\n"));
    }
    std::fs::write(&file, text).unwrap();
    let start = |others: &[&str]| {
        let mut command = resay(["serve", "--config", &file]);
        command.args(others);
        Server::of(command, urls.len(), None)
    };
    let mut server = start(&[]);
    let first = (server.urls.clone(), listeners(&control));
    for number in 0..4 {
        let next = start(&["--takeover", &control]);
        assert_eq!((&next.urls, listeners(&control)), (&first.0, first.1.clone()), "{number}");
        end_of(std::mem::replace(&mut server, next));
        for url in server.urls.iter().filter(|url| !url.contains("tls:")) {
            let url = url.replace("//:", "//127.0.0.1:");
            assert_eq!(run(["send", &url, "x"], b"").text(), "X", "{number} {url}");
        }
        #[cfg(feature = "tls")]
        for url in server.urls.iter().filter(|url| url.contains("tls:")) {
            let url = url.replace("//:", "//127.0.0.1:");
            let output = run(["send", &url, "x", "--ca", &authority.path("ca.pem")], b"");
            assert_eq!(output.text(), "X", "{number} {url}: {output:?}");
        }
    }
    server.end();
    for name in ["s", "d", "t"] {
        assert!(!Path::new(&path(name)).exists(), "{name} goes with the last one");
    }
}

/// Control sockets and metrics that the new server could not have show before the old one leaves; what the old one has of them
/// goes over, whatever it is for there.
#[test]
fn what_cannot_be_had_is_found_before_the_old_server_leaves() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (control, read, url) = (path("ctl"), path("read"), format!("unix:{}", path("s")));
    let third = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = third.local_addr().unwrap().to_string();
    let other = std::os::unix::net::UnixListener::bind(path("other")).unwrap();
    std::fs::write(path("file"), "").unwrap();
    let port = |server: &Server| {
        let log = server.stderr.wait_for("metrics http://");
        let (_, after) = log.split_once("metrics http://").unwrap();
        after.split_once('/').unwrap().0.to_owned()
    };
    let start = |metrics: &str, others: &[&str]| {
        let mut command = resay(["serve", &url, "-v", "-t", "uppercase", "--metrics", metrics]);
        command.args(["--control", &control, "--control-read", &read]).args(others);
        Server::of(command, 1, None)
    };
    let server = start("127.0.0.1:0", &[]);
    let metrics = port(&server);
    for (others, expected) in [
        (["--control", &path("none/ctl")], "No such file"),
        (["--control", &path("file")], "not a socket"),
        (["--control-read", &path("none/read")], "No such file"),
        (["--control", &path("other")], "another server"),
        (["--metrics", &taken], "in use"),
        (["--metrics", &format!("unix:{}", path("other"))], "another server"),
        (["--metrics", "192.0.2.1:9464"], "assign"),
        // It is the old one's, and about to be the new one's for something else.
        (["--metrics", &url], "another server"),
    ] {
        let output = run(["serve", &url, "--takeover", &control].iter().chain(&others), b"");
        assert_eq!(output.code, Some(3), "{others:?} {output:?}");
        assert!(output.stderr.contains(expected) && output.stdout.is_empty(), "{others:?} {output:?}");
        assert_eq!(run(["send", &url, "x"], b"").text(), "X", "{others:?}");
        assert_eq!(run(["ctl", &read, "health"], b"").code, Some(0), "{others:?}");
    }
    let next = start(&metrics, &["--takeover", &control]);
    assert_eq!(port(&next), metrics);
    end_of(server);
    assert_eq!(run(["ctl", &read, "health"], b"").code, Some(0));
    // Each in the other's place, by another path.
    std::os::unix::fs::symlink(directory.path(), path("link")).unwrap();
    let mut swapped = resay(["serve", &url, "--takeover", &control, "--control", &path("link/read")]);
    swapped.args(["--control-read", &control, "--metrics", &metrics.replace("127.0.0.1", "localhost")]);
    let last = Server::of(swapped, 1, None);
    end_of(next);
    for place in [&read, &control] {
        assert_eq!(run(["ctl", place, "health"], b"").code, Some(0), "{}", last.stderr.text());
    }
    assert!(TcpStream::connect(&metrics).is_ok());
    let text = last.end();
    assert!(!text.contains("serving without"), "{text}");
    drop(other);
}

/// More sockets of one address than there are threads have no place.
#[test]
fn too_few_threads_are_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let control = directory.path().join("ctl").display().to_string();
    let urls = ["udp://127.0.0.1:0".to_owned()];
    let server = serve(&urls, &control, &["--threads", "3"], false);
    let output = run(["serve", &urls[0], "--threads", "2", "--takeover", &control], b"");
    assert!(output.code != Some(0) && output.stderr.contains("threads"), "{output:?}");
    let next = serve(&urls, &control, &["--threads", "4"], true);
    end_of(server);
    assert_eq!(run(["send", next.url(), "x"], b"").text(), "X");
    next.end();
}
