//! Where a server may find itself: little memory, few descriptors, no rights, a file system that takes nothing, and nobody
//! who hears what it says.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::process::{PATIENCE, Process, Server, Written, finish, resay, wait_until};

/// The command, after a line for sh(1), such as one that sets a limit.
fn after(line: &str, arguments: &[&str]) -> Command {
    let command = resay(arguments);
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &format!("{line} exec \"$0\" \"$@\"")])
        .arg(command.get_program())
        .args(command.get_args());
    shell.env_remove("RESAY_PLUGIN_PATH").env_remove("XDG_STATE_HOME").env_remove("HOME");
    shell
}

/// The same with mounts of its own; `None`: that is not allowed here.
fn with_mounts(line: &str, arguments: &[&str]) -> Option<Command> {
    let is_allowed = Command::new("unshare").args(["-m", "true"]).stderr(Stdio::null()).status();
    if !is_allowed.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: mounts of its own: unshare(1) is not there or not allowed");
        return None;
    }
    let inner = after(line, arguments);
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private"]).arg(inner.get_program()).args(inner.get_args());
    command.env_remove("RESAY_PLUGIN_PATH").env_remove("XDG_STATE_HOME").env_remove("HOME");
    Some(command)
}

fn ask(mut stream: impl Read + Write, question: &[u8]) -> Vec<u8> {
    stream.write_all(question).unwrap();
    let mut answer = vec![0; question.len()];
    stream.read_exact(&mut answer).unwrap();
    answer
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Those whom it has descriptors for are served, and the others as soon as it has.
#[test]
fn sixteen_descriptors_serve_whom_they_can() {
    let server = Server::of(after("ulimit -n 16;", &["serve", "tcp://127.0.0.1:0"]), 1, None);
    let clients: Vec<_> = (0..20).map(|_| connect(&server)).collect();
    assert_eq!(ask(&clients[0], b"first"), b"first");
    server.stderr.wait_for("Too many open files");
    assert_eq!(ask(&clients[0], b"still"), b"still");
    // They leave one by one, and make room for the next.
    clients.into_iter().for_each(|client| assert_eq!(ask(client, b"and I?"), b"and I?"));
    server.end();
}

/// Where descriptors do not even suffice to begin, it says so.
#[test]
fn too_few_descriptors_to_begin_are_an_error() {
    // The loader takes one more than the standard streams.
    for limit in 4..9 {
        let output = finish(
            after(&format!("ulimit -n {limit};"), &["serve", "tcp://127.0.0.1:0", "tcp://127.0.0.1:0"]),
            b"",
        );
        assert!(output.code.is_some_and(|code| code != 0), "{limit}: {output:?}");
        assert!(
            output.stderr.contains("open files") || output.stderr.contains("descriptors"),
            "{limit}: {output:?}"
        );
    }
}

/// 64 MiB of addresses are enough, with each driver, for every kind of socket.
#[test]
fn an_address_space_of_64_mib_is_enough() {
    for backend in ["auto", "epoll"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("e.sock");
        let unix = format!("unix:{}", path.display());
        let arguments =
            ["serve", "tcp://127.0.0.1:0", &unix, "udp://127.0.0.1:0", "--backend", backend, "-v"];
        let server = Server::of(after("ulimit -v 65536;", &arguments), 3, None);
        let much = vec![b'm'; 1 << 20];
        for _ in 0..8 {
            let client = connect(&server);
            std::thread::scope(|scope| {
                scope.spawn(|| (&client).write_all(&much).unwrap());
                let mut answer = vec![0; much.len()];
                (&client).read_exact(&mut answer).unwrap();
                assert!(answer == much);
            });
        }
        assert_eq!(ask(UnixStream::connect(&path).unwrap(), b"hello"), b"hello");
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        datagrams.connect(server.urls[2].split_once("://").unwrap().1).unwrap();
        datagrams.set_read_timeout(Some(PATIENCE)).unwrap();
        datagrams.send(b"hello").unwrap();
        assert_eq!(datagrams.recv(&mut [0; 16]).unwrap(), 5);
        server.end();
    }
}

/// A copy of the command that everybody may run.
fn for_everybody(directory: &Path) -> PathBuf {
    let copy = directory.join("resay");
    fs::copy(env!("CARGO_BIN_EXE_resay"), &copy).unwrap();
    for path in [directory, &copy] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    copy
}

/// A user without any rights serves everything that needs none; what needs some is an error that says so.
#[test]
fn a_user_without_rights() {
    const NOBODY: u32 = 65534;
    if !is_root() {
        return eprintln!("SKIPPED: another user: these tests run as a user without rights all the time");
    }
    let directory = tempfile::tempdir().unwrap();
    let program = for_everybody(directory.path());
    let own = directory.path().join("own");
    fs::create_dir(&own).unwrap();
    chown(&own, Some(NOBODY), Some(NOBODY)).unwrap();
    let command = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(arguments).uid(NOBODY).gid(NOBODY).env_clear().current_dir("/");
        command
    };
    let file = |name: &str| own.join(name).display().to_string();
    let urls = ["stream", "records", "datagrams"].map(file).into_iter().zip([
        "unix",
        "unix-seqpacket",
        "unix-dgram",
    ]);
    let urls: Vec<_> = urls.map(|(path, scheme)| format!("{scheme}:{path}")).collect();
    let control = file("control");
    let mut arguments = vec!["serve", "tcp://127.0.0.1:0", "udp://127.0.0.1:0", "--control", &control];
    arguments.extend(urls.iter().map(String::as_str));
    let server = Server::of(command(&arguments), 5, None);
    assert_eq!(ask(connect(&server), b"hello"), b"hello");
    for url in &server.urls {
        let sent = finish(command(&["send", url, "hello"]), b"");
        assert_eq!(sent.text(), "hello", "{sent:?}");
    }
    let asked = finish(command(&["ctl", &control, "stats"]), b"");
    assert_eq!(asked.code, Some(0), "{asked:?}");
    server.end();
    let not_ours = directory.path().join("e.sock").display().to_string();
    let refused = finish(command(&["serve", &format!("unix:{not_ours}")]), b"");
    assert!(refused.code != Some(0) && refused.stderr.contains("Permission denied"), "{refused:?}");
    assert!(refused.stderr.contains(&not_ours), "{refused:?}");
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or_default();
    if first.trim().parse::<u16>().is_ok_and(|first| first > 7) {
        let refused = finish(command(&["serve", "tcp://127.0.0.1:7"]), b"");
        assert!(refused.code != Some(0) && refused.stderr.contains("Permission denied"), "{refused:?}");
    }
}

