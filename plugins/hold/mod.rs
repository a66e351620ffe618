//! `hold`: nothing is answered any more, and connections stay open: a server that hangs.
//!
//! With options, what comes before the n-th message, or before the one that reaches so many bytes, is answered. On a raw
//! stream each read is a message. A datagram is a conversation of its own, so the counts begin anew with each.

use resay_plugin::{Call, Counter, Error, Limits, Map, OptionSpec, Setup, Status, Table, Tally, Transform};

/// The table: bundled into the engine, and exported by `libhold`.
pub static TABLE: Table = Table::map::<Hold>(c"hold")
    .version(resay_plugin::package_version!())
    .summary(c"nothing is answered, and connections stay open")
    .options(OPTIONS)
    .build();

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::size(c"after", c"hold when so many bytes have come; 0: however many").or(c"0"),
    OptionSpec::integer(
        c"messages",
        c"hold when so many messages have come; 0: however many, or the first without 'after'",
    )
    .or(c"0"),
];

#[derive(Debug)]
struct Hold {
    limits: Limits,
    held: Counter,
}

impl Transform for Hold {
    /// What a connection has brought.
    type Session = Tally;

    fn create(setup: &Setup<'_>) -> Result<Self, Error> {
        let limits = Limits::read(&setup.options, "after", "messages")?;
        Ok(Self { limits, held: setup.counter(c"held") })
    }
}

impl Map for Hold {
    fn map(&self, call: Call<'_, Tally>, data: &mut [u8]) -> Status {
        call.session.count(data.len());
        if !self.limits.reached(call.session) {
            return Status::Ok;
        }
        call.host.add(self.held, 1);
        Status::Drop
    }
}

#[cfg(test)]
mod tests {
    use super::TABLE;
    use resay_plugin::abi::{RESAY_DROP, RESAY_OK};
    use resay_plugin::harness::{Harness, assert_refused};

    /// How many messages of three bytes are answered, of five.
    fn answered(options: &[(&str, &str)]) -> usize {
        let hold = Harness::new(&TABLE, options).unwrap();
        let mut session = hold.session().unwrap();
        let statuses: Vec<_> = (0..5).map(|_| session.message(b"abc").status).collect();
        let answered = statuses.iter().take_while(|status| **status == RESAY_OK).count();
        assert!(statuses[answered..].iter().all(|status| *status == RESAY_DROP), "{statuses:?}");
        assert_eq!(hold.counter("held"), Some(5 - answered as u64));
        answered
    }

    #[test]
    fn from_the_first_message_on_or_from_a_limit() {
        for (options, n) in [
            (&[][..], 0),
            (&[("after", "3")], 0),
            (&[("after", "4")], 1),
            (&[("messages", "4")], 3),
            (&[("messages", "4"), ("after", "7")], 2),
            (&[("after", "1k")], 5),
        ] {
            assert_eq!(answered(options), n, "{options:?}");
        }
    }

    #[test]
    fn connections_are_counted_apart() {
        let hold = Harness::new(&TABLE, &[("messages", "2")]).unwrap();
        for _ in 0..2 {
            let mut session = hold.session().unwrap();
            assert_eq!([session.read(b"x").status, session.read(b"x").status], [RESAY_OK, RESAY_DROP]);
        }
        assert_eq!(hold.session().unwrap().datagram(b"x").status, RESAY_OK);
    }

    #[test]
    fn wrong_values_are_named() {
        assert_refused(
            &TABLE,
            &[("after", "x", "a size such as 64k (k, m, g)"), ("messages", "x", "a whole number")],
        );
    }
}
