//! `close`: a connection is closed in good order behind its n-th answer, or behind exactly so many bytes of answers,
//! where the answer that reaches them is cut; without options, behind its first answer.
//!
//! On a raw stream each read is a message. A datagram is a conversation of its own and has nothing to close: it is
//! cut where it is too long.

use crate::first::{self, First};
use resay_plugin::{
    Call, Counter, Error, Io, Limits, OptionSpec, Peer, Process, Setup, Status, Table, Transform,
};

/// The table: bundled into the engine, and exported by `libclose`.
pub static TABLE: Table = Table::process::<Close>(c"close")
    .version(resay_plugin::package_version!())
    .summary(c"a connection is closed behind some answers")
    .options(OPTIONS)
    .bound(1, 1, 0)
    .build();

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::size(c"after", c"close behind so many bytes; 0: however many").or(c"0"),
    OptionSpec::integer(
        c"messages",
        c"close behind so many messages; 0: however many, or the first without 'after'",
    )
    .or(c"0"),
    first::OPTION,
];

#[derive(Debug)]
struct Close {
    limits: Limits,
    first: First,
    closes: Counter,
}

impl Transform for Close {
    type Session = first::Session;

    fn create(setup: &Setup<'_>) -> Result<Self, Error> {
        let limits = Limits::read(&setup.options, "after", "messages")?;
        let first = First::read(&setup.options)?;
        Ok(Self { limits, first, closes: setup.counter(c"closes") })
    }

    fn open(&self, call: Call<'_, first::Session>, _: &Peer<'_>) -> Result<(), Error> {
        self.first.open(call.session);
        Ok(())
    }
}

impl Process for Close {
    fn process(&self, call: Call<'_, first::Session>, io: &mut Io<'_>) -> Status {
        let Call { session: first::Session { tally: answered, is_spared }, host } = call;
        let input = io.input();
        if io.is_only_end() {
            return Status::Ok; // the end of a raw stream is no message
        }
        let bytes_max = if *is_spared { input.len() } else { self.limits.bytes_left(answered) };
        let answer = &input[..bytes_max.min(input.len())];
        if !io.write_all(answer) {
            io.need(answer.len());
            return Status::MoreOut;
        }
        io.consume(input.len());
        answered.count(answer.len());
        if *is_spared || !self.limits.reached(answered) {
            return Status::Ok;
        }
        host.add(self.closes, 1);
        Status::Close
    }
}

#[cfg(test)]
mod tests {
    use super::TABLE;
    use resay_plugin::abi::{RESAY_CLOSE, RESAY_OK};
    use resay_plugin::harness::Harness;

    /// What a connection that sends these messages is answered before it is closed, and after how many that is.
    fn answers(options: &[(&str, &str)], messages: &[&[u8]]) -> (Vec<u8>, Option<usize>) {
        let close = Harness::new(&TABLE, options).unwrap();
        let mut session = close.session().unwrap();
        let mut bytes = Vec::new();
        for (n, message) in (1..).zip(messages) {
            let answer = session.read(message);
            bytes.extend(answer.output);
            if answer.status == RESAY_CLOSE {
                assert_eq!(close.counter("closes"), Some(1));
                return (bytes, Some(n));
            }
            assert_eq!(answer.status, RESAY_OK);
        }
        assert_eq!((session.end().status, close.counter("closes")), (RESAY_OK, Some(0)));
        (bytes, None)
    }

    #[test]
    fn whichever_limit_comes_first() {
        for (options, bytes, n) in [
            (&[][..], &b"abc"[..], Some(1)),
            (&[("messages", "0"), ("after", "0")], b"abc", Some(1)),
            (&[("after", "1")], b"a", Some(1)),
            (&[("after", "3")], b"abc", Some(1)),
            (&[("after", "4")], b"abcd", Some(2)),
            (&[("after", "1k")], b"abcdefghi", None),
            (&[("messages", "1")], b"abc", Some(1)),
            (&[("messages", "3")], b"abcdefghi", Some(3)),
            (&[("messages", "2"), ("after", "5")], b"abcde", Some(2)),
            (&[("messages", "1"), ("after", "5")], b"abc", Some(1)),
        ] {
            assert_eq!(answers(options, &[b"abc", b"def", b"ghi"]), (bytes.to_vec(), n), "{options:?}");
        }
    }

    #[test]
    fn the_first_connections_only() {
        let close = Harness::new(&TABLE, &[("first", "1"), ("after", "4")]).unwrap();
        let (mut first, mut second) = (close.session().unwrap(), close.session().unwrap());
        let (cut, whole) = (first.read(b"abcdef"), second.read(b"abcdef"));
        assert_eq!((cut.status, &cut.output[..]), (RESAY_CLOSE, &b"abcd"[..]));
        assert_eq!((whole.status, &whole.output[..]), (RESAY_OK, &b"abcdef"[..]));
    }

    #[test]
    fn by_the_byte_a_split_changes_nothing() {
        let data: Vec<u8> = (0..50).collect();
        for at in 0..=data.len() {
            let (bytes, _) = answers(&[("after", "20")], &[&data[..at], &data[at..]]);
            assert_eq!(bytes, data[..20], "{at}");
        }
    }

    #[test]
    fn messages_and_datagrams() {
        let close = Harness::new(&TABLE, &[("after", "4")]).unwrap();
        let mut session = close.session().unwrap();
        assert_eq!(session.message(b"").status, RESAY_OK);
        assert_eq!(session.message(b"abc").status, RESAY_OK);
        let last = session.message(&[7; 70_000]);
        assert_eq!((last.status, last.output), (RESAY_CLOSE, vec![7]));
        let cut = close.session().unwrap().datagram(b"abcdef");
        assert_eq!((cut.status, &cut.output[..]), (RESAY_CLOSE, &b"abcd"[..]));
    }

    #[test]
    fn asking_for_room_counts_nothing() {
        let close = Harness::new(&TABLE, &[("messages", "2")]).unwrap().with_room(2);
        let mut session = close.session().unwrap();
        for status in [RESAY_OK, RESAY_CLOSE] {
            let answer = session.message(b"abc");
            assert_eq!((answer.status, &answer.output[..], answer.pieces.len()), (status, &b"abc"[..], 2));
        }
    }

    #[test]
    fn wrong_values_are_named() {
        for (options, expected) in [
            (&[("after", "x")][..], "option 'after' is 'x', but must be a size such as 64k (k, m, g)"),
            (&[("messages", "1.5")], "option 'messages' is '1.5', but must be a whole number"),
        ] {
            assert_eq!(Harness::new(&TABLE, options).unwrap_err().text(), expected);
        }
    }
}
