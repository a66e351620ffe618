//! `serve --sandbox`: it serves as before, and transforms reach nothing else.

use std::io::{Read, Write};
use std::path::Path;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::crash::compiled;
use crate::process::{Server, resay, run};

/// Tries what the message asks for, and answers the errno: a file to read or write, a program, a process, a connection.
const TRIES: &str = r#"
#define _GNU_SOURCE
#include <resay_plugin.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
static void *nothing(void *data) { return data; }
static int try(char what)
{
  static char *const arguments[] = {"/bin/true", NULL};
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = 7, .sin_addr = {0x0100007f}};
  pthread_t thread;
  errno = 0;
  switch (what) {
  case 'r': return open("/etc/passwd", O_RDONLY) < 0 ? errno : 0;
  case 'w': return open("HERE/written", O_WRONLY | O_CREAT, 0600) < 0 ? errno : 0;
  case 'x': execve(arguments[0], arguments, NULL); return errno;
  case 'f': return syscall(SYS_fork) < 0 ? errno : 0;
  case 'c': return connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&address, sizeof address) < 0 ? errno : 0;
  case 'n': return socket(AF_NETLINK, SOCK_RAW, 0) < 0 ? errno : 0;
  case 'p': return ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0 ? errno : 0;
  case 'k': return syscall(SYS_tgkill, getppid(), getppid(), 0) < 0 ? errno : 0;
  case 't': return pthread_create(&thread, NULL, nothing, NULL) != 0 || pthread_join(thread, NULL) != 0 ? 99 : 0;
  case 'i': return syscall(SYS_io_uring_setup, 1, NULL) < 0 ? errno : 0;
  default: return 98;
  }
}
static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  char text[3];
  (void)instance, (void)session;
  if (len < 2) return RESAY_OK;
  snprintf(text, sizeof text, "%02d", try((char)data[0]));
  memcpy(data, text, 2);
  return RESAY_OK;
}
static const resay_transform tries = {.struct_size = sizeof tries, .id = "tries", .map = map};
static const resay_transform patient = {.struct_size = sizeof patient, .id = "patient", .needs = RESAY_NEED_OFFLOAD, .map = map};
RESAY_PLUGIN(&tries, &patient);
"#;

/// A server in a sandbox, with a listener of each kind; `None`: the system has no sandbox or no compiler.
fn serve(directory: &TempDir, others: &[&str]) -> Option<Server> {
    let path = |name: &str| directory.path().join(name).display().to_string();
    let urls = [
        "tcp://127.0.0.1:0".to_owned(),
        "udp://127.0.0.1:0".to_owned(),
        format!("unix:{}", path("s")),
        format!("unix-dgram:{}", path("d")),
        format!("unix-seqpacket:{}", path("q")),
    ];
    let mut command = resay(["serve", "--sandbox"]);
    command.args(&urls).args(others);
    has_landlock().then(|| Server::of(command, urls.len(), None))
}

fn has_landlock() -> bool {
    let output = run(["serve", "--sandbox", "fd:99"], b"");
    let has_it = !output.stderr.contains("no Landlock");
    if !has_it {
        eprintln!("skipped: this kernel has no Landlock");
    }
    has_it
}

fn plugin(directory: &Path) -> Option<String> {
    let here = directory.display().to_string();
    Some(compiled(directory, "tries", &TRIES.replace("HERE", &here))?.to_str().unwrap().to_owned())
}

#[test]
fn transforms_reach_nothing_and_everybody_is_served() {
    for backend in ["epoll", "uring", "auto"] {
        for chain in ["tries", "patient"] {
            let directory = tempfile::tempdir().unwrap();
            let Some(plugin) = plugin(directory.path()) else { return };
            let chain = format!("{plugin}#{chain}");
            if backend == "uring" && !resay::has_feature("uring") {
                eprintln!("skipped: io_uring is not usable here");
                continue;
            }
            let arguments = ["-t", &chain, "--backend", backend, "--threads", "2"];
            let Some(server) = serve(&directory, &arguments) else { return };
            server.stderr.wait_for("sandbox: entered");
            let refused = [libc_eacces(), 1];
            for url in &server.urls {
                for tried in ["r-", "w-", "x-", "f-", "c-", "n-", "p-", "k-", "i-"] {
                    let answer = run(["send", url, tried, "--timeout", "60s"], b"");
                    let errno = answer.text().trim().parse::<i32>().ok();
                    assert!(
                        errno.is_some_and(|errno| refused.contains(&errno)),
                        "{backend} {url} {tried}: {answer:?}"
                    );
                }
                assert_eq!(
                    run(["send", url, "t-", "--timeout", "60s"], b"").text(),
                    "00",
                    "threads can be had"
                );
            }
            assert!(!directory.path().join("written").exists());
            server.end();
            // Files of sockets go as ever.
            let left = std::fs::read_dir(directory.path()).unwrap();
            assert_eq!(left.count(), 1, "the plugin");
        }
    }
}

fn libc_eacces() -> i32 {
    rustix::io::Errno::ACCESS.raw_os_error()
}

