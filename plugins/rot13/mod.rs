//! `rot13`: ASCII letters move by half the alphabet, in place; twice is the plain echo.

use crate::bytes::{change_each, is_between};
use resay_plugin::{Call, Error, Map, Setup, Status, Table, Transform};

/// The table: bundled into the engine, and exported by `librot13`.
pub static TABLE: Table = Table::map::<Rot13>(c"rot13")
    .version(resay_plugin::package_version!())
    .summary(c"ASCII letters move by half the alphabet")
    .bytewise()
    .build();

#[derive(Debug)]
struct Rot13;

impl Transform for Rot13 {
    type Session = ();

    fn create(_: &Setup<'_>) -> Result<Self, Error> {
        Ok(Rot13)
    }
}

impl Map for Rot13 {
    #[inline]
    fn map(&self, _: Call<'_, ()>, data: &mut [u8]) -> Status {
        change_each(data, rot13);
        Status::Ok
    }
}

#[inline(always)]
fn rot13(byte: u8) -> u8 {
    const HALF: u8 = 13;
    let letter = byte | 0x20;
    let forth = u8::from(is_between(letter, b'a', b'm')) * HALF;
    let back = u8::from(is_between(letter, b'n', b'z')) * HALF;
    byte.wrapping_add(forth).wrapping_sub(back)
}

#[cfg(test)]
mod tests {
    use super::TABLE;
    use resay_plugin::harness::Harness;

    fn expected(byte: u8) -> u8 {
        const FROM: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        const TO: &[u8] = b"NOPQRSTUVWXYZABCDEFGHIJKLMnopqrstuvwxyzabcdefghijklm";
        FROM.iter().position(|from| *from == byte).map_or(byte, |place| TO[place])
    }

    #[test]
    fn every_byte_at_every_place() {
        let rot13 = Harness::new(&TABLE, &[]).unwrap();
        for byte in 0..=255u8 {
            for len in (0..40).chain([100, 127, 128, 129, 200]) {
                assert_eq!(rot13.message(&vec![byte; len]).unwrap(), vec![expected(byte); len]);
            }
        }
    }

    #[test]
    fn mixed_bytes_and_twice() {
        let rot13 = Harness::new(&TABLE, &[]).unwrap();
        let data: Vec<u8> = (0..5000u32).map(|i| (i * 7 + i / 3) as u8).collect();
        let once = rot13.message(&data).unwrap();
        assert_eq!(once, data.iter().copied().map(expected).collect::<Vec<u8>>());
        assert_eq!(rot13.message(&once).unwrap(), data);
        assert_eq!(rot13.stream(&[b"Uryyb", b"", b", jbeyq!"]).unwrap(), b"Hello, world!");
    }
}
