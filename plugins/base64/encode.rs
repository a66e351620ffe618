//! Bytes to text. Three bytes make four characters; what is left of a read waits for more.

use super::format::{Alphabet, Format, PAD, STANDARD, URL};
use resay_plugin::{Call, Error, Io, Process, Setup, Status, Transform};

/// Three bytes make four characters, and one or two at the end as many.
pub(crate) const BOUND: (u32, u32, u32) = (4, 3, 2);

#[derive(Debug)]
pub(crate) struct Encode {
    alphabet: Alphabet,
    is_padded: bool,
}

impl Transform for Encode {
    type Session = ();

    fn create(setup: &Setup<'_>) -> Result<Self, Error> {
        let Format { is_url, is_padded } = Format::read(setup)?;
        Ok(Self { alphabet: if is_url { URL } else { STANDARD }, is_padded })
    }
}

impl Process for Encode {
    fn process(&self, _: Call<'_, ()>, io: &mut Io<'_>) -> Status {
        let groups = io.input().len() / 3;
        let fits = groups.min(io.room() / 4);
        self.groups(&io.input()[..3 * fits], io.spare());
        io.consume(3 * fits);
        io.produce(4 * fits);
        if fits < groups {
            io.need(4);
            return Status::MoreOut;
        }
        let rest = io.input();
        if rest.is_empty() {
            return Status::Ok;
        }
        if !io.is_last() {
            return Status::MoreIn;
        }
        let mut padded = [0; 3];
        padded[..rest.len()].copy_from_slice(rest);
        let mut group = [PAD; 4];
        self.groups(&padded, &mut group);
        let characters = rest.len() + 1;
        group[characters..].fill(PAD);
        let last = &group[..if self.is_padded { 4 } else { characters }];
        if !io.write_all(last) {
            io.need(last.len());
            return Status::MoreOut;
        }
        io.consume(rest.len());
        Status::Ok
    }
}

impl Encode {
    fn groups(&self, input: &[u8], out: &mut [u8]) {
        for (bytes, group) in input.chunks_exact(3).zip(out.chunks_exact_mut(4)) {
            let bits = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
            for (character, shift) in group.iter_mut().zip([18, 12, 6, 0]) {
                *character = self.alphabet[(bits >> shift) as usize & 63];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::BOUND;
    use crate::base64::TABLE;
    use resay_plugin::harness::Harness;

    #[test]
    fn the_bound_is_the_worst_case() {
        let encoder = Harness::new(&TABLE, &[]).unwrap();
        let (mul, div, add) = BOUND;
        let bound = |n: usize| (n * mul as usize).div_ceil(div as usize) + add as usize;
        let len = |n: usize| encoder.message(&vec![0; n]).unwrap().len();
        assert!((0..100).all(|n| len(n) <= bound(n)));
        assert!((0..100).any(|n| len(n) == bound(n)));
    }

    #[test]
    fn one_or_two_bytes_wait() {
        let encoder = Harness::new(&TABLE, &[]).unwrap();
        let mut session = encoder.session().unwrap();
        assert_eq!(session.read(b"f").output, b"");
        assert_eq!(session.read(b"o").output, b"");
        assert_eq!(session.read(b"oba").output, b"Zm9v");
        assert_eq!(session.end().output, b"YmE=");
        assert_eq!(encoder.stream(&[]).unwrap(), b"");
    }
}
