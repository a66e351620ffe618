use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Output, PATIENCE, Server, finish, resay, run, wait_until};

/// A server with a configuration file and a control socket.
struct Configured {
    server: Server,
    directory: TempDir,
}

impl Configured {
    /// Starts it with `text`, below the line that names the control socket, and waits for its listeners.
    fn start(text: &str, listeners: usize) -> Configured {
        let directory = tempfile::tempdir().unwrap();
        write(&directory, text);
        let mut command = resay(["serve", "--config"]);
        command.arg(file(&directory));
        Configured { server: Server::of(command, listeners, None), directory }
    }

    fn ctl(&self, arguments: &[&str]) -> Output {
        let socket = self.directory.path().join("ctl");
        run(["ctl", socket.to_str().unwrap()].iter().chain(arguments), b"")
    }

    fn ask(&self, arguments: &[&str]) -> String {
        let output = self.ctl(arguments);
        assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{arguments:?}");
        output.text()
    }

    fn reload(&self, text: &str) -> Output {
        write(&self.directory, text);
        self.ctl(&["reload"])
    }

    /// The URL of the first listener with that name.
    fn url(&self, name: &str) -> String {
        let listing = self.ask(&["listeners", "--json"]);
        let all: Value = serde_json::from_str(&listing).unwrap();
        let found = all.as_array().unwrap().iter().find(|listener| listener["name"] == name);
        found.unwrap_or_else(|| panic!("{name}: {listing}"))["url"].as_str().unwrap().to_owned()
    }

    fn diff(&self, text: &str) -> (Option<i32>, String) {
        write(&self.directory, text);
        let output = run(["serve", "--config", file(&self.directory).to_str().unwrap(), "--diff"], b"");
        assert_eq!(output.stderr, "");
        (output.code, output.text())
    }
}

fn file(directory: &TempDir) -> PathBuf {
    directory.path().join("resay.toml")
}

fn write(directory: &TempDir, text: &str) {
    let control = directory.path().join("ctl");
    fs::write(file(directory), format!("control = {:?}\n{text}", control.to_str().unwrap())).unwrap();
}

