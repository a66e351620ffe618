//! TLS: listeners of `serve`, certificates of a configuration file, and the command as a client. Then other people's clients.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustix::process::Signal;

use crate::process::{Process, Server, Written, resay, run, wait_until};

/// An authority with its directory, where certificates are NAME.pem and their keys NAME.key.
pub(crate) struct Authority {
    directory: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority");
        let key = KeyPair::generate().unwrap();
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        let authority = Authority { directory, issuer: Issuer::new(params, key) };
        authority.issue("server", &["localhost", "127.0.0.1"]);
        authority
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }

    fn issue(&self, name: &str, names: &[&str]) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        let path = self.path(&format!("{name}.key"));
        fs::write(&path, key.serialize_pem()).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    }

    /// The options of a listener with the first certificate.
    pub(crate) fn query(&self) -> String {
        format!("cert={}&key={}", self.path("server.pem"), self.path("server.key"))
    }
}

#[test]
fn send_repl_and_bench_speak_tls() {
    let authority = Authority::new();
    let ca = authority.path("ca.pem");
    let urls = [
        format!("tls://127.0.0.1:0?{}", authority.query()),
        format!("unix+tls:{}?{}", authority.path("s"), authority.query()),
    ];
    let server = Server::start(&[&urls[0], &urls[1]], &["-t", "uppercase"]);
    for url in &server.urls {
        assert!(url.starts_with("tls://127.0.0.1:") || url.starts_with("unix+tls:/"), "{url}");
        let output = run(["send", url, "hello", "--ca", &ca, "--expect", "HELLO"], b"");
        assert_eq!((output.code, output.text().as_str()), (Some(0), "HELLO"), "{}", output.stderr);
        let much: Vec<u8> = (0..1_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
        let output = run(["send", url, "--insecure", "--timeout", "60s"], &much);
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        assert!(output.stdout == much.to_ascii_uppercase(), "{} bytes", output.stdout.len());
        let output = run(["repl", url, "--ca", &ca], b"one\ntwo\n");
        assert_eq!((output.code, output.text().as_str()), (Some(0), "ONE\nTWO\n"), "{}", output.stderr);
        let output = run(
            ["bench", url, "--ca", &ca, "-c", "3", "-d", "200ms", "--warmup", "0s", "--expect", "uppercase"],
            b"",
        );
        assert_eq!(output.code, Some(0), "{}", output.stderr);
    }
    let url = &server.urls[0];
    // The system does not know the authority; the name is another.
    for more in [&["--sni", "localhost"][..], &["--ca", &ca, "--sni", "example.org"]] {
        let output = run(["send", url, "x"].iter().chain(more), b"");
        assert_eq!(output.code, Some(3), "{more:?}: {}", output.stderr);
        assert!(output.stderr.contains("invalid peer certificate"), "{}", output.stderr);
    }
    let output = run(["send", "tcp://127.0.0.1:1", "x", "--insecure"], b"");
    assert_eq!(output.code, Some(2), "{}", output.stderr);
    assert!(output.stderr.contains("are for tls:"), "{}", output.stderr);
    server.end();
}

#[test]
fn clients_show_their_certificates() {
    let authority = Authority::new();
    authority.issue("client", &["client.example"]);
    let (ca, cert, key) =
        (authority.path("ca.pem"), authority.path("client.pem"), authority.path("client.key"));
    let url = format!("tls://127.0.0.1:0?{}&client_ca={ca}", authority.query());
    let server = Server::start(&[&url], &[]);
    let url = &server.urls[0];
    let output = run(["send", url, "hello", "--ca", &ca, "--cert", &cert, "--key", &key], b"");
    assert_eq!((output.code, output.text().as_str()), (Some(0), "hello"), "{}", output.stderr);
    let output = run(["send", url, "hello", "--ca", &ca], b"");
    assert_eq!(output.code, Some(3), "{}", output.stderr);
    assert!(output.stderr.contains("received fatal alert: certificate required"), "{}", output.stderr);
    server.end();
}

#[test]
fn a_reload_reads_certificates_again() {
    let authority = Authority::new();
    let ca = authority.path("ca.pem");
    let file = PathBuf::from(authority.path("resay.toml"));
    let text = format!(
        "[[listener]]\nname = \"tls\"\nlisten = \"tls://127.0.0.1:0\"\n\
         tls = {{ cert = [{:?}], key = {:?} }}\n",
        authority.path("server.pem"),
        authority.path("server.key")
    );
    fs::write(&file, &text).unwrap();
    let output = run(["serve", "--config", file.to_str().unwrap(), "--check"], b"");
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let server = Server::of(resay(["serve", "--config", file.to_str().unwrap()]), 1, None);
    let url = &server.urls[0];
    let ask = |name: &str| run(["send", url, "x", "--ca", &ca, "--sni", name], b"").code;
    assert_eq!((ask("localhost"), ask("new.example")), (Some(0), Some(3)));
    authority.issue("server", &["new.example"]);
    server.process.signal(Signal::HUP);
    wait_until("the new certificate is there", || (ask("new.example") == Some(0)).then_some(()));

    // What cannot be read changes nothing, and is found before.
    fs::write(authority.path("server.pem"), "nothing").unwrap();
    let output = run(["serve", "--config", file.to_str().unwrap(), "--check"], b"");
    assert_eq!(output.code, Some(2), "{}", output.stderr);
    assert!(output.stderr.contains("listener \"tls\": filter tls: cert"), "{}", output.stderr);
    server.process.signal(Signal::HUP);
    server.stderr.wait_for("not reloaded, nothing has changed");
    assert_eq!(ask("new.example"), Some(0));
    server.end();

    for (bad, message) in [
        (text.replace("tls://", "tcp://"), "tls is for addresses with TLS"),
        (text.replace("tls = {", "tsl = {"), "did you mean \"tls\"?"),
        (text.replace("tls = {", "tls = \"x\" # {"), "a table is expected"),
        (text.replace("cert =", "crt ="), "did you mean \"cert\"?"),
    ] {
        fs::write(&file, bad).unwrap();
        let output = run(["serve", "--config", file.to_str().unwrap(), "--check"], b"");
        assert_eq!(output.code, Some(2), "{}", output.stderr);
        assert!(output.stderr.contains(message), "{}", output.stderr);
    }
}

#[test]
fn new_certificates_under_the_old_names_are_told_by_diff_and_by_the_reload() {
    let authority = Authority::new();
    let file = authority.path("resay.toml");
    let control = authority.path("ctl");
    let text = format!(
        "control = {control:?}\n[[listener]]\nname = \"tls\"\nlisten = \"tls://127.0.0.1:0\"\n\
         tls = {{ cert = {:?}, key = {:?} }}\n",
        authority.path("server.pem"),
        authority.path("server.key")
    );
    fs::write(&file, &text).unwrap();
    let server = Server::of(resay(["serve", "--config", &file]), 1, None);
    let diff = || run(["serve", "--config", &file, "--diff"], b"");
    let reload = || run(["ctl", &control, "reload"], b"");
    assert_eq!((diff().code, diff().text()), (Some(0), String::new()));
    authority.issue("server", &["new.example"]);
    let wanted = ["cert", "key"].map(|key| {
        let end = if key == "cert" { "pem" } else { "key" };
        let path = authority.path(&format!("server.{end}"));
        format!("~ listener tls tls://127.0.0.1:0: {key} {path} has new content\n")
    });
    assert_eq!((diff().code, diff().text()), (Some(1), wanted.concat()));
    assert_eq!(reload().text(), wanted.concat());
    assert_eq!((diff().code, diff().text()), (Some(0), String::new()));
    // A key of another certificate: the reload is refused, and so is the question what it would change.
    authority.issue("other", &["other.example"]);
    fs::copy(authority.path("other.key"), authority.path("server.key")).unwrap();
    for output in [diff(), reload()] {
        assert_eq!((output.code, output.text().as_str()), (Some(2), ""));
        assert!(output.stderr.contains("does not go with its key"), "{}", output.stderr);
    }
    server.end();
}

/// Says loudly that something was not tested.
fn skipped(why: &str) {
    eprintln!("SKIPPED: {why}");
}

/// What a program prints that is given `input` and, once it has printed `until`, `last` and the end of its input. `None`: it
/// is not there.
fn ask_with(program: &str, arguments: &[&str], input: &str, until: &str, last: &str) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(started) = command.spawn() else {
        skipped(&format!("TLS with {program}: it is not there"));
        return None;
    };
    let mut process = Process(started);
    let printed = Written::follow(process.0.stdout.take().unwrap());
    let complaints = Written::follow(process.0.stderr.take().unwrap());
    let mut stdin = process.0.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    wait_until(program, || {
        let is_over = printed.text().contains(until) || process.0.try_wait().unwrap().is_some();
        is_over.then_some(())
    });
    // It may have gone.
    let _ = stdin.write_all(last.as_bytes());
    drop(stdin);
    let status = process.wait();
    let text = printed.to_end();
    let is_good = status.success() && text.contains(until);
    assert!(is_good, "{program}: {status}: {text}\n{}", complaints.to_end());
    Some(text)
}