/// A file system that cannot be written: sockets that are no files are served, and the others are errors that name the path.
#[test]
fn a_file_system_that_cannot_be_written() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().display().to_string();
    let path = format!("{place}/e.sock");
    let mount = format!("mount -t tmpfs -o ro none {place} && cd {place} &&");
    let Some(command) = with_mounts(&mount, &["serve", "tcp://127.0.0.1:0", "unix:@resay-read-only-test"])
    else {
        return;
    };
    let server = Server::of(command, 2, None);
    assert_eq!(ask(connect(&server), b"hello"), b"hello");
    server.end();
    for arguments in
        [vec!["serve", &format!("unix:{path}")], vec!["serve", "tcp://127.0.0.1:0", "--control", &path]]
    {
        let refused = finish(with_mounts(&mount, &arguments).unwrap(), b"");
        assert!(refused.code.is_some_and(|code| code != 0), "{arguments:?} {refused:?}");
        assert!(refused.stderr.contains("Read-only file system"), "{arguments:?} {refused:?}");
        assert!(refused.stderr.contains(&path), "{arguments:?} {refused:?}");
    }
}

/// A disk without room for another file.
#[test]
fn a_disk_without_room_for_a_socket() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().display().to_string();
    let path = format!("{place}/e.sock");
    let mount = format!("mount -t tmpfs -o nr_inodes=1 none {place} &&");
    for arguments in
        [vec!["serve", &format!("unix:{path}")], vec!["serve", "tcp://127.0.0.1:0", "--control", &path]]
    {
        let Some(command) = with_mounts(&mount, &arguments) else { return };
        let refused = finish(command, b"");
        assert!(refused.code.is_some_and(|code| code != 0), "{arguments:?} {refused:?}");
        assert!(refused.stderr.contains("No space left on device"), "{arguments:?} {refused:?}");
        assert!(refused.stderr.contains(&path), "{arguments:?} {refused:?}");
    }
}

/// A server whose log goes to a full disk serves, and ends.
#[test]
fn a_full_disk_for_the_log_stalls_nobody() {
    for format in ["text", "json"] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let command = resay(["serve", "tcp://127.0.0.1:0", "-vv", "--log", format]);
        let server = Server::of(command, 1, Some(full.into()));
        for _ in 0..200 {
            assert_eq!(ask(connect(&server), b"hello"), b"hello");
        }
        server.end();
    }
}

/// Whoever waits for its lines on a full disk does not get them: it serves, and says at its end that this was no success.
#[test]
fn a_server_whose_lines_are_lost_serves_and_fails_in_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("e.sock");
    let mut command = resay(["serve", &format!("unix:{}", path.display())]);
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    command.stdin(Stdio::null()).stdout(full).stderr(Stdio::piped());
    let mut process = Process(command.spawn().unwrap());
    let stderr = Written::follow(process.0.stderr.take().unwrap());
    stderr.wait_for("standard output: No space left on device; serving all the same");
    let client = UnixStream::connect(&path).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(ask(&client, b"hello"), b"hello");
    drop(client);
    process.signal(Signal::TERM);
    assert_eq!(process.wait().code(), Some(5), "{}", stderr.text());
}

/// Without standard streams, their numbers are nobody's: a socket among them would get what the log says, or what a peer sends
/// would be read as input.
#[test]
fn closed_standard_streams_are_no_sockets() {
    for closed in ["<&-", ">&-", "2>&-", "<&- >&-", ">&- 2>&-", "<&- >&- 2>&-"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("e.sock");
        let url = format!("unix:{}", path.display());
        let mut command = after(&format!("exec {closed};"), &["serve", &url, "tcp://127.0.0.1:0", "-vv"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Process(command.spawn().unwrap());
        let stderr = Written::follow(process.0.stderr.take().unwrap());
        let first = wait_until("it listens", || UnixStream::connect(&path).ok());
        first.set_read_timeout(Some(PATIENCE)).unwrap();
        for _ in 0..20 {
            let other = UnixStream::connect(&path).unwrap();
            other.set_read_timeout(Some(PATIENCE)).unwrap();
            assert_eq!(ask(&other, b"hello"), b"hello", "{closed}");
            assert_eq!(ask(&first, b"hello"), b"hello", "{closed}");
        }
        for number in 0..3 {
            let what = fs::read_link(format!("/proc/{}/fd/{number}", process.0.id()));
            let is_harmless = what.as_ref().is_ok_and(|what| {
                let what = what.display().to_string();
                what == "/dev/null" || (number == 2 && !closed.contains("2>") && what.starts_with("pipe:"))
            });
            assert!(is_harmless, "{closed}: {number} is {what:?}");
        }
        process.signal(Signal::TERM);
        assert_eq!(process.wait().code(), Some(0), "{closed} {}", stderr.text());
        assert!(!stderr.to_end().contains("panicked"));
    }
}