fn connect(url: &str) -> TcpStream {
    let stream = TcpStream::connect(url.strip_prefix("tcp://").unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn ask(stream: &mut TcpStream, question: &[u8]) -> Vec<u8> {
    stream.write_all(question).unwrap();
    let mut answer = vec![0; question.len()];
    stream.read_exact(&mut answer).unwrap();
    answer
}

/// What `resay serve --config FILE --check` says of a file, without its name.
fn check(text: &str) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(file(&directory), text).unwrap();
    let mut command = resay(["serve", "--config"]);
    command.arg(file(&directory)).arg("--check").env("LISTEN", "tcp://127.0.0.1:0");
    let output = finish(command, b"");
    let said = if output.code == Some(0) { output.text() } else { output.stderr };
    (output.code, said.replace(file(&directory).to_str().unwrap(), "FILE"))
}

const LISTENER: &str = "[[listener]]\nname = \"a\"\nlisten = \"tcp://127.0.0.1:0\"\n";

#[test]
fn a_fault_is_shown_with_its_line_its_column_and_what_was_meant() {
    let table: [(&str, &str); 21] = [
        ("threads = \n", "1:11: "),
        (
            "[[listener]]\nname = \"a\"\nlisten = \"tcp://:0\"\nproxy = \"v2\"\n",
            "4:1: anybody who reaches the listener could say to be anybody",
        ),
        ("threds = 2\n", "1:1: unknown key \"threds\", did you mean \"threads\"?\n  threds = 2\n  ^"),
        (
            "idle_timeout = \"1m\"\n",
            "1:1: \"idle_timeout\" is an option of listeners; the options of all listeners stand",
        ),
        ("threads = 0\n", "1:11: must be 1 to 256\n  threads = 0\n            ^"),
        ("backend = \"epol\"\n", "1:12: "),
        ("log = \"xml\"\n", "1:8: text or json is expected"),
        ("chain = \"a ||\"\n", "1:13: "),
        ("drain_timeout = \"5 s\"\n", "1:19: "),
        ("threads = 1.5\n", "1:11: a text or a number is expected, not a float"),
        ("chain = \"x:t=${RESAY_NO_SUCH}\"\n", "1:14: the variable RESAY_NO_SUCH is not set"),
        ("chain = \"${OPEN\"\n", "1:10: the variable does not end"),
        (
            "[defaults]\nbaklog = 5\n",
            "2:1: unknown option \"baklog\", did you mean \"backlog\"?\n  baklog = 5\n  ^",
        ),
        ("[defaults]\nidle_timeout = \"1x\"\n", "2:18: a duration ends in a unit"),
        ("[defaults]\nchain = \"hex\"\n", "2:1: the chain of all listeners stands above the tables"),
        ("[[listener]]\nlisten = \"tcp://127.0.0.1:0\"\n", "1:1: the listener has no name"),
        ("[[listener]]\nname = \"x\"\n", "1:1: the listener has no address"),
        (
            "[[listener]]\nname = \"a b\"\nlisten = \"tcp://127.0.0.1:0\"\n",
            "2:10: a name has 1 to 64 letters",
        ),
        (
            "[[listener]]\nname = \"x\"\nlisten = [\"udp://127.0.0.1:0\",\n  \"tcp://127.0.0.1:port\"]\n",
            "4:20: ",
        ),
        (
            "[[listener]]\nname = \"x\"\nlisten = \"udp://127.0.0.1:0\"\nnodelay = true\n",
            "4:1: nodelay means nothing for udp",
        ),
        (
            "[[listener]]\nname = \"x\"\nlisten = \"tcp://127.0.0.1:0\"\nfram = \"lines\"\n",
            "4:1: unknown key \"fram\" of a listener, did you mean \"frame\"?",
        ),
    ];
    for (text, wanted) in table {
        let whole = if text.contains("[[listener]]") { text.to_owned() } else { format!("{text}{LISTENER}") };
        let (code, said) = check(&whole);
        assert_eq!(code, Some(2), "{text}: {said}");
        let first = said.strip_prefix("resay: FILE:").unwrap_or_else(|| panic!("{text}: {said}"));
        assert!(first.starts_with(wanted), "{text}: {said}");
    }
    let (_, said) = check(&format!("threds = 1\nlgo = \"json\"\n{LISTENER}{LISTENER}"));
    for wanted in ["FILE:1:1: ", "FILE:2:1: ", "FILE:7:8: another listener has the name \"a\" already"] {
        assert!(said.contains(wanted), "{said}");
    }
    assert!(check("").1.contains("there is no [[listener]]"));
}

#[test]
fn a_good_file_is_good_and_a_transform_that_cannot_be_is_found_without_a_socket() {
    assert_eq!(check(LISTENER), (Some(0), "FILE: good\n".to_owned()));
    let variable = "chain = \"uppercase\"\n[[listener]]\nname = \"v\"\nlisten = [\"${LISTEN}\", \"udp://127.0.0.1:0\"]\n";
    assert_eq!(check(variable), (Some(0), "FILE: good\n".to_owned()));
    let (code, said) = check(&format!("{LISTENER}chain = \"uppercas\"\n"));
    assert_eq!(code, Some(6), "{said}");
    assert!(said.contains("FILE:4:10: listener \"a\": unknown transform \"uppercas\""), "{said}");
    // A port that is taken is no fault of the file.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let text = format!("[[listener]]\nname = \"t\"\nlisten = \"tcp://{}\"\n", taken.local_addr().unwrap());
    assert_eq!(check(&text).0, Some(0));
}

#[test]
fn a_file_takes_the_place_of_the_command_line() {
    let text = "chain = \"uppercase\"\nthreads = 2\n\
                [defaults]\nidle_timeout = \"1m\"\n\
                [[listener]]\nname = \"both\"\nlisten = [\"tcp://127.0.0.1:0\", \"udp://127.0.0.1:0\"]\n\
                [[listener]]\nname = \"own\"\nlisten = \"tcp://127.0.0.1:0\"\nchain = \"identity\"\nframe = \"lines\"\n";
    let configured = Configured::start(text, 3);
    let urls = &configured.server.urls;
    assert_eq!(ask(&mut connect(&urls[0]), b"Hello"), b"HELLO");
    assert_eq!(ask(&mut connect(&urls[2]), b"Hello\n"), b"Hello\n");
    let listing = configured.ask(&["listeners"]);
    let rows: Vec<Vec<&str>> = listing.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["ID", "NAME", "LISTENER", "CHAIN"]);
    assert_eq!(rows[1][1..], ["both", &urls[0], "uppercase"]);
    assert_eq!(rows[2][1..], ["both", &urls[1], "uppercase"]);
    assert_eq!(rows[3][1..], ["own", &urls[2], "identity"]);
    for other in [&["-t", "hex"][..], &["--threads", "2"], &["tcp://127.0.0.1:0"], &["--set", "frame=lines"]]
    {
        let mut command = resay(["serve", "--config"]);
        command.arg(file(&configured.directory)).args(other);
        let output = finish(command, b"");
        assert_eq!(output.code, Some(2), "{other:?}: {}", output.stderr);
        assert!(output.stderr.contains("cannot be used with"), "{}", output.stderr);
    }
    configured.server.end();
}

