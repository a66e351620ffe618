//! Data changed byte by byte, in place and at the speed of memory.

use resay_plugin::with_widest_vectors;

/// Shorter data is done before the processor is asked what it can.
const WIDE_BYTES_MIN: usize = 128;

/// So many that eight vectors of AVX2 are changed between two jumps.
const BLOCK_BYTES: usize = 256;

/// Makes each byte `change(byte)`. That is compiled into a loop of vectors if it has no branches and is a function marked
/// `#[inline(always)]`.
#[inline]
pub(crate) fn change_each(data: &mut [u8], change: impl Fn(u8) -> u8 + Copy) {
    if data.len() < WIDE_BYTES_MIN {
        change_block(data, change);
    } else {
        with_widest_vectors(|| {
            let mut blocks = data.chunks_exact_mut(BLOCK_BYTES);
            blocks.by_ref().for_each(|block| change_block(block, change));
            change_block(blocks.into_remainder(), change);
        });
    }
}

#[inline(always)]
fn change_block(data: &mut [u8], change: impl Fn(u8) -> u8) {
    for byte in data {
        *byte = change(*byte);
    }
}

/// Whether a byte is from `first` to `last`. Both are moved to the top of the signed range, where one comparison finds what
/// is between them: vectors have no unsigned one.
#[inline(always)]
pub(crate) fn is_between(byte: u8, first: u8, last: u8) -> bool {
    const TOP: u8 = i8::MAX as u8;
    byte.wrapping_add(TOP - last) as i8 >= (TOP - (last - first)) as i8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_is_both_ends_and_what_is_between() {
        for (first, last) in [(b'a', b'z'), (b'A', b'Z'), (b'n', b'n'), (0, 127)] {
            for byte in 0..=255 {
                assert_eq!(is_between(byte, first, last), (first..=last).contains(&byte), "{byte}");
            }
        }
    }

    #[test]
    fn every_alignment_and_length() {
        #[inline(always)]
        fn change(byte: u8) -> u8 {
            byte ^ (u8::from(is_between(byte, b'a', b'z')) << 5)
        }
        let before: Vec<u8> = (0..700u32).map(|i| (i * 7 + i / 3) as u8).collect();
        let mut memory = before.clone();
        for start in 0..64 {
            for len in (0..=200).chain([255, 256, 257, 300, 512, 600]) {
                change_each(&mut memory[start..start + len], change);
                for (i, (now, was)) in memory.iter().zip(&before).enumerate() {
                    let inside = (start..start + len).contains(&i);
                    let expected = if inside { was.to_ascii_uppercase() } else { *was };
                    assert_eq!(*now, expected, "{start} {len} {i}");
                }
                memory.copy_from_slice(&before);
            }
        }
    }

    #[test]
    fn short_and_long_data_are_changed_alike() {
        for len in [WIDE_BYTES_MIN - 1, WIDE_BYTES_MIN, BLOCK_BYTES + 1] {
            for byte in 0..=255u8 {
                let mut data = vec![byte; len];
                change_each(&mut data, |byte| byte.wrapping_mul(3));
                assert_eq!(data, vec![byte.wrapping_mul(3); len]);
            }
        }
    }
}
