//! TLS around streams, on both drivers, against rustls itself as a client.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::*;
use resay::net::address::Listen;
use resay::{Backend, CloseReason, DropReason, Engine, Filter, ListenerId, Options, Reconfiguration};
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn answers_come_and_the_ends_are_said() {
    let authority = Authority::new();
    authority.issue("server", &["localhost"]);
    on_each(&authority.url("server", ""), "uppercase", |server| {
        assert!(server.url.starts_with("tls://127.0.0.1:"), "{}", server.url);
        for versions in [TLS13, TLS12] {
            let wants = Wants { versions: Some(versions), ..Wants::default() };
            let mut client = connect(server, &client_config(&authority, &wants), "localhost").unwrap();
            assert_eq!(ask(&mut client, b"hello"), b"HELLO");
            client.write_all(b"last").unwrap();
            half_close(&mut client);
            // An end without close_notify would be an error of the read.
            let mut rest = Vec::new();
            client.read_to_end(&mut rest).unwrap();
            assert_eq!(rest, b"LAST");
        }
        let stats = server.expect_closed(CloseReason::PeerClosed, 2);
        assert_eq!((stats.bytes_in, stats.bytes_out), (18, 18), "the stream's bytes, not the wire's");
    });
}

/// The peer says that its side ends, and leaves the socket open.
#[test]
fn close_notify_is_a_half_close_of_its_own() {
    let authority = Authority::new();
    authority.issue("server", &["localhost"]);
    for more in ["", "&frame=lines"] {
        on_each(&authority.url("server", more), "delay:time=20ms | uppercase", |server| {
            let config = client_config(&authority, &Wants::default());
            let mut client = connect(server, &config, "localhost").unwrap();
            client.write_all(b"one\ntwo").unwrap();
            client.conn.send_close_notify();
            client.flush().unwrap();
            let mut rest = Vec::new();
            client.read_to_end(&mut rest).unwrap();
            assert_eq!(rest, b"ONE\nTWO");
            // Both sides have said it: now the sockets end.
            assert_eq!(client.sock.read(&mut [0; 8]).unwrap(), 0);
            drop(client);
            server.expect_closed(CloseReason::PeerClosed, 1);
        });
    }
}

#[test]
fn a_handshake_may_come_byte_by_byte_and_all_at_once() {
    let authority = Authority::new();
    authority.issue("server", &["localhost"]);
    on_each(&authority.url("server", ""), "reverse", |server| {
        let config = client_config(&authority, &Wants::default());
        for size in [1, 7] {
            let mut client = begin(server, &config, "localhost");
            let mut wire = Vec::new();
            let mut answer = Vec::new();
            client.conn.writer().write_all(b"abc").unwrap();
            while answer.len() < 3 {
                while client.conn.wants_write() {
                    client.conn.write_tls(&mut wire).unwrap();
                }
                for piece in wire.chunks(size) {
                    client.sock.write_all(piece).unwrap();
                }
                wire.clear();
                client.conn.read_tls(&mut client.sock).unwrap();
                client.conn.process_new_packets().unwrap();
                let _ = client.conn.reader().read_to_end(&mut answer);
            }
            assert_eq!(answer, b"cba");
            half_close(&mut client);
            client.read_to_end(&mut answer).unwrap();
        }
        // The last of the handshake, the message, both ends: one segment.
        let mut client = begin(server, &config, "localhost");
        while client.conn.is_handshaking() {
            while client.conn.wants_write() {
                client.conn.write_tls(&mut client.sock).unwrap();
            }
            client.conn.read_tls(&mut client.sock).unwrap();
            client.conn.process_new_packets().unwrap();
        }
        client.conn.writer().write_all(b"abc").unwrap();
        half_close(&mut client);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"cba");
        server.expect_closed(CloseReason::PeerClosed, 3);
    });
}

