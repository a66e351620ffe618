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

mod delimited;
mod found;
mod prefixed;
mod spec;

use std::ops::Range;

use memchr::memmem::Finder;

use crate::buffer;
use crate::bug;
pub(crate) use found::{Found, TooLong};
use prefixed::Length;
#[cfg(test)]
pub(crate) use spec::DELIMITER_BYTES_MAX;
pub use spec::Frame;

/// Finds and makes frames. It has no state: what of a frame has come so far is in the window.
#[derive(Debug, Clone)]
pub(crate) struct Framer {
    kind: Kind,
    /// The longest message.
    max: usize,
}

#[derive(Debug, Clone)]
enum Kind {
    /// Whatever a read brought is one message, and the stream as a whole has none.
    Raw,
    Lines,
    Delimiter(Box<Finder<'static>>),
    Prefixed(Length),
    /// Every so many bytes are a message.
    Fixed(usize),
}

impl Framer {
    pub(crate) fn new(frame: &Frame, max: usize) -> Framer {
        let kind = match frame {
            Frame::Raw => Kind::Raw,
            Frame::Lines => Kind::Lines,
            // The grammar has no empty delimiter.
            Frame::Delimiter(bytes) if bytes.is_empty() => Kind::Raw,
            Frame::Delimiter(bytes) => Kind::Delimiter(Box::new(Finder::new(bytes).into_owned())),
            Frame::Len8 => Kind::Prefixed(Length::U8),
            Frame::Len16Be => Kind::Prefixed(Length::U16Be),
            Frame::Len16Le => Kind::Prefixed(Length::U16Le),
            Frame::Len32Be => Kind::Prefixed(Length::U32Be),
            Frame::Len32Le => Kind::Prefixed(Length::U32Le),
            Frame::Varint => Kind::Prefixed(Length::Varint),
            Frame::Fixed(bytes) => Kind::Fixed((*bytes).max(1)),
        };
        Framer { kind, max }
    }

    /// Whether messages have bounds of their own, so that a transform sees each whole.
    pub(crate) fn has_messages(&self) -> bool {
        !matches!(self.kind, Kind::Raw)
    }

    /// The first frame of `window`, if all of it is there. The first `scanned` bytes are known to hold no end.
    pub(crate) fn find(&self, window: &[u8], scanned: usize) -> Result<Option<Found>, TooLong> {
        let max = self.max;
        match &self.kind {
            Kind::Raw if window.is_empty() => Ok(None),
            Kind::Raw => Ok(Some(Found { body: 0..window.len(), len: window.len() })),
            Kind::Lines => delimited::find_line(window, scanned, max),
            Kind::Delimiter(end) => delimited::find(window, scanned, end, max),
            Kind::Prefixed(length) => length.find(window, max),
            Kind::Fixed(len) if *len > max => Err(TooLong { max }),
            Kind::Fixed(len) => Ok((window.len() >= *len).then_some(Found { body: 0..*len, len: *len })),
        }
    }

    /// What the end of the stream makes of an unfinished frame: a last message may lack its end, but not a part
    /// of itself.
    pub(crate) fn find_last(&self, window: &[u8]) -> Option<Found> {
        let all = Found { body: 0..window.len(), len: window.len() };
        match self.kind {
            Kind::Raw | Kind::Lines | Kind::Delimiter(_) => {
                (!window.is_empty() && window.len() <= self.max).then_some(all)
            }
            Kind::Prefixed(_) | Kind::Fixed(_) => None,
        }
    }

    /// Begins a frame in `out`; the message is then appended, and [`close`](Self::close) ends the frame. The mark
    /// is where the frame began: cutting `out` there takes it back.
    pub(crate) fn open(&self, out: &mut Vec<u8>) -> usize {
        let mark = out.len();
        if let Kind::Prefixed(length) = self.kind {
            length.open(out);
        }
        mark
    }

