//! `resay bench` from outside; the files in `bench/` by what happens to it.

mod compared;
mod failures;
mod interrupted;
mod odd_servers;

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;

use serde_json::Value;

use crate::process::{Output, Server, run};

/// Every kind of socket, on one server.
fn server(chain: &str, others: &[&str]) -> (tempfile::TempDir, Server) {
    let directory = tempfile::tempdir().unwrap();
    let url = |scheme: &str| format!("{scheme}:{}", directory.path().join(scheme).display());
    let [stream, datagram, records] = ["unix", "unix-dgram", "unix-seqpacket"].map(url);
    let urls = ["tcp://127.0.0.1:0", "udp://127.0.0.1:0", &stream, &datagram, &records];
    let server = Server::start(&urls, &[&["-q", "-t", chain], others].concat());
    (directory, server)
}

/// A short measurement, unless `others` say how long, as JSON on standard output.
fn bench(url: &str, others: &[&str]) -> (Output, Value) {
    let mut arguments = vec!["bench", url, "--json", "-"];
    for short in [["-d", "150ms"], ["--warmup", "10ms"]] {
        if !others.contains(&short[0]) {
            arguments.extend(short);
        }
    }
    let output = run(arguments.iter().chain(others), b"");
    let json = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output, json)
}

/// The same for as long as it takes until something has been answered: a busy machine may not let the server run at once.
fn bench_until_answered(url: &str, others: &[&str]) -> (Output, Value) {
    let mut last = bench(url, others);
    for duration in ["1s", "4s", "16s"] {
        if last.0.code != Some(4) {
            break;
        }
        last = bench(url, &[others, &["-d", duration]].concat());
    }
    last
}

/// The sums that hold for every measurement.
fn check_sums(json: &Value, what: &str) {
    assert_eq!(json["schema"], "resay.bench/1", "{what}");
    let messages = |name: &str| json["messages"][name].as_u64().unwrap();
    let asked = messages("answered") + messages("lost") + messages("unanswered");
    assert_eq!(messages("asked"), asked, "{what}: {}", json["messages"]);
    let latency = &json["latency_us"];
    let count = latency["count"].as_u64().unwrap();
    assert_eq!(count, messages("answered") + messages("unanswered"), "{what}");
    let list = |value: &Value| value.as_array().unwrap().clone();
    let sum =
        |values: Vec<Value>, key: &str| values.iter().map(|each| each[key].as_u64().unwrap()).sum::<u64>();
    assert_eq!(sum(list(&latency["histogram"]), "count"), count, "{what}");
    let arrived = sum(list(&json["intervals"]), "messages");
    assert_eq!(json["throughput"]["messages"], arrived, "{what}");
    let percentiles = list(&latency["percentiles"]);
    if let Some(last) = percentiles.last() {
        assert_eq!((&last["percentile"], &last["count"]), (&100.0.into(), &count.into()), "{what}");
    }
    let ordered =
        ["min", "p50", "p90", "p99", "p99_9", "p99_99", "max"].map(|name| latency[name].as_f64().unwrap());
    assert!(ordered.is_sorted(), "{what}: {ordered:?}");
}

#[test]
fn every_transport_is_measured_in_both_loops_and_every_answer_checked() {
    let (_directory, server) = server("uppercase", &[]);
    let loops: [&[&str]; 4] = [
        &[],
        &["-c", "5", "--pipeline", "8", "--threads", "2"],
        &["--rate", "2k", "-c", "3"],
        &["--rate", "2k", "-c", "4", "--pipeline", "2", "--threads", "2", "--size", "900"],
    ];
    for url in &server.urls {
        for others in loops {
            let others = [others, &["--expect", "uppercase"]].concat();
            let (output, json) = bench(url, &others);
            let what = format!("{url} {others:?} {}", output.stderr);
            assert_eq!(output.code, Some(0), "{what}");
            check_sums(&json, &what);
            assert!(json["messages"]["answered"].as_u64().unwrap() > 0, "{what}");
            assert_eq!(json["messages"]["wrong"], 0, "{what}");
            assert_eq!(json["exit_status"], 0, "{what}");
            if others.contains(&"--rate") {
                // What is due does not depend on what is answered: 150 ms of 2,000 a second.
                assert_eq!(json["messages"]["asked"], 300, "{what}");
                assert!(json["generator"]["schedule"]["late_max_us"].is_number(), "{what}");
            }
        }
    }
    server.end();
}

#[test]
fn large_messages_and_many_connections_work_too() {
    let (_directory, server) = server("identity", &[]);
    for url in &server.urls {
        let size = if url.starts_with("tcp") || url.starts_with("unix:") { "1m" } else { "60000" };
        for others in [["-c", "2", "--size", size], ["-c", "200", "--size", "3"]] {
            let (output, json) = bench_until_answered(url, &others);
            assert_eq!(output.code, Some(0), "{url} {others:?} {}", output.stderr);
            check_sums(&json, url);
            assert_eq!(json["connections"]["open_at_end"].to_string(), others[1], "{url}");
        }
    }
    // Nothing is a datagram too.
    let (output, json) = bench_until_answered(&server.urls[1], &["--size", "0", "--pipeline", "4"]);
    assert_eq!((output.code, &json["messages"]["wrong"]), (Some(0), &0.into()), "{}", output.stderr);
    server.end();
}

