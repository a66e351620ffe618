//! What `resay ctl` does with a server while it runs: watching, tapping, listeners, options and connections.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::ctl::{Controlled, say};
use crate::process::{PATIENCE, Process, Server, Written, ask, resay, run, wait_until};

fn connect(url: &str) -> TcpStream {
    let stream = TcpStream::connect(url.strip_prefix("tcp://").unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// `resay ctl` that goes on, and what it prints.
fn follow(path: &Path, arguments: &[&str]) -> (Process, Written) {
    let mut command = resay(["ctl", path.to_str().unwrap()]);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut process = Process(command.spawn().unwrap());
    let written = Written::follow(process.0.stdout.take().unwrap());
    (process, written)
}

/// A client of a control socket, by hand: its request was accepted.
fn begin(path: &Path, request: &str) -> BufReader<UnixStream> {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut stream = BufReader::new(stream);
    assert_eq!(line(&mut stream), "ok\n", "{request:?}");
    stream
}

fn line(stream: &mut BufReader<UnixStream>) -> String {
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    line
}

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
}

#[test]
fn events_are_told_as_they_happen() {
    let controlled = Controlled::start(&["tcp://127.0.0.1:0?frame=lines&max_message=8"], &[]);
    let mut all = begin(&controlled.path, "watch\n");
    let mut some = begin(&controlled.path, "watch closed\n");
    // As `echo watch closed | socat - UNIX-CONNECT:PATH` does.
    some.get_ref().shutdown(Shutdown::Write).unwrap();
    let mut client = connect(controlled.server.url());
    assert_eq!(ask(&mut client, b"hello\n"), b"hello\n");
    client.write_all(b"far too long a line\n").unwrap();
    let accepted = json(&line(&mut all));
    assert_eq!((&accepted["kind"], &accepted["level"]), (&"accepted".into(), &"debug".into()));
    assert_eq!(accepted["listener"], controlled.server.url());
    assert_eq!((&accepted["listener_id"], &accepted["cause"]), (&1.into(), &Value::Null));
    let peer = client.local_addr().unwrap().to_string();
    assert!(accepted["text"].as_str().unwrap().contains(&peer), "{accepted}");
    assert!(accepted["ts"].as_str().unwrap().starts_with("20"), "{accepted}");
    let closed = loop {
        let event = json(&line(&mut all));
        if event["kind"] == "closed" {
            break event;
        }
    };
    assert_eq!(closed["cause"], "message_too_long");
    assert_eq!(closed["connection"], accepted["connection"]);
    let mut only = json(&line(&mut some));
    only["ts"] = closed["ts"].clone();
    assert_eq!(only, closed);
    // The command prints the same, and ends with the server.
    let (mut watching, written) = follow(&controlled.path, &["watch", "accepted"]);
    let seen = wait_until("an event is printed", || {
        drop(connect(controlled.server.url()));
        written.text().lines().next().map(str::to_owned)
    });
    assert_eq!(json(&seen)["kind"], "accepted");
    controlled.server.end();
    assert_eq!(watching.wait().code(), Some(0));
    assert!(line(&mut some).contains("\"closed\""));
}

#[test]
fn a_watcher_that_does_not_read_loses_events_and_is_told_how_many() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("e.sock");
    let controlled = Controlled::start(&[&format!("unix-dgram:{}", path.display())], &[]);
    let mut watcher = begin(&controlled.path, "watch dropped\n");
    // Nobody can answer a socket without a name; one that sends waits for room, so that none of them is missing. Some thousand
    // find room in the watcher's socket, and 4,096 in its queue.
    let sender = UnixDatagram::unbound().unwrap();
    let sent = 20_000;
    for _ in 0..sent {
        sender.send_to(b"hello", &path).unwrap();
    }
    wait_until("all of them are dropped", || {
        (controlled.json(&["stats"])["totals"]["dropped_by"]["unnamed"] == sent).then_some(())
    });
    let (mut told, mut lost) = (0, 0);
    while told + lost < sent {
        let event = json(&line(&mut watcher));
        match event["lost"].as_u64() {
            Some(count) => lost += count,
            None => told += 1,
        }
    }
    assert_eq!(told + lost, sent);
    assert!(lost > 0 && told >= 4096, "told {told}, lost {lost}");
    controlled.server.end();
}

#[test]
fn so_many_may_watch_and_the_others_still_get_answers() {
    let controlled = Controlled::start(&["tcp://127.0.0.1:0"], &[]);
    let mut watchers: Vec<_> = (0..7).map(|_| begin(&controlled.path, "watch\n")).collect();
    watchers.push(begin(&controlled.path, "tap 0 0 16\n"));
    for request in ["watch\n", "tap 0 0 16\n"] {
        let answer = say(&controlled.path, request.as_bytes());
        assert!(answer.starts_with("error 3 8 clients watch or tap"), "{answer}");
    }
    let output = controlled.ctl(&["watch"]);
    assert_eq!((output.code, output.text().as_str()), (Some(3), ""), "{}", output.stderr);
    assert_eq!(controlled.json(&["stats"])["totals"]["accepted"], 0);
    // A place is free when its client has ended.
    watchers.pop();
    watchers.pop();
    wait_until("there is room", || {
        let mut stream = UnixStream::connect(&controlled.path).unwrap();
        stream.write_all(b"watch\n").unwrap();
        let mut answer = [0; 3];
        stream.read_exact(&mut answer).unwrap();
        (&answer == b"ok\n").then_some(())
    });
    controlled.server.end();
}

