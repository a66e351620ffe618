//! ASCII letters, in place: at the speed of memory.

use crate::UNICODE;
use resay_plugin::{Call, Error, Map, Setup, Status, Transform, with_widest_vectors};

/// Shorter data is done before the processor is asked what it can.
const WIDE_BYTES_MIN: usize = 128;

#[derive(Debug)]
pub(crate) struct Ascii;

impl Transform for Ascii {
    type Session = ();

    fn create(setup: &Setup<'_>) -> Result<Self, Error> {
        setup.options.bool(UNICODE)?; // a value that is neither on nor off chose this table
        Ok(Ascii)
    }
}

impl Map for Ascii {
    #[inline]
    fn map(&self, _: Call<'_, ()>, data: &mut [u8]) -> Status {
        if data.len() < WIDE_BYTES_MIN {
            uppercase(data);
        } else {
            with_widest_vectors(|| {
                // So many that eight vectors of AVX2 are changed between two jumps.
                let mut blocks = data.chunks_exact_mut(256);
                blocks.by_ref().for_each(uppercase);
                uppercase(blocks.into_remainder());
            });
        }
        Status::Ok
    }
}

/// A loop without branches, for the compiler to vectorise. The letters are moved to the top of the signed range, where one
/// comparison finds them: vectors have no unsigned one.
#[inline(always)]
fn uppercase(data: &mut [u8]) {
    const TOP: u8 = i8::MAX as u8;
    for byte in data {
        let is_lowercase = (byte.wrapping_add(TOP - b'z') as i8) > (TOP - 26) as i8;
        *byte ^= u8::from(is_lowercase) << 5;
    }
}

#[cfg(test)]
mod tests {
    use crate::TABLE;
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
    fn every_alignment_and_length() {
        let mut memory: Vec<u8> = (0..300u32).map(|i| (i * 7 + i / 3) as u8).collect();
        let before = memory.clone();
        for start in 0..64 {
            for len in 0..=200 {
                super::uppercase(&mut memory[start..start + len]);
                resay_plugin::with_widest_vectors(|| super::uppercase(&mut memory[start..start + len]));
                for (i, (now, was)) in memory.iter().zip(&before).enumerate() {
                    let inside = (start..start + len).contains(&i);
                    assert_eq!(
                        *now,
                        if inside { was.to_ascii_uppercase() } else { *was },
                        "{start} {len} {i}"
                    );
                }
                memory.copy_from_slice(&before);
            }
        }
    }

    #[test]
    fn reads_come_back_as_they_came() {
        let uppercase = Harness::new(&TABLE, &[]).unwrap();
        assert_eq!(uppercase.stream(&[b"he", b"", b"llo, \xc3", b"\xa4!"]).unwrap(), b"HELLO, \xc3\xa4!");
    }
}