/// Many at once, on both drivers, and all of the operator's orders.
#[test]
fn a_server_in_a_sandbox_takes_load_and_orders() {
    if !has_landlock() {
        return;
    }
    for backend in ["epoll", "auto"] {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        let (file, control) = (path("resay.toml"), path("ctl"));
        let metrics = path("metrics");
        let base = format!(
            "backend = {backend:?}\ncontrol = {control:?}\nmetrics = \"unix:{metrics}\"\nsandbox = true\nthreads = 2\n"
        );
        let first = "[[listener]]\nname = \"a\"\nlisten = [\"tcp://127.0.0.1:0\", \"udp://127.0.0.1:0\"]\n";
        std::fs::write(&file, format!("{base}chain = \"uppercase\"\n{first}")).unwrap();
        let mut command = resay(["serve", "--config"]);
        command.arg(&file);
        let server = Server::of(command, 2, None);
        for url in &server.urls {
            let output = run(["bench", url, "-c", "20", "-d", "300ms", "--expect", "uppercase"], b"");
            assert_eq!(output.code, Some(0), "{backend} {url}: {output:?}");
        }
        // Metrics know the process as outside of a sandbox.
        let mut scraped = std::os::unix::net::UnixStream::connect(&metrics).unwrap();
        scraped.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        scraped.read_to_string(&mut text).unwrap();
        for name in [
            "process_cpu_seconds_total",
            "process_resident_memory_bytes",
            "process_threads",
            "process_open_fds",
        ] {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
            assert!(value.is_some_and(|value| value > 0.0), "{name}: {text}");
        }
        for part in
            ["process_max_fds ", "resay_worker_busy_seconds_total{worker=", "resay_kernel_dropped_total{"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        let ctl = |arguments: &[&str]| run([&["ctl", &control], arguments].concat(), b"");
        for arguments in [&["stats"][..], &["connections"], &["chain", "0", "delay:time=1ms | reverse"]] {
            assert_eq!(ctl(arguments).code, Some(0), "{arguments:?}");
        }
        // Another listener, of each kind: the file is read again, sockets are bound.
        let second =
            format!("[[listener]]\nname = \"b\"\nlisten = [\"tcp://127.0.0.1:0\", \"unix:{}\"]\n", path("s"));
        std::fs::write(&file, format!("{base}chain = \"reverse\"\n{first}{second}")).unwrap();
        let output = ctl(&["reload"]);
        assert_eq!(output.code, Some(0), "{output:?}");
        assert_eq!(run(["send", &format!("unix:{}", path("s")), "abc"], b"").text(), "cba");
        // What it cannot reach any more is an error that says why, and nothing has changed.
        let elsewhere = tempfile::tempdir().unwrap();
        if let Some(plugin) = plugin(elsewhere.path()) {
            let output = ctl(&["chain", "0", &plugin]);
            assert_ne!(output.code, Some(0), "{output:?}");
            assert!(output.stderr.contains("sandbox"), "{output:?}");
        }
        assert_eq!(run(["send", server.url(), "abc"], b"").text(), "cba");
        server.process.signal(Signal::HUP);
        server.stderr.wait_for("SIGHUP: reloaded");
        server.end();
        assert!(!Path::new(&path("s")).exists() && !Path::new(&control).exists());
    }
}

/// Plugins of the plugin directories can still be loaded, and a crash is still named.
#[test]
fn what_it_knows_is_loaded_later() {
    let directory = tempfile::tempdir().unwrap();
    let Some(_) = plugin(directory.path()) else { return };
    let plugins = directory.path().to_str().unwrap();
    let control = directory.path().join("ctl").display().to_string();
    let Some(server) = serve(&directory, &["--plugin-dir", plugins, "--control", &control]) else { return };
    let output = run(["ctl", &control, "chain", "0", "tries"], b"");
    assert_eq!(output.code, Some(0), "{output:?}");
    assert_eq!(run(["send", server.url(), "r-"], b"").text(), libc_eacces().to_string());
    server.end();
}

/// What the tests try is possible outside.
#[test]
fn outside_a_sandbox_all_of_it_works() {
    let directory = tempfile::tempdir().unwrap();
    let Some(plugin) = plugin(directory.path()) else { return };
    let server = Server::start(&["tcp://127.0.0.1:0"], &["-t", &format!("{plugin}#tries")]);
    for tried in ["r-", "w-", "t-"] {
        assert_eq!(run(["send", server.url(), tried], b"").text(), "00", "{tried}");
    }
    assert!(directory.path().join("written").exists());
    server.end();
}

/// Each in a directory of its own, where one server after the other has them, and nothing is left at the end.
#[test]
fn files_of_sockets_come_and_go_wherever_they_are() {
    if !has_landlock() {
        return;
    }
    let directories: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
    let paths: Vec<_> =
        directories.iter().map(|directory| directory.path().join("s").display().to_string()).collect();
    let (url, metrics) = (format!("unix:{}", paths[0]), format!("unix:{}", paths[3]));
    let start = |others: &[&str]| {
        let mut command = resay(["serve", "--sandbox", &url, "--control", &paths[1]]);
        command.args(["--control-read", &paths[2], "--metrics", &metrics]).args(others);
        Server::of(command, 1, None)
    };
    let mut old = start(&[]);
    let new = start(&["--takeover", &paths[1]]);
    assert_eq!(old.process.wait().code(), Some(0), "{}", old.stderr.text());
    assert!(!new.stderr.text().contains("serving without"), "{}", new.stderr.text());
    assert_eq!(run(["ctl", &paths[2], "health"], b"").code, Some(0));
    assert!(std::os::unix::net::UnixStream::connect(&paths[3]).is_ok());
    new.end();
    for path in &paths {
        assert!(!Path::new(path).exists(), "{path}");
    }
}
