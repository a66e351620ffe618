//! Sockets that a service manager passes, and an end that does not come.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::crash::compiled;
use crate::process::{Output, PATIENCE, Server, resay, run};

/// A server that finds `socket` under the numbers 3 and 4, with these variables; `$$` is its own number.
fn passed(variables: &str, socket: OwnedFd, arguments: &[&str]) -> Command {
    let served = resay(["serve"]);
    let mut command = Command::new("sh");
    let script = format!("exec 3<&0 4<&0; export {variables}; exec \"$@\"");
    command.args(["-c", &script, "sh"]).arg(served.get_program()).args(served.get_args()).args(arguments);
    for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "RESAY_PLUGIN_PATH"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::from(socket));
    command
}

fn listener() -> (OwnedFd, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    (listener.into(), url)
}

/// Without names each is "unknown" (sd_listen_fds_with_names(3)), and the datagram that wakes the service is answered.
#[test]
fn passed_sockets_are_found_by_their_names() {
    let one = "LISTEN_PID=$$ LISTEN_FDS=1";
    for (variables, asked) in [
        (one, "systemd:unknown"),
        (one, "systemd:"),
        ("LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=echo", "systemd:echo"),
        ("LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=other:echo", "systemd:echo"),
    ] {
        let (socket, url) = listener();
        let server = Server::launch(passed(variables, socket, &[asked]), 1, None);
        assert_eq!(server.url(), url, "{variables} {asked}");
        drop(TcpStream::connect(server.address()).unwrap());
        server.end();
    }
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.connect(("127.0.0.5", socket.local_addr().unwrap().port())).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    peer.send(b"wake up").unwrap();
    let server = Server::launch(passed(one, socket.into(), &["systemd:", "-t", "uppercase"]), 1, None);
    let mut answer = [0; 16];
    let count = peer.recv(&mut answer).unwrap();
    assert_eq!(&answer[..count], b"WAKE UP");
    server.end();
}

/// What is wrong is an error at once, however large the number.
#[test]
fn passed_sockets_that_are_not_there_are_an_error() {
    for (variables, asked, expected) in [
        ("LISTEN_FDS=1", "systemd:", "LISTEN_PID is not set"),
        ("LISTEN_PID=1 LISTEN_FDS=1", "systemd:", "LISTEN_PID=1 does not name this process"),
        (
            "LISTEN_PID=$$ LISTEN_FDS=2147483647",
            "systemd:",
            "LISTEN_FDS=2147483647 is no number of descriptors",
        ),
        ("LISTEN_PID=$$ LISTEN_FDS=2147483647", "systemd:echo", "LISTEN_FDS=2147483647"),
        ("LISTEN_PID=$$ LISTEN_FDS=1000000", "systemd:none", "is not open"),
        ("LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=a", "systemd:b", "none is called \"b\"; there are a"),
        ("LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=a", "systemd:a", "LISTEN_FDNAMES has 1 names"),
    ] {
        let (socket, _) = listener();
        let Output { code, stderr, .. } = finish_passed(passed(variables, socket, &[asked]));
        assert!(code == Some(3) && stderr.contains(expected), "{variables} {asked}: {code:?} {stderr}");
    }
}

fn finish_passed(mut command: Command) -> Output {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Output { code: output.status.code(), stdout: output.stdout, stderr }
}

/// Says whether the environment has a variable, or never anything.
const STUBBORN: &str = r#"
#include <resay_plugin.h>
#include <stdlib.h>
#include <unistd.h>
static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  (void)instance, (void)session;
  while (len > 0 && data[0] == '!') pause();
  if (len > 0) data[0] = getenv("LISTEN_FDS") == NULL ? '0' : '1';
  return RESAY_OK;
}
static const resay_transform stubborn = {.struct_size = sizeof stubborn, .id = "stubborn", .map = map};
RESAY_PLUGIN(&stubborn);
"#;

/// A program that a transform starts does not take the sockets for its own. And a worker that does not end is left, after
/// the time for it, with a status that says so.
#[test]
fn an_end_that_does_not_come_exits_4() {
    let directory = tempfile::tempdir().unwrap();
    let Some(plugin) = compiled(directory.path(), "stubborn", STUBBORN) else { return };
    let (socket, _) = listener();
    let arguments = ["systemd:", "-t", plugin.to_str().unwrap(), "--drain-timeout", "10ms"];
    let mut server = Server::launch(passed("LISTEN_PID=$$ LISTEN_FDS=1", socket, &arguments), 1, None);
    let client = resay::Client::open(server.url(), Some(PATIENCE)).unwrap();
    client.send(b"?", Some(PATIENCE)).unwrap();
    let mut answer = [0; 16];
    let count = client.recv(&mut answer, Some(PATIENCE)).unwrap();
    assert_eq!(&answer[..count], b"0", "the variable is unset");
    client.send(b"!", Some(PATIENCE)).unwrap();
    server.process.signal(Signal::TERM);
    assert_eq!(server.process.wait().code(), Some(4), "{}", server.stderr.text());
    assert!(server.stderr.to_end().contains("not all has ended in time"));
}

/// What a reload closes is gone, and the manager passes it once: the next one says so, and what else was passed is to be had.
#[test]
fn a_passed_socket_that_a_reload_has_closed_comes_back_with_a_restart_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (file, control) = (path("resay.toml"), path("ctl"));
    let write = |listeners: &[(&str, &str)]| {
        let listener =
            |(name, url): &(&str, &str)| format!("[[listener]]\nname = {name:?}\nlisten = {url:?}\n");
        let text: String = listeners.iter().map(listener).collect();
        std::fs::write(&file, format!("control = {control:?}\n{text}")).unwrap();
    };
    let reload = || run(["ctl", &control, "reload"], b"");
    let (kept, passed_url) = (format!("unix:{}", path("s")), "systemd:echo");
    write(&[("kept", &kept), ("passed", passed_url)]);
    let (socket, url) = listener();
    let variables = "LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=echo:other";
    let server = Server::launch(passed(variables, socket, &["--config", &file]), 2, None);
    assert!(server.urls.contains(&url), "{:?}", server.urls);
    write(&[("kept", &kept)]);
    let told = "- listener passed systemd:echo (only a restart of the service brings its socket back)\n";
    assert_eq!(reload().text(), told);
    // Another descriptor may have its number by now.
    for _ in 0..2 {
        write(&[("kept", &kept), ("passed", passed_url)]);
        let output = reload();
        assert_eq!(output.code, Some(3), "{output:?}");
        let why = "adopt fd:3: the listener that had this socket of the service manager was closed, and the socket with it: only a \
                   restart of the service brings it back";
        assert!(output.stderr.contains(why), "{output:?}");
        assert_eq!(run(["send", &kept, "x"], b"").text(), "x");
    }
    write(&[("kept", &kept), ("passed", "systemd:other")]);
    assert_eq!(reload().code, Some(0));
    assert_eq!(run(["send", &url, "x"], b"").text(), "x", "it is the same socket under another number");
    server.end();
}
