//! `sockperf`: answers the latency tool sockperf as its own server does, so that its client measures this engine:
//! `sockperf ping-pong` and `sockperf under-load`, over UDP, TCP and unix sockets.
//!
//! A message begins with 14 bytes, the highest byte of each number first:
//!
//! ```text
//!  0        8      10        14
//!  | number | flags | length | data …        length counts all of it
//!             1 from a client, 2 an answer is wanted, 4 warming up
//! ```
//!
//! An answer is the message without the client's flag. A message that wants no answer gets none: the client would
//! count it as a duplicate. One that does not come from a client is somebody's answer and gets none either, so two
//! responders cannot set each other off.
//!
//! In a raw stream messages follow each other, however the reads fall; only a header waits until it is whole. A
//! datagram, a record or a frame is one message, whatever its length field says.

use resay_plugin::{Call, Error, Host, Io, Level, Process, Setup, Status, Table, Transform};

/// The table: bundled into the engine, and exported by `libsockperf`.
pub static TABLE: Table = Table::process::<Sockperf>(c"sockperf")
    .version(resay_plugin::package_version!())
    .summary(c"answers the client of the latency tool sockperf")
    .bound(1, 1, 0)
    .build();

const HEADER_BYTES: usize = 14;
/// The lower byte of the flags.
const FLAGS_AT: usize = 9;
const LENGTH_AT: usize = 10;
const FROM_CLIENT: u8 = 1;
const WANTS_ANSWER: u8 = 2;

#[derive(Debug)]
struct Sockperf;

/// Of a raw stream: the message that a read ended in.
#[derive(Debug, Default)]
struct Session {
    /// Bytes of it that are still to come.
    left: usize,
    is_answered: bool,
}

impl Transform for Sockperf {
    type Session = Session;

    fn create(_: &Setup<'_>) -> Result<Self, Error> {
        Ok(Sockperf)
    }
}

impl Process for Sockperf {
    fn process(&self, call: Call<'_, Session>, io: &mut Io<'_>) -> Status {
        if io.lacks_room(io.input().len()) {
            return Status::MoreOut;
        }
        if io.ends_message() { message(&call.host, io) } else { stream(call.session, &call.host, io) }
    }
}

/// A message that comes whole.
fn message(host: &Host<'_>, io: &mut Io<'_>) -> Status {
    let Some(header) = io.input().first_chunk() else { return bad(host, "shorter than its header") };
    if !wants_answer(header) {
        return Status::Drop;
    }
    io.write(&answer(header));
    io.consume(HEADER_BYTES);
    let data = io.take();
    io.write(data);
    Status::Ok
}

/// What a read of a raw stream brought, behind what an earlier one left of a header.
fn stream(session: &mut Session, host: &Host<'_>, io: &mut Io<'_>) -> Status {
    loop {
        let input = io.input();
        let data = &input[..session.left.min(input.len())];
        if session.is_answered {
            io.write(data);
        }
        io.consume(data.len());
        session.left -= data.len();

        let input = io.input();
        if input.is_empty() {
            return Status::Ok;
        }
        let Some(header) = input.first_chunk() else {
            return if io.ends_stream() { bad(host, "the stream ends in a header") } else { Status::MoreIn };
        };
        let Some(left) = length(header).checked_sub(HEADER_BYTES) else {
            return bad(host, "the length is less than the header's");
        };
        *session = Session { left, is_answered: wants_answer(header) };
        if session.is_answered {
            io.write(&answer(header));
        }
        io.consume(HEADER_BYTES);
    }
}

type Header = [u8; HEADER_BYTES];

fn wants_answer(header: &Header) -> bool {
    const BOTH: u8 = FROM_CLIENT | WANTS_ANSWER;
    header[FLAGS_AT] & BOTH == BOTH
}

fn length(header: &Header) -> usize {
    let [.., a, b, c, d] = *header;
    const _: () = assert!(LENGTH_AT + 4 == HEADER_BYTES);
    u32::from_be_bytes([a, b, c, d]) as usize
}

fn answer(header: &Header) -> Header {
    let mut answer = *header;
    answer[FLAGS_AT] &= !FROM_CLIENT;
    answer
}

#[cold]
fn bad(host: &Host<'_>, why: &str) -> Status {
    host.log(Level::Debug, format_args!("no message of sockperf: {why}"));
    Status::BadData
}