    /// Ends the frame that was opened at `mark`; `frame` is the one that is answered. Where the message stands in `out`.
    /// Fails where the frame cannot say how long the answer is.
    pub(crate) fn close(
        &self,
        out: &mut Vec<u8>,
        mark: usize,
        frame: &[u8],
        found: &Found,
    ) -> Result<Range<usize>, TooLong> {
        let end = out.len();
        match self.kind {
            Kind::Raw | Kind::Fixed(_) => Ok(mark..end),
            // The end is the one that came: CR LF stays CR LF, a missing one stays missing.
            Kind::Lines | Kind::Delimiter(_) => {
                buffer::append(out, bug::part(frame, found.body.end..found.len));
                Ok(mark..end)
            }
            Kind::Prefixed(length) => Ok(mark + length.close(out, mark)?..out.len()),
        }
    }
}

impl Framer {
    /// Ends the frame of a message that answers none, so that there is no end to be like.
    pub(crate) fn close_unasked(&self, out: &mut Vec<u8>, mark: usize) -> Result<(), TooLong> {
        let (end, found): (&[u8], _) = match &self.kind {
            Kind::Lines => (b"\n", Found { body: 0..0, len: 1 }),
            Kind::Delimiter(end) => (end.needle(), Found { body: 0..0, len: end.needle().len() }),
            Kind::Raw | Kind::Prefixed(_) | Kind::Fixed(_) => (b"", Found { body: 0..0, len: 0 }),
        };
        self.close(out, mark, end, &found).map(drop)
    }