#[test]
fn a_tap_shows_messages_and_what_becomes_of_them() {
    let urls = ["tcp://127.0.0.1:0?frame=lines", "tcp://127.0.0.1:0"];
    let controlled = Controlled::start(&urls, &["-t", "uppercase"]);
    let (mut tapping, written) =
        follow(&controlled.path, &["tap", &controlled.server.urls[0], "2", "--bytes", "6"]);
    let mut other = connect(&controlled.server.urls[1]);
    let mut client = connect(&controlled.server.urls[0]);
    let mut sent = 0;
    wait_until("two records are printed", || {
        assert_eq!(ask(&mut other, b"not this"), b"NOT THIS");
        assert_eq!(ask(&mut client, b"h\xe9llo world\n"), b"H\xe9LLO WORLD\n");
        sent += 1;
        (written.text().lines().count() == 2).then_some(())
    });
    assert_eq!(tapping.wait().code(), Some(0));
    let lines: Vec<Value> = written.to_end().lines().map(json).collect();
    for (place, record) in lines.iter().enumerate() {
        assert_eq!(record["sequence"], place as u64 + 1);
        assert_eq!(record["message"], "h\\xe9llo ");
        assert_eq!(record["answer"], "H\\xe9LLO ");
        assert_eq!((&record["message_bytes"], &record["answer_bytes"]), (&11.into(), &11.into()));
        assert_eq!((&record["outcome"], &record["reason"]), (&"answered".into(), &Value::Null));
        assert_eq!(record["listener"], controlled.server.url());
        assert_eq!(record["peer"], client.local_addr().unwrap().to_string());
    }
    for (arguments, code) in [
        (&["tap", "9"][..], 2),
        (&["tap", "all", "1", "--bytes", "0"], 2),
        (&["tap", "all", "1", "--bytes", "65537"], 2),
        (&["tap", "nonsense"], 2),
        (&["watch", "nonsense"], 2),
    ] {
        let output = controlled.ctl(arguments);
        assert_eq!(
            (output.code, output.text().as_str()),
            (Some(code), ""),
            "{arguments:?}: {}",
            output.stderr
        );
    }
    // One that waits for more than comes ends with the server, and says that it did not get them.
    let (mut tapping, written) = follow(&controlled.path, &["tap", "all", "1000000000"]);
    wait_until("it has begun", || {
        assert_eq!(ask(&mut other, b"a"), b"A");
        (!written.text().is_empty()).then_some(())
    });
    drop((other, client));
    controlled.server.end();
    assert_eq!(tapping.wait().code(), Some(5));
}

#[test]
fn listeners_are_added_while_it_serves() {
    let directory = tempfile::tempdir().unwrap();
    let controlled = Controlled::start(&["tcp://127.0.0.1:0"], &["-t", "uppercase"]);
    let mut open = connect(controlled.server.url());
    assert_eq!(ask(&mut open, b"hello"), b"HELLO");
    let text = controlled.ask(&["listen", "tcp://127.0.0.1:0"]);
    let url = text.strip_prefix("listening ").unwrap().trim_end().to_owned();
    assert_eq!(ask(&mut connect(&url), b"hello"), b"HELLO");
    // Beside the one who asks, not beside the server.
    let mut command =
        resay(["ctl", controlled.path.to_str().unwrap(), "listen", "unix:e.sock?chain=identity"]);
    command.current_dir(&directory);
    let output = crate::process::finish(command, b"");
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""));
    let mut local = UnixStream::connect(directory.path().join("e.sock")).unwrap();
    assert_eq!(ask(&mut local, b"hello"), b"hello");
    assert_eq!(controlled.json(&["listeners"]).as_array().unwrap().len(), 3);
    drop((open, local));
    let log = controlled.server.end();
    assert!(log.contains(&format!("{url}: control socket: listening")), "{log}");
}