#[test]
fn a_difference_is_told_in_lines_and_in_the_exit_status() {
    let first = "[[listener]]\nname = \"a\"\nlisten = \"tcp://127.0.0.1:0\"\n\
                 [[listener]]\nname = \"old\"\nlisten = \"udp://127.0.0.1:0\"\n";
    let configured = Configured::start(first, 2);
    assert_eq!(configured.diff(first), (Some(0), String::new()));
    let second = "drain_timeout = \"9s\"\n\
                  [[listener]]\nname = \"a\"\nlisten = \"tcp://127.0.0.1:0\"\nidle_timeout = \"1m\"\nchain = \"hex | rot13\"\n\
                  [[listener]]\nname = \"new\"\nlisten = \"unix:@resay-config-diff\"\n";
    let wanted = "~ drain_timeout: 5s -> 9s\n\
                  - listener old udp://127.0.0.1:0\n\
                  ~ listener a tcp://127.0.0.1:0: chain none -> \"hex | rot13\"\n\
                  ~ listener a tcp://127.0.0.1:0: idle_timeout off -> 1m\n\
                  + listener new unix:@resay-config-diff\n";
    assert_eq!(configured.diff(second), (Some(1), wanted.to_owned()));
    configured.server.end();
}

/// What it says is refused is, and names the same; what it does not say so of is not.
#[test]
fn a_difference_says_what_a_reload_refuses() {
    let first = "[[listener]]\nname = \"a\"\nlisten = [\"tcp://127.0.0.1:0\", \"udp://127.0.0.1:0\"]\nallow = [\"127.0.0.0/8\"]\n";
    let configured = Configured::start(first, 2);
    let threads = format!("threads = 2\n{first}");
    let wanted = "~ threads: 1 -> 2 (a reload refuses this: it cannot change while the server runs)\n";
    assert_eq!(configured.diff(&threads), (Some(1), wanted.to_owned()));
    assert!(configured.reload(&threads).stderr.contains("threads cannot change while the server runs"));
    // Of UDP it follows when the socket is bound, of TCP it does not.
    let prefixes = first.replace("127.0.0.0/8", "10.0.0.0/8");
    let wanted = "~ listener a tcp://127.0.0.1:0: allow 127.0.0.0/8 -> 10.0.0.0/8\n\
                  ~ listener a udp://127.0.0.1:0: allow 127.0.0.0/8 -> 10.0.0.0/8 (a reload refuses this: it is settled \
                  when the socket is bound)\n";
    assert_eq!(configured.diff(&prefixes), (Some(1), wanted.to_owned()));
    assert!(configured.reload(&prefixes).stderr.contains("allow is settled when the socket is bound"));
    let tcp = prefixes.replace(", \"udp://127.0.0.1:0\"", "");
    assert_eq!(configured.reload(&tcp).code, Some(0));
    configured.server.end();
}