/// Clients that say close_notify when their input ends, and take what comes until the server says it.
#[test]
fn other_peoples_clients() {
    let authority = Authority::new();
    let ca = authority.path("ca.pem");
    let url = format!("tls://127.0.0.1:0?{}&alpn=echo", authority.query());
    let server = Server::start(&[&url], &["-t", "uppercase"]);
    let port = server.urls[0].rsplit_once(':').unwrap().1.to_owned();
    let address = format!("127.0.0.1:{port}");
    let python = r#"
import asyncio, socket, ssl, sys
ca, port = sys.argv[1], int(sys.argv[2])
context = ssl.create_default_context(cafile=ca)
context.set_alpn_protocols(["echo"])
with context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="localhost") as peer:
    assert peer.selected_alpn_protocol() == "echo" and peer.version() == "TLSv1.3", peer.version()
    peer.sendall(b"hello")
    assert peer.recv(100) == b"HELLO"
    peer.unwrap()

async def upgraded():
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    if hasattr(writer, "start_tls"):
        await writer.start_tls(context, server_hostname="localhost")
        writer.write(b"x" * 300000)
        await writer.drain()
        assert await reader.readexactly(300000) == b"X" * 300000
    writer.close()

asyncio.run(upgraded())
print("done")
"#;
    if let Some(text) = ask_with("python3", &["-c", python, &ca, &port], "", "done\n", "") {
        assert_eq!(text, "done\n");
    }
    for version in ["-tls1_2", "-tls1_3"] {
        let arguments = [
            "s_client",
            "-connect",
            &address,
            "-CAfile",
            &ca,
            "-verify_return_error",
            "-alpn",
            "echo",
            version,
        ];
        if let Some(text) = ask_with("openssl", &arguments, "hello\n", "HELLO\n", "Q\n") {
            assert!(text.contains("ALPN protocol: echo") && text.contains("Verification: OK"), "{text}");
        }
    }
    let arguments = [
        "--x509cafile",
        &ca,
        "--verify-hostname",
        "localhost",
        "-p",
        &port,
        "127.0.0.1",
        "--logfile",
        "/dev/null",
    ];
    ask_with("gnutls-cli", &arguments, "hello\n", "HELLO\n", "");
    stunnel(authority.directory.path(), &ca, &address);
    server.end();
}

