//! `bandwidth`: answers leave no faster than a line of so many bytes a second would carry them.
//!
//! Each stream and each seqpacket connection has a line of its own; all datagrams share one. A byte is due when the
//! line has carried it, so with the default `burst=0` even the first one takes its time; a burst lets a line that was
//! idle carry so many bytes at once.
//!
//! In a stream, answers leave in pieces, one for about every 10 ms; a datagram or a record leaves whole, when its
//! last byte is due. Put it last: what follows in the chain sees the pieces joined again.

mod line;

use line::Line;
use resay_plugin::{Call, Error, Io, OptionSpec, Peer, PeerKind, Process, Setup, Status, Table, Transform};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The table: bundled into the engine, and exported by `libbandwidth`.
pub static TABLE: Table = Table::process::<Bandwidth>(c"bandwidth")
    .version(resay_plugin::package_version!())
    .summary(c"answers leave no faster than so many bytes a second")
    .options(OPTIONS)
    .bound(1, 1, 0)
    .build();

const RATE: &str = "rate";
const OPTIONS: &[OptionSpec] = &[
    OptionSpec::size(c"rate", c"how fast answers leave").unit(c"bytes/s").at_least(c"1"),
    OptionSpec::size(c"burst", c"bytes that leave at once after an idle time").or(c"0"),
];

/// A piece is what a line carries in this part of a second.
const PIECES_A_SECOND: u64 = 100;

#[derive(Debug)]
struct Bandwidth {
    line: Line,
    /// Of a stream.
    piece_bytes: usize,
    since: Instant,
    /// Until when the line of all datagrams is busy.
    datagrams_busy_ns: AtomicU64,
}

/// Of one connection.
#[derive(Debug, Default)]
struct Session {
    /// Until when its line is busy.
    busy_ns: u64,
    /// Messages leave whole.
    has_records: bool,
}

impl Transform for Bandwidth {
    type Session = Session;

    fn create(setup: &Setup<'_>) -> Result<Self, Error> {
        let rate = setup.options.size(RATE)? as u64;
        Ok(Self {
            line: Line::new(rate, setup.options.size("burst")? as u64),
            piece_bytes: usize::try_from(rate / PIECES_A_SECOND).unwrap_or(usize::MAX).max(1),
            since: Instant::now(),
            datagrams_busy_ns: AtomicU64::new(0),
        })
    }

    fn open(&self, call: Call<'_, Session>, peer: &Peer<'_>) -> Result<(), Error> {
        *call.session = Session {
            busy_ns: 0,
            has_records: matches!(peer.kind(), PeerKind::Datagram | PeerKind::Seqpacket),
        };
        Ok(())
    }
}

impl Process for Bandwidth {
    fn process(&self, call: Call<'_, Session>, io: &mut Io<'_>) -> Status {
        let input = io.input();
        let is_whole = call.session.has_records || io.is_datagram();
        let piece = if is_whole { input } else { &input[..self.piece_bytes.min(input.len())] };
        if !io.write_all(piece) {
            io.need(piece.len());
            return Status::MoreOut;
        }
        io.consume(piece.len());
        if !piece.is_empty() {
            let now_ns = u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
            let busy_ns = if io.is_datagram() {
                self.carry_datagram(now_ns, piece.len())
            } else {
                call.session.busy_ns = self.line.busy_until(call.session.busy_ns, now_ns, piece.len());
                call.session.busy_ns
            };
            io.delay(self.line.delay(busy_ns, now_ns));
        }
        if piece.len() == input.len() {
            return Status::Ok;
        }
        io.need(self.piece_bytes.min(input.len() - piece.len()));
        Status::MoreOut
    }
}

impl Bandwidth {
    /// Until when a datagram takes the line that they share.
    fn carry_datagram(&self, now_ns: u64, bytes: usize) -> u64 {
        let busy = |before| self.line.busy_until(before, now_ns, bytes);
        let before = self
            .datagrams_busy_ns
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |before| Some(busy(before)))
            .unwrap_or_else(|unchanged| unchanged);
        busy(before)
    }
}