#[test]
fn what_was_changed_since_the_file_was_read_is_a_difference_that_a_reload_ends() {
    let text = "chain = \"hex|rot13\"\n\
                [[listener]]\nname = \"a\"\nlisten = \"tcp://127.0.0.1:0\"\n\
                [[listener]]\nname = \"b\"\nlisten = [\"tcp://127.0.0.1:0\", \"udp://127.0.0.1:0\"]\nchain = \"hex|hex\"\n";
    let configured = Configured::start(text, 3);
    assert_eq!(configured.diff(text), (Some(0), String::new()));
    let url = configured.url("b");
    for orders in [
        &["chain", "all", "uppercase"][..],
        &["chain", "a", "reverse"],
        &["chain", &url, "rot13"],
        &["set", &url, "idle_timeout", "7s"],
    ] {
        configured.ask(orders);
    }
    let wanted = "~ chain: uppercase -> hex|rot13\n\
                  ~ listener a tcp://127.0.0.1:0: chain reverse -> none\n\
                  ~ listener b tcp://127.0.0.1:0: chain rot13 -> hex|hex\n\
                  ~ listener b tcp://127.0.0.1:0: idle_timeout 7s -> off\n";
    assert_eq!(configured.diff(text), (Some(1), wanted.to_owned()));
    assert_eq!(configured.reload(text).text(), wanted);
    assert_eq!(configured.ask(&["chain", "a"]), "hex | rot13\n");
    assert_eq!(configured.ask(&["chain", &url]), "hex | hex\n");
    assert_eq!(configured.diff(text), (Some(0), String::new()));
    // What the file comes to ask for is no change, if it is so already.
    configured.ask(&["chain", "a", "reverse"]);
    let same = text.replace("name = \"a\"\n", "name = \"a\"\nchain = \"reverse\"\n");
    assert_eq!(configured.reload(&same).text(), "");
    let log = configured.server.end();
    for line in wanted.lines() {
        assert!(log.contains(&format!("reload: {line}")), "{log}");
    }
}

#[test]
fn the_example_is_good_and_what_show_prints_says_the_same_again() {
    let directory = tempfile::tempdir().unwrap();
    let example = run(["config", "example"], b"").text();
    fs::write(file(&directory), &example).unwrap();
    let path = file(&directory);
    let path = path.to_str().unwrap();
    assert_eq!(run(["config", "check", path], b"").code, Some(0));
    // All that is a comment is a key with its default: it says nothing else when it is one no longer.
    let bare = |line: &str| line.strip_prefix("# ").filter(|rest| rest.contains(" = ")).map(str::to_owned);
    let all: Vec<_> = example
        .lines()
        .map(|line| bare(line).unwrap_or_else(|| line.to_owned()))
        .filter(|line| !line.starts_with("control") && !line.starts_with("metrics"))
        .collect();
    let json = |path: &str| run(["config", "show", "--json", path], b"").text();
    let before = json(path);
    assert!(before.contains("\"listeners\""), "{before}");
    fs::write(path, all.join("\n")).unwrap();
    assert_eq!(json(path), before);
    let shown = run(["config", "show", path], b"").text();
    fs::write(path, &shown).unwrap();
    assert_eq!(run(["config", "check", path], b"").stderr, "");
    assert_eq!(run(["config", "show", path], b"").text(), shown);
}

