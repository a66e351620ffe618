//! Measurements that a signal ends.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::thread;

use rustix::process::Signal;
use serde_json::Value;

use super::check_sums;
use crate::process::{Process, Server, Written, resay, run, wait_until};

/// Runs a measurement that is interrupted when that is due; what it printed.
fn interrupted(arguments: &[&str], signal: Signal, is_due: impl Fn() -> bool) -> String {
    let mut command = resay(["bench"]);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = Process(command.spawn().unwrap());
    let stdout = Written::follow(process.0.stdout.take().unwrap());
    let stderr = Written::follow(process.0.stderr.take().unwrap());
    wait_until("it may be interrupted", || is_due().then_some(()));
    process.signal(signal);
    let status = process.wait();
    assert_eq!(status.signal(), Some(signal.as_raw()), "{status} {}", stderr.to_end());
    assert!(stderr.to_end().contains(if signal == Signal::INT { "SIGINT" } else { "SIGTERM" }));
    stdout.to_end()
}

#[test]
fn an_interrupted_measurement_tells_what_it_has_seen() {
    let directory = tempfile::tempdir().unwrap();
    let control = directory.path().join("control");
    let server = Server::start(&["tcp://127.0.0.1:0"], &["-q", "--control", control.to_str().unwrap()]);
    let answered = || {
        let output = run(["ctl", control.to_str().unwrap(), "stats", "--json"], b"");
        let stats: Value = serde_json::from_slice(&output.stdout).unwrap();
        stats["totals"]["messages_out"].as_u64().unwrap()
    };
    let file = directory.path().join("run.json");
    for (signal, others) in [
        (Signal::INT, &["-c", "3", "--pipeline", "4", "--threads", "2"][..]),
        (Signal::TERM, &["--rate", "2k", "-c", "2"]),
    ] {
        fs::write(&file, "older").unwrap();
        let before = answered();
        let json = ["--json", file.to_str().unwrap(), "--warmup", "0s", "-d", "1h", server.url()];
        let text = interrupted(&[&json, others].concat(), signal, || {
            assert_eq!(fs::read_to_string(&file).unwrap(), "older");
            answered() > before + 100
        });
        assert!(text.contains("throughput"), "{text}");
        let json: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        check_sums(&json, "interrupted");
        assert!(json["messages"]["answered"].as_u64().unwrap() >= 100, "{json}");
        assert_eq!(json["messages"]["unanswered"], 0, "{json}");
        assert_eq!(json["exit_status"], 128 + signal.as_raw(), "{json}");
        let seconds = json["throughput"]["seconds"].as_f64().unwrap();
        assert!(seconds > 0.0 && seconds < 60.0, "{json}");
        let warnings = json["warnings"].to_string();
        assert!(warnings.contains("interrupted by SIG") && warnings.contains("of 3,600 s"), "{warnings}");
    }
    server.end();
    let names: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["run.json"], "nothing else is left");
}

#[test]
fn an_interrupted_warm_up_measures_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let file = directory.path().join("run.json");
    fs::write(&file, "older").unwrap();
    let first_message = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0]).unwrap();
        stream
    });
    let arguments = ["--json", file.to_str().unwrap(), "--warmup", "1h", &url];
    let text = interrupted(&arguments, Signal::INT, || first_message.is_finished());
    assert_eq!(text, "");
    assert_eq!(fs::read_to_string(&file).unwrap(), "older", "there is no figure to put in its place");
}

#[test]
fn a_comparison_interrupted_in_its_first_round_compares_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("run.json");
    fs::write(&file, "older").unwrap();
    let json = ["--json", file.to_str().unwrap(), "--compare", "identity,uppercase", "-c", "1"];
    // In the first round: there is nothing to compare.
    let sockets = directory.path().join("socket").display().to_string();
    let url = format!("unix:{sockets}");
    let is_there = || Path::new(&format!("{sockets}.2")).exists();
    interrupted(&[&json[..], &["-d", "1h", &url]].concat(), Signal::INT, is_there);
    assert_eq!(fs::read_to_string(&file).unwrap(), "older", "there is no figure to put in its place");
    assert!(!is_there(), "its servers have ended");
}