    /// Whether closing a frame moves the message in it.
    pub(crate) fn moves_body(&self) -> bool {
        matches!(self.kind, Kind::Prefixed(Length::Varint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: usize = 1000;

    fn framings() -> Vec<Framer> {
        ["raw", "lines", "delim:0d0a", "delim:00", "delim:616161", "len8", "len16be", "len16le", "len32be"]
            .into_iter()
            .chain(["len32le", "varint", "fixed:1", "fixed:7"])
            .map(|text| Framer::new(&Frame::parse(text).unwrap(), MAX))
            .collect()
    }

    fn framer(text: &str, max: usize) -> Framer {
        Framer::new(&Frame::parse(text).unwrap(), max)
    }

    /// All messages of `input`, given in pieces, with unfinished frames carried over.
    fn messages(framer: &Framer, pieces: &[&[u8]]) -> Result<Vec<Vec<u8>>, TooLong> {
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
        let framer = framer("lines", 4);
        assert_eq!(framer.find(b"abcd\n", 0).unwrap().unwrap().body, 0..4);
        assert_eq!(framer.find(b"abcd\r\n", 0).unwrap().unwrap().body, 0..4);
        assert_eq!(framer.find(b"abcde\n", 0), Err(TooLong { max: 4 }));
        assert_eq!(framer.find(b"abcdef", 0), Err(TooLong { max: 4 }));
        assert_eq!(framer.find(b"abcd\r", 0), Ok(None));
    }

    #[test]
    fn a_carriage_return_alone_is_part_of_the_message() {
        let found = messages(&framer("lines", 100), &[b"a\rb\r\n\n\r\n", b"rest\r"]).unwrap();
        assert_eq!(found, [b"a\rb".to_vec(), vec![], vec![], b"rest\r".to_vec()]);
    }

    #[test]
    fn a_delimiter_is_found_across_reads_and_limits_hold() {
        let framer = framer("delim:0d0a", 3);
        let pieces: Vec<&[u8]> = vec![b"abc\r", b"\n\r", b"\nx"];
        assert_eq!(messages(&framer, &pieces).unwrap(), [b"abc".to_vec(), vec![], b"x".to_vec()]);
        assert_eq!(framer.find(b"abcd", 0), Ok(None), "the last byte may begin the end");
        assert_eq!(framer.find(b"abcde", 0), Err(TooLong { max: 3 }));
        assert_eq!(framer.find(b"abcd\r\n", 0), Err(TooLong { max: 3 }));
    }

    #[test]
    fn lengths_are_read_and_their_limits_hold() {
        for (text, head, len) in [
            ("len8", &[3][..], 3),
            ("len16be", &[1, 2], 258),
            ("len16le", &[2, 1], 258),
            ("len32be", &[0, 0, 1, 2], 258),
            ("len32le", &[2, 1, 0, 0], 258),
            ("varint", &[0x82, 0x02], 258),
            ("varint", &[0x82, 0x82, 0x00], 258),
        ] {
            let mut window = head.to_vec();
            window.resize(head.len() + len, b'x');
            let exact = framer(text, len);
            let body = head.len()..window.len();
            assert_eq!(exact.find(&window, 0), Ok(Some(Found { body, len: window.len() })), "{text}");
            for cut in 0..window.len() {
                assert_eq!(exact.find(&window[..cut], 0), Ok(None), "{text} {cut}");
            }
            assert_eq!(framer(text, len - 1).find(head, 0), Err(TooLong { max: len - 1 }), "{text}");
        }
        let endless = framer("varint", usize::MAX);
        let padded = [&[0x80; 10][..], &[0x00]].concat();
        assert!(endless.find(&padded, 0).is_err(), "zeros in more than ten bytes");
        assert!(endless.find(&[0xff; 10], 0).is_err() && endless.find(&[0xff; 9], 0) == Ok(None));
        assert!(endless.find(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], 0).is_err());
    }

    #[test]
    fn what_the_grammar_refuses_is_no_frame() {
        let long = format!("delim:{}", "0a".repeat(DELIMITER_BYTES_MAX + 1));
        for (text, at, words) in [
            ("delim:", 6, "the delimiter is missing"),
            ("delim:0g", 7, "hexadecimal"),
            ("delim:0a0", 9, "two for each byte"),
            (&*long, 6 + 2 * DELIMITER_BYTES_MAX, "at most 64 bytes"),
            ("fixed", 5, "the size is missing"),
            ("fixed:", 6, "the size is missing"),
            ("raw:1", 3, "takes nothing"),
        ] {
            let fault = Frame::parse(text).unwrap_err();
            assert_eq!(fault.at, at, "{text}");
            assert!(fault.message.contains(words), "{text}: {}", fault.message);
        }
        assert!(Frame::parse(&long[..long.len() - 2]).is_ok());
        // A host may make one without the grammar.
        assert!(!Framer::new(&Frame::Delimiter(Vec::new()), MAX).has_messages());
    }

    #[test]
    fn an_answer_that_its_length_cannot_say_is_an_error() {
        for (text, len) in [("len8", 256), ("len16be", 65_536), ("len16le", 65_536)] {
            let framer = framer(text, MAX);
            let request = Found { body: 0..0, len: 0 };
            for (len, fits) in [(len - 1, true), (len, false)] {
                let mut out = b"before".to_vec();
                let mark = framer.open(&mut out);
                out.resize(out.len() + len, 0);
                assert_eq!(framer.close(&mut out, mark, &[], &request).is_ok(), fits, "{text} {len}");
            }
        }
    }

    proptest! {
        #[test]
        fn splitting_the_input_anywhere_gives_the_same_messages(
            input in proptest::collection::vec(
                prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'a'), 0u8..6, any::<u8>()], 0..200),
            cut in 0usize..200,
        ) {
            let cut = cut.min(input.len());
            let bytes: Vec<&[u8]> = input.chunks(1).collect();
            for framer in framings() {
                if !framer.has_messages() {
                    continue;
                }
                let whole = messages(&framer, &[&input]);
                prop_assert_eq!(&whole, &messages(&framer, &[&input[..cut], &input[cut..]]));
                prop_assert_eq!(&whole, &messages(&framer, &bytes));
            }
        }

        #[test]
        fn what_is_framed_is_found_again(
            sent in proptest::collection::vec(proptest::collection::vec(7u8..9, 0..200), 0..5),
        ) {
            for framer in framings() {
                if matches!(framer.kind, Kind::Raw | Kind::Fixed(_) | Kind::Lines | Kind::Delimiter(_)) {
                    continue;
                }
                let mut stream = Vec::new();
                for message in &sent {
                    let mark = framer.open(&mut stream);
                    stream.extend_from_slice(message);
                    framer.close(&mut stream, mark, &[], &Found { body: 0..0, len: 0 }).unwrap();
                }
                prop_assert_eq!(&messages(&framer, &[&stream]).unwrap(), &sent);
            }
        }

        #[test]
        fn an_answer_like_its_request_is_framed_like_it(
            input in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), 0u8..6, any::<u8>()], 1..200),
        ) {
            for framer in framings() {
                let (mut rest, mut out) = (&input[..], Vec::new());
                while let Ok(Some(found)) = framer.find(rest, 0).map(|f| f.or_else(|| framer.find_last(rest))) {
                    let mark = framer.open(&mut out);
                    out.extend_from_slice(&rest[found.body.clone()]);
                    framer.close(&mut out, mark, rest, &found).unwrap();
                    rest = &rest[found.len..];
                }
                let taken = &input[..input.len() - rest.len()];
                // A length may be written longer than it has to be; the answer's never is.
                let same_width = !matches!(framer.kind, Kind::Prefixed(Length::Varint));
                prop_assert!(!same_width || out == taken);
            }
        }
    }
}