#[test]
fn a_duration_is_shown_as_a_file_takes_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    let path = path.to_str().unwrap();
    for (drain, spin, shown) in [
        ("90s", "0.5us", ["90s", "0.500us"]),
        ("1.5h", "60us", ["90m", "60us"]),
        ("8760h", "1.0005ms", ["8760h", "1000.500us"]),
        ("0", "0s", ["0", "0"]),
    ] {
        let text = format!("drain_timeout = {drain:?}\nspin = {spin:?}\n{LISTENER}idle_timeout = \"25h\"\n");
        fs::write(path, text).unwrap();
        let before = run(["config", "show", path], b"").text();
        for (key, value) in ["drain_timeout", "spin"].into_iter().zip(shown) {
            assert!(before.contains(&format!("{key} = {value:?}\n")), "{before}");
        }
        fs::write(path, &before).unwrap();
        let again = run(["config", "show", path], b"");
        assert_eq!((again.text(), again.stderr.as_str()), (before, ""));
    }
}

#[test]
fn each_address_of_a_listener_is_shown_with_a_name_that_a_file_takes() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    let path = path.to_str().unwrap();
    let long = "l".repeat(64);
    let text: String = ["a", "a.2", &long].iter().enumerate().fold(String::new(), |text, (place, name)| {
        let urls: Vec<_> = (0..3).map(|n| format!("\"tcp://127.0.0.{}:8888\"", 1 + 3 * place + n)).collect();
        text + &format!("[[listener]]\nname = {name:?}\nlisten = [{}]\n", urls.join(", "))
    });
    fs::write(path, text).unwrap();
    let shown = run(["config", "show", path], b"").text();
    let names: Vec<_> = shown.lines().filter_map(|line| line.strip_prefix("name = ")).collect();
    let cut = &long[..62];
    let ends = [format!("\"{long}\""), format!("\"{cut}.2\""), format!("\"{cut}.3\"")];
    assert_eq!(names[..6], ["\"a\"", "\"a.3\"", "\"a.4\"", "\"a.2\"", "\"a.2.2\"", "\"a.2.3\""]);
    assert_eq!(names[6..], ends);
    fs::write(path, &shown).unwrap();
    let again = run(["config", "show", path], b"");
    assert_eq!((again.text(), again.stderr.as_str()), (shown, ""));
}

#[test]
fn the_schema_knows_every_option() {
    let schema: Value = serde_json::from_str(&run(["config", "schema"], b"").text()).unwrap();
    let listener = &schema["properties"]["listener"]["items"]["properties"];
    for key in resay::options::KEYS {
        assert_eq!(
            listener[key.name]["description"].as_str().unwrap().find(key.help),
            Some(0),
            "{}",
            key.name
        );
    }
    for key in resay::options::ENGINE_KEYS {
        assert!(
            schema["properties"][key.name]["type"].is_string()
                || schema["properties"][key.name]["type"].is_array()
        );
    }
    assert_eq!(listener["max_connections"]["minimum"], 1);
    assert_eq!(schema["properties"]["listener"]["items"]["required"], serde_json::json!(["name", "listen"]));
}

fn listener(name: &str, url: &str, others: &str) -> String {
    format!("[[listener]]\nname = {name:?}\nlisten = {url:?}\n{others}\n")
}

/// Whether the server has ended a connection.
fn is_ended(stream: &mut TcpStream) -> bool {
    stream.read(&mut [0]).unwrap() == 0
}

