//! `template`: each message is answered with a text that may tell of it: what it said, who sent it, when, which one
//! it is.
//!
//! On a raw stream, which has no messages, each read is answered. Where that matters, frame the stream.

mod time;

use resay_plugin::{Call, Error, Io, OptionSpec, Peer, PeerKind, Process, Setup, Status, Table, Transform};
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The table: bundled into the engine, and exported by `libtemplate`.
pub static TABLE: Table = Table::process::<Template>(c"template")
    .version(resay_plugin::package_version!())
    .summary(c"each message is answered with a text that tells of it")
    .options(OPTIONS)
    .build();

const TEXT: &str = "text";
const OPTIONS: &[OptionSpec] = &[OptionSpec::text(
    c"text",
    c"the answer, with {message} {length} {peer} {local} {listener} {kind} {connection} {count} {bytes} {id} {time} {unix_ms}; {{ and }} are braces",
)];

/// What stands in braces, and what it is replaced with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Message,
    Length,
    Peer,
    Local,
    Listener,
    Kind,
    Connection,
    Count,
    Bytes,
    Id,
    Time,
    UnixMs,
}

const FIELDS: &[(&str, Field)] = &[
    ("message", Field::Message),
    ("length", Field::Length),
    ("peer", Field::Peer),
    ("local", Field::Local),
    ("listener", Field::Listener),
    ("kind", Field::Kind),
    ("connection", Field::Connection),
    ("count", Field::Count),
    ("bytes", Field::Bytes),
    ("id", Field::Id),
    ("time", Field::Time),
    ("unix_ms", Field::UnixMs),
];

/// The most digits of a number.
const NUMBER_BYTES_MAX: usize = 20;

#[derive(Debug)]
struct Template {
    parts: Vec<Part>,
    /// Messages answered so far, of all connections.
    answered: AtomicU64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    Field(Field),
}

/// Of one conversation.
#[derive(Debug, Default)]
struct Session {
    /// Only what the template tells.
    peer: Box<str>,
    local: Box<str>,
    listener: Box<str>,
    kind: &'static str,
    connection: u64,
    count: u64,
    bytes: u64,
}

impl Transform for Template {
    type Session = Session;

    fn create(setup: &Setup<'_>) -> Result<Self, Error> {
        let text = setup.options.bytes(TEXT)?;
        let parts = parse(text).map_err(|fault| Error::config(format!("option '{TEXT}': {fault}")))?;
        Ok(Self { parts, answered: AtomicU64::new(0) })
    }

    fn open(&self, call: Call<'_, Session>, peer: &Peer<'_>) -> Result<(), Error> {
        let told = |field, text: &str| if self.tells(field) { text.into() } else { Box::default() };
        *call.session = Session {
            peer: told(Field::Peer, peer.address()),
            local: told(Field::Local, peer.local()),
            listener: told(Field::Listener, peer.listener()),
            kind: match peer.kind() {
                PeerKind::Stream => "stream",
                PeerKind::Datagram => "datagram",
                PeerKind::Seqpacket => "seqpacket",
                _ => "other",
            },
            connection: peer.id(),
            count: 0,
            bytes: 0,
        };
        Ok(())
    }
}

impl Process for Template {
    fn process(&self, call: Call<'_, Session>, io: &mut Io<'_>) -> Status {
        let input = io.input();
        if io.is_only_end() {
            return Status::Ok; // the end of a raw stream is no message
        }
        let session = call.session;
        if io.lacks_room(self.len_max(session, input)) {
            return Status::MoreOut; // nothing is counted before there is room for all
        }
        session.count += 1;
        session.bytes += input.len() as u64;
        let id = self.answered.fetch_add(1, Ordering::Relaxed) + 1;
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_ms = u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX);
        for part in &self.parts {
            let number = match part {
                Part::Text(text) => {
                    io.write(text);
                    continue;
                }
                Part::Field(Field::Time) => {
                    io.write(&time::rfc3339(unix_ms));
                    continue;
                }
                Part::Field(field) => match field.text(session, input) {
                    Some(text) => {
                        io.write(text);
                        continue;
                    }
                    None => match field {
                        Field::Length => input.len() as u64,
                        Field::Connection => session.connection,
                        Field::Count => session.count,
                        Field::Bytes => session.bytes,
                        Field::Id => id,
                        _ => unix_ms,
                    },
                },
            };
            write_number(io, number);
        }
        io.consume(input.len());
        Status::Ok
    }
}

