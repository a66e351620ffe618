//! `resay serve --metrics`, as a scraper and a balancer see it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::ctl::Controlled;
use crate::process::{PATIENCE, Process, Server, Written, ask, finish, wait_until};

/// The place of the metrics of a server: HOST:PORT.
fn place(server: &Server) -> String {
    let text = server.stderr.wait_for("/metrics\n");
    let (_, rest) = text.split_once("metrics http://").expect("the log has it");
    rest.split_once("/metrics\n").unwrap().0.to_owned()
}

fn start(urls: &[&str], others: &[&str]) -> (Server, String) {
    let server = Server::start(urls, &[&["--metrics", "127.0.0.1:0"], others].concat());
    let place = place(&server);
    (server, place)
}

/// What a client is told that says this: the head and the body.
fn talk(mut stream: impl Read + Write, request: &str) -> (String, String) {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    (head.to_owned(), body.to_owned())
}

fn connect(place: &str) -> TcpStream {
    let stream = TcpStream::connect(place).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn get(place: &str, path: &str, headers: &str) -> (String, String) {
    talk(connect(place), &format!("GET {path} HTTP/1.1\r\nHost: {place}\r\n{headers}\r\n"))
}

fn status(head: &str) -> u16 {
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{head:?}"))
}

/// The samples of an exposition: name and labels, and the value.
fn samples(body: &str) -> BTreeMap<String, f64> {
    let lines = body.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.map(|line| line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?}")));
    let mut samples = BTreeMap::new();
    for (name, value) in pairs {
        let value = value.parse().unwrap_or_else(|_| panic!("{value:?}"));
        assert_eq!(samples.insert(name.to_owned(), value), None, "{name} stands twice");
    }
    samples
}

fn scrape(place: &str) -> BTreeMap<String, f64> {
    let (head, body) = get(place, "/metrics", "");
    assert_eq!(status(&head), 200, "{head}");
    assert!(head.contains("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{head}");
    samples(&body)
}

/// The sum of all series of a family with these labels in them.
fn sum(samples: &BTreeMap<String, f64>, family: &str, label: &str) -> f64 {
    let of = |name: &str| name.split('{').next() == Some(family) && name.contains(label);
    samples.iter().filter(|(name, _)| of(name)).map(|(_, value)| value).sum()
}

/// A configuration whose listener has a name and two addresses, with metrics and a control socket.
fn configured() -> (tempfile::TempDir, Server, String) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("resay.toml");
    let control = directory.path().join("ctl");
    let text = format!(
        "metrics = \"127.0.0.1:0\"\ncontrol = {control:?}\nchain = \"uppercase\"\n\n[[listener]]\nname = \"public\"\n\
         listen = [\"tcp://127.0.0.1:0\", \"udp://127.0.0.1:0\"]\n"
    );
    fs::write(&file, text).unwrap();
    let mut command = crate::process::resay(["serve", "--config"]);
    command.arg(&file);
    let server = Server::of(command, 2, None);
    let place = place(&server);
    (directory, server, place)
}

#[test]
fn what_is_counted_can_be_scraped_and_adds_up() {
    let (directory, server, place) = configured();
    let mut client = TcpStream::connect(server.address()).unwrap();
    assert_eq!(ask(&mut client, b"hello"), b"HELLO");
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.set_read_timeout(Some(PATIENCE)).unwrap();
    udp.connect(server.urls[1].strip_prefix("udp://").unwrap()).unwrap();
    for _ in 0..3 {
        udp.send(b"abc").unwrap();
        assert_eq!(udp.recv(&mut [0; 16]).unwrap(), 3);
    }
    drop(client);
    let found = wait_until("the connection is closed", || {
        let found = scrape(&place);
        (sum(&found, "resay_connections_closed_total", "reason=\"peer_closed\"") == 1.0).then_some(found)
    });
    let (tcp, udp) = (server.url(), &server.urls[1]);
    let of = |family: &str, address: &str| {
        found[&format!("{family}{{listener=\"public\",address=\"{address}\"}}")]
    };
    assert_eq!(of("resay_connections_accepted_total", tcp), 1.0);
    assert_eq!(of("resay_connections_open", tcp), 0.0);
    assert_eq!((of("resay_messages_received_total", udp), of("resay_messages_sent_total", udp)), (3.0, 3.0));
    assert_eq!((of("resay_received_bytes_total", udp), of("resay_sent_bytes_total", udp)), (9.0, 9.0));
    assert_eq!(of("resay_kernel_dropped_total", udp), 0.0);
    for address in [tcp, udp] {
        let label = format!("address=\"{address}\"");
        let sum = |family| sum(&found, family, &label);
        assert_eq!(
            sum("resay_connections_accepted_total"),
            sum("resay_connections_closed_total") + sum("resay_connections_open")
        );
        assert_eq!(
            sum("resay_messages_received_total"),
            sum("resay_messages_sent_total") + sum("resay_messages_dropped_total")
        );
        let info =
            format!("resay_listener_info{{listener=\"public\",address=\"{address}\",chain=\"uppercase\"}}");
        assert_eq!(found[&info], 1.0);
    }
    // Each reason is there before it comes up, so that the first one is an increase.
    for reason in resay::DropReason::ALL {
        let label = format!("address=\"{udp}\",reason=\"{}\"", reason.name());
        assert!(found.keys().any(|name| name.contains(&label)), "{label}");
    }
    assert_eq!(found[&format!("resay_build_info{{version=\"{}\"}}", resay::VERSION)], 1.0);
    assert_eq!(found["resay_ready"], 1.0);
    assert!(found["process_resident_memory_bytes"] > 1e6 && found["process_open_fds"] > 3.0, "{found:?}");
    assert!(found["process_start_time_seconds"] > 1.7e9, "{found:?}");

    // A listener that is gone leaves what it has counted.
    let file = directory.path().join("resay.toml");
    let text = fs::read_to_string(&file).unwrap().replace(", \"udp://127.0.0.1:0\"", "");
    fs::write(&file, text).unwrap();
    server.process.signal(Signal::HUP);
    wait_until("the listener is closed", || {
        let found = scrape(&place);
        let closed = sum(&found, "resay_messages_received_total", "listener=\"(closed)\"");
        (closed == 3.0 && sum(&found, "resay_reloads_total", "ok") == 1.0).then_some(())
    });
    assert_eq!(sum(&scrape(&place), "resay_messages_received_total", udp), 0.0);
    server.end();
}

#[test]
fn time_is_told_by_transform_and_by_worker() {
    let (server, place) =
        start(&["tcp://127.0.0.1:0?frame=lines"], &["-t", "uppercase | identity", "--threads", "2"]);
    let mut client = TcpStream::connect(server.address()).unwrap();
    let found = wait_until("calls were timed, and workers have used the processor", || {
        for _ in 0..100 {
            assert_eq!(ask(&mut client, b"hello\n"), b"HELLO\n");
        }
        let found = scrape(&place);
        let busy = sum(&found, "resay_worker_busy_seconds_total", "");
        // The turn in which calls are timed is counted when it is over.
        let turns = sum(&found, "resay_worker_turn_seconds_count", "");
        let calls = sum(&found, "resay_transform_duration_seconds_count", "");
        (calls >= 4.0 && turns >= 2.0 && busy > 0.0).then_some(found)
    });
    for transform in ["uppercase", "identity"] {
        let label = format!("transform=\"{transform}\"");
        let count = found[&format!("resay_transform_duration_seconds_count{{{label}}}")];
        let is_last = |name: &str| name.contains(&label) && name.contains("le=\"+Inf\"");
        let all: f64 = found.iter().filter(|(name, _)| is_last(name)).map(|(_, value)| value).sum();
        assert_eq!(count, all);
        assert!(count > 0.0 && found[&format!("resay_transform_duration_seconds_sum{{{label}}}")] > 0.0);
    }
    let turns = sum(&found, "resay_worker_turn_seconds_count", "");
    assert_eq!(turns, sum(&found, "resay_worker_turn_seconds_bucket", "le=\"+Inf\""));
    assert!(sum(&found, "resay_worker_turn_seconds_sum", "") > 0.0);
    let buckets = found.keys().filter(|name| name.starts_with("resay_worker_turn_seconds_bucket{")).count();
    assert_eq!(buckets, 2 * (resay::TurnTimes::BOUNDS_US.len() + 1), "{found:?}");
    for family in ["resay_worker_busy_seconds_total", "resay_worker_waiting_seconds_total"] {
        let workers = found.keys().filter(|name| name.starts_with(family)).count();
        assert_eq!(workers, 2, "{found:?}");
    }
    drop(client);
    server.end();
}

#[test]
fn stats_are_those_of_ctl() {
    let (directory, server, place) = configured();
    let (head, body) = get(&place, "/stats.json", "");
    assert!(head.contains("Content-Type: application/json\r\n"), "{head}");
    let stats: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(stats["listeners"][0]["name"], "public");
    assert_eq!(stats["listeners"][1]["url"].as_str(), Some(server.urls[1].as_str()));
    let control = directory.path().join("ctl");
    let asked = crate::process::run(["ctl", control.to_str().unwrap(), "stats", "--json"], b"").text();
    let mut asked: Value = serde_json::from_str(&asked).unwrap();
    asked["uptime_ms"] = stats["uptime_ms"].clone();
    assert_eq!(asked["workers"][0]["worker"], stats["workers"][0]["worker"]);
    // They have had turns since.
    asked["workers"] = stats["workers"].clone();
    assert_eq!(asked, stats);
    server.end();
}

#[test]
fn the_two_formats_have_the_same_samples() {
    let (server, place) = start(&["tcp://127.0.0.1:0"], &[]);
    let wish = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    let (head, open) = get(&place, "/metrics", &format!("Accept: {wish}\r\n"));
    assert!(head.contains("application/openmetrics-text; version=1.0.0; charset=utf-8"), "{head}");
    assert!(open.ends_with("\n# EOF\n"), "{open}");
    let (_, text) = get(&place, "/metrics", "Accept: */*\r\n");
    assert!(!text.contains("# EOF"), "{text}");
    // Labels have no order, and a bound is a number however it is written.
    let label = |label: &str| match label.strip_prefix("le=\"").and_then(|bound| bound.strip_suffix('"')) {
        Some(bound) => format!("le={}", bound.parse::<f64>().unwrap()),
        None => label.to_owned(),
    };
    let name = |name: String| match name.split_once('{') {
        Some((family, labels)) => {
            let labels = labels.trim_end_matches('}').split(',').map(label).collect::<BTreeSet<_>>();
            format!("{family}{labels:?}")
        }
        None => name,
    };
    let names = |body: &str| samples(body).into_keys().map(name).collect::<BTreeSet<_>>();
    assert_eq!(names(&open), names(&text));
    server.end();
}

#[test]
fn readiness_is_what_the_operator_and_the_end_make_of_it() {
    let others = ["--metrics", "127.0.0.1:0", "-t", "delay:time=60m", "--drain-timeout", "1h"];
    let controlled = Controlled::start(&["tcp://127.0.0.1:0"], &others);
    let place = place(&controlled.server);
    let ready = |path: &str| {
        let (head, body) = get(&place, path, "");
        (status(&head), body)
    };
    assert_eq!(ready("/readyz"), (200, "serving\n".to_owned()));
    assert_eq!(controlled.ask(&["health"]), "serving\n");
    assert_eq!(controlled.ask(&["health", "fail"]), "failed\n");
    assert_eq!(ready("/readyz"), (503, "failed\n".to_owned()));
    assert_eq!(ready("/livez"), (200, "alive\n".to_owned()));
    assert_eq!(scrape(&place)["resay_health{state=\"failed\"}"], 1.0);
    assert_eq!(controlled.json(&["health", "ok"])["ready"], true);
    assert_eq!(ready("/readyz"), (200, "serving\n".to_owned()));
    assert_eq!(controlled.ctl(&["health", "perhaps"]).code, Some(2));

    // An answer that is due much later keeps the server draining until it is stopped.
    let mut client = TcpStream::connect(controlled.server.address()).unwrap();
    client.write_all(b"hello").unwrap();
    wait_until("the message has arrived", || {
        (sum(&scrape(&place), "resay_messages_received_total", "") == 1.0).then_some(())
    });
    controlled.server.process.signal(Signal::TERM);
    controlled.server.stderr.wait_for("draining");
    assert_eq!(ready("/readyz"), (503, "draining\n".to_owned()));
    assert_eq!(ready("/livez"), (200, "alive\n".to_owned()));
    controlled.server.end();
}

#[test]
fn a_client_that_asks_for_nothing_keeps_nobody_waiting() {
    let (server, place) = start(&["tcp://127.0.0.1:0"], &[]);
    // As many as are served at once, silent and slow; those behind them wait for a second at most.
    let mut silent: Vec<_> = (0..8).map(|_| connect(&place)).collect();
    silent[0].write_all(b"GET /met").unwrap();
    let found = scrape(&place);
    assert_eq!(found["resay_ready"], 1.0);
    for mut stream in silent {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }
    server.end();
}

#[test]
fn what_is_no_scrape_is_refused() {
    let (server, place) = start(&["tcp://127.0.0.1:0"], &[]);
    let table = [
        ("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), 404),
        ("POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc".to_owned(), 405),
        ("GET /metrics HTTP/1.1\r\nHost: rebound.example\r\n\r\n".to_owned(), 403),
        ("GET /metrics HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("hello\r\n\r\n".to_owned(), 400),
        (format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(9000)), 431),
    ];
    for (request, wanted) in table {
        let (head, _) = talk(connect(&place), &request);
        assert_eq!(status(&head), wanted, "{request:?}");
        assert_eq!(head.contains("Allow: GET, HEAD"), wanted == 405, "{head}");
    }
    let (head, body) = talk(connect(&place), "HEAD /metrics HTTP/1.0\r\n\r\n");
    assert_eq!((status(&head), body.as_str()), (200, ""));
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
    assert!(length.parse::<usize>().unwrap() > 1000, "{head}");
    server.end();
}

#[test]
fn metrics_on_a_unix_socket_have_its_permissions() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("metrics");
    let wanted = format!("unix:{}?mode=0640", path.display());
    let server = Server::start(&["tcp://127.0.0.1:0"], &["--metrics", &wanted]);
    server.stderr.wait_for(&format!("metrics unix:{}", path.display()));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
    let (head, body) =
        talk(UnixStream::connect(&path).unwrap(), "GET /metrics HTTP/1.1\r\nHost: anything\r\n\r\n");
    assert_eq!(status(&head), 200, "{head}");
    assert_eq!(samples(&body)["resay_ready"], 1.0);
    server.end();
    assert!(!path.exists());
}

#[test]
fn a_place_that_cannot_be_keeps_the_server_from_beginning() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (place, code, part) in
        [(taken.as_str(), 3, "in use"), ("9464", 2, "HOST:PORT is expected"), ("unix:@x", 2, "abstract")]
    {
        let output = finish(crate::process::resay(["serve", "tcp://127.0.0.1:0", "--metrics", place]), b"");
        assert_eq!((output.code, output.text().as_str()), (Some(code), ""), "{place}: {}", output.stderr);
        assert!(output.stderr.contains(part), "{place}: {}", output.stderr);
    }
}

