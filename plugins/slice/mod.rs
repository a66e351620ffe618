//! `slice`: answers leave in small pieces with a gap between them, to find readers that take a read for a message.
//!
//! Each call hands over one piece and the time until it is due, counted from the call; the gap also holds between the
//! last piece of an answer and the first of the next. A stream alone can be sliced: a datagram or a record is one
//! message, and half of it would be another.
//!
//! Put it last: what follows in the chain sees the pieces joined again.

use core::time::Duration;
use resay_plugin::{Call, Error, Io, OptionSpec, Peer, PeerKind, Process, Setup, Status, Table, Transform};
use std::time::Instant;

/// The table: bundled into the engine, and exported by `libslice`.
pub static TABLE: Table = Table::process::<Slice>(c"slice")
    .version(resay_plugin::package_version!())
    .summary(c"answers leave in small pieces")
    .options(OPTIONS)
    .bound(1, 1, 0)
    .build();

const SIZE: &str = "size";
const GAP: &str = "gap";
const OPTIONS: &[OptionSpec] = &[
    OptionSpec::size(c"size", c"bytes of a piece").at_least(c"1").or(c"1"),
    OptionSpec::duration(c"gap", c"from one piece to the next").at_least(c"1us").or(c"1ms"),
];

#[derive(Debug)]
struct Slice {
    size: usize,
    gap: Duration,
    since: Instant,
}

/// Of one stream.
#[derive(Debug, Default)]
struct Session {
    /// When the next piece may leave, counted from `since`.
    next: Duration,
}

impl Transform for Slice {
    type Session = Session;

    fn create(setup: &Setup<'_>) -> Result<Self, Error> {
        let (size, gap) = (setup.options.size(SIZE)?, setup.options.duration(GAP)?);
        Ok(Self { size, gap, since: Instant::now() })
    }

    fn open(&self, _: Call<'_, Session>, peer: &Peer<'_>) -> Result<(), Error> {
        accept(peer.kind())
    }
}

/// Whether such a peer's answers can be sliced.
fn accept(kind: PeerKind) -> Result<(), Error> {
    match kind {
        PeerKind::Datagram => Err(Error::unsupported("slice: a datagram cannot leave in pieces")),
        PeerKind::Seqpacket => Err(Error::unsupported("slice: a seqpacket record cannot leave in pieces")),
        _ => Ok(()),
    }
}

impl Process for Slice {
    fn process(&self, call: Call<'_, Session>, io: &mut Io<'_>) -> Status {
        if io.is_datagram() {
            return Status::Unsupported; // its session was refused
        }
        let input = io.input();
        let piece = &input[..self.size.min(input.len())];
        if piece.is_empty() {
            return Status::Ok;
        }
        if !io.write_all(piece) {
            io.need(piece.len());
            return Status::MoreOut;
        }
        io.consume(piece.len());
        let now = self.since.elapsed();
        let due = call.session.next.max(now);
        call.session.next = due.saturating_add(self.gap);
        io.delay(due - now);
        if piece.len() == input.len() {
            return Status::Ok;
        }
        io.need(self.size.min(input.len() - piece.len()));
        Status::MoreOut
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use resay_plugin::abi::RESAY_E_UNSUPPORTED;
    use resay_plugin::harness::{Answer, Harness, assert_refused};

    const GAP_S: u64 = 1000;

    fn slice(size: &str) -> Harness {
        Harness::new(&TABLE, &[("size", size), ("gap", "1000s")]).unwrap()
    }

    /// Checks the times that pieces wait: the first `first` gaps, the next one more, and so on. The gap is so long
    /// that the time of the test itself does not count.
    fn assert_pieces(answer: &Answer, first: u64, pieces: u64) {
        assert_eq!(answer.pieces.len() as u64, pieces, "{answer:?}");
        for (gaps, piece) in (first..).zip(&answer.pieces) {
            let expected = Duration::from_secs(GAP_S * gaps);
            let slack = Duration::from_secs(GAP_S / 2);
            assert!(piece.delay <= expected && piece.delay + slack > expected, "{answer:?}");
        }
    }

    #[test]
    fn each_piece_waits_a_gap_longer() {
        for (size, pieces) in [("1", 10), ("2", 5), ("3", 4), ("9", 2), ("10", 1), ("1k", 1)] {
            let slice = slice(size);
            let mut session = slice.session().unwrap();
            let answer = session.read(b"0123456789");
            assert_eq!((answer.status, &answer.output[..]), (0, &b"0123456789"[..]));
            assert_pieces(&answer, 0, pieces);
            for piece in answer.pieces.split_last().unwrap().1 {
                assert_eq!(piece.output.len().to_string(), size);
            }
            let answer = session.read(b"0123456789");
            assert_pieces(&answer, pieces, pieces);
            let end = session.end();
            assert_eq!((end.status, end.output.len(), end.delay), (0, 0, Duration::ZERO));
        }
    }

    #[test]
    fn messages_of_a_framed_stream_too() {
        let slice = slice("4");
        let mut session = slice.session().unwrap();
        assert_pieces(&session.message(b"abcdefg"), 0, 2);
        assert_eq!(session.message(b"").delay, Duration::ZERO);
        assert_pieces(&session.message(b"abcd"), 2, 1);
    }

    #[test]
    fn connections_do_not_wait_for_each_other() {
        let slice = slice("1");
        assert_pieces(&slice.session().unwrap().read(b"abc"), 0, 3);
        assert_pieces(&slice.session().unwrap().read(b"abc"), 0, 3);
    }

    #[test]
    fn split_anywhere_is_the_same() {
        let data: Vec<u8> = (0..50).collect();
        for at in 0..=data.len() {
            assert_eq!(slice("3").stream(&[&data[..at], &data[at..]]).unwrap(), data);
        }
        assert_eq!(slice("100").message(&[7; 10_000]).unwrap(), [7; 10_000]);
    }

    #[test]
    fn only_streams() {
        assert_eq!(slice("1").session().unwrap().datagram(b"abc").status, RESAY_E_UNSUPPORTED);
        for (kind, text) in [(PeerKind::Datagram, "a datagram"), (PeerKind::Seqpacket, "a seqpacket record")]
        {
            let error = slice("1").session_with(kind).unwrap_err();
            assert_eq!(error.status(), RESAY_E_UNSUPPORTED);
            assert_eq!(error.text(), format!("slice: {text} cannot leave in pieces"));
        }
    }

    #[test]
    fn wrong_values_are_named() {
        let refused = [
            ("size", "0", "at least 1"),
            ("size", "x", "a size such as 64k (k, m, g)"),
            ("gap", "0", "at least 1us"),
            ("gap", "1", "a duration such as 20ms (us, ms, s, m)"),
        ];
        assert_refused(&TABLE, &refused);
    }
}
