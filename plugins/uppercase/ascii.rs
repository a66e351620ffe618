//! ASCII letters, in place: at the speed of memory.

use super::unicode;
use crate::bytes::{change_each, is_between};
use resay_plugin::{Call, Error, Map, Setup, Status, Transform};

#[derive(Debug)]
pub(crate) struct Ascii;

impl Transform for Ascii {
    type Session = ();

    fn create(setup: &Setup<'_>) -> Result<Self, Error> {
        setup.options.bool(unicode::OPTION)?; // a value that is neither on nor off chose this table
        Ok(Ascii)
    }
}

impl Map for Ascii {
    #[inline]
    fn map(&self, _: Call<'_, ()>, data: &mut [u8]) -> Status {
        change_each(data, uppercase);
        Status::Ok
    }
}

#[inline(always)]
fn uppercase(byte: u8) -> u8 {
    byte ^ (u8::from(is_between(byte, b'a', b'z')) << 5)
}

#[cfg(test)]
mod tests {
    use crate::uppercase::TABLE;
    use resay_plugin::harness::Harness;

    #[test]
    fn every_byte_at_every_place() {
        let uppercase = Harness::new(&TABLE, &[]).unwrap();
        for byte in 0..=255u8 {
            for len in (0..40).chain([100, 127, 128, 129, 200]) {
                let data = vec![byte; len];
                assert_eq!(uppercase.message(&data).unwrap(), vec![byte.to_ascii_uppercase(); len]);
            }
        }
    }

    #[test]
    fn reads_come_back_as_they_came() {
        let uppercase = Harness::new(&TABLE, &[]).unwrap();
        assert_eq!(uppercase.stream(&[b"he", b"", b"llo, \xc3", b"\xa4!"]).unwrap(), b"HELLO, \xc3\xa4!");
    }
}