#[test]
fn a_reload_changes_what_the_file_says_and_leaves_the_rest_alone() {
    const ANY: &str = "tcp://127.0.0.1:0";
    let first = ["same", "chain", "gone", "options"].map(|name| listener(name, ANY, ""));
    let configured = Configured::start(&first.concat(), 4);
    let urls = configured.server.urls.clone();
    let mut connections: Vec<TcpStream> = urls.iter().map(|url| connect(url)).collect();
    for connection in &mut connections {
        assert_eq!(ask(connection, b"Hello"), b"Hello");
    }
    let second = [
        listener("same", ANY, ""),
        listener("chain", ANY, "chain = \"uppercase\""),
        listener("options", ANY, "frame = \"lines\"\nmax_connections = 2\nnodelay = false"),
        listener("new", ANY, ""),
    ];
    let output = configured.reload(&second.concat());
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""));
    let wanted = "- listener gone tcp://127.0.0.1:0\n\
                  ~ listener chain tcp://127.0.0.1:0: chain none -> uppercase\n\
                  ~ listener options tcp://127.0.0.1:0: frame raw -> lines\n\
                  ~ listener options tcp://127.0.0.1:0: max_connections 65536 -> 2\n\
                  ~ listener options tcp://127.0.0.1:0: nodelay 1 -> 0\n\
                  + listener new tcp://127.0.0.1:0\n";
    assert_eq!(output.text(), wanted);
    // What is left has its port, and all have their connections.
    for (name, url) in [("same", &urls[0]), ("chain", &urls[1]), ("options", &urls[3])] {
        assert_eq!(configured.url(name), *url);
    }
    let answers: Vec<_> = connections.iter_mut().map(|connection| ask(connection, b"Hello")).collect();
    assert_eq!(answers, [b"Hello", b"HELLO", b"Hello", b"Hello"]);
    let gone = TcpStream::connect(urls[2].strip_prefix("tcp://").unwrap());
    assert_eq!(gone.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(ask(&mut connect(&configured.url("new")), b"Hello"), b"Hello");
    // Whoever comes now has the new frame and the new limit; whoever was there counts.
    let mut framed = connect(&urls[3]);
    framed.write_all(b"Hel").unwrap();
    assert_eq!(ask(&mut framed, b"lo\n")[..], b"Hello\n"[..3]);
    assert!(is_ended(&mut connect(&urls[3])));
    // Nothing has changed since.
    let output = configured.reload(&second.concat());
    assert_eq!((output.code, output.text().as_str()), (Some(0), ""));
    configured.server.end();
}

#[test]
fn a_listener_may_get_another_name_and_keep_its_socket() {
    let socket = "unix:@resay-config-renamed";
    let configured = Configured::start(&listener("before", socket, ""), 1);
    let output = configured.reload(&listener("after", socket, ""));
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""));
    assert_eq!(output.text(), format!("~ listener before {socket}: name after\n"));
    assert_eq!(configured.url("after"), socket);
    configured.server.end();
}

#[test]
fn a_reload_that_fails_changes_nothing_and_the_log_says_why() {
    const ANY: &str = "tcp://127.0.0.1:0";
    let first = listener("a", ANY, "");
    let configured = Configured::start(&first, 1);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("tcp://{}", taken.local_addr().unwrap());
    let changed = listener("a", ANY, "chain = \"uppercase\"\nframe = \"lines\"");
    let mut connection = connect(configured.server.url());
    let before = configured.ask(&["listeners"]);
    let table = [
        ("threds = 1\n".to_owned() + &changed, 2, "did you mean \"threads\"?"),
        ("threads = 2\n".to_owned() + &changed, 2, "threads cannot change while the server runs"),
        (changed.clone() + &listener("b", ANY, "chain = \"uppercas\""), 6, "unknown transform \"uppercas\""),
        (changed.clone() + &listener("b", &taken, ""), 3, "in use"),
        ("chain = \"uppercas\"\n".to_owned() + &changed, 6, "unknown transform"),
        (
            listener("a", ANY, "chain = \"uppercase\"\nbacklog = 9"),
            2,
            "backlog is settled when the socket is bound",
        ),
        (
            changed.clone() + &listener("b", ANY, "frame = \"fixed:9\"\nmax_message = 8"),
            2,
            "is over max_message",
        ),
    ];
    for (text, code, wanted) in table {
        let output = configured.reload(&text);
        assert_eq!(output.code, Some(code), "{text}: {}", output.stderr);
        assert!(output.stderr.contains(wanted), "{text}: {}", output.stderr);
        assert_eq!(configured.ask(&["listeners"]), before, "{text}");
        assert_eq!(ask(&mut connection, b"Hello"), b"Hello", "{text}");
        assert_eq!(ask(&mut connect(configured.server.url()), b"Hello"), b"Hello", "{text}");
    }
    // A server without a file has nothing to read.
    configured.server.process.signal(Signal::HUP);
    configured.server.stderr.wait_for("SIGHUP: not reloaded, nothing has changed: ");
    write(&configured.directory, &changed);
    configured.server.process.signal(Signal::HUP);
    configured.server.stderr.wait_for("SIGHUP: reloaded in ");
    assert_eq!(ask(&mut connect(configured.server.url()), b"Hello\n"), b"HELLO\n");
    let text = configured.server.end();
    assert!(text.contains("control socket: not reloaded, nothing has changed: "), "{text}");
    assert!(text.contains("reload: ~ listener a tcp://127.0.0.1:0: frame raw -> lines"), "{text}");
}

