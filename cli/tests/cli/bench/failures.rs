//! What cannot be measured: every exit status, and what is said.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};

use rustix::net::{AddressFamily, SocketType};
use serde_json::Value;

use super::{bench, check_sums, peer, server};
use crate::process::{Server, finish, run};

#[test]
fn nobody_there_exits_3() {
    // Ports that are taken, so that nobody else can answer there.
    let silent = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&silent, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
    let silent_at = SocketAddrV4::try_from(rustix::net::getsockname(&silent).unwrap()).unwrap();
    let deaf = UdpSocket::bind("127.0.0.1:0").unwrap();
    deaf.connect(deaf.local_addr().unwrap()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let none = directory.path().join("none").display().to_string();
    let urls = [
        format!("tcp://{silent_at}"),
        format!("udp://{}", deaf.local_addr().unwrap()),
        format!("unix:{none}"),
        format!("unix-dgram:{none}"),
        format!("unix-seqpacket:{none}"),
    ];
    for url in urls {
        for others in [["-c", "2"], ["--rate", "1k"]] {
            let (output, json) = bench(&url, &others);
            assert_eq!(output.code, Some(3), "{url} {}", output.stderr);
            assert!(output.stderr.starts_with("resay: "), "{}", output.stderr);
            check_sums(&json, &url);
            assert_eq!(
                (&json["exit_status"], &json["messages"]["answered"]),
                (&3.into(), &0.into()),
                "{url}"
            );
            let why = json["warnings"].to_string();
            assert!(why.contains("refused") || why.contains("No such file"), "{url} {why}");
        }
    }
    let text = run(["bench", &format!("tcp://{silent_at}"), "-d", "50ms"], b"");
    assert_eq!((text.code, text.text().as_str()), (Some(3), ""), "{}", text.stderr);
}

#[test]
fn what_connections_lack_is_told() {
    let (_directory, server) = server("identity", &[]);
    for (descriptors, is_measured) in [(100, true), (20, false)] {
        // Descriptors run out: the limit cannot be raised again.
        let script = format!("ulimit -n {descriptors}; exec \"$@\"");
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &script, "sh"]).arg(env!("CARGO_BIN_EXE_resay"));
        command.args(["bench", server.url(), "-c", "200", "-d", "150ms", "--warmup", "10ms", "--json", "-"]);
        let output = finish(command, b"");
        assert_eq!(output.code, Some(3), "{}", output.stderr);
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(json["exit_status"], 3);
        assert_eq!(json["messages"]["answered"].as_u64().unwrap() > 0, is_measured, "{json}");
        assert!(json["connections"]["not_made"].as_u64().unwrap() > 100, "{json}");
        let text = json["warnings"].to_string() + &output.stderr;
        assert_eq!(text.matches("Too many open files").count(), 2, "{text}");
    }
}

#[test]
fn nothing_measured_is_no_success() {
    // What is asked at the beginning of the warm-up is lost after the measured time, in which nothing is asked.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("udp://{}", silent.local_addr().unwrap());
    let (output, json) = bench(&url, &["--warmup", "100ms", "-d", "20ms", "--lost-after", "150ms"]);
    assert_eq!(output.code, Some(4), "{}", output.stderr);
    assert_eq!((&json["exit_status"], &json["messages"]["asked"]), (&4.into(), &0.into()));
    assert!(output.stderr.contains("nothing was measured"), "{}", output.stderr);
}

#[test]
fn no_answer_in_time_exits_4() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    for others in [["--pipeline", "3"], ["--rate", "1k"]] {
        let (output, json) = bench(&url, &[&others[..], &["--timeout", "150ms"]].concat());
        assert_eq!(output.code, Some(4), "{}", output.stderr);
        check_sums(&json, "silent");
        assert_eq!(json["messages"]["answered"], 0);
    }
}

#[test]
fn an_end_before_its_time_exits_5() {
    let some = |mut stream: TcpStream| {
        let mut buffer = [0; 64];
        for _ in 0..10 {
            if stream.read_exact(&mut buffer).and_then(|()| stream.write_all(&buffer)).is_err() {
                return;
            }
        }
    };
    for others in [["-c", "3"], ["--rate", "1k"]] {
        // It ends with the last connection, long before that.
        let (output, json) = bench(&peer(some), &[&others[..], &["--warmup", "0s", "-d", "60s"]].concat());
        assert_eq!(output.code, Some(5), "{}", output.stderr);
        check_sums(&json, "ended");
        let connections = &json["connections"];
        let [ended, reset] = ["ended", "reset"].map(|name| connections[name].as_u64().unwrap());
        assert_eq!(ended + reset, connections["asked"].as_u64().unwrap(), "{connections}");
        assert_eq!(connections["open_at_end"], 0);
    }
}

#[test]
fn lost_messages_alone_have_no_latency() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("udp://{}", silent.local_addr().unwrap());
    let output = run(["bench", &url, "-d", "200ms", "--warmup", "0s", "--lost-after", "10ms"], b"");
    assert_eq!(output.code, Some(4), "{}", output.stderr);
    assert!(output.stderr.contains("nothing was measured"), "{}", output.stderr);
    assert!(!output.text().contains("p99"), "{}", output.text());
}