/// A tunnel for a client that speaks no TLS.
fn stunnel(directory: &Path, ca: &str, address: &str) {
    let configuration = directory.join("stunnel.conf");
    let text =
        format!("foreground = yes\nclient = yes\nCAfile = {ca}\nverifyChain = yes\nconnect = {address}\n");
    fs::write(&configuration, text).unwrap();
    // Without `accept`, it serves its standard input and output.
    ask_with("stunnel4", &[configuration.to_str().unwrap()], "hello\n", "HELLO\n", "");
}

/// `ctl connections` has it as a column, where there is something to tell, and in JSON.
#[test]
fn what_tls_knows_of_a_connection_is_listed() {
    let authority = Authority::new();
    let url = format!("tls://127.0.0.1:0?{}&alpn=echo", authority.query());
    let controlled = crate::ctl::Controlled::start(&[&url, "tcp://127.0.0.1:0"], &[]);
    let plain =
        std::net::TcpStream::connect(controlled.server.urls[1].strip_prefix("tcp://").unwrap()).unwrap();
    wait_until("the plain one is there", || {
        let found = controlled.json(&["connections"]);
        (found["connections"].as_array().unwrap().len() == 1).then_some(())
    });
    assert!(!controlled.ask(&["connections"]).contains("FACTS"));
    let mut command = resay(["repl", &controlled.server.urls[0], "--ca", &authority.path("ca.pem")]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut client = Process(command.spawn().unwrap());
    let found = wait_until("the handshake is complete", || {
        let found = controlled.json(&["connections"]);
        let list = found["connections"].as_array().unwrap();
        list.iter().find(|one| one["facts"]["tls.version"].is_string()).cloned()
    });
    assert_eq!(found["facts"]["tls.version"], "TLSv1.3", "{found}");
    assert_eq!(found["facts"]["tls.client_cert"], "no", "{found}");
    let text = controlled.ask(&["connections"]);
    assert!(text.contains("FACTS") && text.contains("tls.version=TLSv1.3\n"), "{text}");
    drop(client.0.stdin.take());
    client.wait();
    drop(plain);
    controlled.server.end();
}

/// A listener gets TLS by a reload, and loses it by the next one, on the same socket.
#[test]
fn a_reload_puts_tls_around_a_socket_that_is_there() {
    let authority = Authority::new();
    let (file, control) = (authority.path("resay.toml"), authority.path("ctl"));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let urls = [format!("tcp://127.0.0.1:{port}"), format!("tls://127.0.0.1:{port}?{}", authority.query())];
    let write = |url: &str| {
        let text = format!("control = {control:?}\n[[listener]]\nname = \"a\"\nlisten = {url:?}\n");
        fs::write(&file, text).unwrap();
    };
    write(&urls[0]);
    let server = Server::of(resay(["serve", "--config", &file]), 1, None);
    for number in [1, 0, 1] {
        write(&urls[number]);
        let output = run(["ctl", &control, "reload"], b"");
        assert_eq!(output.code, Some(0), "{output:?}");
        let url = urls[number].split('?').next().unwrap();
        let more: &[&str] = if number == 1 { &["--insecure"] } else { &[] };
        let output = run(["send", url, "hello"].iter().chain(more), b"");
        assert_eq!(output.text(), "hello", "{number} {output:?} {}", server.stderr.text());
    }
    server.end();
}
