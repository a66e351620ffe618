//! `lowercase`: ASCII letters come back small, in place and at the speed of memory.

use crate::bytes::{change_each, is_between};
use resay_plugin::{Call, Error, Map, Setup, Status, Table, Transform};

/// The table: bundled into the engine, and exported by `liblowercase`.
pub static TABLE: Table = Table::map::<Lowercase>(c"lowercase")
    .version(resay_plugin::package_version!())
    .summary(c"ASCII letters come back small")
    .bytewise()
    .build();

#[derive(Debug)]
struct Lowercase;

impl Transform for Lowercase {
    type Session = ();

    fn create(_: &Setup<'_>) -> Result<Self, Error> {
        Ok(Lowercase)
    }
}

impl Map for Lowercase {
    #[inline]
    fn map(&self, _: Call<'_, ()>, data: &mut [u8]) -> Status {
        change_each(data, lowercase);
        Status::Ok
    }
}

#[inline(always)]
fn lowercase(byte: u8) -> u8 {
    byte | (u8::from(is_between(byte, b'A', b'Z')) << 5)
}

#[cfg(test)]
mod tests {
    use super::TABLE;
    use resay_plugin::harness::Harness;

    #[test]
    fn every_byte_at_every_place() {
        let lowercase = Harness::new(&TABLE, &[]).unwrap();
        for byte in 0..=255u8 {
            for len in (0..40).chain([100, 127, 128, 129, 200]) {
                let data = vec![byte; len];
                assert_eq!(lowercase.message(&data).unwrap(), vec![byte.to_ascii_lowercase(); len]);
            }
        }
    }

    #[test]
    fn reads_come_back_as_they_came() {
        let lowercase = Harness::new(&TABLE, &[]).unwrap();
        assert_eq!(lowercase.stream(&[b"HE", b"", b"LLO, \xc3", b"\x84!"]).unwrap(), b"hello, \xc3\x84!");
    }

    #[test]
    fn has_no_options() {
        assert!(Harness::new(&TABLE, &[("loud", "1")]).is_err());
    }
}
