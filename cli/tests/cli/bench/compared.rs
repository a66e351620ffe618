//! Chains that are compared.

use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;

use rustix::process::Signal;

use super::{bench, check_page};
use crate::process::{Process, resay, run, wait_until};

#[test]
fn chains_are_compared_on_servers_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    let stream = format!("unix:{}", file("stream").display());
    let datagram = format!("unix-dgram:{}", file("datagram").display());
    let chains = "identity,prefix:text='a,b',delay:time=1ms,jitter=1ms,seed=1,uppercase | hex";
    for url in ["tcp://127.0.0.1:0", "udp://127.0.0.1:0", &stream, &datagram] {
        let html = file("page.html").display().to_string();
        let others = ["--compare", chains, "--rounds", "2", "-c", "2", "--html", &html, "--backend", "epoll"];
        let framed: &[&str] = if url.starts_with("unix:") { &["--frame", "lines"] } else { &[] };
        let (output, json) = bench(url, &[&others[..], framed, &["-d", "100ms"]].concat());
        assert_eq!(output.code, Some(0), "{url} {}", output.stderr);
        assert_eq!((&json["schema"], &json["kind"]), (&"resay.bench/1".into(), &"compare".into()));
        let compared = json["chains"].as_array().unwrap();
        let names: Vec<_> = compared.iter().map(|chain| chain["chain"].as_str().unwrap()).collect();
        let expected =
            ["identity", "prefix:text=\"a,b\"", "delay:time=1ms,jitter=1ms,seed=1", "uppercase | hex"];
        assert_eq!(names, expected);
        for chain in compared {
            assert_eq!(chain["rounds"].as_array().unwrap().len(), 2);
            assert!(chain["messages_per_s"]["median"].as_f64().unwrap() > 0.0, "{url} {chain}");
            let verdict = if chain["chain"] == "identity" { "first" } else { "too_few_rounds" };
            assert_eq!(chain["p50_us"]["verdict"], verdict);
            assert!(chain["cpu_us_per_message"]["median"].as_f64().unwrap() > 0.0, "{url} {chain}");
        }
        check_page(Path::new(&html), 4, &["uppercase | hex", "Server CPU a message"]);
    }
    // Nothing is left of the servers.
    let left: Vec<_> =
        std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["page.html"]);
    for (cores, rows) in [("same", 4), ("apart", 4), ("free", 4)] {
        let short =
            ["bench", "--compare", "identity", "--compare", "reverse", "--frame", "lines", "-d", "20ms"];
        let others = ["--warmup", "0s", "--rounds", "2", "--cores", cores, "--csv", "-"];
        let output = run(short.iter().chain(&others), b"");
        assert_eq!(output.code, Some(0), "{cores} {}", output.stderr);
        assert_eq!(output.text().lines().count(), 1 + rows, "{}", output.text());
    }
}

#[test]
fn a_round_without_an_answer_is_extended() {
    let others = ["--compare", "identity,delay:time=300ms", "--rounds", "2", "-d", "100ms", "-c", "1"];
    let (output, json) = bench("tcp://127.0.0.1:0", &others);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert!(output.stderr.contains("no answer within 100ms: it was extended to "), "{}", output.stderr);
    assert!(!output.stderr.contains("does not tell"), "{}", output.stderr);
    let slow = &json["chains"][1];
    for round in slow["rounds"].as_array().unwrap() {
        assert!(round["messages_per_s"].as_f64().unwrap() > 0.0, "{slow}");
        assert!(round["p50_us"].as_f64().unwrap() > 299_000.0, "{slow}");
        assert!(round["cpu_us_per_message"].is_number() || !cfg!(target_os = "linux"), "{slow}");
    }
    assert!(slow["p99_us"]["min"].as_f64().unwrap() > 299_000.0, "{slow}");
}

#[test]
fn servers_end_with_the_comparison_that_is_interrupted() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket.1");
    let url = format!("unix:{}", directory.path().join("socket").display());
    let mut command = resay(["bench", &url, "--compare", "identity", "-d", "60s", "--rounds", "9"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut process = Process(command.spawn().unwrap());
    wait_until("a server listens", || UnixStream::connect(&socket).ok());
    process.signal(Signal::TERM);
    assert_eq!(process.wait().signal(), Some(Signal::TERM.as_raw()));
    wait_until("the server has ended", || (!socket.exists()).then_some(()));
}

#[test]
fn a_comparison_that_cannot_be_made_says_why() {
    for (chains, code, part) in [
        ("identity,hex:mode=decode", 2, "cannot be checked"),
        ("identity,no-such", 6, "no-such"),
        ("identity,|", 2, "chain"),
    ] {
        let output = run(["bench", "--compare", chains, "-d", "20ms"], b"");
        assert_eq!((output.code, output.text().as_str()), (Some(code), ""), "{chains} {}", output.stderr);
        assert!(output.stderr.contains(part), "{chains} {}", output.stderr);
    }
    let output = run(["bench", "--compare", "identity", "--backend", "none", "-d", "20ms"], b"");
    assert_eq!(output.code, Some(2), "{}", output.stderr);
    let output = run(["bench", "unix:/none/such/directory", "--compare", "identity", "-d", "20ms"], b"");
    assert_eq!(output.code, Some(3), "{}", output.stderr);
    assert!(output.stderr.contains("/none/such"), "{}", output.stderr);
}
