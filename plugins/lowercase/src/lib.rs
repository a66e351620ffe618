//! `lowercase`: ASCII letters come back small, in place and at the speed of memory.
#![forbid(unsafe_code)]

use resay_plugin::{Call, Error, Map, Setup, Status, Table, Transform, with_widest_vectors};

/// The table: bundled into the engine, and exported by `liblowercase`.
pub static TABLE: Table = Table::map::<Lowercase>(c"lowercase")
    .version(resay_plugin::package_version!())
    .summary(c"ASCII letters come back small")
    .bytewise()
    .build();

/// Shorter data is done before the processor is asked what it can.
const WIDE_BYTES_MIN: usize = 128;

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
        if data.len() < WIDE_BYTES_MIN {
            lowercase(data);
        } else {
            with_widest_vectors(|| lowercase(data));
        }
        Status::Ok
    }
}

/// A loop without branches, for the compiler to vectorise.
#[inline(always)]
fn lowercase(data: &mut [u8]) {
    for byte in data {
        let is_capital = byte.wrapping_sub(b'A') < 26;
        *byte |= u8::from(is_capital) << 5;
    }
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
    fn every_alignment_and_length() {
        let before: Vec<u8> = (0..300u32).map(|i| (i * 7 + i / 3) as u8).collect();
        for start in 0..64 {
            for len in 0..=200 {
                let mut expected = before.clone();
                expected[start..start + len].make_ascii_lowercase();
                let mut plain = before.clone();
                super::lowercase(&mut plain[start..start + len]);
                assert_eq!(plain, expected, "{start} {len}");
                let mut wide = before.clone();
                resay_plugin::with_widest_vectors(|| super::lowercase(&mut wide[start..start + len]));
                assert_eq!(wide, expected, "{start} {len}");
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