/// What a process has of something in /proc/PID/status, and its open descriptors.
fn resources(process: u32) -> (u64, usize) {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kib = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    (kib, fs::read_dir(format!("/proc/{process}/fd")).unwrap().count())
}

/// A client: its answer to a question.
type Ask = Box<dyn FnMut(&[u8]) -> Vec<u8> + Send>;

/// Reloads under load: every question is answered, on connections that stay, on new ones, and over UDP.
fn reload_under_load(count: usize) {
    const ANY: &str = "tcp://127.0.0.1:0";
    let both = |number: usize| {
        let odd = number % 2 == 1;
        let others = if odd { "idle_timeout = \"1h\"\nchain = \"identity\"" } else { "max_per_peer = 50" };
        let udp = if odd { "max_amplification = 3" } else { "" };
        let third = if odd { listener("third", "tcp://127.0.0.1:0", "") } else { String::new() };
        let top = if odd { "chain = \"identity | identity\"\n" } else { "" };
        format!(
            "threads = 2\n{top}{}{}{third}",
            listener("tcp", ANY, others),
            listener("udp", "udp://127.0.0.1:0", udp),
        )
    };
    let configured = Configured::start(&both(0), 2);
    let (tcp, udp) = (configured.server.urls[0].clone(), configured.server.urls[1].clone());
    let process = configured.server.process.0.id();
    let (is_over, answers) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let asked = |name: &'static str, mut ask: Ask| {
            let (is_over, answers) = (&is_over, &answers);
            scope.spawn(move || {
                for number in 0_u64.. {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    let question = format!("{name} {number}\n");
                    assert_eq!(ask(question.as_bytes()), question.as_bytes());
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            });
        };
        let mut stays = connect(&tcp);
        asked("stays", Box::new(move |question| ask(&mut stays, question)));
        let url = tcp.clone();
        asked("comes", Box::new(move |question| ask(&mut connect(&url), question)));
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(udp.strip_prefix("udp://").unwrap()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        asked(
            "datagram",
            Box::new(move |question| {
                socket.send(question).unwrap();
                let mut answer = [0; 64];
                let length = socket.recv(&mut answer).unwrap();
                answer[..length].to_vec()
            }),
        );
        let path = configured.directory.path().join("ctl");
        let reload = |number: usize| {
            write(&configured.directory, &both(number));
            let answer = crate::ctl::say(&path, b"reload\n");
            assert!(answer.starts_with("ok\n{\"changes\":[\"~ chain: "), "{number}: {answer}");
        };
        let warm = count / 4 * 2;
        (1..=warm).for_each(reload);
        let before = resources(process);
        (warm + 1..=count).for_each(reload);
        let after = resources(process);
        is_over.store(true, Ordering::Relaxed);
        assert!(after.0 <= before.0 + 2048, "KiB and descriptors: {before:?}, then {after:?}");
        // One that comes and goes may be there or not.
        assert!(after.1 <= before.1 + 3, "KiB and descriptors: {before:?}, then {after:?}");
    });
    assert!(answers.load(Ordering::Relaxed) > 0);
    assert_eq!(configured.url("tcp"), tcp);
    configured.server.end();
}