/// Nobody knows whether what came is all: what is whole is answered, the rest is not, and the reason is one of its own.
#[test]
fn an_end_without_close_notify_has_cut_the_stream_off() {
    let authority = Authority::new();
    authority.issue("server", &["localhost"]);
    on_each(&authority.url("server", "&frame=lines"), "uppercase", |server| {
        let config = client_config(&authority, &Wants::default());
        let mut client = connect(server, &config, "localhost").unwrap();
        client.write_all(b"whole\nremove all but").unwrap();
        client.flush().unwrap();
        client.sock.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"WHOLE\n");
        let stats = server.expect_closed(CloseReason::LayerTruncated, 1);
        assert_eq!(stats.dropped_by(DropReason::Undelivered), 1, "{stats:?}");
    });
}

#[test]
fn what_is_no_tls_hears_an_alert() {
    let authority = Authority::new();
    authority.issue("server", &["localhost"]);
    on_each(&authority.url("server", ""), "", |server| {
        let mut socket = server.socket();
        socket.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).unwrap();
        // The record of an alert (RFC 8446, 5.1 and 6).
        assert_eq!((answer.first(), answer.get(5)), (Some(&21), Some(&2)), "{answer:?}");
        drop(socket);
        let stats = server.expect_closed(CloseReason::LayerFailed, 1);
        assert_eq!((stats.messages_in, stats.bytes_in), (0, 0));
        // A client that leaves before anything is agreed on.
        drop(server.socket());
        server.expect_closed(CloseReason::PeerClosed, 1);
    });
}

#[test]
fn a_certificate_that_the_client_does_not_trust() {
    let (authority, other) = (Authority::new(), Authority::new());
    authority.issue("server", &["localhost"]);
    on_each(&authority.url("server", ""), "", |server| {
        let strange = client_config(&other, &Wants::default());
        connect(server, &strange, "localhost").map(drop).unwrap_err();
        let config = client_config(&authority, &Wants::default());
        let error = connect(server, &config, "example.org").map(drop).unwrap_err();
        assert!(error.to_string().contains("not valid for name"), "{error}");
        let stats = server.expect_closed(CloseReason::LayerFailed, 2);
        assert_eq!(stats.messages_in, 0);
    });
}

#[test]
fn clients_show_who_they_are() {
    let (authority, other) = (Authority::new(), Authority::new());
    authority.issue("server", &["localhost"]);
    let good = authority.issue("client", &["client.example"]);
    let bad = other.issue("client", &["client.example"]);
    let ca = authority.path("ca.pem");
    // Whether a client is served with a good certificate, a bad one, none.
    for (client, expected) in
        [("require", [true, false, false]), ("ask", [true, false, true]), ("", [true, false, false])]
    {
        let mut more = format!("&client_ca={}", ca.display());
        if !client.is_empty() {
            more += &format!("&client={client}");
        }
        on_each(&authority.url("server", &more), "", |server| {
            for (own, is_served) in [Some(&good), Some(&bad), None].into_iter().zip(expected) {
                let wants = Wants { own: own.cloned(), ..Wants::default() };
                let config = client_config(&authority, &wants);
                let served = connect(server, &config, "localhost").and_then(|mut client| {
                    client.write_all(b"x")?;
                    client.flush()?;
                    client.read_exact(&mut [0])
                });
                assert_eq!(served.is_ok(), is_served, "{client} {:?} {served:?}", own.is_some());
            }
            let refused = expected.iter().filter(|is_served| !**is_served).count() as u64;
            server.expect_closed(CloseReason::LayerFailed, refused);
        });
    }
}