#[test]
fn options_hold_for_those_who_come_from_then_on() {
    let controlled = Controlled::start(&["tcp://127.0.0.1:0", "udp://127.0.0.1:0"], &[]);
    let url = controlled.server.url();
    let mut open = connect(url);
    assert_eq!(ask(&mut open, b"hello"), b"hello");
    assert_eq!(controlled.ask(&["set", url, "idle_timeout", "90s"]), "idle_timeout=90s\n");
    let report = controlled.json(&["set", "1", "max_connections", "1"]);
    assert_eq!((&report["listener"], &report["value"]), (&1.into(), &"1".into()));
    let mut turned_away = connect(url);
    assert_eq!(turned_away.read(&mut [0; 1]).unwrap_or(0), 0);
    wait_until("it was turned away", || {
        (controlled.json(&["stats"])["totals"]["rejected"] == 1).then_some(())
    });
    assert_eq!(controlled.json(&["stats"])["totals"]["rejected_by"]["max_connections"], 1);
    assert!(controlled.ask(&["stats"]).contains("rejected     1: max_connections reached"));
    controlled.ask(&["set", "1", "max_connections", "9"]);
    assert_eq!(ask(&mut connect(url), b"hello"), b"hello");
    for (arguments, part) in [
        (["set", "1", "idle_timout", "1s"], "idle_timeout"),
        (["set", "1", "idle_timeout", "soon"], "soon"),
        (["set", "1", "backlog", "7"], "settled when the socket is bound"),
        (["set", "1", "chain", "identity"], "ctl SOCKET chain"),
        (["set", "2", "idle_timeout", "1s"], "means nothing for udp"),
        (["set", "2", "rate", "1/1s"], "settled when the socket is bound"),
        (["set", "9", "nodelay", "1"], "listener"),
        (["set", "nonsense", "nodelay", "1"], "unknown or closed listener"),
    ] {
        let output = controlled.ctl(&arguments);
        assert_eq!((output.code, output.text().as_str()), (Some(2), ""), "{arguments:?}");
        assert!(output.stderr.contains(part), "{arguments:?}: {}", output.stderr);
    }
    for (url, code) in [(url, 3), ("fd:0", 2), ("systemd:", 2), ("nonsense", 2), ("tcp://127.0.0.1:0?x=1", 2)]
    {
        assert_eq!(controlled.ctl(&["listen", url]).code, Some(code), "{url}");
    }
    assert_eq!(ask(&mut open, b"still"), b"still");
    let log = controlled.server.end();
    assert!(log.contains("control socket: idle_timeout=90s"), "{log}");
    assert!(log.contains("control socket: backlog=7 refused"), "{log}");
}

#[test]
fn a_connection_is_ended_by_its_number() {
    let controlled = Controlled::start(&["tcp://127.0.0.1:0"], &[]);
    let (mut first, mut second) = (connect(controlled.server.url()), connect(controlled.server.url()));
    for client in [&mut first, &mut second] {
        assert_eq!(ask(client, b"hello"), b"hello");
    }
    let list = &controlled.json(&["connections"])["connections"];
    let id = |client: &TcpStream| {
        let peer = client.local_addr().unwrap().to_string();
        let listed = list.as_array().unwrap().iter().find(|listed| listed["peer"] == peer.as_str()).unwrap();
        listed["id"].to_string()
    };
    assert_eq!(controlled.ask(&["close", &id(&first)]), format!("closing {}\n", id(&first)));
    assert_eq!(first.read(&mut [0; 1]).unwrap(), 0);
    drop(first);
    assert_eq!(controlled.json(&["close", &id(&second), "--reset"])["closing"].to_string(), id(&second));
    let error = second.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let closed = wait_until("both are closed", || {
        let stats = controlled.json(&["stats"]);
        (stats["totals"]["closed"] == 2).then(|| stats["totals"]["closed_by"].clone())
    });
    assert_eq!(closed["by_host"], 2, "{closed}");
    let output = controlled.ctl(&["close", "123456789"]);
    assert_eq!((output.code, output.text().as_str()), (Some(2), ""));
    assert!(output.stderr.contains("unknown or closed connection: 123456789"), "{}", output.stderr);
    controlled.server.end();
}

#[test]
fn a_socket_for_reading_takes_no_orders() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("read");
    let server = Server::start(&["tcp://127.0.0.1:0"], &["--control-read", path.to_str().unwrap()]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o660);
    let ctl = |arguments: &[&str]| run(["ctl", path.to_str().unwrap()].iter().chain(arguments), b"");
    for arguments in [&["stats"][..], &["connections"], &["listeners"], &["health"], &["chain", "1"]] {
        let output = ctl(arguments);
        assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{arguments:?}");
    }
    let mut watcher = begin(&path, "watch accepted\n");
    let mut client = connect(server.url());
    assert_eq!(ask(&mut client, b"hello"), b"hello");
    assert_eq!(json(&line(&mut watcher))["kind"], "accepted");
    for arguments in [
        &["health", "fail"][..],
        &["chain", "1", "uppercase"],
        &["tap", "all"],
        &["listen", "tcp://127.0.0.1:0"],
        &["set", "1", "nodelay", "0"],
        &["close", "1"],
        &["reload"],
        &["drain"],
        &["stop"],
    ] {
        let output = ctl(arguments);
        assert_eq!((output.code, output.text().as_str()), (Some(2), ""), "{arguments:?}");
        assert!(output.stderr.contains("--control-read"), "{arguments:?}: {}", output.stderr);
    }
    assert_eq!(ask(&mut client, b"hello"), b"hello");
    drop(client);
    server.end();
    assert!(!path.exists());
}
