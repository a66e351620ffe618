//! CRC-32C (RFC 3720, appendix B.4), which headers of version 2 may have.

/// The polynomial 0x1EDC6F41, its bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { value >> 1 ^ POLYNOMIAL } else { value >> 1 };
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
};

/// The checksum of some pieces, one behind the other.
pub(super) fn checksum(pieces: [&[u8]; 3]) -> u32 {
    let bytes = pieces.into_iter().flatten();
    !bytes.fold(u32::MAX, |value, byte| TABLE[usize::from(value as u8 ^ byte)] ^ value >> 8)
}

#[cfg(test)]
mod tests {
    use super::checksum;

    #[test]
    fn the_vectors_of_rfc_3720() {
        let ascending: Vec<u8> = (0..32).collect();
        for (bytes, expected) in [
            (&[0; 32][..], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&ascending, 0x46dd_794e),
            (b"123456789", 0xe306_9283),
            (b"", 0),
        ] {
            for cut in 0..=bytes.len() {
                assert_eq!(checksum([&bytes[..cut], &[], &bytes[cut..]]), expected);
            }
        }
    }
}
