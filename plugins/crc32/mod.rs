//! `crc32`: the CRC-32 of each message (ISO-HDLC, the one of zip, PNG and Ethernet) is appended to it, comes back
//! instead of it as eight hexadecimal digits, or is checked and taken off.
//!
//! A raw stream is one message: it ends with the peer's half-close, and its CRC comes then. One that ends before
//! it brought a byte gets no answer.

mod sum;

use resay_plugin::{
    Call, Draft, Error, Io, Level, OptionSpec, Options, Process, Setup, Status, Table, Transform,
};

/// The table: bundled into the engine, and exported by `libcrc32`.
pub static TABLE: Table = described()
    .bound(1, 1, SUM_BYTES as u32)
    .select(|options| match mode(options) {
        Ok(Mode::Replace) => Some(&REPLACE_TABLE),
        Ok(Mode::Check) => Some(&CHECK_TABLE),
        _ => None,
    })
    .build();

static REPLACE_TABLE: Table = described().bound(0, 1, DIGITS as u32).build();
static CHECK_TABLE: Table = described().bound(1, 1, 0).build();

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::choice(
        c"mode",
        c"append|replace|check",
        c"add four bytes, answer with eight digits, or verify the last four bytes and take them off",
    )
    .or(c"append"),
    OptionSpec::choice(c"order", c"be|le", c"of the four bytes: the highest first, or the lowest").or(c"be"),
];

const SUM_BYTES: usize = 4;
const DIGITS: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Append,
    Replace,
    Check,
}

fn mode(options: &Options<'_>) -> Result<Mode, Error> {
    options.choice("mode", &[("append", Mode::Append), ("replace", Mode::Replace), ("check", Mode::Check)])
}

/// What the tables have in common: all but the bound.
const fn described() -> Draft<Crc32> {
    Table::process::<Crc32>(c"crc32")
        .version(resay_plugin::package_version!())
        .summary(c"appends, answers with or checks the CRC-32 of messages")
        .options(OPTIONS)
}

#[derive(Debug)]
struct Crc32 {
    mode: Mode,
    is_big_endian: bool,
}

/// Of a raw stream; a message comes whole and leaves nothing here.
#[derive(Debug, Default)]
struct Session {
    sum: u32,
    has_begun: bool,
}

impl Transform for Crc32 {
    type Session = Session;

    fn create(setup: &Setup<'_>) -> Result<Self, Error> {
        let is_big_endian = setup.options.choice("order", &[("be", true), ("le", false)])?;
        Ok(Self { mode: mode(&setup.options)?, is_big_endian })
    }
}

impl Process for Crc32 {
    fn process(&self, call: Call<'_, Session>, io: &mut Io<'_>) -> Status {
        let Call { session, host } = call;
        if io.begins_message() {
            *session = Session { sum: 0, has_begun: true };
        }
        session.has_begun |= !io.input().is_empty();
        let is_last = io.is_last() && session.has_begun;

        let input = io.input();
        let body_len = input.len().saturating_sub(if self.mode == Mode::Check { SUM_BYTES } else { 0 });
        let (body, behind) = input.split_at(body_len);
        let out_len = match self.mode {
            Mode::Append => body_len + if is_last { SUM_BYTES } else { 0 },
            Mode::Replace => {
                if is_last {
                    DIGITS
                } else {
                    0
                }
            }
            Mode::Check => body_len,
        };
        if io.lacks_room(out_len) {
            return Status::MoreOut;
        }
        session.sum = sum::extended(session.sum, body);
        if self.mode != Mode::Replace {
            io.write(body);
        }
        io.consume(body_len);
        if !is_last {
            return if behind.is_empty() { Status::Ok } else { Status::MoreIn };
        }
        match self.mode {
            Mode::Append => {
                io.write(&self.bytes(session.sum));
            }
            Mode::Replace => {
                io.write(&digits(session.sum));
            }
            Mode::Check => {
                let expected = self.bytes(session.sum);
                if behind != expected {
                    host.log(
                        Level::Debug,
                        format_args!("the message ends with {behind:02x?}, but its CRC is {expected:02x?}"),
                    );
                    return Status::BadData;
                }
                io.consume(behind.len());
            }
        }
        Status::Ok
    }
}

impl Crc32 {
    fn bytes(&self, sum: u32) -> [u8; SUM_BYTES] {
        if self.is_big_endian { sum.to_be_bytes() } else { sum.to_le_bytes() }
    }
}

/// As people write it: the highest digit first, whatever `order` says of bytes.
fn digits(sum: u32) -> [u8; DIGITS] {
    core::array::from_fn(|place| b"0123456789abcdef"[(sum >> (28 - 4 * place) & 0xf) as usize])
}

#[cfg(test)]
mod tests {
    use super::TABLE;
    use resay_plugin::abi::{RESAY_E_DATA, RESAY_OK};
    use resay_plugin::harness::{Harness, assert_refused};