#[test]
fn sizes_and_chains_that_cannot_be_are_told_as_they_were_typed() {
    let url = "tcp://127.0.0.1:1";
    let table: [(&[&str], &str); 4] = [
        (&[url, "--size", "0"], "--size 0: messages of 0 bytes: a tcp stream has none"),
        (&[url, "--size", "99g"], "invalid value '99g' for '--size <SIZE>': a message has at most 64m"),
        (&["--compare", ""], "a chain is missing"),
        (&["--compare", "identity,"], "(--compare \"identity,\", character 10)"),
    ];
    for (arguments, part) in table {
        let output = run(["bench"].iter().chain(arguments), b"");
        assert_eq!((output.code, output.text().as_str()), (Some(2), ""), "{arguments:?} {}", output.stderr);
        assert!(output.stderr.contains(part), "{arguments:?} {}", output.stderr);
    }
}

#[test]
fn wrong_usage_exits_2_before_anything_is_connected() {
    let table: [(&[&str], &str); 18] = [
        (&[], "URL"),
        (&["nonsense"], "address"),
        (&["fd:3"], "connect"),
        (&["tcp://127.0.0.1:1", "-c", "0"], "1 to"),
        (&["tcp://127.0.0.1:1", "--size", "0"], "0 bytes"),
        (&["tcp://127.0.0.1:1", "--size", "1g"], "at most"),
        (&["tcp://127.0.0.1:1", "--rate", "fast"], "50k"),
        (&["tcp://127.0.0.1:1", "-d", "0s"], "nothing would be measured"),
        (&["tcp://127.0.0.1:1", "--lost-after", "0s"], "would be lost"),
        (&["tcp://127.0.0.1:1", "--rounds", "3"], "--compare"),
        (&["tcp://127.0.0.1:1", "--frame", "fixed:10"], "--size"),
        (&["tcp://127.0.0.1:1", "--frame", "len8", "--size", "300"], "len8"),
        (&["udp://127.0.0.1:1", "--frame", "lines"], "no frame"),
        (&["tcp://127.0.0.1:1", "--expect", "uppercase |"], "chain"),
        (&["tcp://127.0.0.1:1", "--expect", "corrupt:rate=5%,seed=1"], "cannot be checked"),
        (&["tcp://127.0.0.1:1", "--json", "-", "--csv", "-"], "standard output"),
        (&["tcp://127.0.0.1:1", "--html", "/none/such"], "/none/such"),
        (&["tcp://127.0.0.1:1", "--compare", "identity"], "port must be 0"),
    ];
    for (arguments, part) in table {
        let output = run([&["bench"], arguments].concat(), b"");
        assert_eq!((output.code, output.text().as_str()), (Some(2), ""), "{arguments:?} {}", output.stderr);
        assert!(output.stderr.contains(part), "{arguments:?} {}", output.stderr);
    }
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("udp://{}", udp.local_addr().unwrap());
    let (output, _) = bench(&url, &["--size", "70000"]);
    assert_eq!(output.code, Some(2), "{}", output.stderr);
    assert!(output.stderr.contains("too long"), "{}", output.stderr);
    let output = run(["bench", "tcp://127.0.0.1:1", "--expect", "no-such"], b"");
    assert_eq!(output.code, Some(6), "{}", output.stderr);
}

#[test]
fn what_cannot_be_measured_has_a_document_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("run.json");
    let json = |arguments: &[&str], limit: &str| -> (Option<i32>, Value) {
        let _ = fs::remove_file(&file);
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &format!(r#"{limit}; exec "$0" "$@""#), env!("CARGO_BIN_EXE_resay"), "bench"]);
        command.args(["--json", file.to_str().unwrap(), "-d", "50ms", "--warmup", "0s"]).args(arguments);
        let output = finish(command, b"");
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{error}: {}", output.stderr));
        (output.code, serde_json::from_str(&text).unwrap())
    };
    // Taken, and nobody listens.
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = SocketAddrV4::try_from(rustix::net::getsockname(&socket).unwrap()).unwrap();
    let refused = format!("tcp://{at}");
    let server = Server::start(&["tcp://127.0.0.1:0"], &["-q"]);
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let silent = format!("udp://{}", silent.local_addr().unwrap());
    let few = "ulimit -n 20";
    let table: [(&[&str], &str, i32, &str); 5] = [
        (&[&refused], ":", 3, "refused"),
        (&[&silent, "--lost-after", "10ms"], ":", 4, "nothing was measured"),
        (&["-c", "30", server.url()], few, 3, "Too many open files"),
        (&["--compare", "identity", "-c", "30"], few, 3, "Too many open files"),
        (
            &["--compare", "identity,hex,uppercase,reverse,rot13,base64,lowercase"],
            few,
            3,
            "Too many open files",
        ),
    ];
    for (arguments, limit, exit, why) in table {
        let (code, document) = json(arguments, limit);
        assert_eq!(code, Some(exit), "{arguments:?} {document}");
        assert_eq!(document["exit_status"], exit, "{arguments:?}");
        let warnings = document["warnings"].to_string();
        assert!(warnings.contains(why), "{arguments:?} {warnings}");
    }
    server.end();
}