#[test]
fn the_name_that_is_asked_for_decides_on_the_certificate() {
    let authority = Authority::new();
    let url = ["one", "two", "any"].iter().fold(String::new(), |url, name| {
        let names = [format!("{name}.example"), format!("*.{name}.example")];
        let (cert, key) = authority.issue(name, &[&names[0], &names[1]]);
        url + &format!("&cert={}&key={}", cert.display(), key.display())
    });
    let url = format!("tls://127.0.0.1:0?{}", &url[1..]);
    on_each(&url, "", |server| {
        let config = client_config(&authority, &Wants::default());
        for name in ["one.example", "two.example", "any.example", "x.two.example"] {
            let mut client = connect(server, &config, name).unwrap();
            assert_eq!(ask(&mut client, b"x"), b"x");
        }
        // The first is for all other names.
        let error = connect(server, &config, "three.example").map(drop).unwrap_err();
        assert!(error.to_string().contains("one.example"), "{error}");
    });
}

#[test]
fn protocols_are_agreed_on() {
    let authority = Authority::new();
    authority.issue("server", &["localhost"]);
    on_each(&authority.url("server", "&alpn=echo,echo/2&alpn=third"), "", |server| {
        for (offered, agreed) in
            [(&["x", "echo/2", "echo"][..], Some(&b"echo"[..])), (&["third"], Some(b"third")), (&[], None)]
        {
            let wants = Wants { alpn: offered, ..Wants::default() };
            let mut client = connect(server, &client_config(&authority, &wants), "localhost").unwrap();
            assert_eq!(client.conn.alpn_protocol(), agreed);
            assert_eq!(ask(&mut client, b"x"), b"x");
        }
        let wants = Wants { alpn: &["http/1.1"], ..Wants::default() };
        let error = connect(server, &client_config(&authority, &wants), "localhost").map(drop).unwrap_err();
        assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
    });
}

#[test]
fn old_versions_can_be_refused() {
    let authority = Authority::new();
    authority.issue("server", &["localhost"]);
    on_each(&authority.url("server", "&min=1.3"), "", |server| {
        let wants = Wants { versions: Some(TLS12), ..Wants::default() };
        connect(server, &client_config(&authority, &wants), "localhost").map(drop).unwrap_err();
        let mut client = connect(server, &client_config(&authority, &Wants::default()), "localhost").unwrap();
        assert_eq!(ask(&mut client, b"x"), b"x");
    });
}

#[test]
fn a_handshake_has_a_deadline() {
    let authority = Authority::new();
    authority.issue("server", &["localhost"]);
    on_each(&authority.url("server", "&handshake_timeout=50ms"), "", |server| {
        // One says nothing, one stops in the middle, one drips for ever.
        let mut silent = server.socket();
        let mut half = server.socket();
        half.write_all(&[22, 3, 1, 0, 200, 1]).unwrap();
        let mut dripping = server.socket();
        dripping.write_all(&[22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3]).unwrap();
        // A byte, and then the server's end or a little time, whichever comes first.
        dripping.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        let is_open = |ended: std::io::Result<usize>| ended.is_err_and(|e| e.kind() == ErrorKind::WouldBlock);
        while dripping.write_all(&[0]).is_ok() && is_open(dripping.read(&mut [0])) {}
        for socket in [&mut silent, &mut half] {
            let ended = socket.read(&mut [0; 8]);
            assert!(!matches!(&ended, Ok(1..)), "{ended:?}");
        }
        server.expect_closed(CloseReason::LayerFailed, 3);
    });
}

