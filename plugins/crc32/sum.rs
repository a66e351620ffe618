//! CRC-32/ISO-HDLC: polynomial 0x04c11db7, reflected, all ones at the beginning and inverted at the end. Eight bytes
//! a step, by eight tables: the table `n` has what a byte makes of the sum when `n` bytes follow it.

use std::sync::OnceLock;

/// The polynomial, its bits reversed.
const POLYNOMIAL: u32 = 0xedb8_8320;
const STEP_BYTES: usize = 8;

type Tables = [[u32; 256]; STEP_BYTES];

/// Made when they are first used: 8 KiB that no file has to carry.
fn tables() -> &'static Tables {
    static TABLES: OnceLock<Box<Tables>> = OnceLock::new();
    TABLES.get_or_init(|| Box::new(made()))
}

fn made() -> Tables {
    let mut tables = [[0; 256]; STEP_BYTES];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = sum >> 1 ^ if sum & 1 == 1 { POLYNOMIAL } else { 0 };
            bit += 1;
        }
        tables[0][byte] = sum;
        byte += 1;
    }
    let mut following = 1;
    while following < STEP_BYTES {
        let mut byte = 0;
        while byte < 256 {
            let sum = tables[following - 1][byte];
            tables[following][byte] = sum >> 8 ^ tables[0][(sum & 0xff) as usize];
            byte += 1;
        }
        following += 1;
    }
    tables
}

/// The CRC of what `sum` is the CRC of, followed by `data`. That of nothing is 0.
pub(crate) fn extended(sum: u32, data: &[u8]) -> u32 {
    let (mut sum, tables) = (!sum, tables());
    let steps = data.chunks_exact(STEP_BYTES);
    let rest = steps.remainder();
    for step in steps {
        let low = sum ^ u32::from_le_bytes([step[0], step[1], step[2], step[3]]);
        let high = u32::from_le_bytes([step[4], step[5], step[6], step[7]]);
        let of = |table: usize, word: u32, shift: u32| tables[table][(word >> shift & 0xff) as usize];
        sum = of(7, low, 0)
            ^ of(6, low, 8)
            ^ of(5, low, 16)
            ^ of(4, low, 24)
            ^ of(3, high, 0)
            ^ of(2, high, 8)
            ^ of(1, high, 16)
            ^ of(0, high, 24);
    }
    for byte in rest {
        sum = sum >> 8 ^ tables[0][(sum as u8 ^ byte) as usize];
    }
    !sum
}

#[cfg(test)]
mod tests {
    use super::{POLYNOMIAL, extended};

    /// Bit by bit.
    fn plain(data: &[u8]) -> u32 {
        let mut sum = !0;
        for byte in data {
            sum ^= u32::from(*byte);
            for _ in 0..8 {
                sum = sum >> 1 ^ if sum & 1 == 1 { POLYNOMIAL } else { 0 };
            }
        }
        !sum
    }

    #[test]
    fn known_sums() {
        for (data, sum) in [
            (&b""[..], 0),
            (b"a", 0xe8b7_be43),
            (b"123456789", 0xcbf4_3926),
            (b"The quick brown fox jumps over the lazy dog", 0x414f_a339),
            (&[0; 32], 0x190a_55ad),
            (&[0xff; 32], 0xff6c_ab0b),
        ] {
            assert_eq!(extended(0, data), sum, "{data:?}");
        }
    }

    #[test]
    fn every_length_and_split() {
        let data: Vec<u8> = (0..100u32).map(|i| (i * 31 + i / 3) as u8).collect();
        for len in 0..=data.len() {
            let whole = plain(&data[..len]);
            for at in 0..=len {
                assert_eq!(extended(extended(0, &data[..at]), &data[at..len]), whole, "{len} {at}");
            }
        }
    }
}
