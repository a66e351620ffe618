//! A layer around streams, for the whole suite: both sides say hello, and turn every bit around from then on. With
//! `RESAY_LAYER=1` every engine has it around its streams, and every peer speaks it.

use std::time::Duration;

use resay::seam::{Around, Layer};

/// What both sides begin with.
pub(crate) const HELLO: &[u8] = b"hello, layer";

/// Whether this process uses it.
pub(crate) fn is_on() -> bool {
    std::env::var_os("RESAY_LAYER").is_some_and(|value| value == "1")
}

pub(crate) fn around() -> Around {
    Around::new(None, Some(Box::new(Flipped { heard: 0 })), Duration::from_secs(600))
}

pub(crate) fn flip(bytes: &mut [u8]) {
    bytes.iter_mut().for_each(|byte| *byte = !*byte);
}

/// The engine's side.
#[derive(Debug)]
struct Flipped {
    /// Bytes of the peer's hello.
    heard: usize,
}

impl Layer for Flipped {
    fn received(
        &mut self,
        wire: &mut [u8],
        plain: &mut Vec<u8>,
        reply: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        let (hello, rest) = wire.split_at((HELLO.len() - self.heard).min(wire.len()));
        if !hello.is_empty() {
            if HELLO[self.heard..][..hello.len()] != *hello {
                return Err("no hello");
            }
            self.heard += hello.len();
            if self.is_established() {
                reply.extend_from_slice(HELLO);
            }
        }
        plain.extend(rest.iter().map(|byte| !byte));
        Ok(())
    }

    fn is_established(&self) -> bool {
        self.heard == HELLO.len()
    }

    fn seal(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> Result<(), &'static str> {
        wire.extend(plain.iter().map(|byte| !byte));
        Ok(())
    }

    fn close(&mut self, _: &mut Vec<u8>) {}
}
