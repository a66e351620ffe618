//! Framing: where messages begin and end in a stream of bytes. Bytes in, ranges out; no I/O.
//!
//! A framing belongs to the engine: transforms see a message without its frame, and the answer gets one of
//! its own. In a window of bytes the parts of one frame lie one behind the other:
//!
//! ```text
//! | head | body (the message) | tail |
//! ^0     ^body.start          ^body.end
//!                                    ^len
//! ```

mod lines;

use std::fmt;
use std::ops::Range;

pub(crate) use crate::options::Frame;

/// One complete frame at the start of a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// The message, without its frame.
    pub(crate) body: Range<usize>,
    /// All of the frame.
    pub(crate) len: usize,
}

/// A message that is over the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLong {
    pub(crate) max: usize,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a message is longer than max_message ({} bytes)", self.max)
    }
}

/// Finds and makes frames. It has no state: what of a frame has come so far is in the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framer {
    /// Whatever a read brought is one message, and the stream as a whole has none.
    Raw,
    /// A message ends with a line feed, or with carriage return and line feed.
    Lines { max: usize },
}

impl Framer {
    /// The framing that the options name, or why it is not there.
    pub(crate) fn new(frame: &Frame, max: usize) -> Result<Framer, String> {
        match frame {
            Frame::Raw => Ok(Framer::Raw),
            Frame::Lines => Ok(Framer::Lines { max }),
            other => Err(format!("frame={other} is not supported by this version; raw and lines are")),
        }
    }

    /// Whether messages have bounds of their own, so that a transform sees each whole.
    pub(crate) fn has_messages(self) -> bool {
        self != Framer::Raw
    }

    /// The first frame of `window`, if all of it is there. The first `scanned` bytes are known to hold no end.
    pub(crate) fn find(self, window: &[u8], scanned: usize) -> Result<Option<Found>, TooLong> {
        match self {
            Framer::Raw if window.is_empty() => Ok(None),
            Framer::Raw => Ok(Some(Found { body: 0..window.len(), len: window.len() })),
            Framer::Lines { max } => lines::find(window, scanned, max),
        }
    }

    /// What the end of the stream makes of an unfinished frame: the last line may lack its end.
    pub(crate) fn find_last(self, window: &[u8]) -> Option<Found> {
        let all = Found { body: 0..window.len(), len: window.len() };
        match self {
            Framer::Raw | Framer::Lines { .. } => (!window.is_empty()).then_some(all),
        }
    }

    /// Begins a frame in `out`; the message is then appended, and [`close`](Self::close) ends the frame. The mark
    /// is where the frame began: cutting `out` there takes it back.
    #[allow(clippy::ptr_arg)] // Framings with a head append it here.
    pub(crate) fn open(self, out: &mut Vec<u8>) -> usize {
        match self {
            Framer::Raw | Framer::Lines { .. } => out.len(),
        }
    }

    /// Ends the frame that was opened at a mark; `window` and `found` are the frame that is answered.
    pub(crate) fn close(self, out: &mut Vec<u8>, window: &[u8], found: &Found) {
        match self {
            Framer::Raw => {}
            // The line end is the one that came: CR LF stays CR LF, a missing one stays missing.
            Framer::Lines { .. } => {
                out.extend_from_slice(window.get(found.body.end..found.len).unwrap_or_default());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All messages of `input`, given in pieces, with unfinished frames carried over.
    fn messages(framer: Framer, pieces: &[&[u8]]) -> Result<Vec<Vec<u8>>, TooLong> {
        let (mut window, mut found, mut scanned) = (Vec::new(), Vec::new(), 0);
        for piece in pieces {
            window.extend_from_slice(piece);
            while let Some(frame) = framer.find(&window, scanned)? {
                found.push(window[frame.body.clone()].to_vec());
                window.drain(..frame.len);
                scanned = 0;
            }
            scanned = window.len();
        }
        found.extend(framer.find_last(&window).map(|frame| window[frame.body].to_vec()));
        Ok(found)
    }

    #[test]
    fn a_line_over_the_limit_is_an_error_even_before_its_end() {
        let framer = Framer::Lines { max: 4 };
        assert_eq!(framer.find(b"abcd\n", 0).unwrap().unwrap().body, 0..4);
        assert_eq!(framer.find(b"abcd\r\n", 0).unwrap().unwrap().body, 0..4);
        assert_eq!(framer.find(b"abcde\n", 0), Err(TooLong { max: 4 }));
        assert_eq!(framer.find(b"abcdef", 0), Err(TooLong { max: 4 }));
        assert_eq!(framer.find(b"abcd\r", 0), Ok(None));
    }

    #[test]
    fn a_carriage_return_alone_is_part_of_the_message() {
        let framer = Framer::Lines { max: 100 };
        let found = messages(framer, &[b"a\rb\r\n\n\r\n", b"rest\r"]).unwrap();
        assert_eq!(found, [b"a\rb".to_vec(), vec![], vec![], b"rest\r".to_vec()]);
    }

    proptest! {
        #[test]
        fn splitting_the_input_anywhere_gives_the_same_messages(
            input in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..200),
            cut in 0usize..200,
        ) {
            let framer = Framer::Lines { max: 1000 };
            let cut = cut.min(input.len());
            let whole = messages(framer, &[&input]).unwrap();
            prop_assert_eq!(&whole, &messages(framer, &[&input[..cut], &input[cut..]]).unwrap());
            let bytes: Vec<&[u8]> = input.chunks(1).collect();
            prop_assert_eq!(&whole, &messages(framer, &bytes).unwrap());
        }

        #[test]
        fn an_answer_wrapped_like_its_request_is_the_request(
            input in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 1..200),
        ) {
            for framer in [Framer::Raw, Framer::Lines { max: 1000 }] {
                let (mut rest, mut out) = (&input[..], Vec::new());
                while let Some(found) = framer.find(rest, 0).unwrap().or_else(|| framer.find_last(rest)) {
                    framer.open(&mut out);
                    out.extend_from_slice(&rest[found.body.clone()]);
                    framer.close(&mut out, rest, &found);
                    rest = &rest[found.len..];
                }
                prop_assert_eq!(&out, &input);
            }
        }
    }
}
