//! `whoami`: each message is answered with a JSON object that says who asks and who answers: the addresses, the
//! connection, the host, the process, and those environment variables that an option names.
//!
//! ```json
//! {"peer":"tcp://10.0.0.7:50312","local":"tcp://10.0.0.2:8888","listener":"tcp://:8888","kind":"stream",
//!  "connection":3,"host":"web-2","pid":4242,"env":{"ZONE":"b","UNSET":null}}
//! ```
//!
//! Behind a proxy (option `proxy` of the listener) it has `"via"`, the address of the proxy, and `"proxy"`, what that has said of the
//! connection beside the address of the peer. Over TLS it has `"tls"`: version, cipher suite, the name that the client asked for, the
//! protocol, and whose certificate the client has shown.
//!
//! It is one line. On a raw stream each read is answered, and a line end follows each answer; elsewhere messages have
//! limits of their own.

mod json;

use json::Object;
use resay_plugin::{
    Call, Error, Io, OptionSpec, Peer, PeerKind, Process, Setup, Status, Table, Transform, environment,
};

/// The table: bundled into the engine, and exported by `libwhoami`.
pub static TABLE: Table = Table::process::<Whoami>(c"whoami")
    .version(resay_plugin::package_version!())
    .summary(c"each message is answered with who asks and who answers, as JSON")
    .options(OPTIONS)
    .build();

const ENV: &str = "env";
const OPTIONS: &[OptionSpec] =
    &[OptionSpec::text(c"env", c"names of environment variables to tell, with commas; no other is told")
        .or(c"")];

/// What is the same for every peer.
#[derive(Debug)]
struct Whoami {
    /// `"host":…,"pid":…,"env":{…}`
    of_process: String,
}

/// The answer, which stays the same while a conversation lasts.
#[derive(Debug, Default)]
struct Session {
    answer: Box<str>,
}

impl Transform for Whoami {
    type Session = Session;

    fn create(setup: &Setup<'_>) -> Result<Self, Error> {
        let names = setup.options.text(ENV)?;
        let mut env = Object::new();
        for name in names.split(',').filter(|_| !names.is_empty()) {
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(setup.options.refused(ENV, "names of variables with commas between them"));
            }
            let value = environment::variable(name);
            env.text(name, value.as_deref().map(|value| value.to_string_lossy()).as_deref());
        }
        let mut of_process = Object::new();
        of_process.text("host", host_name().as_deref());
        of_process.number("pid", std::process::id().into());
        of_process.object("env", env);
        Ok(Self { of_process: of_process.into_fields() })
    }

    fn open(&self, call: Call<'_, Session>, peer: &Peer<'_>) -> Result<(), Error> {
        let known = |text: &'static str| Some(text);
        let mut who = Object::new();
        who.text("peer", Some(peer.address()).filter(|address| !address.is_empty()));
        who.text("local", Some(peer.local()).filter(|address| !address.is_empty()));
        who.text("listener", Some(peer.listener()).filter(|address| !address.is_empty()));
        who.text(
            "kind",
            match peer.kind() {
                PeerKind::Stream => known("stream"),
                PeerKind::Datagram => known("datagram"),
                PeerKind::Seqpacket => known("seqpacket"),
                _ => None,
            },
        );
        who.number("connection", peer.id());
        if !peer.via().is_empty() {
            who.text("via", Some(peer.via()));
        }
        // What the listener's filter tells has its name and a dot in front; the rest is the proxy's.
        let (mut proxy, mut filter, mut filter_name) = (Object::new(), Object::new(), "");
        for (key, value) in peer.facts() {
            match key.split_once('.') {
                Some((name, key)) => {
                    filter_name = name;
                    filter.text(key, Some(value));
                }
                None => proxy.text(key, Some(value)),
            }
        }
        for (name, object) in [("proxy", proxy), (filter_name, filter)] {
            if !object.is_empty() {
                who.object(name, object);
            }
        }
        who.fields(&self.of_process);
        call.session.answer = who.into_text().into();
        Ok(())
    }
}

