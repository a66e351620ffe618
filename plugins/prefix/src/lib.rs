//! `prefix`: a text goes before each message.
//!
//! On a raw stream, which has no messages, it goes before what each read brought, and what one read brings is up to the
//! network. Where that matters, frame the stream.
#![forbid(unsafe_code)]

use resay_plugin::{Call, Error, Io, OptionSpec, Process, Setup, Status, Table, Transform};

/// The table: bundled into the engine, and exported by `libprefix`.
pub static TABLE: Table = Table::process::<Prefix>(c"prefix")
    .version(resay_plugin::package_version!())
    .summary(c"a text goes before each message")
    .options(OPTIONS)
    .bound(1, 1, TEXT_BYTES_MAX as u32)
    .build();

const OPTIONS: &[OptionSpec] = &[OptionSpec::text(c"text", c"what goes before; at most 1024 bytes")];

/// The bound of the output is a part of the table, so it holds for every text.
const TEXT_BYTES_MAX: usize = 1024;

#[derive(Debug)]
struct Prefix {
    text: Vec<u8>,
}

impl Transform for Prefix {
    type Session = ();

    fn create(setup: &Setup<'_>) -> Result<Self, Error> {
        Ok(Prefix { text: setup.options.bytes_within("text", TEXT_BYTES_MAX)?.to_owned() })
    }
}

impl Process for Prefix {
    fn process(&self, _: Call<'_, ()>, io: &mut Io<'_>) -> Status {
        let input = io.input();
        if io.is_only_end() {
            return Status::Ok; // the end of a raw stream is no message
        }
        if io.lacks_room(self.text.len() + input.len()) {
            return Status::MoreOut;
        }
        for part in [self.text.as_slice(), input] {
            io.write(part);
        }
        io.consume(input.len());
        Status::Ok
    }
}

#[cfg(test)]
mod tests {
    use super::{TABLE, TEXT_BYTES_MAX};
    use resay_plugin::harness::Harness;

    fn with(text: &str) -> Harness {
        Harness::new(&TABLE, &[("text", text)]).unwrap()
    }

    #[test]
    fn each_message() {
        let prefix = with("> ");
        assert_eq!(prefix.message(b"hello").unwrap(), b"> hello");
        assert_eq!(prefix.message(b"").unwrap(), b"> ");
        let mut session = prefix.session().unwrap();
        assert_eq!(session.datagram(b"hello").output, b"> hello");
        assert_eq!(session.datagram(b"").output, b"> ");
    }

    #[test]
    fn each_read_of_a_raw_stream_and_not_its_end() {
        assert_eq!(with(">").stream(&[b"a", b"b"]).unwrap(), b">a>b");
        assert_eq!(with(">").stream(&[]).unwrap(), b"");
    }

    #[test]
    fn every_length() {
        for text_len in [0, 1, 63, 64, TEXT_BYTES_MAX] {
            let text = vec![b't'; text_len];
            let prefix = with(core::str::from_utf8(&text).unwrap());
            for len in (0..70).chain([1000, 70_000]) {
                let message = vec![b'm'; len];
                let answer = prefix.message(&message).unwrap();
                assert_eq!(answer, [text.clone(), message].concat());
            }
        }
    }

    #[test]
    fn any_room_will_do() {
        for room in 0..10 {
            assert_eq!(with("> ").with_room(room).message(b"hello").unwrap(), b"> hello", "{room}");
        }
    }

    #[test]
    fn texts_that_cannot_be() {
        let error = Harness::new(&TABLE, &[]).unwrap_err();
        assert_eq!(error.text(), "option 'text' must be given");
        let long = "t".repeat(TEXT_BYTES_MAX + 1);
        let error = Harness::new(&TABLE, &[("text", &long)]).unwrap_err();
        assert!(error.text().starts_with("option 'text' is 'ttt"), "{error}");
        assert!(error.text().ends_with("must be at most 1024 bytes"), "{error}");
    }
}
