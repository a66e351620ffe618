use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType};
use rustix::process::Signal;
use serde_json::Value;

use crate::process::{Output, Process, Server, Written, finish, pace, resay, run, wait_until};

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

#[test]
fn a_server_that_stands_still_is_seen_by_every_message_that_was_due() {
    const STILL: Duration = Duration::from_millis(300);
    let url = peer(|mut stream| {
        let (mut buffer, mut messages) = ([0; 4096], 0);
        while let Ok(len @ 1..) = stream.read(&mut buffer) {
            let before = messages;
            messages += len / 64;
            if before < 100 && messages >= 100 {
                pace(STILL);
            }
            if stream.write_all(&buffer[..len]).is_err() {
                break;
            }
        }
    });
    let still_us = STILL.as_micros() as f64;
    let (output, json) = bench(&url, &["-d", "600ms", "--warmup", "0s", "--rate", "1k"]);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    check_sums(&json, "open");
    assert_eq!(json["messages"]["asked"], 600);
    assert!(json["latency_us"]["max"].as_f64().unwrap() >= 0.99 * still_us, "{}", json["latency_us"]);
    // At least 299 messages were due meanwhile, of which two thirds waited for a third of the time or longer: 198 of
    // 600 are more than the tenth that p90 leaves out.
    assert!(json["latency_us"]["p90"].as_f64().unwrap() >= still_us / 3.0, "{}", json["latency_us"]);
    // In a closed loop nobody asks meanwhile: the pause is one slow answer.
    let (output, json) = bench(&url, &["-d", "600ms", "--warmup", "0s"]);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert!(json["latency_us"]["max"].as_f64().unwrap() >= 0.99 * still_us);
}

#[test]
fn delays_of_the_server_are_in_every_latency() {
    let (_directory, server) = server("delay:time=40ms", &[]);
    for url in &server.urls {
        for others in [["--pipeline", "2"], ["--rate", "100"]] {
            let (output, json) = bench(url, &[&others[..], &["-d", "400ms"]].concat());
            assert_eq!(output.code, Some(0), "{url} {}", output.stderr);
            assert!(json["latency_us"]["min"].as_f64().unwrap() >= 39_900.0, "{url} {}", json["latency_us"]);
        }
    }
}

#[test]
fn lost_datagrams_are_counted_and_the_loop_goes_on() {
    let (_directory, server) = server("drop:rate=20%,seed=3", &[]);
    for url in server.urls.iter().filter(|url| url.starts_with("udp") || url.starts_with("unix-dgram")) {
        for others in [["--pipeline", "4"], ["--rate", "1k"]] {
            // Answers that a busy machine delays for so long are lost as well; a second has some that it does not.
            let others = [&others[..], &["--lost-after", "20ms", "-d", "1s"]].concat();
            let (output, json) = bench(url, &others);
            assert_eq!(output.code, Some(0), "{url} {}", output.stderr);
            check_sums(&json, url);
            assert!(json["messages"]["lost"].as_u64().unwrap() > 0, "{url}");
            assert!(json["messages"]["answered"].as_u64().unwrap() > 4, "{url}");
        }
    }
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("udp://{}", silent.local_addr().unwrap());
    let (output, json) = bench(&url, &["--lost-after", "20ms"]);
    assert_eq!(output.code, Some(4), "{}", output.stderr);
    check_sums(&json, "silent");
    assert_eq!(json["messages"]["lost"], json["messages"]["asked"]);
}

#[test]
fn datagrams_that_overtake_each_other_are_known_by_what_they_say() {
    let server = Server::start(&["udp://127.0.0.1:0"], &["-q", "-t", "delay:time=3ms,jitter=3ms,seed=1"]);
    let (output, json) = bench(server.url(), &["--pipeline", "32", "--lost-after", "5s"]);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let messages = &json["messages"];
    assert_eq!((&messages["wrong"], &messages["lost"]), (&0.into(), &0.into()), "{messages}");
    assert!(messages["answered"].as_u64().unwrap() > 32);
}

#[test]
fn answers_that_nobody_asked_for_are_told() {
    let url = peer(|mut stream| {
        let mut buffer = [0; 4096];
        while let Ok(len @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&[&buffer[..len], b"more"].concat()).is_err() {
                break;
            }
        }
    });
    let (output, _) = bench(&url, &["--timeout", "300ms"]);
    assert_eq!(output.code, Some(1), "{}", output.stderr);
    // A datagram may come twice.
    let twice = UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("udp://{}", twice.local_addr().unwrap());
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((len, from)) = twice.recv_from(&mut buffer) {
            let _ = twice.send_to(&buffer[..len], from);
            let _ = twice.send_to(&buffer[..len], from);
        }
    });
    let (output, json) = bench(&url, &[]);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert!(json["messages"]["unasked"].as_u64().unwrap() > 0, "{json}");
}

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
    let first_message = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0]).unwrap();
        stream
    });
    let arguments = ["--json", file.to_str().unwrap(), "--warmup", "1h", &url];
    interrupted(&arguments, Signal::INT, || first_message.is_finished());
    let json: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    check_sums(&json, "warm-up");
    assert_eq!((&json["messages"]["asked"], &json["exit_status"]), (&0.into(), &130.into()), "{json}");
    let warnings = json["warnings"].to_string();
    assert!(warnings.contains("before the measured time began"), "{warnings}");
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
    let document: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!((&document["kind"], &document["rounds"]), (&"compare".into(), &0.into()), "{document}");
    assert_eq!(document["exit_status"], 130);
    assert!(document["warnings"].to_string().contains("SIGINT"), "{document}");
    assert!(!is_there(), "its servers have ended");
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