/// `RESAY_RELOADS=10000` is the long form.
#[test]
fn no_answer_is_lost_and_nothing_grows_over_some_hundred_reloads_under_load() {
    let count = std::env::var("RESAY_RELOADS").map_or(300, |count| count.parse().unwrap());
    reload_under_load(count);
}

#[test]
fn any_number_of_signals_is_followed_by_a_reload_of_the_last_file() {
    let configured = Configured::start(&listener("a", "tcp://127.0.0.1:0", ""), 1);
    for number in 1..=50 {
        let chain = format!("chain = \"template:text='{number}'\"");
        write(
            &configured.directory,
            &listener("a", "tcp://127.0.0.1:0", &format!("{chain}\nframe = \"lines\"")),
        );
        configured.server.process.signal(Signal::HUP);
    }
    // How many reloads that took, and what each has changed, is not certain.
    wait_until("the last file holds", || {
        let listing = configured.ask(&["listeners"]);
        listing.contains("text=50").then_some(())
    });
    configured.server.end();
}

/// The same socket under another spelling of its address: whoever comes meanwhile is served, and so is who is there.
#[test]
fn a_reload_finds_a_socket_by_another_spelling_of_its_address() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    std::os::unix::fs::symlink(directory.path(), path("link")).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let udp_port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listeners = |host: &str, file: &str| {
        let urls = [
            format!("tcp://{host}:{port}"),
            format!("udp://{host}:{udp_port}?guard=off"),
            format!("unix:{file}"),
        ];
        let urls = urls.map(|url| format!("{url:?}")).join(", ");
        format!("chain = \"uppercase\"\n[[listener]]\nname = \"a\"\nlisten = [{urls}]\n")
    };
    let spellings = [listeners("localhost", &path("s")), listeners("127.0.0.1", &path("link/s"))];
    let configured = Configured::start(&spellings[0], 3);
    let address = format!("tcp://127.0.0.1:{port}");
    let mut kept = connect(&address);
    assert_eq!(ask(&mut kept, b"one"), b"ONE");
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.connect(("127.0.0.1", udp_port)).unwrap();
    udp.set_read_timeout(Some(PATIENCE)).unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let storm = thread::spawn({
        let is_over = Arc::clone(&is_over);
        move || {
            let mut count = 0;
            while !is_over.load(Ordering::Relaxed) {
                assert_eq!(ask(&mut connect(&address), b"more"), b"MORE");
                udp.send(b"datagram").unwrap();
                let mut answer = [0; 16];
                let len = udp.recv(&mut answer).expect("each datagram is answered");
                assert_eq!(&answer[..len], b"DATAGRAM");
                count += 1;
            }
            count
        }
    });
    for number in 1..=10 {
        let output = configured.reload(&spellings[number % 2]);
        assert_eq!((output.code, output.text().lines().count()), (Some(0), 6), "{number}: {output:?}");
        assert_eq!(ask(&mut kept, b"still"), b"STILL", "{number}");
        let unix = format!("unix:{}", path("s"));
        assert_eq!(run(["send", &unix, "x"], b"").text(), "X", "{number}");
    }
    is_over.store(true, Ordering::Relaxed);
    assert!(storm.join().expect("nobody is turned away") > 0);
    // Its file goes with it.
    assert_eq!(
        configured.reload("[[listener]]\nname = \"b\"\nlisten = \"tcp://127.0.0.1:0\"\n").code,
        Some(0)
    );
    assert!(!directory.path().join("s").exists());
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    configured.server.end();
}
