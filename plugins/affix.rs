//! A text at one side of each message: `prefix` and `suffix`.
//!
//! On a raw stream, which has no messages, it goes beside what each read brought, and what one read brings is up to the
//! network. Where that matters, frame the stream.

use resay_plugin::{Call, Draft, Error, Io, OptionSpec, Process, Setup, Status, Table, Transform};
use std::ffi::CStr;

/// The bound of the output is a part of the table, so it holds for every text.
const TEXT_BYTES_MAX: usize = 1024;

/// The text, before the message or behind it.
#[derive(Debug)]
pub(crate) struct Affix<const IS_BEFORE: bool> {
    text: Vec<u8>,
}

pub(crate) type Prefix = Affix<true>;
pub(crate) type Suffix = Affix<false>;

impl<const IS_BEFORE: bool> Affix<IS_BEFORE> {
    /// The table, for a name, a summary and the one option, `text`.
    pub(crate) const fn table(
        id: &'static CStr,
        summary: &'static CStr,
        options: &'static [OptionSpec],
    ) -> Table {
        let draft: Draft<Self> = Table::process(id);
        draft
            .version(resay_plugin::package_version!())
            .summary(summary)
            .options(options)
            .bound(1, 1, TEXT_BYTES_MAX as u32)
            .build()
    }
}

impl<const IS_BEFORE: bool> Transform for Affix<IS_BEFORE> {
    type Session = ();

    fn create(setup: &Setup<'_>) -> Result<Self, Error> {
        Ok(Affix { text: setup.options.bytes_within("text", TEXT_BYTES_MAX)?.to_owned() })
    }
}

impl<const IS_BEFORE: bool> Process for Affix<IS_BEFORE> {
    fn process(&self, _: Call<'_, ()>, io: &mut Io<'_>) -> Status {
        let input = io.input();
        if io.is_only_end() {
            return Status::Ok; // the end of a raw stream is no message
        }
        if io.lacks_room(self.text.len() + input.len()) {
            return Status::MoreOut;
        }
        let text = self.text.as_slice();
        for part in if IS_BEFORE { [text, input] } else { [input, text] } {
            io.write(part);
        }
        io.consume(input.len());
        Status::Ok
    }
}

#[cfg(test)]
mod tests {
    use super::{TEXT_BYTES_MAX, Table};
    use crate::{prefix, suffix};
    use resay_plugin::harness::Harness;

    const TABLES: [&Table; 2] = [&prefix::TABLE, &suffix::TABLE];

    fn with(table: &'static Table, text: &str) -> Harness {
        Harness::new(table, &[("text", text)]).unwrap()
    }

    #[test]
    fn each_message() {
        for (table, expected) in [(&prefix::TABLE, b"> hello"), (&suffix::TABLE, b"hello> ")] {
            let affix = with(table, "> ");
            assert_eq!(affix.message(b"hello").unwrap(), expected);
            assert_eq!(affix.message(b"").unwrap(), b"> ");
            let mut session = affix.session().unwrap();
            assert_eq!(session.datagram(b"hello").output, expected);
            assert_eq!(session.datagram(b"").output, b"> ");
        }
    }

    #[test]
    fn each_read_of_a_raw_stream_and_not_its_end() {
        for (table, expected) in [(&prefix::TABLE, b">a>b"), (&suffix::TABLE, b"a>b>")] {
            assert_eq!(with(table, ">").stream(&[b"a", b"b"]).unwrap(), expected);
            assert_eq!(with(table, ">").stream(&[]).unwrap(), b"");
        }
    }

    #[test]
    fn every_length() {
        for text_len in [0, 1, 63, 64, TEXT_BYTES_MAX] {
            let text = "t".repeat(text_len);
            let [prefix, suffix] = TABLES.map(|table| with(table, &text));
            for len in (0..70).chain([1000, 70_000]) {
                let message = "m".repeat(len);
                let answer = prefix.message(message.as_bytes()).unwrap();
                assert_eq!(answer, [text.as_bytes(), message.as_bytes()].concat());
                let answer = suffix.message(message.as_bytes()).unwrap();
                assert_eq!(answer, [message.as_bytes(), text.as_bytes()].concat());
            }
        }
    }

    #[test]
    fn any_room_will_do() {
        for (table, expected) in [(&prefix::TABLE, b"> hello"), (&suffix::TABLE, b"hello> ")] {
            for room in 0..10 {
                let affix = with(table, "> ").with_room(room);
                assert_eq!(affix.message(b"hello").unwrap(), expected, "{room}");
            }
        }
    }

    #[test]
    fn texts_that_cannot_be() {
        for table in TABLES {
            let error = Harness::new(table, &[]).unwrap_err();
            assert_eq!(error.text(), "option 'text' must be given");
            let long = "t".repeat(TEXT_BYTES_MAX + 1);
            let error = Harness::new(table, &[("text", &long)]).unwrap_err();
            assert!(error.text().starts_with("option 'text' is 'ttt"), "{error}");
            assert!(error.text().ends_with("must be at most 1024 bytes"), "{error}");
        }
    }
}