#[cfg(test)]
mod tests {
    use super::*;
    use resay_plugin::abi::{RESAY_DROP, RESAY_E_DATA, RESAY_OK};
    use resay_plugin::harness::Harness;

    /// What the client of version 3.7 sent as its first message, with --msg-size 40.
    const PING: [u8; 40] = [
        0, 0, 0, 0, 0, 0, 0, 1, 0, 3, 0, 0, 0, 40, 0x11, 0x0e, 0x82, 0x74, 0x41, 0x21, 0x3d, 0xdc, 0x87,
        0x70, 0xe9, 0x3e, 0xa1, 0x41, 0xe1, 0xfc, 0x67, 0x3e, 0x01, 0x7e, 0x97, 0xea, 0xdc, 0x6b, 0x96, 0x8f,
    ];

    fn sockperf() -> Harness {
        Harness::new(&TABLE, &[]).unwrap()
    }

    fn with_flags(flags: u8) -> [u8; 40] {
        let mut message = PING;
        message[FLAGS_AT] = flags;
        message
    }

    fn of_length(len: usize, flags: u8) -> Vec<u8> {
        let mut message: Vec<u8> = (0..len).map(|i| i as u8).collect();
        message[8..10].copy_from_slice(&[0, flags]);
        message[LENGTH_AT..HEADER_BYTES].copy_from_slice(&(len as u32).to_be_bytes());
        message
    }

    #[test]
    fn an_answer_has_no_client_flag() {
        for (asked, answered) in [(3, 2), (7, 6)] {
            let sockperf = sockperf();
            let mut session = sockperf.session().unwrap();
            assert_eq!(session.datagram(&with_flags(asked)).output, with_flags(answered));
            assert_eq!(session.message(&with_flags(asked)).output, with_flags(answered));
            assert_eq!(session.read(&with_flags(asked)).output, with_flags(answered));
        }
    }

    #[test]
    fn what_wants_no_answer_gets_none() {
        for flags in [0, 1, 2, 4, 5, 6] {
            let sockperf = sockperf();
            let mut session = sockperf.session().unwrap();
            assert_eq!(session.datagram(&with_flags(flags)).status, RESAY_DROP, "{flags}");
            let read = session.read(&with_flags(flags));
            assert_eq!((read.status, read.output), (RESAY_OK, vec![]), "{flags}");
        }
    }

    #[test]
    fn messages_in_a_stream_split_anywhere() {
        let mut stream = Vec::new();
        let mut expected = Vec::new();
        for (len, flags) in [(40, 3), (14, 1), (14, 3), (30, 1), (15, 7), (20, 3)] {
            stream.extend(of_length(len, flags));
            if flags & 2 != 0 {
                expected.extend(of_length(len, flags & !1));
            }
        }
        let sockperf = sockperf();
        sockperf.assert_splits(&stream, &expected);
    }

    #[test]
    fn a_long_message_is_answered_as_it_comes() {
        let sockperf = sockperf();
        let long = of_length(100_000, 3);
        let mut session = sockperf.session().unwrap();
        assert_eq!(session.read(&long[..50_000]).output, of_length(100_000, 2)[..50_000]);
        assert_eq!(session.read(&long[50_000..]).output, long[50_000..]);
        assert_eq!(session.end().output, b"");
    }

    #[test]
    fn bad_data() {
        let sockperf = sockperf();
        for short in [&b""[..], b"hello", &PING[..13]] {
            assert_eq!(sockperf.session().unwrap().datagram(short).status, RESAY_E_DATA);
        }
        assert_eq!(sockperf.session().unwrap().read(&[0; 14]).status, RESAY_E_DATA);
        let mut session = sockperf.session().unwrap();
        assert_eq!(session.read(&PING[..13]).output, b"");
        assert_eq!(session.end().status, RESAY_E_DATA);
        assert!(sockperf.log().contains(&"no message of sockperf: the stream ends in a header".to_owned()));
        // A message that is cut off was answered as far as it came.
        assert_eq!(sockperf.stream(&[&PING[..20]]).unwrap(), with_flags(2)[..20]);
    }

    #[test]
    fn a_datagram_is_one_message_whatever_its_length_says() {
        let mut odd = PING;
        odd[13] = 39;
        assert_eq!(sockperf().message(&odd).unwrap()[10..], odd[10..]);
    }
}
