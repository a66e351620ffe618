//! `reset`: a connection is reset, by RST where its transport has one, instead of answering its n-th message, or the
//! one that brings it to so many bytes; without options, its first message.
//!
//! On a raw stream each read is a message. A datagram is a conversation of its own, so the counts begin anew with
//! each: one that reaches them gets no answer.

use crate::first::{self, First};
use resay_plugin::{Call, Counter, Error, Limits, Map, OptionSpec, Peer, Setup, Status, Table, Transform};

/// The table: bundled into the engine, and exported by `libreset`.
pub static TABLE: Table = Table::map::<Reset>(c"reset")
    .version(resay_plugin::package_version!())
    .summary(c"a connection is reset instead of answering")
    .options(OPTIONS)
    .build();

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::size(c"after", c"reset when so many bytes have come; 0: however many").or(c"0"),
    OptionSpec::integer(
        c"messages",
        c"reset when so many messages have come; 0: however many, or the first without 'after'",
    )
    .or(c"0"),
    first::OPTION,
];

#[derive(Debug)]
struct Reset {
    limits: Limits,
    first: First,
    resets: Counter,
}

impl Transform for Reset {
    type Session = first::Session;

    fn create(setup: &Setup<'_>) -> Result<Self, Error> {
        let limits = Limits::read(&setup.options, "after", "messages")?;
        let first = First::read(&setup.options)?;
        Ok(Self { limits, first, resets: setup.counter(c"resets") })
    }

    fn open(&self, call: Call<'_, first::Session>, _: &Peer<'_>) -> Result<(), Error> {
        self.first.open(call.session);
        Ok(())
    }
}

impl Map for Reset {
    fn map(&self, call: Call<'_, first::Session>, data: &mut [u8]) -> Status {
        call.session.tally.count(data.len());
        if call.session.is_spared || !self.limits.reached(&call.session.tally) {
            return Status::Ok;
        }
        call.host.add(self.resets, 1);
        Status::Reset
    }
}

#[cfg(test)]
mod tests {
    use super::TABLE;
    use resay_plugin::abi::{RESAY_OK, RESAY_RESET};
    use resay_plugin::harness::Harness;

    /// How many messages of three bytes are answered before the reset.
    fn answered(options: &[(&str, &str)]) -> usize {
        let reset = Harness::new(&TABLE, options).unwrap();
        let at_once =
            [&[][..], &[("messages", "1")], &[("messages", "0"), ("after", "0")]].contains(&options);
        for _ in 0..2 {
            // Another connection does not count.
            assert_eq!(reset.session().unwrap().message(b"").status == RESAY_OK, !at_once);
        }
        let mut session = reset.session().unwrap();
        let before = reset.counter("resets").unwrap();
        for n in 0..100 {
            let answer = session.message(b"abc");
            if answer.status == RESAY_RESET {
                assert_eq!(reset.counter("resets").unwrap(), before + 1);
                return n;
            }
            assert_eq!((answer.status, &answer.output[..]), (RESAY_OK, &b"abc"[..]));
        }
        100
    }

    #[test]
    fn whichever_limit_comes_first() {
        for (options, n) in [
            (&[][..], 0),
            (&[("messages", "0"), ("after", "0")], 0),
            (&[("after", "1")], 0),
            (&[("after", "3")], 0),
            (&[("after", "4")], 1),
            (&[("after", "10")], 3),
            (&[("after", "1k")], 100),
            (&[("messages", "1")], 0),
            (&[("messages", "5")], 4),
            (&[("messages", "5"), ("after", "7")], 2),
            (&[("messages", "2"), ("after", "7")], 1),
            (&[("messages", "2"), ("after", "0")], 1),
        ] {
            assert_eq!(answered(options), n, "{options:?}");
        }
    }

    #[test]
    fn the_first_connections_only() {
        let reset = Harness::new(&TABLE, &[("first", "2"), ("messages", "2")]).unwrap();
        let mut sessions: Vec<_> = (0..4).map(|_| reset.session().unwrap()).collect();
        let ends = |session: &mut resay_plugin::harness::Session<'_>| {
            [session.message(b"x").status, session.message(b"x").status]
        };
        let ended: Vec<_> = sessions.iter_mut().map(ends).collect();
        assert_eq!(ended[..2], [[RESAY_OK, RESAY_RESET]; 2]);
        assert_eq!(ended[2..], [[RESAY_OK, RESAY_OK]; 2]);
        assert_eq!(reset.counter("resets"), Some(2));
    }

    #[test]
    fn reads_and_datagrams() {
        let reset = Harness::new(&TABLE, &[("after", "4")]).unwrap();
        let mut session = reset.session().unwrap();
        assert_eq!(session.read(b"abc").status, RESAY_OK);
        assert_eq!(session.read(b"d").status, RESAY_RESET);
        assert_eq!(reset.session().unwrap().datagram(b"abc").status, RESAY_OK);
        assert_eq!(reset.session().unwrap().datagram(b"abcd").status, RESAY_RESET);
    }

    #[test]
    fn wrong_values_are_named() {
        for (options, expected) in [
            (&[("after", "x")][..], "option 'after' is 'x', but must be a size such as 64k (k, m, g)"),
            (
                &[("messages", "-1")],
                "option 'messages' is '-1', but must be a number in the range of the option",
            ),
        ] {
            assert_eq!(Harness::new(&TABLE, options).unwrap_err().text(), expected);
        }
    }
}