impl Process for Whoami {
    fn process(&self, call: Call<'_, Session>, io: &mut Io<'_>) -> Status {
        let input = io.input();
        if io.is_only_end() {
            return Status::Ok; // the end of a raw stream is no message
        }
        let answer = call.session.answer.as_bytes();
        let line_end: &[u8] = if io.ends_message() { b"" } else { b"\n" };
        if io.lacks_room(answer.len() + line_end.len()) {
            return Status::MoreOut;
        }
        io.write(answer);
        io.write(line_end);
        io.consume(input.len());
        Status::Ok
    }
}

/// The name of this host, from where a system keeps it.
fn host_name() -> Option<String> {
    let files = ["/proc/sys/kernel/hostname", "/etc/hostname", "/etc/myname"];
    let name = files.iter().find_map(|file| std::fs::read_to_string(file).ok());
    name.or_else(|| environment::variable("HOSTNAME")?.into_string().ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::TABLE;
    use resay_plugin::PeerKind;
    use resay_plugin::harness::{Harness, assert_refused};

    fn answer(options: &[(&str, &str)]) -> String {
        let whoami = Harness::new(&TABLE, options).unwrap();
        String::from_utf8(whoami.message(b"who?").unwrap()).unwrap()
    }

    #[test]
    fn who_asks_and_who_answers() {
        let answer = answer(&[]);
        let expected = concat!(
            r#"{"peer":"tcp://127.0.0.1:50000","local":"tcp://127.0.0.1:8888","#,
            r#""listener":"tcp://127.0.0.1:8888","kind":"stream","connection":1,"host":"#
        );
        assert!(answer.starts_with(expected), "{answer}");
        let expected = format!(r#","pid":{},"env":{{}}}}"#, std::process::id());
        assert!(answer.ends_with(&expected), "{answer}");
    }

    #[test]
    fn every_kind_of_peer() {
        let whoami = Harness::new(&TABLE, &[]).unwrap();
        for (kind, expected) in [
            (PeerKind::Datagram, r#"{"peer":"udp://127.0.0.1:50000","local":"udp://127.0.0.1:8888","#),
            (PeerKind::Datagram, r#","kind":"datagram","connection":0,"#),
            (PeerKind::Seqpacket, r#"{"peer":null,"local":"unix-seqpacket:"#),
            (PeerKind::Seqpacket, r#","kind":"seqpacket","connection":2,"#),
            (PeerKind::Other, r#","kind":null,"connection":3,"#),
        ] {
            let answer = whoami.session_with(kind).unwrap().message(b"who?").output;
            let answer = String::from_utf8(answer).unwrap();
            assert!(answer.contains(expected), "{answer}");
        }
    }

    #[test]
    fn only_the_named_variables() {
        let answer = answer(&[("env", "CARGO_PKG_NAME,RESAY_WHOAMI_NOT_SET")]);
        let expected = r#""env":{"CARGO_PKG_NAME":"resay-transforms","RESAY_WHOAMI_NOT_SET":null}}"#;
        assert!(answer.ends_with(expected), "{answer}");
    }

    #[test]
    fn lines_on_raw_streams_and_nothing_at_their_end() {
        let whoami = Harness::new(&TABLE, &[]).unwrap();
        let mut session = whoami.session().unwrap();
        let first = session.read(b"a").output;
        assert_eq!(first.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert!(first.ends_with(b"}\n"));
        assert_eq!(session.read(b"b").output, first);
        assert_eq!(session.end().output, b"");
    }

    #[test]
    fn every_kind_of_message() {
        let whoami = Harness::new(&TABLE, &[]).unwrap();
        let mut session = whoami.session().unwrap();
        let answer = session.message(b"").output;
        assert!(answer.starts_with(b"{\"peer\"") && answer.ends_with(b"}}"));
        assert_eq!(session.message(&[0; 70_000]).output, answer);
        assert_eq!(session.datagram(b"x").output, answer);
    }

    #[test]
    fn names_that_cannot_be() {
        let expected = "names of variables with commas between them";
        let bad = [",", "HOME,", ",HOME", "A,,B", "A=B"];
        assert_refused(&TABLE, &bad.map(|bad| ("env", bad, expected)));
    }
}