    /// The check value of the CRC's definition, for "123456789".
    const SUM: u32 = 0xcbf4_3926;

    fn crc32(mode: &str, order: &str) -> Harness {
        Harness::new(&TABLE, &[("mode", mode), ("order", order)]).unwrap()
    }

    #[test]
    fn the_check_value() {
        let message = b"123456789";
        let appended = [&message[..], &SUM.to_be_bytes()].concat();
        assert_eq!(Harness::new(&TABLE, &[]).unwrap().message(message).unwrap(), appended);
        assert_eq!(crc32("append", "be").message(message).unwrap(), appended);
        let appended = [&message[..], &SUM.to_le_bytes()].concat();
        assert_eq!(crc32("append", "le").message(message).unwrap(), appended);
        for order in ["be", "le"] {
            assert_eq!(crc32("replace", order).message(message).unwrap(), b"cbf43926");
        }
        assert_eq!(crc32("replace", "be").message(b"").unwrap(), b"00000000");
        assert_eq!(crc32("append", "be").message(b"").unwrap(), [0; 4]);
        assert_eq!(crc32("check", "be").message(&[0; 4]).unwrap(), b"");
    }

    #[test]
    fn what_append_adds_check_takes_off() {
        for order in ["be", "le"] {
            let (append, check) = (crc32("append", order), crc32("check", order));
            for len in (0..100).chain([1000, 70_000]) {
                let message: Vec<u8> = (0..len as u32).map(|i| (i * 7 + i / 3) as u8).collect();
                let mut sealed = append.message(&message).unwrap();
                assert_eq!(check.message(&sealed).unwrap(), message);
                sealed[len / 2] ^= 4;
                assert_eq!(check.session().unwrap().message(&sealed).status, RESAY_E_DATA);
            }
            let other = crc32("check", if order == "be" { "le" } else { "be" });
            assert!(other.message(&append.message(b"x").unwrap()).is_err());
        }
        for short in [&b""[..], b"a", b"abc"] {
            assert!(crc32("check", "be").message(short).is_err());
        }
    }

    #[test]
    fn messages_of_one_connection_are_summed_apart() {
        let replace = crc32("replace", "be");
        let mut session = replace.session().unwrap();
        for _ in 0..3 {
            assert_eq!(session.message(b"123456789").output, b"cbf43926");
            assert_eq!(session.message(b"").output, b"00000000");
        }
    }

    #[test]
    fn a_raw_stream_is_one_message_however_it_is_split() {
        let stream = b"123456789";
        let sealed = [&stream[..], &SUM.to_be_bytes()].concat();
        for (mode, input, expected) in [
            ("append", &stream[..], &sealed[..]),
            ("replace", stream, b"cbf43926"),
            ("check", &sealed, stream),
        ] {
            let crc32 = crc32(mode, "be");
            crc32.assert_splits(input, expected);
            let mut session = crc32.session().unwrap();
            let end = session.end();
            assert_eq!((end.status, end.output), (RESAY_OK, vec![]), "an empty stream");
        }
        for bad in [&sealed[..12], &sealed[1..], b"abc", b"a"] {
            for at in 0..bad.len() {
                assert!(crc32("check", "be").stream(&[&bad[..at], &bad[at..]]).is_err());
            }
        }
    }

    #[test]
    fn a_message_is_summed_once_however_often_room_is_asked_for() {
        let sealed = [&b"123456789"[..], &SUM.to_be_bytes()].concat();
        for (mode, input, expected, need) in [
            ("append", &b"123456789"[..], &sealed[..], 13),
            ("replace", b"123456789", b"cbf43926", 8),
            ("check", &sealed, b"123456789", 9),
        ] {
            for room in [0, 1, need - 1, need, 100] {
                let crc32 = crc32(mode, "be").with_room(room);
                let mut session = crc32.session().unwrap();
                for _ in 0..2 {
                    let answer = session.message(input);
                    assert_eq!((answer.status, &answer.output[..]), (RESAY_OK, expected), "{mode} {room}");
                    assert_eq!(answer.pieces.len(), if room < need { 2 } else { 1 }, "{mode} {room}");
                }
                crc32.assert_splits(input, expected);
            }
        }
    }

    #[test]
    fn data_is_passed_on_as_it_comes() {
        let append = crc32("append", "be");
        let mut session = append.session().unwrap();
        assert_eq!(session.read(b"1234").output, b"1234");
        let check = crc32("check", "be");
        let mut session = check.session().unwrap();
        assert_eq!(session.read(b"1234567").output, b"123");
        assert_eq!(session.read(b"8").output, b"4");
    }

    #[test]
    fn wrong_values_are_named() {
        let refused = [("mode", "verify", "append, replace or check"), ("order", "big", "be or le")];
        assert_refused(&TABLE, &refused);
    }
}