#[test]
fn the_processor_time_of_a_server_is_measured_where_its_process_is_named() {
    let (_directory, server) = server("", &[]);
    let pid = server.process.0.id().to_string();
    let (output, json) = bench_until_answered(&server.urls[0], &["--server-pid", &pid]);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let (cpu_s, answers) = (&json["server"]["cpu_s"], &json["server"]["answers"]);
    let each = cpu_s.as_f64().unwrap() * 1e6 / answers.as_f64().unwrap();
    let told = json["server"]["cpu_us_per_answer"].as_f64().unwrap();
    assert!(told > 0.0 && (told / each - 1.0).abs() < 1e-6, "{}", json["server"]);
    let (_, json) = bench_until_answered(&server.urls[0], &[]);
    assert_eq!(json["server"], Value::Null);
    // The kernel gives no number above PID_MAX_LIMIT: proc_sys_kernel(5).
    let output = run(["bench", &server.urls[0], "--server-pid", "4194305"], b"");
    assert_eq!((output.code, output.text().as_str()), (Some(2), ""));
    assert!(output.stderr.contains("--server-pid 4194305"), "{}", output.stderr);
}

#[test]
fn frames_are_written_and_read() {
    for frame in ["lines", "delim:0d0a", "len8", "len16le", "len32be", "varint", "fixed:64"] {
        let option = format!("frame={frame}");
        for chain in ["reverse", "uppercase | hex"] {
            let server = Server::start(&["tcp://127.0.0.1:0"], &["-q", "-t", chain, "--set", &option]);
            let others = ["--expect", chain, "--frame", frame, "--pipeline", "16", "-c", "2"];
            let (output, json) = bench_until_answered(server.url(), &others);
            assert_eq!(output.code, Some(0), "{frame} {chain} {}", output.stderr);
            check_sums(&json, frame);
        }
    }
}

#[test]
fn a_wrong_answer_exits_1_and_is_shown() {
    let (_directory, server) = server("uppercase", &[]);
    for url in &server.urls {
        let (output, json) = bench(url, &["--warmup", "0s"]);
        assert_eq!(output.code, Some(1), "{url} {}", output.stderr);
        check_sums(&json, url);
        assert_eq!(json["messages"]["wrong"], json["messages"]["answered"], "{url}");
        // A message begins with eight digits, which have no capitals.
        let wrong = &json["first_wrong"];
        let offset = wrong["offset"].as_u64().unwrap() as usize;
        assert!(offset >= 8, "{wrong}");
        let [expected, got] = ["expected", "got"].map(|name| wrong[name].as_str().unwrap().to_owned());
        assert_eq!(expected.to_ascii_uppercase(), got);
        let shown_from = wrong["shown_from"].as_u64().unwrap() as usize;
        assert_ne!(expected.as_bytes()[offset - shown_from], got.as_bytes()[offset - shown_from]);
        for part in [format!("offset {offset} "), format!("\"{expected}\""), format!("\"{got}\"")] {
            assert!(output.stderr.contains(&part), "{url}: no {part} in {}", output.stderr);
        }
    }
    // Answers that are too short: told although none is complete.
    let (output, json) = bench(server.url(), &["--expect", "hex", "--timeout", "200ms"]);
    assert_eq!(output.code, Some(1), "{}", output.stderr);
    assert_eq!(json["first_wrong"]["expected_bytes"], 128);
    check_sums(&json, "hex");
}

/// A TCP server whose connections are served as `serve` says, one thread each.
fn peer(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        thread::scope(|scope| {
            for stream in listener.incoming().map_while(Result::ok) {
                scope.spawn(|| serve(stream));
            }
        });
    });
    url
}

/// A page that needs nothing from elsewhere.
fn check_page(path: &Path, charts: usize, parts: &[&str]) {
    let page = std::fs::read_to_string(path).unwrap();
    for elsewhere in ["http", "src=", "@import", "url(", "<link", "<script"] {
        assert!(!page.contains(elsewhere), "{elsewhere} in {}", path.display());
    }
    assert_eq!(page.matches("<svg").count(), charts);
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    for part in ["prefers-color-scheme: dark"].iter().chain(parts) {
        assert!(page.contains(part), "no {part} in {}", path.display());
    }
}

#[test]
fn results_are_written_as_text_json_csv_and_a_page() {
    let (directory, server) = server("identity", &[]);
    let file = |name: &str| directory.path().join(name).display().to_string();
    let (json, csv, html) = (file("run.json"), file("run.csv"), file("run.html"));
    let url = server.url();
    let arguments = ["bench", url, "-d", "100ms", "--warmup", "0s", "-c", "3", "--rate", "1k"];
    let output = run(arguments.iter().chain(&["--json", &json, "--csv", &csv, "--html", &html]), b"");
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let text = output.text();
    for part in [url, "3 connections", "1,000 due a second", "messages/s", "p99.99", "generator", "0 wrong"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    let json: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    check_sums(&json, "run");
    assert_eq!((&json["kind"], &json["settings"]["loop"]), (&"run".into(), &"open".into()));
    assert_eq!(json["settings"]["rate_per_s"], 1000.0);
    assert_eq!(json["command"][1], "bench");
    assert!(json["machine"]["cores"].as_u64().unwrap() > 0 && json["machine"]["kernel"].is_string());
    let csv = std::fs::read_to_string(csv).unwrap();
    let lines: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    let [names, values] = lines.as_slice() else { panic!("{csv}") };
    assert_eq!(names.len(), values.len());
    let value = |name: &str| values[names.iter().position(|each| *each == name).unwrap()];
    assert_eq!(value("answered"), json["messages"]["answered"].to_string());
    assert_eq!((value("url"), value("loop"), value("wrong")), (url, "open", "0"));
    check_page(Path::new(&html), 4, &[url, "Latency by percentile", "Throughput over time"]);
    let to_stdout = run(arguments.iter().chain(&["--csv", "-"]), b"");
    assert_eq!(to_stdout.text().lines().count(), 2, "{}", to_stdout.text());
    server.end();
}