#[cfg(test)]
mod tests {
    use super::TABLE;
    use core::time::Duration;
    use resay_plugin::PeerKind;
    use resay_plugin::harness::Harness;

    fn bandwidth(options: &[(&str, &str)]) -> Harness {
        Harness::new(&TABLE, options).unwrap()
    }

    /// The time of the test itself takes something off, but not so much.
    fn assert_about(delay: Duration, seconds: u64) {
        let expected = Duration::from_secs(seconds);
        assert!(delay <= expected && delay + Duration::from_secs(100) > expected, "{delay:?} {seconds}");
    }

    #[test]
    fn a_stream_leaves_byte_by_byte_on_a_slow_line() {
        // 1 byte a second: the bytes are due after 1, 2, 3 … seconds.
        let bandwidth = bandwidth(&[("rate", "1")]);
        let mut session = bandwidth.session().unwrap();
        let answer = session.read(&[7; 1000]);
        assert_eq!(answer.output, [7; 1000]);
        assert_about(answer.delay / 1000, 501);
        assert_about(session.message(b"a").delay, 1001);
        assert_about(session.message(b"a").delay, 1002);
        assert_eq!(session.end().delay, Duration::ZERO);
    }

    #[test]
    fn connections_have_lines_of_their_own_and_datagrams_share_one() {
        let bandwidth = bandwidth(&[("rate", "1")]);
        let mut first = bandwidth.session().unwrap();
        let mut second = bandwidth.session().unwrap();
        assert_about(first.datagram(&[0; 1000]).delay, 1000);
        assert_about(second.datagram(&[0; 1000]).delay, 2000);
        assert_about(first.message(b"a").delay, 1);
        assert_about(second.message(b"a").delay, 1);
        assert_eq!(second.datagram(b"").delay, Duration::ZERO);
    }

    #[test]
    fn a_stream_leaves_in_pieces_and_a_record_whole() {
        let bandwidth = bandwidth(&[("rate", "1000")]);
        let stream = bandwidth.session().unwrap().read(&[7; 35]);
        assert_eq!(stream.pieces.iter().map(|piece| piece.output.len()).collect::<Vec<_>>(), [10, 10, 10, 5]);
        for kind in [PeerKind::Seqpacket, PeerKind::Datagram] {
            let mut session = bandwidth.session_with(kind).unwrap();
            assert_eq!(session.message(&[7; 35]).pieces.len(), 1, "{kind:?}");
        }
    }

    #[test]
    fn a_burst_leaves_at_once() {
        let bandwidth = bandwidth(&[("rate", "1"), ("burst", "1000")]);
        let mut session = bandwidth.session().unwrap();
        assert_eq!(session.datagram(&[0; 1000]).delay, Duration::ZERO);
        assert_about(session.datagram(&[0; 500]).delay, 500);
    }

    #[test]
    fn split_anywhere_is_the_same() {
        let data: Vec<u8> = (0..50).collect();
        let bandwidth = bandwidth(&[("rate", "300")]);
        for at in 0..=data.len() {
            assert_eq!(bandwidth.stream(&[&data[..at], &data[at..]]).unwrap(), data);
        }
        assert_eq!(bandwidth.message(b"").unwrap(), b"");
        assert_eq!(bandwidth.message(&[7; 10_000]).unwrap(), [7; 10_000]);
    }

    #[test]
    fn wrong_values_are_named() {
        assert_eq!(Harness::new(&TABLE, &[]).unwrap_err().text(), "option 'rate' must be given");
        for (options, expected) in [
            (&[("rate", "0")][..], "option 'rate' is '0', but must be at least 1"),
            (&[("rate", "fast")], "option 'rate' is 'fast', but must be a size such as 64k (k, m, g)"),
            (
                &[("rate", "1k"), ("burst", "-1")],
                "option 'burst' is '-1', but must be a size such as 64k (k, m, g)",
            ),
        ] {
            assert_eq!(Harness::new(&TABLE, options).unwrap_err().text(), expected);
        }
    }
}