#[test]
fn much_goes_both_ways() {
    const BYTES: usize = 8 << 20;
    let authority = Authority::new();
    authority.issue("server", &["localhost"]);
    for more in ["", "&high_water=1k", "&high_water=4m"] {
        on_each(&authority.url("server", more), "", |server| {
            let config = client_config(&authority, &Wants::default());
            let mut client = connect(server, &config, "localhost").unwrap();
            let data: Vec<u8> = (0..BYTES).map(|at| (at * 7 % 251) as u8).collect();
            let (mut sent, mut received) = (0, Vec::with_capacity(BYTES));
            let mut buffer = vec![0; 1 << 16];
            client.sock.set_nonblocking(true).unwrap();
            let since = Instant::now();
            while received.len() < BYTES {
                assert!(since.elapsed() < PATIENCE, "{sent} sent, {} received", received.len());
                let mut is_idle = true;
                if sent < BYTES && !client.conn.wants_write() {
                    let end = (sent + 40_000).min(BYTES);
                    sent += client.conn.writer().write(&data[sent..end]).unwrap();
                }
                if client.conn.wants_write() {
                    match client.conn.write_tls(&mut client.sock) {
                        Ok(_) => is_idle = false,
                        Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                    }
                }
                match client.conn.read_tls(&mut client.sock) {
                    Ok(count) => {
                        assert!(count > 0, "the server has ended");
                        is_idle = false;
                        client.conn.process_new_packets().unwrap();
                        while let Ok(count @ 1..) = client.conn.reader().read(&mut buffer) {
                            received.extend_from_slice(&buffer[..count]);
                        }
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
                if is_idle {
                    thread::yield_now();
                }
            }
            assert!(received == data, "what came back is what was sent");
        });
    }
}

#[test]
fn a_client_that_never_reads_costs_little_and_is_given_up() {
    let authority = Authority::new();
    authority.issue("server", &["localhost"]);
    on_each(&authority.url("server", "&high_water=64k&write_timeout=500ms&sndbuf=16k"), "", |server| {
        let config = client_config(&authority, &Wants::default());
        let mut client = connect(server, &config, "localhost").unwrap();
        client.sock.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
        let (data, mut most) = (vec![b'x'; 1 << 16], 0);
        let since = Instant::now();
        while server.engine.stats().closed_by(CloseReason::WriteTimeout) == 0 {
            assert!(since.elapsed() < PATIENCE);
            let _ = client.write(&data);
            let waiting = server.engine.connections(PATIENCE).iter().map(|info| info.waiting_bytes).max();
            most = most.max(waiting.unwrap_or(0));
        }
        assert!(most <= 3 * 65_536 + 131_072, "{most} bytes");
    });
}

/// Keys change while a connection lives (RFC 8446, 4.6.3), also if the client wants the server's to change.
#[test]
fn keys_are_updated() {
    let authority = Authority::new();
    authority.issue("server", &["localhost"]);
    on_each(&authority.url("server", ""), "", |server| {
        let wants = Wants { versions: Some(TLS13), ..Wants::default() };
        let mut client = connect(server, &client_config(&authority, &wants), "localhost").unwrap();
        for _ in 0..5 {
            client.conn.refresh_traffic_keys().unwrap();
            assert_eq!(ask(&mut client, b"again"), b"again");
        }
    });
}

/// A ticket makes the next handshake shorter, unless there are none.
#[test]
fn tickets_resume() {
    let authority = Authority::new();
    authority.issue("server", &["localhost"]);
    for (more, expected) in
        [("", rustls::HandshakeKind::Resumed), ("&tickets=0", rustls::HandshakeKind::Full)]
    {
        on_each(&authority.url("server", more), "", |server| {
            for versions in [TLS13, TLS12] {
                let wants = Wants { versions: Some(versions), ..Wants::default() };
                let config = client_config(&authority, &wants);
                let mut kinds = (0..2).map(|_| {
                    let mut client = connect(server, &config, "localhost").unwrap();
                    assert_eq!(ask(&mut client, b"x"), b"x");
                    client.conn.handshake_kind().unwrap()
                });
                assert_eq!(kinds.next(), Some(rustls::HandshakeKind::Full));
                assert_eq!(kinds.next(), Some(expected), "{more} {versions:?}");
            }
        });
    }
}

/// Certificates are read again; whoever is connected stays; what cannot be read changes nothing.
#[test]
fn certificates_are_renewed() {
    let authority = Authority::new();
    authority.issue("server", &["old.example"]);
    let url = authority.url("server", "");
    for backend in BACKENDS {
        authority.issue("server", &["old.example"]);
        let Some(server) = Server::start(backend, &url, "") else { continue };
        let config = client_config(&authority, &Wants::default());
        let mut before = connect(&server, &config, "old.example").unwrap();
        let options = Listen::parse(&url, &Options::default()).unwrap().options;
        let id: ListenerId = server.engine.listeners()[0].id;
        let wanted = Reconfiguration { keep: vec![(id, options)], ..Reconfiguration::default() };

        fs::write(authority.path("server.pem"), "nothing").unwrap();
        let error = server.engine.reconfigure(&wanted).unwrap_err();
        assert!(error.to_string().contains("server.pem: has no certificate"), "{error}");
        connect(&server, &config, "old.example").unwrap();

        authority.issue("server", &["new.example"]);
        server.engine.reconfigure(&wanted).unwrap();
        // Each worker hears of it in its next turn.
        let since = Instant::now();
        while let Err(error) = connect(&server, &config, "new.example") {
            assert!(since.elapsed() < PATIENCE, "{error}");
        }
        assert_eq!(ask(&mut before, b"still here"), b"still here");
        drop(before);
        server.finish();
    }
}

#[test]
fn a_unix_socket_has_tls_too() {
    let authority = Authority::new();
    authority.issue("server", &["localhost"]);
    let path = authority.path("echo.sock");
    let url =
        authority.url("server", "").replace("tls://127.0.0.1:0", &format!("unix+tls:{}", path.display()));
    on_each(&url, "uppercase", |server| {
        assert_eq!(server.url, format!("unix+tls:{}", path.display()));
        let config = client_config(&authority, &Wants::default());
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(config, name).unwrap();
        let mut client = rustls::StreamOwned::new(connection, UnixStream::connect(&path).unwrap());
        client.write_all(b"hello").unwrap();
        let mut answer = [0; 5];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HELLO");
    });
}

/// A key that others can read is no secret. What is wrong is said with the name of its file.
#[test]
fn what_is_wrong_with_the_files_is_said() {
    let authority = Authority::new();
    let (cert, key) = authority.issue("server", &["localhost"]);
    let (other, _) = authority.issue("other", &["localhost"]);
    let open = authority.path("open.key");
    fs::copy(&key, &open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let text = |path: &std::path::Path| path.display().to_string();
    let (cert, key, other, open) = (text(&cert), text(&key), text(&other), text(&open));
    let table = [
        ("min=1.3".to_owned(), "option 'cert' must be given"),
        (format!("cert={cert}&key={open}"), "open.key: everyone can read or write this private key"),
        (format!("cert={cert}"), "server.pem: everyone can read"),
        (format!("cert={other}&key={key}"), "other.pem: does not go with its key"),
        (format!("cert={key}&key={key}"), "server.key: has no certificate"),
        ("cert=/nowhere.pem&key=/nowhere.key".to_owned(), "cert /nowhere.pem: No such file or directory"),
        (format!("cert={cert}&key={key}&key={key}"), "option 'key' is given 2 times, 'cert' 1 times"),
        (format!("cert={cert}&key={key}&client=ask"), "'client' needs client_ca"),
        (format!("cert={cert}&key={key}&client_ca={key}"), "server.key: has no certificate"),
        (format!("cert={cert}&key={key}&alpn=a,,b"), "alpn"),
        (format!("cert={cert}&key={key}&tickets=9"), "tickets"),
        (format!("crt={cert}"), "did you mean \"cert\"?"),
    ];
    for (query, expected) in table {
        let filter = Filter::from_table(&resay_tls::TABLE).unwrap();
        let builder = Engine::builder().register_filter(filter);
        let error =
            builder.listen(&format!("tls://127.0.0.1:0?{query}")).unwrap().build().map(drop).unwrap_err();
        assert!(error.to_string().starts_with("filter tls: "), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

/// A program may hand the PEM over itself; key and certificate may be one text.
#[test]
fn certificates_are_given_as_text() {
    let authority = Authority::new();
    let (cert, key) = authority.issue("server", &["localhost"]);
    let pem = fs::read_to_string(key).unwrap() + &fs::read_to_string(cert).unwrap();
    let escaped: String = pem.bytes().map(|byte| format!("%{byte:02X}")).collect();
    on_each(&format!("tls://127.0.0.1:0?cert={escaped}"), "", |server| {
        let config = client_config(&authority, &Wants::default());
        let mut client = connect(server, &config, "localhost").unwrap();
        assert_eq!(ask(&mut client, b"x"), b"x");
    });
}

/// Hosts in other languages find the filter as a plugin file, and it serves the same.
#[test]
fn the_plugin_file_is_found_by_its_name() {
    // Beside the tests' own directory: target/debug/examples.
    let program = std::env::current_exe().unwrap();
    let examples = program.parent().unwrap().parent().unwrap().join("examples");
    let authority = Authority::new();
    authority.issue("server", &["localhost"]);
    let builder = Engine::builder().plugin_dir(&examples).backend(Backend::Epoll);
    let engine = builder.listen(&authority.url("server", "")).unwrap().start().unwrap();
    let url = engine.urls().remove(0);
    let server = Server { engine, url, backend: Backend::Epoll };
    let config = client_config(&authority, &Wants::default());
    let mut client = connect(&server, &config, "localhost").unwrap();
    assert_eq!(ask(&mut client, b"x"), b"x");
    drop(client);
    server.expect_closed(CloseReason::LayerTruncated, 1);
    server.finish();
}

/// What is known of a connection is told to its transforms, and to whoever asks for the connections.
#[test]
fn what_both_sides_have_agreed_on_is_told() {
    let authority = Authority::new();
    authority.issue("server", &["localhost"]);
    let own = authority.issue("client", &["client.example"]);
    let more = format!("&client_ca={}&client=ask&alpn=echo,other", authority.path("ca.pem").display());
    on_each(&authority.url("server", &more), "whoami", |server| {
        for (versions, version, alpn, own) in [
            (TLS13, "TLSv1.3", &["other"][..], Some(own.clone())),
            (TLS12, "TLSv1.2", &["other"], Some(own.clone())),
            (TLS13, "TLSv1.3", &[], None),
        ] {
            let wants = Wants { versions: Some(versions), alpn, own: own.clone() };
            let config = client_config(&authority, &wants);
            // The second one goes on with a ticket of the first one.
            for _ in 0..2 {
                let mut client = connect(server, &config, "localhost").unwrap();
                client.write_all(b"who?").unwrap();
                let mut answer = Vec::new();
                while answer.last() != Some(&b'\n') {
                    let mut byte = [0];
                    client.read_exact(&mut byte).unwrap();
                    answer.push(byte[0]);
                }
                let answer = String::from_utf8(answer).unwrap();
                let suite = client.conn.negotiated_cipher_suite().unwrap().suite();
                let suite = suite.as_str().unwrap().replace("TLS13_", "TLS_");
                let mut wanted = vec![("version", version), ("cipher", &suite), ("sni", "localhost")];
                if !alpn.is_empty() {
                    wanted.push(("alpn", "other"));
                }
                wanted.push(("client_cert", if own.is_some() { "yes" } else { "no" }));
                if own.is_some() {
                    wanted.push(("client_subject", "CN=client"));
                }
                let fields = wanted.iter().map(|(key, value)| format!("\"{key}\":\"{value}\""));
                let fields = fields.collect::<Vec<_>>().join(",");
                assert!(answer.contains(&format!(",\"tls\":{{{fields}}},\"host\":")), "{fields}: {answer}");
                let known = server.engine.connections(PATIENCE).pop().unwrap();
                let wanted = wanted.iter().map(|(key, value)| (format!("tls.{key}"), (*value).to_owned()));
                assert_eq!(known.facts, wanted.collect::<Vec<_>>());
                assert_eq!(known.via, None);
                half_close(&mut client);
                client.read_to_end(&mut Vec::new()).unwrap();
            }
        }
        server.expect_closed(CloseReason::PeerClosed, 6);
    });
}