impl Template {
    fn tells(&self, field: Field) -> bool {
        self.parts.contains(&Part::Field(field))
    }

    /// The longest that this answer may be.
    fn len_max(&self, session: &Session, input: &[u8]) -> usize {
        let lens = self.parts.iter().map(|part| match part {
            Part::Text(text) => text.len(),
            Part::Field(Field::Time) => time::BYTES,
            Part::Field(field) => field.text(session, input).map_or(NUMBER_BYTES_MAX, <[u8]>::len),
        });
        lens.fold(0, usize::saturating_add)
    }
}

impl Field {
    /// What stands there, where it is text that is there already.
    fn text<'a>(self, session: &'a Session, input: &'a [u8]) -> Option<&'a [u8]> {
        match self {
            Field::Message => Some(input),
            Field::Peer => Some(session.peer.as_bytes()),
            Field::Local => Some(session.local.as_bytes()),
            Field::Listener => Some(session.listener.as_bytes()),
            Field::Kind => Some(session.kind.as_bytes()),
            _ => None,
        }
    }
}

fn write_number(io: &mut Io<'_>, number: u64) {
    let mut rest = io.spare();
    let room = rest.len();
    let _ = write!(rest, "{number}"); // len_max() made room
    let written = room - rest.len();
    io.produce(written);
}