/// A file of the repository.
fn shipped(path: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names of metrics in a text, such as a query.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    // What begins so and has no more than that is a job, or a file.
    let is_name = |word: &&str| {
        ["resay_", "process_"]
            .iter()
            .any(|prefix| word.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty()))
    };
    words.filter(is_name).map(str::to_owned).collect()
}

/// The families that a server exports, whether they have samples or not: by the names of their samples.
fn exported() -> BTreeSet<String> {
    let (_directory, server, place) = configured();
    let (_, body) = get(&place, "/metrics", "");
    server.end();
    let types = body.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let pairs = types.map(|line| line.split_once(' ').unwrap());
    // A histogram is asked for by its buckets.
    pairs
        .map(|(name, kind)| if kind == "histogram" { format!("{name}_bucket") } else { name.to_owned() })
        .collect()
}

#[test]
fn rules_board_and_guide_name_what_is_exported() {
    let exported = exported();
    for path in ["contrib/prometheus/rules.yml", "contrib/prometheus/rules_test.yml"] {
        let used = names(&shipped(path));
        assert!(used.len() > 3, "{path}: {used:?}");
        assert_eq!(used.difference(&exported).collect::<Vec<_>>(), Vec::<&String>::new(), "{path}");
    }
    let board: Value = serde_json::from_str(&shipped("contrib/grafana/resay.json")).unwrap();
    let targets =
        board["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let queries: Vec<_> = targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect();
    let used = names(&queries.join("\n"));
    let unknown: Vec<_> = used.difference(&exported).collect();
    assert_eq!(unknown, Vec::<&String>::new(), "the board");
    // What the board does not show and no alert is about is for those who look closer.
    let guide = shipped("docs/serving.md");
    let (_, section) = guide.split_once("\n## Metrics and health\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let described: BTreeSet<_> = names(section).into_iter().filter(|name| !name.ends_with('_')).collect();
    let exported: BTreeSet<_> =
        exported.iter().map(|name| name.strip_suffix("_bucket").unwrap_or(name).to_owned()).collect();
    assert_eq!(described, exported, "the guide");
}

/// Whether a program can be started; says so if not.
fn is_installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_err() {
        eprintln!("skipped: {program} is not installed");
    }
    found.is_ok()
}

#[test]
fn promtool_finds_nothing_wrong_with_metrics_and_rules() {
    if !is_installed("promtool") {
        return;
    }
    let (_directory, server, place) = configured();
    let mut client = TcpStream::connect(server.address()).unwrap();
    assert_eq!(ask(&mut client, b"hello"), b"HELLO");
    let (_, body) = get(&place, "/metrics", "");
    drop(client);
    server.end();
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]);
    let output = finish(promtool, body.as_bytes());
    assert_eq!((output.code, output.text(), output.stderr.as_str()), (Some(0), String::new(), ""), "{body}");
    for arguments in [["check", "rules", "rules.yml"], ["test", "rules", "rules_test.yml"]] {
        let mut promtool = Command::new("promtool");
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/prometheus");
        promtool.args(arguments).current_dir(directory);
        let output = finish(promtool, b"");
        assert_eq!(output.code, Some(0), "{arguments:?}: {}{}", output.text(), output.stderr);
    }
}

