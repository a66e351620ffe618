//! CRC-32C (RFC 3720, appendix B.4), which headers of version 2 may have.

/// The polynomial 0x1EDC6F41, its bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// What a byte does to the checksum, and what it does one, two and three bytes later: four bytes are done at once.
const TABLES: [[u32; 256]; 4] = {
    let mut tables = [[0; 256]; 4];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32;
        let mut later = 0;
        while later < 4 {
            let mut bit = 0;
            while bit < 8 {
                value = if value & 1 == 1 { value >> 1 ^ POLYNOMIAL } else { value >> 1 };
                bit += 1;
            }
            tables[later][byte] = value;
            later += 1;
        }
        byte += 1;
    }
    tables
};

/// The checksum of some pieces, one behind the other.
pub(super) fn checksum(pieces: [&[u8]; 3]) -> u32 {
    let [now, one_later, two_later, three_later] = &TABLES;
    !pieces.into_iter().fold(u32::MAX, |value, piece| {
        let (fours, rest) = piece.as_chunks();
        let value = fours.iter().fold(value, |value, four| {
            let [a, b, c, d] = (value ^ u32::from_le_bytes(*four)).to_le_bytes().map(usize::from);
            three_later[a] ^ two_later[b] ^ one_later[c] ^ now[d]
        });
        rest.iter().fold(value, |value, byte| now[usize::from(value as u8 ^ byte)] ^ value >> 8)
    })
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
