//! `reset`: a connection is reset, by RST where its transport has one, instead of answering its n-th message, or the
//! one that brings it to so many bytes; without options, its first message.
//!
//! On a raw stream each read is a message. A datagram is a conversation of its own, so the counts begin anew with
//! each: one that reaches them gets no answer.

use resay_plugin::{Call, Counter, Error, Limits, Map, OptionSpec, Setup, Status, Table, Tally, Transform};

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
];

#[derive(Debug)]
struct Reset {
    limits: Limits,
    resets: Counter,
}

impl Transform for Reset {
    /// What a connection has brought.
    type Session = Tally;

    fn create(setup: &Setup<'_>) -> Result<Self, Error> {
        let limits = Limits::read(&setup.options, "after", "messages")?;
        Ok(Self { limits, resets: setup.counter(c"resets") })
    }
}

impl Map for Reset {
    fn map(&self, call: Call<'_, Tally>, data: &mut [u8]) -> Status {
        call.session.count(data.len());
        if !self.limits.reached(call.session) {
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