/// A program that is killed when the test is done with it, and what it says.
fn prometheus(directory: &std::path::Path, config: &str) -> (Process, String) {
    let file = directory.join("prometheus.yml");
    fs::write(&file, config).unwrap();
    let mut command = Command::new("prometheus");
    command.arg(format!("--config.file={}", file.display()));
    command.arg(format!("--storage.tsdb.path={}", directory.join("data").display()));
    command.args(["--web.listen-address=127.0.0.1:0"]).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut process = Process(command.spawn().unwrap());
    let said = Written::follow(process.0.stderr.take().unwrap());
    let place = wait_until("prometheus listens", || {
        let text = said.text();
        let (_, rest) = text.split_once("\"Listening on\" address=")?;
        Some(rest.split_once('\n')?.0.to_owned())
    });
    (process, place)
}

#[test]
fn a_real_prometheus_scrapes_it_and_evaluates_the_rules() {
    if !is_installed("prometheus") {
        return;
    }
    let (directory, server, place) = configured();
    let mut client = TcpStream::connect(server.address()).unwrap();
    assert_eq!(ask(&mut client, b"hello"), b"HELLO");
    let rules = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/prometheus/rules.yml");
    let config = format!(
        "global: {{scrape_interval: 200ms, evaluation_interval: 200ms}}\nrule_files: [{rules:?}]\n\
         scrape_configs: [{{job_name: resay, static_configs: [{{targets: [{place:?}]}}]}}]\n"
    );
    let (_process, api) = prometheus(directory.path(), &config);
    // HTTP/1.0: the answer is not in chunks.
    let ask_api = |path: &str| -> Option<Value> {
        let (head, body) =
            talk(connect(&api), &format!("GET /api/v1/{path} HTTP/1.0\r\nHost: localhost\r\n\r\n"));
        // Until it has read its store it is not ready.
        (status(&head) == 200).then(|| serde_json::from_str(&body).unwrap())
    };
    let query = |text: &str| ask_api(&format!("query?query={text}"));
    wait_until("it has scraped a message", || {
        let found = query("resay_messages_received_total")?;
        let series = found["data"]["result"].as_array()?;
        let value = |series: &Value| series["value"][1].as_str().unwrap_or_default().to_owned();
        let tcp = series.iter().find(|series| series["metric"]["address"] == server.url())?;
        (value(tcp) == "1" && tcp["metric"]["listener"] == "public").then_some(())
    });
    let targets = ask_api("targets").unwrap();
    assert_eq!(targets["data"]["activeTargets"][0]["health"], "up", "{targets}");
    assert_eq!(targets["data"]["activeTargets"][0]["lastError"], "", "{targets}");
    let rules = wait_until("all rules are evaluated", || {
        let found = ask_api("rules")?;
        let rules = found["data"]["groups"][0]["rules"].as_array()?.clone();
        rules.iter().all(|rule| rule["health"] != "unknown").then_some(rules)
    });
    for rule in rules {
        assert_eq!((&rule["health"], &rule["state"]), (&"ok".into(), &"inactive".into()), "{rule}");
    }
    // Its types came along: a counter is one.
    let metadata = ask_api("metadata?metric=resay_messages_received_total").unwrap();
    let open = ask_api("metadata?metric=resay_messages_received").unwrap();
    let kinds = format!("{metadata}{open}");
    assert!(kinds.contains("\"type\":\"counter\""), "{kinds}");
    drop(client);
    server.end();
}