/// The parts of a template. The error points at what is wrong.
fn parse(text: &[u8]) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut plain = Vec::new();
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let doubled = text.get(at + 1) == Some(&byte);
        match byte {
            b'{' | b'}' if doubled => {
                plain.push(byte);
                at += 2;
            }
            b'}' => return Err(format!("the '}}' at byte {at} closes nothing; '}}}}' stands for one")),
            b'{' => {
                let len = text[at..]
                    .iter()
                    .position(|byte| *byte == b'}')
                    .ok_or_else(|| format!("the '{{' at byte {at} is never closed; '{{{{' stands for one"))?;
                let name = &text[at + 1..at + len];
                let (_, field) =
                    FIELDS.iter().find(|(known, _)| known.as_bytes() == name).ok_or_else(|| {
                        let names: Vec<_> = FIELDS.iter().map(|(name, _)| format!("{{{name}}}")).collect();
                        let name = name.escape_ascii();
                        format!(
                            "unknown placeholder '{{{name}}}' at byte {at}; there are {}",
                            names.join(" ")
                        )
                    })?;
                if !plain.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                }
                parts.push(Part::Field(*field));
                at += len + 1;
            }
            byte => {
                plain.push(byte);
                at += 1;
            }
        }
    }
    if !plain.is_empty() {
        parts.push(Part::Text(plain));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use resay_plugin::harness::Harness;

    fn template(text: &str) -> Harness {
        Harness::new(&TABLE, &[("text", text)]).unwrap()
    }

    fn answers(text: &str, message: &[u8]) -> String {
        String::from_utf8(template(text).message(message).unwrap()).unwrap()
    }

    #[test]
    fn every_placeholder() {
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("{message}", "hello"),
            ("<{message}{message}>", "<hellohello>"),
            ("{length}", "5"),
            ("{peer}", "tcp://127.0.0.1:50000"),
            ("{local} {listener}", "tcp://127.0.0.1:8888 tcp://127.0.0.1:8888"),
            ("{kind}/{connection}", "stream/1"),
            ("{count}:{bytes}:{id}", "1:5:1"),
            ("{{}} {{message}} {{{message}}}", "{} {message} {hello}"),
            ("größer {message} ✓", "größer hello ✓"),
        ] {
            assert_eq!(answers(text, b"hello"), expected, "{text}");
        }
    }

    #[test]
    fn every_placeholder_is_in_the_help() {
        assert_eq!(FIELDS.len(), Field::UnixMs as usize + 1);
        let harness = Harness::new(&TABLE, &[("text", "{x}")]).unwrap_err();
        for (name, _) in FIELDS {
            assert!(harness.text().contains(&format!("{{{name}}}")), "{name}");
            assert!(!answers(&format!("{{{name}}}"), b"hello").is_empty(), "{name}");
        }
    }

    #[test]
    fn the_time() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let answer = answers("{unix_ms} {time}", b"");
        let (unix_ms, time) = answer.split_once(' ').unwrap();
        let unix_ms: u64 = unix_ms.parse().unwrap();
        assert!((now..now + 60_000).contains(&u128::from(unix_ms)), "{answer}");
        assert_eq!(time.as_bytes(), time::rfc3339(unix_ms));
    }

    #[test]
    fn counts_go_by_connection_and_ids_by_instance() {
        let template = template("{connection} {count} {bytes} {id};");
        let mut first = template.session().unwrap();
        let mut second = template.session().unwrap();
        assert_eq!(first.message(b"abc").output, b"1 1 3 1;");
        assert_eq!(second.message(b"").output, b"2 1 0 2;");
        assert_eq!(first.message(b"de").output, b"1 2 5 3;");
    }

    #[test]
    fn long_answers_are_counted_once() {
        let template = template(&format!("{}{{message}}{{id}}", "-".repeat(1000)));
        let mut session = template.session().unwrap();
        for id in 1..4 {
            let answer = session.message(&[b'm'; 1000]);
            let expected = format!("{}{}{id}", "-".repeat(1000), "m".repeat(1000));
            assert_eq!((answer.status, answer.output), (0, expected.into_bytes()));
        }
    }

    #[test]
    fn any_room_will_do_and_nothing_is_counted_twice() {
        for room in [0, 1, 50, 1000] {
            let template = template("{count} {bytes} {id} {message}").with_room(room);
            let mut session = template.session().unwrap();
            for expected in ["1 5 1 hello", "2 10 2 hello"] {
                let answer = session.message(b"hello");
                assert_eq!((answer.status, &answer.output[..]), (0, expected.as_bytes()));
            }
        }
    }

    #[test]
    fn every_kind_of_peer() {
        let template = template("{kind} {connection} {peer}");
        for (kind, expected) in [
            (PeerKind::Stream, "stream 1 tcp://127.0.0.1:50000"),
            (PeerKind::Datagram, "datagram 0 udp://127.0.0.1:50000"),
            (PeerKind::Seqpacket, "seqpacket 2 "),
        ] {
            let answer = template.session_with(kind).unwrap().message(b"");
            assert_eq!(answer.output, expected.as_bytes());
        }
    }

    #[test]
    fn each_read_of_a_raw_stream_and_not_its_end() {
        assert_eq!(template("[{message}]").stream(&[b"a", b"bc"]).unwrap(), b"[a][bc]");
        assert_eq!(template("[{message}]").stream(&[]).unwrap(), b"");
    }

    #[test]
    fn errors_point_at_the_place() {
        for (text, expected) in [
            ("a {massage}", "unknown placeholder '{massage}' at byte 2; there are {message} {length} "),
            ("{}", "unknown placeholder '{}' at byte 0; there are "),
            ("{ message }", "unknown placeholder '{ message }' at byte 0; there are "),
            ("ä{message", "the '{' at byte 2 is never closed; '{{' stands for one"),
            ("{{}", "the '}' at byte 2 closes nothing; '}}' stands for one"),
        ] {
            let error = Harness::new(&TABLE, &[("text", text)]).unwrap_err();
            assert!(error.text().starts_with(&format!("option 'text': {expected}")), "{error}");
        }
        assert_eq!(Harness::new(&TABLE, &[]).unwrap_err().text(), "option 'text' must be given");
    }
}
