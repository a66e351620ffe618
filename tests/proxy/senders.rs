//! What others send: HAProxy, nginx and curl. Each is skipped by name where it is not installed.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::common::*;
use crate::who;

/// A program that serves until this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn has(program: &str) -> bool {
    let found = Command::new(program).arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_err() {
        skipped(&format!("{program} as a proxy: it is not installed"));
    }
    found.is_ok()
}

/// A port that nobody has now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Starts a proxy. Where somebody else takes the port first, it ends, and another port is tried.
fn start(program: &str, arguments: &[&str], file: &Path, text: impl Fn(u16) -> String) -> (Running, u16) {
    eventually("the proxy serves", || {
        let port = free_port();
        fs::write(file, text(port)).unwrap();
        let mut command = Command::new(program);
        command.args(arguments).arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut running = Running(command.spawn().unwrap());
        eventually("it listens or ends", || match running.0.try_wait().unwrap() {
            Some(status) => Ok(Err(format!("{status}"))),
            None => match std::net::TcpStream::connect(("127.0.0.1", port)) {
                Ok(_) => Ok(Ok(())),
                Err(error) => Err(error.to_string()),
            },
        })
        .map(|()| (running, port))
    })
}

/// What a client hears through a proxy at `port` of a server with whoami.
#[track_caller]
fn ask(port: u16) -> (String, Peer) {
    let client = Peer::connect(&format!("tcp://127.0.0.1:{port}"));
    let answer = who(&client);
    let own = client.socket.local_addr().unwrap().as_socket().unwrap();
    assert!(answer.starts_with(&format!(r#"{{"peer":"tcp://{own}","#)), "{answer}");
    (answer, client)
}

fn is_skipped() -> bool {
    let is_on = layer::is_on();
    if is_on {
        skipped("other programs as proxies: they do not speak the layer");
    }
    is_on
}

#[test]
fn haproxy() {
    isolated(|| {
        if is_skipped() || !has("haproxy") {
            return;
        }
        let directory = directory();
        let socket = directory.path().join("s");
        let path = text(&socket);
        for (versions, options, expected) in [
            ("v1", "send-proxy", r#""proxy":{"version":"1","command":"proxy","protocol":"tcp4","#),
            ("v2", "send-proxy-v2", r#""proxy":{"version":"2","command":"proxy","protocol":"tcp4","#),
            (
                "any",
                "send-proxy-v2 proxy-v2-options crc32c,unique-id",
                r#""crc32c":"ok","unique_id":"id-127.0.0.1"}"#,
            ),
        ] {
            for url in ["tcp://127.0.0.1:0", &format!("unix:{path}")] {
                let (engine, url) = serve(&format!("{url}?proxy={versions}"), "whoami");
                let server = match url.strip_prefix("tcp://") {
                    Some(address) => address.to_owned(),
                    None => format!("unix@{path}"),
                };
                // Its checks begin at once, with a header that says LOCAL.
                let configuration = |port| {
                    format!(
                        "defaults\n mode tcp\n timeout connect 60s\n timeout client 60s\n timeout server 60s\n\
                         listen echo\n bind 127.0.0.1:{port}\n unique-id-format id-%ci\n \
                         server resay {server} check inter 50 {options}\n"
                    )
                };
                let (running, port) =
                    start("haproxy", &["-db", "-f"], &directory.path().join("cfg"), configuration);
                let (answer, client) = ask(port);
                assert!(answer.contains(expected), "{options}: {answer}");
                // It has no name on a unix socket.
                let via = answer.contains(r#""via":"tcp://127.0.0.1:"#);
                assert_eq!(via, url.starts_with("tcp"), "{answer}");
                let checked = |stats: &resay::Stats| stats.accepted >= 4;
                eventually_stats(&engine, "it looks whether the server is there", checked);
                assert_eq!(engine.stats().closed_by(resay::CloseReason::PrefaceRefused), 0);
                drop((client, running));
                finish(engine);
            }
        }
    });
}

#[test]
fn nginx() {
    isolated(|| {
        if is_skipped() || !has("nginx") {
            return;
        }
        let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
        if !Path::new(module).exists() {
            return skipped("nginx as a proxy: libnginx-mod-stream is not installed");
        }
        let (engine, url) = serve("tcp://127.0.0.1:0?proxy=v1", "whoami");
        let directory = directory();
        let here = text(directory.path());
        let configuration = |port| {
            format!(
                "load_module {module};\ndaemon off;\nmaster_process off;\npid {here}/pid;\n\
                 error_log {here}/log;\nevents {{}}\nstream {{ server {{ listen 127.0.0.1:{port}; \
                 proxy_pass {}; proxy_protocol on; }} }}\n",
                url.trim_start_matches("tcp://")
            )
        };
        let file = directory.path().join("cfg");
        let prefix = ["-p", here, "-c"];
        let (running, port) = start("nginx", &prefix, &file, configuration);
        let (answer, client) = ask(port);
        assert!(answer.contains(&format!(r#""destination":"127.0.0.1:{port}""#)), "{answer}");
        drop((client, running));
        finish(engine);
    });
}

#[test]
fn curl() {
    isolated(|| {
        if is_skipped() || !has("curl") {
            return;
        }
        let (engine, url) = serve("tcp://127.0.0.1:0?proxy=v1", "uppercase | close");
        let address = url.trim_start_matches("tcp://");
        let output = Command::new("curl")
            .args(["-s", "--http0.9", "--haproxy-protocol", "--max-time", "60", "-o", "-"])
            .arg(format!("http://{address}/hello"))
            .output()
            .unwrap();
        let answer = String::from_utf8_lossy(&output.stdout);
        assert!(answer.starts_with("GET /HELLO HTTP/1.1\r\n"), "{answer:?}");
        finish(engine);
    });
}