/// A scraper sees no counter of a listener go back while one server follows another, and in the end all adds up.
#[test]
fn counters_of_listeners_go_on_after_a_takeover() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (file, control) = (path("resay.toml"), path("ctl"));
    let start = |names: &[&str], metrics: &str, others: &[&str]| {
        let listener =
            |name: &&str| format!("[[listener]]\nname = {name:?}\nlisten = \"unix:{}\"\n", path(name));
        let listeners: String = names.iter().map(listener).collect();
        let head = format!("control = {control:?}\nmetrics = {metrics:?}\nchain = \"uppercase\"\n");
        fs::write(&file, head + &listeners).unwrap();
        let mut command = crate::process::resay(["serve", "--config", &file]);
        command.args(others);
        Server::of(command, names.len(), None)
    };
    let send = |name: &str| {
        let output = crate::process::run(["send", &format!("unix:{}", path(name)), "x"], b"");
        assert_eq!(output.text(), "X", "{output:?}");
    };
    let of = |samples: &BTreeMap<String, f64>, family: &str, listener: &str| {
        sum(samples, family, &format!("listener=\"{listener}\""))
    };
    let first = start(&["a", "b"], "127.0.0.1:0", &[]);
    let place = place(&first);
    ["a", "a", "b"].into_iter().for_each(&send);
    let mut kept = UnixStream::connect(path("a")).unwrap();
    kept.set_read_timeout(Some(PATIENCE)).unwrap();
    kept.write_all(b"x").unwrap();
    kept.read_exact(&mut [0]).unwrap();
    let before = wait_until("the others have gone", || {
        let found = scrape(&place);
        (sum(&found, "resay_connections_closed_total", "") == 3.0).then_some(found)
    });
    let second = start(&["a", "c"], &place, &["--takeover", &control]);
    let after = scrape(&place);
    for (name, value) in before.iter().filter(|(name, _)| name.contains("listener=\"a\"")) {
        assert!(after[name] >= *value, "{name}: {value}, and then {}", after[name]);
    }
    assert_eq!(of(&after, "resay_messages_received_total", "a"), 3.0);
    assert_eq!(of(&after, "resay_connections_accepted_total", "a"), 3.0);
    assert_eq!(of(&after, "resay_messages_received_total", "(closed)"), 1.0, "that is b");
    assert_eq!(of(&after, "resay_messages_received_total", "c"), 0.0);
    send("a");
    send("c");
    // What the old server does until its end is added then: it has closed a connection.
    second.stderr.wait_for("takeover: the old server has ended");
    assert_eq!(kept.read(&mut [0]).unwrap(), 0);
    let adds_up = |received: f64| {
        wait_until("all is counted", || {
            let found = scrape(&place);
            (sum(&found, "resay_connections_open", "") == 0.0).then(|| {
                for listener in ["a", "c", "(closed)"] {
                    let accepted = of(&found, "resay_connections_accepted_total", listener);
                    assert_eq!(
                        accepted,
                        of(&found, "resay_connections_closed_total", listener),
                        "{listener}"
                    );
                    let received = of(&found, "resay_messages_received_total", listener);
                    assert_eq!(received, of(&found, "resay_messages_sent_total", listener), "{listener}");
                }
                assert_eq!(sum(&found, "resay_messages_received_total", ""), received);
                found
            })
        })
    };
    let found = adds_up(6.0);
    assert_eq!(of(&found, "resay_messages_received_total", "a"), 4.0);
    // Once more, and of one that is killed no more is known than it had told when it left.
    let third = start(&["a", "c"], &place, &["--takeover", &control]);
    second.process.signal(Signal::KILL);
    third.stderr.wait_for("takeover: the old server");
    send("a");
    let found = adds_up(7.0);
    assert_eq!(of(&found, "resay_messages_received_total", "a"), 5.0);
    assert_eq!(of(&found, "resay_messages_received_total", "c"), 1.0);
    // Whoever reads them is told that they are not of this process alone.
    let stats = crate::process::run(["ctl", &control, "stats", "--json"], b"");
    let stats: Value = serde_json::from_str(&stats.text()).unwrap();
    assert_eq!(stats["carried_over"], true);
    drop(second);
    third.end();
}
